"""Reads of the fleet that are more than a queryset."""

from collections import defaultdict
from datetime import date

import numpy as np
from django.db.models import Q

from fleet.models import Delivery, Host, HostType, Rack, Readiness, Region, Service, Site
from fleet.reading import one_view
from fleet.snapshot import (
    DAY_MAX,
    DAY_MIN,
    DeliveryFact,
    FleetSnapshot,
    IntArray,
    KindFact,
    RegionFact,
    ServiceFact,
    SiteFact,
)


def snapshot_take(day: date) -> FleetSnapshot:
    """Return the fleet of a day, and all that is dated later, as it stood at one moment: edits come before or after."""
    with one_view():
        return _snapshot_read(day)


def _snapshot_read(day: date) -> FleetSnapshot:
    """Read the fleet in one pass of set-based queries."""
    stays = Q(out_of_service_on__isnull=True) | Q(out_of_service_on__gt=day)
    sites = list(
        Site.objects.filter(stays)
        .order_by("slug")
        .values_list("slug", "name", "region__slug", "pue_ratio", "in_service_on", "out_of_service_on")
    )
    kinds = list(HostType.objects.order_by("slug"))
    site_at = {row[0]: at for at, row in enumerate(sites)}
    kind_at = {kind.pk: at for at, kind in enumerate(kinds)}

    dates = ("in_service_on", "out_of_service_on")
    racks = list(
        Rack.objects.filter(stays, row__hall__site__slug__in=site_at)
        .order_by("row__hall__site__slug", "row__hall__slug", "row__position", "row__slug", "position", "slug")
        .values_list("pk", "slug", "row__hall__site__slug", "height_u", "power_limit_w", *dates)
    )
    rack_at = {row[0]: at for at, row in enumerate(racks)}
    rack_site = np.array([site_at[row[2]] for row in racks], dtype=np.int64)
    site_first = _ordinals([row[4] for row in sites], DAY_MIN)
    site_last = _ordinals([row[5] for row in sites], DAY_MAX)
    hosts = [
        (rack_at[rack], kind_at[kind], first, last)
        for rack, kind, first, last in Host.objects.filter(stays)
        .order_by("pk")
        .values_list("rack_id", "host_type_id", *dates)
        .iterator(chunk_size=20_000)
        if rack in rack_at
    ]
    return FleetSnapshot(
        as_of=day,
        regions=tuple(RegionFact(*row) for row in Region.objects.order_by("slug").values_list("slug", "name")),
        sites=tuple(SiteFact(*row[:4]) for row in sites),
        kinds=tuple(
            KindFact(k.slug, k.name, k.chip, k.chips, k.height_u, float(k.power_w), float(k.idle_w)) for k in kinds
        ),
        services=_services(),
        deliveries=tuple(
            DeliveryFact(*row)
            for row in Delivery.objects.filter(site__slug__in=site_at, received_on__isnull=True)
            .order_by("slug")
            .values_list(
                *("slug", "site__slug", "host_type__slug", "quantity", "expected_on"),
                *("slip_p50_days", "slip_p90_days", "fill_ratio"),
            )
        ),
        rack_slugs=tuple(row[1] for row in racks),
        rack_site=rack_site,
        rack_height_u=np.array([row[3] for row in racks], dtype=np.int64),
        rack_power_limit_w=np.array([row[4] for row in racks], dtype=np.float64),
        # a rack is open while both it and its site are
        rack_first_day=np.maximum(_ordinals([row[5] for row in racks], DAY_MIN), site_first[rack_site]),
        rack_last_day=np.minimum(_ordinals([row[6] for row in racks], DAY_MAX), site_last[rack_site]),
        host_rack=np.array([row[0] for row in hosts], dtype=np.int64),
        host_kind=np.array([row[1] for row in hosts], dtype=np.int64),
        host_first_day=_ordinals([row[2] for row in hosts], DAY_MIN),
        host_last_day=_ordinals([row[3] for row in hosts], DAY_MAX),
    )


def _services() -> tuple[ServiceFact, ...]:
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
        for service in Service.objects.select_related("region").order_by("slug")
    )


def _ordinals(days: list[date | None], empty: int) -> IntArray:
    return np.array([empty if day is None else day.toordinal() for day in days], dtype=np.int64)
