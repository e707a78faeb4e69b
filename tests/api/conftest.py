from datetime import UTC, date, datetime

import pytest
from django.contrib.auth.models import Group, User
from django.core.files.uploadedfile import SimpleUploadedFile
from rest_framework.test import APIClient

from api.roles import roles_load
from api.tokens import token_make
from fleet.demo import demo_fleet_load
from scenarios.models import Run, Scenario, Schedule
from scenarios.services import run_submit
from tests.calibrations import fit_publish
from tests.runs import run_work


@pytest.fixture
def roles(db):
    roles_load()


def user_make(name, group=None):
    user = User.objects.create_user(name, password="a-long-password-1")
    if group:
        user.groups.add(Group.objects.get(name=group))
    return user


@pytest.fixture
def planner(roles):
    return user_make("planner", "planner")


@pytest.fixture
def viewer(roles):
    return user_make("viewer", "viewer")


def client_of(user, *scopes):
    """Return a client that carries a bearer token."""
    _, secret = token_make(owner=user, name="test", scopes=scopes or ("read", "write", "run", "admin"))
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    return client


@pytest.fixture
def client(planner):
    return client_of(planner)


@pytest.fixture
def viewer_client(viewer):
    return client_of(viewer)


@pytest.fixture
def fleet(db):
    demo_fleet_load(date(2027, 1, 1))


SCENARIO = {"name": "How long?", "kind": "capacity", "starts_on": "2027-01-01", "ends_on": "2027-03-01", "draws": 12}


@pytest.fixture
def scenario(db):
    row = Scenario.objects.create(**SCENARIO)
    row.refresh_from_db()
    return row


@pytest.fixture
def schedule(scenario):
    return Schedule.objects.create(name="Mondays", scenario=scenario, cron="0 7 * * 1", zone="Asia/Shanghai")


@pytest.fixture
def run(scenario):
    return run_submit(scenario=scenario, owner=None)


@pytest.fixture
def done_run(fleet, scenario, schedule):
    """A run that a schedule started and that was really computed, with its report."""
    run = run_submit(scenario=scenario, owner=None, schedule=schedule, fire_at=datetime(2027, 1, 4, tzinfo=UTC))
    run_work(run.pk)
    run.refresh_from_db()
    assert run.status == Run.Status.DONE, run.error
    return run


TRACE = b"arrival_s,input_tokens,output_tokens\n0.0,100,20\n0.5,200,30\n"


def assert_problem(response, status, code=None):
    """Check that an answer is a problem of a status, and return it."""
    assert response.status_code == status, response.content[:500]
    assert response["Content-Type"] == "application/problem+json"
    body = response.json()
    assert set(body) == {"type", "title", "status", "detail", "instance", "code", "errors"}
    assert body["status"] == status
    if code is not None:
        assert body["code"] == code
    return body


def upload(content, name="trace.csv"):
    """Return the form of a trace upload."""
    return {"file": SimpleUploadedFile(name, content, content_type="text/csv")}


@pytest.fixture
def published(monkeypatch):
    """A small published fit with its held-out errors."""
    return fit_publish(monkeypatch)
