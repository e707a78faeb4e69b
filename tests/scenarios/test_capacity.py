import math

import numpy as np
import pytest

from scenarios.capacity import plan_capacity
from tests.factories import delivery_fact, problem, service_fact, snapshot


def test_run_out_under_constant_growth_is_where_the_closed_form_says():
    fleet = snapshot(services=(service_fact(demand_request_s=40.0, growth=(0.05,) * 3),))  # 40 x 100 tok = 4,000 tok/s
    plan = plan_capacity(problem(fleet, rate=[[700.0, 0.0]], months=24))  # ten GPU hosts: 7,000 tok/s
    months = math.ceil(math.log(7000 / 4000) / math.log(1.05))
    assert plan.regions[0].run_out.p50 == f"{2027 + months // 12}-{months % 12 + 1:02d}"


def test_headroom_is_available_over_demanded_less_one():
    fleet = snapshot(services=(service_fact(demand_request_s=40.0, growth=(0.0,) * 3),))
    period = plan_capacity(problem(fleet, rate=[[700.0, 0.0]], reserve_ratio=0.2)).regions[0].periods[0]
    assert period.available_tok_s.p50 == pytest.approx(7000 * 0.8)
    assert period.demanded_tok_s.p50 == pytest.approx(4000)
    assert period.headroom_ratio.p50 == pytest.approx(5600 / 4000 - 1)
    assert period.unserved_tok_s == 0


def test_what_is_short_goes_unserved():
    fleet = snapshot(services=(service_fact(demand_request_s=100.0, growth=(0.0,) * 3),))
    plan = plan_capacity(problem(fleet, rate=[[700.0, 0.0]]))
    assert plan.regions[0].periods[0].unserved_tok_s == pytest.approx(3000)
    assert plan.regions[0].run_out.p50 == "2027-01"


def test_a_delivery_of_homegrown_hosts_helps_only_once_software_is_ready():
    fleet = snapshot(
        services=(service_fact(demand_request_s=40.0, growth=(0.0,) * 3),),
        deliveries=(delivery_fact(quantity=5),),
    )
    plan = plan_capacity(problem(fleet, rate=[[700.0, 400.0]], ready=[[0, 3]]))
    available = [period.available_tok_s.p50 for period in plan.regions[0].periods[:5]]
    assert available == pytest.approx([7000, 7000, 7000, 9000, 9000])


def test_a_service_that_no_host_can_serve_is_named():
    fleet = snapshot(
        services=(service_fact("chat"), service_fact("lost", demand_request_s=0.1)),
        deliveries=(delivery_fact(quantity=1),),
    )
    plan = plan_capacity(problem(fleet, rate=[[1000.0, 0.0], [0.0, 500.0]], ready=[[0, 0], [0, 3]]))
    region = plan.regions[0]
    assert [period.binding for period in region.periods[:4]] == ["no_host", "no_host", "no_host", "chips"]
    assert "No host of the region can serve lost in 3 months from 2027-01 to 2027-03." in region.sentence
    assert region.run_out.p50 == "2027-01"


def test_regions_do_not_share_hosts_and_the_fleet_runs_out_with_its_first():
    fleet = snapshot(
        regions=("east", "north"),
        sites=("dc01", "dc02"),
        site_regions={"dc01": "north", "dc02": "east"},
        services=(
            service_fact("a", region="east", demand_request_s=10.0),
            service_fact("b", region="north", demand_request_s=90.0, growth=(0.0,) * 3),
        ),
        hosts={("dc01", "gpu"): 5, ("dc02", "gpu"): 50},
    )
    plan = plan_capacity(problem(fleet))
    by_slug = {region.slug: region for region in plan.regions}
    assert by_slug["north"].run_out.p50 == "2027-01"
    assert by_slug["east"].run_out.p50 is None
    assert plan.fleet.run_out.p50 == "2027-01"
    assert "North is the first in 1 of the 1 futures that run out." in plan.fleet.sentence


def test_bands_enclose_the_middle_and_widen_with_what_is_uncertain():
    fleet = snapshot(services=(service_fact(demand_request_s=40.0, growth=(0.02, 0.05, 0.09)),))
    narrow = plan_capacity(problem(fleet, spread=1.05, draws=60)).regions[0].periods[6].headroom_ratio
    wide = plan_capacity(problem(fleet, spread=1.6, draws=60)).regions[0].periods[6].headroom_ratio
    for band in (narrow, wide):
        assert band.p10 < band.p50 < band.p90
    assert wide.p90 - wide.p10 > narrow.p90 - narrow.p10


def test_one_more_host_never_lowers_capacity():
    def available(hosts):
        plan = plan_capacity(problem(snapshot(hosts={("dc01", "gpu"): hosts}), rate=[[700.0, 0.0]]))
        return [period.available_tok_s.p50 for period in plan.regions[0].periods]

    assert all(np.array(available(11)) > np.array(available(10)))


def test_scaling_demand_and_rates_alike_leaves_the_dates():
    def run_out(scale):
        fleet = snapshot(services=(service_fact(demand_request_s=40.0 * scale, growth=(0.02, 0.05, 0.09)),))
        return plan_capacity(problem(fleet, rate=[[700.0 * scale, 0.0]], months=24, draws=20)).regions[0].run_out

    assert run_out(1.0) == run_out(3.0)


def test_the_same_question_gives_the_same_answer():
    question = problem(snapshot(), spread=1.4, draws=12)
    assert plan_capacity(question) == plan_capacity(question)


def test_progress_is_told_and_what_it_raises_ends_the_plan():
    stages = []

    def stop(ratio, stage):
        stages.append((ratio, stage))
        if stage.startswith("draw 2"):
            raise InterruptedError

    with pytest.raises(InterruptedError):
        plan_capacity(problem(draws=5), on_progress=stop)
    assert [stage for _, stage in stages] == ["draw 1 of 5", "draw 2 of 5"]
    assert [ratio for ratio, _ in stages] == sorted(ratio for ratio, _ in stages)


def test_nothing_to_plan_for_is_said():
    with pytest.raises(ValueError, match="no site"):
        plan_capacity(problem(snapshot(sites=(), hosts={}, site_regions={})))


@pytest.mark.parametrize("growth", [-0.5, -0.2, 0.3, 1.0])
def test_demand_far_beyond_and_far_below_supply_is_answered(growth):
    services = (
        service_fact("a", demand_request_s=40.0, growth=(growth,) * 3),
        service_fact("b", demand_request_s=20.0, growth=(growth / 2,) * 3),
    )
    plan = plan_capacity(problem(snapshot(services=services), rate=[[700.0, 0.0], [900.0, 0.0]], months=120))
    for period in plan.regions[0].periods:
        share = period.available_tok_s.p50 / period.demanded_tok_s.p50
        assert period.unserved_tok_s == pytest.approx(period.demanded_tok_s.p50 * max(0.0, 1 - share), rel=1e-6)
        assert period.available_tok_s.p50 <= 10 * 900.0 * (1 + 1e-4)
