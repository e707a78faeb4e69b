"""Health answers what machines ask, names the part that fails, and tells no secret."""

import subprocess
import sys
import time
from datetime import timedelta
from unittest import mock

import pytest
from django.core.cache import cache
from django.db import DatabaseError
from django.test import override_settings
from django.utils import timezone

from config import health
from tests.conftest import ROOT

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def nothing_remembered():
    health._remembered.clear()
    yield
    health._remembered.clear()


def test_alive_needs_neither_database_nor_broker(client):
    with mock.patch.object(health, "connection") as connection, override_settings(REDIS_URL="unix:///nowhere.sock"):
        connection.cursor.side_effect = DatabaseError
        answer = client.get("/healthz")
    assert (answer.status_code, answer.json()) == (200, {"alive": True})
    assert "no-store" in answer.headers["Cache-Control"]


def test_without_a_worker_the_twin_is_not_ready(client):
    answer = client.get("/readyz")
    assert answer.status_code == 503
    parts = answer.json()["parts"]
    assert parts["database"] == {"ok": True}
    assert parts["broker"] == {"ok": True}
    assert parts["worker"] == {"ok": False, "reason": "no worker answers"}
    assert parts["sweep"]["reason"] == "no sweep has run yet"


def test_a_worker_that_answers_makes_it_ready(client, migrated_env, broker_url):
    command = [sys.executable, "-m", "celery", "-A", "config", "worker", "--pool", "solo", "--without-mingle"]
    worker = subprocess.Popen(command, cwd=ROOT, env=migrated_env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        end_s = time.monotonic() + 30
        while (answer := client.get("/readyz")).status_code != 200:
            assert time.monotonic() < end_s, answer.json()
            health._remembered.clear()
    finally:
        worker.terminate()
        worker.wait(30)
    assert answer.json()["ready"] is True


def test_without_a_broker_every_part_that_needs_it_says_so(client):
    with override_settings(REDIS_URL="redis://:geheim@127.0.0.1:1/0"):
        answer = client.get("/readyz")
    assert answer.status_code == 503
    parts = answer.json()["parts"]
    assert {parts[name]["reason"] for name in ("broker", "worker", "sweep")} == {"the broker does not answer"}
    assert "geheim" not in answer.content.decode()


def test_a_database_that_fails_is_named_without_its_address(client):
    with mock.patch.object(health, "connection") as connection:
        connection.cursor.side_effect = DatabaseError("could not connect to 10.0.0.7 as twin:geheim")
        answer = client.get("/readyz")
    assert answer.status_code == 503
    assert answer.json()["parts"]["database"] == {"ok": False, "reason": "the database does not answer"}
    assert "geheim" not in answer.content.decode()


def test_an_old_sweep_is_reported_with_its_age_and_a_fresh_one_is_fine():
    cache.set(health.SWEEP_KEY, (timezone.now() - timedelta(minutes=10)).isoformat(), timeout=None)
    late = health.sweep_part()
    assert late["ok"] is False
    assert 600 <= late["age_s"] < 660
    cache.set(health.SWEEP_KEY, timezone.now().isoformat(), timeout=None)
    assert health.sweep_part()["ok"] is True


def test_a_late_sweep_alone_does_not_take_the_pages_away():
    parts = dict.fromkeys(("database_part", "broker_part", "worker_part"), lambda: {"ok": True})
    with mock.patch.multiple(health, **parts, sweep_part=lambda: {"ok": False, "reason": "old"}):
        assert health.readiness()["ready"] is True


def test_who_asks_often_costs_one_look():
    with mock.patch.object(health, "readiness", return_value={"ready": True, "parts": {}}) as look:
        for _ in range(5):
            assert health.readiness_remembered()["ready"] is True
    assert look.call_count == 1


def test_nothing_can_be_posted(client):
    assert client.post("/healthz").status_code == 405
    assert client.post("/readyz").status_code == 405


def test_the_command_says_the_same_and_fails_with_it(capsys):
    from django.core.management import call_command

    with pytest.raises(SystemExit) as ended:
        call_command("ready")
    assert ended.value.code == 1
    assert '"no worker answers"' in capsys.readouterr().out
    call_command("ready", part="database")
