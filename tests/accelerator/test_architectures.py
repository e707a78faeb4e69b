import csv

import pytest

from accelerator.architectures import model_get, models_load
from accelerator.errors import UnknownModelError
from accelerator.facts import aliases_load

KV_BYTE_PER_TOK = {  # at BF16, every softmax layer without its window; by hand from the published shapes
    "llama-2-7b": 2 * 32 * 32 * 128 * 2,
    "llama-2-70b": 2 * 80 * 8 * 128 * 2,
    "llama-3.1-8b": 131_072,
    "llama-3.1-70b": 327_680,
    "llama-3.1-405b": 516_096,
    "qwen2.5-7b": 57_344,
    "qwen2.5-32b": 262_144,
    "qwen2.5-72b": 327_680,
    "qwen3-8b": 147_456,
    "qwen3-32b": 262_144,
    "qwen3-30b-a3b": 98_304,
    "qwen3-235b-a22b": 192_512,
    "qwen3-coder-480b-a35b": 253_952,
    "qwen3-next-80b-a3b": 2 * 12 * 2 * 256 * 2,  # 12 of 48 layers are softmax
    "qwen3.5-397b-a17b": 2 * 15 * 2 * 256 * 2,
    "deepseek-v2-lite": 27 * (512 + 64) * 2,
    "deepseek-v3": 70_272,
    "deepseek-r1": 70_272,
    "deepseek-v3.2": 70_272,
    "kimi-k2": 70_272,
    "glm-4.5": 376_832,
    "glm-4.6": 376_832,
    "glm-4.5-air": 188_416,
    "glm-5": 78 * (512 + 64) * 2,
    "gpt-oss-20b": 49_152,
    "gpt-oss-120b": 73_728,
    "mixtral-8x7b": 131_072,
    "mistral-7b": 131_072,
    "gemma-2-27b": 376_832,
    "gemma-3-27b": 507_904,
    "phi-4": 204_800,
    "phi-3-mini-4k": 393_216,
    "minimax-m1": 2 * 10 * 8 * 128 * 2,
    "minimax-m2": 253_952,
    "qwen2.5-vl-7b": 57_344,
    "qwen3-embedding-8b": 147_456,
}
NAME_ROUNDS = {  # the published count of active parameters is the one in the name, whole billions (2.4 for V2 Lite)
    "qwen3-next-80b-a3b",
    "qwen3.5-397b-a17b",
    "deepseek-v2-lite",
    "glm-4.5",
    "glm-4.6",
    "glm-4.5-air",
    "glm-5",
    "minimax-m2",
}
EMBEDDING_COUNTS = {"qwen3-30b-a3b", "kimi-k2"}  # published as active, although a token only reads one row of it
HEAD_DOES_NOT_COUNT = {"minimax-m1"}


def test_the_models_of_the_published_list_are_held():
    assert set(KV_BYTE_PER_TOK) <= set(models_load())


@pytest.mark.parametrize("slug", models_load())
def test_parameters_are_within_two_percent_of_the_published_ones(slug):
    model = model_get(slug)
    assert model.params_total == pytest.approx(model.params_official, rel=0.02)


@pytest.mark.parametrize("slug", sorted(set(KV_BYTE_PER_TOK) - NAME_ROUNDS))
def test_active_parameters_are_within_two_percent_of_the_published_ones_as_those_count_them(slug):
    model = model_get(slug)
    active, embedding = model.params_active, model.vocab * model.hidden
    if not model.tied and (not model.experts or slug in EMBEDDING_COUNTS):
        active += embedding  # of a dense model the total is published, not what a token multiplies with
    if slug in HEAD_DOES_NOT_COUNT:
        active -= embedding
    assert active == pytest.approx(model.params_active_official, rel=0.02)


@pytest.mark.parametrize("slug", sorted(NAME_ROUNDS))
def test_active_parameters_round_to_the_name_of_the_model(slug):
    model = model_get(slug)
    assert abs(model.params_active - model.params_active_official) < 1e9


MEASURED_KV_BYTE_PER_TOK = {  # of models beyond the published list, at BF16, by hand from their shapes
    "llama-2-13b": 2 * 40 * 40 * 128 * 2,
    "falcon-180b": 2 * 80 * 8 * 64 * 2,
    "bloom-176b": 2 * 70 * 112 * 128 * 2,
    "gpt-j-6b": 2 * 28 * 16 * 256 * 2,
    "gemma-2b": 2 * 18 * 256 * 2,  # one KV head
    "qwen3-14b": 163_840,
    "qwen3.5-9b": 2 * 8 * 4 * 256 * 2,  # 8 of 32 layers are softmax
    "qwen3.5-27b": 2 * 16 * 4 * 256 * 2,
    "llama-4-maverick": 2 * 48 * 8 * 128 * 2,
    "minimax-m3": 2 * 60 * 4 * 128 * 2,
    "hy3-preview": 327_680,
    "moonlight-16b-a3b": 27 * 576 * 2,
    "minicpm3-4b": 62 * (256 + 32) * 2,
    "glm-5.2": 78 * 576 * 2,
    "nemotron-3-super-120b-a12b": 2 * 8 * 2 * 128 * 2,  # 8 of its 48 mixers are softmax
}


@pytest.mark.parametrize(("slug", "kv_byte"), MEASURED_KV_BYTE_PER_TOK.items())
def test_kv_bytes_per_token_of_other_models_are_those_of_their_shapes(slug, kv_byte):
    assert model_get(slug).kv_byte_per_tok() == kv_byte


@pytest.mark.parametrize("slug", [slug for slug, model in models_load().items() if model.experts])
def test_active_parameters_of_every_sparse_model_are_about_the_published_ones(slug):
    """Some count embedding and head, others neither, and small counts are rounded in the name."""
    model = model_get(slug)
    embedding = model.vocab * model.hidden
    assert model.params_active - embedding <= 1.16 * model.params_active_official
    assert model.params_active + embedding >= 0.9 * model.params_active_official


@pytest.mark.parametrize(
    ("slug", "full", "chunked", "linear"),
    [
        ("llama-4-scout", 12, 36, 0),
        ("gemma-3-12b", 8, 40, 0),
        ("gpt-neo-2.7b", 16, 16, 0),
        ("qwen3.5-122b-a10b", 12, 0, 36),
        ("nemotron-3-nano-30b-a3b", 6, 0, 23),
        ("deepseek-v4-flash", 5, 38, 0),
    ],
)
def test_layers_of_other_models_attend_as_their_configs_say(slug, full, chunked, linear):
    model = model_get(slug)
    assert (model.full_layers, model.window_layers, model.linear_layers) == (full, chunked, linear)


def test_experts_on_a_latent_have_the_size_that_their_config_says():
    model = model_get("nemotron-3-super-120b-a12b")
    assert model.expert_params == 2 * 1024 * 2688  # up and down, on a latent of 1,024
    assert 2 * model.hidden * model.shared_ffn == 2 * 4096 * 5376 + 2 * 4096 * 1024  # and the way to it and back


@pytest.mark.parametrize(("slug", "per_four", "per_128"), [("deepseek-v4-flash", 21, 20), ("deepseek-v4-pro", 30, 31)])
def test_compressed_attention_grows_as_its_entries_do(slug, per_four, per_128):
    """One entry of 512 elements per 4 or per 128 tokens, in BF16."""
    entries_byte = 512 * 2 * (per_four / 4 + per_128 / 128)
    assert model_get(slug).kv_byte_full_per_tok() == pytest.approx(entries_byte, rel=0.08)


@pytest.mark.parametrize(("slug", "kv_byte"), KV_BYTE_PER_TOK.items())
def test_kv_bytes_per_token_are_the_published_ones(slug, kv_byte):
    model = model_get(slug)
    assert model.kv_byte_per_tok() == kv_byte
    assert model.kv_byte_per_tok("int8") == kv_byte / 2


@pytest.mark.parametrize(
    ("slug", "active"),
    [
        ("llama-3.1-8b", 7.505e9),
        ("qwen3-32b", 31.984e9),
        ("qwen3-30b-a3b", 3.042e9),
        ("qwen3-235b-a22b", 21.568e9),
        ("qwen3-next-80b-a3b", 3.564e9),
        ("deepseek-v3", 36.626e9),
        ("deepseek-v3.2", 37.477e9),
        ("kimi-k2", 31.687e9),
        ("glm-4.5-air", 12.803e9),
        ("gpt-oss-120b", 5.133e9),
        ("minimax-m1", 47.174e9),
    ],
)
def test_active_parameters_are_those_recomputed_by_others(slug, active):
    assert model_get(slug).params_active == pytest.approx(active, rel=2e-3)


@pytest.mark.parametrize("slug", models_load())
def test_every_layer_attends_in_one_way(slug):
    model = model_get(slug)
    assert min(model.full_layers, model.window_layers, model.linear_layers) >= 0
    assert model.full_layers + model.window_layers + model.linear_layers == model.layers
    assert model.softmax_layers == model.layers - model.linear_layers
    assert bool(model.window_tok) == bool(model.window_layers)
    assert bool(model.linear_state_elements) == bool(model.linear_layers)


def test_windowed_layers_stop_growing_at_their_window():
    model = model_get("gpt-oss-120b")
    assert model.kv_byte_full_per_tok() == 73_728 / 2  # every second layer
    assert model.kv_byte_window() == 18 * 128 * 2 * 8 * 64 * 2


@pytest.mark.parametrize(
    ("slug", "window_tok", "window_layers", "full_layers"),
    [
        ("gpt-oss-20b", 128, 12, 12),
        ("gpt-oss-120b", 128, 18, 18),
        ("gemma-2-27b", 4096, 23, 23),
        ("gemma-3-27b", 1024, 52, 10),
        ("mistral-7b", 4096, 32, 0),
        ("phi-3-mini-4k", 2047, 32, 0),
    ],
)
def test_a_sequence_keeps_all_of_its_tokens_up_to_the_window_and_no_more_in_windowed_layers(
    slug, window_tok, window_layers, full_layers
):
    model = model_get(slug)
    assert (model.window_tok, model.window_layers, model.full_layers) == (window_tok, window_layers, full_layers)
    per_tok, per_layer = model.kv_byte_per_tok(), model.kv_byte_per_tok() / model.layers
    assert model.kv_byte(window_tok) == window_tok * per_tok
    assert model.kv_byte(10 * window_tok) == per_layer * window_tok * (10 * full_layers + window_layers)
    assert model.kv_byte(10 * window_tok, "fp8") == model.kv_byte(10 * window_tok) / 2


def test_gemma_3_keeps_a_fifth_of_its_short_context_figure_at_its_longest_context():
    model = model_get("gemma-3-27b")
    kept = model.kv_byte(131_072) / (131_072 * model.kv_byte_per_tok())
    assert kept == pytest.approx((10 + 52 * 1024 / 131_072) / 62)


@pytest.mark.parametrize(
    ("slug", "elements", "layers", "conv_channels"),
    [
        ("qwen3-next-80b-a3b", 18_874_368, 36, 2 * 16 * 128 + 32 * 128),
        ("qwen3.5-397b-a17b", 47_185_920, 45, 2 * 16 * 128 + 64 * 128),
        ("minimax-m1", 73_400_320, 70, 0),
    ],
)
def test_a_linear_layer_keeps_a_state_that_does_not_grow(slug, elements, layers, conv_channels):
    model = model_get(slug)
    assert model.linear_layers == layers
    assert model.linear_state_elements == elements
    assert (
        model.linear_state_byte == 2 * elements + 2 * layers * 3 * conv_channels
    )  # three inputs of a conv of four taps
    assert model.kv_byte(0) == model.linear_state_byte
    assert model.kv_byte(1000) - model.kv_byte(0) == pytest.approx(1000 * model.kv_byte_per_tok())
    assert model.kv_byte(1000, "fp8") - model.kv_byte(0, "fp8") == pytest.approx(500 * model.kv_byte_per_tok())


def test_the_parameters_of_a_gated_delta_net_layer_by_hand():
    model = model_get("qwen3-next-80b-a3b")
    key, value, heads = 16 * 128, 32 * 128, 32
    projections = 2048 * (2 * key + 2 * value + 2 * heads)  # query, key, value, gate; decay and step per head
    assert model.linear_in_params == projections + 4 * (2 * key + value)  # and a conv of four taps
    assert model.linear_out_params == value * 2048
    assert model.qkv_params == 2048 * (2 * 16 + 2 * 2) * 256  # the query projection also yields the gate


def test_the_parameters_of_a_lightning_layer_by_hand():
    model = model_get("minimax-m1")
    assert model.linear_in_params == 6144 * 4 * 64 * 128  # query, key, value and gate
    assert model.linear_out_params == 64 * 128 * 6144


def test_latent_attention_keeps_70272_byte_per_token_of_deepseek_v3():
    model = model_get("deepseek-v3")
    assert model.kv_byte_per_tok() == 61 * 576 * 2 == 70_272
    assert model.kv_byte(1000) == 70_272_000


def test_the_indexer_of_sparse_attention_adds_its_parameters_and_its_keys():
    dense, sparse = model_get("deepseek-v3"), model_get("deepseek-v3.2")
    assert sparse.index_topk == 2048
    indexer = 1536 * 64 * 128 + 7168 * 128 + 7168 * 64
    assert sparse.params_total - dense.params_total == 61 * indexer
    assert sparse.kv_byte_per_tok() == dense.kv_byte_per_tok()
    assert sparse.kv_byte(1000) == 1000 * (70_272 + 61 * (128 + 4))  # FP8 keys, one FP32 scale each


def test_queries_without_a_latent_are_projected_in_one_step():
    model = model_get("deepseek-v2-lite")
    assert model.qkv_params == 2048 * 16 * (128 + 64) + 2048 * (512 + 64)


def test_an_embedding_model_has_no_output_head():
    model = model_get("qwen3-embedding-8b")
    assert not model.lm_head
    assert model.embedding_params == 151_665 * 4096
    assert [slug for slug, other in models_load().items() if not other.lm_head] == [model.slug]


def test_eight_bit_weights_keep_embedding_and_head_at_two_bytes():
    model = model_get("qwen3-32b")
    head = 151_936 * 5120
    assert model.weights_byte("int8") == (model.params_total - 2 * head) + 2 * 2 * head
    assert model.weights_byte("bf16") == 2 * model.params_total


@pytest.mark.parametrize("name", ["Qwen/Qwen3-32B", "qwen3-32B", "vllm-ascend/Qwen3-32B-W8A8"])
def test_an_alias_leads_to_the_model(name):
    assert model_get(name) is model_get("qwen3-32b")


@pytest.mark.parametrize("slug", [slug for slug, model in models_load().items() if model.hf_id])
def test_the_hub_name_leads_to_the_model(slug):
    assert model_get(model_get(slug).hf_id) is model_get(slug)


def test_a_model_read_at_call_time_is_found_after_those_held():
    mine = model_get("qwen3-8b")
    assert model_get("Mine", {"mine": mine}) is mine
    assert model_get("qwen3-32b", {"qwen3-32b": mine}).layers == 64
    with pytest.raises(UnknownModelError, match="did you mean my-own-model"):
        model_get("my-own-modle", {"my-own-model": mine})


def test_an_unknown_model_names_the_close_ones():
    with pytest.raises(UnknownModelError, match=r'unknown model "qwen3-32"; did you mean .*qwen3-32b'):
        model_get("qwen3-32")


def test_a_model_that_is_known_but_not_held_says_so():
    held = {name.lower() for model in models_load().values() for name in (model.slug, model.hf_id)}
    missing = [name for name, (slug, note) in aliases_load().items() if not slug and "models.csv" in note]
    names = [name for name in missing if name not in held]
    with pytest.raises(UnknownModelError, match=r"no row in models\.csv"):
        model_get(names[0])


@pytest.mark.shared
def test_every_model_agrees_with_the_published_table(shared_data):
    with (shared_data / "models.csv").open() as file:
        published = {row["slug"]: row for row in csv.DictReader(file)}
    assert set(published) <= set(models_load())
    for slug, row in published.items():
        model = model_get(slug)
        assert model.kv_byte_per_tok() == float(row["kv_bytes_per_token_bf16"])
        assert model.params_total == pytest.approx(1e9 * float(row["params_total_computed_b"]), rel=2e-3)
        assert model.params_active == pytest.approx(1e9 * float(row["params_active_computed_b"]), rel=2e-3)
        assert model.max_context_tok == int(row["max_context"])
        assert model.linear_state_elements == int(row["linear_state_elems_per_seq"] or 0)
        assert model.window_layers == int(row["sliding_window_layers"])
        assert model.linear_layers == int(row["linear_attn_layers"])
        assert model.index_topk == int(row["index_topk"] or 0)
