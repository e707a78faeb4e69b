"""New hosts stand as far as limits let them in, in order of arrival; the rest waits."""

import numpy as np
import pytest

from scenarios.planning.arrivals import Ground
from scenarios.planning.draws import Futures, FutureValues
from tests.scenarios.planning.capacity_fleets import one_service, random_fleet


def hall(deliveries, *, limit, standing=0, periods=4, places=("dc1",), amounts=None):
    limits = limit if isinstance(limit, list) else [limit]
    return one_service(
        periods=periods,
        places=[{"slug": place, "site": "dc1"} for place in places],
        kinds=[{"slug": "gpu", "homegrown": False}, {"slug": "own", "homegrown": True}],
        standing=[{"place": places[0], "kind": "gpu", "hosts": standing}],
        deliveries=[{"site": "dc1", **row} for row in deliveries],
        limits=[
            {
                "slug": f"power of {place}",
                "object": f"PDU {place}",
                "limit": limits,
                "uses": [
                    {"place": place, "kind": kind, "amount": amount}
                    for kind, amount in (amounts or {"gpu": 10.0, "own": 15.0}).items()
                ],
            }
            for place in places
        ],
    )


def walked(problem):
    ground, future = Ground(problem), Futures(problem, FutureValues()).expected()
    return ground, future, ground.walk(future)


def test_what_finds_no_room_waits():
    problem = hall([{"kind": "own", "period": 1, "hosts": 5}], limit=60.0, standing=2)
    _, _, found = walked(problem)
    assert found.new[0, 1].tolist() == [0, 2, 2, 2]  # 40 free: two of 15
    assert found.waiting[0, 1].tolist() == [0, 3, 3, 3]
    assert found.free[0, 1] == 10


def test_what_waits_stands_when_hosts_retire():
    problem = hall([{"kind": "own", "period": 0, "hosts": 4}], limit=60.0, standing=[6, 6, 3, 0])
    _, _, found = walked(problem)
    assert found.new[0, 1].tolist() == [0, 0, 2, 4]


def test_room_of_a_host_dated_later_is_not_free():
    problem = hall([{"kind": "own", "period": 0, "hosts": 4}], limit=60.0, standing=[0, 0, 3, 3])
    _, _, found = walked(problem)
    assert found.new[0, 1].tolist() == [2, 2, 2, 2]


def test_what_has_waited_stands_before_what_comes():
    rows = [{"kind": "own", "period": 0, "hosts": 3}, {"kind": "gpu", "period": 2, "hosts": 3}]
    problem = hall(rows, limit=[15.0, 15.0, 45.0, 45.0])
    _, _, found = walked(problem)
    assert found.new[0, 1].tolist() == [1, 1, 3, 3]
    assert found.waiting[0, 0].tolist() == [0, 0, 3, 3]


def test_places_are_filled_in_order():
    problem = hall([{"kind": "own", "period": 0, "hosts": 5}], limit=50.0, places=("a", "b"))
    _, _, found = walked(problem)
    assert found.new[:, 1, 0].tolist() == [3, 2]


@pytest.mark.parametrize("seed", range(8))
def test_no_limit_is_exceeded_and_no_host_is_lost(seed):
    problem = random_fleet(seed)
    futures = Futures(problem, FutureValues(), seed=seed)
    ground = Ground(problem)
    for index in range(5):
        future = futures.draw(index)
        found = ground.walk(future)
        assert (np.diff(found.new, axis=-1) >= 0).all()
        over = np.minimum(ground.free, 0)  # what stands may exceed a limit: then nothing is added
        for at, limit in enumerate(problem.limits):
            used = sum(
                use.amount * (ground.standing + found.new)[ground.place_at[use.place], ground.kind_at[use.kind]]
                for use in limit.uses
            )
            assert (used <= np.array(problem.at(limit.limit)) - over[at] + 1e-6).all()
        for period in range(len(problem.periods)):
            come = future.arrival_hosts[future.arrival <= period].sum()
            assert found.new[..., period].sum() + found.waiting[..., period].sum() == come


def test_what_binds_is_the_limit_that_stops_the_kind_that_waits():
    ground, future, found = walked(hall([{"kind": "own", "period": 1, "hosts": 5}], limit=60.0, standing=2))
    stop = ground.stop(found, future, site=0, period=2)
    assert (ground.problem.kinds[stop.kind].slug, stop.limit.object, stop.free, stop.needed) == (
        "own",
        "PDU dc1",
        10,
        15,
    )


def test_where_limits_leave_room_chips_bind():
    ground, future, found = walked(hall([{"kind": "own", "period": 1, "hosts": 1}], limit=60.0))
    assert ground.stop(found, future, site=0, period=2).limit is None
