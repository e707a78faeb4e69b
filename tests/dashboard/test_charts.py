import json

import altair as alt
import pytest

from dashboard.charts import charts_of
from scenarios.result_tables import tables_of


def points_of(spec):
    """Every row of data that a spec draws, wherever it is kept."""
    kept = list(spec.get("datasets", {}).values())
    return [row for rows in kept for row in rows] + [
        row for part in (spec, *spec.get("layer", [])) for row in part.get("data", {}).get("values", [])
    ]


@pytest.fixture(params=["capacity_run", "migration_run"])
def charts(request):
    return charts_of(request.getfixturevalue(request.param).result)


def test_every_spec_is_valid_vega_lite_and_names_no_address(charts):
    for chart in charts:
        alt.Chart.from_dict(chart.spec, validate=True)
        text = json.dumps(chart.spec)
        assert '"url"' not in text
        assert "href" not in text


def test_every_chart_says_in_its_own_description_what_it_shows(charts):
    for chart in charts:
        assert chart.spec["description"] == chart.sentence
        assert chart.sentence.endswith(".")
        assert "odelled" in chart.sentence or "planned" in chart.sentence


def test_what_is_drawn_is_what_the_table_says(charts):
    for chart in charts:
        points = points_of(chart.spec)
        drawn = {value for row in points for value in row.values() if isinstance(value, float)}
        written = {value for row in chart.table.rows for value in row.values() if isinstance(value, float)}
        assert drawn == written, chart.name
        months = {row["month"] for row in chart.table.rows if "month" in row}
        assert months <= {row.get("month") for row in points}


def test_the_capacity_chart_shows_the_rows_of_the_capacity_table(capacity_run):
    (chart,) = charts_of(capacity_run.result)
    own = tables_of(capacity_run.result)[0]
    names = [column.name for column in chart.table.columns]
    assert list(chart.table.rows) == [{name: row[name] for name in names} for row in own.rows]


def test_gpus_and_homegrown_hosts_differ_by_word_and_by_fill(migration_run):
    racked = next(chart for chart in charts_of(migration_run.result) if chart.name == "racked")
    labels = [column.label for column in racked.table.columns[1:]]
    assert labels == ["h20-8x (GPU)", "ppu-16x (homegrown)"]
    fill = racked.spec["encoding"]["fillOpacity"]
    assert fill["scale"]["domain"] == ["GPU", "homegrown"]
    assert fill["scale"]["range"][0] < fill["scale"]["range"][1]
    assert racked.table.rows[0]["h20-8x"] == 6
    assert racked.table.rows[0]["ppu-16x"] == 2


def test_available_and_demanded_differ_by_dash_and_not_by_colour_alone(capacity_run):
    (chart,) = charts_of(capacity_run.result)
    dashes = [layer["encoding"]["strokeDash"] for layer in chart.spec["layer"] if "strokeDash" in layer["encoding"]]
    assert dashes[0]["scale"]["range"] == [[1, 0], [6, 4]]


def test_a_run_out_is_marked_with_its_month(capacity_run):
    result = capacity_run.result
    result["regions"][0]["run_out"] = {"p10": "2027-02", "p50": "2027-03", "p90": None}
    (chart,) = charts_of(result)
    labels = {row["label"] for row in points_of(chart.spec) if "label" in row}
    assert labels == {"runs out, P50 2027-03", "P10 2027-02"}


def test_a_region_that_lasts_has_no_marker(capacity_run):
    result = capacity_run.result
    result["regions"][0]["run_out"] = {"p10": None, "p50": None, "p90": None}
    (chart,) = charts_of(result)
    assert not any("label" in row for row in points_of(chart.spec))
