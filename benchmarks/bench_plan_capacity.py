"""How long the capacity planner takes for a large fleet: 36 months, 20 sites in 5 regions, 50 services, 8 host types.

Draws are shared out over one process and over two, as workers would do it; both must give the same bytes. Seconds of
the clock say what a reader waits, CPU seconds what it costs.
"""

import json
import time
from concurrent.futures import ProcessPoolExecutor
from functools import partial
from multiprocessing import get_context

import numpy as np
from measure import figure_print, machine_print

from scenarios.planning.capacity import CapacityPart, capacity_draws, capacity_merge
from scenarios.planning.capacity_answer import CapacityAsk
from scenarios.planning.draws import FanValues, FutureValues
from scenarios.planning.problem import PlanProblem, problem_read

PERIODS, SITES, REGIONS, SERVICES, KINDS, DRAWS = 36, 20, 5, 50, 8, 200
TIERS = ("gold", "standard", "batch")


def large_problem(*, split: bool) -> PlanProblem:
    """Return a made-up fleet; with `split` prompts and answers may run on different kinds too."""
    rng = np.random.default_rng(1)
    phases = (("whole", 1.0), ("prefill", 2.5), ("decode", 1.6)) if split else (("whole", 1.0),)
    kinds = [
        {"slug": f"k{k}", "homegrown": k >= KINDS // 2, "power_w": float(rng.uniform(5e3, 11e3)), "price": 1e6}
        for k in range(KINDS)
    ]
    services, rates = [], []
    for m in range(SERVICES):
        demand, growth = float(rng.uniform(2e4, 2e5)), float(rng.uniform(0.0, 0.05))
        series = [demand * (1 + growth) ** t for t in range(PERIODS)]
        services.append(
            {"slug": f"m{m}", "region": f"r{m % REGIONS}", "demand_tok_s": series, "tier": TIERS[m // REGIONS % 3]}
        )
        for k in range(KINDS):
            if k < KINDS // 2 or rng.random() < 0.7:
                base, ready = float(rng.uniform(2e3, 9e3)), int(rng.integers(0, PERIODS // 2))
                for phase, factor in phases:
                    tok_s = base * factor * float(rng.uniform(0.8, 1.2))
                    low, high = tok_s * float(rng.uniform(0.7, 0.9)), tok_s * float(rng.uniform(1.1, 1.4))
                    rate = {"service": f"m{m}", "kind": f"k{k}", "phase": phase, "tok_s": tok_s}
                    band = {"low_tok_s": low, "high_tok_s": high, "ready": ready if k >= KINDS // 2 else 0}
                    rates.append(rate | band)
    needed = sum(one["demand_tok_s"][0] for one in services) / 5e3 * 0.8 / SITES / (KINDS // 2)
    standing = [
        {"place": f"s{s}", "kind": f"k{k}", "hosts": round(needed)} for s in range(SITES) for k in range(KINDS // 2)
    ]
    deliveries = [
        {
            "site": f"s{s}",
            "kind": f"k{k}",
            "period": int(rng.integers(1, PERIODS - 1)),
            "hosts": int(rng.integers(1, 8)),
            "slip_p50_months": 1.0,
            "slip_p90_months": 4.0,
            "fill_ratio": 0.7,
            "group": f"g{k % 2}",
        }
        for s in range(SITES)
        for k in range(KINDS // 2, KINDS)
        for _ in range(3)
    ]
    standing_w = sum(needed * kind["power_w"] for kind in kinds[: KINDS // 2])
    limits = [
        {
            "slug": f"power of s{s}",
            "limit": standing_w * 5,
            "uses": [{"place": f"s{s}", "kind": kind["slug"], "amount": kind["power_w"]} for kind in kinds],
        }
        for s in range(SITES)
    ]
    return problem_read(
        {
            "periods": [f"{2027 + t // 12}-{t % 12 + 1:02d}" for t in range(PERIODS)],
            "sites": [{"slug": f"s{s}", "region": f"r{s % REGIONS}", "tariff_per_kwh": 0.7} for s in range(SITES)],
            "kinds": kinds,
            "services": services,
            "rates": rates,
            "standing": standing,
            "deliveries": deliveries,
            "limits": limits,
            "offers": [{"kind": f"k{k}", "period": 4, "hosts": 200} for k in range(KINDS // 2, KINDS)],
            "domains": [{"slug": f"s{s}", "lost": [{"place": f"s{s}"}]} for s in range(SITES)],
            "rules": {"split": split},
        }
    )


def fans(problem: PlanProblem) -> FutureValues:
    """Return fans that widen by half a percent of the demand a month."""
    found = []
    for service in problem.services:
        middle = np.array(problem.at(service.demand_tok_s))
        wide = 0.005 * np.arange(PERIODS)
        ends = (tuple((middle * factor).tolist()) for factor in (1 - wide, 1 + 0 * wide, 1 + wide))
        found.append(FanValues(service.slug, *ends))
    return FutureValues(fans=tuple(found))


def main() -> None:
    """Print the time of all draws and of the merge, by one process and by two."""
    machine_print()
    for split in (False, True):
        problem = large_problem(split=split)
        ask = CapacityAsk(draws=DRAWS, target_ratio=0.1, futures=fans(problem))
        name = "prompts and answers apart" if split else "whole services"
        start_s, start_cpu_s = time.monotonic(), time.process_time()
        part = capacity_draws(problem, ask, range(DRAWS))
        figure_print(f"{DRAWS} draws, one process, {name}", time.monotonic() - start_s, "s")
        figure_print(f"{DRAWS} draws, one process, {name}", time.process_time() - start_cpu_s, "CPU-s")
        start_s, start_cpu_s = time.monotonic(), time.process_time()
        answer = capacity_merge(problem, ask, [part])
        figure_print(f"merge, N+1, what to add ({len(answer.add)} rows), {name}", time.monotonic() - start_s, "s")
        figure_print(
            f"merge, N+1, what to add ({len(answer.add)} rows), {name}", time.process_time() - start_cpu_s, "CPU-s"
        )
        with ProcessPoolExecutor(2, mp_context=get_context("spawn")) as pool:
            list(pool.map(abs, range(2)))  # both are there
            start_s = time.monotonic()
            halves = (range(DRAWS // 2), range(DRAWS // 2, DRAWS))
            parts: list[CapacityPart] = list(pool.map(partial(capacity_draws, problem, ask), halves))
            figure_print(f"{DRAWS} draws, two processes, {name}", time.monotonic() - start_s, "s")
        again = capacity_merge(problem, ask, parts)
        if json.dumps(again.as_dict()) != json.dumps(answer.as_dict()):
            raise ArithmeticError("two processes do not give the bytes of one")


if __name__ == "__main__":
    main()
