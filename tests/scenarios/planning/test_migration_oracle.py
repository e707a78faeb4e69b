"""The migration planner against an independent oracle, on random small problems; and what must hold between problems.

At gap 0 the planner's cost is the oracle's to the cent, there is no plan exactly where the oracle finds none, and every
answer passes the verifier.
"""

from dataclasses import replace
from functools import cache

import pytest

from scenarios.planning.migration import plan_migration
from scenarios.planning.plan import INFEASIBLE, OPTIMAL
from scenarios.planning.problem import NPV, SHARE_FIRST, StandingValues
from tests.scenarios.planning.oracle import best_by_enumeration, cost_with_openings, cost_with_parts_of_hosts
from tests.scenarios.planning.problems import random_problem, renamed, side_by_side
from tests.scenarios.planning.verifier import verify

CENT = 0.01
PLAIN = range(300)
SHARES = range(300, 400)
LARGER = range(400, 430)
PAIRS = range(500, 580)


def expect_the_oracles_plan(problem):
    best, _ = best_by_enumeration(problem)
    answer = plan_migration(problem)
    if best is None:
        assert answer.status == INFEASIBLE
        assert verify(problem, answer) == []
        return
    assert answer.status == OPTIMAL
    assert verify(problem, answer) == []
    assert abs(answer.solver.objective - best) < CENT


@pytest.mark.parametrize("seed", PLAIN)
def test_the_cheapest_plan_is_the_oracles(seed):
    expect_the_oracles_plan(random_problem(seed, objective=NPV))


@pytest.mark.parametrize("seed", SHARES)
def test_the_plan_of_the_largest_share_is_the_oracles(seed):
    expect_the_oracles_plan(random_problem(seed, objective=SHARE_FIRST))


@pytest.mark.parametrize("seed", LARGER)
def test_larger_problems_have_the_oracles_plan_too(seed):
    expect_the_oracles_plan(random_problem(seed, periods=4, combinations_most=10**9))


GROUPS = ((700, 0.001), (900, 0.01))


def parts_of(first_seed):
    """Problems of the same periods and rules with what each costs at best; nothing where there is no plan."""
    rules = replace(random_problem(first_seed).rules, objective=NPV, waves_most=None, period_months=1.0)
    for seed in range(first_seed, first_seed + 60):
        problem = replace(random_problem(seed, periods=4), rules=rules)
        regions = {service.region for service in problem.services}
        floors = tuple(replace(one, region=one.region or min(regions)) for one in problem.floors)
        problem = replace(problem, floors=floors if len(regions) == 1 else ())
        yield problem, best_by_enumeration(problem)[0]


@pytest.mark.parametrize(("first_seed", "gap_ratio"), GROUPS)
def test_many_problems_side_by_side_cost_their_sum(first_seed, gap_ratio):
    """A program that is not small, whose best plan is known all the same."""
    pairs = [(problem, best) for problem, best in parts_of(first_seed) if best is not None]
    parts, total = [problem for problem, _ in pairs], sum(best for _, best in pairs)
    assert len(parts) > 20
    whole = side_by_side(parts)
    whole = replace(whole, solver=replace(whole.solver, gap_ratio=gap_ratio))
    answer = plan_migration(whole)
    assert verify(whole, answer) == []
    assert answer.status == OPTIMAL
    assert total - CENT <= answer.solver.objective <= total / (1 - gap_ratio) + CENT
    assert answer.solver.bound <= total + CENT


def test_one_problem_without_a_plan_beside_others_is_the_one_that_is_named():
    pairs = list(parts_of(700))
    good = [problem for problem, best in pairs if best is not None][:10]
    bad = [problem for problem, best in pairs if best is None][:5]
    assert (len(good), len(bad)) == (10, 5)
    for problem in bad:
        answer = plan_migration(side_by_side([*good, problem]))
        assert answer.status == INFEASIBLE
        assert answer.conflict
        subjects = " ".join(row.subject for row in answer.conflict)
        assert not any(f"-of-{at}" in f"{subjects} ".replace("-of-10", "") for at in range(10)), subjects


# --- what must hold between two problems -----------------------------------------------------------------------------


@cache
def cost(problem):
    """Of the best plan; nothing if there is none. [money]"""
    answer = plan_migration(problem)
    assert verify(problem, answer) == []
    return answer.solver.objective


def problems_with_a_plan(**options):
    for seed in PAIRS:
        problem = random_problem(seed, objective=NPV, **options)
        if cost(problem) is not None:
            yield problem


def test_one_more_host_that_stands_never_costs_more():
    """With no limit in its way: it may be given away in the first period for what it would have brought."""
    compared = 0
    for problem in problems_with_a_plan():
        free = replace(problem, limits=())
        before = cost(free)
        standing = {(row.place, row.kind): row.hosts for row in problem.standing}
        for place in [one.slug for one in problem.located][:1]:
            for kind in problem.kinds:
                hosts = {**standing, (place, kind.slug): tuple(n + 1 for n in standing.get((place, kind.slug), (0.0,)))}
                rows = tuple(StandingValues(*pair, series) for pair, series in hosts.items())
                assert cost(replace(free, standing=rows)) <= before + CENT
                compared += 1
    assert compared > 40


def test_a_looser_limit_never_costs_more():
    compared = cheaper = 0
    for problem in problems_with_a_plan():
        limits = tuple(replace(one, limit=tuple(1.5 * most for most in one.limit)) for one in problem.limits)
        if limits:
            looser = cost(replace(problem, limits=limits))
            assert looser <= cost(problem) + CENT
            compared += 1
            cheaper += looser < cost(problem) - CENT
    assert compared > 10
    assert cheaper > 1


def times_three(problem):
    """Three times the demand, the hosts, what limits them, and the cost of porting."""

    def scaled(rows, *names):
        changes = ({name: _triple(getattr(row, name)) for name in names} for row in rows)
        return tuple(replace(row, **change) for row, change in zip(rows, changes, strict=True))

    return replace(
        problem,
        services=scaled(problem.services, "demand_tok_s"),
        rates=scaled(problem.rates, "port_cost"),
        standing=scaled(problem.standing, "hosts"),
        deliveries=scaled(problem.deliveries, "hosts"),
        offers=scaled(problem.offers, "hosts"),
        limits=scaled(problem.limits, "limit"),
    )


def _triple(value):
    return tuple(3 * one for one in value) if isinstance(value, tuple) else 3 * value


def test_three_times_everything_costs_three_times_as_much():
    """Where parts of hosts would not be cheaper, so that whole hosts do not matter. Ways open when they did."""
    compared = opened = 0
    for problem in [*problems_with_a_plan(), *problems_with_a_plan(rich=0.5)]:
        if abs(cost_with_parts_of_hosts(problem) - cost(problem)) > CENT / 3:
            continue
        larger = times_three(problem)
        answer = plan_migration(larger)
        assert verify(larger, answer) == []
        assert abs(answer.solver.objective - 3 * cost(problem)) < 3 * CENT
        assert abs(cost_with_openings(problem, answer.opened) - cost(problem)) < CENT  # best for the smaller, too
        compared += 1
        opened += bool(answer.opened)
    assert compared > 8
    assert opened > 1


def in_another_order(problem):
    tables = ("sites", "places", "kinds", "services", "rates", "standing", "deliveries", "offers", "limits", "floors")
    return replace(problem, **{table: getattr(problem, table)[::-1] for table in (*tables, "domains", "order")})


def test_other_names_in_another_order_change_nothing():
    compared = 0
    for problem in problems_with_a_plan():
        other = in_another_order(renamed(problem, lambda slug: f"{slug[::-1]}-new"))
        assert other.services[-1].slug == f"{problem.services[0].slug[::-1]}-new"
        assert abs(cost(other) - cost(problem)) < CENT
        compared += 1
    assert compared > 25


def halved(problem):
    """The first service as two, each with half the demand and half the cost of porting."""
    whole = problem.services[0]
    halves = tuple(
        replace(whole, slug=f"{whole.slug}-{part}", demand_tok_s=tuple(d / 2 for d in whole.demand_tok_s))
        for part in ("left", "right")
    )
    rates = [rate for rate in problem.rates if rate.service != whole.slug]
    for rate in problem.rates:
        if rate.service == whole.slug:
            rates += [replace(rate, service=half.slug, port_cost=rate.port_cost / 2) for half in halves]
    return replace(problem, services=halves + problem.services[1:], rates=tuple(rates))


def test_a_service_in_two_halves_costs_the_same_where_opening_is_free():
    compared = 0
    for problem in problems_with_a_plan():
        plain = replace(
            problem,
            order=(),
            rates=tuple(replace(rate, port_cost=0.0) for rate in problem.rates),
            rules=replace(problem.rules, waves_most=None, shadow_ratio=0.0),
        )
        assert abs(cost(halved(plain)) - cost(plain)) < CENT
        compared += 1
    assert compared > 25


def test_a_service_in_two_halves_is_no_dearer_as_each_may_move_alone():
    compared = 0
    for problem in problems_with_a_plan():
        plain = replace(problem, order=(), rules=replace(problem.rules, waves_most=None))
        assert cost(halved(plain)) <= cost(plain) + CENT
        compared += 1
    assert compared > 25
