import csv

import pytest

from accelerator.architectures import model_get, models_load
from accelerator.errors import UnknownModelError


def test_parameters_are_within_two_percent_of_the_published_ones():
    assert len(models_load()) >= 12
    for model in models_load().values():
        assert model.params_total == pytest.approx(model.params_official, rel=0.02), model.slug


@pytest.mark.parametrize(
    ("slug", "kv_byte", "active"),
    [
        ("llama-3.1-8b", 131_072, 7.505e9),
        ("qwen3-32b", 262_144, 31.984e9),
        ("qwen3-30b-a3b", 98_304, 3.042e9),
        ("qwen3-235b-a22b", 192_512, 21.568e9),
        ("deepseek-v3", 70_272, 36.626e9),
        ("kimi-k2", 70_272, 31.687e9),
        ("glm-4.5-air", 188_416, 12.803e9),
        ("gpt-oss-120b", 73_728, 5.133e9),
    ],
)
def test_kv_bytes_per_token_and_active_parameters_are_the_published_ones(slug, kv_byte, active):
    model = model_get(slug)
    assert model.kv_byte_per_tok("bf16") == kv_byte
    assert model.kv_byte_per_tok("int8") == kv_byte / 2
    assert model.params_active == pytest.approx(active, rel=2e-3)


def test_windowed_layers_stop_growing_at_their_window():
    model = model_get("gpt-oss-120b")
    assert model.kv_byte_full_per_tok() == 73_728 / 2  # every second layer
    assert model.kv_byte_window() == 18 * 128 * 2 * 8 * 64 * 2


def test_eight_bit_weights_keep_embedding_and_head_at_two_bytes():
    model = model_get("qwen3-32b")
    head = 151_936 * 5120
    assert model.weights_byte("int8") == (model.params_total - 2 * head) + 2 * 2 * head
    assert model.weights_byte("bf16") == 2 * model.params_total


@pytest.mark.parametrize("name", ["Qwen/Qwen3-32B", "qwen3-32B", "vllm-ascend/Qwen3-32B-W8A8"])
def test_an_alias_leads_to_the_model(name):
    assert model_get(name) is model_get("qwen3-32b")


def test_an_unknown_model_names_the_close_ones():
    with pytest.raises(UnknownModelError, match=r'unknown model "qwen3-32"; did you mean .*qwen3-32b'):
        model_get("qwen3-32")


def test_a_model_whose_attention_is_not_modelled_says_so():
    with pytest.raises(UnknownModelError, match="sparse attention"):
        model_get("deepseek-ai/DeepSeek-V3.2")


@pytest.mark.shared
def test_every_model_agrees_with_the_published_table(shared_data):
    with (shared_data / "models.csv").open() as file:
        published = {row["slug"]: row for row in csv.DictReader(file)}
    for slug, model in models_load().items():
        row = published[slug]
        assert model.kv_byte_per_tok() == float(row["kv_bytes_per_token_bf16"])
        assert model.params_total == pytest.approx(1e9 * float(row["params_total_computed_b"]), rel=2e-3)
        assert model.params_active == pytest.approx(1e9 * float(row["params_active_computed_b"]), rel=2e-3)
        assert model.max_context_tok == int(row["max_context"])
