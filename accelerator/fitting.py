"""Fit the operator families to kernel files, and measure how far they are off on rows that they were not shown.

Two questions are asked of every family. Shapes: five folds, each holding out whole shape groups on all chips at once.
Chips: each chip left out entirely, predicted from its data sheet and its kin. The band factors are what the standard
deviations must be multiplied by for P10 to P90 to hold 80 % of the rows held out.
"""

import csv
import json
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from accelerator.calibration import Calibration, calibration_dict
from accelerator.errors import AcceleratorError
from accelerator.families import FAMILIES, KernelFile, kernel_file_read, times_s
from accelerator.family import Chips, Family, chip_of
from accelerator.gemm import GEMM, microbench_parse
from accelerator.pooling import Floats, PooledFit, Rows, pooled_fit
from accelerator.units import Z90

MICROBENCH = "microbench.csv"
"""Rates of whole chips, in the same folder: they enter the fit of matrix products."""

FOLDS = 5
FOLD_SEED = 20_261_124


@dataclass(frozen=True)
class Held:
    """Predictions of rows that were held out.

    Parameters
    ----------
    error_ratio : float64[n]
        |predicted / measured - 1|. [-]
    z : float64[n]
        log(measured / predicted) over its standard deviation. [-]
    chips : object[n]
        Chip of each row.
    """

    error_ratio: Floats
    z: Floats
    chips: np.ndarray

    def by_chip(self) -> dict[str, float]:
        """Return the median error of each chip."""
        return {chip: float(np.median(self.error_ratio[self.chips == chip])) for chip in sorted(set(self.chips))}

    def summary(self) -> dict[str, Any]:
        """Return the figures that are committed with a fit."""
        by_chip = self.by_chip()
        if not by_chip:
            return {"median_over_chips": None, "pooled_median": None, "by_chip": {}, "coverage_before_factor": None}
        return {
            "median_over_chips": _round(np.median(list(by_chip.values()))),
            "pooled_median": _round(np.median(self.error_ratio)),
            "by_chip": {chip: _round(value) for chip, value in by_chip.items()},
            "coverage_before_factor": _round(np.mean(np.abs(self.z) < Z90)),
        }

    def factor(self) -> float:
        """Return the factor on standard deviations with which P10 to P90 hold 80 % of the rows. [-]"""
        return float(np.quantile(np.abs(self.z), 0.8)) / Z90 if len(self.z) else 1.0

    def coverage(self, factor: float) -> float:
        """Return the share of rows between P10 and P90 once bands are multiplied by the factor. [-]"""
        return float(np.mean(np.abs(self.z) < Z90 * factor)) if len(self.z) else 0.0


def files_read(folders: Sequence[Path], chips: Chips = None) -> dict[str, KernelFile]:
    """Return the kernel files of folders by family, those of one family together."""
    found: dict[str, KernelFile] = {}
    for path in (path for folder in folders for path in sorted([*folder.glob("*.csv.gz"), *folder.glob("*.csv")])):
        if path.name == MICROBENCH:
            continue
        file = kernel_file_read(path, chips)
        before = found.get(file.family.name)
        found[file.family.name] = files_joined(before, file) if before else file
    if not found:
        raise AcceleratorError(f"{', '.join(map(str, folders))} has no kernel file (*.csv.gz)")
    return found


def files_joined(first: KernelFile, second: KernelFile) -> KernelFile:
    """Return two files of a family as one."""
    return KernelFile(
        family=first.family,
        count=first.count + second.count,
        at=np.concatenate([first.at, first.count + second.at]),
        rows=joined_rows(first.rows, second.rows),
        groups=first.groups + second.groups,
        reasons=dict(first.reasons) | {first.count + row: reason for row, reason in second.reasons.items()},
    )


def microbench_read(folders: Sequence[Path], chips: Chips = None) -> Rows | None:
    """Return the rows of the folders' microbenchmarks that say something about matrix products or memory."""
    found = []
    for path in (folder / MICROBENCH for folder in folders):
        if path.exists():
            with path.open(newline="", encoding="utf-8") as file:
                found += [parsed for row in csv.DictReader(file) if (parsed := microbench_parse(row, chips))]
    if not found:
        return None
    members = np.array([row.members for row, _ in found], dtype=object).reshape(len(found), len(GEMM.levels))
    return Rows(
        shape=np.array([row.shape for row, _ in found]).reshape(len(found), len(GEMM.shape)),
        members=tuple(members.T),
        latency_s=np.array([time_s for _, time_s in found]),
    )


def family_fit(family: Family, rows: Rows) -> PooledFit:
    """Fit one family to measured rows."""
    return pooled_fit(lambda shape, parameters: times_s(family, shape, parameters), family.parameters, rows)


def shapes_held(family: Family, rows: Rows, groups: Sequence[str], always: Rows | None = None) -> Held:
    """Predict every row with a fit that saw no row of its shape group, on any chip; ``always`` is seen by every fit."""
    names = sorted(set(groups))
    order = np.random.default_rng(FOLD_SEED).permutation(len(names))
    fold_of = {name: int(order[at]) % FOLDS for at, name in enumerate(names)}
    fold = np.array([fold_of[group] for group in groups])
    return _held(family, rows, [fold == number for number in range(min(FOLDS, len(names)))], always)


def chips_held(family: Family, rows: Rows, always: Rows | None = None) -> Held:
    """Predict every row with a fit that saw no row of its chip, not even of those that every other fit sees."""
    chips = _chips(rows)
    return _held(family, rows, [chips == chip for chip in sorted(set(chips))], always, whole_chips=True)


def calibration_make(family: Family, file: KernelFile, *, fitted_on: str, always: Rows | None = None) -> Calibration:
    """Fit a family to a file, with the errors it makes on rows held out.

    Parameters
    ----------
    fitted_on : str
        ISO day, written beside the parameters.
    always : Rows, optional
        More rows for every fit, whose errors are not counted.
    """
    measured = np.isfinite(file.rows.latency_s)
    if not measured.any():
        raise AcceleratorError(f"{family.name}: no row has a latency and a chip that is known")
    rows = file.rows.take(measured)
    groups = [group for group, known in zip(file.groups, measured, strict=True) if known]
    shapes, chips = shapes_held(family, rows, groups, always), chips_held(family, rows, always)
    seen, unseen = shapes.factor(), chips.factor()
    return Calibration(
        family=family,
        fit=family_fit(family, joined_rows(rows, always)),
        band_seen=seen,
        band_unseen=unseen,
        fitted_on=fitted_on,
        errors={
            "shapes_held_out": shapes.summary() | {"coverage": _round(shapes.coverage(seen))},
            "chips_held_out": chips.summary() | {"coverage": _round(chips.coverage(unseen))},
        },
    )


def calibration_write(calibration: Calibration, folder: Path) -> Path:
    """Write a calibration as JSON, one cell a line; return its path."""
    values = calibration_dict(calibration)
    lines = []
    for key, value in values.items():
        if isinstance(value, list) and value and isinstance(value[0], dict | list):
            rows = ",\n".join(f"    {json.dumps(row)}" for row in value)
            lines.append(f"  {json.dumps(key)}: [\n{rows}\n  ]")
        else:
            lines.append(f"  {json.dumps(key)}: {json.dumps(value)}")
    folder.mkdir(parents=True, exist_ok=True)
    path = folder / f"{calibration.family.name}.json"
    path.write_text("{\n" + ",\n".join(lines) + "\n}\n", encoding="utf-8")
    return path


def report_lines(calibration: Calibration) -> Iterator[str]:
    """Yield what a person wants to see of a fit: errors by chip, bands, common parameters."""
    yield f"{calibration.family.name}: {calibration.fit.rows} rows"
    for what, title in (("shapes_held_out", "shapes held out"), ("chips_held_out", "chips held out")):
        summary: Mapping[str, Any] = calibration.errors[what]
        if not summary["by_chip"]:
            yield f"  {title}: not measured, there is nothing beside them"
            continue
        by_chip = "  ".join(f"{chip} {value:.1%}" for chip, value in summary["by_chip"].items())
        yield (
            f"  {title}: median over chips {summary['median_over_chips']:.1%}, pooled {summary['pooled_median']:.1%}, "
            f"P10-P90 holds {summary['coverage']:.0%}"
        )
        yield f"    {by_chip}"
    for parameter, value in zip(calibration.family.parameters, np.exp(calibration.fit.common), strict=True):
        yield f"  {parameter.name:24} {value:10.4g} {parameter.unit:6} {parameter.meaning}"


def families_wanted(names: Iterable[str]) -> tuple[Family, ...]:
    """Return the families named, or all."""
    names = tuple(names)
    for name in names:
        if name not in FAMILIES:
            raise AcceleratorError(f'there is no family "{name}"; known are {", ".join(FAMILIES)}')
    return tuple(FAMILIES[name] for name in names or FAMILIES)


def joined_rows(rows: Rows, more: Rows | None) -> Rows:
    """Return the rows of both."""
    if more is None:
        return rows
    return Rows(
        np.concatenate([rows.shape, more.shape]),
        tuple(np.concatenate(pair) for pair in zip(rows.members, more.members, strict=True)),
        np.concatenate([rows.latency_s, more.latency_s]),
    )


def _held(
    family: Family,
    rows: Rows,
    parts: Sequence[np.ndarray],
    always: Rows | None,
    *,
    whole_chips: bool = False,
) -> Held:
    error_ratio, z = np.full(len(rows), np.nan), np.full(len(rows), np.nan)
    for held in parts:
        if held.all() or not held.any():
            continue
        kept = always
        if whole_chips and always is not None:
            kept = always.take(~np.isin(_chips(always), list(set(_chips(rows)[held]))))
        fit = family_fit(family, joined_rows(rows.take(~held), kept))
        tried = rows.take(held)
        median_s, deviation = fit.predict(lambda shape, parameters: times_s(family, shape, parameters), tried)
        error_ratio[held] = np.abs(median_s / tried.latency_s - 1)
        z[held] = np.log(tried.latency_s / median_s) / deviation
    known = np.isfinite(z)
    return Held(error_ratio[known], z[known], _chips(rows)[known])


def _chips(rows: Rows) -> np.ndarray:
    return np.array([chip_of((name,)) for name in rows.members[-1]], dtype=object)


def _round(value: float | np.floating[Any]) -> float:
    return round(float(value), 4)
