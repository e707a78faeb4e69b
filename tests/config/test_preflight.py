"""A machine that lacks something is told in one sentence which package to install."""

import os
import stat
import subprocess
import sys
import sysconfig
from pathlib import Path

import pytest

from config import preflight

SCRIPT = preflight.__file__


def tool(folder, name, script):
    path = folder / name
    path.write_text(f"#!/bin/sh\n{script}\n")
    path.chmod(path.stat().st_mode | stat.S_IXUSR)
    return path


@pytest.mark.parametrize(
    ("version", "words"),
    [
        ((3, 9, 2), ["3.9 is too old", "apt-get install python3", "dnf install python3"]),
        ((3, 10, 0), ["3.10 is too old"]),
        ((3, 15, 0), ["3.15 is newer", "python3.11", "python3.14"]),
    ],
)
def test_a_python_that_does_not_fit_is_named_with_the_package_that_does(version, words):
    fault = preflight.version_fault(version)
    assert all(word in fault for word in words), fault
    assert "\n" not in fault


@pytest.mark.parametrize("version", [(3, 11, 0), (3, 12, 9), (3, 14, 1)])
def test_a_python_that_fits_is_not_mentioned(version):
    assert preflight.version_fault(version) == ""


def test_a_missing_ensurepip_names_the_venv_package(monkeypatch):
    real = preflight.importlib.util.find_spec
    monkeypatch.setattr(preflight.importlib.util, "find_spec", lambda name: None if name == "ensurepip" else real(name))
    fault = preflight.venv_fault()
    assert "-venv`" in fault
    assert "dnf install python3" in fault


def test_a_missing_compiler_names_gcc(monkeypatch, tmp_path):
    monkeypatch.delenv("CC", raising=False)
    monkeypatch.setenv("PATH", str(tmp_path))
    fault = preflight.compiler_fault()
    assert "apt-get install gcc" in fault
    assert "dnf install gcc" in fault


def test_a_compiler_without_c_headers_names_the_c_library(monkeypatch, tmp_path):
    monkeypatch.setenv("CC", str(tool(tmp_path, "cc", "exit 1")))
    fault = preflight.compiler_fault()
    assert "apt-get install libc6-dev" in fault
    assert "glibc-devel" in fault


def test_missing_python_headers_name_the_dev_package(monkeypatch, tmp_path):
    monkeypatch.setattr(preflight.sysconfig, "get_paths", lambda: {"include": str(tmp_path)})
    fault = preflight.header_fault()
    assert "-dev`" in fault
    assert "python3-devel" in fault


def test_a_machine_that_has_everything_is_told_nothing():
    done = subprocess.run([sys.executable, "-I", SCRIPT], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_the_script_says_one_sentence_and_fails(tmp_path):
    env = {"PATH": str(tmp_path), "HOME": os.environ.get("HOME", "/")}
    done = subprocess.run([sys.executable, "-I", SCRIPT], capture_output=True, text=True, env=env, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert done.stderr.startswith("No C compiler was found (")


def test_a_python_that_is_not_the_systems_is_called_by_its_version(monkeypatch, tmp_path):
    other = tmp_path / "python"
    other.touch()
    monkeypatch.setattr(preflight.sys, "executable", str(other))
    version = sysconfig.get_python_version()
    assert preflight.package_prefix() in {f"python{version}", "python3"}
    assert (preflight.package_prefix() == "python3") == (not Path("/usr/bin/python3").exists())
