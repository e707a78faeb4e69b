"""How far predictions of serving were off on measured rows that the fit had not seen: what the published fit left.

``accelerator/data/calibration/serving_errors.csv`` has one line per held-out row and scheme: predicted over measured,
and the band over the prediction. What was measured itself is not in it.
"""

import csv
import math
from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from importlib import resources
from pathlib import Path
from typing import Any

import numpy as np

from accelerator import DataFileError, chips_load
from accelerator.accuracy import LEAST_ROWS, SCHEMES
from accelerator.serving_calibration import BASES, PAIR, SHEET
from scenarios.calibrations import OwnRow, calibration_facts, own_rows, published_facts, published_summary

ERRORS_PATH = Path(str(resources.files("accelerator"))) / "data" / "calibration" / "serving_errors.csv"
RATIO_LEAST = 0.0005
"""What the file writes as 0: a load whose limit the prediction cannot keep gets next to nothing. [-]"""

WORST = 20
GROUPS = ("chip", "engine", "model", "class")
"""Columns by which rows are grouped and filtered."""

SCHEME = "pairs"
"""What is shown where nobody says otherwise: neither the easiest question nor the hardest."""

BASIS_WORDS: Mapping[str, str] = dict.fromkeys(BASES, "calibrated") | {SHEET: "modelled"}
"""How sure a prediction is, in a word: fitted to measurements of its chip, or from its data sheet and its kin."""


@dataclass(frozen=True, slots=True)
class HeldRow:
    """A measured row that was held out of the fit, and what was predicted for it.

    Parameters
    ----------
    ratio : float
        Predicted over measured. [-]
    p10_ratio, p90_ratio : float
        The ends of the band over the prediction. [-]
    """

    scheme: str
    point_id: str
    chip: str
    model: str
    engine: str
    metric: str
    metric_class: str
    load: str
    basis: str
    ratio: float
    p10_ratio: float
    p90_ratio: float
    source: str
    reason: str

    @property
    def error_ratio(self) -> float:
        """Predicted over measured, less 1, without its sign. [-]"""
        return abs(self.ratio - 1)

    @property
    def is_covered(self) -> bool:
        """Whether the band holds what was measured."""
        return self.p10_ratio <= 1 / self.ratio <= self.p90_ratio

    def value(self, name: str) -> str:
        """Return a field by the name of its column."""
        return str(getattr(self, "metric_class" if name == "class" else name))


def held_rows() -> tuple[HeldRow, ...]:
    """Return every held-out row; none where the file is not there. Read once for each state of the file."""
    try:
        state = ERRORS_PATH.stat()
    except OSError:
        return ()
    return _held_rows(ERRORS_PATH, state.st_mtime_ns, state.st_size)


@lru_cache(maxsize=2)
def _held_rows(path: Path, _changed_ns: int, _size_byte: int) -> tuple[HeldRow, ...]:
    with path.open(encoding="utf-8", newline="") as stream:
        reader = csv.DictReader(stream)
        try:
            return tuple(_held_row(row) for row in reader)
        except (KeyError, TypeError, ValueError, csv.Error) as error:
            raise DataFileError(f"{path.name}, line {reader.line_num}: {error!r}") from error


def _held_row(row: Mapping[str, str]) -> HeldRow:
    ratio, low, high = (float(row[name]) for name in ("ratio", "p10_ratio", "p90_ratio"))
    if not (0 <= ratio < math.inf and 0 <= low <= high < math.inf):
        raise ValueError(f"these are no ratios: {ratio}, {low}, {high}")
    return HeldRow(
        scheme=row["scheme"],
        point_id=row["point_id"],
        chip=row["chip"],
        model=row["model"],
        engine=row["engine"],
        metric=row["metric"],
        metric_class=row["class"],
        load=row["load"],
        basis=row["basis"],
        ratio=max(ratio, RATIO_LEAST),
        p10_ratio=max(low, RATIO_LEAST),
        p90_ratio=max(high, RATIO_LEAST),
        source=row["source"],
        reason=row["reason"],
    )


@dataclass(frozen=True, slots=True)
class ErrorFigures:
    """How far a group of held-out rows is off.

    Parameters
    ----------
    rows : int
        Rows of the group. [-]
    ratio_p10, ratio_p50, ratio_p90 : float
        Predicted over measured. [-]
    band_low_ratio, band_high_ratio : float
        Within these the same ratio should lie for eight rows of ten: the median band of the group. [-]
    error_ratio, error_p90_ratio : float
        Median and P90 of the error. [-]
    coverage_ratio : float
        Share of the rows whose band holds what was measured. [-]
    """

    name: str
    rows: int
    ratio_p10: float
    ratio_p50: float
    ratio_p90: float
    band_low_ratio: float
    band_high_ratio: float
    error_ratio: float
    error_p90_ratio: float
    coverage_ratio: float

    @classmethod
    def of(cls, name: str, rows: Sequence[HeldRow]) -> "ErrorFigures":
        """Return the figures of a group."""
        ratio = np.array([row.ratio for row in rows])
        low, middle, high = np.quantile(ratio, (0.1, 0.5, 0.9))
        error = np.abs(ratio - 1)
        return cls(
            name=name,
            rows=len(rows),
            ratio_p10=float(low),
            ratio_p50=float(middle),
            ratio_p90=float(high),
            band_low_ratio=float(1 / np.median([row.p90_ratio for row in rows])),
            band_high_ratio=float(1 / np.median([row.p10_ratio for row in rows])),
            error_ratio=float(np.median(error)),
            error_p90_ratio=float(np.quantile(error, 0.9)),
            coverage_ratio=float(np.mean([row.is_covered for row in rows])),
        )


def rows_filter(rows: Iterable[HeldRow], *, scheme: str, wanted: Mapping[str, Sequence[str]]) -> list[HeldRow]:
    """Return the rows of a scheme with one of the wanted values in every column that is filtered."""
    asked = {name: set(values) for name, values in wanted.items() if values}
    return [row for row in rows if row.scheme == scheme and all(row.value(n) in some for n, some in asked.items())]


def rows_group(rows: Iterable[HeldRow], name: str) -> list[ErrorFigures]:
    """Return the figures of every value of a column, by name."""
    found: dict[str, list[HeldRow]] = defaultdict(list)
    for row in rows:
        found[row.value(name)].append(row)
    return [ErrorFigures.of(value, found[value]) for value in sorted(found)]


def rows_worst(rows: Iterable[HeldRow]) -> list[HeldRow]:
    """Return the rows that are furthest off, too high or too low by the same factor alike."""
    return sorted(rows, key=lambda row: (-abs(math.log(row.ratio)), row.point_id, row.metric))[:WORST]


@dataclass(frozen=True, slots=True)
class UnknownChip:
    """A chip about which little or nothing was measured: what a prediction for it stands on, and why."""

    chip: str
    rows: int
    basis: str
    reason: str


def chips_unknown(rows: Iterable[HeldRow], own: Mapping[str, int]) -> list[UnknownChip]:
    """Return chips of the catalog without measured rows, or with too few to count; `own` are own points by chip."""
    points: dict[str, set[str]] = defaultdict(set)
    for row in rows:
        points[row.chip].add(row.point_id)
    found = []
    for chip in chips_load():
        count = len(points[chip]) + own.get(chip, 0)
        if count == 0:
            reason = "nobody has measured it: predicted from its data sheet and its kin"
            found.append(UnknownChip(chip, 0, BASIS_WORDS[SHEET], reason))
        elif count < LEAST_ROWS:
            reason = f"fewer than {LEAST_ROWS} measured rows: not counted among chips"
            found.append(UnknownChip(chip, count, BASIS_WORDS[PAIR], reason))
    return found


def values_of(rows: Iterable[HeldRow], name: str) -> list[str]:
    """Return the values of a column."""
    return sorted({row.value(name) for row in rows})


def finite(value: Any) -> Any:
    """Return JSON values without what JSON lacks: a figure that is no number is null."""
    if isinstance(value, Mapping):
        return {name: finite(one) for name, one in value.items()}
    if isinstance(value, list | tuple):
        return [finite(one) for one in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


SUMMARY_GROUPS = ("core", "core after anchors", "ttft", "burst throughput", "burst ttft")
SUMMARY_FIGURES = ("p90 core", "bias core", "ordered", "coverage", "p90 over p50")


def summary_rows(summary: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return the figures of a fit as rows, a scheme each; null where a scheme lacks one."""
    rows = []
    for scheme, words in SCHEMES.items():
        if scheme not in summary:
            continue
        figures = finite(summary[scheme])
        row: dict[str, Any] = {"scheme": scheme, "held_out": words, "rows": (figures.get("core") or {}).get("rows")}
        for group in SUMMARY_GROUPS:
            one = figures.get(group) or {}
            name = group.replace(" ", "_")
            row[name], row[f"{name}_chips"] = one.get("median"), one.get("median of chips")
        row |= {name.replace(" ", "_"): figures.get(name) for name in SUMMARY_FIGURES}
        rows.append(row)
    return rows


# --- all of it, for one choice ----------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Accuracy:
    """How wrong predictions are, for one scheme and some filters.

    Parameters
    ----------
    calibration, published : mapping or None
        The calibration in use, and the published fit that all held-out figures are about; None: there is none.
    summary : list of mapping
        Figures of every scheme, unfiltered.
    rows : list of HeldRow
        Held-out rows of the scheme that pass the filters.
    own : list of OwnRow
        Own points that pass the filters, with what is predicted now.
    """

    scheme: str
    wanted: Mapping[str, Sequence[str]]
    calibration: Mapping[str, Any] | None
    published: Mapping[str, Any] | None
    summary: Sequence[Mapping[str, Any]]
    rows: Sequence[HeldRow]
    own: Sequence[OwnRow]
    unknown: Sequence[UnknownChip]

    @property
    def figures(self) -> ErrorFigures | None:
        """Figures of all rows together."""
        return ErrorFigures.of("all", self.rows) if self.rows else None


def accuracy_take(scheme: str = SCHEME, wanted: Mapping[str, Sequence[str]] | None = None) -> Accuracy:
    """Return how wrong predictions are; everything is empty where there is no published fit."""
    every, wanted = held_rows(), wanted or {}
    asked = {name: set(values) for name, values in wanted.items() if values}
    own = own_rows()
    counts: dict[str, int] = defaultdict(int)
    for row in own:
        counts[row.chip] += 1
    chips = asked.get("chip")
    return Accuracy(
        scheme=scheme,
        wanted=wanted,
        calibration=calibration_facts(),
        published=published_facts(),
        summary=summary_rows(published_summary()),
        rows=rows_filter(every, scheme=scheme, wanted=wanted),
        own=[row for row in own if all(row.value(name) in some for name, some in asked.items())],
        unknown=[one for one in chips_unknown(every, counts) if chips is None or one.chip in chips],
    )
