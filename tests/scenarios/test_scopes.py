import numpy as np
import pytest

from scenarios.scopes import check_problem, scopes_of
from tests.factories import problem, service_fact, snapshot

TWO = {
    "regions": ("east", "north"),
    "sites": ("dc01", "dc02"),
    "site_regions": {"dc01": "north", "dc02": "east"},
    "services": (service_fact("a", region="north"), service_fact("b", region="north")),
}


def test_a_region_without_a_service_in_scope_is_not_asked_about():
    found = scopes_of(problem(snapshot(**TWO), in_scope=np.array([False, True])))
    assert [(scope.region, scope.sites.tolist(), scope.services.tolist()) for scope in found] == [(1, [0], [1])]


@pytest.mark.parametrize(
    ("question", "words"),
    [
        pytest.param(lambda: problem(snapshot(sites=(), hosts={}, site_regions={})), "no site", id="no site"),
        pytest.param(lambda: problem(in_scope=np.array([False])), "demands anything", id="no demand"),
        pytest.param(
            lambda: problem(snapshot(services=(service_fact("a", demand_request_s=0.0),))),
            "service a is asked about, but demands nothing",
            id="zero demand",
        ),
        pytest.param(
            lambda: problem(snapshot(services=(service_fact("a", region="south"),))),
            "nothing to plan: no region of the services in scope has a site",
            id="homeless service",
        ),
    ],
)
def test_what_cannot_be_planned_is_said(question, words):
    with pytest.raises(ValueError, match=words):
        check_problem(question())


def test_one_region_without_a_site_beside_another_is_planned_for():
    check_problem(problem(snapshot(services=(service_fact("a"), service_fact("b", region="south")))))
