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
"""

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import sparse
from scipy.sparse import csgraph

BoolArray = NDArray[np.bool_]
IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]

SLACK = 1e-9
"""Relative difference below which two loads are the same. [-]"""


class TreeError(ValueError):
    """A tree that supplies nothing: nodes in a circle, or figures that cannot be."""


@dataclass(frozen=True, eq=False)
class SupplyTree:
    """Nodes of one kind of tree over `racks` racks.

    Attributes
    ----------
    slugs : tuple of str, length N
        Names of the nodes.
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
        Which racks draw on which nodes.
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
    def order(self) -> IntArray:
        """Every node after its sources, int64[N]. Raises TreeError that names a circle."""
        waits = np.bincount(self.link_node, minlength=len(self.slugs))
        below: list[list[int]] = [[] for _ in self.slugs]
        for node, source in zip(self.link_node.tolist(), self.link_source.tolist(), strict=True):
            below[source].append(node)
        ready = np.flatnonzero(waits == 0).tolist()
        for node in ready:  # grows while it is read
            for lower in below[node]:
                waits[lower] -= 1
                if not waits[lower]:
                    ready.append(lower)
        if len(ready) < len(self.slugs):
            raise TreeError(f"power runs in a circle: {' -> '.join(self._circle(waits > 0))}")
        return np.array(ready, dtype=np.int64)

    def _circle(self, stuck: BoolArray) -> list[str]:
        """Return the names along a circle: each draws on the next."""
        source_of = {
            int(node): int(source)
            for node, source in zip(self.link_node, self.link_source, strict=True)
            if stuck[node] and stuck[source]
        }
        at, seen = next(iter(source_of)), []
        while at not in seen:
            seen.append(at)
            at = source_of[at]
        return [self.slugs[one] for one in (*seen[seen.index(at) :], at)]


@dataclass(frozen=True, eq=False)
class TreeLoads:
    """Load of every node.

    Attributes
    ----------
    now, worst : float64[N]
        Without a failure, and the highest over every single failure of another node.
    worst_failure : int64[N]
        The node whose failure gives `worst`; -1: none raises the load.
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


@dataclass(frozen=True, eq=False)
class Stranded:
    """What is free at every node and cannot be taken.

    Attributes
    ----------
    free, takeable, stranded : float64[N]
        Headroom; of it what racks below and nodes above still let through; the rest.
    why : tuple of str, length N
        `racks_below`: they take no more. `source`: a node above is full. Empty: nothing is stranded.
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
    for what, pairs in (
        ("link", np.stack([tree.link_node, tree.link_source], axis=1)),
        ("rack", np.stack([tree.leaf_node, tree.leaf_rack], axis=1)),
    ):
        found, times = np.unique(pairs, axis=0, return_counts=True)
        if (times > 1).any():
            raise TreeError(f"{tree.slugs[found[times > 1][0][0]]} has the same {what} twice")
    sound = (tree.usable >= 0) & np.isfinite(tree.house) & (tree.house >= 0)
    sound &= (tree.efficiency_ratio > 0) & (tree.efficiency_ratio <= 1)
    if not sound.all():
        raise TreeError(f"{tree.slugs[int(np.argmin(sound))]} has a figure that cannot be")
    _ = tree.order


def tree_alive(tree: SupplyTree, failed: int | None) -> BoolArray:
    """Return which nodes live under one failure or none, bool[N]."""
    alive = np.ones(len(tree.slugs), dtype=bool)
    sources = _sources(tree)
    for node in tree.order:
        above = sources[node]
        alive[node] = node != failed and (not above or any(alive[source] for source, _ in above))
    return alive


def racks_dark(tree: SupplyTree, failed: int | None) -> BoolArray:
    """Return which racks are on the tree and have no living leaf node, bool[R]."""
    alive = tree_alive(tree, failed)
    leaves = np.bincount(tree.leaf_rack, minlength=tree.racks)
    living = np.bincount(tree.leaf_rack, alive[tree.leaf_node], minlength=tree.racks)
    return (leaves > 0) & (living == 0)


def tree_shares(tree: SupplyTree, failed: int | None) -> FloatArray:
    """Return the share of each rack's load that reaches each node, efficiencies included, float64[N, R]. [-]"""
    alive = tree_alive(tree, failed)
    living = alive[tree.leaf_node]
    count = np.bincount(tree.leaf_rack[living], minlength=tree.racks)
    shares = np.zeros((len(tree.slugs), tree.racks))
    np.add.at(shares, (tree.leaf_node[living], tree.leaf_rack[living]), 1 / count[tree.leaf_rack[living]])
    sources = _sources(tree)
    for node in tree.order[::-1]:
        if alive[node]:
            for source in _drawn_on(sources[node], alive):
                shares[source] += shares[node] / tree.efficiency_ratio[node] / len(_drawn_on(sources[node], alive))
    return shares


def tree_loads(tree: SupplyTree, rack_load: FloatArray) -> TreeLoads:
    """Return the load of every node, now and after the worst single failure.

    Parameters
    ----------
    rack_load : float64[R]
        Load of each rack, in the unit of `usable`.
    """
    count = len(tree.slugs)
    now, worst = np.zeros(count), np.zeros(count)
    failure = np.full(count, -1, dtype=np.int64)
    for part in tree_parts(tree):
        now[part.nodes], worst[part.nodes], failure[part.nodes] = part.loads(rack_load)
    return TreeLoads(now, worst, failure, tree.usable)


def rack_limits(tree: SupplyTree) -> FloatArray:
    """Return the largest load of each rack that its own leaf nodes bear under any single failure, float64[R].

    inf for a rack without leaf nodes. A failure under which the rack is dark does not count.
    """
    limits = np.full(tree.racks, np.inf)
    looped: list[int] = []
    for part in tree_parts(tree):
        part.limit_racks(limits)
        looped += part.looped
    for failed in (None, *range(len(tree.slugs))) if looped else ():
        shares = tree_shares(tree, failed)
        for rack in looped:
            leaves = tree.leaf_node[tree.leaf_rack == rack]
            share = shares[leaves, rack]
            bears = np.divide(tree.usable[leaves], share, out=np.full(len(share), np.inf), where=share > 0)
            limits[rack] = min(limits[rack], bears.min())
    return limits


def stranded(tree: SupplyTree, loads: TreeLoads, rack_room: FloatArray) -> Stranded:
    """Return what is free at each node and cannot be taken, at least.

    Parameters
    ----------
    rack_room : float64[R]
        Load that each rack could still take by its own limits.

    Notes
    -----
    Headroom is taken as takeable up to the sum of the rooms of all racks below, as far as their load would reach the
    node in its worst case, and up to the smallest headroom above. That racks share what is above them makes less of it
    takeable still: what is shown as stranded is a lower bound.
    """
    free = np.maximum(0.0, np.where(np.isfinite(loads.headroom), loads.headroom, 0.0))
    below, through = np.zeros(len(tree.slugs)), np.full(len(tree.slugs), np.inf)
    full = np.full(len(tree.slugs), -1, dtype=np.int64)
    np.add.at(below, tree.leaf_node, rack_room[tree.leaf_rack])  # all of it comes here when the sisters are lost
    sources, headroom = _sources(tree), np.maximum(0.0, loads.headroom)
    for node in tree.order[::-1]:
        for source, _ in sources[node]:
            below[source] += below[node] / tree.efficiency_ratio[node]
    for node in tree.order:
        for source, standby in sources[node]:
            let = min(headroom[source], through[source]) * tree.efficiency_ratio[node]
            if not standby and let < through[node]:
                through[node] = let
                full[node] = source if headroom[source] <= through[source] else full[source]
    takeable = np.minimum(free, np.minimum(below, through))
    left = free - takeable
    some = left > SLACK * np.maximum(free, 1.0)
    by_source = some & (through < below)
    why = tuple("source" if above else "racks_below" if one else "" for one, above in zip(some, by_source, strict=True))
    return Stranded(free, takeable, np.where(some, left, 0.0), why, np.where(by_source, full, -1))


# --- inside -----------------------------------------------------------------------------------------------------------
def _sources(tree: SupplyTree) -> list[list[tuple[int, bool]]]:
    """Return the sources of each node, and whether they are on standby."""
    found: list[list[tuple[int, bool]]] = [[] for _ in tree.slugs]
    links = zip(tree.link_node.tolist(), tree.link_source.tolist(), tree.link_standby.tolist(), strict=True)
    for node, source, standby in links:
        found[node].append((source, standby))
    return found


def _drawn_on(sources: list[tuple[int, bool]], alive: BoolArray) -> list[int]:
    """Return the sources that a living node draws on: its living primary ones, else its living standby ones."""
    primary = [source for source, standby in sources if alive[source] and not standby]
    return primary or [source for source, _ in sources if alive[source]]


def tree_parts(tree: SupplyTree) -> Iterator["TreePart"]:
    """Yield the parts of a tree that share no node and no rack: sites."""
    count = len(tree.slugs)
    rows = np.concatenate((tree.link_node, count + tree.leaf_rack))
    columns = np.concatenate((tree.link_source, tree.leaf_node))
    size = count + tree.racks
    edges = sparse.coo_matrix((np.ones(len(rows)), (rows, columns)), shape=(size, size))
    parts, label = csgraph.connected_components(edges, directed=False)
    place = np.empty(count, dtype=np.int64)
    place[tree.order] = np.arange(count)
    by_label = np.argsort(label[:count], kind="stable")
    bounds = np.searchsorted(label[:count][by_label], np.arange(parts + 1))
    link_by = np.argsort(label[tree.link_node], kind="stable")
    link_bounds = np.searchsorted(label[tree.link_node][link_by], np.arange(parts + 1))
    leaf_by = np.argsort(label[tree.leaf_node], kind="stable")
    leaf_bounds = np.searchsorted(label[tree.leaf_node][leaf_by], np.arange(parts + 1))
    for at in range(parts):
        nodes = by_label[bounds[at] : bounds[at + 1]]
        if len(nodes):
            nodes = nodes[np.argsort(place[nodes])]
            links = link_by[link_bounds[at] : link_bounds[at + 1]]
            yield TreePart(tree, nodes, links, leaf_by[leaf_bounds[at] : leaf_bounds[at + 1]])


class TreePart:
    """One connected part. Nodes that feed others (`upper`) are few: their failures are looked at one by one, all racks
    at once. The failure of a node that feeds racks alone changes the split of those racks alone: it is a sum.
    """

    def __init__(self, tree: SupplyTree, nodes: IntArray, links: IntArray, leaves: IntArray) -> None:
        self.nodes, self.size = nodes, len(nodes)
        at = np.full(len(tree.slugs), -1, dtype=np.int64)
        at[nodes] = np.arange(self.size)
        self.usable, self.house = tree.usable[nodes], tree.house[nodes]
        self.efficiency_ratio = tree.efficiency_ratio[nodes]
        self.sources: list[list[tuple[int, bool]]] = [[] for _ in nodes]
        rows = zip(at[tree.link_node[links]], at[tree.link_source[links]], tree.link_standby[links], strict=True)
        for node, source, standby in rows:
            self.sources[node].append((int(source), bool(standby)))
        feeds = np.zeros(self.size, dtype=bool)
        feeds[at[tree.link_source[links]]] = True
        self.upper = np.flatnonzero(feeds)  # in order: each after its sources
        # most ends have one source: those are computed with all at once, the others one after the other
        alone = np.array([len(sources) == 1 for sources in self.sources], dtype=bool) & ~feeds
        self.single = np.flatnonzero(alone)
        self.single_source = np.array([self.sources[node][0][0] for node in self.single], dtype=np.int64)
        self.others = np.flatnonzero(~alone).tolist()
        shape = (len(self.single), self.size)
        drawn = 1 / self.efficiency_ratio[self.single]
        self.to_source = sparse.csr_matrix((drawn, (np.arange(shape[0]), self.single_source)), shape=shape)
        self.racks, self.leaf_rack = np.unique(tree.leaf_rack[leaves], return_inverse=True)
        self.leaf_node = at[tree.leaf_node[leaves]]
        shape = (len(self.leaf_node), self.size)
        ones = np.ones(len(self.leaf_node))
        self.to_node = sparse.csr_matrix((ones, (np.arange(shape[0]), self.leaf_node)), shape=shape)
        shape = (len(self.leaf_node), len(self.racks))
        self.to_rack = sparse.csr_matrix((ones, (np.arange(shape[0]), self.leaf_rack)), shape=shape)

    def alive(self) -> BoolArray:
        """Return which nodes live without a failure (first row), and under that of each upper node, bool[1+U, N]."""
        alive = np.ones((1 + len(self.upper), self.size), dtype=bool)
        alive[1 + np.arange(len(self.upper)), self.upper] = False
        for node in self.others:
            if self.sources[node]:
                alive[:, node] &= alive[:, [source for source, _ in self.sources[node]]].any(axis=1)
        alive[:, self.single] &= alive[:, self.single_source]
        return alive

    def loads(self, rack_load: FloatArray) -> tuple[FloatArray, FloatArray, IntArray]:
        """Return the loads now and at worst, float64[N], and the failure that gives the latter, int64[N]."""
        alive, load = self.alive(), rack_load[self.racks]
        total = self.totals(alive, load)
        now = total[0]
        worst, failure = total[1:].max(axis=0, initial=0.0), np.full(self.size, -1, dtype=np.int64)
        if len(self.upper):
            failure = self.upper[np.argmax(total[1:], axis=0)]
        end_worst, end_failure = self._end_failures(now, load, alive)
        # of equal failures the first by the order of the tree's nodes
        better = (end_worst > worst) | ((end_worst == worst) & (self.nodes[end_failure] < self.nodes[failure]))
        worst, failure = np.where(better, end_worst, worst), np.where(better, end_failure, failure)
        raised = worst > now + SLACK * np.maximum(np.abs(now), 1e-300)
        return now, np.where(raised, worst, now), np.where(raised, self.nodes[failure], -1)

    def totals(self, alive: BoolArray, load: FloatArray) -> FloatArray:
        """Return the load of every node under no failure and under that of each upper node, float64[1+U, N]."""
        living = alive[:, self.leaf_node]
        count = living @ self.to_rack
        each = np.divide(load, count, out=np.zeros(count.shape), where=count > 0)
        total = (living * each[:, self.leaf_rack]) @ self.to_node + alive * self.house
        total += total[:, self.single] @ self.to_source  # a dead one has no load
        for node in reversed(self.others):
            for source, share in self._draws(node, alive):
                total[:, source] += share * total[:, node]
        return total

    def shares(self, alive: BoolArray, racks: IntArray) -> FloatArray:
        """Return what a load of 1 in each of some racks adds to each shared node, float64[1+U, shared, racks]. [-]

        Rows as in `alive`; `racks` are positions in `self.racks`, and columns those of `self.shared`.
        """
        shares = np.zeros((len(alive), len(self.shared), len(racks)))
        column = {int(node): at for at, node in enumerate(self.shared)}
        for at, rack in enumerate(racks):
            leaves = self.leaf_node[self.leaf_rack == rack]
            living = alive[:, leaves]
            count = np.maximum(living.sum(axis=1), 1)
            reached = {int(leaf): living[:, index] / count for index, leaf in enumerate(leaves)}
            while reached:
                node = max(reached)  # sources come first in order, so nothing that is still to come draws on it
                share = reached.pop(node)
                if node in column:
                    shares[:, column[node], at] = share
                for source, drawn in self._draws(node, alive):
                    reached[source] = reached.get(source, 0.0) + drawn * share
        return shares

    @cached_property
    def shared(self) -> IntArray:
        """Nodes on which more than one rack may draw: all but the feeds of single racks, int64[shared]."""
        racks = np.bincount(self.leaf_node, minlength=self.size)
        racks[self.upper] += 2
        return np.flatnonzero(racks > 1)

    def alike(self) -> list[tuple[Any, ...]]:
        """Return a key for each rack of this part; racks with equal keys load the shared nodes equally."""
        shared = set(self.shared.tolist())
        keys: list[list[Any]] = [[] for _ in self.racks]
        for rack, node in zip(self.leaf_rack.tolist(), self.leaf_node.tolist(), strict=True):
            own = (node,) if node in shared else (-1, float(self.efficiency_ratio[node]), *sorted(self.sources[node]))
            keys[rack].append(own)
        return [tuple(sorted(key)) for key in keys]

    def _draws(self, node: int, alive: BoolArray) -> Iterator[tuple[int, FloatArray]]:
        """Yield the sources of a node and the share of its load that each gives, under each failure."""
        if not self.sources[node]:
            return
        at = [source for source, _ in self.sources[node]]
        standby = np.array([spare for _, spare in self.sources[node]])
        live = alive[:, at]
        primary = live & ~standby
        drawn = np.where(primary.any(axis=1)[:, None], primary, live)
        count = np.maximum(drawn.sum(axis=1), 1)
        for index, source in enumerate(at):
            yield source, drawn[:, index] / count / self.efficiency_ratio[node]

    def end_loads(self, load: FloatArray) -> tuple[IntArray, FloatArray]:
        """Return the nodes that feed racks alone, int64[E], and the load of each shared node when one of them fails.

        The loads are float64[E, shared]; `load` is that of this part's racks.
        """
        alive = self.alive()
        now = self.totals(alive[:1], load)[0]
        ends, gains, upward = self._end_gains(now, load, alive)
        loads = now[self.shared] + gains[:, self.shared].toarray()
        loads[ends[:, None] == self.shared[None, :]] = 0.0
        loads[:, np.isin(self.shared, self.upper)] = now[self.upper] + upward
        return ends, loads

    def _end_failures(self, now: FloatArray, load: FloatArray, alive: BoolArray) -> tuple[FloatArray, IntArray]:
        """Return the highest load of each node under the failure of one that feeds racks alone, and which one it is."""
        ends, gains, upward = self._end_gains(now, load, alive)
        if not len(ends):
            return np.zeros(self.size), np.zeros(self.size, dtype=np.int64)
        pairs = gains.tocoo()
        other = ends[pairs.row] != pairs.col
        row, node, gain = ends[pairs.row[other]], pairs.col[other], pairs.data[other]
        worst, which = now.copy(), np.full(self.size, ends[0], dtype=np.int64)
        order = np.lexsort((-self.nodes[row], gain))  # the highest is written last, of equals the first node
        worst[node[order]], which[node[order]] = now[node[order]] + gain[order], row[order]
        if len(self.upper):
            worst[self.upper] = now[self.upper] + upward.max(axis=0)
            which[self.upper] = ends[upward.argmax(axis=0)]
        return worst, which

    def _end_gains(self, now: FloatArray, load: FloatArray, alive: BoolArray) -> tuple[IntArray, Any, FloatArray]:
        """Return the ends, what nodes with racks gain when each fails, sparse [E, N], and upper ones, float64[E, U].

        Without a failure all nodes live, so what reaches a node is linear in the loads of the leaf nodes.
        """
        ends = np.setdiff1d(np.arange(self.size), self.upper)
        reach = np.zeros((self.size, len(self.upper)))
        column = np.full(self.size, -1, dtype=np.int64)
        column[self.upper] = np.arange(len(self.upper))
        reach[self.upper, column[self.upper]] = 1.0
        base = alive[:1]
        for node in self.others:  # sources come first: what they give on is known
            for source, share in self._draws(node, base):
                reach[node] += share[0] * reach[source]
        reach[self.single] = reach[self.single_source] / self.efficiency_ratio[self.single][:, None]
        leaves = np.bincount(self.leaf_rack, minlength=len(self.racks))
        shift = np.divide(load, leaves * (leaves - 1), out=np.zeros(len(load)), where=leaves > 1)
        gains = (self.to_node.T @ self.to_rack @ sparse.diags(shift) @ self.to_rack.T @ self.to_node).tocsr()[ends]
        upward = (gains @ sparse.csr_matrix(reach)).toarray()
        lost = gains[np.arange(len(ends)), ends]  # by which the product has raised the failed node itself
        upward -= (now[ends] + np.asarray(lost).reshape(-1))[:, None] * reach[ends]
        return ends, gains, upward

    def limit_racks(self, limits: FloatArray) -> None:
        """Lower the limits of this part's racks to what their leaf nodes bear."""
        living = self.alive()[:, self.leaf_node]
        order = np.argsort(self.leaf_rack, kind="stable")
        starts = np.searchsorted(self.leaf_rack[order], np.arange(len(self.racks)))
        usable = self.usable[self.leaf_node[order]]
        ends = ~np.isin(self.leaf_node[order], self.upper)

        def lower(live: BoolArray) -> None:
            count = np.add.reduceat(live.astype(np.int64), starts)
            least = np.minimum.reduceat(np.where(live, usable, np.inf), starts)
            bears = np.multiply(count, least, out=np.full(len(count), np.inf), where=count > 0)  # dark does not count
            limits[self.racks] = np.minimum(limits[self.racks], bears)

        for row in np.unique(living, axis=0):
            lower(row[order])
        place = np.arange(len(order)) - starts[self.leaf_rack[order]]
        for lost in range(place.max(initial=-1) + 1):  # an end that fails concerns its own racks: one of each at a time
            lower(living[0][order] & ~((place == lost) & ends))

    @cached_property
    def looped(self) -> list[int]:
        """Racks that draw on a node that feeds others: their load may reach it on two ways."""
        return sorted({int(self.racks[rack]) for rack in self.leaf_rack[np.isin(self.leaf_node, self.upper)]})
