"""The fleet as values: what the planners receive. Knows no database; made by `fleet.selectors.snapshot_take`."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields, is_dataclass
from datetime import date
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from fleet.trees import SupplyTree

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
    """A host type: chip slug, chips per host [-], rack units [U], power to plan with and idle power [W].

    Then the measured mean and the plate's power [W], None where nobody knows; power over apparent power [-], how it is
    cooled, whether nothing fits behind it, network ports [-], weight [kg].
    """

    slug: str
    name: str
    chip: str
    chips: int
    height_u: int
    power_w: float
    idle_w: float
    typical_w: float | None = None
    nameplate_w: float | None = None
    power_factor_ratio: float = 1.0
    cooling: str = "air"
    full_depth: bool = True
    ports: int = 0
    weight_kg: float = 0.0

    @property
    def apparent_va(self) -> float:
        """Apparent power to plan with. [VA]"""
        return self.power_w / self.power_factor_ratio


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
class DemandEventFact:
    """What multiplies the demand of a service from a day until the day before another: P10, P50 and P90. [-]"""

    slug: str
    service: str
    starts_on: date
    ends_on: date
    multiplier_low_ratio: float
    multiplier_ratio: float
    multiplier_high_ratio: float
    reason: str


@dataclass(frozen=True, slots=True)
class DemandOverrideFact:
    """Demand of the busiest hour in the months of two days and between, as somebody knows it better. [1/s]"""

    slug: str
    service: str
    first_on: date
    last_on: date
    p10_request_s: float
    p50_request_s: float
    p90_request_s: float
    author: str
    reason: str


@dataclass(frozen=True, slots=True)
class DeliveryFact:
    """Hosts of one kind on their way to a site: quantity [-], day named, slip P50 and P90 [d], expected fill [-].

    Then the fill that one delivery in ten does not reach, None: as expected, and the group that slips together.
    """

    slug: str
    site: str
    kind: str
    quantity: int
    expected_on: date
    slip_p50_days: float
    slip_p90_days: float
    fill_ratio: float
    fill_p10_ratio: float | None = None
    correlation_group: str = ""


@dataclass(frozen=True, slots=True)
class RetirementFact:
    """Hosts of one kind that leave a site, not named yet: quantity [-] and first day gone."""

    slug: str
    site: str
    kind: str
    quantity: int
    retire_on: date


@dataclass(frozen=True, slots=True)
class PolicyFact:
    """What may not be done with a chip (`buy`, `sell`, `support`, `use`), from when until when, and where.

    Empty region and site: everywhere.
    """

    slug: str
    chip: str
    verb: str
    starts_on: date
    ends_on: date | None
    region: str
    site: str


@dataclass(frozen=True, slots=True)
class DeploymentFact:
    """Replicas of one config behind an endpoint: chips [-] and output [tok/s] of one replica."""

    slug: str
    endpoint: str
    service: str
    site: str
    kind: str
    config: str
    replica_chips: int
    replica_tok_s: float


@dataclass(frozen=True, slots=True)
class CardGroup:
    """Cards that share chip, origin, firmware set and attestation. Empty text: not known. [-]"""

    chip: str
    foundry: str
    hbm_maker: str
    channel: str
    firmware: str
    attestation: str
    cards: int


@dataclass(frozen=True, eq=False)
class TreeFacts:
    """One tree of supply over the racks of a snapshot, dated. `on` gives it as it is on a day.

    Attributes
    ----------
    slugs, kinds : tuple of str, length N
        Names of the nodes, and what they are, as `ups`.
    site : int64[N]
        Position of the node's site.
    usable, efficiency_ratio, house : float64[N]
        What may be drawn for hours, inf where nobody knows; output per input; load beside racks. [VA], [-], [VA] for
        power, [W] for cooling; a network has no load.
    first_day, last_day : int64[N]
        First ordinal day of use and first ordinal day gone. [d]
    link_node, link_source, link_first_day, link_last_day : int64[L]
        The lower node, the node that it draws on, and when.
    link_standby : bool[L]
        Drawn on only when no primary source lives.
    leaf_rack, leaf_node : int64[A]
        Which racks draw on which nodes.
    """

    slugs: tuple[str, ...]
    kinds: tuple[str, ...] = field(repr=False)
    site: IntArray = field(repr=False)
    usable: FloatArray = field(repr=False)
    efficiency_ratio: FloatArray = field(repr=False)
    house: FloatArray = field(repr=False)
    first_day: IntArray = field(repr=False)
    last_day: IntArray = field(repr=False)
    link_node: IntArray = field(repr=False)
    link_source: IntArray = field(repr=False)
    link_standby: NDArray[np.bool_] = field(repr=False)
    link_first_day: IntArray = field(repr=False)
    link_last_day: IntArray = field(repr=False)
    leaf_rack: IntArray = field(repr=False)
    leaf_node: IntArray = field(repr=False)

    @classmethod
    def none(cls) -> "TreeFacts":
        """Return a tree without nodes: nothing is known, nothing binds."""
        whole, real = np.zeros(0, dtype=np.int64), np.zeros(0)
        standby = np.zeros(0, dtype=bool)
        return cls((), (), whole, real, real, real, *(whole,) * 4, standby, *(whole,) * 4)

    def on(self, day: date, racks: int) -> SupplyTree:
        """Return the tree of a day over `racks` racks; a node that is not there feeds nothing."""
        here = (self.first_day <= day.toordinal()) & (day.toordinal() < self.last_day)
        link = (self.link_first_day <= day.toordinal()) & (day.toordinal() < self.link_last_day)
        link &= here[self.link_node] & here[self.link_source]
        leaf = here[self.leaf_node]
        return SupplyTree(
            slugs=self.slugs,
            usable=np.where(here, self.usable, np.inf),
            efficiency_ratio=self.efficiency_ratio,
            house=np.where(here, self.house, 0.0),
            link_node=self.link_node[link],
            link_source=self.link_source[link],
            link_standby=self.link_standby[link],
            leaf_rack=self.leaf_rack[leaf],
            leaf_node=self.leaf_node[leaf],
            racks=racks,
        )


@dataclass(frozen=True, eq=False)
class FleetSnapshot:
    """The fleet as it stands on `as_of`, and everything dated later that is already decided.

    Attributes
    ----------
    as_of : date
        First day of the view; what left before it is not in it.
    regions, sites, kinds, services, deliveries, retirements, policies, deployments, cards : tuples of facts
        In the order of their slugs; arrays below hold positions in these tuples.
    demand_events, demand_overrides : tuples of facts
        What people know about the demand of services, in the order of their slugs.
    row_keys : tuple of str
        Keys of the rows of racks, as `dc01/h1/a`.
    rack_slugs : tuple of str, length R
        By site, hall, row and place in the row.
    rack_site, rack_row, rack_height_u : int64[R]
        Position of the rack's site and of its row; usable rack units. [U]
    rack_power_limit_w : float64[R]
        Continuous limit of the cabinet with one feed lost; what its feeds bear, `power` says. [W]
    rack_cooling_limit_w, rack_weight_limit_kg, rack_ports : float64[R]
        Heat, weight and network ports at most; inf where nobody knows. [W], [kg], [-]
    rack_is_liquid : bool[R]
        Whether hosts with direct liquid cooling may stand there.
    rack_first_day, rack_last_day : int64[R]
        First ordinal day of use and first ordinal day gone. [d]
    host_slugs : tuple of str, length H
        In their order.
    host_rack, host_kind : int64[H]
        Positions of the host's rack and kind.
    host_position_u : int64[H]
        Lowest rack unit it fills; 0: not known. [U]
    host_domain : int64[H]
        Position of its scale-up domain in `domain_slugs`; -1: none.
    host_first_day, host_last_day : int64[H]
        As for racks. [d]
    away_host, away_first_day, away_last_day : int64[M]
        Hosts in maintenance: they stand and draw, but serve nothing from the first day until the last. [d]
    placement_host, placement_deployment, placement_replicas, placement_unit : int64[P]
        Replicas of a deployment on a host; hosts of one unit of a deployment hold one replica together, -1: none. [-]
    placement_first_day, placement_last_day : int64[P]
        As for racks. [d]
    power, cooling, network : TreeFacts
        What feeds, cools and connects the racks.
    """

    as_of: date
    regions: tuple[RegionFact, ...]
    sites: tuple[SiteFact, ...]
    kinds: tuple[KindFact, ...]
    services: tuple[ServiceFact, ...]
    deliveries: tuple[DeliveryFact, ...]
    retirements: tuple[RetirementFact, ...]
    policies: tuple[PolicyFact, ...]
    deployments: tuple[DeploymentFact, ...]
    cards: tuple[CardGroup, ...]
    row_keys: tuple[str, ...] = field(repr=False)
    rack_slugs: tuple[str, ...] = field(repr=False)
    rack_site: IntArray = field(repr=False)
    rack_row: IntArray = field(repr=False)
    rack_height_u: IntArray = field(repr=False)
    rack_power_limit_w: FloatArray = field(repr=False)
    rack_cooling_limit_w: FloatArray = field(repr=False)
    rack_weight_limit_kg: FloatArray = field(repr=False)
    rack_ports: FloatArray = field(repr=False)
    rack_is_liquid: NDArray[np.bool_] = field(repr=False)
    rack_first_day: IntArray = field(repr=False)
    rack_last_day: IntArray = field(repr=False)
    host_slugs: tuple[str, ...] = field(repr=False)
    host_rack: IntArray = field(repr=False)
    host_kind: IntArray = field(repr=False)
    host_position_u: IntArray = field(repr=False)
    host_domain: IntArray = field(repr=False)
    host_first_day: IntArray = field(repr=False)
    host_last_day: IntArray = field(repr=False)
    domain_slugs: tuple[str, ...] = field(repr=False)
    away_host: IntArray = field(repr=False)
    away_first_day: IntArray = field(repr=False)
    away_last_day: IntArray = field(repr=False)
    placement_host: IntArray = field(repr=False)
    placement_deployment: IntArray = field(repr=False)
    placement_replicas: IntArray = field(repr=False)
    placement_unit: IntArray = field(repr=False)
    placement_first_day: IntArray = field(repr=False)
    placement_last_day: IntArray = field(repr=False)
    power: TreeFacts = field(repr=False)
    cooling: TreeFacts = field(repr=False)
    network: TreeFacts = field(repr=False)
    demand_events: tuple[DemandEventFact, ...] = ()
    demand_overrides: tuple[DemandOverrideFact, ...] = ()

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every fact and array: equal digests mean equal answers."""
        total = hashlib.sha256()
        _digest_add(total, self)
        return total.hexdigest()

    def rack_hosts(self, day: date) -> IntArray:
        """Return how many hosts of each kind stand in each rack on a day, int64[R, K]; none in a closed rack. [-]"""
        here = self.hosts_here(day)
        cell = self.host_rack[here] * len(self.kinds) + self.host_kind[here]
        counts = np.bincount(cell, minlength=len(self.rack_slugs) * len(self.kinds))
        return counts.reshape(len(self.rack_slugs), len(self.kinds)).astype(np.int64)

    def rack_open(self, day: date) -> NDArray[np.bool_]:
        """Return which racks may be used on a day, bool[R]."""
        return (self.rack_first_day <= day.toordinal()) & (day.toordinal() < self.rack_last_day)

    def hosts_here(self, day: date) -> NDArray[np.bool_]:
        """Return which hosts stand in an open rack on a day, bool[H]."""
        here = (self.host_first_day <= day.toordinal()) & (day.toordinal() < self.host_last_day)
        return here & self.rack_open(day)[self.host_rack]

    def hosts_serving(self, day: date) -> NDArray[np.bool_]:
        """Return which hosts stand and are not in maintenance on a day, bool[H]."""
        serving = self.hosts_here(day)
        away = (self.away_first_day <= day.toordinal()) & (day.toordinal() < self.away_last_day)
        serving[self.away_host[away]] = False
        return serving

    def rack_sum(self, per_kind: FloatArray, day: date) -> FloatArray:
        """Return the sum over the hosts in each rack on a day of a figure of their kind, float64[R]."""
        here = self.hosts_here(day)
        total = np.bincount(self.host_rack[here], per_kind[self.host_kind[here]], minlength=len(self.rack_slugs))
        return total.astype(np.float64)

    @cached_property
    def kind_apparent_va(self) -> FloatArray:
        """Apparent power to plan with of each kind, float64[K]. [VA]"""
        return np.array([kind.apparent_va for kind in self.kinds], dtype=np.float64)

    @cached_property
    def kind_power_w(self) -> FloatArray:
        """Power to plan with of each kind, float64[K]. [W]"""
        return np.array([kind.power_w for kind in self.kinds], dtype=np.float64)

    @cached_property
    def kind_height_u(self) -> IntArray:
        """Rack units of each kind, int64[K]. [U]"""
        return np.array([kind.height_u for kind in self.kinds], dtype=np.int64)


def _digest_add(total: Any, value: Any) -> None:
    """Add a value and its type to a digest; arrays by their bytes."""
    if isinstance(value, np.ndarray):
        array = np.ascontiguousarray(value)
        total.update(f"{array.dtype.str}{array.shape}".encode() + array.tobytes())
    elif isinstance(value, FleetSnapshot | TreeFacts):
        for one in fields(value):
            total.update(one.name.encode())
            _digest_add(total, getattr(value, one.name))
    else:
        is_facts = isinstance(value, tuple) and bool(value) and not isinstance(value[0], str)  # names are many
        facts = [_fact_dict(fact) for fact in value] if is_facts else value
        total.update(json.dumps(facts, default=str, sort_keys=True).encode())


def _fact_dict(fact: Any) -> Any:
    return asdict(fact) if is_dataclass(fact) and not isinstance(fact, type) else fact
