"""`python -m scenarios.planning {migration,capacity,incident} FILE.json`: plans for plain values, no database."""

import argparse
import json
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

from scenarios.planning.capacity import plan_capacity
from scenarios.planning.capacity_answer import CapacityAsk, ask_schema, capacity_schema
from scenarios.planning.holding import Held
from scenarios.planning.incident import Incident, incident_check, world_before
from scenarios.planning.incident_answer import (
    BEFORE,
    incident_answer,
    incident_answer_schema,
    incident_schema,
    plan_worlds,
)
from scenarios.planning.migration import plan_migration
from scenarios.planning.plain import ProblemError, plain_of, plain_read
from scenarios.planning.plan import MigrationAnswer, answer_schema
from scenarios.planning.problem import PlanProblem, problem_read, problem_schema

BAD_INPUT, NO_PLAN = 2, 4
ASKED = ("draws", "seed", "target_ratio", "lead_months")  # of a capacity question, as options
SCHEMAS = {
    "problem": problem_schema,
    "migration-plan": answer_schema,
    "capacity-question": ask_schema,
    "capacity-plan": capacity_schema,
    "incident": incident_schema,
    "incident-answer": incident_answer_schema,
}
"""Published in docs/schemas, by name."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run a command; return 0, 2 for a problem that cannot be read, 4 if it has no plan."""
    parser = argparse.ArgumentParser(prog="python -m scenarios.planning", description=__doc__)
    commands = parser.add_subparsers(dest="command", required=True)
    plan = commands.add_parser("migration", help="plan a migration")
    plan.add_argument("file", type=Path, help="problem as JSON; docs/schemas/problem.json says what it holds")
    plan.add_argument("--json", action="store_true", help="print the whole answer as JSON")
    lasts = commands.add_parser("capacity", help="how long the hosts last, as JSON")
    lasts.add_argument("file", type=Path, help="problem as JSON, the same as for a migration")
    lasts.add_argument("--draws", type=int, default=200, help="futures drawn (default: %(default)s)")
    lasts.add_argument("--seed", type=int, default=1, help="seed of the draws (default: %(default)s)")
    lasts.add_argument("--target-ratio", type=float, default=0.0, help="headroom to stay above [-]")
    lasts.add_argument("--lead-months", type=float, help="from order to service of what no offer names [month]")
    happens = commands.add_parser("incident", help="what an incident changes, with the best plans, as JSON")
    happens.add_argument("file", type=Path, help="problem as JSON, the same as for a migration")
    happens.add_argument("incident", type=Path, help="what happens; docs/schemas/incident.json says what it holds")
    happens.add_argument("--foreseen", action="store_true", help="the new plan knows of it from the first period on")
    write = commands.add_parser("schemas", help="write the JSON Schemas")
    write.add_argument("folder", type=Path)
    asked = parser.parse_args(arguments)
    if asked.command == "schemas":
        for name, schema in SCHEMAS.items():
            (asked.folder / f"{name}.json").write_text(schema_text(schema()))
        return 0
    try:
        problem = problem_read(json.loads(asked.file.read_text()))
    except (OSError, ValueError) as error:
        return _refuse(error)
    if asked.command == "capacity":
        return _capacity(problem, {name: getattr(asked, name) for name in ASKED})
    if asked.command == "incident":
        return _incident(problem, asked.incident, foreseen=asked.foreseen)
    answer = plan_migration(problem)
    sys.stdout.write(json.dumps(answer.as_dict(), indent=1) + "\n" if asked.json else _text(problem, answer))
    return 0 if answer.is_plan else NO_PLAN


def _capacity(problem: PlanProblem, given: Mapping[str, object]) -> int:
    try:
        ask = plain_read(CapacityAsk, given, place="capacity")
    except ProblemError as error:
        return _refuse(error)
    answer = plan_capacity(problem, **{name: getattr(ask, name) for name in ASKED})
    sys.stdout.write(json.dumps(plain_of(answer), indent=1) + "\n")
    return 0


def _incident(problem: PlanProblem, path: Path, *, foreseen: bool) -> int:
    try:
        incident = plain_read(Incident, json.loads(path.read_text()), place="incident")
        incident_check(problem, incident)
    except (OSError, ValueError) as error:
        return _refuse(error)
    before = plan_migration(world_before(problem, incident))
    held = Held(before, incident.first) if before.is_plan and incident.first and not foreseen else None
    worlds = plan_worlds(problem, incident, held)
    plans = {name: before if name == BEFORE else plan_migration(world, held=held) for name, world in worlds.items()}
    answer = incident_answer(problem, incident, plans, since=held.until if held else 0)
    sys.stdout.write(json.dumps(answer.as_dict(), indent=1) + "\n")
    return 0


def schema_text(schema: object) -> str:
    """Return a schema as it is published."""
    return json.dumps(schema, indent=1) + "\n"


def _refuse(error: OSError | ValueError) -> int:
    lines = [f"{place}: {text}" for place, text in error.errors] if isinstance(error, ProblemError) else [str(error)]
    sys.stderr.write("".join(f"{line}\n" for line in lines))
    return BAD_INPUT


def _text(problem: PlanProblem, answer: MigrationAnswer) -> str:
    """Return the plan in lines for a reader."""
    if not answer.is_plan:
        said = "".join(f"- {row.sentence}\n" for row in answer.conflict)
        return f"{answer.status}: {'these cannot all be kept' if said else answer.solver.status}\n{said}"
    note = answer.solver
    lines = [f"{answer.status}: {note.objective:,.2f} {problem.currency}, gap {note.gap_ratio:.2%}"]
    lines += [f"{problem.periods[row.period]} opens {row.service} on {row.kind} ({row.phase})" for row in answer.opened]
    lines += [f"{problem.periods[row.period]} buys {row.hosts:g} {row.kind} for {row.site}" for row in answer.bought]
    lines += [
        f"{problem.periods[row.period]} leaves {row.tok_s:,.0f} tok/s of {row.service} unserved"
        for row in answer.short
        if not row.domain
    ]
    lines += [f"{problem.periods[row.period]} costs {row.total:,.2f} {problem.currency}" for row in answer.money]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    sys.exit(main())
