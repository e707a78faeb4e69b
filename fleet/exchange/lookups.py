"""What a chunk of a file refers to, found by keys: many at once in the database, and those that the file brings."""

import json
import sqlite3
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from django.db import models

from fleet.access import region_limit, rows_seen
from fleet.checks import among
from fleet.exchange.columns import columns_of
from fleet.exchange.exports import User, may_hide, paths_shown
from fleet.inventory import Entry, key_paths


@dataclass(frozen=True, slots=True)
class Standing:
    """A row as it stands: id, version, its values as a file says them, and whether the account sees it.

    `hidden` are the columns that refer to a row which the account does not see.
    """

    pk: int
    version: int
    values: Mapping[str, Any]
    seen: bool
    hidden: frozenset[str]


def keys_find(model: type[models.Model], keys: Iterable[str], user: User) -> dict[str, int]:
    """Return the ids of those rows with some keys that an account sees."""
    wanted = set(keys)
    paths = key_paths(model)
    rows = rows_seen(_around(model, paths, wanted), user).values_list("pk", *paths)
    found = {"/".join(parts): pk for pk, *parts in rows}
    return {key: pk for key, pk in found.items() if key in wanted}


def rows_find(entry: Entry, keys: Iterable[str], user: User) -> dict[str, Standing]:
    """Return the rows of an entry with some keys, by key."""
    wanted = set(keys)
    columns = columns_of(entry).values()
    hiding = [column for column in columns if may_hide(entry, column, user)]
    paths: list[Any] = [path for column in columns for path in column.paths]
    paths += [paths_shown(entry, column, user)[0] for column in hiding]
    around = _around(entry.model, key_paths(entry.model), wanted)
    seen: set[int] | None = None
    if region_limit(user) is not None:
        seen = set(rows_seen(around, user).values_list("pk", flat=True))
    found = {}
    for pk, version, *stored in around.values_list("pk", "version", *paths):
        values: dict[str, Any] = {}
        at = 0
        for column in columns:
            values[column.name] = column.value(stored[at : (at := at + len(column.paths))])
        key = "/".join(values[name] for name in entry.key)
        if key in wanted:
            shown = zip(hiding, stored[at:], strict=True)
            hidden = frozenset(one.name for one, part in shown if part is None and values[one.name] is not None)
            found[key] = Standing(pk, version, values, seen is None or pk in seen, hidden)
    return found


def _around(model: type[models.Model], paths: Sequence[str], keys: set[str]) -> "models.QuerySet[Any]":
    """Return rows among which are all with one of some keys: of several parts, each is one of theirs."""
    rows: models.QuerySet[Any] = model._default_manager.order_by()
    if len(paths) == 1:
        return rows.filter(**{f"{paths[0]}__in": among(keys)}) if keys else rows.none()
    parts = [split for key in keys if len(split := key.split("/")) == len(paths)]
    if not parts:
        return rows.none()
    return rows.filter(**{f"{path}__in": among({split[at] for split in parts}) for at, path in enumerate(paths)})


class KeysRead:
    """The keys that a file has brought so far, with their lines, in a table on disk: millions need no memory."""

    def __init__(self) -> None:
        self._table = sqlite3.connect("", isolation_level=None)  # a file of its own, gone when it is closed
        self._table.execute("PRAGMA synchronous = OFF")
        self._table.execute(
            "CREATE TABLE keys (entry TEXT, key TEXT, line INTEGER, PRIMARY KEY (entry, key)) WITHOUT ROWID"
        )

    def close(self) -> None:
        """Remove the table."""
        self._table.close()

    def lines_of(self, entry: Entry, keys: Iterable[str]) -> dict[str, int]:
        """Return the lines of those among some keys of an entry that came before."""
        sql = "SELECT key, line FROM keys WHERE entry = ? AND key IN (SELECT value FROM json_each(?))"
        return dict(self._table.execute(sql, (entry.name, json.dumps(list(keys)))))

    def add(self, entry: Entry, lines: Mapping[str, int]) -> None:
        """Remember keys of an entry that are new."""
        self._table.execute("BEGIN")
        rows = ((entry.name, key, line) for key, line in lines.items())
        self._table.executemany("INSERT INTO keys VALUES (?, ?, ?)", rows)
        self._table.execute("COMMIT")
