import math
from dataclasses import replace
from datetime import UTC, date, datetime

import numpy as np
import pytest
from numpy.testing import assert_allclose

from accelerator.units import Z90
from fleet.snapshot import DemandEventFact, DemandOverrideFact
from scenarios.demand import demand_request_s, growth_at, months_list
from scenarios.forecast import (
    DemandFan,
    Outlook,
    fan_at,
    fan_history,
    fan_stated,
    fan_with_events,
    fan_with_overrides,
    growth_join,
    outlook_fit,
)
from scenarios.histories import HOUR_S, History
from scenarios.patterns import (
    DAY_S,
    NO_SHAPE,
    SLOW_S,
    WEEK_S,
    Spread,
    State,
    ahead,
    known_factor,
    peak_quantiles,
    shape_fit,
    spread_fit,
    track,
    widened,
)
from tests.conftest import ROOT
from tests.factories import service_fact

MONTHS = months_list(date(2027, 1, 1), date(2027, 12, 1))
END_S = int(datetime(2027, 1, 1, tzinfo=UTC).timestamp())  # a Friday
FLAT = (0.0, 0.0, 0.0)
LENGTHS = {"input_tok": 800.0, "output_tok": 200.0}


def walk(rng, count, sd, forget_s, step_s):
    keep = math.exp(-step_s / forget_s)
    values, steps = np.empty(count), rng.standard_normal(count) * sd
    values[0] = steps[0]
    for at in range(1, count):
        values[at] = keep * values[at - 1] + math.sqrt(1 - keep**2) * steps[at]
    return values


def made(days, *, window_s=HOUR_S, day=0.0, week=0.0, growth=0.0, fast=0.0, slow=0.0, seed=1, level=100.0):
    """A history that ends with 2026, of a known making."""
    count = days * DAY_S // window_s
    time_s = END_S - window_s * np.arange(count, 0, -1, dtype=float)
    weekday = (time_s // DAY_S + 3) % 7
    rng = np.random.default_rng(seed)
    log = np.log(level) + day * np.cos(2 * np.pi * (time_s % DAY_S) / DAY_S) + week * (weekday >= 5)
    log += growth * (time_s - END_S) / 2_629_800
    log += walk(rng, count, fast, 7200, window_s) + walk(rng, count, slow, SLOW_S, window_s)
    return History(END_S - count * window_s, window_s, np.exp(log))


def fan_of(history, growths=FLAT, months=MONTHS):
    return fan_history(outlook_fit(history, growths), "chat", months, history=history, **LENGTHS)


def fan(p10=(8.0, 9.0), p50=(10.0, 12.0), p90=(15.0, 20.0)):
    return DemandFan("chat", p10, p50, p90, 0.5, 800, 200, 0, None, "stated", "by hand")


# --- the fan ---
def test_a_path_goes_through_the_three_quantiles():
    for z, path in ((-Z90, (8, 9)), (0, (10, 12)), (Z90, (15, 20))):
        assert_allclose(fan_at(fan(), z), path)
    assert fan_at(fan(), 2)[0] == pytest.approx(10 * 1.5 ** (2 / Z90))


def test_a_path_to_nothing_stays_a_number():
    assert fan_at(fan(p10=(0.0, 0.0)), -Z90 / 2) == (5, 6)
    assert fan_at(fan(p10=(0.0, 0.0)), -4) == (0, 0)
    assert fan_at(fan(p10=(0.0,), p50=(0.0,), p90=(0.0,)), 1.5) == (0,)


def test_without_a_history_the_fan_is_compound_growth():
    service = replace(service_fact(), growth_low_ratio=0.02, growth_ratio=0.04, growth_high_ratio=0.08)
    stated = fan_stated(service, MONTHS, **LENGTHS)
    for z, path in ((-Z90, stated.p10_request_s), (0.0, stated.p50_request_s), (Z90, stated.p90_request_s)):
        growth = growth_at(mid=0.04, low=0.02, high=0.08, z=z)
        assert_allclose(path, demand_request_s(service, MONTHS, growth_ratio=growth))
    assert (stated.basis, stated.top_client_ratio, stated.output_tok) == ("stated", None, 200)


# --- what a history says ---
def test_the_shape_of_days_and_weeks_is_found_again():
    history = made(42, day=0.5, week=-0.3, fast=0.05)
    shape = shape_fit(history.log_rate, history.time_s, HOUR_S)
    assert shape.day[0] == pytest.approx(0.5, abs=0.02)
    assert_allclose(shape.day[1:], 0, atol=0.02)
    assert shape.week[5:].mean() - shape.week[:5].mean() == pytest.approx(-0.3, abs=0.03)


def test_what_a_history_is_too_short_for_is_flat():
    assert not shape_fit(made(1).log_rate, made(1).time_s, HOUR_S).day.any()
    shape = shape_fit(made(10, day=0.5).log_rate, made(10).time_s, HOUR_S)
    assert shape.day.any()
    assert not shape.week.any()


def test_noise_makes_hardly_a_shape():
    rng = np.random.default_rng(4)
    time_s = END_S + HOUR_S * np.arange(28 * 24, dtype=float)
    shape = shape_fit(rng.normal(0, 0.3, len(time_s)), time_s, HOUR_S)
    assert np.ptp(shape.at(time_s[: WEEK_S // HOUR_S])) < 0.15


def test_the_spread_of_a_made_walk_is_found_again():
    rng = np.random.default_rng(2)
    rest = walk(rng, 20_000, 0.3, 7_200, 600) + rng.normal(0, 0.08, 20_000)
    found = spread_fit(rest, 600, is_shaped=True)
    assert found.fast_ratio == pytest.approx(0.3, rel=0.15)
    assert found.burst_ratio == pytest.approx(0.08, rel=0.3)
    assert found.fast_s == pytest.approx(7_200, rel=0.3)


def test_a_state_forgets_the_fast_part_and_its_bands_hold_four_fifths():
    rng = np.random.default_rng(3)
    spread = Spread(0.05, 0.3, 7_200, 0.15)
    rest = walk(rng, 20_000, 0.3, 7_200, 600) + walk(rng, 20_000, 0.15, SLOW_S, 600) + rng.normal(0, 0.05, 20_000)
    states = track(rest, spread, 600)
    for steps in (1, 6, 72):
        said = [ahead(states[at], spread, steps * 600) for at in range(1000, 19_000, 7)]
        came = [rest[at + steps] for at in range(1000, 19_000, 7)]
        held = np.mean([abs(now - one.mean) < Z90 * one.sd for now, one in zip(came, said, strict=True)])
        assert held == pytest.approx(0.8, abs=0.03), steps
    far = ahead(states[-1], spread, 100 * DAY_S)
    assert far.mean == pytest.approx(0, abs=1e-3)
    assert far.sd == pytest.approx(math.sqrt(0.05**2 + 0.3**2 + 0.15**2), rel=1e-3)


def test_a_window_that_is_not_known_changes_no_mean_but_widens():
    spread = Spread(0.05, 0.3, 7_200, 0.15)
    known, gap = track(np.array([0.4]), spread, 600)[-1], track(np.array([0.4, np.nan]), spread, 600)[-1]
    assert 0 < gap.fast < known.fast
    assert gap.fast_var > known.fast_var


def test_the_busiest_of_many_hours_is_where_simulated_maxima_lie():
    rng = np.random.default_rng(5)
    maxima = [walk(rng, 730, 0.25, 3 * HOUR_S, HOUR_S).max() for _ in range(600)]
    said = peak_quantiles(np.zeros(730), np.full(730, 0.25), 3 * HOUR_S)
    assert_allclose(said, np.quantile(maxima, [0.1, 0.5, 0.9]), atol=0.025)


def test_a_band_is_wider_the_shorter_its_history():
    factors = [known_factor(days * DAY_S, DAY_S) for days in (2, 6, 30, 3000)]
    assert factors == sorted(factors, reverse=True)
    assert factors[-1] == pytest.approx(1, abs=2e-3)


# --- months ---
def test_a_long_quiet_history_goes_on_as_it_grew():
    """Stated growth is wide here, so that the history's own counts; what goes beyond the stated one fades."""
    history = made(360, growth=0.03, fast=0.05)
    found = fan_of(history, (-0.2, 0.0, 0.2))
    outlook = outlook_fit(history, (-0.2, 0.0, 0.2))
    assert outlook.growth.believed == pytest.approx(0.03, abs=0.003)
    grown = math.log(found.p50_request_s[-1] / found.p50_request_s[0])
    assert grown == pytest.approx(outlook.growth.at(11.53) - outlook.growth.at(0.51), abs=0.01)
    assert grown < 0.8 * 0.03 * 11


def test_a_short_history_leaves_growth_as_stated():
    growth = growth_join(made(10, growth=0.5).hourly(), (0.01, 0.04, 0.06))
    assert growth.believed == growth.stated == pytest.approx(math.log(1.04))
    found = fan_of(made(10, fast=0.1), (0.01, 0.04, 0.06))
    assert (found.p50_request_s[-1] / found.p50_request_s[0]) == pytest.approx(1.04**11, rel=0.05)


def test_the_busiest_hour_lies_above_the_mean_and_the_band_widens_with_the_months():
    found = fan_of(made(60, day=0.4, fast=0.15, slow=0.05), (0.0, 0.03, 0.06))
    assert 0.3 < found.mean_ratio < 0.75
    assert found.p10_request_s[0] < found.p50_request_s[0] < found.p90_request_s[0]
    widths = [high / low for low, high in zip(found.p10_request_s, found.p90_request_s, strict=True)]
    assert widths[-1] > widths[0]


def test_equal_histories_make_equal_fans_whatever_the_window():
    quarter, hour = made(20, window_s=900, day=0.4), made(20, day=0.4)
    assert_allclose(fan_of(quarter).p50_request_s, fan_of(hour).p50_request_s, rtol=0.02)


def test_an_hour_history_of_a_constant_rate_has_that_rate():
    found = fan_of(made(90))
    assert_allclose(found.p50_request_s, 100, rtol=0.05)
    assert found.mean_ratio > 0.9
    assert found.note.startswith("90.0 days of history until 2027-01-01")


def test_the_mix_is_the_histories_where_it_knows_it():
    history = made(3)
    count = len(history.request_s)
    told = replace(history, output_tok=np.full(count, 321.0), top_client_ratio=np.full(count, 0.3))
    found = fan_of(told)
    assert (found.input_tok, found.output_tok, found.cache_hit_ratio) == (800, pytest.approx(321), 0)
    assert found.top_client_ratio == pytest.approx(0.3)


# --- what people know better ---
def event(starts_on, ends_on, low=1.5, middle=2.0, high=3.0, **values):
    fact = DemandEventFact("launch", "chat", starts_on, ends_on, low, middle, high, "says the product team")
    return replace(fact, **values)


def test_an_event_lifts_every_month_that_it_touches_and_no_other():
    lifted = fan_with_events(
        fan((8.0,) * 3, (10.0,) * 3, (15.0,) * 3), MONTHS[:3], [event(date(2027, 2, 10), date(2027, 2, 12))]
    )
    assert lifted.p50_request_s == (10, 20, 10)
    assert lifted.p90_request_s[1] == pytest.approx(20 * math.exp(math.hypot(math.log(1.5), math.log(1.5))))
    assert lifted.p10_request_s[1] == pytest.approx(20 * math.exp(-math.hypot(math.log(10 / 8), math.log(2 / 1.5))))
    assert "events: launch" in lifted.note


def test_what_lowers_demand_counts_only_in_months_that_it_fills():
    holiday = event(date(2027, 1, 15), date(2027, 3, 1), 0.4, 0.5, 0.6)
    lowered = fan_with_events(fan(), MONTHS[:2], [holiday])
    assert lowered.p50_request_s == (10, 6)


def test_an_event_of_another_service_changes_nothing():
    assert fan_with_events(fan(), MONTHS[:2], [event(date(2027, 1, 1), date(2028, 1, 1), service="other")]) == fan()


def override(slug="o-1", first=date(2027, 2, 14), last=date(2027, 2, 20), band=(1.0, 2.0, 3.0), service="chat"):
    return DemandOverrideFact(slug, service, first, last, *band, "Li", "a contract")


def test_an_override_replaces_its_months_and_names_its_author():
    found = fan_with_overrides(fan(), MONTHS[:2], [override()])
    assert (found.p10_request_s, found.p50_request_s, found.p90_request_s) == ((8, 1), (10, 2), (15, 3))
    assert found.note.endswith("overrides: o-1 by Li")
    assert fan_with_overrides(fan(), MONTHS[:2], [override(service="other")]) == fan()


def test_of_two_overrides_the_one_that_begins_last_wins():
    early = override("a", date(2027, 1, 1), date(2027, 12, 1), (5.0, 6.0, 7.0))
    assert fan_with_overrides(fan(), MONTHS[:2], [override(), early]).p50_request_s == (6, 2)


# --- the example that docs/models/demand.md works by hand -------------------------------------------------------------
def test_the_worked_example_is_what_the_page_says():
    page = " ".join((ROOT / "docs" / "models" / "demand.md").read_text().split())
    own, hours, slow = math.hypot(0.2, 0.05), 744, 0.15**2
    counted = hours * math.sqrt(1 - math.exp(-2 * HOUR_S / 7_200))
    alone = peak_quantiles(np.full(hours, math.log(100)), np.full(hours, own), 7_200)
    low, p50, high = widened(alone, slow * (1 + 28 / 42))
    factor = known_factor(42 * DAY_S, SLOW_S)
    ends = p50 - (p50 - low) * factor, p50, p50 + (high - p50) * factor
    below, above = ((math.log(1 + b) - math.log(1 + a)) / Z90 for a, b in ((0.02, 0.04), (0.04, 0.06)))
    middle = p50 + 12 * math.log(1.04)
    year = (
        math.exp(middle - math.hypot(p50 - ends[0], Z90 * below * 12)),
        math.exp(middle),
        math.exp(middle + math.hypot(ends[2] - p50, Z90 * above * 12)),
    )
    month = date(2028, 1, 1)
    launched = fan_with_events(
        fan(*((value,) for value in year)), [month], [event(month, date(2028, 2, 1), 1.1, 1.3, 1.8)]
    )
    last = launched.p10_request_s[0], launched.p50_request_s[0], launched.p90_request_s[0]
    assert f"= {own:.4f}" in page
    assert f"= {counted:.1f}" in page
    assert f"widened by {factor:.3f}" in page
    for band in (np.exp(alone), np.exp([low, p50, high]), np.exp(ends), year, last):
        assert ", ".join(f"{value:.1f}" for value in band) in page


def test_the_month_of_the_example_comes_out_of_a_fit():
    """The same formulas, put together by the product: a spread and a state as in the example, without shape."""
    spread = Spread(0.05, 0.2, 7_200, 0.15)
    growth = growth_join(made(3).hourly(), (0.02, 0.04, 0.06))
    outlook = Outlook(END_S - 42 * DAY_S, END_S, math.log(100), growth, NO_SHAPE, spread, State(0, 0, 0, 0, 0.15**2))
    found = fan_history(outlook, "chat", [date(2027, 1, 1)], history=made(42), **LENGTHS)
    half = 15.5 / 30.4375  # months from the end of the history to the middle of January
    assert found.p50_request_s[0] == pytest.approx(187.26 * 1.04**half, rel=1e-3)
    assert found.p90_request_s[0] / found.p50_request_s[0] == pytest.approx(297.94 / 187.26, rel=0.01)
