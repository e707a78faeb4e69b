"""What is left of a tree after a failure, and what goes dark: against the tree's own specification, node by node."""

import numpy as np
import pytest
from numpy.testing import assert_allclose

from dashboard.supplies import racks_lost
from fleet.trees import SupplyTree, racks_dark, tree_after, tree_alive, tree_loads
from tests.fleet.shares import tree_shares


def tree_of(nodes, links, leaves, *, racks, house=None):
    """A tree by names; a source that begins with a star stands by."""
    at = {name: index for index, name in enumerate(nodes)}
    pairs = [(at[node], at[source.lstrip("*")], source.startswith("*")) for node, source in links]
    return SupplyTree(
        slugs=tuple(nodes),
        usable=np.full(len(nodes), 100.0),
        efficiency_ratio=np.array([0.9 if name.startswith("ups") else 1.0 for name in nodes]),
        house=np.array([(house or {}).get(name, 0.0) for name in nodes]),
        link_node=np.array([pair[0] for pair in pairs], dtype=np.int64),
        link_source=np.array([pair[1] for pair in pairs], dtype=np.int64),
        link_standby=np.array([pair[2] for pair in pairs], dtype=bool),
        leaf_rack=np.array([rack for rack, _ in leaves], dtype=np.int64),
        leaf_node=np.array([at[node] for _, node in leaves], dtype=np.int64),
        racks=racks,
    )


TREE = tree_of(
    ["util-a", "util-b", "gen", "ups-a", "ups-b", "pdu-a", "pdu-b", "f0a", "f0b", "f1a", "alone"],
    [
        *(("ups-a", "util-a"), ("ups-a", "*gen"), ("ups-b", "util-b")),
        *(("pdu-a", "ups-a"), ("pdu-b", "ups-b"), ("pdu-b", "*ups-a")),
        *(("f0a", "pdu-a"), ("f0b", "pdu-b"), ("f1a", "pdu-a")),
    ],
    [(0, "f0a"), (0, "f0b"), (1, "f1a"), (2, "alone")],
    racks=4,
    house={"pdu-b": 3.0},
)
LOAD = np.array([10.0, 6.0, 4.0, 5.0])


@pytest.mark.parametrize("failed", range(len(TREE.slugs)), ids=TREE.slugs)
def test_loads_after_a_failure_are_those_of_what_is_left(failed):
    expected = tree_shares(TREE, failed) @ LOAD
    house = tree_loads(tree_after(TREE, failed), np.zeros(4)).now  # what hangs beside racks is no share of theirs
    assert_allclose(tree_loads(tree_after(TREE, failed), LOAD).now - house, expected, atol=1e-12)
    alive = tree_alive(TREE, failed)
    assert (tree_loads(tree_after(TREE, failed), LOAD).now[~alive] == 0).all()


def test_house_load_moves_to_what_stands_by():
    after = dict(zip(TREE.slugs, tree_loads(tree_after(TREE, TREE.slugs.index("ups-b")), LOAD).now, strict=True))
    assert after["pdu-b"] == pytest.approx(5 + 3)
    assert after["ups-a"] == pytest.approx(5 + 6 + 8)
    assert after["util-b"] == 0


def test_racks_lost_are_those_that_go_dark_with_each_node():
    lost = racks_lost(TREE)
    for node in range(len(TREE.slugs)):
        assert lost.get(node, np.zeros(0)).tolist() == np.flatnonzero(racks_dark(TREE, node)).tolist(), TREE.slugs[node]
    assert {TREE.slugs[node] for node in lost} == {"ups-a", "pdu-a", "f1a", "alone"}
