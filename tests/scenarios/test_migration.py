import math

import numpy as np
import pytest

from scenarios.migration import plan_migration_greedy
from tests.factories import delivery_fact, kind_fact, problem, service_fact, snapshot

FLAT = (0.0, 0.0, 0.0)
KINDS = (kind_fact("gpu", power_w=5000.0), kind_fact("own", chip="thead-ppu-810e", power_w=8000.0, height_u=8))


def fleet_of(services, **values):
    return snapshot(kinds=KINDS, services=services, **values)


def by_month(plan, field):
    return [getattr(period, field) for period in plan.fleet.periods]


def test_a_service_moves_in_the_month_its_software_is_ready_and_its_gpus_stay_warm_one_month():
    fleet = fleet_of(
        (service_fact(demand_request_s=30.0, growth=FLAT),), hosts={("dc01", "gpu"): 5, ("dc01", "own"): 6}
    )
    plan = plan_migration_greedy(problem(fleet, rate=[[1000.0, 500.0]], ready=[[0, 2]], months=5))
    assert [(move.month, move.service, move.to_kind) for move in plan.moves] == [("2027-03", "chat", "own")]
    assert plan.moves[0].gpu_hosts_freed == pytest.approx(3)
    assert plan.moves[0].homegrown_hosts_used == pytest.approx(6)
    assert [row.p50 for row in by_month(plan, "gpu_hosts_needed")] == [3, 3, 3, 0, 0]
    assert [sum(row.values()) for row in by_month(plan, "dual")] == pytest.approx([0, 0, 3, 0, 0])
    assert plan.fleet.gpu_free.p50 == "2027-04"


def test_most_gpu_hosts_freed_per_homegrown_host_goes_first():
    # one homegrown host replaces 1.0 GPU host of "good" and 0.4 of "poor"; there are homegrown hosts for one of them
    services = (
        service_fact("good", demand_request_s=20.0, growth=FLAT),
        service_fact("poor", demand_request_s=20.0, growth=FLAT),
    )
    fleet = fleet_of(services, hosts={("dc01", "gpu"): 6, ("dc01", "own"): 2})
    plan = plan_migration_greedy(problem(fleet, rate=[[1000.0, 1000.0], [1000.0, 400.0]], months=3))
    assert [(move.service, round(move.share_ratio, 2)) for move in plan.moves] == [("good", 1.0)]
    left = {row.service: row.reason for row in plan.regions[0].left}
    assert list(left) == ["poor"]
    assert left["poor"].startswith("chips: every own host")


def test_traffic_moves_in_steps_of_a_twentieth():
    fleet = fleet_of(
        (service_fact(demand_request_s=30.0, growth=FLAT),), hosts={("dc01", "gpu"): 5, ("dc01", "own"): 2}
    )
    plan = plan_migration_greedy(problem(fleet, rate=[[1000.0, 500.0]], months=2))
    assert plan.moves[0].share_ratio == pytest.approx(0.30)  # two of six hosts are a third: six twentieths


def test_growth_that_no_longer_fits_goes_back_to_the_gpus():
    fleet = fleet_of(
        (service_fact(demand_request_s=10.0, growth=(0.2,) * 3),), hosts={("dc01", "gpu"): 9, ("dc01", "own"): 2}
    )
    plan = plan_migration_greedy(problem(fleet, rate=[[1000.0, 600.0]], months=4))
    assert plan.moves[0].share_ratio == pytest.approx(1.0)
    # 1,440 tok/s and more exceed two hosts of 600
    assert [(move.month, round(move.share_ratio, 3)) for move in plan.returns] == [
        ("2027-03", round(1 - 1200 / 1440, 3)),
        ("2027-04", round(1200 / 1440 - 1200 / 1728, 3)),
    ]
    assert by_month(plan, "unserved_tok_s") == pytest.approx([0, 0, 0, 0])


def test_a_service_that_may_not_move_stays_with_its_reason():
    fleet = fleet_of(
        (service_fact(movable=False, note="its own kernels", growth=FLAT),),
        hosts={("dc01", "gpu"): 5, ("dc01", "own"): 5},
    )
    plan = plan_migration_greedy(problem(fleet, ready=[[0, None]]))
    assert plan.moves == ()
    assert plan.regions[0].left[0].reason == "may not move: its own kernels"
    assert plan.fleet.sentence == "Nothing can leave its GPUs within the horizon."


def test_a_service_that_no_homegrown_chip_can_serve_says_so():
    fleet = fleet_of((service_fact(growth=FLAT),), hosts={("dc01", "gpu"): 5, ("dc01", "own"): 5})
    plan = plan_migration_greedy(problem(fleet, rate=[[1000.0, 0.0]]))
    assert plan.regions[0].left[0].reason == "no homegrown chip of the fleet can serve it within its limits"


def test_traffic_that_no_host_can_serve_is_not_called_free_of_gpus():
    fleet = fleet_of((service_fact(growth=FLAT),), hosts={("dc01", "gpu"): 5, ("dc01", "own"): 5})
    plan = plan_migration_greedy(problem(fleet, rate=[[0.0, 0.0]]))
    assert plan.fleet.gpu_free.p50 is None
    assert plan.fleet.periods[0].unserved_tok_s == pytest.approx(1000)


def test_software_that_is_not_ready_in_time_says_so():
    fleet = fleet_of((service_fact(growth=FLAT),), hosts={("dc01", "gpu"): 5, ("dc01", "own"): 5})
    plan = plan_migration_greedy(problem(fleet, ready=[[0, None]]))
    assert plan.regions[0].left[0].reason == "software not ready within the horizon: no date is set"


def test_freed_gpus_are_switched_off_where_homegrown_hosts_wait_for_their_power():
    # one rack of 40 kW and 60 U: four GPUs (20 kW) and two homegrown hosts (16 kW); two more wait for 8 kW each
    fleet = fleet_of(
        (service_fact(demand_request_s=8.0, growth=FLAT),),
        racks_per_site=1,
        rack_u=60,
        hosts={("dc01", "gpu"): 4, ("dc01", "own"): 2},
        deliveries=(delivery_fact(quantity=2),),
    )
    plan = plan_migration_greedy(problem(fleet, rate=[[1000.0, 500.0]], months=4))
    for period in plan.fleet.periods:
        power_w = period.hosts.get("gpu", 0) * 5000 + period.hosts.get("own", 0) * 8000
        assert power_w <= 40_000
    end = plan.fleet.periods[-1]
    assert end.hosts == {"own": 4, "gpu": 1}
    assert not end.waiting


def test_gpus_that_are_needed_are_never_switched_off():
    fleet = fleet_of(
        (service_fact(demand_request_s=40.0, growth=FLAT, movable=False),),
        racks_per_site=1,
        rack_u=60,
        hosts={("dc01", "gpu"): 4, ("dc01", "own"): 2},
        deliveries=(delivery_fact(quantity=2),),
    )
    plan = plan_migration_greedy(problem(fleet, rate=[[1000.0, 500.0]], ready=[[0, None]], months=4))
    assert all(period.hosts == {"gpu": 4, "own": 2} for period in plan.fleet.periods)
    assert all(period.waiting == {"own": 2} for period in plan.fleet.periods)
    assert by_month(plan, "unserved_tok_s") == pytest.approx([0, 0, 0, 0])


@pytest.mark.parametrize("seed", range(12))
def test_tokens_hosts_and_power_add_up_on_random_fleets(seed):
    rng = np.random.default_rng(seed)
    services = tuple(
        service_fact(
            f"s{at}", demand_request_s=float(rng.uniform(2, 40)), growth=(0.0, float(rng.uniform(0, 0.1)), 0.2)
        )
        for at in range(4)
    )
    deliveries = tuple(
        delivery_fact(f"po-{at}", quantity=int(rng.integers(1, 12)), slip=(20.0, 60.0), fill=0.9) for at in range(3)
    )
    fleet = fleet_of(
        services, deliveries=deliveries, hosts={("dc01", "gpu"): int(rng.integers(5, 40))}, racks_per_site=8
    )
    rate = np.column_stack((rng.uniform(500, 2000, 4), rng.choice([0.0, 300.0, 900.0], 4)))
    ready = [[0, int(rng.integers(0, 6)) if rng.random() < 0.8 else None] for _ in range(4)]
    question = problem(fleet, rate=rate, ready=ready, months=10, reserve_ratio=0.1, draws=2, spread=1.3)
    plan = plan_migration_greedy(question)
    for period in plan.fleet.periods:
        used = {kind: period.serving.get(kind, 0) + period.dual.get(kind, 0) for kind in ("gpu", "own")}
        for kind, hosts in used.items():
            assert hosts <= period.hosts.get(kind, 0) * 0.9 + 1e-6
            assert hosts + period.idle.get(kind, 0) == pytest.approx(period.hosts.get(kind, 0), abs=1e-6)
        assert period.hosts.get("gpu", 0) * 5000 + period.hosts.get("own", 0) * 8000 <= fleet.rack_power_limit_w.sum()
        assert 0 <= period.homegrown_token_ratio.p50 <= 1 + 1e-9
    shares = {service.slug: 0.0 for service in services}
    for move in plan.returns:
        shares[move.service] -= move.share_ratio
    for move in plan.moves:
        shares[move.service] += move.share_ratio
        k = [kind.slug for kind in KINDS].index(move.to_kind)
        s = [service.slug for service in services].index(move.service)
        assert question.allowed[s, k, [f"{m:%Y-%m}" for m in question.months].index(move.month)]
    left = {row.service: row.share_ratio for row in plan.regions[0].left}
    for slug, share in shares.items():
        assert share + left.get(slug, 0.0) == pytest.approx(1, abs=1e-6)


def test_the_same_question_gives_the_same_answer():
    fleet = fleet_of((service_fact(growth=(0.0, 0.05, 0.1)),), hosts={("dc01", "gpu"): 5, ("dc01", "own"): 3})
    question = problem(fleet, rate=[[1000.0, 500.0]], spread=1.4, draws=6)
    assert plan_migration_greedy(question) == plan_migration_greedy(question)


def test_a_fleet_without_homegrown_hosts_has_nothing_to_move_to():
    with pytest.raises(ValueError, match="nothing to move to"):
        plan_migration_greedy(problem(homegrown=np.array([False, False])))


@pytest.mark.parametrize("growth", [-0.5, 0.2, 0.5, 1.0])
def test_demand_far_beyond_supply_fills_every_gpu_and_the_rest_is_unserved(growth):
    fleet = fleet_of(
        tuple(service_fact(f"s{at}", demand_request_s=20.0, growth=(growth,) * 3) for at in range(3)),
        hosts={("dc01", "gpu"): 8, ("dc01", "own"): 4},
    )
    plan = plan_migration_greedy(problem(fleet, rate=[[1000.0, 500.0]] * 3, ready=[[0, None]] * 3, months=120))
    for month, period in enumerate(plan.fleet.periods):
        demand = 3 * 2000.0 * min((1 + growth) ** month, 1e12 / 20)
        assert period.unserved_tok_s == pytest.approx(max(0.0, demand - 8000.0), rel=1e-6, abs=1e-3)
        if demand > 0.1:
            assert period.gpu_hosts_needed.p50 == min(8, math.ceil(demand / 1000 - 1e-6))
