"""From a fleet to an incident: who is hit, when, for how long, and what stands on it."""

from dataclasses import replace
from datetime import date

import numpy as np
import pytest

from fleet.snapshot import DAY_MAX, DAY_MIN, DeploymentFact, TreeFacts
from scenarios.event_reading import EventFacts, Ground, event_read, outage_read, snapshot_with_new
from scenarios.event_result import sentence_of
from scenarios.grounds import problem_of
from scenarios.planning.draining import DrainPlan
from scenarios.planning.incident import world_after
from scenarios.planning.incident_answer import FailoverRow, PlanCost, incident_answer
from scenarios.planning.migration import plan_migration
from scenarios.planning.params import EventParams, OutageParams
from scenarios.planning.plain import ProblemError
from tests.factories import delivery_fact, service_fact
from tests.scenarios.test_racking import fleet, question


def two_feeds(racks):
    """Every rack hangs on one of two switchboards of a site, the first also on the second."""
    whole, count = np.zeros(2, dtype=np.int64), racks + 1
    none = np.zeros(0, dtype=np.int64)
    return TreeFacts(
        slugs=("left", "right"),
        kinds=("msb", "msb"),
        site=whole,
        usable=np.full(2, 1e6),
        efficiency_ratio=np.ones(2),
        house=np.zeros(2),
        first_day=np.full(2, DAY_MIN, dtype=np.int64),
        last_day=np.full(2, DAY_MAX, dtype=np.int64),
        link_node=none,
        link_source=none,
        link_standby=np.zeros(0, dtype=bool),
        link_first_day=none,
        link_last_day=none,
        leaf_rack=np.concatenate((np.arange(racks), [0])),
        leaf_node=np.array([at % 2 for at in range(racks)] + [1])[:count],
    )


def placed(snap):
    """One replica of 500 tok/s on every host."""
    hosts = len(snap.host_slugs)
    made = DeploymentFact("chat-gpu", "chat", "chat", "dc01", "gpu", "tp8", 8, 500.0)
    return replace(
        snap,
        deployments=(made,),
        placement_host=np.arange(hosts),
        placement_deployment=np.zeros(hosts, dtype=np.int64),
        placement_replicas=np.ones(hosts, dtype=np.int64),
        placement_unit=np.full(hosts, -1, dtype=np.int64),
        placement_first_day=np.full(hosts, DAY_MIN, dtype=np.int64),
        placement_last_day=np.full(hosts, DAY_MAX, dtype=np.int64),
    )


@pytest.fixture
def snap():
    """Four racks of six hosts."""
    return placed(replace(fleet(rack_w=30_000.0), power=two_feeds(4)))


def ground(snap, **more):
    asked = question(snap, **more)
    return Ground(snap, problem_of(snap, asked), asked.months)


def outage(snap, **params):
    return outage_read(ground(snap), OutageParams(**params))


def event(snap, facts=None, **params):
    return event_read(ground(snap), EventParams(**params), facts or EventFacts())


def test_a_switchboard_takes_the_racks_that_hang_on_nothing_else(snap):
    """On the left hang racks 0 and 2, and 0 lives on by the right one."""
    read = outage(snap, node="left").incident
    assert {row.kind: row.ratio for row in read.hits}["gpu"] == pytest.approx((0.25,) * 4)
    assert (read.first, read.until, read.lasting) == (0, None, (1.0,) * 4)
    assert [(row.service, row.tok_s, row.exposed_tok_s) for row in read.placed] == [("chat", 12_000.0, 3_000.0)]
    assert {row.kind: row.ratio for row in outage(snap, node="right").incident.hits}["gpu"] == pytest.approx((0.5,) * 4)


def test_an_outage_that_takes_no_host_says_why(snap):
    spared = replace(snap.power, leaf_rack=np.array([0, 0]), leaf_node=np.array([0, 1]))
    assert "hangs on something else" in outage(replace(snap, power=spared), node="left").notes[0]
    bare = replace(snap.power, leaf_rack=np.array([0]), leaf_node=np.array([0]))
    assert "no host of theirs stands there" in outage(replace(snap, power=bare), node="right").notes[0]


def test_a_service_named_twice_is_one(snap):
    read = event(snap, event="client_doubles", subject="chat, chat", client_ratio=0.5).incident
    assert [row.service for row in read.demand] == ["chat"]


def test_new_hosts_in_what_is_dark_do_not_serve_either(snap):
    """No homegrown host stands yet: the share of the racks' power counts."""
    read = outage(snap, node="left").incident
    assert {row.kind: row.ratio for row in read.hits}["own"] == pytest.approx((0.25,) * 4)


@pytest.mark.parametrize(
    ("tree", "node", "ratio"),
    [
        *(("region", "north", 1.0), ("site", "dc01", 1.0), ("hall", "dc01/h1", 1.0), ("row", "dc01/h1/a", 1.0)),
        *(("rack", "r001", 0.25), ("host", "host-0003", 1 / 24)),
    ],
)
def test_a_place_takes_what_stands_in_it(snap, tree, node, ratio):
    read = outage(snap, tree=tree, node=node).incident
    assert {row.kind: row.ratio for row in read.hits}["gpu"] == pytest.approx((ratio,) * 4)


def test_days_of_an_outage_are_shares_of_its_months(snap):
    read = outage(snap, tree="rack", node="r001", day="2027-01-22", repair_days=24).incident  # until 15 February
    assert (read.first, read.until) == (0, 2)
    assert read.lasting == pytest.approx((10 / 31, 14 / 28, 0.0, 0.0))
    assert read.begin_ratio == pytest.approx(21 / 31)
    assert next(row for row in read.hits if row.kind == "gpu").ratio == pytest.approx((0.25, 0.25, 0.0, 0.0))


def test_hosts_that_leave_meanwhile_are_counted_as_they_are_then(snap):
    """The hosts of rack 3 go in March: of the eighteen left a third stands in rack 1."""
    gone = np.where(snap.host_rack == 3, date(2027, 3, 1).toordinal(), DAY_MAX)
    read = outage(replace(snap, host_last_day=gone), tree="rack", node="r001").incident
    assert next(row for row in read.hits if row.kind == "gpu").ratio == pytest.approx((0.25, 0.25, 1 / 3, 1 / 3))


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({"node": ""}, "params.node: the name of what is lost is needed"),
        ({"node": "none"}, "params.node: no node 'none' is in the power tree"),
        ({"node": "left", "day": "2027-13-01"}, "params.day: '2027-13-01' is no day"),
        ({"node": "left", "day": "2027-05-01"}, "params.day: 2027-05-01 does not lie in 2027-01-01 to 2027-04-30"),
    ],
)
def test_an_outage_that_cannot_be_is_refused_by_field(snap, params, words):
    with pytest.raises(ProblemError) as error:
        outage(snap, **params)
    assert words in str(error.value)


def test_a_ban_of_use_that_leaves_nothing_leaves_hosts_without_value(snap):
    read = event(snap, event="ban", subject="h20-96", month="2027-02")
    assert [(row.kind, row.ratio) for row in read.incident.hits] == [("gpu", pytest.approx((0.0, 1.0, 1.0, 1.0)))]
    assert read.incident.worthless == ("gpu",)
    assert [row.exposed_tok_s for row in read.incident.placed] == [12_000.0]
    after = world_after(read.problem, read.incident)
    assert after.standing == read.problem.standing
    assert {kind.slug: kind.resale_ratio for kind in after.kinds}["gpu"] == 0.0


@pytest.mark.parametrize("limit", [{"left_ratio": 0.2}, {"months": 2}, {"months": 12}])
def test_hosts_that_may_be_used_again_or_in_part_keep_their_value(snap, limit):
    read = event(snap, event="ban", subject="h20-96", **limit).incident
    assert read.hits[0].ratio[0] == pytest.approx(1.0 - limit.get("left_ratio", 0.0))
    assert read.worthless == ()


def test_a_ban_of_support_that_ends_lets_chips_open_again(snap):
    read = event(snap, event="ban", subject="thead-ppu-810e", scope="support", months=2)
    rates = {row.kind: row.ready for row in world_after(read.problem, read.incident).rates}
    assert rates == {"gpu": 0, "own": 2}


@pytest.mark.parametrize(("scope", "ways"), [("purchases", 2), ("support", 1)])
def test_a_ban_of_purchases_and_support_stops_what_comes(snap, scope, ways):
    read = event(snap, event="ban", subject="thead-ppu-810e", scope=scope)
    after = world_after(read.problem, read.incident)
    assert (len(read.problem.deliveries), after.deliveries) == (1, ())
    assert len(after.rates) == ways
    assert read.incident.hits == ()


def test_a_supplier_is_found_by_its_orders_and_by_its_chips(snap):
    named = fleet(deliveries=(delivery_fact("a", quantity=4), delivery_fact("b", quantity=6)))
    facts = EventFacts(suppliers={"a": "Broker", "b": "Maker"})
    read = event(named, facts, event="supplier_stop", subject="broker", months=2)
    assert [(row.slug, row.period) for row in world_after(read.problem, read.incident).deliveries] == [
        ("a", 2),
        ("b", 0),
    ]
    vendor = event(named, facts, event="supplier_stop", subject="T-Head", left_ratio=0.5)
    assert [row.hosts for row in world_after(vendor.problem, vendor.incident).deliveries] == [2, 3]
    with pytest.raises(ProblemError, match="no supplier or vendor 'nobody'"):
        event(named, facts, event="supplier_stop", subject="nobody")


def test_a_baseline_takes_hosts_out_until_they_are_upgraded(snap):
    below = tuple(snap.host_slugs[:12])
    facts = EventFacts(below=below, unrecorded=(*snap.host_slugs[12:15], "elsewhere"))
    read = event(
        snap,
        facts,
        event="firmware_baseline",
        subject="h20-96",
        firmware="fw-2",
        upgrades_per_month=5,
        month="2027-02",
    )
    assert read.incident.hits[0].ratio == pytest.approx((0.0, 12 / 24, 7 / 24, 2 / 24))
    assert read.below == (("dc01/h1", "gpu", 12),)
    assert sum(row.exposed_tok_s for row in read.incident.placed) == 12 * 500.0
    assert read.notes[0].startswith("3 hosts of the chip have no card on record")
    drain = read.drain()
    assert (drain.total, drain.done) == (12, 2)
    assert [row.hosts for row in drain.rows] == [5, 5, 2]


def test_the_biggest_client_asks_for_more(snap):
    read = event(snap, event="client_doubles", subject="chat", client_ratio=0.4, month="2027-03")
    (after,) = world_after(read.problem, read.incident).services
    assert after.demand_tok_s == pytest.approx((15_000, 15_000, 21_000, 21_000))
    facts = EventFacts(client_ratio={"chat": 0.5})
    told = event(snap, facts, event="client_doubles", subject="chat", client_demand_ratio=3.0, months=1)
    assert world_after(told.problem, told.incident).services[0].demand_tok_s == pytest.approx((30_000, *(15_000,) * 3))
    with pytest.raises(ProblemError, match=r"params.client_ratio: no history of chat says"):
        event(snap, event="client_doubles", subject="chat")


def test_a_new_model_is_a_service_like_another_one(snap):
    params = EventParams(event="new_model", subject="chat", model="qwen3-8b", request_s=3.0, month="2027-02")
    months = question(snap).months
    made = snapshot_with_new(snap, params, months)
    new = next(one for one in made.services if one.slug == "chat+new")
    assert (new.model, new.demand_request_s, new.demand_on) == ("qwen3-8b", 3.0, date(2027, 2, 1))
    assert (new.tier, new.profile, new.ready_on) == ("gold", "azure-conv", snap.services[0].ready_on)
    read = event_read(ground(made), params, EventFacts())
    assert read.incident.new_services == ("chat+new",)
    assert read.incident.demand[0].demand_tok_s == pytest.approx((0.0, 15_000, 15_000, 15_000))
    with pytest.raises(ProblemError, match="no service 'none'"):
        snapshot_with_new(snap, replace(params, subject="none"), months)
    listed = snapshot_with_new(snap, replace(params, subject="chat,"), months)
    assert [one.slug for one in listed.services] == ["chat", "chat+new"]


def test_what_else_there_is_is_not_told_to_who_names_a_service_that_is_not(snap):
    hidden = replace(snap, services=(*snap.services, service_fact("secret"), service_fact("chat-new")))
    params = EventParams(event="new_model", subject="none")
    with pytest.raises(ProblemError) as error:
        snapshot_with_new(hidden, params, question(snap).months)
    assert error.value.errors == (("params.subject", "there is no service 'none'"),)
    made = snapshot_with_new(hidden, replace(params, subject="chat"), question(snap).months)
    assert "chat+new" in {one.slug for one in made.services}


def test_a_new_model_needs_a_demand(snap):
    idle = replace(snap, services=(replace(snap.services[0], demand_request_s=0.0),))
    params = EventParams(event="new_model", subject="chat")
    with pytest.raises(ProblemError, match=r"params.request_s: chat has no demand of its own"):
        snapshot_with_new(idle, params, question(snap).months)
    snapshot_with_new(idle, replace(params, request_s=1.0), question(snap).months)


def test_a_capacity_comes_back_after_its_months(snap):
    read = event(snap, event="capacity_factor", subject="T-HEAD, gpu", left_ratio=0.3, months=2).incident
    assert read.until == 2
    assert {row.kind: row.ratio for row in read.hits} == {
        "gpu": pytest.approx((0.7, 0.7, 0.0, 0.0)),
        "own": pytest.approx((0.7, 0.7, 0.0, 0.0)),
    }


def test_an_event_holds_in_its_region_alone():
    snap = fleet(
        sites=("dc01", "dc02"),
        regions=("north", "south"),
        site_regions={"dc01": "north", "dc02": "south"},
        services=(service_fact("chat"), service_fact("code", region="south")),
        hosts={("dc01", "gpu"): 6, ("dc02", "gpu"): 6},
    )
    read = event(snap, event="ban", subject="h20-96", region="south").incident
    assert [row.place for row in read.hits] == ["dc02/h1"]
    assert read.worthless == ()  # in the north they serve on
    factor = event(snap, event="capacity_factor", subject="h20-96", region="south", left_ratio=0.5, months=1).incident
    assert factor.words == "50% of the capacity of h20-96 is left in south in 2027-01"
    with pytest.raises(ProblemError, match=r"params.region: no region 'west'"):
        event(snap, event="ban", subject="h20-96", region="west")


@pytest.mark.parametrize(
    ("params", "words"),
    [
        ({}, "params.event: what happens is needed"),
        ({"event": "ban"}, "params.subject: what it happens to is needed"),
        ({"event": "ban", "subject": "z80"}, "params.subject: no host type, chip or vendor 'z80'"),
        ({"event": "ban", "subject": "gpu", "month": "2027-09"}, "'2027-09' does not lie in 2027-01 to 2027-04"),
        ({"event": "firmware_baseline", "subject": "gpu"}, "params.firmware: the least firmware set allowed"),
        ({"event": "client_doubles", "subject": "mail"}, "params.subject: no service 'mail' is asked about"),
        ({"event": "firmware_baseline", "subject": "gpu", "firmware": "f", "months": 1}, "params.months: a firmware"),
        (
            {"event": "supplier_stop", "subject": "t-head", "region": "north"},
            "params.region: only a ban and a capacity",
        ),
        ({"event": "new_model", "subject": "chat", "request_s": 0.0}, "params.request_s: it must be above 0"),
    ],
)
def test_an_event_that_cannot_be_is_refused_by_field(snap, params, words):
    with pytest.raises(ProblemError) as error:
        event(snap, **params)
    assert words in str(error.value)


# --- in words ---------------------------------------------------------------------------------------------------------
@pytest.fixture
def half(snap):
    """A question and its answer, in which gold is not protected but standard is."""
    read = event(snap, event="capacity_factor", subject="gpu", left_ratio=0.5)
    problem = replace(read.problem, rules=replace(read.problem.rules, failover_tier="standard"))
    read = replace(read, problem=problem, region_names={"north": "North", "south": "South"})
    return read, incident_answer(problem, read.incident)


def told(read, answer, plans=None, drain=None):
    return sentence_of(read.problem, answer, plans or {}, drain, read)


def failover(region, is_after, holds):
    return FailoverRow(region, is_after, 0, "dc01/h1", 0.0, holds, None)


def test_words_of_one_more_failure_name_the_protected_tier_and_regions(half):
    read, answer = half
    rows = (failover("north", False, True), failover("north", True, False), failover("south", True, False))
    words = told(read, replace(answer, failover=rows))
    assert "Standard no longer survives the loss of one more hall in North." in words
    assert "Standard does not survive the loss of one hall in South." in words, "nothing was protected there before"
    assert "nor did it before" not in words


def test_a_drain_is_ahead_of_a_baseline_only_if_it_is_done_before(half):
    read, answer = half
    drain = DrainPlan((), total=12, left=0, done=2, waits=0)
    late = told(read, replace(answer, failover=()), drain=drain)
    assert late.endswith("all 12 are brought up by 2027-03, after it has begun in 2027-01.")
    kept = replace(answer, first=3, failover=(failover("north", False, True),))
    assert "Drained ahead of it, all 12 are brought up by 2027-03 with standard protected." in told(
        read, kept, drain=drain
    )


def test_a_new_plan_that_leaves_a_little_more_unserved_does_not_say_that_nothing_is_worse(half):
    read, answer = half
    plan = plan_migration(read.problem)
    recovery = tuple(replace(row, replan_months=0.0) for row in answer.recovery)
    cost = PlanCost(0.0, 1e6, 0.0, 1e6, 1e6, 1e6)
    answer = replace(answer, cost=cost, recovery=recovery, plan_before_mtok=0.0, plan_after_mtok=5.0)
    assert "; in no month by more than 1% of demand." in told(read, answer, {"after": plan})
    same = replace(answer, plan_after_mtok=0.0)
    assert "; nothing is served worse under it." in told(read, same, {"after": plan})
    short = replace(answer, recovery=tuple(replace(row, replan_months=0.066) for row in recovery))
    assert "; it recovers in 2 days." in told(read, short, {"after": plan})
