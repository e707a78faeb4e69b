"""What all charts have in common: the spec, its sentence and its table twin, axes and size."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import altair as alt

from scenarios.tables import Cell, Table

HEIGHT_PX = 260


@dataclass(frozen=True, slots=True)
class Chart:
    """A spec, its sentence, and its table twin: the same rows, nothing more."""

    name: str
    title: str
    sentence: str
    spec: dict[str, Any]
    table: Table

    @property
    def spec_id(self) -> str:
        """Name of the element that holds the spec on a page."""
        return f"spec-{self.name}"

    @property
    def cells(self) -> list[list[Cell]]:
        """Return the table twin for a page."""
        return self.table.cells()


def inline_data(points: Sequence[Mapping[str, Any]]) -> alt.Data:
    """Return rows as the data of a chart."""
    return alt.Data(values=list(points))


def months_axis() -> alt.X:
    """Return the axis of months."""
    return alt.X(
        "month:O", title=None, axis=alt.Axis(labelAngle=0, labelOverlap=True, labelSeparation=8, labelPadding=7)
    )


def days_axis(field: str) -> alt.X:
    """Return the axis of days; a month lies where its first day does."""
    axis = alt.Axis(
        format="%Y-%m", labelOverlap=True, labelSeparation=8, labelPadding=7, tickCount={"interval": "month", "step": 1}
    )
    return alt.X(f"{field}:T", title=None, scale=alt.Scale(type="utc"), axis=axis)


def amount_axis(field: str, unit: str) -> alt.Y:
    """Return the axis of an amount in a unit."""
    return alt.Y(f"{field}:Q", title=unit, axis=alt.Axis(labelExpr="format(datum.value, '~s')", tickCount=5))


def share_axis(field: str) -> alt.Y:
    """Return the axis of a share, 0 to 1."""
    return alt.Y(f"{field}:Q", title="share", scale=alt.Scale(domain=[0, 1]), axis=alt.Axis(format=".0%", tickCount=5))


def chart_finished(chart: alt.TopLevelMixin, *, description: str, height_px: int = HEIGHT_PX) -> dict[str, Any]:
    """Return a chart as its spec, as wide as its place."""
    sized = chart.properties(width="container", height=height_px, description=description)
    # Altair's own validation of a spec takes half a second; the tests do it
    return dict(sized.configure_legend(orient="top", labelLimit=320).to_dict(validate=False))
