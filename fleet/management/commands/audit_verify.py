"""Look whether anybody has tampered with the log of changes."""

from dataclasses import asdict
from typing import Any

import orjson
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.audit import changes_verify


class Command(BaseCommand):
    """Recompute the chain; exit 1 on the first fault. Note the hash down elsewhere, and expect it next time."""

    help = "Recompute the chain of hashes over the log of changes and name the first fault."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take a hash that was noted down before."""
        parser.add_argument("--expect", metavar="HASH", help="hash that this command printed earlier")
        parser.add_argument("--json", action="store_true", help="print the finding as JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Verify and print."""
        found = changes_verify(expect=options["expect"])
        if options["json"]:
            self.stdout.write(orjson.dumps({"sound": found.sound, **asdict(found)}).decode())
        else:
            self.stdout.write(f"{found.sets} sets with {found.changes} changes are sound, up to {found.hash}")
        if not found.sound:
            raise CommandError(found.fault, returncode=1)
