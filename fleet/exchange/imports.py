"""Tables from outside into the fleet: first all is read and judged; if nothing is wrong, all is written at once.

The first pass takes no lock, and constant memory whatever the size of the file. The second writes chunk by chunk in one
transaction; the rules that take several rows (units of a rack, circles of supply) are looked at there, over the rows
that stand and those written before. One error anywhere, and nothing is written.
"""

import hashlib
import json
import os
import re
import uuid
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, closing, nullcontext
from dataclasses import dataclass, replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any, BinaryIO

from django.db import transaction

from fleet.audit import WHY_MOST, author_current, writing_as
from fleet.checks import among
from fleet.exchange.bundles import Part, parts_of
from fleet.exchange.columns import UNSAID, Column, HeaderError, columns_of, header_read
from fleet.exchange.exports import User, may_hide
from fleet.exchange.judging import Judge, Line, Mode, Step
from fleet.exchange.lookups import KeysRead
from fleet.exchange.reports import Counts, ImportChange, ImportFault, ImportReport
from fleet.files import LIMITS, FileError, Limits, RowFault, TableReader
from fleet.files.places import CellError
from fleet.inventory import Entry
from fleet.services import RowsWriteError, rows_write

CHUNK_ROWS = 2_000  # judged at once
WRITE_ROWS = 10_000  # written at once, as one change set
_OTHER_ROW = re.compile(r"Row (\d+) of this batch")

Origin = str | os.PathLike[str] | BinaryIO


@dataclass(frozen=True)
class Observer:
    """Who follows an import. What any of these raises ends it, and nothing is written.

    `on_rows` is called every few thousand rows with the entry that is read and its rows so far; `writing` is entered
    around the transaction; `on_written` is called at its end, inside of it, if the import is to stay.
    """

    on_rows: Callable[[str, int], None] = lambda _entry, _rows: None
    writing: Callable[[], AbstractContextManager[None]] = nullcontext
    on_written: Callable[[ImportReport], None] = lambda _report: None


NOBODY = Observer()


class FleetChangedError(ValueError):
    """An import would not do any more what its dry run has shown."""

    def __init__(self) -> None:
        super().__init__("the fleet has changed since the dry run: try it again")


def import_run(
    entry: Entry,
    source: Origin,
    *,
    name: str = "",
    dry_run: bool = False,
    mode: Mode = "upsert",
    user: User = None,
    limits: Limits = LIMITS,
    observer: Observer = NOBODY,
    confirmed: str = "",
) -> ImportReport:
    """Import a table of one entry: csv, xlsx, json or json lines; all of it or nothing.

    Parameters
    ----------
    source : path or seekable binary file
        Read twice.
    name : str
        What errors call the file, and whose ending tells the format; of a path the path itself.
    dry_run : bool
        Find out all that the import would do, and do nothing.
    mode : {"upsert", "create", "update"}
        Whether rows may be edited and made, or only one of both; the other is then an error.
    user : account, optional
        Rows that it does not see are to it as missing. Whether it may write, the caller has asked.
    confirmed : str, optional
        `steps_sha256` of a dry run. Raises FleetChangedError, and writes nothing, where that of now differs.
    """
    name = name or _name(source)
    parts = [Part(entry, _opened(source), name, limits)]
    return _Import(ImportReport(name, dry_run), mode, user, observer, confirmed).run(parts)


def import_read(
    entry: Entry, source: Origin, *, name: str = "", mode: Mode = "upsert", user: User = None, limits: Limits = LIMITS
) -> ImportReport:
    """Judge a table of one entry row by row: the first half of `import_run`, which takes no lock."""
    name = name or _name(source)
    parts = [Part(entry, _opened(source), name, limits)]
    return _Import(ImportReport(name, dry_run=True), mode, user).read(parts)


def fleet_import(
    source: Origin,
    *,
    name: str = "",
    dry_run: bool = False,
    mode: Mode = "upsert",
    user: User = None,
    limits: Limits = LIMITS,
    observer: Observer = NOBODY,
    confirmed: str = "",
) -> ImportReport:
    """Import a whole fleet out of one file or folder: see `parts_of`, `import_run`. All of it or nothing."""
    name = name or _name(source)
    report = ImportReport(name, dry_run)
    try:
        parts = parts_of(_opened(source), name=name, limits=limits)
    except FileError as error:
        report.fault_add(_file_fault("", error))
        return report
    return _Import(report, mode, user, observer, confirmed).run(parts)


def import_entries(entry: Entry | None, source: BinaryIO, *, name: str, limits: Limits = LIMITS) -> list[Entry]:
    """Return the entries whose tables a file holds: the one named, or without one those of a whole fleet.

    Raises FileError for a file whose size, type, bombs or headers an import would refuse; rows are not looked at.
    """
    parts = [Part(entry, source, name, limits)] if entry else parts_of(source, name=name, limits=limits)
    for part in parts:
        with part.opened() as table:
            try:
                header_read(part.entry, table.columns)
            except HeaderError as error:
                line = part.lines_before + 1
                raise FileError(name, str(error), sheet=table.sheet, line=line, column=error.column) from error
    return [part.entry for part in parts]


def parts_import(
    parts: Sequence[Part], report: ImportReport, *, mode: Mode = "upsert", user: User = None
) -> ImportReport:
    """Import tables, those first that others refer to; all of it or nothing. What is found goes to `report`."""
    return _Import(report, mode, user).run(parts)


def _name(source: Origin) -> str:
    if isinstance(source, str | os.PathLike):
        return os.fspath(source)
    raise TypeError("a file object needs a name: it tells the format")


def _opened(source: Origin) -> Path | BinaryIO:
    return Path(source) if isinstance(source, str | os.PathLike) else source


@dataclass
class _Import:
    """One import on its way, its findings in `report`."""

    report: ImportReport
    mode: Mode
    user: User
    observer: Observer = NOBODY
    confirmed: str = ""
    sheet: str | None = None  # that is being read

    def run(self, parts: Sequence[Part]) -> ImportReport:
        """Read all; if it is sound and changes anything, write all."""
        self.read(parts)
        self._confirm(self.report.steps_sha256)
        if self.report.sound and any(one.created or one.updated for one in self.report.counts.values()):
            self._write(parts)
            self.report.faults_sort()
        return self.report

    def read(self, parts: Sequence[Part]) -> ImportReport:
        """Judge every row, and count what it would do."""
        digest = hashlib.sha256()
        with closing(KeysRead()) as keys:
            for part in parts:
                self.report.counts[part.entry.name] = Counts()
                judge = Judge(part.entry, self.mode, self.user, keys)
                for lines in self._chunks(part):
                    steps = self._judged(part, judge, lines)
                    self._note(part, steps)
                    _digest_add(digest, part.entry, steps)
        self.report.steps_sha256 = digest.hexdigest()
        self.report.faults_sort()
        return self.report

    def _write(self, parts: Sequence[Part]) -> None:
        """Write in one transaction. A table whose rows are refused ends it: what comes after may refer to them."""
        author = author_current()
        self.report.request_id = author.request_id or uuid.uuid4().hex
        why = author.why or f"import of {Path(self.report.file).name}"[:WHY_MOST]
        signed = writing_as(replace(author, why=why, request_id=self.report.request_id))
        digest = hashlib.sha256()
        with self.observer.writing(), signed, transaction.atomic():
            for part in parts:
                self._part_write(part, digest)
                if not self.report.sound:
                    break
            self._confirm(digest.hexdigest())
            self.report.written = self.report.sound and not self.report.dry_run
            if self.report.written:
                self.observer.on_written(self.report)
            transaction.set_rollback(not self.report.written)

    def _confirm(self, found: str) -> None:
        """End an import that would do something else than what was confirmed."""
        if self.confirmed and self.report.sound and found != self.confirmed:
            raise FleetChangedError

    def _part_write(self, part: Part, digest: "hashlib._Hash") -> None:
        """Write a table, many rows at once: checks look at what they are when all of these are written."""
        judge = Judge(part.entry, self.mode, self.user, None)
        steps: list[Step] = []
        for lines in self._chunks(part):
            judged = self._judged(part, judge, lines)
            _digest_add(digest, part.entry, judged)
            steps += (step for step in judged if step.values)
            if len(steps) >= WRITE_ROWS:
                self._steps_write(part, steps)
                steps = []
        self._steps_write(part, steps)

    def _steps_write(self, part: Part, steps: Sequence[Step]) -> None:
        """Write steps as one change set; what checks say of them goes to the report."""
        model = part.entry.model
        ids = [step.standing.pk for step in steps if step.standing]
        rows = {row.pk: row for row in model._default_manager.filter(pk__in=among(ids))}
        new, edits = [], []
        for step in steps:
            stored = _stored(part.entry, step)
            if step.standing is None:
                new.append((step, model(**stored)))
            elif row := rows.get(step.standing.pk):
                row.version = step.standing.version  # so that an edit since is found
                for name, value in stored.items():
                    setattr(row, name, value)
                edits.append((step, row))
            else:
                self._fault(part, step.line.number, part.entry.key[-1], "somebody has deleted it meanwhile")
        try:
            rows_write(model, create=[row for _, row in new], update=[row for _, row in edits])
        except RowsWriteError as error:
            self._refusals_note(part, [step for step, _ in (*new, *edits)], error)

    def _refusals_note(self, part: Part, steps: Sequence[Step], error: RowsWriteError) -> None:
        counts = self.report.counts[part.entry.name]
        for at in {one.index for one in error.errors}:
            counts.refused += 1
            counts.created -= steps[at].standing is None
            counts.updated -= steps[at].standing is not None
        for one in error.errors:
            line = steps[one.index].line
            reason = _OTHER_ROW.sub(lambda found: f"Line {steps[int(found[1])].line.number}", one.message)
            self._fault(part, line.number, one.field or _blamed(part.entry, line, reason), reason)
        self.report.errors_total += error.count - len(error.errors)

    def _note(self, part: Part, steps: Sequence[Step]) -> None:
        """Count steps, and keep the first that change something."""
        counts = self.report.counts[part.entry.name]
        for step in steps:
            if not step.values:
                counts.unchanged += 1
                continue
            before = None
            if step.standing is None:
                counts.created += 1
                after = step.line.said
            else:
                counts.updated += 1
                old, hidden = step.standing.values, step.standing.hidden
                before, after = {name: None if name in hidden else old[name] for name in step.values}, step.values
            self.report.change_add(
                ImportChange(part.entry.name, step.line.number, step.line.key, _plain(before), _plain(after) or {})
            )

    def _judged(self, part: Part, judge: Judge, lines: Sequence[Line]) -> list[Step]:
        """Return the steps of lines; add the faults of the others to the report."""
        steps: list[Step] = []
        refused: set[int] = set()
        for found in judge.steps(lines):
            if isinstance(found, Step):
                steps.append(found)
            else:
                refused.add(found.line)
                self._fault(part, found.line, found.column, found.reason)
        self.report.counts[part.entry.name].refused += len(refused)
        return steps

    def _chunks(self, part: Part) -> Iterator[list[Line]]:
        """Yield the lines of a table, many at once; what is wrong with its cells goes to the report."""
        chunk: list[Line] = []
        try:
            with part.opened() as table:
                self.sheet = table.sheet
                for line in self._lines(part, table):
                    chunk.append(line)
                    if len(chunk) >= CHUNK_ROWS:
                        yield chunk
                        chunk = []
        except FileError as error:
            self.report.fault_add(_file_fault(part.entry.name, error))
        yield chunk

    def _lines(self, part: Part, table: TableReader) -> Iterator[Line]:
        try:
            columns = header_read(part.entry, table.columns)
        except HeaderError as error:
            self._fault(part, part.lines_before + 1, error.column, str(error))
            return
        for count, row in enumerate(table, 1):
            if not count % CHUNK_ROWS:
                self.observer.on_rows(part.entry.name, count)
            if isinstance(row, RowFault):
                self._fault(part, part.lines_before + row.line, row.column, row.reason)
                self.report.counts[part.entry.name].refused += 1
            elif line := self._line(part, columns, *row):
                yield line

    def _line(self, part: Part, columns: Sequence[Column], number: int, cells: Mapping[str, Any]) -> Line | None:
        """Return what a row says, if it has a key; what is wrong with its cells goes to the report."""
        number += part.lines_before
        hiding = [one for one in columns if one.name not in part.entry.key and may_hide(part.entry, one, self.user)]
        said: dict[str, Any] = {}
        sound = True
        for column in columns:
            try:
                value = (
                    None if column in hiding and cells[column.name] in {None, ""} else column.read(cells[column.name])
                )
            except CellError as error:
                sound = False
                self._fault(part, number, column.name, str(error))
            else:
                if value is not UNSAID:
                    said[column.name] = value
        self.report.counts[part.entry.name].refused += not sound
        if any(name not in said for name in part.entry.key):
            return None
        return Line(number, "/".join(said[name] for name in part.entry.key), said, sound)

    def _fault(self, part: Part, line: int, column: str | None, reason: str) -> None:
        self.report.fault_add(ImportFault(part.entry.name, part.name, self.sheet, line, column, reason))


def _digest_add(digest: "hashlib._Hash", entry: Entry, steps: Sequence[Step]) -> None:
    """Add the steps that change something: the row as it stands, and what it will be."""
    for step in steps:
        if step.values:
            stands = (step.standing.pk, step.standing.version) if step.standing else None
            told = json.dumps((entry.name, step.line.key, stands, step.values), sort_keys=True, default=str)
            digest.update(told.encode())


def _stored(entry: Entry, step: Step) -> dict[str, Any]:
    """Return the values of a step as a row holds them."""
    columns = columns_of(entry)
    return {columns[name].field.attname: step.ids.get(name, value) for name, value in step.values.items()}


def _blamed(entry: Entry, line: Line, reason: str) -> str:
    """Return the first column of a line that a reason names, or the last of its key."""
    text = reason.lower()
    return next((name for name in line.said if name in text or name.replace("_", " ") in text), entry.key[-1])


def _file_fault(entry: str, error: FileError) -> ImportFault:
    column = None if error.column is None else str(error.column)
    return ImportFault(entry, error.file, error.sheet, error.line, column, error.reason)


def _plain(values: Mapping[str, Any] | None) -> dict[str, Any] | None:
    """Return values as JSON holds them."""
    if values is None:
        return None
    return {name: str(value) if isinstance(value, date | Decimal) else value for name, value in values.items()}
