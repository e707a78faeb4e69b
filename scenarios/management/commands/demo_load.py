"""Load the demo fleet and its first runs."""

from typing import Any

from django.core.management.base import BaseCommand

from scenarios.demo import demo_load


class Command(BaseCommand):
    """Load the demo once; a second call changes nothing."""

    help = "Load the demo fleet, its scenarios and their first runs, unless they are there."

    def handle(self, *args: Any, **options: Any) -> None:
        """Load."""
        if options["verbosity"]:
            self.stdout.write("the demo is loaded" if demo_load() else "the demo was loaded before")
        else:
            demo_load()
