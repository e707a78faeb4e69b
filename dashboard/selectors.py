"""Reads of pages. Every function costs a fixed number of queries, however many rows there are."""

import math
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from typing import Any

from django.db.models import Count, Max, OuterRef, Q, QuerySet, Subquery, Sum

from accelerator import chip_get
from dashboard.presenters import Meter, meter_of, number_text, side_text
from fleet.access import changes_seen, rows_seen
from fleet.models import (
    Change,
    ChangeSet,
    Delivery,
    FirmwareBaseline,
    Host,
    HostType,
    PowerNode,
    Rack,
    Region,
    Site,
)
from fleet.selectors import in_service, stays
from scenarios.models import Run, RunStep, Scenario
from scenarios.seen import result_seen, seen

HISTORY_ROWS = 10


def fleet_changed_at() -> datetime | None:
    """Return when any row of the fleet was last written: the log of changes knows."""
    at: datetime | None = ChangeSet.objects.aggregate(at=Max("at"))["at"]
    return at


def run_latest(kind: str, user: Any) -> Run | None:
    """Return the last finished run of a kind of scenario that an account sees, its result cut to what it sees."""
    runs = Run.objects.filter(status=Run.Status.DONE, scenario__kind=kind).select_related("scenario")
    run = seen(runs, user).order_by("-finished_at", "-pk").first()
    if run is not None and run.result is not None:
        run.result = result_seen(run.result, user)
    return run if run is not None and run.result is not None else None


def runs_listed(user: Any) -> QuerySet[Run]:
    """Return the runs that an account sees, without their results: a list must not read megabytes."""
    return seen(Run.objects.defer("result", "inputs").select_related("scenario", "owner", "schedule"), user)


def steps_listed(run: Run) -> QuerySet[RunStep]:
    """Return the steps of a run in their order, without what they have found."""
    return run.steps.defer("payload", "result", "checkpoint").order_by("pk")


def scenarios_listed(user: Any) -> QuerySet[Scenario]:
    """Return the scenarios that an account sees, with the state of their last run."""
    last = seen(Run.objects.filter(scenario=OuterRef("pk")), user).order_by("-pk")
    return (
        seen(Scenario.objects.select_related("trace", "owner"), user)
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
    """A region or a site on one day: its hosts, and the power planned against the limit of its racks."""

    slug: str
    name: str
    racks: int = 0
    limit_w: float = 0.0
    used_w: float = 0.0
    counts: dict[int, int] = field(default_factory=lambda: defaultdict(int))
    kinds: list[KindCount] = field(default_factory=list)
    places: list["Place"] = field(default_factory=list)

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


def deliveries_due(day: date, site: Site | None = None, *, user: Any = None) -> list[Delivery]:
    """Return what may still be on its way on a day: named for it or later, or late by less than its P90 slip."""
    longest = Delivery.objects.aggregate(days=Max("slip_p90_days"))["days"] or 0
    found = rows_seen(Delivery.objects.all(), user).filter(
        received_on__isnull=True, expected_on__gte=day - timedelta(days=math.ceil(longest))
    )
    found = found.filter(site=site) if site else found
    late = found.select_related("site", "host_type")
    return [one for one in late if one.expected_on + timedelta(days=round(one.slip_p90_days)) >= day]


# --- what belongs to one rack, host or card ---------------------------------------------------------------------------
def history_of(kind: str, pk: int, user: Any) -> QuerySet[Change]:
    """Return the last changes of a row that an account sees, newest first."""
    found = changes_seen(user).filter(kind=kind, object_id=pk).select_related("change_set")
    return found.order_by("-change_set__number", "-position")[:HISTORY_ROWS]


def baseline_of(chip: str, region_id: int, day: date) -> FirmwareBaseline | None:
    """Return the highest firmware that a chip needs in a region on a day, or None where nothing is asked."""
    place = Q(region__isnull=True) | Q(region=region_id)
    found = FirmwareBaseline.objects.filter(place, firmware__chip=chip, starts_on__lte=day)
    return found.select_related("firmware").order_by("-firmware__rank", "starts_on", "slug").first()


def feed_notes(rack: Rack, day: date) -> dict[str, str]:
    """Return by slug what the feeds of a rack are made of: what their usable power comes from."""
    return {
        feed.slug: _rating_text(feed) + (f", designed {feed.redundancy}" if feed.redundancy else "")
        for feed in PowerNode.objects.filter(stays(day), rack=rack)
    }


def _rating_text(node: PowerNode) -> str:
    derate = f"× {node.derate_ratio:g}"
    if node.rating_va is not None:
        return f"rated {number_text(node.rating_va / 1e3)} kVA {derate}"
    phases = "three-phase" if node.phases == 3 else "single-phase"
    return f"{node.voltage_v:g} V {phases}, {node.current_a:g} A {derate}"
