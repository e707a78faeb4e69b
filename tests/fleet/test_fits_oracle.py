"""How many hosts fit, against an enumeration of every placing in exact arithmetic."""

import math
from functools import cache

import numpy as np
import pytest

from fleet.fits import HostNeed, RackRoom, fits_most, gaps_fit
from tests.fleet import oracles
from tests.fleet.test_tree_oracle import by_rack, supply_tree

blocks_of_50 = pytest.mark.parametrize("first", range(0, 300, 50))


@cache
def fit_of(seed):
    """Return a random question of the oracle, and the answer to it."""
    case = oracles.random_fits_case(seed)
    rooms, need = case["rooms"], case["need"]
    racks = len(rooms)
    free = {
        one: np.array([math.inf if room[name] is None else float(room[name]) for room in rooms])
        for one, name in oracles.LOCAL.items()
    }
    units = np.array([room["hosts_by_units"] for room in rooms])
    room = RackRoom(
        slugs=tuple(f"rack-{at}" for at in range(racks)),
        is_open=np.array([room["open"] for room in rooms]),
        hosts_by_units=units,
        free_u=units * need["height_u"],
        free_w=free["power_w"],
        free_heat_w=free["heat_w"],
        free_kg=free["weight_kg"],
        free_ports=free["ports"],
        is_liquid=np.zeros(racks, dtype=bool),
    )
    trees = {name: supply_tree(case[name]["tree"], seed) for name in ("power", "cooling")}
    fit = fits_most(
        need=HostNeed(**need),
        room=room,
        power=trees["power"],
        power_load=by_rack(case["power"]["load"], racks),
        cooling=trees["cooling"],
        heat_load=by_rack(case["cooling"]["load"], racks),
        scope=np.array([room["scope"] for room in rooms]),
    )
    return case, fit


@blocks_of_50
def test_the_count_is_the_largest_of_any_placing_and_the_placing_holds(first):
    for seed in range(first, first + 50):
        case, fit = fit_of(seed)
        assert fit.count == oracles.most_hosts(case), seed
        assert fit.hosts.sum() == fit.count
        assert oracles.placing_holds(case, dict(enumerate(fit.hosts.tolist()))), seed


@blocks_of_50
def test_every_rack_asked_about_is_stopped_by_something_that_has_a_name(first):
    for seed in range(first, first + 50):
        case, fit = fit_of(seed)
        asked = sum(room["open"] and room["scope"] for room in case["rooms"])
        assert sum(stop.racks for stop in fit.stops) == asked, seed
        assert sum(stop.share_ratio for stop in fit.stops) == pytest.approx(1)
        assert all(stop.constraint for stop in fit.stops)


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_gaps_are_those_of_a_plain_bitmap(first):
    for seed in range(first, first + 50):
        heights, hosts = oracles.random_racks(seed)
        rack, position, height = np.array(hosts, dtype=np.int64).reshape(-1, 3).T
        for height_u in (1, 2, 4, 8):
            found = gaps_fit(
                rack_height_u=np.array(heights),
                host_rack=rack,
                host_position_u=position,
                host_height_u=height,
                height_u=height_u,
            )
            expected = oracles.gaps_fit_plain(rack_height_u=heights, hosts=hosts, height_u=height_u)
            assert found.tolist() == expected, (seed, height_u)
