"""The steps of a migration plan: the best one with its racks, those beside it, the front of share against cost.

Values in, values out; each step reads the problem that the first one put together, and nothing else.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from datetime import date
from typing import Any

from fleet.snapshot import FleetSnapshot
from scenarios.plan_replay import Asked, ReplayFacts, replay_asked
from scenarios.plan_result import BEST, GREEDY, NOTHING, plan_result
from scenarios.planning.comparisons import (
    MostShare,
    ParetoPoint,
    homegrown_ratio,
    pareto_point,
    plan_nothing,
    share_most,
    shares_asked,
)
from scenarios.planning.draws import FutureValues
from scenarios.planning.greedy import plan_greedy
from scenarios.planning.memory import Memory
from scenarios.planning.migration import plan_migration
from scenarios.planning.params import MigrationParams
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import PlanProblem
from scenarios.planning.rounding import Rounded, replicas_round
from scenarios.planning.solver import Stop, never
from scenarios.racking import Racking, plan_rack, problem_tightened

RACKED_MOST = 4
"""Times that a plan is made again because racks of a place take fewer hosts than it thought."""

BARE, FREE, MOST = "bare", "free", "most"
"""The plan without copies and reserve, the one without floors, and the largest share that there can be."""

BESIDE_GAP_RATIO = 0.02
"""Gap of the plans that only stand beside the best one: they show a shape and a price, nobody carries them out. [-]"""

Show = Callable[[str], None]


@dataclass(frozen=True)
class PlanQuestion:
    """What the steps of a plan read.

    Attributes
    ----------
    problem : PlanProblem
    months : tuple of date, length T
    futures : FutureValues
        What futures differ in.
    params : MigrationParams
        The scenario's own.
    draws, seed : int
        Futures of which the promises are judged in, and the seed of all draws. [-]
    replay : ReplayFacts or None
        What a replay needs besides; None: nothing is replayed.
    """

    problem: PlanProblem
    months: tuple[date, ...]
    futures: FutureValues
    params: MigrationParams
    draws: int = 200
    seed: int = 1
    replay: ReplayFacts | None = None

    @property
    def front_points(self) -> int:
        """Points of the front of share against cost; below 2: none. [-]"""
        return self.params.pareto_points


@dataclass(frozen=True)
class PlanFound:
    """What a step leaves: the plan, and of the best one the problem that it answers, its replicas and its racks.

    The problem is the question's with as much room as the racks really have; `turn_by_clock`: whether the time limit
    ended a plan that said how much that is.
    """

    answer: MigrationAnswer | None = None
    problem: PlanProblem | None = None
    rounded: Rounded | None = None
    racking: Racking | None = None
    most: MostShare | None = None
    point: ParetoPoint | None = None
    turn_by_clock: bool = False

    @property
    def by_clock(self) -> bool:
        """Whether the time limit ended a solve: then another run may find another plan."""
        answer = self.answer if self.point is None else self.point.answer
        is_cut = answer is not None and answer.solver.stopped_by_clock
        return is_cut or self.turn_by_clock or (self.most is not None and self.most.by_clock)


@dataclass(frozen=True, slots=True)
class Hold:
    """What a step may ask and tell while it works: whether to stop, what it does, and what it has finished."""

    should_stop: Stop = never
    show: Show = lambda _text: None
    memory: Memory | None = None


def plan_parts(question: PlanQuestion) -> list[str]:
    """Return the plans that are made beside each other, those that take longest first."""
    has_front = question.front_points >= 2
    free = [FREE] if has_front and question.problem.floors else []
    return [BEST, *free, *([MOST] if has_front else []), GREEDY, NOTHING]


def plan_part(question: PlanQuestion, part: str, snapshot: FleetSnapshot, hold: Hold) -> PlanFound:
    """Make one of the plans."""
    problem, stop = question.problem, hold.should_stop
    if part == BEST:
        return _best(question, snapshot, hold)
    problem = _looser(problem)
    hold.show(f"{part} plan")
    if part == MOST:
        return PlanFound(most=share_most(replace(problem, floors=()), memory=hold.memory, should_stop=stop))
    if part == FREE:
        free = replace(problem, floors=())
        return PlanFound(answer=plan_migration(free, memory=hold.memory, should_stop=stop, on_stage=hold.show))
    make = {GREEDY: plan_greedy, NOTHING: plan_nothing}[part]
    return PlanFound(answer=make(problem, should_stop=stop))


def _best(question: PlanQuestion, snapshot: FleetSnapshot, hold: Hold) -> PlanFound:
    """Plan, put the hosts into racks, and plan again with less room where racks took fewer."""
    problem, memory, by_clock = question.problem, hold.memory or Memory(), False
    for turn in range(RACKED_MOST):
        answer = plan_migration(
            problem, memory=memory.under(f"turn {turn}"), should_stop=hold.should_stop, on_stage=hold.show
        )
        by_clock |= answer.solver.stopped_by_clock
        if not answer.is_plan:
            return PlanFound(answer, problem, turn_by_clock=by_clock)
        hold.show("racks")
        racking = plan_rack(snapshot, problem, answer, question.months)
        if not racking.homeless or turn == RACKED_MOST - 1:
            break
        problem = problem_tightened(problem, racking)
    hold.show("replicas")
    return PlanFound(answer, problem, replicas_round(problem, answer), racking, turn_by_clock=by_clock)


def _looser(problem: PlanProblem) -> PlanProblem:
    solver = replace(problem.solver, gap_ratio=max(problem.solver.gap_ratio, BESIDE_GAP_RATIO))
    return replace(problem, solver=solver)


def bare_asked(question: PlanQuestion, best: PlanFound) -> bool:
    """Whether the best plan has copies or a reserve, whose price a plan without them says."""
    rules = question.problem.rules
    return (rules.shadow_ratio > 0 or rules.rollback_ratio > 0) and best.answer is not None and best.answer.is_plan


def plan_bare(question: PlanQuestion, best: PlanFound, hold: Hold) -> PlanFound:
    """Make the plan without copies and reserve: in the room that the best one has, and found as closely.

    What safety costs is the difference between the two.
    """
    hold.show("bare plan")
    problem = best.problem or question.problem
    bare = replace(problem, rules=replace(problem.rules, shadow_ratio=0.0, rollback_ratio=0.0))
    return PlanFound(answer=plan_migration(bare, memory=hold.memory, should_stop=hold.should_stop, on_stage=hold.show))


def asked_of_replay(question: PlanQuestion, best: PlanFound) -> Asked | None:
    """Return what is replayed of the best plan; None if nothing is asked for, or there is no plan."""
    if question.replay is None or best.rounded is None:
        return None
    return replay_asked(question.replay, best.problem or question.problem, best.rounded.answer, seed=question.seed)


def front_asked(question: PlanQuestion, found: Sequence[PlanFound]) -> list[float]:
    """Return the shares that the front asks for, beside the plan without floors. [-]"""
    by_part = dict(zip(plan_parts(question), found, strict=True))
    first, most = by_part.get(FREE, by_part[BEST]).answer, by_part[MOST].most if MOST in by_part else None
    if first is None or most is None or not first.is_plan:
        return []
    return list(shares_asked(homegrown_ratio(question.problem, first), most, question.front_points))


def front_point(question: PlanQuestion, asked_ratio: float, most: MostShare, hold: Hold) -> PlanFound:
    """Make one plan of the front."""
    hold.show(f"front: {asked_ratio:.0%} homegrown")
    return PlanFound(
        point=pareto_point(_looser(question.problem), asked_ratio, most=most, should_stop=hold.should_stop)
    )


def plan_merge(
    question: PlanQuestion,
    found: Sequence[PlanFound],
    front: Sequence[PlanFound],
    *,
    replay: dict[str, Any] | None = None,
    promises: dict[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a result says of the plan, from the steps in their order; `front` may begin with the bare plan."""
    by_part = dict(zip(plan_parts(question), found, strict=True))
    answers = {part: one.answer for part, one in by_part.items() if one.answer is not None}
    best = by_part[BEST]
    points = [one.point for one in front if one.point is not None]
    return plan_result(
        best.problem or question.problem,
        answers={name: answers[name] for name in (BEST, GREEDY, NOTHING)},
        bare=next((one.answer for one in front if one.point is None), None),
        free=answers.get(FREE, answers[BEST]) if question.front_points >= 2 else None,
        front=points,
        rounded=best.rounded,
        racking=best.racking,
        replay=replay,
        promises=promises,
    )
