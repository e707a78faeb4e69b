import numpy as np
import pytest

from dashboard.limits import amount_text, fullness, of_text
from dashboard.presenters import percent_text


@pytest.mark.parametrize(
    ("ratio", "text"),
    [
        (0.0, "0 %"),
        (0.774, "77 %"),
        (0.9996, "100 %"),
        (1.0, "100 %"),
        (1 + 1e-12, "100 %"),
        (1.003, "100.3 %"),
        (1.0002, "100.02 %"),
        (0.9, "90 %"),
        (0.903, "90.3 %"),
        (0.9002, "90.02 %"),
        (0.905, "90.5 %"),
        (0.91, "91 %"),
        (1.5458, "155 %"),
        (np.inf, "limit 0"),
    ],
)
def test_a_share_is_told_from_one_that_is_near_or_over(ratio, text):
    assert percent_text(ratio) == text


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (8600, "W", "8.6 kW"),
        (56_000, "VA", "56.0 kVA"),
        (1.62e6, "VA", "1,620 kVA"),
        (-9710, "VA", "−9.71 kVA"),
        (31, "U", "31 U"),
        (930, "kg", "930 kg"),
    ],
)
def test_an_amount_is_shown_in_the_unit_that_people_read(value, unit, text):
    assert amount_text(value, unit) == text


@pytest.mark.parametrize(
    ("load", "limit", "unit", "text"),
    [
        (28_000, 36_227, "VA", "28.0 of 36.2 kVA"),
        (70_000, 120_000, "W", "70 of 120 kW"),
        (18, 48, "U", "18 of 48 U"),
        (675, np.inf, "kg", "675 kg, no limit known"),
    ],
)
def test_a_load_and_its_limit_have_the_same_decimals(load, limit, unit, text):
    assert of_text(load, limit, unit) == text


@pytest.mark.parametrize(("ratio", "state", "percent"), [(0.9, "ok", 90), (0.91, "near", 91), (1.2, "over", 100)])
def test_a_bar_ends_at_its_limit_and_a_word_says_what_is_beyond(ratio, state, percent):
    meter = fullness(ratio)
    assert (meter.state, meter.percent) == (state, percent)
    assert meter.word == {"ok": "", "near": "near the limit", "over": "over the limit"}[state]
