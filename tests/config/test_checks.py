"""A deployment refuses what is only fit for an embedded installation, in every process."""

import os
import subprocess
import sys

import pytest
from django.contrib.auth import get_user_model
from django.core.exceptions import ImproperlyConfigured
from django.test import override_settings

from config import checks
from tests.conftest import ROOT

FIT = {
    "DEPLOYMENT": True,
    "DEBUG": False,
    "DEMO": False,
    "SECRET_KEY": "4f1d0c9b8a7e6d5c4b3a29180f1e2d3c4b5a69788796a5b4c3d2e1f00f1e2d3c",
    "ALLOWED_HOSTS": ["twin.example.com"],
    "DATABASES": {"default": {"ENGINE": "django.db.backends.postgresql"}},
    "BROKER_EMBEDDED": False,
}


def ids(**changes):
    """Ask the check; DATABASES may be overridden because nothing is queried."""
    with override_settings(**FIT | changes):
        return [fault.id for fault in checks.deployment_check()]


@pytest.mark.filterwarnings("ignore:Overriding setting DATABASES")
@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, []),
        ({"DEBUG": True}, ["twin.E001"]),
        ({"DEMO": True}, ["twin.E002"]),
        ({"SECRET_KEY": "short"}, ["twin.E003"]),
        ({"SECRET_KEY": "a" * 64}, ["twin.E003"]),
        ({"SECRET_KEY": "django-insecure-" + "0123456789abcdef" * 4}, ["twin.E003"]),
        ({"ALLOWED_HOSTS": ["*"]}, ["twin.E004"]),
        ({"ALLOWED_HOSTS": []}, ["twin.E004"]),
        ({"DATABASES": {"default": {"ENGINE": "django.db.backends.sqlite3"}}}, ["twin.E005"]),
        ({"BROKER_EMBEDDED": True}, ["twin.E006"]),
        ({"DEBUG": True, "DEMO": True, "DEPLOYMENT": False}, []),
    ],
)
def test_each_unfit_setting_is_refused_by_its_own_rule(changes, expected):
    assert ids(**changes) == expected


@pytest.mark.django_db
def test_the_demo_user_is_refused_until_it_is_gone():
    demo = get_user_model().objects.create_user("demo")
    with override_settings(DEPLOYMENT=True):
        assert [fault.id for fault in checks.demo_user_check()] == ["twin.E007"]
        demo.delete()
        assert checks.demo_user_check() == []


@pytest.mark.django_db
def test_the_start_names_every_reason_at_once():
    with override_settings(DEPLOYMENT=True, DEBUG=True, DEMO=True), pytest.raises(ImproperlyConfigured) as refused:
        checks.refuse_unfit()
    assert "twin.E001: DEBUG is on" in str(refused.value)
    assert "twin.E002: DEMO is on (unset DEMO)" in str(refused.value)


@pytest.mark.parametrize(
    "command",
    [
        pytest.param(["manage.py", "migrate"], id="migrate"),
        pytest.param(["manage.py", "up"], id="up"),
        pytest.param(["-m", "celery", "-A", "config", "worker", "--pool", "solo"], id="worker"),
        pytest.param(
            ["-m", "celery", "-A", "config", "beat", "--scheduler", "celery.beat.Scheduler", "--pidfile="], id="beat"
        ),
        pytest.param(["-c", "import config.wsgi"], id="web"),
    ],
)
def test_every_process_refuses_an_unfit_deployment(process_env, command):
    env = process_env | {"DEPLOYMENT": "1", "DEBUG": "1", "SECRET_KEY": "short", "ALLOWED_HOSTS": "*"}
    done = subprocess.run(
        [sys.executable, *command], cwd=ROOT, env=env, capture_output=True, text=True, timeout=60, check=False
    )
    said = done.stdout + done.stderr
    assert done.returncode != 0
    assert all(name in said for name in ("twin.E001", "twin.E003", "twin.E004")), said


def test_a_deployment_without_a_secret_does_not_load_its_settings(process_env):
    env = process_env | {"DEPLOYMENT": "1", "SECRET_KEY": ""}
    done = subprocess.run(
        [sys.executable, "manage.py", "check"],
        cwd=ROOT,
        env=env,
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert done.returncode != 0
    assert "SECRET_KEY is not set" in done.stderr


def test_an_embedded_installation_starts_with_its_defaults():
    assert not os.environ.get("DEPLOYMENT")
    assert checks.deployment_check() == []
    checks.refuse_unfit()
