"""The supervisor restarts what dies, leaves nothing behind, and ends the broker last. All processes here are real."""

import os
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace

import pytest

from config import supervisor
from config.probe import probe
from tests.conftest import ROOT

LONG = "sleep 1000"


def alive(pid):
    """Tell whether a process runs; a zombie does not."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except FileNotFoundError:
        return False


def wait_until(condition, timeout_s=30.0):
    end_s = time.monotonic() + timeout_s
    while not condition():
        assert time.monotonic() < end_s, "it did not happen in time"
        time.sleep(0.02)


@pytest.fixture
def keeper(tmp_path):
    """A supervisor whose sentences are collected."""
    said = []
    with supervisor.Signals() as signals:
        made = supervisor.Supervisor(log_dir=tmp_path, environment=dict(os.environ), say=said.append, signals=signals)
        made.said = said
        yield made
        signals.asked = 2  # no patience in a test that failed
        made.stop(list(made.children))


def shell(name, script, **options):
    return supervisor.Service(name, ("sh", "-c", script), **options)


def test_a_killed_process_is_started_again_and_its_children_are_ended_first(keeper, tmp_path):
    keeper.start(shell("pool", f"{LONG} & echo $! > {tmp_path}/member; wait"))
    wait_until(lambda: (tmp_path / "member").exists() and (tmp_path / "member").read_text().strip())
    member, first = int((tmp_path / "member").read_text()), keeper.children["pool"].process.pid
    assert alive(member)
    os.kill(first, signal.SIGKILL)
    wait_until(lambda: keeper.children["pool"].has_ended)
    keeper.revive()
    wait_until(lambda: not alive(member))
    wait_until(lambda: keeper.revive() and keeper.children["pool"].process)
    assert keeper.children["pool"].process.pid != first
    assert keeper.said[0].startswith("pool ended (killed by SIGKILL), starting it again in 0.5 s")


def test_who_fails_at_once_waits_longer_each_time_and_shows_its_last_words(keeper):
    keeper.start(shell("broken", "echo no such table >&2; exit 3"))
    wait_until(lambda: keeper.revive() and sum("exit code 3" in line for line in keeper.said) == 3)
    waits = [line.split(" again in ")[1].split(";")[0] for line in keeper.said if "exit code 3" in line]
    assert waits == ["0.5 s", "1 s", "2 s"]
    assert "  broken: no such table" in keeper.said


def test_services_end_one_after_the_other_in_the_order_given(keeper, tmp_path):
    for name in ("broker", "worker", "web"):
        on_end = f"trap 'echo {name} >> {tmp_path}/order; exit 0' TERM"
        keeper.start(shell(name, f"{on_end}; touch {tmp_path}/{name}; while :; do sleep 0.05; done"))
        wait_until((tmp_path / name).exists)
    keeper.stop(["web", "worker", "broker"])
    assert (tmp_path / "order").read_text().split() == ["web", "worker", "broker"]
    assert keeper.said == ["web has stopped", "worker has stopped", "broker has stopped"]


def test_who_does_not_listen_is_killed_after_its_time(keeper, tmp_path):
    keeper.start(shell("deaf", f"trap '' TERM; touch {tmp_path}/deaf; while :; do sleep 0.05; done", stop_wait_s=0.3))
    wait_until((tmp_path / "deaf").exists)
    pid = keeper.children["deaf"].process.pid
    keeper.stop(["deaf"])
    assert not alive(pid)
    assert keeper.said[0].startswith("deaf did not end in 0.3 s and was killed")


def test_children_die_with_a_supervisor_that_is_killed_hard(tmp_path):
    script = (
        "import os, pathlib, sys, time\n"
        "from config import supervisor\n"
        "with supervisor.Signals() as signals:\n"
        "    keeper = supervisor.Supervisor(pathlib.Path(sys.argv[1]), dict(os.environ), print, signals)\n"
        "    keeper.start(supervisor.Service('child', ('sleep', '1000')))\n"
        "    print(keeper.children['child'].process.pid, flush=True)\n"
        "    time.sleep(1000)\n"
    )
    env = os.environ | {"PYTHONPATH": str(ROOT)}
    parent = subprocess.Popen([sys.executable, "-c", script, str(tmp_path)], stdout=subprocess.PIPE, env=env, text=True)
    with parent:
        child = int(parent.stdout.readline())
        wait_until(lambda: Path(f"/proc/{child}/comm").read_text().strip() == "sleep")  # the leash is on
        parent.kill()
    wait_until(lambda: not alive(child))


def test_what_an_earlier_start_left_behind_is_found_by_its_mark_and_ended(tmp_path):
    ours = subprocess.Popen(["sleep", "1000"], env=os.environ | {supervisor.MARK: str(tmp_path)})
    other = subprocess.Popen(["sleep", "1000"], env=os.environ | {supervisor.MARK: f"{tmp_path}-other"})
    with ours, other:
        wait_until(lambda: supervisor.leftovers(str(tmp_path)) == [ours.pid])
        assert supervisor.leftovers_end(str(tmp_path), wait_s=0.1) == 1
        assert ours.wait(5) in (-signal.SIGTERM, -signal.SIGKILL)
        assert other.poll() is None
        other.kill()


def test_a_long_log_is_cut_and_the_older_part_kept(tmp_path, monkeypatch):
    monkeypatch.setattr(supervisor, "LOG_MOST_BYTE", 100)
    log = tmp_path / "web.log"
    log.write_text("x" * 101)
    supervisor.log_trim(log)
    assert log.stat().st_size == 0
    assert (tmp_path / "web.log.1").stat().st_size == 101


# --- the whole house --------------------------------------------------------------------------------------------------
@pytest.fixture
def port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


@pytest.fixture
def house_env(process_env, port):
    """Environment of `manage.py up` with the embedded broker, no demo, and a VAR_DIR short enough for a socket."""
    folder = tempfile.mkdtemp(prefix="twin-up-")
    env = {name: value for name, value in process_env.items() if name != "REDIS_URL"}
    yield env | {"VAR_DIR": folder, "PORT": str(port), "DEMO": "0"}
    shutil.rmtree(folder)


def up(env):
    return subprocess.Popen(
        [sys.executable, "manage.py", "up"],
        cwd=ROOT,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )


def pids(env, word):
    """Return the leaders among the processes of this house whose command has a word."""
    leaders = [pid for pid in supervisor.leftovers(env["VAR_DIR"]) if alive(pid) and os.getsid(pid) == pid]
    return [pid for pid in leaders if word in Path(f"/proc/{pid}/cmdline").read_text().split("\0")]


def test_the_house_starts_heals_refuses_a_second_one_and_ends_cleanly(house_env, port):
    house = up(house_env)
    try:
        wait_until(lambda: house.poll() is not None or probe("/readyz", port=port) == 200, timeout_s=90)
        assert house.poll() is None, house.stdout.read()

        second = up(house_env)
        said, _ = second.communicate(timeout=60)
        assert second.returncode == 1
        assert f"already running (process {house.pid}, http://127.0.0.1:{port})" in said

        (worker,) = pids(house_env, "worker")
        os.kill(worker, signal.SIGKILL)
        wait_until(lambda: pids(house_env, "worker") not in ([], [worker]))
        wait_until(lambda: probe("/readyz", port=port) == 200, timeout_s=60)

        house.send_signal(signal.SIGINT)
        said, _ = house.communicate(timeout=60)
    finally:
        house.kill()
        house.wait()
        supervisor.leftovers_end(house_env["VAR_DIR"], wait_s=0.1)
    assert house.returncode == 0, said
    assert "worker ended (killed by SIGKILL), starting it again in 0.5 s" in said
    stopped = [line.split()[1] for line in said.splitlines() if line.endswith("has stopped")]
    assert stopped == ["web", "beat", "worker", "broker", "everything"]
    assert "was killed; its work" not in said
    assert supervisor.leftovers(house_env["VAR_DIR"]) == []


def test_a_port_in_use_is_one_sentence_that_names_the_setting(house_env, port):
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", port))
        listener.listen()
        house = up(house_env)
        said, _ = house.communicate(timeout=60)
    assert house.returncode == 1
    assert f"Port {port} is in use: choose another, as in `make run PORT=8001`." in said
    assert "Traceback" not in said


def test_a_database_that_does_not_answer_is_one_sentence(house_env):
    house = up(house_env | {"DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing"})
    said, _ = house.communicate(timeout=60)
    assert house.returncode == 1
    assert "The database does not answer or cannot be migrated" in said
    assert "Traceback" not in said
    assert supervisor.leftovers(house_env["VAR_DIR"]) == []


def test_one_stop_that_arrives_twice_is_one_and_a_later_one_ends_the_patience(monkeypatch):
    clock = iter((100.0, 100.01, 102.0))
    monkeypatch.setattr(supervisor, "time", SimpleNamespace(monotonic=lambda: next(clock)))
    signals = supervisor.Signals()
    asked = []
    for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT):
        signals._note(number, None)
        asked.append(signals.asked)
    assert asked == [1, 1, 2]
