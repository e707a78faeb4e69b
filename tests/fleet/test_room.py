from dataclasses import replace
from datetime import timedelta

import numpy as np
import pytest

from fleet.room import Room, leaving_days, rack_most
from fleet.snapshot import DAY_MAX, TreeFacts
from tests.factories import START, kind_fact, snapshot


def test_units_and_the_cabinets_power_bind_as_counted_by_hand():
    fleet = snapshot(racks_per_site=2, rack_w=40_000.0, rack_u=48, hosts={("dc01", "gpu"): 3})
    fit = Room(fleet, START).fit(fleet.kinds[0])
    # 40 kW take eight hosts of 5 kW, 48 U eight of 6 U: 3 stand in the first rack
    assert fit.hosts.tolist() == [5, 8]
    assert {stop.constraint for stop in fit.stops} <= {"rack_units", "rack_power"}


def test_what_comes_later_has_its_place_already_and_what_goes_gives_it_back():
    fleet = snapshot(racks_per_site=1, hosts={("dc01", "gpu"): 8})
    later, day = START + timedelta(days=30), START.toordinal()
    coming = replace(fleet, host_first_day=np.full(8, day + 20))
    assert Room(coming, START).fit(fleet.kinds[0]).count == 0
    going = replace(fleet, host_last_day=np.full(8, day + 20))
    assert Room(going, START).fit(fleet.kinds[0]).count == 0
    assert Room(going, later).fit(fleet.kinds[0]).count == 8


def test_hosts_put_in_first_count_as_hosts_that_stand_there():
    fleet = snapshot(racks_per_site=2, rack_w=40_000.0, rack_u=48, hosts={("dc01", "gpu"): 3})
    more = np.array([[0], [5]]) @ np.array([[1] + [0] * (len(fleet.kinds) - 1)])
    fit = Room(fleet, START, more).fit(fleet.kinds[0])
    assert fit.hosts.tolist() == [5, 3]


def test_one_that_goes_on_the_day_on_which_another_comes_shares_its_power():
    fleet = snapshot(racks_per_site=1, hosts={("dc01", "gpu"): 2})
    day = START.toordinal()
    swapped = replace(fleet, host_first_day=np.array([1, day + 9]), host_last_day=np.array([day + 9, DAY_MAX]))
    assert rack_most(swapped, START, fleet.kind_power_w).tolist() == [5000.0]
    overlapping = replace(swapped, host_last_day=np.array([day + 10, DAY_MAX]))
    assert rack_most(overlapping, START, fleet.kind_power_w).tolist() == [10_000.0]


def two_pdus(usable_va):
    """Two racks with an A and a B feed each, on two PDUs."""
    nodes, whole = 2 + 4, np.int64
    links = [(2, 0), (3, 1), (4, 0), (5, 1)]  # an A and a B feed for each rack
    return TreeFacts(
        slugs=("pdu-a", "pdu-b", "r0-a", "r0-b", "r1-a", "r1-b"),
        kinds=("pdu", "pdu", *("feed",) * 4),
        site=np.zeros(nodes, dtype=whole),
        usable=np.array([usable_va, usable_va, *(1e9,) * 4]),
        efficiency_ratio=np.ones(nodes),
        house=np.zeros(nodes),
        first_day=np.ones(nodes, dtype=whole),
        last_day=np.full(nodes, DAY_MAX, dtype=whole),
        link_node=np.array([node for node, _ in links], dtype=whole),
        link_source=np.array([source for _, source in links], dtype=whole),
        link_standby=np.zeros(4, dtype=bool),
        link_first_day=np.ones(4, dtype=whole),
        link_last_day=np.full(4, DAY_MAX, dtype=whole),
        leaf_rack=np.array([0, 0, 1, 1], dtype=whole),
        leaf_node=np.array([2, 3, 4, 5], dtype=whole),
    )


@pytest.mark.parametrize(("usable_va", "expected"), [(60_000.0, 12), (59_999.0, 11), (20_000.0, 4)])
def test_a_pdu_that_two_racks_share_binds_with_its_sister_lost(usable_va, expected):
    fleet = snapshot(racks_per_site=2, rack_w=1e6, rack_u=200, hosts={})
    fit = Room(replace(fleet, power=two_pdus(usable_va)), START).fit(kind_fact(power_w=5000.0))
    assert fit.count == expected
    assert (fit.stops[0].constraint, fit.stops[0].share_ratio) == ("power_node_failover", 1.0)
    assert {fit.stops[0].object, fit.stops[0].failure} == {"pdu-a", "pdu-b"}


def test_hosts_that_stay_fit_under_what_is_left_when_a_feed_goes():
    """Rack 0 has three feeds that bear two hosts each, rack 1 has one; on one day a feed of rack 0 goes."""
    fleet = snapshot(racks_per_site=2, rack_w=1e6, rack_u=200, hosts={})
    none = np.zeros(0, dtype=np.int64)
    links = dict.fromkeys(("link_node", "link_source", "link_first_day", "link_last_day"), none)
    leaves = {"leaf_rack": np.array([0, 0, 0, 1]), "leaf_node": np.array([2, 3, 5, 4])}
    usable = np.array([1e9, 1e9, *(10_000.0,) * 4])
    tree = replace(two_pdus(1e9), usable=usable, link_standby=none.astype(bool), **links, **leaves)
    kind = kind_fact(power_w=5000.0)
    assert Room(replace(fleet, power=tree), START).fit(kind).hosts.tolist() == [4, 2]
    gone = tree.last_day.copy()
    gone[3] = START.toordinal() + 30
    leaving = replace(fleet, power=replace(tree, last_day=gone))
    assert leaving_days(leaving.power, START) == [START + timedelta(days=30)]
    for day in (START, START + timedelta(days=30)):
        assert Room(leaving, day).fit(kind).hosts.tolist() == [2, 2]
