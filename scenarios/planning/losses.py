"""What goes unserved when hosts of some kinds are lost, or do not come, and loads move as best they can.

Decisions stay as the plan has them; only loads change. Rules of moving (ramp, way back, copies, floors, failover) give
way: after a loss all that counts is what can still be served.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np

from scenarios.planning.comparisons import rows_dropped, short_allowed
from scenarios.planning.measures import SUPPLIERS
from scenarios.planning.migration_program import MigrationProgram
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import PlanProblem
from scenarios.planning.program import FloatArray
from scenarios.planning.reading import Reading, point_of
from scenarios.planning.solver import Stop, never, solve

KEPT = {"demand", "one site", "capacity", "open", "left", "moved", "opened"}
"""Requirements that hold after a loss too."""


@dataclass(frozen=True, slots=True)
class LossRow:
    """Traffic of a service that goes unserved after a loss, beyond what the plan leaves unserved."""

    period: int
    service: str
    tok_s: float  # in the peak hour [tok/s]
    mtok: float  # output tokens over the period [Mtok]


def unserved_after(
    problem: PlanProblem,
    answer: MigrationAnswer,
    left_ratio: Mapping[str, float],
    *,
    period: int = 0,
    new_only: bool = False,
    should_stop: Stop = never,
) -> tuple[LossRow, ...]:
    """Return what goes unserved, at least, if of some kinds only a share of the hosts is left.

    Parameters
    ----------
    left_ratio : mapping of kind to float
        Share of the hosts that is left; kinds that are not named lose nothing. [-]
    period : int
        First period in which they are lost.
    new_only : bool
        Whether only hosts that the plan adds are lost, as if they had not come.
    """
    program = MigrationProgram(problem)
    reading = Reading(problem, answer)
    point = point_of(program, reading)
    for part in (program.columns.new,) if new_only else (program.columns.kept, program.columns.new):
        for (_place, kind), at in part.items():
            point[at[period:]] *= left_ratio.get(kind, 1.0)
    gives_way = {one.kind for one in program.frozen.requirements} - KEPT
    frozen = short_allowed(program, rows_dropped(program.frozen, gives_way))
    lower = frozen.lower.copy()
    for slug, at in program.columns.short.items():  # what the plan leaves unserved stays so
        lower[at] = np.minimum(reading.short.get(("", slug), 0.0), frozen.upper[at])
    frozen = replace(frozen, lower=lower)
    solved = solve(frozen, _weights(program, reading), problem.solver, fixed=point, should_stop=should_stop)
    rows = []
    for slug, at in program.columns.short.items():
        more = solved.point[at] - reading.short.get(("", slug), 0.0)
        mtok = more * reading.facts.penalty_price(1.0, reading.services[slug])
        lost = more > 1e-6 * np.maximum(reading.demand[slug], 1e-9)
        rows += [LossRow(int(t), slug, float(more[t]), float(mtok[t])) for t in np.flatnonzero(lost) if t >= period]
    return tuple(sorted(rows, key=lambda row: (row.period, row.service)))


def supplier_losses(
    problem: PlanProblem, answer: MigrationAnswer, *, period: int = 0, should_stop: Stop = never
) -> dict[tuple[str, str, str], float]:
    """Return the output tokens that go unserved, over the horizon, without one supplier. [Mtok]

    Keys are (vendor, foundry or hbm_maker; its name; `delivers nothing` or `switched off`), from a period on.
    """
    lost: dict[tuple[str, str, str], float] = {}
    for role in SUPPLIERS:
        for name in sorted({getattr(kind, role) for kind in problem.kinds} - {""}):
            left = {kind.slug: 0.0 for kind in problem.kinds if getattr(kind, role) == name}
            for words, new_only in (("delivers nothing", True), ("switched off", False)):
                rows = unserved_after(problem, answer, left, period=period, new_only=new_only, should_stop=should_stop)
                lost[role, name, words] = sum(row.mtok for row in rows)
    return lost


def _weights(program: MigrationProgram, reading: Reading) -> FloatArray:
    """Return what a token short weighs: gold ten times any other, so that it is served first; float64[C]."""
    now, _after = program.tokens_short()
    for slug, service in reading.services.items():
        if service.tier == reading.problem.rules.failover_tier:
            now[program.columns.short[slug]] *= 10
    return now
