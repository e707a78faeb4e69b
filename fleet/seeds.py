"""A plausible fleet of any size out of data/seed.yaml: a cloud in the middle of its way off the GPU.

Everything follows from the number of cards, the seed and the day of the start: the same three make the same rows, on
every database. Halls are filled row after row until the cards are used up; supply trees are sized afterwards, for what
stands and what is planned, so that nearly every node bears the worst single failure. About one rack and one PDU in a
hundred does not: the twin should find them. How it is made is told in `fleet.seeding`.
"""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from itertools import cycle
from random import Random
from types import MappingProxyType
from typing import Any

from django.core.exceptions import ValidationError
from django.core.validators import validate_slug

from fleet.audit import author_current, writing_as
from fleet.inventory import INVENTORY
from fleet.models import Host, HostType, Lot, Order, Rack, Region, Site
from fleet.rawrows import rows_writing
from fleet.seeding.cooling import cooling_make
from fleet.seeding.kinds import gates_make, types_make
from fleet.seeding.network import spines_make
from fleet.seeding.places import hall_make
from fleet.seeding.power import power_make
from fleet.seeding.serving import services_make
from fleet.seeding.supply import orders_make, policy_make, retirements_make
from fleet.seeding.world import SitePlace, World

START_FIRST, START_LAST = date(2010, 1, 1), date(2090, 1, 1)  # what lies years around it is still within reach
CARDS_MOST = 20_000_000
PREFIX_MOST = 16
SITE_CARDS, SITE_CARDS_LEAST = 36_000, 500  # of a large fleet's sites in the mean; below which one site is enough
HALLS_LEAST = 3  # of a site


class SeedRefusedError(ValueError):
    """A fleet cannot be made as asked: the sentence says why."""


@dataclass(frozen=True)
class Seeded:
    """What was made: rows by the name of their kind."""

    counts: Mapping[str, int]

    @property
    def rows(self) -> int:
        """All rows. [-]"""
        return sum(self.counts.values())


def fleet_seed(
    cards: int, seed: int, start: date, *, prefix: str = "", say: Callable[[str], None] | None = None
) -> Seeded:
    """Write a fleet of so many cards, dated around a day; its slugs begin with `prefix`. All or nothing.

    Raises
    ------
    SeedRefusedError
        If a number is out of reach, or rows with such slugs are there already.
    """
    prefix = prefix or f"seed{seed}-"
    _refuse_unsound(cards, seed, start, prefix)
    author = author_current()
    author = replace(author, why=author.why or f"a fleet of {cards} cards, seed {seed}, start {start}")
    with writing_as(author), rows_writing() as rows:
        _refuse_taken(prefix)
        rng = Random(f"fleet {seed} {cards}")  # noqa: S311 -- no secret
        _fleet_make(World(rows=rows, rng=rng, start=start, prefix=prefix, say=say or _quiet, cards_most=cards))
    return Seeded(MappingProxyType({name: rows.counts[name] for name in INVENTORY}))


def _quiet(_text: str) -> None:
    """Say nothing."""


def _refuse_unsound(cards: int, seed: int, start: date, prefix: str) -> None:
    if not 1 <= cards <= CARDS_MOST:
        raise SeedRefusedError(f"a fleet has between 1 and {CARDS_MOST:,} cards, not {cards:,}")
    if seed < 0:
        raise SeedRefusedError(f"a seed is not negative, as {seed} is")
    if not START_FIRST <= start <= START_LAST:
        raise SeedRefusedError(f"a fleet starts between {START_FIRST} and {START_LAST}, not on {start}")
    try:
        validate_slug(prefix)
    except ValidationError as error:
        raise SeedRefusedError(f"the prefix {prefix!r} is no beginning of a slug: letters, digits, - and _") from error
    if len(prefix) > PREFIX_MOST:
        raise SeedRefusedError(f"the prefix {prefix!r} is longer than {PREFIX_MOST} characters")


def _refuse_taken(prefix: str) -> None:
    for model in (Region, Site, HostType, Rack, Host, Lot, Order):
        taken = model._default_manager.filter(slug__startswith=prefix).values_list("slug", flat=True).first()
        if taken is not None:
            name = model._meta.verbose_name
            raise SeedRefusedError(f"{name} {taken} is there already: take another seed, or a prefix of its own")


def _fleet_make(world: World) -> None:
    """Make host types, then region after region with its sites and services, then what is ordered and decided."""
    types_make(world)
    gates_make(world)
    cards = world.cards_most
    sites = max(min(2, math.ceil(cards / SITE_CARDS_LEAST)), round(cards / SITE_CARDS))
    regions = world.plan["regions"][:sites]
    ends = _ends(world, sites)
    for at, plan in enumerate(regions):
        _region_make(world, plan, [next(ends) for _ in range(sites // len(regions) + (at < sites % len(regions)))])
    orders_make(world)
    policy_make(world)


def _ends(world: World, sites: int) -> Iterator[int]:
    """Yield how many cards there are when each site is full."""
    weights = [0.6 + world.rng.random() for _ in range(sites)]
    for at in range(1, sites):
        yield round(world.cards_most * sum(weights[:at]) / sum(weights))
    yield world.cards_most


def _region_make(world: World, plan: Mapping[str, Any], ends: Sequence[int]) -> None:
    """Write a region, its sites and what is served there."""
    region = world.rows.add(Region, slug=f"{world.prefix}{plan['slug']}", name=plan["name"])
    world.rows.region_pk = world.regions[plan["slug"]] = region
    sites = [_site_make(world, region, plan, at, end) for at, end in enumerate(ends)]
    services_make(world, region, plan["slug"], sites)
    world.rows.region_pk = None
    world.rows.flush_many()


def _site_make(world: World, region: int, plan: Mapping[str, Any], at: int, end: int) -> SitePlace:
    """Write a site with halls until the fleet has so many cards."""
    campus, name_at = divmod(at, len(plan["sites"]))
    low, high = plan["pue"]
    slug = f"{world.prefix}{plan['slug'][0]}{at + 1:02d}"
    opened_on, pue_ratio = world.day(-100 - world.between(0, 20)), round(low + (high - low) * world.rng.random(), 3)
    pk = world.rows.add(
        Site,
        slug=slug,
        name=f"{plan['sites'][name_at]} {campus + 1}",
        region_id=region,
        pue_ratio=pue_ratio,
        in_service_on=opened_on,
    )
    site = SitePlace(pk, region, slug, len(world.sites) + 1, pue_ratio, opened_on)
    world.sites.append(site)
    cards = end - world.cards
    spines_make(world, site, cards)
    shapes = _shapes_small(world) if cards < world.plan["small_site"]["cards"] else _shapes(world)
    while world.cards < end:
        hall_make(world, site, next(shapes), min(end, world.cards + math.ceil(cards / HALLS_LEAST)))
    power_make(world, site)
    cooling_make(world, site)
    retirements_make(world, site)
    world.rows.flush_many()
    world.say(f"site {slug}: {len(site.halls)} halls, {world.cards:,} of {world.cards_most:,} cards")
    return site


def _shapes(world: World) -> Iterator[Mapping[str, Any]]:
    """Draw shapes of halls by their weights, never the same one twice in a row."""
    shape = None
    while True:
        others = [other for other in world.plan["halls"] if other is not shape]
        shape = world.rng.choices(others, [other["weight"] for other in others])[0]
        yield shape


def _shapes_small(world: World) -> Iterator[Mapping[str, Any]]:
    """Yield the shapes of the halls of a small site in turn."""
    shapes = {shape["slug"]: shape for shape in world.plan["halls"]}
    return cycle(shapes[slug] for slug in world.plan["small_site"]["halls"])
