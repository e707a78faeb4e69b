"""Small fleets for tests of the capacity planner: one by hand, and random ones."""

import numpy as np

from scenarios.planning.draws import FanValues, FutureValues
from scenarios.planning.problem import PlanProblem, problem_read


def one_service(*, demand_tok_s=900.0, growth_ratio=0.03, hosts=100, periods=24, **more) -> PlanProblem:
    """One service of 10 tok/s a host, on one kind at one site, without a reserve."""
    data = {
        "periods": [f"{2027 + t // 12}-{t % 12 + 1:02d}" for t in range(periods)],
        "sites": [{"slug": "dc1", "region": "north", "tariff_per_kwh": 1.0}],
        "kinds": [{"slug": "gpu", "homegrown": False, "power_w": 1000.0, "price": 100_000.0}],
        "services": [
            {
                "slug": "chat",
                "region": "north",
                "demand_tok_s": [demand_tok_s * (1 + growth_ratio) ** t for t in range(periods)],
            }
        ],
        "rates": [{"service": "chat", "kind": "gpu", "tok_s": 10.0}],
        "standing": [{"place": "dc1", "kind": "gpu", "hosts": hosts}],
        "rules": {"reserve_ratio": 0.0},
    }
    return problem_read(data | more)


def random_fleet(seed: int, *, periods: int = 5, services: int = 5, split: bool = True) -> PlanProblem:
    """Two regions, three sites, four kinds; every feature that the capacity planner reads is there sometimes."""
    rng = np.random.default_rng(seed)
    kinds = [
        {
            "slug": f"k{k}",
            "homegrown": k >= 2,
            "power_w": float(rng.integers(5, 11) * 1000),
            "price": float(rng.integers(3, 9) * 1e5),
        }
        for k in range(4)
    ]
    sites = [{"slug": f"s{s}", "region": "north" if s < 2 else "south", "tariff_per_kwh": 0.7} for s in range(3)]
    places = [{"slug": f"s{s}/{hall}", "site": f"s{s}"} for s in range(3) for hall in "ab"]
    many, rates = [], []
    for m in range(services):
        demand = float(rng.integers(5, 60) * 1000)
        growth = float(rng.uniform(-0.02, 0.12))
        many.append(
            {
                "slug": f"m{m}",
                "region": "north" if m % 2 == 0 else "south",
                "demand_tok_s": [demand * (1 + growth) ** t for t in range(periods)],
                "tier": ("gold", "standard", "batch")[int(rng.integers(0, 3))],
                "mean_ratio": 0.5,
                "stays": bool(rng.random() < 0.1),
            }
        )
        if not many[-1]["stays"] and rng.random() < 0.15:
            many[-1]["homegrown_from"] = periods - 2
        for k in range(4):
            if rng.random() < 0.2:
                continue
            base = float(rng.integers(20, 90) * 100)
            for phase, factor in (("whole", 1.0), ("prefill", 2.5), ("decode", 1.6)):
                if phase == "whole" or (split and rng.random() < 0.7):
                    tok_s = base * factor
                    rates.append(
                        {
                            "service": f"m{m}",
                            "kind": f"k{k}",
                            "phase": phase,
                            "tok_s": tok_s,
                            "low_tok_s": tok_s * float(rng.uniform(0.6, 0.95)),
                            "high_tok_s": tok_s * float(rng.uniform(1.05, 1.4)),
                            "ready": int(rng.integers(0, periods)) if k >= 2 else 0,
                        }
                    )
    standing = [
        {
            "place": place["slug"],
            "kind": f"k{k}",
            "hosts": [int(h) if t < periods - 1 else int(h) // 2 for t in range(periods)],
        }
        for place in places
        for k, h in ((k, rng.integers(0, 9)) for k in range(3))
    ]
    deliveries = [
        {
            "site": f"s{int(rng.integers(0, 3))}",
            "kind": f"k{int(rng.integers(2, 4))}",
            "period": int(rng.integers(0, periods)),
            "hosts": int(rng.integers(1, 9)),
            "slip_p50_months": 0.5,
            "slip_p90_months": 3.0,
            "fill_ratio": 0.7,
            "group": ("", "maker")[int(rng.integers(0, 2))],
        }
        for _ in range(5)
    ]
    limits = [
        {
            "slug": f"power of {place['slug']}",
            "limit": float(rng.integers(90, 260) * 1000),
            "uses": [{"place": place["slug"], "kind": kind["slug"], "amount": kind["power_w"]} for kind in kinds],
        }
        for place in places
    ]
    return problem_read(
        {
            "periods": [f"2027-{t + 1:02d}" for t in range(periods)],
            "sites": sites,
            "places": places,
            "kinds": kinds,
            "services": many,
            "rates": rates,
            "standing": standing,
            "deliveries": deliveries,
            "offers": [{"kind": f"k{k}", "period": 1, "hosts": 10} for k in (2, 3)],
            "limits": limits,
            "domains": [{"slug": place["slug"], "lost": [{"place": place["slug"]}]} for place in places],
            "rules": {"split": split},
        }
    )


def fans_of(problem: PlanProblem, *, spread_ratio: float = 0.2) -> FutureValues:
    """Fans about the demand of a problem that widen from period to period."""
    fans = []
    for service in problem.services:
        middle = problem.at(service.demand_tok_s)
        wide = [spread_ratio * t / len(middle) for t in range(len(middle))]
        fans.append(
            FanValues(
                service.slug,
                tuple(d * (1 - w) for d, w in zip(middle, wide, strict=True)),
                middle,
                tuple(d * (1 + w) for d, w in zip(middle, wide, strict=True)),
            )
        )
    return FutureValues(fans=tuple(fans))
