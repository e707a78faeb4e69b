"""Racks, their hosts, and the cards in those, with where each comes from and what is known of its state."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from fleet.models import Card, Host, Lot, Maintenance, Rack
from fleet.seeding.network import switches_make
from fleet.seeding.power import FEED_V, PDU_DERATE
from fleet.seeding.world import MAINTAINED_EACH, Batch, Kind, RackNeed, RowPlace, Standing, World

UNITS_KEPT = 2  # at the top of a rack, for its switches
FIRMWARE_SHARES = (0.12, 0.58, 0.3)  # of hosts on each release, the oldest first


@dataclass(frozen=True, slots=True)
class Pod:
    """Racks side by side: the kind of their hosts, when those came, when planned ones come, when leaving ones go."""

    kind: Kind
    first: date
    later: date
    gone: date
    successor: Kind


@dataclass(frozen=True, slots=True)
class Stay:
    """One host of a rack: its kind, its lowest unit, its days, and whether it is more than a plan."""

    kind: Kind
    position_u: int
    first: date
    last: date | None
    installed: bool

    def stands(self, day: date) -> bool:
        """Return whether it is there on a day."""
        return self.first <= day and (self.last is None or day < self.last)


def rack_most(kind: Kind, shape: Mapping[str, Any]) -> int:
    """Return how many hosts of a kind a rack takes: units, watts, one feed, ports, weight."""
    feed_va = math.sqrt(3) * FEED_V * shape["feed_a"] * PDU_DERATE
    return min(
        (shape["height_u"] - UNITS_KEPT) // kind.height_u,
        int(shape["rack_kw"] * 1000 / kind.power_w),
        int(feed_va / kind.apparent_va),
        shape["ports"] // kind.ports,
        int(shape["weight_kg"] / kind.weight_kg),
    )


def rack_hosts(world: World, pod: Pod, state: str, shape: Mapping[str, Any]) -> Iterator[Stay]:
    """Yield the hosts of a rack: what stands while cards are left, what is planned, who follows those that leave."""
    kind, most = pod.kind, rack_most(pod.kind, shape)
    standing = {
        "full": most,
        "leaving": most,
        "gone": most,
        "short": world.between(1, max(1, most - 1)),
        "partly": most // 2,
    }
    here = min(standing.get(state, 0), math.ceil((world.cards_most - world.cards) / kind.chips))
    last = {"leaving": pod.gone, "gone": world.start - timedelta(days=world.between(10, 60))}.get(state)
    for at in range(here):
        yield Stay(kind, 1 + at * kind.height_u, pod.first, last, installed=True)
    if state in {"partly", "planned"}:
        for at in range(here, most):
            yield Stay(kind, 1 + at * kind.height_u, pod.later, None, installed=False)
    if state == "leaving" and world.rng.random() < 2 / 3:
        again, new = pod.gone + timedelta(days=world.between(20, 60)), pod.successor
        for at in range(rack_most(new, shape)):
            yield Stay(new, 1 + at * new.height_u, again, None, installed=False)


def rack_make(
    world: World, row: RowPlace, position: int, later: date | None, stays: Sequence[Stay], domain: int | None
) -> None:
    """Write a rack, its switches and its hosts, and note what its supplies must bear; `later` is when it is planned."""
    shape, slug = row.hall.shape, f"{row.slug}{position:02d}"
    first = row.hall.opened_on if later is None else later - timedelta(days=14)
    limit_w = shape["rack_kw"] * 1000.0
    rack = world.rows.add(
        Rack,
        row_id=row.id,
        slug=slug,
        position=position,
        height_u=shape["height_u"],
        power_limit_w=limit_w,
        cooling_limit_w=limit_w * 1.05,
        cooling_node_id=row.zone,
        weight_limit_kg=float(shape["weight_kg"]),
        ports=shape["ports"],
        planned_on=None if later is None else world.start - timedelta(days=world.between(100, 200)),
        in_service_on=first,
    )
    switches_make(world, row, rack, slug, first)
    for number, stay in enumerate(stays, 1):
        host_make(world, row, rack, f"{slug}-{number:02d}", stay, domain)
    days = {stay.first for stay in stays} | {world.start}
    there = [[stay.kind for stay in stays if stay.stands(day)] for day in sorted(days)]
    row.racks.append(
        RackNeed(
            id=rack,
            slug=slug,
            first=first,
            feed_a=shape["feed_a"],
            va=max(sum(kind.apparent_va for kind in kinds) for kinds in there),
            va_now=sum(stay.kind.apparent_va for stay in stays if stay.stands(world.start)),
            heat_w=max(sum(kind.power_w for kind in kinds) for kinds in there),
        )
    )


def host_make(world: World, row: RowPlace, rack: int, slug: str, stay: Stay, domain: int | None) -> None:
    """Write a host, and its cards where it is more than a plan."""
    kind, site = stay.kind, row.hall.site
    pk = world.rows.add(
        Host,
        slug=slug,
        host_type_id=kind.id,
        rack_id=rack,
        position_u=stay.position_u,
        scale_up_domain_id=domain,
        planned_on=None if stay.installed else world.start - timedelta(days=world.between(20, 90)),
        in_service_on=stay.first,
        out_of_service_on=stay.last,
    )
    if not stay.installed:
        return
    cards = min(kind.chips, world.cards_most - world.cards)
    cards_make(world, pk, cards, stay)
    if stay.stands(world.start):
        site.standing[kind.slug].append(Standing(pk, cards == kind.chips, stay.first, stay.last))
        if stay.last is not None:
            site.leaving[kind.slug, stay.last] += 1
        if next(world.hosts) % MAINTAINED_EACH == 0:
            maintenance_make(world, pk)


def cards_make(world: World, host: int, cards: int, stay: Stay) -> None:
    """Write the cards of a host: of one lot, on one firmware, each asked for its attestation by itself."""
    chip, rng, start = stay.kind.chip.slug, world.rng, world.start
    lot = lot_take(world, chip, stay.first, cards)
    firmware = rng.choices(stay.kind.firmware, FIRMWARE_SHARES)[0]
    passed, failed, expired = world.plan["chips"][chip]["attested"]
    failed, expired = passed + failed, passed + failed + expired
    recent = max(start - timedelta(days=world.between(0, 80)), min(stay.first, start))
    old = max(start - timedelta(days=world.between(100, 300)), min(stay.first, start))
    add, serial, number = world.rows.add, f"{world.prefix}{chip}-", world.cards
    for slot in range(cards):
        number += 1
        draw = rng.random()
        if draw < passed:
            attestation, attested_on = "passed", recent
        elif draw < failed:
            attestation, attested_on = "failed", recent
        elif draw < expired:
            attestation, attested_on = "expired", old
        else:
            attestation, attested_on = "unknown", None
        add(
            Card,
            serial=f"{serial}{number:08d}",
            host_id=host,
            slot=slot,
            lot_id=lot,
            firmware_id=firmware,
            attestation=attestation,
            attested_on=attested_on,
            in_service_on=stay.first,
            out_of_service_on=stay.last,
        )
    world.cards = number


def lot_take(world: World, chip: str, day: date, cards: int) -> int:
    """Return the lot from which the cards of a host are taken: lots are of one chip and one quarter, and end."""
    quarter = day.year * 4 + (day.month - 1) // 3
    lot = world.lots.get((chip, quarter))
    if lot is None or lot.left < cards:
        facts = world.plan["chips"][chip]
        pk = world.rows.add(
            Lot,
            slug=f"{world.prefix}lot-{next(world.lot_numbers):05d}",
            chip=chip,
            foundry=facts["foundry"],
            hbm_maker=world.rng.choice(facts["hbm"]),
            channel=world.rng.choice(facts["channels"]),
            note=f"bought in quarter {quarter % 4 + 1} of {quarter // 4}",
        )
        lot = world.lots[chip, quarter] = Batch(pk, world.between(1500, 5000))
    lot.left -= cards
    return lot.id


def maintenance_make(world: World, host: int) -> None:
    """Write that a host serves nothing for some days around the start."""
    kind = world.drawn({"repair": 6, "drain": 3, "quarantine": 1})
    starts_on = world.start + timedelta(days=world.between(-20, 30))
    lasts = None if kind == "quarantine" else timedelta(days=world.between(1, 21))
    world.rows.add(
        Maintenance,
        slug=f"{world.prefix}m-{next(world.maintenance_numbers):06d}",
        host_id=host,
        kind=kind,
        starts_on=starts_on,
        ends_on=None if lasts is None else starts_on + lasts,
        note={"repair": "a card fell off the bus", "drain": "firmware", "quarantine": "attestation failed"}[kind],
    )
