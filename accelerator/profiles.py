"""Built-in workload profiles: a seeded generator with the published statistics of six services.

Lengths are drawn from a quantile function through the published P50, P95 and P99 (log-linear between them, a stated
minimum and maximum at the ends); the one free exponent, which bends the stretch from P50 to P95, is solved so that the
mean is the published one too. A lognormal through mean and P50 would miss the P95 of these services by up to 40 %.
Inputs and outputs are drawn independently, as the publications give no joint distribution. Gaps between arrivals are
Gamma with the published coefficient of variation, then scaled so that the mean rate is met exactly.
"""

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from functools import cache, cached_property
from types import MappingProxyType

import numpy as np
from numpy.typing import NDArray

from accelerator.errors import AcceleratorError, DataFileError, UnknownProfileError
from accelerator.facts import facts_by_item
from accelerator.requests import TokenMix, Workload

MIX_REQUESTS = 50_000
MIX_SEED = 20_230_911
TAIL_BEND = 3.0


@dataclass(frozen=True, eq=False)
class Lengths:
    """Distribution of the length of a prompt or an answer.

    Parameters
    ----------
    least_tok, most_tok : float
        Shortest and longest; draws never leave this range. [tok]
    p50_tok, p95_tok, p99_tok, mean_tok : float
        Published statistics. [tok]
    """

    least_tok: float
    p50_tok: float
    p95_tok: float
    p99_tok: float
    most_tok: float
    mean_tok: float

    def quantile_tok(self, share: NDArray[np.float64], bend: float | None = None) -> NDArray[np.float64]:
        """Return the length at each share of requests in [0, 1]. [tok]"""
        bend = self.bend if bend is None else bend
        # The body's position is bent so that the mean comes out. In the last percent lengths reach the maximum late
        # (cubic), or their squares would be twice those of the traces; the other stretches are straight in log length.
        body = 0.5 + 0.45 * (np.clip(share - 0.5, 0, 0.45) / 0.45) ** bend
        tail = 0.99 + 0.01 * (np.clip(share - 0.99, 0, 0.01) / 0.01) ** TAIL_BEND
        place = np.where(share > 0.99, tail, np.where((share > 0.5) & (share < 0.95), body, share))
        knots = np.log([self.least_tok, self.p50_tok, self.p95_tok, self.p99_tok, self.most_tok])
        return np.exp(np.interp(place, [0.0, 0.5, 0.95, 0.99, 1.0], knots))

    @cached_property
    def bend(self) -> float:
        """Exponent > 0 of the body that makes the mean the published one, by bisection. [-]"""
        share = (np.arange(40_000) + 0.5) / 40_000
        low, high = 0.02, 50.0
        for _ in range(40):
            middle = math.sqrt(low * high)
            # More bend keeps the body near P50 for longer: a smaller mean.
            low, high = (middle, high) if self.quantile_tok(share, middle).mean() > self.mean_tok else (low, middle)
        if abs(self.quantile_tok(share, low).mean() / self.mean_tok - 1) > 0.01:
            raise DataFileError(f"no length distribution has mean {self.mean_tok:g} and P50 {self.p50_tok:g}")
        return low

    def draw(self, rng: np.random.Generator, count: int) -> NDArray[np.int64]:
        """Return random whole lengths. [tok]"""
        return np.rint(self.quantile_tok(rng.random(count))).astype(np.int64)


@dataclass(frozen=True, eq=False)
class Profile:
    """Published statistics of one service.

    Parameters
    ----------
    slug, title, source : str
        Our name, what it is, and where its statistics were published.
    rate_request_s : float
        Mean arrival rate. [1/s]
    iat_cv : float
        Coefficient of variation of inter-arrival times. [-]
    peak_to_mean_ratio : float
        Busiest minute over the mean. [-]
    input, output : Lengths
        Prompt and answer.
    """

    slug: str
    title: str
    source: str
    rate_request_s: float
    iat_cv: float
    peak_to_mean_ratio: float
    input: Lengths
    output: Lengths


def _profiles_load() -> Mapping[str, Profile]:
    def lengths(rows: Mapping[str, dict[str, str]], which: str) -> Lengths:
        return Lengths(**{f"{q}_tok": float(rows[f"{which}_{q}"]["value"])
                          for q in ("least", "p50", "p95", "p99", "most", "mean")})  # fmt: skip

    return MappingProxyType({
        slug: Profile(
            slug=slug,
            title=rows["title"]["value"],
            source=rows["title"]["source"],
            rate_request_s=float(rows["rate"]["value"]),
            iat_cv=float(rows["iat_cv"]["value"]),
            peak_to_mean_ratio=float(rows["peak_to_mean"]["value"]),
            input=lengths(rows, "input"),
            output=lengths(rows, "output"),
        )
        for slug, rows in facts_by_item("profiles.csv").items()
    })  # fmt: skip


PROFILES: Mapping[str, Profile] = _profiles_load()
"""The built-in profiles by slug."""


def profile_get(name: str) -> Profile:
    """Return a profile by slug; UnknownProfileError names the close ones."""
    if name not in PROFILES:
        raise UnknownProfileError(name, PROFILES)
    return PROFILES[name]


def workload_generate(profile: str, *, requests: int, seed: int, rate_request_s: float | None = None) -> Workload:
    """Generate a workload with the statistics of a profile.

    Parameters
    ----------
    profile : str
        Slug of a profile.
    requests : int
        Number of requests, at least 2.
    seed : int
        Same seed, same workload.
    rate_request_s : float, optional
        Mean rate instead of the published one; gaps keep their coefficient of variation. [1/s]
    """
    shape = profile_get(profile)
    rate_request_s = shape.rate_request_s if rate_request_s is None else rate_request_s
    if requests < 2 or not rate_request_s > 0:
        raise AcceleratorError(f"a workload needs two requests and a positive rate: {requests}, {rate_request_s}")
    rng = np.random.default_rng(seed)
    gamma_shape = 1 / shape.iat_cv**2
    arrival_s = np.concatenate([[0.0], np.cumsum(rng.gamma(gamma_shape, 1 / gamma_shape, requests - 1))])
    if arrival_s[-1] > 0:  # bursty gaps can all underflow to zero in a very short workload
        arrival_s *= (requests - 1) / rate_request_s / arrival_s[-1]
    return Workload(
        name=profile,
        arrival_s=arrival_s,
        input_tok=shape.input.draw(rng, requests),
        output_tok=shape.output.draw(rng, requests),
    )


def workload_pieces(
    profile: str, *, requests: int, seed: int, rate_request_s: float | None = None, piece: int = 2**18
) -> Iterator[Workload]:
    """Yield a workload with the statistics of a profile piece by piece, for simulations that are longer than memory.

    Parameters
    ----------
    profile, requests, seed, rate_request_s
        As for :func:`workload_generate`; here the rate is met on average, not exactly.
    piece : int
        Requests of one piece.
    """
    shape = profile_get(profile)
    rate_request_s = shape.rate_request_s if rate_request_s is None else rate_request_s
    if requests < 1 or piece < 1 or not rate_request_s > 0:
        raise AcceleratorError(f"a workload needs a request and a positive rate: {requests}, {rate_request_s}")
    rng = np.random.default_rng(seed)
    gamma_shape = 1 / shape.iat_cv**2
    at_s = 0.0
    for first in range(0, requests, piece):
        count = min(piece, requests - first)
        arrival_s = at_s + np.cumsum(rng.gamma(gamma_shape, 1 / (gamma_shape * rate_request_s), count))
        at_s = float(arrival_s[-1])
        yield Workload(profile, arrival_s, shape.input.draw(rng, count), shape.output.draw(rng, count))


@cache
def profile_mix(profile: str) -> TokenMix:
    """Return the token mix of a profile: of a seeded workload, with the published arrival statistics put in."""
    shape = profile_get(profile)
    mix = workload_generate(profile, requests=MIX_REQUESTS, seed=MIX_SEED).token_mix()
    return replace(
        mix,
        rate_request_s=shape.rate_request_s,
        iat_cv=shape.iat_cv,
        peak_to_mean_ratio=shape.peak_to_mean_ratio,
    )
