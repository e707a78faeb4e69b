"""What Celery workers do. A task carries an id; the database says what there is to do."""

import logging
import time
from collections.abc import Callable
from uuid import UUID

from celery import shared_task
from django.conf import settings
from django.core.cache import cache
from django.db import Error as DatabaseError
from django.db import InterfaceError, OperationalError, connection
from django.utils import timezone

from scenarios.engine import run_compute
from scenarios.models import Run
from scenarios.schedules import schedules_fire
from scenarios.services import ClaimLostError, run_claim, run_fail, run_finish, run_report, runs_sweep

logger = logging.getLogger(__name__)

WORKER_HEARTBEAT_KEY = "worker_heartbeat_at"


@shared_task(acks_late=True, ignore_result=True)
def run_execute(run_id: int) -> None:
    """Claim, compute, store. Safe to deliver twice, and to kill at any moment."""
    claim = run_claim(run_id)
    if claim is None:
        return  # another worker has it, or it has ended
    report = _reporter(run_id, claim)
    try:
        result = run_compute(Run.objects.get(pk=run_id).inputs, on_progress=report)
        run_finish(run_id, claim, result=result)
    except ClaimLostError:
        logger.info("run %s is not ours any more", run_id)
    except DatabaseError:
        raise  # the lease runs out and the sweep sends it again, when the database is back
    except ValueError as error:  # the question has no answer: the planner says why
        run_fail(run_id, claim, error=str(error))
    except Exception as error:
        run_fail(run_id, claim, error=f"internal error: {error!r}")
        raise


@shared_task(ignore_result=True)
def sweep() -> None:
    """The one tick: fire due schedules, send again what was lost, and show that a worker lives."""
    schedules_fire()
    runs_sweep()
    cache.set(WORKER_HEARTBEAT_KEY, timezone.now().isoformat(), timeout=None)


def _reporter(run_id: int, claim: UUID) -> Callable[[float, str], None]:
    """Return a progress report that renews the lease, at most a few times per lease: each one is a write.

    While the lease holds, a database that does not take the write costs one heartbeat, not the attempt.
    """
    every_s, last_s, last_stage = min(0.5, settings.RUN_LEASE_S / 4), 0.0, ""
    lease_from_s = time.monotonic()

    def report(progress_ratio: float, stage: str) -> None:
        nonlocal last_s, last_stage, lease_from_s
        now_s = time.monotonic()
        is_new = stage.split(" ", 1)[0] != last_stage.split(" ", 1)[0]
        if is_new or now_s - last_s >= every_s:
            try:
                run_report(run_id, claim, progress_ratio=progress_ratio, stage=stage)
            except (OperationalError, InterfaceError) as error:  # locked for a moment, or restarting
                if time.monotonic() - lease_from_s >= settings.RUN_LEASE_S:
                    raise
                logger.warning("run %s skips a heartbeat: %s", run_id, error)
                connection.close_if_unusable_or_obsolete()
                return
            last_s, last_stage, lease_from_s = now_s, stage, now_s

    return report
