"""Why there is no plan: the smallest set of requirements that cannot all be kept, in words.

Requirements are rows of the program by what they stand for. The set is found by hitting sets: requirements chosen so
far are kept, the others are broken as little as can be, and those that had to be broken are noted. Every set that
conflicts has one of each such note; the smallest choice that has, and that cannot be kept, is a smallest conflict.
"""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from scipy.sparse import csc_array, hstack

from scenarios.planning.migration_program import MigrationProgram
from scenarios.planning.plan import ConflictRow
from scenarios.planning.problem import PlanProblem
from scenarios.planning.program import FloatArray, Frozen, Requirement
from scenarios.planning.solver import Stop, never, solve

BROKEN_RATIO = 1e-6  # of a row's numbers: less is the solver's tolerance
NODES_MOST, GAP_RATIO = 200, 0.1  # of a search for what has to be broken where whole numbers matter

ALWAYS = {"kept", "new", "opened", "open", "moved", "one site", "capacity"}
"""What is no requirement but the way the world is: it is never dropped."""

WORDS = {
    "demand": "{subject} is served what it demands, no more and no less",
    "ready": "{subject} opens not before its software is ready and its traffic has been copied",
    "left": "{subject} has left its GPUs in time",
    "supply": "new {subject} are no more than are delivered or bought",
    "offers": "no more {subject} are bought than are offered",
    "limit": "hosts keep within {subject}",
    "waves": "no more kinds open in a period than may",
    "shadow": "traffic is copied before {subject} opens",
    "rollback": "traffic of {subject} that has moved can return",
    "ramp": "{subject} moves no faster than may be",
    "floor": "homegrown tokens are at least {subject}",
    "order": "{subject}",
    "failover": "{subject} is still served",
}


def conflict_find(program: MigrationProgram, *, should_stop: Stop = never) -> tuple[ConflictRow, ...]:
    """Return the smallest set of requirements that conflict.

    Empty if none is found: the program has a point after all, or the time did not do.
    """
    frozen, problem = program.frozen, program.problem
    may = frozenset(at for at, one in enumerate(frozen.requirements) if one.kind not in ALWAYS)
    relaxed = broken_least(frozen, problem, may, relaxed=True, should_stop=should_stop) is None
    notes: list[frozenset[int]] = []
    while True:
        chosen = _least_hitting(notes)
        broken = broken_least(frozen, problem, chosen, relaxed=relaxed, should_stop=should_stop)
        if broken is None:
            return tuple(_row(frozen.requirements[at]) for at in sorted(chosen))
        if not broken:
            return ()
        notes.append(broken)


def broken_least(
    program: Frozen, problem: PlanProblem, chosen: frozenset[int], *, relaxed: bool, should_stop: Stop = never
) -> frozenset[int] | None:
    """Return the requirements that are broken, as little as can be, when those chosen are kept; None if they cannot be.

    None of them is named where the clock ended the search for them.

    Parameters
    ----------
    relaxed : bool
        Whether hosts and openings may be in parts.
    """
    may = np.array([one.kind not in ALWAYS and at not in chosen for at, one in enumerate(program.requirements)])
    loose = np.flatnonzero(may[program.row_requirement])
    size = np.maximum(1.0, np.maximum(*(_finite(bound[loose]) for bound in (program.row_lower, program.row_upper))))
    slack = csc_array((np.ones(len(loose)), (loose, np.arange(len(loose)))), shape=(len(program.row_lower), len(loose)))
    columns = len(program.lower)
    elastic = replace(
        program,
        matrix=hstack([program.matrix, slack, -slack], format="csc"),
        lower=np.concatenate((program.lower, np.zeros(2 * len(loose)))),
        upper=np.concatenate((program.upper, np.full(2 * len(loose), np.inf))),
        whole=np.concatenate((program.whole, np.zeros(2 * len(loose), dtype=bool))),
    )
    cost = np.concatenate((np.zeros(columns), 1 / size, 1 / size))
    options = replace(problem.solver, gap_ratio=GAP_RATIO, nodes_most=NODES_MOST)
    solved = solve(elastic, cost, options, relaxed=relaxed, should_stop=should_stop)
    if solved.is_infeasible:
        return None
    if solved.values is None and solved.by_clock:
        return frozenset()
    broken = solved.point[columns : columns + len(loose)] + solved.point[columns + len(loose) :]
    return frozenset(program.row_requirement[loose[broken > BROKEN_RATIO * size]].tolist())


def _finite(bound: FloatArray) -> FloatArray:
    return np.abs(np.where(np.isfinite(bound), bound, 0.0))


def _least_hitting(sets: Sequence[frozenset[int]]) -> frozenset[int]:
    """Return a smallest set that has a member of every set; the first in order among equals."""
    best: frozenset[int] | None = None

    def walk(chosen: frozenset[int]) -> None:
        nonlocal best
        if best is not None and len(chosen) >= len(best):
            return
        missed = [one for one in sets if not one & chosen]
        if not missed:
            best = chosen
            return
        fewest = missed[int(np.argmin([len(one) for one in missed]))]
        for at in sorted(fewest):
            walk(chosen | {at})

    walk(frozenset())
    return best if best is not None else frozenset()


def _row(requirement: Requirement) -> ConflictRow:
    subject = requirement.subject.split(": ", 1)[-1] if requirement.kind == "floor" else requirement.subject
    return ConflictRow(
        requirement=requirement.kind,
        subject=requirement.subject,
        sentence=WORDS[requirement.kind].format(subject=subject),
    )
