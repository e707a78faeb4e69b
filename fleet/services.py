"""Writes of the fleet: one path for every row that carries a version."""

from typing import TypeVar

from django.db import transaction
from django.db.models import F

from fleet.models.versioned import Versioned

Row = TypeVar("Row", bound=Versioned)


class StaleVersionError(Exception):
    """Somebody else has edited the row since it was read."""


def row_save(row: Row, *, version: int | None = None) -> Row:
    """Check and save a row. With `version`, only if nobody has edited it since; the edit takes the next version."""
    row.full_clean()
    with transaction.atomic():
        if row.pk and version is not None:
            version_take(row, version=version)
        row.save()
    return row


def version_take(row: Versioned, *, version: int) -> None:
    """Take the next version of a row, or raise StaleVersionError. The row count of one UPDATE decides who edits."""
    rows = type(row)._default_manager.filter(pk=row.pk, version=version)
    if not rows.update(version=F("version") + 1):
        raise StaleVersionError(row.pk)
    row.version = version + 1


def row_delete(row: Versioned, *, version: int | None = None) -> None:
    """Delete a row; with `version`, only if nobody has edited it since."""
    with transaction.atomic():
        if version is not None:
            version_take(row, version=version)
        row.delete()
