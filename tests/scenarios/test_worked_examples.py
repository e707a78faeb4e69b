"""The examples that docs/models/capacity.md and migration.md work by hand, computed; the pages quote these figures."""

from datetime import date

import pytest

from scenarios.capacity import plan_capacity
from scenarios.migration import plan_migration_greedy
from tests.conftest import ROOT
from tests.factories import delivery_fact, kind_fact, problem, service_fact, snapshot

KINDS = (
    kind_fact("gpu", power_w=5000.0, height_u=6),
    kind_fact("own", chip="thead-ppu-810e", power_w=8000.0, height_u=8),
)


def page(name):
    return " ".join((ROOT / "docs" / "models" / name).read_text().split())


@pytest.fixture(scope="module")
def capacity():
    growth = (0.03,) * 3
    fleet = snapshot(
        kinds=KINDS,
        services=(
            service_fact("chat", demand_request_s=80.0, growth=growth),
            service_fact("code", demand_request_s=30.0, growth=growth),
        ),
        racks_per_site=4,
        rack_w=32_000.0,
        hosts={("dc01", "gpu"): 10, ("dc01", "own"): 8},
        deliveries=(delivery_fact(quantity=3, expected_on=date(2027, 2, 20), slip=(20.0, 60.0)),),
    )
    rate, ready = [[1000.0, 500.0], [800.0, 0.0]], [[0, 0], [0, None]]
    return plan_capacity(problem(fleet, rate=rate, ready=ready, months=6, reserve_ratio=0.1))


def test_capacity_example_headroom_of_every_month(capacity):
    base = [12_600, 12_600, 12_600, 13_050, 13_050, 13_050]
    expected = [host_tok_s / 11_750 / 1.03**month for month, host_tok_s in enumerate(base)]
    periods = capacity.regions[0].periods
    assert [period.headroom_ratio.p50 + 1 for period in periods] == pytest.approx(expected)
    for theta in expected:
        assert f"{theta:.3f}" in page("capacity.md")


def test_capacity_example_first_month_in_figures(capacity):
    first = capacity.regions[0].periods[0]
    assert first.demanded_tok_s.p50 == pytest.approx(11_000)
    assert f"{first.available_tok_s.p50:,.0f}" == "11,796"
    assert "11,796" in page("capacity.md")


def test_capacity_example_run_out_and_what_binds(capacity):
    assert capacity.regions[0].run_out.p50 == "2027-05"
    assert capacity.regions[0].sentence.startswith("North runs out by 2027-05 in half of the futures.")
    site = capacity.sites[0].periods[3]
    assert (site.binding, dict(site.hosts), dict(site.waiting)) == ("rack_power", {"gpu": 10, "own": 9}, {"own": 2})
    assert site.sentence in page("capacity.md")


def test_migration_example_month_by_month():
    fleet = snapshot(
        kinds=KINDS,
        services=(service_fact("chat", demand_request_s=20.0, growth=(0.0,) * 3),),
        racks_per_site=1,
        rack_w=40_000.0,
        rack_u=60,
        hosts={("dc01", "gpu"): 4, ("dc01", "own"): 2},
        deliveries=(delivery_fact(quantity=2),),
    )
    plan = plan_migration_greedy(problem(fleet, rate=[[1000.0, 500.0]], months=4))
    rows = []
    for period in plan.fleet.periods:
        loads = (period.serving.get("gpu", 0.0), period.serving.get("own", 0.0), period.dual.get("gpu", 0.0))
        rows.append(
            f"| {period.month} | {period.hosts.get('gpu', 0)} | {period.hosts.get('own', 0)} | "
            f"{period.waiting.get('own', 0)} | {period.homegrown_token_ratio.p50:.0%} | "
            f"{' | '.join(f'{load:.1f}' for load in loads)} | {period.gpu_hosts_needed.p50:.0f} |"
        )
    for row in rows:
        assert row in page("migration.md"), "\n".join(rows)
    assert [(move.month, round(move.share_ratio, 2)) for move in plan.moves] == [("2027-01", 0.75), ("2027-02", 0.25)]
    assert plan.fleet.gpu_free.p50 == "2027-03"


def test_migration_example_where_greedy_is_not_the_best():
    """The page's counterexample: the greedy plan leaves traffic on GPUs that another order would move."""
    fleet = snapshot(
        kinds=(KINDS[0], kind_fact("own-a", chip="ascend-910c"), kind_fact("own-b", chip="thead-ppu-810e")),
        services=(
            service_fact("chat", demand_request_s=20.0, growth=(0.0,) * 3),
            service_fact("code", demand_request_s=20.0, growth=(0.0,) * 3),
        ),
        hosts={("dc01", "gpu"): 4, ("dc01", "own-a"): 2, ("dc01", "own-b"): 2},
    )
    # chat runs on both homegrown kinds, code on own-a alone
    question = problem(fleet, rate=[[1000.0, 1100.0, 1000.0], [1000.0, 1000.0, 0.0]], months=1)
    plan = plan_migration_greedy(question)
    assert {move.service: (move.to_kind, round(move.share_ratio, 2)) for move in plan.moves} == {
        "chat": ("own-a", 1.0),
        "code": ("own-a", 0.05),
    }
    assert plan.fleet.periods[0].homegrown_token_ratio.p50 == pytest.approx(0.525)
    assert "52.5 %" in page("migration.md")
