"""A migration plan through a run: made in steps, beside the others, within its limits, and told in tables."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from accelerator import Workload
from fleet.models import Host
from scenarios import plan_promises, plan_replay, plan_stages, plan_steps
from scenarios.engine import run_compute
from scenarios.models import Scenario
from scenarios.plan_steps import Hold, PlanFound, PlanQuestion, bare_asked, plan_bare
from scenarios.planning.draws import FutureValues
from scenarios.planning.params import MigrationParams
from scenarios.planning.plain import plain_read
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import problem_read
from scenarios.result_tables import tables_of
from scenarios.services import run_submit, scenario_save, workload_store
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


MOVED = {"floors": [{"ratio": 0.3, "month": "2027-05"}]}
"""What makes a wave worth its cost, so that there is a peak hour to replay."""


def computed(scenario):
    run = run_submit(scenario=scenario_save(scenario), owner=None)
    run_work(run.pk)
    run.refresh_from_db()
    return run


@pytest.fixture
def fleet(db):
    return fleet_rows(hosts=6)


@pytest.fixture
def moving(fleet):
    """The same with two homegrown hosts."""
    for at in range(2):
        Host.objects.create(slug=f"own-{at}", host_type=fleet["kinds"][1], rack=fleet["racks"][1])


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


def test_steps_of_workers_and_one_process_give_the_same_plan(moving, monkeypatch):
    run = computed(asked(**MOVED))
    assert run.status == "done", run.error
    assert run.result["plan"]["replay"]["services"]
    for module, name in ((plan_promises, "DRAWS_MOST"), (plan_replay, "SHARD_MOST"), (plan_stages, "SHARD_MOST")):
        monkeypatch.setattr(module, name, 3 if name == "DRAWS_MOST" else 1)
    assert run_compute(run.inputs, on_progress=lambda _ratio, _stage: None) == run.result
    assert run.steps.filter(stage_name="promises").count() == 2  # all draws, and the tornado


def test_a_result_says_how_likely_its_plan_holds(moving):
    plan = computed(asked(**MOVED)).result["plan"]
    promises = plan["promises"]
    rows = {(row["promise"], row["subject"]): row["probability_ratio"] for row in promises["rows"]}
    assert set(rows) >= {("floor", "2027-05"), ("demand", "chat"), ("tier", "standard"), ("peak", "2027-01")}
    assert rows["everything", ""] <= min(rows.values())
    assert promises["sentence"] in plan["sentence"]
    assert [row["figure"] for row in promises["bands"]] == [*plan_promises.BANDS]
    assert all(row["p10"] <= row["p50"] <= row["p90"] for row in promises["bands"])
    assert promises["tornado"][0]["objective_p10"] or promises["tornado"][0]["objective_p90"]
    (replayed,) = plan["replay"]["services"]
    assert (replayed["month"], replayed["service"], replayed["verdict"]) == (plan["waves"][0]["month"], "chat", "held")
    assert plan["replay"]["sentence"].startswith("Peak hours of services replayed: 1;")


def test_without_a_replay_nothing_is_said_of_it(moving):
    result = computed(asked(**MOVED, replay=False)).result
    assert result["plan"]["replay"] is None
    assert result["plan"]["promises"]
    assert not any(table.name.startswith("plan-replay") for table in tables_of(result))


def test_a_recorded_workload_is_replayed_with_its_own_requests(moving):
    workload = Workload("w", np.arange(200.0), np.arange(900, 1100), np.full(200, 150))
    scenario = asked(**MOVED)
    scenario.trace = workload_store(workload, owner=None)
    result = computed(scenario).result
    assert result["plan"]["replay"]["workload"] == "recorded requests"
    (row,) = result["plan"]["replay"]["services"]
    assert row["request_s"] == pytest.approx(row["planned_tok_s"] / 150)


def test_overviews_read_shares_and_dates_of_the_plan(moving):
    result = computed(asked(**MOVED)).result
    assert [row["month"] for row in result["fleet"]["periods"]] == result["months"]
    assert result["fleet"]["sentence"] == result["plan"]["sentence"]
    assert result["fleet"]["first_move_month"] == result["plan"]["waves"][0]["month"]
    assert result["fleet"]["gpu_free"].keys() == {"p10", "p50", "p90"}
    (north,) = result["regions"]
    assert (north["slug"], north["name"], north["periods"]) == ("north", "North", result["fleet"]["periods"])
    assert [(row["service"], row["reason"].split(":")[0]) for row in result["plan"]["left"]] == [("chat", "open")]


def test_a_floor_that_nothing_can_reach_is_answered_with_what_conflicts(fleet):
    run = computed(asked(floors=[{"ratio": 1.0, "month": "2027-01"}], pareto_points=0))
    assert run.status == "done", run.error
    plan = run.result["plan"]
    assert plan["status"] == "infeasible"
    assert any("homegrown tokens are at least 100%" in row["sentence"] for row in plan["conflict"])
    assert plan["sentence"].startswith("There is no plan.")
    assert tables_of(run.result)[0].name == "plan-conflict"
    assert plan["promises"] is plan["replay"] is None
    assert run.result["fleet"]["periods"] == run.result["regions"][0]["periods"] == []


def test_a_month_beyond_the_horizon_fails_the_run_with_its_reason(fleet):
    run = computed(asked(floors=[{"ratio": 0.5, "month": "2031-01"}]))
    assert run.status == "failed"
    assert "month '2031-01' does not lie in 2027-01 to 2027-06" in run.error


def test_what_safety_costs_is_asked_in_the_room_that_the_best_plan_has(moving, monkeypatch):
    plan = computed(asked(**MOVED)).result["plan"]
    asked_about, problem = [], problem_read(plan["problem"])
    question = PlanQuestion(problem, (START,), FutureValues(), MigrationParams())
    tighter = replace(problem, rules=replace(problem.rules, reserve_ratio=0.2))
    best = PlanFound(plain_read(MigrationAnswer, plan["answer"], place="answer"), tighter)
    monkeypatch.setattr(plan_steps, "plan_migration", lambda of, **_: asked_about.append(of))
    plan_bare(question, best, Hold())
    rules = asked_about[0].rules
    assert (rules.reserve_ratio, rules.shadow_ratio, rules.rollback_ratio) == (0.2, 0.0, 0.0)
    assert bare_asked(question, best)
    assert not bare_asked(question, PlanFound(replace(best.answer, status="infeasible")))
