"""Demand over HTTP: forecasts, uploads with every fault, arrays, and what an account of one region sees."""

from datetime import date

import pytest

from fleet.models import DemandOverride, Region, RegionLimit, Service
from scenarios.models import DemandHistory
from tests.api.conftest import assert_problem, client_of, upload, user_make
from tests.factories import fleet_rows
from tests.scenarios.test_forecast import made

DEMAND, HISTORIES = "/api/v1/demand/", "/api/v1/demand-histories/"
BODY = {"service": "chat", "starts_at": "2026-12-01T00:00:00Z", "window_s": 3600, "request_s": [5.0, 7.0, None] * 16}


@pytest.fixture
def service(db):
    return fleet_rows()["service"]


def file_of(text, name="rates.csv", **values):
    return {**upload(text.encode(), name), "service": "chat", **values}


def send(client, text, **values):
    return client.post(f"{HISTORIES}upload/", file_of(text, **values), format="multipart")


def test_a_service_without_a_history_shows_what_is_stated(client, service):
    body = client.get(f"{DEMAND}chat/?from=2027-02-11&months=3").json()
    assert [one["month"] for one in body["months"]] == ["2027-02", "2027-03", "2027-04"]
    assert (body["basis"], body["history"], body["coverage_ratio"]) == ("stated", None, None)
    first = body["months"][0]
    assert first["request_s"] == first["model_request_s"]
    assert first["request_s"]["p10"] < first["request_s"]["p50"] < first["request_s"]["p90"]


def test_a_history_of_arrays_is_kept_and_makes_the_forecast(client, service):
    made_row = client.post(HISTORIES, BODY)
    assert made_row.status_code == 201, made_row.content
    row = made_row.json()
    assert made_row["Location"] == row["url"]
    assert (row["windows"], row["window_s"], row["service"]["slug"]) == (32, 3600, "chat")
    assert row["ends_at"] == "2026-12-03T00:00:00Z"
    body = client.get(f"{DEMAND}chat/").json()
    assert (body["basis"], body["history"]) == ("history", row["url"])
    listed = client.get(DEMAND).json()
    assert (listed["count"], listed["results"][0]["basis"]) == (1, "history")


def test_an_override_is_shown_beside_the_model(client, service):
    band = {"p10_request_s": 1, "p50_request_s": 2, "p90_request_s": 3, "author": "Li", "reason": "a contract"}
    months = {"first_on": date(2027, 3, 1), "last_on": date(2027, 3, 1)}
    DemandOverride.objects.create(slug="o-1", service=service, **months, **band)
    month = client.get(f"{DEMAND}chat/?from=2027-03-01&months=1").json()["months"][0]
    assert month["request_s"] == {"p10": 1, "p50": 2, "p90": 3}
    assert month["model_request_s"]["p50"] == pytest.approx(20 * 1.05**2)


def test_a_file_is_kept_goes_out_and_comes_in_again(client, service):
    text = made(5, day=0.3, fast=0.1).csv()
    first = send(client, text)
    assert first.status_code == 201, first.content
    out = client.get(f"{first.json()['url']}windows.csv/")
    assert out["Content-Type"].startswith("text/csv")
    again = send(client, out.content.decode(), instead=True)
    assert again.json()["digest"] == first.json()["digest"]


def test_a_published_series_needs_a_start(client, service):
    text = "window_start_s,rate_rps,active_clients\n0,5,1\n600,6,2\n"
    assert "name the start" in assert_problem(send(client, text), 400)["detail"]
    row = send(client, text, starts_at="2026-12-01T00:00:00Z").json()
    assert (row["windows"], row["note"]) == (2, "ignored columns: active_clients")


def test_every_row_that_is_wrong_is_told_and_nothing_is_kept(client, service):
    text = "window_start,rate_rps\n2026-12-01T00:00:00Z,x\nsoon,5\n2026-12-01T00:20:00Z,-1\n"
    errors = assert_problem(send(client, text), 400)["errors"]
    assert [(one["line"], one["column"]) for one in errors] == [(2, "rate_rps"), (3, "window_start"), (4, "rate_rps")]
    assert {one["field"] for one in errors} == {"file"}
    assert not DemandHistory.objects.exists()


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"service": "nobody"}, "service"),
        ({"request_s": []}, "request_s"),
        ({"request_s": [-1.0]}, "request_s.0"),
        ({"request_s": [None]}, "request_s"),
        ({"window_s": 7}, "window_s"),
        ({"window_s": 700}, "request_s"),
        ({"starts_at": "soon"}, "starts_at"),
        ({"starts_at": "2026-12-01T00:00:01Z"}, "request_s"),
        ({"output_tok": [1.0]}, "output_tok"),
        ({"top_client_ratio": [1.5] * 48}, "top_client_ratio"),
        ({"rate": 1}, "rate"),
    ],
)
def test_a_body_that_is_none_is_told_where(client, service, change, field):
    errors = assert_problem(client.post(HISTORIES, {**BODY, **change}), 400)["errors"]
    assert errors[0]["field"].startswith(field.split(".")[0])
    assert not DemandHistory.objects.exists()


def test_windows_of_another_length_do_not_join(client, service):
    client.post(HISTORIES, BODY)
    other = {**BODY, "window_s": 600}
    assert "do not go on" in assert_problem(client.post(HISTORIES, other), 400)["detail"]
    assert client.post(HISTORIES, {**other, "instead": True}).json()["window_s"] == 600


def test_the_same_key_keeps_a_history_once(client, service):
    header = {"HTTP_IDEMPOTENCY_KEY": "k-1"}
    first, second = (client.post(HISTORIES, BODY, **header) for _ in range(2))
    assert (first.status_code, second.status_code) == (201, 201)
    assert second["Idempotency-Replayed"] == "true"


@pytest.mark.parametrize(
    "query", ["months=0", "months=61", "from=soon", "from=1999-01-01", "horizon=3", "months=1&months=2"]
)
def test_a_parameter_that_is_none_is_told(client, service, query):
    assert_problem(client.get(f"{DEMAND}?{query}"), 400)


def test_a_history_can_be_deleted(client, service):
    url = client.post(HISTORIES, BODY).json()["url"]
    assert client.delete(url).status_code == 204
    assert client.get(f"{DEMAND}chat/").json()["basis"] == "stated"
    assert_problem(client.get(url), 404)


def test_a_viewer_reads_and_keeps_nothing(viewer_client, client, service):
    client.post(HISTORIES, BODY)
    assert viewer_client.get(HISTORIES).json()["count"] == 1
    assert_problem(viewer_client.post(HISTORIES, BODY), 403)


def test_an_account_of_one_region_sees_and_writes_no_demand_of_another(client, service):
    """The service of the other region is as if it were not there: in lists, by name, in bodies, as a history."""
    url = client.post(HISTORIES, BODY).json()["url"]
    south = Region.objects.create(slug="south", name="South")
    Service.objects.filter(pk=service.pk).update(region=service.region)
    user = user_make("li", "planner")
    RegionLimit.objects.create(user=user).regions.set([south])
    limited = client_of(user)
    assert limited.get(DEMAND).json()["count"] == 0
    assert_problem(limited.get(f"{DEMAND}chat/"), 404)
    assert limited.get(HISTORIES).json()["count"] == 0
    assert_problem(limited.get(url), 404)
    assert_problem(limited.get(f"{url}windows.csv/"), 404)
    assert "no service" in assert_problem(limited.post(HISTORIES, BODY), 400)["detail"]
