"""Who has written what, and why: by API, page and administration."""

import re

import pytest
from django.test import Client

from fleet.audit import Author, author_current, writing_as
from fleet.models import ChangeSet, Rack
from tests.api.conftest import assert_problem, client_of, user_make
from tests.api.rows import region_fill


@pytest.fixture
def boss(roles):
    return user_make("boss", "admin")


@pytest.fixture
def rack(db):
    region_fill("north")
    return Rack.objects.get()


def written(number=1):
    one = ChangeSet.objects.get(number=number)
    return one.actor, one.actor_name, one.why, one.request_id


def test_a_write_by_token_is_its_owners(boss, rack):
    path = f"/api/v1/racks/{rack.pk}/"
    headers = {"X-Change-Reason": "measured again", "X-Request-Id": "ci:42"}
    answer = client_of(boss).patch(path, {"height_u": 50}, headers=headers)
    assert answer["X-Request-Id"] == "ci:42"
    assert written() == (boss, "boss", "measured again", "ci:42")


def test_a_write_by_session_is_its_accounts(boss, rack):
    client = Client(headers={"X-Request-Id": "page-1"})
    client.force_login(boss)
    path = f"/api/v1/racks/{rack.pk}/"
    client.patch(path, {"height_u": 50}, content_type="application/json")
    assert written() == (boss, "boss", "", "page-1")


def test_a_write_in_the_administration_is_its_accounts(boss, rack):
    boss.is_staff = True
    boss.save()
    client = Client(headers={"X-Request-Id": "admin-1"})
    client.force_login(boss)
    answer = client.post(f"/admin/fleet/rack/{rack.pk}/delete/", {"post": "yes"})
    assert answer["X-Request-Id"] == "admin-1"
    Rack.objects.create(slug="empty", row=rack.row, power_limit_w=1)
    client.post(f"/admin/fleet/rack/{Rack.objects.get(slug='empty').pk}/delete/", {"post": "yes"})
    assert written() == (boss, "boss", "", "admin-1")


def test_a_token_writes_as_its_owner_even_beside_the_session_of_another(boss, rack, planner):
    client = client_of(boss)
    client.force_login(planner)
    client.patch(f"/api/v1/racks/{rack.pk}/", {"height_u": 50})
    assert written()[:2] == (boss, "boss")


@pytest.mark.parametrize("given", ["", "a b", "x" * 65, "a\x00b", "é", "<script>"])
def test_a_request_id_that_is_not_well_formed_is_replaced(boss, rack, given):
    client = client_of(boss)
    answer = client.patch(f"/api/v1/racks/{rack.pk}/", {"height_u": 50}, headers={"X-Request-Id": given})
    assert re.fullmatch("[0-9a-f]{32}", answer["X-Request-Id"])
    assert written()[3] == answer["X-Request-Id"]


@pytest.mark.parametrize("path", ["/healthz", "/login/", "/api/v1/regions/", "/api/nothing/", "/nothing"])
def test_every_answer_names_its_request(db, path):
    client = Client()
    first, second = client.get(path), client.get(path)
    assert len({first["X-Request-Id"], second["X-Request-Id"]}) == 2
    assert client.get(path, headers={"X-Request-Id": "mine"})["X-Request-Id"] == "mine"


def test_a_reason_may_be_in_any_language_and_is_at_most_so_long(boss, rack):
    client, path = client_of(boss), f"/api/v1/racks/{rack.pk}/"
    as_sent = "机柜升级".encode().decode("latin-1")  # bytes of a header as a server hands them over
    assert client.patch(path, {"height_u": 50}, headers={"X-Change-Reason": as_sent}).status_code == 200
    assert written()[2] == "机柜升级"
    for reason in ("x" * 501, "a\x00b"):
        body = assert_problem(client.patch(path, {"height_u": 51}, headers={"X-Change-Reason": reason}), 400)
        assert body["errors"][0]["field"] == "X-Change-Reason"
    assert client.get(path, headers={"X-Change-Reason": "x" * 501}).status_code == 200
    assert ChangeSet.objects.count() == 1


def test_after_a_request_nobody_writes_in_its_name(boss, rack):
    client, path = client_of(boss), f"/api/v1/racks/{rack.pk}/"
    with writing_as(Author(name="outer")):
        client.patch(path, {"height_u": 50})
        client.patch(path, {"height_u": -1})
        client.get("/api/nothing/")
        assert author_current() == Author(name="outer")
    assert author_current() == Author()
