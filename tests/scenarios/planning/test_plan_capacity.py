"""The capacity planner: closed forms, cases by hand, and what must not change an answer."""

import json
import math
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from scenarios.planning.capacity import (
    CapacityPart,
    capacity_draws,
    capacity_merge,
    plan_capacity,
    run_out_positions,
)
from scenarios.planning.capacity_answer import CapacityAsk, ClosedValues, capacity_schema
from scenarios.planning.days import months_before
from scenarios.planning.draws import FanValues, FutureValues
from scenarios.planning.headroom import ALL
from scenarios.planning.plain import ProblemError
from scenarios.planning.problem import problem_read
from tests.scenarios.planning.capacity_fleets import fans_of, one_service, random_fleet


def run_out(answer, region="", tier=ALL):
    return next(row for row in answer.run_out if (row.region, row.tier) == (region, tier))


@pytest.mark.parametrize(("demand_tok_s", "growth_ratio"), [(900.0, 0.03), (500.0, 0.05), (999.0, 0.001)])
def test_constant_growth_runs_out_at_the_closed_form(demand_tok_s, growth_ratio):
    answer = plan_capacity(one_service(demand_tok_s=demand_tok_s, growth_ratio=growth_ratio), draws=0)
    expected = math.log(1000 / demand_tok_s) / math.log(1 + growth_ratio)
    assert_allclose(run_out(answer, "north").expected, expected, rtol=1e-9)
    assert_allclose(run_out(answer).expected, expected, rtol=1e-9)


def test_the_day_is_the_share_of_its_month():
    answer = plan_capacity(one_service(demand_tok_s=1000 / 1.03**2.5), draws=0)
    row = run_out(answer, "north")
    assert row.run_out_expected_on == "2027-03-16"  # half of the 31 days of March have passed
    assert row.run_out_on.p10 == row.run_out_on.p90 == "2027-03-16"


def test_a_fleet_that_lasts_has_no_day():
    row = run_out(plan_capacity(one_service(growth_ratio=0.0), draws=5), "north")
    assert (row.expected, row.run_out_expected_on, row.run_out_on.p50, row.probability_ratio) == (None, None, None, 0.0)


def test_a_fleet_that_is_short_at_once_has_run_out_at_the_start():
    row = run_out(plan_capacity(one_service(demand_tok_s=2000.0), draws=0), "north")
    assert (row.expected, row.run_out_expected_on) == (0.0, "2027-01-01")


def test_where_nothing_can_be_served_it_is_at_once():
    assert_allclose(run_out_positions(np.array([[2.0, 0.0], [0.0, 2.0], [2.0, 2.0]])), [1.0, 0.0, np.inf])


def test_periods_without_months_have_positions_and_no_days():
    named = one_service(demand_tok_s=1000 / 1.03**1.5, periods=3).as_dict() | {"periods": ["one", "two", "three"]}
    row = run_out(plan_capacity(problem_read(named), draws=0), "north")
    assert_allclose(row.expected, 1.5)
    assert (row.run_out_expected_on, row.run_out_on.p50) == (None, None)


def test_unserved_tokens_are_those_of_the_whole_horizon():
    answer = plan_capacity(one_service(demand_tok_s=1100.0, growth_ratio=0.0, periods=3), draws=0)
    assert_allclose([row.unserved_tok_s for row in answer.rows if row.tier == ALL], 100.0)
    assert_allclose(run_out(answer).unserved_mtok, 100 * 3600 * 730.5 * 3 / 1e6)


def test_a_fan_makes_the_band_of_the_run_out():
    problem = one_service()
    grown = np.array([1.03, 1.04, 1.02]) ** np.arange(24)[:, None] * 900
    fan = FanValues("chat", tuple(grown[:, 2]), tuple(grown[:, 0]), tuple(grown[:, 1]))
    answer = plan_capacity(problem, draws=400, futures=FutureValues(fans=(fan,)))
    row = run_out(answer, "north")
    closed = [math.log(1 / 0.9) / math.log(growth) for growth in (1.04, 1.03, 1.02)]
    found = [row.position.p10, row.position.p50, row.position.p90]
    assert_allclose(found, closed, rtol=0.12)
    assert_allclose(row.expected, closed[1], rtol=1e-9)


def test_the_first_region_is_counted_future_by_future():
    problem = random_fleet(1)
    part = capacity_draws(problem, CapacityAsk(draws=40), range(40))
    answer = capacity_merge(problem, CapacityAsk(draws=40), [part])
    regions = [row.region for row in answer.run_out if row.region and row.tier == ALL]
    tiers = [(row.region, row.tier) for row in answer.run_out if row.region]
    ends = np.stack([run_out_positions(part.share[:, tiers.index((slug, ALL))]) for slug in regions], axis=1)
    first = np.isfinite(ends) & (ends == ends.min(axis=1, keepdims=True))
    assert [run_out(answer, slug).first_ratio for slug in regions] == first.mean(axis=0).tolist()
    assert run_out(answer).first_ratio == 0.0
    assert 0 < first.mean() < 1


def test_the_order_goes_out_the_lead_time_before_the_run_out():
    problem = one_service(demand_tok_s=1000 / 1.03**8, offers=[{"kind": "gpu", "period": 3, "hosts": 500}])
    row = run_out(plan_capacity(problem, draws=0), "north")
    assert (row.kind, row.lead_months) == ("gpu", 3.0)
    assert row.run_out_on.p50 in {"2027-09-01", "2027-08-31"}
    assert row.order_by_on.p50 in {"2027-06-01", "2027-05-31"}


def test_an_order_that_is_too_late_has_a_day_before_the_first_period():
    problem = one_service(demand_tok_s=2000.0, offers=[{"kind": "gpu", "period": 2, "hosts": 500}])
    assert run_out(plan_capacity(problem, draws=0), "north").order_by_on.p50 == "2026-11-01"


@pytest.mark.parametrize(
    ("day", "months", "expected"),
    [
        ("2028-05-19", 6.0, "2027-11-19"),
        ("2028-05-31", 3.0, "2028-02-29"),
        ("2027-03-15", 0.5, "2027-02-28"),
        ("2027-01-31", 0.0, "2027-01-31"),
        ("9999-12-31", 1.0, "9999-11-30"),
        ("9999-12-31", 0.0, "9999-12-31"),
        ("0001-06-01", 6.0, None),
    ],
)
def test_months_before_a_day_are_those_of_the_calendar(day, months, expected):
    assert months_before(day, months) == expected


def test_without_an_offer_the_order_goes_out_the_assumed_lead_time_before():
    problem = one_service(demand_tok_s=1000 / 1.03**8)
    row = run_out(plan_capacity(problem, draws=0, lead_months=6.0), "north")
    assert (row.kind, row.lead_months, row.is_offered) == ("gpu", 6.0, False)
    assert (row.run_out_on.p50, row.order_by_on.p50) in {("2027-09-01", "2027-03-01"), ("2027-08-31", "2027-02-28")}
    assert run_out(plan_capacity(problem, draws=0), "north").order_by_on.p50 is None


def test_an_offer_says_the_lead_time_and_not_the_assumption():
    problem = one_service(demand_tok_s=1000 / 1.03**8, offers=[{"kind": "gpu", "period": 3, "hosts": 500}])
    row = run_out(plan_capacity(problem, draws=0, lead_months=6.0), "north")
    assert (row.lead_months, row.is_offered) == (3.0, True)


def test_a_kind_that_may_not_be_bought_is_not_added():
    problem = one_service(demand_tok_s=1000.0, periods=3)
    ask = CapacityAsk(draws=0, target_ratio=0.1, closed=(ClosedValues("gpu", "dc1", first=1, last=2),))
    answer = capacity_merge(problem, ask, [])
    assert [row.period for row in answer.add] == [0, 2]
    assert [row.period for row in answer.missed] == [1]


def test_just_enough_hosts_are_added_just_in_time():
    problem = one_service(demand_tok_s=1000.0, periods=4, offers=[{"kind": "gpu", "period": 0, "hosts": 40}])
    answer = plan_capacity(problem, draws=0, target_ratio=0.1)
    # wanted: 1100, 1133, 1166.99, 1201.9997 tok/s of 10 tok/s a host
    assert [(row.period, row.hosts, row.beyond_hosts) for row in answer.add] == [
        (0, 10, 0),
        (1, 4, 0),
        (2, 3, 0),
        (3, 4, 0),
    ]
    assert answer.missed == ()


def test_supply_beyond_the_offers_is_asked_for():
    problem = one_service(demand_tok_s=1000.0, periods=2, offers=[{"kind": "gpu", "period": 1, "hosts": 12}])
    answer = plan_capacity(problem, draws=0, target_ratio=0.1)
    assert [(row.period, row.hosts, row.beyond_hosts) for row in answer.add] == [(0, 10, 10), (1, 4, 0)]


def test_what_limits_do_not_let_in_is_missed():
    problem = one_service(
        demand_tok_s=1000.0,
        growth_ratio=0.0,
        periods=1,
        limits=[{"slug": "p", "limit": 105_000.0, "uses": [{"place": "dc1", "kind": "gpu", "amount": 1000.0}]}],
    )
    answer = plan_capacity(problem, draws=0, target_ratio=0.1)
    assert [row.hosts for row in answer.add] == [5]
    assert_allclose(answer.missed[0].headroom_ratio, 0.05, rtol=1e-6)
    assert answer.binding[0].constraint == "chips"


@pytest.mark.parametrize(
    ("demand_tok_s", "hosts"), [(1000.0, 2), (901.0, 1), (905.0, 1), (9001.0, 91), (900.0, 0), (900.0 + 1e-10, 0)]
)
@pytest.mark.parametrize("offered", [0, 100])
def test_no_host_is_too_dear_to_serve_the_last_of_the_demand(demand_tok_s, hosts, offered):
    problem = one_service(
        demand_tok_s=demand_tok_s,
        growth_ratio=0.0,
        hosts=10,
        periods=1,
        rates=[{"service": "chat", "kind": "gpu", "tok_s": 100.0}],
        rules={"reserve_ratio": 0.1},
        offers=[{"kind": "gpu", "period": 0, "hosts": offered}],
    )
    answer = plan_capacity(problem, draws=0)
    assert sum(row.hosts for row in answer.add) == hosts
    assert answer.missed == ()


def test_where_limits_are_tight_the_hosts_that_serve_most_are_added_whatever_they_cost():
    problem = one_service(
        demand_tok_s=1100.0,
        growth_ratio=0.0,
        periods=1,
        kinds=[
            {"slug": "gpu", "homegrown": False, "power_w": 1000.0, "price": 1.0},
            {"slug": "new", "homegrown": False, "power_w": 1000.0, "price": 1e6},
        ],
        rates=[{"service": "chat", "kind": kind, "tok_s": rate} for kind, rate in (("gpu", 10.0), ("new", 10.1))],
        limits=[
            {"slug": "p", "limit": 105.0, "uses": [{"place": "dc1", "kind": k, "amount": 1} for k in ("gpu", "new")]}
        ],
    )
    answer = plan_capacity(problem, draws=0)
    assert [(row.kind, row.hosts) for row in answer.add] == [("new", 5)]
    assert_allclose(answer.missed[0].headroom_ratio, 1050.5 / 1100 - 1, rtol=1e-6)


def two_kinds(tariff_per_kwh):
    return one_service(
        demand_tok_s=1000.0,
        periods=12,
        growth_ratio=0.02,
        sites=[{"slug": "dc1", "region": "north", "tariff_per_kwh": tariff_per_kwh}],
        kinds=[
            {"slug": "gpu", "homegrown": False, "power_w": 10_000.0, "price": 100_000.0},
            {"slug": "own", "homegrown": True, "power_w": 2_000.0, "price": 150_000.0},
        ],
        rates=[{"service": "chat", "kind": kind, "tok_s": 10.0} for kind in ("gpu", "own")],
        offers=[{"kind": kind, "period": 0, "hosts": 99} for kind in ("gpu", "own")],
    )


@pytest.mark.parametrize(("tariff_per_kwh", "kind"), [(0.1, "gpu"), (10.0, "own")])
def test_the_cheapest_kind_by_price_and_energy_is_added(tariff_per_kwh, kind):
    answer = plan_capacity(two_kinds(tariff_per_kwh), draws=0, target_ratio=0.0)
    assert answer.add
    assert {row.kind for row in answer.add if row.period < 6} == {kind}


@pytest.mark.parametrize("seed", range(6))
def test_with_what_is_added_the_headroom_is_kept(seed):
    problem = random_fleet(seed)
    answer = plan_capacity(problem, draws=0, target_ratio=0.1)
    missed = {(row.period, row.region) for row in answer.missed}
    more = [{name: getattr(row, name) for name in ("site", "kind", "period", "hosts")} for row in answer.add]
    data = problem.as_dict()
    data["deliveries"] = [*data["deliveries"], *more]
    after = plan_capacity(problem_read(data), draws=0)
    for row in after.rows:
        if row.tier == ALL and (row.period, row.region) not in missed:
            assert row.headroom_ratio >= 0.1 - 1e-5, row
    waits, waited = ({(row.period, row.site, row.kind): row.waiting for row in one.hosts} for one in (after, answer))
    assert waits == {key: waited.get(key, 0) for key in waits}  # what is added takes no room of what is ordered


def test_after_the_loss_of_the_larger_hall_the_rest_serves():
    problem = one_service(
        demand_tok_s=300.0,
        growth_ratio=0.0,
        periods=1,
        places=[{"slug": "a", "site": "dc1"}, {"slug": "b", "site": "dc1"}],
        standing=[{"place": "a", "kind": "gpu", "hosts": 60}, {"place": "b", "kind": "gpu", "hosts": 40}],
        services=[
            {"slug": "chat", "region": "north", "demand_tok_s": 300.0, "tier": "gold"},
            {"slug": "draft", "region": "north", "demand_tok_s": 200.0, "tier": "batch"},
        ],
        rates=[{"service": slug, "kind": "gpu", "tok_s": 10.0} for slug in ("chat", "draft")],
        domains=[{"slug": slug, "lost": [{"place": slug}]} for slug in "ab"],
    )
    rows = plan_capacity(problem, draws=0).after_loss
    assert [(row.tier, row.domain) for row in rows] == [("gold", "a"), ("batch", "a"), (ALL, "a")]
    assert_allclose([row.headroom_ratio for row in rows], [1 / 3, -0.5, -0.2], rtol=1e-6)
    assert_allclose([row.unserved_tok_s for row in rows], [0, 100, 100], atol=1e-4)


def test_a_service_without_a_host_is_named():
    problem = one_service(periods=2, standing=[{"place": "dc1", "kind": "gpu", "hosts": [5, 0]}])
    assert [(row.period, row.service) for row in plan_capacity(problem, draws=0).homeless] == [(1, "chat")]


@pytest.mark.parametrize("seed", range(3))
def test_any_sharding_gives_the_same_bytes(seed):
    problem = random_fleet(seed, periods=8)
    ask = CapacityAsk(draws=12, seed=seed, futures=fans_of(problem))
    whole = capacity_merge(problem, ask, [capacity_draws(problem, ask, range(12))])
    parts = [capacity_draws(problem, ask, draws) for draws in (range(7, 12), range(1), range(1, 7), range(7, 7))]
    kept = [CapacityPart.read(part.as_bytes()) for part in parts]
    merged = capacity_merge(problem, ask, kept)
    assert json.dumps(merged.as_dict()) == json.dumps(whole.as_dict())


def test_parts_that_miss_a_draw_are_refused():
    problem = one_service(periods=2)
    ask = CapacityAsk(draws=3)
    with pytest.raises(ValueError, match="do not make 3 draws"):
        capacity_merge(problem, ask, [capacity_draws(problem, ask, range(2))])


def positions(answer):
    return [(row.region, row.tier, row.expected, row.position) for row in answer.run_out]


@pytest.mark.parametrize("seed", range(3))
def test_a_fleet_three_times_as_large_runs_out_on_the_same_days(seed):
    problem = random_fleet(seed)
    no_waiting = replace(problem, limits=())
    scaled = replace(
        no_waiting,
        services=tuple(replace(s, demand_tok_s=tuple(3 * v for v in s.demand_tok_s)) for s in problem.services),
        standing=tuple(replace(s, hosts=tuple(3 * v for v in s.hosts)) for s in problem.standing),
        deliveries=tuple(replace(d, hosts=3 * d.hosts, fill_ratio=1.0) for d in problem.deliveries),
    )
    no_waiting = replace(no_waiting, deliveries=tuple(replace(d, fill_ratio=1.0) for d in problem.deliveries))
    for one, other in zip(
        positions(plan_capacity(no_waiting, draws=10)), positions(plan_capacity(scaled, draws=10)), strict=True
    ):
        assert one[:2] == other[:2]
        for left, right in zip(_numbers(one), _numbers(other), strict=True):
            assert left == pytest.approx(right, rel=1e-6, abs=1e-6)


def _numbers(row):
    return [-1.0 if value is None else value for value in (row[2], row[3].p10, row[3].p50, row[3].p90)]


def test_new_names_change_nothing_but_names():
    problem = random_fleet(1)
    text = json.dumps(problem.as_dict())
    for old, new in (('"m1"', '"zeta"'), ('"k2"', '"alpha"'), ('"s0"', '"yard"'), ('"north"', '"uphill"')):
        text = text.replace(old, new)
    one, other = (plan_capacity(p, draws=5) for p in (problem, problem_read(json.loads(text))))
    assert [(row.expected, row.position) for row in one.run_out] == [
        (row.expected, row.position) for row in other.run_out
    ]
    assert [row.headroom for row in one.rows] == [row.headroom for row in other.rows]


@pytest.mark.parametrize("seed", range(3))
def test_one_more_host_never_brings_the_run_out_forward(seed):
    problem = random_fleet(seed)
    more = replace(
        problem, limits=(), standing=tuple(replace(s, hosts=tuple(v + 1 for v in s.hosts)) for s in problem.standing)
    )
    before, after = (plan_capacity(p, draws=6) for p in (replace(problem, limits=()), more))
    for one, other in zip(before.run_out, after.run_out, strict=True):
        if one.tier == ALL:
            later, sooner = (math.inf if row.expected is None else row.expected for row in (other, one))
            assert later >= sooner - 1e-6
            assert other.probability_ratio <= one.probability_ratio


def test_a_problem_that_contradicts_itself_is_refused():
    problem = one_service(periods=2)
    broken = replace(problem, rates=(replace(problem.rates[0], kind="abacus"),))
    with pytest.raises(ProblemError, match="unknown kind"):
        plan_capacity(broken, draws=0)


def test_the_schema_describes_the_answer():
    answer = plan_capacity(random_fleet(0), draws=3).as_dict()
    schema = capacity_schema()
    assert set(answer) == set(schema["properties"])
    for name, rows in answer.items():
        if isinstance(rows, list) and rows:
            kind = schema["properties"][name]["items"]["$ref"].rsplit("/", 1)[-1]
            assert set(rows[0]) == set(schema["$defs"][kind]["properties"])
