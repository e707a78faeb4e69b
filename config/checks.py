"""What a deployment refuses to start with: system checks, which web, worker and beat ask too when they start."""

from collections.abc import Sequence
from typing import Any

import django
from django.apps import AppConfig, apps
from django.conf import settings
from django.contrib.auth import get_user_model
from django.core.checks import CheckMessage, Error
from django.core.exceptions import ImproperlyConfigured
from django.db import DatabaseError

SECRET_LENGTH = 50
DEMO_USERNAME = "demo"


def deployment_check(app_configs: Sequence[AppConfig] | None = None, **_options: Any) -> list[CheckMessage]:  # noqa: ARG001 - Django's call
    """Look at the settings of a deployment; an embedded installation passes."""
    if not settings.DEPLOYMENT:
        return []
    secret = settings.SECRET_KEY
    rules = [
        (settings.DEBUG, "twin.E001", "DEBUG is on: it shows settings and queries to everybody", "unset DEBUG"),
        (settings.DEMO, "twin.E002", "DEMO is on", "unset DEMO"),
        (
            len(secret) < SECRET_LENGTH or len(set(secret)) < 10 or "insecure" in secret or "change" in secret,
            "twin.E003",
            f"SECRET_KEY is shorter than {SECRET_LENGTH} characters or a default",
            "make one with `openssl rand -hex 32`",
        ),
        (
            not settings.ALLOWED_HOSTS or "*" in settings.ALLOWED_HOSTS,
            "twin.E004",
            "ALLOWED_HOSTS accepts every host name",
            "name the hosts people type, separated by commas",
        ),
        (
            settings.DATABASES["default"]["ENGINE"] == "django.db.backends.sqlite3",
            "twin.E005",
            "the database is SQLite, which workers on other machines cannot share",
            "name a PostgreSQL by DATABASE_URL",
        ),
        (
            settings.BROKER_EMBEDDED,
            "twin.E006",
            "there is no broker: the embedded one belongs to `manage.py up` on one machine",
            "name a Redis by REDIS_URL",
        ),
    ]
    return [Error(text, hint=hint, id=name) for broken, name, text, hint in rules if broken]


def demo_user_check(app_configs: Sequence[AppConfig] | None = None, **_options: Any) -> list[CheckMessage]:  # noqa: ARG001 - Django's call
    """Refuse a deployment in which the demo user can sign in; a database that is not there yet has none."""
    if not settings.DEPLOYMENT:
        return []
    try:
        exists = get_user_model().objects.filter(username=DEMO_USERNAME, is_active=True).exists()
    except DatabaseError:
        return []
    hint = "remove it with `python manage.py demo_remove`"
    return [Error("the demo user exists", hint=hint, id="twin.E007")] if exists else []


def refuse_unfit() -> None:
    """Raise with every reason why this deployment may not start: gunicorn and Celery run no system checks."""
    if not apps.ready:
        django.setup()
    faults = [*deployment_check(), *demo_user_check()]
    if faults:
        reasons = "; ".join(f"{fault.id}: {fault.msg} ({fault.hint})" for fault in faults)
        raise ImproperlyConfigured(f"this deployment may not start: {reasons}")
