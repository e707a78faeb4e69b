"""Exchange ratios: how many hosts of another chip one host equals for a service; prefill, decode, and the whole.

Prefill: prompt tokens per second that a host reads while it does nothing else, TTFT within its limit. Decode: output
tokens per second while it reads nothing, TPOT within its limit. Each is the best config that fits the host. The whole
service is the ratio of the ratings by simulation (``goodput``). Chips are independent, so in a band the squares of the
logarithms of both sides add up.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, replace
from typing import Any

from accelerator.architectures import ModelSpec
from accelerator.candidates import configs_that_fit, precision_beaten, precisions_ordered
from accelerator.chips import ChipSpec
from accelerator.efficiency import Efficiency
from accelerator.errors import ConfigError
from accelerator.goodput import goodput_search, question_of
from accelerator.memory import MemoryFit
from accelerator.operators import DeploymentConfig
from accelerator.rating import Rating, mix_refusal, precisions_usable
from accelerator.requests import TokenMix, Workload
from accelerator.sensitivity import band_of, drivers_list
from accelerator.steady import Slo, decodes_sweep, prompts_request_s
from accelerator.steps import StepTable
from accelerator.trials import Question, limits_widest
from accelerator.units import Band


@dataclass(frozen=True)
class Phase:
    """What a replica does alone.

    Parameters
    ----------
    limits : callable
        A config with the limits of a step at which it does so.
    tok_s : callable
        Tokens per second of a replica, by its step table, its memory and the efficiency. [tok/s]
    """

    limits: Callable[[DeploymentConfig], DeploymentConfig]
    tok_s: Callable[[Question, StepTable, MemoryFit, Efficiency], float]


@dataclass(frozen=True)
class HostRate:
    """What one host does in one phase, in its best config; 0 and the reason if it cannot.

    Parameters
    ----------
    tok_s : Band
        Prompt tokens read, or output tokens made, per second. [tok/s]
    label : str
        Config of its replicas.
    refusal : str
        Why there is no rate; empty otherwise.
    """

    tok_s: Band
    label: str
    refusal: str = ""


@dataclass(frozen=True)
class HostRates:
    """What one host of a chip does in prefill alone, in decode alone, and for the whole service."""

    chip: str
    host_chips: int
    prefill: HostRate
    decode: HostRate
    service: HostRate

    @property
    def refusal(self) -> str:
        """Why a rate is missing; empty if none is."""
        return self.prefill.refusal or self.decode.refusal or self.service.refusal


@dataclass(frozen=True)
class Exchange:
    """Hosts of another chip that one host equals; a ratio is None where one of the two cannot serve.

    Parameters
    ----------
    from_chip, to_chip, model, mix : str
        Slugs and the name of the mix.
    slo : Slo
        The limits kept.
    from_host_chips, to_host_chips : int
        Chips of a host of each.
    prefill, decode, service : Band or None
        Hosts of `to_chip` that one host of `from_chip` equals. [-]
    refusal : str
        Why a ratio is missing; empty if none is.
    """

    from_chip: str
    to_chip: str
    model: str
    mix: str
    slo: Slo
    from_host_chips: int
    to_host_chips: int
    prefill: Band | None
    decode: Band | None
    service: Band | None
    refusal: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


def exchange_ratio(
    from_chip: ChipSpec,
    to_chip: ChipSpec,
    model: ModelSpec,
    mix: TokenMix,
    slo: Slo,
    *,
    from_host_chips: int | None = None,
    to_host_chips: int | None = None,
    efficiency: Efficiency | None = None,
    precisions: Sequence[str] | None = None,
    workload: Workload | None = None,
) -> Exchange:
    """Return how many hosts of one chip a host of another equals for a model, a mix and limits.

    Parameters
    ----------
    from_chip, to_chip : ChipSpec
        What is replaced, and by what.
    model, mix, slo, efficiency, precisions, workload
        See :func:`accelerator.goodput.goodput_search`.
    from_host_chips, to_host_chips : int, optional
        Chips of a host; the chip's usual host if left out.
    """
    sides = []
    for chip, count in ((from_chip, from_host_chips), (to_chip, to_host_chips)):
        host_chips = count or chip.host_chips
        question = question_of(chip, model, mix, slo, efficiency=efficiency, workload=workload)
        rating = goodput_search(chip, model, mix, slo, host_chips=host_chips, precisions=precisions, question=question)
        prefill, decode = host_phases(question, host_chips=host_chips, precisions=precisions)
        sides.append(HostRates(chip.slug, host_chips, prefill, decode, host_service(rating, host_chips)))
    return exchange_of(sides[0], sides[1], model=model.slug, mix=mix.name, slo=slo)


def exchange_of(one: HostRates, other: HostRates, *, model: str, mix: str, slo: Slo) -> Exchange:
    """Return the ratios of what hosts of two chips do for a model, a mix and limits, by their names."""
    reasons = {side.chip: f"{side.chip}: {side.refusal}" for side in (one, other) if side.refusal}
    return Exchange(
        from_chip=one.chip,
        to_chip=other.chip,
        model=model,
        mix=mix,
        slo=slo,
        from_host_chips=one.host_chips,
        to_host_chips=other.host_chips,
        prefill=ratio_of(one.prefill, other.prefill),
        decode=ratio_of(one.decode, other.decode),
        service=ratio_of(one.service, other.service),
        refusal="; ".join(reasons.values()),
    )


def host_phases(
    question: Question, *, host_chips: int, precisions: Sequence[str] | None = None
) -> tuple[HostRate, HostRate]:
    """Return what a host does in prefill alone and in decode alone; see :func:`accelerator.goodput.goodput_search`."""
    return (
        host_rate(question, PREFILL, host_chips, precisions),
        host_rate(question, DECODE, host_chips, precisions),
    )


def host_service(rating: Rating, host_chips: int) -> HostRate:
    """Return what a host does for the whole service, by its rating."""
    if rating.refusal:
        return HostRate(Band.exact(0.0), "", rating.refusal)
    return HostRate(rating.tok_s.scaled(host_chips // rating.chips), rating.label)


def host_rate(question: Question, phase: Phase, host_chips: int, precisions: Sequence[str] | None = None) -> HostRate:
    """Return what a host does in one phase, by the config that does most.

    Parameters
    ----------
    question : Question
        Chip, model, mix, limits.
    phase : Phase
        Which.
    host_chips : int
        Chips of the host.
    precisions : sequence of str, optional
        Weight precisions allowed.
    """
    chip, model = question.chip, question.model
    reason = mix_refusal(model, question.mix)
    if reason:
        return HostRate(Band.exact(0.0), "", reason)
    usable, reasons = precisions_usable(chip, model, precisions)
    best: tuple[float, DeploymentConfig] | None = None
    better: list[str] = []
    for precision in precisions_ordered(chip, usable):
        if precision_beaten(precision, better):
            continue
        configs, why = configs_that_fit(question, precision, host_chips)
        reasons += [f"{precision}: {text}" for text in why]
        for config in configs:
            try:
                # with the sequences of the widest steps: that table is there already, and close enough to choose by
                like = replace(phase.limits(config), max_seqs=limits_widest(config).max_seqs)
                efficiency = question.efficiency_of(config)
                each_s = phase.tok_s(question, question.table(like), question.fit(config), efficiency)
            except ConfigError as error:
                reasons.append(f"{precision}: {error}")
                continue
            if each_s:
                better.append(precision)
            if each_s and (best is None or each_s * (host_chips // config.chips) > best[0]):
                best = each_s * (host_chips // config.chips), config
    if best is None:
        return HostRate(Band.exact(0.0), "", "; ".join(reasons) or "the limits cannot be kept even by one request")
    config = best[1]

    def rate(chip: ChipSpec, efficiency: Efficiency) -> float:
        table = question.table_varied(chip, phase.limits(config), efficiency)
        return phase.tok_s(question, table, question.fit_varied(chip, config, efficiency), efficiency)

    efficiency = question.efficiency_whole(config)
    each_s = rate(chip, efficiency)

    def ratio(chip: ChipSpec, efficiency: Efficiency) -> float:
        try:
            return rate(chip, efficiency) / each_s
        except ConfigError:
            return 0.0

    drivers = drivers_list(chip, model, config, efficiency, ratio)
    return HostRate(band_of(each_s * (host_chips // config.chips), drivers), config.label)


def _prefill_tok_s(question: Question, table: StepTable, _: MemoryFit, efficiency: Efficiency) -> float:
    """Prompt tokens that a replica reads per second, TTFT with its wait within the limit, no decodes."""
    mix = question.mix
    return mix.input_tok * prompts_request_s(table, mix, question.slo, arrival_scv_max=efficiency.arrival_scv_max)


def _decode_tok_s(question: Question, table: StepTable, fit: MemoryFit, _: Efficiency) -> float:
    """Output tokens that a replica makes per second, TPOT within the limit, no prompts."""
    return question.mix.output_tok * decodes_sweep(table, fit, question.mix).at(question.slo.tpot_s)[0]


PREFILL, DECODE = Phase(lambda config: config, _prefill_tok_s), Phase(limits_widest, _decode_tok_s)


def ratio_of(one: HostRate, other: HostRate) -> Band | None:
    """Return one rate over another, None if either is a refusal: squares of the logarithms of both bands add up."""
    if one.refusal or other.refusal:
        return None
    above, below = one.tok_s, other.tok_s
    ratio = above.p50 / below.p50
    down = math.hypot(math.log(above.p50 / above.p10), math.log(below.p90 / below.p50))
    up = math.hypot(math.log(above.p90 / above.p50), math.log(below.p50 / below.p10))
    return Band(ratio * math.exp(-down), ratio, ratio * math.exp(up))
