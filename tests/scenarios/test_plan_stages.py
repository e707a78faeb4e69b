"""A migration plan through a run: made in steps, beside the others, within its limits, and told in tables."""

from datetime import date

import pytest

from scenarios.engine import run_compute
from scenarios.models import Scenario
from scenarios.planning.plain import plain_read
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import problem_read
from scenarios.result_tables import tables_of
from scenarios.services import run_submit, scenario_save
from tests.factories import START, fleet_rows
from tests.runs import run_work
from tests.scenarios.planning.verifier import verify


def asked(**params):
    return Scenario(
        name="Leave",
        kind="migration",
        starts_on=START,
        ends_on=date(2027, 6, 1),
        draws=10,
        seed=5,
        params={"pareto_points": 2, **params},
    )


def computed(scenario):
    run = run_submit(scenario=scenario_save(scenario), owner=None)
    run_work(run.pk)
    run.refresh_from_db()
    return run


@pytest.fixture
def fleet(db):
    return fleet_rows(hosts=6)


def test_a_run_holds_a_plan_that_keeps_every_constraint(fleet):
    run = computed(asked())
    assert run.status == "done", run.error
    plan = run.result["plan"]
    assert plan["status"] == "optimal"
    assert plan["apart"] == []
    answer = plain_read(MigrationAnswer, plan["answer"], place="answer")
    assert verify(problem_read(plan["problem"]), answer) == []
    assert [row["name"] for row in plan["compared"]] == ["this plan", "the greedy plan", "doing nothing"]
    assert all(row["more"] >= -0.02 * abs(plan["compared"][0]["objective"]) for row in plan["compared"][1:])


def test_the_tables_of_a_run_begin_with_its_plan(fleet):
    run = computed(asked())
    names = [table.name for table in tables_of(run.result)]
    assert names[0].startswith("plan-")
    assert {"plan-compared", "plan-money", "plan-hosts"} <= set(names)


def test_steps_of_workers_and_one_process_give_the_same_plan(fleet):
    run = computed(asked())
    again = run_compute(run.inputs, on_progress=lambda _ratio, _stage: None)
    assert again == run.result


def test_a_floor_that_nothing_can_reach_is_answered_with_what_conflicts(fleet):
    run = computed(asked(floors=[{"ratio": 1.0, "month": "2027-01"}], pareto_points=0))
    assert run.status == "done", run.error
    plan = run.result["plan"]
    assert plan["status"] == "infeasible"
    assert any("homegrown tokens are at least 100%" in row["sentence"] for row in plan["conflict"])
    assert plan["sentence"].startswith("There is no plan.")
    assert tables_of(run.result)[0].name == "plan-conflict"


def test_a_month_beyond_the_horizon_fails_the_run_with_its_reason(fleet):
    run = computed(asked(floors=[{"ratio": 0.5, "month": "2031-01"}]))
    assert run.status == "failed"
    assert "month '2031-01' does not lie in 2027-01 to 2027-06" in run.error
