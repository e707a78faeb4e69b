"""The question asked most, answered at once: how many more hosts fit, what stops the next one, how long it lasts."""

import hashlib
import json
import logging
import math
from collections.abc import Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from statistics import NormalDist, fmean
from typing import Any

import numpy as np
import redis
from django.core.cache import cache
from django.core.exceptions import ValidationError

from accelerator import RATING_VERSION, Band
from accelerator.calibration import calibration_summary
from accelerator.serving_calibration import CORE
from accelerator.units import Z90
from fleet.fits import Fit, FitStop
from fleet.room import Room
from fleet.selectors import snapshot_cached
from fleet.snapshot import FleetSnapshot, FloatArray, SiteFact
from scenarios.accuracy import SCHEME, held_rows
from scenarios.calibrations import InUse
from scenarios.capacity import band_of, plan_capacity
from scenarios.checks import DAY_FIRST, DAY_LAST
from scenarios.demand import month_add, month_label
from scenarios.engine import ENGINE_VERSION, Inputs, problem_build
from scenarios.futures import Future, future_draw
from scenarios.plans import MonthBand, Problem
from scenarios.ratings import RatingTable, allowed_take, engines_in_use, rates_basis, rating_rows
from scenarios.supply import Floor, Ground

logger = logging.getLogger(__name__)

HORIZON_MONTHS = 24
DRAWS = 32
SEED = 1
RESERVE_RATIO = 0.1
KEPT_S = 3600


@dataclass(frozen=True, slots=True)
class CapacityQuestion:
    """How many more hosts of a kind fit on a day, in a site, a region or everywhere, and what they do for a service.

    `quantile` is how sure the figures of `sure` shall be: at 0.9 they hold in nine futures of ten. [-]
    """

    as_of: date
    kind: str
    site: str | None = None
    region: str | None = None
    service: str | None = None
    quantile: float = 0.5


def capacity_query(question: CapacityQuestion) -> dict[str, Any]:
    """Answer from the fleet as it stands and the calibration in use; the same question is answered from the cache.

    It is another question once the fleet has changed, or another calibration is in use.

    Raises ValidationError that names the field of what does not exist.
    """
    if not DAY_FIRST <= question.as_of <= DAY_LAST:
        raise ValidationError({"as_of": f"a day from {DAY_FIRST} to {DAY_LAST} is needed"})
    snapshot = snapshot_cached(question.as_of)
    check_question(question, snapshot)
    in_use = engines_in_use()
    versions = [ENGINE_VERSION, RATING_VERSION, in_use.as_dict() if in_use else None]
    asked = json.dumps({**asdict(question), "versions": versions}, default=str, sort_keys=True)
    key = f"capacity-query:{snapshot.digest}:{hashlib.sha256(asked.encode()).hexdigest()}"
    known: dict[str, Any] | None = _cache_get(key)
    if known is None:
        known = capacity_answer(question, snapshot, in_use)
        _cache_set(key, known)
    return known


def check_question(question: CapacityQuestion, snapshot: FleetSnapshot) -> None:
    """Everything that a question names exists, and it asks about one place at most."""
    errors: dict[str, str] = {}
    for field, value, known in (
        ("unit.host_type", question.kind, snapshot.kinds),
        ("scope.site", question.site, snapshot.sites),
        ("scope.region", question.region, snapshot.regions),
        ("service", question.service, snapshot.services),
    ):
        slugs = [fact.slug for fact in known]
        if value is not None and value not in slugs:
            there = ", ".join(slugs[:20]) or "none"
            errors[field] = f"unknown {field.rpartition('.')[2].replace('_', ' ')} {value!r}; there are: {there}"
    if question.site is not None and question.region is not None:
        errors["scope"] = "one place is asked about: a site or a region, not both"
    if errors:
        raise ValidationError(errors)


def capacity_answer(question: CapacityQuestion, snapshot: FleetSnapshot, in_use: InUse | None) -> dict[str, Any]:
    """Answer from a snapshot and a calibration alone.

    Deliveries due by the day are racked first, as a capacity run does it. Without a calibration of serving (`in_use` is
    None) rates are at planning values.
    """
    kind = [fact.slug for fact in snapshot.kinds].index(question.kind)
    sites = [at for at, site in enumerate(snapshot.sites) if _in_scope(question, site)]
    regions = sorted({snapshot.sites[at].region for at in sites})
    problem, table = _problem(question, snapshot, regions, in_use)
    ground = Ground(snapshot, problem.months)
    futures = [future_draw(problem, index) for index in range(problem.draws)]
    fits, hosts_drawn, stops = _room(ground, futures, sites, kind)
    tok_s, rating = None, None
    if question.service is not None:
        at = [fact.slug for fact in snapshot.services].index(question.service)
        rating = _rating(snapshot, table, problem, at, kind)
        rates = np.array([future.rate_tok_s[at, kind] for future in futures]) * rating["allowed"]
        tok_s = band_of(hosts_drawn * rates, expected=0.0)
    in_scope = np.isin(snapshot.rack_site, sites)
    standing = Room(snapshot, question.as_of).fit(snapshot.kinds[kind], in_scope)
    run_out, by_region = _run_outs(problem, regions, in_use)
    return {
        "question": {**asdict(question), "as_of": question.as_of.isoformat()},
        "fits": fits.as_dict(),
        "fits_without_deliveries": standing.count,
        "tok_s": tok_s.as_dict() if tok_s else None,
        "rating": rating,
        "binding": [
            {"constraint": stop.constraint, "object": stop.object, "failure": stop.failure, "share": stop.share_ratio}
            for stop in stops
        ],
        "run_out": run_out,
        "run_out_regions": by_region,
        "sure": {
            "quantile": question.quantile,
            "hosts": math.floor(band_at(fits, 1 - question.quantile) + 1e-9),
            "tok_s": band_at(tok_s, 1 - question.quantile) if tok_s else None,
        },
        "horizon": [month_label(problem.months[0]), month_label(problem.months[-1])],
        "assumptions": _assumptions(question, snapshot, regions, rates_basis(table, in_scope=problem.in_scope)),
        "snapshot_digest": snapshot.digest,
        "engine_version": ENGINE_VERSION,
        "rating_version": RATING_VERSION,
        "calibration": measured_summary(in_use),
        "serving_calibration": in_use.as_dict() if in_use else None,
    }


def measured_summary(in_use: InUse | None) -> dict[str, Any]:
    """Return what rates were held against: measured services; without a calibration of them, kernels alone.

    The mean error is that of the published fit on services of a pair of chip and model that it had not seen.
    """
    if in_use is None:
        return calibration_summary()
    errors = [row.error_ratio for row in held_rows() if row.scheme == SCHEME and row.metric_class in CORE]
    facts = in_use.as_dict()
    mape = 100 * fmean(errors) if errors else None
    return {"basis": "serving", "mape": mape, "n": facts["rows"], "as_of": facts["fitted_on"]}


def band_at(band: Band, share: float) -> float:
    """Return what a share of the futures stays below: two half-normals joined at the middle, never below 0."""
    deviate = NormalDist().inv_cdf(share) / Z90
    side = band.p90 - band.p50 if deviate > 0 else band.p50 - band.p10
    return max(0.0, band.p50 + deviate * side)


def _in_scope(question: CapacityQuestion, site: SiteFact) -> bool:
    return question.site in {None, site.slug} and question.region in {None, site.region}


def _problem(
    question: CapacityQuestion, snapshot: FleetSnapshot, regions: Sequence[str], in_use: InUse | None
) -> tuple[Problem, RatingTable]:
    """Put the question of a plain capacity run from the day on, about the services of the regions in scope.

    The service asked about is rated even where another region serves it; it does not load the regions in scope then.
    """
    day = question.as_of
    inputs = Inputs(
        kind="capacity",
        starts_on=day,
        ends_on=month_add(day, HORIZON_MONTHS - 1),
        trace_digest=None,
        services=tuple(s.slug for s in snapshot.services if s.region in regions or s.slug == question.service),
        reserve_ratio=RESERVE_RATIO,
        growth_override_ratio=None,
        dual_run_months=0,
        draws=DRAWS,
        seed=SEED,
    )
    problem, table = problem_build(inputs, snapshot, None, in_use)
    months = (day, *problem.months[1:])  # the first month is judged on the day itself
    allowed = allowed_take(snapshot, table.homegrown, months)
    return replace(problem, months=months, allowed=allowed), table


def _room(
    ground: Ground, futures: Sequence[Future], sites: Sequence[int], kind: int
) -> tuple[Band, FloatArray, Sequence[FitStop]]:
    """Return how many more hosts the racks of the sites take once what is due has been racked, and what stops the next.

    The futures are put in order by what cabinets and heights alone would take. Of those at P10, P50 and P90 the answer
    is exact, with all that racks share; the others are read between them. What stops the next is that of P50.
    """
    snapshot, day = ground.snapshot, ground.months[0]
    racks = np.isin(snapshot.rack_site, sites)
    if not (racks & snapshot.rack_open(day)).any():
        return Band.exact(0), np.zeros(len(futures)), [FitStop("no_rack", "", "", 1.0, 0)]
    floors = [Floor(ground, future) for future in futures]
    for floor in floors:
        floor.arrive(0)
    order = np.argsort([sum(floor.room(0, site, kind).sum() for site in sites) for floor in floors], kind="stable")
    marks = [math.ceil(share * len(floors)) - 1 for share in (0.1, 0.5, 0.9)]
    known: dict[bytes, Fit] = {}
    exact = []
    for mark in marks:
        racked = floors[order[mark]].racked
        key = racked.tobytes()
        if key not in known:
            known[key] = Room(snapshot, day, racked).fit(snapshot.kinds[kind], racks)
        exact.append(known[key])
    counts = sorted(fit.count for fit in exact)
    drawn = np.zeros(len(floors))
    drawn[order] = np.interp(np.arange(len(floors)), marks, counts)
    return Band(*counts), drawn, exact[1].stops


def _rating(snapshot: FleetSnapshot, table: RatingTable, problem: Problem, service: int, kind: int) -> dict[str, Any]:
    """Return what one host does for the service, and whether it may on the day."""
    fact, host = snapshot.services[service], snapshot.kinds[kind]
    one = np.arange(len(snapshot.services)) == service
    row = next(row for row in rating_rows(snapshot, table, in_scope=one) if row["kind"] == host.slug)
    ready_on, allowed = fact.ready_on.get(host.chip), bool(problem.allowed[service, kind, 0])
    reason = row["refusal"]
    if reason is None and not allowed:
        reason = f"{fact.slug} is not ready on {host.chip}" if fact.movable else f"{fact.slug} may not leave its GPUs"
        reason += f" before {ready_on}" if fact.movable and ready_on else ""
    return {**row, "allowed": allowed, "ready_on": ready_on.isoformat() if ready_on else None, "reason": reason}


def _run_outs(
    problem: Problem, regions: Sequence[str], in_use: InUse | None
) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """Return when the first region in scope runs out, and each; the unit asked about does not matter to them."""
    served = [service.region in regions and service.demand_request_s > 0 for service in problem.snapshot.services]
    if not any(served):
        return asdict(MonthBand(None, None, None)), []
    follows = [ENGINE_VERSION, RATING_VERSION, in_use.digest if in_use else "", *regions]
    key = f"capacity-run-out:{problem.snapshot.digest}:{hashlib.sha256(json.dumps(follows).encode()).hexdigest()}"
    known: tuple[dict[str, Any], list[dict[str, Any]]] | None = _cache_get(key)
    if known is None:
        plan = plan_capacity(replace(problem, in_scope=np.array(served, dtype=bool)))
        known = (
            asdict(plan.fleet.run_out),
            [
                {"region": region.slug, "run_out": asdict(region.run_out), "sentence": region.sentence}
                for region in plan.regions
            ],
        )
        _cache_set(key, known)
    return known


def _assumptions(
    question: CapacityQuestion, snapshot: FleetSnapshot, regions: Sequence[str], rates: Sequence[str]
) -> list[str]:
    lines = [
        "Deliveries due by the day, with their slip and fill, are racked first; the band of what fits is theirs.",
        "A host counts with the power to plan with; racks, feeds and all above them keep within their limits, now and "
        "after any single failure, and so does cooling.",
        *rates,
        f"Run-out: {RESERVE_RATIO:.0%} of every host is kept free, {DRAWS} futures, seed {SEED}, "
        f"{HORIZON_MONTHS} months; a site runs out with its region, whose hosts share the load.",
    ]
    service = next((service for service in snapshot.services if service.slug == question.service), None)
    if service is not None and service.region not in regions:
        lines.append(
            f"{service.slug} is served in {service.region}; its rate here says what these hosts would do for it."
        )
    return lines


def _cache_get(key: str) -> Any:
    try:
        return cache.get(key)
    except (redis.RedisError, OSError) as error:
        logger.warning("answered without the cache: %s", error)
        return None


def _cache_set(key: str, answer: Any) -> None:
    try:
        cache.set(key, answer, timeout=KEPT_S)
    except (redis.RedisError, OSError) as error:
        logger.warning("the answer is not kept: %s", error)
