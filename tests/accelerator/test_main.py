import csv
import json
import re
import subprocess
import sys

import pytest

from accelerator.__main__ import main
from accelerator.architectures import models_load
from accelerator.chips import chips_load

STEP = ["step", "--chip", "h20-96", "--model", "qwen3-32b"]
CHIPS_FILE = """\
item,quantity,value,low,high,unit,source,confidence,read_on
my-chip,derived_from,h100-sxm,,,text,a test,estimate,2026-01-01
my-chip,memory,40,36,44,GiB,a test,estimate,2026-01-01
mlu690,memory,80,,,GiB,a test,estimate,2026-01-01
"""
CONFIG_FILE = {
    "model_type": "llama", "hidden_size": 512, "num_hidden_layers": 4, "num_attention_heads": 8,
    "num_key_value_heads": 2, "intermediate_size": 1536, "vocab_size": 32_000, "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16", "tie_word_embeddings": False, "hidden_act": "silu",
}  # fmt: skip


@pytest.fixture
def chips_file(tmp_path):
    path = tmp_path / "chips.csv"
    path.write_text(CHIPS_FILE)
    return str(path)


@pytest.fixture
def models_folder(tmp_path):
    folder = tmp_path / "models" / "tiny"
    folder.mkdir(parents=True)
    (folder / "config.json").write_text(json.dumps(CONFIG_FILE))
    return str(tmp_path / "models")


def run(capsys, *arguments):
    assert main(list(arguments)) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    assert not captured.err
    return captured.out.splitlines()


def run_json(capsys, *arguments):
    (line,) = run(capsys, *arguments, "--json")
    return json.loads(line, parse_constant=pytest.fail)  # NaN and Infinity are no JSON


# --- chips and models -------------------------------------------------------------------------------------------------
def test_chips_and_models_list_everything(capsys):
    assert {line.split()[0] for line in run(capsys, "chips")} == set(chips_load())
    assert {line.split()[0] for line in run(capsys, "models")} == set(models_load())


def test_what_nobody_published_is_a_question_mark(capsys):
    line = next(line for line in run(capsys, "chips") if line.startswith("mlu690"))
    assert line.count("?") == 4
    assert line.endswith("no peak published")


def test_one_chip_shows_every_figure_with_range_and_source(capsys):
    lines = run(capsys, "chips", "--chip", "ppu-810e")
    bandwidth = next(line for line in lines if line.startswith("memory_byte_s"))
    assert re.search(r"2\.35e\+12 \(2e\+12 to 2\.76e\+12\) byte/s +assumed: never published", bandwidth)


def test_chips_of_a_file_stand_beside_ours(capsys, chips_file):
    assert any(line.startswith("my-chip") for line in run(capsys, "chips", "--chips", chips_file))
    lines = run(capsys, "chips", "--chips", chips_file, "--chip", "my-chip")
    assert any(re.match(r"memory_byte .*estimate: a test \[2026-01-01\]", line) for line in lines)


def test_models_of_a_folder_stand_beside_ours(capsys, models_folder):
    lines = run(capsys, "models", "--models", models_folder)
    assert len(lines) == len(models_load()) + 1
    assert lines[-1].startswith("tiny ")
    assert "2048 byte/tok" in lines[-1]  # 2 x 4 layers x 2 KV heads x 64 x 2 byte


# --- one step ---------------------------------------------------------------------------------------------------------
def test_a_step_shows_its_parts_and_their_sum(capsys):
    lines = run(capsys, *STEP, "--tp", "2", "--batch", "32", "--context", "1000")
    *parts, step, memory, power, drivers = lines
    times = [float(re.search(r"([\d.]+) ms", line).group(1)) for line in (*parts, step)]
    assert sum(times[:-1]) == pytest.approx(times[-1], abs=0.01)
    assert times[:-1] == sorted(times[:-1], reverse=True)
    assert re.search(r"P10 [\d.]+, P90 [\d.]+\), mostly \w+; \d+ tok/s in fp8 tp2", step)
    assert re.search(r"weights \d.* of 17\d\.\d GiB; at most \d+ sequences of this length", memory)
    assert re.search(r"\d+ W of 2 chips, [\d.]+ J per step", power)
    assert re.search(r"uncertain through +\w+ \([+-][\d.]+% to [+-][\d.]+%\)", drivers)


def test_power_that_nobody_can_know_is_said_to_be_unknown(capsys):
    lines = run(capsys, "step", "--chip", "tpu-v5e", "--model", "llama-3.1-8b")
    assert any(re.match(r"power +unknown: tpu-v5e has no published TDP", line) for line in lines)
    values = run_json(capsys, "step", "--chip", "tpu-v5e", "--model", "llama-3.1-8b")
    assert values["power_w"] is None
    assert values["config"]["weight_precision"] == "int8"  # the 8-bit precision it has


def test_every_option_reaches_the_step(capsys):
    values = run_json(
        capsys, "step", "--chip", "h200", "--model", "deepseek-v3", "--precision", "fp8", "--kv-precision", "fp8",
        "--dp", "8", "--ep", "8", "--engine", "sglang", "--expert-skew", "1.2", "--batch", "300", "--context", "2000",
        "--prefill", "9000", "--past", "100",
    )  # fmt: skip
    config = values["config"]
    expected = {"weight_precision": "fp8", "kv_precision": "fp8", "tp": 1, "pp": 1, "dp": 8, "ep": 8,
                "engine": "sglang", "expert_skew": 1.2, "max_seqs": 300, "max_batched_tok": 9300,
                "chips": 8, "label": "fp8 dp8 ep8"}  # fmt: skip
    assert config == expected
    assert values["engine"] == "sglang"
    assert [values[name] for name in ("batch", "context_tok", "prefill_tok", "past_tok")] == [300, 2000, 9000, 100]
    assert sum(row["share"] for row in values["operators"]) == pytest.approx(1)


def test_a_pipeline_of_tensor_parallel_stages(capsys):
    values = run_json(capsys, "step", "--chip", "h100-sxm", "--model", "llama-3.1-70b", "--tp", "2", "--pp", "2")
    assert values["config"]["chips"] == 4
    assert "hand-over" in {row["operator"] for row in values["operators"]}


def test_a_user_brings_a_chip_and_a_model(capsys, chips_file, models_folder):
    arguments = ("step", "--chips", chips_file, "--chip", "My-Chip", "--models", models_folder, "--model", "tiny")
    values = run_json(capsys, *arguments, "--precision", "bf16")
    assert (values["chip"], values["model"]) == ("my-chip", "tiny")
    assert values["memory"]["usable_byte"] == pytest.approx(0.9 * 40 * 2**30)
    assert "mostly" in "".join(run(capsys, *arguments))


# --- kernels and the fit behind them ----------------------------------------------------------------------------------
def test_rows_of_a_kernel_file_are_predicted_or_say_why_not(capsys, tmp_path):
    path = tmp_path / "gemm.csv"
    path.write_text(
        "chip,engine,engine_version,dtype,m,n,k,latency_ms\n"
        "h100-sxm,vllm,0.14,bf16,4096,4096,4096,\n"
        "h100-sxm,vllm,0.14,fp6,4096,4096,4096,\n"
        "h100-sxm,vllm,0.14,bf16,8192,4096,4096,\n"
    )
    header, *rows = run(capsys, "kernels", str(path))
    assert header == "row,latency_ms,p10,p90,reason"
    assert [row.split(",")[0] for row in rows] == ["0", "1", "2"]
    first, third = ([float(text) for text in rows[i].split(",")[1:4]] for i in (0, 2))
    floor_ms = 2 * 4096**3 / 989e12 * 1e3
    assert floor_ms < first[1] * 1.3
    assert first[1] < first[0] < first[2]
    assert first[0] < third[0]
    assert next(csv.reader([rows[1]]))[4].startswith('dtype "fp6" is not known; known are bfloat16')


def test_errors_tell_how_far_a_family_was_off(capsys):
    lines = run(capsys, "errors", "--family", "gemm")
    assert re.fullmatch(r"fitted on \d{4}-\d\d-\d\d", lines[0])
    assert len(lines) > 1


# --- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("arguments", "sentence"),
    [
        (["chips", "--chip", "h2O-96"], 'unknown chip "h2O-96"; did you mean h20-96?\n'),
        (["chips", "--chips", "/nowhere/chips.csv"], "/nowhere/chips.csv"),
        (["models", "--models", "/nowhere"], "/nowhere: is not a folder\n"),
        (["step", "--chip", "h20", "--model", "qwen9"], 'unknown model "qwen9"'),
        (
            ["step", "--chip", "910c", "--model", "qwen3-8b", "--precision", "fp8"],
            "ascend-910c does not compute in fp8",
        ),
        (["step", "--chip", "mlu690", "--model", "qwen3-8b"], "mlu690 has no memory_byte: no figure is published"),
        (["step", "--chip", "a10", "--model", "qwen3-32b"], "qwen3-32b in int8 tp1 does not fit 1 x a10: weights"),
        ([*STEP, "--tp", "0"], "every size of a config is at least 1"),
        ([*STEP, "--tp", "3"], "qwen3-32b: 64 heads do not divide over tp 3"),
        ([*STEP, "--dp", "2", "--ep", "2"], "qwen3-32b: 0 experts do not divide over ep 2"),
        ([*STEP, "--tp", "2", "--ep", "4"], "expert parallelism is 1 or all 2 chips"),
        ([*STEP, "--expert-skew", "3"], "expert_skew is 0 (even) or an exponent"),
        ([*STEP, "--batch", "0"], "a step has sequences or prompt tokens"),
        ([*STEP, "--batch", "-1"], "a step has sequences or prompt tokens"),
        ([*STEP, "--context", "nan"], "a step has sequences or prompt tokens"),
        (["kernels", "/nowhere/gemm.csv"], "/nowhere/gemm.csv: cannot be read"),
        (["fit", "--data", "/nowhere"], "/nowhere has no kernel file"),
        (["fit", "--family", "convolution"], 'there is no family "convolution"; known are'),
        (["errors", "--family", "convolution"], 'there is no family "convolution"'),
    ],
    ids=" ".join,
)
def test_what_cannot_be_answered_is_one_sentence_and_exit_code_two(capsys, arguments, sentence):
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert captured.err.startswith(sentence)
    assert captured.err.count("\n") == 1
    assert not captured.out


def test_broken_files_are_named_with_the_place(capsys, tmp_path, models_folder):
    path = tmp_path / "bad.csv"
    path.write_text(CHIPS_FILE.replace("40,36,44", "40,44,36"))
    assert main(["chips", "--chips", str(path)]) == 2
    assert capsys.readouterr().err.startswith(f"{path}:3")
    config = tmp_path / "models" / "tiny" / "config.json"
    config.write_text(json.dumps({name: value for name, value in CONFIG_FILE.items() if name != "hidden_size"}))
    assert main(["models", "--models", models_folder]) == 2
    error = capsys.readouterr().err
    assert error.startswith(str(config))
    assert "hidden_size" in error


@pytest.mark.parametrize("arguments", [[], ["step"], ["step", "--chip", "h100-sxm"], [*STEP, "--precision", "fp6"]])
def test_a_wrong_command_line_is_answered_with_its_usage(capsys, arguments):
    with pytest.raises(SystemExit) as end:
        main(arguments)
    assert end.value.code == 2
    assert capsys.readouterr().err.startswith("usage: python -m accelerator")


def test_it_runs_as_a_module():
    done = subprocess.run([sys.executable, "-m", "accelerator", "models"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    assert "qwen3-32b" in done.stdout
