"""What every reader of a file shares: its limits, its cells, and how it says where something is wrong."""

import math
import re
from dataclasses import dataclass
from datetime import date

Value = str | int | float | bool | date | None
Row = dict[str, Value]


@dataclass(frozen=True)
class Limits:
    """How much of a stranger's file is read. Beyond it the file is refused, with the figure."""

    file_byte: int = 256 * 2**20
    rows: int = 2_000_000
    columns: int = 200
    cell_chars: int = 10_000
    row_byte: int = 2**20
    """Longest row that is held at once. [byte]"""
    unpacked_byte: int = 2**30
    """All parts of an archive together. [byte]"""
    ratio: float = 200.0
    """Unpacked by packed bytes of an archive or of one part; workbooks of equal rows reach 100. [-]"""
    entries: int = 10_000
    yaml_byte: int = 2**20
    yaml_depth: int = 20


LIMITS = Limits()


class FileError(ValueError):
    """A file that cannot be used, with the place.

    Parameters
    ----------
    file : str
        Path, or the name of the upload.
    reason : str
        What is wrong there, as a sentence for the person who gave the file.
    sheet : str or None
        Of a workbook.
    line : int or None
        1-based; the row number in a workbook. None if the whole file is meant.
    column : str, int or None
        Name of the column; in a document without columns the character's number in its line.
    """

    def __init__(
        self,
        file: str,
        reason: str,
        *,
        sheet: str | None = None,
        line: int | None = None,
        column: str | int | None = None,
    ) -> None:
        self.file, self.sheet, self.line, self.column, self.reason = file, sheet, line, column, reason
        place = file if sheet is None else f"{file}[{sheet}]"
        place = place if line is None else f"{place}:{line}"
        super().__init__(f"{place}: {reason}" if column is None else f"{place}: column {column}: {reason}")


@dataclass(frozen=True)
class RowFault:
    """A row that cannot be used, in the place of the row: the rows after it are read all the same."""

    line: int
    column: str | None
    reason: str


class CellError(ValueError):
    """A cell that cannot be used; whoever knows its place makes a RowFault of it."""


_SURROGATE = re.compile("[\ud800-\udfff]")


def check_text(text: str, limits: Limits) -> None:
    """Refuse text that is too long or that a database could not store."""
    if len(text) > limits.cell_chars:
        raise CellError(f"longer than {limits.cell_chars:,} characters")
    if "\0" in text:
        raise CellError("a NUL character: not text")
    if not text.isascii() and (half := _SURROGATE.search(text)):
        code = ord(half[0])
        raise CellError(
            f"not UTF-8 text (byte 0x{code - 0xDC00:02X})" if 0xDC80 <= code <= 0xDCFF else "half a surrogate pair"
        )


def check_columns(names: list[str], limits: Limits, places: list[str] | None = None) -> None:
    """Refuse a header that does not give each column one name; `places` are what to call those without a name."""
    if len(names) > limits.columns:
        raise CellError(f"{len(names):,} columns: at most {limits.columns} are read")
    seen: set[str] = set()
    for number, name in enumerate(names):
        check_text(name, limits)
        if not name:
            raise CellError(f"column {places[number] if places else number + 1} has no name")
        if name in seen:
            raise CellError(f'two columns are called "{name}"')
        seen.add(name)


NUMBER_DIGITS = 40
"""Longest whole number that is believed; 128 bits have 39 digits."""


def number_of(text: str) -> int | float:
    """Return the number that a JSON or spreadsheet cell holds as text."""
    digits = text.removeprefix("-")
    try:
        if digits.isascii() and digits.isdigit() and len(digits) <= NUMBER_DIGITS:
            return int(text)
        value = float(text) if "_" not in text else math.nan
    except ValueError:
        value = math.nan
    if math.isnan(value):
        raise CellError(f'"{text[:40]}" is not a number')
    if math.isinf(value) or digits.isdigit():
        raise CellError(f"{text[:40]} is too large a number")
    return value


# --- formula injection: a spreadsheet takes such text for a formula, whatever the file says ---
_FORMULA = re.compile(r"'*[=+\-@\t\r]")
_GUARDED = re.compile(r"'+[=+\-@\t\r]")


def formula_guard(text: str) -> str:
    """Put an apostrophe before text that a spreadsheet would run.

    Text that looks guarded already gets one more, so that :func:`formula_unguard` gives back exactly what was written.
    """
    return f"'{text}" if _FORMULA.match(text) else text


def formula_unguard(text: str) -> str:
    """Take off the apostrophe that :func:`formula_guard` put there."""
    return text[1:] if text.startswith("'") and _GUARDED.match(text) else text
