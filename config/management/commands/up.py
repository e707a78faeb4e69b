"""`python manage.py up`: broker, web, worker and beat in the foreground, until Ctrl-C."""

import contextlib
import errno
import fcntl
import os
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from django.conf import settings
from django.core.exceptions import ImproperlyConfigured
from django.core.management import call_command
from django.core.management.base import BaseCommand, CommandError
from django.db import DatabaseError, connection, connections
from django.db.migrations.executor import MigrationExecutor

from api.roles import roles_load
from config import broker, demo, supervisor
from config.celery import app
from config.checks import refuse_unfit
from config.probe import probe

STOP_ORDER = ("web", "beat", "worker", "broker")
SLOW_S = 60.0
BROKER_START_S = 20.0  # it reads its log of messages first


def services_compose() -> dict[str, supervisor.Service]:
    """Return the processes of an installation on one machine."""
    python, celery = sys.executable, (sys.executable, "-m", "celery", "-A", "config")
    web = (
        *(python, "-m", "gunicorn", "config.wsgi:application", "--bind", f"127.0.0.1:{settings.PORT}"),
        *("--worker-class", "gthread", "--workers", "1", "--threads", str(settings.WEB_THREADS)),
        *("--timeout", "120", "--graceful-timeout", "5", "--no-control-socket"),
    )
    worker = (
        *(*celery, "worker", "--concurrency", str(settings.WORKER_CONCURRENCY), "--loglevel", "INFO"),
        *("--without-gossip", "--without-mingle"),  # there is nobody to greet: it starts a second earlier
    )
    # No schedule file: the one entry is static, and a file could be found damaged after a kill.
    beat = (*celery, "beat", "--scheduler", "celery.beat.Scheduler", "--pidfile=", "--loglevel", "INFO")
    services = [
        supervisor.Service("web", web, stop_wait_s=8.0),
        supervisor.Service("worker", worker, stop_wait_s=10.0),
        supervisor.Service("beat", beat),
    ]
    if settings.BROKER_EMBEDDED:
        command = broker.broker_command(settings.BROKER_SOCKET, Path(settings.VAR_DIR) / "broker")
        services.append(supervisor.Service("broker", tuple(command), stop_wait_s=10.0))
    return {service.name: service for service in services}


@contextlib.contextmanager
def only_one() -> Iterator[None]:
    """Hold this VAR_DIR's lock; the kernel frees it when the process ends, however it ends."""
    path = Path(settings.VAR_DIR) / "up.lock"
    with path.open("a+") as stream:
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            stream.seek(0)
            owner = stream.read().strip() or "it is just starting"
            raise CommandError(
                f"The twin in {settings.VAR_DIR} is already running ({owner}): "
                "stop that one first, or give this one a VAR_DIR of its own."
            ) from None
        stream.truncate(0)
        stream.write(f"process {os.getpid()}, http://127.0.0.1:{settings.PORT}")
        stream.flush()
        yield


def port_check() -> None:
    """Refuse a port that cannot be had, before anything is started."""
    with socket.socket() as listener:
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(("127.0.0.1", settings.PORT))
        except OSError as exc:
            reason = "is in use" if exc.errno == errno.EADDRINUSE else f"cannot be had ({exc.strerror})"
            raise CommandError(f"Port {settings.PORT} {reason}: choose another, as in `make run PORT=8001`.") from None


def migrate_if_needed() -> bool:
    """Bring the database to this version; return whether it was empty."""
    try:
        executor = MigrationExecutor(connection)
        pending = executor.migration_plan(executor.loader.graph.leaf_nodes())
        was_empty = not executor.loader.applied_migrations
        if pending:
            call_command("migrate", interactive=False, verbosity=0)
            roles_load()
    except DatabaseError as exc:
        raise CommandError(f"The database does not answer or cannot be migrated: {str(exc).strip()}") from exc
    return was_empty


def broker_wait(keeper: supervisor.Supervisor) -> None:
    """Wait for the embedded broker, which the demo's first runs are sent through."""
    end_s = time.monotonic() + BROKER_START_S
    while not broker.broker_answers(settings.REDIS_URL):
        if time.monotonic() > end_s or keeper.children["broker"].has_ended:
            last = " / ".join(supervisor.log_tail(keeper.log_dir / "broker.log", lines=3))
            raise CommandError(f"The embedded broker did not start: {last}")
        time.sleep(0.02)


class Command(BaseCommand):
    """Run the whole twin on this machine."""

    help = "Run broker, web, worker and beat in the foreground; Ctrl-C ends them in order."
    requires_system_checks = []  # they import every page; the web process does that anyway

    def handle(self, *args: Any, **options: Any) -> None:
        """Prepare, start, watch, end."""
        began_s = time.monotonic()
        try:
            refuse_unfit()
        except ImproperlyConfigured as exc:
            raise CommandError(str(exc)) from exc
        broker.private_dir(Path(settings.VAR_DIR))  # the database holds the hashes of passwords and tokens
        with only_one(), supervisor.Signals() as signals:
            log_dir = Path(settings.VAR_DIR) / "log"
            log_dir.mkdir(exist_ok=True)
            mark = str(settings.VAR_DIR)
            self.leftovers_clear(mark)
            port_check()
            keeper = supervisor.Supervisor(
                log_dir=log_dir,
                environment={**os.environ, supervisor.MARK: mark, "DJANGO_SETTINGS_MODULE": "config.settings"},
                say=self.say,
                signals=signals,
            )
            try:
                self.start(keeper)
                self.watch(keeper, began_s)
            finally:
                keeper.stop(STOP_ORDER)
        self.say("everything has stopped")

    def say(self, sentence: str) -> None:
        """Print one event with its time."""
        self.stdout.write(f"{time.strftime('%H:%M:%S')} {sentence}")
        self.stdout.flush()

    def leftovers_clear(self, mark: str) -> None:
        """End what a start that was killed left behind: we hold the lock, so nobody else may own it."""
        count = supervisor.leftovers_end(mark)
        if settings.BROKER_EMBEDDED and broker.broker_answers(settings.REDIS_URL):
            broker.broker_shutdown(settings.REDIS_URL)
            count += 1
        if count:
            self.say(f"ended {count} processes that an earlier start left behind")

    def start(self, keeper: supervisor.Supervisor) -> None:
        """Start the broker, ready the database, start the rest."""
        services = services_compose()
        if "broker" in services:
            keeper.start(services["broker"])
            broker_wait(keeper)
        database_is_new = migrate_if_needed()
        if settings.DEMO and demo.demo_seed_once(database_is_new=database_is_new):
            self.say("loaded the demo fleet; `python manage.py demo_remove` removes it")
        connections.close_all()
        for name in ("web", "worker", "beat"):
            keeper.start(services[name])

    def watch(self, keeper: supervisor.Supervisor, began_s: float) -> None:
        """Keep everything alive until a stop is asked for; tell when the page and when the worker answer."""
        waiting_for = ["/healthz", "/readyz"]
        slow_told = False
        while not keeper.signals.asked:
            due_s = keeper.revive()
            if waiting_for and probe(waiting_for[0], port=settings.PORT) == 200:
                took_s = time.monotonic() - began_s
                if waiting_for.pop(0) == "/healthz":
                    self.page_announce(took_s)
                    app.send_task(
                        "scenarios.tasks.sweep", expires=60
                    )  # takes up at once what an earlier stop cut short
                else:
                    self.say(f"database, broker and worker are ready after {took_s:.1f} s")
            elif waiting_for and not slow_told and time.monotonic() - began_s > SLOW_S:
                slow_told = True
                self.say(f"{waiting_for[0]} is not answering well after {SLOW_S:g} s: see {keeper.log_dir}")
            keeper.signals.wait(min(due_s, 0.1) if waiting_for else due_s)

    def page_announce(self, took_s: float) -> None:
        """Print the address and, where there is a demo user, how to sign in."""
        self.say(f"the twin answers after {took_s:.1f} s: http://127.0.0.1:{settings.PORT}")
        if settings.DEMO and demo.demo_user_exists():
            self.say(f"sign in as {demo.USERNAME} with password {demo.demo_user_create()}")
        self.say(f"logs are in {Path(settings.VAR_DIR) / 'log'}; Ctrl-C stops everything")
