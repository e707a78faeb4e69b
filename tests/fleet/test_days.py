"""A fleet on a day: limits of racks, figures of nodes."""

from dataclasses import replace

import numpy as np
import pytest

from fleet.days import LIMIT_UNITS, FleetDay, loads_kept, node_figures
from fleet.loads import CABINET, FEED, LIMITS, UNITS, WEIGHT
from fleet.snapshot import TreeFacts
from tests.factories import START, feeds, kind_fact, snapshot


def day_of(power, *, hosts=4):
    fleet = snapshot(kinds=(kind_fact("gpu", power_w=5000.0),), hosts={("dc01", "gpu"): hosts}, racks_per_site=2)
    fleet = replace(fleet, power=power)
    return FleetDay(fleet, loads_kept(fleet), START)


def test_a_node_says_its_worst_failure_its_share_and_what_is_left():
    day = day_of(feeds([16e3, 16e3, np.inf], [0, 0, 1]))
    first, second, open_end = node_figures(day, "power")
    assert (first.slug, first.now, first.worst, first.failure) == ("feed-0", 10e3, 20e3, "feed-1")
    assert (first.share_ratio, first.headroom, first.usable) == (1.25, -4e3, 16e3)
    assert second.failure == "feed-0"
    assert (open_end.now, open_end.usable, open_end.share_ratio, open_end.headroom) == (0, None, None, None)
    assert open_end.failure == ""


def test_what_a_rack_does_not_take_is_stranded_at_its_feed():
    feed = node_figures(day_of(feeds([100e3], [0])), "power")[0]
    assert (feed.headroom, feed.stranded, feed.why) == (80e3, 60e3, "racks_below")  # 40 kW of cabinet, half of it free


def test_a_node_that_is_gone_has_no_figures():
    gone = day_of(feeds([16e3], [0], last_day=START.toordinal()))
    assert node_figures(gone, "power") == []
    assert gone.nodes("power").tolist() == []


def test_every_limit_has_a_unit_a_load_and_what_it_is():
    day = day_of(feeds([16e3, 16e3], [0, 0]))
    assert set(LIMIT_UNITS) == set(LIMITS)
    at = {name: LIMITS.index(name) for name in LIMITS}
    assert [day.load[0, at[name]] for name in (UNITS, CABINET, FEED, WEIGHT)] == [24, 20e3, 20e3, 0]
    assert [day.limit[0, at[name]] for name in (UNITS, CABINET, FEED, WEIGHT)] == [48, 40e3, 16e3, np.inf]
    assert np.isinf(day.limit[1, at[FEED]])
    ratio = day.load[:, at[CABINET]] / day.limit[:, at[CABINET]]
    assert day.loads.ratio[:, at[CABINET]] == pytest.approx(ratio)


def test_loads_are_computed_once_for_a_snapshot():
    fleet = day_of(TreeFacts.none()).snapshot
    assert loads_kept(fleet) is loads_kept(fleet)
