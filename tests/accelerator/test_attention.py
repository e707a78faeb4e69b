import pytest
from numpy.testing import assert_allclose

from accelerator.attention import (
    ATTENTION_DECODE,
    ATTENTION_PREFILL,
    decode_parse,
    decode_plain,
    kind_of,
    prefill_parse,
)
from accelerator.chips import chip_get
from accelerator.errors import PrecisionError
from accelerator.family import KernelRowError
from tests.accelerator.test_roofline import parts_s

NEVER = 1e300  # a rate or a length that is never reached

CHIP = {"peak_flop_s": 1e15, "memory_byte_s": 1e12, "cores": 100, "cache_byte": 1}
PREFILL = CHIP | {
    "tok": 128, "batch": 2, "past_tok": 0, "heads": 8, "kv_heads": 2, "head_dim": 128, "window_tok": 0, "kv_byte": 2,
}  # fmt: skip
PREFILL_IDEAL = {
    "launch_s": 0, "compute_ratio": 1, "exp_rate": NEVER, "memory_ratio": 1, "cache_gain": 0, "cache_share": 1,
    "kv_pass": 0, "tile_s": 0, "tail": 0, "tile_rows": 64, "pack": 0, "leak": 0,
}  # fmt: skip
DECODE = CHIP | {
    "batch": 10, "kv_tok": 1000, "heads": 8, "kv_heads": 2, "head_dim": 128, "window_tok": 0, "kv_byte": 2, "plain": 0,
}  # fmt: skip
DECODE_IDEAL = {
    "launch_s": 0, "memory_ratio": 1, "cache_gain": 0, "cache_share": 1, "token_s": 0, "split_tok": NEVER,
    "compute_ratio": 1, "pad_rows": 0, "task_s": 0, "head_byte": 0, "leak": 0,
}  # fmt: skip


def prefill_s(kernel, shape=None, **parameters):
    return parts_s(kernel, ATTENTION_PREFILL, PREFILL | (shape or {}), PREFILL_IDEAL | parameters)


def pairs(kernel, shape=None, **parameters):
    """Return the pairs of tokens per head and sequence that were computed, at 4 head_dim flop each."""
    return prefill_s(kernel, shape, **parameters)[1] * 1e15 / (2 * 8 * 4 * 128)


# --- prefill ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        pytest.param({}, 128 * (128 + 64) / 2, id="tokens see those before them, to the edge of a tile"),
        pytest.param({"past_tok": 1000}, 128 * (1000 + 96), id="and all of the cached prefix"),
        pytest.param({"tok": 32}, 64 * (64 + 64) / 2, id="a tile is never less than full"),
        pytest.param({"tok": 1000, "window_tok": 100}, 1000 * (100 + 32), id="a window cuts"),
        pytest.param({"tok": 100, "window_tok": 100}, 100 * (100 + 64) / 2, id="a window that is not reached does not"),
        pytest.param({"tok": 200, "past_tok": 5000, "window_tok": 100}, 200 * 132, id="nor what lies before it"),
    ],
)
def test_pairs_of_tokens_by_mental_arithmetic(kernel, shape, expected):
    assert_allclose(pairs(kernel, shape), expected)


def test_a_window_leaks_a_share_of_what_lies_outside(kernel):
    full, inside = 1000 * 532, 1000 * 132
    assert_allclose(
        pairs(kernel, {"tok": 1000, "window_tok": 100}, leak=0.1), inside + 0.1 * (full - inside)
    )  # fmt: skip


@pytest.mark.parametrize(("pack", "rows"), [(0, 64), (0.5, 32), (1, 16), (2, 16)])
def test_a_single_token_packs_the_heads_of_its_group_into_one_tile(kernel, pack, rows):
    assert_allclose(pairs(kernel, {"tok": 1, "past_tok": 5000}, pack=pack), rows * (5000 + (rows + 64) / 2))
    assert_allclose(pairs(kernel, {"tok": 2, "past_tok": 5000}, pack=pack), 64 * 5064)


def test_a_pair_costs_its_flop_and_one_exponential(kernel):
    count = 2 * 8 * 128 * 96
    flop_s = count * 4 * 128 / 1e15
    assert_allclose(prefill_s(kernel, compute_ratio=0.5)[1], 2 * flop_s)
    assert_allclose(prefill_s(kernel, exp_rate=1e9)[1], flop_s + count / (100 * 1e9))


def test_a_tile_has_a_fixed_time_and_the_last_one_is_waited_for(kernel):
    free = {"peak_flop_s": NEVER, "memory_byte_s": NEVER}
    tiles = 2 * 8 * 128 / 64
    assert_allclose(prefill_s(kernel, free, tile_s=1e-3)[0], tiles * 1e-3 / 100)
    assert_allclose(prefill_s(kernel, free, tile_s=1e-3, tail=0.5)[0], tiles * 1e-3 / 100 + 0.5e-3)
    busy_s = prefill_s(kernel, {"past_tok": 872})
    waiting_s = prefill_s(kernel, {"past_tok": 872}, tail=1)
    assert_allclose(waiting_s[0] - busy_s[0], 64 * 1000 * 4 * 128 * 100 / 1e15)  # one tile, one core, all 1000 tokens


def test_bytes_of_a_prefill(kernel):
    elements = 2 * 128 * 128
    assert_allclose(prefill_s(kernel)[2], elements * 4 * 8 / 1e12)  # Q and O in BF16
    assert_allclose(prefill_s(kernel, kv_pass=1)[2], elements * (4 * 8 + 2 * 2 * (2 + 2)) / 1e12)
    assert_allclose(prefill_s(kernel, {"kv_byte": 1}, kv_pass=3)[2], elements * (4 * 8 + 3 * 2 * 2 * (2 + 1)) / 1e12)


def test_computing_reading_and_launching_follow_each_other(kernel):
    whole_s, compute_s, memory_s = prefill_s(kernel, launch_s=1e-5)
    assert_allclose(whole_s, 1e-5 + compute_s + memory_s)


def test_a_working_set_as_large_as_its_share_of_the_cache_gains_half(kernel):
    byte = 2 * 128 * 128 * 32
    for cache_byte, gain in ((1, 1), (2 * byte, 1 + 6 / 2), (1e20, 1 + 6)):
        memory_s = prefill_s(kernel, {"cache_byte": cache_byte}, cache_gain=6, cache_share=0.5)[2]
        assert_allclose(memory_s, byte / (1e12 * gain))


# --- decode -----------------------------------------------------------------------------------------------------------
def decode_s(kernel, shape=None, **parameters):
    return parts_s(kernel, ATTENTION_DECODE, DECODE | (shape or {}), DECODE_IDEAL | parameters)


@pytest.mark.parametrize(
    ("shape", "tok"),
    [
        pytest.param({}, 1000, id="all tokens"),
        pytest.param({"window_tok": 400}, 400, id="a window caps"),
        pytest.param({"window_tok": 4000}, 1000, id="a window larger than the cache does not"),
        pytest.param({"kv_byte": 1}, 500, id="half the bytes"),
        pytest.param({"heads": 64}, 1000, id="query heads of a group read once"),
    ],
)
def test_decode_reads_keys_and_values_of_what_it_sees(kernel, shape, tok):
    assert_allclose(decode_s(kernel, shape)[2], 10 * 2 * tok * 128 * 2 * 2 / 1e12)


def test_a_decode_window_leaks_a_share_of_what_lies_outside(kernel):
    assert_allclose(decode_s(kernel, {"window_tok": 400}, leak=0.5)[2], 10 * 2 * 700 * 128 * 4 / 1e12)


def test_queries_and_outputs_move_too(kernel):
    extra_s = decode_s(kernel, head_byte=3)[2] - decode_s(kernel)[2]
    assert_allclose(extra_s, 3 * 10 * 8 * 128 * 2 / 1e12)


def test_a_decoded_token_costs_four_flop_per_element_and_head_on_busy_cores(kernel):
    flop_s = 4 * 10 * 8 * 1000 * 128 / 1e15
    assert_allclose(decode_s(kernel, {"cores": 20})[1], 2 * flop_s)  # 20 tasks want 20 cores: half of them is busy
    assert_allclose(decode_s(kernel, {"cores": 1e-9})[1], flop_s)
    assert_allclose(decode_s(kernel, {"cores": 80}, split_tok=1000 / 3)[1], 2 * flop_s)  # each task is split in four


def test_a_group_shares_its_padding_and_plain_heads_each_have_their_own(kernel):
    one_core = {"cores": 1e-9}
    row_s = 4 * 10 * 1000 * 128 / 1e15
    assert_allclose(decode_s(kernel, one_core, pad_rows=12)[1], 2 * (4 + 12) * row_s)
    assert_allclose(decode_s(kernel, one_core | {"plain": 1}, pad_rows=12)[1], 8 * (1 + 12) * row_s)


def test_a_core_walks_along_its_split_and_starts_its_tasks_in_turn(kernel):
    free = {"peak_flop_s": NEVER, "memory_byte_s": NEVER}
    assert_allclose(decode_s(kernel, free, token_s=1e-6)[0], 1000e-6)
    assert_allclose(decode_s(kernel, free, token_s=1e-6, split_tok=1000)[0], 500e-6)
    assert_allclose(decode_s(kernel, free, task_s=1e-3)[0], 1e-3 * (1 + 20 / 100))
    assert_allclose(decode_s(kernel, free | {"plain": 1}, task_s=1e-3)[0], 1e-3 * (1 + 80 / 100))
    assert_allclose(decode_s(kernel, free, launch_s=1e-5)[0], 1e-5)


@pytest.mark.parametrize(
    ("chip", "engine", "kind", "group", "window_tok", "plain"),
    [
        ("h100-sxm", "trtllm", "bf16", 33, 0, True),
        ("h100-sxm", "trtllm", "bf16", 32, 0, False),
        ("h100-sxm", "trtllm", "bf16", 1, 0, True),
        ("b200", "trtllm", "bf16", 1, 0, False),
        ("a100-80", "vllm", "bf16", 8, 128, True),
        ("a100-80", "vllm", "bf16", 8, 0, False),
        ("a100-80", "vllm", "bf16-kv8", 8, 128, False),
        ("h100-sxm", "vllm", "bf16", 8, 128, False),
        ("a100-80", "sglang", "bf16", 1, 128, False),
    ],
)
def test_which_kernels_share_nothing_in_a_group(chip, engine, kind, group, window_tok, plain):
    assert decode_plain(chip_get(chip), engine, kind, group=group, window_tok=window_tok) is plain


# --- rows -------------------------------------------------------------------------------------------------------------
ROW = {
    "chip": "A100-SXM-80G", "engine": "VLLM", "attn_dtype": "bfloat16", "kv_cache_dtype": "fp8", "batch_size": "3",
    "num_heads": "12", "num_key_value_heads": "4", "head_dim": "96", "window_size": "77",
}  # fmt: skip


def test_a_prefill_row_becomes_shape_members_and_group():
    row = prefill_parse(ROW | {"new_tokens": "11", "past_tokens": "0"})
    assert dict(zip(ATTENTION_PREFILL.shape, row.shape, strict=True)) == {
        "tok": 11, "batch": 3, "past_tok": 0, "heads": 12, "kv_heads": 4, "head_dim": 96, "window_tok": 77,
        "kv_byte": 1, "peak_flop_s": 312e12, "memory_byte_s": 2.039e12, "cores": 108, "cache_byte": 40 * 2**20,
    }  # fmt: skip
    assert row.members == ("ampere|vllm", "vllm|bf16-kv8", "ampere|vllm|bf16-kv8|d96", "a100-80|vllm|bf16-kv8")
    assert row.group == "12,4,96,77"


def test_a_decode_row_becomes_shape_members_and_group():
    row = decode_parse(ROW | {"kv_len": "500", "kv_cache_dtype": "bf16"})
    assert dict(zip(ATTENTION_DECODE.shape, row.shape, strict=True)) == {
        "batch": 3, "kv_tok": 500, "heads": 12, "kv_heads": 4, "head_dim": 96, "window_tok": 77, "kv_byte": 2,
        "plain": 1, "peak_flop_s": 312e12, "memory_byte_s": 2.039e12, "cores": 108, "cache_byte": 40 * 2**20,
    }  # fmt: skip
    assert row.members == (
        "ampere|vllm|plain", "vllm|bf16|plain", "ampere|vllm|bf16|plain|d96", "a100-80|vllm|bf16|plain",
    )  # fmt: skip
    assert row.group == "12,4,96,77"


def test_no_kv_heads_means_as_many_as_heads():
    row = decode_parse(ROW | {"kv_len": "500", "num_key_value_heads": "0"})
    assert row.shape[ATTENTION_DECODE.shape.index("kv_heads")] == 12


def test_fp8_attention_needs_a_chip_that_computes_in_it():
    row = ROW | {"new_tokens": "11", "past_tokens": "0", "attn_dtype": "fp8"}
    with pytest.raises(PrecisionError, match="a100-80 does not compute in fp8"):
        prefill_parse(row)
    made = prefill_parse(row | {"chip": "h100-sxm"})
    assert made.members[-1] == "h100-sxm|vllm|fp8"
    assert made.shape[ATTENTION_PREFILL.shape.index("peak_flop_s")] == 1979e12


@pytest.mark.parametrize("column", ["attn_dtype", "kv_cache_dtype"])
def test_a_dtype_that_is_not_known_is_named_with_its_column(column):
    for parse, more in ((prefill_parse, {"new_tokens": "1", "past_tokens": "1"}), (decode_parse, {"kv_len": "1"})):
        with pytest.raises(KernelRowError, match=f'{column} "fp3" is not known; known are bfloat16, '):
            parse(ROW | more | {column: "fp3"})


@pytest.mark.parametrize(
    ("precision", "kv_byte", "kind"),
    [("bf16", 2, "bf16"), ("bf16", 1, "bf16-kv8"), ("fp8", 1, "fp8"), ("fp8", 2, "fp8")],
)
def test_pairs_of_precisions_have_names(precision, kv_byte, kind):
    assert kind_of(precision, kv_byte) == kind
