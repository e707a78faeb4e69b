"""Steady state: what one replica sustains for a token mix under TTFT and TPOT limits.

By hand, for a batch of B decoding sequences, mean prompt i, mean answer o, mean context x, mean pairs w = E[i^2]/2:

1. Every step decodes B tokens and, to keep the batch full, brings p = B i / o prompt tokens with B w / o pairs.
2. The step of B decodes with context B x and p prompt tokens with B w / o pairs (``StepTable``, smoothed: the tokens of
   a mean step scatter, so it meets no tile's edge) is the TPOT; B / step is the output rate, B / step / o the request
   rate.
3. Cache in use: B sequences of x + p / B tokens each, and their states.
4. A prompt of L tokens is read in chunks of q = max_batched_tok - B beside the decodes: ``T(L) = sum over chunks of
   step(B + chunk, B x) + b L^2 / 2``.
5. It waits for the running step and in the queue of prompts: service time of the mean prompt when prompts fill every
   step ``S = i / q step(B + q, B x) + b w``, load ``r = rate S``, variability ``k = (Ca^2 + Cs^2) / 2`` with
   ``Cs^2 = 2 w / i^2 - 1`` and ``Ca^2 = 1 + (min(cv^2, cap) - 1) min(1, rate / rate of the mix)`` (a random share of a
   stream is smoother than the stream). Heavy-traffic wait at percentile P: ``W = S k / (1 - r) ln(r / (1 - P))``, >= 0.
   TTFT = step + W + T(95th percentile of the prompt).

The rating is the largest B (a real number: the mean of what runs) that keeps every limit. Each side of each limit grows
with B, because steps only grow with tokens and context; so bisection finds it. The output rate grows with B too: the
step has a part that does not depend on B, and none of its parts grows faster than linearly once its bound has changed.

Beside the rating stand bounds that know no queue (:func:`sweep`, :func:`decodes_sweep`, :func:`prompts_request_s`):
what a replica would sustain if requests came when it suits it. Prompts may be spread over all steps, as in 1., or come
in full chunks, of which every o q / (B i)-th step has one: a mixture of experts then reads its weights less often. The
bound takes the better of the two.
"""

import math
from dataclasses import dataclass

import numpy as np

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, Efficiency
from accelerator.errors import AcceleratorError
from accelerator.memory import MemoryFit, memory_fit
from accelerator.operators import DeploymentConfig
from accelerator.pooling import Floats
from accelerator.requests import TokenMix
from accelerator.steps import StepTable, step_table_build

LEAST_BATCH = 0.05
"""A replica that holds its limits only below this mean batch is refused: it would idle nearly always."""


@dataclass(frozen=True)
class Slo:
    """Latency limits: time to first token and time per output token at a percentile of requests. [s], [s], [-]"""

    ttft_s: float
    tpot_s: float
    percentile: float = 0.95

    def __post_init__(self) -> None:
        if not (self.ttft_s > 0 and self.tpot_s > 0 and 0 < self.percentile < 1):
            raise AcceleratorError(f"limits are positive and the percentile lies between 0 and 1: {self}")


@dataclass(frozen=True)
class OperatingPoint:
    """One batch and what follows from it; see the module's text for every term. [s] and [1/s]"""

    batch: float
    request_s: float
    tpot_s: float
    ttft_s: float
    kv_tok: float
    step_tok: float


def operating_point(
    table: StepTable, mix: TokenMix, slo: Slo, batch: float, *, arrival_scv_max: float = DEFAULT.arrival_scv_max
) -> OperatingPoint:
    """Return rate and latencies of a replica that keeps `batch` sequences decoding; the module's text is the formula.

    TTFT is infinite where prompts would need more than every step can carry.
    """
    prompt_tok = batch * mix.input_tok / mix.output_tok
    seen_tok, step_tok = batch * mix.context_tok, batch + batch * mix.input_tok / mix.output_tok
    chunk_tok = math.floor(table.max_batched_tok - batch)
    kv_tok = seen_tok + prompt_tok
    if step_tok > table.max_batched_tok or chunk_tok < 1:
        return OperatingPoint(batch, 0.0, math.inf, math.inf, kv_tok, step_tok)
    tpot_s = table.step_s(step_tok, batch, seen_tok, batch * mix.prefill_work_tok2 / mix.output_tok)
    request_s = batch / tpot_s / mix.output_tok

    chunk_s = table.step_s(batch + chunk_tok, batch, seen_tok)
    whole, rest_tok = divmod(mix.input_p95_tok, chunk_tok)
    read_s = whole * chunk_s + table.prompt_s(mix.input_p95_tok, mix.input_p95_tok**2 / 2)
    if rest_tok:
        read_s += table.step_s(batch + rest_tok, batch, seen_tok)

    service_s = mix.input_tok / chunk_tok * chunk_s + table.prompt_s(mix.input_tok, mix.prefill_work_tok2)
    load = request_s * service_s
    if load >= 1:
        return OperatingPoint(batch, request_s, tpot_s, math.inf, kv_tok, step_tok)
    length_scv = max(0.0, 2 * mix.prefill_work_tok2 / mix.input_tok**2 - 1) if mix.input_tok else 0.0
    variability = (arrival_scv(mix, request_s, arrival_scv_max) + length_scv) / 2
    wait_s = max(0.0, service_s * variability / (1 - load) * math.log(load / (1 - slo.percentile))) if load else 0.0
    return OperatingPoint(batch, request_s, tpot_s, tpot_s + wait_s + read_s, kv_tok, step_tok)


def steady_state(
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig,
    mix: TokenMix,
    slo: Slo,
    efficiency: Efficiency,
    *,
    near: float | None = None,
    precision: float = 1e-4,
) -> tuple[OperatingPoint | None, str]:
    """Return the largest batch that keeps every limit and what stops the next; None and what stops the first.

    Parameters
    ----------
    near : float, optional
        A batch expected close to the answer; only makes the search shorter.
    precision : float
        Relative width of the batch at which the search ends. [-]
    """
    fit = memory_fit(chip, model, config, efficiency=efficiency)
    table = step_table_build(chip, model, config, efficiency=efficiency).smoothed()

    def tried(batch: float) -> tuple[OperatingPoint | None, str]:
        step_tok = batch + batch * mix.input_tok / mix.output_tok
        seen_tok = batch * mix.context_tok
        if batch * fit.sequence_byte(mix.context_tok + mix.input_tok / mix.output_tok) > fit.kv_byte:
            return None, "memory"
        if step_tok > table.max_batched_tok:
            return None, "max_batched_tok"
        if table.step_s(step_tok, batch, seen_tok, batch * mix.prefill_work_tok2 / mix.output_tok) > slo.tpot_s:
            return None, "tpot"
        point = operating_point(table, mix, slo, batch, arrival_scv_max=efficiency.arrival_scv_max)
        return point, "ttft" if point.ttft_s > slo.ttft_s else ""

    most = float(min(config.max_seqs, table.max_batched_tok - 1))
    best, binds = tried(most)
    if not binds:
        return best, "max_seqs"
    best, first = tried(LEAST_BATCH)
    if first:
        return None, first
    low, high = LEAST_BATCH, most
    guesses = [near / 1.3, near * 1.3] if near else []
    while high / low > 1 + precision:
        guess = guesses.pop() if guesses else math.sqrt(low * high)
        if not low < guess < high:
            continue
        point, reason = tried(guess)
        if reason:
            high, binds = guess, reason
        else:
            low, best = guess, point
    return best, binds


def arrival_scv(mix: TokenMix, request_s: float, arrival_scv_max: float) -> float:
    """Return the squared coefficient of variation of arrivals at a replica: a share of a stream is smoother than it.

    Parameters
    ----------
    request_s : float
        Rate of the replica. [1/s]
    arrival_scv_max : float
        Cap for the whole stream. [-]
    """
    share = min(1.0, request_s / mix.rate_request_s) if mix.rate_request_s else 1.0
    return 1 + (min(mix.iat_cv**2, arrival_scv_max) - 1) * share


@dataclass(frozen=True, eq=False)
class Sweep:
    """What a replica would do at rising batches if nobody had to wait.

    Parameters
    ----------
    batch : float64[n]
        Sequences that decode, up to what memory and the config hold. [-]
    tpot_s, request_s : float64[n]
        Time per output token; requests per second. [s], [1/s]
    room_batch : float
        Sequences that the KV memory holds. [-]
    """

    batch: Floats
    tpot_s: Floats
    request_s: Floats
    room_batch: float

    def at(self, tpot_s: float) -> tuple[float, float]:
        """Return requests per second and batch at a limit of the time per output token; 0 if one is too many."""
        if not len(self.batch) or not self.tpot_s[0] <= tpot_s:
            return 0.0, 0.0
        rising_s = np.maximum.accumulate(self.tpot_s)
        reached = np.maximum.accumulate(np.where(np.isfinite(self.tpot_s), self.request_s, 0.0))
        known = np.isfinite(rising_s)
        return (
            float(np.interp(tpot_s, rising_s[known], reached[known])),
            float(np.interp(tpot_s, rising_s[known], self.batch[known])),
        )


def batches(least: float, most: float, count: int = 64) -> Floats:
    """Return rising batches from the least to the most; none if not even the least has room."""
    return np.geomspace(least, most, count) if most > least else np.zeros(0)


def sweep(table: StepTable, fit: MemoryFit, mix: TokenMix, *, least: float = LEAST_BATCH) -> Sweep:
    """Return what a replica that reads prompts beside its decodes would do at rising batches; see the module's text.

    Parameters
    ----------
    least : float
        Smallest batch. Below 1 a step is that of a fraction of a token: a bound on what is mostly idle.
    """
    room = fit.kv_byte / fit.sequence_byte(mix.context_tok)
    batch = batches(least, min(room, table.max_seqs, table.max_batched_tok - 1.0))
    prompts, seen_tok = batch / mix.output_tok, batch * mix.context_tok
    chunk_tok = table.max_batched_tok - batch
    spread_tok = batch + prompts * mix.input_tok
    fits = spread_tok <= table.max_batched_tok
    with_prompts_s = table.step_times_s(
        np.minimum(spread_tok, table.max_batched_tok), batch, seen_tok, prompts * mix.prefill_work_tok2
    )
    alone_s = table.step_times_s(batch, batch, seen_tok, 0.0)
    full_s = table.step_times_s(batch + chunk_tok, batch, seen_tok, 0.0)
    chunks = prompts * mix.input_tok / chunk_tok
    in_chunks_s = alone_s + chunks * (full_s - alone_s) + prompts * table.prompt_s(mix.input_tok, mix.prefill_work_tok2)
    tpot_s = np.where(fits, np.minimum(with_prompts_s, in_chunks_s), np.inf)
    return Sweep(batch, tpot_s, batch / tpot_s / mix.output_tok, room)


def decodes_sweep(table: StepTable, fit: MemoryFit, mix: TokenMix) -> Sweep:
    """Return what a replica that only decodes what others have read would do at rising batches."""
    room = fit.kv_byte / fit.sequence_byte(mix.context_tok)
    batch = batches(LEAST_BATCH, min(room, table.max_seqs, table.max_batched_tok))
    tpot_s = table.step_times_s(batch, batch, batch * mix.context_tok, 0.0)
    return Sweep(batch, tpot_s, batch / tpot_s / mix.output_tok, room)


def prompts_request_s(
    table: StepTable, mix: TokenMix, slo: Slo, *, waits: bool = True, arrival_scv_max: float = DEFAULT.arrival_scv_max
) -> float:
    """Return the requests per second whose prompts a replica reads that does nothing else. [1/s]

    Parameters
    ----------
    waits : bool
        True: TTFT with the wait of step 5 holds at the percentile. False: nobody waits, a bound.
    arrival_scv_max : float
        Cap of the variability of arrivals. [-]
    """
    chunk_tok = table.max_batched_tok
    chunk_s = table.step_s(chunk_tok)
    whole, rest_tok = divmod(mix.input_p95_tok, chunk_tok)
    read_s = whole * chunk_s + table.prompt_s(mix.input_p95_tok, mix.input_p95_tok**2 / 2)
    read_s += table.step_s(rest_tok) if rest_tok else 0.0
    service_s = mix.input_tok / chunk_tok * chunk_s + table.prompt_s(mix.input_tok, mix.prefill_work_tok2)
    if read_s > slo.ttft_s:
        return 0.0
    if not waits or not service_s:
        return 1 / service_s if service_s else math.inf
    length_scv = max(0.0, 2 * mix.prefill_work_tok2 / mix.input_tok**2 - 1)
    low, high = 0.0, 1.0
    while high - low > 1e-5:
        load = (low + high) / 2
        k = (arrival_scv(mix, load / service_s, arrival_scv_max) + length_scv) / 2
        wait_s = max(0.0, service_s * k / (1 - load) * math.log(load / (1 - slo.percentile)))
        low, high = (load, high) if read_s + wait_s <= slo.ttft_s else (low, load)
    return low / service_s
