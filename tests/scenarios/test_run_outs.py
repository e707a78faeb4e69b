"""Run-outs are those that every month's program says, although most programs are not solved."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from scenarios.futures import future_draw, future_expected
from scenarios.placement import ServedShare
from scenarios.plans import MonthBand
from scenarios.run_outs import SHORT_BELOW, first_of, months_band, plan_run_outs, run_out_sentence, site_hosts
from scenarios.scopes import scopes_of
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


def first_short(question, scope, index):
    """Solve the program of every month."""
    future = future_draw(question, index)
    hosts = site_hosts(question, Floor(Ground(question.snapshot, question.months), future))
    served = ServedShare(len(scope.services), len(question.snapshot.kinds))
    for month in range(len(question.months)):
        theta = served.theta(
            rate_tok_s=future.rate_tok_s[scope.services] * question.allowed[scope.services, :, month],
            demand_tok_s=future.demand_tok_s[scope.services, month],
            hosts=hosts[month, scope.sites].sum(axis=0) * (1 - question.reserve_ratio),
        )
        if theta < SHORT_BELOW:
            return month
    return len(question.months)


@pytest.mark.parametrize("seed", range(12))
def test_run_outs_are_those_of_every_months_program(seed):
    question = question_of(seed)
    found = run_outs(question)
    for row, scope in zip(found, scopes_of(question), strict=True):
        assert row.months == tuple(first_short(question, scope, index) for index in range(question.draws))
        assert row.sentence.startswith(run_out_sentence(row.slug.capitalize(), row.run_out, "2028-12"))
    soonest = np.min([row.months for row in found], axis=0)
    assert first_of(question, found) == months_band(question, soonest, expected=24)


def test_seeds_that_run_out_and_seeds_that_do_not_are_both_among_them():
    months = {month for seed in range(12) for row in run_outs(question_of(seed)) for month in row.months}
    assert 24 in months
    assert len(months) > 3


def test_no_region_never_runs_out():
    assert first_of(question_of(1), ()) == MonthBand(None, None, None)


def test_a_service_without_a_host_is_named_with_its_months():
    fleet = snapshot(services=(service_fact("chat"), service_fact("lost", demand_request_s=0.1)))
    question = problem(fleet, rate=[[1000.0, 0.0], [0.0, 500.0]], draws=1)
    (row,) = run_outs(question)
    assert row.run_out == MonthBand("2027-01", "2027-01", "2027-01")
    assert row.sentence.endswith("No host of the region can serve lost in 12 months from 2027-01 to 2027-12.")
