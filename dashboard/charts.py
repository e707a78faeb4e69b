"""Charts of a result: one Vega-Lite spec each, with the sentence that says what it shows and its table twin."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from dashboard.capacity_charts import capacity_chart, capacity_charts
from dashboard.chart_parts import Chart, chart_finished, inline_data
from dashboard.event_charts import event_charts
from dashboard.plan_charts import plan_charts
from dashboard.plan_kind_charts import share_chart
from dashboard.presenters import quantity_text
from scenarios.tables import Column, Table


def charts_of(result: Mapping[str, Any]) -> list[Chart]:
    """Return the charts of a finished run, the most asked for first."""
    if result["kind"] == "capacity":
        return capacity_charts(result)
    if result.get("incident"):
        return event_charts(result)
    return plan_charts(result["plan"]) if result.get("plan") else []


def charts_overview(result: Mapping[str, Any]) -> list[Chart]:
    """Return the charts that the overview shows: until when, and how much is homegrown."""
    if result["kind"] == "capacity":
        return [capacity_chart(region) for region in result["regions"]]
    share = share_chart(result["plan"]) if result.get("plan") else None
    return [share] if share else []


# --- ratings ----------------------------------------------------------------------------------------------------------
def ratings_chart(rows: Sequence[Mapping[str, Any]], *, about: str) -> Chart:
    """What one chip makes of a service, the most first: a bar to P50, a line from P10 to P90."""
    quantiles = ("p10", "p50", "p90")
    table = Table(
        name="per-chip",
        caption=f"Output per chip: {about}",
        columns=(
            Column("name", "Name"),
            Column("side", "Side"),
            *(Column(f"tok_s_per_chip_{q}", f"Per chip, {q.upper()}", "tok/s", 1) for q in quantiles),
        ),
        rows=list(rows),
    )
    first, last = rows[0], rows[-1]
    sentence = (
        f"{about}: {first['name']} makes most per chip, {quantity_text(first['tok_s_per_chip_p50'], 'tok/s')}"
        + (f", the last of the {len(rows)} shown, {last['name']}, " if len(rows) > 1 else "")
        + (f"{quantity_text(last['tok_s_per_chip_p50'], 'tok/s')}" if len(rows) > 1 else "")
        + ". Bars end at P50, lines go from P10 to P90; pale bars are GPUs, solid ones homegrown. Modelled."
    )
    points = [
        {"name": row["name"], "side": row["side"], **{q: row[f"tok_s_per_chip_{q}"] for q in quantiles}} for row in rows
    ]
    base = alt.Chart(inline_data(points)).encode(
        y=alt.Y("name:N", title=None, sort=[row["name"] for row in rows], axis=alt.Axis(labelLimit=150)),
        tooltip=[
            alt.Tooltip("name:N", title="Name"),
            alt.Tooltip("side:N", title="Side"),
            *(alt.Tooltip(f"{q}:Q", title=f"{q.upper()} [tok/s]", format=",.1f") for q in quantiles),
        ],
    )
    sides = ["GPU", "homegrown"]
    # solid bars are not quite solid: the line from P10 must be seen on them
    pale = alt.FillOpacity("side:O", legend=None, sort=sides, scale=alt.Scale(domain=sides, range=[0.12, 0.55]))
    stroke = alt.Stroke("side:N", legend=None, scale=alt.Scale(domain=sides))
    axis = alt.Axis(labelExpr="format(datum.value, '~s')", tickCount=5)
    layers = alt.layer(
        base.mark_bar(strokeWidth=1).encode(
            x=alt.X("p50:Q", title="tok/s per chip", axis=axis),
            fill=alt.Fill("side:N", legend=None, scale=alt.Scale(domain=sides)),
            fillOpacity=pale,
            stroke=stroke,
        ),
        base.mark_rule(strokeWidth=2.4).encode(x="p10:Q", x2="p90:Q", stroke=stroke),
    )
    return Chart(
        name=table.name,
        title="Output per chip",
        sentence=sentence,
        spec=chart_finished(layers, description=sentence, height_px=60 + 22 * len(rows)),
        table=table,
    )


# --- accuracy ---------------------------------------------------------------------------------------------------------
def ratio_chart(rows: Sequence[Mapping[str, Any]], *, about: str) -> Chart:
    """How far predictions are off by chip: predicted over measured on a log axis, beside the band that they claim."""
    ratios = ("ratio_p10", "ratio_p50", "ratio_p90", "band_low_ratio", "band_high_ratio")
    labels = ("P10", "P50", "P90", "band from", "band to")
    table = Table(
        name="ratio-by-chip",
        caption=f"Predicted over measured by chip: {about}",
        columns=(
            Column("name", "Chip"),
            Column("rows", "Rows", "rows"),
            *(Column(name, label, "ratio", 2) for name, label in zip(ratios, labels, strict=True)),
            Column("coverage_ratio", "In P10 to P90", "%", 0),
        ),
        rows=list(rows),
    )
    total = sum(row["rows"] for row in rows)
    covered = sum(row["rows"] * row["coverage_ratio"] for row in rows) / total
    best, worst = min(rows, key=_off), max(rows, key=_off)
    sentence = (
        f"{about[:1].upper()}{about[1:]}: the median of predicted over measured is nearest to 1 for {best['name']}, "
        f"{best['ratio_p50']:.2f}"
        + (f", and furthest for {worst['name']}, {worst['ratio_p50']:.2f}" if len(rows) > 1 else "")
        + f"; the bands hold {covered:.0%} of {total:,} rows. Dots are medians, lines go from P10 to P90, pale bars "
        "are the band that predictions claim; 1 is right. Calibrated against measured."
    )
    points = [{**{name: row[name] for name in ("name", "rows", *ratios)}, "series": "rows"} for row in rows]
    scale = alt.Scale(type="log", nice=False)
    names = [row["name"] for row in rows]
    base = alt.Chart(inline_data(points)).encode(
        y=alt.Y("name:N", title=None, sort=names, axis=alt.Axis(labelLimit=150)),
        tooltip=[
            alt.Tooltip("name:N", title="Chip"),
            alt.Tooltip("rows:Q", title="Rows", format=",.0f"),
            *(alt.Tooltip(f"{n}:Q", title=label, format=".2f") for n, label in zip(ratios, labels, strict=True)),
        ],
    )
    title = "predicted over measured"
    axis = alt.Axis(format="~g", tickCount=6)
    layers = alt.layer(
        base.mark_bar(opacity=0.2).encode(
            x=alt.X("band_low_ratio:Q", title=title, scale=scale, axis=axis), x2="band_high_ratio:Q"
        ),
        base.mark_rule(strokeWidth=1.8).encode(
            x=alt.X("ratio_p10:Q", scale=scale), x2="ratio_p90:Q", stroke=alt.Stroke("series:N", legend=None)
        ),
        base.mark_point(size=42, filled=True, opacity=1).encode(x=alt.X("ratio_p50:Q", scale=scale)),
        alt.Chart(inline_data([{"one": 1}]))
        .mark_rule(strokeWidth=1.4, strokeDash=[3, 3], style="marker-rule")
        .encode(x=alt.X("one:Q", scale=scale)),
    )
    return Chart(
        name=table.name,
        title="Predicted over measured, by chip",
        sentence=sentence,
        spec=chart_finished(layers, description=sentence, height_px=60 + 22 * len(rows)),
        table=table,
    )


def own_chart(table: Table, metric: str, unit: str) -> Chart:
    """Own points of one metric: what was measured against what is predicted now, with bands; the line is right."""
    inside = sum(row["p10"] <= row["measured"] <= row["p90"] for row in table.rows)
    sentence = (
        f"{metric}: the bands of today's predictions hold {inside} of {len(table.rows)} own points, which the "
        "calibration has seen. Lines go from P10 to P90; on the dashed line predicted equals measured. "
        "Across: measured. Up: calibrated or modelled, as the table says."
    )
    fields = ("point_id", "chip", "model", "measured", "p10", "p50", "p90", "basis")
    points = [{name: row[name] for name in fields} for row in table.rows]
    low = min(min(row["measured"], row["p10"]) for row in table.rows) / 1.1
    high = max(max(row["measured"], row["p90"]) for row in table.rows) * 1.1
    scale = alt.Scale(type="log", domain=[low, high], nice=False)
    axis = alt.Axis(format="~s", tickCount=5)
    label = f" [{unit}]" if unit else ""
    chips = sorted({row["chip"] for row in table.rows})
    domain = alt.Scale(domain=chips)
    fill, shape = alt.Fill("chip:N", title=None, scale=domain), alt.Shape("chip:N", title=None, scale=domain)
    stroke = alt.Stroke("chip:N", title=None, scale=domain)
    base = alt.Chart(inline_data(points)).encode(
        x=alt.X("measured:Q", title=f"measured{label}", scale=scale, axis=axis),
        tooltip=[
            *(alt.Tooltip(f"{n}:N", title=n.replace("_id", "").capitalize()) for n in ("point_id", "chip", "model")),
            *(alt.Tooltip(f"{n}:Q", title=n.capitalize(), format=",.4~g") for n in ("measured", "p10", "p50", "p90")),
            alt.Tooltip("basis:N", title="Prediction is"),
        ],
    )
    y = alt.Y("p50:Q", title=f"predicted{label}", scale=scale, axis=axis)
    layers = alt.layer(
        alt.Chart(inline_data([{"measured": end, "p50": end} for end in (low, high)]))
        .mark_line(strokeWidth=1.4, strokeDash=[3, 3], style="marker-rule")
        .encode(x=alt.X("measured:Q", scale=scale), y=alt.Y("p50:Q", scale=scale)),
        base.mark_rule(strokeWidth=1.4).encode(y=alt.Y("p10:Q", scale=scale), y2="p90:Q", stroke=stroke),
        base.mark_point(size=52, filled=True, opacity=1).encode(y=y, shape=shape, fill=fill),
    )
    return Chart(
        name=table.name,
        title=f"Own points: {metric}",
        sentence=sentence,
        spec=chart_finished(layers, description=sentence),
        table=table,
    )


def _off(row: Mapping[str, Any]) -> float:
    return abs(math.log(row["ratio_p50"]))
