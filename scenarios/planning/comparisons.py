"""What a plan is held against: doing nothing, other plans, and the curve of homegrown share over cost.

All are answers of one form with money by one account, so that costs can be compared. The rule that people use is in
`scenarios.planning.greedy`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace

import numpy as np

from scenarios.planning.accounts import answer_of
from scenarios.planning.conflicts import WORDS
from scenarios.planning.memory import Memory
from scenarios.planning.migration import plan_migration, polish
from scenarios.planning.migration_program import MigrationProgram
from scenarios.planning.plan import FEASIBLE, INFEASIBLE, NO_PLAN, ConflictRow, MigrationAnswer, SolverNote
from scenarios.planning.problem import TOKENS, FloorValues, PlanProblem, problem_check
from scenarios.planning.program import BoolArray, FloatArray, Frozen
from scenarios.planning.reading import SIDES, Reading, point_of
from scenarios.planning.reconciling import ITEMS
from scenarios.planning.search import Search
from scenarios.planning.solver import NAME, Solved, Stop, never, solve

KEPT_RATIO = 1e-6  # of what an earlier aim came to: later aims may give up no more
BINDS_MOST = 5  # requirements that are named as binding
STEP_LEAST = 0.01  # beyond the most possible a curve asks for so much more at least [-]
BARELY = 1e-4  # of a share: so much below the most possible the last point of a curve asks


def plan_nothing(problem: PlanProblem, *, should_stop: Stop = never) -> MigrationAnswer:
    """Return what happens if nothing is done.

    Nobody moves: homegrown shares stay at most what they are before the first period. Nothing is bought or sent away,
    and deliveries are paid but not racked; hosts stand as they are dated. Demand that does not fit is short, at its
    penalty or at none; so is what would not survive a failure. Floors, limits, dates of leaving and order do not apply:
    `reconciling.requirements_missed` says which are missed.
    """
    problem_check(problem)
    program = MigrationProgram(problem)
    columns = program.columns
    point = np.zeros(len(program.frozen.lower))
    for pair, at in columns.kept.items():
        point[at] = program.facts.standing[pair]
    for way, at in columns.opened.items():
        point[at] = float(program.ways[way].rate.in_use)
    frozen = rows_dropped(program.frozen, {"floor", "limit", "left", "order"})
    lower, upper = frozen.lower.copy(), frozen.upper.copy()
    for service in problem.services:
        share = program.facts.homegrown_share_before(service)
        for moved in (columns.answers, columns.prompts):
            upper[moved[service.slug]] = share
    for part in (columns.bought_own, columns.bought_free):
        for at in part.values():
            upper[at] = 0.0
    solved = loads_best(program, replace(frozen, lower=lower, upper=upper), point, should_stop=should_stop)
    return plan_of(program, solved, sense="money, after tokens unserved that must be served; nothing is decided")


def loads_best(
    program: MigrationProgram,
    frozen: Frozen,
    point: FloatArray,
    *,
    aims: tuple[FloatArray, ...] = (),
    should_stop: Stop = never,
) -> Solved:
    """Return the best loads for whole decisions that are given; what does not fit goes unserved.

    First the fewest tokens short that cost no penalty (there all must be served), then any other aims, then money.

    Raises
    ------
    ArithmeticError
        If the decisions break a requirement that no unserved traffic can mend.
    """
    frozen = short_allowed(program, frozen)
    extra: tuple[tuple[FloatArray, float], ...] = ()
    for aim in (tokens_that_must(program), *aims, program.money):
        if aim is not program.money and not aim.any():
            continue
        solved = solve(frozen, aim, program.problem.solver, fixed=point, extra=extra, should_stop=should_stop)
        reached = float(aim @ solved.point)
        extra += ((aim, reached + KEPT_RATIO * max(1.0, abs(reached))),)
    return solved


def tokens_that_must(program: MigrationProgram) -> FloatArray:
    """Return what counts short tokens that no penalty pays for, now and after a failure, float64[C]. [Mtok]"""
    now, after = program.tokens_short()
    aim = np.zeros_like(now)
    for service in program.problem.services:
        if service.penalty_per_mtok is None:
            at = program.columns.short[service.slug]
            aim[at] = now[at]
    if program.problem.rules.failover_penalty_per_mtok is None:
        aim += after
    return aim


def short_allowed(program: MigrationProgram, frozen: Frozen) -> Frozen:
    """Return a program in which all demand may go unserved, and need not survive a failure."""
    upper = frozen.upper.copy()
    for slug, at in program.columns.short.items():
        upper[at] = program.facts.demand[slug]
    for (_domain, slug), at in program.columns.failover_short.items():
        upper[at] = program.facts.demand[slug]
    return replace(frozen, upper=upper)


def rows_dropped(frozen: Frozen, kinds: set[str]) -> Frozen:
    """Return a program without requirements of some kinds."""
    dropped: BoolArray = np.array([one.kind in kinds for one in frozen.requirements], dtype=bool)
    here = dropped[frozen.row_requirement]
    return replace(
        frozen,
        row_lower=np.where(here, -np.inf, frozen.row_lower),
        row_upper=np.where(here, np.inf, frozen.row_upper),
    )


def plan_of(program: MigrationProgram, solved: Solved, *, sense: str) -> MigrationAnswer:
    """Return the plan of a point that follows a rule: feasible, with an objective and without a bound."""
    rows, columns = program.frozen.matrix.shape
    note = SolverNote(
        name=NAME,
        status=solved.status,
        objective=float(program.money @ solved.point) + program.constant,
        bound=None,
        gap_ratio=None,
        sense=sense,
        columns=columns,
        rows=rows,
        integers=int(program.frozen.whole.sum()),
    )
    return answer_of(program, solved, status=FEASIBLE, note=note)


# --- plans beside each other ------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ComparedRow:
    """One plan against the first: what the difference buys. Differences are this one less the first."""

    name: str
    objective: float | None  # discounted [money]
    more: float | None  # than the first plan costs, discounted [money]
    items: tuple[tuple[str, float], ...]  # the same by item, not discounted [money]
    homegrown_ratio: float | None  # share of the tokens of the last period [-]
    homegrown_more_ratio: float | None  # [-]
    short_mtok: float | None  # unserved over the horizon [Mtok]
    waves: int | None  # ways opened [-]
    waves_more: int | None


def compare(problem: PlanProblem, answers: Mapping[str, MigrationAnswer]) -> tuple[ComparedRow, ...]:
    """Return plans of one problem beside each other; the first is what the others are held against.

    An answer without a plan has None in every figure.
    """
    rows: list[ComparedRow] = []
    base: tuple[MigrationAnswer, float] | None = None
    for at, (name, answer) in enumerate(answers.items()):
        if not answer.is_plan:
            rows.append(ComparedRow(name, None, None, (), None, None, None, None, None))
            continue
        share_ratio = homegrown_ratio(problem, answer)
        base = (answer, share_ratio) if at == 0 else base
        money = None if base is None else _cost(answer) - _cost(base[0])
        rows.append(
            ComparedRow(
                name=name,
                objective=_cost(answer),
                more=money,
                items=() if base is None else tuple(_items(answer, base[0])),
                homegrown_ratio=share_ratio,
                homegrown_more_ratio=None if base is None else share_ratio - base[1],
                short_mtok=_short_mtok(problem, answer),
                waves=len(answer.opened),
                waves_more=None if base is None else len(answer.opened) - len(base[0].opened),
            )
        )
    return tuple(rows)


def homegrown_ratio(problem: PlanProblem, answer: MigrationAnswer, period: int = -1) -> float:
    """Return the share of the tokens demanded in a period that homegrown hosts serve: input and output. [-]"""
    reading = Reading(problem, answer)
    done = total = 0.0
    for slug, service in reading.services.items():
        for side, phases in SIDES:
            weight = service.input_ratio if side == "prompts" else 1.0
            done += weight * float(reading.tok_s(slug, phases, homegrown=True)[period])
            total += weight * float(reading.demand[slug][period])
    return done / total if total else 0.0


def _cost(answer: MigrationAnswer) -> float:
    return sum(row.discounted for row in answer.money)


def _items(answer: MigrationAnswer, base: MigrationAnswer) -> list[tuple[str, float]]:
    return [
        (item, sum(getattr(row, item) for row in answer.money) - sum(getattr(row, item) for row in base.money))
        for item in ITEMS
    ]


def _short_mtok(problem: PlanProblem, answer: MigrationAnswer) -> float:
    reading = Reading(problem, answer)
    return sum(
        row.tok_s * reading.facts.penalty_price(1.0, reading.services[row.service])
        for row in answer.short
        if not row.domain
    )


# --- share over cost --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ParetoPoint:
    """One point of the curve of homegrown tokens in the last period over cost."""

    asked_ratio: float | None  # floor of the last period; None: no floor [-]
    status: str
    reached_ratio: float | None  # [-]
    objective: float | None  # [money]
    gap_ratio: float | None  # [-]
    binds: tuple[str, ...]  # what one unit more of would save most, in words
    conflict: tuple[ConflictRow, ...]  # where there is no plan
    answer: MigrationAnswer


def pareto(
    problem: PlanProblem,
    points: int,
    *,
    should_stop: Stop = never,
    on_point: Callable[[int], None] = lambda _point: None,
) -> tuple[ParetoPoint, ...]:
    """Return the share of homegrown tokens in the last period against its cost.

    The floors of the problem are left out: each point has one in their place, on all tokens of the last period. The
    first point asks for nothing; the next go in even steps from what it reaches to the most that is possible, found by
    maximising; the last asks for a step more than that and names its conflict, unless the most is everything. Where
    nothing more is possible than what the first reaches there are no points between.

    Parameters
    ----------
    points : int
        Plans from the one without a floor to the most possible, at least 2.
    on_point : callable, optional
        Called with the number of each plan before it is made.
    """
    if points < 2:
        raise ValueError(f"a curve needs two points, not {points}")
    free = replace(problem, floors=())
    on_point(0)
    found = [pareto_point(free, None, should_stop=should_stop)]
    if found[0].reached_ratio is None:
        return tuple(found)
    most = share_most(free, should_stop=should_stop)
    for ratio in shares_asked(found[0].reached_ratio, most, points):
        on_point(len(found))
        found.append(pareto_point(free, ratio, most=most, should_stop=should_stop))
    return tuple(found)


def shares_asked(first_ratio: float, most: "MostShare", points: int) -> tuple[float, ...]:
    """Return the shares that a curve asks for behind its first point, which reaches `first_ratio`. [-]"""
    top = max(most.share_ratio, first_ratio)
    asked: list[float] = []
    if top > first_ratio + BARELY:
        asked = [float(one) for one in np.linspace(first_ratio, top - BARELY, points)[1:]]
    if most.bound_ratio < 1 - BARELY:
        step = max((top - first_ratio) / (points - 1), STEP_LEAST)
        asked.append(min(1.0, max(most.bound_ratio, top) + step))
    return tuple(asked)


@dataclass(frozen=True, eq=False)
class MostShare:
    """The largest share of homegrown tokens in the last period that was found, and the point that has it."""

    share_ratio: float  # [-]
    bound_ratio: float  # none is above [-]
    point: FloatArray | None
    by_clock: bool = False  # the time limit ended the search


def share_most(problem: PlanProblem, *, memory: Memory | None = None, should_stop: Stop = never) -> MostShare:
    """Return the largest share of homegrown tokens in the last period that its requirements allow."""
    problem_check(problem)
    program = MigrationProgram(problem)
    cost, total = np.zeros(len(program.frozen.lower)), 0.0
    for service in problem.services:
        for weight, moved in ((service.input_ratio, program.columns.prompts), (1.0, program.columns.answers)):
            cost[moved[service.slug][-1]] -= weight
            total += weight * float(program.facts.demand[service.slug][-1])
    if not total:
        return MostShare(0.0, 0.0, None)
    found = _search(program, should_stop).best(cost / total, memory=memory)
    if found.values is None:
        return MostShare(0.0, 0.0 if found.is_infeasible else min(1.0, -found.bound), None, found.by_clock)
    return MostShare(-found.objective, min(1.0, -found.bound), found.values, found.by_clock)


def _search(program: MigrationProgram, should_stop: Stop) -> Search:
    opened = program.columns.opened
    return Search(
        program.frozen,
        np.array(list(opened.values()), dtype=np.int64).reshape(len(opened), program.count),
        program.problem.solver,
        waves_most=program.problem.rules.waves_most,
        should_stop=should_stop,
    )


def _plan_from(problem: PlanProblem, start: FloatArray, should_stop: Stop) -> MigrationAnswer:
    """Return a plan at least as cheap as one that is known, where a search from nothing found none in its time."""
    program = MigrationProgram(problem)
    found = _search(program, should_stop).best(program.money, constant=program.constant, start=start)
    solved = polish(program, start if found.values is None else found.values, should_stop=should_stop)
    plan = plan_of(program, solved, sense="money, from the plan of the largest share")
    note = replace(plan.solver, nodes=found.nodes, stopped_by_clock=found.by_clock)
    bound = found.bound + program.constant
    if note.objective is not None and np.isfinite(bound):
        bound = min(bound, note.objective)
        note = replace(note, bound=bound, gap_ratio=(note.objective - bound) / max(abs(note.objective), 1e-9))
    return replace(plan, solver=note)


def pareto_point(
    problem: PlanProblem,
    asked_ratio: float | None,
    *,
    most: MostShare | None = None,
    memory: Memory | None = None,
    should_stop: Stop = never,
) -> ParetoPoint:
    """Return the plan with one floor on all tokens of the last period in place of the problem's, or with none.

    Parameters
    ----------
    asked_ratio : float or None
        The floor; None: no floor. [-]
    most : MostShare, optional
        Where to begin if a search from nothing finds no plan in its time.
    memory : Memory, optional
        Stages that an earlier call for the same point has finished.
    """
    floors: tuple[FloorValues, ...] = ()
    if asked_ratio is not None:
        floors = (FloorValues(ratio=asked_ratio, period=len(problem.periods) - 1, basis=TOKENS),)
    asked = replace(problem, floors=floors)
    answer = plan_migration(asked, memory=memory, should_stop=should_stop)
    known = most if most is not None and (asked_ratio or 0.0) <= most.share_ratio else None
    if answer.status == NO_PLAN and known is not None and known.point is not None:
        answer = _plan_from(asked, known.point, should_stop)
    return ParetoPoint(
        asked_ratio=asked_ratio,
        status=answer.status,
        reached_ratio=homegrown_ratio(asked, answer) if answer.is_plan else None,
        objective=answer.solver.objective,
        gap_ratio=answer.solver.gap_ratio,
        binds=binds(asked, answer, should_stop=should_stop) if answer.is_plan else (),
        conflict=answer.conflict if answer.status == INFEASIBLE else (),
        answer=answer,
    )


def binds(problem: PlanProblem, answer: MigrationAnswer, *, should_stop: Stop = never) -> tuple[str, ...]:
    """Return what holds a plan back, in words, what one unit more would save most of first.

    Openings are kept and hosts may be parts of one: then every other requirement has a price. Waves come last, where a
    period has as many as may be: they have no price.
    """
    program = MigrationProgram(problem)
    point = point_of(program, Reading(problem, answer))
    opened = np.zeros(len(point), dtype=bool)
    for at in program.columns.opened.values():
        opened[at] = True
    solved = solve(
        replace(program.frozen, whole=opened), program.money, problem.solver, fixed=point, should_stop=should_stop
    )
    named: list[str] = []
    if solved.duals is not None:
        worth = np.bincount(
            program.frozen.row_requirement, weights=np.abs(solved.duals), minlength=len(program.frozen.requirements)
        )
        for at in np.argsort(-worth, kind="stable"):
            one = program.frozen.requirements[at]
            if worth[at] > 1e-6 and one.kind in {"limit", "supply", "offers", "floor", "ramp", "rollback", "failover"}:
                subject = one.subject.split(": ", 1)[-1] if one.kind == "floor" else one.subject
                named.append(WORDS[one.kind].format(subject=subject))
    named = named[:BINDS_MOST]
    most = problem.rules.waves_most
    periods = [row.period for row in answer.opened]
    if most is not None and any(periods.count(period) >= most for period in set(periods)):
        named.append(WORDS["waves"].format(subject="fleet"))
    return tuple(named)
