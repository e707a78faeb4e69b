"""Cores, spines, leaves and the switches on top of racks."""

from datetime import date

from fleet.models import NetworkLink, NetworkNode
from fleet.seeding.world import HallPlace, RowPlace, SitePlace, World

TOR_PORTS_MOST = 64


def spines_make(world: World, site: SitePlace, cards: int) -> None:
    """Write a site's cores and spines; a larger site has more spines."""
    values = {"site_id": site.id, "in_service_on": site.opened_on}
    cores = [
        world.rows.add(NetworkNode, kind="core", slug=f"{site.slug}-core-{at}", name=f"Core {at}", **values)
        for at in (1, 2)
    ]
    for at in range(1, 3 if cards < 5000 else 5 if cards < 30_000 else 9):
        spine = world.rows.add(NetworkNode, kind="spine", slug=f"{site.slug}-spine-{at}", name=f"Spine {at}", **values)
        site.spines.append(spine)
        for core in cores:
            world.rows.add(NetworkLink, node_id=spine, source_id=core)


def leaves_make(world: World, hall: HallPlace, aisle: int) -> tuple[int, int]:
    """Write the two leaf switches of an aisle."""
    values = {"kind": "leaf", "site_id": hall.site.id, "in_service_on": hall.opened_on}
    first, second = (
        world.rows.add(NetworkNode, slug=f"{hall.slug}-leaf-{aisle}{side}", name=f"Leaf {aisle}{side}", **values)
        for side in "ab"
    )
    for leaf in (first, second):
        for spine in hall.site.spines:
            world.rows.add(NetworkLink, node_id=leaf, source_id=spine)
    return first, second


def switches_make(world: World, row: RowPlace, rack: int, slug: str, first: date) -> None:
    """Write the switches on top of a rack: one, or two where one has too few ports. Each reaches both leaves."""
    ports = row.hall.shape["ports"]
    switches = 1 if ports <= TOR_PORTS_MOST else 2
    for at in range(1, switches + 1):
        tor = world.rows.add(
            NetworkNode,
            kind="tor",
            slug=f"{slug}-t{at}",
            site_id=row.hall.site.id,
            rack_id=rack,
            ports=ports // switches,
            in_service_on=first,
        )
        for leaf in row.leaves:
            world.rows.add(NetworkLink, node_id=tor, source_id=leaf)
