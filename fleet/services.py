"""Writes of the fleet: one path for every row that carries a version. Checked, logged, all or nothing.

An edit that changes nothing is not logged and raises no version; that somebody else has edited the row since it was
read is an error even then. How a write goes about it is told in `fleet.batches`.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import groupby
from operator import attrgetter
from typing import Any, NamedTuple, TypeVar

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.core.exceptions import ObjectDoesNotExist
from django.db import transaction
from django.db.models import F, ProtectedError, prefetch_related_objects

from fleet.access import region_ids, region_limit, rows_writable
from fleet.audit import ChangeDraft, author_current, columns_of, row_values, writing_as
from fleet.batches import Batch, StaleVersionError, batches_write, is_logged
from fleet.checks import among
from fleet.inventory import BY_KIND, KEPT
from fleet.models import Change, ChangeSet
from fleet.models.versioned import Versioned
from fleet.validation import RowError, RowsWriteError
from fleet.watches import structure_lock

__all__ = [
    "Conflict",
    "RowError",
    "RowsWriteError",
    "StaleVersionError",
    "UndoConflictError",
    "UndoPlaceError",
    "WriteReport",
    "change_set_undo",
    "change_undo",
    "row_delete",
    "row_save",
    "rows_write",
    "version_take",
]

Row = TypeVar("Row", bound=Versioned)
Account = AbstractBaseUser | AnonymousUser | None

USED = "it is used by other rows: delete those first"


class Conflict(NamedTuple):
    """Why a change cannot be undone: the row as people call it, the field or nothing, a sentence."""

    label: str
    field: str
    message: str


class UndoConflictError(Exception):
    """What a set has written has changed since, or does not fit any more: nothing was undone."""

    def __init__(self, conflicts: Sequence[Conflict]) -> None:
        self.conflicts = list(conflicts)
        told = (f"{label}: {field}: {text}" if field else f"{label}: {text}" for label, field, text in conflicts[:3])
        super().__init__("; ".join(told))


class UndoPlaceError(Exception):
    """A row lies, or would lie again, where an account that is limited to regions writes nothing."""

    def __init__(self) -> None:
        super().__init__(
            "A row of it lies, or would lie again, where your account, limited to regions, writes nothing."
        )


@dataclass(frozen=True)
class WriteReport:
    """What a write of many rows has done, or would do; the ids of rows that a dry run would make are not theirs."""

    created: int
    updated: int
    unchanged: int
    deleted: int
    cascaded: int
    changes: tuple[ChangeDraft, ...]
    change_set: ChangeSet | None


# --- one row ----------------------------------------------------------------------------------------------------------
def row_save(row: Row, *, version: int | None = None) -> Row:
    """Check and save a row. With `version`, only if nobody has edited it since; the edit takes the next version."""
    if not is_logged(type(row)):
        row.full_clean()
        with transaction.atomic():
            if row.pk and version is not None:
                version_take(row, version=version)
            row.save()
        return row
    batch = Batch(type(row), update=[row], read=[version]) if row.pk else Batch(type(row), create=[row])
    try:
        batches_write([batch])
    except RowsWriteError as error:
        if error.stale:
            raise StaleVersionError(row.pk) from error
        raise error.as_validation() from error
    return row


def version_take(row: Versioned, *, version: int) -> None:
    """Take the next version of a row, or raise StaleVersionError. The row count of one UPDATE decides who edits."""
    rows = type(row)._default_manager.filter(pk=row.pk, version=version)
    if not rows.update(version=F("version") + 1):
        raise StaleVersionError(row.pk)
    row.version = version + 1


def row_delete(row: Versioned, *, version: int | None = None) -> None:
    """Delete a row and what goes with it; with `version`, only if nobody has edited it since."""
    if not is_logged(type(row)):
        with transaction.atomic():
            if version is not None:
                version_take(row, version=version)
            row.delete()
        return
    batch = Batch(type(row), delete=[row], read=[version])
    try:
        batches_write([batch])
    except RowsWriteError as error:
        if error.stale:
            raise StaleVersionError(row.pk) from error
        raise ProtectedError(error.errors[0].message, set(batch.users)) from error


# --- many rows --------------------------------------------------------------------------------------------------------
def rows_write(
    model: type[Versioned],
    *,
    create: Iterable[Versioned] = (),
    update: Iterable[Versioned] = (),
    delete: Iterable[Versioned] = (),
    why: str = "",
    dry_run: bool = False,
) -> WriteReport:
    """Write rows of one model, all or none: new ones, edited ones with the version that was read, ones to delete.

    Deletions come first, then edits, then what is new. Raises RowsWriteError with what is wrong with every row.
    `why` stands in the log in place of the author's own; with `dry_run` everything is done and taken back.
    """
    if not is_logged(model):
        raise ValueError(f"{model.__name__} is no kind of row of the fleet")
    batch = Batch(model, create=list(create), update=list(update), delete=list(delete))
    author = author_current()
    with writing_as(replace(author, why=why or author.why)):
        drafts, change_set = batches_write([batch], dry_run=dry_run)
    return WriteReport(
        created=len(batch.create),
        updated=len(batch.columns),
        unchanged=len(batch.update) - len(batch.columns),
        deleted=len(batch.delete),
        cascaded=len(drafts) - len(batch.create) - len(batch.columns) - len(batch.delete),
        changes=tuple(drafts),
        change_set=change_set,
    )


# --- undo -------------------------------------------------------------------------------------------------------------
def change_set_undo(change_set: ChangeSet, *, why: str, user: Account = None) -> ChangeSet:
    """Write the opposite of every change of a set, the last first, as a set of its own.

    Refused with UndoConflictError where a row is not any more as the set left it: in a field that the set wrote, or
    gone, or back. A row that comes back has its id, the version after its last one, and a new `created_at`.
    With UndoPlaceError where `user` is limited to regions and writes no row where one of these lies or would lie.
    """
    return _undo(change_set, list(change_set.changes.order_by("-position")), why, user)


def change_undo(change: Change, *, why: str) -> ChangeSet:
    """Write the opposite of one change, as a set of its own that undoes a part of the change's set."""
    return _undo(change.change_set, [change], why, None)


def _undo(change_set: ChangeSet, changes: Sequence[Change], why: str, user: Account) -> ChangeSet:
    conflicts: list[Conflict] = []
    with writing_as(replace(author_current(), why=why)), transaction.atomic():
        structure_lock(None)
        runs = [(key, list(run)) for key, run in groupby(changes, key=attrgetter("kind", "action"))]
        limit = region_limit(user)
        if limit is not None:
            _places_check([(kind, run) for (kind, _), run in runs], user, limit)
        batches = [_opposite(kind, action, run, conflicts) for (kind, action), run in runs]
        if conflicts:
            raise UndoConflictError(conflicts)
        try:
            _, undone = batches_write(batches, undo_of=change_set)
        except RowsWriteError as error:
            undone_by_index = [change for _, run in runs for change in run]
            told = [_refused(undone_by_index[one.index], one, is_limited=limit is not None) for one in error.errors]
            raise UndoConflictError(list(dict.fromkeys(told))) from error
    if undone is None:
        raise UndoConflictError([Conflict(str(change_set), "", "there is nothing to undo in it")])
    return undone


def _refused(change: Change, error: RowError, *, is_limited: bool) -> Conflict:
    """Return why a row is not written; who uses one that would go may lie where a limited account sees nothing."""
    is_used = is_limited and change.action == Change.Action.CREATE
    return Conflict(change.label, error.field, USED if is_used else error.message)


def _places_check(runs: Sequence[tuple[str, Sequence[Change]]], user: Account, limit: frozenset[int]) -> None:
    """Refuse rows that lie, or would lie once changes are undone, where a limited account writes nothing."""
    results: dict[type[Versioned], dict[int, Versioned]] = defaultdict(dict)
    for kind, run in runs:
        model = BY_KIND[kind].model
        rows = model._default_manager.filter(pk__in=among([change.object_id for change in run]))
        present = {row.pk: row for row in rows.select_for_update()}
        if rows_writable(rows, user).count() != len(present):
            raise UndoPlaceError
        names = {name for name, _ in columns_of(model)}
        for change in run:
            if change.before is not None:
                row = results[model].get(change.object_id) or present.get(change.object_id)
                row = row or model()
                row.pk = change.object_id
                for name in names & change.before.keys():
                    setattr(row, name, change.before[name])
                results[model][change.object_id] = row
    for model, found in results.items():
        paths = BY_KIND[str(model._meta.model_name)].regions
        _places_read(list(found.values()), paths, results)
        if not paths or not all(_is_inside(row, limit) for row in found.values()):
            raise UndoPlaceError


def _places_read(
    rows: Sequence[Any], paths: Sequence[str], results: Mapping[type[Versioned], Mapping[int, Versioned]]
) -> None:
    """Read with rows where they lie; what they lie in may itself be one of the results."""
    for path in paths:
        place, _, _ = path.rpartition("__")
        if not place:
            continue
        field: Any = type(rows[0])._meta.get_field(place.split("__")[0])
        coming = results.get(field.related_model, {})
        for row in rows:
            if getattr(row, field.attname) in coming:
                setattr(row, field.name, coming[getattr(row, field.attname)])
        prefetch_related_objects(rows, place)


def _is_inside(row: Versioned, limit: frozenset[int]) -> bool:
    """Whether a row would lie in one of some regions; what it refers to and is gone, the write itself refuses."""
    try:
        return any(pk in limit for pk in region_ids(row))
    except ObjectDoesNotExist:
        return True


def _opposite(kind: str, action: str, changes: Sequence[Change], conflicts: list[Conflict]) -> "Batch":
    """Return what undoes changes of one kind and action, and note where rows are not as the changes left them."""
    model = BY_KIND[kind].model
    ids = [change.object_id for change in changes]
    present = {row.pk: row for row in model._default_manager.filter(pk__in=among(ids)).select_for_update()}
    for change in changes:
        conflicts += _changed_since(change, present.get(change.object_id))
    if conflicts:
        return Batch(model)
    if action == Change.Action.CREATE:
        return Batch(model, delete=[present[pk] for pk in ids])
    if action == Change.Action.DELETE:
        return Batch(model, create=[_back(model, change) for change in changes])
    for change in changes:
        for name, value in (change.before or {}).items():
            if name not in KEPT:
                setattr(present[change.object_id], name, value)
    return Batch(model, update=[present[pk] for pk in ids])


def _back(model: type[Versioned], change: Change) -> Versioned:
    """Return a deleted row as it was."""
    row = model(**(change.before or {}))
    row.pk, row.version = change.object_id, row.version + 1
    return row


def _changed_since(change: Change, row: Versioned | None) -> list[Conflict]:
    """Return where a row is not any more as a change left it, or cannot become what it was."""
    if (row is None) != (change.action == Change.Action.DELETE):
        return [Conflict(change.label, "", "it is not there any more" if row is None else "it is there again")]
    fields = {name for name, _ in columns_of(BY_KIND[change.kind].model)}
    unknown = sorted({*(change.before or ()), *(change.after or ())} - fields)
    told = [Conflict(change.label, name, "there is no such field any more") for name in unknown]
    present = row_values(row) if row is not None else {}
    for name, left in (change.after or {}).items():
        if name in fields and name not in KEPT and present[name] != left:
            told.append(Conflict(change.label, name, f"it is {present[name]!r} now, and was left as {left!r}"))
    return told
