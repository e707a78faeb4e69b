"""Routed experts of a sparse layer: n tokens choose k of E experts each, and every expert is a small MLP.

An expert has 3 matrices of h x I (gate, up, down; 2 without a gate), so a row that it gets costs 6 h I flop, and its
weights are read once if it gets any. With ep ranks, each holds E / ep experts.

**Who gets what** (``_roofline_py.routed``). The time is that of the busiest rank. Tokens that choose evenly and
independently leave an expert of a rank untouched with chance (1 - k/E)^n, so E/ep (1 - (1 - k/E)^n) are hit. Benchmarks
deal rows out evenly instead ("balanced"), or let loads of experts follow a power law: density x^-s on [1, M], with
M = 0.8 n once there are more rows than experts and 200 below, as the published benchmark draws it. The busiest of ep
ranks lies sqrt(2 ln ep) - 0.57 standard deviations above the mean, with a correction for skewness (Cornish-Fisher).

**Time** (``_roofline_py.experts``).

    rows are padded to tiles: hit (c + T/2 (1 + exp(-2 c / T))) for c rows per expert hit and tiles of T
    compute = 2 padded 3 h I / (peak compute_ratio) + padded (2 I + h) epilogue_s / cores
    chain   = chain_s (h + I) (1 + T / 40)              one tile through both inner dimensions: what few tiles wait for
    weights = bytes of the experts hit / (bandwidth memory_ratio)
    time    = launch + ((compute + chain)^o + weights^o)^(1/o) + activations / (bandwidth activation_ratio)

Activations are moved five times: permuted, out of the up product, activated, out of the down product, added up. Kernels
choose T from the rows that a local expert would get, n k ep / E, before rows of other ranks are dropped; some also do
elementwise work on the rows of other ranks (``ghost``). Where tokens travel to their experts a rank sees 1/ep of them
(``seen``), and no rows of others. Marlin kernels multiply with the matrix instructions of Ampere
on every chip.
"""

from collections.abc import Mapping
from types import MappingProxyType

from accelerator.chips import ChipSpec
from accelerator.family import (
    COLD_CACHE_BYTE,
    Chips,
    Family,
    KernelRow,
    KernelRowError,
    cache_byte_of,
    cores_of,
    engine_of,
    joined,
    kernels_slug,
    peak_flop_s,
    row_chip,
    row_number,
)
from accelerator.gemm import Format
from accelerator.pooling import Parameter

FORMATS: Mapping[str, Format] = MappingProxyType({
    "bf16": Format("bf16", 2, 2, quantises=False),
    "fp8": Format("fp8", 1, 1, quantises=True),
    "fp8_block": Format("fp8", 1.0005, 1.03, quantises=True),
    "int8": Format("int8", 1, 1, quantises=True),
    "int8_wo": Format("bf16", 1.008, 2, quantises=False),
    "int4": Format("bf16", 0.516, 2, quantises=False),
    "mxfp4_wo": Format("bf16", 0.53125, 2, quantises=False),
    "mxfp4": Format("fp8", 0.53125, 1.03, quantises=True),
    "fp4": Format("fp4", 0.5625, 0.5625, quantises=True),
})  # fmt: skip
"""Formats of experts; bytes include the scales of blocks."""

DTYPES: Mapping[str, str] = MappingProxyType({
    "bfloat16": "bf16", "bf16": "bf16", "fp16": "bf16", "float16": "bf16", "fp8": "fp8", "fp8_block": "fp8_block",
    "w8a8_dynamic": "int8", "int8": "int8", "int4_wo": "int4", "w4a16_mxfp4": "mxfp4_wo", "w4a8_mxfp4_mxfp8": "mxfp4",
    "nvfp4": "fp4",
})  # fmt: skip
"""Format by the ``dtype`` of a kernel file."""

AMPERE_CORE_FLOP_S = 2.9e12
"""Peak of Ampere's matrix instructions on one core, which Marlin uses on every chip (312 TFLOP/s on 108). [flop/s]"""

MARLIN = frozenset({"ampere", "ada", "hopper", "blackwell", "blackwell-rtx"})
"""Architectures that Marlin kernels run on."""

XE_TOK, XE_RATIO = 64.0, 0.6
"""Tokens above which the Xe kernel changes and reads weights at so much of the bandwidth. [tok], [-]"""

EVEN_SKEW = -1.0
"""Skew of tokens that choose evenly and independently, as in service; 0 means dealt out evenly, as in benchmarks."""

PARAMETERS = (
    Parameter(
        "launch_s",
        "s",
        "fixed time of the kernels of one call: routing, permuting, two products, adding up",
        2.5e-5,
        0.7,
        0.3,
    ),
    Parameter("compute_ratio", "1", "share of the dense peak in the grouped products", 0.6, 0.3, 0.2),
    Parameter("memory_ratio", "1", "share of the memory bandwidth when weights are read", 0.75, 0.3, 0.12),
    Parameter(
        "chain_s", "s", "one element of the inner dimensions of one tile, at latency", 2e-9, 0.7, 0.3, (0, 1, 2, 3)
    ),
    Parameter("tile_rows", "1", "largest tile height", 50, 0.7, 0.3, (0, 2, 3, 4)),
    Parameter(
        "epilogue_s", "s", "core time to start and end one element of a tile's output", 1.5e-10, 0.7, 0.4, (2, 3, 4)
    ),
    Parameter(
        "activation_ratio", "1", "share of the memory bandwidth of activations (above 1: from cache)", 1.0, 0.5, 0.2
    ),
    Parameter("ghost", "1", "elementwise work on rows of other ranks, relative to own rows", 0.3, 1.0, 1.0, (2, 3)),
    Parameter(
        "cache_gain",
        "1",
        "bandwidth added for weights in the last-level cache, over that of memory",
        2.5,
        0.5,
        0.4,
        (0,),
    ),
    Parameter(
        "overlap", "1", "exponent, less 1, of the overlap of computing and reading weights", 0.6, 0.5, 0.2, (0, 2)
    ),
)

GATHERED_RANKS = 8
"""Ranks up to which engines gather the tokens of all groups on every rank; across more, each is sent what it needs, as
guides to wide deployments advise. Defaults that gather: vLLM allgather_reducescatter (docs.vllm.ai, expert parallel
deployment), SGLang moe-a2a-backend none (docs.sglang.io, expert parallelism); both read 2026-11-26. [-]"""

SOURCE = "ai-dynamo/aiconfigurator@095f58a, hudingyi688/aiconfigurator-npu@90d7765"


def kernel_of(chip: ChipSpec, engine: str, kind: str) -> str:
    """Return the kernel that an engine usually picks for a format on a chip."""
    if engine == "vllm-ascend":
        return "grouped"
    if kind in {"int4", "int8_wo", "mxfp4_wo"} and engine != "trtllm" and chip.architecture in MARLIN:
        return "marlin"
    by_architecture = {"blackwell": "trtllmgen", "blackwell-rtx": "cutlass", "xe2": "xpu"}
    if chip.architecture in by_architecture:
        return by_architecture[chip.architecture]
    if chip.architecture == "hopper" and kind == "fp8_block" and engine != "trtllm":
        return "triton"
    if engine == "trtllm" or (chip.architecture == "hopper" and kind != "bf16"):
        return "cutlass"
    return "triton"


def experts_members(chip: ChipSpec, engine: str, kind: str, kernel: str) -> tuple[str, ...]:
    """Return the members of a cell."""
    made = joined(engine, kind, kernel)
    return (
        chip.architecture,
        kernels_slug(chip),
        "triton" if kernel == "oaitriton" else kernel,
        made,
        joined(kernels_slug(chip), made),
    )


def experts_shape(
    chip: ChipSpec,
    kind: str,
    kernel: str,
    *,
    tok: float,
    hidden: float,
    ffn: float,
    topk: float,
    experts: float,
    ep: float,
    matrices: float,
    skew: float,
    cold: bool = True,
    seen: float = 1.0,
) -> tuple[float, ...]:
    """Return the shape of one call.

    Parameters
    ----------
    ffn : float
        Width of an expert, or of its slice. [-]
    seen : float
        Share of the tokens that the kernels of one rank see: all where every rank has them, 1 / ep where they travel to
        their experts. [-]
    """
    made = FORMATS[kind]
    peak = peak_flop_s(chip, made.computes)
    if kernel == "marlin":
        peak = min(peak, cores_of(chip) * AMPERE_CORE_FLOP_S)
    memory_byte_s = chip.memory_byte_s.value
    return (
        tok, hidden, ffn, topk, experts, ep, matrices, skew, made.weight_byte, made.activation_byte, peak,
        memory_byte_s, memory_byte_s * (XE_RATIO if kernel == "xpu" and tok > XE_TOK else 1.0), cores_of(chip),
        COLD_CACHE_BYTE if cold else cache_byte_of(chip), seen,
    )  # fmt: skip


def row_parse(row: Mapping[str, str], chips: Chips = None) -> KernelRow:
    """Return a row of a moe file."""
    if row["dtype"].lower() not in DTYPES:
        raise KernelRowError(f'dtype "{row["dtype"]}" is not known; known are {", ".join(DTYPES)}')
    chip, kind, engine = row_chip(row["chip"], chips), DTYPES[row["dtype"].lower()], engine_of(row["engine"])
    kernel = _row_kernel(chip, row["kernel_source"])
    tok, hidden, ffn, topk, total, tp, ep = (
        row_number(row, name)
        for name in (
            "num_tokens", "hidden_size", "inter_size", "topk", "num_experts", "moe_tp_size", "moe_ep_size",
        )
    )  # fmt: skip
    if topk > total or ep > total:
        raise KernelRowError(f"topk {topk:g} and moe_ep_size {ep:g} are at most num_experts, {total:g}")
    return KernelRow(
        shape=experts_shape(
            chip,
            kind,
            kernel,
            tok=tok,
            hidden=hidden,
            ffn=ffn / tp,
            topk=topk,
            experts=total,
            ep=ep,
            matrices=_row_matrices(row, hidden, ffn, topk),
            skew=_row_skew(row["distribution"]),
            cold=False,
        ),
        members=experts_members(chip, engine, kind, kernel),
        group=f"{hidden:g},{ffn:g},{total:g},{topk:g}",
    )


def _row_kernel(chip: ChipSpec, name: str) -> str:
    """Return the kernel by the name of a kernel file; TensorRT-LLM's plain flow picks by architecture."""
    for part, kernel in (
        ("marlin", "marlin"), ("xpu", "xpu"), ("GroupedMatmul", "grouped"), ("oaitriton", "oaitriton"),
        ("triton_fp8_block", "triton"), ("flashinfer_trtllm", "trtllmgen"), ("flashinfer_cutlass", "cutlass"),
        ("torch_flow_cutlass", "cutlass"), ("nongated", "cutlass"), ("triton", "triton"), ("vllm_fused_moe", "triton"),
    ):  # fmt: skip
        if part in name:
            return kernel
    if "moe_torch_flow" in name:
        return {"ampere": "cutlass", "ada": "cutlass", "hopper": "oaitriton"}.get(chip.architecture, "trtllmgen")
    raise KernelRowError(f'kernel_source "{name}" is not known')


def _row_matrices(row: Mapping[str, str], hidden: float, ffn: float, topk: float) -> float:
    """Return the matrices of an expert. Nemotron's have no gate, which only TensorRT-LLM's rows say."""
    if "one proj" in row["kernel_source"]:
        return 1.0
    nemotron = topk == 22 or (hidden, ffn) == (2688, 1856)
    recent = engine_of(row["engine"]) == "vllm" and not row.get("engine_version", "").startswith("0.14")
    return 2.0 if "nongated" in row["kernel_source"] or (nemotron and recent) else 3.0


def _row_skew(distribution: str) -> float:
    """Return the skew of a distribution: balanced, or power_law_1.2 and the like."""
    if distribution in {"", "balanced"}:  # Ascend rows state none: rows are dealt out evenly
        return 0.0
    name, _, exponent = distribution.rpartition("_")
    try:
        skew = float(exponent)
    except ValueError:
        skew = -1.0
    if name != "power_law" or not 1 < skew < 2:
        raise KernelRowError(f'distribution "{distribution}" is not known; known are balanced and power_law_1.2')
    return skew


EXPERTS = Family(
    name="experts",
    code=6,
    columns=frozenset({
        "chip", "engine", "dtype", "kernel_source", "num_tokens", "hidden_size", "inter_size", "topk", "num_experts",
        "moe_tp_size", "moe_ep_size", "distribution",
    }),
    shape=(
        "tok", "hidden", "ffn", "topk", "experts", "ep", "matrices", "skew", "weight_byte", "activation_byte",
        "peak_flop_s", "memory_byte_s", "weight_byte_s", "cores", "cache_byte", "seen",
    ),
    parameters=PARAMETERS,
    levels=("architecture", "chip", "kernel", "engine|format|kernel", "chip|engine|format|kernel"),
    row_parse=row_parse,
    source=SOURCE,
    launches=6,  # routing, permuting, two products, activation, adding up
)  # fmt: skip
