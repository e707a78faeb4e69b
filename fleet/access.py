"""Which rows an account sees: all, or those of its regions and those that lie everywhere."""

from functools import reduce
from operator import or_
from typing import Any, TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import Exists, Model, OuterRef, Q, QuerySet

from fleet.inventory import BY_KIND
from fleet.models import Change, ChangeSet, Region, RegionLimit

Rows = TypeVar("Rows", bound=Model)


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
    inside = reduce(or_, (Q(**{f"{path}__in": sorted(limit)}) for path in entry.regions))
    everywhere = Q(**{f"{path}__isnull": True for path in entry.regions})
    return rows.filter(inside | everywhere)


def regions_seen(user: AbstractBaseUser | AnonymousUser | None) -> list[str]:
    """Return the slugs of the regions that an account sees, in order."""
    return list(rows_seen(Region.objects.order_by("slug"), user).values_list("slug", flat=True))


def changes_seen(user: AbstractBaseUser | AnonymousUser | None) -> QuerySet[Change]:
    """Return the changes of rows that an account sees, by the region in which a row lay as it was written."""
    limit = region_limit(user)
    if limit is None:
        return Change.objects.all()
    return Change.objects.filter(Q(region_pk__isnull=True) | Q(region_pk__in=sorted(limit)))


def change_sets_seen(user: AbstractBaseUser | AnonymousUser | None) -> QuerySet[ChangeSet]:
    """Return the change sets in which an account sees a change."""
    if region_limit(user) is None:
        return ChangeSet.objects.all()
    return ChangeSet.objects.filter(Exists(changes_seen(user).filter(change_set=OuterRef("pk"))))
