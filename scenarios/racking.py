"""A plan's hosts into racks: rack by rack, exact, under every limit of racks and of what feeds and cools them.

The planner thinks in places; a place whose racks take a few hosts fewer than it thought is told so, and the plan is
made again. Values in, values out.
"""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import date

import numpy as np

from fleet.fits import FitStop
from fleet.room import Room
from fleet.snapshot import FleetSnapshot, FloatArray, IntArray
from fleet.trees import TreeLoads, tree_loads
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import LimitValues, PlanProblem, Series

SLACK = 1e-6  # of a limit: what rounding may add
NEAREST_NODES = 12  # shown of each month


@dataclass(frozen=True, slots=True)
class RackChange:
    """Hosts of a kind that come into a rack in a month, or leave it (negative)."""

    month: str
    place: str
    rack: str
    kind: str
    hosts: int


@dataclass(frozen=True, slots=True)
class Homeless:
    """Hosts of the plan that found no rack in a month, and what stops the next one."""

    month: str
    place: str
    kind: str
    hosts: int
    constraint: str
    object: str


@dataclass(frozen=True, slots=True)
class FeedLoad:
    """A node of power as the plan loads it: now, after the failure that loads it most, and what it bears. [VA]"""

    month: str
    site: str
    node: str
    now_va: float
    worst_va: float
    failure: str
    usable_va: float
    before_va: float


@dataclass(frozen=True, eq=False)
class Racking:
    """Where the plan's hosts go, which found no rack, and the nodes of power nearest their limits."""

    changes: tuple[RackChange, ...]
    homeless: tuple[Homeless, ...]
    feeds: tuple[FeedLoad, ...]
    over: tuple[FeedLoad, ...]


def plan_rack(
    snapshot: FleetSnapshot, problem: PlanProblem, answer: MigrationAnswer, months: Sequence[date]
) -> Racking:
    """Put the hosts of a plan into racks, month by month; send those away that the plan sends away.

    Of a kind that leaves a place, hosts go from the racks with the fewest of them: racks become free as a whole.
    """
    walk = _Walk(snapshot, problem, months)
    kept = {(row.period, row.place, row.kind): row.kept for row in answer.hosts}
    new = {(row.period, row.place, row.kind): row.new for row in answer.hosts}
    for period, month in enumerate(months):
        for place in walk.racks:
            for k, kind in enumerate(snapshot.kinds):
                walk.leave(period, place, k, kept.get((period, place, kind.slug), 0))
        for place in walk.racks:
            for k, kind in enumerate(snapshot.kinds):
                walk.come(period, place, k, new.get((period, place, kind.slug), 0))
        walk.look(period, month)
    return Racking(tuple(walk.changes), tuple(walk.homeless), tuple(walk.feeds), tuple(walk.over))


def problem_tightened(problem: PlanProblem, racking: Racking) -> PlanProblem:
    """Return the problem with less room where and when hosts found no rack: by the share of the room that they take.

    Hosts that stand keep their room.
    """
    rooms = {limit.object: limit for limit in problem.limits if limit.constraint == "room"}
    shares = {(room.object, use.kind): use.amount for room in rooms.values() for use in room.uses}
    missing: dict[tuple[str, str], float] = defaultdict(float)
    for row in racking.homeless:
        missing[row.place, row.month] += shares.get((row.place, row.kind), 1.0) * row.hosts
    standing: dict[str, FloatArray] = defaultdict(lambda: np.zeros(len(problem.periods)))
    for held in problem.standing:
        standing[held.place] += shares.get((held.place, held.kind), 0.0) * np.array(problem.at(held.hosts))

    def less(room: LimitValues) -> Series:
        return tuple(
            max(min(most, float(standing[room.object][at])), most - missing[room.object, month])
            for at, (month, most) in enumerate(zip(problem.periods, problem.at(room.limit), strict=True))
        )

    return replace(
        problem,
        limits=tuple(
            replace(limit, limit=less(limit)) if limit.constraint == "room" else limit for limit in problem.limits
        ),
    )


class _Walk:
    """Racks through the months of a plan."""

    def __init__(self, snapshot: FleetSnapshot, problem: PlanProblem, months: Sequence[date]) -> None:
        self._snapshot, self._months = snapshot, months
        self._labels = problem.periods
        halls = np.array(["/".join(key.split("/")[:2]) for key in snapshot.row_keys], dtype=str)
        self.racks = {place.slug: (halls == place.slug)[snapshot.rack_row] for place in problem.located}
        asked = {place.site for place in problem.located}
        self._sites = [at for at, site in enumerate(snapshot.sites) if site.slug in asked]
        self._last_day = snapshot.host_last_day.copy()
        self._more: IntArray = np.zeros((len(snapshot.rack_slugs), len(snapshot.kinds)), dtype=np.int64)
        self._first_va = self._load_va(months[0])
        self._room: Room | None = None
        self.changes: list[RackChange] = []
        self.homeless: list[Homeless] = []
        self.feeds: list[FeedLoad] = []
        self.over: list[FeedLoad] = []

    def _now(self) -> FleetSnapshot:
        return replace(self._snapshot, host_last_day=self._last_day)

    def leave(self, period: int, place: str, kind: int, stay: int) -> None:
        """Let hosts of a kind go until so many of those that stood there stay."""
        snapshot, day = self._snapshot, self._months[period].toordinal()
        here = (snapshot.host_kind == kind) & self.racks[place][snapshot.host_rack]
        here &= (snapshot.host_first_day <= day) & (day < self._last_day)
        here &= snapshot.rack_open(self._months[period])[snapshot.host_rack]
        standing = np.flatnonzero(here)
        gone = len(standing) - stay
        if gone <= 0:
            return
        racks = snapshot.host_rack[standing]
        count = np.bincount(racks, minlength=len(snapshot.rack_slugs))
        leaving = standing[np.lexsort((standing, racks, count[racks]))][:gone]
        self._last_day[leaving] = day
        self._room = None
        for rack, hosts in zip(*np.unique(snapshot.host_rack[leaving], return_counts=True), strict=True):
            self._change(period, place, int(rack), kind, -int(hosts))

    def come(self, period: int, place: str, kind: int, wanted: int) -> None:
        """Put new hosts of a kind into racks until so many stand there, or no rack takes another."""
        racks = self.racks[place]
        missing = wanted - int(self._more[racks, kind].sum())
        if missing <= 0:
            return
        if self._room is None:
            self._room = Room(self._now(), self._months[period], self._more)
        fit = self._room.fit(self._snapshot.kinds[kind], racks)
        left = missing
        for rack in np.flatnonzero(fit.hosts):
            hosts = min(left, int(fit.hosts[rack]))
            if hosts:
                self._more[rack, kind] += hosts
                left -= hosts
                self._change(period, place, int(rack), kind, hosts)
        self._room = None
        if left:
            stop = fit.stops[0] if fit.stops else FitStop("no_rack", "", "", 1.0, 0)
            self.homeless.append(
                Homeless(
                    month=self._labels[period],
                    place=place,
                    kind=self._snapshot.kinds[kind].slug,
                    hosts=left,
                    constraint=stop.constraint,
                    object=stop.object,
                )
            )

    def look(self, period: int, month: date) -> None:
        """Note the nodes of power nearest their limits, and those over them that were not so from the start."""
        facts = self._snapshot.power
        if not len(facts.slugs):
            return
        tree = facts.on(month, len(self._snapshot.rack_slugs))
        loads, first = tree_loads(tree, self._load_va(month)), tree_loads(tree, self._first_va)
        known = np.isfinite(tree.usable) & (tree.usable > 0) & np.isin(facts.site, self._sites)
        ratio = np.divide(loads.worst, tree.usable, out=np.zeros(len(tree.usable)), where=known)
        nearest = np.argsort(-ratio, kind="stable")[:NEAREST_NODES]
        for node in np.flatnonzero(ratio > 1 + SLACK):
            if loads.worst[node] > first.worst[node] * (1 + SLACK):
                self.over.append(self._feed(period, loads, first.worst, int(node)))
        self.feeds.extend(self._feed(period, loads, first.worst, int(node)) for node in nearest if ratio[node] > 0)

    def _feed(self, period: int, loads: TreeLoads, before_va: FloatArray, node: int) -> FeedLoad:
        slugs, failure = self._snapshot.power.slugs, int(loads.worst_failure[node])
        return FeedLoad(
            month=self._labels[period],
            site=self._snapshot.sites[int(self._snapshot.power.site[node])].slug,
            node=slugs[node],
            now_va=float(loads.now[node]),
            worst_va=float(loads.worst[node]),
            failure=slugs[failure] if failure >= 0 else "",
            usable_va=float(loads.usable[node]),
            before_va=float(before_va[node]),
        )

    def _load_va(self, month: date) -> FloatArray:
        per_kind = self._snapshot.kind_apparent_va
        return self._now().rack_sum(per_kind, month) + self._more @ per_kind

    def _change(self, period: int, place: str, rack: int, kind: int, hosts: int) -> None:
        self.changes.append(
            RackChange(
                month=self._labels[period],
                place=place,
                rack=self._snapshot.rack_slugs[rack],
                kind=self._snapshot.kinds[kind].slug,
                hosts=hosts,
            )
        )
