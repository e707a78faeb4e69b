"""From a run's inputs to its result: snapshot, ratings, planner. The only place where the three meet."""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from datetime import date
from typing import Any

import numpy as np

from accelerator import RATING_VERSION, TokenMix, model_get
from fleet.selectors import snapshot_take
from fleet.snapshot import FleetSnapshot
from scenarios.calibrations import InUse
from scenarios.capacity import plan_capacity
from scenarios.demand import month_first, month_label, months_list
from scenarios.migration import plan_migration_greedy
from scenarios.models import Scenario, Trace
from scenarios.plans import CapacityPlan, MigrationPlan, Problem
from scenarios.rating_store import ratings_ask
from scenarios.ratings import (
    RatingTable,
    allowed_take,
    engines_in_use,
    rates_basis,
    rating_rows,
    ratings_take,
)

ENGINE_VERSION = "0.1.0"

Progress = Callable[[float, str], None]
PLANNERS: Mapping[str, Callable[..., CapacityPlan | MigrationPlan]] = {
    Scenario.Kind.CAPACITY: plan_capacity,
    Scenario.Kind.MIGRATION: plan_migration_greedy,
}


@dataclass(frozen=True, slots=True)
class Inputs:
    """A scenario as a run keeps it."""

    kind: str
    starts_on: date
    ends_on: date
    trace_digest: str | None
    services: tuple[str, ...]
    reserve_ratio: float
    growth_override_ratio: float | None
    dual_run_months: int
    draws: int
    seed: int

    @classmethod
    def of(cls, scenario: Scenario) -> "Inputs":
        """Return the inputs of a scenario as it stands."""
        return cls(
            kind=scenario.kind,
            starts_on=scenario.starts_on,
            ends_on=scenario.ends_on,
            trace_digest=scenario.trace.digest if scenario.trace else None,
            services=tuple(sorted(scenario.services)),
            reserve_ratio=scenario.reserve_ratio,
            growth_override_ratio=scenario.growth_override_ratio,
            dual_run_months=scenario.dual_run_months,
            draws=scenario.draws,
            seed=scenario.seed,
        )

    def as_dict(self) -> dict[str, Any]:
        """Return the inputs as JSON values."""
        return {
            **asdict(self),
            "starts_on": self.starts_on.isoformat(),
            "ends_on": self.ends_on.isoformat(),
            "services": list(self.services),
        }

    @classmethod
    def from_dict(cls, values: dict[str, Any]) -> "Inputs":
        """Return the inputs that a run has kept."""
        return cls(
            **{
                **values,
                "starts_on": date.fromisoformat(values["starts_on"]),
                "ends_on": date.fromisoformat(values["ends_on"]),
                "services": tuple(values["services"]),
            }
        )

    @property
    def digest(self) -> str:
        """SHA-256 of the inputs."""
        return hashlib.sha256(json.dumps(self.as_dict(), sort_keys=True).encode()).hexdigest()


def run_compute(values: dict[str, Any], *, on_progress: Progress) -> dict[str, Any]:
    """Answer the question that a run keeps; return the result as JSON values."""
    inputs = Inputs.from_dict(values)
    on_progress(0.0, "snapshot")
    snapshot = snapshot_take(month_first(inputs.starts_on))  # the first month is judged on its first day too
    trace = Trace.objects.defer("arrays").get(digest=inputs.trace_digest) if inputs.trace_digest else None
    on_progress(0.0, "ratings")
    trace_mix = TokenMix.from_dict(trace.mix) if trace else None
    problem, table = problem_build(inputs, snapshot, trace_mix, engines_in_use())
    ratings_ask(table.missing())  # the next run stands on them
    plan = PLANNERS[inputs.kind](problem, on_progress=on_progress)
    on_progress(1.0, "store")
    return result_build(inputs, problem, table, plan, trace)


def problem_build(
    inputs: Inputs, snapshot: FleetSnapshot, trace_mix: TokenMix | None, in_use: InUse | None
) -> tuple[Problem, RatingTable]:
    """Put snapshot, ratings, readiness and assumptions together as one question.

    Parameters
    ----------
    in_use : InUse or None
        The calibration whose engines the rates stand on; None: planning values.
    """
    months = months_list(inputs.starts_on, inputs.ends_on)
    named = np.array([s.slug in inputs.services for s in snapshot.services], dtype=bool)
    loads = np.array([s.demand_request_s > 0 for s in snapshot.services], dtype=bool)
    in_scope = loads & named if inputs.services else loads
    table = ratings_take(
        snapshot,
        in_scope=in_scope,
        asked=named,
        trace_mix=trace_mix,
        in_use=in_use,
        trace_digest=inputs.trace_digest or "",
    )
    problem = Problem(
        snapshot=snapshot,
        months=months,
        rate_tok_s=table.rate_tok_s,
        rate_low_tok_s=table.rate_low_tok_s,
        rate_high_tok_s=table.rate_high_tok_s,
        output_tok=table.output_tok,
        allowed=allowed_take(snapshot, table.homegrown, months),
        homegrown=table.homegrown,
        in_scope=in_scope,
        reserve_ratio=inputs.reserve_ratio,
        draws=inputs.draws,
        seed=inputs.seed,
        dual_run_months=inputs.dual_run_months,
        growth_override_ratio=inputs.growth_override_ratio,
    )
    return problem, table


def result_build(
    inputs: Inputs, problem: Problem, table: RatingTable, plan: CapacityPlan | MigrationPlan, trace: Trace | None
) -> dict[str, Any]:
    """Return the plan with everything it came from."""
    snapshot = problem.snapshot
    return {
        "kind": inputs.kind,
        "engine_version": ENGINE_VERSION,
        "rating_version": RATING_VERSION,
        "seed": inputs.seed,
        "draws": inputs.draws,
        "inputs_digest": inputs.digest,
        "snapshot_digest": snapshot.digest,
        "serving_calibration": table.in_use.as_dict() if table.in_use else None,
        "as_of": snapshot.as_of.isoformat(),
        "months": [month_label(month) for month in problem.months],
        "trace": {"name": trace.name, "digest": trace.digest, **trace.mix} if trace else None,
        "assumptions": _assumptions(inputs, trace, rates_basis(table, in_scope=problem.in_scope)),
        "kinds": [{**asdict(kind), "homegrown": bool(problem.homegrown[at])} for at, kind in enumerate(snapshot.kinds)],
        "services": [
            {
                "slug": service.slug,
                "name": service.name,
                "region": service.region,
                "model": service.model,
                "model_name": model_get(service.model).name,
                "movable": service.movable,
                "tier": service.tier,
                "mix": table.mixes[at].as_dict(),
            }
            for at, service in enumerate(snapshot.services)
            if problem.in_scope[at]
        ],
        "ratings": rating_rows(snapshot, table, in_scope=problem.in_scope),
        "rating_sources": table.counts(problem.in_scope),
        "ratings_digest": table.digest,
        **asdict(plan),
    }


def _assumptions(inputs: Inputs, trace: Trace | None, rates: list[str]) -> list[str]:
    lines = [
        *rates,
        f"{inputs.reserve_ratio:.0%} of every host is kept free for failures and bursts.",
        "Demand is that of the busiest hour of the month; a month is judged as it stands on its first day.",
        "Within a region any host may serve any service that its software readiness allows.",
        f"Bands are P10, P50 and P90 over {inputs.draws} futures (growth, chip speed, delivery slip and fill), seed "
        f"{inputs.seed}; hosts, sites, moves and what goes unserved are those of the expected future, in which every "
        "input takes its middle. It can lie well beside the P50: it is one world, the P50 is half of them.",
    ]
    if trace:
        lines.append(
            f"The token mix of {trace.name} replaces the services' own; the output tokens per second demanded stay."
        )
    if inputs.growth_override_ratio is not None:
        lines.append(f"Every service grows by {inputs.growth_override_ratio:.1%} a month, without a band.")
    if inputs.kind == Scenario.Kind.MIGRATION:
        lines.append(
            f"All traffic starts on GPUs; GPU hosts stay warm for {inputs.dual_run_months} month(s) behind what moves."
        )
        lines.append("The plan is greedy: most GPU hosts freed per homegrown host first. It is not proven optimal.")
    return lines
