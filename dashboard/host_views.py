"""Pages of a host and of a card: what they are made of, what runs there, what they hang on, where they come from."""

from dataclasses import dataclass
from operator import attrgetter
from typing import Any

from django.contrib.auth.decorators import login_required
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404
from django.views.decorators.http import require_safe

from accelerator import chip_get
from dashboard import selectors, supplies
from dashboard.fleet_views import PLACE, Asked, asked_of, away_on, render_on, site_day, state_on, way_to
from dashboard.links import Crumb, Links, row_url
from dashboard.presenters import UNKNOWN
from fleet.access import ELSEWHERE, is_shown, name_shown, rows_seen
from fleet.models import Card, FirmwareBaseline, Host, Placement, Rack, ScaleUpDomain
from fleet.selectors import in_service, stays


@login_required
@require_safe
def host(request: HttpRequest, slug: str) -> HttpResponse:
    """What is a host made of, what runs on it, and what does it hang on?"""
    rows = Host.objects.select_related("host_type", f"rack__{PLACE}", "scale_up_domain__site")
    found, asked = get_object_or_404(rows_seen(rows, request.user), slug=slug), asked_of(request)
    place = found.rack.row.hall.site
    day = site_day(asked, place.slug)
    at = day.rack_at.get(found.rack.slug)
    baseline = selectors.baseline_of(found.host_type.chip, place.region_id, asked.day)
    cards = (
        Card.objects.filter(stays(asked.day), host=found).select_related("lot", "firmware").order_by("slot", "serial")
    )
    placements = Placement.objects.filter(in_service(asked.day), host=found).select_related(
        "deployment__endpoint__service", "deployment__endpoint__site"
    )
    state, note = state_on(found, asked.day, away_on(asked.day, host=found))
    domain = found.scale_up_domain
    is_domain_seen = domain is not None and is_shown(domain, request.user)
    values: dict[str, Any] = {}
    if at is not None:
        values = {
            "places": supplies.places_of(day, at, _names_around(asked.links, found.rack)),
            "own": [
                supplies.place_row(day, *named)
                for named in _names_of(asked.links, found, domain if is_domain_seen else None)
            ],
            "chains": [(name, supplies.chain_of(day, name, at)) for name in ("power", "cooling", "network")],
        }
    return render_on(
        request,
        "host",
        asked,
        [*way_to(asked.links, found.rack), Crumb(found.rack.slug, asked.links.rack(found.rack.slug))],
        host=found,
        is_homegrown=chip_get(found.host_type.chip).homegrown,
        is_gone=bool(found.out_of_service_on and found.out_of_service_on <= asked.day),
        state=state,
        state_note=note,
        row_page=row_url("hosts", found.pk),
        domain=name_shown(domain, request.user) if domain else "",
        domain_page=row_url("scale-up-domains", domain.pk) if domain and is_domain_seen else "",
        type_page=row_url("host-types", found.host_type_id),
        baseline=baseline,
        baseline_page=row_url("firmware-baselines", baseline.pk) if baseline else "",
        cards=[_card_line(card, asked, baseline) for card in cards],
        maintenance=found.maintenance.order_by("-starts_on", "slug"),
        placements=sorted((_placed(one, request.user) for one in placements), key=attrgetter("deployment")),
        changes=selectors.history_of("host", found.pk, request.user),
        loss_url=asked.links.failure("host", slug),
        **values,
    )


@dataclass(frozen=True, slots=True)
class Placed:
    """A placement, and what it is of: a deployment or a service elsewhere has no name."""

    placement: Placement
    deployment: str
    url: str
    service: str
    tier: str
    config: str
    tok_s: float


def _placed(placement: Placement, user: Any) -> Placed:
    deployment = placement.deployment
    service, is_seen = deployment.endpoint.service, is_shown(deployment, user)
    is_named = is_seen and is_shown(service, user)
    return Placed(
        placement=placement,
        deployment=name_shown(deployment, user),
        url=row_url("deployments", deployment.pk) if is_seen else "",
        service=service.name if is_named else ELSEWHERE,
        tier=service.get_tier_display() if is_named else UNKNOWN,
        config=deployment.config if is_seen else UNKNOWN,
        tok_s=placement.replicas * deployment.replica_tok_s,
    )


def _names_around(links: Links, rack: Rack) -> list[tuple[str, str, str, str]]:
    """Return the places around a rack: kind, key, name and page of each."""
    hall, row = rack.row.hall, rack.row
    keys = hall.site.slug, f"{hall.site.slug}/{hall.slug}", f"{hall.site.slug}/{hall.slug}/{row.slug}"
    return [
        ("site", keys[0], hall.site.name, links.site(keys[0])),
        ("hall", keys[1], hall.name, links.hall(hall.site.slug, hall.slug)),
        ("row", keys[2], f"Row {row.slug}", links.row(keys[2])),
        ("rack", rack.slug, rack.slug, links.rack(rack.slug)),
    ]


def _names_of(links: Links, host: Host, domain: ScaleUpDomain | None) -> list[tuple[str, str, str]]:
    """Return the scale-up domain of a host, if it is seen, and the host itself: kind, key and page."""
    named = [("scale-up-domain", domain.slug, row_url("scale-up-domains", domain.pk))] if domain else []
    return [*named, ("host", host.slug, links.host(host.slug))]


@dataclass(frozen=True, slots=True)
class CardLine:
    """A card with its pages, and what is wrong with its firmware, if anything."""

    card: Card
    url: str
    lot_url: str
    firmware_note: str
    is_planned: bool


def _card_line(card: Card, asked: Asked, baseline: FirmwareBaseline | None) -> CardLine:
    return CardLine(
        card=card,
        url=asked.links.card(card.serial),
        lot_url=row_url("lots", card.lot_id) if card.lot_id else "",
        firmware_note=_firmware_note(card, baseline),
        is_planned=bool(card.in_service_on and card.in_service_on > asked.day),
    )


def _firmware_note(card: Card, baseline: FirmwareBaseline | None) -> str:
    """Return what is wrong with a card's firmware, or an empty text."""
    if baseline is None or (card.firmware and card.firmware.rank >= baseline.firmware.rank):
        return ""
    below = f"below {baseline.firmware.slug}" if card.firmware else f"not recorded; {baseline.firmware.slug} is needed"
    return f"{below} since {baseline.starts_on}"


@login_required
@require_safe
def card(request: HttpRequest, serial: str) -> HttpResponse:
    """Where does a card come from, what runs on it, and can it prove it?"""
    rows = Card.objects.select_related("lot", "firmware", "host__host_type", f"host__rack__{PLACE}")
    found, asked = get_object_or_404(rows_seen(rows, request.user), serial=serial), asked_of(request)
    rack = found.host.rack
    chip = found.lot.chip if found.lot else found.host.host_type.chip
    baseline = selectors.baseline_of(chip, rack.row.hall.site.region_id, asked.day)
    way = [*way_to(asked.links, rack), Crumb(rack.slug, asked.links.rack(rack.slug))]
    return render_on(
        request,
        "card",
        asked,
        [*way, Crumb(found.host.slug, asked.links.host(found.host.slug))],
        card=found,
        chip=chip,
        line=_card_line(found, asked, baseline),
        is_gone=bool(found.out_of_service_on and found.out_of_service_on <= asked.day),
        baseline=baseline,
        baseline_page=row_url("firmware-baselines", baseline.pk) if baseline else "",
        firmware_page=row_url("firmware-sets", found.firmware_id) if found.firmware_id else "",
        row_page=row_url("cards", found.pk),
        changes=selectors.history_of("card", found.pk, request.user),
    )
