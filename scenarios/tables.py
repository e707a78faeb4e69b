"""A table: its rows feed a page, a CSV and a report alike. No computing beyond choosing columns."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

QUANTILES = ("p10", "p50", "p90")
FORMULA_STARTS = ("=", "+", "-", "@", "\t", "\r")  # a spreadsheet would run such a cell


@dataclass(frozen=True, slots=True)
class Column:
    """A column: name in the CSV, heading on a page, unit, and decimals to show."""

    name: str
    label: str
    unit: str = ""
    decimals: int = 0


@dataclass(frozen=True, slots=True)
class Table:
    """A caption, columns, and one mapping a row."""

    name: str
    caption: str
    columns: tuple[Column, ...]
    rows: Sequence[Mapping[str, Any]]

    def cells(self) -> list[list["Cell"]]:
        """Return the rows for a page: rounded, with a dash for what is not known."""
        return [[_cell(row.get(column.name), column) for column in self.columns] for row in self.rows]

    def csv(self) -> str:
        """Return the table as CSV, unrounded; text that a spreadsheet would run as a formula is defused."""
        stream = io.StringIO()
        writer = csv.writer(stream, lineterminator="\r\n")
        writer.writerow([f"{c.name} [{c.unit}]" if c.unit else c.name for c in self.columns])
        for row in self.rows:
            writer.writerow([_csv_cell(row.get(column.name)) for column in self.columns])
        return stream.getvalue()


@dataclass(frozen=True, slots=True)
class Cell:
    """One cell as text, and how it is set: numbers to the right, sentences with room."""

    text: str
    style: str


def band_columns(name: str, label: str, unit: str, decimals: int = 0) -> tuple[Column, ...]:
    """Return the columns of a band: P10, P50 and P90."""
    return tuple(Column(f"{name}_{q}", f"{label}, {q.upper()}", unit, decimals) for q in QUANTILES)


def band_spread(name: str, band: Mapping[str, Any]) -> dict[str, Any]:
    """Return a band as the cells of its columns."""
    return {f"{name}_{q}": band[q] for q in QUANTILES}


def _cell(value: Any, column: Column) -> Cell:
    text = _cell_text(value, column)
    if column.unit:
        return Cell(text, "num")
    return Cell(text, "nowrap" if len(text) <= 40 else "long" if len(text) <= 160 else "long wide")


def _cell_text(value: Any, column: Column) -> str:
    """Return one cell as text for a page."""
    if value is None or value == "":
        return "–"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, int | float):
        if column.unit == "%":
            return f"{value * 100:,.{column.decimals}f}"
        return f"{value:,.{column.decimals}f}"
    return str(value)


def _csv_cell(value: Any) -> Any:
    if isinstance(value, str) and value.startswith(FORMULA_STARTS):
        return "'" + value
    return "" if value is None else value
