from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest

from fleet.models import Delivery, Host, Rack
from fleet.selectors import snapshot_take
from tests.factories import START, fleet_rows, snapshot


def test_a_day_counts_who_is_in_service_and_not_gone():
    fleet = snapshot(hosts={("dc01", "gpu"): 3})
    first = np.array([1, START.toordinal(), START.toordinal() + 10])
    last = np.array([START.toordinal() + 5, date.max.toordinal(), date.max.toordinal()])
    fleet = replace(fleet, host_first_day=first, host_last_day=last)
    by_day = [fleet.rack_hosts(START + timedelta(days=days)).sum() for days in (-1, 0, 4, 5, 10)]
    assert by_day == [1, 2, 2, 1, 2]


def test_equal_fleets_have_equal_digests_and_any_change_shows():
    fleet = snapshot()
    assert fleet.digest == snapshot().digest
    changed = [
        replace(fleet, as_of=START + timedelta(days=1)),
        replace(fleet, host_last_day=fleet.host_last_day - 1),
        replace(fleet, rack_power_limit_w=fleet.rack_power_limit_w * 1.0001),
        replace(fleet, services=(replace(fleet.services[0], ready_on={"ascend-910c": START}),)),
    ]
    assert len({fleet.digest, *(other.digest for other in changed)}) == 5


@pytest.mark.django_db
def test_the_database_gives_what_stands_there():
    rows = fleet_rows(hosts=4)
    fleet = snapshot_take(START)
    assert [kind.slug for kind in fleet.kinds] == ["h20-8x", "ppu-16x"]
    assert fleet.rack_hosts(START).tolist() == [[2, 0], [2, 0]]
    assert fleet.services[0].ready_on == {"thead-ppu-810e": date(2027, 4, 1)}
    assert fleet.rack_slugs == tuple(rack.slug for rack in rows["racks"])


@pytest.mark.django_db
def test_what_left_before_the_day_is_not_in_it_and_what_leaves_later_is():
    fleet_rows(hosts=4)
    Host.objects.filter(slug="host-0").update(out_of_service_on=START)
    Host.objects.filter(slug="host-1").update(out_of_service_on=START + timedelta(days=1))
    fleet = snapshot_take(START)
    assert fleet.rack_hosts(START).sum() == 3
    assert fleet.rack_hosts(START + timedelta(days=1)).sum() == 2


@pytest.mark.django_db
def test_hosts_of_a_closed_rack_go_with_it():
    fleet_rows(hosts=4)
    Rack.objects.filter(slug="dc01-a1").update(out_of_service_on=START - timedelta(days=1))
    fleet = snapshot_take(START)
    assert fleet.rack_slugs == ("dc01-a2",)
    assert fleet.rack_hosts(START).sum() == 2


@pytest.mark.django_db
def test_a_snapshot_asks_as_often_for_a_large_fleet_as_for_a_small_one(django_assert_num_queries):
    rows = fleet_rows(hosts=2)
    with django_assert_num_queries(25):
        snapshot_take(START)
    Host.objects.bulk_create(
        Host(slug=f"more-{at}", host_type=rows["kinds"][0], rack=rows["racks"][0]) for at in range(50)
    )
    Delivery.objects.create(
        slug="po-1", site=rows["site"], host_type=rows["kinds"][1], quantity=3, expected_on=date(2027, 2, 1)
    )
    with django_assert_num_queries(25):
        fleet = snapshot_take(START)
    assert fleet.deliveries[0].quantity == 3


def test_a_rack_that_closes_takes_its_hosts_with_it():
    fleet = snapshot(hosts={("dc01", "gpu"): 10}, racks_per_site=2)
    closing = fleet.rack_last_day.copy()
    closing[0] = (START + timedelta(days=5)).toordinal()
    fleet = replace(fleet, rack_last_day=closing)
    assert [fleet.rack_hosts(START + timedelta(days=days))[:, 0].tolist() for days in (4, 5)] == [[8, 2], [0, 2]]


@pytest.mark.django_db
def test_racks_open_and_close_with_their_site():
    rows = fleet_rows(hosts=4)
    rows["site"].in_service_on, rows["site"].out_of_service_on = date(2027, 2, 1), date(2027, 5, 1)
    rows["site"].save()
    fleet = snapshot_take(START)
    days = [START, date(2027, 2, 1), date(2027, 4, 30), date(2027, 5, 1)]
    assert [int(fleet.rack_hosts(day).sum()) for day in days] == [0, 4, 4, 0]


@pytest.mark.django_db
def test_a_delivery_whose_hosts_are_entered_does_not_come_again():
    rows = fleet_rows()
    delivery = Delivery.objects.create(
        slug="po-1", site=rows["site"], host_type=rows["kinds"][1], quantity=3, expected_on=date(2027, 2, 1)
    )
    assert len(snapshot_take(START).deliveries) == 1
    delivery.received_on = date(2027, 2, 3)
    delivery.save()
    assert not snapshot_take(START).deliveries
