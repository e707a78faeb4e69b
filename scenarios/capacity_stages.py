"""The stages of a capacity run: futures are judged beside each other, then put together with the expected one."""

import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from datetime import date
from itertools import groupby, pairwise
from typing import Any

from fleet.snapshot import FleetSnapshot
from scenarios.capacity_result import Told, capacity_result
from scenarios.pipelines import Payload, Results, Stage, StepContext, Values, Worked, json_pack, one_step
from scenarios.plan_steps import PlanQuestion
from scenarios.planning.capacity import CapacityPart, capacity_draws, capacity_merge
from scenarios.planning.capacity_answer import CapacityAsk, ClosedValues
from scenarios.planning.days import months_before
from scenarios.planning.params import CapacityParams
from scenarios.planning.plain import plain_read

DRAWS, MERGE = "draws", "merge"
DRAWS_SHARE_RATIO = 0.9  # of the work of both stages

DRAWS_MOST = 25
"""Draws of one step at most: of a small fleet they take a second."""

STEP_CELLS = 400_000
"""Rates times months times draws of one step, about: some two seconds."""


@dataclass(frozen=True)
class Asked:
    """What all steps of a capacity run read: the question, how many futures, the fleet, and the rest of the result."""

    question: PlanQuestion
    snapshot: FleetSnapshot
    draws: int
    seed: int
    frame: Mapping[str, Any]


Reader = Callable[[Results], Asked]
"""Returns what the first stage of a run has left."""


def capacity_stages(read: Reader, *, share_ratio: float) -> tuple[Stage, Stage]:
    """Return both stages, which are this share of a run's work. [-]"""

    def split(_values: Values, results: Results) -> list[Payload]:
        return draws_split(read(results))

    def work(values: Values, payload: Payload, results: Results, context: StepContext) -> Worked:
        asked = read(results)
        draws = range(payload["first"], payload["stop"])
        ask = ask_of(asked, values["params"])
        return Worked(capacity_draws(asked.question.problem, ask, draws, on_progress=context.report).as_bytes())

    def merge(values: Values, _payload: Payload, results: Results, context: StepContext) -> Worked:
        asked = read(results)
        context.report(0.0, "expected future")
        parts = [CapacityPart.read(kept.read()) for kept in results[DRAWS]]
        ask = ask_of(asked, values["params"])
        answer = capacity_merge(asked.question.problem, ask, parts, on_progress=context.report)
        context.report(0.9, "result")
        told = Told(asked.question.problem, asked.question.months, asked.snapshot, asked.frame["ratings"])
        return Worked(json_pack({**asked.frame, **capacity_result(answer, told)}))

    return (
        Stage(DRAWS, DRAWS_SHARE_RATIO * share_ratio, split, work),
        Stage(MERGE, (1 - DRAWS_SHARE_RATIO) * share_ratio, one_step, merge),
    )


def draws_split(asked: Asked) -> list[Payload]:
    """Split the draws evenly, into steps that take seconds."""
    problem = asked.question.problem
    cells = max(1, len(problem.rates) * len(problem.periods))
    steps = max(1, math.ceil(asked.draws / min(DRAWS_MOST, max(1, STEP_CELLS // cells))))
    ends = [asked.draws * at // steps for at in range(steps + 1)]
    return [{"first": first, "stop": stop} for first, stop in pairwise(ends)]


def ask_of(asked: Asked, params: Mapping[str, Any]) -> CapacityAsk:
    """Return what is asked of the planner; readiness and failures are not drawn, they are for plans."""
    read: CapacityParams = plain_read(CapacityParams, params, place="params")
    return CapacityAsk(
        draws=asked.draws,
        seed=asked.seed,
        target_ratio=read.target_ratio,
        lead_months=read.lead_months,
        closed=tuple(closed_of(asked.snapshot, asked.question, lead_months=read.lead_months)),
        futures=replace(asked.question.futures, ready_slips=(), down=()),
    )


def closed_of(snapshot: FleetSnapshot, question: PlanQuestion, *, lead_months: float) -> Iterator[ClosedValues]:
    """Return the kinds that may not be bought where and when: on the day of their order a policy event forbids it."""
    bans = [policy for policy in snapshot.policies if policy.verb == "buy"]
    if not bans:
        return
    first = question.months[0]
    ordered_on = [
        max(first, date.fromisoformat(months_before(str(month), lead_months) or str(first)))
        for month in question.months
    ]
    known = {kind.slug for kind in question.problem.kinds}
    for kind in snapshot.kinds:
        if kind.slug not in known:
            continue
        for site in question.problem.sites:
            ours = [
                ban
                for ban in bans
                if ban.chip == kind.chip and ban.site in {"", site.slug} and ban.region in {"", site.region}
            ]
            closed = [any(ban.starts_on <= day < (ban.ends_on or date.max) for ban in ours) for day in ordered_on]
            for is_closed, run in groupby(range(len(closed)), key=closed.__getitem__):
                periods = list(run)
                if is_closed:
                    last = periods[-1] + 1
                    yield ClosedValues(kind.slug, site.slug, periods[0], last if last < len(closed) else None)
