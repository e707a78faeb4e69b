import math

import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from accelerator import _roofline_py as plain
from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.efficiency import DEFAULT
from accelerator.errors import PrecisionError
from accelerator.experts import EVEN_SKEW, EXPERTS, FORMATS, experts_shape, kernel_of, row_parse
from accelerator.family import KernelRowError
from accelerator.operators import DeploymentConfig
from accelerator.roofline import program_make
from tests.accelerator.test_roofline import parts_s

NEVER = 1e300

SHAPE = {
    "tok": 32, "hidden": 1000, "ffn": 500, "topk": 2, "experts": 8, "ep": 1, "matrices": 3, "skew": 0, "weight_byte": 2,
    "activation_byte": 1, "peak_flop_s": 1e15, "memory_byte_s": 1e12, "weight_byte_s": 1e12, "cores": 100,
    "cache_byte": 1, "seen": 1,
}  # fmt: skip
IDEAL = {  # tiles of next to no height, activations for nothing, the larger of computing and reading
    "launch_s": 0, "compute_ratio": 1, "memory_ratio": 1, "chain_s": 0, "tile_rows": 1e-6, "epilogue_s": 0,
    "activation_ratio": NEVER, "ghost": 0, "cache_gain": 0, "overlap": 200,
}  # fmt: skip
PARAMS = 3 * 1000 * 500


def experts_s(kernel, shape=None, **parameters):
    return parts_s(kernel, EXPERTS, SHAPE | (shape or {}), IDEAL | parameters)


def hit(kernel, **shape):
    """Return how many experts' weights were read."""
    return experts_s(kernel, shape)[2] * 1e12 / (2 * PARAMS)


def rows(kernel, **shape):
    """Return how many rows were multiplied."""
    return experts_s(kernel, shape)[1] * 1e15 / (2 * PARAMS)


# --- who gets what ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("shape", "expected"),
    [
        ({"tok": 1}, 2),
        ({"tok": 2}, 3.5),
        ({"tok": 3}, 8 * (1 - 0.75**3)),
        ({"tok": 1000}, 8),
        ({"tok": 2, "ep": 4}, 3.5 / 4 + 1 / 8),  # a rank with a row has hit at least one of its experts
        ({"tok": 16, "ep": 4}, 2 * (1 - 0.75**16)),
    ],
)
def test_tokens_that_choose_evenly_leave_an_expert_out_by_chance(kernel, shape, expected):
    assert_allclose(hit(kernel, skew=EVEN_SKEW, **shape), expected, rtol=1e-5)


@pytest.mark.parametrize(
    ("shape", "rows_expected", "hit_expected"),
    [
        pytest.param({"tok": 1}, 2, 2, id="one token"),
        pytest.param({"tok": 4}, 8, 8, id="each expert a row"),
        pytest.param({"tok": 100}, 200, 8, id="many"),
        pytest.param({"tok": 1, "ep": 4}, 1, 1, id="the busiest of ranks that share two rows"),
        pytest.param({"tok": 3, "ep": 4}, 2, 2, id="six rows on four ranks"),
        pytest.param({"tok": 100, "ep": 4}, 50, 2, id="each rank its share"),
    ],
)
def test_rows_dealt_out_evenly(kernel, shape, rows_expected, hit_expected):
    assert_allclose(rows(kernel, **shape), rows_expected, rtol=1e-5)
    assert_allclose(hit(kernel, **shape), hit_expected)


def test_a_power_law_leaves_experts_out_and_burdens_the_busiest_rank(kernel):
    many = {"tok": 64, "experts": 128, "topk": 4}
    assert rows(kernel, skew=1.2, **many) == pytest.approx(256, rel=1e-3)  # one rank holds all of them
    assert hit(kernel, skew=1.2, **many) < hit(kernel, **many) == pytest.approx(128)
    assert rows(kernel, skew=1.2, ep=8, **many) > 1.1 * rows(kernel, ep=8, **many)


@given(
    st.integers(1, 5000), st.sampled_from([8, 64, 256]), st.integers(1, 8), st.sampled_from([1, 2, 8]),
    st.one_of(st.just(0.0), st.just(EVEN_SKEW), st.floats(1.01, 1.9)),
)  # fmt: skip
def test_a_rank_gets_no_more_than_there_is(tok, experts, topk, ep, skew):
    got, touched = plain.routed(tok, experts, topk, ep, skew)
    assert 1 <= touched <= min(experts / ep, got) * (1 + 1e-12)
    assert tok * topk / ep <= got * (1 + 1e-9)
    assert got <= tok * topk * (1 + 1e-9)


def test_no_tokens_take_no_time(kernel):
    assert experts_s(kernel, {"tok": 0}, launch_s=1).tolist() == [0, 0, 0]


# --- time -------------------------------------------------------------------------------------------------------------
def test_a_row_costs_six_flop_per_element_of_an_expert_and_four_without_a_gate(kernel):
    assert_allclose(experts_s(kernel)[1], 64 * 6 * 1000 * 500 / 1e15, rtol=1e-5)
    assert_allclose(experts_s(kernel, {"matrices": 2}, compute_ratio=0.5)[1], 2 * 64 * 4 * 1000 * 500 / 1e15, rtol=1e-5)


def test_weights_of_experts_hit_are_read_once(kernel):
    assert_allclose(experts_s(kernel, memory_ratio=0.5)[2], 8 * PARAMS * 2 / 0.5e12)
    assert_allclose(experts_s(kernel, {"weight_byte": 0.5, "weight_byte_s": 2e12})[2], 8 * PARAMS * 0.5 / 2e12)


def test_the_larger_of_computing_and_reading_counts_and_both_without_overlap(kernel):
    time_s, compute_s, weights_s = experts_s(kernel, launch_s=1e-3)
    assert_allclose(time_s, 1e-3 + max(compute_s, weights_s))
    assert_allclose(experts_s(kernel, overlap=0)[0], compute_s + weights_s)


@pytest.mark.parametrize(
    ("tok", "tile"),
    [pytest.param(4, 8, id="the smallest tile"), pytest.param(64, 16, id="as many as an expert gets"),
     pytest.param(68, 32, id="the next power of two")],
)  # fmt: skip
def test_rows_are_padded_to_tiles(kernel, tok, tile):
    each = tok * 2 / 8
    _, compute_s, _ = experts_s(kernel, {"tok": tok}, tile_rows=1e9)
    assert_allclose(compute_s, 8 * (each + tile / 2 * (1 + math.exp(-2 * each / tile))) * 2 * PARAMS / 1e15)


def test_a_tile_ends_on_one_core_at_the_rate_of_its_epilogue(kernel):
    extra_s = experts_s(kernel, epilogue_s=1e-9)[1] - experts_s(kernel)[1]
    assert_allclose(extra_s, 64 * (2 * 500 + 1000) * 1e-9 / 100, rtol=1e-5)


def test_few_tiles_wait_for_a_chain_through_both_inner_dimensions(kernel):
    free = {"peak_flop_s": NEVER, "weight_byte_s": NEVER}
    assert_allclose(experts_s(kernel, free, chain_s=1e-9)[0], 1500e-9, rtol=1e-5)
    assert_allclose(experts_s(kernel, free | {"tok": 160}, chain_s=1e-9, tile_rows=1e9)[0], 1500e-9 * (1 + 64 / 40))


def test_activations_move_at_their_own_rate(kernel):
    byte = 4 * 32 * 1000 + 64 * (1000 * (4 + 2) + 500 * (4 * 2 + 2))
    free = {"peak_flop_s": NEVER, "weight_byte_s": NEVER}
    assert_allclose(experts_s(kernel, free, activation_ratio=0.5), [byte / 0.5e12, 0, byte / 0.5e12], atol=1e-15)


def test_rows_of_other_ranks_are_ghosts(kernel):
    free = {"peak_flop_s": NEVER, "weight_byte_s": NEVER, "ep": 4}
    own, all_rows, row_byte = 16, 64, 1000 * 6 + 500 * 10
    for ghost in (0, 0.5, 1):
        time_s = experts_s(kernel, free, activation_ratio=1, ghost=ghost)[0]
        assert_allclose(time_s, (4 * 32 * 1000 + (own + ghost * (all_rows - own)) * row_byte) / 1e12, rtol=1e-9)


def test_where_tokens_travel_a_rank_works_on_its_own_alone(kernel):
    free = {"peak_flop_s": NEVER, "weight_byte_s": NEVER, "ep": 4, "seen": 0.25}
    row_byte = 1000 * 6 + 500 * 10
    for ghost in (0, 1):
        time_s = experts_s(kernel, free, activation_ratio=1, ghost=ghost)[0]
        assert_allclose(time_s, (4 * 8 * 1000 + 16 * row_byte) / 1e12, rtol=1e-9)


@pytest.mark.parametrize(("tp", "dp", "seen"), [(8, 1, 1), (1, 8, 1), (16, 1, 1), (1, 16, 1 / 16), (2, 16, 1 / 32)])
def test_tokens_travel_between_hosts_and_are_gathered_within_one(tp, dp, seen):
    config = DeploymentConfig("fp8", tp=tp, dp=dp, ep=tp * dp)
    program = program_make(chip_get("h100-sxm"), model_get("deepseek-r1"), config, DEFAULT)
    (at,) = (i for i, op in enumerate(program.ops) if op.family == "experts")
    assert program.shape[at][EXPERTS.shape.index("seen")] == seen


def test_weights_that_fit_into_the_cache_are_read_faster(kernel):
    cold_s = experts_s(kernel)[2]
    assert_allclose(experts_s(kernel, {"cache_byte": 1e20}, cache_gain=3)[2], cold_s / 4)
    half = {"cache_byte": cold_s * 1e12 / math.log(2) ** 0.5}
    assert_allclose(experts_s(kernel, half, cache_gain=3)[2], cold_s * (1 - 0.5 * 0.75))


# --- shapes, kernels, rows --------------------------------------------------------------------------------------------
def named(shape):
    return dict(zip(EXPERTS.shape, shape, strict=True))


def made(chip, kind, kernel, **changed):
    sizes = {"tok": 1, "hidden": 2, "ffn": 3, "topk": 4, "experts": 5, "ep": 6, "matrices": 3, "skew": 0} | changed
    return named(experts_shape(chip_get(chip), kind, kernel, **sizes))


def test_marlin_multiplies_with_the_instructions_of_ampere():
    assert made("h100-sxm", "int4", "marlin")["peak_flop_s"] == pytest.approx(132 * 2.9e12)
    assert made("a40", "int4", "marlin")["peak_flop_s"] == pytest.approx(149.7e12)  # less than that anyway
    assert made("h100-sxm", "int4", "cutlass")["peak_flop_s"] == 989e12


def test_the_xe_kernel_reads_weights_slower_for_many_tokens():
    few, many = (made("arc-pro-b60", "bf16", "xpu", tok=tok) for tok in (64, 65))
    assert few["weight_byte_s"] == few["memory_byte_s"] == 456e9
    assert many["weight_byte_s"] == pytest.approx(0.6 * 456e9)


def test_inside_a_step_no_weights_are_left_in_the_cache():
    assert made("h100-sxm", "bf16", "triton")["cache_byte"] == 1
    assert made("h100-sxm", "bf16", "triton", cold=False)["cache_byte"] == 50 * 2**20


@pytest.mark.parametrize(
    ("chip", "engine", "kind", "kernel"),
    [
        ("ascend-910b3", "vllm-ascend", "int8", "grouped"),
        ("h100-sxm", "vllm", "int4", "marlin"),
        ("h100-sxm", "trtllm", "int4", "cutlass"),
        ("b200", "vllm", "bf16", "trtllmgen"),
        ("rtx-pro-6000", "vllm", "bf16", "cutlass"),
        ("arc-pro-b60", "vllm", "bf16", "xpu"),
        ("h100-sxm", "vllm", "fp8", "cutlass"),
        ("h100-sxm", "vllm", "bf16", "triton"),
        ("thead-ppu-810e", "vllm", "bf16", "triton"),
    ],
)
def test_the_kernel_that_an_engine_usually_picks(chip, engine, kind, kernel):
    assert kernel_of(chip_get(chip), engine, kind) == kernel


ROW = {
    "chip": "H200-SXM", "engine": "VLLM", "engine_version": "0.20.0", "dtype": "fp8", "kernel_source": "vllm_fused_moe",
    "num_tokens": "48", "hidden_size": "640", "inter_size": "320", "topk": "3", "num_experts": "24", "moe_tp_size": "2",
    "moe_ep_size": "4", "distribution": "balanced",
}  # fmt: skip


def test_a_row_becomes_shape_members_and_group():
    row = row_parse(ROW)
    chip = chip_get("h200")
    assert named(row.shape) == {
        "tok": 48, "hidden": 640, "ffn": 160, "topk": 3, "experts": 24, "ep": 4, "matrices": 3, "skew": 0,
        "weight_byte": 1, "activation_byte": 1, "peak_flop_s": chip.peak_flop_s["fp8"].value, "memory_byte_s": 4.8e12,
        "weight_byte_s": 4.8e12, "cores": chip.cores.value, "cache_byte": chip.cache_byte.value, "seen": 1,
    }  # fmt: skip
    assert row.members == ("hopper", "h200", "triton", "vllm|fp8|triton", "h200|vllm|fp8|triton")
    assert row.group == "640,320,24,3"


def test_an_engine_version_is_not_needed():
    row = {name: value for name, value in ROW.items() if name != "engine_version"}
    assert row_parse(row).shape == row_parse(ROW).shape


@pytest.mark.parametrize(
    ("chip", "source", "kernel"),
    [
        ("h100-sxm", "moe_torch_flow", "oaitriton"),
        ("a100-80", "moe_torch_flow", "cutlass"),
        ("b200", "moe_torch_flow", "trtllmgen"),
        ("h100-sxm", "vllm_marlin_moe", "marlin"),
        ("b200", "vllm_flashinfer_cutlass", "cutlass"),
        ("ascend-910b3", "npu GroupedMatmul", "grouped"),
    ],
)
def test_kernel_sources_name_kernels(chip, source, kernel):
    dtype = {"a100-80": "bf16", "ascend-910b3": "bf16"}.get(chip, "fp8")
    row = row_parse(ROW | {"chip": chip, "kernel_source": source, "dtype": dtype})
    assert row.members[-1].split("|")[-1] == kernel
    assert row.members[2] == ("triton" if kernel == "oaitriton" else kernel)


@pytest.mark.parametrize(
    ("changed", "matrices"),
    [({}, 3), ({"kernel_source": "moe_torch_flow nongated"}, 2), ({"topk": "22"}, 2),
     ({"topk": "22", "engine_version": "0.14.0"}, 3), ({"kernel_source": "GroupedMatmul (one proj)"}, 1)],
)  # fmt: skip
def test_matrices_of_an_expert_by_row(changed, matrices):
    assert named(row_parse(ROW | changed).shape)["matrices"] == matrices


@pytest.mark.parametrize(
    ("distribution", "skew"), [("", 0), ("balanced", 0), ("power_law_1.2", 1.2), ("power_law_1.01", 1.01)]
)
def test_distributions_have_a_skew(distribution, skew):
    assert named(row_parse(ROW | {"distribution": distribution}).shape)["skew"] == skew


@pytest.mark.parametrize("distribution", ["power_law", "power_law_x", "power_law_2.5", "power_law_1", "zipf_1.2"])
def test_other_distributions_are_refused(distribution):
    with pytest.raises(KernelRowError, match=f'distribution "{distribution}" is not known'):
        row_parse(ROW | {"distribution": distribution})


def test_what_a_row_names_must_be_known():
    with pytest.raises(KernelRowError, match='kernel_source "handmade" is not known'):
        row_parse(ROW | {"kernel_source": "handmade"})
    with pytest.raises(KernelRowError, match='dtype "fp6" is not known'):
        row_parse(ROW | {"dtype": "fp6"})
    with pytest.raises(PrecisionError, match="a100-80 does not compute in fp8"):
        row_parse(ROW | {"chip": "a100-80"})


def test_formats_count_the_bytes_of_their_scales():
    assert FORMATS["fp4"].weight_byte == 0.5 + 1 / 16
    assert FORMATS["mxfp4"].weight_byte == 0.5 + 1 / 32
    assert FORMATS["fp8_block"].weight_byte == pytest.approx(1 + 8 / 128**2, rel=1e-4)
