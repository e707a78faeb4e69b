import csv
import io
import json

import altair as alt
import pytest
from django.db import connection
from django.test import Client
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accelerator import DataFileError
from dashboard.accuracy import AccuracyChoice, accuracy_page
from scenarios import accuracy, calibrations
from scenarios.calibrations import version_active
from scenarios.models import CalibrationChange
from tests.calibrations import row, version_make

URL, USE = reverse("dashboard:accuracy"), reverse("dashboard:calibration_use")
STATE = {"scheme": "points", "chip": "l20"}
TABLES = ("summary", "by-chip", "by-engine", "by-model", "by-class", "worst", "unknown", "ratio-by-chip")
OWN_TABLES = ("own-points", "own-output-tok-s", "own-tpot-ms")


def text_of(response):
    return response.content.decode()


@pytest.fixture
def own(db, published):
    rows = [row(), row("own-2", chip="l20", value="400"), row("own-3", metric="tpot_ms", value="40", unit="ms")]
    return version_make(*rows, note="rack 7")


def test_without_a_fit_it_says_which_command_makes_one(pages, monkeypatch, tmp_path):
    def missing():
        raise DataFileError("serving.json: there is none")

    monkeypatch.setattr(calibrations, "serving_calibration_load", missing)
    monkeypatch.setattr(accuracy, "ERRORS_PATH", tmp_path / "none.csv")
    page = text_of(pages.get(URL))
    assert "No held-out rows are known yet" in page
    assert "python -m accelerator fit-serving" in page
    assert "data-spec" not in page
    assert "nobody has measured it" in page


def test_it_shows_errors_by_chip_engine_model_and_class_with_the_worst_and_the_unknown(pages, published):
    page = text_of(pages.get(URL))
    assert "Whole (chip, model) pairs held out: 32 rows" in page
    for words in ("Errors by chip", "Errors by engine", "Errors by model", "Errors by class of metrics"):
        assert words in page
    assert "The 20 rows that are furthest off" in page
    assert "fewer than 10 rows" in page
    assert ">mi300x</th>" in page
    assert page.count("<table>") == page.count("<caption>") == 8
    assert page.count("data-spec=") == 1
    assert " style=" not in page
    assert "In use: the published fit, fitted on 2026-11-25, 32 rows" in page
    assert "Own points against" not in page


def test_own_points_are_shown_measured_beside_predicted(pages, own):
    page = text_of(pages.get(URL))
    assert page.count("data-spec=") == 3  # by chip, and one for each metric: no two units share an axis
    assert "Own points: output_tok_s" in page
    assert f"In use: calibration {own.pk}" in page
    assert "3 own points, 3 of them new; made by command line: rack 7" in page
    assert f"Calibration {own.pk}: median error on own points, by chip" in page


def test_words_say_what_a_prediction_stands_on(own):
    tables = accuracy_page(AccuracyChoice()).tables
    assert {one["basis"] for one in tables["own-points"].rows} == {"calibrated"}
    assert {one["basis"] for one in tables["worst"].rows} == {"calibrated"}
    assert {one["basis"] for one in accuracy_page(AccuracyChoice("chips")).tables["worst"].rows} == {"modelled"}
    assert "modelled" in {one["basis"] for one in tables["unknown"].rows}


def test_filters_are_in_the_address_and_the_page_links_to_exactly_what_it_shows(pages, own):
    page = text_of(pages.get(URL, {**STATE, "class": "tpot"}))
    assert "New points of seen pairs held out, chip l20, class tpot: 4 rows" in page
    assert 'href="?scheme=points&amp;chip=l20&amp;class=tpot"' in page
    assert "Own points against" not in page  # the one of this chip is a throughput
    assert "Own points against" in text_of(pages.get(URL, STATE))
    empty = text_of(pages.get(URL, {"engine": "vllm", "model": "qwen3-8b", "chip": "l20", "class": "tpot"}))
    assert "data-spec" in empty


def test_filters_that_leave_nothing_say_so(pages, published, monkeypatch):
    kept = [one for one in accuracy.held_rows() if (one.chip, one.engine) != ("l20", "vllm")]
    monkeypatch.setattr(accuracy, "_held_rows", lambda *_: tuple(kept))
    page = text_of(pages.get(URL, {"chip": "l20", "engine": "vllm"}))
    assert "No held-out row is like this" in page
    assert "data-spec" not in page


@pytest.mark.parametrize("name", TABLES + OWN_TABLES)
def test_csv_and_json_hold_the_rows_of_the_page_and_its_state(pages, own, name):
    state = {} if name in OWN_TABLES else STATE
    answer = pages.get(reverse("dashboard:accuracy_json", args=[name]), state).json()
    response = pages.get(reverse("dashboard:accuracy_csv", args=[name]), state)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    head, *rows = csv.reader(io.StringIO(text_of(response)))
    names = [column["name"] for column in answer["columns"]]
    assert len(head) == len(names)
    assert rows == [["" if one[n] is None else str(one[n]) for n in names] for one in answer["rows"]]
    assert rows
    assert answer["calibration"]["version"] == str(own.pk)
    assert state.items() <= answer.items()


def test_no_published_row_shows_what_was_measured(own):
    shown = accuracy_page(AccuracyChoice())
    for table in shown.tables_all:
        is_own = table.name.startswith("own-")
        assert ("measured" in {column.name for column in table.columns}) is is_own, table.name


def test_a_table_that_is_not_there_is_404_and_a_bad_state_400(pages, published):
    for kind in ("csv", "json"):
        assert pages.get(reverse(f"dashboard:accuracy_{kind}", args=["nothing"])).status_code == 404
        bad = pages.get(reverse(f"dashboard:accuracy_{kind}", args=["worst"]), {"scheme": "all"})
        assert bad.status_code == 400
    response = pages.get(URL, {"chip": "h21"})
    assert response.status_code == 400
    assert "h21 is not one of the available choices" in text_of(response)


def test_a_planner_takes_a_version_into_use_and_a_viewer_only_sees_it(pages, viewer_pages, own):
    assert text_of(viewer_pages.get(URL)).count(f'action="{USE}"') == 0
    assert viewer_pages.post(USE, {"version": "published"}).status_code == 403
    assert version_active() == own
    page = text_of(pages.get(URL))
    assert page.count(f'action="{USE}"') == 1
    response = pages.post(USE, {"version": "published"}, follow=True)
    assert "The published fit is in use." in text_of(response)
    assert "the published fit, by planner" in text_of(response)
    assert version_active() is None
    assert "in use already" in text_of(pages.post(USE, {"version": "published"}, follow=True))
    pages.post(USE, {"version": str(own.pk)})
    assert version_active() == own
    assert CalibrationChange.objects.count() == 3


@pytest.mark.parametrize("values", [{}, {"version": "99"}, {"version": "first"}])
def test_a_version_that_is_not_there_is_400(pages, own, values):
    assert pages.post(USE, values).status_code == 400
    assert version_active() == own


def test_a_switch_needs_a_post_with_a_csrf_token(planner, pages, own):
    assert pages.get(USE).status_code == 405
    strict = Client(enforce_csrf_checks=True)
    strict.force_login(planner)
    assert strict.post(USE, {"version": "published"}).status_code == 403
    assert version_active() == own


def test_the_charts_are_valid_specifications_and_end_no_element(own):
    charts = accuracy_page(AccuracyChoice()).charts
    assert [chart.name for chart in charts] == ["ratio-by-chip", "own-output-tok-s", "own-tpot-ms"]
    for chart in charts:
        alt.LayerChart.from_dict(chart.spec)
        assert "</" not in json.dumps(chart.spec)
    assert charts[0].spec["layer"][0]["encoding"]["x"]["scale"]["type"] == "log"
    assert "the bands hold" in charts[0].sentence
    assert "which the calibration has seen" in charts[1].sentence


def test_a_name_that_a_page_or_a_spreadsheet_would_run_is_defused(pages, published):
    version_make(row("=cmd()", source="<script>alert(1)</script>"), note="<b>x</b>")
    page = text_of(pages.get(URL))
    assert "<script>alert" not in page
    assert "&lt;b&gt;x" in page
    assert "'=cmd()" in text_of(pages.get(reverse("dashboard:accuracy_csv", args=["own-points"])))


def test_the_cost_of_the_page_does_not_grow_with_its_versions(pages, own):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert pages.get(URL).status_code == 200
        return len(captured)

    before = queries()
    version_make(row("own-4", value="950"))
    assert queries() <= before + 1  # the new calibration is read once
    assert queries() == before


def test_a_run_shows_which_calibration_was_in_use(pages, own, capacity_run):
    page = text_of(pages.get(reverse("dashboard:run", args=[capacity_run.pk])))
    assert f"version {own.pk}, fitted on" in page
    assert own.digest in page
