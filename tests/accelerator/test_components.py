import numpy as np
import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.components import (
    LINEAR,
    SEQ_NODES,
    TOK_NODES,
    launches_of,
    linear_parts,
    step_parts,
)
from accelerator.efficiency import DEFAULT
from accelerator.errors import PrecisionError
from accelerator.operators import DeploymentConfig, attention_layers
from accelerator.roofline import decode_times, prefill_times, program_make

CHIP = chip_get("h100-sxm")
DENSE, MOE, WINDOWED = (model_get(slug) for slug in ("llama-3.1-8b", "mixtral-8x7b", "gpt-oss-20b"))
LATENT = model_get("deepseek-r1")
ONE = DeploymentConfig("bf16")
FOUR = DeploymentConfig("bf16", tp=4)
EIGHT = DeploymentConfig("fp8", tp=8)


def part(parts, name):
    return parts.linear_s[:, LINEAR.index(name)]


# --- parts that depend on tokens -------------------------------------------------------------------------------------
@pytest.mark.parametrize(("model", "config"), [(DENSE, ONE), (DENSE, FOUR), (MOE, FOUR), (LATENT, EIGHT)])
def test_parts_add_up_to_the_operators_of_the_step(model, config):
    program = program_make(CHIP, model, config, DEFAULT)
    total_s = [program.times(tok)[:, 0].sum() for tok in TOK_NODES]
    assert linear_parts(program, TOK_NODES).sum(axis=1) == pytest.approx(total_s)
    assert step_parts(CHIP, model, config).linear_s.sum(axis=1) == pytest.approx(total_s)


@pytest.mark.parametrize(("model", "config"), [(DENSE, ONE), (WINDOWED, ONE), (MOE, FOUR), (LATENT, EIGHT)])
def test_no_part_is_negative_or_not_a_number(model, config):
    parts = step_parts(CHIP, model, config)
    for values in (parts.linear_s, parts.decode_s, parts.context_s_per_tok, parts.window_s_per_tok):
        assert np.isfinite(values).all()
        assert (values >= 0).all()
    assert min(parts.prefill_s, parts.prefill_s_per_tok2, parts.window_s_per_tok2) >= 0


def test_a_dense_model_has_no_experts_and_one_chip_no_collectives():
    parts = step_parts(CHIP, DENSE, ONE)
    for name in ("experts_memory", "experts_compute", "collectives"):
        assert not part(parts, name).any()
    assert (part(step_parts(CHIP, DENSE, FOUR), "collectives") > 0).all()
    assert (part(step_parts(CHIP, MOE, ONE), "experts_memory") > 0).all()


def test_reading_binds_a_few_tokens_and_arithmetic_binds_many():
    parts = step_parts(CHIP, DENSE, ONE)
    memory_s, compute_s = part(parts, "gemm_memory"), part(parts, "gemm_compute")
    assert memory_s[0] > 10 * compute_s[0]
    assert compute_s[-1] > 3 * memory_s[-1]


def test_a_slower_memory_lengthens_what_reads():
    slow = CHIP.varied("memory_byte_s", CHIP.memory_byte_s.value / 2)
    parts, slower = step_parts(CHIP, DENSE, ONE), step_parts(slow, DENSE, ONE)
    assert slower.linear_s[0].sum() > 1.5 * parts.linear_s[0].sum()
    assert slower.linear_s[-1].sum() == pytest.approx(parts.linear_s[-1].sum(), rel=0.1)
    assert (slower.context_s_per_tok > parts.context_s_per_tok).all()


def test_slower_arithmetic_lengthens_prompts_and_leaves_single_tokens():
    slow = CHIP.varied("peak_flop_s[bf16]", CHIP.peak_flop_s["bf16"].value / 2)
    parts, slower = step_parts(CHIP, DENSE, ONE), step_parts(slow, DENSE, ONE)
    assert slower.linear_s[-1].sum() > 1.5 * parts.linear_s[-1].sum()
    assert slower.linear_s[0].sum() == pytest.approx(parts.linear_s[0].sum(), rel=0.1)
    assert slower.prefill_s_per_tok2 > parts.prefill_s_per_tok2


def test_narrower_weights_are_read_faster():
    whole, narrow = (step_parts(CHIP, DENSE, config) for config in (ONE, DeploymentConfig("fp8")))
    assert part(narrow, "gemm_memory")[0] < 0.8 * part(whole, "gemm_memory")[0]


# --- attention -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("context_tok", [1024.0, 12288.0])
def test_decode_attention_is_exact_at_both_contexts_it_was_read_at(context_tok):
    (layers,) = attention_layers(DENSE, ONE)
    parts = step_parts(CHIP, DENSE, ONE)
    line_s = parts.decode_s + parts.context_s_per_tok * SEQ_NODES * context_tok
    exact_s = decode_times(CHIP, layers, ONE, DEFAULT, SEQ_NODES, context_tok)[:, 0]
    assert line_s == pytest.approx(exact_s, rel=0.05)


def test_decode_attention_between_contexts_is_close_to_a_straight_line():
    (layers,) = attention_layers(DENSE, ONE)
    parts = step_parts(CHIP, DENSE, ONE)
    line_s = parts.decode_s + parts.context_s_per_tok * SEQ_NODES * 6000.0
    assert line_s == pytest.approx(decode_times(CHIP, layers, ONE, DEFAULT, SEQ_NODES, 6000.0)[:, 0], rel=0.1)


def test_prefill_attention_is_exact_for_a_long_prompt():
    (layers,) = attention_layers(DENSE, ONE)
    parts = step_parts(CHIP, DENSE, ONE)
    (exact_s,) = prefill_times(CHIP, layers, ONE, DEFAULT, [4096.0])[:, 0]
    assert parts.prefill_s + parts.prefill_s_per_tok2 * 4096.0**2 / 2 == pytest.approx(exact_s, rel=0.05)


def test_only_windowed_layers_have_a_window():
    whole, windowed = step_parts(CHIP, DENSE, ONE), step_parts(CHIP, WINDOWED, ONE)
    assert whole.window_tok == 0
    assert not whole.window_s_per_tok.any()
    assert whole.window_s_per_tok2 == 0
    assert windowed.window_tok == WINDOWED.window_tok
    assert windowed.window_s_per_tok.any()
    assert windowed.window_s_per_tok2 > 0
    assert windowed.context_s_per_tok.any()  # half of its layers see everything


def test_heads_divided_over_chips_read_less_of_each_context():
    one, four = step_parts(CHIP, DENSE, ONE), step_parts(CHIP, DENSE, FOUR)
    assert (four.context_s_per_tok < one.context_s_per_tok).all()


def test_a_state_costs_each_sequence_the_same():
    parts = step_parts(CHIP, model_get("qwen3.5-9b"), ONE)
    added_s = np.diff(parts.decode_s) / np.diff(SEQ_NODES)
    assert (added_s > 0).all()


# --- launches, refusals, memory of what was worked out ---------------------------------------------------------------
def test_launches_count_operators_and_kinds_of_attention_layers():
    program = program_make(CHIP, DENSE, ONE, DEFAULT)
    operators = sum(op.count for op in program.ops)
    assert launches_of(program, DENSE, ONE) == pytest.approx(operators + DENSE.layers)
    assert step_parts(CHIP, DENSE, ONE).launches == launches_of(program, DENSE, ONE)


def test_stages_share_the_launches():
    staged = step_parts(CHIP, DENSE, DeploymentConfig("bf16", pp=2)).launches
    assert staged <= step_parts(CHIP, DENSE, ONE).launches + DENSE.layers


def test_parts_of_a_deployment_are_worked_out_once():
    assert step_parts(CHIP, DENSE, ONE) is step_parts(CHIP, DENSE, DeploymentConfig("bf16"))


def test_a_precision_that_a_chip_does_not_have_is_refused():
    with pytest.raises(PrecisionError):
        step_parts(chip_get("a100-80"), DENSE, DeploymentConfig("fp8"))
