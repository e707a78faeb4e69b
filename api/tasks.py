"""What the door does in the background."""

from celery import shared_task

from api.idempotency import keys_purge


@shared_task(ignore_result=True)
def purge() -> None:
    """Forget answers that are kept for a day."""
    keys_purge()
