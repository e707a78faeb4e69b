import gzip
import time

import pytest
from django.db import connection

from api import views
from fleet.inventory import INVENTORY
from scenarios import services
from scenarios.models import Run, Trace
from scenarios.queries import CapacityQuestion
from tests.api.conftest import SCENARIO, TRACE, assert_problem, upload
from tests.runs import run_work


# --- runs ---
def test_a_run_is_queued_with_202_and_its_place(client, scenario):
    response = client.post(f"/api/v1/scenarios/{scenario.pk}/runs/")
    assert response.status_code == 202, response.content
    assert response["Retry-After"] == "1"
    shown = client.get(response["Location"])
    assert shown["Retry-After"] == "1"
    body = shown.json()
    assert body["status"] == "queued"
    assert body["scenario"]["id"] == scenario.pk
    assert body["owner"] == "planner"
    assert (body["seed"], body["attempt"], body["result_url"]) == (1, 0, None)
    assert len(body["inputs_digest"]) == 64
    assert body["inputs"]["draws"] == 12


def test_a_run_counts_its_steps(client, run, done_run):
    assert client.get(f"/api/v1/runs/{run.pk}/").json()["steps"] == {"done": 0, "total": 1}
    assert client.get(f"/api/v1/runs/{done_run.pk}/").json()["steps"] == {"done": 3, "total": 3}
    run_work(run.pk)
    shown = client.get(f"/api/v1/runs/{run.pk}/").json()
    assert (shown["status"], shown["stage"], shown["progress_ratio"]) == ("done", "", 1.0)


def test_the_same_question_is_answered_by_a_stored_result_unless_it_is_to_be_computed(client, scenario, done_run):
    path = f"/api/v1/scenarios/{scenario.pk}/runs/"
    again, anew = (client.post(path, body).json() for body in ({}, {"recompute": True}))
    assert (again["reused_from"], again["recompute"], anew["recompute"]) == (None, False, True)
    shown = []
    for made in (again, anew):
        run_work(made["id"])
        shown.append(client.get(made["url"]).json())
    assert [row["reused_from"] for row in shown] == [done_run.pk, None]
    assert [row["steps"]["total"] for row in shown] == [1, 3]
    assert {row["question_digest"] for row in shown} == {Run.objects.get(pk=done_run.pk).question_digest}
    assert {row["is_reusable"] for row in shown} == {True}
    results = [client.get(row["result_url"]).json() for row in shown]
    assert results[0] == results[1]
    assert_problem(client.post(path, {"recompute": "perhaps"}), 400)
    assert_problem(client.post(path, {"again": True}), 400)


def test_a_finished_run_shows_its_result_and_tables(client, done_run):
    path = f"/api/v1/runs/{done_run.pk}/"
    shown = client.get(path)
    assert "Retry-After" not in shown
    assert shown.json()["result_url"] == f"http://testserver{path}result/"
    assert client.get(f"{path}result/").json() == done_run.result
    table = client.get(f"{path}tables/capacity.json/").json()
    assert table["columns"][2]["unit"] == "tok/s"
    download = client.get(f"{path}tables/capacity.csv/")
    assert download["Content-Type"] == "text/csv; charset=utf-8"
    assert f'filename="run-{done_run.pk}-capacity.csv"' in download["Content-Disposition"]
    lines = download.content.decode().splitlines()
    assert len(lines) == len(table["rows"]) + 1
    assert lines[0].startswith("region,month,available_tok_s_p10 [tok/s]")
    body = assert_problem(client.get(f"{path}tables/nothing.csv/"), 404)
    assert "capacity" in body["detail"]


def test_a_result_that_is_not_there_yet_is_202_and_one_that_never_comes_409(client, run):
    path = f"/api/v1/runs/{run.pk}/result/"
    assert client.get(path).status_code == 202
    assert_problem(client.get(f"/api/v1/runs/{run.pk}/tables/capacity.csv/"), 409, "no_result")
    Run.objects.update(status="failed", error="nothing to plan")
    assert "nothing to plan" in assert_problem(client.get(path), 409, "no_result")["detail"]


def test_a_run_is_cancelled_once(client, run):
    path = f"/api/v1/runs/{run.pk}/cancel/"
    assert client.post(path).json()["status"] == "cancelled"
    assert "cancelled already" in assert_problem(client.post(path), 409, "run_has_ended")["detail"]


def test_waiting_ends_when_the_run_does(client, run, monkeypatch):
    looks = []

    def pass_time(_seconds):
        looks.append(1)
        if len(looks) == 2:
            Run.objects.update(status="cancelled")

    monkeypatch.setattr(time, "sleep", pass_time)
    assert client.get(f"/api/v1/runs/{run.pk}/?wait=20").json()["status"] == "cancelled"
    assert len(looks) == 2


def test_waiting_is_bounded_by_the_setting_and_by_its_places(client, run, settings, monkeypatch):
    settings.API_WAIT_MAX_S = 0.05
    assert client.get(f"/api/v1/runs/{run.pk}/?wait=20").json()["status"] == "queued"
    settings.API_WAIT_MAX_S = 3600
    places = [views._waiters.acquire(blocking=False) for _ in range(100)]
    try:
        assert client.get(f"/api/v1/runs/{run.pk}/?wait=20").json()["status"] == "queued"
    finally:
        for _ in range(places.count(True)):
            views._waiters.release()


@pytest.mark.parametrize("wait", ["soon", "-1", "99999", "1.5"])
def test_a_wait_that_is_no_number_of_seconds_is_400(client, run, wait):
    assert_problem(client.get(f"/api/v1/runs/{run.pk}/?wait={wait}"), 400)


# --- reports and schedules ---
def test_a_report_can_be_downloaded_as_page_and_table(client, done_run):
    report = client.get("/api/v1/reports/").json()["results"][0]
    assert report["run"]["id"] == done_run.pk
    page = client.get(report["html_url"])
    assert page["Content-Type"] == "text/html; charset=utf-8"
    assert "attachment" in page["Content-Disposition"]
    assert page.content.decode() == done_run.report.html
    assert client.get(report["csv_url"]).content.decode() == done_run.report.csv


def test_a_schedule_shows_its_next_five_times_in_its_zone(client, scenario):
    body = {"name": "Mondays", "scenario": scenario.pk, "cron": "0 7 * * 1", "zone": "Asia/Shanghai"}
    made = client.post("/api/v1/schedules/", body)
    assert made.status_code == 201, made.content
    times = made.json()["next_fire_times"]
    assert len(times) == 5
    assert all("T07:00:00+08:00" in at for at in times)
    assert made.json()["next_fire_at"].replace("Z", "")[11:] == "23:00:00"
    off = client.patch(made["Location"], {"enabled": False}, headers={"If-Match": made["ETag"]}).json()
    assert (off["next_fire_times"], off["next_fire_at"]) == ([], None)
    assert "next_fire_times" not in client.get("/api/v1/schedules/").json()["results"][0]


@pytest.mark.parametrize(("field", "value"), [("cron", "every day"), ("cron", "0 0 30 2 *"), ("zone", "Mars/Base")])
def test_a_schedule_that_cannot_fire_is_400(client, scenario, field, value):
    body = {"name": "x", "scenario": scenario.pk, "cron": "0 7 * * 1", field: value}
    assert assert_problem(client.post("/api/v1/schedules/", body), 400)["errors"][0]["field"] == field


# --- traces ---
def test_a_trace_is_read_whether_compressed_or_not_and_kept_once(client):
    first = client.post("/api/v1/traces/", upload(TRACE), format="multipart")
    assert first.status_code == 201, first.content
    assert first.json()["requests"] == 2
    assert first.json()["mix"]["input_tok"] == 150
    assert "Trace-Known" not in first
    again = client.post("/api/v1/traces/", upload(gzip.compress(TRACE), "again.csv.gz"), format="multipart")
    assert (again.status_code, again["Trace-Known"], again["Location"]) == (200, "true", first["Location"])
    assert again.json() == first.json()
    assert Trace.objects.count() == 1
    assert client.get(first["Location"]).json() == first.json()
    scenario = client.post("/api/v1/scenarios/", {**SCENARIO, "trace": first.json()["id"]})
    assert scenario.json()["trace"]["display"] == "trace.csv"


@pytest.mark.parametrize(
    ("content", "line", "column"),
    [
        (TRACE + b"0.7,minus,5\n", 4, "input_tokens"),
        (TRACE + b"0.7,-5,5\n", 4, "input_tokens"),
        (TRACE + b"0.2,5,5\n", 4, "arrival_s"),
        (b"arrival_s,input_tokens\n0,1\n", 1, "output_tokens"),
        (gzip.compress(TRACE)[:-9], None, None),
        (b"arrival_s,input_tokens,output_tokens\n0,1,0\n1,1,0\n", None, "output_tokens"),
        (b"", None, None),
    ],
    ids=["no number", "negative", "earlier", "no column", "gzip ends early", "no output", "empty"],
)
def test_a_trace_with_a_fault_is_400_with_its_place_and_nothing_is_stored(client, content, line, column):
    response = client.post("/api/v1/traces/", upload(content, "my.csv"), format="multipart")
    place = assert_problem(response, 400, "invalid")["errors"][0]
    assert (place["field"], place.get("line"), place.get("column")) == ("file", line, column)
    assert not Trace.objects.exists()


def test_a_trace_is_deleted_unless_a_scenario_or_a_waiting_run_uses_it(client, viewer_client):
    trace = client.post("/api/v1/traces/", upload(TRACE), format="multipart")
    path = trace["Location"]
    scenario = client.post("/api/v1/scenarios/", {**SCENARIO, "trace": trace.json()["id"]})
    assert "scenarios" in assert_problem(client.delete(path), 409, "protected")["detail"]
    run = client.post(f"{scenario['Location']}runs/")
    assert client.patch(scenario["Location"], {"trace": None}, headers={"If-Match": '"1"'}).status_code == 200
    assert "runs" in assert_problem(client.delete(path), 409, "protected")["detail"]
    assert client.post(f"{run['Location']}cancel/").status_code == 200
    assert_problem(viewer_client.delete(path), 403, "permission_missing")
    assert client.delete(path).status_code == 204
    assert not Trace.objects.exists()


@pytest.mark.django_db(transaction=True)
@pytest.mark.parametrize("headers", [{}, {"Idempotency-Key": "one"}], ids=["without a key", "with a key"])
def test_an_upload_is_parsed_before_a_transaction_locks_other_writers_out(client, monkeypatch, headers):
    parse, locked = services.workload_parse, []

    def watched(*args, **kwargs):
        locked.append(connection.in_atomic_block)
        return parse(*args, **kwargs)

    monkeypatch.setattr(services, "workload_parse", watched)
    response = client.post("/api/v1/traces/", upload(TRACE), format="multipart", headers=headers)
    assert (response.status_code, locked) == (201, [False])


def test_a_trace_that_is_no_form_is_415_and_one_too_large_413(client, settings):
    assert_problem(client.post("/api/v1/traces/", {"file": "x"}), 415)
    settings.TRACE_MAX_BYTE = 1000
    assert_problem(client.post("/api/v1/traces/", upload(b"x" * 100_000), format="multipart"), 413, "too_large")


# --- the capacity query ---
QUESTION = {
    "as_of": "2027-03-01",
    "scope": {"site": "dc03"},
    "unit": {"host_type": "ppu-16x"},
    "service": "chat",
    "quantile": 0.9,
}


def test_a_capacity_question_is_answered_at_once(client, fleet):
    response = client.post("/api/v1/capacity/query/", QUESTION)
    assert response.status_code == 200, response.content
    body = response.json()
    assert set(body["fits"]) == set(body["tok_s"]) == set(body["run_out"]) == {"p10", "p50", "p90"}
    assert {"constraint", "object", "failure", "share"} == set(body["binding"][0])
    calibration = body["calibration"]
    assert calibration["basis"] == "serving"
    assert 1 < calibration["mape"] < 100
    assert calibration["n"] > 2_000
    assert calibration["as_of"] >= "2026-11-24"
    assert len(body["snapshot_digest"]) == 64
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"scope": {"site": "dc99"}}, "scope.site"),
        ({"scope": {"region": "atlantis"}}, "scope.region"),
        ({"scope": {"site": "dc03", "region": "north"}}, "scope"),
        ({"scope": {"rack": "r1"}}, "scope.rack"),
        ({"unit": {"host_type": "ppu-17x"}}, "unit.host_type"),
        ({"unit": {}}, "unit.host_type"),
        ({"service": "chta"}, "service"),
        ({"quantile": 0.99}, "quantile"),
        ({"as_of": "2027-02-30"}, "as_of"),
        ({"as_of": "9999-12-31"}, "as_of"),
    ],
)
def test_a_question_about_what_does_not_exist_is_400_and_names_the_field(client, fleet, change, field):
    body = assert_problem(client.post("/api/v1/capacity/query/", {**QUESTION, **change}), 400)
    assert body["errors"][0]["field"] == field


def test_the_question_reaches_the_planner_as_it_was_asked(client, monkeypatch):
    asked = []
    monkeypatch.setattr(
        views, "capacity_query_seen", lambda question, user: asked.append(question) or {"ratings": {"catalog": None}}
    )
    client.post("/api/v1/capacity/query/", {"as_of": "2027-03-01", "unit": {"host_type": "h"}})
    (question,) = asked
    assert question == CapacityQuestion(as_of=question.as_of, kind="h")
    assert question.as_of.isoformat() == "2027-03-01"


# --- the root ---
def test_the_root_lists_addresses_that_work(client):
    links = client.get("/api/v1/").json()
    assert len(links) == 55
    assert set(INVENTORY) < set(links)
    questions = {
        "capacity/query": 405,
        "exchange-ratios": 400,
        "blast-radius": 400,
    }  # they need a body, or to be told what is asked
    for path, url in links.items():
        assert client.get(url).status_code == questions.get(path, 200), path
