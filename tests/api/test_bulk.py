"""Many rows at once, and dry runs: all or none, errors by index, one change set."""

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from api import fleet as api_fleet
from fleet.inventory import INVENTORY
from fleet.models import ChangeSet, Endpoint, Host, Maintenance, Rack, RegionLimit, Service, Site
from tests.api.conftest import assert_problem, client_of, user_make
from tests.api.rows import body_new, edit_of, region_fill

ENTRIES = pytest.mark.parametrize("entry", INVENTORY.values(), ids=lambda entry: entry.name)
RACKS = "/api/v1/racks/"


@pytest.fixture
def boss(roles):
    return client_of(user_make("boss", "admin"))


@pytest.fixture
def north(db):
    return region_fill("north")


def counts(report):
    return {name: report[name] for name in ("created", "updated", "unchanged", "deleted", "cascaded")}


def of(**values):
    return {"created": 0, "updated": 0, "unchanged": 0, "deleted": 0, "cascaded": 0, **values}


def racks(count, **values):
    return [{"slug": f"r{at:04d}", "row": "north-0-dc/h1/a", "power_limit_w": 9000, **values} for at in range(count)]


# --- all kinds ---
@ENTRIES
def test_rows_of_every_kind_are_made_edited_and_deleted_together(boss, north, entry):
    row, path = north[entry.name][0], f"/api/v1/{entry.name}/"
    bodies = [body_new(entry, row, serial) for serial in (1, 2)]
    dry = boss.post(f"{path}?dry_run=1", bodies)
    made = boss.post(path, bodies)
    assert (dry.status_code, made.status_code) == (200, 201), (dry.content, made.content)
    assert counts(dry.json()) == counts(made.json()) == of(created=2)
    assert [one["after"] for one in dry.json()["rows"]] == [one["after"] for one in made.json()["rows"]]
    ids = [one["id"] for one in made.json()["rows"]]
    assert [boss.get(one["url"]).json()["version"] for one in made.json()["rows"]] == [1, 1]
    edits = [{"id": ids[0], "version": 1, **edit_of(entry)}, {**key_of(entry, bodies[1]), **edit_of(entry)}]
    dry, edited = boss.patch(f"{path}?dry_run=1", edits).json(), boss.patch(path, edits).json()
    assert counts(dry) == counts(edited) == of(updated=2)
    assert dry["rows"] == edited["rows"]
    assert [(one["id"], one["version"], one["action"]) for one in edited["rows"]] == [(pk, 2, "update") for pk in ids]
    named = [ids[0], {**key_of(entry, bodies[1]), "version": 2}]
    dry, ended = boss.delete(f"{path}?dry_run=1", named).json(), boss.delete(path, named).json()
    assert counts(dry) == counts(ended) == of(deleted=2)
    assert entry.model.objects.filter(pk__in=ids).count() == 0
    logged = ChangeSet.objects.filter(changes__kind=entry.kind, changes__object_id=ids[0]).distinct()
    assert [one.rows for one in logged] == [2, 2, 2]
    assert [one["change_set"] is None for one in (dry, ended)] == [True, False]


def key_of(entry, body):
    return {name: body[name] for name in entry.key}


# --- what is done ---
def test_a_report_says_what_was_done_with_each_row_in_the_order_of_the_body(boss, north):
    one, two = boss.post(RACKS, racks(2)).json()["rows"]
    assert (one["index"], two["index"]) == (0, 1)
    assert one["display"] == "r0000"
    assert one["before"] is None
    assert one["after"]["row_id"] == north["rows"][0].pk
    report = boss.patch(RACKS, [{"slug": "r0001", "height_u": 50}, {"slug": "r0000", "height_u": 48}]).json()
    assert counts(report) == of(updated=1, unchanged=1)
    two, one = report["rows"]
    assert (two["before"], two["after"]) == ({"height_u": 48, "version": 1}, {"height_u": 50, "version": 2})
    assert (one["action"], one["before"], one["version"]) == ("unchanged", None, 1)
    assert boss.get(report["change_set"]).json()["rows"] == 1


def test_rows_that_are_as_they_should_be_log_nothing(boss, north):
    report = boss.patch(RACKS, [{"slug": "north-0-r", "power_limit_w": 40_000}]).json()
    assert (report["change_set"], counts(report)) == (None, of(unchanged=1))
    assert not ChangeSet.objects.exists()


def test_what_goes_with_deleted_rows_is_shown(boss, north):
    host = Host.objects.create(slug="spare", host_type=north["host-types"][0], rack=north["racks"][0])
    Maintenance.objects.create(slug="m1", host=host, kind="drain", starts_on="2027-01-01")
    for query in ("?dry_run=1", ""):
        report = boss.delete(f"/api/v1/hosts/{query}", ["spare"]).json()
        assert counts(report) == of(deleted=1, cascaded=1)
        assert [(one["kind"], one["display"]) for one in report["cascaded_rows"]] == [("maintenance", "m1")]
    assert not Maintenance.objects.filter(slug="m1").exists()


def test_a_repeated_array_is_made_once(boss, north):
    first, again = (boss.post(RACKS, racks(3), headers={"Idempotency-Key": "k"}) for _ in range(2))
    assert (first.json(), again["Idempotency-Replayed"]) == (again.json(), "true")
    assert Rack.objects.count() == 4


# --- all or none ---
@pytest.mark.parametrize("query", ["", "?dry_run=1"])
def test_every_fault_is_told_by_its_index_and_nothing_is_stored(boss, north, query):
    bodies = racks(6)
    bodies[1]["height_u"] = 0
    bodies[2]["row"] = "north-0-dc/h1/z"
    del bodies[3]["power_limit_w"]
    bodies[4] = "r4"
    bodies[5]["colour"] = "red"
    errors = assert_problem(boss.post(RACKS + query, bodies), 400, "invalid")["errors"]
    assert [(error["index"], error["field"]) for error in errors] == [
        (1, "height_u"),
        (2, "row"),
        (3, "power_limit_w"),
        (4, None),
        (5, "colour"),
    ]
    assert Rack.objects.count() == 1


def test_what_the_data_base_alone_knows_is_told_by_index_too(boss, north):
    bodies = racks(3)
    bodies[1]["slug"], bodies[2]["slug"] = "r0000", "north-0-r"
    errors = assert_problem(boss.post(RACKS, bodies), 400)["errors"]
    assert {(error["index"], error["field"]) for error in errors} == {(1, "slug"), (2, "slug")}
    assert Rack.objects.count() == 1


def test_a_check_over_several_rows_is_told_by_index(boss, north):
    kind, rack = north["host-types"][0].slug, "north-0-r"
    hosts = [{"slug": f"h{at}", "host_type": kind, "rack": rack, "position_u": u} for at, u in enumerate((1, 7, 10))]
    errors = assert_problem(boss.post("/api/v1/hosts/", hosts), 400)["errors"]
    assert {error["index"] for error in errors} == {1, 2}
    assert "fill units 10 to 12" in errors[0]["message"]


def test_rows_that_are_not_there_are_told_by_index(boss, north):
    errors = assert_problem(boss.patch(RACKS, [{"slug": "gone", "height_u": 1}, {"id": 999999}, {"id": -1}]), 400)[
        "errors"
    ]
    assert [(one["index"], one["field"], one["message"]) for one in errors] == [
        (0, "slug", "There is no rack 'gone'."),
        (1, "id", "There is no rack 999999."),
        (2, "id", "A whole number is needed."),
    ]
    named = ["gone", 999999, {"slug": "gone"}, {"id": True}, {}, {"slug": "north-0-r", "height_u": 3}, None, 1.5]
    errors = assert_problem(boss.delete(RACKS, named), 400)["errors"]
    assert [one["index"] for one in errors] == list(range(8))
    assert Rack.objects.count() == 1


def test_a_row_that_is_named_twice_is_refused(boss, north):
    rack = north["racks"][0]
    edits = [{"id": rack.pk, "height_u": 50}, {"slug": rack.slug, "height_u": 60}]
    assert "named twice" in assert_problem(boss.patch(RACKS, edits), 400)["detail"]
    assert "named twice" in assert_problem(boss.delete(RACKS, [rack.pk, rack.slug]), 400)["detail"]


def test_a_row_that_was_edited_since_is_412_by_index(boss, north):
    one, two = (row["id"] for row in boss.post(RACKS, racks(2)).json()["rows"])
    boss.patch(f"{RACKS}{two}/", {"height_u": 50})
    edits = [{"id": one, "version": 1, "height_u": 60}, {"id": two, "version": 1, "height_u": 60}]
    for response in (
        boss.patch(RACKS, edits),
        boss.patch(f"{RACKS}?dry_run=1", edits),
        boss.delete(RACKS, edits_less(edits)),
    ):
        assert [error["index"] for error in assert_problem(response, 412, "stale_version")["errors"]] == [1]
    assert Rack.objects.filter(height_u=60).count() == 0
    edits[1]["version"] = 2
    assert boss.patch(RACKS, edits).status_code == 200


def edits_less(edits):
    return [{"id": one["id"], "version": one["version"]} for one in edits]


def test_rows_in_use_are_409_by_index_and_say_what_uses_them(boss, north):
    boss.post(RACKS, racks(1))
    body = assert_problem(boss.delete(RACKS, ["r0000", "north-0-r"]), 409, "protected")
    assert [error["index"] for error in body["errors"]] == [1, 1, 1]
    assert "north-0-h" in str(body["errors"])
    assert Rack.objects.count() == 2


@pytest.mark.parametrize("body", [{}, [], "x", 3, None])
def test_a_body_that_is_no_array_of_rows_is_400(boss, north, body):
    for response in (boss.patch(RACKS, body, format="json"), boss.delete(RACKS, body, format="json")):
        assert_problem(response, 400)
    assert_problem(boss.post(RACKS, [] if body == [] else "x", format="json"), 400)


def test_more_than_a_thousand_rows_are_413_and_an_import(boss, north):
    for method, body in (("post", racks(1001)), ("patch", [{"id": 1}] * 1001), ("delete", [1] * 1001)):
        assert "import" in assert_problem(getattr(boss, method)(RACKS, body), 413, "too_large")["detail"]
    assert_problem(boss.post(RACKS, [{"slug": "x" * 2**22}]), 413, "too_large")


def test_who_may_not_write_is_403_and_a_scope_is_needed(north, roles):
    planner = user_make("planner", "planner")
    for response in (
        client_of(planner).post(RACKS, racks(1)),
        client_of(planner).patch(RACKS, [{"id": 1}]),
        client_of(planner).delete(RACKS, [1]),
        client_of(planner).post(f"{RACKS}?dry_run=1", racks(1)),
    ):
        assert_problem(response, 403, "permission_missing")
    assert_problem(client_of(user_make("boss", "admin"), "read").patch(RACKS, [{"id": 1}]), 403, "scope_missing")


# --- dry runs of one row ---
def test_a_dry_run_of_one_row_shows_what_would_come_of_it(boss, north):
    made = boss.post(f"{RACKS}?dry_run=1", racks(1)[0])
    assert (made.status_code, counts(made.json())) == (200, of(created=1))
    (line,) = made.json()["rows"]
    assert (line["id"], line["url"], line["version"], line["after"]["slug"]) == (None, None, None, "r0000")
    rack = north["racks"][0]
    path = f"{RACKS}{rack.pk}/?dry_run=1"
    (line,) = boss.patch(path, {"height_u": 50}).json()["rows"]
    assert (line["before"], line["after"]) == ({"height_u": 48, "version": 1}, {"height_u": 50, "version": 2})
    assert boss.patch(path, {"height_u": 48}).json()["rows"][0]["action"] == "unchanged"
    assert_problem(boss.delete(path), 409, "protected")
    rack.refresh_from_db()
    assert (rack.version, Rack.objects.count(), ChangeSet.objects.count()) == (1, 1, 0)


def test_a_dry_run_refuses_what_a_write_refuses(boss, north):
    path = f"{RACKS}{north['racks'][0].pk}/?dry_run=1"
    stale = {"If-Match": '"7"'}
    assert_problem(boss.patch(path, {"height_u": 50}, headers=stale), 412)
    assert_problem(boss.delete(path, headers=stale), 412)
    for response in (boss.patch(path, {"slug": ""}), boss.post(f"{RACKS}?dry_run=1", racks(1, row="x")[0])):
        errors = assert_problem(response, 400)["errors"]
        assert "index" not in errors[0]
    assert_problem(boss.post(f"{RACKS}?dry_run=1", racks(1)[0], headers={"Idempotency-Key": "k"}), 400)
    assert_problem(boss.patch(f"{RACKS}?dry_run=perhaps", [{"id": 1}]), 400)
    host = north["hosts"][0]
    body = {"slug": "second", "host_type": host.host_type_id, "rack": host.rack_id, "position_u": 46}
    errors = assert_problem(boss.post("/api/v1/hosts/?dry_run=1", body), 400)["errors"]
    assert [(error["field"], "index" in error) for error in errors] == [("position_u", False)]


def test_a_dry_run_is_asked_for_once(boss, north):
    rack = north["racks"][0]
    assert_problem(boss.patch(f"{RACKS}?dry_run=1&dry_run=0", [{"id": rack.pk, "height_u": 50}]), 400)
    rack.refresh_from_db()
    assert rack.version == 1


def test_many_rows_have_no_if_match(boss, north):
    rack, stale = north["racks"][0], {"If-Match": '"7"'}
    for response in (
        boss.patch(RACKS, [{"id": rack.pk, "height_u": 50}], headers=stale),
        boss.delete(RACKS, [rack.pk], headers=stale),
    ):
        assert "version" in assert_problem(response, 400)["errors"][0]["message"]


def test_a_row_that_is_to_be_deleted_is_named_once(boss, north):
    errors = assert_problem(boss.delete(RACKS, [north["racks"][0].pk, north["racks"][0].slug]), 400)["errors"]
    assert [(error["index"], error["message"]) for error in errors] == [(1, "this row is named twice")]


def test_who_sees_some_regions_is_told_once_that_a_row_is_used(north, roles):
    user = user_make("northern", "admin")
    RegionLimit.objects.create(user=user).regions.set(north["regions"])
    errors = assert_problem(client_of(user).delete(RACKS, [north["racks"][0].pk]), 409, "protected")["errors"]
    assert len(errors) == 1


# --- limits and cost ---
def test_who_sees_some_regions_writes_no_row_elsewhere(north, roles):
    region_fill("south")
    user = user_make("northern", "admin")
    RegionLimit.objects.create(user=user).regions.set([north["regions"][0]])
    client, there = client_of(user), Rack.objects.get(slug="south-0-r")
    for response, field in (
        (client.patch(RACKS, [{"id": there.pk, "height_u": 50}]), "id"),
        (client.patch(RACKS, [{"slug": there.slug, "height_u": 50}]), "slug"),
        (client.delete(RACKS, [there.pk]), "id"),
        (client.delete(RACKS, [there.slug]), "slug"),
        (client.post(RACKS, racks(1, row="south-0-dc/h1/a")), "row"),
        (client.post(RACKS, racks(1, row=there.row_id)), "row"),
    ):
        errors = assert_problem(response, 400)["errors"]
        assert [(one["index"], one["field"]) for one in errors] == [(0, field)]
        assert "There is no" in errors[0]["message"]
    assert client.post(RACKS, racks(1)).status_code == 201
    rules = "/api/v1/policy-events/"
    rule = {"slug": "x", "chip": "h20-96", "verb": "buy", "starts_on": "2027-01-01", "source": "s"}
    assert_problem(client.post(rules, [{**rule, "region": "north"}, {**rule, "slug": "y"}]), 403, "region_limited")


def test_what_uses_a_row_is_not_told_to_who_may_not_see_it(north, roles):
    region_fill("south")
    user = user_make("northern", "admin")
    RegionLimit.objects.create(user=user).regions.set([north["regions"][0]])
    service = Service.objects.create(**{**body_of_service(north), "slug": "lonely"})
    Endpoint.objects.create(slug="far", service=service, site=Site.objects.get(slug="south-0-dc"))
    body = assert_problem(client_of(user).delete("/api/v1/services/", ["lonely"]), 409, "protected")
    assert "far" not in str(body)


def body_of_service(north):
    entry = INVENTORY["services"]
    row = north["services"][0]
    return {field.attname: getattr(row, field.attname) for field in entry.fields}


def test_many_rows_cost_as_many_queries_as_few(boss, north):
    def queries(count):
        with CaptureQueriesContext(connection) as captured:
            made = boss.post(RACKS, [{**one, "slug": f"{one['slug']}-{count}"} for one in racks(count)])
            ids = [row["id"] for row in made.json()["rows"]]
            boss.patch(RACKS, [{"id": pk, "height_u": 50} for pk in ids])
            boss.delete(RACKS, ids)
        return len(captured)

    boss.get(RACKS)
    assert queries(300) <= queries(3) + 5  # a data base takes so many values in one INSERT


def test_the_limit_is_that_of_the_document():
    assert api_fleet.BULK_MAX_BYTE == 2**22
