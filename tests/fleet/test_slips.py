"""How late deliveries come."""

from datetime import date

import pytest

from fleet.slips import slip_band, slip_days
from tests.factories import START, delivery_fact

DAY = date(2027, 3, 1)


def test_the_far_end_of_the_widest_slip_is_a_day_to_count_with():
    assert START.toordinal() + slip_days(delivery_fact(slip=(0.01, 3650.0)), 8.0) < 2**63
    assert slip_days(delivery_fact(slip=(0.01, 3650.0)), 1.2815515655446004) == pytest.approx(3650)


def test_a_delivery_that_is_usually_on_time_slips_only_in_its_late_half():
    delivery = delivery_fact(slip=(0.0, 20.0))
    assert [round(slip_days(delivery, z), 6) for z in (-1.0, 0.0, 1.2815515655446004)] == [0.0, 0.0, 20.0]


def test_a_band_of_days_ends_with_the_calendar():
    band = slip_band(delivery_fact(expected_on=DAY, slip=(20.0, 40.0)), date(2027, 4, 1))
    assert band == (date(2027, 3, 11), date(2027, 3, 21), date(2027, 4, 1))
    assert slip_band(delivery_fact(expected_on=DAY), date(2027, 4, 1)) == (DAY, DAY, DAY)
