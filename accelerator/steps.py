"""The step table: how long one engine step takes, as ``linear[tokens] + a context + b prefill_work + c``."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike

from accelerator import kernels
from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, Efficiency, bandwidth_ratio
from accelerator.errors import ConfigError
from accelerator.operators import (
    DeploymentConfig,
    attention_of,
    config_check,
    launches,
    links_of,
    operators_list,
)
from accelerator.roofline import Floats, attention_times_s, linear_times_s, operator_times_s

__all__ = ["DeploymentConfig", "StepRow", "StepTable", "explain", "step_table_build"]


@dataclass(frozen=True, eq=False)
class StepTable:
    """Time of one engine step of one replica of (chip, model, config).

    Parameters
    ----------
    linear_s : float64[max_batched_tok + 1]
        Part that depends on the tokens of the step (decodes and prefill tokens together), 0 for none. [s]
    context_s_per_tok : float
        a: per token of KV that the decodes of the step look at. [s/tok]
    prefill_s_per_tok2 : float
        b: per pair of a prefill token and a token before it. [s/tok^2]
    fixed_s : float
        c: host work, launches and hops of collectives. [s]
    """

    linear_s: Floats
    context_s_per_tok: float
    prefill_s_per_tok2: float
    fixed_s: float

    @property
    def max_batched_tok(self) -> int:
        """Most tokens of one step. [tok]"""
        return len(self.linear_s) - 1

    def step_s(self, n_tok: float, decode_context_tok: float = 0.0, prefill_work_tok2: float = 0.0) -> float:
        """Return the time of one step. [s]

        Parameters
        ----------
        n_tok : float
            Tokens of the step, 0 to max_batched_tok; between whole numbers read by a straight line. [tok]
        decode_context_tok : float
            KV lengths of all decoding sequences, added up. [tok]
        prefill_work_tok2 : float
            Pairs of a new prompt token and the tokens before it; n^2 / 2 for a whole prompt of n. [tok^2]
        """
        if not 0 <= n_tok <= len(self.linear_s) - 1:
            raise ConfigError(f"a step holds 0 to {self.max_batched_tok} tokens, not {n_tok:g}")
        low = int(n_tok)
        linear_s = self.linear_s.item(low)
        if n_tok > low:
            linear_s += (n_tok - low) * (self.linear_s.item(low + 1) - linear_s)
        return (
            linear_s
            + self.context_s_per_tok * decode_context_tok
            + self.prefill_s_per_tok2 * prefill_work_tok2
            + self.fixed_s
        )

    def step_times_s(self, n_tok: ArrayLike, decode_context_tok: ArrayLike, prefill_work_tok2: ArrayLike) -> Floats:
        """Return the times of many steps at once, by the kernel; see :meth:`step_s`. [s]"""
        tok, context, work = (
            np.ascontiguousarray(column, dtype=np.float64)
            for column in np.broadcast_arrays(n_tok, decode_context_tok, prefill_work_tok2)
        )
        out_s = np.empty(len(tok))
        kernels.roofline.step_times_s(
            self.linear_s, self.context_s_per_tok, self.prefill_s_per_tok2, self.fixed_s, tok, context, work, out_s
        )
        return out_s


def step_table_build(
    chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, *, efficiency: Efficiency = DEFAULT
) -> StepTable:
    """Return the step table of a model on a chip.

    Raises
    ------
    ConfigError
        If the model does not divide as asked, or the replica leaves the scale-up domain.
    PrecisionError
        If the chip does not compute in the weight precision.
    """
    config_check(model, config)
    if config.chips > chip.scale_up_chips:
        raise ConfigError(f"{config.chips} chips leave the scale-up domain of {chip.slug}, {chip.scale_up_chips} chips")
    links = links_of(model, config)
    context_s_per_tok, prefill_s_per_tok2 = attention_times_s(chip, attention_of(model, config), efficiency)
    return StepTable(
        linear_s=linear_times_s(chip, operators_list(model, config), links, config, efficiency),
        context_s_per_tok=context_s_per_tok,
        prefill_s_per_tok2=prefill_s_per_tok2,
        fixed_s=(efficiency.host_step_s + efficiency.operator_s * launches(model) + efficiency.link_hop_s * links.hops),
    )


@dataclass(frozen=True)
class StepRow:
    """One line of :func:`explain`: an operator of a step, per chip. bound_by: compute, memory, link or overhead."""

    operator: str
    flop: float
    byte: float
    time_s: float
    bound_by: str


def explain(
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig,
    batch: float,
    context_tok: float = 0.0,
    *,
    prefill_tok: float = 0.0,
    prefill_work_tok2: float | None = None,
    efficiency: Efficiency = DEFAULT,
) -> tuple[StepRow, ...]:
    """Return where the time of one step goes; the rows add up to the step table's answer.

    Parameters
    ----------
    batch : float
        Decoding sequences.
    context_tok : float
        KV length of each. [tok]
    prefill_tok, prefill_work_tok2 : float
        Prompt tokens in the same step, and their pairs (n^2 / 2 if left out). [tok], [tok^2]
    """
    ops, attention, links = operators_list(model, config), attention_of(model, config), links_of(model, config)
    work_tok2 = prefill_tok**2 / 2 if prefill_work_tok2 is None else prefill_work_tok2
    tok, seen_tok = batch + prefill_tok, batch * context_tok
    table = step_table_build(chip, model, config, efficiency=efficiency)
    rows = []
    columns = operator_times_s(chip, ops, config, efficiency, tok)
    memory_byte_s = chip.memory_byte_s.value * bandwidth_ratio(efficiency)
    for op, flop, byte, time_s in zip(ops, *(column.tolist() for column in columns), strict=True):
        rows.append(StepRow(op.name, flop, byte, time_s, "memory" if byte / memory_byte_s >= time_s else "compute"))
    decode_byte = attention.byte_per_context_tok * seen_tok
    decode_s = table.context_s_per_tok * seen_tok
    rows += [
        StepRow("decode attention", attention.flop_per_context_tok * seen_tok, decode_byte, decode_s,
                "memory" if decode_byte / memory_byte_s >= decode_s else "compute"),
        StepRow("prefill attention", attention.flop_per_tok2 * work_tok2, 0.0,
                table.prefill_s_per_tok2 * work_tok2, "compute"),
        StepRow("collectives", 0.0, links.byte_per_tok * tok,
                links.byte_per_tok * tok / (chip.scale_up_byte_s.value * efficiency.link_ratio), "link"),
        StepRow("overhead", 0.0, 0.0, table.fixed_s, "overhead"),
    ]  # fmt: skip
    return tuple(row for row in rows if row.time_s > 0)
