"""`manage.py fleet_wipe --yes`: every row of the fleet goes; the change history stays, and says what they were."""

from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.audit import Author, writing_as
from fleet.exchange import fleet_wipe
from fleet.models import RegionLimit
from fleet.services import RowsWriteError


class Command(BaseCommand):
    """Wipe. Exit codes: 0 done, 1 refused: nothing was deleted."""

    help = "Delete every row of the fleet, in one transaction; refused while something else uses one."

    def add_arguments(self, parser: CommandParser) -> None:
        """That it is meant, and why."""
        parser.add_argument("--yes", action="store_true", help="it is meant")
        parser.add_argument("--why", default="", help="kept in the change history")

    def handle(self, *args: Any, **options: Any) -> None:
        """Delete, or say what holds it."""
        if not options["yes"]:
            raise CommandError("this deletes every row of the fleet: say --yes; nothing was deleted")
        limited = RegionLimit.objects.filter(regions__isnull=False).distinct().count()
        if limited:
            raise CommandError(
                f"{limited:,} account(s) are limited to regions of the fleet, and would see nothing of another one: "
                "take their limits away first; nothing was deleted"
            )
        try:
            with writing_as(Author(name="fleet_wipe", why=options["why"] or "the whole fleet")):
                counts = fleet_wipe()
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        except RowsWriteError as error:
            held = "\n".join(sorted({one.message for one in error.errors})[:5])
            raise CommandError(f"{held}\nnothing was deleted") from error
        for name, count in counts.items():
            self.stdout.write(f"{name}: {count:,} deleted")
        self.stdout.write(f"{sum(counts.values()):,} rows are deleted; the change history has them")
