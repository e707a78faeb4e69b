"""Drain plans: as many hosts as can be, and never one that gold needs."""

from dataclasses import replace

import pytest

from scenarios.planning.draining import drain_plan
from scenarios.planning.problem import DomainValues, LostValues, StandingValues
from tests.scenarios.planning.fleets import hand_fleet


def two_halls(*, demand_tok_s=700.0, tier="gold", periods=6):
    """Ten hosts of 100 tok/s in each of two halls."""
    made = hand_fleet()
    return replace(
        made,
        periods=tuple(f"2027-{at + 1:02d}" for at in range(periods)),
        services=(replace(made.services[0], tier=tier, demand_tok_s=(demand_tok_s,)),),
        standing=(StandingValues("a", "gpu", (10.0,)), StandingValues("b", "gpu", (10.0,))),
        deliveries=(),
        domains=(DomainValues("a", (LostValues("a"),)), DomainValues("b", (LostValues("b"),))),
    )


ALL_BELOW = {("a", "gpu"): 10, ("b", "gpu"): 10}


def test_three_of_each_hall_may_go_at_once_where_seven_must_survive():
    plan = drain_plan(two_halls(), ALL_BELOW, most_per_period=20)
    by_period = [[row.hosts for row in plan.rows if row.period == at] for at in range(4)]
    assert by_period == [[3, 3], [3, 3], [3, 3], [1, 1]]
    assert (plan.total, plan.left, plan.done, plan.waits) == (20, 0, 3, 0)
    assert [row.left for row in plan.rows if row.place == "a"] == [7, 4, 1, 0]


def test_no_more_than_can_be_worked_on_are_out():
    plan = drain_plan(two_halls(demand_tok_s=100.0), ALL_BELOW, most_per_period=4)
    assert {sum(row.hosts for row in plan.rows if row.period == at) for at in range(5)} == {4}
    assert plan.done == 4


def test_nothing_goes_where_the_protection_holds_with_nothing_to_spare():
    plan = drain_plan(two_halls(demand_tok_s=1000.0), ALL_BELOW, most_per_period=5)
    assert (plan.rows, plan.done, plan.left, plan.waits) == ((), None, 20, 6)


def test_where_there_is_no_protection_to_lose_what_is_served_is_kept():
    """Gold does not survive a loss as it is: 1,200 of 2,000 tok/s must be served still, so eight may be out."""
    plan = drain_plan(two_halls(demand_tok_s=1200.0), ALL_BELOW, most_per_period=20)
    assert sum(row.hosts for row in plan.rows if row.period == 0) == 8


@pytest.mark.parametrize("most", [1, 3, 7])
def test_counts_add_up(most):
    plan = drain_plan(two_halls(), {("a", "gpu"): 5, ("b", "gpu"): 2}, most_per_period=most)
    assert sum(row.hosts for row in plan.rows) + plan.left == plan.total == 7


def test_nothing_to_do_is_done():
    plan = drain_plan(two_halls(), {}, most_per_period=3)
    assert (plan.rows, plan.total, plan.done) == ((), 0, 0)
