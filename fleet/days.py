"""A fleet on one day, as every question about its loads meets it: racks, limits, nodes. Values in, values out."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date
from functools import cached_property
from weakref import WeakKeyDictionary

import numpy as np

from fleet.domains import BoolArray, replicas_serving
from fleet.loads import (
    CABINET,
    COOLING,
    COOLING_NODE,
    FEED,
    LIMITS,
    NODE,
    PORTS,
    UNITS,
    WEIGHT,
    FleetLoads,
    loads_on,
)
from fleet.snapshot import FleetSnapshot, FloatArray, IntArray, TreeFacts
from fleet.trees import SupplyTree, TreeLoads, rack_limits, stranded

LIMIT_UNITS: Mapping[str, str] = {
    UNITS: "U",
    CABINET: "W",
    FEED: "VA",
    NODE: "VA",
    COOLING: "W",
    COOLING_NODE: "W",
    PORTS: "ports",
    WEIGHT: "kg",
}
"""Units in which loads and limits of a rack are counted."""

_loads: WeakKeyDictionary[FleetSnapshot, FleetLoads] = WeakKeyDictionary()  # lives as long as the snapshot is kept


def loads_kept(snapshot: FleetSnapshot) -> FleetLoads:
    """Return the loads of a snapshot's own day, computed once for as long as it is kept."""
    loads = _loads.get(snapshot)
    if loads is None:
        loads = _loads[snapshot] = loads_on(snapshot, snapshot.as_of)
    return loads


@dataclass(frozen=True, eq=False)
class FleetDay:
    """A site, or a whole fleet, on a day: what stands there, and its loads."""

    snapshot: FleetSnapshot
    loads: FleetLoads
    day: date

    @cached_property
    def is_open(self) -> BoolArray:
        """Which racks may be used, bool[R]."""
        return self.snapshot.rack_open(self.day)

    @cached_property
    def rack_at(self) -> Mapping[str, int]:
        """Position of each rack by its slug."""
        return {slug: at for at, slug in enumerate(self.snapshot.rack_slugs)}

    @cached_property
    def serving(self) -> BoolArray:
        """Which hosts serve, bool[H]."""
        return self.snapshot.hosts_serving(self.day)

    @cached_property
    def replicas(self) -> IntArray:
        """Replicas of each deployment that serve, int64[D]. [-]"""
        return replicas_serving(self.snapshot, self.day, self.serving)

    @cached_property
    def to_come(self) -> IntArray:
        """Hosts that are dated later in each rack, int64[R]. [-]"""
        later = self.snapshot.host_first_day > self.day.toordinal()
        return np.bincount(self.snapshot.host_rack[later], minlength=len(self.snapshot.rack_slugs))

    # --- limits of racks ----------------------------------------------------------------------------------------------
    @cached_property
    def load(self) -> FloatArray:
        """Load on each limit of each rack in its unit, float64[R, L]: columns as in `LIMITS`."""
        snapshot, loads = self.snapshot, self.loads
        per_kind = [
            np.array([getattr(kind, name) for kind in snapshot.kinds], float) for name in ("ports", "weight_kg")
        ]
        ports, weight_kg = (snapshot.rack_sum(values, self.day) for values in per_kind)
        columns = {
            UNITS: loads.rack_u,
            CABINET: loads.rack_w,
            FEED: _of_nodes(loads.power.worst, self._node(FEED), 0.0),
            NODE: _of_nodes(loads.power.worst, self._node(NODE), 0.0),
            COOLING: loads.rack_w,
            COOLING_NODE: _of_nodes(loads.cooling.worst, self._node(COOLING_NODE), 0.0),
            PORTS: ports,
            WEIGHT: weight_kg,
        }
        return np.stack([columns[name] for name in LIMITS], axis=1).astype(np.float64)

    @cached_property
    def limit(self) -> FloatArray:
        """Those limits, float64[R, L]; inf where nobody knows."""
        snapshot, loads = self.snapshot, self.loads
        columns = {
            UNITS: snapshot.rack_height_u,
            CABINET: snapshot.rack_power_limit_w,
            FEED: _of_nodes(loads.power.usable, self._node(FEED), np.inf),
            NODE: _of_nodes(loads.power.usable, self._node(NODE), np.inf),
            COOLING: snapshot.rack_cooling_limit_w,
            COOLING_NODE: _of_nodes(loads.cooling.usable, self._node(COOLING_NODE), np.inf),
            PORTS: snapshot.rack_ports,
            WEIGHT: snapshot.rack_weight_limit_kg,
        }
        return np.stack([columns[name] for name in LIMITS], axis=1).astype(np.float64)

    def _node(self, limit: str) -> IntArray:
        node: IntArray = self.loads.node[:, LIMITS.index(limit)]
        return node

    # --- nodes of trees -----------------------------------------------------------------------------------------------
    def facts(self, tree: str) -> TreeFacts:
        """Return the nodes of `power`, `cooling` or `network`, of all days."""
        found: TreeFacts = getattr(self.snapshot, tree)
        return found

    @cached_property
    def network_tree(self) -> SupplyTree:
        """The switches of the day."""
        return self.snapshot.network.on(self.day, len(self.snapshot.rack_slugs))

    def tree(self, name: str) -> SupplyTree:
        """Return a tree of the day."""
        found: SupplyTree = self.network_tree if name == "network" else getattr(self.loads, f"{name}_tree")
        return found

    def tree_loads(self, name: str) -> TreeLoads:
        """Return the loads of the nodes of `power` [VA] or `cooling` [W]."""
        found: TreeLoads = getattr(self.loads, name)
        return found

    def nodes(self, tree: str) -> IntArray:
        """Return the positions of the nodes that are in service."""
        facts, day = self.facts(tree), self.day.toordinal()
        found: IntArray = np.flatnonzero((facts.first_day <= day) & (day < facts.last_day))
        return found

    def rack_room(self, tree: str) -> FloatArray:
        """Return what each rack could add by its own limits, float64[R]; none without a free unit. [VA] or [W]"""
        snapshot, loads = self.snapshot, self.loads
        load = loads.rack_va if tree == "power" else loads.rack_w
        room = np.minimum(snapshot.rack_power_limit_w, snapshot.rack_cooling_limit_w) - loads.rack_w
        room = np.minimum(room, rack_limits(self.tree(tree)) - load)
        takes = self.is_open & (loads.rack_u < snapshot.rack_height_u)
        return np.where(takes, np.maximum(room, 0.0), 0.0)


@dataclass(frozen=True, slots=True)
class NodeFigures:
    """A node of power [VA] or cooling [W]: loads now and at worst, what it may bear for hours, what is left.

    `failure` is the node whose loss gives the worst load, empty where none adds to it. `usable` is its rating after
    derating, None where nobody knows, and then there are neither share nor headroom. `stranded` is headroom that
    cannot be taken, at least; `why` is `racks_below`, or `source` for what `why_node` above does not let through.
    """

    at: int
    slug: str
    kind: str
    now: float
    worst: float
    failure: str
    usable: float | None
    share_ratio: float | None
    headroom: float | None
    stranded: float
    why: str
    why_node: str


def node_figures(day: FleetDay, tree: str) -> list[NodeFigures]:
    """Return the nodes of power or cooling that are in service on a day, in the order of their names."""
    facts, loads = day.facts(tree), day.tree_loads(tree)
    left, ratio = stranded(day.tree(tree), loads, day.rack_room(tree)), loads.worst_ratio
    found = []
    for at in day.nodes(tree).tolist():
        failure, why_node = int(loads.worst_failure[at]), int(left.why_node[at])
        is_rated = bool(np.isfinite(loads.usable[at]))
        found.append(
            NodeFigures(
                at=at,
                slug=facts.slugs[at],
                kind=facts.kinds[at],
                now=float(loads.now[at]),
                worst=float(loads.worst[at]),
                failure=facts.slugs[failure] if failure >= 0 else "",
                usable=float(loads.usable[at]) if is_rated else None,
                share_ratio=float(ratio[at]) if is_rated else None,
                headroom=float(loads.headroom[at]) if is_rated else None,
                stranded=float(left.stranded[at]),
                why=left.why[at],
                why_node=facts.slugs[why_node] if why_node >= 0 else "",
            )
        )
    return found


def _of_nodes(values: FloatArray, nodes: IntArray, none: float) -> FloatArray:
    return np.array([values[node] if node >= 0 else none for node in nodes.tolist()], dtype=np.float64)
