"""A peak hour on a few replicas that stand for many: replicas of a kind are alike, and each sees its share of a stream.

A *sample* is one replica, or a few that read prompts beside a few that decode, with requests of its own: lengths and
gaps by its own seed, at the rate of one replica, as variable as a random share of the whole stream is
(``steady.arrival_scv``). Samples are independent, so how they scatter says how well they stand for all. A router that
looks at queues spreads requests better than chance does: real replicas wait no longer than these.
"""

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from accelerator.candidates import candidate_of, decode_limits, limits_tried
from accelerator.chips import ChipSpec
from accelerator.errors import AcceleratorError, ConfigError
from accelerator.grid import STEP_RATIO, highest_step
from accelerator.ledger import Fate
from accelerator.operators import DeploymentConfig
from accelerator.pooling import Floats
from accelerator.pools import TRANSFER_S
from accelerator.profiles import PROFILES
from accelerator.requests import TokenMix, Workload
from accelerator.simulation import Plan, Pool, Role, Router
from accelerator.simulator import simulate
from accelerator.steady import Slo, arrival_scv, decodes_sweep
from accelerator.streams import Stream, stream_draw, stream_of
from accelerator.trials import (
    SPAN_PER_TOK_S,
    SPAN_S,
    TTFT_POWER,
    WAITING_LEAST,
    WAITING_TTFT,
    WIDEST_TOK,
    Layout,
    Question,
    limits_widest,
)

HOUR_S = 3600.0

REQUESTS_LEAST, REQUESTS_MOST = 1024, 8192
"""Fewest and most requests of a sample that are judged: an hour with fewer goes on, one with more is cut short."""

DOWN_STEPS = 300
"""Steps of 1 % below the planned rate down to which the rate is looked for that holds: to a twentieth of it."""


@dataclass(frozen=True)
class Hour:
    """Requests of a sample: those that fill the batch, those that are judged, those that keep it full behind them."""

    lead: int
    judged: int
    tail: int

    @property
    def count(self) -> int:
        """All of them."""
        return self.lead + self.judged + self.tail

    @property
    def slice(self) -> slice:
        """Those that are judged."""
        return slice(self.lead, self.lead + self.judged)


@dataclass(frozen=True, eq=False)
class Sample:
    """What became of the judged requests of one sample; what was not served, or was cut, took infinitely long.

    Parameters
    ----------
    arrival_s, ttft_s : float64[n]
        Arrival; time to first token. [s]
    tpot_s : float64[n]
        Mean time per later token; NaN where none was asked for. [s]
    output_tok : int64[n]
        Tokens asked for. [tok]
    overload : str
        Why more arrives than is served; empty if it does not.
    """

    arrival_s: Floats
    ttft_s: Floats
    tpot_s: Floats
    output_tok: NDArray[np.int64]
    overload: str

    def strain(self, slo: Slo) -> float:
        """Return how much the rate strains the promise: 1 at its limits; see ``Trial.strain``. [-]"""
        if self.overload:
            return math.inf
        ttft_s = quantile_least(self.ttft_s, slo.percentile)
        tpot_s = quantile_least(self.tpot_s[~np.isnan(self.tpot_s)], slo.percentile)
        return max((ttft_s / slo.ttft_s) ** TTFT_POWER, tpot_s / slo.tpot_s)


@dataclass(frozen=True, eq=False)
class Slice:
    """What serves by itself, out of many alike: its replicas, whose requests it serves, and their rate.

    Parameters
    ----------
    pools : sequence of Pool
        One replica, or those that read prompts and those that decode.
    question : Question
        Mix, limits, lengths and the longest context of the requests.
    request_s : float
        Rate of all its replicas together. [1/s]
    name : str
        Samples of other names, and of other seeds, are others.
    """

    pools: Sequence[Pool]
    question: Question
    request_s: float
    name: str

    @property
    def hour(self) -> Hour:
        """Requests of a sample of its peak hour."""
        return hour_of(self.question.mix, self.request_s)

    def sample(self, seed: int, number: int, *, share: float = 1.0, stops: bool = False) -> Sample:
        """Return a peak hour of one of its samples.

        Parameters
        ----------
        number : int
            Which sample.
        share : float
            Of its rate; the same requests, further apart. [-]
        stops : bool
            Give up a sample that cannot hold, as trials do: then its latencies are not known.
        """
        hour, request_s = self.hour, self.request_s * share
        workload = self._stream(hour.count, seed, number).at(request_s, self._scv(request_s))
        slo = self.question.slo
        waiting = int(min(max(WAITING_LEAST, WAITING_TTFT * request_s * slo.ttft_s), 1e6)) if stops else 1_000_000
        return sample_take(self.pools, workload, hour.slice, waiting_most=waiting)

    def first_hour(
        self, seed: int, number: int, *, hit_ratio: float, warm_s: float, requests: int, share: float = 1.0
    ) -> Sample:
        """Return the first hour of one of its samples, empty at the start, with a prefix cache that was warm elsewhere.

        Parameters
        ----------
        hit_ratio : float
            Share of the tokens of prompts that a warm cache holds: lengths of the mix are what is left to read. [-]
        warm_s : float
            Time constant at which the new cache warms. [s]
        requests : int
            At most so many of the hour's requests.
        share : float
            Of its rate. [-]
        """
        request_s = self.request_s * share
        count = int(min(max(math.ceil(request_s * HOUR_S), 2), requests))
        drawn = self._stream(count, seed, number)
        workload = drawn.at(request_s, self._scv(request_s))
        factor = prompt_factor(workload.arrival_s, hit_ratio, warm_s)
        longer = replace(drawn, input_tok=np.rint(drawn.input_tok * factor).astype(np.int64))
        longer = longer.cut(self.question.model.max_context_tok)
        workload = Workload(workload.name, workload.arrival_s, longer.input_tok, longer.output_tok)
        return sample_take(self.pools, workload, slice(None), waiting_most=1_000_000)

    def fewer(self, most: int) -> "Slice":
        """Return a slice of at most so many replicas, each loaded as here, or nearly so where they read and decode."""
        if len(self.pools) == 1 or sum(pool.replicas for pool in self.pools) <= most:
            return self
        before = [pool.replicas for pool in self.pools]
        counts = replicas_whole(before[0], before[1], most=most)
        scale = math.sqrt(math.prod(now / then for now, then in zip(counts, before, strict=True)))
        pools = [replace(pool, replicas=count) for pool, count in zip(self.pools, counts, strict=True)]
        return replace(self, pools=pools, request_s=self.request_s * scale)

    def held_ratio(self, seed: int, number: int) -> float:
        """Return the largest share of its rate at which a sample keeps the promise, up to 1, in steps of 1 %. [-]"""
        step = self.held_step(seed, number, near=DOWN_STEPS)
        return float(STEP_RATIO ** (step - DOWN_STEPS)) if step >= 0 else 0.0

    def held_step(self, seed: int, number: int, *, above: int = -1, near: int | None = None) -> int:
        """Return how many steps of 1 % above a twentieth of its rate a sample keeps the promise; see ``highest_step``.

        Parameters
        ----------
        above : int
            Returned if no step above it holds.
        near : int, optional
            Where to start.
        """
        slo = self.question.slo

        def strain(step: int) -> float:
            share = STEP_RATIO ** (step - DOWN_STEPS)
            return self.sample(seed, number, share=share, stops=True).strain(slo)

        return highest_step(strain, above=above, most=DOWN_STEPS, near=near)

    def _scv(self, request_s: float) -> float:
        return arrival_scv(self.question.mix, request_s, self.question.arrival_scv_max)

    def _stream(self, count: int, seed: int, number: int) -> Stream:
        question, own = self.question, seed_of(seed, self.name, number)
        if question.workload is not None:
            drawn = stream_of(question.workload, count, own)
        elif question.mix.name in PROFILES:
            drawn = stream_draw(question.mix.name, count, own)
        else:
            raise AcceleratorError(f"mix {question.mix.name} is no built-in profile: its workload is needed")
        return drawn.cut(question.model.max_context_tok)


def seed_of(seed: int, name: str, number: int) -> int:
    """Return the seed of a sample: other names and numbers, other requests; the same, the same."""
    return int.from_bytes(hashlib.blake2b(f"{seed}:{name}:{number}".encode(), digest_size=7).digest())


def hour_of(mix: TokenMix, request_s: float) -> Hour:
    """Return how many requests a sample of the peak hour has at a rate. [1/s]"""
    settle = max(math.ceil(request_s * max(SPAN_S, SPAN_PER_TOK_S * mix.output_tok)), 16)
    judged = min(max(math.ceil(request_s * HOUR_S), REQUESTS_LEAST), REQUESTS_MOST)
    return Hour(lead=min(settle, judged), judged=judged, tail=min(settle, judged) // 2)


def prompt_factor(after_s: Floats, hit_ratio: float, warm_s: float) -> Floats:
    """Return by how much more of a prompt is read so long after its cache was lost: 1 / (1 - h) at once, then less.

    The new cache holds ``h (1 - exp(-t / warm))`` of the tokens of prompts after t, so what is read is
    ``(1 - h (1 - exp(-t / warm))) / (1 - h)`` of what is read with a warm one. [-]

    Parameters
    ----------
    after_s : float64[n]
        Time since the flip. [s]
    hit_ratio : float
        h, below 1. [-]
    warm_s : float
        Time constant. [s]
    """
    return np.asarray((1 - hit_ratio * -np.expm1(-after_s / warm_s)) / (1 - hit_ratio), dtype=np.float64)


def sample_take(pools: Sequence[Pool], workload: Workload, judged: slice, *, waiting_most: int) -> Sample:
    """Return what replicas do with requests; the judged ones of them.

    Parameters
    ----------
    waiting_most : int
        Waiting requests at which the simulation stops.
    """
    plan = Plan(pools, router=Router.LEAST_OUTSTANDING, waiting_most=waiting_most)
    outcome = simulate(plan, workload, keep_requests=True)
    kept = outcome.kept or {}
    first_s, finish_s = kept["first_s"][judged], kept["finish_s"][judged]
    arrival_s, tok = workload.arrival_s[judged], workload.output_tok[judged]
    lost = kept["fate"][judged] != Fate.FINISHED
    tpot_s = np.where(lost, np.inf, (finish_s - first_s) / np.maximum(tok - 1, 1))
    return Sample(
        arrival_s=arrival_s,
        ttft_s=np.where(lost, np.inf, first_s - arrival_s),
        tpot_s=np.where(tok > 1, tpot_s, np.nan),
        output_tok=tok,
        overload=outcome.overload,
    )


def quantile_least(values: Floats, share: float) -> float:
    """Return the least of the values that a share of them does not exceed; 0 without values."""
    if not len(values):
        return 0.0
    at = max(math.ceil(share * len(values)) - 1, 0)
    return float(np.partition(values, at)[at])


def quantiles_weighted(values: Floats, weights: Floats, shares: Sequence[float]) -> list[float]:
    """Return the least of the values that shares of the weight do not exceed; 0 without values.

    Parameters
    ----------
    weights : float64[n]
        Of each value.
    shares : sequence of float
        0 to 1. [-]
    """
    if not len(values):
        return [0.0] * len(shares)
    order = np.argsort(values, kind="stable")
    reached = np.cumsum(weights[order])
    places = np.searchsorted(reached, np.asarray(shares) * reached[-1] * (1 - 1e-12))
    return [float(value) for value in values[order[np.minimum(places, len(order) - 1)]]]


def pools_across(
    reading: Question,
    prefill: DeploymentConfig,
    prefills: int,
    writing: Question,
    decode: DeploymentConfig,
    decodes: int,
) -> list[Pool]:
    """Return replicas that read prompts on one chip and replicas of another chip, perhaps, that decode them.

    KV caches go from host to host over the network of the slower side.

    Parameters
    ----------
    reading, writing : Question
        The same model, mix and limits on the chip of either phase.
    prefills, decodes : int
        How many replicas.
    """
    fit = reading.fit(prefill)
    link_byte_s = min(prefill.chips * _network_byte_s(reading.chip), decode.chips * _network_byte_s(writing.chip))
    (read,), (write,) = reading.pools(Layout(prefill)), writing.pools(Layout(decode))
    return [
        replace(
            read,
            name="prefill",
            role=Role.PREFILL,
            replicas=prefills,
            transfer_s=TRANSFER_S,
            transfer_s_per_tok=(fit.kv_byte_per_tok + fit.window_byte_per_tok) / link_byte_s,
        ),
        replace(write, name="decode", role=Role.DECODE, replicas=decodes),
    ]


def configs_open(question: Question, config: DeploymentConfig, host_chips: int) -> list[DeploymentConfig]:
    """Return a config with each of the limits of a step that are worth trying, where whoever rated it left them open.

    The usual limits alone, if the closed formula knows no batch at which the limits of latency hold.
    """
    try:
        candidate, _ = candidate_of(question, config, host_chips)
    except ConfigError:
        return [config]
    return [config] if candidate is None else list(limits_tried(config, candidate.batch))


def decodes_open(question: Question, config: DeploymentConfig) -> list[DeploymentConfig]:
    """Return a config of replicas that only decode with as many sequences as the limit allows, or twice, or half."""
    wide = limits_widest(config)
    _, batch = decodes_sweep(question.table(wide), question.fit(config), question.mix).at(question.slo.tpot_s)
    return list(dict.fromkeys(decode_limits(config, batch * times) for times in (1, 0.5, 2)))


def reads_wide(config: DeploymentConfig) -> DeploymentConfig:
    """Return a config of replicas that only read prompts, with the limits of a step at which they are rated."""
    return replace(config, max_batched_tok=min(8192 * config.dp, WIDEST_TOK), max_seqs=256 * config.dp)


def slice_best(slices: Sequence[Slice], seed: int) -> Slice:
    """Return what strains its promise least at its rate; where none keeps it, what keeps it at the highest."""
    if len(slices) == 1:
        return slices[0]
    strains = [one.sample(seed, 0, stops=True).strain(one.question.slo) for one in slices]
    order = sorted(range(len(slices)), key=strains.__getitem__)
    best = slices[order[0]]
    if strains[order[0]] <= 1:
        return best
    step = best.held_step(seed, 0, near=DOWN_STEPS)
    for at in order[1:]:
        found = slices[at].held_step(seed, 0, above=step)
        if found > step:
            best, step = slices[at], found
    return best


def _network_byte_s(chip: ChipSpec) -> float:
    """Return the link of a chip over which KV goes to another host. [byte/s]"""
    for name in ("scale_out_byte_s", "pcie_byte_s", "scale_up_byte_s"):
        if name in chip.given:
            return chip.given[name].value
    raise ConfigError(f"{chip.slug}: no link to another host is published")


def replicas_whole(reading: float, writing: float, *, most: int = 48, apart_ratio: float = 0.02) -> tuple[int, int]:
    """Return the fewest whole replicas that read and that decode, as many to one another as real numbers of them.

    Parameters
    ----------
    reading, writing : float
        Replicas of the plan, positive.
    most : int
        Of both together at most.
    apart_ratio : float
        How far the two proportions may lie apart; the nearest is taken where none is so close. [-]
    """
    if not (0 < reading < math.inf and 0 < writing < math.inf):
        raise ConfigError(f"prompts and answers need replicas each: {reading:g}, {writing:g}")
    best, best_off = (1, 1), math.inf
    for total in range(2, most + 1):
        reads = min(max(round(total * reading / (reading + writing)), 1), total - 1)
        off = abs(math.log(reads / (total - reads) * writing / reading))
        if off < best_off - 1e-12:
            best, best_off = (reads, total - reads), off
        if best_off <= math.log1p(apart_ratio):
            break
    return best
