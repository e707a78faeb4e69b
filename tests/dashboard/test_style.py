import itertools
import re

import pytest
from django.conf import settings

CSS = (settings.BASE_DIR / "static" / "style.css").read_text()
BLOCK = re.compile(r"--([\w-]+): (#[0-9a-f]{6});")


def themes():
    """The colours of each theme: light, dark as chosen, dark as the system asks."""
    heads = (":root {", ':root[data-theme="dark"] {', ':root[data-theme="auto"] {')
    return [dict(BLOCK.findall(CSS.split(head, 1)[1].split("}", 1)[0])) for head in heads]


LIGHT, DARK, AUTO = themes()
TEXTS = ("text", "muted", "link", "ok", "near", "bad")
GROUNDS = ("ground", "card", "raised")


def luminance(colour):
    parts = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one, other):
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


def test_contrast_of_black_on_white_is_21():
    assert contrast("#000000", "#ffffff") == pytest.approx(21)


def test_both_ways_to_the_dark_theme_have_the_same_colours():
    assert DARK == AUTO
    assert DARK.keys() == LIGHT.keys()


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(("text", "ground"), list(itertools.product(TEXTS, GROUNDS)))
def test_text_stands_out_from_every_ground(theme, text, ground):
    assert contrast(theme[text], theme[ground]) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize(
    ("text", "ground"),
    [
        ("on-accent", "accent"),
        ("on-head", "head"),
        ("on-head-muted", "head"),
        ("on-homegrown", "bar-homegrown"),
        ("text", "ok-soft"),
        ("text", "near-soft"),
        ("text", "bad-soft"),
    ],
)
def test_text_stands_out_from_the_coloured_ground_it_is_set_on(theme, text, ground):
    assert contrast(theme[text], theme[ground]) >= 4.5


@pytest.mark.parametrize("theme", [LIGHT, DARK], ids=["light", "dark"])
@pytest.mark.parametrize("mark", ["edge", "accent", "bar", *(f"series-{at}" for at in range(1, 9))])
def test_edges_bars_and_lines_stand_out_from_their_card(theme, mark):
    assert contrast(theme[mark], theme["card"]) >= 3
