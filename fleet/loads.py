"""How full racks and rows are, and of what: every limit that bears on a rack, and the one that is nearest.

Values in, values out. Loads are those to plan with; a feed, and whatever is above it, counts with its load after the
worst single failure, because that is the one it has to bear.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np

from fleet.snapshot import FleetSnapshot, FloatArray, IntArray
from fleet.trees import SupplyTree, TreeLoads, tree_loads

UNITS, CABINET, FEED, NODE, COOLING, COOLING_NODE, PORTS, WEIGHT = (
    *("rack_units", "rack_power", "feed_failover_power", "power_node_failover"),
    *("rack_cooling", "cooling_node_failover", "ports", "weight"),
)
LIMITS = (UNITS, CABINET, FEED, NODE, COOLING, COOLING_NODE, PORTS, WEIGHT)
"""What may bear on a rack, in the order of the columns of `ratio`."""


@dataclass(frozen=True, eq=False)
class FleetLoads:
    """Loads of a day.

    Attributes
    ----------
    rack_w, rack_va : float64[R]
        Power to plan with of the hosts in each rack, and apparent power. [W], [VA]
    rack_u, rack_hosts : int64[R]
        Rack units filled, and hosts. [U], [-]
    power_tree, cooling_tree : SupplyTree
        The trees of the day.
    power, cooling : TreeLoads
        Load of every node, now and after the worst single failure. [VA], [W]
    ratio : float64[R, L]
        Load over limit, one column for each of `LIMITS`; 0 where there is no such limit. [-]
    node : int64[R, L]
        Position of the node that a ratio is of, in its tree; -1 where the rack itself is meant.
    """

    rack_w: FloatArray
    rack_va: FloatArray
    rack_u: IntArray
    rack_hosts: IntArray
    power_tree: SupplyTree
    cooling_tree: SupplyTree
    power: TreeLoads
    cooling: TreeLoads
    ratio: FloatArray
    node: IntArray

    def nearest(self, racks: IntArray) -> tuple[str, float, int, int]:
        """Return the nearest limit over some racks: its name, load over limit [-], the rack, and its node or -1."""
        if not len(racks):
            return "", 0.0, -1, -1
        rack, limit = divmod(int(np.argmax(self.ratio[racks])), len(LIMITS))
        at = int(racks[rack])
        return LIMITS[limit], float(self.ratio[at, limit]), at, int(self.node[at, limit])

    def node_slug(self, limit: str, node: int) -> str:
        """Return the name of the node that a limit is of, or an empty text where it is the rack's own."""
        if node < 0:
            return ""
        return (self.cooling_tree if limit == COOLING_NODE else self.power_tree).slugs[node]


def loads_on(snapshot: FleetSnapshot, day: date) -> FleetLoads:
    """Return the loads of a day, and how near each rack is to each of its limits."""
    racks = len(snapshot.rack_slugs)
    rack_w = snapshot.rack_sum(snapshot.kind_power_w, day)
    rack_va = snapshot.rack_sum(snapshot.kind_apparent_va, day)
    rack_u = snapshot.rack_sum(snapshot.kind_height_u.astype(np.float64), day)
    ports = snapshot.rack_sum(np.array([kind.ports for kind in snapshot.kinds], dtype=np.float64), day)
    weight_kg = snapshot.rack_sum(np.array([kind.weight_kg for kind in snapshot.kinds], dtype=np.float64), day)
    power_tree, cooling_tree = snapshot.power.on(day, racks), snapshot.cooling.on(day, racks)
    power, cooling = tree_loads(power_tree, rack_va), tree_loads(cooling_tree, rack_w)
    feed, feed_node = _of_racks(power_tree, _worst_ratio(power))
    above, above_node = _of_racks(power_tree, *_upward(power_tree, _worst_ratio(power)))
    heat, heat_node = _of_racks(cooling_tree, *_upward(cooling_tree, _worst_ratio(cooling), own=True))
    none = np.full(racks, -1, dtype=np.int64)
    columns = {
        UNITS: (rack_u / snapshot.rack_height_u, none),
        CABINET: (rack_w / snapshot.rack_power_limit_w, none),
        FEED: (feed, feed_node),
        NODE: (above, above_node),
        COOLING: (rack_w / snapshot.rack_cooling_limit_w, none),
        COOLING_NODE: (heat, heat_node),
        PORTS: (_over(ports, snapshot.rack_ports), none),
        WEIGHT: (weight_kg / snapshot.rack_weight_limit_kg, none),
    }
    return FleetLoads(
        rack_w=rack_w,
        rack_va=rack_va,
        rack_u=rack_u.astype(np.int64),
        rack_hosts=snapshot.rack_hosts(day).sum(axis=1),
        power_tree=power_tree,
        cooling_tree=cooling_tree,
        power=power,
        cooling=cooling,
        ratio=np.stack([columns[name][0] for name in LIMITS], axis=1),
        node=np.stack([columns[name][1] for name in LIMITS], axis=1),
    )


def _over(load: FloatArray, limit: FloatArray) -> FloatArray:
    """Return load over limit; a limit of 0 is full of anything."""
    return np.divide(load, limit, out=np.where(load > 0, np.inf, 0.0), where=limit > 0)


def _worst_ratio(loads: TreeLoads) -> FloatArray:
    return _over(loads.worst, loads.usable)


def _upward(tree: SupplyTree, ratio: FloatArray, *, own: bool = False) -> tuple[FloatArray, IntArray]:
    """Return, for each node, the highest ratio of what is above it, and whose it is, -1: nothing is above.

    With `own` the node itself counts too.
    """
    best, whose = ratio.copy(), np.arange(len(ratio))
    above, above_whose = np.zeros(len(ratio)), np.full(len(ratio), -1)
    for _ in range(len(ratio)):  # as often as the tree is deep
        before = above.copy()
        order = np.argsort(best[tree.link_source], kind="stable")
        node, source = tree.link_node[order], tree.link_source[order]
        higher = best[source] > above[node]
        above[node[higher]], above_whose[node[higher]] = best[source[higher]], whose[source[higher]]
        grown = above > best
        best[grown], whose[grown] = above[grown], above_whose[grown]
        if (above == before).all():
            break
    return (best, whose) if own else (above, above_whose)


def _of_racks(tree: SupplyTree, ratio: FloatArray, whose: IntArray | None = None) -> tuple[FloatArray, IntArray]:
    """Return the highest ratio over the nodes that a rack draws on, float64[R], and whose it is, int64[R]."""
    found, node = np.zeros(tree.racks), np.full(tree.racks, -1, dtype=np.int64)
    order = np.argsort(ratio[tree.leaf_node], kind="stable")  # the highest is written last
    rack, leaf = tree.leaf_rack[order], tree.leaf_node[order]
    found[rack] = ratio[leaf]
    node[rack] = leaf if whose is None else whose[leaf]
    return found, node
