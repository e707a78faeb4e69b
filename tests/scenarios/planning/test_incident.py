"""The world after: what is removed stays removed, what is not touched stays as it was."""

from dataclasses import replace

import pytest

from scenarios.planning.incident import (
    ClosedValues,
    DemandValues,
    HitValues,
    Incident,
    StopValues,
    world_after,
    world_before,
)
from scenarios.planning.plain import ProblemError
from scenarios.planning.problem import DeliveryValues, FloorValues, OfferValues, RateValues, UpValues
from tests.scenarios.planning.capacity_fleets import one_service, random_fleet
from tests.scenarios.planning.fleets import hand_fleet

NOTHING = Incident(words="Nothing happens", first=0)
DARK = replace(NOTHING, hits=(HitValues("a", "gpu", (1.0,)),))


def removals(problem):
    """Everything that only takes away: hosts, deliveries and offers, openings, value."""
    kinds = [kind.slug for kind in problem.kinds]
    return Incident(
        words="Much happens",
        first=1,
        hits=tuple(HitValues(problem.located[0].slug, kind, (0.4,)) for kind in kinds[:2]),
        stops=tuple(StopValues(kind, first=1, until=3) for kind in kinds[2:]),
        closed=tuple(ClosedValues(kind, first=1) for kind in kinds[2:]),
        worthless=tuple(kinds[:1]),
    )


@pytest.mark.parametrize("seed", range(8))
def test_to_remove_twice_is_to_remove_once(seed):
    problem = random_fleet(seed)
    once = world_after(problem, removals(problem))
    assert world_after(once, removals(problem)) == once
    assert once != problem


@pytest.mark.parametrize("seed", range(4))
def test_what_hits_nothing_changes_nothing(seed):
    problem = random_fleet(seed)
    assert world_after(problem, NOTHING) == world_before(problem, NOTHING) == problem


def test_hosts_that_are_hit_stay_in_their_racks():
    after = world_after(hand_fleet(), DARK)
    assert after.standing == hand_fleet().standing
    assert after.up == (UpValues("a", "gpu", (0.0, 0.0)),)


def test_of_what_could_not_serve_before_and_what_is_hit_the_larger_counts():
    problem = replace(hand_fleet(), up=(UpValues("a", "gpu", (0.5, 1.0)), UpValues("b", "gpu", (0.9,))))
    after = world_after(problem, replace(NOTHING, hits=(HitValues("a", "gpu", (0.2, 0.2)),)))
    assert after.up_ratios == {("a", "gpu"): (0.5, 0.8), ("b", "gpu"): (0.9, 0.9)}


def test_what_a_supplier_owes_comes_when_it_delivers_again():
    problem = one_service(
        deliveries=[{"site": "dc1", "kind": "gpu", "period": at, "hosts": 10, "slug": f"d{at}"} for at in (1, 2, 5, 9)],
        offers=[{"kind": "gpu", "period": 3, "hosts": 8}],
    )
    stop = StopValues("gpu", first=2, until=6, left_ratio=0.3)
    after = world_after(problem, replace(NOTHING, stops=(stop,)))
    assert [(row.period, row.hosts) for row in after.deliveries] == [
        *((1, 10), (2, 3), (6, 7), (5, 3), (6, 7), (9, 10)),
    ]
    assert [(row.period, row.hosts) for row in after.offers] == [(3, 2), (6, 6)]


def test_a_stop_for_good_and_one_beyond_the_horizon_bring_nothing():
    problem = one_service(deliveries=[{"site": "dc1", "kind": "gpu", "period": 2, "hosts": 10}], periods=4)
    for until in (None, 4, 9):
        after = world_after(problem, replace(NOTHING, stops=(StopValues("gpu", first=0, until=until),)))
        assert after.deliveries == ()


def test_a_stop_holds_for_its_sites_and_deliveries_alone():
    problem = hand_fleet(
        deliveries=(DeliveryValues("north", "own", 0, 4, slug="ours"), DeliveryValues("north", "own", 0, 4, slug="b")),
        offers=(OfferValues("own", 0, 4),),
    )
    named = StopValues("own", first=0, deliveries=("ours",))
    after = world_after(problem, replace(NOTHING, stops=(named,)))
    assert [row.slug for row in after.deliveries] == ["b"]
    assert after.offers == problem.offers
    elsewhere = replace(named, deliveries=(), sites=("south",))
    assert world_after(problem, replace(NOTHING, stops=(elsewhere,))) == problem


def test_no_service_opens_a_kind_without_support_but_what_serves_goes_on():
    rates = (RateValues("chat", "gpu", 100.0), RateValues("chat", "own", 80.0, ready=1))
    closed = replace(NOTHING, closed=(ClosedValues("own", first=1),))
    assert [row.kind for row in world_after(hand_fleet(rates=rates), closed).rates] == ["gpu"]
    serving = (rates[0], replace(rates[1], in_use=True))
    assert world_after(hand_fleet(rates=serving), closed).rates == serving
    before = (rates[0], replace(rates[1], ready=0))  # could have opened before the month
    assert world_after(hand_fleet(rates=before), closed).rates == before


def test_a_kind_that_is_supported_again_opens_then():
    rates = (RateValues("chat", "gpu", 100.0), RateValues("chat", "own", 80.0, ready=0))
    closed = replace(NOTHING, closed=(ClosedValues("own", first=0, until=1),))
    after = world_after(hand_fleet(rates=rates), closed)
    assert [(row.kind, row.ready) for row in after.rates] == [("gpu", 0), ("own", 1)]
    assert world_after(after, closed) == after
    late = replace(NOTHING, closed=(ClosedValues("own", first=0, until=2),))
    assert [row.kind for row in world_after(hand_fleet(rates=rates), late).rates] == ["gpu"]


def test_a_floor_on_a_region_that_only_a_new_service_has_is_none_before():
    problem = hand_fleet()
    south = replace(problem.services[0], slug="new", region="south")
    floors = (FloorValues(0.1), FloorValues(0.5, region="south"))
    problem = replace(problem, services=(*problem.services, south), floors=floors)
    assert world_before(problem, replace(NOTHING, new_services=("new",))).floors == floors[:1]


def test_an_incident_that_ends_before_it_begins_or_names_a_demand_twice_is_refused():
    demand = DemandValues("chat", (1.0,))
    incident = replace(NOTHING, first=1, until=1, demand=(demand, demand))
    with pytest.raises(ProblemError) as error:
        world_after(hand_fleet(), incident)
    assert [place for place, _text in error.value.errors] == ["incident.until", "incident.demand[1].service"]


def test_a_new_service_is_in_the_world_after_alone():
    problem = one_service(periods=2)
    service = replace(problem.services[0], slug="new")
    problem = replace(
        problem, services=(*problem.services, service), rates=(*problem.rates, RateValues("new", "gpu", 5.0))
    )
    incident = replace(NOTHING, demand=(DemandValues("new", (0.0, 70.0)),), new_services=("new",))
    assert [one.slug for one in world_before(problem, incident).services] == ["chat"]
    assert [one.demand_tok_s for one in world_after(problem, incident).services][1] == (0.0, 70.0)


def test_an_incident_that_names_what_is_not_there_says_where():
    incident = Incident(
        words="x",
        first=7,
        lasting=(1.0, 1.0, 1.0),
        hits=(HitValues("nowhere", "gpu", (1.0, 0.0, 1.0)),),
        stops=(StopValues("none", first=0),),
        worthless=("none",),
    )
    with pytest.raises(ProblemError) as error:
        world_after(hand_fleet(), incident)
    places = [place for place, _text in error.value.errors]
    assert places == [
        "incident.first",
        "incident.hits[0].place",
        "incident.hits[0].ratio",
        "incident.stops[0].kind",
        "incident.lasting",
        "incident.worthless[0]",
    ]
