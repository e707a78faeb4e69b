"""Whole replicas against the verifier: what a rounded plan no longer keeps, it says itself."""

from scenarios.planning.migration import plan_migration
from scenarios.planning.problem import NPV
from scenarios.planning.rounding import replicas_round
from tests.scenarios.planning.problems import random_problem
from tests.scenarios.planning.verifier import verify


def is_said(sentence, rounded):
    """Whether a rounded plan says itself what the verifier says of it."""
    what, rest = sentence.split(":", 1)
    if what == "unserved":
        return any(f" {row.service} in period {row.period} " in rest for row in rounded.unserved)
    return any(row.requirement == what and f"period {row.period}" in rest for row in rounded.missed)


def test_rounded_plans_hold_or_say_what_they_miss():
    plans = clean = missed = 0
    for seed in range(200):
        problem = random_problem(seed, objective=NPV)
        answer = plan_migration(problem)
        if not answer.is_plan:
            continue
        rounded = replicas_round(problem, answer)
        said = verify(problem, rounded.answer, whole_replicas=True)
        assert [sentence for sentence in said if not is_said(sentence, rounded)] == [], seed
        plans += 1
        clean += not said
        missed += bool(said)
    assert clean > plans / 2
    assert missed > 3
