"""Reads of the fleet that are more than a queryset."""

import math
import threading
from collections import OrderedDict, defaultdict
from collections.abc import Callable, Iterable, Sequence
from datetime import date
from operator import itemgetter
from typing import Any

import numpy as np
from django.conf import settings
from django.db.models import Count, F, Func, IntegerField, Q, QuerySet, Value
from django.db.models.functions import Coalesce

from fleet.days import FleetDay, loads_kept
from fleet.models import (
    Card,
    ChangeHead,
    CoolingLink,
    CoolingNode,
    Delivery,
    DemandEvent,
    DemandOverride,
    Deployment,
    FirmwareSet,
    Host,
    HostType,
    Lot,
    Maintenance,
    NetworkLink,
    NetworkNode,
    Placement,
    PolicyEvent,
    PowerLink,
    PowerNode,
    Rack,
    Readiness,
    Region,
    Retirement,
    ScaleUpDomain,
    Service,
    Site,
)
from fleet.models.places import Cooling
from fleet.reading import one_view
from fleet.snapshot import (
    DAY_MAX,
    DAY_MIN,
    CardGroup,
    DeliveryFact,
    DemandEventFact,
    DemandOverrideFact,
    DeploymentFact,
    FleetSnapshot,
    FloatArray,
    IntArray,
    KindFact,
    PolicyFact,
    RegionFact,
    RetirementFact,
    ServiceFact,
    SiteFact,
    TreeFacts,
)

READ_ROWS = 20_000  # at a time
KEPT_HOSTS = 250_000  # over all snapshots that a process keeps
_kept: OrderedDict[tuple[str, str, date, str | None], FleetSnapshot] = OrderedDict()
_kept_lock = threading.Lock()


class Ordinal(Func):
    """Proleptic ordinal of a day: a whole number costs a tenth of a date to read."""

    output_field = IntegerField()

    template = "(%(expressions)s - DATE '0001-01-01' + 1)"

    def as_sqlite(self, compiler: Any, connection: Any, **extra: Any) -> Any:
        """Return the same from Julian days, which begin at noon."""
        template = "CAST(julianday(%(expressions)s) - 1721424.5 AS INTEGER)"
        return super().as_sql(compiler, connection, template=template, **extra)


def day_first(field: str = "in_service_on") -> Coalesce:
    """Return the ordinal of a first day; an empty one lies before all others."""
    return Coalesce(Ordinal(F(field)), DAY_MIN)


def day_last(field: str = "out_of_service_on") -> Coalesce:
    """Return the ordinal of a first day gone; an empty one lies after all others."""
    return Coalesce(Ordinal(F(field)), DAY_MAX)


def stays(day: date, field: str = "out_of_service_on") -> Q:
    """Return the filter of what is not gone by a day."""
    return Q(**{f"{field}__isnull": True}) | Q(**{f"{field}__gt": day})


def in_service(day: date) -> Q:
    """Return the filter of what stands in the fleet on a day."""
    return (Q(in_service_on__isnull=True) | Q(in_service_on__lte=day)) & stays(day)


def snapshot_take(day: date, site: str | None = None) -> FleetSnapshot:
    """Return the fleet of a day, and all that is dated later, as it stood at one moment: edits come before or after.

    With `site`, the slug of one, only what stands there; cards are counted in the whole fleet alone.
    """
    with one_view():
        return _snapshot_read(day, site)


def snapshot_cached(day: date, site: str | None = None) -> FleetSnapshot:
    """Return the same from the memory of this process, if no row of the fleet has been written since it was read."""
    head = ChangeHead.objects.first()
    if head is None:
        return snapshot_take(day, site)
    key = (settings.DATABASES["default"]["NAME"], head.hash, day, site)
    with _kept_lock:
        if key in _kept:
            _kept.move_to_end(key)
            return _kept[key]
    snapshot = snapshot_take(day, site)
    with _kept_lock:
        _kept[key] = snapshot
        while sum(len(kept.host_slugs) for kept in _kept.values()) > KEPT_HOSTS and len(_kept) > 1:
            _kept.popitem(last=False)
    return snapshot


def day_cached(day: date, site: str) -> FleetDay:
    """Return a site on a day with its loads, which are computed once for as long as its snapshot is kept."""
    snapshot = snapshot_cached(day, site)
    return FleetDay(snapshot, loads_kept(snapshot), day)


def snapshots_forget() -> None:
    """Forget the snapshots that this process keeps."""
    with _kept_lock:
        _kept.clear()


def _snapshot_read(day: date, site: str | None) -> FleetSnapshot:
    """Read the fleet in one pass of set-based queries."""
    sites = _rows(
        Site.objects.filter(stays(day), **({"slug": site} if site else {})),
        *("slug", "name", "region__slug", "pue_ratio", day_first(), day_last()),
        key=itemgetter(0),
    )
    kinds = sorted(HostType.objects.all(), key=lambda kind: kind.slug)
    site_at = {row[0]: at for at, row in enumerate(sites)}
    racks, rack_at = _racks(day, sites, site_at)
    hosts, host_at = _hosts(day, site, kinds, rack_at)
    leaves = [(rack_at[pk], node) for pk, node in racks.pop("cooling_nodes")]
    return FleetSnapshot(
        as_of=day,
        regions=tuple(
            RegionFact(*row) for row in _rows(Region.objects.filter(stays(day)), "slug", "name", key=itemgetter(0))
        ),
        sites=tuple(SiteFact(*row[:4]) for row in sites),
        kinds=tuple(
            KindFact(
                *(kind.slug, kind.name, kind.chip, kind.chips, kind.height_u, float(kind.power_w), float(kind.idle_w)),
                *(kind.typical_w, kind.nameplate_w, kind.power_factor_ratio, kind.cooling, kind.full_depth),
                *(kind.ports, kind.weight_kg),
            )
            for kind in kinds
        ),
        services=_services(day),
        **_demands(day),
        cards=_cards(day) if site is None else (),
        power=_tree(day, PowerNode, PowerLink, site, site_at, rack_at),
        cooling=_tree(day, CoolingNode, CoolingLink, site, site_at, {}, leaves=leaves),
        network=_tree(day, NetworkNode, NetworkLink, site, site_at, rack_at),
        **_supply(day, site_at),
        **racks,
        **hosts,
        **_placements(day, site, site_at, host_at),
    )


def _racks(day: date, sites: Sequence[Any], site_at: dict[str, int]) -> tuple[dict[str, Any], dict[int, int]]:
    """Read the racks; return fields of the snapshot, and the position of each id."""
    racks = _rows(
        Rack.objects.filter(stays(day), row__hall__site__slug__in=site_at),
        *("pk", "slug", "row__hall__site__slug", "row__hall__slug", "row__slug", "row__position", "position"),
        *("height_u", "power_limit_w", "cooling_limit_w", "weight_limit_kg", "ports"),
        *("cooling", "row__hall__cooling", "cooling_node_id", day_first(), day_last()),
        key=lambda row: (row[2], row[3], row[5], row[4], row[6], row[1]),
    )
    rack_site = _whole(site_at[row[2]] for row in racks)
    row_at: dict[str, int] = {}
    rack_row = _whole(row_at.setdefault(f"{row[2]}/{row[3]}/{row[4]}", len(row_at)) for row in racks)
    fields = {
        "row_keys": tuple(row_at),
        "rack_slugs": tuple(row[1] for row in racks),
        "rack_site": rack_site,
        "rack_row": rack_row,
        "rack_height_u": _whole(row[7] for row in racks),
        "rack_power_limit_w": _real(row[8] for row in racks),
        "rack_cooling_limit_w": _real(_or_more(row[9]) for row in racks),
        "rack_weight_limit_kg": _real(_or_more(row[10]) for row in racks),
        "rack_ports": _real(_or_more(row[11]) for row in racks),
        "rack_is_liquid": np.array([(row[12] or row[13]) == Cooling.LIQUID for row in racks], dtype=bool),
        # a rack is open while both it and its site are
        "rack_first_day": np.maximum(_whole(row[15] for row in racks), _whole(row[4] for row in sites)[rack_site]),
        "rack_last_day": np.minimum(_whole(row[16] for row in racks), _whole(row[5] for row in sites)[rack_site]),
        "cooling_nodes": [(row[0], row[14]) for row in racks],
    }
    return fields, {row[0]: at for at, row in enumerate(racks)}


def _hosts(
    day: date, site: str | None, kinds: Sequence[HostType], rack_at: dict[int, int]
) -> tuple[dict[str, Any], dict[int, int]]:
    """Read the hosts in those racks, and their maintenance; return fields, and the position of each id."""
    kind_at = {kind.pk: at for at, kind in enumerate(kinds)}
    domains = _rows(ScaleUpDomain.objects.filter(stays(day)), "pk", "slug", key=itemgetter(1))
    domain_at = {row[0]: at for at, row in enumerate(domains)}
    hosts = _rows(
        Host.objects.filter(stays(day), **_at_site(site, "")),
        *("pk", "slug", "rack_id", "host_type_id", Coalesce(F("position_u"), 0), "scale_up_domain_id"),
        *(day_first(), day_last()),
        key=itemgetter(1),
        keep=lambda row: row[2] in rack_at,
    )
    host_at = {row[0]: at for at, row in enumerate(hosts)}
    away = _rows(
        Maintenance.objects.filter(stays(day, "ends_on"), **_at_site(site, "host__")),
        *("host_id", "slug", day_first("starts_on"), day_last("ends_on")),
        key=itemgetter(1),
        keep=lambda row: row[0] in host_at,
    )
    fields = {
        "host_slugs": tuple(row[1] for row in hosts),
        "host_rack": _whole(rack_at[row[2]] for row in hosts),
        "host_kind": _whole(kind_at[row[3]] for row in hosts),
        "host_position_u": _whole(row[4] for row in hosts),
        "host_domain": _whole(domain_at.get(row[5], -1) for row in hosts),
        "host_first_day": _whole(row[6] for row in hosts),
        "host_last_day": _whole(row[7] for row in hosts),
        "domain_slugs": tuple(row[1] for row in domains),
        "away_host": _whole(host_at[row[0]] for row in away),
        "away_first_day": _whole(row[2] for row in away),
        "away_last_day": _whole(row[3] for row in away),
    }
    return fields, host_at


def _supply(day: date, site_at: dict[str, int]) -> dict[str, Any]:
    """Read what comes, what leaves, and what policy forbids."""
    return {
        "deliveries": tuple(
            DeliveryFact(*row)
            for row in _rows(
                Delivery.objects.filter(
                    site__slug__in=site_at, received_on__isnull=True, order__cancelled_on__isnull=True
                ),
                *("slug", "site__slug", "host_type__slug", "quantity", "expected_on"),
                *("slip_p50_days", "slip_p90_days", "fill_ratio", "fill_p10_ratio", "correlation_group"),
                key=itemgetter(0),
            )
        ),
        "retirements": tuple(
            RetirementFact(*row)
            for row in _rows(
                Retirement.objects.filter(site__slug__in=site_at, done_on__isnull=True),
                *("slug", "site__slug", "host_type__slug", "quantity", "retire_on"),
                key=itemgetter(0),
            )
        ),
        "policies": tuple(
            PolicyFact(*row)
            for row in _rows(
                PolicyEvent.objects.filter(stays(day, "ends_on")),
                *("slug", "chip", "verb", "starts_on", "ends_on"),
                *(Coalesce(F("region__slug"), Value("")), Coalesce(F("site__slug"), Value(""))),
                key=itemgetter(0),
            )
        ),
    }


def _placements(day: date, site: str | None, site_at: dict[str, int], host_at: dict[int, int]) -> dict[str, Any]:
    """Read what runs on which hosts."""
    deployments = _rows(
        Deployment.objects.filter(
            stays(day), stays(day, "endpoint__out_of_service_on"), endpoint__site__slug__in=site_at
        ),
        *("pk", "slug", "endpoint__slug", "endpoint__service__slug", "endpoint__site__slug", "host_type__slug"),
        *("config", "replica_chips", "replica_tok_s"),
        key=itemgetter(1),
    )
    deployment_at = {row[0]: at for at, row in enumerate(deployments)}
    placements = sorted(
        (host_at[host], deployment_at[deployment], *rest)
        for host, deployment, *rest in Placement.objects.filter(stays(day), **_at_site(site, "host__"))
        .order_by()
        .values_list("host_id", "deployment_id", "replicas", Coalesce(F("unit"), -1), day_first(), day_last())
        .iterator(chunk_size=READ_ROWS)
        if host in host_at and deployment in deployment_at
    )
    names = ("host", "deployment", "replicas", "unit", "first_day", "last_day")
    return {
        "deployments": tuple(DeploymentFact(*row[1:]) for row in deployments),
        **{f"placement_{name}": _whole(row[at] for row in placements) for at, name in enumerate(names)},
    }


def _at_site(site: str | None, path: str) -> dict[str, str]:
    """Return the filter of what stands in racks of one site, or none."""
    return {f"{path}rack__row__hall__site__slug": site} if site else {}


def _rows(
    found: QuerySet[Any],
    *columns: Any,
    key: Callable[[Any], Any],
    keep: Callable[[Any], bool] | None = None,
) -> list[Any]:
    """Return columns of the rows that are kept, in an order of our own: data bases differ in how they sort text."""
    rows = found.order_by().values_list(*columns).iterator(chunk_size=READ_ROWS)
    return sorted(filter(keep, rows), key=key)


def _tree(
    day: date,
    nodes: type[PowerNode] | type[CoolingNode] | type[NetworkNode],
    links: type[PowerLink] | type[CoolingLink] | type[NetworkLink],
    site: str | None,
    site_at: dict[str, int],
    rack_at: dict[int, int],
    *,
    leaves: Sequence[tuple[int, int | None]] = (),
) -> TreeFacts:
    """Read one tree. Nodes that name a rack are its leaves, and so are the (rack, node id) pairs of `leaves`."""
    figures = NODE_FIGURES[nodes]
    found = _rows(
        nodes.objects.filter(stays(day), site__slug__in=site_at),
        *("pk", "slug", "kind", "site__slug", "rack_id" if nodes is not CoolingNode else Value(None, IntegerField())),
        *(day_first(), day_last(), *figures),
        key=itemgetter(1),
    )
    at = {node[0]: index for index, node in enumerate(found)}
    edges = sorted(
        (at[node], at[source], *rest)
        for node, source, *rest in links.objects.filter(stays(day), **({"node__site__slug": site} if site else {}))
        .order_by()
        .values_list("node_id", "source_id", "standby", day_first(), day_last())
        .iterator(chunk_size=READ_ROWS)
        if node in at and source in at
    )
    named = [(rack_at[node[4]], at[node[0]]) for node in found if node[4] in rack_at]
    ends = sorted({*named, *((rack, at[node]) for rack, node in leaves if node in at)})
    return TreeFacts(
        slugs=tuple(node[1] for node in found),
        kinds=tuple(node[2] for node in found),
        site=_whole(site_at[node[3]] for node in found),
        usable=_real(_usable(node[7:]) for node in found),
        efficiency_ratio=_real(node[12] if nodes is PowerNode else 1.0 for node in found),
        house=_real(node[13] if nodes is PowerNode else 0.0 for node in found),
        first_day=_whole(node[5] for node in found),
        last_day=_whole(node[6] for node in found),
        link_node=_whole(edge[0] for edge in edges),
        link_source=_whole(edge[1] for edge in edges),
        link_standby=np.array([edge[2] for edge in edges], dtype=bool),
        link_first_day=_whole(edge[3] for edge in edges),
        link_last_day=_whole(edge[4] for edge in edges),
        leaf_rack=_whole(rack for rack, _ in ends),
        leaf_node=_whole(node for _, node in ends),
    )


NODE_FIGURES: dict[type[Any], tuple[str, ...]] = {
    PowerNode: ("rating_va", "voltage_v", "current_a", "phases", "derate_ratio", "efficiency_ratio", "house_va"),
    CoolingNode: ("limit_w",),
    NetworkNode: (),
}
"""What is read of a node of each tree, beside its name, site, rack and days."""


def _usable(figures: Sequence[Any]) -> float:
    """Return what may be drawn from a node for hours; inf where nobody knows, and of switches, which bear no load."""
    if len(figures) < 2:
        return _or_more(figures[0] if figures else None)
    rating_va, voltage_v, current_a, phases, derate_ratio, *_ = figures
    rated_va = rating_va if rating_va is not None else math.sqrt(phases) * voltage_v * current_a
    return float(rated_va * derate_ratio)


def _services(day: date) -> tuple[ServiceFact, ...]:
    ready: dict[int, dict[str, date]] = defaultdict(dict)
    for service_id, chip, ready_on in Readiness.objects.order_by("chip").values_list("service_id", "chip", "ready_on"):
        ready[service_id][chip] = ready_on
    return tuple(
        ServiceFact(
            slug=service.slug,
            name=service.name,
            region=service.region.slug,
            model=service.model,
            profile=service.profile,
            tier=service.tier,
            ttft_s=service.ttft_s,
            tpot_s=service.tpot_s,
            percentile=service.percentile,
            demand_on=service.demand_on,
            demand_request_s=service.demand_request_s,
            growth_ratio=service.growth_ratio,
            growth_low_ratio=service.growth_low_ratio,
            growth_high_ratio=service.growth_high_ratio,
            movable=service.movable,
            note=service.note,
            ready_on=ready[service.pk],
        )
        for service in sorted(Service.objects.filter(stays(day)).select_related("region"), key=lambda s: s.slug)
    )


def _demands(day: date) -> dict[str, Any]:
    """Read what people know about the demand of services from a day on."""
    event = (
        *("slug", "service__slug", "starts_on", "ends_on"),
        *("multiplier_low_ratio", "multiplier_ratio", "multiplier_high_ratio", "reason"),
    )
    override = (
        *("slug", "service__slug", "first_on", "last_on"),
        *("p10_request_s", "p50_request_s", "p90_request_s", "author", "reason"),
    )
    lasting = DemandEvent.objects.filter(stays(day, "ends_on"))
    holding = DemandOverride.objects.filter(last_on__gte=day.replace(day=1))
    return {
        "demand_events": tuple(DemandEventFact(*row) for row in _rows(lasting, *event, key=itemgetter(0))),
        "demand_overrides": tuple(DemandOverrideFact(*row) for row in _rows(holding, *override, key=itemgetter(0))),
    }


def _cards(day: date) -> tuple[CardGroup, ...]:
    """Count cards by where they come from, what runs on them and whether they could prove it."""
    groups: dict[tuple[str, str, str, str, str, str], int] = defaultdict(int)
    lots = {lot.pk: lot for lot in Lot.objects.all()}
    sets = dict(FirmwareSet.objects.values_list("pk", "slug"))
    counts = (
        Card.objects.filter(stays(day))
        .order_by()
        .values("lot_id", "firmware_id", "attestation")
        .annotate(cards=Count("pk"))
        .values_list("lot_id", "firmware_id", "attestation", "cards")
    )
    for lot_id, firmware_id, attestation, cards in counts:
        lot = lots.get(lot_id)
        chip, foundry, hbm_maker, channel = (lot.chip, lot.foundry, lot.hbm_maker, lot.channel) if lot else ("",) * 4
        groups[chip, foundry, hbm_maker, channel, sets.get(firmware_id, ""), attestation] += cards
    return tuple(CardGroup(*group, cards) for group, cards in sorted(groups.items()))


def _whole(values: Iterable[int]) -> IntArray:
    return np.fromiter(values, dtype=np.int64)


def _real(values: Iterable[float]) -> FloatArray:
    return np.fromiter(values, dtype=np.float64)


def _or_more(limit: float | None) -> float:
    """Return a limit; one that nobody knows stops nothing."""
    return np.inf if limit is None else float(limit)
