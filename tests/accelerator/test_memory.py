import math

import pytest

from accelerator.architectures import model_get, models_load
from accelerator.chips import chip_get
from accelerator.efficiency import DEFAULT
from accelerator.errors import ModelDoesNotFitError
from accelerator.memory import activation_byte, kv_room_tok, memory_fit
from accelerator.operators import DeploymentConfig
from accelerator.units import GIB, PRECISION_BYTE


def fit_of(chip, model, precision, **options):
    return memory_fit(chip_get(chip), model_get(model), DeploymentConfig(precision, **options))


# --- published arithmetic and sums by hand ----------------------------------------------------------------------------
@pytest.mark.parametrize(("precision", "weight_byte", "room_tok"), [("int8", 1, 11.6e6), ("bf16", 2, 2.0e6)])
def test_precision_costs_deepseek_most_of_its_concurrency_on_sixteen_810e(precision, weight_byte, room_tok):
    """Published arithmetic: 16 x 96 GiB, 0.9 of it usable, no activations, KV cache in BF16."""
    model = model_get("deepseek-v3")
    room = kv_room_tok(
        usable_byte=16 * 96 * GIB * 0.9,
        weights_byte=model.params_total * weight_byte,
        reserve_byte=0,
        kv_byte_per_tok=model.kv_byte_per_tok("bf16"),
    )
    assert room == pytest.approx(room_tok, rel=0.03)


def test_a_dense_model_on_one_chip_by_hand():
    model = model_get("llama-3.1-8b")
    fit = fit_of("h100-sxm", "llama-3.1-8b", "bf16")
    assert fit.usable_byte == pytest.approx(0.9 * 79.6 * GIB)
    assert fit.weights_byte == pytest.approx(2 * 8.03e9, rel=1e-3)
    assert fit.activations_byte == activation_byte(model, DeploymentConfig("bf16")) == 8192 * (4 * 4096 + 2 * 14336) * 2
    assert fit.engine_byte == DEFAULT.engine_byte
    assert fit.kv_byte == fit.usable_byte - fit.weights_byte - fit.activations_byte - fit.engine_byte
    assert fit.kv_room_tok == pytest.approx(fit.kv_byte / 131_072)


def test_every_chip_of_a_replica_keeps_a_reserve_for_the_engine():
    one, four = fit_of("h100-sxm", "llama-3.1-8b", "bf16"), fit_of("h100-sxm", "llama-3.1-8b", "bf16", tp=4)
    assert four.engine_byte == 4 * one.engine_byte > 0


def test_eight_bit_weights_carry_scales_and_a_two_byte_head():
    model = model_get("qwen3-32b")
    fit = fit_of("h20-96", "qwen3-32b", "fp8")
    head = model.vocab * model.hidden
    assert fit.weights_byte == pytest.approx(1.02 * (model.params_total - 2 * head) + 4 * head, rel=1e-6)


def test_a_tied_embedding_is_held_once_and_an_input_embedding_beside_the_head():
    tied, plain = model_get("gemma-3-27b"), model_get("llama-3.1-8b")
    assert fit_of("h200", "gemma-3-27b", "bf16").weights_byte == pytest.approx(2 * tied.params_total)
    assert fit_of("h200", "llama-3.1-8b", "bf16").weights_byte == pytest.approx(2 * plain.params_total)


@pytest.mark.parametrize("slug", models_load())
def test_the_weights_of_one_copy_are_the_model(slug):
    """On one large chip, in two bytes; biases, which no operator carries, are below 0.03 %."""
    chip = chip_get("h200").varied("memory_byte", 4e12)
    fit = memory_fit(chip, model_get(slug), DeploymentConfig("bf16"))
    assert fit.weights_byte == pytest.approx(model_get(slug).weights_byte("bf16"), rel=3e-4)


# --- what is repeated and what is divided -----------------------------------------------------------------------------
def test_the_latent_is_repeated_over_tp_and_divided_over_dp():
    tensor = fit_of("thead-ppu-810e", "deepseek-v3", "int8", tp=16)
    data = fit_of("thead-ppu-810e", "deepseek-v3", "int8", dp=16, ep=16)
    assert tensor.kv_byte_per_tok == 16 * 70_272
    assert data.kv_byte_per_tok == 70_272
    assert data.weights_byte > tensor.weights_byte  # attention weights on every chip
    assert data.kv_room_tok > 5 * tensor.kv_room_tok


def test_kv_heads_beyond_one_per_chip_are_repeated():
    four, eight = (fit_of("h100-sxm", "qwen3-30b-a3b", "bf16", tp=tp) for tp in (4, 8))
    assert eight.kv_byte_per_tok == 2 * four.kv_byte_per_tok == 2 * model_get("qwen3-30b-a3b").kv_byte_per_tok()


def test_pipeline_stages_hold_the_weights_once():
    one, two = fit_of("h200", "qwen3-32b", "bf16"), fit_of("h200", "qwen3-32b", "bf16", pp=2)
    assert two.weights_byte == one.weights_byte
    assert two.kv_byte_per_tok == one.kv_byte_per_tok


# --- how many sequences, and how long ---------------------------------------------------------------------------------
MIXED = [
    ("llama-3.1-8b", "h100-sxm", {}),
    ("gpt-oss-120b", "h100-sxm", {"tp": 4}),
    ("gemma-3-27b", "h200", {}),
    ("mistral-7b", "h100-sxm", {}),
    ("minimax-m1", "h200", {"tp": 8}),
    ("deepseek-v3.2", "h200", {"dp": 8, "ep": 8}),
]


@pytest.mark.parametrize(("model", "chip", "options"), MIXED)
def test_longest_context_and_largest_batch_undo_each_other(model, chip, options):
    fit = fit_of(chip, model, "fp8", **options)
    for context_tok in (1, fit.window_tok - 1, fit.window_tok, fit.window_tok + 1, 1000, 4096, 100_000):
        if context_tok <= 0:
            continue
        seqs = fit.kv_byte / fit.sequence_byte(context_tok)
        longest_tok = fit.context_most_tok(seqs)
        if not fit.kv_byte_per_tok and context_tok >= fit.window_tok:  # every window is full: longer costs nothing
            assert math.isinf(fit.context_most_tok(seqs * (1 - 1e-9)))
        else:
            assert longest_tok == pytest.approx(context_tok, rel=1e-9)
        assert fit.seqs_most(context_tok) * fit.sequence_byte(context_tok) <= fit.kv_byte
        assert (fit.seqs_most(context_tok) + 1) * fit.sequence_byte(context_tok) > fit.kv_byte


@pytest.mark.parametrize(("model", "chip", "options"), MIXED)
def test_a_sequence_keeps_what_its_model_says(model, chip, options):
    fit, spec = fit_of(chip, model, "fp8", **options), model_get(model)
    for context_tok in (1, 127, 128, 129, 1024, 4096, 5000, 60_000):
        assert fit.sequence_byte(context_tok) == pytest.approx(spec.kv_byte(context_tok))


def test_windows_stop_growing_at_their_edge():
    fit, model = fit_of("b200", "gpt-oss-120b", "fp8"), model_get("gpt-oss-120b")
    assert fit.window_tok == 128
    assert fit.kv_byte_per_tok == fit.window_byte_per_tok == 73_728 / 2
    assert fit.sequence_byte(128) == 128 * 73_728
    assert fit.sequence_byte(129) == 128 * 73_728 + 73_728 / 2
    assert fit.kv_room_tok == pytest.approx((fit.kv_byte - model.kv_byte_window()) / fit.kv_byte_per_tok)


def test_a_model_of_windows_alone_has_room_without_end():
    fit = fit_of("h100-sxm", "mistral-7b", "bf16")
    assert math.isinf(fit.kv_room_tok)
    assert fit.seqs_most(4096) == fit.seqs_most(1e6) > 0
    assert fit.context_most_tok(fit.kv_byte / fit.sequence_byte(1000)) == pytest.approx(1000)


def test_states_alone_can_fill_the_memory():
    fit, model = fit_of("h200", "minimax-m1", "fp8", tp=8), model_get("minimax-m1")
    assert fit.state_byte == model.linear_state_byte > 0
    most = fit.kv_byte / fit.state_byte
    assert fit.context_most_tok(1.01 * most) == 0
    assert fit.context_most_tok(0.99 * most) > 0


# --- precision, and what does not fit ---------------------------------------------------------------------------------
@pytest.mark.parametrize("slug", models_load())
def test_a_wider_precision_never_needs_less_memory(slug):
    chip, model = chip_get("b200").varied("memory_byte", 4e12), model_get(slug)
    order = ["int4", "fp4", "fp8", "bf16"]  # FP4 has a scale per 16 elements
    assert set(PRECISION_BYTE) == {*order, "int8", "int8_wo"}
    weights = [memory_fit(chip, model, DeploymentConfig(precision)).weights_byte for precision in order]
    assert weights == sorted(weights)
    caches = [
        memory_fit(chip, model, DeploymentConfig("bf16", kv_precision=precision)).sequence_byte(3000)
        for precision in order
    ]
    assert caches == sorted(caches)


def test_a_model_that_does_not_fit_says_how_much_is_missing():
    with pytest.raises(
        ModelDoesNotFitError,
        match=(
            r"deepseek-v3 in fp8 tp8 does not fit 8 x h100-sxm: weights 6\d\d, activations \d+ and engine \d+ "
            r"of 573 GiB"
        ),
    ):
        fit_of("h100-sxm", "deepseek-v3", "fp8", tp=8)


def test_weights_that_leave_no_room_for_one_token_do_not_fit():
    chip, config, model = chip_get("h100-sxm"), DeploymentConfig("bf16"), model_get("llama-3.1-8b")
    full_byte = memory_fit(chip, model, config).kv_byte
    least_byte = chip.memory_byte.value - (full_byte - 131_072) / DEFAULT.memory_use_ratio
    assert memory_fit(chip.varied("memory_byte", least_byte * (1 + 1e-9)), model, config).kv_byte > 0
    with pytest.raises(ModelDoesNotFitError):
        memory_fit(chip.varied("memory_byte", least_byte * (1 - 1e-9)), model, config)
