from datetime import UTC, date, datetime

import pytest
from django.contrib.auth.models import Group, User
from django.test import Client

from api.roles import roles_load
from fleet.models import Host, Row
from scenarios.models import Run, Scenario, Schedule
from scenarios.schedules import schedule_save
from scenarios.services import run_submit, scenario_save
from tests.calibrations import fit_publish
from tests.factories import START, fleet_rows
from tests.runs import run_work

PASSWORD = "a-long-password-1"


def user_make(name, group=None):
    user = User.objects.create_user(name, password=PASSWORD)
    if group:
        user.groups.add(Group.objects.get(name=group))
    return user


def client_of(user):
    client = Client()
    client.force_login(user)
    return client


@pytest.fixture
def roles(db):
    roles_load()


@pytest.fixture
def planner(roles):
    return user_make("planner", "planner")


@pytest.fixture
def pages(planner):
    """A client that is signed in as a planner."""
    return client_of(planner)


@pytest.fixture
def viewer_pages(roles):
    return client_of(user_make("viewer", "viewer"))


@pytest.fixture
def fleet(db):
    return fleet_rows(hosts=6)


def scenario_make(kind="capacity", **values):
    defaults = {"name": f"A {kind} question", "starts_on": START, "ends_on": date(2027, 4, 1), "draws": 10, "seed": 5}
    return scenario_save(Scenario(kind=kind, **{**defaults, **values}))


def run_make(scenario, **values):
    """A run that its worker has finished, through the real path."""
    run = run_submit(scenario=scenario, owner=None, **values)
    run_work(run.pk)
    run.refresh_from_db()
    assert run.status == Run.Status.DONE, run.error
    return run


@pytest.fixture
def scenario(fleet):
    return scenario_make()


@pytest.fixture
def capacity_run(scenario):
    return run_make(scenario)


@pytest.fixture
def migration_run(fleet):
    ppu = fleet["kinds"][1]
    for at in range(2):
        Host.objects.create(slug=f"own-{at}", host_type=ppu, rack=fleet["racks"][1])
    floor = {"ratio": 0.3, "month": "2027-04"}
    return run_make(scenario_make("migration", params={"pareto_points": 2, "floors": [floor]}))


@pytest.fixture
def schedule(scenario):
    return schedule_save(Schedule(name="Mondays", scenario=scenario, cron="0 7 * * 1", zone="Asia/Shanghai"))


@pytest.fixture
def report(schedule):
    return run_make(schedule.scenario, schedule=schedule, fire_at=datetime(2027, 1, 4, tzinfo=UTC)).report


def fleet_grow(fleet, *, racks, hosts_per_rack):
    """More of everything: pages must not cost more queries for it."""
    row = Row.objects.create(hall=fleet["racks"][0].row.hall, slug=f"more-{racks}", position=9)
    for at in range(racks):
        rack = row.racks.create(slug=f"more-{racks}-{at}", position=at, power_limit_w=50_000)
        for index in range(hosts_per_rack):
            Host.objects.create(
                slug=f"{rack.slug}-{index}", host_type=fleet["kinds"][index % 2], rack=rack, position_u=1 + 6 * index
            )


@pytest.fixture
def published(monkeypatch):
    """A small published fit with its held-out errors."""
    return fit_publish(monkeypatch)
