"""Which hosts to take out of service when, so that what is left always survives one more failure. Values in and out."""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from scenarios.planning.headroom import SERVED, Region
from scenarios.planning.judging import World
from scenarios.planning.plain import given
from scenarios.planning.problem import PlanProblem
from scenarios.planning.program import FloatArray


@dataclass(frozen=True, slots=True)
class DrainRow:
    """Hosts that are taken out of service in a period, worked on, and back in the next one."""

    period: int = given("Position of the period.")
    place: str = given("Place.")
    kind: str = given("Kind.")
    hosts: int = given("Taken out.", unit="-")
    left: int = given("Still to be worked on there afterwards.", unit="-")


@dataclass(frozen=True)
class DrainPlan:
    """Who is drained when. `done`: period in which the last are; none: not within the horizon."""

    rows: tuple[DrainRow, ...] = given("Hosts by period, place and kind.")
    total: int = given("Hosts to be worked on.", unit="-")
    left: int = given("Of them not within the horizon.", unit="-")
    done: int | None = given("Period of the last ones; none: not within the horizon.", unit="period")
    waits: int = given("Periods in which nothing can be drained without giving up the protection.", unit="-")


def drain_plan(problem: PlanProblem, below: Mapping[tuple[str, str], int], *, most_per_period: int) -> DrainPlan:
    """Return which hosts to drain in which period, as many as can be, so that nothing that holds is given up.

    While hosts are out, every tier must be served as it would be without the work, and the protected tier must survive
    the loss of any failure domain if it does so without. The place with most left goes first.

    Parameters
    ----------
    below : mapping of (place, kind) to int
        Hosts to be worked on. [-]
    most_per_period : int
        Hosts that can be worked on in a period. [-]
    """
    world, left = World(problem), {pair: hosts for pair, hosts in sorted(below.items()) if hosts > 0}
    checks = {one.slug: _Check(world, one) for one in world.regions}
    region_of = {
        place: slug
        for slug, inside in world.places.items()
        for place, at in world.ground.place_at.items()
        if inside[at]
    }
    rows, waits, total = [], 0, sum(left.values())
    done: int | None = None
    for period in range(len(problem.periods)):
        if not left:
            break
        out, room = np.zeros(world.hosts.shape), most_per_period
        for pair in sorted(left, key=lambda pair: (-left[pair], pair)):
            where = world.ground.place_at[pair[0]], world.ground.kind_at[pair[1]]
            here = min(left[pair], room, int(world.hosts[*where, period]))
            check = checks.get(region_of.get(pair[0], ""))
            hosts = _most(check, out, where, period, here) if check else here
            if hosts:
                out[*where, period] += hosts
                room -= hosts
                left[pair] -= hosts
                rows.append(DrainRow(period, *pair, hosts, left[pair]))
        waits += room == most_per_period
        left = {pair: hosts for pair, hosts in left.items() if hosts}
        done = period if not left else None
    return DrainPlan(tuple(rows), total, sum(left.values()), done if total else 0, waits)


class _Check:
    """What a region serves and survives without the work."""

    def __init__(self, world: World, region: Region) -> None:
        self._world, self._region = world, region
        self._share = np.minimum(region.shares(world.future, world.usable(region.slug)).share, 1.0)
        kept = world.survival(region)
        self._survives = np.zeros(len(world.problem.periods), dtype=bool) if kept is None else kept.share >= 1 - SERVED

    def holds(self, out: FloatArray, period: int) -> bool:
        """Whether nothing that holds is given up in a period while hosts are out, float64[P, K, T]."""
        world, region = self._world, self._region
        share = region.shares(world.future, world.usable(region.slug, out)).share[:, period]
        if (np.minimum(share, 1.0) < self._share[:, period] - SERVED).any():
            return False
        if not self._survives[period]:
            return True
        kept = world.survival(region, out)
        return kept is None or bool(kept.share[period] >= 1 - SERVED)


def _most(check: _Check, out: FloatArray, where: tuple[int, int], period: int, most: int) -> int:
    """Return the most hosts of a place, up to some, that may be out besides; by halving."""

    def may(hosts: int) -> bool:
        more = out.copy()
        more[*where, period] += hosts
        return check.holds(more, period)

    if most <= 0 or may(most):
        return max(most, 0)
    if most == 1 or not may(1):
        return 0
    low, high = 1, most  # low may, high may not
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if may(middle) else (low, middle)
    return low
