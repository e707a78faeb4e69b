"""What every test stands on: a broker and a VAR_DIR per test process, and a rule about what may be skipped."""

import copy
import importlib.util
import itertools
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import hypothesis
import psycopg
import pytest
import redis
from django.conf import settings
from django.core.cache import cache
from django.db import connections
from django.test import override_settings

from config import broker
from config.celery import app
from config.supervisor import LEASH
from scenarios import rating_store

ROOT = Path(__file__).resolve().parent.parent
SHARED_DATA = ROOT.parent / "shared" / "data"
CHROMIUM = Path("/usr/bin/chromium")
REQUIRED_MARKS = set(os.environ.get("TESTS_REQUIRE", "").replace(",", " ").split())  # these may not be skipped here
PROCESS = os.environ.get("PYTEST_XDIST_WORKER", "main")

hypothesis.settings.register_profile("every run draws the same", derandomize=True, database=None)
hypothesis.settings.load_profile("every run draws the same")


# --- skips: three marks may skip, each for one stated reason; every other skip is a failure ---------------------------
def lacking(mark):
    """Return why this machine cannot run tests of a mark, or an empty text."""
    if mark == "chromium" and not CHROMIUM.exists():
        return f"there is no Chromium at {CHROMIUM}"
    if mark == "chromium" and importlib.util.find_spec("playwright") is None:
        return "playwright is not installed (requirements-browser.txt)"
    if mark == "postgres" and settings.DATABASES["default"]["ENGINE"] != "django.db.backends.postgresql":
        return "DATABASE_URL names no PostgreSQL"
    if mark == "shared" and not SHARED_DATA.is_dir():
        return f"there is no folder ../{SHARED_DATA.relative_to(ROOT.parent)}"
    return ""


MAY_SKIP = ("chromium", "postgres", "shared")


def pytest_collection_modifyitems(items):
    for item in items:
        for mark in MAY_SKIP:
            reason = lacking(mark) if item.get_closest_marker(mark) else ""
            if reason and mark not in REQUIRED_MARKS:
                item.add_marker(pytest.mark.skip(reason=f"{mark}: {reason}"))


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item, call):
    report = yield
    if report.skipped and not hasattr(report, "wasxfail") and not any(item.get_closest_marker(m) for m in MAY_SKIP):
        report.outcome = "failed"
        report.longrepr = f"{item.nodeid} skips itself: only the marks {', '.join(MAY_SKIP)} may skip"
    return report


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(collector):
    report = yield
    if report.outcome == "skipped":
        report.outcome = "failed"
        report.longrepr = f"{collector.nodeid} skips a whole module: only marked tests may skip"
    return report


def pytest_terminal_summary(terminalreporter):
    skipped = terminalreporter.stats.get("skipped", [])
    reasons = Counter(report.longrepr[2].removeprefix("Skipped: ") for report in skipped)
    terminalreporter.write_line(f"skipped tests: {len(skipped)}")
    for reason, count in sorted(reasons.items()):
        terminalreporter.write_line(f"  {count} x {reason}")


# --- the broker and the files of this test process --------------------------------------------------------------------
def redis_url_of_process():
    """Return REDIS_URL with a database number of this test process, so that parallel ones do not meet."""
    parts = urlsplit(os.environ["REDIS_URL"])
    number = int("".join(filter(str.isdigit, PROCESS)) or 0)
    return urlunsplit(parts._replace(path=f"/{number}"))


@pytest.fixture(scope="session", autouse=True)
def var_dir():
    """A VAR_DIR of this test process, with a name short enough for a socket."""
    path = Path(tempfile.mkdtemp(prefix="twin-"))
    yield path
    shutil.rmtree(path, ignore_errors=True)


@pytest.fixture(scope="session")
def django_db_modify_db_settings(django_db_modify_db_settings_parallel_suffix, var_dir):
    """SQLite tests use a file, as the product does: threads that write at once wait, in memory they fail."""
    database = connections["default"].settings_dict
    if database["ENGINE"] == "django.db.backends.sqlite3":
        database["TEST"]["NAME"] = str(var_dir / "test.sqlite3")


@pytest.fixture(scope="session", autouse=True)
def broker_url(var_dir):
    """Run a broker for this test process, or use the one that REDIS_URL names; settings and Celery point to it."""
    server = None
    if os.environ.get("REDIS_URL"):
        url = redis_url_of_process()
    else:
        socket = var_dir / "broker" / "valkey.sock"
        url = f"unix://{socket}"
        leash = [sys.executable, "-I", "-S", str(LEASH), str(os.getpid())]  # ends it with these tests, however they end
        command = leash + broker.broker_command(socket, socket.parent)
        server = subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, start_new_session=True)
    end_s = time.monotonic() + 10
    while not broker.broker_answers(url):
        assert time.monotonic() < end_s, f"no broker at {url}"
        time.sleep(0.01)
    celery_url = url.replace("unix://", "redis+socket://", 1)
    changed = {
        "VAR_DIR": var_dir,
        "REDIS_URL": url,
        "CELERY_BROKER_URL": celery_url,
        "CACHES": {"default": {**settings.CACHES["default"], "LOCATION": url}},
        "PASSWORD_HASHERS": ["django.contrib.auth.hashers.MD5PasswordHasher"],
    }
    with override_settings(**changed):
        app.conf.broker_url = celery_url
        yield url
        app.pool.force_close_all()
    if server is not None:
        server.terminate()
        server.wait(10)


@pytest.fixture(autouse=True)
def cache_empty(broker_url):
    """Empty cache and queue (they share one server) after each test."""
    yield
    cache.clear()


@pytest.fixture(scope="session", autouse=True)
def ratings_once():
    """Let each rating be simulated once in a test process: it follows from its question, and tests ask for the same."""
    work, search, known = rating_store.rating_work, rating_store.goodput_search, {}

    def remembered(question, workload):
        if rating_store.goodput_search is not search:  # a test looks over its shoulder
            return work(question, workload)
        if question.digest not in known:
            known[question.digest] = work(question, workload)
        return copy.deepcopy(known[question.digest])

    rating_store.rating_work = remembered
    yield
    rating_store.rating_work = work


@pytest.fixture
def shared_data():
    """The data folder beside the project; tests that use it carry the mark `shared`."""
    return SHARED_DATA


# --- real processes: for tests that start manage.py or workers --------------------------------------------------------
_serial = itertools.count()


@pytest.fixture
def process_env(broker_url, tmp_path):
    """Environment of processes with an empty database and VAR_DIR of their own and this test process's broker."""
    with redis.Redis.from_url(broker_url) as client:
        client.flushdb()
    env = {name: value for name, value in os.environ.items() if name not in {"DEPLOYMENT", "DEBUG", "DEMO", "PORT"}}
    env |= {"VAR_DIR": str(tmp_path / "var"), "REDIS_URL": broker_url, "DJANGO_SETTINGS_MODULE": "config.settings"}
    if settings.DATABASES["default"]["ENGINE"] != "django.db.backends.postgresql":
        yield env | {"DATABASE_URL": f"sqlite:///{tmp_path / 'process.sqlite3'}"}
        return
    parts = urlsplit(os.environ["DATABASE_URL"])
    name = f"twin_process_{PROCESS}_{os.getpid()}_{next(_serial)}"
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(f"CREATE DATABASE {name}")
    yield env | {"DATABASE_URL": urlunsplit(parts._replace(path=f"/{name}"))}
    with psycopg.connect(os.environ["DATABASE_URL"], autocommit=True) as connection:
        connection.execute(f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def migrated_env(process_env):
    """The same with every table in place."""
    for command in (["migrate", "--verbosity", "0"], ["roles_load"]):
        subprocess.run([sys.executable, "manage.py", *command], cwd=ROOT, env=process_env, check=True, timeout=120)
    return process_env
