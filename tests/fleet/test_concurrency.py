"""Many writers at once, each with a connection of its own: what fits is written, and nothing beside it."""

import threading
from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from types import SimpleNamespace

import pytest
from django.core.exceptions import ValidationError
from django.db import connection
from django.db.models import Sum

from fleet.audit import Author, changes_verify, writing_as
from fleet.checks import check_rack_heights, check_units_free, check_units_in_rack
from fleet.models import Card, Change, ChangeSet, Delivery, Endpoint, Host, Order, Placement, Rack, Region, Site
from fleet.services import RowsWriteError, StaleVersionError, change_set_undo, row_delete, row_save, rows_write
from tests.fleet.kinds import DAY, every_kind

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(params=[8, pytest.param(50, marks=pytest.mark.postgres)])
def writers(request):
    return request.param


@pytest.fixture
def fleet(db):
    """One row of every kind, and a rack filled to its unit 30."""
    rows = SimpleNamespace(**every_kind())
    rack = row_save(Rack(slug="full", row=rows.row, power_limit_w=1e5, height_u=48))
    rows_write(Host, create=[host(rows, f"base{at}", rack=rack, position_u=1 + 6 * at) for at in range(5)])
    rows.full = rack
    return rows


def host(rows, slug, **values):
    return Host(slug=slug, host_type_id=rows.hosttype.pk, **values)


def race(count, write):
    """Let `write(0)` ... start together, each in a thread of its own; count what became of them."""
    barrier = threading.Barrier(count)

    def one(number):
        try:
            barrier.wait(60)
            with writing_as(Author(None, f"writer {number}")):
                write(number)
        except (RowsWriteError, ValidationError, StaleVersionError) as error:
            return type(error).__name__
        else:
            return "written"
        finally:
            connection.close()

    with ThreadPoolExecutor(count) as pool:
        return Counter(pool.map(one, range(count)))


def assert_sound(racks):
    assert not check_units_free(racks)
    assert not check_units_in_rack(racks)
    assert not check_rack_heights(racks)
    found = changes_verify()
    assert found.sound, found.fault
    assert list(ChangeSet.objects.order_by("number").values_list("number", flat=True)) == list(range(1, found.sets + 1))


def test_the_last_units_of_a_rack_are_filled_once(fleet, writers):
    """Three places of six units are left, and every writer wants one of them."""
    found = race(writers, lambda n: row_save(host(fleet, f"h{n}", rack_id=fleet.full.pk, position_u=31 + 6 * (n % 3))))
    assert found == {"written": 3, "ValidationError": writers - 3}
    assert sorted(Host.objects.filter(slug__startswith="h", rack=fleet.full).values_list("position_u", flat=True)) == [
        31,
        37,
        43,
    ]
    assert_sound([fleet.full.pk])


def test_places_that_overlap_in_part_are_filled_once(fleet, writers):
    """Writers want places one unit apart: whoever comes first keeps several others out."""
    race(writers, lambda n: row_save(host(fleet, f"h{n}", rack_id=fleet.full.pk, position_u=31 + n % 13)))
    assert Host.objects.filter(rack=fleet.full).count() > 5
    assert_sound([fleet.full.pk])


def test_hosts_without_a_place_fill_a_rack_once(fleet, writers):
    found = race(writers, lambda n: rows_write(Host, create=[host(fleet, f"h{n}", rack_id=fleet.full.pk)]))
    assert found == {"written": 3, "RowsWriteError": writers - 3}
    assert_sound([fleet.full.pk])


def test_hosts_of_many_racks_are_moved_into_one_another_without_a_deadlock(fleet, writers):
    """Each writer takes hosts of two racks, in opposite orders."""
    racks = [fleet.full, row_save(Rack(slug="other", row=fleet.row, power_limit_w=1e5, height_u=48))]
    flat = fleet.hosttype
    hosts = [host(fleet, f"m{at}", rack_id=racks[at % 2].pk) for at in range(6)]
    rows_write(Host, create=hosts)
    assert flat.height_u == 6

    def write(number):
        mine = list(Host.objects.filter(slug__in=[f"m{number % 6}", f"m{(number + 1) % 6}"]))
        for row in mine:
            row.rack_id = racks[(number + (row.slug == f"m{number % 6}")) % 2].pk
        rows_write(Host, update=mine if number % 2 else mine[::-1])

    race(writers, write)
    assert_sound([rack.pk for rack in racks])


def test_a_rack_does_not_shrink_under_the_hosts_that_come(fleet, writers):
    def write(number):
        if number == writers // 2:
            rack = Rack.objects.get(pk=fleet.full.pk)
            rack.height_u = 36
            row_save(rack)
        else:
            row_save(host(fleet, f"h{number}", rack_id=fleet.full.pk))

    found = race(writers, write)
    height_u = Rack.objects.get(pk=fleet.full.pk).height_u
    assert Host.objects.filter(rack=fleet.full).count() == height_u // 6
    assert found["written"] == {36: 2, 48: 3}[height_u], "the rack and one host, or three hosts"
    assert_sound([fleet.full.pk])


def test_a_site_does_not_end_under_the_hosts_that_come(fleet, writers):
    Host.objects.update(out_of_service_on=DAY)

    def write(number):
        if number == writers // 2:
            site = Site.objects.get(pk=fleet.site.pk)
            site.out_of_service_on = DAY + timedelta(days=9)
            row_save(site)
        else:
            row_save(host(fleet, f"h{number}", rack_id=fleet.full.pk, in_service_on=DAY + timedelta(days=10)))

    race(writers, write)
    ended = Site.objects.get().out_of_service_on is not None
    assert ended == (not Host.objects.filter(slug__startswith="h", in_service_on__gt=DAY).exists())


def test_a_slot_is_filled_once(fleet, writers):
    found = race(writers, lambda n: row_save(Card(serial=f"s{n}", host_id=fleet.host.pk, slot=7)))
    assert found == {"written": 1, "ValidationError": writers - 1}


def test_an_order_is_delivered_once(fleet, writers):
    def write(number):
        facts = {"order_id": fleet.order.pk, "site_id": fleet.site.pk, "host_type_id": fleet.hosttype.pk}
        row_save(Delivery(slug=f"x{number}", quantity=2, expected_on=DAY, **facts))

    assert race(writers, write) == {"written": 2, "ValidationError": writers - 2}
    assert Order.objects.annotate(total=Sum("deliveries__quantity")).get().total == 8


def test_the_chips_of_a_host_are_given_once(fleet, writers):
    kinds = [Placement.deployment.field.related_model.objects.get() for _ in range(writers)]
    for number, deployment in enumerate(kinds):
        deployment.pk, deployment.slug, deployment.replica_chips = None, f"d{number}", 2
        deployment.save()
    row_delete(fleet.placement)
    found = race(writers, lambda n: row_save(Placement(deployment_id=kinds[n].pk, host_id=fleet.host.pk, replicas=2)))
    assert found == {"written": 4, "ValidationError": writers - 4}


def test_the_traffic_of_a_service_is_shared_out_once(fleet, writers):
    facts = {"service_id": fleet.service.pk, "site_id": fleet.site.pk, "share_ratio": 0.25}
    assert race(writers, lambda n: row_save(Endpoint(slug=f"e{n}", **facts))) == {
        "written": 2,
        "ValidationError": writers - 2,
    }


def test_of_many_editors_of_one_row_one_wins(fleet, writers):
    def write(number):
        rack = Rack.objects.get(pk=fleet.full.pk)
        rack.height_u, rack.position = 48, number + 1
        row_save(rack, version=1)

    assert race(writers, write) == {"written": 1, "StaleVersionError": writers - 1}
    assert Rack.objects.get(pk=fleet.full.pk).version == 2


def test_of_many_editors_of_many_rows_one_wins_whole(fleet, writers):
    read = list(Host.objects.filter(rack=fleet.full))

    def write(number):
        rows = [Host.objects.get(pk=row.pk) for row in read]
        for row in rows:
            row.version, row.planned_on = 1, DAY + timedelta(days=number)
        rows_write(Host, update=rows if number % 2 else rows[::-1])

    assert race(writers, write) == {"written": 1, "RowsWriteError": writers - 1}
    assert len(set(Host.objects.filter(rack=fleet.full).values_list("planned_on", "version"))) == 1


def test_the_chain_has_no_gap_whoever_writes(fleet, writers):
    """Writers of one row, of many rows, and some that are refused after they have written."""
    before = ChangeSet.objects.count()

    def write(number):
        for turn in range(3):
            row_save(Region(slug=f"r{number}-{turn}", name="x"))
            rows_write(Region, create=[Region(slug=f"b{number}-{turn}-{at}", name="x") for at in range(5)])
            with pytest.raises(RowsWriteError):
                rows_write(Host, create=[host(fleet, f"no{number}-{turn}", rack_id=fleet.full.pk, position_u=2)])

    assert race(writers, write) == {"written": writers}
    found = changes_verify()
    assert (found.sound, found.sets) == (True, before + writers * 6), found.fault
    assert found.changes == Change.objects.count()
    assert_sound([fleet.full.pk])


def test_writers_and_undoers_meet_without_harm(fleet, writers):
    sets = [rows_write(Region, create=[Region(slug=f"u{at}", name="x")]).change_set for at in range(writers)]

    def write(number):
        if number % 2:
            change_set_undo(sets[number], why="no")
        else:
            row_save(host(fleet, f"h{number}", rack_id=fleet.full.pk))

    found = race(writers, write)
    assert found["written"] == writers // 2 + min(3, writers - writers // 2)
    assert_sound([fleet.full.pk])
