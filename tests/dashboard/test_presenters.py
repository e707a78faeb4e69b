from datetime import date

import pytest

from dashboard import presenters


@pytest.mark.parametrize(
    ("value", "unit", "text"),
    [
        (12_345.0, "tok/s", "12.3 k tok/s"),
        (999.6, "tok/s", "1,000 tok/s"),
        (2_500_000.0, "tok/s", "2.5 M tok/s"),
        (0.0, "tok/s", "0 tok/s"),
        (5_500.0, "W", "5.5 kW"),
        (1_250_000.0, "W", "1.25 MW"),
        (0.256, "ratio", "25.6 %"),
        (96 * 2**30, "byte", "96 GiB"),
        (148e12, "flop/s", "148 TFLOP/s"),
        (4e12, "byte/s", "4,000 GB/s"),
        (None, "W", "–"),
    ],
)
def test_a_quantity_is_shown_with_three_digits_in_the_unit_that_people_read(value, unit, text):
    assert presenters.quantity_text(value, unit) == text


@pytest.mark.parametrize(
    ("band", "unit", "text"),
    [
        ((10_100, 12_300, 14_000), "tok/s", "12.3 (10.1 to 14.0) k tok/s"),
        ((0.067, 0.318, 0.49), "ratio", "31.8 (6.7 to 49.0) %"),
        ((-0.2, 0.0, 0.1), "ratio", "0.0 (-20.0 to 10.0) %"),
        ((5.0, 5.0, 5.0), "hosts", "5 hosts"),
        ((1e5, 1e5, 1e6), "ratio", "nothing is demanded"),
    ],
)
def test_a_band_has_one_unit_and_one_number_of_decimals(band, unit, text):
    assert presenters.band_text(dict(zip(("p10", "p50", "p90"), band, strict=True)), unit) == text


def test_a_month_beyond_the_horizon_is_said_to_be_after_its_end():
    band = {"p10": "2027-03", "p50": None, "p90": None}
    assert presenters.end_band_text(band, "2028-12") == "after 2028-12 (2027-03 to after 2028-12)"
    assert presenters.end_band_text(dict.fromkeys(band), "2028-12") == "after 2028-12"


@pytest.mark.parametrize(
    ("used", "limit", "text", "percent", "word"),
    [
        (33_000, 80_000, "33.0 of 80.0 kW, 41 %", 41.2, ""),
        (76_000, 80_000, "76.0 of 80.0 kW, 95 %", 95.0, "near the limit"),
        (72_200, 80_000, "72.2 of 80.0 kW, 90.2 %", 90.2, "near the limit"),
        (88_000, 80_000, "88.0 of 80.0 kW, 110 %", 100, "over the limit"),
        (0, 0, "0 of 0 W, 0 %", 0, ""),
    ],
)
def test_a_meter_says_in_words_what_its_bar_shows(used, limit, text, percent, word):
    meter = presenters.meter_of(used, limit, "W")
    assert (meter.text, meter.percent, meter.word) == (text, percent, word)


@pytest.mark.parametrize(
    ("today", "month"), [("2026-12-31", "2027-01"), ("2027-02-28", "2027-02"), ("2030-01-01", "2027-03")]
)
def test_the_period_of_today_is_the_nearest_one_asked_about(today, month):
    periods = [{"month": f"2027-0{at}"} for at in (1, 2, 3)]
    assert presenters.period_at(periods, date.fromisoformat(today))["month"] == month


def test_an_order_day_that_has_passed_says_so():
    region = {"order_kind": "gpu", "periods": [{"month": "2027-01"}], "order_by_on": {"p50": "2027-03-02"}}
    assert presenters.order_text(region) == "2027-03-02, gpu"
    assert presenters.order_text({**region, "order_by_on": {"p50": "2026-11-30"}}) == "2026-11-30, gpu (has passed)"
    assert presenters.order_text({**region, "order_by_on": {"p50": None}}) == presenters.UNKNOWN


@pytest.mark.parametrize(
    ("rows", "missed", "value", "note"),
    [
        ([], [], "none", "to 2027-04, expected future"),
        ([], [{}], "none fit", "to 2027-04, expected future"),
        (
            [{"hosts": 3, "order_by_on": "2027-02-01"}, {"hosts": 2, "order_by_on": "2027-01-01"}],
            [],
            "5",
            "2027-01-01; to",
        ),
    ],
    ids=["none", "no room", "some"],
)
def test_the_overview_counts_what_to_add(rows, missed, value, note):
    band = {"p10": 0.0, "p50": 0.1, "p90": 0.2}
    period = {"month": "2027-01", "headroom_ratio": band, "unserved_tok_s": 0.0}
    capacity = {
        "months": ["2027-01", "2027-04"],
        "fleet": {"run_out": {"p10": None, "p50": None, "p90": None}},
        "regions": [{"name": "North", "periods": [period]}],
        "add": rows,
        "missed": missed,
    }
    tile = next(
        one for one in presenters.overview_tiles(capacity, None, date(2027, 1, 1)) if one.label == "Hosts to add"
    )
    assert tile.value == value
    assert note in tile.note
