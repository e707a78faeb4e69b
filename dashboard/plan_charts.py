"""Charts of a migration plan: waves, what hosts do, share against cost; those by kind and of how sure it is."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import altair as alt

from dashboard.chart_parts import Chart, amount_axis, chart_finished, inline_data, months_axis
from dashboard.plan_kind_charts import racked_chart, serving_chart, share_chart
from dashboard.plan_sure_charts import SURE_CHARTS
from scenarios.plan_tables import STATE_WORDS, plan_tables
from scenarios.tables import Column, Table

ROW_PX = 26  # of a wave
NONE = Table("none", "", (), ())


def plan_charts(plan: Mapping[str, Any]) -> list[Chart]:
    """Return the charts of a plan; those with nothing to show are left out."""
    made = [make(plan) for make in (_waves, _states, serving_chart, racked_chart, share_chart, *SURE_CHARTS, _front)]
    return [chart for chart in made if chart is not None]


def _waves(plan: Mapping[str, Any]) -> Chart | None:
    """Which service runs on which homegrown chip from when."""
    if not plan["waves"]:
        return None
    months = [row["month"] for row in plan["money"]]
    points = [
        {
            "service": f"{row['service']} to {row['to']}" + ("" if row["phase"] == "whole" else f", {row['phase']}"),
            "month": month,
            "opens": "opens" if month == row["month"] else "serves",
            "region": row["region"],
        }
        for row in plan["waves"]
        for month in months[months.index(row["month"]) :]
    ]
    order = list(dict.fromkeys(point["service"] for point in points))
    first, last = plan["waves"][0], plan["waves"][-1]
    sentence = (
        f"{len(plan['waves'])} openings: the first is {first['service']} on {first['to']} in {first['month']}, the "
        f"last {last['service']} on {last['to']} in {last['month']}. A bar is solid in the month of the wave; planned."
    )
    bars = (
        alt.Chart(inline_data(points))
        .mark_bar(strokeWidth=2)
        .encode(
            x=months_axis().scale(domain=months),
            y=alt.Y("service:N", title=None, sort=order, axis=alt.Axis(labelLimit=240)),
            fillOpacity=alt.FillOpacity(
                "opens:O", legend=None, scale=alt.Scale(domain=["opens", "serves"], range=[1, 0.5])
            ),
            tooltip=[
                alt.Tooltip("service:N", title="Service"),
                alt.Tooltip("month:O", title="Month"),
                alt.Tooltip("opens:N", title="State"),
                alt.Tooltip("region:N", title="Region"),
            ],
        )
    )
    table = Table(
        name="waves",
        caption="Months in which a service opens on a homegrown chip and is served there",
        columns=(
            Column("service", "Service and chip"),
            Column("month", "Month"),
            Column("opens", "State"),
            Column("region", "Region"),
        ),
        rows=points,
    )
    height_px = ROW_PX * len(order) + 40
    spec = chart_finished(bars, description=sentence, height_px=height_px)
    return Chart(name="waves", title="Waves", sentence=sentence, spec=spec, table=table)


def _states(plan: Mapping[str, Any]) -> Chart | None:
    """What hosts do, month by month: when most run twice."""
    table = replace(next((t for t in plan_tables(plan) if t.name == "plan-states"), NONE), name="states")
    if not table.rows:
        return None
    words = list(STATE_WORDS.values())
    points = [
        {"month": row["month"], "state": word, "order": at, "hosts": row.get(name, 0.0)}
        for row in table.rows
        for at, (name, word) in enumerate(STATE_WORDS.items())
    ]
    twice = max(table.rows, key=lambda row: row.get("shadow", 0.0) + row.get("reserve", 0.0))
    hosts = twice.get("shadow", 0.0) + twice.get("reserve", 0.0)
    sentence = (
        f"Dual running peaks in {twice['month']}: {hosts:,.1f} hosts carry copies or are held for a return. Serving "
        f"lies at the bottom, then copies, reserve, and what is idle or kept free. Expected future; planned."
    )
    bars = (
        alt.Chart(inline_data(points))
        .mark_bar(strokeWidth=1)
        .encode(
            x=months_axis(),
            y=amount_axis("hosts", "hosts"),
            color=alt.Color("state:N", title=None, sort=words, scale=alt.Scale(domain=words)),
            order=alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("month:O", title="Month"),
                alt.Tooltip("state:N", title="State"),
                alt.Tooltip("hosts:Q", title="Hosts", format=",.1f"),
            ],
        )
    )
    spec = chart_finished(bars, description=sentence)
    return Chart(name="states", title="What hosts do", sentence=sentence, spec=spec, table=table)


def _front(plan: Mapping[str, Any]) -> Chart | None:
    """What each point of homegrown share costs."""
    reached = [row for row in plan["front"] if row["reached_ratio"] is not None]
    points = [{"share": row["reached_ratio"], "cost": row["objective"] / 1e6} for row in reached]
    if not points:
        return None
    table = Table(
        name="front",
        caption="Homegrown share of the last month's tokens against cost",
        columns=(
            Column("share", "Homegrown share, last month", "%", 1),
            Column("cost", "Uses up", f"M {plan['currency']}", 1),
        ),
        rows=points,
    )
    beyond = [row for row in plan["front"] if row["reached_ratio"] is None and row["asked_ratio"] is not None]
    low, high, money = reached[0]["reached_ratio"], reached[-1]["reached_ratio"], f"M {plan['currency']}"
    sentence = (
        f"From {low:.0%} of tokens on homegrown chips in the last month, at {points[0]['cost']:,.1f} {money}, to "
        f"{high:.0%} at {points[-1]['cost']:,.1f} {money}; planned, each within its gap."
    )
    if beyond:
        sentence += f" {beyond[0]['asked_ratio']:.0%} cannot be reached; the table says what conflicts."
    line = (
        alt.Chart(inline_data(points))
        .mark_line(point=True)
        .encode(
            x=alt.X("share:Q", title="homegrown share of the tokens demanded, last month", axis=alt.Axis(format=".0%")),
            y=alt.Y("cost:Q", title=f"M {plan['currency']}", scale=alt.Scale(zero=False)),
            tooltip=[
                alt.Tooltip("share:Q", title="Share", format=".1%"),
                alt.Tooltip("cost:Q", title=f"M {plan['currency']}", format=",.1f"),
            ],
        )
    )
    spec = chart_finished(line, description=sentence)
    return Chart(name="front", title="Homegrown share against cost", sentence=sentence, spec=spec, table=table)
