"""Write the JavaScript that pages load and no source file holds: the chart bundle, out of its Python package."""

from pathlib import Path
from typing import Any

import vl_convert
from django.conf import settings
from django.core.management.base import BaseCommand

VEGA_LITE_VERSION = "6.4"
SNIPPET = "window.vegaEmbed = vegaEmbed;"
EXPORT_LINE = (
    "\nexport default window.vegaEmbed;\n"  # the page imports it as a module: as a plain script it clobbers globals
)


class Command(BaseCommand):
    """Make static/vendor/vega.js; safe to repeat."""

    help = "Write static/vendor/vega.js, the chart bundle of the pages."
    requires_system_checks = []

    def handle(self, *args: Any, **options: Any) -> None:
        """Write beside the target first, so that an interrupted build leaves no half of a file."""
        target = Path(settings.BASE_DIR) / "static" / "vendor" / "vega.js"
        target.parent.mkdir(parents=True, exist_ok=True)
        draft = target.with_suffix(".part")
        draft.write_text(vl_convert.javascript_bundle(SNIPPET, vl_version=VEGA_LITE_VERSION) + EXPORT_LINE)
        draft.replace(target)
        self.stdout.write(f"wrote {target.relative_to(settings.BASE_DIR)}, {target.stat().st_size / 1024:.0f} KiB")
