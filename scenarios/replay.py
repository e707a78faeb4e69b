"""The peak hour of a month in the request simulator, on the replicas that a plan has: does it hold what it promises?

A planner says how many hosts of which kind a service fills, and takes the rating of each as given. Here the requests of
the mix arrive at the planned rate, are spread over the kinds as planned, and are followed one by one through replicas
at the step tables that the ratings stood on. Values in, values out; docs/models/replay.md has the method.

Replicas of a kind are alike, so some samples of each stand for all (``accelerator.samples``), and how they scatter is
the sampling error that every share of requests carries. Everything follows from the question and its seed.
"""

import math
from bisect import bisect_left
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from accelerator import AcceleratorError, Workload, chip_get, model_get
from accelerator.efficiency import DEFAULT
from accelerator.samples import (
    HOUR_S,
    Sample,
    Slice,
    configs_open,
    decodes_open,
    pools_across,
    reads_wide,
    replicas_whole,
    slice_best,
)
from accelerator.serving_calibration import ServingCalibration, serving_calibration_load
from accelerator.simulation import Pool
from accelerator.trials import Layout, Question
from scenarios.planning.plain import ProblemError, plain_of, plain_read
from scenarios.planning.problem import DECODE, PREFILL, WHOLE
from scenarios.replay_figures import (
    HELD,
    UNSURE,
    Row,
    Taken,
    figures_of,
    half_width,
    recovery_s,
    served_of,
    tiers_of,
)
from scenarios.replay_values import (
    SAMPLES_LEAST,
    LoadValues,
    ReplayPayload,
    ReplayQuestion,
    UnitValues,
    load_ratio,
    question_check,
    units_of,
)

SAID_RATIO = 0.02
"""A plan and its replay that differ by more are said to differ, in words. [-]"""

SEARCHED_ALONE = 4
"""Samples in which the rate is looked for that holds, where a service has one kind only; else the fewest of a kind."""

STORM_REQUESTS, STORM_ALL, STORM_REPLICAS = 196_608, 131_072, 12
"""Of the first hour after a flip: most requests of a sample; of all samples, where two have no more; most replicas."""


def replay_payloads(
    questions: Sequence[ReplayQuestion], *, calibration_digest: str, most: int = 16
) -> list[dict[str, Any]]:
    """Return questions as JSON values, at most so many in one payload; their rows belong in the same order."""
    return [
        plain_of(ReplayPayload(tuple(questions[at : at + most]), calibration_digest))
        for at in range(0, len(questions), most)
    ]


def replay_shard(
    payload: Mapping[str, Any], *, calibration: ServingCalibration | None = None, workload: Workload | None = None
) -> list[Row]:
    """Return a row for each question of a payload, in order; JSON values in and out, the same bytes wherever it runs.

    Parameters
    ----------
    payload : mapping
        Of :func:`replay_payloads`.
    calibration : ServingCalibration, optional
        The one that the payload names; the published one if left out.
    workload : Workload, optional
        Recorded requests, for mixes that are no built-in profile.

    Raises
    ------
    ProblemError
        Naming the place of what cannot be read, or replayed.
    """
    asked = plain_read(ReplayPayload, payload, place="replay")
    used = None
    if asked.calibration_digest:
        used = calibration or serving_calibration_load()
        if used.digest != asked.calibration_digest:
            text = f"{asked.calibration_digest[:12]} is asked for, {used.digest[:12]} is there"
            raise ProblemError([("replay.calibration_digest", text)])
    rows = []
    for at, question in enumerate(asked.questions):
        place = f"replay.questions[{at}]"
        question_check(question, place)
        try:
            rows.append(_Replay(question, used, workload).row())
        except AcceleratorError as error:
            raise ProblemError([(place, str(error))]) from error
    return rows


def replay_merge(parts: Iterable[Sequence[Row]]) -> dict[str, Any]:
    """Return the rows of shards, in their order, with what tiers get and what has to be said in words."""
    rows = [row for part in parts for row in part]
    return {
        "services": rows,
        "tiers": list(tiers_of(rows)),
        "sentences": [row["sentence"] for row in rows if row["disagreement_ratio"] > SAID_RATIO]
        + [storm["sentence"] for row in rows for storm in row["storms"] if storm["share_ratio"] < row["percentile"]],
    }


# --- one service in one period ----------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Group:
    """Alike slices of the fleet: where they are, what they serve, and one of them."""

    labels: Row
    planned_tok_s: float
    slice: Slice
    flips: bool


class _Replay:
    """One question, with the step tables of its chips."""

    def __init__(
        self, question: ReplayQuestion, calibration: ServingCalibration | None, workload: Workload | None
    ) -> None:
        self._asked, self._calibration, self._workload = question, calibration, workload
        self._questions: dict[str, Question] = {}
        self._groups = [*self._whole(), *self._apart()]

    def _question(self, chip: str) -> Question:
        if chip not in self._questions:
            asked = self._asked
            self._questions[chip] = Question(
                chip_get(chip),
                model_get(asked.model),
                asked.mix,
                asked.slo,
                given=None if self._calibration else DEFAULT,
                workload=self._workload,
                calibration=self._calibration,
            )
        return self._questions[chip]

    def row(self) -> Row:
        """Return what the service gets, by kind, and what a flip does to it."""
        asked, groups = self._asked, self._groups
        planned_tok_s = sum(group.planned_tok_s for group in groups)
        facts: Row = {
            "period": asked.period, "service": asked.service, "region": asked.region, "tier": asked.tier,
            "model": asked.model, "mix": asked.mix.name, "ttft_limit_s": asked.ttft_s, "tpot_limit_s": asked.tpot_s,
            "percentile": asked.percentile, "demand_tok_s": asked.demand_tok_s, "planned_tok_s": planned_tok_s,
            "request_s": planned_tok_s / asked.mix.output_tok,
        }  # fmt: skip
        if not groups:
            nothing = {"served_tok_s": 0.0, "within_tok_s": 0.0, "disagreement_ratio": 0.0, "verdict": HELD}
            return facts | nothing | {"kinds": [], "storms": [], "sentence": f"{self._head()}: nothing is planned."}
        taken = [self._take(group, group.planned_tok_s / planned_tok_s) for group in groups]
        kinds = []
        for group, one in zip(groups, taken, strict=True):
            figures = figures_of(asked.slo, [replace(one, share=1.0)], group.planned_tok_s)
            held = [(1.0, *((1.0, 0.0) if figures["is_held"] else self._held(group)))]
            served = served_of(group.planned_tok_s, held)
            kinds.append(group.labels | {"planned_tok_s": group.planned_tok_s} | figures | served)
        figures = figures_of(asked.slo, taken, planned_tok_s)
        held = [
            (one.share, 1 - kind["disagreement_ratio"], kind["disagreement_error_ratio"])
            for one, kind in zip(taken, kinds, strict=True)
        ]
        served = served_of(planned_tok_s, [(1.0, 1.0, 0.0)] if figures["is_held"] else held)
        row = facts | figures | served | {"kinds": kinds}
        row["storms"] = [self._storm(group) for group in groups if group.flips and asked.cache_hit_ratio]
        return row | {"sentence": self._sentence(row)}

    def _take(self, group: _Group, share: float) -> Taken:
        """Return samples of a group, as many as its share of the service's requests."""
        count = max(SAMPLES_LEAST, math.ceil(self._asked.samples * share))
        return Taken(share, tuple(group.slice.sample(self._asked.seed, number) for number in range(count)))

    def _held(self, group: _Group) -> tuple[float, float]:
        """Return the share of its rate at which a group keeps the promise, and the half width of its interval."""
        count = SEARCHED_ALONE if len(self._groups) == 1 else SAMPLES_LEAST
        held = [group.slice.held_ratio(self._asked.seed, number) for number in range(count)]
        return float(np.mean(held)), half_width([(1.0, held)])

    # --- what stands where --------------------------------------------------------------------------------------------
    def _whole(self) -> Iterator[_Group]:
        """Yield the kinds that serve requests whole, over all sites: any of them may serve any request."""
        found: dict[tuple[str, UnitValues], list[LoadValues]] = defaultdict(list)
        for load in self._asked.loads:
            if load.phase == WHOLE and load.hosts * load.tok_s > 0:
                found[load.kind, load.unit].append(load)
        for (kind, unit), loads in sorted(found.items(), key=lambda item: item[0][0]):
            units, tok_s = self._sums(loads)
            yield _Group(
                labels=self._labels(kind, WHOLE, "", unit, units, tok_s, loads),
                planned_tok_s=tok_s,
                slice=self._slice(self._whole_pools(unit), unit.chip, tok_s / units, kind),
                flips=any(load.flips for load in loads),
            )

    def _apart(self) -> Iterator[_Group]:
        """Yield kinds that read prompts with kinds that make the answers, site by site: any prompt may go to any."""
        found: dict[tuple[str, str], dict[tuple[str, UnitValues], list[LoadValues]]] = defaultdict(
            lambda: defaultdict(list)
        )
        for load in self._asked.loads:
            if load.phase != WHOLE and load.hosts * load.tok_s > 0:
                found[load.site, load.phase][load.kind, load.unit].append(load)
        for site in sorted({site for site, _ in found}):
            reading, writing = (sorted(found[site, p].items(), key=lambda item: item[0][0]) for p in (PREFILL, DECODE))
            all_tok_s = sum(self._sums(loads)[1] for _, loads in writing)
            for (read_kind, read_unit), read_loads in reading:
                for (kind, unit), loads in writing:
                    (reads, read_tok_s), (writes, tok_s) = self._sums(read_loads), self._sums(loads)
                    pair_tok_s = read_tok_s * tok_s / all_tok_s
                    reads, writes = reads * tok_s / all_tok_s, writes * pair_tok_s / tok_s
                    few, many = replicas_whole(reads, writes)
                    # where whole numbers are a little off, one side is loaded as much above the plan as the other below
                    slice_tok_s = pair_tok_s * math.sqrt(few / reads * many / writes)
                    labels = self._labels(kind, DECODE, site, unit, writes, pair_tok_s, loads)
                    labels |= {
                        "prompts_kind": read_kind,
                        "prompts_units": reads,
                        "prompts_load_ratio": load_ratio(pair_tok_s, reads, read_unit, read_loads),
                        "slice": [few, many],
                    }
                    pools = self._apart_pools(read_unit, few, unit, many)
                    yield _Group(
                        labels=labels,
                        planned_tok_s=pair_tok_s,
                        slice=self._slice(pools, unit.chip, slice_tok_s, f"{site} {read_kind} {kind}"),
                        flips=any(load.flips for load in read_loads),
                    )

    def _sums(self, loads: Sequence[LoadValues]) -> tuple[float, float]:
        """Return units, and output tokens per second, of loads. [-], [tok/s]"""
        units = sum(units_of(load, self._asked.reserve_ratio) for load in loads)
        return units, sum(load.hosts * load.tok_s for load in loads)

    def _labels(
        self,
        kind: str,
        phase: str,
        site: str,
        unit: UnitValues,
        units: float,
        tok_s: float,
        loads: Sequence[LoadValues],
    ) -> Row:
        return {
            "kind": kind, "chip": unit.chip, "phase": phase, "site": site, "hosts": sum(load.hosts for load in loads),
            "units": units, "load_ratio": load_ratio(tok_s, units, unit, loads),
        }  # fmt: skip

    def _slice(self, pools: Iterable[list[Pool]], chip: str, tok_s: float, name: str) -> Slice:
        """Return the slice whose replicas strain the promise least, at so many tokens per second. [tok/s]"""
        asked, question = self._asked, self._question(chip)
        request_s = tok_s / asked.mix.output_tok
        return slice_best([Slice(each, question, request_s, f"{asked.service} {name}") for each in pools], asked.seed)

    def _whole_pools(self, unit: UnitValues) -> Iterator[list[Pool]]:
        """Yield the replicas of a unit, with each of the limits of a step where they are open."""
        question, config = self._question(unit.chip), unit.config.config()
        if unit.prefill is not None:
            layout = Layout(config, unit.replicas, unit.prefill.config(), unit.prefill_replicas)
            yield question.pools(layout)
            return
        for each in configs_open(question, config, unit.host_chips) if unit.config.is_open else [config]:
            yield question.pools(Layout(each))

    def _apart_pools(self, read_unit: UnitValues, few: int, unit: UnitValues, many: int) -> Iterator[list[Pool]]:
        reading, writing = self._question(read_unit.chip), self._question(unit.chip)
        prefill, decode = read_unit.config.config(), unit.config.config()
        prefill = reads_wide(prefill) if read_unit.config.is_open else prefill
        for each in decodes_open(writing, decode) if unit.config.is_open else [decode]:
            yield pools_across(reading, prefill, few, writing, each, many)

    # --- the first hour after a flip ----------------------------------------------------------------------------------
    def _storm(self, group: _Group) -> Row:
        """Return what losing the prefix cache does in the first hour, beside the same hour without the loss."""
        asked, slice_ = self._asked, group.slice.fewer(STORM_REPLICAS)
        each = min(math.ceil(slice_.request_s * HOUR_S), STORM_REQUESTS)
        count = min(max(STORM_ALL // max(each, 1), 2), SAMPLES_LEAST * 2)

        def hour(hit_ratio: float, share: float = 1.0) -> list[Sample]:
            asked_of = {"hit_ratio": hit_ratio, "warm_s": asked.cache_warm_s, "share": share}
            return [
                slice_.first_hour(asked.seed, number, requests=STORM_REQUESTS, **asked_of) for number in range(count)
            ]

        def figures_at(samples: list[Sample]) -> Row:
            return figures_of(asked.slo, [Taken(1.0, tuple(samples))], group.planned_tok_s)

        def holds(tenths: int) -> bool:
            return bool(figures_at(hour(asked.cache_hit_ratio, tenths / 10))["is_held"])

        cold = hour(asked.cache_hit_ratio)
        figures, usual = figures_at(cold), figures_at(hour(0.0))
        most = 10 if figures["is_held"] else bisect_left(range(1, 10), x=True, key=lambda tenths: not holds(tenths))
        names = ("kind", "chip", "phase", "site", "prompts_kind")
        row = {name: group.labels[name] for name in names if name in group.labels} | {
            "cache_hit_ratio": asked.cache_hit_ratio,
            "prompt_factor": 1 / (1 - asked.cache_hit_ratio),
            "cache_warm_s": asked.cache_warm_s,
            "span_s": min(HOUR_S, each / slice_.request_s),
            "recovery_s": recovery_s(cold, asked.slo),
            "flip_ratio": most / 10,
            "samples": count,
            **{name: figures[name] for name in ("ttft_s", "tpot_s", "share_ratio", "share_error_ratio", "verdict")},
            **{f"usual_{name}": usual[name] for name in ("ttft_s", "tpot_s", "share_ratio")},
        }
        return row | {"sentence": self._storm_sentence(row)}

    # --- in words -----------------------------------------------------------------------------------------------------
    def _head(self) -> str:
        return f"{self._asked.period} {self._asked.service} ({self._asked.tier})"

    def _sentence(self, row: Row) -> str:
        """Return whether the plan holds, in words."""
        asked = self._asked
        promise = f"TTFT {asked.ttft_s:g} s and TPOT {asked.tpot_s * 1e3:g} ms at P{asked.percentile * 100:g}"
        seen = f"TTFT {_seconds(row['ttft_s'])}, TPOT {_seconds(row['tpot_s'])}"
        share = f"{row['share_ratio']:.1%} +- {row['share_error_ratio']:.1%} of requests are within both"
        if row["is_held"]:
            unsure = ", though not beyond the sampling error" if row["verdict"] == UNSURE else ""
            return (
                f"{self._head()}: {row['planned_tok_s']:,.0f} tok/s are served within {promise}, as planned{unsure} "
                f"({seen}; {share})."
            )
        never = "" if row["served_tok_s"] else " Not even a twentieth of the planned rate keeps it."
        unsure = " It is missed by no more than the sampling error." if row["verdict"] == UNSURE else ""
        return (
            f"{self._head()}: the plan says {row['planned_tok_s']:,.0f} tok/s, the replay serves "
            f"{row['served_tok_s']:,.0f} within {promise}: {row['disagreement_ratio']:.1%} less.{never} At the planned "
            f"rate it is {seen}; {share}.{unsure}"
        )

    def _storm_sentence(self, row: Row) -> str:
        span = "hour" if row["span_s"] == HOUR_S else f"{row['span_s'] / 60:.0f} minutes"
        over = "never leaves its limit"
        if row["recovery_s"] is None:
            over = "is still over its limit at their end" if span != "hour" else "is still over its limit at its end"
        elif row["recovery_s"]:
            over = f"is over its limit for {row['recovery_s'] / 60:.0f} minutes"
        return (
            f"{self._head()} on {row['kind']}: a flip that loses a prefix cache of {row['cache_hit_ratio']:.0%} hits "
            f"reads {row['prompt_factor']:.2f} times the prompts at first; TTFT at P{self._asked.percentile * 100:g} "
            f"of the first {span} is {_seconds(row['ttft_s'])} instead of {_seconds(row['usual_ttft_s'])} and {over}. "
            f"{row['flip_ratio']:.0%} of the traffic could come at once within the promise."
        )


def _seconds(value_s: float | None) -> str:
    if value_s is None:
        return "without end"
    return f"{value_s:.3g} s" if value_s >= 1 else f"{value_s * 1e3:.3g} ms"
