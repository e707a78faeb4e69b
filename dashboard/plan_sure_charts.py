"""Charts of how sure a migration plan is: its promises over the futures, what drives its cost, and its peak hours."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

import altair as alt

from dashboard.chart_parts import Chart, chart_finished, inline_data, months_axis
from scenarios.plan_sure_tables import PROMISE_WORDS, tiers_table, tornado_table
from scenarios.planning.promises import EVERYTHING, FAILOVER, FLOOR, TIER
from scenarios.tables import Column, Table

ROW_PX = 24  # of a bar that lies
TORNADO_MOST = 12  # inputs that are drawn
SHOWN = (FLOOR, TIER, FAILOVER, EVERYTHING)  # services and months are in the table of all promises


def promises_chart(plan: Mapping[str, Any]) -> Chart | None:
    """How likely floors, tiers and the losses of halls hold, and all promises together."""
    promises = plan.get("promises")
    if not promises:
        return None
    rows = [
        {"promise": _promise_text(row), "probability_ratio": row["probability_ratio"], "words": row["words"]}
        for row in promises["rows"]
        if row["promise"] in SHOWN
    ]
    table = Table(
        name="promises",
        caption=f"Share of {promises['draws']:,} futures in which a promise holds over the whole horizon",
        columns=(
            Column("promise", "Promise"),
            Column("probability_ratio", "Holds in", "%", 1),
            Column("words", "That is, that"),
        ),
        rows=rows,
    )
    sentence = f"{promises['sentence']} Modelled."
    base = alt.Chart(inline_data(rows)).encode(
        x=alt.X(
            "probability_ratio:Q",
            title="share of the futures",
            scale=alt.Scale(domain=[0, 1]),
            axis=alt.Axis(format=".0%", tickCount=5),
        ),
        y=alt.Y("promise:N", title=None, sort=[row["promise"] for row in rows], axis=alt.Axis(labelLimit=200)),
        tooltip=[
            alt.Tooltip("words:N", title="Promise"),
            alt.Tooltip("probability_ratio:Q", title="Holds in", format=".1%"),
        ],
    )
    figure = alt.Text("probability_ratio:Q", format=".0%")
    # beside the bar, or on it where it is long
    inside = "datum.probability_ratio > 0.8"
    bars = alt.layer(
        base.mark_bar(opacity=0.55),
        base.transform_filter(f"!({inside})").mark_text(align="left", dx=4, style="value-text").encode(text=figure),
        base.transform_filter(inside).mark_text(align="right", dx=-4, style="value-text").encode(text=figure),
    )
    spec = chart_finished(bars, description=sentence, height_px=ROW_PX * len(rows) + 40)
    return Chart(name="promises", title="How likely it holds", sentence=sentence, spec=spec, table=table)


def _promise_text(row: Mapping[str, Any]) -> str:
    subject = f"{row['subject']}, {row['region']}" if row["region"] else row["subject"]
    return f"{PROMISE_WORDS[row['promise']]} {subject}".strip()


def tornado_chart(plan: Mapping[str, Any]) -> Chart | None:
    """Which inputs move the cost, each alone at its P10 and at its P90."""
    promises = plan.get("promises")
    if not promises or not promises["tornado"]:
        return None
    money = plan["currency"]
    whole = tornado_table(promises, money)
    ends = ("P10", "P90")
    rows = [
        {"input": row["input"], **{end: row[f"objective_{end.lower()}"] / 1e6 for end in ends}}
        for row in whole.rows[:TORNADO_MOST]
    ]
    columns = (Column("input", "Input"), *(Column(end, f"Cost, input at its {end}", f"M {money}", 1) for end in ends))
    table = replace(whole, name="tornado", columns=columns, rows=rows)
    first = rows[0]
    low, high = sorted((first["P10"], first["P90"]))
    sentence = (
        f"What moves the cost most is {first['input']}: alone, between its P10 and P90, it changes it by "
        f"{low:+,.1f} to {high:+,.1f} M {money}. Solid bars: the input at its P90, pale ones at its P10; all other "
        "inputs in the middle. Modelled."
    )
    points = [{"input": row["input"], "end": end, "cost": row[end]} for row in rows for end in ends]
    pale = alt.FillOpacity("end:O", legend=None, scale=alt.Scale(domain=list(ends), range=[0.3, 1]))
    bars = (
        alt.Chart(inline_data(points))
        .mark_bar(strokeWidth=1)
        .encode(
            x=alt.X("cost:Q", title=f"change of cost, M {money}", axis=alt.Axis(format=",.0f", tickCount=5)),
            y=alt.Y("input:N", title=None, sort=[row["input"] for row in rows], axis=alt.Axis(labelLimit=200)),
            yOffset=alt.YOffset("end:N", sort=list(ends)),
            fillOpacity=pale,
            tooltip=[
                alt.Tooltip("input:N", title="Input"),
                alt.Tooltip("end:N", title="At its"),
                alt.Tooltip("cost:Q", title=f"Change of cost [M {money}]", format=",.1f"),
            ],
        )
    )
    spec = chart_finished(bars, description=sentence, height_px=ROW_PX * len(rows) + 40)
    return Chart(name="tornado", title="What drives the cost", sentence=sentence, spec=spec, table=table)


def attainment_chart(plan: Mapping[str, Any]) -> Chart | None:
    """Which share of requests each tier gets within its limits in the replayed peak hours."""
    replay, names = plan.get("replay"), ("month", "tier", "share_ratio")
    if not replay:
        return None
    whole = tiers_table(replay)
    rows = [{name: row[name] for name in names} for row in whole.rows if row["share_ratio"] is not None]
    if not rows:
        return None
    table = replace(
        whole,
        name="attainment",
        columns=tuple(column for column in whole.columns if column.name in names),
        rows=rows,
    )
    worst = min(rows, key=lambda row: row["share_ratio"])
    sentence = (
        f"{replay['sentence']} Fewest requests keep both limits in tier {worst['tier']} in {worst['month']}, "
        f"{worst['share_ratio']:.1%}; a promise names the share that keeps each limit by itself. Modelled."
    )
    tiers = list(dict.fromkeys(row["tier"] for row in rows))
    domain = alt.Scale(domain=tiers)
    points = (
        alt.Chart(inline_data(rows))
        .mark_point(size=60, filled=True, opacity=1)
        .encode(
            x=months_axis(),
            y=alt.Y(
                "share_ratio:Q",
                title="requests within both limits",
                scale=alt.Scale(zero=False),
                axis=alt.Axis(format=".1%", tickCount=5),
            ),
            fill=alt.Fill("tier:N", title=None, scale=domain),
            shape=alt.Shape("tier:N", title=None, scale=domain),
            tooltip=[
                alt.Tooltip("month:O", title="Month"),
                alt.Tooltip("tier:N", title="Tier"),
                alt.Tooltip("share_ratio:Q", title="Within both limits", format=".2%"),
            ],
        )
    )
    spec = chart_finished(points, description=sentence)
    return Chart(name="attainment", title="Peak hours in the simulator", sentence=sentence, spec=spec, table=table)


SURE_CHARTS = (promises_chart, tornado_chart, attainment_chart)
"""Each returns None where a plan has nothing to show of it."""
