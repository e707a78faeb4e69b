"""The page of an outage: its sentence, its charts with their twins, its tables; and its overview beside others."""

import pytest
from django.urls import reverse

from dashboard.charts import charts_of
from tests.dashboard.conftest import run_make, scenario_make


@pytest.fixture
def outage_run(fleet):
    return run_make(scenario_make("outage", params={"tree": "rack", "node": "dc01-a1", "day": "2027-02-10"}))


def test_the_page_of_a_run_tells_before_and_after(pages, outage_run):
    text = pages.get(reverse("dashboard:run", args=[outage_run.pk])).content.decode()
    assert "Rack dc01-a1 is lost on 2027-02-10 and not repaired." in text
    for words in ("Time to recover", "Before and after by region, tier and month", "Hosts that cannot serve"):
        assert words in text
    assert "North: before and after" in text


def test_charts_have_a_sentence_and_a_twin_that_can_be_read(pages, outage_run):
    charts = charts_of(outage_run.result)
    assert [chart.name for chart in charts] == ["before-after-north", "unserved", "exposure"]
    for chart in charts:
        assert chart.sentence.endswith(".")
        assert chart.table.rows
        assert pages.get(reverse("dashboard:run_table_csv", args=[outage_run.pk, chart.table.name])).status_code == 200
    served = charts[0].table.rows
    assert [row["after_tok_s"] < row["before_tok_s"] for row in served] == [False, True, True, True]


def test_the_other_pages_take_no_notice(pages, outage_run):
    for name in ("dashboard:overview", "dashboard:scenarios"):
        assert pages.get(reverse(name)).status_code == 200
    assert pages.get(reverse("dashboard:scenario", args=[outage_run.scenario_id])).status_code == 200


def test_the_report_of_an_outage_stands_alone(outage_run):
    from scenarios.reports import report_build

    built = report_build(outage_run)
    assert "Rack dc01-a1 is lost" in built.html
    assert "event-" not in built.title
