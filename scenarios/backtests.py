"""How good forecasts of a history would have been: made at rolling origins, from what was known there alone.

Bands are judged by how often they hold what came (80 % is right), forecasts by their pinball loss at P10, P50 and P90,
beside two forecasts that anybody can make: the last rate, and the rate a day before, both with the spread of their own
past errors. Values in, values out.
"""

import math
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np

from accelerator.units import Z90
from scenarios.histories import HOUR_S, FloatArray, History
from scenarios.patterns import (
    DAY_S,
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

WINDOW_LEAST_S = 600  # of what is forecast; shorter windows are put together
HORIZONS_S = (600, 1_800, 3_600, 10_800, 21_600, 43_200, 86_400, 172_800)
WINDOW, PEAK = "window", "peak"
WHAT = {WINDOW: "one window", PEAK: "busiest hour of the next day"}
REFIT_S, REFITS_MOST = 21_600, 40
ORIGINS_MOST = 336  # about: one an hour for two weeks, fewer an hour in longer histories
SPAN_MOST_S = 60 * DAY_S  # of a long history the last part is tested
FIRST_RATIO = 0.6  # the first part of a series, on which priors and learning rates were found
FIRST, REST = "first", "rest"
WARM_S, WARM_SHORT_S = 2 * DAY_S, 21_600  # before the first origin that counts; in histories up to two days
PEAK_LEAST_S = 6 * DAY_S  # history that makes a test of busiest hours
HORIZON_MOST_RATIO = 0.2  # of the history
TRACK_S = 7 * DAY_S  # of the past that a state still knows of
ERRORS_LEAST = 5  # that a naive forecast has seen before it has a band
MEMORY_HOURS = 24.0  # how long a restless hour widens the bands
MEMORY_PRIOR, MEMORY_ALWAYS = 8.0, 4.0  # hours of ordinary scatter that the memory begins with, and never forgets
SQUARE_MOST, WIDE_MOST = 9.0, 2.5  # no hour tells more; no memory widens more, or narrows more than by half
QUANTILES = (0.1, 0.5, 0.9)
LEARN_RATIO, LEARN_MOST = 0.1, 4.0  # what a miss widens a side by, at horizons up to an hour; the most in all


@dataclass(frozen=True, slots=True)
class Score:
    """How forecasts at one horizon fared on one part of a series.

    `part` is the first six tenths, where priors were found, or the rest; losses are mean pinball losses over P10, P50
    and P90, divided by the mean rate, the same origins for each.
    """

    series: str
    part: str
    what: str
    horizon_s: int
    origins: int
    coverage_ratio: float
    below_ratio: float
    above_ratio: float
    loss_ratio: float
    last_loss_ratio: float | None
    day_before_loss_ratio: float | None


@dataclass(frozen=True, slots=True)
class _Try:
    """One forecast, in logs of the rate, and what came; `last` and `before` are what naive forecasts say, or NaN."""

    origin: int
    known_at: int
    p50: float
    below: float
    above: float
    came: float
    last: float
    before: float


@dataclass(frozen=True, eq=False)
class _Fit:
    """What was known at an origin: level and shape of every window, also of those to come, and the spread."""

    base: FloatArray
    spread: Spread


def backtest(history: History, series: str) -> list[Score]:
    """Return the scores of a history by horizon and part; none if it is too short for a test."""
    tested = history.last(SPAN_MOST_S)
    tested = tested.coarser(_window_s(tested.window_s))
    window_s, span_s = tested.window_s, len(tested.request_s) * tested.window_s
    warm_s = WARM_S if span_s > WARM_S else WARM_SHORT_S
    if span_s < 2 * warm_s:
        return []
    cut, mean = int(FIRST_RATIO * len(tested.request_s)), float(np.nanmean(tested.request_s))
    scores = []
    for (what, horizon_s), tries in _tries(tested, span_s).items():
        naive = (_naive([one.last for one in tries], tries), _naive([one.before for one in tries], tries))
        learned = list(zip(tries, _learned(tries, horizon_s, origin_hours(span_s)), *naive, strict=True))
        for part in (FIRST, REST):
            some = [
                row
                for row in learned
                if row[0].origin * window_s >= warm_s
                and (row[0].known_at < cut if part == FIRST else row[0].origin >= cut - 1)
            ]
            if some:
                scores.append(_score(series, part, what, horizon_s, some, mean))
    return scores


def origin_hours(span_s: int) -> int:
    """Return how many hours lie between two origins of a history. [h]"""
    return max(1, -(-span_s // (HOUR_S * ORIGINS_MOST)))


def _window_s(window_s: int) -> int:
    """Return the window in which a history is tested: ten minutes or a little more, where its own are shorter. [s]"""
    return next(one for one in range(window_s, HOUR_S + 1, window_s) if one >= WINDOW_LEAST_S and HOUR_S % one == 0)


# --- forecasts at origins ---------------------------------------------------------------------------------------------
def _tries(history: History, span_s: int) -> dict[tuple[str, int], list[_Try]]:
    """Return every forecast with what came of it, by what it is about and its horizon."""
    window_s, log_rate = history.window_s, history.log_rate
    horizons = [h for h in HORIZONS_S if h % window_s == 0 and h <= HORIZON_MOST_RATIO * span_s]
    tries: dict[tuple[str, int], list[_Try]] = {(WINDOW, horizon_s): [] for horizon_s in horizons}
    day, memory = DAY_S // window_s, _Memory(origin_hours(span_s))
    for origin, state, fit in _origins(history, span_s):
        wide, span = memory.wide(origin), (origin + 1) * window_s
        last = _last_known(log_rate, origin)
        for horizon_s in sorted({HOUR_S, *horizons}):
            at = origin + horizon_s // window_s
            if at >= len(log_rate) or np.isnan(log_rate[at]):
                continue
            one = ahead(state, fit.spread, horizon_s)
            p50, sd = float(fit.base[at] + one.mean), one.sd * known_factor(span, horizon_s)
            came, before = float(log_rate[at]), at - day * -(-horizon_s // DAY_S)
            if horizon_s == HOUR_S:
                memory.see(at, (came - p50) / sd)
            if horizon_s in horizons:
                day_before = float(log_rate[before]) if before >= 0 else math.nan
                reach = Z90 * sd * wide
                tries[WINDOW, horizon_s].append(_Try(origin, at, p50, reach, reach, came, last, day_before))
        came = _peak_after(history, origin) if span_s >= PEAK_LEAST_S else math.nan
        if not math.isnan(came):
            low, p50, high = _peak_said(history, fit, state, origin)
            wide *= known_factor(span, DAY_S)
            day_before = _peak_after(history, origin - day) if origin >= day else math.nan
            said = _Try(
                *(origin, origin + day, p50, (p50 - low) * wide, (high - p50) * wide),
                *(came, math.nan, day_before),
            )
            tries.setdefault((PEAK, DAY_S), []).append(said)
    return tries


def _origins(history: History, span_s: int) -> Iterator[tuple[int, State, _Fit]]:
    """Yield origins with what was known there; the fit is made anew every six hours, forty times at most."""
    window_s, log_rate, time_s = history.window_s, history.log_rate, history.time_s
    step = HOUR_S // window_s * origin_hours(span_s)
    often = step * max(REFIT_S // (HOUR_S * origin_hours(span_s)), -(-span_s // (step * window_s) // REFITS_MOST))
    begin = (WARM_SHORT_S if span_s <= WARM_S else 2 * WARM_SHORT_S) // window_s
    for start in range(begin, len(log_rate) - 1, often):
        known = log_rate[: start + 1]
        if np.isnan(known).all():
            continue
        shape = shape_fit(known, time_s[: start + 1], window_s)
        offsets = shape.at(time_s)
        base = offsets + float(np.nanmean(known - offsets[: start + 1]))
        spread = spread_fit(known - base[: start + 1], window_s, is_shaped=bool(shape.day.any()))
        first, last = max(0, start - TRACK_S // window_s), min(start + often, len(log_rate) - 1)
        states = track(log_rate[first:last] - base[first:last], spread, window_s)
        for origin in range(start, last, step):
            yield origin, states[origin - first], _Fit(base, spread)


def _peak_after(history: History, origin: int) -> float:
    """Return the log of the busiest of the 24 hours after a window; NaN where a fifth of them is not known."""
    per_hour, hours = HOUR_S // history.window_s, DAY_S // HOUR_S
    next_day = history.request_s[origin + 1 : origin + 1 + hours * per_hour]
    if len(next_day) < hours * per_hour:
        return math.nan
    means = next_day.reshape(hours, per_hour).mean(axis=1)
    known = means[~np.isnan(means)]
    return math.log(max(float(known.max()), 0.5 / HOUR_S)) if len(known) >= 0.8 * hours else math.nan


def _peak_said(history: History, fit: _Fit, state: State, origin: int) -> tuple[float, float, float]:
    """Return P10, P50 and P90 of that busiest hour (log 1/s)."""
    per_hour = HOUR_S // history.window_s
    steps = [ahead(state, fit.spread, (hour + 0.5) * HOUR_S) for hour in range(DAY_S // HOUR_S)]
    places = origin + 1 + np.arange(len(steps)) * per_hour
    means = np.array([fit.base[at : at + per_hour].mean() + one.mean for at, one in zip(places, steps, strict=True)])
    own = fit.spread.burst_ratio**2 * (1 - 1 / per_hour)  # bursts average out within the hour
    sd = np.sqrt([max(one.other_var - own, 1e-12) for one in steps])
    return widened(peak_quantiles(means, sd, fit.spread.fast_s), steps[-1].slow_var)


def _last_known(log_rate: FloatArray, origin: int) -> float:
    while origin >= 0 and np.isnan(log_rate[origin]):
        origin -= 1
    return float(log_rate[origin]) if origin >= 0 else math.nan


# --- bands that learn from what came ----------------------------------------------------------------------------------
class _Memory:
    """How restless the last day was: mean square of one-hour errors over their spread, slowly forgotten."""

    def __init__(self, hours: int) -> None:
        self._keep = math.exp(-hours / MEMORY_HOURS)
        self._waiting: list[tuple[int, float]] = []
        self._squares = self._weight = MEMORY_PRIOR

    def see(self, known_at: int, error: float) -> None:
        """Take note of an error, over its standard deviation, that is known from a window on."""
        self._waiting.append((known_at, min(error**2, SQUARE_MOST)))

    def wide(self, origin: int) -> float:
        """Return what bands are widened by at an origin. [-]"""
        while self._waiting and self._waiting[0][0] <= origin:
            self._squares = self._squares * self._keep + self._waiting.pop(0)[1]
            self._weight = self._weight * self._keep + 1
        square = (self._squares + MEMORY_ALWAYS) / (self._weight + MEMORY_ALWAYS)
        return min(max(math.sqrt(square), 0.5), WIDE_MOST)


def _learned(tries: Sequence[_Try], horizon_s: int, hours: int) -> Iterator[tuple[float, float]]:
    """Yield what each band's sides are widened by: every miss that is known widens its side, quiet narrows it again.

    A side is never narrower than the fit says: a quiet week is no promise.
    """
    rate = LEARN_RATIO * hours * min(1.0, HOUR_S / horizon_s) ** 0.5
    low = high = 0.0  # logs
    done = 0
    for one in tries:
        while tries[done].known_at <= one.origin:
            past = tries[done]
            low += rate * ((past.came < past.p50 - past.below * math.exp(low)) - 0.1)
            high += rate * ((past.came > past.p50 + past.above * math.exp(high)) - 0.1)
            low, high = (min(max(side, 0.0), math.log(LEARN_MOST)) for side in (low, high))
            done += 1
        yield math.exp(low), math.exp(high)


def _naive(said: Sequence[float], tries: Sequence[_Try]) -> Iterator[tuple[float, float, float] | None]:
    """Yield P10, P50 and P90 of a naive forecast: what it says, and the quantiles of its errors so far; or None."""
    errors: list[float] = []
    done = 0
    for at, one in enumerate(tries):
        while tries[done].known_at <= one.origin:
            if not math.isnan(said[done]):
                errors.append(tries[done].came - said[done])
            done += 1
        if len(errors) < ERRORS_LEAST or math.isnan(said[at]):
            yield None
        else:
            low, p50, high = np.quantile(errors, QUANTILES)
            yield said[at] + float(low), said[at] + float(p50), said[at] + float(high)


# --- scores -----------------------------------------------------------------------------------------------------------
_Row = tuple[_Try, tuple[float, float], tuple[float, float, float] | None, tuple[float, float, float] | None]


def _score(series: str, part: str, what: str, horizon_s: int, rows: Sequence[_Row], mean: float) -> Score:
    bands = [(one.p50 - one.below * low, one.p50, one.p50 + one.above * high) for one, (low, high), *_ in rows]
    came = [one.came for one, *_ in rows]
    below = float(np.mean([now < band[0] for now, band in zip(came, bands, strict=True)]))
    above = float(np.mean([now > band[2] for now, band in zip(came, bands, strict=True)]))
    return Score(
        series=series,
        part=part,
        what=what,
        horizon_s=horizon_s,
        origins=len(rows),
        coverage_ratio=1 - below - above,
        below_ratio=below,
        above_ratio=above,
        loss_ratio=_loss(bands, came) / mean,
        last_loss_ratio=_paired([row[2] for row in rows], came, mean),
        day_before_loss_ratio=_paired([row[3] for row in rows], came, mean),
    )


def _paired(bands: Sequence[tuple[float, float, float] | None], came: Sequence[float], mean: float) -> float | None:
    """Return the loss of a naive forecast, or None where it could not answer for every origin."""
    said = [band for band in bands if band is not None]
    return _loss(said, came) / mean if len(said) == len(came) else None


def _loss(bands: Sequence[tuple[float, float, float]], came: Sequence[float]) -> float:
    """Return the mean pinball loss over the three quantiles. [1/s]"""
    said, truth = np.exp(np.array(bands)), np.exp(np.array(came))[:, None]
    over = truth - said
    quantiles = np.array(QUANTILES)
    return float(np.mean(np.maximum(quantiles * over, (quantiles - 1) * over)))
