"""What comes and goes, as lanes of the timeline: orders, deliveries, retirements, policy, firmware, hosts and racks."""

from calendar import monthrange
from collections import defaultdict
from datetime import date
from typing import Any

from django.db.models import Count, QuerySet

from dashboard.links import Links, list_url, row_url
from dashboard.timelines import Event, EventLane, Slip
from fleet.access import rows_seen
from fleet.happenings import DELIVERY, FIRMWARE, ORDER, POLICY, RETIREMENT, Happening, happenings_seen
from fleet.models import Host, Rack, Site

GROUPS_MOST = 60  # of hosts by site, type and month; beyond it sites are summed up
DATED = {
    ORDER: "Orders",
    DELIVERY: "Deliveries",
    RETIREMENT: "Retirements",
    POLICY: "Policy",
    FIRMWARE: "Firmware baselines",
}
IN, OUT = "in_service_on", "out_of_service_on"


def lanes_of(user: Any, first: date, last: date, links: Links, site: Site | None = None) -> list[EventLane]:
    """Return the events of a window that an account sees, at one site or at all of them; some 12 queries."""
    span, dated = (first, last), happenings_seen(user, first, last, site)
    return [
        *(EventLane(kind, label, [_event(one) for one in dated if one.kind == kind]) for kind, label in DATED.items()),
        EventLane("in-service", "Sites and racks in", _buildings(user, site, IN, *span, links)),
        EventLane("out-of-service", "Sites and racks out", _buildings(user, site, OUT, *span, links)),
        EventLane("in-service", "Hosts into service", _hosts(user, site, IN, *span)),
        EventLane("out-of-service", "Hosts out of service", _hosts(user, site, OUT, *span)),
    ]


def _event(one: Happening) -> Event:
    """Return it as it is drawn."""
    return Event(
        label=one.label,
        day=one.day,
        url=row_url(one.name, one.pk),
        until=one.until,
        slip=Slip(*one.slip) if one.slip else None,
        note=one.note,
    )


# --- hosts and racks, by month ----------------------------------------------------------------------------------------
def _hosts(user: Any, site: Site | None, field: str, first: date, last: date) -> list[Event]:
    rows = rows_seen(Host.objects.all(), user)
    rows = rows.filter(rack__row__hall__site=site) if site else rows
    counts = _by_month(rows, field, first, last, "rack__row__hall__site__slug", "host_type__slug")
    if len(counts) <= GROUPS_MOST:
        return [
            _group(f"{hosts} × {kind} at {place}", "hosts", month, field, host_type=kind)
            for (month, place, kind), hosts in counts.items()
        ]
    hosts_of: dict[tuple[date, str], int] = defaultdict(int)
    places: dict[tuple[date, str], set[str]] = defaultdict(set)
    for (month, place, kind), hosts in counts.items():
        hosts_of[month, kind] += hosts
        places[month, kind].add(place)
    return [
        _group(f"{hosts} × {kind} at {_sites(len(places[month, kind]))}", "hosts", month, field, host_type=kind)
        for (month, kind), hosts in hosts_of.items()
    ]


def _sites(count: int) -> str:
    return f"{count} site{'' if count == 1 else 's'}"


def _buildings(user: Any, site: Site | None, field: str, first: date, last: date, links: Links) -> list[Event]:
    found = {f"{field}__range": (first, last)}
    sites = rows_seen(Site.objects.filter(**found), user)
    for_site = {"pk": site.pk} if site else {}
    events = [
        Event(f"site {row.slug}", getattr(row, field), links.site(row.slug), note=row.name)
        for row in sites.filter(**for_site).order_by(field, "slug")
    ]
    racks = rows_seen(Rack.objects.all(), user)
    racks = racks.filter(row__hall__site=site) if site else racks
    for (month, place), count in _by_month(racks, field, first, last, "row__hall__site__slug").items():
        events.append(_group(f"{count} rack{'' if count == 1 else 's'} at {place}", "racks", month, field))
    return events


def _by_month(rows: QuerySet[Any], field: str, first: date, last: date, *names: str) -> dict[tuple[Any, ...], int]:
    """Return how many rows come or go in each month and group; the data base counts by day, which it does quickest."""
    counts: dict[tuple[Any, ...], int] = defaultdict(int)
    inside = rows.filter(**{f"{field}__range": (first, last)})
    for day, *group, count in (
        inside.values(field, *names)
        .annotate(count=Count("pk"))
        .order_by(field, *names)
        .values_list(field, *names, "count")
    ):
        counts[day.replace(day=1), *group] += count
    return dict(counts)


def _group(label: str, name: str, month: date, field: str, **filters: str) -> Event:
    """Return what happens in a month as one event, in its middle, with the list of its rows."""
    last = month.replace(day=monthrange(month.year, month.month)[1])
    ends = {f"{field}__min": month.isoformat(), f"{field}__max": last.isoformat()}
    return Event(label, month.replace(day=15), list_url(name, **filters, **ends), note=f"in {month:%Y-%m}")
