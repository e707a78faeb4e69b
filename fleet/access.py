"""Which rows an account sees: all, or those of its regions and those that lie everywhere."""

from functools import reduce
from operator import or_
from typing import Any, TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Count, Exists, F, ForeignKey, Model, OuterRef, Q, QuerySet, Subquery

from fleet.inventory import BY_KIND, Entry, key_text
from fleet.models import Change, ChangeSet, Region, RegionLimit

Rows = TypeVar("Rows", bound=Model)

ELSEWHERE = "elsewhere"
"""What a page writes for a related row that its account does not see."""


def region_limit(user: AbstractBaseUser | AnonymousUser | None) -> frozenset[int] | None:
    """Return the ids of the regions that an account is limited to, or None for no limit.

    Nobody in particular (None, a command) has no limit; an anonymous visitor sees no region. Asked once per account
    object: a request sees one answer.
    """
    if user is None:
        return None
    if not user.is_authenticated:
        return frozenset()
    known: Any = user
    if not hasattr(known, "regions_seen"):
        limit = RegionLimit.objects.filter(user_id=user.pk).first()
        known.regions_seen = frozenset(limit.regions.values_list("pk", flat=True)) if limit else None
    return known.regions_seen


def rows_seen(rows: QuerySet[Rows], user: AbstractBaseUser | AnonymousUser | None) -> QuerySet[Rows]:
    """Return those of some rows of the fleet that an account sees."""
    limit = region_limit(user)
    entry = BY_KIND[str(rows.model._meta.model_name)]
    if limit is None or not entry.regions:
        return rows
    return rows.filter(_within(entry, limit))


def rows_writable(rows: QuerySet[Rows], user: AbstractBaseUser | AnonymousUser | None) -> QuerySet[Rows]:
    """Return those of some rows of the fleet that lie where an account writes: of a limited one, in its regions."""
    limit = region_limit(user)
    entry = BY_KIND[str(rows.model._meta.model_name)]
    if limit is None:
        return rows
    return rows.filter(_inside(entry, limit)) if entry.regions else rows.none()


def _inside(entry: Entry, limit: frozenset[int], start: str = "") -> Q:
    """Return the filter of rows that lie in some regions; `start` is the path that leads to them."""
    return reduce(or_, (Q(**{f"{start}{path}__in": sorted(limit)}) for path in entry.regions))


def _within(entry: Entry, limit: frozenset[int], start: str = "") -> Q:
    """Return the filter of rows that lie in some regions or everywhere."""
    return _inside(entry, limit, start) | Q(**{f"{start}{path}__isnull": True for path in entry.regions})


def entry_of(model: type[Model]) -> Entry | None:
    """Return the entry of a kind of row of the fleet, or None for what is no row of the fleet."""
    return BY_KIND.get(str(model._meta.model_name))


def may_be_hidden(field: "ForeignKey[Any, Any]") -> bool:
    """Return whether a row can be seen by who does not see this related row of it."""
    entry, related = entry_of(field.model), entry_of(field.related_model)
    first = {path.split("__")[0] for path in entry.regions} if entry else set()
    return bool(related and related.regions) and field.name not in first


def related_seen(entry: Entry, user: AbstractBaseUser | AnonymousUser | None) -> dict[str, Q]:
    """Return by field when a related row that may be hidden is seen, or is none; nothing without a limit."""
    limit = region_limit(user)
    if limit is None:
        return {}
    hidden = [field for field in entry.fields if isinstance(field, ForeignKey) and may_be_hidden(field)]
    kinds = {field.name: str(field.related_model._meta.model_name) for field in hidden}
    return {name: _within(BY_KIND[kind], limit, f"{name}__") for name, kind in kinds.items()}


def is_shown(row: Model, user: Any) -> bool:
    """Return whether an account sees a row of the fleet; reads what leads to its region, if that is not loaded."""
    limit, entry = region_limit(user), entry_of(type(row))
    if limit is None or entry is None or not entry.regions:
        return True
    found = region_ids(row)
    return all(pk is None for pk in found) or any(pk in limit for pk in found)


def region_ids(row: Model) -> list[int | None]:
    """Return the region to which each path of a row of the fleet leads; reads what is not loaded."""
    return [_region_id(row, path) for path in BY_KIND[str(row._meta.model_name)].regions]


def _region_id(row: Any, path: str) -> int | None:
    *steps, last = path.split("__")
    for step in steps:
        row = getattr(row, step)
        if row is None:
            return None
    return row.pk if last == "pk" else getattr(row, f"{last}_id")


def name_shown(row: Model, user: Any) -> str:
    """Return the key of a related row, or the word for one that the account does not see."""
    return key_text(row) if is_shown(row, user) else ELSEWHERE


def key_shown(row: Model, user: Any) -> str:
    """Return the key of a row that is seen, without the names of rows elsewhere: `elsewhere/host-1` for a placement."""
    parts = (getattr(row, name) for name in BY_KIND[str(row._meta.model_name)].key)
    return "/".join(name_shown(part, user) if isinstance(part, Model) else str(part) for part in parts)


def regions_seen(user: AbstractBaseUser | AnonymousUser | None) -> list[str]:
    """Return the slugs of the regions that an account sees, in order."""
    return list(rows_seen(Region.objects.order_by("slug"), user).values_list("slug", flat=True))


def changes_seen(user: AbstractBaseUser | AnonymousUser | None) -> QuerySet[Change]:
    """Return the changes of rows that an account sees, by the region in which a row lay as it was written."""
    limit = region_limit(user)
    if limit is None:
        return Change.objects.all()
    return Change.objects.filter(Q(region_pk__isnull=True) | Q(region_pk__in=sorted(limit)))


def change_sets_seen(user: AbstractBaseUser | AnonymousUser | None) -> QuerySet[Any]:
    """Return the change sets in which an account sees a change; `rows_seen` counts what it sees of each."""
    if region_limit(user) is None:
        return ChangeSet.objects.annotate(rows_seen=F("rows"))
    seen = changes_seen(user).filter(change_set=OuterRef("pk"))
    count = seen.order_by().values("change_set").values(count=Count("pk"))
    return ChangeSet.objects.filter(Exists(seen)).annotate(rows_seen=Subquery(count))
