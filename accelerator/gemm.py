"""Matrix products, C[m, n] = A[m, k] B[k, n], and elementwise streams.

Work and traffic, from first principles: every element of C takes k multiply-adds, 2 m n k flop in all. B (weights) is
read once, A (activations) once, C written once in BF16: w n k + a m k + 2 m n byte, with w and a bytes per element of
the formats (scales of 16-element blocks included, for FP4).

Time of a kernel alone (``_roofline_py.gemm``):

    compute = (2 m' n + 2 x 128^2 cores serial_wave) (k + epilogue_k) / (peak compute_ratio)    m' = m padded to a tile
    memory  = byte / bandwidth reached, from cache as far as five copies of the operands fit into it
    run     = quantising + (compute^norm + memory^norm)^(1/norm)
    time    = (run^h + launch^h)^(1/h)                                                             h = 1 + hide

m is padded to 16 rows up to 64 and to 64 beyond. ``serial_wave`` is the tail: a last wave of 128 x 128 tiles that does
not fill the chip. ``epilogue_k`` is a tile's start and end, as if k were that much longer. Formats that quantise
activations on the fly pay for reading and writing them. Inside a serving step the cache holds nothing of a layer's
weights any more, and a captured graph leaves little of the launch (``efficiency.graph_launch_s``).

A stream (norms, activation functions) reads and writes bytes at the bandwidth that matrix products reach.
"""

from collections.abc import Mapping
from dataclasses import dataclass
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
    engine_usual,
    joined,
    kernels_slug,
    peak_flop_s,
    row_chip,
    row_number,
)
from accelerator.pooling import Parameter


@dataclass(frozen=True, slots=True)
class Format:
    """A format of a matrix product: its arithmetic, byte per weight and per activation, quantised on the fly."""

    computes: str
    weight_byte: float
    activation_byte: float
    quantises: bool


FORMATS: Mapping[str, Format] = MappingProxyType({
    "bf16": Format("bf16", 2, 2, quantises=False),
    "fp8": Format("fp8", 1, 1, quantises=True),
    "fp8_block": Format("fp8", 1, 1, quantises=True),  # DeepSeek's scales per 128 x 128 block
    "int8": Format("int8", 1, 1, quantises=True),
    "fp4": Format("fp4", 0.5625, 0.5625, quantises=True),  # NVFP4: an FP8 scale per 16 elements
    "int8_wo": Format("bf16", 1, 2, quantises=False),
    "int4": Format("bf16", 0.5, 2, quantises=False),
})  # fmt: skip

DTYPES: Mapping[str, str] = MappingProxyType({
    "bfloat16": "bf16", "bf16": "bf16", "fp16": "bf16", "float16": "bf16", "half": "bf16", "fp8": "fp8",
    "fp8_block": "fp8_block", "sq": "int8", "w8a8_dynamic": "int8", "int8": "int8", "int8_wo": "int8_wo",
    "int4_wo": "int4", "nvfp4": "fp4",
})  # fmt: skip
"""Format by the ``dtype`` of a kernel file."""

PARAMETERS = (
    Parameter("launch_s", "s", "launch latency of the kernels of one product", 4e-6, 0.5, 0.3),
    Parameter("compute_ratio", "1", "share of the dense peak in the main loop", 0.75, 0.3, 0.15),
    Parameter("memory_ratio", "1", "share of the memory bandwidth reached", 0.8, 0.2, 0.1),
    Parameter("serial_wave", "1", "tail: waves of 128 x 128 tiles beyond the full ones", 0.25, 1.0, 0.4),
    Parameter("epilogue_k", "1", "start and end of a tile, in elements of k", 120, 1.0, 0.4),
    Parameter("quant_byte", "byte", "memory traffic per activation that is quantised on the fly", 3, 1.0, 0.5),
    Parameter("core_byte_s", "byte/s", "rate at which one core reads the last-level cache", 30e9, 0.5, 0.3),
    Parameter("hide", "1", "exponent, less 1, of the overlap of launching and running", 0.3, 0.7, 0.6, (0, 2, 3, 4)),
    Parameter("odd_ratio", "1", "launch added, as a share, if m is no multiple of 4", 0.05, 1.0, 0.6, (2, 3, 4)),
    Parameter("norm", "1", "exponent of the overlap of computing and reading", 2.7, 0.5, 0.3),
)

SOURCE = (
    "ai-dynamo/aiconfigurator@095f58a, hudingyi688/aiconfigurator-npu@90d7765, microsoft/vidur@7d47513 data/profiling, "
    "FlagOpen/FlagPerf@1b5a030"
)


def gemm_members(chip: ChipSpec, engine: str, kind: str) -> tuple[str, ...]:
    """Return the members of a cell: what pools with what."""
    return (
        chip.architecture,
        kernels_slug(chip),
        joined(engine, kind),
        joined(chip.architecture, engine, kind),
        joined(kernels_slug(chip), engine, kind),
    )


def gemm_shape(
    chip: ChipSpec, kind: str, *, rows: float, width: float, depth: float, odd: bool = False, cold: bool = True
) -> tuple[float, ...]:
    """Return the shape of a product of so many rows, width n and depth k; cold inside a step, warm in a benchmark."""
    made = FORMATS[kind]
    return (
        rows, width, depth, made.weight_byte, made.activation_byte, float(made.quantises), float(odd),
        peak_flop_s(chip, made.computes), chip.memory_byte_s.value, cores_of(chip),
        COLD_CACHE_BYTE if cold else cache_byte_of(chip),
    )  # fmt: skip


def stream_shape(chip: ChipSpec, byte: float) -> tuple[float, ...]:
    """Return the shape of elementwise work that reads and writes so many bytes."""
    return byte, chip.memory_byte_s.value


def row_parse(row: Mapping[str, str], chips: Chips = None) -> KernelRow:
    """Return a row of a gemm file."""
    if row["dtype"].lower() not in DTYPES:
        raise KernelRowError(f'dtype "{row["dtype"]}" is not known; known are {", ".join(DTYPES)}')
    chip, kind = row_chip(row["chip"], chips), DTYPES[row["dtype"].lower()]
    m, n, k = (row_number(row, name) for name in "mnk")
    return KernelRow(
        shape=gemm_shape(chip, kind, rows=m, width=n, depth=k, odd=m % 4 != 0, cold=False),
        members=gemm_members(chip, engine_of(row["engine"]), kind),
        group=f"{n:g},{k:g}",
    )


def microbench_parse(row: Mapping[str, str], chips: Chips = None) -> tuple[KernelRow, float] | None:
    """Return a row of a microbenchmark file as a product and its time [s]; None for what is no matrix or memory test.

    A product's rate is taken as that of 8192 x 8192 x 8192, a memory bandwidth as a matrix-vector product of 2 GiB.
    """
    metric, value, chip = row["metric"], row_number(row, "value", 1e-9), row_chip(row["chip"], chips)
    size, thin = 8192.0, 32768.0
    kinds = {"fp16": "bf16", "bf16": "bf16", "int8": "int8"}
    if metric == "memory_bandwidth":
        kind, shape = "bf16", gemm_shape(chip, "bf16", rows=1, width=thin, depth=thin, cold=False)
        time_s = (2 * thin**2 + 4 * thin) / (value * 1e9)
    elif metric.startswith("gemm_") and metric.split("_")[1] in kinds:
        kind = kinds[metric.split("_")[1]]
        shape = gemm_shape(chip, kind, rows=size, width=size, depth=size, cold=False)
        rate = value * peak_flop_s(chip, kind) if metric.endswith("fraction_of_peak") else value * 1e12
        time_s = 2 * size**3 / rate
    else:
        return None
    return KernelRow(shape, gemm_members(chip, engine_usual(chip), kind), "microbench"), time_s


GEMM = Family(
    name="gemm",
    code=1,
    columns=frozenset({"chip", "engine", "dtype", "m", "n", "k"}),
    shape=(
        "rows", "width", "depth", "weight_byte", "activation_byte", "quantises", "odd", "peak_flop_s", "memory_byte_s",
        "cores", "cache_byte",
    ),
    parameters=PARAMETERS,
    levels=(
        "architecture", "chip", "engine|format", "architecture|engine|format", "chip|engine|format",
    ),
    row_parse=row_parse,
    source=SOURCE,
    launches=1,
)  # fmt: skip
