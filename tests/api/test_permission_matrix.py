"""Every route of the API x method x account x object, against the one table of tests/permission_matrix.py."""

from datetime import UTC, date, datetime
from uuid import UUID

import numpy as np
import orjson
import pytest
from django.db import transaction
from rest_framework.test import APIClient

from api.tokens import token_make
from fleet.inventory import INVENTORY
from fleet.models import ChangeSet, Region, RegionLimit
from fleet.services import row_save
from scenarios.demands import history_store
from scenarios.histories import History
from scenarios.models import ImportJob, RatingBatch, Report, Run, Scenario, Schedule, Trace
from scenarios.rating_store import rating_get_or_compute
from tests.api.conftest import user_make
from tests.api.rows import region_fill
from tests.calibrations import row as point
from tests.calibrations import version_make
from tests.permission_matrix import ACCOUNTS, GLOBAL, MATRIX, METHODS, NOWHERE, Rule, is_allowed, routes_of
from tests.scenarios.rating_questions import FAST, question

SEEN, FOREIGN = "north", "south"
CATALOG = UUID("00000000-0000-4000-8000-000000000001")
REFUSALS = {401, 403, 404, 405}
RESULT = {"kind": "capacity", "regions": [], "sites": [], "services": [], "kinds": [], "months": [], "ratings": []}
ROUTES = [route for route in routes_of("api") if route.name not in NOWHERE]
KINDS = {entry.kind for entry in INVENTORY.values()}


@pytest.fixture
def world(roles, published):
    """Two regions with a row of every kind and a question each, and what lies in neither."""
    version, rating = version_make(point()), rating_get_or_compute(question(**FAST))
    RatingBatch.objects.create(catalog=CATALOG, pairs=[], mix="m-small", ttft_p95_s=1.0, tpot_p95_s=0.1)
    shared = {"calibrationversion": version, "storedrating": rating}
    return {region: {**shared, **rows_make(region)} for region in (SEEN, FOREIGN)}


def rows_make(region):
    """Return a row of every kind that lies in a region, by the names that routes have for them."""
    made = region_fill(region)
    rows = {entry.kind: made[entry.name][0] for entry in INVENTORY.values()}
    services = [rows["service"].slug]
    trace = Trace.objects.create(digest=region, name=region, requests=1, mix={}, arrays=b"")
    days = {"starts_on": date(2027, 1, 1), "ends_on": date(2027, 3, 1)}
    scenario = Scenario.objects.create(name=region, kind="capacity", services=services, trace=trace, **days)
    schedule = Schedule.objects.create(name=region, scenario=scenario, cron="0 7 * * 1")
    run = Run.objects.create(
        scenario=scenario,
        schedule=schedule,
        fire_at=datetime(2027, 1, 4, tzinfo=UTC),
        inputs={"services": services, "trace_digest": None},
        inputs_digest="x",
        seed=1,
        status="done",
        result=RESULT,
    )
    report = Report.objects.create(run=run, schedule=schedule, title=region, html="", csv="")
    rows["rack"].height_u += 1
    row_save(rows["rack"])
    history = history_store(rows["service"], History(1_798_761_600, 3600, np.full(48, 2.0)), name=region, owner=None)
    made = {
        "demandhistory": history,
        "trace": trace,
        "scenario": scenario,
        "schedule": schedule,
        "run": run,
        "report": report,
    }
    return {**rows, **made, "changeset": ChangeSet.objects.get(changes__object_id=rows["rack"].pk)}


def account_make(account):
    """Return a client of an account of the matrix, and the ids of what is its own, by kind."""
    if account == "anonymous":
        return APIClient(), {"token": 0, "importjob": 0}
    limit, _, role = account.rpartition("limited ")
    user = user_make(account.replace(" ", "-"), None if role == "no role" else role)
    if limit or account.startswith("limited"):
        RegionLimit.objects.create(user=user).regions.set(Region.objects.filter(slug=SEEN))
    token, secret = token_make(owner=user, name="matrix", scopes=["read", "write", "run", "admin"])
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client, {"token": token.pk, "importjob": job_make(user).pk}


def job_make(user):
    """Return an import of an account that has not been read yet."""
    limit = RegionLimit.objects.filter(user=user).first()
    regions = [region.slug for region in limit.regions.all()] if limit else None
    return ImportJob.objects.create(owner=user, entry="racks", file_name="racks.csv", size_byte=1, regions=regions)


def requests_of(route, method, rule, rows, own):
    """Yield the region, address and body of each request that tries a method of a route."""
    kind = route.name.removeprefix("api:").split("-")[0]
    for region in (SEEN, FOREIGN) if rule.object else (SEEN,):
        pk = own[kind] if kind in own else getattr(rows[region].get(kind), "pk", 0)
        slugs = {"chip": "h20-96", "demand": rows[region]["service"].slug}
        slug = slugs.get(kind, "qwen3-32b")
        body = [{"id": pk}] if rule.object == "body" or (kind in KINDS and route.name.endswith("-list")) else {}
        yield (
            region,
            route.template % {"pk": pk, "slug": slug, "name": "capacity", "uid": CATALOG},
            {} if method == "POST" else body,
        )


def expected(rule, account, region, *, is_open):  # noqa: PLR0911 -- a table, read from above
    """Return the statuses with which a request may be answered, or None for any that is no refusal."""
    if rule is None:
        if account == "anonymous" and not is_open:
            return {401}
        return {403, 405} if account.startswith("limited") else {405}  # that it may write nothing here is seen first
    if account not in rule.who:
        if account == "anonymous":
            return {401}
        return {403, 404} if region == FOREIGN and account.startswith("limited") else {403}
    if not is_allowed(rule, account):
        return {403}
    if region == FOREIGN and account.startswith("limited"):
        return {404} if rule.object == "address" else {400}
    return None


@pytest.mark.parametrize("account", ACCOUNTS)
def test_every_route_and_method_does_for_an_account_what_the_table_says(world, account):
    client, own = account_make(account)
    failures, tried = [], 0
    for route in ROUTES:
        is_open = any("anonymous" in MATRIX[route.name, m].who for m in METHODS if (route.name, m) in MATRIX)
        for method in METHODS:
            rule = MATRIX.get((route.name, method))
            for region, path, body in requests_of(route, method, rule or Rule(), world, own):
                with transaction.atomic():
                    status = client.generic(method, path, *sent(method, body)).status_code
                    transaction.set_rollback(True)
                tried += 1
                right = expected(rule, account, region, is_open=is_open)
                if status >= 500 or (status in REFUSALS if right is None else status not in right):
                    failures.append(f"{method} {path} ({region}): {status}, not {right or 'let in'}")
    assert not failures, "\n".join(failures)
    assert tried > 700


def sent(method, body):
    return () if method == "GET" else (orjson.dumps(body), "application/json")


def test_every_route_is_in_the_table_and_the_table_names_no_other():
    there = {route.name for route in ROUTES}
    assert {name for name, _ in MATRIX if name.startswith("api:")} == there
    assert len(there) > 100


def test_a_method_that_a_view_answers_is_in_the_table(client):
    for route in ROUTES:
        path = route.template % {"pk": 1, "slug": "h20-96", "name": "capacity", "uid": CATALOG}
        allowed = set(client.generic("TRACE", path)["Allow"].split(", ")) - {"HEAD", "OPTIONS"}
        assert {method for name, method in MATRIX if name == route.name} == allowed, route.name


@pytest.mark.parametrize("account", ["anonymous", "admin"])
def test_every_other_address_is_404_whoever_asks(roles, account):
    client = account_make(account)[0]
    for method in METHODS:
        assert client.generic(method, "/api/v1/nothing/").status_code == 404


def test_the_objects_of_the_matrix_lie_where_it_says(world):
    for region in (SEEN, FOREIGN):
        for name, entry in INVENTORY.items():
            row = world[region][entry.kind]
            assert (name in GLOBAL) == (not entry.regions)
            for path in entry.regions[:1]:
                assert entry.model.objects.filter(pk=row.pk, **{f"{path}__slug" if path != "pk" else "slug": region})
