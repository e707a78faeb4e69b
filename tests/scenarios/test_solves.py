"""Long solves: stopped from outside, and begun again from what was found. The program is a market split, a hard one."""

import io
import threading
from datetime import timedelta

import highspy
import numpy as np
import pytest
from django.db import connection
from django.utils import timezone

from scenarios.claims import ClaimLostError
from scenarios.engine import PIPELINES
from scenarios.models import Run, RunStep, Scenario
from scenarios.pipelines import Pipeline, Stage, StepContext, Worked, json_pack, one_step
from scenarios.services import run_cancel, run_submit
from scenarios.solves import milp_solve
from scenarios.steps import STEPS
from scenarios.tasks import step_execute

HARD, EASY = (60, 5), (10, 2)


def program(size, **options):
    """Split goods between two markets as evenly as whole goods allow: minimise what each constraint is off by."""
    goods, markets = size
    weight = np.random.default_rng(1).integers(0, 100, (markets, goods))
    solver = highspy.Highs()
    for option, value in {"output_flag": False, "threads": 1, **options}.items():
        solver.setOptionValue(option, value)
    for _ in range(goods):
        solver.addVar(0.0, 1.0)
    kinds = np.array([highspy.HighsVarType.kInteger] * goods)
    solver.changeColsIntegrality(goods, np.arange(goods, dtype=np.int32), kinds)
    for row in weight:
        over = solver.getNumCol()
        for column in (over, over + 1):
            solver.addVar(0.0, 1e9)
            solver.changeColCost(column, 1.0)
        columns = np.array([*range(goods), over, over + 1], dtype=np.int32)
        half = float(row.sum() // 2)
        solver.addRow(half, half, len(columns), columns, np.array([*row, 1.0, -1.0], dtype=np.float64))
    return solver


class Desk:
    """A context that a test looks into."""

    def __init__(self, left=None, *, stop_after=None):
        self.told, self.saved, self.left, self.stop_after = [], [], left, stop_after

    def context(self):
        return StepContext(self.report, self.should_stop, lambda: self.left, self.saved.append)

    def report(self, ratio, text):
        self.told.append((ratio, text))
        if self.should_stop():
            raise ClaimLostError(1)

    def should_stop(self):
        return self.stop_after is not None and len(self.saved) >= self.stop_after


def worth(data):
    """What the constraints of a solution that was left behind are off by."""
    return float(np.load(io.BytesIO(data))[HARD[0] :].sum())


def test_a_small_program_is_solved_to_the_end():
    solved = milp_solve(program(EASY), Desk().context())
    assert solved.is_proven
    assert solved.objective == pytest.approx(4.0)
    assert solved.gap_ratio == pytest.approx(0.0, abs=1e-3)
    assert solved.values[: EASY[0]] == pytest.approx(np.round(solved.values[: EASY[0]]), abs=1e-5)


def test_a_solve_is_interrupted_from_inside_its_callback():
    desk = Desk(stop_after=2)
    with pytest.raises(ClaimLostError):
        milp_solve(program(HARD), desk.context())
    assert len(desk.saved) >= 2
    assert worth(desk.saved[-1]) < worth(desk.saved[0])


def test_what_a_report_raises_ends_the_solve_and_comes_out():
    def report(_ratio, text):
        if "gap" in text:
            raise InterruptedError

    with pytest.raises(InterruptedError):
        milp_solve(program(HARD), StepContext(report, lambda: False, lambda: None, lambda _data: None))


def test_a_solve_goes_on_from_what_an_earlier_attempt_has_left():
    first = Desk(stop_after=10)
    with pytest.raises(ClaimLostError):
        milp_solve(program(HARD), first.context())
    left = first.saved[-1]
    short = {"mip_max_nodes": 1, "mip_heuristic_effort": 0.0}
    anew = milp_solve(program(HARD, **short), Desk().context())
    again = milp_solve(program(HARD, **short), Desk(left).context())
    assert again.objective <= worth(left) + 1e-6 < anew.objective
    assert not again.is_proven


def test_a_program_without_a_solution_is_said():
    solver = program(EASY)
    solver.changeColBounds(EASY[0], 0.0, 0.0)
    solver.changeRowBounds(0, 1e6, 1e6)
    with pytest.raises(ValueError, match="plan: no solution was found: Infeasible"):
        milp_solve(solver, Desk().context(), what="plan")


# --- in a step --------------------------------------------------------------------------------------------------------
def answered(solved):
    data = json_pack({"snapshot_digest": "s", "engine_version": "e", "fleet": {}, "objective": solved.objective})
    return Worked(data, is_reusable=solved.is_proven)


@pytest.fixture
def solving(scenario, monkeypatch, settings):
    """A step that solves a program, given by its size and options."""
    settings.RUN_LEASE_S = 1.0

    def begin(size, **options):
        def work(_values, _payload, _results, context):
            return answered(milp_solve(program(size, **options), context))

        stages = (Stage("prepare", 0.1, one_step, lambda *_: Worked(b"")), Stage("solve", 0.9, one_step, work))
        monkeypatch.setitem(PIPELINES, Scenario.Kind.CAPACITY, Pipeline(stages, question=lambda _results: "q"))
        if not Run.objects.exists():
            step_execute(run_submit(scenario=scenario, owner=None).steps.get().pk)
        return RunStep.objects.get(stage_name="solve")

    return begin


@pytest.fixture
def worker():
    """A function that computes a step in a thread of its own, as a worker process does."""
    threads = []

    def start(step):
        def work():
            try:
                step_execute(step.pk)
            finally:
                connection.close()

        threads.append(threading.Thread(target=work))
        threads[-1].start()
        return threads[-1]

    yield start
    for thread in threads:
        thread.join(timeout=60)
        assert not thread.is_alive()


def until(condition):
    found = condition()
    while not found:
        found = condition()
    return found


def checkpoint(step):
    data = RunStep.objects.values_list("checkpoint", flat=True).get(pk=step.pk)
    return data and bytes(data)


@pytest.mark.django_db(transaction=True)
def test_a_solve_that_would_take_hours_ends_when_its_run_is_cancelled(solving, worker):
    step = solving(HARD)
    thread = worker(step)
    until(lambda: checkpoint(step))
    assert run_cancel(step.run)
    thread.join(timeout=60)
    assert not thread.is_alive()
    step.run.refresh_from_db()
    assert (step.run.status, step.run.result) == ("cancelled", None)


@pytest.mark.django_db(transaction=True)
def test_a_solve_of_several_leases_keeps_its_claim_and_shows_its_gap(solving, worker):
    step = solving(HARD)
    worker(step)
    begun_at = until(lambda: RunStep.objects.get(pk=step.pk).started_at)
    until(lambda: RunStep.objects.get(pk=step.pk).heartbeat_at - begun_at > timedelta(seconds=3))
    step.refresh_from_db()
    assert (step.status, step.attempt, STEPS.claim(step.pk)) == ("running", 1, None)
    assert step.stage.startswith("solve, gap ")
    assert run_cancel(step.run)


@pytest.mark.django_db(transaction=True)
def test_the_next_attempt_begins_where_the_lost_one_was(solving, worker):
    step = solving(HARD)
    lost = worker(step)
    left = until(lambda: checkpoint(step))
    RunStep.objects.filter(pk=step.pk).update(claim=None, heartbeat_at=timezone.now() - timedelta(hours=1))
    lost.join(timeout=60)
    assert not lost.is_alive()
    step_execute(solving(HARD, mip_max_nodes=1, mip_heuristic_effort=0.0).pk)
    step.refresh_from_db()
    run = Run.objects.get()
    assert (run.status, step.attempt, step.checkpoint) == ("done", 2, None)
    assert run.result["objective"] <= worth(left) + 1e-6
    assert not run.is_reusable  # it was not searched to the end
