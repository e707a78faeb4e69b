"""How fast the planners answer about the demo fleet, per future, and the small linear program under them."""

from dataclasses import replace
from datetime import date

import numpy as np
from database import tables_make
from measure import call_cpu_s, figure_print, machine_print
from scipy.optimize import linprog

from fleet.demo import demo_fleet_load
from fleet.selectors import snapshot_take
from scenarios.calibrations import calibration_in_use
from scenarios.capacity import plan_capacity
from scenarios.demand import month_add
from scenarios.engine import Inputs, problem_build
from scenarios.futures import future_expected
from scenarios.migration import plan_migration_greedy
from scenarios.placement import ServedShare
from scenarios.plans import Problem

START, MONTHS, FUTURES = date(2027, 1, 1), 24, 8


def demo_problem() -> Problem:
    """Return the question of a plain run about the demo fleet."""
    tables_make()
    demo_fleet_load(START)
    inputs = Inputs(
        kind="capacity",
        starts_on=START,
        ends_on=month_add(START, MONTHS - 1),
        trace_digest=None,
        services=(),
        reserve_ratio=0.1,
        growth_override_ratio=None,
        dual_run_months=1,
        draws=FUTURES - 1,
        seed=1,
    )
    return problem_build(inputs, snapshot_take(START), None, calibration_in_use())[0]


def region_numbers(problem: Problem, month: int) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return rates [M, K], demand [M] and hosts [K] of the demo's first region in a month."""
    snapshot, future = problem.snapshot, future_expected(problem)
    region = snapshot.regions[0].slug
    ours = [at for at, service in enumerate(snapshot.services) if service.region == region]
    sites = [at for at, site in enumerate(snapshot.sites) if site.region == region]
    racks = np.isin(snapshot.rack_site, sites)
    rate = future.rate_tok_s[ours] * problem.allowed[ours, :, month]
    hosts = snapshot.rack_hosts(problem.months[month])[racks].sum(axis=0) * (1 - problem.reserve_ratio)
    return rate, future.demand_tok_s[ours, month], hosts


def linprog_theta(rate: np.ndarray, demand: np.ndarray, hosts: np.ndarray) -> float:
    """Return the same share as ServedShare: the program built anew, with scipy."""
    services, kinds = rate.shape
    upper = np.zeros((services + kinds, services * kinds + 1))
    for service in range(services):
        upper[service, service * kinds : (service + 1) * kinds] = -rate[service] / demand[service]
        upper[service, -1] = 1.0
    for kind in range(kinds):
        upper[services + kind, kind:-1:kinds] = 1.0
    cost = np.zeros(services * kinds + 1)
    cost[-1] = -1.0
    return -linprog(cost, A_ub=upper, b_ub=np.concatenate((np.zeros(services), hosts)), method="highs").fun


def main() -> None:
    """Print futures per CPU second of each planner, and questions per CPU second of the linear program."""
    machine_print()
    problem = demo_problem()
    snapshot = problem.snapshot
    fleet = f"{len(snapshot.host_rack)} hosts, {len(snapshot.services)} services, {MONTHS} months"
    for name, plan in (("capacity", plan_capacity), ("greedy migration", plan_migration_greedy)):
        spent_s = call_cpu_s(lambda plan=plan: plan(problem))
        figure_print(f"{name}, demo ({fleet})", spent_s / FUTURES * 1e3, "CPU-ms/future")
        none_s = call_cpu_s(lambda plan=plan: plan(replace(problem, draws=0)))
        figure_print(f"{name}, demo, no draws: a first answer", none_s * 1e3, "CPU-ms")

    questions = [region_numbers(problem, month) for month in range(MONTHS)]
    kept = ServedShare(*questions[0][0].shape)
    for rate, demand, hosts in questions:
        theta = kept.theta(rate_tok_s=rate, demand_tok_s=demand, hosts=hosts)
        if abs(theta / linprog_theta(rate, demand, hosts) - 1) > 1e-6:
            raise ArithmeticError("the two programs do not agree")

    def ours() -> None:
        kept.restart()  # as a planner does before each future
        for rate, demand, hosts in questions:
            kept.theta(rate_tok_s=rate, demand_tok_s=demand, hosts=hosts)

    def theirs() -> None:
        for rate, demand, hosts in questions:
            linprog_theta(rate, demand, hosts)

    kept_s, anew_s = call_cpu_s(ours) / MONTHS, call_cpu_s(theirs) / MONTHS
    size = " x ".join(str(count) for count in questions[0][0].shape)
    figure_print(
        f"share served, kept program ({size})",
        1 / kept_s,
        "questions/CPU-s",
        reference="linprog",
        ratio=anew_s / kept_s,
    )
    figure_print(f"share served, scipy linprog ({size})", 1 / anew_s, "questions/CPU-s")


if __name__ == "__main__":
    main()
