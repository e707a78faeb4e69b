"""Charts of a migration plan by kind of host: what carries traffic, what stands in racks, and the homegrown share."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

import altair as alt

from dashboard.chart_parts import Chart, amount_axis, chart_finished, inline_data, months_axis, share_axis
from dashboard.presenters import quantity_text, side_text
from scenarios.tables import Column, Table

SHARE = "homegrown_token_ratio"
SIDES = ["GPU", "homegrown"]


def serving_chart(plan: Mapping[str, Any]) -> Chart | None:
    """Hosts that carry traffic, by kind: the GPUs' part shrinks as services move."""
    periods = plan["problem"]["periods"]
    loads = ((periods[row["period"]], row["kind"], row["serving_hosts"]) for row in plan["answer"]["loads"])
    return _kinds_chart(
        plan,
        Table("serving", "Hosts that carry traffic, by kind and month", _columns(plan, 1), _rows(plan, loads)),
        title="Hosts that carry traffic, by kind",
        verb="carry traffic",
    )


def racked_chart(plan: Mapping[str, Any]) -> Chart | None:
    """Hosts that stand in racks, by kind: what stays of those that stood, and what is new."""
    hosts = ((row["month"], row["kind"], row["kept"] + row["new"]) for row in plan["hosts"])
    return _kinds_chart(
        plan,
        Table("racked", "Hosts in racks, by kind and month", _columns(plan, 0), _rows(plan, hosts)),
        title="Hosts in racks, by kind",
        verb="stand in racks",
    )


def share_chart(plan: Mapping[str, Any]) -> Chart | None:
    """Which share of all tokens homegrown chips serve, month by month."""
    rows = [
        {"month": row["month"], SHARE: row["value"]}
        for row in plan["figures"]
        if row["figure"] == SHARE and row["scope"] == "fleet" and row["value"] is not None
    ]
    if not rows:
        return None
    table = Table(
        name="homegrown-share",
        caption="Share of input and output tokens served on homegrown chips, by month",
        columns=(Column("month", "Month"), Column(SHARE, "Homegrown share", "%", 1)),
        rows=rows,
    )
    first, last = rows[0], rows[-1]
    sentence = (
        f"Homegrown chips serve {quantity_text(first[SHARE], 'ratio')} of the tokens served in {first['month']} and "
        f"{quantity_text(last[SHARE], 'ratio')} in {last['month']}; expected future, planned."
    )
    line = (
        alt.Chart(inline_data(rows))
        .mark_line(strokeWidth=2.2, point={"size": 24})
        .encode(
            x=months_axis(),
            y=share_axis(SHARE),
            tooltip=[alt.Tooltip("month:O", title="Month"), alt.Tooltip(f"{SHARE}:Q", title="Share", format=".1%")],
        )
    )
    return Chart(
        name=table.name,
        title="Share of the tokens served on homegrown chips",
        sentence=sentence,
        spec=chart_finished(line, description=sentence),
        table=table,
    )


def _kinds(plan: Mapping[str, Any]) -> list[Mapping[str, Any]]:
    """Return the kinds that stand somewhere, GPUs first: they lie at the bottom of every bar."""
    seen = {row["kind"] for row in plan["hosts"]}
    kinds = [kind for kind in plan["problem"]["kinds"] if kind["slug"] in seen]
    return sorted(kinds, key=lambda kind: (kind["homegrown"], kind["slug"]))


def _label(kind: Mapping[str, Any]) -> str:
    return f"{kind['slug']} ({side_text(homegrown=kind['homegrown'])})"


def _columns(plan: Mapping[str, Any], decimals: int) -> tuple[Column, ...]:
    return (
        Column("month", "Month"),
        *(Column(kind["slug"], _label(kind), "hosts", decimals) for kind in _kinds(plan)),
    )


def _rows(plan: Mapping[str, Any], counted: Iterable[tuple[str, str, float]]) -> list[dict[str, Any]]:
    """Return a row for each month from what stands or serves in it, by kind."""
    found: dict[tuple[str, str], float] = defaultdict(int)
    for month, kind, hosts in counted:
        found[month, kind] += hosts
    kinds = [kind["slug"] for kind in _kinds(plan)]
    return [{"month": m, **{kind: found[m, kind] for kind in kinds}} for m in plan["problem"]["periods"]]


def _kinds_chart(plan: Mapping[str, Any], table: Table, *, title: str, verb: str) -> Chart | None:
    kinds = _kinds(plan)
    if not kinds:
        return None
    labels = [_label(kind) for kind in kinds]
    first, last = table.rows[0], table.rows[-1]

    def total(row: Mapping[str, Any], *, homegrown: bool) -> str:
        return f"{sum(row[kind['slug']] for kind in kinds if kind['homegrown'] is homegrown):,.0f}"

    sentence = (
        f"From {first['month']} to {last['month']} the GPU hosts that {verb} go from "
        f"{total(first, homegrown=False)} to {total(last, homegrown=False)}, "
        f"the homegrown hosts from {total(first, homegrown=True)} to {total(last, homegrown=True)}. "
        "Pale bars are GPUs, solid ones homegrown. Expected future; planned."
    )
    points = [
        {
            "month": row["month"],
            "kind": _label(kind),
            "order": at,
            "side": side_text(homegrown=kind["homegrown"]),
            "hosts": row[kind["slug"]],
        }
        for row in table.rows
        for at, kind in enumerate(kinds)
    ]
    scale = alt.Scale(domain=labels)
    # told apart without colour: GPU bars are pale with an outline and lie below, homegrown bars are solid and lie above
    pale = alt.FillOpacity("side:O", legend=None, sort=SIDES, scale=alt.Scale(domain=SIDES, range=[0.22, 1]))
    bars = (
        alt.Chart(inline_data(points))
        .mark_bar(strokeWidth=1)
        .encode(
            x=months_axis(),
            y=amount_axis("hosts", "hosts"),
            color=alt.Color("kind:N", title=None, sort=labels, scale=scale),
            stroke=alt.Stroke("kind:N", title=None, sort=labels, scale=scale),
            fillOpacity=pale,
            order=alt.Order("order:Q"),
            tooltip=[
                alt.Tooltip("month:O", title="Month"),
                alt.Tooltip("kind:N", title="Host type"),
                alt.Tooltip("hosts:Q", title="Hosts", format=",.1f"),
            ],
        )
    )
    spec = chart_finished(bars, description=sentence)
    return Chart(name=table.name, title=title, sentence=sentence, spec=spec, table=table)
