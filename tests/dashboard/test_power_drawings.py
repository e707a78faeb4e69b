from dataclasses import replace

import pytest
from django.template.loader import render_to_string

from dashboard.power_drawings import (
    FEED_PX,
    TREE_PX,
    FeedLoad,
    NodeLoad,
    feed_bars_draw,
    kilo_text,
    load_text,
    tree_draw,
)
from tests.dashboard.test_elevations import drawing_check

FEED_A = FeedLoad("Feed A", 36_200, 27_900, 56_000, "PDU-B", url="/feeds/a/")
FEED_B = FeedLoad("Feed B", 36_200, 18_100)


def node(key, *sources, usable=100e3, now=40e3, **values):
    return NodeLoad(key, key.upper(), "PDU", usable, now, sources=sources, **values)


def shape(rows):
    return [(row.key, row.depth, row.is_reference) for row in rows]


# --- a load in words --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("load_va", "usable_va", "text"),
    [
        (27_900, 36_200, "27.9 of 36.2 kVA, 77 %"),
        (0, 36_200, "0.0 of 36.2 kVA, 0 %"),
        (34_100, 36_200, "34.1 of 36.2 kVA, 94 %, near the limit"),
        (36_200, 36_200, "36.2 of 36.2 kVA, 100 %, near the limit"),
        (36_200 * (1 + 1e-12), 36_200, "36.2 of 36.2 kVA, 100 %, near the limit"),
        (36_240, 36_200, "36.2 of 36.2 kVA, 100.1 %, over by 0.04 kVA"),
        (1_620e3, 3_000e3, "1,620 of 3,000 kVA, 54 %"),
        (5_000, 0, "5.00 of 0.00 kVA, over by 5 kVA"),
        (0, 0, "0 of 0 kVA"),
        (5_000, None, "5 kVA"),
    ],
)
def test_a_load_is_said_with_its_limit_and_its_share(load_va, usable_va, text):
    assert load_text(load_va, usable_va, with_usable=True) == text


def test_a_load_beyond_its_limit_says_by_how_much():
    assert load_text(56_000, 36_200) == "56.0 kVA, 155 %, over by 19.8 kVA"


@pytest.mark.parametrize(
    ("value_va", "text"),
    [(8_300, "8.3"), (60_000, "60.0"), (2.1e6, "2,100"), (-40_000, "−40.0"), (-5_000, "−5"), (0, "0")],
)
def test_apparent_power_has_three_digits(value_va, text):
    assert kilo_text(value_va) == text


# --- feeds of a rack --------------------------------------------------------------------------------------------------
def test_a_feed_says_its_load_now_and_after_the_worst_failure():
    feed = feed_bars_draw([FEED_A]).feeds[0]
    assert feed.sentence == "27.9 of 36.2 kVA, 77 %; after losing PDU-B: 56.0 kVA, 155 %, over by 19.8 kVA"
    assert (feed.now.state, feed.worst.state) == ("ok", "over")
    assert feed.usable == "36.2 kVA"


def test_the_scale_ends_at_the_largest_load_and_is_one_for_all_feeds():
    drawing = feed_bars_draw([FEED_A, FEED_B])
    a, b = drawing.feeds
    assert drawing.scale == "Bars end at 155 % of usable power; the line marks 100 %."
    assert a.now.limit_px == a.worst.limit_px == b.now.limit_px == round(FEED_PX / 1.55, 1)
    assert a.now.load_px == pytest.approx(FEED_PX * 27.9 / 36.2 / 1.55, abs=0.1)
    assert b.now.load_px == pytest.approx(FEED_PX * 0.5 / 1.55, abs=0.1)


def test_the_part_beyond_the_limit_is_hatched():
    a = feed_bars_draw([FEED_A]).feeds[0]
    assert a.worst.load_px == a.worst.limit_px
    assert a.worst.limit_px + a.worst.over_px == pytest.approx(FEED_PX, abs=1)
    assert a.worst.hatch.startswith(f"M{a.worst.limit_px:g}")
    assert (a.now.over_px, a.now.hatch) == (0, "")


def test_below_the_limit_the_scale_ends_at_it():
    drawing = feed_bars_draw([FEED_B])
    assert drawing.feeds[0].now.limit_px == FEED_PX
    assert drawing.feeds[0].now.load_px == FEED_PX / 2
    assert drawing.feeds[0].sentence == "18.1 of 36.2 kVA, 50 %; no single failure adds to it"


def test_the_cause_may_be_unknown():
    feed = feed_bars_draw([FeedLoad("A", 10e3, 1e3, 5e3)]).feeds[0]
    assert feed.sentence == "1.0 of 10.0 kVA, 10 %; after the worst single failure: 5.00 kVA, 50 %"


def test_bars_are_named_and_their_words_stand_beside_them():
    html = drawing_check(render_to_string("dashboard/_feed_bars.html", {"drawing": feed_bars_draw([FEED_A, FEED_B])}))
    titles = [svg.findtext("title") for svg in html.iter("svg")]
    assert titles == [
        "Feed A, now: 27.9 of 36.2 kVA, 77 %",
        "Feed A, after losing PDU-B: 56.0 kVA, 155 %, over by 19.8 kVA",
        "Feed B, now: 18.1 of 36.2 kVA, 50 %",
    ]
    text = "".join(html.itertext())
    assert "No single failure adds to it." in text
    assert html.find(".//span[@class='words over']").text == "56.0 kVA, 155 %, over by 19.8 kVA"
    assert html.find(".//a").get("href") == "/feeds/a/"


def test_a_rack_without_feeds_says_so():
    html = drawing_check(render_to_string("dashboard/_feed_bars.html", {"drawing": feed_bars_draw([])}))
    assert "No feed is recorded" in "".join(html.itertext())


# --- the tree ---------------------------------------------------------------------------------------------------------
def test_nodes_stand_below_their_source_in_the_order_they_come():
    rows = tree_draw([node("b2", "b"), node("a"), node("b"), node("a1", "a"), node("b1", "b"), node("a11", "a1")])
    assert shape(rows) == [
        ("a", 0, False),
        ("a1", 1, False),
        ("a11", 2, False),
        ("b", 0, False),
        ("b2", 1, False),
        ("b1", 1, False),
    ]


def test_a_node_with_two_sources_is_shown_under_the_first_and_named_under_the_other():
    rows = tree_draw([node("a"), node("b"), node("p", "a", "b"), node("p1", "p")])
    assert shape(rows) == [("a", 0, False), ("p", 1, False), ("p1", 2, False), ("b", 0, False), ("p", 1, True)]
    assert [row.note for row in rows if row.key == "p"] == [
        "also fed by B",
        "also fed from here; shown and counted under A",
    ]


def test_a_standby_source_is_told_from_a_primary_one():
    rows = tree_draw([node("u"), node("g"), node("p", "u", standby=("g",)), node("q", standby=("g",))])
    assert shape(rows) == [("u", 0, False), ("p", 1, False), ("g", 0, False), ("p", 1, True), ("q", 1, False)]
    assert [row.note for row in rows] == [
        "",
        "on standby: G",
        "",
        "on standby from here; shown and counted under U",
        "",
    ]


def test_a_source_that_is_not_shown_is_named():
    rows = tree_draw([node("p", "far")])
    assert [(row.depth, row.note) for row in rows] == [(0, "fed by far")]


def test_a_ring_is_refused():
    with pytest.raises(ValueError, match="in a ring, or hang on one: A, B, C"):
        tree_draw([node("u"), node("a", "b"), node("b", "a"), node("c", "a")])


def test_a_long_ring_free_chain_keeps_its_level_in_words():
    names = [f"n{at}" for at in range(9)]
    rows = tree_draw([node(name, *names[max(at - 1, 0) : at]) for at, name in enumerate(names)])
    assert [(row.depth, row.level) for row in rows] == [(min(at, 6), at + 1) for at in range(9)]


def test_a_tree_below_a_node_has_all_that_draws_on_it():
    nodes = [node("a"), node("b"), node("p", "a", "b"), node("q", "b"), node("p1", "p")]
    rows = tree_draw(nodes, root="b")
    assert shape(rows) == [("b", 0, False), ("p", 1, False), ("p1", 2, False), ("q", 1, False)]
    assert rows[1].note == "also fed by A"
    assert tree_draw(nodes, root="p")[0].note == "fed by A, B"


def test_a_tree_of_many_lines_ends_at_a_level_and_counts_what_is_below():
    nodes = [node("a"), node("b"), *(node(f"{one}{at}", one) for one in "ab" for at in range(3)), node("a00", "a0")]
    nodes = [replace(one, tree_url=f"/tree/{one.key}/") for one in nodes]
    assert len(tree_draw(nodes, most=9)) == 9
    rows = tree_draw(nodes, most=8)
    assert [(row.key, row.more) for row in rows if row.more] == [("a0", 1)]
    assert (len(rows), rows[1].more_url) == (8, "/tree/a0/")
    assert len(tree_draw(nodes, most=1)) == 8  # two levels at least


def test_a_row_says_headroom_what_is_stranded_and_which_failure_is_the_worst():
    row = tree_draw(
        [node("p", worst=91.7e3, worst_cause="UPS-B", stranded=4.2e3, stranded_why="no height left", feeds=24)]
    )[0]
    assert (row.now_text, row.worst_text) == ("40 of 100 kVA, 40 %", "91.7 kVA, 92 %, near the limit")
    assert (row.cause, row.headroom, row.is_short) == ("after losing UPS-B", "8.3", False)
    assert (row.stranded, row.stranded_why, row.feeds) == ("4.2", "no height left", "24 feeds")
    assert (row.now.load_px, row.worst.load_px) == (TREE_PX * 0.4, pytest.approx(TREE_PX * 0.917, abs=0.1))


def test_a_node_that_falls_short_says_so():
    row = tree_draw([node("p", worst=120e3)])[0]
    assert (row.headroom, row.is_short, row.worst.state) == ("−20.0", True, "over")
    assert row.now.limit_px == row.worst.limit_px == TREE_PX / 1.2


def test_given_headroom_goes_before_the_difference():
    row = tree_draw([node("p", headroom=12e3)])[0]
    assert (row.headroom, row.worst_text, row.stranded, row.feeds) == ("12.0", "–", "none", "")


def test_a_node_without_a_known_limit_has_no_bar():
    row = tree_draw([node("u", usable=None, worst=50e3)])[0]
    assert (row.now, row.worst, row.headroom, row.is_short) == (None, None, "–", False)
    assert (row.now_text, row.worst_text) == ("40.0 kVA", "50.0 kVA")


def test_the_table_says_level_and_state_in_words():
    rows = tree_draw(
        [
            node("a", url="/power/a/"),
            node("b"),
            node("p", "a", "b", worst=120e3, worst_cause="B", feeds=2, feeds_url="/power/p/feeds/"),
        ]
    )
    html = drawing_check(
        render_to_string("dashboard/_tree.html", {"rows": rows, "caption": "Power tree", "unit": "kVA"})
    )
    heads = list(html.iter("th"))[7:]
    assert [head.get("class") for head in heads] == ["depth-0", "depth-1", "depth-0", "depth-1"]
    assert [head.findtext("span") for head in heads] == ["Level 1:", "Level 2:", "Level 1:", "Level 2:"]
    text = " ".join("".join(html.itertext()).split())
    for said in ("120 kVA, 120 %, over by 20.0 kVA after losing B", "−20.0short", "also fed by B", "2 feeds"):
        assert said in text
    assert [link.get("href") for link in html.iter("a")] == ["/power/a/", "/power/p/feeds/"]


def test_a_site_without_power_nodes_says_so():
    html = drawing_check(render_to_string("dashboard/_tree.html", {"rows": [], "caption": "Power tree", "unit": "kVA"}))
    assert "No node is recorded here." in "".join(html.itertext())
