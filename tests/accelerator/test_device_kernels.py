"""The parts of benchmarks/device_kernels.py that need no PyTorch: shapes, limits, files, and the choice of a device."""

import ast
import csv
import gzip
import importlib.util
import io
import random
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest

SCRIPT = Path(__file__).resolve().parents[2] / "benchmarks" / "device_kernels.py"
COLUMNS = {  # of the measured tables that the twin is compared with
    "gemm.csv.gz": "chip,engine,engine_version,source,dtype,m,n,k,latency_ms",
    "attention_prefill.csv.gz": (
        "chip,engine,engine_version,source,attn_dtype,kv_cache_dtype,batch_size,new_tokens,past_tokens,"
        "num_heads,num_key_value_heads,head_dim,window_size,latency_ms"
    ),
    "attention_decode.csv.gz": (
        "chip,engine,engine_version,source,attn_dtype,kv_cache_dtype,batch_size,"
        "num_heads,num_key_value_heads,head_dim,window_size,latency_ms,kv_len"
    ),
    "collectives.csv.gz": (
        "chip,library,engine_version,source,collective,dtype,num_gpus,message_bytes,latency_ms,devices_per_node"
    ),
    "microbench.csv": "chip,metric,value,unit,conditions,source",
}


@pytest.fixture(scope="module")
def script():
    spec = importlib.util.spec_from_file_location("device_kernels", SCRIPT)
    module = importlib.util.module_from_spec(spec)
    with pytest.MonkeyPatch.context() as patch:
        patch.setitem(sys.modules, "device_kernels", module)  # dataclasses look their module up
        spec.loader.exec_module(module)
        yield module


class Clock:
    def __init__(self):
        self.now_s = 0.0

    def __call__(self):
        return self.now_s


class FakeDevice:
    """A device on which every call takes as long as it is told, or fails."""

    kind, fused = "cpu", False
    torch = SimpleNamespace(__version__="0.0")

    def __init__(self, outcome):
        self.outcome, self.released = outcome, 0

    def call_s(self, calls, *, limit_s):
        if isinstance(self.outcome, Exception):
            raise self.outcome
        return self.outcome

    def release(self):
        self.released += 1


@pytest.fixture
def run_with(script, tmp_path, monkeypatch):
    monkeypatch.setattr(script, "gemm_calls", lambda pool, shape: ([lambda: None], ""))
    monkeypatch.setattr(script, "attention_calls", lambda pool, shape: ([lambda: None], " masked"))

    def build(outcome, *, seconds=600.0):
        budget = script.Budget(seconds, clock=Clock())
        return script.Run(
            device=FakeDevice(outcome),
            pool=SimpleNamespace(pool_byte=2**30, hot=False),
            budget=budget,
            console=script.Console(budget, stream=io.StringIO()),
            tables={name: script.Table(tmp_path, name) for name in script.TABLES},
            chip="Chip X",
            room_byte=2**30,
        )

    return build


def pace_of(script, flop_s=1e12):
    return script.Pace(byte_s=1e12, launch_s=1e-6, flop_s=dict.fromkeys(script.DTYPES, flop_s))


def rows_of(path):
    with gzip.open(path, "rt", newline="") as file:
        return list(csv.DictReader(file))


# --- the file stands alone --------------------------------------------------------------------------------------------
def test_it_is_python_3_9_and_imports_the_standard_library_only():
    tree = ast.parse(SCRIPT.read_text(), feature_version=(3, 9))
    names = {alias.name for node in ast.walk(tree) if isinstance(node, ast.Import) for alias in node.names}
    names |= {node.module for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    assert {name.partition(".")[0] for name in names} <= sys.stdlib_module_names


def test_the_columns_are_those_of_the_measured_tables(script):
    assert {name: ",".join(columns) for name, columns in script.TABLES.items()} == COLUMNS


# --- shapes -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("draw", ["gemm_shapes", "prefill_shapes", "decode_shapes"])
def test_any_first_part_covers_every_regime(script, draw):
    shapes = getattr(script, draw)(["bfloat16", "fp32"], count=10**6, rng=random.Random(1))
    strata = {shape.stratum() for shape in shapes}
    assert len(strata) > 20
    assert {shape.stratum() for shape in shapes[: len(strata)]} == strata
    assert len(set(shapes)) == len(shapes)


def test_a_seed_draws_the_same_shapes_again(script):
    first, second, other = (list(script.shapes_draw(["bfloat16", "fp8"], seed=seed))[:200] for seed in (1, 1, 2))
    assert first == second != other


def test_a_short_run_meets_all_three_operations(script):
    first = list(script.shapes_draw(["bfloat16", "int8"], seed=1))[:4]
    assert [shape.table.partition(".")[0] for shape in first] == [
        "gemm",
        "attention_prefill",
        "gemm",
        "attention_decode",
    ]


def test_without_a_type_that_works_nothing_is_drawn(script):
    assert list(script.shapes_draw([], seed=1)) == []


def test_only_types_that_attention_knows_are_drawn_for_it(script):
    shapes = list(script.shapes_draw(["fp16", "fp8", "int8"], seed=1))
    assert {shape.dtype for shape in shapes if isinstance(shape, script.Attention)} == {"fp16"}
    assert {shape.dtype for shape in shapes if isinstance(shape, script.Gemm)} == {"fp16", "fp8", "int8"}


def test_work_and_traffic_of_a_product(script):
    shape = script.Gemm("fp8", 2, 3000, 500)
    assert shape.flop == 6e6
    assert shape.rotated_byte == 1_500_000
    assert shape.room_byte(fused=True) == 2 * 500 + 2 * 3000 * 4


def test_a_causal_prompt_counts_the_pairs_it_keeps(script):
    prompt = script.Attention("bfloat16", 1, 4, 0, 1, 1, 64)
    assert prompt.flop == 4 * 64 * (1 + 2 + 3 + 4)
    later = script.Attention("bfloat16", 1, 4, 10, 1, 1, 64)
    assert later.flop == 4 * 64 * (11 + 12 + 13 + 14)
    assert later.kv_len == 14


def test_a_decode_step_reads_what_is_cached(script):
    step = script.Attention("bfloat16", 2, 1, 100, 8, 2, 64)
    assert step.rotated_byte == 2 * 2 * 2 * 100 * 64 * 2
    assert step.flop == 4 * 2 * 8 * 64 * 100
    assert step.columns()["kv_len"] == 100
    assert not {"new_tokens", "past_tokens", "dtype"} & set(step.columns())


def test_query_heads_are_a_multiple_of_kv_heads(script):
    assert all(heads % kv_heads == 0 for heads, kv_heads, _ in script._heads())


def test_message_sizes_span_the_range_at_once(script):
    sizes = script.message_sizes(2**29)
    assert sizes[:6] == [2**9, 2**13, 2**17, 2**21, 2**25, 2**29]
    assert sorted(sizes) == [2**i for i in range(9, 30)]
    assert max(script.message_sizes(10**6)) == 2**19


# --- limits -----------------------------------------------------------------------------------------------------------
def limits(**changes):
    return {"pool_byte": 2**30, "room_byte": 2**30, "fused": True, "expected_s": 0.001, "limit_s": 1.0} | changes


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({}, ""),
        ({"pool_byte": 1000}, "weight or cache"),
        ({"room_byte": 1000}, "activations"),
        ({"expected_s": 0.21}, "would take 1.05 s, 1 s allowed"),
    ],
)
def test_a_shape_is_skipped_for_memory_or_time(script, changes, reason):
    said = script.skip_reason(script.Gemm("bfloat16", 64, 1024, 1024), **limits(**changes))
    assert said.startswith(reason)
    assert bool(said) == bool(reason)


def test_scores_must_fit_where_running_out_of_memory_kills_the_process(script):
    prompt = script.Attention("bfloat16", 1, 16384, 0, 32, 8, 128)
    assert script.skip_reason(prompt, **limits()) == ""
    assert script.skip_reason(prompt, **limits(fused=False)).startswith("activations")


def test_the_budget_runs_out(script):
    clock = Clock()
    budget = script.Budget(60.0, clock=clock)
    assert (budget.left_s, budget.shape_s) == (60.0, 1.0)
    clock.now_s = 45.0
    assert (budget.spent_s, budget.left_s) == (45.0, 15.0)
    clock.now_s = 61.0
    assert budget.left_s == 0.0


def test_pace_follows_what_calls_took(script):
    pace, shape = pace_of(script), script.Gemm("bfloat16", 8192, 8192, 8192)
    bound_s = pace.expected_s(shape)
    assert bound_s == pytest.approx(1e-6 + 2 * 8192**3 / 1e12)
    for _ in range(9):
        pace.learn(shape, 3 * bound_s)
    assert pace.expected_s(shape) == pytest.approx(3 * bound_s)
    other = script.Gemm("fp16", 8192, 8192, 8192)
    assert pace.expected_s(other) == pytest.approx(bound_s)


@pytest.mark.parametrize(
    ("copy_byte", "pool_byte", "hot", "copies"),
    [(10, 1000, False, 10), (30, 1000, False, 4), (10, 55, False, 5), (500, 1000, False, 1), (10, 1000, True, 1)],
)
def test_copies_exceed_the_cache_and_fit_the_pool(script, copy_byte, pool_byte, hot, copies):
    assert script.copies_count(copy_byte, rotation_byte=100, pool_byte=pool_byte, hot=hot) == copies


def test_calls_take_turns_and_the_first_does_not_count(script):
    seen = []
    device = script.Device(SimpleNamespace(), "cpu")
    latency_s = device.call_s([lambda: seen.append("a"), lambda: seen.append("b")], limit_s=60.0)
    assert latency_s > 0
    assert len(seen) >= script.CALLS_LEAST
    assert seen[:4] == ["a", "b", "a", "b"]


def test_a_call_beyond_the_limit_is_given_up_after_two(script):
    seen = []
    with pytest.raises(script.TooSlowError, match="too long"):
        script.Device(SimpleNamespace(), "cpu").call_s([lambda: seen.append(1)], limit_s=0.0)
    assert len(seen) == 2


def test_a_device_with_events_is_timed_by_them(script):
    device_clock = Clock()

    class Event:
        def __init__(self, *, enable_timing):
            assert enable_timing

        def record(self):
            self.at_s = device_clock.now_s

        def synchronize(self):
            pass

        def elapsed_time(self, stop):
            return 1e3 * (stop.at_s - self.at_s)  # milliseconds, as PyTorch has it

    def call():
        device_clock.now_s += 0.002

    device = script.Device(SimpleNamespace(npu=SimpleNamespace(Event=Event)), "npu")
    assert device.call_s([call], limit_s=1.0) == pytest.approx(0.002)


# --- files ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", COLUMNS)
def test_every_row_is_readable_as_soon_as_it_is_written(script, tmp_path, name):
    table = script.Table(tmp_path, name)
    row = {column: f"{column}, quoted" for column in table.columns}
    for count in (1, 2, 3):
        table.write(row)
        data = table.path.read_bytes()
        text = (gzip.decompress(data) if name.endswith(".gz") else data).decode()
        read = list(csv.DictReader(io.StringIO(text)))
        assert read == [row] * count
    assert text.splitlines()[0] == COLUMNS[name]


def test_a_row_with_other_columns_is_refused_and_leaves_nothing(script, tmp_path):
    table = script.Table(tmp_path, "microbench.csv")
    with pytest.raises(ValueError, match="conditions"):
        table.write(dict.fromkeys(["chip", "metric", "value", "unit", "source"], ""))
    assert not table.path.exists()


def test_a_measured_shape_becomes_a_row(script, run_with):
    run, pace = run_with(0.0025), pace_of(script)
    script.shape_measure(run, pace, script.Gemm("bfloat16", 16, 1024, 512))
    script.shape_measure(run, pace, script.Attention("bfloat16", 1, 8, 16, 4, 2, 64))
    script.shape_measure(run, pace, script.Attention("bfloat16", 1, 1, 16, 4, 2, 64))
    (row,) = rows_of(run.tables["gemm.csv.gz"].path)
    assert ",".join(row) == COLUMNS["gemm.csv.gz"]
    assert ",".join(row.values()) == "Chip X,torch,0.0,device_kernels.py cold,bfloat16,16,1024,512,2.500000"
    (row,) = rows_of(run.tables["attention_prefill.csv.gz"].path)
    assert (row["new_tokens"], row["past_tokens"], row["window_size"]) == ("8", "16", "0")
    assert row["source"] == "device_kernels.py cold masked"
    (row,) = rows_of(run.tables["attention_decode.csv.gz"].path)
    assert (row["kv_len"], row["kv_cache_dtype"]) == ("16", "bfloat16")
    assert run.console.rows == 3


@pytest.mark.parametrize("error", [RuntimeError("out of memory\nand much more"), NotImplementedError("no fp8")])
def test_a_shape_that_fails_is_named_and_leaves_no_row(script, run_with, error):
    run = run_with(error)
    script.shape_measure(run, pace_of(script), script.Gemm("fp8", 16, 1024, 512))
    said = run.console._stream.getvalue()
    assert said == f"skipped gemm dtype=fp8 m=16 n=1024 k=512: {type(error).__name__}: {str(error).splitlines()[0]}\n"
    assert not run.tables["gemm.csv.gz"].path.exists()
    assert (run.console.skips, run.device.released) == ({"failed": 1}, 1)


def test_a_call_that_proves_too_slow_teaches_the_pace(script, run_with):
    run, pace, shape = run_with(script.TooSlowError(9.0)), pace_of(script), script.Gemm("int8", 16, 1024, 512)
    script.shape_measure(run, pace, shape)
    assert run.console.skips == {"too slow": 1}
    assert pace.expected_s(shape) == pytest.approx(9.0)
    script.shape_measure(run, pace, shape)
    assert "would take 45 s" in run.console._stream.getvalue()


def test_an_unforeseen_error_is_not_swallowed(script, run_with):
    with pytest.raises(KeyError):
        script.shape_measure(run_with(KeyError("a mistake of ours")), pace_of(script), script.Gemm("fp16", 1, 256, 256))


def test_a_folder_that_holds_measurements_is_not_written_over(script, tmp_path, capsys):
    (tmp_path / "gemm.csv.gz").touch()
    with pytest.raises(SystemExit):
        script.arguments_parse(["--out", str(tmp_path)])
    assert "holds gemm.csv.gz of another run" in capsys.readouterr().err


@pytest.mark.parametrize(
    "words", [["--dtypes", "fp8,fp9"], ["--seconds", "0"], ["--seconds", "nan"], ["--device", "x"]]
)
def test_a_mistaken_option_is_refused(script, tmp_path, words, capsys):
    with pytest.raises(SystemExit):
        script.arguments_parse(["--out", str(tmp_path), *words])
    assert words[0] in capsys.readouterr().err


# --- the choice of a device, with namespaces in the place of PyTorch --------------------------------------------------
def torch_with(*present):
    face = {kind: SimpleNamespace(is_available=lambda kind=kind: kind in present) for kind in ("cuda", "xpu", "mps")}
    backends = SimpleNamespace(mps=face.pop("mps"))
    return SimpleNamespace(__version__="0.0", backends=backends, **face)


@pytest.mark.parametrize(
    ("present", "kind"), [((), "cpu"), (("mps",), "mps"), (("mps", "xpu"), "xpu"), (("xpu", "cuda"), "cuda")]
)
def test_the_first_device_that_is_there_is_taken(script, present, kind):
    assert script.device_choose(torch_with(*present)) == kind


def test_a_device_asked_for_and_absent_is_an_error(script):
    with pytest.raises(SystemExit, match="sees no cuda"):
        script.device_choose(torch_with("xpu"), "cuda")


def test_a_device_whose_plugin_is_absent_names_the_plugin(script):
    with pytest.raises(SystemExit, match="needs torch_npu"):
        script.device_choose(torch_with("cuda"), "npu")


def test_the_plugin_of_a_maker_is_loaded(script, monkeypatch):
    torch = torch_with()
    torch.npu = SimpleNamespace(is_available=lambda: True)
    monkeypatch.setitem(sys.modules, "torch_npu", SimpleNamespace())
    assert script.device_choose(torch) == "npu"
