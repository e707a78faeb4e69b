"""How a measured deployment was spread over its chips: what a publisher stated, and rules for what was left out."""

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import lru_cache
from typing import Any

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.errors import ModelDoesNotFitError
from accelerator.memory import memory_fit
from accelerator.operators import DeploymentConfig

ROOM_RATIO, LEAST_ROOM_RATIO = 0.25, 0.1
"""Share of memory left for KV on as few chips as are usually taken, and on a whole node. [-]"""

WIDE_CHIPS = 32
"""Chips over which experts are spread where only figures per chip are stated."""


@dataclass(frozen=True, slots=True)
class Layout:
    """How a deployment is spread: replicas of one config; for separate prefill workers, theirs too."""

    config: DeploymentConfig
    replicas: int
    prefill: DeploymentConfig | None = None
    prefill_replicas: int = 0

    @property
    def chips(self) -> int:
        """Chips of all workers."""
        prefill = self.prefill.chips * self.prefill_replicas if self.prefill else 0
        return self.config.chips * self.replicas + prefill


@dataclass(frozen=True, slots=True)
class Stated:
    """What a row says of its layout; 0: nothing.

    Parameters
    ----------
    chips, nodes, tp, pp, dp : int
        Chips of the deployment, nodes, sizes.
    ep : int
        Expert parallel size; -1: all chips.
    expert_slices : int
        Chips over which each expert is sliced.
    workers : mapping of str to tuple of int
        Of separate prefill (P) and decode (D) workers: count, tp, dp, ep, batch.
    is_table : bool
        From an engine's own table, not from a contest.
    """

    chips: int
    nodes: int
    tp: int
    pp: int
    dp: int
    ep: int
    expert_slices: int
    workers: Mapping[str, tuple[int, ...]]
    is_table: bool


@dataclass(frozen=True)
class LayoutMaker:
    """Makes the configs of one row."""

    model: ModelSpec
    weight_precision: str
    kv_precision: str
    engine: str

    def config(self, tp: int, dp: int = 1, pp: int = 1, *, spread: bool = False) -> DeploymentConfig:
        """Return a config; ``spread``: whole experts over all chips of a stage, where they divide."""
        experts = self.model.experts
        spread = spread and experts > 0 and experts % (tp * dp) == 0
        return DeploymentConfig(
            weight_precision=self.weight_precision,
            kv_precision=self.kv_precision,
            tp=tp,
            dp=dp,
            pp=min(pp, self.model.layers),
            ep=tp * dp if spread else 1,
            max_batched_tok=8192,
            max_seqs=1024,
            engine=self.engine,
        )

    def grouped(self, chips: int) -> DeploymentConfig:
        """Return attention in groups of one chip each, with the experts spread over as many chips as share them."""
        experts = self.model.experts
        return self.config(1, max(n for n in range(1, chips + 1) if experts % n == 0), spread=True)


def layout_of(maker: LayoutMaker, chip: ChipSpec, stated: Stated, *, engine: str, kind: str) -> Layout:
    """Return the layout that a row states, or the usual one of its chips."""
    model = maker.model
    if stated.workers:
        (count_p, tp_p, dp_p, ep_p, _), (count_d, tp_d, dp_d, ep_d, _) = stated.workers["P"], stated.workers["D"]
        decode, prefill = maker.config(tp_d, dp_d, spread=ep_d > 1), maker.config(tp_p, dp_p, spread=ep_p > 1)
        return Layout(decode, count_d, prefill, count_p)
    total = max(1, stated.chips)
    wide = stated.ep if stated.ep > max(total, 8) else 0
    node = kind == "decode" and model.experts > 0 and not (stated.tp or stated.dp or stated.ep)
    if not stated.chips or wide or node:  # a share of a larger deployment, stated per chip
        total = wide or (WIDE_CHIPS if model.experts else stated.tp or _fewest(maker, chip))
        if model.experts and not stated.tp:
            return Layout(maker.grouped(total), 1)
    if not stated.tp and stated.dp > 1:  # attention in groups, as TensorRT-LLM writes it
        return Layout(maker.config(total // stated.dp or 1, stated.dp, stated.pp, spread=True), 1)
    tabled = engine == "trtllm" and kind == "full" and stated.is_table and not stated.dp
    if tabled and model.experts and stated.tp == total > 1:  # the engine's own tables of sparse models are so measured
        return Layout(maker.grouped(total), 1)
    return _plain(maker, chip, stated, total, engine=engine, kind=kind)


def _plain(maker: LayoutMaker, chip: ChipSpec, stated: Stated, total: int, *, engine: str, kind: str) -> Layout:
    """Return the layout of replicas of tensor and pipeline parallel chips."""
    tp, pp, dp = _sizes(stated, total, engine) if stated.tp else _sizes_usual(maker, chip, stated, total)
    splits_experts = kind == "split" and maker.model.experts > 0 and dp == 1
    if splits_experts and not _kv_share(chip, maker.model, maker.config(tp, 1, pp)):
        dp = max(1, total // 2 // (tp * pp))  # groups that share the experts: one alone cannot hold them
    spread = stated.ep == -1 or stated.ep > 1 or dp > 1
    if kind == "split":
        half = max(1, total // 2 // (tp * pp * dp))
        each = maker.config(tp, dp, pp, spread=spread)
        return Layout(each, half, each, half)
    if dp > 1 and not maker.model.experts:  # whole replicas
        return Layout(maker.config(tp, 1, pp), max(1, total // (tp * pp)))
    return Layout(maker.config(tp, dp, pp, spread=spread), max(1, total // (tp * pp * dp)))


def _fewest(maker: LayoutMaker, chip: ChipSpec) -> int:
    """Return the fewest chips of a host whose memory holds the weights with room for KV."""
    tp = 1
    while tp < chip.host_chips and _kv_share(chip, maker.model, maker.config(tp)) <= ROOM_RATIO:
        tp *= 2
    return tp


def _sizes(stated: Stated, total: int, engine: str) -> tuple[int, int, int]:
    """Return tp, pp and dp in chips."""
    tp, pp, dp = stated.tp, stated.pp, max(1, stated.dp)
    if engine == "sglang" and dp > 1 and tp == total and tp % dp == 0:
        return tp // dp, pp, dp  # SGLang counts the groups of data-parallel attention inside tp
    if tp * pp * dp > total:  # cores or dies were counted, not chips
        share = math.ceil(tp * pp * dp / total)
        while share > 1 and tp > 1:
            tp, share = math.ceil(tp / 2), math.ceil(share / 2)
        while tp * pp * dp > total and dp > 1:
            dp //= 2
    elif dp == 1 and tp * pp < total and stated.expert_slices == total:
        tp = total
    return tp, pp, dp


def _sizes_usual(maker: LayoutMaker, chip: ChipSpec, stated: Stated, total: int) -> tuple[int, int, int]:
    """Return the fewest chips of a node whose memory holds the weights with room for KV; all, and stages, if none."""
    per_node = max(1, total // stated.nodes)
    tp = 1
    while tp <= per_node:
        if _kv_share(chip, maker.model, maker.config(tp)) > (ROOM_RATIO if tp < per_node else LEAST_ROOM_RATIO):
            return tp, 1, 1
        tp *= 2
    return max(1, tp // 2), stated.nodes, 1


def _kv_share(chip: ChipSpec, model: ModelSpec, config: DeploymentConfig) -> float:
    """Return the share of memory left for KV; 0 where the weights do not fit."""
    try:
        fit = memory_fit(chip, padded(model, config), config)
    except ModelDoesNotFitError:
        return 0.0
    return fit.kv_byte / fit.usable_byte


@lru_cache(maxsize=512)
def _padded(model: ModelSpec, tp: int) -> ModelSpec:
    heads = -(-model.heads // tp) * tp
    kv_heads = model.kv_heads
    if kv_heads and kv_heads % tp and tp % kv_heads:
        kv_heads = min(-(-kv_heads // tp) * tp, heads)
    experts = model.experts
    linear: dict[str, Any] = {}
    if model.linear_layers:
        linear = {
            "linear_key_heads": -(-model.linear_key_heads // tp) * tp,
            "linear_value_heads": -(-model.linear_value_heads // tp) * tp,
        }
    same = (heads, kv_heads) == (model.heads, model.kv_heads) and all(
        getattr(model, name) == value for name, value in linear.items()
    )
    return model if same else replace(model, heads=heads, kv_heads=kv_heads, experts=experts, **linear)


def padded(model: ModelSpec, config: DeploymentConfig) -> ModelSpec:
    """Return the model with heads added until they divide over tp, as engines do where they do not divide."""
    return _padded(model, config.tp)
