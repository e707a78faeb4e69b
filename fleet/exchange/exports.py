"""The fleet on its way out: rows as an import reads them, in an order that is the same on every database."""

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import reduce
from operator import or_
from pathlib import Path
from typing import Any

from django.contrib.auth.models import AbstractBaseUser, AnonymousUser
from django.db import connection, models
from django.db.models import Case, F, Q, QuerySet, When
from django.db.models.functions import Collate

from fleet.access import region_limit, rows_seen
from fleet.exchange.columns import Column, columns_of
from fleet.files import Row, book_write, csv_write, json_write, xlsx_write
from fleet.inventory import BY_KIND, INVENTORY, Entry, key_paths
from fleet.models import Site
from fleet.reading import one_view

FORMATS = ("csv", "xlsx", "json")
READ_ROWS = 2_000  # at a time

User = AbstractBaseUser | AnonymousUser | None


@dataclass(frozen=True)
class Scope:
    """What of the fleet is meant: all, or what lies in a region or at a site, and what lies everywhere."""

    region: str = ""
    site: str = ""

    def rows(self, entry: Entry) -> "QuerySet[Any]":
        """Return the rows of an entry in it.

        At a site lies what stands there; of what belongs to a region only, as a service, that of the site's region.
        """
        rows: QuerySet[Any] = entry.model._default_manager.all()
        if not entry.regions or not (self.region or self.site):
            return rows
        inside, everywhere = Q(), Q()
        for path in entry.regions:
            inside |= self._inside(entry, path)
            everywhere &= Q(**{f"{path}__isnull": True})
        return rows.filter(inside | everywhere)

    def _inside(self, entry: Entry, path: str) -> Q:
        if not self.site:
            return Q(**{"slug" if path == "pk" else f"{path}__slug": self.region})
        if entry.model is Site:
            return Q(slug=self.site)
        if path.endswith("site__region"):
            return Q(**{f"{path.removesuffix('__region')}__slug": self.site})
        return Q(**{"sites__slug" if path == "pk" else f"{path}__sites__slug": self.site})


FLEET = Scope()


def entry_rows(entry: Entry, *, scope: Scope = FLEET, user: User = None) -> Iterator[Row]:
    """Yield the rows of an entry that an account sees, by their keys, in constant memory."""
    columns = columns_of(entry).values()
    paths = [path for column in columns for path in paths_shown(entry, column, user)]
    found = rows_seen(scope.rows(entry), user).order_by(*_by_key(entry.model)).values_list(*paths)
    for values in found.iterator(chunk_size=READ_ROWS):
        row: Row = {}
        at = 0
        for column in columns:
            row[column.name] = column.cell(values[at : (at := at + len(column.paths))])
        yield row


def csv_export(entry: Entry, *, scope: Scope = FLEET, user: User = None) -> Iterator[bytes]:
    """Return the chunks of a csv file of an entry."""
    return csv_write(list(columns_of(entry)), entry_rows(entry, scope=scope, user=user))


def json_export(entry: Entry, *, scope: Scope = FLEET, user: User = None) -> Iterator[bytes]:
    """Return the chunks of a json file of an entry: an array of objects."""
    return json_write(list(columns_of(entry)), entry_rows(entry, scope=scope, user=user))


def fleet_json_export(*, scope: Scope = FLEET, user: User = None) -> Iterator[bytes]:
    """Yield the chunks of one json file of the whole fleet: an object with an array for each entry."""
    mark = b"{"
    for entry in INVENTORY.values():
        yield mark + f'\n"{entry.name}": '.encode()
        yield from json_export(entry, scope=scope, user=user)
        mark = b","
    yield b"}\n"


def entry_write(entry: Entry, path: Path, kind: str, *, scope: Scope = FLEET, user: User = None) -> None:
    """Write one entry to a file; the file is there when all of it is."""
    with _whole(path) as part:
        if kind == "xlsx":
            rows = entry_rows(entry, scope=scope, user=user)
            xlsx_write(list(columns_of(entry)), rows, part, sheet=entry.name)
        else:
            export = csv_export if kind == "csv" else json_export
            _chunks_write(export(entry, scope=scope, user=user), part)


def fleet_write(path: Path, kind: str, *, scope: Scope = FLEET, user: User = None) -> None:
    """Write all entries, as they are at one moment: to one json file or workbook, or to a folder of csv files."""
    with one_view():
        if kind == "csv":
            path.mkdir(parents=True, exist_ok=True)
            for entry in INVENTORY.values():
                entry_write(entry, path / f"{entry.name}.csv", kind, scope=scope, user=user)
            return
        with _whole(path) as part:
            if kind == "xlsx":
                book_write(
                    (
                        (entry.name, list(columns_of(entry)), entry_rows(entry, scope=scope, user=user))
                        for entry in INVENTORY.values()
                    ),
                    part,
                )
            else:
                _chunks_write(fleet_json_export(scope=scope, user=user), part)


@contextmanager
def _whole(path: Path) -> Iterator[Path]:
    """Give a name beside a file to write to; it takes the file's place when nothing has gone wrong."""
    part = path.with_name(f"{path.name}.part")
    try:
        yield part
        part.replace(path)
    finally:
        part.unlink(missing_ok=True)


def _chunks_write(chunks: Iterable[bytes], path: Path) -> None:
    with path.open("wb") as file:
        file.writelines(chunks)


def may_hide(entry: Entry, column: Column, user: User) -> bool:
    """Return whether a row that an account sees may refer by a column to one that it does not see."""
    target = column.target
    if region_limit(user) is None or target is None or not BY_KIND[str(target._meta.model_name)].regions:
        return False
    return column.name not in {path.split("__")[0] for path in entry.regions}


def paths_shown(entry: Entry, column: Column, user: User) -> Sequence[Any]:
    """Return what a column is read from; a row that may lie elsewhere, as an endpoint's service, only if it is seen."""
    limit, target = region_limit(user), column.target
    if limit is None or target is None or not may_hide(entry, column, user):
        return column.paths
    places = BY_KIND[str(target._meta.model_name)].regions
    inside = reduce(or_, (Q(**{f"{column.name}__{path}__in": sorted(limit)}) for path in places))
    everywhere = Q(**{f"{column.name}__{path}__isnull": True for path in places})
    return [Case(When(inside | everywhere, then=F(path)), default=None) for path in column.paths]


def _by_key(model: type[models.Model]) -> list[Any]:
    """Return the order of Python: by code points, which is how SQLite compares and what PostgreSQL calls C."""
    paths = [F(path) for path in key_paths(model)]
    return [Collate(path, "C") for path in paths] if connection.vendor == "postgresql" else list(paths)
