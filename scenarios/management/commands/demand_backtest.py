"""`manage.py demand_backtest FILE ...`: recompute the stated coverage of demand forecasts from rate series."""

from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from fleet.files import FileError
from scenarios.backtests import FIRST, REST, backtest
from scenarios.demands import COVERAGE_PATH, coverage_write
from scenarios.histories import History
from scenarios.history_files import OFFSET, HistoryFaultsError, history_read
from scenarios.management.waiting import BAD_INPUT

EPOCH = datetime(2024, 1, 1, tzinfo=UTC)
"""Where a series without a date begins: the hour of its first window is not published."""


def _read(path: Path) -> History:
    """Return the history of a file; where its windows count from a moment, from the first of 2024."""
    try:
        with path.open("rb") as stream:
            return history_read(stream, path.name).history
    except FileError as error:
        if error.column != OFFSET:
            raise
    with path.open("rb") as stream:
        return history_read(stream, path.name, starts_at=EPOCH).history


class Command(BaseCommand):
    """Backtest. Exit codes: 0 done, 2 bad input."""

    help = "Backtest demand forecasts on rate series (csv or csv.gz) and write the coverage that pages state."

    def add_arguments(self, parser: CommandParser) -> None:
        """Which series, and where the figures go."""
        parser.add_argument("files", nargs="+", type=Path, help="rate series: window_start_s or window_start, rate_rps")
        parser.add_argument("--source", default="", help="where the series are from, kept with the figures")
        parser.add_argument("--out", type=Path, default=COVERAGE_PATH, help="file to write; the product's own")
        parser.add_argument("--dry-run", action="store_true", help="print the figures and write nothing")

    def handle(self, *args: Any, **options: Any) -> None:
        """Score every series, or say why not."""
        scores = []
        for path in options["files"]:
            name = path.name.removesuffix(".gz").removesuffix(".csv").removeprefix("servegen_rates_")
            try:
                found = backtest(_read(path), name)
            except (OSError, FileError, HistoryFaultsError) as error:
                raise CommandError(str(error), returncode=BAD_INPUT) from error
            if not found:
                raise CommandError(f"{path}: too short for a backtest", returncode=BAD_INPUT)
            scores += found
        for one in scores:
            self.stdout.write(
                f"{one.series:14} {one.part:5} {one.what:6} {one.horizon_s:7,} s {one.origins:5} origins, held "
                f"{one.coverage_ratio:6.1%}, loss {one.loss_ratio:.3f}"
            )
        for part in (FIRST, REST):
            held = [one for one in scores if one.part == part and one.what == "window"]
            count = sum(one.origins for one in held)
            if count:
                share = sum(one.coverage_ratio * one.origins for one in held) / count
                self.stdout.write(f"all series, {part}: {count:,} windows, held {share:.1%}")
        if not options["dry_run"]:
            coverage_write(options["out"], scores, computed_on=timezone.now().date(), source=options["source"])
            self.stdout.write(f"written: {options['out']}")
