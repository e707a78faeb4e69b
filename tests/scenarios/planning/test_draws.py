"""Futures: bands are met, draws depend on seed and number alone, groups slip together."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose, assert_array_equal

from accelerator.units import Z90
from scenarios.planning.draws import (
    DownValues,
    FanValues,
    Futures,
    FutureValues,
    ReadySlipValues,
    between,
    slip_months,
)
from scenarios.planning.plain import ProblemError
from tests.scenarios.planning.capacity_fleets import fans_of, one_service, random_fleet


def at(futures, **deviates):
    middle = futures.middle
    return futures.at(replace(middle, **{name: np.full_like(getattr(middle, name), z) for name, z in deviates.items()}))


def test_the_ends_of_a_fan_are_its_p10_and_p90():
    fan = FanValues("chat", (80.0,), (100.0,), (150.0,))
    futures = Futures(one_service(periods=3), FutureValues(fans=(fan,)))
    assert_allclose(at(futures, growth=-Z90).demand_tok_s, 80)
    assert_allclose(futures.expected().demand_tok_s, 100)
    assert_allclose(at(futures, growth=Z90).demand_tok_s, 150)


def test_rates_share_the_deviate_of_their_kind():
    problem = random_fleet(3)
    futures = Futures(problem, FutureValues())
    low, high = at(futures, rate=-Z90), at(futures, rate=Z90)
    assert_allclose(low.rate_tok_s, [rate.low_tok_s for rate in problem.rates])
    assert_allclose(high.rate_tok_s, [rate.high_tok_s for rate in problem.rates])
    one = futures.draw(0)
    for kind in problem.kinds:
        ours = [row for row, rate in enumerate(problem.rates) if rate.kind == kind.slug]
        signs = {bool(one.rate_tok_s[row] > problem.rates[row].tok_s) for row in ours}
        assert len(signs) <= 1


def test_kinds_with_the_same_chip_share_its_fate_and_those_without_a_name_have_their_own():
    problem = random_fleet(3)
    kinds = [replace(kind, chip=chip) for kind, chip in zip(problem.kinds, ("a", "b", "a", ""), strict=True)]
    drawn = [Futures(replace(problem, kinds=tuple(kinds)), FutureValues()).deviates(at).rate for at in range(20)]
    assert all(rate[0] == rate[2] for rate in drawn)
    assert all(len(set(rate.tolist())) == 3 for rate in drawn)
    assert_array_equal(drawn[0][[0, 1, 3]], Futures(problem, FutureValues()).deviates(0).rate[[0, 1, 3]])


def test_where_a_band_reaches_zero_it_is_half_a_normal():
    low, middle, high = np.array([0.0]), np.array([10.0]), np.array([20.0])
    assert_allclose(between(low, middle, high, np.array([-Z90])), 0)
    assert_allclose(between(low, middle, high, np.array([-3.0])), 0)
    assert_allclose(between(low, np.array([0.0]), high, np.array([Z90])), 20)


@pytest.mark.parametrize(("z", "months"), [(-9.0, 0.0), (0.0, 0.0), (Z90, 4.0)])
def test_without_a_median_slip_only_the_late_half_is_late(z, months):
    assert_allclose(slip_months(0.0, 4.0, z), months)


@pytest.mark.parametrize(("z", "months"), [(-Z90, 0.5), (0.0, 1.0), (Z90, 2.0)])
def test_a_slip_is_lognormal_through_its_median_and_p90(z, months):
    assert_allclose(slip_months(1.0, 2.0, z), months)


def delivered(**more):
    row = {"site": "dc1", "kind": "gpu", "period": 5, "hosts": 70, "fill_ratio": 0.7, "ordered": 100}
    return one_service(deliveries=[row | more])


def test_a_delivery_is_dated_at_its_median_slip_and_counted_at_its_expected_fill():
    problem = delivered(slip_p50_months=1.0, slip_p90_months=4.0)
    futures = Futures(problem, FutureValues())
    expected = futures.expected()
    assert (expected.arrival[0], expected.arrival_hosts[0]) == (5, 70)
    assert at(futures, slip=Z90).arrival[0] == 8  # three months later than the median
    assert at(futures, slip=-6.0).arrival[0] == 5  # a month at most earlier, and then within period 4
    drawn = [futures.draw(index).arrival_hosts[0] for index in range(400)]
    assert abs(np.mean(drawn) - 70) < 2
    assert 0 <= min(drawn) < max(drawn) <= 100


def test_a_certain_fill_is_never_drawn():
    futures = Futures(delivered(fill_ratio=1.0, ordered=70), FutureValues())
    assert {int(futures.draw(index).arrival_hosts[0]) for index in range(20)} == {70}


def test_deliveries_of_a_group_slip_together():
    row = {"site": "dc1", "kind": "gpu", "period": 2, "hosts": 7, "slip_p50_months": 1.0, "slip_p90_months": 3.0}
    problem = one_service(deliveries=[row | {"group": group} for group in ("maker", "maker", "", "")])
    futures = Futures(problem, FutureValues())
    slips = np.array([futures.deviates(index).slip for index in range(2_000)])
    found = np.corrcoef(slips.T)
    assert abs(found[0, 1] - 0.5) < 0.06
    assert abs(found[2, 3]) < 0.06
    assert_allclose(slips.std(axis=0), 1, atol=0.06)


def test_half_of_the_variance_of_demand_is_shared():
    futures = Futures(random_fleet(1), FutureValues())
    growth = np.array([futures.deviates(index).growth for index in range(2_000)])
    assert_allclose(np.corrcoef(growth.T)[np.triu_indices(growth.shape[1], 1)], 0.5, atol=0.07)


def test_a_draw_depends_on_seed_and_number_alone():
    problem = random_fleet(2)
    one, other = (Futures(problem, fans_of(problem), seed=7) for _ in range(2))
    later = one.draw(5)
    other.draw(0)
    for name in ("demand_tok_s", "rate_tok_s", "arrival", "arrival_hosts"):
        assert_array_equal(getattr(later, name), getattr(other.draw(5), name))
    assert not np.array_equal(later.demand_tok_s, Futures(problem, fans_of(problem), seed=8).draw(5).demand_tok_s)


def test_one_service_more_leaves_the_deliveries_of_every_draw():
    problem = random_fleet(4)
    more = replace(problem, services=(*problem.services, replace(problem.services[0], slug="more")))
    for index in range(5):
        one, other = (Futures(p, FutureValues()).draw(index) for p in (problem, more))
        assert_array_equal(one.arrival, other.arrival)
        assert_array_equal(one.arrival_hosts, other.arrival_hosts)


def test_readiness_slips_where_it_is_still_to_come():
    problem = one_service(
        kinds=[{"slug": "gpu", "homegrown": True}],
        rates=[
            {"service": "chat", "kind": "gpu", "tok_s": 10.0, "ready": 4},
            {"service": "chat", "kind": "gpu", "tok_s": 10.0, "phase": "decode", "ready": 0},
            {"service": "chat", "kind": "gpu", "tok_s": 10.0, "phase": "prefill", "ready": 3, "in_use": True},
        ],
    )
    futures = Futures(problem, FutureValues(ready_slips=(ReadySlipValues(slip_p50_months=1, slip_p90_months=3),)))
    assert futures.expected().ready.tolist() == [5, 0, 0]
    assert at(futures, ready=Z90).ready.tolist() == [7, 0, 0]


def test_failures_lie_about_their_expectation():
    futures = Futures(one_service(), FutureValues(down=(DownValues(ratio=0.1),)))
    assert_allclose(futures.expected().up_ratio, 0.9)
    down = np.concatenate([1 - futures.draw(index).up_ratio for index in range(200)], axis=1)
    assert abs(down.mean() - 0.1) < 0.01
    assert 0 <= down.min() < 0.1 < down.max() < 1


@pytest.mark.parametrize(
    ("values", "place"),
    [
        (FutureValues(fans=(FanValues("nobody", (1.0,), (1.0,), (1.0,)),)), "futures.fans[0].service"),
        (FutureValues(fans=(FanValues("chat", (1.0, 2.0), (1.0,), (1.0,)),)), "futures.fans[0].p10_tok_s"),
        (FutureValues(fans=(FanValues("chat", (2.0,), (1.0,), (3.0,)),)), "futures.fans[0].p50_tok_s[0]"),
        (FutureValues(fans=(FanValues("chat", (1.0,), (1.0,), (1.0,)),) * 2), "futures.fans[1]"),
        (FutureValues(down=(DownValues("abacus", 0.1),)), "futures.down[0].kind"),
        (FutureValues(ready_slips=(ReadySlipValues(service="nobody"),)), "futures.ready_slips[0].service"),
    ],
)
def test_futures_that_do_not_fit_their_problem_are_refused_by_place(values, place):
    with pytest.raises(ProblemError) as caught:
        Futures(one_service(), values)
    assert place in [where for where, _text in caught.value.errors]
