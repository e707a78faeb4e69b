"""Charts of demand: the fan by month, the history, and its shape over day and week."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from dashboard.chart_parts import Chart, amount_axis, chart_finished, inline_data, months_axis
from dashboard.presenters import band_text, quantity_text
from scenarios.tables import Column, Table

QUANTILES = ("p10", "p50", "p90")
RATE = "request/s"
TAKEN, MODEL = "As planned with", "Model alone"


def fan_chart(table: Table, *, name: str, basis: str) -> Chart:
    """The busiest hour of each month with its band, and what the model alone says where people know better."""
    first, last = table.rows[0], table.rows[-1]
    differs = any(row[f"request_s_{q}"] != row[f"model_request_s_{q}"] for row in table.rows for q in QUANTILES)
    sentence = (
        f"{name}: the busiest hour asks for {_band_words(first)} in {first['month']} and {_band_words(last)} in "
        f"{last['month']}. The band goes from P10 to P90, the line is P50"
        + (", the dashed line the model without events and overrides" if differs else "")
        + f". {'Modelled from its history' if basis == 'history' else 'Assumed: stated by a planner'}."
    )
    points = [
        {"month": row["month"], "series": series, **{q: row[f"{field}_{q}"] for q in QUANTILES}}
        for row in table.rows
        for series, field in ((TAKEN, "request_s"), (MODEL, "model_request_s"))
        if differs or series == TAKEN
    ]
    shown = [TAKEN, MODEL] if differs else [TAKEN]
    domain = alt.Scale(domain=shown)
    legend = alt.Legend(title=None, symbolType="stroke", symbolSize=260) if differs else None
    dashes = alt.Scale(domain=shown, range=[[1, 0], [6, 4]][: len(shown)])
    base = alt.Chart(inline_data(points)).encode(x=months_axis())
    layers = alt.layer(
        base.transform_filter(alt.datum.series == TAKEN)
        .mark_area(opacity=0.22)
        .encode(y=amount_axis("p10", RATE), y2="p90:Q"),
        base.mark_line(strokeWidth=2.2).encode(
            y=amount_axis("p50", RATE),
            stroke=alt.Stroke("series:N", legend=legend, scale=domain),
            strokeDash=alt.StrokeDash("series:N", legend=legend, scale=dashes),
        ),
        base.mark_point(size=28, filled=True, opacity=1, strokeWidth=0).encode(
            y=amount_axis("p50", RATE),
            fill=alt.Fill("series:N", legend=None, scale=domain),
            tooltip=[
                alt.Tooltip("month:O", title="Month"),
                alt.Tooltip("series:N", title="Series"),
                *(alt.Tooltip(f"{q}:Q", title=f"{q.upper()} [{RATE}]", format=",.4~g") for q in QUANTILES),
            ],
        ),
    )
    return Chart(
        name=table.name,
        title="Busiest hour by month",
        sentence=sentence,
        spec=chart_finished(layers, description=sentence),
        table=table,
    )


def history_chart(table: Table, *, name: str, step: str, is_invented: bool) -> Chart:
    """What was measured: mean and largest window of each step of time."""
    highest = max(table.rows, key=lambda row: row["most_request_s"])
    sentence = (
        f"{name}: the line is the mean of each {step}, the pale area reaches to its busiest window; the busiest of all "
        f"asked for {quantity_text(highest['most_request_s'], RATE)} in the {step} from {highest['at']} UTC. "
        f"{'Invented' if is_invented else 'Measured'}."
    )
    points = [{**row, "at": f"{row['at'].replace(' ', 'T')}Z"} for row in table.rows]
    time = alt.X("at:T", title=None, scale=alt.Scale(type="utc"), axis=alt.Axis(format="%b %d", labelOverlap=True))
    base = alt.Chart(inline_data(points)).encode(x=time)
    layers = alt.layer(
        base.mark_area(opacity=0.22).encode(y=amount_axis("request_s", RATE), y2="most_request_s:Q"),
        base.mark_line(strokeWidth=1.4).encode(
            y=amount_axis("request_s", RATE),
            tooltip=[
                alt.Tooltip("at:T", title="From, UTC", format="%Y-%m-%d %H:%M"),
                alt.Tooltip("request_s:Q", title=f"Mean [{RATE}]", format=",.4~g"),
                alt.Tooltip("most_request_s:Q", title=f"Busiest window [{RATE}]", format=",.4~g"),
            ],
        ),
    )
    return Chart(
        name=table.name,
        title="History",
        sentence=sentence,
        spec=chart_finished(layers, description=sentence),
        table=table,
    )


def shape_chart(table: Table, *, title: str, sentence: str) -> Chart:
    """How far an hour or a weekday lies from the mean: a bar each, from 1."""
    order = [row["name"] for row in table.rows]
    points: Sequence[dict[str, Any]] = [{**row, "one": 1.0} for row in table.rows]
    scale = alt.Scale(zero=False, nice=True)
    layers = alt.layer(
        alt.Chart(inline_data(points))
        .mark_bar(opacity=0.55)
        .encode(
            x=alt.X("name:O", title=None, sort=order, axis=alt.Axis(labelAngle=0, labelOverlap=True)),
            y=alt.Y("factor_ratio:Q", title="over the mean", scale=scale, axis=alt.Axis(format="~g", tickCount=5)),
            y2="one:Q",
            tooltip=[
                alt.Tooltip("name:O", title="When, UTC"),
                alt.Tooltip("factor_ratio:Q", title="Over the mean", format=".2f"),
            ],
        )
    )
    return Chart(
        name=table.name,
        title=title,
        sentence=sentence,
        spec=chart_finished(layers, description=sentence, height_px=180),
        table=table,
    )


def fan_table(rows: Sequence[dict[str, Any]], *, name: str, caption: str) -> Table:
    """Return the twin of a fan: the busiest hour by month, as planned with and as the model alone says it."""
    return Table(
        name=name,
        caption=caption,
        columns=(
            Column("month", "Month"),
            *(Column(f"request_s_{q}", f"Planned with, {q.upper()}", RATE, 2) for q in QUANTILES),
            *(Column(f"model_request_s_{q}", f"Model alone, {q.upper()}", RATE, 2) for q in QUANTILES),
        ),
        rows=rows,
    )


def _band_words(row: Mapping[str, Any]) -> str:
    return band_text({q: row[f"request_s_{q}"] for q in QUANTILES}, RATE)
