"""What one engine step asks of one chip: operators with their shapes, for a model and a deployment config.

Every operator is one kernel launch of a family (``gemm``, ``experts``, ``stream``, ``collectives``) whose first size
grows with the tokens of the step; attention is listed apart, because it grows with contexts instead.

Parallelism changes shapes and adds collectives, and nothing else:

- tensor (tp): widths divided, two all-reduces per layer;
- data-parallel attention (dp): each group of tp chips has its own sequences, so tokens divided and attention weights
  repeated;
- expert (ep = all chips): whole experts spread over the chips; with dp, tokens travel to their experts and back
  (two all-to-alls per sparse layer), without it every chip sees all tokens and the all-reduce adds up;
- pipeline (pp): a batch runs as pp smaller ones, one per stage. Each stage has 1/pp of the layers and works pp times
  per round, so a round costs as much as all layers at 1/pp of the tokens, plus pp hand-overs.

What a (model, config) asks does not depend on the chip, so it is worked out once and remembered.
"""

from dataclasses import dataclass
from functools import lru_cache

from accelerator.architectures import ModelSpec
from accelerator.errors import ConfigError
from accelerator.units import PRECISION_BYTE

ACTIVATION_BYTE = 2.0
"""Size of one activation element between operators (BF16). [byte]"""

WEIGHT_ONLY = frozenset({"int4", "int8_wo"})
"""Precisions that only shrink weights: they are unpacked and multiplied in BF16."""

UNBOUNDED_TOK = 1e9
"""``most_tok`` of an operator that is charged for every token. [tok]"""


@dataclass(frozen=True)
class DeploymentConfig:
    """How one replica is spread over chips, and by which engine.

    Parameters
    ----------
    weight_precision, kv_precision : str
        Of the linear layers (weights and arithmetic) and of the KV cache. ``int4`` and ``int8_wo`` only shrink weights.
    tp, dp : int
        Chips that share one attention group; number of such groups.
    pp : int
        Pipeline stages. ``chips = tp * pp * dp``.
    ep : int
        1: experts are sliced like any matrix. Otherwise whole experts are spread over the chips of a stage,
        ``ep = tp * dp``.
    max_batched_tok, max_seqs : int
        Most tokens and most sequences of one engine step.
    engine : str
        Engine family whose kernels are used: vllm, trtllm, vllm-ascend, or any other (predicted from what all have in
        common). Empty: the usual one of the chip.
    expert_skew : float
        How unevenly tokens choose experts: 0 evenly; between 1 and 2 the exponent of a power law of their loads. [-]
    """

    weight_precision: str
    kv_precision: str = "bf16"
    tp: int = 1
    pp: int = 1
    ep: int = 1
    dp: int = 1
    max_batched_tok: int = 8192
    max_seqs: int = 256
    engine: str = ""
    expert_skew: float = 0.0

    def __post_init__(self) -> None:
        for precision in (self.weight_precision, self.kv_precision):
            if precision not in PRECISION_BYTE:
                raise ConfigError(f'unknown precision "{precision}"; known are {", ".join(PRECISION_BYTE)}')
        if min(self.tp, self.pp, self.ep, self.dp, self.max_batched_tok, self.max_seqs) < 1:
            raise ConfigError(f"every size of a config is at least 1: {self}")
        if self.ep not in {1, self.tp * self.dp}:
            raise ConfigError(f"expert parallelism is 1 or all {self.tp * self.dp} chips of a stage, not {self.ep}")
        if not (self.expert_skew == 0 or 1 < self.expert_skew < 2):
            raise ConfigError(f"expert_skew is 0 (even) or an exponent between 1 and 2, not {self.expert_skew:g}")

    @property
    def chips(self) -> int:
        """Chips of one replica."""
        return self.tp * self.pp * self.dp

    @property
    def micro(self) -> int:
        """Parts into which the tokens of a step are divided before a chip sees them."""
        return self.dp * self.pp

    @property
    def compute_precision(self) -> str:
        """Precision of the arithmetic of quantised layers."""
        return "bf16" if self.weight_precision in WEIGHT_ONLY else self.weight_precision

    @property
    def label(self) -> str:
        """Short name for tables: ``int8 tp8`` or ``fp8 dp16 ep16``."""
        sizes = [f"{kind}{size}" for kind in ("tp", "dp", "pp", "ep") if (size := getattr(self, kind)) > 1]
        return " ".join([self.weight_precision, *(sizes or ["tp1"])])


@dataclass(frozen=True)
class Operator:
    """One kind of operator of a step on one chip.

    Parameters
    ----------
    name : str
        For tables.
    family : str
        ``gemm``, ``experts``, ``stream`` or ``collectives``.
    count : float
        Launches per step.
    tok_ratio : float
        First size of one launch per token of the step: rows of a matrix product, tokens of an expert layer [-], bytes
        of a stream or of a message [byte/tok].
    sizes : tuple of float
        Other sizes of one launch, as the family names them.
    weight_byte : float
        Weights of all launches, without the scales of quantisation. [byte]
    flop_per_tok, byte_per_tok : float
        Work, and activations or link bytes moved, of all launches per token of the step. [flop/tok], [byte/tok]
    most_tok : float
        Tokens beyond this many cost nothing (the output head only sees sampled tokens). [tok]
    miss_ratio : float
        Chance that one more token leaves a given expert untouched; 0 for dense weights. [-]
    quantised : bool
        Stored and computed in the weight precision; otherwise BF16.
    kind : str
        Of a collective: all_reduce, alltoall, all_gather, send_recv.
    """

    name: str
    family: str
    count: float
    tok_ratio: float
    sizes: tuple[float, ...]
    weight_byte: float = 0.0
    flop_per_tok: float = 0.0
    byte_per_tok: float = 0.0
    most_tok: float = UNBOUNDED_TOK
    miss_ratio: float = 0.0
    quantised: bool = True
    kind: str = ""

    def flop(self, tok: float) -> float:
        """Return the work of all launches of a step. [flop]"""
        return self.flop_per_tok * min(tok, self.most_tok)

    def moved_byte(self, tok: float) -> float:
        """Return weights read and activations moved by all launches of a step; bytes sent, of a collective. [byte]"""
        if tok <= 0:
            return 0.0
        return self.weight_byte * (1 - self.miss_ratio**tok) + self.byte_per_tok * min(tok, self.most_tok)


@dataclass(frozen=True)
class AttentionLayers:
    """Softmax attention of one kind on one chip: layers that see everything, or at most a window.

    Parameters
    ----------
    name : str
        ``attention``, ``window attention``, ``sparse attention``.
    latent : bool
        Latent attention (MLA) instead of grouped-query attention.
    layers : int
        Launches per step.
    heads, kv_heads : float
        Heads of one chip. KV heads are repeated once there are more chips than heads.
    head_dim : int
        Width of a head; of a query in the latent case (nope + rope).
    v_dim, latent_width, value_rank : int
        In the latent case: width of an expanded value, of the cached latent, of the part of it that is the value.
    window_tok : int
        Most context a token sees; 0: all of it. [tok]
    kv_byte : float
        KV cache of one token in one layer on one chip. [byte/tok]
    kv_element_byte : float
        Size of one element of the cache. [byte]
    seq_ratio : float
        Share of the step's sequences and prompt tokens that this chip sees at a time.
    flop_per_context_tok, flop_per_tok2 : float
        Work of all layers per token of context that a decoded token sees, and per pair of prompt tokens. [flop/tok],
        [flop/tok^2]
    """

    name: str
    latent: bool
    layers: int
    heads: float
    kv_heads: float
    head_dim: int
    v_dim: int
    latent_width: int
    value_rank: int
    window_tok: int
    kv_byte: float
    kv_element_byte: float
    seq_ratio: float
    flop_per_context_tok: float
    flop_per_tok2: float

    @property
    def byte_per_context_tok(self) -> float:
        """KV cache that all layers read per token of context that a decoded token sees. [byte/tok]"""
        return self.kv_byte * self.layers * self.seq_ratio


def config_check(model: ModelSpec, config: DeploymentConfig) -> None:
    """Raise ConfigError if the model cannot be divided as the config asks."""
    if model.heads % config.tp:
        raise ConfigError(f"{model.slug}: {model.heads} heads do not divide over tp {config.tp}")
    if model.kv_heads and model.kv_heads % config.tp and config.tp % model.kv_heads:
        raise ConfigError(f"{model.slug}: {model.kv_heads} KV heads do not divide over tp {config.tp}")
    if model.linear_layers and (model.linear_key_heads % config.tp or model.linear_value_heads % config.tp):
        raise ConfigError(
            f"{model.slug}: {model.linear_key_heads} and {model.linear_value_heads} heads of its linear layers "
            f"do not divide over tp {config.tp}"
        )
    if config.ep > 1 and (not model.experts or model.experts % config.ep):
        raise ConfigError(f"{model.slug}: {model.experts} experts do not divide over ep {config.ep}")
    if config.pp > model.layers:
        raise ConfigError(f"{model.slug}: {model.layers} layers do not divide over pp {config.pp}")


def kv_elements_per_chip(model: ModelSpec, config: DeploymentConfig) -> float:
    """KV elements that one chip keeps of one token and layer; MLA's latent is repeated on every chip of a group."""
    if model.attention == "mla":
        return model.kv_lora_rank + model.qk_rope_dim
    return 2 * max(1.0, model.kv_heads / config.tp) * model.head_dim


@lru_cache(maxsize=4096)
def operators_list(model: ModelSpec, config: DeploymentConfig) -> tuple[Operator, ...]:
    """Return the operators of one step whose time depends on its tokens only."""
    ops = [*_attention_projections(model, config), *_linear_layers(model, config), *_mlp(model, config)]
    if model.experts:
        ops += _sparse_mlp(model, config)
    ops += [_norms(model, config), *_collectives(model, config)]
    if model.lm_head:
        head = _gemm("head", config, model.vocab / config.tp, model.hidden, 1, quantised=False)
        ops.append(_bounded(head, config.max_seqs))
    return tuple(op for op in ops if op.count)


def _gemm(
    name: str,
    config: DeploymentConfig,
    width: float,
    depth: float,
    count: float,
    *,
    quantised: bool = True,
) -> Operator:
    """Matrix product [tokens, depth] x [depth, width], `count` times: 2 width depth flop per token."""
    byte = PRECISION_BYTE[config.weight_precision] if quantised else 2.0
    return Operator(
        name=name,
        family="gemm",
        count=count,
        tok_ratio=1 / config.micro,
        sizes=(width, depth),
        weight_byte=width * depth * byte * count,
        flop_per_tok=2 * width * depth * count / config.micro,
        byte_per_tok=ACTIVATION_BYTE * (width + depth) * count / config.micro,
        quantised=quantised,
    )


def _bounded(op: Operator, most_tok: float) -> Operator:
    return Operator(**{**vars(op), "most_tok": most_tok})


def _attention_projections(model: ModelSpec, config: DeploymentConfig) -> list[Operator]:
    tp, layers, hidden = config.tp, model.softmax_layers, model.hidden
    out = _gemm("attention out", config, hidden, model.heads * (model.v_dim or model.head_dim) / tp, layers)
    if model.attention != "mla":
        queries = model.heads * (2 if model.out_gate else 1) / tp
        width = (queries + 2 * max(1.0, model.kv_heads / tp)) * model.head_dim
        return [_gemm("qkv", config, width, hidden, layers), out]
    query_width = model.heads * (model.qk_nope_dim + model.qk_rope_dim) / tp
    latent_width = model.kv_lora_rank + model.qk_rope_dim  # the down-projections are repeated on every chip of a group
    ops = [
        _gemm("kv up", config, model.heads * (model.qk_nope_dim + model.v_dim) / tp, model.kv_lora_rank, layers),
        out,
    ]
    if model.q_lora_rank:
        ops += [
            _gemm("qkv down", config, model.q_lora_rank + latent_width, hidden, layers),
            _gemm("q up", config, query_width, model.q_lora_rank, layers),
        ]
    else:
        ops.append(_gemm("qkv", config, query_width + latent_width, hidden, layers))
    if model.index_topk:
        depth = model.q_lora_rank or hidden
        ops += [
            _gemm("index q", config, model.index_heads * model.index_dim, depth, layers),
            _gemm("index k", config, model.index_dim + model.index_heads, hidden, layers),
        ]
    return ops


def _linear_layers(model: ModelSpec, config: DeploymentConfig) -> list[Operator]:
    """Projections of linear attention, and its recurrence: 3 products of key by value width per token and head.

    The recurrence multiplies each token's key and value into the state, the query with the state, and (delta rule) the
    key with the state; in chunks, as prefill does it, the flop are of that size too. The state that decode reads and
    writes is charged per sequence, with attention.
    """
    if not model.linear_layers:
        return []
    tp, layers = config.tp, model.linear_layers
    return [
        _gemm("linear in", config, model.linear_in_params / model.hidden / tp, model.hidden, layers),
        _gemm("linear out", config, model.hidden, model.linear_value_width / tp, layers),
        _weightless(_gemm("linear state", config, 3 * model.linear_value_width / tp, model.linear_key_dim, layers)),
    ]


def _weightless(op: Operator) -> Operator:
    return Operator(**{**vars(op), "weight_byte": 0.0, "quantised": False})


def _mlp(model: ModelSpec, config: DeploymentConfig) -> list[Operator]:
    if not model.mlp_layers:
        return []
    return _mlp_pair("mlp", model, config, model.ffn / config.tp, model.mlp_layers)


def _mlp_pair(name: str, model: ModelSpec, config: DeploymentConfig, width: float, layers: int) -> list[Operator]:
    """Up (and gate) and down projections of an MLP, with the stream of its activation function between them."""
    into = (model.mlp_matrices - 1) * width
    return [
        _gemm(f"{name} up", config, into, model.hidden, layers),
        _stream(f"{name} activation", config, ACTIVATION_BYTE * (into + width), layers),
        _gemm(f"{name} down", config, model.hidden, width, layers),
    ]


def _stream(name: str, config: DeploymentConfig, byte_per_tok: float, count: float) -> Operator:
    """Elementwise work: so many bytes read and written per token of the chip, `count` times."""
    return Operator(
        name, "stream", count, byte_per_tok / config.micro, (), byte_per_tok=byte_per_tok * count / config.micro,
        quantised=False,
    )  # fmt: skip


def _norms(model: ModelSpec, config: DeploymentConfig) -> Operator:
    """Two norms per layer, each fused with a residual add: two rows read, two written; one more norm at the end."""
    return _stream("norms", config, 4 * ACTIVATION_BYTE * model.hidden, 2 * model.layers + 1)


def _sparse_mlp(model: ModelSpec, config: DeploymentConfig) -> list[Operator]:
    """Router, shared experts and routed experts of the sparse layers.

    Of E experts, n tokens that choose k each touch E (1 - (1 - k/E)^n) in expectation. With ep, a chip holds E/ep whole
    experts and sees the tokens of all groups; without it, every group of tp chips has all experts, in slices.
    """
    layers, spread = model.moe_layers, config.ep > 1
    ops = [_gemm("router", config, model.experts, model.hidden, layers, quantised=False)]
    if model.shared_ffn:
        ops += _mlp_pair("shared", model, config, model.shared_ffn / config.tp, layers)
    tok_ratio = 1 / config.pp if spread else 1 / config.micro
    share = model.experts_active / model.experts
    slices = 1 if spread else config.tp
    params = model.routed_params / (config.ep if spread else config.tp)
    active = params * share
    width = share * model.experts / (config.ep if spread else 1) * (2 * model.hidden + 3 * model.expert_ffn / slices)
    ops.append(
        Operator(
            name="experts",
            family="experts",
            count=layers,
            tok_ratio=tok_ratio,
            sizes=(
                model.hidden, model.expert_ffn, model.experts_active, model.experts, slices, config.ep,
                model.mlp_matrices, config.expert_skew,
            ),
            weight_byte=params * PRECISION_BYTE[config.weight_precision],
            flop_per_tok=2 * active * tok_ratio,
            byte_per_tok=ACTIVATION_BYTE * width * layers * tok_ratio,
            miss_ratio=(1 - share) ** tok_ratio,
        )
    )  # fmt: skip
    return ops


def _collectives(model: ModelSpec, config: DeploymentConfig) -> list[Operator]:
    """Two all-reduces per layer for tp, two all-to-alls per sparse layer for ep with dp, pp hand-overs."""
    ops = []
    row_byte = ACTIVATION_BYTE * model.hidden
    if config.tp > 1:
        ops.append(
            _collective("all-reduce", "all_reduce", config, row_byte / config.micro, config.tp, 2 * model.layers)
        )
    if config.ep > 1 and config.dp > 1 and model.moe_layers:
        copies = model.experts_active / config.tp / config.micro  # a group's tp chips share the sending of its tokens
        out_byte = copies * model.hidden * PRECISION_BYTE[config.compute_precision]
        ops += [
            _collective("dispatch", "alltoall", config, out_byte, config.ep, model.moe_layers),
            _collective("combine", "alltoall", config, copies * row_byte, config.ep, model.moe_layers),
        ]
    if config.pp > 1:
        ops.append(_collective("hand-over", "send_recv", config, row_byte / config.micro, 2, config.pp))
    return ops


def _collective(
    name: str, kind: str, config: DeploymentConfig, byte_per_tok: float, group: int, count: float
) -> Operator:
    """Messages of so many bytes per token of the step, exchanged by `group` chips."""
    sent = {"all_reduce": 2 * (group - 1) / group, "alltoall": (group - 1) / group}.get(kind, 1.0)
    return Operator(
        name, "collectives", count, byte_per_tok, (group, group * (config.pp if kind == "send_recv" else 1)),
        byte_per_tok=byte_per_tok * sent * count, quantised=False, kind=kind,
    )  # fmt: skip


@lru_cache(maxsize=4096)
def attention_layers(model: ModelSpec, config: DeploymentConfig) -> tuple[AttentionLayers, ...]:
    """Return the softmax attention of a model on one chip, one entry per kind that it has.

    Grouped-query attention multiplies 4 heads head_dim per pair of tokens (scores and values). MLA decodes in the
    latent space with absorbed projections, 2 heads (2 kv_lora_rank + rope) per pair, and expands keys and values to
    prefill, 2 heads (nope + rope + v).
    """
    heads = model.heads / config.tp
    kv_byte = kv_elements_per_chip(model, config) * PRECISION_BYTE[config.kv_precision]
    if model.attention == "mla":
        decode_flop = 2 * heads * (2 * model.kv_lora_rank + model.qk_rope_dim)
        prefill_flop = 2 * heads * (model.qk_nope_dim + model.qk_rope_dim + model.v_dim)
    else:
        decode_flop = prefill_flop = 4 * heads * model.head_dim
    kinds = []
    sparse = model.index_topk > 0
    for name, layers, window_tok in (
        ("sparse attention" if sparse else "attention", model.full_layers, model.index_topk),
        ("window attention", model.window_layers, model.window_tok),
    ):
        if layers:
            kinds.append(
                AttentionLayers(
                    name=name,
                    latent=model.attention == "mla",
                    layers=layers,
                    heads=heads,
                    kv_heads=max(1.0, model.kv_heads / config.tp),
                    head_dim=model.head_dim or model.qk_nope_dim + model.qk_rope_dim,
                    v_dim=model.v_dim,
                    latent_width=model.kv_lora_rank + model.qk_rope_dim,
                    value_rank=model.kv_lora_rank,
                    window_tok=window_tok,
                    kv_byte=kv_byte,
                    kv_element_byte=PRECISION_BYTE[config.kv_precision],
                    seq_ratio=1 / config.micro,
                    flop_per_context_tok=decode_flop * layers / config.micro,
                    flop_per_tok2=prefill_flop * layers / config.micro,
                )
            )
    return tuple(kinds)


def state_byte_per_seq(model: ModelSpec, config: DeploymentConfig) -> float:
    """Return the state of linear layers that one chip reads and writes per decoded token of the step. [byte]"""
    return 2 * model.linear_state_byte / config.tp / config.micro


def index_byte_per_context_tok(model: ModelSpec, config: DeploymentConfig) -> float:
    """Return the indexer's keys that one chip reads per token of context that a decoded token sees. [byte/tok]"""
    return model.index_byte_per_tok / config.micro


def index_flop_per_pair(model: ModelSpec, config: DeploymentConfig) -> float:
    """Return the work of the indexer on one chip per pair of a new token and one before it, all layers. [flop]"""
    return 2 * model.index_heads * model.index_dim * model.softmax_layers / config.micro
