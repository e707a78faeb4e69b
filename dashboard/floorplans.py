"""Heat map of a hall in true floor order, as coordinates of a drawing and its table twin. Values in, values out."""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from dashboard.elevations import hatch_path, text_cut, text_width_px
from dashboard.presenters import UNKNOWN, number_text

CELL_PX, CELL_HEIGHT_PX = 29, 26
PITCH_PX = 31  # from one rack position to the next
AISLE_PX = 12
HEAD_PX = 20  # position numbers
LABEL_PX, LABEL_MOST_PX = 11, 120
EMPTY_MOST = 3  # positions missing in every row are drawn as so many gaps at most
CLASSES = 5


@dataclass(frozen=True, slots=True)
class FloorRack:
    """A rack, its position in the row and the value to show [the map's unit]; None: no data."""

    label: str
    position: int
    value: float | None
    url: str = ""
    note: str = ""


@dataclass(frozen=True, slots=True)
class FloorRow:
    """A row of racks and its position on the floor."""

    label: str
    position: int
    racks: Sequence[FloorRack]


@dataclass(frozen=True, slots=True)
class MetricLink:
    """One entry of the switch between metrics."""

    key: str
    label: str
    url: str
    is_active: bool


@dataclass(frozen=True, slots=True)
class Cell:
    """One rack in the drawing."""

    x_px: int
    text_x_px: float
    text: str
    title: str
    style: str
    url: str
    hatch: str


@dataclass(frozen=True, slots=True)
class RowDrawing:
    """One row: its label at both ends and its cells."""

    y_px: int
    text_y_px: float
    label: str
    title: str
    cells: list[Cell]


@dataclass(frozen=True, slots=True)
class LegendEntry:
    """One class of the map in words, and how many racks are in it."""

    style: str
    text: str
    racks: int
    hatch: str


@dataclass(frozen=True, slots=True)
class TwinRow:
    """One rack of the table twin."""

    row: str
    rack: str
    value: float | None
    text: str
    url: str


@dataclass(frozen=True, slots=True)
class FloorPlan:
    """The drawing: rows from the front of the hall downwards, rack positions from left to right."""

    name: str
    title: str
    description: str
    metric_label: str
    unit: str
    width_px: int
    height_px: int
    label_px: int
    columns: list[tuple[int, float]]
    rows: list[RowDrawing]
    legend: list[LegendEntry]
    twin: list[TwinRow]
    metrics: Sequence[MetricLink]
    has_links: bool
    cell_px: int = CELL_PX
    cell_height_px: int = CELL_HEIGHT_PX

    @property
    def racks(self) -> int:
        """Return how many racks are drawn."""
        return len(self.twin)


def floorplan_draw(
    rows: Sequence[FloorRow],
    metric_label: str,
    unit: str,
    *,
    limit: float | None = None,
    bounds: Sequence[float] = (),
    hall: str = "the hall",
    name: str = "floor-plan",
    metrics: Sequence[MetricLink] = (),
) -> FloorPlan:
    """Return the map of a metric.

    Five classes end at `bounds`, six rising values; without them they are equal steps up to the limit, or up to a
    round number not below the largest value. A value above the limit is of a class of its own.
    """
    ranked = sorted(rows, key=lambda row: (row.position, row.label))
    values = [rack.value for row in ranked for rack in row.racks if rack.value is not None]
    edges = list(bounds) or bounds_of(values, limit)
    slots = [_slots(row) for row in ranked]
    columns = _compressed({slot for row in slots for slot in row})
    levels = _levels([row.position for row in ranked])
    label_px = math.ceil(
        min(max((text_width_px(row.label, LABEL_PX) for row in ranked), default=0), LABEL_MOST_PX) + 16
    )
    drawn, twin = [], []
    counts: dict[str, int] = {}
    for row, row_slots, level in zip(ranked, slots, levels, strict=True):
        y_px = HEAD_PX + level * (CELL_HEIGHT_PX + AISLE_PX)
        cells = []
        for rack, slot in zip(_in_order(row.racks), row_slots, strict=True):
            x_px = columns[slot] * PITCH_PX + 1
            style = heat_class(rack.value, edges, limit)
            counts[style] = counts.get(style, 0) + 1
            text = _value_text(rack.value, unit)
            said = ", ".join(filter(None, [f"{metric_label} {text}", _style_words(style, limit, unit), rack.note]))
            cells.append(
                Cell(
                    x_px=x_px,
                    text_x_px=x_px + CELL_PX / 2,
                    text=cell_text(rack.value),
                    title=f"{rack.label} in {row.label}: {said}",
                    style=style,
                    url=rack.url,
                    hatch=hatch_path(x_px, y_px, CELL_PX, CELL_HEIGHT_PX) if style == "heat-over" else "",
                )
            )
            twin.append(TwinRow(row.label, rack.label, rack.value, text, rack.url))
        label = text_cut(row.label, LABEL_MOST_PX, LABEL_PX)
        drawn.append(RowDrawing(y_px, y_px + CELL_HEIGHT_PX / 2, label, row.label, cells))
    return FloorPlan(
        name=name,
        title=f"Floor plan of {hall}: {metric_label}",
        description=_description(twin, counts, limit, unit),
        metric_label=metric_label,
        unit=unit,
        width_px=(max(columns.values(), default=0) + 1) * PITCH_PX,
        height_px=HEAD_PX + (max(levels, default=0) + 1) * (CELL_HEIGHT_PX + AISLE_PX) - AISLE_PX + 2,
        label_px=label_px,
        columns=[
            (slot, column * PITCH_PX + PITCH_PX / 2)
            for slot, column in columns.items()
            if slot % 5 == 0 or slot == min(columns)
        ],
        rows=drawn,
        legend=_legend(edges, limit, unit, counts),
        twin=twin,
        metrics=metrics,
        has_links=any(row.url for row in twin),
    )


# --- values into classes ----------------------------------------------------------------------------------------------
def bounds_of(values: Iterable[float], limit: float | None) -> list[float]:
    """Return six edges of five equal classes from 0 to the limit, or to a round number not below the largest value."""
    if limit is not None:
        return [limit * at / CLASSES for at in range(CLASSES + 1)]
    least = max([*values, 0.0]) / CLASSES
    if least <= 0:
        return [float(at) for at in range(CLASSES + 1)]
    power = 10.0 ** math.floor(math.log10(least))
    step = next(factor * power for factor in (1, 2, 2.5, 5, 10) if factor * power >= least * (1 - 1e-9))
    return [step * at for at in range(CLASSES + 1)]


def heat_class(value: float | None, bounds: Sequence[float], limit: float | None) -> str:
    """Return the class of a value: heat-0 to heat-4, heat-over beyond the limit, heat-none without data."""
    if value is None or math.isnan(value):
        return "heat-none"
    if limit is not None and value > limit:
        return "heat-over"
    return f"heat-{sum(value >= edge for edge in bounds[1:-1])}"


def cell_text(value: float | None) -> str:
    """Return a value in at most four letters: a cell is narrow; its title and the table say it in full."""
    if value is None or math.isnan(value):
        return UNKNOWN
    size = abs(value)
    if size >= 9_995:
        return f"{value / 1e3:.0f}k" if size < 999_500 else f"{value / 1e6:.0f}M"
    if size >= 999.5:
        return f"{value / 1e3:.1f}k"
    return f"{value:.0f}" if size >= 9.95 or value == int(value) else f"{value:.1f}"


def _value_text(value: float | None, unit: str) -> str:
    return "no data" if value is None or math.isnan(value) else f"{number_text(value)} {unit}".strip()


def _style_words(style: str, limit: float | None, unit: str) -> str:
    return f"over the limit of {_value_text(limit, unit)}" if style == "heat-over" else ""


def _legend(edges: Sequence[float], limit: float | None, unit: str, counts: dict[str, int]) -> list[LegendEntry]:
    low = [number_text(edge) for edge in edges]
    words = [f"under {low[1]}", *(f"{low[at]} to {low[at + 1]}" for at in range(1, CLASSES))]
    words = [f"{text} {unit}".strip() for text in words]
    if limit is None:
        words[-1] = f"{low[CLASSES - 1]} {unit}".strip() + " and more"
    entries = [(f"heat-{at}", text) for at, text in enumerate(words)]
    if limit is not None:
        entries.append(("heat-over", f"over {_value_text(limit, unit)}"))
    entries.append(("heat-none", "no data"))
    return [
        LegendEntry(style, text, counts.get(style, 0), hatch_path(1, 1, 22, 14) if style == "heat-over" else "")
        for style, text in entries
    ]


def _description(twin: Sequence[TwinRow], counts: dict[str, int], limit: float | None, unit: str) -> str:
    known = [(row.value, row.rack) for row in twin if row.value is not None and not math.isnan(row.value)]
    count = f"{len(twin)} rack{'' if len(twin) == 1 else 's'}"
    if not known:
        return f"{count}, no data."
    most, rack = max(known)
    said = [f"{count}; from {number_text(min(known)[0])} to {_value_text(most, unit)}, the most in {rack}"]
    if limit is not None:
        said.append(f"{counts.get('heat-over', 0)} over {_value_text(limit, unit)}")
    if len(known) < len(twin):
        said.append(f"{len(twin) - len(known)} without data")
    return "; ".join(said) + "."


# --- positions into places --------------------------------------------------------------------------------------------
def _in_order(racks: Iterable[FloorRack]) -> list[FloorRack]:
    return sorted(racks, key=lambda rack: (rack.position, rack.label))


def _slots(row: FloorRow) -> list[int]:
    """Return the place of each rack of a row, in order; one whose position is taken moves to the next."""
    slots: list[int] = []
    for rack in _in_order(row.racks):
        slots.append(max(rack.position, slots[-1] + 1) if slots else rack.position)
    return slots


def _compressed(slots: set[int]) -> dict[int, int]:
    """Return the column of each place: gaps stay, but what is missing in every row takes a few columns at most."""
    columns: dict[int, int] = {}
    column, last = 0, None
    for slot in sorted(slots):
        if last is not None:
            column += min(slot - last, EMPTY_MOST + 1)
        columns[slot], last = column, slot
    return columns


def _levels(positions: Sequence[int]) -> list[int]:
    """Return the level of each row from the top; a missing number leaves one row's room."""
    levels: list[int] = []
    for at, position in enumerate(positions):
        step = min(max(position - positions[at - 1], 1), 2) if at else 0
        levels.append(levels[-1] + step if levels else 0)
    return levels
