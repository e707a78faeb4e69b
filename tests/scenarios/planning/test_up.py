"""Hosts that stand and cannot serve: every planner and every reader of a plan counts them the same way."""

from dataclasses import replace

import pytest

from scenarios.planning.capacity import plan_capacity
from scenarios.planning.comparisons import plan_nothing
from scenarios.planning.greedy import plan_greedy
from scenarios.planning.migration import plan_migration
from scenarios.planning.plain import ProblemError
from scenarios.planning.problem import StandingValues, UpValues, problem_check
from scenarios.planning.promises import plan_promises
from scenarios.planning.reconciling import reconcile
from scenarios.planning.rounding import replicas_round
from tests.scenarios.planning.capacity_fleets import one_service
from tests.scenarios.planning.fleets import drawn_fleet, hand_fleet
from tests.scenarios.planning.verifier import verify


def partly_up(seed):
    """A drawn fleet: a third of one place cannot serve in the middle, another is dark at the end."""
    problem = drawn_fleet(seed)
    first, second = (place.slug for place in problem.located[:2])
    rows = tuple(
        row
        for kind in problem.kinds
        for row in (UpValues(first, kind.slug, (1.0, 2 / 3, 2 / 3, 1.0)), UpValues(second, kind.slug, (1, 1, 1, 0.0)))
    )
    return replace(problem, up=rows)


@pytest.mark.parametrize("seed", [0, 3, 5])
def test_plans_load_what_can_serve_and_nothing_more(seed):
    problem = partly_up(seed)
    best = plan_migration(problem)
    assert best.is_plan
    assert verify(problem, best) == []
    for answer in (best, plan_greedy(problem), plan_nothing(problem)):
        assert [line for line in verify(problem, answer) if line.startswith(("capacity", "failover"))] == []
        assert reconcile(problem, answer) == [] or answer is not best
    rounded = replicas_round(problem, best)
    assert [line for line in verify(problem, rounded.answer) if line.startswith("capacity")] == []


def costly(**more):
    """A fleet that had better serve: what goes unserved costs far more than energy."""
    problem = hand_fleet(**more)
    return replace(problem, services=(replace(problem.services[0], penalty_per_mtok=1e4),))


def test_what_is_dark_carries_nothing():
    """Six hosts of b serve 600 of 800 tok/s."""
    dark = costly(up=(UpValues("a", "gpu", (0.0,)),), deliveries=())
    answer = plan_migration(dark)
    assert {row.place for row in answer.loads} == {"b"}
    assert [row.tok_s for row in answer.short] == pytest.approx([200.0, 200.0])


def test_a_share_of_hosts_is_a_share_of_supply_even_of_those_to_come():
    """A hundred hosts of 10 tok/s, and as many that come: half of all of them serve."""
    problem = one_service(growth_ratio=0.0, periods=2, up=[{"place": "dc1", "kind": "gpu", "ratio": 0.5}])
    coming = one_service(
        growth_ratio=0.0,
        periods=2,
        up=[{"place": "dc1", "kind": "gpu", "ratio": 0.5}],
        deliveries=[{"site": "dc1", "kind": "gpu", "period": 1, "hosts": 100}],
    )
    assert [row.supply_tok_s for row in plan_capacity(problem, draws=0).rows if not row.tier] == pytest.approx(
        [500, 500]
    )
    assert [row.supply_tok_s for row in plan_capacity(coming, draws=0).rows if not row.tier] == pytest.approx(
        [500, 1000]
    )


def test_hosts_to_add_are_as_many_more_as_cannot_serve():
    """900 tok/s need 90 hosts; of 100 that stand 50 serve, so 80 more must come for 40 that do."""
    problem = one_service(
        growth_ratio=0.0,
        periods=1,
        up=[{"place": "dc1", "kind": "gpu", "ratio": 0.5}],
        offers=[{"kind": "gpu", "period": 0, "hosts": 500}],
    )
    assert [row.hosts for row in plan_capacity(problem, draws=0).add] == [80]


def test_a_promise_is_judged_on_what_can_serve():
    problem = costly(up=(UpValues("a", "gpu", (0.5,)), UpValues("b", "gpu", (0.5,))), deliveries=())
    answer = plan_migration(problem)
    short = sum(row.tok_s for row in answer.short if row.period == 0)
    assert short == pytest.approx(800 - 600)
    told = plan_promises(problem, answer, draws=2)
    planned = sum(row.tok_s for row in answer.short) * 0.5 * 3600 * 730.5 / 1e6
    assert told.unserved_mtok.p50 == pytest.approx(planned)


@pytest.mark.parametrize(
    ("rows", "words"),
    [
        ((UpValues("x", "gpu", (1.0,)),), "problem.up[0].place: unknown place 'x'"),
        ((UpValues("a", "gpu", (1.0,) * 3),), "problem.up[0].ratio: 3 numbers for 2 periods"),
        ((UpValues("a", "gpu", (1.0,)),) * 2, "problem.up[1]: gpu in a is there twice"),
    ],
)
def test_a_share_that_cannot_be_says_where(rows, words):
    with pytest.raises(ProblemError) as error:
        problem_check(replace(hand_fleet(), up=rows, standing=(StandingValues("a", "gpu", (6.0,)),)))
    assert words in str(error.value)
