"""Writes: scenarios, traces and runs. A run is saved first; its id goes to the broker when the save is certain."""

from datetime import datetime
from typing import BinaryIO

from celery import current_app
from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Model, ProtectedError
from kombu.exceptions import OperationalError as BrokerError

from accelerator import Workload, workload_parse
from fleet.services import row_save
from scenarios.checks import check_scenario
from scenarios.engine import ENGINE_VERSION, Inputs
from scenarios.event_checks import Account, check_event
from scenarios.models import Run, Scenario, Schedule, SimulationPart, Trace
from scenarios.steps import run_advance, run_end


def trace_read(stream: BinaryIO, *, name: str, owner: User | None) -> Trace:
    """Read an upload into a trace that is not stored yet: this takes seconds, so hold no transaction meanwhile."""
    workload = workload_parse(stream, name, max_bytes=settings.TRACE_MAX_BYTE, max_requests=settings.TRACE_MAX_REQUESTS)
    return trace_of(workload, owner=owner)


def trace_of(workload: Workload, *, owner: User | None) -> Trace:
    """Return a workload as a trace that is not stored yet."""
    return Trace(
        digest=workload.digest,
        name=workload.name[:120],
        requests=len(workload.arrival_s),
        mix=workload.token_mix().as_dict(),
        note=f"ignored columns: {', '.join(workload.ignored_columns)}"[:300] if workload.ignored_columns else "",
        arrays=workload.to_bytes(),
        owner=owner,
    )


def trace_keep(trace: Trace) -> tuple[Trace, bool]:
    """Store a trace that was read; return it and True, or the one that holds equal arrays already and False."""
    fields = ("name", "requests", "mix", "note", "arrays", "owner")
    return Trace.objects.get_or_create(digest=trace.digest, defaults={name: getattr(trace, name) for name in fields})


def trace_delete(trace: Trace) -> None:
    """Delete a trace. Raises ProtectedError if a scenario uses it, or what reads it has not ended yet."""
    runs = Run.objects.filter(inputs__trace_digest=trace.digest).exclude(status__in=Run.ENDED)
    parts = SimulationPart.objects.filter(simulation__trace=trace).exclude(status__in=Run.ENDED)
    with transaction.atomic():
        readers: set[Model] = {*runs.only("pk")[:1], *parts.only("pk", "number", "simulation")[:1]}
        if readers:
            raise ProtectedError("a run that has not ended reads this trace", readers)
        trace.delete()


def workload_store(workload: Workload, *, owner: User | None) -> Trace:
    """Keep a workload; one with the same arrays is not kept twice."""
    return trace_keep(trace_of(workload, owner=owner))[0]


def scenario_check(scenario: Scenario, *, account: Account = None) -> None:
    """Raise ValidationError, with every field at fault, if a scenario cannot be asked.

    What `account` may not see is as if it were not there.
    """
    fields = ("kind", "starts_on", "ends_on", "services", "params")
    check_scenario({name: getattr(scenario, name) for name in fields})
    check_event(scenario.kind, scenario.params, scenario.starts_on, scenario.ends_on, account)
    scenario.full_clean()


def scenario_save(scenario: Scenario, *, version: int | None = None, account: Account = None) -> Scenario:
    """Check and save a scenario. With `version`, only if nobody has edited it since."""
    scenario_check(scenario, account=account)
    return row_save(scenario, version=version)


def run_submit(
    *,
    scenario: Scenario,
    owner: User | None,
    schedule: Schedule | None = None,
    fire_at: datetime | None = None,
    recompute: bool = False,
) -> Run:
    """Save a run of a scenario as it stands now, and send its first step once the save is certain.

    With `recompute` it is computed even if the same question was answered before.
    """
    inputs = Inputs.of(scenario)
    with transaction.atomic():
        run = Run.objects.create(
            scenario=scenario,
            inputs=inputs.as_dict(),
            inputs_digest=inputs.digest,
            seed=inputs.seed,
            owner=owner,
            schedule=schedule,
            fire_at=fire_at,
            recompute=recompute,
            engine_version=ENGINE_VERSION,
        )
        run_advance(run.pk)
    run.refresh_from_db(fields=("opened", "steps_total"))
    return run


def run_cancel(run: Run) -> bool:
    """End a run that nobody wants any more; False if it has ended. Its workers notice within a second."""
    return run_end(run.pk)


def worker_is_reachable(*, timeout_s: float = 2.0) -> str | None:
    """Return None if a worker answers, else one sentence that says what is missing."""
    try:
        with current_app.connection_for_write() as connection:
            connection.ensure_connection(max_retries=1, interval_start=0, timeout=timeout_s)
        answers = current_app.control.ping(timeout=timeout_s)
    except (BrokerError, OSError) as error:
        return f"no broker is reachable at {settings.REDIS_URL.split('@')[-1]}: {error}"
    return None if answers else "no worker answers: start one with `make run`, or `celery -A config worker`"
