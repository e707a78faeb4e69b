"""An installation of its own for tests that kill things: database, broker, workers and beat as real processes."""

import contextlib
import os
import signal
import sqlite3
import subprocess
import sys
import time
import uuid
from pathlib import Path

import psycopg

from config import broker

ROOT = Path(__file__).resolve().parent.parent


class Ground:
    """A database, a broker, a beat and two workers of their own, reached only as an operator would: by processes."""

    def __init__(self, var_dir):
        self.env = {
            **os.environ,
            "VAR_DIR": str(var_dir),
            "RUN_LEASE_S": "1.5",
            "RUN_SWEEP_S": "1",
            "DEMO": "0",
            "LOG_LEVEL": "WARNING",
            "CELERY_SKIP_CHECKS": "1",  # they import every page; tests/config runs them
            "DJANGO_SETTINGS_MODULE": "config.settings",
        }
        self.var_dir, self.children, self.workers = var_dir, [], {}
        self.postgres_name = ""
        self._database()
        self._broker()

    def _database(self):
        if os.environ.get("DATABASE_URL"):
            self.postgres_name = f"kill_{uuid.uuid4().hex[:12]}"
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as admin:
                admin.execute(f"CREATE DATABASE {self.postgres_name}")
            head, _, tail = os.environ["DATABASE_URL"].rpartition("/")
            query = f"?{tail.partition('?')[2]}" if "?" in tail else ""
            self.env["DATABASE_URL"] = f"{head}/{self.postgres_name}{query}"
        else:
            self.env["DATABASE_URL"] = f"sqlite:///{self.var_dir / 'kill.sqlite3'}"

    def _broker(self):
        socket = self.var_dir / "kill" / "valkey.sock"
        self.env["REDIS_URL"] = f"unix://{socket}"
        self._server = self._start(broker.broker_command(socket, socket.parent))
        end_s = time.monotonic() + 10
        while not broker.broker_answers(self.env["REDIS_URL"]):
            assert time.monotonic() < end_s
            time.sleep(0.02)

    def _start(self, command):
        log = (self.var_dir / "kill.log").open("ab")
        child = subprocess.Popen(command, cwd=ROOT, env=self.env, stdout=log, stderr=log, start_new_session=True)
        self.children.append(child)
        return child

    def call(self, *command):
        """Run Python with this installation's environment until it ends."""
        subprocess.run([sys.executable, *command], cwd=ROOT, env=self.env, check=True, stdout=subprocess.DEVNULL)

    def broker_kill(self):
        """End the broker as a power cut would."""
        self._server.kill()
        self._server.wait()

    def worker_wait(self):
        """Wait until a worker answers."""
        command = (sys.executable, "-m", "celery", "-A", "config", "inspect", "ping", "--timeout", "1")
        for _ in range(60):
            if subprocess.run(command, cwd=ROOT, env=self.env, capture_output=True, check=False).returncode == 0:
                return
        raise AssertionError("no worker answers")

    def worker_start(self):
        """Start one more worker."""
        name = f"w{len(self.workers)}"
        command = (*(sys.executable, "-m", "celery", "-A", "config", "worker", "-n", f"{name}@%h", "-c", "1"),)
        self.workers[name] = self._start((*command, "--without-gossip", "--without-mingle", "--loglevel", "WARNING"))

    def beat_start(self):
        """Start the beat."""
        self._start(
            (
                sys.executable,
                "-m",
                "celery",
                "-A",
                "config",
                "beat",
                "--scheduler",
                "celery.beat.Scheduler",
                "--pidfile=",
            )
        )

    @contextlib.contextmanager
    def rows(self):
        """Yield a function that asks the database as an onlooker would."""
        if self.postgres_name:
            with psycopg.connect(self.env["DATABASE_URL"], autocommit=True) as connection:
                yield lambda sql: connection.execute(sql).fetchall()
        else:
            connection = sqlite3.connect(self.var_dir / "kill.sqlite3", timeout=20, isolation_level=None)
            yield lambda sql: connection.execute(sql).fetchall()
            connection.close()

    def close(self):
        """Kill what was started and drop the database."""
        for child in reversed(self.children):
            with contextlib.suppress(ProcessLookupError):
                os.killpg(child.pid, signal.SIGKILL)
            child.wait()
        if self.postgres_name:
            with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as admin:
                admin.execute(f"DROP DATABASE {self.postgres_name} WITH (FORCE)")
