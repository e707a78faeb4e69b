"""What is known while a fleet grows: the plan, its host types, and the places that are filled."""

from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta
from decimal import Decimal
from functools import cache
from itertools import count
from pathlib import Path
from random import Random
from typing import Any

import yaml

from accelerator import ChipSpec
from fleet.demo import demo_plan
from fleet.rawrows import RawRows

SEED_PATH = Path(__file__).parent.parent / "data" / "seed.yaml"
MONTH_DAYS = 30.4
PLAN_MONTHS = 20  # how far ahead hosts and racks are planned
MAINTAINED_EACH = 100  # every so many hosts, one is in repair or the like around the start
WEAK_EACH = 100  # every so many racks, and PDUs, one is too weak


@cache
def seed_plan() -> Mapping[str, Any]:
    """Return the plan as it is written down, its host types completed by those of the demo."""
    plan = yaml.safe_load(SEED_PATH.read_text())
    demo = {row["slug"]: row for row in demo_plan()["host_types"]}
    plan["host_types"] = [demo.get(row["slug"], {}) | row for row in plan["host_types"]]
    return plan


@dataclass(frozen=True, slots=True)
class Kind:
    """A host type that was written, with what the plan says of it."""

    id: int
    slug: str
    chip: ChipSpec
    chips: int
    height_u: int
    power_w: float
    apparent_va: float
    ports: int
    weight_kg: float
    bought: tuple[int, int]
    until: int | None
    price: Decimal | None
    currency: str
    firmware: tuple[int, ...]


@dataclass(slots=True)
class Batch:
    """A lot of cards that is still being filled."""

    id: int
    left: int


@dataclass(frozen=True, slots=True)
class Standing:
    """A host that serves on the day of the start."""

    id: int
    whole: bool
    first: date
    last: date | None


@dataclass(frozen=True, slots=True)
class RackNeed:
    """A rack with what it ever draws at most and draws now, and its heat: what its supplies must bear."""

    id: int
    slug: str
    first: date
    feed_a: int
    va: float
    va_now: float
    heat_w: float


@dataclass
class SitePlace:
    """A site of a region with its halls, who serves there, and who leaves when."""

    id: int
    region: int
    slug: str
    number: int
    pue_ratio: float
    opened_on: date
    spines: list[int] = field(default_factory=list)
    halls: list["HallPlace"] = field(default_factory=list)
    standing: dict[str, list[Standing]] = field(default_factory=lambda: defaultdict(list))
    leaving: dict[tuple[str, date], int] = field(default_factory=lambda: defaultdict(int))


@dataclass
class HallPlace:
    """A hall with its rows, and the shape that it follows."""

    id: int
    slug: str
    site: SitePlace
    shape: Mapping[str, Any]
    opened_on: date
    rows: list["RowPlace"] = field(default_factory=list)


@dataclass
class RowPlace:
    """A row with its racks, what cools them, and the switches that theirs reach."""

    id: int
    slug: str
    hall: HallPlace
    zone: int
    leaves: tuple[int, int]
    racks: list[RackNeed] = field(default_factory=list)

    @property
    def va(self) -> float:
        """Apparent power of all its racks, at most. [VA]"""
        return sum(rack.va for rack in self.racks)

    @property
    def va_now(self) -> float:
        """Apparent power of all its racks on the day of the start. [VA]"""
        return sum(rack.va_now for rack in self.racks)

    @property
    def heat_w(self) -> float:
        """Heat of all its racks, at most. [W]"""
        return sum(rack.heat_w for rack in self.racks)


@dataclass
class World:
    """All that the making of a fleet carries along."""

    rows: RawRows
    rng: Random
    start: date
    prefix: str
    say: Callable[[str], None]
    plan: Mapping[str, Any] = field(default_factory=seed_plan)
    kinds: dict[str, Kind] = field(default_factory=dict)
    regions: dict[str, int] = field(default_factory=dict)
    sites: list[SitePlace] = field(default_factory=list)
    lots: dict[tuple[str, int], Batch] = field(default_factory=dict)
    decks: dict[str, Counter[str]] = field(default_factory=lambda: defaultdict(Counter))
    cards: int = 0
    cards_most: int = 0
    # what comes to one in a hundred comes to small fleets, too
    hosts: Iterator[int] = field(default_factory=lambda: count(MAINTAINED_EACH - 10))
    racks: Iterator[int] = field(default_factory=lambda: count(WEAK_EACH - 30))
    pdus: Iterator[int] = field(default_factory=lambda: count(WEAK_EACH - 10))
    lot_numbers: Iterator[int] = field(default_factory=lambda: count(1))
    maintenance_numbers: Iterator[int] = field(default_factory=lambda: count(1))

    def day(self, months: float) -> date:
        """Return the day so many months after the start."""
        return self.start + timedelta(days=round(months * MONTH_DAYS))

    def between(self, low: int, high: int) -> int:
        """Draw a whole number, both ends included."""
        return low + int(self.rng.random() * (high + 1 - low))

    def dealt(self, deck: str, weights: Mapping[str, float]) -> str:
        """Draw a name by its weight from a deck that remembers: small fleets, too, have each name about that often."""
        dealt, total = self.decks[deck], sum(weights.values())
        draws = sum(dealt.values()) + 1
        name = max(weights, key=lambda one: weights[one] / total * draws - dealt[one] + self.rng.random())
        dealt[name] += 1
        return name

    def drawn(self, weights: Mapping[str, float]) -> str:
        """Draw a name by its weight."""
        return self.rng.choices(list(weights), list(weights.values()))[0]
