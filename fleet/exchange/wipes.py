"""The whole fleet deleted, as a first step of loading another one."""

import uuid
from dataclasses import replace

from django.db import transaction

from fleet.audit import author_current, writing_as
from fleet.inventory import INVENTORY
from fleet.services import rows_write

WRITE_ROWS = 10_000  # deleted at once, as one change set


def fleet_wipe() -> dict[str, int]:
    """Delete every row of the fleet, those first that refer to others; return how many of each entry.

    All or nothing, and logged: RowsWriteError names what something outside of the fleet still uses.
    """
    author = author_current()
    counts: dict[str, int] = {}
    with writing_as(replace(author, request_id=author.request_id or uuid.uuid4().hex)), transaction.atomic():
        for entry in reversed(list(INVENTORY.values())):
            rows = entry.model._default_manager.order_by("pk")
            while some := list(rows[:WRITE_ROWS]):
                rows_write(entry.model, delete=some)
                counts[entry.name] = counts.get(entry.name, 0) + len(some)
    return counts
