"""The steps of a migration plan: the best one with its racks, those beside it, and the front of share against cost.

Values in, values out; each step reads the problem that the first one put together, and nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from fleet.snapshot import FleetSnapshot
from scenarios.plan_result import BEST, GREEDY, NOTHING, plan_result
from scenarios.planning.comparisons import ParetoPoint, pareto, plan_nothing, safety_cost
from scenarios.planning.greedy import plan_greedy
from scenarios.planning.memory import Memory
from scenarios.planning.migration import plan_migration
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import PlanProblem
from scenarios.planning.rounding import Rounded, replicas_round
from scenarios.planning.solver import Stop, never
from scenarios.racking import Racking, plan_rack, problem_tightened

RACKED_MOST = 4
"""Times that a plan is made again because racks of a place take fewer hosts than it thought."""

FRONT = "front"

Show = Callable[[str], None]


@dataclass(frozen=True)
class PlanQuestion:
    """What the steps of a plan read.

    Attributes
    ----------
    problem : PlanProblem
    months : tuple of date, length T
    front_points : int
        Of the front of share against cost; 0: none. [-]
    """

    problem: PlanProblem
    months: tuple[date, ...]
    front_points: int


@dataclass(frozen=True)
class PlanFound:
    """What a step leaves.

    Attributes
    ----------
    problem : PlanProblem
        The problem answered: the question's, with as much room as the racks really have.
    answer : MigrationAnswer
        The plan, loads divisible.
    rounded : Rounded or None
        The same in whole replicas.
    racking : Racking or None
    safety_cost : float or None
        More than the plan without shadow and reserve costs. [money]
    front : tuple of ParetoPoint
    """

    problem: PlanProblem
    answer: MigrationAnswer | None = None
    rounded: Rounded | None = None
    racking: Racking | None = None
    safety_cost: float | None = None
    front: tuple[ParetoPoint, ...] = ()

    @property
    def by_clock(self) -> bool:
        """Whether the time limit ended a solve: then another run may find another plan."""
        answers = [self.answer, *(point.answer for point in self.front)]
        return any(answer is not None and answer.solver.stopped_by_clock for answer in answers)


def plan_parts(question: PlanQuestion) -> list[str]:
    """Return the steps, those that take longest first."""
    return [BEST, *([FRONT] if question.front_points >= 2 else []), GREEDY, NOTHING]


def plan_part(
    question: PlanQuestion,
    part: str,
    snapshot: FleetSnapshot,
    *,
    memory: Memory | None = None,
    should_stop: Stop = never,
    show: Show = lambda _text: None,
) -> PlanFound:
    """Compute one step."""
    if part == BEST:
        return _best(question, snapshot, memory or Memory(), should_stop, show)
    if part == FRONT:
        points = pareto(
            question.problem,
            question.front_points,
            should_stop=should_stop,
            on_point=lambda at: show(f"front: point {at + 1}"),
        )
        return PlanFound(problem=question.problem, front=points)
    show(f"{part} plan")
    make = {GREEDY: plan_greedy, NOTHING: plan_nothing}[part]
    return PlanFound(problem=question.problem, answer=make(question.problem, should_stop=should_stop))


def _best(question: PlanQuestion, snapshot: FleetSnapshot, memory: Memory, should_stop: Stop, show: Show) -> PlanFound:
    """Plan, put the hosts into racks, and plan again with less room where racks took fewer."""
    problem, racking = question.problem, None
    for turn in range(RACKED_MOST):
        answer = plan_migration(problem, memory=memory.under(f"turn {turn}"), should_stop=should_stop, on_stage=show)
        if not answer.is_plan:
            return PlanFound(problem=problem, answer=answer)
        show("racks")
        racking = plan_rack(snapshot, problem, answer, question.months)
        if not racking.homeless or turn == RACKED_MOST - 1:
            break
        problem = problem_tightened(problem, racking)
    show("replicas")
    rounded = replicas_round(problem, answer)
    show("cost of safety")
    return PlanFound(
        problem=problem,
        answer=answer,
        rounded=rounded,
        racking=racking,
        safety_cost=safety_cost(problem, answer, should_stop=should_stop),
    )


def plan_merge(parts: Sequence[str], found: Sequence[PlanFound]) -> dict[str, Any]:
    """Return what a result says of the plan, from the steps in their order."""
    by_part = dict(zip(parts, found, strict=True))
    best = by_part[BEST]
    answers = {part: one.answer for part, one in by_part.items() if one.answer is not None}
    return plan_result(
        best.problem,
        answers={name: answers[name] for name in (BEST, GREEDY, NOTHING) if name in answers},
        rounded=best.rounded,
        racking=best.racking,
        safety_cost=best.safety_cost,
        front=by_part[FRONT].front if FRONT in by_part else (),
    )
