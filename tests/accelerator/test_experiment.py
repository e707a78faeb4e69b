import copy
import math
import weakref

import numpy as np
import pytest

from accelerator import experiment as experiment_module
from accelerator.architectures import model_get, models_load
from accelerator.chips import chip_get, chips_load
from accelerator.errors import ConfigError, TraceError, UnknownNameError
from accelerator.experiment import Experiment, Part, experiment_run, part_run, parts_merge, precision_usual
from accelerator.ledger import Amount, Latency, Time
from accelerator.outcome import Outcome
from accelerator.pools import cold_start_s
from accelerator.profiles import profile_get
from accelerator.requests import Workload
from accelerator.simulation import UNLIMITED, Change, ChangeKind, Limits, LoadKind, Progress, Role, Router

POOL = {"chip": "h100-sxm", "model": "llama-3.1-8b", "max_seqs": 16, "max_batched_tok": 1024}
BASE = {"workload": {"profile": "azure-conv", "requests": 60, "rate_request_s": 20.0}, "pool": [POOL]}
LOAD_S = cold_start_s(
    chip_get("h100-sxm"), model_get("llama-3.1-8b"), Experiment(BASE).pools[0].config, load_byte_s=5e9
)
TRACE = "arrival_s,input_tokens,output_tokens,client_id\n" + "".join(
    f"{at * 0.25},{100 + at},{5 + at % 3},{at % 4}\n" for at in range(40)
)


@pytest.fixture
def trace(tmp_path):
    (tmp_path / "trace.csv").write_text(TRACE)
    return tmp_path


def changed(place, value, base=None):
    """Return the base with one value changed; a place is ``pool[0].replicas`` or ``seed``."""
    values = copy.deepcopy(BASE if base is None else base)
    inside = values
    *tables, name = place.replace("[0]", "").split(".")
    for table in tables:
        is_list = f"{table}[0]" in place
        inside = inside.setdefault(table, [{}] if is_list else {})
        inside = inside[0] if is_list else inside
    inside[name] = value
    return values


def pool(**more):
    return {**BASE, "pool": [{**POOL, **more}]}


def refused(values, *folder):
    """Return what is said of an experiment that is refused before anything is simulated."""
    with pytest.raises(ConfigError) as caught:
        Experiment(values, *folder).prepare()
    return str(caught.value)


def outcome_of(values, *folder, **more):
    return experiment_run(Experiment(values, *folder), threads=1, **more)


def row_of(values, *folder):
    (row,) = outcome_of(values, *folder).pool_rows()
    return row


# --- what an experiment says ------------------------------------------------------------------------------------------
def test_the_shortest_experiment_is_a_pool_and_a_profile():
    experiment = Experiment({"workload": {"profile": "m-large", "requests": 5}, "pool": [POOL]})
    plan = experiment.plan(Part(0, 0))
    (only,) = plan.pools
    assert (only.name, only.replicas, only.up, only.role, only.draft_tok) == ("pool1", 1, 1, Role.BOTH, 0)
    assert (plan.router, plan.load.kind, plan.until_s) == (Router.ROUND_ROBIN, LoadKind.OPEN, math.inf)
    assert (plan.waiting_most, plan.requests, plan.slos, plan.changes) == (1_000_000, 5, [], [])
    assert experiment.rate_request_s == profile_get("m-large").rate_request_s
    assert experiment.pools[0].config.weight_precision == "bf16"
    assert experiment.pools[0].load_byte_s == 5e9


def test_every_key_reaches_the_plan():
    values = {
        "seed": 7, "seeds": 2, "cells": 1, "router": "power-of-two", "waiting_most": 99, "until_s": 50, "timeline_s": 2,
        "workload": {"profile": "azure-code", "requests": 30, "rate_request_s": 3},
        "load": {"kind": "closed", "clients": 8, "think_s": 1.5, "think_random": True, "ramp_s": 4},
        "slo": [{"ttft_s": 1, "tpot_s": 0.1}, {"e2e_s": 9.5}],
        "change": [{"at_s": 3, "pool": "read", "replica": 1, "kind": "drain"}],
        "pool": [
            {**POOL, "name": "read", "role": "prefill", "replicas": 3, "up": 2, "link_byte_s": 1e9, "transfer_s": 0.2,
             "precision": "fp8", "kv_precision": "fp8", "tp": 2, "engine": "vllm", "weight": 3,
             "load_byte_s": 2e9},
            {**POOL, "name": "write", "role": "decode", "kv_precision": "fp8", "block_tok": 32, "kv_blocks": 5000,
             "watermark_ratio": 0.01, "context_most_tok": 9000, "prefix_blocks": "unlimited", "prefix_block_tok": 256,
             "draft_tok": 2, "acceptance_ratio": 0.7, "draft_s": 0.001},
        ],
    }  # fmt: skip
    experiment = Experiment(values)
    plan = experiment.plan(Part(1, 0))
    read, write = plan.pools
    assert (read.name, read.role, read.replicas, read.up, read.weight) == ("read", Role.PREFILL, 3, 2, 3)
    assert read.transfer_s == 0.2
    assert read.transfer_s_per_tok == pytest.approx(65_536 / 1e9)  # half of the BF16 bytes
    config = experiment.pools[0].config
    assert (config.label, config.kv_precision, config.engine) == ("fp8 tp2", "fp8", "vllm")
    assert experiment.pools[0].load_byte_s == 2e9
    assert (write.role, write.block_tok, write.kv_blocks, write.watermark_blocks) == (Role.DECODE, 32, 5000, 50)
    assert (write.context_most_tok, write.prefix_blocks, write.prefix_block_tok) == (9000, UNLIMITED, 256)
    assert (write.draft_tok, write.acceptance_ratio, write.draft_s) == (2, 0.7, 0.001)
    assert (write.max_seqs, write.max_batched_tok) == (16, 1024)
    assert (plan.router, plan.waiting_most, plan.until_s, plan.timeline_s) == (Router.POWER_OF_TWO, 99, 50, 2)
    assert vars(plan.load) == {
        "kind": LoadKind.CLOSED, "clients": 8, "think_s": 1.5, "think_random": True, "ramp_s": 4.0,
    }  # fmt: skip
    assert plan.slos == [Limits(1, 0.1), Limits(e2e_s=9.5)]
    assert plan.changes == [Change(3, 1, ChangeKind.DRAIN)]
    assert (experiment.seeds, experiment.requests, experiment.clients) == (2, 60, 0)


def test_a_replica_has_as_many_sequences_as_its_drafts_leave_room_for():
    few = {name: value for name, value in POOL.items() if name != "max_seqs"}
    assert Experiment({**BASE, "pool": [few]}).pools[0].config.max_seqs == 256
    assert Experiment({**BASE, "pool": [{**few, "draft_tok": 7}]}).pools[0].config.max_seqs == 128


@pytest.mark.parametrize(
    ("chip", "model", "precision"),
    [
        ("h100-sxm", "deepseek-r1", "fp8"), ("ascend-910b3", "deepseek-r1", "int8"), ("mlu590", "deepseek-r1", "bf16"),
        ("b200", "gpt-oss-120b", "fp4"), ("h100-sxm", "gpt-oss-120b", "fp8"), ("a100-80", "gpt-oss-120b", "int8"),
        ("b200", "qwen3-32b", "bf16"), ("ascend-910b3", "qwen3-32b", "bf16"),
    ],
)  # fmt: skip
def test_a_model_runs_in_the_precision_it_is_published_in_or_the_closest_its_chip_has(chip, model, precision):
    assert precision_usual(chips_load()[chip], models_load()[model]) == precision


# --- what is refused, with its place ----------------------------------------------------------------------------------
WRONG_COUNTS = (True, -1, 1.5, "x", math.nan, [], 2**63)
WRONG_AMOUNTS = (True, -1, "x", math.nan, [])
COUNTS = (
    "seed", "seeds", "cells", "waiting_most", "workload.requests", "load.clients",
    *(f"pool[0].{name}" for name in ("replicas", "up", "tp", "pp", "ep", "dp", "max_batched_tok", "max_seqs",
                                     "block_tok", "kv_blocks", "context_most_tok", "prefix_blocks",
                                     "prefix_block_tok", "draft_tok")),
    "change[0].replica", "scale[0].replicas",
)  # fmt: skip
FROM_0 = {
    "seed", "workload.requests", "load.clients", "pool[0].up", "pool[0].prefix_blocks",
    "pool[0].draft_tok", "change[0].replica", "scale[0].replicas",
}  # fmt: skip
AMOUNTS = (
    "until_s", "timeline_s", "workload.rate_request_s", "load.think_s", "load.ramp_s",
    "slo[0].ttft_s", "slo[0].tpot_s", "slo[0].e2e_s", "failures.mtbf_s", "failures.repair_s",
    *(f"pool[0].{name}" for name in ("watermark_ratio", "prefix_ratio", "link_byte_s", "weight", "acceptance_ratio",
                                     "draft_s", "transfer_s", "load_byte_s", "expert_skew")),
    "change[0].at_s", "scale[0].at_s",
)  # fmt: skip
POSITIVE = {
    "until_s", "workload.rate_request_s", "slo[0].ttft_s", "slo[0].tpot_s", "slo[0].e2e_s", "pool[0].link_byte_s",
    "pool[0].weight", "pool[0].load_byte_s",
}  # fmt: skip
TEXTS = ("router", "load.kind", "workload.profile", "workload.trace", "change[0].kind", "change[0].pool",
         "scale[0].pool", *(f"pool[0].{name}" for name in ("name", "chip", "model", "precision", "kv_precision",
                                                           "engine", "role")))  # fmt: skip
WHOLE = {"change": [{"at_s": 1, "kind": "drain"}], "scale": [{"at_s": 1, "replicas": 1}]}


def around(place):
    """Return a base in which the tables around a place are whole."""
    table = place.split("[")[0]
    return {**BASE, **({table: WHOLE[table]} if table in WHOLE else {})}


@pytest.mark.parametrize("place", COUNTS)
def test_what_is_no_count_is_refused(place):
    for value in (*WRONG_COUNTS, *([] if place in FROM_0 else [0])):
        said = refused(changed(place, value, around(place)))
        assert said.startswith(f"{place}: a whole number from ")
        assert said.endswith(f" is expected, not {value!r}")


@pytest.mark.parametrize("place", AMOUNTS)
def test_what_is_no_amount_is_refused(place):
    least = "a number above 0" if place in POSITIVE else "a number from 0 on"
    for value in (*WRONG_AMOUNTS, *([0] if place in POSITIVE else [])):
        assert refused(changed(place, value, around(place))) == f"{place}: {least} is expected, not {value!r}"


@pytest.mark.parametrize("place", TEXTS)
def test_what_is_no_text_is_refused(place):
    for value in (3, True, [], {}):
        assert refused(changed(place, value, around(place))) == f"{place}: a text is expected, not {value!r}"


@pytest.mark.parametrize(
    "place",
    ["colour", "workload.colour", "load.colour", "pool[0].colour", "slo[0].colour", "change[0].colour",
     "scale[0].colour", "failures.colour"],
)  # fmt: skip
def test_an_unknown_key_is_refused_with_those_that_are_known(place):
    assert refused(changed(place, 1)).startswith(f"{place}: unknown; known are ")


@pytest.mark.parametrize("table", ["workload", "load", "failures"])
def test_what_should_be_a_table_is_one(table):
    for value in (3, "x", [], None):
        assert refused({**BASE, table: value}) == f"{table}: a table is expected"


@pytest.mark.parametrize("table", ["pool", "slo", "change", "scale"])
def test_what_should_be_a_list_of_tables_is_one(table):
    for value in (3, "x", {}, None):
        assert refused({**BASE, table: value}) == f"{table}: a list of tables is expected ([[{table}]])"
    assert refused({**BASE, table: [3]}) == f"{table}[0]: a table is expected"


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        ([], "the experiment: a table is expected"),
        ({"workload": BASE["workload"]}, "pool: at least one is needed"),
        ({"pool": [POOL]}, "workload: a trace or a profile is needed"),
        ({**BASE, "workload": {}}, "workload: a trace or a profile is needed"),
        (changed("workload.trace", "t.csv"), "workload: a trace or a profile, not both"),
        (changed("workload.requests", 0), "workload.requests: how many are to be generated?"),
        ({**BASE, "cells": 2}, "cells: 2 are more than the 1 replicas of pool1"),
        ({**pool(replicas=90), "cells": 61}, "workload.requests: 60 are too few for 61 cells"),
        (
            {**pool(replicas=4), "cells": 4, "load": {"kind": "closed", "clients": 3}},
            "load.clients: 3 are too few for 4 cells",
        ),
        ({**BASE, "load": {"clients": 4}}, "load.clients: a load of kind open has none"),
        ({**BASE, "load": {"kind": "at-once", "clients": 4}}, "load.clients: a load of kind at-once has none"),
        ({**BASE, "load": {"kind": "offline", "clients": 4}}, "load.clients: a load of kind offline has none"),
        ({**BASE, "load": {"kind": "closed"}}, "load.clients: missing"),
        ({**BASE, "load": {"kind": "static"}}, "load.clients: missing"),
        ({**BASE, "load": {"kind": "bursty"}}, "load.kind: one of open, closed, static, at-once, offline is expected"),
        ({**BASE, "load": {"think_random": 1}}, "load.think_random: true or false is expected, not 1"),
        ({**BASE, "load": {"kind": "closed", "clients": 1, "think_s": math.inf}}, "pauses are finite"),
        ({**BASE, "router": "nearest"}, "router: one of round-robin, random, least-outstanding, power-of-two, "),
        (pool(replicas=1_000_001), "pool[0].replicas: a whole number from 1 to 1,000,000 is expected"),
        (pool(replicas=2, up=3), "pool[0].up: a whole number from 0 to 2 is expected, not 3"),
        (pool(role="reader"), "pool[0].role: one of both, prefill, decode is expected, not 'reader'"),
        (pool(role="prefill"), "pools for prompts only and pools for decodes only come together"),
        (pool(role="decode"), "a simulation needs a pool that reads prompts"),
        (pool(prefix_ratio=1), "pool pool1: shares of the KV memory lie between 0 and 1"),
        (pool(acceptance_ratio=1), "pool pool1: acceptance_ratio is below 1"),
        (pool(draft_tok=100), "pool pool1: 16 sequences of 101 tokens a step are more than the 1024 tokens"),
        (pool(expert_skew=3), "expert_skew is 0 (even) or an exponent between 1 and 2, not 3"),
        (pool(precision="fp6"), 'unknown precision "fp6"'),
        (pool(chip="a100-80", precision="fp8"), "a100-80 does not compute in fp8"),
        (pool(tp=3), "llama-3.1-8b: 32 heads do not divide over tp 3"),
        (pool(model="llama-3.1-70b"), "llama-3.1-70b in bf16 tp1 does not fit 1 x h100-sxm"),
        ({**BASE, "pool": [POOL, {**POOL, "name": "pool1"}]}, "pools have names of their own: pool1, pool1"),
        ({**BASE, "pool": [POOL, {**POOL, "chip": 3}]}, "pool[1].chip: a text is expected, not 3"),
        ({**BASE, "change": [{"at_s": 1}]}, "change[0].kind: missing"),
        ({**BASE, "change": [{"kind": "fail"}]}, "change[0].at_s: missing"),
        ({**BASE, "change": [{"at_s": 1, "kind": "stop"}]}, "change[0].kind: one of start, drain, fail is expected"),
        (
            {**BASE, "change": [{"at_s": 1, "kind": "fail", "pool": "pool2"}]},
            "change[0].pool: one of pool1 is expected, not 'pool2'",
        ),
        ({**BASE, "change": [{"at_s": 1, "kind": "fail", "replica": 1}]}, "change[0].replica: pool1 has 1 of them"),
        ({**BASE, "scale": [{"at_s": 1, "replicas": 2}]}, "scale[0].replicas: pool1 has 1 in all"),
        (
            {**BASE, "scale": [{"at_s": 1, "replicas": 1}], "failures": {"mtbf_s": 9}},
            "failures: drawn for replicas that are all up",
        ),
        (
            {**BASE, "load": {"kind": "offline"}, "failures": {"mtbf_s": 9}},
            "failures: until_s says how long they are drawn for this load",
        ),
        ({**BASE, "failures": {"mtbf_s": 1e-9}}, "failures: "),
    ],
)  # fmt: skip
def test_what_makes_no_sense_is_refused_before_anything_is_simulated(values, sentence):
    if sentence == "failures: ":
        sentence, values = "failures every", changed("pool[0].load_byte_s", math.inf, values)
    assert refused(values).startswith(sentence)


@pytest.mark.parametrize(
    ("values", "sentence"),
    [
        (pool(chip="h100-sx"), 'unknown chip "h100-sx"; did you mean h100-sxm'),
        (pool(model="qwen9"), 'unknown model "qwen9"'),
        (changed("workload.profile", "azure"), 'unknown workload profile "azure"; did you mean azure-conv, azure-code'),
    ],
)
def test_an_unknown_name_is_refused_with_those_that_are_close(values, sentence):
    with pytest.raises(UnknownNameError) as caught:
        Experiment(values)
    assert sentence in str(caught.value)


def test_a_trace_that_cannot_be_read_is_named_by_its_path_and_place(tmp_path):
    values = {"workload": {"trace": "gone.csv"}, "pool": [POOL]}
    with pytest.raises(TraceError) as caught:
        Experiment(values, tmp_path).prepare()
    assert str(caught.value) == f"{tmp_path / 'gone.csv'}: No such file or directory"
    (tmp_path / "gone.csv").write_text("arrival_s,input_tokens,output_tokens\n0,1,x\n")
    with pytest.raises(TraceError) as caught:
        Experiment(values, tmp_path).prepare()
    assert str(caught.value) == f'{tmp_path / "gone.csv"}:2: column output_tokens: "x" is not a number'


# --- where requests come from -----------------------------------------------------------------------------------------
def test_a_trace_is_read_from_where_its_file_lies(trace):
    experiment = Experiment({"workload": {"trace": "trace.csv"}, "pool": [POOL]}, trace)
    assert (experiment.requests, experiment.clients) == (40, 4)
    assert experiment.trace.arrival_s[-1] == 39 * 0.25
    outcome = experiment_run(experiment)
    assert (outcome.arrived, outcome.finished) == (40, 40)
    assert [row["finished"] for row in outcome.client_rows()] == [10, 10, 10, 10]


def test_of_a_trace_the_first_requests_are_taken_at_another_rate(trace):
    values = {"workload": {"trace": "trace.csv", "requests": 10, "rate_request_s": 20}, "pool": [POOL]}
    workload = Experiment(values, trace).trace
    assert workload.input_tok.tolist() == list(range(100, 110))
    assert workload.arrival_s[0] == 0
    assert np.diff(workload.arrival_s) == pytest.approx(np.full(9, 1 / 20))


def test_time_0_of_a_trace_is_its_first_request_whatever_its_clock_says(trace):
    rows = [f"{1.7e9 + at},100,20" for at in range(5)]
    (trace / "trace.csv").write_text("arrival_s,input_tokens,output_tokens\n" + "\n".join(rows))
    experiment = Experiment({"workload": {"trace": "trace.csv"}, "pool": [POOL]}, trace)
    assert experiment.trace.arrival_s.tolist() == [0, 1, 2, 3, 4]
    assert experiment_run(experiment).duration_s < 10


def test_a_trace_may_come_from_elsewhere_than_a_file(trace):
    asked = []

    def read(name):
        asked.append(name)
        return Workload("w", np.array([0.0, 1.0]), np.array([10, 20]), np.array([3, 4]))

    experiment = Experiment({"workload": {"trace": "trace.csv"}, "pool": [POOL]}, trace, trace_read=read)
    assert experiment_run(experiment).arrived == 2
    assert asked == ["trace.csv"]


def test_tenants_keep_their_ids_however_large_those_are(trace):
    rows = ["0,10,2,4611686018427387904", "1,10,2,7", "2,10,2,7"]
    (trace / "trace.csv").write_text("arrival_s,input_tokens,output_tokens,client_id\n" + "\n".join(rows))
    outcome = experiment_run(Experiment({"workload": {"trace": "trace.csv"}, "pool": [POOL]}, trace))
    assert [(row["client"], row["finished"]) for row in outcome.client_rows()] == [(7, 2), (4611686018427387904, 1)]
    again = Outcome.from_bytes(outcome.to_bytes())
    assert [row["client"] for row in again.client_rows()] == [7, 4611686018427387904]


def test_more_tenants_than_can_be_counted_are_refused(trace, monkeypatch):
    monkeypatch.setattr(experiment_module, "CLIENTS_MOST", 3)
    values = {"workload": {"trace": "trace.csv"}, "pool": [POOL]}
    assert refused(values, trace) == "the trace has 4 tenants; 3 can be counted apart"


def pieces_of(experiment):
    pieces = experiment.workload(Part(0, 0))
    return [pieces] if isinstance(pieces, Workload) else list(pieces)


def test_a_workload_in_pieces_has_the_statistics_of_a_whole_one(monkeypatch):
    values = {"workload": {"profile": "azure-conv", "requests": 120_000, "rate_request_s": 10}, "pool": [POOL]}
    (whole,) = pieces_of(Experiment(values))
    monkeypatch.setattr(experiment_module, "PIECE", 10_000)
    pieces = pieces_of(Experiment(values))
    assert [len(piece) for piece in pieces] == [10_000] * 12
    arrival_s = np.concatenate([piece.arrival_s for piece in pieces])
    assert np.all(np.diff(arrival_s) >= 0)
    assert arrival_s[-1] == pytest.approx(whole.arrival_s[-1], rel=0.02)
    shape = profile_get("azure-conv")
    for name, lengths in (("input_tok", shape.input), ("output_tok", shape.output)):
        tok = np.concatenate([getattr(piece, name) for piece in pieces])
        assert tok.mean() == pytest.approx(lengths.mean_tok, rel=0.02)
        assert tok.mean() == pytest.approx(getattr(whole, name).mean(), rel=0.02)
        assert np.quantile(tok, 0.95) == pytest.approx(lengths.p95_tok, rel=0.05)
    assert np.diff(arrival_s).std() * 10 == pytest.approx(shape.iat_cv, rel=0.05)


def test_memory_holds_few_pieces_however_many_there_are(monkeypatch):
    monkeypatch.setattr(experiment_module, "PIECE", 500)
    alive = weakref.WeakSet()
    real = experiment_module.workload_pieces

    def watched(*arguments, **more):
        for piece in real(*arguments, **more):
            alive.add(piece)
            most.append(len(alive))
            yield piece

    monkeypatch.setattr(experiment_module, "workload_pieces", watched)
    peaks = []
    for requests in (2_000, 16_000):
        most = []
        outcome = outcome_of({"workload": {"profile": "m-small", "requests": requests}, "pool": [POOL]}, quantile=0.5)
        assert outcome.arrived == requests == 500 * len(most)
        peaks.append(max(most))
    assert peaks[0] == peaks[1] <= 3


def test_a_workload_in_pieces_knows_when_half_of_it_has_arrived(monkeypatch):
    crowded = changed("workload.rate_request_s", 500.0, changed("workload.requests", 2_000))
    assert "while the second half arrived" in outcome_of(crowded).overload
    monkeypatch.setattr(experiment_module, "PIECE", 300)
    said = outcome_of(crowded).overload
    assert "the queue grew from" in said
    assert "from 0 to" not in said


# --- loads ------------------------------------------------------------------------------------------------------------
def test_an_open_load_keeps_its_times(trace):
    outcome = outcome_of({"workload": {"trace": "trace.csv"}, "pool": [POOL]}, trace, keep_requests=True)
    assert outcome.kept["arrival_s"].tolist() == [at * 0.25 for at in range(40)]
    assert outcome.is_open


def test_at_once_all_are_there_from_the_start(trace):
    outcome = outcome_of(
        {"workload": {"trace": "trace.csv"}, "load": {"kind": "at-once"}, "pool": [POOL]}, trace, keep_requests=True
    )
    assert not outcome.kept["arrival_s"].any()
    (row,) = outcome.pool_rows()
    assert (row["peak_running"], row["finished"]) == (16, 40)
    assert row["peak_waiting"] >= 24


def test_a_closed_load_has_at_most_one_request_per_client():
    row = row_of({**BASE, "load": {"kind": "closed", "clients": 5}})
    assert row["peak_running"] == 5
    assert row["finished"] == 60


def test_pauses_of_clients_stretch_a_closed_load():
    load = {"kind": "closed", "clients": 5}
    quick, slow, random = (
        outcome_of({**BASE, "load": {**load, **more}}).duration_s
        for more in ({}, {"think_s": 10}, {"think_s": 10, "think_random": True})
    )
    assert slow > 11 * 10 > quick  # 60 requests of five clients: eleven pauses each
    assert random not in (quick, slow)


def test_clients_begin_one_after_the_other_over_the_ramp():
    values = {**BASE, "load": {"kind": "closed", "clients": 5, "ramp_s": 10}}
    outcome = outcome_of(values, keep_requests=True)
    assert set(outcome.kept["arrival_s"].tolist()) >= {0.0, 2.0, 4.0, 6.0, 8.0}


def test_a_static_batch_waits_for_the_last_one_of_the_batch_before():
    outcome = outcome_of({**BASE, "load": {"kind": "static", "clients": 10}}, keep_requests=True)
    batches = outcome.kept["arrival_s"].reshape(6, 10)
    ends = outcome.kept["finish_s"].reshape(6, 10)
    assert np.all(batches == batches[:, :1])
    assert batches[1:, 0].tolist() == ends[:-1].max(axis=1).tolist()


def test_offline_every_replica_is_full_and_has_a_batch_waiting():
    values = {**changed("workload.requests", 400, pool(replicas=2, max_seqs=8)), "load": {"kind": "offline"}}
    plan = Experiment(values).plan(Part(0, 0))
    assert (plan.load.kind, plan.load.clients, plan.router) == (LoadKind.CLOSED, 2 * 2 * 8, Router.LEAST_OUTSTANDING)
    assert row_of(values)["mean_running"] == pytest.approx(8, rel=0.05)
    assert Experiment({**values, "router": "random"}).plan(Part(0, 0)).router == Router.RANDOM


def test_offline_a_slow_pool_does_not_hold_what_a_fast_one_could_serve():
    pools = [{**POOL, "name": "fast", "max_seqs": 8}, {**POOL, "name": "slow", "chip": "a10g", "max_seqs": 2}]
    fast, slow = outcome_of(
        {**changed("workload.requests", 1_000), "pool": pools, "load": {"kind": "offline"}}
    ).pool_rows()
    assert fast["finished"] > 10 * slow["finished"]
    assert fast["mean_running"] == pytest.approx(8, rel=0.05)


def test_decode_replicas_do_not_count_for_an_offline_load():
    pools = [{**POOL, "role": "prefill", "max_seqs": 4}, {**POOL, "role": "decode", "max_seqs": 8}]
    assert Experiment({**BASE, "pool": pools, "load": {"kind": "offline"}}).plan(Part(0, 0)).load.clients == 8


def test_it_stops_where_it_is_told_to():
    assert outcome_of({**BASE, "until_s": 1.5}).progress == Progress.HORIZON
    crowded = changed("workload.rate_request_s", 500.0, changed("workload.requests", 2_000))
    outcome = outcome_of({**crowded, "waiting_most": 50})
    assert outcome.progress == Progress.UNSTABLE
    assert outcome.overload.startswith("stopped with 51 requests waiting")


# --- cells, seeds, threads --------------------------------------------------------------------------------------------
def parts_of(experiment):
    return [experiment.plan(part) for part in experiment.parts]


def test_replicas_are_shared_out_without_loss():
    experiment = Experiment({**pool(replicas=11, up=7), "cells": 4})
    pools = [plan.pools[0] for plan in parts_of(experiment)]
    assert [each.replicas for each in pools] == [3, 3, 3, 2]
    assert [each.up for each in pools] == [2, 2, 2, 1]


def test_clients_are_shared_out_without_loss():
    experiment = Experiment({**pool(replicas=3), "cells": 3, "load": {"kind": "closed", "clients": 8}})
    assert [plan.load.clients for plan in parts_of(experiment)] == [3, 3, 2]


def test_requests_of_a_trace_are_shared_out_without_loss(trace):
    values = {"workload": {"trace": "trace.csv"}, "cells": 3, "pool": [{**POOL, "replicas": 3}]}
    experiment = Experiment(values, trace)
    shares = [experiment.workload(part) for part in experiment.parts]
    assert [len(share) for share in shares] == [plan.requests for plan in parts_of(experiment)] == [14, 13, 13]
    assert sorted(np.concatenate([share.input_tok for share in shares]).tolist()) == list(range(100, 140))
    assert shares[1].arrival_s.tolist() == [at * 0.25 for at in range(1, 40, 3)]
    assert shares[1].client_id.tolist() == [at % 4 for at in range(1, 40, 3)]
    outcome = experiment_run(experiment)
    assert (outcome.arrived, outcome.finished, outcome.parts) == (40, 40, 3)
    assert [row["finished"] for row in outcome.client_rows()] == [10, 10, 10, 10]


def test_tenants_that_fall_into_one_cell_are_counted_in_all(trace):
    (trace / "trace.csv").write_text(
        "arrival_s,input_tokens,output_tokens,client_id\n" + "".join(f"{at},9,2,{7 * (at == 1)}\n" for at in range(4))
    )
    values = {"workload": {"trace": "trace.csv"}, "cells": 2, "pool": [{**POOL, "replicas": 2}]}
    rows = {row["client"]: row["finished"] for row in outcome_of(values, trace).client_rows()}
    assert rows == {0: 3, 7: 1}


def test_generated_requests_are_shared_out_at_their_share_of_the_rate():
    experiment = Experiment({**pool(replicas=4), "cells": 4, "workload": {**BASE["workload"], "requests": 4_001}})
    shares = [experiment.workload(part) for part in experiment.parts]
    assert [len(share) for share in shares] == [1_001, 1_000, 1_000, 1_000]
    for share in shares:
        assert share.token_mix().rate_request_s == pytest.approx(20 / 4)
    assert len({share.digest for share in shares}) == 4


def test_one_request_is_a_workload_too():
    assert outcome_of(changed("workload.requests", 1)).finished == 1
    assert outcome_of({**changed("workload.requests", 3, pool(replicas=2)), "cells": 2}).finished == 3


def test_cells_side_by_side_add_up():
    values = {**changed("workload.requests", 600, pool(replicas=5)), "cells": 3, "slo": [{"ttft_s": 1}]}
    experiment = Experiment(values)
    each = [part_run(experiment, part) for part in experiment.parts]
    merged = experiment_run(experiment)
    (row,) = merged.pool_rows()
    assert (row["replicas"], row["chips"], merged.arrived, merged.finished) == (5, 5, 600, 600)
    assert row["output_tok"] == sum(next(part.pool_rows())["output_tok"] for part in each)
    assert merged.ledger.good.sum() == sum(part.ledger.good.sum() for part in each)
    ends_s = [part.ledger.times[Time.END_S] for part in each]
    assert merged.duration_s == max(ends_s) - min(part.ledger.times[Time.BEGIN_S] for part in each)
    last = list(merged.timeline_rows())[-1]
    assert last["finished"] <= 600
    assert merged.latency_s(Latency.E2E, [1.0])[0] == max(part.latency_s(Latency.E2E, [1.0])[0] for part in each)


def test_changes_go_to_the_cell_that_has_the_replica():
    changes = [{"at_s": 1, "pool": "b", "replica": 4, "kind": "fail"}, {"at_s": 2, "replica": 1, "kind": "drain"}]
    pools = [{**POOL, "name": "a", "replicas": 3}, {**POOL, "name": "b", "replicas": 5}]
    first, second = parts_of(Experiment({**BASE, "cells": 2, "pool": pools, "change": changes}))
    assert first.changes == [Change(1, 2 + 2, ChangeKind.FAIL)]  # two of a, then b's 0, 2 and 4
    assert second.changes == [Change(2, 0, ChangeKind.DRAIN)]


@pytest.mark.parametrize("load", [{}, {"kind": "closed", "clients": 7}, {"kind": "at-once"}])
def test_threads_change_nothing(load):
    values = {**changed("workload.requests", 300, pool(replicas=5)), "cells": 3, "seeds": 2, "load": load,
              "slo": [{"ttft_s": 0.1}], "router": "random"}  # fmt: skip
    one, two = (experiment_run(Experiment(values), threads=threads).to_bytes() for threads in (1, 2))
    assert one == two


def test_parts_run_in_any_order_and_carried_as_bytes_merge_to_the_same():
    experiment = Experiment({**pool(replicas=4), "cells": 2, "seeds": 2})
    backwards = [part_run(Experiment(experiment.values), part).to_bytes() for part in reversed(experiment.parts)]
    merged = parts_merge(experiment, [Outcome.from_bytes(content) for content in reversed(backwards)])
    assert merged.to_bytes() == experiment_run(experiment).to_bytes()


def test_equal_seeds_give_equal_bytes_and_others_give_others():
    first, again, other = (outcome_of({**BASE, "seed": seed}).to_bytes() for seed in (3, 3, 4))
    assert first == again != other


def test_seeds_run_one_after_the_other_and_the_first_is_the_one_that_runs_alone():
    alone, both = Experiment(BASE), Experiment({**BASE, "seeds": 2})
    assert part_run(alone, Part(0, 0)).to_bytes() == part_run(both, Part(0, 0)).to_bytes()
    parts = [part_run(both, part) for part in both.parts]
    outcome = experiment_run(both)
    assert outcome.arrived == both.requests == 120
    assert outcome.duration_s == sum(part.duration_s for part in parts)
    assert next(outcome.pool_rows())["replicas"] == 1
    assert list(outcome.timeline_rows()) == list(parts[0].timeline_rows())


def test_progress_counts_the_requests_of_all_parts(monkeypatch):
    monkeypatch.setattr(experiment_module, "PIECE", 10)
    seen = []
    values = {**pool(replicas=2), "cells": 2}
    experiment_run(Experiment(values), threads=1, on_progress=seen.append)
    assert seen == sorted(seen)
    assert 10 < seen[-1] < 60  # it is told whenever a kernel asks for more, not at the end


def test_slow_step_times_make_everything_slower():
    values = {**BASE, "load": {"kind": "offline"}}
    fast, usual, slow = (outcome_of(values, quantile=quantile).duration_s for quantile in (0.1, 0.5, 0.9))
    assert fast < usual < slow


# --- replicas that come and go ----------------------------------------------------------------------------------------
def up_at(outcome, at_s):
    return next(row["replicas_up"] for row in outcome.timeline_rows() if row["at_s"] == at_s)


def test_a_schedule_scales_a_pool_up_after_a_cold_start_and_down_at_once():
    assert 3 < LOAD_S < 4
    values = {**pool(replicas=4, up=1), "timeline_s": 0.5, "workload": {**BASE["workload"], "requests": 600},
              "scale": [{"at_s": 16, "replicas": 2}, {"at_s": 5, "replicas": 3}]}  # fmt: skip
    outcome = outcome_of(values)
    assert [up_at(outcome, at_s) for at_s in (4, 5 + 3, 5 + 4, 15.5, 16.5)] == [1, 1, 3, 3, 2]
    on_s = outcome.ledger.amount[:, Amount.ON_S]
    assert on_s[3] == 0  # the fourth one never starts; the others draw power from when they begin to load
    assert on_s[0] > on_s[1] > on_s[2] > 9


def test_a_schedule_is_shared_out_over_cells():
    values = {**pool(replicas=5, up=2), "cells": 2, "scale": [{"at_s": 1, "replicas": 5}]}
    first, second = parts_of(Experiment(values))
    assert [change.kind.name for change in first.changes] == ["START", "START", "READY", "READY"]
    assert [(change.at_s, change.replica) for change in second.changes] == [(1, 1), (1 + LOAD_S, 1)]


def test_a_start_is_ready_after_the_weights_are_loaded():
    values = {**pool(replicas=2, up=1, load_byte_s=1e9), "change": [{"at_s": 2, "replica": 1, "kind": "start"}]}
    begin, ready = Experiment(values).plan(Part(0, 0)).changes
    assert begin == Change(2, 1, ChangeKind.START)
    assert ready == Change(2 + 5 * LOAD_S, 1, ChangeKind.READY)


def test_drawn_failures_come_and_go_at_the_rate_asked_for():
    values = {**pool(replicas=20), "until_s": 100_000.0, "failures": {"mtbf_s": 1_000, "repair_s": 500}}
    changes = Experiment(values).plan(Part(0, 0)).changes
    kinds = [change.kind.name for change in changes]
    assert kinds.count("FAIL") == pytest.approx(20 * 100_000 / (1_000 + 500 + LOAD_S), rel=0.1)
    assert [change.at_s for change in changes] == sorted(change.at_s for change in changes)
    mine = [change for change in changes if change.replica == 7]
    for fail, start, ready in zip(mine[::3], mine[1::3], mine[2::3], strict=True):
        assert (fail.kind, start.kind, ready.kind) == (ChangeKind.FAIL, ChangeKind.START, ChangeKind.READY)
        assert start.at_s == fail.at_s + 500
        assert ready.at_s == pytest.approx(start.at_s + LOAD_S)


def test_failures_are_drawn_until_the_last_arrival_and_differ_by_seed_and_cell():
    values = {**pool(replicas=4), "cells": 2, "seeds": 2, "failures": {"mtbf_s": 0.5}}
    plans = parts_of(Experiment(values))
    assert len({tuple(change.at_s for change in plan.changes) for plan in plans}) == 4
    assert all(change.at_s < 3 for plan in plans for change in plan.changes if change.kind == ChangeKind.FAIL)


def test_requests_of_a_replica_that_fails_are_served_by_the_other_one():
    values = {**pool(replicas=2), "workload": {**BASE["workload"], "requests": 200},
              "change": [{"at_s": 5, "replica": 0, "kind": "fail"}]}  # fmt: skip
    row = row_of(values)
    assert row["failed_over"] > 0
    assert row["finished"] == 200


def test_prompts_are_handed_over_to_a_pool_for_decodes():
    pools = [{**POOL, "name": "read", "role": "prefill"}, {**POOL, "name": "write", "role": "decode"}]
    read, write = outcome_of({**BASE, "pool": pools}).pool_rows()
    assert (read["transfers"], write["finished"]) == (60, 60)
    assert read["transfer_s"] == pytest.approx(60 * 0.001 + read["prefill_tok"] * 131_072 / 50e9)
    assert write["prefill_tok"] == 0
