"""How long the migration planner takes, and how good its plan is: invented fleets of two sizes.

A fleet of half GPU and half homegrown kinds, GPUs for 1.3 times the first month's demand, deliveries, offers, a breaker
a site, waves, shadow traffic, reserve for a return, failover of gold, a floor for the last six months.
"""

import sys
import time

import numpy as np
from measure import figure_print, machine_print

from scenarios.planning.migration import plan_migration
from scenarios.planning.problem import PlanProblem, problem_read

SIZES = {
    "24 months, 6 kinds, 20 services, 4 sites": {"periods": 24, "kinds": 6, "services": 20, "sites": 4, "regions": 2},
    "36 months, 8 kinds, 50 services, 20 sites": {"periods": 36, "kinds": 8, "services": 50, "sites": 20, "regions": 5},
}
GAPS = {"24": 0.01, "36": 0.03}
THREADS = 2


def fleet(
    *, periods: int, kinds: int, services: int, sites: int, regions: int, split: bool, gap: float, seed: int = 1
) -> PlanProblem:
    """Return an invented problem; with `split` every host also has rates for prompts and answers alone."""
    rng = np.random.default_rng(seed)
    names = [f"k{k}" for k in range(kinds)]
    homegrown = dict.fromkeys(names[: kinds // 2], False) | dict.fromkeys(names[kinds // 2 :], True)
    power_w = {name: float(rng.uniform(5000, 11_000)) for name in names}
    region_of = [f"r{s % regions}" for s in range(sites)]
    demand, rates, asked = {}, [], dict.fromkeys(region_of, 0.0)
    for m in range(services):
        growth, first = rng.uniform(0.0, 0.05), float(rng.uniform(2e4, 2e5))
        demand[m] = [first * (1 + growth) ** t for t in range(periods)]
        on_gpu = []
        for name in names:
            if homegrown[name] and rng.uniform() < 0.3:
                continue
            tok_s = float(rng.uniform(2000, 9000))
            on_gpu += [] if homegrown[name] else [tok_s]
            for phase, times in (("whole", 1.0), ("prefill", rng.uniform(1.8, 4)), ("decode", rng.uniform(1.2, 2))):
                if phase == "whole" or split:
                    ready = int(rng.integers(0, periods // 2)) if homegrown[name] else 0
                    cost = (3e5 if phase == "whole" else 1e5) if homegrown[name] else 0.0
                    row = {"service": f"m{m}", "kind": name, "phase": phase, "tok_s": tok_s * float(times)}
                    rates.append({**row, "ready": ready, "port_cost": cost, "replicas_per_host": 2.0})
        asked[f"r{m % regions}"] += first / float(np.mean(on_gpu)) / 0.9 * 1.3
    standing = [
        {
            "place": f"s{s}",
            "kind": name,
            "hosts": [
                float(int(asked[region_of[s]] / region_of.count(region_of[s]) / (kinds // 2)) + 1)
                // (1 + (t >= 0.8 * periods))
                for t in range(periods)
            ],
        }
        for s in range(sites)
        for name in names
        if not homegrown[name]
    ]
    return problem_read(
        {
            "periods": [f"{2027 + t // 12}-{t % 12 + 1:02d}" for t in range(periods)],
            "sites": [
                {
                    "slug": f"s{s}",
                    "region": region_of[s],
                    "pue_ratio": 1.2,
                    "tariff_per_kwh": 0.7,
                    "homegrown_tariff_per_kwh": [0.4] * (periods // 2) + [0.7] * (periods - periods // 2),
                }
                for s in range(sites)
            ],
            "kinds": [
                {
                    "slug": name,
                    "homegrown": homegrown[name],
                    "power_w": power_w[name],
                    "idle_w": 0.3 * power_w[name],
                    "price": float(rng.uniform(5e5, 1.5e6)),
                    "book_value": 0.0 if homegrown[name] else float(rng.uniform(2e5, 8e5)),
                    "months_left": 36,
                    "resale_ratio": 0.5,
                    "upkeep_per_month": 2000.0,
                }
                for name in names
            ],
            "services": [
                {
                    "slug": f"m{m}",
                    "region": f"r{m % regions}",
                    "demand_tok_s": demand[m],
                    "tier": "gold" if m % 4 == 0 else "standard",
                    "mean_ratio": 0.6,
                    "input_ratio": float(rng.uniform(1, 8)),
                    "penalty_per_mtok": 20.0,
                }
                for m in range(services)
            ],
            "rates": rates,
            "standing": standing,
            "deliveries": [
                {
                    "site": f"s{s}",
                    "kind": name,
                    "period": int(rng.integers(1, periods - 1)),
                    "hosts": int(rng.integers(5, 40)),
                }
                for s in range(sites)
                for name in names
                if homegrown[name]
                for _ in range(3)
            ],
            "offers": [
                {"kind": name, "period": t, "hosts": 2 * sites}
                for name in names
                if homegrown[name]
                for t in range(4, periods, 3)
            ],
            "limits": [
                {
                    "slug": f"breaker of s{s}",
                    "limit": 1.25
                    * sum(row["hosts"][0] * power_w[row["kind"]] for row in standing if row["place"] == f"s{s}"),
                    "uses": [{"place": f"s{s}", "kind": name, "amount": power_w[name]} for name in names],
                }
                for s in range(sites)
            ],
            "floors": [{"ratio": 0.4, "period": periods - 6}],
            "domains": [{"slug": f"s{s}", "lost": [{"place": f"s{s}"}]} for s in range(sites)],
            "rules": {
                "waves_most": max(3, services * 3 // 10),
                "rollback_ratio": 0.5,
                "hold_periods": 2,
                "shadow_ratio": 0.1,
                "shadow_periods": 1,
                "ramp_ratio": 0.5,
                "failover_penalty_per_mtok": 5.0,
                "discount_ratio_year": 0.08,
                "split": split,
            },
            "solver": {"gap_ratio": gap, "nodes_most": None, "time_limit_s": 900.0, "threads": THREADS},
        }
    )


def main() -> None:
    """Print time and gap of each size, whole services and, of the smaller, split ones too."""
    machine_print()
    for (name, size), split in [*((item, False) for item in SIZES.items()), (next(iter(SIZES.items())), True)]:
        if sys.argv[1:] and not name.startswith(sys.argv[1]):
            continue
        problem = fleet(**size, split=split, gap=GAPS[name[:2]])
        begun_s = time.monotonic()
        answer = plan_migration(problem)
        what = name + (", prompts and answers apart" if split else "")
        figure_print(f"plan, {what}", time.monotonic() - begun_s, "s on the clock")
        figure_print(f"  its gap to the best proven bound ({answer.status})", 100 * (answer.solver.gap_ratio or 0), "%")
        figure_print("  variables, of which whole", answer.solver.columns, f", {answer.solver.integers}")


if __name__ == "__main__":
    main()
