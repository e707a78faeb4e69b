"""Supply trees: shapes of redundancy by mental arithmetic, and the fast way against the dense one on any graph."""

import math
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from fleet.trees import (
    SLACK,
    SupplyTree,
    TreeError,
    rack_limits,
    rack_rooms,
    racks_below,
    racks_dark,
    rows_over,
    stranded,
    tree_alive,
    tree_check,
    tree_loads,
)
from tests.fleet.shares import tree_shares

FEED_VA = 415 * 63 * math.sqrt(3) * 0.8  # a three-phase feed of 63 A, of which 80 % may be drawn for hours


def plain_tree(nodes, racks, usable=None, efficiency=None, house=None):
    """Return a tree of {node: "sources" or "sources|standby sources"} and the leaf nodes of each rack, as texts."""
    slugs = list(nodes)
    at = {slug: place for place, slug in enumerate(slugs)}
    links = [
        (at[slug], at[source], bool(standby))
        for slug, text in nodes.items()
        for standby, part in enumerate(text.split("|"))
        for source in part.split()
    ]
    leaves = [(rack, at[slug]) for rack, text in enumerate(racks) for slug in text.split()]
    node, source, standby = np.array(links, dtype=np.int64).reshape(-1, 3).T
    rack, leaf = np.array(leaves, dtype=np.int64).reshape(-1, 2).T
    figures = [
        np.array([given.get(slug, default) for slug in slugs], dtype=np.float64)
        for given, default in ((usable or {}, np.inf), (efficiency or {}, 1.0), (house or {}, 0.0))
    ]
    return SupplyTree(tuple(slugs), *figures, node, source, standby.astype(bool), rack, leaf, len(racks))


def load_of(loads, tree, slug):
    """Return load now, at worst, and the name of the failure that gives the latter."""
    at = tree.slugs.index(slug)
    failure = loads.worst_failure[at]
    return loads.now[at], loads.worst[at], tree.slugs[failure] if failure >= 0 else None


# --- by mental arithmetic ---------------------------------------------------------------------------------------------
def test_eight_hosts_on_two_feeds_overload_the_one_that_is_left():
    tree = plain_tree({"a": "", "b": ""}, ["a b"], usable={"a": FEED_VA, "b": FEED_VA})
    loads = tree_loads(tree, np.array([8 * 7000.0]))
    assert int(FEED_VA) == 36_227
    assert_allclose(100 * loads.now_ratio, 77.3, atol=0.05)
    assert_allclose(100 * loads.worst_ratio, 154.6, atol=0.05)
    assert loads.worst_failure.tolist() == [1, 0]
    assert_allclose(loads.headroom, FEED_VA - 56_000)
    assert rack_limits(tree).tolist() == [FEED_VA]


def test_without_redundancy_no_failure_raises_a_load():
    tree = plain_tree({"ups": "", "pdu": "ups"}, ["pdu", "pdu"])
    loads = tree_loads(tree, np.array([3.0, 4.0]))
    assert [load_of(loads, tree, slug) for slug in ("ups", "pdu")] == [(7, 7, None)] * 2
    assert racks_dark(tree, 0).tolist() == [True, True]


def test_four_ups_of_which_one_is_spare_bear_a_third_more():
    tree = plain_tree({"u1": "", "u2": "", "u3": "", "u4": "", "bus": "u1 u2 u3 u4"}, ["bus"])
    now, worst, _ = load_of(tree_loads(tree, np.array([120.0])), tree, "u2")
    assert (now, worst) == (30, 40)
    assert worst / now == pytest.approx(4 / 3)


def test_two_sides_bear_everything_alone():
    tree = plain_tree({"ups-a": "", "ups-b": "", "pdu-a": "ups-a", "pdu-b": "ups-b"}, ["pdu-a pdu-b"] * 10)
    loads = tree_loads(tree, np.full(10, 2.0))
    assert load_of(loads, tree, "ups-a") == (10, 20, "ups-b")  # the first of two that come to the same
    assert load_of(loads, tree, "pdu-b") == (10, 20, "ups-a")


def test_three_systems_at_two_thirds_are_full_when_one_fails():
    tree = plain_tree(dict.fromkeys("abc", ""), ["a b", "b c", "c a"], usable=dict.fromkeys("abc", 30))
    loads = tree_loads(tree, np.full(3, 20.0))
    assert_allclose(loads.now_ratio, 2 / 3)
    assert_allclose(loads.worst_ratio, 1)
    assert loads.worst_failure.tolist() == [1, 0, 0]


def test_a_catcher_on_standby_bears_the_largest_block_that_fails_and_nothing_before():
    nodes = {"block-1": "", "block-2": "", "catcher": "", "sts-1": "block-1|catcher", "sts-2": "block-2|catcher"}
    tree = plain_tree(nodes, ["sts-1", "sts-2", "sts-2"])
    loads = tree_loads(tree, np.array([5.0, 4.0, 3.0]))
    assert load_of(loads, tree, "catcher") == (0, 7, "block-2")
    assert load_of(loads, tree, "block-2") == (7, 7, None)
    assert not racks_dark(tree, 0).any()
    assert racks_dark(tree, 4).tolist() == [False, True, True]


def test_racks_hang_on_every_node_on_the_way_up_standby_ones_too():
    tree = plain_tree({"u": "", "g": "", "a": "u|g", "b": "u"}, ["a b", "b", ""])
    hanging = {slug: row.tolist() for slug, row in zip(tree.slugs, racks_below(tree), strict=True)}
    assert hanging == {
        "u": [True, True, False],
        "g": [True, False, False],
        "a": [True, False, False],
        "b": [True, True, False],
    }


def test_losses_and_house_load_add_up_on_the_way_to_the_top():
    tree = plain_tree(
        {"utility": "", "ups": "utility", "panel": "ups"},
        ["panel", ""],
        efficiency={"ups": 0.9, "panel": 0.8},
        house={"ups": 100, "panel": 20},
    )
    assert_allclose(tree_loads(tree, np.array([60.0, 999.0])).now, [200 / 0.9, 200, 80])  # rack 2 is not on the tree


def test_a_node_with_house_load_takes_it_away_when_it_fails():
    tree = plain_tree({"ups": "", "a": "ups", "b": "ups"}, ["a b"], house={"a": 5.0})
    loads = tree_loads(tree, np.array([10.0]))
    assert load_of(loads, tree, "ups") == (15, 15, None)
    assert load_of(loads, tree, "a") == (10, 15, "b")


def test_a_lossless_feed_that_fails_is_the_worst_for_what_is_above_both():
    tree = plain_tree({"top": "", "good": "top", "bad": "top", "feed-1": "good", "feed-2": "bad"}, ["feed-1 feed-2"])
    tree = replace(tree, efficiency_ratio=np.array([1, 1, 0.5, 1, 1.0]))
    loads = tree_loads(tree, np.array([10.0]))
    assert load_of(loads, tree, "top") == (15, 20, "good")


def test_a_pair_given_twice_counts_once():
    tree = plain_tree({"a": "", "b": ""}, ["a a b"])
    assert tree_loads(tree, np.array([8.0])).now.tolist() == [4, 4]
    assert tree_shares(tree, None).tolist() == [[0.5], [0.5]]


def test_a_leaf_that_feeds_a_leaf_of_the_same_rack_bears_it_twice_over():
    tree = plain_tree({"a": "", "b": "a"}, ["a b"], usable={"a": 100, "b": 100})
    assert tree_loads(tree, np.array([10.0])).now.tolist() == [10, 5]
    assert rack_limits(tree).tolist() == [100]


@pytest.mark.parametrize("racks", [0, 3])
def test_a_tree_without_nodes_bears_nothing_and_limits_nothing(racks):
    tree = plain_tree({}, [""] * racks)
    tree_check(tree)
    load = np.ones(racks)
    loads = tree_loads(tree, load)
    assert len(loads.now) == len(loads.headroom) == len(tree_alive(tree, None)) == 0
    assert rack_limits(tree).tolist() == rack_rooms(tree, load).room.tolist() == [np.inf] * racks
    assert not racks_dark(tree, None).any()
    assert stranded(tree, loads, load).why == ()
    assert len(rows_over(tree, load, 0 * load).node) == 0


def test_a_ratio_of_nothing_known_is_none_and_of_nothing_allowed_is_infinite():
    tree = plain_tree({"a": "", "b": "", "c": ""}, ["a", "b", "c"], usable={"b": 0, "c": 0})
    assert tree_loads(tree, np.array([1.0, 1.0, 0.0])).now_ratio.tolist() == [0, np.inf, 0]


# --- what is wrong with a tree ----------------------------------------------------------------------------------------
def test_a_circle_is_told_in_its_order():
    tree = plain_tree({"top": "", "a": "top b", "b": "c", "c": "a", "d": "c"}, ["d"])
    with pytest.raises(TreeError, match="power runs in a circle: a -> b -> c -> a"):
        tree_check(tree)
    with pytest.raises(TreeError, match="circle"):
        tree_loads(tree, np.ones(1))


GOOD = plain_tree({"a": "", "b": "a"}, ["b"])


@pytest.mark.parametrize(
    ("wrong", "says"),
    [
        pytest.param({"link_source": np.array([1])}, "b is its own source", id="itself"),
        pytest.param({"link_source": np.array([2])}, "link_source points", id="no such node"),
        pytest.param({"leaf_rack": np.array([-1])}, "leaf_rack points", id="no such rack"),
        pytest.param({"leaf_rack": np.array([0, 0]), "leaf_node": np.array([1, 1])}, "b has one rack twice", id="pair"),
        pytest.param(
            {"link_node": np.array([1, 1]), "link_source": np.array([0, 0]), "link_standby": np.array([False, True])},
            "b has one source twice",
            id="link",
        ),
        pytest.param({"usable": np.array([1, np.nan])}, "b has a figure", id="nan"),
        pytest.param({"usable": np.array([-1.0, 1])}, "a has a figure", id="negative"),
        pytest.param({"house": np.array([0, np.inf])}, "b has a figure", id="infinite house load"),
        pytest.param({"efficiency_ratio": np.array([0.0, 1])}, "a has a figure", id="nothing comes out"),
        pytest.param({"efficiency_ratio": np.array([1, 1.1])}, "b has a figure", id="more comes out than goes in"),
        pytest.param({"house": np.zeros(3)}, "differ in length", id="a number too many"),
        pytest.param({"link_standby": np.zeros(0, dtype=bool)}, "differ in length", id="a flag too few"),
    ],
)
def test_what_cannot_be_is_refused(wrong, says):
    tree_check(GOOD)
    with pytest.raises(TreeError, match=says):
        tree_check(replace(GOOD, **wrong))


# --- any graph: the fast way against the dense one --------------------------------------------------------------------
def random_tree(rng, racks):
    """Return any graph: several sources, standby, racks on upper nodes or on feeds of their own, positions shuffled."""
    count, node, source, standby, rack, leaf = int(rng.integers(1, 9)), [], [], [], [], []
    upper, with_feeds = count, rng.random() < 0.5
    for low in range(1, count):
        for high in rng.permutation(low)[: rng.choice([0, 1, 1, 1, 2, 3])]:
            node, source, standby = [*node, low], [*source, high], [*standby, rng.random() < 0.25]
    for at in range(racks):
        for high in rng.permutation(upper)[: rng.choice([0, 1, 2, 2, 2, 3])]:
            rack = [*rack, at]
            if not with_feeds or rng.random() < 0.1:
                leaf = [*leaf, high]
                continue
            spare = {int(high): False} | ({int(rng.integers(upper)): True} if rng.random() < 0.2 else {})
            for one, is_standby in spare.items():
                node, source, standby = [*node, count], [*source, one], [*standby, is_standby]
            leaf, count = [*leaf, count], count + 1
    place = rng.permutation(count)
    whole = [np.array(values, dtype=np.int64) for values in (node, source, rack, leaf)]
    return SupplyTree(
        slugs=tuple(f"n{at}" for at in range(count)),
        usable=np.where(rng.random(count) < 0.2, np.inf, rng.integers(1, 40, count)),
        efficiency_ratio=rng.choice([1.0, 1.0, 0.5, 0.8, 0.9], count),
        house=rng.choice([0.0, 0.0, 0.0, 1.0, 2.0], count),
        link_node=place[whole[0]],
        link_source=place[whole[1]],
        link_standby=np.array(standby, dtype=bool),
        leaf_rack=whole[2],
        leaf_node=place[whole[3]],
        racks=racks,
    )


def dense(tree):
    """Return share [1+N, N, R] and house load [1+N, N] at every node under no failure (first) and that of each node."""
    count = len(tree.slugs)
    with_house = replace(  # house load is that of a rack that hangs on the one node
        tree,
        leaf_rack=np.concatenate([tree.leaf_rack, tree.racks + np.arange(count)]),
        leaf_node=np.concatenate([tree.leaf_node, np.arange(count)]),
        racks=tree.racks + count,
    )
    shares = np.stack([tree_shares(with_house, failed) for failed in (None, *range(count))])
    return shares[:, :, : tree.racks], shares[:, :, tree.racks :] @ tree.house


def random_case(seed):
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, int(rng.integers(1, 6)))
    tree_check(tree)
    load = rng.choice([0, 1, 2, 3.5, 8], tree.racks)
    shares, house = dense(tree)
    return tree, load, shares, shares @ load + house


blocks = pytest.mark.parametrize("first", range(0, 400, 100))


@blocks
def test_loads_are_those_of_the_dense_way(first):
    for seed in range(first, first + 100):
        tree, load, _, expected = random_case(seed)
        loads = tree_loads(tree, load)
        assert_allclose(loads.now, expected[0], rtol=1e-12, atol=1e-12, err_msg=f"{seed=}")
        worst = expected.max(axis=0)
        assert_allclose(loads.worst, worst, rtol=1e-9, atol=1e-12, err_msg=f"{seed=}")
        first_of = np.argmax(expected >= worst * (1 - SLACK), axis=0) - 1
        assert loads.worst_failure.tolist() == first_of.tolist(), seed


@blocks
def test_rooms_and_limits_of_racks_are_those_of_the_dense_way(first):
    for seed in range(first, first + 100):
        tree, load, shares, loads = random_case(seed)
        rooms, limits = rack_rooms(tree, load), rack_limits(tree)
        for rack in range(tree.racks):
            reached = shares[:, :, rack] > 0
            room = np.full(reached.shape, np.inf)
            np.divide(tree.usable * (1 + SLACK) - loads, shares[:, :, rack], out=room, where=reached)
            assert rooms.room[rack] == pytest.approx(room.min(), rel=1e-9, abs=1e-9), seed
            if np.isfinite(room.min()):
                assert room[rooms.failure[rack] + 1, rooms.node[rack]] == pytest.approx(room.min(), abs=1e-9), seed
            own = tree.leaf_node[tree.leaf_rack == rack]
            most = shares[:, own, rack].max(axis=0, initial=0)
            assert limits[rack] == pytest.approx((tree.usable[own] / most).min(initial=np.inf)), seed


@blocks
def test_rows_are_broken_rows_of_the_dense_way_and_none_is_missed(first):
    for seed in range(first, first + 100):
        tree, load, shares, loads = random_case(seed)
        more = load + np.random.default_rng(seed).choice([0, 0, 5.0, 20.0], tree.racks)
        allowed = np.maximum(tree.usable, loads)
        broken = loads + shares @ (more - load) > allowed * (1 + SLACK)
        rows = rows_over(tree, more, load)
        for at, (node, failure) in enumerate(zip(rows.node, rows.failure, strict=True)):
            row = np.zeros(tree.racks)
            row[rows.rack[rows.row == at]] = rows.share[rows.row == at]
            assert broken[failure + 1, node], seed
            assert_allclose(row, shares[failure + 1, node], rtol=1e-12, err_msg=f"{seed=}")
            assert_allclose([rows.limit[at], rows.present[at]], [allowed[failure + 1, node], loads[failure + 1, node]])
        alone = np.isin(np.arange(len(tree.slugs)), tree.link_source, invert=True)
        alone &= np.bincount(tree.leaf_node, minlength=len(alone)) <= 1
        assert set(rows.node) == set(np.flatnonzero(broken.any(axis=0) & ~alone)), seed


@blocks
def test_what_is_stranded_could_not_be_taken_by_any_loads_of_racks(first):
    """The most that a node could give on, by a linear program over all rows, is never above what counts as takeable."""
    for seed in range(first, first + 10):
        tree, load, shares, loads = random_case(seed)
        room = np.random.default_rng(seed).choice([0, 1.0, 5.0, 30.0], tree.racks)
        found = stranded(tree, tree_loads(tree, load), room)
        assert_allclose(found.stranded, found.free - found.takeable, atol=1e-6)
        rows, left = shares.reshape(-1, tree.racks), (tree.usable - loads).reshape(-1)
        known = np.isfinite(left)
        table, limit = rows[known], np.maximum(left[known], 0.0)
        for node in np.flatnonzero(np.isfinite(tree.usable)):
            takes = [
                loads[failure, node]
                - loads[:, node].max()
                - linprog(-shares[failure, node], A_ub=table, b_ub=limit, bounds=[(0, most) for most in room]).fun
                for failure in range(len(loads))
            ]
            if found.free[node] > 0:
                assert max(takes) <= found.takeable[node] + 1e-6, (seed, node)
            assert (found.why[node] == "source") == (found.why_node[node] >= 0)
            assert bool(found.why[node]) == (found.stranded[node] > 0)


def test_stranded_names_the_source_that_is_full_or_the_racks_that_take_no_more():
    nodes = {"ups": "", "pdu-1": "ups", "pdu-2": "ups"}
    tree = plain_tree(
        nodes, ["pdu-1", "pdu-2"], usable={"ups": 100, "pdu-1": 90, "pdu-2": 50}, efficiency={"pdu-1": 0.5}
    )
    found = stranded(tree, tree_loads(tree, np.array([20.0, 40.0])), np.array([99.0, 4.0]))
    assert found.free.tolist() == [20, 70, 10]
    assert found.takeable.tolist() == [20, 10, 4]  # 20 of the UPS are 10 behind losses of one half
    assert found.why == ("", "source", "racks_below")
    assert found.why_node.tolist() == [-1, 0, -1]


@settings(deadline=None)
@given(seed=st.integers(0, 10_000), factor=st.floats(0, 5), rack=st.integers(0, 4), more=st.floats(0, 50))
def test_loads_of_racks_scale_and_more_load_lowers_no_load(seed, factor, rack, more):
    rng = np.random.default_rng(seed)
    tree = random_tree(rng, 5)
    load = rng.uniform(0, 10, 5)
    base = tree_loads(tree, load)
    bare = replace(tree, house=np.zeros(len(tree.slugs)))
    assert_allclose(tree_loads(bare, factor * load).worst, factor * tree_loads(bare, load).worst, rtol=1e-9, atol=1e-9)
    load[rack] += more
    higher = tree_loads(tree, load)
    assert (higher.now >= base.now * (1 - SLACK)).all()
    assert (higher.worst >= base.worst * (1 - SLACK)).all()


def test_sites_beside_one_another_do_not_change_one_another():
    """Components are packed together and come out as if each were alone."""
    rng = np.random.default_rng(7)
    trees = [random_tree(rng, 4) for _ in range(40)]
    nodes = np.cumsum([0, *(len(tree.slugs) for tree in trees)])
    both = SupplyTree(
        slugs=tuple(f"{site}-{slug}" for site, tree in enumerate(trees) for slug in tree.slugs),
        usable=np.concatenate([tree.usable for tree in trees]),
        efficiency_ratio=np.concatenate([tree.efficiency_ratio for tree in trees]),
        house=np.concatenate([tree.house for tree in trees]),
        link_node=np.concatenate([tree.link_node + start for tree, start in zip(trees, nodes, strict=False)]),
        link_source=np.concatenate([tree.link_source + start for tree, start in zip(trees, nodes, strict=False)]),
        link_standby=np.concatenate([tree.link_standby for tree in trees]),
        leaf_rack=np.concatenate([tree.leaf_rack + 4 * site for site, tree in enumerate(trees)]),
        leaf_node=np.concatenate([tree.leaf_node + start for tree, start in zip(trees, nodes, strict=False)]),
        racks=160,
    )
    assert 1 < len(both.islands) < 40
    load = rng.uniform(0, 10, 160)
    found, rooms = tree_loads(both, load), rack_rooms(both, load)
    for site, tree in enumerate(trees):
        here, racks = slice(nodes[site], nodes[site + 1]), slice(4 * site, 4 * site + 4)
        alone = tree_loads(tree, load[racks])
        assert_allclose(found.worst[here], alone.worst)
        assert_allclose(rooms.room[racks], rack_rooms(tree, load[racks]).room)
        local = found.worst_failure[here]
        assert np.where(local >= 0, local - nodes[site], -1).tolist() == alone.worst_failure.tolist()
