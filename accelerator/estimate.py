"""One engine step in full: its time with band, where that goes, what binds, memory and power.

Unlike a step table, which draws straight lines through attention, an estimate asks the kernels for the very batch.
"""

import math
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, Efficiency
from accelerator.errors import ConfigError
from accelerator.memory import MemoryFit, memory_fit
from accelerator.operators import (
    AttentionLayers,
    DeploymentConfig,
    attention_layers,
    config_check,
    index_byte_per_context_tok,
    index_flop_per_pair,
    state_byte_per_seq,
)
from accelerator.power import busy_s, chip_powers_w
from accelerator.roofline import (
    Floats,
    attention_basis,
    decode_times,
    engine_of_config,
    index_s,
    prefill_times,
    program_make,
    stream_s,
)
from accelerator.sensitivity import Driver, band_of, drivers_list
from accelerator.units import Band

OVERHEAD = "overhead"
"""What binds an operator that neither computes nor reads for most of its time."""


@dataclass(frozen=True)
class StepRow:
    """One line of a step: an operator, all launches of one chip together.

    Parameters
    ----------
    operator : str
        Name.
    launches : float
        How often it is launched.
    flop, byte : float
        Work, and weights, activations, cache or messages moved. [flop], [byte]
    time_s, compute_s, memory_s, link_s : float
        Time; what it would be with arithmetic alone, with memory alone, with the link alone. [s]
    bound_by : str
        compute, memory, link or overhead (launches and waiting).
    basis : str
        ``calibrated``: kernels of this chip were measured; ``pooled``: only those of others; ``assumed``.
    """

    operator: str
    launches: float
    flop: float
    byte: float
    time_s: float
    compute_s: float
    memory_s: float
    link_s: float
    bound_by: str
    basis: str


@dataclass(frozen=True, eq=False)
class StepEstimate:
    """What one step takes.

    Parameters
    ----------
    chip, model, config, efficiency
        What runs where, how the replica is spread, what an engine adds.
    batch, context_tok, prefill_tok, past_tok : float
        Decoding sequences, KV tokens of each, prompt tokens in the same step, tokens of that prompt that are cached.
    rows : tuple of StepRow
        Where the time goes; their times add up to the step's.
    memory : MemoryFit
        What fits.
    power_w, energy_j : float
        Mean power of the replica's chips while the step repeats, its energy; NaN if no TDP is published. [W], [J]
    """

    chip: ChipSpec
    model: ModelSpec
    config: DeploymentConfig
    efficiency: Efficiency
    batch: float
    context_tok: float
    prefill_tok: float
    past_tok: float
    rows: tuple[StepRow, ...]
    memory: MemoryFit
    power_w: float

    @property
    def time_s(self) -> float:
        """Median time of the step. [s]"""
        return sum(row.time_s for row in self.rows)

    @property
    def sequence_tok(self) -> float:
        """KV tokens that the longest sequence of the step holds after it. [tok]"""
        return max(self.context_tok + 1 if self.batch else 0.0, self.past_tok + self.prefill_tok)

    @property
    def fits(self) -> bool:
        """Whether the sequences of the step find room in memory at their lengths."""
        decoding_byte = self.batch * self.memory.sequence_byte(self.context_tok + 1)
        prompt_byte = self.memory.sequence_byte(self.past_tok + self.prefill_tok) if self.prefill_tok else 0.0
        return decoding_byte + prompt_byte <= self.memory.kv_byte

    @property
    def energy_j(self) -> float:
        """Energy of all chips of the replica, without hosts. [J]"""
        return self.power_w * self.time_s

    @property
    def binding(self) -> str:
        """What most of the step's time is bound by: compute, memory, link or overhead."""
        shares: dict[str, float] = {}
        for row in self.rows:
            shares[row.bound_by] = shares.get(row.bound_by, 0.0) + row.time_s
        return max(shares, key=lambda name: shares[name])

    @cached_property
    def drivers(self) -> tuple[Driver, ...]:
        """(input, time at its low over the time, time at its high over the time), largest effect first."""

        def ratio(chip: ChipSpec, efficiency: Efficiency) -> float:
            rows = step_rows(
                chip, self.model, self.config, self.batch, self.context_tok, prefill_tok=self.prefill_tok,
                past_tok=self.past_tok, efficiency=efficiency,
            )  # fmt: skip
            return sum(row.time_s for row in rows) / self.time_s

        return drivers_list(self.chip, self.model, self.config, self.efficiency, ratio, least=1e-4)

    @property
    def band_s(self) -> Band:
        """Time of the step as P10, P50, P90. [s]"""
        return band_of(self.time_s, self.drivers)

    def as_dict(self) -> dict[str, Any]:
        """Return the estimate as JSON-ready values; every key carries its unit. None: unknown, or without a limit."""
        room_tok = self.memory.kv_room_tok
        longest_tok = self.memory.context_most_tok(max(self.batch, 1.0))
        most = self.memory.seqs_most(self.sequence_tok)
        return {
            "chip": self.chip.slug,
            "model": self.model.slug,
            "engine": engine_of_config(self.chip, self.config),
            "config": {**asdict(self.config), "label": self.config.label, "chips": self.config.chips},
            "batch": self.batch,
            "context_tok": self.context_tok,
            "prefill_tok": self.prefill_tok,
            "past_tok": self.past_tok,
            "step_s": self.band_s.as_dict(),
            "tok_s": self.batch / self.time_s,
            "fits": self.fits,
            "binding": self.binding,
            "operators": [{**asdict(row), "share": row.time_s / self.time_s} for row in self.rows],
            "drivers": [{"input": name, "at_low": low, "at_high": high} for name, low, high in self.drivers],
            "memory": {
                **asdict(self.memory),
                "kv_room_tok": None if math.isinf(room_tok) else room_tok,
                "batch_most": most,
                "context_most_tok": None if math.isinf(longest_tok) else longest_tok,
            },
            "power_w": None if np.isnan(self.power_w) else self.power_w,
            "energy_j": None if np.isnan(self.power_w) else self.energy_j,
        }


def step_estimate(
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig,
    batch: float,
    context_tok: float = 0.0,
    *,
    prefill_tok: float = 0.0,
    past_tok: float = 0.0,
    efficiency: Efficiency = DEFAULT,
) -> StepEstimate:
    """Return time, memory and power of one step of a serving engine.

    Parameters
    ----------
    batch : float
        Decoding sequences of the replica.
    context_tok : float
        KV length of each. [tok]
    prefill_tok, past_tok : float
        Tokens of a prompt in the same step, and how many of its tokens are cached already. [tok]

    Raises
    ------
    ConfigError
        If the step is empty, the config does not divide the model, or it does not fit (ModelDoesNotFitError).
    PrecisionError, MissingFigureError
        If the chip lacks a precision, or a figure that is needed is not known.
    """
    sizes = (batch, context_tok, prefill_tok, past_tok)
    if not (all(0 <= size < math.inf for size in sizes) and batch + prefill_tok > 0):
        raise ConfigError("a step has sequences or prompt tokens, and no length is negative or infinite")
    if past_tok and not prefill_tok:
        raise ConfigError("cached tokens belong to a prompt: a step with past tokens has prompt tokens too")
    memory = memory_fit(chip, model, config, efficiency=efficiency)
    rows = step_rows(
        chip, model, config, batch, context_tok, prefill_tok=prefill_tok, past_tok=past_tok, efficiency=efficiency
    )
    parts = np.array([(row.time_s, row.compute_s, row.memory_s) for row in rows])
    idle_w, tdp_w = chip_powers_w(chip)
    time_s = float(parts[:, 0].sum())
    busy_ratio = min(1.0, float(busy_s(parts, efficiency).sum()) / time_s)
    return StepEstimate(
        chip=chip,
        model=model,
        config=config,
        efficiency=efficiency,
        batch=batch,
        context_tok=context_tok,
        prefill_tok=prefill_tok,
        past_tok=past_tok,
        rows=rows,
        memory=memory,
        power_w=config.chips * (idle_w + (tdp_w - idle_w) * busy_ratio),
    )


def step_rows(
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig,
    batch: float,
    context_tok: float = 0.0,
    *,
    prefill_tok: float = 0.0,
    past_tok: float = 0.0,
    efficiency: Efficiency = DEFAULT,
) -> tuple[StepRow, ...]:
    """Return where the time of one step goes; see :func:`step_estimate`."""
    config_check(model, config)
    tok = batch + prefill_tok
    program = program_make(chip, model, config, efficiency)
    rows = []
    for op, cell, parts in zip(program.ops, program.cells, program.times(tok), strict=True):
        rows.append(
            _row(
                op.name, op.count, op.flop(tok), op.moved_byte(tok), parts, cell.basis, link=op.family == "collectives"
            )
        )
    for layers in attention_layers(model, config):
        rows += _attention_rows(chip, layers, config, efficiency, batch, context_tok, prefill_tok, past_tok)
    state_byte = batch * state_byte_per_seq(model, config)
    state_s = stream_s(chip, config, efficiency, state_byte)
    rows.append(_row("linear state", 0, 0.0, state_byte, np.array([state_s, 0.0, state_s]), "assumed"))
    seen_tok, pairs = batch * context_tok, prefill_tok * (past_tok + prefill_tok / 2)
    index_time_s = index_s(chip, model, config, efficiency, decode_pairs=seen_tok, pairs=pairs)
    index_flop = index_flop_per_pair(model, config) * (seen_tok + pairs)
    index_byte = seen_tok * index_byte_per_context_tok(model, config)
    rows.append(_row("indexer", 0, index_flop, index_byte, np.array([index_time_s, index_time_s, 0.0]), "assumed"))
    host_s = efficiency.host_step_s
    rows.append(StepRow("host", 0, 0.0, 0.0, host_s, 0.0, 0.0, 0.0, OVERHEAD, "assumed"))
    return tuple(row for row in rows if row.time_s > 0)


def _attention_rows(
    chip: ChipSpec,
    layers: AttentionLayers,
    config: DeploymentConfig,
    efficiency: Efficiency,
    batch: float,
    context_tok: float,
    prefill_tok: float,
    past_tok: float,
) -> Iterator[StepRow]:
    """Yield decode and prefill attention of one kind of layers."""
    window_tok = layers.window_tok or float("inf")
    if batch and context_tok:
        seen_tok = batch * min(context_tok, window_tok)
        parts = decode_times(chip, layers, config, efficiency, [batch], [context_tok])[0]
        flop, byte = layers.flop_per_context_tok * seen_tok, layers.byte_per_context_tok * seen_tok
        yield _row(f"{layers.name}, decode", layers.layers, flop, byte, parts, attention_basis(chip, layers, config))
    if prefill_tok:
        parts = prefill_times(chip, layers, config, efficiency, [prefill_tok], [past_tok])[0]
        pairs = min(prefill_tok * (past_tok + prefill_tok / 2), prefill_tok * window_tok)
        byte = layers.byte_per_context_tok * min(past_tok + prefill_tok, window_tok)
        yield _row(
            f"{layers.name}, prefill", layers.layers, layers.flop_per_tok2 * pairs, byte, parts,
            attention_basis(chip, layers, config, prefill=True),
        )  # fmt: skip


def _row(
    name: str, launches: float, flop: float, byte: float, parts: Floats, basis: str, *, link: bool = False
) -> StepRow:
    time_s, compute_s, memory_s = (float(part) for part in parts)
    rest_s = time_s - max(compute_s, memory_s)
    bound_by = OVERHEAD
    if max(compute_s, memory_s) >= rest_s:
        bound_by = "compute" if compute_s > memory_s else ("link" if link else "memory")
    moved_s = (0.0, memory_s) if link else (memory_s, 0.0)
    return StepRow(name, launches, flop, byte, time_s, compute_s, *moved_s, bound_by, basis)
