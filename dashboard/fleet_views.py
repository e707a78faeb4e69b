"""Pages of the fleet in its places, from the region down to the rack, and of what comes and goes.

Each shows one day, which its address names. What an account does not see is not there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

import numpy as np
from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accelerator import chip_get
from dashboard import limits, losses, places, presenters, selectors, supplies
from dashboard.elevations import Standing, elevation_draw
from dashboard.fleet_forms import MetricForm, WindowForm
from dashboard.floorplans import MetricLink
from dashboard.forms import DayForm
from dashboard.happenings import lanes_of
from dashboard.links import Crumb, Links, row_url
from dashboard.power_drawings import feed_bars_draw
from dashboard.redundancy import FORMS
from dashboard.timelines import timeline_draw
from fleet.access import rows_seen
from fleet.domains import blast_radius
from fleet.models import Hall, Host, Maintenance, NetworkNode, Rack, Row, Site
from fleet.selectors import day_cached, in_service, stays
from scenarios.demand import month_add
from scenarios.seen import services_seen

SLIDER_BEFORE, SLIDER_AFTER = 12, 36  # months that the slider reaches back, and ahead
PLACE = "row__hall__site__region"


@dataclass(frozen=True, slots=True)
class Slider:
    """Months of the slider: the first and the last, how many there are, where the day is, where years begin."""

    first: str
    last: str
    most: int
    value: int
    marks: list[int]


@dataclass(frozen=True, slots=True)
class Asked:
    """What every page is asked: the day, as its form says it, and the answer's status if the day cannot be read."""

    form: DayForm
    day: date
    status: int
    links: Links

    @property
    def slider(self) -> Slider:
        """Return the months from a year ago to three years ahead."""
        first = month_add(timezone.now().date(), -SLIDER_BEFORE)
        most = SLIDER_BEFORE + SLIDER_AFTER
        at = (self.day.year - first.year) * 12 + self.day.month - first.month
        marks = [month for month in range(most + 1) if month_add(first, month).month == 1]
        return Slider(f"{first:%Y-%m}", f"{month_add(first, most):%Y-%m}", most, min(max(at, 0), most), marks)


def asked_of(request: HttpRequest) -> Asked:
    """Return what is asked: a day that cannot be read shows today, and says so."""
    form = DayForm(request.GET)
    is_valid = form.is_valid()
    day = form.cleaned_data["day"] if is_valid else timezone.now().date()
    return Asked(form, day, 200 if is_valid else 400, Links(day))


def render_on(request: HttpRequest, name: str, asked: Asked, crumbs: Sequence[Crumb], **values: Any) -> HttpResponse:
    """Render a page; `kept` are parameters of the address that a change of day keeps, `status` may be worse."""
    context = {
        "form": asked.form,
        "day": asked.day,
        "slider": asked.slider,
        "links": asked.links,
        "crumbs": crumbs,
        "kept": values.pop("kept", {}),
    }
    status = max(asked.status, values.pop("status", 200))
    return render(request, f"dashboard/{name}.html", {**context, **values}, status=status)


def site_seen(request: HttpRequest, slug: str) -> Site:
    return get_object_or_404(rows_seen(Site.objects.select_related("region"), request.user), slug=slug)


def site_day(asked: Asked, slug: str) -> limits.SiteDay:
    """Return a site on the day asked for; its loads are computed once for as long as its snapshot is kept."""
    found = day_cached(asked.day, slug)
    return limits.SiteDay(found.snapshot, found.loads, found.day, asked.links)


def way(
    links: Links, site: Site, hall: Hall | None = None, row: Row | None = None, rack: Rack | None = None
) -> list[Crumb]:
    """Return the steps from the fleet down to a place."""
    way = [Crumb("Fleet", links.fleet()), Crumb(site.region.name), Crumb(site.name, links.site(site.slug))]
    if hall:
        way.append(Crumb(hall.name, links.hall(site.slug, hall.slug)))
    if hall and row:
        way.append(Crumb(f"Row {row.slug}", links.row(f"{site.slug}/{hall.slug}/{row.slug}")))
    return [*way, Crumb(rack.slug, links.rack(rack.slug))] if rack else way


def way_to(links: Links, rack: Rack) -> list[Crumb]:
    """Return the steps from the fleet to the row of a rack."""
    return way(links, rack.row.hall.site, rack.row.hall, rack.row)


# --- fleet, site, hall, row -------------------------------------------------------------------------------------------
@login_required
@require_safe
def fleet(request: HttpRequest) -> HttpResponse:
    """What stands where on a day, what it draws, and what is on its way?"""
    asked = asked_of(request)
    return render_on(
        request,
        "fleet",
        asked,
        [],
        regions=selectors.fleet_tree(asked.day, request.user),
        deliveries=[presenters.delivery_row(one) for one in selectors.deliveries_due(asked.day, user=request.user)],
    )


@login_required
@require_safe
def site(request: HttpRequest, slug: str) -> HttpResponse:
    """Which row of a site is fullest, and what limits it?"""
    found, asked = site_seen(request, slug), asked_of(request)
    day = site_day(asked, slug)
    halls = {f"{slug}/{hall.slug}": hall for hall in found.halls.filter(in_service(asked.day)).order_by("slug")}
    names = {key: hall.name for key, hall in halls.items()}
    return render_on(
        request,
        "site",
        asked,
        way(asked.links, found)[:-1],
        site=found,
        rows=places.rows_of(day, names),
        halls=[(hall, halls[hall.key]) for hall in places.halls_of(day, names)],
        whole=places.stretch_of(day, places.every_rack(day), key=slug, name=found.name, url=""),
        kinds=places.kinds_of(day, places.hosts_here(day)),
        room=places.room_of(day),
        deliveries=[
            presenters.delivery_row(one) for one in selectors.deliveries_due(asked.day, found, user=request.user)
        ],
        trees=[(form.title, asked.links.tree(name, slug)) for name, form in FORMS.items()],
        loss_url=asked.links.failure("site", slug),
    )


@login_required
@require_safe
def hall(request: HttpRequest, slug: str, hall_slug: str) -> HttpResponse:
    """Where on the floor of a hall is it full, and of what?"""
    place, asked = site_seen(request, slug), asked_of(request)
    found = get_object_or_404(Hall, site=place, slug=hall_slug)
    form = MetricForm(request.GET)
    metric = form.cleaned_data["metric"] if form.is_valid() else places.HIGHEST
    day, key = site_day(asked, slug), f"{slug}/{hall_slug}"
    spots = Rack.objects.filter(row__hall=found).values_list("slug", "position", "row__slug", "row__position")
    metrics = [
        MetricLink(name, label, asked.links.hall(slug, hall_slug, metric=name), name == metric)
        for name, label in places.METRICS.items()
    ]
    return render_on(
        request,
        "hall",
        asked,
        way(asked.links, place),
        kept={} if metric == places.HIGHEST else {"metric": metric},
        status=200 if form.is_valid() else 400,
        metric_form=form,
        site=place,
        hall=found,
        plan=places.floor_draw(day, [places.Spot(*spot) for spot in spots], metric, hall=found.name, metrics=metrics),
        whole=places.halls_of(day, {key: found.name})[0],
        rows=places.rows_of(day, {key: found.name}, hall=key),
        loss_url=asked.links.failure("hall", key),
    )


@login_required
@require_safe
def row(request: HttpRequest, slug: str, hall_slug: str, row_slug: str) -> HttpResponse:
    """Which rack of a row is fullest, and by which limit?"""
    place, asked = site_seen(request, slug), asked_of(request)
    found = get_object_or_404(Row.objects.select_related("hall"), hall__site=place, hall__slug=hall_slug, slug=row_slug)
    day, key = site_day(asked, slug), f"{slug}/{hall_slug}/{row_slug}"
    rows = Row.objects.filter(in_service(asked.day), hall=found.hall).order_by("position", "slug")
    keys = [f"{slug}/{hall_slug}/{one}" for one in rows.values_list("slug", flat=True)]
    racks = places.racks_of(day, key)
    return render_on(
        request,
        "row",
        asked,
        way(asked.links, place, found.hall),
        site=place,
        row=found,
        heads=[text.capitalize() for text in limits.LIMIT_WORDS.values()],
        racks=places.rack_rows(day, racks),
        whole=places.stretch_of(day, racks, key=key, name=f"Row {row_slug}", url=""),
        neighbours=_neighbours([(one.rpartition("/")[2], asked.links.row(one)) for one in keys], row_slug),
        loss_url=asked.links.failure("row", key),
    )


def _neighbours(named: Sequence[tuple[str, str]], name: str) -> list[tuple[str, str, str]]:
    """Return what stands before and after something: which side, its name, its address."""
    names = [one for one, _ in named]
    if name not in names:
        return []
    at = names.index(name)
    sides = [("Previous", at - 1), ("Next", at + 1)]
    return [(side, *named[index]) for side, index in sides if 0 <= index < len(named)]


# --- rack -------------------------------------------------------------------------------------------------------------
@login_required
@require_safe
def rack(request: HttpRequest, slug: str) -> HttpResponse:
    """What stands in a rack, what do its feeds bear if one of them is lost, and which limit is nearest?"""
    rows = Rack.objects.select_related(PLACE, "cooling_node")
    found, asked = get_object_or_404(rows_seen(rows, request.user), slug=slug), asked_of(request)
    hosts = list(Host.objects.filter(stays(asked.day), rack=found).select_related("host_type").order_by("slug"))
    away = away_on(asked.day, host__rack=found)
    states = [(host, *state_on(host, asked.day, away)) for host in hosts]
    states.sort(key=lambda one: (one[1] == "planned", -(one[0].position_u or 0)))
    standing = [_standing(host, state, note, asked.links) for host, state, note in states if host.position_u]
    unplaced_u = sum(host.host_type.height_u for host in hosts if not host.position_u)
    day = site_day(asked, found.row.hall.site.slug)
    row_key = f"{found.row.hall.site.slug}/{found.row.hall.slug}/{found.row.slug}"
    at = day.rack_at.get(slug)
    beside = [day.snapshot.rack_slugs[other] for other in places.racks_of(day, row_key)]
    values: dict[str, Any] = {"is_open": False, "feeds": feed_bars_draw([])}
    if at is not None:
        lost = blast_radius(day.snapshot, asked.day, tree="rack", node=slug)
        values = {
            "is_open": bool(day.is_open[at]),
            "nearest": limits.nearest_limit(day, np.array([at])),
            "feeds": feed_bars_draw(supplies.feeds_of(day, at, selectors.feed_notes(found, asked.day))),
            "limits": limits.limit_cells(day, at),
            "above": [(name, supplies.chain_of(day, name, at)) for name in ("power", "cooling")],
            "loss": losses.loss_of([(day, lost)], services_seen(request.user)),
            "to_come": int(day.to_come[at]),
        }
    return render_on(
        request,
        "rack",
        asked,
        way_to(asked.links, found),
        rack=found,
        row_page=row_url("racks", found.pk),
        states=states,
        hosts_here=sum(state != "planned" for _, state, _ in states),
        elevation=elevation_draw(found.height_u, standing, name=f"rack {slug}", unplaced_u=unplaced_u)
        if standing
        else None,
        unplaced=len(hosts) - len(standing),
        switches=[
            (switch, asked.links.failure("network", switch.slug))
            for switch in NetworkNode.objects.filter(stays(asked.day), rack=found).order_by("slug")
        ],
        cooling_url=asked.links.failure("cooling", found.cooling_node.slug) if found.cooling_node else "",
        neighbours=_neighbours([(one, asked.links.rack(one)) for one in beside], slug),
        changes=selectors.history_of("rack", found.pk, request.user),
        loss_url=asked.links.failure("rack", slug),
        **values,
    )


def away_on(day: date, **where: Any) -> dict[int, Maintenance]:
    """Return what keeps hosts from serving on a day, by the host's id."""
    found = Maintenance.objects.filter(stays(day, "ends_on"), starts_on__lte=day, **where)
    return {one.host_id: one for one in found.order_by("starts_on", "slug")}


def state_on(host: Host, day: date, away: dict[int, Maintenance]) -> tuple[str, str]:
    """Return the state of a host on a day, a key of elevations.STATE_WORDS, and the note beside it."""
    if host.in_service_on and host.in_service_on > day:
        return "planned", f"{host.in_service_on}"
    if host.pk in away:
        ends_on = away[host.pk].ends_on
        return "in maintenance", f"until {ends_on}" if ends_on else "end not known"
    return ("leaving", f"{host.out_of_service_on}") if host.out_of_service_on else ("in service", "")


def _standing(host: Host, state: str, note: str, links: Links) -> Standing:
    """Return how a host is drawn."""
    return Standing(
        label=host.slug,
        title=f"{host.slug}, {host.host_type.name}",
        position_u=host.position_u or 0,
        height_u=host.host_type.height_u,
        is_homegrown=chip_get(host.host_type.chip).homegrown,
        url=links.host(host.slug),
        face=host.face,
        full_depth=host.host_type.full_depth,
        state=state,
        note=note,
    )


# --- timeline ---------------------------------------------------------------------------------------------------------
@login_required
@require_safe
def timeline(request: HttpRequest) -> HttpResponse:
    """What comes and goes, when?"""
    asked = asked_of(request)
    sites = {site.slug: site for site in rows_seen(Site.objects.order_by("slug"), request.user)}
    form = WindowForm(request.GET.dict(), day=asked.day, sites=[(slug, site.name) for slug, site in sites.items()])
    crumbs = [Crumb("Fleet", asked.links.fleet())]
    if not form.is_valid():
        return render_on(request, "timeline", asked, crumbs, window=form, status=400)
    first, last = form.cleaned_data["from"], month_add(form.cleaned_data["to"], 1) - timedelta(days=1)
    place = sites.get(form.cleaned_data["site"])
    lanes = lanes_of(request.user, first, last, asked.links, place)
    is_today = asked.day == timezone.now().date()
    return render_on(
        request,
        "timeline",
        asked,
        crumbs,
        kept={name: request.GET[name] for name in ("from", "to", "site") if request.GET.get(name)},
        window=form,
        place=place,
        timeline=timeline_draw(
            lanes,
            first,
            last,
            asked.day,
            day_word="today" if is_today else "day shown",
            title=f"What comes and goes at {place.name if place else 'every site'}",
        ),
    )
