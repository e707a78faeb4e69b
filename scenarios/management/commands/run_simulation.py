"""`manage.py run_simulation FILE.toml --wait --json`: an experiment of the simulator, its parts through workers."""

import json
from pathlib import Path
from typing import Any

from django.core.management.base import BaseCommand, CommandError, CommandParser

from accelerator import AcceleratorError
from accelerator.simulate_command import outcome_lines, values_read
from scenarios.management.waiting import BAD_INPUT, RUN_FAILED, wait, worker_need
from scenarios.models import Simulation
from scenarios.simulations import State, simulation_check, simulation_keep, simulation_outcome, simulation_state


class Command(BaseCommand):
    """Simulate an experiment. Exit codes: 0 answered, 2 bad input, 3 no broker or worker, 4 a part failed."""

    help = "Run an experiment of the request-level simulator through workers and print what came out."

    def add_arguments(self, parser: CommandParser) -> None:
        """The file, and what is wanted of it."""
        parser.add_argument("file", type=Path, help="experiment as TOML; of traces only a workload.trace_id")
        parser.add_argument("--wait", action="store_true", help="wait for the outcome and print it")
        parser.add_argument("--json", action="store_true", help="print JSON")

    def handle(self, *args: Any, **options: Any) -> None:
        """Check everything first; store nothing that cannot be simulated."""
        simulation = self._submit(options["file"])
        if options["wait"]:
            wait(lambda: self._look(simulation), self.stderr)
        state = simulation_state(simulation)
        if options["wait"]:
            self._print_answer(simulation, state, as_json=options["json"])
        elif options["json"]:
            self.stdout.write(json.dumps({"simulation": simulation.pk, "status": state.status}))
        else:
            self.stdout.write(f"simulation {simulation.pk} is {state.status} in {simulation.parts.count()} part(s)")

    def _submit(self, path: Path) -> Simulation:
        try:
            simulation = simulation_check(values_read(path))
            worker_need()
            return simulation_keep(simulation)
        except AcceleratorError as error:
            raise CommandError(str(error), returncode=BAD_INPUT) from error

    def _look(self, simulation: Simulation) -> tuple[bool, str]:
        state = simulation_state(simulation)
        return state.has_ended, f"{state.status} {state.progress_ratio:4.0%}"

    def _print_answer(self, simulation: Simulation, state: State, *, as_json: bool) -> None:
        outcome = simulation_outcome(simulation)
        if outcome is None:
            raise CommandError(f"simulation {simulation.pk} {state.status}: {state.error}", returncode=RUN_FAILED)
        figures = outcome.as_dict()
        if as_json:
            answer = {"simulation": simulation.pk, "status": state.status, "result": figures}
            self.stdout.write(json.dumps(answer, sort_keys=True, allow_nan=False))
        else:
            for line in outcome_lines(figures):
                self.stdout.write(line)
