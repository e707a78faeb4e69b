"""Columns of an entry of the inventory: what a cell of a file says about a field, and what a field says in a cell.

A column is called as its field. Another row is written as its key, `dc01/h1/a`; a day as 2027-01-31; a truth value as
true or false; an empty cell is an empty value.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, datetime
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from functools import cache, cached_property
from typing import Any, Final

from django.core.exceptions import ValidationError
from django.db import models

from fleet.files.places import CellError, Value, number_of
from fleet.inventory import BY_KIND, Entry, key_paths

TRUE, FALSE = frozenset({"true", "yes", "1"}), frozenset({"false", "no", "0"})
READ_MOST, READ_CHARS = 4096, 64  # different cells of one column whose meaning is remembered, none longer than this
_DAY = re.compile(r"\d{4}-\d{2}-\d{2}")
_WHOLE = re.compile(r"[+-]?\d{1,30}")
_CELL_SHOWN = 60  # characters of a cell that a reason repeats


class Unsaid:
    """What a cell says that is empty where the field cannot be: the row keeps what it has, a new one the default."""

    def __repr__(self) -> str:
        return "UNSAID"


UNSAID: Final = Unsaid()


@dataclass(frozen=True)
class Column:
    """One column, and how its cells are read. A cell that refers to another row is read as that row's key."""

    field: "models.Field[Any, Any]"

    @property
    def name(self) -> str:
        """Heading, the name of the field."""
        return self.field.name

    @property
    def target(self) -> type[models.Model] | None:
        """Model of the row that it refers to, if it does."""
        return self.field.related_model if isinstance(self.field, models.ForeignKey) else None

    @cached_property
    def paths(self) -> tuple[str, ...]:
        """Paths of the texts or values in the database that one cell holds."""
        return key_paths(self.target, f"{self.name}__") if self.target else (self.name,)

    @property
    def is_needed(self) -> bool:
        """Whether a new row cannot do without."""
        return not (self.field.blank or self.field.has_default())

    def value(self, stored: Sequence[Any]) -> Any:
        """Return the value that `read` would give, from what stands at the paths in the database."""
        if not self.target:
            return stored[0]
        return None if stored[0] is None else "/".join(stored)

    def cell(self, stored: Sequence[Any]) -> Value:
        """Return what a file holds for what stands at the paths in the database."""
        value = self.value(stored)
        return str(value) if isinstance(value, Decimal) else value

    def read(self, cell: Value) -> Any:
        """Return the value of a cell: of a reference the key, of an empty cell that cannot be empty UNSAID.

        Raises CellError with the reason.
        """
        try:
            return self._read[type(cell), cell]
        except KeyError:
            pass
        value = self._value(cell)
        if not isinstance(cell, str) or len(cell) <= READ_CHARS:
            if len(self._read) >= READ_MOST:
                self._read.clear()
            self._read[type(cell), cell] = value
        return value

    @cached_property
    def _read(self) -> dict[tuple[type, Value], Any]:
        """Cells read before: types, days and racks come again and again."""
        return {}

    def _value(self, cell: Value) -> Any:
        if cell is None or cell == "":
            return self._empty()
        if self.target:
            return self._key(_text(cell))
        try:
            value = _READERS[type(self.field)](cell)
        except KeyError:
            value = _text(cell)
        choices = dict(self.field.flatchoices)
        if choices and value not in choices:
            raise CellError(f"{_shown(cell)} is none of: {', '.join(str(choice) for choice in choices)}")
        try:
            return self.field.clean(value, None)
        except ValidationError as error:
            raise CellError(" ".join(error.messages)) from error

    def _empty(self) -> Any:
        if self.field.null:
            return None
        if self.field.blank and self.field.empty_strings_allowed:
            return ""
        if self.field.has_default():
            return UNSAID
        raise CellError("empty: a value is needed")

    def _key(self, text: str) -> str:
        parts = len(self.paths)
        if text.count("/") + 1 != parts and parts > 1:
            kind = BY_KIND[str(self.target._meta.model_name)]  # type: ignore[union-attr]
            shape = {2: "dc01/h1", 3: "dc01/h1/a"}[parts]
            raise CellError(f"{_shown(text)} is no key of {kind.name}: written as {shape}")
        return text


@cache
def columns_of(entry: Entry) -> Mapping[str, Column]:
    """Return the columns of an entry by name, those of the key first."""
    return {field.name: Column(field) for field in entry.fields}


def header_read(entry: Entry, names: Sequence[str]) -> list[Column]:
    """Return the column of each name in a header. Raises CellError for one too many and one too few."""
    known = columns_of(entry)
    for name in names:
        if name not in known:
            close = get_close_matches(name.lower().replace(" ", "_"), known, n=1, cutoff=0.5)
            hint = f'did you mean "{close[0]}"?' if close else f"there are: {', '.join(known)}"
            raise HeaderError(name, f"{entry.name} have no such column; {hint}")
    for name in entry.key:
        if name not in names:
            raise HeaderError(name, f"the column is missing; a row of {entry.name} is known by it")
    return [known[name] for name in names]


class HeaderError(CellError):
    """A header that does not fit its entry; `column` is the name that is too many or missing."""

    def __init__(self, column: str, reason: str) -> None:
        self.column = column
        super().__init__(reason)


def _text(cell: Value) -> str:
    if isinstance(cell, str):
        return cell
    if isinstance(cell, bool | date):
        raise CellError(f"{_shown(cell)} where text is expected")
    return str(cell)


def _whole(cell: Value) -> int:
    if isinstance(cell, str) and _WHOLE.fullmatch(cell.strip()):
        return int(cell)
    if isinstance(cell, int | float) and not isinstance(cell, bool) and cell == int(cell):
        return int(cell)
    raise CellError(f"{_shown(cell)} is not a whole number")


def _real(cell: Value) -> float:
    if isinstance(cell, bool | date):
        raise CellError(f"{_shown(cell)} is not a number")
    try:
        return float(number_of(cell.strip())) if isinstance(cell, str) else float(cell or 0)
    except OverflowError as error:
        raise CellError(f"{_shown(cell)} is too large a number") from error


def _decimal(cell: Value) -> Decimal:
    if isinstance(cell, bool | date):
        raise CellError(f"{_shown(cell)} is not a number")
    try:
        value = Decimal(cell.strip() if isinstance(cell, str) else repr(cell))
    except InvalidOperation:
        value = Decimal("NaN")
    if not value.is_finite():
        raise CellError(f"{_shown(cell)} is not a number")
    return value


def _truth(cell: Value) -> bool:
    text = cell.strip().lower() if isinstance(cell, str) else str(cell).lower()
    if text not in TRUE | FALSE:
        raise CellError(f"{_shown(cell)} is neither true nor false")
    return text in TRUE


def _day(cell: Value) -> date:
    if isinstance(cell, date) and not isinstance(cell, datetime):
        return cell
    try:
        if isinstance(cell, str) and _DAY.fullmatch(cell.strip()):
            return date.fromisoformat(cell.strip())
    except ValueError:
        pass
    raise CellError(f"{_shown(cell)} is no day: written as 2027-01-31")


def _shown(cell: Value) -> str:
    text = str(cell)
    return f'"{text[:_CELL_SHOWN]}{"..." if len(text) > _CELL_SHOWN else ""}"'


_READERS: Mapping[type, Any] = {
    models.PositiveIntegerField: _whole,
    models.PositiveSmallIntegerField: _whole,
    models.FloatField: _real,
    models.DecimalField: _decimal,
    models.BooleanField: _truth,
    models.DateField: _day,
}
