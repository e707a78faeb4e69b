import json
import math
from dataclasses import replace

import pytest

from accelerator.architectures import model_get, models_load
from accelerator.calibration import cell_take
from accelerator.chips import chip_get, chips_load, chips_read
from accelerator.efficiency import DEFAULT
from accelerator.errors import ConfigError, MissingFigureError, ModelDoesNotFitError, PrecisionError
from accelerator.estimate import OVERHEAD, step_estimate, step_rows
from accelerator.gemm import gemm_members
from accelerator.operators import DeploymentConfig
from accelerator.power import chip_powers_w
from accelerator.steps import step_table_build
from tests.conftest import ROOT

CASES = [
    ("h100-sxm", "llama-3.1-8b", DeploymentConfig("bf16")),
    ("h20-96", "qwen3-32b", DeploymentConfig("fp8", tp=2)),
    ("b200", "gpt-oss-120b", DeploymentConfig("fp8", tp=2)),
    ("h200", "minimax-m1", DeploymentConfig("fp8", tp=8)),
    ("h200", "deepseek-v3.2", DeploymentConfig("fp8", dp=8, ep=8)),
    ("thead-ppu-810e", "deepseek-v3", DeploymentConfig("int8", dp=16, ep=16)),
    ("ascend-910c", "qwen3-next-80b-a3b", DeploymentConfig("int8", tp=2)),
    ("h100-sxm", "llama-3.1-70b", DeploymentConfig("fp8", tp=2, pp=2)),
]
STEPS = [(1, 1000, 0, 0), (64, 2000, 0, 0), (16, 1000, 512, 0), (0, 0, 2048, 4096)]


def estimate(chip, model, config, batch, context_tok=0, prefill_tok=0, past_tok=0):
    return step_estimate(
        chip_get(chip), model_get(model), config, batch, context_tok, prefill_tok=prefill_tok, past_tok=past_tok
    )


# --- rows -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_rows_add_up_and_what_binds_is_the_largest_part(case, step):
    found = estimate(*case, *step)
    assert found.time_s == pytest.approx(sum(row.time_s for row in found.rows), rel=1e-12)
    by_bound = {}
    for row in found.rows:
        assert row.time_s > 0
        assert row.time_s >= max(row.compute_s, row.memory_s) * (1 - 1e-9), row.operator
        assert row.basis in {"calibrated", "pooled", "assumed"}
        by_bound[row.bound_by] = by_bound.get(row.bound_by, 0) + row.time_s
    assert set(by_bound) <= {"compute", "memory", "link", OVERHEAD}
    assert by_bound[found.binding] == max(by_bound.values())


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_the_band_contains_the_median_and_drivers_are_sorted(case, step):
    found = estimate(*case, *step)
    band = found.band_s
    assert 0 < band.p10 < band.p50 < band.p90
    assert band.p50 == found.time_s
    assert found.drivers
    sizes = [max(abs(math.log(low)), abs(math.log(high))) for _, low, high in found.drivers]
    assert sizes == sorted(sizes, reverse=True)
    assert all(low < 1 < high or high < 1 < low or min(low, high) == 1 or max(low, high) == 1
               for _, low, high in found.drivers)  # fmt: skip


@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_an_estimate_is_json_ready(case, step):
    values = json.loads(json.dumps(estimate(*case, *step).as_dict(), allow_nan=False))
    assert sum(row["share"] for row in values["operators"]) == pytest.approx(1)
    assert sum(row["time_s"] for row in values["operators"]) == pytest.approx(values["step_s"]["p50"])
    assert values["config"]["label"] == case[2].label
    assert [values[name] for name in ("batch", "context_tok", "prefill_tok", "past_tok")] == list(step)
    assert values["tok_s"] == pytest.approx(step[0] / values["step_s"]["p50"])
    assert values["memory"]["batch_most"] >= 0
    assert values["power_w"] > 0


@pytest.mark.parametrize("slug", models_load())
def test_every_model_has_an_estimate_that_is_json_ready(slug):
    """Models of windows alone have no longest context: nothing there, since JSON knows no infinity."""
    chip = chip_get("b200").varied("memory_byte", 4e12)
    found = step_estimate(chip, model_get(slug), DeploymentConfig("bf16"), 4, 500)
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    endless = model_get(slug).full_layers == 0
    assert (values["memory"]["kv_room_tok"] is None) == (values["memory"]["context_most_tok"] is None) == endless


@pytest.mark.parametrize("slug", chips_load())
def test_every_chip_has_an_estimate_or_an_error_that_names_what_is_missing(slug):
    chip, model, config = chip_get(slug), model_get("llama-3.1-8b"), DeploymentConfig("bf16", tp=4)
    needed = ["memory_byte", "memory_byte_s", "scale_up_byte_s"]
    missing = [name for name in needed if name not in chip.given and not (chip.link_kind == "none" and "up" in name)]
    if missing or "bf16" not in chip.peak_flop_s:
        with pytest.raises((MissingFigureError, PrecisionError, ModelDoesNotFitError), match=slug):
            step_estimate(chip, model, config, 8, 1000)
        return
    if 4 * chip.memory_byte.value < 4e10:
        with pytest.raises(ModelDoesNotFitError, match=f"does not fit 4 x {slug}"):
            step_estimate(chip, model, config, 8, 1000)
        return
    found = step_estimate(chip, model, config, 8, 1000)
    floor_s = 2 * 7.5e9 / 4 / chip.memory_byte_s.value
    assert floor_s < found.time_s < math.inf
    assert math.isnan(found.power_w) == ("tdp_w" not in chip.given)


# --- parts of a step --------------------------------------------------------------------------------------------------
def test_attention_stands_in_rows_of_its_kind():
    names = {row.operator for row in estimate("b200", "gpt-oss-120b", DeploymentConfig("fp8"), 8, 1000, 512).rows}
    assert {f"{kind}, {phase}" for kind in ("attention", "window attention") for phase in ("decode", "prefill")} < names
    names = {row.operator for row in estimate("h200", "minimax-m1", DeploymentConfig("fp8", tp=8), 8, 1000).rows}
    assert {"linear state", "attention, decode", "all-reduce", "host"} < names
    sparse = DeploymentConfig("fp8", dp=8, ep=8)
    names = {row.operator for row in estimate("h200", "deepseek-v3.2", sparse, 8, 1000).rows}
    assert {"indexer", "sparse attention, decode", "dispatch", "combine"} < names


def test_a_window_hides_the_rest_of_the_context():
    def seen(context_tok):
        rows = estimate("b200", "gpt-oss-120b", DeploymentConfig("fp8"), 8, context_tok).rows
        return {row.operator: row.byte for row in rows}

    short, long = seen(128), seen(12_800)
    assert long["window attention, decode"] == short["window attention, decode"] == 8 * 128 * 73_728 / 2
    assert long["attention, decode"] == 100 * short["attention, decode"]


def test_the_cached_part_of_a_prompt_is_seen_and_not_computed_again():
    config = DeploymentConfig("bf16")
    alone, behind = (
        {row.operator: row for row in estimate("h100-sxm", "llama-3.1-8b", config, 0, 0, 1000, past).rows}
        for past in (0, 20_000)
    )
    assert behind["mlp up"] == alone["mlp up"]
    pairs = 1000 * (20_000 + 500)
    assert behind["attention, prefill"].flop == 4 * 32 * 128 * 32 * pairs
    assert behind["attention, prefill"].time_s > 5 * alone["attention, prefill"].time_s


def test_the_band_of_a_cached_prompt_is_around_its_own_time():
    found = estimate("h100-sxm", "llama-3.1-8b", DeploymentConfig("bf16"), 0, 0, 1000, 20_000)
    assert found.band_s.p10 > 0.5 * found.time_s
    assert "attention_time_ratio" in {name for name, *_ in found.drivers}


def test_bytes_and_flop_of_rows_are_those_of_the_model():
    model, config = model_get("llama-3.1-8b"), DeploymentConfig("bf16")
    rows = {row.operator: row for row in step_rows(chip_get("h100-sxm"), model, config, 16, 1000)}
    products = sum(rows[name].flop for name in ("qkv", "attention out", "mlp up", "mlp down", "head"))
    assert products == pytest.approx(16 * 2 * model.params_active, rel=1e-4)
    assert rows["attention, decode"].byte == 16 * 1000 * 131_072
    assert rows["host"].time_s == DEFAULT.host_step_s


def test_a_slow_host_only_adds_its_own_time():
    chip, model, config = chip_get("h100-sxm"), model_get("llama-3.1-8b"), DeploymentConfig("bf16")
    slow = replace(DEFAULT, host_step_s=DEFAULT.host_step_s + 0.01)
    times = [step_estimate(chip, model, config, 8, 1000, efficiency=eff).time_s for eff in (DEFAULT, slow)]
    assert times[1] - times[0] == pytest.approx(0.01)


# --- power and memory -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("step", STEPS, ids=str)
@pytest.mark.parametrize("case", CASES, ids=str)
def test_mean_power_lies_between_idle_and_tdp_and_near_the_table(case, step):
    """A table adds up computing and reading of all operators, rows cap each at its own time, so they draw less."""
    batch, context_tok, prefill_tok, past_tok = step
    found = estimate(*case, *step)
    idle_w, tdp_w = chip_powers_w(found.chip)
    assert case[2].chips * idle_w < found.power_w <= case[2].chips * tdp_w
    assert found.energy_j == pytest.approx(found.power_w * found.time_s)
    table = step_table_build(found.chip, found.model, found.config)
    work = prefill_tok * (past_tok + prefill_tok / 2)
    args = batch + prefill_tok, batch, batch * context_tok, work
    assert table.energy_j(*args) / table.step_s(*args) == pytest.approx(found.power_w, rel=0.20)


def test_power_without_a_published_tdp_is_unknown_and_nothing_else_is():
    found = estimate("tpu-v5e", "llama-3.1-8b", DeploymentConfig("int8"), 8, 1000)
    values = json.loads(json.dumps(found.as_dict(), allow_nan=False))
    assert values["power_w"] is values["energy_j"] is None
    assert values["step_s"]["p50"] > 0
    assert math.isnan(found.power_w)


def test_an_estimate_says_how_many_sequences_fit():
    found = estimate("h100-sxm", "llama-3.1-8b", DeploymentConfig("bf16"), 8, 1000, 500)
    values = found.as_dict()["memory"]
    assert values["batch_most"] == found.memory.seqs_most(1001)  # each has one token more after the step
    assert found.fits
    crowded = estimate("h100-sxm", "llama-3.1-8b", DeploymentConfig("bf16", max_seqs=5000), 5000, 130_000)
    assert not crowded.as_dict()["fits"]
    assert crowded.time_s > 0  # answered all the same, and said to be impossible
    assert values["context_most_tok"] == pytest.approx(found.memory.kv_byte / 8 / 131_072)


# --- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "step", [(0, 0), (0, 1000), (-1, 10), (1, -10), (1, 10, -1), (0, 0, 10, -1), (math.nan, 1), (1, math.nan),
             (math.inf, 1), (1, math.inf), (0, 0, math.inf), (0, 0, 10, math.nan)], ids=str,
)  # fmt: skip
def test_a_step_of_nothing_or_of_no_number_is_refused(step):
    with pytest.raises(ConfigError, match="a step has sequences or prompt tokens"):
        estimate("h100-sxm", "llama-3.1-8b", DeploymentConfig("bf16"), *step)


def test_a_figure_that_nobody_published_is_named_and_where_to_give_it():
    with pytest.raises(MissingFigureError, match=r'mlu690 has no memory_byte: .* "mlu690,memory,\.\.\."') as caught:
        estimate("mlu690", "llama-3.1-8b", DeploymentConfig("bf16"), 1, 100)
    assert (caught.value.chip, caught.value.quantity) == ("mlu690", "memory_byte")


def test_a_figure_that_is_given_in_a_file_completes_a_chip(tmp_path):
    path = tmp_path / "chips.csv"
    path.write_text(
        "item,quantity,value,low,high,unit,source,confidence,read_on\n"
        "metax-c600,memory_bandwidth,3000,2500,3500,GB/s,a test,estimate,2026-01-01\n"
    )
    chips, config = chips_read(path), DeploymentConfig("bf16")
    with pytest.raises(MissingFigureError, match="metax-c600 has no memory_byte_s"):
        estimate("metax-c600", "llama-3.1-8b", config, 8, 1000)
    found = step_estimate(chip_get("metax-c600", chips), model_get("llama-3.1-8b"), config, 8, 1000)
    assert found.time_s > 2 * 7.5e9 / 3e12
    assert "memory_byte_s" in {name for name, *_ in found.drivers}


def test_what_does_not_fit_or_is_not_computed_is_refused():
    with pytest.raises(ModelDoesNotFitError):
        estimate("h100-sxm", "deepseek-v3", DeploymentConfig("fp8", tp=8), 1, 100)
    with pytest.raises(PrecisionError, match="thead-ppu-810e does not compute in fp8"):
        estimate("thead-ppu-810e", "llama-3.1-8b", DeploymentConfig("fp8"), 1, 100)
    with pytest.raises(ConfigError, match="heads do not divide"):
        estimate("h100-sxm", "qwen2.5-7b", DeploymentConfig("bf16", tp=8), 1, 100)


def test_a_reader_repeats_a_step_with_a_calculator():
    """Llama 3.1 8B in BF16 on one H100, 16 sequences of 1,000 tokens; docs/models/step.md has the same lines."""
    page = (ROOT / "docs" / "models" / "step.md").read_text()
    cell = cell_take("gemm", gemm_members(chip_get("h100-sxm"), "vllm", "bf16"))
    launch_s, compute, memory, wave, epilogue, *_, hide, _, overlap = cell.values
    found = step_estimate(chip_get("h100-sxm"), model_get("llama-3.1-8b"), DeploymentConfig("bf16"), 16, 1000)
    each_s = {row.operator: row.time_s / max(row.launches, 1) for row in found.rows}

    def product_s(n, k):
        compute_s = (2 * 16 * n + 2 * 128**2 * 132 * wave) * (k + epilogue) / (compute * 989e12)
        memory_s = 2 * (n * k + 16 * k + 16 * n) / (memory * 3.35e12)
        run_s = (compute_s**overlap + memory_s**overlap) ** (1 / overlap)
        return (run_s ** (1 + hide) + min(launch_s, 3e-6) ** (1 + hide)) ** (1 / (1 + hide))

    for name, n, k in (("mlp up", 28_672, 4096), ("mlp down", 4096, 14_336), ("qkv", 6144, 4096)):
        assert each_s[name] == pytest.approx(product_s(n, k), rel=1e-6)
        assert f"{each_s[name] * 1e6:.1f}" in page
    assert f"{found.time_s * 1e3:.2f} ms" in page
    assert f"{found.band_s.p10 * 1e3:.1f} to {found.band_s.p90 * 1e3:.1f} ms" in page
