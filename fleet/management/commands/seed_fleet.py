"""`manage.py seed_fleet --cards 1000000 --seed 1`: write a plausible fleet of any size."""

import time
from datetime import date
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.audit import Author, writing_as
from fleet.rawrows import tables_settle
from fleet.seeds import SeedRefusedError, fleet_seed

START = date(2026, 11, 1)
BAD_INPUT = 2


class Command(BaseCommand):
    """Seed. Exit codes: 0 done, 2 refused: nothing was written."""

    help = "Write a plausible fleet: regions, halls, 2N power, GPU and homegrown racks, dated deliveries, services."

    def add_arguments(self, parser: CommandParser) -> None:
        """Take how many cards, from which seed, dated around which day."""
        parser.add_argument("--cards", type=int, default=10_000, help="chips installed, exactly")
        parser.add_argument("--seed", type=int, default=1, help="another seed, another fleet")
        parser.add_argument("--start", type=date.fromisoformat, default=START, help=f"day it is dated by, as {START}")
        parser.add_argument("--prefix", default="", help="beginning of every slug; seed1- if left out, for seed 1")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write it, tell how far it is, and say what was written."""
        cards, begun_s = options["cards"], time.monotonic()

        def say(text: str) -> None:
            self.stderr.write(f"[{time.monotonic() - begun_s:5.0f} s] {text}", self.style.NOTICE)

        try:
            with writing_as(Author(name="seed_fleet")):
                made = fleet_seed(cards, options["seed"], options["start"], prefix=options["prefix"], say=say)
        except SeedRefusedError as error:
            raise CommandError(str(error), returncode=BAD_INPUT) from error
        tables_settle()
        taken_s = time.monotonic() - begun_s
        for name, count in made.counts.items():
            self.stdout.write(f"{name:<20} {count:>12,}")
        self.stdout.write(f"{'all rows':<20} {made.rows:>12,}")
        self.stdout.write(f"{taken_s:.1f} s, {cards / taken_s:,.0f} cards/s")
