"""Supply trees over racks: what feeds, cools and connects them, now and after any single failure.

A tree is a directed graph without circles: a node may have several sources. 1N, N+1, 2N, 3N/2 and a catcher on standby
are all of them shapes of such a graph, so nothing here knows their names.

Under the failure of one node, or of none:

- a node lives unless it has failed, or has sources of which none lives;
- a rack's load splits equally over its living leaf nodes; without one it is dark, and its load is lost. A rack without
  leaf nodes is not on the tree: its load appears nowhere;
- the load of a living node is what hangs on it: house load, shares of racks, and what living nodes draw from it. A node
  draws its load over its efficiency, in equal parts from its living primary sources, or, where none of those lives,
  from its living standby ones.

Loads are linear in the loads of racks, so that every limit is a row: under a failure, the sum over racks of share times
load stays within what a node may bear. The public functions speak of nodes by their position in `SupplyTree.slugs`, and
of no failure as -1.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.sparse import coo_array, csr_array
from scipy.sparse.csgraph import connected_components

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

SLACK = 1e-9
"""Relative difference below which two loads are the same, and by which a load may exceed a limit. [-]"""

SHARED_LEAST = 32  # shared nodes: components with fewer are computed together, because every array call has its price
CHUNK = 1 << 21  # numbers in an intermediate array, about: 16 MiB
TOTALS_KEPT = 2  # of an island
ROOMS_KEPT, ROOMS_BEYOND = 8, 1.5  # of an island; times as much as was asked for is told apart where it is kept
FEW = 8  # rows of a sum up to which the order in which they are added is known
FAR = np.iinfo(np.int64).max


class TreeError(ValueError):
    """A tree that supplies nothing: nodes in a circle, or figures that cannot be."""


@dataclass(frozen=True, eq=False)
class SupplyTree:
    """Nodes of one kind of tree over `racks` racks.

    Attributes
    ----------
    slugs : tuple of str
        Names of the N nodes.
    usable : float64[N]
        What may be drawn for hours; inf where nobody knows. [VA] for power, [W] for cooling
    efficiency_ratio : float64[N]
        Output over input. [-]
    house : float64[N]
        Load that hangs on the node beside racks, as `usable`.
    link_node, link_source : int64[L]
        The lower node, and the one that it draws on.
    link_standby : bool[L]
        Drawn on only when no primary source lives.
    leaf_rack, leaf_node : int64[A]
        Which racks draw on which nodes; a pair given twice counts once.
    racks : int
        Number of racks, R. [-]
    """

    slugs: tuple[str, ...]
    usable: FloatArray
    efficiency_ratio: FloatArray
    house: FloatArray
    link_node: IntArray
    link_source: IntArray
    link_standby: BoolArray
    leaf_rack: IntArray
    leaf_node: IntArray
    racks: int

    @cached_property
    def level(self) -> IntArray:
        """Longest way up from each node to one without sources, int64[N]. Raises TreeError that names a circle."""
        count = len(self.slugs)
        waits = np.bincount(self.link_node, minlength=count)
        level = np.zeros(count, dtype=np.int64)
        ready, depth = waits == 0, 0
        while ready.any():
            level[ready] = depth
            served = np.bincount(self.link_node[ready[self.link_source]], minlength=count)
            waits -= served
            ready, depth = (served > 0) & (waits == 0), depth + 1
        if (waits > 0).any():
            raise TreeError(f"power runs in a circle: {' -> '.join(self._circle(waits > 0))}")
        return level

    def _circle(self, stuck: BoolArray) -> list[str]:
        """Return the names along a circle: each draws on the next."""
        inside = stuck[self.link_node] & stuck[self.link_source]
        source_of = dict(zip(self.link_node[inside].tolist(), self.link_source[inside].tolist(), strict=True))
        at, seen = next(iter(source_of)), dict[int, None]()
        while at not in seen:
            seen[at] = None
            at = source_of[at]
        way = list(seen)
        return [self.slugs[one] for one in (*way[way.index(at) :], at)]

    @cached_property
    def leaves(self) -> tuple[IntArray, IntArray]:
        """Rack and node of every pair once, by rack and node."""
        keys = np.unique(self.leaf_rack * max(len(self.slugs), 1) + self.leaf_node)
        rack, node = np.divmod(keys, max(len(self.slugs), 1))
        return rack, node

    @cached_property
    def islands(self) -> tuple["_Island", ...]:
        """Parts that share no node and no rack, as they are computed with."""
        return tuple(_islands(self))


@dataclass(frozen=True, eq=False)
class TreeLoads:
    """Load of every node.

    Attributes
    ----------
    now, worst : float64[N]
        Without a failure, and the highest over every single failure of another node, not below `now`.
    worst_failure : int64[N]
        The node whose failure gives `worst`, the first of several; -1: none raises the load.
    usable : float64[N]
        What may be drawn for hours.
    """

    now: FloatArray
    worst: FloatArray
    worst_failure: IntArray
    usable: FloatArray

    @property
    def headroom(self) -> FloatArray:
        """What may be added while every single failure is borne; negative where it is not."""
        return self.usable - self.worst

    @property
    def now_ratio(self) -> FloatArray:
        """Load without a failure over what may be drawn; 0 where nobody knows the latter. [-]"""
        return _ratio(self.now, self.usable)

    @property
    def worst_ratio(self) -> FloatArray:
        """Load after the worst failure over what may be drawn; 0 where nobody knows the latter. [-]"""
        return _ratio(self.worst, self.usable)


def _ratio(load: FloatArray, usable: FloatArray) -> FloatArray:
    return np.divide(load, usable, out=np.where(load > 0, np.inf, 0.0), where=usable > 0)


@dataclass(frozen=True, eq=False)
class RackRooms:
    """What each rack alone could add until the first node is full, and which node that is.

    Attributes
    ----------
    room : float64[R]
        In the unit of the tree; negative: that much would have to go. inf: nothing within what was asked for.
    node, failure : int64[R]
        The node, and the failure under which it is full; -1: none.
    """

    room: FloatArray
    node: IntArray
    failure: IntArray


@dataclass(frozen=True, eq=False)
class TreeRows:
    """Limits of nodes under failures: sum over racks of share times added load stays within `room`, row by row.

    Attributes
    ----------
    node, failure : int64[Q]
        The node, and the failure; -1: none.
    limit, present : float64[Q]
        The load that the row allows, and what of it is there already.
    row, rack, share : int64[S], int64[S], float64[S]
        Racks whose load reaches the node then, and which share of it. [-]
    """

    node: IntArray
    failure: IntArray
    limit: FloatArray
    present: FloatArray
    row: IntArray
    rack: IntArray
    share: FloatArray


@dataclass(frozen=True, eq=False)
class Stranded:
    """What is free at every node and cannot be taken.

    Attributes
    ----------
    free, takeable, stranded : float64[N]
        Headroom, 0 where nobody knows it; of it what racks below and nodes above still let through; the rest.
    why : tuple of str
        For each node `racks_below`: they take no more. `source`: a node above is full. Empty: nothing is stranded.
    why_node : int64[N]
        The node above; -1 otherwise.
    """

    free: FloatArray
    takeable: FloatArray
    stranded: FloatArray
    why: tuple[str, ...]
    why_node: IntArray


def tree_check(tree: SupplyTree) -> None:
    """Raise TreeError that names what is wrong with a tree: circles, doubles, figures that cannot be."""
    count = len(tree.slugs)
    for names in (
        ("usable", "efficiency_ratio", "house"),
        ("link_node", "link_source", "link_standby"),
        ("leaf_rack", "leaf_node"),
    ):
        lengths = {len(getattr(tree, name)) for name in names}
        if len(lengths) > 1 or (names[0] == "usable" and lengths != {count}):
            raise TreeError(f"{', '.join(names)} differ in length")
    for name, at, most in (
        ("link_node", tree.link_node, count),
        ("link_source", tree.link_source, count),
        ("leaf_node", tree.leaf_node, count),
        ("leaf_rack", tree.leaf_rack, tree.racks),
    ):
        if len(at) and (at.min() < 0 or at.max() >= most):
            raise TreeError(f"{name} points to what is not there")
    own = np.flatnonzero(tree.link_node == tree.link_source)
    if len(own):
        raise TreeError(f"{tree.slugs[tree.link_node[own[0]]]} is its own source")
    for what, node, other in (
        ("source", tree.link_node, tree.link_source),
        ("rack", tree.leaf_node, tree.leaf_rack),
    ):
        pairs, times = np.unique(node * max(count, tree.racks) + other, return_counts=True)
        if (times > 1).any():
            raise TreeError(f"{tree.slugs[pairs[times > 1][0] // max(count, tree.racks)]} has one {what} twice")
    sound = (tree.usable >= 0) & np.isfinite(tree.house) & (tree.house >= 0)
    sound &= (tree.efficiency_ratio > 0) & (tree.efficiency_ratio <= 1)
    if not sound.all():
        raise TreeError(f"{tree.slugs[int(np.argmin(sound))]} has a figure that cannot be")
    _ = tree.level


def tree_alive(tree: SupplyTree, failed: int | None) -> BoolArray:
    """Return which nodes live under one failure or none, bool[N]."""
    lives = np.ones(len(tree.slugs), dtype=bool)
    if failed is not None:
        lives[failed] = False
    alive = lives.copy()
    for links in _by_level(tree):
        node = tree.link_node[links]
        alive[node] = False
        alive[node[alive[tree.link_source[links]]]] = True
        alive &= lives
    return alive


def tree_after(tree: SupplyTree, failed: int) -> SupplyTree:
    """Return what is left of a tree when a node has failed: the same nodes, without what hangs on dead ones."""
    alive = tree_alive(tree, failed)
    link, leaf = alive[tree.link_node] & alive[tree.link_source], alive[tree.leaf_node]
    return replace(
        tree,
        house=np.where(alive, tree.house, 0.0),
        link_node=tree.link_node[link],
        link_source=tree.link_source[link],
        link_standby=tree.link_standby[link],
        leaf_rack=tree.leaf_rack[leaf],
        leaf_node=tree.leaf_node[leaf],
    )


def racks_dark(tree: SupplyTree, failed: int | None) -> BoolArray:
    """Return which racks are on the tree and have no living leaf node, bool[R]."""
    alive = tree_alive(tree, failed)
    dark = np.zeros(tree.racks, dtype=bool)
    dark[tree.leaf_rack] = True
    dark[tree.leaf_rack[alive[tree.leaf_node]]] = False
    return dark


def racks_below(tree: SupplyTree) -> BoolArray:
    """Return which racks hang on each node, on whatever way, those on standby too, bool[N, R]."""
    below = np.zeros((len(tree.slugs), tree.racks), dtype=bool)
    below[tree.leaf_node, tree.leaf_rack] = True
    sources: dict[int, list[int]] = {}
    for node, source in zip(tree.link_node.tolist(), tree.link_source.tolist(), strict=True):
        sources.setdefault(node, []).append(source)
    for node in np.argsort(-tree.level).tolist():  # each before its sources
        for source in sources.get(node, ()):
            below[source] |= below[node]
    return below


def _by_level(tree: SupplyTree) -> list[IntArray]:
    """Return the links by the level of their lower node, the highest in the building first."""
    level = tree.level[tree.link_node]
    order = np.argsort(level, kind="stable")
    return np.split(order, np.flatnonzero(np.diff(level[order])) + 1)


def tree_loads(tree: SupplyTree, rack_load: FloatArray) -> TreeLoads:
    """Return the load of every node, now and after the worst single failure.

    Parameters
    ----------
    rack_load : float64[R]
        Load of each rack, in the unit of `usable`.
    """
    now, worst = tree.house.astype(np.float64), tree.house.astype(np.float64)
    failure = np.full(len(tree.slugs), -1, dtype=np.int64)
    for island in tree.islands:
        island.loads(rack_load[island.racks], now, worst, failure)
    raised = worst > now * (1 + SLACK)
    return TreeLoads(now, np.where(raised, worst, now), np.where(raised, failure, -1), tree.usable)


def rack_limits(tree: SupplyTree) -> FloatArray:
    """Return the largest load of each rack that its own leaf nodes bear under any single failure, float64[R].

    The rack alone, without house load and other racks; inf for a rack without leaf nodes. A failure under which the
    rack is dark does not count.
    """
    limits = np.full(tree.racks, np.inf)
    for island in tree.islands:
        island.limits(limits)
    return limits


def rack_rooms(
    tree: SupplyTree,
    rack_load: FloatArray,
    *,
    enough: float = np.inf,
    asked: BoolArray | None = None,
    keep: bool = False,
) -> RackRooms:
    """Return what each rack alone could add before some node is full under some failure or none, and which node.

    Parameters
    ----------
    rack_load : float64[R]
        Load of each rack.
    enough : float, optional
        Rooms above this need not be told apart: they may come out as inf.
    asked : bool[R], optional
        Racks to answer for; of the others some have room inf.
    keep : bool
        Whether the same loads will be asked about again, as for hosts of another type: parts keep their answer.
    """
    found = RackRooms(np.full(tree.racks, np.inf), *(np.full(tree.racks, -1, dtype=np.int64) for _ in range(2)))
    for island in tree.islands:
        if len(island.racks) and (asked is None or asked[island.racks].any()):
            island.rooms(rack_load[island.racks], enough, found, keep=keep)
    return found


def rows_over(
    tree: SupplyTree, rack_load: FloatArray, present_load: FloatArray, *, seen_load: FloatArray | None = None
) -> TreeRows:
    """Return limits of nodes that loads of racks exceed, for each node the one exceeded most: none if all are kept.

    Parameters
    ----------
    rack_load, present_load : float64[R]
        Load of each rack as it would be, and as it is. Where a node exceeds its limit as it is, that is its limit.
    seen_load : float64[R], optional
        Loads of which the rows are known: parts of the tree with just these are left out.

    Notes
    -----
    Nodes that feed one rack alone are left out: what they allow, `rack_rooms` says for that rack.
    """
    parts: list[TreeRows] = []
    for island in tree.islands:
        load, present = rack_load[island.racks], present_load[island.racks]
        known = (present, present if seen_load is None else seen_load[island.racks])
        if not any(np.array_equal(load, one) for one in known):
            parts += island.rows_over(load, present)
    starts = np.cumsum([0, *(len(part.node) for part in parts)])
    whole, real = np.zeros(0, dtype=np.int64), np.zeros(0)
    return TreeRows(
        node=np.concatenate([whole, *(part.node for part in parts)]),
        failure=np.concatenate([whole, *(part.failure for part in parts)]),
        limit=np.concatenate([real, *(part.limit for part in parts)]),
        present=np.concatenate([real, *(part.present for part in parts)]),
        row=np.concatenate([whole, *(start + part.row for start, part in zip(starts, parts, strict=False))]),
        rack=np.concatenate([whole, *(part.rack for part in parts)]),
        share=np.concatenate([real, *(part.share for part in parts)]),
    )


def stranded(tree: SupplyTree, loads: TreeLoads, rack_room: FloatArray) -> Stranded:
    """Return what is free at each node and cannot be taken, at least.

    Parameters
    ----------
    loads : TreeLoads
        Loads of the tree as it stands.
    rack_room : float64[R]
        Load that each rack could still take by its own limits.

    Notes
    -----
    Of its headroom a node can give on at most what comes to it of the room of all racks, under the failure that brings
    the most; and, for each node above, the headroom of that one times the best ratio, over the racks below with room,
    of the largest share here to the share there under that one's worst failure. Each is a bound by itself; together,
    and because racks compete for what is above them, less can be taken: what is shown as stranded is a lower bound.
    """
    known, room = np.isfinite(tree.usable), np.clip(rack_room, 0.0, 1e200)  # an infinite one times no share is none
    free = np.where(known, np.maximum(0.0, loads.headroom), 0.0)
    below, through = np.zeros(len(free)), np.full(len(free), np.inf)
    full = np.full(len(free), -1, dtype=np.int64)
    for island in tree.islands:
        island.let_through(loads, room[island.racks], below, through, full)
    takeable = np.minimum(free, np.minimum(below, through))
    left = free - takeable
    some = known & (left > SLACK * np.where(known, tree.usable, 0.0))
    by_source = some & (through < below)
    why = tuple("source" if above else "racks_below" if one else "" for one, above in zip(some, by_source, strict=True))
    return Stranded(free, takeable, np.where(some, left, 0.0), why, np.where(by_source, full, -1))


# --- inside: islands --------------------------------------------------------------------------------------------------
def _islands(tree: SupplyTree) -> Iterator["_Island"]:
    """Yield connected components, small ones several at a time."""
    count, (rack, node) = len(tree.slugs), tree.leaves
    one, other = np.concatenate([tree.link_node, count + rack]), np.concatenate([tree.link_source, node])
    graph = coo_array((np.ones(len(one), dtype=np.int8), (one, other)), shape=(count + tree.racks,) * 2)
    _, label = connected_components(graph, directed=False)
    label = label[:count]
    is_shared = np.bincount(tree.link_source, minlength=count) + np.maximum(np.bincount(node, minlength=count) - 1, 0)
    shared = np.bincount(label[is_shared > 0], minlength=int(label.max(initial=-1)) + 1)
    _, label = np.unique(((np.cumsum(shared) - shared) // SHARED_LEAST)[label], return_inverse=True)
    order = np.lexsort((tree.level, label))  # a node comes after its sources
    bounds = np.arange(1, int(label.max(initial=-1)) + 1)
    links, leaves = np.argsort(label[tree.link_node], kind="stable"), np.argsort(label[node], kind="stable")
    place = np.full(count, -1, dtype=np.int64)
    parts = (
        np.split(order, np.searchsorted(label[order], bounds)),
        np.split(links, np.searchsorted(label[tree.link_node][links], bounds)),
        np.split(leaves, np.searchsorted(label[node][leaves], bounds)),
    )
    for nodes, here, pairs in zip(*parts, strict=True) if count else ():
        place[nodes] = np.arange(len(nodes))
        yield _Island(tree, nodes, here, rack[pairs], node[pairs], place)


def _table(row: IntArray, value: IntArray, rows: int) -> IntArray:
    """Return the values of each row side by side, sorted and filled up with -1."""
    order = np.lexsort((value, row))
    row, value = row[order], value[order]
    column = np.arange(len(row)) - np.searchsorted(row, row)
    table = np.full((rows, int(column.max(initial=-1)) + 1), -1, dtype=np.int64)
    table[row, column] = value
    return table


def _alike(table: IntArray) -> tuple[IntArray, IntArray]:
    """Number rows so that equal ones share a number; return the numbers, and the first row of each number."""
    order = np.lexsort((np.zeros(len(table)), *table.T[::-1]))  # the zeros: a table may have no column
    new = np.ones(len(order), dtype=bool)
    new[1:] = (table[order[1:]] != table[order[:-1]]).any(axis=1)
    number = np.empty(len(order), dtype=np.int64)
    number[order] = np.cumsum(new) - 1
    return number, order[new]


class _Island:
    """Nodes, links and racks computed together.

    A node is an *end* if it feeds no node and at most one rack, and *shared* otherwise. Ends are many and simple: those
    with the same sources and efficiency live and draw alike, a class; and the failure of one changes the split of its
    rack alone. So loads are computed for shared nodes and classes, both called by a code (shared nodes come first, each
    after its sources), over groups of racks that hang on the same codes; under no failure (column 0) and under that of
    each shared node (the other columns, by position in the tree). Failures of ends are added as what they move.

    Letters: M codes, of which T shared nodes; G groups; F columns; K leaves, one a pair of group and code. Time and
    memory grow with M x F: one component may have hundreds of shared nodes, and many thousands of ends and racks.
    """

    def __init__(
        self, tree: SupplyTree, nodes: IntArray, links: IntArray, rack: IntArray, node: IntArray, place: IntArray
    ) -> None:
        low, high = place[tree.link_node[links]], place[tree.link_source[links]]
        pair = place[node]
        size = len(nodes)
        is_end = (np.bincount(high, minlength=size) == 0) & (np.bincount(pair, minlength=size) <= 1)
        shared, ends = np.flatnonzero(~is_end), np.flatnonzero(is_end)
        self.shared = nodes[shared]
        self.usable = tree.usable[self.shared]

        of_end = np.cumsum(is_end) - 1
        upward = is_end[low]
        drawn = _table(of_end[low[upward]], high[upward] * 2 + tree.link_standby[links][upward], len(ends))
        _, efficiency = np.unique(tree.efficiency_ratio[nodes[ends]], return_inverse=True)
        kind, first = _alike(np.column_stack([efficiency, drawn]))
        code = np.empty(size, dtype=np.int64)
        code[shared], code[ends] = np.arange(len(shared)), len(shared) + kind
        speaks = ~is_end  # one end speaks for its class
        speaks[ends[first]] = True
        self.codes = len(shared) + len(first)
        self.house: FloatArray = np.bincount(code, tree.house[nodes], minlength=self.codes).astype(np.float64)
        self.efficiency_ratio = np.empty(self.codes)
        self.efficiency_ratio[code] = tree.efficiency_ratio[nodes]
        order = np.flatnonzero(speaks[low])
        order = order[np.argsort(code[low[order]], kind="stable")]
        self.link_node, self.link_source = code[low[order]], code[high[order]]
        self.link_standby = tree.link_standby[links][order]

        self.racks, self.pair_rack = np.unique(rack, return_inverse=True)
        self.pair_node, pair_code = node, code[pair]
        self.rack_group, first = _alike(_table(self.pair_rack, pair_code, len(self.racks)))
        self.groups = len(first)
        keys, self.pair_leaf, times = np.unique(
            self.rack_group[self.pair_rack] * self.codes + pair_code, return_inverse=True, return_counts=True
        )
        self.leaf_group, self.leaf_code = np.divmod(keys, max(self.codes, 1))
        self.leaf_times = times // np.bincount(self.rack_group, minlength=self.groups)[self.leaf_group]
        self.pair_is_end = is_end[pair]
        self.pair_usable, self.pair_house = tree.usable[node], tree.house[node]
        self._totals: tuple[tuple[bytes, FloatArray], ...] = ()
        self._rooms: tuple[tuple[bytes, float, _Closest], ...] = ()

    # --- what lives, and who draws on whom ----------------------------------------------------------------------------
    @cached_property
    def failed(self) -> IntArray:
        """Position in the tree of the node that has failed in each column, -1 for none, int64[F]."""
        return np.concatenate([[-1], np.sort(self.shared)])

    @cached_property
    def alive(self) -> BoolArray:
        """Whether a code lives, bool[M, F]."""
        spared = np.ones((self.codes, len(self.failed)), dtype=bool)
        spared[np.argsort(self.shared), np.arange(1, len(self.failed))] = False
        alive = spared.copy()
        for links in self._down:
            alive[links.target] = np.logical_or.reduceat(alive[links.source], links.starts, axis=0)
            alive[links.target] &= spared[links.target]
        return alive

    @cached_property
    def _dead(self) -> IntArray:
        """Positions in a table of codes and columns of what does not live, int64[]."""
        return np.flatnonzero(~self.alive)

    @cached_property
    def living(self) -> IntArray:
        """Living leaf nodes of a rack of each group, int64[G, F]."""
        living = np.zeros((self.groups, len(self.failed)), dtype=np.int64)
        by_group = self._by_group
        by_group.add(living, self.leaf_times[by_group.row, None] * self.alive[by_group.source])
        return living

    @cached_property
    def drawn(self) -> FloatArray:
        """What comes through each link, over the load of its lower node, float64[L, F]. [-]"""
        live, node = self.alive[self.link_source], self.link_node
        standby = self.link_standby[:, None]
        by_node = _Sums(node, node)
        primaries, sources = (np.zeros((self.codes, len(self.failed)), dtype=np.int64) for _ in range(2))
        by_node.add(primaries, (live & ~standby)[by_node.row])
        live &= ~standby | (primaries[node] == 0)
        by_node.add(sources, live[by_node.row])
        live &= self.alive[node]
        drawn: FloatArray = live / (np.maximum(sources[node], 1) * self.efficiency_ratio[node][:, None])
        return drawn

    @cached_property
    def _levels(self) -> list[IntArray]:
        """Links by the depth of their lower code, from above."""
        depth = [0] * self.codes
        for node, source in zip(self.link_node.tolist(), self.link_source.tolist(), strict=True):
            depth[node] = max(depth[node], depth[source] + 1)
        of_link = np.array(depth, dtype=np.int64)[self.link_node]
        return [np.flatnonzero(of_link == level) for level in range(1, max(depth, default=0) + 1)]

    @cached_property
    def _down(self) -> list["_Sums"]:
        return [_Sums(self.link_node[links], self.link_source[links], links) for links in self._levels]

    @cached_property
    def _up(self) -> list["_Sums"]:
        return [_Sums(self.link_source[links], self.link_node[links], links) for links in reversed(self._levels)]

    @cached_property
    def _by_group(self) -> "_Sums":
        return _Sums(self.leaf_group, self.leaf_code)

    @cached_property
    def _by_code(self) -> "_Sums":
        return _Sums(self.leaf_code, self.leaf_group)

    # --- loads --------------------------------------------------------------------------------------------------------
    def totals(self, load: FloatArray) -> FloatArray:
        """Return the load of each shared node, float64[T, F], for loads of the racks, float64[racks].

        What was asked for last is kept: loads as they are come back with every question about the same tree.
        """
        key = load.tobytes()
        found = next((total for known, total in self._totals if known == key), None)
        if found is None:
            found = self._totals_of(load)
        others = (one for one in self._totals if one[0] != key)
        self._totals = ((key, found), *others)[:TOTALS_KEPT]  # threads share an island: one step, no half
        return found

    def _totals_of(self, load: FloatArray) -> FloatArray:
        each = np.bincount(self.rack_group, load, minlength=self.groups)[:, None] / np.maximum(self.living, 1)
        total = np.repeat(self.house[:, None], len(self.failed), axis=1)
        by_code = self._by_code
        by_code.add(total, self.leaf_times[by_code.row, None] * each[by_code.source])
        total.ravel()[self._dead] = 0.0
        for links in self._up:  # from below: a node is complete before it draws
            links.add(total, total[links.source] * self.drawn[links.row])
        found: FloatArray = total[: len(self.shared)].copy()  # not all of it: it is kept
        found.flags.writeable = False
        return found

    @cached_property
    def differs(self) -> BoolArray:
        """Whether a shared node gets other shares than without a failure, bool[T, F]; in column 0 always.

        Told by loads that no other shares would add up alike; where nothing differs, totals are equal to the last bit.
        """
        total = self.totals(np.random.default_rng(1).uniform(1.0, 2.0, len(self.racks)))
        differs: BoolArray = total != total[:, :1]
        differs[:, 0] = True
        return differs

    def flows(self, node: IntArray, column: IntArray) -> FloatArray:
        """Return, row by row of (shared node, column), what a load of 1 on each code adds there, float64[M, Q]."""
        flow = np.zeros((self.codes, len(node)))
        flow[node, np.arange(len(node))] = self.alive[node, column]
        for links in self._down:  # from above: what a source gives on is known
            links.add(flow, flow[links.source] * self.drawn[links.row[:, None], column])
        return flow

    def shares(self, node: IntArray, column: IntArray) -> FloatArray:
        """Return, row by row, the share of the load of a rack of each group that comes there, float64[G, Q]."""
        flow = self.flows(node, column)
        flow *= self.alive[:, column]
        share = np.zeros((self.groups, len(node)))
        by_group = self._by_group
        by_group.add(share, self.leaf_times[by_group.row, None] * flow[by_group.source])
        return share / np.maximum(self.living[:, column], 1)

    @cached_property
    def most(self) -> FloatArray:
        """The largest share of any rack's load that can reach each shared node, at most, float64[T]. [-]"""
        most = np.zeros(self.codes)
        most[self.leaf_code] = 1.0
        for links in self._up:
            np.maximum.at(most, self.link_source[links.row], most[links.source] / self.efficiency_ratio[links.source])
        return most[: len(self.shared)]

    # --- failures of ends ---------------------------------------------------------------------------------------------
    @cached_property
    def _flow(self) -> FloatArray:
        """What a load of 1 on each code adds to each shared node without a failure, float64[M, T]."""
        return self.flows(np.arange(len(self.shared)), np.zeros(len(self.shared), dtype=np.int64))

    @cached_property
    def share(self) -> FloatArray:
        """Share of the load of a rack of each group that comes to each shared node without a failure, float64[G, T]."""
        return self.shares(np.arange(len(self.shared)), np.zeros(len(self.shared), dtype=np.int64))

    @cached_property
    def share_after(self) -> FloatArray:
        """The same once one of the ends that a leaf stands for has failed, float64[K, T]; 0 if it was the last."""
        moves = (self.leaf_code >= len(self.shared)) & (self.living[self.leaf_group, 0] > 1)
        size = np.bincount(self.leaf_group, minlength=self.groups)
        lost = np.repeat(np.arange(len(size[self.leaf_group])), size[self.leaf_group])
        other = (
            np.arange(len(lost)) - np.searchsorted(lost, lost) + np.searchsorted(self.leaf_group, self.leaf_group[lost])
        )
        times = (self.leaf_times[other] - (lost == other)) * moves[lost]
        lost, other, times = lost[times > 0], other[times > 0], times[times > 0]
        after = np.zeros((len(self.leaf_group), len(self.shared)))
        _Sums(lost, other).add(after, times[:, None] * self._flow[self.leaf_code[other]])
        return after / np.maximum(self.living[self.leaf_group, :1] - 1, 1)

    @cached_property
    def largest(self) -> FloatArray:
        """The largest share of the load of a rack of each group that comes to each shared node ever, float64[T, G]."""
        largest = np.zeros((len(self.shared), self.groups))
        columns = np.arange(len(self.failed))
        for nodes in _chunks(len(self.shared), (self.codes + self.groups) * len(columns)):
            node = np.arange(len(self.shared))[nodes]
            share = self.shares(np.repeat(node, len(columns)), np.tile(columns, len(node)))
            largest[nodes] = share.reshape(self.groups, len(node), len(columns)).max(axis=2).T
        np.maximum.at(largest.T, self.leaf_group, self.share_after)
        return largest

    @cached_property
    def movers(self) -> tuple[IntArray, IntArray]:
        """Return pairs whose end moves load when it fails, and a number that those share which move it alike.

        Others of their racks live. Of equal ends of a rack it is the first.
        """
        pairs = np.flatnonzero(self.pair_is_end & (self.living[self.rack_group[self.pair_rack], 0] > 1))
        pairs = pairs[np.argsort(self.pair_node[pairs], kind="stable")]
        _, house = np.unique(self.pair_house[pairs], return_inverse=True)
        _, first = _alike(np.column_stack([self.pair_rack[pairs], self.pair_leaf[pairs], house]))
        pairs, house = pairs[np.sort(first)], house[np.sort(first)]
        return pairs, self.pair_leaf[pairs] * (int(house.max(initial=0)) + 1) + house

    def heaviest(self, load: FloatArray) -> IntArray:
        """Return of the movers that move alike those of the two racks with the highest load, the first of equals."""
        pairs, alike = self.movers
        order = np.lexsort((-load[self.pair_rack[pairs]], alike))
        rank = np.arange(len(order)) - np.searchsorted(alike[order], alike[order])
        return pairs[order[rank < 2]]

    @cached_property
    def change(self) -> FloatArray:
        """By how much `share_after` differs from `share`, float64[K, T]."""
        return self.share_after - self.share[self.leaf_group]

    def moved(self, node: IntArray, pairs: IntArray, load: FloatArray, now: FloatArray) -> FloatArray:
        """Return the load of shared nodes when the end of each pair fails, float64[nodes, pairs]; `now` without."""
        gain = self.gains(node, pairs, load)
        if self.pair_house[pairs].any():
            gain -= self.pair_house[pairs] * self._flow[self.leaf_code[self.pair_leaf[pairs]], node[:, None]]
        return now[node, None] + gain

    def gains(self, node: IntArray, pairs: IntArray, load: FloatArray) -> FloatArray:
        """Return what shared nodes gain of the rack's load when the end of each pair fails, float64[nodes, pairs]."""
        gain = self.change[:, node][self.pair_leaf[pairs]] * load[self.pair_rack[pairs], None]
        return gain.T

    @cached_property
    def fewest(self) -> tuple[IntArray, IntArray]:
        """Return, for each pair, on how few leaf nodes its rack hangs while that node lives, and the first failure."""
        live = self.alive[self.leaf_code]
        left = np.where(live, self.living[self.leaf_group], FAR)
        column = left.argmin(axis=1)
        few = left[np.arange(len(left)), column][self.pair_leaf]
        failure = self.failed[column][self.pair_leaf]
        ends = np.flatnonzero(self.pair_is_end)
        ends = ends[np.lexsort((self.pair_node[ends], self.pair_rack[ends]))]
        rank = np.arange(len(ends)) - np.searchsorted(self.pair_rack[ends], self.pair_rack[ends])
        first, second = (np.full(len(self.racks), FAR) for _ in range(2))  # ends of each rack by position in the tree
        first[self.pair_rack[ends[rank == 0]]] = self.pair_node[ends[rank == 0]]
        second[self.pair_rack[ends[rank == 1]]] = self.pair_node[ends[rank == 1]]
        other = np.where(first[self.pair_rack] == self.pair_node, second[self.pair_rack], first[self.pair_rack])
        by_end = np.where(other < FAR, self.living[self.rack_group[self.pair_rack], 0] - 1, FAR)
        failure = np.where(by_end < few, other, np.where((by_end == few) & (other < failure), other, failure))
        return np.minimum(few, by_end), failure

    # --- answers ------------------------------------------------------------------------------------------------------
    def loads(self, load: FloatArray, now: FloatArray, worst: FloatArray, failure: IntArray) -> None:
        """Write the loads of this island's nodes; `now` and `worst` hold their house loads."""
        ends = np.flatnonzero(self.pair_is_end)
        node, on_it = self.pair_node[ends], load[self.pair_rack[ends]]
        now[node] += on_it / self.living[self.rack_group[self.pair_rack[ends]], 0]
        few, why = self.fewest
        worst[node], failure[node] = worst[node] + on_it / few[ends], why[ends]

        total = self.totals(load)
        heavy = self.heaviest(load)
        moved = self.moved(np.arange(len(self.shared)), heavy, load, total[:, 0])
        most = np.maximum(total.max(axis=1, initial=0.0), moved.max(axis=1, initial=0.0))
        near = most[:, None] * (1 - SLACK)
        first = np.where(total >= near, self.failed, FAR).min(axis=1, initial=FAR)
        by_end = np.where(moved >= near, self.pair_node[heavy], FAR).min(axis=1, initial=FAR)
        now[self.shared], worst[self.shared] = total[:, 0], most
        failure[self.shared] = np.minimum(first, by_end)

    def limits(self, limits: FloatArray) -> None:
        """Lower the limits of this island's racks, in place, to what their leaf nodes bear of each rack by itself."""
        np.minimum.at(limits, self.racks[self.pair_rack], self.fewest[0] * self.pair_usable)
        # a leaf node that feeds others may be reached by the same rack on two ways
        for node in np.intersect1d(self.leaf_code, self.link_source):
            on_it = np.isin(np.arange(self.groups), self.leaf_group[self.leaf_code == node])
            bears = _over(self.usable[node], np.where(on_it, self.largest[node], 0.0))
            limits[self.racks] = np.minimum(limits[self.racks], bears[self.rack_group])

    def rooms(self, load: FloatArray, enough: float, found: RackRooms, *, keep: bool = False) -> None:
        """Write the rooms of this island's racks and what ends them."""
        closer = self._rooms_kept(load, enough) if keep else self._closest(load, enough)
        found.room[self.racks], found.node[self.racks] = closer.room, closer.node
        found.failure[self.racks] = closer.failure

    def _rooms_kept(self, load: FloatArray, enough: float) -> "_Closest":
        """Return the same from what was kept; what tells more apart than is asked for will do."""
        key = load.tobytes()
        found = next((one for one in self._rooms if one[0] == key and one[1] >= enough), None)
        if found is None:
            found = key, ROOMS_BEYOND * enough, self._closest(load, ROOMS_BEYOND * enough)
        others = (one for one in self._rooms if one[0] != key)
        self._rooms = (found, *others)[:ROOMS_KEPT]  # threads share an island: one step, no half
        return found[2]

    def _closest(self, load: FloatArray, enough: float) -> "_Closest":
        closer = _Closest(len(self.racks))
        few, why = self.fewest
        ends = np.flatnonzero(self.pair_is_end & np.isfinite(self.pair_usable))
        rack = self.pair_rack[ends]
        bears = self.pair_usable[ends] * (1 + SLACK) - self.pair_house[ends]
        every = self.living[self.rack_group[rack], 0]
        raised = (few[ends] < every) & (bears >= 0)  # too much house load: worst where most of it would have to go
        room = np.where(raised, few[ends], every) * bears - load[rack]
        closer.offer(rack, room, self.pair_node[ends], np.where(raised, why[ends], -1))
        self._rooms_of_shared(load, enough, closer)
        return closer

    def _rooms_of_shared(self, load: FloatArray, enough: float, closer: "_Closest") -> None:
        """Offer what shared nodes leave: under no failure and those of shared nodes, then under those of ends."""
        wanted = np.where(self.most > 0, enough * np.where(self.most > 0, self.most, 1.0), 0.0)  # more ends nothing
        total = self.totals(load)
        bears = self.usable * (1 + SLACK)
        slack = bears[:, None] - total
        column, node = np.nonzero(((slack < wanted[:, None]) & self.differs & self.alive[: len(self.shared)]).T)
        for some in _chunks(len(node), self.codes + self.groups):
            share = self.shares(node[some], column[some])
            room = np.divide(slack[node[some], column[some]], share, out=np.full(share.shape, np.inf), where=share > 0)
            best = room.argmin(axis=1)
            room, best = room[np.arange(self.groups), best][self.rack_group], best[self.rack_group]
            everyone = np.arange(len(self.racks))
            closer.offer(everyone, room, self.shared[node[some][best]], self.failed[column[some][best]])
        heavy = self.heaviest(load)
        slack = bears[:, None] - self.moved(np.arange(len(self.shared)), heavy, load, total[:, 0])
        tight = (slack < wanted[:, None]).any(axis=1)
        for at in np.flatnonzero(tight).tolist():
            self._rooms_of_ends(at, heavy, slack[at], load, total[:, 0], closer)

    def _rooms_of_ends(
        self, node: int, heavy: IntArray, slack: FloatArray, load: FloatArray, now: FloatArray, closer: "_Closest"
    ) -> None:
        """Offer what one shared node leaves when an end fails: to the other racks as before, to its own as after."""
        share = self.share[self.rack_group, node]
        worst = int(slack.argmin())
        others = self.pair_rack[heavy] != self.pair_rack[heavy[worst]]
        for at in (worst, int(np.where(others, slack, np.inf).argmin())):
            rack = np.flatnonzero((share > 0) & (np.arange(len(share)) != self.pair_rack[heavy[at]]))
            failed = np.full(len(rack), self.pair_node[heavy[at]])
            closer.offer(rack, slack[at] / share[rack], np.full(len(rack), self.shared[node]), failed)
        pairs = self.movers[0][self.share_after[self.pair_leaf[self.movers[0]], node] > 0]
        leaf, rack = self.pair_leaf[pairs], self.pair_rack[pairs]
        left = self.usable[node] * (1 + SLACK) - self.moved(np.array([node]), pairs, load, now)[0]
        shared = np.full(len(rack), self.shared[node])
        closer.offer(rack, left / self.share_after[leaf, node], shared, self.pair_node[pairs])

    def rows_over(self, load: FloatArray, present: FloatArray) -> Iterator[TreeRows]:
        """Yield the rows that a load breaks: for each shared node the worst under failures of shared nodes or none, or
        where those hold all that are broken under failures of ends.
        """
        bears = self.usable * (1 + SLACK)
        total, heavy = self.totals(load), self.heaviest(load)
        moved = self.moved(np.arange(len(self.shared)), heavy, load, total[:, 0])
        over = np.flatnonzero((total > bears[:, None]).any(axis=1) | (moved > bears[:, None]).any(axis=1))
        if not len(over):
            return
        was = self.totals(present)
        allowed = np.maximum(self.usable[:, None], was)
        excess = total - allowed * (1 + SLACK)
        column = excess.argmax(axis=1)
        node = np.flatnonzero(excess.max(axis=1) > 0)
        column = column[node]
        share = self.shares(node, column)[self.rack_group].T
        yield self._rows(node, self.failed[column], allowed[node, column], was[node, column], share)
        pairs, _ = self.movers
        for at in np.setdiff1d(over, node):
            before = self.moved(np.array([at]), pairs, present, was[:, 0])[0]
            limit = np.maximum(self.usable[at], before)
            broken = self.moved(np.array([at]), pairs, load, total[:, 0])[0] > limit * (1 + SLACK)
            lost = pairs[broken]
            share = np.repeat(self.share[self.rack_group, at][None, :], len(lost), axis=0)
            share[np.arange(len(lost)), self.pair_rack[lost]] = self.share_after[self.pair_leaf[lost], at]
            yield self._rows(np.full(len(lost), at), self.pair_node[lost], limit[broken], before[broken], share)

    def _rows(
        self, node: IntArray, failure: IntArray, limit: FloatArray, present: FloatArray, share: FloatArray
    ) -> TreeRows:
        row, rack = np.nonzero(share)
        return TreeRows(self.shared[node], failure, limit, present, row, self.racks[rack], share[row, rack])

    def let_through(
        self, loads: TreeLoads, room: FloatArray, below: FloatArray, through: FloatArray, full: IntArray
    ) -> None:
        """Write what comes to each node of the room of racks below, what nodes above let through, and which of them."""
        none, heavy = np.zeros(len(self.racks)), self.heaviest(room)
        added = self.totals(room) - self.totals(none)
        by_end = added[:, :1] + self.gains(np.arange(len(self.shared)), heavy, room)
        below[self.shared] = np.maximum(added.max(axis=1, initial=0.0), by_end.max(axis=1, initial=0.0))
        here, there = self.largest[:, self.rack_group], self._shares_at(loads.worst_failure[self.shared])
        headroom = np.maximum(0.0, loads.headroom[self.shared])
        above = np.eye(self.codes, len(self.shared), dtype=bool)
        for links in self._down:
            above[links.target] |= np.logical_or.reduceat(above[links.source], links.starts, axis=0)
        for node, at in enumerate(self.shared):
            racks = np.flatnonzero((here[node] > 0) & (room > 0))
            sources = np.flatnonzero(above[node] & (np.arange(len(self.shared)) != node))
            if len(racks) and len(sources):
                lets = _times(headroom[sources], _over(here[node, racks], there[np.ix_(sources, racks)]).max(axis=1))
                through[at], full[at] = lets.min(), self.shared[sources[lets.argmin()]]
        few, is_end = self.fewest[0], self.pair_is_end
        below[self.pair_node[is_end]] = room[self.pair_rack[is_end]] / few[is_end]
        for code in np.unique(self.leaf_code[self.leaf_code >= len(self.shared)]):
            pairs, sources = np.flatnonzero(self.leaf_code[self.pair_leaf] == code), np.flatnonzero(above[code])
            if len(sources):
                ratio = _over(1 / few[pairs], there[np.ix_(sources, self.pair_rack[pairs])])
                lets = _times(headroom[sources, None], ratio)
                through[self.pair_node[pairs]] = lets.min(axis=0)
                full[self.pair_node[pairs]] = self.shared[sources[lets.argmin(axis=0)]]

    def _shares_at(self, failure: IntArray) -> FloatArray:
        """Return the share of rack loads that comes to each shared node, each under its failure, float64[T, racks]."""
        column = np.searchsorted(self.failed, failure)
        column[self.failed[np.minimum(column, len(self.failed) - 1)] != failure] = 0  # an end
        share = self.shares(np.arange(len(self.shared)), column)[self.rack_group].T
        pair_of = dict(zip(self.pair_node[self.pair_is_end].tolist(), np.flatnonzero(self.pair_is_end), strict=True))
        for node, failed in enumerate(failure.tolist()):
            if failed in pair_of:
                pair = pair_of[failed]
                share[node, self.pair_rack[pair]] = self.share_after[self.pair_leaf[pair], node]
        return share


class _Sums:
    """Adds rows of a table onto rows of another: `source` rows onto `target` rows, the rows of one target together.

    Kept in the order of targets, which `row` gives; each target comes once, its rows begin at `starts`.
    """

    def __init__(self, target: IntArray, source: IntArray, row: IntArray | None = None) -> None:
        order = np.argsort(target, kind="stable")
        self.source, self.row = source[order], order if row is None else row[order]
        self.starts = np.flatnonzero(np.diff(target[order], prepend=-1))
        self.target = target[order][self.starts]
        sizes = np.diff(np.append(self.starts, len(order)))
        self._few = np.flatnonzero(sizes <= FEW)
        many = np.flatnonzero(sizes > FEW)
        self._many, self._many_rows = many, np.flatnonzero(np.repeat(sizes > FEW, sizes))
        self._many_starts = np.cumsum(sizes[many]) - sizes[many]
        few_rows = np.flatnonzero(np.repeat(sizes <= FEW, sizes))
        # the first row is added last, as `reduceat` does: both give the same sum to the last bit
        few_starts = np.cumsum(sizes[self._few]) - sizes[self._few]
        column = np.roll(few_rows, -1)
        column[few_starts + sizes[self._few] - 1] = few_rows[few_starts]
        shape = len(self._few), len(order)
        self._ones = csr_array((np.ones(len(column)), column, np.append(few_starts, len(column))), shape=shape)

    def add(self, onto: NDArray[Any], rows: NDArray[Any]) -> None:
        """Add rows, given in the order of `row`, in place."""
        if not len(self.target):
            return
        if rows.dtype == np.float64:  # of wide rows a product with ones adds up several times as fast
            onto[self.target[self._few]] += self._ones @ rows
            if len(self._many):
                sums = np.add.reduceat(rows[self._many_rows], self._many_starts, axis=0)
                onto[self.target[self._many]] += sums
        else:
            onto[self.target] += np.add.reduceat(rows, self.starts, axis=0, dtype=onto.dtype)


class _Closest:
    """What ends the room of each rack first, of everything offered; of equals what was offered first."""

    def __init__(self, racks: int) -> None:
        self.room = np.full(racks, np.inf)
        self.node, self.failure = np.full(racks, -1, dtype=np.int64), np.full(racks, -1, dtype=np.int64)

    def offer(self, rack: IntArray, room: FloatArray, node: IntArray, failure: IntArray) -> None:
        order = np.lexsort((node, room))[::-1]  # the closest is written last
        rack, room, node, failure = rack[order], room[order], node[order], failure[order]
        kept = room < self.room[rack]
        rack = rack[kept]
        self.room[rack], self.node[rack], self.failure[rack] = room[kept], node[kept], failure[kept]


def _over(here: FloatArray | float, there: FloatArray) -> FloatArray:
    """Return here over there, inf over nothing."""
    return np.divide(here, there, out=np.full(there.shape, np.inf), where=there > 0)


def _times(headroom: FloatArray, ratio: FloatArray) -> FloatArray:
    """Return headroom times ratio; an infinite ratio lets everything through, even where there is none."""
    return np.where(np.isinf(ratio), np.inf, headroom * np.where(np.isinf(ratio), 1.0, ratio))


def _chunks(count: int, size: int) -> Iterator[slice]:
    """Yield slices of so many rows of a size that intermediate arrays stay small."""
    step = max(1, CHUNK // max(size, 1))
    for start in range(0, count, step):
        yield slice(start, min(start + step, count))
