"""The power tree of a site: utilities and generators, switchboards, UPSes, PDUs and the feeds of racks.

It is sized for what ever stands in its racks, and for the worst single failure; but every hundredth PDU and every
hundredth rack's feeds are too weak for what stands there now.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

from fleet.models import PowerLink, PowerNode
from fleet.seeding.world import WEAK_EACH, HallPlace, RackNeed, RowPlace, SitePlace, World

FEED_V = 415
BREAKERS_A = (16, 20, 25, 32, 40, 50, 63, 80, 100, 125, 160, 200, 250, 315, 400)
BUSWAYS_A = (100, 160, 250, 400, 630, 800, 1000, 1250, 1600, 2000, 2500, 3200, 4000, 5000)
UPS_VA = (100e3, 200e3, 300e3, 400e3, 500e3, 600e3, 800e3, 1000e3, 1200e3, 1600e3, 2000e3, 2500e3, 3200e3, 4000e3)
BOARDS_VA = (250e3, 400e3, 630e3, 800e3, 1000e3, 1250e3, 1600e3, 2000e3, 2500e3, 3150e3, 4000e3, 5000e3, 6300e3)
PDU_DERATE, BOARD_DERATE = 0.8, 0.9
BLOCK_VA, BLOCK_ROWS = 2.2e6, 4  # what one pair of switchboards feeds
LEAST_VA = 10e3
ONE_FEED_EACH = 180  # so many racks, one has a single feed
SITE_DESIGNS = ("2N", "3N/2", "block", "2N")  # of the sites in turn
DESIGNS = {"2N": "2N", "3N/2": "3N/2", "block": "N+1"}  # as a node calls its redundancy


@dataclass(frozen=True, slots=True)
class Group:
    """Rows that share UPSes: how their sides are called, and of each row which sides its PDUs draw on.

    `catcher` is the side that stands by for all the others, if there is one.
    """

    hall: HallPlace
    design: str
    slug: str
    sides: tuple[str, ...]
    rows: tuple[tuple[RowPlace, int, int], ...]
    catcher: int | None = None

    def side_needs_va(self) -> list[float]:
        """Return what each side gives at most, under no failure and under that of any side or PDU. [VA]"""
        failures: list[tuple[int | None, tuple[int, int] | None]] = [(None, None)]
        failures += [(side, None) for side in range(len(self.sides))]
        failures += [(None, (at, which)) for at in range(len(self.rows)) for which in (0, 1)]
        most = [0.0] * len(self.sides)
        for dead_side, dead_pdu in failures:
            given = [0.0] * len(self.sides)
            for at, (row, *pair) in enumerate(self.rows):
                bears = []
                for which, side in enumerate(pair):
                    bearer = self.catcher if side == dead_side else side
                    if (at, which) != dead_pdu and bearer is not None and bearer != dead_side:
                        bears.append(bearer)
                for bearer in bears:
                    given[bearer] += row.va / len(bears)
            most = list(map(max, most, given))
        return most


@dataclass(frozen=True, slots=True)
class Side:
    """One side of a group: what its UPS gives at most, and its switchboard, with the house load on it."""

    name: str
    va: float
    board_va: float
    house_va: float


def sides_of(group: Group, efficiency: float) -> list[Side]:
    """Return the sides of a group; chillers and the like are shared out equally over their switchboards."""
    house_ratio = (group.hall.site.pue_ratio - 1) / len(group.sides)
    house_va = round(sum(row.va for row, *_ in group.rows) * house_ratio, -2)
    needs = [max(need, LEAST_VA) for need in group.side_needs_va()]
    return [
        Side(name, need, need / efficiency + house_va, house_va) for name, need in zip(group.sides, needs, strict=True)
    ]


def groups_of(hall: HallPlace, design: str) -> Iterator[Group]:
    """Yield the groups of a hall's rows for a design: two sides, three sides, or blocks and one that stands by."""
    blocks = list(blocks_of(hall.rows))
    if design == "block" and len(blocks) > 1:
        sides = (*(f"b{at}" for at in range(1, len(blocks) + 1)), "catcher")
        rows = tuple((row, at, (at + 1) % len(blocks)) for at, block in enumerate(blocks) for row in block)
        yield Group(hall, design, hall.slug, sides, rows, catcher=len(blocks))
    elif design == "3N/2" and len(hall.rows) > 1:
        for number, block in enumerate(blocks, 1):
            rows = tuple((row, at % 3, (at + 1) % 3) for at, row in enumerate(block))
            used = max(max(row[1:]) for row in rows) + 1
            yield Group(hall, design, f"{hall.slug}-b{number}", tuple("abc"[:used]), rows)
    else:
        for number, block in enumerate(blocks, 1):
            yield Group(hall, "2N", f"{hall.slug}-b{number}", ("a", "b"), tuple((row, 0, 1) for row in block))


def blocks_of(rows: Sequence[RowPlace]) -> Iterator[list[RowPlace]]:
    """Yield runs of rows that one pair of switchboards can feed."""
    block: list[RowPlace] = []
    for row in rows:
        if block and (len(block) == BLOCK_ROWS or sum(one.va for one in block) + row.va > BLOCK_VA):
            yield block
            block = []
        block.append(row)
    yield block


def power_make(world: World, site: SitePlace) -> None:
    """Write the power tree of a site: utilities, generators, then switchboards, UPSes, PDUs and feeds by group."""
    design = SITE_DESIGNS[(site.number - 1) % len(SITE_DESIGNS)]
    efficiency = round(0.95 + 0.02 * world.rng.random(), 3)
    groups = [group for hall in site.halls for group in groups_of(hall, design)]
    needs = [sides_of(group, efficiency) for group in groups]
    mains = mains_make(world, site, [sum(side.board_va for sides in needs for side in sides[at::2]) for at in (0, 1)])
    for group, sides in zip(groups, needs, strict=True):
        group_make(world, group, sides, efficiency, mains)


def node_add(world: World, site: SitePlace, kind: str, slug: str, **values: Any) -> int:
    """Write a node of the power tree."""
    return world.rows.add(PowerNode, site_id=site.id, kind=kind, slug=slug, **values)


def mains_make(world: World, site: SitePlace, needs_va: Sequence[float]) -> list[tuple[int, int]]:
    """Write two utilities with the generators that stand by for them, each large enough for its switchboards."""
    mains = []
    for number, need in enumerate(needs_va, 1):
        rating = _up(max(need, LEAST_VA) * 1.1 / BOARD_DERATE, 500e3)
        values = {"rating_va": rating, "derate_ratio": BOARD_DERATE, "in_service_on": site.opened_on}
        utility = node_add(world, site, "utility", f"{site.slug}-utility-{number}", name=f"Utility {number}", **values)
        generator = node_add(
            world,
            site,
            "generator",
            f"{site.slug}-generator-{number}",
            name=f"Generators {number}",
            redundancy="N+1",
            **values,
        )
        mains.append((utility, generator))
    return mains


def group_make(
    world: World, group: Group, sides: Sequence[Side], efficiency: float, mains: Sequence[tuple[int, int]]
) -> None:
    """Write the switchboards and UPSes of a group, and the PDUs and feeds of its rows."""
    outputs = []
    for at, side in enumerate(sides):
        spare = 1.05 + 0.2 * world.rng.random()
        board = node_add(
            world,
            group.hall.site,
            "switchboard",
            f"{group.slug}-{side.name}-msb",
            name=f"Switchboard {side.name}",
            rating_va=_standard(BOARDS_VA, side.board_va * spare / BOARD_DERATE),
            derate_ratio=BOARD_DERATE,
            house_va=side.house_va,
            redundancy=DESIGNS[group.design],
            in_service_on=group.hall.opened_on,
        )
        utility, generator = mains[at % 2]
        link_add(world, board, utility)
        link_add(world, board, generator, standby=True)
        outputs.append(ups_make(world, group, side, board, spare, efficiency))
    for row, *pair in group.rows:
        pdus = []
        for letter, drawn_on in zip("ab", pair, strict=True):
            pdu = pdu_make(world, row, letter, DESIGNS[group.design])
            link_add(world, pdu, outputs[drawn_on])
            if group.catcher is not None:
                link_add(world, pdu, outputs[group.catcher], standby=True)
            pdus.append(pdu)
        for rack in row.racks:
            feeds_make(world, row, rack, pdus)


def link_add(world: World, node: int, source: int, *, standby: bool = False) -> None:
    """Write that a power node draws on another one."""
    world.rows.add(PowerLink, node_id=node, source_id=source, standby=standby)


def ups_make(world: World, group: Group, side: Side, board: int, spare: float, efficiency: float) -> int:
    """Write the UPS of a side and return what its PDUs draw on: one UPS, or units N+1 on a board of their own."""
    site, first, slug = group.hall.site, group.hall.opened_on, f"{group.slug}-{side.name}"
    values = {"derate_ratio": BOARD_DERATE, "efficiency_ratio": efficiency, "in_service_on": first}
    need_va = side.va * spare / BOARD_DERATE
    if group.design != "2N":
        ups = node_add(world, site, "ups", f"{slug}-ups", rating_va=_standard(UPS_VA, need_va), **values)
        link_add(world, ups, board)
        return ups
    units = 1 if need_va < 300e3 else 2 if need_va < 1.2e6 else 3
    rating = _standard(UPS_VA, need_va / units)
    bar = {"name": "UPS output", "rating_va": rating * (units + 1), "in_service_on": first}
    output = node_add(world, site, "switchboard", f"{slug}-out", **bar)
    for at in range(1, units + 2):
        ups = node_add(world, site, "ups", f"{slug}-ups-{at}", rating_va=rating, redundancy="N+1", **values)
        link_add(world, ups, board)
        link_add(world, output, ups)
    return output


def pdu_make(world: World, row: RowPlace, letter: str, redundancy: str) -> int:
    """Write a PDU that bears its whole row; every hundredth does not bear even what stands there now."""
    need_a = amps(row.va) * 1.02
    current_a = next((size for size in BUSWAYS_A if size >= need_a), BUSWAYS_A[-1])
    if row.va_now and next(world.pdus) % WEAK_EACH == 0:
        current_a = max((size for size in BUSWAYS_A if size < amps(row.va_now) / 1.02), default=BUSWAYS_A[0])
    return node_add(
        world,
        row.hall.site,
        "pdu",
        f"{row.slug}-p{letter}",
        voltage_v=float(FEED_V),
        current_a=float(current_a),
        derate_ratio=PDU_DERATE,
        efficiency_ratio=0.99,
        redundancy=redundancy,
        in_service_on=row.hall.opened_on,
    )


def feeds_make(world: World, row: RowPlace, rack: RackNeed, pdus: Sequence[int]) -> None:
    """Write the feeds of a rack: two, each of which bears it; now and then one only, or two that are too weak."""
    current_a, single = rack.feed_a, False
    if rack.va_now:
        number = next(world.racks)
        single = number % ONE_FEED_EACH == 0
        if number % WEAK_EACH == 0:
            current_a = max((size for size in BREAKERS_A if size < amps(rack.va_now)), default=rack.feed_a)
    for letter, pdu in zip("a" if single else "ab", pdus, strict=False):
        feed = node_add(
            world,
            row.hall.site,
            "feed",
            f"{rack.slug}-f{letter}",
            rack_id=rack.id,
            voltage_v=float(FEED_V),
            current_a=float(current_a),
            redundancy="1N" if single else "2N",
            in_service_on=rack.first,
        )
        link_add(world, feed, pdu)


def amps(va: float) -> float:
    """Return the rating of a breaker or busway that bears a load for hours. [A]"""
    return va / (math.sqrt(3) * FEED_V * PDU_DERATE)


def _standard(sizes: Sequence[float], need: float) -> float:
    """Return the smallest size that is enough, or so many of the largest."""
    return next((size for size in sizes if size >= need), _up(need, sizes[-1]))


def _up(value: float, step: float) -> float:
    return math.ceil(value / step) * step
