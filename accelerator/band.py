"""How far a simulated rating moves with what is uncertain: the engine by simulation, all else by closed formulas.

Who plans learns how fast the engine is and chooses then. So in a future whose engine is slower (or faster) by a factor,
the best of a few layouts counts: the one that was chosen, and those whose bound is highest *there*. A smaller batch on
more chips holds a TPOT that the usual choice does not hold any more. Trials are short ones, the same requests as ever.
"""

import math
from collections.abc import Sequence
from dataclasses import replace

from accelerator.candidates import Candidate, limits_tried
from accelerator.chips import ChipSpec
from accelerator.efficiency import Efficiency
from accelerator.errors import ConfigError
from accelerator.grid import STEP_RATIO, STEPS, grid_request_s, grid_step, highest_step
from accelerator.steady import decodes_sweep, prompts_request_s, sweep
from accelerator.trials import Layout, Question

TRIAL = 2048
"""Requests of a trial. [-]"""

LEADING_SLOW, LEADING_FAST = 2, 1
"""Layouts that are tried beside the chosen one in a future whose engine is slower, and in one whose is faster."""

WIDTH, SLACK = 4, 0.015
"""Steps of the grid, or logarithm of the strain below 1, to which the rate of a future is found. [-], [log]"""


class RateRatio:
    """The rate in a future over the rate as it stands, for :func:`accelerator.sensitivity.drivers_list`.

    Parameters
    ----------
    question : Question
        What is rated.
    layout : Layout
        What was chosen.
    candidates : sequence of Candidate
        What it was chosen from.
    step : int
        Its rate per chip, a step of the grid.
    host_chips : int
        Chips of the host.
    binds : str
        What stops a little more.
    """

    def __init__(
        self,
        question: Question,
        layout: Layout,
        candidates: Sequence[Candidate],
        *,
        step: int,
        host_chips: int,
        binds: str,
    ) -> None:
        self.question, self.layout, self.candidates = question, layout, candidates
        self.host_chips = host_chips
        self.reads = binds in {"ttft", "prompts"}
        self.usual_step = self._step(layout, 1.0, near=step)
        self.usual_s = self._formula_s(question.chip, question.efficiency_of(layout.config))
        if not self.usual_s:
            self.reads = not self.reads
            self.usual_s = self._formula_s(question.chip, question.efficiency_of(layout.config))

    def __call__(self, chip: ChipSpec, efficiency: Efficiency) -> float:
        """Return the ratio with another figure of the chip, or another efficiency. [-]"""
        own, other = self.question.efficiency_of(self.layout.config).engine, efficiency.engine
        if own and other and other.decode_ratio != own.decode_ratio:
            return self.engine_ratio(other.decode_ratio / own.decode_ratio)
        try:
            return self._formula_s(chip, efficiency) / self.usual_s if self.usual_s else 1.0
        except ConfigError:
            return 0.0

    def engine_ratio(self, factor: float) -> float:
        """Return the ratio in the future in which every step takes so many times as long: the best of a few. [-]"""
        near = self.usual_step - round(math.log(factor) / math.log(STEP_RATIO))
        best = self._step(self.layout, factor, near=max(near, 0))
        slowed = [candidate.slowed(factor, self.question.slo.tpot_s) for candidate in self.candidates]
        slowed = sorted(slowed, key=lambda candidate: -candidate.request_s)
        for candidate in slowed[: LEADING_SLOW if factor > 1 else LEADING_FAST]:
            most = grid_step(candidate.request_s)
            if most >= best + WIDTH:  # one that is not clearly better is not looked for
                step = self._step(self._limited(candidate), factor, above=best + WIDTH - 1, most=most)
                best = step if step >= best + WIDTH else best
        if best < 0 or self.usual_step < 0:
            return 0.0 if factor > 1 else 1.0
        ratio = STEP_RATIO ** (best - self.usual_step)
        return min(ratio, 1.0) if factor > 1 else max(ratio, 1.0)

    def _limited(self, candidate: Candidate) -> Layout:
        """Return a candidate with limits of a step: tokens as the chosen layout has them, sequences by its bound."""
        layout, chosen = candidate.layout, self.layout.config
        if layout.prefill:
            return layout
        limited = list(limits_tried(layout.config, candidate.batch))
        tok = chosen.max_batched_tok // chosen.dp * layout.config.dp
        return replace(layout, config=next((one for one in limited if one.max_batched_tok == tok), limited[0]))

    def _step(
        self, layout: Layout, factor: float, *, above: int = -1, most: int = STEPS - 1, near: int | None = None
    ) -> int:
        """Return the highest step at which short trials of a layout hold in a future; `above` if none above it does."""
        try:
            pools = self.question.pools(layout, factor=factor)
        except ConfigError:
            return above
        chips = layout.host_share_chips(self.host_chips)

        def strain(step: int) -> float:
            trial = self.question.trial(pools, grid_request_s(step) * chips, first=TRIAL)
            return trial.strain(self.question.slo)

        return highest_step(strain, above=above, most=most, near=near, width=WIDTH, slack=SLACK)

    def _formula_s(self, chip: ChipSpec, efficiency: Efficiency) -> float:
        """Return the rate by the closed formula of what binds: of prompts, or of sequences that decode. [1/s]"""
        question, layout, mix, slo = self.question, self.layout, self.question.mix, self.question.slo
        if self.reads:
            table = question.table_varied(chip, layout.prefill or layout.config, efficiency)
            return prompts_request_s(table, mix, slo, arrival_scv_max=efficiency.arrival_scv_max)
        table = question.table_varied(chip, layout.config, efficiency)
        fit = question.fit_varied(chip, layout.config, efficiency)
        return (decodes_sweep if layout.prefill else sweep)(table, fit, mix).at(slo.tpot_s)[0]
