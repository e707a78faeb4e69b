"""How late deliveries come. Values in, values out."""

import math
from datetime import date, timedelta
from typing import Protocol

from accelerator.units import Z90

SLIP_LEAST_DAYS = 0.01  # a median slip below this is none
SLIP_FARTHEST_DAYS = 73_000.0  # two centuries: beyond every horizon; a wide band's far end leaves the range of integers


class Promised(Protocol):
    """What is promised for a day, and how late it may be."""

    @property
    def expected_on(self) -> date:
        """Return the day named."""

    @property
    def slip_p50_days(self) -> float:
        """Return by how much half of all are late. [d]"""

    @property
    def slip_p90_days(self) -> float:
        """Return by how much one in ten is late. [d]"""


def slip_days(delivery: Promised, z: float) -> float:
    """Return how late a delivery comes at a standard normal deviate. [d]

    Lognormal through P50 and P90 where half of the deliveries are late at all; else the late half of a normal.
    """
    if delivery.slip_p50_days >= SLIP_LEAST_DAYS:
        slip = delivery.slip_p50_days * math.exp(z / Z90 * math.log(delivery.slip_p90_days / delivery.slip_p50_days))
        return min(slip, SLIP_FARTHEST_DAYS)
    return max(0.0, z) / Z90 * delivery.slip_p90_days


def slip_band(delivery: Promised, last: date) -> tuple[date, date, date]:
    """Return P10, P50 and P90 of the day on which it comes, none after `last`."""
    late_days = (slip_days(delivery, z) for z in (-Z90, 0.0, Z90))
    p10, p50, p90 = (min(delivery.expected_on + timedelta(days=round(days)), last) for days in late_days)
    return p10, p50, p90
