"""The long-form tables of accelerator/data: one figure per row, each with unit, source and date of reading.

Text in a file is converted once, here: GiB, GB/s and TFLOP/s become byte, byte/s and flop/s. A wrong row is an error
that names file, line and column, for our own files and for those of a user.
"""

import csv
import io
import math
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from pathlib import Path
from types import MappingProxyType

from accelerator.errors import DataFileError
from accelerator.units import GIB, GIGA, TERA

UNITS: Mapping[str, tuple[float, str]] = MappingProxyType({
    "TFLOP/s": (TERA, "flop/s"),
    "GiB": (GIB, "byte"), "MiB": (2**20, "byte"), "byte": (1.0, "byte"),
    "GB/s": (GIGA, "byte/s"), "Gbit/s": (GIGA / 8, "byte/s"),
    "s": (1.0, "s"), "ms": (1e-3, "s"), "us": (1e-6, "s"), "1/s": (1.0, "1/s"),
    "W": (1.0, "W"), "USD": (1.0, "USD"), "count": (1.0, "count"), "tok": (1.0, "tok"), "1": (1.0, "1"),
})  # fmt: skip
"""Unit written in a file: factor to the base unit used inside, and that unit."""

CONFIDENCES = ("official", "press", "measured", "derived", "estimate", "assumed")

FIGURE_COLUMNS = ("item", "quantity", "value", "low", "high", "unit", "source", "confidence", "read_on")

FILE_LIMIT_BYTE = 1_000_000
"""No table of facts that a person writes is larger; beyond it a file is not read."""

Row = Mapping[str, str]


@dataclass(frozen=True, slots=True)
class Figure:
    """One fact: a value in base units, the range it lies in, and where it came from.

    Parameters
    ----------
    value : float
        Central value, in ``unit``.
    low, high : float
        Range read as P10 and P90; equal to the value for an exact figure.
    unit : str
        Base unit: flop/s, byte, byte/s, W, USD, s, count or 1.
    source, confidence : str
        Where it was read; official, press, measured, derived, estimate or assumed.
    read_on : datetime.date
        Day on which the source was read.
    """

    value: float
    low: float
    high: float
    unit: str
    source: str
    confidence: str
    read_on: date

    def __post_init__(self) -> None:
        if not 0 <= self.low <= self.value <= self.high:
            raise DataFileError(
                f"a figure must lie in its range: {self.low}, {self.value}, {self.high} ({self.source})"
            )

    @property
    def exact(self) -> bool:
        """True if no range is stated."""
        return self.low == self.high


def facts_read(file_name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and row of one file of accelerator/data.

    Parameters
    ----------
    file_name : str
        For instance ``chips.csv``.

    Yields
    ------
    tuple of (int, dict)
        1-based line (the header is line 1) and the cells by column name.
    """
    text = resources.files("accelerator").joinpath("data", file_name).read_text(encoding="utf-8")
    return rows_parse(text, f"accelerator/data/{file_name}")


def rows_parse(text: str, name: str, columns: Iterable[str] = ()) -> Iterator[tuple[int, dict[str, str]]]:
    """Yield line number and row of the text of a CSV file.

    Parameters
    ----------
    text, name : str
        The text; what errors call the file.
    columns : iterable of str, optional
        Columns that the header must name, in any order and with no others; if left out, any header does.
    """
    reader = csv.DictReader(io.StringIO(text, newline=""), strict=True)
    try:
        header = reader.fieldnames or []
        wanted = list(columns)
        if wanted and sorted(header) != sorted(wanted):
            raise DataFileError(f"{name}:1: the columns must be {','.join(wanted)}")
        for row in reader:
            if None in row or None in row.values():
                raise DataFileError(f"{name}:{reader.line_num}: wrong number of cells")
            yield reader.line_num, row
    except csv.Error as error:
        raise DataFileError(f"{name}:{reader.reader.line_num}: {error}") from error  # the row that could not be read


def facts_by_item(file_name: str) -> dict[str, dict[str, dict[str, str]]]:
    """Return ``{item: {quantity: row}}`` of a long-form file; a figure given twice is an error."""
    return rows_by_item(facts_read(file_name), f"accelerator/data/{file_name}")


def facts_by_item_of(path: str | Path) -> dict[str, dict[str, dict[str, str]]]:
    """Return ``{item: {quantity: row}}`` of a user's file with the columns of a table of figures.

    Raises
    ------
    DataFileError
        If it cannot be read, is larger than ``FILE_LIMIT_BYTE`` or is not UTF-8 text; of a wrong row with its place.
    """
    try:
        with Path(path).open("rb") as file:
            data = file.read(FILE_LIMIT_BYTE + 1)  # a pipe or a device has no size to ask for
    except OSError as error:
        raise DataFileError(f"{path}: {error.strerror}") from error
    if len(data) > FILE_LIMIT_BYTE:
        raise DataFileError(f"{path}: larger than {FILE_LIMIT_BYTE / 1e6:g} MB")
    try:
        text = data.decode("utf-8-sig")  # spreadsheets write the mark
    except UnicodeDecodeError as error:
        raise DataFileError(f"{path}: not text in UTF-8") from error
    return rows_by_item(rows_parse(text, str(path), FIGURE_COLUMNS), str(path))


def rows_by_item(rows: Iterable[tuple[int, dict[str, str]]], name: str) -> dict[str, dict[str, dict[str, str]]]:
    """Return ``{item: {quantity: row}}``; each row gets its ``place``, file and line, for errors."""
    items: dict[str, dict[str, dict[str, str]]] = {}
    for line, row in rows:
        row["place"] = f"{name}:{line}"
        quantities = items.setdefault(row["item"], {})
        if row["quantity"] in quantities:
            raise row_error(row, "quantity", f"{row['item']} {row['quantity']} is given twice")
        for column in ("unit", "source"):
            if not row[column]:
                raise row_error(row, column, "a figure without unit or source does not enter")
        quantities[row["quantity"]] = row
    return items


def row_error(row: Row, column: str, reason: str) -> DataFileError:
    """Return the error of one cell: file, line, column and reason."""
    return DataFileError(f"{row['place']}: column {column}: {reason}")


def figure_parse(row: Row) -> Figure:
    """Return the Figure of one row, in base units; blank low and high mean exact.

    Raises
    ------
    DataFileError
        With file, line and column, if the row was read by :func:`facts_by_item`.
    """
    row = {"place": "a row", **row}
    if row["unit"] not in UNITS:
        raise row_error(row, "unit", f'unknown unit "{row["unit"]}"; known are {", ".join(UNITS)}')
    if row["confidence"] not in CONFIDENCES:
        raise row_error(row, "confidence", f'"{row["confidence"]}" is none of {", ".join(CONFIDENCES)}')
    try:
        read_on = date.fromisoformat(row["read_on"])
    except ValueError as error:
        raise row_error(row, "read_on", f'"{row["read_on"]}" is not a date like 2026-11-23') from error
    value = _number(row, "value")
    low = _number(row, "low") if row["low"] else value
    high = _number(row, "high") if row["high"] else value
    for column, outside in (("low", low > value), ("high", high < value)):
        if outside:
            raise row_error(row, column, f"a figure must lie in its range: {low:g}, {value:g}, {high:g}")
    factor, unit = UNITS[row["unit"]]
    return Figure(value * factor, low * factor, high * factor, unit, row["source"], row["confidence"], read_on)


def _number(row: Row, column: str) -> float:
    try:
        value = float(row[column])
    except ValueError as error:
        raise row_error(row, column, f'"{row[column]}" is not a number') from error
    if not 0 <= value < math.inf:  # also catches NaN
        raise row_error(row, column, f'"{row[column]}" is not a number from 0 up')
    return value


@cache
def aliases_load() -> Mapping[str, tuple[str, str]]:
    """Return ``{name in lower case: (slug, note)}``; an empty slug: known, but not held, and the note says why."""
    aliases: dict[str, tuple[str, str]] = {}
    for line, row in facts_read("aliases.csv"):
        name = row["name"].lower()
        if aliases.setdefault(name, (row["slug"], row["note"]))[0] != row["slug"]:
            raise DataFileError(f"accelerator/data/aliases.csv:{line}: {row['name']} means two things")
    return MappingProxyType(aliases)
