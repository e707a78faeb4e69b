"""The queue of record: rows that workers claim, renew and end, each by one conditional UPDATE, and the sweep behind it.

The broker carries ids. Losing it, or a worker, loses nothing but time: see docs/models/runs.md.
"""

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
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


@dataclass
class Hold:
    """What an attempt tells and learns while a thread holds its lease.

    Attributes
    ----------
    lost : threading.Event
        Set within a second once the row is not ours any more: another worker has it, or it was cancelled.
    latest, written : (float, str)
        Progress as it was reported last, and as it was written last.
    """

    row_id: int
    latest: tuple[float, str]
    written: tuple[float, str]
    lost: threading.Event = field(default_factory=threading.Event)
    written_s: float = field(default_factory=time.monotonic)

    def report(self, progress_ratio: float, stage: str) -> None:
        """Show how far the attempt is. Raises ClaimLostError once the row is not ours any more."""
        self.latest = (progress_ratio, stage)
        if self.lost.is_set():
            raise ClaimLostError(self.row_id)


@dataclass(frozen=True)
class Queue:
    """Rows of one model, and the task that computes one by its id."""

    model: type[Claimed]
    task: str
    attempts_max: int = ATTEMPTS_MAX

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
        free = self._rows(Q(status=Claimed.Status.QUEUED) | lost, pk=row_id, attempt__lt=self.attempts_max)
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

    def save(self, row_id: int, claim: uuid.UUID, **values: Any) -> bool:
        """Keep something of an attempt that goes on; False if the row is not ours any more."""
        return bool(self._mine(row_id, claim).update(**values))

    @contextmanager
    def held(
        self, row_id: int, claim: uuid.UUID, *, stage: str = "claimed", on_beat: Callable[[], None] | None = None
    ) -> Iterator["Hold"]:
        """Hold the lease, from a thread with a connection of its own, through what does not report: a long solve.

        The thread looks every half second whether the row is ours still, and writes where there is something new, or a
        quarter of the lease has passed. `on_beat` is called in the thread after each look.
        """
        hold, ended = Hold(row_id, (0.0, stage), (0.0, stage)), threading.Event()

        def renew() -> None:
            while not ended.wait(min(0.5, settings.RUN_LEASE_S / 4)):
                try:
                    self._beat(hold, claim)
                    if on_beat:
                        on_beat()
                except ClaimLostError:
                    hold.lost.set()
                    break
                except (OperationalError, InterfaceError) as error:
                    logger.warning("%s %s skips a heartbeat: %s", self.name, row_id, error)
                    connection.close()
                except Exception:  # without its heart the step would be lost, and done again
                    logger.exception("%s %s: a heartbeat failed", self.name, row_id)
            connection.close()

        thread = threading.Thread(target=renew, daemon=True)
        thread.start()
        try:
            yield hold
        finally:
            ended.set()
            thread.join()

    @contextmanager
    def held_writing(self, row_id: int, claim: uuid.UUID) -> Iterator[Callable[[float, str], None]]:
        """Hold the lease through a long transaction; yields the progress report of meanwhile.

        Where a database takes one writer at a time nobody else can claim the row meanwhile, and nothing is renewed.
        """
        if connection.vendor == "sqlite":
            yield lambda _progress_ratio, _stage: None
            return
        with self.held(row_id, claim, stage="write") as hold:
            yield hold.report

    def _beat(self, hold: "Hold", claim: uuid.UUID) -> None:
        """Look whether the row is ours, and write what is new; a look waits for no other writer."""
        if not self._mine(hold.row_id, claim).exists():
            raise ClaimLostError(hold.row_id)
        progress_ratio, stage = hold.latest
        now_s = time.monotonic()
        if hold.latest != hold.written or now_s - hold.written_s >= settings.RUN_LEASE_S / 4:
            self.report(hold.row_id, claim, progress_ratio=progress_ratio, stage=stage)
            hold.written, hold.written_s = (progress_ratio, stage), now_s

    def fail(self, row_id: int, claim: uuid.UUID, *, error: str, **values: Any) -> bool:
        """End a row that cannot be answered, with the reason; False if it is not ours any more."""
        return bool(
            self._mine(row_id, claim).update(
                status=Claimed.Status.FAILED, error=error, finished_at=timezone.now(), stage="", **values
            )
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
        lost.filter(attempt__gte=self.attempts_max).update(
            status=Claimed.Status.FAILED,
            error=f"its worker was lost {self.attempts_max} times; the {self.name} is given up",
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
