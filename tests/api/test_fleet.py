"""Every kind of row as a resource: lists, filters, one row at a time. Many at once: test_bulk.py."""

from datetime import date

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from api.fleet import VIEWS, places_of
from fleet.inventory import INVENTORY, key_text
from fleet.models import ChangeSet, Hall, HostType, Order, PolicyEvent, PowerNode, Rack
from tests.api.conftest import assert_problem, client_of, user_make
from tests.api.rows import body_new, edit_of, region_fill
from tests.conftest import ROOT

ENTRIES = pytest.mark.parametrize("entry", INVENTORY.values(), ids=lambda entry: entry.name)
OTHERS = {"created_at", "display", "id", "updated_at", "url", "version"}


@pytest.fixture
def boss(roles):
    return client_of(user_make("boss", "admin"))


@pytest.fixture
def north(db):
    return region_fill("north")


def queries_of(client, path):
    with CaptureQueriesContext(connection) as queries:
        response = client.get(path)
    assert response.status_code == 200, response.content
    return len(queries), response.json()["results"]


def displays(client, path):
    return [row["display"] for row in queries_of(client, path)[1]]


# --- lists ---
def test_no_list_costs_a_query_for_a_row(boss, django_assert_max_num_queries):
    region_fill("north", count=3)
    boss.get("/api/v1/regions/")  # notes the use of the token
    few = {name: queries_of(boss, f"/api/v1/{name}/?limit=1000") for name in INVENTORY}
    region_fill("south", count=27)
    for name, (count, rows) in few.items():
        assert count <= 5
        with django_assert_max_num_queries(count):
            more = boss.get(f"/api/v1/{name}/?limit=1000").json()["results"]
        assert len(more) > len(rows) > 0, name


@ENTRIES
def test_every_field_and_every_place_can_be_filtered_by(boss, north, entry):
    params = VIEWS[entry.name]().params()
    assert {field.name for field in entry.fields} <= set(params)
    row, path = north[entry.name][0], f"/api/v1/{entry.name}/"
    for name, value in (
        ("region", "north"),
        ("site", "north-0-dc"),
        ("hall", "h1"),
        ("row", "a"),
        ("rack", "north-0-r"),
    ):
        if name in params:
            found = {one["id"] for one in queries_of(boss, f"{path}?{name}={value}")[1]}
            assert (row.pk in found) == (getattr(row, name, row) is not None), name
            assert displays(boss, f"{path}?{name}=nowhere") == []


def test_places_are_found_by_the_way_to_the_region_and_by_related_rows(db):
    assert places_of(INVENTORY["cards"])["rack"] == "host__rack"
    assert places_of(INVENTORY["placements"])["site"] == "host__rack__row__hall__site"
    assert places_of(INVENTORY["power-nodes"]) == {
        "region": "site__region",
        "row": "rack__row",
        "hall": "rack__row__hall",
    }
    assert places_of(INVENTORY["host-types"]) == {}


def test_a_place_whose_slug_is_unique_only_within_another_is_named_by_its_key_too(boss, north):
    region_fill("south")
    assert displays(boss, "/api/v1/racks/?hall=h1") == ["north-0-r", "south-0-r"]
    assert displays(boss, "/api/v1/racks/?hall=north-0-dc/h1") == ["north-0-r"]
    assert displays(boss, "/api/v1/racks/?row__n=north-0-dc/h1/a") == ["south-0-r"]
    assert displays(boss, "/api/v1/racks/?row=north-0-dc/h1/a&row=south-0-dc/h1/a&row=x/y") == [
        "north-0-r",
        "south-0-r",
    ]


@ENTRIES
def test_a_search_finds_a_row_by_its_key(boss, north, entry):
    region_fill("south")
    text = key_text(north[entry.name][0]).split("/")[0]
    found = {row["id"] for row in queries_of(boss, f"/api/v1/{entry.name}/?q={text}")[1]}
    assert north[entry.name][0].pk in found
    assert len(found) < entry.model.objects.count() or entry.model.objects.count() == 1


@pytest.mark.parametrize(("day", "there"), [("2026-12-31", False), ("2027-01-01", True), ("2028-01-01", False)])
def test_a_list_shows_what_stands_on_a_day(boss, north, day, there):
    for name in ("hosts", "sites", "maintenance"):
        assert bool(displays(boss, f"/api/v1/{name}/?at={day}")) == there, name
    assert displays(boss, f"/api/v1/racks/?at={day}") == ["north-0-r"], "it always was and stays"


def test_a_day_without_an_end_holds_from_then_on(boss, north):
    assert displays(boss, "/api/v1/firmware-baselines/?at=2026-12-31") == []
    assert len(displays(boss, "/api/v1/firmware-baselines/?at=2050-01-01")) == 1
    assert_problem(boss.get("/api/v1/hosts/?at=tomorrow"), 400)
    assert_problem(boss.get("/api/v1/hosts/?at=2027-01-01&at=2027-01-02"), 400)
    assert_problem(boss.get("/api/v1/orders/?at=2027-01-01"), 400)


def test_choices_that_are_numbers_or_empty_are_filtered_by(boss, north):
    PowerNode.objects.filter(kind="ups").update(phases=1)
    assert displays(boss, "/api/v1/power-nodes/?phases=1") == ["north-0-ups"]
    assert displays(boss, "/api/v1/racks/?cooling=") == ["north-0-r"]
    assert displays(boss, "/api/v1/racks/?cooling__n=") == []
    assert "(empty)" in assert_problem(boss.get("/api/v1/racks/?cooling=water"), 400)["detail"]


def test_money_is_a_text_and_is_compared_as_a_number(boss, north):
    path = "/api/v1/host-types/"
    (row,) = queries_of(boss, path)[1]
    assert (row["price"], row["currency"]) == ("1250.50", "CNY")
    assert displays(boss, f"{path}?price__gt=1250.49&price__lte=1250.50") == ["north-0 8x"]
    assert displays(boss, f"{path}?price__gt=1250.5") == []
    for value in (1250.5, "1250.505", "much", "NaN", "-1"):
        assert_problem(boss.patch(row["url"], {"price": value}), 400)
    assert boss.patch(row["url"], {"price": "99.9"}).json()["price"] == "99.90"


def test_a_host_is_found_by_its_chip(boss, north):
    assert displays(boss, "/api/v1/hosts/?chip=h20-96") == ["north-0-h"]
    assert displays(boss, "/api/v1/hosts/?chip=l4") == []


def test_every_kind_is_in_the_documentation():
    text = (ROOT / "docs" / "api.md").read_text()
    assert [name for name in INVENTORY if f"`{name}`" not in text] == []


# --- one row ---
@ENTRIES
def test_a_row_is_made_shown_edited_and_deleted(boss, north, entry):
    path, body = f"/api/v1/{entry.name}/", body_new(entry, north[entry.name][0])
    made = boss.post(path, body)
    assert made.status_code == 201, made.content
    shown = boss.get(made["Location"])
    assert shown.json() == made.json()
    assert set(shown.json()) - {field.name for field in entry.fields} == OTHERS
    for field in entry.fields:
        value = shown.json()[field.name]
        assert (value["id"] if field.is_relation and value else value) == body[field.name], field.name
    edited = boss.patch(made["Location"], edit_of(entry), headers={"If-Match": made["ETag"]})
    assert (edited.status_code, edited["ETag"]) == (200, '"2"'), edited.content
    assert_problem(boss.patch(made["Location"], edit_of(entry), headers={"If-Match": made["ETag"]}), 412)
    assert_problem(boss.delete(made["Location"], headers={"If-Match": made["ETag"]}), 412)
    assert boss.delete(made["Location"], headers={"If-Match": '"2"'}).status_code == 204
    assert_problem(boss.get(made["Location"]), 404)
    written = ChangeSet.objects.filter(changes__kind=entry.kind).order_by("number").distinct()
    assert [one.changes.get(kind=entry.kind).action for one in written] == ["create", "update", "delete"]


@ENTRIES
def test_the_same_row_is_not_made_twice(boss, north, entry):
    row = north[entry.name][0]
    body = body_new(entry, row)
    for name in entry.key:
        value = getattr(row, name)
        body[name] = getattr(value, "pk", value)
    assert "already exists" in assert_problem(boss.post(f"/api/v1/{entry.name}/", body), 400)["detail"]


@ENTRIES
def test_a_row_is_made_once_under_one_key(boss, north, entry):
    path, body = f"/api/v1/{entry.name}/", body_new(entry, north[entry.name][0])
    first, again = (boss.post(path, body, headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.status_code, again.status_code) == (201, 201), first.content
    assert again.json() == first.json()


def test_a_related_row_is_named_by_id_slug_or_key(boss, north):
    row = north["rows"][0]
    for at, name in enumerate((row.pk, "north-0-dc/h1/a")):
        made = boss.post("/api/v1/racks/", {"slug": f"new-{at}", "row": name, "power_limit_w": 1000})
        assert made.status_code == 201, made.content
        assert made.json()["row"]["id"] == row.pk
    for name, words in (
        ("a", "There is no row 'a'"),
        ("north-0-dc/h1/b", "There is no row"),
        ("x/y/z/a", "There is no row"),
        (True, "The key or the id of a row is needed."),
        (2**62, "There is no row"),
        (["a"], "The key or the id"),
    ):
        body = {"slug": "x", "row": name, "power_limit_w": 1000}
        assert words in assert_problem(boss.post("/api/v1/racks/", body), 400)["detail"]
    assert Rack.objects.count() == 3


def test_a_check_over_several_rows_is_told_as_an_error_of_its_field(boss, north):
    host = north["hosts"][0]
    body = {"slug": "second", "host_type": host.host_type_id, "rack": host.rack_id, "position_u": 46}
    errors = assert_problem(boss.post("/api/v1/hosts/", body), 400)["errors"]
    assert [(error["field"], "index" in error) for error in errors] == [("position_u", False)]


def test_a_row_in_use_is_not_deleted(boss, north):
    rack = north["racks"][0]
    body = assert_problem(boss.delete(f"/api/v1/racks/{rack.pk}/"), 409, "protected")
    assert "hosts" in body["detail"]


def test_what_goes_with_a_deleted_row_is_logged(boss, north):
    service = north["services"][0]
    north["deployments"][0].placements.all().delete()
    north["deployments"][0].delete()
    north["endpoints"][0].delete()
    assert boss.delete(f"/api/v1/services/{service.pk}/").status_code == 204
    kinds = [change.kind for change in ChangeSet.objects.get().changes.order_by("position")]
    assert sorted(kinds[:-1]) == ["demandevent", "demandoverride", "readiness"]
    assert kinds[-1] == "service"


def test_values_that_no_fleet_has_are_refused(boss, north):
    for name, change in {
        "racks": {"height_u": 0},
        "power-nodes": {"derate_ratio": 2},
        "hosts": {"in_service_on": "1999-12-31"},
        "sites": {"pue_ratio": 0.5},
        "cards": {"slot": -1},
    }.items():
        row = north[name][0]
        errors = assert_problem(boss.patch(f"/api/v1/{name}/{row.pk}/", change), 400)["errors"]
        assert errors[0]["field"] == next(iter(change))


def test_a_rule_of_a_row_is_told(boss, north):
    feed = north["power-nodes"][0]
    body = assert_problem(boss.patch(f"/api/v1/power-nodes/{feed.pk}/", {"rack": None}), 400)
    assert "a feed names its rack" in body["detail"]


def test_dates_and_choices_keep_their_types(boss, north):
    hall = Hall.objects.get()
    shown = boss.patch(f"/api/v1/halls/{hall.pk}/", {"cooling": "liquid", "planned_on": "2026-05-01"}).json()
    assert (shown["cooling"], shown["planned_on"]) == ("liquid", "2026-05-01")
    hall.refresh_from_db()
    assert hall.planned_on == date(2026, 5, 1)
    assert_problem(boss.patch(f"/api/v1/halls/{hall.pk}/", {"cooling": "water"}), 400)
    assert HostType.objects.count() == Order.objects.count() == PolicyEvent.objects.count() == 1
