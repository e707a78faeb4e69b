"""Django on an empty SQLite file of its own, for benchmarks that need tables. DATABASE_URL is left alone."""

import atexit
import os
import tempfile

import measure  # noqa: F401 -- puts the project on the path

_folder = tempfile.TemporaryDirectory(prefix="twin-bench-")
for name in ("DEPLOYMENT", "DEBUG", "REDIS_URL", "STATIC_ROOT"):
    os.environ.pop(name, None)
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "VAR_DIR": _folder.name,
    "DATABASE_URL": f"sqlite:///{_folder.name}/bench.sqlite3",
}

import django  # noqa: E402 -- reads the environment above
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402

django.setup()  # at import, so that a benchmark can import models at its top


def tables_make() -> None:
    """Make every table, and see to it that the file goes when the process ends."""
    atexit.register(connections.close_all)
    call_command("migrate", verbosity=0)
