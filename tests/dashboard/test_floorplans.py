import re
import time

import pytest
from django.template.loader import render_to_string

from dashboard.floorplans import (
    AISLE_PX,
    CELL_HEIGHT_PX,
    EMPTY_MOST,
    HEAD_PX,
    PITCH_PX,
    FloorRack,
    FloorRow,
    MetricLink,
    bounds_of,
    cell_text,
    floorplan_draw,
    heat_class,
)
from tests.dashboard.test_elevations import drawing_check, drawn
from tests.dashboard.test_style import CSS, DARK, LIGHT, contrast

LEVEL_PX = CELL_HEIGHT_PX + AISLE_PX


def row(label, position, *racks):
    return FloorRow(label, position, [FloorRack(f"{label}{at}", at, value) for at, value in racks])


def columns(drawing):
    return [[(cell.x_px - 1) // PITCH_PX for cell in one.cells] for one in drawing.rows]


def levels(drawing):
    return [(one.y_px - HEAD_PX) / LEVEL_PX for one in drawing.rows]


def plan(*rows, **values):
    return floorplan_draw(rows, "Power planned", "%", **{"limit": 100, **values})


# --- floor order ------------------------------------------------------------------------------------------------------
def test_rows_go_down_and_racks_go_right_by_position():
    drawing = plan(row("b", 2, (2, 1), (1, 1)), row("a", 1, (1, 1)))
    assert [one.label for one in drawing.rows] == ["a", "b"]
    assert levels(drawing) == [0, 1]
    assert columns(drawing) == [[0], [0, 1]]
    assert [line.rack for line in drawing.twin] == ["a1", "b1", "b2"]


def test_a_missing_number_leaves_its_room():
    drawing = plan(row("a", 1, (1, 1), (4, 1)), row("b", 3, (2, 1)))
    assert columns(drawing) == [[0, 2 + 1], [1]]
    assert levels(drawing) == [0, 2]
    assert drawing.columns == [(1, PITCH_PX / 2)]


def test_what_is_missing_in_every_row_takes_a_few_columns_at_most():
    drawing = plan(row("a", 1, (1, 1), (500, 1)), row("b", 90, (501, 1)))
    assert columns(drawing) == [[0, EMPTY_MOST + 1], [EMPTY_MOST + 2]]
    assert levels(drawing) == [0, 2]
    assert drawing.width_px == (EMPTY_MOST + 3) * PITCH_PX


def test_racks_without_an_order_stand_side_by_side():
    racks = [FloorRack(name, 0, 1.0) for name in ("z", "x", "y")]
    drawing = plan(FloorRow("a", 0, racks), FloorRow("b", 0, racks[:1]))
    assert columns(drawing) == [[0, 1, 2], [0]]
    assert [line.rack for line in drawing.twin] == ["x", "y", "z", "z"]
    assert levels(drawing) == [0, 1]


def test_every_fifth_position_has_a_number_and_so_has_the_first():
    drawing = plan(row("a", 1, *((at, 1) for at in range(3, 12))))
    assert [position for position, _ in drawing.columns] == [3, 5, 10]


# --- values into classes ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("value", "style"),
    [
        (None, "heat-none"),
        (float("nan"), "heat-none"),
        (-5, "heat-0"),
        (0, "heat-0"),
        (19.9, "heat-0"),
        (20, "heat-1"),
        (79.9, "heat-3"),
        (80, "heat-4"),
        (100, "heat-4"),
        (100.1, "heat-over"),
    ],
)
def test_a_class_begins_at_its_edge_and_the_last_one_ends_at_the_limit(value, style):
    assert heat_class(value, bounds_of([], 100), 100) == style


@pytest.mark.parametrize(
    ("values", "edges"),
    [
        ([], [0, 1, 2, 3, 4, 5]),
        ([0], [0, 1, 2, 3, 4, 5]),
        ([5], [0, 1, 2, 3, 4, 5]),
        ([36.2], [0, 10, 20, 30, 40, 50]),
        ([1234], [0, 250, 500, 750, 1000, 1250]),
        ([0.06], [0, 0.02, 0.04, 0.06, 0.08, 0.1]),
    ],
)
def test_without_a_limit_classes_end_at_a_round_number(values, edges):
    assert bounds_of(values, None) == pytest.approx(edges)
    assert {heat_class(value, edges, None) for value in values} <= {f"heat-{at}" for at in range(5)}


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "–"),
        (0.0, "0"),
        (4.72, "4.7"),
        (12.5, "12"),
        (104.4, "104"),
        (1234, "1.2k"),
        (12_340, "12k"),
        (2e6, "2M"),
        (-3.2, "-3.2"),
    ],
)
def test_a_cell_prints_its_value_in_four_letters_at_most(value, text):
    assert cell_text(value) == text
    assert len(text) <= 4


def test_the_legend_says_the_classes_in_words_and_counts_them():
    drawing = plan(row("a", 1, (1, 10), (2, 100), (3, 120), (4, None), (5, 15)))
    assert [(entry.text, entry.racks) for entry in drawing.legend] == [
        ("under 20 %", 2),
        ("20 to 40 %", 0),
        ("40 to 60 %", 0),
        ("60 to 80 %", 0),
        ("80 to 100 %", 1),
        ("over 100 %", 1),
        ("no data", 1),
    ]
    assert [bool(entry.hatch) for entry in drawing.legend] == [False] * 5 + [True, False]


def test_without_a_limit_nothing_is_over_it():
    drawing = floorplan_draw([row("a", 1, (1, 47.0))], "Stranded", "kW")
    assert [entry.text for entry in drawing.legend][-3:] == ["30 to 40 kW", "40 kW and more", "no data"]


def test_edges_may_be_given():
    drawing = plan(row("a", 1, (1, 4), (2, 5)), bounds=(0, 5, 6, 7, 8, 9), limit=None)
    assert [cell.style for cell in drawing.rows[0].cells] == ["heat-0", "heat-1"]


def test_the_description_names_the_fullest_rack():
    drawing = plan(row("a", 1, (1, 10), (2, 142.4), (3, None)), hall="hall 1")
    assert drawing.title == "Floor plan of hall 1: Power planned"
    assert drawing.description == "3 racks; from 10 to 142 %, the most in a2; 1 over 100 %; 1 without data."
    assert plan(row("a", 1, (1, None))).description == "1 rack, no data."
    assert plan().description == "0 racks, no data."


def test_a_title_says_in_full_what_the_cell_abbreviates():
    racks = [FloorRack("r1", 1, 104.4, note="32 hosts"), FloorRack("r2", 2, None)]
    cells = plan(FloorRow("row a", 1, racks)).rows[0].cells
    assert cells[0].title == "r1 in row a: Power planned 104 %, over the limit of 100 %, 32 hosts"
    assert cells[1].title == "r2 in row a: Power planned no data"
    assert [bool(cell.hatch) for cell in cells] == [True, False]


def test_the_twin_has_the_value_and_its_text():
    twin = plan(row("a", 1, (1, 62.345), (2, None))).twin
    assert [(line.row, line.rack, line.value, line.text) for line in twin] == [
        ("a", "a1", 62.345, "62.3 %"),
        ("a", "a2", None, "no data"),
    ]


# --- the partial ------------------------------------------------------------------------------------------------------
def hall(rows=25, racks=40):
    def rack(at, place):
        value = None if (at + place) % 41 == 0 else (at * 7 + place * 13) % 130
        return FloorRack(f"r{at:02}-{place:02}", place, value, f"/fleet/racks/r{at:02}-{place:02}/")

    return [FloorRow(f"Row {at}", at, [rack(at, place) for place in range(1, racks + 1)]) for at in range(rows)]


def rendered(drawing):
    return drawing_check(render_to_string("dashboard/_floorplan.html", {"plan": drawing}))


def test_every_cell_is_a_link_with_a_number_and_the_table_repeats_it():
    drawing = plan(*hall(3, 4), name="north")
    html = rendered(drawing)
    links = [link for link in html.iter("a") if (link.get("class") or "").startswith("heat-")]
    assert [link.get("href") for link in links] == [line.url for line in drawing.twin]
    assert [link.findtext("text") for link in links] == [cell.text for one in drawing.rows for cell in one.cells]
    assert len(list(html.iter("tr"))) == 1 + 12
    assert html.find("details").get("id") == "north-table"
    assert html.find("a[@class='drawing-skip']").get("href") == "#north-table"


def test_the_switch_marks_the_metric_that_is_shown():
    metrics = [
        MetricLink("power", "Power", "?metric=power", True),
        MetricLink("height", "Height", "?metric=height", False),
    ]
    links = list(rendered(plan(row("a", 1, (1, 1)), metrics=metrics)).find("nav").iter("a"))
    assert [(link.get("href"), link.get("aria-current")) for link in links] == [
        ("?metric=power", "true"),
        ("?metric=height", None),
    ]


def test_a_hall_without_racks_says_so():
    assert drawn(rendered(plan()), "p") == [("", "No rack is in service here on this day.")]


def test_a_thousand_racks_are_drawn_in_a_tenth_of_a_second():
    rows = hall()

    def once():
        started_s = time.thread_time()  # of this thread: others share the cores
        html = render_to_string("dashboard/_floorplan.html", {"plan": plan(*rows)})
        assert html.count("<rect") == 1000 + 7
        return time.thread_time() - started_s

    assert min(once() for _ in range(3)) < 0.1


# --- colours ----------------------------------------------------------------------------------------------------------
def mixed(colour, ground, opacity):
    parts = [
        round(opacity * int(colour[at : at + 2], 16) + (1 - opacity) * int(ground[at : at + 2], 16)) for at in (1, 3, 5)
    ]
    return "#" + "".join(f"{part:02x}" for part in parts)


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
def test_numbers_stand_out_from_every_class_of_the_map(theme):
    opacities = [float(share) for share in re.findall(r"\.heat-\d rect { fill-opacity: ([\d.]+); }", CSS)]
    assert opacities == sorted(opacities)
    assert len(opacities) == 5
    for opacity in opacities:
        assert contrast(theme["text"], mixed(theme["bar"], theme["card"], opacity)) >= 4.5


def test_paper_has_the_light_colours():
    block = CSS.split("/* paper is light in every theme */", 1)[1].split("}", 1)[0]
    printed = dict(re.findall(r"--([\w-]+): (#[0-9a-f]{6});", block))
    assert printed.items() <= LIGHT.items()
    drawings = CSS.split("/* --- drawings", 1)[1]
    assert set(re.findall(r"var\(--([\w-]+)\)", drawings)) - {"accent"} <= printed.keys()
