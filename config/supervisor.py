"""One small supervisor: starts processes, restarts what dies, ends them in order. Knows nothing of Django."""

import contextlib
import math
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType, TracebackType

LEASH = Path(__file__).with_name("leash.py")
MARK = "TWIN_SUPERVISED"  # environment variable that tells the children of one VAR_DIR from all other processes
ONE_REQUEST_S = 1.0  # stop signals that come this close together are one request
BACK_OFF_S = 0.5
BACK_OFF_MOST_S = 15.0
SETTLED_S = 20.0  # who lived this long starts again without waiting longer
LOG_MOST_BYTE = 10 * 2**20


@dataclass(frozen=True)
class Service:
    """A process to keep alive, and how long it may take to end politely. [s]"""

    name: str
    command: tuple[str, ...]
    stop_wait_s: float = 5.0


@dataclass
class Child:
    """A service and its present process, if it has one."""

    service: Service
    process: subprocess.Popen[bytes] | None = None
    started_s: float = 0.0
    failures: int = 0
    restart_s: float | None = None

    @property
    def has_ended(self) -> bool:
        """Whether the process has ended by itself."""
        return self.process is not None and self.process.poll() is not None


class Signals:
    """Turns signals into something a loop can wait for: a stop asked for, a child that ended."""

    stops = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)

    def __init__(self) -> None:
        self.asked, self._asked_s = 0, -math.inf
        self._before: dict[int, object] = {}
        self._reader, self._writer = socket.socketpair()

    def __enter__(self) -> "Signals":
        self._reader.settimeout(0)
        self._writer.settimeout(0)
        self._wakeup_before = signal.set_wakeup_fd(self._writer.fileno(), warn_on_full_buffer=False)
        for number in (*self.stops, signal.SIGCHLD):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, kind: type[BaseException] | None, exc: BaseException | None, trace: TracebackType | None
    ) -> None:
        signal.set_wakeup_fd(self._wakeup_before)
        for number, handler in self._before.items():
            signal.signal(number, handler)  # type: ignore[arg-type]
        self._reader.close()
        self._writer.close()

    def _note(self, number: int, _frame: FrameType | None) -> None:
        now_s = time.monotonic()
        # one stop can arrive twice, from the terminal's process group and handed on by make: that is no second request
        if number in self.stops and now_s - self._asked_s >= ONE_REQUEST_S:
            self.asked, self._asked_s = self.asked + 1, now_s

    def wait(self, timeout_s: float) -> None:
        """Sleep until a signal arrives or the time is over."""
        select.select([self._reader], [], [], max(0.0, timeout_s))
        with contextlib.suppress(BlockingIOError):
            while self._reader.recv(256):
                pass


@dataclass
class Supervisor:
    """Keeps services alive; `say` gets one sentence per event."""

    log_dir: Path
    environment: Mapping[str, str]
    say: Callable[[str], None]
    signals: Signals
    children: dict[str, Child] = field(default_factory=dict)

    def start(self, service: Service) -> None:
        """Start a service in a session of its own, so that a Ctrl-C of the terminal reaches only the supervisor."""
        child = self.children.setdefault(service.name, Child(service))
        log_path = self.log_dir / f"{service.name}.log"
        log_trim(log_path)
        with log_path.open("ab") as log:
            child.process = subprocess.Popen(  # noqa: S603 - commands of our own
                [sys.executable, "-I", "-S", str(LEASH), str(os.getpid()), *service.command],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=dict(self.environment),
                start_new_session=True,
            )
        child.started_s = time.monotonic()
        child.restart_s = None

    def revive(self) -> float:
        """Restart what has died and whose back-off is over; return the time until the next one is due. [s]"""
        due_s = 1.0
        for child in self.children.values():
            if child.has_ended:
                self._bury(child)
            if child.restart_s is not None:
                wait_s = child.restart_s - time.monotonic()
                if wait_s <= 0:
                    self.start(child.service)
                else:
                    due_s = min(due_s, wait_s)
        return due_s

    def _bury(self, child: Child) -> None:
        """Kill what a dead process left in its group (a pool outlives a parent killed by -9); plan a restart."""
        assert child.process is not None  # noqa: S101 - narrows the type; the caller has just polled it
        group_kill(child.process.pid)
        now_s = time.monotonic()
        lived_s = now_s - child.started_s
        child.failures = 1 if lived_s >= SETTLED_S else child.failures + 1
        delay_s = min(BACK_OFF_MOST_S, BACK_OFF_S * 2 ** (child.failures - 1))
        child.restart_s = now_s + delay_s
        name, log_path = child.service.name, self.log_dir / f"{child.service.name}.log"
        self.say(
            f"{name} ended ({end_spoken(child.process.returncode)}), starting it again in {delay_s:g} s; see {log_path}"
        )
        if lived_s < SETTLED_S and child.process.returncode > 0:
            for line in log_tail(log_path, lines=5):
                self.say(f"  {name}: {line}")
        child.process = None

    def stop(self, order: Sequence[str]) -> None:
        """End the named services one after the other, politely first; a second stop signal ends the patience."""
        for name in order:
            child = self.children.get(name)
            if child is None or child.process is None:
                continue
            child.restart_s = None
            with contextlib.suppress(ProcessLookupError):
                child.process.send_signal(signal.SIGTERM)
            end_s = time.monotonic() + child.service.stop_wait_s
            while child.process.poll() is None and time.monotonic() < end_s and self.signals.asked < 2:
                self.signals.wait(min(0.2, end_s - time.monotonic()))
            if child.process.poll() is None:
                limit = "before the second stop" if self.signals.asked > 1 else f"in {child.service.stop_wait_s:g} s"
                self.say(f"{name} did not end {limit} and was killed; its work is taken up later")
            group_kill(child.process.pid)
            child.process.wait()
            child.process = None
            self.say(f"{name} has stopped")


def group_kill(pid: int) -> None:
    """Kill every process left in the group that `pid` led."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(pid, signal.SIGKILL)


def end_spoken(code: int) -> str:
    """Return how a process ended, in words."""
    if code >= 0:
        return f"exit code {code}"
    try:
        return f"killed by {signal.Signals(-code).name}"
    except ValueError:
        return f"killed by signal {-code}"


def log_tail(path: Path, *, lines: int) -> list[str]:
    """Return the last lines of a log."""
    with path.open("rb") as stream:
        stream.seek(max(0, path.stat().st_size - 8192))
        return stream.read().decode(errors="replace").splitlines()[-lines:]


def log_trim(path: Path) -> None:
    """Keep one older log beside a log that has grown too long; whoever writes to it appends, so truncation is safe."""
    if path.exists() and path.stat().st_size > LOG_MOST_BYTE:
        shutil.copyfile(path, path.with_suffix(".log.1"))
        os.truncate(path, 0)


def leftovers(mark: str) -> list[int]:
    """Return what an earlier supervisor with this mark left behind, where the system lists environments."""
    wanted = f"{MARK}={mark}".encode()
    found = []
    for path in Path("/proc").glob("[0-9]*/environ"):
        pid = int(path.parent.name)
        with contextlib.suppress(OSError):
            if pid != os.getpid() and wanted in path.read_bytes().split(b"\0"):
                found.append(pid)
    return found


def leftovers_end(mark: str, *, wait_s: float = 5.0) -> int:
    """End what an earlier supervisor left behind, politely first; return how many there were."""
    first = leftovers(mark)
    for number, patience_s in ((signal.SIGTERM, wait_s), (signal.SIGKILL, 1.0)):
        for pid in leftovers(mark):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)
        end_s = time.monotonic() + patience_s
        while leftovers(mark) and time.monotonic() < end_s:
            time.sleep(0.05)
    return len(first)
