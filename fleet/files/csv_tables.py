"""CSV with a header: RFC 4180, UTF-8, commas. Cells stay text; an empty cell is None."""

import csv
import os
from collections.abc import Iterator
from typing import NoReturn

from fleet.files.places import CellError, Limits, RowFault, Value, check_columns, formula_unguard
from fleet.files.sources import CHUNK_BYTE, Source, check_encoding

REREAD_BYTE = 2**25
"""Most that is read again after quotes that do not close, all of a file's together. [byte]"""
BLANK_LINES = 1000
"""Most blank lines before a header."""


class _LineTooLongError(Exception):
    """One physical line is longer than a row may be; the lines after it can be read."""


class _RowTooLongError(Exception):
    """A quote has stayed open for longer than a row may be."""


class _Lines:
    """Decoded lines on their way into `csv.reader`, with the place of the row that is being read."""

    def __init__(self, source: Source, row_byte: int) -> None:
        self.stream, self.row_byte = source.stream, row_byte
        self.line = self.offset = self.reread = self.held = self.second = 0
        self.stream.seek(0)

    def __iter__(self) -> "_Lines":
        return self

    def __next__(self) -> str:
        raw = self.stream.readline(self.row_byte + 1)
        if not raw:
            raise StopIteration
        self.line += 1
        self.offset += len(raw)
        if not self.held:
            self.second = self.offset
        self.held += len(raw)
        if len(raw) > self.row_byte:
            self._skip_line(raw)
            raise _LineTooLongError
        if self.held > self.row_byte:
            raise _RowTooLongError
        try:
            return raw.decode("utf-8-sig" if self.line == 1 else "utf-8")
        except UnicodeDecodeError:  # a cell tells its bad bytes by the surrogates they become
            return raw.decode("utf-8", "surrogateescape")

    def row_begin(self) -> int:
        """Forget the row before; return the line where the next one begins."""
        self.held = 0
        return self.line + 1

    def row_retreat(self, first: int) -> bool:
        """Go back to the second line of a row whose quotes do not close. False if that was done too much."""
        self.reread += self.offset - self.second
        if self.reread > REREAD_BYTE:
            return False
        self.line, self.offset = first, self.second
        self.stream.seek(self.second, os.SEEK_SET)
        return True

    def _skip_line(self, raw: bytes) -> None:
        while raw and not raw.endswith(b"\n"):
            raw = self.stream.readline(CHUNK_BYTE)
            self.offset += len(raw)
        self.second = self.offset


class CsvTable:
    """A CSV file whose header is sound."""

    sheets: tuple[str, ...] = ()
    sheet = None

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source, self.limits = source, limits
        lines = _Lines(source, limits.row_byte)
        reader = csv.reader(lines, strict=True)
        header: list[str] | None = []
        first = 1
        try:
            while header is not None and not any(header):
                first = lines.row_begin()
                if first > BLANK_LINES:
                    self._refuse_header(lines, first, f"no header within the first {BLANK_LINES:,} lines")
                header = next(reader, None)
        except (_LineTooLongError, _RowTooLongError):
            self._refuse_header(lines, first, f"no header within {limits.row_byte:,} bytes")
        except csv.Error as error:
            self._refuse_header(lines, first, f"in the header: {_reason(error)}")
        check_encoding(source, lines.offset)
        self.header_line = lines.line
        if header is None:
            raise source.error("no header: every line is blank", line=1)
        names = [formula_unguard(name).strip() for name in header]
        try:
            check_columns(names, limits)
        except CellError as error:
            raise source.error(str(error), line=first) from error
        for mark, what in ((";", "semicolons"), ("\t", "tabs")):
            if len(names) == 1 and mark in names[0]:
                raise source.error(f"the header is separated by {what}: use commas", line=first)
        self.columns = tuple(names)

    def _refuse_header(self, lines: _Lines, first: int, reason: str) -> NoReturn:
        check_encoding(self.source, min(lines.offset, self.limits.row_byte))  # what is not text is no csv either
        raise self.source.error(reason, line=first)

    def rows(self) -> Iterator[tuple[int, list[Value]] | RowFault]:
        """Yield the line where a row begins and its cells, or what is wrong with it."""
        lines = _Lines(self.source, self.limits.row_byte)
        reader = csv.reader(lines, strict=True)
        width = len(self.columns)
        while True:
            first = lines.row_begin()
            try:
                cells = next(reader, None)
            except _LineTooLongError:
                yield RowFault(first, None, f"a line longer than {self.limits.row_byte:,} bytes")
                continue
            except (_RowTooLongError, csv.Error) as error:
                yield self._unbalanced(lines, first, error)
                continue
            if cells is None:
                return
            if first <= self.header_line or not cells:
                continue  # the header, or a blank line
            if len(cells) != width:
                until = f", in lines {first} to {lines.line}" if lines.line > first else ""
                column = self.columns[len(cells)] if len(cells) < width else None
                yield RowFault(first, column, f"{len(cells):,} cells where the header has {width}{until}")
            elif any(cells):  # a row of empty cells is what spreadsheets make of a blank line
                yield first, [formula_unguard(cell) or None for cell in cells]

    def _unbalanced(self, lines: _Lines, first: int, error: Exception) -> RowFault:
        """Return the fault of a row that is not csv, with the lines set to go on behind its first line."""
        if isinstance(error, csv.Error):
            reason = _reason(error)
        else:
            reason = f"a quote is not closed within {self.limits.row_byte:,} bytes"
        if lines.line > first and not lines.row_retreat(first):
            raise self.source.error(f"{reason}; too many such rows to go on", line=first)
        return RowFault(first, None, reason)


def _reason(error: csv.Error) -> str:
    """Return in our words what the csv module found."""
    found = str(error)
    if "unexpected end" in found:
        return "a quote is not closed before the end of the file"
    if "new-line" in found:
        return "a carriage return outside of quotes: end lines by a line feed"
    return "a quote is not closed, or a cell is too long" if "limit" in found else f"unbalanced quotes: {found}"
