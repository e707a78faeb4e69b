"""What a search has finished, kept so that whoever goes on after a crash ends with the very same plan.

Each stage follows from the ones before it alone: going on behind the last finished stage is as if nothing had happened.
A plan found in the middle of a stage is not kept: a search begun from it could end with another plan.
"""

import io
from collections.abc import Callable
from dataclasses import replace

import numpy as np

from scenarios.planning.solver import Solved

FIELDS = ("objective", "bound", "is_proven", "is_infeasible", "by_clock", "nodes", "status")


class Memory:
    """Finished stages by name.

    Parameters
    ----------
    data : bytes, optional
        What an earlier search left.
    keep : callable
        Gets all finished stages as bytes whenever there is one more.
    """

    def __init__(self, data: bytes | None = None, keep: Callable[[bytes], None] = lambda _data: None) -> None:
        self._keep = keep
        self._arrays: dict[str, np.ndarray] = {}
        if data:
            with np.load(io.BytesIO(data), allow_pickle=False) as kept:
                self._arrays = {name: kept[name] for name in kept.files}
        self._prefix = ""

    def under(self, prefix: str) -> "Memory":
        """Return the same memory for one of several searches."""
        part = Memory(keep=self._keep)
        part._arrays, part._prefix = self._arrays, f"{self._prefix}{prefix}/"
        return part

    def stage(self, name: str, work: Callable[[], Solved]) -> Solved:
        """Return what a stage found, from memory if it has finished before."""
        key = self._prefix + name
        if f"{key}:status" in self._arrays:
            values = self._arrays.get(f"{key}:values")
            facts = {field: self._arrays[f"{key}:{field}"].item() for field in FIELDS}
            return Solved(values=values, **facts)
        solved = replace(work(), duals=None)
        if solved.values is not None:
            self._arrays[f"{key}:values"] = solved.values
        self._arrays |= {f"{key}:{field}": np.array(getattr(solved, field)) for field in FIELDS}
        stream = io.BytesIO()
        np.savez_compressed(stream, **self._arrays)  # type: ignore[arg-type]
        self._keep(stream.getvalue())
        return solved
