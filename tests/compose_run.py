"""Run the services of docker-compose.yml as plain processes, each with its own environment, on real servers.

`python tests/compose_run.py --postgres HOST:PORT --database NAME --redis HOST:PORT --password SECRET`
migrates, starts web, two workers and beat, asks every health check, finishes one migration run, and stops everything.
"""

import argparse
import json
import os
import re
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import yaml

ROOT = Path(__file__).resolve().parent.parent
VARIABLE = re.compile(r"\$(?:(\$)|\{(\w+)(?::([-?])([^}]*))?\})")
OURS = ("migrate", "web", "worker", "beat")


class ComposeError(Exception):
    """The deployment does not do what it promises."""


def interpolate(text, variables):
    """Replace ${NAME}, ${NAME:-default} and ${NAME:?message} as docker compose does; $$ is one $."""

    def value(found):
        escaped, name, kind, rest = found.groups()
        if escaped:
            return "$"
        if variables.get(name):
            return variables[name]
        if kind == "?":
            raise ComposeError(f"{name}: {rest}")
        return rest or ""

    return VARIABLE.sub(value, text)


def compose_read(path, variables):
    """Return the services with every variable replaced."""

    def walk(node):
        if isinstance(node, dict):
            return {key: walk(value) for key, value in node.items()}
        if isinstance(node, list):
            return [walk(value) for value in node]
        return interpolate(node, variables) if isinstance(node, str) else node

    return walk(yaml.safe_load(path.read_text()))["services"]


def port_free():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Deployment:
    """The processes of one deployment."""

    def __init__(self, services, replacements, folder):
        self.services, self.replacements, self.folder = services, replacements, folder
        self.processes = {}

    def place(self, text):
        """Point an address of the compose network to where the server really is."""
        for name, address in self.replacements.items():
            text = text.replace(name, address)
        return text

    def environment(self, service):
        env = {name: os.environ[name] for name in ("HOME", "LANG", "LC_ALL") if name in os.environ}
        env |= {"PATH": f"{Path(sys.executable).parent}:{os.environ['PATH']}", "HOSTNAME": socket.gethostname()}
        env |= {"VAR_DIR": str(self.folder), "STATIC_ROOT": str(self.folder / "static"), "PYTHONUNBUFFERED": "1"}
        named = {name: self.place(str(value)) for name, value in self.services[service]["environment"].items()}
        return env | named | ({"PORT": self.replacements["0.0.0.0:8000"].rsplit(":", 1)[1]} if service == "web" else {})

    def start(self, service, name=None, extra=()):
        name = name or service
        command = [self.place(word) for word in self.services[service]["command"]] + list(extra)
        with (self.folder / f"{name}.log").open("wb") as log:
            self.processes[name] = subprocess.Popen(
                command,
                cwd=ROOT,
                env=self.environment(service),
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def finish(self, service, *command, timeout_s=300):
        """Run a command with a service's environment to its end and return what it prints."""
        words = command or [self.place(word) for word in self.services[service]["command"]]
        done = subprocess.run(
            words,
            cwd=ROOT,
            env=self.environment(service),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=timeout_s,
            check=False,
        )
        if done.returncode:
            raise ComposeError(f"{service}: {' '.join(words)} ended with {done.returncode}: {done.stderr[-2000:]}")
        return done.stdout

    def healthy(self, service, timeout_s=120):
        """Wait until the service's own health check passes."""
        kind, *words = self.services[service]["healthcheck"]["test"]
        command = ["sh", "-c", words[0]] if kind == "CMD-SHELL" else words
        self.wait_for(lambda: not self.fails(service, command), f"{service} does not become healthy", timeout_s)

    def fails(self, service, command):
        done = subprocess.run(
            command,
            cwd=ROOT,
            env=self.environment(service),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            check=False,
        )
        return done.returncode

    def wait_for(self, condition, complaint, timeout_s=90):
        end_s = time.monotonic() + timeout_s
        while not condition():
            ended = [name for name, process in self.processes.items() if process.poll() is not None]
            if ended or time.monotonic() > end_s:
                logs = "".join(self.tail(name) for name in self.processes)
                raise ComposeError(f"{complaint}; ended: {ended or 'none'}\n{logs}")
            time.sleep(0.5)

    def tail(self, name):
        return f"--- {name}\n" + (self.folder / f"{name}.log").read_text(errors="replace")[-3000:] + "\n"

    def stop(self):
        """End web, beat and workers as docker does, with SIGTERM; each must end by itself with exit code 0."""
        for process in self.processes.values():
            process.send_signal(signal.SIGTERM)
        for name, process in self.processes.items():
            try:
                code = process.wait(60)
            except subprocess.TimeoutExpired:
                raise ComposeError(f"{name} does not end within 60 s of SIGTERM\n{self.tail(name)}") from None
            if code:
                raise ComposeError(f"{name} ended with {code}\n{self.tail(name)}")

    def kill(self):
        """Leave nothing behind, whatever happened."""
        for process in self.processes.values():
            try:
                os.killpg(process.pid, signal.SIGKILL)
            except ProcessLookupError:
                continue
            process.wait()


def workers_answering(deployment):
    done = subprocess.run(
        [sys.executable, "-m", "celery", "-A", "config", "inspect", "ping", "--timeout", "3", "--json"],
        cwd=ROOT,
        env=deployment.environment("worker"),
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    return len(json.loads(done.stdout)) if done.returncode == 0 else 0


def deployment_try(deployment, say):
    """Start, ask, compute, stop."""
    say("migrate")
    deployment.finish("migrate")
    say("web, two workers, beat")
    deployment.start("web")
    deployment.start("worker", "worker-1", ["--hostname", "worker1@%h"])
    deployment.start("worker", "worker-2", ["--hostname", "worker2@%h"])
    deployment.start("beat")
    deployment.healthy("web")
    deployment.wait_for(lambda: workers_answering(deployment) == 2, "two workers do not answer")
    deployment.healthy("beat")
    deployment.wait_for(
        lambda: not deployment.fails("web", ["python", "-I", "config/probe.py", "/readyz"]), "never ready"
    )
    say("one migration run")
    deployment.finish("web", "python", "manage.py", "demo_load")
    answer = deployment.finish("web", "python", "manage.py", "run_scenario", "migration", "--wait", "--json")
    run = json.loads(answer)
    waves = run["result"]["plan"]["waves"]
    if run["status"] != "done" or not waves:
        raise ComposeError(f"the migration run did not move anything: {answer[:500]}")
    say(f"run {run['run']} is done with {len(waves)} waves: {run['result']['fleet']['sentence']}")
    deployment.stop()
    say("stopped cleanly")


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("postgres", "database", "redis", "password"):
        parser.add_argument(f"--{name}", required=True)
    options = parser.parse_args()
    variables = {
        "SECRET_KEY": os.urandom(32).hex(),
        "POSTGRES_PASSWORD": options.password,
        "REDIS_PASSWORD": options.password,
        "ALLOWED_HOSTS": "twin.example.com,127.0.0.1",
    }
    replacements = {
        "postgres:5432/twin": f"{options.postgres}/{options.database}",
        "redis:6379": options.redis,
        "0.0.0.0:8000": f"127.0.0.1:{port_free()}",
    }
    folder = Path(tempfile.mkdtemp(prefix="twin-compose-"))
    services = compose_read(ROOT / "docker-compose.yml", variables)
    deployment = Deployment({name: services[name] for name in OURS}, replacements, folder)
    began_s = time.monotonic()

    def say(sentence):
        sys.stdout.write(f"[{time.monotonic() - began_s:5.1f} s] {sentence}\n")
        sys.stdout.flush()

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        deployment_try(deployment, say)
    except ComposeError as error:
        sys.stderr.write(f"{error}\n")
        return 1
    finally:
        deployment.kill()
        shutil.rmtree(folder, ignore_errors=True)
    return 0


if __name__ == "__main__":
    sys.exit(main())
