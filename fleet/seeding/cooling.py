"""Chiller plants, loops, and the units of each aisle: sized for the heat of what ever stands there."""

import math
from collections.abc import Sequence
from datetime import date

from fleet.models import CoolingLink, CoolingNode
from fleet.seeding.world import WEAK_EACH, RowPlace, SitePlace, World

AIR_UNIT_W = (60e3, 120e3, 200e3, 300e3)
CDU_W = (400e3, 750e3, 1.3e6)
PLANT_W = (0.5e6, 1.5e6, 3.5e6, 7e6)
LOOP_STEP_W = 100e3
SPARE = 1.05  # above what is needed


def cooling_make(world: World, site: SitePlace) -> None:
    """Write the cooling tree of a site: plants N+1, two loops to each hall, air handlers or CDUs N+1 in each aisle."""
    size_w, needed = units_for(sum(row.heat_w for hall in site.halls for row in hall.rows), PLANT_W)
    plants = [
        cooler_add(world, site, "plant", f"{site.slug}-plant-{at}", size_w, site.opened_on, name=f"Plant {at}")
        for at in range(1, needed + 2)
    ]
    for hall in site.halls:
        limit_w = LOOP_STEP_W * math.ceil(SPARE * max(1.0, sum(row.heat_w for row in hall.rows)) / LOOP_STEP_W)
        loops = [cooler_add(world, site, "loop", f"{hall.slug}-loop-{side}", limit_w, hall.opened_on) for side in "ab"]
        for loop in loops:
            for plant in plants:
                world.rows.add(CoolingLink, node_id=loop, source_id=plant)
        for at in range(0, len(hall.rows), 2):
            aisle_make(world, at // 2 + 1, hall.rows[at : at + 2], loops)


def aisle_make(world: World, aisle: int, rows: Sequence[RowPlace], loops: Sequence[int]) -> None:
    """Write what cools an aisle: one unit more than needed, each on one of the loops; now and then none more."""
    hall = rows[0].hall
    sizes = CDU_W if hall.shape["cooling"] == "liquid" else AIR_UNIT_W
    size_w, needed = units_for(sum(row.heat_w for row in rows), sizes)
    for at in range(needed + (world.rng.random() > 1 / WEAK_EACH)):
        slug = f"{hall.slug}-z{aisle}-c{at + 1}"
        unit = cooler_add(world, hall.site, "cdu", slug, size_w, hall.opened_on)
        world.rows.add(CoolingLink, node_id=unit, source_id=loops[at % 2])
        world.rows.add(CoolingLink, node_id=unit, source_id=loops[1 - at % 2], standby=True)
        world.rows.add(CoolingLink, node_id=rows[0].zone, source_id=unit)


def cooler_add(world: World, site: SitePlace, kind: str, slug: str, limit_w: float, first: date, name: str = "") -> int:
    """Write a node of the cooling tree."""
    values = {"limit_w": float(limit_w), "in_service_on": first, "name": name}
    return world.rows.add(CoolingNode, site_id=site.id, kind=kind, slug=slug, **values)


def units_for(heat_w: float, sizes_w: Sequence[float]) -> tuple[float, int]:
    """Return the size of units, so that about four are enough where there is one, and how many are needed."""
    size_w = next((size for size in sizes_w if 4 * size >= heat_w), sizes_w[-1])
    return size_w, max(1, math.ceil(SPARE * heat_w / size_w))
