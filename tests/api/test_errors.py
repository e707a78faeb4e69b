import pytest
import redis
from django.db import IntegrityError, OperationalError
from rest_framework.test import APIClient

from api import views
from tests.api.conftest import SCENARIO, assert_problem


@pytest.mark.parametrize("path", ["/api/", "/api/v2/", "/api/v1/nothing/", "/api/v1/regions/x/", "/api/v1/%00"])
@pytest.mark.parametrize("method", ["get", "post", "delete"])
def test_an_unknown_address_is_a_problem_too(db, path, method):
    body = assert_problem(getattr(APIClient(), method)(path), 404, "not_found")
    assert body["errors"] == []


def test_a_forgotten_slash_is_named(db):
    body = assert_problem(APIClient().post("/api/v1/scenarios"), 404)
    assert "/api/v1/scenarios/ ?" in body["detail"]


def test_a_missing_row_is_404(client):
    assert_problem(client.get("/api/v1/runs/7/"), 404, "not_found")
    assert_problem(client.get(f"/api/v1/runs/{10**17}/"), 404, "not_found")


@pytest.mark.parametrize(
    ("body", "line", "column"),
    [(b'{"name":', 1, 9), (b'{\n"draws": NaN}', 2, 10), (b'{"draws": 1e999}', 1, 11), (b"[" * 100_000, 1, 1025)],
)
def test_a_body_that_is_not_json_is_400_with_its_place(client, body, line, column):
    response = client.generic("POST", "/api/v1/scenarios/", body, content_type="application/json")
    place = assert_problem(response, 400, "parse_error")["errors"][0]
    assert place["line"] == line
    assert abs(place["column"] - column) <= 1


@pytest.mark.parametrize("body", [b"[]", b"3", b'"text"', b"null"])
def test_a_body_that_is_no_object_is_400(client, body):
    response = client.generic("POST", "/api/v1/scenarios/", body, content_type="application/json")
    assert_problem(response, 400, "invalid")


def test_another_media_type_is_415(client):
    response = client.generic("POST", "/api/v1/scenarios/", b"name=x", content_type="application/x-www-form-urlencoded")
    assert_problem(response, 415, "unsupported_media_type")
    assert_problem(client.generic("POST", "/api/v1/scenarios/", b"{}", content_type="text/plain"), 415)


def test_a_body_over_the_limit_is_413(client, settings):
    assert_problem(client.post("/api/v1/scenarios/", {**SCENARIO, "note": "x" * 2**20}), 413, "too_large")


def test_an_unknown_field_is_refused_with_the_closest_one(client):
    body = assert_problem(client.post("/api/v1/scenarios/", {**SCENARIO, "drwas": 3}), 400)
    assert body["errors"] == [{"field": "drwas", "message": "Unknown field; did you mean draws?"}]


def test_all_faults_of_a_body_are_named_at_once(client):
    body = assert_problem(client.post("/api/v1/scenarios/", {"kind": "guess", "draws": 0}), 400)
    assert {"kind", "draws", "name", "starts_on", "ends_on"} == {error["field"] for error in body["errors"]}


def test_a_scenario_that_ends_before_it_begins_is_400_and_nothing_is_stored(client):
    body = assert_problem(client.post("/api/v1/scenarios/", {**SCENARIO, "ends_on": "2026-01-01"}), 400)
    assert body["errors"][0]["field"] == "ends_on"
    assert client.get("/api/v1/scenarios/").json()["count"] == 0


def broken(error):
    def raising(*args, **kwargs):
        raise error

    return raising


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (OperationalError("gone"), 503, "unavailable"),
        (redis.ConnectionError("gone"), 503, "unavailable"),
        (IntegrityError("twice"), 409, "conflict"),
        (KeyError("a bug"), 500, "internal_error"),
    ],
)
def test_what_breaks_below_becomes_a_problem(client, scenario, monkeypatch, caplog, error, status, code):
    monkeypatch.setattr(views, "run_submit", broken(error))
    response = client.post(f"/api/v1/scenarios/{scenario.pk}/runs/")
    body = assert_problem(response, status, code)
    assert "gone" not in body["detail"]
    assert "a bug" not in body["detail"], "an internal error tells the log, not the client"
    assert ("Retry-After" in response) == (status == 503)
    if status == 500:
        assert "a bug" in caplog.text
