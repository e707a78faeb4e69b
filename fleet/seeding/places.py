"""Halls and their rows, filled pod after pod until the cards are used up."""

import math
from collections.abc import Mapping
from typing import Any

from fleet.models import CoolingNode, Hall, Row, ScaleUpDomain
from fleet.seeding.network import leaves_make
from fleet.seeding.racks import Pod, rack_hosts, rack_make, rack_most
from fleet.seeding.world import PLAN_MONTHS, HallPlace, RowPlace, SitePlace, World

WAVES = range(2, 22, 3)  # months in which GPU hosts leave
COLUMN_EACH = 8  # every so many places of a row there is a column of the building instead of a rack
RACKS_LEAST = 6


def hall_make(world: World, site: SitePlace, shape: Mapping[str, Any], end: int) -> None:
    """Write a hall with rows until the fleet has so many cards, or the hall is full."""
    number, wanted = len(site.halls) + 1, end - world.cards
    opened_on = max(site.opened_on, world.day(shape["opened"] - world.between(-4, 4)))
    slug, supernode = f"h{number:02d}", shape.get("domain") == "supernode"
    pk = world.rows.add(
        Hall, site_id=site.id, slug=slug, name=f"Hall {number}", cooling=shape["cooling"], in_service_on=opened_on
    )
    hall = HallPlace(pk, f"{site.slug}-{slug}", site, shape, opened_on)
    site.halls.append(hall)
    racks = world.between(*shape["racks"])
    if not supernode:  # a hall for few cards is a small one
        kinds = (world.kinds[kind] for kind in shape["hosts"])
        largest = max(rack_most(kind, shape) * kind.chips for kind in kinds)
        racks = max(RACKS_LEAST, min(racks, math.ceil(1.2 * wanted / largest)))
    for at in range(world.between(*shape["rows"])):
        if world.cards >= end:
            break
        make = supernode_make if supernode else row_make
        make(world, row_begin(world, hall, at), racks)
        world.rows.flush_many()


def row_begin(world: World, hall: HallPlace, at: int) -> RowPlace:
    """Write a row; two share an aisle, with what cools it and the switches in it."""
    slug = chr(ord("a") + at)
    pk = world.rows.add(Row, hall_id=hall.id, slug=slug, position=at, in_service_on=hall.opened_on)
    if at % 2:
        zone, leaves = hall.rows[-1].zone, hall.rows[-1].leaves
    else:
        aisle = at // 2 + 1
        zone = world.rows.add(
            CoolingNode,
            site_id=hall.site.id,
            kind="cdu",
            slug=f"{hall.slug}-z{aisle}",
            name=f"Aisle {aisle}",
            in_service_on=hall.opened_on,
        )
        leaves = leaves_make(world, hall, aisle)
    row = RowPlace(pk, f"{hall.slug}-{slug}", hall, zone, leaves)
    hall.rows.append(row)
    return row


def positions(racks: int) -> list[int]:
    """Return the places of a row's racks on the floor, counted in cabinets, without those of columns."""
    return [at for at in range(1, 2 * racks + 2) if at % COLUMN_EACH][:racks]


def pod_draw(world: World, hall: HallPlace) -> Pod:
    """Draw what the racks of a pod have in common: a kind of hosts, when those came, come and go, and who follows."""
    kind = world.kinds[world.dealt(hall.shape["slug"], hall.shape["hosts"])]
    first, last = kind.bought
    bought_on = max(hall.opened_on, world.day(first + (last - first) * world.rng.random()))
    return Pod(
        kind=kind,
        first=min(bought_on, world.start),
        later=world.day(world.between(1, PLAN_MONTHS)),
        gone=world.day(world.rng.choice(WAVES)),
        successor=world.kinds[world.drawn(world.plan["successors"])],
    )


def row_make(world: World, row: RowPlace, racks: int) -> None:
    """Fill a row in two pods; each rack has a state of its own."""
    for at, position in enumerate(positions(racks)):
        if at % math.ceil(racks / 2) == 0:
            pod = pod_draw(world, row.hall)
            side = "homegrown" if pod.kind.chip.homegrown else "gpu"
        state = world.dealt(side, world.plan["racks"][side]) if world.cards < world.cards_most else "empty"
        stays = list(rack_hosts(world, pod, state, row.hall.shape))
        domain = None
        if row.hall.shape.get("domain") == "rack" and stays:
            domain = domain_make(world, row, f"{row.slug}{position:02d}", pod, len(stays), planned=state == "planned")
        rack_make(world, row, position, pod.later if state == "planned" else None, stays, domain)


def supernode_make(world: World, row: RowPlace, racks: int) -> None:
    """Fill a row with one scale-up domain: racks of hosts at both ends, racks of its switches in the middle."""
    pod, shape = pod_draw(world, row.hall), row.hall.shape
    planned = world.dealt("supernode", world.plan["racks"]["supernode"]) == "planned"
    switches = range(racks * 3 // 8, racks * 5 // 8)
    hosts = rack_most(pod.kind, shape) * (racks - len(switches))
    if not planned:
        hosts = min(hosts, math.ceil((world.cards_most - world.cards) / pod.kind.chips))
    domain = domain_make(world, row, row.slug, pod, hosts, planned=planned)
    for at, position in enumerate(positions(racks)):
        state = "empty" if at in switches else "planned" if planned else "full"
        stays = list(rack_hosts(world, pod, state, shape))
        rack_make(world, row, position, pod.later if planned else None, stays, domain)


def domain_make(world: World, row: RowPlace, place: str, pod: Pod, hosts: int, *, planned: bool) -> int:
    """Write the scale-up domain of some hosts."""
    return world.rows.add(
        ScaleUpDomain,
        slug=f"{place}-domain",
        site_id=row.hall.site.id,
        chips=hosts * pod.kind.chips,
        link_byte_s=pod.kind.chip.scale_up_byte_s.value,
        in_service_on=pod.later if planned else pod.first,
    )
