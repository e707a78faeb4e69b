"""The embedded broker is a real server on a socket that only its owner opens."""

import shutil
import stat
import subprocess
import tempfile
import time
from pathlib import Path

import pytest
import redis
from django.core.cache import cache
from django.core.exceptions import ImproperlyConfigured

from config import broker
from config.celery import app


@pytest.fixture
def server():
    """A broker of this test's own: its start, so that a test may stop and start it."""
    folder = Path(tempfile.mkdtemp(prefix="twin-broker-"))
    socket = folder / "v.sock"
    running = []

    def start():
        command = broker.broker_command(socket, folder)
        running.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, start_new_session=True))
        end_s = time.monotonic() + 10
        while not broker.broker_answers(f"unix://{socket}"):
            assert time.monotonic() < end_s
            time.sleep(0.01)
        return running[-1]

    yield socket, start
    for process in running:
        process.kill()
        process.wait()
    shutil.rmtree(folder)


def test_only_the_owner_may_open_the_socket_and_no_port_is_open(server):
    socket, start = server
    start()
    assert stat.S_IMODE(socket.parent.stat().st_mode) == 0o700
    assert stat.S_IMODE(socket.stat().st_mode) == 0o700
    with redis.Redis.from_url(f"unix://{socket}", decode_responses=True) as client:
        asked = client.config_get("port", "appendonly", "maxmemory-policy", "save")
    assert asked == {"port": "0", "appendonly": "yes", "maxmemory-policy": "noeviction", "save": ""}


def test_an_accepted_message_survives_a_hard_kill(server):
    socket, start = server
    process = start()
    with redis.Redis.from_url(f"unix://{socket}") as client:
        client.rpush("queue", "run 1")  # answered only after it was written to the log
    process.kill()
    process.wait()
    start()
    with redis.Redis.from_url(f"unix://{socket}") as client:
        assert client.lrange("queue", 0, -1) == [b"run 1"]


def test_a_broker_left_behind_ends_when_asked(server):
    socket, start = server
    process = start()
    broker.broker_shutdown(f"unix://{socket}")
    assert process.wait(10) == 0
    assert not broker.broker_answers(f"unix://{socket}")


def test_a_directory_of_somebody_else_is_refused(monkeypatch, tmp_path):
    monkeypatch.setattr(broker.os, "getuid", lambda: tmp_path.stat().st_uid + 1)
    with pytest.raises(ImproperlyConfigured, match="belongs to another user"):
        broker.private_dir(tmp_path)


def test_a_link_in_place_of_the_directory_is_refused(tmp_path):
    (tmp_path / "real").mkdir()
    (tmp_path / "link").symlink_to(tmp_path / "real")
    with pytest.raises(ImproperlyConfigured, match="belongs to another user"):
        broker.private_dir(tmp_path / "link")


def test_without_the_wheel_a_server_on_the_path_is_taken(monkeypatch, tmp_path):
    found = tmp_path / "redis-server"
    found.write_text("#!/bin/sh\n")
    found.chmod(0o755)
    monkeypatch.setattr(broker, "wheel_binary", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert broker.broker_binary() == found


def test_without_any_server_the_package_to_install_is_named(monkeypatch, tmp_path):
    monkeypatch.setattr(broker, "wheel_binary", lambda: None)
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ImproperlyConfigured, match=r"apt-get install redis-server.*REDIS_URL"):
        broker.broker_binary()


def test_the_wheel_for_this_machine_is_found():
    assert broker.wheel_binary().name == "valkey-server"


def test_celery_and_the_cache_use_the_same_server(broker_url):
    cache.set("key", {"a": 1})
    app.send_task("nobody.listens", [1])
    with redis.Redis.from_url(broker_url, decode_responses=True) as client:
        keys = client.keys()
        assert client.llen("celery") == 1
    assert any(key.endswith(":key") for key in keys)
    assert cache.get("key") == {"a": 1}
