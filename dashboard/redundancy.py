"""The trees of a site as rows of a page: loads, what is stranded, what one failure takes, what it breaks.

Values in, values out.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from dashboard.limits import (
    KIND_WORDS,
    SiteDay,
    after_words,
    amount_text,
)
from dashboard.links import list_url
from dashboard.power_drawings import NodeLoad
from dashboard.presenters import OVER_RATIO, Tile, percent_text, state_of
from dashboard.supplies import racks_lost
from fleet.days import NodeFigures, node_figures
from fleet.domains import BoolArray
from fleet.snapshot import IntArray
from fleet.trees import racks_below, tree_alive
from scenarios.tables import Column, Table

NAMED_RACKS = 4  # of the racks that go dark with a node, so many by name
PROMISES = ("N+1", "2N", "3N/2")  # what a single failure must not break
LOADS = ("now", "worst", "usable", "headroom", "stranded")
LOST_COLUMNS = (
    Column("node", "Node"),
    Column("kind", "Kind"),
    Column("racks", "Racks"),
    Column("hosts", "Hosts"),
    Column("power_w", "Power planned", "W"),
)
PROMISE_COLUMNS = (
    Column("node", "Node"),
    Column("kind", "Kind"),
    Column("declared", "Declared"),
    Column("said", "What happens"),
)


@dataclass(frozen=True, slots=True)
class TreeForm:
    """How the page of a tree speaks of it.

    `unit` of its loads, empty where it bears none. `folded` is the kind of nodes that are only counted where they hang,
    empty where racks are; `leaf` is what they are called, found in `leaf_list` by `leaf_filter`. `last` are the nodes
    that these hang on, `dark` and `unfed` what has become of a rack.
    """

    title: str
    about: str
    ends: str
    unit: str
    folded: str
    leaf: str
    leaf_list: str
    leaf_filter: str
    last: str
    dark: str
    unfed: str


LOAD_WORDS = (
    "Load of every node with all hosts at the power to plan with: now, and after the single failure that is worst for"
    " it. Stranded is headroom that the racks below or a node above do not let through; at least so much."
)
FORMS: Mapping[str, TreeForm] = {
    "power": TreeForm(
        *("Power tree", LOAD_WORDS, "from the utility to the PDUs", "VA", "feed", "feed", "power-links", "source"),
        *("PDUs", "without any feed", "on no recorded feed"),
    ),
    "cooling": TreeForm(
        *("Cooling tree", LOAD_WORDS, "from the plant to the units beside the racks", "W"),
        *("", "rack", "racks", "cooling_node", "cooling units", "without any cooling", "on no recorded cooling unit"),
    ),
    "network": TreeForm(
        "Network tree",
        "Which racks hang on every switch, and which of them lose their network with it: the rest have another way.",
        *("from the core to the racks", "", "tor", "rack switch", "network-links", "source"),
        *("leaf switches", "without any switch", "on no recorded switch"),
    ),
}
FROM_ABOVE = ("utility", "generator", "switchboard", "UPS", "PDU", "feed")


# --- loads ------------------------------------------------------------------------------------------------------------
def tree_nodes(site: SiteDay, name: str, lost: Mapping[int, IntArray]) -> list[NodeLoad]:
    """Return the nodes of a tree of a site; its leaves, as feeds of racks, are only counted where they hang.

    `lost` are the racks that go dark with each single node.
    """
    facts, tree, form = site.facts(name), site.tree(name), FORMS[name]
    is_leaf = np.array([kind == form.folded for kind in facts.kinds], dtype=bool)
    count = len(facts.slugs)
    if form.folded:
        hanging = np.bincount(tree.link_source, is_leaf[tree.link_node], minlength=count).astype(int)
    else:
        hanging = np.bincount(tree.leaf_node, minlength=count)
    sources: dict[int, list[int]] = {}
    spares: dict[int, list[int]] = {}
    for node, source, standby in zip(
        tree.link_node.tolist(), tree.link_source.tolist(), tree.link_standby.tolist(), strict=True
    ):
        (spares if standby else sources).setdefault(node, []).append(source)
    waiting = np.bincount(tree.link_source, tree.link_standby, minlength=count).astype(int)
    below = racks_below(tree).sum(axis=1)
    figures = {one.at: one for one in node_figures(site, name)} if form.unit else {}
    here = [node for node in site.nodes(name).tolist() if not is_leaf[node]]
    return [
        NodeLoad(
            key=str(node),
            name=facts.slugs[node],
            kind=_kind_words(facts.kinds[node], int(waiting[node])),
            sources=tuple(map(str, sources.get(node, ()))),
            standby=tuple(facts.slugs[spare] for spare in spares.get(node, ())),  # by name: no line for each of them
            url=site.links.failure(name, facts.slugs[node]),
            feeds=int(hanging[node]),
            feeds_url=list_url(form.leaf_list, **{form.leaf_filter: facts.slugs[node]}) if hanging[node] else "",
            feed_word=form.leaf,
            racks=int(below[node]),
            racks_lost=len(lost.get(node, ())),
            tree_url=site.links.tree(name, site.snapshot.sites[0].slug, node=facts.slugs[node]),
            **_loads(figures.get(node), form.unit),
        )
        for node in sorted(here, key=lambda node: (facts.kinds[node] == "generator", facts.slugs[node]))
    ]


def _loads(figures: NodeFigures | None, unit: str) -> dict[str, Any]:
    """Return the loads of a node as its line shows them; a switch bears none."""
    if figures is None:
        return {"usable": None, "now": 0.0}
    return {
        "usable": figures.usable,
        "now": figures.now,
        "worst": figures.worst if figures.failure else None,
        "worst_cause": figures.failure,
        "stranded": figures.stranded,
        "stranded_why": _why_text(figures),
        "unit": unit,
    }


def _kind_words(kind: str, waiting: int) -> str:
    """Return what a node is, and for how many others it stands by."""
    words = KIND_WORDS.get(kind, kind)
    return f"{words}, stands by for {waiting} node{'' if waiting == 1 else 's'}" if waiting else words


def _why_text(figures: NodeFigures) -> str:
    if figures.why == "source":
        return f"{figures.why_node or 'what is'} above has no more"
    return "the racks below take no more" if figures.why else ""


def tree_tables(site: SiteDay, name: str, dark: Sequence["DarkRow"], promises: "Promises | None") -> list[Table]:
    """Return the tables of the page of a tree with all their rows, leaves of the tree among its nodes."""
    form, place = FORMS[name], site.snapshot.sites[0].slug
    caption = f"{form.title} of {place} on {site.day}"
    lost_rows = [
        {"node": row.name, "kind": row.kind, "racks": row.racks, "hosts": row.hosts, "power_w": row.power_w}
        for row in dark
    ]
    lost = Table(f"{name}-lost", f"{caption}: racks that one failure takes", LOST_COLUMNS, lost_rows)
    found = [_nodes_table(site, name, caption), lost]
    if promises is not None:
        rows = [
            {"node": one.name, "kind": one.kind, "declared": one.design, "said": one.sentence}
            for one in promises.broken
        ]
        found.append(Table(f"{name}-promises", f"{caption}: redundancy that is not kept", PROMISE_COLUMNS, rows))
    return found


def _nodes_table(site: SiteDay, name: str, caption: str) -> Table:
    """Return every node of a tree with its sources; of power and cooling with its loads."""
    facts, tree, unit = site.facts(name), site.tree(name), FORMS[name].unit
    below, lost = racks_below(tree).sum(axis=1), racks_lost(tree)
    sources: dict[int, list[str]] = {}
    for node, source in zip(tree.link_node.tolist(), tree.link_source.tolist(), strict=True):
        sources.setdefault(node, []).append(facts.slugs[source])
    figures = {one.at: one for one in node_figures(site, name)} if unit else {}
    columns = [Column("node", "Node"), Column("kind", "Kind"), Column("sources", "Draws on")]
    if unit:
        columns += [Column(f"{one}_{unit.lower()}", one, unit) for one in LOADS]
        columns += [Column("worst_failure", "Worst failure"), Column("stranded_why", "Why stranded")]
    columns += [Column("racks", "Racks on it"), Column("racks_lost", "Racks lost with it")]
    rows = []
    for node in site.nodes(name).tolist():
        row = {"node": facts.slugs[node], "kind": facts.kinds[node], "sources": " ".join(sources.get(node, ()))}
        if one := figures.get(node):
            row |= {f"{load}_{unit.lower()}": getattr(one, load) for load in LOADS}
            row |= {"worst_failure": one.failure, "stranded_why": _why_text(one)}
        rows.append({**row, "racks": int(below[node]), "racks_lost": len(lost.get(node, ()))})
    return Table(name, caption, tuple(columns), rows)


# --- what one failure takes -------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class DarkRow:
    """A node that takes racks with it: what it is, and how many racks and hosts, the first racks by name."""

    name: str
    kind: str
    url: str
    racks: int
    hosts: int
    power: str
    power_w: float
    first: list[tuple[str, str]]
    more: int


def dark_rows(site: SiteDay, name: str, lost: Mapping[int, IntArray]) -> list[DarkRow]:
    """Return the nodes of a tree that take racks with them, empty ones among these, the worst first."""
    facts, loads = site.facts(name), site.loads
    rows = []
    for node, racks in lost.items():
        dark = racks[site.is_open[racks]]
        if not len(dark):
            continue
        slugs = [site.snapshot.rack_slugs[rack] for rack in dark[:NAMED_RACKS]]
        power_w = float(loads.rack_w[dark].sum())
        row = DarkRow(
            name=facts.slugs[node],
            kind=KIND_WORDS.get(facts.kinds[node], facts.kinds[node]),
            url=site.links.failure(name, facts.slugs[node]),
            racks=len(dark),
            hosts=int(loads.rack_hosts[dark].sum()),
            power=amount_text(power_w, "W"),
            power_w=power_w,
            first=[(slug, site.links.rack(slug)) for slug in slugs],
            more=max(0, len(dark) - NAMED_RACKS),
        )
        rows.append(((-row.racks, -row.hosts, facts.slugs[node]), row))
    return [row for _, row in sorted(rows, key=lambda pair: pair[0])]


def racks_unfed(site: SiteDay, name: str) -> list[tuple[str, str]]:
    """Return racks with hosts that hang on no node of a tree, with their addresses."""
    fed = np.bincount(site.tree(name).leaf_rack, minlength=len(site.snapshot.rack_slugs)) > 0
    slugs = [site.snapshot.rack_slugs[rack] for rack in np.flatnonzero(~fed & (site.loads.rack_hosts > 0))]
    return [(slug, site.links.rack(slug)) for slug in slugs]


# --- what was promised ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class BrokenPromise:
    """A node that does not bear what it was designed for: the sentence says what happens."""

    name: str
    kind: str
    url: str
    design: str
    sentence: str


@dataclass(frozen=True, slots=True)
class Promises:
    """Nodes that were designed to bear any one failure: which do not, and of each design how many say so and do."""

    broken: list[BrokenPromise]
    designs: list[tuple[str, int, int]]

    @property
    def declared(self) -> int:
        """Nodes of all designs. [-]"""
        return sum(declared for _, declared, _ in self.designs)


def promises_of(site: SiteDay, designs: Mapping[str, str], lost: Mapping[int, IntArray]) -> Promises:
    """Return which nodes keep what they were designed for; `designs` by slug, those that stand on the day.

    A promise is broken if the node carries more than it may under some single failure, or if one takes racks with hosts
    below it; racks on feeds that are declared 1N were promised nothing.
    """
    facts, tree = site.snapshot.power, site.loads.power_tree
    at = {slug: node for node, slug in enumerate(facts.slugs)}
    below = racks_below(tree)
    full = (site.loads.rack_hosts > 0) & ~_unpromised(site, designs)
    dark = {node: racks[full[racks]] for node, racks in lost.items() if full[racks].any()}
    alive = {node: tree_alive(tree, node) for node in dark}
    broken, counts = [], {design: [0, 0] for design in PROMISES}
    for slug, design in designs.items():
        if slug not in at or design not in PROMISES:
            continue
        node = at[slug]
        said = "; ".join(_broken(site, node, below[node], dark, alive))
        counts[design][0] += 1
        counts[design][1] += not said
        if said:
            kind = KIND_WORDS.get(facts.kinds[node], facts.kinds[node])
            broken.append(BrokenPromise(slug, kind, site.links.failure("power", slug), design, said))
    ranked = sorted(broken, key=lambda one: (FROM_ABOVE.index(one.kind) if one.kind in FROM_ABOVE else 0, one.name))
    return Promises(ranked, [(design, declared, kept) for design, (declared, kept) in counts.items() if declared])


def _unpromised(site: SiteDay, designs: Mapping[str, str]) -> BoolArray:
    """Return the racks all of whose feeds are declared 1N, bool[R]."""
    tree = site.loads.power_tree
    single = np.array([designs.get(slug) == "1N" for slug in tree.slugs], dtype=bool)
    feeds = np.bincount(tree.leaf_rack, minlength=tree.racks)
    alone = np.bincount(tree.leaf_rack, single[tree.leaf_node], minlength=tree.racks)
    return (feeds > 0) & (feeds == alone)


def _broken(
    site: SiteDay, node: int, below: BoolArray, dark: Mapping[int, IntArray], alive: Mapping[int, BoolArray]
) -> Iterator[str]:
    """Yield what a single failure does to a node that was designed to bear it; `below` are its racks, bool[R]."""
    loads, slugs = site.loads.power, site.snapshot.power.slugs
    if loads.worst[node] > loads.usable[node] * OVER_RATIO:
        share = loads.worst[node] / loads.usable[node] if loads.usable[node] else np.inf
        yield f"{percent_text(share)} of usable{after_words(site, node, is_power=True) or ' without any failure'}"
    counts = {failed: int(below[racks].sum()) for failed, racks in dark.items()}
    if any(counts.values()):
        failed = max(counts, key=lambda one: (counts[one], one == node, slugs[one]))
        racks = f"{counts[failed]} rack{'' if counts[failed] == 1 else 's'} in use"
        if failed == node:
            yield f"its loss takes {racks}"
        elif not alive[failed][node]:
            yield f"goes dark with {racks} after losing {slugs[failed]}"
        else:
            yield f"losing {slugs[failed]} takes {racks} on it"


def tree_tiles(name: str, nodes: Sequence[NodeLoad], dark: Sequence[DarkRow], promises: Promises | None) -> list[Tile]:
    """Return the figures that say whether a tree bears what it was built for."""
    form = FORMS[name]
    tiles = []
    if form.unit:
        rated = [(max(node.now, node.worst or 0.0) / node.usable, node) for node in nodes if node.usable]
        over = [node for ratio, node in rated if ratio > OVER_RATIO]
        if rated:
            ratio, worst = max(rated, key=lambda pair: pair[0])
            state, word = state_of(ratio)
            cause = f" after losing {worst.worst_cause}" if worst.worst_cause else ", no failure adds to it"
            note = ", ".join(filter(None, [f"{worst.kind} {worst.name}{cause}", word]))
            tiles.append(Tile("Fullest node", percent_text(ratio), note, state))
            words = f"of {len(nodes)} nodes, after their worst single failure"
            tiles.append(Tile("Nodes over their limit", str(len(over)), words, "over" if over else "ok"))
        stranded = sum(node.stranded for node in nodes if node.feeds)
        words = f"headroom of {form.last} that nothing can take, at least"
        tiles.append(Tile("Stranded", amount_text(stranded, form.unit), words))
    single = max((row.racks for row in dark), default=0)
    note = f"with {dark[0].name}, the worst of {len(dark)} nodes" if dark else "no single failure takes a rack"
    tiles.append(Tile("Racks that one failure takes", str(single), note, "over" if single else "ok"))
    if promises is not None:
        broken, note = len(promises.broken), f"of {promises.declared} nodes declared {', '.join(PROMISES)}"
        tiles.append(Tile("Redundancy not kept", str(broken), note, "over" if broken else "ok"))
    return tiles
