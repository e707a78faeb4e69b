"""How full places are, as rows and drawings of pages: rows of racks, floor plans, the limits of a rack, power trees."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

import numpy as np
from django.urls import reverse

from dashboard.floorplans import FloorPlan, FloorRack, FloorRow, MetricLink, floorplan_draw
from dashboard.power_drawings import FeedLoad, NodeLoad, feed_bars_draw
from dashboard.presenters import quantity_text
from fleet.domains import BlastRadius, blast_radius
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
from fleet.models import Change, Hall, PowerNode, Rack
from fleet.snapshot import FleetSnapshot, IntArray
from fleet.trees import TreeLoads, stranded

HIGHEST = "highest"
LIMIT_WORDS = {
    UNITS: "rack units",
    CABINET: "power of the cabinet",
    FEED: "feed after losing another",
    NODE: "power above the feeds after a failure",
    COOLING: "cooling of the rack",
    COOLING_NODE: "cooling above the rack after a failure",
    PORTS: "network ports",
    WEIGHT: "weight",
}
METRICS = {HIGHEST: "Highest of all limits", **LIMIT_WORDS, "hosts": "Hosts"}
HISTORY_ROWS = 10


def row_url(name: str, pk: int) -> str:
    """Return the address of one row of a list."""
    return reverse("dashboard:entry_row", args=[name, pk])


def limit_text(loads: FleetLoads, limit: str, node: int) -> str:
    """Return what limits a rack in words, with the node that it is of and the failure under which it binds."""
    slug = loads.node_slug(limit, node)
    if not slug:
        return LIMIT_WORDS.get(limit, "nothing yet")
    tree, of_tree = (loads.cooling_tree, loads.cooling) if limit == COOLING_NODE else (loads.power_tree, loads.power)
    failure = int(of_tree.worst_failure[node])
    return f"{slug} after losing {tree.slugs[failure]}" if failure >= 0 else slug


# --- rows of racks ----------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class RowFullness:
    """A row of racks: how many racks and hosts, its highest load over limit, and of what that is."""

    hall: str
    row: str
    hall_url: str
    racks: int
    hosts: int
    percent: float
    is_over: bool
    limit: str
    where: str
    rack: str


def rows_by_fullness(
    snapshot: FleetSnapshot, loads: FleetLoads, day: date, *, hall: str | None = None
) -> list[RowFullness]:
    """Return the rows of racks of a site, or of one of its halls, the fullest first."""
    is_open = snapshot.rack_open(day)
    found = []
    order = np.argsort(snapshot.rack_row, kind="stable")
    bounds = np.searchsorted(snapshot.rack_row[order], np.arange(len(snapshot.row_keys) + 1))
    for at, key in enumerate(snapshot.row_keys):
        site_slug, hall_slug, row_slug = key.split("/")
        if hall is not None and hall != f"{site_slug}/{hall_slug}":
            continue
        racks = order[bounds[at] : bounds[at + 1]]
        racks = racks[is_open[racks]]
        limit, ratio, rack, node = loads.nearest(racks)
        found.append(
            RowFullness(
                hall=hall_slug,
                row=row_slug,
                hall_url=f"{reverse('dashboard:hall', args=[site_slug, hall_slug])}?day={day}",
                racks=len(racks),
                hosts=int(loads.rack_hosts[racks].sum()),
                percent=round(100 * ratio, 1),
                is_over=ratio > 1 + 1e-9,
                limit=LIMIT_WORDS.get(limit, "nothing yet"),
                where=limit_text(loads, limit, node) if node >= 0 else "",
                rack=snapshot.rack_slugs[rack] if rack >= 0 else "",
            )
        )
    return sorted(found, key=lambda row: (-row.percent, row.hall, row.row))


# --- floor plan of a hall ---------------------------------------------------------------------------------------------
def floorplan_of(hall: Hall, snapshot: FleetSnapshot, loads: FleetLoads, day: date, metric: str) -> FloorPlan:
    """Return the heat map of a hall for a metric; limits in per cent, hosts in numbers."""
    at = {slug: index for index, slug in enumerate(snapshot.rack_slugs)}
    is_open = snapshot.rack_open(day)
    rows: dict[tuple[int, str], list[FloorRack]] = {}
    found = Rack.objects.filter(row__hall=hall).order_by("row__position", "position", "slug")
    for slug, position, row_slug, row_position in found.values_list("slug", "position", "row__slug", "row__position"):
        cells = rows.setdefault((row_position, row_slug), [])
        index = at.get(slug)
        if index is None or not is_open[index]:
            continue
        value, note = _metric_value(loads, index, metric)
        url = f"{reverse('dashboard:rack', args=[slug])}?day={day}"
        cells.append(FloorRack(label=slug, position=position, value=value, url=url, note=note))
    own = reverse("dashboard:hall", args=[hall.site.slug, hall.slug])
    return floorplan_draw(
        [FloorRow(f"Row {slug}", position, cells) for (position, slug), cells in rows.items()],
        METRICS[metric],
        "hosts" if metric == "hosts" else "%",
        limit=None if metric == "hosts" else 100.0,
        hall=hall.name,
        metrics=[
            MetricLink(key, label, f"{own}?day={day}&metric={key}", key == metric) for key, label in METRICS.items()
        ],
    )


def _metric_value(loads: FleetLoads, rack: int, metric: str) -> tuple[float | None, str]:
    if metric == "hosts":
        return float(loads.rack_hosts[rack]), ""
    limit = int(np.argmax(loads.ratio[rack])) if metric == HIGHEST else LIMITS.index(metric)
    value = float(loads.ratio[rack, limit])
    words = limit_text(loads, LIMITS[limit], int(loads.node[rack, limit]))
    return (100 * value if np.isfinite(value) else None), words


# --- one rack ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class LimitRow:
    """One limit of a rack: how near it is [%], and what it is of."""

    label: str
    percent: float
    is_over: bool
    of: str


def rack_facts(rack: Rack, snapshot: FleetSnapshot, day: date) -> dict[str, Any]:
    """Return feeds with their loads, every limit, what is lost with the rack, and who changed it last."""
    history = Change.objects.filter(kind="rack", object_id=rack.pk).select_related("change_set")
    facts: dict[str, Any] = {"changes": history.order_by("-change_set__number", "-position")[:HISTORY_ROWS]}
    if rack.slug not in snapshot.rack_slugs:
        return {**facts, "limits": [], "feeds": feed_bars_draw([]), "blast": None}
    at = snapshot.rack_slugs.index(rack.slug)
    loads = loads_on(snapshot, day)
    limits = [
        LimitRow(
            LIMIT_WORDS[name],
            round(100 * float(loads.ratio[at, column]), 1),
            bool(loads.ratio[at, column] > 1 + 1e-9),
            limit_text(loads, name, int(loads.node[at, column])) if loads.node[at, column] >= 0 else rack.slug,
        )
        for column, name in enumerate(LIMITS)
        if loads.ratio[at, column] > 0
    ]
    tree = loads.power_tree
    nodes = sorted(tree.leaf_node[tree.leaf_rack == at].tolist(), key=lambda node: tree.slugs[node])
    ids = dict(PowerNode.objects.filter(slug__in=[tree.slugs[node] for node in nodes]).values_list("slug", "pk"))
    feeds = [
        FeedLoad(
            label=tree.slugs[node],
            usable_va=float(tree.usable[node]),
            now_va=float(loads.power.now[node]),
            worst_va=float(loads.power.worst[node]) if loads.power.worst_failure[node] >= 0 else None,
            worst_cause=_slug(tree.slugs, loads.power, node),
            url=row_url("power-nodes", ids[tree.slugs[node]]),
        )
        for node in nodes
    ]
    lost = blast_radius(snapshot, day, tree="rack", node=rack.slug)
    return {**facts, "limits": limits, "feeds": feed_bars_draw(feeds), "blast": _blast_rows(lost)}


def _slug(slugs: Sequence[str], loads: TreeLoads, node: int) -> str:
    failure = int(loads.worst_failure[node])
    return slugs[failure] if failure >= 0 else ""


@dataclass(frozen=True, slots=True)
class BlastRow:
    """What one tier loses: its output before, and what of it goes. [tok/s]"""

    tier: str
    before: str
    lost: str


@dataclass(frozen=True, slots=True)
class Blast:
    """What is lost with a node: hosts, replicas, output by tier."""

    hosts: int
    replicas: int
    tiers: list[BlastRow]


def _blast_rows(lost: BlastRadius) -> Blast:
    return Blast(
        hosts=len(lost.hosts),
        replicas=int(lost.replicas_lost.sum()),
        tiers=[
            BlastRow(tier.tier, quantity_text(tier.before_tok_s, "tok/s"), quantity_text(tier.lost_tok_s, "tok/s"))
            for tier in lost.tiers
            if tier.before_tok_s
        ],
    )


# --- the power tree of a site -----------------------------------------------------------------------------------------
def power_nodes(snapshot: FleetSnapshot, loads: FleetLoads, day: date) -> list[NodeLoad]:
    """Return the nodes of a site's power tree that are there on a day, feeds counted where they hang."""
    facts, tree = snapshot.power, loads.power_tree
    here = (facts.first_day <= day.toordinal()) & (day.toordinal() < facts.last_day)
    room_va = np.maximum(0.0, snapshot.rack_power_limit_w - loads.rack_w) * snapshot.rack_open(day)
    left = stranded(tree, loads.power, room_va)
    is_feed = np.array([kind == "feed" for kind in facts.kinds], dtype=bool)
    feeds = np.bincount(tree.link_source, is_feed[tree.link_node], minlength=len(facts.slugs))
    rows = {
        slug: (pk, name)
        for slug, pk, name in PowerNode.objects.filter(site__slug__in=[site.slug for site in snapshot.sites])
        .exclude(kind="feed")
        .values_list("slug", "pk", "name")
    }
    words = {"racks_below": "its racks take no more"}
    found = []
    for node in np.flatnonzero(here & ~is_feed):
        slug = facts.slugs[node]
        links = np.flatnonzero(tree.link_node == node)
        why = left.why[node]
        found.append(
            NodeLoad(
                key=slug,
                name=rows[slug][1] or slug,
                kind=facts.kinds[node],
                usable_va=float(tree.usable[node]) if np.isfinite(tree.usable[node]) else None,
                now_va=float(loads.power.now[node]),
                worst_va=float(loads.power.worst[node]) if loads.power.worst_failure[node] >= 0 else None,
                worst_cause=_slug(facts.slugs, loads.power, int(node)),
                sources=tuple(facts.slugs[tree.link_source[at]] for at in links if not tree.link_standby[at]),
                standby=tuple(facts.slugs[tree.link_source[at]] for at in links if tree.link_standby[at]),
                url=row_url("power-nodes", rows[slug][0]),
                stranded_va=float(left.stranded[node]),
                stranded_why=words.get(why, f"{facts.slugs[left.why_node[node]]} is full" if why == "source" else ""),
                feeds=int(feeds[node]),
                feeds_url=f"{reverse('dashboard:entry_list', args=['power-links'])}?source={slug}"
                if feeds[node]
                else "",
            )
        )
    return found


def racks_on_one_feed(snapshot: FleetSnapshot, day: date) -> list[str]:
    """Return the racks with hosts that one failure of a feed makes dark: those with a single one."""
    tree = snapshot.power.on(day, len(snapshot.rack_slugs))
    feeds = np.bincount(tree.leaf_rack, minlength=tree.racks)
    hosts: IntArray = snapshot.rack_hosts(day).sum(axis=1)
    return [snapshot.rack_slugs[rack] for rack in np.flatnonzero((feeds == 1) & (hosts > 0))]
