"""Which edits bring which check about, and how two writers are kept apart, so that never both pass.

A check reads rows beside those that are written: while it looks, nobody else may write them. Many may write hosts,
cards, placements and deliveries at once: each locks the racks, hosts and orders that its rows go to (`LOCKS`). What
those checks stand on (types, sites, racks, trees, services) has one writer at a time, who waits for all the others.
"""

from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any

from django.db import connection, models

from fleet.checks import (
    Fault,
    Ids,
    Model,
    among,
    check_card_chips,
    check_card_counts,
    check_card_slots,
    check_delivery_sites,
    check_domain_sites,
    check_endpoint_shares,
    check_feed_sources,
    check_host_stays,
    check_link_cycles,
    check_link_sites,
    check_order_quantities,
    check_order_types,
    check_placement_chips,
    check_placement_sites,
    check_placement_types,
    check_rack_heights,
    check_rack_sites,
    check_retired_types,
    check_units_free,
    check_units_in_rack,
)
from fleet.models import (
    Card,
    CoolingLink,
    CoolingNode,
    Delivery,
    Deployment,
    Endpoint,
    FirmwareSet,
    Hall,
    Host,
    HostType,
    Lot,
    NetworkLink,
    NetworkNode,
    Order,
    Placement,
    PowerLink,
    PowerNode,
    Rack,
    Row,
    ScaleUpDomain,
    Service,
    Site,
)

STRUCTURE_LOCK = 0x666C656574  # "fleet"


@dataclass(frozen=True)
class Watch:
    """Edits that a check looks at: of these fields, of rows that a group (`over`) reaches by this path.

    `new` says whether a row that was just made can be at fault: one that is only referred to cannot, it is not yet.
    """

    path: str
    fields: frozenset[str]
    new: bool = True


@dataclass(frozen=True)
class Rule:
    """A check, the model whose groups it takes, and what brings it about."""

    check: Callable[[Ids], list[Fault]]
    over: Model
    watched: Mapping[Model, Watch]


def _watch(path: str, fields: str, *, new: bool = True) -> Watch:
    return Watch(path, frozenset(fields.split()), new)


_STAY = "in_service_on out_of_service_on"
_TREES: tuple[tuple[Model, Model, str], ...] = (
    (PowerNode, PowerLink, "power_nodes__links"),
    (CoolingNode, CoolingLink, "cooling_nodes__links"),
    (NetworkNode, NetworkLink, "network_nodes__links"),
)
RULES: tuple[Rule, ...] = (
    Rule(check_units_free, Rack, {
        Host: _watch("hosts", f"rack_id host_type_id position_u face {_STAY}"),
        HostType: _watch("hosts__host_type", "height_u full_depth", new=False),
    }),
    Rule(check_units_in_rack, Rack, {
        Host: _watch("hosts", "rack_id host_type_id position_u"),
        HostType: _watch("hosts__host_type", "height_u", new=False),
        Rack: _watch("pk", "height_u", new=False),
    }),
    Rule(check_rack_heights, Rack, {
        Host: _watch("hosts", f"rack_id host_type_id face {_STAY}"),
        HostType: _watch("hosts__host_type", "height_u full_depth", new=False),
        Rack: _watch("pk", "height_u", new=False),
    }),
    Rule(check_host_stays, Rack, {
        Host: _watch("hosts", f"rack_id {_STAY}"),
        Rack: _watch("pk", f"row_id {_STAY}", new=False),
        Row: _watch("row", f"hall_id {_STAY}", new=False),
        Hall: _watch("row__hall", f"site_id {_STAY}", new=False),
        Site: _watch("row__hall__site", _STAY, new=False),
    }),
    Rule(check_rack_sites, Rack, {
        Rack: _watch("pk", "row_id cooling_node_id"),
        Row: _watch("row", "hall_id", new=False),
        Hall: _watch("row__hall", "site_id", new=False),
        CoolingNode: _watch("cooling_node", "site_id", new=False),
        PowerNode: _watch("feeds", "site_id rack_id"),
        NetworkNode: _watch("switches", "site_id rack_id"),
    }),
    Rule(check_domain_sites, ScaleUpDomain, {
        Host: _watch("hosts", "rack_id scale_up_domain_id"),
        ScaleUpDomain: _watch("pk", "site_id", new=False),
        Rack: _watch("hosts__rack", "row_id", new=False),
        Row: _watch("hosts__rack__row", "hall_id", new=False),
        Hall: _watch("hosts__rack__row__hall", "site_id", new=False),
    }),
    Rule(check_card_slots, Host, {Card: _watch("cards", f"host_id slot {_STAY}")}),
    Rule(check_card_counts, Host, {
        Card: _watch("cards", f"host_id {_STAY}"),
        Host: _watch("pk", "host_type_id", new=False),
        HostType: _watch("host_type", "chips", new=False),
    }),
    Rule(check_card_chips, Host, {
        Card: _watch("cards", "host_id lot_id firmware_id"),
        Host: _watch("pk", "host_type_id", new=False),
        HostType: _watch("host_type", "chip", new=False),
        Lot: _watch("cards__lot", "chip", new=False),
        FirmwareSet: _watch("cards__firmware", "chip", new=False),
    }),
    *(
        Rule(partial(check_link_sites, link), link, {
            link: _watch("pk", "node_id source_id"),
            node: _watch("node", "site_id", new=False),
        })
        for node, link, _ in _TREES
    ),
    *(
        Rule(partial(check_link_sites, link), link, {node: _watch("source", "site_id", new=False)})
        for node, link, _ in _TREES
    ),
    *(
        Rule(partial(check_link_cycles, link), Site, {link: _watch(path, f"node_id source_id {_STAY}")})
        for _, link, path in _TREES
    ),
    Rule(check_feed_sources, PowerLink, {
        PowerLink: _watch("pk", "source_id"),
        PowerNode: _watch("source", "kind", new=False),
    }),
    Rule(check_retired_types, HostType, {
        Order: _watch("orders", "host_type_id ordered_on"),
        Delivery: _watch("deliveries", "host_type_id expected_on"),
        HostType: _watch("pk", "out_of_service_on", new=False),
    }),
    Rule(check_order_types, Order, {
        Delivery: _watch("deliveries", "order_id host_type_id"),
        Order: _watch("pk", "host_type_id", new=False),
    }),
    Rule(check_order_quantities, Order, {
        Delivery: _watch("deliveries", "order_id quantity"),
        Order: _watch("pk", "quantity", new=False),
    }),
    Rule(check_delivery_sites, Site, {
        Delivery: _watch("deliveries", "site_id expected_on"),
        Site: _watch("pk", "out_of_service_on", new=False),
    }),
    Rule(check_placement_types, Host, {
        Placement: _watch("placements", "host_id deployment_id"),
        Host: _watch("pk", "host_type_id", new=False),
        Deployment: _watch("placements__deployment", "host_type_id", new=False),
    }),
    Rule(check_placement_sites, Host, {
        Placement: _watch("placements", "host_id deployment_id"),
        Host: _watch("pk", "rack_id", new=False),
        Rack: _watch("rack", "row_id", new=False),
        Row: _watch("rack__row", "hall_id", new=False),
        Hall: _watch("rack__row__hall", "site_id", new=False),
        Deployment: _watch("placements__deployment", "endpoint_id", new=False),
        Endpoint: _watch("placements__deployment__endpoint", "site_id", new=False),
    }),
    Rule(check_placement_chips, Host, {
        Placement: _watch("placements", f"host_id deployment_id replicas unit {_STAY}"),
        Host: _watch("pk", "host_type_id", new=False),
        HostType: _watch("host_type", "chips", new=False),
        Deployment: _watch("placements__deployment", "replica_chips", new=False),
    }),
    Rule(check_endpoint_shares, Service, {Endpoint: _watch("endpoints", f"service_id share_ratio {_STAY}")}),
)  # fmt: skip

LOCKS: Mapping[Model, tuple[str, ...]] = {
    Host: ("rack",),
    Card: ("host",),
    Placement: ("host",),
    Delivery: ("order",),
}
"""Models that many write at once, each with the rows that a writer locks: those whose places and sums are looked at."""


def watched_fields(model: Model) -> frozenset[str]:
    """Return the columns whose edit a check looks at."""
    return frozenset().union(*(rule.watched[model].fields for rule in RULES if model in rule.watched))


def structure_lock(model: Model | None) -> None:
    """Keep writers apart: many of hosts, cards and the like at once, one of what their checks stand on; None: one.

    Taken first, before any row: so it never waits for somebody who waits for us. SQLite has one writer anyway.
    """
    if connection.vendor == "postgresql":
        shared = model is not None and (model in LOCKS or not watched_fields(model))
        with connection.cursor() as cursor:
            cursor.execute(f"SELECT pg_advisory_xact_lock{'_shared' if shared else ''}(%s)", [STRUCTURE_LOCK])


def groups_lock(model: Model, rows: Collection[models.Model]) -> None:
    """Lock the racks, hosts or orders that rows of a model go to, in the order of their ids."""
    for name in LOCKS.get(model, ()):
        field: Any = model._meta.get_field(name)
        ids = {getattr(row, field.attname) for row in rows} - {None}
        if ids:
            groups = field.related_model._default_manager.filter(pk__in=among(ids)).order_by("pk")
            list(groups.select_for_update(no_key=True).values_list("pk", flat=True))


@dataclass(frozen=True)
class Written:
    """Rows of one model that were made, and those that were edited with the columns that differ."""

    model: Model
    made: frozenset[int]
    edited: Mapping[int, frozenset[str]]


def faults_find(written: Sequence[Written]) -> list[Fault]:
    """Return what rules forbid of some rows that were just written; faults of other rows are not theirs to mend."""
    touched = {(part.model, pk) for part in written for pk in (*part.made, *part.edited)}
    faults = []
    for rule in RULES:
        groups = set().union(*(_groups(rule, part) for part in written if part.model in rule.watched))
        if groups:
            faults += [fault for fault in rule.check(groups) if (fault.model, fault.id) in touched]
    return list(dict.fromkeys(faults))


def _groups(rule: Rule, part: Written) -> set[int]:
    watch = rule.watched[part.model]
    ids = {pk for pk, columns in part.edited.items() if columns & watch.fields} | (part.made if watch.new else set())
    if not ids or watch.path == "pk":
        return ids
    groups = rule.over._default_manager.filter(**{f"{watch.path}__in": among(ids)})
    return set(groups.order_by().values_list("pk", flat=True).distinct())
