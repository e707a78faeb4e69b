"""Pages of the fleet in its places: site, hall, rack, power tree. Each shows one day, named in its address."""

from datetime import date
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, render
from django.utils import timezone
from django.views.decorators.http import require_safe

from accelerator import chip_get
from dashboard import places, presenters, selectors
from dashboard.elevations import Standing, elevation_draw
from dashboard.forms import DayForm
from dashboard.power_drawings import power_tree_draw
from fleet.access import rows_seen
from fleet.loads import loads_on
from fleet.models import Hall, Host, Maintenance, Rack, Site
from fleet.selectors import snapshot_cached, stays


def _day(request: HttpRequest) -> tuple[DayForm, date, int]:
    """Return the form, the day to show and the HTTP status: a day that cannot be read shows today, and says so."""
    form = DayForm(request.GET)
    if form.is_valid():
        return form, form.cleaned_data["day"], 200
    return form, timezone.now().date(), 400


def _site(request: HttpRequest, slug: str) -> Site:
    return get_object_or_404(rows_seen(Site.objects.select_related("region"), request.user), slug=slug)


@login_required
@require_safe
def fleet(request: HttpRequest) -> HttpResponse:
    """What stands where on a day, what it draws, and what is on its way?"""
    form, day, status = _day(request)
    context = {
        "form": form,
        "day": day,
        "regions": selectors.fleet_tree(day, request.user),
        "deliveries": [presenters.delivery_row(one) for one in selectors.deliveries_due(day, user=request.user)],
    }
    return render(request, "dashboard/fleet.html", context, status=status)


@login_required
@require_safe
def site(request: HttpRequest, slug: str) -> HttpResponse:
    """Which rows of a site are fullest, and of what?"""
    found = _site(request, slug)
    form, day, status = _day(request)
    snapshot = snapshot_cached(day, found.slug)
    context = {
        "form": form,
        "day": day,
        "site": found,
        "tree": selectors.site_tree(found, day),
        "rows": places.rows_by_fullness(snapshot, loads_on(snapshot, day), day),
        "deliveries": [presenters.delivery_row(one) for one in selectors.deliveries_due(day, found)],
    }
    return render(request, "dashboard/site.html", context, status=status)


@login_required
@require_safe
def hall(request: HttpRequest, slug: str, hall_slug: str) -> HttpResponse:
    """Where on the floor is it full, and of what?"""
    place = _site(request, slug)
    found = get_object_or_404(Hall, site=place, slug=hall_slug)
    form, day, status = _day(request)
    metric = request.GET.get("metric") or places.HIGHEST
    if metric not in places.METRICS:
        metric, status = places.HIGHEST, 400
    snapshot = snapshot_cached(day, place.slug)
    loads = loads_on(snapshot, day)
    context = {
        "form": form,
        "day": day,
        "site": place,
        "hall": found,
        "metric": metric,
        "plan": places.floorplan_of(found, snapshot, loads, day, metric),
        "rows": places.rows_by_fullness(snapshot, loads, day, hall=f"{place.slug}/{found.slug}"),
    }
    return render(request, "dashboard/hall.html", context, status=status)


@login_required
@require_safe
def rack(request: HttpRequest, slug: str) -> HttpResponse:
    """What stands in a rack, where, and what do its feeds bear if one of them is lost?"""
    found = get_object_or_404(
        rows_seen(Rack.objects.select_related("row__hall__site__region"), request.user), slug=slug
    )
    form, day, status = _day(request)
    hosts = list(Host.objects.filter(stays(day), rack=found).select_related("host_type").order_by("slug"))
    hosts.sort(key=lambda host: -(host.position_u or 0))
    here = [host for host in hosts if host.in_service_on is None or host.in_service_on <= day]
    away = set(
        Maintenance.objects.filter(stays(day, "ends_on"), host__rack=found, starts_on__lte=day).values_list(
            "host_id", flat=True
        )
    )
    standing = [_standing(host, day, is_away=host.pk in away) for host in hosts if host.position_u]
    snapshot = snapshot_cached(day, found.row.hall.site.slug)
    context: dict[str, Any] = {
        "form": form,
        "day": day,
        "rack": found,
        "hosts": here,
        "planned": [host for host in hosts if host not in here],
        "power": presenters.meter_of(sum(host.host_type.power_w for host in here), found.power_limit_w, "W"),
        "height": presenters.meter_of(sum(host.host_type.height_u for host in here), found.height_u, "U"),
        "elevation": elevation_draw(found.height_u, standing, name=found.slug) if standing else None,
        "unplaced": len(hosts) - len(standing),
        **places.rack_facts(found, snapshot, day),
    }
    return render(request, "dashboard/rack.html", context, status=status)


@login_required
@require_safe
def power(request: HttpRequest, slug: str) -> HttpResponse:
    """What does every node of a site's power tree bear, now and after the worst single failure?"""
    found = _site(request, slug)
    form, day, status = _day(request)
    snapshot = snapshot_cached(day, found.slug)
    nodes = places.power_nodes(snapshot, loads_on(snapshot, day), day)
    context = {
        "form": form,
        "day": day,
        "site": found,
        "rows": power_tree_draw(nodes),
        "caption": f"Power tree of {found.name} on {day}",
        "dark": places.racks_on_one_feed(snapshot, day),
    }
    return render(request, "dashboard/power.html", context, status=status)


def _standing(host: Host, day: date, *, is_away: bool) -> Standing:
    """Return how a host is drawn."""
    state, note = "in service", ""
    if host.in_service_on and host.in_service_on > day:
        state, note = "planned", f"{host.in_service_on}"
    elif is_away:
        state = "in maintenance"
    elif host.out_of_service_on:
        state, note = "leaving", f"{host.out_of_service_on}"
    return Standing(
        label=host.slug,
        title=f"{host.slug}, {host.host_type.name}",
        position_u=host.position_u or 0,
        height_u=host.host_type.height_u,
        is_homegrown=chip_get(host.host_type.chip).homegrown,
        url=places.row_url("hosts", host.pk),
        face=host.face,
        full_depth=host.host_type.full_depth,
        state=state,
        note=note,
    )
