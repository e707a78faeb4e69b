"""Charts of a capacity plan: capacity against demand with its run-out day, headroom by tier, what to add."""

from collections.abc import Mapping, Sequence
from typing import Any

import altair as alt

from dashboard.chart_parts import Chart, amount_axis, chart_finished, days_axis, inline_data, months_axis
from dashboard.presenters import quantity_text
from scenarios.capacity_tables import WHOLE_MIX
from scenarios.tables import QUANTILES, Column, Table, band_columns, band_spread

AVAILABLE, DEMANDED = "Available", "Demanded"
DASHES = [[1, 0], [6, 3], [2, 3], [8, 3, 2, 3], [12, 4]]  # tiers are told apart without colour too
NO_DEMAND_RATIO = 1e4  # a headroom beyond this says that next to nothing is demanded: it is not drawn


def capacity_charts(result: Mapping[str, Any]) -> list[Chart]:
    """Return the charts of a capacity run; those with nothing to show are left out."""
    tiers = [chart for region in result["regions"] if (chart := tiers_chart(region)) is not None]
    add = add_chart(result)
    return [*(capacity_chart(region) for region in result["regions"]), *tiers, *([add] if add else [])]


def capacity_chart(region: Mapping[str, Any]) -> Chart:
    """What a region can serve against what is asked of it, with the day on which it runs out."""
    table = Table(
        name=f"capacity-{region['slug']}",
        caption=f"{region['name']}: capacity against demand, output tokens per second in the busiest hour",
        columns=(
            Column("month", "Month"),
            *band_columns("available_tok_s", AVAILABLE, "tok/s"),
            *band_columns("demanded_tok_s", DEMANDED, "tok/s"),
        ),
        rows=[
            {
                "month": period["month"],
                **band_spread("available_tok_s", period["available_tok_s"]),
                **band_spread("demanded_tok_s", period["demanded_tok_s"]),
            }
            for period in region["periods"]
        ],
    )
    first, last = region["periods"][0], region["periods"][-1]
    sentence = (
        f"{region['sentence']} From {first['month']} to {last['month']} demand goes from "
        f"{quantity_text(first['demanded_tok_s']['p50'], 'tok/s')} to "
        f"{quantity_text(last['demanded_tok_s']['p50'], 'tok/s')}, capacity from "
        f"{quantity_text(first['available_tok_s']['p50'], 'tok/s')} to "
        f"{quantity_text(last['available_tok_s']['p50'], 'tok/s')}. Modelled."
    )
    points = [
        {"month": row["month"], "series": series, **{q: row[f"{series.lower()}_tok_s_{q}"] for q in QUANTILES}}
        for row in table.rows
        for series in (AVAILABLE, DEMANDED)
    ]
    return Chart(
        name=table.name,
        title=f"{region['name']}: capacity against demand",
        sentence=sentence,
        spec=chart_finished(_capacity_layers(points, region["run_out"]), description=sentence),
        table=table,
    )


def _capacity_layers(
    points: Sequence[Mapping[str, Any]], run_out: Mapping[str, str | None]
) -> alt.LayerChart | alt.FacetChart:
    scale = alt.Scale(domain=[AVAILABLE, DEMANDED])
    line = alt.Legend(title=None, symbolType="stroke", symbolSize=260, symbolStrokeWidth=2.2, symbolOpacity=1)
    base = alt.Chart(inline_data(points)).encode(x=days_axis("month"))
    layers: list[alt.Chart] = [
        base.mark_area(opacity=0.2).encode(
            y=amount_axis("p10", "tok/s"),
            y2="p90:Q",
            fill=alt.Fill("series:N", legend=line, scale=scale),
        ),
        base.mark_line(strokeWidth=2.2).encode(
            y=amount_axis("p50", "tok/s"),
            stroke=alt.Stroke("series:N", legend=line, scale=scale),
            strokeDash=alt.StrokeDash(
                "series:N", legend=line, scale=alt.Scale(domain=[AVAILABLE, DEMANDED], range=[[1, 0], [6, 4]])
            ),
        ),
        base.mark_point(size=28, filled=True, opacity=1, strokeWidth=0).encode(
            y=amount_axis("p50", "tok/s"),
            fill=alt.Fill("series:N", legend=line, scale=scale),
            tooltip=[
                alt.Tooltip("month:O", title="Month"),
                alt.Tooltip("series:N", title="Series"),
                *(alt.Tooltip(f"{q}:Q", title=f"{q.upper()} [tok/s]", format=",.0f") for q in QUANTILES),
            ],
        ),
    ]
    months = [str(point["month"]) for point in points]
    return alt.layer(*layers, *_run_out_markers(run_out, months[len(months) // 2]))


def _run_out_markers(run_out: Mapping[str, str | None], middle: str) -> list[alt.Chart]:
    """Return a line and a label for each end of the band that lies within the horizon, one below the other."""
    marks: list[alt.Chart] = []
    for quantile, words in (("p50", "runs out, P50"), ("p10", "P10"), ("p90", "P90")):
        day = run_out[quantile]
        if day is None:
            continue
        is_late = day > middle
        base = alt.Chart(inline_data([{"day": day, "label": f"{words} {day}"}]))
        dash, width = ([1, 0], 2.2) if quantile == "p50" else ([3, 3], 1.4)
        marks.append(base.mark_rule(strokeWidth=width, strokeDash=dash, style="marker-rule").encode(x=days_axis("day")))
        marks.append(
            base.mark_text(
                align="right" if is_late else "left",
                dx=-5 if is_late else 5,
                dy=8 + 8 * len(marks),
                style="marker-text",
            ).encode(x=days_axis("day"), y=alt.value(0), text="label:N")
        )
    return marks


def tiers_chart(region: Mapping[str, Any]) -> Chart | None:
    """Headroom of each tier of a region and of the whole mix; None where there is one tier alone."""
    tiers = [(tier["tier"], tier["periods"]) for tier in region.get("tiers", ())]
    if len(tiers) < 2:
        return None
    series = [*tiers, (WHOLE_MIX, region["periods"])]
    rows = [
        {"tier": tier, "month": period["month"], "headroom_ratio": period["headroom_ratio"]["p50"]}
        for tier, periods in series
        for period in periods
        if period["headroom_ratio"]["p50"] < NO_DEMAND_RATIO
    ]
    table = Table(
        name=f"tiers-{region['slug']}",
        caption=f"{region['name']}: headroom by tier, P50; a tier has what those above it leave",
        columns=(Column("tier", "Tier"), Column("month", "Month"), Column("headroom_ratio", "Headroom", "%", 1)),
        rows=rows,
    )
    names = [tier for tier, _periods in series]
    least = {tier: min((row["headroom_ratio"] for row in rows if row["tier"] == tier), default=None) for tier in names}
    told = ", ".join(f"{tier} {quantity_text(value, 'ratio')}" for tier, value in least.items() if value is not None)
    sentence = (
        f"Least headroom of {region['name']} in half of the futures: {told}. Below 0 % tokens go unserved. Modelled."
    )
    scale = alt.Scale(domain=names)
    legend = alt.Legend(title=None, symbolType="stroke", symbolSize=260, symbolStrokeWidth=2.2)
    lines = (
        alt.Chart(inline_data(rows))
        .mark_line(strokeWidth=2.2, point={"size": 24, "strokeWidth": 0})
        .encode(
            x=months_axis(),
            y=alt.Y(
                "headroom_ratio:Q",
                title="headroom",
                scale=alt.Scale(type="symlog", constant=0.5),
                axis=alt.Axis(format=".0%", tickCount=6),
            ),
            color=alt.Color("tier:N", legend=legend, scale=scale, sort=names),
            strokeDash=alt.StrokeDash("tier:N", legend=legend, scale=alt.Scale(domain=names, range=DASHES), sort=names),
            tooltip=[
                alt.Tooltip("tier:N", title="Tier"),
                alt.Tooltip("month:O", title="Month"),
                alt.Tooltip("headroom_ratio:Q", title="Headroom, P50", format=".1%"),
            ],
        )
    )
    zero = alt.Chart(inline_data([{"none": 0}])).mark_rule(strokeWidth=1.4, strokeDash=[3, 3], style="marker-rule")
    return Chart(
        name=table.name,
        title=f"{region['name']}: headroom by tier",
        sentence=sentence,
        spec=chart_finished(alt.layer(lines, zero.encode(y="none:Q")), description=sentence),
        table=table,
    )


def add_chart(result: Mapping[str, Any]) -> Chart | None:
    """Hosts to add by the month in which they have to stand; None where nothing has to be added."""
    rows = [
        {name: row[name] for name in ("month", "site", "kind", "hosts", "order_by_on")} for row in result.get("add", ())
    ]
    if not rows:
        return None
    table = Table(
        name="hosts-to-add",
        caption="Hosts to add, by the month in which they have to stand",
        columns=(
            Column("month", "Stands from"),
            Column("site", "Site"),
            Column("kind", "Host type"),
            Column("hosts", "Hosts", "hosts"),
            Column("order_by_on", "Order by"),
        ),
        rows=rows,
    )
    total, first = sum(row["hosts"] for row in rows), rows[0]
    order = f", to be ordered by {first['order_by_on']}" if first["order_by_on"] else ""
    sentence = (
        f"{total:,} hosts have to be added so that the expected future keeps its headroom; the first have to stand in "
        f"{first['month']}{order}. What is added stays; planned."
    )
    bars = (
        alt.Chart(inline_data(rows))
        .mark_bar(strokeWidth=1)
        .encode(
            x=months_axis().scale(domain=list(result["months"])),
            y=amount_axis("hosts", "hosts"),
            color=alt.Color("kind:N", title=None),
            tooltip=[
                alt.Tooltip("month:O", title="Stands from"),
                alt.Tooltip("site:N", title="Site"),
                alt.Tooltip("kind:N", title="Host type"),
                alt.Tooltip("hosts:Q", title="Hosts", format=",.0f"),
                alt.Tooltip("order_by_on:N", title="Order by"),
            ],
        )
    )
    return Chart(
        name=table.name,
        title="What to add",
        sentence=sentence,
        spec=chart_finished(bars, description=sentence),
        table=table,
    )
