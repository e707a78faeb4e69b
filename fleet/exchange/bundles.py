"""Files from outside, split into tables of entries: one table, or the whole fleet in one file or folder."""

import io
import re
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from difflib import get_close_matches
from pathlib import Path
from typing import BinaryIO, NoReturn, cast

from fleet.files import LIMITS, FileError, Limits, TableReader, table_open
from fleet.files.sources import CHUNK_BYTE, Source, source_open
from fleet.inventory import INVENTORY, Entry

_TOP = re.compile(rb'\s*+("(?:[^"\\]++|\\.)*+"|[^\s"])', re.DOTALL)
_TO_BRACKET = re.compile(rb'((?:[^"\[\]{}]++|"(?:[^"\\]++|\\.)*+")*+[\[\]{}])', re.DOTALL)


@dataclass(frozen=True)
class Part:
    """The table of one entry in a file. Of an array in a larger text, also its bytes and the lines before it."""

    entry: Entry
    source: Path | BinaryIO
    name: str
    limits: Limits = LIMITS
    sheet: str | None = None
    first_byte: int = 0
    end_byte: int | None = None
    lines_before: int = 0

    @contextmanager
    def opened(self) -> Iterator[TableReader]:
        """Open the table anew. Its lines come after `lines_before`; a FileError raised inside names the file's own."""
        with ExitStack() as stack:
            source = self.source
            if self.end_byte is not None:
                stream = stack.enter_context(source.open("rb")) if isinstance(source, Path) else source
                window = _Window(stream, self.first_byte, self.end_byte)
                source = cast("BinaryIO", io.BufferedReader(window, CHUNK_BYTE))
            try:
                yield stack.enter_context(table_open(source, name=self.name, limits=self.limits, sheet=self.sheet))
            except FileError as error:
                if error.line is None or not self.lines_before:
                    raise
                line = self.lines_before + error.line
                raise FileError(error.file, error.reason, sheet=error.sheet, line=line, column=error.column) from error


def parts_of(source: Path | BinaryIO, *, name: str, limits: Limits = LIMITS) -> list[Part]:
    """Return the tables of a whole fleet, those first that others refer to.

    `source` is a folder of csv files called as their entries, a workbook with a sheet for each, or a json file with an
    array for each: `{"regions": [...], "sites": [...]}`. Raises FileError for what is none of these.
    """
    if isinstance(source, Path) and source.is_dir():
        parts = _folder_parts(source, limits)
    elif name.lower().endswith(".json"):
        parts = _json_parts(source, name, limits)
    elif name.lower().endswith(".xlsx"):
        parts = _sheet_parts(source, name, limits)
    else:
        raise FileError(name, "a whole fleet is a .json file, an .xlsx workbook or a folder of .csv files")
    if not parts:
        raise FileError(name, "holds no table of the fleet")
    order = list(INVENTORY)
    return sorted(parts, key=lambda part: order.index(part.entry.name))


def _folder_parts(folder: Path, limits: Limits) -> list[Part]:
    return [Part(_entry(path.stem, str(path)), path, str(path), limits) for path in sorted(folder.glob("*.csv"))]


def _sheet_parts(source: Path | BinaryIO, name: str, limits: Limits) -> list[Part]:
    with table_open(source, name=name, limits=limits) as table:
        sheets = table.sheets
    return [Part(_entry(sheet, name, sheet=sheet), source, name, limits, sheet) for sheet in sheets]


def _json_parts(source: Path | BinaryIO, name: str, limits: Limits) -> list[Part]:
    opened = source_open(source, name=name, most_byte=limits.file_byte)
    try:
        return [
            Part(
                _entry(array.name, name, line=array.lines_before + 1),
                source,
                name,
                limits,
                first_byte=array.first_byte,
                end_byte=array.end_byte,
                lines_before=array.lines_before,
            )
            for array in _Top(opened, limits).arrays()
        ]
    finally:
        opened.close()


def _entry(table: str, name: str, *, sheet: str | None = None, line: int | None = None) -> Entry:
    """Return the entry that a table is called by, or refuse the file."""
    if table in INVENTORY:
        return INVENTORY[table]
    close = get_close_matches(table.lower().replace("_", "-"), INVENTORY, n=1, cutoff=0.5)
    hint = f'did you mean "{close[0]}"?' if close else f"there are: {', '.join(INVENTORY)}"
    raise FileError(name, f'"{table[:60]}" is no table of the fleet; {hint}', sheet=sheet, line=line)


@dataclass(frozen=True)
class _Array:
    """Where an array of a json text lies."""

    name: str
    first_byte: int
    end_byte: int
    lines_before: int


class _Top:
    """The top of a json text, read for its arrays alone: what is in them, the reader of tables judges."""

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source, self.limits = source, limits
        self.text, self.at, self.byte, self.lines = b"", 0, 0, 0
        source.stream.seek(0)
        if source.stream.read(3) == b"\xef\xbb\xbf":
            self.byte = 3
        source.stream.seek(self.byte)

    def arrays(self) -> Iterator[_Array]:
        """Yield the arrays that hold something."""
        seen: set[str] = set()
        self._expect("{")
        mark = self._token()
        while mark != "}":
            if not mark.startswith('"'):
                self._refuse(f"{mark[:20] or 'the end of the file'} where the name of a table is expected")
            name = mark[1:-1]
            if name in seen:
                self._refuse(f'"{name[:60]}" is given twice')
            seen.add(name)
            self._expect(":")
            self._expect("[")
            first_byte, lines = self.byte - 1, self.lines
            if self._skip():
                yield _Array(name, first_byte, self.byte, lines)
            mark = self._token()
            if mark == ",":
                mark = self._token()
                if mark == "}":
                    self._refuse("a comma before the closing brace")
            elif mark != "}":
                self._refuse(f"{mark[:20] or 'the end of the file'} where a comma or }} is expected")
        if self._token():
            self._refuse("text behind the end of the JSON value")

    def _skip(self) -> bool:
        """Go behind the end of the array that has begun; return whether anything is in it."""
        depth, filled = 1, False
        while depth:
            run = self._take(_TO_BRACKET)
            if run is None:
                self._refuse("the file ends before its arrays do")
            depth += 1 if run[-1:] in b"[{" else -1
            filled = filled or depth > 0 or len(run.strip()) > 1
        return filled

    def _expect(self, mark: str) -> None:
        found = self._token()
        if found != mark:
            self._refuse(f"{found[:20] or 'the end of the file'} where {mark} is expected")

    def _token(self) -> str:
        """Return the next string or character that is no white space; "" at the end of the file."""
        found = self._take(_TOP)
        return "" if found is None else found.decode("utf-8", "replace")

    def _take(self, pattern: re.Pattern[bytes]) -> bytes | None:
        """Return what a pattern finds from here on, and go behind it; None if the file ends before."""
        while not (found := pattern.match(self.text, self.at)):
            if len(self.text) - self.at > self.limits.row_byte:
                self._refuse(f"a value longer than {self.limits.row_byte:,} bytes")
            more = self.source.stream.read(max(CHUNK_BYTE, len(self.text) - self.at))
            self.text, self.at = self.text[self.at :] + more, 0
            if not more:
                if self.text.strip():
                    self._refuse("the file ends before its last value does")
                return None
        self.lines += self.text.count(b"\n", self.at, found.end())
        self.byte += found.end() - self.at
        self.at = found.end()
        return found[1]

    def _refuse(self, reason: str) -> NoReturn:
        raise self.source.error(reason, line=self.lines + 1)


class _Window(io.RawIOBase):
    """A part of a file as a file of its own."""

    def __init__(self, stream: BinaryIO, first_byte: int, end_byte: int) -> None:
        super().__init__()
        self.stream, self.first_byte, self.end_byte, self.at = stream, first_byte, end_byte, first_byte

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def seekable(self) -> bool:
        """And may be read again."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place of the part."""
        start = {io.SEEK_SET: self.first_byte, io.SEEK_CUR: self.at, io.SEEK_END: self.end_byte}[whence]
        self.at = start + offset
        return self.at - self.first_byte

    def tell(self) -> int:
        """Return the place in the part."""
        return self.at - self.first_byte

    def readinto(self, buffer: bytearray) -> int:  # type: ignore[override]
        """Read as much as the part still has."""
        self.stream.seek(self.at)
        found = self.stream.read(max(0, min(len(buffer), self.end_byte - self.at)))
        buffer[: len(found)] = found
        self.at += len(found)
        return len(found)
