"""Health for machines: /healthz says this process answers, /readyz says the twin can do its work."""

import logging
import time
from collections.abc import Callable
from datetime import datetime
from typing import Any

import redis
from django.conf import settings
from django.core.cache import cache
from django.db import DatabaseError, connection
from django.http import HttpRequest, HttpResponse, JsonResponse
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_safe
from kombu.exceptions import OperationalError

from config.broker import broker_answers
from config.celery import app

logger = logging.getLogger(__name__)

SWEEP_KEY = "worker_heartbeat_at"  # scenarios.tasks.sweep writes it: beat sent the task and a worker ran it
WORKER_ANSWER_S = 1.0
REMEMBER_S = 2.0  # a load balancer that asks often costs one look per this time

_remembered: dict[str, tuple[float, dict[str, Any]]] = {}


def database_part() -> dict[str, Any]:
    """Ask the database for a constant."""
    try:
        with connection.cursor() as cursor:
            cursor.execute("SELECT 1")
    except DatabaseError as exc:
        logger.warning("the database does not answer: %s", exc)
        return {"ok": False, "reason": "the database does not answer"}
    return {"ok": True}


def broker_part() -> dict[str, Any]:
    """Ping the broker."""
    if broker_answers(settings.REDIS_URL):
        return {"ok": True}
    return {"ok": False, "reason": "the broker does not answer"}


def worker_part() -> dict[str, Any]:
    """Ask the workers' main processes, which answer while their pools are busy with a long run."""
    try:
        answers = app.control.inspect(timeout=WORKER_ANSWER_S, limit=1).ping()
    except (OperationalError, redis.RedisError, OSError):
        answers = None
    return {"ok": True} if answers else {"ok": False, "reason": "no worker answers"}


def sweep_part() -> dict[str, Any]:
    """Tell how long ago the last sweep ran; late is a warning, for a long run may hold the only worker."""
    late_s = max(60.0, 6 * settings.RUN_SWEEP_S)
    try:
        swept_at_text = cache.get(SWEEP_KEY)
    except (redis.RedisError, OSError):
        return {"ok": False, "reason": "the broker does not answer"}
    if swept_at_text is None:
        return {"ok": False, "reason": "no sweep has run yet"}
    age_s = (timezone.now() - datetime.fromisoformat(swept_at_text)).total_seconds()
    if age_s > late_s:
        return {"ok": False, "reason": "the last sweep is old: is beat running?", "age_s": round(age_s, 1)}
    return {"ok": True, "age_s": round(age_s, 1)}


PARTS: dict[str, Callable[[], dict[str, Any]]] = {
    "database": database_part,
    "broker": broker_part,
    "worker": worker_part,
    "sweep": sweep_part,
}
NEEDED = ("database", "broker", "worker")


def readiness() -> dict[str, Any]:
    """Return every part and whether the needed ones are well; without a broker, workers are not asked."""
    parts = {"database": database_part(), "broker": broker_part()}
    if parts["broker"]["ok"]:
        parts |= {"worker": worker_part(), "sweep": sweep_part()}
    else:
        silent = {"ok": False, "reason": "the broker does not answer"}
        parts |= {"worker": silent, "sweep": silent}
    return {"ready": all(parts[name]["ok"] for name in NEEDED), "parts": parts}


def readiness_remembered() -> dict[str, Any]:
    """Return a readiness at most REMEMBER_S old."""
    at_s, known = _remembered.get("readiness", (-REMEMBER_S, {}))
    if time.monotonic() - at_s >= REMEMBER_S or not known:
        known = readiness()
        _remembered["readiness"] = (time.monotonic(), known)
    return known


@never_cache
@require_safe
def healthz(_request: HttpRequest) -> HttpResponse:
    """Answer 200 while this process can answer at all."""
    return JsonResponse({"alive": True})


@never_cache
@require_safe
def readyz(_request: HttpRequest) -> HttpResponse:
    """Answer 200 when database, broker and a worker answer, else 503; the body names each part."""
    known = readiness_remembered()
    return JsonResponse(known, status=200 if known["ready"] else 503)
