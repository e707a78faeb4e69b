"""The example that docs/models/capacity-plan.md works by hand; the page quotes these figures."""

from datetime import date

import numpy as np
import pytest

from scenarios.capacity_result import Told, capacity_result
from scenarios.demand import months_list
from scenarios.grounds import Question, Rates, problem_of
from scenarios.planning.capacity import plan_capacity
from scenarios.planning.params import MigrationParams
from tests.conftest import ROOT
from tests.factories import delivery_fact, kind_fact, service_fact, snapshot

KINDS = (
    kind_fact("gpu", power_w=5000.0, height_u=6),
    kind_fact("own", chip="thead-ppu-810e", power_w=8000.0, height_u=8),
)


def page(name):
    return " ".join((ROOT / "docs" / "models" / name).read_text().split())


@pytest.fixture(scope="module")
def capacity():
    """The answer to the example, and its result, by way of the fleet."""
    fleet = snapshot(
        kinds=KINDS,
        services=(service_fact("chat", demand_request_s=80.0), service_fact("code", demand_request_s=30.0)),
        racks_per_site=4,
        rack_w=32_000.0,
        hosts={("dc01", "gpu"): 10, ("dc01", "own"): 8},
        deliveries=(delivery_fact(quantity=3, expected_on=date(2027, 2, 20), slip=(20.0, 60.0)),),
    )
    months = months_list(date(2027, 1, 1), date(2027, 6, 1))
    rates, ready = np.array([[1000.0, 500.0], [800.0, 0.0]]), np.ones((2, 2, 6), dtype=bool)
    asked = Question(
        months=months,
        rates={"whole": Rates(rates, rates, rates, np.ones((2, 2)))},
        demand_tok_s=np.outer([8_000.0, 3_000.0], 1.03 ** np.arange(6)),
        mean_ratio=np.ones(2),
        input_ratio=np.ones(2),
        allowed=ready,
        homegrown=np.array([False, True]),
        in_scope=np.ones(2, dtype=bool),
        reserve_ratio=0.1,
        hold_months=0,
        seed=1,
        params=MigrationParams(),
        price={},
    )
    problem = problem_of(fleet, asked)
    answer = plan_capacity(problem, draws=0, lead_months=6.0)
    return answer, capacity_result(answer, Told(problem, months, fleet, ()))


def test_capacity_example_headroom_of_every_month(capacity):
    base = [12_600, 12_600, 12_600, 13_050, 13_050, 13_050]
    expected = [host_tok_s / 11_750 / 1.03**month for month, host_tok_s in enumerate(base)]
    rows = [row for row in capacity[0].rows if row.tier == ""]
    assert [row.headroom_ratio + 1 for row in rows] == pytest.approx(expected)
    for theta in expected:
        assert f"{theta:.3f}" in page("capacity-plan.md")


def test_capacity_example_first_month_in_figures(capacity):
    first = capacity[1]["regions"][0]["periods"][0]
    assert first["demanded_tok_s"]["p50"] == pytest.approx(11_000)
    assert f"{first['available_tok_s']['p50']:,.0f}" == "11,796"
    assert "11,796" in page("capacity-plan.md")


def test_capacity_example_run_out_order_and_what_binds(capacity):
    (region,) = capacity[1]["regions"]
    assert (region["run_out"]["p50"], region["order_by_on"]["p50"]) == ("2027-04-17", "2026-10-17")
    assert "2027-04-17" in page("capacity-plan.md")
    assert "2026-10-17" in page("capacity-plan.md")
    site = capacity[1]["sites"][0]["periods"][3]
    assert (site["binding"], site["hosts"], site["waiting"]) == ("rack_power", {"gpu": 10, "own": 9}, {"own": 2})
    assert site["sentence"] in page("capacity-plan.md")
