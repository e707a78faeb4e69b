"""HiGHS, asked so that the same program gives the same answer: fixed seed and threads, a stop by gap and nodes.

A long solve can be interrupted, and can start from a point.
"""

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import highspy
import numpy as np
from scipy.sparse import csc_array, vstack

from scenarios.planning.problem import SolverValues
from scenarios.planning.program import FloatArray, Frozen

LOOK_S = 0.2  # whether to stop is looked up at most so often
TOLERANCE = 1e-9
SCALED_TO = 1e3  # the middle of all costs, as the solver sees them

Status = highspy.HighsModelStatus
NAME = f"HiGHS {highspy.Highs().version()}"


class StoppedError(Exception):
    """Somebody does not want the answer any more."""


Stop = Callable[[], bool]
"""Whether nobody wants the answer any more."""


def never() -> bool:
    """Return that somebody wants the answer."""
    return False


@dataclass(frozen=True, eq=False)
class Solved:
    """What the solver found.

    Attributes
    ----------
    values : float64[C] or None
        The best point found; None: there is none.
    objective, bound : float
        Of that point, and what no point is below.
    is_proven : bool
        Whether the search ended by itself: by the gap, or because nothing is feasible.
    is_infeasible : bool
        Whether it is proven that no point keeps all rows.
    by_clock : bool
        Whether the time limit ended it.
    duals : float64[R]
        By how much the objective falls for a row's limit raised by one; of a linear program.
    """

    values: FloatArray | None
    objective: float
    bound: float
    is_proven: bool
    is_infeasible: bool
    by_clock: bool
    nodes: int
    status: str
    duals: FloatArray | None = None

    @property
    def point(self) -> FloatArray:
        """The best point found; ArithmeticError if there is none."""
        if self.values is None:
            raise ArithmeticError(f"the solver found no point: {self.status}")
        return self.values


def solve(
    program: Frozen,
    cost: FloatArray,
    options: SolverValues,
    *,
    relaxed: bool = False,
    start: FloatArray | None = None,
    fixed: FloatArray | None = None,
    extra: tuple[tuple[FloatArray, float], ...] = (),
    should_stop: Stop = never,
    until_s: float | None = None,
    constant: float = 0.0,
) -> Solved:
    """Minimise cost x over a program.

    Parameters
    ----------
    relaxed : bool
        Whole columns may take any number.
    start : float64[C], optional
        A point to begin with.
    fixed : float64[C], optional
        Whole columns are kept at these values; what is left is a linear program.
    extra : tuple of (float64[C], float)
        Rows more: coefficients, and the most that they may come to.
    until_s : float, optional
        Time on the monotonic clock at which to stop; by default the time limit of the options, from now.
    constant : float
        What the objective has beside cost x: the gap is over both. It is not in what is returned.

    Raises
    ------
    StoppedError
        If `should_stop` says so.
    """
    limit_s = options.time_limit_s if until_s is None else max(until_s - time.monotonic(), 0.1)
    is_linear = relaxed or fixed is not None or not program.whole.any()
    used = np.abs(cost[cost != 0])
    scale = SCALED_TO / float(np.median(used)) if len(used) else 1.0
    model = _model(program, cost * scale, fixed, extra, is_linear=is_linear)
    model.offset_ = constant * scale
    with _threads(options.threads):
        for way in ("ipm" if relaxed else "choose", "simplex"):
            highs = highspy.Highs()
            for name, value in _options(options, limit_s, way):
                highs.setOptionValue(name, value)
            highs.passModel(model)
            if start is not None and not is_linear:
                point = highspy.HighsSolution()
                point.col_value = list(start)
                highs.setSolution(point)
            _listen(highs, should_stop)
            highs.run()
            if should_stop():
                raise StoppedError
            if highs.getModelStatus() in ENDINGS:
                return _solved(highs, program, scale, constant, is_linear=is_linear)
    raise ArithmeticError(f"the solver gave up: {highs.modelStatusToString(highs.getModelStatus())}")


ENDINGS = {
    *(Status.kOptimal, Status.kInfeasible, Status.kUnboundedOrInfeasible, Status.kModelEmpty),
    *(Status.kTimeLimit, Status.kSolutionLimit, Status.kIterationLimit),
}
"""What a solve may end with; after anything else it is begun once more in another way."""


def _options(options: SolverValues, limit_s: float, way: str) -> list[tuple[str, Any]]:
    given: list[tuple[str, Any]] = [
        ("output_flag", False),
        ("random_seed", options.seed),
        ("threads", options.threads),
        ("solver", way),
        ("mip_rel_gap", options.gap_ratio),
        ("mip_abs_gap", 0.0 if options.gap_ratio == 0 else 1e-6),
        ("mip_feasibility_tolerance", 1e-7),
        ("time_limit", limit_s),
    ]
    return given if options.nodes_most is None else [*given, ("mip_max_nodes", options.nodes_most)]


@contextmanager
def _threads(count: int) -> Iterator[None]:
    """Let a solve use more than one thread: the solver's pool is one for the process, of one size at a time."""
    if count == 1:
        yield
        return
    highspy.Highs.resetGlobalScheduler(True)  # noqa: FBT003 -- it takes no name
    try:
        yield
    finally:
        highspy.Highs.resetGlobalScheduler(True)  # noqa: FBT003 -- it takes no name


def _model(
    program: Frozen,
    cost: FloatArray,
    fixed: FloatArray | None,
    extra: tuple[tuple[FloatArray, float], ...],
    *,
    is_linear: bool,
) -> highspy.HighsLp:
    matrix = program.matrix
    if extra:
        matrix = vstack([matrix, csc_array(np.array([row for row, _most in extra]))], format="csc")
    lower, upper = program.lower.copy(), program.upper.copy()
    if fixed is not None:
        lower[program.whole] = upper[program.whole] = fixed[program.whole]
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = matrix.shape[1], matrix.shape[0]
    model.col_cost_, model.col_lower_, model.col_upper_ = cost, lower, upper
    model.row_lower_ = np.concatenate((program.row_lower, np.full(len(extra), -np.inf)))
    model.row_upper_ = np.concatenate((program.row_upper, np.array([most for _row, most in extra])))
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_ = matrix.indptr
    model.a_matrix_.index_ = matrix.indices
    model.a_matrix_.value_ = matrix.data
    if not is_linear:
        kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
        model.integrality_ = [kinds[int(whole)] for whole in program.whole]
    return model


def _listen(highs: highspy.Highs, should_stop: Stop) -> None:
    """Let the solver ask now and then whether to stop."""
    if should_stop is never:
        return
    looked_s = time.monotonic()

    def look(event: highspy.highs.HighsCallbackEvent) -> None:
        nonlocal looked_s
        now_s = time.monotonic()
        if now_s - looked_s >= LOOK_S:
            looked_s = now_s
            if should_stop():
                event.interrupt()

    for callback in (highs.cbMipInterrupt, highs.cbSimplexInterrupt, highs.cbIpmInterrupt):
        callback.subscribe(look)


def _solved(highs: highspy.Highs, program: Frozen, scale: float, constant: float, *, is_linear: bool) -> Solved:
    status, info = highs.getModelStatus(), highs.getInfo()
    has_point = info.primal_solution_status == highspy.SolutionStatus.kSolutionStatusFeasible
    point = highs.getSolution()
    objective = info.objective_function_value / scale - constant if has_point else np.inf
    is_infeasible = status in {Status.kInfeasible, Status.kUnboundedOrInfeasible}
    is_optimal = status == Status.kOptimal
    if is_linear:
        bound = objective if is_optimal else -np.inf
    else:
        bound = info.mip_dual_bound / scale - constant if np.isfinite(info.mip_dual_bound) else -np.inf
    duals = None
    if is_linear and is_optimal:
        duals = -np.array(point.row_dual[: len(program.row_lower)]) / scale
    return Solved(
        values=np.array(point.col_value) if has_point else None,
        objective=objective,
        bound=min(bound, objective),
        is_proven=is_optimal or is_infeasible,
        is_infeasible=is_infeasible,
        by_clock=status == Status.kTimeLimit,
        nodes=max(int(info.mip_node_count), 0),
        status=highs.modelStatusToString(status),
        duals=duals,
    )
