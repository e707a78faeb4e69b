"""How sure a plan is: cases by hand, the plan's own world, and any sharding."""

import json
from dataclasses import replace
from itertools import pairwise

import numpy as np
import pytest
from numpy.testing import assert_allclose

from scenarios.planning.dispatch import Dispatch
from scenarios.planning.draws import NEVER, DownValues, FanValues, Futures, FutureValues, ReadySlipValues
from scenarios.planning.migration import plan_migration
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import problem_read
from scenarios.planning.promises import (
    PromiseAsk,
    PromisePart,
    plan_promises,
    promise_draws,
    promise_merge,
    promise_tornado,
    promises_of,
    promises_schema,
)


def problem_of(**more):
    """Chat moves from 10 GPU hosts to 12 homegrown ones that come in the second of four periods."""
    return problem_read(
        {
            "periods": ["2027-01", "2027-02", "2027-03", "2027-04"],
            "sites": [{"slug": "dc1", "region": "north", "tariff_per_kwh": 1.0}],
            "kinds": [
                {"slug": "gpu", "homegrown": False, "power_w": 1000.0, "idle_w": 500.0},
                {"slug": "own", "homegrown": True, "power_w": 1000.0, "idle_w": 500.0},
            ],
            "services": [
                {
                    "slug": "chat",
                    "region": "north",
                    "demand_tok_s": 100.0,
                    "tier": "gold",
                    "penalty_per_mtok": 50.0,
                    "homegrown_from": 2,
                }
            ],
            "rates": [
                {"service": "chat", "kind": "gpu", "tok_s": 10.0},
                {"service": "chat", "kind": "own", "tok_s": 10.0, "ready": 1},
            ],
            "standing": [{"place": "dc1", "kind": "gpu", "hosts": 10}],
            "deliveries": [{"site": "dc1", "kind": "own", "period": 1, "hosts": 12}],
            "floors": [{"ratio": 0.9, "period": 2, "basis": "output"}],
            "rules": {"reserve_ratio": 0.0},
            "solver": {"gap_ratio": 0.0},
        }
        | more
    )


def slipping(p50_months, p90_months):
    row = {"site": "dc1", "kind": "own", "period": 1, "hosts": 12}
    return [row | {"slip_p50_months": p50_months, "slip_p90_months": p90_months}]


def planned(problem):
    answer = plan_migration(problem)
    assert answer.is_plan
    return answer


def probability(answer, promise, subject=""):
    return next(row.probability_ratio for row in answer.promises if (row.promise, row.subject) == (promise, subject))


def test_in_the_world_that_it_was_made_for_a_plan_keeps_its_promises_and_its_cost():
    problem = problem_of()
    answer = planned(problem)
    found = plan_promises(problem, answer, draws=3)
    assert {row.probability_ratio for row in found.promises} == {1.0}
    for end in (found.objective.p10, found.objective.p90):
        assert_allclose(end, answer.solver.objective)
    assert found.last_move_on.p50 == f"2027-0{answer.opened[0].period + 1}-01"
    assert found.gpu_free.p50 is not None
    assert found.gpu_free.p50 <= 2
    assert found.tornado == ()
    assert_allclose(found.homegrown_last_ratio.p50, 1.0)


def test_loads_of_the_plans_own_world_serve_what_the_plan_serves():
    problem = problem_of()
    answer = planned(problem)
    loads = Dispatch(problem, answer).loads(Futures(problem, FutureValues()).expected())
    homegrown = np.zeros(4)
    for row in answer.loads:
        if row.kind == "own":
            homegrown[row.period] += 10.0 * row.serving_hosts
    assert_allclose(loads.answers_tok_s[0], homegrown, atol=1e-6)
    assert_allclose(loads.money.sum(), sum(row.energy + row.penalty for row in answer.money))


def test_a_promise_holds_as_often_as_its_delivery_comes_in_time():
    # median slip 0: half are not late at all; the plan needs the hosts by the third period, a month later
    problem = problem_of(deliveries=slipping(0.0, 2.0))
    found = plan_promises(problem, planned(problem), draws=1_000)
    # P(half a normal through P90 = 2 stays within one month) = Phi(1.2816 / 2)
    assert abs(probability(found, "floor", "0") - 0.739) < 0.04
    assert probability(found, "peak", "2") == probability(found, "floor", "0")
    assert probability(found, "peak", "0") == 1.0
    assert (
        probability(found, "everything") == probability(found, "demand", "chat") == probability(found, "tier", "gold")
    )
    assert found.unserved_mtok.p10 == 0 < found.unserved_mtok.p90


def test_a_wave_does_not_open_before_its_software_is_ready():
    problem = problem_of()
    answer = planned(problem)
    slips = FutureValues(ready_slips=(ReadySlipValues(kind="own", slip_p50_months=2.0, slip_p90_months=2.0),))
    loads = Dispatch(problem, answer).loads(Futures(problem, slips).expected())
    assert loads.open_from.tolist() == [0, 3]
    assert_allclose(loads.unserved_tok_s[0], [0, 0, 100, 0], atol=1e-6)
    found = plan_promises(problem, answer, draws=2, futures=slips)
    assert (found.last_move_on.p50, probability(found, "floor", "0")) == ("2027-04-01", 0.0)
    assert_allclose(found.unserved_mtok.p50, 100 * 3600 * 730.5 / 1e6)


def test_a_way_that_the_plan_never_opens_stays_shut():
    problem = replace(problem_of(), floors=(), services=(replace(problem_of().services[0], homegrown_from=None),))
    answer = planned(replace(problem, rules=replace(problem.rules, waves_most=0)))
    loads = Dispatch(problem, answer).loads(Futures(problem, FutureValues()).expected())
    assert loads.open_from.tolist() == [0, NEVER]
    assert_allclose(loads.answers_tok_s, 0)


def test_failures_beyond_the_reserve_cost_tokens():
    problem = problem_of(rules={"reserve_ratio": 0.05})
    problem = replace(
        problem,
        standing=(replace(problem.standing[0], hosts=(11.0,)),),
        floors=(),
        services=(replace(problem.services[0], homegrown_from=None),),
    )
    answer = planned(replace(problem, rules=replace(problem.rules, waves_most=0)))
    for down, unserved in ((0.04, 0.0), (0.5, 45.0)):
        future = Futures(problem, FutureValues(down=(DownValues("gpu", down),))).expected()
        assert_allclose(Dispatch(problem, answer).loads(future).unserved_tok_s, unserved, atol=1e-6)


def test_gold_is_served_before_the_rest_whatever_the_penalty():
    problem = problem_of(
        services=[
            {"slug": slug, "region": "north", "demand_tok_s": 60.0, "tier": tier, "penalty_per_mtok": penalty}
            for slug, tier, penalty in (("draft", "batch", 900.0), ("chat", "gold", 800.0))
        ],
        rates=[{"service": slug, "kind": "gpu", "tok_s": 10.0} for slug in ("draft", "chat")],
        floors=[],
    )
    loads = Dispatch(problem, planned(problem)).loads(Futures(problem, FutureValues()).expected())
    assert_allclose(loads.unserved_tok_s[:, 0], [20.0, 0.0], atol=1e-6)


def test_failover_holds_as_often_as_the_rest_can_serve_gold():
    problem = problem_of(
        places=[{"slug": "a", "site": "dc1"}, {"slug": "b", "site": "dc1"}],
        standing=[{"place": place, "kind": "gpu", "hosts": 10} for place in "ab"],
        services=[{"slug": "chat", "region": "north", "demand_tok_s": 90.0, "tier": "gold", "penalty_per_mtok": 1.0}],
        rates=[{"service": "chat", "kind": "gpu", "tok_s": 10.0, "low_tok_s": 9.0, "high_tok_s": 11.0}],
        deliveries=[],
        floors=[],
        domains=[
            {"slug": "hall a", "lost": [{"place": "a"}]},
            {"slug": "feed", "lost": [{"place": "a", "ratio": 0.5}]},
        ],
    )
    found = plan_promises(problem, planned(problem), draws=500)
    # the plan keeps just the nine hosts that are needed in the other hall: they do in half of the futures
    assert abs(probability(found, "failover", "hall a") - 0.5) < 0.05
    assert probability(found, "failover", "feed") == probability(found, "failover", "hall a")


def test_the_tornado_ranks_inputs_by_what_they_move():
    problem = problem_of(deliveries=slipping(0.5, 3.0))
    narrow = FanValues("chat", (99.0,), (100.0,), (101.0,))
    rows = promise_tornado(problem, planned(problem), PromiseAsk(futures=FutureValues(fans=(narrow,))))
    assert [row.input for row in rows] == ["slip of deliveries of no group", "demand"]
    assert rows[0].unserved_p90_mtok > 0 == rows[0].unserved_p10_mtok
    assert rows[1].objective_p10 < 0 < rows[1].objective_p90
    assert rows[0].homegrown_p90_ratio < 0


@pytest.mark.parametrize("cuts", [[0, 1, 2, 3, 9], [0, 5, 9]])
def test_any_sharding_gives_the_same_bytes(cuts):
    problem = problem_of(deliveries=slipping(0.5, 3.0))
    answer, ask = planned(problem), PromiseAsk(draws=9, seed=4)
    whole = promise_merge(problem, ask, [promise_draws(problem, answer, ask, range(9))])
    ranges = [range(a, b) for a, b in pairwise(cuts)]
    parts = [PromisePart.read(promise_draws(problem, answer, ask, draws).as_bytes()) for draws in reversed(ranges)]
    assert json.dumps(promise_merge(problem, ask, parts).as_dict()) == json.dumps(whole.as_dict())
    with pytest.raises(ValueError, match="do not make 9 draws"):
        promise_merge(problem, ask, parts[1:])


def test_what_is_no_plan_is_not_judged():
    problem = problem_of()
    none = MigrationAnswer(status="infeasible", solver=planned(problem).solver)
    with pytest.raises(ValueError, match="no plan to judge"):
        plan_promises(problem, none, draws=1)


def test_the_schema_describes_the_answer():
    problem = problem_of(deliveries=slipping(0.5, 3.0))
    found = plan_promises(problem, planned(problem), draws=2).as_dict()
    schema = promises_schema()
    assert set(found) == set(schema["properties"])
    assert set(found["tornado"][0]) == set(schema["$defs"]["SwingRow"]["properties"])
    assert len(found["promises"]) == len(promises_of(problem)) == 1 + 1 + 1 + 4 + 1
