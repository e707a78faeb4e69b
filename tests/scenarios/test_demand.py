from datetime import date

import numpy as np
import pytest

from scenarios.demand import demand_request_s, growth_at, month_add, month_label, months_between, months_list
from tests.factories import service_fact


def test_months_are_counted_across_years():
    assert month_add(date(2026, 11, 23), 3) == date(2027, 2, 1)
    assert months_between(date(2026, 11, 30), date(2027, 2, 1)) == 3
    assert [month_label(day) for day in months_list(date(2026, 11, 23), date(2027, 1, 2))] == [
        "2026-11",
        "2026-12",
        "2027-01",
    ]


@pytest.mark.parametrize(("z", "expected"), [(-1.2815515655446004, 0.01), (0.0, 0.04), (1.2815515655446004, 0.10)])
def test_growth_passes_through_its_band(z, expected):
    assert growth_at(mid=0.04, low=0.01, high=0.10, z=z) == pytest.approx(expected)


def test_growth_never_takes_more_than_all():
    assert growth_at(mid=-0.5, low=-0.9, high=0.0, z=-4.0) == -0.99


def test_demand_compounds_from_its_own_month_and_holds_before_it():
    service = service_fact(demand_request_s=100.0, demand_on=date(2027, 2, 10))
    months = months_list(date(2027, 1, 1), date(2027, 4, 1))
    np.testing.assert_allclose(demand_request_s(service, months, growth_ratio=0.1), [100, 100, 110, 121])
