"""What fits into the memory of one replica: weights, activations, the engine, and how much KV cache remains."""

import math
from dataclasses import dataclass

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, Efficiency
from accelerator.errors import ModelDoesNotFitError
from accelerator.operators import ACTIVATION_BYTE, DeploymentConfig, config_check, kv_elements_per_chip, operators_list
from accelerator.units import GIB, PRECISION_BYTE

FP4_SCALE_RATIO = 1.125
"""Size of NVFP4 weights with their scales (a byte per 16 elements) over without. [-]"""


@dataclass(frozen=True)
class MemoryFit:
    """Memory of one replica, all its chips together, copies on several chips counted each time.

    Parameters
    ----------
    usable_byte : float
        Memory that the engine may fill. [byte]
    weights_byte : float
        Weights with their scales. [byte]
    activations_byte : float
        Activations of the largest step. [byte]
    engine_byte : float
        What the engine keeps for itself beside them: captured graphs, communication buffers. [byte]
    kv_byte : float
        What remains for KV cache and state. [byte]
    kv_byte_per_tok : float
        KV cache of one more token of a long context: windows are full by then. [byte/tok]
    window_byte_per_tok, window_tok : float
        KV cache of one token in the windowed layers, and the context from which they hold no more. [byte/tok], [tok]
    state_byte : float
        State of one sequence in linear layers, whatever its context. [byte]
    """

    usable_byte: float
    weights_byte: float
    activations_byte: float
    engine_byte: float
    kv_byte: float
    kv_byte_per_tok: float
    window_byte_per_tok: float = 0.0
    window_tok: float = 0.0
    state_byte: float = 0.0

    @property
    def kv_room_tok(self) -> float:
        """Tokens of one long context that fit; infinite if no layer's cache grows with it. [tok]"""
        room_byte = self.kv_byte - self.state_byte - self.window_byte_per_tok * self.window_tok
        return max(0.0, room_byte) / self.kv_byte_per_tok if self.kv_byte_per_tok else math.inf

    def sequence_byte(self, context_tok: float) -> float:
        """Return what one sequence of a context keeps. [byte]"""
        in_window_byte = self.window_byte_per_tok * min(context_tok, self.window_tok)
        return self.kv_byte_per_tok * context_tok + in_window_byte + self.state_byte

    def seqs_most(self, context_tok: float) -> int:
        """Return the largest batch whose sequences all have a context."""
        each_byte = self.sequence_byte(context_tok)
        return int(self.kv_byte / each_byte) if each_byte else 0

    def context_most_tok(self, seqs: float) -> float:
        """Return the longest context that so many sequences can all have; 0 if not even their states fit. [tok]"""
        room_byte = self.kv_byte / seqs - self.state_byte
        in_window_byte = (self.kv_byte_per_tok + self.window_byte_per_tok) * self.window_tok
        if room_byte <= in_window_byte:
            each_byte = self.kv_byte_per_tok + self.window_byte_per_tok
            return max(0.0, room_byte / each_byte) if each_byte else math.inf
        if not self.kv_byte_per_tok:
            return math.inf
        return (room_byte - self.window_byte_per_tok * self.window_tok) / self.kv_byte_per_tok


def kv_room_tok(*, usable_byte: float, weights_byte: float, reserve_byte: float, kv_byte_per_tok: float) -> float:
    """Return how many tokens of KV cache fit; negative if the weights alone do not.

    Parameters
    ----------
    usable_byte, weights_byte, reserve_byte : float
        What the engine may fill, and what is taken before the cache. [byte]
    kv_byte_per_tok : float
        KV cache of one token. [byte/tok]
    """
    return (usable_byte - weights_byte - reserve_byte) / kv_byte_per_tok


def memory_fit(
    chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, *, efficiency: Efficiency = DEFAULT
) -> MemoryFit:
    """Return what fits on the chips of one replica.

    Weights follow the operators (so whatever a config repeats on several chips is counted each time) plus the input
    embedding. The KV cache of grouped-query attention is split over tp until one head is left per chip; MLA's latent is
    repeated on every chip of a tp group; dp divides sequences and pp layers. The linear layers' state is split over tp.

    Raises
    ------
    ModelDoesNotFitError
        With the sizes, if no room for a KV cache remains.
    """
    config_check(model, config)
    chips_of_stage = config.tp * config.dp
    usable_byte = config.chips * chip.memory_byte.value * efficiency.memory_use_ratio
    scale = {"bf16": 1.0, "fp4": FP4_SCALE_RATIO}.get(config.weight_precision, efficiency.weight_scale_ratio)
    weights_byte = chips_of_stage * sum(
        op.weight_byte * (scale if op.quantised else 1.0) for op in operators_list(model, config)
    )
    if not (model.tied and model.lm_head):
        weights_byte += config.dp * ACTIVATION_BYTE * model.vocab * model.hidden
    activations_byte = config.chips * activation_byte(model, config)
    engine_byte = config.chips * efficiency.engine_byte
    kv_layer_byte = config.tp * kv_elements_per_chip(model, config) * PRECISION_BYTE[config.kv_precision]
    fit = MemoryFit(
        usable_byte=usable_byte,
        weights_byte=weights_byte,
        activations_byte=activations_byte,
        engine_byte=engine_byte,
        kv_byte=usable_byte - weights_byte - activations_byte - engine_byte,
        kv_byte_per_tok=model.full_layers * kv_layer_byte + config.tp * model.index_byte_per_tok,
        window_byte_per_tok=model.window_layers * kv_layer_byte,
        window_tok=model.window_tok if model.window_layers else 0,
        state_byte=model.linear_state_byte,
    )
    if fit.kv_byte < fit.sequence_byte(1):
        raise ModelDoesNotFitError(
            f"{model.slug} in {config.label} does not fit {config.chips} x {chip.slug}: "
            f"weights {weights_byte / GIB:.0f}, activations {activations_byte / GIB:.0f} and engine "
            f"{engine_byte / GIB:.0f} of {usable_byte / GIB:.0f} GiB"
        )
    return fit


def activation_byte(model: ModelSpec, config: DeploymentConfig) -> float:
    """Return the activations of the largest step on one chip: four residual rows and the widest MLP. [byte]"""
    width = 4.0 * model.hidden + 2 * model.ffn / config.tp
    if model.experts:
        spread = config.tp * config.dp if config.ep > 1 else config.tp
        routed = model.experts_active * (model.hidden + 2 * model.expert_ffn) * config.dp / spread
        width = 4.0 * model.hidden + max(2 * model.ffn / config.tp, routed)
    return config.max_batched_tok / config.micro * width * ACTIVATION_BYTE
