"""Grouped-query attention: prefill of new tokens, and decode of one token per sequence.

**Prefill.** Each of b sequences has n new tokens behind a cached prefix of p; token i sees p + i tokens, so there are n
p + n (n + 1) / 2 pairs per head, or at most a window w for each token. A pair costs 4 head_dim flop (2 for the score, 2
for the value) and one exponential. Q and O move 4 byte per element and head, K and V are written and read.

    pairs   = n (p + (n + T) / 2)                       tiles of T query rows compute to the tile's edge
    pair_s  = 4 head_dim cores / (peak compute_ratio) + 1 / exp_rate                               one core, one pair
    compute = b heads (pairs pair_s + n / T tile_s) / cores
    time    = launch + byte / bandwidth + compute + tail x longest tile

**Decode.** A new token reads K and V of the kv_len tokens before it (at most a window): 2 head_dim bytes per element
and KV head, and costs 4 head_dim flop per token and query head. Query heads of one group share a tile, so a group of g
heads costs like g + pad_rows. Long sequences are split over cores (flash-decoding).

    time = launch + byte / bandwidth + compute / busy share + serial walk along a split + task_s (1 + tasks / cores)

In a benchmark, a working set that fits into the last-level cache is read faster than memory (``cache_gain``); inside a
step it never is. Some kernels give each query head a task of its own and share nothing within a group (``plain``).
"""

from collections.abc import Mapping

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

SOURCE = "ai-dynamo/aiconfigurator@095f58a, hudingyi688/aiconfigurator-npu@90d7765"

KV_BYTE = {"bfloat16": 2.0, "bf16": 2.0, "float16": 2.0, "fp16": 2.0, "fp8": 1.0, "int8": 1.0}
"""Bytes of an element of the KV cache by the ``kv_cache_dtype`` of a kernel file."""

PREFILL_PARAMETERS = (
    Parameter("launch_s", "s", "launch of the kernels", 12e-6, 0.5, 0.3),
    Parameter("compute_ratio", "1", "share of the matrix peak", 0.6, 0.3, 0.2),
    Parameter("exp_rate", "1/s", "exponentials of one core", 5e10, 0.5, 0.3),
    Parameter("memory_ratio", "1", "share of the memory bandwidth", 0.7, 0.4, 0.2),
    Parameter("cache_gain", "1", "bandwidth added in the last-level cache, over that of memory", 2.5, 0.5, 0.3),
    Parameter("cache_share", "1", "working set over cache size at which half of that is lost", 0.5, 0.6, 0.3),
    Parameter("kv_pass", "1", "moves of K and V beside those of Q and O", 1.0, 0.7, 0.4),
    Parameter("tile_s", "s", "fixed time of a query tile on a core", 1e-6, 1.0, 0.5),
    Parameter("tail", "1", "share of the longest tile that nothing hides", 0.9, 0.5, 0.3),
    Parameter("tile_rows", "1", "rows of a query tile", 70, 0.4, 0.2),
    Parameter(
        "pack", "1", "exponent of the group size by which single rows are packed into a tile", 0.1, 1.5, 1.0, (0, 1)
    ),
    Parameter("leak", "1", "share of the pairs outside the window still computed", 0.02, 1.5, 0.8),
)

DECODE_PARAMETERS = (
    Parameter("launch_s", "s", "launch of the kernels", 9e-6, 0.5, 0.3),
    Parameter("memory_ratio", "1", "share of the memory bandwidth", 0.9, 0.3, 0.2),
    Parameter("cache_gain", "1", "bandwidth added in the last-level cache, over that of memory", 4, 0.6, 0.4),
    Parameter("cache_share", "1", "working set over cache size at which half of that is lost", 0.3, 0.6, 0.3),
    Parameter("token_s", "s", "one token of the walk along a split of the sequence", 2e-8, 1.0, 0.4),
    Parameter("split_tok", "tok", "tokens that a core takes before the sequence is split", 1000, 1.0, 0.5),
    Parameter("compute_ratio", "1", "share of the matrix peak", 0.6, 0.7, 0.3),
    Parameter("pad_rows", "1", "rows added to the query rows of a group", 20, 0.5, 0.3),
    Parameter("task_s", "s", "fixed time of a task (a sequence and KV head) on a core", 1.5e-6, 1.0, 0.5),
    Parameter("head_byte", "1", "moves of Q and O, partial results included", 6, 0.7, 0.4),
    Parameter("leak", "1", "share of the tokens outside the window still touched", 0.01, 1.5, 0.8),
)

MASKED_GROUP = 32
"""Query heads per KV head above which TensorRT-LLM uses its masked multi-head kernel. [-]"""

NO_SPLIT_WINDOW = frozenset({"ampere", "ada", "blackwell-rtx"})
"""Architectures on which vLLM decodes with FlashAttention 2, whose windowed kernel shares nothing in a group."""


def kind_of(attention_precision: str, kv_byte: float) -> str:
    """Return the name of a pair of precisions: bf16, bf16-kv8, fp8."""
    if attention_precision == "fp8":
        return "fp8"
    return "bf16" if kv_byte == 2 else "bf16-kv8"


def prefill_members(chip: ChipSpec, engine: str, kind: str, head_dim: float) -> tuple[str, ...]:
    """Return the members of a cell of the prefill family."""
    made = joined(engine, kind)
    return (
        joined(chip.architecture, engine),
        made,
        joined(chip.architecture, made, f"d{head_dim:g}"),
        joined(kernels_slug(chip), made),
    )


def prefill_shape(
    chip: ChipSpec,
    *,
    tok: float,
    batch: float,
    past_tok: float,
    heads: float,
    kv_heads: float,
    head_dim: float,
    window_tok: float,
    kv_byte: float,
    precision: str = "bf16",
    cold: bool = True,
) -> tuple[float, ...]:
    """Return the shape of a prefill kernel; window 0: none."""
    return (
        tok, batch, past_tok, heads, kv_heads, head_dim, window_tok, kv_byte, peak_flop_s(chip, precision),
        chip.memory_byte_s.value, cores_of(chip), COLD_CACHE_BYTE if cold else cache_byte_of(chip),
    )  # fmt: skip


def decode_members(chip: ChipSpec, engine: str, kind: str, head_dim: float, *, plain: bool) -> tuple[str, ...]:
    """Return the members of a cell of the decode family."""
    variant = "plain" if plain else "shared"
    made = joined(engine, kind, variant)
    return (
        joined(chip.architecture, engine, variant),
        made,
        joined(chip.architecture, made, f"d{head_dim:g}"),
        joined(kernels_slug(chip), made),
    )


def decode_shape(
    chip: ChipSpec,
    *,
    batch: float,
    kv_tok: float,
    heads: float,
    kv_heads: float,
    head_dim: float,
    window_tok: float,
    kv_byte: float,
    plain: bool,
    cold: bool = True,
) -> tuple[float, ...]:
    """Return the shape of a decode kernel; window 0: none."""
    return (
        batch, kv_tok, heads, kv_heads, head_dim, window_tok, kv_byte, float(plain), peak_flop_s(chip, "bf16"),
        chip.memory_byte_s.value, cores_of(chip), COLD_CACHE_BYTE if cold else cache_byte_of(chip),
    )  # fmt: skip


def decode_plain(chip: ChipSpec, engine: str, kind: str, *, group: float, window_tok: float) -> bool:
    """Return whether an engine decodes with one task per query head."""
    if engine == "trtllm":
        return group > MASKED_GROUP or (group == 1 and chip.architecture != "blackwell")
    return engine == "vllm" and kind == "bf16" and window_tok > 0 and chip.architecture in NO_SPLIT_WINDOW


def prefill_parse(row: Mapping[str, str], chips: Chips = None) -> KernelRow:
    """Return a row of a prefill file."""
    chip, engine = row_chip(row["chip"], chips), engine_of(row["engine"])
    kv_byte, precision = _precisions(row)
    heads, kv_heads, head_dim, window = _heads(row)
    return KernelRow(
        shape=prefill_shape(
            chip,
            tok=row_number(row, "new_tokens"),
            batch=row_number(row, "batch_size"),
            past_tok=row_number(row, "past_tokens", 0),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            window_tok=window,
            kv_byte=kv_byte,
            precision=precision,
            cold=False,
        ),
        members=prefill_members(chip, engine, kind_of(precision, kv_byte), head_dim),
        group=f"{heads:g},{kv_heads:g},{head_dim:g},{window:g}",
    )


def decode_parse(row: Mapping[str, str], chips: Chips = None) -> KernelRow:
    """Return a row of a decode file."""
    chip, engine = row_chip(row["chip"], chips), engine_of(row["engine"])
    kv_byte, precision = _precisions(row)
    heads, kv_heads, head_dim, window = _heads(row)
    kind = kind_of(precision, kv_byte)
    plain = decode_plain(chip, engine, kind, group=heads / kv_heads, window_tok=window)
    return KernelRow(
        shape=decode_shape(
            chip,
            batch=row_number(row, "batch_size"),
            kv_tok=row_number(row, "kv_len"),
            heads=heads,
            kv_heads=kv_heads,
            head_dim=head_dim,
            window_tok=window,
            kv_byte=kv_byte,
            plain=plain,
            cold=False,
        ),
        members=decode_members(chip, engine, kind, head_dim, plain=plain),
        group=f"{heads:g},{kv_heads:g},{head_dim:g},{window:g}",
    )


def _precisions(row: Mapping[str, str]) -> tuple[float, str]:
    """Return bytes of a KV element and the precision of the arithmetic."""
    for column in ("kv_cache_dtype", "attn_dtype"):
        if row[column] not in KV_BYTE:
            raise KernelRowError(f'{column} "{row[column]}" is not known; known are {", ".join(KV_BYTE)}')
    return KV_BYTE[row["kv_cache_dtype"]], "fp8" if row["attn_dtype"] == "fp8" else "bf16"


def _heads(row: Mapping[str, str]) -> tuple[float, float, float, float]:
    """Return heads, KV heads (0 in a file: as many), width of a head, window."""
    heads = row_number(row, "num_heads")
    kv_heads = row_number(row, "num_key_value_heads", 0) or heads
    return heads, kv_heads, row_number(row, "head_dim"), row_number(row, "window_size", 0)


ATTENTION_PREFILL = Family(
    name="attention_prefill",
    code=2,
    columns=frozenset({
        "chip", "engine", "attn_dtype", "kv_cache_dtype", "batch_size", "new_tokens", "past_tokens", "num_heads",
        "num_key_value_heads", "head_dim", "window_size",
    }),
    shape=(
        "tok", "batch", "past_tok", "heads", "kv_heads", "head_dim", "window_tok", "kv_byte", "peak_flop_s",
        "memory_byte_s", "cores", "cache_byte",
    ),
    parameters=PREFILL_PARAMETERS,
    levels=("architecture|engine", "engine|kind", "architecture|engine|kind|head_dim", "chip|engine|kind"),
    row_parse=prefill_parse,
    source=SOURCE,
)  # fmt: skip

ATTENTION_DECODE = Family(
    name="attention_decode",
    code=3,
    columns=frozenset({
        "chip", "engine", "attn_dtype", "kv_cache_dtype", "batch_size", "kv_len", "num_heads", "num_key_value_heads",
        "head_dim", "window_size",
    }),
    shape=(
        "batch", "kv_tok", "heads", "kv_heads", "head_dim", "window_tok", "kv_byte", "plain", "peak_flop_s",
        "memory_byte_s", "cores", "cache_byte",
    ),
    parameters=DECODE_PARAMETERS,
    levels=(
        "architecture|engine|variant", "engine|kind|variant", "architecture|engine|kind|variant|head_dim",
        "chip|engine|kind|variant",
    ),
    row_parse=decode_parse,
    source=SOURCE,
    launches=2,  # parts of the sequence, and what adds them up
)  # fmt: skip
