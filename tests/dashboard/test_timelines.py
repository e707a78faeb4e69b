from datetime import date

import pytest
from django.template.loader import render_to_string

from dashboard.timelines import (
    HEAD_PX,
    LANE_PAD_PX,
    MONTH_LEAST_PX,
    NEAR_PX,
    NOTE_STEP_PX,
    PLOT_PX,
    STEP_PX,
    SYMBOLS,
    Event,
    EventLane,
    Slip,
    axis_of,
    timeline_draw,
)
from tests.dashboard.test_elevations import drawing_check, drawn
from tests.dashboard.test_style import DARK, LIGHT, contrast

FIRST, LAST = date(2027, 1, 1), date(2027, 12, 31)
DAY_PX = PLOT_PX / 365
LATE = Slip(date(2027, 5, 8), date(2027, 6, 9), date(2027, 8, 20))


def lane(*events, kind="order", label="Orders"):
    return EventLane(kind, label, events)


def draw(*lanes, first=FIRST, last=LAST, day=None, **values):
    return timeline_draw(lanes, first, last, day, **values)


def x_px(at):
    return round(((at - FIRST).days + 0.5) * DAY_PX, 1)


def lines(drawing, at=0):
    """Line of each mark of a lane, in order of drawing."""
    one = drawing.lanes[at]
    return [(mark.y_px - one.y_px - LANE_PAD_PX - STEP_PX // 2) / STEP_PX for mark in one.marks]


# --- the axis ---------------------------------------------------------------------------------------------------------
def test_the_axis_has_whole_months():
    axis = axis_of(date(2027, 2, 10), date(2028, 2, 3))
    assert (axis.first, axis.last) == (date(2027, 2, 1), date(2028, 2, 29))
    assert axis.width_px == PLOT_PX
    assert axis.x_px(axis.first) == round(axis.day_px / 2, 1)


def test_months_carry_names_and_years_where_they_begin():
    months = draw(first=date(2026, 11, 5), last=date(2027, 2, 1)).months
    assert [(month.label, month.year, month.is_january) for month in months] == [
        ("Nov", "2026", False),
        ("Dec", "", False),
        ("Jan", "2027", True),
        ("Feb", "", False),
    ]
    assert months[0].x_px == 0
    assert months[1].x_px == round(30 * PLOT_PX / 120, 1)


def test_many_months_widen_the_drawing_and_name_the_quarters_only():
    drawing = draw(first=date(2027, 1, 1), last=date(2032, 12, 1))
    assert drawing.width_px == 72 * MONTH_LEAST_PX + 1
    assert {month.label for month in drawing.months} == {"", "Jan", "Apr", "Jul", "Oct"}


def test_an_axis_that_ends_before_it_begins_is_refused():
    with pytest.raises(ValueError, match="before it begins"):
        draw(first=LAST, last=FIRST)


def test_the_day_is_marked_and_named_on_the_side_that_has_room():
    early = draw(day=date(2027, 3, 1)).day
    assert (early.x_px, early.label, early.label_is_left) == (x_px(date(2027, 3, 1)), "today 2027-03-01", False)
    late = draw(day=date(2027, 12, 20), day_word="day").day
    assert (late.label, late.label_is_left, late.label_x_px) == ("day 2027-12-20", True, round(late.x_px - 5, 1))
    assert draw(day=date(2028, 1, 1)).day is None


# --- events -----------------------------------------------------------------------------------------------------------
def test_an_event_stands_at_the_middle_of_its_day_with_its_label_beside_it():
    mark = draw(lane(Event("200 hosts", date(2027, 3, 1), "/orders/1/"))).lanes[0].marks[0]
    assert mark.x_px == x_px(date(2027, 3, 1))
    assert mark.label_x_px == round(mark.x_px + NEAR_PX, 1)
    assert mark.title == "Orders: 200 hosts; 2027-03-01"
    assert (mark.bar, mark.whisker, mark.expected_px) == (None, None, None)


def test_labels_that_would_meet_go_to_lines_of_their_own_and_come_back():
    drawing = draw(
        lane(
            Event("second", date(2027, 3, 2)),
            Event("first", date(2027, 3, 1)),
            Event("third", date(2027, 3, 3)),
            Event("much later", date(2027, 9, 1)),
        )
    )
    assert [mark.label for mark in drawing.lanes[0].marks] == ["first", "second", "third", "much later"]
    assert lines(drawing) == [0, 1, 2, 0]
    assert drawing.lanes[0].height_px == 3 * STEP_PX + 2 * LANE_PAD_PX


def test_the_order_in_which_events_come_does_not_matter():
    events = [Event(name, date(2027, 3, 1)) for name in "cab"]
    assert draw(lane(*events)) == draw(lane(*sorted(events, key=lambda event: event.label)))


def test_a_label_without_room_on_the_right_stands_on_the_left():
    mark = draw(lane(Event("a long label of an event", date(2027, 12, 20)))).lanes[0].marks[0]
    assert mark.label_is_left
    assert mark.label_x_px == round(mark.x_px - NEAR_PX, 1)


def test_a_label_without_room_on_either_side_is_cut():
    event = Event("a label that is far longer than its room", FIRST, until=date(2027, 11, 15))
    mark = draw(lane(event)).lanes[0].marks[0]
    assert not mark.label_is_left
    assert mark.label.endswith("…")


def test_a_slip_is_a_whisker_with_the_expected_day():
    delivery = Event("200 hosts", date(2027, 5, 10), slip=LATE, note="Alibaba")
    mark = draw(lane(delivery, kind="delivery", label="Deliveries")).lanes[0].marks[0]
    assert (mark.whisker.x_px, mark.whisker.end_px) == (x_px(LATE.p10), x_px(LATE.p90))
    assert mark.expected_px == x_px(LATE.expected)
    assert mark.label_x_px == round(x_px(LATE.p90) + NEAR_PX, 1)
    assert mark.title == (
        "Deliveries: 200 hosts; promised 2027-05-10, expected 2027-06-09 (P10 2027-05-08, P90 2027-08-20); Alibaba"
    )
    low, high = f"{mark.whisker.x_px:g}", f"{mark.whisker.end_px:g}"
    assert mark.whisker.whisker == f"M{low} 0H{high}M{low}-5V5M{high}-5V5"


def test_what_lasts_has_a_bar_and_an_arrow_where_it_goes_on():
    baseline = Event("PPU 3.2", date(2026, 11, 1), until=date(2027, 8, 31))
    mark = draw(lane(baseline)).lanes[0].marks[0]
    assert mark.x_px is None  # it began before the axis
    assert (mark.bar.x_px, mark.bar.end_px) == (x_px(FIRST), x_px(date(2027, 8, 31)))
    assert (mark.bar.goes_before, mark.bar.goes_after) == (True, False)
    assert mark.bar.arrows == "M6.4-5L1.4 0L6.4 5"


def test_what_lies_outside_is_counted_beside_its_lane_and_listed_in_the_table():
    events = [Event("old", date(2020, 1, 1)), Event("far", date(2030, 1, 1)), Event("further", date(2031, 1, 1))]
    drawing = draw(lane(*events), lane(label="Retirements"))
    assert [(one.note, one.marks) for one in drawing.lanes] == [("1 earlier, 2 later", []), ("none", [])]
    assert [line.label for line in drawing.twin] == ["old", "far", "further"]
    assert drawing.lanes[0].height_px == STEP_PX + NOTE_STEP_PX + 2 * LANE_PAD_PX


def test_lanes_stand_below_each_other():
    drawing = draw(lane(Event("a", FIRST)), lane(Event("b", FIRST)))
    first, second = drawing.lanes
    assert (first.y_px, second.y_px) == (HEAD_PX, HEAD_PX + first.height_px)
    assert drawing.foot_px == second.y_px + second.height_px


def test_every_kind_has_a_symbol_of_its_own_and_an_unknown_one_a_circle():
    assert len(set(SYMBOLS.values())) == len(SYMBOLS)
    assert draw(lane(kind="else")).lanes[0].symbol not in SYMBOLS.values()


def test_the_twin_is_in_order_of_days():
    drawing = draw(lane(Event("late", date(2027, 5, 1))), lane(Event("early", date(2027, 2, 1), note="why"), label="X"))
    assert [(line.lane, line.when, line.label, line.note) for line in drawing.twin] == [
        ("X", "2027-02-01", "early", "why"),
        ("Orders", "2027-05-01", "late", ""),
    ]


def test_the_description_counts_by_kind():
    drawing = draw(lane(Event("a", FIRST)), lane(label="Retirements"), day=date(2027, 6, 3))
    assert drawing.description == "Events by kind from 2027-01 to 2027-12: Orders 1. Today is 2027-06-03."
    assert draw().description == "Events by kind from 2027-01 to 2027-12: no event."


# --- the partial ------------------------------------------------------------------------------------------------------
def rendered(drawing):
    return drawing_check(render_to_string("dashboard/_timeline.html", {"timeline": drawing}))


def test_events_are_links_with_their_labels_and_the_table_repeats_them():
    html = rendered(
        draw(
            lane(Event("200 hosts", date(2027, 3, 1), "/orders/1/")),
            lane(Event("to dc03", date(2027, 5, 10), "/deliveries/1/", slip=LATE), kind="delivery", label="Deliveries"),
            lane(Event("PPU 3.2", date(2026, 3, 1), until=date(2027, 8, 31)), kind="firmware", label="Firmware"),
            day=date(2027, 6, 3),
            name="supply",
        )
    )
    links = [link for link in html.iter("a") if link.get("href", "").startswith("/")]
    assert [link.get("href") for link in links] == ["/orders/1/", "/deliveries/1/"] * 2
    texts = [text for _, text in drawn(html, "text")]
    assert {"200 hosts", "to dc03", "PPU 3.2", "today 2027-06-03", "Deliveries", "2027", "Jan"} <= set(texts)
    assert html.find("details").get("id") == "supply-table"
    assert "the whisker goes from P10 to P90" in "".join(html.itertext())


def test_a_timeline_without_links_is_an_image_and_needs_no_way_around():
    html = rendered(draw(lane(Event("a", FIRST))))
    assert html.find("a") is None
    assert {svg.get("role") for svg in html.iter("svg")} == {"img"}


def test_a_timeline_without_events_says_so():
    assert "No event." in "".join(rendered(draw()).itertext())


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_symbols_stand_out_from_both_grounds_of_the_lanes(theme):
    for ground in ("card", "raised"):
        assert all(contrast(theme[f"series-{at}"], theme[ground]) >= 3 for at in range(1, 9))
