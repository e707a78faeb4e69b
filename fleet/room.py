"""How many more hosts of a type a fleet takes from a day on, for good. Values in, values out."""

import hashlib
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, fields, replace
from datetime import date

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from fleet.fits import CLOSED, Fit, FitStop, HostNeed, RackRoom, Stopped, fits_most, gaps_fit
from fleet.snapshot import DAY_MAX, FleetSnapshot, KindFact, TreeFacts
from fleet.trees import BoolArray, FloatArray, IntArray, SupplyTree


class Room:
    """What is free in a fleet from a day on, asked for one host type after the other.

    Hosts that are asked about come on the day and stay: units in which any host stands then or later are taken, and of
    power, heat, weight and ports a rack counts with the most that it carries on any later day. They fit under the trees
    of the day, and of every later day on which a node or a link goes. That racks reach their highest loads on one day
    makes the answers safe ones.

    `more`, int64[R, K], are hosts of each kind that are put into each rack first, wherever its units are free. [-]
    """

    def __init__(self, snapshot: FleetSnapshot, day: date, more: IntArray | None = None) -> None:
        self.fill(_Standing(snapshot, day), more)

    def fill(self, standing: "_Standing", more: IntArray | None) -> None:
        """Begin with what stands; `with_more` begins with what stands in another room."""
        snapshot = standing.snapshot
        if more is None:
            more = np.zeros((len(snapshot.rack_slugs), len(snapshot.kinds)), dtype=np.int64)
        self.standing = standing
        self._most_w, self._most_va, most_u, most_kg, most_ports = (
            most + more @ per_kind for most, per_kind in zip(standing.most, standing.per_kind, strict=True)
        )
        self._most_u = most_u
        self._free_kg, self._free_ports = snapshot.rack_weight_limit_kg - most_kg, snapshot.rack_ports - most_ports
        rack, kind = np.nonzero(more)
        counts = more[rack, kind]
        self._rack = np.concatenate((standing.rack, np.repeat(rack, counts)))
        self._kind = np.concatenate((standing.kind, np.repeat(kind, counts)))
        unknown = np.zeros(counts.sum(), dtype=np.int64)
        self._position_u = np.concatenate((standing.position_u, unknown))

    def with_more(self, more: IntArray) -> "Room":
        """Return the same room with these hosts put in instead, int64[R, K]; what stands and the trees are shared."""
        other = Room.__new__(Room)
        other.fill(self.standing, more)
        return other

    def fit(self, kind: KindFact, racks: BoolArray | None = None, *, with_stops: bool = True) -> Fit:
        """Return how many more hosts of a kind fit into some racks, bool[R], or all, and what stops the next one."""
        standing = self.standing
        snapshot = standing.snapshot
        room = RackRoom(
            slugs=snapshot.rack_slugs,
            is_open=standing.is_open,
            hosts_by_units=gaps_fit(
                rack_height_u=snapshot.rack_height_u,
                host_rack=self._rack,
                host_position_u=self._position_u,
                host_height_u=snapshot.kind_height_u[self._kind],
                height_u=kind.height_u,
            ),
            free_u=snapshot.rack_height_u - self._most_u.astype(np.int64),
            free_w=snapshot.rack_power_limit_w - self._most_w,
            free_heat_w=snapshot.rack_cooling_limit_w - self._most_w,
            free_kg=self._free_kg,
            free_ports=self._free_ports,
            is_liquid=snapshot.rack_is_liquid,
        )
        power, *later_power = standing.power
        cooling, *later_cooling = standing.cooling
        return fits_most(
            need=HostNeed(
                height_u=kind.height_u,
                power_w=kind.power_w,
                apparent_va=kind.apparent_va,
                heat_w=kind.power_w,
                ports=kind.ports,
                weight_kg=kind.weight_kg,
                is_liquid=kind.cooling == "liquid",
            ),
            room=room,
            power=power,
            power_load=self._most_va,
            cooling=cooling,
            heat_load=self._most_w,
            scope=racks,
            later_power=later_power,
            later_cooling=later_cooling,
            with_stops=with_stops,
        )


class _Standing:
    """What a fleet holds from a day on before anything is put in, and the trees of the day and of later ones."""

    def __init__(self, snapshot: FleetSnapshot, day: date) -> None:
        racks = len(snapshot.rack_slugs)
        self.snapshot = snapshot
        self.is_open = snapshot.rack_open(day)
        self.power_days = [day, *leaving_days(snapshot.power, day)]
        self.cooling_days = [day, *leaving_days(snapshot.cooling, day)]
        self.power = [snapshot.power.on(at, racks) for at in self.power_days]
        self.cooling = [snapshot.cooling.on(at, racks) for at in self.cooling_days]
        self.per_kind: tuple[FloatArray, ...] = (
            snapshot.kind_power_w,
            snapshot.kind_apparent_va,
            snapshot.kind_height_u.astype(np.float64),
            np.array([kind.weight_kg for kind in snapshot.kinds], dtype=np.float64),
            np.array([kind.ports for kind in snapshot.kinds], dtype=np.float64),
        )
        self.most = [rack_most(snapshot, day, per_kind) for per_kind in self.per_kind]
        stays = snapshot.host_last_day > day.toordinal()
        self.rack, self.kind = snapshot.host_rack[stays], snapshot.host_kind[stays]
        self.position_u = snapshot.host_position_u[stays]


def leaving_days(tree: TreeFacts, day: date) -> list[date]:
    """Return the days after one on which a node or a link of a tree goes."""
    last = np.concatenate((tree.last_day, tree.link_last_day))
    return [date.fromordinal(at) for at in np.unique(last[(last > day.toordinal()) & (last < DAY_MAX)]).tolist()]


def rack_most(snapshot: FleetSnapshot, day: date, per_kind: FloatArray) -> FloatArray:
    """Return the highest sum of a figure of kinds over the hosts in each rack, on any day from then on, float64[R].

    Every host that comes or goes is an event; a host that goes on the day on which another comes goes first.
    """
    first = np.maximum(snapshot.host_first_day, day.toordinal())
    counts = snapshot.host_last_day > first
    rack, each = snapshot.host_rack[counts], per_kind[snapshot.host_kind[counts]]
    days = np.concatenate((first[counts], snapshot.host_last_day[counts]))
    racks, change = np.concatenate((rack, rack)), np.concatenate((each, -each))
    order = np.lexsort((change, days, racks))
    racks, total = racks[order], np.cumsum(change[order])
    most = np.zeros(len(snapshot.rack_slugs))
    if len(racks):
        starts = np.flatnonzero(np.r_[True, racks[1:] != racks[:-1]])
        before = np.r_[0.0, total[starts[1:] - 1]]  # of every rack all that comes also goes: it is nearly zero
        most[racks[starts]] = np.maximum.reduceat(total, starts) - before
    return np.maximum(most, 0.0)


# --- part by part: sites that share no node are asked apart -----------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Part:
    """Sites that share nodes of a tree, nearly always a single one, as a fleet of their own."""

    sites: IntArray
    racks: IntArray
    room: Room

    def tree_of(self, at: int) -> tuple[str, int]:
        """Return which tree a stop is about, so that it is the same in all parts: its kind and its day. [d]"""
        standing = self.room.standing
        days = [("power", day) for day in standing.power_days] + [("cooling", day) for day in standing.cooling_days]
        return (days[at][0], days[at][1].toordinal()) if at >= 0 else ("", 0)


class SiteRooms:
    """The room of a fleet from a day on, asked about whole sites; what was answered about a site is kept.

    Sites that share no node with others fill up independently, so the room of several is the sum of theirs, and what
    stops the next host is theirs together: the same answer as `Room` gives about all their racks at once.
    """

    def __init__(self, snapshot: FleetSnapshot, day: date) -> None:
        self._snapshot, self._day = snapshot, day
        self._part_of_site, count = _parts(snapshot)
        self._parts: list[_Part | None] = [None] * count
        self._kept: dict[tuple[int, int, bytes, bytes, bool], Fit] = {}

    def fit(self, kind: int, sites: Sequence[int], more: IntArray | None = None, *, with_stops: bool = True) -> Fit:
        """Return how many more hosts of a kind, by its position, fit into the racks of some sites, and what stops more.

        Parameters
        ----------
        kind : int
            Position of the kind.
        sites : sequence of int
            Positions of the sites.
        more : int64[N, 3], optional
            Hosts that are put in first: rack, kind, and how many; by rack.
        with_stops : bool
            Whether to find out what stops more.
        """
        found: list[tuple[_Part, Fit]] = []
        asked = np.zeros(len(self._snapshot.sites), dtype=bool)
        asked[list(sites)] = True
        for at in np.unique(self._part_of_site[asked]).tolist():
            part = self._part(at)
            found.append((part, self._fit_of(at, part, kind, asked[part.sites], more, with_stops)))
        return _together(found)

    def _part(self, at: int) -> _Part:
        part = self._parts[at]
        if part is None:
            sites = np.flatnonzero(self._part_of_site == at)
            racks = np.flatnonzero(np.isin(self._snapshot.rack_site, sites))
            part = _Part(sites, racks, Room(_cut(self._snapshot, sites, racks), self._day))
            standing = part.room.standing
            standing.power = [tree_shared(tree) for tree in standing.power]
            standing.cooling = [tree_shared(tree) for tree in standing.cooling]
            self._parts[at] = part
        return part

    def _fit_of(
        self,
        at: int,
        part: _Part,
        kind: int,
        asked: BoolArray,
        more: IntArray | None,
        with_stops: bool,  # noqa: FBT001
    ) -> Fit:
        here = np.zeros((0, 3), dtype=np.int64)
        if more is not None and len(more) and len(part.racks):
            where = np.searchsorted(part.racks, more[:, 0])
            ours = part.racks[np.minimum(where, len(part.racks) - 1)] == more[:, 0]
            here = np.column_stack((where[ours], more[ours, 1:]))
        key = (at, kind, asked.tobytes(), here.tobytes(), with_stops)
        if key not in self._kept:
            room, snapshot = part.room, part.room.standing.snapshot
            if len(here):
                put = np.zeros((len(part.racks), len(snapshot.kinds)), dtype=np.int64)
                np.add.at(put, (here[:, 0], here[:, 1]), here[:, 2])
                room = room.with_more(put)
            scope = None if asked.all() else np.isin(self._snapshot.rack_site[part.racks], part.sites[asked])
            self._kept[key] = room.fit(snapshot.kinds[kind], scope, with_stops=with_stops)
        return self._kept[key]


TREES_KEPT = 120
"""Trees of sites that a process keeps with all that was worked out of them: days and fleets share most. [-]"""

_trees: OrderedDict[bytes, SupplyTree] = OrderedDict()
_trees_lock = threading.Lock()


def tree_shared(tree: SupplyTree) -> SupplyTree:
    """Return the tree that is kept in place of an equal one, so that what follows from it is worked out once."""
    total = hashlib.sha256("\n".join(tree.slugs).encode())
    for one in fields(tree):
        if one.name not in {"slugs", "racks"}:
            total.update(np.ascontiguousarray(getattr(tree, one.name)).tobytes())
    key = total.digest() + tree.racks.to_bytes(8, "little")
    with _trees_lock:
        kept = _trees.setdefault(key, tree)
        _trees.move_to_end(key)
        while len(_trees) > TREES_KEPT:
            _trees.popitem(last=False)
    return kept


def _parts(snapshot: FleetSnapshot) -> tuple[IntArray, int]:
    """Return the part of each site, int64[sites], and how many parts there are: what shares a node or a link is one."""
    one, other = [], []
    for tree in (snapshot.power, snapshot.cooling):
        one += [tree.site[tree.link_node], snapshot.rack_site[tree.leaf_rack]]
        other += [tree.site[tree.link_source], tree.site[tree.leaf_node]]
    ends = np.concatenate(one), np.concatenate(other)
    sites = len(snapshot.sites)
    count, label = connected_components(coo_array((np.ones(len(ends[0])), ends), shape=(sites, sites)), directed=False)
    return label.astype(np.int64), int(count)


def _cut(snapshot: FleetSnapshot, sites: IntArray, racks: IntArray) -> FleetSnapshot:
    """Return what `Room` reads of a fleet, for some racks and the trees of their sites."""
    place = np.full(len(snapshot.rack_slugs), -1, dtype=np.int64)
    place[racks] = np.arange(len(racks))
    hosts = place[snapshot.host_rack] >= 0
    of_hosts = ("host_kind", "host_position_u", "host_first_day", "host_last_day")
    of_racks = (
        *("rack_height_u", "rack_power_limit_w", "rack_cooling_limit_w", "rack_weight_limit_kg", "rack_ports"),
        *("rack_is_liquid", "rack_first_day", "rack_last_day"),
    )
    return replace(
        snapshot,
        rack_slugs=tuple(snapshot.rack_slugs[at] for at in racks.tolist()),
        host_rack=place[snapshot.host_rack[hosts]],
        power=_tree_cut(snapshot.power, sites, place),
        cooling=_tree_cut(snapshot.cooling, sites, place),
        **{name: getattr(snapshot, name)[hosts] for name in of_hosts},
        **{name: getattr(snapshot, name)[racks] for name in of_racks},
    )


def _tree_cut(tree: TreeFacts, sites: IntArray, rack_place: IntArray) -> TreeFacts:
    nodes = np.flatnonzero(np.isin(tree.site, sites))
    place = np.full(len(tree.slugs), -1, dtype=np.int64)
    place[nodes] = np.arange(len(nodes))
    links, leaves = place[tree.link_node] >= 0, place[tree.leaf_node] >= 0
    of_links = ("link_standby", "link_first_day", "link_last_day")
    of_nodes = ("site", "usable", "efficiency_ratio", "house", "first_day", "last_day")
    return replace(
        tree,
        slugs=tuple(tree.slugs[at] for at in nodes.tolist()),
        kinds=tuple(tree.kinds[at] for at in nodes.tolist()),
        link_node=place[tree.link_node[links]],
        link_source=place[tree.link_source[links]],
        leaf_rack=rack_place[tree.leaf_rack[leaves]],
        leaf_node=place[tree.leaf_node[leaves]],
        **{name: getattr(tree, name)[links] for name in of_links},
        **{name: getattr(tree, name)[nodes] for name in of_nodes},
    )


def _together(found: Iterable[tuple[_Part, Fit]]) -> Fit:
    """Return the fit of parts as one: stops of a rack's own limits are told together, those of nodes are of one part.

    Its placing is left out: nobody asks for it.
    """
    groups: dict[tuple[str, tuple[str, int], str], list[tuple[float, int, Stopped]]] = {}
    count = 0
    for part, fit in found:
        count += fit.count
        for one in fit.stopped:
            key = (one.stop.constraint, part.tree_of(one.tree), one.node)
            groups.setdefault(key, []).append((one.lack, int(part.racks[one.rack]), one))
    total = sum(one.stop.racks for rows in groups.values() for _, _, one in rows)
    stops = []
    for rows in groups.values():
        nearest = min(rows, key=lambda row: row[:2])[2].stop
        racks = sum(one.stop.racks for _, _, one in rows)
        stops.append(replace(nearest, racks=racks, share_ratio=racks / total))
    stops.sort(key=lambda stop: (-stop.racks, stop.constraint, stop.object))
    return Fit(count, np.zeros(0, dtype=np.int64), tuple(stops) or (FitStop(CLOSED, "", "", 1.0, 0),))
