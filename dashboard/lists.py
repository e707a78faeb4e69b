"""Lists of every kind of row of the fleet: which columns, which filters, in which order. Built from the inventory.

All of a list's state is in its address; a parameter that is unknown or cannot be read is an error that names it.
"""

import math
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from decimal import Decimal
from functools import cached_property, reduce
from operator import or_
from typing import Any

from django.core.exceptions import ValidationError
from django.core.paginator import InvalidPage, Page, Paginator
from django.db import models
from django.db.models import Case, CharField, F, Q, QuerySet, Value, When
from django.utils.datastructures import MultiValueDict
from django.utils.http import urlencode

from dashboard.presenters import UNKNOWN
from fleet.access import ELSEWHERE, related_seen, rows_seen
from fleet.inventory import INVENTORY, Entry, key_find, key_paths
from fleet.models.versioned import check_day
from fleet.selectors import in_service

COLUMNS = 10  # that a page shows; the table as CSV has all
COMMON = ("q", "sort", "page", "day")
TEXT_MOST = 200
WHOLE_MOST = 2**31 - 1  # of a whole number in a column
UNIT = re.compile(r"\[([^\]]+)\]$")
UNIT_WORDS = frozenset({"on", "ratio", "u", "w", "va", "kg", "s"})  # ends of names that the unit or the value says


@dataclass(frozen=True, slots=True)
class Filter:
    """One filter of a list, as its form shows it: `choices` is empty for free text."""

    name: str
    label: str
    value: str
    choices: tuple[tuple[str, str], ...]
    hint: str


@dataclass(frozen=True, slots=True)
class Column:
    """One column: its heading, whether it holds numbers, and the address that sorts by it."""

    name: str
    label: str
    unit: str
    is_number: bool
    url: str
    order: str


class RowList:
    """The rows of one kind that an account sees, narrowed and ordered as an address says.

    Parameters
    ----------
    entry : Entry
        Which kind.
    params : mapping
        Of the address. `q` is searched in what people call a row by; `sort` names a field, with a minus the other way
        round; `day` leaves what is in service then; every field is a filter: text is searched in it, a choice, a date
        or a number has to be equal, and `name__min`, `name__max` are the ends of a range.
    user : account
        Whose rows.
    """

    def __init__(self, entry: Entry, params: MultiValueDict[str, str], user: Any) -> None:
        self.entry, self._params, self._user = entry, params, user
        self._fields = {field.name: field for field in entry.fields}
        self._seen = related_seen(entry, user)
        self.is_dated = "in_service_on" in self._fields
        self.errors: dict[str, str] = {}
        self._conditions = Q()
        for name in params:
            try:
                self._conditions &= self._condition(name, params.get(name) or "")
            except ValidationError as error:
                self.errors[name] = " ".join(error.messages)
        self.sort = params.get("sort") or ""
        if self.sort and self.sort.removeprefix("-") not in self._fields:
            self.errors["sort"] = f"cannot sort by {self.sort[:40]!r}; there are: {', '.join(self._fields)}"

    @property
    def rows(self) -> QuerySet[Any]:
        """The rows, none where the address cannot be read."""
        rows = rows_seen(self.entry.model._default_manager.all(), self._user)
        if self.errors:
            return rows.none()
        return rows.filter(self._conditions).order_by(*self._order())

    def page(self, size: int) -> Page[Any]:
        """Return the page that the address asks for; one that there is not is an error, and an empty page."""
        raw = self._params.get("page") or "1"
        found = Paginator(self.rows, size)
        try:
            return found.page(raw)
        except InvalidPage:
            self.errors["page"] = f"there is no page {raw[:40]!r}; there are {found.num_pages}"
            return Paginator(self.rows, size).page(1)

    def cells(self, rows: QuerySet[Any], names: Sequence[str]) -> Iterator[tuple[int, list[str]]]:
        """Yield the id of each row and the texts of some of its fields, in one query."""
        for pk, values in self.values(rows, names):
            yield pk, [_text(value) for value in values]

    def values(self, rows: QuerySet[Any], names: Sequence[str]) -> Iterator[tuple[int, list[Any]]]:
        """Yield the id of each row and some of its fields as they are exported, in one query."""
        paths: list[Any] = []
        spans = []
        for name in names:
            own = [self._shown(path, Value(ELSEWHERE)) for path in _paths(self._fields[name])]
            spans.append((len(paths), len(paths) + len(own)))
            paths += own
        for pk, *values in rows.values_list("pk", *paths).iterator(chunk_size=2000):
            yield pk, [_exported(values[start:end]) for start, end in spans]

    @cached_property
    def shown(self) -> list[str]:
        """Names of the columns of a page: the key and the first others, dates of what is dated among them."""
        names = [name for name in self._fields if name not in {"planned_on", "note", "source"}]
        ends = [name for name in ("in_service_on", "out_of_service_on") if name in names]
        plain = [name for name in names if name not in ends]
        return [*plain[: COLUMNS - len(ends)], *ends]

    @property
    def names(self) -> list[str]:
        """Names of all columns."""
        return list(self._fields)

    def columns(self) -> list[Column]:
        """Return the headings of a page."""
        found = []
        for name in self.shown:
            field = self._fields[name]
            order = {name: "ascending", f"-{name}": "descending"}.get(self.sort, "")
            url = self.url(sort=f"-{name}" if self.sort == name else name, page="")
            is_number = isinstance(field, models.FloatField | models.IntegerField | models.DecimalField)
            found.append(Column(name, *field_label(field), is_number, url, order))
        return found

    def filters(self) -> list[Filter]:
        """Return the filters of the form: everything that a page shows, but dates and the key's own text."""
        found = []
        for name in self.shown:
            field = self._fields[name]
            if isinstance(field, models.DateField) or name in {"slug", "serial"}:
                continue
            value = self._params.get(name) or ""
            choices: tuple[tuple[str, str], ...] = ()
            if field.choices:
                choices = tuple((str(key), str(text)) for key, text in field.choices)
            elif isinstance(field, models.BooleanField):
                choices = (("true", "yes"), ("false", "no"))
            hint = "key, or a part of it" if isinstance(field, models.ForeignKey) else ""
            found.append(Filter(name, field_label(field)[0], value, choices, hint))
        return found

    def url(self, **changed: str) -> str:
        """Return this list's address with some parameters changed; an empty one is left out."""
        values = {name: self._params.get(name) or "" for name in self._params}
        return f"?{urlencode({name: value for name, value in {**values, **changed}.items() if value})}"

    def _related(self, field: "models.ForeignKey[Any, Any]", raw: str) -> Q:
        """Return the filter of rows that name another one: that with the key, if there is one, else any like it."""
        found = key_find(rows_seen(field.related_model._default_manager.all(), self._user), raw)
        return Q(**{field.attname: found.pk}) if found else self._like(_paths(field), raw)

    def _like(self, paths: Iterable[str], text: str) -> Q:
        """Return the filter of rows with a text in one of some fields; what lies elsewhere holds none."""
        found = (Q(**{f"{path}__icontains": text}) & self._seen.get(path.partition("__")[0], Q()) for path in paths)
        return reduce(or_, found, Q())

    def _shown(self, path: str, hidden: Value) -> Any:
        """Return a path, or the expression that has another value where it leads to a row elsewhere."""
        seen = self._seen.get(path.partition("__")[0])
        return Case(When(seen, then=F(path)), default=hidden, output_field=CharField()) if seen else path

    def _order(self) -> list[Any]:
        sign = "-" if self.sort.startswith("-") else ""
        asked = _paths(self._fields[self.sort.removeprefix("-")]) if self.sort else key_paths(self.entry.model)
        shown = [self._shown(path, Value(None)) for path in asked]
        order = [f"{sign}{one}" if isinstance(one, str) else one.desc() if sign else one.asc() for one in shown]
        return [*order, "pk"]

    def _condition(self, name: str, raw: str) -> Q:
        """Return what one parameter asks for, or raise the error that says what is wrong with it."""
        if not raw or name in {"page", "sort"}:
            return Q()
        if "\x00" in raw or len(raw) > TEXT_MOST:
            raise ValidationError(f"text of at most {TEXT_MOST} characters is needed")
        if name == "q":
            return self._like([*key_paths(self.entry.model), *(n for n in ("name", "note") if n in self._fields)], raw)
        if name == "day" and self.is_dated:
            return in_service(_read(models.DateField(), raw))
        plain, _, end = name.partition("__")
        field = self._fields.get(plain)
        lookup = {"": "", "min": "__gte", "max": "__lte"}.get(end)
        if field is None or lookup is None or (end and isinstance(field, models.ForeignKey)):
            raise ValidationError(f"there is no such filter; there are: {', '.join((*COMMON, *self._fields))}")
        if isinstance(field, models.ForeignKey):
            return self._related(field, raw)
        if isinstance(field, models.CharField) and not field.choices and not end:
            return Q(**{f"{plain}__icontains": raw})
        if field.choices and raw not in {str(key) for key, _ in field.choices}:
            raise ValidationError(f"{raw[:40]!r} is none of: {', '.join(str(key) for key, _ in field.choices)}")
        return Q(**{f"{plain}{lookup}": _read(field, raw)})


def entry_counts(user: Any) -> Mapping[str, int]:
    """Return how many rows of each kind an account sees. [-]"""
    return {name: rows_seen(entry.model._default_manager.all(), user).count() for name, entry in INVENTORY.items()}


def _read(field: "models.Field[Any, Any]", raw: str) -> Any:
    """Return a value as its column holds it; a day or a number that none holds is an error."""
    value = field.to_python(raw)
    if isinstance(field, models.DateField):
        check_day(value)
    if isinstance(value, float) and not math.isfinite(value):
        raise ValidationError(f"{raw[:40]!r} is no finite number")
    if isinstance(field, models.DecimalField):
        most = Decimal("9" * (field.max_digits or 0)).scaleb(-(field.decimal_places or 0))
    else:
        most = Decimal(WHOLE_MOST)
    if isinstance(value, int | Decimal) and abs(Decimal(value)) > most:
        raise ValidationError(f"a number between -{most} and {most} is needed")
    return value


def _paths(field: "models.Field[Any, Any]") -> list[str]:
    if isinstance(field, models.ForeignKey):
        return list(key_paths(field.related_model, f"{field.name}__"))
    return [field.name]


def field_label(field: "models.Field[Any, Any]") -> tuple[str, str]:
    """Return a field as people read it, and its unit: `power_limit_w` is the power limit, in W."""
    found = UNIT.search(str(field.help_text))
    unit = found.group(1) if found and found.group(1) not in {"-", "date"} else ""
    text = str(field.verbose_name)
    words = text.split()
    if len(words) > 1 and (words[-1] == unit.lower().replace("/", " ").split(" ")[0] or words[-1] in UNIT_WORDS):
        text = " ".join(words[:-1])
    return text[:1].upper() + text[1:], unit


def _exported(values: Sequence[Any]) -> Any:
    """Return a value of a table: as it is, or a key as it is written."""
    if len(values) == 1:
        return str(values[0]) if isinstance(values[0], Decimal) else values[0]
    return None if values[0] is None else "/".join(str(value) for value in values)


def _text(value: Any) -> str:
    if value is None or value == "":
        return UNKNOWN
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.10g}"
    return str(value)
