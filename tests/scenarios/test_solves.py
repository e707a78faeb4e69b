"""Long solves in a step: stopped from outside, their lease kept, gone on with behind what was finished.

The program is a market split, a hard one: as evenly as whole goods allow, between two markets.
"""

import threading
from datetime import timedelta

import numpy as np
import pytest
from django.db import connection
from django.utils import timezone

from scenarios.engine import PIPELINES
from scenarios.models import Run, RunStep, Scenario
from scenarios.pipelines import Pipeline, Stage, Worked, json_pack, one_step
from scenarios.planning.memory import Memory
from scenarios.planning.problem import SolverValues
from scenarios.planning.program import Program, Requirement
from scenarios.planning.solver import StoppedError, solve
from scenarios.services import run_cancel, run_submit
from scenarios.steps import STEPS
from scenarios.tasks import step_execute

HARD, EASY = (60, 5), (10, 2)
OPTIONS = SolverValues(gap_ratio=0.0, nodes_most=None, time_limit_s=3600.0)


def split(size):
    """The program, and its cost: what each constraint is off by."""
    goods, markets = size
    weight = np.random.default_rng(1).integers(0, 100, (markets, goods)).astype(float)
    program = Program()
    chosen = program.columns(goods, upper=1.0, whole=True)
    over, under = program.columns(markets), program.columns(markets)
    half = weight.sum(axis=1) // 2
    rows = program.rows(Requirement("split", "goods"), markets, lower=half, upper=half)
    program.put(rows[:, None], chosen[None, :], weight)
    program.put(rows, over, 1.0)
    program.put(rows, under, -1.0)
    cost = np.zeros(program.columns_total)
    cost[over] = cost[under] = 1.0
    return program.done(), cost


def test_a_small_program_is_solved_to_the_end():
    solved = solve(*split(EASY), OPTIONS)
    assert solved.is_proven
    assert solved.objective == pytest.approx(4.0)
    assert solved.bound == pytest.approx(4.0)


def test_a_solve_is_interrupted_from_inside_its_callback():
    asked = iter([False, False])
    with pytest.raises(StoppedError):
        solve(*split(HARD), OPTIONS, should_stop=lambda: next(asked, True))


# --- in a step --------------------------------------------------------------------------------------------------------
@pytest.fixture
def solved_easy():
    return []


@pytest.fixture
def solving(scenario, monkeypatch, settings, solved_easy):
    """A step that solves an easy program, keeps it, and then one of a size."""
    settings.RUN_LEASE_S = 1.0

    def begin(size):
        def easy():
            solved_easy.append(1)
            return solve(*split(EASY), OPTIONS)

        def work(_values, _payload, _results, context):
            memory = Memory(context.checkpoint_load(), keep=context.checkpoint_save)
            first = memory.stage("easy", easy)
            try:
                solved = solve(*split(size), OPTIONS, should_stop=context.should_stop)
            except StoppedError:
                context.report(0.5, "stop")
                raise
            told = {"objective": solved.objective, "easy": first.objective}
            return Worked(json_pack({"snapshot_digest": "s", "engine_version": "e", "fleet": {}, **told}))

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
    return RunStep.objects.values_list("checkpoint", flat=True).get(pk=step.pk)


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
def test_a_solve_of_several_leases_keeps_its_claim(solving, worker):
    step = solving(HARD)
    worker(step)
    begun_at = until(lambda: RunStep.objects.get(pk=step.pk).started_at)
    until(lambda: RunStep.objects.get(pk=step.pk).heartbeat_at - begun_at > timedelta(seconds=3))
    step.refresh_from_db()
    assert (step.status, step.attempt, STEPS.claim(step.pk)) == ("running", 1, None)
    assert run_cancel(step.run)


@pytest.mark.django_db(transaction=True)
def test_the_next_attempt_does_not_do_again_what_the_lost_one_had_finished(solving, worker, solved_easy):
    step = solving(HARD)
    lost = worker(step)
    until(lambda: checkpoint(step))
    RunStep.objects.filter(pk=step.pk).update(claim=None, heartbeat_at=timezone.now() - timedelta(hours=1))
    lost.join(timeout=60)
    assert not lost.is_alive()
    step_execute(solving(EASY).pk)
    step.refresh_from_db()
    run = Run.objects.get()
    assert (run.status, step.attempt, step.checkpoint) == ("done", 2, None)
    assert run.result["easy"] == pytest.approx(4.0)
    assert len(solved_easy) == 1
