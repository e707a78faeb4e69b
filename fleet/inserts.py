"""Many rows into a table at once, past the ORM: with ids drawn before, by COPY where there is one."""

from collections.abc import Iterable, Sequence
from typing import Any

from django.db import connection, models


def ids_draw(model: type[models.Model], count: int) -> list[int]:
    """Return ids that no row of a model has, had or will be given: the log of changes speaks of rows that are gone."""
    table = model._meta.db_table
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            draw = "SELECT nextval(pg_get_serial_sequence(%s, 'id')) FROM generate_series(1, %s)"
            cursor.execute(draw, [table, count])
            return [row[0] for row in cursor.fetchall()]
        cursor.execute("SELECT max(seq) FROM sqlite_sequence WHERE name = %s", [table])  # nobody else writes meanwhile
        last = cursor.fetchone()[0] or 0
    return list(range(last + 1, last + count + 1))


def rows_insert(model: type[models.Model], columns: Sequence[str], rows: Iterable[Sequence[Any]]) -> None:
    """Insert rows, each with values for some columns as the database takes them."""
    quote = connection.ops.quote_name
    table, names = quote(model._meta.db_table), ", ".join(map(quote, columns))
    with connection.cursor() as cursor:
        if connection.vendor == "postgresql":
            with cursor.copy(f"COPY {table} ({names}) FROM STDIN") as copy:
                for row in rows:
                    copy.write_row(row)
        else:
            places = ", ".join(["%s"] * len(columns))
            cursor.executemany(f"INSERT INTO {table} ({names}) VALUES ({places})", list(rows))  # nosec B608  # noqa: S608 -- our own names
