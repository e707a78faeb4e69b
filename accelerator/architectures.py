"""Model architectures: the fields of a published config and what follows from them (parameters, KV bytes)."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from functools import cache
from types import MappingProxyType

from accelerator.errors import DataFileError, UnknownModelError
from accelerator.facts import aliases_load, facts_by_item
from accelerator.units import PRECISION_BYTE


@dataclass(frozen=True, eq=False)
class ModelSpec:
    """One decoder-only language model. Widths are elements, layers and heads are counts.

    Parameters
    ----------
    slug, name, hf_id : str
        Our name, the usual name, and the name on the model hub.
    released : str
        Month, ``2025-04``.
    attention : str
        ``gqa`` (multi-head and multi-query are its ends) or ``mla`` (latent attention).
    hidden, layers, heads, vocab : int
        Width of the residual stream, transformer layers, query heads, vocabulary.
    kv_heads, head_dim : int
        Of grouped-query attention; 0 for MLA.
    ffn : int
        Width of the dense MLP; 0 if every layer is sparse.
    experts, experts_active, expert_ffn, shared_ffn : int
        Routed experts, experts per token, width of one, width of the shared ones together.
    dense_layers : int
        Layers with a dense MLP in a sparse model: the first ones, or every second one.
    kv_lora_rank, q_lora_rank, qk_nope_dim, qk_rope_dim, v_dim : int
        Dimensions of latent attention; 0 otherwise. ``q_lora_rank`` 0 in MLA: queries are projected in one step.
    index_topk, index_heads, index_dim : int
        Sparse attention: tokens of the context that a new token attends to, and the indexer that picks them. 0: all
        of the context. [tok], count, elements
    window_tok, window_layers : int
        Sliding window (or attention chunk) and the number of layers that use it. [tok], count
    linear_layers : int
        Layers with linear attention: no KV cache, but a state whose size does not depend on the context.
    linear_kind : str
        ``delta`` (gated delta net: two learnt gates per value head), ``lightning`` (fixed decay); empty without such.
    linear_key_heads, linear_value_heads, linear_key_dim, linear_value_dim : int
        Heads and widths of one head of a linear layer.
    linear_conv_width : int
        Taps of the short convolution over query, key and value of a linear layer; 0 without one.
    linear_state_elem_byte : float
        Size of one element of the state; 2 (BF16) unless the config says else. [byte]
    tied, qkv_bias : bool
        Output head shares the embedding; biases on the attention projections.
    out_gate : bool
        The query projection of a softmax layer also yields a gate of the output, of the same width.
    mlp_gated : bool
        Every MLP has three matrices (gate, up, down); otherwise two.
    lm_head : bool
        False for an embedding model: it returns a vector, not tokens, and there is no decode to rate.
    max_context_tok : int
        Longest context. [tok]
    native_precision : str
        Precision of the published checkpoint: bf16 (FP16 counts as it), fp8, int8, int4 or fp4 (experts only).
    params_official, params_active_official : float
        As published; 0 if unknown.
    note : str
        What the reader of a config file had to leave out or assume; empty otherwise.
    """

    slug: str
    name: str
    hf_id: str
    released: str
    attention: str
    hidden: int
    layers: int
    heads: int
    vocab: int
    max_context_tok: int
    native_precision: str
    params_official: float = 0.0
    params_active_official: float = 0.0
    kv_heads: int = 0
    head_dim: int = 0
    ffn: int = 0
    experts: int = 0
    experts_active: int = 0
    expert_ffn: int = 0
    shared_ffn: int = 0
    dense_layers: int = 0
    kv_lora_rank: int = 0
    q_lora_rank: int = 0
    qk_nope_dim: int = 0
    qk_rope_dim: int = 0
    v_dim: int = 0
    index_topk: int = 0
    index_heads: int = 0
    index_dim: int = 0
    window_tok: int = 0
    window_layers: int = 0
    linear_layers: int = 0
    linear_kind: str = ""
    linear_key_heads: int = 0
    linear_value_heads: int = 0
    linear_key_dim: int = 0
    linear_value_dim: int = 0
    linear_conv_width: int = 0
    linear_state_elem_byte: float = 2.0
    tied: bool = False
    qkv_bias: bool = False
    out_gate: bool = False
    mlp_gated: bool = True
    lm_head: bool = True
    note: str = ""

    @property
    def moe_layers(self) -> int:
        """Layers with routed experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def mlp_layers(self) -> int:
        """Layers with a dense MLP."""
        return self.layers - self.moe_layers

    @property
    def softmax_layers(self) -> int:
        """Layers that keep keys and values: with or without a window, but not linear."""
        return self.layers - self.linear_layers

    @property
    def full_layers(self) -> int:
        """Softmax layers that see the whole context."""
        return self.layers - self.window_layers - self.linear_layers

    @property
    def mlp_matrices(self) -> int:
        """Matrices of one MLP or expert."""
        return 3 if self.mlp_gated else 2

    @property
    def qkv_params(self) -> int:
        """Parameters of the query, key and value projections of one layer (MLA: without the up-projection of KV)."""
        if self.attention == "mla":
            query_width = self.heads * (self.qk_nope_dim + self.qk_rope_dim)
            query = (self.hidden + query_width) * self.q_lora_rank if self.q_lora_rank else self.hidden * query_width
            return query + self.hidden * (self.kv_lora_rank + self.qk_rope_dim)
        width = (self.heads * (2 if self.out_gate else 1) + 2 * self.kv_heads) * self.head_dim
        return self.hidden * width + (width if self.qkv_bias else 0)

    @property
    def kv_up_params(self) -> int:
        """Parameters of MLA's up-projection of keys and values of one layer; absorbed into its neighbours in decode."""
        return self.kv_lora_rank * self.heads * (self.qk_nope_dim + self.v_dim)

    @property
    def out_params(self) -> int:
        """Parameters of the output projection of one layer."""
        return self.heads * (self.v_dim or self.head_dim) * self.hidden

    @property
    def expert_params(self) -> int:
        """Parameters of one routed expert."""
        return self.mlp_matrices * self.hidden * self.expert_ffn

    @property
    def index_params(self) -> int:
        """Parameters of the indexer of one layer: its queries, its one key, and a weight per head."""
        query = (self.q_lora_rank or self.hidden) * self.index_heads * self.index_dim
        return query + self.hidden * (self.index_dim + self.index_heads)

    @property
    def linear_in_width(self) -> int:
        """Elements that the input projection of a linear layer yields: query, key, value and output gate."""
        return 2 * (self.linear_key_heads * self.linear_key_dim + self.linear_value_width)

    @property
    def linear_value_width(self) -> int:
        """Elements that a linear layer hands to its output projection."""
        return self.linear_value_heads * self.linear_value_dim

    @property
    def linear_in_params(self) -> int:
        """Parameters of one linear layer before its state: projections, gates of the delta rule, short convolution."""
        gates = 2 * self.linear_value_heads if self.linear_kind == "delta" else 0  # decay and step size of each head
        return self.hidden * (self.linear_in_width + gates) + self.linear_conv_width * self._linear_conv_channels

    @property
    def linear_out_params(self) -> int:
        """Parameters of the output projection of one linear layer."""
        return self.linear_value_width * self.hidden

    @property
    def attention_params(self) -> int:
        """Parameters of attention, all layers, linear ones too."""
        softmax = self.qkv_params + self.kv_up_params + self.out_params + self.index_params
        return self.softmax_layers * softmax + self.linear_layers * (self.linear_in_params + self.linear_out_params)

    @property
    def embedding_params(self) -> int:
        """Parameters of embedding and output head together; kept at BF16 when the rest is quantised."""
        return self.vocab * self.hidden * (1 if self.tied else 2)

    @property
    def routed_params(self) -> int:
        """Parameters of all routed experts."""
        return self.moe_layers * self.experts * self.expert_params

    @property
    def params_total(self) -> int:
        """All parameters, computed from the fields (norms and expert biases, below 0.1 %, are left out)."""
        router_and_shared = self.moe_layers * self.hidden * (self.experts + self.mlp_matrices * self.shared_ffn)
        dense = self.mlp_layers * self.mlp_matrices * self.hidden * self.ffn
        return self.attention_params + dense + router_and_shared + self.routed_params + self.embedding_params

    @property
    def params_active(self) -> int:
        """Parameters that one token multiplies with: the total, less idle experts and the input embedding.

        A tied embedding counts, since the output head is the same matrix; so does that of an embedding model, which
        has no head, because the published counts include it.
        """
        idle = self.moe_layers * (self.experts - self.experts_active) * self.expert_params
        return self.params_total - idle - (0 if self.tied else self.vocab * self.hidden)

    def kv_byte_per_tok(self, precision: str = "bf16") -> float:
        """KV cache of one token over all softmax layers, before any window frees it. [byte/tok]

        Grouped-query: 2 x layers x kv_heads x head_dim; MLA: layers x (kv_lora_rank + qk_rope_dim). Linear layers
        keep none; the keys of an indexer are not in this figure, see :attr:`index_byte_per_tok`.
        """
        return self.softmax_layers * self._kv_elements * PRECISION_BYTE[precision]

    def kv_byte_full_per_tok(self, precision: str = "bf16") -> float:
        """KV cache of one more token once the windows are full: only layers that see everything grow. [byte/tok]"""
        return self.full_layers * self._kv_elements * PRECISION_BYTE[precision]

    def kv_byte_window(self, precision: str = "bf16") -> float:
        """KV cache that the windowed layers of one sequence hold at most. [byte]"""
        return self.window_layers * self.window_tok * self._kv_elements * PRECISION_BYTE[precision]

    def kv_byte(self, context_tok: float, precision: str = "bf16") -> float:
        """Everything that one sequence keeps between steps. [byte]

        Parameters
        ----------
        context_tok : float
            Tokens of the sequence so far, prompt and output. [tok]
        precision : str
            Of the KV cache. The state of linear layers and the keys of an indexer keep their own precision.

        Returns
        -------
        float
            KV of the full layers, of the windowed layers capped at their window, keys of the indexer, and the constant
            state of the linear layers. [byte]
        """
        in_window_tok = min(context_tok, self.window_tok)
        kept_tok = self.full_layers * context_tok + self.window_layers * in_window_tok
        kv_byte = kept_tok * self._kv_elements * PRECISION_BYTE[precision]
        return kv_byte + context_tok * self.index_byte_per_tok + self.linear_state_byte

    @property
    def index_byte_per_tok(self) -> float:
        """Keys that an indexer keeps of one token, all layers: FP8 with one FP32 scale per key. [byte/tok]"""
        return self.softmax_layers * (self.index_dim + 4.0) if self.index_dim else 0.0

    @property
    def linear_state_elements(self) -> int:
        """Elements of the recurrent state of one sequence, all linear layers; a matrix key x value per value head."""
        return self.linear_layers * self.linear_key_dim * self.linear_value_width

    @property
    def linear_state_byte(self) -> float:
        """State of one sequence, all linear layers, with the last inputs of the short convolution (BF16). [byte]"""
        conv_elements = self.linear_layers * max(0, self.linear_conv_width - 1) * self._linear_conv_channels
        return self.linear_state_elements * self.linear_state_elem_byte + 2.0 * conv_elements

    def weights_byte(self, precision: str) -> float:
        """Weights with embedding and head at BF16 and the rest at the precision, without scales. [byte]"""
        return (self.params_total - self.embedding_params) * PRECISION_BYTE[precision] + 2.0 * self.embedding_params

    @property
    def _linear_conv_channels(self) -> int:
        return 2 * self.linear_key_heads * self.linear_key_dim + self.linear_value_width

    @property
    def _kv_elements(self) -> int:
        return self.kv_lora_rank + self.qk_rope_dim if self.attention == "mla" else 2 * self.kv_heads * self.head_dim


_RENAMED = {"max_context": "max_context_tok", "window": "window_tok"}
_TEXT = {"name", "hf_id", "released", "attention", "native_precision", "linear_kind", "note"}


@cache
def models_load() -> Mapping[str, ModelSpec]:
    """Return every model of data/models.csv by slug."""
    return MappingProxyType({slug: _model_parse(slug, rows) for slug, rows in facts_by_item("models.csv").items()})


def model_get(name: str, more: Mapping[str, ModelSpec] = MappingProxyType({})) -> ModelSpec:
    """Return a model by slug, hub name or alias, in any case.

    Parameters
    ----------
    name : str
        For instance ``qwen3-32b`` or ``Qwen/Qwen3-32B``.
    more : mapping of str to ModelSpec
        Models read at call time, by slug in lower case; what data/models.csv holds comes first.

    Raises
    ------
    UnknownModelError
        With the closest names, or the reason why a known model is not held.
    """
    models = {**more, **models_load()}
    if name.lower() in models:
        return models[name.lower()]
    by_hub = {model.hf_id.lower(): model for model in models.values() if model.hf_id}
    if name.lower() in by_hub:
        return by_hub[name.lower()]
    slug, note = aliases_load().get(name.lower(), ("", ""))
    if slug in models:
        return models[slug]
    raise UnknownModelError(name, models, reason="" if slug else note)


def _model_parse(slug: str, rows: Mapping[str, dict[str, str]]) -> ModelSpec:
    known = {field.name: field.type for field in fields(ModelSpec)}
    values: dict[str, str | int | float | bool] = {"slug": slug}
    for quantity, row in rows.items():
        name = _RENAMED.get(quantity, quantity)
        if name not in known:
            raise DataFileError(f"accelerator/data/models.csv: {slug} has an unknown quantity {quantity}")
        if name in _TEXT:
            values[name] = row["value"]
        elif known[name] is bool:
            values[name] = row["value"] == "1"
        else:
            values[name] = float(row["value"]) if known[name] is float else int(row["value"])
    try:
        return ModelSpec(**values)  # type: ignore[arg-type]
    except TypeError as error:
        raise DataFileError(f"accelerator/data/models.csv: {slug}: {error}") from error
