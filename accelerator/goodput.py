"""Goodput: the largest request rate at which TTFT and TPOT percentiles hold in the simulator, over deployment configs.

The search goes like this:

1. *Candidates*: every precision that is not beaten in speed and size by another one, tensor parallel sizes within a
   host, data-parallel attention with whole experts for mixtures, two pipeline stages where nothing else fits; and
   prefill and decode on chips of their own (``candidates``).
2. *Bounds*: what each would sustain if nobody had to wait (``steady.sweep``), per chip. Best first: a candidate whose
   bound is not above the best rate found so far is dropped without a simulation, and so are all after it.
3. *Rates* lie on one grid of 1 % steps, the same for all candidates. A candidate is first tried one step above the best
   so far; if that fails it is dropped. Otherwise the largest rate that holds is found where a line through the
   logarithms of two trials, one that holds and one that does not, meets the limit.
4. *Every trial is the same requests* (``Stream``): lengths and gaps are drawn once per mix, gaps are scaled to the
   rate. A short run of the first of them decides clear cases.
5. The best layout's rate is found once more with more requests: rare long answers, which fill memory for
   minutes, are all there only then.
6. The *band*: the best of a few layouts is looked for again with an engine that is slower, and faster, by its spread
   (``band``); other uncertain inputs move the closed formula of what binds, one after the other.
"""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, replace
from functools import lru_cache
from typing import Any

from accelerator.architectures import ModelSpec
from accelerator.band import RateRatio
from accelerator.candidates import Candidate, apart_candidates, candidates_list, candidates_of, limits_tried
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, RANGES, Efficiency
from accelerator.engines import fitted_fingerprint
from accelerator.errors import ConfigError
from accelerator.grid import STEP_RATIO, grid_request_s, grid_step, highest_step
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
from accelerator.steady import Slo
from accelerator.streams import stream_draw
from accelerator.trials import SCREEN_REQUESTS, TRIAL_LEAST, Layout, Question, Trial

GOODPUT_VERSION = "goodput-3"
"""Raised whenever the search or the simulator changes what a simulated rating says."""

HALF_STEPS = round(math.log(2) / math.log(STEP_RATIO))

CLOSE, CLOSE_NOW, CLOSE_MOST = 1.25, 1.05, 4
"""Strain up to which a layout is tried again where long trials do not confirm the best: where it failed, and a step
above what they confirm; how many are. [-], [-], [-]"""

HOPELESS = 2
"""Tokens of a step that are tried of a config where none comes close to the best so far."""

CONFIRM_ABOVE = 12
"""Steps above the rate found up to which long trials look for the rate."""

WIDTH = 2
"""Steps to which the rate of a layout is found before it is confirmed."""

START_RATIO = 0.7
"""Share of the first candidate's bound at which the search starts. [-]"""

SCREEN_FAILS_TTFT, SCREEN_FAILS_TPOT, SCREEN_PASSES = 1.3, 1.1, 0.5
"""A short trial decides clear cases: latencies so many times a limit fail; where the rate is at most half the bound,
latencies so much below both limits pass. [-]"""


def engine_fingerprint(chip: ChipSpec, model: ModelSpec, calibration: ServingCalibration | None = None) -> str:
    """Return the SHA-256 of all that the fitted engine may be for a chip and a model, in whatever config.

    Stored ratings of a pair are out of date when it changes, so what is measured on one chip leaves others alone.
    """
    return _fingerprint(chip, model, calibration or serving_calibration_load())


def goodput_digest(
    chip: ChipSpec,
    model: ModelSpec,
    mix: TokenMix,
    slo: Slo,
    *,
    host_chips: int,
    calibration: ServingCalibration | None = None,
    workload_digest: str = "",
) -> str:
    """Return the SHA-256 of everything that ``goodput_search`` follows from, without the search.

    Parameters
    ----------
    chip, model, mix, slo, host_chips
        See :func:`goodput_search`.
    calibration : ServingCalibration, optional
        See :func:`question_of`.
    workload_digest : str
        Digest of the workload where lengths come from; empty if the mix is one of the built-in profiles.
    """
    parts = {
        "versions": [RATING_VERSION, GOODPUT_VERSION],
        "chip": _chip_digest(chip),
        "model": _model_digest(model),
        "mix": mix.as_dict(),
        "lengths": workload_digest or _lengths_digest(mix.name),
        "slo": asdict(slo),
        "host_chips": host_chips,
        "engine": engine_fingerprint(chip, model, calibration),
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
    calibration: ServingCalibration | None = None,
) -> Question:
    """Return what is asked, with the engine's own efficiency where none is given; see :func:`goodput_search`.

    Parameters
    ----------
    calibration : ServingCalibration, optional
        Where engines are from; the published one if left out.
    """
    return Question(chip, model, mix, slo, efficiency, workload, calibration)


# --- search -----------------------------------------------------------------------------------------------------------
class Search:
    """The best layout so far, and how many simulations it took."""

    def __init__(self, question: Question, host_chips: int) -> None:
        self.question, self.host_chips = question, host_chips
        self.best: Layout | None = None
        self.step = -1
        self.trials = 0
        self.failed: Trial | None = None
        self.close: list[tuple[float, Layout]] = []
        self.confirmed: dict[tuple[Layout, int], Trial] = {}

    def consider(self, layout: Layout, most: int) -> float:
        """Try a layout above the best rate per chip so far, up to a step of the grid; return its strain there."""
        if most <= self.step:
            return math.inf
        try:
            pools = self.question.pools(layout)
        except ConfigError:
            return math.inf
        chips, above = layout.host_share_chips(self.host_chips), self.step

        def strain(step: int) -> float:
            surely = step <= most - HALF_STEPS
            return self._strain(
                pools, grid_request_s(step) * chips, screened=surely or step == above + 1, surely=surely
            )

        near = max(most + round(math.log(START_RATIO) / math.log(STEP_RATIO)), 0) if above < 0 else None
        step = highest_step(strain, above=above, most=most, near=near, width=WIDTH)
        if step > above:
            self.best, self.step = layout, step
            self.close.insert(0, (0.0, layout))
            return 1.0
        failed = self.failed.strain(self.question.slo) if self.failed else math.inf
        if failed <= CLOSE:
            self.close.insert(0, (failed, layout))
        return failed

    def confirm(self) -> None:
        """Find the rate of the best layout once more with long trials; no best is left if none holds.

        Where that is below what the shorter trials found, the layouts that were close to it are tried there.
        """
        if self.best is None:
            return
        hoped, best = self.step, self.best
        self.step = self._confirmed(best, above=-1, most=hoped + CONFIRM_ABOVE, near=hoped - 1)
        if self.step < 0:
            self.best = None
        others = sorted(self.close, key=lambda other: other[0])  # those that held come first, the last of them before
        for layout in [other for _, other in others if other != best][:CLOSE_MOST]:
            if self.step >= hoped:
                return
            chips = layout.host_share_chips(self.host_chips)
            pools, request_s = self.question.pools(layout), grid_request_s(self.step + 1) * chips
            if self._strain(pools, request_s, screened=True, surely=False) <= CLOSE_NOW:
                step = self._confirmed(layout, above=self.step, most=hoped + CONFIRM_ABOVE)
                if step > self.step:
                    self.best, self.step = layout, step

    def _confirmed(self, layout: Layout, *, above: int, most: int, near: int | None = None) -> int:
        """Return the highest step of a layout that holds in long trials; `above` if none above it does."""
        pools, chips = self.question.pools(layout), layout.host_share_chips(self.host_chips)

        def strain(step: int) -> float:
            self.trials += 1
            trial = self.question.trial(pools, grid_request_s(step) * chips, requests=self.question.confirm_requests)
            self.confirmed[layout, step] = self.failed = trial
            return trial.strain(self.question.slo)

        return highest_step(strain, above=above, most=most, near=near)

    def found(self, layout: Layout) -> tuple[float, Trial, Trial]:
        """Return the rate of the best layout, and the long trials at it and a step above."""
        pools, chips = self.question.pools(layout), layout.host_share_chips(self.host_chips)
        trials = [
            self.confirmed.get((layout, step))
            or self.question.trial(pools, grid_request_s(step) * chips, requests=self.question.confirm_requests)
            for step in (self.step, self.step + 1)
        ]
        return grid_request_s(self.step) * chips, trials[0], trials[1]

    def _strain(self, pools: Sequence[Pool], request_s: float, *, screened: bool, surely: bool) -> float:
        """Return how much a rate strains.

        Parameters
        ----------
        screened : bool
            A short run that is clearly beyond them is enough.
        surely : bool
            So is one that is well within them.
        """
        question, slo = self.question, self.question.slo
        if screened:
            self.trials += 1
            trial = question.trial(pools, request_s, first=SCREEN_REQUESTS)
            if surely and trial.over(slo) <= SCREEN_PASSES:
                return trial.strain(slo)
            if trial.ttft_s > SCREEN_FAILS_TTFT * slo.ttft_s or trial.tpot_s > SCREEN_FAILS_TPOT * slo.tpot_s:
                self.failed = trial
                return trial.strain(slo)
        self.trials += 1
        trial = question.trial(pools, request_s)
        if trial.over(slo) > 1:
            self.failed = trial
        return trial.strain(slo)


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
    question: Question | None = None,
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
    question : Question, optional
        :func:`question_of` the same, which keeps what is worked out for who asks more of it.

    Returns
    -------
    Rating
        If nothing keeps the limits: rates of 0, and ``refusal`` says why.
    """
    asked = question or question_of(chip, model, mix, slo, efficiency=efficiency, workload=workload)
    reason = mix_refusal(model, mix)
    if reason:
        return refused(chip, model, None, mix, slo, asked.given or DEFAULT, reason)
    candidates, reasons = _candidates(asked, host_chips, precisions, configs, apart=apart)
    search = Search(asked, host_chips)
    _search(search, candidates, tunes=configs is None)
    search.confirm()
    if search.best is None:
        if search.failed is not None:
            binds = "ttft" if search.failed.ttft_s / slo.ttft_s >= search.failed.tpot_s / slo.tpot_s else "tpot"
            reasons.append(limits_text(binds, slo))
        text = "; ".join(reasons) or f"no config of {model.slug} divides over {host_chips} chips"
        return refused(chip, model, None, mix, slo, asked.given or DEFAULT, text)
    return _rating(search, search.best, candidates if configs is None else [], apart=apart, precisions=precisions)


def _candidates(
    question: Question,
    host_chips: int,
    precisions: Sequence[str] | None,
    configs: Iterable[DeploymentConfig] | None,
    *,
    apart: bool,
) -> tuple[list[Candidate], list[str]]:
    """Return all candidates, best bound first, and why other configs are none."""
    if configs is not None:
        return candidates_of(question, configs, host_chips)
    found, reasons = candidates_list(question, precisions, host_chips)
    if apart:
        found += apart_candidates(question, [one.layout.config for one in found], host_chips)
    return sorted(found, key=lambda candidate: -candidate.request_s), reasons


def _search(search: Search, candidates: Sequence[Candidate], *, tunes: bool) -> None:
    """Try candidates in turn until no bound is above the best rate found; `tunes`: limits of a step are open."""
    for candidate in candidates:
        most = grid_step(candidate.request_s)
        if most <= search.step:
            return
        if tunes and candidate.layout.prefill is None:
            _tune(search, candidate, most)
        else:
            search.consider(candidate.layout, most)


def _tune(search: Search, candidate: Candidate, most: int) -> None:
    """Try a config with each of the limits of a step, unless the first few are far from the best rate."""
    strains: dict[int, float] = {}
    for config in limits_tried(candidate.layout.config, candidate.batch):
        tok = config.max_batched_tok
        if tok not in strains and len(strains) >= HOPELESS and min(strains.values()) > CLOSE:
            return
        strain = search.consider(replace(candidate.layout, config=config), most)
        strains[tok] = min(strain, strains.get(tok, math.inf))


# --- rating -----------------------------------------------------------------------------------------------------------
def _rating(search: Search, layout: Layout, candidates: Sequence[Candidate], **inputs: Any) -> Rating:
    """Return the rating of the layout that was found, at its rate."""
    question = search.question
    chip, model, mix, slo = question.chip, question.model, question.mix, question.slo
    efficiency, config = question.efficiency_whole(layout.config), layout.config
    request_s, held, broken = search.found(layout)
    binds = binds_of(broken, slo)
    ratio = RateRatio(question, layout, candidates, step=search.step, host_chips=search.host_chips, binds=binds)
    drivers = drivers_list(chip, model, config, efficiency, ratio)
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
        binds=binds,
        drivers=drivers,
        refusal=None,
        basis=efficiency.engine.basis if efficiency.engine else basis_of(chip, model, config),
        calibration_digest=efficiency.engine.digest if efficiency.engine else "",
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
        idle_chips=layout.host_share_chips(search.host_chips) - layout.chips,
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
