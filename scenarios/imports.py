"""Imports: a file of any size is kept in pieces in the database; a worker reads it, judges it and writes it.

Rows, their change sets and the end of the import commit together. Until then nothing of it is there: whoever takes over
from a worker that died starts from nothing.
"""

import hashlib
import io
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import timedelta
from typing import Any, BinaryIO, cast
from uuid import UUID, uuid4

from django.conf import settings
from django.contrib.auth.models import User
from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet, Sum
from django.utils import timezone

from fleet.access import region_limit, regions_seen
from fleet.audit import NAME_MOST, Author, author_current, writing_as
from fleet.exchange import ImportReport, Observer, fleet_import, import_entries, import_run
from fleet.files import LIMITS, Limits, csv_write
from fleet.inventory import INVENTORY, Entry
from scenarios.claims import Queue
from scenarios.engine import Progress
from scenarios.models import ImportChunk, ImportJob, ImportUpload

IMPORTS = Queue(ImportJob, task="scenarios.tasks.import_execute")

CHUNK_BYTE = 2**20
CHUNKS_AT_ONCE = 8  # in one transaction: others write in between
READ_BYTE = 2**16
OPEN_MOST = 10  # imports of one account that have not ended
KEPT = timedelta(days=3)
"""For so long after a sound dry run has ended its file may be applied; then it is removed."""
STORED = timedelta(hours=1)
"""For so long a file may be on its way into the database before its import is there."""
FAULT_COLUMNS = ("file", "sheet", "line", "column", "reason", "entry")
VERBS = {"upsert": ("add", "change"), "create": ("add",), "update": ("change",)}

Status = ImportJob.Status
NOT_WRITTEN = (Status.FAILED, Status.CANCELLED)


class ImportRefusedError(ValueError):
    """An import that is not taken as things stand. `code` is for programs."""

    def __init__(self, reason: str, *, code: str) -> None:
        super().__init__(reason)
        self.code = code


def entry_named(name: str) -> Entry | None:
    """Return the entry of an import, or None for a whole fleet."""
    return None if name == ImportJob.WHOLE else INVENTORY[name]


def limits_now() -> Limits:
    """Return how much of a file is read."""
    return replace(LIMITS, file_byte=settings.IMPORT_MAX_BYTE)


# --- asking -----------------------------------------------------------------------------------------------------------
def import_check(source: BinaryIO, *, name: str, entry: str, mode: str, user: User) -> str | None:
    """Look at size, type, bombs and headers; return the first permission that the account lacks, or None.

    Raises FileError with the place of what is wrong.
    """
    found = import_entries(entry_named(entry), source, name=name, limits=limits_now())
    return permission_lacking(found, mode, user)


def permission_lacking(entries: list[Entry], mode: str, user: User) -> str | None:
    """Return the first permission that an account lacks to write rows of some kinds, or None."""
    needed = (f"fleet.{verb}_{entry.kind}" for entry in entries for verb in VERBS[mode])
    return next((name for name in needed if not user.has_perm(name)), None)


def upload_keep(source: BinaryIO) -> ImportUpload:
    """Store the bytes of a file, a few pieces at a time. Without an import the next purges remove it again."""
    upload = ImportUpload.objects.create(size_byte=0, sha256="")
    digest, number, size_byte = hashlib.sha256(), 0, 0
    source.seek(0)
    while pieces := [piece for _ in range(CHUNKS_AT_ONCE) if (piece := source.read(CHUNK_BYTE))]:
        for piece in pieces:
            digest.update(piece)
            size_byte += len(piece)
        ImportChunk.objects.bulk_create(
            ImportChunk(upload=upload, number=at, data=piece) for at, piece in enumerate(pieces, number)
        )
        number += len(pieces)
    upload.size_byte, upload.sha256 = size_byte, digest.hexdigest()
    upload.save()
    return upload


def import_submit(
    source: BinaryIO, *, name: str, entry: str, mode: str, dry_run: bool, why: str, owner: User
) -> ImportJob:
    """Store a file that was looked at, queue its import, and send its id once that is certain."""
    _check_open(owner)
    _check_room(owner, source.seek(0, io.SEEK_END))
    upload = upload_keep(source)
    return _queue(
        ImportJob(
            owner=owner,
            entry=entry,
            mode=mode,
            dry_run=dry_run,
            why=why,
            file_name=name,
            size_byte=upload.size_byte,
            sha256=upload.sha256,
            upload=upload,
        )
    )


def import_apply(job: ImportJob, *, owner: User, why: str = "") -> ImportJob:
    """Queue an import that writes the file of a dry run in which nothing was wrong."""
    _check_open(owner)
    with transaction.atomic():
        dry = ImportJob.objects.select_for_update().defer("report").get(pk=job.pk)
        if not dry.dry_run:
            raise ImportRefusedError("it was no dry run", code="no_dry_run")
        if not dry.is_sound:
            told = f"{dry.errors_total:,} error(s)" if dry.errors_total else dry.get_status_display()
            raise ImportRefusedError(f"the dry run is not sound: {told}", code="not_sound")
        earlier = dry.applied_by.exclude(status__in=NOT_WRITTEN).first()
        if earlier:
            raise ImportRefusedError(f"import {earlier.pk} writes this file already", code="applied")
        if dry.upload is None:
            raise ImportRefusedError("its file is not kept any more: upload it again", code="file_gone")
        return _queue(
            ImportJob(
                owner=owner,
                applies=dry,
                why=why or dry.why,
                **{
                    name: getattr(dry, name) for name in ("entry", "mode", "file_name", "size_byte", "sha256", "upload")
                },
            )
        )


def import_cancel(job: ImportJob) -> bool:
    """End an import that nobody wants any more. Its worker notices within seconds, unless it is done by then."""
    return IMPORTS.cancel(job.pk)


def _check_open(owner: User) -> None:
    if ImportJob.objects.filter(owner=owner, status__in=(Status.QUEUED, Status.RUNNING)).count() >= OPEN_MOST:
        raise ImportRefusedError(f"{OPEN_MOST} imports of yours have not ended yet", code="too_many_imports")


def _check_room(owner: User, size_byte: int) -> None:
    """Refuse a file with which those of an account would take too much; those that nobody needs make room first."""
    most = settings.IMPORT_KEPT_BYTE
    if _kept_byte(owner) + size_byte > most:
        uploads_purge()
    if (kept := _kept_byte(owner)) + size_byte > most:
        raise ImportRefusedError(
            f"files of yours take {kept:,} byte, this one {size_byte:,}, and no more than {most:,} are kept: apply the "
            f"sound dry runs, or wait until their files are removed after {KEPT.days} days",
            code="too_much_kept",
        )


def _kept_byte(owner: User) -> int:
    uploads = ImportUpload.objects.filter(Exists(ImportJob.objects.filter(upload=OuterRef("pk"), owner=owner)))
    return uploads.aggregate(total=Sum("size_byte", default=0))["total"]


def _queue(job: ImportJob) -> ImportJob:
    owner = cast("User", job.owner)
    job.request_id, job.regions = author_current().request_id or uuid4().hex, _regions(owner)
    job.save()
    transaction.on_commit(lambda: IMPORTS.send(job.pk))
    return job


def _regions(user: User) -> list[str] | None:
    return None if region_limit(user) is None else regions_seen(user)


# --- computing --------------------------------------------------------------------------------------------------------
def import_compute(job_id: int, claim: UUID, *, on_progress: Progress) -> None:
    """Read the file of an import, judge it, and write it, as the account that asked may now; end the import."""
    job = ImportJob.objects.select_related("owner", "upload", "applies").get(pk=job_id)
    owner = job.owner
    if owner is None or not owner.is_active:
        raise ValueError("the account that asked is gone")
    if job.upload is None:
        raise ValueError("its file is not kept any more")
    with tempfile.TemporaryFile() as file:
        _file_copy(job.upload, file, on_progress)
        attempt = _Attempt(job, claim, on_progress)
        source = io.BufferedReader(_WatchedFile(file, attempt.byte_reached), READ_BYTE)
        entry = entry_named(job.entry)
        entries = import_entries(entry, cast("BinaryIO", source), name=job.file_name, limits=limits_now())
        if lacking := permission_lacking(entries, job.mode, owner):
            raise ValueError(f"{owner.get_username()} lacks the permission {lacking} by now")
        wanted: dict[str, Any] = {
            "name": job.file_name,
            "dry_run": job.dry_run,
            "mode": job.mode,
            "user": owner,
            "limits": limits_now(),
            "observer": Observer(attempt.rows_reached, attempt.writing, attempt.finish),
            "confirmed": (job.applies.report or {}).get("steps_sha256", "not kept") if job.applies else "",
        }
        name = owner.get_username()[:NAME_MOST]
        with writing_as(Author(user_id=owner.pk, name=name, why=job.why, request_id=job.request_id)):
            report = import_run(entry, source, **wanted) if entry else fleet_import(source, **wanted)
    if not report.written:
        attempt.finish(report)


def _file_copy(upload: ImportUpload, file: BinaryIO, on_progress: Progress) -> None:
    """Copy an upload to a file of this machine, piece by piece."""
    digest, size_byte = hashlib.sha256(), 0
    for data in upload.chunks.order_by("number").values_list("data", flat=True).iterator(chunk_size=1):
        digest.update(data)
        size_byte += file.write(data)
        on_progress(0.0, "fetch")
    if (size_byte, digest.hexdigest()) != (upload.size_byte, upload.sha256):
        raise ValueError("its file is not kept as it was uploaded: upload it again")


class _Attempt:
    """One attempt at an import: how far it is, and how it ends. Reading and writing are a half each."""

    def __init__(self, job: ImportJob, claim: UUID, on_progress: Progress) -> None:
        self.job, self.claim, self.on_progress = job, claim, on_progress
        self.verb, self.stage, self.share_ratio = "read", "read", 0.0

    def byte_reached(self, at_byte: int) -> None:
        """Note how far the file has been read."""
        self.share_ratio = max(self.share_ratio, min(1.0, at_byte / self.job.size_byte))
        self._tell()

    def rows_reached(self, entry: str, rows: int) -> None:
        """Note how many rows of a table have been read."""
        self.stage = f"{self.verb} {entry}, {rows:,} rows"
        self._tell()

    @contextmanager
    def writing(self) -> Iterator[None]:
        """Hold the lease while the file is read again and written in one transaction."""
        self.verb, self.stage, self.share_ratio = "write", "write", 0.0
        self._tell()
        before = self.on_progress
        with IMPORTS.held_writing(self.job.pk, self.claim) as self.on_progress:
            yield
        self.on_progress = before

    def finish(self, report: ImportReport) -> None:
        """End the import; where it has written, in the transaction of its rows."""
        told = report.as_dict()
        values = {
            "counts": told.pop("counts"),
            "errors_total": report.errors_total,
            "report": {name: told[name] for name in ("changes", "errors", "steps_sha256")},
            "regions": _regions(cast("User", self.job.owner)),
        }
        if report.sound or report.dry_run:
            IMPORTS.finish(self.job.pk, self.claim, written=report.written, **values)
        else:
            error = f"{report.errors_total:,} error(s); nothing was written"
            IMPORTS.fail(self.job.pk, self.claim, error=error, **values)

    def _tell(self) -> None:
        half = 0.5 if self.verb == "write" else 0.0
        self.on_progress(half + self.share_ratio / 2, self.stage)


class _WatchedFile(io.RawIOBase):
    """A file that says how far it is read, some kilobytes at a time."""

    def __init__(self, file: BinaryIO, on_byte: Callable[[int], None]) -> None:
        super().__init__()
        self.file, self.on_byte = file, on_byte

    def readable(self) -> bool:
        """It is there to be read."""
        return True

    def seekable(self) -> bool:
        """And may be read again."""
        return True

    def seek(self, offset: int, whence: int = io.SEEK_SET) -> int:
        """Go to a place of the file."""
        return self.file.seek(offset, whence)

    def tell(self) -> int:
        """Return the place in the file."""
        return self.file.tell()

    def readinto(self, buffer: Any) -> int:
        """Read, and say where that was."""
        data = self.file.read(len(buffer))
        buffer[: len(data)] = data
        self.on_byte(self.file.tell())
        return len(data)


def faults_csv(job: ImportJob) -> str:
    """Return the errors that an import has kept, each with its place, as csv."""
    return b"".join(csv_write(FAULT_COLUMNS, (job.report or {}).get("errors", []))).decode()


# --- tidying up -------------------------------------------------------------------------------------------------------
def uploads_purge() -> int:
    """Remove the files that no import needs any more; return how many. What the imports found stays."""
    removed = 0
    for pk in list(_uploads_unneeded().values_list("pk", flat=True)):
        with transaction.atomic():  # each of its own; an import that applies one holds its dry run
            list(ImportJob.objects.select_for_update().filter(upload=pk).values_list("pk"))
            removed += bool(_uploads_unneeded().filter(pk=pk).delete()[0])
    return removed


def _uploads_unneeded() -> QuerySet[ImportUpload]:
    """Return the files that no import reads or may apply any more, and those whose import never came."""
    now = timezone.now()
    jobs = ImportJob.objects.filter(upload=OuterRef("pk"))
    applied = ImportJob.objects.filter(applies=OuterRef("pk")).exclude(status__in=NOT_WRITTEN)
    sound = Q(dry_run=True, status=Status.DONE, errors_total=0, finished_at__gte=now - KEPT) & ~Exists(applied)
    needed = jobs.filter(Q(finished_at__isnull=True) | sound)
    return ImportUpload.objects.filter(~Exists(needed), Exists(jobs) | Q(created_at__lt=now - STORED))
