"""Simulations: an experiment is stored, workers compute its parts in any order, and they are merged in theirs.

A stored experiment names built-in chips and models, and a profile or a trace in the database (``workload.trace_id``);
no path in it is ever opened.
"""

import hashlib
import json
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

from django.db import transaction

from accelerator import ConfigError, Experiment, Outcome, Workload, part_run, parts_merge
from accelerator.tables import Table
from scenarios.claims import Queue
from scenarios.engine import ENGINE_VERSION, Progress
from scenarios.models import Simulation, SimulationPart, Trace

PARTS = Queue(SimulationPart, task="scenarios.tasks.part_execute")

PARTS_MAX = 1_000

Status = SimulationPart.Status


@dataclass(frozen=True, slots=True)
class State:
    """How far a simulation is: failed as soon as a part is, done when all are."""

    status: str
    progress_ratio: float
    error: str

    @property
    def has_ended(self) -> bool:
        """Whether it is known what came of it."""
        return self.status in SimulationPart.ENDED


def simulation_check(values: Mapping[str, Any]) -> Simulation:
    """Check an experiment and return it as a simulation that is not stored yet.

    Raises
    ------
    AcceleratorError
        With the place, as :class:`accelerator.Experiment` does.
    """
    trace = _trace_named(values)
    experiment = _experiment(values, trace)
    if experiment.seeds * experiment.cells > PARTS_MAX:
        raise ConfigError(f"seeds: {experiment.seeds} times {experiment.cells} cells are more than {PARTS_MAX:,} parts")
    stored = _json_values(values)
    experiment.prepare()
    identity = json.dumps([stored, trace.digest if trace else None], sort_keys=True)
    return Simulation(
        experiment=stored,
        digest=hashlib.sha256(identity.encode()).hexdigest(),
        trace=trace,
        engine_version=ENGINE_VERSION,
    )


def simulation_keep(simulation: Simulation) -> Simulation:
    """Store a simulation that was checked with its parts, and send their ids once that is certain."""
    count = len(_experiment(simulation.experiment, simulation.trace).parts)
    with transaction.atomic():
        simulation.save()
        parts = SimulationPart.objects.bulk_create(
            SimulationPart(simulation=simulation, number=number) for number in range(count)
        )
        transaction.on_commit(lambda: PARTS.send_all(part.pk for part in parts))
    return simulation


def simulation_submit(values: Mapping[str, Any]) -> Simulation:
    """Check an experiment, and have it simulated in parts; what is refused is not stored."""
    return simulation_keep(simulation_check(values))


def simulation_state(simulation: Simulation) -> State:
    """Return how far a simulation is."""
    parts = list(simulation.parts.values_list("status", "progress_ratio", "number", "error"))
    counts = Counter(status for status, *_ in parts)
    progress_ratio = sum(ratio for _, ratio, *_ in parts) / len(parts)
    failed = [f"part {number}: {error}" for status, _, number, error in parts if status == Status.FAILED]
    if failed:
        return State(Status.FAILED, progress_ratio, failed[0])
    for status in (Status.DONE, Status.QUEUED):
        if counts[status] == len(parts):
            return State(status, progress_ratio, "")
    return State(Status.RUNNING, progress_ratio, "")


def simulation_outcome(simulation: Simulation) -> Outcome | None:
    """Return the outcome of all parts, the same to the last bit as of one process; None if not all are done."""
    results = list(simulation.parts.order_by("number").values_list("status", "result"))
    if any(status != Status.DONE for status, _ in results):
        return None
    experiment = _experiment(simulation.experiment, simulation.trace)
    return parts_merge(experiment, [Outcome.from_bytes(bytes(result or b"")) for _, result in results])


def part_compute(part_id: int, *, on_progress: Progress) -> bytes:
    """Simulate one part and return its outcome as bytes."""
    part = SimulationPart.objects.select_related("simulation").get(pk=part_id)
    on_progress(0.0, "prepare")
    experiment = _prepared(part.simulation_id, part.simulation.digest)
    which = experiment.parts[part.number]
    requests = experiment.requests_of(which)
    outcome = part_run(experiment, which, on_progress=lambda arrived: on_progress(arrived / requests, "simulate"))
    on_progress(1.0, "store")
    return outcome.to_bytes()


@lru_cache(maxsize=1)
def _prepared(simulation_id: int, _digest: str) -> Experiment:
    """Return an experiment with its trace and step tables, for one part after the other."""
    simulation = Simulation.objects.defer("trace__arrays").select_related("trace").get(pk=simulation_id)
    experiment = _experiment(simulation.experiment, simulation.trace)
    experiment.prepare()
    return experiment


def _trace_named(values: Mapping[str, Any]) -> Trace | None:
    """Return the stored trace that an experiment names; refuse one that names a file."""
    workload = values.get("workload") if isinstance(values, Mapping) else None
    if not isinstance(workload, Mapping):
        return None  # the experiment says what is wrong
    table = Table(workload, "workload", workload)
    if table.has("trace"):
        raise ConfigError("workload.trace: no file is read here; store the trace and give its workload.trace_id")
    if not table.has("trace_id"):
        return None
    trace_id = table.count("trace_id")
    trace = Trace.objects.defer("arrays").filter(pk=trace_id).first()
    if trace is None:
        raise ConfigError(f"workload.trace_id: there is no trace {trace_id}")
    return trace


def _experiment(values: Mapping[str, Any], trace: Trace | None) -> Experiment:
    """Return a stored experiment; its trace is read from the database, if at all."""
    workload = values.get("workload") if isinstance(values, Mapping) else None
    if isinstance(workload, Mapping) and "trace_id" in workload:
        named = str(workload["trace_id"]) if workload["trace_id"] is not None else None
        rest = {name: value for name, value in workload.items() if name != "trace_id"}
        values = {**values, "workload": {**rest, "trace": named}}

    def read(name: str) -> Workload:
        if trace is None:
            raise ConfigError(f"workload.trace_id: trace {name} was deleted")
        return Workload.from_bytes(bytes(trace.arrays), trace.name)

    return Experiment(values, trace_read=read)


def _json_values(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an experiment as any database stores it as JSON."""
    try:
        text = json.dumps(values, allow_nan=False, ensure_ascii=False)
        text.encode()
    except ValueError as error:
        raise ConfigError(
            f"the experiment: it cannot be stored as JSON, such as an infinite number: {error}"
        ) from error
    if "\\u0000" in text:
        raise ConfigError("the experiment: a text holds a NUL character")
    return dict(json.loads(text))
