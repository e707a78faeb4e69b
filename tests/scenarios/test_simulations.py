import copy
import json
import math
import os
import signal
import subprocess
import sys
import time
from datetime import timedelta

import numpy as np
import pytest
from celery import current_app
from django.core.management import CommandError, call_command
from django.db.models import ProtectedError
from django.utils import timezone

from accelerator import AcceleratorError, Experiment, Outcome, Workload, experiment_run, parts_merge
from accelerator.simulate_command import outcome_lines
from scenarios import simulations, tasks
from scenarios.claims import ATTEMPTS_MAX, ClaimLostError
from scenarios.models import Simulation, SimulationPart, Trace
from scenarios.services import trace_delete, workload_store
from scenarios.simulations import PARTS, simulation_outcome, simulation_state, simulation_submit
from scenarios.tasks import part_execute, sweep
from tests.processes import ROOT, Ground

QUEUE = "celery"
POOL = {"chip": "h100-sxm", "model": "llama-3.1-8b", "max_seqs": 16, "max_batched_tok": 1024, "replicas": 2}
VALUES = {
    "seeds": 2, "cells": 2, "router": "random", "pool": [POOL], "slo": [{"ttft_s": 0.5}],
    "workload": {"profile": "azure-conv", "requests": 60, "rate_request_s": 8.0},
}  # fmt: skip
FILE = """\
seeds = 2
[workload]
profile = "azure-conv"
requests = {requests}
rate_request_s = 2.0
[[pool]]
chip = "h100-sxm"
model = "llama-3.1-8b"
"""
PATIENCE_S = 120  # only so that a broken product fails the test instead of hanging it


@pytest.fixture
def trace(db):
    workload = Workload("w", np.arange(20.0), np.arange(100, 120), np.full(20, 5), client_id=np.arange(20) % 3)
    return workload_store(workload, owner=None)


@pytest.fixture
def simulation(db):
    return simulation_submit(VALUES)


def queued_ids():
    with current_app.connection_for_write() as broker:
        return broker.default_channel.client.llen(QUEUE)


@pytest.fixture(autouse=True)
def _empty_queue():
    with current_app.connection_for_write() as broker:
        broker.default_channel.client.delete(QUEUE)


def ids(simulation):
    return list(simulation.parts.values_list("pk", flat=True))


def alone(values, **more):
    return experiment_run(Experiment(values, **more)).to_bytes()


def changed(table, **values):
    made = copy.deepcopy(VALUES)
    inner = made if not table else made[table][0] if table == "pool" else made[table]
    inner |= values
    return made


# --- submit -----------------------------------------------------------------------------------------------------------
@pytest.mark.django_db(transaction=True)
def test_an_experiment_is_stored_with_its_parts_and_each_is_sent_once_it_is_certain():
    simulation = simulation_submit(VALUES)
    assert Simulation.objects.get().experiment == VALUES
    assert list(simulation.parts.values_list("number", "status", "send_count")) == [
        (number, "queued", 1) for number in range(4)
    ]
    assert queued_ids() == 4
    assert simulation_state(simulation).status == "queued"
    assert simulation_outcome(simulation) is None


@pytest.mark.django_db
def test_equal_experiments_have_equal_digests_and_others_others(trace):
    first, again, other = (simulation_submit(values).digest for values in (VALUES, VALUES, changed("", seed=1)))
    assert first == again != other


@pytest.mark.parametrize(
    ("values", "words"),
    [
        ([], "the experiment: a table is expected"),
        ({}, "pool: at least one is needed"),
        ({**VALUES, "workload": 3}, "workload: a table is expected"),
        (changed("", colour=1), "colour: unknown; known are "),
        (changed("pool", chip="h2O-96"), 'unknown chip "h2O-96"; did you mean h20-96'),
        (changed("pool", model="llama-3.1-70b"), "llama-3.1-70b in bf16 tp1 does not fit 1 x h100-sxm"),
        (changed("pool", tp=True), "pool[0].tp: a whole number from 1 on is expected, not True"),
        (changed("", cells=3), "cells: 3 are more than the 2 replicas of pool1"),
        (changed("workload", requests=1), "workload.requests: 1 are too few for 2 cells"),
        (changed("workload", rate_request_s=math.nan), "workload.rate_request_s: a number above 0 is expected"),
        (changed("", seeds=501), "seeds: 501 times 2 cells are more than 1,000 parts"),
        (changed("", until_s=math.inf), "the experiment: it cannot be stored as JSON, such as an infinite number"),
        (changed("pool", name="a\0b"), "pool[0].name: a text without control characters is expected"),
        (changed("pool", name="a\ud800"), "pool[0].name: a text without control characters is expected"),
        (changed("workload", trace="/etc/passwd"), "workload.trace: no file is read here"),
        (changed("workload", trace=3), "workload.trace: no file is read here"),
        (changed("workload", trace=""), "workload.trace: no file is read here"),
        (changed("workload", trace_id=1), "workload.trace_id: there is no trace 1"),
        (changed("workload", trace_id=True), "workload.trace_id: a whole number from 1 on is expected, not True"),
        (changed("workload", trace_id="../t.csv"), "workload.trace_id: a whole number from 1 on is expected"),
    ],
)  # fmt: skip
@pytest.mark.django_db
def test_bad_input_is_refused_with_its_place_and_nothing_is_stored(values, words):
    with pytest.raises(AcceleratorError) as caught:
        simulation_submit(values)
    assert str(caught.value).startswith(words)
    assert (Simulation.objects.count(), SimulationPart.objects.count()) == (0, 0)


def test_a_trace_and_a_profile_are_too_much(trace):
    with pytest.raises(AcceleratorError, match="workload: a trace or a profile, not both"):
        simulation_submit(changed("workload", trace_id=trace.pk))


# --- parts ------------------------------------------------------------------------------------------------------------
def test_parts_computed_in_any_order_merge_to_the_bytes_of_one_process(simulation):
    for part_id in reversed(ids(simulation)):
        assert simulation_outcome(simulation) is None
        part_execute(part_id)
    assert simulation_state(simulation) == simulations.State("done", 1.0, "")
    assert simulation_outcome(simulation).to_bytes() == alone(VALUES)
    assert set(simulation.parts.values_list("status", "attempt", "stage", "error")) == {("done", 1, "", "")}


def test_one_part_is_a_simulation_too(db):
    values = {**VALUES, "seeds": 1, "cells": 1}
    simulation = simulation_submit(values)
    part_execute(simulation.parts.get().pk)
    assert simulation_outcome(simulation).to_bytes() == alone(values)


def test_a_stored_trace_is_simulated_as_a_file_of_it_would_be(trace):
    values = {**VALUES, "workload": {"trace_id": trace.pk, "requests": 15}}
    simulation = simulation_submit(values)
    for part_id in ids(simulation):
        part_execute(part_id)
    workload = Workload.from_bytes(bytes(trace.arrays), "w")
    as_file = {**VALUES, "workload": {"trace": "w.csv", "requests": 15}}
    assert simulation_outcome(simulation).to_bytes() == alone(as_file, trace_read=lambda name: workload)


def test_a_trace_is_kept_while_a_part_reads_it_and_then_may_go(trace):
    simulation = simulation_submit({**VALUES, "workload": {"trace_id": trace.pk}})
    first, *rest = ids(simulation)
    part_execute(first)
    with pytest.raises(ProtectedError):
        trace_delete(trace)
    for part_id in rest:
        part_execute(part_id)
    trace_delete(trace)
    simulation.refresh_from_db()
    assert simulation.trace is None
    assert simulation_outcome(simulation).arrived == 2 * 20


def test_delivered_twice_is_computed_once(simulation):
    part_id = ids(simulation)[0]
    part_execute(part_id)
    first = SimulationPart.objects.values("result", "finished_at", "attempt").get(pk=part_id)
    part_execute(part_id)
    again = SimulationPart.objects.values("result", "finished_at", "attempt").get(pk=part_id)
    assert {**again, "result": bytes(again["result"])} == {**first, "result": bytes(first["result"])}


def test_progress_is_that_of_all_parts(simulation):
    first, second, *_ = ids(simulation)
    part_execute(first)
    PARTS.report(second, PARTS.claim(second), progress_ratio=0.5, stage="simulate")
    assert simulation_state(simulation) == simulations.State("running", 1.5 / 4, "")
    assert not simulation_state(simulation).has_ended


def test_a_part_tells_how_far_it_is_and_so_renews_its_lease(simulation, monkeypatch):
    said = []
    monkeypatch.setattr("accelerator.simulator.EVENTS_PER_TURN", 10)
    content = simulations.part_compute(ids(simulation)[3], on_progress=lambda *step: said.append(step))
    assert Outcome.from_bytes(content).arrived == 30
    assert [stage for _, stage in (said[0], said[1], said[-1])] == ["prepare", "simulate", "store"]
    ratios = [ratio for ratio, _ in said]
    assert ratios == sorted(ratios)
    assert len(set(ratios)) > 10


# --- what goes wrong --------------------------------------------------------------------------------------------------
def test_a_part_that_cannot_be_simulated_fails_with_the_reason(trace):
    simulation = simulation_submit({**VALUES, "workload": {"trace_id": trace.pk}})
    named = trace.pk
    Trace.objects.all().delete()
    part_execute(ids(simulation)[1])
    part = simulation.parts.get(number=1)
    assert (part.status, part.error) == ("failed", f"workload.trace_id: trace {named} was deleted")
    state = simulation_state(simulation)
    assert (state.status, state.error) == ("failed", f"part 1: {part.error}")
    assert state.has_ended
    assert simulation_outcome(simulation) is None


def test_a_failure_of_the_program_is_kept_too(simulation, monkeypatch):
    def fail(*arguments, **more):
        raise RuntimeError("a defect")

    monkeypatch.setattr(tasks, "part_compute", fail)
    with pytest.raises(RuntimeError):
        part_execute(ids(simulation)[0])
    assert simulation.parts.get(number=0).error == "internal error: RuntimeError('a defect')"


def long_ago(settings):
    return timezone.now() - timedelta(seconds=settings.RUN_LEASE_S * 100)


@pytest.mark.django_db(transaction=True)
def test_the_sweep_sends_what_a_broker_lost_and_what_a_worker_left(settings):
    lost, left, waiting, done = ids(simulation_submit(VALUES))
    part_execute(done)
    PARTS.claim(left)
    SimulationPart.objects.filter(pk=lost).update(sent_at=long_ago(settings))
    SimulationPart.objects.filter(pk=left).update(sent_at=long_ago(settings), heartbeat_at=long_ago(settings))
    _, before = queued_ids(), dict(SimulationPart.objects.values_list("pk", "send_count"))
    sweep()
    sweep()
    assert queued_ids() == 4 + 2
    after = dict(SimulationPart.objects.values_list("pk", "send_count"))
    assert {part_id: after[part_id] - before[part_id] for part_id in after} == {lost: 1, left: 1, waiting: 0, done: 0}


@pytest.mark.django_db(transaction=True)
def test_without_a_broker_parts_stay_queued_and_the_sweep_sends_them_later(monkeypatch):
    tried = []

    def refuse(*args, **kwargs):
        tried.append(args)
        raise ConnectionRefusedError("no broker")

    with monkeypatch.context() as context:
        context.setattr(current_app, "send_task", refuse)
        simulation = simulation_submit(VALUES)
    assert len(tried) == 1
    assert set(simulation.parts.values_list("status", "sent_at")) == {("queued", None)}
    assert PARTS.sweep() == 4


def test_a_worker_whose_lease_ran_out_can_store_nothing(simulation, settings):
    part_id = ids(simulation)[0]
    old = PARTS.claim(part_id)
    assert PARTS.claim(part_id) is None
    SimulationPart.objects.filter(pk=part_id).update(heartbeat_at=long_ago(settings))
    part_execute(part_id)
    with pytest.raises(ClaimLostError):
        PARTS.finish(part_id, old, result=b"late")
    part = SimulationPart.objects.get(pk=part_id)
    assert (part.status, part.attempt) == ("done", 2)
    assert bytes(part.result) != b"late"


def test_a_part_that_takes_its_workers_down_is_given_up(simulation, settings):
    part_id = ids(simulation)[2]
    for _ in range(ATTEMPTS_MAX):
        assert PARTS.claim(part_id)
        SimulationPart.objects.filter(pk=part_id).update(heartbeat_at=long_ago(settings))
    PARTS.sweep()
    assert simulation_state(simulation).error == (
        "part 2: its worker was lost 5 times; the simulation part is given up"
    )
    part_execute(part_id)
    assert simulation.parts.get(number=2).status == "failed"


# --- the command ------------------------------------------------------------------------------------------------------
@pytest.fixture
def file(tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text(FILE.format(requests=40))
    return path


@pytest.mark.parametrize(
    ("text", "words"),
    [
        (None, "experiment.toml: cannot be read: No such file or directory"),
        ("seeds = ", "experiment.toml: not TOML: "),
        (FILE.format(requests=0), "workload.requests: how many are to be generated?"),
        ('workload.trace = "t.csv"', "workload.trace: no file is read here; store the trace"),
    ],
)
@pytest.mark.django_db
def test_a_file_that_makes_no_sense_is_refused_and_not_stored(tmp_path, text, words):
    path = tmp_path / "experiment.toml"
    if text is not None:
        path.write_text(text)
    with pytest.raises(CommandError) as caught:
        call_command("run_simulation", str(path))
    assert words in str(caught.value)
    assert caught.value.returncode == 2
    assert not Simulation.objects.exists()


@pytest.mark.django_db
def test_without_a_worker_it_says_so_and_stores_nothing(file):
    with pytest.raises(CommandError, match="no worker answers") as caught:
        call_command("run_simulation", str(file))
    assert caught.value.returncode == 3
    assert not Simulation.objects.exists()


@pytest.fixture
def by_itself(monkeypatch):
    """The command computes each part where it would wait for a worker."""

    def keep(simulation):
        kept = simulations.simulation_keep(simulation)
        for part_id in ids(kept):
            part_execute(part_id)
        return kept

    monkeypatch.setattr("scenarios.management.commands.run_simulation.worker_need", lambda: None)
    monkeypatch.setattr("scenarios.management.commands.run_simulation.simulation_keep", keep)


@pytest.mark.django_db
def test_an_answer_is_shown_as_the_simulator_shows_it(file, by_itself, capsys):
    call_command("run_simulation", str(file), "--wait")
    lines = capsys.readouterr().out.splitlines()
    assert lines == list(outcome_lines(experiment_run(experiment_of(40)).as_dict()))
    assert lines[0].startswith("requests     80 arrived, 80 finished")


@pytest.mark.django_db
def test_without_waiting_it_names_the_simulation(file, by_itself, capsys):
    call_command("run_simulation", str(file))
    simulation = Simulation.objects.get()
    assert capsys.readouterr().out == f"simulation {simulation.pk} is done in 2 part(s)\n"
    call_command("run_simulation", str(file), "--json")
    assert json.loads(capsys.readouterr().out) == {"simulation": simulation.pk + 1, "status": "done"}


@pytest.mark.django_db
def test_a_simulation_of_which_a_part_failed_ends_with_four(file, by_itself, monkeypatch):
    def fail(*arguments, **more):
        raise ValueError("no answer")

    monkeypatch.setattr(tasks, "part_compute", fail)
    with pytest.raises(CommandError, match=r"simulation \d+ failed: part 0: no answer") as caught:
        call_command("run_simulation", str(file), "--wait")
    assert caught.value.returncode == 4


# --- real workers over the real broker --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def workers(tmp_path_factory):
    """An installation with a beat and two workers, and a lease that a busy machine does not break by itself."""
    built = Ground(tmp_path_factory.mktemp("ground"))
    built.env["RUN_LEASE_S"] = "4"
    try:
        built.call("manage.py", "migrate", "-v0")
        for _ in range(2):
            built.worker_start()
        built.beat_start()
        built.worker_wait()
        yield built
    finally:
        built.close()


def command_of(*options):
    return [sys.executable, "manage.py", "run_simulation", *map(str, options)]


def run_simulation(ground, *options):
    return subprocess.run(command_of(*options), cwd=ROOT, env=ground.env, capture_output=True, text=True, check=False)


def test_workers_answer_a_file_as_one_process_does(workers, file):
    answered = run_simulation(workers, file, "--wait", "--json")
    assert answered.returncode == 0, answered.stderr
    answer = json.loads(answered.stdout)
    figures = experiment_run(experiment_of(40)).as_dict()
    assert answer["result"] == json.loads(json.dumps(figures))
    assert answer["status"] == "done"


def experiment_of(requests):
    return Experiment({
        "seeds": 2,
        "workload": {"profile": "azure-conv", "requests": requests, "rate_request_s": 2.0},
        "pool": [{"chip": "h100-sxm", "model": "llama-3.1-8b"}],
    })  # fmt: skip


def parts_of(rows, simulation, columns):
    return rows(f"SELECT {columns} FROM scenarios_simulationpart WHERE simulation_id = {simulation} ORDER BY number")


def test_a_part_whose_worker_is_killed_is_done_again_once_and_the_bytes_are_the_same(workers, tmp_path):
    requests = 4_000_000
    path = tmp_path / "long.toml"
    path.write_text(FILE.format(requests=requests))
    with workers.rows() as rows:
        command = command_of(path, "--json")  # looked at while it runs: a part may be done before the command is
        with subprocess.Popen(command, cwd=ROOT, env=workers.env, stdout=subprocess.PIPE, text=True) as sending:
            killed = kill_in_mid_part(workers, rows)
            simulation = json.loads(sending.communicate(timeout=PATIENCE_S)[0])["simulation"]
        assert sending.returncode == 0
        wait_until(lambda: all(status == "done" for (status,) in parts_of(rows, simulation, "status")))
        parts = parts_of(rows, simulation, "number, attempt, result")
    assert {number: attempt for number, attempt, _ in parts} == {0: 1, 1: 1, killed: 2}
    experiment = experiment_of(requests)
    merged = parts_merge(experiment, [Outcome.from_bytes(bytes(result)) for *_, result in parts])
    assert merged.to_bytes() == experiment_run(experiment).to_bytes()


def kill_in_mid_part(ground, rows):
    """Kill the worker of the first part that is seen at work, start another, and return the part's number."""
    seen = []

    def look():
        seen.extend(rows("SELECT number, worker FROM scenarios_simulationpart WHERE stage = 'simulate'"))
        return seen

    wait_until(look, every_s=0.002)
    number, worker = seen[0]
    time.sleep(0.1)
    os.killpg(os.getpgid(int(worker.rpartition(":")[2])), signal.SIGKILL)
    ground.worker_start()
    return number


def wait_until(is_so, *, every_s=0.05):
    end_s = time.monotonic() + PATIENCE_S
    while not is_so():
        assert time.monotonic() < end_s
        time.sleep(every_s)
