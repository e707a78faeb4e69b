"""Roles: groups with permissions. Loaded again after each migration, so that new models find their place."""

from django.contrib.auth.models import Group, Permission
from django.db import transaction
from django.db.models import Q

FLEET_EDITED = ("delivery", "hosttype", "readiness", "service")
SCENARIOS_EDITED = ("calibrationversion", "run", "scenario", "schedule", "trace")
WRITES = ("add", "change", "delete")


def roles_load() -> None:
    """Make or bring up to date the groups `viewer` and `planner`, which edits plans and what they rest on.

    `viewer` names the view permissions, which the admin pages ask for. Pages and API do not: every account may read
    everything, and roles govern writes.
    """
    sees = Q(content_type__app_label__in=("fleet", "scenarios"), codename__startswith="view_")
    edits = Q(content_type__app_label="fleet", codename__in=_codenames(FLEET_EDITED)) | Q(
        content_type__app_label="scenarios", codename__in=_codenames(SCENARIOS_EDITED)
    )
    with transaction.atomic():
        for name, allowed in (("viewer", sees), ("planner", sees | edits)):
            group, _ = Group.objects.get_or_create(name=name)
            group.permissions.set(Permission.objects.filter(allowed))


def _codenames(models: tuple[str, ...]) -> list[str]:
    return [f"{verb}_{model}" for model in models for verb in WRITES]
