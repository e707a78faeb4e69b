"""Compare the API description in docs/ with the one the code makes now."""

import difflib
import tempfile
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError, CommandParser


class Command(BaseCommand):
    """Fail when docs/openapi.yaml has drifted from the code; --write renews it."""

    help = "Compare docs/openapi.yaml with what the code describes now; --write renews it."

    def add_arguments(self, parser: CommandParser) -> None:
        """One switch."""
        parser.add_argument("--write", action="store_true", help="write docs/openapi.yaml")

    def handle(self, *args: Any, **options: Any) -> None:
        """Generate, validate, compare."""
        committed = Path(settings.BASE_DIR) / "docs" / "openapi.yaml"
        with tempfile.TemporaryDirectory() as folder:
            made = Path(folder) / "openapi.yaml"
            call_command("spectacular", file=str(made), validate=True, fail_on_warn=True)
            text = made.read_text()
        if options["write"]:
            committed.write_text(text)
            return
        before = committed.read_text() if committed.exists() else ""
        if before != text:
            diff = difflib.unified_diff(
                before.splitlines(), text.splitlines(), "docs/openapi.yaml", "the code", lineterm="", n=1
            )
            self.stderr.write("\n".join(list(diff)[:40]))
            raise CommandError(
                "docs/openapi.yaml has drifted: look at the difference, then `manage.py openapi_check --write`"
            )
