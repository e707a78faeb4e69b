import itertools
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from fleet import fits
from fleet.fits import (
    FitStop,
    HostNeed,
    RackRoom,
    fits_most,
    gaps_fit,
    hosts_fit,
    hosts_place,
)
from tests.fleet.test_trees import dense, plain_tree, random_tree


@pytest.mark.parametrize(
    ("free_w", "free_u", "expected"),
    [
        pytest.param(22_000.0, 48, 4, id="power binds"),
        pytest.param(99_000.0, 13, 2, id="height binds"),
        pytest.param(5_499.9, 48, 0, id="not quite one"),
        pytest.param(-300.0, 48, 0, id="overdrawn is none, not minus one"),
        pytest.param(11_000.0, 12, 2, id="exactly two"),
    ],
)
def test_a_rack_takes_what_power_and_height_both_allow(free_w, free_u, expected):
    count = hosts_fit(free_w=np.array([free_w]), free_u=np.array([free_u]), host_w=5500.0, host_u=6)
    assert count.tolist() == [expected]


racks = st.lists(st.tuples(st.integers(-20, 60), st.integers(0, 50)), min_size=1, max_size=6)


@given(racks=racks, host_kw=st.integers(1, 20), host_u=st.integers(1, 12))
def test_counting_agrees_with_putting_hosts_in_one_by_one(racks, host_kw, host_u):
    free_w = np.array([kw * 1000.0 for kw, _ in racks])
    free_u = np.array([u for _, u in racks])
    one_by_one = []
    for kw, u in racks:
        placed = 0
        while kw >= host_kw * (placed + 1) and u >= host_u * (placed + 1):
            placed += 1
        one_by_one.append(placed)
    assert hosts_fit(free_w=free_w, free_u=free_u, host_w=host_kw * 1000.0, host_u=host_u).tolist() == one_by_one


@given(room=st.lists(st.integers(0, 9), max_size=8), wanted=st.integers(0, 60))
def test_placing_fills_the_first_racks_and_loses_nobody(room, wanted):
    placed = hosts_place(wanted=wanted, room=np.array(room, dtype=np.int64))
    assert placed.sum() == min(wanted, sum(room))
    assert all(0 <= got <= most for got, most in zip(placed, room, strict=True))
    touched = [at for at, got in enumerate(placed) if got]
    assert all(placed[at] == room[at] for at in range(touched[-1])) if touched else True


# --- gaps -------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("hosts", "expected"),
    [
        pytest.param([], 5, id="an empty rack of ten"),
        pytest.param([(2, 3)], 3, id="one unit below, six above"),
        pytest.param([(3, 2), (4, 2)], 3, id="two that overlap take their union"),
        pytest.param([(10, 4)], 4, id="what reaches beyond the top"),
        pytest.param([(5, 2), (0, 4)], 2, id="not known: into the gap below"),
        pytest.param([(4, 2), (0, 4)], 1, id="not known: above, because three do not take four"),
        pytest.param([(0, 3), (0, 4)], 1, id="not known: one on the other"),
        pytest.param([(0, 8), (0, 4), (0, 2)], 0, id="not known: one finds no gap, the next does"),
    ],
)
def test_hosts_of_two_units_go_into_whole_gaps(hosts, expected):
    position, height = np.array(hosts, dtype=np.int64).reshape(-1, 2).T
    rack = np.ones(len(hosts), dtype=np.int64)
    found = gaps_fit(
        rack_height_u=np.array([1, 10, 6]),
        host_rack=rack,
        host_position_u=position,
        host_height_u=height,
        height_u=2,
    )
    assert found.tolist() == [0, expected, 3]


@given(
    heights=st.lists(st.integers(0, 12), min_size=1, max_size=4),
    hosts=st.lists(st.tuples(st.integers(0, 3), st.integers(0, 14), st.integers(0, 5)), max_size=12),
    height_u=st.integers(1, 5),
)
def test_gaps_are_those_of_units_ticked_off_one_by_one(heights, hosts, height_u):
    hosts = [host for host in hosts if host[0] < len(heights)]
    expected = []
    for rack, top in enumerate(heights):
        free = [True] * top
        here = [(position, high) for at, position, high in hosts if at == rack]
        for position, high in here:
            for unit in range(position - 1, min(top, position - 1 + high)) if position else ():
                free[unit] = False
        for position, high in here:
            low = next((low for low in range(top - high + 1) if all(free[low : low + high])), None)
            if not position and high and low is not None:
                free[low : low + high] = [False] * high
        runs = [len(list(run)) for is_free, run in itertools.groupby(free) if is_free]
        expected.append(sum(run // height_u for run in runs))
    rack, position, height = np.array(hosts, dtype=np.int64).reshape(-1, 3).T
    found = gaps_fit(
        rack_height_u=np.array(heights),
        host_rack=rack,
        host_position_u=position,
        host_height_u=height,
        height_u=height_u,
    )
    assert found.tolist() == expected


def test_a_host_of_no_height_finds_room_in_a_full_rack():
    none = np.zeros(0, dtype=np.int64)
    found = gaps_fit(rack_height_u=np.array([0]), host_rack=none, host_position_u=none, host_height_u=none, height_u=0)
    assert found[0] >= 1000


# --- exact fits -------------------------------------------------------------------------------------------------------
NEED = HostNeed(height_u=2, power_w=1.0, apparent_va=1.0, heat_w=1.0)


def rooms(hosts_by_units, **free):
    """Return racks that only their height limits, but for what is given."""
    units = np.array(hosts_by_units, dtype=np.int64)
    none = np.full(len(units), np.inf)
    given = {
        "slugs": tuple(f"r{at}" for at in range(len(units))),
        "is_open": np.ones(len(units), dtype=bool),
        "hosts_by_units": units,
        "free_u": units * NEED.height_u,
        "free_w": none,
        "free_heat_w": none,
        "free_kg": none,
        "free_ports": none,
        "is_liquid": np.zeros(len(units), dtype=bool),
    }
    return RackRoom(**(given | {name: np.array(value) for name, value in free.items()}))


def fit_on(tree, room, load=None, **given):
    load = np.zeros(len(room.slugs)) if load is None else np.array(load)
    asked = {"need": NEED, "room": room, "power": tree, "power_load": load, "cooling": None, "heat_load": load}
    return fits_most(**(asked | given))


@pytest.mark.parametrize(
    ("room", "need", "expected", "stop"),
    [
        pytest.param({}, {}, 7, ("rack_units", "r1"), id="height"),
        pytest.param({"free_w": [2.9, 9]}, {}, 5, ("rack_power", "r0"), id="power"),
        pytest.param({"free_heat_w": [2, 0.0]}, {}, 2, ("rack_cooling", "r0"), id="heat"),
        pytest.param({"free_ports": [9, 5.0]}, {"ports": 4}, 3, ("ports", "r0"), id="ports"),
        pytest.param({"free_kg": [9, 5.0]}, {"weight_kg": 4}, 3, ("weight", "r0"), id="weight"),
        pytest.param(
            {"is_liquid": [False, True]}, {"is_liquid": True}, 3, ("cooling_kind", "r0"), id="kind of cooling"
        ),
        pytest.param({"free_ports": [0, 0.0], "free_kg": [-3, -3.0]}, {}, 7, ("rack_units", "r1"), id="not needed"),
        pytest.param({"free_w": [-0.5, -1.5]}, {}, 0, ("rack_power", "r0"), id="overdrawn is none, not less"),
    ],
)
def test_every_rack_has_limits_of_its_own(room, need, expected, stop):
    room = rooms([4, 3], **({"free_u": [8, 7]} | room))
    fit = fit_on(None, room, need=replace(NEED, **need))
    assert fit.count == fit.hosts.sum() == expected
    assert stop in [(one.constraint, one.object) for one in fit.stops]
    assert sum(one.racks for one in fit.stops) == 2


def test_a_rack_counts_for_what_it_lacks_most_of():
    room = rooms([2, 2], free_u=[5, 5], free_w=[2.9, 2.1])  # a host lacks half its height, and 0.1 or 0.9 of its power
    assert fit_on(None, room).stops == (
        FitStop("rack_power", "r1", "", 0.5, 1),
        FitStop("rack_units", "r0", "", 0.5, 1),
    )


@pytest.mark.parametrize(("is_open", "scope"), [([False, True], [True, False]), ([False, False], None)])
def test_where_no_rack_is_open_nothing_fits(is_open, scope):
    fit = fit_on(None, rooms([3, 3], is_open=is_open), scope=None if scope is None else np.array(scope))
    assert (fit.count, fit.stops) == (0, (FitStop("rack_closed", "", "", 1.0, 0),))


@pytest.mark.parametrize(
    ("usable", "load", "expected", "stop"),
    [
        pytest.param(5.9, 0.0, 5, "feed_failover_power", id="what one feed bears"),
        pytest.param(5.0, 0.0, 5, "feed_failover_power", id="exactly that"),
        pytest.param(5.9, 3.0, 2, "feed_failover_power", id="beside what runs"),
        pytest.param(5.9, 8.0, 0, "feed_failover_power", id="overloaded when one fails"),
        pytest.param(99.0, 0.0, 9, "rack_units", id="plenty"),
    ],
)
def test_two_feeds_bear_what_one_of_them_does(usable, load, expected, stop):
    tree = plain_tree({"a": "", "b": ""}, ["a b"], usable={"a": usable, "b": usable})
    fit = fit_on(tree, rooms([9]), [load])
    assert (fit.count, fit.stops[0].constraint) == (expected, stop)


def test_one_feed_stops_without_a_failure():
    fit = fit_on(plain_tree({"a": ""}, ["a"], usable={"a": 2.5}), rooms([9]))
    assert (fit.count, fit.stops) == (2, (FitStop("feed_power", "a", "", 1.0, 1),))


def test_a_panel_that_three_racks_share_is_told_once_with_the_failure_that_fills_it():
    feeds = {f"{side}{rack}": side for rack in range(3) for side in "ab"}
    tree = plain_tree({"a": "", "b": "", **feeds}, ["a0 b0", "a1 b1", "a2 b2"], usable={"a": 4.5, "b": 9})
    fit = fit_on(tree, rooms([3, 3, 3]))
    assert (fit.count, fit.hosts.tolist()) == (4, [3, 1, 0])
    assert fit.stops == (
        FitStop("power_node_failover", "a", "b", 2 / 3, 2),
        FitStop("rack_units", "r0", "", 1 / 3, 1),
    )


def test_cooling_binds_beside_power():
    cooling = plain_tree({"c1": "", "c2": ""}, ["c1 c2", "c1 c2"], usable={"c1": 3, "c2": 3})
    power = plain_tree({"p": ""}, ["p", "p"], usable={"p": 5})
    fit = fit_on(power, rooms([9, 9]), cooling=cooling)
    assert fit.count == 3
    assert {stop.constraint for stop in fit.stops} == {"cooling_node_failover"}
    assert fit_on(power, rooms([9, 9])).count == 5
    assert fit_on(power, rooms([9, 9]), cooling=cooling, need=replace(NEED, heat_w=0.0)).count == 5


def test_a_node_that_is_full_takes_no_more_and_the_rest_takes_what_it_can():
    tree = plain_tree({"p": "", "q": ""}, ["p", "p", "q"], usable={"p": 5, "q": 5})
    fit = fit_on(tree, rooms([4, 4, 4]), [7.0, 0.0, 2.0])
    assert (fit.hosts.tolist(), fit.stops[0].object) == ([0, 0, 3], "p")


def test_racks_out_of_scope_take_none_and_their_load_counts():
    tree = plain_tree({"p": ""}, ["p", "p"], usable={"p": 5})
    fit = fit_on(tree, rooms([9, 9]), [0.0, 2.0], scope=np.array([True, False]))
    assert fit.hosts.tolist() == [3, 0]


def test_racks_that_load_a_node_less_go_first():
    """In order of racks only 4 would fit: the first rack takes twice as much of the UPS as the others."""
    tree = plain_tree(
        {"ups": "", "old": "ups", "new": "ups"}, ["old", "new", "new"], usable={"ups": 8}, efficiency={"old": 0.5}
    )
    assert fit_on(tree, rooms([4, 4, 4])).hosts.tolist() == [0, 4, 4]


def test_where_no_order_of_filling_is_best_the_integer_program_decides():
    """Each node pairs two of five racks: a linear program would put half of the hosts in everywhere."""
    names = [str(node) for node in range(5)]
    tree = plain_tree(dict.fromkeys(names, ""), [f"{rack} {(rack + 1) % 5}" for rack in range(5)])
    tree = replace(tree, usable=np.full(5, 3.0))
    fit = fit_on(tree, rooms([4] * 5))
    shares, _ = dense(tree)
    placings = np.array(list(itertools.product(range(5), repeat=5)))
    holds = (np.tensordot(placings, shares, axes=(1, 2)) <= 3 + 1e-9).all(axis=(1, 2))
    assert fit.count == placings[holds].sum(axis=1).max()


def test_the_integer_program_finds_what_rounding_misses():
    table, limit, most = np.array([[0.0, 1, 2], [3, 1, 0]]), np.array([7.0, 6.0]), np.full(3, 4)
    rounded, unsure = fits._program_most(table, limit, most, is_last=False)
    decided, unsure_still = fits._program_most(table, limit, most, is_last=True)
    assert (rounded.sum(), unsure, decided.sum(), unsure_still) == (5, True, 6, False)


def random_question(seed):
    """Return a question about a few racks on two random trees, and caps of the racks by their own limits."""
    rng = np.random.default_rng(seed)
    racks = int(rng.integers(2, 6))
    trees = [random_tree(rng, racks) for _ in range(2)]
    loads = [rng.choice([0, 1, 2, 3.5, 8], racks) * rng.choice([0, 0.5, 1]) for _ in range(2)]
    units, scope = rng.integers(0, 5, racks), rng.random(racks) < 0.9
    free_w = np.where(rng.random(racks) < 0.3, rng.integers(0, 9, racks), np.inf)
    room = rooms(units, is_open=rng.random(racks) < 0.9, free_w=free_w)
    need = HostNeed(2, 2.0, rng.choice([1, 2, 3.5]), rng.choice([1, 2, 2.5]))
    caps = np.where(room.is_open & scope, np.minimum(units, np.floor(free_w / 2)), 0).astype(np.int64)
    asked = dict(zip(("power", "cooling", "power_load", "heat_load"), (*trees, *loads), strict=True))
    return asked | {"need": need, "room": room, "scope": scope}, caps


def placings_hold(asked, placings):
    """Return which of some placings keep every node of both trees within its limit under every failure."""
    holds = np.ones(len(placings), dtype=bool)
    for name, load_name, each in (
        ("power", "power_load", asked["need"].apparent_va),
        ("cooling", "heat_load", asked["need"].heat_w),
    ):
        shares, house = dense(asked[name])
        present = shares @ asked[load_name] + house
        added = np.tensordot(placings, shares, axes=(1, 2)) * each
        within = (present < asked[name].usable) & (present + added <= asked[name].usable * (1 + 1e-9))
        holds &= (within | (added == 0)).all(axis=(1, 2))
    return holds


@pytest.mark.parametrize("first", range(0, 400, 50))
def test_the_count_is_the_largest_of_all_placings(first):
    for seed in range(first, first + 50):
        asked, caps = random_question(seed)
        fit = fits_most(**asked)
        placings = np.array(list(itertools.product(*[range(most + 1) for most in caps])))
        best = placings[placings_hold(asked, placings)].sum(axis=1).max()
        assert fit.count == fit.hosts.sum() == best, seed
        assert (fit.hosts <= caps).all(), seed
        assert placings_hold(asked, fit.hosts[None]).all(), seed


@pytest.mark.parametrize("first", range(0, 200, 50))
def test_one_more_host_in_any_rack_breaks_what_is_said_to_stop_it(first):
    for seed in range(first, first + 50):
        asked, caps = random_question(seed)
        fit = fits_most(**asked)
        open_racks = asked["room"].is_open & asked["scope"]
        assert sum(stop.racks for stop in fit.stops) == open_racks.sum(), seed
        by_tree = sum(stop.racks for stop in fit.stops if "node" in stop.constraint or "feed" in stop.constraint)
        more = fit.hosts + np.eye(len(caps), dtype=np.int64)
        full = (fit.hosts == caps) & open_racks
        assert by_tree >= (open_racks & ~full).sum(), seed  # a rack with room of its own is stopped by a tree
        assert by_tree <= (open_racks & ~placings_hold(asked, more)).sum(), seed


@settings(deadline=None)
@given(seed=st.integers(0, 10_000))
def test_one_more_rack_in_scope_never_lowers_the_count(seed):
    asked, _ = random_question(seed)
    asked["scope"][0] = False
    fewer = fits_most(**asked).count
    asked["scope"][0] = True
    assert fits_most(**asked).count >= fewer


def test_the_loss_of_a_feed_may_bind_where_no_loss_of_a_panel_does():
    """Most racks hang on the lossless side alone: when that fails they are dark, so one feed is what the UPS fears."""
    nodes = {"ups": "", "good": "ups", "bad": "ups", "g0": "good", "b0": "bad", "g1": "good", "g2": "good"}
    tree = plain_tree(nodes, ["g0 b0", "g1", "g2"], usable={"ups": 9}, efficiency={"bad": 0.5})
    asked = {"need": NEED, "power": tree, "power_load": np.zeros(3), "cooling": tree, "heat_load": np.zeros(3)}
    fit = fits_most(room=rooms([4, 4, 4]), **asked)
    placings = np.array(list(itertools.product(range(5), repeat=3)))
    assert fit.count == placings[placings_hold(asked, placings)].sum(axis=1).max() == 8
    assert fit.hosts.tolist() == [0, 4, 4]
    fit = fits_most(room=rooms([4, 4, 0]), **asked)
    assert fit.count == placings[placings_hold(asked, placings) & (placings[:, 2] == 0)].sum(axis=1).max()
    assert ("power_node_failover", "ups", "g0") in [(stop.constraint, stop.object, stop.failure) for stop in fit.stops]


def test_a_placing_of_fewer_is_part_of_the_fit_and_keeps_every_limit():
    tree = plain_tree({"a": "", "b": ""}, ["a b", "a b"], usable={"a": 5, "b": 5})
    load = np.zeros(2)
    asked = {"need": NEED, "power": tree, "power_load": load, "cooling": tree, "heat_load": load}
    fit = fits_most(room=rooms([4, 4]), **asked)
    assert fit.count == 5
    placed = np.array([hosts_place(wanted=wanted, room=fit.hosts) for wanted in range(8)])
    assert placed.sum(axis=1).tolist() == [0, 1, 2, 3, 4, 5, 5, 5]
    assert placings_hold(asked, placed).all()
