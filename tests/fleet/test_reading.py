from concurrent.futures import ThreadPoolExecutor
from datetime import date

import pytest
from django.db import connection, transaction

from fleet.models import Delivery, Host, HostType, Region
from fleet.reading import one_view
from fleet.selectors import snapshot_take
from tests.factories import START, fleet_rows


def elsewhere(work):
    """Do something over another connection, as another process would."""

    def run():
        try:
            work()
        finally:
            connection.close()

    with ThreadPoolExecutor(1) as pool:
        pool.submit(run).result(30)


def between_queries(work):
    """Return a wrapper of queries that works elsewhere once, when the first of them has been answered."""
    waiting = [work]

    def wrap(execute, sql, params, many, context):
        answer = execute(sql, params, many, context)
        if sql.startswith("SELECT") and waiting:
            elsewhere(waiting.pop())
        return answer

    return wrap


@pytest.mark.django_db(transaction=True)
def test_a_fleet_that_changes_while_it_is_read_is_read_as_it_was():
    rows = fleet_rows(hosts=4)
    before = snapshot_take(START)
    rack, site = rows["racks"][0], rows["site"]

    def edit():
        kind = HostType.objects.get(slug="ppu-16x")
        kind.pk, kind.slug = None, "ppu-32x"
        kind.save()
        Host.objects.create(slug="new", host_type=kind, rack=rack)
        Delivery.objects.create(slug="po-1", site=site, host_type=kind, quantity=1, expected_on=date(2027, 2, 1))

    with connection.execute_wrapper(between_queries(edit)):
        during = snapshot_take(START)
    assert during.digest == before.digest
    assert len(snapshot_take(START).host_rack) == 5


@pytest.mark.django_db(transaction=True)
def test_a_view_ends_when_its_reader_fails_and_the_next_write_is_kept():
    with pytest.raises(Region.DoesNotExist), one_view():
        Region.objects.get(slug="north")
    Region.objects.create(slug="north", name="North")
    elsewhere(lambda: Region.objects.get(slug="north"))


@pytest.mark.django_db(transaction=True)
def test_inside_a_transaction_its_own_writes_are_seen_and_kept():
    with transaction.atomic():
        fleet_rows(hosts=3)
        assert len(snapshot_take(START).host_rack) == 3
    assert Host.objects.count() == 3
