import numpy as np
import pytest
from numpy.testing import assert_allclose

from accelerator import kernels
from accelerator.architectures import model_get
from accelerator.chips import chip_get, chips_load
from accelerator.errors import ConfigError, PrecisionError
from accelerator.steps import DeploymentConfig, StepTable, explain, step_table_build

TABLE = StepTable(np.array([0.0, 1.0, 2.0, 4.0]), 0.5, 0.25, 3.0)


def build(chip, model, precision, **sizes):
    return step_table_build(chip_get(chip), model_get(model), DeploymentConfig(precision, **sizes))


def test_a_step_is_the_sum_of_its_four_parts():
    assert TABLE.step_s(2) == 5
    assert TABLE.step_s(2.5, 4, 8) == 3 + 3 + 2 + 2
    with pytest.raises(ConfigError, match="0 to 3 tokens"):
        TABLE.step_s(3.5)


def test_many_steps_at_once_are_the_single_steps(kernel, monkeypatch):
    monkeypatch.setattr(kernels, "roofline", kernel)
    tok, context = np.array([0, 1.5, 3]), np.array([0, 7.0, 9])
    assert_allclose(
        TABLE.step_times_s(tok, context, 2.0), [TABLE.step_s(t, c, 2) for t, c in zip(tok, context, strict=True)]
    )


@pytest.mark.parametrize(
    ("chip", "model", "config"),
    [
        ("h20-96", "qwen3-32b", DeploymentConfig("fp8", tp=2)),
        ("thead-ppu-810e", "deepseek-v3", DeploymentConfig("int8", dp=16, ep=16)),
        ("h100-sxm", "gpt-oss-120b", DeploymentConfig("fp8", tp=2)),
    ],
    ids=str,
)
def test_the_rows_of_explain_add_up_to_the_table(kernel, monkeypatch, chip, model, config):
    monkeypatch.setattr(kernels, "roofline", kernel)
    chip, model = chip_get(chip), model_get(model)
    rows = explain(chip, model, config, 32, 1000, prefill_tok=500)
    table = step_table_build(chip, model, config)
    assert sum(row.time_s for row in rows) == pytest.approx(table.step_s(532, 32_000, 125_000), rel=1e-9)
    assert {row.bound_by for row in rows} <= {"compute", "memory", "link", "overhead"}


def test_one_sequence_waits_for_the_weights_and_a_long_prompt_for_arithmetic():
    chip, model, config = chip_get("h100-sxm"), model_get("llama-3.1-8b"), DeploymentConfig("bf16")
    decode = {row.operator: row.bound_by for row in explain(chip, model, config, 1, 100)}
    prefill = {row.operator: row.bound_by for row in explain(chip, model, config, 0, prefill_tok=8000)}
    assert decode["mlp"] == "memory"
    assert prefill["mlp"] == "compute"
    # 15.0 GB of weights without the input embedding at 0.75 of 3.35 TB/s, and at most 30 % on top
    floor_s = 2 * 7.505e9 / (0.75 * 3.35e12)
    assert floor_s < build("h100-sxm", "llama-3.1-8b", "bf16").step_s(1, 100) < 1.5 * floor_s


def test_steps_only_grow_with_tokens_and_context():
    for chip in chips_load():
        table = build(chip, "qwen3-30b-a3b", "bf16", tp=2)
        assert (np.diff(table.linear_s) >= 0).all()
        assert min(table.context_s_per_tok, table.prefill_s_per_tok2, table.fixed_s) > 0


def test_one_h20_equals_more_than_one_810e_by_more_for_decode_than_for_prefill():
    """Published ratios of data sheets: 0.81 for compute-bound prefill, 0.50-0.69 for bandwidth-bound decode."""
    ppu, h20 = chip_get("thead-ppu-810e"), chip_get("h20-96")
    tables = [step_table_build(chip, model_get("qwen3-32b"), DeploymentConfig("bf16")) for chip in (ppu, h20)]
    prefill = [table.linear_s[8192] for table in tables]
    assert prefill[1] / prefill[0] == pytest.approx(0.81, abs=0.01)
    assert tables[1].context_s_per_tok / tables[0].context_s_per_tok == pytest.approx(2.35 / 4.0)
    assert (ppu.memory_byte_s.low / h20.memory_byte_s.value, ppu.memory_byte_s.high / h20.memory_byte_s.value) == (
        pytest.approx(0.50),
        pytest.approx(0.69),
    )


def test_what_the_chip_cannot_do_is_refused():
    with pytest.raises(PrecisionError, match="does not compute in fp8"):
        build("ascend-910c", "deepseek-v3", "fp8", tp=8)
    with pytest.raises(ConfigError, match="leave the scale-up domain of h20-96, 8 chips"):
        build("h20-96", "qwen3-32b", "fp8", tp=16)
