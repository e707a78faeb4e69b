import json
import os
import signal
import subprocess
import sys
import time

import pytest
from django.core.management import CommandError, call_command

from accelerator import models_load
from scenarios import rating_store
from scenarios.models import RatingBatch, StoredRating
from scenarios.tasks import ratings_execute
from tests.processes import ROOT, Ground

PAIRS = ("--chip", "h20-96", "--chip", "a10", "--model", "qwen3-0.6b", "--model", "deepseek-r1")
LIMITS = ("--mix", "m-small", "--ttft-p95-s", "5", "--tpot-p95-s", "0.1")
PATIENCE_S = 120  # only so that a broken product fails the test instead of hanging it


@pytest.fixture
def by_itself(monkeypatch, db):
    """The command computes each batch where it would wait for a worker."""
    command = "scenarios.management.commands.rate_catalog"

    def submit(questions, missing):
        catalog = rating_store.catalog_submit(questions, missing)
        for batch_id in RatingBatch.objects.filter(catalog=catalog.uid).values_list("pk", flat=True):
            ratings_execute(batch_id)
        return catalog

    monkeypatch.setattr(f"{command}.worker_need", lambda: None)
    monkeypatch.setattr(f"{command}.catalog_submit", submit)


def test_it_says_what_was_rated_refused_and_stored_already(by_itself, capsys):
    call_command("rate_catalog", *PAIRS, *LIMITS, "--wait")
    first = capsys.readouterr().out
    assert first.startswith("4 pairs: 3 rated, 1 refused, 0 stored already; 1 batch(es) done, ")
    call_command("rate_catalog", *PAIRS, *LIMITS, "--wait", "--json")
    again = json.loads(capsys.readouterr().out)
    assert again.pop("took_s") < 5
    again.pop("catalog")
    counts = {"pairs": 4, "batches": 0, "stored": 4, "rated": 0, "refused": 0}
    assert again == {"status": "done", **counts}
    assert StoredRating.objects.count() == 4


def test_names_given_twice_count_once(by_itself, capsys):
    call_command("rate_catalog", *PAIRS[:2], *PAIRS[:2], *PAIRS[4:6], *LIMITS)
    assert capsys.readouterr().out.startswith("1 pairs: 1 rated")


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (("--chip", "h20-9"), 'unknown chip "h20-9"; did you mean'),
        (("--model", "qwen3-33b"), 'unknown model "qwen3-33b"; did you mean'),
        (("--mix", "azure"), 'unknown workload profile "azure"; did you mean'),
        (("--ttft-p95-s", "0"), "limits are positive"),
        (("--tpot-p95-s", "inf"), "limits are finite"),
    ],
)
def test_what_does_not_exist_is_one_sentence_and_nothing_is_stored(db, options, words):
    with pytest.raises(CommandError, match=words) as caught:
        call_command("rate_catalog", *options)
    assert caught.value.returncode == 2
    assert not RatingBatch.objects.exists()


def test_without_a_worker_it_says_so_and_stores_nothing(db):
    with pytest.raises(CommandError, match="no worker answers") as caught:
        call_command("rate_catalog", *PAIRS, *LIMITS)
    assert caught.value.returncode == 3
    assert not RatingBatch.objects.exists()


def test_a_batch_that_failed_ends_with_four(by_itself, monkeypatch):
    def fail(*arguments, **more):
        raise ValueError("no answer")

    monkeypatch.setattr(rating_store, "goodput_search", fail)
    with pytest.raises(CommandError, match=r"batch \d+: no answer") as caught:
        call_command("rate_catalog", *PAIRS, *LIMITS, "--wait")
    assert caught.value.returncode == 4


# --- real workers over the real broker --------------------------------------------------------------------------------
@pytest.fixture
def workers(tmp_path):
    """An installation with a beat and two workers, and a lease that a busy machine does not break by itself."""
    built = Ground(tmp_path)
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


def test_a_batch_whose_worker_is_killed_goes_on_and_every_pair_is_stored_once(workers):
    small = sorted(slug for slug, model in models_load().items() if model.params_total < 4e9)[:24]
    models = [word for slug in small for word in ("--model", slug)]
    chips = ("--chip", "h20-96", "--chip", "l4", "--chip", "a10")
    command = [sys.executable, "manage.py", "rate_catalog", *chips, *models, *LIMITS, "--wait", "--json"]
    with (
        workers.rows() as rows,
        subprocess.Popen(command, cwd=ROOT, env=workers.env, stdout=subprocess.PIPE, text=True) as asking,
    ):
        killed = kill_in_mid_batch(workers, rows)
        answer = json.loads(asking.communicate(timeout=PATIENCE_S)[0])
        assert asking.returncode == 0
        assert (answer["status"], answer["pairs"], answer["stored"]) == ("done", 3 * len(small), 0)
        assert answer["rated"] + answer["refused"] == answer["pairs"]
        stored = rows("SELECT count(*), count(DISTINCT digest) FROM scenarios_storedrating")
        assert tuple(stored[0]) == (answer["pairs"], answer["pairs"])
        attempts = rows("SELECT id, attempt FROM scenarios_ratingbatch")
        assert {batch: attempt for batch, attempt in attempts if attempt > 1} == {killed: 2}


def kill_in_mid_batch(ground, rows):
    """Kill the worker of the first batch of which something is stored, start another, and return the batch's id."""
    end_s = time.monotonic() + PATIENCE_S
    while not rows("SELECT 1 FROM scenarios_storedrating LIMIT 1"):
        assert time.monotonic() < end_s
        time.sleep(0.01)
    batch_id, worker = rows("SELECT id, worker FROM scenarios_ratingbatch WHERE status = 'running' ORDER BY id")[0]
    os.killpg(os.getpgid(int(worker.rpartition(":")[2])), signal.SIGKILL)
    ground.worker_start()
    return batch_id
