import argparse
import csv
import io
import json
import re

import pytest

from accelerator import simulate_command, simulator
from accelerator.__main__ import main
from accelerator.ledger import Latency

POOL = ("--chip", "h100-sxm", "--model", "llama-3.1-8b", "--max-seqs", "16", "--max-batched-tokens", "1024")
WORKLOAD = ("--profile", "azure-conv", "--requests", "60", "--rate", "4")
QUICK = (*POOL, *WORKLOAD, "--measure-cpu-s", "0")
TRACE = "arrival_s,input_tokens,output_tokens\n0,100,5\n0.5,200,6\n2,300,1\n"
FILE = """\
seed = 3
[workload]
profile = "azure-conv"
requests = 40
rate_request_s = 10.0
[[pool]]
chip = "h100-sxm"
model = "llama-3.1-8b"
max_seqs = 16
max_batched_tok = 1024
"""


def run(capsys, *arguments):
    assert main(["simulate", *arguments]) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    assert not captured.err
    return captured.out.splitlines()


def run_json(capsys, *arguments):
    (line,) = run(capsys, *arguments, "--json")
    return json.loads(line, parse_constant=pytest.fail)  # NaN and Infinity are no JSON


def refused(capsys, *arguments):
    """Return the one sentence with which a command ends with 2."""
    assert main(["simulate", *arguments]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert captured.err.count("\n") == 1
    return captured.err


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "experiment.toml"
    path.write_text(FILE)
    return str(path)


@pytest.fixture
def trace(tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(TRACE)
    return str(path)


# --- from options and files to an experiment --------------------------------------------------------------------------
def test_options_alone_are_an_experiment(capsys):
    values = run_json(capsys, *QUICK)["experiment"]
    assert values == {
        "pool": [{"chip": "h100-sxm", "model": "llama-3.1-8b", "max_seqs": 16, "max_batched_tok": 1024}],
        "workload": {"profile": "azure-conv", "requests": 60, "rate_request_s": 4.0},
    }


def test_every_option_reaches_the_experiment(capsys):
    values = run_json(
        capsys, *QUICK, "--precision", "fp8", "--kv-precision", "fp8", "--tp", "2", "--pp", "1", "--dp", "1",
        "--ep", "1", "--engine", "vllm", "--expert-skew", "0", "--replicas", "3", "--block-size", "32",
        "--kv-blocks", "9000", "--watermark", "0.01", "--max-context", "5000", "--prefix-blocks", "70",
        "--prefix-block-size", "256", "--draft-tokens", "2", "--acceptance", "0.5", "--draft-seconds", "0.001",
        "--load-bytes-per-second", "1e9", "--load", "closed", "--clients", "9", "--think-seconds", "0.1",
        "--think-random", "--ramp-seconds", "2", "--slo-ttft", "1", "--slo-tpot", "0.05", "--slo-e2e", "20",
        "--mtbf-seconds", "900", "--repair-seconds", "60", "--router", "random", "--seed", "5", "--seeds", "2",
        "--cells", "3", "--max-waiting", "800", "--until-seconds", "500", "--timeline-seconds", "0.5",
    )["experiment"]  # fmt: skip
    assert values == {
        "pool": [{
            "chip": "h100-sxm", "model": "llama-3.1-8b", "precision": "fp8", "kv_precision": "fp8", "tp": 2, "pp": 1,
            "dp": 1, "ep": 1, "engine": "vllm", "expert_skew": 0.0, "replicas": 3, "max_batched_tok": 1024,
            "max_seqs": 16, "block_tok": 32, "kv_blocks": 9000, "watermark_ratio": 0.01, "context_most_tok": 5000,
            "prefix_blocks": 70, "prefix_block_tok": 256, "draft_tok": 2, "acceptance_ratio": 0.5, "draft_s": 0.001,
            "load_byte_s": 1e9,
        }],
        "workload": {"profile": "azure-conv", "requests": 60, "rate_request_s": 4.0},
        "load": {"kind": "closed", "clients": 9, "think_s": 0.1, "think_random": True, "ramp_s": 2.0},
        "slo": [{"ttft_s": 1.0, "tpot_s": 0.05, "e2e_s": 20.0}],
        "failures": {"mtbf_s": 900.0, "repair_s": 60.0},
        "router": "random", "seed": 5, "seeds": 2, "cells": 3, "waiting_most": 800, "until_s": 500.0,
        "timeline_s": 0.5,
    }  # fmt: skip


def test_a_prefix_cache_is_a_share_or_blocks_or_without_limit(capsys):
    (pool,) = run_json(capsys, *QUICK, "--prefix-cache", "0.5")["experiment"]["pool"]
    assert pool["prefix_ratio"] == 0.5
    (pool,) = run_json(capsys, *QUICK, "--prefix-blocks", "unlimited")["experiment"]["pool"]
    assert pool["prefix_blocks"] == "unlimited"


def test_options_change_the_values_of_a_file(capsys, file):
    as_written = run_json(capsys, "--config", file)
    assert (as_written["arrived"], as_written["experiment"]["seed"]) == (40, 3)
    changed = run_json(capsys, "--config", file, "--requests", "25", "--seed", "4", "--replicas", "2")
    assert changed["arrived"] == 25
    assert changed["experiment"]["seed"] == 4
    assert changed["experiment"]["workload"] == {"profile": "azure-conv", "requests": 25, "rate_request_s": 10.0}
    assert changed["pools"][0]["replicas"] == 2


def test_a_file_and_the_same_options_give_the_same_figures(capsys, file):
    by_file = run_json(capsys, "--config", file)
    by_options = run_json(
        capsys, *POOL, "--profile", "azure-conv", "--requests", "40", "--rate", "10", "--seed", "3"
    )  # fmt: skip
    for figures in (by_file, by_options):
        for name in ("wall_s", "cpu_s", "process_cpu_s", "requests_per_cpu_s"):
            del figures[name]
    assert by_file == by_options


def test_a_trace_of_a_file_lies_beside_it_and_one_of_an_option_where_it_is_called(capsys, tmp_path, trace, monkeypatch):
    path = tmp_path / "experiment.toml"
    path.write_text(
        '[workload]\ntrace = "trace.csv"\n[[pool]]\nchip = "h100-sxm"\nmodel = "llama-3.1-8b"\nmax_seqs = 8\n'
    )
    assert run_json(capsys, "--config", str(path))["arrived"] == 3
    monkeypatch.chdir(tmp_path)
    figures = run_json(capsys, *POOL, "--trace", "trace.csv")
    assert figures["arrived"] == 3
    assert figures["experiment"]["workload"]["trace"] == trace


# --- what comes out ---------------------------------------------------------------------------------------------------
def test_json_has_what_it_took_and_every_latency(capsys):
    figures = run_json(capsys, *QUICK, "--slo-ttft", "0.5")
    assert figures["requests_per_cpu_s"] == pytest.approx(60 / figures["cpu_s"])
    assert figures["wall_s"] > 0
    assert figures["process_cpu_s"] >= figures["cpu_s"]
    for kind in Latency:
        latency = figures[f"{kind.name.lower()}_s"]
        assert latency["p50"] <= latency["p90"] <= latency["p95"] <= latency["p99"] <= latency["max"]
    assert figures["ttft_s"]["samples"] == figures["finished"] == 60
    assert figures["goodput"][0]["limits"] == {"ttft_s": 0.5, "tpot_s": None, "e2e_s": None}
    assert figures["output_tok_s"] == pytest.approx(figures["output_tok"] / figures["duration_s"])


def test_a_short_run_is_repeated_until_its_time_can_be_told(capsys, monkeypatch):
    runs = []
    real = simulate_command.experiment_run
    monkeypatch.setattr(simulate_command, "experiment_run", lambda *a, **more: runs.append(1) or real(*a, **more))
    run(capsys, *QUICK)
    assert len(runs) == 1
    run(capsys, *POOL, *WORKLOAD, "--measure-cpu-s", "0.02")
    assert len(runs) > 3


UNITS = re.compile(r"_(s|j|w|tok|ratio|per_tok|per_cpu_s)$")
COUNTED = {
    "samples", "parts", "arrived", "finished", "truncated", "unfinished", "good", "replicas", "chips", "routed",
    "steps", "preemptions", "failed_over", "never_sent", "transfers", "client", "peak_running", "peak_waiting",
    "mean_running", "mean_decoding",
}  # fmt: skip
LEVELS = {"mean", "p10", "p50", "p90", "p95", "p99", "max"}


def numbers(values, *names):
    """Yield the names above each number."""
    for name, value in values.items():
        for inner in value if isinstance(value, list) else [value]:
            if isinstance(inner, dict):
                yield from numbers(inner, *names, name)
            elif isinstance(inner, int | float) and not isinstance(inner, bool):
                yield (*names, name)


def test_every_figure_has_its_unit_in_its_name_or_is_a_count(capsys, tmp_path):
    path = tmp_path / "tenants.csv"
    path.write_text("arrival_s,input_tokens,output_tokens,client_id\n0,100,5,0\n0.5,200,6,1\n")
    options = ("--trace", str(path), "--band", "--slo-e2e", "60", "--measure-cpu-s", "0")
    figures = run_json(capsys, *POOL, *options)
    del figures["experiment"]
    found = list(numbers(figures))
    assert len(found) > 100
    for names in found:
        *_, last = (name for name in names if name not in LEVELS)
        last = last.partition(".")[0]  # a band of ttft_s.p50
        assert UNITS.search(last) or last in COUNTED, names


def test_an_infinite_limit_is_none_in_json(capsys):
    figures = run_json(capsys, *QUICK, "--until-seconds", "inf", "--slo-ttft", "inf")
    assert figures["experiment"]["until_s"] is None
    assert figures["experiment"]["slo"] == [{"ttft_s": None}]


def test_text_shows_requests_time_latencies_pools_and_what_it_took(capsys):
    lines = run(capsys, *QUICK, "--slo-ttft", "0.5", "--slo-tpot", "0.1")
    arrived, time, throughput, header, *latencies, goodput, pool, took = lines
    assert arrived == "requests     60 arrived, 60 finished (0 truncated), 0 unfinished; refused: none"
    assert re.fullmatch(r"time +[\d.]+ s simulated, done", time)
    assert re.fullmatch(
        r"throughput +[\d.]+ requests/s, [\d,.]+ output tok/s, [\d.]+ J/tok \(chips\)", throughput
    )  # fmt: skip
    assert header.split() == ["mean", "P50", "P90", "P95", "P99", "max", "samples"]
    assert [line.split()[0] for line in latencies] == [kind.name for kind in Latency]
    assert all(re.fullmatch(r"\w+ \[ms\] +([\d,]+\.\d\d +){6}[\d,]+", line) for line in latencies)
    assert re.fullmatch(r"goodput +[\d.]+% within TTFT 0.5 s, TPOT 0.1 s: [\d.]+ requests/s", goodput)
    assert re.match(r"pool1 +1 replicas, 1 chips, both: busy [\d.]+%, [\d.]+ running \([\d.]+ decode\), KV ", pool)
    assert pool.endswith(" W")
    assert re.fullmatch(
        r"computed in +[\d.]+ s, [\d.]+ CPU-s: [\d,]+ requests per CPU-second", took
    )  # fmt: skip


def test_text_says_what_was_refused_and_what_is_too_much(capsys, tmp_path):
    path = tmp_path / "odd.csv"
    path.write_text("arrival_s,input_tokens,output_tokens\n0,0,5\n0,10,0\n0,900000,5\n0,10,5\n")
    lines = run(capsys, *POOL, "--trace", str(path), "--measure-cpu-s", "0")
    assert lines[0].endswith(
        "1 finished (0 truncated), 0 unfinished; refused: 1 no prompt, 1 no output asked for, 1 longer than the context"
    )
    lines = run(capsys, *POOL, *WORKLOAD[:2], "--requests", "500", "--rate", "500", "--max-waiting", "100",
                "--measure-cpu-s", "0")  # fmt: skip
    assert "OVERLOAD     stopped with 101 requests waiting: more arrive than are served" in lines


def test_what_nobody_can_know_is_a_question_mark_or_a_dash(capsys):
    lines = run(capsys, "--chip", "tpu-v5e", "--model", "llama-3.1-8b", "--precision", "int8", "--max-seqs", "8",
                "--profile", "azure-conv", "--requests", "2", "--measure-cpu-s", "0")  # fmt: skip
    assert any("? J/tok" in line for line in lines)
    assert any(line.endswith("prefix hits -, ? W") for line in lines)


def test_a_timeline_is_written_with_a_row_per_moment_and_pool(capsys, tmp_path):
    path = tmp_path / "timeline.csv"
    run(capsys, *QUICK, "--timeline", str(path), "--timeline-seconds", "0.25", "--replicas", "2")
    header, *rows = csv.reader(path.read_text().splitlines())
    assert header == [
        "at_s", "pool", "running", "waiting", "kv_ratio", "replicas_up", "output_tok", "finished",
    ]  # fmt: skip
    assert [float(row[0]) for row in rows] == [0.25 * number for number in range(len(rows))]
    assert len(rows) > 10
    assert {(row[1], row[5]) for row in rows} == {("pool1", "2")}
    finished = [int(row[7]) for row in rows]
    assert finished == sorted(finished)
    assert 0 < finished[-1] <= 60


def test_requests_are_written_with_what_became_of_each(capsys, tmp_path, trace):
    path = tmp_path / "requests.csv"
    run(capsys, *POOL, "--trace", trace, "--requests-out", str(path), "--measure-cpu-s", "0")
    rows = list(csv.DictReader(path.open()))
    assert [float(row["arrival_s"]) for row in rows] == [0, 0.5, 2]
    assert {row["fate"] for row in rows} == {"finished"}
    assert all(float(row["arrival_s"]) < float(row["first_s"]) <= float(row["finish_s"]) for row in rows)


def test_a_band_rises(capsys):
    band = run_json(capsys, *QUICK, "--load", "offline", "--band")["band"]
    assert {"request_s", "output_tok_s", "energy_j_per_tok", "ttft_s.p50", "e2e_s.p99"} <= set(band)
    for values in band.values():
        assert list(values) == ["p10", "p50", "p90"]
        assert values["p10"] <= values["p50"] <= values["p90"]
    assert band["output_tok_s"]["p10"] < band["output_tok_s"]["p50"] < band["output_tok_s"]["p90"]


def test_a_band_is_shown_as_text(capsys):
    lines = run(capsys, *QUICK, "--band")
    assert any(re.fullmatch(r"band +ttft_s.p90 +P10 [\d.]+, P50 [\d.]+, P90 [\d.]+", line) for line in lines)


def test_threads_change_no_figure(capsys):
    one, two = (
        run_json(capsys, *QUICK, "--replicas", "4", "--cells", "2", "--seeds", "2", "--threads", threads)
        for threads in ("1", "2")
    )
    for name in ("duration_s", "arrived", "ttft_s", "tpot_s", "itl_s", "e2e_s", "queue_s", "energy_j", "pools"):
        assert one[name] == two[name]
    assert one["parts"] == 4


# --- the progress bar -------------------------------------------------------------------------------------------------
class Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.fixture
def clock(monkeypatch):
    """A clock that a test sets."""
    now = argparse.Namespace(s=100.0)
    monkeypatch.setattr(simulate_command.time, "monotonic", lambda: now.s)
    return now


def test_a_bar_is_shown_after_two_seconds_at_most_five_times_a_second(clock):
    stream = Terminal()
    bar = simulate_command._Bar(stream, 1_000)
    clock.s += 1.9
    bar.show(100)
    assert not stream.getvalue()
    clock.s += 0.6
    bar.show(250)
    bar.show(260)
    assert stream.getvalue() == f"\r{'#' * 10:40}  25% 250 requests, 100 per second "
    clock.s += 2.5
    bar.show(2_000)
    assert stream.getvalue().endswith(f"\r{'#' * 40} 100% 2,000 requests, 400 per second ")
    bar.clear()
    assert stream.getvalue().endswith("\r" + " " * 100 + "\r")


def test_there_is_no_bar_where_nobody_looks(clock):
    stream = io.StringIO()
    bar = simulate_command._Bar(stream, 1_000)
    clock.s += 60
    bar.show(500)
    bar.clear()
    assert not stream.getvalue()


def test_the_bar_leaves_nothing_behind_and_is_not_in_the_answer(capsys, monkeypatch):
    terminal = Terminal()
    monkeypatch.setattr(simulate_command, "BAR_AFTER_S", 0.0)
    monkeypatch.setattr(simulate_command, "BAR_EVERY_S", 0.0)
    monkeypatch.setattr(simulate_command.sys, "stderr", terminal)
    monkeypatch.setattr(simulator, "EVENTS_PER_TURN", 20)
    figures = run_json(capsys, *QUICK)
    assert figures["finished"] == 60
    shown = [int(number) for number in re.findall(r"% (\d+) requests", terminal.getvalue())]
    assert shown == sorted(shown)
    assert len(set(shown)) > 5
    assert terminal.getvalue().endswith("\r" + " " * 100 + "\r")


# --- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        ([], "pool: at least one is needed"),
        (POOL, "workload: a trace or a profile is needed"),
        (WORKLOAD, "pool: at least one is needed"),
        (["--chip", "h100-sxm", *WORKLOAD], "pool[0].model: missing"),
        (["--model", "llama-3.1-8b", *WORKLOAD], "pool[0].chip: missing"),
        ([*QUICK, "--chip", "h2O-96"], 'unknown chip "h2O-96"; did you mean h20-96'),
        ([*QUICK, "--model", "qwen9"], 'unknown model "qwen9"'),
        ([*QUICK, "--profile", "nobody"], 'unknown workload profile "nobody"'),
        ([*QUICK, "--trace", "t.csv"], "workload: a trace or a profile, not both"),
        ([*POOL, "--trace", "/nowhere/t.csv"], "/nowhere/t.csv: No such file or directory"),
        ([*QUICK, "--requests", "0"], "workload.requests: how many are to be generated?"),
        ([*QUICK, "--requests", "-1"], "workload.requests: a whole number from 0 on is expected, not -1"),
        ([*QUICK, "--rate", "0"], "workload.rate_request_s: a number above 0 is expected, not 0.0"),
        ([*QUICK, "--rate", "nan"], "workload.rate_request_s: a number above 0 is expected, not nan"),
        ([*QUICK, "--replicas", "0"], "pool[0].replicas: a whole number from 1 to 1,000,000 is expected, not 0"),
        ([*QUICK, "--cells", "2"], "cells: 2 are more than the 1 replicas of pool1"),
        ([*QUICK, "--clients", "3"], "load.clients: a load of kind open has none"),
        ([*QUICK, "--load", "closed"], "load.clients: missing"),
        ([*QUICK, "--slo-ttft", "0"], "slo[0].ttft_s: a number above 0 is expected, not 0.0"),
        ([*QUICK, "--tp", "3"], "llama-3.1-8b: 32 heads do not divide over tp 3"),
        ([*QUICK, "--prefix-blocks", "many"], '--prefix-blocks: a whole number or unlimited is expected, not "many"'),
        ([*QUICK, "--prefix-blocks", "-1"], "pool[0].prefix_blocks: a whole number from 0 on is expected, not -1"),
        ([*QUICK, "--max-batched-tokens", "999999999"], "pool[0].max_batched_tok: a whole number from 1 to 1,048,576"),
        ([*QUICK, "--threads", "-1"], "--threads and --measure-cpu-s are numbers from 0 on"),
        ([*QUICK, "--measure-cpu-s", "nan"], "--threads and --measure-cpu-s are numbers from 0 on"),
        ([*QUICK, "--requests-out", "r.csv", "--seeds", "2"], "requests are kept of one part only: no cells, no seeds"),
        ([*QUICK, "--timeline", "/nowhere/t.csv"], "/nowhere/t.csv: cannot be written: no such folder"),
        (["--config", "/nowhere/e.toml"], "/nowhere/e.toml: cannot be read: No such file or directory"),
        (["--config", "/"], "/: cannot be read: Is a directory"),
        (["--chips", "/nowhere/chips.csv", *QUICK], "/nowhere/chips.csv"),
    ],
    ids=" ".join,
)
def test_what_cannot_be_simulated_is_one_sentence_and_exit_code_two(capsys, arguments, sentence):
    assert refused(capsys, *arguments).startswith(sentence)


@pytest.mark.parametrize(
    ("text", "options", "sentence"),
    [
        ("seed = ", (), ": not TOML: Invalid value (at "),
        (b"\xff\xfe", (), ": not TOML: 'utf-8' codec can't decode byte"),
        (FILE + "colour = 1\n", (), "pool[0].colour: unknown; known are "),
        ("seed = 1979-05-27\n", (), "seed: a whole number from 0 on is expected, not datetime.date"),
        ('pool = "x"\n', ("--tp", "2"), "pool: a list of tables is expected ([[pool]])"),
        ("[pool]\nchip = 'h100'\n", ("--tp", "2"), "pool: a list of tables is expected ([[pool]])"),
        ("pool = [3]\n", ("--tp", "2"), "pool[0]: a table is expected"),
        ("workload = 3\n", ("--requests", "2"), "workload: a table is expected"),
        (FILE + FILE[FILE.index("[[pool]]") :], ("--tp", "2"), "options for a pool change the only one"),
    ],
)  # fmt: skip
def test_a_file_that_is_no_experiment_is_refused(capsys, tmp_path, text, options, sentence):
    path = tmp_path / "e.toml"
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    said = refused(capsys, "--config", str(path), *options)
    assert said.removeprefix(str(path)).startswith(sentence)


def test_a_trace_that_is_broken_is_named_by_file_line_and_column(capsys, tmp_path):
    path = tmp_path / "trace.csv"
    path.write_text(TRACE + "1,5,5\n")
    said = refused(capsys, *POOL, "--trace", str(path))
    assert said == f"{path}:5: column arrival_s: 1 is earlier than the row before (2)\n"


@pytest.mark.parametrize("arguments", [["--router", "nearest"], ["--load", "bursty"], ["--tp", "x"]])
def test_a_wrong_command_line_is_answered_with_its_usage(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(["simulate", *arguments])
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m accelerator simulate")
