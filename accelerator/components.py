"""The time of a step taken apart: what reads weights, what computes, what waits for links, what looks at contexts.

A serving engine leaves another share of the chip in each of these than kernels alone do, so each has its own ratio
(``serving``). Parts are worked out once per (chip, model, config) from the kernel calibration, at a few numbers of
tokens and of sequences, and read by straight lines between them.
"""

from dataclasses import dataclass
from functools import lru_cache

import numpy as np

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, Efficiency
from accelerator.operators import AttentionLayers, DeploymentConfig, attention_layers, state_byte_per_seq
from accelerator.power import busy_s
from accelerator.roofline import Floats, Program, decode_times, index_s, prefill_times, program_make, stream_s

LINEAR = ("gemm_memory", "gemm_compute", "experts_memory", "experts_compute", "collectives", "exchanges")
"""Parts of a step that depend on its tokens; norms and activations read memory as matrix products do, exchanges are the
all-to-alls of tokens that travel to their experts."""

TOK_NODES = np.array([1, 2, 4, 8, 16, 32, 64, 128, 192, 256, 512, 1024, 2048, 4096, 8192, 16384], dtype=np.float64)
"""Tokens of a step at which its parts are worked out. [tok]"""

SEQ_NODES = np.array([1, 2, 4, 8, 16, 32, 64, 128, 256, 512, 1024, 2048, 4096], dtype=np.float64)
"""Sequences at which decode attention is worked out."""

SHORT_CONTEXT_TOK, LONG_CONTEXT_TOK = 1024.0, 12288.0
"""Contexts through which the straight line of decode attention is drawn. [tok]"""

SHORT_PROMPT_TOK, LONG_PROMPT_TOK = 512.0, 4096.0
"""Prompts through which the straight line of prefill attention is drawn. [tok]"""


@dataclass(frozen=True, eq=False)
class StepParts:
    """Parts of the step of one replica.

    Parameters
    ----------
    linear_s : float64[len(TOK_NODES), len(LINEAR)]
        Parts by tokens of the step. [s]
    decode_s, context_s_per_tok, window_s_per_tok : float64[len(SEQ_NODES)]
        Decode attention by sequences: fixed part [s], per token of context in layers that see everything and in
        windowed ones [s/tok].
    prefill_s, prefill_s_per_tok2, window_s_per_tok2 : float
        Prefill attention: launches [s], per pair of tokens in either kind of layers [s/tok^2].
    window_tok : float
        Window of the windowed layers. [tok]
    launches : float
        Kernels of a step on one chip.
    """

    linear_s: Floats
    decode_s: Floats
    context_s_per_tok: Floats
    window_s_per_tok: Floats
    prefill_s: float
    prefill_s_per_tok2: float
    window_s_per_tok2: float
    window_tok: float
    launches: float


def linear_parts(program: Program, tok: Floats) -> Floats:
    """Return the parts of a step that depend on its tokens: float64[len(tok), len(LINEAR)]. [s]"""
    parts_s = np.zeros((len(tok), len(LINEAR)))
    for op, times in zip(program.ops, program.times_at(tok), strict=True):
        time_s, compute_s, memory_s = times.T
        if op.family == "collectives":
            parts_s[:, 5 if op.kind == "alltoall" else 4] += time_s
            continue
        total = compute_s**2 + memory_s**2
        share = np.divide(compute_s**2, total, out=np.zeros_like(total), where=total > 0)
        at = 2 if op.family == "experts" else 0
        parts_s[:, at] += time_s * (1 - share)
        parts_s[:, at + 1] += time_s * share
    return parts_s


def launches_of(program: Program, model: ModelSpec, config: DeploymentConfig) -> float:
    """Return the kernels of a step on one chip."""
    ops = sum(op.count for op in program.ops)
    return float(ops + sum(layers.layers for layers in attention_layers(model, config)))


@dataclass(frozen=True, eq=False)
class DecodeLines:
    """Decode attention as straight lines in the context, by sequences: fixed [s], full and windowed layers [s/tok]."""

    fixed_s: Floats
    context_s_per_tok: Floats
    window_s_per_tok: Floats
    busy_ratio: float


def decode_lines(
    chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, efficiency: Efficiency, seqs: Floats
) -> DecodeLines:
    """Return decode attention of all kinds of layers at several numbers of sequences."""
    fixed_s, time_s, busy = np.zeros(len(seqs)), 0.0, 0.0
    slopes = {True: np.zeros(len(seqs)), False: np.zeros(len(seqs))}
    for layers in attention_layers(model, config):
        short, long = _context_nodes(layers)
        near, far = (decode_times(chip, layers, config, efficiency, seqs, tok) for tok in (short, long))
        slope = (far[:, 0] - near[:, 0]) / (seqs * (long - short))
        slopes[layers.window_tok > 0] += slope
        fixed_s += near[:, 0] - slope * seqs * short
        time_s += far[:, 0].sum()
        busy += busy_s(far, efficiency).sum()
    state_s = stream_s(chip, config, efficiency, state_byte_per_seq(model, config))
    return DecodeLines(
        fixed_s=np.maximum(fixed_s, 0.0) + state_s * seqs,
        context_s_per_tok=slopes[False] + index_s(chip, model, config, efficiency, decode_pairs=1.0, pairs=0.0),
        window_s_per_tok=slopes[True],
        busy_ratio=float(busy / time_s) if time_s else efficiency.activity_memory_ratio,
    )


def _context_nodes(layers: AttentionLayers) -> tuple[float, float]:
    """Return the two contexts through which a straight line is drawn: of windowed layers, up to their window."""
    if layers.window_tok:
        return layers.window_tok / 4, float(layers.window_tok)
    return SHORT_CONTEXT_TOK, LONG_CONTEXT_TOK


@dataclass(frozen=True)
class PrefillLines:
    """Prefill attention as straight lines in pairs of tokens: full and windowed layers [s/tok^2], launches [s]."""

    full_s_per_tok2: float
    window_s_per_tok2: float
    fixed_s: float
    busy_ratio: float


def prefill_lines(chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, efficiency: Efficiency) -> PrefillLines:
    """Return prefill attention of all kinds of layers."""
    slopes, fixed_s, time_s, busy = {True: 0.0, False: 0.0}, 0.0, 0.0, 0.0
    tok = np.array([SHORT_PROMPT_TOK, LONG_PROMPT_TOK])
    for layers in attention_layers(model, config):
        times = prefill_times(chip, layers, config, efficiency, tok)
        pairs = tok**2 / 2
        if layers.window_tok:
            pairs = np.minimum(pairs, tok * layers.window_tok)
        slope = (times[1, 0] - times[0, 0]) / (pairs[1] - pairs[0])
        slopes[layers.window_tok > 0] += slope
        fixed_s += max(0.0, times[0, 0] - slope * pairs[0])
        time_s += times[1, 0]
        busy += busy_s(times, efficiency)[1]
    ratio = float(busy / time_s) if time_s else efficiency.activity_compute_ratio
    full_s = float(slopes[False]) + index_s(chip, model, config, efficiency, decode_pairs=0.0, pairs=1.0)
    return PrefillLines(full_s, float(slopes[True]), float(fixed_s), ratio)


def window_tok_of(model: ModelSpec) -> float:
    """Return the window of the windowed layers; the tokens that sparse attention picks count as one. [tok]"""
    return float(model.window_tok if model.window_layers else model.index_topk)


@lru_cache(maxsize=4096)
def step_parts(
    chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, efficiency: Efficiency = DEFAULT
) -> StepParts:
    """Return the parts of a step; raises what :func:`accelerator.roofline.program_make` does."""
    program = program_make(chip, model, config, efficiency)
    decode = decode_lines(chip, model, config, efficiency, SEQ_NODES)
    prefill = prefill_lines(chip, model, config, efficiency)
    return StepParts(
        linear_s=linear_parts(program, TOK_NODES),
        decode_s=decode.fixed_s,
        context_s_per_tok=decode.context_s_per_tok,
        window_s_per_tok=decode.window_s_per_tok,
        prefill_s=prefill.fixed_s,
        prefill_s_per_tok2=prefill.full_s_per_tok2,
        window_s_per_tok2=prefill.window_s_per_tok2,
        window_tok=window_tok_of(model),
        launches=launches_of(program, model, config),
    )
