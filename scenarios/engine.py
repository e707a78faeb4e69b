"""From a run's inputs to its result: snapshot, ratings, planner. The only place where the three meet.

The database is read by the first step of a run alone: what the others work on is what it has put together.
"""

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, field, replace
from datetime import date
from functools import lru_cache
from importlib.metadata import version
from typing import Any

import numpy as np
from django.db import connection

from accelerator import RATING_VERSION, TokenMix, Workload, model_get
from accelerator.serving_calibration import ServingCalibration
from fleet.packing import value_pack, value_unpack
from fleet.selectors import snapshot_take
from fleet.snapshot import FleetSnapshot
from scenarios.calibrations import InUse, calibration_of
from scenarios.capacity_stages import Asked, capacity_stages
from scenarios.capacity_words import capacity_assumptions
from scenarios.demand import month_first, month_label, months_list
from scenarios.demands import demand_fans
from scenarios.event_questions import EVENT_KINDS, event_params, event_question, event_snapshot
from scenarios.event_reading import EventQuestion
from scenarios.event_stages import event_answer, event_stages
from scenarios.models import Scenario, Trace
from scenarios.pipelines import (
    Kept,
    Payload,
    Pipeline,
    Progress,
    Results,
    Stage,
    StepContext,
    Values,
    Worked,
    json_pack,
    one_step,
    pipeline_walk,
)
from scenarios.plan_futures import demand_of
from scenarios.plan_questions import params_read, plan_facts, plan_question, replay_facts
from scenarios.plan_replay import ReplayFacts
from scenarios.plan_result import plan_overview
from scenarios.plan_stages import Read, plan_answer, plan_stages
from scenarios.plan_steps import PlanQuestion
from scenarios.planning.params import CapacityParams
from scenarios.planning.plain import plain_read
from scenarios.plans import Problem
from scenarios.rating_store import rating_get_or_compute, ratings_ask, trace_read
from scenarios.ratings import (
    RatingTable,
    allowed_take,
    engines_in_use,
    rates_basis,
    rating_rows,
    ratings_take,
)
from scenarios.scopes import check_problem

ENGINE_VERSION = "0.3.0"

RATED_MOST = 300
"""Ratings that a run computes by simulation before it plans, about half a minute; of more it takes the estimates, and
has them computed behind."""


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
    params: Mapping[str, Any] = field(default_factory=dict)

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
            params=scenario.params,
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


@dataclass(frozen=True, eq=False)
class Prepared:
    """What the first step leaves: the question, and what the result says beside the plan."""

    problem: Problem
    frame: Mapping[str, Any]
    plan: PlanQuestion
    event: EventQuestion | None = None


def run_compute(values: Values, *, on_progress: Progress) -> dict[str, Any]:
    """Answer the question that a run keeps, in this process; return the result as JSON values."""
    result: dict[str, Any] = pipeline_walk(PIPELINES[values["kind"]], values, on_progress)
    return result


# --- the steps of the kinds -------------------------------------------------------------------------------------------
def prepare(values: Values, _payload: Payload, _results: Results, context: StepContext) -> Worked:
    """Read all that the answer follows from, at one moment."""
    inputs = Inputs.from_dict(dict(values))
    context.report(0.0, "snapshot")
    with connection.execute_wrapper(_stopping(context)):
        standing = snapshot_take(month_first(inputs.starts_on))  # the first month is judged on its first day too
        event_asked = event_params(inputs.kind, inputs.params)
        months = months_list(inputs.starts_on, inputs.ends_on)
        snapshot, services = event_snapshot(standing, event_asked, months, inputs.services)
        asked = replace(inputs, services=services)
        trace = Trace.objects.defer("arrays").get(digest=inputs.trace_digest) if inputs.trace_digest else None
        facts, in_use = plan_facts(), engines_in_use()
        context.report(0.4, "ratings")
        trace_mix = TokenMix.from_dict(trace.mix) if trace else None
        problem, table = problem_build(asked, snapshot, trace_mix, in_use)
        missing = table.missing(problem.in_scope)
        if missing and len(missing) <= RATED_MOST:
            for at, question in enumerate(missing.values()):
                context.report(0.4 + 0.4 * at / len(missing), f"rating {at + 1} of {len(missing)}")
                rating_get_or_compute(question)
            problem, table = problem_build(asked, snapshot, trace_mix, in_use)
        else:
            ratings_ask(missing)  # the next run stands on them
        is_migration = inputs.kind == Scenario.Kind.MIGRATION
        check_problem(problem)
        if is_migration and not problem.homegrown.any():
            raise ValueError("nothing to move to: no host type of the fleet has a homegrown chip")
        demand = demand_of(problem, demand_fans(snapshot, problem.months))
        params = params_read(inputs.kind, inputs.params)
        plan = plan_question(problem, table, facts, demand, params)
        if is_migration and params.replay:
            replay = replay_facts(problem, table, demand, trace_digest=inputs.trace_digest or "", split=params.split)
            plan = replace(plan, replay=replay)
        event = event_question(problem, plan, event_asked) if event_asked else None
    context.report(0.9, "store")
    frame = json.loads(json.dumps(result_frame(inputs, problem, table, trace) | {"snapshot_digest": standing.digest}))
    return Worked(value_pack(Prepared(problem, frame, plan, event)))


def _stopping(context: StepContext) -> Callable[..., Any]:
    """Return what looks before each query whether to go on: reading a large fleet takes seconds."""

    def execute(run: Callable[..., Any], *query: Any) -> Any:
        if context.should_stop():
            context.report(0.0, "stop")  # raises
        return run(*query)

    return execute


@lru_cache(maxsize=1)
def _prepared(kept: Kept) -> Prepared:
    return value_unpack(Prepared, kept.read())


def prepared_of(results: Results) -> Prepared:
    """Return what the first step has left."""
    return _prepared(results["prepare"][0])


def merge_migration(_values: Values, _payload: Payload, results: Results, _context: StepContext) -> Worked:
    """Put the plan, those beside it, its replay and its promises together."""
    prepared, plan = prepared_of(results), plan_answer(_plan_read(results), results)
    names = {region.slug: region.name for region in prepared.problem.snapshot.regions}
    return Worked(json_pack({**prepared.frame, **plan_overview(names, plan), "plan": plan}))


def _plan_read(results: Results) -> Read:
    prepared = prepared_of(results)
    return Read(prepared.plan, prepared.problem.snapshot)


def _capacity_read(results: Results) -> Asked:
    prepared = prepared_of(results)
    problem = prepared.problem
    return Asked(prepared.plan, problem.snapshot, draws=problem.draws, seed=problem.seed, frame=prepared.frame)


def _engines(facts: ReplayFacts) -> tuple[ServingCalibration | None, Workload | None]:
    """Return what a replay names by digest: rows of the database that never change under it."""
    calibration = calibration_of(facts.calibration_digest) if facts.calibration_digest else None
    return calibration, trace_read(facts.trace_digest)[0] if facts.trace_digest else None


def _event_read(results: Results) -> EventQuestion:
    event = prepared_of(results).event
    if event is None:
        raise ArithmeticError("the run has no question of an event")
    return event


def merge_event(_values: Values, _payload: Payload, results: Results, _context: StepContext) -> Worked:
    """Put the worlds before and after side by side."""
    return Worked(json_pack({**prepared_of(results).frame, **event_answer(_event_read(results), results)}))


def question_digest(results: Results) -> str:
    """Return the digest of all that an answer follows from: what was put together, and the programs that compute."""
    libraries = [f"{name} {version(name)}" for name in LIBRARIES]
    told = json.dumps([results["prepare"][0].digest, ENGINE_VERSION, RATING_VERSION, *libraries])
    return hashlib.sha256(told.encode()).hexdigest()


LIBRARIES = ("highspy", "numpy", "scipy")

EVENT_PIPELINE = Pipeline(
    (
        Stage("prepare", 0.15, one_step, prepare),
        *event_stages(_event_read, share_ratio=0.8),
        Stage("merge", 0.05, one_step, merge_event),
    ),
    question_digest,
)

PIPELINES: dict[str, Pipeline] = {
    Scenario.Kind.CAPACITY: Pipeline(
        (
            Stage("prepare", 0.1, one_step, prepare),
            *capacity_stages(_capacity_read, share_ratio=0.9),
        ),
        question_digest,
    ),
    Scenario.Kind.MIGRATION: Pipeline(
        (
            Stage("prepare", 0.1, one_step, prepare),
            *plan_stages(_plan_read, _engines, share_ratio=0.85),
            Stage("merge", 0.05, one_step, merge_migration),
        ),
        question_digest,
    ),
    Scenario.Kind.OUTAGE: EVENT_PIPELINE,
    Scenario.Kind.EVENT: EVENT_PIPELINE,
}


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


def result_frame(inputs: Inputs, problem: Problem, table: RatingTable, trace: Trace | None) -> dict[str, Any]:
    """Return everything that a plan comes from, as its result tells it."""
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
    }


def _assumptions(inputs: Inputs, trace: Trace | None, rates: list[str]) -> list[str]:
    lines = [
        *rates,
        f"{inputs.reserve_ratio:.0%} of every host is kept free for failures and bursts.",
        "Demand is that of the busiest hour of the month; a month is judged as it stands on its first day.",
        "Within a region any host may serve any service that its software readiness allows.",
    ]
    if inputs.kind == Scenario.Kind.CAPACITY:
        params = plain_read(CapacityParams, inputs.params, place="params")
        lines += capacity_assumptions(params, draws=inputs.draws, seed=inputs.seed)
    if inputs.kind in EVENT_KINDS:
        lines += [
            "Figures are those of the expected future, in which every input takes its middle.",
            "If nothing is done, deliveries are racked where there is room and traffic goes to any host that may serve "
            "it. The best plans before and after keep copies, the way back and waves, each optimal within its gap; the "
            "new one keeps hosts and openings of the one before until the month in which it happens, unless the "
            "scenario says that it is foreseen.",
        ]
    if trace:
        lines.append(
            f"The token mix of {trace.name} replaces the services' own; the output tokens per second demanded stay."
        )
    if inputs.growth_override_ratio is not None:
        lines.append(f"Every service grows by {inputs.growth_override_ratio:.1%} a month, without a band.")
    if inputs.kind == Scenario.Kind.MIGRATION:
        lines.append(
            "The plan starts from where services run, is optimal within its gap in the expected future, "
            "takes hosts on order as paid for, and hosts of the region's halls as free for the services asked about. "
            "Prices, life, resale, energy and porting are the scenario's assumptions unless the fleet says them."
        )
        lines.append(
            f"Promises, bands and dates are over {inputs.draws} futures (demand, chip speed, delivery slip and fill, "
            f"readiness, failures), seed {inputs.seed}: hosts, waves and the shares that move stay as planned, loads "
            "are placed anew. Hosts, waves, money and what goes unserved are those of the expected future."
        )
        if inputs.params.get("replay", True):
            lines.append(
                "What is replayed runs on the plan's whole replicas alone, as if failures had taken the reserve; "
                "demand is that of the expected future, and nothing fails within the hour."
            )
    return lines
