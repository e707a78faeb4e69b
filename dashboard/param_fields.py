"""Fields of a form for what each kind of scenario takes besides: one a parameter, with meaning, unit and default."""

import tomllib
from collections.abc import Mapping
from dataclasses import MISSING, Field, fields
from typing import Any, get_args, get_type_hints

from django import forms
from django.core.exceptions import ValidationError

from scenarios.planning.params import PARAMS

PREFIX = "param_"
LISTS = "lists"
LISTS_EXAMPLE = '[[offers]] with kind, hosts and month = "2028-01"'


def param_name(kind: str, name: str) -> str:
    """Return the name of a kind's field for a parameter; `LISTS` for that of all its lists."""
    return f"{PREFIX}{kind}_{name}"


def param_fields(kind: str) -> dict[str, forms.Field]:
    """Return the fields of a kind by name, empty ones stand for the default."""
    made: dict[str, forms.Field] = {}
    lists, hints = [], get_type_hints(PARAMS[kind])
    for one in fields(PARAMS[kind]):
        field = _field(one, hints[one.name])
        if field is not None:
            made[param_name(kind, one.name)] = field
        else:
            lists.append(one.name)
    if lists:
        told = f"{', '.join(lists)} as TOML, such as {LISTS_EXAMPLE} on lines of their own. Empty: none."
        label, box = ", ".join(lists).replace("_", " ").capitalize(), forms.Textarea(attrs={"rows": 6})
        made[param_name(kind, LISTS)] = forms.CharField(required=False, label=label, help_text=told, widget=box)
    return made


def param_initial(kind: str, params: Mapping[str, Any]) -> dict[str, Any]:
    """Return what the fields of a kind show for stored parameters."""
    shown: dict[str, Any] = {}
    lists = []
    for name, value in params.items():
        if isinstance(value, list):
            lists += [f"[[{name}]]\n{''.join(_line(*item) for item in row.items())}" for row in value]
        else:
            shown[param_name(kind, name)] = NONE if value is None else value
    return {**shown, param_name(kind, LISTS): "\n".join(lists)}


def param_values(kind: str, cleaned: Mapping[str, Any]) -> dict[str, Any]:
    """Return the parameters that were given for a kind, without those left at their default.

    Raises ValidationError for lists that are no TOML.
    """
    own, lists = param_name(kind, ""), param_name(kind, LISTS)
    values: dict[str, Any] = {}
    for name, value in cleaned.items():
        if name.startswith(own) and name != lists and value not in {None, ""}:
            values[name.removeprefix(own)] = _value(value)
    try:
        return {**values, **tomllib.loads(cleaned.get(lists) or "")}
    except tomllib.TOMLDecodeError as error:
        raise ValidationError({lists: f"this is no TOML: {error}"}) from None


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
