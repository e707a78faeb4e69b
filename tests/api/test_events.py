"""Outages and events through the API: asked, refused by field, and as if what lies elsewhere were not there."""

import pytest

from scenarios.models import Scenario
from tests.api.conftest import SCENARIO, assert_problem, client_of, user_make
from tests.api.rows import region_fill
from tests.api.test_seen import limited, names

OWN = {**SCENARIO, "services": ["north-0-chat"]}


@pytest.fixture
def world(roles):
    return {region: region_fill(region) for region in ("north", "south")}


@pytest.fixture
def northern(world):
    """A client of a planner who sees the north alone."""
    return client_of(limited(user_make("northern", "planner"), "north"))


@pytest.fixture
def planner(world):
    return client_of(user_make("planner-of-all", "planner"))


def outage(tree, node):
    return {**OWN, "kind": "outage", "params": {"tree": tree, "node": node}}


def event(**params):
    return {**OWN, "kind": "event", "params": params}


def test_a_planner_asks_about_an_outage_and_runs_it(planner):
    made = planner.post("/api/v1/scenarios/", outage("hall", "north-0-dc/h1"))
    assert made.status_code == 201, made.content
    assert made.json()["params"] == {"tree": "hall", "node": "north-0-dc/h1"}
    assert planner.post(f"{made['Location']}runs/").status_code == 202


def test_what_is_not_there_is_400_and_names_the_field(planner):
    body = assert_problem(planner.post("/api/v1/scenarios/", outage("power", "nothing")), 400)
    assert body["errors"][0]["field"] == "params"
    assert "params.node: there is no power 'nothing'" in body["detail"]
    body = assert_problem(planner.post("/api/v1/scenarios/", event(event="ban", subject="z80")), 400)
    assert "params.subject" in body["detail"]
    assert not Scenario.objects.exists()


@pytest.mark.parametrize(
    ("tree", "name"),
    [
        *(
            ("power", "{}-0-ups"),
            ("cooling", "{}-0-cdu"),
            ("network", "{}-0-tor"),
            ("region", "{}"),
            ("site", "{}-0-dc"),
        ),
        *(("hall", "{}-0-dc/h1"), ("row", "{}-0-dc/h1/a"), ("rack", "{}-0-r"), ("host", "{}-0-h")),
        ("scale-up-domain", "{}-0-d"),
    ],
)
def test_a_node_elsewhere_is_as_if_it_were_not_there(northern, tree, name):
    assert northern.post("/api/v1/scenarios/", outage(tree, name.format("north"))).status_code == 201
    elsewhere = assert_problem(northern.post("/api/v1/scenarios/", outage(tree, name.format("south"))), 400)
    nowhere = assert_problem(northern.post("/api/v1/scenarios/", outage(tree, name.format("west"))), 400)
    assert elsewhere["detail"].replace("south", "west") == nowhere["detail"]


@pytest.mark.parametrize(
    "params",
    [
        {"event": "ban", "subject": "h20-96", "region": "{}"},
        {"event": "client_doubles", "subject": "{}-0-chat", "client_ratio": 0.3},
        {"event": "new_model", "subject": "{}-0-chat"},
    ],
    ids=lambda params: params["event"],
)
def test_an_event_elsewhere_is_as_if_it_could_not_be(northern, params):
    def asked(region):
        return event(
            **{name: value.format(region) if isinstance(value, str) else value for name, value in params.items()}
        )

    assert northern.post("/api/v1/scenarios/", asked("north")).status_code == 201
    elsewhere = assert_problem(northern.post("/api/v1/scenarios/", asked("south")), 400)
    nowhere = assert_problem(northern.post("/api/v1/scenarios/", asked("west")), 400)
    assert elsewhere["detail"].replace("south", "west") == nowhere["detail"]


def test_a_question_of_others_about_what_lies_elsewhere_is_not_seen(planner, northern):
    for body in (
        {**outage("power", "south-0-ups"), "name": "power"},
        {**event(event="ban", subject="h20-96", region="south"), "name": "ban"},
        {**event(event="client_doubles", subject="south-0-chat", client_ratio=0.2), "name": "client"},
        {**outage("power", "north-0-ups"), "name": "ours"},
    ):
        assert planner.post("/api/v1/scenarios/", body).status_code == 201
    assert names(northern, "/api/v1/scenarios/") == ["ours"]


def test_an_edit_is_checked_with_what_stays(northern):
    made = northern.post("/api/v1/scenarios/", outage("power", "north-0-ups"))
    change = {"params": {"tree": "power", "node": "south-0-ups"}}
    body = assert_problem(northern.patch(made["Location"], change, headers={"If-Match": "*"}), 400)
    assert "there is no power 'south-0-ups'" in body["detail"]
    beyond = {"params": {"node": "north-0-ups", "day": "2035-01-01"}}
    assert_problem(northern.patch(made["Location"], beyond, headers={"If-Match": "*"}), 400)
