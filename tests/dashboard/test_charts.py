import json
from datetime import date

import altair as alt
import pytest

from dashboard import presenters
from dashboard.capacity_charts import add_chart, tiers_chart
from dashboard.charts import charts_of, charts_overview
from scenarios.result_tables import tables_of
from tests.dashboard.conftest import run_make, scenario_make


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


def capacity_chart(result):
    return next(chart for chart in charts_of(result) if chart.name.startswith("capacity-"))


def test_the_capacity_chart_shows_the_rows_of_the_capacity_table(capacity_run):
    chart = capacity_chart(capacity_run.result)
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
    stand = {row["kind"]: row["kept"] for row in migration_run.result["plan"]["hosts"] if row["month"] == "2027-01"}
    assert {kind: racked.table.rows[0][kind] for kind in stand} == stand
    assert stand.keys() == {"h20-8x", "ppu-16x"}


def test_a_plan_is_drawn_with_how_likely_it_holds_what_drives_it_and_its_peak_hours(migration_run):
    charts = {chart.name: chart for chart in charts_of(migration_run.result)}
    plan = migration_run.result["plan"]
    assert {"waves", "serving", "racked", "homegrown-share", "promises", "tornado", "attainment"} <= charts.keys()
    assert [row["promise"] for row in charts["promises"].table.rows][-1] == "all together"
    assert plan["promises"]["sentence"] in charts["promises"].sentence
    assert charts["tornado"].table.rows[0]["input"] == plan["promises"]["tornado"][0]["input"]
    assert [row["month"] for row in charts["attainment"].table.rows] == ["2027-04"]


def test_a_migration_without_a_plan_has_no_charts(fleet):
    params = {"pareto_points": 0, "floors": [{"ratio": 1.0, "month": "2027-01"}]}
    result = run_make(scenario_make("migration", params=params)).result
    assert charts_of(result) == charts_overview(result) == []


def test_available_and_demanded_differ_by_dash_and_not_by_colour_alone(capacity_run):
    chart = capacity_chart(capacity_run.result)
    dashes = [layer["encoding"]["strokeDash"] for layer in chart.spec["layer"] if "strokeDash" in layer["encoding"]]
    assert dashes[0]["scale"]["range"] == [[1, 0], [6, 4]]


def test_a_run_out_is_marked_on_its_day(capacity_run):
    result = capacity_run.result
    result["regions"][0]["run_out"] = {"p10": "2027-02-11", "p50": "2027-03-30", "p90": None}
    marks = {row["label"]: row["day"] for row in points_of(capacity_chart(result).spec) if "label" in row}
    assert marks == {"runs out, P50 2027-03-30": "2027-03-30", "P10 2027-02-11": "2027-02-11"}


def test_a_region_that_lasts_has_no_marker(capacity_run):
    result = capacity_run.result
    result["regions"][0]["run_out"] = {"p10": None, "p50": None, "p90": None}
    assert not any("label" in row for row in points_of(capacity_chart(result).spec))


def band(value):
    return dict.fromkeys(("p10", "p50", "p90"), value)


def tier(name, *headroom):
    periods = [{"month": f"2027-0{at + 1}", "headroom_ratio": band(value)} for at, value in enumerate(headroom)]
    return {"tier": name, "periods": periods}


def test_headroom_by_tier_is_drawn_where_there_are_tiers_to_tell_apart():
    region = {"slug": "north", "name": "North", "periods": tier("", 0.1, -0.2)["periods"]}
    assert tiers_chart({**region, "tiers": [tier("gold", 0.1, -0.2)]}) is None
    chart = tiers_chart({**region, "tiers": [tier("gold", 0.5, 0.25), tier("batch", 9e8, -1.0)]})
    drawn = [(row["tier"], row["headroom_ratio"]) for row in chart.table.rows]
    assert drawn == [("gold", 0.5), ("gold", 0.25), ("batch", -1.0), ("whole mix", 0.1), ("whole mix", -0.2)]
    assert "gold 25 %, batch -100 %, whole mix -20 %" in chart.sentence
    alt.Chart.from_dict(chart.spec, validate=True)
    dashes = chart.spec["layer"][0]["encoding"]["strokeDash"]["scale"]["range"]
    assert len({tuple(dash) for dash in dashes}) == len(dashes)


def test_what_to_add_is_drawn_by_the_month_in_which_it_must_stand():
    row = {"site": "dc01", "kind": "gpu", "cost": 1.0, "beyond_hosts": 0}
    rows = [
        {**row, "month": "2027-02", "hosts": 3, "order_by_on": "2026-08-01"},
        {**row, "month": "2027-03", "hosts": 4, "order_by_on": "2026-09-01"},
    ]
    chart = add_chart({"months": ["2027-01", "2027-02", "2027-03"], "add": rows})
    assert [(point["month"], point["hosts"]) for point in chart.table.rows] == [("2027-02", 3), ("2027-03", 4)]
    assert "7 hosts have to be added" in chart.sentence
    assert "in 2027-02, to be ordered by 2026-08-01" in chart.sentence
    assert add_chart({"months": [], "add": []}) is None


def test_a_result_of_an_earlier_release_is_still_shown(capacity_run):
    """It has months in place of days, and neither tiers nor what to add."""
    result = capacity_run.result
    names = ("slug", "name", "sentence", "run_out", "periods")
    old = [{name: region[name] for name in names} for region in result["regions"]]
    old[0]["run_out"] = {"p10": "2027-02", "p50": "2027-03", "p90": None}
    fleet = {"sentence": "It lasts.", "run_out": old[0]["run_out"]}
    kept = {name: value for name, value in result.items() if name not in {"add", "missed", "currency", "target_ratio"}}
    shown = {**kept, "regions": old, "fleet": fleet}
    assert [chart.name for chart in charts_of(shown)] == ["capacity-north"]
    assert [table.name for table in tables_of(shown)] == ["capacity", "sites", "ratings"]
    (row,) = presenters.overview_regions(shown, None, date(2027, 1, 1))
    assert (row.run_out, row.order_by) == ("2027-03 (2027-02 to after 2027-04)", presenters.UNKNOWN)
    assert len(presenters.overview_tiles(shown, None, date(2027, 1, 1))) == 3
