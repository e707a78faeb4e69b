"""The question asked most, answered at once: how many more hosts fit, what stops the next one, how long it lasts.

What all questions about one fleet, day and set of ratings share is kept in the memory of the process (`DayAnswers`):
ratings, futures, what they put into racks by the day, the room of each site, and when regions run out.
"""

import hashlib
import json
import logging
import math
import threading
from collections import OrderedDict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, replace
from datetime import date
from functools import cached_property
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
from fleet.fits import FitStop, hosts_fit
from fleet.room import SiteRooms
from fleet.selectors import snapshot_cached
from fleet.snapshot import FleetSnapshot, FloatArray, IntArray, SiteFact
from scenarios.accuracy import SCHEME, held_rows
from scenarios.calibrations import InUse
from scenarios.checks import DAY_FIRST, DAY_LAST
from scenarios.demand import month_add, month_first, month_label
from scenarios.demands import demand_fans, histories_digest
from scenarios.engine import ENGINE_VERSION, Inputs, problem_build
from scenarios.futures import Future, future_draw, future_expected
from scenarios.plan_futures import Demand, demand_of
from scenarios.plans import BoolArray, MonthBand, Problem
from scenarios.rating_store import ratings_ask
from scenarios.ratings import RatingTable, allowed_take, engines_in_use, rates_basis, rating_rows, ratings_found
from scenarios.run_outs import RegionRunOut, band_of, first_of, plan_run_outs, site_hosts
from scenarios.supply import Floor, Ground

logger = logging.getLogger(__name__)

HORIZON_MONTHS = 24
DRAWS = 32
SEED = 1
RESERVE_RATIO = 0.1
KEPT_S = 3600

DAYS_KEPT = 3
"""Fleets and days of which a process keeps what their questions share; with the trees of all sites some 250 MB of a
million cards, most of which days have in common."""


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
    """Answer from the fleet as it stands, the calibration in use and the ratings that are stored.

    The same question is answered from the cache; it is another one once any of the three has changed. Ratings by
    simulation that are not stored yet are begun behind the answer: `ratings` counts both kinds and has the catalog in
    which they are being worked out.

    Raises ValidationError that names the field of what does not exist.
    """
    if not DAY_FIRST <= question.as_of <= DAY_LAST:
        raise ValidationError({"as_of": f"a day from {DAY_FIRST} to {DAY_LAST} is needed"})
    snapshot = snapshot_cached(question.as_of)
    check_question(question, snapshot)
    in_use = engines_in_use()
    day = day_answers(snapshot, question.as_of, in_use)
    calibration = in_use.as_dict() if in_use else None
    versions = [ENGINE_VERSION, RATING_VERSION, calibration, day.table.digest, day.histories]
    asked = json.dumps({**asdict(question), "versions": versions}, default=str, sort_keys=True)
    key = f"capacity-query:{snapshot.digest}:{hashlib.sha256(asked.encode()).hexdigest()}"
    known: dict[str, Any] | None = _cache_get(key)
    if known is None:
        known = day.answer(question)
        _cache_set(key, known)
    return {**known, "ratings": day.ratings(question)}


def capacity_answer(question: CapacityQuestion, snapshot: FleetSnapshot, in_use: InUse | None) -> dict[str, Any]:
    """Answer from a snapshot, a calibration and the stored ratings alone, without the cache of answers.

    Deliveries due by the day are racked first, as a capacity run does it. Without a calibration of serving (`in_use` is
    None) rates are at planning values.
    """
    day = day_answers(snapshot, question.as_of, in_use)
    return {**day.answer(question), "ratings": day.ratings(question)}


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


# --- what the questions about one day share ---------------------------------------------------------------------------
_fleets: OrderedDict[tuple[str, date], "DayFleet"] = OrderedDict()
_days: OrderedDict[tuple[str, date, str, str, str], "DayAnswers"] = OrderedDict()
_kept_lock = threading.Lock()


def day_answers(snapshot: FleetSnapshot, day: date, in_use: InUse | None) -> "DayAnswers":
    """Return what the process keeps of a fleet on a day; it is begun anew where anything that it follows from differs.

    Which ratings and histories of demand are stored is asked each time: one that has been worked out or measured
    meanwhile makes another set, and what follows from the racks alone stays.
    """
    found, histories = ratings_found(snapshot, in_use), histories_digest(snapshot.services)
    key = (snapshot.digest, day, in_use.digest if in_use else "", found, histories)
    with _kept_lock:
        fleet, known = _fleets.get(key[:2]), _days.get(key)
        if fleet is None:
            fleet = _fleets[key[:2]] = DayFleet(snapshot, day)
        if known is None:
            known = _days[key] = DayAnswers(fleet, in_use, histories)
        for kept, at in ((_fleets, key[:2]), (_days, key)):
            kept.move_to_end(at)  # type: ignore[arg-type]
            while len(kept) > DAYS_KEPT:
                kept.popitem(last=False)
    return known


def days_forget() -> None:
    """Forget what the process keeps of fleets and days."""
    with _kept_lock:
        _fleets.clear()
        _days.clear()


class DayFleet:
    """What of a fleet's futures follows from the racks and the deliveries alone, worked out when it is first needed."""

    def __init__(self, snapshot: FleetSnapshot, day: date) -> None:
        self.snapshot, self.day = snapshot, day
        self.lock = threading.RLock()
        self.rooms = SiteRooms(snapshot, day)
        self._walked: _Walked | None = None
        self._counts: dict[int, IntArray] = {}

    def walked(self, problem: Problem) -> "_Walked":
        """Return the racks of all futures; of the problem only what deliveries do matters, which is always the same."""
        if self._walked is None:
            ground = Ground(self.snapshot, problem.months)
            racked, hosts = [], []
            for index in range(DRAWS):
                floor = Floor(ground, future_draw(problem, index))
                floor.arrive(0)
                rack, kind = np.nonzero(floor.racked)
                racked.append(np.column_stack((rack, kind, floor.racked[rack, kind])))
                hosts.append(site_hosts(problem, floor))
            expected = site_hosts(problem, Floor(ground, future_expected(problem)))
            self._walked = _Walked(ground.free_w[0].copy(), ground.free_u[0].copy(), racked, hosts, expected)
        return self._walked

    def count(self, problem: Problem, kind: int) -> IntArray:
        """Return what cabinets and heights alone would take of a kind, by future and site, int64[draws, sites]. [-]"""
        if kind not in self._counts:
            walked, snapshot = self.walked(problem), self.snapshot
            fact, counts = snapshot.kinds[kind], np.zeros((DRAWS, len(snapshot.sites)), dtype=np.int64)
            each = {"host_w": fact.power_w, "host_u": fact.height_u}
            bare = hosts_fit(free_w=walked.free_w, free_u=walked.free_u, **each)  # type: ignore[arg-type]
            for at, racked in enumerate(walked.racked):
                racks, where = np.unique(racked[:, 0], return_inverse=True)
                power_w = np.bincount(where, racked[:, 2] * snapshot.kind_power_w[racked[:, 1]], minlength=len(racks))
                height_u = np.bincount(where, racked[:, 2] * snapshot.kind_height_u[racked[:, 1]], minlength=len(racks))
                fits = bare.copy()
                fits[racks] = hosts_fit(
                    free_w=walked.free_w[racks] - power_w,
                    free_u=walked.free_u[racks] - height_u.astype(np.int64),
                    **each,  # type: ignore[arg-type]
                )
                counts[at] = np.bincount(snapshot.rack_site, fits, minlength=counts.shape[1])
            self._counts[kind] = counts
        return self._counts[kind]


@dataclass(frozen=True, eq=False)
class _Walked:
    """Free power and height of each rack on the day, and what each future does with them.

    `racked`: hosts put into racks by the day, int64[N, 3]: rack, kind, how many; by rack. `hosts` and `expected_hosts`:
    hosts at each site in each month, int64[T, sites, K].
    """

    free_w: FloatArray
    free_u: IntArray
    racked: list[IntArray]
    hosts: list[IntArray]
    expected_hosts: IntArray


class DayAnswers:
    """Answers about a fleet on a day by one set of ratings. Everything is worked out when it is first needed, once."""

    def __init__(self, fleet: DayFleet, in_use: InUse | None, histories: str) -> None:
        self.fleet, self.in_use, self.histories = fleet, in_use, histories
        self.snapshot, self.day = fleet.snapshot, fleet.day

    @cached_property
    def _problem(self) -> tuple[Problem, RatingTable]:
        """Put the question of a plain capacity run from the day on, about every service."""
        inputs = Inputs(
            kind="capacity",
            starts_on=self.day,
            ends_on=month_add(self.day, HORIZON_MONTHS - 1),
            trace_digest=None,
            services=tuple(service.slug for service in self.snapshot.services),
            reserve_ratio=RESERVE_RATIO,
            growth_override_ratio=None,
            dual_run_months=0,
            draws=DRAWS,
            seed=SEED,
        )
        problem, table = problem_build(inputs, self.snapshot, None, self.in_use)
        months = (self.day, *problem.months[1:])  # the first month is judged on the day itself
        allowed = allowed_take(self.snapshot, table.homegrown, months)
        return replace(problem, months=months, allowed=allowed), table

    @property
    def problem(self) -> Problem:
        """The question."""
        with self.fleet.lock:
            return self._problem[0]

    @property
    def table(self) -> RatingTable:
        """The ratings."""
        with self.fleet.lock:
            return self._problem[1]

    @cached_property
    def _measured(self) -> dict[str, Any]:
        return measured_summary(self.in_use)

    @cached_property
    def _demand(self) -> Demand:
        """The demand that a run about the same months takes."""
        months = tuple(month_first(month) for month in self.problem.months)
        return demand_of(self.problem, demand_fans(self.snapshot, months))

    @cached_property
    def _futures(self) -> list[Future]:
        return [future_draw(self.problem, index, self._demand) for index in range(DRAWS)]

    def services_of(self, question: CapacityQuestion) -> BoolArray:
        """Return the services that load the regions asked about, and the one asked about, bool[S]."""
        regions, loads = self._regions(question), self.problem.in_scope
        named = np.array([service.slug == question.service for service in self.snapshot.services], dtype=bool)
        here = np.array([service.region in regions for service in self.snapshot.services], dtype=bool)
        return (here & loads) | named

    def ratings(self, question: CapacityQuestion) -> dict[str, Any]:
        """Return how many rates of a question are from where, and have those that are missing worked out behind it."""
        asked = self.services_of(question)
        catalog = ratings_ask(self.table.missing(asked))
        return {**self.table.counts(asked), "catalog": str(catalog) if catalog else None}

    def _sites(self, question: CapacityQuestion) -> list[int]:
        return [at for at, site in enumerate(self.snapshot.sites) if _in_scope(question, site)]

    def _regions(self, question: CapacityQuestion) -> list[str]:
        return sorted({self.snapshot.sites[at].region for at in self._sites(question)})

    # --- answers ------------------------------------------------------------------------------------------------------
    def answer(self, question: CapacityQuestion) -> dict[str, Any]:
        """Answer one question."""
        with self.fleet.lock:
            return self._answer(question)

    def _answer(self, question: CapacityQuestion) -> dict[str, Any]:
        snapshot, problem, table = self.snapshot, self.problem, self.table
        kind = [fact.slug for fact in snapshot.kinds].index(question.kind)
        sites, regions = self._sites(question), self._regions(question)
        fits, hosts_drawn, stops = self._room(sites, kind)
        tok_s, rating = None, None
        if question.service is not None:
            at = [fact.slug for fact in snapshot.services].index(question.service)
            rating = _rating(snapshot, table, problem, at, kind)
            rates = np.array([future.rate_tok_s[at, kind] for future in self._futures]) * rating["allowed"]
            tok_s = band_of(hosts_drawn * rates, expected=0.0)
        rows = [row for row in self.run_outs if row.slug in regions]
        in_scope = self.services_of(question) & problem.in_scope
        return {
            "question": {**asdict(question), "as_of": question.as_of.isoformat()},
            "fits": fits.as_dict(),
            "fits_without_deliveries": self.fleet.rooms.fit(kind, sites, with_stops=False).count,
            "tok_s": tok_s.as_dict() if tok_s else None,
            "rating": rating,
            "binding": [
                {
                    "constraint": stop.constraint,
                    "object": stop.object,
                    "failure": stop.failure,
                    "share": stop.share_ratio,
                }
                for stop in stops
            ],
            "run_out": asdict(first_of(problem, rows)),
            "run_out_regions": [
                {"region": row.slug, "run_out": asdict(row.run_out), "sentence": row.sentence} for row in rows
            ],
            "sure": {
                "quantile": question.quantile,
                "hosts": math.floor(band_at(fits, 1 - question.quantile) + 1e-9),
                "tok_s": band_at(tok_s, 1 - question.quantile) if tok_s else None,
            },
            "horizon": [month_label(problem.months[0]), month_label(problem.months[-1])],
            "assumptions": _assumptions(question, snapshot, regions, rates_basis(table, in_scope=in_scope)),
            "snapshot_digest": snapshot.digest,
            "engine_version": ENGINE_VERSION,
            "rating_version": RATING_VERSION,
            "ratings_digest": table.digest,
            "calibration": self._measured,
            "serving_calibration": self.in_use.as_dict() if self.in_use else None,
        }

    def _room(self, sites: Sequence[int], kind: int) -> tuple[Band, FloatArray, Sequence[FitStop]]:
        """Return how many more hosts the racks of the sites take once what is due has been racked, and what stops more.

        The futures are put in order by what cabinets and heights alone would take. Of those at P10, P50 and P90 the
        answer is exact, with all that racks share; the others are read between them. What stops more is that of P50.
        """
        racks = np.isin(self.snapshot.rack_site, sites)
        if not (racks & self.snapshot.rack_open(self.day)).any():
            return Band.exact(0), np.zeros(DRAWS), [FitStop("no_rack", "", "", 1.0, 0)]
        racked = self.fleet.walked(self.problem).racked
        order = np.argsort(self.fleet.count(self.problem, kind)[:, sites].sum(axis=1), kind="stable")
        marks = [math.ceil(share * DRAWS) - 1 for share in (0.1, 0.5, 0.9)]
        exact = [self.fleet.rooms.fit(kind, sites, racked[order[mark]], with_stops=mark == marks[1]) for mark in marks]
        counts = sorted(fit.count for fit in exact)
        drawn = np.zeros(DRAWS)
        drawn[order] = np.interp(np.arange(DRAWS), marks, counts)
        return Band(*counts), drawn, exact[1].stops

    @cached_property
    def run_outs(self) -> tuple[RegionRunOut, ...]:
        """When each region runs out; other processes find it in the cache."""
        in_use = self.in_use.digest if self.in_use else ""
        follows = [ENGINE_VERSION, RATING_VERSION, in_use, self.table.digest, self.histories]
        text = json.dumps([*follows, self.day.isoformat(), [region.slug for region in self.snapshot.regions]])
        key = f"capacity-run-outs:{self.snapshot.digest}:{hashlib.sha256(text.encode()).hexdigest()}"
        kept: Iterable[dict[str, Any]] | None = _cache_get(key)
        if kept is not None:
            return tuple(
                RegionRunOut(**{**row, "months": tuple(row["months"]), "run_out": MonthBand(**row["run_out"])})
                for row in kept
            )
        problem, walked = self.problem, self.fleet.walked(self.problem)
        found = plan_run_outs(
            problem,
            expected=future_expected(problem, self._demand),
            expected_hosts=walked.expected_hosts,
            futures=self._futures,
            hosts=walked.hosts,
        )
        _cache_set(key, [asdict(row) for row in found])
        return found


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
