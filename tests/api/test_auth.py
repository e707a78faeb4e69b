from datetime import timedelta

import pytest
from django.urls import get_resolver
from django.utils import timezone
from django.utils.regex_helper import normalize
from rest_framework.test import APIClient

from api.models import Token
from api.tokens import secret_hash, token_make
from tests.api.conftest import SCENARIO, assert_problem, client_of

PUBLIC = {"/api/v1/schema/"}  # everybody may read how the API looks; unknown addresses are 404 for everybody


def paths():
    """Every address under /api/, with something in place of its variables."""
    fillings = {"pk": "1", "slug": "h20-96", "name": "capacity", "uid": "00000000-0000-4000-8000-000000000000"}
    return sorted({template % fillings for template in templates(get_resolver().url_patterns, "/")})


def templates(patterns, prefix):
    for pattern in patterns:
        for template, _ in normalize(pattern.pattern.regex.pattern.removesuffix(r"\Z")):
            path = prefix + template
            if hasattr(pattern, "url_patterns"):
                yield from templates(pattern.url_patterns, path)
            elif path.startswith("/api/") and pattern.name != "unknown":
                yield path


METHODS = ("get", "post", "put", "patch", "delete")


@pytest.mark.parametrize("method", METHODS)
def test_every_endpoint_answers_401_without_credentials(db, method):
    for path in set(paths()) - PUBLIC:
        response = getattr(APIClient(), method)(path)
        assert_problem(response, 401, "not_authenticated")
        assert response["WWW-Authenticate"] == 'Bearer realm="api"', path


def test_the_walk_over_addresses_finds_them():
    found = paths()
    assert {"/api/v1/", "/api/v1/scenarios/", "/api/v1/scenarios/1/runs/", "/api/v1/capacity/query/"} <= set(found)
    assert "/api/v1/runs/1/tables/capacity.csv/" in found
    assert len(found) >= 45


def test_a_token_opens_the_door_and_its_use_is_noted(planner):
    token, secret = token_make(owner=planner, name="ci", scopes=["read"])
    client = APIClient()
    client.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert client.get("/api/v1/regions/").status_code == 200
    token.refresh_from_db()
    first = token.last_used_at
    assert first is not None
    client.get("/api/v1/regions/")
    token.refresh_from_db()
    assert token.last_used_at == first, "a busy token is not written each time"


def test_the_secret_is_kept_as_a_hash_only(planner):
    token, secret = token_make(owner=planner, name="ci", scopes=["read"])
    stored = Token.objects.values().get(pk=token.pk)
    assert secret not in str(stored)
    assert stored["hash"] == secret_hash(secret)


@pytest.mark.parametrize("fault", ["revoked", "expired", "inactive", "unknown", "empty", "not ascii"])
def test_a_token_that_opens_nothing_is_401(planner, fault):
    _, secret = token_make(owner=planner, name="ci", scopes=["read"])
    if fault == "revoked":
        Token.objects.update(revoked=True)
    if fault == "expired":
        Token.objects.update(expires_at=timezone.now() - timedelta(seconds=1))
    if fault == "inactive":
        planner.is_active = False
        planner.save()
    secret = {"unknown": "twin_x", "empty": "", "not ascii": "twin_\xe9"}.get(fault, secret)
    response = APIClient().get("/api/v1/regions/", HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert_problem(response, 401, "invalid_token")
    assert response["WWW-Authenticate"] == 'Bearer realm="api"'


def test_a_token_without_the_scope_is_403_and_says_which(planner, scenario):
    client = client_of(planner, "read")
    body = assert_problem(client.post("/api/v1/scenarios/", SCENARIO), 403, "scope_missing")
    assert "write" in body["detail"]
    assert_problem(client.post(f"/api/v1/scenarios/{scenario.pk}/runs/"), 403, "scope_missing")
    assert_problem(client_of(planner, "write").get("/api/v1/scenarios/"), 403, "scope_missing")


def test_a_viewer_reads_but_does_not_write(viewer_client, scenario):
    assert viewer_client.get("/api/v1/scenarios/").status_code == 200
    body = assert_problem(viewer_client.post("/api/v1/scenarios/", SCENARIO), 403, "permission_missing")
    assert "scenarios.add_scenario" in body["detail"]
    path = f"/api/v1/scenarios/{scenario.pk}/"
    assert_problem(viewer_client.delete(path, headers={"If-Match": '"1"'}), 403, "permission_missing")
    assert_problem(viewer_client.post(f"{path}runs/"), 403, "permission_missing")


def test_a_session_writes_only_with_a_csrf_token(planner):
    client = APIClient(enforce_csrf_checks=True)
    client.force_login(planner)
    assert client.get("/api/v1/scenarios/").status_code == 200
    assert_problem(client.post("/api/v1/scenarios/", SCENARIO), 403, "permission_denied")
    secret = "a" * 32
    client.cookies["twin_csrf"] = secret
    response = client.post("/api/v1/scenarios/", SCENARIO, headers={"X-CSRFToken": secret})
    assert response.status_code == 201, response.content


def test_wrong_method_is_405_for_who_is_signed_in(client):
    response = client.put("/api/v1/regions/", {})
    assert_problem(response, 405, "method_not_allowed")
    assert "GET" in response["Allow"]
