"""Compare docs/openapi.yaml with the API, or write it anew."""

import difflib
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser

PATH = Path("docs") / "openapi.yaml"
SHOWN_LINES = 40


class Command(BaseCommand):
    """Fail if docs/openapi.yaml is not what the API says of itself; --write brings it up to date."""

    help = "Compare docs/openapi.yaml with the API; --write brings it up to date."

    def add_arguments(self, parser: CommandParser) -> None:
        """One switch."""
        parser.add_argument("--write", action="store_true", help="write the file instead")

    def handle(self, *args: Any, **options: Any) -> None:
        """Make the document, which must be valid and raise no warning; then compare or write."""
        path = settings.BASE_DIR / PATH
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / PATH.name
            call_command("spectacular", file=str(made), validate=True, fail_on_warn=True)
            present = made.read_bytes()
        if options["write"]:
            path.write_bytes(present)
            return
        kept = path.read_bytes() if path.exists() else b""
        if kept != present:
            lines = difflib.unified_diff(kept.decode().splitlines(), present.decode().splitlines(), lineterm="", n=1)
            head = "\n".join(line for _, line in zip(range(SHOWN_LINES), lines, strict=False))
            raise CommandError(f"{PATH} is old: run `python manage.py openapi_check --write`\n{head}")
