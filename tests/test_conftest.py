"""Only three marks may skip, each with its reason; a test that skips itself fails."""

import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

TESTS = """
import pytest
def test_skips_itself():
    pytest.skip("not today")
@pytest.mark.skip(reason="no reason")
def test_is_skipped():
    pass
@pytest.mark.chromium
def test_needs_a_browser():
    pass
"""


@pytest.fixture
def suite(tmp_path):
    """A suite of its own under this project's rules; returns how it is run."""
    (tmp_path / "conftest.py").write_text(
        "import tests.conftest\n"
        "from pathlib import Path\n"
        "tests.conftest.CHROMIUM = Path('/nowhere/chromium')\n"
        "from tests.conftest import *\n"
    )
    (tmp_path / "test_some.py").write_text(TESTS)

    def run(*words, **env):
        command = [sys.executable, "-m", "pytest", "-c", str(ROOT / "pyproject.toml"), "-p", "no:cacheprovider", *words]
        env = os.environ | {"PYTHONPATH": str(ROOT), "TESTS_REQUIRE": ""} | env
        return subprocess.run(command, cwd=tmp_path, env=env, capture_output=True, text=True, check=False).stdout

    return lambda *words, **env: run(str(tmp_path), *words, **env)


@pytest.mark.parametrize("words", [(), ("-n", "2")], ids=["one process", "two processes"])
def test_a_skip_without_one_of_the_marks_is_a_failure(suite, words):
    said = suite(*words)
    assert "1 failed, 1 skipped, 1 error" in said  # a skip mark already ends the setup
    assert "test_skips_itself skips itself: only the marks chromium, postgres, shared may skip" in said
    assert "skipped tests: 1" in said
    assert "1 x chromium: there is no Chromium at /nowhere/chromium" in said


def test_a_required_mark_may_not_skip(suite):
    assert "1 failed, 1 passed, 1 error" in suite(TESTS_REQUIRE="chromium,postgres")


def test_a_module_that_skips_itself_is_a_failure(suite, tmp_path):
    (tmp_path / "test_some.py").write_text("import pytest\npytest.importorskip('no_such_module')\n")
    said = suite()
    assert "skips a whole module: only marked tests may skip" in said
    assert "1 error" in said
