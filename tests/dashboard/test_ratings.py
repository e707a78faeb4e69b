import csv
import io
import json

import altair as alt
import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext
from django.urls import reverse

from accelerator import goodput
from dashboard.ratings import RatingChoice, choice_defaults, ratings_page
from scenarios.rating_store import rating_get_or_compute
from tests.scenarios.rating_questions import FAST, OTHER, REFUSED, question

STATE = {"model": "qwen3-0.6b", "mix": "m-small", "ttft_p95_s": "5", "tpot_p95_s": "0.1", "from": "h20-96"}
URL = reverse("dashboard:ratings")
TABLES = ("ratings", "exchange", "per-chip")


@pytest.fixture
def stored(db):
    return [rating_get_or_compute(question(**values)) for values in (REFUSED, OTHER, FAST)]


def text_of(response):
    return response.content.decode()


def choice(**values):
    state = {name: value for name, value in STATE.items() if name != "from"}
    limits = {name: float(state[name]) for name in ("ttft_p95_s", "tpot_p95_s")}
    return RatingChoice(**{**state, **limits, "chip": "", "start": "h20-96", **values})


def test_an_empty_store_says_which_command_fills_it(pages):
    page = text_of(pages.get(URL))
    assert "Nothing is rated yet for this" in page
    assert "python manage.py rate_catalog --model deepseek-r1 --mix azure-conv --ttft-p95-s 2" in page
    assert "data-spec" not in page


def test_without_a_query_it_shows_what_was_rated_last(pages, stored):
    page = text_of(pages.get(URL))
    assert "qwen3-0.6b, m-small, TTFT 5 s and TPOT 100 ms at P95" in page
    assert "74 of 76 pairs are not rated yet" in page


def test_ratings_come_best_first_with_bands_and_what_binds(pages, stored):
    page = text_of(pages.get(URL, STATE))
    fast = stored[2].payload["rating"]
    assert page.index(">h20-96</th>") < page.index(">l4</th>")
    assert fast["label"] in page
    assert f"{fast['tok_s']['p50']:,.0f}" in page
    assert f"{fast['tok_s']['p90'] / fast['chips']:,.1f}" in page
    assert stored[2].binds in page
    assert page.count("<table>") == page.count("<caption>") == 3
    assert " style=" not in page
    assert page.count("data-spec=") == 1


def test_rates_per_chip_kilowatt_and_dollar_are_those_of_the_rating(stored):
    row = ratings_page(choice()).tables[0].rows[0]
    rating = stored[2].payload["rating"]
    assert row["tok_s_per_chip_p50"] == pytest.approx(rating["tok_s_per_chip"])
    assert row["tok_s_per_kw_p50"] == pytest.approx(rating["tok_s_per_kw"])
    assert row["tok_s_per_kusd_p50"] == pytest.approx(1000 * rating["tok_s_per_usd"])


def test_a_refusal_stands_last_with_its_reason(pages, stored):
    page = text_of(pages.get(URL, {**STATE, "model": "deepseek-r1"}))
    assert "0 pairs keep the limits, 1 do not, and say why" in page
    assert "does not fit" in page
    assert "data-spec" not in page
    assert "h20-96 itself is not rated for this yet" in page.replace("</strong>", "").replace("\n", " ")


def test_every_model_on_a_chip(pages, stored):
    page = text_of(pages.get(URL, {**STATE, "model": "", "chip": "h20-96"}))
    assert '<th scope="row" class="nowrap">qwen3-0.6b</th>' in page
    assert "Exchange ratios are shown for one model" in page


def test_exchange_ratios_are_those_of_the_stored_ratings(stored):
    shown = ratings_page(choice())
    (row,) = shown.tables[1].rows
    fast, other = (row.payload["service"]["tok_s"]["p50"] for row in (stored[2], stored[1]))
    assert (row["to"], row["host_chips"]) == ("l4", 8)
    assert row["service_p50"] == pytest.approx(fast / other)
    assert row["prefill_p10"] < row["prefill_p50"] < row["prefill_p90"]


def test_what_a_new_calibration_made_old_is_not_shown(stored, monkeypatch):
    fingerprint = goodput.engine_fingerprint

    def calibrated(chip, model, calibration):
        return "new" if chip.slug == "l4" else fingerprint(chip, model, calibration)

    monkeypatch.setattr(goodput, "engine_fingerprint", calibrated)
    assert [row["chip"] for row in ratings_page(choice()).tables[0].rows] == ["h20-96"]


@pytest.mark.parametrize("name", TABLES)
def test_csv_and_json_hold_the_rows_of_the_page_and_its_state(pages, stored, name):
    answer = pages.get(reverse("dashboard:ratings_json", args=[name]), STATE).json()
    response = pages.get(reverse("dashboard:ratings_csv", args=[name]), STATE)
    assert response["Content-Type"] == "text/csv; charset=utf-8"
    head, *rows = csv.reader(io.StringIO(text_of(response)))
    names = [column["name"] for column in answer["columns"]]
    assert len(head) == len(names)
    shown = [["" if row[name] is None else str(row[name]) for name in names] for row in answer["rows"]]
    assert rows == shown
    assert len(rows) == (1 if name == "exchange" else 2)
    assert {key: answer[key] for key in STATE} == STATE
    assert answer["goodput_version"]


def test_a_table_that_is_not_there_is_404_and_a_bad_state_400(pages, stored):
    for kind in ("csv", "json"):
        assert pages.get(reverse(f"dashboard:ratings_{kind}", args=["nothing"]), STATE).status_code == 404
        bad = pages.get(reverse(f"dashboard:ratings_{kind}", args=["ratings"]), {**STATE, "mix": "x"})
        assert bad.status_code == 400


@pytest.mark.parametrize(
    ("changed", "words"),
    [
        ({"chip": "h21"}, "h21 is not one of the available choices"),
        ({"ttft_p95_s": "soon"}, "Enter a number"),
        ({"tpot_p95_s": "0"}, "greater than or equal to"),
        ({"model": "", "chip": ""}, "Choose a model, a chip, or both"),
        ({"from": ""}, "This field is required"),
    ],
)
def test_a_state_that_makes_no_sense_is_named_beside_its_field(pages, stored, changed, words):
    response = pages.get(URL, {**STATE, **changed})
    assert response.status_code == 400
    assert words in text_of(response)


def test_the_page_links_to_exactly_what_it_shows(pages, stored):
    page = text_of(pages.get(URL))
    query = choice().query
    assert f'href="?{query.replace("&", "&amp;")}"' in page
    assert text_of(pages.get(f"{URL}?{query}")).count("<tr>") == page.count("<tr>")


def test_the_chart_is_a_valid_specification_and_ends_no_element(stored):
    chart = ratings_page(choice()).chart
    alt.Chart.from_dict(chart.spec, validate=True) if "mark" in chart.spec else alt.LayerChart.from_dict(chart.spec)
    assert "</" not in json.dumps(chart.spec)
    assert "h20-96 makes most per chip" in chart.sentence


def test_the_cost_of_the_page_does_not_grow_with_what_is_stored(pages, stored):
    def queries():
        with CaptureQueriesContext(connection) as captured:
            assert pages.get(URL, STATE).status_code == 200
        return len(captured)

    before = queries()
    for chip in ("h200", "a10", "h800"):
        rating_get_or_compute(question(chip=chip))
    assert queries() == before


def test_what_planners_have_ordered_is_not_what_the_page_opens_with(db):
    usual = rating_get_or_compute(question())
    rating_get_or_compute(question(model="qwen3-1.7b", percentile=0.99))
    usual.pk, usual.digest, usual.trace_digest, usual.mix = None, "f" * 64, "e" * 64, "recorded"
    usual.save(force_insert=True)
    assert choice_defaults()["model"] == "qwen3-0.6b"
    assert choice_defaults()["mix"] == "m-small"
