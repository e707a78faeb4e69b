from dataclasses import replace
from datetime import date, timedelta

import numpy as np

from scenarios.futures import future_expected
from scenarios.supply import Floor, Ground
from tests.factories import START, delivery_fact, kind_fact, problem, snapshot

KINDS = (kind_fact("gpu", power_w=5000.0), kind_fact("own", chip="thead-ppu-810e", power_w=8000.0, height_u=8))


def floor_of(fleet, months=6):
    question = problem(fleet, months=months)
    ground = Ground(fleet, question.months)
    return Floor(ground, future_expected(question))


def test_a_delivery_counts_from_the_first_month_that_finds_it_there():
    fleet = snapshot(kinds=KINDS, deliveries=(delivery_fact(quantity=3, expected_on=date(2027, 2, 2)),))
    floor = floor_of(fleet)
    seen = []
    for month in range(4):
        floor.arrive(month)
        seen.append(int(floor.hosts(month)[0, 1]))
    assert seen == [0, 0, 3, 3]


def test_what_finds_no_power_waits():
    # 10 racks of 40 kW hold 8 GPUs of 5 kW each by height (48 U / 6 U): 70 of them leave two racks with 15 and 40 kW
    fleet = snapshot(kinds=KINDS, hosts={("dc01", "gpu"): 70}, deliveries=(delivery_fact(quantity=12),))
    floor = floor_of(fleet)
    floor.arrive(0)
    free_racks = [40 - 5 * count for count in fleet.rack_hosts(START)[:, 0]]
    expected = sum(min(free // 8, (48 - 6 * (40 - free) // 5) // 8) for free in free_racks)
    assert floor.hosts(0)[0, 1] == expected
    assert floor.waiting[0, 1] == 12 - expected


def test_room_that_a_later_host_has_been_promised_is_not_given_away():
    fleet = snapshot(kinds=KINDS, racks_per_site=1, hosts={("dc01", "gpu"): 6}, deliveries=(delivery_fact(quantity=2),))
    promised = fleet.host_first_day.copy()
    promised[2:] = (START + timedelta(days=100)).toordinal()
    floor = floor_of(replace(fleet, host_first_day=promised))
    floor.arrive(0)
    assert floor.hosts(0)[0].tolist() == [2, 1]  # 40 kW less the 30 kW of six GPUs leave one of 8 kW, today and later
    assert floor.waiting[0, 1] == 1


def test_a_host_that_leaves_makes_room_the_month_it_is_gone():
    fleet = snapshot(kinds=KINDS, racks_per_site=1, hosts={("dc01", "gpu"): 8}, deliveries=(delivery_fact(quantity=1),))
    gone = fleet.host_last_day.copy()
    gone[:3] = date(2027, 3, 1).toordinal()
    floor = floor_of(replace(fleet, host_last_day=gone))
    seen = []
    for month in range(4):
        floor.arrive(month)
        seen.append(floor.hosts(month)[0].tolist())
    assert seen == [[8, 0], [8, 0], [5, 1], [5, 1]]


def dated(fleet, count, day):
    gone = fleet.host_last_day.copy()
    gone[:count] = day.toordinal()
    return replace(fleet, host_last_day=gone)


def test_who_came_first_is_racked_first():
    fleet = snapshot(
        kinds=KINDS,
        racks_per_site=1,
        hosts={("dc01", "gpu"): 7},
        deliveries=(
            delivery_fact("po-1", kind="own", quantity=1, expected_on=date(2027, 1, 1)),
            delivery_fact("po-2", kind="gpu", quantity=1, expected_on=date(2027, 1, 2)),
        ),
    )
    floor = floor_of(dated(fleet, 2, date(2027, 2, 1)))
    for month in range(2):
        floor.arrive(month)
    assert floor.hosts(1)[0].tolist() == [6, 1]  # 15 kW are free: 8 for who has waited, then 5


def test_power_never_exceeds_what_racks_allow():
    fleet = snapshot(
        kinds=KINDS,
        hosts={("dc01", "gpu"): 50},
        deliveries=tuple(
            delivery_fact(f"po-{at}", quantity=9, expected_on=START + timedelta(days=30 * at)) for at in range(5)
        ),
    )
    floor = floor_of(fleet)
    for month in range(6):
        floor.arrive(month)
        assert floor.hosts(month)[0] @ fleet.kind_power_w <= fleet.rack_power_limit_w.sum()
        assert np.all(floor.room(month, 0, 1) >= 0)
    assert floor.hosts(5)[0, 1] + floor.waiting[0, 1] == 45


def naive_racked(question, future):
    """Rack deliveries as told, nothing left out: every month all that waits is tried in every rack."""
    fleet, ground = question.snapshot, Ground(question.snapshot, question.months)
    racked = np.zeros(ground.hosts.shape[1:], dtype=np.int64)
    waiting = np.zeros((len(fleet.sites), len(fleet.kinds)), dtype=np.int64)
    seen, arrived = [], set()

    def put(month, site, kind):
        for rack in np.flatnonzero(fleet.rack_site == site):
            free_w = ground.free_w[month, rack] - racked[rack] @ fleet.kind_power_w
            free_u = ground.free_u[month, rack] - racked[rack] @ fleet.kind_height_u
            room = min(np.floor(free_w / fleet.kinds[kind].power_w + 1e-9), free_u // fleet.kinds[kind].height_u)
            count = int(min(max(room, 0), waiting[site, kind]))
            racked[rack, kind] += count
            waiting[site, kind] -= count

    for month, day in enumerate(question.months):
        for site, kind in np.argwhere(waiting > 0):
            put(month, site, kind)
        due = [at for at, on in enumerate(future.arrival_day) if on <= day.toordinal() and at not in arrived]
        for at in sorted(due, key=lambda at: (future.arrival_day[at], at)):
            arrived.add(at)
            site, kind = int(ground.delivery_site[at]), int(ground.delivery_kind[at])
            waiting[site, kind] += future.arrival_hosts[at]
            put(month, site, kind)
        seen.append((racked.copy(), waiting.copy()))
    return seen


def test_what_is_left_out_of_the_walk_changes_nothing():
    """Retries where no rack got more free are left out; against a walk that leaves nothing out."""
    for seed in range(6):
        rng = np.random.default_rng(seed)
        fleet = snapshot(
            kinds=KINDS, sites=("dc01", "dc02"), hosts={("dc01", "gpu"): 60, ("dc02", "own"): 30, ("dc02", "gpu"): 20},
            deliveries=tuple(
                delivery_fact(
                    f"po-{at}", site=("dc01", "dc02")[at % 2], kind=("gpu", "own")[int(rng.integers(2))],
                    quantity=int(rng.integers(3, 20)), expected_on=date(2027, int(rng.integers(1, 10)), 5),
                )
                for at in range(10)
            ),
        )  # fmt: skip
        leaves = np.where(rng.random(110) < 0.4, START.toordinal() + rng.integers(20, 300, 110), fleet.host_last_day)
        question = problem(replace(fleet, host_last_day=leaves), months=12)
        future = future_expected(question)
        floor = Floor(Ground(question.snapshot, question.months), future)
        for month, (racked, waiting) in enumerate(naive_racked(question, future)):
            floor.arrive(month)
            assert floor.racked.tolist() == racked.tolist()
            assert floor.waiting.tolist() == waiting.tolist()
