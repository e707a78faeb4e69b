"""When each region runs out, rack by rack, and nothing else: what a capacity query says. Values in, values out.

To know the headroom takes a linear program for every region, month and future. Whether a month is short can mostly be
told without: the hosts that one month's answer gives to each service serve so much in another month, in the same shares
of what stands then. Where that is enough for all, the month is not short, and no program is solved for it.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np

from accelerator import Band
from fleet.snapshot import FloatArray, IntArray
from scenarios.demand import month_label
from scenarios.futures import Future
from scenarios.placement import NOTICED_RATIO, ServedShare
from scenarios.plans import BoolArray, MonthBand, Problem
from scenarios.scopes import RegionScope, scopes_of
from scenarios.supply import Floor

SHORT_BELOW = 1 - 1e-9
"""Share of demand that can be served below which a month is short. [-]"""

SURELY = 1 + 1e-6
"""Share of every demand from which on a month is not short whatever the solver's tolerance. [-]"""


@dataclass(frozen=True, slots=True)
class RegionRunOut:
    """A region: the month in which it first goes short in each future, their number where it never does, and the band.

    Months are counted from the first one asked about. [month]
    """

    slug: str
    months: tuple[int, ...]
    run_out: MonthBand
    sentence: str


def site_hosts(problem: Problem, floor: Floor) -> IntArray:
    """Walk a future's racks through the months; return the hosts at each site, int64[T, sites, K]. [-]"""
    found = []
    for month in range(len(problem.months)):
        floor.arrive(month)
        found.append(floor.hosts(month))
    return np.stack(found)


def plan_run_outs(
    problem: Problem,
    *,
    expected: Future,
    expected_hosts: IntArray,
    futures: Sequence[Future],
    hosts: Sequence[IntArray],
) -> tuple[RegionRunOut, ...]:
    """Return when each region with services in scope runs out: the first month in which not all demand can be served.

    Parameters
    ----------
    problem : Problem
        The question; every service in scope is judged with its own region.
    expected, expected_hosts
        The expected future, and the hosts at each site in each month, int64[T, sites, K]: services without any host
        are named by it.
    futures, hosts
        The futures drawn, and the same of each.
    """
    found = []
    for scope in scopes_of(problem):
        served = ServedShare(len(scope.services), len(problem.snapshot.kinds))
        months = [_first_short(problem, scope, served, *world) for world in zip(futures, hosts, strict=True)]
        region = problem.snapshot.regions[scope.region]
        band = months_band(problem, np.array(months, dtype=np.int64), expected=len(problem.months))
        here = expected_hosts[:, scope.sites].sum(axis=1)
        homeless = homeless_services(problem, scope.services, expected, here)
        last = month_label(problem.months[-1])
        sentence = run_out_sentence(region.name, band, last) + homeless_sentence(problem, scope.services, homeless)
        found.append(RegionRunOut(region.slug, tuple(months), band, sentence))
    return tuple(found)


def first_of(problem: Problem, regions: Sequence[RegionRunOut]) -> MonthBand:
    """Return when the first of some regions runs out; within the horizon never, if there is none."""
    if not regions:
        return MonthBand(None, None, None)
    soonest = np.array([region.months for region in regions], dtype=np.int64).min(axis=0)
    return months_band(problem, soonest, expected=len(problem.months))


def _first_short(problem: Problem, scope: RegionScope, served: ServedShare, future: Future, hosts: IntArray) -> int:
    """Return the first month in which a region is short in one future, or the number of months."""
    usable = hosts[:, scope.sites].sum(axis=1) * (1 - problem.reserve_ratio)
    demand = future.demand_tok_s[scope.services].T
    rate = future.rate_tok_s[scope.services] * problem.allowed[scope.services].transpose(2, 0, 1)
    alone = np.einsum("tmk,tk->tm", rate, usable)
    surely = np.zeros(len(problem.months), dtype=bool)
    served.restart()
    for month in range(len(problem.months)):
        if surely[month]:
            continue
        if not (demand[month] > 0).any():
            continue
        if served.theta(rate_tok_s=rate[month], demand_tok_s=demand[month], hosts=usable[month]) < SHORT_BELOW:
            return month
        surely |= _enough(served.given(), usable[month], rate, usable, demand, alone)
    return len(problem.months)


def _enough(
    given: FloatArray, of_hosts: FloatArray, rate: FloatArray, usable: FloatArray, demand: FloatArray, alone: FloatArray
) -> FloatArray:
    """Return in which months hosts given to services in the shares of one month serve every demand, bool[T]."""
    total = np.maximum(given.sum(axis=0), of_hosts)  # what a solver's tolerance gave away too much is not there
    share = np.divide(given, total, out=np.zeros_like(given), where=total > 0)
    output = np.einsum("tmk,mk,tk->tm", rate, share, usable)
    load = np.divide(demand, alone, out=np.where(demand > 0, np.inf, 0.0), where=alone > 0)
    noticed = load > NOTICED_RATIO * load.max(axis=1, keepdims=True)  # as the program leaves services out
    noticed |= np.isinf(load)
    enough: FloatArray = ((output >= SURELY * demand) | ~noticed).all(axis=1)
    return enough


def homeless_services(problem: Problem, services: IntArray, expected: Future, hosts: IntArray) -> BoolArray:
    """Return which services none of a region's hosts, int64[T, K], can serve in which month, bool[services, T]."""
    able = (expected.rate_tok_s[services] > 0)[:, :, None] & problem.allowed[services]
    return np.logical_not((able & (hosts.T > 0)[None]).any(axis=1), dtype=bool)


def homeless_sentence(problem: Problem, services: IntArray, homeless: BoolArray) -> str:
    """Return a sentence for each service that some months leave without any host; empty if there is none."""
    lines = []
    for at in np.flatnonzero(homeless.any(axis=1)):
        months = np.flatnonzero(homeless[at])
        first, last = (month_label(problem.months[int(end)]) for end in (months[0], months[-1]))
        slug = problem.snapshot.services[services[at]].slug
        lines.append(f" No host of the region can serve {slug} in {len(months)} months from {first} to {last}.")
    return "".join(lines)


def band_of(samples: FloatArray, *, expected: float) -> Band:
    """Return P10, P50 and P90 over the futures; without any, the expected future's own figure as all three."""
    if not len(samples):
        return Band.exact(float(expected))
    return Band(*(float(value) for value in np.quantile(samples, (0.1, 0.5, 0.9))))


def months_band(problem: Problem, drawn: IntArray, *, expected: int) -> MonthBand:
    """Return P10, P50 and P90 of a month over the futures; `len(problem.months)` stands for: not within the horizon."""
    sample = np.sort(drawn) if len(drawn) else np.array([expected])
    labels = [*(month_label(day) for day in problem.months), None]
    return MonthBand(*(labels[int(sample[math.ceil(q * len(sample)) - 1])] for q in (0.1, 0.5, 0.9)))


class EndBand(Protocol):
    """Ends of a band in time, as months or days; None is not within the horizon."""

    @property
    def p10(self) -> str | None: ...
    @property
    def p50(self) -> str | None: ...
    @property
    def p90(self) -> str | None: ...


def run_out_sentence(name: str, run_out: EndBand, last: str) -> str:
    """Return when something runs out, as a sentence; `last` is the last month asked about."""
    if run_out.p10 is None:
        return f"{name} does not run out by {last}, not even in one future in ten."
    early = f"; one future in ten runs out by {run_out.p10}" if run_out.p10 != run_out.p50 else ""
    if run_out.p50 is None:
        return f"{name} lasts beyond {last} in half of the futures{early}."
    late = f", one in ten lasts beyond {run_out.p90 or last}" if run_out.p90 != run_out.p50 else ""
    return f"{name} runs out by {run_out.p50} in half of the futures{early}{late}."
