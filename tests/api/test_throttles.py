import pytest
import redis
import time_machine
from django.core.cache import cache
from rest_framework.settings import api_settings
from rest_framework.test import APIClient

from tests.api.conftest import SCENARIO, assert_problem, client_of


@pytest.fixture
def rates(monkeypatch):
    """Set small rates, in a minute that does not end."""
    with time_machine.travel("2027-01-04T08:00:10Z", tick=False):
        monkeypatch.setattr(api_settings, "DEFAULT_THROTTLE_RATES", rates := {})
        yield rates


def test_a_bucket_counts_down_and_then_refuses(client, rates):
    rates["read"] = "3/min"
    left = [client.get("/api/v1/regions/")["RateLimit-Remaining"] for _ in range(3)]
    assert left == ["2", "1", "0"]
    response = client.get("/api/v1/regions/")
    assert_problem(response, 429, "throttled")
    assert response["Retry-After"] == "51"
    assert response["RateLimit-Limit"] == "3"
    assert response["RateLimit-Reset"] == "51"


def test_the_next_window_starts_anew(client, rates):
    rates["read"] = "1/min"
    client.get("/api/v1/regions/")
    assert_problem(client.get("/api/v1/regions/"), 429)
    with time_machine.travel("2027-01-04T08:01:00Z", tick=False):
        assert client.get("/api/v1/regions/").status_code == 200


def test_users_and_buckets_are_counted_apart(client, viewer, scenario, rates):
    rates |= {"read": "1/min", "write": "1/min", "run": "1/min"}
    assert client.get("/api/v1/regions/").status_code == 200
    assert client_of(viewer).get("/api/v1/regions/").status_code == 200
    assert client.post("/api/v1/scenarios/", SCENARIO).status_code == 201
    path = f"/api/v1/scenarios/{scenario.pk}/runs/"
    assert client.post(path).status_code == 202
    assert_problem(client.post(path), 429)


def test_guessing_tokens_is_stopped_by_address(planner, rates):
    rates["login"] = "2/min"
    guess = {"Authorization": "Bearer twin_guess"}
    for _ in range(2):
        assert_problem(APIClient().get("/api/v1/regions/", headers=guess), 401)
    response = APIClient().get("/api/v1/regions/", headers=guess)
    assert_problem(response, 429)
    assert response["Retry-After"] == "51"
    elsewhere = APIClient(REMOTE_ADDR="10.0.0.9")
    assert_problem(elsewhere.get("/api/v1/regions/", headers=guess), 401)


def test_without_a_cache_all_may_pass_and_the_log_says_so(client, rates, monkeypatch, caplog):
    rates["read"] = "1/min"

    def down(*args, **kwargs):
        raise redis.ConnectionError("no cache")

    monkeypatch.setattr(cache, "incr", down)
    for _ in range(3):
        response = client.get("/api/v1/regions/")
        assert response.status_code == 200
        assert "RateLimit-Limit" not in response
    assert "requests are not counted" in caplog.text
