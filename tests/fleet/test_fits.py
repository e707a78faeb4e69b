import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from fleet.fits import hosts_fit, hosts_place, stops


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


@given(racks=racks, host_kw=st.integers(1, 20), host_u=st.integers(1, 12))
def test_every_rack_has_one_stop_and_the_nearest_rack_is_one_of_its_own(racks, host_kw, host_u):
    free_w = np.array([kw * 1000.0 for kw, _ in racks])
    free_u = np.array([u for _, u in racks])
    found = stops(free_w=free_w, free_u=free_u, host_w=host_kw * 1000.0, host_u=host_u)
    assert sum(stop.share_ratio for stop in found) == pytest.approx(1)
    count = hosts_fit(free_w=free_w, free_u=free_u, host_w=host_kw * 1000.0, host_u=host_u)
    for stop in found:
        left_w = free_w[stop.rack] - count[stop.rack] * host_kw * 1000.0
        left_u = free_u[stop.rack] - count[stop.rack] * host_u
        assert left_w < host_kw * 1000.0 if stop.constraint == "rack_power" else left_u < host_u


def test_no_racks_have_no_stop():
    assert stops(free_w=np.zeros(0), free_u=np.zeros(0, dtype=np.int64), host_w=1.0, host_u=1) == []


@given(room=st.lists(st.integers(0, 9), max_size=8), wanted=st.integers(0, 60))
def test_placing_fills_the_first_racks_and_loses_nobody(room, wanted):
    placed = hosts_place(wanted=wanted, room=np.array(room, dtype=np.int64))
    assert placed.sum() == min(wanted, sum(room))
    assert all(0 <= got <= most for got, most in zip(placed, room, strict=True))
    touched = [at for at, got in enumerate(placed) if got]
    assert all(placed[at] == room[at] for at in range(touched[-1])) if touched else True
