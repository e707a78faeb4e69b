"""A capacity question through a run: until when, what binds, what to order by when, and what a loss leaves."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from fleet.snapshot import PolicyFact
from scenarios.capacity_result import Told, capacity_result
from scenarios.capacity_stages import Asked, ask_of, closed_of, draws_split
from scenarios.capacity_tables import capacity_tables
from scenarios.capacity_words import CONSTRAINT_WORDS, bind_sentence, tokens_text
from scenarios.futures import future_expected
from scenarios.grounds import COOLING, LIQUID, NO_RACK, OF_A_RACK, Rates, problem_of
from scenarios.plan_steps import PlanQuestion
from scenarios.planning.capacity import capacity_draws, capacity_merge, plan_capacity
from scenarios.planning.capacity_answer import BindRow, ClosedValues, DayBand
from scenarios.planning.draws import DownValues, FanValues, FutureValues, ReadySlipValues
from scenarios.planning.params import OfferParam
from scenarios.run_outs import plan_run_outs, site_hosts
from scenarios.supply import Floor, Ground
from tests.factories import START, delivery_fact, problem, service_fact, snapshot
from tests.scenarios.test_racking import KINDS, question

CLOSED = tuple(ClosedValues(kind, "dc01") for kind in ("gpu", "own"))


def asked_of(snap, *, futures=None, draws=0, frame=None, **values):
    given = question(snap, **values)
    made = problem_of(snap, given)
    plan = PlanQuestion(problem=made, months=given.months, futures=futures or FutureValues(), params=given.params)
    return Asked(plan, snap, draws=draws, seed=1, frame=frame or {"ratings": []})


def result_of(asked, **params):
    ask = ask_of(asked, params)
    made = asked.question.problem
    answer = capacity_merge(made, ask, [capacity_draws(made, ask, range(ask.draws))])
    told = Told(made, asked.question.months, asked.snapshot, asked.frame["ratings"])
    return json.loads(json.dumps(capacity_result(answer, told), allow_nan=False))


def fleet(**more):
    values = {"kinds": KINDS, "racks_per_site": 4, "rack_w": 36_000.0, "hosts": {("dc01", "gpu"): 10}}
    return snapshot(**{**values, **more})


def told_of(asked, answer):
    return capacity_result(answer, Told(asked.question.problem, asked.question.months, asked.snapshot, ()))


def two_regions(ratios, *, p10):
    """North and South, each the first to run out in a share of futures; the fleet's early end is given."""
    names = ("north", "south")
    snap = fleet(
        sites=("dc01", "dc02"),
        regions=names,
        site_regions={"dc01": "north", "dc02": "south"},
        hosts={("dc01", "gpu"): 10, ("dc02", "gpu"): 10},
        services=tuple(service_fact(slug, region=slug) for slug in names),
    )
    asked = asked_of(snap, demand=5_000.0)
    answer = capacity_merge(asked.question.problem, ask_of(asked, {}), [])
    share = dict(zip(names, ratios, strict=True))
    day = None if p10 is None else "2027-01-01"
    rows = tuple(
        replace(row, first_ratio=share.get(row.region, 0.0), run_out_on=DayBand(p10=day)) for row in answer.run_out
    )
    return asked, replace(answer, run_out=rows)


# --- what is said -----------------------------------------------------------------------------------------------------
def test_a_region_that_grows_runs_out_on_a_day_and_is_ordered_for_in_time():
    snap = fleet()
    asked = asked_of(snap, months=8)
    grown = 10_000.0 * 1.03 ** (np.arange(8) - 4.5)  # ten GPU hosts of 1,000 tok/s: enough until the middle of May
    services = tuple(replace(one, demand_tok_s=tuple(grown.tolist())) for one in asked.question.problem.services)
    made = asked.question.problem
    made = replace(made, services=services, rates=made.rates[:1])
    asked = replace(asked, question=replace(asked.question, problem=made))
    region = result_of(asked, lead_months=2.5)["regions"][0]
    assert region["run_out"] == dict.fromkeys(("p10", "p50", "p90"), "2027-05-16")
    assert (region["order_kind"], region["lead_months"], region["lead_is_offered"]) == ("gpu", 2.5, False)
    assert region["order_by_on"]["p50"] == "2027-03-01"  # two months and half a mean one before
    assert region["sentence"].startswith("North runs out by 2027-05-16 in half of the futures.")
    assert "gpu must be ordered by 2027-03-01 (2.5 months before, assumed)." in region["notes"][0]


def test_an_offer_says_how_long_an_order_takes():
    asked = asked_of(fleet(), demand=30_000.0, offers=(OfferParam(kind="gpu", hosts=5, month="2027-03"),))
    region = result_of(asked)["regions"][0]
    assert (region["lead_months"], region["lead_is_offered"]) == (2.0, True)
    assert region["order_by_on"]["p50"] == "2026-11-01"
    assert "by 2026-11-01, which has passed (2 months before, by its first offer)" in region["notes"][0]


def test_nothing_to_add_is_said():
    result = result_of(asked_of(fleet(), demand=5_000.0))
    assert result["add"] == []
    assert "Nothing has to be added to serve all demand to 2027-04 in the expected future." in result["fleet"]["notes"]
    assert result["fleet"]["sentence"] == "The fleet does not run out by 2027-04, not even in one future in ten."


def test_what_to_add_has_its_place_its_money_and_its_day():
    result = result_of(asked_of(fleet(), demand=12_000.0), target_ratio=0.1, lead_months=3.0)
    (row,) = result["add"]
    # 13,200 tok/s are asked for, ten hosts of 1,000 stand
    assert (row["month"], row["region"], row["site"], row["hosts"], row["beyond_hosts"]) == (
        "2027-01",
        "north",
        "dc01",
        4,
        4,
    )
    assert row["order_by_on"] == "2026-10-01"
    assert row["cost"] > 4 * 1_000_000
    assert "To keep 10% of headroom to 2027-04 in the expected future 4 hosts have to be added (4 " in str(
        result["fleet"]
    )


def test_the_month_in_which_too_few_can_be_added_is_told_without_a_guess_at_the_reason():
    asked = asked_of(fleet(), demand=12_000.0, months=1)
    made = replace(asked.question.problem, periods=("2027-01",))
    answer = capacity_merge(made, replace(ask_of(asked, {}), closed=CLOSED), [])
    result = capacity_result(answer, Told(made, asked.question.months, asked.snapshot, ()))
    assert result["fleet"]["notes"][-1] == (
        "Nothing can be added to serve all demand. In 1 month not enough hosts can be added in North."
    )


@pytest.mark.parametrize(
    ("ratios", "said"),
    [
        ((0.3, 0.1), " First to run out most often: North, in 30% of futures."),
        ((0.05, 0.08), " First to run out most often: South, in 8% of futures."),
        ((0.2, 0.2), " First to run out most often: North, South, in 20% of futures."),
        ((1.0, 0.0), " First to run out: North."),
    ],
)
def test_the_first_region_to_run_out_is_the_first_in_most_futures(ratios, said):
    asked, answer = two_regions(ratios, p10=0.0)
    assert told_of(asked, answer)["fleet"]["sentence"].endswith(f".{said}")


def test_no_first_region_is_named_for_a_fleet_that_lasts():
    asked, answer = two_regions((0.05, 0.03), p10=None)
    assert "irst" not in told_of(asked, answer)["fleet"]["sentence"]


@pytest.mark.parametrize(("rest", "is_served"), [(1e-12, True), (1e-6, False)])
def test_rounding_is_no_shortage_after_a_loss(rest, is_served):
    snap = fleet(sites=("dc01", "dc02"), hosts={("dc01", "gpu"): 10, ("dc02", "gpu"): 10})
    asked = asked_of(snap, demand=10_000.0, failover=True)
    answer = capacity_merge(asked.question.problem, ask_of(asked, {}), [])
    rows = tuple(replace(row, headroom_ratio=-rest) for row in answer.after_loss)
    note = told_of(asked, replace(answer, after_loss=rows))["regions"][0]["notes"][-1]
    said = "The loss of any one hall leaves gold served; its least headroom is 0% without"
    assert note.startswith(said if is_served else "In 4 of 4 months gold is not served in full")


def test_what_a_loss_leaves_is_told_by_tier():
    snap = fleet(
        sites=("dc01", "dc02"),
        hosts={("dc01", "gpu"): 10, ("dc02", "gpu"): 5},
        services=(service_fact("chat"), service_fact("bulk", tier="batch")),
    )
    region = result_of(asked_of(snap, demand=6_000.0, failover=True))["regions"][0]
    january = {row["tier"]: row for row in region["after_loss"] if row["month"] == "2027-01"}
    assert {row["domain"] for row in january.values()} == {"dc01/h1"}
    left = {tier: row["headroom_ratio"] for tier, row in january.items()}
    assert left == pytest.approx({"gold": 5 / 6 - 1, "batch": -1.0, "": 5 / 12 - 1}, abs=1e-6)
    assert january[""]["unserved_tok_s"] == pytest.approx(7_000, rel=1e-6)
    assert "In 4 of 4 months gold is not served in full after the loss of a hall" in region["notes"][-1]


def test_a_region_in_one_hall_loses_all_with_it():
    region = result_of(asked_of(fleet(), demand=5_000.0, failover=True))["regions"][0]
    assert region["notes"] == ["All its hosts stand in dc01/h1: nothing is left after its loss."]


def test_a_site_keeps_its_power_its_limit_and_who_waits():
    snap = fleet(deliveries=(delivery_fact(quantity=30, expected_on=date(2027, 1, 20)),))
    first, second, *_rest = result_of(asked_of(snap, demand=5_000.0))["sites"][0]["periods"]
    assert (first["power_w"], first["power_limit_w"], first["waiting"]) == (50_000.0, 144_000.0, {})
    # ten of 28 GPUs leave room for ten of 16 homegrown hosts
    assert (second["hosts"], second["waiting"]) == ({"gpu": 10, "own": 10}, {"own": 20})
    assert second["power_w"] == 10 * 5_000.0 + 10 * 8_600.0
    assert second["binding"] == "rack_power"
    assert second["sentence"] == (
        "DC01: 20 delivered own wait for want of rack power; dc01/h1 takes 16 of them when empty and has room for "
        "0.3 more."
    )


@pytest.mark.parametrize(
    ("bind", "words"),
    [
        (
            BindRow(0, "dc01", "own", "chips", "", "", 0, 0, ""),
            "limits leave room for more own; all that has come stands",
        ),
        (
            BindRow(0, "dc01", "own", "feed_failover_power", "ups-1", "x", 2_500, 9_000, "VA", failure="ups-2"),
            "no more own fit for want of power with one feed lost; ups-1 after the loss of ups-2 has 2.5 kVA free, "
            "9.0 kVA needed",
        ),
        (
            BindRow(0, "dc01", "own", "cooling", "crac-1", "x", -5, 9_000, "W"),
            "no more own fit for want of cooling; crac-1 has 0.0 kW free, 9.0 kW needed",
        ),
        (
            BindRow(0, "dc01", "own", "no_rack", "dc01", "room dc01", 1, 2, "-"),
            "no more own fit; dc01 has no rack for them",
        ),
    ],
    ids=["chips", "feed", "cooling", "no rack"],
)
def test_what_binds_is_named_with_its_object_and_numbers(bind, words):
    assert bind_sentence("DC01", bind, waiting=0) == f"DC01: {words}."


@pytest.mark.parametrize(
    ("mtok", "text"),
    [(0.0, "0 Mtok"), (12.3, "12.3 Mtok"), (4_560, "4.56 Gtok"), (2.5e6, "2.5 Ttok"), (1.234e12, "1,234 Ptok")],
)
def test_tokens_are_told_in_units_that_people_read(mtok, text):
    assert tokens_text(mtok) == text


def test_what_limits_the_rate_of_hosts_is_told_with_hbm_by_its_name():
    frame = {
        "ratings": [
            {"service": "chat", "kind": kind, "binds": binds} for kind, binds in (("gpu", "memory"), ("own", "tpot"))
        ]
    }
    result = result_of(asked_of(fleet(), demand=5_000.0, frame=frame))
    (table,) = (table for table in capacity_tables({**result, "months": []}) if table.name == "rates-bound")
    assert table.rows == [{"region": "North", "binds": "memory of the chips (HBM)", "services": "chat"}]


def test_every_constraint_that_a_problem_can_name_has_words():
    assert {*OF_A_RACK, COOLING, LIQUID, NO_RACK} == set(CONSTRAINT_WORDS)


# --- what is asked ----------------------------------------------------------------------------------------------------
def test_the_futures_of_a_capacity_run_have_no_slips_of_readiness_and_no_failures():
    futures = FutureValues(
        fans=(FanValues("chat", (1.0,), (2.0,), (3.0,)),),
        ready_slips=(ReadySlipValues(slip_p50_months=1.0, slip_p90_months=4.0),),
        down=(DownValues(ratio=0.1),),
    )
    ask = ask_of(asked_of(fleet(), futures=futures), {"lead_months": 4.0, "target_ratio": 0.2})
    assert ask.futures == FutureValues(fans=futures.fans)
    assert (ask.lead_months, ask.target_ratio) == (4.0, 0.2)


def policy(verb="buy", **values):
    defaults = {"slug": "p", "chip": "h20-96", "starts_on": date(2027, 2, 1), "ends_on": None, "region": "", "site": ""}
    return PolicyFact(verb=verb, **{**defaults, **values})


def closed(*policies, lead_months=0.0, months=4):
    snap = replace(fleet(sites=("dc01", "dc02")), policies=policies)
    rows = closed_of(snap, asked_of(snap, months=months).question, lead_months=lead_months)
    return [(row.kind, row.site, row.first, row.last) for row in rows]


def test_what_may_not_be_bought_is_not_added_from_its_day_on():
    assert closed(policy(site="dc02")) == [("gpu", "dc02", 1, None)]
    assert closed(policy(ends_on=date(2027, 3, 1))) == [("gpu", "dc01", 1, 2), ("gpu", "dc02", 1, 2)]
    assert closed(policy(region="south")) == closed(policy("use")) == closed() == []


def test_a_ban_counts_on_the_day_of_the_order():
    assert closed(policy(site="dc01"), lead_months=2.0) == [("gpu", "dc01", 3, None)]
    assert closed(policy(site="dc01", starts_on=START), lead_months=2.0) == [("gpu", "dc01", 0, None)]


def test_a_kind_that_may_not_be_bought_gives_way_to_the_next():
    snap = fleet(services=(service_fact("chat", ready_on={"thead-ppu-810e": START}),))
    free, banned = (
        result_of(asked_of(replace(snap, policies=rows), demand=12_000.0)) for rows in ((), (policy(starts_on=START),))
    )
    assert {row["kind"] for row in free["add"]} == {"gpu"}
    assert {row["kind"] for row in banned["add"]} == {"own"}


# --- steps ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("draws", [0, 1, 25, 26, 200])
def test_steps_take_all_draws_once_and_few_at_a_time(draws):
    parts = draws_split(asked_of(fleet(), draws=draws))
    assert [at for part in parts for at in range(part["first"], part["stop"])] == list(range(draws))
    assert all(part["stop"] - part["first"] <= 25 for part in parts)


def test_a_larger_question_has_smaller_steps():
    asked = asked_of(fleet(), draws=50)
    large = replace(asked.question.problem, rates=asked.question.problem.rates * 10_000)
    assert len(draws_split(replace(asked, question=replace(asked.question, problem=large)))) == 10


# --- beside the query -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("growth_ratio", [0.03, 0.05, 0.11])
def test_a_run_and_the_query_agree_on_when_a_region_runs_out(growth_ratio):
    """The query says the first month that is short on its first day; the run the day before on which it becomes so."""
    snap = snapshot(
        kinds=KINDS,
        services=(service_fact("chat", growth=(growth_ratio,) * 3, demand_request_s=60.0),),
        racks_per_site=4,
        rack_w=36_000.0,
        hosts={("dc01", "gpu"): 10},
        deliveries=(delivery_fact(quantity=2, expected_on=date(2027, 3, 20)),),
    )
    asked = problem(snap, rate=[[1_000.0, 500.0]], months=24, draws=0, reserve_ratio=0.1)
    future = future_expected(asked)
    hosts = site_hosts(asked, Floor(Ground(snap, asked.months), future))
    (row,) = plan_run_outs(asked, expected=future, expected_hosts=hosts, futures=[future], hosts=[hosts])
    made = problem_of(snap, grounds_question(asked, future))
    answer = plan_capacity(made, draws=0)
    position = next(one.expected for one in answer.run_out if (one.region, one.tier) == ("north", ""))
    assert row.months[0] - 1 < position <= row.months[0] < 24


def grounds_question(asked, future):
    rates = asked.rate_tok_s
    return replace(
        question(asked.snapshot),
        months=asked.months,
        rates={"whole": Rates(rates, rates, rates, np.ones(rates.shape))},
        demand_tok_s=future.demand_tok_s,
        allowed=asked.allowed,
        reserve_ratio=asked.reserve_ratio,
    )
