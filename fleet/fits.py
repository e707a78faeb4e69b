"""How many more hosts fit into racks, and what stops the next one. Values in, values out."""

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from scipy import sparse
from scipy.optimize import Bounds, LinearConstraint, milp
from scipy.sparse import csgraph

from fleet.trees import (
    BoolArray,
    FloatArray,
    IntArray,
    SupplyTree,
    TreePart,
    rack_limits,
    tree_parts,
    tree_shares,
)

POWER, UNITS = "rack_power", "rack_units"


def hosts_fit(*, free_w: FloatArray, free_u: IntArray, host_w: float, host_u: int) -> IntArray:
    """Return how many more hosts of one kind each rack takes under its power and its height.

    Parameters
    ----------
    free_w : float64[R]
        Power still free in each rack; negative where it is overdrawn. [W]
    free_u : int64[R]
        Rack units still free. [U]
    host_w, host_u : float, int
        Power to plan with and height of one host. [W], [U]

    Returns
    -------
    int64[R]
        Whole hosts, never negative. Exact for hosts of one kind: racks do not share power or height. [-]
    """
    by_power = np.floor(free_w / host_w + 1e-9)
    by_height = free_u // max(host_u, 1)
    return np.maximum(0, np.minimum(by_power, by_height)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Stop:
    """What stops the next host: the constraint, the share of racks it stops [-], and the rack that comes closest."""

    constraint: str
    share_ratio: float
    rack: int


def stops(*, free_w: FloatArray, free_u: IntArray, host_w: float, host_u: int) -> list[Stop]:
    """Return what stops one more host once the racks are full, the most frequent constraint first.

    A rack that has neither the power nor the height counts for the one it lacks more of.
    """
    if not len(free_w):
        return []
    count = hosts_fit(free_w=free_w, free_u=free_u, host_w=host_w, host_u=host_u)
    lack_w = 1 - (free_w - count * host_w) / host_w  # above 0: that share of a host is missing
    lack_u = 1 - (free_u - count * host_u) / max(host_u, 1)
    by_power = lack_w >= lack_u
    found = []
    for constraint, racks, lack in ((POWER, by_power, lack_w), (UNITS, ~by_power, lack_u)):
        if racks.any():
            nearest = int(np.flatnonzero(racks)[np.argmin(lack[racks])])
            found.append(Stop(constraint, float(racks.mean()), nearest))
    return sorted(found, key=lambda stop: -stop.share_ratio)


def hosts_place(*, wanted: int, room: IntArray) -> IntArray:
    """Return how many of `wanted` hosts go into each rack, first racks first, int64[R]. [-]"""
    before = np.concatenate(([0], np.cumsum(room)[:-1])) if len(room) else np.zeros(0, dtype=np.int64)
    return np.clip(wanted - before, 0, room).astype(np.int64)


# --- exact, with everything that racks share --------------------------------------------------------------------------
CABINET_COOLING, COOLING_KIND, PORTS, WEIGHT, CLOSED = "rack_cooling", "cooling_kind", "ports", "weight", "rack_closed"
FEED_FAILOVER, POWER_NODE, COOLING_NODE = "feed_failover_power", "power_node", "cooling_node"
MANY = 10**9  # hosts: no limit
SLACK_RATIO = 1e-9  # of a limit: by so much a sum of floats may be off


class FitError(ValueError):
    """More hosts are wanted than fit."""


@dataclass(frozen=True, slots=True)
class HostNeed:
    """What one host takes: height [U], power [W], apparent power [VA] and heat [W] to plan with, ports, weight [kg]."""

    height_u: int
    power_w: float
    apparent_va: float
    heat_w: float
    ports: int = 0
    weight_kg: float = 0.0
    is_liquid: bool = False


@dataclass(frozen=True, eq=False)
class RackRoom:
    """What is free in each rack, before anything that racks share.

    Attributes
    ----------
    slugs : tuple of str, length R
        Names.
    is_open : bool[R]
        Whether anything may be put in.
    hosts_by_units, free_u : int64[R]
        Whole hosts that the gaps take: `gaps_fit`; free units in all. [-], [U]
    free_w, free_heat_w, free_kg, free_ports : float64[R]
        Of the cabinet's own limits; inf where nobody knows. [W], [W], [kg], [-]
    is_liquid : bool[R]
        Whether it takes hosts with direct liquid cooling.
    """

    slugs: tuple[str, ...]
    is_open: BoolArray
    hosts_by_units: IntArray
    free_u: IntArray
    free_w: FloatArray
    free_heat_w: FloatArray
    free_kg: FloatArray
    free_ports: FloatArray
    is_liquid: BoolArray


@dataclass(frozen=True, slots=True)
class FitStop:
    """What stops one more host: the constraint, its object, the failure under which it binds, the share of racks. [-]

    `object` is a node, or of a rack's own limits the rack that comes closest; `failure` is empty where none is needed.
    """

    constraint: str
    object: str
    failure: str
    share_ratio: float
    racks: int


@dataclass(frozen=True, eq=False)
class Fit:
    """How many hosts fit, one way to place them, int64[R], and what stops the next, the most frequent first."""

    count: int
    hosts: IntArray
    stops: tuple[FitStop, ...]


def gaps_fit(
    *,
    rack_height_u: IntArray,
    host_rack: IntArray,
    host_position_u: IntArray,
    host_height_u: IntArray,
    height_u: int,
) -> IntArray:
    """Return how many whole hosts of a height the free gaps of each rack take, int64[R]. [-]

    Parameters
    ----------
    rack_height_u : int64[R]
        Usable height. [U]
    host_rack, host_position_u, host_height_u : int64[H]
        Rack, lowest unit from 1 (0: not known) and height of what stands there. [U]
    height_u : int
        Height of one more host; one of height 0 takes no unit.

    Notes
    -----
    A host whose position nobody knows is put into the lowest gap that takes it, in the order given; one that no gap
    takes is left out.
    """
    racks = len(rack_height_u)
    if height_u <= 0:
        return np.full(racks, np.iinfo(np.int32).max, dtype=np.int64)
    stands = (host_height_u > 0) & (host_position_u <= rack_height_u[host_rack])
    host_rack, host_position_u, host_height_u = host_rack[stands], host_position_u[stands], host_height_u[stands]
    known = host_position_u > 0
    order = np.lexsort((host_position_u[known], host_rack[known]))
    rack, low = host_rack[known][order], host_position_u[known][order] - 1
    high = np.minimum(low + host_height_u[known][order], rack_height_u[rack])
    # one long line on which each rack has its own stretch: the highest end so far is where the next gap begins
    base = np.concatenate(([0], np.cumsum(rack_height_u)[:-1])) if racks else np.zeros(0, dtype=np.int64)
    ends = np.maximum.accumulate(np.maximum(base[rack] + high, base[rack])) if len(rack) else high
    first = np.r_[True, rack[1:] != rack[:-1]] if len(rack) else np.zeros(0, dtype=bool)
    before = np.where(first, base[rack], np.r_[0, ends[:-1]]) if len(rack) else high
    before = np.maximum(before, base[rack])
    fits = np.bincount(rack, np.maximum(base[rack] + low - before, 0) // height_u, minlength=racks)
    last = base.copy()
    last[rack] = ends  # the last of a rack is written last
    fits += (base + rack_height_u - last) // height_u
    fits = fits.astype(np.int64)
    for at in np.unique(host_rack[~known]):
        here = host_rack == at
        fits[at] = _gaps_of_one(
            int(rack_height_u[at]), host_position_u[here].tolist(), host_height_u[here].tolist(), height_u
        )
    return fits


def _gaps_of_one(rack_u: int, positions_u: Sequence[int], heights_u: Sequence[int], height_u: int) -> int:
    """Return the same for one rack with hosts of which nobody knows the position."""
    taken = [False] * rack_u

    def gaps() -> Iterator[tuple[int, int]]:
        start = 0
        for unit in range(rack_u + 1):
            if unit == rack_u or taken[unit]:
                if unit > start:
                    yield start, unit
                start = unit + 1

    for position, high in zip(positions_u, heights_u, strict=True):
        for unit in range(position - 1, min(position - 1 + high, rack_u)) if position else ():
            taken[unit] = True
    for position, high in zip(positions_u, heights_u, strict=True):
        if not position and high:
            start = next((low for low, end in gaps() if end - low >= high), None)
            if start is not None:
                taken[start : start + high] = [True] * high
    return sum((end - low) // height_u for low, end in gaps())


def fits_most(
    *,
    need: HostNeed,
    room: RackRoom,
    power: SupplyTree,
    power_load: FloatArray,
    cooling: SupplyTree,
    heat_load: FloatArray,
    scope: BoolArray | None = None,
) -> Fit:
    """Return the largest number of hosts of one type that fit, and what stops the next one.

    Parameters
    ----------
    need : HostNeed
        One host.
    room : RackRoom
        Free in each rack by its own limits.
    power, cooling : SupplyTree
        What racks share. Every node stays within what may be drawn from it for hours, now and after any single failure.
    power_load, heat_load : float64[R]
        What each rack draws and gives off already. [VA], [W]
    scope : bool[R], optional
        Racks asked about; all by default. The others count with what they draw.

    Returns
    -------
    Fit
        Exact: an integer program over groups of racks that load the trees alike.

    Notes
    -----
    A node that is over its limit already, now or after some failure, takes no more load in that case; it does not make
    the rest impossible. Limits are kept to a relative 1e-9.
    """
    asked = room.is_open & (np.ones(len(room.slugs), dtype=bool) if scope is None else scope)
    own = _own_limits(need, room, power, power_load, cooling, heat_load)
    caps = np.where(asked, np.min([limit.hosts for limit in own], axis=0), 0)
    shared = [
        *_shared(power, power_load, need.apparent_va, POWER_NODE),
        *_shared(cooling, heat_load, need.heat_w, COOLING_NODE),
    ]
    hosts = np.zeros(len(caps), dtype=np.int64)
    for racks, parts in _components(shared, len(caps)):
        hosts[racks] = _most(caps, racks, parts)
    stops = _stops(asked, hosts, own, shared)
    return Fit(int(hosts.sum()), hosts, tuple(stops))


@dataclass(frozen=True, eq=False)
class _Limit:
    """A limit that every rack has to itself: whole hosts that it lets in, and how much of one more it would lack."""

    constraint: str
    hosts: IntArray
    free: FloatArray
    each: float
    names: Sequence[str]


def _own_limits(
    need: HostNeed,
    room: RackRoom,
    power: SupplyTree,
    power_load: FloatArray,
    cooling: SupplyTree,
    heat_load: FloatArray,
) -> list[_Limit]:
    """Return the limits of each rack by itself, those of nodes that no other rack draws on among them."""
    wet = np.where(room.is_liquid | (not need.is_liquid), np.inf, -np.inf)
    feeds, feed_names = _ends(power)
    coolers, cooler_names = _ends(cooling)
    units = _Limit(UNITS, room.hosts_by_units, room.free_u.astype(np.float64), max(need.height_u, 1), room.slugs)
    rest: list[tuple[str, FloatArray, float, Sequence[str]]] = [
        (POWER, room.free_w, need.power_w, room.slugs),
        (CABINET_COOLING, room.free_heat_w, need.heat_w, room.slugs),
        (PORTS, room.free_ports, need.ports, room.slugs),
        (WEIGHT, room.free_kg, need.weight_kg, room.slugs),
        (COOLING_KIND, wet, 1.0, room.slugs),
        (FEED_FAILOVER, feeds - power_load, need.apparent_va, feed_names),
        (f"{COOLING_NODE}_failover", coolers - heat_load, need.heat_w, cooler_names),
    ]
    return [units, *(_Limit(name, _whole(free, each), free, each, names) for name, free, each, names in rest)]


def _whole(free: FloatArray, each: float) -> IntArray:
    """Return how many whole hosts that take `each` fit into what is free, int64[R]."""
    if each <= 0:
        return np.full(len(free), MANY, dtype=np.int64)
    hosts = np.clip(free / each, 0, MANY)
    return np.floor(hosts + SLACK_RATIO * np.maximum(1.0, hosts)).astype(np.int64)


def _ends(tree: SupplyTree) -> tuple[FloatArray, list[str]]:
    """Return the largest load of each rack that its own leaf nodes bear after any failure, and the weakest of them."""
    house = np.where(np.isin(np.arange(len(tree.slugs)), tree.link_source), 0.0, tree.house)
    limits = rack_limits(replace(tree, usable=np.maximum(0.0, tree.usable - house)))
    names = [""] * tree.racks
    order = np.argsort(-tree.usable[tree.leaf_node], kind="stable")  # the weakest is written last
    for rack, node in zip(tree.leaf_rack[order].tolist(), tree.leaf_node[order].tolist(), strict=True):
        names[rack] = tree.slugs[node]
    return limits, names


@dataclass(frozen=True, eq=False)
class _Shared:
    """Limits that racks of one part of a tree share, in hosts: `share` [rows, groups] times hosts <= `free` [rows].

    `group` is that of each rack; a row is a node (`object`) under a failure (its slug, empty: none).
    """

    constraint: str
    racks: IntArray
    group: IntArray
    share: FloatArray
    free: FloatArray
    object: list[str]
    failure: list[str]
    part: TreePart
    tree: SupplyTree
    load: FloatArray
    each: float


def _shared(tree: SupplyTree, load: FloatArray, each: float, constraint: str) -> Iterator[_Shared]:
    """Yield what the racks of each part of a tree share: every node, under no failure and that of each upper node."""
    if each <= 0:
        return
    for part in tree_parts(tree):
        if not len(part.racks) or not len(part.shared):
            continue
        keys: dict[Any, int] = {}
        group = np.array([keys.setdefault(key, len(keys)) for key in part.alike()], dtype=np.int64)
        firsts = np.array([int(np.argmax(group == at)) for at in range(len(keys))], dtype=np.int64)
        alive = part.alive()
        usable = part.usable[part.shared]
        total = part.totals(alive, load[part.racks])[:, part.shared]
        share = part.shares(alive, firsts)
        free = np.where(total > usable, 0.0, usable - total + SLACK_RATIO * np.where(np.isfinite(usable), usable, 0.0))
        row, node = np.nonzero(np.isfinite(free) & share.any(axis=2))
        if not len(row):
            continue
        slugs = [tree.slugs[at] for at in part.nodes]
        yield _Shared(
            constraint=constraint,
            racks=part.racks,
            group=group,
            share=share[row, node],
            free=free[row, node] / each,
            object=[slugs[part.shared[at]] for at in node],
            failure=["" if at == 0 else slugs[part.upper[at - 1]] for at in row],
            part=part,
            tree=tree,
            load=load,
            each=each,
        )


@dataclass(frozen=True, eq=False)
class _Row:
    """A node under the failure of a feed: share of each rack's hosts that comes to it, and what is free, in hosts."""

    share: FloatArray
    free: float
    object: str
    failure: str


def _components(shared: Sequence[_Shared], racks: int) -> Iterator[tuple[IntArray, list[_Shared]]]:
    """Yield racks that share nothing with others, with what they share: a site, or a rack that is on no tree."""
    rows = np.concatenate([np.zeros(0, dtype=np.int64), *(one.racks for one in shared)])
    columns = np.concatenate(
        [np.zeros(0, dtype=np.int64), *(np.full(len(one.racks), racks + at) for at, one in enumerate(shared))]
    )
    size = racks + len(shared)
    edges = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    _, label = csgraph.connected_components(edges, directed=False)
    parts: dict[int, list[_Shared]] = defaultdict(list)
    for at, one in enumerate(shared):
        parts[int(label[racks + at])].append(one)
    free = ~np.isin(label[:racks], list(parts))
    if free.any():
        yield np.flatnonzero(free), []
    for name, inside in parts.items():
        yield np.flatnonzero(label[:racks] == name), inside


def _most(caps: IntArray, racks: IntArray, parts: Sequence[_Shared]) -> IntArray:
    """Return how many hosts go into each of some racks, so that their sum is the largest there is.

    Failures of feeds come last: that of a node above them is nearly always the harder case. Where it is not, the rows
    that a solution breaks are added, and it is sought again.
    """
    extra: list[_Row] = []
    while True:
        hosts = _program(caps[racks], racks, parts, extra)
        broken = [row for part in parts for row in _broken(part, racks, hosts)]
        if not broken:
            return hosts
        extra += broken


def _program(caps: IntArray, racks: IntArray, parts: Sequence[_Shared], extra: Sequence[_Row]) -> IntArray:
    """Solve the integer program over groups of racks that load every shared node alike."""
    place = {int(rack): at for at, rack in enumerate(racks)}
    columns: list[list[Any]] = [[] for _ in racks]
    for part in parts:
        for rack, group in zip(part.racks.tolist(), part.group.tolist(), strict=True):
            columns[place[rack]].append((id(part), group))
    for row in extra:
        for column, value in zip(columns, row.share.tolist(), strict=True):
            column.append(value)
    keys: dict[Any, int] = {}
    group = np.array([keys.setdefault(tuple(column), len(keys)) for column in columns], dtype=np.int64)
    most = np.bincount(group, caps, minlength=len(keys)).astype(np.int64)
    firsts = np.array([int(np.argmax(group == at)) for at in range(len(keys))], dtype=np.int64)
    tables, limits = [], []
    for part in parts:
        of_rack = np.full(len(racks), -1, dtype=np.int64)
        of_rack[[place[rack] for rack in part.racks.tolist()]] = part.group
        own = of_rack[firsts]
        tables.append(np.where(own >= 0, part.share[:, own], 0.0))
        limits.append(part.free)
    tables += [row.share[firsts][None, :] for row in extra]
    limits += [np.array([row.free]) for row in extra]
    counts = most
    if tables:
        table, limit = np.concatenate(tables), np.concatenate(limits)
        binds = table @ most > limit
        if binds.any():
            counts = _solved(table[binds], limit[binds], most)
    hosts = np.zeros(len(racks), dtype=np.int64)
    for at in range(len(counts)):
        inside = group == at
        hosts[inside] = hosts_place(wanted=int(counts[at]), room=caps[inside])
    return hosts


def _solved(table: FloatArray, limit: FloatArray, most: IntArray) -> IntArray:
    """Return the integers from 0 to `most` with the largest sum under table x <= limit."""
    rows = np.unique(np.column_stack([table, limit]), axis=0)
    answer = milp(
        -np.ones(len(most)),
        integrality=np.ones(len(most)),
        bounds=Bounds(0, most),
        constraints=LinearConstraint(rows[:, :-1], -np.inf, rows[:, -1]),
        options={"mip_rel_gap": 0.0},
    )
    if answer.x is None:
        raise FitError(f"the integer program was not solved: {answer.message}")
    counts: IntArray = np.rint(answer.x).astype(np.int64)
    return counts


def _broken(part: _Shared, racks: IntArray, hosts: IntArray) -> Iterator[_Row]:
    """Yield the rows of failed feeds that a placing breaks."""
    added = np.zeros(len(part.load))
    added[racks] = hosts * part.each
    inside = part.part.racks
    ends, before = part.part.end_loads(part.load[inside])
    _, after = part.part.end_loads((part.load + added)[inside])
    usable = part.part.usable[part.part.shared]
    over = (after > usable * (1 + 2 * SLACK_RATIO)) & (after > before * (1 + 2 * SLACK_RATIO))
    for node in np.flatnonzero(over.any(axis=0)):
        failed = int(np.argmax(np.where(over[:, node], after[:, node] - before[:, node], -np.inf)))
        at = int(part.part.nodes[part.part.shared[node]])
        end = int(part.part.nodes[ends[failed]])
        share = tree_shares(part.tree, end)[at][racks]
        free = max(0.0, float(usable[node]) * (1 + SLACK_RATIO) - float(before[failed, node])) / part.each
        yield _Row(share, free, part.tree.slugs[at], part.tree.slugs[end])


def _stops(asked: BoolArray, hosts: IntArray, own: Sequence[_Limit], shared: Sequence[_Shared]) -> list[FitStop]:
    """Return what stops one more host: each rack counts for what it lacks most of."""
    racks = np.flatnonzero(asked)
    if not len(racks):
        return [FitStop(CLOSED, "", "", 1.0, 0)]
    lack = np.full(len(asked), -np.inf)
    why: list[tuple[str, str, str]] = [("", "", "")] * len(asked)
    for limit in own:
        left = np.where(
            limit.hosts > hosts, np.inf, np.minimum(limit.free - hosts * limit.each, limit.each * (1 - 1e-6))
        )
        missing = 1 - left / limit.each
        for rack in racks[(missing > lack)[racks] & (limit.hosts <= hosts)[racks]]:
            lack[rack], why[rack] = missing[rack], (limit.constraint, limit.names[rack], "")
    for part in shared:
        used = part.share @ np.bincount(part.group, hosts[part.racks], minlength=part.share.shape[1])
        left = part.free - used
        missing_of = np.where(
            part.share > left[:, None], 1 - left[:, None] / np.where(part.share > 0, part.share, 1), -np.inf
        )
        row = np.argmax(missing_of, axis=0)
        for rack, group in zip(part.racks.tolist(), part.group.tolist(), strict=True):
            most = missing_of[row[group], group]
            if asked[rack] and most > lack[rack]:
                failure = part.failure[row[group]]
                name = f"{part.constraint}_failover" if failure else part.constraint
                lack[rack], why[rack] = most, (name, part.object[row[group]], failure)
    for rack in racks[np.isneginf(lack[racks])]:  # what one more would break is the failure of a feed
        one_more = hosts.copy()
        one_more[rack] += 1
        for part in shared:
            for row in _broken(part, np.arange(len(hosts)), one_more) if rack in part.racks else ():
                lack[rack], why[rack] = row.share[rack], (f"{part.constraint}_failover", row.object, row.failure)
    return _grouped(racks, why, lack)


def _grouped(racks: IntArray, why: Sequence[tuple[str, str, str]], lack: FloatArray) -> list[FitStop]:
    """Return stops by constraint; the object is that of the rack that comes closest."""
    found: dict[str, list[int]] = defaultdict(list)
    for rack in racks.tolist():
        found[why[rack][0]].append(rack)
    stops = []
    for constraint, inside in found.items():
        nearest = min(inside, key=lambda rack: (lack[rack], rack))
        stops.append(FitStop(constraint, why[nearest][1], why[nearest][2], len(inside) / len(racks), len(inside)))
    return sorted(stops, key=lambda stop: (-stop.racks, stop.constraint))
