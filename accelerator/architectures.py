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
        Width of the dense gated MLP (three matrices); 0 if every layer is sparse.
    experts, experts_active, expert_ffn, shared_ffn : int
        Routed experts, experts per token, width of one, width of the shared ones together.
    dense_layers : int
        Leading layers with a dense MLP in a sparse model.
    kv_lora_rank, q_lora_rank, qk_nope_dim, qk_rope_dim, v_dim : int
        Dimensions of latent attention; 0 otherwise.
    window_tok, window_layers : int
        Sliding window and the number of layers that use it. [tok], count
    tied, qkv_bias : bool
        Output head shares the embedding; biases on the attention projections.
    max_context_tok : int
        Longest context. [tok]
    native_precision : str
        Precision of the published checkpoint: bf16, fp8 or fp4 (experts only).
    params_official, params_active_official : float
        As published.
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
    params_official: float
    params_active_official: float
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
    window_tok: int = 0
    window_layers: int = 0
    tied: bool = False
    qkv_bias: bool = False

    @property
    def moe_layers(self) -> int:
        """Layers with routed experts."""
        return self.layers - self.dense_layers if self.experts else 0

    @property
    def mlp_layers(self) -> int:
        """Layers with a dense MLP."""
        return self.layers - self.moe_layers

    @property
    def full_layers(self) -> int:
        """Layers whose attention sees the whole context."""
        return self.layers - self.window_layers

    @property
    def qkv_params(self) -> int:
        """Parameters of the query, key and value projections of one layer (MLA: without the up-projection of KV)."""
        if self.attention == "mla":
            query = self.hidden * self.q_lora_rank + self.q_lora_rank * self.heads * (
                self.qk_nope_dim + self.qk_rope_dim
            )
            return query + self.hidden * (self.kv_lora_rank + self.qk_rope_dim)
        width = (self.heads + 2 * self.kv_heads) * self.head_dim
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
        """Parameters of one routed expert (three matrices)."""
        return 3 * self.hidden * self.expert_ffn

    @property
    def attention_params(self) -> int:
        """Parameters of attention, all layers."""
        return self.layers * (self.qkv_params + self.kv_up_params + self.out_params)

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
        router_and_shared = self.moe_layers * self.hidden * (self.experts + 3 * self.shared_ffn)
        dense = self.mlp_layers * 3 * self.hidden * self.ffn
        return self.attention_params + dense + router_and_shared + self.routed_params + self.embedding_params

    @property
    def params_active(self) -> int:
        """Parameters that one token multiplies with: the total, less idle experts and the input embedding."""
        idle = self.moe_layers * (self.experts - self.experts_active) * self.expert_params
        return self.params_total - idle - (0 if self.tied else self.vocab * self.hidden)

    def kv_byte_per_tok(self, precision: str = "bf16") -> float:
        """KV cache of one token over all layers, before any window frees it. [byte/tok]

        Grouped-query: 2 x layers x kv_heads x head_dim; MLA: layers x (kv_lora_rank + qk_rope_dim).
        """
        return self.layers * self._kv_elements * PRECISION_BYTE[precision]

    def kv_byte_full_per_tok(self, precision: str = "bf16") -> float:
        """KV cache of one more token once the windows are full: only layers that see everything grow. [byte/tok]"""
        return self.full_layers * self._kv_elements * PRECISION_BYTE[precision]

    def kv_byte_window(self, precision: str = "bf16") -> float:
        """KV cache that the windowed layers of one sequence hold at most. [byte]"""
        return self.window_layers * self.window_tok * self._kv_elements * PRECISION_BYTE[precision]

    def weights_byte(self, precision: str) -> float:
        """Weights with embedding and head at BF16 and the rest at the precision, without scales. [byte]"""
        return (self.params_total - self.embedding_params) * PRECISION_BYTE[precision] + 2.0 * self.embedding_params

    @property
    def _kv_elements(self) -> int:
        return self.kv_lora_rank + self.qk_rope_dim if self.attention == "mla" else 2 * self.kv_heads * self.head_dim


_RENAMED = {"max_context": "max_context_tok", "window": "window_tok"}
_TEXT = {"name", "hf_id", "released", "attention", "native_precision"}


@cache
def models_load() -> Mapping[str, ModelSpec]:
    """Return every model of data/models.csv by slug."""
    return MappingProxyType({slug: _model_parse(slug, rows) for slug, rows in facts_by_item("models.csv").items()})


def model_get(name: str) -> ModelSpec:
    """Return a model by slug or alias, in any case.

    Raises
    ------
    UnknownModelError
        With the closest names, or the reason why a known model is not held.
    """
    models = models_load()
    if name.lower() in models:
        return models[name.lower()]
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
