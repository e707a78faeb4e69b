"""Invented histories for a few services of the demo: their forecast of the first month is what the demo states."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import UTC, date, datetime

import numpy as np

from fleet.models import Service
from scenarios.demands import history_store
from scenarios.forecast import MONTH_S, fan_history, outlook_fit
from scenarios.histories import HOUR_S, FloatArray, History
from scenarios.patterns import DAY_S

DAYS = 42
NAME = "invented for the demo"


@dataclass(frozen=True, slots=True)
class Invented:
    """What a made-up history looks like: swing of day and week, scatter (log rate), top client, cache hits. [-]"""

    seed: int
    day_swing: float
    week_swing: float
    scatter: float
    top_client_ratio: float
    cache_hit_ratio: float


DEMO_HISTORIES: Mapping[str, Invented] = {
    "chat": Invented(1, 0.55, 0.10, 0.08, 0.18, 0.45),
    "code-complete": Invented(2, 0.80, 0.45, 0.12, 0.27, 0.30),
    "deep-reason": Invented(3, 0.35, 0.05, 0.25, 0.41, 0.10),
}


def demo_histories_store(first: date) -> None:
    """Keep the invented histories of the demo's services, up to the first day of a month."""
    for service in Service.objects.filter(slug__in=DEMO_HISTORIES).order_by("slug"):
        history = history_invent(service, DEMO_HISTORIES[service.slug], first)
        history_store(service, history, name=NAME, owner=None, is_new=True, is_invented=True)


def history_invent(service: Service, like: Invented, first: date) -> History:
    """Return an invented history whose forecast for a month, P50, is the demand that its service states."""
    end_s = int(datetime(first.year, first.month, 1, tzinfo=UTC).timestamp())
    count = DAYS * DAY_S // HOUR_S
    rng = np.random.default_rng([like.seed, count])
    time_s = end_s - HOUR_S * np.arange(count, 0, -1, dtype=np.float64)
    hour = (time_s % DAY_S) / DAY_S
    weekend = (np.floor(time_s / DAY_S) + 3) % 7 >= 5
    log_rate = like.day_swing * np.sin(2 * np.pi * (hour - 0.3)) - like.week_swing * weekend
    log_rate += math.log1p(service.growth_ratio) * (time_s - end_s) / MONTH_S
    log_rate += _walk(rng, count, like.scatter, 3.0) + _walk(rng, count, 0.05, 14 * 24.0)
    drawn = History(
        end_s - count * HOUR_S,
        HOUR_S,
        np.exp(log_rate),
        top_client_ratio=np.clip(like.top_client_ratio + _walk(rng, count, 0.04, 12.0), 0.01, 0.95),
        cache_hit_ratio=np.clip(like.cache_hit_ratio + _walk(rng, count, 0.03, 24.0), 0.0, 0.95),
    )
    growths = (service.growth_low_ratio, service.growth_ratio, service.growth_high_ratio)
    lengths = {"input_tok": 0.0, "output_tok": 0.0}
    fan = fan_history(outlook_fit(drawn, growths), service.slug, (first,), history=drawn, **lengths)
    return replace(drawn, request_s=drawn.request_s * service.demand_request_s / fan.p50_request_s[0])


def _walk(rng: np.random.Generator, count: int, sd: float, forget_hours: float) -> FloatArray:
    """Return steps of an exponentially forgetting walk of one standard deviation."""
    keep = math.exp(-1 / forget_hours)
    steps = rng.standard_normal(count) * sd
    walk = np.empty(count)
    walk[0] = steps[0]
    for at in range(1, count):
        walk[at] = keep * walk[at - 1] + math.sqrt(1 - keep**2) * steps[at]
    return walk
