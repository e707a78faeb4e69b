"""Django on an empty SQLite file of its own, or an empty PostgreSQL database. DATABASE_URL is left alone."""

import atexit
import os
import secrets
import shutil
import socket
import subprocess
import tempfile
import uuid
from collections.abc import Iterator
from contextlib import closing, contextmanager
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import dj_database_url
import measure  # noqa: F401 -- puts the project on the path
import psycopg

SERVERS = Path("/usr/lib/postgresql")

_folder = tempfile.TemporaryDirectory(prefix="twin-bench-")
for name in ("DEPLOYMENT", "DEBUG", "REDIS_URL", "STATIC_ROOT"):
    os.environ.pop(name, None)
os.environ |= {
    "DJANGO_SETTINGS_MODULE": "config.settings",
    "VAR_DIR": _folder.name,
    "DATABASE_URL": f"sqlite:///{_folder.name}/bench.sqlite3",
}

import django  # noqa: E402 -- reads the environment above
from django.core.management import call_command  # noqa: E402
from django.db import connections  # noqa: E402

django.setup()  # at import, so that a benchmark can import models at its top


def tables_make() -> None:
    """Make every table, and see to it that the file goes when the process ends."""
    atexit.register(connections.close_all)
    call_command("migrate", verbosity=0)


@contextmanager
def postgres_of_our_own(url: str) -> Iterator[None]:
    """Let Django use an empty database on a server for a while."""
    name = f"bench_{uuid.uuid4().hex[:12]}"
    with closing(psycopg.connect(url, autocommit=True)) as server:
        server.execute(f"CREATE DATABASE {name}")
        connections.close_all()
        del connections["default"]
        wanted = {"default": dj_database_url.parse(urlunsplit(urlsplit(url)._replace(path=f"/{name}")))}
        connections.settings["default"] = connections.configure_settings(wanted)["default"]
        try:
            call_command("migrate", verbosity=0)
            yield
        finally:
            connections.close_all()
            server.execute(f"DROP DATABASE {name} WITH (FORCE)")


# --- a server ---------------------------------------------------------------------------------------------------------
@contextmanager
def postgres_started(bin_folder: Path) -> Iterator[str]:
    """Run a PostgreSQL of our own, as .ci/run does, and yield its URL."""
    work = Path(tempfile.mkdtemp(prefix="twin-bench-postgres."))
    work.chmod(0o711)
    data, password = work / "data", secrets.token_hex(24)
    data.mkdir(mode=0o700)
    (work / "password").write_text(password)
    for path in (data, work / "password"):
        shutil.chown(path, "postgres", "postgres")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    listen = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories=''"
    login = ("--username", "twin", "--pwfile", str(work / "password"), "--auth", "scram-sha-256")
    start = ("-l", str(data / "server.log"), "-w", "-t", "60", "-o", listen, "start")
    try:
        as_postgres(bin_folder / "initdb", "-D", data, *login, "--encoding", "UTF8", "--locale", "C.UTF-8")
        as_postgres(bin_folder / "pg_ctl", "-D", data, *start)
        yield f"postgresql://twin:{password}@127.0.0.1:{port}/postgres"
    finally:
        as_postgres(bin_folder / "pg_ctl", "-D", data, "-m", "immediate", "stop", check=False)
        shutil.rmtree(work, ignore_errors=True)


def as_postgres(*command: str | Path, check: bool = True) -> None:
    """Run a command of the server as its account, silently."""
    words = ["runuser", "-u", "postgres", "--", *map(str, command)]
    subprocess.run(words, check=check, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, cwd="/")


def postgres_folder() -> Path | None:
    """Return where the programs of the newest server are, or None where we may not start one."""
    found = sorted(SERVERS.glob("*/bin/pg_ctl"), key=lambda path: int(path.parts[-3]))
    return found[-1].parent if found and os.geteuid() == 0 and shutil.which("runuser") else None
