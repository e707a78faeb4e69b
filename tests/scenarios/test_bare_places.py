"""Regions and sites without a place to stand in: a plan is made, they supply nothing, and it says so."""

from dataclasses import replace

import pytest

from fleet.snapshot import SiteFact
from scenarios.capacity_result import Told, capacity_result
from scenarios.grounds import problem_of
from scenarios.planning.capacity import plan_capacity
from scenarios.planning.comparisons import plan_nothing
from scenarios.planning.greedy import plan_greedy
from scenarios.planning.headroom import ALL
from scenarios.planning.migration import plan_migration
from scenarios.planning.problem import problem_check
from scenarios.racking import plan_rack
from tests.factories import delivery_fact, service_fact
from tests.scenarios.test_racking import fleet, question


def bare():
    """North has a hall, south a site without one, west has nothing at all; each serves a service."""
    whole = fleet(
        services=tuple(service_fact(slug, region=slug) for slug in ("north", "south", "west")),
        deliveries=(delivery_fact(quantity=1), delivery_fact("po-2", site="dc02", quantity=3)),
        regions=("north", "south", "west"),
        site_regions={"dc01": "north"},
    )
    return replace(whole, sites=(*whole.sites, SiteFact("dc02", "DC02", "south", 1.3)))


@pytest.fixture(scope="module")
def asked():
    snap = bare()
    problem = problem_of(snap, question(snap, failover=True))
    problem_check(problem)
    return snap, problem


def test_capacity_serves_none_of_it_and_says_so(asked):
    _snap, problem = asked
    answer = plan_capacity(problem, draws=3)
    ends = {row.region: (row.expected, row.unserved_mtok > 0) for row in answer.run_out if row.tier == ALL}
    assert ends["south"] == ends["west"] == (0.0, True)
    assert {row.service for row in answer.homeless} == {"south", "west"}
    assert {(row.region, row.headroom_ratio) for row in answer.missed} >= {("south", -1.0), ("west", -1.0)}
    assert {row.region for row in answer.after_loss} == set()
    south = next(row for row in answer.binding if row.site == "dc02")
    assert (south.constraint, south.object) == ("no_rack", "dc02")
    assert {row.waiting for row in answer.hosts if row.site == "dc02"} == {3}


def test_the_result_names_what_has_no_host(asked):
    snap, problem = asked
    answer = plan_capacity(problem, draws=0, lead_months=6.0)
    result = capacity_result(answer, Told(problem, question(snap).months, snap, ()))
    by_slug = {region["slug"]: region for region in result["regions"]}
    assert list(by_slug) == ["north", "south", "west"]
    for slug in ("south", "west"):
        region = by_slug[slug]
        assert f"No host of the region can serve {slug} in 4 months from 2027-01 to 2027-04." in region["sentence"]
        assert (region["periods"][0]["binding"], region["run_out"]["p50"]) == ("no_host", "2027-01-01")
        assert region["periods"][0]["unserved_tok_s"] == pytest.approx(15_000)
        assert region["order_by_on"]["p50"] is None
    assert [(site["slug"], site["periods"][3]["waiting"]) for site in result["sites"]] == [
        ("dc01", {}),
        ("dc02", {"own": 3}),
    ]
    assert result["sites"][1]["periods"][0]["sentence"] == "DC02: 3 delivered own wait; dc02 has no rack for them."
    assert result["fleet"]["notes"][-1] == (
        "Nothing can be added to serve all demand. In 4 months not enough hosts can be added in South, West."
    )


def test_a_migration_leaves_its_demand_unserved(asked):
    snap, problem = asked
    answer = plan_migration(problem)
    assert answer.is_plan
    assert {row.service for row in answer.short} == {"south", "west"}
    for make in (plan_greedy, plan_nothing):
        assert {row.service for row in make(problem).short} >= {"south", "west"}
    assert plan_rack(snap, problem, answer, question(snap).months).homeless == ()
