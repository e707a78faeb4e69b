"""One engine step: the table a simulator reads, and where the time of a single step goes.

The table's form is

    step = linear[tokens] + decode[sequences] + a[sequences] context + w[sequences] windowed context
           + b pairs + bw windowed pairs + (p if there are prompts) + c                                     [s]

It differs from a plain ``linear[n] + a context + b pairs + c`` where kernels do: few sequences do not fill a chip, so
what a token of context costs depends on how many sequences decode. Between events a batch does not change, so times of
successive steps are still an arithmetic series.
"""

from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import ArrayLike

from accelerator import kernels
from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.components import decode_lines, launches_of, linear_parts, prefill_lines, window_tok_of
from accelerator.efficiency import DEFAULT, RANGES, Efficiency, Engine
from accelerator.errors import ConfigError
from accelerator.operators import (
    DeploymentConfig,
    config_check,
)
from accelerator.power import Activity, busy_s, chip_powers_w
from accelerator.roofline import (
    Floats,
    Program,
    program_make,
    spreads,
)
from accelerator.units import quantile_z

__all__ = ["DeploymentConfig", "StepTable", "step_table_build"]

TILE_TOK = 64
"""Rows of a matrix product are padded to this many: between two multiples a step's time is close to a straight line."""


@dataclass(frozen=True, eq=False)
class StepTable:
    """Time of one engine step of one replica of (chip, model, config).

    Parameters
    ----------
    linear_s : float64[max_batched_tok + 1]
        Part that depends on the tokens of the step (decodes and prefill tokens together), 0 for none. [s]
    decode_s : float64[max_seqs + 1]
        Part of decode attention that depends on how many sequences decode, 0 for none. [s]
    context_s_per_tok, window_s_per_tok : float64[max_seqs + 1]
        a, w: per token of KV that the decodes of the step look at, in layers that see everything and in windowed ones,
        by how many sequences decode. [s/tok]
    prefill_s_per_tok2, window_s_per_tok2 : float
        b, bw: per pair of a prefill token and a token before it, in layers that see everything and in windowed ones.
        [s/tok^2]
    prefill_s : float
        p: launches of prefill attention. [s]
    fixed_s : float
        c: host work. [s]
    window_tok : float
        Window of the windowed layers; 0 without such. [tok]
    activity : Activity
        What the parts draw.
    """

    linear_s: Floats
    decode_s: Floats
    context_s_per_tok: Floats
    window_s_per_tok: Floats
    prefill_s_per_tok2: float
    window_s_per_tok2: float
    prefill_s: float
    fixed_s: float
    window_tok: float
    activity: Activity

    @property
    def max_batched_tok(self) -> int:
        """Most tokens of one step. [tok]"""
        return len(self.linear_s) - 1

    @property
    def max_seqs(self) -> int:
        """Most sequences that decode in one step."""
        return len(self.decode_s) - 1

    def step_s(
        self,
        n_tok: float,
        decode_seqs: float = 0.0,
        decode_context_tok: float = 0.0,
        prefill_work_tok2: float = 0.0,
    ) -> float:
        """Return the time of one step. [s]

        Parameters
        ----------
        n_tok : float
            Tokens of the step, 0 to max_batched_tok; between whole numbers read by a straight line. [tok]
        decode_seqs : float
            Sequences among them that decode; the other tokens are of prompts.
        decode_context_tok : float
            KV lengths of all decoding sequences, added up. [tok]
        prefill_work_tok2 : float
            Pairs of a new prompt token and the tokens before it; n^2 / 2 for a whole prompt of n. [tok^2]
        """
        columns = (np.array([float(v)]) for v in (n_tok, decode_seqs, decode_context_tok, prefill_work_tok2))
        return self._times(*columns).item()

    def step_times_s(
        self, n_tok: ArrayLike, decode_seqs: ArrayLike, decode_context_tok: ArrayLike, prefill_work_tok2: ArrayLike
    ) -> Floats:
        """Return the times of many steps at once, by the kernel; see :meth:`step_s`. [s]"""
        columns = (
            np.ascontiguousarray(column, dtype=np.float64)
            for column in np.broadcast_arrays(n_tok, decode_seqs, decode_context_tok, prefill_work_tok2)
        )
        return self._times(*columns)

    def smoothed(self) -> "StepTable":
        """Return the table for a mean batch: tokens of a step scatter around it, so a tile's edge is no cliff.

        The token-dependent part is averaged over a tile's width around each number of tokens.
        """
        sums_s = np.concatenate([[0.0], np.cumsum(self.linear_s)])
        tok = np.arange(len(self.linear_s))
        half = np.minimum(TILE_TOK // 2, np.minimum(tok, self.max_batched_tok - tok))
        return replace(self, linear_s=(sums_s[tok + half + 1] - sums_s[tok - half]) / (2 * half + 1))

    def prompt_s(self, prompt_tok: float, work_tok2: float) -> float:
        """Return the time of attention over a whole prompt, however it is cut into chunks. [s]

        Parameters
        ----------
        prompt_tok, work_tok2 : float
            Its tokens and its pairs of tokens. [tok], [tok^2]
        """
        in_window_tok2 = min(work_tok2, prompt_tok * self.window_tok)
        return self.prefill_s_per_tok2 * work_tok2 + self.window_s_per_tok2 * in_window_tok2

    def energy_j(
        self,
        n_tok: float,
        decode_seqs: float = 0.0,
        decode_context_tok: float = 0.0,
        prefill_work_tok2: float = 0.0,
    ) -> float:
        """Return the energy of all chips of the replica, without hosts, for one step; see :meth:`step_s`. [J]"""
        linear_s = _between(self.linear_s, n_tok)
        without_prompts_s = self.step_s(n_tok, decode_seqs, decode_context_tok)
        step_s = self.step_s(n_tok, decode_seqs, decode_context_tok, prefill_work_tok2)
        return self.activity.energy_j(
            step_s=step_s,
            linear_busy_s=_between(self.activity.linear_busy_s, n_tok),
            decode_s=without_prompts_s - linear_s - self.fixed_s,
            prefill_s=step_s - without_prompts_s,
        )

    def _times(self, tok: Floats, seqs: Floats, context_tok: Floats, work_tok2: Floats) -> Floats:
        out_s = np.empty(len(tok))
        try:
            kernels.roofline.step_times_s(
                self.linear_s, self.decode_s, self.context_s_per_tok, self.window_s_per_tok,
                self.prefill_s_per_tok2, self.window_s_per_tok2, self.prefill_s, self.fixed_s, self.window_tok,
                tok, seqs, context_tok, work_tok2, out_s,
            )  # fmt: skip
        except ValueError as error:
            raise ConfigError(str(error)) from error
        return out_s


def _between(values: Floats, at: float) -> float:
    return float(np.interp(at, (int(at), int(at) + 1), values[[int(at), min(int(at) + 1, len(values) - 1)]]))


def step_table_build(
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig,
    *,
    efficiency: Efficiency = DEFAULT,
    quantile: float = 0.5,
) -> StepTable:
    """Return the step table of a model on a chip.

    Parameters
    ----------
    quantile : float
        0.5 for the median. Otherwise every part of the table is put at its own quantile, as if all of them were that
        slow (or fast) together: the calibration's parts by their spread, host work and launches by their range. [-]

    Raises
    ------
    ConfigError
        If the model does not divide as asked.
    PrecisionError
        If the chip does not compute in the weight precision.
    MissingFigureError
        If a figure of the chip that is needed is not known.
    """
    config_check(model, config)
    if quantile != 0.5:
        efficiency = _efficiency_at(quantile, chip, model, config, efficiency)
    program = program_make(chip, model, config, efficiency)
    node_tok = _tok_nodes(config.max_batched_tok, config.micro)
    totals = program.totals(node_tok)
    own = totals - np.outer(program.link_s(node_tok), (0.0, 0.0, 1.0))  # links draw nothing above idle
    tok = np.arange(config.max_batched_tok + 1, dtype=np.float64)
    seqs, node_seqs = np.arange(config.max_seqs + 1, dtype=np.float64), _seq_nodes(config.max_seqs)
    decode = decode_lines(chip, model, config, efficiency, node_seqs)
    prefill = prefill_lines(chip, model, config, efficiency)
    idle_w, tdp_w = chip_powers_w(chip)
    engine, linear_s = efficiency.engine, totals[:, 0]
    decode_ratio = prompt_ratio = 1.0
    fixed_s, seq_s = efficiency.host_step_s, 0.0
    if engine:
        linear_s = _engine_linear_s(engine, program, model, config, node_tok)
        decode_ratio = engine.decode_ratio * engine.decode_attention_ratio
        prompt_ratio = engine.prompt_ratio * engine.prefill_attention_ratio
        fixed_s = engine.decode_ratio * (engine.host_step_s + engine.host_rank_s * (config.chips - 1))
        seq_s = engine.decode_ratio * engine.host_seq_s / config.dp  # each group has a scheduler of its own
    every_linear_s = np.interp(tok, node_tok, linear_s)
    # however much faster an engine is than its kernels, no step is busier than it is long
    linear_busy_s = np.minimum(np.interp(tok, node_tok, busy_s(own, efficiency)), every_linear_s)
    return StepTable(
        linear_s=every_linear_s,
        decode_s=decode_ratio * np.interp(seqs, [0.0, *node_seqs], [0.0, *decode.fixed_s]) + seq_s * seqs,
        context_s_per_tok=decode_ratio * np.interp(seqs, node_seqs, decode.context_s_per_tok),
        window_s_per_tok=decode_ratio * np.interp(seqs, node_seqs, decode.window_s_per_tok),
        prefill_s_per_tok2=prompt_ratio * prefill.full_s_per_tok2,
        window_s_per_tok2=prompt_ratio * prefill.window_s_per_tok2,
        prefill_s=prompt_ratio * prefill.fixed_s,
        fixed_s=fixed_s,
        window_tok=window_tok_of(model),
        activity=Activity(
            linear_busy_s=linear_busy_s,
            decode_ratio=decode.busy_ratio,
            prefill_ratio=prefill.busy_ratio,
            chips=config.chips,
            idle_w=idle_w,
            tdp_w=tdp_w,
        ),
    )


DECODE_TOK = 256.0
"""Tokens of a step up to which they are taken as decodes, per group: beyond, they are prompts'. [tok]"""


def _engine_linear_s(
    engine: Engine, program: Program, model: ModelSpec, config: DeploymentConfig, tok: Floats
) -> Floats:
    """Return the token-dependent part as a fitted engine runs it, issued by its host. [s]"""
    ratios = (
        engine.memory_ratio, engine.compute_ratio, engine.experts_ratio, engine.experts_ratio,
        engine.collectives_ratio,
        engine.exchanges_ratio,
    )  # fmt: skip
    chip_s = linear_parts(program, tok) @ np.array(ratios)
    issue_s = engine.issue_s * launches_of(program, model, config)
    issued_s = np.where(tok > 0, np.hypot(chip_s, issue_s), 0.0)
    edge_tok = DECODE_TOK * config.micro
    edge_s = np.interp(edge_tok, tok, issued_s)
    prompts_s = engine.decode_ratio * edge_s + engine.prompt_ratio * (issued_s - edge_s)
    return np.where(tok <= edge_tok, engine.decode_ratio * issued_s, prompts_s)


def _efficiency_at(
    quantile: float, chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, efficiency: Efficiency
) -> Efficiency:
    """Return an efficiency whose every time is at a quantile."""
    z = quantile_z(quantile)
    if efficiency.engine:  # fitted as a whole: the parts' own errors are in its spread
        return replace(efficiency, engine=efficiency.engine.slower(float(np.exp(z * efficiency.engine.spread))))
    slower = {
        f"{part}_time_ratio": getattr(efficiency, f"{part}_time_ratio") * float(np.exp(z * spread))
        for part, spread in spreads(chip, model, config).items()
    }
    for name in ("host_step_s", "graph_launch_s"):
        low, value, high = RANGES[name]
        end = high if z > 0 else low
        slower[name] = getattr(efficiency, name) * (end / value) ** (abs(z) / quantile_z(0.9))
    return replace(efficiency, **slower)


@lru_cache(maxsize=64)
def _tok_nodes(most_tok: int, micro: int) -> Floats:
    """Return the tokens at which the linear part is worked out: all few, then both sides of every tile's edge.

    A chip's products see a share of 1 / micro of the step's tokens, in tiles of 16 rows up to 64 and of 64 beyond.
    """
    few = np.arange(min(TILE_TOK, most_tok) + 1)
    rows = np.concatenate([
        np.arange(TILE_TOK // 4, TILE_TOK, TILE_TOK // 4),
        np.arange(TILE_TOK, 16 * TILE_TOK, TILE_TOK),
        np.arange(16 * TILE_TOK, most_tok, 4 * TILE_TOK),  # here a tile more or less is under 6 % of a product
    ])  # fmt: skip
    edges = rows * micro
    edges = edges[edges < most_tok]
    nodes = np.unique(np.concatenate([few, edges, edges + 1, [most_tok]])).astype(np.float64)
    nodes.setflags(write=False)
    return nodes


@lru_cache(maxsize=64)
def _seq_nodes(most: int) -> Floats:
    """Return the batches at which decode attention is worked out: powers of two and a half."""
    powers = 2.0 ** (np.arange(0, 2 * np.log2(most) + 1) / 2)
    nodes = np.unique(np.concatenate([np.rint(powers[powers < most]), [most]])).astype(np.float64)
    nodes.setflags(write=False)
    return nodes
