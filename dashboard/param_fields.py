"""Fields of a form for what a kind of scenario takes besides: one a parameter, with meaning, unit and default."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, get_args, get_type_hints

from django import forms
from django.core.exceptions import ValidationError

from scenarios.planning.params import MigrationParams

PREFIX = "param_"
LISTS = "param_lists"
LISTS_HELP = (
    "Floors, offers, order, must_leave, prices and tariffs as TOML, such as [[floors]] with ratio = 0.5 and "
    'month = "2028-01" on lines of their own. Empty: none.'
)


def param_fields() -> dict[str, forms.Field]:
    """Return the fields by name, empty ones stand for the default."""
    made: dict[str, forms.Field] = {}
    for one in fields(MigrationParams):
        field = _field(one, get_type_hints(MigrationParams)[one.name])
        if field is not None:
            made[PREFIX + one.name] = field
    made[LISTS] = forms.CharField(
        required=False, label="Floors, offers, prices", help_text=LISTS_HELP, widget=forms.Textarea(attrs={"rows": 6})
    )
    return made


def param_initial(params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the fields show for stored parameters."""
    shown: dict[str, Any] = {}
    lists = []
    for name, value in params.items():
        if isinstance(value, list):
            lists += [f"[[{name}]]\n{''.join(_line(*item) for item in row.items())}" for row in value]
        else:
            shown[PREFIX + name] = NONE if value is None else value
    return {**shown, LISTS: "\n".join(lists)}


def param_values(cleaned: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that were given, without those left at their default.

    Raises ValidationError for lists that are no TOML.
    """
    values: dict[str, Any] = {}
    for name, value in cleaned.items():
        if name.startswith(PREFIX) and name != LISTS and value not in {None, ""}:
            values[name.removeprefix(PREFIX)] = _value(value)
    try:
        return {**values, **tomllib.loads(cleaned.get(LISTS) or "")}
    except tomllib.TOMLDecodeError as error:
        raise ValidationError({LISTS: f"this is no TOML: {error}"}) from None


NONE = "none"
"""What stands for no limit, where there may be none."""


def _value(text: str) -> Any:
    if text in {NONE, "true", "false"}:
        return {NONE: None, "true": True, "false": False}[text]
    try:
        return int(text)
    except ValueError:
        pass
    try:
        return float(text)
    except ValueError:
        return text


def _field(one: Field[Any], hint: Any) -> forms.Field | None:
    meta, default = one.metadata, one.default
    if isinstance(default, tuple) or default is MISSING:
        return None
    unit = f" [{meta['unit']}]" if meta["unit"] else ""
    label = one.name.replace("_", " ").capitalize() + unit
    kind = next((a for a in get_args(hint) if a is not type(None)), hint)
    may_be_none = type(None) in get_args(hint)
    shown = NONE if default is None else str(default).lower() if isinstance(default, bool) else default
    told = f"{meta['help']} Default: {shown or 'empty'}."
    choices = meta["choices"] or (("true", "false") if kind is bool else ())
    if choices:
        listed = [("", f"default: {shown}"), *((choice, choice) for choice in choices)]
        return forms.ChoiceField(required=False, label=label, help_text=told, choices=listed)
    told += f' "{NONE}" for none.' if may_be_none else ""
    return forms.CharField(required=False, label=label, help_text=told, max_length=40)


def _line(name: str, value: Any) -> str:
    """Return one line of TOML."""
    if isinstance(value, bool):
        return f"{name} = {str(value).lower()}\n"
    if isinstance(value, int | float):
        return f"{name} = {value}\n"
    escaped = str(value).replace("\\", "\\\\").replace('"', '\\"')
    return f'{name} = "{escaped}"\n' if value is not None else ""
