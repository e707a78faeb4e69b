"""How many more hosts fit into racks, and what stops the next one. Values in, values out."""

from dataclasses import dataclass

import numpy as np

from fleet.snapshot import FloatArray, IntArray

POWER, UNITS = "rack_power", "rack_units"


def hosts_fit(*, free_w: FloatArray, free_u: IntArray, host_w: float, host_u: int) -> IntArray:
    """Return how many more hosts of one kind each rack takes under its power and its height.

    Parameters
    ----------
    free_w : float64[R]
        Power still free in each rack; negative where it is overdrawn. [W]
    free_u : int64[R]
        Rack units still free. [U]
    host_w, host_u : float, int
        Power to plan with and height of one host. [W], [U]

    Returns
    -------
    int64[R]
        Whole hosts, never negative. Exact for hosts of one kind: racks do not share power or height. [-]
    """
    by_power = np.floor(free_w / host_w + 1e-9)
    by_height = free_u // max(host_u, 1)
    return np.maximum(0, np.minimum(by_power, by_height)).astype(np.int64)


@dataclass(frozen=True, slots=True)
class Stop:
    """What stops the next host: the constraint, the share of racks it stops [-], and the rack that comes closest."""

    constraint: str
    share_ratio: float
    rack: int


def stops(*, free_w: FloatArray, free_u: IntArray, host_w: float, host_u: int) -> list[Stop]:
    """Return what stops one more host once the racks are full, the most frequent constraint first.

    A rack that has neither the power nor the height counts for the one it lacks more of.
    """
    if not len(free_w):
        return []
    count = hosts_fit(free_w=free_w, free_u=free_u, host_w=host_w, host_u=host_u)
    lack_w = 1 - (free_w - count * host_w) / host_w  # above 0: that share of a host is missing
    lack_u = 1 - (free_u - count * host_u) / max(host_u, 1)
    by_power = lack_w >= lack_u
    found = []
    for constraint, racks, lack in ((POWER, by_power, lack_w), (UNITS, ~by_power, lack_u)):
        if racks.any():
            nearest = int(np.flatnonzero(racks)[np.argmin(lack[racks])])
            found.append(Stop(constraint, float(racks.mean()), nearest))
    return sorted(found, key=lambda stop: -stop.share_ratio)


def hosts_place(*, wanted: int, room: IntArray) -> IntArray:
    """Return how many of `wanted` hosts go into each rack, first racks first, int64[R]. [-]"""
    before = np.concatenate(([0], np.cumsum(room)[:-1])) if len(room) else np.zeros(0, dtype=np.int64)
    return np.clip(wanted - before, 0, room).astype(np.int64)
