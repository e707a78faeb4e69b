"""A serving engine around the kernels: what steps, prompts and loads take, with a few parameters for each engine.

The kernel calibration says how long the operators of a step take alone (``components``). An engine adds host work,
leaves another share of each part, mixes prompts into the steps of decoding sequences, and is measured under loads of
several kinds. All of it is written here, for arrays of rows at once: row i has its own deployment, load and parameters.

Step of n tokens, of which B decode with context x each, with w pairs of prompt tokens and those before them:

    step = memory gemm_memory(n) + compute gemm_compute(n) + experts (experts_memory(n) + experts_compute(n))
           + collectives(n) + decode attention (fixed(B) + slope(B) B x) + prefill attention (w)
                                                                                    each part times its ratio
    issued = (step^2 + (launches issue_s)^2)^(1/2) + host_step_s + host_seq_s B / groups + host_rank_s (chips - 1)

Groups with attention of their own (dp) have a scheduler each and keep step with the longest: a prompt in one of them
costs as much as one in each, unless a queue fills all.

    D(B) = decode_ratio issued(B, B, x)                             what a step without prompts takes
    A(B) = prompt_ratio (step(B + prompt, ...) - step(B, B, x))    what a prompt of mean length adds to its steps

What loads make of steps is in ``loads``.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
from numpy.typing import NDArray

from accelerator.components import SEQ_NODES, TOK_NODES, StepParts, step_parts
from accelerator.efficiency import DEFAULT
from accelerator.errors import ModelDoesNotFitError
from accelerator.memory import memory_fit
from accelerator.operators import DeploymentConfig
from accelerator.points import Deployment
from accelerator.pooling import Parameter
from accelerator.roofline import Floats

Indices = NDArray[np.intp]

KINDS = ("closed", "static", "burst", "full", "limited", "decode", "open", "prefill", "split")
"""How load is applied, see ``points.SCENARIOS``."""

CHUNK_TOK = 8192.0
"""Prompt tokens of one step. [tok]"""


@dataclass(frozen=True, eq=False)
class Loads:
    """Rows as arrays [n]; ``main`` and ``prefill`` index the stacked parts.

    Parameters
    ----------
    kind : int
        Index into KINDS.
    users : float
        Users or requests of one replica; NaN where the load does not say.
    room_seqs : float
        Sequences of the row's mean length whose KV finds room in one replica.
    """

    kind: Indices
    main: Indices
    prefill: Indices
    replicas: Floats
    prefill_replicas: Floats
    prefill_groups: Floats
    groups: Floats
    input_tok: Floats
    output_tok: Floats
    users: Floats
    rate_s: Floats
    room_seqs: Floats
    limit_s: Floats
    speculative_tok: Floats
    accept_ratio: Floats
    padded_seqs: Floats
    stack: "Stack"


@dataclass(frozen=True, eq=False)
class Stack:
    """Parts of many deployments, stacked: [d, nodes, parts], [d, nodes] and [d]."""

    linear_s: Floats
    decode_s: Floats
    context_s: Floats
    window_s: Floats
    prefill: Floats
    window_tok: Floats
    launches: Floats
    ranks: Floats
    groups: Floats

    @classmethod
    def of(cls, parts: Sequence[StepParts], ranks: Sequence[int], groups: Sequence[int]) -> "Stack":
        """Return the parts of deployments whose groups have so many chips."""
        return cls(
            ranks=np.array(ranks, dtype=np.float64),
            groups=np.array(groups, dtype=np.float64),
            linear_s=np.array([p.linear_s for p in parts]),
            decode_s=np.array([p.decode_s for p in parts]),
            context_s=np.array([p.context_s_per_tok for p in parts]),
            window_s=np.array([p.window_s_per_tok for p in parts]),
            prefill=np.array([(p.prefill_s, p.prefill_s_per_tok2, p.window_s_per_tok2) for p in parts]),
            window_tok=np.array([p.window_tok for p in parts]),
            launches=np.array([p.launches for p in parts]),
        )


def loads_of(deployments: Sequence[Deployment]) -> Loads:
    """Return rows as arrays; raises what the first row that cannot be modelled raises."""
    parts: dict[tuple[object, ...], int] = {}
    built: list[StepParts] = []
    ranks: list[int] = []
    groups: list[int] = []

    def take(d: Deployment, config: DeploymentConfig) -> int:
        key = (d.chip, d.model, config)
        if key not in parts:
            built.append(step_parts(d.chip, d.model, config))
            ranks.append(config.chips)
            groups.append(config.dp)
            parts[key] = len(built) - 1
        return parts[key]

    main = [take(d, d.layout.config) for d in deployments]
    prefill = [take(d, d.layout.prefill or d.layout.config) for d in deployments]
    return Loads(
        kind=np.array([KINDS.index(d.kind) for d in deployments]),
        main=np.array(main),
        prefill=np.array(prefill),
        replicas=np.array([float(d.layout.replicas) for d in deployments]),
        prefill_replicas=np.array([float(d.layout.prefill_replicas) for d in deployments]),
        prefill_groups=np.array([float((d.layout.prefill or d.layout.config).dp) for d in deployments]),
        groups=np.array([float(d.layout.config.dp) for d in deployments]),
        input_tok=np.array([d.input_tok for d in deployments]),
        output_tok=np.array([max(1.0, d.output_tok) for d in deployments]),
        users=np.array([max(1.0, d.users / d.layout.replicas) if d.users == d.users else np.nan for d in deployments]),
        rate_s=np.array([d.point.rate_s / d.layout.replicas for d in deployments]),
        room_seqs=np.array([_room_seqs(d) for d in deployments]),
        limit_s=np.array([d.limit_s for d in deployments]),
        speculative_tok=np.array([float(d.speculative_tok) for d in deployments]),
        accept_ratio=np.array([d.accept_ratio for d in deployments]),
        padded_seqs=np.array([d.padded_seqs for d in deployments]),
        stack=Stack.of(built, ranks, groups),
    )


def loads_take(loads: Loads, which: Indices) -> Loads:
    """Return some rows of loads."""
    rows = {field.name: getattr(loads, field.name)[which] for field in fields(Loads) if field.name != "stack"}
    return replace(loads, **rows)


def _room_seqs(d: Deployment) -> float:
    """Return how many sequences of the row's mean length find room; somebody measured it, so some do."""
    config = d.layout.config
    usable_byte = config.chips * d.chip.memory_byte.value * DEFAULT.memory_use_ratio
    try:
        kv_byte = memory_fit(d.chip, d.model, config).kv_byte
    except ModelDoesNotFitError:
        kv_byte = 0.0
    each_byte = d.model.kv_byte(d.input_tok + 0.5 * d.output_tok, config.kv_precision)
    copies = config.tp if d.model.attention == "mla" else max(1.0, config.tp / max(1, d.model.kv_heads))
    return max(1.0, max(kv_byte, LEAST_KV_RATIO * usable_byte) / max(1.0, each_byte * copies))


LEAST_KV_RATIO = 0.1
"""Share of the memory that is left for KV where weights seem to leave less, but somebody measured it. [-]"""


# --- parameters ------------------------------------------------------------------------------------------------------
PARAMETERS = (
    Parameter("memory_ratio", "1", "time of weights and activations over the kernels' alone", 1.0, 0.3, 0.15),
    Parameter("compute_ratio", "1", "time of matrix arithmetic over the kernels' alone", 1.0, 0.3, 0.15),
    Parameter("experts_ratio", "1", "time of routed experts over the kernels' alone", 1.0, 0.3, 0.15),
    Parameter("collectives_ratio", "1", "time of collectives over the library's alone", 0.8, 0.5, 0.25),
    Parameter("decode_attention_ratio", "1", "time of decode attention over the kernels' alone", 1.0, 0.3, 0.15),
    Parameter("prefill_attention_ratio", "1", "time of prefill attention over the kernels' alone", 1.0, 0.3, 0.15),
    Parameter("issue_s", "s", "host time to issue one kernel, beside the chip", 5e-6, 1.0, 0.4),
    Parameter("host_step_s", "s", "host work of a step that no kernel hides", 1e-3, 0.7, 0.4),
    Parameter("host_seq_s", "s", "host work of a step for each sequence", 1e-5, 1.0, 0.4),
    Parameter("request_s", "s", "work on a request before and after its prompt", 2e-2, 0.7, 0.4),
    Parameter("wave", "1", "share of the users whose prompts start together", 0.1, 1.0, 0.5),
    Parameter("mix", "1", "share of others' prompts that a decoding sequence waits for", 0.8, 0.3, 0.2),
    Parameter("decode_ratio", "1", "time of steps over what their parts say", 1.0, 0.2, 0.1),
    Parameter("prompt_ratio", "1", "time of prompts over what their parts say", 1.0, 0.2, 0.1),
    Parameter("seqs_most", "1", "sequences that the engine runs at once", 400.0, 0.5, 0.3),
    Parameter("limit_ratio", "1", "mean TPOT over the limit that its percentile keeps", 0.6, 0.3, 0.2),
    Parameter("accepted", "1", "drafted tokens accepted, over what such drafts usually have", 1.0, 0.4, 0.3),
    Parameter("tail", "1", "time after the last admission, in answers of mean length", 0.7, 0.5, 0.3),
    Parameter("queue", "1", "mean wait of a burst over that of a queue served evenly", 1.0, 0.3, 0.2),
    Parameter("host_rank_s", "s", "host work of a step for each further chip of a group", 5e-5, 1.0, 0.5),
    Parameter("request_tok_s", "s", "work on a prompt outside the chip, for each token", 2e-6, 1.0, 0.5),
    Parameter("exchanges_ratio", "1", "time of all-to-alls over the library's alone", 0.4, 1.0, 0.4),
    Parameter("full_ratio", "1", "throughput of a full queue over the steady state's", 1.0, 0.2, 0.1),
)
"""Of one row; see the module's text. Medians of all, spread of the common value, usual deviation of a group."""

INDEX: Mapping[str, int] = {parameter.name: i for i, parameter in enumerate(PARAMETERS)}


# --- steps -----------------------------------------------------------------------------------------------------------
def _weights(nodes: Floats, at: Floats) -> tuple[Indices, Floats]:
    low = np.clip(np.searchsorted(nodes, at, side="right") - 1, 0, len(nodes) - 2)
    return low, (at - nodes[low]) / (nodes[low + 1] - nodes[low])


class Steps:
    """Times of steps of rows, for their parameters: float64[P, n]."""

    def __init__(self, loads: Loads, theta: Floats, which: Indices) -> None:
        self.stack, self.theta, self.which = loads.stack, theta, which
        self.padded_seqs = loads.padded_seqs

    def linear_s(self, tok: Floats) -> Floats:
        """Parts by tokens. [s]"""
        theta, at = self.theta, np.maximum(tok, 1e-9)
        low, share = _weights(TOK_NODES, at)
        share = np.maximum(share, 0.0)
        values = self.stack.linear_s[self.which, low] * (1 - share)[:, None]
        values += self.stack.linear_s[self.which, low + 1] * share[:, None]
        return (
            theta[0] * values[:, 0]
            + theta[1] * values[:, 1]
            + theta[2] * (values[:, 2] + values[:, 3])
            + theta[3] * values[:, 4]
            + theta[INDEX["exchanges_ratio"]] * values[:, 5]
        )

    def decode_attention_s(self, seqs: Floats, context_tok: Floats) -> Floats:
        """Decode attention of sequences. [s]"""
        low, share = _weights(SEQ_NODES, np.clip(seqs, 1.0, SEQ_NODES[-1]))  # beyond, each sequence costs the same
        keep = 1 - share

        def read(values: Floats) -> Floats:
            return values[self.which, low] * keep + values[self.which, low + 1] * share

        stack = self.stack
        window_tok = np.minimum(context_tok, stack.window_tok[self.which])
        part = read(stack.decode_s) + seqs * (context_tok * read(stack.context_s) + window_tok * read(stack.window_s))
        return self.theta[4] * part * (seqs > 0)

    def prompt_attention_s(self, tok: Floats, number: Floats | float = 1.0) -> Floats:
        """Prefill attention of whole prompts of a length. [s]"""
        stack = self.stack.prefill[self.which]
        pairs = tok**2 / 2
        in_window = np.minimum(pairs, tok * self.stack.window_tok[self.which])
        return self.theta[5] * (stack[:, 0] + number * (stack[:, 1] * pairs + stack[:, 2] * in_window))

    def issued_s(self, chip_s: Floats) -> Floats:
        """What a step takes whose kernels the host issues while the chip works. [s]"""
        issue_s = self.theta[6] * self.stack.launches[self.which]
        return (chip_s**ISSUE_POWER + issue_s**ISSUE_POWER) ** (1 / ISSUE_POWER)

    def host_s(self, seqs: Floats) -> Floats:
        """Host work of a step. [s]"""
        ranks = self.stack.ranks[self.which]
        seqs_own = seqs / self.stack.groups[self.which]  # each group has a scheduler of its own
        return self.theta[7] + self.theta[8] * seqs_own + self.theta[INDEX["host_rank_s"]] * (ranks - 1)

    def decode_s(self, seqs: Floats, context_tok: Floats, drafted: Floats | float = 0.0) -> Floats:
        """D: a step in which sequences decode and nothing else happens. [s]"""
        seqs = np.maximum(seqs, self.padded_seqs)
        chip_s = self.linear_s(seqs * (1 + drafted)) + self.decode_attention_s(seqs, context_tok)
        return self.theta[12] * (self.issued_s(chip_s) + self.host_s(seqs))

    def prompt_s(self, seqs: Floats, tok: Floats, number: Floats | float, context_tok: Floats) -> Floats:
        """A: what prompts of a length add, read together, to steps in which sequences decode. [s]

        Groups with attention of their own keep step with the longest: a prompt in one costs as much as one in each.
        """
        groups = self.stack.groups[self.which]
        number = np.maximum(number, groups)
        all_tok = tok * number
        chunks = np.maximum(1.0, all_tok / (CHUNK_TOK * groups))
        decoding_s = self.decode_attention_s(seqs, context_tok)
        with_s = self.issued_s(
            self.linear_s(seqs + all_tok / chunks) + decoding_s + self.prompt_attention_s(tok, number) / chunks
        )
        without_s = self.issued_s(self.linear_s(np.maximum(seqs, 1.0)) + decoding_s)
        alone = seqs <= 0
        added_s = chunks * (with_s - np.where(alone, 0.0, without_s))
        return self.theta[13] * (added_s + np.where(alone, chunks * self.host_s(seqs), 0.0))


ISSUE_POWER = 2.0
"""How sharply the slower of host and chip decides: power of the norm of both times. [-]"""
