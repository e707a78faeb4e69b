"""What may fail: a node of one of the trees or a place, found by its name as far as an account sees it."""

from collections.abc import Mapping
from functools import reduce
from types import MappingProxyType
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db.models import QuerySet

from fleet.access import rows_seen
from fleet.domains import PLACES, TREES
from fleet.inventory import INVENTORY, Entry, key_find
from fleet.models import Site

SITE_PATHS: Mapping[str, str] = MappingProxyType({
    **dict.fromkeys((*TREES, "scale-up-domain", "hall"), "site"),
    "site": "",
    "row": "hall__site",
    "rack": "row__hall__site",
    "host": "rack__row__hall__site",
})  # fmt: skip
"""Where the site of something is found."""


def failing_entry(tree: str) -> Entry:
    """Return the list that has the nodes of a tree of `fleet.domains.TREES`, or the places of a kind of `PLACES`."""
    if tree not in (*TREES, *PLACES):
        raise ValueError(f"unknown tree {tree!r}")
    return INVENTORY[f"{tree}-nodes" if tree in TREES else f"{tree}s"]


def failing_find(tree: str, key: str, user: AbstractBaseUser | AnonymousUser | None) -> Any:
    """Return the row that a key names in a tree, with the site that it is in, or None where none is seen."""
    rows: QuerySet[Any] = failing_entry(tree).model._default_manager.all()
    if tree != "region":
        rows = rows.select_related("__".join(filter(None, (SITE_PATHS[tree], "region"))))
    return key_find(rows_seen(rows, user), key)


def failing_sites(tree: str, found: Any) -> list[Site]:
    """Return the sites in which something lies: one, or all of a region."""
    if tree == "region":
        return list(found.sites.select_related("region").order_by("slug"))
    return [reduce(getattr, filter(None, SITE_PATHS[tree].split("__")), found)]
