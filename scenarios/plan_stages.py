"""A migration plan as stages of a run: plans made beside each other, then the front of share against cost."""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Any

from fleet.packing import value_pack, value_unpack
from fleet.snapshot import FleetSnapshot
from scenarios.pipelines import Kept, Payload, Results, Stage, StepContext, Values, Worked
from scenarios.plan_steps import (
    MOST,
    Hold,
    PlanFound,
    PlanQuestion,
    front_asked,
    front_point,
    plan_merge,
    plan_part,
    plan_parts,
)
from scenarios.planning.memory import Memory
from scenarios.planning.solver import StoppedError

PLANS, FRONT = "plans", "front"
PLANS_SHARE_RATIO = 0.6  # of the work of both stages


@dataclass(frozen=True)
class Read:
    """What all steps of a plan read: the question and the fleet."""

    question: PlanQuestion
    snapshot: FleetSnapshot


Reader = Callable[[Results], Read]
"""Returns what the first stage of a run has left."""


def plan_stages(read: Reader, *, share_ratio: float) -> tuple[Stage, Stage]:
    """Return both stages, which are this share of a run's work. [-]"""
    plans, front = PLANS_SHARE_RATIO * share_ratio, (1 - PLANS_SHARE_RATIO) * share_ratio
    return (
        Stage(PLANS, plans, partial(_plans_split, read), partial(_plans_work, read)),
        Stage(FRONT, front, partial(_front_split, read), partial(_front_work, read)),
    )


def plan_answer(read: Read, results: Results) -> dict[str, Any]:
    """Return what the result says of the plan."""
    return plan_merge(read.question, _found(results, PLANS), _found(results, FRONT))


def _plans_split(read: Reader, _values: Values, results: Results) -> list[Payload]:
    return [{"part": part} for part in plan_parts(read(results).question)]


def _plans_work(read: Reader, _values: Values, payload: Payload, results: Results, context: StepContext) -> Worked:
    known = read(results)
    return _worked(lambda hold: plan_part(known.question, payload["part"], known.snapshot, hold), context)


def _front_split(read: Reader, _values: Values, results: Results) -> list[Payload]:
    return [{"asked_ratio": ratio} for ratio in front_asked(read(results).question, _found(results, PLANS))]


def _front_work(read: Reader, _values: Values, payload: Payload, results: Results, context: StepContext) -> Worked:
    question = read(results).question
    most = _found(results, PLANS)[plan_parts(question).index(MOST)].most
    if most is None:
        raise ArithmeticError("the largest share was not looked for")
    return _worked(lambda hold: front_point(question, payload["asked_ratio"], most, hold), context)


def _worked(make: Callable[[Hold], PlanFound], context: StepContext) -> Worked:
    """Make a plan that can be stopped, and gone on with behind its last finished stage."""
    memory = Memory(context.checkpoint_load(), keep=context.checkpoint_save)
    try:
        found = make(Hold(context.should_stop, lambda text: context.report(0.5, text), memory))
    except StoppedError:
        context.report(0.5, "stop")  # raises why
        raise
    return Worked(value_pack(found), is_reusable=not found.by_clock)


def _found(results: Results, stage: str) -> list[PlanFound]:
    return [_unpack(kept) for kept in results[stage]]


def _unpack(kept: Kept) -> PlanFound:
    return value_unpack(PlanFound, kept.read())
