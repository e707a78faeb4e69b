"""Groups that a served deployment belongs to, and how far members of a group scatter: the levels of the serving fit."""

import re
from collections.abc import Mapping
from types import MappingProxyType

import numpy as np

from accelerator.points import Deployment, Point
from accelerator.pooling import Floats
from accelerator.serving import INDEX, PARAMETERS

LEVELS: Mapping[str, float] = MappingProxyType({
    "architecture": 0.7,
    "chip": 0.7,
    "engine": 1.0,
    "engine_version": 0.7,
    "format": 0.5,
    "kind": 0.5,
    "model": 0.5,
    "publisher": 0.8,
    "campaign": 0.7,
    "pair": 0.5,
    "chip_engine": 0.5,
    "deployment": 0.5,
    "engine_kind": 0.4,
    "chip_format": 0.4,
    "architecture_engine": 0.4,
})  # fmt: skip
"""Levels, and how far their members scatter over a parameter's usual deviation. [-]

publisher and campaign say how something was measured, not what; a deployment that nobody has measured has neither.
"""

MEASURED = frozenset({"publisher", "campaign"})
"""Levels that belong to a measurement."""

TAU: Mapping[tuple[str, str], float] = MappingProxyType({
    ("seqs_most", "engine"): 0.5,
    ("seqs_most", "publisher"): 0.5,
    ("seqs_most", "campaign"): 0.5,
    ("mix", "publisher"): 0.4,
    ("mix", "campaign"): 0.6,
    ("wave", "publisher"): 0.9,
    ("wave", "campaign"): 0.9,
    ("decode_ratio", "pair"): 0.2,
    ("decode_ratio", "deployment"): 0.2,
    ("prompt_ratio", "pair"): 0.2,
    ("prompt_ratio", "deployment"): 0.2,
    ("issue_s", "engine"): 1.2,
    ("issue_s", "engine_version"): 0.6,
    ("host_step_s", "engine"): 0.7,
})  # fmt: skip
"""Expected scatter of a parameter at a level where it is not the product of both usual figures. [log]"""


HOST = frozenset({
    "issue_s", "host_step_s", "host_seq_s", "host_rank_s", "request_s", "request_tok_s", "wave", "mix", "seqs_most",
    "limit_ratio", "accepted", "tail", "queue", "full_ratio",
})  # fmt: skip
"""Parameters of the engine's host and of how load is applied."""

KERNELS = frozenset({
    "memory_ratio", "compute_ratio", "experts_ratio", "collectives_ratio", "exchanges_ratio", "decode_attention_ratio",
    "prefill_attention_ratio",
})  # fmt: skip
"""Parameters of kernels."""

HARDLY: tuple[tuple[frozenset[str], frozenset[str], float], ...] = (
    (HOST, frozenset({"architecture", "chip", "pair", "chip_engine", "chip_format", "architecture_engine"}), 0.05),
    (KERNELS, frozenset({"model", "pair", "deployment"}), 0.25),
)
"""What hardly differs by what, and its scatter there over that of other parameters: a host's work by whose chip it
feeds, a kernel's share of the chip by the model it runs (its shapes are in the kernel's own formula). [-]"""


def tau_expected() -> Floats:
    """Return the expected scatter: float64[levels, P]. [log]"""
    tau = np.array([[factor * parameter.tau for parameter in PARAMETERS] for factor in LEVELS.values()])
    levels = list(LEVELS)
    for names, where, ratio in HARDLY:
        for name in names:
            for level in where:
                tau[levels.index(level), INDEX[name]] *= ratio
    for (parameter, level), value in TAU.items():
        tau[levels.index(level), INDEX[parameter]] = value
    return tau


def groups_of(deployment: Deployment, *, measured: bool = True) -> dict[str, str]:
    """Return the member of every level that a deployment belongs to; empty for none.

    Parameters
    ----------
    measured : bool
        False: whatever was measured there, the question is what the deployment does.
    """
    d, point, model, config = deployment, deployment.point, deployment.model, deployment.layout.config
    chip, engine = d.chip.slug, d.engine
    version = _version(point.engine_version)
    attention = model.attention
    if attention == "gqa":
        attention = "linear" if model.linear_layers else "window" if model.window_layers else "gqa"
    kind = attention + ("|moe" if model.experts else "")
    checkpoint = re.search(r"checkpoint ([\w-]+)", point.notes)
    made = checkpoint[1] if checkpoint else ""
    layout = f"tp{config.tp} dp{config.dp} pp{config.pp} ep{config.ep} x{d.layout.replicas}"
    if d.layout.prefill:
        layout += f" + tp{d.layout.prefill.tp} dp{d.layout.prefill.dp} x{d.layout.prefill_replicas}"
    groups = {
        "architecture": d.chip.architecture,
        "chip": chip,
        "engine": engine,
        "engine_version": f"{engine}|{version}" if version else "",
        "format": f"{config.weight_precision}|{engine}|{made}",
        "kind": kind,
        "model": model.slug,
        "publisher": f"{_publisher(point)}|{d.kind}",
        "campaign": f"{_publisher(point)}|{d.kind}|{_campaign(point)}|{engine}",
        "pair": f"{chip}|{model.slug}",
        "chip_engine": f"{chip}|{engine}",
        "deployment": "|".join(
            (chip, model.slug, engine, version, layout, config.weight_precision, f"{d.speculative_tok}", made)
        ),
        "engine_kind": f"{engine}|{kind}",
        "chip_format": f"{chip}|{config.weight_precision}",
        "architecture_engine": f"{d.chip.architecture}|{engine}",
    }
    return groups if measured else {level: "" if level in MEASURED else name for level, name in groups.items()}


def _version(text: str) -> str:
    """Return major and minor of a version; the beginning of what has none."""
    found = re.match(r"[^\d]*(\d+\.\d+)", text)
    return found[1] if found else text[:12]


def _publisher(point: Point) -> str:
    return point.source.split(":")[0].split("@")[0].strip()


def _campaign(point: Point) -> str:
    """Return which of a publisher's series a row is from, by how the series name their runs."""
    source = point.source
    if "epnone" in source:  # two series, told apart by their lengths
        return "own, lengths in thousands" if point.input_tok % 1000 == 0 else "own, lengths in powers of two"
    if "gap_analysis" in source:
        return "gap"
    if re.search(r"_cfg\d", source):
        return "cfg"
    dated = re.search(r"\((20\d\d)", source)
    if dated:
        return dated[1]
    return source.split(":")[-1].split("(")[0].strip()[:60] if "csv" in source else ""
