"""The one door by which a table from outside comes in: csv, xlsx, json or json lines."""

import os
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO, Self

from fleet.files.csv_tables import CsvTable
from fleet.files.json_tables import JsonLines, JsonTable
from fleet.files.places import LIMITS, CellError, Limits, Row, RowFault, Value, check_text
from fleet.files.sources import Source, format_detect, source_open
from fleet.files.workbooks import Workbook


def table_open(
    source: str | os.PathLike[str] | BinaryIO,
    *,
    name: str | None = None,
    limits: Limits = LIMITS,
    sheet: str | None = None,
) -> "TableReader":
    """Return a reader of a table whose size, type and header are sound; this takes less than a second.

    Parameters
    ----------
    source : path or seekable binary file
        A file object stays open; it belongs to the caller.
    name : str, optional
        What errors call the file, and whose suffix tells the format; the path if left out.
    limits : Limits
        How much is read at most.
    sheet : str, optional
        Of a workbook; its first visible one if left out.

    Raises
    ------
    FileError
        ``fleet.xlsx[Racks]:1: two columns are called "slug"``.
    """
    opened = source_open(source, name=name, most_byte=limits.file_byte)
    try:
        return TableReader(opened, limits, sheet)
    except BaseException:
        opened.close()
        raise


class TableReader:
    """A table from outside. Each iteration reads it from its first row, in constant memory; one at a time, please.

    Attributes
    ----------
    name, format : str
        Of the file; "csv", "xlsx", "json" or "jsonl".
    sheet, sheets
        The sheet that is read and all that could be; None and () but in a workbook.
    columns : tuple of str
        In the order of the file.
    """

    def __init__(self, source: Source, limits: Limits, sheet: str | None) -> None:
        self.name, self._source, self._limits = source.name, source, limits
        self.format = format_detect(source)
        if self.format != "xlsx" and sheet is not None:
            raise source.error(f"no sheet {sheet[:100]}: only a workbook has sheets")
        self._table: CsvTable | JsonTable | JsonLines | Workbook
        match self.format:
            case "csv":
                self._table = CsvTable(source, limits)
            case "json":
                self._table = JsonTable(source, limits)
            case "jsonl":
                self._table = JsonLines(source, limits)
            case _:
                self._table = Workbook(source, limits, sheet)
        self.columns, self.sheet, self.sheets = self._table.columns, self._table.sheet, self._table.sheets

    def __iter__(self) -> Iterator[tuple[int, Row] | RowFault]:
        """Yield, row by row, its line and its values, or what is wrong with it.

        Raises FileError where the file cannot be read any further.
        """
        for count, row in enumerate(self._table.rows(), 1):
            line = row.line if isinstance(row, RowFault) else row[0]
            if count > self._limits.rows:
                raise self._source.error(f"more than {self._limits.rows:,} rows", sheet=self.sheet, line=line)
            yield row if isinstance(row, RowFault) else self._checked(line, row[1])

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """Close what was opened here: the file if it was given by its path."""
        if isinstance(self._table, Workbook):
            self._table.close()
        self._source.close()

    def _checked(self, line: int, cells: list[Value]) -> tuple[int, Row] | RowFault:
        for column, cell in zip(self.columns, cells, strict=True):
            if isinstance(cell, str):
                try:
                    check_text(cell, self._limits)
                except CellError as error:
                    return RowFault(line, column, str(error))
        return line, dict(zip(self.columns, cells, strict=True))
