"""The demo: loaded once per installation, with a user whose password is random."""

import hashlib
from pathlib import Path

from django.conf import settings
from django.contrib.auth import get_user_model
from django.contrib.auth.models import Group
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command

from api.roles import roles_load
from config.checks import DEMO_USERNAME
from config.env import secret_file_read

USERNAME = DEMO_USERNAME
GROUP = "planner"


def password_path() -> Path:
    """Return the file that keeps the demo user's password, readable by the owner alone."""
    return Path(settings.VAR_DIR) / "demo_password"


def demo_user_create() -> str:
    """Make sure that the demo user exists with the password on file, and return that password."""
    if settings.DEPLOYMENT:
        raise ImproperlyConfigured(
            "a deployment has no demo user: create yours with `python manage.py createsuperuser`"
        )
    password = secret_file_read(password_path(), random_byte=12)
    users = get_user_model().objects
    user, made = users.get_or_create(username=USERNAME)
    if made or not user.check_password(password):
        user.set_password(password)
        user.save(update_fields=["password"])
    roles_load()
    user.groups.add(Group.objects.get(name=GROUP))
    return password


def demo_user_exists() -> bool:
    """Tell whether somebody can sign in as the demo user."""
    return get_user_model().objects.filter(username=USERNAME, is_active=True).exists()


def seeded_path() -> Path:
    """Return the mark that this database got the demo once: who removed it does not want it back at the next start."""
    database = settings.DATABASES["default"]
    name = "|".join(str(database.get(key) or "") for key in ("ENGINE", "HOST", "PORT", "NAME"))
    return Path(settings.VAR_DIR) / f"demo_seeded_{hashlib.sha256(name.encode()).hexdigest()[:12]}"


def demo_seed_once(*, database_is_new: bool) -> bool:
    """Load the demo fleet and its user unless this database had them before; return whether it was loaded now."""
    if seeded_path().exists() and not database_is_new:
        return False
    call_command("demo_load", verbosity=0)
    demo_user_create()
    seeded_path().touch()
    return True
