"""The requests of a mix, drawn once and scaled to any rate: common random numbers for all trials of a rating."""

import math
from dataclasses import dataclass, replace
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from accelerator.pooling import Floats
from accelerator.profiles import PROFILES
from accelerator.requests import Workload

STREAM_SEED = 20_231_116


@dataclass(frozen=True, eq=False)
class Stream:
    """Requests of a mix, drawn once and scaled to any rate: what all trials have in common.

    Lengths are evenly spread over their distribution, so that means are the mix's to rounding. Gaps are Weibull with
    the variability of arrivals at the rate: exponential at 1.

    Parameters
    ----------
    name : str
        Of the mix.
    input_tok, output_tok : int64[n]
        Lengths. [tok]
    log_draws : float64[n]
        Logarithms of unit exponential draws.
    """

    name: str
    input_tok: NDArray[np.int64]
    output_tok: NDArray[np.int64]
    log_draws: Floats

    def at(self, request_s: float, scv: float) -> Workload:
        """Return the workload at a rate and a squared coefficient of variation of its gaps. [1/s], [-]"""
        arrival_s = np.cumsum(np.exp(self.log_draws / _weibull_shape(round(scv, 3))))
        arrival_s -= arrival_s[0]
        arrival_s *= (len(arrival_s) - 1) / request_s / arrival_s[-1]
        return Workload(self.name, arrival_s, self.input_tok, self.output_tok)

    @property
    def digest(self) -> str:
        """SHA-256 over lengths and draws."""
        return self.at(1.0, 1.0).digest

    def cut(self, context_tok: int) -> "Stream":
        """Return the stream for a context of so many tokens: longer prompts are shortened, longer answers end there."""
        if (self.input_tok + self.output_tok).max() <= context_tok:
            return self
        input_tok = np.minimum(self.input_tok, context_tok - 1)
        return replace(self, input_tok=input_tok, output_tok=np.minimum(self.output_tok, context_tok - input_tok))


@lru_cache(maxsize=4096)
def _weibull_shape(scv: float) -> float:
    """Return the shape of the Weibull distribution with a squared coefficient of variation."""
    low, high = 0.15, 20.0
    for _ in range(50):
        shape = math.sqrt(low * high)
        found = math.exp(math.lgamma(1 + 2 / shape) - 2 * math.lgamma(1 + 1 / shape)) - 1
        low, high = (shape, high) if found > scv else (low, shape)
    return low


@lru_cache(maxsize=64)
def stream_draw(profile: str, count: int, seed: int = STREAM_SEED) -> Stream:
    """Return so many requests of a built-in profile; those of another seed are others of the same mix."""
    shape, rng = PROFILES[profile], np.random.default_rng(seed)
    share = (np.arange(count) + 0.5) / count
    draws = rng.exponential(size=count)
    input_tok, output_tok = (
        np.rint(lengths.quantile_tok(rng.permutation(share))).astype(np.int64)
        for lengths in (shape.input, shape.output)
    )
    return Stream(profile, input_tok, output_tok, np.log(draws))


def stream_of(workload: Workload, count: int, seed: int = STREAM_SEED) -> Stream:
    """Return so many requests with the lengths of a workload, drawn with their prompts and answers together."""
    rng = np.random.default_rng(seed)
    draws = rng.exponential(size=count)
    taken = rng.permutation(np.arange(count) % len(workload))
    return Stream(workload.name, workload.input_tok[taken], workload.output_tok[taken], np.log(draws))
