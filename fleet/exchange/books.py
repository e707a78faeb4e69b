"""A workbook of several sheets on its way out; `fleet.files` writes those of one, and its cells are these."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from openpyxl import Workbook

from fleet.files import Value
from fleet.files.sheets import MAX_LINE
from fleet.files.writers import _names, _rows, _sheet_cell, _text_cell

Sheet = tuple[str, Sequence[str], Iterable[Mapping[str, Value]]]
"""Name, columns and rows."""


def book_write(sheets: Iterable[Sheet], target: Path) -> None:
    """Write a workbook; its rows go through temporary files."""
    book = Workbook(write_only=True)
    try:
        for name, columns, rows in sheets:
            page = book.create_sheet(name)
            names = _names(columns)
            page.append([_text_cell(page, one) for one in names])
            for line, cells in enumerate(_rows(names, rows), 2):
                if line > MAX_LINE:
                    raise ValueError(f"{name}: a sheet holds at most {MAX_LINE:,} rows")
                page.append([_sheet_cell(page, one, line, cell) for one, cell in zip(names, cells, strict=True)])
            page.close()
        book.save(target)
    except BaseException:
        for page in book.worksheets:
            if not page.closed:
                page.close()
            page._writer.cleanup()  # noqa: SLF001 -- openpyxl removes these files only when it saves
        raise
