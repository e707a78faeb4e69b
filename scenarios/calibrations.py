"""An operator's own measurements: they move the published serving fit, as dated versions that can be rolled back.

A version starts from the published fit and all own points of the line of versions that was in use, so it does not
matter in which order points came. Nothing of a version changes once it is stored; which one is in use does, and every
change of that is kept. Readers are answered by :func:`calibration_current`.
"""

import csv
import difflib
import gzip
import io
import json
import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np
from django.contrib.auth.models import User
from django.db import transaction
from django.utils import timezone

from accelerator import AcceleratorError, DataFileError, TraceError
from accelerator.points import Deployment, Point, deployments_of, points_parse
from accelerator.pooling import Floats
from accelerator.serving_calibration import (
    METRICS,
    PointRows,
    ServingCalibration,
    calibration_dict,
    calibration_parse,
    metric_class,
    serving_calibration_load,
)
from scenarios.models import CalibrationChange, CalibrationVersion

logger = logging.getLogger(__name__)

PUBLISHED = "published"
"""Name of the fit that comes with the product, where a version is named."""

TABLE_MAX_BYTE = 4 * 2**20
"""Largest table of own points. [byte]"""

NOTE_MOST, CELL_MOST = 300, 2_000
"""Longest note of a version, and longest cell of a row. [characters]"""

POINTS_MOST = 1_000
"""Most own points of a version: an update with them takes seconds. [-]"""

OFF_MOST = 100.0
"""A value further from its prediction than this factor has another unit, not another speed. [-]"""

HELD_FOLDS = 5
"""Parts into which own points are dealt to see how well the others predict each. [-]"""

READ = (
    "point_id", "config_id", "chip", "chip_count", "nodes", "tp", "pp", "ep", "dp", "model", "weight_precision",
    "kv_precision", "engine", "engine_version", "scenario", "input_len", "output_len", "concurrency",
    "request_rate_rps", "metric", "value", "unit", "trust", "source", "notes", "duplicate_metric", "power_cap_frac",
)  # fmt: skip
"""Columns of a table that are read and kept."""

PASSED_OVER = ("chip_vendor", "kind", "date", "source_licence")
"""Columns of the published table that say nothing to the model."""


# --- rows and why some are refused -----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class TableRow:
    """One row of a table as it was given: its line, from 2, its number, from 0, and its cells."""

    line: int
    index: int
    cells: Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Rejection:
    """A row that was not taken: its place, the column where one is at fault, and the reason."""

    line: int
    index: int
    column: str | None
    reason: str

    def __str__(self) -> str:
        return f"line {self.line}{f', {self.column}' if self.column else ''}: {self.reason}"


class PointsRefusedError(ValueError):
    """No row of a table can be used; the reasons are beside it."""

    def __init__(self, text: str, rejected: Sequence[Rejection] = ()) -> None:
        super().__init__(text)
        self.rejected = tuple(rejected)


class CalibrationChangedError(Exception):
    """Another calibration was taken into use since this one was begun."""


def table_read(path: Path) -> list[TableRow]:
    """Return the rows of a file; TraceError if it is no table of points."""
    try:
        with path.open("rb") as stream:
            raw = stream.read(TABLE_MAX_BYTE + 1)
    except OSError as error:
        raise TraceError(str(path), None, None, f"cannot be read: {error}") from error
    if len(raw) > TABLE_MAX_BYTE:
        raise TraceError(str(path), None, None, f"is larger than {TABLE_MAX_BYTE / 2**20:.0f} MiB")
    try:
        return table_rows(raw.decode("utf-8-sig"), str(path))
    except UnicodeDecodeError as error:
        raise TraceError(str(path), None, None, f"is not UTF-8: {error}") from error


def table_rows(text: str, name: str) -> list[TableRow]:
    """Return the rows of a table given as text; TraceError if it is no table of points."""
    if "\x00" in text:
        raise TraceError(name, None, None, "holds a NUL character")
    reader = csv.DictReader(io.StringIO(text, newline=""), restkey="", restval="")
    columns = list(reader.fieldnames or ())
    points_parse(table_text([], columns), name)  # says which columns are missing
    columns_check(columns, name)
    try:
        return [TableRow(reader.line_num, at, row) for at, row in enumerate(reader)]
    except csv.Error as error:
        raise TraceError(name, reader.line_num, None, str(error)) from error


def columns_check(columns: Iterable[str], name: str) -> None:
    """Raise TraceError for a column that is not known: a misspelt one would be left out in silence."""
    known = (*READ, *PASSED_OVER)
    for column in columns:
        if column not in known:
            close = difflib.get_close_matches(column, known, n=2)
            hint = f"; did you mean {' or '.join(close)}?" if close else f"; there are: {', '.join(known)}"
            raise TraceError(name, 1, None, f'has an unknown column "{column[:80]}"{hint}')


def table_text(rows: Iterable[Mapping[str, str]], columns: Sequence[str] = READ) -> str:
    """Return rows as CSV."""
    stream = io.StringIO()
    writer = csv.DictWriter(stream, columns, restval="", extrasaction="ignore", lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return stream.getvalue()


@dataclass(frozen=True, slots=True)
class OwnPoint:
    """An own point that can be used, with the row it was read from."""

    row: TableRow
    deployment: Deployment

    @property
    def point(self) -> Point:
        """The point."""
        return self.deployment.point


def points_take(rows: Sequence[TableRow], known: Iterable[str] = ()) -> tuple[list[OwnPoint], list[Rejection]]:
    """Return the rows that can be used, and why the others cannot; `known` are ids that are stored already."""
    taken, rejected = [], []
    stored, seen = set(known), dict[str, int]()
    for row in rows:
        point_id = row.cells.get("point_id", "").strip()
        try:
            if point_id in stored:
                raise _refusal(row, "point_id", f"{point_id} is stored already")
            if point_id in seen:
                raise _refusal(row, "point_id", f"{point_id} stands in line {seen[point_id]} too")
            taken.append(OwnPoint(row, _deployment(row, _point(row))))
            seen[point_id] = row.line
        except TraceError as error:
            rejected.append(Rejection(row.line, row.index, error.column, error.reason))
    return taken, rejected


def _refusal(row: TableRow, column: str | None, reason: str) -> TraceError:
    return TraceError("", row.line, column, reason)


def _point(row: TableRow) -> Point:
    """Return the point of a row, or raise what is wrong with its cells."""
    if row.cells.get(""):
        raise _refusal(row, None, "has more cells than the table has columns")
    for name, text in row.cells.items():
        if len(text) > CELL_MOST:
            raise _refusal(row, name, f"is longer than {CELL_MOST:,} characters")
    (point,) = points_parse(table_text([row.cells], list(row.cells)), "")
    if not point.point_id:
        raise _refusal(row, "point_id", "is empty: a point needs a name of its own")
    if point.duplicate:
        raise _refusal(row, "duplicate_metric", "is a duplicate: another row says the same fact")
    if point.trust.upper() == "C":
        raise _refusal(row, "trust", "C is for plausibility only")
    if point.metric not in METRICS:
        raise _refusal(row, "metric", f'"{point.metric}" is not modelled; modelled are: {", ".join(METRICS)}')
    if not point.value > 0:
        raise _refusal(row, "value", "is missing or not above 0")
    return replace(point, at=row.line)


def _deployment(row: TableRow, point: Point) -> Deployment:
    """Return what a point was measured on, or raise why it cannot be modelled."""
    (found,) = deployments_of([point])
    if isinstance(found, AcceleratorError):
        raise _refusal(row, None, str(found)) from found
    try:
        PointRows.of([found])
    except AcceleratorError as error:
        raise _refusal(row, None, str(error)) from error
    return found


def _plausible(points: Sequence[OwnPoint], calibration: ServingCalibration) -> tuple[list[OwnPoint], list[Rejection]]:
    """Return the points that are within a factor of their prediction, and the others as rejections."""
    if not points:
        return [], []
    predicted = calibration.predict(PointRows.of([own.deployment for own in points])).value
    kept, rejected = [], []
    for own, value in zip(points, predicted.tolist(), strict=True):
        factor = own.point.value / value
        if 1 / OFF_MOST <= factor <= OFF_MOST:
            kept.append(own)
            continue
        reason = (
            f"{own.point.value:g} is {factor:.3g} times the {value:.3g} predicted: another unit, or a limit missed?"
        )
        rejected.append(Rejection(own.row.line, own.row.index, "value", reason))
    return kept, rejected


# --- a version in the making -----------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Draft:
    """A version that is not stored yet: nothing is written before all of it is known.

    Parameters
    ----------
    parent : CalibrationVersion or None
        The version in use when it was made; None: the published fit.
    own : list of OwnPoint
        All own points of the line, by point_id.
    points_added : int
        Points that came with it. [-]
    rejected : list of Rejection
        Rows that were not taken.
    errors : mapping
        On the own points, before and after: of all, and by chip.
    """

    parent: CalibrationVersion | None
    published_digest: str
    calibration: ServingCalibration
    own: Sequence[OwnPoint]
    points_added: int
    rejected: Sequence[Rejection]
    errors: Mapping[str, Any]
    note: str


def calibration_draft(rows: Sequence[TableRow], *, note: str = "", today: date | None = None) -> Draft:
    """Update the published fit with further own points beside those of the version in use.

    Without rows it is made anew from the points that are stored, as after an update of the product.

    Raises
    ------
    PointsRefusedError
        If no row can be used; each with its reason.
    DataFileError
        If there is no published fit.
    """
    published, parent = serving_calibration_load(), version_active()
    kept, lost = points_take(table_rows(parent.table, f"calibration {parent.pk}") if parent else [])
    taken, rejected = points_take(rows, [own.point.point_id for own in kept])
    new, implausible = _plausible(taken, published)
    rejected = sorted([*rejected, *implausible], key=lambda one: one.line)
    if rows and not new:
        raise PointsRefusedError(f"none of {len(rows)} row(s) can be used", rejected)
    own = sorted([*kept, *new], key=lambda one: one.point.point_id)
    if not own:
        raise PointsRefusedError("there are no own points")
    if len(own) > POINTS_MOST:
        raise PointsRefusedError(f"{len(own):,} own points are more than {POINTS_MOST:,}")
    for one in lost:
        logger.warning("own points of %s: %s", parent, one)
    table = PointRows.of([one.deployment for one in own])
    day = (today or timezone.now().date()).isoformat()
    calibration = _settled(published.updated(table, fitted_on=day))
    return Draft(
        parent=parent,
        published_digest=_digest(published),
        calibration=calibration,
        own=own,
        points_added=len(new),
        rejected=[
            *rejected,
            *(replace(one, reason=f"stored before, and not usable any more: {one.reason}") for one in lost),
        ],
        errors=_errors(table, calibration_current(), calibration, published, {one.point.point_id for one in new}),
        note=note,
    )


def _settled(calibration: ServingCalibration) -> ServingCalibration:
    """Return a calibration as it comes back from where it is stored: digits are cut there, and the digest with them."""
    return calibration_parse(calibration_dict(calibration), "the update")


def _errors(
    table: PointRows,
    before: ServingCalibration,
    after: ServingCalibration,
    published: ServingCalibration,
    added: set[str],
) -> dict[str, Any]:
    """Return the median error of the own points, of all and by chip."""
    errors = {
        "before_error_ratio": _error_ratios(before.predict(table).value, table),
        "after_error_ratio": _error_ratios(after.predict(table).value, table),
        "held_out_error_ratio": _error_ratios(_held_out(table, published), table),
    }
    chips = np.array([d.chip.slug for d in table.deployments])
    is_new = np.array([d.point.point_id in added for d in table.deployments])

    def figures(of: Any) -> dict[str, Any]:
        medians = {name: float(np.median(values[of])) for name, values in errors.items()}
        counts = {"points": int(of.sum()), "points_added": int((of & is_new).sum())}
        return counts | {name: value if np.isfinite(value) else None for name, value in medians.items()}

    by_chip = {str(chip): figures(chips == chip) for chip in np.unique(chips)}
    return {"all": figures(np.ones(len(chips), dtype=bool)), "chips": by_chip}


def _error_ratios(predicted: Floats, table: PointRows) -> Floats:
    return np.abs(predicted / np.exp(table.observed) - 1)


def _held_out(table: PointRows, published: ServingCalibration) -> Floats:
    """Return what the other own points predict for each; points of one configuration stay together. NaN: no others."""
    config = [d.point.config_id or d.point.point_id for d in table.deployments]
    folds = {name: at % HELD_FOLDS for at, name in enumerate(sorted(set(config)))}
    fold, predicted = np.array([folds[name] for name in config]), np.full(len(config), np.nan)
    if len(folds) > 1:
        for number in np.unique(fold):
            others = published.updated(table.take(np.flatnonzero(fold != number)), fitted_on="")
            of = np.flatnonzero(fold == number)
            predicted[of] = others.predict(table.take(of)).value
    return predicted


# --- versions --------------------------------------------------------------------------------------------------------
def version_active() -> CalibrationVersion | None:
    """Return the version in use, without its payload; None: the published fit is."""
    return CalibrationVersion.objects.defer("payload").filter(is_active=True).first()


def calibration_keep(draft: Draft, *, owner: User | None) -> CalibrationVersion:
    """Store a draft and take it into use; CalibrationChangedError if another was taken into use meanwhile."""
    payload = json.dumps(calibration_dict(draft.calibration), allow_nan=True).encode()
    with transaction.atomic():
        parent = version_active()
        if parent != draft.parent:
            raise CalibrationChangedError(f"{parent or 'the published fit'} was taken into use meanwhile")
        version = CalibrationVersion.objects.create(
            parent=parent,
            digest=_digest(draft.calibration),
            published_digest=draft.published_digest,
            fitted_on=date.fromisoformat(draft.calibration.fitted_on),
            note=draft.note,
            points=len(draft.own),
            points_added=draft.points_added,
            table=table_text([one.row.cells for one in draft.own]),
            errors=draft.errors,
            payload=gzip.compress(payload, mtime=0),
            owner=owner,
        )
        calibration_use(version, owner=owner)
    return version


def calibration_use(version: CalibrationVersion | None, *, owner: User | None) -> bool:
    """Take a version into use, or with None the published fit; return False if it is in use already."""
    with transaction.atomic():
        present = version_active()
        if present == version:
            return False
        CalibrationVersion.objects.filter(is_active=True).update(is_active=False)
        if version is not None:
            CalibrationVersion.objects.filter(pk=version.pk).update(is_active=True)
            version.is_active = True
        CalibrationChange.objects.create(version=version, owner=owner)
    return True


def calibration_rollback(*, owner: User | None) -> CalibrationVersion | None:
    """Go back to what was in use when the present version was made; ValueError if that is the published fit already."""
    present = version_active()
    if present is None:
        raise ValueError("the published fit is in use: there is nothing to go back to")
    calibration_use(present.parent, owner=owner)
    return present.parent


def version_named(name: str) -> CalibrationVersion | None:
    """Return a version by its id, or None for the published fit; ValueError if there is no such version."""
    if name == PUBLISHED:
        return None
    found = CalibrationVersion.objects.defer("payload").filter(pk=int(name)).first() if _is_id(name) else None
    if found is None:
        raise ValueError(f'there is no calibration "{name[:40]}"; `published` names the published fit')
    return found


def _is_id(name: str) -> bool:
    return name.isascii() and name.isdecimal() and len(name) <= 18


# --- what is in use --------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class InUse:
    """The calibration that answers, the id of its version (None: published), and what is wrong with the chosen one."""

    version: int | None
    calibration: ServingCalibration
    problem: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of what predictions follow from."""
        return _digest(self.calibration)

    @property
    def name(self) -> str:
        """Id of the version as text, or `published`."""
        return PUBLISHED if self.version is None else str(self.version)

    def as_dict(self) -> dict[str, Any]:
        """Return it as results name it."""
        return {
            "version": self.name,
            "digest": self.digest,
            "fitted_on": self.calibration.fitted_on,
            "rows": self.calibration.effects.rows,
        }


def calibration_in_use() -> InUse:
    """Return the calibration in use, by one query; DataFileError if none is there at all."""
    active = CalibrationVersion.objects.filter(is_active=True).values_list("pk", "digest").first()
    if active is None:
        return InUse(None, serving_calibration_load())
    pk, digest = active
    try:
        return InUse(pk, _kept(digest))
    except DataFileError as error:  # a release has changed the model: what was stored is of the old one
        problem = f"calibration {pk} cannot be used, the published fit answers: {error}; `manage.py calibrate --again`"
        logger.warning("%s", problem)
        return InUse(None, serving_calibration_load(), problem)


def calibration_current() -> ServingCalibration:
    """Return the calibration in use, the published one if no version is; read once a process for each digest."""
    return calibration_in_use().calibration


def calibration_of(digest: str) -> ServingCalibration:
    """Return the published or a kept calibration by its digest, whichever is in use now.

    Raises
    ------
    DataFileError
        If there is none any more, or this release cannot read it.
    """
    published = serving_calibration_load()
    if _digest(published) == digest:
        return published
    if not CalibrationVersion.objects.filter(digest=digest).exists():
        raise DataFileError(f"calibration {digest[:12]} is not there any more")
    return _kept(digest)


def calibration_facts() -> dict[str, Any] | None:
    """Return version, digest, day and rows of the calibration in use, as results carry them; None: there is none."""
    try:
        return calibration_in_use().as_dict()
    except DataFileError:
        return None


def published_facts() -> dict[str, Any] | None:
    """Return the same of the published fit."""
    try:
        return InUse(None, serving_calibration_load()).as_dict()
    except DataFileError:
        return None


def published_summary() -> Mapping[str, Any]:
    """Return how far held-out rows of the published fit were off, by scheme; empty where nothing was held out."""
    try:
        summary: Mapping[str, Any] = serving_calibration_load().errors.get("summary", {})
    except DataFileError:
        return {}
    return summary


@lru_cache(maxsize=8)
def _kept(digest: str) -> ServingCalibration:
    payload = CalibrationVersion.objects.filter(digest=digest).values_list("payload", flat=True)[0]
    name = f"calibration {digest[:12]}"
    try:
        values = json.loads(gzip.decompress(bytes(payload)))
    except (OSError, EOFError, ValueError) as error:
        raise DataFileError(f"{name}: {error}") from error
    return calibration_parse(values, name)


@lru_cache(maxsize=8)
def _digest(calibration: ServingCalibration) -> str:
    """Return the digest of a calibration; it takes a while, and nothing of a calibration changes."""
    return calibration.digest


# --- own points against predictions ----------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class OwnRow:
    """An own point with what the calibration in use predicts for it, both in the unit of its metric."""

    point_id: str
    chip: str
    model: str
    engine: str
    metric: str
    metric_class: str
    unit: str
    measured: float
    p10: float
    p50: float
    p90: float
    basis: str
    source: str

    def value(self, name: str) -> str:
        """Return a field by the name of its column."""
        return str(getattr(self, "metric_class" if name == "class" else name))


def own_rows() -> list[OwnRow]:
    """Return the own points of the version in use, with predictions; none while the published fit is in use."""
    version = version_active()
    if version is None:
        return []
    return list(_own_rows(version.table, calibration_current()))


@lru_cache(maxsize=4)
def _own_rows(table: str, calibration: ServingCalibration) -> tuple[OwnRow, ...]:
    taken, _ = points_take(table_rows(table, "own points"))
    if not taken:
        return ()
    found = calibration.predict(PointRows.of([own.deployment for own in taken]))
    values = zip(taken, found.value.tolist(), found.p10.tolist(), found.p90.tolist(), found.basis, strict=True)
    return tuple(
        OwnRow(
            point_id=own.point.point_id,
            chip=own.deployment.chip.slug,
            model=own.deployment.model.slug,
            engine=own.deployment.engine,
            metric=own.point.metric,
            metric_class=metric_class(own.deployment),
            unit=own.point.unit,
            measured=own.point.value,
            p10=low,
            p50=middle,
            p90=high,
            basis=basis,
            source=own.point.source,
        )
        for own, middle, low, high, basis in values
    )
