"""`manage.py run_scenario capacity --trace FILE --wait --json`: a scenario without the dashboard, through a worker."""

import json
import tomllib
from datetime import date
from pathlib import Path
from typing import Any

from django.core.exceptions import ValidationError
from django.core.management.base import BaseCommand, CommandError, CommandParser
from django.utils import timezone

from accelerator import AcceleratorError, workload_read
from scenarios.demand import month_add, month_first
from scenarios.management.waiting import BAD_INPUT, RUN_FAILED, wait, worker_need
from scenarios.models import Run, Scenario
from scenarios.result_tables import tables_of
from scenarios.services import run_submit, scenario_check, scenario_save, workload_store


class Command(BaseCommand):
    """Ask a question about the fleet. Exit codes: 0 answered, 2 bad input, 3 no broker or worker, 4 the run failed."""

    help = "Run a capacity, migration, outage or event scenario through a worker and print the answer."

    def add_arguments(self, parser: CommandParser) -> None:
        """The scenario's fields, each with its default."""
        parser.add_argument("kind", choices=Scenario.Kind.values)
        parser.add_argument(
            "--trace",
            type=Path,
            help="csv or csv.gz whose token mix replaces the services' own; the output tokens per second demanded stay",
        )
        parser.add_argument("--name", default="", help="name of the scenario")
        parser.add_argument("--starts-on", type=_day, help="first month, YYYY-MM-DD (default: this month)")
        parser.add_argument("--ends-on", type=_day, help="last month, YYYY-MM-DD (default: 24 months in all)")
        parser.add_argument("--service", action="append", default=[], help="only this service; may be repeated")
        parser.add_argument("--reserve-ratio", type=float, default=0.1, help="share of every host kept free [-]")
        parser.add_argument("--growth-ratio", type=float, help="one growth for all services [1/month]")
        parser.add_argument("--dual-run-months", type=int, default=1, help="months GPUs stay warm [month]")
        parser.add_argument(
            "--params",
            type=Path,
            help="JSON or TOML file with what a migration takes besides: waves, floors, prices; docs/models/plan.md. "
            "An outage and an event need one that says what happens: docs/models/events.md",
        )
        parser.add_argument("--draws", type=int, default=200, help="futures drawn for bands and promises [-]")
        parser.add_argument("--seed", type=int, default=1, help="seed of the draws")
        parser.add_argument(
            "--recompute", action="store_true", help="compute even if the same question was answered before"
        )
        parser.add_argument("--wait", action="store_true", help="wait for the answer and print it")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check everything first; store nothing that cannot be run."""
        starts_on = month_first(options["starts_on"] or timezone.localdate())
        scenario = Scenario(
            name=options["name"] or f"Command line: {options['kind']}",
            kind=options["kind"],
            starts_on=starts_on,
            ends_on=options["ends_on"] or month_add(starts_on, 23),
            services=options["service"],
            reserve_ratio=options["reserve_ratio"],
            growth_override_ratio=options["growth_ratio"],
            dual_run_months=options["dual_run_months"],
            params=_params(options["params"]),
            draws=options["draws"],
            seed=options["seed"],
        )
        run = self._submit(scenario, options["trace"], recompute=options["recompute"])
        if options["wait"]:
            wait(lambda: self._look(run), self.stderr)
            self._print_answer(run, as_json=options["json"])
        elif options["json"]:
            self.stdout.write(json.dumps({"run": run.pk, "status": run.status}))
        else:
            self.stdout.write(f"run {run.pk} is queued")

    def _submit(self, scenario: Scenario, path: Path | None, *, recompute: bool) -> Run:
        try:
            scenario_check(scenario)
            workload = workload_read(path) if path else None
            worker_need()
            if workload:
                scenario.trace = workload_store(workload, owner=None)
            scenario_save(scenario)
        except ValidationError as error:
            raise CommandError(_sentence(error), returncode=BAD_INPUT) from error
        except AcceleratorError as error:
            raise CommandError(str(error), returncode=BAD_INPUT) from error
        return run_submit(scenario=scenario, owner=None, recompute=recompute)

    def _look(self, run: Run) -> tuple[bool, str]:
        run.refresh_from_db()
        return run.has_ended, f"{run.status} {run.progress_ratio:4.0%} {run.stage}"

    def _print_answer(self, run: Run, *, as_json: bool) -> None:
        if run.status != Run.Status.DONE or run.result is None:
            raise CommandError(f"run {run.pk} {run.status}: {run.error or 'no result'}", returncode=RUN_FAILED)
        if as_json:
            self.stdout.write(json.dumps({"run": run.pk, "status": run.status, "result": run.result}, sort_keys=True))
            return
        if run.reused_from_id:
            self.stdout.write(
                f"The same question was answered before: this is the result of run {run.reused_from_id}.\n"
            )
        self.stdout.write(run.result["fleet"]["sentence"])
        table = tables_of(run.result)[0]
        self.stdout.write("\n" + table.caption)
        self.stdout.write(table.csv().replace("\r\n", "\n"), ending="")


def _params(path: Path | None) -> dict[str, Any]:
    """Return the parameters of a file, by its ending."""
    if path is None:
        return {}
    try:
        found = tomllib.loads(path.read_text()) if path.suffix == ".toml" else json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise CommandError(f"{path}: {error}", returncode=BAD_INPUT) from error
    if not isinstance(found, dict):
        raise CommandError(f"{path}: an object is needed", returncode=BAD_INPUT)
    return found


def _day(text: str) -> date:
    return date.fromisoformat(text)


def _sentence(error: ValidationError) -> str:
    return "; ".join(f"{field}: {' '.join(messages)}" for field, messages in error.message_dict.items())
