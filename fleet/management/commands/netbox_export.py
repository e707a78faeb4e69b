"""`manage.py netbox_export FOLDER`: the fleet as files that NetBox's bulk import reads."""

import json
from collections.abc import Mapping
from datetime import date
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils.timezone import localdate

from fleet.models import Site
from fleet.netbox import netbox_export


class Command(BaseCommand):
    """Export."""

    help = "Write sites, locations, racks, devices and power as csv files, and device types as YAML."

    def add_arguments(self, parser: CommandParser) -> None:
        """Into which folder, and what of the fleet."""
        parser.add_argument("folder", type=Path, help="new or empty folder")
        parser.add_argument("--site", default="", help="only what lies at this site, or everywhere")
        parser.add_argument("--on", type=date.fromisoformat, help="day of the fleet, as 2027-01-31; today if left out")
        parser.add_argument(
            "--custom-fields", action="store_true", help="also write cf_ columns; NetBox must have the custom fields"
        )
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Write, and say what NetBox cannot hold."""
        site = options["site"]
        if site and not Site.objects.filter(slug=site).exists():
            raise CommandError(f"there is no site {site!r}")
        try:
            report = netbox_export(
                options["folder"],
                site=site,
                on=options["on"] or localdate(),
                custom_fields=options["custom_fields"],
            )
        except FileExistsError as error:
            raise CommandError(str(error)) from error
        except OSError as error:
            raise CommandError(f"{options['folder']}: {error.strerror}") from error
        if options["json"]:
            self.stdout.write(json.dumps(report.as_dict(), ensure_ascii=False))
        else:
            self._print("", report.written)
            self._print("not held by NetBox: ", report.not_held)

    def _print(self, title: str, counts: Mapping[str, int]) -> None:
        for name, count in counts.items():
            self.stdout.write(f"{title}{name}: {count:,}")
