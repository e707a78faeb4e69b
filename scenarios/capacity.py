"""How long the fleet lasts: supply against demand, month by month, with what binds. Values in, values out."""

import math
from collections.abc import Callable

import numpy as np

from accelerator import Band
from fleet.snapshot import FloatArray, IntArray
from scenarios.demand import month_label
from scenarios.futures import Future, future_draw, future_expected
from scenarios.placement import ServedShare
from scenarios.plans import (
    NO_HOST,
    BoolArray,
    CapacityPeriod,
    CapacityPlan,
    FleetCapacity,
    MonthBand,
    Problem,
    RegionCapacity,
    SiteCapacity,
    SitePeriod,
)
from scenarios.scopes import RegionScope, check_problem, scopes_of
from scenarios.supply import Floor, Ground

Progress = Callable[[float, str], None]

SHORT_BELOW = 1 - 1e-9
"""Share of demand that can be served below which a month is short. [-]"""


def plan_capacity(problem: Problem, *, on_progress: Progress | None = None) -> CapacityPlan:
    """Return how much each region can serve in each month, when it runs out, and what binds at each site.

    Bands are P10, P50 and P90 over `problem.draws` futures, each judged by itself. Hosts, sites, what binds and what
    goes unserved are those of the expected future, in which every input takes its middle. Within a region any host may
    serve any service that it is allowed to serve; the headroom is the factor by which the whole mix could grow before
    the first service goes short (see `ServedShare`).

    Parameters
    ----------
    problem : Problem
        The question. At least one month, one site and one service in scope.
    on_progress : callable, optional
        Called with the share done [0, 1] and the stage; what it raises ends the plan.

    Returns
    -------
    CapacityPlan

    Raises
    ------
    ValueError
        If there is nothing to plan for.
    """
    return capacity_merge(problem, *capacity_draws(problem, range(problem.draws), on_progress=on_progress))


def capacity_draws(
    problem: Problem, draws: range, *, on_progress: Progress | None = None
) -> tuple[FloatArray, FloatArray]:
    """Judge some of the futures, each by itself.

    Returns
    -------
    theta, demand_tok_s : float64[draws, regions in scope, T]
        Share of the demand that can be served, and the demand. [-], [tok/s]
    """
    check_problem(problem)
    report = on_progress or (lambda _ratio, _stage: None)
    ground = Ground(problem.snapshot, problem.months)
    scopes = [_Scope(problem, scope) for scope in scopes_of(problem)]
    drawn = np.empty((len(draws), len(scopes), len(problem.months)))
    demands = np.empty_like(drawn)
    for row, index in enumerate(draws):
        report(row / len(draws), f"draw {index + 1} of {problem.draws}")
        future = future_draw(problem, index)
        hosts_drawn, _ = _walk(problem, Floor(ground, future), with_sites=False)
        for at, scope in enumerate(scopes):
            drawn[row, at] = scope.thetas(future, hosts_drawn)
            demands[row, at] = future.demand_tok_s[scope.services].sum(axis=0)
    return drawn, demands


def capacity_merge(
    problem: Problem, drawn: FloatArray, demands: FloatArray, *, on_progress: Progress | None = None
) -> CapacityPlan:
    """Put the futures, in their order, together with the expected one."""
    check_problem(problem)
    report = on_progress or (lambda _ratio, _stage: None)
    report(0.0, "expected future")
    expected = future_expected(problem)
    scopes = [_Scope(problem, scope) for scope in scopes_of(problem)]
    hosts, sites = _walk(problem, Floor(Ground(problem.snapshot, problem.months), expected))
    middle = [scope.thetas(expected, hosts) for scope in scopes]
    report(0.9, "bands")
    regions = tuple(
        scope.answer(expected, hosts, sites, middle[at], drawn[:, at], demands[:, at])
        for at, scope in enumerate(scopes)
    )
    return CapacityPlan(fleet=_fleet(problem, regions, np.array(middle), drawn), regions=regions, sites=sites)


def _walk(
    problem: Problem, floor: Floor, *, with_sites: bool = True
) -> tuple[list[IntArray], tuple[SiteCapacity, ...]]:
    """Walk the months; return the hosts by site and kind of each, and the account of each site."""
    snapshot = problem.snapshot
    hosts: list[IntArray] = []
    accounts: list[list[SitePeriod]] = [[] for _ in snapshot.sites]
    limits = [np.zeros(len(snapshot.sites)) for _ in problem.months]
    for month, day in enumerate(problem.months):
        floor.arrive(month)
        hosts.append(floor.hosts(month))
        if not with_sites:
            continue
        np.add.at(limits[month], snapshot.rack_site, snapshot.rack_power_limit_w * snapshot.rack_open(day))
        power_w = floor.power_w(month)
        for at in range(len(snapshot.sites)):
            bind = floor.binding(month, at)
            accounts[at].append(
                SitePeriod(
                    month=month_label(day),
                    hosts=_by_kind(problem, hosts[month][at]),
                    waiting=_by_kind(problem, floor.waiting[at]),
                    power_w=float(power_w[at]),
                    power_limit_w=float(limits[month][at]),
                    binding=bind.constraint,
                    binding_object=bind.rack,
                    sentence=bind.sentence,
                )
            )
    sites = tuple(
        SiteCapacity(slug=site.slug, name=site.name, region=site.region, periods=tuple(accounts[at]))
        for at, site in enumerate(snapshot.sites)
    )
    return hosts, sites


def _by_kind(problem: Problem, counts: IntArray) -> dict[str, int]:
    return {kind.slug: int(counts[at]) for at, kind in enumerate(problem.snapshot.kinds) if counts[at]}


class _Scope:
    """One region with its solver."""

    def __init__(self, problem: Problem, scope: RegionScope) -> None:
        self.problem, self.region = problem, problem.snapshot.regions[scope.region]
        self.sites, self.services = scope.sites, scope.services
        self._served = ServedShare(len(self.services), len(problem.snapshot.kinds))

    def thetas(self, future: Future, hosts: list[IntArray]) -> FloatArray:
        """Return the share of demand that can be served in each month, float64[T]. [-]"""
        problem = self.problem
        theta = np.empty(len(problem.months))
        self._served.restart()
        for month in range(len(problem.months)):
            rate = future.rate_tok_s[self.services] * problem.allowed[self.services, :, month]
            usable = hosts[month][self.sites].sum(axis=0) * (1 - problem.reserve_ratio)
            theta[month] = self._served.theta(
                rate_tok_s=rate, demand_tok_s=future.demand_tok_s[self.services, month], hosts=usable
            )
        return theta

    def answer(
        self,
        expected: Future,
        hosts: list[IntArray],
        sites: tuple[SiteCapacity, ...],
        middle: FloatArray,
        drawn: FloatArray,
        demands: FloatArray,
    ) -> RegionCapacity:
        problem = self.problem
        demanded = expected.demand_tok_s[self.services].sum(axis=0)
        homeless = self._homeless(expected, hosts)
        periods = []
        for month, day in enumerate(problem.months):
            theta, wanted = drawn[:, month], demands[:, month]
            periods.append(
                CapacityPeriod(
                    month=month_label(day),
                    hosts=_by_kind(problem, hosts[month][self.sites].sum(axis=0)),
                    available_tok_s=band_of(wanted * theta, expected=demanded[month] * middle[month]),
                    demanded_tok_s=band_of(wanted, expected=demanded[month]),
                    headroom_ratio=band_of(theta - 1, expected=middle[month] - 1),
                    unserved_tok_s=float(demanded[month] * max(0.0, 1 - middle[month])),
                    binding=NO_HOST if homeless[:, month].any() else self._binding(sites, month),
                )
            )
        run_out = months_band(problem, first_short(drawn), expected=int(first_short(middle[None, :])[0]))
        return RegionCapacity(
            slug=self.region.slug,
            name=self.region.name,
            run_out=run_out,
            sentence=run_out_sentence(self.region.name, run_out, problem)
            + homeless_sentence(problem, self.services, homeless),
            periods=tuple(periods),
        )

    def _homeless(self, expected: Future, hosts: list[IntArray]) -> BoolArray:
        """Return which services no host of the region can serve in which month, bool[services, T]."""
        here = np.stack([hosts[month][self.sites].sum(axis=0) for month in range(len(hosts))])
        return homeless_services(self.problem, self.services, expected, here)

    def _binding(self, sites: tuple[SiteCapacity, ...], month: int) -> str:
        found = [sites[at].periods[month].binding for at in self.sites]
        return max(sorted(set(found)), key=found.count)


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


def first_short(theta: FloatArray) -> IntArray:
    """Return for each future the first month that falls short, or the number of months, int64[N]."""
    short = theta < SHORT_BELOW
    return np.where(short.any(axis=1), short.argmax(axis=1), theta.shape[1])


def months_band(problem: Problem, drawn: IntArray, *, expected: int) -> MonthBand:
    """Return P10, P50 and P90 of a month over the futures; `len(problem.months)` stands for: not within the horizon."""
    sample = np.sort(drawn) if len(drawn) else np.array([expected])
    labels = [*(month_label(day) for day in problem.months), None]
    return MonthBand(*(labels[int(sample[math.ceil(q * len(sample)) - 1])] for q in (0.1, 0.5, 0.9)))


def run_out_sentence(name: str, run_out: MonthBand, problem: Problem) -> str:
    """Return when something runs out, as a sentence."""
    last = month_label(problem.months[-1])
    if run_out.p10 is None:
        return f"{name} does not run out by {last}, not even in one future in ten."
    early = f"; one future in ten runs out by {run_out.p10}" if run_out.p10 != run_out.p50 else ""
    if run_out.p50 is None:
        return f"{name} lasts beyond {last} in half of the futures{early}."
    late = f", one in ten lasts beyond {run_out.p90 or last}" if run_out.p90 != run_out.p50 else ""
    return f"{name} runs out by {run_out.p50} in half of the futures{early}{late}."


def _fleet(
    problem: Problem, regions: tuple[RegionCapacity, ...], middle: FloatArray, drawn: FloatArray
) -> FleetCapacity:
    """The fleet runs out when its first region does; the region that is first in most futures is named."""
    worlds = drawn if len(drawn) else middle[None]
    firsts = np.array([first_short(thetas) for thetas in worlds])  # [futures, regions]
    soonest = firsts.min(axis=1)
    run_out = months_band(problem, soonest, expected=int(soonest[0]))
    short = soonest < len(problem.months)
    times = (firsts[short] == soonest[short, None]).sum(axis=0)
    where = ""
    if len(regions) > 1 and short.any():
        at = int(np.argmax(times))
        where = f" {regions[at].name} is the first in {times[at]} of the {int(short.sum())} futures that run out."
    return FleetCapacity(run_out=run_out, sentence=run_out_sentence("The fleet", run_out, problem) + where)
