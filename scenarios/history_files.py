"""A demand history out of a file: csv or csv.gz in, History out, or every fault with its line and column."""

import gzip
import io
import math
import zlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import BinaryIO

import numpy as np

from fleet.files import FileError, Limits, Row, RowFault, Value, table_open
from fleet.files.places import number_of
from scenarios.histories import COLUMNS, WINDOWS_MOST, History, HistoryError, check_window, history_of_windows

FILE_MOST_BYTE = 2**26
GZIP_RATIO_MOST = 100
"""Unpacked by packed bytes beyond which a gzip is no history but a bomb; rate series have 4 to 6. [-]"""
GZIP_JUDGED_BYTE = 2**20
FAULTS_TOLD = 100
LIMITS = Limits(file_byte=FILE_MOST_BYTE, rows=WINDOWS_MOST + 1, columns=50, cell_chars=100, row_byte=2**16)
RATE_MOST_S, TOK_MOST = 1e9, 1e8

START, OFFSET = "window_start", "window_start_s"
NAMES: Mapping[str, tuple[str, ...]] = {
    "request_s": ("request_s", "rate_rps"),
    "input_tok": ("input_tok", "input_tokens"),
    "output_tok": ("output_tok", "output_tokens"),
    "top_client_ratio": ("top_client_ratio", "top_client_share"),
    "cache_hit_ratio": ("cache_hit_ratio",),
}
"""What a column may be called in a file."""
MOST: Mapping[str, float] = {
    "request_s": RATE_MOST_S,
    "input_tok": TOK_MOST,
    "output_tok": TOK_MOST,
    "top_client_ratio": 1.0,
    "cache_hit_ratio": 1.0,
}


@dataclass(frozen=True, slots=True)
class HistoryFault:
    """What is wrong in a file, and where."""

    line: int | None
    column: str | None
    reason: str


class HistoryFaultsError(Exception):
    """Rows of a file are wrong: none of it is kept. Holds the first hundred, and how many there are."""

    def __init__(self, name: str, faults: list[HistoryFault], total: int) -> None:
        self.name, self.faults, self.total = name, faults, total
        first = faults[0]
        place = f"{name}:{first.line}" if first.line else name
        column = f": column {first.column}" if first.column else ""
        more = f" (and {total - 1:,} more)" if total > 1 else ""
        super().__init__(f"{place}{column}: {first.reason}{more}")


@dataclass(frozen=True, slots=True)
class HistoryRead:
    """A history with the columns that were passed over."""

    history: History
    ignored: tuple[str, ...]

    @property
    def note(self) -> str:
        """Say what was passed over."""
        return f"ignored columns: {', '.join(self.ignored)}"[:300] if self.ignored else ""


def history_read(
    stream: BinaryIO, name: str, *, starts_at: datetime | None = None, window_s: int | None = None
) -> HistoryRead:
    """Return the history in an open binary file.

    Parameters
    ----------
    stream : BinaryIO
        csv or gzip-compressed csv, UTF-8, a row for each window in any order; windows without a row are not known.
    name : str
        What errors call the file.
    starts_at : datetime, optional
        Moment from which `window_start_s` counts; needed with that column, and not allowed with `window_start`.
    window_s : int, optional
        Length of a window; the least distance of two rows if left out. [s]

    Raises
    ------
    FileError
        The file as a whole is none to read.
    HistoryFaultsError
        Rows are wrong; every one is counted.
    """
    plain = _unpacked(stream, name)
    try:
        return _Reader(plain, name, starts_at, window_s).read()
    except HistoryError as error:
        raise FileError(name, str(error)) from error


def _unpacked(stream: BinaryIO, name: str) -> BinaryIO:
    """Return the file without compression, in memory, within the limits."""
    data = stream.read(FILE_MOST_BYTE + 1)
    if len(data) > FILE_MOST_BYTE:
        raise FileError(name, f"more than {FILE_MOST_BYTE:,} bytes")
    if data[:2] != b"\x1f\x8b":
        if name.endswith(".gz"):
            raise FileError(name, "not a gzip file, although its name ends in .gz")
        return io.BytesIO(data)
    most = min(FILE_MOST_BYTE, max(GZIP_JUDGED_BYTE, GZIP_RATIO_MOST * len(data)))
    try:
        plain = gzip.GzipFile(fileobj=io.BytesIO(data)).read(most + 1)
    except (EOFError, gzip.BadGzipFile, zlib.error) as error:
        raise FileError(name, f"damaged gzip data: {error}") from error
    if len(plain) > most:
        raise FileError(name, f"the gzip data expand beyond {most:,} bytes: no history does")
    return io.BytesIO(plain)


class _Reader:
    """One file on its way in: what was read, and what was wrong."""

    def __init__(self, plain: BinaryIO, name: str, starts_at: datetime | None, window_s: int | None) -> None:
        self.name, self.starts_at, self.window_s = name, starts_at, window_s
        self.table = table_open(plain, name=name.removesuffix(".gz"), limits=LIMITS)
        if self.table.format != "csv":
            raise FileError(name, "a csv or csv.gz file is needed")
        if window_s is not None:
            check_window(window_s)
        self.faults: list[HistoryFault] = []
        self.total = 0

    def read(self) -> HistoryRead:
        """Read it all, or raise with every fault."""
        place, when = self._header()
        lines: list[int] = []
        starts: list[int] = []
        columns: dict[str, list[float]] = {name: [] for name in place}
        for row in self._rows():
            line, cells = row
            start = self._cell(line, when, cells[when], self._offset if when == OFFSET else self._moment)
            values = {name: self._number(line, name, column, cells[column]) for name, column in place.items()}
            if start is None or None in values.values():
                continue
            lines.append(line)
            starts.append(int(start))
            for name, value in values.items():
                columns[name].append(float(value))  # type: ignore[arg-type]
        if not starts and not self.faults:
            raise FileError(self.name, "a header, but no windows")
        try:
            window_s = self._window(starts)
            self._grid(lines, starts, when, window_s)
        except HistoryError:
            if not self.faults:  # else the rows that are wrong are why
                raise
        if self.faults:
            raise HistoryFaultsError(self.name, self.faults, self.total)
        arrays = {name: np.array(values) for name, values in columns.items()}
        history = history_of_windows(np.array(starts, dtype=np.int64), arrays, window_s)
        used = {when, *place.values()}
        return HistoryRead(history, tuple(column for column in self.table.columns if column not in used))

    def _header(self) -> tuple[dict[str, str], str]:
        """Return which column holds what, and the one that says when."""
        columns = self.table.columns
        place: dict[str, str] = {}
        for name in COLUMNS:
            found = [column for column in NAMES[name] if column in columns]
            if len(found) > 1:
                raise FileError(self.name, f"{found[0]} and {found[1]} say the same", line=1)
            if found:
                place[name] = found[0]
        if "request_s" not in place:
            raise FileError(self.name, "missing", line=1, column=NAMES["request_s"][0])
        times = [column for column in (START, OFFSET) if column in columns]
        if len(times) != 1:
            reason = f"both {START} and {OFFSET}: give one" if times else f"missing; {OFFSET} with a start will do too"
            raise FileError(self.name, reason, line=1, column=None if times else START)
        if times[0] == OFFSET and self.starts_at is None:
            raise FileError(self.name, "counts from a moment that is not given: name the start", line=1, column=OFFSET)
        if times[0] == START and self.starts_at is not None:
            raise FileError(self.name, "is a moment by itself: give no start", line=1, column=START)
        return place, times[0]

    def _rows(self) -> Iterator[tuple[int, Row]]:
        for row in self.table:
            if isinstance(row, RowFault):
                self._fault(row.line, row.column, row.reason)
            else:
                yield row

    def _fault(self, line: int | None, column: str | None, reason: str) -> None:
        self.total += 1
        if len(self.faults) < FAULTS_TOLD:
            self.faults.append(HistoryFault(line, column, reason))

    def _cell(self, line: int, column: str, cell: Value, read: Callable[[str], float]) -> float | None:
        try:
            return read("" if cell is None else str(cell))
        except ValueError as error:
            self._fault(line, column, str(error))
            return None

    def _number(self, line: int, name: str, column: str, cell: Value) -> float | None:
        def read(text: str) -> float:
            if not text and name != "request_s":
                return math.nan
            value = float(number_of(text.strip()))
            if not 0 <= value <= MOST[name]:
                raise ValueError(f"{text} is not between 0 and {MOST[name]:g}")
            return value

        return self._cell(line, column, cell, read)

    def _offset(self, text: str) -> float:
        value = float(number_of(text.strip()))
        if value != math.floor(value):
            raise ValueError(f"{text} is not a whole number of seconds")
        assert self.starts_at is not None  # noqa: S101 -- the header asked for it
        return self.starts_at.timestamp() + value

    def _moment(self, text: str) -> float:
        moment = moment_of(text)
        return moment.timestamp()

    def _window(self, starts: list[int]) -> int:
        if self.window_s is not None:
            return self.window_s
        steps = np.diff(np.unique(starts))
        if not len(steps):
            raise HistoryError("one window only: say how long it is")
        found = int(steps.min())
        check_window(found)
        return found

    def _grid(self, lines: list[int], starts: list[int], column: str, window_s: int) -> None:
        """Refuse windows that are there twice, or that lie between two."""
        seen: dict[int, int] = {}
        for line, start in zip(lines, starts, strict=True):
            if start % window_s:
                self._fault(line, column, f"does not begin at a whole number of windows of {window_s} s")
            elif start in seen:
                self._fault(line, column, f"the same window as in line {seen[start]}")
            seen.setdefault(start, line)


def moment_of(text: str) -> datetime:
    """Return an ISO 8601 moment with its zone, at a whole second."""
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError as error:
        raise ValueError(f'"{text[:40]}" is no moment such as 2027-01-31T00:00:00Z') from error
    if moment.tzinfo is None:
        raise ValueError(f"{text[:40]} has no time zone: end it with Z or an offset")
    if moment.microsecond:
        raise ValueError(f"{text[:40]} is not at a whole second")
    return moment
