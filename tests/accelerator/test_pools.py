import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.errors import ConfigError, ModelDoesNotFitError, PrecisionError
from accelerator.memory import memory_fit
from accelerator.operators import DeploymentConfig
from accelerator.pools import (
    LOAD_BYTE_S,
    ONE_BLOCK_TOK,
    TRANSFER_S,
    cold_start_s,
    full_batch_tok_s,
    kv_blocks,
    pool_build,
)
from accelerator.simulation import UNLIMITED, Role

H100 = "h100-sxm"
DENSE = ("llama-3.1-8b", DeploymentConfig("bf16", max_batched_tok=2048, max_seqs=64))
WINDOWED = ("gpt-oss-120b", DeploymentConfig("bf16", tp=4))
LATENT = ("deepseek-r1", DeploymentConfig("fp8", dp=16, ep=16))
LINEAR = ("qwen3-next-80b-a3b", DeploymentConfig("fp8", tp=2))
ALL_WINDOWED = ("mistral-7b", DeploymentConfig("bf16"))

DENSE_BYTE = 32 * 2 * 8 * 128 * 2  # layers, K and V, heads, width, BF16
WINDOWED_BYTE = 18 * 2 * 8 * 64 * 2  # of the layers that see all, and of as many that see 128 tokens
LATENT_BYTE = 61 * (512 + 64) * 2
LINEAR_BYTE = 12 * 2 * 2 * 256 * 2
STATE_BYTE = 36 * (32 * 128 * 128 * 2 + 3 * (2 * 16 * 128 + 32 * 128) * 2)  # matrices and inputs of the convolution


def fit_of(case):
    model, config = case
    return memory_fit(chip_get(H100), model_get(model), config)


def blocks_of(case, block_tok=16):
    return kv_blocks(fit_of(case), block_tok)


def build(case, **more):
    model, config = case
    return pool_build("chat", chip_get(more.pop("chip", H100)), model_get(model), config, **more)


# --- KV memory in blocks, by hand -------------------------------------------------------------------------------------
def test_blocks_of_a_dense_model_hold_its_keys_and_values():
    blocks = blocks_of(DENSE)
    assert blocks.kv_blocks == int(fit_of(DENSE).kv_byte / (16 * DENSE_BYTE))
    assert (blocks.block_tok, blocks.state_blocks, blocks.window_blocks_per_tok, blocks.window_kv_tok) == (16, 0, 0, 0)
    assert blocks.kv_blocks * 16 == pytest.approx(fit_of(DENSE).kv_room_tok, abs=16)


def test_longer_blocks_are_fewer():
    assert blocks_of(DENSE, 64).kv_blocks == blocks_of(DENSE, 16).kv_blocks // 4
    assert blocks_of(DENSE, 64).block_tok == 64


def test_windows_are_charged_at_admission_and_blocks_are_of_the_layers_that_see_all():
    blocks = blocks_of(WINDOWED)
    assert blocks.kv_blocks == int(fit_of(WINDOWED).kv_byte / (16 * WINDOWED_BYTE))
    assert blocks.window_blocks_per_tok == 1 / 16  # half of the layers each: a token of a window is a 16th of a block
    assert blocks.window_kv_tok == 128
    assert blocks.state_blocks == 0


def test_a_latent_is_one_per_token_and_repeated_under_tensor_parallelism():
    assert blocks_of(LATENT).kv_blocks == int(fit_of(LATENT).kv_byte / (16 * LATENT_BYTE))
    sliced = ("deepseek-r1", DeploymentConfig("fp8", tp=16))
    assert blocks_of(sliced).kv_blocks == int(fit_of(sliced).kv_byte / (16 * 16 * LATENT_BYTE))


def test_the_state_of_linear_layers_is_charged_in_blocks_whatever_the_context():
    blocks = blocks_of(LINEAR)
    assert blocks.kv_blocks == int(fit_of(LINEAR).kv_byte / (16 * LINEAR_BYTE))
    assert blocks.state_blocks == STATE_BYTE / (16 * LINEAR_BYTE) == 100.5


def test_where_no_cache_grows_for_ever_a_request_is_one_block():
    blocks = blocks_of(ALL_WINDOWED)
    each_byte = 4096 * 32 * 2 * 8 * 128 * 2
    assert blocks.kv_blocks == int(fit_of(ALL_WINDOWED).kv_byte / each_byte)
    assert (blocks.block_tok, blocks.state_blocks, blocks.window_blocks_per_tok) == (ONE_BLOCK_TOK, 0, 0)


# --- pools ------------------------------------------------------------------------------------------------------------
def test_a_pool_has_the_limits_of_its_config_model_and_memory():
    pool = build(DENSE)
    assert (pool.name, pool.max_batched_tok, pool.max_seqs, pool.block_tok) == ("chat", 2048, 64, 16)
    assert pool.kv_blocks == blocks_of(DENSE).kv_blocks
    assert pool.context_most_tok == 131_072
    assert (pool.watermark_blocks, pool.prefix_blocks, pool.transfer_s, pool.transfer_s_per_tok) == (0, 0, 0, 0)


def test_what_is_given_goes_before_what_is_worked_out():
    pool = build(DENSE, kv_blocks=100, context_most_tok=500, weight=2.0, draft_tok=3, acceptance_ratio=0.5, replicas=4)
    assert (pool.kv_blocks, pool.context_most_tok, pool.weight, pool.replicas) == (100, 500, 2.0, 4)
    assert (pool.draft_tok, pool.acceptance_ratio) == (3, 0.5)


def test_shares_of_the_kv_memory_are_set_apart():
    pool = build(DENSE, kv_blocks=1000, prefix_ratio=0.25, watermark_ratio=0.1)
    assert pool.kv_blocks == 750
    assert pool.prefix_blocks == 250 * 16 // 512
    assert pool.watermark_blocks == 75
    assert build(DENSE, kv_blocks=1000, prefix_ratio=0.25, prefix_block_tok=16).prefix_blocks == 250


@pytest.mark.parametrize("shares", [{"prefix_ratio": 1.0}, {"watermark_ratio": 1.0}, {"prefix_ratio": -0.1}])
def test_a_share_of_all_the_memory_is_refused(shares):
    with pytest.raises(ConfigError, match="pool chat: shares of the KV memory lie between 0 and 1"):
        build(DENSE, **shares)


def test_a_prefix_cache_beside_the_memory_may_be_without_limit():
    assert build(DENSE, prefix_blocks=UNLIMITED).prefix_blocks == UNLIMITED


def test_a_slow_step_table_is_slower_and_changes_no_memory():
    fast, usual, slow = (build(DENSE, quantile=quantile) for quantile in (0.1, 0.5, 0.9))
    steps_s = [pool.table.step_s(32, 32, 32_000) for pool in (fast, usual, slow)]
    assert steps_s == sorted(steps_s)
    assert fast.kv_blocks == usual.kv_blocks == slow.kv_blocks


def test_the_weight_of_a_pool_is_the_speed_of_a_full_batch():
    pool = build(DENSE)
    step_s = pool.table.step_s(64, 64, 64 * 1024)
    assert pool.weight == full_batch_tok_s(pool.table) == pytest.approx(64 / step_s)


# --- handing KV over, loading weights ---------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("case", "each_byte", "chips"),
    [(DENSE, DENSE_BYTE, 1), (WINDOWED, 2 * WINDOWED_BYTE, 4), (LATENT, LATENT_BYTE, 16)],
    ids=["dense", "windowed", "latent"],
)
def test_a_token_is_handed_over_by_the_links_of_all_chips(case, each_byte, chips):
    pool = build(case, role=Role.PREFILL)
    assert pool.transfer_s == TRANSFER_S
    assert pool.transfer_s_per_tok == pytest.approx(each_byte / (chips * 50e9))


def test_a_link_that_is_given_is_the_one_of_the_whole_replica():
    pool = build(WINDOWED, role=Role.PREFILL, link_byte_s=1e9, transfer_s=0.5)
    assert pool.transfer_s == 0.5
    assert pool.transfer_s_per_tok == pytest.approx(2 * WINDOWED_BYTE / 1e9)


@pytest.mark.parametrize("role", [Role.BOTH, Role.DECODE])
def test_only_a_pool_for_prompts_hands_over(role):
    assert build(DENSE, role=role).transfer_s_per_tok == 0


def test_a_cold_start_loads_all_weights():
    chip, (model, config) = chip_get(H100), DENSE
    parameters = 8_030_261_248
    assert cold_start_s(chip, model_get(model), config) == pytest.approx(2 * parameters / LOAD_BYTE_S, rel=0.01)
    slow_s = cold_start_s(chip, model_get(model), config, load_byte_s=1e9)
    assert slow_s == pytest.approx(5 * cold_start_s(chip, model_get(model), config))


# --- what is refused --------------------------------------------------------------------------------------------------
def test_what_no_chip_can_do_is_refused_before_a_simulation():
    with pytest.raises(PrecisionError, match="a100-80 does not compute in fp8"):
        build(("llama-3.1-8b", DeploymentConfig("fp8")), chip="a100-80")
    with pytest.raises(ModelDoesNotFitError, match=r"llama-3.1-70b in bf16 tp1 does not fit 1 x h100-sxm"):
        build(("llama-3.1-70b", DeploymentConfig("bf16")))
    with pytest.raises(ConfigError, match="pool chat: 3 KV blocks do not hold one token"):
        build(LINEAR, kv_blocks=3)
