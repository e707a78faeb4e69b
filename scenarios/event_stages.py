"""An outage or an event as stages of a run: the best plans of the worlds before and after it.

What nobody foresees is planned for behind the plan before it, whose hosts and openings it keeps until then; otherwise
all plans are made beside each other.
"""

from collections.abc import Callable
from dataclasses import replace
from functools import partial
from typing import Any

from fleet.packing import value_pack, value_unpack
from scenarios.event_reading import EventQuestion
from scenarios.event_result import event_result
from scenarios.pipelines import Kept, Payload, Results, Stage, StepContext, Values, Worked
from scenarios.planning.holding import Held
from scenarios.planning.incident_answer import AFTER, BEFORE, plan_worlds
from scenarios.planning.memory import Memory
from scenarios.planning.migration import plan_migration
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.solver import StoppedError

PLANS, REPLANS = "plans", "replans"
PLANS_SHARE_RATIO = 0.5  # of the work of both stages
BESIDE_GAP_RATIO = 0.02
"""Gap of the plans without a kind of action: they say what it is worth, nobody carries them out. [-]"""

Reader = Callable[[Results], EventQuestion]
"""Returns what the first stage of a run has left."""


def event_stages(read: Reader, *, share_ratio: float) -> tuple[Stage, Stage]:
    """Return both stages of plans, which are this share of a run's work. [-]"""
    plans, replans = PLANS_SHARE_RATIO * share_ratio, (1 - PLANS_SHARE_RATIO) * share_ratio
    return (
        Stage(PLANS, plans, partial(_plans_split, read), partial(_work, read)),
        Stage(REPLANS, replans, partial(_replans_split, read), partial(_work, read)),
    )


def event_answer(question: EventQuestion, results: Results) -> dict[str, Any]:
    """Return what the result says of the incident."""
    held = _held(question, results)
    worlds = plan_worlds(question.problem, question.incident, held)
    plans = [_unpack(kept) for kept in (*results[PLANS], *results[REPLANS])]
    return event_result(question, dict(zip(worlds, plans, strict=True)), since=held.until if held else 0)


def _plans_split(read: Reader, _values: Values, results: Results) -> list[Payload]:
    """Split into the plan before, and all others unless they follow from it."""
    question = read(results)
    if question.incident.first > 0 and not question.foreseen:
        return [{"world": BEFORE}]
    return [{"world": name} for name in plan_worlds(question.problem, question.incident)]


def _replans_split(read: Reader, _values: Values, results: Results) -> list[Payload]:
    question = read(results)
    if len(results[PLANS]) > 1:
        return []
    worlds = plan_worlds(question.problem, question.incident, _held(question, results))
    return [{"world": name} for name in worlds if name != BEFORE]


def _held(question: EventQuestion, results: Results) -> Held | None:
    return question.held(_unpack(results[PLANS][0]))


def _work(read: Reader, _values: Values, payload: Payload, results: Results, context: StepContext) -> Worked:
    """Plan one world; a plan can be stopped, and gone on with behind its last finished stage."""
    question, name = read(results), payload["world"]
    held = _held(question, results) if PLANS in results else None
    problem = plan_worlds(question.problem, question.incident, held)[name]
    if name not in {BEFORE, AFTER}:
        gap_ratio = max(problem.solver.gap_ratio, BESIDE_GAP_RATIO)
        problem = replace(problem, solver=replace(problem.solver, gap_ratio=gap_ratio))
    memory = Memory(context.checkpoint_load(), keep=context.checkpoint_save)

    def show(text: str) -> None:
        context.report(0.5, f"plan {name}: {text}")

    try:
        answer = plan_migration(problem, memory=memory, held=held, should_stop=context.should_stop, on_stage=show)
    except StoppedError:
        context.report(0.5, "stop")  # raises why
        raise
    return Worked(value_pack(answer), is_reusable=not answer.solver.stopped_by_clock)


def _unpack(kept: Kept) -> MigrationAnswer:
    return value_unpack(MigrationAnswer, kept.read())
