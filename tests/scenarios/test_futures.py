from datetime import date, timedelta

import numpy as np
import pytest

from scenarios.futures import future_draw, future_expected
from scenarios.plan_futures import Demand
from tests.factories import START, delivery_fact, kind_fact, problem, service_fact, snapshot


@pytest.fixture
def question():
    fleet = snapshot(
        kinds=(kind_fact("gpu"), kind_fact("own-a", chip="thead-ppu-810e"), kind_fact("own-b", chip="thead-ppu-810e")),
        services=(service_fact("chat", growth=(0.01, 0.04, 0.08)), service_fact("code")),
        deliveries=(
            delivery_fact("po-1", kind="own-a", quantity=20, slip=(30.0, 90.0), fill=0.8),
            delivery_fact("po-2", kind="own-b", quantity=5, fill=1.0),
        ),
    )
    return problem(fleet, spread=1.5, draws=4, seed=7)


def test_the_expected_future_is_the_middle_of_every_band(question):
    future = future_expected(question)
    np.testing.assert_allclose(future.rate_tok_s, question.rate_tok_s)
    np.testing.assert_allclose(future.demand_tok_s[0, :3], 10 * 100 * 1.04 ** np.arange(3))
    assert future.arrival_day[0] == (START + timedelta(days=30)).toordinal()
    assert future.arrival_hosts.tolist() == [16, 5]


def test_a_draw_depends_on_seed_and_index_alone(question):
    late_first = [future_draw(question, index) for index in (3, 0)]
    np.testing.assert_array_equal(late_first[1].rate_tok_s, future_draw(question, 0).rate_tok_s)
    assert not np.array_equal(late_first[0].rate_tok_s, late_first[1].rate_tok_s)


def test_hosts_with_the_same_chip_share_its_fate(question):
    for index in range(5):
        future = future_draw(question, index)
        np.testing.assert_allclose(future.rate_tok_s[:, 1], future.rate_tok_s[:, 2])


def test_draws_fill_the_bands_that_they_come_from(question):
    futures = [future_draw(question, index) for index in range(2000)]
    rate = np.array([future.rate_tok_s[0, 0] for future in futures]) / 1000
    np.testing.assert_allclose(np.quantile(rate, (0.1, 0.5, 0.9)), [1 / 1.5, 1, 1.5], rtol=0.05)
    slip = np.array([future.arrival_day[0] for future in futures]) - START.toordinal()
    np.testing.assert_allclose(np.quantile(slip, (0.5, 0.9)), [30, 90], rtol=0.1)
    growth = np.array([future.demand_tok_s[0, 1] for future in futures]) / 1000 - 1
    np.testing.assert_allclose(np.quantile(growth, (0.1, 0.9)), [0.01, 0.08], atol=0.005)
    arrived = np.array([future.arrival_hosts for future in futures])
    assert arrived[:, 0].mean() == pytest.approx(16, abs=0.2)
    assert set(arrived[:, 1]) == {5}


def test_one_growth_for_all_has_no_band(question):
    fixed = problem(question.snapshot, draws=3, growth_override_ratio=0.1)
    for index in range(3):
        np.testing.assert_allclose(future_draw(fixed, index).demand_tok_s[1, 2], 1000 * 1.21)


def test_a_service_out_of_scope_demands_nothing(question):
    alone = problem(question.snapshot, in_scope=np.array([True, False]))
    assert future_expected(alone).demand_tok_s[1].sum() == 0
    assert date(2027, 1, 1) == alone.months[0]


def test_the_demand_of_a_forecast_takes_the_place_of_compound_growth(question):
    middle = np.array([[100.0] * 12, [50.0] * 12])
    demand = Demand(middle / 2, middle, middle * 4, np.ones(2), np.zeros(2))
    np.testing.assert_allclose(future_expected(question, demand).demand_tok_s, middle)
    drawn, stated = future_draw(question, 1, demand), future_draw(question, 1)
    high, more = drawn.demand_tok_s > middle, stated.demand_tok_s > future_expected(question).demand_tok_s
    assert (high[:, 1] == more[:, 1])[0], "the same deviate drives both"
    np.testing.assert_array_equal(drawn.rate_tok_s, stated.rate_tok_s)
