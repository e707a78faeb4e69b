"""What planners receive and return: frozen values. No database, no framework."""

from dataclasses import dataclass
from datetime import date

import numpy as np
from numpy.typing import NDArray

from fleet.snapshot import FleetSnapshot, FloatArray

BoolArray = NDArray[np.bool_]

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
