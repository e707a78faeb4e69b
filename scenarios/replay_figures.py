"""From samples of a peak hour to figures: requests within the limits, latencies, what is served, and how surely."""

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from scipy.special import stdtrit

from accelerator import Slo
from accelerator.pooling import Floats
from accelerator.samples import Sample, quantile_least, quantiles_weighted

HELD, UNSURE, MISSED = "held", "within the sampling error", "missed"

SURE = 0.975
"""Upper end of the confidence interval: two-sided 95 %. [-]"""

WINDOW_S = 300.0
"""The first hour after a flip is looked at in windows of so long. [s]"""

Row = dict[str, Any]


@dataclass(frozen=True, eq=False)
class Taken:
    """Samples of a part of a service that has a share of its requests. [-]"""

    share: float
    samples: tuple[Sample, ...]


def figures_of(slo: Slo, taken: Sequence[Taken], planned_tok_s: float) -> Row:
    """Return shares of requests within the limits, with the half widths of their intervals, and latencies.

    Parameters
    ----------
    taken : sequence of Taken
        Parts of what is looked at; their shares add up to 1.
    planned_tok_s : float
        What it is meant to serve. [tok/s]
    """
    level = slo.percentile
    shares: dict[str, list[tuple[float, list[float]]]] = defaultdict(list)
    for one in taken:
        for name, of_samples in _shares(one.samples, slo).items():
            shares[name].append((one.share, of_samples))
    mean = {name: sum(w * float(np.mean(values)) for w, values in rows) for name, rows in shares.items()}
    error = {name: half_width(rows) for name, rows in shares.items()}
    latencies: Row = {}
    for name in ("ttft", "tpot"):
        values, weights = _pooled(taken, f"{name}_s")
        off = error[f"{name}_share_ratio"]
        levels = (level, max(level - off, 0.0), min(level + off, 1.0))
        found_s = quantiles_weighted(values, weights, levels)
        latencies |= {
            f"{name}{end}_s": _known(value_s) for end, value_s in zip(("", "_low", "_high"), found_s, strict=True)
        }
    limited = ("ttft_share_ratio", "tpot_share_ratio")
    verdict = UNSURE
    if all(mean[name] - error[name] >= level for name in limited):
        verdict = HELD
    elif any(mean[name] + error[name] < level for name in limited):
        verdict = MISSED
    return {
        "is_held": all(mean[name] >= level for name in limited),
        "verdict": verdict,
        "samples": sum(len(one.samples) for one in taken),
        "requests": sum(len(sample.ttft_s) for one in taken for sample in one.samples),
        **{key: mean[key] for key in ("share_ratio", *limited)},
        **{key.replace("share", "share_error"): error[key] for key in ("share_ratio", *limited)},
        **latencies,
        "within_tok_s": planned_tok_s * mean["tok_share_ratio"],
    }


def _shares(samples: Sequence[Sample], slo: Slo) -> dict[str, list[float]]:
    """Return shares of each sample: requests within a limit, within both; tokens of those within both. [-]"""
    found: dict[str, list[float]] = defaultdict(list)
    for sample in samples:
        several = ~np.isnan(sample.tpot_s)
        in_ttft, in_tpot = sample.ttft_s <= slo.ttft_s, ~several | (sample.tpot_s <= slo.tpot_s)
        in_both = in_ttft & in_tpot
        found["ttft_share_ratio"].append(float(in_ttft.mean()))
        found["tpot_share_ratio"].append(float(in_tpot[several].mean()) if several.any() else 1.0)
        found["share_ratio"].append(float(in_both.mean()))
        found["tok_share_ratio"].append(float(sample.output_tok[in_both].sum() / sample.output_tok.sum()))
    return found


def _pooled(taken: Sequence[Taken], name: str) -> tuple[Floats, Floats]:
    """Return a latency of all samples, with weights by the share that their group has of the requests."""
    values, weights = [], []
    for one in taken:
        mine = np.concatenate([getattr(sample, name) for sample in one.samples])
        mine = mine[~np.isnan(mine)]
        values.append(mine)
        weights.append(np.full(len(mine), one.share / max(len(mine), 1)))
    return np.concatenate(values), np.concatenate(weights)


def half_width(strata: Sequence[tuple[float, Sequence[float]]]) -> float:
    """Return the half width of the 95 % interval of a weighted mean of strata, by how their samples scatter. [-]"""
    variance = sum(w**2 * float(np.var(values, ddof=1)) / len(values) for w, values in strata)
    freedom = sum(len(values) - 1 for _, values in strata)
    return float(stdtrit(freedom, SURE)) * math.sqrt(variance)


def served_of(planned_tok_s: float, held: Sequence[tuple[float, float, float]]) -> Row:
    """Return tokens per second within the promise, from (share, what of it holds, half width) of the groups."""
    ratio = sum(share * holds for share, holds, _ in held)
    return {
        "served_tok_s": planned_tok_s * ratio,
        "disagreement_ratio": max(0.0, 1 - ratio),
        "disagreement_error_ratio": math.sqrt(sum((share * width) ** 2 for share, _, width in held)),
    }


def recovery_s(samples: Sequence[Sample], slo: Slo) -> float | None:
    """Return when the last window ends in which TTFT is over its limit: 0 if none is, None if the last one is. [s]"""
    arrival_s = np.concatenate([sample.arrival_s for sample in samples])
    ttft_s = np.concatenate([sample.ttft_s for sample in samples])
    window = (arrival_s // WINDOW_S).astype(np.int64)
    over = [at for at in np.unique(window) if quantile_least(ttft_s[window == at], slo.percentile) > slo.ttft_s]
    if not over:
        return 0.0
    return None if over[-1] == window.max() else float((over[-1] + 1) * WINDOW_S)


def _known(value_s: float) -> float | None:
    """Return a latency, None if it has no end. [s]"""
    return value_s if math.isfinite(value_s) else None


def tiers_of(rows: Sequence[Row]) -> Iterator[Row]:
    """Yield what each tier gets in each period, services weighted by their tokens."""
    found: dict[tuple[str, str], list[Row]] = defaultdict(list)
    for row in rows:
        found[row["period"], row["tier"]].append(row)
    for (period, tier), of_tier in found.items():
        planned_tok_s, served_tok_s, within_tok_s = (
            sum(row[name] for row in of_tier) for name in ("planned_tok_s", "served_tok_s", "within_tok_s")
        )
        request_s = sum(row["request_s"] for row in of_tier)
        inside = sum(row["request_s"] * (row.get("share_ratio") or 0.0) for row in of_tier)
        yield {
            "period": period,
            "tier": tier,
            "services": len(of_tier),
            "missed": [row["service"] for row in of_tier if row["verdict"] == MISSED],
            "demand_tok_s": sum(row["demand_tok_s"] for row in of_tier),
            "planned_tok_s": planned_tok_s,
            "served_tok_s": served_tok_s,
            "within_tok_s": within_tok_s,
            "share_ratio": inside / request_s if request_s else None,
            "disagreement_ratio": 1 - served_tok_s / planned_tok_s if planned_tok_s else 0.0,
        }
