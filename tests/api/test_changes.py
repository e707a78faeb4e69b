"""The change log over HTTP: lists, histories, undo, and who sees what of it."""

import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from api import changes
from fleet.models import Change, ChangeSet, Rack, Region, RegionLimit
from tests.api.conftest import assert_problem, client_of, user_make
from tests.api.rows import region_fill

LIST = "/api/v1/changes/"
RACKS = "/api/v1/racks/"


@pytest.fixture
def boss(roles):
    return client_of(user_make("boss", "admin"))


@pytest.fixture
def world(boss):
    """Two regions, and an edit of a rack in each and of both together."""
    rows = {region: region_fill(region) for region in ("north", "south")}
    north, south = (rows[region]["racks"][0] for region in ("north", "south"))
    why = {"X-Change-Reason": "new feeds", "X-Request-Id": "req-1"}
    boss.patch(f"{RACKS}{north.pk}/", {"height_u": 50}, headers=why)
    boss.patch(f"{RACKS}{south.pk}/", {"height_u": 50})
    boss.patch(RACKS, [{"id": north.pk, "height_u": 51}, {"id": south.pk, "height_u": 51}])
    return rows


def limited(name, region):
    """Return an operator who sees one region."""
    user = user_make(name, "operator")
    RegionLimit.objects.create(user=user).regions.set(Region.objects.filter(slug=region))
    return user


@pytest.fixture
def northern(world):
    return client_of(limited("northern", "north"))


def numbers(client, query=""):
    response = client.get(f"{LIST}{query}")
    assert response.status_code == 200, response.content
    return [row["number"] for row in response.json()["results"]]


def test_sets_are_listed_newest_first_with_their_changes(boss, world):
    both, south, north = boss.get(LIST).json()["results"]
    assert [one["number"] for one in (both, south, north)] == [3, 2, 1]
    rack = world["north"]["racks"][0]
    assert (north["actor"], north["why"], north["request_id"], north["rows"]) == ("boss", "new feeds", "req-1", 1)
    (change,) = north["changes"]
    assert change == {
        "position": 0,
        "kind": "rack",
        "object_id": rack.pk,
        "url": f"http://testserver{RACKS}{rack.pk}/",
        "label": "north-0-r",
        "action": "update",
        "before": {"height_u": 48, "version": 1},
        "after": {"height_u": 50, "version": 2},
    }
    assert both["rows"] == len(both["changes"]) == 2
    assert both["previous_hash"] == south["hash"]
    assert boss.get(north["url"]).json() == north


def test_sets_are_filtered(boss, world):
    rack = world["north"]["racks"][0]
    assert numbers(boss, "?request_id=req-1") == numbers(boss, "?q=feeds") == [1]
    assert numbers(boss, "?actor=boss") == [3, 2, 1]
    assert numbers(boss, "?actor=nobody") == []
    assert numbers(boss, "?kind=rack") == [3, 2, 1]
    assert numbers(boss, "?kind=host") == []
    assert numbers(boss, f"?kind=rack&object={rack.pk}") == [3, 1]
    assert numbers(boss, f"?kind=host&kind=rack&object={rack.pk}") == [3, 1]
    assert numbers(boss, f"?kind=host&object={rack.pk}") == []
    assert numbers(boss, "?at__lt=2020-01-01T00:00:00Z") == []
    assert numbers(boss, "?at__gt=2020-01-01T00:00:00Z&ordering=number") == [1, 2, 3]
    assert numbers(boss, "?number__lte=2") == [2, 1]
    for query in ("kind=racks", "object=x", "at=noon", "ordering=kind", "why=x"):
        assert_problem(boss.get(f"{LIST}?{query}"), 400)


def test_kind_and_object_are_of_one_row(boss, world):
    host, rack = world["north"]["hosts"][0], world["north"]["racks"][0]
    boss.patch("/api/v1/hosts/", [{"id": host.pk, "planned_on": "2026-01-01"}])
    boss.delete(f"/api/v1/maintenance/{world['north']['maintenance'][0].pk}/")
    assert numbers(boss, f"?kind=maintenance&object={host.pk + 1000}") == []
    assert numbers(boss, f"?kind=host&object={host.pk}") == [4]
    assert set(numbers(boss, f"?object={rack.pk}")) >= {1, 3}


def test_of_a_large_set_the_first_rows_are_shown_and_all_are_paged(boss, world, monkeypatch):
    monkeypatch.setattr(changes, "CHANGES_SHOWN", 2)
    made = boss.post(RACKS, [{"slug": f"n{at}", "row": "north-0-dc/h1/a", "power_limit_w": 1000} for at in range(5)])
    shown = boss.get(made.json()["change_set"]).json()
    assert (shown["rows"], [one["label"] for one in shown["changes"]]) == (5, ["n0", "n1"])
    monkeypatch.setattr(changes, "CHANGES_LISTED", 1)
    assert [one["label"] for one in boss.get(LIST).json()["results"][0]["changes"]] == ["n0"]
    page = boss.get(f"{shown['url']}rows/?limit=2&offset=4").json()
    assert (page["count"], [one["label"] for one in page["results"]]) == (5, ["n4"])
    assert_problem(boss.get(f"{shown['url']}rows/?kind=rack"), 400)


def test_a_list_costs_no_query_for_a_set(boss, world):
    def queries(limit):
        with CaptureQueriesContext(connection) as captured:
            boss.get(f"{LIST}?limit={limit}")
        return len(captured)

    queries(1)
    assert queries(1) == queries(3) <= 6


# --- the history of a row ---
def test_a_row_shows_its_history_newest_first(boss, world):
    rack = world["north"]["racks"][0]
    page = boss.get(f"{RACKS}{rack.pk}/changes/").json()
    last, first = page["results"]
    assert (page["count"], last["number"], first["number"]) == (2, 3, 1)
    assert (first["actor"], first["why"], first["request_id"]) == ("boss", "new feeds", "req-1")
    assert (last["before"], last["after"]) == ({"height_u": 50, "version": 2}, {"height_u": 51, "version": 3})
    assert boss.get(first["change_set"]).json()["number"] == 1
    assert boss.get(f"{RACKS}{rack.pk}/changes/?limit=1").json()["next"]
    assert_problem(boss.get(f"{RACKS}{rack.pk}/changes/?number=1"), 400)
    assert_problem(boss.get(f"{RACKS}999999/changes/"), 404)


def test_a_row_that_nobody_wrote_has_an_empty_history(boss, world):
    host = world["north"]["hosts"][0]
    assert boss.get(f"/api/v1/hosts/{host.pk}/changes/").json()["results"] == []


# --- undo ---
def test_a_set_is_taken_back_as_a_set_of_its_own(boss, world):
    set_ = boss.get(LIST).json()["results"][0]
    made = boss.post(f"{set_['url']}undo/", headers={"X-Change-Reason": "too high"})
    assert made.status_code == 201, made.content
    body = made.json()
    assert (body["number"], body["undo_of"], body["why"], body["rows"]) == (4, 3, "too high", 2)
    assert made["Location"] == body["url"]
    assert set(Rack.objects.values_list("height_u", flat=True)) == {50}
    again = boss.post(f"{set_['url']}undo/")
    assert "north-0-r" in assert_problem(again, 409, "conflict")["detail"]
    assert ChangeSet.objects.count() == 4


def test_a_set_whose_rows_were_written_since_is_not_taken_back(boss, world):
    first = ChangeSet.objects.get(number=1)
    assert_problem(boss.post(f"{LIST}{first.pk}/undo/"), 409, "conflict")
    assert Rack.objects.get(slug="north-0-r").height_u == 51


def test_deleted_rows_come_back(boss, world):
    maintenance = world["north"]["maintenance"][0]
    boss.delete(f"/api/v1/maintenance/{maintenance.pk}/")
    set_ = boss.get(LIST).json()["results"][0]
    first, again = (boss.post(f"{set_['url']}undo/", headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, again["Idempotency-Replayed"]) == (201, "true")
    assert boss.get(f"/api/v1/maintenance/{maintenance.pk}/").json()["version"] == 2


def test_undo_needs_the_rights_to_write_every_kind_of_the_set(world, boss):
    last = ChangeSet.objects.get(number=3)
    path = f"{LIST}{last.pk}/undo/"
    assert_problem(client_of(user_make("planner", "planner")).post(path), 403, "permission_missing")
    operator = user_make("operator", "operator")
    assert_problem(client_of(operator, "read").post(path), 403, "scope_missing")
    assert client_of(operator).post(path).status_code == 201
    assert_problem(boss.post(f"{LIST}999999/undo/"), 404)


# --- who sees what ---
def test_who_sees_some_regions_sees_the_changes_of_their_rows(northern, world):
    both, north = northern.get(LIST).json()["results"]
    assert (both["number"], north["number"]) == (3, 1)
    assert both["rows"] == len(both["changes"]) == 1
    assert both["changes"][0]["label"] == "north-0-r"
    assert "south" not in str(northern.get(LIST).content)
    rows = northern.get(f"{both['url']}rows/").json()
    assert (rows["count"], rows["results"][0]["label"]) == (1, "north-0-r")
    hidden = ChangeSet.objects.get(number=2)
    for response in (
        northern.get(f"{LIST}{hidden.pk}/"),
        northern.get(f"{LIST}{hidden.pk}/rows/"),
        northern.post(f"{LIST}{hidden.pk}/undo/"),
    ):
        assert_problem(response, 404)
    foreign = world["south"]["racks"][0]
    assert numbers(northern, f"?kind=rack&object={foreign.pk}") == []


def test_a_set_of_which_one_sees_a_part_is_not_taken_back(northern, world):
    part, own = ChangeSet.objects.get(number=3), ChangeSet.objects.get(number=1)
    assert_problem(northern.post(f"{LIST}{part.pk}/undo/"), 403, "region_limited")
    assert_problem(northern.post(f"{LIST}{own.pk}/undo/"), 409)  # the other set came after it
    assert ChangeSet.objects.count() == 3


def test_the_deletion_of_a_row_is_still_seen_by_who_saw_the_row(northern, boss, world):
    for region in ("north", "south"):
        boss.delete(f"/api/v1/maintenance/{world[region]['maintenance'][0].pk}/")
    assert numbers(northern, "?kind=maintenance") == [4]
    assert Change.objects.filter(kind="maintenance").count() == 2


def test_a_set_of_rows_that_lie_everywhere_is_not_taken_back_by_who_sees_some(northern, boss, world):
    firmware = world["north"]["firmware-sets"][0]
    boss.patch(f"/api/v1/firmware-sets/{firmware.pk}/", {"chip": "h100-80"}).json()
    boss.patch(f"/api/v1/firmware-sets/{firmware.pk}/", {"source": "x"})
    last = ChangeSet.objects.latest("number")
    assert_problem(northern.post(f"{LIST}{last.pk}/undo/"), 403, "region_limited")
    assert ChangeSet.objects.latest("number") == last


@pytest.fixture
def moved(boss, world):
    """A set that edits the note of maintenance in the north; its host goes to the south afterwards."""
    maintenance = world["north"]["maintenance"][0]
    kind = world["north"]["host-types"][0].slug
    host = boss.post("/api/v1/hosts/", {"slug": "extra", "rack": "north-0-r", "host_type": kind}).json()
    boss.patch(f"/api/v1/maintenance/{maintenance.pk}/", {"host": "extra"})
    boss.patch(f"/api/v1/maintenance/{maintenance.pk}/", {"note": "fans"})
    found = ChangeSet.objects.latest("number")
    moved = boss.patch(host["url"], {"rack": "south-0-r"})
    assert moved.status_code == 200, moved.content
    boss.patch(f"/api/v1/maintenance/{maintenance.pk}/", {"note": "SECRET"})
    return found


def test_what_lies_elsewhere_by_now_is_not_taken_back_nor_told(northern, moved):
    detail = assert_problem(northern.post(f"{LIST}{moved.pk}/undo/"), 403, "region_limited")["detail"]
    assert "SECRET" not in detail


def test_the_page_takes_back_no_more_than_rest(moved):
    client = Client()
    client.force_login(limited("north-page", "north"))
    answer = client.post(reverse("dashboard:change_undo", args=[moved.number]), {"why": "x"})
    assert (answer.status_code, b"SECRET" in answer.content) == (403, False)


def test_what_would_lie_elsewhere_again_is_not_taken_back(northern, boss, world):
    maintenance, south = world["south"]["maintenance"][0], world["south"]["hosts"][0]
    boss.patch(f"/api/v1/maintenance/{maintenance.pk}/", {"host": world["north"]["hosts"][0].slug})
    last = ChangeSet.objects.latest("number")
    assert_problem(northern.post(f"{LIST}{last.pk}/undo/"), 403, "region_limited")
    maintenance.refresh_from_db()
    assert maintenance.host != south


def test_who_sees_some_regions_takes_back_a_deletion_with_what_went_with_it(northern, world):
    rack = world["north"]["racks"][0]
    northern.post(
        "/api/v1/hosts/", {"slug": "extra", "rack": rack.slug, "host_type": world["north"]["host-types"][0].slug}
    )
    made = northern.post(
        "/api/v1/maintenance/", {"slug": "job", "host": "extra", "kind": "repair", "starts_on": "2027-01-01"}
    )
    assert made.status_code == 201, made.content
    host = made.json()["host"]["id"]
    deleted = northern.delete("/api/v1/hosts/", ["extra"])
    assert (deleted.status_code, deleted.json()["cascaded"]) == (200, 1), deleted.content
    undone = northern.post(f"{LIST}{ChangeSet.objects.latest('number').pk}/undo/")
    assert (undone.status_code, undone.json()["rows"]) == (201, 2), undone.content
    assert northern.get(f"/api/v1/hosts/{host}/").status_code == 200
