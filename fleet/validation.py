"""Whether rows may be written, for many at once: fields, rules of a row, what is there once, what is referred to.

Django's `full_clean` says the same of one row with a query for each of its rules. Here a value that many rows share is
looked at once, rules are evaluated in Python (`fleet.rules`), and the database is asked once per key and reference.
"""

from collections.abc import Collection, Mapping, Sequence
from functools import cache
from typing import Any, NamedTuple

from django.core.exceptions import NON_FIELD_ERRORS, ValidationError
from django.db import models

from fleet.audit import text_is_sound
from fleet.checks import among
from fleet.inventory import KEPT
from fleet.rules import Test, rule_names, rule_test

ERRORS_MOST = 1000
STALE = "version"
ID_MOST = 2**63 - 1

Rows = Mapping[int, Any]
"""Rows by their index in the batch."""
Columns = Mapping[int, frozenset[str]]
"""Columns that an edit changes, by index; of a row that is not in it, all."""


class RowError(NamedTuple):
    """What is wrong with one row; the field is empty where it is several or none."""

    index: int  # type: ignore[assignment]  # a tuple's own index() is of no use here
    field: str
    message: str


class RowsWriteError(Exception):
    """Rows that cannot be written, and so none was: the first thousand errors, and how many there are.

    `index` counts through the rows to create, to update and to delete, in this order.
    """

    def __init__(self, errors: Sequence[RowError], *, count: int | None = None) -> None:
        self.errors, self.count = list(errors), len(errors) if count is None else count
        shown = "; ".join(
            f"row {at}: {field}: {text}" if field else f"row {at}: {text}" for at, field, text in errors[:3]
        )
        super().__init__(f"{self.count} errors: {shown}")

    @property
    def stale(self) -> bool:
        """Whether all that is wrong is that somebody else has edited the rows since they were read."""
        return bool(self.errors) and all(error.field == STALE for error in self.errors)

    def as_validation(self) -> ValidationError:
        """Return it as the error of one row."""
        texts: dict[str, list[str]] = {}
        for error in self.errors:
            texts.setdefault(error.field or NON_FIELD_ERRORS, []).append(error.message)
        return ValidationError(texts)


class Errors:
    """What is wrong with the rows of a batch: the first thousand are kept, all are counted."""

    def __init__(self) -> None:
        self.listed: list[RowError] = []
        self.count = 0
        self.fields: dict[int, set[str]] = {}

    def add(self, index: int, field: str, message: str) -> None:
        """Note one."""
        self.count += 1
        self.fields.setdefault(index, set()).add(field)
        if len(self.listed) < ERRORS_MOST:
            self.listed.append(RowError(index, field, message))

    def touch(self, index: int, names: Collection[str]) -> bool:
        """Return whether one of some fields of a row is wrong already: what builds on it says nothing new."""
        return index in self.fields and not self.fields[index].isdisjoint(names)

    def stop(self) -> None:
        """Raise them, if there are any."""
        if self.count:
            raise RowsWriteError(sorted(self.listed), count=self.count)


# --- one row by itself ------------------------------------------------------------------------------------------------
def rows_clean(model: type[models.Model], rows: Rows, errors: Errors) -> None:
    """Look at the fields of rows and turn their values into what they mean; then at the rules of a row."""
    for row in rows.values():
        if row.get_deferred_fields():
            raise ValueError(f"{row!r} was read in part: what is written is a whole row")
    for field in model._meta.concrete_fields:
        if field.name not in KEPT:
            _column_clean(field, rows, errors)
    if model.clean is not models.Model.clean:
        for index, row in rows.items():
            _own_clean(index, row, errors)
    for test, names, message in _rules_of(model):
        for index, row in rows.items():
            if not errors.touch(index, names) and test(row.__dict__) is False:
                errors.add(index, "", message)


def _column_clean(field: Any, rows: Rows, errors: Errors) -> None:
    """Look at a column from top to bottom; a value that was seen before has been looked at."""
    seen: dict[Any, tuple[Any, Sequence[str]]] = {}
    name = field.attname
    for index, row in rows.items():
        raw = row.__dict__[name]
        key = (raw.__class__, raw) if isinstance(raw, str | int | float) or raw is None else (raw.__class__, str(raw))
        found = seen.get(key)
        if found is None:
            found = seen[key] = _value_clean(field, raw)
        value, messages = found
        if value is not raw:
            setattr(row, name, value)
        for message in messages:
            errors.add(index, field.name, message)


def _value_clean(field: Any, raw: Any) -> tuple[Any, Sequence[str]]:
    """Return a value as the model holds it, and what is wrong with it."""
    if isinstance(raw, str) and not text_is_sound(raw):
        return raw, ["a character in it cannot be stored"]
    if raw == "" and not field.empty_strings_allowed:
        raw = None
    if field.blank and raw in field.empty_values and (field.null or raw is not None):
        return raw, ()
    try:
        value = field.to_python(raw)
        # a foreign key's own validation asks the database; `rows_refer` does, for all of them at once
        models.Field.validate(field, value, None)
        field.run_validators(value)
    except ValidationError as error:
        return raw, error.messages
    if isinstance(field, models.ForeignKey) and not 0 <= value <= ID_MOST:
        return raw, [_missing(field, value)]
    return value, ()


def _own_clean(index: int, row: models.Model, errors: Errors) -> None:
    try:
        row.clean()
    except ValidationError as error:
        texts = error.message_dict if hasattr(error, "error_dict") else {NON_FIELD_ERRORS: error.messages}
        for field, messages in texts.items():
            for message in messages:
                errors.add(index, "" if field == NON_FIELD_ERRORS else field, message)


@cache
def _rules_of(model: type[models.Model]) -> tuple[tuple[Test, frozenset[str], str], ...]:
    checks = (rule for rule in model._meta.constraints if isinstance(rule, models.CheckConstraint))
    return tuple(
        (rule_test(check.condition), rule_names(check.condition), str(check.get_violation_error_message()))  # type: ignore[arg-type]
        for check in checks
    )


# --- rows among others ------------------------------------------------------------------------------------------------
def rows_unique(
    model: type[models.Model], rows: Rows, columns: Columns, errors: Errors, *, gone: Collection[int] = ()
) -> None:
    """Look for what may be there once: within the batch, then in the database, without rows that are deleted first."""
    for fields in _keys_of(model):
        names, attnames = tuple(field.name for field in fields), [field.attname for field in fields]
        held: dict[tuple[Any, ...], int] = {}
        for index, row in rows.items():
            if errors.touch(index, names) or (index in columns and columns[index].isdisjoint(attnames)):
                continue
            key = tuple(row.__dict__[name] for name in attnames)
            if None in key:
                continue
            if held.setdefault(key, index) != index:
                told = f"{_once(row, names)} Row {held[key]} of this batch is one."
                errors.add(index, names[0] if len(names) == 1 else "", told)
        if not held:
            continue
        wanted = {f"{name}__in": among({key[at] for key in held}) for at, name in enumerate(attnames)}
        for pk, *found in model._default_manager.filter(**wanted).order_by().values_list("pk", *attnames):
            index = held.get(tuple(found), -1)
            if index >= 0 and rows[index].pk != pk and pk not in gone:
                errors.add(index, names[0] if len(names) == 1 else "", _once(rows[index], names))


def _once(row: models.Model, names: tuple[str, ...]) -> str:
    return " ".join(row.unique_error_message(type(row), names).messages)


@cache
def _keys_of(model: type[models.Model]) -> tuple[tuple[Any, ...], ...]:
    single = [(field,) for field in model._meta.concrete_fields if field.unique and not field.primary_key]
    joint = [tuple(map(model._meta.get_field, rule.fields)) for rule in model._meta.total_unique_constraints]
    return (*single, *joint)


def rows_refer(model: type[models.Model], rows: Rows, columns: Columns, errors: Errors) -> None:
    """Look whether the rows that others refer to are there."""
    for field in foreign_keys(model):
        name = field.attname
        asked = {
            index: row.__dict__[name]
            for index, row in rows.items()
            if row.__dict__[name] is not None
            and not errors.touch(index, (field.name,))
            and (index not in columns or name in columns[index])
        }
        ids = set(asked.values())
        there = field.related_model._default_manager.filter(pk__in=among(ids))
        known = set(there.values_list("pk", flat=True)) if ids else set()
        for index, pk in asked.items():
            if pk not in known:
                errors.add(index, field.name, _missing(field, pk))


def _missing(field: Any, pk: int) -> str:
    facts = {"model": field.related_model._meta.verbose_name, "pk": pk, "field": "id", "value": pk}
    return str(field.error_messages["invalid"] % facts)


@cache
def foreign_keys(model: type[models.Model]) -> tuple[Any, ...]:
    """Return the foreign keys of a model."""
    return tuple(field for field in model._meta.concrete_fields if isinstance(field, models.ForeignKey))
