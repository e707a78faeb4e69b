"""What a rating chooses from: configs within a host, prefill and decode apart, with bounds that know no queue."""

import math
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.errors import ConfigError
from accelerator.operators import DeploymentConfig
from accelerator.rating import TP_SIZES, fits_surely, limits_text, precisions_usable
from accelerator.steady import Sweep, decodes_sweep, prompts_request_s, sweep
from accelerator.trials import WIDEST_TOK, Layout, Question, limits_widest
from accelerator.units import PRECISION_BYTE

BATCHED_TOK = (2048, 512, 8192, 1024, 256)
"""Tokens of a step that are tried, per group of data-parallel attention. [tok]"""

MAX_SEQS = (16, 32, 64, 128, 256, 512, 1024)
"""Running sequences that are tried, per group: those between once and twice what the bound runs."""

BOUND_SLACK = 1.1
"""Bounds are read from means and from straight lines between tiles: so much above them is still tried. [-]"""


def configs_within(model: ModelSpec, precision: str, host_chips: int, stages: int = 1) -> Iterator[DeploymentConfig]:
    """Yield the ways to spread a model over up to a host: tensor parallel, or data-parallel with whole experts."""
    for size in TP_SIZES:
        if size * stages > host_chips or stages > model.layers:
            return
        if model.heads % size == 0 and (
            model.attention == "mla" or not model.kv_heads or not model.kv_heads % size or not size % model.kv_heads
        ):
            yield DeploymentConfig(precision, tp=size, pp=stages)
        if size > 1 and model.experts and model.experts % size == 0:
            yield DeploymentConfig(precision, dp=size, ep=size, pp=stages)


@dataclass(frozen=True)
class Candidate:
    """A layout with the rate per chip that it cannot exceed, and what it would run at it.

    Parameters
    ----------
    layout : Layout
        Prefill and decode apart, or a replica of a config whose limits of a step are still open.
    request_s : float
        Bound. [1/s]
    batch : float
        Sequences that one replica decodes at it. [-]
    swept : Sweep
        What that replica would do at rising batches.
    chips : float
        Chips that count as the layout's own.
    read_request_s : float
        Requests whose prompts all prefill replicas together read; infinite without such. [1/s]
    """

    layout: Layout
    request_s: float
    batch: float
    swept: Sweep
    chips: float
    read_request_s: float = math.inf

    def slowed(self, factor: float, tpot_s: float) -> "Candidate":
        """Return the candidate where every step takes so many times as long. [-], [s]"""
        decode_s, batch = self.swept.at(tpot_s / factor)
        bound_s = min(self.layout.replicas * decode_s, self.read_request_s) / factor
        config = self.layout.config
        layout = replace(self.layout, config=decode_limits(config, batch)) if self.layout.prefill else self.layout
        return replace(self, layout=layout, request_s=BOUND_SLACK * bound_s / self.chips, batch=batch)


def limits_tried(config: DeploymentConfig, batch: float) -> Iterator[DeploymentConfig]:
    """Yield a config with each of the limits of a step that are tried for a batch.

    Parameters
    ----------
    batch : float
        Sequences that the bound runs: fewer must fit, and much more changes nothing.
    """
    each = batch / config.dp
    seqs = [most for most in MAX_SEQS if each <= most <= 2 * each] or [
        MAX_SEQS[0] if each < MAX_SEQS[0] else MAX_SEQS[-1]
    ]
    for batched_tok in dict.fromkeys(min(tok * config.dp, WIDEST_TOK) for tok in BATCHED_TOK):
        for most in reversed(seqs):
            if most * config.dp <= batched_tok:
                yield replace(config, max_batched_tok=batched_tok, max_seqs=most * config.dp)


def decode_limits(config: DeploymentConfig, batch: float) -> DeploymentConfig:
    """Return a config with the limits of a step of a replica that only decodes: as many sequences as the bound runs."""
    seqs = next((most for most in MAX_SEQS if most * config.dp >= batch), MAX_SEQS[-1]) * config.dp
    return replace(config, max_batched_tok=max(seqs, 2048), max_seqs=seqs)


def candidate_of(question: Question, config: DeploymentConfig, host_chips: int) -> tuple[Candidate | None, str]:
    """Return a config with its bound, or why it is none.

    Raises
    ------
    ConfigError
        If the config is impossible.
    """
    mix, slo = question.drawn_mix, question.slo
    for wide in (limits_widest(config), config):
        try:
            fit = question.fit(wide)
        except ConfigError:
            if wide is config:
                raise
            continue
        break
    table, layout = question.table(wide), Layout(config)
    swept = sweep(table, fit, mix)
    request_s, batch = swept.at(slo.tpot_s)
    if not request_s:
        return None, "tpot" if len(swept.batch) else "memory"
    if not prompts_request_s(table, mix, slo, waits=False):
        return None, "ttft"
    chips = layout.host_share_chips(host_chips)
    return Candidate(layout, BOUND_SLACK * request_s / chips, batch, swept, chips), ""


def apart_candidates(question: Question, configs: Sequence[DeploymentConfig], host_chips: int) -> list[Candidate]:
    """Return layouts with prefill and decode apart, both in one of the configs, that fill a host; best bound first."""
    mix, slo = question.drawn_mix, question.slo
    found = []
    for config in configs:
        most = host_chips // config.chips
        if most < 2:
            continue
        read = replace(config, max_batched_tok=min(8192 * config.dp, WIDEST_TOK), max_seqs=256 * config.dp)
        try:
            wide = limits_widest(config)
            read_s = prompts_request_s(question.table(wide), mix, slo, waits=False)
            swept = decodes_sweep(question.table(wide), question.fit(read), mix)
            decode_s, batch = swept.at(slo.tpot_s)
        except ConfigError:
            continue
        if not (read_s and decode_s):
            continue
        decode = decode_limits(config, batch)
        for together in (count for count in range(2, most + 1) if host_chips % (count * config.chips) == 0):
            for prefills in range(1, together):
                if math.gcd(prefills, together) == 1:
                    layout = Layout(decode, together - prefills, read, prefills)
                    all_s = prefills * read_s
                    bound_s = min(all_s, layout.replicas * decode_s) / layout.chips
                    found.append(Candidate(layout, BOUND_SLACK * bound_s, batch, swept, layout.chips, all_s))
    return sorted(found, key=lambda candidate: -candidate.request_s)


def precisions_ordered(chip: ChipSpec, usable: Iterable[str]) -> list[str]:
    """Return precisions, the one in which the chip computes most first."""
    return sorted(usable, key=lambda precision: (-chip.peak_flop_s[precision].value, PRECISION_BYTE[precision]))


def precision_beaten(precision: str, better: Iterable[str]) -> bool:
    """Return whether one of those before it can do all that a precision can: it computes no faster, weighs no less."""
    return any(PRECISION_BYTE[precision] >= PRECISION_BYTE[other] for other in better)


def candidates_list(
    question: Question, precisions: Sequence[str] | None, host_chips: int
) -> tuple[list[Candidate], list[str]]:
    """Return the configs that could keep the limits, best bound first, and why others could not.

    Those that still fit when memory turns out at its P10 come alone, if there are any.
    """
    chip, model = question.chip, question.model
    usable, reasons = precisions_usable(chip, model, precisions)
    found: list[Candidate] = []
    better: list[str] = []
    for precision in precisions_ordered(chip, usable):
        if precision_beaten(precision, better):
            continue
        configs, why = configs_that_fit(question, precision, host_chips)
        some, more = candidates_of(question, configs, host_chips)
        found += some
        if some:
            better.append(precision)
        elif why or more:
            reasons.append(f"{precision}: {(more or why)[-1]}")
    sure = [candidate for candidate in found if fits_surely(chip, model, candidate.layout.config)]
    return sorted(sure or found, key=lambda candidate: -candidate.request_s), reasons


def configs_that_fit(question: Question, precision: str, host_chips: int) -> tuple[list[DeploymentConfig], list[str]]:
    """Return the configs of a precision that memory holds, or why none; two pipeline stages only if one does not do."""
    key = (precision, host_chips)
    if key not in question.fitting:
        question.fitting[key] = _configs_that_fit(question, precision, host_chips)
    return question.fitting[key]


def _configs_that_fit(question: Question, precision: str, host_chips: int) -> tuple[list[DeploymentConfig], list[str]]:
    reasons: list[str] = []
    for stages in (1, 2):
        fit = []
        for config in configs_within(question.model, precision, host_chips, stages):
            try:
                question.fit(config)
            except ConfigError as error:
                reasons.append(str(error))
            else:
                fit.append(config)
        if fit:
            return fit, []
        reasons = reasons[-1:] if stages == 1 else reasons[:1]
    return [], reasons


def candidates_of(
    question: Question, configs: Iterable[DeploymentConfig], host_chips: int
) -> tuple[list[Candidate], list[str]]:
    """Return those of some configs that could keep the limits, best bound first, and why others could not."""
    found, reasons = [], []
    for config in configs:
        try:
            candidate, binds = candidate_of(question, config, host_chips)
        except ConfigError as error:
            reasons.append(str(error))
            continue
        if candidate is None:
            reasons.append(f"{config.label}: {limits_text(binds, question.slo)}")
        else:
            found.append(candidate)
    return sorted(found, key=lambda candidate: -candidate.request_s), reasons
