"""Many rows of one kind at once, on the address of their list: all or none, errors by their index."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from typing import Any

from django.db.models import Model, QuerySet
from rest_framework import serializers
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.reverse import reverse

from api.errors import RowsProtectedError, TooLargeError
from api.seen import key_relations, related_paths, write_check
from api.serializers import INTEGER_MAX, BriefField, row_url, rows_named
from fleet.access import region_limit
from fleet.audit import ChangeDraft
from fleet.inventory import Entry, key_text
from fleet.models import Change
from fleet.services import RowsWriteError, WriteReport, rows_write
from scenarios.seen import seen

ROWS_MOST = 1000
NAMES_AT_ONCE = 200  # in one query: a data base takes so many alternatives
UNCHANGED = "unchanged"
USED = "It is used by other rows: delete those first."

Name = int | str | tuple[Any, ...]
"""What names a row: its id, its key as text, or the values of the fields of its key."""


def import_hint() -> str:
    """Return the sentence for who has more rows than are written at once."""
    return f" POST more of them to {reverse('api:importjob-list')} as an import."


def rows_read(data: Any) -> list[Any]:
    """Return the rows of a body."""
    if not isinstance(data, list) or not data:
        raise ValidationError("An array of at least one row is needed.")
    if len(data) > ROWS_MOST:
        raise TooLargeError(f"At most {ROWS_MOST} rows are written at once, not {len(data)}.{import_hint()}")
    return data


class RowsReader:
    """Reads the rows of a body for a view. What they refer to is looked up for all of them at once."""

    def __init__(self, view: Any, items: Sequence[Any], *, partial: bool = False) -> None:
        self.entry: Entry = view.entry
        self.items, self.user, self.partial = items, view.request.user, partial
        self.refused: dict[Any, Any] = {}
        found: dict[type[Model], Mapping[Name, Any]] = {}
        context = {**view.get_serializer_context(), "found": found}
        self.serializer = view.get_serializer(partial=partial, context=context)
        for model, names in _related_named(self.serializer, items).items():
            found[model] = rows_by_name(model._default_manager.all(), names, self.user)

    def made(self) -> list[Any]:
        """Return new rows, not stored yet."""
        values = self._each(self.serializer.run_validation)
        self._stop()
        rows = [self.entry.model(**one) for one in values.values()]
        for row in rows:
            write_check(row, self.user)
        return rows

    def edited(self) -> list[Any]:
        """Return the rows that the items name as they shall be, with the version that was read where it is given."""
        rows, values = self._rows(), self._each(self._changes)
        self._stop()
        for at, row in rows.items():
            write_check(row, self.user)
            for name, value in values[at].items():
                setattr(row, name, value)
            write_check(row, self.user)
            row.version = self.items[at].get("version", row.version)
        return list(rows.values())

    def ended(self) -> list[Any]:
        """Return the rows that the items name, with the version that was read where it is given."""
        rows = self._rows()
        named: set[int] = set()
        for at, row in rows.items():
            if row.pk in named:
                self.refused[at] = ["this row is named twice"]
            named.add(row.pk)
        self._stop()
        for at, row in rows.items():
            write_check(row, self.user)
            if isinstance(self.items[at], dict):
                row.version = self.items[at].get("version", row.version)
        return list(rows.values())

    def _stop(self) -> None:
        """Raise what is wrong, if anything is."""
        if self.refused:
            raise ValidationError(dict(sorted(self.refused.items())))

    def _each(self, read: Callable[[Any], Any]) -> dict[int, Any]:
        """Return what is read of each item by its index; note what cannot be read."""
        found = {}
        for at, item in enumerate(self.items):
            if at not in self.refused:
                try:
                    found[at] = read(item)
                except ValidationError as error:
                    self.refused[at] = error.detail
        return found

    def _changes(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Return the values that an edit changes: all but those that name the row."""
        named = {"version", "id"} if "id" in item else {"version", *self.entry.key}
        changed = {name: value for name, value in item.items() if name not in named}
        values: dict[str, Any] = self.serializer.run_validation(changed)
        return values

    def _rows(self) -> dict[int, Any]:
        """Return the rows that the items name, by index; the account sees them all."""
        model, names = self.entry.model, self._each(self._name)
        by_name = rows_by_name(model._default_manager.all(), names.values(), self.user, self.entry)
        for at, name in names.items():
            if name not in by_name:
                text = f"There is no {model._meta.verbose_name} {_shown(name)}."
                self.refused[at] = {"id" if isinstance(name, int) else self.entry.key[0]: [text]}
        return {at: by_name[name] for at, name in names.items() if name in by_name}

    def _name(self, item: Any) -> Name:
        """Return what names a row; a version beside it is a whole number."""
        if not self.partial and BriefField.can_name(self.entry.model, item):
            return item
        if not isinstance(item, dict):
            raise ValidationError(f"An object is needed, with id or {' and '.join(self.entry.key)}.")
        _whole(item, "version")
        if "id" in item:
            return _whole(item, "id")
        if missing := [name for name in self.entry.key if name not in item]:
            raise ValidationError({missing[0]: ["Needed, or the id, to name the row."]})
        if not self.partial and (more := set(item) - {*self.entry.key, "version"}):
            raise ValidationError({name[:80]: ["Unknown field."] for name in more})
        return tuple(_plain(self._read(name, item[name])) for name in self.entry.key)

    def _read(self, name: str, value: Any) -> Any:
        try:
            return self.serializer.fields[name].run_validation(value)
        except ValidationError as error:
            raise ValidationError({name: error.detail}) from error


def rows_by_name(rows: QuerySet[Any], names: Iterable[Name], user: Any, entry: Entry | None = None) -> dict[Name, Any]:
    """Return those of the rows that an account sees by the names that were asked for; `entry` if keys are values."""
    model, wanted = rows.model, set(names)
    needed = related_paths(model) if entry else key_relations(model)
    rows = seen(rows.select_related(*needed) if needed else rows, user)
    found: dict[Name, Any] = {}
    ids = [name for name in wanted if isinstance(name, int)]
    texts = [name for name in wanted if isinstance(name, str)]
    keys = [name for name in wanted if isinstance(name, tuple)]
    if ids:
        found |= {row.pk: row for row in rows.filter(rows_named(model, ids))}
    for some in _parts(texts):
        found |= {key_text(row): row for row in rows.filter(rows_named(model, some))}
    if keys and entry:
        columns = [model._meta.get_field(name).attname for name in entry.key]
        here = {f"{column}__in": {key[at] for key in keys} for at, column in enumerate(columns)}
        found |= {tuple(getattr(row, column) for column in columns): row for row in rows.filter(**here)}
    return found


def _related_named(serializer: Any, items: Sequence[Any]) -> dict[type[Model], set[int | str]]:
    """Return what the items name of other rows, by model."""
    wanted: dict[type[Model], set[int | str]] = defaultdict(set)
    for name, field in serializer.fields.items():
        if isinstance(field, BriefField) and not field.read_only:
            rows: Any = field.get_queryset()
            model, values = rows.model, (item[name] for item in items if isinstance(item, dict) and name in item)
            wanted[model] |= {value for value in values if field.can_name(model, value)}
    return wanted


def _parts(names: list[str]) -> Iterator[list[str]]:
    for at in range(0, len(names), NAMES_AT_ONCE):
        yield names[at : at + NAMES_AT_ONCE]


def _plain(value: Any) -> Any:
    return value.pk if isinstance(value, Model) else value


def _whole(item: Mapping[str, Any], name: str) -> int:
    value = item.get(name, 0)
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value <= INTEGER_MAX:
        raise ValidationError({name: ["A whole number is needed."]})
    return value


def _shown(name: Name) -> str:
    if isinstance(name, tuple):
        return _shown(name[0]) if len(name) == 1 else "of this key"
    return repr(name if isinstance(name, int) else name[:80])


# --- writing ----------------------------------------------------------------------------------------------------------
def rows_make(entry: Entry, rows: list[Any], request: Request, *, dry_run: bool) -> dict[str, Any]:
    """Store new rows, or show what would come of it."""
    report = rows_write(entry.model, create=rows, dry_run=dry_run)
    drafts = (draft for draft in report.changes if _is_of(draft, entry, Change.Action.CREATE))
    return _report(report, zip(rows, drafts, strict=True), request, dry_run=dry_run)


def rows_edit(entry: Entry, rows: list[Any], request: Request, *, dry_run: bool) -> dict[str, Any]:
    """Store edits, or show what would come of them."""
    report = rows_write(entry.model, update=rows, dry_run=dry_run)
    drafts = {draft.object_id: draft for draft in report.changes if _is_of(draft, entry, Change.Action.UPDATE)}
    return _report(report, ((row, drafts.get(row.pk)) for row in rows), request, dry_run=dry_run)


def rows_end(entry: Entry, rows: list[Any], request: Request, *, dry_run: bool) -> dict[str, Any]:
    """Delete rows and what goes with them, or show what would."""
    try:
        report = rows_write(entry.model, delete=rows, dry_run=dry_run)
    except RowsWriteError as error:
        if error.stale:
            raise
        is_limited = region_limit(request.user) is not None  # who uses it may lie elsewhere
        told = [one._replace(message=USED) if is_limited else one for one in error.errors]
        raise RowsProtectedError(list(dict.fromkeys(told))) from error
    drafts = {draft.object_id: draft for draft in report.changes if _is_of(draft, entry, Change.Action.DELETE)}
    return _report(report, ((row, drafts[row.pk]) for row in rows), request, dry_run=dry_run)


def _is_of(draft: ChangeDraft, entry: Entry, action: Change.Action) -> bool:
    return draft.kind == entry.kind and draft.action == action


def _report(
    report: WriteReport, rows: Iterable[tuple[Any, ChangeDraft | None]], request: Request, *, dry_run: bool
) -> dict[str, Any]:
    """Return what a write has done, or would do, row by row in the order of the request."""
    own, drafts = [], set()
    for at, (row, draft) in enumerate(rows):
        drafts.add(id(draft))
        own.append({"index": at, **_line(row, draft, request, dry_run=dry_run)})
    change_set = report.change_set
    return {
        "dry_run": dry_run,
        "created": report.created,
        "updated": report.updated,
        "unchanged": report.unchanged,
        "deleted": report.deleted,
        "cascaded": report.cascaded,
        "change_set": row_url(change_set, request) if change_set else None,
        "rows": own,
        "cascaded_rows": [
            {"kind": draft.kind, "id": draft.object_id, "display": draft.label, "before": draft.before}
            for draft in report.changes
            if id(draft) not in drafts
        ],
    }


def _line(row: Any, draft: ChangeDraft | None, request: Request, *, dry_run: bool) -> dict[str, Any]:
    """Return what becomes of one row; of one that is not there afterwards, or not yet, there is no address."""
    action = str(draft.action) if draft else UNCHANGED
    is_there = action in {UNCHANGED, Change.Action.UPDATE} or (action == Change.Action.CREATE and not dry_run)
    after = draft.after if draft else None
    return {
        "action": action,
        "id": row.pk if is_there or action == Change.Action.DELETE else None,
        "url": row_url(row, request) if is_there else None,
        "display": draft.label if draft else str(row),
        "version": (after or {}).get("version", row.version) if is_there else None,
        "before": draft.before if draft else None,
        "after": after,
    }


class RowWrittenSerializer(serializers.Serializer[Any]):
    """What a write has done with one row, or would do."""

    index = serializers.IntegerField(help_text="In the body, from 0.")
    action = serializers.CharField(help_text="create, update, delete, or unchanged.")
    id = serializers.IntegerField(allow_null=True, help_text="Null: it would be made.")
    url = serializers.CharField(allow_null=True, help_text="Null: there is nothing afterwards, or not yet.")
    display = serializers.CharField()
    version = serializers.IntegerField(allow_null=True, help_text="Afterwards.")
    before = serializers.JSONField(help_text="Values by column, of an edit those that differ; related rows by id.")
    after = serializers.JSONField(help_text="The same afterwards.")


class RowCascadedSerializer(serializers.Serializer[Any]):
    """A row that goes with a deleted one."""

    kind = serializers.CharField()
    id = serializers.IntegerField()
    display = serializers.CharField()
    before = serializers.JSONField()


class RowsWrittenSerializer(serializers.Serializer[Any]):
    """What a write has done, or, of a dry run, would do; it is all of it or nothing."""

    dry_run = serializers.BooleanField()
    created = serializers.IntegerField(help_text="[-]")
    updated = serializers.IntegerField(help_text="[-]")
    unchanged = serializers.IntegerField(help_text="Named, and as they were told to be. [-]")
    deleted = serializers.IntegerField(help_text="[-]")
    cascaded = serializers.IntegerField(help_text="Deleted with them. [-]")
    change_set = serializers.CharField(allow_null=True, help_text="Address of what was logged; null: nothing was.")
    rows = RowWrittenSerializer(many=True, help_text="In the order of the body.")
    cascaded_rows = RowCascadedSerializer(many=True)
