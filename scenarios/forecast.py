"""Demand by month as a fan: P10, P50 and P90 of the busiest hour, from a history or from what a planner states.

A history gives level, shape and spread (scenarios/patterns.py); growth is the stated one, corrected by what a long
history says. What people know better, events and overrides, is applied on top. Values in, values out.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime
from typing import Literal

import numpy as np

from accelerator.units import Z90
from fleet.snapshot import DemandEventFact, DemandOverrideFact, ServiceFact
from scenarios.demand import DEMAND_MOST_REQUEST_S, demand_request_s, month_add, month_first
from scenarios.histories import HOUR_S, History
from scenarios.patterns import (
    DAY_S,
    SLOW_S,
    Shape,
    Spread,
    State,
    ahead,
    known_factor,
    peak_quantiles,
    shape_fit,
    spread_fit,
    track,
    widened,
)

MONTH_S = 2_629_800  # mean month: a year of 365.25 days over 12
HISTORY_LEAST_S = DAY_S  # a shorter history is none
GROWTH_LEAST_S = 28 * DAY_S  # of history, before it says anything of growth
GROWTH_SD_LEAST = 0.002  # a stated growth without a band still gives way to a history [1/month]
DAMPING_RATIO = 0.9  # what is left, a month later, of growth beyond the stated one; assumed
TRACK_S = 60 * DAY_S
STATED_MEAN_RATIO = 0.53  # mean over busiest hour: median of four published series, 0.46 to 0.74

Basis = Literal["history", "stated"]


@dataclass(frozen=True)
class DemandFan:
    """Demand of a service in some months, as planners take it.

    Attributes
    ----------
    service : str
        Slug.
    p10_request_s, p50_request_s, p90_request_s : tuple of float
        Requests per second in the busiest hour of each month. [1/s]
    mean_ratio : float
        Mean rate over the busiest hour's, of a month. [-]
    input_tok, output_tok : float
        Mean prompt and answer. [tok]
    cache_hit_ratio : float
        Share of prompt tokens found in a prefix cache; 0 where nobody knows. [-]
    top_client_ratio : float or None
        Share of the biggest client in all requests. [-]
    basis : str
        `history` or `stated`.
    note : str
        What it stands on, in a sentence or two.
    """

    service: str
    p10_request_s: tuple[float, ...]
    p50_request_s: tuple[float, ...]
    p90_request_s: tuple[float, ...]
    mean_ratio: float
    input_tok: float
    output_tok: float
    cache_hit_ratio: float
    top_client_ratio: float | None
    basis: Basis
    note: str


def fan_at(fan: DemandFan, z: float) -> tuple[float, ...]:
    """Return the path of a fan at a standard normal deviate. [1/s]

    Two half-lognormals joined at P50: z = -1.2816 gives P10, 0 gives P50, 1.2816 gives P90. Where an end is zero, the
    path goes straight there.
    """
    ends = fan.p90_request_s if z > 0 else fan.p10_request_s
    return tuple(_between(p50, end, abs(z) / Z90) for p50, end in zip(fan.p50_request_s, ends, strict=True))


def _between(p50: float, end: float, share: float) -> float:
    if p50 > 0 and end > 0:
        return float(min(p50 * (end / p50) ** share, DEMAND_MOST_REQUEST_S))
    return max(0.0, p50 + (end - p50) * share)


# --- without a history ------------------------------------------------------------------------------------------------
def fan_stated(service: ServiceFact, months: tuple[date, ...], *, input_tok: float, output_tok: float) -> DemandFan:
    """Return the fan of a service's stated demand and compound growth, low, middle and high."""
    growths = (service.growth_low_ratio, service.growth_ratio, service.growth_high_ratio)
    low, middle, high = (tuple(demand_request_s(service, months, growth_ratio=one).tolist()) for one in growths)
    return DemandFan(
        service=service.slug,
        p10_request_s=low,
        p50_request_s=middle,
        p90_request_s=high,
        mean_ratio=STATED_MEAN_RATIO,
        input_tok=input_tok,
        output_tok=output_tok,
        cache_hit_ratio=0.0,
        top_client_ratio=None,
        basis="stated",
        note=f"stated for {service.demand_on:%Y-%m}, with compound growth; mean over busiest hour is assumed",
    )


# --- from a history ---------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class GrowthLog:
    """Growth of the log rate per month: the stated one, what is believed after the history, its deviations. [1/month]

    `low_sd` and `high_sd` are those of the stated band below and above, shrunk by what the history adds.
    """

    stated: float
    believed: float
    low_sd: float
    high_sd: float

    def at(self, months: float) -> float:
        """Return the growth after some months: what goes beyond the stated one fades. [-]"""
        fading = (1 - DAMPING_RATIO**months) / -math.log(DAMPING_RATIO)
        return self.stated * months + (self.believed - self.stated) * fading


@dataclass(frozen=True, eq=False)
class Outlook:
    """A history as fitted: the log of its rate at its end, growth, shape, spread and state; and its extent. [s]"""

    start_s: int
    end_s: int
    level: float
    growth: GrowthLog
    shape: Shape
    spread: Spread
    state: State

    @property
    def span_s(self) -> int:
        """Length of the history. [s]"""
        return self.end_s - self.start_s

    @property
    def note(self) -> str:
        """Say what the history's length supports."""
        days = self.span_s / DAY_S
        supports = [
            "a shape over the day" if self.shape.day.any() else "no shape over the day",
            "one over the week" if self.shape.week.any() else "none over the week",
            "and corrects growth" if self.span_s >= GROWTH_LEAST_S else "and leaves growth as stated",
        ]
        until = datetime.fromtimestamp(self.end_s, UTC)
        return f"{days:.1f} days of history until {until:%Y-%m-%d}: it shows {', '.join(supports)}"


def outlook_fit(history: History, growths: tuple[float, float, float]) -> Outlook:
    """Return what a history of at least a day says; `growths` are stated: low, middle and high. [1/month]"""
    hourly = history.hourly()
    time_s, end_s = hourly.time_s, hourly.end_s
    growth = growth_join(hourly, growths)
    flat = hourly.log_rate - growth.believed * (time_s + HOUR_S / 2 - end_s) / MONTH_S
    shape = shape_fit(flat, time_s, HOUR_S)
    rest = flat - shape.at(time_s)
    level = float(np.nanmean(rest))
    spread = spread_fit(rest - level, HOUR_S, is_shaped=bool(shape.day.any()))
    state = track((rest - level)[-TRACK_S // HOUR_S :], spread, HOUR_S)[-1]
    return Outlook(hourly.start_s, end_s, level, growth, shape, spread, state)


def growth_join(hourly: History, growths: tuple[float, float, float]) -> GrowthLog:
    """Return the stated growth, weighed against the slope of the history's days by how sure each is.

    The slope's error counts two forgetting times of the slow part as one day that tells: neighbours do not.
    """
    low, stated, high = (math.log1p(max(ratio, -0.99)) for ratio in growths)
    low_sd, high_sd = (stated - low) / Z90, (high - stated) / Z90
    span_s = len(hourly.request_s) * HOUR_S
    if span_s < GROWTH_LEAST_S:
        return GrowthLog(stated, stated, low_sd, high_sd)
    known = ~np.isnan(hourly.log_rate)
    days, place = np.unique(hourly.time_s[known] // DAY_S, return_inverse=True)
    means = np.bincount(place, hourly.log_rate[known]) / np.bincount(place)
    if len(days) < 2:  # a slope needs two
        return GrowthLog(stated, stated, low_sd, high_sd)
    month = (days - days.mean()) * DAY_S / MONTH_S
    slope = float(month @ means / (month @ month))
    scatter = float(np.std(means - means.mean() - slope * month))
    error = scatter * math.sqrt(12 / max(2.0, span_s / (2 * SLOW_S))) / (span_s / MONTH_S)
    prior = max((low_sd + high_sd) / 2, GROWTH_SD_LEAST)
    weight = prior**2 / (prior**2 + error**2)
    left = math.sqrt(1 - weight)
    return GrowthLog(stated, stated + weight * (slope - stated), low_sd * left, high_sd * left)


def fan_history(
    outlook: Outlook, service: str, months: Sequence[date], *, history: History, input_tok: float, output_tok: float
) -> DemandFan:
    """Return the fan of a fitted history; `input_tok` and `output_tok` stand in where it knows no lengths."""
    found = [_month_band(outlook, month) for month in months]
    low, middle, high = (tuple(min(math.exp(band[at]), DEMAND_MOST_REQUEST_S) for band, _ in found) for at in range(3))
    lengths = [history.mean_of(name) for name in ("input_tok", "output_tok")]
    return DemandFan(
        service=service,
        p10_request_s=low,
        p50_request_s=middle,
        p90_request_s=high,
        mean_ratio=float(np.mean([ratio for _, ratio in found])) if found else STATED_MEAN_RATIO,
        input_tok=input_tok if lengths[0] is None else lengths[0],
        output_tok=output_tok if lengths[1] is None else lengths[1],
        cache_hit_ratio=history.mean_of("cache_hit_ratio") or 0.0,
        top_client_ratio=history.mean_of("top_client_ratio"),
        basis="history",
        note=outlook.note,
    )


def _month_band(outlook: Outlook, month: date) -> tuple[tuple[float, float, float], float]:
    """Return P10, P50 and P90 of a month's busiest hour (log 1/s), and its mean rate over that P50."""
    start_s, end_s = (_unix_s(day) for day in (month_first(month), month_add(month, 1)))
    hours = np.arange(start_s, end_s, HOUR_S, dtype=np.float64)
    away_s = max(0.0, (start_s + end_s) / 2 - outlook.end_s)
    passed = away_s / MONTH_S
    one = ahead(outlook.state, outlook.spread, away_s)
    slow = one.mean - outlook.state.fast * math.exp(-away_s / outlook.spread.fast_s)
    medians = outlook.level + outlook.growth.at(passed) + slow + outlook.shape.at(hours)
    own = math.hypot(outlook.spread.fast_ratio, outlook.spread.burst_ratio)  # what averages out within the month
    level_var = outlook.spread.slow_ratio**2 * min(1.0, 2 * SLOW_S / outlook.span_s)
    low, p50, high = widened(
        peak_quantiles(medians, np.full(len(hours), own), outlook.spread.fast_s), one.slow_var + level_var
    )
    wider = known_factor(outlook.span_s, SLOW_S)
    below = math.hypot((p50 - low) * wider, Z90 * outlook.growth.low_sd * passed)
    above = math.hypot((high - p50) * wider, Z90 * outlook.growth.high_sd * passed)
    mean = float(np.mean(np.exp(medians + own**2 / 2 - p50)))
    return (p50 - below, p50, p50 + above), min(mean, 1.0)


def _unix_s(day: date) -> int:
    return int(datetime(day.year, day.month, day.day, tzinfo=UTC).timestamp())


# --- what people know better ------------------------------------------------------------------------------------------
def fan_with_events(fan: DemandFan, months: Sequence[date], events: Iterable[DemandEventFact]) -> DemandFan:
    """Return a fan with the events of its service: each multiplies the months that it touches.

    A month has its busiest hour while an event lifts demand, and outside of it where demand sinks: what lowers it
    counts only in months that it fills. Deviations of fan and events add as squares of logs.
    """
    own = [event for event in events if event.service == fan.service]
    if not own:
        return fan
    bands = list(zip(fan.p10_request_s, fan.p50_request_s, fan.p90_request_s, strict=True))
    for at, month in enumerate(months):
        for event in own:
            bands[at] = _multiplied(bands[at], _factors(event, month))
    p10, p50, p90 = zip(*bands, strict=True) if bands else ((), (), ())
    names = ", ".join(event.slug for event in own)
    return replace(fan, p10_request_s=p10, p50_request_s=p50, p90_request_s=p90, note=f"{fan.note}; events: {names}")


def _factors(event: DemandEventFact, month: date) -> tuple[float, float, float]:
    first, after = month_first(month), month_add(month, 1)
    low, middle, high = event.multiplier_low_ratio, event.multiplier_ratio, event.multiplier_high_ratio
    if event.starts_on <= first and after <= event.ends_on:
        return low, middle, high
    if event.ends_on <= first or after <= event.starts_on:
        return 1.0, 1.0, 1.0
    return max(low, 1.0), max(middle, 1.0), max(high, 1.0)


def _multiplied(band: tuple[float, float, float], factors: tuple[float, float, float]) -> tuple[float, float, float]:
    (p10, p50, p90), (low, middle, high) = band, factors
    if not (p10 > 0 and low > 0):  # no logs of nothing
        return p10 * low, p50 * middle, min(p90 * high, DEMAND_MOST_REQUEST_S)
    below = math.hypot(math.log(p50 / p10), math.log(middle / low))
    above = math.hypot(math.log(p90 / p50), math.log(high / middle))
    ends = (p50 * middle * math.exp(-below), p50 * middle, p50 * middle * math.exp(above))
    return ends[0], min(ends[1], DEMAND_MOST_REQUEST_S), min(ends[2], DEMAND_MOST_REQUEST_S)


def fan_with_overrides(fan: DemandFan, months: Sequence[date], overrides: Iterable[DemandOverrideFact]) -> DemandFan:
    """Return a fan with the overrides of its service: each replaces its months, the one that begins last wins."""
    own = sorted((one for one in overrides if one.service == fan.service), key=lambda one: (one.first_on, one.slug))
    bands = list(zip(fan.p10_request_s, fan.p50_request_s, fan.p90_request_s, strict=True))
    used = set()
    for at, month in enumerate(months):
        for one in own:
            if month_first(one.first_on) <= month_first(month) <= one.last_on:
                bands[at] = (one.p10_request_s, one.p50_request_s, one.p90_request_s)
                used.add(one)
    if not used:
        return fan
    p10, p50, p90 = zip(*bands, strict=True)
    words = ", ".join(f"{one.slug} by {one.author}" for one in own if one in used)
    return replace(fan, p10_request_s=p10, p50_request_s=p50, p90_request_s=p90, note=f"{fan.note}; overrides: {words}")
