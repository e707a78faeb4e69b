from dataclasses import replace

import numpy as np
import pytest

from accelerator.architectures import model_get, models_load
from accelerator.errors import ConfigError
from accelerator.operators import (
    DeploymentConfig,
    attention_layers,
    config_check,
    index_byte_per_context_tok,
    operators_list,
    state_byte_per_seq,
)

BF16 = DeploymentConfig("bf16")
REPEATED = {"router", "qkv down", "index q", "index k", "norms"}
"""Operators that every chip of a tp group does in full."""


def named(model, config):
    return {op.name: op for op in operators_list(model, config)}


def matrices_flop(model, config):
    """Work per token of everything that multiplies with weights; the recurrence of linear layers has none."""
    ops = operators_list(model, config)
    return sum(op.flop_per_tok for op in ops if op.family in {"gemm", "experts"} and op.name != "linear state")


# --- work and weights of the whole model ------------------------------------------------------------------------------
@pytest.mark.parametrize("slug", models_load())
def test_a_token_multiplies_with_every_active_parameter_once(slug):
    """Biases (Qwen2.5, GLM, gpt-oss) add without multiplying, which is below 0.03 %.

    An embedding model has no output head to multiply with, though its published count includes the embedding.
    """
    model = model_get(slug)
    headless = 0 if model.lm_head else model.vocab * model.hidden
    assert matrices_flop(model, BF16) == pytest.approx(2 * (model.params_active - headless), rel=3e-4)


@pytest.mark.parametrize("slug", models_load())
def test_the_weights_of_the_operators_are_the_model_without_its_input_embedding(slug):
    """A tied embedding is the head's matrix, so it is among them; without a head only the input side is left."""
    model = model_get(slug)
    embedding = 0 if model.tied and model.lm_head else model.vocab * model.hidden
    weights_byte = sum(op.weight_byte for op in operators_list(model, BF16))
    assert weights_byte == pytest.approx(2 * (model.params_total - embedding), rel=3e-4)


@pytest.mark.parametrize("slug", models_load())
def test_operators_have_unique_names_and_no_negative_size(slug):
    ops = operators_list(model_get(slug), BF16)
    assert len({op.name for op in ops}) == len(ops)
    for op in ops:
        assert op.count > 0
        assert min(op.tok_ratio, op.weight_byte, op.flop_per_tok, op.byte_per_tok, op.most_tok) >= 0
        assert op.moved_byte(0) == 0
        assert op.flop(2) == 2 * op.flop_per_tok


def test_an_embedding_model_has_no_head_and_the_head_of_others_sees_sampled_tokens_only():
    assert "head" not in named(model_get("qwen3-embedding-8b"), BF16)
    head = named(model_get("llama-3.1-8b"), DeploymentConfig("fp8", max_seqs=64))["head"]
    assert head.flop(8192) == head.flop(64) == 64 * 2 * 128_256 * 4096
    assert not head.quantised
    assert head.weight_byte == 2 * 128_256 * 4096  # BF16 in every config


def test_four_bits_shrink_weights_and_leave_the_arithmetic():
    model, config = model_get("llama-3.1-8b"), DeploymentConfig("int4")
    small, large = named(model, config)["mlp up"], named(model, BF16)["mlp up"]
    assert small.weight_byte == large.weight_byte / 4
    assert small.flop_per_tok == large.flop_per_tok
    assert config.compute_precision == "bf16"
    assert DeploymentConfig("int8").compute_precision == "int8"


# --- tensor parallelism -----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    "slug", ["llama-3.1-8b", "qwen3-235b-a22b", "deepseek-v3", "deepseek-v3.2", "gpt-oss-120b", "minimax-m1"]
)
def test_what_tensor_parallelism_splits_adds_up_to_the_whole(slug):
    model, config = model_get(slug), DeploymentConfig("bf16", tp=4)
    whole, each = named(model, BF16), named(model, config)
    for name, op in whole.items():
        if op.family not in {"gemm", "experts"}:
            continue
        chips = 1 if name in REPEATED else 4
        assert chips * each[name].flop_per_tok == pytest.approx(op.flop_per_tok), name
        assert chips * each[name].weight_byte == pytest.approx(op.weight_byte), name


def test_tensor_parallelism_adds_two_all_reduces_per_layer():
    model = model_get("llama-3.1-8b")
    assert not any(op.family == "collectives" for op in operators_list(model, BF16))
    (reduce,) = (op for op in operators_list(model, DeploymentConfig("bf16", tp=2)) if op.family == "collectives")
    assert (reduce.kind, reduce.count, reduce.sizes[0]) == ("all_reduce", 2 * 32, 2)
    assert reduce.tok_ratio == 2 * 4096  # one row of the residual stream
    assert reduce.byte_per_tok == 2 * 32 * 2 * 0.5 * 4096 * 2  # 2 (n-1)/n of it is sent


def test_kv_heads_are_repeated_when_chips_outnumber_them():
    model = model_get("qwen3-30b-a3b")  # four KV heads
    (four,), (eight,) = (attention_layers(model, DeploymentConfig("bf16", tp=tp)) for tp in (4, 8))
    assert four.kv_heads == eight.kv_heads == 1
    assert eight.byte_per_context_tok == four.byte_per_context_tok
    assert eight.flop_per_context_tok == four.flop_per_context_tok / 2
    four, eight = (named(model, DeploymentConfig("bf16", tp=tp))["qkv"] for tp in (4, 8))
    assert four.sizes[0] == (32 / 4 + 2) * 128
    assert eight.sizes[0] == (32 / 8 + 2) * 128  # K and V of one head each, again


# --- pipeline, data and expert parallelism ----------------------------------------------------------------------------
@pytest.mark.parametrize("slug", ["llama-3.1-70b", "deepseek-v3", "qwen3-next-80b-a3b"])
def test_pipeline_stages_share_the_work_of_a_step_and_hand_over(slug):
    model = model_get(slug)
    whole, each = named(model, BF16), named(model, DeploymentConfig("bf16", pp=4))
    for name, op in whole.items():
        assert 4 * each[name].flop_per_tok == pytest.approx(op.flop_per_tok), name
        assert each[name].weight_byte == op.weight_byte, name  # of all stages, one after the other
    (layers,), (split,) = (attention_layers(model, config) for config in (BF16, DeploymentConfig("bf16", pp=4)))
    assert 4 * split.flop_per_tok2 == layers.flop_per_tok2
    assert 4 * split.byte_per_context_tok == layers.byte_per_context_tok
    hand_over = each["hand-over"]
    assert (hand_over.kind, hand_over.count) == ("send_recv", 4)
    assert hand_over.tok_ratio == 2 * model.hidden / 4


def test_data_parallel_attention_repeats_its_weights_and_divides_its_tokens():
    model = model_get("deepseek-v3")
    spread = DeploymentConfig("int8", dp=16, ep=16)
    whole, each = named(model, DeploymentConfig("int8")), named(model, spread)
    for name in ("attention out", "qkv down", "q up", "kv up", "router", "shared up"):
        assert each[name].weight_byte == whole[name].weight_byte, name
        assert each[name].flop_per_tok == pytest.approx(whole[name].flop_per_tok / 16), name
    assert each["experts"].weight_byte == pytest.approx(whole["experts"].weight_byte / 16)
    assert each["experts"].flop_per_tok == pytest.approx(whole["experts"].flop_per_tok / 16)
    assert each["experts"].tok_ratio == 1  # a chip's experts see the tokens of all groups
    assert each["experts"].miss_ratio == whole["experts"].miss_ratio == 1 - 8 / 256
    assert attention_layers(model, spread)[0].seq_ratio == 1 / 16


def test_tokens_travel_to_their_experts_and_back():
    model = model_get("deepseek-v3")
    each = named(model, DeploymentConfig("fp8", dp=16, ep=16))
    dispatch, combine = each["dispatch"], each["combine"]
    assert dispatch.kind == combine.kind == "alltoall"
    assert dispatch.count == combine.count == 58  # sparse layers
    assert dispatch.sizes[0] == combine.sizes[0] == 16
    assert dispatch.tok_ratio == 8 * 7168 / 16  # eight copies at one byte, a sixteenth of the tokens
    assert combine.tok_ratio == 2 * dispatch.tok_ratio  # back in BF16
    assert dispatch.byte_per_tok == pytest.approx(58 * 15 / 16 * dispatch.tok_ratio)
    assert "all-reduce" not in each


def test_experts_spread_without_data_parallelism_need_no_travel():
    """Every chip sees all tokens and adds its experts' part by the all-reduce that is there anyway."""
    each = named(model_get("qwen3-235b-a22b"), DeploymentConfig("bf16", tp=8, ep=8))
    assert {op.kind for op in each.values() if op.family == "collectives"} == {"all_reduce"}
    sliced = named(model_get("qwen3-235b-a22b"), DeploymentConfig("bf16", tp=8))
    assert each["experts"].weight_byte == sliced["experts"].weight_byte
    assert (each["experts"].sizes[4], sliced["experts"].sizes[4]) == (1, 8)  # slices of an expert


# --- experts ----------------------------------------------------------------------------------------------------------
def test_only_the_experts_that_a_token_chose_are_read_whatever_their_names():
    """Drawn by lot: distinct experts that n tokens choose, before and after the experts swap names."""
    model, rng = model_get("qwen3-30b-a3b"), np.random.default_rng(7)
    experts = named(model, BF16)["experts"]
    byte_per_expert = 2 * model.expert_params * model.moe_layers
    names = rng.permutation(model.experts)
    for tok in (1, 4, 16, 64):
        drawn = [
            np.concatenate([rng.choice(model.experts, model.experts_active, replace=False) for _ in range(tok)])
            for _ in range(300)
        ]
        hit = [len(np.unique(chosen)) for chosen in drawn]
        assert hit == [len(np.unique(names[chosen])) for chosen in drawn]
        weights_byte = experts.moved_byte(tok) - experts.byte_per_tok * tok
        assert weights_byte / byte_per_expert == pytest.approx(np.mean(hit), rel=0.02)


@pytest.mark.parametrize("slug", ["qwen3-30b-a3b", "deepseek-v3", "gpt-oss-120b"])
def test_what_a_model_is_called_changes_nothing(slug):
    model = model_get(slug)
    other = replace(model, slug="other", name="Other", hf_id="x/other", note="renamed")
    assert operators_list(other, BF16) == operators_list(model, BF16)
    assert attention_layers(other, BF16) == attention_layers(model, BF16)


# --- attention --------------------------------------------------------------------------------------------------------
def test_latent_attention_decodes_against_the_latent():
    (layers,) = attention_layers(model_get("deepseek-v3"), BF16)
    assert layers.latent
    assert layers.byte_per_context_tok == 70_272
    assert layers.flop_per_context_tok == 61 * 128 * 2 * (2 * 512 + 64)
    assert layers.flop_per_tok2 == 61 * 128 * 2 * (128 + 64 + 128)
    assert (layers.latent_width, layers.value_rank, layers.head_dim, layers.v_dim) == (576, 512, 192, 128)
    (eighth,) = attention_layers(model_get("deepseek-v3"), DeploymentConfig("bf16", tp=8))
    assert eighth.byte_per_context_tok == 70_272  # the latent is repeated on every chip of a group


def test_grouped_query_attention_costs_four_heads_widths_per_pair():
    (layers,) = attention_layers(model_get("llama-3.1-8b"), BF16)
    assert layers.flop_per_context_tok == layers.flop_per_tok2 == 4 * 32 * 128 * 32
    assert layers.byte_per_context_tok == 131_072
    (half,) = attention_layers(model_get("llama-3.1-8b"), DeploymentConfig("bf16", kv_precision="fp8"))
    assert half.byte_per_context_tok == 131_072 / 2


def test_windowed_layers_stand_apart_from_those_that_see_everything():
    full, window = attention_layers(model_get("gpt-oss-120b"), BF16)
    assert (full.name, full.layers, full.window_tok) == ("attention", 18, 0)
    assert (window.name, window.layers, window.window_tok) == ("window attention", 18, 128)
    assert full.byte_per_context_tok == window.byte_per_context_tok == 73_728 / 2
    (only,) = attention_layers(model_get("mistral-7b"), BF16)
    assert (only.name, only.layers, only.window_tok) == ("window attention", 32, 4096)


def test_sparse_attention_picks_its_tokens_by_an_indexer():
    model = model_get("deepseek-v3.2")
    (layers,) = attention_layers(model, BF16)
    assert (layers.name, layers.window_tok) == ("sparse attention", 2048)
    ops = named(model, BF16)
    index_flop = ops["index q"].flop_per_tok + ops["index k"].flop_per_tok
    assert index_flop == 2 * 61 * (1536 * 64 * 128 + 7168 * (128 + 64))
    assert index_byte_per_context_tok(model, BF16) == 61 * (128 + 4)
    assert index_byte_per_context_tok(model, DeploymentConfig("bf16", dp=4)) == 61 * (128 + 4) / 4
    assert index_byte_per_context_tok(model_get("deepseek-v3"), BF16) == 0


def test_linear_layers_have_projections_and_a_state_and_no_cache():
    model = model_get("qwen3-next-80b-a3b")
    ops = named(model, BF16)
    (layers,) = attention_layers(model, BF16)
    assert (layers.layers, ops["linear in"].count, ops["linear out"].count) == (12, 36, 36)
    assert ops["linear in"].weight_byte == pytest.approx(2 * 36 * model.linear_in_params)
    state = ops["linear state"]
    assert state.weight_byte == 0
    assert state.flop_per_tok == 36 * 3 * 2 * model.linear_value_width * model.linear_key_dim
    assert state_byte_per_seq(model, BF16) == 2 * model.linear_state_byte  # read and written
    assert state_byte_per_seq(model, DeploymentConfig("bf16", tp=2)) == model.linear_state_byte
    assert state_byte_per_seq(model_get("qwen3-32b"), BF16) == 0


def test_an_output_gate_doubles_the_query_projection():
    model = model_get("qwen3-next-80b-a3b")  # 16 heads and 2 KV heads of 256
    assert model.out_gate
    assert named(model, BF16)["qkv"].sizes == ((2 * 16 + 2 * 2) * 256, 2048)
    assert named(replace(model, out_gate=False), BF16)["qkv"].sizes == ((16 + 2 * 2) * 256, 2048)


# --- what is refused --------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"weight_precision": "fp6"}, 'unknown precision "fp6"'),
        ({"weight_precision": "bf16", "kv_precision": "fp6"}, 'unknown precision "fp6"'),
        ({"weight_precision": "bf16", "tp": 0}, "at least 1"),
        ({"weight_precision": "bf16", "pp": -1}, "at least 1"),
        ({"weight_precision": "bf16", "max_seqs": 0}, "at least 1"),
        ({"weight_precision": "bf16", "max_batched_tok": 0}, "at least 1"),
        ({"weight_precision": "bf16", "tp": 4, "ep": 2}, "expert parallelism is 1 or all 4 chips"),
        ({"weight_precision": "bf16", "expert_skew": 0.5}, "expert_skew is 0"),
        ({"weight_precision": "bf16", "expert_skew": 2.0}, "expert_skew is 0"),
    ],
)
def test_impossible_configs_are_refused(options, message):
    with pytest.raises(ConfigError, match=message):
        DeploymentConfig(**options)


@pytest.mark.parametrize(
    ("slug", "options", "message"),
    [
        ("qwen2.5-7b", {"tp": 8}, "28 heads do not divide over tp 8"),
        ("phi-4", {"tp": 4}, "10 KV heads do not divide over tp 4"),
        ("qwen3-8b", {"ep": 8, "dp": 8}, "0 experts do not divide"),
        ("qwen3-coder-480b-a35b", {"dp": 64, "ep": 64}, "160 experts do not divide over ep 64"),
        ("llama-2-7b", {"pp": 33}, "32 layers do not divide over pp 33"),
    ],
)
def test_models_that_do_not_divide_are_refused(slug, options, message):
    with pytest.raises(ConfigError, match=message):
        config_check(model_get(slug), DeploymentConfig("bf16", **options))


def test_linear_layers_divide_over_tensor_parallelism_or_are_refused():
    model = replace(model_get("qwen3-next-80b-a3b"), linear_key_heads=6)
    with pytest.raises(ConfigError, match="6 and 32 heads of its linear layers do not divide over tp 4"):
        config_check(model, DeploymentConfig("bf16", tp=4))


def test_a_label_says_how_a_replica_is_spread():
    assert DeploymentConfig("int8").label == "int8 tp1"
    assert DeploymentConfig("fp8", dp=16, ep=16).label == "fp8 dp16 ep16"
    assert DeploymentConfig("bf16", tp=4, pp=2).label == "bf16 tp4 pp2"
