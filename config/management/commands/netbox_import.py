"""`manage.py netbox_import https://netbox.example/ --token-env NETBOX_TOKEN`: the fleet out of a NetBox."""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.timezone import localdate

from config.env import env_str
from fleet.audit import Author, writing_as
from fleet.files import FileError
from fleet.netbox import NetBoxClient, NetBoxError, NetBoxReport, Options, netbox_import, options_read

SHOWN = 20  # of what is left out or renamed; --json tells more


class Command(BaseCommand):
    """Import. Exit codes: 0 done, 1 something is wrong: nothing was written."""

    help = "Make and edit rows of the fleet out of a NetBox: its REST API, or what it has exported. All or nothing."

    def add_arguments(self, parser: CommandParser) -> None:
        """From where, which of it, and what NetBox does not know."""
        parser.add_argument("source", help="address of a NetBox; or a folder of its lists, or device types as .yaml")
        token = parser.add_mutually_exclusive_group()
        token.add_argument("--token-env", metavar="NAME", help="environment variable that holds the token")
        token.add_argument("--token-file", type=Path, metavar="PATH", help="file that holds the token")
        parser.add_argument("--site", default="", help="slug of the only site that is wanted")
        parser.add_argument("--map", type=Path, metavar="PATH", help="what NetBox does not know; see docs/netbox.md")
        parser.add_argument(
            "--on", type=date.fromisoformat, help="day of the reading, as 2027-01-31; today if left out"
        )
        parser.add_argument("--mode", choices=["upsert", "create", "update"], default="upsert", help="what rows may do")
        parser.add_argument("--dry-run", action="store_true", help="show what would be done and do nothing")
        parser.add_argument("--json", action="store_true", help="print JSON")
        parser.add_argument("--why", default="", help="kept in the change history")

    def handle(self, *args: Any, **options: Any) -> None:
        """Import, and say what was done, what was not carried, or what is wrong."""
        try:
            with writing_as(Author(name="netbox_import", why=options["why"])):
                report = netbox_import(
                    self._source(options),
                    site=options["site"],
                    options=options_read(options["map"]) if options["map"] else Options(),
                    on=options["on"] or localdate(),
                    dry_run=options["dry_run"],
                    mode=options["mode"],
                )
        except (NetBoxError, FileError) as error:
            raise CommandError(f"{error}; nothing was written") from error
        except ValidationError as error:
            raise CommandError("; ".join(error.messages)) from error
        if options["json"]:
            self.stdout.write(json.dumps(report.as_dict(), ensure_ascii=False))
        else:
            self._print(report)
        if not report.imported.sound:
            raise CommandError(f"{report.imported.errors_total:,} error(s); nothing was written")

    def _source(self, options: Mapping[str, Any]) -> NetBoxClient | Path:
        source = options["source"]
        if "://" not in source:
            if not Path(source).exists():
                raise CommandError(f"{source}: there is no such file or folder")
            return Path(source)
        if name := options["token_env"]:
            if not (secret := env_str(name)):
                raise CommandError(f"there is no environment variable {name}, or it is empty")
            return NetBoxClient(source, secret)
        if path := options["token_file"]:
            try:
                return NetBoxClient(source, path.read_text(encoding="utf-8").strip())
            except OSError as error:
                raise CommandError(f"{path}: {error.strerror}") from error
        raise CommandError("name the token's variable or file: --token-env or --token-file")

    def _print(self, report: NetBoxReport) -> None:
        """Print errors, counts, and what became of the rest."""
        found = report.imported
        for fault in found.errors:
            self.stdout.write(str(fault))
        if found.errors_total > len(found.errors):
            self.stdout.write(f"... and {found.errors_total - len(found.errors):,} more")
        for name, one in found.counts.items():
            self.stdout.write(
                f"{name}: {one.created:,} new, {one.updated:,} edited, {one.unchanged:,} as they were"
                + (f", {one.refused:,} refused" if one.refused else "")
            )
        self._print_counts("left out", report.omitted_counts)
        for gone in report.omitted[:SHOWN]:
            self.stdout.write(f"  {gone.place}: {gone.name}: {gone.reason}")
        for new in report.renames[:SHOWN]:
            self.stdout.write(f"renamed {new.place}: {new.name} is {new.slug}")
        if report.renames_total > SHOWN:
            self.stdout.write(f"... and {report.renames_total - SHOWN:,} more renamed")
        self._print_counts("assumed", report.assumed)
        self._print_counts("not carried", report.not_carried)
        if found.sound and found.dry_run:
            self.stdout.write("nothing was written: --dry-run")

    def _print_counts(self, title: str, counts: Mapping[str, int]) -> None:
        for name, count in sorted(counts.items()):
            self.stdout.write(f"{title}: {name}: {count:,}")
