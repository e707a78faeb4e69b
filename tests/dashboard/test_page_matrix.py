"""Every page x method x account x object, against the one table of tests/permission_matrix.py."""

from datetime import UTC, datetime

import pytest
from django.db import transaction
from django.test import Client

from fleet.models import Region, RegionLimit
from scenarios.models import Report, Run
from scenarios.schedules import schedule_save
from tests.api.test_permission_matrix import FOREIGN, SEEN, job_make, rows_make
from tests.dashboard.conftest import client_of, run_make, user_make
from tests.permission_matrix import ACCOUNTS, MATRIX, Rule, is_allowed, routes_of

ROUTES = routes_of("dashboard")
METHODS = ("GET", "POST")
SIGN_IN = "/login/"


@pytest.fixture
def world(roles, published):
    found = {region: rows_make(region) for region in (SEEN, FOREIGN)}
    Report.objects.all().delete()  # pages show results: those of real runs take their places
    Run.objects.all().delete()
    for rows in found.values():
        rows["scenario"].trace = None  # its services' own mixes
        rows["scenario"].save()
        schedule_save(rows["schedule"])
        rows["run"] = run_make(rows["scenario"], schedule=rows["schedule"], fire_at=datetime(2027, 1, 4, tzinfo=UTC))
        rows["report"] = rows["run"].report
    return found


def client_make(account):
    """Return a client of an account of the matrix, and what is its own, by the first word of pages."""
    if account == "anonymous":
        return Client(), {}
    role = account.removeprefix("limited ")
    user = user_make(account.replace(" ", "-"), None if role == "no role" else role)
    if account.startswith("limited"):
        RegionLimit.objects.create(user=user).regions.set(Region.objects.filter(slug=SEEN))
    return client_of(user), {"import": job_make(user)}


def address_of(route, rows):
    """Return an address of a page about the rows of a region; lists and forms are those of racks."""
    page = route.name.removeprefix("dashboard:")
    row, rack = rows["row"], rows["rack"]
    kind = page.split("_")[0]
    pk = rows["rack"].pk if kind == "entry" else getattr(rows.get(kind), "pk", 0)
    values = {
        "pk": pk,
        "name": {"entry": "racks", "run": "capacity", "tree": "power", "demand": "services"}.get(kind, "rows"),
        "number": rows["changeset"].number,
        "uid": rows["report"].uid,
        "serial": rows["card"].serial,
        "hall_slug": row.hall.slug,
        "row_slug": row.slug,
        "slug": {"rack": rack.slug, "host": rows["host"].slug}.get(page, rows["site"].slug),
        **({"slug": rows["service"].slug, "name": "mix"} if page.startswith("demand_service") else {}),
        **({"slug": rows["service"].slug} if page == "demand_upload" else {}),
    }
    query = f"?tree=rack&node={rack.slug}" if page == "failure" else ""
    return route.template % values + query


def is_right(rule, account, region, answer):
    """Return whether an answer is what the table says."""
    status, to_sign_in = answer.status_code, answer.get("Location", "").startswith(SIGN_IN)
    if account == "anonymous" and (rule is None or account not in rule.who):
        return (status == 302 and to_sign_in) or (rule is None and status == 405)
    if rule is None:  # a page of one role may say first that an account has not got it
        return status in {403, 405}
    if not is_allowed(rule, account):
        return status in ({403, 404} if region == FOREIGN and account.startswith("limited") else {403})
    if region == FOREIGN and account.startswith("limited"):
        return status == 404
    return (
        status < 500 and status not in {401, 403, 405} and not (status == 302 and to_sign_in and account != "anonymous")
    )


@pytest.mark.parametrize("account", ACCOUNTS)
def test_every_page_does_for_an_account_what_the_table_says(world, account):
    client, own = client_make(account)
    failures, tried = [], 0
    for route in ROUTES:
        if route.name in {"dashboard:login", "dashboard:logout"} and account != "anonymous":
            continue  # they would end the session that the others are tried with
        for method in METHODS:
            rule = MATRIX.get((route.name, method))
            for region in (SEEN, FOREIGN) if (rule or Rule()).object else (SEEN,):
                path = address_of(route, {**world[region], **own})
                with transaction.atomic():
                    answer = client.generic(method, path)
                    transaction.set_rollback(True)
                tried += 1
                if not is_right(rule, account, region, answer):
                    failures.append(f"{method} {path} ({region}): {answer.status_code} {answer.get('Location', '')}")
    assert not failures, "\n".join(failures)
    assert tried > 100


def test_every_page_is_in_the_table_and_the_table_names_no_other():
    assert {name for name, _ in MATRIX if name.startswith("dashboard:")} == {route.name for route in ROUTES}


def test_an_account_of_one_region_sees_no_question_of_another(world):
    client, _ = client_make("limited viewer")
    for path in ("/", "/scenarios/", "/reports/", "/schedules/", "/fleet/"):
        page = client.get(path).content.decode()
        assert FOREIGN not in page.lower(), path
