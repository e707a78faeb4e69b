"""The oracle and the random problems that it is asked: what they are worth as a yardstick."""

from dataclasses import replace

from scenarios.planning.problem import SHARE_FIRST, problem_read
from tests.scenarios.planning.features import ALL, features
from tests.scenarios.planning.oracle import best_by_enumeration, best_by_listing, combinations, oracle_answer
from tests.scenarios.planning.problems import random_problem
from tests.scenarios.planning.verifier import verify

SEEDS = range(600)


def test_search_finds_what_listing_every_combination_finds():
    compared = plans = 0
    for seed in range(10_000, 10_250):
        problem = random_problem(seed)
        if combinations(problem) > 400:
            continue
        searched, listed = best_by_enumeration(problem)[0], best_by_listing(problem)[0]
        assert (searched is None) == (listed is None), seed
        compared += 1
        if searched is not None:
            assert abs(searched - listed) < 0.005, seed
            plans += 1
    assert compared > 40
    assert plans > 20


def test_every_feature_is_used_or_binds_and_no_plan_is_refused():
    found: set[str] = set()
    plans = aims = 0
    for seed in SEEDS:
        problem = random_problem(seed)
        answer = oracle_answer(problem)
        assert verify(problem, answer) == [], seed
        if answer.is_plan:
            plans += 1
            aims += problem.rules.objective == SHARE_FIRST
            found |= features(problem, answer)
    assert found == ALL
    assert 0.4 * len(SEEDS) < plans < 0.8 * len(SEEDS)  # feasible ones, and infeasible ones
    assert aims > 40


def test_a_seed_is_one_problem_that_can_be_written_as_json():
    for seed in range(40):
        problem = random_problem(seed)
        assert random_problem(seed) == problem
        assert problem_read(problem.as_dict()) == problem


def test_a_looser_problem_never_costs_more():
    """Of the oracle itself: whatever is taken away from what must hold, the best plan is no dearer."""
    compared = 0
    for seed in range(150):
        problem = random_problem(seed, objective="npv")
        cost = best_by_enumeration(problem)[0]
        if cost is None:
            continue
        for looser in (
            replace(problem, limits=()),
            replace(problem, floors=()),
            replace(problem, order=()),
            replace(problem, rules=replace(problem.rules, waves_most=None, ramp_ratio=1.0, rollback_ratio=0.0)),
        ):
            assert best_by_enumeration(looser)[0] <= cost + 0.005, seed
            compared += looser != problem
    assert compared > 80
