"""One possible future: how demand grows, how fast hosts turn out to be, when deliveries come. Values in, values out."""

import math
from dataclasses import dataclass

import numpy as np

from accelerator.units import Z90
from fleet.slips import slip_days
from fleet.snapshot import DeliveryFact, FloatArray, IntArray
from scenarios.demand import demand_request_s, growth_at
from scenarios.plan_futures import Demand
from scenarios.planning.draws import between
from scenarios.plans import Problem

GROWTH_SHARED_RATIO = 0.5  # share of the variance of growth that all services have in common: one market
FILL_CONCENTRATION = 20.0  # how tightly the arriving share clusters about its expectation (Beta a + b)


@dataclass(frozen=True, eq=False)
class Future:
    """What one draw says.

    Attributes
    ----------
    rate_tok_s : float64[S, K]
        Output tokens per second of one host. [tok/s]
    demand_tok_s : float64[S, T]
        Output tokens per second demanded in the busiest hour. [tok/s]
    arrival_day : int64[D]
        Ordinal day on which each delivery can be racked. [d]
    arrival_hosts : int64[D]
        Usable hosts that arrive. [-]
    """

    rate_tok_s: FloatArray
    demand_tok_s: FloatArray
    arrival_day: IntArray
    arrival_hosts: IntArray


def future_expected(problem: Problem, demand: Demand | None = None) -> Future:
    """Return the middle of every band: median rates, demand and slip, expected fill.

    Without the demand of a forecast it is compound growth of what is stated.
    """
    services, deliveries = len(problem.snapshot.services), len(problem.snapshot.deliveries)
    return _future(
        problem,
        demand,
        growth_z=np.zeros(services),
        rate_z=np.zeros(len(problem.snapshot.kinds)),
        slip_z=np.zeros(deliveries),
        fills=np.array([delivery.fill_ratio for delivery in problem.snapshot.deliveries]),
    )


def future_draw(problem: Problem, index: int, demand: Demand | None = None) -> Future:
    """Return draw number `index`. It depends on the seed and the index alone, so draws may be made in any order.

    Kinds with the same chip share one deviate: a chip that disappoints does so in every host. Services share half of
    the variance of their demand.
    """
    rng = np.random.default_rng([problem.seed, index])
    snapshot = problem.snapshot
    market = rng.standard_normal()
    own = rng.standard_normal(len(snapshot.services))
    chips = sorted({kind.chip for kind in snapshot.kinds})
    chip_z = dict(zip(chips, rng.standard_normal(len(chips)), strict=True))
    slip_z = rng.standard_normal(len(snapshot.deliveries))
    fills = [_fill_draw(delivery, rng) for delivery in snapshot.deliveries]
    return _future(
        problem,
        demand,
        growth_z=math.sqrt(GROWTH_SHARED_RATIO) * market + math.sqrt(1 - GROWTH_SHARED_RATIO) * own,
        rate_z=np.array([chip_z[kind.chip] for kind in snapshot.kinds]),
        slip_z=slip_z,
        fills=np.array(fills),
    )


def _fill_draw(delivery: DeliveryFact, rng: np.random.Generator) -> float:
    share = min(max(delivery.fill_ratio, 1e-6), 1 - 1e-6)
    drawn = float(rng.beta(share * FILL_CONCENTRATION, (1 - share) * FILL_CONCENTRATION))
    return delivery.fill_ratio if delivery.fill_ratio in {0.0, 1.0} else drawn


def _future(
    problem: Problem,
    demand: Demand | None,
    *,
    growth_z: FloatArray,
    rate_z: FloatArray,
    slip_z: FloatArray,
    fills: FloatArray,
) -> Future:
    snapshot = problem.snapshot
    if demand is None:
        tok_s = _grown(problem, growth_z)
    else:
        tok_s = between(demand.low_tok_s, demand.tok_s, demand.high_tok_s, growth_z[:, None])
    slips = [slip_days(delivery, float(z)) for delivery, z in zip(snapshot.deliveries, slip_z, strict=True)]
    return Future(
        rate_tok_s=_rates(problem, rate_z),
        demand_tok_s=tok_s,
        arrival_day=np.array(
            [d.expected_on.toordinal() + math.ceil(s) for d, s in zip(snapshot.deliveries, slips, strict=True)],
            dtype=np.int64,
        ),
        arrival_hosts=np.array(
            [round(d.quantity * fill) for d, fill in zip(snapshot.deliveries, fills, strict=True)], dtype=np.int64
        ),
    )


def _rates(problem: Problem, z: FloatArray) -> FloatArray:
    """Return the rates at standard normal deviates of the kinds: a lognormal each side of P50, through P10 and P90."""
    middle = problem.rate_tok_s
    end = np.where(z[None, :] > 0, problem.rate_high_tok_s, problem.rate_low_tok_s)
    spread = np.divide(end, middle, out=np.ones_like(middle), where=(middle > 0) & (end > 0))
    return middle * spread ** (np.abs(z)[None, :] / Z90)


def _grown(problem: Problem, z: FloatArray) -> FloatArray:
    """Return the stated demand with its compound growth at standard normal deviates of the services."""
    demand = np.zeros((len(problem.snapshot.services), len(problem.months)))
    for at, service in enumerate(problem.snapshot.services):
        growth = problem.growth_override_ratio
        if growth is None:
            growth = growth_at(
                mid=service.growth_ratio,
                low=service.growth_low_ratio,
                high=service.growth_high_ratio,
                z=float(z[at]),
            )
        if problem.in_scope[at]:
            demand[at] = demand_request_s(service, problem.months, growth_ratio=growth) * problem.output_tok[at]
    return demand
