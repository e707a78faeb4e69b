"""Rules over several rows, each by a write that keeps it and one that breaks it; the sums by plain twins."""

from collections import Counter
from dataclasses import replace
from datetime import date, timedelta
from itertools import combinations
from types import SimpleNamespace

import numpy as np
import pytest
from django.core.exceptions import ValidationError
from django.db import transaction
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from fleet.checks import EVER, OPEN, _meeting, _over
from fleet.models import (
    Card,
    CoolingLink,
    CoolingNode,
    Delivery,
    Deployment,
    Endpoint,
    FirmwareSet,
    Hall,
    Host,
    HostType,
    Lot,
    NetworkLink,
    NetworkNode,
    Order,
    Placement,
    PowerLink,
    PowerNode,
    Rack,
    Row,
    ScaleUpDomain,
    Site,
)
from fleet.services import RowsWriteError, row_delete, row_save, rows_write
from fleet.watches import LOCKS, RULES, watched_fields
from tests.fleet.kinds import CHIP, DAY, every_kind, host_type_row, place_rows

pytestmark = pytest.mark.django_db

LATER = DAY + timedelta(days=365)


@pytest.fixture
def place(db):
    rows = place_rows()
    return SimpleNamespace(**rows, kind=host_type_row(height_u=6))


@pytest.fixture
def away(db):
    """Another site, with a row and a rack."""
    return SimpleNamespace(**place_rows("away-"))


@pytest.fixture
def fleet(db):
    return SimpleNamespace(**every_kind())


def host_new(place, slug="h", **values):
    facts = {"rack": place.rack, "host_type": place.kind, **values}
    return Host(slug=slug, **facts)


def told(row, *, field=None):
    """Save a row that a check refuses, and return what it says of a field."""
    with pytest.raises(ValidationError) as caught:
        row_save(row)
    texts = caught.value.message_dict
    assert field is None or set(texts) == {field}, texts
    return " | ".join(text for messages in texts.values() for text in messages)


def edited(stored, /, **values):
    """The row as it is stored, with some values changed."""
    row = type(stored).objects.get(pk=stored.pk)
    for name, value in values.items():
        setattr(row, name, value)
    return row


# --- racks ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("one", "other", "meet"),
    [
        pytest.param({"position_u": 1}, {"position_u": 7}, False, id="one above the other"),
        pytest.param({"position_u": 1}, {"position_u": 6}, True, id="one unit of both"),
        pytest.param({"position_u": 5}, {"position_u": 5}, True, id="the same place"),
        pytest.param({"position_u": 1}, {"position_u": None}, False, id="no place takes none"),
        pytest.param(
            {"position_u": 1, "out_of_service_on": DAY}, {"position_u": 1, "in_service_on": DAY}, False, id="after"
        ),
        pytest.param(
            {"position_u": 1, "out_of_service_on": DAY},
            {"position_u": 1, "in_service_on": DAY - timedelta(days=1)},
            True,
            id="one day of both",
        ),
        pytest.param({"position_u": 1}, {"position_u": 1, "face": "rear"}, True, id="behind one of full depth"),
    ],
)
def test_two_hosts_never_fill_one_unit(place, one, other, meet):
    row_save(host_new(place, "one", **one))
    new = host_new(place, "other", **other)
    if meet:
        assert "hosts one and other both fill units" in told(new, field="position_u")
    else:
        row_save(new)


def test_hosts_of_half_depth_stand_back_to_back(place):
    flat = host_type_row("flat", full_depth=False)
    row_save(host_new(place, "front", host_type=flat, position_u=1))
    row_save(host_new(place, "rear", host_type=flat, position_u=1, face="rear"))
    assert "front and front-2 both" in told(host_new(place, "front-2", host_type=flat, position_u=3))
    assert "both fill units 1 to 1" in told(
        host_new(place, "deep", position_u=1, host_type=host_type_row("u1", height_u=1))
    )


def test_a_type_does_not_grow_into_the_next_host(place):
    flat = host_type_row("flat", full_depth=False)
    rows_write(Host, create=[host_new(place, f"h{at}", host_type=flat, position_u=1 + 6 * at) for at in range(2)])
    row_save(host_new(place, "rear", host_type=flat, position_u=1, face="rear"))
    assert "hosts h0 and h1 both fill units 7 to 7" in told(edited(flat, height_u=7), field="height_u")
    assert "h0 and rear both fill" in told(edited(flat, full_depth=True))
    row_save(edited(flat, height_u=5))


@pytest.mark.parametrize(
    ("position_u", "height_u", "fits"), [(43, 6, True), (44, 6, False), (48, 1, True), (49, 1, False)]
)
def test_a_host_does_not_reach_beyond_its_rack(place, position_u, height_u, fits):
    new = host_new(place, host_type=host_type_row("x", height_u=height_u), position_u=position_u)
    if fits:
        row_save(new)
        assert "rack dc01-a1 has 42" in told(edited(place.rack, height_u=42))
    else:
        assert f"would fill units {position_u} to {position_u + height_u - 1}; rack dc01-a1 has 48" in told(new)


def test_hosts_without_a_place_count_towards_the_height(place):
    rows_write(Host, create=[host_new(place, f"h{at}") for at in range(8)])
    assert "hosts of 54 U would stand in rack dc01-a1, which has 48" in told(host_new(place, "h9"), field="rack")
    assert "hosts of 48 U" in told(edited(place.rack, height_u=47), field="height_u")
    assert "hosts of 56 U" in told(edited(place.kind, height_u=7), field="height_u")


def test_heights_are_added_day_by_day(place):
    spans = [(None, DAY), (DAY, LATER), (DAY, None), (None, DAY)]
    rows = [host_new(place, f"h{at}", in_service_on=a, out_of_service_on=b) for at, (a, b) in enumerate(spans)]
    place.rack.height_u = 12
    row_save(place.rack)
    rows_write(Host, create=rows)
    over = f"hosts of 18 U would stand in rack dc01-a1, which has 12 on {DAY}"
    assert over in told(host_new(place, "x", in_service_on=DAY, out_of_service_on=LATER))
    row_save(host_new(place, "y", in_service_on=LATER))
    assert f"which has 12 on {LATER}" in told(host_new(place, "z", in_service_on=LATER))


def test_both_faces_have_the_whole_height(place):
    flat = host_type_row("flat", full_depth=False)
    faces = [("front", at) for at in range(8)] + [("rear", at) for at in range(8)]
    rows_write(Host, create=[host_new(place, f"{f}{at}", face=f, host_type=flat) for f, at in faces])
    assert "hosts of 54 U" in told(host_new(place, "x", face="rear", host_type=flat))


def test_what_others_did_wrong_long_ago_does_not_hide_a_new_fault_nor_blame_a_sound_row(place):
    for at in range(12):  # past every service: 72 U until a day
        host_new(place, f"old{at}", out_of_service_on=DAY, position_u=1).save()
    row_save(host_new(place, "sound", in_service_on=LATER))
    rows_write(Host, create=[host_new(place, f"n{at}", in_service_on=LATER) for at in range(7)])
    assert f"hosts of 54 U would stand in rack dc01-a1, which has 48 on {LATER}" in told(
        host_new(place, "x", in_service_on=LATER)
    )
    note = edited(Host.objects.get(slug="old3"), planned_on=DAY)
    row_save(note)  # what it breaks is not what this edit changes


@pytest.mark.parametrize("level", ["rack", "row", "hall", "site"])
@pytest.mark.parametrize(
    ("place_days", "host_days", "message"),
    [
        pytest.param((DAY, None), (DAY, None), "", id="together"),
        pytest.param((DAY, LATER), (None, None), "", id="no day: as long as the place"),
        pytest.param(
            (DAY, None), (DAY - timedelta(days=1), None), "would come on 2027-02-28; its {} begins on", id="early"
        ),
        pytest.param((None, DAY), (None, DAY), "", id="leaves with it"),
        pytest.param(
            (None, DAY), (None, DAY + timedelta(days=1)), "would leave on 2027-03-02; its {} ends on", id="late"
        ),
        pytest.param((None, DAY), (DAY, None), "would come on 2027-03-01; its {} ends on", id="comes when it is gone"),
        pytest.param((DAY, None), (None, DAY), "would leave on 2027-03-01; its {} begins on", id="leaves before it is"),
    ],
)
def test_a_host_is_there_while_its_place_is(place, level, place_days, host_days, message):
    spot = getattr(place, level)
    begins, ends = place_days
    row_save(edited(spot, in_service_on=begins, out_of_service_on=ends))
    host = host_new(place, in_service_on=host_days[0], out_of_service_on=host_days[1])
    name = f"{level} {spot.slug}"
    if message:
        assert message.format(name) in told(host)
        row_save(edited(spot, in_service_on=None, out_of_service_on=None))
    row_save(host)
    if message:
        assert f"host h {message.format(name)}" in told(edited(spot, in_service_on=begins, out_of_service_on=ends))


def test_a_rack_does_not_move_to_a_place_that_ends_before_its_hosts_do(place):
    hall = row_save(Hall(site=place.site, slug="old", name="Old", out_of_service_on=DAY))
    row = row_save(Row(hall=hall, slug="z"))
    row_save(host_new(place, out_of_service_on=LATER))
    assert "its hall old ends on 2027-03-01" in told(edited(place.rack, row=row), field="row")
    assert "its hall old ends on 2027-03-01" in told(edited(place.row, hall=hall), field="hall")


def test_what_feeds_cools_and_connects_a_rack_is_at_its_site(place, away):
    cdu = row_save(CoolingNode(slug="cdu", site=away.site, kind="cdu"))
    assert "rack dc01-a1 and cooling node cdu are at two sites" in told(edited(place.rack, cooling_node=cdu))
    assert "rack dc01-a1 and power node f are at two sites" in told(
        PowerNode(slug="f", site=away.site, kind="feed", rack=place.rack, rating_va=1e4)
    )
    assert "rack dc01-a1 and network node t are at two sites" in told(
        NetworkNode(slug="t", site=away.site, kind="tor", rack=place.rack)
    )
    row_save(edited(away.rack, cooling_node=cdu))
    for moved in (
        edited(away.rack, row=place.row),
        edited(away.row, hall=place.hall, slug="z"),
        edited(cdu, site=place.site),
    ):
        assert "rack away-dc01-a1 and cooling node cdu are at two sites" in told(moved)
    row_save(PowerNode(slug="f", site=place.site, kind="feed", rack=place.rack, rating_va=1e4))
    assert "rack dc01-a1 and power node f are at two sites" in told(
        edited(place.hall, site=away.site, slug="z"), field="site"
    )


def test_a_scale_up_domain_and_its_hosts_are_at_one_site(place, away):
    domain = row_save(ScaleUpDomain(slug="fabric", site=away.site, chips=64))
    assert "host h and scale-up domain fabric are at two sites" in told(host_new(place, scale_up_domain=domain))
    row_save(host_new(place, rack=away.rack, scale_up_domain=domain))
    for moved in (
        edited(domain, site=place.site),
        edited(Host.objects.get(), rack=place.rack),
        edited(away.rack, row=place.row),
        edited(away.row, hall=place.hall, slug="z"),
        edited(away.hall, site=place.site, slug="h9"),
    ):
        assert "host h and scale-up domain fabric are at two sites" in told(moved)


# --- cards ------------------------------------------------------------------------------------------------------------
def test_a_slot_holds_one_card_at_a_time(place):
    host = row_save(host_new(place))
    row_save(Card(serial="a", host=host, slot=1, out_of_service_on=DAY))
    row_save(Card(serial="b", host=host, slot=1, in_service_on=DAY))
    row_save(Card(serial="c", host=row_save(host_new(place, "h2")), slot=1))
    assert "cards a and d are both in slot 1" in told(Card(serial="d", host=host, slot=1, out_of_service_on=DAY))
    assert f"in slot 1 of their host on {LATER}" in told(Card(serial="e", host=host, slot=1, in_service_on=LATER))


def test_a_host_holds_no_more_cards_than_its_type_has_chips(place):
    small = host_type_row("small", chips=2)
    host = row_save(host_new(place, host_type=small))
    rows_write(Card, create=[Card(serial=f"c{at}", host=host, slot=at) for at in range(2)])
    assert "host h would hold 3 cards; its type has 2 chips" in told(Card(serial="x", host=host, slot=9), field="host")
    assert "2 cards; its type has 1 chips" in told(edited(small, chips=1), field="chips")
    assert "2 cards; its type has 1" in told(edited(host, host_type=host_type_row("one", chips=1)), field="host_type")
    row_save(edited(Card.objects.first(), out_of_service_on=DAY))
    row_save(Card(serial="x", host=host, slot=9, in_service_on=DAY))


def test_lot_and_firmware_of_a_card_are_of_its_chip(place):
    host = row_save(host_new(place))
    lot, own = row_save(Lot(slug="l", chip="h20-96")), row_save(Lot(slug="own", chip=CHIP))
    firmware = row_save(FirmwareSet(slug="f", chip="h20-96", rank=1))
    assert f"card c is in a host with {CHIP}; its lot l is of h20-96" in told(
        Card(serial="c", host=host, slot=0, lot=lot)
    )
    assert "its firmware f is of h20-96" in told(Card(serial="c", host=host, slot=0, firmware=firmware))
    row_save(Card(serial="c", host=host, slot=0, lot=own))
    for row in (edited(own, chip="h20-96"), edited(place.kind, chip="h20-96")):
        assert "card c is in a host with" in told(row, field="chip")
    assert "card c" in told(edited(host, host_type=host_type_row("gpu", chip="h20-96")), field="host_type")


# --- trees ------------------------------------------------------------------------------------------------------------
TREES = [
    pytest.param(PowerNode, PowerLink, {"kind": "ups", "rating_va": 1e5}, id="power"),
    pytest.param(CoolingNode, CoolingLink, {"kind": "loop"}, id="cooling"),
    pytest.param(NetworkNode, NetworkLink, {"kind": "leaf"}, id="network"),
]


@pytest.mark.parametrize(("node", "link", "values"), TREES)
def test_nothing_draws_on_itself_through_others(place, node, link, values):
    a, b, c, d = nodes = [node(slug=slug, site=place.site, **values) for slug in "abcd"]
    rows_write(node, create=nodes)
    rows_write(
        link, create=[link(node=a, source=b), link(node=b, source=c), link(node=a, source=c), link(node=a, source=d)]
    )
    assert "b and c would draw on one another" in told(link(node=c, source=b), field="source")
    assert "a and b and c would draw on one another in a circle" in told(link(node=c, source=a))
    row_save(link(node=d, source=c))
    with pytest.raises(RowsWriteError) as caught:
        rows_write(link, create=[link(node=c, source=d)])
    assert "c and d would draw" in str(caught.value)


@pytest.mark.parametrize(("node", "link", "values"), TREES)
def test_a_link_may_turn_round_on_a_day(place, node, link, values):
    a, b = nodes = [node(slug=slug, site=place.site, **values) for slug in "ab"]
    rows_write(node, create=nodes)
    first = row_save(link(node=a, source=b, out_of_service_on=DAY))
    row_save(link(node=b, source=a, in_service_on=DAY))
    assert f"a and b would draw on one another in a circle on {DAY}" in told(edited(first, out_of_service_on=LATER))


@pytest.mark.parametrize(("node", "link", "values"), TREES)
def test_a_node_and_its_source_are_at_one_site(place, away, node, link, values):
    a, b = (row_save(node(slug=slug, site=place.site, **values)) for slug in "ab")
    c = row_save(node(slug="c", site=away.site, **values))
    assert "a and its source c are at two sites" in told(link(node=a, source=c))
    row_save(link(node=a, source=b))
    for moved in (a, b):
        assert "a and its source b are at two sites" in told(edited(moved, site=away.site), field="site")


def test_the_feed_of_a_rack_is_nobody_s_source(place):
    feed = row_save(PowerNode(slug="feed", site=place.site, kind="feed", rack=place.rack, rating_va=1e4))
    pdu, ups = (row_save(PowerNode(slug=kind, site=place.site, kind=kind, rating_va=1e5)) for kind in ("pdu", "ups"))
    assert "pdu would draw on feed, which is the feed of a rack" in told(
        PowerLink(node=pdu, source=feed), field="source"
    )
    row_save(PowerLink(node=pdu, source=ups))
    assert "pdu would draw on ups, which is the feed" in told(edited(ups, kind="feed", rack=place.rack), field="kind")


# --- orders and deliveries --------------------------------------------------------------------------------------------
def test_nothing_is_ordered_or_expected_of_a_retired_type(fleet):
    kind = fleet.hosttype
    row_save(edited(kind, out_of_service_on=LATER))
    order = {"supplier": "x", "host_type": kind, "quantity": 1}
    row_save(Order(slug="in-time", ordered_on=LATER - timedelta(days=1), **order))
    assert "order late is of 2028-02-29; host type ppu-16x ends on 2028-02-29" in told(
        Order(slug="late", ordered_on=LATER, **order), field="ordered_on"
    )
    assert "delivery late is of 2028-02-29" in told(
        Delivery(slug="late", site=fleet.site, host_type=kind, quantity=1, expected_on=LATER), field="expected_on"
    )
    assert "host type ppu-16x ends on 2027-03-01" in told(
        edited(kind, out_of_service_on=DAY), field="out_of_service_on"
    )


def test_a_delivery_brings_what_its_order_is_for_and_no_more(fleet):
    other = host_type_row("other")
    assert "delivery d-1 brings other; order po-1 is for ppu-16x" in told(edited(fleet.delivery, host_type=other))
    assert "order po-1 is for other" in told(edited(fleet.order, host_type=other), field="host_type")
    more = Delivery(
        slug="d-2", order=fleet.order, site=fleet.site, host_type=fleet.hosttype, quantity=5, expected_on=DAY
    )
    row_save(more)
    assert "the deliveries of order po-1 would bring 10 hosts; it is for 9" in told(
        edited(more, quantity=6), field="quantity"
    )
    assert "would bring 9 hosts; it is for 8" in told(edited(fleet.order, quantity=8), field="quantity")
    row_save(edited(more, order=None))
    row_save(edited(fleet.order, quantity=4))


def test_a_delivery_goes_to_a_site_that_is_there(fleet):
    row_save(edited(fleet.site, out_of_service_on=LATER))
    assert "delivery d-1 is expected on 2028-02-29; site dc01 is gone from" in told(
        edited(fleet.delivery, expected_on=LATER)
    )
    assert "site dc01 is gone from 2027-03-01" in told(
        edited(fleet.site, out_of_service_on=DAY), field="out_of_service_on"
    )


# --- services ---------------------------------------------------------------------------------------------------------
def test_a_deployment_runs_on_hosts_of_its_type(fleet):
    gpu = host_type_row("gpu", chip="h20-96")
    host = row_save(Host(slug="g", rack=fleet.rack, host_type=gpu))
    assert "host g is a gpu, and deployment chat-tp4 is for another type" in told(
        Placement(deployment=fleet.deployment, host=host), field="host"
    )
    assert "deployment chat-tp4 is for another type" in told(edited(fleet.deployment, host_type=gpu), field="host_type")
    row_delete(fleet.card)
    assert "host host-1 is a gpu" in told(edited(fleet.host, host_type=gpu), field="host_type")


def test_a_deployment_runs_at_the_site_of_its_endpoint(fleet, away):
    host = row_save(Host(slug="far", rack=away.rack, host_type=fleet.hosttype))
    assert "host far and endpoint chat-dc01 are at two sites" in told(Placement(deployment=fleet.deployment, host=host))
    elsewhere = row_save(Endpoint(slug="e2", service=fleet.service, site=away.site, share_ratio=0.1))
    row_save(edited(fleet.host, scale_up_domain=None))
    for row, field in (
        (edited(fleet.host, rack=away.rack), "rack"),
        (edited(fleet.endpoint, site=away.site), "site"),
        (edited(fleet.deployment, endpoint=elsewhere), "endpoint"),
    ):
        assert "host host-1 and endpoint" in told(row, field=field)
    for row in (edited(fleet.row, hall=away.hall, slug="z"), edited(fleet.hall, site=away.site, slug="h9")):
        assert "host host-1 and endpoint chat-dc01 are at two sites" in told(row)


def test_replicas_need_no_more_chips_than_their_host_has(fleet):
    assert "replicas on host host-1 would need 20 chips; it has 16" in told(
        edited(fleet.placement, replicas=5), field="replicas"
    )
    other = row_save(edited(fleet.deployment, pk=None, slug="other", replica_chips=2, config="x"))
    row_save(Placement(deployment=other, host=fleet.host, replicas=2))
    assert "would need 16 chips" in told(edited(fleet.hosttype, chips=15), field="chips")
    assert "would need 19 chips" in told(edited(fleet.deployment, replica_chips=5), field="replica_chips")
    assert f"would need 18 chips on {LATER}" in told(
        Placement(
            deployment=row_save(edited(other, pk=None, slug="third")), host=fleet.host, in_service_on=LATER, replicas=1
        ),
    )
    assert "it has 8" in told(edited(fleet.host, host_type=host_type_row("half", chips=8)))


def test_a_replica_that_spans_hosts_takes_its_share_of_each(fleet):
    hosts = [Host(slug=f"u{at}", rack=fleet.rack, host_type=fleet.hosttype) for at in range(3)]
    rows_write(Host, create=hosts)
    wide = row_save(edited(fleet.deployment, pk=None, slug="wide", replica_chips=30))
    small = row_save(edited(fleet.deployment, pk=None, slug="small", replica_chips=6))
    rows_write(Placement, create=[Placement(deployment=wide, host=host, unit=1) for host in hosts])  # 10 of 16 each
    row_save(Placement(deployment=small, host=hosts[0], replicas=1))
    assert "host u1 would need 22 chips" in told(Placement(deployment=small, host=hosts[1], replicas=2))
    assert "would need 18 chips; it has 16" in told(edited(wide, replica_chips=36), field="replica_chips")
    last = Placement.objects.get(deployment=wide, host=hosts[2])
    row_save(edited(last, out_of_service_on=DAY))
    assert f"would need 21 chips on {DAY}" in told(edited(Placement.objects.get(deployment=small), replicas=1, unit=7))


def test_a_unit_may_be_entered_host_by_host(fleet):
    wide = row_save(edited(fleet.deployment, pk=None, slug="wide", replica_chips=64))
    for at in range(4):
        host = row_save(Host(slug=f"u{at}", rack=fleet.rack, host_type=fleet.hosttype))
        row_save(Placement(deployment=wide, host=host, unit=1))


def test_the_shares_of_a_service_are_no_more_than_all_of_it(fleet):
    shares = {"service": fleet.service, "site": fleet.site}
    row_save(Endpoint(slug="e2", share_ratio=0.5, out_of_service_on=DAY, **shares))
    row_save(Endpoint(slug="e3", share_ratio=0.5, in_service_on=DAY, **shares))
    assert f"the shares of the endpoints of service chat would add up to more than 1 on {LATER}" in told(
        Endpoint(slug="e4", share_ratio=0.01, in_service_on=LATER, **shares), field="share_ratio"
    )
    rows_write(Endpoint, delete=Endpoint.objects.filter(slug="e3"))
    rows_write(
        Endpoint, create=[Endpoint(slug=f"t{at}", share_ratio=0.1, in_service_on=DAY, **shares) for at in range(5)]
    )


# --- which edits are looked at ----------------------------------------------------------------------------------------
def test_watched_fields_are_columns_and_locks_are_of_watched_models():
    for rule in RULES:
        for model, watch in rule.watched.items():
            columns = {field.attname for field in model._meta.concrete_fields}
            assert watch.fields <= columns, (rule.check, model)
            if watch.path != "pk":
                rule.over.objects.filter(**{f"{watch.path}__in": [1]}).count()
            else:
                assert rule.over is model
    for model, names in LOCKS.items():
        assert {f"{name}_id" for name in names} <= watched_fields(model)


def test_an_edit_of_what_no_check_watches_asks_none(place, monkeypatch):
    host = row_save(host_new(place))
    asked = []
    monkeypatch.setattr(
        "fleet.watches.RULES", tuple(replace(rule, check=lambda groups: asked.append(groups) or []) for rule in RULES)
    )
    row_save(edited(host, planned_on=DAY))
    assert not asked
    row_save(edited(host, position_u=3))
    assert asked == [{place.rack.pk}, {place.rack.pk}], "free units, and whether it reaches beyond the rack"


# --- plain twins ------------------------------------------------------------------------------------------------------
DAYS = [None, DAY, DAY + timedelta(days=1), DAY + timedelta(days=2)]
stays = st.tuples(st.sampled_from(DAYS), st.sampled_from(DAYS)).filter(lambda stay: None in stay or stay[0] < stay[1])
placed = st.tuples(
    st.integers(0, 1), st.none() | st.integers(1, 5), st.sampled_from(["front", "rear"]), st.integers(0, 2), stays
)


def days_of(stay):
    first, last = stay
    return {day for day in (date.min, *DAYS[1:]) if (first is None or day >= first) and (last is None or day < last)}


def sound_by_hand(hosts, kinds, height_u):
    """Every unit of every face of every day, one by one."""
    for day in (date.min, *DAYS[1:]):
        filled, total = Counter(), Counter()
        for rack, position_u, face, kind, stay in hosts:
            if day not in days_of(stay):
                continue
            faces = ("front", "rear") if kinds[kind].full_depth else (face,)
            for one in faces:
                total[rack, one] += kinds[kind].height_u
                for unit in range(position_u or 0, (position_u or 0) + kinds[kind].height_u) if position_u else ():
                    filled[rack, one, unit] += 1
                    if unit > height_u:
                        return False
        if max(filled.values(), default=0) > 1 or max(total.values(), default=0) > height_u:
            return False
    return True


def test_racks_are_filled_as_a_plain_count_of_units_allows(place):
    row_save(edited(place.rack, height_u=5))
    racks = [Rack.objects.get(), row_save(Rack(slug="r2", row=place.row, power_limit_w=1, height_u=5))]
    kinds = [
        host_type_row("two", height_u=2),
        host_type_row("flat", height_u=2, full_depth=False),
        host_type_row("none", height_u=0),
    ]
    seen = Counter()

    @settings(max_examples=120, deadline=None, suppress_health_check=[HealthCheck.too_slow])
    @given(st.lists(placed, min_size=1, max_size=6))
    def agree(hosts):
        rows = [
            Host(
                slug=f"h{at}",
                rack=racks[rack],
                host_type=kinds[kind],
                position_u=position_u,
                face=face,
                in_service_on=stay[0],
                out_of_service_on=stay[1],
            )
            for at, (rack, position_u, face, kind, stay) in enumerate(hosts)
        ]
        # a host without height still names a unit: only whether it reaches beyond is not asked of it
        sound = sound_by_hand(hosts, kinds, 5)
        with transaction.atomic():
            try:
                rows_write(Host, create=rows)
                found = True
            except RowsWriteError:
                found = False
            transaction.set_rollback(True)
        assert found == sound, hosts
        seen[sound] += 1

    agree()
    assert min(seen[True], seen[False]) > 10


spans = st.tuples(st.integers(0, 2), st.integers(0, 6), st.integers(1, 4), st.integers(0, 4), st.integers(1, 4))


@given(st.lists(spans, max_size=12))
@settings(deadline=None)
def test_meeting_pairs_are_all_pairs_that_overlap(items):
    group, low, size, first, stay = np.array(items, dtype=np.int64).reshape(-1, 5).T
    high, last = low + size, first + stay
    found = {frozenset(pair) for pair in _meeting(group, low, high, first, last)}
    plain = {
        frozenset((i, j))
        for i, j in combinations(range(len(items)), 2)
        if group[i] == group[j]
        and max(low[i], low[j]) < min(high[i], high[j])
        and max(first[i], first[j]) < min(last[i], last[j])
    }
    assert found == plain


@given(
    st.lists(st.tuples(st.integers(0, 2), st.integers(0, 5), st.integers(1, 5), st.integers(0, 9)), max_size=12),
    st.integers(0, 20),
)
@settings(deadline=None)
def test_what_is_over_is_what_a_count_day_by_day_finds(items, limit):
    group, first, stay, amount = np.array(items, dtype=np.int64).reshape(-1, 4).T
    last = first + stay
    found = {at: (total, day) for at, total, day in _over(group, first, last, amount, dict.fromkeys(range(3), limit))}
    plain = {}
    for at in range(len(items)):
        for day in range(first[at], last[at]):
            total = sum(amount[(group == group[at]) & (first <= day) & (day < last)])
            if total > limit and at not in plain:
                plain[at] = total
    assert found.keys() == plain.keys()
    for at, (total, day) in found.items():
        assert total == sum(amount[(group == group[at]) & (first <= day) & (day < last)])
        assert first[at] <= day < last[at]


def test_open_ends_are_outside_of_every_day():
    assert date.min.toordinal() > OPEN
    assert date.max.toordinal() < EVER


def test_checks_of_a_model_that_nobody_touches_cost_nothing(place, django_assert_num_queries):
    from fleet.watches import Written, faults_find

    with django_assert_num_queries(0):
        assert faults_find([Written(Site, frozenset({1}), {})]) == []
        assert faults_find([Written(HostType, frozenset(), {1: frozenset({"name"})})]) == []
        assert faults_find([Written(Deployment, frozenset({1}), {})]) == []
