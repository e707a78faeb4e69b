import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.errors import ModelDoesNotFitError
from accelerator.memory import kv_room_tok, memory_fit
from accelerator.operators import DeploymentConfig
from accelerator.units import GIB


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
    fit = memory_fit(chip_get("h100-sxm"), model, DeploymentConfig("bf16"))
    assert fit.usable_byte == pytest.approx(0.9 * 79.6 * GIB)
    assert fit.weights_byte == pytest.approx(2 * 8.03e9, rel=1e-3)
    assert fit.reserve_byte == 8192 * (4 * 4096 + 2 * 14336) * 2
    assert fit.kv_room_tok == pytest.approx((fit.usable_byte - fit.weights_byte - fit.reserve_byte) / 131_072)
    assert fit.kv_byte == pytest.approx(fit.kv_room_tok * 131_072)


def test_the_latent_is_repeated_over_tp_and_divided_over_dp():
    chip, model = chip_get("thead-ppu-810e"), model_get("deepseek-v3")
    tensor = memory_fit(chip, model, DeploymentConfig("int8", tp=16))
    data = memory_fit(chip, model, DeploymentConfig("int8", dp=16, ep=16))
    assert tensor.kv_byte_per_tok == 16 * 70_272
    assert data.kv_byte_per_tok == 70_272
    assert data.weights_byte > tensor.weights_byte  # attention weights on every chip
    assert data.kv_room_tok > 5 * tensor.kv_room_tok


def test_eight_bit_weights_carry_scales_and_a_two_byte_head():
    model = model_get("qwen3-32b")
    fit = memory_fit(chip_get("h20-96"), model, DeploymentConfig("fp8"))
    head = model.vocab * model.hidden
    assert fit.weights_byte == pytest.approx(1.02 * (model.params_total - 2 * head) + 4 * head, rel=1e-6)


def test_a_model_that_does_not_fit_says_how_much_is_missing():
    with pytest.raises(ModelDoesNotFitError, match=r"deepseek-v3 in fp8 tp8 does not fit 8 x h100-sxm: weights 6\d\d "):
        memory_fit(chip_get("h100-sxm"), model_get("deepseek-v3"), DeploymentConfig("fp8", tp=8))


def test_windows_are_reserved_and_not_charged_per_token():
    fit = memory_fit(chip_get("b200"), model_get("gpt-oss-120b"), DeploymentConfig("fp8", max_seqs=100))
    assert fit.kv_byte_per_tok == 73_728 / 2
    assert fit.reserve_byte > 100 * model_get("gpt-oss-120b").kv_byte_window()
