"""The queue of record: rows that workers claim, renew and end, each by one conditional UPDATE, and the sweep behind it.

The broker carries ids. Losing it, or a worker, loses nothing but time: see docs/models/runs.md.
"""

import logging
import os
import socket
import threading
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from celery import current_app
from django.conf import settings
from django.db import InterfaceError, OperationalError, connection
from django.db.models import F, Q
from django.utils import timezone
from kombu.exceptions import OperationalError as BrokerError

from scenarios.models import Claimed

logger = logging.getLogger(__name__)

ATTEMPTS_MAX = 5  # a row that takes its worker down with it must not do so for ever
SENDS_DOUBLED_MAX = 6


class ClaimLostError(Exception):
    """The row belongs to another worker now, or to nobody: it was cancelled."""


@dataclass(frozen=True)
class Queue:
    """Rows of one model, and the task that computes one by its id."""

    model: type[Claimed]
    task: str

    @property
    def name(self) -> str:
        """What a row is called in messages."""
        return str(self.model._meta.verbose_name)

    def send(self, row_id: int) -> bool:
        """Hand an id to the broker. Without a broker the row stays queued: the sweep sends it later."""
        self._rows(pk=row_id).update(sent_at=timezone.now(), send_count=F("send_count") + 1)
        try:
            current_app.send_task(self.task, args=[row_id], retry=False)
        except (BrokerError, OSError) as error:
            logger.warning("%s %s stays queued, the broker did not take it: %s", self.name, row_id, error)
            self._rows(pk=row_id).update(sent_at=None, send_count=0)
            return False
        return True

    def send_all(self, row_ids: Iterable[int]) -> int:
        """Hand ids to the broker until it does not take one; return how many it took."""
        sent = 0
        for row_id in row_ids:
            if not self.send(row_id):
                break
            sent += 1
        return sent

    def claim(self, row_id: int) -> uuid.UUID | None:
        """Take a row that is queued, or whose owner's lease ran out. The row count of one UPDATE decides who has it."""
        claim, now = uuid.uuid4(), timezone.now()
        lost = Q(status=Claimed.Status.RUNNING, heartbeat_at__lt=now - timedelta(seconds=settings.RUN_LEASE_S))
        free = self._rows(Q(status=Claimed.Status.QUEUED) | lost, pk=row_id, attempt__lt=ATTEMPTS_MAX)
        taken = free.update(
            claim=claim,
            status=Claimed.Status.RUNNING,
            heartbeat_at=now,
            started_at=now,
            attempt=F("attempt") + 1,
            worker=f"{socket.gethostname()}:{os.getpid()}"[:120],
            progress_ratio=0,
            stage="claimed",
        )
        return claim if taken else None

    def report(self, row_id: int, claim: uuid.UUID, *, progress_ratio: float, stage: str) -> None:
        """Renew the lease and show how far the row is. Raises ClaimLostError if it is not ours any more."""
        if not self._mine(row_id, claim).update(
            progress_ratio=min(progress_ratio, 1.0), stage=stage[:80], heartbeat_at=timezone.now()
        ):
            raise ClaimLostError(row_id)

    def finish(self, row_id: int, claim: uuid.UUID, **values: Any) -> None:
        """End a row that is done, with its result. Raises ClaimLostError if it is not ours any more."""
        now = timezone.now()
        if not self._mine(row_id, claim).update(
            status=Claimed.Status.DONE, progress_ratio=1, stage="", heartbeat_at=now, finished_at=now, **values
        ):
            raise ClaimLostError(row_id)

    @contextmanager
    def held(self, row_id: int, claim: uuid.UUID) -> Iterator[Callable[[float, str], None]]:
        """Hold the lease through a long transaction, from a thread with a connection of its own.

        Yields the progress report of meanwhile, which raises ClaimLostError once the row is not ours any more. Where a
        database takes one writer at a time nobody else can claim the row meanwhile, and nothing is renewed.
        """
        if connection.vendor == "sqlite":
            yield lambda _progress_ratio, _stage: None
            return
        ended, lost = threading.Event(), threading.Event()
        latest: list[tuple[float, str]] = []

        def report(progress_ratio: float, stage: str) -> None:
            latest[:] = [(progress_ratio, stage)]
            if lost.is_set():
                raise ClaimLostError(row_id)

        def renew() -> None:
            while not ended.wait(min(0.5, settings.RUN_LEASE_S / 4)):
                progress_ratio, stage = latest[0] if latest else (0.0, "write")
                try:
                    self.report(row_id, claim, progress_ratio=progress_ratio, stage=stage)
                except ClaimLostError:
                    lost.set()
                    break
                except (OperationalError, InterfaceError) as error:
                    logger.warning("%s %s skips a heartbeat: %s", self.name, row_id, error)
                    connection.close()
            connection.close()

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield report
        finally:
            ended.set()
            thread.join()

    def fail(self, row_id: int, claim: uuid.UUID, *, error: str, **values: Any) -> None:
        """End a row that cannot be answered, with the reason."""
        self._mine(row_id, claim).update(
            status=Claimed.Status.FAILED, error=error, finished_at=timezone.now(), stage="", **values
        )

    def cancel(self, row_id: int) -> bool:
        """End a row that nobody wants any more; False if it has ended. Its worker notices at its next report."""
        return bool(
            self._rows(pk=row_id, status__in=(Claimed.Status.QUEUED, Claimed.Status.RUNNING)).update(
                status=Claimed.Status.CANCELLED, finished_at=timezone.now(), stage="", claim=None
            )
        )

    def sweep(self) -> int:
        """Send again what was lost with a broker or a worker; give up on rows that were lost too often."""
        now, lease = timezone.now(), timedelta(seconds=settings.RUN_LEASE_S)
        lost = self._rows(status=Claimed.Status.RUNNING, heartbeat_at__lt=now - lease)
        lost.filter(attempt__gte=ATTEMPTS_MAX).update(
            status=Claimed.Status.FAILED,
            error=f"its worker was lost {ATTEMPTS_MAX} times; the {self.name} is given up",
            finished_at=now,
            stage="",
        )
        waiting = self._rows(
            Q(status=Claimed.Status.QUEUED) | Q(status=Claimed.Status.RUNNING, heartbeat_at__lt=now - lease)
        ).order_by("pk")
        due = []
        for row_id, status, sent_at, count in waiting.values_list("pk", "status", "sent_at", "send_count"):
            # a queued row may just wait its turn: each time it is sent again, it is left alone twice as long
            doubled = min(max(count - 1, 0), SENDS_DOUBLED_MAX) if status == Claimed.Status.QUEUED else 0
            if sent_at is None or sent_at < now - lease * 2**doubled:
                due.append(row_id)
        return self.send_all(due)

    def _mine(self, row_id: int, claim: uuid.UUID) -> Any:
        return self._rows(pk=row_id, claim=claim, status=Claimed.Status.RUNNING)

    def _rows(self, *conditions: Q, **values: Any) -> Any:
        return self.model._default_manager.filter(*conditions, **values)
