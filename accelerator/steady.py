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

"""

import math
from dataclasses import dataclass

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, Efficiency
from accelerator.errors import AcceleratorError
from accelerator.memory import memory_fit
from accelerator.operators import DeploymentConfig
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
    share = min(1.0, request_s / mix.rate_request_s) if mix.rate_request_s else 1.0
    arrival_scv = 1 + (min(mix.iat_cv**2, arrival_scv_max) - 1) * share
    length_scv = max(0.0, 2 * mix.prefill_work_tok2 / mix.input_tok**2 - 1) if mix.input_tok else 0.0
    variability = (arrival_scv + length_scv) / 2
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
