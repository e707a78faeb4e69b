"""Bring the groups of the roles up to date."""

from typing import Any

from django.core.management.base import BaseCommand

from api.roles import roles_load


class Command(BaseCommand):
    """Make or bring up to date the groups viewer and planner; run it after each migrate."""

    help = "Make or bring up to date the groups viewer and planner. Safe to run again."

    def handle(self, *args: Any, **options: Any) -> None:
        """Load."""
        roles_load()
