"""Remove the demo."""

from typing import Any

from django.core.management.base import BaseCommand, CommandError
from django.db.models import ProtectedError

from fleet.services import RowsWriteError
from scenarios.demo import demo_remove


class Command(BaseCommand):
    """Remove the demo user, its scenarios and its fleet; what others made stays."""

    help = "Remove the demo user, its scenarios with their runs, and its fleet."
    requires_system_checks = []  # a deployment with a demo user fails its checks: this is the way out

    def handle(self, *args: Any, **options: Any) -> None:
        """Remove, or say what holds it."""
        try:
            demo_remove()
        except ProtectedError as error:
            held = ", ".join(sorted(str(thing) for thing in error.protected_objects)[:5])
            raise CommandError(f"the demo is still used by: {held}; nothing was removed") from error
        except RowsWriteError as error:
            told = " ".join(dict.fromkeys(one.message for one in error.errors[:5]))
            raise CommandError(f"the demo is still used; nothing was removed: {told}") from error
        self.stdout.write("the demo is removed")
