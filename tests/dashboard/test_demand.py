"""The pages of demand: the list, one service with all that is known, tables as CSV and JSON, and the upload."""

import csv
import io
from datetime import date

import altair as alt
import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from fleet.models import DemandEvent, DemandOverride, Region, RegionLimit
from scenarios.demands import history_store
from scenarios.models import DemandHistory
from tests.dashboard.conftest import client_of, user_make
from tests.factories import fleet_rows
from tests.scenarios.test_forecast import made

LIST, ONE = reverse("dashboard:demand"), reverse("dashboard:demand_service", args=["chat"])
UPLOAD = reverse("dashboard:demand_upload", args=["chat"])
QUERY = "?from=2027-01&months=12"


@pytest.fixture
def service(db):
    return fleet_rows()["service"]


@pytest.fixture
def known(service):
    """The same with six weeks of history, an event and an override."""
    history_store(service, made(42, day=0.4, week=-0.3, fast=0.1), name="rates.csv", owner=None)
    band = {"multiplier_low_ratio": 1.5, "multiplier_ratio": 2.0, "multiplier_high_ratio": 2.5}
    days = {"starts_on": date(2027, 3, 1), "ends_on": date(2027, 4, 1)}
    DemandEvent.objects.create(slug="e-1", service=service, reason="=launch", **band, **days)
    figures = {"p10_request_s": 1.0, "p50_request_s": 2.0, "p90_request_s": 3.0}
    months = {"first_on": date(2027, 5, 1), "last_on": date(2027, 6, 1)}
    DemandOverride.objects.create(
        slug="o-1", service=service, author="Li Wei", reason="a contract", **figures, **months
    )
    return service


def text_of(response, status=200):
    assert response.status_code == status, response.content[:400]
    return response.content.decode()


def table_of(pages, path):
    response = pages.get(path + QUERY)
    assert response["Content-Type"].startswith("text/csv")
    return list(csv.DictReader(io.StringIO(text_of(response))))


def test_the_list_shows_demand_basis_and_stated_coverage(pages, known):
    page = text_of(pages.get(LIST + QUERY))
    assert "history (modelled)" in page
    assert "Backtest on published rate series" in page
    assert f'href="{ONE}?from=2027-01&amp;months=12"' in page
    assert page.count("<table>") == page.count("<caption>") == 2
    assert " style=" not in page


def test_without_services_the_list_says_where_they_are_made(pages, db):
    assert "No service is in service today" in text_of(pages.get(LIST))


def test_a_service_without_a_history_says_so_and_takes_one(pages, service):
    page = text_of(pages.get(ONE + QUERY))
    assert "stated for 2027-01" in page
    assert "TTFT at most 2 s, TPOT at most 0.05 s, each for 95 % of requests" in page
    assert "Assumed: stated by a planner" in page
    assert "Give its history" in page
    assert page.count("data-spec=") == 1


def test_a_service_shows_all_that_is_known(pages, known):
    page = text_of(pages.get(ONE + QUERY))
    for words in (
        *("Busiest hour by month", "History", "Shape of the day", "Shape of the week", "Mix and biggest client"),
        *("42.0 days of history until 2027-01-01", "events: e-1", "overrides: o-1 by Li Wei", "a contract", "=launch"),
        *("How good would forecasts of it have been?", "rates.csv by command line", "the dashed line the model"),
    ):
        assert words in page, words
    assert page.count("data-spec=") == 4
    assert page.count("<table>") == page.count("<caption>") == 8
    assert "invented" not in page


def test_every_chart_is_a_sound_specification(pages, known):
    response = pages.get(ONE + QUERY)
    for chart in response.context["shown"].charts:
        alt.Chart.from_dict({**chart.spec}) if "layer" not in chart.spec else alt.LayerChart.from_dict(chart.spec)
        assert chart.sentence
        assert chart.table.rows


def test_tables_go_out_as_csv_and_json_of_what_is_shown(pages, known):
    forecast = table_of(pages, reverse("dashboard:demand_service_csv", args=["chat", "forecast"]))
    assert [row["month"] for row in forecast] == [f"2027-{month:02d}" for month in range(1, 13)]
    assert float(forecast[4]["request_s_p50 [request/s]"]) == 2
    assert float(forecast[4]["model_request_s_p50 [request/s]"]) > 100
    events = table_of(pages, reverse("dashboard:demand_service_csv", args=["chat", "events"]))
    assert events[0]["reason"] == "'=launch"
    answer = pages.get(reverse("dashboard:demand_service_json", args=["chat", "day"]) + QUERY).json()
    assert (answer["service"], len(answer["rows"]), answer["from"]) == ("chat", 24, "2027-01")
    services = table_of(pages, reverse("dashboard:demand_csv", args=["services"]))
    assert services[0]["service"] == "chat"
    coverage = pages.get(reverse("dashboard:demand_json", args=["coverage"]) + QUERY).json()
    assert {row["series"] for row in coverage["rows"]} == {"m_small", "m_large", "deepseek_r1", "mm_image"}
    assert pages.get(reverse("dashboard:demand_csv", args=["nothing"])).status_code == 404


@pytest.mark.parametrize("query", ["?from=2027-13", "?from=soon", "?months=0", "?months=61", "?from=1999-01"])
def test_months_that_are_none_are_told(pages, service, query):
    for path in (LIST, ONE):
        assert 'class="errorlist"' in text_of(pages.get(path + query), 400)
    assert pages.get(reverse("dashboard:demand_csv", args=["services"]) + query).status_code == 400


def send(pages, text, name="rates.csv", **values):
    file = SimpleUploadedFile(name, text.encode(), content_type="text/csv")
    return pages.post(UPLOAD, {"file": file, "instead": "0", **values})


def test_a_file_is_kept_and_shown(pages, service):
    response = send(pages, made(5, day=0.3).csv())
    assert (response.status_code, response["Location"]) == (302, ONE)
    page = text_of(pages.get(ONE))
    assert "Kept 120 windows until 2027-01-01 00:00 UTC" in page
    assert "rates.csv by planner" in page


def test_rows_that_are_wrong_are_listed_and_nothing_is_kept(pages, service):
    page = text_of(send(pages, "window_start,rate_rps\n2026-12-01T00:00:00Z,x\nsoon,5\n"), 400)
    assert "2 row(s) are wrong; nothing was kept" in page
    assert "Rows that are wrong" in page
    assert "is no moment such as" in page
    assert not DemandHistory.objects.exists()


@pytest.mark.parametrize(
    ("text", "values", "reason"),
    [
        ("rate_rps\n1\n", {}, "column window_start: missing"),
        ("window_start_s,rate_rps\n0,1\n600,1\n", {"starts_at": "soon"}, "is no moment"),
        ("window_start_s,rate_rps\n0,1\n600,1\n", {}, "name the start"),
        ("window_start_s,rate_rps\n0,1\n600,1\n", {"instead": "2"}, "Select a valid choice"),
    ],
)
def test_a_file_that_is_none_is_told_why(pages, service, text, values, reason):
    assert reason in text_of(send(pages, text, **values), 400)
    assert not DemandHistory.objects.exists()


def test_a_file_beyond_the_limit_is_not_read(pages, service):
    response = pages.generic("POST", UPLOAD, b"", CONTENT_LENGTH=str(2**30))
    assert "it was not read" in text_of(response, 413)


def test_who_may_not_keep_a_history_sees_no_form(viewer_pages, service):
    assert "Give its history" not in text_of(viewer_pages.get(ONE))
    assert viewer_pages.post(UPLOAD).status_code == 403


def test_an_invented_history_is_marked(pages, service):
    history_store(service, made(5), name="demo", owner=None, is_invented=True)
    page = text_of(pages.get(ONE))
    assert "This history is invented" in page
    assert "UTC. Invented." in page
    assert "Measured." not in page
    assert "history (modelled), invented" in text_of(pages.get(LIST))


def test_an_account_of_another_region_sees_nothing_of_it(roles, known):
    user = user_make("li", "planner")
    RegionLimit.objects.create(user=user).regions.set([Region.objects.create(slug="south", name="South")])
    limited = client_of(user)
    assert "Chat" not in text_of(limited.get(LIST))
    for path in (ONE, reverse("dashboard:demand_service_csv", args=["chat", "forecast"])):
        assert limited.get(path).status_code == 404
    assert send(limited, made(5).csv()).status_code == 404
