"""Supply trees (and odd gaps) against the plain oracle next door, and the oracle itself against cases done by hand."""

import math
import random
from fractions import Fraction

import numpy as np
import pytest
from numpy.testing import assert_allclose

from fleet.fits import gaps_fit
from fleet.trees import SupplyTree, TreeError, rack_limits, racks_dark, tree_alive, tree_check, tree_loads
from tests.fleet import oracles
from tests.fleet.shares import tree_shares

blocks_of_50 = pytest.mark.parametrize("first", range(0, 500, 50))


# --- the oracle itself, by hand ---------------------------------------------------------------------------------------
def two_feeds(usable=36_227):
    """One rack on an A and a B feed of 400 V, three-phase, 63 A, of which 83 % may be drawn."""
    tree = oracles.tree_empty(racks=1)
    tree["leaves"][0] = [oracles.node_add(tree, slug, usable=usable) for slug in ("feed-a", "feed-b")]
    return tree


def test_by_hand_eight_hosts_on_two_feeds_overload_the_one_that_is_left():
    _, worst, failures = oracles.worst_loads(two_feeds(), {0: 8 * 7000})["feed-a"]
    now = oracles.node_loads(two_feeds(), {0: 8 * 7000})
    assert [round(100 * float(now[slug]) / 36_227, 1) for slug in ("feed-a", "feed-b")] == [77.3, 77.3]
    assert (round(100 * float(worst) / 36_227, 1), failures) == (154.6, ["feed-b"])


def test_by_hand_a_limit_of_two_feeds_is_what_one_of_them_bears():
    assert oracles.rack_limit(two_feeds(), 0) == 36_227


def test_by_hand_losses_and_house_load_add_up_on_the_way_to_the_top():
    tree = oracles.tree_empty(racks=2)
    oracles.node_add(tree, "utility")
    oracles.node_add(tree, "ups", on=["utility"], efficiency="0.9", house=100)
    oracles.node_add(tree, "panel", on=["ups"], efficiency="0.8", house=20)
    tree["leaves"][0] = ["panel"]
    loads = oracles.node_loads(tree, {0: 60, 1: 999})  # rack 1 is not on the tree: its load is nowhere
    assert loads == {"panel": 80, "ups": 200, "utility": Fraction(2000, 9)}


def block_redundant():
    tree = oracles.tree_empty(racks=2)
    for slug in ("block-0", "block-1", "catcher"):
        oracles.node_add(tree, slug)
    for rack in (0, 1):
        panel = oracles.node_add(tree, f"panel-{rack}", on=[f"block-{rack}"], standby=["catcher"])
        tree["leaves"][rack] = [panel]
    return tree


def test_by_hand_a_catcher_bears_nothing_until_the_largest_block_fails():
    found = oracles.worst_loads(block_redundant(), {0: 10, 1: 30})
    assert found["catcher"] == (0, 30, ["block-1"])
    assert found["block-0"] == (10, 10, [])
    assert oracles.dark_racks(block_redundant(), "block-0") == set()
    assert oracles.dark_racks(block_redundant(), "panel-0") == {0}


def test_by_hand_three_sides_at_two_thirds_bear_half_as_much_again():
    tree = oracles.tree_empty(racks=3)
    for slug in "abc":
        oracles.node_add(tree, slug)
    tree["leaves"] = {0: ["a", "b"], 1: ["b", "c"], 2: ["c", "a"]}
    for now, worst, failures in oracles.worst_loads(tree, dict.fromkeys(range(3), 20)).values():
        assert (now, worst, len(failures)) == (20, 30, 2)


def test_by_hand_the_dead_pass_death_on_and_their_load_is_lost():
    tree = two_feeds()
    oracles.node_add(tree, "utility")
    tree["feeds"]["feed-a"] = {"utility": False}
    tree["feeds"]["feed-b"] = {"utility": True}
    assert oracles.living_nodes(tree, "utility") == set()
    assert oracles.dark_racks(tree, "utility") == {0}
    assert set(oracles.node_loads(tree, {0: 5}, "utility").values()) == {0}


def hosts_on_two_feeds(usable_va, load_va=0, most=9):
    """Return a question about hosts of 7 kVA in a rack with two feeds beside a rack that is on no feed."""
    tree = two_feeds(usable_va) | {"racks": 2}
    room = {"open": True, "scope": True, "hosts_by_units": most, **dict.fromkeys(oracles.LOCAL.values())}
    return {
        "need": dict.fromkeys(oracles.LOCAL, 1),
        "rooms": [room, room | {"hosts_by_units": 2}],
        "power": {"tree": tree, "load": {0: load_va, 1: 0}, "per_host": 7000},
        "cooling": {"tree": oracles.tree_empty(racks=2), "load": {0: 0, 1: 0}, "per_host": 7000},
    }


@pytest.mark.parametrize(
    ("usable_va", "load_va", "expected"),
    [
        pytest.param(36_227, 0, 5, id="one feed bears five"),
        pytest.param(35_000, 0, 5, id="exactly five"),
        pytest.param(36_227, 20_000, 2, id="beside what runs"),
        pytest.param(36_227, 36_227, 0, id="full"),
        pytest.param(36_227, 50_000, 0, id="overloaded when one feed fails"),
        pytest.param(None, 50_000, 9, id="unknown does not bind"),
    ],
)
def test_by_hand_hosts_fit_on_what_one_feed_bears(usable_va, load_va, expected):
    case = hosts_on_two_feeds(usable_va, load_va)
    assert oracles.most_hosts(case) == expected + 2  # the rack without a feed takes two whatever happens
    assert oracles.placing_holds(case, [expected, 2])
    assert not oracles.placing_holds(case, [expected + 1, 2])


def test_by_hand_gaps_count_whole_hosts_and_hosts_without_a_position_stand_lowest():
    hosts = [(0, 0, 3), (0, 5, 2), (1, 0, 4), (1, 0, 4)]  # rack 0: units 1-3 and 5-6 are taken
    assert oracles.gaps_fit_plain(rack_height_u=[10, 10], hosts=hosts, height_u=2) == [2, 1]
    assert oracles.gaps_fit_plain(rack_height_u=[10, 10], hosts=hosts, height_u=1) == [5, 2]


# --- trees ------------------------------------------------------------------------------------------------------------
def supply_tree(tree, seed=0):
    """Return the tree of an oracle as a SupplyTree, its links and leaves in any order."""
    slugs = list(tree["nodes"])
    at = {slug: i for i, slug in enumerate(slugs)}
    links = [(at[slug], at[on], standby) for slug in slugs for on, standby in tree["feeds"][slug].items()]
    leaves = [(rack, at[slug]) for rack, on in tree["leaves"].items() for slug in on]
    for rows in (links, leaves):
        random.Random(seed).shuffle(rows)
    nodes = [tree["nodes"][slug] for slug in slugs]
    return SupplyTree(
        slugs=tuple(slugs),
        usable=np.array([math.inf if node["usable"] is None else float(node["usable"]) for node in nodes]),
        efficiency_ratio=np.array([float(node["efficiency"]) for node in nodes]),
        house=np.array([float(node["house"]) for node in nodes]),
        link_node=np.array([node for node, _, _ in links], dtype=np.int64),
        link_source=np.array([source for _, source, _ in links], dtype=np.int64),
        link_standby=np.array([standby for _, _, standby in links], dtype=bool),
        leaf_rack=np.array([rack for rack, _ in leaves], dtype=np.int64),
        leaf_node=np.array([node for _, node in leaves], dtype=np.int64),
        racks=tree["racks"],
    )


def by_rack(numbers, racks):
    """Return numbers by rack as an array, 0 where there is none."""
    return np.array([float(numbers.get(rack, 0)) for rack in range(racks)])


def assert_same(found, expected, seed):
    """Assert that floats agree with fractions to a billionth."""
    assert_allclose(found, [float(number) for number in expected], rtol=1e-9, atol=1e-9, err_msg=f"{seed=}")


def trees_of(first):
    """Return (seed, tree of the oracle, the same as a SupplyTree) of a block of seeds."""
    trees = [(seed, oracles.random_tree(seed)) for seed in range(first, first + 50)]
    return [(seed, tree, supply_tree(tree, seed)) for seed, tree in trees]


@blocks_of_50
def test_loads_and_the_worst_failure_of_random_trees(first):
    for seed, tree, supply in trees_of(first):
        rack_load = oracles.random_rack_load(seed, tree["racks"])
        found = tree_loads(supply, by_rack(rack_load, tree["racks"]))
        now, worst, failures = zip(*oracles.worst_loads(tree, rack_load).values(), strict=True)
        assert_same(found.now, now, seed)
        assert_same(found.worst, worst, seed)
        assert_allclose(found.usable, supply.usable, err_msg=f"{seed=}")
        assert_allclose(found.headroom, supply.usable - [float(load) for load in worst], rtol=1e-9, atol=1e-6)
        for i, reached in enumerate(failures):
            named = [None, *tree["nodes"]][found.worst_failure[i] + 1]  # -1 where no failure raises the load
            assert named in (reached or [None]), (seed, supply.slugs[i])


@blocks_of_50
def test_what_lives_and_what_is_dark_in_random_trees(first):
    for seed, tree, supply in trees_of(first):
        tree_check(supply)
        for failed, slug in enumerate([None, *tree["nodes"]], start=-1):
            at = None if slug is None else failed
            living, dark = oracles.living_nodes(tree, slug), oracles.dark_racks(tree, slug)
            assert tree_alive(supply, at).tolist() == [node in living for node in tree["nodes"]], (seed, slug)
            assert racks_dark(supply, at).tolist() == [rack in dark for rack in range(tree["racks"])], (seed, slug)


@blocks_of_50
def test_shares_and_rack_limits_of_random_trees(first):
    for seed, tree, supply in trees_of(first):
        nodes, racks = list(tree["nodes"]), range(tree["racks"])
        for failed in [None, *random.Random(seed).sample(range(len(nodes)), 2)]:
            shares = oracles.node_shares(tree, None if failed is None else nodes[failed])
            expected = [float(shares[slug, rack]) for slug in nodes for rack in racks]
            found = tree_shares(supply, failed)
            assert found.shape == (len(nodes), len(racks))
            assert_allclose(found.ravel(), expected, rtol=1e-9, atol=1e-12, err_msg=f"{seed=} {failed=}")
        limits = [oracles.rack_limit(tree, rack) for rack in racks]
        assert_same(rack_limits(supply), [math.inf if limit is None else limit for limit in limits], seed)


@blocks_of_50
def test_a_link_upwards_is_a_cycle(first):
    for seed in range(first, first + 50):
        tree, rng = oracles.random_tree(seed), random.Random(seed)
        slug = rng.choice(list(tree["nodes"]))
        above = [slug]  # a way up, of any length: nothing but itself where nothing feeds the node
        while tree["feeds"][above[-1]] and rng.random() < 0.7:
            above.append(rng.choice(list(tree["feeds"][above[-1]])))
        tree["feeds"][above[-1]][slug] = rng.random() < 0.5
        with pytest.raises(TreeError):
            tree_check(supply_tree(tree, seed))


# --- gaps: what random racks do not hold ------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("host", "height_u", "expected"),
    [
        pytest.param((0, 21, 1), 2, 5, id="a host drawn above the top takes nothing and adds nothing"),
        pytest.param((0, 21, 0), 2, 5, id="nor does one of no height"),
        pytest.param((0, 5, 0), 8, 1, id="a host of no height does not split a gap"),
        pytest.param((0, 9, 4), 8, 1, id="a host may reach beyond the top"),
        pytest.param((0, 0, 12), 2, 5, id="one that no gap takes is left out"),
    ],
)
def test_gaps_around_an_odd_host_in_a_rack_of_ten_units(host, height_u, expected):
    rack, position, height = np.array([host]).T
    found = gaps_fit(
        rack_height_u=np.array([10]),
        host_rack=rack,
        host_position_u=position,
        host_height_u=height,
        height_u=height_u,
    )
    assert oracles.gaps_fit_plain(rack_height_u=[10], hosts=[host], height_u=height_u) == [expected]
    assert found.tolist() == [expected]
