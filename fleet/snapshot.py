"""The fleet as values: what the planners receive. Knows no database; made by `fleet.selectors.snapshot_take`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from datetime import date
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

DAY_MIN, DAY_MAX = 1, date.max.toordinal()  # proleptic ordinals that stand for "always was" and "stays"

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class RegionFact:
    """A region: slug and name."""

    slug: str
    name: str


@dataclass(frozen=True, slots=True)
class SiteFact:
    """A site: slug, name, the slug of its region, yearly mean PUE [-]."""

    slug: str
    name: str
    region: str
    pue_ratio: float


@dataclass(frozen=True, slots=True)
class KindFact:
    """A host type: chip slug, chips per host [-], rack units [U], power to plan with and idle power [W]."""

    slug: str
    name: str
    chip: str
    chips: int
    height_u: int
    power_w: float
    idle_w: float


@dataclass(frozen=True, slots=True)
class ServiceFact:
    """A service: where, which model and mix, limits [s], demand of the busiest hour [1/s] and its growth [1/month].

    `ready_on` maps the slug of a homegrown chip to the first day on which the service may run there.
    """

    slug: str
    name: str
    region: str
    model: str
    profile: str
    tier: str
    ttft_s: float
    tpot_s: float
    percentile: float
    demand_on: date
    demand_request_s: float
    growth_ratio: float
    growth_low_ratio: float
    growth_high_ratio: float
    movable: bool
    note: str
    ready_on: Mapping[str, date]


@dataclass(frozen=True, slots=True)
class DeliveryFact:
    """Hosts of one kind on their way to a site: quantity [-], day named, slip P50 and P90 [d], expected fill [-]."""

    slug: str
    site: str
    kind: str
    quantity: int
    expected_on: date
    slip_p50_days: float
    slip_p90_days: float
    fill_ratio: float


@dataclass(frozen=True, eq=False)
class FleetSnapshot:
    """The fleet as it stands on `as_of`, and everything dated later that is already decided.

    Attributes
    ----------
    as_of : date
        First day of the view; what left before it is not in it.
    regions, sites, kinds, services, deliveries : tuples of facts
        In the order of their slugs; arrays below hold positions in these tuples.
    rack_slugs : tuple of str, length R
    rack_site, rack_height_u : int64[R]
        Position of the rack's site; usable rack units. [U]
    rack_power_limit_w : float64[R]
        Continuous limit with one feed lost. [W]
    rack_first_day, rack_last_day : int64[R]
        First ordinal day of use and first ordinal day gone. [d]
    host_rack, host_kind : int64[H]
        Positions of the host's rack and kind.
    host_first_day, host_last_day : int64[H]
        As for racks. [d]
    """

    as_of: date
    regions: tuple[RegionFact, ...]
    sites: tuple[SiteFact, ...]
    kinds: tuple[KindFact, ...]
    services: tuple[ServiceFact, ...]
    deliveries: tuple[DeliveryFact, ...]
    rack_slugs: tuple[str, ...] = field(repr=False)
    rack_site: IntArray = field(repr=False)
    rack_height_u: IntArray = field(repr=False)
    rack_power_limit_w: FloatArray = field(repr=False)
    rack_first_day: IntArray = field(repr=False)
    rack_last_day: IntArray = field(repr=False)
    host_rack: IntArray = field(repr=False)
    host_kind: IntArray = field(repr=False)
    host_first_day: IntArray = field(repr=False)
    host_last_day: IntArray = field(repr=False)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every fact and array: equal digests mean equal answers."""
        facts = {
            name: [asdict(fact) for fact in getattr(self, name)]
            for name in ("regions", "sites", "kinds", "services", "deliveries")
        }
        facts["as_of"] = self.as_of  # type: ignore[assignment]
        facts["racks"] = self.rack_slugs  # type: ignore[assignment]
        total = hashlib.sha256(json.dumps(facts, default=str, sort_keys=True).encode())
        for name in (
            *("rack_site", "rack_height_u", "rack_power_limit_w", "rack_first_day", "rack_last_day"),
            *("host_rack", "host_kind", "host_first_day", "host_last_day"),
        ):
            array = np.ascontiguousarray(getattr(self, name))
            total.update(name.encode() + array.dtype.str.encode() + array.tobytes())
        return total.hexdigest()

    def rack_hosts(self, day: date) -> IntArray:
        """Return how many hosts of each kind stand in each rack on a day, int64[R, K]; none in a closed rack. [-]"""
        here = (self.host_first_day <= day.toordinal()) & (day.toordinal() < self.host_last_day)
        here &= self.rack_open(day)[self.host_rack]
        cell = self.host_rack[here] * len(self.kinds) + self.host_kind[here]
        counts = np.bincount(cell, minlength=len(self.rack_slugs) * len(self.kinds))
        return counts.reshape(len(self.rack_slugs), len(self.kinds)).astype(np.int64)

    def rack_open(self, day: date) -> NDArray[np.bool_]:
        """Return which racks may be used on a day, bool[R]."""
        return (self.rack_first_day <= day.toordinal()) & (day.toordinal() < self.rack_last_day)

    @cached_property
    def kind_power_w(self) -> FloatArray:
        """Power to plan with of each kind, float64[K]. [W]"""
        return np.array([kind.power_w for kind in self.kinds], dtype=np.float64)

    @cached_property
    def kind_height_u(self) -> IntArray:
        """Rack units of each kind, int64[K]. [U]"""
        return np.array([kind.height_u for kind in self.kinds], dtype=np.int64)
