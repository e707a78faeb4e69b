"""What an account that is limited to regions may be shown of a row, and which rows it may write."""

from typing import Any

from django.db.models import ForeignKey, Model
from rest_framework.exceptions import PermissionDenied

from fleet.access import entry_of, region_limit
from fleet.inventory import key_paths

GLOBAL = "Your account is limited to regions: it cannot write what lies in none or in all of them."


def key_relations(model: type[Model]) -> tuple[str, ...]:
    """Return the relations that the key of a row is made of: the hall and its site, for a row of racks."""
    paths = (path.rpartition("__")[0] for path in key_paths(model))
    return tuple(dict.fromkeys(path for path in paths if path))


def related_paths(model: type[Model]) -> tuple[str, ...]:
    """Return the relations that a row is shown with: its related rows, and what their names are made of."""
    paths = []
    for field in model._meta.concrete_fields:
        if isinstance(field, ForeignKey):
            inner = key_relations(field.related_model)
            paths += [field.name, *(f"{field.name}__{path}" for path in inner)]
    return tuple(dict.fromkeys(paths))


def region_paths(model: type[Model]) -> tuple[str, ...]:
    """Return the relations that lead from a row to where its related rows lie."""
    paths = []
    for field in model._meta.concrete_fields:
        if isinstance(field, ForeignKey) and (entry := entry_of(field.related_model)):
            places = [path.rpartition("__")[0] for path in entry.regions]
            paths += [f"{field.name}__{place}" for place in places if place]
    return tuple(dict.fromkeys(paths))


def write_check(row: Model, user: Any) -> None:
    """Refuse a row that lies everywhere to an account that is limited; where it lies else, its place is seen."""
    entry = entry_of(type(row))
    if region_limit(user) is None or entry is None:
        return
    first = [path.split("__")[0] for path in entry.regions]
    if all((row.pk if name == "pk" else getattr(row, f"{name}_id")) is None for name in first):
        raise PermissionDenied(GLOBAL, code="region_limited")
