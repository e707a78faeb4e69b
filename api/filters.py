"""Query parameters of lists: strict. A parameter that is unknown or cannot be read is an error that names it."""

import base64
import binascii
import difflib
import math
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import date, datetime
from decimal import Decimal
from functools import cache, partial, reduce
from operator import or_
from typing import Any

from django.db import models
from django.db.models import Q, QuerySet
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from drf_spectacular.utils import OpenApiParameter
from rest_framework.exceptions import ValidationError
from rest_framework.filters import BaseFilterBackend
from rest_framework.pagination import BasePagination
from rest_framework.request import Request
from rest_framework.response import Response
from rest_framework.utils.urls import replace_query_param

from fleet.access import region_limit
from fleet.inventory import BY_KIND, key_paths
from scenarios.seen import seen

LIMIT, LIMIT_MAX, OFFSET_MAX = 50, 1000, 2**31 - 1
TEXT_MAX = 200
INTEGER = re.compile(r"-?[0-9]{1,18}")
DECIMAL = re.compile(r"-?[0-9]{1,12}(\.[0-9]{1,2})?")
SHAPING = ("fields", "brief")


# --- reading one value ---
def _text(raw: str) -> str:
    if "\x00" in raw or len(raw) > TEXT_MAX:
        raise ValueError(f"text of at most {TEXT_MAX} characters is needed")
    return raw


def _integer(raw: str) -> int:
    if not INTEGER.fullmatch(raw):
        raise ValueError("a whole number is needed")
    return int(raw)


def _number(raw: str) -> float:
    try:
        value = float(raw)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise ValueError("a number is needed")
    return value


def _decimal(raw: str) -> Decimal:
    if not DECIMAL.fullmatch(raw):
        raise ValueError("a decimal number with two places at most is needed")
    return Decimal(raw)


def _boolean(raw: str) -> bool:
    if raw.lower() not in {"true", "false", "1", "0"}:
        raise ValueError("true or false is needed")
    return raw.lower() in {"true", "1"}


def _date(raw: str) -> date:
    try:
        return date.fromisoformat(raw if len(raw) == 10 else "")
    except ValueError:
        raise ValueError("a date is needed, such as 2027-03-01") from None


def _datetime(raw: str) -> datetime:
    message = "a time with its zone is needed, such as 2027-03-01T08:00:00Z"
    try:
        value = parse_datetime(raw.replace(" ", "+"))  # a bare + in an address is a blank
    except ValueError:
        value = None
    if value is None or timezone.is_naive(value):
        raise ValueError(message)
    try:
        return value.astimezone(timezone.get_default_timezone())
    except OverflowError:
        raise ValueError(message) from None


@dataclass(frozen=True, slots=True)
class Kind:
    """A type of value: how it is read, how the schema calls it, and which suffixes make sense."""

    read: Callable[[str], Any]
    schema: Mapping[str, Any]
    suffixes: tuple[str, ...]


ORDERED = ("", "n", "lt", "lte", "gt", "gte")
KINDS: Mapping[str, Kind] = {
    "text": Kind(_text, {"type": "string", "maxLength": TEXT_MAX}, ("", "n", "ic", "isw")),
    "integer": Kind(_integer, {"type": "integer"}, ORDERED),
    "number": Kind(_number, {"type": "number"}, ORDERED),
    "decimal": Kind(_decimal, {"type": "string", "pattern": rf"^{DECIMAL.pattern}$"}, ORDERED),
    "date": Kind(_date, {"type": "string", "format": "date"}, ORDERED),
    "datetime": Kind(_datetime, {"type": "string", "format": "date-time"}, ORDERED),
    "boolean": Kind(_boolean, {"type": "boolean"}, ("",)),
}
LOOKUPS = {"ic": "icontains", "isw": "istartswith", "lt": "lt", "lte": "lte", "gt": "gt", "gte": "gte"}


# --- which parameters a list takes ---
Within = Callable[[QuerySet[Any]], QuerySet[Any]]
"""Leaves of some rows those that an account sees."""


@dataclass(frozen=True, slots=True)
class Param:
    """One query parameter: the path through the models, the kind of value, the suffix, and the choices if few.

    `relation` is the part of the path that leads to another row, of the model `related`; `key` are the paths of the
    texts of its key, where that has several.
    """

    name: str
    path: str
    kind: str
    suffix: str = ""
    choices: tuple[Any, ...] = ()
    relation: str = ""
    related: type[models.Model] | None = None
    key: tuple[str, ...] = ()

    def condition(self, raws: Sequence[str], within: Within | None = None) -> Q:
        """Return what a parameter asks for; several values are alternatives.

        Where an account sees a part of the rows (`within`), a related row that it does not see matches nothing: neither
        what is found nor what is left out tells of it.
        """
        values = [self.read(raw) for raw in raws]
        if self.suffix == "isnull":
            return Q(**{f"{self.path}__isnull": values[-1]})
        if within is None or self.related is None:
            found = self._found(values, f"{self.relation}__" if self.relation else "")
        else:
            related = self.related._default_manager.filter(self._found(values, ""))
            found = Q(**{f"{self.relation}__in": within(related)})
        return ~found if self.suffix == "n" else found

    def _found(self, values: Sequence[Any], start: str) -> Q:
        path = start + (self.path.removeprefix(f"{self.relation}__") if self.relation else self.path)
        if self.suffix in {"", "n"}:
            keys = [value for value in values if self.key and "/" in value]
            found = Q(**{f"{path}__in": [value for value in values if value not in keys]})
            for parts in (key.split("/") for key in keys):
                if len(parts) == len(self.key):
                    found |= Q(**{start + part: text for part, text in zip(self.key, parts, strict=True)})
            return found
        found = Q()
        for value in values:
            found |= Q(**{f"{path}__{LOOKUPS[self.suffix]}": value})
        return found

    def read(self, raw: str) -> Any:
        """Return one value, or raise the error that names the parameter."""
        try:
            value = KINDS[self.kind].read(raw)
        except ValueError as error:
            raise ValidationError(
                {self.name: [f"{str(error)[:1].upper()}{str(error)[1:]}, not {raw[:40]!r}."]}
            ) from None
        if self.choices and value not in self.choices:
            there = ", ".join(str(choice) or "(empty)" for choice in self.choices)
            raise ValidationError({self.name: [f"{raw[:40]!r} is none of: {there}."]})
        return value

    def schema(self) -> dict[str, Any]:
        """Return the parameter as OpenAPI describes it."""
        item = dict(KINDS[self.kind].schema)
        if self.choices:
            item = {"type": item["type"], "enum": list(self.choices)}
        shape = item if self.kind == "boolean" else {"type": "array", "items": item}
        return {"name": self.name, "in": "query", "required": False, "schema": shape}


@dataclass(frozen=True, slots=True)
class DayParam(Param):
    """What stands on a day. `path` is the first day of a row, `last` the first day on which it is gone, if any."""

    last: str = ""

    def condition(self, raws: Sequence[str], within: Within | None = None) -> Q:
        """Return what stands on the day."""
        if len(raws) > 1:
            raise ValidationError({self.name: ["Only one day is taken."]})
        day = self.read(raws[0])
        found = Q(**{f"{self.path}__lte": day}) | Q(**{f"{self.path}__isnull": True})
        if self.last:
            found &= Q(**{f"{self.last}__gt": day}) | Q(**{f"{self.last}__isnull": True})
        return found

    def schema(self) -> dict[str, Any]:
        """Return the parameter as OpenAPI describes it."""
        text = "Only what stands, or holds, on this day by its own dates."
        return {
            "name": self.name,
            "in": "query",
            "required": False,
            "schema": KINDS["date"].schema,
            "description": text,
        }


@cache
def params_of(model: type[models.Model], filters: tuple[tuple[str, str], ...]) -> dict[str, Param]:
    """Return the parameters for (name, path) pairs; related objects are named by their slug or key, or by `_id`."""
    params: dict[str, Param] = {}
    for name, path in filters:
        field = _field_at(model, path)
        if isinstance(field, models.ForeignKey):
            related = field.related_model
            if any(other.name == "slug" for other in related._meta.get_fields()):
                key = key_paths(related) if str(related._meta.model_name) in BY_KIND else ()
                key = key if len(key) > 1 else ()
                _add(params, Param(name, f"{path}__slug", "text", relation=path, related=related, key=key))
            by_id = Param(f"{name}_id", f"{path}__pk", "integer", relation=path, related=related)
            _add(params, by_id, suffixes=("", "n"))
            if field.null:
                params[f"{name}_id__isnull"] = Param(f"{name}_id__isnull", path, "boolean", "isnull")
        else:
            relation, other = relation_of(model, path)
            choices = tuple(value for value, _ in field.choices or ())
            choices += ("",) if choices and field.blank and isinstance(field, models.CharField) else ()
            param = Param(name, path, kind_of(field), choices=choices, relation=relation, related=other)
            _add(params, param, suffixes=("", "n") if choices else None)
            if field.null:
                params[f"{name}__isnull"] = Param(f"{name}__isnull", path, "boolean", "isnull")
    return params


@cache
def search_of(model: type[models.Model], search: tuple[str, ...]) -> tuple[Param, ...]:
    """Return what `?q=` looks into."""
    ways = {path: relation_of(model, path) for path in search}
    return tuple(Param("q", path, "text", "ic", relation=way[0], related=way[1]) for path, way in ways.items())


def _add(params: dict[str, Param], param: Param, *, suffixes: tuple[str, ...] | None = None) -> None:
    for suffix in KINDS[param.kind].suffixes if suffixes is None else suffixes:
        full = f"{param.name}__{suffix}" if suffix else param.name
        params[full] = replace(param, name=full, suffix=suffix)


def relation_of(model: type[models.Model], path: str) -> tuple[str, type[models.Model] | None]:
    """Return the part of a path that leads to another row, and that row's model."""
    relation, _, _ = path.rpartition("__")
    return relation, _field_at(model, relation).related_model if relation else None


def _field_at(model: type[models.Model], path: str) -> Any:
    field: Any = None
    for part in path.split("__"):
        field = model._meta.get_field(part)
        model = field.related_model or model
    return field


def kind_of(field: Any) -> str:
    """Return the kind of the values of a column."""
    table: tuple[tuple[type[Any], str], ...] = (
        (models.BooleanField, "boolean"),
        (models.DateTimeField, "datetime"),
        (models.DateField, "date"),
        (models.DecimalField, "decimal"),
        (models.FloatField, "number"),
        (models.IntegerField, "integer"),
        (models.CharField, "text"),
    )
    return next(kind for type_, kind in table if isinstance(field, type_))


# --- the strictness ---
def params_check(request: Request, allowed: Iterable[str]) -> None:
    """Refuse every query parameter that is not allowed, with the closest ones that are."""
    known = sorted(allowed)
    errors = {}
    for name in request.query_params:
        if name not in known:
            close = difflib.get_close_matches(name, known, n=2)
            hint = f"; did you mean {' or '.join(close)}?" if close else f"; there are: {', '.join(known) or 'none'}."
            errors[name[:80]] = [f"Unknown parameter{hint}"]
    if errors:
        raise ValidationError(errors)


class StrictFilter(BaseFilterBackend):
    """Filters, `q` and `ordering` of a list, as its view declares them."""

    def filter_queryset(self, request: Request, queryset: QuerySet[Any], view: Any) -> QuerySet[Any]:
        """Narrow and order; only lists have parameters of this kind."""
        if view.action != "list":
            return queryset
        params, query = view.params(), request.query_params
        asked = [(params[name], query.getlist(name)) for name in query if name in params]
        model: Any = queryset.model
        texts = search_of(model, tuple(view.search)) if query.get("q") else ()
        crosses = any(param.related for param in (*texts, *(param for param, _ in asked)))
        is_limited = crosses and region_limit(request.user) is not None
        within = partial(seen, user=request.user) if is_limited else None
        for param, raws in asked:
            queryset = queryset.filter(param.condition(raws, within))
        if texts:
            queryset = queryset.filter(reduce(or_, (param.condition([query["q"]], within) for param in texts)))
        return queryset.order_by(*ordering_read(request, view)) if "ordering" in request.query_params else queryset

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Describe them."""
        found = [param.schema() for param in view.params().values()]
        if view.search:
            text = f"Text searched in {', '.join(view.search)}."
            found.append({**Param("q", "", "text").schema(), "schema": KINDS["text"].schema, "description": text})
        names = [sign + name for name in view.orderings() for sign in ("", "-")]
        order = {"type": "array", "items": {"type": "string", "enum": names}}
        return [
            *found,
            {
                "name": "ordering",
                "in": "query",
                "required": False,
                "style": "form",
                "explode": False,
                "schema": order,
                "description": "Fields to sort by, with commas; - turns one round.",
            },
        ]


def ordering_read(request: Request, view: Any) -> list[str]:
    """Return the order asked for as paths, ended by the key so that pages do not overlap."""
    known = view.orderings()
    asked = [word for raw in request.query_params.getlist("ordering") for word in raw.split(",") if word]
    for word in asked:
        if word.removeprefix("-") not in known:
            raise ValidationError({"ordering": [f"Cannot sort by {word[:40]!r}; there are: {', '.join(known)}."]})
    return [("-" if word.startswith("-") else "") + known[word.removeprefix("-")] for word in asked] + ["pk"]


def fields_read(request: Request, known: Sequence[str]) -> list[str] | None:
    """Return the fields that `?fields=` or `?brief=1` asks for, or None for all."""
    asked = [word for raw in request.query_params.getlist("fields") for word in raw.split(",") if word]
    for word in asked:
        if word not in known:
            raise ValidationError({"fields": [f"Unknown field {word[:40]!r}; there are: {', '.join(known)}."]})
    brief = Param("brief", "", "boolean").read(request.query_params.get("brief", "0"))
    if asked:
        return asked
    return [name for name in ("id", "url", "display", "slug") if name in known] if brief else None


# --- pages ---
PAGE = (
    OpenApiParameter("limit", {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT}),
    OpenApiParameter("offset", {"type": "integer", "minimum": 0, "maximum": OFFSET_MAX, "default": 0}),
)
"""Parameters of a list without filters, as the schema shows them."""


class StrictPages(BasePagination):
    """`limit` and `offset`, or an opaque `cursor` that stays right while rows come and go."""

    def paginate_queryset(self, queryset: Any, request: Request, view: Any = None) -> list[Any]:
        """Return one page."""
        self.request = request
        self.limit = self._whole("limit", LIMIT, low=1, high=LIMIT_MAX)
        self.offset = self._whole("offset", 0, low=0, high=OFFSET_MAX)
        self.by_cursor = "cursor" in request.query_params
        if self.by_cursor:
            return self._by_cursor(queryset)
        self.count = queryset.count() if isinstance(queryset, QuerySet) else len(queryset)
        page = list(queryset[self.offset : self.offset + self.limit]) if self.offset < self.count else []
        self.next = self._link(offset=self.offset + self.limit) if self.offset + self.limit < self.count else None
        self.previous = self._link(offset=max(0, self.offset - self.limit)) if self.offset else None
        return page

    def _by_cursor(self, queryset: Any) -> list[Any]:
        if not isinstance(queryset, QuerySet) or {"offset", "ordering"} & set(self.request.query_params):
            raise ValidationError({"cursor": ["A cursor goes with neither offset nor ordering, nor with the catalog."]})
        self.count = queryset.count()
        after = cursor_read(self.request.query_params["cursor"])
        page = list(queryset.filter(pk__gt=after).order_by("pk")[: self.limit + 1])
        self.previous = None
        self.next = self._link(cursor=cursor_make(page[self.limit - 1].pk)) if len(page) > self.limit else None
        return page[: self.limit]

    def _link(self, **changed: Any) -> str:
        url = self.request.build_absolute_uri()
        for name, value in {"limit": self.limit, **changed}.items():
            url = replace_query_param(url, name, value)
        return url

    def _whole(self, name: str, default: int, *, low: int, high: int) -> int:
        raw = self.request.query_params.get(name)
        if raw is None:
            return default
        if not INTEGER.fullmatch(raw) or not low <= int(raw) <= high:
            raise ValidationError({name: [f"A whole number from {low} to {high} is needed, not {raw[:40]!r}."]})
        return int(raw)

    def get_paginated_response(self, data: Any) -> Response:
        """Return the page with its place."""
        return Response({"count": self.count, "next": self.next, "previous": self.previous, "results": data})

    def get_paginated_response_schema(self, schema: dict[str, Any]) -> dict[str, Any]:
        """Describe a page."""
        link = {"type": ["string", "null"], "format": "uri"}
        return {
            "type": "object",
            "required": ["count", "next", "previous", "results"],
            "properties": {"count": {"type": "integer"}, "next": link, "previous": link, "results": schema},
        }

    def get_schema_operation_parameters(self, view: Any) -> list[dict[str, Any]]:
        """Describe the parameters."""
        limit = {"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT}
        offset = {"type": "integer", "minimum": 0, "maximum": OFFSET_MAX, "default": 0}
        found = [
            {"name": "limit", "in": "query", "required": False, "schema": limit, "description": "Rows of a page."},
            {"name": "offset", "in": "query", "required": False, "schema": offset, "description": "Rows left out."},
        ]
        if getattr(view, "queryset", None) is not None:
            text = "Walk by key: empty for the first page, then as `next` says. Not with offset or ordering."
            found.append(
                {"name": "cursor", "in": "query", "required": False, "schema": {"type": "string"}, "description": text}
            )
        return found


def cursor_make(pk: int) -> str:
    """Return an opaque cursor that stands after a key."""
    return base64.urlsafe_b64encode(f"after:{pk}".encode()).decode().rstrip("=")


def cursor_read(raw: str) -> int:
    """Return the key that a cursor stands after; an empty one stands before all."""
    if not raw:
        return -1
    try:
        text = base64.b64decode(raw + "=" * (-len(raw) % 4), altchars=b"-_", validate=True).decode("ascii")
        word, _, key = text.partition(":")
        if word != "after":
            raise ValueError(word)
        return _integer(key)
    except (ValueError, binascii.Error, UnicodeDecodeError):
        raise ValidationError({"cursor": ["This is no cursor: take it from `next`."]}) from None
