"""Measured serving points: rows of a table read into what was served, on what, how it was spread and how it was loaded.

A table has the columns of published benchmark collections; what a publisher left out (the layout, a KV precision,
lengths of a standard data set) is filled in by rules that are written here, one each.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec, chip_get
from accelerator.errors import AcceleratorError, TraceError
from accelerator.layouts import Layout, LayoutMaker, Stated, layout_of, padded
from accelerator.naming import model_named

POINTS_MAX_BYTE = 64 * 2**20
"""Largest table read. [byte]"""

COUNT_MOST = 100_000
"""Largest count of chips, nodes or ranks that a row may state."""

TOK_MOST, REQUESTS_MOST = 100_000_000.0, 10_000_000.0
"""Largest length that a row may state [tok], and most users, requests or requests per second."""

POWER_CAP_LEAST = 0.1
"""Smallest power cap over TDP: chips idle above it. [-]"""

HEAD_CHIPS_MOST = 4
"""Chips that may share one attention head. [-]"""

PROBLEMS_TOLD, CELL_TOLD = 20, 40
"""Bad cells that are listed where a table has more, and how much of a cell is quoted. [-], [characters]"""

COLUMNS = frozenset({"point_id", "chip", "chip_count", "model", "engine", "scenario", "metric"})
"""Columns that a table must have; the others may be absent or empty."""


class PointError(AcceleratorError):
    """A row that cannot be modelled; the text is the reason."""


# --- what a row says -------------------------------------------------------------------------------------------------
SCENARIOS: Mapping[str, str] = {
    "closed-loop concurrency": "closed",
    "closed-loop max 32": "closed",
    "low concurrency": "closed",
    "synchronous (1 user)": "closed",
    "single request": "closed",
    "4 sequential prompts": "closed",
    "CI regression baseline": "closed",
    "ShareGPT, saturated": "closed",
    "static batch": "static",
    "static batch decode": "static",
    "static batch, HF generate": "static",
    "prefill only": "static",
    "offline batch of N requests": "static",
    "all requests at once": "burst",
    "offline max load": "full",
    "offline": "full",
    "MLPerf Offline": "full",
    "production decode node": "decode",
    "wide-EP decode": "decode",
    "PD-disaggregated decode": "decode",
    "MLPerf Server": "limited",
    "MLPerf Interactive": "limited",
    "open-loop Poisson/async": "open",
    "open loop": "open",
    "PD-disaggregated prefill": "prefill",
    "wide-EP prefill": "prefill",
    "production prefill node": "prefill",
    "PD-disaggregated": "split",
    "CI regression baseline, PD-disaggregated": "split",
}
"""How load was applied, by how a scenario's name begins (the longest match counts):

closed: N users, each asks again after the answer; static: N requests in, all out; burst: N requests at once; full: a
queue that is never empty; limited: as much as a latency limit allows; decode: the same where other workers read the
prompts; open: requests at a rate; prefill: prompts only; split: N users of separate prefill and decode workers.
"""

PRECISIONS: Mapping[str, str] = {
    "bf16": "bf16", "fp16": "bf16", "fp8": "fp8", "fp8_block": "fp8", "fp8/moe:fp8_block": "fp8", "fp8-weights": "fp8",
    "fp8?": "fp8", "nvfp4": "fp4", "fp4": "fp4", "fp4 weights": "int4", "int4_wo": "int4", "awq-int4": "int4",
    "int4": "int4", "uint4": "int4", "mxfp4": "fp4", "w8a8": "int8", "w8a8c8": "int8", "w8a8sc": "int8",
    "int8": "int8", "int8_wo": "int8_wo", "w4a8": "int4", "w4a16": "int4",
}  # fmt: skip
"""Precision by what publishers call it, in lower case."""

DATASET_LENGTHS: Mapping[str, tuple[float, float]] = {
    "llama-3.1-405b": (9400.0, 653.0),
    "deepseek-r1": (800.0, 3880.0),
    "llama-2-70b": (294.0, 294.0),
    "mixtral-8x7b": (300.0, 145.0),
    "llama-3.1-8b": (780.0, 128.0),
    "gpt-j-6b": (870.0, 69.0),
}
"""Mean input and output of MLPerf's data sets by model. [tok] Source: MLCommons inference rules and data sets."""

MLPERF_TPOT_S: Mapping[tuple[str, str], float] = {
    ("llama-2-70b", "MLPerf Server"): 0.200,
    ("llama-2-70b", "MLPerf Interactive"): 0.040,
    ("mixtral-8x7b", "MLPerf Server"): 0.200,
    ("llama-3.1-405b", "MLPerf Server"): 0.175,
    ("llama-3.1-405b", "MLPerf Interactive"): 0.080,
    ("llama-3.1-8b", "MLPerf Server"): 0.100,
    ("llama-3.1-8b", "MLPerf Interactive"): 0.030,
    ("deepseek-r1", "MLPerf Server"): 0.080,
    ("gpt-j-6b", "MLPerf Server"): 0.200,
}
"""P99 limit of TPOT of MLPerf's scenarios (GPT-J: 20 s for an answer, here as if spread over it). [s]
Source: mlcommons/inference_policies inference_rules.adoc."""

SHAREGPT_TOK = (220.0, 200.0)
"""Mean input and output of conversations of the ShareGPT data set as engines' benchmarks cut it. [tok]"""


@dataclass(frozen=True, slots=True)
class Point:
    """One row of a table, as it stands; an absent number is NaN, an absent count 0.

    Parameters
    ----------
    at : int
        Line of the table, from 2.
    point_id, config_id, chip, model, engine, engine_version, scenario, metric, unit, trust, source, notes : str
        As written.
    chips, nodes, tp, pp, ep, dp : int
        Counts; 0: not stated. ep -1: all chips.
    weight_precision, kv_precision : str
        As written.
    input_tok, output_tok, concurrency, rate_s, value, power_cap_ratio : float
        Lengths [tok], users or requests, requests per second [1/s], what was measured (in its unit), cap over TDP [-].
    duplicate : bool
        The same fact as another row of its configuration.
    bounded : bool
        The lengths are bounds of what varied (``<=1024``), not means.
    """

    at: int
    point_id: str
    config_id: str
    chip: str
    model: str
    engine: str
    engine_version: str
    scenario: str
    metric: str
    unit: str
    trust: str
    source: str
    notes: str
    chips: int
    nodes: int
    tp: int
    pp: int
    ep: int
    dp: int
    weight_precision: str
    kv_precision: str
    input_tok: float
    output_tok: float
    concurrency: float
    rate_s: float
    value: float
    power_cap_ratio: float
    duplicate: bool
    bounded: bool = False


@dataclass(frozen=True, eq=False)
class Deployment:
    """What a row was measured on, resolved.

    Parameters
    ----------
    point : Point
        The row.
    chip, model : ChipSpec, ModelSpec
        Capped if the row says so; heads padded where a layout does not divide them.
    layout : Layout
        How it is spread.
    kind : str
        Of load, see SCENARIOS.
    engine : str
        Engine family.
    input_tok, output_tok : float
        Mean lengths. [tok]
    users : float
        Concurrency, or requests at once; NaN where the load does not say (full, open).
    speculative_tok : int
        Tokens drafted beyond one per step; 0 without speculation.
    accept_ratio : float
        Share of the drafted tokens that such drafts usually have accepted. [-]
    padded_seqs : float
        Sequences to which a compiled step is padded; 0 without padding.
    limit_s : float
        TPOT limit of a limited load. [s]
    """

    point: Point
    chip: ChipSpec
    model: ModelSpec
    layout: Layout
    kind: str
    engine: str
    input_tok: float
    output_tok: float
    users: float
    speculative_tok: int
    accept_ratio: float
    padded_seqs: float
    limit_s: float


# --- reading ---------------------------------------------------------------------------------------------------------
def points_read(path: str | Path) -> list[Point]:
    """Read a table of points.

    Raises
    ------
    TraceError
        If it cannot be read as one: what is wrong, and where.
    """
    name = str(path)
    try:
        with Path(path).open("rb") as stream:
            raw = stream.read(POINTS_MAX_BYTE + 1)
    except OSError as error:
        raise TraceError(name, None, None, f"cannot be read: {error}") from error
    if len(raw) > POINTS_MAX_BYTE:
        raise TraceError(name, None, None, f"is larger than {POINTS_MAX_BYTE / 2**20:.0f} MiB")
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise TraceError(name, None, None, f"is not UTF-8: {error}") from error
    return points_parse(text, name)


def points_parse(text: str, name: str) -> list[Point]:
    """Return the points of a table given as text; see :func:`points_read`. Every cell that is no number is told."""
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey=BEYOND, restval="", strict=True)
    problems: list[Problem] = []
    try:
        _columns_check(list(reader.fieldnames or ()), name)
        points = [_point(row, reader.line_num, problems) for row in reader]
    except csv.Error as error:
        raise TraceError(name, reader.reader.line_num, None, str(error)) from error
    if problems:
        line, column, reason = problems[0]
        told = [reason, *(_told(other, line) for other in problems[1:PROBLEMS_TOLD])]
        more = len(problems) - len(told)
        raise TraceError(name, line, column, "; ".join([*told, *([f"and {more} more"] if more else [])]))
    return points


Problem = tuple[int, str | None, str]
"""What is wrong with a cell: line, column (None: the row as a whole), reason."""

BEYOND = "beyond the last column"
"""Where the reader puts cells that have no column."""


def _told(problem: Problem, line: int) -> str:
    at, column, reason = problem
    place = [*([] if at == line else [f"line {at}"]), *([f"column {column}"] if column else [])]
    return f"{', '.join(place)}: {reason}" if place else reason


def _columns_check(columns: list[str], name: str) -> None:
    missing = COLUMNS - set(columns)
    if missing:
        raise TraceError(name, 1, None, f"has no column {', '.join(sorted(missing))}")
    twice = sorted({column for column in columns if column and columns.count(column) > 1})
    if twice:
        raise TraceError(name, 1, None, f"has column {', '.join(twice)} more than once")


def _quoted(text: str) -> str:
    return json.dumps(text if len(text) <= CELL_TOLD else f"{text[:CELL_TOLD]}...", ensure_ascii=False)


def _point(row: Mapping[str, str], line: int, problems: list[Problem]) -> Point:
    """Return the point of a row; what is wrong with its cells is added to problems, and NaN or 0 stand there."""

    def text(column: str) -> str:
        return (row.get(column) or "").strip()

    def count(column: str, least: int = 0) -> int:
        value = number(column)
        if math.isnan(value):
            return 0
        if not least <= value <= COUNT_MOST or value != int(value):
            problems.append((line, column, f"{_quoted(text(column))} is not a count from {least} to {COUNT_MOST}"))
            return 0
        return int(value)

    def number(column: str, most: float = 1e15) -> float:
        written = text(column).lstrip("<=~")
        if not written:
            return math.nan
        try:
            value = float(written)
        except ValueError:
            problems.append((line, column, f"{_quoted(text(column))} is not a number"))
            return math.nan
        if not 0 <= value <= most:
            problems.append((line, column, f"{_quoted(written)} is not a number from 0 up to {most:g}"))
            return math.nan
        return value

    if row.get(BEYOND):
        problems.append((line, None, "the row has more cells than the table has columns"))
    return Point(
        at=line,
        **{
            field: text(field)
            for field in (
                "point_id", "config_id", "chip", "model", "engine", "engine_version", "scenario", "metric", "unit",
                "trust", "source", "notes", "weight_precision", "kv_precision",
            )
        },
        chips=count("chip_count", 1),
        nodes=count("nodes", 1),
        tp=count("tp"),
        pp=count("pp"),
        ep=-1 if text("ep") == "on" else count("ep"),
        dp=count("dp"),
        input_tok=number("input_len", TOK_MOST),
        output_tok=number("output_len", TOK_MOST),
        concurrency=number("concurrency", REQUESTS_MOST),
        rate_s=number("request_rate_rps", REQUESTS_MOST),
        value=number("value"),
        power_cap_ratio=number("power_cap_frac"),
        duplicate=text("duplicate_metric") == "1",
        bounded=any(text(column).startswith("<") for column in ("input_len", "output_len")),
    )  # fmt: skip


# --- rules -----------------------------------------------------------------------------------------------------------
ENGINE_FAMILIES: tuple[tuple[str, str], ...] = (
    ("vllm (2023", "vllm-2023"),
    ("vllm-ascend", "vllm-ascend"),
    ("vllm-tpu", "vllm-tpu"),
    ("vllm (optimum-neuron)", "optimum-neuron"),
    ("vllm", "vllm"),
    ("mango", "vllm"),
    ("sglang", "sglang"),
    ("tensorrt", "trtllm"),
    ("mindie", "mindie"),
    ("cloudmatrix", "cloudmatrix"),
    ("transformers neuronx", "neuronx"),
    ("optimum-habana", "optimum-habana"),
    ("lmdeploy", "lmdeploy"),
    ("jetstream", "jetstream"),
    ("tgi", "tgi"),
    ("chitu", "chitu"),
    ("deepseek", "deepseek"),
)
"""Engine family by how a name begins, in lower case; others are families of their own."""

KERNEL_ENGINES: Mapping[str, str] = {
    "trtllm": "trtllm", "sglang": "sglang", "vllm-ascend": "vllm-ascend", "mindie": "vllm-ascend",
    "cloudmatrix": "vllm-ascend",
}  # fmt: skip
"""Engine whose kernels a family runs; vllm's where none is named."""


def engine_family(name: str) -> str:
    """Return the engine family of a published name."""
    lower = name.lower()
    for start, family in ENGINE_FAMILIES:
        if lower.startswith(start):
            return family
    return re.sub(r"[^a-z0-9]+", "-", lower).strip("-") or "unknown"


def scenario_kind(name: str) -> str:
    """Return how load was applied; PointError if the name says nothing that is known."""
    found = max((start for start in SCENARIOS if name.startswith(start)), key=len, default="")
    if not found:
        raise PointError(f'scenario "{name}" is not known')
    return SCENARIOS[found]


def deployment_of(
    point: Point,
    *,
    chips: Mapping[str, ChipSpec] | None = None,
    models: Mapping[str, ModelSpec] | None = None,
) -> Deployment:
    """Return what a row was measured on.

    Parameters
    ----------
    chips, models : mapping, optional
        Chips and models that a row may name beside the built-in ones, by slug.

    Raises
    ------
    AcceleratorError
        With the reason why the row cannot be modelled.
    """
    chip = _chip(point, chips)
    if "not an llm" in point.model.lower():
        raise PointError(f"{point.model}: only language models are predicted")
    named = model_named(point.model, models or {})
    model = named.model
    kind, engine = scenario_kind(point.scenario), engine_family(point.engine)
    precision = _weight_precision(point, named.weight_precision, model, chip)
    kv_precision = _kv_precision(point, precision, engine)
    input_tok, output_tok = _lengths(point, model)
    maker = LayoutMaker(model, precision, kv_precision, KERNEL_ENGINES.get(engine, "vllm"))
    layout = layout_of(maker, chip, _stated(point), engine=engine, kind=kind)
    if layout.config.tp > HEAD_CHIPS_MOST * model.heads:
        raise PointError(f"{layout.config.tp} chips share the {model.heads} heads of {model.slug}")
    model = padded(model, layout.config)
    users = point.concurrency
    if kind == "burst" and not users >= 1:
        users = _requests(point)
    if point.scenario.startswith("offline batch"):
        users *= layout.replicas  # each replica is given as many
    if kind in {"closed", "static"} and not users >= 1:
        users = 1.0
    if kind == "split" and not users >= 1:
        users = 64.0 * layout.replicas
    if kind == "open" and not point.rate_s > 0:
        raise PointError("an open loop needs request_rate_rps")
    return Deployment(
        point=point,
        chip=chip,
        model=model,
        layout=layout,
        kind=kind,
        engine=engine,
        input_tok=input_tok,
        output_tok=output_tok,
        users=users,
        speculative_tok=_speculative_tok(point),
        accept_ratio=next((ratio for word, ratio in ACCEPT_RATIOS if word in point.notes.lower()), 0.5),
        padded_seqs=_padded_seqs(point, engine),
        limit_s=_limit_s(point, model),
    )


def _chip(point: Point, chips: Mapping[str, ChipSpec] | None) -> ChipSpec:
    name = point.chip
    if name == "GH200" and "144GB" in point.notes:
        name = "gh200-144"
    chip = chip_get(name, chips)
    cap = point.power_cap_ratio
    if cap > 1 or 0 < cap < POWER_CAP_LEAST:
        raise PointError(f"power_cap_frac {cap:g} is no share of TDP from {POWER_CAP_LEAST:g} to 1")
    return _capped(chip, cap) if 0 < cap < 1 else chip


CAP_SLOWDOWN = 0.74
"""Exponent of arithmetic against power: a cap at 70 % of TDP slows prompts 1.30 times and tokens not at all
(Splitwise, arXiv 2311.18677: ln 1.30 / ln (1 / 0.7) = 0.74). [-]"""


@lru_cache(maxsize=256)
def _capped(chip: ChipSpec, ratio: float) -> ChipSpec:
    other = chip
    for precision, figure in chip.peak_flop_s.items():
        other = other.varied(f"peak_flop_s[{precision}]", figure.value * ratio**CAP_SLOWDOWN)
    return other


def _weight_precision(point: Point, hint: str, model: ModelSpec, chip: ChipSpec) -> str:
    written = PRECISIONS.get(point.weight_precision.lower(), "")
    if point.weight_precision and not written:
        raise PointError(f'weight_precision "{point.weight_precision}" is not known')
    precision = written or hint or model.native_precision
    if precision in chip.peak_flop_s or precision in {"int4", "int8_wo"}:
        return precision
    # Weights in a format without arithmetic are unpacked on the fly.
    unpacked = {"fp4": "int4", "fp8": "int8_wo", "int8": "int8_wo"}.get(precision, "bf16")
    if "bf16" not in chip.peak_flop_s:
        raise PointError(f"{chip.slug} has no published peak in {precision} or bf16")
    return unpacked


def _kv_precision(point: Point, precision: str, engine: str) -> str:
    written = PRECISIONS.get(point.kv_precision.lower(), "")
    if written in {"bf16", "fp8", "int8"}:
        return written
    if "c8" in point.model.lower().split("-")[-1]:
        return "int8"
    # TensorRT-LLM's published runs keep an FP8 cache beside FP8 and FP4 weights.
    return "fp8" if engine == "trtllm" and precision in {"fp8", "fp4"} and _is_offline(point) else "bf16"


def _is_offline(point: Point) -> bool:
    return point.scenario.startswith(("MLPerf", "offline max"))


def _lengths(point: Point, model: ModelSpec) -> tuple[float, float]:
    """Return mean input and output; those of the data set where a row gives none, or a usual length.

    A length that is only a bound says no mean: that of the data set stands, as far as it keeps the bound.
    """
    fixed = not point.bounded and "not fixed" not in point.notes
    if fixed and point.input_tok > 0 and point.output_tok > 0:
        return point.input_tok, point.output_tok
    if point.scenario.startswith("MLPerf"):
        known = DATASET_LENGTHS.get(model.slug, SHAREGPT_TOK)
    elif "ShareGPT" in point.scenario or "ShareGPT" in point.notes:
        known = SHAREGPT_TOK
    elif "habana" in point.engine:
        known = (128.0, 128.0)
    else:
        known = (1024.0, 1024.0)
    input_tok, output_tok = (
        usual if not own > 0 else own if fixed else min(own, usual) if point.bounded else usual
        for own, usual in zip((point.input_tok, point.output_tok), known, strict=True)
    )
    return input_tok, output_tok


def _stated(point: Point) -> Stated:
    """Return what a row says of the layout."""
    workers = {found[1]: tuple(int(n) for n in found.groups()[1:]) for found in _WORKERS.finditer(point.notes)}
    slices = re.search(r"moe_tp=(\d+)", point.notes)
    return Stated(
        chips=point.chips,
        nodes=max(1, point.nodes),
        tp=point.tp,
        pp=max(1, point.pp),
        dp=point.dp,
        ep=point.ep,
        expert_slices=int(slices[1]) if slices else 0,
        workers=workers if {"P", "D"} <= set(workers) else {},
        is_table="MLPerf" not in point.scenario,
    )


_WORKERS = re.compile(r"([PD]):(\d+)x\(tp(\d+),dp(\d+),ep(\d+),bs(\d+)\)")


def _requests(point: Point) -> float:
    found = re.match(r"(\d+) requests", point.notes)
    return float(found[1]) if found else 1000.0


def _speculative_tok(point: Point) -> int:
    text = point.notes.lower()
    if "no speculation" in text or "spec-decode=no" in text:
        return 0
    found = re.search(r"num_speculative_tokens[\"':= ]*(\d)", text) or re.search(r"speculation k=(\d)", text)
    if found:
        return int(found[1])
    found = re.search(r"speculative-num-steps[ =](\d)", text)
    if found:
        return int(found[1])
    if "speculative" in text or "spec-decode=yes" in text or "eagle" in text:
        return 3 if "eagle" in text else 1
    return 0


ACCEPT_RATIOS = (("suffix", 0.15), ("eagle", 0.5), ("mtp", 0.65))
"""Share of drafted tokens accepted, by how they are drafted: repeats of the text so far on short natural prompts, a
draft head with three steps, a model's own next-token heads. Planning values; the fit moves them. [-]"""


def _padded_seqs(point: Point, engine: str) -> float:
    """Return the batch that a compiled model was built for."""
    found = re.search(r"server batch size (\d{1,5})\b", point.notes)
    return float(found[1]) if found and engine == "optimum-neuron" else 0.0


def _limit_s(point: Point, model: ModelSpec) -> float:
    found = re.search(r"TPOT ?< ?(\d+) ?ms", point.scenario)
    if found and not int(found[1]):
        raise PointError("a TPOT limit of 0 ms cannot be kept")
    if found:
        return float(found[1]) / 1e3
    start = " ".join(point.scenario.split()[:2])
    return MLPERF_TPOT_S.get((model.slug, start), 0.05 if not point.scenario.startswith("MLPerf") else 0.2)


def deployments_of(
    points: Iterable[Point],
    *,
    chips: Mapping[str, ChipSpec] | None = None,
    models: Mapping[str, ModelSpec] | None = None,
) -> Iterator[Deployment | AcceleratorError]:
    """Yield the deployment of each row, or why there is none."""
    for point in points:
        try:
            yield deployment_of(point, chips=chips, models=models)
        except AcceleratorError as error:
            yield error
