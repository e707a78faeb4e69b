"""The share of demand that hosts can serve, against the plain linear program and cases by hand."""

from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose
from scipy.optimize import linprog

from scenarios.planning import headroom
from scenarios.planning.arrivals import Ground
from scenarios.planning.draws import Futures, FutureValues
from scenarios.planning.headroom import ALL, Asked, Region, _Concurrent, regions_of
from scenarios.planning.problem import problem_read
from tests.scenarios.planning.capacity_fleets import fans_of, one_service, random_fleet


def usable_hosts(problem, future, region):
    ground = Ground(problem)
    inside = [problem.sites[at].region == region for at in ground.site_of]
    hosts = (ground.standing + ground.walk(future).new)[inside].sum(axis=0)
    return hosts * (1 - problem.rules.reserve_ratio)


def plain_share(problem, future, usable, period, members, given):
    """Return theta by scipy, service by service and way by way: `given` are (service, tok/s) served beside."""
    kinds = {kind.slug: at for at, kind in enumerate(problem.kinds)}
    services = [*members, *(at for at, _ in given)]
    ways = []
    for row, rate in enumerate(problem.rates):
        at = next(i for i, one in enumerate(problem.services) if one.slug == rate.service)
        service = problem.services[at]
        homegrown = problem.kinds[kinds[rate.kind]].homegrown
        gone = service.homegrown_from is not None and period >= service.homegrown_from
        late = future.ready[row] > period or service.stays
        if at in services and (rate.phase == "whole" or problem.rules.split) and not (late if homegrown else gone):
            ways.append((at, kinds[rate.kind], rate.phase, future.rate_tok_s[row]))
    rows, right = [], []
    beside = dict(given)
    for at in services:
        for phases in (("whole", "prefill"), ("whole", "decode")):
            row = [-tok_s if own == at and phase in phases else 0.0 for own, _k, phase, tok_s in ways]
            demand = 0.0 if at in beside else future.demand_tok_s[at, period]
            rows.append([*row, demand])
            right.append(-beside.get(at, 0.0) * (1 - 1e-9))
    for k in range(len(problem.kinds)):
        rows.append([*(float(kind == k) for _at, kind, _phase, _tok_s in ways), 0.0])
        right.append(usable[k, period])
    found = linprog([0.0] * len(ways) + [-1.0], A_ub=np.array(rows), b_ub=np.array(right), method="highs")
    assert found.status == 0, found.message
    return -found.fun


def plain_shares(problem, future, usable, region, period):
    """Return the share of each tier and of the whole mix by the plain program; services without a host by rule."""
    ours = [at for at, service in enumerate(problem.services) if service.region == region.slug]

    def housed(at):
        return plain_share(problem, future, usable, period, [at], []) > 1e-12

    shares, given = [], []
    for tier in region.tiers[:-1]:
        members = [at for at in ours if problem.services[at].tier == tier]
        homes = [at for at in members if housed(at)]
        served = plain_share(problem, future, usable, period, homes, given) if homes else np.inf
        shares.append(served if len(homes) == len(members) else 0.0)
        given += [(at, future.demand_tok_s[at, period] * min(1.0, served)) for at in homes]
    whole = 0.0 if not all(housed(at) for at in ours) else plain_share(problem, future, usable, period, ours, [])
    return [*shares, whole]


@pytest.mark.parametrize("seed", range(12))
def test_shares_are_those_of_the_plain_program(seed):
    problem = random_fleet(seed, split=seed % 3 > 0)
    futures = Futures(problem, fans_of(problem), seed=seed)
    for region in (Region(problem, slug) for slug in regions_of(problem)):
        expected = futures.expected()
        region.learn(expected, usable_hosts(problem, expected, region.slug))
        for index in range(2):
            future = futures.draw(index)
            usable = usable_hosts(problem, future, region.slug)
            found = region.shares(future, usable).share
            for period in range(len(problem.periods)):
                assert_allclose(
                    found[:, period], plain_shares(problem, future, usable, region, period), rtol=1e-6, atol=1e-7
                )


@pytest.mark.parametrize("seed", range(4))
def test_periods_whose_basis_is_reused_have_the_share_that_solving_them_gives(seed, monkeypatch):
    problem = random_fleet(seed, periods=12)
    future = Futures(problem, FutureValues()).expected()
    solved = []
    solve = headroom._Concurrent._solve
    monkeypatch.setattr(headroom._Concurrent, "_solve", lambda self, *args: (solved.append(1), solve(self, *args))[1])
    usable = {slug: usable_hosts(problem, future, slug) for slug in regions_of(problem)}
    quick = [Region(problem, slug).shares(future, usable[slug]).share for slug in regions_of(problem)]
    few = len(solved)
    monkeypatch.setattr(headroom._Concurrent, "_also", lambda *_args: None)
    slow = [Region(problem, slug).shares(future, usable[slug]).share for slug in regions_of(problem)]
    assert few < len(solved) - few
    for one, other in zip(quick, slow, strict=True):
        assert_allclose(one, other, rtol=1e-9, atol=1e-12)


def mixed(**services):
    """Two kinds, 10 hosts of each; a service runs at 10 tok/s on the first kind and 5 on the second, if it may."""
    return problem_read(
        {
            "periods": ["2027-01"],
            "sites": [{"slug": "dc1", "region": "north"}],
            "kinds": [{"slug": "a", "homegrown": False}, {"slug": "b", "homegrown": False}],
            "services": [
                {"slug": slug, "region": "north", "demand_tok_s": demand, "tier": tier}
                for slug, (tier, demand, _kinds) in services.items()
            ],
            "rates": [
                {"service": slug, "kind": kind, "tok_s": {"a": 10.0, "b": 5.0}[kind]}
                for slug, (_tier, _demand, kinds) in services.items()
                for kind in kinds
            ],
            "standing": [{"place": "dc1", "kind": kind, "hosts": 10} for kind in "ab"],
            "rules": {"reserve_ratio": 0.0},
        }
    )


def shares_of(problem):
    future = Futures(problem, FutureValues()).expected()
    region = Region(problem, "north")
    return dict(
        zip(region.tiers, region.shares(future, usable_hosts(problem, future, "north")).share[:, 0], strict=True)
    )


def test_a_tier_is_served_after_those_above_it():
    # 150 tok/s in all: gold takes 60, standard 50 of the 90 left, batch 40 of the last 40
    found = shares_of(mixed(g=("gold", 60, "ab"), s=("standard", 50, "ab"), b=("batch", 40, "ab")))
    assert_allclose([found["gold"], found["standard"], found["batch"], found[ALL]], [2.5, 1.8, 1.0, 1.0])


def test_what_a_short_tier_gets_is_gone_for_those_below():
    # gold runs on the first kind alone: half of its demand; the second kind is left for batch
    found = shares_of(mixed(g=("gold", 200, "a"), b=("batch", 25, "ab")))
    assert_allclose([found["gold"], found["batch"]], [0.5, 2.0])


def test_a_service_without_a_host_has_nothing_and_takes_nothing():
    found = shares_of(mixed(g=("gold", 10, ""), s=("standard", 75, "ab")))
    assert_allclose([found["gold"], found["standard"], found[ALL]], [0.0, 2.0, 0.0])


def test_prompts_and_answers_may_run_on_different_kinds():
    base = mixed(s=("standard", 100, "ab")).as_dict()
    base["rates"] = [
        {"service": "s", "kind": "a", "tok_s": 20.0, "phase": "prefill"},
        {"service": "s", "kind": "b", "tok_s": 15.0, "phase": "decode"},
    ]
    assert_allclose(shares_of(problem_read(base))[ALL], 1.5)  # answers: 10 hosts of 15 tok/s


@pytest.mark.parametrize("seed", range(5))
def test_halving_a_service_changes_no_share(seed):
    problem = random_fleet(seed)
    first = problem.services[0]
    half = replace(first, demand_tok_s=tuple(value / 2 for value in first.demand_tok_s))
    rates = [replace(rate, service="twin") for rate in problem.rates if rate.service == first.slug]
    split = replace(
        problem,
        services=(half, *problem.services[1:], replace(half, slug="twin")),
        rates=(*problem.rates, *rates),
    )
    future, twin = (Futures(one, FutureValues()).expected() for one in (problem, split))
    usable = usable_hosts(problem, future, "north")
    one, other = (Region(p, "north").shares(f, usable) for p, f in ((problem, future), (split, twin)))
    assert_allclose(one.share, other.share, rtol=1e-12)
    assert_allclose(one.unserved_tok_s, other.unserved_tok_s, rtol=1e-9, atol=1e-9)


def test_one_more_host_never_lowers_a_share():
    for seed in range(6):
        problem = random_fleet(seed)
        future = Futures(problem, FutureValues()).expected()
        usable = usable_hosts(problem, future, "north")
        before = Region(problem, "north").shares(future, usable).share[[0, -1]]
        for kind in range(len(problem.kinds)):
            more = usable.copy()
            more[kind] += 1
            assert (Region(problem, "north").shares(future, more).share[[0, -1]] >= before - 1e-9).all()


def test_services_that_need_the_same_hosts_are_one_commodity():
    problem = mixed(x=("gold", 10, "ab"), y=("gold", 20, "ab"), z=("gold", 5, "a"))
    assert [one.services for one in Region(problem, "north").commodities] == [(0, 1), (2,)]


def test_demand_of_nothing_leaves_every_share_beyond_count():
    problem = one_service(demand_tok_s=0.0, periods=2)
    future = Futures(problem, FutureValues()).expected()
    assert (Region(problem, "north").shares(future, usable_hosts(problem, future, "north")).share == 1e9).all()


def test_what_rounding_gave_tiers_above_too_much_does_not_refuse_those_below():
    problem = one_service(
        demand_tok_s=100_000.0,
        hosts=10_000,
        periods=2,
        services=[
            {"slug": slug, "region": "north", "demand_tok_s": 100_000.0, "tier": tier}
            for slug, tier in (("chat", "gold"), ("draft", "batch"))
        ],
        rates=[{"service": slug, "kind": "gpu", "tok_s": 10.0} for slug in ("chat", "draft")],
    )
    asked = Asked(Region(problem, "north"), Futures(problem, FutureValues()).expected(), np.full((1, 2), 10_000.0))
    given = np.array([[10_000.0 * (1 + 1e-9)] * 2])  # 1e-5 hosts more than there are
    share = _Concurrent().shares(asked, np.array([1]), np.array([0]), given)
    assert_allclose(share, 0.0, atol=1e-6)
    with pytest.raises(ArithmeticError, match="was not found"):
        _Concurrent().shares(asked, np.array([1]), np.array([0]), given * 1.01)
