"""What an event needs of the fleet beside its snapshot: suppliers of orders, biggest clients, firmware of cards."""

from datetime import date

from django.db.models import Q

from fleet.models import Card, Delivery, FirmwareSet, Host
from scenarios.event_reading import EventFacts, names_of
from scenarios.histories import History
from scenarios.models import DemandHistory
from scenarios.planning.params import CLIENT, FIRMWARE, SUPPLIER_STOP, EventParams


def event_facts(params: EventParams, day: date) -> EventFacts:
    """Read what an event needs, as it is now; firmware as of a day."""
    if params.event == SUPPLIER_STOP:
        rows = Delivery.objects.filter(order__isnull=False, received_on__isnull=True)
        return EventFacts(suppliers=dict(rows.values_list("slug", "order__supplier")))
    if params.event == CLIENT and params.client_ratio is None:
        return EventFacts(client_ratio=_clients(names_of(params.subject)))
    if params.event == FIRMWARE and params.firmware:
        return _below(params.firmware, day)
    return EventFacts()


def _clients(services: list[str]) -> dict[str, float]:
    """Return the mean share of the biggest client where a history says it. [-]"""
    found = {}
    for row in DemandHistory.objects.filter(service__slug__in=services).select_related("service"):
        share = History.from_bytes(bytes(row.arrays)).mean_of("top_client_ratio")
        if share is not None:
            found[row.service.slug] = share
    return found


def _below(slug: str, day: date) -> EventFacts:
    """Return the hosts with a card of an earlier release than a firmware set, or of an unknown one."""
    least = FirmwareSet.objects.filter(slug=slug).first()
    if least is None:
        return EventFacts()
    here = Q(out_of_service_on__isnull=True) | Q(out_of_service_on__gt=day)
    hosts = Host.objects.filter(here, host_type__chip=least.chip)
    cards = Card.objects.filter(here, host__host_type__chip=least.chip)
    older = cards.filter(Q(firmware__isnull=True) | Q(firmware__rank__lt=least.rank))
    below = older.order_by("host__slug").values_list("host__slug", flat=True).distinct()
    silent = hosts.exclude(pk__in=cards.values("host")).order_by("slug").values_list("slug", flat=True)
    return EventFacts(below=tuple(below), unrecorded=tuple(silent))
