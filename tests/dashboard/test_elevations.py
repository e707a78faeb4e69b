from xml.etree import ElementTree as ET

import pytest
from django.template.loader import render_to_string

from dashboard.elevations import (
    BAND_PX,
    BETWEEN_PX,
    LEFT_PX,
    NAME_PX,
    UNIT_PX,
    WIDTH_PX,
    Standing,
    elevation_draw,
    hatch_path,
    text_cut,
    text_width_px,
    text_wrap,
)

SHAPES = {"rect", "path", "circle", "line"}


def drawing_check(html):
    """Every image is named, every shape explained in words or by a pattern, and nothing needs a policy's exception."""
    root = ET.fromstring(f"<div>{html}</div>")
    parents = {child: parent for parent in root.iter() for child in parent}
    for one in root.iter():
        assert one.tag != "script"
        assert not [name for name in one.attrib if name in ("style", "fill", "stroke") or name.startswith("on")]
    for svg in root.iter("svg"):
        if svg.get("aria-hidden") == "true":
            continue
        assert svg[0].tag == "title"
        assert svg[0].text
        links = [link for link in svg.iter("a") if link.get("href") and link.get("tabindex") != "-1"]
        assert svg.get("role") == ("group" if links else "img")  # the children of an image are not read out
        for link in svg.iter("a"):
            assert link.findtext("title")
            assert list(link.iter("text"))
        for shape in svg.iter():
            if shape.tag not in SHAPES or not shape.get("class"):
                continue
            around = parents[shape]
            words = [*around.iter("text"), *around.iter("title")]
            assert any(one.text for one in words) or parents[around].findtext("title"), shape.attrib
    for region in root.iter("div"):
        if region.get("role") == "region":
            assert region.get("tabindex") == "0"
            assert region.get("aria-label")
    return root


def drawn(html, name):
    """The classes and texts of all elements of a name."""
    return [(one.get("class") or "", "".join(one.itertext())) for one in html.iter(name)]


def standing(position_u, height_u=6, **values):
    defaults = {"label": "h", "title": "h", "is_homegrown": False}
    return Standing(position_u=position_u, height_u=height_u, **{**defaults, **values})


def marks(box):
    return [mark.text for mark in box.marks]


# --- where things stand -----------------------------------------------------------------------------------------------
def test_unit_one_is_at_the_bottom():
    drawing = elevation_draw(10, [standing(1), standing(7, 4)])
    assert [(box.y_px, box.height_px) for box in drawing.boxes] == [(4 * UNIT_PX, 6 * UNIT_PX), (0, 4 * UNIT_PX)]
    assert drawing.ticks[0] == (1, 9.5 * UNIT_PX)


def test_a_host_that_reaches_beyond_the_rack_is_cut_at_its_edge():
    drawing = elevation_draw(10, [standing(8), standing(11), standing(0)])
    assert [(box.y_px, box.height_px) for box in drawing.boxes] == [(0, 3 * UNIT_PX)]


def test_the_rear_stands_beside_the_front():
    front, rear = elevation_draw(10, [standing(1)]).faces
    assert (front.label, front.x_px) == ("Front", LEFT_PX)
    assert (rear.label, rear.x_px) == ("Rear", LEFT_PX + WIDTH_PX + BETWEEN_PX)
    assert [(box.x_px - face.x_px, box.width_px) for face in (front, rear) for box in face.boxes] == [
        (2, WIDTH_PX - 4)
    ] * 2


@pytest.mark.parametrize(
    ("face", "full_depth", "front", "rear"),
    [
        ("front", True, "face in-service gpu", "back in-service gpu"),
        ("rear", True, "back in-service gpu", "face in-service gpu"),
        ("front", False, "face in-service gpu", None),
        ("rear", False, None, "face in-service gpu"),
    ],
)
def test_a_full_depth_host_shows_its_back_on_the_other_face(face, full_depth, front, rear):
    faces = elevation_draw(10, [standing(1, face=face, full_depth=full_depth)]).faces
    styles = [next((box.style for box in one.boxes), None) for one in faces]
    assert styles == [front, rear]
    assert [bool(box.hatch) for one in faces for box in one.boxes] == [
        style.startswith("back") for style in styles if style
    ]


def test_free_units_are_counted_on_each_face_from_the_top():
    front, rear = elevation_draw(10, [standing(1, 2), standing(6, 1, full_depth=False)]).faces
    assert [(gap.text, gap.y_px, gap.height_px) for gap in front.gaps] == [
        ("4 U free", 0, 4 * UNIT_PX),
        ("3 U free", 5 * UNIT_PX, 3 * UNIT_PX),
    ]
    assert [gap.text for gap in rear.gaps] == ["8 U free"]


def test_a_full_rack_has_no_gap_and_an_empty_one_only_a_gap():
    assert [face.gaps for face in elevation_draw(6, [standing(1)]).faces] == [[], []]
    assert [gap.text for gap in elevation_draw(6, []).faces[0].gaps] == ["6 U free"]


def test_what_is_planned_where_something_stands_is_drawn_to_its_right():
    planned, leaving = standing(1, state="planned"), standing(1, state="leaving")
    alone = standing(7, 4)
    boxes = elevation_draw(10, [planned, leaving, alone]).boxes
    assert [(box.x_px - LEFT_PX, box.width_px) for box in boxes] == [
        (WIDTH_PX // 2 + 2, WIDTH_PX // 2 - 4),
        (2, WIDTH_PX // 2 - 4),
        (2, WIDTH_PX - 4),
    ]


def test_a_chain_of_overlaps_shares_its_lanes():
    boxes = elevation_draw(10, [standing(1, 4), standing(3, 4), standing(5, 4)]).boxes
    assert [box.x_px - LEFT_PX for box in boxes] == [2, WIDTH_PX // 2 + 2, 2]
    assert {box.width_px for box in boxes} == {WIDTH_PX // 2 - 4}


def test_the_description_counts_states_and_what_is_free_from_front_to_rear():
    hosts = [standing(1), standing(7, 2, state="planned"), standing(12, 1, face="rear", full_depth=False)]
    drawing = elevation_draw(12, hosts, name="rack a1")
    assert drawing.title == "Elevation of rack a1, front and rear"
    assert drawing.description == "2 in service, 1 planned; 3 of 12 U free from front to rear, the largest gap 3 U."
    assert elevation_draw(6, [standing(1)]).description == "1 in service; 0 of 6 U free from front to rear."
    assert elevation_draw(12, hosts[:1], unplaced_u=4).description == (
        "1 in service; 2 of 12 U free from front to rear with 4 U left for hosts without a recorded position,"
        " the largest gap 6 U."
    )
    assert elevation_draw(6, []).description.startswith("no host; 6 of 6 U free")


# --- states in words --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("state", "note", "said"),
    [
        ("in service", "", []),
        ("in service", "spare", ["spare"]),
        ("planned", "2027-08-15", ["planned 2027-08-15"]),
        ("leaving", "2027-11-01", ["leaves 2027-11-01"]),
        ("in maintenance", "", ["in maintenance"]),
    ],
)
@pytest.mark.parametrize("height_u", [1, 2, 6])
def test_a_state_is_said_in_words(state, note, said, height_u):
    box = elevation_draw(10, [standing(1, height_u, state=state, note=note)]).boxes[0]
    assert marks(box) == said
    assert state.replace(" ", "-") in box.style.split()
    assert all(word in box.title for word in said)


def test_a_high_box_says_its_state_below_its_name_and_a_low_one_beside_it():
    high, low = elevation_draw(10, [standing(1, state="planned"), standing(10, 1, state="planned")]).boxes
    assert high.marks[0].y_px - high.text_y_px == 14
    assert (high.marks[0].y_px + high.text_y_px) / 2 == high.y_px + high.height_px / 2
    assert high.marks[0].x_px == high.text_x_px
    assert (low.marks[0].y_px, low.marks[0].is_right) == (low.text_y_px, True)
    assert low.marks[0].x_px == low.x_px + low.width_px - 7


@pytest.mark.parametrize(
    ("height_u", "said"),
    [(6, ["in maintenance", "until", "2027-12-01"]), (2, ["in maintenance"]), (1, ["in maintenance"])],
)
def test_in_a_narrow_box_the_note_gives_way_and_the_word_stays(height_u, said):
    host = standing(1, height_u, label="dc03-r0412-gpu-01", state="in maintenance", note="until 2027-12-01")
    box = elevation_draw(10, [host, standing(1, height_u)]).boxes[0]
    assert marks(box) == said
    assert text_width_px(box.label, NAME_PX) <= box.width_px
    assert "in maintenance until 2027-12-01" in box.title


def test_a_host_in_maintenance_has_a_band_where_its_face_is_seen():
    front, rear = elevation_draw(10, [standing(1, state="in maintenance")]).faces
    assert (front.boxes[0].band_px, rear.boxes[0].band_px) == (BAND_PX, 0)


def test_a_title_says_what_where_and_from_which_side():
    front, rear = elevation_draw(10, [standing(1, title="h, H20", state="leaving", note="2027-11-01")]).faces
    assert front.boxes[0].title == "h, H20, leaves 2027-11-01, units 1 to 6"
    assert rear.boxes[0].title == "h, H20, leaves 2027-11-01, seen from behind, units 1 to 6"


# --- letters and patterns ---------------------------------------------------------------------------------------------
def test_an_ideograph_is_wider_than_a_letter():
    assert text_width_px("西a", 10) == 16


@pytest.mark.parametrize(
    ("text", "width_px", "cut"),
    [("abcdef", 36, "abcdef"), ("abcdefg", 36, "abcde…"), ("ab cd", 24, "ab…"), ("ab", 3, "")],
)
def test_a_text_is_cut_to_its_room(text, width_px, cut):
    assert text_cut(text, width_px, 10) == cut


def test_a_text_is_wrapped_between_words():
    assert text_wrap("ab cd efghij", 30, 10) == ["ab cd", "efghij"]
    assert text_wrap("", 30, 10) == []


def test_a_hatch_stays_inside_its_rectangle():
    assert hatch_path(10, 20, 6, 6, 6) == "M10 26L16 20"
    assert hatch_path(0, 0, 8, 4, 4) == "M0 4L4 0M4 4L8 0"
    assert hatch_path(0, 0, 0, 4) == ""


# --- the partial ------------------------------------------------------------------------------------------------------
def rendered(*hosts):
    return drawing_check(render_to_string("dashboard/_elevation.html", {"elevation": elevation_draw(10, hosts)}))


def test_the_drawing_is_named_and_needs_no_colour():
    html = rendered(
        standing(1, label="own-1", is_homegrown=True, url="/hosts/own-1/", state="in maintenance"),
        standing(7, 2, label="new-1", state="planned", note="2027-08-15", url="/hosts/new-1/"),
    )
    texts = [text for _, text in drawn(html, "text")]
    assert {"own-1", "in maintenance", "new-1", "planned 2027-08-15", "2 U free", "Front", "Rear"} <= set(texts)
    assert [text.strip() for _, text in drawn(html, "li")] == [
        "GPU",
        "homegrown",
        "planned",
        "leaves on a known day",
        "in maintenance",
        "back of a full-depth host",
    ]


def test_a_host_is_one_stop_of_the_keyboard_though_it_is_drawn_twice():
    links = list(rendered(standing(1, url="/hosts/h/")).iter("a"))
    assert [(link.get("href"), link.get("tabindex"), link.get("aria-hidden")) for link in links] == [
        ("/hosts/h/", None, None),
        ("/hosts/h/", "-1", "true"),
    ]


def test_a_drawing_without_links_is_an_image():
    html = rendered(standing(1))
    assert next(html.iter("svg")).get("role") == "img"
    assert not [link for link in html.iter("a") if link.get("href")]


def test_what_a_user_wrote_is_escaped():
    html = rendered(standing(1, label="<b>", title='"><script>', url="/hosts/?a=1&b=2"))
    assert ("name", "<b>") in drawn(html, "text")
