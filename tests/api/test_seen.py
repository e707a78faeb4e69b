"""What an account sees that is limited to regions, and what it does not learn about the rest."""

import json
from datetime import UTC, date, datetime

import pytest
from django.contrib.auth.models import User
from django.db import connection
from django.test.utils import CaptureQueriesContext

from api.seen import region_paths, related_paths
from fleet.access import is_shown
from fleet.inventory import INVENTORY
from fleet.models import (
    Endpoint,
    FirmwareBaseline,
    PolicyEvent,
    PowerLink,
    Region,
    RegionLimit,
    Service,
    Site,
)
from fleet.selectors import snapshot_take
from scenarios.models import Report, Run, Scenario, Schedule, Trace
from scenarios.queries import CapacityQuestion, capacity_query
from scenarios.seen import capacity_query_seen, result_seen, runs_seen, scenarios_seen, snapshot_within
from scenarios.services import run_submit
from tests.api.conftest import SCENARIO, TRACE, assert_problem, client_of, upload, user_make
from tests.api.rows import body_new, region_fill
from tests.runs import run_work

LOCAL = [entry for entry in INVENTORY.values() if entry.regions]
SCENARIO_ROW = {"name": "q", "kind": "migration", "starts_on": date(2027, 1, 1), "ends_on": date(2027, 6, 1)}
GLOBAL = [entry for entry in INVENTORY.values() if not entry.regions]


def limited(user, *regions):
    """Limit an account to regions."""
    limit = RegionLimit.objects.create(user=user)
    limit.regions.set(Region.objects.filter(slug__in=regions))
    return user


@pytest.fixture
def world(roles):
    """Two regions with rows of every kind."""
    return {region: region_fill(region) for region in ("north", "south")}


@pytest.fixture
def northern(world):
    """A client of an admin who sees the north alone."""
    return client_of(limited(user_make("northern", "admin"), "north"))


def names(client, path):
    return [row["display"] for row in client.get(path).json()["results"]]


# --- rows of the fleet ---
@pytest.mark.parametrize("entry", LOCAL, ids=lambda entry: entry.name)
def test_a_row_elsewhere_is_as_if_it_were_not_there(northern, world, entry):
    here, there = world["north"][entry.name][0], world["south"][entry.name][0]
    path = f"/api/v1/{entry.name}/"
    shown = client_ids(northern, path)
    assert here.pk in shown
    assert there.pk not in shown
    assert northern.get(f"{path}{here.pk}/").status_code == 200
    missing = {"get": [], "patch": [{}], "delete": []}
    for method, args in missing.items():
        elsewhere = assert_problem(getattr(northern, method)(f"{path}{there.pk}/", *args), 404)
        nowhere = assert_problem(getattr(northern, method)(f"{path}999999/", *args), 404)
        assert {**elsewhere, "instance": ""} == {**nowhere, "instance": ""}
    assert_problem(northern.get(f"{path}{there.pk}/changes/"), 404)


def client_ids(client, path):
    return {row["id"] for row in client.get(f"{path}?limit=1000").json()["results"]}


@pytest.mark.parametrize("entry", GLOBAL, ids=lambda entry: entry.name)
def test_what_lies_in_no_region_is_seen_by_all_and_written_by_who_sees_all(northern, world, entry):
    row, path = world["south"][entry.name][0], f"/api/v1/{entry.name}/"
    assert northern.get(f"{path}{row.pk}/").status_code == 200
    for response in (
        northern.post(path, body_new(entry, row)),
        northern.patch(f"{path}{row.pk}/", {}),
        northern.delete(f"{path}{row.pk}/"),
        northern.patch(path, [{"id": row.pk}]),
        northern.delete(path, [row.pk]),
    ):
        assert_problem(response, 403, "region_limited")


def test_a_region_is_not_made_by_who_sees_some(northern):
    assert_problem(northern.post("/api/v1/regions/", {"slug": "east", "name": "East"}), 403, "region_limited")
    north = Region.objects.get(slug="north")
    assert northern.patch(f"/api/v1/regions/{north.pk}/", {"name": "The north"}).status_code == 200


def test_what_would_hold_everywhere_is_not_written_by_who_sees_some(northern, world):
    rule = world["north"]["policy-events"][0]
    path = f"/api/v1/policy-events/{rule.pk}/"
    assert_problem(northern.patch(path, {"region": None}), 403, "region_limited")
    assert northern.patch(path, {"region": None, "site": "north-0-dc"}).status_code == 200
    everywhere = PolicyEvent.objects.create(slug="all", chip="h20-96", verb="buy", starts_on=rule.starts_on, source="x")
    path = f"/api/v1/policy-events/{everywhere.pk}/"
    assert northern.get(path).status_code == 200
    assert_problem(northern.patch(path, {"region": "north"}), 403, "region_limited")
    assert_problem(northern.delete(path), 403, "region_limited")
    assert FirmwareBaseline.objects.filter(region=None).count() == 0


@pytest.mark.parametrize("name", ["south-0-dc", "by id"])
def test_a_related_row_elsewhere_cannot_be_named(northern, world, name):
    site = Site.objects.get(slug="south-0-dc")
    named = site.pk if name == "by id" else name
    body = {"slug": "new", "name": "New", "site": named}
    elsewhere = assert_problem(northern.post("/api/v1/halls/", body), 400)
    unknown = 999999 if name == "by id" else "nowhere"
    nowhere = assert_problem(northern.post("/api/v1/halls/", {**body, "site": unknown}), 400)
    assert elsewhere["detail"].replace(repr(named), "X") == nowhere["detail"].replace(repr(unknown), "X")
    assert elsewhere["errors"][0]["field"] == "site"


def test_a_row_is_not_moved_to_where_its_editor_does_not_see(northern, world):
    host = world["north"]["hosts"][0]
    assert_problem(northern.patch(f"/api/v1/hosts/{host.pk}/", {"rack": "south-0-r"}), 400)
    host.refresh_from_db()
    assert host.rack.slug == "north-0-r"


@pytest.fixture
def crossing(world):
    """An endpoint in the north of a service of the south."""
    service = Service.objects.get(slug="south-0-chat")
    return Endpoint.objects.create(slug="crossing", service=service, site=Site.objects.get(slug="north-0-dc"))


def test_a_related_row_elsewhere_is_null_and_no_filter_search_or_order_tells_of_it(northern, crossing):
    path = "/api/v1/endpoints/"
    row = northern.get(f"{path}{crossing.pk}/").json()
    assert (row["service"], row["site"]["slug"]) == (None, "north-0-dc")
    service = crossing.service
    for query in (f"service={service.slug}", f"service_id={service.pk}", "service__isw=south", "q=south"):
        assert names(northern, f"{path}?{query}") == [], query
    for query in (f"service__n={service.slug}", f"service_id__n={service.pk}"):
        assert names(northern, f"{path}?{query}") == names(northern, path) == ["crossing", "north-0-e"], query
    assert_problem(northern.get(f"{path}?ordering=service"), 400)
    assert northern.get(f"{path}?ordering=site").status_code == 200


def test_a_part_of_the_tree_elsewhere_is_null(northern, world):
    link = PowerLink.objects.create(
        node_id=world["north"]["power-nodes"][0].pk, source=world["south"]["power-links"][0].source
    )
    assert northern.get(f"/api/v1/power-links/{link.pk}/").json()["source"] is None
    assert names(northern, "/api/v1/power-links/?source=south-0-ups") == []


def test_a_limit_costs_no_query_for_a_row(northern, world):
    northern.get("/api/v1/regions/")
    counts = []
    for _ in range(2):
        found = {}
        for entry in INVENTORY.values():
            with CaptureQueriesContext(connection) as queries:
                northern.get(f"/api/v1/{entry.name}/?limit=1000")
            found[entry.name] = len(queries)
        counts.append(found)
        if len(counts) == 1:
            rows_more(world)
    assert counts[0] == counts[1]


def rows_more(world):
    """Put more rows of every kind into the north."""
    region_fill("west", count=4)
    Site.objects.filter(region__slug="west").update(region=Region.objects.get(slug="north"))
    Service.objects.filter(region__slug="west").update(region=Region.objects.get(slug="north"))


def test_where_a_related_row_lies_is_read_with_it(world):
    for entry in INVENTORY.values():
        paths = (*related_paths(entry.model), *region_paths(entry.model))
        row = entry.model.objects.select_related(*paths).get(pk=world["north"][entry.name][0].pk)
        user = limited_stub({Region.objects.get(slug="north").pk})
        with CaptureQueriesContext(connection) as queries:
            for field in entry.fields:
                if field.is_relation and getattr(row, field.attname):
                    assert is_shown(getattr(row, field.name), user), (entry.name, field.name)
        assert not queries, entry.name


class limited_stub:
    """An account with a limit that is known already."""

    is_authenticated = True

    def __init__(self, regions):
        self.regions_seen = frozenset(regions)


def test_an_account_limited_to_nothing_sees_what_lies_everywhere_alone(world):
    client = client_of(limited(user_make("nowhere", "viewer")))
    for entry in INVENTORY.values():
        assert bool(client_ids(client, f"/api/v1/{entry.name}/")) == (not entry.regions), entry.name


# --- questions and answers ---
def question(services, **values):
    return Scenario.objects.create(**{**SCENARIO, **values}, services=services)


def answer(scenario, services, result=None, **values):
    """Return a run that is done."""
    return Run.objects.create(
        scenario=scenario,
        inputs={"services": services, "trace_digest": None},
        inputs_digest="x",
        seed=1,
        status="done",
        result=result or {"regions": []},
        **values,
    )


def test_a_question_is_seen_by_who_sees_every_service_that_it_asks_about(world, northern):
    for name, services in {
        "north": ["north-0-chat"],
        "south": ["south-0-chat"],
        "both": ["north-0-chat", "south-0-chat"],
        "all": [],
        "gone": ["north-0-chat", "gone"],
        "begins alike": ["north-0-cha"],
    }.items():
        question(services, name=name)
    assert names(northern, "/api/v1/scenarios/") == ["north"]
    hidden = Scenario.objects.get(name="all")
    path = f"/api/v1/scenarios/{hidden.pk}/"
    assert_problem(northern.get(path), 404)
    assert_problem(northern.patch(path, {"draws": 13}, headers={"If-Match": "*"}), 404)
    assert_problem(northern.post(f"{path}runs/"), 404)
    body = {"name": "x", "scenario": hidden.pk, "cron": "0 7 * * 1"}
    assert "no scenario" in assert_problem(northern.post("/api/v1/schedules/", body), 400)["detail"]


@pytest.mark.parametrize(
    "params",
    [
        {"floors": [{"ratio": 0.5, "month": "2027-03", "region": "{south}"}]},
        {"tariffs": [{"site": "{site}", "tariff_per_kwh": 1.0}]},
        {"offers": [{"kind": "k", "hosts": 1, "month": "2027-03", "site": "{site}"}]},
        {"must_leave": [{"service": "{service}", "month": "2027-03"}]},
        {"order": [{"first": "{own}", "then": "{service}"}]},
    ],
    ids=lambda params: next(iter(params)),
)
def test_a_question_whose_parameters_name_what_lies_elsewhere_is_not_seen(world, northern, params):
    own, service = world["north"]["services"][0].slug, world["south"]["services"][0].slug
    filled = {"south": "south", "site": world["south"]["sites"][0].slug, "service": service, "own": own}
    user = User.objects.get(username="northern")

    def asked(params):
        made = Scenario.objects.create(**SCENARIO_ROW, services=[own], params=params)
        run = Run.objects.create(scenario=made, inputs={"services": [own], "params": params}, inputs_digest="d", seed=1)
        return made, run

    text = json.dumps(params)
    for name, value in filled.items():
        text = text.replace(f"{{{name}}}", value)
    hidden, shown = asked(json.loads(text)), asked({"waves_most": 2, "floors": [{"ratio": 0.5, "month": "2027-03"}]})
    assert set(scenarios_seen(Scenario.objects.all(), user)) == {shown[0]}
    assert set(runs_seen(Run.objects.all(), user)) == {shown[1]}
    assert northern.get(f"/api/v1/scenarios/{hidden[0].pk}/").status_code == 404
    assert northern.get(f"/api/v1/runs/{hidden[1].pk}/").status_code == 404


def test_whose_result_a_run_reuses_is_told_to_who_sees_that_run(world, northern):
    here = question(["north-0-chat"], name="here")
    elsewhere = question([], name="all")
    hidden, shown = answer(elsewhere, ["north-0-chat"]), answer(here, ["north-0-chat"])
    for source, told in ((hidden, None), (shown, shown.pk)):
        reused = answer(here, ["north-0-chat"], reused_from=source)
        assert northern.get(f"/api/v1/runs/{reused.pk}/").json()["reused_from"] == told


@pytest.mark.parametrize(
    ("services", "words"),
    [([], "Name the services"), (["south-0-chat"], "'south-0-chat'"), (["north-0-chat", "gone"], "'gone'")],
)
def test_a_question_about_more_than_one_sees_is_refused_and_names_ones_own_services(northern, services, words):
    body = assert_problem(northern.post("/api/v1/scenarios/", {**SCENARIO, "services": services}), 400)
    assert body["errors"][0]["field"] == "services"
    assert words in body["detail"]
    assert "there are: north-0-chat." in body["detail"]


def test_ones_own_question_is_asked_and_cannot_be_widened(northern):
    made = northern.post("/api/v1/scenarios/", {**SCENARIO, "services": ["north-0-chat"]})
    assert made.status_code == 201, made.content
    assert northern.post(f"{made['Location']}runs/").status_code == 202
    for services in ([], ["south-0-chat"]):
        assert_problem(northern.patch(made["Location"], {"services": services}, headers={"If-Match": "*"}), 400)


def test_runs_schedules_and_reports_follow_the_question(world, northern):
    mine, theirs = question(["north-0-chat"], name="mine"), question([], name="theirs")
    for scenario, asked in ((mine, ["north-0-chat"]), (theirs, [])):
        schedule = Schedule.objects.create(name=scenario.name, scenario=scenario, cron="0 7 * * 1")
        run = answer(scenario, asked, schedule=schedule, fire_at=datetime(2027, 1, 4, tzinfo=UTC))
        Report.objects.create(run=run, schedule=schedule, title=scenario.name, html="", csv="")
    widened = answer(mine, [])  # asked about all, before the scenario was narrowed
    of_theirs = answer(theirs, ["north-0-chat"])  # asked about ours, before the scenario was widened
    assert names(northern, "/api/v1/schedules/") == ["mine"]
    assert names(northern, "/api/v1/reports/") == ["mine"]
    assert len(names(northern, "/api/v1/runs/")) == 1
    for run in (widened, of_theirs, Run.objects.get(schedule__name="theirs")):
        path = f"/api/v1/runs/{run.pk}/"
        for address in ("", "result/", "tables/capacity.csv/", "tables/capacity.json/"):
            assert_problem(northern.get(path + address), 404)
        assert_problem(northern.post(f"{path}cancel/"), 404)
    hidden = Report.objects.get(title="theirs")
    for address in ("", "html/", "csv/"):
        assert_problem(northern.get(f"/api/v1/reports/{hidden.pk}/{address}"), 404)


def test_a_run_whose_schedule_asks_something_else_now_is_not_seen(world, northern):
    mine, theirs = question(["north-0-chat"]), question([])
    schedule = Schedule.objects.create(name="s", scenario=theirs, cron="0 7 * * 1")
    answer(mine, ["north-0-chat"], schedule=schedule)
    assert names(northern, "/api/v1/runs/") == []


def test_a_capacity_run_about_one_region_tells_of_no_other(world, northern):
    days = {name: date.fromisoformat(SCENARIO[name]) for name in ("starts_on", "ends_on")}
    run = run_submit(scenario=question(["north-0-chat"], **days), owner=None)
    run_work(run.pk)
    run.refresh_from_db()
    assert run.status == Run.Status.DONE, run.error
    shown = northern.get(f"/api/v1/runs/{run.pk}/result/").json()
    assert [region["slug"] for region in shown["regions"]] == ["north"]
    assert {site["region"] for site in shown["sites"]} == {"north"}
    told = {**shown, "kinds": [], "ratings": []}  # host types lie in no region
    assert "south" not in json.dumps(told).lower()
    assert {row["service"] for row in shown["ratings"]} == {"north-0-chat"}


RESULT = {
    "kind": "capacity",
    "regions": [{"slug": "north", "name": "North"}],
    "services": [{"slug": "north-0-chat", "region": "north"}],
    "sites": [{"slug": "north-0-dc", "region": "north"}, {"slug": "south-0-dc", "region": "south"}],
}


def test_of_a_result_the_sites_elsewhere_are_left_out(world, northern):
    run = answer(question(["north-0-chat"]), ["north-0-chat"], result=RESULT)
    shown = northern.get(f"/api/v1/runs/{run.pk}/result/").json()
    assert [site["slug"] for site in shown["sites"]] == ["north-0-dc"]
    assert {**shown, "sites": []} == {**RESULT, "sites": []}


@pytest.mark.parametrize(
    "change",
    [
        {"regions": [{"slug": "north"}, {"slug": "south"}]},
        {"services": [{"slug": "north-0-chat", "region": "south"}]},
        {"plan": {"waves": [{"region": "south"}]}},
        {"plan": {"promises": {"rows": [{"promise": "demand", "region": "south"}]}}},
        {"plan": {"replay": {"services": [{"region": "north", "kinds": [{"site": "south-0-dc"}]}]}}},
        {"scope": {"sites": ["south-0-dc"]}},
    ],
    ids=["region", "service that moved", "wave", "promise", "site of a replay", "list of sites"],
)
def test_a_result_that_names_another_place_is_not_shown(world, northern, change):
    run = answer(question(["north-0-chat"]), ["north-0-chat"], result={**RESULT, **change})
    assert_problem(northern.get(f"/api/v1/runs/{run.pk}/result/"), 404)


def test_rows_about_all_regions_and_sites_asked_about_name_none(world, northern):
    plan = {"promises": {"rows": [{"region": ""}]}, "replay": {"services": [{"kinds": [{"site": ""}]}]}}
    run = answer(question(["north-0-chat"]), ["north-0-chat"], result={**RESULT, "plan": plan})
    assert northern.get(f"/api/v1/runs/{run.pk}/result/").json()["plan"] == plan


def test_a_report_is_shown_if_all_of_its_result_is(world, northern):
    scenario = question(["north-0-chat"])
    for result, status in ((RESULT, 404), ({**RESULT, "sites": RESULT["sites"][:1]}, 200)):
        run = answer(scenario, ["north-0-chat"], result=result)
        report = Report.objects.create(run=run, title="r", html="h", csv="c")
        for form in ("html", "csv"):
            assert northern.get(f"/api/v1/reports/{report.pk}/{form}/").status_code == status


def test_who_is_not_limited_sees_all_questions(world, client):
    run = answer(question([]), [], result=RESULT)
    assert client.get(f"/api/v1/runs/{run.pk}/result/").json() == RESULT
    assert result_seen(RESULT, None) == RESULT
    assert scenarios_seen(Scenario.objects.all(), None).count() == runs_seen(Run.objects.all(), None).count() == 1


def test_a_trace_is_seen_by_its_owner_and_by_who_sees_a_question_with_it(world, northern, client):
    other = client.post("/api/v1/traces/", upload(TRACE), format="multipart").json()
    path = f"/api/v1/traces/{other['id']}/"
    assert_problem(northern.get(path), 404)
    body = {**SCENARIO, "services": ["north-0-chat"], "trace": other["id"]}
    assert "no trace" in assert_problem(northern.post("/api/v1/scenarios/", body), 400)["detail"]
    assert_problem(northern.post("/api/v1/traces/", upload(TRACE), format="multipart"), 409, "conflict")
    question(["north-0-chat"], trace=Trace.objects.get())
    assert northern.get(path).status_code == 200
    own = northern.post("/api/v1/traces/", upload(TRACE + b"0.7,1,1\n"), format="multipart")
    assert northern.get(own["Location"]).status_code == 200


# --- the capacity query ---
QUESTION = {"as_of": "2027-03-01", "unit": {"host_type": "ppu-16x"}}


@pytest.fixture
def planner_of(fleet, planner):
    """Limit the planner to regions of the demo fleet."""
    return lambda *regions: limited(planner, *regions)


def test_a_capacity_question_elsewhere_is_one_about_nothing(client, planner_of):
    planner_of("north")
    south = Site.objects.exclude(region__slug="north").first()
    foreign = Service.objects.exclude(region__slug="north").first()
    for change, field in (
        ({"scope": {"site": south.slug}}, "scope.site"),
        ({"scope": {"region": south.region.slug}}, "scope.region"),
        ({"service": foreign.slug}, "service"),
    ):
        body = assert_problem(client.post("/api/v1/capacity/query/", {**QUESTION, **change}), 400)
        assert body["errors"][0]["field"] == field
        there = body["detail"].split("there are:")[1]
        assert not any(word in there for word in (south.slug, south.region.slug, foreign.slug))


def test_a_capacity_question_without_a_scope_is_about_the_regions_seen(client, planner_of):
    north = client.post("/api/v1/capacity/query/", {**QUESTION, "scope": {"region": "north"}}).json()
    planner_of("north")
    shown = client.post("/api/v1/capacity/query/", QUESTION).json()
    same = ("fits", "fits_without_deliveries", "binding", "run_out", "run_out_regions", "sure")
    assert {name: shown[name] for name in same} == {name: north[name] for name in same}
    assert [row["region"] for row in shown["run_out_regions"]] == ["north"]


def test_a_question_about_all_regions_is_the_same_from_within_all_of_them(fleet, planner):
    asked = CapacityQuestion(as_of=date(2027, 3, 1), kind="ppu-16x")
    limited(planner, *Region.objects.values_list("slug", flat=True))
    assert capacity_query_seen(asked, planner) == capacity_query(asked)


def test_who_sees_no_region_finds_no_room(client, planner_of):
    planner_of()
    shown = client.post("/api/v1/capacity/query/", QUESTION).json()
    assert shown["fits"] == {"p10": 0, "p50": 0, "p90": 0}
    assert [row["constraint"] for row in shown["binding"]] == ["no_rack"]
    assert shown["run_out_regions"] == []


def test_a_fleet_seen_from_within_all_of_its_regions_is_the_fleet(fleet):
    whole = snapshot_take(date(2027, 3, 1))
    assert snapshot_within(whole, frozenset(region.slug for region in whole.regions)).digest == whole.digest
    part = snapshot_within(whole, frozenset({"north"}))
    assert part.digest != whole.digest
    assert {site.region for site in part.sites} == {"north", ""}
    here = [site.region == "north" for site in part.sites]
    assert part.rack_open(whole.as_of).tolist() == [
        here[site] and is_open for site, is_open in zip(whole.rack_site, whole.rack_open(whole.as_of), strict=True)
    ]
