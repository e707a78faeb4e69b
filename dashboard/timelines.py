"""Dated events on an axis of months, as coordinates of a drawing and its table twin. Values in, values out."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date, timedelta

from dashboard.elevations import text_cut, text_width_px

PLOT_PX = 1_020  # width of the months together, unless they are so many that each would be too narrow
MONTH_LEAST_PX, MONTH_LABEL_PX = 26, 34  # narrower than the second, only quarters carry a name
HEAD_PX, FOOT_PX = 36, 22  # years and months above; the day below
STEP_PX, LANE_PAD_PX = 24, 4  # height of a line of events; above and below the lines of a lane
NOTE_STEP_PX = 14  # from the name of a lane to its note
LABEL_PX, LABEL_MOST_PX = 11, 260
LANE_LABEL_PX, LANE_MOST_PX = 11, 150
SYMBOL_PX, NEAR_PX = 6, 10  # half a symbol; from a mark to its label

# kind of event -> its symbol around (0, 0): a shape of its own, so that no colour is needed to tell them apart
SYMBOLS = {
    "order": "M0-6L6 0 0 6-6 0Z",
    "delivery": "M-5-6L6 0-5 6Z",
    "retirement": "M-5-5L5 5M5-5L-5 5",
    "policy": "M-5-5H5V5H-5Z",
    "firmware": "M-3-5.5H3L6 0 3 5.5H-3L-6 0Z",
    "in-service": "M0-6L6 5H-6Z",
    "out-of-service": "M0 6L6-5H-6Z",
}
CIRCLE = "M-5 0A5 5 0 1 0 5 0A5 5 0 1 0-5 0Z"


@dataclass(frozen=True, slots=True)
class Slip:
    """When something promised will really come: the middle and the ends of the 80 % band."""

    p10: date
    expected: date
    p90: date


@dataclass(frozen=True, slots=True)
class Event:
    """Something with a day: until, if it lasts; slip, if its day is a promise."""

    label: str
    day: date
    url: str = ""
    until: date | None = None
    slip: Slip | None = None
    note: str = ""

    @property
    def first(self) -> date:
        """Return the first day that it is drawn on."""
        return min([self.day, *([self.slip.p10, self.slip.expected] if self.slip else [])])

    @property
    def last(self) -> date:
        """Return the last day that it is drawn on."""
        slip = [self.slip.p90, self.slip.expected] if self.slip else []
        return max([self.day, *([self.until] if self.until else []), *slip])

    @property
    def when(self) -> str:
        """Return its days in words."""
        said = f"{self.day:%Y-%m-%d}"
        if self.until:
            said += f" to {self.until:%Y-%m-%d}"
        if self.slip:
            low, middle, high = self.slip.p10, self.slip.expected, self.slip.p90
            said = f"promised {said}, expected {middle:%Y-%m-%d} (P10 {low:%Y-%m-%d}, P90 {high:%Y-%m-%d})"
        return said


@dataclass(frozen=True, slots=True)
class EventLane:
    """The events of one kind: a name of SYMBOLS, or any other for a circle."""

    kind: str
    label: str
    events: Sequence[Event]


@dataclass(frozen=True, slots=True)
class Span:
    """A horizontal stretch, and whether an end lies beyond the axis."""

    x_px: float
    width_px: float
    goes_before: bool
    goes_after: bool

    @property
    def end_px(self) -> float:
        """Return where it ends."""
        return round(self.x_px + self.width_px, 1)

    @property
    def arrows(self) -> str:
        """Return the arrow heads at the ends that lie beyond the axis."""
        low, high = self.x_px, self.end_px
        left = f"M{low + 5:g}-5L{low:g} 0L{low + 5:g} 5" if self.goes_before else ""
        return left + (f"M{high - 5:g}-5L{high:g} 0L{high - 5:g} 5" if self.goes_after else "")

    @property
    def whisker(self) -> str:
        """Return it as a line with a cap at each end, or an arrow head at one that lies beyond the axis."""
        low, high = self.x_px, self.end_px
        left, right = "" if self.goes_before else f"M{low:g}-5V5", "" if self.goes_after else f"M{high:g}-5V5"
        return f"M{low:g} 0H{high:g}{left}{right}{self.arrows}"


@dataclass(frozen=True, slots=True)
class Mark:
    """One event in the drawing: symbol, perhaps a bar or a whisker, and a label that covers no other."""

    x_px: float | None
    y_px: int
    label: str
    label_x_px: float
    label_is_left: bool
    title: str
    url: str
    bar: Span | None
    whisker: Span | None
    expected_px: float | None


@dataclass(frozen=True, slots=True)
class LaneDrawing:
    """One lane with its marks."""

    kind: str
    symbol: str
    label: str
    title: str
    note: str
    y_px: int
    height_px: int
    text_y_px: float
    note_y_px: float
    marks: list[Mark]


@dataclass(frozen=True, slots=True)
class Month:
    """One month of the axis; a label where there is room, a year where one begins."""

    x_px: float
    text_x_px: float
    label: str
    year: str
    year_x_px: float
    is_january: bool


@dataclass(frozen=True, slots=True)
class TwinRow:
    """One event of the table twin."""

    lane: str
    day: date
    when: str
    label: str
    note: str
    url: str


@dataclass(frozen=True, slots=True)
class DayMark:
    """The day that the page is about."""

    x_px: float
    label: str
    label_x_px: float
    label_is_left: bool


@dataclass(frozen=True, slots=True)
class Timeline:
    """The drawing: months from left to right, one lane for each kind of event."""

    name: str
    title: str
    description: str
    width_px: int
    height_px: int
    label_px: int
    months: list[Month]
    lanes: list[LaneDrawing]
    day: DayMark | None
    twin: list[TwinRow]
    has_links: bool
    has_slips: bool
    head_px: int = HEAD_PX

    @property
    def foot_px(self) -> int:
        """Return where the lanes end."""
        return self.height_px - FOOT_PX

    @property
    def day_y_px(self) -> float:
        """Return the height of the day's words."""
        return self.height_px - FOOT_PX / 2


@dataclass(frozen=True, slots=True)
class Axis:
    """Days to pixels, in whole months."""

    first: date
    last: date
    day_px: float

    @property
    def width_px(self) -> float:
        """Return the width of all months."""
        return round(((self.last - self.first).days + 1) * self.day_px, 1)

    def x_px(self, day: date) -> float:
        """Return the middle of a day."""
        return round(((day - self.first).days + 0.5) * self.day_px, 1)

    def has(self, day: date) -> bool:
        """Return whether a day is on the axis."""
        return self.first <= day <= self.last

    def span(self, first: date, last: date) -> Span:
        """Return the part of a stretch of days that is on the axis."""
        low, high = max(first, self.first), min(last, self.last)
        x_px = self.x_px(low)
        return Span(x_px, round(max(self.x_px(high) - x_px, 0), 1), first < self.first, last > self.last)


def timeline_draw(
    lanes: Sequence[EventLane],
    first: date,
    last: date,
    day: date | None = None,
    *,
    day_word: str = "today",
    name: str = "timeline",
    title: str = "Timeline",
) -> Timeline:
    """Return the drawing of the events from the month of `first` to that of `last`.

    An event that lies outside is left out of the drawing and counted beside its lane; the table twin has it.
    """
    if last < first:
        raise ValueError(f"the axis ends on {last}, before it begins on {first}")
    axis = axis_of(first, last)
    top_px, drawn = HEAD_PX, []
    for lane in lanes:
        shown = [event for event in lane.events if event.first <= axis.last and event.last >= axis.first]
        marks, lines = _marks(lane, shown, axis, top_px + LANE_PAD_PX)
        note = _beyond(lane.events, axis)
        height_px = max(lines * STEP_PX, STEP_PX + (NOTE_STEP_PX if note else 0)) + 2 * LANE_PAD_PX
        drawn.append(
            LaneDrawing(
                kind=lane.kind,
                symbol=SYMBOLS.get(lane.kind, CIRCLE),
                label=text_cut(lane.label, LANE_MOST_PX, LANE_LABEL_PX),
                title=lane.label,
                note=note,
                y_px=top_px,
                height_px=height_px,
                text_y_px=top_px + LANE_PAD_PX + STEP_PX / 2,
                note_y_px=top_px + LANE_PAD_PX + STEP_PX / 2 + NOTE_STEP_PX,
                marks=marks,
            )
        )
        top_px += height_px
    events = [event for lane in lanes for event in lane.events]
    widths = [text_width_px(lane.label, LANE_LABEL_PX) + 24 for lane in drawn]
    return Timeline(
        name=name,
        title=title,
        description=_description(lanes, axis, day, day_word),
        width_px=math.ceil(axis.width_px) + 1,
        height_px=top_px + FOOT_PX,
        label_px=math.ceil(max([*widths, 90])) + 6,
        months=_months(axis),
        lanes=drawn,
        day=_day_mark(axis, day, day_word),
        twin=_twin(lanes),
        has_links=any(event.url for event in events),
        has_slips=any(event.slip for event in events),
    )


def axis_of(first: date, last: date) -> Axis:
    """Return an axis from the first day of the first month to the last day of the last."""
    start, end = first.replace(day=1), _month_next(last) - timedelta(days=1)
    months = (end.year - start.year) * 12 + end.month - start.month + 1
    return Axis(start, end, max(PLOT_PX, months * MONTH_LEAST_PX) / ((end - start).days + 1))


def _month_next(day: date) -> date:
    return (day.replace(day=1) + timedelta(days=32)).replace(day=1)


def _months(axis: Axis) -> list[Month]:
    months, at = [], axis.first
    while at <= axis.last:
        then = _month_next(at)
        x_px = round((at - axis.first).days * axis.day_px, 1)
        width_px = (then - at).days * axis.day_px
        named = axis.day_px * 30 >= MONTH_LABEL_PX or at.month % 3 == 1
        months.append(
            Month(
                x_px=x_px,
                text_x_px=round(x_px + width_px / 2, 1),
                label=f"{at:%b}" if named else "",
                year=f"{at:%Y}" if at.month == 1 or (at == axis.first and at.month < 12) else "",
                year_x_px=x_px + 4,
                is_january=at.month == 1,
            )
        )
        at = then
    return months


def _marks(lane: EventLane, events: Sequence[Event], axis: Axis, top_px: int) -> tuple[list[Mark], int]:
    """Return the marks of a lane and the lines they take: each goes to the first line on which it covers no other."""
    ends: list[float] = []
    marks = []
    for event in sorted(events, key=lambda event: (event.first, event.day, event.label)):
        span = axis.span(event.first, event.last)
        low_px, high_px = span.x_px - SYMBOL_PX, span.end_px + SYMBOL_PX
        label = text_cut(event.label, LABEL_MOST_PX, LABEL_PX)
        wide_px = text_width_px(label, LABEL_PX) + NEAR_PX
        is_left = high_px + wide_px > axis.width_px and low_px - wide_px >= 0
        if is_left:
            start_px, end_px, label_x_px = low_px - wide_px, high_px, span.x_px - NEAR_PX
        else:
            label = text_cut(label, axis.width_px - high_px - NEAR_PX, LABEL_PX)
            start_px, end_px, label_x_px = low_px, high_px + wide_px, span.end_px + NEAR_PX
        line = next((at for at, taken_px in enumerate(ends) if taken_px <= start_px), len(ends))
        ends[line:] = [end_px, *ends[line + 1 :]]
        slip = event.slip
        marks.append(
            Mark(
                x_px=axis.x_px(event.day) if axis.has(event.day) else None,
                y_px=top_px + line * STEP_PX + STEP_PX // 2,
                label=label,
                label_x_px=round(label_x_px, 1),
                label_is_left=is_left,
                title="; ".join(filter(None, [f"{lane.label}: {event.label}", event.when, event.note])),
                url=event.url,
                bar=axis.span(event.day, event.until) if event.until else None,
                whisker=axis.span(slip.p10, slip.p90) if slip else None,
                expected_px=axis.x_px(slip.expected) if slip and axis.has(slip.expected) else None,
            )
        )
    return marks, len(ends)


def _beyond(events: Sequence[Event], axis: Axis) -> str:
    earlier = sum(event.last < axis.first for event in events)
    later = sum(event.first > axis.last for event in events)
    if not events:
        return "none"
    return ", ".join([*([f"{earlier} earlier"] if earlier else []), *([f"{later} later"] if later else [])])


def _day_mark(axis: Axis, day: date | None, word: str) -> DayMark | None:
    if day is None or not axis.has(day):
        return None
    label, x_px = f"{word} {day:%Y-%m-%d}", axis.x_px(day)
    is_left = x_px + text_width_px(label, LABEL_PX) + NEAR_PX > axis.width_px
    return DayMark(x_px, label, round(x_px - 5 if is_left else x_px + 5, 1), is_left)


def _twin(lanes: Sequence[EventLane]) -> list[TwinRow]:
    rows = [
        TwinRow(lane.label, event.day, event.when, event.label, event.note, event.url)
        for lane in lanes
        for event in lane.events
    ]
    return sorted(rows, key=lambda row: (row.day, row.lane, row.label))


def _description(lanes: Sequence[EventLane], axis: Axis, day: date | None, word: str) -> str:
    counted = ", ".join(f"{lane.label} {len(lane.events)}" for lane in lanes if lane.events) or "no event"
    marked = f" {word.capitalize()} is {day:%Y-%m-%d}." if day else ""
    return f"Events by kind from {axis.first:%Y-%m} to {axis.last:%Y-%m}: {counted}.{marked}"
