"""Charts of a result: one Vega-Lite spec each, with the sentence that says what it shows and its table twin."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from dashboard.capacity_charts import capacity_chart, capacity_charts
from dashboard.chart_parts import Chart, amount_axis, chart_finished, inline_data, months_axis, share_axis
from dashboard.plan_charts import plan_charts
from dashboard.presenters import quantity_text, side_text
from scenarios.tables import Column, Table


def charts_of(result: Mapping[str, Any]) -> list[Chart]:
    """Return the charts of a finished run, the most asked for first."""
    if result["kind"] == "capacity":
        return capacity_charts(result)
    plan = plan_charts(result["plan"]) if result.get("plan") else []
    return [*plan, serving_chart(result), racked_chart(result), share_chart(result)]


def charts_overview(result: Mapping[str, Any]) -> list[Chart]:
    """Return the charts that the overview shows: until when, and how much is homegrown."""
    if result["kind"] == "capacity":
        return [capacity_chart(region) for region in result["regions"]]
    return [share_chart(result)]


# --- hosts by kind through the migration ------------------------------------------------------------------------------
def serving_chart(result: Mapping[str, Any]) -> Chart:
    """Hosts that carry traffic, by kind: the GPUs' part shrinks as services move."""
    table = _kinds_table(
        result, "serving", name="serving", caption="Hosts that carry traffic, by kind and month", decimals=1
    )
    return _kinds_chart(
        result,
        table,
        title="Hosts that carry traffic, by kind",
        verb="carry traffic",
        note="Expected future; modelled.",
    )


def racked_chart(result: Mapping[str, Any]) -> Chart:
    """Hosts that stand in racks, by kind: what was delivered and has room and power."""
    table = _kinds_table(
        result, "hosts", name="racked", caption="Hosts in racks on the first of the month, by kind", decimals=0
    )
    return _kinds_chart(
        result, table, title="Hosts in racks, by kind", verb="stand in racks", note="Deliveries as expected; planned."
    )


def _kinds_table(result: Mapping[str, Any], state: str, *, name: str, caption: str, decimals: int) -> Table:
    kinds = _kinds_in_order(result)
    return Table(
        name=name,
        caption=caption,
        columns=(
            Column("month", "Month"),
            *(Column(f"{kind['slug']}", _kind_label(kind), "hosts", decimals) for kind in kinds),
        ),
        rows=[
            {"month": period["month"], **{kind["slug"]: period[state].get(kind["slug"], 0) for kind in kinds}}
            for period in result["fleet"]["periods"]
        ],
    )


def _kinds_chart(result: Mapping[str, Any], table: Table, *, title: str, verb: str, note: str) -> Chart:
    kinds = _kinds_in_order(result)
    labels = [_kind_label(kind) for kind in kinds]
    first, last = table.rows[0], table.rows[-1]

    def total(row: Mapping[str, Any], *, homegrown: bool) -> str:
        return f"{sum(row[kind['slug']] for kind in kinds if kind['homegrown'] is homegrown):,.0f}"

    sentence = (
        f"From {first['month']} to {last['month']} the GPU hosts that {verb} go from "
        f"{total(first, homegrown=False)} to {total(last, homegrown=False)}, "
        f"the homegrown hosts from {total(first, homegrown=True)} to {total(last, homegrown=True)}. "
        f"Pale bars are GPUs, solid ones homegrown. {note}"
    )
    points = [
        {
            "month": row["month"],
            "kind": _kind_label(kind),
            "order": at,
            "side": side_text(homegrown=kind["homegrown"]),
            "hosts": row[kind["slug"]],
        }
        for row in table.rows
        for at, kind in enumerate(kinds)
    ]
    color = alt.Color("kind:N", title=None, sort=labels, scale=alt.Scale(domain=labels))
    # told apart without colour: GPU bars are pale with an outline and lie below, homegrown bars are solid and lie above
    pale = alt.FillOpacity(
        "side:O", legend=None, sort=["GPU", "homegrown"], scale=alt.Scale(domain=["GPU", "homegrown"], range=[0.22, 1])
    )
    bars = (
        alt.Chart(inline_data(points))
        .mark_bar(strokeWidth=1)
        .encode(
            x=months_axis(),
            y=amount_axis("hosts", "hosts"),
            color=color,
            stroke=alt.Stroke("kind:N", title=None, sort=labels, scale=alt.Scale(domain=labels)),
            fillOpacity=pale,
            order=alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("month:O", title="Month"),
                alt.Tooltip("kind:N", title="Host type"),
                alt.Tooltip("hosts:Q", title="Hosts", format=",.1f"),
            ],
        )
    )
    return Chart(
        name=table.name,
        title=title,
        sentence=sentence,
        spec=chart_finished(bars, description=sentence),
        table=table,
    )


def share_chart(result: Mapping[str, Any]) -> Chart:
    """Which share of the output tokens homegrown chips serve, with its band."""
    quantiles = ("p10", "p50", "p90")
    table = Table(
        name="homegrown-share",
        caption="Share of output tokens served on homegrown chips, by month",
        columns=(
            Column("month", "Month"),
            *(Column(f"homegrown_token_ratio_{q}", f"Share, {q.upper()}", "%", 1) for q in quantiles),
        ),
        rows=[
            {
                "month": period["month"],
                **{f"homegrown_token_ratio_{q}": period["homegrown_token_ratio"][q] for q in quantiles},
            }
            for period in result["fleet"]["periods"]
        ],
    )
    first, last = table.rows[0], table.rows[-1]
    free = result["fleet"]["gpu_free"]["p50"]
    end = f"no GPU is needed from {free}" if free else f"GPUs are still needed in {last['month']}"
    sentence = (
        f"Homegrown chips serve {quantity_text(first['homegrown_token_ratio_p50'], 'ratio')} of the output tokens in "
        f"{first['month']} and {quantity_text(last['homegrown_token_ratio_p50'], 'ratio')} in {last['month']}; {end}. "
        "Modelled, greedy plan."
    )
    points = [
        {"month": row["month"], **{q: row[f"homegrown_token_ratio_{q}"] for q in quantiles}} for row in table.rows
    ]
    base = alt.Chart(inline_data(points)).encode(x=months_axis())
    layers = alt.layer(
        base.mark_area(opacity=0.22).encode(y=share_axis("p10"), y2="p90:Q"),
        base.mark_line(strokeWidth=2.2, point={"size": 24}).encode(
            y=share_axis("p50"),
            tooltip=[
                alt.Tooltip("month:O", title="Month"),
                *(alt.Tooltip(f"{q}:Q", title=q.upper(), format=".1%") for q in quantiles),
            ],
        ),
    )
    return Chart(
        name=table.name,
        title="Share of output tokens on homegrown chips",
        sentence=sentence,
        spec=chart_finished(layers, description=sentence),
        table=table,
    )


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


def _kinds_in_order(result: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """GPUs first: they lie at the bottom of every bar. Kinds that never appear are left out."""
    seen = {slug for period in result["fleet"]["periods"] for slug, count in period["hosts"].items() if count}
    return sorted((k for k in result["kinds"] if k["slug"] in seen), key=lambda kind: (kind["homegrown"], kind["slug"]))


def _kind_label(kind: Mapping[str, Any]) -> str:
    return f"{kind['slug']} ({side_text(homegrown=kind['homegrown'])})"
