"""`python manage.py ready`: what /readyz says, for health checks of containers that serve no page."""

import json
from typing import Any

from django.core.management.base import BaseCommand, CommandParser

from config.health import PARTS, readiness


class Command(BaseCommand):
    """Print the readiness and exit with 1 when it is lacking."""

    help = "Print the health of database, broker, worker and sweep; exit code 1 when it is lacking."

    def add_arguments(self, parser: CommandParser) -> None:
        """One part may be asked for alone."""
        parser.add_argument("--part", choices=sorted(PARTS))

    def handle(self, *args: Any, **options: Any) -> None:
        """Ask, print, exit."""
        if options["part"]:
            known = PARTS[options["part"]]()
            well = known["ok"]
        else:
            known = readiness()
            well = known["ready"]
        self.stdout.write(json.dumps(known))
        if not well:
            raise SystemExit(1)
