import pytest

from accelerator.architectures import model_get, models_load
from accelerator.errors import ConfigError
from accelerator.operators import DeploymentConfig, attention_of, config_check, links_of, operators_list

BF16 = DeploymentConfig("bf16")


def total(model, config, field):
    return sum(getattr(op, field) for op in operators_list(model, config))


@pytest.mark.parametrize("slug", models_load())
def test_a_token_multiplies_with_every_active_parameter_once(slug):
    model = model_get(slug)
    flop = sum(op.flop_per_tok for op in operators_list(model, BF16) if op.name != "window")
    assert flop == pytest.approx(2 * model.params_active, rel=1e-3)


@pytest.mark.parametrize("slug", models_load())
def test_the_weights_of_the_operators_are_the_model_without_its_input_embedding(slug):
    model = model_get(slug)
    embedding = 0 if model.tied else model.vocab * model.hidden
    assert total(model, BF16, "weight_byte") == pytest.approx(2 * (model.params_total - embedding), rel=1e-3)


def test_tensor_parallelism_halves_work_and_adds_all_reduces():
    model = model_get("llama-3.1-8b")
    half = DeploymentConfig("bf16", tp=2)
    assert total(model, half, "flop_per_tok") == pytest.approx(total(model, BF16, "flop_per_tok") / 2)
    assert links_of(model, BF16).hops == 0
    links = links_of(model, half)
    assert links.byte_per_tok == 2 * 32 * 2 * 0.5 * 4096 * 2  # two all-reduces per layer, 2 (n-1)/n of the row each
    assert links.hops == 2 * 32 * 2


def test_kv_heads_are_repeated_when_chips_outnumber_them():
    model = model_get("qwen3-30b-a3b")  # four KV heads
    four, eight = (attention_of(model, DeploymentConfig("bf16", tp=tp)) for tp in (4, 8))
    assert eight.byte_per_context_tok == four.byte_per_context_tok
    assert eight.flop_per_context_tok == four.flop_per_context_tok / 2


def test_latent_attention_decodes_against_the_latent():
    attention = attention_of(model_get("deepseek-v3"), BF16)
    assert attention.byte_per_context_tok == 70_272
    assert attention.flop_per_context_tok == 61 * 128 * 2 * (2 * 512 + 64)
    assert attention.flop_per_tok2 == 61 * 128 * 2 * (128 + 64 + 128)


def test_data_parallel_attention_repeats_its_weights_and_divides_its_tokens():
    model = model_get("deepseek-v3")
    spread = DeploymentConfig("int8", dp=16, ep=16)
    whole = {op.name: op for op in operators_list(model, DeploymentConfig("int8"))}
    each = {op.name: op for op in operators_list(model, spread)}
    assert each["out"].weight_byte == whole["out"].weight_byte
    assert each["out"].flop_per_tok == pytest.approx(whole["out"].flop_per_tok / 16)
    assert each["experts"].weight_byte == pytest.approx(whole["experts"].weight_byte / 16)
    assert each["experts"].miss_ratio == whole["experts"].miss_ratio == 1 - 8 / 256


def test_a_windowed_layer_costs_the_same_at_any_context():
    names = {op.name for op in operators_list(model_get("gpt-oss-120b"), BF16)}
    assert "window" in names
    assert attention_of(model_get("gpt-oss-120b"), BF16).byte_per_context_tok == 73_728 / 2


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_precision": "fp6"}, 'unknown precision "fp6"'),
        ({"weight_precision": "bf16", "tp": 0}, "at least 1"),
        ({"weight_precision": "bf16", "pp": 2}, "pipeline parallelism"),
        ({"weight_precision": "bf16", "tp": 4, "ep": 2}, "expert parallelism is 1 or all 4 chips"),
    ],
)
def test_impossible_configs_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        DeploymentConfig(**options)


@pytest.mark.parametrize(
    ("slug", "options", "message"),
    [
        ("qwen2.5-7b", {"tp": 8}, "28 heads do not divide over tp 8"),
        ("qwen3-8b", {"ep": 8, "dp": 8}, "0 experts do not divide"),
    ],
)
def test_models_that_do_not_divide_are_refused(slug, options, message):
    with pytest.raises(ConfigError, match=message):
        config_check(model_get(slug), DeploymentConfig("bf16", **options))


def test_a_label_says_how_a_replica_is_spread():
    assert DeploymentConfig("int8").label == "int8 tp1"
    assert DeploymentConfig("fp8", dp=16, ep=16).label == "fp8 dp16 ep16"
