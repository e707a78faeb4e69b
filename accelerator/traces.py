"""The trace reader: csv or csv.gz in, Workload out, or one error that names file, line and column.

Columns ``arrival_s, input_tokens, output_tokens`` are needed, ``prefix_hashes``, ``client_id`` and ``priority`` are
read if present; any other column is ignored with one TraceWarning. Rows are read one by one, so memory holds the
numbers and one line.
"""

import csv
import gzip
import io
import math
import warnings
import zlib
from array import array
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO, NoReturn

import numpy as np

from accelerator.errors import TraceError, TraceWarning
from accelerator.requests import Workload

MAX_REQUESTS = 20_000_000
MAX_BYTE = 4 * 2**30
"""Most decompressed bytes that are read of one trace: a gzip bomb ends here. [byte]"""
MAX_LINE_BYTE = 2**20
MAX_GZIP_RATIO = 100
"""Decompressed by compressed bytes beyond which a gzip is no trace but a bomb; recorded traces have 2 to 4. [-]"""
GZIP_JUDGED_BYTE = 2**20
"""Decompressed bytes before that ratio is judged: short files of equal rows may compress well. [byte]"""
MAX_TOK = 100_000_000
"""Longest prompt or answer that is believed. [tok]"""

NEEDED = ("arrival_s", "input_tokens", "output_tokens")
OPTIONAL = ("prefix_hashes", "client_id", "priority")
MAX_PRIORITY = 1_000_000
_GZIP_MAGIC = b"\x1f\x8b"


def workload_read(
    path: str | Path, *, max_requests: int = MAX_REQUESTS, max_bytes: int = MAX_BYTE, name: str | None = None
) -> Workload:
    """Return the workload of a csv or csv.gz file.

    Parameters
    ----------
    path : str or Path
        Whether it is compressed is told from its content, not from its name.
    max_requests, max_bytes : int
        Guards: most rows, most decompressed bytes. count, [byte]
    name : str, optional
        Name of the workload; the file's name without its extensions if left out.

    Raises
    ------
    TraceError
        ``file.csv:17: column input_tokens: "x" is not a number``.
    """
    path = Path(path)
    try:
        with path.open("rb") as stream:
            workload = workload_parse(stream, str(path), max_requests=max_requests, max_bytes=max_bytes)
    except OSError as error:
        raise TraceError(str(path), None, None, error.strerror or "cannot be read") from error
    return replace(workload, name=name or path.name.removesuffix(".gz").removesuffix(".csv"))


def workload_parse(
    stream: BinaryIO, name: str, *, max_requests: int = MAX_REQUESTS, max_bytes: int = MAX_BYTE
) -> Workload:
    """Return the workload of an open binary stream, for instance an upload; see :func:`workload_read`.

    Parameters
    ----------
    stream : BinaryIO
        csv or gzip-compressed csv, UTF-8.
    name : str
        Name of the workload, and what errors call the file.
    """
    buffered = io.BufferedReader(stream)  # type: ignore[type-var]
    try:
        head = buffered.peek(2)[:2]
        if not head:
            raise TraceError(name, None, None, "the file is empty")
        if head == _GZIP_MAGIC:
            packed: _Packed | None = _Packed(buffered)
            plain: io.BufferedIOBase = gzip.GzipFile(fileobj=packed, mode="rb")  # type: ignore[arg-type]
        elif name.endswith(".gz"):
            raise TraceError(name, None, None, "not a gzip file, although its name ends in .gz")
        else:
            packed, plain = None, buffered
        return _Trace(plain, name, max_requests, max_bytes, packed).read()
    finally:
        buffered.detach()  # the stream is the caller's to close


class _Packed:
    """Compressed bytes on their way into gzip, counted: a pipe cannot say how far it was read."""

    def __init__(self, stream: io.BufferedIOBase) -> None:
        self.stream, self.read_byte = stream, 0

    def read(self, size: int = -1) -> bytes:
        chunk = self.stream.read(size)
        self.read_byte += len(chunk)
        return chunk


class _Trace:
    """One trace on its way in: where we are, and the columns so far."""

    def __init__(
        self, plain: io.BufferedIOBase, name: str, max_requests: int, max_bytes: int, packed: _Packed | None
    ) -> None:
        self.plain, self.name, self.max_requests, self.max_bytes = plain, name, max_requests, max_bytes
        self.packed = packed
        self.line = 0
        self.ignored: tuple[str, ...] = ()
        self.arrival_s, self.input_tok, self.output_tok = array("d"), array("q"), array("q")
        self.client_id, self.priority = array("q"), array("q")
        self.prefixes: list[tuple[int, ...]] = []

    def read(self) -> Workload:
        reader = csv.reader(self._lines(), strict=True)
        try:
            place = self._header(next(reader, None))
            self._rows(reader, place)
        except csv.Error as error:
            self._refuse(None, f"not valid csv: {error}")
        if not self.arrival_s:
            self._refuse(None, "a header, but no requests", whole=True)
        if not any(self.output_tok):
            self._refuse("output_tokens", "no output tokens in the whole file", whole=True)
        return Workload(
            name=self.name,
            arrival_s=np.frombuffer(self.arrival_s, dtype=np.float64),
            input_tok=np.frombuffer(self.input_tok, dtype=np.int64),
            output_tok=np.frombuffer(self.output_tok, dtype=np.int64),
            prefix_hashes=tuple(self.prefixes) if "prefix_hashes" in place else None,
            client_id=np.frombuffer(self.client_id, dtype=np.int64) if "client_id" in place else None,
            priority=np.frombuffer(self.priority, dtype=np.int64) if "priority" in place else None,
            ignored_columns=self.ignored,
        )

    def _lines(self) -> Iterator[str]:
        """Yield decoded lines; every way in which bytes can be bad is told with the line."""
        read_byte = 0
        while True:
            try:
                raw = self.plain.readline(MAX_LINE_BYTE + 1)
            except EOFError:
                self._refuse(None, f"the gzip data end early, after line {self.line}", whole=True)
            except (gzip.BadGzipFile, zlib.error) as error:
                self._refuse(None, f"damaged gzip data after line {self.line}: {error}", whole=True)
            if not raw:
                return
            self.line += 1
            read_byte += len(raw)
            if len(raw) > MAX_LINE_BYTE:
                self._refuse(None, f"a line longer than {MAX_LINE_BYTE} bytes")
            if read_byte > self.max_bytes:
                self._refuse(None, f"more than {self.max_bytes} bytes")
            if self.packed and read_byte > max(GZIP_JUDGED_BYTE, MAX_GZIP_RATIO * self.packed.read_byte):
                self._refuse(None, f"the gzip data expand more than {MAX_GZIP_RATIO} times: no trace does")
            if b"\0" in raw:
                self._refuse(None, "NUL bytes: not a csv text")
            try:
                yield raw.decode("utf-8-sig" if self.line == 1 else "utf-8")
            except UnicodeDecodeError:
                self._refuse(None, "not UTF-8 text")

    def _header(self, header: list[str] | None) -> dict[str, int]:
        if header is None:
            self._refuse(None, "the file is empty", whole=True)
        columns = [cell.strip() for cell in header]
        for column in NEEDED:
            if column not in columns:
                self._refuse(column, "missing")
        for column in (*NEEDED, *OPTIONAL):
            if columns.count(column) > 1:
                self._refuse(column, "appears twice")
        self.ignored = tuple(column for column in columns if column not in NEEDED and column not in OPTIONAL)
        if self.ignored:
            warnings.warn(TraceWarning(f"{self.name}: ignored columns: {', '.join(self.ignored)}"), stacklevel=4)
        self.width = len(columns)
        return {column: columns.index(column) for column in (*NEEDED, *OPTIONAL) if column in columns}

    def _rows(self, reader: Iterator[list[str]], place: dict[str, int]) -> None:
        at, at_in, at_out = (place[column] for column in NEEDED)
        at_prefix, at_client, at_priority = (place.get(column) for column in OPTIONAL)
        last_s = -math.inf
        for row in reader:
            if not row:
                continue  # a blank line
            if len(row) != self.width:
                column = next((name for name, cell in place.items() if cell >= len(row)), None)
                self._refuse(column, f"{len(row)} cells where the header has {self.width}")
            arrival_s = self._seconds(row[at])
            if arrival_s < last_s:
                self._refuse("arrival_s", f"{row[at]} is earlier than the row before ({last_s:.15g})")
            last_s = arrival_s
            if len(self.arrival_s) >= self.max_requests:
                self._refuse(None, f"more than {self.max_requests} requests")
            self.arrival_s.append(arrival_s)
            self.input_tok.append(self._count("input_tokens", row[at_in]))
            self.output_tok.append(self._count("output_tokens", row[at_out]))
            if at_client is not None:
                self.client_id.append(self._count("client_id", row[at_client], most=2**62))
            if at_priority is not None:
                self.priority.append(self._count("priority", row[at_priority], most=MAX_PRIORITY))
            if at_prefix is not None:
                self.prefixes.append(
                    tuple(self._count("prefix_hashes", part, most=2**62) for part in row[at_prefix].split())
                )

    def _seconds(self, cell: str) -> float:
        try:
            value = float(cell)
        except ValueError:
            value = math.nan
            self._refuse_number("arrival_s", cell)
        if not math.isfinite(value):
            self._refuse("arrival_s", f"{cell.strip()} is not a finite number")
        if value < 0:
            self._refuse("arrival_s", f"{cell.strip()} is negative")
        if "_" in cell:
            self._refuse_number("arrival_s", cell)
        return value

    def _count(self, column: str, cell: str, most: int = MAX_TOK) -> int:
        """Return a whole number >= 0; the first test is the common case and keeps long traces fast."""
        if cell.isascii() and cell.isdigit() and len(cell) < 19:
            value = int(cell)
        else:
            try:
                number = float(cell)
            except ValueError:
                number = math.nan
                self._refuse_number(column, cell)
            if not math.isfinite(number):
                self._refuse(column, f"{cell.strip()} is not a finite number")
            if number < 0:
                self._refuse(column, f"{cell.strip()} is negative")
            if "_" in cell or not number.is_integer():
                self._refuse(column, f"{cell.strip()} is not a whole number")
            value = int(number)
        if value > most:
            self._refuse(column, f"{cell.strip()} is more than {most}")
        return value

    def _refuse_number(self, column: str, cell: str) -> NoReturn:
        self._refuse(column, f'"{cell.strip()[:40]}" is not a number' if cell.strip() else "empty")

    def _refuse(self, column: str | None, reason: str, *, whole: bool = False) -> NoReturn:
        raise TraceError(self.name, None if whole else max(self.line, 1), column, reason)
