"""What one engine step asks of one chip: operators with their flop and byte per token, for a model and a config.

Tensor parallelism divides widths and adds all-reduces; data-parallel attention (``dp``) divides tokens and repeats the
attention weights; expert parallelism (``ep``) spreads whole experts over all chips and adds all-to-alls. What a (model,
config) asks does not depend on the chip, so it is worked out once and remembered.
"""

from dataclasses import dataclass
from functools import lru_cache

from accelerator.architectures import ModelSpec
from accelerator.errors import ConfigError
from accelerator.units import PRECISION_BYTE

ACTIVATION_BYTE = 2.0
"""Size of one activation element between operators (BF16). [byte]"""


@dataclass(frozen=True)
class DeploymentConfig:
    """How one replica is spread over chips.

    Parameters
    ----------
    weight_precision, kv_precision : str
        Of the linear layers (weights and arithmetic) and of the KV cache.
    tp, dp : int
        Chips that share one attention group; number of such groups. ``chips = tp * pp * dp``.
    pp : int
        Pipeline stages; only 1 is modelled.
    ep : int
        1: experts are sliced like any matrix. Otherwise whole experts are spread over all chips, ``ep = chips``.
    max_batched_tok, max_seqs : int
        Most tokens and most sequences of one engine step.
    """

    weight_precision: str
    kv_precision: str = "bf16"
    tp: int = 1
    pp: int = 1
    ep: int = 1
    dp: int = 1
    max_batched_tok: int = 8192
    max_seqs: int = 256

    def __post_init__(self) -> None:
        for precision in (self.weight_precision, self.kv_precision):
            if precision not in PRECISION_BYTE:
                raise ConfigError(f'unknown precision "{precision}"; known are {", ".join(PRECISION_BYTE)}')
        if min(self.tp, self.pp, self.ep, self.dp, self.max_batched_tok, self.max_seqs) < 1:
            raise ConfigError(f"every size of a config is at least 1: {self}")
        if self.pp > 1:
            raise ConfigError("pipeline parallelism (pp > 1) is not modelled")
        if self.ep not in {1, self.chips}:
            raise ConfigError(f"expert parallelism is 1 or all {self.chips} chips, not {self.ep}")

    @property
    def chips(self) -> int:
        """Chips of one replica."""
        return self.tp * self.pp * self.dp

    @property
    def label(self) -> str:
        """Short name for tables: ``int8 tp8`` or ``fp8 dp16 ep16``."""
        sizes = [f"{kind}{size}" for kind in ("tp", "dp", "ep") if (size := getattr(self, kind)) > 1]
        return " ".join([self.weight_precision, *(sizes or ["tp1"])])


@dataclass(frozen=True)
class Operator:
    """One kind of operator of a step, all layers together, on one chip.

    Parameters
    ----------
    name : str
        For tables.
    flop_per_tok : float
        Work per token of the step. [flop/tok]
    weight_byte : float
        Read once per step. [byte]
    byte_per_tok : float
        Activations moved per token. [byte/tok]
    half_tok_ratio : float
        Multiplies ``gemm_half_tok``: more if the chip sees only some of the tokens, or experts share them. [-]
    miss_ratio : float
        Chance that one more token leaves a given expert untouched; 0 for dense weights. [-]
    most_tok : float
        Tokens beyond this many cost nothing (the output head only sees sampled tokens). [tok]
    quantised : bool
        Computes in the weight precision; otherwise BF16.
    """

    name: str
    flop_per_tok: float
    weight_byte: float
    byte_per_tok: float
    half_tok_ratio: float = 1.0
    miss_ratio: float = 0.0
    most_tok: float = float("inf")
    quantised: bool = True


@dataclass(frozen=True)
class Attention:
    """Attention over the KV cache on one chip, full-context layers together.

    Parameters
    ----------
    flop_per_context_tok, byte_per_context_tok : float
        Decode: per token of KV that one new token looks at. [flop/tok], [byte/tok]
    flop_per_tok2 : float
        Prefill: per pair of new token and token before it. [flop/tok^2]
    """

    flop_per_context_tok: float
    byte_per_context_tok: float
    flop_per_tok2: float


@dataclass(frozen=True)
class Links:
    """Collectives of a step, per chip: bytes sent per token of the step, and hops whatever the size."""

    byte_per_tok: float
    hops: int


def config_check(model: ModelSpec, config: DeploymentConfig) -> None:
    """Raise ConfigError if the model cannot be divided as the config asks."""
    if model.heads % config.tp:
        raise ConfigError(f"{model.slug}: {model.heads} heads do not divide over tp {config.tp}")
    if model.kv_heads and model.kv_heads % config.tp and config.tp % model.kv_heads:
        raise ConfigError(f"{model.slug}: {model.kv_heads} KV heads do not divide over tp {config.tp}")
    if config.ep > 1 and (not model.experts or model.experts % config.ep):
        raise ConfigError(f"{model.slug}: {model.experts} experts do not divide over ep {config.ep}")


def kv_elements_per_chip(model: ModelSpec, config: DeploymentConfig) -> float:
    """KV elements that one chip keeps of one token and layer; MLA's latent is repeated on every chip of a group."""
    if model.attention == "mla":
        return model.kv_lora_rank + model.qk_rope_dim
    return 2 * max(1.0, model.kv_heads / config.tp) * model.head_dim


@lru_cache(maxsize=1024)
def operators_list(model: ModelSpec, config: DeploymentConfig) -> tuple[Operator, ...]:
    """Return the operators of one step whose time depends on its tokens only."""
    weight, tp, dp = PRECISION_BYTE[config.weight_precision], config.tp, config.dp

    def dense(name: str, params: float, width: float, layers: int) -> Operator:
        """Matrix products of `params` parameters per layer and chip; `width` elements go in and come out."""
        return Operator(
            name,
            2 * params * layers / dp,
            params * weight * layers,
            ACTIVATION_BYTE * width * layers / dp,
            dp,
        )

    hidden, layers = model.hidden, model.layers
    head_width = model.heads * (model.v_dim or model.head_dim) / tp
    ops = [
        dense("qkv", _qkv_params(model, tp), hidden + _qkv_width(model, tp), layers),
        dense("out", model.out_params / tp, head_width + hidden, layers),
        Operator("elementwise", 0.0, 0.0, 8 * ACTIVATION_BYTE * hidden * layers / dp, quantised=False),
    ]
    if model.attention == "mla":
        ops.append(dense("kv_up", model.kv_up_params / tp, 2 * head_width, layers))
    if model.mlp_layers:
        ops.append(dense("mlp", 3 * hidden * model.ffn / tp, 2 * hidden + 3 * model.ffn / tp, model.mlp_layers))
    if model.moe_layers:
        shared = model.hidden * (model.experts + 3 * model.shared_ffn / tp)
        ops.append(dense("shared", shared, 2 * hidden + 3 * model.shared_ffn / tp, model.moe_layers))
        ops.append(_experts(model, config))
    if model.window_layers:
        seen = model.window_layers * model.window_tok / dp  # an upper bound: every token sees a full window
        per_head = 4 * model.heads * model.head_dim / tp
        kv_byte = kv_elements_per_chip(model, config) * PRECISION_BYTE[config.kv_precision]
        ops.append(Operator("window", per_head * seen, 0.0, kv_byte * seen, quantised=False))
    head = model.vocab * hidden / tp
    ops.append(Operator("head", 2 * head / dp, 2 * head, 0.0, dp, most_tok=config.max_seqs, quantised=False))
    return tuple(ops)


def _qkv_params(model: ModelSpec, tp: int) -> float:
    if model.attention == "mla":  # the down-projections are repeated on every chip of a group
        down = model.hidden * (model.q_lora_rank + model.kv_lora_rank + model.qk_rope_dim)
        return down + model.q_lora_rank * model.heads * (model.qk_nope_dim + model.qk_rope_dim) / tp
    return model.hidden * _qkv_width(model, tp)


def _qkv_width(model: ModelSpec, tp: int) -> float:
    if model.attention == "mla":
        return model.heads * (model.qk_nope_dim + model.qk_rope_dim) / tp + model.kv_lora_rank + model.qk_rope_dim
    return (model.heads / tp + 2 * max(1.0, model.kv_heads / tp)) * model.head_dim


def _experts(model: ModelSpec, config: DeploymentConfig) -> Operator:
    """Routed experts: those hit are read, E (1 - (1 - k/E)^n) of them in expectation for n tokens, balanced."""
    spread = config.ep if config.ep > 1 else config.tp  # chips over which one copy of the experts is spread
    pools = 1 if config.ep > 1 else config.dp  # copies of the experts, each fed by its own tokens
    share = model.experts_active / model.experts
    active = model.experts_active * model.expert_params * model.moe_layers / spread / pools
    width = model.experts_active * (2 * model.hidden + 3 * model.expert_ffn) * model.moe_layers / spread / pools
    return Operator(
        "experts",
        flop_per_tok=2 * active,
        weight_byte=model.routed_params / spread * PRECISION_BYTE[config.weight_precision],
        byte_per_tok=ACTIVATION_BYTE * width,
        half_tok_ratio=pools / share,
        miss_ratio=(1 - share) ** (1 / pools),
    )


@lru_cache(maxsize=1024)
def attention_of(model: ModelSpec, config: DeploymentConfig) -> Attention:
    """Return the cost of attention over the KV cache; MLA decodes in the latent space (absorbed projections)."""
    layers, groups = model.full_layers, config.dp
    heads = model.heads / config.tp * layers / groups
    if model.attention == "mla":
        decode = 2 * heads * (2 * model.kv_lora_rank + model.qk_rope_dim)
        prefill = 2 * heads * (model.qk_nope_dim + model.qk_rope_dim + model.v_dim)
    else:
        decode = prefill = 4 * heads * model.head_dim
    kv_byte = kv_elements_per_chip(model, config) * PRECISION_BYTE[config.kv_precision] * layers / groups
    return Attention(decode, kv_byte, prefill)


@lru_cache(maxsize=1024)
def links_of(model: ModelSpec, config: DeploymentConfig) -> Links:
    """Return the collectives: two ring all-reduces per layer for tp, two all-to-alls per sparse layer for ep."""
    tp, byte_per_tok, hops = config.tp, 0.0, 0
    if tp > 1:
        byte_per_tok += 2 * model.layers * 2 * (tp - 1) / tp * model.hidden * ACTIVATION_BYTE / config.dp
        hops += 2 * model.layers * 2 * (tp - 1)
    if config.ep > 1 and config.dp > 1:
        sent = model.experts_active * model.hidden * (config.ep - 1) / config.ep / config.chips
        byte_per_tok += model.moe_layers * sent * (PRECISION_BYTE[config.weight_precision] + ACTIVATION_BYTE)
        hops += 2 * model.moe_layers * (config.ep - 1)
    return Links(byte_per_tok, hops)


def launches(model: ModelSpec) -> int:
    """Operators launched per step: qkv, attention, out, two norms, two per MLP; sparse layers have two more."""
    return 7 * model.mlp_layers + 9 * model.moe_layers + 2
