"""`manage.py fleet_import hosts hosts.csv --dry-run`: a table of the fleet, or the whole fleet, out of files."""

import json
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.audit import Author, writing_as
from fleet.exchange import ImportReport, fleet_import, import_run
from fleet.inventory import INVENTORY


class Command(BaseCommand):
    """Import. Exit codes: 0 done, 1 something in the file is wrong: nothing was written."""

    help = "Make and edit rows of the fleet out of a csv, xlsx or json file; all of it or nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which table, out of which file."""
        parser.add_argument("entry", nargs="?", choices=list(INVENTORY), metavar="ENTRY", help=", ".join(INVENTORY))
        parser.add_argument(
            "path", type=Path, help="file; with --all a .json file, a workbook or a folder of csv files"
        )
        parser.add_argument("--all", action="store_true", help="all tables that the file or folder holds")
        parser.add_argument("--mode", choices=["upsert", "create", "update"], default="upsert", help="what rows may do")
        parser.add_argument("--dry-run", action="store_true", help="show what would be done and do nothing")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--why", default="", help="kept in the change history")

    def handle(self, *args: Any, **options: Any) -> None:
        """Import, and say what was done or what is wrong."""
        if bool(options["entry"]) == options["all"]:
            raise CommandError("name one table, or --all")
        if not options["path"].exists():
            raise CommandError(f"{options['path']}: there is no such file")
        wanted = {"dry_run": options["dry_run"], "mode": options["mode"]}
        try:
            with writing_as(Author(name="fleet_import", why=options["why"])):
                if options["all"]:
                    report = fleet_import(options["path"], **wanted)
                else:
                    report = import_run(INVENTORY[options["entry"]], options["path"], **wanted)
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        if options["json"]:
            self.stdout.write(json.dumps(report.as_dict(), ensure_ascii=False))
        else:
            self._print(report)
        if not report.sound:
            raise CommandError(f"{report.errors_total:,} error(s); nothing was written")

    def _print(self, report: ImportReport) -> None:
        for fault in report.errors:
            self.stdout.write(str(fault))
        if report.errors_total > len(report.errors):
            self.stdout.write(f"... and {report.errors_total - len(report.errors):,} more")
        for name, one in report.counts.items():
            self.stdout.write(
                f"{name}: {one.created:,} new, {one.updated:,} edited, {one.unchanged:,} as they were"
                + (f", {one.refused:,} refused" if one.refused else "")
            )
        if report.sound and report.dry_run:
            self.stdout.write("nothing was written: --dry-run")
