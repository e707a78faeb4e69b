from dataclasses import replace
from datetime import date

import numpy as np
import pytest
import redis
from django.core.cache import cache
from django.core.exceptions import ValidationError

from accelerator import Band
from fleet.demo import demo_fleet_load
from fleet.fits import hosts_fit
from fleet.models import DemandOverride, Rack, Service
from fleet.room import Room, SiteRooms
from fleet.selectors import snapshot_take
from fleet.services import rows_write
from fleet.snapshot import DAY_MAX, TreeFacts
from scenarios import queries
from scenarios.calibrations import calibration_in_use
from scenarios.demands import history_store
from scenarios.queries import CapacityQuestion, band_at, capacity_answer, capacity_query
from tests.scenarios.test_forecast import made

DAY = date(2027, 1, 1)
QUESTION = CapacityQuestion(as_of=DAY, kind="ppu-16x", site="dc03", service="chat", quantile=0.9)


def answered(question, snapshot):
    return capacity_answer(question, snapshot, calibration_in_use())


@pytest.fixture
def fleet(db):
    demo_fleet_load(DAY)


@pytest.fixture
def snapshot(fleet):
    return snapshot_take(DAY)


def test_the_room_is_what_racks_take_by_power_and_height(snapshot):
    answer = answered(replace(QUESTION, service=None), replace(snapshot, deliveries=()))
    kind = next(kind for kind in snapshot.kinds if kind.slug == "ppu-16x")
    racks = snapshot.rack_site == [site.slug for site in snapshot.sites].index("dc03")
    standing = snapshot.rack_hosts(DAY)
    later = snapshot.host_first_day > DAY.toordinal()
    assert not later.any(), "the hand count below knows of no host dated later"
    free_w = (snapshot.rack_power_limit_w - standing @ snapshot.kind_power_w)[racks]
    free_u = (snapshot.rack_height_u - standing @ snapshot.kind_height_u)[racks]
    expected = int(hosts_fit(free_w=free_w, free_u=free_u, host_w=kind.power_w, host_u=kind.height_u).sum())
    assert expected > 0
    assert answer["fits"] == {"p10": expected, "p50": expected, "p90": expected}
    assert answer["fits_without_deliveries"] == expected
    assert sum(row["share"] for row in answer["binding"]) == pytest.approx(1)
    assert answer["tok_s"] is None


def test_feeds_bind_where_they_bear_less_than_the_cabinets(snapshot):
    question = replace(QUESTION, service=None)
    weak = replace(snapshot, power=replace(snapshot.power, usable=snapshot.power.usable * 0.8))
    free, bound = answered(question, snapshot), answered(question, weak)
    assert 0 < bound["fits"]["p50"] < free["fits"]["p50"]
    assert not any(stop["failure"] for stop in free["binding"])
    stop = next(stop for stop in bound["binding"] if stop["failure"])
    assert {stop["object"], stop["failure"]} <= set(snapshot.power.slugs)
    room = Room(weak, DAY).fit(next(kind for kind in weak.kinds if kind.slug == question.kind), weak.rack_site == 2)
    assert bound["fits"] == dict.fromkeys(("p10", "p50", "p90"), room.count)


@pytest.mark.parametrize("kind", ["ppu-16x", "h20-8x", "910c-8x"])
def test_sites_asked_apart_are_together_what_their_racks_are_at_once(snapshot, kind):
    """Cabinets, units, feeds with one lost, and hosts put in first: count and stops are the same, to the last bit."""
    weak = replace(snapshot, power=replace(snapshot.power, usable=snapshot.power.usable * 0.85))
    at = [fact.slug for fact in weak.kinds].index(kind)
    more = np.zeros((len(weak.rack_slugs), len(weak.kinds)), dtype=np.int64)
    more[::7, at] = 1
    rack, which = np.nonzero(more)
    for day in (DAY, date(2028, 3, 1)):
        rooms = SiteRooms(weak, day)
        for sites in ([0], [1, 2], list(range(len(weak.sites)))):
            racks = np.isin(weak.rack_site, sites)
            for put in (None, np.column_stack((rack, which, more[rack, which]))):
                whole = Room(weak, day, None if put is None else more).fit(weak.kinds[at], racks)
                apart = rooms.fit(at, sites, put)
                assert (apart.count, apart.stops) == (whole.count, whole.stops)
                assert rooms.fit(at, sites, put, with_stops=False).count == whole.count


def test_sites_whose_nodes_are_linked_are_asked_together(snapshot):
    power = snapshot.power
    first, second = (int(np.flatnonzero(power.site == site)[0]) for site in (0, 1))
    linked = replace(
        power,
        link_node=np.append(power.link_node, second),
        link_source=np.append(power.link_source, first),
        link_standby=np.append(power.link_standby, True),
        link_first_day=np.append(power.link_first_day, 1),
        link_last_day=np.append(power.link_last_day, DAY_MAX),
    )
    fleet = replace(snapshot, power=linked)
    for sites in ([0], [1], [0, 1, 2]):
        whole = Room(fleet, DAY).fit(fleet.kinds[0], np.isin(fleet.rack_site, sites))
        apart = SiteRooms(fleet, DAY).fit(0, sites)
        assert (apart.count, apart.stops) == (whole.count, whole.stops)


def test_deliveries_due_by_the_day_take_their_room_first(snapshot):
    later = replace(QUESTION, as_of=date(2028, 6, 1), site="dc01")
    answer = answered(later, snapshot_take(later.as_of))
    assert answer["fits"]["p50"] < answer["fits_without_deliveries"]
    assert answer["fits"]["p10"] <= answer["fits"]["p50"] <= answer["fits"]["p90"]


def test_tokens_are_hosts_times_the_rate_of_one(snapshot):
    question = replace(QUESTION, kind="h20-8x")
    answer = answered(question, snapshot)
    assert answer["rating"]["allowed"]
    fits, rate = answer["fits"], answer["rating"]["tok_s"]
    assert fits["p50"] * rate["p10"] < answer["tok_s"]["p50"] < fits["p50"] * rate["p90"]
    # a median of 32 draws lies within a few per cent of the median they are drawn from
    assert answer["tok_s"]["p50"] == pytest.approx(fits["p50"] * rate["p50"], rel=0.1)
    assert answer["tok_s"]["p10"] < answer["tok_s"]["p50"] < answer["tok_s"]["p90"]


def test_a_service_of_another_region_is_rated_and_the_answer_says_so(snapshot):
    region = next(service.region for service in snapshot.services if service.slug == "chat")
    for site in snapshot.sites:
        answer = answered(replace(QUESTION, kind="h20-8x", site=site.slug), snapshot)
        is_said = any(line.startswith("chat is served in") for line in answer["assumptions"])
        assert is_said == (site.region != region)
        assert answer["rating"]["tok_s"]["p50"] > 0


def test_a_service_whose_software_is_not_ready_gets_no_tokens_and_the_reason(snapshot):
    at = next(i for i, s in enumerate(snapshot.services) if s.slug == "chat")
    unready = replace(snapshot.services[at], ready_on={})
    changed = replace(snapshot, services=(*snapshot.services[:at], unready, *snapshot.services[at + 1 :]))
    answer = answered(QUESTION, changed)
    assert answer["tok_s"] == {"p10": 0, "p50": 0, "p90": 0}
    assert "not ready" in answer["rating"]["reason"]


def test_the_whole_fleet_is_the_sum_of_its_sites_and_runs_out_with_its_first_region(snapshot):
    whole = answered(replace(QUESTION, site=None, service=None), snapshot)
    parts = [
        answered(replace(QUESTION, site=site.slug, service=None), snapshot)["fits_without_deliveries"]
        for site in snapshot.sites
    ]
    assert whole["fits_without_deliveries"] == sum(parts)
    months = [row["run_out"]["p10"] for row in whole["run_out_regions"] if row["run_out"]["p10"]]
    assert len(whole["run_out_regions"]) == 2
    assert whole["run_out"]["p10"] == min(months, default=None)


def test_a_region_without_racks_says_so(snapshot):
    empty = replace(
        snapshot,
        rack_slugs=(),
        **{
            name: np.zeros(0, dtype=np.int64)
            for name in ("rack_site", "rack_height_u", "rack_first_day", "rack_last_day", "rack_row")
        },
        **{
            name: np.zeros(0, dtype=np.int64)
            for name in ("host_rack", "host_kind", "host_first_day", "host_last_day", "host_position_u")
        },
        **{
            name: np.zeros(0)
            for name in ("rack_power_limit_w", "rack_cooling_limit_w", "rack_weight_limit_kg", "rack_ports")
        },
        rack_is_liquid=np.zeros(0, dtype=bool),
        power=TreeFacts.none(),
        cooling=TreeFacts.none(),
    )
    answer = answered(QUESTION, empty)
    assert answer["fits"] == {"p10": 0, "p50": 0, "p90": 0}
    assert answer["binding"] == [{"constraint": "no_rack", "object": "", "failure": "", "share": 1.0}]


@pytest.mark.parametrize(("share", "expected"), [(0.1, 10), (0.5, 20), (0.9, 50), (0.05, 20 - 10 * 1.2835)])
def test_a_band_is_read_at_a_share(share, expected):
    assert band_at(Band(10, 20, 50), share) == pytest.approx(expected, rel=1e-3)
    assert band_at(Band(0, 0, 0), share) == 0


def test_the_surer_the_answer_the_smaller(snapshot):
    sure = [
        answered(replace(QUESTION, kind="h20-8x", quantile=quantile), snapshot)["sure"]["tok_s"]
        for quantile in (0.5, 0.9)
    ]
    assert sure[1] < sure[0]


def test_the_same_question_is_answered_from_the_cache_until_the_fleet_changes(fleet, monkeypatch):
    first = capacity_query(QUESTION)
    computed = []
    answer = queries.DayAnswers.answer
    monkeypatch.setattr(queries.DayAnswers, "answer", lambda *asked: computed.append(1) or answer(*asked))
    assert capacity_query(QUESTION) == first
    assert not computed
    racks = list(Rack.objects.filter(row__hall__site__slug="dc03"))
    for rack in racks:
        rack.power_limit_w = 1.0
    rows_write(Rack, update=racks)
    assert capacity_query(QUESTION)["fits"]["p50"] == 0
    assert computed


def test_run_outs_stand_on_the_demand_of_the_forecast_and_follow_a_history_that_is_stored_later(fleet):
    stated = capacity_query(QUESTION)
    service = Service.objects.get(slug="chat")
    band = dict.fromkeys(("p10_request_s", "p50_request_s", "p90_request_s"), 1e6)
    months = {"first_on": DAY, "last_on": date(2028, 12, 1)}
    rows_write(
        DemandOverride, create=[DemandOverride(slug="o", service=service, author="Li", reason="r", **band, **months)]
    )
    known = capacity_query(replace(QUESTION, site=None, region=service.region.slug))
    assert known["run_out"] == dict.fromkeys(("p10", "p50", "p90"), "2027-01")
    assert stated["run_out"]["p50"] != "2027-01"
    before = queries.day_answers(snapshot_take(DAY), DAY, calibration_in_use())
    history_store(Service.objects.get(slug="assistant"), made(20), name="test", owner=None)
    after = queries.day_answers(snapshot_take(DAY), DAY, calibration_in_use())
    assert after is not before
    assert after.fleet is before.fleet
    named = [fact.slug for fact in after.snapshot.services].index("assistant")
    assert not np.array_equal(*(day._futures[0].demand_tok_s[named] for day in (after, before)))


def test_without_a_cache_it_is_answered_all_the_same(fleet, monkeypatch):
    first = capacity_query(QUESTION)

    def down(*args, **kwargs):
        raise redis.ConnectionError("no cache")

    monkeypatch.setattr(cache, "get", down)
    monkeypatch.setattr(cache, "set", down)
    assert capacity_query(QUESTION) == first


def test_what_does_not_exist_is_named(fleet):
    with pytest.raises(ValidationError) as refusal:
        capacity_query(replace(QUESTION, site="dc99", service="nothing"))
    assert set(refusal.value.message_dict) == {"scope.site", "service"}
    assert "dc01" in str(refusal.value)
