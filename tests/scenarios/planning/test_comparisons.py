"""Doing nothing, the rule that people use, the curve of share over cost, and plans beside each other."""

from dataclasses import replace
from functools import cache

import pytest

from scenarios.planning import comparisons
from scenarios.planning.comparisons import (
    MostShare,
    binds,
    compare,
    homegrown_ratio,
    pareto,
    pareto_point,
    plan_nothing,
    share_most,
    shares_asked,
)
from scenarios.planning.greedy import plan_greedy
from scenarios.planning.measures import Inputs, measures
from scenarios.planning.migration import plan_migration
from scenarios.planning.plan import NO_PLAN, MigrationAnswer, SolverNote
from scenarios.planning.problem import (
    DeliveryValues,
    DomainValues,
    FloorValues,
    LimitValues,
    LostValues,
    OfferValues,
    RateValues,
    RuleValues,
    ServiceValues,
    StandingValues,
    UseValues,
)
from scenarios.planning.reconciling import reconcile, requirements_missed
from tests.scenarios.planning.fleets import GPU, OWN, drawn_fleet, hand_fleet

SEEDS = (0, 3, 5, 6, 11, 18)


@cache
def planned(seed):
    problem = drawn_fleet(seed)
    return problem, plan_migration(problem)


def opened(answer):
    return [(row.period, row.service, row.phase) for row in answer.opened]


def hosts(answer, period, kind):
    return sum(row.kept + row.new for row in answer.hosts if (row.period, row.kind) == (period, kind))


# --- nothing ----------------------------------------------------------------------------------------------------------
def test_doing_nothing_keeps_gpus_and_racks_nothing():
    answer = plan_nothing(hand_fleet())
    assert {(row.kind, row.kept, row.new) for row in answer.hosts} == {("gpu", 6, 0)}
    assert answer.opened == answer.bought == ()


def test_demand_that_does_not_fit_is_short_with_or_without_a_penalty():
    service = ServiceValues("chat", "r", demand_tok_s=(800.0, 1500.0))
    for penalty in (None, 90.0):
        problem = hand_fleet(services=(replace(service, penalty_per_mtok=penalty, mean_ratio=0.01),))
        answer = plan_nothing(problem)
        short = {row.period: row.tok_s for row in answer.short}
        assert short[1] == pytest.approx(1500 - 12 * 100, abs=0.01)
        assert answer.money[1].penalty == pytest.approx((penalty or 0.0) * short[1] * 0.01 * 3600 * 730.5 / 1e6)
    assert {row.requirement for row in requirements_missed(problem, answer)} == set()


def test_floors_and_failover_do_not_apply_to_nothing_but_are_missed():
    problem = hand_fleet(
        services=(ServiceValues("chat", "r", demand_tok_s=(800.0,), tier="gold"),),
        floors=(FloorValues(0.25, period=1),),
        domains=(DomainValues("hall a", (LostValues("a"),)),),
    )
    missed = {(row.requirement, row.period): row.missing for row in requirements_missed(problem, plan_nothing(problem))}
    assert missed["floor", 1] == pytest.approx(200.0)
    assert missed["failover", 0] == pytest.approx(200.0, abs=0.01)  # 600 of 800 survive


def test_nobody_moves_beyond_what_had_moved():
    problem = hand_fleet(
        services=(ServiceValues("chat", "r", demand_tok_s=(800.0,), homegrown_ratio=0.25, penalty_per_mtok=90.0),),
        rates=(RateValues("chat", "gpu", 100.0), RateValues("chat", "own", 80.0, in_use=True)),
        standing=(StandingValues("a", "gpu", (4.0,)), StandingValues("b", "own", (10.0,))),
    )
    answer = plan_nothing(problem)
    assert homegrown_ratio(problem, answer) == pytest.approx(0.25, abs=1e-5)
    assert sum(row.tok_s for row in answer.short if row.period == 0) == pytest.approx(200.0, abs=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_doing_nothing_reconciles_but_for_what_does_not_apply(seed):
    problem = drawn_fleet(seed)
    answer = plan_nothing(problem)
    missed = requirements_missed(problem, answer)
    assert {row.requirement for row in missed} <= {"floor", "failover", "demand", "limit"}
    assert set(reconcile(problem, answer)) == {row.sentence for row in missed}


# --- the rule ---------------------------------------------------------------------------------------------------------
def test_the_way_that_frees_most_gpu_hosts_opens_first():
    problem = hand_fleet(
        services=tuple(ServiceValues(name, "r", (400.0,), penalty_per_mtok=90.0) for name in ("chat", "code")),
        rates=(
            RateValues("chat", "gpu", 100.0),
            RateValues("chat", "own", 80.0),
            RateValues("code", "gpu", 50.0),
            RateValues("code", "own", 60.0),  # 1.2 GPU hosts for one of ours; chat: 0.8
        ),
        rules=RuleValues(reserve_ratio=0.0, waves_most=1),
    )
    assert opened(plan_greedy(problem)) == [(0, "code", "whole"), (1, "chat", "whole")]


def test_no_way_opens_that_has_no_hosts():
    problem = hand_fleet(deliveries=(DeliveryValues("north", "own", 1, 12),))
    assert opened(plan_greedy(problem)) == [(1, "chat", "whole")]


def test_copies_come_a_period_before():
    problem = hand_fleet(rules=RuleValues(reserve_ratio=0.0, shadow_ratio=0.1, shadow_periods=1))
    answer = plan_greedy(problem)
    assert opened(answer) == [(1, "chat", "whole")]
    assert sum(row.shadow_hosts for row in answer.loads) == pytest.approx(0.1 * 800 / 80)


def test_gpus_go_only_where_hosts_that_wait_need_their_room():
    limit = LimitValues("rows", (20.0,), tuple(UseValues(p, k, 1.0) for p in "ab" for k in ("gpu", "own")), unit="U")
    roomy = plan_greedy(hand_fleet(limits=(replace(limit, limit=(24.0,)),)))
    assert hosts(roomy, 1, "gpu") == 12
    tight = plan_greedy(hand_fleet(limits=(limit,)))  # 12 GPUs stand, 12 of ours come, there is room for 20
    assert (hosts(tight, 1, "gpu"), hosts(tight, 1, "own")) == (8, 12)


def test_gpus_that_serve_do_not_go():
    limit = LimitValues("rows", (14.0,), tuple(UseValues(p, k, 1.0) for p in "ab" for k in ("gpu", "own")), unit="U")
    stays = ServiceValues("chat", "r", demand_tok_s=(1150.0,), stays=True, penalty_per_mtok=90.0)
    answer = plan_greedy(hand_fleet(limits=(limit,), services=(stays,)))
    assert (hosts(answer, 1, "gpu"), hosts(answer, 1, "own")) == (12, 2)


def test_hosts_are_bought_only_when_tokens_would_go_unserved():
    offers = (OfferValues("gpu", 0, 9),)
    grows = ServiceValues("chat", "r", demand_tok_s=(800.0, 1430.0), penalty_per_mtok=9.0, stays=True)
    answer = plan_greedy(hand_fleet(services=(grows,), offers=offers))
    assert [(row.period, row.kind, round(row.hosts, 6)) for row in answer.bought] == [(1, "gpu", 3.0)]
    assert sum(row.tok_s for row in answer.short) == pytest.approx(0.0, abs=0.01)


@pytest.mark.parametrize("seed", SEEDS)
def test_the_rule_keeps_all_but_floors_and_demand(seed):
    problem, best = planned(seed)
    answer = plan_greedy(problem)
    missed = requirements_missed(problem, answer)
    assert {row.requirement for row in missed} <= {"floor", "failover", "demand"}
    assert set(reconcile(problem, answer)) == {row.sentence for row in missed}
    if not missed:  # a plan of the same problem: none is below the bound of the best
        assert answer.solver.objective >= best.solver.bound - 1e-6 * abs(best.solver.bound)


def test_the_rule_is_always_alike():
    problem = drawn_fleet(3)
    assert plan_greedy(problem) == plan_greedy(problem)


# --- beside each other ------------------------------------------------------------------------------------------------
def test_differences_by_item_add_up_to_what_a_plan_costs_more():
    problem, best = planned(3)
    problem = replace(problem, rules=replace(problem.rules, discount_ratio_year=0.0))
    best = plan_migration(problem)
    rows = compare(problem, {"best": best, "rule": plan_greedy(problem), "nothing": plan_nothing(problem)})
    assert [row.name for row in rows] == ["best", "rule", "nothing"]
    assert rows[0].more == rows[0].homegrown_more_ratio == rows[0].waves_more == 0
    for row in rows:
        assert sum(amount for _item, amount in row.items) == pytest.approx(row.more, abs=0.01)
        assert row.objective == pytest.approx(rows[0].objective + row.more)
        assert row.homegrown_ratio == pytest.approx(rows[0].homegrown_ratio + row.homegrown_more_ratio)
    assert rows[2].waves == 0


def test_an_answer_without_a_plan_compares_as_unknown():
    problem = hand_fleet(floors=(FloorValues(1.0, period=0),), deliveries=())
    impossible = plan_migration(problem)
    rows = compare(problem, {"nothing": plan_nothing(problem), "plan": impossible})
    assert rows[1].objective is None
    assert rows[1].more is None


def test_safety_costs_the_energy_of_copies_and_what_waits_for_them():
    rules = RuleValues(reserve_ratio=0.0, shadow_ratio=0.1, shadow_periods=1)
    problem = hand_fleet(floors=(FloorValues(0.5, period=1),), rules=rules)
    answer = plan_migration(problem)
    copies = sum(row.shadow_hosts for row in answer.loads)
    assert copies == pytest.approx(1.0)
    bare = replace(problem, rules=RuleValues(reserve_ratio=0.0))
    bare_cost = plan_migration(bare).solver.objective
    found = {row.name: row.value for row in measures(problem, answer, Inputs(bare_cost=bare_cost)) if not row.period}
    assert found["safety_cost"] == pytest.approx(answer.solver.objective - bare_cost)
    assert found["safety_cost"] > 0


# --- share over cost --------------------------------------------------------------------------------------------------
def test_the_curve_goes_from_no_floor_to_the_most_and_then_conflicts():
    # eight of our hosts come: 640 of 800 tok/s, so 80 % is the most
    gpu, own = replace(GPU, idle_w=0.0), replace(OWN, idle_w=0.0, power_w=9_000.0)  # ours cost more energy a token
    problem = hand_fleet(
        kinds=(gpu, own),
        deliveries=(DeliveryValues("north", "own", 0, 8),),
        services=(ServiceValues("chat", "r", demand_tok_s=(800.0,), mean_ratio=0.5, penalty_per_mtok=90.0),),
    )
    curve = pareto(problem, 3)
    assert [point.status for point in curve] == ["optimal", "optimal", "optimal", "infeasible"]
    assert [point.asked_ratio for point in curve[1:3]] == [pytest.approx(0.4, abs=1e-3), pytest.approx(0.8, abs=1e-3)]
    assert curve[0].reached_ratio == pytest.approx(0.0, abs=1e-6)
    costs = [point.objective for point in curve[:3]]
    assert costs == sorted(costs)
    assert all(point.reached_ratio >= point.asked_ratio - 1e-6 for point in curve[1:3])
    assert {row.requirement for row in curve[3].conflict} >= {"floor", "supply"}
    assert share_most(problem).share_ratio == pytest.approx(0.8)
    assert curve[2].binds == ("homegrown tokens are at least 80% from 2027-02",)


def test_what_binds_is_named_by_what_one_more_would_save():
    problem = hand_fleet(  # ours are cheaper, four come
        deliveries=(DeliveryValues("north", "own", 0, 4),),
        services=(ServiceValues("chat", "r", demand_tok_s=(800.0,), mean_ratio=0.5, penalty_per_mtok=90.0),),
        rules=RuleValues(reserve_ratio=0.0, waves_most=1),
    )
    assert binds(problem, plan_migration(problem)) == (
        "new own are no more than are delivered or bought",
        "no more kinds open in a period than may",
    )


def test_a_point_of_the_curve_costs_what_its_share_does():
    # one more host of ours moves 80 tok/s and 0.8 GPU hosts: energy 4500 W against 0.8 x 5000 W, at the mean
    gpu, own = replace(GPU, idle_w=0.0), replace(OWN, idle_w=0.0, power_w=9_000.0)
    problem = hand_fleet(
        kinds=(gpu, own),
        rates=(RateValues("chat", "gpu", 100.0), RateValues("chat", "own", 80.0)),
        services=(ServiceValues("chat", "r", demand_tok_s=(800.0,), mean_ratio=0.5, penalty_per_mtok=90.0),),
    )
    curve = pareto(problem, 2)
    more_w = curve[-1].reached_ratio * 800 * (4_500 / 80 - 5_000 / 100)
    assert curve[-1].objective - curve[0].objective == pytest.approx(more_w * 730.5 * 1.5 * 0.5 / 1000, rel=1e-6)


def test_everything_possible_has_no_point_beyond():
    curve = pareto(hand_fleet(), 2)
    assert curve[-1].status == "optimal"
    assert curve[-1].reached_ratio == pytest.approx(1.0, abs=1e-3)


def test_a_curve_needs_two_points():
    with pytest.raises(ValueError, match="two points, not 1"):
        pareto(hand_fleet(), 1)


def test_a_problem_without_a_plan_has_one_point():
    problem = hand_fleet(services=(ServiceValues("chat", "r", demand_tok_s=(9_000.0,)),))
    curve = pareto(problem, 4)
    assert [(point.status, bool(point.conflict)) for point in curve] == [("infeasible", True)]


def test_a_curve_asks_in_even_steps_and_once_beyond():
    most = MostShare(0.8, 0.85, None)
    assert shares_asked(0.2, most, 4) == pytest.approx((0.4, 0.6, 0.8, 1.0), abs=2e-4)
    assert shares_asked(0.8, most, 4) == pytest.approx((0.86,))  # nothing more is possible than there is
    assert shares_asked(0.0, MostShare(1.0, 1.0, None), 2) == pytest.approx((1.0,), abs=2e-4)


def test_where_a_search_ends_without_a_plan_the_one_of_the_largest_share_is_gone_on_from(monkeypatch):
    problem = hand_fleet(deliveries=(DeliveryValues("north", "own", 0, 8),))
    best = pareto_point(problem, 0.5)
    none = MigrationAnswer(status=NO_PLAN, solver=SolverNote("", "time is up", None, None, None, ""))
    monkeypatch.setattr(comparisons, "plan_migration", lambda *_args, **_kwargs: none)
    assert pareto_point(problem, 0.5).status == NO_PLAN
    point = pareto_point(problem, 0.5, most=share_most(problem))
    assert point.reached_ratio >= 0.5 - 1e-6
    assert point.objective == pytest.approx(best.objective, rel=1e-3)
    asked = replace(problem, floors=(FloorValues(0.5, period=1),))
    assert reconcile(asked, point.answer) == []
