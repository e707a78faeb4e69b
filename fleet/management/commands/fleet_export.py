"""`manage.py fleet_export hosts --out hosts.csv`: a table of the fleet, or all of it, as `fleet_import` reads it."""

from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.exchange import FORMATS, Scope, entry_write, fleet_write
from fleet.inventory import INVENTORY
from fleet.models import Region, Site


class Command(BaseCommand):
    """Export."""

    help = "Write rows of the fleet to a csv, xlsx or json file, in the order of their keys."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which table, into which file, and of which part of the fleet."""
        parser.add_argument("entry", nargs="?", choices=list(INVENTORY), metavar="ENTRY", help=", ".join(INVENTORY))
        parser.add_argument("--all", action="store_true", help="all tables, in one file; csv: in a folder")
        parser.add_argument("--format", choices=FORMATS, help="by default as the name ends, or csv")
        parser.add_argument("--out", type=Path, required=True, metavar="PATH", help="file, or folder for csv of --all")
        where = parser.add_mutually_exclusive_group()
        where.add_argument("--region", default="", help="only what lies in this region, or everywhere")
        where.add_argument("--site", default="", help="only what lies at this site, or everywhere")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write."""
        if bool(options["entry"]) == options["all"]:
            raise CommandError("name one table, or --all")
        for model, slug in ((Region, options["region"]), (Site, options["site"])):
            if slug and not model.objects.filter(slug=slug).exists():
                raise CommandError(f"there is no {model._meta.verbose_name} {slug!r}")
        path, scope = options["out"], Scope(options["region"], options["site"])
        suffix = path.suffix.removeprefix(".")
        kind = options["format"] or (suffix if suffix in FORMATS else "csv")
        try:
            if options["all"]:
                fleet_write(path, kind, scope=scope)
            else:
                entry_write(INVENTORY[options["entry"]], path, kind, scope=scope)
        except OSError as error:
            raise CommandError(f"{path}: {error.strerror}") from error
