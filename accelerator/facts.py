"""The long-form tables of accelerator/data: one figure per row, each with unit, source and date of reading.

Text in a file is converted once, here: GiB, GB/s and TFLOP/s become byte, byte/s and flop/s.
"""

import csv
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import date
from functools import cache
from importlib import resources
from types import MappingProxyType

from accelerator.errors import DataFileError
from accelerator.units import GIB, GIGA, TERA

UNIT_FACTOR: Mapping[str, float] = MappingProxyType({
    "TFLOP/s": TERA, "GiB": GIB, "GB/s": GIGA, "W": 1.0, "USD": 1.0, "count": 1.0, "tok": 1.0, "byte": 1.0,
    "1": 1.0, "s": 1.0, "us": 1e-6, "ms": 1e-3, "1/s": 1.0,
})  # fmt: skip
"""Factor from the unit written in a file to the base unit used inside."""


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
        Base unit: flop/s, byte, byte/s, W, USD, s or 1.
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
    reader = csv.DictReader(text.splitlines())
    for row in reader:
        if None in row or None in row.values():
            raise DataFileError(f"accelerator/data/{file_name}:{reader.line_num}: wrong number of cells")
        yield reader.line_num, row


def facts_by_item(file_name: str) -> dict[str, dict[str, dict[str, str]]]:
    """Return ``{item: {quantity: row}}`` of a long-form file; a figure given twice is an error."""
    items: dict[str, dict[str, dict[str, str]]] = {}
    for line, row in facts_read(file_name):
        quantities = items.setdefault(row["item"], {})
        if row["quantity"] in quantities:
            raise DataFileError(f"accelerator/data/{file_name}:{line}: {row['item']} {row['quantity']} is given twice")
        if not row["source"] or not row["unit"]:
            raise DataFileError(f"accelerator/data/{file_name}:{line}: a figure without unit or source does not enter")
        quantities[row["quantity"]] = row
    return items


def figure_parse(row: Mapping[str, str]) -> Figure:
    """Return the Figure of one row, in base units; blank low and high mean exact."""
    factor = UNIT_FACTOR[row["unit"]]
    value = float(row["value"])
    return Figure(
        value=value * factor,
        low=float(row["low"] or value) * factor,
        high=float(row["high"] or value) * factor,
        unit={"TFLOP/s": "flop/s", "GiB": "byte", "GB/s": "byte/s", "us": "s", "ms": "s"}.get(row["unit"], row["unit"]),
        source=row["source"],
        confidence=row["confidence"],
        read_on=date.fromisoformat(row["read_on"]),
    )


@cache
def aliases_load() -> Mapping[str, tuple[str, str]]:
    """Return ``{name in lower case: (slug, note)}``; an empty slug: known, but not held, and the note says why."""
    aliases: dict[str, tuple[str, str]] = {}
    for line, row in facts_read("aliases.csv"):
        name = row["name"].lower()
        if aliases.setdefault(name, (row["slug"], row["note"]))[0] != row["slug"]:
            raise DataFileError(f"accelerator/data/aliases.csv:{line}: {row['name']} means two things")
    return MappingProxyType(aliases)
