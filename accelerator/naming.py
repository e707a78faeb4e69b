"""Models by the names that benchmark tables print: hub ids, local paths, with precision and tuning at the end.

A name is cut from its end, one suffix of ``SUFFIXES`` at a time, until what is left is the name of a known model. What
a suffix says of the precision of the weights or of multi-token prediction is kept. Sizes and generations are in no
suffix, so a name never leads to a model of another size.
"""

import difflib
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cache, lru_cache
from types import MappingProxyType

from accelerator.architectures import ModelSpec, model_get, models_load
from accelerator.errors import UnknownModelError
from accelerator.facts import aliases_load

NAME_LIMIT_CHAR = 300
"""No table has a longer name; what is longer is unknown at once. [characters]"""

_MTP = "mtp"

_PRECISIONS: Mapping[str, tuple[str, ...]] = {
    "bf16": ("bf16", "fp16", "fp32", "float16", "bfloat16", "half"),
    "fp8": (
        "fp8", "fp8-dynamic", "fp8-static", "fp8-block", "fp8-kv", "fp8-static-pertensor", "fp8-e4m3", "float8",
        "w8a8-fp8", "mxfp8", "ptpc-fp8", "ptpc",
    ),
    "fp4": ("nvfp4", "fp4", "mxfp4", "nvfp4-fp8", "nvfp4a16", "w-mxfp4-a-fp8", "mxfp4-fp8", "nvfp4-v2", "fp4-v2"),
    "int8": (
        "int8", "w8a8", "w8a16", "w8a8c8", "w8a8sc", "w8a8s", "w8a8-int8", "quantized.w8a8", "quantized.w8a16",
        "gptq-int8", "8bit", "8-bit", "q8-0", "w8a8-dynamic", "w8a8-per-token", "smoothquant",
    ),
    "int4": (
        "int4", "w4a8", "w4a16", "w4a4", "w4a8c8", "w4a8-int8", "w4a8-mix", "quantized.w4a16", "awq", "gptq",
        "gptq-int4", "awq-int4", "gptq-4bit", "awq-4bit", "4bit", "4-bit", "autoround", "int4-autoround", "bnb-4bit",
        "q4-0", "q4-k-m", "q4-k-s", "w4afp8",
    ),
}  # fmt: skip
"""Suffixes that say a precision of the weights, in lower case with hyphens."""

_TUNING = (
    "instruct", "chat", "base", "it", "hf", "sft", "dpo", "rl", "pt", "thinking", "think", "reasoning", "preview",
    "python", "v0.1", "v0.2", "v0.3", "original", "latest", "deduped", "4k", "8k", "16k", "32k", "64k", "128k",
    "200k", "256k", "1m", "0528", "0324", "0125", "0414", "0709", "0711", "0905", "1124", "1210", "2407", "2409",
    "2410", "2411", "2412", "2501", "2503", "2505", "2506", "2507", "2508", "2509", "2510", "2512",
)  # fmt: skip
"""Suffixes of tuning, date and trained context: other weights, the same shape."""

_PACKING = (
    "quarot", "kv", "kv-fp8", "kvfp8", "c8", "310", "310p", "a2", "a3", "vllm", "sglang", "trtllm", "trt-llm",
    "mindie", "ascend", "gaudi", "neuron", "tp1", "tp2", "tp4", "tp8", "tp16", "ep", "gguf", "mlx", "onnx",
    "safetensors", "mlperf", "eagle", "eagle3", "dynamic", "static", "quantized", "quant", "128g", "gs128", "g128",
    "sym", "puring",
)  # fmt: skip
"""Suffixes of how the weights are stored or which engine they are for."""

SUFFIXES: Mapping[str, str] = MappingProxyType({
    **dict.fromkeys((*_TUNING, *_PACKING), ""),
    **{suffix: precision for precision, suffixes in _PRECISIONS.items() for suffix in suffixes},
    "mtp": _MTP,
    "mtp1": _MTP,
    "nextn": _MTP,
})  # fmt: skip
"""What may end a name, and what it says: a precision, ``mtp``, or nothing that matters for speed."""

_LONGEST_FIRST = sorted(SUFFIXES, key=lambda suffix: (-len(suffix), suffix))
_PREFIXES = ("meta-", "nvidia-", "amd-", "neuron-")
_INFIXES = ("-instruct-", "-chat-", "-hf-")
_REMARK = re.compile(r"\s*[(\[]([^()\[\]]*)[)\]]$")
_GENERATION = re.compile(r"^([a-z]+?)-?v?(?=\d)")  # llama-2, llama2 and llama-v2 are one
_BETWEEN = re.compile(r"[\s_:]+|-{2,}")


@dataclass(frozen=True)
class NamedModel:
    """A model, and what else its name says.

    Parameters
    ----------
    model : ModelSpec
        The architecture.
    weight_precision : str
        Of the weights: bf16, fp8, int8, int4 or fp4; empty if the name does not say it.
    mtp : bool
        The name says that the checkpoint predicts several tokens.
    """

    model: ModelSpec
    weight_precision: str
    mtp: bool


def model_named(name: str, more: Mapping[str, ModelSpec] = MappingProxyType({})) -> NamedModel:
    """Return the model that a benchmark table means, with the precision in its name.

    Parameters
    ----------
    name : str
        For instance ``Eco-Tech/DeepSeek-R1-0528-w8a8-mtp-QuaRot`` or ``/models/Qwen3-8B-FP8``.
    more : mapping of str to ModelSpec
        Models read at call time, by slug in lower case; what data/models.csv holds comes first.

    Raises
    ------
    UnknownModelError
        With the closest names, or the reason why a known model is not held.

    Examples
    --------
    >>> named = model_named("RedHatAI/Llama-3.3-70B-Instruct-quantized.w4a16")
    >>> named.model.slug, named.weight_precision
    ('llama-3.1-70b', 'int4')
    """
    if len(name) > NAME_LIMIT_CHAR:
        raise UnknownModelError(f"{name[:40]}...", reason=f"longer than {NAME_LIMIT_CHAR} characters")
    if more:
        return _named(name, more)
    return _named_held(name)


@lru_cache(maxsize=4096)
def _named_held(name: str) -> NamedModel:
    return _named(name, MappingProxyType({}))


def _named(name: str, more: Mapping[str, ModelSpec]) -> NamedModel:
    cuts = list(_cuts(_plain(name)))
    shortest, said = cuts[-1]
    precision = next((word for word in said if word != _MTP), "")
    return NamedModel(_model(name, [cut for cut, _ in cuts], shortest, more), precision, _MTP in said)


def _model(name: str, cuts: list[str], shortest: str, more: Mapping[str, ModelSpec]) -> ModelSpec:
    """Return the model of the whole name or, failing that, of the longest of its cuts that is one."""
    try:
        return model_get(name.strip(), more)
    except UnknownModelError:
        pass
    slugs = {**{_key(_plain(slug)): slug for slug in more}, **_slugs_by_key()}
    without = [shortest.replace(infix, "-") for infix in _INFIXES if infix in shortest]
    for cut in (*cuts, *without):
        if (key := _key(cut)) in slugs:
            return model_get(slugs[key], more)
        if key in _reasons_by_key():
            raise UnknownModelError(name, reason=_reasons_by_key()[key])
    known = {**more, **models_load()}
    raise UnknownModelError(name, difflib.get_close_matches(shortest, known, n=3, cutoff=0.5) or known)


def _plain(name: str) -> str:
    """Return the name in lower case with hyphens, without organisation or folders.

    A remark in brackets at its end is dropped, unless it is a suffix: ``(FP8)``.
    """
    name = name.strip()
    while remark := _REMARK.search(name):
        text = _BETWEEN.sub("-", remark[1].strip().lower())
        name = name[: remark.start()] + (f"-{text}" if text in SUFFIXES else "")
    name = re.split(r"[/\\]|--", name.rstrip("/\\"))[-1]  # a cache of the hub writes -- for /
    return _BETWEEN.sub("-", name.lower()).strip("-.")


def _cuts(plain: str) -> Iterator[tuple[str, tuple[str, ...]]]:
    """Yield the name, then what is left after each suffix, with what the suffixes so far say, the last one first."""
    said: tuple[str, ...] = ()
    yield plain, said
    while suffix := next((suffix for suffix in _LONGEST_FIRST if plain.endswith(f"-{suffix}")), ""):
        plain = plain.removesuffix(f"-{suffix}").rstrip("-.")
        said = (*said, SUFFIXES[suffix]) if SUFFIXES[suffix] else said
        yield plain, said


def _key(plain: str) -> str:
    """Return the name as names are compared: without the name of a maker, family and generation written as one."""
    for prefix in _PREFIXES:
        plain = plain.removeprefix(prefix)
    return _GENERATION.sub(r"\1", plain)


@cache
def _slugs_by_key() -> Mapping[str, str]:
    """Return the slug of every name that is held; one's own slug comes before a hub id, and that before an alias."""
    models = models_load()
    slugs = {_key(_plain(slug)): slug for slug in models}
    hub = {_key(_plain(model.hf_id)): slug for slug, model in models.items() if model.hf_id}
    named = {_key(_plain(name)): slug for name, (slug, _) in aliases_load().items() if slug in models}
    return MappingProxyType({**named, **hub, **slugs})


@cache
def _reasons_by_key() -> Mapping[str, str]:
    """Return why a model is known but not held, by name."""
    return MappingProxyType({_key(_plain(name)): note for name, (slug, note) in aliases_load().items() if not slug})
