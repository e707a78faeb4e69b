import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from accelerator import DataFileError
from api import calibrations as api_calibrations
from scenarios import accuracy, calibrations
from scenarios.calibrations import calibration_current
from scenarios.models import CalibrationChange, CalibrationVersion
from tests.api.conftest import assert_problem, client_of, user_make
from tests.calibrations import row, table, version_make

LIST, ACCURACY = "/api/v1/calibrations/", "/api/v1/accuracy/"
PUBLISHED = f"{LIST}published/activate/"
KEY = {"Idempotency-Key": "one"}


# --- versions ---------------------------------------------------------------------------------------------------------
def test_rows_make_a_version_that_is_in_use_at_once(client, published):
    answer = client.post(LIST, {"rows": [row()], "note": "rack 7"})
    assert answer.status_code == 201, answer.content
    body = answer.json()
    assert body["rejected"] == []
    assert (body["is_active"], body["owner"], body["note"], body["parent"]) == (True, "planner", "rack 7", None)
    assert (body["points"], body["points_added"]) == (1, 1)
    (chip,) = body["errors"]["chips"]
    assert chip["chip"] == "h20-96"
    assert chip["after_error_ratio"] < chip["before_error_ratio"]
    assert [change["owner"] for change in body["changes"]] == ["planner"]
    assert body["digest"] == calibration_current().digest
    assert answer["Location"] == body["url"]
    del body["rejected"]
    assert client.get(body["url"]).json() == body


def test_a_table_as_text_does_the_same_as_rows(client, published):
    text = client.post(f"{LIST}?dry_run=1", {"csv": table(row())}).json()
    numbers = {**row(), "value": 900, "chip_count": 4, "tp": 4, "notes": None}
    rows = client.post(f"{LIST}?dry_run=1", {"rows": [numbers]}).json()
    assert text == rows


def test_a_dry_run_shows_what_would_come_of_it_and_stores_nothing(client, published):
    answer = client.post(f"{LIST}?dry_run=true", {"rows": [row(), row("own-2", chip="h21")]})
    assert answer.status_code == 200, answer.content
    assert answer.json()["points"] == 1
    assert answer.json()["rejected"][0]["index"] == 1
    assert not CalibrationVersion.objects.exists()
    assert_problem(client.post(f"{LIST}?dry_run=1", {"rows": [row()]}, headers=KEY), 400, "invalid")


def test_rows_that_cannot_be_used_are_named_beside_what_was_made(client, published):
    body = client.post(LIST, {"csv": table(row(), row("own-2", value="-1"), row("own-3", chip="h21"))}).json()
    assert body["points"] == 1
    places = [(one["index"], one["line"], one["column"]) for one in body["rejected"]]
    assert places == [(1, 3, "value"), (2, 4, None)]
    assert "h20" in body["rejected"][1]["message"]


def test_if_no_row_can_be_used_every_reason_is_in_the_problem(client, published):
    body = assert_problem(client.post(LIST, {"rows": [row(chip="h21"), row("own-2", value="")]}), 400, "invalid")
    assert [(one["field"], one["index"], one["column"]) for one in body["errors"]] == [
        ("rows", 0, None),
        ("rows", 1, "value"),
    ]
    body = assert_problem(client.post(LIST, {"csv": table(row(chip="h21"))}), 400, "invalid")
    assert (body["errors"][0]["field"], body["errors"][0]["line"]) == ("csv", 2)
    assert not CalibrationVersion.objects.exists()


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        ({}, "rows", "either rows or csv"),
        ({"rows": [row()], "csv": table(row())}, "rows", "either rows or csv"),
        ({"rows": []}, "rows", "at least 1"),
        ({"rows": ["x"]}, "rows", "object is needed"),
        ({"rows": [{**row(), "colour": "red"}]}, "rows", 'unknown column "colour"'),
        ({"rows": [{**row(), "value": True}]}, "rows.value", "text or a number"),
        ({"rows": [{**row(), "notes": "\x00"}]}, "rows.notes", "Null"),
        ({"rows": [{"point_id": "x"}]}, "rows", "has no column"),
        ({"csv": "point_id,chip\n"}, "csv", "has no column"),
        ({"csv": table(row()).splitlines()[0]}, "csv", "no rows"),
        ({"rows": [row()], "note": "x" * 301}, "note", "300"),
        ({"rows": [row()], "active": True}, "active", "Unknown field"),
    ],
)
def test_what_is_no_table_is_400_and_nothing_is_stored(client, published, body, field, words):
    problem = assert_problem(client.post(LIST, body), 400, "invalid")
    assert problem["errors"][0]["field"] == field
    assert words in problem["errors"][0]["message"]
    assert not CalibrationVersion.objects.exists()


def test_the_same_key_makes_one_version(client, published):
    first, again = (client.post(LIST, {"rows": [row()]}, headers=KEY) for _ in range(2))
    assert (again.status_code, again.json()) == (201, first.json())
    assert again["Idempotency-Replayed"] == "true"
    assert CalibrationVersion.objects.count() == 1


def test_a_version_that_was_overtaken_is_409(client, published, monkeypatch):
    draft = calibrations.calibration_draft

    def slow(rows, **values):
        made = draft(rows, **values)
        version_make(row("own-2", value="950"))
        return made

    monkeypatch.setattr(api_calibrations, "calibration_draft", slow)
    assert_problem(client.post(LIST, {"rows": [row()]}), 409, "conflict")
    assert CalibrationVersion.objects.count() == 1


def test_an_earlier_version_or_the_published_fit_is_taken_into_use_again(client, published):
    first, second = version_make(row()), version_make(row("own-2", value="950"))
    body = client.post(f"{LIST}{first.pk}/activate/").json()
    assert (body["id"], body["is_active"]) == (first.pk, True)
    assert [change["owner"] for change in body["changes"]] == ["planner", None]
    assert client.get(f"{LIST}{second.pk}/").json()["is_active"] is False
    assert client.get(f"{LIST}{second.pk}/").json()["parent"]["id"] == first.pk
    answer = client.post(PUBLISHED)
    assert answer.json() == client.get(ACCURACY).json()["calibration"]
    assert answer.json()["version"] == "published"
    assert CalibrationChange.objects.count() == 4
    assert_problem(client.post(f"{LIST}99/activate/"), 404)


def test_versions_are_listed_filtered_and_shaped(client, published):
    version_make(row(), note="one")
    version_make(row("own-2", value="950"), note="two")

    def notes(query):
        return [one["note"] for one in client.get(f"{LIST}?{query}").json()["results"]]

    assert notes("") == ["two", "one"]
    for query in ("is_active=true", "points__gt=1", "q=tw", "parent_id__isnull=false"):
        assert notes(query) == ["two"], query
    assert notes("ordering=points") == ["one", "two"]
    assert client.get(f"{LIST}?brief=1").json()["results"][0].keys() == {"id", "url", "display"}


@pytest.mark.parametrize("query", ["colour=red", "points=many", "fields=payload", "ordering=table", "dry_run=1"])
def test_an_unknown_or_ill_typed_parameter_is_400(client, published, query):
    assert_problem(client.get(f"{LIST}?{query}"), 400, "invalid")


def test_versions_cannot_be_edited_or_deleted(client, published):
    path = f"{LIST}{version_make(row()).pk}/"
    for method in ("patch", "put", "delete"):
        assert_problem(getattr(client, method)(path, {}), 405)


def test_the_own_points_of_a_version_can_be_downloaded_and_sent_again(client, published):
    version = version_make(row())
    answer = client.get(f"{LIST}{version.pk}/points.csv/")
    assert answer["Content-Type"] == "text/csv; charset=utf-8"
    client.post(PUBLISHED)
    again = client.post(LIST, {"csv": answer.content.decode()})
    assert again.json()["digest"] == version.digest


def test_who_may(roles, published):
    """Role by verb: everybody reads, planners make and switch; a token needs its scope as well."""
    version = version_make(row())
    bodies = {LIST: {"rows": [row("own-2", value="950")]}, f"{LIST}{version.pk}/activate/": None, PUBLISHED: None}
    reads = (LIST, f"{LIST}{version.pk}/", f"{LIST}{version.pk}/points.csv/", ACCURACY)
    planner = user_make("pat", "planner")
    for client in (client_of(user_make("newcomer")), client_of(user_make("vic", "viewer"))):
        assert [client.get(path).status_code for path in reads] == [200] * 4
        for path, body in bodies.items():
            assert_problem(client.post(path, body), 403, "permission_missing")
    for path, body in bodies.items():
        assert_problem(client_of(planner, "read", "run").post(path, body), 403, "scope_missing")
    assert_problem(client_of(planner, "write").get(ACCURACY), 403, "scope_missing")
    assert CalibrationVersion.objects.count() == CalibrationChange.objects.count() == 1
    answers = [client_of(planner, "write").post(path, body).status_code for path, body in bodies.items()]
    assert answers == [201, 200, 200]


def test_the_cost_of_the_list_does_not_grow_with_its_rows(client, published):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert client.get(LIST).status_code == 200
        return len(captured)

    version_make(row())
    version_make(row("own-2", value="950"))
    queries()  # the first use of a token is noted
    before = queries()
    version_make(row("own-3", value="920"))
    assert queries() == before


# --- accuracy ---------------------------------------------------------------------------------------------------------
def test_accuracy_shows_every_scheme_groups_worst_rows_and_what_is_not_known(client, published):
    body = client.get(ACCURACY).json()
    assert [one["scheme"] for one in body["summary"]] == ["points", "pairs", "chips", "chips and engines"]
    assert (body["scheme"], body["held_out"]) == ("pairs", "whole (chip, model) pairs")
    assert [one["name"] for one in body["chips"]] == ["ascend-910b3", "h100-sxm", "h20-96", "l20"]
    assert body["figures"]["rows"] == sum(one["rows"] for one in body["chips"]) == 32
    assert len(body["worst"]) == 20
    assert body["worst"][0]["basis"] == "calibrated"
    assert "measured" not in body["worst"][0]  # the published rows' values are not ours to show
    assert body["own"] == []
    unknown = {one["chip"]: one["basis"] for one in body["unknown"]}
    assert unknown["mi300x"] == "modelled"
    assert body["calibration"] == body["published"]


def test_accuracy_is_filtered_by_scheme_and_columns(client, published):
    version_make(row(), row("own-2", chip="l20", value="400"))
    body = client.get(ACCURACY, {"scheme": "chips", "chip": ["l20", "h20-96"], "class": "tpot"}).json()
    assert [(one["name"], one["rows"]) for one in body["chips"]] == [("h20-96", 4), ("l20", 4)]
    assert [one["name"] for one in body["classes"]] == ["tpot"]
    assert body["own"] == []  # they are throughputs
    (own,) = client.get(ACCURACY, {"chip": "l20"}).json()["own"]
    assert (own["measured"], own["basis"]) == (400.0, "calibrated")
    nothing = client.get(ACCURACY, {"chip": "mi300x"}).json()
    assert (nothing["figures"], nothing["chips"], nothing["worst"]) == (None, [], [])


@pytest.mark.parametrize(
    ("query", "field"),
    [("scheme=all", "scheme"), ("scheme=points&scheme=chips", "scheme"), ("chips=l20", "chips"), ("chip=%00", "chip")],
)
def test_accuracy_refuses_what_it_does_not_know(client, published, query, field):
    assert assert_problem(client.get(f"{ACCURACY}?{query}"), 400, "invalid")["errors"][0]["field"] == field


def test_without_a_published_fit_all_is_empty_and_nothing_can_be_made(client, monkeypatch, tmp_path):
    def missing():
        raise DataFileError("serving.json: there is none")

    monkeypatch.setattr(calibrations, "serving_calibration_load", missing)
    monkeypatch.setattr(accuracy, "ERRORS_PATH", tmp_path / "none.csv")
    body = client.get(ACCURACY).json()
    assert (body["calibration"], body["published"], body["summary"], body["figures"]) == (None, None, [], None)
    assert_problem(client.post(LIST, {"rows": [row()]}), 409, "no_calibration")
    assert_problem(client.post(PUBLISHED), 409, "no_calibration")
