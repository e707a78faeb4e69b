"""`manage.py demand_history SERVICE`: keep the measured demand of a service, from a file or a stored trace."""

from argparse import ArgumentTypeError
from datetime import datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from fleet.files import FileError
from fleet.models import Service
from scenarios.demands import HistoryChangedError, history_of_trace, history_store
from scenarios.histories import HistoryError
from scenarios.history_files import HistoryFaultsError, history_read, moment_of
from scenarios.management.waiting import BAD_INPUT
from scenarios.models import Trace

WINDOW_S = 600


class Command(BaseCommand):
    """Keep a history. Exit codes: 0 done, 2 bad input: nothing was kept."""

    help = "Keep the measured demand of a service, joined to what is known of it already."

    def add_arguments(self, parser: CommandParser) -> None:
        """Of which service, and where it comes from."""
        parser.add_argument("service", help="slug of the service")
        where = parser.add_mutually_exclusive_group(required=True)
        where.add_argument("--file", type=Path, help="csv or csv.gz: window_start or window_start_s, rate_rps, ...")
        where.add_argument("--trace", type=int, metavar="ID", help="stored trace whose arrivals are counted")
        parser.add_argument("--start", type=_moment, help="moment from which the file's or the trace's seconds count")
        parser.add_argument("--window-s", type=int, help=f"length of a window; of a trace {WINDOW_S} if left out")
        parser.add_argument("--new", action="store_true", help="instead of what is known, not joined to it")

    def handle(self, *args: Any, **options: Any) -> None:
        """Read it and keep it, or say why not."""
        service = Service.objects.filter(slug=options["service"]).first()
        if service is None:
            raise CommandError(f"there is no service {options['service']}", returncode=BAD_INPUT)
        start, window_s = options["start"], options["window_s"]
        try:
            if options["file"]:
                with options["file"].open("rb") as stream:
                    read = history_read(stream, options["file"].name, starts_at=start, window_s=window_s)
                name, history, note = options["file"].name, read.history, read.note
            else:
                trace = Trace.objects.filter(pk=options["trace"]).first()
                if trace is None:
                    raise CommandError(f"there is no trace {options['trace']}", returncode=BAD_INPUT)
                if start is None:
                    raise CommandError("a trace needs --start: its seconds count from there", returncode=BAD_INPUT)
                history = history_of_trace(trace, starts_at=start, window_s=window_s or WINDOW_S)
                name, note = trace.name, ""
            kept = history_store(service, history, name=name, owner=None, note=note, is_new=options["new"])
        except HistoryFaultsError as error:
            places = "".join(f"\n{error.name}:{one.line}: column {one.column}: {one.reason}" for one in error.faults)
            text = f"{error.total} row(s) are wrong; nothing was kept{places}"
            raise CommandError(text, returncode=BAD_INPUT) from error
        except (OSError, FileError, HistoryError, HistoryChangedError) as error:
            raise CommandError(str(error), returncode=BAD_INPUT) from error
        self.stdout.write(
            f"{service.slug}: {kept.windows:,} windows of {kept.window_s} s from {kept.starts_at:%Y-%m-%d %H:%M} "
            f"to {kept.ends_at:%Y-%m-%d %H:%M} UTC"
        )


def _moment(text: str) -> datetime:
    try:
        return moment_of(text)
    except ValueError as error:
        raise ArgumentTypeError(str(error)) from error
