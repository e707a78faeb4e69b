import gzip
import json
import subprocess
import sys
from datetime import date

import pytest
from django.core.management import CommandError, call_command

from scenarios.models import Run, Scenario, Trace
from tests.factories import fleet_rows
from tests.processes import ROOT

HEADER = "arrival_s,input_tokens,output_tokens\n"
GOOD = HEADER + "".join(f"{at * 0.5},{900 + at},{150 + at % 7}\n" for at in range(200))
FLEET = """
import django
django.setup()
from tests.factories import fleet_rows
fleet_rows()
"""


def stored():
    return Scenario.objects.count(), Run.objects.count(), Trace.objects.count()


@pytest.mark.parametrize(
    ("text", "words"),
    [
        pytest.param("arrival_s,input_tokens\n0,1\n", "trace.csv:1: column output_tokens", id="missing column"),
        pytest.param(HEADER + "0,10,1\n1,-5,1\n", "trace.csv:3: column input_tokens", id="negative"),
        pytest.param(HEADER + "0,10,1\n1,ten,1\n", "trace.csv:3: column input_tokens", id="not a number"),
        pytest.param(HEADER + "0,10,1\n2,10,1\n1,10,1\n", "trace.csv:4: column arrival_s", id="unsorted"),
        pytest.param("", "trace.csv: the file is empty", id="empty"),
    ],
)
@pytest.mark.django_db
def test_a_broken_trace_is_named_by_file_line_and_column_and_nothing_is_stored(tmp_path, monkeypatch, text, words):
    fleet_rows()
    monkeypatch.chdir(tmp_path)
    (tmp_path / "trace.csv").write_text(text)
    with pytest.raises(CommandError) as caught:
        call_command("run_scenario", "capacity", "--trace", "trace.csv")
    assert words in str(caught.value)
    assert caught.value.returncode == 2
    assert stored() == (0, 0, 0)


@pytest.mark.parametrize("keep", [0, 12, -20], ids=["empty file", "only a header", "truncated"])
@pytest.mark.django_db
def test_a_gzip_that_ends_early_is_refused(tmp_path, keep):
    fleet_rows()
    path = tmp_path / "trace.csv.gz"
    path.write_bytes(gzip.compress(GOOD.encode())[:keep])
    with pytest.raises(CommandError) as caught:
        call_command("run_scenario", "capacity", "--trace", str(path))
    assert str(path) in str(caught.value)
    assert caught.value.returncode == 2
    assert stored() == (0, 0, 0)


@pytest.mark.parametrize(
    ("options", "words"),
    [
        pytest.param(["--starts-on", "2027-06-01", "--ends-on", "2027-01-01"], "before it begins", id="ends first"),
        pytest.param(["--service", "nobody"], "unknown service 'nobody'", id="unknown service"),
        pytest.param(["--draws", "0"], "draws", id="no draws"),
        pytest.param(["--trace", "no-such-file.csv"], "no-such-file.csv", id="no file"),
    ],
)
@pytest.mark.django_db
def test_a_question_that_makes_no_sense_is_refused_and_not_stored(options, words):
    fleet_rows()
    with pytest.raises(CommandError) as caught:
        call_command("run_scenario", "migration", *options)
    assert words in str(caught.value)
    assert caught.value.returncode == 2
    assert stored() == (0, 0, 0)


@pytest.mark.django_db
def test_without_a_worker_it_says_so_and_stores_nothing():
    fleet_rows()
    with pytest.raises(CommandError, match="no worker answers") as caught:
        call_command("run_scenario", "capacity")
    assert caught.value.returncode == 3
    assert stored() == (0, 0, 0)


def run_scenario(ground, *options):
    command = [sys.executable, "manage.py", "run_scenario", *options]
    return subprocess.run(command, cwd=ROOT, env=ground.env, capture_output=True, text=True, check=False)


def test_a_trace_is_answered_through_a_worker_and_a_dead_broker_is_told(ground, tmp_path):
    trace = tmp_path / "trace.csv"
    trace.write_text(GOOD)
    ground.call("manage.py", "migrate", "-v0")
    ground.call("-c", FLEET)
    ground.worker_start()
    ground.worker_wait()
    options = ("--trace", str(trace), "--starts-on", "2027-01-01", "--ends-on", "2027-06-01", "--draws", "10")
    answered = run_scenario(ground, "capacity", *options, "--wait", "--json")
    assert answered.returncode == 0, answered.stderr
    result = json.loads(answered.stdout)["result"]
    assert result["trace"]["requests"] == 200
    assert result["months"][0] == f"{date(2027, 1, 1):%Y-%m}"
    assert result["services"][0]["mix"]["input_tok"] == pytest.approx(999.5)

    moved = run_scenario(ground, "migration", *options[2:], "--wait")
    assert moved.returncode == 0, moved.stderr
    assert "All promises" in moved.stdout.splitlines()[0]

    again = run_scenario(ground, "migration", *options[2:], "--wait")
    reused, *rest = again.stdout.splitlines()
    assert reused == "The same question was answered before: this is the result of run 2."
    assert rest == moved.stdout.splitlines()
    anew = run_scenario(ground, "migration", *options[2:], "--wait", "--recompute")
    assert anew.stdout == moved.stdout

    ground.broker_kill()
    refused = run_scenario(ground, "capacity")
    assert refused.returncode == 3
    assert "no broker is reachable" in refused.stderr
    assert "Traceback" not in refused.stderr
