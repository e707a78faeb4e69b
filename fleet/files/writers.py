"""Tables on their way out, row by row: what is written here, `table_open` reads back as it was.

Text that a spreadsheet would take for a formula is guarded by an apostrophe in csv and xlsx. None and empty text are
both the empty cell. A date is text in csv and json; a datetime with a zone is text everywhere.
"""

import csv
import io
import json
import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from datetime import date, datetime
from pathlib import Path
from typing import BinaryIO

from openpyxl import Workbook
from openpyxl.cell import Cell, WriteOnlyCell
from openpyxl.worksheet._write_only import WriteOnlyWorksheet

from fleet.files.places import LIMITS, CellError, Value, check_columns, formula_guard
from fleet.files.sheets import MAX_COLUMN, MAX_LINE

CHUNK_CHARS = 2**16
SHEET_CELL_CHARS = 32_767
"""Longest text of a cell in Excel; openpyxl would cut it without a word."""
SHEET_NAME_CHARS = 31
SHEET_DATES_FROM = date(1900, 3, 1)
"""Before, Excel counts a day that was not; such dates are written as text."""

Sheet = tuple[str, Sequence[str], Iterable[Mapping[str, Value]]]
"""Name, columns and rows."""

_NO_XML = re.compile("[\x00-\x08\x0b-\x1f\ufffe\uffff]|_(?=x[0-9A-Fa-f]{4}_)")


def csv_write(columns: Sequence[str], rows: Iterable[Mapping[str, Value]]) -> Iterator[bytes]:
    """Return the chunks of a csv file: UTF-8, a header, commas."""
    names = _names(columns)

    def chunks() -> Iterator[bytes]:
        text = io.StringIO(newline="")
        writer = csv.writer(text, lineterminator="\r\n")
        writer.writerow(formula_guard(name) for name in names)
        for cells in _rows(names, rows):
            writer.writerow([_csv_cell(cell) for cell in cells])
            if text.tell() > CHUNK_CHARS:
                yield _drain(text)
        yield _drain(text)

    return chunks()


def json_write(columns: Sequence[str], rows: Iterable[Mapping[str, Value]]) -> Iterator[bytes]:
    """Return the chunks of a json file: an array with one object per line."""
    names = _names(columns)

    def chunks() -> Iterator[bytes]:
        text = io.StringIO()
        mark = "[\n"
        for cells in _rows(names, rows):
            plain = [cell.isoformat() if isinstance(cell, date) else cell for cell in cells]
            text.write(mark + json.dumps(dict(zip(names, plain, strict=True)), ensure_ascii=False))
            mark = ",\n"
            if text.tell() > CHUNK_CHARS:
                yield _drain(text)
        text.write("[]\n" if mark == "[\n" else "\n]\n")
        yield _drain(text)

    return chunks()


def xlsx_write(
    columns: Sequence[str],
    rows: Iterable[Mapping[str, Value]],
    target: str | Path | BinaryIO,
    *,
    sheet: str = "Sheet1",
) -> None:
    """Write a workbook of one sheet."""
    book_write([(sheet, columns, rows)], target)


def book_write(sheets: Iterable[Sheet], target: str | Path | BinaryIO) -> None:
    """Write a workbook. Rows go through temporary files; the target is written when all are there."""
    book = Workbook(write_only=True)
    try:
        for name, columns, rows in sheets:
            _sheet_write(book, name, _names(columns), rows)
        book.save(target)
    except BaseException:
        for page in book.worksheets:
            if not page.closed:
                page.close()
            page._writer.cleanup()  # noqa: SLF001 -- openpyxl removes these files only when it saves
        raise


def _sheet_write(book: Workbook, name: str, columns: list[str], rows: Iterable[Mapping[str, Value]]) -> None:
    if not 0 < len(name) <= SHEET_NAME_CHARS:
        raise ValueError(f'a sheet cannot be called "{name}": 1 to {SHEET_NAME_CHARS} characters')
    page = book.create_sheet(name)
    page.append([_text_cell(page, column) for column in columns])
    for line, cells in enumerate(_rows(columns, rows), 2):
        if line > MAX_LINE:
            raise ValueError(f"{name}: a sheet holds at most {MAX_LINE:,} rows")
        page.append([_sheet_cell(page, column, line, cell) for column, cell in zip(columns, cells, strict=True)])
    page.close()


def _names(columns: Sequence[str]) -> list[str]:
    names = list(columns)
    try:
        if not names or len(names) > MAX_COLUMN:
            raise CellError(f"{len(names)} columns")
        check_columns(names, LIMITS)
        for name in names:
            if name != name.strip():
                raise CellError(f'the column "{name}" begins or ends with a blank')
    except CellError as error:
        raise ValueError(str(error)) from error
    return names


def _rows(names: list[str], rows: Iterable[Mapping[str, Value]]) -> Iterator[list[Value]]:
    """Yield the cells of each row in the order of the columns; one that is missing is None."""
    known = set(names)
    for line, row in enumerate(rows, 2):
        if unknown := row.keys() - known:
            raise ValueError(f"line {line}: no column {', '.join(sorted(unknown))}")
        cells = []
        for name in names:
            try:
                cells.append(_plain(row.get(name)))
            except (ValueError, TypeError) as error:
                raise type(error)(f"line {line}: column {name}: {error}") from error
        yield cells


def _plain(cell: Value) -> Value:
    """Return a value that prints as it is: an enumeration or a number of numpy is a number too, but not to `repr`."""
    if isinstance(cell, float):
        if not math.isfinite(cell):
            raise ValueError(f"{cell} is not a finite number")
        return float(cell)
    if isinstance(cell, str):
        if "\0" in cell:
            raise ValueError("a NUL character")
        return str.__str__(cell)
    if isinstance(cell, int) and not isinstance(cell, bool):
        return int(cell)
    if cell is not None and not isinstance(cell, (bool, date)):
        raise TypeError(f"a {type(cell).__name__} is no cell")
    return cell


def _drain(text: io.StringIO) -> bytes:
    chunk = text.getvalue().encode()
    text.seek(0)
    text.truncate()
    return chunk


def _csv_cell(cell: Value) -> str | int | float | None:
    if isinstance(cell, str):
        return formula_guard(cell)
    if isinstance(cell, bool):
        return "true" if cell else "false"
    return cell.isoformat() if isinstance(cell, date) else cell


def _sheet_cell(page: WriteOnlyWorksheet, name: str, line: int, cell: Value) -> Cell | bool | date | None:
    if isinstance(cell, str):
        try:
            return _text_cell(page, cell)
        except CellError as error:
            raise ValueError(f"line {line}: column {name}: {error}") from error
    if isinstance(cell, (int, float)) and not isinstance(cell, bool):
        number = WriteOnlyCell(page, repr(cell))
        number.data_type = "n"  # openpyxl would round to 16 digits
        return number
    if isinstance(cell, datetime):
        day, has_zone = cell.date(), cell.tzinfo is not None
    elif isinstance(cell, date):
        day, has_zone = cell, False
    else:
        return cell
    return _text_cell(page, cell.isoformat()) if has_zone or day < SHEET_DATES_FROM else cell


def _text_cell(page: WriteOnlyWorksheet, text: str) -> Cell:
    escaped = _NO_XML.sub(lambda found: f"_x{ord(found[0]):04X}_", formula_guard(text))
    if len(escaped) > SHEET_CELL_CHARS:
        raise CellError(f"longer than {SHEET_CELL_CHARS:,} characters")
    cell = WriteOnlyCell(page, escaped)
    cell.data_type = "s"  # whatever it looks like: no formula, no error
    return cell
