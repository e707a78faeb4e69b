"""Failure domains: what is lost with one node of the four trees over a host. Values in, values out.

A host stands in a place, and hangs on a power, a cooling and a network tree. Whoever asks what a switchboard, a loop, a
spine or a hall takes with it asks the same question of another tree.
"""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from fleet.snapshot import FleetSnapshot, FloatArray, IntArray, TreeFacts
from fleet.trees import racks_below, racks_dark

BoolArray = NDArray[np.bool_]

PLACES = ("region", "site", "hall", "row", "rack", "host", "scale-up-domain")
TREES = ("power", "cooling", "network")


class UnknownNodeError(ValueError):
    """There is no such node in that tree."""


@dataclass(frozen=True, slots=True)
class TierLoss:
    """What one tier serves, and what of it is lost: replicas [-], and their output [tok/s]."""

    tier: str
    replicas_before: int
    replicas_lost: int
    before_tok_s: float
    lost_tok_s: float


@dataclass(frozen=True, eq=False)
class BlastRadius:
    """What goes with one node.

    Attributes
    ----------
    tree, node : str
        Which node of which tree; of places, the tree is the kind of place.
    racks : int64[*]
        Positions of the racks that go dark or are inside.
    racks_kept : int64[*]
        Positions of the racks that hang on the node and run on by another one.
    hosts : int64[*]
        Positions of the hosts lost, those in maintenance included.
    replicas_before, replicas_lost : int64[D]
        Replicas of each deployment that serve before, and those of them lost. [-]
    tiers : tuple of TierLoss
        Output within the promises by tier, in the order of their names. [tok/s]
    """

    tree: str
    node: str
    racks: IntArray
    racks_kept: IntArray
    hosts: IntArray
    replicas_before: IntArray
    replicas_lost: IntArray
    tiers: tuple[TierLoss, ...]


def blast_radius(snapshot: FleetSnapshot, day: date, *, tree: str, node: str) -> BlastRadius:
    """Return what is lost on a day with one node.

    Parameters
    ----------
    tree : str
        `power`, `cooling`, `network`, or a kind of place: `region`, `site`, `hall` (`dc01/h1`), `row` (`dc01/h1/a`),
        `rack`, `host`, `scale-up-domain`.
    node : str
        Its slug or key.

    Raises
    ------
    UnknownNodeError
        Naming what there is not.
    """
    reached = reach(snapshot, day, tree=tree, node=node)
    racks, on_it, hosts = reached.racks, reached.racks_below, reached.hosts & snapshot.hosts_here(day)
    serving = snapshot.hosts_serving(day)
    before = replicas_serving(snapshot, day, serving)
    lost = before - replicas_serving(snapshot, day, serving & ~hosts)
    return BlastRadius(
        tree=tree,
        node=node,
        racks=np.flatnonzero(racks & snapshot.rack_open(day)),
        racks_kept=np.flatnonzero(on_it & ~racks & snapshot.rack_open(day)),
        hosts=np.flatnonzero(hosts),
        replicas_before=before,
        replicas_lost=lost,
        tiers=_tiers(snapshot, before, lost),
    )


@dataclass(frozen=True, eq=False)
class Reach:
    """What a node reaches on a day, whoever stands there: racks that go dark or are inside, those that hang on it at
    all, each bool[R], and hosts, bool[H]."""

    racks: BoolArray
    racks_below: BoolArray
    hosts: BoolArray


def reach(snapshot: FleetSnapshot, day: date, *, tree: str, node: str) -> Reach:
    """Return what is lost on a day with one node of a tree, or with a place.

    Raises
    ------
    UnknownNodeError
        Naming what there is not.
    """
    racks, on_it = (np.zeros(len(snapshot.rack_slugs), dtype=bool) for _ in range(2))
    if tree in {"host", "scale-up-domain"}:
        return Reach(racks, on_it, _hosts_of(snapshot, tree, node))
    if tree in TREES:
        racks, on_it = _dark(snapshot, day, tree, node)
    else:
        racks = racks_of_place(snapshot, tree, node)
    return Reach(racks, on_it, racks[snapshot.host_rack])


def replicas_serving(snapshot: FleetSnapshot, day: date, serving: BoolArray) -> IntArray:
    """Return how many replicas of each deployment run if the hosts `serving`, bool[H], do, int64[D]. [-]

    A replica that spans the hosts of a unit runs while all of them do.
    """
    here = (snapshot.placement_first_day <= day.toordinal()) & (day.toordinal() < snapshot.placement_last_day)
    deployment, unit = snapshot.placement_deployment[here], snapshot.placement_unit[here]
    runs = serving[snapshot.placement_host[here]]
    alone = unit < 0
    count = np.zeros(len(snapshot.deployments), dtype=np.int64)
    np.add.at(count, deployment[alone], snapshot.placement_replicas[here][alone] * runs[alone])
    if not alone.all():
        parts = np.stack([deployment[~alone], unit[~alone]], axis=1)
        units, which = np.unique(parts, axis=0, return_inverse=True)
        whole = np.ones(len(units), dtype=bool)
        np.logical_and.at(whole, which.reshape(-1), runs[~alone])
        np.add.at(count, units[whole, 0], 1)
    return count


def racks_of_place(snapshot: FleetSnapshot, kind: str, key: str) -> BoolArray:
    """Return which racks stand in a region, site, hall or row, or are the rack named, bool[R]."""
    count = len(snapshot.rack_slugs)
    if kind == "rack":
        known, of_rack = [slug == key for slug in snapshot.rack_slugs], np.arange(count)
    elif kind in {"hall", "row"}:
        known = [row == key if kind == "row" else row.startswith(f"{key}/") for row in snapshot.row_keys]
        of_rack = snapshot.rack_row
    elif kind in {"region", "site"}:
        known = [(site.slug if kind == "site" else site.region) == key for site in snapshot.sites]
        of_rack = snapshot.rack_site
    else:
        raise UnknownNodeError(f"unknown tree {kind!r}; there are: {', '.join((*TREES, *PLACES))}")
    if not any(known):
        raise UnknownNodeError(f"no {kind} {key!r} with racks stands in the fleet on {snapshot.as_of} or later")
    return np.array(known, dtype=bool)[of_rack]


def tree_of(snapshot: FleetSnapshot, tree: str) -> TreeFacts:
    """Return one of the trees of supply by its name."""
    if tree not in TREES:
        raise UnknownNodeError(f"unknown tree {tree!r}; there are: {', '.join(TREES)}")
    found: TreeFacts = getattr(snapshot, tree)
    return found


def _dark(snapshot: FleetSnapshot, day: date, tree: str, node: str) -> tuple[BoolArray, BoolArray]:
    """Return which racks go dark with a node, and which hang on it, bool[R]."""
    facts = tree_of(snapshot, tree)
    if node not in facts.slugs:
        raise UnknownNodeError(f"no node {node!r} is in the {tree} tree on {snapshot.as_of} or later")
    there, at = facts.on(day, len(snapshot.rack_slugs)), facts.slugs.index(node)
    return racks_dark(there, at), racks_below(there)[at]


def _hosts_of(snapshot: FleetSnapshot, tree: str, node: str) -> BoolArray:
    if tree == "host":
        hosts = np.array([slug == node for slug in snapshot.host_slugs], dtype=bool)
    else:
        at = snapshot.domain_slugs.index(node) if node in snapshot.domain_slugs else -2
        hosts = snapshot.host_domain == at
    if not hosts.any():
        raise UnknownNodeError(f"no host is {'' if tree == 'host' else 'in '}{node!r} on {snapshot.as_of} or later")
    return hosts


def _tiers(snapshot: FleetSnapshot, before: IntArray, lost: IntArray) -> tuple[TierLoss, ...]:
    tier_of = {service.slug: service.tier for service in snapshot.services}
    rate_tok_s: FloatArray = np.array([one.replica_tok_s for one in snapshot.deployments], dtype=np.float64)
    tiers = np.array([tier_of.get(one.service, "") for one in snapshot.deployments], dtype=object)
    found = []
    for tier in sorted(set(tier_of.values())):
        here = tiers == tier
        replicas = int(before[here].sum()), int(lost[here].sum())
        found.append(TierLoss(tier, *replicas, *(float((one * rate_tok_s)[here].sum()) for one in (before, lost))))
    return tuple(found)
