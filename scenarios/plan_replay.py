"""The peak hours of a plan's wave months in the simulator: what is asked, each load once, and what the result says.

Values in, values out. The promise is replayed as it stands when a failure has taken the reserve, on whole replicas.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from accelerator import Slo, TokenMix
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import WHOLE, PlanProblem
from scenarios.replay import SAID_RATIO, replay_merge, replay_payloads
from scenarios.replay_figures import MISSED
from scenarios.replay_plan import Served, periods_with_waves, replay_questions
from scenarios.replay_values import ReplayQuestion, UnitValues

SHARD_MOST = 8
"""Loads of one step at most: most take a tenth of a second, one that looks for the rate that holds some seconds."""

FIGURES = (
    *("service", "region", "tier", "ttft_limit_s", "tpot_limit_s", "percentile", "planned_tok_s", "request_s"),
    *("served_tok_s", "within_tok_s", "disagreement_ratio", "disagreement_error_ratio", "verdict", "samples"),
    *("share_ratio", "share_error_ratio", "ttft_s", "tpot_s"),
)
KIND_FIGURES = ("kind", "phase", "site", "units", "load_ratio", "planned_tok_s", "share_ratio", "disagreement_ratio")
"""What a result keeps of a row, and of a kind in it; docs/models/replay.md says what each is."""

Row = dict[str, Any]


@dataclass(frozen=True, slots=True)
class RatedUnit:
    """What was rated for a kind and a phase; without a unit the reason why it cannot be replayed."""

    kind: str
    phase: str
    unit: UnitValues | None
    reason: str = ""


@dataclass(frozen=True)
class ServedFacts:
    """What a plan does not say of a service.

    Attributes
    ----------
    cache_hit_ratio : float
        Share of the tokens of prompts that a warm prefix cache holds; 0: nobody knows. [-]
    units : tuple of RatedUnit
        Of each kind and phase.
    """

    service: str
    model: str
    mix: TokenMix
    slo: Slo
    cache_hit_ratio: float
    units: tuple[RatedUnit, ...]


@dataclass(frozen=True)
class ReplayFacts:
    """What a replay needs beside a plan: its services, and the digests of the engines and requests it stands on.

    Without a digest the engines are planning values, the requests those of the built-in profiles.
    """

    calibration_digest: str
    trace_digest: str
    services: tuple[ServedFacts, ...]


@dataclass(frozen=True, slots=True)
class Shown:
    """A service in a month: the number of the load that stands for it, or the reason why none does."""

    period: str
    service: str
    demand_tok_s: float
    load: int | None
    reason: str = ""


@dataclass(frozen=True)
class Asked:
    """The loads to be replayed, each once, and the services and months that they stand for."""

    loads: tuple[ReplayQuestion, ...]
    shown: tuple[Shown, ...]

    def payloads(self, calibration_digest: str) -> list[dict[str, Any]]:
        """Return the loads as JSON values, a few in each."""
        return replay_payloads(self.loads, calibration_digest=calibration_digest, most=SHARD_MOST)


def replay_asked(facts: ReplayFacts, problem: PlanProblem, answer: MigrationAnswer, *, seed: int) -> Asked:
    """Return what is replayed of a plan in whole replicas: every service in every month in which something opens."""
    periods, by_service = periods_with_waves(answer), {one.service: one for one in facts.services}
    units = {slug: {(u.kind, u.phase): u for u in one.units} for slug, one in by_service.items()}
    used: dict[tuple[int, str], list[RatedUnit]] = defaultdict(list)
    loads = []
    for row in answer.loads:
        if row.period in periods and row.serving_hosts > 0:
            rated = units[row.service].get((row.kind, row.phase))
            used[row.period, row.service].append(rated or RatedUnit(row.kind, row.phase, None, "it was not rated"))
            # replicas of a phase are counted in those of the whole service, which may be larger or smaller
            loads.append(row if row.phase == WHOLE else replace(row, replicas=None))
    asked = replace(answer, loads=tuple(loads))
    numbers: dict[ReplayQuestion, int] = {}
    shown = []
    for period in periods:
        for service in problem.services:
            name, demand_tok_s = problem.periods[period], problem.at(service.demand_tok_s)[period]
            missing = [one for one in used[period, service.slug] if one.unit is None]
            if missing:
                reason = "; ".join(f"{one.kind} ({one.phase}): {one.reason}" for one in missing)
                shown.append(Shown(name, service.slug, demand_tok_s, None, reason))
                continue
            question = _question(by_service[service.slug], problem, asked, period, seed)
            same = replace(
                question, period="", demand_tok_s=0.0, loads=tuple(replace(one, place="") for one in question.loads)
            )
            shown.append(Shown(name, service.slug, demand_tok_s, numbers.setdefault(same, len(numbers))))
    return Asked(tuple(numbers), tuple(shown))


def _question(
    facts: ServedFacts, problem: PlanProblem, answer: MigrationAnswer, period: int, seed: int
) -> ReplayQuestion:
    served = Served(
        model=facts.model,
        mix=facts.mix,
        slo=facts.slo,
        units={(one.kind, one.phase): one.unit for one in facts.units if one.unit is not None},
    )
    (question,) = replay_questions(
        problem,
        answer,
        {facts.service: served},
        periods=(period,),
        seed=seed,
        cache_hit_ratio=facts.cache_hit_ratio,
    )
    return question


def replay_result(asked: Asked, found: Sequence[Row], facts: ReplayFacts) -> Row:
    """Return what the result says of a replay.

    Parameters
    ----------
    found : sequence of dict
        A row for each load, in order.
    """
    rows = [_row_shown(one, found[one.load]) for one in asked.shown if one.load is not None]
    merged = replay_merge([rows])
    left_out = [
        {"month": one.period, "service": one.service, "reason": one.reason} for one in asked.shown if one.load is None
    ]
    for row in (*merged["services"], *merged["tiers"]):
        row["month"] = row.pop("period")
    return {
        "sentence": _sentence(merged["services"], left_out),
        "loads": len(asked.loads),
        "services": merged["services"],
        "tiers": merged["tiers"],
        "sentences": merged["sentences"],
        "left_out": left_out,
        "workload": "recorded requests" if facts.trace_digest else "built-in profiles",
    }


def _row_shown(one: Shown, row: Mapping[str, Any]) -> Row:
    """Return the row of a load as that of a service in a month; its sentences begin with the month."""
    return {
        **{name: row.get(name) for name in FIGURES},
        "period": one.period,
        "demand_tok_s": one.demand_tok_s,
        "kinds": [{name: kind.get(name) for name in KIND_FIGURES} for kind in row["kinds"]],
        "storms": [{**storm, "sentence": f"{one.period}{storm['sentence']}"} for storm in row["storms"]],
        "sentence": f"{one.period}{row['sentence']}",
    }


def apart_rows(replay: Mapping[str, Any]) -> Iterator[Row]:
    """Yield the services and months of which the simulator serves less than the plan by more than 2 %, worst first."""
    apart = [row for row in replay["services"] if row["disagreement_ratio"] > SAID_RATIO]
    yield from sorted(apart, key=lambda row: (-row["disagreement_ratio"], row["month"], row["service"]))


def _sentence(rows: Sequence[Row], left_out: Sequence[Row]) -> str:
    """Return whether simulation and plan agree, and where they do not."""
    if not rows and not left_out:
        return "Nothing opens, so no month was replayed."
    said = f"{len(left_out)} of {len(rows) + len(left_out)} services and months could not be replayed."
    if not rows:
        return said
    apart = list(apart_rows({"services": rows}))
    if not apart:
        text = (
            f"Peak hours of services replayed: {len(rows)}; the simulator serves what the plan says in all, within 2 %."
        )
    else:
        sure = sum(row["verdict"] == MISSED for row in apart)
        worst = apart[0]
        text = (
            f"Simulation and plan disagree by more than 2 % in {len(apart)} of {len(rows)} replayed peak hours of "
            f"services, in {sure} of them beyond the sampling error; most for {worst['service']} in {worst['month']}, "
            f"where {worst['planned_tok_s']:,.0f} tok/s are planned and {worst['served_tok_s']:,.0f} keep the promise, "
            f"{worst['disagreement_ratio']:.1%} less."
        )
    flips = [storm for row in rows for storm in row["storms"]]
    broken = sum(storm["verdict"] == MISSED for storm in flips)
    if broken:
        text += (
            f" In {broken} of {len(flips)} waves with a cold prefix cache the first hour breaks the promise if all of"
        )
        text += " the traffic comes at once."
    return f"{text} {said}" if left_out else text
