"""What an account that is limited to regions may be shown of a row, and which rows it may write."""

from typing import Any

from django.db.models import ForeignKey, Model
from rest_framework.exceptions import PermissionDenied

from fleet.access import region_limit
from fleet.inventory import BY_KIND, Entry, key_paths

GLOBAL = "Your account is limited to regions: it cannot write what lies in none or in all of them."


def entry_of(model: type[Model]) -> Entry | None:
    """Return the entry of a kind of row of the fleet, or None for what is no row of the fleet."""
    return BY_KIND.get(str(model._meta.model_name))


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


def may_be_hidden(field: "ForeignKey[Any, Any]") -> bool:
    """Return whether a row can be seen by who does not see this related row of it."""
    entry, related = entry_of(field.model), entry_of(field.related_model)
    first = {path.split("__")[0] for path in entry.regions} if entry else set()
    return bool(related and related.regions) and field.name not in first


def is_shown(row: Model, user: Any) -> bool:
    """Return whether an account sees a row of the fleet; reads nothing where `region_paths` were read with it."""
    limit, entry = region_limit(user), entry_of(type(row))
    if limit is None or entry is None or not entry.regions:
        return True
    found = [_region_id(row, path) for path in entry.regions]
    return all(pk is None for pk in found) or any(pk in limit for pk in found)


def _region_id(row: Any, path: str) -> int | None:
    *steps, last = path.split("__")
    for step in steps:
        row = getattr(row, step)
        if row is None:
            return None
    return row.pk if last == "pk" else getattr(row, f"{last}_id")


def write_check(row: Model, user: Any) -> None:
    """Refuse a row that lies everywhere to an account that is limited; where it lies else, its place is seen."""
    entry = entry_of(type(row))
    if region_limit(user) is None or entry is None:
        return
    first = [path.split("__")[0] for path in entry.regions]
    if all((row.pk if name == "pk" else getattr(row, f"{name}_id")) is None for name in first):
        raise PermissionDenied(GLOBAL, code="region_limited")
