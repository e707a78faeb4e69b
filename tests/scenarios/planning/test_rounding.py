"""Whole replicas: known answers by hand, an optimum by brute force, and what holds of every plan."""

import itertools
import math
from dataclasses import replace
from functools import cache

import pytest

from scenarios.planning.migration import plan_migration
from scenarios.planning.plan import FEASIBLE, HostsRow, LoadRow, MigrationAnswer, MoneyRow, SolverNote
from scenarios.planning.problem import (
    DECODE,
    PREFILL,
    DeliveryValues,
    FloorValues,
    PlaceValues,
    RateValues,
    RuleValues,
    ServiceValues,
    SiteValues,
    StandingValues,
)
from scenarios.planning.reconciling import reconcile, requirements_missed
from scenarios.planning.rounding import replicas_needed, replicas_round
from tests.scenarios.planning.fleets import drawn_fleet, hand_fleet

SEEDS = (0, 3, 5, 6, 11, 18)


@cache
def planned(seed):
    problem = drawn_fleet(seed)
    return problem, plan_migration(problem)


def test_replicas_are_rounded_up_and_noise_starts_none():
    assert replicas_needed(1.01, 2.0) == 3
    assert replicas_needed(1.0 + 1e-9, 2.0) == 2
    assert replicas_needed(0.3, 0.5) == 1  # a replica fills two hosts
    assert replicas_needed(2.5, 0.0) == 0  # not rounded


# --- by hand ----------------------------------------------------------------------------------------------------------
def still(loads, hosts, demand, rates, **changes):
    """Return a one-period problem and the plan that loads it so: (service, place, kind, phase, serving, reserve)."""
    problem = hand_fleet(
        periods=("2027-01",),
        services=tuple(ServiceValues(name, "r", (tok_s,), penalty_per_mtok=9.0) for name, tok_s in demand.items()),
        rates=tuple(rates),
        standing=tuple(StandingValues(place, "gpu", (float(count),)) for place, count in hosts.items()),
        deliveries=(),
        **changes,
    )
    zero = MoneyRow(0, *[0.0] * 11)
    answer = MigrationAnswer(
        status=FEASIBLE,
        solver=SolverNote("hand", "", 0.0, None, None, ""),
        hosts=tuple(HostsRow(0, place, "gpu", count, 0) for place, count in hosts.items()),
        loads=tuple(LoadRow(0, name, place, kind, phase, x, 0.0, q) for name, place, kind, phase, x, q in loads),
        money=(zero,),
    )
    return problem, answer


def replicas(rounded):
    return {(row.service, row.place, row.phase): row.replicas for row in rounded.answer.loads}


def test_what_fits_is_only_rounded_up():
    problem, answer = still(
        [("chat", "a", "gpu", "whole", 1.2, 0.0)],
        {"a": 2, "b": 0},
        {"chat": 120.0},
        [RateValues("chat", "gpu", 100.0, "whole", 2.0)],
    )
    rounded = replicas_round(problem, answer)
    assert replicas(rounded) == {("chat", "a", "whole"): 3}
    assert [(row.place, row.replicas, row.hosts) for row in rounded.added] == [("a", 3, pytest.approx(0.3))]
    assert rounded.unserved == rounded.missed == ()


def test_a_left_over_moves_into_the_slack_of_an_open_replica_elsewhere():
    # two services in a need 2 + 1 hosts of 2; the least left over, 0.2 of chat, fits the slack of b
    loads = [
        ("chat", "a", "gpu", "whole", 1.2, 0.0),
        ("code", "a", "gpu", "whole", 0.7, 0.0),
        ("chat", "b", "gpu", "whole", 0.6, 0.0),
    ]
    rates = [RateValues(name, "gpu", 100.0, "whole", 1.0) for name in ("chat", "code")]
    problem, answer = still(loads, {"a": 2, "b": 1}, {"chat": 180.0, "code": 70.0}, rates)
    rounded = replicas_round(problem, answer)
    assert replicas(rounded) == {("chat", "a", "whole"): 1, ("code", "a", "whole"): 1, ("chat", "b", "whole"): 1}
    moved = next(row for row in rounded.answer.loads if (row.service, row.place) == ("chat", "b"))
    assert moved.serving_hosts == pytest.approx(0.8)
    assert rounded.unserved == ()


def test_left_overs_merge_in_a_new_replica_where_one_fits():
    loads = [("chat", "a", "gpu", "whole", 1.2, 0.0), ("code", "a", "gpu", "whole", 0.7, 0.0)]
    rates = [RateValues(name, "gpu", 100.0, "whole", 1.0) for name in ("chat", "code")]
    problem, answer = still(loads, {"a": 2, "b": 1}, {"chat": 120.0, "code": 70.0}, rates)
    rounded = replicas_round(problem, answer)
    assert replicas(rounded)["chat", "b", "whole"] == 1
    assert rounded.unserved == ()


def test_what_fits_nowhere_goes_unserved_at_its_penalty():
    loads = [("chat", "a", "gpu", "whole", 1.2, 0.0), ("code", "a", "gpu", "whole", 0.7, 0.0)]
    rates = [RateValues(name, "gpu", 100.0, "whole", 1.0) for name in ("chat", "code")]
    problem, answer = still(loads, {"a": 2, "b": 0}, {"chat": 120.0, "code": 70.0}, rates)
    rounded = replicas_round(problem, answer)
    assert [(row.service, row.tok_s) for row in rounded.unserved] == [("chat", pytest.approx(20.0))]
    assert rounded.unserved[0].mtok == pytest.approx(20 * 3600 * 730.5 / 1e6)
    assert rounded.answer.money[0].penalty == pytest.approx(9 * 20 * 3600 * 730.5 / 1e6)
    assert reconcile(problem, rounded.answer) == []


def test_prompts_stay_at_the_site_of_their_answers():
    # prompts have slack at the other site and answers have none: tokens go unserved, their answers with them
    sites = (SiteValues("north", "r"), SiteValues("south", "r"))
    loads = [
        ("chat", "a", "gpu", PREFILL, 1.1, 0.0),
        ("chat", "a", "gpu", DECODE, 2.2, 0.0),
        ("chat", "b", "gpu", PREFILL, 0.5, 0.0),
        ("chat", "b", "gpu", DECODE, 1.0, 0.0),
    ]
    rates = [RateValues("chat", "gpu", tok_s, phase, 1.0) for phase, tok_s in ((PREFILL, 100.0), (DECODE, 50.0))]
    places = (PlaceValues("a", "north"), PlaceValues("b", "south"))
    problem, answer = still(loads, {"a": 4, "b": 2}, {"chat": 160.0}, rates, sites=sites, places=places)
    rounded = replicas_round(problem, answer)
    assert [row.tok_s for row in rounded.unserved] == [pytest.approx(10.0)]
    assert requirements_missed(problem, rounded.answer) == ()


def test_reserve_moves_to_any_gpu_of_the_region():
    loads = [
        ("chat", "a", "gpu", "whole", 0.8, 0.3),
        ("chat", "b", "gpu", "whole", 0.5, 0.0),
    ]
    problem, answer = still(loads, {"a": 1, "b": 1}, {"chat": 130.0}, [RateValues("chat", "gpu", 100.0, "whole", 1.0)])
    answer = replace(
        answer, loads=(replace(answer.loads[0], serving_hosts=0.7), replace(answer.loads[1], serving_hosts=0.6))
    )
    rounded = replicas_round(problem, answer)
    assert replicas(rounded) == {("chat", "a", "whole"): 1, ("chat", "b", "whole"): 1}


def test_a_plan_that_is_none_is_refused():
    problem, answer = planned(0)
    with pytest.raises(ValueError, match="no plan to round: infeasible"):
        replicas_round(problem, replace(answer, status="infeasible"))


# --- by brute force ---------------------------------------------------------------------------------------------------
def best_unserved(capacity, demand, per_host):
    """Return the least unserved with whole replicas of services in places of so many hosts, by trying all. [tok/s]"""
    options = []
    for place in capacity:
        most = [range(int(place * per_host[name]) + 1) for name in demand]
        options.append(
            [
                one
                for one in itertools.product(*most)
                if sum(n / per_host[m] for n, m in zip(one, demand, strict=True)) <= place + 1e-9
            ]
        )
    best = math.inf
    for chosen in itertools.product(*options):
        served = [sum(one[at] for one in chosen) * 100 / per_host[name] for at, name in enumerate(demand)]
        best = min(best, sum(max(0.0, d - s) for d, s in zip(demand.values(), served, strict=True)))
    return best


def rounded_and_best(demand, per_host):
    """Return what goes unserved of two services in two places once rounded, and in the best rounding. [tok/s]"""
    rates = [RateValues(name, "gpu", 100.0, "whole", per_host[name]) for name in demand]
    services = tuple(ServiceValues(name, "r", (tok_s,), penalty_per_mtok=90.0) for name, tok_s in demand.items())
    standing = (StandingValues("a", "gpu", (2.0,)), StandingValues("b", "gpu", (2.0,)))
    problem = hand_fleet(periods=("2027-01",), services=services, rates=tuple(rates), standing=standing, deliveries=())
    answer = plan_migration(problem)
    left = {name: demand[name] - sum(row.tok_s for row in answer.short if row.service == name) for name in demand}
    unserved = sum(row.tok_s for row in replicas_round(problem, answer).unserved)
    return unserved, best_unserved([row.kept for row in answer.hosts], left, per_host)


@pytest.mark.parametrize("chat", [110.0, 135.0, 160.0])
@pytest.mark.parametrize("code", [60.0, 95.0, 120.0])
@pytest.mark.parametrize("each", [(1.0, 1.0), (2.0, 1.0), (2.0, 2.0)])
def test_no_more_goes_unserved_than_in_the_best_rounding(chat, code, each):
    unserved, best = rounded_and_best({"chat": chat, "code": code}, dict(zip(("chat", "code"), each, strict=True)))
    assert unserved == pytest.approx(best, abs=1e-6)


@pytest.mark.parametrize("chat", [110.0, 135.0, 160.0])
@pytest.mark.parametrize("code", [60.0, 95.0, 120.0])
def test_with_replicas_of_two_hosts_no_more_than_one_replica_is_lost(chat, code):
    unserved, best = rounded_and_best({"chat": chat, "code": code}, {"chat": 1.0, "code": 0.5})
    assert best - 1e-6 <= unserved <= best + 2 * 100


# --- of every plan ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_replicas_of_a_drawn_plan_fit_and_carry_their_loads(seed):
    problem, answer = planned(seed)
    rounded = replicas_round(problem, answer)
    hosts = {(row.period, row.place, row.kind): row.kept + row.new for row in rounded.answer.hosts}
    per_host = {(one.service, one.kind, one.phase): one.replicas_per_host for one in problem.rates}
    stands = dict.fromkeys(hosts, 0.0)
    for row in rounded.answer.loads:
        filled = row.serving_hosts + row.shadow_hosts + row.reserve_hosts
        room = row.replicas / per_host[row.service, row.kind, row.phase]
        assert filled <= room + 1e-5
        assert filled > room - 1 / per_host[row.service, row.kind, row.phase] - 1e-5
        stands[row.period, row.place, row.kind] += room
    assert all(stands[key] <= hosts[key] + 1e-5 for key in hosts)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_rounded_plan_keeps_all_but_what_it_says(seed):
    problem, answer = planned(seed)
    rounded = replicas_round(problem, answer)
    said = {row.sentence for row in rounded.missed}
    must = {(row.period, row.service) for row in rounded.unserved}
    for row in requirements_missed(problem, rounded.answer):
        assert row.sentence in said or (row.requirement == "demand" and (row.period, row.subject) in must)
    sentences = {row.sentence for row in requirements_missed(problem, rounded.answer)}
    assert [one for one in reconcile(problem, rounded.answer) if one not in sentences] == []
    assert {row.requirement for row in rounded.missed} <= {"shadow", "floor"}


@pytest.mark.parametrize("seed", SEEDS)
def test_the_price_of_rounding_adds_up(seed):
    problem, answer = planned(seed)
    rounded = replicas_round(problem, answer)
    before = sum(row.tok_s for row in answer.short if not row.domain)
    after = sum(row.tok_s for row in rounded.answer.short if not row.domain)
    assert after - before == pytest.approx(sum(row.tok_s for row in rounded.unserved), abs=1e-6)
    assert all(row.tok_s > 0 for row in rounded.unserved)
    cost = sum(row.discounted for row in answer.money) + rounded.money
    assert rounded.answer.solver.objective == pytest.approx(cost)
    assert rounded.answer.hosts == answer.hosts
    assert rounded.answer.opened == answer.opened
    assert rounded.answer.failover == answer.failover


def test_rounding_twice_changes_nothing_and_is_always_alike():
    problem, answer = planned(3)
    once = replicas_round(problem, answer)
    assert replicas_round(problem, answer) == once
    twice = replicas_round(problem, once.answer)
    assert twice.unserved == ()
    assert [row.replicas for row in twice.answer.loads] == [row.replicas for row in once.answer.loads]


def test_rates_that_are_not_rounded_leave_the_plan_as_it_is():
    problem = drawn_fleet(7, rounded=False)
    answer = plan_migration(problem)
    rounded = replicas_round(problem, answer)
    assert rounded.answer.loads == answer.loads
    assert rounded.added == rounded.unserved == ()
    assert rounded.money == pytest.approx(0.0, abs=1e-6)


def test_a_floor_that_whole_replicas_cannot_keep_is_said():
    problem = hand_fleet(
        periods=("2027-01",),
        services=(ServiceValues("chat", "r", (100.0,), penalty_per_mtok=90.0),),
        rates=(RateValues("chat", "gpu", 100.0, "whole", 1.0), RateValues("chat", "own", 80.0, "whole", 0.5)),
        standing=(StandingValues("a", "gpu", (6.0,)),),
        deliveries=(DeliveryValues("north", "own", 0, 1),),
        floors=(FloorValues(0.4),),
        rules=RuleValues(reserve_ratio=0.0),
    )
    rounded = replicas_round(problem, plan_migration(problem))  # a replica needs two hosts, one has come
    assert [(row.requirement, round(row.missing)) for row in rounded.missed] == [("floor", 40)]
    assert rounded.unserved == ()  # GPUs serve it
