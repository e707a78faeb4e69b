"""Reads of pages. Every function costs a fixed number of queries, however many rows there are."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, Max, OuterRef, QuerySet, Subquery, Sum

from accelerator import chip_get
from dashboard.presenters import Meter, meter_of, side_text
from fleet.access import rows_seen
from fleet.models import ChangeSet, Delivery, Host, HostType, Rack, Region, Site
from fleet.selectors import in_service
from scenarios.models import Run, Scenario


def fleet_changed_at() -> datetime | None:
    """Return when any row of the fleet was last written: the log of changes knows."""
    at: datetime | None = ChangeSet.objects.aggregate(at=Max("at"))["at"]
    return at


def run_latest(kind: str) -> Run | None:
    """Return the last finished run of a kind of scenario, with its result."""
    runs = Run.objects.filter(status=Run.Status.DONE, scenario__kind=kind).select_related("scenario")
    return runs.order_by("-finished_at", "-pk").first()


def runs_listed() -> QuerySet[Run]:
    """Return runs without their results: a list must not read megabytes."""
    return Run.objects.defer("result", "inputs").select_related("scenario", "owner", "schedule")


def scenarios_listed() -> QuerySet[Scenario]:
    """Return scenarios with the state of their last run."""
    last = Run.objects.filter(scenario=OuterRef("pk")).order_by("-pk")
    return (
        Scenario.objects.select_related("trace", "owner")
        .defer("trace__arrays", "trace__mix")
        .annotate(
            last_run_id=Subquery(last.values("pk")[:1]),
            last_run_status=Subquery(last.values("status")[:1]),
            last_run_at=Subquery(last.values("created_at")[:1]),
        )
    )


@dataclass(frozen=True, slots=True)
class KindCount:
    """So many hosts of one type."""

    kind: str
    side: str
    hosts: int


@dataclass(slots=True)
class Place:
    """A region, site, hall, row or rack on one day: its hosts, and the power planned against the limit of its racks."""

    slug: str
    name: str
    racks: int = 0
    limit_w: float = 0.0
    used_w: float = 0.0
    counts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    kinds: list[KindCount] = field(default_factory=list)
    places: list["Place"] = field(default_factory=list)
    note: str = ""

    @property
    def hosts(self) -> int:
        """Hosts in service. [-]"""
        return sum(self.counts.values())

    @property
    def power(self) -> Meter:
        """Power planned against the limit."""
        return meter_of(self.used_w, self.limit_w, "W")

    def take(self, place: "Place") -> None:
        """Add a place inside this one, and its sums."""
        self.places.append(place)
        self.racks += place.racks
        self.limit_w += place.limit_w
        self.used_w += place.used_w
        for kind_id, hosts in place.counts.items():
            self.counts[kind_id] += hosts


def _hosts_count(place: Place, found: Iterable[tuple[int, int]], types: dict[int, HostType]) -> None:
    for kind_id, hosts in found:
        place.counts[kind_id] += hosts
        place.used_w += hosts * types[kind_id].power_w


def _kinds_name(place: Place, types: dict[int, HostType]) -> None:
    """Fill in the host types by name, here and in every place inside."""
    place.kinds = [
        KindCount(types[pk].slug, side_text(homegrown=chip_get(types[pk].chip).homegrown), hosts)
        for pk, hosts in sorted(place.counts.items(), key=lambda item: types[item[0]].slug)
        if hosts
    ]
    for inner in place.places:
        _kinds_name(inner, types)


def fleet_tree(day: date, user: Any) -> list[Place]:
    """Return the regions that an account sees, and their sites on a day."""
    types = {kind.pk: kind for kind in HostType.objects.all()}
    racks = {
        site_id: (count, limit_w)
        for site_id, count, limit_w in Rack.objects.filter(in_service(day))
        .values("row__hall__site_id")
        .annotate(count=Count("pk"), limit_w=Sum("power_limit_w"))
        .order_by()
        .values_list("row__hall__site_id", "count", "limit_w")
    }
    hosts: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for site_id, kind_id, count in (
        Host.objects.filter(in_service(day))
        .values("rack__row__hall__site_id", "host_type_id")
        .annotate(count=Count("pk"))
        .order_by()
        .values_list("rack__row__hall__site_id", "host_type_id", "count")
    ):
        hosts[site_id].append((kind_id, count))
    regions = {region.pk: Place(region.slug, region.name) for region in rows_seen(Region.objects.all(), user)}
    for site in rows_seen(Site.objects.filter(in_service(day)), user):
        place = Place(site.slug, site.name)
        if site.pk in racks:
            place.racks, place.limit_w = racks[site.pk]
        _hosts_count(place, hosts[site.pk], types)
        regions[site.region_id].take(place)
    for region in regions.values():
        _kinds_name(region, types)
    return list(regions.values())


def site_tree(site: Site, day: date) -> Place:
    """Return a site's halls, rows and racks on a day, in floor order."""
    types = {kind.pk: kind for kind in HostType.objects.all()}
    hosts: dict[int, list[tuple[int, int]]] = defaultdict(list)
    for rack_id, kind_id, count in (
        Host.objects.filter(in_service(day), rack__row__hall__site=site)
        .values("rack_id", "host_type_id")
        .annotate(count=Count("pk"))
        .order_by()
        .values_list("rack_id", "host_type_id", "count")
    ):
        hosts[rack_id].append((kind_id, count))
    racks: dict[int, list[Place]] = defaultdict(list)
    for rack in Rack.objects.filter(in_service(day), row__hall__site=site).order_by("position", "slug"):
        place = Place(rack.slug, rack.slug, racks=1, limit_w=rack.power_limit_w, note=f"{rack.height_u} U")
        _hosts_count(place, hosts[rack.pk], types)
        racks[rack.row_id].append(place)
    top = Place(site.slug, site.name)
    for hall in site.halls.order_by("slug").prefetch_related("rows"):
        room = Place(hall.slug, hall.name, note=f"{hall.get_cooling_display()} cooling")
        for row in sorted(hall.rows.all(), key=lambda row: (row.position, row.slug)):
            line = Place(row.slug, f"Row {row.slug}")
            for place in racks[row.pk]:
                line.take(place)
            room.take(line)
        top.take(room)
    _kinds_name(top, types)
    return top


def deliveries_due(day: date, site: Site | None = None, *, user: Any = None) -> list[Delivery]:
    """Return what may still be on its way on a day: named for it or later, or late by less than its P90 slip."""
    longest = Delivery.objects.aggregate(days=Max("slip_p90_days"))["days"] or 0
    found = rows_seen(Delivery.objects.all(), user).filter(
        received_on__isnull=True, expected_on__gte=day - timedelta(days=math.ceil(longest))
    )
    found = found.filter(site=site) if site else found
    late = found.select_related("site", "host_type")
    return [one for one in late if one.expected_on + timedelta(days=round(one.slip_p90_days)) >= day]
