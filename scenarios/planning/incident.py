"""Something happens to a fleet: hosts go dark, a chip is banned, deliveries stop, demand rises. Values in, values out.

docs/models/events.md has the definitions. An incident is applied to a problem as a whole: the world after it is a
problem like the one before, which every planner can answer.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from scenarios.planning.plain import ProblemError, given
from scenarios.planning.problem import (
    HOSTS_MOST,
    PERIODS_MOST,
    DeliveryValues,
    OfferValues,
    PlanProblem,
    RateValues,
    Series,
    UpValues,
    problem_check,
)


@dataclass(frozen=True, slots=True)
class HitValues:
    """Hosts of a kind in a place that cannot serve: dark, banned, or below a firmware baseline."""

    place: str = given("Place.")
    kind: str = given("Kind of host.")
    ratio: Series = given("Share of its hosts there that cannot serve.", unit="-", least=0.0, most=1.0)


@dataclass(frozen=True, slots=True)
class StopValues:
    """Hosts of a kind that do not come when they were to, and are not offered."""

    kind: str = given("Kind of host.")
    first: int = given("First period in which none comes.", unit="period", least=0, most=PERIODS_MOST)
    until: int | None = given(
        "Period in which what did not come in time comes; none: never.", unit="period", default=None, least=0
    )
    left_ratio: float = given("Share that still comes in time.", unit="-", default=0.0, least=0.0, most=1.0)
    sites: tuple[str, ...] = given("Sites; none: all.", default=())
    deliveries: tuple[str, ...] = given("Deliveries by name; none: all, and what is offered.", default=())


@dataclass(frozen=True, slots=True)
class ClosedValues:
    """A homegrown kind on which no more services open."""

    kind: str = given("Kind of host.")
    first: int = given("First period in which none opens.", unit="period", least=0, most=PERIODS_MOST)
    region: str = given("Region; empty: all.", default="")
    until: int | None = given("Period from which they open again; none: never.", unit="period", default=None, least=0)


@dataclass(frozen=True, slots=True)
class DemandValues:
    """Demand of a service as the incident makes it."""

    service: str = given("Service.")
    demand_tok_s: Series = given("Output tokens demanded in the peak hour.", unit="tok/s", least=0.0)


@dataclass(frozen=True, slots=True)
class ExposedValues:
    """Hosts of a kind in a place that the incident is about, whether or not they go on serving."""

    place: str = given("Place.")
    kind: str = given("Kind of host.")
    ratio: float = given("Share of its hosts there in the first period of it.", unit="-", least=0.0, most=1.0)


@dataclass(frozen=True, slots=True)
class PlacedValues:
    """Traffic of a service as replicas are placed now, and what of it stands on what is hit."""

    service: str = given("Service.")
    tok_s: float = given("That its replicas make.", unit="tok/s", least=0.0)
    exposed_tok_s: float = given("Of it, on what is hit.", unit="tok/s", least=0.0)


@dataclass(frozen=True)
class Incident:
    """What happens, complete."""

    words: str = given("What happens, as the begin of a sentence.")
    first: int = given("First period that it touches.", unit="period", least=0, most=PERIODS_MOST)
    until: int | None = given("First period free of it; none: none is.", unit="period", default=None, least=0)
    lasting: Series = given(
        "Share of each period for which it lasts: its peak hour is judged while it does, its tokens are for so long.",
        unit="-",
        default=(1.0,),
        least=0.0,
        most=1.0,
    )
    begin_ratio: float = given(
        "Share of its first period that has passed when it begins.", unit="-", default=0.0, least=0.0, most=1.0
    )
    hits: tuple[HitValues, ...] = given("Hosts that cannot serve.", default=())
    stops: tuple[StopValues, ...] = given("Hosts that do not come.", default=())
    closed: tuple[ClosedValues, ...] = given("Where nothing new opens.", default=())
    worthless: tuple[str, ...] = given("Kinds whose hosts bring nothing when they go.", default=())
    demand: tuple[DemandValues, ...] = given("Demand that changes.", default=())
    new_services: tuple[str, ...] = given("Services that only the world after has.", default=())
    exposed: tuple[ExposedValues, ...] = given("Hosts that it is about.", default=())
    placed: tuple[PlacedValues, ...] = given("Traffic as it is placed.", default=())


def world_before(problem: PlanProblem, incident: Incident) -> PlanProblem:
    """Return the problem as if nothing happened: without the services that the incident brings."""
    new = set(incident.new_services)
    if not new:
        return problem
    services = tuple(one for one in problem.services if one.slug not in new)
    return replace(
        problem,
        services=services,
        floors=tuple(
            one
            for one in problem.floors  # a floor under nothing but what comes is none before
            if one.region in {"", *(service.region for service in services)}
            and one.tier in {"", *(service.tier for service in services)}
        ),
        rates=tuple(one for one in problem.rates if one.service not in new),
        order=tuple(one for one in problem.order if one.first not in new and one.then not in new),
    )


def world_after(problem: PlanProblem, incident: Incident) -> PlanProblem:
    """Return the problem as the incident leaves it.

    Hosts that are hit stay in their racks. Where the world before had hosts that could not serve, at least as many
    cannot after: so to remove twice is to remove once.

    Raises
    ------
    ProblemError
        If the incident names what the problem does not have.
    """
    incident_check(problem, incident)
    demand = {row.service: row.demand_tok_s for row in incident.demand}
    after = replace(
        problem,
        services=tuple(replace(one, demand_tok_s=demand.get(one.slug, one.demand_tok_s)) for one in problem.services),
        kinds=tuple(replace(one, resale_ratio=0.0) if one.slug in incident.worthless else one for one in problem.kinds),
        up=tuple(_up(problem, incident)),
        deliveries=tuple(row for one in problem.deliveries for row in _delivered(problem, one, incident.stops)),
        offers=tuple(row for one in problem.offers for row in _offered(problem, one, incident.stops)),
        rates=tuple(row for one in problem.rates for row in _opening(problem, one, incident)),
    )
    problem_check(after)
    return after


def incident_check(problem: PlanProblem, incident: Incident) -> None:
    """Raise ProblemError, naming every place at fault, if an incident does not fit its problem."""
    errors = list(_errors(problem, incident))
    if errors:
        raise ProblemError(errors)


def _errors(problem: PlanProblem, incident: Incident) -> Iterator[tuple[str, str]]:
    known = {
        "place": {one.slug for one in problem.located},
        "kind": {one.slug for one in problem.kinds},
        "service": {one.slug for one in problem.services},
    }
    count = len(problem.periods)
    if incident.first >= count:
        yield "incident.first", f"period {incident.first} is after the horizon of {count}"
    yield from _contradictions(incident)
    for name in ("hits", "stops", "closed", "demand", "exposed", "placed"):
        for at, row in enumerate(getattr(incident, name)):
            for what, slugs in known.items():
                value = getattr(row, what, None)
                if value is not None and value not in slugs:
                    yield f"incident.{name}[{at}].{what}", f"unknown {what} {value!r}"
            for series in ("ratio", "demand_tok_s"):
                values = getattr(row, series, None)
                if isinstance(values, tuple) and len(values) not in {1, count}:
                    yield f"incident.{name}[{at}].{series}", f"{len(values)} numbers for {count} periods"
    if len(incident.lasting) not in {1, count}:
        yield "incident.lasting", f"{len(incident.lasting)} numbers for {count} periods"
    for name, what in (("worthless", "kind"), ("new_services", "service")):
        for at, slug in enumerate(getattr(incident, name)):
            if slug not in known[what]:
                yield f"incident.{name}[{at}]", f"unknown {what} {slug!r}"


def _contradictions(incident: Incident) -> Iterator[tuple[str, str]]:
    if incident.until is not None and incident.until <= incident.first:
        yield "incident.until", f"period {incident.until} is not after the first one, {incident.first}"
    demanded = [row.service for row in incident.demand]
    for at, service in enumerate(demanded):
        if service in demanded[:at]:
            yield f"incident.demand[{at}].service", f"{service!r} is named twice"


def _up(problem: PlanProblem, incident: Incident) -> Iterator[UpValues]:
    """Yield what can serve: of what could before and of what is not hit, the less."""
    up = dict(problem.up_ratios)
    for row in incident.hits:
        left = tuple(1.0 - ratio for ratio in problem.at(row.ratio))
        before = up.get((row.place, row.kind), (1.0,) * len(problem.periods))
        up[row.place, row.kind] = tuple(np.minimum(before, left).tolist())
    named = {(row.place, row.kind) for row in problem.up}
    for (place, kind), ratio in up.items():
        if min(ratio) < 1.0 or (place, kind) in named:
            yield UpValues(place, kind, ratio)


def _stop_of(stops: tuple[StopValues, ...], kind: str, site: str, period: int, slug: str | None) -> StopValues | None:
    """Return what stops hosts of a kind that come to a site in a period: of a delivery, or of an offer (no slug)."""
    for stop in stops:
        is_in = stop.first <= period and (stop.until is None or period < stop.until)
        names = not stop.deliveries or (slug is not None and slug in stop.deliveries)
        if stop.kind == kind and is_in and names and (not stop.sites or site in stop.sites):
            return stop
    return None


def _delivered(problem: PlanProblem, row: DeliveryValues, stops: tuple[StopValues, ...]) -> Iterator[DeliveryValues]:
    stop = _stop_of(stops, row.kind, row.site, row.period, row.slug)
    if stop is None:
        yield row
        return
    comes = _part(row.hosts, stop.left_ratio)
    if comes:
        yield replace(row, hosts=comes, ordered=0)
    late = row.hosts - comes
    if late and stop.until is not None and stop.until < len(problem.periods):
        yield replace(row, period=stop.until, hosts=late, ordered=0)


def _offered(problem: PlanProblem, row: OfferValues, stops: tuple[StopValues, ...]) -> Iterator[OfferValues]:
    stop = _stop_of(stops, row.kind, row.site, row.period, None)
    if stop is None:
        yield row
        return
    comes = _part(row.hosts, stop.left_ratio)
    if comes:
        yield replace(row, hosts=comes)
    if row.hosts - comes and stop.until is not None and stop.until < len(problem.periods):
        yield replace(row, period=stop.until, hosts=row.hosts - comes)


def _part(hosts: int, left_ratio: float) -> int:
    """Return the whole hosts of a share, at most `HOSTS_MOST`."""
    return min(math.floor(hosts * left_ratio + 1e-9), HOSTS_MOST)


def _opening(problem: PlanProblem, rate: RateValues, incident: Incident) -> Iterator[RateValues]:
    """Yield a rate unless its way may not open any more; later where it may again.

    A service that serves on a kind already, or could have opened it before the period, may go on.
    """
    rates = [one for one in problem.rates if (one.service, one.kind) == (rate.service, rate.kind)]
    homegrown = next(one.homegrown for one in problem.kinds if one.slug == rate.kind)
    region = next(one.region for one in problem.services if one.slug == rate.service)
    ready = min(one.ready for one in rates)
    for row in incident.closed:
        is_in = row.first <= ready and (row.until is None or ready < row.until)
        if homegrown and is_in and row.kind == rate.kind and row.region in {"", region}:
            if any(one.in_use for one in rates):
                break
            if row.until is not None and row.until < len(problem.periods):
                yield replace(rate, ready=max(rate.ready, row.until))
            return
    yield rate
