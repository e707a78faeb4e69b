"""What comes and goes, with its days: orders, deliveries, retirements, policy events, firmware baselines."""

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from datetime import date, timedelta

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Q

from fleet.access import rows_seen
from fleet.models import Delivery, FirmwareBaseline, Order, PolicyEvent, Retirement, Site
from fleet.models.versioned import DAY_LAST
from fleet.slips import slip_band

ORDER, DELIVERY, RETIREMENT, POLICY, FIRMWARE = "order", "delivery", "retirement", "policy", "firmware"
HAPPENINGS = (ORDER, DELIVERY, RETIREMENT, POLICY, FIRMWARE)
Account = AbstractBaseUser | AnonymousUser | None


@dataclass(frozen=True, slots=True)
class Happening:
    """One dated event: a row of the list `name`, in words and by what it is about; empty texts: nothing of the kind.

    `day` is the one written down, `until` the last one if it lasts; `slip` are P10, P50 and P90 of the day on which
    something promised will come, None where it will come as promised, has come, or will not come.
    """

    kind: str
    name: str
    pk: int
    slug: str
    label: str
    note: str
    day: date
    until: date | None = None
    slip: tuple[date, date, date] | None = None
    region: str = ""
    site: str = ""
    host_type: str = ""
    chip: str = ""
    quantity: int | None = None

    @property
    def first(self) -> date:
        """Return the first day that it may touch."""
        return min([self.day, *(self.slip or ())])

    @property
    def last(self) -> date:
        """Return the last day that it may touch."""
        return max([self.day, *([self.until] if self.until else []), *(self.slip or ())])


def happenings_seen(user: Account, first: date, last: date, site: Site | None = None) -> list[Happening]:
    """Return what an account sees of a window, at one site or at all of them, in time; five queries."""
    found = [
        one
        for happenings in (_orders, _deliveries, _retirements, _policies, _baselines)
        for one in happenings(user, site)
        if one.first <= last and one.last >= first
    ]
    return sorted(found, key=lambda one: (one.day, HAPPENINGS.index(one.kind), one.slug))


def _orders(user: Account, site: Site | None) -> Iterator[Happening]:
    rows = rows_seen(Order.objects.select_related("host_type"), user)
    for order in rows.filter(deliveries__site=site).distinct() if site else rows:
        cancelled = f", cancelled on {order.cancelled_on}" if order.cancelled_on else ""
        yield Happening(
            *(ORDER, "orders", order.pk, order.slug, f"{order.quantity} × {order.host_type.slug}"),
            note=f"{order.slug} from {order.supplier}{cancelled}",
            day=order.ordered_on,
            host_type=order.host_type.slug,
            chip=order.host_type.chip,
            quantity=order.quantity,
        )


def _deliveries(user: Account, site: Site | None) -> Iterator[Happening]:
    rows = rows_seen(Delivery.objects.select_related("host_type", "site__region", "order"), user)
    for delivery in rows.filter(site=site) if site else rows:
        day, note, slip = delivery.expected_on, delivery.slug, None
        if delivery.received_on:
            day, note = delivery.received_on, f"{note}, received; promised {delivery.expected_on}"
        elif delivery.order and delivery.order.cancelled_on:
            note = f"{note}, cancelled on {delivery.order.cancelled_on}"
        else:
            note += f", {delivery.fill_ratio:.0%} expected usable" if delivery.fill_ratio < 1 else ""
            slip = slip_band(delivery, DAY_LAST) if delivery.slip_p90_days else None
        label = f"{delivery.quantity} × {delivery.host_type.slug} to {delivery.site.slug}"
        yield Happening(
            *(DELIVERY, "deliveries", delivery.pk, delivery.slug, label, note, day),
            slip=slip,
            region=delivery.site.region.slug,
            site=delivery.site.slug,
            host_type=delivery.host_type.slug,
            chip=delivery.host_type.chip,
            quantity=delivery.quantity,
        )


def _retirements(user: Account, site: Site | None) -> Iterator[Happening]:
    rows = rows_seen(Retirement.objects.select_related("host_type", "site__region"), user)
    for row in rows.filter(site=site) if site else rows:
        label = f"{row.quantity} × {row.host_type.slug} leave {row.site.slug}"
        note = row.slug + (f", hosts named on {row.done_on}" if row.done_on else ", hosts not named yet")
        yield Happening(
            *(RETIREMENT, "retirements", row.pk, row.slug, label, note, row.retire_on),
            region=row.site.region.slug,
            site=row.site.slug,
            host_type=row.host_type.slug,
            chip=row.host_type.chip,
            quantity=row.quantity,
        )


def _policies(user: Account, site: Site | None) -> Iterator[Happening]:
    rows = rows_seen(PolicyEvent.objects.select_related("region", "site__region"), user)
    if site:
        rows = rows.filter(Q(region__isnull=True, site__isnull=True) | Q(region=site.region_id) | Q(site=site))
    for row in rows:
        place = row.region or row.site
        yield Happening(
            *(POLICY, "policy-events", row.pk, row.slug, f"{row.chip} {row.get_verb_display()}"),
            note=f"{place.name if place else 'everywhere'}; {row.source}",
            day=row.starts_on,
            until=row.ends_on - timedelta(days=1) if row.ends_on else None,
            region=row.region.slug if row.region else row.site.region.slug if row.site else "",
            site=row.site.slug if row.site else "",
            chip=row.chip,
        )


def _baselines(user: Account, site: Site | None) -> Iterable[Happening]:
    rows = rows_seen(FirmwareBaseline.objects.select_related("firmware", "region"), user)
    if site:
        rows = rows.filter(Q(region__isnull=True) | Q(region=site.region_id))
    for row in rows:
        yield Happening(
            *(FIRMWARE, "firmware-baselines", row.pk, row.slug, f"{row.firmware.chip} from {row.firmware.slug}"),
            note=f"{row.region.name if row.region else 'everywhere'}; at least this firmware",
            day=row.starts_on,
            region=row.region.slug if row.region else "",
            chip=row.firmware.chip,
        )
