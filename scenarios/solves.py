"""Long solves by HiGHS inside a step: stopped when nobody wants the answer, begun again from the best one found so far.

A mixed-integer program may sit for many minutes in one call. HiGHS calls back from inside it several times a second:
there it is told to stop, and each better solution is left behind for the next attempt. No database, no framework.
"""

import io
from dataclasses import dataclass
from typing import Any, cast

import highspy
import numpy as np

from fleet.snapshot import FloatArray
from scenarios.pipelines import StepContext


@dataclass(frozen=True, eq=False)
class Solved:
    """What came of a solve.

    Attributes
    ----------
    values : float64[columns]
        The best solution found.
    objective : float
        Its worth, in the unit of the objective. [any]
    gap_ratio : float
        How far from it a better one could at most be, over its worth; 0 if none is better. [-]
    is_proven : bool
        Whether the gap asked for was reached. If not, the clock ended it, and the same question may end elsewhere.
    """

    values: FloatArray
    objective: float
    gap_ratio: float
    is_proven: bool


def milp_solve(solver: highspy.Highs, context: StepContext, *, what: str = "solve") -> Solved:
    """Solve a mixed-integer program that is set up, limits of gap and time included.

    Parameters
    ----------
    solver : highspy.Highs
        Holds the model; its callbacks are used here.
    context : StepContext
        Asked whether to stop, told how far it is, and given every better solution.
    what : str
        What the progress calls it.

    Raises
    ------
    ValueError
        If there is no solution, or none was found in time.
    """
    left = context.checkpoint_load()
    if left is not None:
        solver.setSolution(_solution(np.load(io.BytesIO(left), allow_pickle=False)))
    watch, asked = _Watch(context, what), cast("Any", solver)
    calls = (
        (asked.cbMipInterrupt, watch.interrupt),
        (asked.cbSimplexInterrupt, watch.stop),
        (asked.cbIpmInterrupt, watch.stop),
        (asked.cbMipImprovingSolution, watch.improve),
    )
    for event, call in calls:
        event.subscribe(call)
    try:
        solver.run()
    finally:
        for event, _ in calls:
            event.clear()
    if watch.error:
        raise watch.error
    context.report(1.0, what)  # raises if it was stopped because nobody wants it any more
    info, status = solver.getInfo(), solver.getModelStatus()
    if info.primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        raise ValueError(f"{what}: no solution was found: {solver.modelStatusToString(status)}")
    return Solved(
        values=np.array(solver.getSolution().col_value, dtype=np.float64),
        objective=float(info.objective_function_value),
        gap_ratio=float(info.mip_gap),
        is_proven=status == highspy.HighsModelStatus.kOptimal,
    )


class _Watch:
    """What the solver calls while it solves. An exception must not pass through it: it would end the process."""

    def __init__(self, context: StepContext, what: str) -> None:
        self.context, self.what, self.gap_ratio = context, what, float("inf")
        self.error: Exception | None = None

    def stop(self, event: Any) -> None:
        if self.context.should_stop():
            event.interrupt()

    def interrupt(self, event: Any) -> None:
        self.stop(event)
        gap_ratio = min(self.gap_ratio, float(event.data_out.mip_gap))
        if gap_ratio < self.gap_ratio:
            self.gap_ratio = gap_ratio
            told = f"{self.what}, gap {gap_ratio:.2%}"
            try:
                self.context.report(max(0.0, 1.0 - gap_ratio), told)
            except Exception as error:  # noqa: BLE001 -- raised again once the solver has returned
                self.error = error
                event.interrupt()

    def improve(self, event: Any) -> None:
        buffer = io.BytesIO()
        np.save(buffer, np.array(event.data_out.mip_solution, dtype=np.float64), allow_pickle=False)
        self.context.checkpoint_save(buffer.getvalue())


def _solution(values: FloatArray) -> highspy.HighsSolution:
    solution = highspy.HighsSolution()
    solution.col_value = list(values)
    return solution
