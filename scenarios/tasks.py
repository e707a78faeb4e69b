"""What Celery workers do. A task carries an id; the database says what there is to do."""

import logging
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.core.cache import cache
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from scenarios.claims import ClaimLostError, Queue
from scenarios.imports import IMPORTS, import_compute
from scenarios.rating_store import BATCHES, batch_compute
from scenarios.schedules import schedules_fire
from scenarios.simulations import PARTS, part_compute
from scenarios.steps import STEPS, runs_sweep, step_compute, step_fail, step_held

logger = logging.getLogger(__name__)

WORKER_HEARTBEAT_KEY = "worker_heartbeat_at"


@shared_task(acks_late=True, ignore_result=True)
def step_execute(step_id: int) -> None:
    """Claim, compute, store one step of a run. Safe to deliver twice, and to kill at any moment."""
    claim = STEPS.claim(step_id)
    if claim is None:
        return  # another worker has it, or it has ended
    with _ending(STEPS, step_id, claim, fail=step_fail), step_held(step_id, claim) as context:
        step_compute(step_id, claim, context)


@shared_task(acks_late=True, ignore_result=True)
def part_execute(part_id: int) -> None:
    """Claim, simulate, store one part of a simulation. Safe to deliver twice, and to kill at any moment."""
    claim = PARTS.claim(part_id)
    if claim is None:
        return
    with _attempt(PARTS, part_id, claim) as report:
        PARTS.finish(part_id, claim, result=part_compute(part_id, on_progress=report))


@shared_task(acks_late=True, ignore_result=True)
def ratings_execute(batch_id: int) -> None:
    """Claim and rate the pairs of one batch. Safe to deliver twice, and to kill at any moment."""
    claim = BATCHES.claim(batch_id)
    if claim is None:
        return
    with _attempt(BATCHES, batch_id, claim) as report:
        counts = batch_compute(batch_id, on_progress=report)
        BATCHES.finish(batch_id, claim, rated=counts.rated, refused=counts.refused)


@shared_task(acks_late=True, ignore_result=True)
def import_execute(job_id: int) -> None:
    """Claim an import, read its file and write it. Safe to deliver twice, and to kill at any moment."""
    claim = IMPORTS.claim(job_id)
    if claim is None:
        return
    with _attempt(IMPORTS, job_id, claim) as report:
        import_compute(job_id, claim, on_progress=report)


@shared_task(ignore_result=True)
def sweep() -> None:
    """The one tick: fire due schedules, send again what was lost, and show that a worker lives."""
    schedules_fire()
    runs_sweep()
    PARTS.sweep()
    BATCHES.sweep()
    IMPORTS.sweep()
    cache.set(WORKER_HEARTBEAT_KEY, timezone.now().isoformat(), timeout=None)


@contextmanager
def _attempt(queue: Queue, row_id: int, claim: UUID) -> Iterator[Callable[[float, str], None]]:
    """Yield the progress report of an attempt, and end the attempt as what came of it says."""
    with _ending(queue, row_id, claim, fail=queue.fail):
        yield _reporter(queue, row_id, claim)


@contextmanager
def _ending(queue: Queue, row_id: int, claim: UUID, *, fail: Callable[..., Any]) -> Iterator[None]:
    """End an attempt as what came of it says; `fail` is told the reason where there is no answer."""
    try:
        yield
    except ClaimLostError:
        logger.info("%s %s is not ours any more", queue.name, row_id)
    except DatabaseError:
        raise  # the lease runs out and the sweep sends it again, when the database is back
    except ValueError as error:  # the question has no answer: the planner says why
        fail(row_id, claim, error=str(error))
    except Exception as error:
        fail(row_id, claim, error=f"internal error: {error!r}")
        raise


def _reporter(queue: Queue, row_id: int, claim: UUID) -> Callable[[float, str], None]:
    """Return a progress report that renews the lease, at most a few times per lease: each one is a write.

    While the lease holds, a database that does not take the write costs one heartbeat, not the attempt. Where it takes
    one writer at a time, nobody else claims the row either while another writes.
    """
    every_s, last_s, last_stage = min(0.5, settings.RUN_LEASE_S / 4), 0.0, ""
    lease_from_s = time.monotonic()

    def report(progress_ratio: float, stage: str) -> None:
        nonlocal last_s, last_stage, lease_from_s
        now_s = time.monotonic()
        is_new = stage.split(" ", 1)[0] != last_stage.split(" ", 1)[0]
        if is_new or now_s - last_s >= every_s:
            try:
                queue.report(row_id, claim, progress_ratio=progress_ratio, stage=stage)
            except (OperationalError, InterfaceError) as error:  # locked for a moment, or restarting
                is_locked = connection.vendor == "sqlite" and "locked" in str(error)
                if not is_locked and time.monotonic() - lease_from_s >= settings.RUN_LEASE_S:
                    raise
                logger.warning("%s %s skips a heartbeat: %s", queue.name, row_id, error)
                connection.close_if_unusable_or_obsolete()
                return
            last_s, last_stage, lease_from_s = now_s, stage, now_s

    return report
