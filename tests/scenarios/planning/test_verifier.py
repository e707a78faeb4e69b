"""The verifier accepts right plans and catches each thing that can be wrong with one."""

import math
from dataclasses import replace
from functools import cache

import pytest

from scenarios.planning.plan import FEASIBLE, INFEASIBLE, LoadRow, MigrationAnswer, OpenRow, ShortRow, SolverNote
from scenarios.planning.problem import (
    DECODE,
    PREFILL,
    FloorValues,
    KindValues,
    OrderValues,
    PlanProblem,
    RateValues,
    RuleValues,
    ServiceValues,
    SiteValues,
    StandingValues,
)
from tests.scenarios.planning.oracle import oracle_answer
from tests.scenarios.planning.problems import random_problem
from tests.scenarios.planning.verifier import ITEMS, Plan, verify

SEEDS = range(20_000, 20_400)
CASES_MOST = 5  # of one kind: each is caught, or the test fails


@cache
def plans() -> tuple[tuple[PlanProblem, MigrationAnswer], ...]:
    """Problems with a best plan each."""
    pairs = [(problem, oracle_answer(problem)) for problem in map(random_problem, SEEDS)]
    return tuple((problem, answer) for problem, answer in pairs if answer.is_plan)


def with_row(answer, table, at, **changes):
    rows = list(getattr(answer, table))
    rows[at] = replace(rows[at], **changes)
    return replace(answer, **{table: tuple(rows)})


def without_row(answer, table, at):
    rows = getattr(answer, table)
    return replace(answer, **{table: rows[:at] + rows[at + 1 :]})


def with_rules(problem, **changes):
    return replace(problem, rules=replace(problem.rules, **changes))


def first(answer, table, meets):
    """Position of the first row that meets a condition; nothing if none does."""
    return next((at for at, row in enumerate(getattr(answer, table)) if meets(row)), None)


def is_homegrown(problem, row):
    return any(kind.slug == row.kind and kind.homegrown for kind in problem.kinds)


# Each takes a right pair of problem and answer and returns one that is wrong in one way, or nothing if it has no such
# thing. Some break the answer, others a rule that the answer then breaks.
BREAKS = {}


def breaks(sentence):
    """Register what breaks a plan, with the start of the sentence that must say so."""

    def register(function):
        BREAKS[function.__name__] = (sentence, function)
        return function

    return register


def changed_load(change, meets=lambda problem, row: True):
    def apply(problem, answer):
        at = first(answer, "loads", lambda row: meets(problem, row))
        return None if at is None else (problem, with_row(answer, "loads", at, **change(answer.loads[at])))

    return apply


@breaks("demand")
def traffic_is_not_carried(problem, answer):
    change = changed_load(
        lambda row: {"serving_hosts": row.serving_hosts * 0.99}, lambda _, row: row.serving_hosts > 0.1
    )
    return change(problem, answer)


@breaks("demand")
def more_is_carried_than_there_is(problem, answer):
    change = changed_load(
        lambda row: {"serving_hosts": row.serving_hosts * 1.01}, lambda _, row: row.serving_hosts > 0.1
    )
    return change(problem, answer)


@breaks("demand")
def a_load_is_forgotten(problem, answer):
    at = first(answer, "loads", lambda row: row.serving_hosts > 0.1)
    return None if at is None else (problem, without_row(answer, "loads", at))


@breaks("region")
def a_service_is_served_elsewhere(problem, answer):
    plan = Plan(problem, answer)
    for at, row in enumerate(answer.loads):
        for place, region in plan.region_of.items():
            if region != plan.region_of[row.place]:
                return problem, with_row(answer, "loads", at, place=place)
    return None


@breaks("one site")
def a_prompt_is_read_at_another_site(problem, answer):
    plan = Plan(problem, answer)
    for at, row in enumerate(answer.loads):
        for place, site in plan.site_of.items():
            same_region = plan.region_of[place] == plan.region_of[row.place]
            if same_region and site != plan.site_of[row.place] and row.phase in {PREFILL, DECODE}:
                taken = {(one.period, one.service, one.place, one.kind, one.phase) for one in answer.loads}
                if row.serving_hosts > 0.01 and (row.period, row.service, place, row.kind, row.phase) not in taken:
                    return problem, with_row(answer, "loads", at, place=place)
    return None


@breaks("unserved")
def what_must_be_served_is_not(problem, answer):
    row = first(answer, "short", lambda row: not row.domain and row.tok_s > 0.1)
    if row is None:
        return None
    name = answer.short[row].service
    services = (replace(one, penalty_per_mtok=None) if one.slug == name else one for one in problem.services)
    return replace(problem, services=tuple(services)), answer


@breaks("unserved")
def more_is_unserved_than_demanded(problem, answer):
    at = first(answer, "short", lambda row: not row.domain)
    return None if at is None else (problem, with_row(answer, "short", at, tok_s=1e5))


@breaks("capacity")
def hosts_are_fuller_than_they_are(problem, answer):
    change = changed_load(lambda row: {"reserve_hosts": 99.0}, lambda p, row: not is_homegrown(p, row))
    return change(problem, answer)


@breaks("capacity")
def the_reserve_for_bursts_is_used(problem, answer):
    return with_rules(problem, reserve_ratio=0.95), answer


@breaks("reserve")
def traffic_may_return_to_what_is_no_gpu(problem, answer):
    return changed_load(lambda row: {"reserve_hosts": 0.1}, is_homegrown)(problem, answer)


@breaks("shadow")
def a_gpu_has_copies(problem, answer):
    return changed_load(lambda row: {"shadow_hosts": 0.1}, lambda p, row: not is_homegrown(p, row))(problem, answer)


@breaks("homegrown_from")
def a_service_is_late_to_leave(problem, answer):
    at = first(answer, "loads", lambda row: row.serving_hosts > 0.1 and not is_homegrown(problem, row))
    if at is None:
        return None
    name = answer.loads[at].service
    services = (
        replace(one, homegrown_from=answer.loads[at].period, stays=False) if one.slug == name else one
        for one in problem.services
    )
    return replace(problem, services=tuple(services)), answer


@breaks("loads")
def a_service_that_stays_moves(problem, answer):
    at = first(answer, "loads", lambda row: is_homegrown(problem, row))
    if at is None:
        return None
    name = answer.loads[at].service
    services = (replace(one, stays=True) if one.slug == name else one for one in problem.services)
    return replace(problem, services=tuple(services)), answer


@breaks("loads")
def phases_are_split_where_they_may_not(problem, answer):
    at = first(answer, "loads", lambda row: row.phase != "whole")
    return None if at is None else (with_rules(problem, split=False), answer)


@breaks("ready")
def a_way_opens_before_it_is_ready(problem, answer):
    if not answer.opened:
        return None
    way = answer.opened[0]
    rates = (
        replace(one, ready=way.period + 1)
        if (one.service, one.kind, one.phase) == (way.service, way.kind, way.phase)
        else one
        for one in problem.rates
    )
    return replace(problem, rates=tuple(rates)), answer


@breaks("open")
def a_way_serves_before_it_is_open(problem, answer):
    plan = Plan(problem, answer)
    for at, way in enumerate(answer.opened):
        key = (way.service, way.kind, way.phase)
        if any((load.service, load.kind, load.phase) == key and load.serving_hosts > 0.1 for load in answer.loads):
            assert not plan.rates[key].in_use
            return problem, without_row(answer, "opened", at)
    return None


@breaks("opened")
def a_way_opens_that_was_in_use(problem, answer):
    for rate in problem.rates:
        way = (rate.service, rate.kind, rate.phase)
        if rate.in_use and way in Plan(problem, answer).ways:
            return problem, replace(answer, opened=(*answer.opened, OpenRow(0, *way)))
    return None


@breaks("opened")
def gpus_open(problem, answer):
    load = next((row for row in answer.loads if not is_homegrown(problem, row)), None)
    if load is None:
        return None
    return problem, replace(answer, opened=(*answer.opened, OpenRow(0, load.service, load.kind, load.phase)))


@breaks("shadow")
def copies_are_forgotten(problem, answer):
    return changed_load(lambda row: {"shadow_hosts": 0.0}, lambda _, row: row.shadow_hosts > 0.01)(problem, answer)


@breaks("shadow")
def no_copies_could_run_before(problem, answer):
    if not answer.opened:
        return None
    return with_rules(problem, shadow_ratio=0.5, shadow_periods=answer.opened[0].period + 1), answer


@breaks("rollback")
def nothing_is_held_for_what_may_return(problem, answer):
    return changed_load(lambda row: {"reserve_hosts": 0.0}, lambda _, row: row.reserve_hosts > 0.01)(problem, answer)


@breaks("supply")
def hosts_stand_that_never_came(problem, answer):
    at = first(answer, "hosts", lambda row: row.period == len(problem.periods) - 1)
    return None if at is None else (problem, with_row(answer, "hosts", at, new=answer.hosts[at].new + 9))


@breaks("supply")
def a_purchase_is_forgotten(problem, answer):
    at = first(answer, "bought", lambda row: row.hosts > 0.1)
    return None if at is None else (problem, without_row(answer, "bought", at))


@breaks("offers")
def more_is_bought_than_is_offered(problem, answer):
    at = first(answer, "bought", lambda row: True)
    return None if at is None else (problem, with_row(answer, "bought", at, hosts=99.0))


@breaks("offers")
def a_site_buys_what_is_offered_to_another(problem, answer):
    at = first(answer, "bought", lambda row: row.hosts > 0.1)
    other = next((one.slug for one in problem.sites if answer.bought and one.slug != answer.bought[at].site), None)
    if other is None:
        return None
    offers = tuple(replace(one, site=other) for one in problem.offers)
    return replace(problem, offers=offers), answer


@breaks("offers")
def free_offers_are_used_twice(problem, answer):
    sold = {(row.kind, row.site): row for row in answer.bought if row.hosts > 0.1}
    for (kind, site), row in sold.items():
        others = [one.slug for one in problem.sites if one.slug != site and (kind, one.slug) not in sold]
        own = any(one.kind == kind and one.site for one in problem.offers)
        if others and not own:
            free = sum(one.hosts for one in problem.offers if one.kind == kind)
            twice = replace(row, site=others[0], hosts=float(free), period=len(problem.periods) - 1)
            return problem, replace(answer, bought=(*answer.bought, twice))
    return None


@breaks("kept")
def more_is_kept_than_stands(problem, answer):
    return (problem, with_row(answer, "hosts", 0, kept=answer.hosts[0].kept + 9)) if answer.hosts else None


@breaks("kept")
def hosts_come_back(problem, answer):
    plan = Plan(problem, answer)
    for at, row in enumerate(answer.hosts):
        key = (row.place, row.kind)
        steady = row.period and plan.stand(*key, row.period - 1) == plan.stand(*key, row.period)
        if steady and plan.kept[(*key, row.period - 1)] == row.kept < plan.stand(*key, row.period):
            return problem, with_row(answer, "hosts", at, kept=row.kept + 1)
    return None


@breaks("monotony")
def new_hosts_go_again(problem, answer):
    plan = Plan(problem, answer)
    for at, row in enumerate(answer.hosts):
        if row.period and row.new and plan.new[row.place, row.kind, row.period - 1] == row.new:
            return problem, with_row(answer, "hosts", at, new=row.new - 1)
    return None


@breaks("hosts")
def hosts_are_cut_in_half(problem, answer):
    return (problem, with_row(answer, "hosts", 0, kept=answer.hosts[0].kept - 0.5)) if answer.hosts else None


@breaks("hosts")
def fewer_than_no_hosts(problem, answer):
    return (problem, with_row(answer, "hosts", 0, kept=-1)) if answer.hosts else None


@breaks("loads")
def less_than_no_load(problem, answer):
    return (problem, with_row(answer, "loads", 0, serving_hosts=-0.5)) if answer.loads else None


@breaks("limit:")
def a_limit_is_broken(problem, answer):
    at = first(answer, "limits", lambda row: row.used > 0)
    if at is None:
        return None
    row = answer.limits[at]
    limits = (replace(one, limit=(row.used * 0.99,)) if one.slug == row.slug else one for one in problem.limits)
    return replace(problem, limits=tuple(limits)), answer


@breaks("limit rows")
def what_a_limit_row_says_is_wrong(problem, answer):
    at = first(answer, "limits", lambda row: row.used > 0)
    return None if at is None else (problem, with_row(answer, "limits", at, used=answer.limits[at].used + 1))


@breaks("limit rows")
def a_limit_row_has_another_limit(problem, answer):
    return (problem, with_row(answer, "limits", 0, limit=answer.limits[0].limit + 1)) if answer.limits else None


@breaks("limit rows")
def a_limit_row_is_forgotten(problem, answer):
    at = first(answer, "limits", lambda row: row.used > 0)
    return None if at is None else (problem, without_row(answer, "limits", at))


@breaks("waves")
def more_opens_than_may(problem, answer):
    return (with_rules(problem, waves_most=0), answer) if answer.opened else None


@breaks("order")
def one_does_not_wait_for_the_other(problem, answer):
    opened = {row.service for row in answer.opened} | {rate.service for rate in problem.rates if rate.in_use}
    others = [one.slug for one in problem.services if one.slug not in opened]
    if not answer.opened or not others:
        return None
    return replace(problem, order=(OrderValues(others[0], answer.opened[0].service),)), answer


@breaks("ramp")
def too_much_moves_at_once(problem, answer):
    services = tuple(replace(one, homegrown_ratio=0.0) for one in problem.services)
    moved = changed_load(lambda row: {}, lambda p, row: is_homegrown(p, row) and row.serving_hosts > 0.1)
    return (
        None
        if moved(problem, answer) is None
        else (
            with_rules(replace(problem, services=services), ramp_ratio=0.0),
            answer,
        )
    )


@breaks("floor")
def a_floor_is_missed(problem, answer):
    gpu = first(answer, "loads", lambda row: row.serving_hosts > 0.1 and not is_homegrown(problem, row))
    return None if gpu is None else (replace(problem, floors=(FloorValues(1.0),)), answer)


@breaks("failover")
def a_loss_is_not_survived(problem, answer):
    at = first(answer, "failover", lambda row: row.hosts > 0.1)
    return None if at is None else (problem, with_row(answer, "failover", at, hosts=answer.failover[at].hosts * 0.9))


@breaks("failover")
def what_is_lost_serves(problem, answer):
    if not any(row.hosts > 0.1 for row in answer.failover):
        return None
    slugs = {row.domain for row in answer.failover if row.hosts > 0.1}
    plan = Plan(problem, answer)
    domains = tuple(
        replace(one, lost=tuple(replace(one.lost[0], place=place, ratio=1.0) for place in plan.site_of))
        if one.slug in slugs
        else one
        for one in problem.domains
    )
    return replace(problem, domains=domains), answer


@breaks("failover")
def what_would_not_survive_is_not_said(problem, answer):
    at = first(answer, "short", lambda row: row.domain and row.tok_s > 0.1)
    return None if at is None else (problem, without_row(answer, "short", at))


@breaks("failover")
def all_must_survive(problem, answer):
    at = first(answer, "short", lambda row: row.domain and row.tok_s > 0.1)
    return None if at is None else (with_rules(problem, failover_penalty_per_mtok=None), answer)


@breaks("failover")
def a_closed_way_serves_after_a_loss(problem, answer):
    for row in answer.failover:
        for at, way in enumerate(answer.opened):
            if (way.service, way.kind, way.phase) == (row.service, row.kind, row.phase) and row.hosts > 0.1:
                return problem, without_row(answer, "opened", at)
    return None


@breaks("failover")
def another_tier_is_protected(problem, answer):
    services = tuple(replace(one, tier="batch") for one in problem.services)
    return (replace(problem, services=services), answer) if answer.failover else None


for item in (*ITEMS, "total", "discounted"):

    def money_is_wrong(problem, answer, item=item):
        row = answer.money[-1]
        return problem, with_row(answer, "money", len(answer.money) - 1, **{item: getattr(row, item) + 0.02})

    BREAKS[f"{item}_is_two_cents_off"] = (f"money: {item}", money_is_wrong)


@breaks("money")
def a_period_costs_nothing(problem, answer):
    at = first(answer, "money", lambda row: abs(row.total) > 1)
    return None if at is None else (problem, without_row(answer, "money", at))


def noted(answer, **changes):
    return replace(answer, solver=replace(answer.solver, **changes))


@breaks("solver: the objective")
def the_objective_is_two_cents_off(problem, answer):
    return problem, noted(answer, objective=answer.solver.objective + 0.02, bound=None, gap_ratio=0.0)


@breaks("solver: a plan has an objective")
def there_is_no_objective(problem, answer):
    return problem, noted(answer, objective=None)


@breaks("solver: the bound")
def the_bound_is_above_the_plan(problem, answer):
    return problem, noted(answer, bound=answer.solver.objective + 1)


@breaks("solver: a gap")
def the_gap_is_not_that_of_the_bound(problem, answer):
    return problem, replace(noted(answer, bound=answer.solver.objective - 5), status=FEASIBLE)


@breaks("solver: a gap")
def a_wide_gap_is_called_optimal(problem, answer):
    value = answer.solver.objective
    return (problem, noted(answer, bound=value / 2, gap_ratio=0.5)) if value > 1 else None


@breaks("solver: the clock")
def what_the_clock_ended_is_called_optimal(problem, answer):
    return problem, noted(answer, stopped_by_clock=True)


@breaks("hosts")
def an_unknown_place(problem, answer):
    return (problem, with_row(answer, "hosts", 0, place="nowhere")) if answer.hosts else None


@breaks("loads")
def a_period_after_the_horizon(problem, answer):
    return (problem, with_row(answer, "loads", 0, period=len(problem.periods))) if answer.loads else None


@breaks("loads")
def a_row_is_there_twice(problem, answer):
    return (problem, replace(answer, loads=(*answer.loads, answer.loads[0]))) if answer.loads else None


@breaks("money")
def a_figure_is_no_number(problem, answer):
    return problem, with_row(answer, "money", 0, energy=math.nan)


@breaks("there is no plan")
def it_is_infeasible_with_rows(problem, answer):
    return problem, replace(answer, status=INFEASIBLE)


@breaks("'great' is no status")
def it_has_no_status(problem, answer):
    return problem, replace(answer, status="great")


@pytest.mark.parametrize("name", BREAKS)
def test_it_catches(name):
    sentence, function = BREAKS[name]
    cases = []
    for problem, answer in plans():
        broken = function(problem, answer)
        if broken is not None:
            cases.append(broken)
        if len(cases) == CASES_MOST:
            break
    assert cases, "no plan has what this breaks"
    for problem, answer in cases:
        said = verify(problem, answer)
        assert [one for one in said if one.startswith(sentence)], (said, sentence)


def test_it_accepts_right_plans():
    said = {seed: verify(*pair) for seed, pair in enumerate(plans())}
    assert {seed: one for seed, one in said.items() if one} == {}
    assert len(said) > 150


def test_an_infeasible_problem_needs_no_rows():
    note = SolverNote("none", "infeasible", None, None, None, "npv")
    assert verify(plans()[0][0], MigrationAnswer(status=INFEASIBLE, solver=note)) == []


def rounded(loads, *, hosts):
    """One place with 2 replicas a host: 1.3 hosts of load are 3 replicas, on 2 hosts."""
    problem = PlanProblem(
        periods=("2027-01",),
        sites=(SiteValues("north", "cn"),),
        kinds=(KindValues("gpu", homegrown=False),),
        services=(ServiceValues("chat", "cn", (130.0,)),),
        rates=(RateValues("chat", "gpu", 100.0, replicas_per_host=2.0),),
        standing=(StandingValues("north", "gpu", (float(hosts),)),),
        rules=RuleValues(reserve_ratio=0.0),
    )
    answer = oracle_answer(problem)
    return verify(
        problem, replace(answer, loads=tuple(replace(answer.loads[0], **one) for one in loads)), whole_replicas=True
    )


def test_whole_replicas_fit_into_hosts():
    assert rounded([{"replicas": 3}], hosts=2) == []


@pytest.mark.parametrize(
    ("load", "sentence"),
    [
        ({"replicas": None}, "replicas: loads[0] is not rounded"),
        ({"replicas": 2}, "replicas: loads[0]: 2 replicas do not carry"),
        ({"replicas": 2.6}, "replicas: loads[0]: 2.6 is no count"),
        ({"replicas": 5}, "replicas: gpu in north"),
    ],
)
def test_replicas_that_are_wrong_are_caught(load, sentence):
    assert rounded([load], hosts=2)[0].startswith(sentence)


def test_rows_that_are_zero_may_be_there():
    problem, answer = plans()[0]
    load = answer.loads[0]
    other = next(
        rate
        for rate in problem.rates
        if (rate.service, rate.kind, rate.phase) in Plan(problem, answer).ways and rate.service == load.service
    )
    taken = {(row.period, row.service, row.place, row.kind, row.phase) for row in answer.loads}
    more = LoadRow(0, load.service, load.place, other.kind, other.phase, 0.0, 0.0, 0.0)
    if (0, load.service, load.place, other.kind, other.phase) not in taken:
        answer = replace(answer, loads=(*answer.loads, more))
    short = ShortRow(0, load.service, 0.0)
    if not any((row.period, row.service, row.domain) == (0, load.service, "") for row in answer.short):
        answer = replace(answer, short=(*answer.short, short))
    assert verify(problem, answer) == []
