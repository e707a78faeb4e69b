"""What the past of a request rate says: its shape over day and week, how it scatters, and where it stands.

    log rate(t) = level + day(t) + week(t) + slow(t) + fast(t) + burst(t)

`day` are three harmonics and `week` an offset for each weekday, each shrunk as far as its own scatter from day to day
(or week to week) asks for. `slow` and `fast` are exponentially forgetting walks, `burst` is new in each window. Bursts
and the fast part average out within a month, the slow part does not. Values in, values out.
"""

import math
from dataclasses import dataclass

import numpy as np
from scipy.optimize import brentq, least_squares
from scipy.special import log_ndtr, stdtrit

from accelerator.units import Z90
from scenarios.histories import HOUR_S, FloatArray

DAY_S, WEEK_S = 86_400, 604_800
HARMONICS = 3  # 24, 12 and 8 hours
DAYS_LEAST, WEEKS_LEAST = 2, 2  # that a shape over the day, over the week, needs
KNOWN_LEAST_RATIO = 0.8  # of a day's windows, for the day to tell of the shape
SLOW_S = 14 * DAY_S  # forgetting time of the slow part; assumed: no short history tells it
LAGS_S = (600, 1200, 1800, 3600, 5400, 7200, 10800, 14400, 21600, 28800, 43200, 64800, 86400, 129600, 172800)
DOF_LEAST = 1.5


@dataclass(frozen=True, slots=True)
class Spread:
    """How a log rate scatters: standard deviations, about shares of the rate [-], and forgetting times [s]."""

    burst_ratio: float
    fast_ratio: float
    fast_s: float
    slow_ratio: float


# Where the fit of a spread begins and to what it is drawn, with a shape over the day and without one; found on the
# first six tenths of published series, see docs/models/demand.md.
PRIOR_SHAPED = Spread(burst_ratio=0.06, fast_ratio=0.22, fast_s=7_200.0, slow_ratio=0.15)
PRIOR_PLAIN = Spread(burst_ratio=0.06, fast_ratio=0.45, fast_s=10_800.0, slow_ratio=0.25)
PRIOR_WIDTH = np.array([1.4, 1.0, 0.5, 1.4])  # of the logs of burst^2, fast^2, fast_s and slow^2


@dataclass(frozen=True, eq=False)
class Shape:
    """Offsets of a log rate over the day (2 x HARMONICS coefficients) and by weekday, Monday first (7)."""

    day: FloatArray
    week: FloatArray

    def at(self, time_s: FloatArray) -> FloatArray:
        """Return the offsets at Unix times. [-]"""
        weekday = (np.floor(time_s / DAY_S).astype(np.int64) + 3) % 7  # 1970-01-01 was a Thursday
        return np.asarray(_waves(time_s) @ self.day + self.week[weekday], dtype=np.float64)


NO_SHAPE = Shape(np.zeros(2 * HARMONICS), np.zeros(7))


def _waves(time_s: FloatArray) -> FloatArray:
    angle = 2 * np.pi * (time_s % DAY_S) / DAY_S
    return np.column_stack([turn(k * angle) for k in range(1, HARMONICS + 1) for turn in (np.cos, np.sin)])


def shape_fit(log_rate: FloatArray, time_s: FloatArray, window_s: int) -> Shape:
    """Return the shape that a log rate in equal windows supports; what it cannot tell is flat. NaN: not known."""
    day = _day_fit(log_rate, time_s, window_s)
    rest = log_rate - Shape(day, np.zeros(7)).at(time_s)
    return Shape(day, _week_fit(rest, time_s))


def _day_fit(log_rate: FloatArray, time_s: FloatArray, window_s: int) -> FloatArray:
    windows = DAY_S // window_s
    found: list[FloatArray] = []
    for end in range(len(log_rate), windows - 1, -windows):  # whole days, back from the last window
        part = slice(end - windows, end)
        known = ~np.isnan(log_rate[part])
        if known.mean() >= KNOWN_LEAST_RATIO:
            drift = (time_s[part][known] - time_s[part].mean()) / DAY_S
            columns = np.column_stack([np.ones(len(drift)), drift, _waves(time_s[part][known])])
            found.append(np.linalg.lstsq(columns, log_rate[part][known], rcond=None)[0][2:])
    if len(found) < DAYS_LEAST:
        return np.zeros(2 * HARMONICS)
    waves: FloatArray = np.array(found).reshape(len(found), HARMONICS, 2)
    noise = waves.var(axis=0, ddof=1).sum(axis=1) / len(found)
    mean: FloatArray = waves.mean(axis=0)
    return np.asarray((mean * _kept(noise, (mean**2).sum(axis=1))[:, None]).ravel(), dtype=np.float64)


def _week_fit(rest: FloatArray, time_s: FloatArray) -> FloatArray:
    if len(rest) == 0 or time_s[-1] - time_s[0] < WEEKS_LEAST * WEEK_S - DAY_S:
        return np.zeros(7)
    known = ~np.isnan(rest)
    days, place = np.unique(np.floor(time_s[known] / DAY_S).astype(np.int64), return_inverse=True)
    means = np.bincount(place, rest[known]) / np.bincount(place)
    weekday = (days + 3) % 7
    counts = np.bincount(weekday, minlength=7)
    if counts.min() < WEEKS_LEAST:
        return np.zeros(7)
    offsets = np.bincount(weekday, means, minlength=7) / counts
    offsets -= offsets.mean()
    within = float(np.sum((means - means.mean() - offsets[weekday]) ** 2)) / max(len(days) - 7, 1)
    return np.asarray(
        offsets * _kept(within * float(np.mean(1 / counts)), float(np.mean(offsets**2))), dtype=np.float64
    )


def _kept(noise: FloatArray | float, power: FloatArray | float) -> FloatArray:
    """Return the share of a mean that is kept, from the variance of that mean and its square (James and Stein)."""
    share: FloatArray = np.maximum(0.0, 1 - np.asarray(noise) / (np.asarray(power) + 1e-12))
    return share


def spread_fit(rest: FloatArray, window_s: int, *, is_shaped: bool) -> Spread:
    """Return the spread of a log rate without level and shape, from how far it moves within 15 lags.

    The size of a move is taken where 80 % of moves are smaller, since that is what bands speak of.
    """
    start = PRIOR_SHAPED if is_shaped else PRIOR_PLAIN
    first = np.log([start.burst_ratio**2, start.fast_ratio**2, start.fast_s, start.slow_ratio**2])
    lags_s, moves, weights = [], [], []
    for count in sorted({max(1, round(lag_s / window_s)) for lag_s in LAGS_S}):
        step = rest[count:] - rest[:-count]
        step = step[~np.isnan(step)]
        if count < len(rest) / 2 and len(step) > 10:
            lags_s.append(float(count * window_s))
            moves.append(max((float(np.quantile(np.abs(step), 0.8)) / Z90) ** 2 / 2, 1e-8))
            weights.append(len(rest) * window_s / max(count * window_s, 7_200))
    if not lags_s:
        return start
    lag, move = np.array(lags_s), np.array(moves)
    weight = np.sqrt(np.array(weights) / len(lag))

    def miss(values: FloatArray) -> FloatArray:
        burst, fast, fast_s, slow = np.exp(values)
        said = burst + fast * (1 - np.exp(-lag / fast_s)) + slow * (1 - np.exp(-lag / SLOW_S))
        return np.concatenate([np.log(said / move) * weight, (values - first) / PRIOR_WIDTH])

    burst, fast, fast_s, slow = np.exp(least_squares(miss, first).x)
    return Spread(math.sqrt(burst), math.sqrt(fast), float(fast_s), math.sqrt(slow))


@dataclass(frozen=True, slots=True)
class State:
    """Where the fast and the slow part stand after a window, with their variances and covariance (log rate). [-]"""

    fast: float
    slow: float
    fast_var: float
    both_var: float
    slow_var: float


def track(rest: FloatArray, spread: Spread, window_s: int) -> list[State]:
    """Return where the two parts stand after each window, by the Kalman filter; a window not known changes little."""
    fast_keep, slow_keep = math.exp(-window_s / spread.fast_s), math.exp(-window_s / SLOW_S)
    fast_all, slow_all, burst = spread.fast_ratio**2, spread.slow_ratio**2, spread.burst_ratio**2
    fast, slow, ff, fs, ss = 0.0, 0.0, fast_all, 0.0, slow_all
    states = []
    for seen in rest.tolist():
        fast, slow = fast * fast_keep, slow * slow_keep
        ff = fast_keep**2 * ff + fast_all * (1 - fast_keep**2)
        ss = slow_keep**2 * ss + slow_all * (1 - slow_keep**2)
        fs *= fast_keep * slow_keep
        if not math.isnan(seen):
            to_fast, to_slow = ff + fs, fs + ss
            total = to_fast + to_slow + burst
            error = seen - fast - slow
            fast, slow = fast + to_fast / total * error, slow + to_slow / total * error
            ff, fs, ss = ff - to_fast**2 / total, fs - to_fast * to_slow / total, ss - to_slow**2 / total
        states.append(State(fast, slow, ff, fs, ss))
    return states


@dataclass(frozen=True, slots=True)
class Ahead:
    """A log rate some time ahead, without level and shape: mean, and variances of its slow part and of the rest."""

    mean: float
    slow_var: float
    other_var: float

    @property
    def sd(self) -> float:
        """Standard deviation of the rate in one window. [-]"""
        return math.sqrt(self.slow_var + self.other_var)


def ahead(state: State, spread: Spread, horizon_s: float) -> Ahead:
    """Return what a state says of a window `horizon_s` later."""
    fast_keep, slow_keep = math.exp(-horizon_s / spread.fast_s), math.exp(-horizon_s / SLOW_S)
    slow_var = slow_keep**2 * state.slow_var + spread.slow_ratio**2 * (1 - slow_keep**2)
    other = fast_keep**2 * state.fast_var + spread.fast_ratio**2 * (1 - fast_keep**2)
    other += 2 * fast_keep * slow_keep * state.both_var + spread.burst_ratio**2
    mean = fast_keep * state.fast + slow_keep * state.slow
    return Ahead(mean=mean, slow_var=max(slow_var, 0.0), other_var=max(other, 0.0))


def known_factor(span_s: float, horizon_s: float) -> float:
    """Return by how much a band is wider since its spread is estimated from `span_s` of history. [-]

    Student's t over the normal distribution at P90; one degree of freedom for each two horizons of history, less one.
    """
    return float(stdtrit(max(DOF_LEAST, span_s / max(2 * horizon_s, 7_200) - 1), 0.9) / Z90)


def peak_quantiles(medians: FloatArray, sd: FloatArray, forget_s: float) -> tuple[float, float, float]:
    """Return P10, P50 and P90 of the largest of hourly log rates.

    Hours scatter about their medians by `sd` and are alike for `forget_s`: they count as sqrt(1 - r^2) hours each, r
    their correlation from one to the next. That share is within 0.06 standard deviations of simulated maxima of a
    month for forgetting times of one to six hours; see docs/models/demand.md.
    """
    share = math.sqrt(1 - math.exp(-2 * HOUR_S / forget_s))
    low, high = float(np.min(medians)) - 10 * float(np.max(sd)) - 1, float(np.max(medians)) + 10 * float(np.max(sd)) + 1

    def short(level: float, quantile: float) -> float:
        return share * float(np.sum(log_ndtr((level - medians) / sd))) - math.log(quantile)

    p10, p50, p90 = (float(brentq(short, low, high, args=(quantile,), xtol=1e-5)) for quantile in (0.1, 0.5, 0.9))
    return p10, p50, p90


def widened(band: tuple[float, float, float], slow_var: float) -> tuple[float, float, float]:
    """Return a band of logs that also scatters by what all hours share."""
    low, p50, high = band
    more = Z90**2 * slow_var
    return p50 - math.sqrt((p50 - low) ** 2 + more), p50, p50 + math.sqrt((high - p50) ** 2 + more)
