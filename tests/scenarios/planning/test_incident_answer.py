"""What an incident changes, by hand; and what must hold of any incident."""

from dataclasses import replace

import numpy as np
import pytest

from scenarios.planning.capacity import plan_capacity
from scenarios.planning.holding import Held
from scenarios.planning.incident import DemandValues, ExposedValues, HitValues, Incident, PlacedValues, world_after
from scenarios.planning.incident_answer import incident_answer, plan_worlds, written_off
from scenarios.planning.migration import plan_migration
from scenarios.planning.problem import DeliveryValues, DomainValues, LostValues, OfferValues
from scenarios.planning.reconciling import reconcile
from tests.scenarios.planning.capacity_fleets import one_service, random_fleet
from tests.scenarios.planning.fleets import drawn_fleet, hand_fleet
from tests.scenarios.planning.verifier import verify

PERIOD_MTOK = 3600 * 730.5 / 1e6  # of one token per second
HALF = (0.0, 0.0, 0.5, 0.5, 0.0, 0.0)


def half_lost(**more):
    """Half of a hundred hosts, in the third and fourth of six months."""
    values = {"words": "Half goes", "first": 2, "until": 4, "lasting": (0.0, 0.0, 1.0, 1.0, 0.0, 0.0)} | more
    return Incident(hits=(HitValues("dc1", "gpu", HALF),), exposed=(ExposedValues("dc1", "gpu", 0.5),), **values)


def flat():
    """A hundred hosts of 10 tok/s for 900 tok/s, as long as one looks."""
    return one_service(growth_ratio=0.0, periods=6)


def costly(**more):
    """A fleet that had better serve: what goes unserved costs far more than energy."""
    problem = hand_fleet(**more)
    return replace(problem, services=(replace(problem.services[0], penalty_per_mtok=1e4),))


def penalty_of(answer):
    return next(row.more for row in answer.cost.items if row.item == "penalty")


def planned(problem, incident):
    return {name: plan_migration(world) for name, world in plan_worlds(problem, incident).items()}


def test_half_of_the_hosts_leave_half_of_the_supply_for_two_months():
    answer = incident_answer(flat(), half_lost())
    whole = [row for row in answer.changes if not row.tier]
    assert [row.supply_before_tok_s for row in whole] == pytest.approx([1000.0] * 6)
    assert [row.supply_after_tok_s for row in whole] == pytest.approx([1000, 1000, 500, 500, 1000, 1000])
    assert [row.unserved_after_tok_s for row in whole] == pytest.approx([0, 0, 400, 400, 0, 0])
    assert [row.headroom_after_ratio for row in whole][2] == pytest.approx(500 / 900 - 1)
    assert answer.unserved_after_mtok == pytest.approx(2 * 400 * PERIOD_MTOK)
    assert answer.unserved_before_mtok == 0
    back = answer.recovery[-1]
    assert (back.region, back.tier, back.nothing_months) == ("north", "", 2.0)
    assert back.nothing_mtok == pytest.approx(2 * 400 * PERIOD_MTOK)
    assert [(row.hosts, row.hit_hosts) for row in answer.hits] == [(100.0, 50.0)]


def test_an_outage_of_a_part_of_a_month_is_judged_while_it_lasts_and_counted_for_so_long():
    short = half_lost(until=3, lasting=(0.0, 0.0, 0.25, 0.0, 0.0, 0.0))
    short = replace(short, hits=(HitValues("dc1", "gpu", (0.0, 0.0, 0.5, 0.0, 0.0, 0.0)),))
    answer = incident_answer(flat(), short)
    month = next(row for row in answer.changes if row.period == 2 and not row.tier)
    assert month.unserved_after_tok_s == pytest.approx(400)
    assert month.unserved_after_mtok == pytest.approx(0.25 * 400 * PERIOD_MTOK)
    assert answer.recovery[-1].nothing_months == pytest.approx(0.25)


def test_what_is_never_repaired_never_recovers_and_what_is_not_noticed_needs_no_time():
    lost = half_lost(until=None, lasting=(0.0, 0.0, 1.0, 1.0, 1.0, 1.0))
    lost = replace(lost, hits=(HitValues("dc1", "gpu", (0.0, 0.0, 0.5, 0.5, 0.5, 0.5)),))
    assert {row.nothing_months for row in incident_answer(flat(), lost).recovery} == {None}
    slight = replace(lost, hits=(HitValues("dc1", "gpu", (0.05,)),))
    assert {row.nothing_months for row in incident_answer(flat(), slight).recovery} == {0.0}


def test_demand_runs_out_with_the_incident_and_not_before_it():
    assert {row.run_out_after_on for row in incident_answer(flat(), half_lost()).recovery} == {"2027-03-01"}
    later = incident_answer(flat(), half_lost(begin_ratio=10 / 31)).recovery
    assert {row.run_out_after_on for row in later} == {"2027-03-11"}
    assert {row.run_out_before_on for row in later} == {None}


def test_what_is_still_worse_after_the_incident_has_not_recovered():
    """Demand that it brought stays when it is over."""
    demand = DemandValues("chat", (900.0,) * 3 + (1200.0,) * 3)
    answer = incident_answer(flat(), Incident(words="x", first=2, until=4, demand=(demand,)))
    assert {row.nothing_months for row in answer.recovery} == {None}


def test_exposure_is_a_share_of_supply_and_of_what_is_placed():
    incident = half_lost(placed=(PlacedValues("chat", 800.0, 200.0),))
    rows = {(row.region, row.tier): row for row in incident_answer(flat(), incident).exposure}
    assert {row.supply_ratio for row in rows.values()} == {0.5}
    assert {row.placed_ratio for row in rows.values()} == {0.25}
    unplaced = incident_answer(flat(), half_lost()).exposure
    assert {row.placed_ratio for row in unplaced} == {None}


def test_figures_are_those_of_the_capacity_planner():
    problem = random_fleet(3)
    incident = Incident(words="x", first=0, hits=(HitValues("s0/a", "k0", (0.5,)), HitValues("s1/a", "k1", (1.0,))))
    answer = incident_answer(problem, incident)
    for world, part in ((problem, "before"), (world_after(problem, incident), "after")):
        asked = {(row.period, row.region, row.tier): row for row in plan_capacity(world, draws=0).rows}
        for row in answer.changes:
            same = asked[row.period, row.region, row.tier]
            assert getattr(row, f"supply_{part}_tok_s") == pytest.approx(same.supply_tok_s)
            assert getattr(row, f"unserved_{part}_tok_s") == pytest.approx(same.unserved_tok_s)


@pytest.mark.parametrize("seed", range(4))
def test_rows_add_up_to_the_totals(seed):
    problem = random_fleet(seed)
    hits = tuple(HitValues(place.slug, "k0", (0.7,)) for place in problem.located)
    answer = incident_answer(problem, Incident(words="x", first=0, hits=hits))
    for part in ("before", "after"):
        tiers = sum(getattr(row, f"unserved_{part}_mtok") for row in answer.changes if row.tier)
        whole = sum(getattr(row, f"unserved_{part}_mtok") for row in answer.changes if not row.tier)
        assert tiers == pytest.approx(whole) == pytest.approx(getattr(answer, f"unserved_{part}_mtok"))


@pytest.mark.parametrize("seed", range(4))
def test_a_larger_loss_never_leaves_more(seed):
    problem = random_fleet(seed)
    before = None
    for ratio in (0.0, 0.3, 0.6, 1.0):
        hits = tuple(HitValues(place.slug, "k0", (ratio,)) for place in problem.located[:3])
        answer = incident_answer(problem, Incident(words="x", first=0, hits=hits))
        now = np.array([row.unserved_after_tok_s for row in answer.changes if not row.tier])
        if before is not None:
            assert (now >= before - 1e-6 * np.maximum(before, 1.0)).all()
        before = now


def test_an_incident_that_hits_nothing_changes_no_figure():
    problem = hand_fleet()
    nothing = Incident(words="Nothing", first=0)
    answer = incident_answer(problem, nothing, planned(problem, nothing))
    for row in answer.changes:
        assert row.supply_before_tok_s == row.supply_after_tok_s
        assert row.unserved_before_mtok == row.unserved_after_mtok
    assert answer.cost.more == 0.0
    assert answer.plan_after_mtok == answer.plan_before_mtok
    assert {(row.nothing_months, row.replan_months) for row in answer.recovery} == {(0.0, 0.0)}
    assert answer.hits == ()


def test_a_new_plan_serves_what_was_lost_on_other_hosts_and_says_what_that_costs():
    problem = costly()
    dark = Incident(words="a is dark", first=0, hits=(HitValues("a", "gpu", (1.0,)),))
    plans = planned(problem, dark)
    after = world_after(problem, dark)
    assert verify(after, plans["after"]) == []
    assert reconcile(after, plans["after"]) == []
    answer = incident_answer(problem, dark, plans)
    assert answer.plan_after_mtok == 0.0
    assert answer.cost.more >= -1e-6
    assert answer.cost.more_least <= answer.cost.more <= answer.cost.more_most
    assert answer.cost.more == pytest.approx(sum(row.more for row in answer.cost.items), abs=1e-6)
    opens = {row.action: row for row in answer.actions}
    assert opens["openings"].recovered_mtok == pytest.approx(2 * 200 * 0.5 * PERIOD_MTOK)
    assert opens["openings"].count == 1


def test_an_action_in_a_month_touched_in_part_recovers_the_tokens_of_that_part():
    problem = costly()
    dark = {"words": "a is dark", "first": 0, "until": 1, "hits": (HitValues("a", "gpu", (1.0, 0.0)),)}
    opens = []
    for share in (1.0, 0.1):
        incident = Incident(lasting=(share, 0.0), **dark)
        answer = incident_answer(problem, incident, planned(problem, incident))
        opens.append(next(row for row in answer.actions if row.action == "openings"))
    assert opens[0].recovered_mtok == pytest.approx(200 * 0.5 * PERIOD_MTOK)
    assert opens[1].recovered_mtok == pytest.approx(0.1 * opens[0].recovered_mtok)
    assert opens[1].money != opens[0].money


def test_without_the_only_action_that_helps_its_tokens_are_lost():
    """New hosts are dear, so that what they spare in energy does not pay for them."""
    dear = tuple(replace(kind, price=1e6) if kind.slug == "own" else kind for kind in hand_fleet().kinds)
    problem = costly(kinds=dear, deliveries=(), offers=(OfferValues("own", 0, 12),))
    dark = Incident(words="a is dark", first=0, hits=(HitValues("a", "gpu", (1.0,)),))
    answer = incident_answer(problem, dark, planned(problem, dark))
    bought = next(row for row in answer.actions if row.action == "purchases")
    assert bought.count > 0
    assert bought.recovered_mtok == pytest.approx(2 * 200 * 0.5 * PERIOD_MTOK)
    assert bought.mtok_per_money == pytest.approx(bought.recovered_mtok / bought.money)


def test_without_any_plan_the_smallest_conflict_is_left_to_say_why():
    problem = hand_fleet()
    must = replace(problem, services=(replace(problem.services[0], penalty_per_mtok=None),), deliveries=())
    dark = Incident(words="a is dark", first=0, hits=(HitValues("a", "gpu", (1.0,)),))
    plans = planned(must, dark)
    assert plans["after"].status == "infeasible"
    assert plans["after"].conflict
    answer = incident_answer(must, dark, plans)
    assert answer.cost.more is None
    assert answer.plan_after_mtok is None
    assert {row.is_replanned for row in answer.recovery} == {False}
    assert answer.actions == ()


def test_hosts_that_nobody_may_use_are_written_off_and_bring_nothing():
    """Twelve hosts with a book value of 900, of which resale brings half."""
    problem = hand_fleet()
    kinds = tuple(replace(kind, resale_ratio=0.5) if kind.slug == "gpu" else kind for kind in problem.kinds)
    problem = replace(problem, kinds=kinds)
    ban = Incident(
        words="gpu is banned",
        first=0,
        hits=(HitValues("a", "gpu", (1.0,)), HitValues("b", "gpu", (1.0,))),
        worthless=("gpu",),
    )
    assert written_off(problem, ban) == pytest.approx(12 * 900 * 0.5)
    plans = planned(problem, ban)
    assert sum(row.resale for row in plans["after"].money) == 0.0
    answer = incident_answer(problem, ban, plans)
    assert answer.cost.written_off == pytest.approx(5400.0)
    assert answer.cost.more == pytest.approx(answer.cost.after - answer.cost.before + 5400.0)


def test_a_plan_pays_for_unserved_tokens_for_as_long_as_they_are():
    problem = costly(deliveries=())
    dark = Incident(words="a is dark", first=0, until=1, hits=(HitValues("a", "gpu", (1.0, 0.0)),))
    month, week = (
        incident_answer(problem, one, planned(problem, one)) for one in (dark, replace(dark, lasting=(0.25, 0.0)))
    )
    assert penalty_of(month) == pytest.approx(1e4 * 200 * 0.5 * PERIOD_MTOK)
    assert penalty_of(week) == pytest.approx(0.25 * 1e4 * 200 * 0.5 * PERIOD_MTOK)
    assert week.plan_after_mtok == pytest.approx(0.25 * month.plan_after_mtok)


def test_failover_says_whether_gold_survives_one_more_loss():
    problem = hand_fleet(
        services=(replace(hand_fleet().services[0], tier="gold", demand_tok_s=(500.0,)),),
        deliveries=(),
        domains=(DomainValues("a", (LostValues("a"),)), DomainValues("b", (LostValues("b"),))),
    )
    dark = Incident(words="a is dark", first=1, hits=(HitValues("a", "gpu", (0.0, 0.5)),))
    before, after = incident_answer(problem, dark).failover
    assert (before.holds, before.headroom_ratio) == (True, pytest.approx(600 / 500 - 1))
    assert (after.holds, after.first_missed, after.domain) == (False, 1, "b")
    assert after.headroom_ratio == pytest.approx(300 / 500 - 1)


def test_a_plan_that_nobody_could_foresee_keeps_what_the_one_before_decided():
    """Had it been known, homegrown hosts would have opened in the first month; copies have to come a month before."""
    rules = replace(hand_fleet().rules, shadow_ratio=0.1, shadow_periods=1)
    problem = costly(rules=rules, periods=("2027-01", "2027-02", "2027-03"))
    dark = Incident(words="b is dark", first=1, hits=(HitValues("b", "gpu", (0.0, 1.0, 1.0)),))
    dear = tuple(replace(one, port_cost=1e9) if one.kind == "own" else one for one in problem.rates)
    before = plan_migration(replace(problem, rates=dear))  # to open is too dear, as long as nothing happens
    assert before.opened == ()
    after = world_after(problem, dark)
    foreseen, surprised = plan_migration(after), plan_migration(after, held=Held(before, 1))
    assert verify(after, surprised) == []
    kept = [[(r.place, r.kind, r.kept, r.new) for r in one.hosts if not r.period] for one in (before, surprised)]
    assert kept[0] == kept[1]
    assert min(row.period for row in surprised.opened) >= 1
    assert surprised.solver.objective >= foreseen.solver.objective - 1e-6


@pytest.mark.parametrize("seed", [0, 3, 5, 6])
def test_a_held_plan_is_sound_and_its_own_continuation_where_nothing_happens(seed):
    problem = drawn_fleet(seed)
    best = plan_migration(problem)
    again = plan_migration(problem, held=Held(best, 2))
    assert verify(problem, again) == []
    for name in ("hosts", "opened"):
        until = [[row for row in getattr(one, name) if row.period < 2] for one in (best, again)]
        assert until[0] == until[1]
    assert again.solver.objective <= best.solver.objective * (1 + problem.solver.gap_ratio) + 1e-6


def test_actions_are_those_from_the_incident_on():
    problem = costly(periods=("2027-01", "2027-02", "2027-03"), deliveries=(DeliveryValues("north", "own", 0, 12),))
    dark = Incident(words="b is dark", first=1, hits=(HitValues("b", "gpu", (0.0, 1.0, 1.0)),))
    before = plan_migration(problem)
    held = Held(before, 1)
    worlds = plan_worlds(problem, dark, held)
    plans = {name: plan_migration(world, held=held if name != "before" else None) for name, world in worlds.items()}
    answer = incident_answer(problem, dark, plans, since=1)
    opened = sum(row.period >= 1 for row in plans["after"].opened)
    assert {row.action: row.count for row in answer.actions if row.action == "openings"} == (
        {"openings": opened} if opened else {}
    )
    assert worlds.get("without deliveries", worlds["after"]).deliveries == problem.deliveries  # they came before
