"""What futures of a plan differ in, from the fleet: demand by service, readiness, failures. Values in, values out."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from fleet.snapshot import FloatArray
from scenarios.forecast import DemandFan
from scenarios.planning.draws import DownValues, FanValues, FutureValues, ReadySlipValues
from scenarios.planning.params import MigrationParams
from scenarios.planning.problem import PlanProblem
from scenarios.plans import Problem


@dataclass(frozen=True, eq=False)
class Demand:
    """Output tokens of the peak hour of each service and month, float64[S, T], P10, P50 and P90. [tok/s]

    `mean_ratio` is mean over peak demand, `cache_hit_ratio` the share of prompt tokens that a warm prefix cache holds,
    0 where nobody knows; both float64[S]. [-]
    """

    low_tok_s: FloatArray
    tok_s: FloatArray
    high_tok_s: FloatArray
    mean_ratio: FloatArray
    cache_hit_ratio: FloatArray


def demand_of(problem: Problem, fans: Sequence[DemandFan]) -> Demand:
    """Return the demand of the services in scope from their fans; the others demand nothing.

    One growth for all services leaves the level of the first month, and takes the band and what is known of later ones.
    """
    if problem.growth_override_ratio is not None:
        fans = [_grown(fan, 1 + problem.growth_override_ratio) for fan in fans]
    request_s = np.array([[one.p10_request_s, one.p50_request_s, one.p90_request_s] for one in fans])  # [S, 3, T]
    tok_s = request_s * np.where(problem.in_scope, problem.output_tok, 0.0)[:, None, None]
    mean_ratio = np.array([fan.mean_ratio for fan in fans])
    cache_hit_ratio = np.array([fan.cache_hit_ratio for fan in fans])
    return Demand(tok_s[:, 0], tok_s[:, 1], tok_s[:, 2], mean_ratio, cache_hit_ratio)


def _grown(fan: DemandFan, factor: float) -> DemandFan:
    path = tuple(fan.p50_request_s[0] * factor**month for month in range(len(fan.p50_request_s)))
    return replace(fan, p10_request_s=path, p50_request_s=path, p90_request_s=path)


def futures_of(made: PlanProblem, problem: Problem, demand: Demand, params: MigrationParams) -> FutureValues:
    """Return what futures differ in, beside the bands of rates and deliveries that the plan's problem has."""
    at = {service.slug: s for s, service in enumerate(problem.snapshot.services)}
    ends = (demand.low_tok_s, demand.tok_s, demand.high_tok_s)
    slips = (params.ready_slip_p50_months, max(params.ready_slip_p50_months, params.ready_slip_p90_months))
    return FutureValues(
        fans=tuple(FanValues(one.slug, *(tuple(end[at[one.slug]].tolist()) for end in ends)) for one in made.services),
        ready_slips=(ReadySlipValues(slip_p50_months=slips[0], slip_p90_months=slips[1]),),
        down=(DownValues(ratio=params.down_ratio),),
    )
