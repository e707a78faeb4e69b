"""Say in one plain sentence what this machine lacks to build the twin. Runs on any Python since 3.6, bare."""

import importlib.util
import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
from pathlib import Path

OLDEST = (3, 11)
NEWEST = (3, 14)  # the pinned packages have wheels up to here


def version_fault(version: tuple) -> str:
    """Return what is wrong with this Python's version, or an empty text."""
    spoken = f"{version[0]}.{version[1]}"
    if tuple(version[:2]) < OLDEST:
        return (
            f"Python {spoken} is too old, 3.11 or newer is needed: install one (Debian 12 or newer: "
            "`apt-get install python3`, Fedora: `dnf install python3`) and name it with `make run PYTHON=python3.11`."
        )
    if tuple(version[:2]) > NEWEST:
        return (
            f"Python {spoken} is newer than the pinned packages know: install 3.14 or older (Debian 12: "
            "`apt-get install python3.11`, Fedora: `dnf install python3.14`), name it by `make run PYTHON=python3.14`."
        )
    return ""


def package_prefix() -> str:
    """Return how Debian calls this Python's packages: python3 for the system's own, python3.12 for another."""
    system, mine = Path("/usr/bin/python3"), Path(sys.executable)
    is_system = not system.exists() or system.resolve() == mine.resolve()
    return "python3" if is_system else "python{}.{}".format(*sys.version_info[:2])


def venv_fault() -> str:
    """Return what keeps this Python from making a virtual environment, or an empty text."""
    if importlib.util.find_spec("ensurepip") is None or importlib.util.find_spec("venv") is None:
        return (
            "Python cannot make a virtual environment (ensurepip is missing): install it with "
            f"`apt-get install {package_prefix()}-venv` (Fedora: `dnf install python3`)."
        )
    return ""


def compiler_name() -> str:
    """Return the first word of the C compiler that setuptools would call."""
    return (os.environ.get("CC") or sysconfig.get_config_var("CC") or "cc").split()[0]


def compiler_fault() -> str:
    """Return what keeps C from being compiled, or an empty text."""
    compiler = compiler_name()
    if not shutil.which(compiler):
        return (
            f"No C compiler was found ({compiler}): install one with `apt-get install gcc libc6-dev` "
            "(Fedora: `dnf install gcc`)."
        )
    with tempfile.TemporaryDirectory() as folder:
        source = Path(folder) / "probe.c"
        source.write_text("#include <math.h>\n#include <stdio.h>\nint main(void) { return 0; }\n")
        built = subprocess.run(  # noqa: S603 - the compiler that the build calls
            [compiler, str(source), "-o", str(source.with_suffix(""))],
            stdout=subprocess.DEVNULL,
            stderr=subprocess.DEVNULL,
            check=False,
        )
    if built.returncode:
        return (
            f"The C compiler {compiler} cannot build a small program, the C library's headers are missing: install "
            "them with `apt-get install libc6-dev` (Fedora: `dnf install glibc-devel`)."
        )
    return ""


def header_fault() -> str:
    """Return a sentence when Python.h is missing, or an empty text."""
    if (Path(sysconfig.get_paths()["include"]) / "Python.h").exists():
        return ""
    return (
        f"Python's own headers are missing (Python.h): install them with `apt-get install {package_prefix()}-dev` "
        "(Fedora: `dnf install python3-devel`)."
    )


def main() -> int:
    """Print the first fault to stderr and return 1, or return 0."""
    fault = version_fault(sys.version_info) or venv_fault() or compiler_fault() or header_fault()
    if fault:
        sys.stderr.write(fault + "\n")
    return 1 if fault else 0


if __name__ == "__main__":
    sys.exit(main())
