"""Runs in steps: the same answer from any number of workers, in any order, whatever happens in between."""

import json
import random
import threading
import time
from collections import Counter
from dataclasses import replace
from datetime import timedelta

import pytest
from celery import current_app
from django.db import connection
from django.utils import timezone

from fleet.models import Host, Service
from scenarios import steps as steps_module
from scenarios.claims import ClaimLostError
from scenarios.engine import PIPELINES, run_compute
from scenarios.models import Report, Run, RunStep, Scenario
from scenarios.pipelines import Pipeline, Stage, Worked, json_pack, one_step
from scenarios.services import run_cancel, run_submit, scenario_save
from scenarios.steps import STEPS, results_before, run_advance, runs_sweep, step_compute, step_held
from scenarios.tasks import step_execute
from tests.runs import run_work, step_work

Status = Run.Status


@pytest.fixture(params=["capacity", "migration"])
def asked(scenario, request):
    """A question whose second stage has three steps."""
    scenario.kind, scenario.draws = request.param, 60
    scenario.params = {"pareto_points": 0} if request.param == "migration" else {}
    return scenario_save(scenario)


def submit(scenario, **values):
    return run_submit(scenario=scenario, owner=None, **values)


def as_text(result):
    return json.dumps(result, sort_keys=True)


def ended(run):
    run_work(run.pk)
    run.refresh_from_db()
    return run


def step_of(run, stage_name, number=0):
    return run.steps.get(stage_name=stage_name, number=number)


LATER = {"capacity": {}, "migration": {"front": 1, "replay": 0, "promises": 3}}
"""Steps of the stages behind the second one, by kind; nothing moves, so there is nothing to replay."""

MORE = {"capacity": 5, "migration": 2}
"""Steps more with 200 draws than with 60, by kind."""


def all_of(scenario):
    return 5 + sum(LATER[scenario.kind].values())


def middle_of(scenario):
    return PIPELINES[scenario.kind].stages[1].name


@pytest.fixture
def computed(monkeypatch):
    """How often each step was computed, by stage and payload."""
    counts = Counter()

    def counted(stage):
        def work(values, payload, results, context):
            counts[stage.name, json.dumps(payload)] += 1
            return stage.work(values, payload, results, context)

        return replace(stage, work=work)

    for kind, pipeline in list(PIPELINES.items()):
        monkeypatch.setitem(PIPELINES, kind, replace(pipeline, stages=tuple(map(counted, pipeline.stages))))
    return counts


# --- the same answer --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("order", range(3))
def test_steps_in_any_order_answer_as_one_process_does(asked, order):
    rng = random.Random(order)
    run = submit(asked)
    while left := list(run.steps.filter(status=Status.QUEUED)):
        step_work(rng.choice(left).pk)
    run.refresh_from_db()
    alone = run_compute(run.inputs, on_progress=lambda _ratio, _stage: None)
    stages = Counter({"prepare": 1, middle_of(asked): 3, **LATER[asked.kind], "merge": 1})
    assert Counter(run.steps.values_list("stage_name", flat=True)) == stages
    assert as_text(run.result) == as_text(alone)


def test_results_are_read_in_the_order_of_the_steps_whatever_order_they_came_in(asked):
    run = submit(asked)
    step_work(step_of(run, "prepare").pk)
    for number in (2, 0, 1):
        RunStep.objects.filter(run=run, stage_name=middle_of(asked)).filter(number=number).delete()
        RunStep.objects.create(
            run=run,
            stage_name=middle_of(asked),
            number=number,
            payload={},
            share_ratio=0,
            result=b"",
            status=Status.DONE,
            result_digest=f"digest {number}",
        )
    found = results_before(run, PIPELINES[asked.kind], "merge")
    assert [kept.digest for kept in found[middle_of(asked)]] == ["digest 0", "digest 1", "digest 2"]
    assert list(found) == ["prepare", middle_of(asked), *LATER[asked.kind]]


@pytest.mark.parametrize("workers", [1, 8])
@pytest.mark.django_db(transaction=True)
def test_one_worker_and_eight_at_once_give_the_same_bytes(asked, workers):
    asked.draws = 200
    run = submit(scenario_save(asked))

    def work():
        try:
            while not Run.objects.get(pk=run.pk).has_ended:
                for step_id in RunStep.objects.filter(run=run, status=Status.QUEUED).values_list("pk", flat=True):
                    step_execute(step_id)
        finally:
            connection.close()

    threads = [threading.Thread(target=work) for _ in range(workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.refresh_from_db()
    steps = all_of(asked) + MORE[asked.kind]
    assert (run.status, run.steps_done, run.steps_total) == (Status.DONE, steps, steps)
    assert set(run.steps.values_list("attempt", flat=True)) == {1}
    alone = run_compute(run.inputs, on_progress=lambda _ratio, _stage: None)
    assert as_text(run.result) == as_text(alone)


def test_what_is_edited_in_the_middle_of_a_run_changes_nothing(asked):
    undisturbed = ended(submit(asked)).result
    run = submit(asked, recompute=True)
    step_work(step_of(run, "prepare").pk)
    Service.objects.update(demand_request_s=1.0)
    Host.objects.filter(slug="host-0").delete()
    assert as_text(ended(run).result) == as_text(undisturbed)


def test_once_a_run_has_ended_nothing_of_its_steps_is_kept_but_what_they_were(asked):
    run = ended(submit(asked))
    kept = run.steps.values_list("result", "checkpoint", "took_s", "cpu_s", "result_digest", "worker")
    assert {row[:2] for row in kept} == {(None, None)}
    assert all(row[2] > 0 and row[3] > 0 and len(row[4]) == 64 and row[5] for row in kept)


# --- one stage after the other ----------------------------------------------------------------------------------------
def test_a_worker_that_dies_between_a_step_and_the_next_stage_is_made_good_by_the_sweep(asked, monkeypatch):
    run = submit(asked)
    for stage in PIPELINES[asked.kind].stages[:-1]:
        if LATER[asked.kind].get(stage.name) == 0:
            continue  # it is passed by
        with monkeypatch.context() as context:
            context.setattr(steps_module, "run_advance", lambda _run_id: None)  # as if it were killed there
            for step in run.steps.filter(stage_name=stage.name):
                step_work(step.pk)
        assert not run.steps.exclude(status=Status.DONE).exists()
        runs_sweep()
        runs_sweep()
    assert ended(run).status == Status.DONE
    assert run.steps_total == all_of(asked)


@pytest.mark.django_db(transaction=True)
def test_the_last_two_steps_that_end_at_once_open_the_next_stage_once(asked, monkeypatch):
    run = submit(asked)
    step_work(step_of(run, "prepare").pk)
    first, *last = run.steps.filter(stage_name=middle_of(asked))
    step_work(first.pk)
    both_done = threading.Barrier(2)

    def advance(run_id):
        both_done.wait(timeout=60)
        run_advance(run_id)

    monkeypatch.setattr(steps_module, "run_advance", advance)

    def work(step_id):
        try:
            step_execute(step_id)
        finally:
            connection.close()

    threads = [threading.Thread(target=work, args=[step.pk]) for step in last]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    run.refresh_from_db()
    following = PIPELINES[asked.kind].stages[2].name
    opened = LATER[asked.kind].get(following, 1)
    assert (run.opened, run.steps_total) == (3, 4 + opened)
    assert run.steps.filter(stage_name=following).count() == opened


def test_a_stage_is_not_opened_before_all_steps_of_the_one_before_are_done(asked):
    run = submit(asked)
    step_work(step_of(run, "prepare").pk)
    step_work(step_of(run, middle_of(asked), 2).pk)
    run_advance(run.pk)
    runs_sweep()
    run.refresh_from_db()
    assert (run.opened, run.steps_done, run.steps_total) == (2, 2, 4)


def test_who_looks_while_the_last_step_ends_the_run_opens_nothing(asked, monkeypatch):
    run = ended(submit(asked))
    monkeypatch.setattr(Run, "has_ended", False)  # as it was read a moment ago
    run_advance(run.pk)
    monkeypatch.undo()
    run.refresh_from_db()
    assert (run.status, run.steps_total, run.error) == (Status.DONE, all_of(asked), "")


def test_a_run_of_before_there_were_steps_is_begun_by_the_sweep(asked):
    run = submit(asked)
    run.steps.all().delete()
    Run.objects.update(opened=0, steps_total=0, status=Status.RUNNING)
    runs_sweep()
    assert ended(run).status == Status.DONE


# --- what was lost ----------------------------------------------------------------------------------------------------
def test_what_is_done_is_not_done_again_after_a_worker_was_killed(asked, computed):
    run = submit(asked)
    step_work(step_of(run, "prepare").pk)
    step_work(step_of(run, middle_of(asked), 0).pk)
    killed = step_of(run, middle_of(asked), 1)
    assert STEPS.claim(killed.pk)
    RunStep.objects.filter(pk=killed.pk).update(heartbeat_at=timezone.now() - timedelta(hours=1))
    assert step_work(killed.pk)
    assert ended(run).attempt == 2
    assert set(computed.values()) == {1}
    assert len(computed) == all_of(asked)


@pytest.mark.django_db(transaction=True)
def test_steps_whose_ids_were_lost_with_the_broker_are_sent_again(asked):
    run = submit(asked)
    step_execute(run.steps.get().pk)
    assert run.steps.filter(status=Status.QUEUED).count() == 3
    with current_app.connection_for_write() as broker:
        client = broker.default_channel.client
        client.flushdb()  # emptied
        RunStep.objects.update(sent_at=timezone.now() - timedelta(hours=1))
        runs_sweep()
        assert client.llen("celery") == 3


def test_after_a_lost_lease_only_the_new_owner_keeps_what_it_found(asked):
    run = submit(asked)
    step_work(step_of(run, "prepare").pk)
    step = step_of(run, middle_of(asked))
    old = STEPS.claim(step.pk)
    RunStep.objects.filter(pk=step.pk).update(heartbeat_at=timezone.now() - timedelta(hours=1))
    assert step_work(step.pk)
    step.refresh_from_db()
    found = bytes(step.result)
    with pytest.raises(ClaimLostError):
        steps_module.step_keep(step, old, Worked(b"late"), took_s=1.0, cpu_s=1.0)
    step.refresh_from_db()
    assert (bytes(step.result), step.attempt) == (found, 2)


@pytest.mark.parametrize("at", range(3), ids=["first", "middle", "last"])
def test_a_program_that_fails_in_any_stage_fails_the_run_once(asked, at, monkeypatch):
    def broken(*_):
        raise ZeroDivisionError("a fault")

    pipeline = PIPELINES[asked.kind]
    stages = [replace(stage, work=broken) if n == at else stage for n, stage in enumerate(pipeline.stages)]
    monkeypatch.setitem(PIPELINES, asked.kind, replace(pipeline, stages=tuple(stages)))
    run = submit(asked)
    with pytest.raises(ZeroDivisionError):
        run_work(run.pk)
    runs_sweep()
    run.refresh_from_db()
    assert (run.status, run.error) == (Status.FAILED, "internal error: ZeroDivisionError('a fault')")
    assert set(run.steps.values_list("status", flat=True)) <= {Status.DONE, Status.FAILED, Status.CANCELLED}
    assert not run.steps.filter(result__isnull=False).exists()


def test_a_split_that_fails_fails_the_run_with_the_stage(asked, monkeypatch):
    def broken(_values, _results):
        raise ZeroDivisionError("a fault")

    pipeline = PIPELINES[asked.kind]
    stages = (pipeline.stages[0], replace(pipeline.stages[1], split=broken), pipeline.stages[2])
    monkeypatch.setitem(PIPELINES, asked.kind, replace(pipeline, stages=stages))
    run = submit(asked)
    with pytest.raises(ZeroDivisionError):
        run_work(run.pk)
    run.refresh_from_db()
    assert (run.status, run.error) == (Status.FAILED, "stage 2: internal error: ZeroDivisionError('a fault')")


def test_a_run_that_cannot_go_on_does_not_keep_the_sweep_from_the_others(asked):
    strange, sound = submit(asked), submit(asked)
    RunStep.objects.all().delete()
    Run.objects.update(opened=0, steps_total=0)
    Run.objects.filter(pk=strange.pk).update(inputs={**strange.inputs, "kind": "riddle"})
    runs_sweep()
    strange.refresh_from_db()
    assert (strange.status, strange.error) == (Status.FAILED, "stage 1: internal error: KeyError('riddle')")
    assert ended(sound).status == Status.DONE


# --- how far it is ----------------------------------------------------------------------------------------------------
def test_progress_is_the_sum_of_what_the_steps_are_worth(asked):
    run, seen = submit(asked), []
    while step := run.steps.filter(status=Status.QUEUED).first():
        step_work(step.pk)
        run.refresh_from_db()
        seen.append((round(run.progress_ratio, 3), run.steps_done, run.stage))
    middle = middle_of(asked)
    shares = {stage.name: stage.share_ratio for stage in PIPELINES[asked.kind].stages}
    counts = {"prepare": 1, middle: 3, **LATER[asked.kind], "merge": 1}
    worth = [shares[name] / count for name, count in counts.items() for _ in range(count)]
    done = [round(sum(worth[: at + 1]), 3) for at in range(len(worth) - 1)]
    assert [row[0] for row in seen] == [*done, 1.0]
    assert [row[1] for row in seen] == list(range(1, all_of(asked) + 1))
    assert [row[2] for row in seen][1:3] == [f"{middle} 1 of 3", f"{middle} 2 of 3"]


# --- the same question ------------------------------------------------------------------------------------------------
def test_the_same_question_is_answered_by_what_is_stored(asked, computed):
    first, again = ended(submit(asked)), ended(submit(asked))
    assert (again.status, again.reused_from_id, again.steps_total) == (Status.DONE, first.pk, 1)
    assert as_text(again.result) == as_text(first.result)
    assert again.question_digest == first.question_digest
    assert computed["merge", "{}"] == 1
    assert ended(submit(asked)).reused_from_id == first.pk


def test_it_is_computed_again_if_that_is_asked_for(asked, computed):
    first, again = ended(submit(asked)), ended(submit(asked, recompute=True))
    assert (again.reused_from, again.steps_total, computed["merge", "{}"]) == (None, all_of(asked), 2)
    assert as_text(again.result) == as_text(first.result)


@pytest.mark.parametrize("change", ["seed", "fleet", "demand"])
def test_another_question_is_computed(asked, change):
    first = ended(submit(asked))
    if change == "seed":
        asked.seed += 1
        scenario_save(asked)
    elif change == "fleet":
        Host.objects.filter(slug="host-0").delete()
    else:
        Service.objects.update(demand_request_s=3.0)
    other = ended(submit(asked))
    assert (other.reused_from, other.question_digest == first.question_digest) == (None, False)


def test_another_version_of_the_program_asks_another_question(asked, monkeypatch):
    ended(submit(asked))
    monkeypatch.setattr("scenarios.engine.ENGINE_VERSION", "next")
    assert ended(submit(asked)).reused_from is None


def test_a_scheduled_run_that_reuses_a_result_reports_it(asked):
    from scenarios.models import Schedule
    from scenarios.schedules import schedule_save

    schedule = schedule_save(Schedule(name="weekly", scenario=asked, cron="0 7 * * 1", zone="UTC"))
    ended(submit(asked))
    again = ended(submit(asked, schedule=schedule, fire_at=timezone.now()))
    assert again.reused_from_id
    assert Report.objects.get().run_id == again.pk


@pytest.mark.parametrize("at", range(3), ids=["first", "middle", "last"])
def test_a_result_that_the_clock_cut_short_is_never_reused(asked, at, monkeypatch):
    pipeline = PIPELINES[asked.kind]

    def cut(stage):
        return replace(stage, work=lambda *given: replace(stage.work(*given), is_reusable=False))

    stages = [cut(stage) if n == at else stage for n, stage in enumerate(pipeline.stages)]
    monkeypatch.setitem(PIPELINES, asked.kind, replace(pipeline, stages=tuple(stages)))
    first, again = ended(submit(asked)), ended(submit(asked))
    assert (first.is_reusable, again.reused_from) == (False, None)


# --- cancelling, and the lease beside a step --------------------------------------------------------------------------
@pytest.mark.parametrize("at", range(3), ids=["first", "middle", "last"])
@pytest.mark.django_db(transaction=True)
def test_a_run_that_is_cancelled_stops_in_any_stage(asked, at, monkeypatch):
    pipeline, working, returned = PIPELINES[asked.kind], threading.Event(), threading.Event()
    stage = pipeline.stages[at]

    def endless(values, payload, results, context):
        """The real work, over and over."""
        while True:
            working.set()
            stage.work(values, payload, results, context)

    stages = [replace(stage, work=endless) if n == at else kept for n, kept in enumerate(pipeline.stages)]
    monkeypatch.setitem(PIPELINES, asked.kind, replace(pipeline, stages=tuple(stages)))
    run = submit(asked)
    while not run.steps.filter(stage_name=stage.name).exists():
        step_execute(run.steps.filter(status=Status.QUEUED).first().pk)

    def work():
        try:
            step_execute(run.steps.filter(status=Status.QUEUED).first().pk)
            returned.set()
        finally:
            connection.close()

    worker = threading.Thread(target=work)
    worker.start()
    assert working.wait(timeout=60)
    assert run_cancel(run)
    worker.join(timeout=60)
    assert returned.is_set()
    run.refresh_from_db()
    assert (run.status, run.result) == (Status.CANCELLED, None)
    assert not run.steps.filter(status__in=(Status.QUEUED, Status.RUNNING)).exists()


def silent_pipeline(work):
    stages = (Stage("prepare", 0.1, one_step, lambda *_: Worked(b"")), Stage("solve", 0.9, one_step, work))
    return Pipeline(stages, question=lambda _results: "q")


ANSWER = json_pack({"snapshot_digest": "s", "engine_version": "e", "fleet": {"sentence": ""}})


@pytest.fixture
def solving(scenario, monkeypatch, settings):
    """A function that begins a run whose second stage is some work, and returns that step."""
    settings.RUN_LEASE_S = 1.0

    def begin(work):
        monkeypatch.setitem(PIPELINES, Scenario.Kind.CAPACITY, silent_pipeline(work))
        run = submit(scenario)
        step_execute(run.steps.get().pk)
        return run.steps.get(stage_name="solve")

    return begin


@pytest.mark.django_db(transaction=True)
def test_a_step_that_says_nothing_for_several_leases_keeps_its_claim(solving):
    def work(_values, _payload, _results, context):
        step = RunStep.objects.get(stage_name="solve")
        begun, heartbeats = step.heartbeat_at, set()
        while len(heartbeats) < 8:  # at least a quarter of a lease apart: two leases
            time.sleep(0.01)
            heartbeats.add(RunStep.objects.values_list("heartbeat_at", flat=True).get(pk=step.pk))
            assert STEPS.claim(step.pk) is None
        assert min(heartbeats) >= begun
        assert not context.should_stop()
        return Worked(ANSWER)

    step = solving(work)
    step_execute(step.pk)
    step.refresh_from_db()
    assert (step.status, step.attempt, step.error) == (Status.DONE, 1, "")


@pytest.mark.django_db(transaction=True)
def test_a_step_learns_without_reporting_that_another_worker_has_it(solving):
    def work(_values, _payload, _results, context):
        RunStep.objects.filter(stage_name="solve").update(claim=None)
        while not context.should_stop():
            time.sleep(0.01)
        with pytest.raises(ClaimLostError):
            context.report(0.5, "solve")
        return Worked(ANSWER)

    step = solving(work)
    step_execute(step.pk)
    step.refresh_from_db()
    assert (step.status, step.result_digest) == (Status.RUNNING, "")


@pytest.mark.django_db(transaction=True)
def test_a_checkpoint_is_kept_for_the_next_attempt_at_most_once_a_minute(solving, monkeypatch):
    assert steps_module.CHECKPOINT_EVERY_S == 60
    step = solving(lambda *_: Worked(ANSWER))

    def kept():
        data = RunStep.objects.values_list("checkpoint", flat=True).get(pk=step.pk)
        return data and bytes(data)

    claim = STEPS.claim(step.pk)
    with step_held(step.pk, claim) as context:
        assert context.checkpoint_load() is None
        context.checkpoint_save(b"one")
        while kept() != b"one":
            time.sleep(0.01)
        context.checkpoint_save(b"two")
        beats = set()
        while len(beats) < 3:  # the thread goes on, and leaves it alone
            beats.add(RunStep.objects.values_list("heartbeat_at", flat=True).get(pk=step.pk))
            time.sleep(0.01)
        assert kept() == b"one"
    monkeypatch.setattr(steps_module, "CHECKPOINT_EVERY_S", 0.0)
    with step_held(step.pk, claim) as context:
        assert context.checkpoint_load() == b"one"
        for data in (b"three", b"four"):
            context.checkpoint_save(data)
            while kept() != data:
                time.sleep(0.01)
        step_compute(step.pk, claim, context)
    assert kept() is None
