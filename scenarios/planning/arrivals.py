"""New hosts come, stand as far as limits allow, or wait; and what stops the next one. Values in, values out."""

import math
from collections import Counter
from dataclasses import dataclass

import numpy as np

from scenarios.planning.draws import Future
from scenarios.planning.problem import LimitValues, PlanProblem
from scenarios.planning.program import BoolArray, FloatArray, IntArray

ROUNDING = 1e-9  # of what one host takes: so much may be missing for want of digits


@dataclass(frozen=True, eq=False)
class Walked:
    """What stands and what waits in one future.

    Attributes
    ----------
    new : int64[P, K, T]
        New hosts that stand, by place, kind and period. [-]
    waiting : int64[S, K, T]
        Delivered hosts that no limit lets in yet, by site, kind and period. [-]
    free : float64[L, T]
        What stays free of every limit from the period on, with all that is to come into places by then. [limit's unit]
    """

    new: IntArray
    waiting: IntArray
    free: FloatArray


@dataclass(frozen=True, slots=True)
class Stop:
    """What stops the next host at a site: no more hosts (`limit` None), or a limit and what makes it bind."""

    kind: int
    limit: LimitValues | None
    constraint: str = ""
    free: float = 0.0
    needed: float = 0.0


class Ground:
    """What every future of a problem shares: what stands, what limits leave, who takes what of them.

    Attributes
    ----------
    standing : int64[P, K, T]
        Hosts that stand if nothing is done, by place, kind and period. [-]
    up : float64[P, K, T]
        Share of the hosts, new ones too, that can serve. [-]
    places_of : tuple of int64 arrays
        Places of every site.
    """

    def __init__(self, problem: PlanProblem) -> None:
        self.problem = problem
        count, places = len(problem.periods), problem.located
        self.place_at = {place.slug: at for at, place in enumerate(places)}
        self.kind_at = {kind.slug: at for at, kind in enumerate(problem.kinds)}
        self.site_at = {site.slug: at for at, site in enumerate(problem.sites)}
        self.standing = np.zeros((len(places), len(problem.kinds), count), dtype=np.int64)
        for row in problem.standing:
            self.standing[self.place_at[row.place], self.kind_at[row.kind]] = problem.at(row.hosts)
        self.up: FloatArray = np.ones(self.standing.shape)
        for (place, kind), ratio in problem.up_ratios.items():
            self.up[self.place_at[place], self.kind_at[kind]] = ratio
        self.site_of = np.array([self.site_at[place.site] for place in places], dtype=np.int64)
        self.places_of = tuple(np.flatnonzero(self.site_of == at) for at in range(len(problem.sites)))
        left = np.array([problem.at(limit.limit) for limit in problem.limits]).reshape(len(problem.limits), count)
        self.uses: dict[tuple[int, int], list[tuple[int, float]]] = {}
        self._constraint: dict[tuple[int, int, int], str] = {}  # of a use, where it is not the limit's own
        for at, limit in enumerate(problem.limits):
            for use in limit.uses:
                if use.amount > 0:
                    pair = self.place_at[use.place], self.kind_at[use.kind]
                    self.uses.setdefault(pair, []).append((at, use.amount))
                    self._constraint[at, *pair] = use.constraint or limit.constraint
                    left[at] -= use.amount * self.standing[pair]
        self.left = left  # float64[L, T]: what standing hosts leave in each period
        # what a host dated later will need is not free now
        self.free = np.minimum.accumulate(left[:, ::-1], axis=1)[:, ::-1] if len(left) else left
        self._free_rows = self.free.T.tolist()
        loosens = np.diff(self.free, axis=1, prepend=-np.inf) > 0 if len(left) else np.zeros((0, count))
        self._loosens: BoolArray = np.asarray(loosens.any(axis=0), dtype=bool)

    def walk(self, future: Future) -> Walked:
        """Let what comes stand, in order of arrival, in the first places of its site that limits leave room in.

        What finds none waits and tries again, before what comes later, whenever a limit leaves more.
        """
        problem, count = self.problem, len(self.problem.periods)
        new, waiting = np.zeros_like(self.standing), np.zeros((len(problem.sites), len(problem.kinds), count), int)
        taken = [0.0] * len(problem.limits)
        queue: list[list[int]] = []  # site, kind, hosts left
        order = sorted(range(len(problem.deliveries)), key=lambda at: (int(future.arrival[at]), at))
        rows = [problem.deliveries[at] for at in order]
        comes = [
            (int(future.arrival[at]), self.site_at[row.site], self.kind_at[row.kind], int(future.arrival_hosts[at]))
            for at, row in zip(order, rows, strict=True)
        ]
        taken_at = np.zeros((len(problem.limits), count))
        upto = 0
        for period in range(count):
            if queue and self._loosens[period]:
                for entry in queue:
                    entry[2] -= self._stand(new, taken, period, *entry)
                queue = [entry for entry in queue if entry[2]]
            while upto < len(comes) and comes[upto][0] <= period:
                _, site, kind, hosts = comes[upto]
                upto += 1
                hosts -= self._stand(new, taken, period, site, kind, hosts)
                if hosts:
                    queue.append([site, kind, hosts])
            for site, kind, hosts in queue:
                waiting[site, kind, period] += hosts
            taken_at[:, period] = taken
        left = self.left - taken_at
        free = np.minimum.accumulate(left[:, ::-1], axis=1)[:, ::-1] if len(left) else left
        return Walked(new=new, waiting=waiting, free=free)

    def _stand(self, new: IntArray, taken: list[float], period: int, site: int, kind: int, hosts: int) -> int:
        """Let up to so many hosts stand at a site from a period on; return how many do."""
        done, free = 0, self._free_rows[period]
        for place in self.places_of[site].tolist():
            uses = self.uses.get((place, kind), ())
            here = hosts - done
            for limit, amount in uses:
                here = min(here, max(0, math.floor((free[limit] - taken[limit]) / amount + ROUNDING)))
            if here:
                new[place, kind, period:] += here
                for limit, amount in uses:
                    taken[limit] += amount * here
                done += here
                if done == hosts:
                    break
        return done

    def stop(self, walked: Walked, future: Future, *, site: int, period: int) -> Stop:
        """Return what stops the next host of the kind that waits, or else of the kind that the site mostly gets."""
        kind = self._next_kind(walked, future, site, period)
        found: list[tuple[float, int, float, str]] = []  # hosts that would fit, limit, amount, what makes it bind
        for place in self.places_of[site].tolist():
            uses = self.uses.get((place, kind), ())
            fits = [
                (float(walked.free[limit, period]) / amount, limit, amount, self._constraint[limit, place, kind])
                for limit, amount in uses
            ]
            if not fits or min(fits)[0] + ROUNDING >= 1:
                return Stop(kind=kind, limit=None)
            found.append(min(fits))
        if not found:
            return Stop(kind=kind, limit=None)
        times = Counter(constraint for *_fits, constraint in found)
        most = max(sorted(times), key=times.__getitem__)
        _hosts, limit, amount, _constraint = max(one for one in found if one[3] == most)
        free = float(walked.free[limit, period])
        return Stop(kind=kind, limit=self.problem.limits[limit], constraint=most, free=free, needed=amount)

    def _next_kind(self, walked: Walked, future: Future, site: int, period: int) -> int:
        """Return the kind whose next host is asked about: most waiting, else most ordered, else most standing."""
        ordered = np.zeros(len(self.problem.kinds))
        for at, row in enumerate(self.problem.deliveries):
            if self.site_at[row.site] == site:
                ordered[self.kind_at[row.kind]] += future.arrival_hosts[at]
        standing = self.standing[self.places_of[site], :, period].sum(axis=0)
        for counts in (walked.waiting[site, :, period], ordered, standing):
            if counts.any():
                return int(np.argmax(counts))
        return 0
