"""What fits into the memory of one replica: weights, activations, and how many tokens of KV cache remain."""

from dataclasses import dataclass

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, Efficiency
from accelerator.errors import ModelDoesNotFitError
from accelerator.operators import ACTIVATION_BYTE, DeploymentConfig, config_check, kv_elements_per_chip, operators_list
from accelerator.roofline import weight_byte
from accelerator.units import GIB, PRECISION_BYTE


@dataclass(frozen=True)
class MemoryFit:
    """Memory of one replica, all its chips together.

    Parameters
    ----------
    usable_byte : float
        Memory that the engine may fill. [byte]
    weights_byte : float
        Weights with scales, copies on several chips counted each time. [byte]
    reserve_byte : float
        Activations of the largest step, and the windows of sliding-window layers. [byte]
    kv_byte : float
        What remains for the KV cache. [byte]
    kv_byte_per_tok : float
        KV cache of one token, copies on several chips counted each time. [byte/tok]
    kv_room_tok : float
        Tokens of KV cache that fit. [tok]
    """

    usable_byte: float
    weights_byte: float
    reserve_byte: float
    kv_byte: float
    kv_byte_per_tok: float
    kv_room_tok: float


def kv_room_tok(*, usable_byte: float, weights_byte: float, reserve_byte: float, kv_byte_per_tok: float) -> float:
    """Return the tokens of KV cache that fit beside weights and reserve; negative if not even those fit. [tok]"""
    return (usable_byte - weights_byte - reserve_byte) / kv_byte_per_tok


def memory_fit(
    chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, *, efficiency: Efficiency = DEFAULT
) -> MemoryFit:
    """Return what fits on the chips of one replica.

    Weights follow the operators (so whatever a config repeats on several chips is counted each time) plus the input
    embedding. The KV cache of grouped-query attention is split over tp until one head is left per chip; MLA's latent is
    repeated on every chip of a tp group, and only dp divides it.

    Raises
    ------
    ModelDoesNotFitError
        With the sizes, if no room for a KV cache remains.
    """
    config_check(model, config)
    usable_byte = config.chips * chip.memory_byte.value * efficiency.memory_use_ratio
    weights_byte = config.chips * sum(weight_byte(op, config, efficiency) for op in operators_list(model, config))
    if not model.tied:
        weights_byte += config.dp * ACTIVATION_BYTE * model.vocab * model.hidden
    kv_chip_byte = kv_elements_per_chip(model, config) * PRECISION_BYTE[config.kv_precision]
    window_byte = config.max_seqs * config.tp * model.window_layers * model.window_tok * kv_chip_byte
    reserve_byte = config.chips * activation_byte(model, config) + window_byte
    kv_byte_per_tok = config.tp * model.full_layers * kv_chip_byte
    room_tok = kv_room_tok(
        usable_byte=usable_byte, weights_byte=weights_byte, reserve_byte=reserve_byte, kv_byte_per_tok=kv_byte_per_tok
    )
    if room_tok < 1:
        raise ModelDoesNotFitError(
            f"{model.slug} in {config.label} does not fit {config.chips} x {chip.slug}: "
            f"weights {weights_byte / GIB:.0f} and reserve {reserve_byte / GIB:.0f} of {usable_byte / GIB:.0f} GiB"
        )
    return MemoryFit(usable_byte, weights_byte, reserve_byte, room_tok * kv_byte_per_tok, kv_byte_per_tok, room_tok)


def activation_byte(model: ModelSpec, config: DeploymentConfig) -> float:
    """Return the activations of the largest step on one chip: four residual rows and the widest MLP. [byte]"""
    width = 4.0 * model.hidden + 2 * model.ffn / config.tp
    if model.experts:
        spread = config.chips if config.ep > 1 else config.tp
        routed = model.experts_active * (model.hidden + 2 * model.expert_ffn) * config.dp / spread
        width = 4.0 * model.hidden + max(2 * model.ffn / config.tp, routed)
    return config.max_batched_tok / config.dp * width * ACTIVATION_BYTE
