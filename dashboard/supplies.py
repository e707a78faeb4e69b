"""What feeds, cools and connects racks, as rows of pages: feeds, chains of nodes, single failures.

Values in, values out.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

from dashboard.limits import (
    KIND_WORDS,
    SiteDay,
    after_words,
    amount_text,
    node_text,
    of_text,
    of_tree,
)
from dashboard.power_drawings import FeedLoad
from dashboard.presenters import OVER_RATIO, UNKNOWN, percent_text, state_of
from fleet.domains import BoolArray, replicas_serving, tree_of
from fleet.snapshot import IntArray, TreeFacts
from fleet.trees import SupplyTree, racks_dark, tree_after, tree_loads


# --- what goes dark ---------------------------------------------------------------------------------------------------
def racks_lost(tree: SupplyTree) -> dict[int, IntArray]:
    """Return the racks that go dark with each single node, for those nodes that take any with them.

    Nodes that feed others are looked at one by one; one that feeds racks alone takes those that have no other.
    """
    lost = {}
    for node in np.unique(tree.link_source).tolist():
        dark = racks_dark(tree, node)
        if dark.any():
            lost[node] = np.flatnonzero(dark)
    alone = np.bincount(tree.leaf_rack, minlength=tree.racks)[tree.leaf_rack] == 1
    for node in np.unique(tree.leaf_node[alone]).tolist():
        if node not in lost:
            lost[node] = np.sort(tree.leaf_rack[alone & (tree.leaf_node == node)])
    return lost


@dataclass(frozen=True, slots=True)
class Lost:
    """What goes with one node: racks that go dark or are inside, hosts in them, replicas that end."""

    racks: int
    hosts: int
    replicas: int


def lost_of(site: SiteDay, hosts: BoolArray, racks: int) -> Lost:
    """Return what goes with some hosts, bool[H], in so many racks."""
    here = hosts & site.snapshot.hosts_here(site.day)
    if not here.any():
        return Lost(racks, 0, 0)
    after = replicas_serving(site.snapshot, site.day, site.serving & ~here)
    return Lost(racks, int(here.sum()), int((site.replicas - after).sum()))


def lost_with_racks(site: SiteDay, racks: IntArray) -> Lost:
    """Return what goes with some racks; closed ones do not count."""
    racks = racks[site.is_open[racks]]
    return lost_of(site, np.isin(site.snapshot.host_rack, racks), len(racks))


# --- chains -----------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ChainRow:
    """One node on the way from a rack up: how far up, its load now and at worst, and what goes with it."""

    level: int
    name: str
    kind: str
    url: str
    note: str
    now: str
    worst: str
    cause: str
    state: str
    word: str
    lost: Lost


def chain_of(site: SiteDay, name: str, rack: int) -> list[ChainRow]:
    """Return the nodes of a tree that a rack draws on, from its own upwards; those on standby among them."""
    facts = tree_of(site.snapshot, name)
    tree = facts.on(site.day, len(site.snapshot.rack_slugs))
    level, primary = _above(tree, rack)
    lost = racks_lost(tree)
    none = np.zeros(0, dtype=np.int64)
    return [
        _chain_row(site, name, facts, node, level[node], is_standby=node not in primary, lost=lost.get(node, none))
        for node in sorted(level, key=lambda node: (level[node], node not in primary, facts.slugs[node]))
    ]


def _above(tree: SupplyTree, rack: int) -> tuple[dict[int, int], set[int]]:
    """Return how far above a rack each node is that it draws on, and which of them it draws on without a failure."""
    level = dict.fromkeys(tree.leaf_node[tree.leaf_rack == rack].tolist(), 1)
    primary = set(level)
    links: dict[int, list[tuple[int, bool]]] = {}
    for node, source, standby in zip(
        tree.link_node.tolist(), tree.link_source.tolist(), tree.link_standby.tolist(), strict=True
    ):
        links.setdefault(node, []).append((source, standby))
    for node in np.argsort(-tree.level).tolist():  # each before its sources
        for source, standby in links.get(node, ()) if node in level else ():
            level[source] = max(level.get(source, 0), level[node] + 1)
            if node in primary and not standby:
                primary.add(source)
    return level, primary


def _chain_row(
    site: SiteDay, name: str, facts: TreeFacts, node: int, level: int, *, is_standby: bool, lost: IntArray
) -> ChainRow:
    figures = _figures(site, name, node)
    return ChainRow(
        level=level,
        name=facts.slugs[node],
        kind=KIND_WORDS.get(facts.kinds[node], facts.kinds[node]),
        url=site.links.failure(name, facts.slugs[node]),
        note="on standby" if is_standby else "",
        **figures,
        lost=lost_with_racks(site, lost),
    )


def _figures(site: SiteDay, name: str, node: int) -> dict[str, str]:
    """Return load now and at worst of a node in words; a switch bears none."""
    if name == "network":
        return {"now": UNKNOWN, "worst": UNKNOWN, "cause": "", "state": "", "word": ""}
    loads, _ = of_tree(site, is_power=name == "power")
    unit, usable, worst = "VA" if name == "power" else "W", float(loads.usable[node]), float(loads.worst[node])
    ratio = worst / usable if usable > 0 else float(np.inf if worst > 0 else 0.0)
    state, word = state_of(ratio) if np.isfinite(usable) else ("", "")
    return {
        "now": of_text(float(loads.now[node]), usable, unit),
        "worst": f"{amount_text(worst, unit)}, {percent_text(ratio)}"
        if np.isfinite(usable)
        else amount_text(worst, unit),
        "cause": after_words(site, node, is_power=name == "power").strip() or "no single failure adds to it",
        "state": state,
        "word": word,
    }


@dataclass(frozen=True, slots=True)
class PlaceRow:
    """One place that a host stands in, and what goes with it."""

    kind: str
    name: str
    url: str
    loss_url: str
    lost: Lost


def places_of(site: SiteDay, rack: int, names: Sequence[tuple[str, str, str, str]]) -> list[PlaceRow]:
    """Return the places around a rack, site first; `names` are kind, key, name and address of each."""
    key = site.snapshot.row_keys[site.snapshot.rack_row[rack]]
    inside = {
        "site": np.ones(len(site.snapshot.rack_slugs), dtype=bool),
        "hall": np.array([row.rpartition("/")[0] == key.rpartition("/")[0] for row in site.snapshot.row_keys])[
            site.snapshot.rack_row
        ],
        "row": site.snapshot.rack_row == site.snapshot.rack_row[rack],
        "rack": np.arange(len(site.snapshot.rack_slugs)) == rack,
    }
    return [
        PlaceRow(kind, name, url, site.links.failure(kind, key), lost_with_racks(site, np.flatnonzero(inside[kind])))
        for kind, key, name, url in names
    ]


def place_row(site: SiteDay, kind: str, key: str, url: str) -> PlaceRow:
    """Return a host or a scale-up domain, and what goes with it."""
    snapshot = site.snapshot
    if kind == "host":
        hosts = np.array([slug == key for slug in snapshot.host_slugs], dtype=bool)
    else:
        hosts = snapshot.host_domain == (snapshot.domain_slugs.index(key) if key in snapshot.domain_slugs else -2)
    return PlaceRow(kind.replace("-", " "), key, url, site.links.failure(kind, key), lost_of(site, hosts, 0))


# --- feeds of a rack --------------------------------------------------------------------------------------------------
def feeds_of(site: SiteDay, rack: int, notes: Mapping[str, str]) -> list[FeedLoad]:
    """Return the feeds of a rack with their loads; `notes` say by slug what a feed is made of."""
    tree, loads = site.loads.power_tree, site.loads.power
    nodes = sorted(tree.leaf_node[tree.leaf_rack == rack].tolist(), key=lambda node: tree.slugs[node])
    return [
        FeedLoad(
            label=tree.slugs[node],
            usable_va=float(tree.usable[node]),
            now_va=float(loads.now[node]),
            worst_va=float(loads.worst[node]) if loads.worst_failure[node] >= 0 else None,
            worst_cause=tree.slugs[loads.worst_failure[node]] if loads.worst_failure[node] >= 0 else "",
            url=site.links.failure("power", tree.slugs[node]),
            note=notes.get(tree.slugs[node], ""),
        )
        for node in nodes
    ]


# --- after a failure --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class CarryRow:
    """A node that carries more once another one is lost: before, after, and what it may."""

    name: str
    kind: str
    url: str
    before: str
    after: str
    state: str
    word: str


def carry_rows(site: SiteDay, name: str, failed: int) -> list[CarryRow]:
    """Return the nodes whose load grows when one fails, those nearest to their limits first."""
    facts = tree_of(site.snapshot, name)
    loads, tree = of_tree(site, is_power=name == "power")
    rack_load, unit = (site.loads.rack_va, "VA") if name == "power" else (site.loads.rack_w, "W")
    after = tree_loads(tree_after(tree, failed), rack_load).now
    rows = []
    for node in np.flatnonzero(after > loads.now * OVER_RATIO + 1e-6).tolist():
        usable = float(tree.usable[node])
        ratio = float(after[node]) / usable if usable > 0 else np.inf
        state, word = state_of(ratio)
        row = CarryRow(
            name=facts.slugs[node],
            kind=KIND_WORDS.get(facts.kinds[node], facts.kinds[node]),
            url=site.links.failure(name, facts.slugs[node]),
            before=amount_text(float(loads.now[node]), unit),
            after=f"{of_text(float(after[node]), usable, unit)}"
            + (f", {percent_text(ratio)}" if np.isfinite(usable) else ""),
            state=state,
            word=word,
        )
        rows.append(((-ratio, facts.slugs[node]), row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def figures_of(site: SiteDay, name: str, node: int) -> dict[str, str]:
    """Return what a page says about a node's own load."""
    facts = tree_of(site.snapshot, name)
    return {"title": node_text(facts.kinds[node], facts.slugs[node]), **_figures(site, name, node)}
