"""The search in stages finds what the solver's tree finds; it can be stopped and begun again."""

import threading
from dataclasses import replace

import numpy as np
import pytest

from scenarios.planning import search as staged
from scenarios.planning.memory import Memory
from scenarios.planning.migration import plan_migration
from scenarios.planning.migration_program import MigrationProgram
from scenarios.planning.problem import SolverValues, problem_read
from scenarios.planning.solver import StoppedError, solve


def question(seed, *, periods=8, services=5, gap=0.01, time_limit_s=120.0):
    rng = np.random.default_rng(seed)
    kinds = [
        {"slug": f"k{k}", "homegrown": k > 0, "power_w": 6000.0, "idle_w": 1500.0, "price": 900_000.0 + 50_000 * k}
        for k in range(3)
    ]
    kinds[0] |= {"book_value": 500_000.0, "resale_ratio": 0.5}
    return problem_read(
        {
            "periods": [f"m{t}" for t in range(periods)],
            "sites": [{"slug": s, "region": "r", "tariff_per_kwh": 0.8} for s in ("s0", "s1")],
            "kinds": kinds,
            "services": [
                {
                    "slug": f"m{m}",
                    "region": "r",
                    "demand_tok_s": [float(d) for d in rng.uniform(2e4, 8e4) * 1.03 ** np.arange(periods)],
                    "tier": "gold" if m == 0 else "standard",
                    "penalty_per_mtok": 300.0,
                }
                for m in range(services)
            ],
            "rates": [
                {
                    "service": f"m{m}",
                    "kind": f"k{k}",
                    "tok_s": float(rng.uniform(3000, 8000)),
                    "ready": int(rng.integers(0, periods // 2)) if k else 0,
                    "port_cost": 2e5 if k else 0.0,
                }
                for m in range(services)
                for k in range(3)
            ],
            "standing": [{"place": s, "kind": "k0", "hosts": 40} for s in ("s0", "s1")],
            "deliveries": [
                {"site": s, "kind": f"k{k}", "period": t, "hosts": int(rng.integers(4, 12))}
                for s in ("s0", "s1")
                for k in (1, 2)
                for t in (1, 4)
            ],
            "limits": [
                {
                    "slug": f"feed {s}",
                    "limit": 300_000.0,
                    "uses": [{"place": s, "kind": f"k{k}", "amount": 6000.0} for k in range(3)],
                }
                for s in ("s0", "s1")
            ],
            "domains": [{"slug": s, "lost": [{"place": s}]} for s in ("s0", "s1")],
            "rules": {
                "waves_most": 2,
                "rollback_ratio": 0.5,
                "hold_periods": 1,
                "shadow_ratio": 0.1,
                "shadow_periods": 1,
                "failover_penalty_per_mtok": 30.0,
            },
            "solver": {"gap_ratio": gap, "nodes_most": None, "time_limit_s": time_limit_s},
        }
    )


@pytest.mark.parametrize("seed", range(3))
def test_the_stages_end_within_the_gap_of_the_whole_tree(seed):
    problem = question(seed)
    answer = plan_migration(problem)
    program = MigrationProgram(problem)
    best = solve(program.frozen, program.money, SolverValues(gap_ratio=0.002, nodes_most=None, time_limit_s=120.0))
    assert answer.status == "optimal"
    assert answer.solver.gap_ratio <= 0.01
    assert answer.solver.bound <= best.objective + program.constant + 1e-3
    assert answer.solver.objective <= (best.objective + program.constant) * 1.0101


def test_the_same_problem_gives_the_same_plan():
    assert plan_migration(question(3)) == plan_migration(question(3))


def test_a_search_that_nobody_wants_stops():
    wanted = threading.Event()

    def leave(stage):
        if stage == "waves":
            wanted.set()

    with pytest.raises(StoppedError):
        plan_migration(question(4), should_stop=wanted.is_set, on_stage=leave)


def test_a_plan_cut_short_says_so_and_has_its_gap():
    problem = question(5, periods=12, services=8, gap=0.0, time_limit_s=1.0)
    problem = replace(problem, solver=replace(problem.solver, gap_ratio=1e-7))
    answer = plan_migration(problem)
    assert answer.solver.stopped_by_clock
    if answer.is_plan:
        assert answer.status == "feasible"
        assert answer.solver.gap_ratio > 0


def test_whoever_goes_on_after_a_crash_ends_with_the_same_plan():
    whole = plan_migration(question(6))
    left = []
    plan_migration(question(6), memory=Memory(keep=left.append))
    assert len(left) >= 3
    for data in left:
        stages = []
        assert plan_migration(question(6), memory=Memory(data, keep=stages.append)) == whole
        assert len(stages) < len(left)


def test_openings_are_delayed_where_a_period_has_too_many(monkeypatch):
    program = MigrationProgram(question(7))
    openings = np.array(list(program.columns.opened.values()))
    search = staged.Search(program.frozen, openings, program.problem.solver, waves_most=2)
    values = np.zeros(len(program.frozen.lower))
    values[openings[:, 2:]] = 1.0
    first = search._first(values, 0.5)
    assert sorted(first[first < 8].tolist()) == [2, 2, 3, 3, 4, 4, 5, 5, 6, 6][: (first < 8).sum()]
