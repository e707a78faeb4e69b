"""Which questions and answers an account sees that is limited to regions; without a limit, all of them.

A question is seen by who sees every service that it asks about: one about all services is not. Of an answer, what it
says of places elsewhere is left out. Who made a row does not matter: an account may have been limited since.
"""

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import date
from typing import Any, TypeVar

import numpy as np
from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ValidationError
from django.db.models import BooleanField, Func, Model, Q, QuerySet
from django.db.models.fields.json import KeyTransform

from fleet.access import region_limit, regions_seen, rows_seen
from fleet.inventory import BY_KIND
from fleet.models import Service, Site
from fleet.selectors import snapshot_cached
from fleet.snapshot import DAY_MIN, FleetSnapshot
from scenarios.checks import DAY_FIRST, DAY_LAST
from scenarios.demands import DemandView, demand_views
from scenarios.event_checks import nodes_seen
from scenarios.event_reading import names_of
from scenarios.models import DemandHistory, ImportJob, Report, Run, Scenario, Schedule, Trace
from scenarios.planning.params import CLIENT, NEW_MODEL, TREE
from scenarios.queries import CapacityQuestion, capacity_answer, capacity_query, check_question
from scenarios.ratings import engines_in_use

Account = AbstractBaseUser | AnonymousUser | None
Rows = TypeVar("Rows", bound=Model)


class NamesWithin(Func):
    """Whether a JSON list names something, and nothing but `names`."""

    output_field = BooleanField()

    def __init__(self, expression: Any, names: tuple[str, ...]) -> None:
        super().__init__(expression)
        self.names = names

    def as_sqlite(self, compiler: Any, connection: Any, **_: Any) -> Any:
        """Walk both lists."""
        inner, params = compiler.compile(self.source_expressions[0])
        known = "SELECT known.value FROM json_each(%s) AS known"
        other = f"SELECT 1 FROM json_each({inner}) AS named WHERE named.value NOT IN ({known})"  # nosec B608  # noqa: S608 -- no value
        sql = f"(json_array_length({inner}) > 0 AND NOT EXISTS ({other}))"
        return sql, [*params, *params, json.dumps(self.names)]

    def as_postgresql(self, compiler: Any, connection: Any, **_: Any) -> Any:
        """Compare them as sets."""
        inner, params = compiler.compile(self.source_expressions[0])
        within = f"jsonb_array_length({inner}) > 0 AND ({inner}) <@ %s::jsonb"
        sql = f"(CASE WHEN jsonb_typeof({inner}) = 'array' THEN {within} ELSE FALSE END)"
        return sql, [*params, *params, *params, json.dumps(self.names)]


def services_seen(user: Account) -> tuple[str, ...]:
    """Return the slugs of the services that an account sees, in order."""
    known: Any = user
    if not hasattr(known, "services_known"):
        services = rows_seen(Service.objects.order_by("slug"), user)
        known.services_known = tuple(services.values_list("slug", flat=True))
    return known.services_known


# --- rows -------------------------------------------------------------------------------------------------------------
def scenarios_seen(rows: QuerySet[Scenario], user: Account) -> QuerySet[Scenario]:
    """Return the scenarios that ask about nothing but services of the account's regions."""
    if region_limit(user) is None:
        return rows
    return _params_within(rows.filter(NamesWithin("services", services_seen(user))), "params", user)


def schedules_seen(rows: QuerySet[Schedule], user: Account) -> QuerySet[Schedule]:
    """Return the schedules of the scenarios that it sees."""
    return rows if region_limit(user) is None else rows.filter(scenario__in=_scenarios(user))


def runs_seen(rows: QuerySet[Run], user: Account) -> QuerySet[Run]:
    """Return the runs that asked, when they were started, about nothing but services of the account's regions.

    The scenario and the schedule of such a run, which may have been edited since, are seen too.
    """
    if region_limit(user) is None:
        return rows
    asked = NamesWithin(KeyTransform("services", "inputs"), services_seen(user))
    of_schedule = Q(schedule__isnull=True) | Q(schedule__scenario__in=_scenarios(user))
    return _params_within(rows.filter(asked, of_schedule, scenario__in=_scenarios(user)), "inputs__params", user)


PARAMS_NAME = {
    "floors": {"region": "region"},
    "offers": {"site": "site"},
    "tariffs": {"site": "site"},
    "order": {"first": "service", "then": "service"},
    "must_leave": {"service": "service"},
}
"""What lists of parameters name: fields, and what they are."""


def _params_within(rows: QuerySet[Rows], path: str, user: Account) -> QuerySet[Rows]:
    """Return the rows whose parameters name nothing that the account does not see."""
    naming = Q()
    for name in (*PARAMS_NAME, *EVENT_NAMES):
        naming |= Q(**{f"{path}__{name}__isnull": False})
    known = {
        "region": set(regions_seen(user)),
        "site": set(rows_seen(Site.objects.all(), user).values_list("slug", flat=True)),
        "service": set(services_seen(user)),
    }
    asked = rows.model._default_manager.filter(naming)  # all: `rows` may be part of another query
    named = list(asked.values_list("pk", path))
    nodes = nodes_seen({node for _pk, params in named for node in _nodes(params)}, user)
    beyond = [
        pk
        for pk, params in named
        if _names_beyond(params, known) or _event_beyond(params, known) or not nodes.issuperset(_nodes(params))
    ]
    return rows.exclude(pk__in=beyond) if beyond else rows


EVENT_NAMES = ("node", "region", "subject")
"""What the parameters of an outage or an event name."""


def _nodes(params: Mapping[str, Any]) -> list[tuple[str, str]]:
    """Return the node that an outage names, with its tree."""
    return [(params.get("tree", TREE), params["node"])] if params.get("node") else []


def _event_beyond(params: Mapping[str, Any], known: Mapping[str, set[str]]) -> bool:
    """Whether an event names a region or a service that is not known."""
    region, event = params.get("region"), params.get("event")
    services = names_of(params.get("subject") or "") if event in {CLIENT, NEW_MODEL} else []
    return bool(region and region not in known["region"]) or not set(services) <= known["service"]


def _names_beyond(params: Mapping[str, Any], known: Mapping[str, set[str]]) -> bool:
    """Whether parameters name a place or a service that is not known; an empty name is all of them."""
    return any(
        row.get(field) and row[field] not in known[what]
        for name, named in PARAMS_NAME.items()
        for row in params.get(name) or ()
        for field, what in named.items()
    )


def reports_seen(rows: QuerySet[Report], user: Account) -> QuerySet[Report]:
    """Return the reports of the runs that it sees."""
    if region_limit(user) is None:
        return rows
    of_schedule = Q(schedule__isnull=True) | Q(schedule__scenario__in=_scenarios(user))
    return rows.filter(of_schedule, run__in=runs_seen(Run.objects.all(), user))


def traces_seen(rows: QuerySet[Trace], user: Account) -> QuerySet[Trace]:
    """Return the account's own traces and those of scenarios that it sees: a trace tells of a service's traffic."""
    if region_limit(user) is None:
        return rows
    return rows.filter(Q(owner_id=getattr(user, "pk", None) or 0) | Q(pk__in=_scenarios(user).values("trace")))


def imports_seen(rows: QuerySet[ImportJob], user: Account) -> QuerySet[ImportJob]:
    """Return the account's own imports, or all for who oversees them.

    With a limit, those alone that were limited to the same regions, fewer or none: what they tell of lies there.
    """
    known: Any = user
    if region_limit(user) is not None:
        within = Q(NamesWithin("regions", tuple(regions_seen(user)))) | Q(regions=[])
        return rows.filter(within, owner_id=known.pk or 0)
    if user is None or known.has_perm("scenarios.oversee_importjob"):
        return rows
    return rows.filter(owner_id=known.pk or 0)


def histories_seen(rows: QuerySet[DemandHistory], user: Account) -> QuerySet[DemandHistory]:
    """Return the demand histories of the services that it sees."""
    return rows if region_limit(user) is None else rows.filter(service__in=rows_seen(Service.objects.order_by(), user))


def _scenarios(user: Account) -> QuerySet[Scenario]:
    return scenarios_seen(Scenario.objects.order_by(), user)


RULES: Mapping[type[Model], Callable[[Any, Account], Any]] = {
    Scenario: scenarios_seen,
    Schedule: schedules_seen,
    Run: runs_seen,
    Report: reports_seen,
    Trace: traces_seen,
    ImportJob: imports_seen,
    DemandHistory: histories_seen,
}


def seen(rows: QuerySet[Rows], user: Account) -> QuerySet[Rows]:
    """Return those of some rows, of whatever kind, that an account sees; kinds that lie nowhere are seen by all."""
    if rows.model in RULES:
        return RULES[rows.model](rows, user)
    return rows_seen(rows, user) if str(rows.model._meta.model_name) in BY_KIND else rows


# --- answers ----------------------------------------------------------------------------------------------------------
def result_seen(result: Mapping[str, Any], user: Account) -> dict[str, Any] | None:
    """Return the part of a result that an account sees, or None if that cannot be told from the rest.

    A result tells of the regions of the services asked about, and lists their sites; one of an older release lists
    every site, of which those elsewhere are left out. If anything else names another region or site, as after a
    service has moved, none of it is shown.
    """
    if region_limit(user) is None:
        return dict(result)
    regions = set(regions_seen(user))
    sites = set(rows_seen(Site.objects.order_by(), user).values_list("slug", flat=True))
    shown = {**result, "sites": [site for site in result.get("sites", []) if site["region"] in regions]}
    named = set(_named(shown, "region")), set(_named(shown, "site"))
    return shown if named[0] <= regions and named[1] <= sites else None


def _named(value: Any, field: str) -> Iterator[str]:
    """Yield every text that a field, or a list of that name, holds anywhere inside; an empty one names nothing."""
    if isinstance(value, Mapping):
        for name, inner in value.items():
            if name == field and isinstance(inner, str):
                if inner:
                    yield inner
            elif name == f"{field}s" and isinstance(inner, list):
                yield from (one["slug"] if isinstance(one, Mapping) else str(one) for one in inner)
            yield from _named(inner, field)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _named(inner, field)


def report_seen(report: Report, user: Account) -> bool:
    """Return whether an account sees the page and the table of a report: those of a result of which it sees all."""
    if region_limit(user) is None:
        return True
    result = report.run.result or {}
    return result_seen(result, user) == result


# --- demand -----------------------------------------------------------------------------------------------------------
class DemandSeen(Sequence[Service]):
    """The services in a snapshot that an account sees, by slug, and their demand."""

    def __init__(self, user: Account, day: date) -> None:
        self._snapshot = snapshot_cached(day)
        self._facts = {fact.slug: fact for fact in self._snapshot.services}
        rows = rows_seen(Service.objects.select_related("region").order_by("slug"), user)
        self._rows = [row for row in rows if row.slug in self._facts]

    def __len__(self) -> int:
        return len(self._rows)

    def __getitem__(self, at: Any) -> Any:
        return self._rows[at]

    def named(self, slug: str) -> Service | None:
        """Return the service with a slug, if the account sees it."""
        return next((row for row in self._rows if row.slug == slug), None)

    def demands(self, services: Sequence[Service], months: Sequence[date]) -> tuple[DemandView, ...]:
        """Return the demand of some of them in some months, in their order."""
        return demand_views([self._facts[row.slug] for row in services], self._snapshot, months)


def demand_seen(user: Account, day: date) -> DemandSeen:
    """Return whose demand an account sees in the fleet of a day."""
    return DemandSeen(user, day)


# --- the capacity query -----------------------------------------------------------------------------------------------
def capacity_query_seen(question: CapacityQuestion, user: Account) -> dict[str, Any]:
    """Answer a capacity question from what an account sees; places and services elsewhere are unknown to it.

    Without a scope it is about all regions that the account sees.
    """
    if region_limit(user) is None:
        return capacity_query(question)
    if not DAY_FIRST <= question.as_of <= DAY_LAST:
        raise ValidationError({"as_of": f"a day from {DAY_FIRST} to {DAY_LAST} is needed"})
    regions = frozenset(regions_seen(user))
    snapshot = snapshot_within(snapshot_cached(question.as_of), regions)
    known = replace(
        snapshot,
        sites=tuple(site for site in snapshot.sites if site.region in regions),
        services=tuple(service for service in snapshot.services if service.region in regions),
    )
    check_question(question, known)
    return capacity_answer(question, snapshot, engines_in_use())


def snapshot_within(snapshot: FleetSnapshot, regions: frozenset[str]) -> FleetSnapshot:
    """Return a fleet as who sees some regions may use it: elsewhere every site lies nowhere, its racks are closed.

    Sites and services elsewhere keep their positions, so that the futures drawn are those that others see too.
    """
    is_here = np.array([site.region in regions for site in snapshot.sites], dtype=bool)
    return replace(
        snapshot,
        regions=tuple(region for region in snapshot.regions if region.slug in regions),
        sites=tuple(site if is_here[at] else replace(site, region="") for at, site in enumerate(snapshot.sites)),
        rack_last_day=np.where(is_here[snapshot.rack_site], snapshot.rack_last_day, DAY_MIN),
    )
