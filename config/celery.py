"""The Celery application: tasks carry ids, the database is the queue of record."""

import os
from typing import Any

from celery import Celery
from celery.signals import beat_init, worker_init
from django.core.exceptions import ImproperlyConfigured

from config.checks import refuse_unfit

os.environ.setdefault("DJANGO_SETTINGS_MODULE", "config.settings")

app = Celery("fleet_twin")
app.config_from_object("django.conf:settings", namespace="CELERY")
app.autodiscover_tasks(["api", "scenarios"])


@worker_init.connect
@beat_init.connect
def start_check(**_sent: Any) -> None:
    """Refuse an unfit deployment; Celery has no other hook here, and only SystemExit gets past its dispatch."""
    try:
        refuse_unfit()
    except ImproperlyConfigured as exc:
        raise SystemExit(str(exc)) from exc
