import json
from dataclasses import fields

import pytest

from accelerator.architectures import ModelSpec, model_get
from accelerator.errors import AcceleratorError
from accelerator.hf_config import CONFIG_MAX_BYTE, ConfigFileError, config_parse, models_read

DENSE = {
    "model_type": "llama",
    "hidden_size": 64,
    "num_hidden_layers": 12,
    "num_attention_heads": 8,
    "num_key_value_heads": 2,
    "intermediate_size": 160,
    "vocab_size": 1000,
    "max_position_embeddings": 4096,
    "torch_dtype": "bfloat16",
}
MIXTURE = DENSE | {
    "model_type": "qwen3_moe",
    "num_experts": 16,
    "num_experts_per_tok": 2,
    "moe_intermediate_size": 32,
}
LATENT = MIXTURE | {
    "model_type": "deepseek_v3",
    "kv_lora_rank": 16,
    "q_lora_rank": 24,
    "qk_nope_head_dim": 8,
    "qk_rope_head_dim": 4,
    "v_head_dim": 8,
    "first_k_dense_replace": 3,
    "n_shared_experts": 1,
    "n_routed_experts": 16,
}
HYBRID = MIXTURE | {
    "model_type": "qwen3_next",
    "head_dim": 16,
    "shared_expert_intermediate_size": 48,
    "linear_num_key_heads": 4,
    "linear_num_value_heads": 8,
    "linear_key_head_dim": 8,
    "linear_value_head_dim": 16,
    "linear_conv_kernel_dim": 4,
}
NOT_IN_A_CONFIG = {"slug", "name", "hf_id", "released", "params_official", "params_active_official", "note"}


def parse(config, **changes):
    return config_parse({**config, **changes}, slug="mine", source="mine.json")


def without(config, *names):
    return {name: value for name, value in config.items() if name not in names}


# --- attention --------------------------------------------------------------------------------------------------------
def test_grouped_query_attention_is_read_field_by_field():
    model = parse(DENSE)
    assert (model.attention, model.hidden, model.layers, model.heads) == ("gqa", 64, 12, 8)
    assert (model.kv_heads, model.head_dim, model.ffn, model.vocab) == (2, 8, 160, 1000)
    assert (model.max_context_tok, model.native_precision, model.full_layers) == (4096, "bf16", 12)
    assert not model.tied
    assert not model.note
    assert model.kv_byte_per_tok() == 2 * 12 * 2 * 8 * 2


@pytest.mark.parametrize("absent", [{"num_key_value_heads": None}, {}])
def test_without_kv_heads_every_head_has_its_own(absent):
    assert parse(without(DENSE, "num_key_value_heads") | absent).kv_heads == 8


@pytest.mark.parametrize(
    ("config", "kv_heads"),
    [
        (DENSE | {"num_key_value_heads": 1}, 1),
        (without(DENSE, "num_key_value_heads") | {"model_type": "falcon", "multi_query": True}, 1),
        (
            without(DENSE, "num_key_value_heads")
            | {"model_type": "falcon", "multi_query": True, "new_decoder_architecture": True, "num_kv_heads": 4},
            4,
        ),
        (DENSE | {"model_type": "chatglm", "multi_query_attention": True, "multi_query_group_num": 2}, 2),
    ],
)
def test_multi_query_attention_is_read_in_all_its_spellings(config, kv_heads):
    assert parse(config).kv_heads == kv_heads


@pytest.mark.parametrize(("model_type", "head_dim"), [("llama", 8), ("qwen3", 128), ("gemma2", 256), ("gpt_oss", 64)])
def test_an_omitted_head_width_is_that_of_the_family(model_type, head_dim):
    config = MIXTURE | {"model_type": model_type} if model_type == "gpt_oss" else DENSE | {"model_type": model_type}
    assert parse(without(config, "moe_intermediate_size")).head_dim == head_dim


@pytest.mark.parametrize(
    ("model_type", "tied"), [("llama", False), ("qwen2", False), ("gemma2", True), ("cohere", True), ("gpt2", True)]
)
def test_an_omitted_tie_is_that_of_the_family_and_a_stated_one_stands(model_type, tied):
    config = DENSE | {"model_type": model_type}
    assert parse(config).tied is tied
    assert parse(config, tie_word_embeddings=not tied).tied is not tied
    assert parse(config, tie_word_embeddings=True).params_total < parse(config, tie_word_embeddings=False).params_total


@pytest.mark.parametrize(("model_type", "bias"), [("llama", False), ("qwen2", True), ("qwen3", False)])
def test_an_omitted_bias_is_that_of_the_family(model_type, bias):
    assert parse(DENSE, model_type=model_type).qkv_bias is bias
    assert parse(DENSE, model_type=model_type, attention_bias=not bias).qkv_bias is not bias


def test_latent_attention_keeps_the_latent_and_the_rotary_part():
    model = parse(LATENT)
    assert (model.attention, model.kv_heads, model.head_dim) == ("mla", 0, 0)
    assert (model.kv_lora_rank, model.q_lora_rank, model.v_dim) == (16, 24, 8)
    assert model.kv_byte_per_tok() == 12 * (16 + 4) * 2
    assert parse(LATENT, q_lora_rank=None).qkv_params == 64 * 8 * 12 + 64 * 20


def test_an_indexer_is_read():
    model = parse(LATENT, model_type="deepseek_v32", index_topk=2048, index_n_heads=4, index_head_dim=16)
    assert (model.index_topk, model.index_heads, model.index_dim) == (2048, 4, 16)
    assert model.index_byte_per_tok == 12 * 20


# --- windows ----------------------------------------------------------------------------------------------------------
WINDOW = {"sliding_window": 256}


@pytest.mark.parametrize(
    ("changes", "window_tok", "window_layers"),
    [
        pytest.param({"model_type": "mistral", **WINDOW}, 256, 12, id="mistral: all layers"),
        pytest.param({"model_type": "mistral", "sliding_window": None}, 0, 0, id="mistral: null"),
        pytest.param({"model_type": "mistral"}, 4096, 12, id="mistral: omitted"),
        pytest.param({"model_type": "phi3", "sliding_window": 2047}, 2047, 12, id="phi3: all layers"),
        pytest.param({"model_type": "phi3"}, 0, 0, id="phi3: omitted"),
        pytest.param({"model_type": "qwen2", **WINDOW, "use_sliding_window": False}, 0, 0, id="qwen2: off"),
        pytest.param({"model_type": "qwen2", **WINDOW}, 0, 0, id="qwen2: off if omitted"),
        pytest.param(
            {"model_type": "qwen2", **WINDOW, "use_sliding_window": True, "max_window_layers": 8},
            256,
            4,
            id="qwen2: on",
        ),
        pytest.param({"model_type": "gemma2", **WINDOW}, 256, 6, id="gemma2: alternate"),
        pytest.param({"model_type": "gemma3_text", **WINDOW}, 256, 10, id="gemma3: 5 to 1"),
        pytest.param({"model_type": "gemma3", **WINDOW, "sliding_window_pattern": 4}, 256, 9, id="gemma3: 3 to 1"),
        pytest.param({"model_type": "gemma3_text"}, 4096, 10, id="gemma3: omitted"),
        pytest.param({"model_type": "cohere2", **WINDOW}, 256, 9, id="cohere2: 3 to 1"),
        pytest.param({"model_type": "exaone4", **WINDOW, "sliding_window_pattern": "LLLG"}, 256, 9, id="exaone4: LLLG"),
        pytest.param({"model_type": "exaone4", "sliding_window": None}, 0, 0, id="exaone4: null"),
        pytest.param(
            {"model_type": "ministral", **WINDOW, "layer_types": ["sliding_attention"] * 9 + ["full_attention"] * 3},
            256,
            9,
            id="a list goes before the rule",
        ),
        pytest.param(
            {"model_type": "qwen3", "sliding_window": None, "layer_types": ["full_attention"] * 12}, 0, 0, id="all full"
        ),
    ],
)
def test_windows_are_read_as_the_family_means_them(changes, window_tok, window_layers):
    model = parse(DENSE, **changes)
    assert (model.window_tok, model.window_layers) == (window_tok, window_layers)
    assert model.full_layers == 12 - window_layers


def test_gpt_oss_alternates_and_caps_its_cache():
    config = without(MIXTURE, "num_experts", "moe_intermediate_size") | {
        "model_type": "gpt_oss",
        "num_local_experts": 16,
    }
    model = parse(config, sliding_window=128, head_dim=8)
    assert (model.window_layers, model.expert_ffn, model.ffn) == (6, 160, 0)
    per_layer = 2 * 2 * 8 * 2
    assert model.kv_byte(1000) == per_layer * (6 * 1000 + 6 * 128)


def test_llama_4_attends_in_chunks_except_every_fourth_layer():
    config = without(MIXTURE, "num_experts", "moe_intermediate_size") | {"model_type": "llama4_text"}
    model = parse(config, attention_chunk_size=512, num_local_experts=16, interleave_moe_layer_step=2,
                  intermediate_size_mlp=320)  # fmt: skip
    assert (model.window_tok, model.window_layers, model.head_dim) == (512, 9, 128)
    assert (model.dense_layers, model.ffn, model.expert_ffn, model.shared_ffn) == (6, 320, 160, 160)


# --- linear attention -------------------------------------------------------------------------------------------------
def test_every_fourth_layer_of_a_gated_delta_hybrid_is_softmax():
    model = parse(HYBRID)
    assert (model.linear_layers, model.full_layers, model.linear_kind) == (9, 3, "delta")
    assert model.linear_state_elements == 9 * 8 * 8 * 16
    assert model.out_gate
    assert model.kv_byte_per_tok() == 2 * 3 * 2 * 16 * 2
    assert parse(HYBRID, full_attention_interval=6).linear_layers == 10
    listed = ["linear_attention"] * 11 + ["full_attention"]
    assert parse(HYBRID, layer_types=listed, full_attention_interval=4).linear_layers == 11


def test_the_state_keeps_the_precision_that_the_config_states():
    narrow, wide = parse(HYBRID), parse(HYBRID, mamba_ssm_dtype="float32")
    assert (narrow.linear_state_elem_byte, wide.linear_state_elem_byte) == (2, 4)
    assert wide.linear_state_byte - narrow.linear_state_byte == 2 * wide.linear_state_elements


def test_lightning_attention_is_read_from_its_list():
    config = without(MIXTURE, "num_experts", "moe_intermediate_size") | {"model_type": "minimax_m1"}
    model = parse(config, num_local_experts=16, attn_type_list=[0, 0, 0, 1] * 3, head_dim=16)
    assert (model.linear_layers, model.linear_kind, model.linear_conv_width) == (9, "lightning", 0)
    assert model.linear_state_elements == 9 * 8 * 16 * 16


# --- mixtures ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("config", "changes", "dense_layers", "shared_ffn"),
    [
        pytest.param(MIXTURE, {}, 0, 0, id="all sparse"),
        pytest.param(MIXTURE, {"decoder_sparse_step": 2}, 6, 0, id="every second"),
        pytest.param(MIXTURE, {"mlp_only_layers": [0, 5]}, 2, 0, id="some dense"),
        pytest.param(LATENT, {}, 3, 32, id="dense first"),
        pytest.param(LATENT, {"first_k_dense_replace": 0}, 0, 32, id="none dense"),
        pytest.param(LATENT, {"moe_layer_freq": 2}, 12 - 4, 32, id="dense first, then every second"),
        pytest.param(LATENT, {"moe_layer_freq": [0] * 5 + [1] * 7}, 5, 32, id="a list of zero and one"),
        pytest.param(LATENT, {"mlp_layer_types": ["dense"] * 4 + ["sparse"] * 8}, 4, 32, id="a list of words"),
        pytest.param(LATENT, {"n_shared_experts": 2}, 3, 64, id="two shared"),
        pytest.param(LATENT, {"n_shared_experts": None}, 3, 0, id="none shared"),
        pytest.param(
            MIXTURE, {"model_type": "qwen2_moe", "shared_expert_intermediate_size": 96}, 0, 96, id="a wide shared one"
        ),
        pytest.param(
            without(MIXTURE, "num_experts", "num_experts_per_tok"),
            {
                "model_type": "ernie4_5_moe",
                "moe_num_experts": 16,
                "moe_k": 2,
                "moe_num_shared_experts": 2,
                "moe_layer_start_index": 1,
                "moe_layer_interval": 1,
            },
            1,
            64,
            id="ernie",
        ),
    ],
)
def test_mixtures_are_read_with_dense_layers_and_shared_experts(config, changes, dense_layers, shared_ffn):
    model = parse(config, **changes)
    assert (model.experts, model.experts_active, model.expert_ffn) == (16, 2, 32)
    assert (model.dense_layers, model.shared_ffn) == (dense_layers, shared_ffn)
    assert model.ffn == (160 if dense_layers else 0)
    assert model.moe_layers == 12 - dense_layers


def test_a_family_that_may_have_experts_has_none_if_the_file_says_so():
    model = parse(MIXTURE, num_experts=0, num_experts_per_tok=None, moe_intermediate_size=None)
    assert (model.experts, model.ffn, model.mlp_layers) == (0, 160, 12)


def test_an_mlp_without_a_gate_has_two_matrices():
    gated, plain = parse(DENSE), parse(DENSE, model_type="gpt_neox", attention_bias=False)
    assert (gated.mlp_matrices, plain.mlp_matrices) == (3, 2)
    assert gated.params_total - plain.params_total == 12 * 64 * 160
    names = {"n_embd": 64, "n_layer": 12, "n_head": 8, "n_positions": 1024, "vocab_size": 1000, "n_inner": None}
    assert parse({"model_type": "gpt2"} | names).ffn == 256


# --- towers, heads, precision -----------------------------------------------------------------------------------------
def test_of_a_model_with_several_towers_the_text_tower_is_read():
    outer = {"architectures": ["Gemma3ForConditionalGeneration"], "model_type": "gemma3", "vision_config": {"depth": 2}}
    inner = {"model_type": "gemma3_text", "hidden_size": 5376, "num_hidden_layers": 62, "intermediate_size": 21504,
             "num_attention_heads": 32, "num_key_value_heads": 16, "head_dim": 128, "sliding_window": 1024}  # fmt: skip
    model = parse(outer, text_config=inner)
    held = model_get("gemma-3-27b")
    assert model.params_total == held.params_total
    assert model.kv_byte(10_000) == held.kv_byte(10_000)
    assert model.note == "text tower only"


def test_a_text_tower_inherits_what_its_wrapper_says():
    quantised = {"quantization_config": {"quant_method": "fp8"}, "tie_word_embeddings": True}
    model = parse({"model_type": "wrapper", **quantised, "thinker_config": {"text_config": DENSE}})
    assert model.tied
    assert model.native_precision == "fp8"


@pytest.mark.parametrize(("name", "lm_head"), [("LlamaForCausalLM", True), ("Qwen3Model", False)])
def test_a_class_without_a_head_is_an_embedding_model(name, lm_head):
    assert parse(DENSE, architectures=[name]).lm_head is lm_head


@pytest.mark.parametrize(
    ("quantised", "precision"),
    [
        ({"quant_method": "fp8", "weight_block_size": [128, 128]}, "fp8"),
        ({"quant_method": "fbgemm_fp8"}, "fp8"),
        ({"quant_method": "mxfp4", "modules_to_not_convert": ["lm_head"]}, "fp4"),
        ({"quant_method": "awq", "bits": 4}, "int4"),
        ({"quant_method": "gptq", "bits": 8}, "int8"),
        ({"quant_method": "bitsandbytes", "load_in_4bit": True}, "int4"),
        ({"quant_method": "modelopt", "quant_algo": "NVFP4"}, "fp4"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"type": "int", "num_bits": 4}}}},
         "int4"),
        ({"quant_method": "compressed-tensors", "config_groups": {"a": {"weights": {"type": "float", "num_bits": 8}}}},
         "fp8"),
    ],
)  # fmt: skip
def test_quantised_checkpoints_say_their_precision(quantised, precision):
    assert parse(DENSE, quantization_config=quantised).native_precision == precision


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "torch.float16"])
def test_sixteen_bit_checkpoints_count_as_bf16(dtype):
    assert parse(DENSE, torch_dtype=dtype).native_precision == "bf16"
    assert parse(without(DENSE, "torch_dtype") | {"dtype": dtype}).native_precision == "bf16"


# --- what is not understood -------------------------------------------------------------------------------------------
PLAIN = DENSE | {"model_type": "brand_new", "tie_word_embeddings": False}


def test_an_unknown_family_of_the_plain_shape_is_read_with_a_note():
    model = parse(PLAIN)
    assert model.params_total == parse(DENSE).params_total
    assert "brand_new is not known: read as plain" in model.note


@pytest.mark.parametrize(
    ("config", "changes", "field"),
    [
        pytest.param(PLAIN, {"num_experts": 8}, "num_experts", id="experts"),
        pytest.param(PLAIN, {"sliding_window": 512}, "sliding_window", id="window"),
        pytest.param(PLAIN, {"layers_block_type": ["mamba", "attention"]}, "layers_block_type", id="hybrid"),
        pytest.param(PLAIN, {"kv_lora_rank": 512}, "kv_lora_rank", id="latent"),
        pytest.param(PLAIN, {"conv_kernel": 4}, "conv_kernel", id="convolution"),
        pytest.param(PLAIN, {"hidden_act": "relu2"}, "hidden_act", id="activation"),
        pytest.param(DENSE, {"sliding_window": 512}, "sliding_window", id="a window where the family has none"),
        pytest.param(DENSE, {"cross_attention_layers": [3, 8]}, "cross_attention_layers", id="a known family extended"),
        pytest.param(DENSE, {"layer_types": ["conv"] * 12}, "layer_types", id="a kind of layer"),
        pytest.param(DENSE, {"layer_types": [["full_attention"]] * 12}, "layer_types", id="a list of lists"),
        pytest.param(DENSE, {"layer_types": ["full_attention"] * 11}, "layer_types", id="a list too short"),
        pytest.param(DENSE, {"layer_types": ["linear_attention"] * 12}, "layer_types", id="linear in llama"),
        pytest.param(MIXTURE, {"use_sliding_window": True, **WINDOW}, "sliding_window", id="a window nobody defined"),
        pytest.param(MIXTURE, {"moe_latent_size": 16}, "moe_latent_size", id="latent experts"),
        pytest.param(HYBRID, {"mamba_ssm_dtype": "int3"}, "mamba_ssm_dtype", id="state precision"),
        pytest.param(HYBRID, {"attn_output_gate": False}, "attn_output_gate", id="no gate"),
        pytest.param(LATENT, {"index_topk": 4, "indexer_types": ["full", "shared"]}, "indexer_types", id="indexers"),
        pytest.param(LATENT, {"mlp_layer_types": ["wide"] * 12}, "mlp_layer_types", id="a kind of MLP"),
        pytest.param(DENSE, {"quantization_config": {"quant_method": "aqlm"}}, "quantization_config", id="quantised"),
        pytest.param(
            DENSE, {"quantization_config": {"quant_method": "awq", "bits": 3}}, "quantization_config", id="bits"
        ),
        pytest.param(DENSE, {"torch_dtype": "float64"}, "torch_dtype", id="dtype"),
        pytest.param(DENSE, {"hidden_size": "64"}, "hidden_size", id="text for a count"),
        pytest.param(DENSE, {"hidden_size": True}, "hidden_size", id="a flag for a count"),
        pytest.param(DENSE, {"num_hidden_layers": 10**7}, "num_hidden_layers", id="too many layers"),
        pytest.param(DENSE, {"vocab_size": -1}, "vocab_size", id="negative"),
        pytest.param(DENSE, {"num_key_value_heads": 3}, "num_key_value_heads", id="heads do not divide"),
        pytest.param(DENSE, {"num_attention_heads": 6}, "head_dim", id="width does not divide"),
        pytest.param(DENSE, {"tie_word_embeddings": "yes"}, "tie_word_embeddings", id="text for a flag"),
        pytest.param(MIXTURE, {"num_experts_per_tok": 99}, "num_experts_per_tok", id="more active than there are"),
        pytest.param(MIXTURE, {"mlp_only_layers": list(range(12))}, "num_experts", id="experts nowhere"),
    ],
)
def test_what_is_not_understood_is_named_and_not_guessed(config, changes, field):
    with pytest.raises(ConfigFileError, match=rf"^mine\.json: model_type \w+: field {field} ") as caught:
        parse(config, **changes)
    assert caught.value.field_name == field
    assert isinstance(caught.value, AcceleratorError)


@pytest.mark.parametrize(
    ("config", "field"),
    [
        (DENSE, "hidden_size"),
        (DENSE, "num_hidden_layers"),
        (DENSE, "intermediate_size"),
        (DENSE, "vocab_size"),
        (DENSE, "max_position_embeddings"),
        (PLAIN, "tie_word_embeddings"),
        (PLAIN, "num_key_value_heads"),
        (MIXTURE, "num_experts"),
        (MIXTURE, "moe_intermediate_size"),
        (LATENT, "first_k_dense_replace"),
        (LATENT, "kv_lora_rank"),
        (LATENT, "v_head_dim"),
        (HYBRID, "shared_expert_intermediate_size"),
        (HYBRID, "linear_num_value_heads"),
    ],
)
def test_a_missing_field_is_named(config, field):
    with pytest.raises(ConfigFileError, match=rf"field {field} is missing"):
        parse(without(config, field, *(["n_routed_experts"] if field == "num_experts" else [])))


def test_mamba_2_is_refused_by_the_field_that_makes_it_one():
    with pytest.raises(ConfigFileError, match="model_type mamba2: field state_size is not understood"):
        parse({"model_type": "mamba2", "hidden_size": 4096, "num_hidden_layers": 64, "state_size": 128, "expand": 2})


def test_a_config_without_a_family_is_refused():
    with pytest.raises(ConfigFileError, match=r"mine\.json: field model_type is missing"):
        parse(without(DENSE, "model_type"))


@pytest.mark.parametrize("value", [None, [], {}, "x", -1, 0, 1.5, True, [[]], [{}], "a" * 100])
@pytest.mark.parametrize("config", [DENSE, MIXTURE, LATENT, HYBRID], ids=lambda config: config["model_type"])
def test_no_value_of_any_field_ends_in_anything_but_a_model_or_a_named_error(config, value):
    names = [*config, "layer_types", "attn_type_list", "sliding_window", "mlp_layer_types", "moe_layer_freq",
             "mlp_only_layers", "quantization_config", "architectures", "tie_word_embeddings", "hidden_act",
             "index_topk", "indexer_types", "mamba_ssm_dtype", "text_config", "_name_or_path"]  # fmt: skip
    for name in names:
        try:
            assert isinstance(parse(config, **{name: value}), ModelSpec)
        except ConfigFileError as error:
            if not str(error).startswith("mine.json: "):
                raise


# --- files ------------------------------------------------------------------------------------------------------------
def test_a_folder_holds_models_as_files_or_as_folders(tmp_path):
    (tmp_path / "Flat-Model.json").write_text(json.dumps(DENSE))
    (tmp_path / "Deep").mkdir()
    (tmp_path / "Deep" / "config.json").write_text(json.dumps(MIXTURE | {"_name_or_path": "someone/Deep-7B"}))
    (tmp_path / "Deep" / "tokenizer.json").write_text("no config")
    models = models_read(tmp_path)
    assert set(models) == {"flat-model", "deep"}
    assert (models["deep"].hf_id, models["deep"].name, models["deep"].experts) == (
        "someone/Deep-7B",
        "someone/Deep-7B",
        16,
    )
    assert (models["flat-model"].slug, models["flat-model"].hf_id) == ("flat-model", "")
    assert model_get("someone/deep-7b", models) is models["deep"]


def test_the_folder_of_one_model_gives_it_its_name(tmp_path):
    folder = tmp_path / "My-Model"
    folder.mkdir()
    (folder / "config.json").write_text(json.dumps(DENSE))
    (folder / "generation_config.json").write_text("{}")
    assert set(models_read(folder)) == {"my-model"}


def test_two_models_of_one_name_are_refused(tmp_path):
    (tmp_path / "a.json").write_text(json.dumps(DENSE))
    (tmp_path / "A").mkdir()
    (tmp_path / "A" / "config.json").write_text(json.dumps(DENSE))
    with pytest.raises(ConfigFileError, match="a second model with the name a"):
        models_read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b'{"model_type": "llama",\n "hidden_size": }', r"bad\.json: line 2, column 17: Expecting value"),
        (b"[1, 2]", "is not a JSON object"),
        (b"\xff\xfe{}", "is not UTF-8 at byte 0"),
        (b"", r"line 1, column 1"),
        (b"[" * 200_000, "is no config.json"),
        (b'{"hidden_size": ' + b"9" * 5000 + b"}", "is no config.json"),
        (b" " * (CONFIG_MAX_BYTE + 1), "is larger than 1000000 byte"),
        (b'{"model_type": "llama"}', "field num_hidden_layers is missing"),
    ],
)
def test_a_file_that_cannot_be_read_is_named_with_the_place(tmp_path, content, message):
    (tmp_path / "bad.json").write_bytes(content)
    with pytest.raises(ConfigFileError, match=message) as caught:
        models_read(tmp_path)
    assert caught.value.source == str(tmp_path / "bad.json")
    assert str(caught.value).count("bad.json") == 1


def test_a_folder_without_configs_and_no_folder_at_all_are_refused(tmp_path):
    with pytest.raises(ConfigFileError, match=r"holds no config\.json"):
        models_read(tmp_path)
    with pytest.raises(ConfigFileError, match="is not a folder"):
        models_read(tmp_path / "absent")


@pytest.mark.shared
def test_every_published_config_is_read_as_the_model_held(shared_data):
    published = json.loads((shared_data / "models.json").read_text())
    assert len(published) == 36
    for slug, entry in published.items():
        read, held = config_parse(entry["config"], slug=slug, source="models.json"), model_get(slug)
        # the file of the embedding model names the class with a head, though its checkpoint has none
        outside = NOT_IN_A_CONFIG | ({"lm_head"} if slug == "qwen3-embedding-8b" else set())
        names = [field.name for field in fields(ModelSpec) if field.name not in outside]
        assert {name: getattr(read, name) for name in names} == {name: getattr(held, name) for name in names}, slug
        assert read.params_total == held.params_total
