"""Readers of environment variables fail loudly and name their variable."""

import stat
from concurrent.futures import ThreadPoolExecutor

import pytest
from django.core.exceptions import ImproperlyConfigured

from config.env import env_bool, env_float, env_int, env_list, env_str, secret_file_read


def test_an_empty_variable_counts_as_not_set(monkeypatch):
    monkeypatch.setenv("TWIN_X", "  ")
    assert env_str("TWIN_X", "default") == "default"
    assert env_int("TWIN_X", 3) == 3
    assert env_bool("TWIN_X", default=True) is True
    assert env_list("TWIN_X", ["a"]) == ["a"]


@pytest.mark.parametrize(("text", "expected"), [("1", True), ("Yes", True), ("on", True), ("0", False), ("off", False)])
def test_switches_are_read_in_any_case(monkeypatch, text, expected):
    monkeypatch.setenv("TWIN_X", text)
    assert env_bool("TWIN_X", default=not expected) is expected


def test_words_are_split_at_commas_and_trimmed(monkeypatch):
    monkeypatch.setenv("TWIN_X", " a.example , b.example,")
    assert env_list("TWIN_X", []) == ["a.example", "b.example"]


@pytest.mark.parametrize(
    ("reader", "text", "reason"),
    [
        (lambda: env_bool("TWIN_X", default=False), "maybe", "TWIN_X='maybe' is not a switch"),
        (lambda: env_float("TWIN_X", 1.0), "ten", "TWIN_X='ten' is not a number"),
        (lambda: env_float("TWIN_X", 1.0, low=0.5), "0.4", "TWIN_X=0.4 is below 0.5"),
        (lambda: env_float("TWIN_X", 1.0), "nan", "TWIN_X='nan' is not a finite number"),
        (lambda: env_int("TWIN_X", 1), "1.5", "TWIN_X=1.5 is not a whole number"),
        (lambda: env_int("TWIN_X", 1), "inf", "TWIN_X='inf' is not a finite number"),
    ],
)
def test_what_cannot_be_read_names_its_variable(monkeypatch, reader, text, reason):
    monkeypatch.setenv("TWIN_X", text)
    with pytest.raises(ImproperlyConfigured, match=reason):
        reader()


def test_a_secret_is_made_once_and_only_its_owner_reads_it(tmp_path):
    path = tmp_path / "deep" / "secret"
    secret = secret_file_read(path)
    assert secret_file_read(path) == secret
    assert len(secret) >= 50
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert [found.name for found in path.parent.iterdir()] == ["secret"]


def test_processes_that_start_at_once_share_one_secret(tmp_path):
    with ThreadPoolExecutor(16) as pool:
        secrets = set(pool.map(lambda _: secret_file_read(tmp_path / "secret"), range(64)))
    assert len(secrets) == 1
    assert len(secrets.pop()) >= 50
