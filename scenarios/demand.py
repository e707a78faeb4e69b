"""Demand of the busiest hour by month, and the calendar that planners count in."""

from collections.abc import Iterator
from datetime import date

import numpy as np

from accelerator.units import Z90
from fleet.snapshot import FloatArray, ServiceFact

DEMAND_MOST_REQUEST_S = 1e12  # no service of this world; growth over decades would leave the range of numbers


def month_first(day: date) -> date:
    """Return the first day of a day's month."""
    return day.replace(day=1)


def month_add(day: date, months: int) -> date:
    """Return the first day of the month so many months later."""
    count = day.year * 12 + day.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)


def month_label(day: date) -> str:
    """Return a month as YYYY-MM."""
    return f"{day:%Y-%m}"


def months_between(start: date, end: date) -> int:
    """Return how many months lie between the months of two days. [month]"""
    return (end.year - start.year) * 12 + end.month - start.month


def months_list(first: date, last: date) -> tuple[date, ...]:
    """Return the first days of every month from one day's to another's, both included."""

    def walk() -> Iterator[date]:
        for count in range(months_between(first, last) + 1):
            yield month_add(month_first(first), count)

    return tuple(walk())


def growth_at(*, mid: float, low: float, high: float, z: float) -> float:
    """Return the growth per month at a standard normal deviate. [1/month]

    Two half-normals joined at the middle: z = -1.2816 gives `low` (P10), 0 gives `mid`, 1.2816 gives `high` (P90).
    """
    return max(mid + z * (high - mid if z > 0 else mid - low) / Z90, -0.99)


def demand_request_s(service: ServiceFact, months: tuple[date, ...], *, growth_ratio: float) -> FloatArray:
    """Return the requests per second of the busiest hour in each month, float64[T]. [1/s]

    Compound growth from the month in which the demand was measured: d(t) = d0 (1 + g)^t. Months before it are not
    smaller: the measured demand holds until then, since nothing is known about the past.
    """
    passed = np.array([max(0, months_between(service.demand_on, month)) for month in months], dtype=np.float64)
    with np.errstate(over="ignore"):
        grown = service.demand_request_s * (1 + growth_ratio) ** passed
    return np.minimum(grown, DEMAND_MOST_REQUEST_S)
