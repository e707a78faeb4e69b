"""The one path of every write of the fleet's rows: a batch is looked at, locked, written, looked at again and logged.

Rows are looked at in Python first; then, in one transaction, those that are there already are locked, and the groups
that they go to; the database is asked what is unique, referred to and still used; what is wrong with any row is raised
for all of them; what is right is written in bulk; checks over several rows look at the outcome (`fleet.checks`); and
one set is appended to the log (`fleet.audit`).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from operator import attrgetter
from typing import Any, NamedTuple

from django.db import connection, connections, models, transaction
from django.db.models import prefetch_related_objects
from django.utils.timezone import now

from fleet.audit import ChangeDraft, changes_write, columns_of, row_values
from fleet.checks import among
from fleet.inserts import ids_draw, rows_insert
from fleet.inventory import BY_KIND, KEPT
from fleet.models import Change, ChangeSet, Delivery, Hall, Retirement, Row
from fleet.models.versioned import Versioned
from fleet.validation import STALE, Errors, rows_clean, rows_refer, rows_unique
from fleet.watches import Written, faults_find, groups_lock, structure_lock, watched_fields

USERS_SHOWN = 3
LABEL_PATHS: Mapping[type[models.Model], tuple[str, ...]] = {
    Hall: ("site",),
    Row: ("hall__site",),
    Delivery: ("host_type", "site"),
    Retirement: ("host_type", "site"),
}
"""What the names of rows show of other rows: read for all of them at once."""

Model = type[models.Model]


class StaleVersionError(Exception):
    """Somebody else has edited the row since it was read."""


@dataclass
class Batch:
    """Rows of one model to be written together; `read` are the versions of those to update and to delete.

    A version of None stands for whatever it is now. `columns` are filled on the way: what each edit changes.
    """

    model: type[Versioned]
    create: list[Any] = field(default_factory=list)
    update: list[Any] = field(default_factory=list)
    delete: list[Any] = field(default_factory=list)
    read: list[int | None] = field(default_factory=list)
    start: int = 0
    columns: dict[int, frozenset[str]] = field(default_factory=dict)
    present: dict[int, Versioned] = field(default_factory=dict)
    users: list[models.Model] = field(default_factory=list)
    made: list[Any] = field(default_factory=list)

    @property
    def size(self) -> int:
        """Rows in it."""
        return len(self.create) + len(self.update) + len(self.delete)

    def rows(self) -> dict[int, Any]:
        """Rows to create and to update, by index."""
        return dict(enumerate((*self.create, *self.update), self.start))

    def updates(self) -> dict[int, Any]:
        """Rows to update, by index."""
        return dict(enumerate(self.update, self.start + len(self.create)))

    def deletions(self) -> dict[int, Any]:
        """Rows to delete, by index."""
        return dict(enumerate(self.delete, self.start + len(self.create) + len(self.update)))


def is_logged(model: Model) -> bool:
    """Whether rows of a model are the fleet's, and so in its log."""
    entry = BY_KIND.get(str(model._meta.model_name))
    return entry is not None and entry.model is model


def batches_write(
    batches: Sequence[Batch], *, undo_of: ChangeSet | None = None, dry_run: bool = False
) -> tuple[list[ChangeDraft], ChangeSet | None]:
    """Write batches in their order, in one transaction, as one set of changes."""
    errors, start = Errors(), 0
    for batch in batches:
        batch.start, start = start, start + batch.size
        rows_clean(batch.model, batch.rows(), errors)  # outside of the transaction: nobody waits for it
    drafts: list[ChangeDraft] = []
    change_set = None
    try:
        with transaction.atomic():
            structure_lock(batches[0].model if len(batches) == 1 else None)
            for batch in batches:
                drafts += _batch_write(batch, errors)
            _faults_note(batches, errors)
            errors.stop()
            if dry_run:
                transaction.set_rollback(True)
            elif drafts:
                change_set = changes_write(drafts, undo_of=undo_of)
    except BaseException:
        _forget(batches)
        raise
    if dry_run:
        _forget(batches)
    return drafts, change_set


def _forget(batches: Sequence[Batch]) -> None:
    """Take from rows what a write that was taken back has given them."""
    for batch in batches:
        for row in batch.made:
            row.pk, row._state.adding = None, True  # noqa: SLF001
        for index, row in batch.updates().items():
            if index in batch.columns and row.pk in batch.present:
                row.version = batch.present[row.pk].version


def _batch_write(batch: Batch, errors: Errors) -> list[ChangeDraft]:
    """Look at a batch among the rows that are there, and write it if nothing is wrong with it."""
    _present_lock(batch)
    _versions_compare(batch, errors)
    rows, gone = batch.rows(), {row.pk for row in batch.delete}
    rows_unique(batch.model, rows, _edits(batch), errors, gone=gone)
    rows_refer(batch.model, rows, _edits(batch), errors)
    removals = _removals(batch, errors)
    errors.stop()
    watched = watched_fields(batch.model)
    moving = [row for index, row in batch.updates().items() if batch.columns.get(index, frozenset()) & watched]
    groups_lock(batch.model, [*batch.create, *moving])
    return [*_deleted(removals), *_updated(batch), *_created(batch)]


def _present_lock(batch: Batch) -> None:
    """Read the rows that are edited or deleted as they are now, and keep them so."""
    ids = [row.pk for row in (*batch.update, *batch.delete)]
    if not ids:
        return
    rows = batch.model._default_manager.filter(pk__in=among(ids)).order_by("pk")
    batch.present = {row.pk: row for row in rows.select_for_update(no_key=not batch.delete)}


def _versions_compare(batch: Batch, errors: Errors) -> None:
    """Find what each edit changes; rows that are gone, named twice, or of another version than was read are errors."""
    names = [name for name, _ in columns_of(batch.model) if name not in KEPT]
    values = attrgetter(*names)
    seen: set[int] = set()
    named = {**batch.updates(), **batch.deletions()}
    last = batch.start + len(batch.create) + len(batch.update)
    for index, (row, read) in zip(named, zip(named.values(), batch.read or _versions(named), strict=True), strict=True):
        there = batch.present.get(row.pk)
        if row.pk in seen:
            errors.add(index, "", "this row is named twice")
        elif there is None and read is None and index >= last:
            batch.delete.clear()  # it is gone already: of one row, nobody asked in which version
        elif there is None:
            errors.add(index, STALE, "it is not there any more")
        elif read is not None and there.version != read:
            errors.add(index, STALE, f"somebody else has edited it since: it has version {there.version}, not {read}")
        elif index < last:
            differ = (name for name, new, old in zip(names, values(row), values(there), strict=True) if new != old)
            columns = frozenset(differ)
            if columns:
                batch.columns[index] = columns
        seen.add(row.pk)


def _versions(rows: Mapping[int, Any]) -> list[int]:
    return [row.version for row in rows.values()]


def _edits(batch: Batch) -> dict[int, frozenset[str]]:
    """Return what each edit changes, also those that change nothing."""
    return {index: batch.columns.get(index, frozenset()) for index in batch.updates()}


# --- deletions --------------------------------------------------------------------------------------------------------
class _Removal(NamedTuple):
    """Rows of one model that go together: those that were named, or those that go with them."""

    model: Model
    rows: list[Any]


def _removals(batch: Batch, errors: Errors) -> list[_Removal]:
    """Return what goes, those first that refer to others; what is still used is an error that names who uses it."""
    roots: dict[tuple[Model, int], int]
    roots = {(batch.model, row.pk): index for index, row in batch.deletions().items() if row.pk in batch.present}
    if not roots:
        return []
    removals = [_Removal(batch.model, [batch.present[pk] for _, pk in roots])]
    for removal in removals:  # grows while it is walked
        for relation in _relations(removal.model, models.CASCADE):
            children = _referring(relation, removal.rows).select_for_update()
            new = [row for row in children if (type(row), row.pk) not in roots]
            parents = attrgetter(relation.attname)
            roots |= {(type(row), row.pk): roots[removal.model, parents(row)] for row in new}
            if new:
                removals.append(_Removal(relation.model, new))
    for removal in removals:
        for relation in _relations(removal.model, models.PROTECT):
            _users_note(batch, relation, removal, roots, errors)
    return removals[::-1]


def _relations(model: Model, rule: Any) -> list[Any]:
    """Return the foreign keys of other models that refer to a model and have a rule for its deletion."""
    found = (one for one in model._meta.get_fields(include_hidden=True) if one.auto_created and not one.concrete)
    return [one.field for one in found if (one.one_to_many or one.one_to_one) and one.on_delete is rule]  # type: ignore[union-attr]


def _referring(relation: Any, rows: Sequence[models.Model]) -> "models.QuerySet[Any]":
    ids = [row.pk for row in rows]
    return relation.model._default_manager.filter(**{f"{relation.attname}__in": among(ids)}).order_by("pk")


def _users_note(
    batch: Batch, relation: Any, removal: _Removal, roots: Mapping[tuple[Model, int], int], errors: Errors
) -> None:
    users: dict[int, list[int]] = {}
    for pk, parent in _referring(relation, removal.rows).values_list("pk", relation.attname):
        if (relation.model, pk) not in roots:
            users.setdefault(roots[removal.model, parent], []).append(pk)
    shown = relation.model._default_manager.in_bulk([pk for ids in list(users.values())[:1000] for pk in ids[:3]])
    labels = dict(zip(shown, _labels(relation.model, list(shown.values())), strict=True))
    batch.users += shown.values()
    name = relation.model._meta
    for index, ids in users.items():
        some = ", ".join(labels[pk] for pk in ids[:USERS_SHOWN] if pk in labels)
        count = f"{len(ids)} {name.verbose_name if len(ids) == 1 else name.verbose_name_plural}"
        more = ", ..." if len(ids) > USERS_SHOWN else ""
        errors.add(index, "", f"it is used by {count} ({some}{more}): delete those first")


def _deleted(removals: Sequence[_Removal]) -> list[ChangeDraft]:
    """Delete rows, and return their changes."""
    drafts = []
    for model, rows in removals:
        if is_logged(model):
            regions, labels = _regions(model, rows), _labels(model, rows)
            for row, label in zip(rows, labels, strict=True):
                drafts.append(_draft(row, label, Change.Action.DELETE, regions, before=row_values(row)))
        quote, ids = connection.ops.quote_name, among([row.pk for row in rows])
        table, column = quote(model._meta.db_table), quote(str(model._meta.pk.column))
        with connection.cursor() as cursor:
            cursor.execute(f"DELETE FROM {table} WHERE {column} IN ({ids.sql})", ids.params)  # nosec B608  # noqa: S608 -- our own names
    return drafts


# --- edits and new rows -----------------------------------------------------------------------------------------------
def _updated(batch: Batch) -> list[ChangeDraft]:
    """Write what edits change, and return the changes."""
    edits = {index: row for index, row in batch.updates().items() if index in batch.columns}
    if not edits:
        return []
    rows, moment = list(edits.values()), now()
    columns = sorted(frozenset().union(*batch.columns.values()))
    for row in rows:
        row.version, row.updated_at = batch.present[row.pk].version + 1, moment
    _update(batch, rows, columns)
    regions, labels, as_json = _regions(batch.model, rows), _labels(batch.model, rows), dict(columns_of(batch.model))
    drafts = []
    for (index, row), label in zip(edits.items(), labels, strict=True):
        old = batch.present[row.pk]
        names = (*sorted(batch.columns[index]), "version")
        before, after = ({name: as_json[name](getattr(one, name)) for name in names} for one in (old, row))
        drafts.append(_draft(row, label, Change.Action.UPDATE, regions, before=before, after=after))
    return drafts


def _update(batch: Batch, rows: Sequence[Any], columns: Sequence[str]) -> None:
    """Write columns of rows and raise their versions, each if it is still the one read: the row count decides."""
    meta, quote = batch.model._meta, connection.ops.quote_name
    fields: list[Any] = [meta.get_field(name) for name in (*columns, "updated_at")]
    values = [_as_stored(one, rows) for one in fields]
    versions = [batch.present[row.pk].version for row in rows]
    ids, table = [row.pk for row in rows], quote(meta.db_table)
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            # one statement for all: three times as fast as one for each
            kinds = ("bigint", "integer", *(one.db_type(connection) for one in fields))
            columns_new = ", ".join(f"unnest(%s::{kind}[]) AS v{at}" for at, kind in enumerate(kinds))
            sets = ", ".join(f"{quote(one.column)} = v{at}" for at, one in enumerate(fields, 2))
            cursor.execute(
                f"UPDATE {table} SET {sets}, version = version + 1 FROM (SELECT {columns_new}) AS new "  # nosec B608  # noqa: S608 -- our own names
                "WHERE id = v0 AND version = v1",
                [ids, versions, *values],
            )
        else:
            sets = ", ".join(f"{quote(one.column)} = %s" for one in fields)
            cursor.executemany(
                f"UPDATE {table} SET {sets}, version = version + 1 WHERE id = %s AND version = %s",  # nosec B608  # noqa: S608 -- our own names
                list(zip(*values, ids, versions, strict=True)),
            )
        if cursor.rowcount != len(rows):
            raise StaleVersionError(_first_stale(batch, rows))


def _as_stored(column: Any, rows: Sequence[Any]) -> list[Any]:
    """Return a column of rows as the database takes it; what many rows share is prepared once."""
    name, real = column.attname, connections[connection.alias]
    stored = {value: column.get_db_prep_save(value, real) for value in {row.__dict__[name] for row in rows}}
    return [stored[row.__dict__[name]] for row in rows]


def _first_stale(batch: Batch, rows: Sequence[Any]) -> int:
    """Return the index of the first row that was not written."""
    now_versions = dict(
        batch.model._default_manager.filter(pk__in=among([row.pk for row in rows])).values_list("pk", "version")
    )
    stale = (row.pk for row in rows if now_versions.get(row.pk) != batch.present[row.pk].version + 1)
    first = next(stale, None)
    return next(index for index, row in batch.updates().items() if row.pk == first)


def _created(batch: Batch) -> list[ChangeDraft]:
    """Insert new rows, and return their changes."""
    rows = batch.create
    if not rows:
        return []
    model, moment = batch.model, now()
    batch.made = [row for row in rows if row.pk is None]
    for row, pk in zip(batch.made, ids_draw(model, len(batch.made)), strict=True):
        row.pk, row.version = pk, 1
    for row in rows:
        row.created_at = row.updated_at = moment
        row._state.adding, row._state.db = False, connection.alias  # noqa: SLF001 -- as Django's own inserts do
    fields = model._meta.concrete_fields
    rows_insert(
        model, [str(one.column) for one in fields], zip(*(_as_stored(one, rows) for one in fields), strict=True)
    )
    regions, labels = _regions(batch.model, rows), _labels(batch.model, rows)
    return [
        _draft(row, label, Change.Action.CREATE, regions, after=row_values(row))
        for row, label in zip(rows, labels, strict=True)
    ]


def _draft(
    row: models.Model,
    label: str,
    action: Change.Action,
    regions: Mapping[int, int | None],
    *,
    before: dict[str, Any] | None = None,
    after: dict[str, Any] | None = None,
) -> ChangeDraft:
    return ChangeDraft(str(row._meta.model_name), row.pk, label, action, regions.get(row.pk), before, after)


def _labels(model: Model, rows: Sequence[Any]) -> list[str]:
    """Return the names of rows, without a query for each."""
    if rows and model in LABEL_PATHS:
        prefetch_related_objects(rows, *LABEL_PATHS[model])
    return [str(row) for row in rows]


def _regions(model: Model, rows: Sequence[Any]) -> dict[int, int | None]:
    """Return the region in which each row lies; a row that is not named lies everywhere."""
    paths = BY_KIND[str(model._meta.model_name)].regions
    if paths == ("pk",):
        return {row.pk: row.pk for row in rows}
    if not paths:
        return {}
    found = model._default_manager.filter(pk__in=among([row.pk for row in rows])).order_by().values_list("pk", *paths)
    return {pk: next((region for region in regions if region is not None), None) for pk, *regions in found}


# --- what checks say --------------------------------------------------------------------------------------------------
def _faults_note(batches: Sequence[Batch], errors: Errors) -> None:
    """Let the checks over several rows look at what was written."""
    places: dict[tuple[Model, int], int] = {}
    written = []
    for batch in batches:
        edited = {row.pk: batch.columns[at] for at, row in batch.updates().items() if at in batch.columns}
        places |= {(batch.model, row.pk): index for index, row in batch.rows().items()}
        written.append(Written(batch.model, frozenset(row.pk for row in batch.create), edited))
    for fault in faults_find(written):
        errors.add(places[fault.model, fault.id], fault.field, fault.message)
