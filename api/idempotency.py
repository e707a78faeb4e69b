"""Idempotency-Key: the same request sent twice does its work once and gets the same answer."""

import functools
import hashlib
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from datetime import timedelta
from typing import Any, cast

import orjson
from django.contrib.auth.models import User
from django.core.files.uploadedfile import UploadedFile
from django.db import DatabaseError, transaction
from django.utils import timezone
from rest_framework.exceptions import ValidationError
from rest_framework.request import Request
from rest_framework.response import Response

from api.errors import KeyBusyError, KeyReusedError
from api.models import IdempotencyKey

KEPT = timedelta(hours=24)
ATTEMPT_LEASE = timedelta(seconds=60)  # an answer takes far less: who has none by then has crashed
REPLAYED_HEADERS = ("ETag", "Location", "Retry-After", "Trace-Known")


def idempotent(
    *, hidden: Sequence[str] = (), read: Callable[[Request], Mapping[str, Any]] | None = None
) -> Callable[[Callable[..., Response]], Callable[..., Response]]:
    """Make a POST handler answer a repeated Idempotency-Key from memory; `hidden` fields are kept out of it.

    `read` is the long part of the work that stores nothing: it is done before the transaction, which on some data
    bases keeps all other writers out, and what it returns are further arguments of the handler.
    """

    def wrap(handler: Callable[..., Response]) -> Callable[..., Response]:
        @functools.wraps(handler)
        def answer(view: Any, request: Request, *args: Any, **kwargs: Any) -> Response:
            key = request.headers.get("Idempotency-Key")
            if key is None:
                return handler(view, request, *args, **kwargs, **(read(request) if read else {}))
            claim = uuid.uuid4()
            row = _claim(request, key, claim)
            if row.claim != claim:
                return Response(row.body, status=row.status, headers={**row.headers, "Idempotency-Replayed": "true"})
            try:
                values = read(request) if read else {}
                with transaction.atomic():  # the work and the memory of it: both or neither
                    response = handler(view, request, *args, **kwargs, **values)
                    _store(row, claim, response, hidden)
            except Exception:
                with suppress(DatabaseError):  # else the lease runs out
                    IdempotencyKey.objects.filter(pk=row.pk, claim=claim, status=None).delete()
                raise
            return response

        answer.is_idempotent = True  # type: ignore[attr-defined]  # the schema shows the header
        return answer

    return wrap


def _claim(request: Request, key: str, claim: uuid.UUID) -> IdempotencyKey:
    """Return the row of a key: ours, if it carries our claim, else one that holds an answer."""
    if not 1 <= len(key) <= 200 or not (key.isascii() and key.isprintable()):
        raise ValidationError({"Idempotency-Key": ["1 to 200 printable ASCII characters are needed."]})
    now, user_id = timezone.now(), cast("User", request.user).pk
    asked = {"method": request.method or "", "path": request.path[:500], "digest": body_digest(request)}
    IdempotencyKey.objects.filter(user_id=user_id, key=key, created_at__lt=now - KEPT).delete()
    row, made = IdempotencyKey.objects.get_or_create(
        user_id=user_id, key=key, defaults={**asked, "claim": claim, "claimed_at": now}
    )
    if made:
        return row
    if asked != {"method": row.method, "path": row.path, "digest": row.digest}:
        raise KeyReusedError
    if row.status is None:
        lost = IdempotencyKey.objects.filter(pk=row.pk, status=None, claimed_at__lt=now - ATTEMPT_LEASE)
        if not lost.update(claim=claim, claimed_at=now):
            raise KeyBusyError
        row.claim = claim
    return row


def _store(row: IdempotencyKey, claim: uuid.UUID, response: Response, hidden: Sequence[str]) -> None:
    body = {**response.data, **dict.fromkeys(hidden)} if hidden else response.data
    stored = IdempotencyKey.objects.filter(pk=row.pk, claim=claim, status=None).update(
        status=response.status_code,
        headers={name: response[name] for name in REPLAYED_HEADERS if name in response},
        body=orjson.loads(orjson.dumps(body, default=str, option=orjson.OPT_NON_STR_KEYS)),
    )
    if not stored:  # we were so slow that another attempt took over: our work is rolled back
        raise KeyBusyError


def body_digest(request: Request) -> str:
    """Return the digest of what a body says; the boundary of a form and the order of its keys do not count."""
    total = hashlib.sha256()
    data = request.data
    if not hasattr(data, "getlist"):
        total.update(orjson.dumps(data, option=orjson.OPT_SORT_KEYS))
        return total.hexdigest()
    for name in sorted(data):
        for value in data.getlist(name):
            total.update(orjson.dumps([name, getattr(value, "name", value)]))
            if isinstance(value, UploadedFile):
                for chunk in value.chunks():
                    total.update(chunk)
                value.seek(0)
    return total.hexdigest()


def keys_purge() -> int:
    """Forget answers older than a day; return how many."""
    count, _ = IdempotencyKey.objects.filter(created_at__lt=timezone.now() - KEPT).delete()
    return count
