"""What a simulation counts: the arrays that both twins of the simulator fill, and how latencies are binned.

A latency goes into a bin by the bits of its floating-point number: 128 bins to an octave from 2^-20 s (1 us) to 2^20 s
(12 days), so a quantile read from a histogram is off by less than 1/128 of itself. Bin 0 holds whatever is shorter,
the last one whatever is longer. Histograms add up, so parts of a simulation merge without loss.
"""

from dataclasses import dataclass, fields
from enum import IntEnum
from typing import Any

import numpy as np
from numpy.typing import NDArray

BINS_PER_OCTAVE_BITS = 7
LEAST_EXPONENT, OCTAVES = -20, 40
BINS = OCTAVES << BINS_PER_OCTAVE_BITS
CLIENT_BITS = 3
"""A tenant's histogram has 2^3 times fewer bins: 16 to an octave."""
CLIENT_BINS = BINS >> CLIENT_BITS

SAMPLES = 512
"""Most samples of a timeline; when they are full, every other one is dropped and the interval doubles."""


class Latency(IntEnum):
    """Latencies that have a histogram."""

    TTFT = 0
    TPOT = 1
    ITL = 2
    E2E = 3
    QUEUE = 4


class Count(IntEnum):
    """Whole numbers counted per replica; those from PEAK_BLOCKS on are maxima."""

    ROUTED = 0
    FINISHED = 1
    PREFILL_TOK = 2
    OUTPUT_TOK = 3
    STEPS = 4
    PREEMPTIONS = 5
    RECOMPUTED_TOK = 6
    LOOKED_UP_TOK = 7
    HIT_TOK = 8
    FAILED_OVER = 9
    TRANSFERS = 10
    PEAK_BLOCKS = 11
    PEAK_RUNNING = 12
    PEAK_WAITING = 13


class Amount(IntEnum):
    """Amounts added up per replica: seconds, sequence-seconds, token-seconds."""

    BUSY_S = 0
    DECODE_SEQ_S = 1
    PROMPT_SEQ_S = 2
    KV_TOK_S = 3
    ACTIVE_S = 4  # time at full power above idle that draws as much as the steps did
    ON_S = 5
    LOST_S = 6
    TRANSFER_S = 7


class Fate(IntEnum):
    """What became of a request."""

    UNFINISHED = 0
    FINISHED = 1
    TRUNCATED = 2  # finished with fewer tokens than asked for
    NO_PROMPT = 3  # the rest: refused on arrival
    NO_OUTPUT = 4
    OVER_CONTEXT = 5
    OVER_MEMORY = 6


class Sampled(IntEnum):
    """What a timeline samples per pool; the last two are counted from the start."""

    RUNNING = 0
    WAITING = 1
    KV_BLOCKS = 2
    UP = 3
    OUTPUT_TOK = 4
    FINISHED = 5


class Time(IntEnum):
    """First and last arrival, end; interval and samples of the timeline; waiting when half and when all had arrived."""

    BEGIN_S = 0
    END_S = 1
    INTERVAL_S = 2
    SAMPLES = 3
    WAITING_AT_LAST_ARRIVAL = 4
    WAITING_AT_HALF = 5
    LAST_ARRIVAL_S = 6


@dataclass(eq=False)
class Ledger:
    """Arrays of one simulation. Axes: replicas r, pools p, SLOs s, tenants c, bins b, timeline samples t.

    Parameters
    ----------
    histogram : int64[p, latencies, b]
        Samples per bin.
    latency_sum_s, latency_max_s : float64[r, latencies]
        Sums and maxima of the same samples. [s]
    count : int64[r, counts]
    amount : float64[r, amounts]
    fate : int64[fates]
        Requests by what became of them; unfinished ones are counted at the end.
    arrived : int64[3]
        Requests, prompt tokens, output tokens asked for. [-], [tok], [tok]
    good : int64[s]
        Requests that met each SLO.
    client_count : int64[c, 3 + s]
        Finished requests, their prompt and output tokens, and those that met each SLO.
    client_histogram : int64[c, 3, client bins]
        TTFT, TPOT, E2E.
    timeline : float64[t, p, sampled]
    times : float64[times]
        See Time.
    """

    histogram: NDArray[np.int64]
    latency_sum_s: NDArray[np.float64]
    latency_max_s: NDArray[np.float64]
    count: NDArray[np.int64]
    amount: NDArray[np.float64]
    fate: NDArray[np.int64]
    arrived: NDArray[np.int64]
    good: NDArray[np.int64]
    client_count: NDArray[np.int64]
    client_histogram: NDArray[np.int64]
    timeline: NDArray[np.float64]
    times: NDArray[np.float64]

    @classmethod
    def empty(cls, *, replicas: int, pools: int, slos: int, clients: int) -> "Ledger":
        """Return a ledger of zeros."""
        return cls(
            histogram=np.zeros((pools, len(Latency), BINS), dtype=np.int64),
            latency_sum_s=np.zeros((replicas, len(Latency))),
            latency_max_s=np.zeros((replicas, len(Latency))),
            count=np.zeros((replicas, len(Count)), dtype=np.int64),
            amount=np.zeros((replicas, len(Amount))),
            fate=np.zeros(len(Fate), dtype=np.int64),
            arrived=np.zeros(3, dtype=np.int64),
            good=np.zeros(slos, dtype=np.int64),
            client_count=np.zeros((clients, 3 + slos), dtype=np.int64),
            client_histogram=np.zeros((clients, 3, CLIENT_BINS), dtype=np.int64),
            timeline=np.zeros((SAMPLES, pools, len(Sampled))),
            times=np.zeros(len(Time)),
        )

    def columns(self) -> dict[str, NDArray[Any]]:
        """Return the arrays by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


def bin_edges_s(bits: int = 0) -> NDArray[np.float64]:
    """Return the lower edges of all bins and the upper edge of the last; the first is 0. [s]

    Parameters
    ----------
    bits : int
        0 for the fine bins, CLIENT_BITS for those of tenants.
    """
    per_octave = 1 << (BINS_PER_OCTAVE_BITS - bits)
    octave, part = np.divmod(np.arange(OCTAVES * per_octave + 1), per_octave)
    edges_s = np.ldexp(1 + part / per_octave, LEAST_EXPONENT + octave)
    edges_s[0] = 0.0
    return edges_s


def quantiles_s(
    histograms: NDArray[np.int64], levels: NDArray[np.float64], max_s: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return quantiles of histograms: the least value that a share of samples does not exceed; NaN without samples. [s]

    Inside a bin samples are taken as evenly spread, so the error is below the bin's width, 1/128 of the value (1/16 for
    tenants).

    Parameters
    ----------
    histograms : int64[n, BINS] or int64[n, CLIENT_BINS]
        Samples per bin.
    levels : float64[m]
        Shares, 0 to 1. [-]
    max_s : float64[n]
        Largest sample of each; no quantile is beyond it. [s]

    Returns
    -------
    float64[n, m]
    """
    edges_s = _EDGES_S[histograms.shape[1]]
    used = np.bitwise_or.reduce(histograms).nonzero()[0]
    if not len(used):
        return np.full((len(histograms), len(levels)), np.nan)
    counts = histograms.take(used, axis=1)
    sums = counts.cumsum(axis=1)
    target = levels * sums[:, -1:]
    at = np.array([row.searchsorted(wanted) for row, wanted in zip(sums, target, strict=True)])
    place = at + np.arange(len(counts))[:, None] * len(used)
    inside, reached = counts.ravel()[place], sums.ravel()[place]
    low_s, high_s = edges_s[used[at]], edges_s[used[at] + 1]
    with np.errstate(invalid="ignore", divide="ignore"):
        quantiles = high_s - (reached - target) / inside * (high_s - low_s)
    return np.minimum(quantiles, max_s[:, None])


_EDGES_S = {BINS: bin_edges_s(), CLIENT_BINS: bin_edges_s(CLIENT_BITS)}
