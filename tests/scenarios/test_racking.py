"""A plan's hosts into racks, and the problem that a fleet makes."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from fleet.packing import value_pack, value_unpack
from fleet.snapshot import DAY_MAX, DAY_MIN, DeploymentFact, PolicyFact
from scenarios.demand import months_list
from scenarios.grounds import Question, Rates, problem_of
from scenarios.planning.migration import plan_migration
from scenarios.planning.params import (
    FloorParam,
    MigrationParams,
    MustLeaveParam,
    OfferParam,
    PriceParam,
    TariffParam,
)
from scenarios.planning.problem import PlanProblem, problem_check
from scenarios.racking import Homeless, Racking, plan_rack, problem_tightened
from tests.factories import START, delivery_fact, feeds, kind_fact, service_fact, snapshot

CHIP = "thead-ppu-810e"
KINDS = (
    kind_fact("gpu", power_w=5000.0, height_u=6),
    kind_fact("own", chip="thead-ppu-810e", power_w=8600.0, height_u=8),
)


def fleet(**more):
    return snapshot(
        **{
            "kinds": KINDS,
            "services": (service_fact("chat", ready_on={"thead-ppu-810e": date(2027, 2, 1)}),),
            "racks_per_site": 4,
            "rack_w": 36_000.0,
            "hosts": {("dc01", "gpu"): 24},
            "deliveries": (delivery_fact(quantity=8, expected_on=date(2027, 1, 20)),),
            **more,
        }
    )


def question(snap, *, rate=(1000.0, 900.0), demand=15_000.0, months=4, **params):
    listed = months_list(START, date(2027, months, 1))
    services, kinds = len(snap.services), len(snap.kinds)
    rates = np.tile(np.array(rate), (services, 1))
    allowed = np.ones((services, kinds, months), dtype=bool)
    for s, service in enumerate(snap.services):
        ready_on = service.ready_on.get("thead-ppu-810e")
        allowed[s, 1] = [ready_on is not None and ready_on <= month for month in listed]
    return Question(
        months=listed,
        rates={"whole": Rates(rates * 0.8, rates, rates * 1.2, np.full(rates.shape, 2.0))},
        demand_tok_s=np.full((services, months), demand),
        mean_ratio=np.full(services, 0.7),
        input_ratio=np.full(services, 4.0),
        allowed=allowed,
        homegrown=np.array([False, True]),
        in_scope=np.ones(services, dtype=bool),
        reserve_ratio=0.0,
        hold_months=1,
        seed=1,
        params=MigrationParams(**{"shadow_months": 0, "failover": False, **params}),
        price={},
    )


def test_a_fleet_becomes_a_sound_problem():
    snap = fleet()
    problem = problem_of(snap, question(snap))
    problem_check(problem)
    assert [place.slug for place in problem.places] == ["dc01/h1"]
    assert [(row.kind, row.hosts) for row in problem.standing] == [("gpu", (24.0,) * 4)]
    assert [(row.kind, row.period, row.hosts) for row in problem.deliveries] == [("own", 1, 8)]
    ready = {rate.kind: rate.ready for rate in problem.rates}
    assert ready == {"gpu": 0, "own": 1}


def test_a_host_takes_the_share_of_a_place_that_it_takes_among_its_likes():
    snap = fleet(hosts={("dc01", "gpu"): 4})
    room = next(limit for limit in problem_of(snap, question(snap)).limits if limit.constraint == "room")
    # 36 kW and 48 U: seven GPUs of 5 kW, four homegrown of 8.6 kW to each of four racks
    assert {use.kind: use.amount for use in room.uses} == pytest.approx({"gpu": 1 / 28, "own": 1 / 16})
    assert room.limit == (1.0,) * 4


def why(**racks):
    """Return what lets racks take no more of a kind of 5 kW, 6 U, 100 kg and four ports."""
    kind = replace(KINDS[0], weight_kg=100.0, ports=4)
    snap = replace(fleet(kinds=(kind, KINDS[1]), hosts={("dc01", "gpu"): 1}), **racks)
    limits = problem_of(snap, question(snap)).limits
    room = next(limit for limit in limits if limit.constraint == "room")
    return next(use.constraint for use in room.uses if use.kind == "gpu")


@pytest.mark.parametrize(
    ("racks", "constraint"),
    [
        ({}, "rack_power"),
        ({"rack_height_u": np.full(4, 12)}, "rack_units"),
        ({"rack_weight_limit_kg": np.full(4, 250.0)}, "rack_weight"),
        ({"rack_ports": np.full(4, 9.0)}, "rack_ports"),
        ({"rack_cooling_limit_w": np.array([10_000.0] * 3 + [np.inf])}, "rack_cooling"),
        ({"rack_last_day": np.full(4, START.toordinal())}, "no_rack"),
    ],
    ids=["power", "height", "weight", "ports", "cooling of most", "none open"],
)
def test_a_use_of_room_says_what_makes_it_so_much(racks, constraint):
    assert why(**racks) == constraint


def test_a_kind_that_serves_already_is_in_use_and_the_problem_is_kept_as_it_is():
    snap = fleet(
        hosts={("dc01", "gpu"): 4, ("dc01", "own"): 2}, services=(service_fact("chat", ready_on={CHIP: START}),)
    )
    one = np.ones(1, dtype=np.int64)
    serving = replace(
        snap,
        deployments=(DeploymentFact("chat-own", "chat", "chat", "dc01", "own", "", 8, 500.0),),
        placement_host=snap.host_kind.argmax() * one,
        placement_deployment=0 * one,
        placement_replicas=2 * one,
        placement_unit=-one,
        placement_first_day=one * DAY_MIN,
        placement_last_day=one * DAY_MAX,
    )
    problem = problem_of(serving, question(serving))
    assert {rate.kind: rate.in_use for rate in problem.rates} == {"gpu": False, "own": True}
    assert value_unpack(PlanProblem, value_pack(problem)) == problem


def test_hosts_with_liquid_cooling_want_it():
    kind = replace(KINDS[1], cooling="liquid")
    snap = fleet(kinds=(KINDS[0], kind), hosts={("dc01", "gpu"): 4})
    use = next(use for limit in problem_of(snap, question(snap)).limits for use in limit.uses if use.kind == "own")
    assert (use.amount, use.constraint) == (2.0, "liquid_cooling")


def test_hosts_that_stand_already_keep_within_the_room_of_their_place():
    snap = fleet(hosts={("dc01", "gpu"): 28})
    problem = problem_of(snap, question(snap))
    for limit in problem.limits:
        for period in range(4):
            used = sum(
                use.amount * row.hosts[period] for use in limit.uses for row in problem.standing if row.kind == use.kind
            )
            assert used <= limit.limit[period] * (1 + 1e-9)


def test_every_host_of_a_plan_goes_into_a_rack_within_its_limits():
    snap = fleet()
    floors = (FloorParam(ratio=0.5, month="2027-03"),)
    asked = question(snap, demand=14_000.0, floors=floors, unserved_penalty_per_mtok=None)
    problem = problem_of(snap, asked)
    answer = plan_migration(problem)
    assert answer.is_plan
    while (racking := plan_rack(snap, problem, answer, asked.months)).homeless:
        problem = problem_tightened(problem, racking)
        answer = plan_migration(problem)
        assert answer.is_plan
    hosts = snap.rack_hosts(START).astype(float)
    known = {kind.slug: at for at, kind in enumerate(snap.kinds)}
    for row in racking.changes:
        hosts[snap.rack_slugs.index(row.rack), known[row.kind]] += row.hosts
    assert (hosts >= 0).all()
    assert (hosts @ snap.kind_power_w <= snap.rack_power_limit_w + 1e-6).all()
    assert (hosts @ snap.kind_height_u <= snap.rack_height_u).all()
    last = {row.kind: row.kept + row.new for row in answer.hosts if row.period == 3}
    assert hosts.sum(axis=0).tolist() == [last.get("gpu", 0), last.get("own", 0)]
    assert last["own"] >= 0.5 * 14_000 / 900


def test_racks_become_free_as_a_whole():
    snap = fleet()
    asked = question(snap)
    problem = problem_of(snap, asked)
    answer = plan_migration(problem)
    fewer = replace(answer, hosts=tuple(replace(row, kept=max(row.kept - 6, 0)) for row in answer.hosts))
    changes = plan_rack(snap, problem, fewer, asked.months).changes
    standing = dict(zip(snap.rack_slugs, snap.rack_hosts(START)[:, 0].tolist(), strict=True))
    left = {row.rack: standing[row.rack] + row.hosts for row in changes}
    assert len(left) > 1
    assert sum(hosts > 0 for hosts in left.values()) <= 1


def test_a_place_that_was_thought_larger_is_planned_smaller():
    snap = fleet(racks_per_site=2, hosts={("dc01", "gpu"): 12})  # 6 kW are left in each rack: no room for a new host
    asked = question(snap, demand=11_000.0, offers=(OfferParam(kind="own", hosts=4, month="2027-01"),))
    problem = problem_of(snap, asked)
    answer = plan_migration(problem)
    crowded = replace(
        answer,
        hosts=tuple(replace(row, kept=12, new=1 if row.period else 0) for row in answer.hosts if row.kind == "gpu")
        + tuple(
            replace(row, kind="own", kept=0, new=1) for row in answer.hosts if row.kind == "gpu" and row.period == 2
        ),
    )
    racking = plan_rack(snap, problem, crowded, asked.months)
    assert [(row.month, row.kind, row.hosts) for row in racking.homeless if row.kind == "own"] == [
        ("2027-03", "own", 1)
    ]
    smaller = problem_tightened(problem, racking)
    assert smaller.limits[0].limit[2] < problem.limits[0].limit[2]
    assert smaller.limits[0].limit[1] == problem.limits[0].limit[1]


def test_a_month_beyond_the_horizon_is_refused():
    snap = fleet()
    with pytest.raises(ValueError, match="month '2029-01' does not lie in 2027-01 to 2027-04"):
        problem_of(snap, question(snap, floors=(FloorParam(ratio=0.5, month="2029-01"),)))


def banned(verb, chip, starts_on):
    return replace(fleet(), policies=(PolicyFact("ban", chip, verb, starts_on, None, region="", site=""),))


def test_what_may_not_be_bought_in_its_month_is_not_offered():
    offers = tuple(OfferParam(kind="own", hosts=4, month=month) for month in ("2027-01", "2027-03"))
    snap = banned("buy", "thead-ppu-810e", date(2027, 3, 1))
    assert [offer.period for offer in problem_of(fleet(), question(fleet(), offers=offers)).offers] == [0, 2]
    assert [offer.period for offer in problem_of(snap, question(snap, offers=offers)).offers] == [0]


def test_what_may_not_be_sold_brings_nothing_when_it_goes():
    resale = {kind.slug: kind.resale_ratio for kind in problem_of(fleet(), question(fleet())).kinds}
    snap = banned("sell", "h20-96", date(2027, 3, 1))
    kept = {kind.slug: kind.resale_ratio for kind in problem_of(snap, question(snap)).kinds}
    assert (resale["gpu"], kept["gpu"]) == (0.5, 0.0)


def test_feeds_that_come_within_the_horizon_limit_from_their_month():
    days = [DAY_MIN, date(2027, 3, 1).toordinal(), date(2027, 3, 1).toordinal(), DAY_MIN]
    tree = feeds([16e3, 16e3, 16e3, 16e3], [0, 1, 2, 3], first_day=days)
    made = problem_of(replace(fleet(hosts={("dc01", "gpu"): 1}), power=tree), question(fleet()))
    rooms = next(limit for limit in made.limits if limit.constraint == "room")
    shares = {use.kind: use.amount for use in rooms.uses}
    assert shares["own"] == pytest.approx(1 / (1 + 4 + 4 + 1)), "two racks take four until their feeds come, then one"
    assert rooms.limit == pytest.approx((1.0, 1.0, 0.4, 0.4))
    problem_check(made)


def test_a_node_that_comes_within_the_horizon_binds_from_its_month():
    node = feeds([20e3], [0], first_day=[date(2027, 3, 1).toordinal()])
    shared = replace(node, leaf_rack=np.array([0, 1]), leaf_node=np.array([0, 0]))
    made = problem_of(replace(fleet(hosts={("dc01", "gpu"): 1}), power=shared), question(fleet()))
    limit = next(limit for limit in made.limits if limit.constraint == "feed_failover_power")
    most = {use.kind: use.amount * 28 for use in limit.uses}  # as many as the racks take
    assert limit.slug == "feed_failover_power feed-0 from 2027-03"
    assert limit.limit[0] == limit.limit[1] > max(most.values())
    assert limit.limit[2:] == pytest.approx((40e3, 40e3)), "half of the racks' load passes through it"
    problem_check(made)


def test_a_ban_on_use_takes_the_hosts_out_from_its_month():
    snap = replace(fleet(), policies=(PolicyFact("ban", "h20-96", "use", date(2027, 3, 1), None, region="", site=""),))
    problem = problem_of(snap, question(snap))
    assert problem.standing[0].hosts == (24.0, 24.0, 24.0, 24.0)
    assert [(row.kind, row.ratio) for row in problem.up] == [("gpu", (1.0, 1.0, 0.0, 0.0))]
    assert {kind.slug: kind.resale_ratio for kind in problem.kinds}["gpu"] == 0.0


def test_a_ban_on_use_that_ends_or_holds_in_one_region_leaves_hosts_their_value():
    two = fleet(
        sites=("dc01", "dc02"),
        regions=("north", "south"),
        site_regions={"dc01": "north", "dc02": "south"},
        services=(service_fact("chat"), service_fact("code", region="south")),
        hosts={("dc01", "gpu"): 6, ("dc02", "gpu"): 6},
    )
    for snap, ends_on, region in ((two, None, "south"), (fleet(), date(2027, 4, 1), "")):
        policy = PolicyFact("ban", "h20-96", "use", date(2027, 3, 1), ends_on, region=region, site="")
        problem = problem_of(replace(snap, policies=(policy,)), question(snap))
        assert len(problem.up) == 1
        assert {kind.slug: kind.resale_ratio for kind in problem.kinds}["gpu"] == 0.5


@pytest.mark.parametrize("month", ["2027-13", "2027-1x", "2027-00", "27-01"])
def test_a_month_that_does_not_exist_is_refused(month):
    snap = fleet()
    with pytest.raises(ValueError, match="does not lie in"):
        problem_of(snap, question(snap, floors=(FloorParam(ratio=0.5, month=month),)))


@pytest.mark.parametrize(
    "params",
    [
        {"tariffs": (TariffParam(site="nowhere", tariff_per_kwh=1.0),)},
        {"prices": (PriceParam(kind="nothing", price=1.0),)},
        {"must_leave": (MustLeaveParam(service="nobody", month="2027-02"),)},
    ],
    ids=lambda params: next(iter(params)),
)
def test_a_name_that_is_not_there_is_refused(params):
    snap = fleet()
    with pytest.raises(ValueError, match="is not part of the question"):
        problem_of(snap, question(snap, **params))


def test_racks_that_open_within_the_horizon_are_room_from_their_month():
    snap = fleet(hosts={("dc01", "gpu"): 4})
    first = snap.rack_first_day.copy()
    first[2:] = date(2027, 3, 1).toordinal()
    room = next(
        limit
        for limit in problem_of(replace(snap, rack_first_day=first), question(snap)).limits
        if limit.constraint == "room"
    )
    assert room.limit == pytest.approx((0.5, 0.5, 1.0, 1.0))
    assert {use.kind: use.amount for use in room.uses} == pytest.approx({"gpu": 1 / 28, "own": 1 / 16})


def test_room_is_taken_off_in_its_month_and_not_from_hosts_that_stand():
    snap = fleet(hosts={("dc01", "gpu"): 14})
    problem = problem_of(snap, question(snap))
    homeless = tuple(
        Homeless(month="2027-03", place="dc01/h1", kind=kind, hosts=hosts, constraint="power", object="")
        for kind, hosts in (("own", 4), ("gpu", 7))
    )
    less = problem_tightened(problem, Racking((), homeless, (), ()))
    assert less.limits[0].limit == pytest.approx((1.0, 1.0, 0.5, 1.0))
    more = (replace(homeless[0], hosts=400),)
    assert problem_tightened(problem, Racking((), more, (), ())).limits[0].limit[2] == pytest.approx(14 / 28)
