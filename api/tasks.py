"""What the door does in the background."""

from celery import shared_task

from api.idempotency import keys_purge
from scenarios.imports import uploads_purge


@shared_task(ignore_result=True)
def purge() -> None:
    """Forget answers that are kept for a day, and files whose imports ended some days ago."""
    keys_purge()
    uploads_purge()
