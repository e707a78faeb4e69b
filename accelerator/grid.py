"""The grid of rates that ratings lie on, and how the last one that holds is found with few trials."""

import math
from collections.abc import Callable

STEP_RATIO, STEPS, LEAST_REQUEST_S = 1.01, 2048, 1e-4
"""Grid of rates per chip: step, number of steps, least rate. [-], [-], [1/s]"""

STRAIN_LEAST, STRAIN_MOST = 0.5, 1.25
"""Strain as it counts where a line is drawn: far from the limit it says no more. [-]"""

STRAIN_SLOPE = 1.5
"""Per cent by which strain grows with one per cent of the rate, where only one trial is known. [-]"""


def grid_request_s(step: int) -> float:
    """Return a rate per chip of the grid. [1/s]"""
    return LEAST_REQUEST_S * STEP_RATIO**step


def grid_step(request_s: float) -> int:
    """Return the last step of the grid that is not above a rate per chip."""
    return min(max(math.floor(math.log(request_s / LEAST_REQUEST_S) / math.log(STEP_RATIO)), -1), STEPS - 1)


def highest_step(
    strain: Callable[[int], float],
    *,
    above: int,
    most: int,
    near: int | None = None,
    width: int = 1,
    slack: float = 0.0,
) -> int:
    """Return the highest step that holds; `above` if none above it does.

    The next step that is tried is where a straight line through the logarithms at the last step that holds and the
    first that does not meets the limit. What stays while the other moves twice running counts half as much each time,
    so that the line does not creep (Illinois rule).

    Parameters
    ----------
    strain : callable
        How much a step is strained (``Trial.strain``): it holds up to 1. [-]
    above : int
        A step taken to hold; -1 for none.
    most : int
        No step above this one is tried.
    near : int, optional
        Where to start; the step after `above` if left out, and nothing else if that does not hold.
    width : int
        How far the step that holds and the one that does not may lie apart in the end.
    slack : float
        A step that holds so close to its limit, in the logarithm, is the highest. [log]
    """
    low, high, stride = above, most + 1, 0
    low_log = high_log = math.nan
    last_held: bool | None = None
    at = above + 1 if near is None else min(max(near, above + 1), most)
    while high - low > width:
        found_log = math.log(min(max(strain(at), STRAIN_LEAST), STRAIN_MOST))
        held = found_log <= 0
        if held and found_log > -slack:
            return at
        if held:
            low, low_log = at, found_log
            high_log = high_log / 2 if last_held else high_log
        else:
            high, high_log = at, found_log
            low_log = low_log / 2 if last_held is False else low_log
        last_held = held
        if math.isnan(low_log) or math.isnan(high_log):
            stride = max(math.ceil(abs(found_log) / (STRAIN_SLOPE * math.log(STEP_RATIO))), 2 * stride, 1)
            at = min(low + stride, high - 1) if held else max(high - stride, low + 1)
        else:
            share = low_log / (low_log - high_log)
            at = min(max(low + round(share * (high - low)), low + 1), high - 1)
    return low
