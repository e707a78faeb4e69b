"""One view of the data for reads that need several queries."""

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction


@contextmanager
def one_view() -> Iterator[None]:
    """Let every query inside see the same moment; nobody who writes waits for it.

    Inside a transaction that is already open its own view holds: it may have written, and cannot be changed any more.
    """
    if connection.in_atomic_block or not connection.get_autocommit():
        yield
    elif connection.vendor == "sqlite":
        with connection.cursor() as cursor:
            cursor.execute("BEGIN DEFERRED")  # atomic() would begin an immediate one: the lock of a writer
        try:
            yield
        finally:
            with connection.cursor() as cursor:
                cursor.execute("ROLLBACK")  # there is nothing to keep
    else:
        with transaction.atomic():
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
            yield
