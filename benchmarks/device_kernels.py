"""Measure GEMM, attention, memory and link rates of whatever device PyTorch sees; needs this file and PyTorch only.

    python device_kernels.py --out results_of_my_chip [--device npu] [--chip Ascend-910B] [--quick | --seconds 1200]

writes `gemm.csv.gz`, `attention_prefill.csv.gz`, `attention_decode.csv.gz`, with several devices `collectives.csv.gz`,
and `microbench.csv`. One row is one measurement; a shape that does not fit, would take too long, or fails is named on
stderr with the reason and leaves no row. Rows are on disk as they come and shapes are drawn so that any first part of a
run covers every regime: it may be broken off. Runs on Python 3.9 and later.

How to read the numbers:

- A latency is the median of at least three groups of equal calls, after calls that are not counted: by device events
  where the device has them, else by the wall clock up to a synchronised device. It is a call as PyTorch makes it: where
  the host issues calls more slowly than the device executes them (`host_launch_latency`), it is the host that is seen.
- `source` says `cold` where weights, keys and values rotate over copies that exceed the last cache, and `hot` (--hot)
  where one copy is used again and again. Activations, outputs and queries are one copy always.
- GEMM is activation [m,k] by weight [n,k] transposed, as a linear layer keeps it; fp8 (e4m3, one scale per tensor) and
  int8 (into int32) are the bare product: quantising the activation is not in it.
- Keys and values lie as [batch, kv head, token, head_dim], contiguous, not paged. Prefill uses grouped heads where
  PyTorch offers them (else keys and values are repeated beforehand and `source` says `repeated`). With past tokens the
  causal triangle ends at the last token: PyTorch's lower-right bias on cuda and xpu; elsewhere a boolean mask made
  beforehand, and `source` says `masked`.
- Decode folds the query heads of one kv head into the query length, which is the same sum without a mask.
- `message_bytes` is the larger buffer of one rank. `send_recv` sends to the next rank while receiving from the one
  before. Bus bandwidth is counted as in nccl-tests, one direction. All ranks are on this machine. `engine_version` is
  PyTorch's here too.
"""

from __future__ import annotations

import argparse
import csv
import gzip
import importlib
import io
import itertools
import math
import multiprocessing
import os
import platform
import queue
import random
import statistics
import sys
import tempfile
import time
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any

MIB, GIB = 2**20, 2**30
SOURCE = "device_kernels.py"

_WHO = ("chip", "engine", "engine_version", "source")
TABLES = {
    "gemm.csv.gz": (*_WHO, "dtype", "m", "n", "k", "latency_ms"),
    "attention_prefill.csv.gz": (
        *(*_WHO, "attn_dtype", "kv_cache_dtype", "batch_size", "new_tokens", "past_tokens"),
        *("num_heads", "num_key_value_heads", "head_dim", "window_size", "latency_ms"),
    ),
    "attention_decode.csv.gz": (
        *(*_WHO, "attn_dtype", "kv_cache_dtype", "batch_size"),
        *("num_heads", "num_key_value_heads", "head_dim", "window_size", "latency_ms", "kv_len"),
    ),
    "collectives.csv.gz": (
        *("chip", "library", "engine_version", "source", "collective", "dtype", "num_gpus"),
        *("message_bytes", "latency_ms", "devices_per_node"),
    ),
    "microbench.csv": ("chip", "metric", "value", "unit", "conditions", "source"),
}

DTYPES = {  # our name: PyTorch's name, byte per element
    "bfloat16": ("bfloat16", 2),
    "fp16": ("float16", 2),
    "fp32": ("float32", 4),
    "fp8": ("float8_e4m3fn", 1),
    "int8": ("int8", 1),
}
PRODUCTS = {"fp8": "_scaled_mm", "int8": "_int_mm"}  # the function of torch; torch.mm for the others
PLUGINS = {"npu": "torch_npu", "mlu": "torch_mlu", "musa": "torch_musa", "gcu": "torch_gcu"}  # made by the chip's maker
KINDS = ("cuda", "xpu", *PLUGINS, "mps", "cpu")  # in the order in which they are looked for
BACKENDS = {"cuda": "nccl", "xpu": "xccl", "npu": "hccl", "mlu": "cncl", "musa": "mccl", "gcu": "eccl", "cpu": "gloo"}

MODELS = {  # hidden, ffn, query heads, kv heads, head_dim, vocabulary: config.json of each on the Hugging Face hub
    "Llama-3.1-8B": (4096, 14336, 32, 8, 128, 128256),
    "Llama-3.1-70B": (8192, 28672, 64, 8, 128, 128256),
    "Llama-2-13B": (5120, 13824, 40, 40, 128, 32000),
    "Qwen2.5-7B": (3584, 18944, 28, 4, 128, 152064),
    "Qwen2.5-72B": (8192, 29568, 64, 8, 128, 152064),
    "Qwen3-8B": (4096, 12288, 32, 8, 128, 151936),
    "Qwen3-32B": (5120, 25600, 64, 8, 128, 151936),
    "gemma-2-9b": (3584, 14336, 16, 8, 256, 256000),
    "gpt-oss-120b": (2880, 2880, 64, 8, 64, 201088),
}
SHARDS = (1, 2, 4, 8)  # cards that share a layer
M = (1, 2, 3, 4, 5, 8, 12, 16, 24, 32, 33, 48, 64, 80, 96, 128, 160, 192, 256, 384, 512, 768, 1024, 1536, 2048, 3072)
ROWS_M = (*M, 4096, 6144, 8192)
NEW_TOKENS = (16, 32, 64, 128, 256, 512, 1024, 1536, 2048, 3072, 4096, 6144, 8192, 16384)
PAST_TOKENS = (0, 0, 0, 512, 2048, 8192, 32768)  # most prompts start at nothing
KV_LEN = (16, 64, 128, 256, 512, 1024, 2048, 4096, 8192, 16384, 32768, 65536, 131072)
COLLECTIVES = ("all_reduce", "all_gather", "reduce_scatter", "alltoall", "send_recv")

CALLS_LEAST = 5  # a first call, a second one to see how long it takes, three that count
START_S = 120.0  # processes that have no first result by now will have none: each imports PyTorch and meets the others
GROUP_S = 0.005  # calls timed together last this long at least: reading a clock costs microseconds
FAILURES = (RuntimeError, NotImplementedError, TypeError, ValueError, AttributeError, MemoryError)  # torch raises these


# --- shapes: what is measured, and in which order ---------------------------------------------------------------------
@dataclass(frozen=True)
class Gemm:
    """C[m,n] = A[m,k] B[n,k]^T."""

    dtype: str
    m: int
    n: int
    k: int

    table = "gemm.csv.gz"

    @property
    def flop(self) -> float:
        """Two per multiply-add. [flop]"""
        return 2.0 * self.m * self.n * self.k

    @property
    def rotated_byte(self) -> int:
        """One copy of what is rotated: the weight. [byte]"""
        return self.n * self.k * DTYPES[self.dtype][1]

    def room_byte(self, *, fused: bool) -> int:
        """Everything else that must fit: activation and output. [byte]"""
        return self.m * self.k * DTYPES[self.dtype][1] + self.m * self.n * 4

    def stratum(self) -> tuple[object, ...]:
        """Regime of the shape."""
        return self.dtype, _level(self.m, 8, 64, 512, 2048), _level(self.n * self.k, 4 * MIB, 32 * MIB)

    def columns(self) -> dict[str, object]:
        """Its part of a row."""
        return asdict(self)


@dataclass(frozen=True)
class Attention:
    """Causal attention of `batch_size` x `new_tokens` after `past_tokens`; one new token is a decode step."""

    dtype: str
    batch_size: int
    new_tokens: int
    past_tokens: int
    num_heads: int
    num_key_value_heads: int
    head_dim: int

    @property
    def decode(self) -> bool:
        """Whether it goes into the decode table."""
        return self.new_tokens == 1

    @property
    def table(self) -> str:
        """Its file."""
        return "attention_decode.csv.gz" if self.decode else "attention_prefill.csv.gz"

    @property
    def kv_len(self) -> int:
        """Tokens that the last query sees; in a decode step all are in the cache already. [tok]"""
        return self.past_tokens if self.decode else self.past_tokens + self.new_tokens

    @property
    def flop(self) -> float:
        """Scores and values of the pairs that the causal triangle keeps. [flop]"""
        pairs = self.kv_len if self.decode else self.new_tokens * (self.past_tokens + (self.new_tokens + 1) / 2)
        return 4.0 * self.batch_size * self.num_heads * self.head_dim * pairs

    @property
    def rotated_byte(self) -> int:
        """One copy of what is rotated: keys and values. [byte]"""
        return 2 * math.prod(self.kv_shape) * DTYPES[self.dtype][1]

    @property
    def kv_shape(self) -> tuple[int, int, int, int]:
        """Keys, and values alike."""
        return self.batch_size, self.num_key_value_heads, self.kv_len, self.head_dim

    def room_byte(self, *, fused: bool) -> int:
        """Everything else that must fit: queries, outputs, and where no fused kernel is certain the scores. [byte]"""
        queries = self.batch_size * self.num_heads * self.new_tokens
        mask = self.new_tokens * self.kv_len
        repeats = self.num_heads // self.num_key_value_heads
        scores = 0 if fused else queries * self.kv_len * 8 + 2 * repeats * self.rotated_byte
        return 2 * queries * self.head_dim * DTYPES[self.dtype][1] + mask + scores

    def stratum(self) -> tuple[object, ...]:
        """Regime of the shape."""
        length = _level(self.kv_len if self.decode else self.new_tokens, 128, 1024, 4096, 16384)
        return self.dtype, length, _level(self.batch_size, 1, 8, 64), self.past_tokens > 0

    def columns(self) -> dict[str, object]:
        """Its part of a row."""
        row: dict[str, object] = asdict(self)
        row["attn_dtype"] = row["kv_cache_dtype"] = row.pop("dtype")
        row["window_size"] = 0
        if self.decode:
            del row["new_tokens"], row["past_tokens"]
            row["kv_len"] = self.kv_len
        return row


Shape = Any  # Gemm or Attention


def gemm_shapes(dtypes: Sequence[str], *, count: int, rng: random.Random) -> list[Shape]:
    """Layers of real models, whole and shared by cards, with a batch of 1 to 8192 tokens."""
    layers = set()
    for (hidden, ffn, heads, kv_heads, head_dim, vocab), cards in itertools.product(MODELS.values(), SHARDS):
        if heads % cards or kv_heads % cards:
            continue
        layers |= {
            ((heads + 2 * kv_heads) * head_dim // cards, hidden),
            (hidden, heads * head_dim // cards),
            (2 * ffn // cards, hidden),
            (hidden, ffn // cards),
            (vocab // cards, hidden),
        }
    layers = {(n, k) for n, k in layers if n >= 256 and k >= 256}
    every = [Gemm(dtype, m, n, k) for dtype in dtypes for m in ROWS_M for n, k in sorted(layers)]
    return stratified(every, count=count, rng=rng)


def prefill_shapes(dtypes: Sequence[str], *, count: int, rng: random.Random) -> list[Shape]:
    """Prompts of 16 to 16384 tokens, alone and in batches of at most 128 Ki tokens."""
    every = [
        Attention(dtype, batch, new, past, *heads)
        for dtype, batch, new, past in itertools.product(dtypes, (1, 2, 4, 8, 16, 32, 64), NEW_TOKENS, PAST_TOKENS)
        for heads in _heads()
        if batch * (new + past) <= 131072
    ]
    return stratified(every, count=count, rng=rng)


def decode_shapes(dtypes: Sequence[str], *, count: int, rng: random.Random) -> list[Shape]:
    """One new token for 1 to 1024 sequences of 16 to 131072 tokens, at most 4 Mi cached tokens."""
    batches = [2**i for i in range(11)]
    every = [
        Attention(dtype, batch, 1, kv_len, *heads)
        for dtype, batch, kv_len in itertools.product(dtypes, batches, KV_LEN)
        for heads in _heads()
        if batch * kv_len <= 4 * MIB
    ]
    return stratified(every, count=count, rng=rng)


def stratified(shapes: Iterable[Shape], *, count: int, rng: random.Random) -> list[Shape]:
    """Draw at random, one of each regime in turn, so that every first part of the list covers the regimes alike."""
    strata = defaultdict(list)
    for shape in dict.fromkeys(shapes):
        strata[shape.stratum()].append(shape)
    drawn = [rng.sample(members, len(members)) for _, members in sorted(strata.items())]
    rng.shuffle(drawn)
    return list(itertools.islice(interleaved(*drawn), count))


def interleaved(*lists: Iterable[Shape]) -> Iterator[Shape]:
    """Take one of each list in turn until all are empty."""
    absent = object()
    for turn in itertools.zip_longest(*lists, fillvalue=absent):
        yield from (shape for shape in turn if shape is not absent)


def message_sizes(most_byte: int) -> list[int]:
    """Powers of two from 512 byte, the whole range first and then what lies between. [byte]"""
    sizes = [2**i for i in range(9, 30) if 2**i <= most_byte]
    return [*sizes[::4], *sizes[2::4], *sizes[1::2]]


def _heads() -> list[tuple[int, int, int]]:
    """Query heads, kv heads and head_dim that one card holds; kv heads are repeated when there are too few of them."""
    return sorted(
        {
            (heads // cards, max(1, kv_heads // cards), head_dim)
            for _, _, heads, kv_heads, head_dim, _ in MODELS.values()
            for cards in SHARDS
            if heads % cards == 0 and (heads // cards) % max(1, kv_heads // cards) == 0
        }
    )


def _level(value: float, *bounds: float) -> int:
    return sum(value > bound for bound in bounds)


# --- limits: what is skipped, and why ---------------------------------------------------------------------------------
class Budget:
    """Seconds that a run may last, and the share of them that one shape may take."""

    def __init__(self, seconds: float, *, clock: Callable[[], float] = time.monotonic) -> None:
        self.seconds, self.shape_s = seconds, seconds / 60
        self._clock, self._start_s = clock, clock()

    @property
    def spent_s(self) -> float:
        """Since the start. [s]"""
        return self._clock() - self._start_s

    @property
    def left_s(self) -> float:
        """Until the end, not below nothing. [s]"""
        return max(0.0, self.seconds - self.spent_s)


class Pace:
    """How long a call will take: the roofline of the rates measured first, times what recent calls of its kind took."""

    def __init__(self, *, byte_s: float, launch_s: float, flop_s: dict[str, float]) -> None:
        self._byte_s, self._launch_s, self._flop_s = byte_s, launch_s, flop_s
        self._excess: dict[tuple[str, str], list[float]] = defaultdict(list)

    def expected_s(self, shape: Shape) -> float:
        """Expect the next call of this shape to take this long. [s]"""
        recent = self._excess[shape.table, shape.dtype][-9:]
        return self._bound_s(shape) * (statistics.median(recent) if recent else 1.0)

    def learn(self, shape: Shape, measured_s: float) -> None:
        """Remember what a call of this shape took."""
        self._excess[shape.table, shape.dtype].append(measured_s / self._bound_s(shape))

    def _bound_s(self, shape: Shape) -> float:
        moved_s = (shape.rotated_byte + shape.room_byte(fused=True)) / self._byte_s
        return self._launch_s + max(shape.flop / self._flop_s[shape.dtype], moved_s)


class TooSlowError(Exception):
    """A call takes so long that its shape is given up."""

    def __init__(self, call_s: float) -> None:
        super().__init__(f"one call takes {call_s:.3g} s, too long for the time that one shape may take")
        self.call_s = call_s


def skip_reason(shape: Shape, *, pool_byte: int, room_byte: int, fused: bool, expected_s: float, limit_s: float) -> str:
    """Say why a shape is not tried; an empty text if it is."""
    if shape.rotated_byte > pool_byte:
        return f"weight or cache of {shape.rotated_byte / GIB:.2g} GiB, {pool_byte / GIB:.2g} GiB allowed"
    if shape.room_byte(fused=fused) > room_byte:
        return f"activations of {shape.room_byte(fused=fused) / GIB:.2g} GiB, {room_byte / GIB:.2g} GiB allowed"
    if expected_s * CALLS_LEAST > limit_s:
        return f"would take {expected_s * CALLS_LEAST:.3g} s, {limit_s:.3g} s allowed"
    return ""


def copies_count(copy_byte: int, *, rotation_byte: int, pool_byte: int, hot: bool) -> int:
    """Copies to rotate over: as many as exceed the cache and fit the pool; one when hot."""
    if hot:
        return 1
    return max(1, min(math.ceil(rotation_byte / copy_byte), pool_byte // copy_byte))


# --- files ------------------------------------------------------------------------------------------------------------
class Table:
    """One csv file, begun with its first row. Every row is a gzip member of its own: the file is always whole."""

    def __init__(self, folder: Path, name: str) -> None:
        self.path, self.columns, self.rows = folder / name, TABLES[name], 0

    def write(self, row: dict[str, object]) -> None:
        """Append one row; it must have exactly the columns of the file."""
        if set(row) != set(self.columns):
            raise ValueError(
                f"{self.path.name}: columns {sorted(set(row) ^ set(self.columns))} are missing or too many"
            )
        if not self.rows:
            self._append(self.columns)
        self._append([row[name] for name in self.columns])
        self.rows += 1

    def _append(self, values: Iterable[object]) -> None:
        text = io.StringIO()
        csv.writer(text, lineterminator="\n").writerow(values)
        data = text.getvalue().encode()
        with self.path.open("ab") as file:
            file.write(gzip.compress(data) if self.path.suffix == ".gz" else data)


class Console:
    """What the operator sees: a line that changes, on a terminal; skips, anywhere; counts, at the end."""

    def __init__(self, budget: Budget, stream: Any = None) -> None:
        self._budget, self._stream = budget, stream or sys.stderr
        self._live = self._stream.isatty()
        self.rows, self.skips = 0, Counter()

    def progress(self, what: str) -> None:
        """Show what is measured now, if somebody looks."""
        if self._live:
            at = f"{self._budget.spent_s:4.0f} of {self._budget.seconds:.0f} s"
            self._stream.write(f"\r\033[K{at}, {self.rows} rows, {sum(self.skips.values())} skipped: {what}"[:160])
            self._stream.flush()

    def skip(self, what: str, reason: object, *, kind: str = "failed") -> None:
        """Say what leaves no row, and why."""
        self.skips[kind] += 1
        first = str(reason).strip().partition("\n")[0]
        name = f"{type(reason).__name__}: " if isinstance(reason, Exception) else ""
        self._stream.write(f"{self.clear}skipped {what}: {name}{first}\n")

    @property
    def clear(self) -> str:
        """Take the line away that changes."""
        return "\r\033[K" if self._live else ""


# --- device -----------------------------------------------------------------------------------------------------------
def torch_import() -> Any:
    """PyTorch, imported when a run begins: shapes, files and limits can be looked at without it."""
    return importlib.import_module("torch")


def device_choose(torch: Any, wanted: str = "auto") -> str:
    """Return the kind of device to measure, `auto` the first that is there; load the plugin of its maker if need be."""
    for kind in KINDS if wanted == "auto" else (wanted,):
        if kind in PLUGINS:
            try:
                importlib.import_module(PLUGINS[kind])
            except ImportError as error:
                if kind == wanted:
                    raise SystemExit(f"--device {kind} needs {PLUGINS[kind]}: {error}") from error
                continue
        face = getattr(torch.backends if kind == "mps" else torch, kind, None)
        if kind == "cpu" or (face is not None and face.is_available()):
            return kind
    raise SystemExit(f"PyTorch {torch.__version__} sees no {wanted} device")


class Device:
    """One device as the rest of this file sees it: its name, its memory, its clock."""

    def __init__(self, torch: Any, kind: str) -> None:
        self.torch, self.kind = torch, kind
        self._face = getattr(torch, kind, None)
        self._events = kind not in ("cpu", "mps") and hasattr(self._face, "Event")

    @property
    def name(self) -> str:
        """As its driver calls it."""
        if hasattr(self._face, "get_device_name"):
            return self._face.get_device_name(0)
        return _cpu_name()

    @property
    def count(self) -> int:
        """Devices of this kind; one CPU."""
        return 1 if self.kind in ("cpu", "mps") else self._face.device_count()

    @property
    def fused(self) -> bool:
        """Whether attention that exceeds memory fails with an error; on a CPU the process would be killed instead."""
        return self.kind != "cpu"

    def free_byte(self) -> int:
        """Memory that may still be taken. [byte]"""
        if self.kind == "cpu":
            return _cpu_free_byte()
        if self.kind == "mps":
            return self._face.recommended_max_memory() - self._face.driver_allocated_memory()
        if hasattr(self._face, "mem_get_info"):
            return self._face.mem_get_info()[0]
        return self._face.get_device_properties(0).total_memory

    def rotation_byte(self) -> int:
        """What exceeds the last cache: three times a CPU's; 1 GiB on an accelerator, none holds 0.3 GiB. [byte]"""
        return 3 * _cpu_cache_byte() if self.kind == "cpu" else GIB

    def synchronize(self) -> None:
        """Wait until the device has done what it was told."""
        if self.kind != "cpu":
            self._face.synchronize()

    def release(self) -> None:
        """Give cached memory back, after a shape that did not fit."""
        if hasattr(self._face, "empty_cache"):
            self._face.empty_cache()

    def group_s(self, calls: Iterator[Callable[[], object]], count: int) -> float:
        """Time of this many calls together. [s]"""
        if self._events:
            start, stop = self._face.Event(enable_timing=True), self._face.Event(enable_timing=True)
            start.record()
            for _ in range(count):
                next(calls)()
            stop.record()
            stop.synchronize()
            return start.elapsed_time(stop) / 1e3
        self.synchronize()
        start_s = time.perf_counter()
        for _ in range(count):
            next(calls)()
        self.synchronize()
        return time.perf_counter() - start_s

    def call_s(self, calls: Sequence[Callable[[], object]], *, limit_s: float) -> float:
        """Median time of one call; the calls take turns. [s]"""
        turns = itertools.cycle(calls)
        self.group_s(turns, 1)  # compiles, allocates, picks an algorithm
        once_s = max(self.group_s(turns, 1), 1e-7)
        if once_s * (CALLS_LEAST - 2) > limit_s:
            raise TooSlowError(once_s)
        group = max(1, min(1000, math.ceil(GROUP_S / once_s)))
        if group > 1:
            self.group_s(turns, group)  # not counted: short calls need more of a warm-up
        groups = max(3, min(15, int(min(limit_s, 0.5) / (group * once_s))))
        return statistics.median(self.group_s(turns, group) for _ in range(groups)) / group

    def filled(self, dtype: str, elements: int) -> Any:
        """A flat tensor of random values; a block of 4 Mi of them is repeated, for drawing each would take longer."""
        torch = self.torch
        block = torch.randn(min(elements, 4 * MIB), device=self.kind)
        block = (
            (block * 30).clamp(-127, 127).to(torch.int8) if dtype == "int8" else block.to(_torch_dtype(torch, dtype))
        )
        out = torch.empty(elements, dtype=block.dtype, device=self.kind)
        for start in range(0, elements, 4 * MIB):
            piece = out[start : start + 4 * MIB]
            piece.copy_(block[: piece.numel()])
        return out


class Pool:
    """One buffer per type from which copies of a tensor are cut, so that no shape pays for filling its own."""

    def __init__(self, device: Device, *, pool_byte: int, hot: bool) -> None:
        self.device, self.pool_byte, self.hot = device, pool_byte, hot
        self._rotation_byte = device.rotation_byte()
        self._buffers: dict[str, Any] = {}

    def views(self, dtype: str, shape: tuple[int, ...], *, per_copy: int = 1) -> list[Any]:
        """Tensors of one shape that share no byte; `per_copy` of them are used together by one call."""
        elements = math.prod(shape)
        copy_byte = per_copy * elements * DTYPES[dtype][1]
        count = per_copy * copies_count(
            copy_byte, rotation_byte=self._rotation_byte, pool_byte=self.pool_byte, hot=self.hot
        )
        step = math.ceil(elements / 256) * 256  # kernels like their tensors aligned
        buffer = self._buffer(dtype, step * count)
        return [buffer[i * step : i * step + elements].view(shape) for i in range(count)]

    def clear(self) -> None:
        """Give everything back."""
        self._buffers.clear()
        self.device.release()

    def _buffer(self, dtype: str, elements: int) -> Any:
        held = self._buffers.get(dtype)
        if held is None or held.numel() < elements:
            wanted = elements if held is None else max(elements, min(2 * held.numel(), self._most(dtype)))
            del held
            self._buffers.pop(dtype, None)
            self._buffers[dtype] = self.device.filled(dtype, wanted)
        return self._buffers[dtype]

    def _most(self, dtype: str) -> int:
        return self.pool_byte // DTYPES[dtype][1]


def _torch_dtype(torch: Any, dtype: str) -> Any:
    return getattr(torch, DTYPES[dtype][0])


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = (line.split(":", 1)[1].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _cpu_free_byte() -> int:
    """What Linux calls available, or a quarter of what the machine has; a container may be allowed less. [byte]"""
    try:
        lines = Path("/proc/meminfo").read_text().splitlines()
        free_byte = next(int(line.split()[1]) * 1024 for line in lines if line.startswith("MemAvailable"))
    except (OSError, StopIteration):
        free_byte = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") // 4
    group = Path("/sys/fs/cgroup")
    try:
        most_byte = int((group / "memory.max").read_text())
        return min(free_byte, most_byte - int((group / "memory.current").read_text()))
    except (OSError, ValueError):
        return free_byte


def _cpu_cache_byte() -> int:
    """Last-level caches of all sockets together; 64 MiB where the system does not say. [byte]"""
    caches: dict[tuple[int, str], int] = {}
    try:
        for index in Path("/sys/devices/system/cpu").glob("cpu[0-9]*/cache/index*"):
            level, shared, size = ((index / name).read_text().strip() for name in ("level", "shared_cpu_list", "size"))
            caches[int(level), shared] = int(size.rstrip("K")) * 1024
    except (OSError, ValueError):
        return 64 * MIB
    last = max((level for level, _ in caches), default=0)
    return sum(size for (level, _), size in caches.items() if level == last) or 64 * MIB


# --- calls: what one measurement executes -----------------------------------------------------------------------------
def gemm_calls(pool: Pool, shape: Gemm) -> tuple[list[Callable[[], object]], str]:
    """One product per copy of the weight, and a remark."""
    device, torch = pool.device, pool.device.torch
    a = device.filled(shape.dtype, shape.m * shape.k).view(shape.m, shape.k)
    weights = [weight.t() for weight in pool.views(shape.dtype, (shape.n, shape.k))]
    if shape.dtype == "fp8":
        one = torch.ones((), dtype=torch.float32, device=device.kind)
        product = partial(
            getattr(torch, PRODUCTS["fp8"]), a, scale_a=one, scale_b=one, out_dtype=torch.bfloat16
        )  # scales are keywords since PyTorch 2.5; before that the call fails and is reported
    elif shape.dtype == "int8":
        product = partial(getattr(torch, PRODUCTS["int8"]), a)
    else:
        product = partial(torch.mm, a, out=torch.empty(shape.m, shape.n, dtype=a.dtype, device=device.kind))
    return [partial(product, weight) for weight in weights], ""


def attention_calls(pool: Pool, shape: Attention) -> tuple[list[Callable[[], object]], str]:
    """One attention per copy of keys and values, and a remark."""
    device, torch = pool.device, pool.device.torch
    tensors = pool.views(shape.dtype, shape.kv_shape, per_copy=2)
    keys, values = tensors[::2], tensors[1::2]
    batch, kv_heads, _, head_dim = shape.kv_shape
    group = shape.num_heads // kv_heads
    folded = (
        (batch, kv_heads, group, head_dim) if shape.decode else (batch, shape.num_heads, shape.new_tokens, head_dim)
    )
    query = device.filled(shape.dtype, math.prod(folded)).view(folded)
    attend, remark = partial(torch.nn.functional.scaled_dot_product_attention, query), ""
    if not shape.decode and shape.past_tokens:
        mask, remark = _lower_right(device, shape)
        attend = partial(attend, attn_mask=mask)
    elif not shape.decode:
        attend = partial(attend, is_causal=True)
    if group > 1 and not shape.decode:
        if _knows_groups(torch):
            attend = partial(attend, enable_gqa=True)
        else:
            keys, values = ([x.repeat_interleave(group, 1) for x in kv[:1]] for kv in (keys, values))
            remark += " repeated"
    return [partial(attend, keys[i], values[i]) for i in range(len(keys))], remark


def _lower_right(device: Device, shape: Attention) -> tuple[Any, str]:
    """Mask under which the last query sees everything."""
    torch = device.torch
    if device.kind in ("cuda", "xpu"):
        try:
            bias = importlib.import_module("torch.nn.attention.bias")
            return bias.causal_lower_right(shape.new_tokens, shape.kv_len), ""
        except ImportError:
            pass  # before PyTorch 2.3
    ones = torch.ones(shape.new_tokens, shape.kv_len, dtype=torch.bool, device=device.kind)
    return ones.tril(shape.past_tokens), " masked"


def _knows_groups(torch: Any) -> bool:
    return "enable_gqa" in (torch.nn.functional.scaled_dot_product_attention.__doc__ or "")


# --- measurements -----------------------------------------------------------------------------------------------------
@dataclass
class Run:
    """What the measurements share."""

    device: Device
    pool: Pool
    budget: Budget
    console: Console
    tables: dict[str, Table]
    chip: str
    room_byte: int

    @property
    def engine_version(self) -> str:
        """Version of PyTorch."""
        return self.device.torch.__version__

    def write(self, table: str, row: dict[str, object]) -> None:
        """Append a row and count it."""
        self.tables[table].write({"chip": self.chip, **row})
        self.console.rows += 1

    def micro(self, metric: str, value: float, unit: str, conditions: str) -> float:
        """Append a row to microbench.csv and return its value."""
        row = {"metric": metric, "value": f"{value:.6g}", "unit": unit, "conditions": conditions, "source": SOURCE}
        self.write("microbench.csv", row)
        return value


def memory_measure(run: Run) -> float:
    """Rate at which memory is read while nothing is computed or written: the better of two ways. [byte/s]"""
    device, torch = run.device, run.device.torch
    byte = min(run.room_byte // 4, max(run.device.rotation_byte() * 2, 512 * MIB))
    x = device.filled("fp32", byte // 4)
    y = torch.empty_like(x)
    size = f"{byte / MIB:.0f} MiB fp32"
    copy_s = device.call_s([partial(y.copy_, x)], limit_s=run.budget.shape_s)
    read_s = device.call_s([partial(torch.sum, x)], limit_s=run.budget.shape_s)
    copied = run.micro("memory_bandwidth", 2e-9 * byte / copy_s, "GB/s", f"copy, read and written bytes, {size}")
    read = run.micro("memory_read_bandwidth", 1e-9 * byte / read_s, "GB/s", f"sum, {size}")
    return 1e9 * max(copied, read)


def launch_measure(run: Run) -> float:
    """Time for the host to issue a tiny operation. [s]"""
    device, torch = run.device, run.device.torch
    x = torch.zeros(16, device=device.kind)

    def issue_s(calls: int) -> tuple[float, float]:
        device.synchronize()
        start_s = time.perf_counter()
        for _ in range(calls):
            x.add_(1)
        issued_s = time.perf_counter() - start_s
        device.synchronize()
        return issued_s, time.perf_counter() - start_s

    issue_s(100)
    issued_s = statistics.median(issue_s(100)[0] for _ in range(9)) / 100
    run.micro("host_launch_latency", 1e6 * issued_s, "us", "issue of x.add_(1) on 16 elements, not waited for")
    back_s = statistics.median(issue_s(1)[1] for _ in range(99))
    run.micro("host_launch_round_trip", 1e6 * back_s, "us", "the same, issued and waited for")
    return issued_s


def host_link_measure(run: Run) -> None:
    """Rates between the host's memory and the device's."""
    device, torch = run.device, run.device.torch
    if device.kind in ("cpu", "mps"):
        run.console.skip("host_to_device", f"{device.kind} shares the memory of the host", kind="does not apply")
        return
    byte = min(256 * MIB, run.room_byte // 4)
    there = torch.empty(byte, dtype=torch.uint8, device=device.kind)
    here = torch.zeros(byte, dtype=torch.uint8)
    try:
        here, memory = here.pin_memory(), "pinned"
    except FAILURES as error:
        memory = "pageable"
        run.console.skip("pinned host memory", error)
    for metric, target, origin in (("host_to_device", there, here), ("device_to_host", here, there)):
        copy_s = device.call_s([partial(target.copy_, origin, non_blocking=True)], limit_s=run.budget.shape_s)
        run.micro(metric, 1e-9 * byte / copy_s, "GB/s", f"{byte / MIB:.0f} MiB, {memory}")


def peak_measure(run: Run, dtypes: Sequence[str]) -> dict[str, float]:
    """Best rate of large square products; a type that fails here is not measured further. [flop/s]"""
    rates: dict[str, float] = {}
    for dtype in dtypes:
        best, limit_s = (0.0, 0), run.budget.shape_s
        for size in (512, 1024, 2048, 4096, 8192, 16384):
            shape = Gemm(dtype, size, size, size)
            expected_s = shape.flop / best[0] if best[0] else 0.0
            limits = {"pool_byte": run.pool.pool_byte, "room_byte": run.room_byte, "fused": run.device.fused}
            if skip_reason(shape, expected_s=expected_s, limit_s=limit_s, **limits):
                break  # not a skip: the best of the sizes is what is asked for
            run.console.progress(f"peak of {dtype}, {size}")
            try:
                calls, _ = gemm_calls(run.pool, shape)
                best = max(best, (shape.flop / run.device.call_s(calls, limit_s=limit_s), size))
            except (TooSlowError, *FAILURES) as error:
                run.console.skip(f"large GEMM {dtype} {size}", error)
                break
        if best[0]:
            rates[dtype] = best[0]
            unit, name = ("TOP/s" if dtype == "int8" else "TFLOP/s"), dtype.replace("bfloat16", "bf16")
            run.micro(f"gemm_{name}", 1e-12 * best[0], unit, f"single device, best of squares, m=n=k={best[1]}")
    return rates


def shape_measure(run: Run, pace: Pace, shape: Shape) -> None:
    """Measure one shape and write its row, or say why there is none."""
    what = f"{shape.table.partition('.')[0]} " + " ".join(f"{k}={v}" for k, v in shape.columns().items())
    reason = skip_reason(
        shape,
        pool_byte=run.pool.pool_byte,
        room_byte=run.room_byte,
        fused=run.device.fused,
        expected_s=pace.expected_s(shape),
        limit_s=run.budget.shape_s,
    )
    if reason:
        run.console.skip(what, reason, kind="too large" if "GiB" in reason else "too slow")
        return
    run.console.progress(what)
    try:
        calls, remark = (gemm_calls if isinstance(shape, Gemm) else attention_calls)(run.pool, shape)
        call_s = run.device.call_s(calls, limit_s=run.budget.shape_s)
    except TooSlowError as error:
        pace.learn(shape, error.call_s)
        run.console.skip(what, error, kind="too slow")
        return
    except FAILURES as error:
        run.console.skip(what, error)
        run.device.release()
        return
    pace.learn(shape, call_s)
    source = f"{SOURCE} {'hot' if run.pool.hot else 'cold'}{remark}"
    row = {
        "engine": "torch",
        "engine_version": run.engine_version,
        "source": source,
        "latency_ms": f"{1e3 * call_s:.6f}",
    }
    run.write(shape.table, {**row, **shape.columns()})


# --- links: a process per device --------------------------------------------------------------------------------------
def links_measure(run: Run, ranks: int, *, limit_s: float) -> None:
    """Measure the collectives of 2, 4, 8, ... devices, each number in its own processes, until the time is used up."""
    worlds = [2**i for i in range(1, 11) if 2**i <= ranks]
    most_byte = min(512 * MIB if run.device.kind != "cpu" else 64 * MIB, run.room_byte // 8)
    for world in worlds:
        best: dict[str, tuple[float, int]] = {}
        for tag, collective, message_byte, value in _link_results(run, world, most_byte, limit_s / len(worlds)):
            what = f"{collective} of {world}, {message_byte} byte"
            run.console.progress(what)
            if tag == "skip":
                run.console.skip(what, value)
                continue
            row = {"library": BACKENDS[run.device.kind], "engine_version": run.engine_version, "source": SOURCE}
            row |= {"collective": collective, "dtype": "half", "num_gpus": world, "devices_per_node": world}
            run.write("collectives.csv.gz", {**row, "message_bytes": message_byte, "latency_ms": f"{1e3 * value:.6f}"})
            best[collective] = max(best.get(collective, (0.0, 0)), (message_byte / value, message_byte))
        shares = {"all_reduce": ("allreduce_bus_bandwidth", 2 * (world - 1) / world), "send_recv": ("p2p_bandwidth", 1)}
        for collective, (metric, share) in shares.items():
            if collective in best:
                rate, message_byte = best[collective]
                conditions = f"{world} devices of one machine, {message_byte} byte, one direction"
                run.micro(metric, 1e-9 * rate * share, "GB/s", conditions)


def _link_results(run: Run, world: int, most_byte: int, share_s: float) -> Iterator[tuple[str, str, int, Any]]:
    """Start the workers and yield what rank 0 reports; end them, done or not, when their time is over."""
    context = multiprocessing.get_context("spawn")
    results, end_s, started = context.Queue(), time.monotonic() + START_S, False
    with tempfile.TemporaryDirectory() as folder:
        workers = [
            context.Process(target=link_worker, args=(run.device.kind, rank, world, most_byte, folder, results))
            for rank in range(world)
        ]
        for worker in workers:
            worker.start()
        try:
            while True:
                try:
                    result = results.get(timeout=0.5)
                except queue.Empty:
                    if any(worker.exitcode for worker in workers):
                        run.console.skip(f"further collectives of {world}", "a worker ended early, see above")
                        return
                    if time.monotonic() > end_s:
                        run.console.skip(f"further collectives of {world}", "their time is used up", kind="too slow")
                        return
                    continue
                if result is None:
                    return
                if not started:
                    started, end_s = True, time.monotonic() + share_s
                yield result
                if time.monotonic() > end_s:
                    run.console.skip(f"further collectives of {world}", "their time is used up", kind="too slow")
                    return
        finally:
            for worker in workers:
                worker.join(1)
                worker.terminate()
                worker.join()


def link_worker(kind: str, rank: int, world: int, most_byte: int, folder: str, results: Any) -> None:
    """One rank. Rank 0 puts (row or skip, collective, byte, seconds or reason) and, at the end, None."""
    torch = torch_import()
    device = Device(torch, device_choose(torch, kind))
    if kind == "cpu":
        torch.set_num_threads(max(1, (os.cpu_count() or 1) // world))
    else:
        getattr(torch, kind).set_device(rank)
    dist = importlib.import_module("torch.distributed")
    dist.init_process_group(BACKENDS[kind], init_method=f"file://{folder}/meeting", rank=rank, world_size=world)
    for message_byte, collective in itertools.product(message_sizes(most_byte), COLLECTIVES):
        try:
            call = _link_call(dist, device, collective, message_byte)
            tag, value = "row", _link_call_s(dist, device, call, message_byte)
        except FAILURES as error:  # raised by every rank alike: what the library does not offer
            tag, value = "skip", f"{type(error).__name__}: {error}"
        if rank == 0:
            results.put((tag, collective, message_byte, value))
    if rank == 0:
        results.put(None)
    dist.barrier()
    dist.destroy_process_group()


def _link_call(dist: Any, device: Device, collective: str, message_byte: int) -> Callable[[], object]:
    """The call of one rank; newer releases of PyTorch have renamed two of them."""
    torch, rank, world = device.torch, dist.get_rank(), dist.get_world_size()
    here = f"{device.kind}:{rank}" if device.kind != "cpu" else "cpu"
    whole = torch.zeros(max(world, message_byte // 2), dtype=torch.float16, device=here)
    whole = whole[: whole.numel() // world * world]
    part, other = whole[: whole.numel() // world].clone(), whole.clone()
    if collective == "all_reduce":
        return partial(dist.all_reduce, whole)
    if collective == "all_gather":
        return partial(getattr(dist, "all_gather_single", None) or dist.all_gather_into_tensor, whole, part)
    if collective == "reduce_scatter":
        return partial(getattr(dist, "reduce_scatter_single", None) or dist.reduce_scatter_tensor, part, whole)
    if collective == "alltoall":
        return partial(dist.all_to_all_single, other, whole)

    def ring() -> None:
        sends = dist.P2POp(dist.isend, whole, (rank + 1) % world)
        receives = dist.P2POp(dist.irecv, other, (rank - 1) % world)
        for request in dist.batch_isend_irecv([sends, receives]):
            request.wait()

    return ring


def _link_call_s(dist: Any, device: Device, call: Callable[[], object], message_byte: int) -> float:
    """Median of groups whose sizes depend on the message only: every rank must make the same number of calls. [s]"""
    calls = 20 if message_byte <= MIB else 5
    samples_s = []
    for _ in range(2 + 5):
        dist.barrier()
        device.synchronize()
        start_s = time.perf_counter()
        for _ in range(calls):
            call()
        device.synchronize()
        samples_s.append((time.perf_counter() - start_s) / calls)
    return statistics.median(samples_s[2:])


# --- command ----------------------------------------------------------------------------------------------------------
def arguments_parse(argv: Sequence[str] | None = None) -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--out", type=Path, required=True, help="folder for the csv files; must not hold any yet")
    parser.add_argument("--device", choices=("auto", *KINDS), default="auto")
    parser.add_argument("--chip", help="name for the chip column; default: the device's own name")
    parser.add_argument(
        "--seconds", type=float, default=1200.0, help="time budget of the whole run (default %(default)g)"
    )
    parser.add_argument("--quick", action="store_true", help="the same as --seconds 120")
    parser.add_argument("--dtypes", help=f"some of {','.join(DTYPES)}; default: all, fp32 on a CPU only")
    parser.add_argument("--seed", type=int, default=1, help="of the draw of shapes (default %(default)s)")
    parser.add_argument("--hot", action="store_true", help="use one copy of weights, keys and values, out of the cache")
    parser.add_argument("--memory-gib", type=float, help="memory to use at most; default: half of what is free")
    parser.add_argument("--ranks", type=int, help="processes for the collectives; default: one per device")
    chosen = parser.parse_args(argv)
    chosen.dtypes = [name for name in (chosen.dtypes or "").split(",") if name]
    unknown = set(chosen.dtypes) - set(DTYPES)
    if unknown:
        parser.error(f"--dtypes: {', '.join(sorted(unknown))} not among {', '.join(DTYPES)}")
    if not chosen.seconds > 0:
        parser.error("--seconds must be positive")
    held = [name for name in TABLES if (chosen.out / name).exists()]
    if held:
        parser.error(f"{chosen.out} holds {', '.join(held)} of another run")
    return chosen


def shapes_draw(dtypes: Sequence[str], *, seed: int) -> Iterator[Shape]:
    """All shapes of a run: two GEMM, one prefill, one decode in turn. Attention in 16 bit, and fp32 if asked for."""
    rng = random.Random(seed)
    short = [name for name in ("bfloat16", "fp16") if name in dtypes][:1]
    attention = [*short, *(name for name in dtypes if name == "fp32")]
    gemm = gemm_shapes(dtypes, count=2000, rng=rng)
    prefill = prefill_shapes(attention, count=1000, rng=rng)
    decode = decode_shapes(attention, count=1000, rng=rng)
    return interleaved(gemm[::2], prefill, gemm[1::2], decode)


def run_measure(run: Run, dtypes: Sequence[str], *, seed: int, ranks: int) -> None:
    """Rates first, for the rest is planned with them; then links, then shapes until the time is used up."""
    byte_s = memory_measure(run)
    launch_s = launch_measure(run)
    host_link_measure(run)
    flop_s = peak_measure(run, dtypes)
    if ranks > 1:
        links_measure(run, ranks, limit_s=0.15 * run.budget.seconds)
    else:
        run.console.skip("collectives", "one device only", kind="does not apply")
    pace = Pace(byte_s=byte_s, launch_s=launch_s, flop_s=flop_s)
    shapes = shapes_draw([dtype for dtype in dtypes if dtype in flop_s], seed=seed)
    for shape in shapes:
        if not run.budget.left_s:
            left = 1 + sum(1 for _ in shapes)
            run.console.skip(f"{left} further shapes", "the time is used up", kind="not reached")
            return
        shape_measure(run, pace, shape)


def main(argv: Sequence[str] | None = None) -> int:
    """Measure, and print what was measured."""
    chosen = arguments_parse(argv)
    torch = torch_import()
    device = Device(torch, device_choose(torch, chosen.device))
    torch.manual_seed(chosen.seed)
    torch.set_grad_enabled(False)
    usual = ["bfloat16", "fp16", *(["fp32"] if device.kind == "cpu" else []), "fp8", "int8"]
    dtypes = chosen.dtypes or usual
    memory_byte = int(chosen.memory_gib * GIB) if chosen.memory_gib else device.free_byte() // 2
    budget = Budget(120.0 if chosen.quick else chosen.seconds)
    run = Run(
        device=device,
        pool=Pool(device, pool_byte=memory_byte // 2 // len(dtypes), hot=chosen.hot),
        budget=budget,
        console=Console(budget),
        tables={name: Table(chosen.out, name) for name in TABLES},
        chip=chosen.chip or device.name,
        room_byte=memory_byte // 2,
    )
    chosen.out.mkdir(parents=True, exist_ok=True)
    print(f"# {run.chip}: {device.name}, {device.count} x {device.kind}, PyTorch {run.engine_version}")
    print(f"# {', '.join(dtypes)}; {memory_byte / GIB:.1f} GiB; {budget.seconds:g} s; seed {chosen.seed}")
    code = 0
    try:
        run_measure(run, dtypes, seed=chosen.seed, ranks=chosen.ranks or device.count)
    except KeyboardInterrupt:
        code = 130  # as a shell reports it; what was measured is in the files
    print(run.console.clear, end="")
    for table in run.tables.values():
        if table.rows:
            print(f"{table.path}: {table.rows} rows")
    print(f"{budget.spent_s:.0f} s; without a row: {dict(run.console.skips)}")
    return code


if __name__ == "__main__":
    sys.exit(main())
