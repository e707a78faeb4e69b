"""From what a run has read to the question of an outage or an event."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import date

from fleet.snapshot import FleetSnapshot
from scenarios.event_facts import event_facts
from scenarios.event_reading import EventQuestion, Ground, event_read, new_slug, outage_read, snapshot_with_new
from scenarios.models import Scenario
from scenarios.plan_steps import PlanQuestion
from scenarios.planning.params import NEW_MODEL, EventParams, OutageParams
from scenarios.planning.plain import plain_read
from scenarios.plans import Problem

Asked = OutageParams | EventParams
EVENT_KINDS: Mapping[str, type[Asked]] = {Scenario.Kind.OUTAGE: OutageParams, Scenario.Kind.EVENT: EventParams}


def event_params(kind: str, params: Mapping[str, object]) -> Asked | None:
    """Return the parameters of an outage or an event, None of another kind of question."""
    made = EVENT_KINDS.get(kind)
    return plain_read(made, params, place="params") if made else None


def event_snapshot(
    snapshot: FleetSnapshot, asked: Asked | None, months: Sequence[date], services: tuple[str, ...]
) -> tuple[FleetSnapshot, tuple[str, ...]]:
    """Return the fleet and the services that a question is about, with the service that a new model brings."""
    if not isinstance(asked, EventParams) or asked.event != NEW_MODEL:
        return snapshot, services
    made = snapshot_with_new(snapshot, asked, months)
    return made, (*services, new_slug(asked.subject)) if services else ()


def event_question(problem: Problem, plan: PlanQuestion, asked: Asked) -> EventQuestion:
    """Return the question of an outage or an event.

    Raises
    ------
    ValueError
        If it names what is not there, or a day or month beyond the horizon.
    """
    ground = Ground(problem.snapshot, plan.problem, problem.months)
    if isinstance(asked, OutageParams):
        read = outage_read(ground, asked)
    else:
        read = event_read(ground, asked, event_facts(asked, problem.months[0]))
    names = {region.slug: region.name for region in problem.snapshot.regions}
    return replace(read, region_names=names, foreseen=asked.foreseen)
