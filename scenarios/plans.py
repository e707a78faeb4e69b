"""What planners receive and return: frozen values. No database, no framework."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from accelerator import Band
from fleet.snapshot import FleetSnapshot, FloatArray

BoolArray = NDArray[np.bool_]

CHIPS = "chips"  # what binds where racks have room, beside fleet.fits.POWER and fleet.fits.UNITS
NO_HOST = "no_host"  # what binds where a service has no host that can serve it


@dataclass(frozen=True, eq=False)
class Problem:
    """One question about the fleet, complete: two planners answer it, neither looks anything up.

    Attributes
    ----------
    snapshot : FleetSnapshot
        The fleet. S services, K kinds, R racks, D deliveries in its order.
    months : tuple of date, length T
        First days of the months asked about; a month is judged as it stands on its first day.
    rate_tok_s : float64[S, K]
        Output tokens per second that one host of the kind sustains for the service within its limits, P50;
        0 where it cannot. [tok/s]
    rate_low_tok_s, rate_high_tok_s : float64[S, K]
        P10 and P90 of that rate. [tok/s]
    output_tok : float64[S]
        Mean output tokens per request. [tok]
    allowed : bool[S, K, T]
        Whether the service may run on the kind in the month: software readiness, and services that may not move.
    homegrown : bool[K]
        Kinds whose chip is homegrown.
    in_scope : bool[S]
        Services that the question is about.
    reserve_ratio : float
        Share of every host kept free for failures and bursts. [-]
    draws : int
        Futures drawn for the bands. [-]
    seed : int
        Seed of the draws.
    dual_run_months : int
        Months for which GPU hosts stay warm behind traffic that has moved. [month]
    growth_override_ratio : float or None
        One growth for all services instead of their own. [1/month]
    """

    snapshot: FleetSnapshot
    months: tuple[date, ...]
    rate_tok_s: FloatArray
    rate_low_tok_s: FloatArray
    rate_high_tok_s: FloatArray
    output_tok: FloatArray
    allowed: BoolArray
    homegrown: BoolArray
    in_scope: BoolArray
    reserve_ratio: float = 0.1
    draws: int = 32
    seed: int = 1
    dual_run_months: int = 1
    growth_override_ratio: float | None = None


@dataclass(frozen=True, slots=True)
class MonthBand:
    """Months, YYYY-MM; None is not within the horizon. P10 is the early end: one future in ten is earlier."""

    p10: str | None
    p50: str | None
    p90: str | None


@dataclass(frozen=True, slots=True)
class Move:
    """Traffic of one service that changes kind in one month: to homegrown hosts, or in `returns` back to GPUs.

    Hosts freed and used include the reserve that is kept free beside their load. [-]
    """

    month: str
    region: str
    service: str
    from_kinds: Mapping[str, float]
    to_kind: str
    share_ratio: float
    tok_s: float
    gpu_hosts_freed: float
    homegrown_hosts_used: float


@dataclass(frozen=True, slots=True)
class Left:
    """Traffic that is still on GPUs in the last month, and why."""

    service: str
    share_ratio: float
    tok_s: float
    reason: str


@dataclass(frozen=True, slots=True)
class MigrationPeriod:
    """One region, or the fleet, in one month. Loads in hosts: serving, dual (kept warm behind moved traffic), idle."""

    month: str
    hosts: Mapping[str, int]
    serving: Mapping[str, float]
    dual: Mapping[str, float]
    idle: Mapping[str, float]
    waiting: Mapping[str, int]
    homegrown_token_ratio: Band
    gpu_hosts_needed: Band
    unserved_tok_s: float


@dataclass(frozen=True, slots=True)
class RegionMigration:
    """A region month by month, what is left on GPUs at the end, and the month in which none is needed any more."""

    slug: str
    name: str
    periods: tuple[MigrationPeriod, ...]
    left: tuple[Left, ...]
    gpu_free: MonthBand


@dataclass(frozen=True, slots=True)
class FleetMigration:
    """The whole fleet month by month, and the months of its first move, of its last, and of its last GPU."""

    periods: tuple[MigrationPeriod, ...]
    first_move_month: str | None
    last_move_month: str | None
    gpu_free: MonthBand
    sentence: str


@dataclass(frozen=True, slots=True)
class MigrationPlan:
    """Which service leaves its GPUs in which month, and what stays.

    `returns` is traffic whose growth no longer fits the homegrown hosts that it had moved to.
    """

    fleet: FleetMigration
    regions: tuple[RegionMigration, ...]
    moves: tuple[Move, ...]
    returns: tuple[Move, ...]
