"""Roles: groups with permissions. Loaded again after each migration, so that new models find their place."""

from collections.abc import Iterable

from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Q

from fleet.inventory import INVENTORY

SCENARIOS_EDITED = ("calibrationversion", "demandhistory", "run", "scenario", "schedule", "trace")
IMPORTS = ("add_importjob", "change_importjob")
WRITES = ("add", "change", "delete")
ROLES = ("viewer", "planner", "operator", "admin")


def roles_load() -> None:
    """Make the groups of the roles, or bring them up to date.

    A viewer reads. A planner also edits scenarios and what plans rest on; an operator what stands on the floor; an
    admin everything, accounts included. The inventory says who edits which rows of the fleet. Who has several roles
    may do what any of them may.
    """
    with transaction.atomic():
        for role in ROLES:
            group, _ = Group.objects.get_or_create(name=role)
            group.permissions.set(Permission.objects.filter(role_allows(role)))


def role_allows(role: str) -> Q:
    """Return the filter of the permissions that a role has."""
    sees = Q(content_type__app_label__in=("fleet", "scenarios"), codename__startswith="view_")
    if role == "admin":
        return sees | Q(content_type__app_label__in=("fleet", "scenarios", "api", "auth"))
    edited = [entry.kind for entry in INVENTORY.values() if role in entry.editors]
    allowed = sees | Q(content_type__app_label="fleet", codename__in=_codenames(edited))
    if edited:
        allowed |= Q(content_type__app_label="scenarios", codename__in=IMPORTS)
    if role == "planner":
        allowed |= Q(content_type__app_label="scenarios", codename__in=_codenames(SCENARIOS_EDITED))
    return allowed


def _codenames(kinds: Iterable[str]) -> list[str]:
    return [f"{verb}_{kind}" for kind in kinds for verb in WRITES]
