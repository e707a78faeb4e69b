"""Typed readers of environment variables. A value that cannot be read stops the start and names its variable."""

import contextlib
import math
import os
import secrets
import tempfile
from pathlib import Path

from django.core.exceptions import ImproperlyConfigured


def env_str(name: str, default: str = "") -> str:
    """Return the text of a variable; an empty one counts as not set."""
    return os.environ.get(name, "").strip() or default


def env_bool(name: str, *, default: bool) -> bool:
    """Return a switch: 1, true, yes, on or 0, false, no, off."""
    text = env_str(name).lower()
    if not text:
        return default
    if text in {"1", "true", "yes", "on"}:
        return True
    if text in {"0", "false", "no", "off"}:
        return False
    raise ImproperlyConfigured(f"{name}={text!r} is not a switch: use 1 or 0")


def env_float(name: str, default: float, *, low: float = 0.0) -> float:
    """Return a number of at least `low`."""
    text = env_str(name)
    try:
        value = float(text) if text else default
    except ValueError:
        raise ImproperlyConfigured(f"{name}={text!r} is not a number") from None
    if not math.isfinite(value):
        raise ImproperlyConfigured(f"{name}={text!r} is not a finite number")
    if value < low:
        raise ImproperlyConfigured(f"{name}={value:g} is below {low:g}")
    return value


def env_int(name: str, default: int, *, low: int = 0) -> int:
    """Return a whole number of at least `low`."""
    value = env_float(name, default, low=low)
    if value != int(value):
        raise ImproperlyConfigured(f"{name}={value:g} is not a whole number")
    return int(value)


def env_list(name: str, default: list[str]) -> list[str]:
    """Return comma-separated words."""
    text = env_str(name)
    return [word.strip() for word in text.split(",") if word.strip()] if text else default


def secret_file_read(path: Path, *, random_byte: int = 48) -> str:
    """Return the secret kept in a file that only the owner reads, made at random the first time.

    Two processes may start at once: the file appears complete by one exclusive link, so both end with the same secret.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    if not path.exists():
        descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")  # mkstemp: mode 0600
        with os.fdopen(descriptor, "w") as stream:
            stream.write(secrets.token_urlsafe(random_byte))
        with contextlib.suppress(FileExistsError):
            os.link(draft, path)
        Path(draft).unlink()
    return path.read_text().strip()
