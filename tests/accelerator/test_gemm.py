import pytest
from numpy.testing import assert_allclose

from accelerator import gemm
from accelerator.chips import chip_get
from accelerator.errors import PrecisionError
from accelerator.family import KernelRowError
from accelerator.gemm import GEMM, gemm_members, gemm_shape, microbench_parse, row_parse, stream_shape
from tests.accelerator.test_roofline import linear, parts_s

SHAPE = {
    "rows": 128,
    "width": 1000,
    "depth": 1000,
    "weight_byte": 2,
    "activation_byte": 2,
    "quantises": 0,
    "odd": 0,
    "peak_flop_s": 1e15,
    "memory_byte_s": 1e12,
    "cores": 100,
    "cache_byte": 1,
}
IDEAL = {
    "launch_s": 0,
    "compute_ratio": 1,
    "memory_ratio": 1,
    "serial_wave": 0,
    "epilogue_k": 0,
    "quant_byte": 0,
    "core_byte_s": 1,  # a cache slower than memory: nothing is read faster
    "hide": 1,
    "odd_ratio": 0,
    "norm": 200,  # the larger of two times
}
BYTE = 2 * (1_000_000 + 128_000 + 128_000)  # weights, activations, products in BF16
FLOP = 2 * 128 * 1_000_000


def product_s(kernel, shape=None, **parameters):
    return parts_s(kernel, GEMM, SHAPE | (shape or {}), IDEAL | parameters)


def test_a_product_takes_the_larger_of_computing_and_reading(kernel):
    assert_allclose(product_s(kernel), [BYTE / 1e12, FLOP / 1e15, BYTE / 1e12])
    assert_allclose(product_s(kernel, {"peak_flop_s": 1e13}), [FLOP / 1e13, FLOP / 1e13, BYTE / 1e12])


def test_no_chip_reaches_its_data_sheet(kernel):
    _, compute_s, memory_s = product_s(kernel, compute_ratio=0.5, memory_ratio=0.25)
    assert_allclose([compute_s, memory_s], [2 * FLOP / 1e15, 4 * BYTE / 1e12])


def test_equal_times_add_up_without_overlap_and_weigh_the_root_of_two_with_some(kernel):
    even = {"peak_flop_s": FLOP / (BYTE / 1e12)}
    assert_allclose(product_s(kernel, even, norm=1)[0], 2 * BYTE / 1e12)
    assert_allclose(product_s(kernel, even, norm=2)[0], 2**0.5 * BYTE / 1e12)


@pytest.mark.parametrize(
    ("rows", "padded"), [(1, 16), (16, 16), (17, 32), (64, 64), (65, 128), (128, 128), (129, 192), (0.5, 16)]
)
def test_rows_are_padded_to_16_and_beyond_64_to_64(kernel, rows, padded):
    assert_allclose(product_s(kernel, {"rows": rows})[1], 2 * padded * 1e6 / 1e15)


def test_padding_is_computed_but_not_read(kernel):
    assert_allclose(product_s(kernel, {"rows": 1})[2], 2 * (1_000_000 + 1000 + 1000) / 1e12)


def test_a_last_wave_computes_tiles_on_every_core(kernel):
    extra_s = product_s(kernel, serial_wave=0.5)[1] - FLOP / 1e15
    assert_allclose(extra_s, 0.5 * 100 * 2 * 128 * 128 * 1000 / 1e15)


def test_a_tile_starts_and_ends_as_if_it_were_deeper(kernel):
    assert_allclose(product_s(kernel, epilogue_k=500)[1], 1.5 * FLOP / 1e15)


def test_formats_weigh_their_bytes(kernel):
    assert_allclose(
        product_s(kernel, {"weight_byte": 0.5, "activation_byte": 1})[2], (500_000 + 128_000 + 256_000) / 1e12
    )


def test_quantising_on_the_fly_is_paid_before_the_product(kernel):
    plain_s, quantised_s = product_s(kernel, quant_byte=3), product_s(kernel, {"quantises": 1}, quant_byte=3)
    assert_allclose(plain_s, product_s(kernel))
    assert_allclose(quantised_s - plain_s, [3 * 128_000 / 1e12, 0, 3 * 128_000 / 1e12])


@pytest.mark.parametrize(
    ("cache_byte", "resident"), [(1, 0), (BYTE, 1 / 626), (5 * BYTE, 0.5), (5e6 * BYTE, 1)], ids=str
)
def test_five_copies_of_the_operands_must_fit_into_the_cache(kernel, cache_byte, resident):
    memory_s = product_s(kernel, {"cache_byte": cache_byte}, core_byte_s=1e11)[2]  # 100 cores: ten times the memory
    assert_allclose(memory_s, BYTE * (resident / 1e13 + (1 - resident) / 1e12))


def test_a_cache_slower_than_memory_slows_nothing(kernel):
    assert_allclose(product_s(kernel, {"cache_byte": 1e15}, core_byte_s=1e9)[2], BYTE / 1e12)


@pytest.mark.parametrize(("hide", "expected"), [(0, 7), (1, 5), (100, 4)])
def test_launching_is_hidden_as_far_as_the_parameter_says(kernel, hide, expected):
    shape = {"peak_flop_s": FLOP / 4}
    time_s = product_s(kernel, shape, launch_s=3, hide=hide)[0]
    assert_allclose(time_s, expected, rtol=1e-5)


def test_odd_rows_lengthen_the_launch(kernel):
    assert_allclose(product_s(kernel, launch_s=10, odd_ratio=0.5)[0], 10)
    assert_allclose(product_s(kernel, {"odd": 1}, launch_s=10, odd_ratio=0.5)[0], 15)


def test_a_stream_reads_at_the_bandwidth_of_products_after_one_launch(kernel):
    assert_allclose(linear(kernel, [4])[0], [1e-6 + 4e6 / 0.5e12, 0, 4e6 / 0.5e12])
    assert stream_shape(chip_get("h100-sxm"), 12.0) == (12.0, 3.35e12)


# --- shapes and rows ------------------------------------------------------------------------------------------------
def named(shape):
    return dict(zip(GEMM.shape, shape, strict=True))


def test_a_shape_carries_the_data_sheet_and_inside_a_step_no_cache():
    chip = chip_get("h100-sxm")
    cold = named(gemm_shape(chip, "fp8", rows=3, width=4, depth=5))
    warm = named(gemm_shape(chip, "fp8", rows=3, width=4, depth=5, cold=False))
    assert warm == {
        "rows": 3,
        "width": 4,
        "depth": 5,
        "weight_byte": 1,
        "activation_byte": 1,
        "quantises": 1,
        "odd": 0,
        "peak_flop_s": 1979e12,
        "memory_byte_s": 3.35e12,
        "cores": 132,
        "cache_byte": 50 * 2**20,
    }
    assert cold == warm | {"cache_byte": 1}


@pytest.mark.parametrize(
    ("kind", "computes", "weight_byte", "activation_byte", "quantises"),
    [
        ("bf16", "bf16", 2, 2, 0),
        ("fp8_block", "fp8", 1, 1, 1),
        ("int8_wo", "bf16", 1, 2, 0),
        ("int4", "bf16", 0.5, 2, 0),
        ("fp4", "fp4", 0.5 + 1 / 16, 0.5 + 1 / 16, 1),  # a scale of one byte per 16 elements
    ],
)
def test_formats_that_only_store_less_compute_in_bf16(kind, computes, weight_byte, activation_byte, quantises):
    chip = chip_get("b200")
    shape = named(gemm_shape(chip, kind, rows=1, width=1, depth=1))
    assert shape["peak_flop_s"] == chip.peak_flop_s[computes].value
    assert (shape["weight_byte"], shape["activation_byte"], shape["quantises"]) == (
        weight_byte,
        activation_byte,
        quantises,
    )


def test_a_precision_the_chip_lacks_is_refused():
    with pytest.raises(PrecisionError, match="a100-80 does not compute in fp8; it has bf16, int8"):
        gemm_shape(chip_get("a100-80"), "fp8", rows=1, width=1, depth=1)


ROW = {"chip": "H100-SXM", "engine": "TRTLLM", "dtype": "sq", "m": "6", "n": "512", "k": "768"}


def test_a_row_becomes_shape_members_and_group():
    row = row_parse(ROW)
    shape = named(row.shape)
    assert (shape["rows"], shape["width"], shape["depth"], shape["odd"]) == (6, 512, 768, 1)
    assert shape["peak_flop_s"] == chip_get("h100-sxm").peak_flop_s["int8"].value
    assert shape["cache_byte"] == 50 * 2**20
    assert row.members == ("hopper", "h100-sxm", "trtllm|int8", "hopper|trtllm|int8", "h100-sxm|trtllm|int8")
    assert row.members == gemm_members(chip_get("h100-sxm"), "trtllm", "int8")
    assert row.group == "512,768"
    assert len(row.members) == len(GEMM.levels)


@pytest.mark.parametrize(("m", "odd"), [("4", 0), ("5", 1), ("128", 0), ("130", 1)])
def test_rows_are_odd_if_no_multiple_of_four(m, odd):
    assert named(row_parse(ROW | {"m": m}).shape)["odd"] == odd


def test_every_known_dtype_has_a_format():
    assert set(gemm.DTYPES.values()) == set(gemm.FORMATS)
    with pytest.raises(KernelRowError, match='dtype "fp6" is not known; known are bfloat16, '):
        row_parse(ROW | {"dtype": "fp6"})


# --- microbenchmarks --------------------------------------------------------------------------------------------------
def bench(metric, value, chip="Ascend-910B"):
    return microbench_parse({"chip": chip, "metric": metric, "value": str(value)})


def test_a_published_rate_becomes_a_large_product():
    row, time_s = bench("gemm_fp16", 200)
    assert time_s == pytest.approx(2 * 8192**3 / 200e12)
    assert row.shape[:3] == (8192, 8192, 8192)
    assert row.members[-1] == "ascend-910b3|vllm-ascend|bf16"
    assert row.group == "microbench"


def test_a_published_share_of_the_peak_is_of_the_peak_we_hold():
    _, time_s = bench("gemm_bf16_fraction_of_peak", 0.5)
    assert time_s == pytest.approx(2 * 8192**3 / (0.5 * chip_get("ascend-910b3").peak_flop_s["bf16"].value))


def test_a_published_bandwidth_becomes_a_product_of_one_row():
    row, time_s = bench("memory_bandwidth", 1000)
    assert row.shape[:3] == (1, 32768, 32768)
    assert time_s == pytest.approx(2 * 2**30 / 1e12, rel=1e-4)


def test_other_metrics_say_nothing_about_products():
    assert bench("gemm_fp32", 80) is None
    assert bench("link_bandwidth", 80) is None
