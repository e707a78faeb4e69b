"""Backtests of demand forecasts: on made histories, and on the published rate series."""

import numpy as np
import pytest

from scenarios import demands
from scenarios.backtests import FIRST, PEAK, REST, WINDOW, backtest
from scenarios.demands import COVERAGE_PATH, coverage_load, coverage_of
from scenarios.histories import HOUR_S, History
from scenarios.history_files import history_read
from scenarios.management.commands.demand_backtest import EPOCH
from scenarios.patterns import DAY_S
from tests.conftest import SHARED_DATA
from tests.scenarios.test_forecast import made

SERIES = ("m_small", "m_large", "deepseek_r1", "mm_image")


def read(series):
    path = SHARED_DATA / "traces" / f"servegen_rates_{series}.csv.gz"
    with path.open("rb") as stream:
        return history_read(stream, path.name, starts_at=EPOCH).history


@pytest.fixture(scope="module")
def published():
    return [score for series in SERIES for score in backtest(read(series), series)]


def held(scores, **wanted):
    some = [one for one in scores if all(getattr(one, name) == value for name, value in wanted.items())]
    return sum(one.coverage_ratio * one.origins for one in some) / sum(one.origins for one in some)


# --- published series -------------------------------------------------------------------------------------------------
@pytest.mark.shared
def test_bands_hold_75_to_85_percent_of_windows_on_which_nothing_was_found(published):
    assert 0.75 <= held(published, part=REST, what=WINDOW) <= 0.85


@pytest.mark.shared
@pytest.mark.parametrize("series", SERIES)
def test_bands_of_each_series_hold_75_to_85_percent_of_its_later_windows(published, series):
    assert 0.75 <= held(published, part=REST, what=WINDOW, series=series) <= 0.85


@pytest.mark.shared
def test_no_horizon_is_far_off(published):
    horizons = sorted({one.horizon_s for one in published if one.what == WINDOW})
    assert horizons[0] == 600
    assert horizons[-1] == 2 * DAY_S
    for horizon_s in horizons:
        assert 0.7 <= held(published, part=REST, what=WINDOW, horizon_s=horizon_s) <= 0.9, horizon_s


@pytest.mark.shared
def test_forecasts_lose_less_than_the_last_rate_and_than_the_day_before(published):
    """From ten minutes to two days ahead; of a day without a shape over the day, up to an hour, they are level."""
    long = [one for one in published if one.part == REST and one.what == WINDOW and one.series.startswith("m_")]
    for one in long:
        assert one.loss_ratio < 1.02 * one.last_loss_ratio, one
        assert one.day_before_loss_ratio is None or one.loss_ratio < 1.02 * one.day_before_loss_ratio, one
    short = [one for one in published if one.part == REST and one.what == WINDOW and one not in long]
    assert np.mean([one.loss_ratio / one.last_loss_ratio for one in short]) < 1


@pytest.mark.shared
def test_the_stated_coverage_is_what_the_series_give(published):
    stated = coverage_load()
    assert stated.source.startswith("ServeGen")
    assert len(stated.scores) == len(published)
    for kept, now in zip(stated.scores, published, strict=True):
        assert (kept.series, kept.part, kept.what, kept.horizon_s, kept.origins) == (
            *(now.series, now.part, now.what, now.horizon_s, now.origins),
        )
        assert kept.coverage_ratio == pytest.approx(now.coverage_ratio, abs=0.03)
        assert kept.loss_ratio == pytest.approx(now.loss_ratio, rel=0.05)


# --- made histories ---------------------------------------------------------------------------------------------------
def test_bands_of_a_walk_as_modelled_hold_about_four_fifths():
    scores = backtest(made(28, day=0.4, fast=0.2, slow=0.1, seed=8), "made")
    assert 0.75 <= held(scores, what=WINDOW) <= 0.92
    assert {one.part for one in scores} == {FIRST, REST}
    assert {one.what for one in scores} == {WINDOW, PEAK}
    for one in scores:
        assert one.coverage_ratio + one.below_ratio + one.above_ratio == pytest.approx(1)


def test_a_forecast_knows_nothing_of_what_comes_later():
    """The later half is another world; what was said of the first part stays what it was."""
    calm = made(20, day=0.4, fast=0.1, seed=3)
    wild = calm.request_s.copy()
    wild[len(wild) * 3 // 4 :] *= 7
    first = [
        [one for one in backtest(history, "x") if one.part == FIRST and one.what == WINDOW]
        for history in (calm, History(calm.start_s, HOUR_S, wild))
    ]
    assert [one.coverage_ratio for one in first[0]] == [one.coverage_ratio for one in first[1]]
    ratio = np.nanmean(wild) / calm.request_s.mean()
    assert [one.loss_ratio for one in first[0]] == pytest.approx([one.loss_ratio * ratio for one in first[1]])


def test_misses_widen_bands_up_to_a_limit_and_quiet_does_not_narrow_them():
    count = 20 * 24
    rng = np.random.default_rng(1)
    calm = History(EPOCH_S, HOUR_S, np.exp(rng.normal(0, 0.05, count)))
    restless = np.exp(rng.normal(0, 0.05, count) * np.where(np.arange(count) < count / 2, 1, 6))
    quiet = held(backtest(calm, "calm"), part=REST, what=WINDOW, horizon_s=HOUR_S)
    wild = held(backtest(History(EPOCH_S, HOUR_S, restless), "wild"), part=REST, what=WINDOW, horizon_s=HOUR_S)
    assert quiet >= 0.75
    assert wild >= 0.6


EPOCH_S = int(EPOCH.timestamp())


def test_a_history_without_days_to_test_has_no_scores():
    assert backtest(History(EPOCH_S, HOUR_S, np.ones(5)), "short") == []
    assert coverage_of([]) is None


def test_short_windows_are_put_together():
    minutes, tens = (backtest(made(6, window_s=window_s, day=0.3), "x") for window_s in (60, 600))
    assert [(one.horizon_s, one.part, one.origins) for one in minutes] == [
        (one.horizon_s, one.part, one.origins) for one in tens
    ]


def test_windows_that_are_not_known_are_not_scored():
    history = made(10, fast=0.1)
    rates = history.request_s.copy()
    rates[100:160] = np.nan
    gaps = backtest(History(history.start_s, HOUR_S, rates), "gaps")
    whole = backtest(history, "whole")
    assert sum(one.origins for one in gaps) < sum(one.origins for one in whole)
    assert all(0 <= one.coverage_ratio <= 1 for one in gaps)


# --- the file that comes with the product -----------------------------------------------------------------------------
def test_the_stated_coverage_is_within_its_promise():
    stated = coverage_load()
    assert 0.75 <= stated.of_rest(WINDOW) <= 0.85
    assert {one.series for one in stated.scores} == set(SERIES)


def test_what_is_written_is_read_again(tmp_path, monkeypatch):
    stated = coverage_load()
    path = tmp_path / "coverage.csv"
    demands.coverage_write(path, stated.scores, computed_on=stated.computed_on, source=stated.source)
    assert path.read_text() == COVERAGE_PATH.read_text()
