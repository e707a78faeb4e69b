"""The search for a plan: relax, round the openings, look around them, then the hosts, then the solver's own tree.

Few openings decide most of a plan, and the relaxed program says within a few percent when each should be. Every stage
stops by gap or nodes, so the same problem gives the same plan; the clock is the last stop.
"""

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from scenarios.planning.memory import Memory
from scenarios.planning.problem import SolverValues
from scenarios.planning.program import BoolArray, FloatArray, Frozen, IntArray
from scenarios.planning.solver import Solved, Stop, never, solve

ROUND_AT = (0.1, 0.25, 0.5, 0.8)  # an opening is taken in the first period in which the relaxed one is so far open
NODES_AROUND = 60  # of the search around the rounded openings
HOSTS_AROUND = 1.0  # hosts are looked for within so many of the relaxed ones
SMALL_WHOLE = 60  # up to so many whole decisions the solver's own tree is the quickest way
STAGE_GAP = 0.4  # of the gap asked for, for a stage that only looks for plans
STAGE_TIME = 0.35  # of the time left, for such a stage at most

Row = tuple[FloatArray, float]


@dataclass(frozen=True, eq=False)
class Found:
    """The best point, what no point is below, and how the search ended. Values None: no point was found."""

    values: FloatArray | None
    objective: float
    bound: float
    is_infeasible: bool
    by_clock: bool
    nodes: int
    status: str


class Search:
    """One program searched for one cost after the other.

    Parameters
    ----------
    program : Frozen
        The program.
    openings : int64[W, T]
        Columns that open a way: 0, then 1 for good.
    waves_most : int or None
        Ways opened in a period at most. [-]
    constant : float
        What is added to every objective, so that gaps are over what a plan really costs.
    on_stage : callable
        Called with a few words at the start of each stage.
    """

    def __init__(
        self,
        program: Frozen,
        openings: IntArray,
        options: SolverValues,
        *,
        waves_most: int | None,
        should_stop: Stop = never,
        on_stage: Callable[[str], None] = lambda _stage: None,
    ) -> None:
        self._program, self._openings, self._options = program, openings, options
        self._waves_most, self._should_stop, self._on_stage = waves_most, should_stop, on_stage
        self._until_s = time.monotonic() + options.time_limit_s
        self._nodes = 0
        self._by_clock = False

    def best(
        self,
        cost: FloatArray,
        *,
        constant: float = 0.0,
        extra: tuple[Row, ...] = (),
        start: FloatArray | None = None,
        memory: Memory | None = None,
    ) -> Found:
        """Return the point of least cost within the gap asked for, under extra rows, from a point or none."""
        memory = memory or Memory()
        self._nodes, self._by_clock = 0, False
        if start is None and (self._options.gap_ratio == 0 or self._program.whole.sum() <= SMALL_WHOLE):
            return self._tree(cost, constant, extra, None, -np.inf)

        def stage(name: str, work: Callable[[], Solved]) -> Solved:
            self._on_stage(name)
            return self._noted(memory.stage(name, work))

        relaxed = stage("relaxed plan", lambda: self._solve(self._program, cost, extra, relaxed=True))
        if relaxed.values is None:
            return self._found(relaxed, relaxed.bound)
        best = stage("rounded plan", lambda: self._rounded(cost, extra, relaxed, start))
        if best.values is not None:
            rounded = best
            opened = stage("waves", lambda: self._around(cost, constant, extra, relaxed, rounded))
            best = stage("hosts", lambda: self._hosts(cost, constant, extra, opened))
        if best.values is not None and _gap(best.objective, relaxed.objective, constant) <= self._options.gap_ratio:
            return self._found(best, relaxed.objective)
        return self._tree(cost, constant, extra, best, relaxed.objective)

    # --- stages -------------------------------------------------------------------------------------------------------
    def _rounded(self, cost: FloatArray, extra: tuple[Row, ...], relaxed: Solved, start: FloatArray | None) -> Solved:
        """Fix the openings of the relaxed plan at several roundings, with hosts in parts; return the best."""
        choices = [self._first(relaxed.point, at) for at in ROUND_AT]
        if start is not None:
            choices.insert(0, self._first(start, 0.5))
        best: Solved | None = None
        known: set[bytes] = set()
        for first in choices:
            if first.tobytes() in known:
                continue
            known.add(first.tobytes())
            tried = self._solve(self._opened(first, first, hosts_whole=False), cost, extra)
            if best is None or tried.objective < best.objective:
                best = tried
        return best if best is not None else relaxed

    def _around(
        self, cost: FloatArray, constant: float, extra: tuple[Row, ...], relaxed: Solved, best: Solved
    ) -> Solved:
        """Let every way open between where the relaxed plan begins to open it and where it is all open."""
        first, early, late = (
            self._first(best.point, 0.5),
            self._first(relaxed.point, 1e-6, delayed=False),
            self._first(relaxed.point, 1 - 1e-6, delayed=False),
        )
        part = self._opened(np.minimum(first, early), np.maximum(first, late), hosts_whole=False)
        tried = self._stage(part, cost, constant, extra, start=best.point)
        if tried.values is not None and tried.objective < best.objective:
            return tried
        return replace(best, nodes=tried.nodes, by_clock=tried.by_clock)

    def _hosts(self, cost: FloatArray, constant: float, extra: tuple[Row, ...], best: Solved) -> Solved:
        """Keep the openings; let hosts be whole, near what they are in parts."""
        first = self._first(best.point, 0.5)
        part = self._opened(first, first, hosts_whole=True)
        hosts = self._program.whole.copy()
        hosts[self._openings.ravel()] = False
        lower, upper = part.lower.copy(), part.upper.copy()
        lower[hosts] = np.maximum(lower[hosts], np.floor(best.point[hosts] + 1e-7) - HOSTS_AROUND)
        upper[hosts] = np.minimum(upper[hosts], np.ceil(best.point[hosts] - 1e-7) + HOSTS_AROUND)
        near = self._stage(replace(part, lower=lower, upper=upper), cost, constant, extra)
        if near.values is None:
            near = self._stage(part, cost, constant, extra)
        if near.values is None:  # fewer hosts break no limit; what they do not serve may be short
            floor = np.where(hosts, np.floor(best.point + 1e-7), best.point)
            near = self._solve(replace(part, whole=self._program.whole), cost, extra, fixed=floor)
        return near

    def _tree(
        self, cost: FloatArray, constant: float, extra: tuple[Row, ...], best: Solved | None, bound: float
    ) -> Found:
        """Search all of the program, from the best plan so far."""
        self._on_stage("proof")
        start = None if best is None else best.values
        solved = self._noted(self._solve(self._program, cost, extra, start=start, constant=constant))
        if solved.values is None and best is not None and best.values is not None:
            solved = replace(best, bound=solved.bound, by_clock=solved.by_clock, status=solved.status)
        return self._found(solved, max(bound, solved.bound))

    def _stage(
        self,
        program: Frozen,
        cost: FloatArray,
        constant: float,
        extra: tuple[Row, ...],
        *,
        start: FloatArray | None = None,
    ) -> Solved:
        """Look for plans in a part of the program, for a part of the time."""
        now_s = time.monotonic()
        return self._solve(
            program,
            cost,
            extra,
            start=start,
            constant=constant,
            nodes_most=NODES_AROUND,
            gap=STAGE_GAP,
            until_s=now_s + STAGE_TIME * max(self._until_s - now_s, 0.0),
        )

    # --- parts of the program -----------------------------------------------------------------------------------------
    def _first(self, values: FloatArray, at: float, *, delayed: bool = True) -> IntArray:
        """Return the first period in which each way is open so far, T: never; delayed where a period has too many."""
        is_open = values[self._openings] >= at
        count = self._openings.shape[1]
        first = np.where(is_open.any(axis=1), is_open.argmax(axis=1), count)
        if not delayed or self._waves_most is None:
            return first
        was_open = self._program.lower[self._openings[:, 0]] > 0
        used = np.zeros(count + 1, dtype=np.int64)
        weight = values[self._openings].sum(axis=1)
        for way in sorted(np.flatnonzero(~was_open & (first < count)), key=lambda way: (first[way], -weight[way], way)):
            while first[way] < count and used[first[way]] >= self._waves_most:
                first[way] += 1
            used[first[way]] += 1
        return first

    def _opened(self, early: IntArray, late: IntArray, *, hosts_whole: bool) -> Frozen:
        """Return the program in which every way opens between two periods; T: it may stay closed."""
        lower, upper = self._program.lower.copy(), self._program.upper.copy()
        periods = np.arange(self._openings.shape[1])
        closed, opened = periods[None, :] < early[:, None], periods[None, :] >= late[:, None]
        upper[self._openings[closed]] = np.minimum(upper[self._openings[closed]], lower[self._openings[closed]])
        may = self._openings[opened]
        lower[may] = upper[may]
        whole: BoolArray = self._program.whole.copy()
        if not hosts_whole:
            whole[:] = False
            whole[self._openings.ravel()] = True
        return replace(self._program, lower=lower, upper=upper, whole=whole)

    def _solve(
        self,
        program: Frozen,
        cost: FloatArray,
        extra: tuple[Row, ...],
        *,
        relaxed: bool = False,
        start: FloatArray | None = None,
        nodes_most: int | None = -1,
        gap: float = 1.0,
        constant: float = 0.0,
        fixed: FloatArray | None = None,
        until_s: float | None = None,
    ) -> Solved:
        options = replace(
            self._options,
            gap_ratio=self._options.gap_ratio * gap,
            nodes_most=self._options.nodes_most if nodes_most == -1 else nodes_most,
        )
        return solve(
            program,
            cost,
            options,
            relaxed=relaxed,
            start=start,
            extra=extra,
            should_stop=self._should_stop,
            until_s=self._until_s if until_s is None else until_s,
            constant=constant,
            fixed=fixed,
        )

    def _noted(self, solved: Solved) -> Solved:
        """Count what a stage took."""
        self._nodes += solved.nodes
        self._by_clock |= solved.by_clock
        return solved

    def _found(self, solved: Solved, bound: float) -> Found:
        return Found(
            values=solved.values,
            objective=solved.objective,
            bound=min(bound, solved.objective),
            is_infeasible=solved.is_infeasible,
            by_clock=self._by_clock,
            nodes=self._nodes,
            status=solved.status,
        )


def _gap(objective: float, bound: float, constant: float) -> float:
    """Return the gap over the size of the objective. [-]"""
    return max(0.0, objective - bound) / max(abs(objective + constant), 1e-9)
