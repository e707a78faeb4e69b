"""Multi-head latent attention (MLA): prefill with expanded keys and values, decode in the latent space.

**Prefill.** Keys of width qk (nope + rope) and values of width v are expanded from the latent, so a pair of tokens
costs 2 (qk + v) flop per head: 640 with DeepSeek's 192 and 128. Rows of vLLM include the expansion itself, 2 r (nope +
v) flop per token and head with the latent's rank r = 512, and are issued one by one by the host.

    flop = 2 (qk + v) b h [n (p + (n + T) / 2) + tile_tok nq T] + expansion            T = 128, nq = n / T, at least 1
    time = launch + (compute^norm + memory^norm)^(1/norm)         compute: less while tiles do not fill the cores

**Decode.** The projections that expand are absorbed into their neighbours: all heads attend to the same latent, a key
of width c = r + rope (576) whose first r elements (512) are the value. One token of cache is c elements for all heads
together, and costs 2 (c + r) flop per head: 2,176. Heads go in tiles; a further tile of heads reads a part of the cache
again.

    time = launch + (max(compute, memory)^norm + serial^norm)^(1/norm) + (tiles + b h / tile_heads) tile_s / cores

``serial`` is the walk of a core along its tokens: the whole sequence in kernels that do not split it over cores, in
which two tiles share a core. What fits into the last-level cache stays there between the runs of a benchmark; inside a
step nothing does.
"""

import math
from collections.abc import Mapping

from accelerator.attention import KV_BYTE
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
from accelerator.pooling import Parameter

SOURCE = "ai-dynamo/aiconfigurator@095f58a"

LATENT_WIDTH, VALUE_RANK, QK_WIDTH, V_WIDTH = 576.0, 512.0, 192.0, 128.0
"""Widths of DeepSeek's latent attention, which every MLA file measures. [-]"""

NO_FP8 = frozenset({"ampere", "ada"})
"""Architectures on which rows with an FP8 cache take as long as BF16 ones."""

WHOLE = frozenset({"ampere", "ada", "blackwell-rtx", "xe2"})
"""Architectures on which decode kernels walk a sequence whole; all others split it over cores."""

PREFILL_PARAMETERS = (
    Parameter("launch_s", "s", "launch of the kernels", 12e-6, 0.4, 0.2),
    Parameter("host_s", "s", "host time of a call outside of a graph; hides a shorter kernel", 200e-6, 0.5, 0.2),
    Parameter("compute_ratio", "1", "share of the BF16 peak", 0.6, 0.3, 0.15),
    Parameter("memory_ratio", "1", "share of the memory bandwidth", 0.6, 0.3, 0.15),
    Parameter("half_tile", "1", "query tiles per core at half of the compute rate", 0.5, 0.7, 0.25),
    Parameter("tile_tok", "tok", "start and end of a query tile, in tokens of the cache", 100, 0.7, 0.3),
    Parameter("cache_share", "1", "share of the last-level cache in which operands stay between runs", 0.6, 0.5, 0.2),
    Parameter("norm", "1", "exponent of the overlap of computing and reading", 1.6, 0.3, 0.15),
)

DECODE_PARAMETERS = (
    Parameter("launch_s", "s", "launch of the kernels", 9e-6, 0.4, 0.2),
    Parameter("host_s", "s", "host time of a call outside of a graph; hides a shorter kernel", 200e-6, 0.5, 0.2),
    Parameter("compute_ratio", "1", "share of the dense peak, kernels that split", 0.7, 0.05, 0.1, ()),
    Parameter("memory_ratio", "1", "share of the memory bandwidth", 0.8, 0.2, 0.12),
    Parameter("reread", "1", "share of the cache that each further tile of heads reads again", 0.3, 0.5, 0.25),
    Parameter("token_s", "s", "time of one core per token that it walks through", 5e-8, 0.7, 0.4),
    Parameter("pair_wave", "1", "time of two tiles that share a core over one alone", 1.5, 0.2, 0.15, (1,)),
    Parameter("chunk_tok", "tok", "tokens at which splitting halves the walk", 500, 0.5, 0.25),
    Parameter("tile_s", "s", "core time to start, end and reduce a tile of heads", 3e-6, 0.7, 0.3),
    Parameter("tile_heads", "1", "heads that cost as much core time as a tile", 60, 0.7, 0.3),
    Parameter("cache_share", "1", "share of the last-level cache in which operands stay between runs", 0.6, 0.4, 0.15),
    Parameter("norm", "1", "exponent of the overlap of computing or reading with walking", 1.8, 0.2, 0.15),
)


def precision_of(chip: ChipSpec, kv_byte: float) -> str:
    """Return the precision that a kernel really works in, given the cache's."""
    return "fp8" if kv_byte == 1 and chip.architecture not in NO_FP8 and "fp8" in chip.peak_flop_s else "bf16"


def prefill_members(chip: ChipSpec, engine: str, precision: str) -> tuple[str, ...]:
    """Return the members of a cell of the prefill family."""
    made = joined(engine, precision)
    return (
        chip.architecture,
        joined(chip.architecture, made),
        made,
        kernels_slug(chip),
        joined(kernels_slug(chip), made),
    )


def prefill_shape(
    chip: ChipSpec,
    *,
    tok: float,
    batch: float,
    past_tok: float,
    heads: float,
    qk_width: float,
    v_width: float,
    precision: str,
    eager: bool = False,
    cold: bool = True,
) -> tuple[float, ...]:
    """Return the shape of a prefill kernel; eager: issued by the host, with the expansion in it."""
    return (
        tok, batch, past_tok, heads, qk_width, v_width, float(precision == "fp8"), float(eager),
        peak_flop_s(chip, "bf16"), chip.memory_byte_s.value, cores_of(chip),
        COLD_CACHE_BYTE if cold else cache_byte_of(chip),
    )  # fmt: skip


def decode_kernel(chip: ChipSpec, engine: str, precision: str, heads: float) -> str:
    """Return the kernel an engine decodes with: flashmla, triton, trt_split or trt_tile."""
    if engine == "trtllm":
        wide = chip.architecture == "blackwell-rtx" and precision == "fp8" and heads == 128
        return "trt_tile" if chip.architecture in WHOLE and not wide else "trt_split"
    return "triton" if chip.architecture in WHOLE else "flashmla"


def decode_members(chip: ChipSpec, kernel: str, precision: str) -> tuple[str, ...]:
    """Return the members of a cell of the decode family."""
    made = joined(kernel, precision)
    return kernel, joined(chip.architecture, made), made, kernels_slug(chip), joined(kernels_slug(chip), made)


def decode_shape(
    chip: ChipSpec,
    *,
    batch: float,
    kv_tok: float,
    heads: float,
    latent_width: float,
    value_rank: float,
    kernel: str,
    precision: str,
    eager: bool = False,
    cold: bool = True,
) -> tuple[float, ...]:
    """Return the shape of a decode kernel."""
    generated = chip.architecture == "blackwell" and kernel == "trt_split"
    tile = 16.0 if kernel == "triton" or (generated and heads <= 32) else 64.0
    copies = 1.0 if generated and heads > 32 else math.ceil(heads / tile)  # pairs of cores share the cache
    return (
        batch, kv_tok, heads, latent_width, value_rank, tile, copies, 1.0 if precision == "fp8" else 2.0,
        float(kernel != "trt_tile"), float(eager), peak_flop_s(chip, precision), chip.memory_byte_s.value,
        cores_of(chip), COLD_CACHE_BYTE if cold else cache_byte_of(chip),
    )  # fmt: skip


def prefill_parse(row: Mapping[str, str], chips: Chips = None) -> KernelRow:
    """Return a row of an MLA prefill file."""
    chip, engine = row_chip(row["chip"], chips), engine_of(row["engine"])
    precision, heads, batch = (
        precision_of(chip, _kv_byte(row)),
        row_number(row, "num_heads"),
        row_number(row, "batch_size"),
    )
    return KernelRow(
        shape=prefill_shape(
            chip,
            tok=row_number(row, "new_tokens"),
            batch=batch,
            past_tok=row_number(row, "past_tokens", 0),
            heads=heads,
            qk_width=QK_WIDTH,
            v_width=V_WIDTH,
            precision=precision,
            eager=engine != "trtllm",
            cold=False,
        ),
        members=prefill_members(chip, engine, precision),
        group=f"{heads:g}",
    )


def decode_parse(row: Mapping[str, str], chips: Chips = None) -> KernelRow:
    """Return a row of an MLA decode file."""
    chip, engine = row_chip(row["chip"], chips), engine_of(row["engine"])
    precision, heads = precision_of(chip, _kv_byte(row)), row_number(row, "num_heads")
    kernel = decode_kernel(chip, engine, precision, heads)
    return KernelRow(
        shape=decode_shape(
            chip,
            batch=row_number(row, "batch_size"),
            kv_tok=row_number(row, "kv_len"),
            heads=heads,
            latent_width=LATENT_WIDTH,
            value_rank=VALUE_RANK,
            kernel=kernel,
            precision=precision,
            eager=engine != "trtllm",
            cold=False,
        ),
        members=decode_members(chip, kernel, precision),
        group=f"{heads:g}",
    )


def _kv_byte(row: Mapping[str, str]) -> float:
    if row["kv_cache_dtype"] not in KV_BYTE:
        raise KernelRowError(f'kv_cache_dtype "{row["kv_cache_dtype"]}" is not known; known are {", ".join(KV_BYTE)}')
    return KV_BYTE[row["kv_cache_dtype"]]


LATENT_PREFILL = Family(
    name="latent_prefill",
    code=4,
    columns=frozenset({
        "chip", "engine", "mla_dtype", "kv_cache_dtype", "num_heads", "batch_size", "new_tokens", "past_tokens",
    }),
    shape=(
        "tok", "batch", "past_tok", "heads", "qk_width", "v_width", "quantises", "eager", "peak_flop_s",
        "memory_byte_s", "cores", "cache_byte",
    ),
    parameters=PREFILL_PARAMETERS,
    levels=(
        "architecture", "architecture|engine|precision", "engine|precision", "chip", "chip|engine|precision",
    ),
    row_parse=prefill_parse,
    source=SOURCE,
)  # fmt: skip

LATENT_DECODE = Family(
    name="latent_decode",
    code=5,
    columns=frozenset({"chip", "engine", "mla_dtype", "kv_cache_dtype", "num_heads", "batch_size", "kv_len"}),
    shape=(
        "batch", "kv_tok", "heads", "latent_width", "value_rank", "tile_heads", "copies", "kv_byte", "split", "eager",
        "peak_flop_s", "memory_byte_s", "cores", "cache_byte",
    ),
    parameters=DECODE_PARAMETERS,
    levels=(
        "kernel", "architecture|kernel|precision", "kernel|precision", "chip", "chip|kernel|precision",
    ),
    row_parse=decode_parse,
    source=SOURCE,
    launches=2,  # parts of the sequence, and what adds them up
)  # fmt: skip
