"""Tokens: made with a secret that is shown once, looked up by its hash, revoked for good."""

import hashlib
import logging
import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime, timedelta

from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import OperationalError, connection
from django.db.models import Q
from django.utils import timezone

from api.models import Token

logger = logging.getLogger(__name__)

SECRET_START = "twin_"  # noqa: S105 -- lets secret scanners find a leaked token
PREFIX_LENGTH = 12
USE_NOTED_S = 60.0  # a busy token costs one write a minute
NOTING_MOST_MS = 100  # for so long a reader waits for another writer on SQLite


def token_make(
    *, owner: User, name: str, scopes: Sequence[str], expires_at: datetime | None = None
) -> tuple[Token, str]:
    """Make a token; return it with its secret, which nobody can read again."""
    secret = SECRET_START + secrets.token_urlsafe(32)
    token = Token(
        owner=owner,
        name=name,
        prefix=secret[:PREFIX_LENGTH],
        hash=secret_hash(secret),
        scopes=scopes_check(scopes),
        expires_at=expires_at,
    )
    token.full_clean()
    token.save()
    return token, secret


def scopes_check(scopes: Sequence[str]) -> list[str]:
    """Return the scopes without doubles, in their own order. Raises ValidationError for none or an unknown one."""
    unknown = [scope for scope in scopes if scope not in Token.Scope.values]
    if unknown or not scopes:
        what = f"unknown scope {unknown[0]!r}" if unknown else "no scope"
        raise ValidationError({"scopes": f"{what}; there are: {', '.join(Token.Scope.values)}"})
    return [scope for scope in Token.Scope.values if scope in scopes]


def secret_hash(secret: str) -> str:
    """Return the hash under which a secret is kept; it is random and long, so a plain hash is enough."""
    return hashlib.sha256(secret.encode()).hexdigest()


def token_find(secret: str) -> Token | None:
    """Return the live token of a secret and note its use, or None."""
    token = Token.objects.select_related("owner").filter(hash=secret_hash(secret)).first()
    if token is None or not token.is_live or not token.owner.is_active:
        return None
    now = timezone.now()
    before = now - timedelta(seconds=USE_NOTED_S)
    if token.last_used_at is None or token.last_used_at < before:
        _use_note(token, now, before)
    return token


def _use_note(token: Token, now: datetime, before: datetime) -> None:
    """Note that a token was used. On SQLite, where one may write at a time, it is left out while another does."""
    rows = Token.objects.filter(Q(last_used_at=None) | Q(last_used_at__lt=before), pk=token.pk)
    if connection.vendor != "sqlite":
        rows.update(last_used_at=now)
        return
    try:
        with _impatient():
            rows.update(last_used_at=now)
    except OperationalError as error:
        logger.debug("the use of token %s is not noted: %s", token.pk, error)


@contextmanager
def _impatient() -> Iterator[None]:
    """Wait for another writer on SQLite but for a moment."""
    with connection.cursor() as cursor:
        cursor.execute("PRAGMA busy_timeout")
        usual_ms = int(cursor.fetchone()[0])
        cursor.execute(f"PRAGMA busy_timeout = {NOTING_MOST_MS}")
        try:
            yield
        finally:
            cursor.execute(f"PRAGMA busy_timeout = {usual_ms}")


def token_revoke(token: Token) -> None:
    """Shut the door for a token; the row stays, so that its use can be traced."""
    Token.objects.filter(pk=token.pk).update(revoked=True)
