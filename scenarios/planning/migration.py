"""The migration planner: a problem in, a plan out, optimal or with a stated gap; or the requirements that conflict."""

from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scenarios.planning.accounts import answer_of
from scenarios.planning.conflicts import conflict_find
from scenarios.planning.holding import Held, frozen_held
from scenarios.planning.memory import Memory
from scenarios.planning.migration_program import MigrationProgram
from scenarios.planning.plan import FEASIBLE, INFEASIBLE, NO_PLAN, OPTIMAL, MigrationAnswer, SolverNote
from scenarios.planning.problem import NPV, SHARE_FIRST, PlanProblem, problem_check
from scenarios.planning.program import FloatArray
from scenarios.planning.search import Found, Row, Search
from scenarios.planning.solver import NAME, Solved, Stop, never, solve

KEPT_RATIO = 1e-6  # of what an earlier aim came to: later aims may give up no more
SAME_MONEY, SAME_RATIO = 1e-3, 1e-8  # a tenth of a cent, or so much of the objective: the solver tells no finer
SENSES = {NPV: "money of the first period", SHARE_FIRST: "money, after tokens unserved and homegrown tokens"}


def plan_migration(
    problem: PlanProblem,
    *,
    memory: Memory | None = None,
    held: Held | None = None,
    should_stop: Stop = never,
    on_stage: Callable[[str], None] = lambda _stage: None,
) -> MigrationAnswer:
    """Return the best migration plan for a problem; docs/models/plan.md has the mathematics.

    Loads are divisible, hosts and openings whole. Replicas are not rounded here: `scenarios.planning.rounding` does it.

    Parameters
    ----------
    problem : PlanProblem
        The question.
    memory : Memory, optional
        Stages that an earlier call for the same problem has finished; it gets those that this one finishes.
    held : Held, optional
        A plan whose decisions before a period are kept.
    should_stop : callable, optional
        Asked now and then whether nobody wants the answer any more.
    on_stage : callable, optional
        Called with a few words at the start of each stage.

    Returns
    -------
    MigrationAnswer
        With status `infeasible` and the smallest set of requirements that conflict where there is no plan, and
        `no_plan` where the time did not do to find one.

    Raises
    ------
    ProblemError
        If the problem contradicts itself.
    StoppedError
        If `should_stop` says so.
    """
    problem_check(problem)
    program = MigrationProgram(problem)
    if held is not None:
        program.frozen = frozen_held(program, held)
    found, extra = _search(program, memory or Memory(), should_stop, on_stage)
    note = _note(program, found)
    if found.values is None:
        if not found.is_infeasible:
            return MigrationAnswer(status=NO_PLAN, solver=note)
        on_stage("conflict")
        conflict = conflict_find(program, should_stop=should_stop)
        note = replace(note, stopped_by_clock=note.stopped_by_clock or not conflict)
        return MigrationAnswer(status=INFEASIBLE, solver=note, conflict=conflict)
    on_stage("account")
    polished = polish(program, found.values, extra=extra, should_stop=should_stop)
    objective = polished.objective + program.constant
    bound = min(found.bound + program.constant, objective)
    if objective - bound <= max(SAME_MONEY, SAME_RATIO * abs(objective)):
        bound = objective
    gap_ratio = (objective - bound) / max(abs(objective), 1e-9)
    note = replace(note, objective=float(objective), bound=float(bound), gap_ratio=float(gap_ratio))
    polished = replace(polished, duals=worth(program, polished.point, extra=extra, should_stop=should_stop))
    is_good = gap_ratio <= max(problem.solver.gap_ratio, 1e-9)
    return answer_of(program, polished, status=OPTIMAL if is_good else FEASIBLE, note=note)


def polish(
    program: MigrationProgram, values: FloatArray, *, extra: tuple[Row, ...] = (), should_stop: Stop = never
) -> Solved:
    """Return the best loads for the whole decisions of a point, under extra rows, with what limits are worth."""
    fixed = np.where(program.frozen.whole, np.round(values), values)
    return solve(
        program.frozen, program.money, program.problem.solver, fixed=fixed, extra=extra, should_stop=should_stop
    )


def worth(
    program: MigrationProgram, values: FloatArray, *, extra: tuple[Row, ...] = (), should_stop: Stop = never
) -> FloatArray | None:
    """Return what one more of each row's limit would save, with the openings of a point kept and hosts divisible.

    With whole hosts a limit that is nearly reached is worth nothing, and so is every limit that only hosts take.
    """
    openings = np.zeros(len(program.frozen.lower), dtype=bool)
    for columns in program.columns.opened.values():
        openings[columns] = True
    fixed = np.where(openings, np.round(values), values)
    divisible = replace(program.frozen, whole=openings)
    options = program.problem.solver
    return solve(divisible, program.money, options, fixed=fixed, extra=extra, should_stop=should_stop).duals


def _aims(program: MigrationProgram) -> tuple[FloatArray, ...]:
    """Return what comes before money: tokens unserved, then after a failure, then homegrown tokens, negative."""
    if program.problem.rules.objective == NPV:
        return ()
    now, after = program.tokens_short()
    return now, after, -program.tokens_homegrown()


def _search(
    program: MigrationProgram, memory: Memory, should_stop: Stop, on_stage: Callable[[str], None]
) -> tuple[Found, tuple[Row, ...]]:
    """Search for one aim after the other; return the last point, and the rows that keep the aims before it."""
    columns = program.columns.opened
    search = Search(
        program.frozen,
        np.array(list(columns.values()), dtype=np.int64).reshape(len(columns), program.count),
        program.problem.solver,
        waves_most=program.problem.rules.waves_most,
        should_stop=should_stop,
        on_stage=on_stage,
    )
    extra: tuple[Row, ...] = ()
    start: FloatArray | None = None
    by_clock = False
    for at, aim in enumerate(_aims(program)):
        if not aim.any():
            continue
        found = search.best(aim, extra=extra, start=start, memory=memory.under(f"aim {at}"))
        by_clock |= found.by_clock
        if found.values is None:
            return found, extra
        extra += ((aim, found.objective + KEPT_RATIO * max(1.0, abs(found.objective))),)
        start = found.values
    last = search.best(program.money, constant=program.constant, extra=extra, start=start, memory=memory.under("money"))
    return replace(last, by_clock=last.by_clock or by_clock), extra


def _note(program: MigrationProgram, found: Found) -> SolverNote:
    rows, columns = program.frozen.matrix.shape
    return SolverNote(
        name=NAME,
        status=found.status,
        objective=None,
        bound=None,
        gap_ratio=None,
        sense=SENSES[program.problem.rules.objective],
        nodes=found.nodes,
        columns=columns,
        rows=rows,
        integers=int(program.frozen.whole.sum()),
        stopped_by_clock=found.by_clock,
    )
