"""Charts of an outage or an event: what is served before and after, what goes unserved, and who is exposed."""

from collections.abc import Mapping
from typing import Any

import altair as alt

from dashboard.chart_parts import Chart, amount_axis, chart_finished, inline_data, months_axis
from dashboard.presenters import quantity_text
from scenarios.event_tables import ALL_REGIONS, ALL_TIERS
from scenarios.tables import Column, Table

BEFORE, AFTER, DEMANDED = "Before", "After", "Demanded, after"
DASHES = alt.Scale(domain=[BEFORE, AFTER, DEMANDED], range=[[6, 4], [1, 0], [2, 3]])


def event_charts(result: Mapping[str, Any]) -> list[Chart]:
    """Return the charts of an incident; those with nothing to show are left out."""
    incident = result["incident"]
    made = [*(_served(incident, region) for region in result["regions"]), _unserved(incident), _exposure(incident)]
    return [chart for chart in made if chart is not None]


def _served(incident: Mapping[str, Any], region: Mapping[str, Any]) -> Chart | None:
    """What of a region's demand is served before and after, if nothing is done."""
    ours = [row for row in incident["changes"] if row["region"] == region["slug"] and not row["tier"]]
    if not ours:
        return None
    fields = {"before_tok_s": BEFORE, "after_tok_s": AFTER, "demanded_tok_s": DEMANDED}
    table = Table(
        name=f"before-after-{region['slug']}",
        caption=f"{region['name']}: what is served before and after, and what is demanded, in the busiest hour",
        columns=(Column("month", "Month"), *(Column(name, word, "tok/s") for name, word in fields.items())),
        rows=[
            {
                "month": row["month"],
                "before_tok_s": row["demand_before_tok_s"] - row["unserved_before_tok_s"],
                "after_tok_s": row["demand_after_tok_s"] - row["unserved_after_tok_s"],
                "demanded_tok_s": row["demand_after_tok_s"],
            }
            for row in ours
        ],
    )
    points = [
        {"month": row["month"], "series": word, "tok_s": row[name]}
        for row in table.rows
        for name, word in fields.items()
    ]
    last = table.rows[-1]
    sentence = (
        f"{region['sentence']} In {last['month']} {quantity_text(last['after_tok_s'], 'tok/s')} are served after, "
        f"{quantity_text(last['before_tok_s'], 'tok/s')} before, of {quantity_text(last['demanded_tok_s'], 'tok/s')} "
        "demanded. Nothing done; expected future; modelled."
    )
    words = list(fields.values())
    line = (
        alt.Chart(inline_data(points))
        .mark_line(strokeWidth=2.2, point={"size": 24})
        .encode(
            x=months_axis(),
            y=amount_axis("tok_s", "tok/s"),
            color=alt.Color("series:N", title=None, scale=alt.Scale(domain=words)),
            strokeDash=alt.StrokeDash("series:N", title=None, scale=DASHES),
            tooltip=[
                alt.Tooltip("month:O", title="Month"),
                alt.Tooltip("series:N", title="Series"),
                alt.Tooltip("tok_s:Q", title="tok/s", format=",.0f"),
            ],
        )
    )
    title = f"{region['name']}: before and after"
    spec = chart_finished(line, description=sentence)
    return Chart(name=table.name, title=title, sentence=sentence, spec=spec, table=table)


def _unserved(incident: Mapping[str, Any]) -> Chart | None:
    """What goes unserved month by month, before and after, if nothing is done."""
    whole: dict[str, dict[str, float]] = {}
    for row in incident["changes"]:
        if not row["tier"]:
            month = whole.setdefault(row["month"], {BEFORE: 0.0, AFTER: 0.0})
            month[BEFORE] += row["unserved_before_mtok"]
            month[AFTER] += row["unserved_after_mtok"]
    if not any(value for month in whole.values() for value in month.values()):
        return None
    table = Table(
        name="unserved",
        caption="Output tokens that go unserved if nothing is done, by month, all regions",
        columns=(Column("month", "Month"), Column("before", BEFORE, "Mtok", 1), Column("after", AFTER, "Mtok", 1)),
        rows=[{"month": month, "before": row[BEFORE], "after": row[AFTER]} for month, row in sorted(whole.items())],
    )
    points = [
        {"month": row["month"], "series": word, "mtok": row[word.lower()]}
        for row in table.rows
        for word in (BEFORE, AFTER)
    ]
    totals = incident["totals"]
    sentence = (
        f"If nothing is done {quantity_text(totals['unserved_after_mtok'], 'Mtok')} go unserved over all months, "
        f"{quantity_text(totals['unserved_before_mtok'], 'Mtok')} without it. Expected future; modelled."
    )
    bars = (
        alt.Chart(inline_data(points))
        .mark_bar(strokeWidth=1)
        .encode(
            x=months_axis(),
            xOffset=alt.XOffset("series:N", sort=[BEFORE, AFTER]),
            y=amount_axis("mtok", "Mtok"),
            color=alt.Color("series:N", title=None, sort=[BEFORE, AFTER], scale=alt.Scale(domain=[BEFORE, AFTER])),
            fillOpacity=alt.FillOpacity(
                "series:O", legend=None, scale=alt.Scale(domain=[BEFORE, AFTER], range=[0.35, 1])
            ),
            tooltip=[
                alt.Tooltip("month:O", title="Month"),
                alt.Tooltip("series:N", title="World"),
                alt.Tooltip("mtok:Q", title="Mtok", format=",.1f"),
            ],
        )
    )
    spec = chart_finished(bars, description=sentence)
    return Chart(name="unserved", title="What goes unserved", sentence=sentence, spec=spec, table=table)


def _exposure(incident: Mapping[str, Any]) -> Chart | None:
    """Which share of the tokens runs on what it is about, by region and tier."""
    rows = [row for row in incident["exposure"] if row["supply_ratio"] is not None]
    if not any(row["supply_ratio"] for row in rows):
        return None
    table = Table(
        name="exposure",
        caption="Share of tokens on what it is about, by region and tier",
        columns=(
            Column("who", "Region and tier"),
            Column("supply_ratio", "Of what hosts can make", "%", 1),
            Column("placed_ratio", "Of traffic as placed now", "%", 1),
        ),
        rows=[
            {
                "who": f"{row['region'] or ALL_REGIONS}, {row['tier'] or ALL_TIERS}",
                "supply_ratio": row["supply_ratio"],
                "placed_ratio": row["placed_ratio"],
            }
            for row in rows
        ],
    )
    words = {"supply_ratio": "of what hosts can make", "placed_ratio": "of traffic as placed"}
    points = [
        {"who": row["who"], "basis": word, "share": row[name]}
        for row in table.rows
        for name, word in words.items()
        if row[name] is not None
    ]
    worst = max(table.rows, key=lambda row: row["supply_ratio"])
    sentence = (
        f"Most exposed is {worst['who']}: {quantity_text(worst['supply_ratio'], 'ratio')} of what its hosts can make "
        "is on what it is about. Modelled."
    )
    bars = (
        alt.Chart(inline_data(points))
        .mark_bar(strokeWidth=1)
        .encode(
            x=alt.X("share:Q", title="share of tokens", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%")),
            y=alt.Y("who:N", title=None, sort=[row["who"] for row in table.rows], axis=alt.Axis(labelLimit=240)),
            yOffset=alt.YOffset("basis:N", sort=list(words.values())),
            color=alt.Color("basis:N", title=None, scale=alt.Scale(domain=list(words.values()))),
            fillOpacity=alt.FillOpacity(
                "basis:O", legend=None, scale=alt.Scale(domain=list(words.values()), range=[1, 0.45])
            ),
            tooltip=[
                alt.Tooltip("who:N", title="Region and tier"),
                alt.Tooltip("basis:N", title="Share"),
                alt.Tooltip("share:Q", title="Share", format=".1%"),
            ],
        )
    )
    spec = chart_finished(bars, description=sentence, height_px=60 + 34 * len(table.rows))
    return Chart(name="exposure", title="Exposure", sentence=sentence, spec=spec, table=table)
