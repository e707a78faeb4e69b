import io
import threading
from contextlib import nullcontext
from datetime import date, timedelta

import pytest
from celery import current_app
from django.core.exceptions import ValidationError
from django.db import OperationalError, connection
from django.utils import timezone

from accelerator import TraceError
from fleet.services import StaleVersionError
from scenarios import services, tasks
from scenarios.claims import ClaimLostError, Queue
from scenarios.models import Run, RunStep, Scenario, Trace
from scenarios.pipelines import Worked, json_pack
from scenarios.steps import STEPS, answer_keep, runs_sweep, step_fail, step_keep
from scenarios.tasks import sweep
from tests.factories import START
from tests.runs import run_work, step_work

QUEUE = "celery"


def queued_ids():
    """The run ids that lie in the broker's queue."""
    with current_app.connection_for_write() as broker:
        client = broker.default_channel.client
        return client.llen(QUEUE)


@pytest.fixture(autouse=True)
def _empty_queue():
    with current_app.connection_for_write() as broker:
        broker.default_channel.client.delete(QUEUE)


@pytest.mark.django_db(transaction=True)
def test_a_run_is_sent_once_it_is_certain(scenario):
    run = services.run_submit(scenario=scenario, owner=None)
    assert run.status == Run.Status.QUEUED
    assert queued_ids() == 1


@pytest.mark.django_db
def test_a_run_keeps_the_inputs_it_was_started_with(scenario):
    run = services.run_submit(scenario=scenario, owner=None)
    scenario.draws = 99
    services.scenario_save(scenario, version=1)
    run.refresh_from_db()
    assert run.inputs["draws"] == 10


def test_a_run_is_computed_and_stored(scenario):
    run = services.run_submit(scenario=scenario, owner=None)
    run_work(run.pk)
    run.refresh_from_db()
    assert (run.status, run.attempt, run.progress_ratio, run.error) == (Run.Status.DONE, 1, 1.0, "")
    assert run.result["kind"] == "capacity"
    assert run.snapshot_digest == run.result["snapshot_digest"]
    assert run.finished_at is not None


def test_delivered_twice_is_computed_once(scenario):
    run = services.run_submit(scenario=scenario, owner=None)
    run_work(run.pk)
    first = Run.objects.values("result", "finished_at", "attempt").get(pk=run.pk)
    assert [step_work(step.pk) for step in run.steps.all()] == [False, False, False]
    assert Run.objects.values("result", "finished_at", "attempt").get(pk=run.pk) == first


@pytest.mark.django_db(transaction=True)
def test_of_many_workers_one_claims(scenario):
    run = services.run_submit(scenario=scenario, owner=None)
    step = run.steps.get()
    claims = []

    def claim():
        try:
            claims.append(STEPS.claim(step.pk))
        finally:
            connection.close()

    threads = [threading.Thread(target=claim) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len([claim for claim in claims if claim]) == 1


def test_a_worker_whose_lease_ran_out_can_store_nothing(scenario, settings):
    run = services.run_submit(scenario=scenario, owner=None)
    step = run.steps.get()
    old = STEPS.claim(step.pk)
    assert STEPS.claim(step.pk) is None
    RunStep.objects.update(heartbeat_at=timezone.now() - timedelta(seconds=settings.RUN_LEASE_S + 1))
    new = STEPS.claim(step.pk)
    assert new
    with pytest.raises(ClaimLostError):
        STEPS.report(step.pk, old, progress_ratio=0.5, stage="late")
    with pytest.raises(ClaimLostError):
        step_keep(step, old, Worked(b"late"), took_s=1.0, cpu_s=1.0)
    assert not STEPS.save(step.pk, old, checkpoint=b"late")
    step_fail(step.pk, old, error="late")
    step.refresh_from_db()
    run.refresh_from_db()
    assert (step.status, step.claim, step.attempt, step.result) == (Run.Status.RUNNING, new, 2, None)
    assert (run.has_ended, run.error) == (False, "")


def test_an_answer_that_comes_too_late_is_not_stored_and_ends_nothing(scenario, settings):
    run = services.run_submit(scenario=scenario, owner=None)
    for _ in range(2):
        step_work(run.steps.get(status=Run.Status.QUEUED).pk)
    last = run.steps.get(stage_name="merge")
    old = STEPS.claim(last.pk)
    RunStep.objects.filter(pk=last.pk).update(heartbeat_at=timezone.now() - timedelta(seconds=settings.RUN_LEASE_S + 1))
    assert STEPS.claim(last.pk)
    late = Worked(json_pack({"snapshot_digest": "x", "engine_version": "x"}))
    with pytest.raises(ClaimLostError):
        answer_keep(last, old, late, took_s=1.0, cpu_s=1.0)
    run.refresh_from_db()
    assert (run.status, run.result, run.snapshot_digest) == (Run.Status.RUNNING, None, "")
    assert run.steps.get(stage_name="prepare").result


def test_a_cancelled_run_stops_at_its_next_report_and_keeps_no_result(scenario):
    run = services.run_submit(scenario=scenario, owner=None)
    step = run.steps.get()
    claim = STEPS.claim(step.pk)
    assert services.run_cancel(run)
    with pytest.raises(ClaimLostError):
        STEPS.report(step.pk, claim, progress_ratio=0.5, stage="snapshot")
    assert STEPS.claim(step.pk) is None
    run.refresh_from_db()
    assert (run.status, run.result, run.steps.get().status) == (Run.Status.CANCELLED, None, Run.Status.CANCELLED)
    assert not services.run_cancel(run)


def test_a_question_without_an_answer_fails_with_the_reason(scenario):
    scenario.kind = Scenario.Kind.MIGRATION
    services.scenario_save(scenario)
    run = services.run_submit(scenario=scenario, owner=None)
    from fleet.models import HostType

    HostType.objects.filter(slug="ppu-16x").delete()
    run_work(run.pk)
    run.refresh_from_db()
    assert run.status == Run.Status.FAILED
    assert run.error == "nothing to move to: no host type of the fleet has a homegrown chip"


def refuse_reports(monkeypatch, *, times, reason="database is locked"):
    """Let the data base refuse the next heartbeats; return those it refused."""
    refused, report = [], Queue.report

    def sometimes(queue, run_id, claim, **values):
        if len(refused) < times:
            refused.append(values)
            raise OperationalError(reason)
        report(queue, run_id, claim, **values)

    monkeypatch.setattr(Queue, "report", sometimes)
    return refused


@pytest.mark.django_db(transaction=True)
def test_a_heartbeat_that_meets_a_locked_data_base_is_skipped_while_the_lease_holds(scenario, monkeypatch):
    refused = refuse_reports(monkeypatch, times=3)
    run = services.run_submit(scenario=scenario, owner=None)
    run_work(run.pk)
    run.refresh_from_db()
    assert (run.status, run.attempt, len(refused)) == (Run.Status.DONE, 1, 3)


@pytest.mark.django_db(transaction=True)
def test_after_a_skipped_heartbeat_the_next_report_tries_again(scenario, monkeypatch):
    refuse_reports(monkeypatch, times=1)
    run = services.run_submit(scenario=scenario, owner=None)
    step = run.steps.get()
    report = tasks._reporter(STEPS, step.pk, STEPS.claim(step.pk))
    report(0.1, "draw 1")
    step.refresh_from_db()
    assert step.stage == "claimed"
    report(0.2, "draw 2")
    step.refresh_from_db()
    assert (step.stage, step.progress_ratio) == ("draw 2", 0.2)


def test_a_data_base_that_is_away_for_a_whole_lease_ends_the_attempt(scenario, monkeypatch, settings):
    refuse_reports(monkeypatch, times=3, reason="the connection is gone")
    settings.RUN_LEASE_S = 0.0
    run = services.run_submit(scenario=scenario, owner=None)
    with pytest.raises(OperationalError):
        run_work(run.pk)
    run.refresh_from_db()
    assert (run.status, run.result) == (Run.Status.RUNNING, None)  # the sweep sends it again


@pytest.mark.django_db(transaction=True)
def test_a_lock_longer_than_a_lease_ends_an_attempt_only_where_several_write_at_once(scenario, monkeypatch, settings):
    refused = refuse_reports(monkeypatch, times=3)
    settings.RUN_LEASE_S = 0.0
    run = services.run_submit(scenario=scenario, owner=None)
    one_writes = connection.vendor == "sqlite"
    with nullcontext() if one_writes else pytest.raises(OperationalError):
        run_work(run.pk)
    run.refresh_from_db()
    ended = (Run.Status.DONE, 1, 3) if one_writes else (Run.Status.RUNNING, 1, 1)
    assert (run.status, run.steps.first().attempt, len(refused)) == ended


@pytest.mark.django_db(transaction=True)
def test_the_sweep_sends_what_a_broker_lost_and_what_a_worker_left(scenario, settings):
    long_ago = timezone.now() - timedelta(seconds=settings.RUN_LEASE_S * 100)
    lost, left, waiting = (services.run_submit(scenario=scenario, owner=None).steps.get() for _ in range(3))
    STEPS.claim(left.pk)
    RunStep.objects.filter(pk=lost.pk).update(sent_at=long_ago)
    RunStep.objects.filter(pk=left.pk).update(sent_at=long_ago, heartbeat_at=long_ago)
    with current_app.connection_for_write() as broker:
        broker.default_channel.client.delete(QUEUE)
    assert STEPS.sweep() == 2
    assert STEPS.sweep() == 0
    assert queued_ids() == 2
    waiting.refresh_from_db()
    assert waiting.send_count == 1


def test_a_step_that_takes_three_workers_down_is_given_up_and_the_run_names_it(scenario, settings):
    run = services.run_submit(scenario=scenario, owner=None)
    step = run.steps.get()
    long_ago = timezone.now() - timedelta(seconds=settings.RUN_LEASE_S * 2)
    for _ in range(3):
        runs_sweep()
        assert STEPS.claim(step.pk)
        RunStep.objects.update(heartbeat_at=long_ago)
    assert STEPS.claim(step.pk) is None
    runs_sweep()
    run.refresh_from_db()
    assert (run.status, run.attempt) == (Run.Status.FAILED, 3)
    assert run.error == f"step prepare 1 of run {run.pk}: its worker was lost 3 times; the step is given up"


@pytest.mark.django_db(transaction=True)
def test_without_a_broker_a_run_stays_queued_and_the_sweep_sends_it_later(scenario, monkeypatch):
    def refuse(*args, **kwargs):
        raise ConnectionRefusedError("no broker")

    with monkeypatch.context() as context:
        context.setattr(current_app, "send_task", refuse)
        run = services.run_submit(scenario=scenario, owner=None)
    run.refresh_from_db()
    assert (run.status, run.steps.get().sent_at) == (Run.Status.QUEUED, None)
    assert STEPS.sweep() == 1


def test_the_tick_shows_that_a_worker_lives(scenario):
    from django.core.cache import cache

    from scenarios.tasks import WORKER_HEARTBEAT_KEY

    sweep()
    assert cache.get(WORKER_HEARTBEAT_KEY)


@pytest.mark.parametrize(
    ("values", "field", "words"),
    [
        pytest.param({"ends_on": date(2026, 12, 1)}, "ends_on", "before it begins", id="ends before it begins"),
        pytest.param({"ends_on": date(2050, 1, 1)}, "ends_on", "at most 120", id="too long"),
        pytest.param({"services": ["chat", "nobody"]}, "services", "unknown service 'nobody'", id="unknown service"),
        pytest.param({"services": ["chat", "chat"]}, "services", "twice", id="service twice"),
        pytest.param({"services": "chat"}, "services", "list", id="not a list"),
        pytest.param({"reserve_ratio": 1.5}, "reserve_ratio", "less than or equal", id="reserve"),
        pytest.param({"draws": 0}, "draws", "greater than or equal", id="no draws"),
    ],
)
def test_a_scenario_that_makes_no_sense_is_refused_and_not_stored(scenario, values, field, words):
    other = Scenario(**{"name": "x", "kind": "capacity", "starts_on": START, "ends_on": date(2027, 3, 1), **values})
    with pytest.raises(ValidationError) as caught:
        services.scenario_save(other)
    assert words in " ".join(caught.value.message_dict[field])
    assert Scenario.objects.count() == 1


def test_an_edit_over_somebody_elses_is_refused(scenario):
    mine, theirs = (Scenario.objects.get(pk=scenario.pk) for _ in range(2))
    theirs.name = "theirs"
    services.scenario_save(theirs, version=1)
    mine.name = "mine"
    with pytest.raises(StaleVersionError):
        services.scenario_save(mine, version=1)
    assert Scenario.objects.get(pk=scenario.pk).name == "theirs"


def test_a_trace_is_kept_once_and_a_broken_one_not_at_all(db):
    good = b"arrival_s,input_tokens,output_tokens\n0,100,10\n1.5,200,20\n"
    first, is_new = services.trace_keep(services.trace_read(io.BytesIO(good), name="a.csv", owner=None))
    assert is_new
    again, is_new = services.trace_keep(services.trace_read(io.BytesIO(good), name="b.csv", owner=None))
    assert (again.pk, again.name, is_new) == (first.pk, "a.csv", False)
    assert first.mix["input_tok"] == 150
    with pytest.raises(TraceError, match=r"bad\.csv:3: column output_tokens"):
        services.trace_read(io.BytesIO(good.replace(b",20\n", b",x\n")), name="bad.csv", owner=None)
    assert Trace.objects.count() == 1
