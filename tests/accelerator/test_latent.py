import math

import pytest
from numpy.testing import assert_allclose

from accelerator.chips import chip_get
from accelerator.family import KernelRowError
from accelerator.latent import (
    LATENT_DECODE,
    LATENT_PREFILL,
    decode_kernel,
    decode_parse,
    decode_shape,
    precision_of,
    prefill_parse,
)
from tests.accelerator.test_roofline import parts_s

NEVER = 1e300

CHIP = {"peak_flop_s": 1e15, "memory_byte_s": 1e12, "cores": 100, "cache_byte": 1}
PREFILL = CHIP | {
    "tok": 128, "batch": 2, "past_tok": 0, "heads": 16, "qk_width": 192, "v_width": 128, "quantises": 0, "eager": 0,
}  # fmt: skip
PREFILL_IDEAL = {
    "launch_s": 0, "host_s": 0, "compute_ratio": 1, "memory_ratio": 1, "half_tile": 0, "tile_tok": 0, "cache_share": 1,
    "norm": 200,
}  # fmt: skip
DECODE = CHIP | {
    "batch": 3, "kv_tok": 640, "heads": 64, "latent_width": 576, "value_rank": 512, "tile_heads": 64, "copies": 1,
    "kv_byte": 2, "split": 1, "eager": 0,
}  # fmt: skip
DECODE_IDEAL = {
    "launch_s": 0, "host_s": 0, "compute_ratio": 1, "memory_ratio": 1, "reread": 0, "token_s": 0, "pair_wave": 1.5,
    "chunk_tok": NEVER, "tile_s": 0, "tile_heads": NEVER, "cache_share": 1, "norm": 200,
}  # fmt: skip


def prefill_s(kernel, shape=None, **parameters):
    return parts_s(kernel, LATENT_PREFILL, PREFILL | (shape or {}), PREFILL_IDEAL | parameters)


# --- prefill ----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "pairs"),
    [
        pytest.param({}, 128 * 128, id="the first tile"),
        pytest.param({"tok": 256}, 256 * (256 + 128) / 2, id="two tiles"),
    ],
)
def test_a_pair_costs_640_flop_per_head(kernel, shape, pairs):
    assert_allclose(prefill_s(kernel, shape)[1], 640 * 2 * 16 * pairs / 1e15)


def test_a_cached_prefix_is_looked_at_and_expanded_again(kernel):
    more_s = prefill_s(kernel, {"past_tok": 1000})[1] - prefill_s(kernel)[1]
    assert_allclose(more_s, (640 * 2 * 16 * 128 * 1000 + 2 * 512 * 256 * 2 * 16 * 1000) / 1e15)


def test_a_tile_starts_as_if_it_saw_more_tokens(kernel):
    assert_allclose(prefill_s(kernel, {"tok": 200}, tile_tok=10)[1] - prefill_s(kernel, {"tok": 200})[1],
                    640 * 2 * 16 * 10 * 200 / 1e15, rtol=1e-9)  # fmt: skip


def test_rows_of_the_host_expand_keys_and_values_first(kernel):
    extra_s = prefill_s(kernel, {"eager": 1})[1] - prefill_s(kernel)[1]
    assert_allclose(extra_s, 2 * 512 * (128 + 128) * 2 * 128 * 16 / 1e15)


def test_few_tiles_leave_cores_idle(kernel):
    full_s = prefill_s(kernel)[1]
    assert_allclose(prefill_s(kernel, {"cores": 32}, half_tile=1)[1], 2 * full_s)  # 32 tiles on 32 cores
    assert_allclose(prefill_s(kernel, {"cores": 1e-9}, half_tile=1)[1], full_s)


def test_bytes_of_a_latent_prefill(kernel):
    latent = 2 * 128 * 576 * 2
    assert_allclose(prefill_s(kernel)[2], (2 * 128 * 16 * 640 * 2 + latent) / 1e12)
    quantised_s = prefill_s(kernel, {"quantises": 1})[2] - prefill_s(kernel)[2]
    assert_allclose(quantised_s, 2 * 128 * 16 * (2 * 192 + 128) / 1e12)


def test_operands_that_fit_into_the_cache_are_not_read_again(kernel):
    cold_s, warm_s = prefill_s(kernel)[2], prefill_s(kernel, {"cache_byte": 1e15})[2]
    assert warm_s < 1e-6 * cold_s
    byte = cold_s * 1e12
    assert_allclose(prefill_s(kernel, {"cache_byte": byte / 0.5}, cache_share=0.5)[2], cold_s * (1 - 1 / math.e))


def test_the_host_hides_a_shorter_kernel_and_launching_is_added(kernel):
    assert_allclose(prefill_s(kernel, launch_s=1)[0], 1, rtol=1e-4)
    assert_allclose(prefill_s(kernel, host_s=1)[0], prefill_s(kernel)[0])  # in a graph
    assert_allclose(prefill_s(kernel, {"eager": 1}, host_s=1)[0], 1)


# --- decode -----------------------------------------------------------------------------------------------------------
def decode_s(kernel, shape=None, **parameters):
    return parts_s(kernel, LATENT_DECODE, DECODE | (shape or {}), DECODE_IDEAL | parameters)


QUERIES = 3 * 64 * (576 + 512) * 2


@pytest.mark.parametrize(("kv_byte", "heads"), [(2, 64), (1, 64), (2, 16)])
def test_a_token_of_the_cache_is_576_elements_for_all_heads_together(kernel, kv_byte, heads):
    memory_s = decode_s(kernel, {"kv_byte": kv_byte, "heads": heads})[2]
    assert_allclose(memory_s, (3 * 640 * 576 * kv_byte + QUERIES * heads / 64) / 1e12)


def test_each_further_tile_of_heads_reads_a_part_of_the_cache_again(kernel):
    assert_allclose(decode_s(kernel, {"copies": 3}, reread=0.25)[2], (1.5 * 3 * 640 * 576 * 2 + QUERIES) / 1e12)


@pytest.mark.parametrize("heads", [16, 64, 65, 128])
def test_a_token_costs_2176_flop_per_head(kernel, heads):
    assert_allclose(decode_s(kernel, {"heads": heads})[1], 2176 * 3 * heads * 640 / 1e15)


def test_only_kernels_that_split_wait_for_arithmetic(kernel):
    assert decode_s(kernel, {"split": 0})[1] == 0


def test_the_larger_of_computing_and_reading_overlaps_with_the_walk(kernel):
    time_s, compute_s, memory_s = decode_s(kernel, norm=1)
    assert_allclose(time_s, max(compute_s, memory_s))
    assert_allclose(decode_s(kernel, token_s=1e-6, norm=1)[0], time_s + 640e-6)
    assert_allclose(
        decode_s(kernel, {"memory_byte_s": 1e300, "peak_flop_s": compute_s * 1e15 / 640e-6}, token_s=1e-6, norm=2)[0],
        2**0.5 * 640e-6,
    )


def test_the_cache_is_walked_in_steps_of_64_tokens(kernel):
    assert_allclose(decode_s(kernel, {"kv_tok": 577})[1], decode_s(kernel)[1])
    assert_allclose(decode_s(kernel, {"kv_tok": 576})[1], 0.9 * decode_s(kernel)[1])


@pytest.mark.parametrize(
    ("batch", "in_turn"),
    [
        pytest.param(3, 1, id="a tile to a core"),
        pytest.param(50, 1, id="half of the cores"),
        pytest.param(51, 1.5, id="some in pairs"),
        pytest.param(100, 1.5, id="pairs"),
        pytest.param(150, 2.5, id="a pair and one"),
        pytest.param(200, 3, id="two pairs"),
    ],
)
def test_kernels_that_do_not_split_walk_the_whole_sequence_in_turn(kernel, batch, in_turn):
    free = {"memory_byte_s": NEVER, "split": 0, "batch": batch}
    assert_allclose(decode_s(kernel, free, token_s=1e-6)[0], 640e-6 * in_turn)


def test_kernels_that_split_walk_a_part(kernel):
    free = {"memory_byte_s": NEVER, "peak_flop_s": NEVER}
    assert_allclose(decode_s(kernel, free, token_s=1e-6, chunk_tok=640)[0], 320e-6)


def test_tiles_and_heads_take_core_time_to_start_and_end(kernel):
    free = {"memory_byte_s": NEVER, "peak_flop_s": NEVER}
    assert_allclose(decode_s(kernel, free, tile_s=1e-3)[0], 3e-3 / 100)
    assert_allclose(decode_s(kernel, free, tile_s=1e-3, tile_heads=32)[0], (3 + 3 * 64 / 32) * 1e-3 / 100)
    assert_allclose(decode_s(kernel, free, launch_s=1e-5)[0], 1e-5)
    assert_allclose(decode_s(kernel, free | {"eager": 1}, launch_s=1e-6, host_s=1e-3)[0], 1e-3)


def test_a_small_cache_stays_on_the_chip_between_runs(kernel):
    cold_s = decode_s(kernel)[2]
    assert_allclose(decode_s(kernel, {"cache_byte": cold_s * 1e12})[2], cold_s * (1 - 1 / math.e))


# --- rows and kernels -------------------------------------------------------------------------------------------------
ROW = {
    "chip": "B200", "engine": "TRTLLM", "mla_dtype": "bfloat16", "kv_cache_dtype": "fp8", "num_heads": "32",
    "batch_size": "5",
}  # fmt: skip


def test_a_prefill_row_becomes_shape_members_and_group():
    row = prefill_parse(ROW | {"new_tokens": "300", "past_tokens": "7"})
    chip = chip_get("b200")
    assert dict(zip(LATENT_PREFILL.shape, row.shape, strict=True)) == {
        "tok": 300, "batch": 5, "past_tok": 7, "heads": 32, "qk_width": 192, "v_width": 128, "quantises": 1, "eager": 0,
        "peak_flop_s": 2250e12, "memory_byte_s": 7.7e12, "cores": 148, "cache_byte": chip.cache_byte.value,
    }  # fmt: skip
    assert row.members == ("blackwell", "blackwell|trtllm|fp8", "trtllm|fp8", "b200", "b200|trtllm|fp8")
    assert row.group == "32"


def test_other_engines_are_issued_by_the_host():
    for parse, family, more in (
        (prefill_parse, LATENT_PREFILL, {"new_tokens": "300", "past_tokens": "7"}),
        (decode_parse, LATENT_DECODE, {"kv_len": "300"}),
    ):
        eager = [parse(ROW | more | {"engine": name}).shape[family.shape.index("eager")] for name in ("VLLM", "TRTLLM")]
        assert eager == [1, 0]


def test_a_decode_row_becomes_shape_members_and_group():
    row = decode_parse(ROW | {"kv_len": "300"})
    chip = chip_get("b200")
    assert dict(zip(LATENT_DECODE.shape, row.shape, strict=True)) == {
        "batch": 5, "kv_tok": 300, "heads": 32, "latent_width": 576, "value_rank": 512, "tile_heads": 16, "copies": 2,
        "kv_byte": 1, "split": 1, "eager": 0, "peak_flop_s": chip.peak_flop_s["fp8"].value, "memory_byte_s": 7.7e12,
        "cores": 148, "cache_byte": chip.cache_byte.value,
    }  # fmt: skip
    assert row.members == (
        "trt_split", "blackwell|trt_split|fp8", "trt_split|fp8", "b200", "b200|trt_split|fp8",
    )  # fmt: skip
    assert row.group == "32"


@pytest.mark.parametrize(
    ("chip", "kv_byte", "precision"),
    [("a100-80", 1, "bf16"), ("l40s", 1, "bf16"), ("h100-sxm", 1, "fp8"), ("h100-sxm", 2, "bf16"),
     ("ascend-910b3", 1, "bf16")],
)  # fmt: skip
def test_a_cache_in_fp8_computes_in_it_only_where_the_kernel_can(chip, kv_byte, precision):
    assert precision_of(chip_get(chip), kv_byte) == precision


@pytest.mark.parametrize(
    ("chip", "engine", "precision", "heads", "kernel"),
    [
        ("h100-sxm", "trtllm", "bf16", 16, "trt_split"),
        ("a100-80", "trtllm", "bf16", 16, "trt_tile"),
        ("rtx-pro-6000", "trtllm", "fp8", 128, "trt_split"),
        ("rtx-pro-6000", "trtllm", "fp8", 64, "trt_tile"),
        ("h100-sxm", "vllm", "bf16", 16, "flashmla"),
        ("a100-80", "vllm", "bf16", 16, "triton"),
    ],
)
def test_engines_pick_kernels_by_architecture(chip, engine, precision, heads, kernel):
    assert decode_kernel(chip_get(chip), engine, precision, heads) == kernel


@pytest.mark.parametrize(
    ("chip", "kernel", "heads", "tile", "copies"),
    [("a100-80", "triton", 40, 16, 3), ("h100-sxm", "flashmla", 128, 64, 2), ("b200", "trt_split", 128, 64, 1)],
)
def test_tiles_of_heads_by_kernel(chip, kernel, heads, tile, copies):
    shape = decode_shape(
        chip_get(chip),
        batch=1,
        kv_tok=1,
        heads=heads,
        latent_width=576,
        value_rank=512,
        kernel=kernel,
        precision="bf16",
    )
    made = dict(zip(LATENT_DECODE.shape, shape, strict=True))
    assert (made["tile_heads"], made["copies"], made["cache_byte"]) == (tile, copies, 1)


def test_a_cache_dtype_that_is_not_known_is_named():
    for parse, more in ((prefill_parse, {"new_tokens": "1", "past_tokens": "1"}), (decode_parse, {"kv_len": "1"})):
        with pytest.raises(KernelRowError, match='kv_cache_dtype "fp3" is not known; known are bfloat16, '):
            parse(ROW | more | {"kv_cache_dtype": "fp3"})
