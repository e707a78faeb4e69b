"""Goodput: the largest request rate at which TTFT and TPOT percentiles hold in the simulator, over deployment configs.

The search goes like this:

1. *Candidates*: every precision that is not beaten in speed and size by another one, tensor parallel sizes within a
   host, data-parallel attention with whole experts for mixtures, two pipeline stages where nothing else fits; and
   prefill and decode on chips of their own (``candidates``).
2. *Bounds*: what each would sustain if nobody had to wait (``steady.sweep``), per chip. Best first: a candidate whose
   bound is not above the best rate found so far is dropped without a simulation, and so are all after it.
3. *Rates* lie on one grid of 1 % steps, the same for all candidates. A candidate is first tried one step above the best
   so far; if that fails it is dropped. Otherwise the largest rate that holds is found by halving fixed intervals, so
   that looser limits do not lead to a lower rate.
4. *Every trial is the same requests* (``Stream``): lengths and gaps are drawn once per mix, gaps are scaled to the
   rate. A short run of the first of them decides clear cases.
5. The best layout's rate is found once more with three times as many requests: rare long answers, which fill memory for
   minutes, are all there only then.
6. The *band* around the best comes from the closed formula, one uncertain input after the other, as in ``rating``.
"""

import hashlib
import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import asdict
from functools import lru_cache
from typing import Any

from accelerator.architectures import ModelSpec
from accelerator.candidates import apart_candidates, candidates_list, candidates_of, limits_tried
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, RANGES, Efficiency
from accelerator.engines import efficiency_fitted, fitted_fingerprint
from accelerator.errors import ConfigError
from accelerator.memory import memory_fit
from accelerator.operators import DeploymentConfig
from accelerator.rating import (
    RATING_VERSION,
    Rating,
    limits_text,
    mix_refusal,
    price_usd,
    rating_digest,
    refused,
)
from accelerator.requests import TokenMix, Workload
from accelerator.roofline import basis_of
from accelerator.sensitivity import band_of, drivers_list
from accelerator.serving_calibration import ServingCalibration, serving_calibration_load
from accelerator.simulation import Pool, Progress
from accelerator.steady import Slo, decodes_sweep, prompts_request_s, steady_state, sweep
from accelerator.steps import step_table_build
from accelerator.streams import stream_draw
from accelerator.trials import CONFIRM_REQUESTS, SCREEN_REQUESTS, TRIAL_LEAST, Layout, Question, Trial

GOODPUT_VERSION = "goodput-1"
"""Raised whenever the search or the simulator changes what a simulated rating says."""

STEP_RATIO, STEPS, LEAST_REQUEST_S = 1.01, 2048, 1e-4
"""Grid of rates per chip: step, number of steps, least rate. [-], [-], [1/s]"""
HALF_STEPS = round(math.log(2) / math.log(STEP_RATIO))

CLOSE, CLOSE_MOST = 1.5, 4
"""Latencies over their limit up to which a layout is tried again where long trials do not confirm the best; how many
are. [-], [-]"""

CONFIRM_BELOW, CONFIRM_ABOVE = 20, 12
"""Steps around the rate found in which long trials look for the rate."""

SCREEN_FAILS_TTFT, SCREEN_FAILS_TPOT, SCREEN_PASSES = 1.3, 1.1, 0.5
"""A short trial decides clear cases: latencies so many times a limit fail; where the rate is at most half the bound,
latencies so much below both limits pass. [-]"""


def engine_efficiency(chip: ChipSpec, model: ModelSpec, config: DeploymentConfig) -> Efficiency:
    """Return the efficiency of the engine that a rating assumes where none is given: the fitted one."""
    return efficiency_fitted(chip, model, config)


def engine_fingerprint(chip: ChipSpec, model: ModelSpec) -> str:
    """Return the SHA-256 of all that ``engine_efficiency`` may say of a chip and a model, in whatever config.

    Stored ratings of a pair are out of date when it changes, so what is measured on one chip leaves others alone.
    """
    return _fingerprint(chip, model, serving_calibration_load())


def goodput_digest(chip: ChipSpec, model: ModelSpec, mix: TokenMix, slo: Slo, *, host_chips: int) -> str:
    """Return the SHA-256 of everything that ``goodput_search`` follows from, without the search.

    Parameters
    ----------
    chip, model, mix, slo, host_chips
        See :func:`goodput_search`; the mix is one of the built-in profiles.
    """
    parts = {
        "versions": [RATING_VERSION, GOODPUT_VERSION],
        "chip": _chip_digest(chip),
        "model": _model_digest(model),
        "mix": mix.as_dict(),
        "lengths": _lengths_digest(mix.name),
        "slo": asdict(slo),
        "host_chips": host_chips,
        "engine": engine_fingerprint(chip, model),
    }
    return _digest_of(parts)


def _digest_of(values: Mapping[str, Any]) -> str:
    return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()


@lru_cache(maxsize=32_768)
def _fingerprint(chip: ChipSpec, model: ModelSpec, calibration: ServingCalibration) -> str:
    fitted = fitted_fingerprint(chip, model, calibration)
    return _digest_of({"efficiency": asdict(DEFAULT), "ranges": dict(RANGES), "fitted": fitted})


@lru_cache(maxsize=4096)
def _chip_digest(chip: ChipSpec) -> str:
    figures = {name: (figure.low, figure.value, figure.high) for name, figure in chip.figures().items()}
    kin = [chip.slug, chip.homegrown, chip.architecture, chip.link_kind, chip.derived_from, chip.scale_up_chips]
    return _digest_of({"chip": kin, "figures": figures})


@lru_cache(maxsize=4096)
def _model_digest(model: ModelSpec) -> str:
    return _digest_of(asdict(model))


@lru_cache(maxsize=64)
def _lengths_digest(profile: str) -> str:
    return stream_draw(profile, TRIAL_LEAST).digest


def question_of(
    chip: ChipSpec,
    model: ModelSpec,
    mix: TokenMix,
    slo: Slo,
    *,
    efficiency: Efficiency | None = None,
    workload: Workload | None = None,
) -> Question:
    """Return what is asked, with the engine's own efficiency where none is given; see :func:`goodput_search`."""
    if efficiency is None:
        return Question(chip, model, mix, slo, engine_efficiency, workload=workload)
    given = efficiency
    return Question(chip, model, mix, slo, lambda *_: given, given.arrival_scv_max, workload)


# --- search -----------------------------------------------------------------------------------------------------------
def grid_request_s(step: int) -> float:
    """Return a rate per chip of the grid. [1/s]"""
    return LEAST_REQUEST_S * STEP_RATIO**step


def grid_step(request_s: float) -> int:
    """Return the last step of the grid that is not above a rate per chip."""
    return min(max(math.floor(math.log(request_s / LEAST_REQUEST_S) / math.log(STEP_RATIO)), -1), STEPS - 1)


def highest_step(holds: Callable[[int], bool], *, above: int, most: int, root: bool = False) -> int:
    """Return the highest step that holds, by halving; `above` if the step after it does not.

    The steps that are tried are those of one fixed tree over the whole grid, wherever the search starts: down from its
    root, or, where a little more is likely and much more is not, up from a leaf until one fails, and down from there.

    Parameters
    ----------
    holds : callable
        Whether a step holds.
    above : int
        A step taken to hold; -1 for none.
    most : int
        No step above this one is tried.
    root : bool
        Start at the root in any case.
    """
    if above >= most or not holds(above + 1):
        return above
    start, low, high = above + 1, above + 1, STEPS
    for level in range(0 if root or above < 0 else STEPS.bit_length()):
        following = ((start >> level) + 1) << level
        if following > low:
            if following > most or not holds(following):
                high = following
                break
            low = following
    while high - low > 1:
        middle = _between(low, high)
        if middle <= above or (middle <= most and holds(middle)):
            low = middle
        else:
            high = middle
    return low


def _between(low: int, high: int) -> int:
    """Return the number between two that has most factors of two: where the fixed tree divides them."""
    width = 1
    while (low // (2 * width) + 1) * 2 * width < high:
        width *= 2
    return (low // width + 1) * width


class Search:
    """The best layout so far, and how many simulations it took."""

    def __init__(self, question: Question, host_chips: int) -> None:
        self.question, self.host_chips = question, host_chips
        self.best: Layout | None = None
        self.step = -1
        self.trials = 0
        self.failed: Trial | None = None
        self.close: list[Layout] = []
        self.confirmed: dict[tuple[Layout, int], Trial] = {}

    def consider(self, layout: Layout, most: int) -> None:
        """Try a layout above the best rate per chip so far, up to a step of the grid."""
        try:
            pools = self.question.pools(layout)
        except ConfigError:
            return
        chips = layout.host_share_chips(self.host_chips)

        def holds(step: int) -> bool:
            return self._holds(pools, grid_request_s(step) * chips, surely=step <= most - HALF_STEPS)

        step = highest_step(holds, above=self.step, most=most)
        if step > self.step:
            self.best, self.step = layout, step
            self.close.append(layout)
        elif self.failed and self.failed.over(self.question.slo) <= CLOSE:
            self.close.append(layout)

    def confirm(self) -> None:
        """Find the rate of the best layout once more with long trials; no best is left if none holds.

        Where that is below what the shorter trials found, the layouts that were close to it are tried there.
        """
        if self.best is None:
            return
        hoped, best = self.step, self.best
        while self.step >= 0:
            least = max(self.step - CONFIRM_BELOW, -1)
            step = self._confirmed(self.best, above=least, most=self.step + CONFIRM_ABOVE)
            self.step = max(step, least)
            if step > least:
                break
        if self.step < 0:
            self.best = None
        if self.step < hoped:
            for layout in [other for other in reversed(self.close) if other != best][:CLOSE_MOST]:
                step = self._confirmed(layout, above=self.step, most=hoped + CONFIRM_ABOVE)
                if step > self.step:
                    self.best, self.step = layout, step

    def _confirmed(self, layout: Layout, *, above: int, most: int) -> int:
        """Return the highest step of a layout that holds in long trials; `above` if none above it does."""
        pools, chips = self.question.pools(layout), layout.host_share_chips(self.host_chips)

        def holds(step: int) -> bool:
            request_s = grid_request_s(step) * chips
            self.trials += 1
            if self.question.trial(pools, request_s, first=SCREEN_REQUESTS).over(self.question.slo) > CLOSE:
                return False
            self.trials += 1
            trial = self.question.trial(pools, request_s, requests=CONFIRM_REQUESTS)
            self.confirmed[layout, step] = self.failed = trial
            return trial.over(self.question.slo) <= 1

        return highest_step(holds, above=above, most=most, root=True)

    def found(self, layout: Layout) -> tuple[float, Trial, Trial]:
        """Return the rate of the best layout, and the long trials at it and a step above."""
        pools, chips = self.question.pools(layout), layout.host_share_chips(self.host_chips)
        trials = [
            self.confirmed.get((layout, step))
            or self.question.trial(pools, grid_request_s(step) * chips, requests=CONFIRM_REQUESTS)
            for step in (self.step, self.step + 1)
        ]
        return grid_request_s(self.step) * chips, trials[0], trials[1]

    def _holds(self, pools: Sequence[Pool], request_s: float, *, surely: bool) -> bool:
        """Return whether the limits hold at a rate; `surely`: a short run that is well within them is enough."""
        question, slo = self.question, self.question.slo
        self.trials += 1
        trial = question.trial(pools, request_s, first=SCREEN_REQUESTS)
        if surely and trial.over(slo) <= SCREEN_PASSES:
            return True
        if trial.ttft_s <= SCREEN_FAILS_TTFT * slo.ttft_s and trial.tpot_s <= SCREEN_FAILS_TPOT * slo.tpot_s:
            self.trials += 1
            trial = question.trial(pools, request_s)
            if trial.over(slo) <= 1:
                return True
        self.failed = trial
        return False


def goodput_search(
    chip: ChipSpec,
    model: ModelSpec,
    mix: TokenMix,
    slo: Slo,
    *,
    host_chips: int,
    efficiency: Efficiency | None = None,
    precisions: Sequence[str] | None = None,
    configs: Iterable[DeploymentConfig] | None = None,
    apart: bool = True,
    workload: Workload | None = None,
) -> Rating:
    """Return the layout that serves most requests per second and chip within limits, by simulation.

    Parameters
    ----------
    chip, model
        What runs where.
    mix : TokenMix
        Lengths and burstiness of requests: of a built-in profile, or of the workload that is given.
    slo : Slo
        Limits, each at its percentile of the requests.
    host_chips : int
        Chips of the host: nothing larger is rated.
    efficiency : Efficiency, optional
        Share of the data sheet that is reached; the engine's own if left out.
    precisions : sequence of str, optional
        Weight precisions allowed; if left out, all that the chip computes in (fp4 only for models published in it).
    configs : iterable of DeploymentConfig, optional
        Exactly these are compared, with their limits of a step, and none apart.
    apart : bool
        Whether prefill and decode may run on chips of their own.
    workload : Workload, optional
        Where lengths come from, if the mix is no built-in profile.

    Returns
    -------
    Rating
        If nothing keeps the limits: rates of 0, and ``refusal`` says why.
    """
    question = question_of(chip, model, mix, slo, efficiency=efficiency, workload=workload)
    reason = mix_refusal(model, mix)
    if reason:
        return refused(chip, model, None, mix, slo, efficiency or DEFAULT, reason)
    if configs is None:
        candidates, reasons = candidates_list(question, precisions, host_chips)
    else:
        candidates, reasons = candidates_of(question, configs, host_chips)
    search = Search(question, host_chips)
    for candidate in candidates:
        most = grid_step(candidate.request_s)
        if most <= search.step:
            break
        config = candidate.layout.config
        for limited in limits_tried(config, candidate.batch) if configs is None else (config,):
            search.consider(Layout(limited), most)
    if apart and configs is None and candidates:
        for candidate in apart_candidates(question, [found.layout.config for found in candidates], host_chips):
            most = grid_step(candidate.request_s)
            if most <= search.step:
                break
            search.consider(candidate.layout, most)
    search.confirm()
    if search.best is None:
        if search.failed is not None:
            binds = "ttft" if search.failed.ttft_s / slo.ttft_s >= search.failed.tpot_s / slo.tpot_s else "tpot"
            reasons.append(limits_text(binds, slo))
        text = "; ".join(reasons) or f"no config of {model.slug} divides over {host_chips} chips"
        return refused(chip, model, None, mix, slo, efficiency or DEFAULT, text)
    return _rating(search, search.best, apart=apart, precisions=precisions)


# --- rating -----------------------------------------------------------------------------------------------------------
def _rating(search: Search, layout: Layout, **inputs: Any) -> Rating:
    """Return the rating of the layout that was found, at its rate."""
    question = search.question
    chip, model, mix, slo = question.chip, question.model, question.mix, question.slo
    efficiency, config = question.efficiency_of(layout.config), layout.config
    request_s, held, broken = search.found(layout)
    drivers = drivers_list(chip, model, config, efficiency, _ratio(question, layout))
    band = band_of(request_s, drivers)
    answer_tok = mix.output_tok * question.answers_ratio
    rows = list(held.outcome.pool_rows())
    return Rating(
        chip=chip.slug,
        model=model.slug,
        config=config,
        mix=mix.name,
        slo=slo,
        chips=layout.chips,
        request_s=band,
        tok_s=band.scaled(answer_tok),
        batch=rows[-1]["mean_decoding"] or 0.0,
        ttft_s=held.ttft_s,
        tpot_s=held.tpot_s,
        power_w=sum(row["power_w"] or 0.0 for row in rows),
        binds=binds_of(broken, slo),
        drivers=drivers,
        refusal=None,
        basis=basis_of(chip, model, config),
        digest=rating_digest(
            chip,
            model,
            config,
            mix,
            slo,
            efficiency,
            goodput=GOODPUT_VERSION,
            layout=asdict(layout),
            lengths=question.stream(TRIAL_LEAST).digest,
            **inputs,
        ),
        simulated=True,
        replicas=layout.replicas,
        prefill_config=layout.prefill,
        prefill_replicas=layout.prefill_replicas,
        price_usd=price_usd(chip),
    )


def binds_of(trial: Trial, slo: Slo) -> str:
    """Return what stops a little more, from a trial there: tpot, memory, max_seqs, prompts or ttft."""
    outcome, rows = trial.outcome, list(trial.outcome.pool_rows())
    if trial.over(slo) > 1 and trial.tpot_s < math.inf and trial.tpot_s / slo.tpot_s > trial.ttft_s / slo.ttft_s:
        return "tpot"
    memory = max(row["kv_peak_ratio"] for row in rows)
    seqs = max(row["peak_running"] / pool.max_seqs for row, pool in zip(rows, outcome.pools, strict=True))
    if trial.over(slo) <= 1:  # only the bound says no more: in the long run a batch of that size does not fit
        return "memory" if memory > seqs else "max_seqs"
    if memory > 0.99 or any(row["preemptions"] > 0.01 * outcome.arrived for row in rows):
        return "memory"
    if seqs >= 1:
        return "max_seqs"
    return "prompts" if outcome.overload or outcome.progress != Progress.DONE else "ttft"


def _ratio(question: Question, layout: Layout) -> Callable[[ChipSpec, Efficiency], float]:
    """Return the rate with a varied chip and efficiency over the rate as it stands, by the closed formulas.

    Where the formula with its queue finds no rate, the bound without one stands in.
    """
    model, mix, slo, config = question.model, question.mix, question.slo, layout.config

    def steady_s(chip: ChipSpec, efficiency: Efficiency, near: float | None = None) -> tuple[float, float]:
        point, _ = steady_state(chip, model, config, mix, slo, efficiency, near=near, precision=1e-3)
        return (point.request_s, point.batch) if point else (0.0, 0.0)

    def bound_s(chip: ChipSpec, efficiency: Efficiency) -> float:
        fit = memory_fit(chip, model, config, efficiency=efficiency)
        table = step_table_build(chip, model, config, efficiency=efficiency)
        if layout.prefill is None:
            return sweep(table, fit, mix).at(slo.tpot_s)[0]
        read = step_table_build(chip, model, layout.prefill, efficiency=efficiency)
        return min(
            layout.replicas * decodes_sweep(table, fit, mix).at(slo.tpot_s)[0],
            layout.prefill_replicas * prompts_request_s(read, mix, slo, arrival_scv_max=efficiency.arrival_scv_max),
        )

    efficiency = question.efficiency_of(config)
    base_s, batch = steady_s(question.chip, efficiency) if layout.prefill is None else (0.0, 0.0)
    usual_s = 0.0 if base_s else bound_s(question.chip, efficiency)

    def ratio(chip: ChipSpec, efficiency: Efficiency) -> float:
        try:
            if base_s:
                return steady_s(chip, efficiency, batch)[0] / base_s
            return bound_s(chip, efficiency) / usual_s if usual_s else 1.0
        except ConfigError:
            return 0.0

    return ratio
