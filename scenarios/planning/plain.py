"""Plain values from JSON and back, and their JSON Schema: one description of a field serves all three.

A field of a frozen dataclass made by :func:`given` carries what it means, its unit and its range. Errors name the
place, as ``problem.services[3].demand_tok_s``.
"""

import sys
import types
import typing
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import MISSING, Field, field, fields, is_dataclass
from functools import cache
from typing import Any, TypeVar, Union, cast

Made = TypeVar("Made")

NUMBER_MOST = 1e12
"""No number is larger, unless its field says otherwise: sums of larger ones lose their cents."""


class ProblemError(ValueError):
    """A problem that cannot be read, or that contradicts itself. `errors` holds (place, what is wrong)."""

    def __init__(self, errors: Sequence[tuple[str, str]]) -> None:
        self.errors = tuple(errors)
        super().__init__("; ".join(f"{place}: {text}" for place, text in self.errors))


def given(
    help_text: str,
    *,
    unit: str = "",
    default: Any = MISSING,
    least: float | None = None,
    most: float | None = NUMBER_MOST,
    choices: Sequence[str] = (),
) -> Any:
    """Return a field with its meaning, its unit, its default and its range."""
    meta = {"help": help_text, "unit": unit, "least": least, "most": most, "choices": tuple(choices)}
    if default is MISSING:
        return field(metadata=meta)
    return field(default=default, metadata=meta)


def plain_of(value: Any) -> Any:
    """Return a value of dataclasses and tuples as JSON values."""
    if is_dataclass(value) and not isinstance(value, type):
        return {one.name: plain_of(getattr(value, one.name)) for one in fields(value)}
    if isinstance(value, tuple | list):
        return [plain_of(one) for one in value]
    if isinstance(value, Mapping):
        return {key: plain_of(one) for key, one in value.items()}
    return value


def plain_read(cls: type[Made], data: Any, *, place: str) -> Made:
    """Return a dataclass read from JSON values.

    Raises
    ------
    ProblemError
        With every place at fault: a field that is missing or unknown, of another type, or out of its range.
    """
    errors: list[tuple[str, str]] = []
    made = _read_object(cls, data, place, errors)
    if errors:
        raise ProblemError(errors)
    return cast("Made", made)


def schema_of(cls: type[Any], *, title: str) -> dict[str, Any]:
    """Return the JSON Schema (draft 2020-12) of a dataclass."""
    known: dict[str, Any] = {}
    top = _schema_object(cls, known)
    return {
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": title,
        **top,
        "$defs": dict(sorted(known.items())),
    }


@cache
def _hints(cls: Any) -> dict[str, Any]:
    return typing.get_type_hints(cls)


def _read_object(cls: type[Any], data: Any, place: str, errors: list[tuple[str, str]]) -> Any:
    if not isinstance(data, Mapping):
        errors.append((place, "an object is needed"))
        return None
    known = {one.name: one for one in fields(cls)}
    there = f"unknown; there are: {', '.join(known)}"
    errors.extend((f"{place}.{name}", there) for name in data if name not in known)
    values = {}
    before = len(errors)
    for name, one in known.items():
        where = f"{place}.{name}"
        if name in data:
            values[name] = _read(_hints(cast("Hashable", cls))[name], data[name], where, errors, one)
        elif one.default is MISSING and one.default_factory is MISSING:
            errors.append((where, "is missing"))
    return cls(**values) if len(errors) == before else None


def _read(hint: Any, data: Any, place: str, errors: list[tuple[str, str]], one: Field[Any]) -> Any:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, Union}:
        if data is None and type(None) in arguments:
            return None
        return _read(next(a for a in arguments if a is not type(None)), data, place, errors, one)
    if origin is tuple:
        if arguments[0] is float and isinstance(data, int | float) and not isinstance(data, bool):
            data = [data]  # one number stands for every period
        if not isinstance(data, Sequence) or isinstance(data, str):
            errors.append((place, "a list is needed"))
            return None
        return tuple(_read(arguments[0], item, f"{place}[{at}]", errors, one) for at, item in enumerate(data))
    if is_dataclass(hint):
        return _read_object(cast("type[Any]", hint), data, place, errors)
    return _read_scalar(hint, data, place, errors, one)


def _read_scalar(hint: Any, data: Any, place: str, errors: list[tuple[str, str]], one: Field[Any]) -> Any:
    if hint is bool or hint is str:
        if not isinstance(data, hint):
            errors.append((place, f"{'true or false' if hint is bool else 'a text'} is needed"))
            return None
        choices = one.metadata.get("choices")
        if choices and data not in choices:
            errors.append((place, f"{data!r} is none of {', '.join(choices)}"))
        return data
    is_number = isinstance(data, int | float) and not isinstance(data, bool)
    if not is_number or not -sys.float_info.max <= data <= sys.float_info.max:
        errors.append((place, "a finite number is needed"))
        return None
    if hint is int and data != int(data):
        errors.append((place, "a whole number is needed"))
        return None
    least, most = one.metadata.get("least"), one.metadata.get("most")
    if least is not None and data < least:
        errors.append((place, f"{data:g} is below {least:g}"))
    if most is not None and data > most:
        errors.append((place, f"{data:g} is above {most:g}"))
    return int(data) if hint is int else float(data)


def _schema_object(cls: type[Any], known: dict[str, Any]) -> dict[str, Any]:
    hints = _hints(cast("Hashable", cls))
    needed = [one.name for one in fields(cls) if one.default is MISSING and one.default_factory is MISSING]
    return {
        "type": "object",
        "description": (cls.__doc__ or "").strip().split("\n", 1)[0],
        "properties": {one.name: _schema_field(hints[one.name], one, known) for one in fields(cls)},
        "required": needed,
        "additionalProperties": False,
    }


def _schema_field(hint: Any, one: Field[Any], known: dict[str, Any]) -> dict[str, Any]:
    unit = one.metadata.get("unit")
    text = one.metadata.get("help", "") + (f" [{unit}]" if unit else "")
    found = _schema_type(hint, one, known)
    if text:
        found = {**found, "description": text}
    if one.default is not MISSING:
        found["default"] = plain_of(one.default)
    return found


def _schema_type(hint: Any, one: Field[Any], known: dict[str, Any]) -> dict[str, Any]:
    origin, arguments = typing.get_origin(hint), typing.get_args(hint)
    if origin in {types.UnionType, Union}:
        inner = [_schema_type(a, one, known) for a in arguments if a is not type(None)]
        return {"anyOf": [*inner, {"type": "null"}]}
    if origin is tuple:
        items = _schema_type(arguments[0], one, known)
        listed = {"type": "array", "items": items}
        return {"anyOf": [items, listed]} if arguments[0] is float else listed
    if is_dataclass(hint):
        name = cast("type[Any]", hint).__name__
        if name not in known:
            known[name] = {}
            known[name] = _schema_object(cast("type[Any]", hint), known)
        return {"$ref": f"#/$defs/{name}"}
    if hint is bool:
        return {"type": "boolean"}
    if hint is str:
        choices = one.metadata.get("choices")
        return {"type": "string", **({"enum": list(choices)} if choices else {})}
    least, most = one.metadata.get("least"), one.metadata.get("most")
    return {
        "type": "integer" if hint is int else "number",
        **({"minimum": least} if least is not None else {}),
        **({"maximum": most} if most is not None else {}),
    }
