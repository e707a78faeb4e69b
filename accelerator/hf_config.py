"""A model from the config.json that is published with its weights.

A config names its family (``model_type``), and each family has its own names, defaults and silent rules, as the
transformers library (version 5.24, ``models/*/configuration_*.py``) applies them. Three rules keep the reader honest:
a family that is not in ``_FAMILIES`` is read only if nothing in its file points beyond the plain shape (grouped-query
attention over everything, one gated MLP per layer); a field that sounds like structure and that nobody read is refused
by name; and what a file omits comes from its family or is refused, never from a guess.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any

from accelerator.architectures import ModelSpec
from accelerator.errors import AcceleratorError

CONFIG_MAX_BYTE = 1_000_000
"""Largest config file that is read; the published ones stay below a tenth of it. [byte]"""

COUNT_MAX = 10**9
LAYERS_MAX = 10_000


class ConfigFileError(AcceleratorError):
    """A config.json that cannot be read, or that says something this reader does not understand.

    Parameters
    ----------
    source : str
        File, or whatever name the config came under.
    reason : str
        What is wrong.
    field_name : str
        The field it is about; empty if it is the whole file.
    """

    def __init__(self, source: str, reason: str, field_name: str = "") -> None:
        self.source, self.reason, self.field_name = source, reason, field_name
        super().__init__(f"{source}: {reason}")


# --- what a family of models means without saying it ------------------------------------------------------------------
@dataclass(frozen=True)
class _Family:
    """Silent rules of one model_type.

    Parameters
    ----------
    tied, qkv_bias : bool
        What an omitted ``tie_word_embeddings`` and ``attention_bias`` mean.
    gated : bool
        MLPs have three matrices.
    mla, out_gate : bool
        Latent attention; the query projection also yields an output gate.
    window : str
        Which layers use ``sliding_window`` where no ``layer_types`` says it: ``never``, ``always``, ``flag`` (as
        ``use_sliding_window`` and ``max_window_layers`` say), ``above`` (from ``max_window_layers`` on) or ``pattern``
        (all but every nth).
    linear : str
        Kind of the linear layers, if there can be any.
    wide_experts : bool
        ``intermediate_size`` is the width of an expert.
    moe : bool
        May have routed experts.
    ffn_ratio : int
        MLP width over hidden width where the file omits it; 0: it may not.
    stated : tuple of str
        Fields that a file with experts must state (null means none), since versions differ in the default.
    defaults : mapping
        Values of omitted fields; a null in the file stands.
    """

    tied: bool = False
    qkv_bias: bool = False
    gated: bool = True
    mla: bool = False
    out_gate: bool = False
    window: str = "never"
    linear: str = ""
    wide_experts: bool = False
    moe: bool = False
    ffn_ratio: int = 0
    stated: tuple[str, ...] = ()
    defaults: Mapping[str, Any] = field(default_factory=dict)


_PLAIN = _Family()
_DENSE_FIRST = ("first_k_dense_replace", "n_shared_experts")
_DEEPSEEK = _Family(mla=True, moe=True, stated=_DENSE_FIRST)
_QWEN_WINDOW = {"sliding_window": 4096, "max_window_layers": 28}
_QWEN_VL = _Family(qkv_bias=True, window="flag", defaults={"sliding_window": 4096, "max_window_layers": 80})
_QWEN3_MOE = _Family(moe=True)
_QWEN3_NEXT = _Family(
    moe=True,
    linear="delta",
    out_gate=True,
    stated=("shared_expert_intermediate_size",),
    defaults={"full_attention_interval": 4},
)
_MISTRAL = _Family(window="always", defaults={"num_key_value_heads": 8, "sliding_window": 4096})
_GEMMA3 = _Family(
    tied=True,
    window="pattern",
    defaults={
        "num_attention_heads": 8,
        "num_key_value_heads": 4,
        "head_dim": 256,
        "vocab_size": 262_208,
        "max_position_embeddings": 131_072,
        "sliding_window": 4096,
        "sliding_window_pattern": 6,
    },
)
_LIGHTNING = _Family(moe=True, wide_experts=True, linear="lightning")
_LLAMA4 = _Family(
    moe=True, wide_experts=True, window="pattern", defaults={"head_dim": 128, "no_rope_layer_interval": 4}
)

_FAMILIES: Mapping[str, _Family] = MappingProxyType({
    **dict.fromkeys(("llama", "olmo", "olmo2", "granite", "hunyuan_v1_dense", "stablelm"), _PLAIN),
    **dict.fromkeys(("internlm2", "internlm3", "ministral3"), _PLAIN),
    "seed_oss": _Family(qkv_bias=True, defaults={"head_dim": 128}),
    "glm": _Family(qkv_bias=True, defaults={"head_dim": 128}),
    "glm4": _Family(qkv_bias=True, defaults={"head_dim": 128}),
    "chatglm": _Family(qkv_bias=True),
    "smollm3": _Family(tied=True),
    "ernie4_5": _Family(tied=True, defaults={"head_dim": 128}),
    "cohere": _Family(tied=True),
    "cohere2": _Family(tied=True, window="pattern", defaults={"sliding_window_pattern": 4, "sliding_window": 4096}),
    "mistral": _MISTRAL,
    "ministral": _MISTRAL,
    "mixtral": _Family(window="always", moe=True, wide_experts=True, defaults={"num_key_value_heads": 8}),
    "phi3": _Family(window="always"),
    "phimoe": _Family(window="always", moe=True, wide_experts=True, qkv_bias=True),
    "exaone4": _Family(window="pattern", defaults={"sliding_window_pattern": 4, "sliding_window": 4096}),
    "olmo3": _Family(window="pattern", defaults={"sliding_window": 4096, "sliding_window_pattern": 4}),
    "gemma": _Family(tied=True, defaults={"head_dim": 256}),
    "gemma2": _Family(
        tied=True,
        window="pattern",
        defaults={"head_dim": 256, "sliding_window": 4096, "sliding_window_pattern": 2},
    ),
    "gemma3": _GEMMA3,
    "gemma3_text": _GEMMA3,
    "qwen2": _Family(qkv_bias=True, window="flag", defaults=_QWEN_WINDOW),
    "qwen2_moe": _Family(
        qkv_bias=True, window="flag", moe=True, stated=("shared_expert_intermediate_size",), defaults=_QWEN_WINDOW
    ),
    "qwen3": _Family(window="flag", defaults={"head_dim": 128, **_QWEN_WINDOW}),
    "qwen3_moe": _QWEN3_MOE,
    "qwen3_vl_text": _Family(defaults={"head_dim": 128}),
    "qwen3_vl_moe_text": _QWEN3_MOE,
    **dict.fromkeys(("qwen2_vl", "qwen2_vl_text", "qwen2_5_vl", "qwen2_5_vl_text"), _QWEN_VL),
    "qwen3_next": _QWEN3_NEXT,
    "qwen3_5_moe_text": _QWEN3_NEXT,
    "qwen3_5_text": _Family(linear="delta", out_gate=True, defaults={"full_attention_interval": 4}),
    **dict.fromkeys(("deepseek_v2", "deepseek_v3", "deepseek_v32", "kimi_k2", "glm_moe_dsa"), _DEEPSEEK),
    "glm4_moe_lite": _DEEPSEEK,
    "minicpm3": _Family(tied=True, mla=True, defaults={"v_head_dim": 64}),
    "dots1": _Family(
        moe=True, window="above", stated=_DENSE_FIRST, defaults={"sliding_window": 4096, "max_window_layers": 62}
    ),
    "glm4_moe": _Family(moe=True, stated=_DENSE_FIRST),
    "ernie4_5_moe": _Family(
        tied=True, moe=True, stated=("moe_num_shared_experts", "moe_layer_start_index", "moe_layer_interval")
    ),
    "bailing_moe": _Family(moe=True, stated=("first_k_dense_replace", "num_shared_experts")),
    "olmoe": _Family(moe=True, wide_experts=True),
    "granitemoe": _Family(moe=True, wide_experts=True),
    "minimax_m2": _Family(moe=True, wide_experts=True, defaults={"head_dim": 128}),
    **dict.fromkeys(("minimax", "minimax_m1", "minimax_text_01"), _LIGHTNING),
    "gpt_oss": _Family(
        qkv_bias=True,
        window="pattern",
        moe=True,
        wide_experts=True,
        defaults={"head_dim": 64, "sliding_window": 128, "sliding_window_pattern": 2},
    ),
    "llama4": _LLAMA4,
    "llama4_text": _LLAMA4,
    "starcoder2": _Family(tied=True, qkv_bias=True, gated=False, window="always"),
    "phi": _Family(qkv_bias=True, gated=False),
    "persimmon": _Family(qkv_bias=True, gated=False),
    "gpt_neox": _Family(qkv_bias=True, gated=False),
    "gpt2": _Family(tied=True, qkv_bias=True, gated=False, ffn_ratio=4),
    "gptj": _Family(gated=False, ffn_ratio=4),
    "gpt_bigcode": _Family(tied=True, qkv_bias=True, gated=False, ffn_ratio=4, defaults={"multi_query": True}),
    "bloom": _Family(tied=True, qkv_bias=True, gated=False, ffn_ratio=4, defaults={"max_position_embeddings": 2048}),
    "falcon": _Family(
        tied=True,
        gated=False,
        ffn_ratio=4,
        defaults={"multi_query": True, "max_position_embeddings": 2048},
    ),
    "opt": _Family(tied=True, qkv_bias=True, gated=False),
})  # fmt: skip

_STRUCTURAL = re.compile(
    r"moe|expert|window|linear|ssm|conv|mamba|lora|latent|layer_type|attn_type|attn_layer|block|hybrid|pattern|cross_att"
    r"|sparse|recurrent|chunk|interval|interleave|compress|kda|shared?_|_per_layer|attn_config|ffn_config|local_att"
    r"|global_|attention_types|attention_layers|^index|^state_size|^is_encoder_decoder"
)
"""A field with such a name may change shapes, memory or work."""

_HARMLESS = frozenset({
    "block_size",  # tile of the prefill kernel of lightning attention
    "layernorm_linear_attention_alpha", "layernorm_linear_attention_beta",  # scales of the residual
    "linear_attn_alpha_factor", "linear_attn_beta_factor",
    "moe_layernorm", "moe_norm_min", "moe_router_score_function", "moe_use_aux_free", "moe_capacity",
    "moe_router_enable_expert_bias", "moe_router_topk_scaling_factor", "moe_router_dtype",
    "use_expert_bias", "shared_moe_mode", "experts_implementation",
})  # fmt: skip
"""Structural by name, but neither shape nor memory nor work of serving."""

_TEXT_TOWERS = ("text_config", "llm_config", "language_config", "thinker_config")
_INHERITED = ("architectures", "dtype", "quantization_config", "tie_word_embeddings", "torch_dtype")
_LAYER_KINDS = MappingProxyType({
    "full_attention": "full",
    "indexed_attention": "full",  # what the indexer leaves out is index_topk's business; all keys stay in memory
    "sliding_attention": "window",
    "chunked_attention": "window",  # keys of finished chunks are freed
    "linear_attention": "linear",
})  # fmt: skip
_DTYPE_PRECISION = MappingProxyType({
    "bfloat16": "bf16", "float16": "bf16", "float32": "bf16", "float8_e4m3fn": "fp8",
})  # fmt: skip
_ALGORITHM_PRECISION = MappingProxyType({
    "FP8": "fp8", "NVFP4": "fp4", "W4A16_AWQ": "int4", "W4A8_AWQ": "int4", "INT8_SQ": "int8",
})  # fmt: skip
_STATE_ELEM_BYTE = MappingProxyType({"bfloat16": 2.0, "float16": 2.0, "float32": 4.0})


class _Fields:
    """The fields of one config; remembers which were read, so that an unread one of structure can be refused."""

    def __init__(self, values: Mapping[str, Any], source: str) -> None:
        self.values, self.source, self.seen = values, source, set[str]()
        self.model_type = values.get("model_type")
        if not isinstance(self.model_type, str) or not self.model_type:
            raise ConfigFileError(source, "field model_type is missing", "model_type")
        self.known = self.model_type in _FAMILIES
        self.family = _FAMILIES.get(self.model_type, _PLAIN)

    def refused(self, name: str, reason: str = "is not understood") -> ConfigFileError:
        """Return the error about one field, its value shown if it is short."""
        text = json.dumps(self.values.get(name), default=str)
        shown = f" (it says {text})" if name in self.values and len(text) <= 40 else ""
        return ConfigFileError(self.source, f"model_type {self.model_type}: field {name} {reason}{shown}", name)

    def get(self, *names: str) -> Any:
        """Return the first of the synonyms that has a value, in the file or, if it has none, in the family."""
        self.seen.update(names)
        values = self.values if self.has(*names) else self.family.defaults
        return next((values[name] for name in names if values.get(name) is not None), None)

    def has(self, *names: str) -> bool:
        """Return whether the file has one of the fields, be it null."""
        return any(name in self.values for name in names)

    def count(self, *names: str, default: int | None = None, least: int = 1, most: int = COUNT_MAX) -> int:
        """Return a count or width; without a default it must be there."""
        value = self.get(*names)
        if value is None and default is not None:
            return default
        given = next((name for name in names if self.values.get(name) is not None), names[0])
        if value is None:
            raise self.refused(given, "is missing")
        if isinstance(value, bool) or not isinstance(value, int):
            raise self.refused(given, "is not a count")
        if not least <= value <= most:
            raise self.refused(given, f"is not between {least} and {most}")
        return value

    def flag(self, name: str, *, default: bool = False) -> bool:
        """Return a yes or no."""
        value = self.get(name)
        if value is None:
            return default
        if not isinstance(value, bool):
            raise self.refused(name, "is neither true nor false")
        return value

    def per_layer(self, name: str, layers: int, allowed: tuple[Any, ...]) -> list[Any] | None:
        """Return a list with one of the allowed entries per layer, None if the file has none."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or len(value) != layers:
            raise self.refused(name, f"is not a list of {layers} layers")
        for entry in value:
            if entry not in allowed:  # by comparison: an entry may be anything, also unhashable
                raise self.refused(name, f"has an entry that is not understood: {json.dumps(entry)[:40]}")
        return value

    def indices(self, name: str) -> set[int] | None:
        """Return a list of layer numbers as a set, None if the file has none."""
        value = self.get(name)
        if value is None:
            return None
        if not isinstance(value, list) or not all(type(entry) is int for entry in value):
            raise self.refused(name, "is not a list of layers")
        return set(value)

    def check(self) -> None:
        """Refuse the first field of structure that nobody read and that says something."""
        for name, value in self.values.items():
            if _STRUCTURAL.search(name) and value and name not in self.seen | _HARMLESS:
                raise self.refused(name)


# --- the reader -------------------------------------------------------------------------------------------------------
def config_parse(config: Mapping[str, Any], *, slug: str, source: str) -> ModelSpec:
    """Return the model that a config.json describes; of a model with several towers, the one that writes text.

    Parameters
    ----------
    config : mapping
        The parsed file.
    slug : str
        Our name of the model.
    source : str
        The file, for messages.

    Returns
    -------
    ModelSpec
        Published parameter counts are 0 (a config has none); ``note`` says what was left out or assumed.

    Raises
    ------
    ConfigFileError
        Naming the first field that is missing or not understood.
    """
    text, nested = _text_tower(config)
    fields = _Fields(text, source)
    notes = ["text tower only"] if nested or "vision_config" in config else []
    if not fields.known:
        _plain_check(fields)
        notes.append(f"model_type {fields.model_type} is not known: read as plain grouped-query attention")
    layers = fields.count("num_hidden_layers", "n_layer", "num_layers", most=LAYERS_MAX)
    hidden = fields.count("hidden_size", "n_embd", "n_embed", "d_model")
    attention = _attention(fields, hidden)
    values = {
        **attention,
        **_layer_kinds(fields, layers, attention),
        **_mlps(fields, layers, hidden),
        "vocab": fields.count("vocab_size", "padded_vocab_size"),
        "tied": _tied(fields),
        "lm_head": _lm_head(fields),
        "max_context_tok": fields.count("max_position_embeddings", "n_positions", "seq_length", "n_ctx"),
        "native_precision": _precision(fields),
    }
    fields.check()
    hub_name = config.get("_name_or_path")
    hf_id = hub_name if isinstance(hub_name, str) and re.fullmatch(r"[\w.-]+/[\w.-]+", hub_name) else ""
    return ModelSpec(
        slug=slug, name=hf_id or slug, hf_id=hf_id, released="", hidden=hidden, layers=layers, note="; ".join(notes),
        **values,
    )  # fmt: skip


def models_read(directory: str | Path) -> Mapping[str, ModelSpec]:
    """Return the models of a folder by slug, in lower case.

    Parameters
    ----------
    directory : str or Path
        Holds ``NAME.json`` files, or one folder per model with a ``config.json``; slugs are the names of file and
        folder. If it holds a ``config.json`` itself it is the folder of one model, and its other files are not read.

    Raises
    ------
    ConfigFileError
        With the file, if one of them cannot be read, or if there is none.
    """
    folder = Path(directory)
    if not folder.is_dir():
        raise ConfigFileError(str(directory), "is not a folder")
    own = folder / "config.json"
    flat = [own] if own.is_file() else sorted(folder.glob("*.json"))
    models: dict[str, ModelSpec] = {}
    for path in [*flat, *sorted(folder.glob("*/config.json"))]:
        slug = (path.absolute().parent.name if path.name == "config.json" else path.stem).lower()
        if slug in models:
            raise ConfigFileError(str(path), f"a second model with the name {slug}")
        models[slug] = config_parse(_config_read(path), slug=slug, source=str(path))
    if not models:
        raise ConfigFileError(str(directory), "holds no config.json")
    return MappingProxyType(models)


def _config_read(path: Path) -> Mapping[str, Any]:
    try:
        with path.open("rb") as file:
            content = file.read(CONFIG_MAX_BYTE + 1)  # a pipe or a device has no size to ask for
    except OSError as error:
        raise ConfigFileError(str(path), f"cannot be read: {error.strerror}") from error
    if len(content) > CONFIG_MAX_BYTE:
        raise ConfigFileError(str(path), f"is larger than {CONFIG_MAX_BYTE} byte, so it is no config.json")
    try:
        config = json.loads(content.decode("utf-8-sig"))
    except UnicodeDecodeError as error:
        raise ConfigFileError(str(path), f"is not UTF-8 at byte {error.start}") from error
    except json.JSONDecodeError as error:
        raise ConfigFileError(str(path), f"line {error.lineno}, column {error.colno}: {error.msg}") from error
    except (RecursionError, ValueError) as error:  # brackets without end; an integer of thousands of digits
        raise ConfigFileError(str(path), f"is no config.json: {error}") from error
    if not isinstance(config, dict):
        raise ConfigFileError(str(path), "is not a JSON object")
    return config


def _text_tower(config: Mapping[str, Any]) -> tuple[Mapping[str, Any], bool]:
    """Return the config of the tower that writes text, and whether it was nested; it inherits what it omits."""
    outer, nested = config, False
    while name := next((name for name in _TEXT_TOWERS if isinstance(outer.get(name), Mapping)), ""):
        outer, nested = {**{key: outer[key] for key in _INHERITED if key in outer}, **outer[name]}, True
    return outer, nested


def _plain_check(fields: _Fields) -> None:
    """Refuse an unknown family unless its file states all of the plain shape and nothing beyond it."""
    fields.check()
    if fields.values.get("tie_word_embeddings") is None:
        raise fields.refused("tie_word_embeddings", "is missing, and its default in this family is not known")
    if fields.values.get("hidden_act", "silu") not in ("silu", "swish", "swiglu"):  # a tuple: it may be anything
        raise fields.refused("hidden_act")
    fields.count("num_key_value_heads")
    fields.count("intermediate_size")


# --- attention --------------------------------------------------------------------------------------------------------
def _attention(fields: _Fields, hidden: int) -> dict[str, Any]:
    heads = fields.count("num_attention_heads", "n_head")
    common: dict[str, Any] = {"heads": heads, "qkv_bias": _qkv_bias(fields), "out_gate": fields.family.out_gate}
    if fields.flag("attn_output_gate", default=fields.family.out_gate) != fields.family.out_gate:
        raise fields.refused("attn_output_gate")
    if fields.family.mla:
        return {**common, "attention": "mla", **_latent(fields), **_indexer(fields)}
    kv_heads = _kv_heads(fields, heads)
    if heads % kv_heads:
        raise fields.refused("num_key_value_heads", f"does not divide {heads} heads")
    return {**common, "attention": "gqa", "kv_heads": kv_heads, "head_dim": _head_dim(fields, hidden, heads)}


def _qkv_bias(fields: _Fields) -> bool:
    names = ("attention_bias", "qkv_bias", "add_qkv_bias", "use_qkv_bias", "use_bias", "bias")
    given = [name for name in names if fields.get(name) is not None]
    return fields.flag(given[0]) if given else fields.family.qkv_bias


def _kv_heads(fields: _Fields, heads: int) -> int:
    """Return the KV heads; Falcon, BigCode and ChatGLM say in their own way whether there is one, few or all."""
    if fields.flag("multi_query_attention"):
        return fields.count("multi_query_group_num")
    if fields.flag("multi_query") and not fields.flag("new_decoder_architecture"):
        return 1
    return fields.count("num_key_value_heads", "num_kv_heads", "n_head_kv", default=heads)


def _head_dim(fields: _Fields, hidden: int, heads: int) -> int:
    if fields.get("head_dim", "kv_channels") is not None:
        return fields.count("head_dim", "kv_channels")
    if hidden % heads:
        raise fields.refused("head_dim", f"is missing, and {heads} heads do not divide {hidden}")
    return hidden // heads


def _latent(fields: _Fields) -> dict[str, int]:
    return {
        "kv_lora_rank": fields.count("kv_lora_rank"),
        "q_lora_rank": fields.count("q_lora_rank", default=0),  # null: queries are projected in one step
        "qk_nope_dim": fields.count("qk_nope_head_dim"),
        "qk_rope_dim": fields.count("qk_rope_head_dim"),
        "v_dim": fields.count("v_head_dim"),
    }


def _indexer(fields: _Fields) -> dict[str, int]:
    if fields.get("index_topk") is None:
        return {}
    kinds = fields.get("indexer_types")
    if kinds is not None and (not isinstance(kinds, list) or any(kind != "full" for kind in kinds)):
        raise fields.refused("indexer_types")  # layers that share an indexer would be counted twice
    return {
        "index_topk": fields.count("index_topk"),
        "index_heads": fields.count("index_n_heads"),
        "index_dim": fields.count("index_head_dim"),
    }


# --- which layer attends how ------------------------------------------------------------------------------------------
def _layer_kinds(fields: _Fields, layers: int, attention: Mapping[str, Any]) -> dict[str, Any]:
    kinds = _listed_kinds(fields, layers) or _ruled_kinds(fields, layers)
    window_layers, linear_layers = kinds.count("window"), kinds.count("linear")
    window_tok = fields.count("sliding_window", "attention_chunk_size") if window_layers else 0
    # what these say has been answered above, layer by layer
    fields.seen.update(("sliding_window", "use_sliding_window", "max_window_layers", "sliding_window_pattern"))
    fields.seen.update(("attention_chunk_size", "full_attention_interval", "no_rope_layer_interval"))
    linear = _linear(fields, attention) if linear_layers else {}
    return {"window_tok": window_tok, "window_layers": window_layers, "linear_layers": linear_layers, **linear}


def _listed_kinds(fields: _Fields, layers: int) -> list[str] | None:
    """Return the kind of each layer as a list in the file says it."""
    names = fields.per_layer("layer_types", layers, tuple(_LAYER_KINDS))
    codes = fields.per_layer("attn_type_list", layers, (0, 1))
    if names is not None:
        kinds = [_LAYER_KINDS[name] for name in names]
    elif codes is not None:
        kinds = ["full" if code else "linear" for code in codes]
    else:
        return None
    if "linear" in kinds and not fields.family.linear:
        given = "attn_type_list" if names is None else "layer_types"
        raise fields.refused(given, "has linear attention of a kind that is not known for this model_type")
    return kinds


def _ruled_kinds(fields: _Fields, layers: int) -> list[str]:
    """Return the kind of each layer by the rule of the family."""
    if fields.family.linear == "delta":
        every = fields.count("full_attention_interval")
        return ["linear" if (layer + 1) % every else "full" for layer in range(layers)]
    if fields.family.linear:
        raise fields.refused("layer_types", "is missing")
    from_layer, every = _window_rule(fields, layers)
    return ["window" if layer >= from_layer and (layer + 1) % every else "full" for layer in range(layers)]


def _window_rule(fields: _Fields, layers: int) -> tuple[int, int]:
    """Return the first layer with a window, and the n of "every nth layer has none"; ``layers + 1``: not one."""
    family, none = fields.family, layers + 1
    if not fields.flag("use_sliding_window", default=family.window != "flag"):
        return none, none
    if fields.get("sliding_window", "attention_chunk_size") is None:
        return none, none
    if family.window == "never":
        raise fields.refused("sliding_window", "is not understood for this model_type")
    if family.window == "pattern":
        return 0, _pattern(fields)
    return (0 if family.window == "always" else fields.count("max_window_layers", least=0)), none


def _pattern(fields: _Fields) -> int:
    """Return the n of "every nth layer sees everything"; EXAONE writes ``LLLG`` for 4."""
    name = "no_rope_layer_interval" if fields.family is _LLAMA4 else "sliding_window_pattern"
    value = fields.get(name)
    if isinstance(value, str) and re.fullmatch(r"L+G", value):
        return len(value)
    rotary = fields.get("no_rope_layers")
    if rotary and [1 if (layer + 1) % fields.count(name) else 0 for layer in range(len(rotary))] != rotary:
        raise fields.refused("no_rope_layers")
    return fields.count(name)


def _linear(fields: _Fields, attention: Mapping[str, Any]) -> dict[str, Any]:
    if fields.family.linear == "lightning":  # as many heads as the softmax layers have for queries, for all three
        heads, width = attention["heads"], attention["head_dim"]
        shape = {"linear_key_heads": heads, "linear_value_heads": heads}
        return {"linear_kind": "lightning", **shape, "linear_key_dim": width, "linear_value_dim": width}
    state_dtype = fields.get("mamba_ssm_dtype") or "bfloat16"
    if str(state_dtype) not in _STATE_ELEM_BYTE:
        raise fields.refused("mamba_ssm_dtype")
    return {
        "linear_kind": "delta",
        "linear_key_heads": fields.count("linear_num_key_heads"),
        "linear_value_heads": fields.count("linear_num_value_heads"),
        "linear_key_dim": fields.count("linear_key_head_dim"),
        "linear_value_dim": fields.count("linear_value_head_dim"),
        "linear_conv_width": fields.count("linear_conv_kernel_dim"),
        "linear_state_elem_byte": _STATE_ELEM_BYTE[state_dtype],
    }


# --- MLPs and experts -------------------------------------------------------------------------------------------------
def _mlps(fields: _Fields, layers: int, hidden: int) -> dict[str, Any]:
    family = fields.family
    names = ("num_experts", "num_local_experts", "n_routed_experts", "moe_num_experts")
    if family.moe and not fields.has(*names):
        raise fields.refused(names[0], "is missing")
    experts = fields.count(*names, default=0, least=0) if family.moe else 0
    if not experts:
        return {"mlp_gated": family.gated, "ffn": _ffn(fields, hidden)}
    for name in family.stated:
        if not fields.has(name) and not (name == "first_k_dense_replace" and fields.has("mlp_layer_types")):
            raise fields.refused(name, "is missing")
    dense_layers = layers - sum(_sparse(fields, layers))
    if dense_layers == layers:
        raise fields.refused(next(name for name in names if fields.values.get(name)), "is there, but no sparse layer")
    width = fields.count("intermediate_size" if family.wide_experts else "moe_intermediate_size")
    return {
        "mlp_gated": family.gated,
        "ffn": _ffn(fields, hidden) if dense_layers else 0,
        "experts": experts,
        "experts_active": fields.count("num_experts_per_tok", "moe_k", "moe_topk", most=experts),
        "expert_ffn": width,
        "shared_ffn": _shared_ffn(fields, width),
        "dense_layers": dense_layers,
    }


def _ffn(fields: _Fields, hidden: int) -> int:
    if fields.family is _LLAMA4 and fields.has("intermediate_size_mlp"):
        return fields.count("intermediate_size_mlp")  # the other one is the width of an expert
    default = fields.family.ffn_ratio * hidden or None
    return fields.count("intermediate_size", "ffn_hidden_size", "n_inner", "ffn_dim", default=default)


def _shared_ffn(fields: _Fields, width: int) -> int:
    """Return the width of all shared experts together."""
    if fields.family is _LLAMA4:
        return width  # always one, as wide as a routed one
    total = fields.count("shared_expert_intermediate_size", "shared_intermediate_size", default=0, least=0)
    number = fields.count("n_shared_experts", "num_shared_experts", "moe_num_shared_experts", default=0, least=0)
    return total or number * width


def _sparse(fields: _Fields, layers: int) -> list[bool]:
    """Return for each layer whether it has experts: every rule that the file states must agree."""
    kinds = fields.per_layer("mlp_layer_types", layers, ("dense", "sparse"))
    listed = fields.indices("moe_layers")
    mlp_only = fields.indices("mlp_only_layers") or set()
    first = max(fields.count("first_k_dense_replace", default=0, least=0),
                fields.count("moe_layer_start_index", default=0, least=0))  # fmt: skip
    last = fields.count("moe_layer_end_index", default=-1, least=-1)
    every = _moe_every(fields, layers)
    step = fields.count("decoder_sparse_step", "interleave_moe_layer_step", "moe_layer_interval", default=1)
    return [
        (kinds is None or kinds[layer] == "sparse")
        and (listed is None or layer in listed)
        and layer not in mlp_only
        and layer >= first
        and (last < 0 or layer <= last)
        and every[layer]
        and (layer + 1) % step == 0
        for layer in range(layers)
    ]


def _moe_every(fields: _Fields, layers: int) -> list[bool]:
    """Return what ``moe_layer_freq`` says: every nth layer, counted from 0, or a list of 0 and 1."""
    if isinstance(fields.get("moe_layer_freq"), list):
        return [bool(entry) for entry in fields.per_layer("moe_layer_freq", layers, (0, 1)) or []]
    freq = fields.count("moe_layer_freq", default=1)
    return [layer % freq == 0 for layer in range(layers)]


# --- head and precision -----------------------------------------------------------------------------------------------
def _tied(fields: _Fields) -> bool:
    return fields.flag("tie_word_embeddings", default=fields.family.tied)


def _lm_head(fields: _Fields) -> bool:
    """Return whether the checkpoint writes tokens; only the class name says so."""
    names = fields.get("architectures") or []
    if not isinstance(names, list):
        raise fields.refused("architectures")
    return not any(re.search(r"Model$|Embedding|ForSequenceClassification$", str(name)) for name in names)


def _precision(fields: _Fields) -> str:
    """Return the precision of the weights; that of the experts if only they are quantised."""
    quantised = fields.get("quantization_config", "compression_config")
    if quantised:
        precision = _quantised_precision(quantised) if isinstance(quantised, Mapping) else None
        if precision is None:
            raise fields.refused("quantization_config", f"is not understood: {_quantised_text(quantised)}")
        return precision
    dtype = str(fields.get("torch_dtype", "dtype") or "bfloat16").removeprefix("torch.")
    if dtype not in _DTYPE_PRECISION:
        raise fields.refused("torch_dtype" if "torch_dtype" in fields.values else "dtype")
    return _DTYPE_PRECISION[dtype]


def _quantised_text(quantised: object) -> str:
    if not isinstance(quantised, Mapping):
        return "not an object"
    return (
        ", ".join(f"{key} {quantised[key]}" for key in ("quant_method", "quant_algo", "bits") if key in quantised)
        or "no quant_method"
    )


def _quantised_precision(quantised: Mapping[str, Any]) -> str | None:
    method = str(quantised.get("quant_method", "")).lower()
    if method in {"awq", "gptq"}:
        return {"4": "int4", "8": "int8"}.get(str(quantised.get("bits", quantised.get("w_bit"))))
    if method == "bitsandbytes":
        return "int4" if quantised.get("load_in_4bit") else "int8" if quantised.get("load_in_8bit") else None
    if method == "compressed-tensors":
        return _group_precision(quantised.get("config_groups"))
    if method == "modelopt" or "quant_algo" in quantised:
        return _ALGORITHM_PRECISION.get(str(quantised.get("quant_algo")).upper())
    return {"fp8": "fp8", "fbgemm_fp8": "fp8", "mxfp4": "fp4", "nvfp4": "fp4"}.get(method)


def _group_precision(groups: object) -> str | None:
    """Return the narrowest precision of the groups of a compressed-tensors config: that of the most weights."""
    known = {"float8": "fp8", "float4": "fp4", "int8": "int8", "int4": "int4"}
    found = set()
    for group in groups.values() if isinstance(groups, Mapping) else ():
        weights = group.get("weights") if isinstance(group, Mapping) else None
        found.add(
            known.get(f"{weights.get('type')}{weights.get('num_bits')}") if isinstance(weights, Mapping) else None
        )
    return None if None in found else next((name for name in ("fp4", "int4", "fp8", "int8") if name in found), None)
