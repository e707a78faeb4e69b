from contextlib import closing

import pytest
from django.core.management import CommandError, call_command
from django.db import connection
from rest_framework.test import APIClient

from api.models import Token
from tests.api.conftest import assert_problem, client_of


def test_a_token_made_over_the_api_shows_its_secret_once(client):
    made = client.post("/api/v1/tokens/", {"name": "ci", "scopes": ["read"]})
    assert made.status_code == 201, made.content
    secret = made.json()["secret"]
    shown = client.get(made["Location"]).json()
    assert "secret" not in shown
    assert shown["prefix"] == secret[:12]
    reader = APIClient()
    reader.credentials(HTTP_AUTHORIZATION=f"Bearer {secret}")
    assert reader.get("/api/v1/regions/").status_code == 200


def test_a_replayed_answer_does_not_hold_the_secret(client):
    body = {"name": "ci", "scopes": ["read"]}
    first = client.post("/api/v1/tokens/", body, headers={"Idempotency-Key": "k"}).json()
    again = client.post("/api/v1/tokens/", body, headers={"Idempotency-Key": "k"}).json()
    assert first["secret"]
    assert again == {**first, "secret": None}
    assert Token.objects.filter(name="ci").count() == 1


def test_a_revoked_token_is_shut_out_but_stays_listed(client):
    made = client.post("/api/v1/tokens/", {"name": "ci", "scopes": ["read"]}).json()
    assert client.delete(made["url"]).status_code == 204
    reader = APIClient()
    reader.credentials(HTTP_AUTHORIZATION=f"Bearer {made['secret']}")
    assert_problem(reader.get("/api/v1/regions/"), 401, "invalid_token")
    assert client.get("/api/v1/tokens/?revoked=true").json()["count"] == 1


def test_nobody_sees_the_tokens_of_others(client, viewer):
    theirs = client_of(viewer).get("/api/v1/tokens/").json()["results"][0]
    assert_problem(client.get(theirs["url"]), 404)
    assert_problem(client.delete(theirs["url"]), 404)


def test_an_unknown_scope_is_refused(client):
    body = assert_problem(client.post("/api/v1/tokens/", {"name": "ci", "scopes": ["read", "root"]}), 400)
    assert body["errors"][0]["field"] == "scopes"


def test_making_tokens_with_a_token_needs_the_scope_admin(planner):
    response = client_of(planner, "read", "write", "run").post("/api/v1/tokens/", {"name": "ci", "scopes": ["read"]})
    assert_problem(response, 403, "scope_missing")


def test_the_command_prints_a_secret_that_works(planner, capsys):
    call_command("token_create", "planner", "--scopes", "read")
    reader = APIClient()
    reader.credentials(HTTP_AUTHORIZATION=f"Bearer {capsys.readouterr().out.strip()}")
    assert reader.get("/api/v1/regions/").status_code == 200
    assert Token.objects.get().scopes == ["read"]


@pytest.mark.parametrize("arguments", [("nobody",), ("planner", "--scopes", "root"), ("planner", "--scopes", "")])
def test_the_command_refuses_what_does_not_exist(planner, arguments):
    with pytest.raises(CommandError) as refusal:
        call_command("token_create", *arguments)
    assert refusal.value.returncode == 2
    assert not Token.objects.exists()


@pytest.mark.django_db(transaction=True)
def test_a_read_does_not_wait_for_who_writes_for_long(viewer):
    """Where one may write at a time, the use of the token is not noted while another does."""
    reader, other = client_of(viewer, "read"), connection.copy()
    one_writes = connection.vendor == "sqlite"
    with closing(other), other.cursor() as cursor:
        cursor.execute("BEGIN IMMEDIATE" if one_writes else "BEGIN")
        cursor.execute("UPDATE fleet_region SET version = version")
        assert reader.get("/api/v1/regions/").status_code == 200
        assert (Token.objects.get().last_used_at is None) == one_writes
        cursor.execute("ROLLBACK")
    assert reader.get("/api/v1/regions/").status_code == 200
    assert Token.objects.get().last_used_at is not None
    if one_writes:
        with connection.cursor() as cursor:
            cursor.execute("PRAGMA busy_timeout")
            assert cursor.fetchone()[0] == 20_000
