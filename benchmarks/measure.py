"""How the benchmarks measure: CPU seconds of this process, repeated until they add up, one line a figure."""

import os
import platform
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))  # the rooms are not installed: a benchmark is started by its path

LEAST_S = 1.0  # CPU time that one figure is measured for, at least


def call_cpu_s(work: Callable[[], object], *, least_s: float = LEAST_S) -> float:
    """Return the mean CPU time of one call, all threads of the process. [s]

    A first call, not counted, fills caches and loads what is loaded lazily. Calls are timed together in groups that
    double in size, so that reading the clock costs nothing beside them.
    """
    work()
    spent_s, calls, group = 0.0, 0, 1
    while spent_s < least_s:
        start_s = time.process_time()
        for _ in range(group):
            work()
        spent_s += time.process_time() - start_s
        calls += group
        group = calls if spent_s < least_s / 4 else 1 + int(calls * max(least_s - spent_s, 0.0) / spent_s)
    return spent_s / calls


def machine_print() -> None:
    """Print what the figures were measured on."""
    packages = ", ".join(f"{name} {version(name)}" for name in ("numpy", "scipy", "highspy", "Django"))
    print(f"# {_cpu_name()}, {os.cpu_count()} cores, {platform.system()} {platform.machine()}")
    print(f"# {platform.python_implementation()} {platform.python_version()}, {packages}")


def figure_print(what: str, value: float, unit: str, *, reference: str = "", ratio: float | None = None) -> None:
    """Print one figure; with a reference measured in the same run, also how many times better than it."""
    beside = f"   {_short(ratio)} x {reference}" if ratio is not None else ""
    print(f"{what:<58} {_short(value):>12} {unit:<16}{beside}".rstrip())


def _short(value: float) -> str:
    """Three digits: a second run agrees on no more of them."""
    rounded = float(f"{value:.3g}")
    return f"{rounded:,.0f}" if rounded >= 100 else f"{rounded:g}"


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or "unknown processor"
    return next((line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")), "unknown processor")
