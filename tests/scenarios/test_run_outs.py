"""Run-outs without the plan say the same months and sentences as the plan."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from scenarios.capacity import plan_capacity
from scenarios.futures import future_draw, future_expected
from scenarios.plans import MonthBand
from scenarios.run_outs import first_of, plan_run_outs, site_hosts
from scenarios.supply import Floor, Ground
from tests.factories import delivery_fact, kind_fact, problem, service_fact, snapshot


def run_outs(question):
    ground = Ground(question.snapshot, question.months)
    futures = [future_draw(question, index) for index in range(question.draws)]
    expected = future_expected(question)
    return plan_run_outs(
        question,
        expected=expected,
        expected_hosts=site_hosts(question, Floor(ground, expected)),
        futures=futures,
        hosts=[site_hosts(question, Floor(ground, future)) for future in futures],
    )


def question_of(seed, *, growth=(0.0, 0.05, 0.12)):
    rng = np.random.default_rng(seed)
    kinds = (kind_fact("gpu"), kind_fact("own", chip="thead-ppu-810e", power_w=8000.0, height_u=8))
    services = tuple(
        service_fact(
            f"s{at}",
            region=("north", "south")[at % 2],
            demand_request_s=(1 + seed) * float(rng.uniform(3, 8)),
            growth=growth,
        )
        for at in range(4)
    )
    fleet = snapshot(
        kinds=kinds,
        services=services,
        sites=("dc01", "dc02", "dc03"),
        regions=("north", "south"),
        site_regions={"dc01": "north", "dc02": "north", "dc03": "south"},
        hosts={("dc01", "gpu"): 12, ("dc02", "own"): 10, ("dc03", "gpu"): 14, ("dc03", "own"): 4},
        deliveries=tuple(
            delivery_fact(
                f"po-{at}",
                site=("dc01", "dc02", "dc03")[at % 3],
                kind=("gpu", "own")[at % 2],
                quantity=int(rng.integers(5, 60)),
                expected_on=date(2027, int(rng.integers(2, 12)), 10),
                slip=(20.0, 90.0),
                fill=0.8,
            )
            for at in range(8)
        ),
    )
    rate = rng.uniform(200, 1500, (4, 2))
    found = problem(fleet, months=24, rate=rate, spread=1.3, draws=12, seed=seed, reserve_ratio=0.1)
    allowed = found.allowed.copy()
    allowed[1, 0, :5] = False  # some months in which a service has one kind only
    return replace(found, allowed=allowed)


@pytest.mark.parametrize("seed", range(12))
def test_run_outs_are_those_of_the_plan(seed):
    question = question_of(seed)
    plan, found = plan_capacity(question), run_outs(question)
    assert [row.slug for row in found] == [region.slug for region in plan.regions]
    assert [row.run_out for row in found] == [region.run_out for region in plan.regions]
    assert [row.sentence for row in found] == [region.sentence for region in plan.regions]
    assert first_of(question, found) == plan.fleet.run_out


def test_seeds_that_run_out_and_seeds_that_do_not_are_both_among_them():
    months = {month for seed in range(12) for row in run_outs(question_of(seed)) for month in row.months}
    assert 24 in months
    assert len(months) > 3


def test_no_region_never_runs_out():
    assert first_of(question_of(1), ()) == MonthBand(None, None, None)
