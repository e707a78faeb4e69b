"""Figures of a plan: known answers by hand, published ones, and what holds of every plan."""

from dataclasses import replace
from functools import cache

import pytest

from scenarios.planning.losses import supplier_losses, unserved_after
from scenarios.planning.measures import Inputs, hhi, measures, prefill_storm_ratio
from scenarios.planning.migration import plan_migration
from scenarios.planning.plan import (
    FEASIBLE,
    BoughtRow,
    HostsRow,
    LoadRow,
    MigrationAnswer,
    MoneyRow,
    OpenRow,
    SolverNote,
)
from scenarios.planning.problem import DeliveryValues, RuleValues, ServiceValues
from scenarios.planning.reconciling import reconcile
from tests.conftest import ROOT
from tests.scenarios.planning.fleets import GPU, OWN, drawn_fleet, hand_fleet

SEEDS = (0, 3, 5, 6, 11, 18)
COMPUTE = {"old": 1e15, "gpu": 2e15, "own": 1.5e15}


@cache
def planned(seed):
    problem = drawn_fleet(seed)
    return problem, plan_migration(problem)


def by_hand():
    """Return a plan of one period's worth of figures: 400 tok/s on GPUs, 400 on ours, copies and reserve beside."""
    problem = hand_fleet(
        kinds=(replace(GPU, vendor="n", foundry="t"), replace(OWN, vendor="o", foundry="t")),
        services=(ServiceValues("chat", "r", (800.0,), tier="gold", mean_ratio=0.5, input_ratio=3.0),),
        deliveries=(DeliveryValues("north", "own", 0, 12),),
        rules=RuleValues(reserve_ratio=0.0),
    )
    hosts = [HostsRow(t, place, "gpu", 6, 0) for t in (0, 1) for place in "ab"]
    hosts += [HostsRow(0, "a", "own", 0, 6), HostsRow(1, "a", "own", 0, 10)]
    loads = [
        LoadRow(0, "chat", "b", "gpu", "whole", 6.0, 0.0, 0.0),
        LoadRow(0, "chat", "a", "gpu", "whole", 2.0, 0.0, 0.0),
        LoadRow(0, "chat", "a", "own", "whole", 0.0, 1.0, 0.0),
        LoadRow(1, "chat", "a", "gpu", "whole", 4.0, 0.0, 1.0),
        LoadRow(1, "chat", "a", "own", "whole", 5.0, 0.0, 0.0),
    ]
    money = tuple(MoneyRow(t, *[0.0] * 3, 876.6, *[0.0] * 5, 876.6, 876.6) for t in (0, 1))
    answer = MigrationAnswer(
        status=FEASIBLE,
        solver=SolverNote("hand", "", 1753.2, None, None, ""),
        hosts=tuple(hosts),
        loads=tuple(loads),
        opened=(OpenRow(1, "chat", "own", "whole"),),
        money=money,
    )
    return problem, answer


def figures(problem, answer, inputs=None):
    return {(row.name, row.scope, row.period): row.value for row in measures(problem, answer, inputs)}


def reason_of(rows, name):
    return next(row.reason for row in rows if row.name == name and row.value is None)


def test_hosts_by_state():
    found = figures(*by_hand())
    gpu, own = "region r kind gpu", "region r kind own"
    states = ("serving_hosts", "shadow_hosts", "reserve_hosts", "idle_hosts")
    assert [found[name, gpu, 0] for name in states] == [8, 0, 0, 4]
    assert [found[name, gpu, 1] for name in states] == [4, 0, 1, 7]
    assert [found[name, own, 0] for name in states] == [0, 1, 0, 5]
    assert [found[name, own, 1] for name in states] == [5, 0, 0, 5]
    assert found["dual_running_peak_hosts", "fleet", 0] == 1  # the first of two alike


def test_power_energy_and_carbon():
    problem, answer = by_hand()
    found = figures(problem, answer)
    # a: 6 x 2 kW + 4 x 8 kW, 10 x 1 kW + 5 x 5 kW; b: 6 x 2 kW
    assert found["power_w", "place a", 1] == pytest.approx(44_000 + 35_000)
    assert found["power_w", "place b", 1] == pytest.approx(12_000)
    # at the mean half of what rises: (12 + 16 + 10 + 12.5 + 12) kW, PUE 1.5
    kwh = 62.5 * 1.5 * 730.5
    assert found["energy_kwh", "site north", 1] == pytest.approx(kwh)
    assert found["carbon_kgco2e", "site north", 1] == pytest.approx(0.4 * kwh)
    mtok = 800 * 0.5 * 3600 * 730.5 / 1e6
    assert found["kwh_per_mtok", "fleet", 1] == pytest.approx(kwh / mtok)
    assert found["running_cost_per_mtok", "fleet", 0] == pytest.approx(876.6 / mtok)
    assert found["cost_per_mtok", "fleet", None] == pytest.approx(876.6 / mtok)


def test_homegrown_shares_and_their_ceiling():
    found = figures(*by_hand(), Inputs(compute_flop_s={"gpu": 2e15, "own": 1e15}))
    assert found["homegrown_token_ratio", "fleet", 0] == 0
    assert found["homegrown_token_ratio", "tier gold", 1] == pytest.approx(0.5)
    assert found["homegrown_output_ratio", "fleet", 1] == pytest.approx(0.5)
    assert found["homegrown_compute_ratio", "fleet", 1] == pytest.approx(10 / (10 + 24))
    assert found["portable_ratio", "fleet", 1] == 1


def test_suppliers_and_events():
    found = figures(*by_hand(), Inputs({"gpu": 2e15, "own": 1e15}, left_ratio={"gpu": 0.25}))
    assert found["hhi_vendor", "fleet", 1] == pytest.approx((24 / 34) ** 2 + (10 / 34) ** 2)
    assert found["hhi_foundry", "fleet", 1] == 1  # two vendors, one foundry
    assert found["vendor_exposure_ratio", "vendor n", 1] == pytest.approx(0.5)
    assert found["foundry_exposure_ratio", "foundry t", 1] == pytest.approx(1)
    assert found["event_exposure_ratio", "event", 1] == pytest.approx(0.75 * 0.5)
    assert found["monoculture_ratio", "fleet", 1] == 1


def test_the_way_back_and_months_of_cover():
    found = figures(*by_hand())
    assert found["rollback_ratio", "tier gold", 1] == pytest.approx(100 / 400)  # one host of 100 tok/s for 400 moved
    # at first 12 come and 10 are racked in two months; then 6 are left and 4 go into racks in the last
    assert found["cover_months", "kind own", 0] == pytest.approx(12 / 5)
    assert found["cover_months", "kind own", 1] == pytest.approx(6 / 4)


def test_stranded_value_is_book_value_times_the_idle_share():
    found = figures(*by_hand())
    assert found["stranded_value", "kind gpu", 0] == pytest.approx(12 * 900 * 4 / 12)
    assert found["stranded_value", "kind gpu", 1] == pytest.approx(12 * 900 * 8 / 9 * 7 / 12)
    book = 2_000 * (6 * 39 / 40 + 4)  # six are a month old
    assert found["stranded_value", "kind own", 1] == pytest.approx(book * 5 / 10)


def test_what_is_not_given_leaves_no_value_and_says_why():
    rows = measures(*by_hand())
    assert reason_of(rows, "safety_cost") == "no plan without shadow and reserve is given"
    assert reason_of(rows, "homegrown_compute_ratio") == "no effective compute is given of gpu, own"
    assert reason_of(rows, "hhi_vendor") == "no effective compute is given of gpu, own"
    assert reason_of(rows, "hhi_hbm_maker") == "no hbm_maker is given of gpu, own"
    assert reason_of(rows, "event_exposure_ratio") == "no event is given"
    assert reason_of(rows, "rollback_ratio") == "nothing has moved"
    assert all((row.value is None) == bool(row.reason) for row in rows)


def test_the_cost_of_safety_is_the_plan_less_the_bare_one():
    found = figures(*by_hand(), Inputs(bare_cost=1_700.0))
    assert found["safety_cost", "fleet", None] == pytest.approx(53.2)


def test_concentration_of_sanjiangyuan():
    # signed capacity in the press: T-Head 1945, MetaX 984, Biren 450, Zhonghao 200 P
    assert hhi({"t-head": 1945, "metax": 984, "biren": 450, "zhonghao": 200}) == pytest.approx(0.390, abs=5e-4)
    assert hhi(dict.fromkeys("abcd", 7.0)) == pytest.approx(1 / 4)
    assert hhi({"a": 0.0}) is None


def test_a_flip_that_loses_the_cache_multiplies_prefill():
    assert prefill_storm_ratio(0.5625) == pytest.approx(2.29, abs=0.005)  # the hit rate that DeepSeek published
    assert prefill_storm_ratio(0.5625, 0.5) == pytest.approx(1 + (2.2857 - 1) / 2, abs=1e-3)
    assert prefill_storm_ratio(0.0) == 1
    with pytest.raises(ValueError, match="hit_ratio"):
        prefill_storm_ratio(1.0)


# --- losses -----------------------------------------------------------------------------------------------------------
def test_a_kind_that_is_lost_leaves_what_others_can_take():
    problem, answer = by_hand()
    assert unserved_after(problem, answer, {"own": 0.0}) == ()  # 12 GPUs take all 800 tok/s
    rows = unserved_after(problem, answer, {"gpu": 0.25}, period=1)
    assert [(row.period, row.service) for row in rows] == []  # 3 x 100 + 10 x 80 do
    rows = unserved_after(problem, answer, {"gpu": 0.0})
    assert [(row.period, row.tok_s) for row in rows] == [(0, pytest.approx(800.0))]  # ours open in the next
    assert rows[0].mtok == pytest.approx(800 * 0.5 * 3600 * 730.5 / 1e6)


def test_a_supplier_can_deliver_nothing_or_be_switched_off():
    lost = supplier_losses(*by_hand())
    mtok = 800 * 0.5 * 3600 * 730.5 / 1e6
    assert lost["vendor", "n", "delivers nothing"] == 0
    assert lost["vendor", "n", "switched off"] == pytest.approx(mtok)
    assert lost["vendor", "o", "switched off"] == 0
    assert lost["foundry", "t", "switched off"] == pytest.approx(2 * mtok)


# --- of every plan ----------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_figures_of_a_drawn_plan_hold_together(seed):
    problem, answer = planned(seed)
    rows = measures(problem, answer, Inputs(compute_flop_s=COMPUTE))
    found = {(row.name, row.scope, row.period): row.value for row in rows}
    assert len(found) == len(rows)
    hosts = sum(row.kept + row.new for row in answer.hosts)
    assert sum(
        row.value for row in rows if row.name in {f"{s}_hosts" for s in ("serving", "shadow", "reserve", "idle")}
    ) == pytest.approx(hosts)
    for row in rows:
        if row.name.endswith("_ratio") and row.value is not None:
            assert -1e-6 <= row.value <= 1 + 1e-6, row
    energy = sum(
        row.value * next(site.tariff_per_kwh[0] for site in problem.sites if row.scope == f"site {site.slug}")
        for row in rows
        if row.name == "energy_kwh"
    )
    assert energy == pytest.approx(sum(row.energy for row in answer.money))
    shares = [found["vendor_exposure_ratio", f"vendor {name}", 3] for name in ("v1", "v2")]
    assert sum(shares) == pytest.approx(1)
    assert shares[1] == pytest.approx(found["homegrown_output_ratio", "fleet", 3])


@pytest.mark.parametrize("seed", SEEDS)
def test_losing_everything_loses_every_token_and_losing_nothing_none(seed):
    problem, answer = planned(seed)
    assert unserved_after(problem, answer, {}) == ()
    rows = unserved_after(problem, answer, dict.fromkeys(("old", "gpu", "own"), 0.0))
    served = sum(sum(problem.at(one.demand_tok_s)) for one in problem.services)
    served -= sum(row.tok_s for row in answer.short if not row.domain)
    assert sum(row.tok_s for row in rows) == pytest.approx(served)


# --- reconciling ------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("seed", SEEDS)
def test_every_plan_reconciles(seed):
    assert reconcile(*planned(seed)) == []


BROKEN = {
    "tokens": lambda a: replace(a, loads=a.loads[1:]),
    "short tokens": lambda a: replace(a, short=a.short[1:]),
    "capacity": lambda a: replace(a, hosts=tuple(replace(row, kept=0) for row in a.hosts)),
    "supply": lambda a: replace(a, hosts=tuple(replace(row, new=row.new + 50) for row in a.hosts)),
    "kept": lambda a: replace(a, hosts=tuple(replace(row, kept=row.kept + 50) for row in a.hosts)),
    "money": lambda a: replace(a, money=(replace(a.money[0], energy=a.money[0].energy + 0.02), *a.money[1:])),
    "total": lambda a: replace(a, money=(replace(a.money[0], total=a.money[0].total + 0.02), *a.money[1:])),
    "objective": lambda a: replace(a, solver=replace(a.solver, objective=a.solver.objective + 0.02)),
    "limit rows": lambda a: replace(a, limits=a.limits[1:]),
    "open": lambda a: replace(a, opened=()),
    "failover": lambda a: replace(a, failover=a.failover[1:]),
    "offers": lambda a: replace(a, bought=(*a.bought, BoughtRow(0, "s0", "own", 3.0))),
}


@pytest.mark.parametrize("name", BROKEN)
def test_a_plan_that_is_broken_does_not_reconcile(name):
    problem, answer = planned(3)
    assert reconcile(problem, BROKEN[name](answer)) != []


def test_docs_name_every_figure():
    text = (ROOT / "docs" / "models" / "plan-figures.md").read_text()
    problem, answer = planned(3)
    assert {row.name for row in measures(problem, answer) if f"`{row.name}`" not in text} == set()
