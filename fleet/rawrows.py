"""Many new rows of the fleet past the ORM: a million in a minute or two, in one transaction, and in the log of changes.

`RawRows.add` gives a row its id at once and keeps it; `flush` writes what is kept and appends one set of changes. What
is written this way was checked by nobody but the database: it is for rows that we make ourselves.
"""

import gc
from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from operator import itemgetter
from typing import Any

from django.core.management.color import no_style
from django.db import connection, models, transaction
from django.utils.timezone import now

from fleet.audit import ChangeDraft, changes_write, columns_of
from fleet.inserts import ids_draw, rows_insert
from fleet.inventory import INVENTORY, Entry
from fleet.models import (
    Card,
    Change,
    CoolingLink,
    CoolingNode,
    Hall,
    Host,
    HostType,
    NetworkLink,
    NetworkNode,
    Placement,
    PowerLink,
    PowerNode,
    Rack,
    Region,
    Site,
)
from fleet.watches import structure_lock

PENDING_MOST = 50_000
"""Rows above which `flush_many` writes what is kept: half a kilobyte each."""
CACHE_KB = 256 * 1024
"""Pages that SQLite keeps while it writes: with its usual 2 MB every index page goes to the disk many times. [KB]"""
ANALYSED_MOST = 1000
"""Index rows that SQLite looks at for its planner; all of them would take longer than the writing."""

Model = type[models.Model]
Values = dict[str, Any]

NAMES: Mapping[Model, Callable[[Values], str]] = {
    Card: itemgetter("serial"),
    **dict.fromkeys((Rack, Host, PowerNode, CoolingNode, NetworkNode), itemgetter("slug")),
    **dict.fromkeys((PowerLink, CoolingLink, NetworkLink), "{node_id} on {source_id}".format_map),
    Placement: "{deployment_id} on {host_id}".format_map,
}
"""How rows of which there are many are called, as their `str` would say."""
NAMED_BY = (Site, Hall, HostType)
"""Models whose rows appear in the names of other rows."""


@contextmanager
def rows_writing() -> Iterator["RawRows"]:
    """Open the transaction in which raw rows are written: all of them or none. No other writer comes between."""
    with transaction.atomic(), _pages_kept(), _collector_paused():
        structure_lock(None)
        rows = RawRows()
        yield rows
        rows.finish()


class RawRows:
    """New rows of the fleet in the making.

    `region_pk` is the region in which the rows lie that are added next; the log of changes shows it. `counts` are the
    rows written, by the name of their kind.
    """

    def __init__(self) -> None:
        moment = now()
        self.counts: Counter[str] = Counter()
        self.region_pk: int | None = None
        self._tables: dict[Model, _Table] = {entry.model: _Table(entry, moment) for entry in INVENTORY.values()}
        self._named: dict[tuple[Model, int], models.Model] = {}
        self._pending = 0

    def add(self, model: Model, /, **values: Any) -> int:
        """Take a row, columns by name (`rack_id`), and return its id. What is left out has the default of its field."""
        table = self._tables[model]
        values["id"] = table.next_id
        table.next_id += 1
        table.pending.append((values, self.region_pk))
        self._pending += 1
        return int(values["id"])

    def flush_many(self) -> None:
        """Write what is kept, if it is much."""
        if self._pending >= PENDING_MOST:
            self.flush()

    def flush(self) -> None:
        """Write what is kept, and its changes."""
        drafts: list[ChangeDraft] = []
        for table in self._tables.values():  # what is referred to comes first
            if table.pending:
                rows = [table.row(values) for values, _ in table.pending]
                rows_insert(table.entry.model, table.columns, map(table.values, rows))
                drafts += (
                    self._draft(table, row, region) for row, (_, region) in zip(rows, table.pending, strict=True)
                )
                self.counts[table.entry.name] += len(rows)
                table.pending = []
        if drafts:
            changes_write(drafts)
        self._pending = 0

    def finish(self) -> None:
        """Write the rest, let the next row that anybody adds have the next id, and show the planner what is there."""
        self.flush()
        with connection.cursor() as cursor:
            for sql in connection.ops.sequence_reset_sql(no_style(), list(self._tables)):
                cursor.execute(sql)
            if connection.vendor == "sqlite":
                cursor.execute(f"PRAGMA analysis_limit = {ANALYSED_MOST}")
            analysed: list[Model] = [*self._tables, Change]
            for model in analysed:
                cursor.execute(f"ANALYZE {connection.ops.quote_name(model._meta.db_table)}")

    def _draft(self, table: "_Table", row: Values, region: int | None) -> ChangeDraft:
        if table.entry.model is Region:
            region = row["id"]
        return ChangeDraft(
            kind=table.kind,
            object_id=row["id"],
            label=table.name(row) if table.name else self._name(table, row),
            action=Change.Action.CREATE,
            region_pk=region if table.entry.regions else None,
            before=None,
            after={name: as_json(row[name]) for name, as_json in table.as_json},
        )

    def _name(self, table: "_Table", row: Values) -> str:
        """Return how one of a few rows is called: it and what it is named by are made as objects, and asked."""
        made = table.entry.model(**row)
        for key in table.named_by:
            if row[key.attname] is not None:
                setattr(made, key.name, self._named[key.related_model, row[key.attname]])
        if table.entry.model in NAMED_BY:
            self._named[table.entry.model, row["id"]] = made
        return str(made)


class _Table:
    """A table of the fleet: its columns, the next id, the rows that wait."""

    def __init__(self, entry: Entry, moment: datetime) -> None:
        fields: list[Any] = list(entry.model._meta.concrete_fields)
        self.entry, self.kind = entry, entry.kind
        self.columns = [field.attname for field in fields]
        self.defaults = {field.attname: _default(field, moment) for field in fields}
        self.values = itemgetter(*self.columns)
        self.as_json = columns_of(entry.model)
        self.name = NAMES.get(entry.model)
        self.named_by = [field for field in fields if field.related_model in NAMED_BY]
        (self.next_id,) = ids_draw(entry.model, 1)
        self.pending: list[tuple[Values, int | None]] = []

    def row(self, values: Values) -> Values:
        """Return a row with every column."""
        row = self.defaults | values
        if len(row) != len(self.columns):
            raise TypeError(f"{self.kind} has no column {', '.join(sorted(row.keys() - self.defaults.keys()))}")
        return row


def _default(field: Any, moment: datetime) -> Any:
    if getattr(field, "auto_now", False) or getattr(field, "auto_now_add", False):
        return field.get_db_prep_save(moment, connection)
    return field.get_default()


def tables_settle() -> None:
    """Do after the transaction what a database would do later, while somebody waits; within one there is nothing."""
    if connection.in_atomic_block:
        return
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            models_written: list[Model] = [*(entry.model for entry in INVENTORY.values()), Change]
            for model in models_written:
                cursor.execute(f"VACUUM {connection.ops.quote_name(model._meta.db_table)}")
        else:
            cursor.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Let nobody look for circles among a hundred thousand rows that have none: it is a third of the time."""
    enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if enabled:
            gc.enable()


@contextmanager
def _pages_kept() -> Iterator[None]:
    """Let SQLite keep more pages in memory for a while."""
    if connection.vendor != "sqlite":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA cache_size")
        before = cursor.fetchone()[0]
        cursor.execute(f"PRAGMA cache_size = -{CACHE_KB}")
    try:
        yield
    finally:
        with connection.cursor() as cursor:
            cursor.execute(f"PRAGMA cache_size = {before}")
