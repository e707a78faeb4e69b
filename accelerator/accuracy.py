"""How wrong predictions are: whole groups of rows held out, predicted, and compared.

Four schemes, from easy to hard: rows of deployments whose others were seen (grouped so that reruns of one point stay
together), whole (chip, model) pairs, whole chips, and chips together with every row of their engine. For pairs and
chips also what one and three measured anchor points are worth. Bands are widened, by basis and class of metric, until
P10 to P90 hold 80 % of held-out rows; the coverage that is reported was measured with widths from the other folds.
"""

from collections.abc import Iterable, Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelerator.anchors import anchors_pick
from accelerator.pooling import Floats
from accelerator.serving_calibration import (
    CHIP,
    CORE,
    PAIR,
    SHEET,
    STRANGE,
    PointRows,
    ServingCalibration,
    calibration_fit,
    metric_class,
)
from accelerator.units import Z90

SCHEMES: Mapping[str, str] = {
    "points": "new points of seen pairs",
    "pairs": "whole (chip, model) pairs",
    "chips": "whole chips, engine known elsewhere",
    "chips and engines": "chip and engine both unseen",
}
"""What is held out, in words."""

FOLDS: Mapping[str, int] = {"points": 5, "pairs": 10, "chips": 10}

LEAST_ROWS = 10
"""A chip with fewer rows is listed, not counted among chips."""

ORDERED_GAP = 0.15
"""Two rows whose measured values differ by less are not counted as ordered or not. [-]"""

GROUPS_SEED = 20251125
"""Of the shuffle that deals groups to folds."""


@dataclass(frozen=True, eq=False)
class Held:
    """Held-out rows of one scheme.

    Parameters
    ----------
    at : int64[n]
        Rows.
    fold : int64[n]
        Fold of each.
    error, deviation : float64[n]
        Predicted over measured, and standard deviation before widening. [log]
    anchored : float64[n]
        Error after anchor points; NaN for the anchors themselves and where there is none. [log]
    """

    at: NDArray[np.int64]
    fold: NDArray[np.int64]
    error: Floats
    deviation: Floats
    anchored: Floats


@dataclass(frozen=True)
class _Job:
    scheme: str
    fold: int
    train: tuple[int, ...]
    test: tuple[int, ...]


def rerun_groups(rows: PointRows) -> list[str]:
    """Return what must stay together: reruns have the same chip, chips, model, engine, lengths and concurrency."""
    return [
        f"{p.chip}|{p.chips}|{p.model}|{p.engine}|{p.input_tok}|{p.output_tok}|{p.concurrency}"
        for p in (d.point for d in rows.deployments)
    ]


def folds_deal(groups: Sequence[str], folds: int) -> NDArray[np.int64]:
    """Return the fold of each row; groups are dealt in a fixed random order."""
    names = sorted(set(groups))
    order = np.random.default_rng(GROUPS_SEED).permutation(len(names))
    fold = {names[i]: k % folds for k, i in enumerate(order)}
    return np.array([fold[group] for group in groups], dtype=np.int64)


def jobs_list(rows: PointRows) -> list[_Job]:
    """Return every fit of the cross-validation."""
    count = len(rows.deployments)
    every = np.arange(count)
    jobs = []
    keys = {
        "points": rerun_groups(rows),
        "pairs": [groups["pair"] for groups in rows.groups],
        "chips": [groups["chip"] for groups in rows.groups],
    }
    for scheme, folds in FOLDS.items():
        fold = folds_deal(keys[scheme], folds)
        jobs += [_job(scheme, k, every[fold != k], every[fold == k]) for k in range(folds) if (fold == k).any()]
    chip, engine = np.array(keys["chips"]), np.array([groups["engine"] for groups in rows.groups])
    k = 0
    for name in np.unique(engine):
        on = np.unique(chip[engine == name])
        for half in (on[::2], on[1::2]):
            test = (engine == name) & np.isin(chip, half)
            train = (engine != name) & ~np.isin(chip, half)
            if test.any() and train.sum() > count / 10:
                jobs.append(_job("chips and engines", k, every[train], every[test]))
                k += 1
    return jobs


def _job(scheme: str, fold: int, train: NDArray[np.int64], test: NDArray[np.int64]) -> _Job:
    return _Job(scheme, fold, tuple(train.tolist()), tuple(test.tolist()))


_SHARED: list[tuple[PointRows, ServingCalibration]] = []

HELD_STEPS = 8
"""Gauss-Newton steps of a fit to part of the rows, begun at the common values of the fit to all. [-]"""


def _start(rows: PointRows, fit: ServingCalibration) -> None:
    _SHARED[:] = [(rows, fit)]


def _run(job: _Job) -> tuple[_Job, Floats, Floats, Floats]:
    rows, whole = _SHARED[0]
    fit = calibration_fit(rows.take(job.train), fitted_on="", like=whole, steps=HELD_STEPS)
    test = rows.take(job.test)
    log_value, deviation = fit.spread(test)
    anchored = np.full(len(job.test), np.nan)
    if job.scheme in {"pairs", "chips"}:
        anchored = _anchored(fit, test, "pair" if job.scheme == "pairs" else "chip", 1 if job.scheme == "pairs" else 3)
    return job, log_value - test.observed, deviation, anchored


def _anchored(fit: ServingCalibration, test: PointRows, level: str, anchors: int) -> Floats:
    """Return the errors of each member's other rows after so many of its rows were given."""
    error = np.full(len(test.deployments), np.nan)
    names = np.array([groups[level] for groups in test.groups])
    core = np.array([metric_class(d) in CORE for d in test.deployments])
    config = np.array([d.point.config_id or d.point.point_id for d in test.deployments])
    observed = test.observed
    for name in np.unique(names):
        own = np.flatnonzero(names == name)
        usable = own[core[own]]
        if len(usable) <= anchors:
            continue
        given = usable[anchors_pick(fit, test.take(usable), anchors)[0]]
        rest = own[~np.isin(config[own], config[given])]
        if not len(rest):
            continue
        after = fit.updated(test.take(given), fitted_on="")
        left = test.take(rest)
        error[rest] = left.log_values(after.effects.thetas(after.members(left.groups))) - observed[rest]
    return error


def cross_validate(
    rows: PointRows, whole: ServingCalibration, *, workers: int = 2, schemes: Iterable[str] = tuple(SCHEMES)
) -> dict[str, Held]:
    """Return what was held out, by scheme. The number of processes changes nothing but the time.

    Parameters
    ----------
    whole : ServingCalibration
        Fit to all rows: its scatters of groups are used where rows are held out. Their effects are not.
    """
    jobs = [job for job in jobs_list(rows) if job.scheme in set(schemes)]
    found: dict[str, list[tuple[_Job, Floats, Floats, Floats]]] = {}
    if workers > 1:
        with ProcessPoolExecutor(workers, initializer=_start, initargs=(rows, whole)) as pool:
            results = list(pool.map(_run, jobs))
    else:
        _start(rows, whole)
        results = [_run(job) for job in jobs]
    for result in results:
        found.setdefault(result[0].scheme, []).append(result)
    held = {}
    for scheme, parts in found.items():
        held[scheme] = Held(
            at=np.array([i for job, *_ in parts for i in job.test], dtype=np.int64),
            fold=np.array([job.fold for job, *_ in parts for _ in job.test], dtype=np.int64),
            error=np.concatenate([part[1] for part in parts]),
            deviation=np.concatenate([part[2] for part in parts]),
            anchored=np.concatenate([part[3] for part in parts]),
        )
    return held


# --- figures ---------------------------------------------------------------------------------------------------------
BASIS_OF: Mapping[str, str] = {"points": PAIR, "pairs": CHIP, "chips": SHEET, "chips and engines": SHEET}
WIDENED: Mapping[str, str] = {**BASIS_OF, "chips and engines": STRANGE}
"""Whose bands are widened by what a scheme held out."""

CLASS_ROWS = 25
"""A class with fewer held-out rows is widened as all classes of its basis are."""


def seen_pairs(rows: PointRows, held: Held) -> NDArray[np.bool_]:
    """Return which held-out points belong to a pair that other folds still show."""
    pair = np.array([groups["pair"] for groups in rows.groups])
    folds = {name: len(set(held.fold[pair[held.at] == name].tolist())) for name in np.unique(pair)}
    return np.array([folds[pair[i]] > 1 for i in held.at])


def widths_of(rows: PointRows, held: Mapping[str, Held], *, skip: int | None = None) -> dict[str, float]:
    """Return what deviations are multiplied by, by basis and class; ``skip`` leaves a fold out."""
    widths = {}
    for scheme, part in held.items():
        use = part.fold != skip if skip is not None else np.ones(len(part.at), dtype=bool)
        ratio = np.abs(part.error) / (Z90 * part.deviation)
        classes = np.array([metric_class(rows.deployments[i]) for i in part.at])
        usual = float(np.quantile(ratio[use], 0.8)) if use.any() else 1.0
        for name in sorted(set(classes)):
            of = use & (classes == name)
            enough = of.sum() >= CLASS_ROWS
            widths[f"{WIDENED[scheme]}|{name}"] = float(np.quantile(ratio[of], 0.8)) if enough else usual
    return widths


def coverage_of(rows: PointRows, held: Mapping[str, Held], scheme: str) -> tuple[float, float]:
    """Return the share of held-out rows inside P10 to P90, and the median of P90 over P50; widths of other folds."""
    part = held[scheme]
    inside, spread = np.zeros(len(part.at), dtype=bool), np.zeros(len(part.at))
    for fold in np.unique(part.fold):
        widths = widths_of(rows, {scheme: part}, skip=int(fold))
        of = np.flatnonzero(part.fold == fold)
        width = np.array([
            widths.get(f"{WIDENED[scheme]}|{metric_class(rows.deployments[i])}", 1.0) for i in part.at[of]
        ])  # fmt: skip
        half = Z90 * width * part.deviation[of]
        inside[of] = np.abs(part.error[of]) <= half
        spread[of] = np.exp(half)
    return float(inside.mean()), float(np.median(spread))


def median_error(error: Floats) -> float:
    """Return the median of |predicted / measured - 1|. [-]"""
    return float(np.median(np.abs(np.expm1(error)))) if len(error) else float("nan")


def summary_of(rows: PointRows, held: Mapping[str, Held]) -> dict[str, Any]:
    """Return the figures of every scheme as JSON-ready values."""
    chips = np.array([groups["chip"] for groups in rows.groups])
    classes = np.array([metric_class(d) for d in rows.deployments])
    result: dict[str, Any] = {}
    for scheme, part in held.items():
        keep = seen_pairs(rows, part) if scheme == "points" else np.ones(len(part.at), dtype=bool)
        at, error, anchored = part.at[keep], part.error[keep], part.anchored[keep]
        own, kind = chips[at], classes[at]
        core = np.isin(kind, list(CORE))
        figures: dict[str, Any] = {}
        for name, of in (
            ("core", core),
            ("ttft", kind == "ttft"),
            ("burst throughput", kind == "burst throughput"),
            ("burst ttft", kind == "burst ttft"),
        ):
            figures[name] = _figures(error[of], own[of])
        after = np.isfinite(anchored) & core
        if after.any():
            figures["core after anchors"] = _figures(anchored[after], own[after])
        nothing = float("nan")
        figures["p90 core"] = float(np.quantile(np.abs(np.expm1(error[core])), 0.9)) if core.any() else nothing
        figures["bias core"] = float(np.expm1(np.median(error[core]))) if core.any() else nothing
        figures["ordered"] = _ordered(rows, at, error)
        figures["coverage"], figures["p90 over p50"] = coverage_of(rows, held, scheme)
        result[scheme] = figures
    return result


def _figures(error: Floats, chips: NDArray[np.str_]) -> dict[str, Any]:
    by_chip = {
        str(chip): median_error(error[chips == chip])
        for chip in np.unique(chips)
        if (chips == chip).sum() >= LEAST_ROWS
    }
    few = sorted(str(chip) for chip in np.unique(chips) if (chips == chip).sum() < LEAST_ROWS)
    return {
        "rows": len(error),
        "median": median_error(error),
        "median of chips": float(np.median(list(by_chip.values()))) if by_chip else float("nan"),
        "chips": by_chip,
        "chips with few rows": few,
    }


def _ordered(rows: PointRows, at: NDArray[np.int64], error: Floats) -> float:
    """Return the share of pairs of configurations ordered right.

    Compared are rows of one metric and one (chip, model) pair whose measured values are more than 15 % apart.
    """
    observed = rows.observed[at]
    groups: dict[str, list[int]] = {}
    for k, i in enumerate(at):
        groups.setdefault(f"{rows.groups[i]['pair']}|{rows.deployments[i].point.metric}", []).append(k)
    right = total = 0
    for members in groups.values():
        which = np.array(members)
        measured = observed[which][:, None] - observed[which][None, :]
        predicted = (observed + error)[which][:, None] - (observed + error)[which][None, :]
        apart = np.triu(np.abs(measured) > np.log1p(ORDERED_GAP), 1)
        right += int((np.sign(measured) == np.sign(predicted))[apart].sum())
        total += int(apart.sum())
    return right / total if total else float("nan")
