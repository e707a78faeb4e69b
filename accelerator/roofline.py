"""The Python face of the kernels: specs and configs turned into rows of sizes and fitted parameters, and their times.

An operator of a step becomes a row of its family's shape, with the chip's data sheet in it, and the parameters of the
cell that the chip, the engine and the precision belong to. Inside a captured graph a launch takes no longer than the
device needs for it, and nothing of a layer is left in the cache when its turn comes again.
"""

import math
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike, NDArray

from accelerator import attention, experts, gemm, kernels, latent
from accelerator.architectures import ModelSpec
from accelerator.calibration import CALIBRATED, POOLED, CellParameters, cell_take
from accelerator.chips import ChipSpec
from accelerator.collectives import collective_row
from accelerator.efficiency import Efficiency
from accelerator.families import FAMILIES
from accelerator.family import engine_usual, peak_flop_s
from accelerator.operators import (
    AttentionLayers,
    DeploymentConfig,
    Operator,
    attention_layers,
    index_byte_per_context_tok,
    index_flop_per_pair,
    operators_list,
)

Floats = NDArray[np.float64]

SIZES = max(len(family.shape) for family in FAMILIES.values())
PARAMETERS = max(len(family.parameters) for family in FAMILIES.values())

STREAM_CODE = 0
_LAUNCHES = {STREAM_CODE: 1.0} | {family.code: float(family.launches or math.inf) for family in FAMILIES.values()}
SPREAD_TOK = 64.0
"""Tokens of the step at which the spread of a family is taken: decode of a usual batch. [tok]"""

OWN_ALL_REDUCE = "TensorRT-LLM custom"
"""Library under which the all-reduce that engines bring themselves was measured; vLLM and SGLang have such ones too."""


@dataclass(frozen=True, eq=False)
class Program:
    """The operators of a step as rows for the kernels.

    Parameters
    ----------
    ops : tuple of Operator
        One per row.
    cells : tuple of CellParameters
        Where the parameters of each row come from.
    launches : float64[ops]
        Kernels of one call that a captured graph launches; infinite where what is measured holds in a graph too.
    code : int32[ops]
        Family.
    count, tok_ratio, most_tok : float64[ops]
        Launches times the time ratio of the family; first size per token of the step; tokens charged for at most.
    shape, parameters : float64[ops, SIZES], float64[ops, PARAMETERS]
        See ``Family``.
    """

    ops: tuple[Operator, ...]
    cells: tuple[CellParameters, ...]
    launches: Floats
    code: NDArray[np.int32]
    count: Floats
    tok_ratio: Floats
    most_tok: Floats
    shape: Floats
    parameters: Floats

    def times(self, tok: float) -> Floats:
        """Return time, part computing and part reading of each operator of a step: float64[ops, 3]. [s]"""
        out = np.empty((len(self.ops), 3))
        one, tokens = np.empty((1, 3)), np.array([float(tok)])
        for i in range(len(self.ops)):
            at = slice(i, i + 1)
            kernels.roofline.linear_times_s(
                self.code[at], self.count[at], self.tok_ratio[at], self.most_tok[at], self.shape[at],
                self.parameters[at], tokens, one,
            )  # fmt: skip
            out[i] = one
        return out

    def times_at(self, tok: Floats) -> list[Floats]:
        """Return time, part computing and part reading of each operator at numbers of tokens: [k, 3] each. [s]"""
        tables = []
        for i in range(len(self.ops)):
            at, out = slice(i, i + 1), np.empty((len(tok), 3))
            kernels.roofline.linear_times_s(
                self.code[at], self.count[at], self.tok_ratio[at], self.most_tok[at], self.shape[at],
                self.parameters[at], tok, out,
            )  # fmt: skip
            tables.append(out)
        return tables

    def totals(self, tok: Floats) -> Floats:
        """Return time, part computing and part reading of all operators at several numbers of tokens: [k, 3]. [s]"""
        out = np.empty((len(tok), 3))
        kernels.roofline.linear_times_s(
            self.code, self.count, self.tok_ratio, self.most_tok, self.shape, self.parameters, tok, out
        )
        return out

    def link_s(self, tok: Floats) -> Floats:
        """Return the time on links that :meth:`totals` counts as reading, at several numbers of tokens: [k]. [s]"""
        of = self.code == FAMILIES["collectives"].code
        out = np.empty((len(tok), 3))
        kernels.roofline.linear_times_s(
            self.code[of], self.count[of], self.tok_ratio[of], self.most_tok[of], self.shape[of], self.parameters[of],
            tok, out,
        )  # fmt: skip
        return out[:, 2]


def engine_of_config(chip: ChipSpec, config: DeploymentConfig) -> str:
    """Return the engine family of a config on a chip."""
    return config.engine or engine_usual(chip)


def format_of(model: ModelSpec, config: DeploymentConfig, *, quantised: bool = True) -> str:
    """Return the format of a product; FP8 checkpoints of sparse models have scales per block, dense ones per row."""
    if not quantised:
        return "bf16"
    if config.weight_precision == "fp8" and (model.experts or model.native_precision == "fp8"):
        return "fp8_block"
    return config.weight_precision


def program_make(chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, efficiency: Efficiency) -> Program:
    """Return the operators of a step ready for the kernels.

    Raises
    ------
    PrecisionError
        If the chip does not compute in a precision that is needed.
    MissingFigureError
        If a figure of the chip that is needed is not known.
    """
    base = _program_base(chip, model, config)
    ratio = np.array([efficiency.time_ratio(op.family) for op in base.ops])
    parameters = base.parameters.copy()
    parameters[:, 0] = np.minimum(parameters[:, 0], base.launches * efficiency.graph_launch_s)
    return replace(base, count=base.count * ratio, parameters=parameters)


@lru_cache(maxsize=2048)
def _program_base(chip: ChipSpec, model: ModelSpec, config: DeploymentConfig) -> Program:
    ops = operators_list(model, config)
    rows = [_row(chip, model, config, op) for op in ops]
    shape, parameters = np.zeros((len(ops), SIZES)), np.ones((len(ops), PARAMETERS))
    for i, (_, sizes, cell) in enumerate(rows):
        shape[i, : len(sizes)] = sizes
        parameters[i, : len(cell.values)] = cell.values
    return Program(
        ops=ops,
        cells=tuple(cell for *_, cell in rows),
        launches=np.array([_LAUNCHES[code] for code, *_ in rows]),
        code=np.array([code for code, *_ in rows], dtype=np.int32),
        count=np.array([op.count for op in ops]),
        tok_ratio=np.array([op.tok_ratio for op in ops]),
        most_tok=np.array([op.most_tok for op in ops]),
        shape=shape,
        parameters=parameters,
    )


def _row(
    chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, op: Operator
) -> tuple[int, tuple[float, ...], CellParameters]:
    """Return family code, sizes (the first is put in by the kernel) and cell of one operator."""
    engine = engine_of_config(chip, config)
    kind = format_of(model, config, quantised=op.quantised)
    if op.family == "collectives":
        ranks = op.sizes[0]
        own = op.kind == "all_reduce" and chip.link_kind == "nvswitch"
        sizes, members = collective_row(
            chip, op.kind, byte=1.0, ranks=ranks, library=OWN_ALL_REDUCE if own else "NCCL", custom=own,
            per_node=1 if op.kind == "send_recv" and config.chips > chip.scale_up_chips else None,
        )  # fmt: skip
        return FAMILIES["collectives"].code, sizes, cell_take("collectives", members)
    if op.family == "experts":
        hidden, ffn, topk, total, slices, ep, matrices, skew = op.sizes
        travel = config.dp > 1 and ep > experts.GATHERED_RANKS
        kernel = experts.kernel_of(chip, engine, kind)
        sizes = experts.experts_shape(
            chip, kind, kernel, tok=1.0, hidden=hidden, ffn=ffn / slices, topk=topk, experts=total, ep=ep,
            matrices=matrices, skew=skew or experts.EVEN_SKEW, seen=1 / ep if travel else 1.0,
        )  # fmt: skip
        return (
            FAMILIES["experts"].code,
            sizes,
            cell_take("experts", experts.experts_members(chip, engine, kind, kernel)),
        )
    cell = cell_take("gemm", gemm.gemm_members(chip, engine, kind))
    if op.family == "stream":
        return STREAM_CODE, gemm.stream_shape(chip, 1.0), cell
    width, depth = op.sizes
    return FAMILIES["gemm"].code, gemm.gemm_shape(chip, kind, rows=1.0, width=width, depth=depth), cell


# --- attention: grows with contexts, not with the tokens of a step ----------------------------------------------------
def decode_times(
    chip: ChipSpec,
    layers: AttentionLayers,
    config: DeploymentConfig,
    efficiency: Efficiency,
    seqs: ArrayLike,
    context_tok: ArrayLike,
) -> Floats:
    """Return time, part computing and part reading of decode attention, all layers of a kind: float64[n, 3]. [s]

    Parameters
    ----------
    seqs, context_tok : array_like [n]
        Sequences of the whole replica that decode, and the context of each. [-], [tok]
    """
    name, sizes, cell = _decode_row(chip, layers, config)
    number, context = np.broadcast_arrays(np.asarray(seqs, dtype=np.float64), np.asarray(context_tok, dtype=np.float64))
    if layers.latent and layers.window_tok:
        context = np.minimum(context, layers.window_tok)
    # One sequence crosses all layers by itself, however many groups and stages there are.
    columns = {0: np.maximum(number * layers.seq_ratio, np.minimum(number, 1.0)), 1: context}
    return _attention_times(name, sizes, cell, layers, efficiency, columns, number > 0)


def prefill_times(
    chip: ChipSpec,
    layers: AttentionLayers,
    config: DeploymentConfig,
    efficiency: Efficiency,
    tok: ArrayLike,
    past_tok: ArrayLike = 0.0,
) -> Floats:
    """Return time, part computing and part reading of prefill attention, all layers of a kind: float64[n, 3]. [s]

    Parameters
    ----------
    tok, past_tok : array_like [n]
        New tokens of one prompt, and tokens of it that are cached. With several groups (dp, pp) each chip sees its
        share of such prompts. [tok]
    """
    name, sizes, cell = _prefill_row(chip, layers, config)
    new, past = np.broadcast_arrays(np.asarray(tok, dtype=np.float64), np.asarray(past_tok, dtype=np.float64))
    share = np.ones(new.shape)
    if layers.latent and layers.window_tok:  # every token attends to what it picks, at most
        each = np.minimum(past + new / 2, layers.window_tok)
        past = np.maximum(0.0, each - new / 2)
        share = np.minimum(1.0, each / np.maximum(new / 2, 0.5))
    columns = {0: np.maximum(new, 1.0), 1: np.full(new.shape, layers.seq_ratio), 2: past}
    return _attention_times(name, sizes, cell, layers, efficiency, columns, new > 0) * share[:, None]


def _attention_times(
    name: str,
    sizes: tuple[float, ...],
    cell: CellParameters,
    layers: AttentionLayers,
    efficiency: Efficiency,
    columns: Mapping[int, Floats],
    some: NDArray[np.bool_],
) -> Floats:
    count = len(some)
    shape, parameters = np.tile(np.array(sizes), (count, 1)), np.tile(cell.values, (count, 1))
    for at, column in columns.items():
        shape[:, at] = column
    parameters[:, 0] = np.minimum(parameters[:, 0], FAMILIES[name].launches * efficiency.graph_launch_s)
    out = np.empty((count, 3))
    kernels.roofline.family_times_s(FAMILIES[name].code, shape, parameters, out)
    out *= layers.layers * efficiency.time_ratio("attention") * some[:, None]
    return out


@lru_cache(maxsize=2048)
def _decode_row(
    chip: ChipSpec, layers: AttentionLayers, config: DeploymentConfig
) -> tuple[str, tuple[float, ...], CellParameters]:
    engine = engine_of_config(chip, config)
    if layers.latent:
        precision = latent.precision_of(chip, layers.kv_element_byte)
        kernel = latent.decode_kernel(chip, engine, precision, layers.heads)
        sizes = latent.decode_shape(
            chip, batch=1.0, kv_tok=1.0, heads=layers.heads, latent_width=layers.latent_width,
            value_rank=layers.value_rank, kernel=kernel, precision=precision,
        )  # fmt: skip
        return "latent_decode", sizes, cell_take("latent_decode", latent.decode_members(chip, kernel, precision))
    kind = attention.kind_of("bf16", layers.kv_element_byte)
    plain = attention.decode_plain(
        chip, engine, kind, group=layers.heads / layers.kv_heads, window_tok=layers.window_tok
    )
    sizes = attention.decode_shape(
        chip, batch=1.0, kv_tok=1.0, heads=layers.heads, kv_heads=layers.kv_heads, head_dim=layers.head_dim,
        window_tok=layers.window_tok, kv_byte=layers.kv_element_byte, plain=plain,
    )  # fmt: skip
    members = attention.decode_members(chip, engine, kind, layers.head_dim, plain=plain)
    return "attention_decode", sizes, cell_take("attention_decode", members)


@lru_cache(maxsize=2048)
def _prefill_row(
    chip: ChipSpec, layers: AttentionLayers, config: DeploymentConfig
) -> tuple[str, tuple[float, ...], CellParameters]:
    engine = engine_of_config(chip, config)
    if layers.latent:
        precision = latent.precision_of(chip, layers.kv_element_byte)
        sizes = latent.prefill_shape(
            chip, tok=1.0, batch=1.0, past_tok=0.0, heads=layers.heads, qk_width=layers.head_dim,
            v_width=layers.v_dim, precision=precision,
        )  # fmt: skip
        return "latent_prefill", sizes, cell_take("latent_prefill", latent.prefill_members(chip, engine, precision))
    kind = attention.kind_of("bf16", layers.kv_element_byte)
    sizes = attention.prefill_shape(
        chip, tok=1.0, batch=1.0, past_tok=0.0, heads=layers.heads, kv_heads=layers.kv_heads, head_dim=layers.head_dim,
        window_tok=layers.window_tok, kv_byte=layers.kv_element_byte,
    )  # fmt: skip
    members = attention.prefill_members(chip, engine, kind, layers.head_dim)
    return "attention_prefill", sizes, cell_take("attention_prefill", members)


def attention_basis(chip: ChipSpec, layers: AttentionLayers, config: DeploymentConfig, *, prefill: bool = False) -> str:
    """Return whether attention kernels of the chip were measured: calibrated or pooled."""
    return (_prefill_row if prefill else _decode_row)(chip, layers, config)[2].basis


def basis_of(chip: ChipSpec, model: ModelSpec, config: DeploymentConfig) -> str:
    """Return ``calibrated`` if the matrix products and the attention of the chip were measured, else ``pooled``."""
    base = _program_base(chip, model, config)
    cells = [cell.basis for op, cell in zip(base.ops, base.cells, strict=True) if op.family == "gemm"]
    cells += [attention_basis(chip, layers, config) for layers in attention_layers(model, config)]
    return CALIBRATED if set(cells) == {CALIBRATED} else POOLED


def stream_s(chip: ChipSpec, config: DeploymentConfig, efficiency: Efficiency, byte: float) -> float:
    """Return the time to read or write bytes at the bandwidth that streams reach, launches not counted. [s]"""
    cell = cell_take("gemm", gemm.gemm_members(chip, engine_of_config(chip, config), "bf16"))
    ratio = float(cell.values[2])
    return byte / (chip.memory_byte_s.value * ratio) * efficiency.time_ratio("stream")


def index_s(
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig,
    efficiency: Efficiency,
    *,
    decode_pairs: float,
    pairs: float,
) -> float:
    """Return the time of a sparse model's indexer, which scores every token before a new one. [s]

    Parameters
    ----------
    decode_pairs, pairs : float
        Tokens of context that the decodes look at, whose keys are read; pairs of prompt tokens.
    """
    if not model.index_topk:
        return 0.0
    precision = next((p for p in ("fp8", "int8") if p in chip.peak_flop_s), "bf16")
    cell = cell_take("gemm", gemm.gemm_members(chip, engine_of_config(chip, config), precision))
    pair_s = index_flop_per_pair(model, config) / (peak_flop_s(chip, precision) * float(cell.values[1]))
    read_s = stream_s(chip, config, efficiency, index_byte_per_context_tok(model, config))
    ratio = efficiency.time_ratio("attention")
    return decode_pairs * max(pair_s * ratio, read_s) + pairs * pair_s * ratio


# --- how far off the fit may be ---------------------------------------------------------------------------------------
@lru_cache(maxsize=2048)
def spreads(chip: ChipSpec, model: ModelSpec, config: DeploymentConfig) -> Mapping[str, float]:
    """Return the standard deviation of the logarithm of the time of each part: gemm, attention, experts, collectives.

    Parameters of one part are wrong together; the errors of single kernels beside them are independent, so they average
    out over a step's operators. Both are widened by what held-out rows showed (``Calibration.band_factor``).
    """
    program = _program_base(chip, model, config)
    tok = SPREAD_TOK * config.micro
    shape = program.shape.copy()
    shape[:, 0] = program.tok_ratio * np.minimum(tok, program.most_tok)
    parts: dict[str, list[tuple[float, float, float]]] = {}
    for i, op in enumerate(program.ops):
        cell = program.cells[i]
        time_s, parameter_sd = _parameter_sd(int(program.code[i]), shape[i], program.parameters[i], cell)
        part = "gemm" if op.family == "stream" else op.family
        parts.setdefault(part, []).append((time_s * program.count[i], parameter_sd, cell.band_factor * cell.sigma))
    for layers in attention_layers(model, config):
        for name, sizes, cell, columns in (
            (*_decode_row(chip, layers, config), (32.0, 2048.0)),
            (*_prefill_row(chip, layers, config), (2048.0, 1.0)),
        ):
            row = np.zeros(SIZES)
            row[: len(sizes)] = sizes
            row[:2] = columns
            parameters = np.ones(PARAMETERS)
            parameters[: len(cell.values)] = cell.values
            time_s, parameter_sd = _parameter_sd(FAMILIES[name].code, row, parameters, cell)
            parts.setdefault("attention", []).append(
                (time_s * layers.layers, parameter_sd, cell.band_factor * cell.sigma)
            )
    return {part: _combined(rows) for part, rows in parts.items()}


def _combined(rows: Iterable[tuple[float, float, float]]) -> float:
    rows = list(rows)
    total_s = sum(time_s for time_s, *_ in rows)
    together = sum(time_s * sd for time_s, sd, _ in rows) / total_s
    alone = math.sqrt(sum((time_s * sd) ** 2 for time_s, _, sd in rows)) / total_s
    return math.hypot(together, alone)


def _parameter_sd(code: int, sizes: Floats, parameters: Floats, cell: CellParameters) -> tuple[float, float]:
    """Return the time of one launch and the standard deviation of its logarithm due to parameters. [s], [log]"""
    count, step = len(cell.values), 1e-4
    tried = np.tile(parameters, (count + 1, 1))
    tried[np.arange(count) + 1, np.arange(count)] *= math.exp(step)
    out = np.empty((count + 1, 3))
    kernels.roofline.family_times_s(code, np.tile(sizes, (count + 1, 1)), tried, out)
    slope = (np.log(out[1:, 0]) - math.log(out[0, 0])) / step
    return float(out[0, 0]), cell.band_factor * math.sqrt(max(0.0, float(slope @ cell.covariance @ slope)))
