"""From a chip, a model and a config to a pool of the simulator: step table, KV blocks, link, loading time."""

import math
from dataclasses import dataclass
from typing import Any

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, Efficiency
from accelerator.errors import ConfigError
from accelerator.memory import MemoryFit, memory_fit
from accelerator.operators import DeploymentConfig
from accelerator.simulation import UNLIMITED, Pool, Role
from accelerator.steps import StepTable, step_table_build

BLOCK_TOK = 16
"""Tokens of a KV block, as vLLM pages them. [tok]"""

ONE_BLOCK_TOK = 2**30
"""Block of a model whose KV does not grow with the context: one holds a whole request. [tok]"""

LOAD_BYTE_S = 5e9
"""Weights that a replica loads per second, from storage to its chips: published figures are 2 to 10 GB/s. [byte/s]"""

TRANSFER_S = 1e-3
"""Fixed part of handing a KV cache over: metadata, registration, first byte. Assumed. [s]"""

SPEED_CONTEXT_TOK = 1024.0
"""Context at which the speed of a replica is taken for the weighted router. [tok]"""


@dataclass(frozen=True)
class KvBlocks:
    """KV memory in blocks; see Pool for the fields."""

    kv_blocks: int
    block_tok: int
    state_blocks: float
    window_blocks_per_tok: float
    window_kv_tok: int


def kv_blocks(fit: MemoryFit, block_tok: int = BLOCK_TOK) -> KvBlocks:
    """Return the KV memory of a replica in blocks.

    Layers that see the whole context fill blocks as it grows. What windowed layers keep, and the state of linear
    layers, does not grow for long: both are charged whole when a request is admitted.

    Parameters
    ----------
    fit : MemoryFit
        Memory of the replica.
    block_tok : int
        Tokens of a block. [tok]
    """
    in_window_byte = fit.window_byte_per_tok * fit.window_tok
    if fit.kv_byte_per_tok:
        block_byte = fit.kv_byte_per_tok * block_tok
        return KvBlocks(
            kv_blocks=int(fit.kv_byte / block_byte),
            block_tok=block_tok,
            state_blocks=fit.state_byte / block_byte,
            window_blocks_per_tok=fit.window_byte_per_tok / block_byte,
            window_kv_tok=int(fit.window_tok),
        )
    one_byte = fit.state_byte + in_window_byte
    return KvBlocks(int(fit.kv_byte / one_byte) if one_byte else UNLIMITED, ONE_BLOCK_TOK, 0.0, 0.0, 0)


def pool_build(
    name: str,
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig,
    *,
    quantile: float = 0.5,
    efficiency: Efficiency = DEFAULT,
    block_tok: int = BLOCK_TOK,
    watermark_ratio: float = 0.0,
    context_most_tok: int | None = None,
    prefix_ratio: float = 0.0,
    link_byte_s: float | None = None,
    weight: float | None = None,
    **more: Any,
) -> Pool:
    """Return a pool of replicas of a model on a chip.

    Parameters
    ----------
    quantile : float
        Of the step table: 0.1 for a chip that is as fast as it may be, 0.9 for one as slow. [-]
    block_tok : int
        Tokens of a KV block. [tok]
    watermark_ratio : float
        Share of the KV blocks that an admission leaves free while others run. [-]
    context_most_tok : int, optional
        Longest prompt and answer together; the model's if left out. [tok]
    prefix_ratio : float
        Share of the KV memory set apart for the prefix cache. [-]
    link_byte_s : float, optional
        Link over which a prefill replica hands KV over; all chips' scale-out links if left out. [byte/s]
    weight : float, optional
        Share for the weighted router; the speed of a full batch if left out. [-]
    more
        Other fields of Pool.

    Raises
    ------
    ConfigError
        If the config is impossible (PrecisionError, ModelDoesNotFitError, MissingFigureError).
    """
    if not 0 <= prefix_ratio < 1 or not 0 <= watermark_ratio < 1:
        raise ConfigError(
            f"pool {name}: shares of the KV memory lie between 0 and 1: {prefix_ratio}, {watermark_ratio}"
        )
    table = step_table_build(chip, model, config, efficiency=efficiency, quantile=quantile)
    blocks = kv_blocks(memory_fit(chip, model, config, efficiency=efficiency), block_tok)
    values: dict[str, Any] = {**vars(blocks), **more}
    if prefix_ratio and (values.get("prefix_blocks") or blocks.block_tok == ONE_BLOCK_TOK):
        raise ConfigError(
            f"pool {name}: prefix_ratio sets apart KV memory that grows with the context; not beside prefix_blocks"
        )
    if prefix_ratio:
        set_apart = int(values["kv_blocks"] * prefix_ratio)
        values["kv_blocks"] -= set_apart
        values["prefix_blocks"] = set_apart * blocks.block_tok // values.get("prefix_block_tok", 512)
    values["watermark_blocks"] = int(values["kv_blocks"] * watermark_ratio)
    if values.get("role") == Role.PREFILL:
        byte_s = config.chips * chip.scale_out_byte_s.value if link_byte_s is None else link_byte_s
        values.setdefault("transfer_s", TRANSFER_S)
        values["transfer_s_per_tok"] = _byte_per_tok(chip, model, config, efficiency) / byte_s
    return Pool(
        name=name,
        table=table,
        context_most_tok=context_most_tok or model.max_context_tok,
        weight=full_batch_tok_s(table) if weight is None else weight,
        **values,
    )


def cold_start_s(
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig,
    *,
    load_byte_s: float = LOAD_BYTE_S,
    efficiency: Efficiency = DEFAULT,
) -> float:
    """Return how long a replica takes to load its weights before it takes requests. [s]

    Parameters
    ----------
    load_byte_s : float
        Weights loaded per second. [byte/s]
    """
    return memory_fit(chip, model, config, efficiency=efficiency).weights_byte / load_byte_s


def full_batch_tok_s(table: StepTable) -> float:
    """Return what a full batch of short contexts decodes per second. [tok/s]"""
    seqs = float(min(table.max_seqs, table.max_batched_tok))
    step_s = table.step_s(seqs, seqs, seqs * SPEED_CONTEXT_TOK)
    return seqs / step_s if step_s else math.inf


def _byte_per_tok(chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, efficiency: Efficiency) -> float:
    """KV of a token of a prompt as it is handed over; windows as if full. [byte/tok]"""
    fit = memory_fit(chip, model, config, efficiency=efficiency)
    return fit.kv_byte_per_tok + fit.window_byte_per_tok
