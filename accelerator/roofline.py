"""The roofline of a chip: how long its operators take, from flop, byte and the rates it reaches.

This is the Python face of the kernels: it turns specs into arrays of rates.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from accelerator import kernels
from accelerator.chips import ChipSpec
from accelerator.efficiency import Efficiency, attention_ratio, bandwidth_ratio, gemm_ratio
from accelerator.errors import PrecisionError
from accelerator.operators import Attention, DeploymentConfig, Links, Operator

Floats = NDArray[np.float64]


def flop_s(chip: ChipSpec, precision: str) -> float:
    """Return the dense peak of a chip in a precision; PrecisionError if it does not compute in it. [flop/s]"""
    if precision not in chip.peak_flop_s:
        raise PrecisionError(f"{chip.slug} does not compute in {precision}; it has {', '.join(chip.peak_flop_s)}")
    return chip.peak_flop_s[precision].value


def rates(chip: ChipSpec, config: DeploymentConfig, efficiency: Efficiency, *, quantised: bool) -> tuple[float, float]:
    """Return the compute and memory rate of operators in the weight precision or in BF16. [flop/s], [byte/s]"""
    precision = config.weight_precision if quantised else "bf16"
    return (
        flop_s(chip, precision) * gemm_ratio(efficiency),
        chip.memory_byte_s.value * bandwidth_ratio(efficiency),
    )


def linear_times_s(
    chip: ChipSpec,
    ops: Sequence[Operator],
    links: Links,
    config: DeploymentConfig,
    efficiency: Efficiency,
) -> Floats:
    """Return the token-dependent time of a step for 0 ... max_batched_tok tokens. [s]"""
    reached = {quantised: rates(chip, config, efficiency, quantised=quantised) for quantised in (True, False)}
    columns = np.array(
        [
            (
                op.flop_per_tok,
                op.half_tok_ratio * efficiency.gemm_half_tok,
                weight_byte(op, config, efficiency),
                op.byte_per_tok,
                op.miss_ratio,
                op.most_tok,
                *reached[op.quantised],
            )
            for op in ops
        ],
        dtype=np.float64,
    ).T
    out_s = np.empty(config.max_batched_tok + 1)
    link_tok_s = links.byte_per_tok / (chip.scale_up_byte_s.value * efficiency.link_ratio)
    kernels.roofline.linear_times_s(*np.ascontiguousarray(columns), link_tok_s, out_s)
    return out_s


def operator_times_s(
    chip: ChipSpec, ops: Sequence[Operator], config: DeploymentConfig, efficiency: Efficiency, tok: float
) -> tuple[Floats, Floats, Floats]:
    """Return work, traffic and time of each operator of a step with so many tokens. [flop], [byte], [s]

    The work is what is needed; the time also counts the part of a tile that a small step wastes.
    """
    flop, moved_byte, padded, flop_rate, byte_rate = np.empty((5, len(ops)))
    for i, op in enumerate(ops):
        within, hit = min(tok, op.most_tok), 1 - op.miss_ratio**tok
        flop[i] = op.flop_per_tok * within
        padded[i] = op.flop_per_tok * (within + op.half_tok_ratio * efficiency.gemm_half_tok * hit)
        moved_byte[i] = weight_byte(op, config, efficiency) * hit + op.byte_per_tok * within
        flop_rate[i], byte_rate[i] = rates(chip, config, efficiency, quantised=op.quantised)
    time_s = np.empty(len(ops))
    kernels.roofline.op_times_s(padded, moved_byte, flop_rate, byte_rate, time_s)
    return flop, moved_byte, time_s


def weight_byte(op: Operator, config: DeploymentConfig, efficiency: Efficiency) -> float:
    """Return the weights of an operator with the scales that quantisation adds. [byte]"""
    scaled = op.quantised and config.weight_precision != "bf16"
    return op.weight_byte * (efficiency.weight_scale_ratio if scaled else 1.0)


def attention_times_s(chip: ChipSpec, attention: Attention, efficiency: Efficiency) -> tuple[float, float]:
    """Return a and b of a step: time per KV token seen by decode, per pair of prefill. [s/tok], [s/tok^2]"""
    reached = flop_s(chip, "bf16") * attention_ratio(efficiency)
    decode_s = max(
        attention.flop_per_context_tok / reached,
        attention.byte_per_context_tok / (chip.memory_byte_s.value * bandwidth_ratio(efficiency)),
    )
    return decode_s, attention.flop_per_tok2 / reached
