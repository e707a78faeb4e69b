"""Demand events and overrides: rules of their rows, and their place in a snapshot."""

from datetime import date

import pytest
from django.core.exceptions import ValidationError

from fleet.models import DemandEvent, DemandOverride
from fleet.selectors import snapshot_take
from fleet.services import row_save
from tests.factories import START, fleet_rows

EVENT = {
    "slug": "e-1",
    "starts_on": date(2027, 3, 1),
    "ends_on": date(2027, 3, 8),
    "multiplier_low_ratio": 1.1,
    "multiplier_ratio": 1.3,
    "multiplier_high_ratio": 1.8,
    "reason": "a launch",
}
OVERRIDE = {
    "slug": "o-1",
    "first_on": date(2027, 3, 1),
    "last_on": date(2027, 5, 1),
    "p10_request_s": 18,
    "p50_request_s": 22,
    "p90_request_s": 30,
    "author": "Li",
    "reason": "a contract",
}


@pytest.fixture
def service(db):
    return fleet_rows()["service"]


@pytest.mark.parametrize(
    ("model", "values", "change"),
    [
        (DemandEvent, EVENT, {"ends_on": date(2027, 3, 1)}),
        (DemandEvent, EVENT, {"multiplier_low_ratio": 1.4}),
        (DemandEvent, EVENT, {"multiplier_high_ratio": 101}),
        (DemandEvent, EVENT, {"reason": ""}),
        (DemandOverride, OVERRIDE, {"last_on": date(2027, 2, 28)}),
        (DemandOverride, OVERRIDE, {"p10_request_s": 23}),
        (DemandOverride, OVERRIDE, {"p90_request_s": float("inf")}),
        (DemandOverride, OVERRIDE, {"author": ""}),
        (DemandOverride, OVERRIDE, {"reason": ""}),
    ],
)
def test_what_makes_no_sense_is_refused(service, model, values, change):
    with pytest.raises(ValidationError):
        model(service=service, **{**values, **change}).full_clean()
    model(service=service, **values).full_clean()


def test_a_snapshot_carries_them_and_its_digest_changes_with_them(service):
    digests = [snapshot_take(START).digest]
    event = row_save(DemandEvent(service=service, **EVENT))
    digests.append(snapshot_take(START).digest)
    override = row_save(DemandOverride(service=service, **OVERRIDE))
    digests.append(snapshot_take(START).digest)
    override.p90_request_s = 31
    row_save(override)
    fleet = snapshot_take(START)
    assert len({*digests, fleet.digest}) == 4
    assert [(fact.slug, fact.service, fact.multiplier_ratio) for fact in fleet.demand_events] == [("e-1", "chat", 1.3)]
    assert [(fact.author, fact.p90_request_s) for fact in fleet.demand_overrides] == [("Li", 31)]
    assert event.version == 1


def test_what_is_over_is_not_in_a_snapshot(service):
    row_save(DemandEvent(service=service, **EVENT))
    row_save(DemandOverride(service=service, **OVERRIDE))
    for day, counts in ((date(2027, 3, 7), (1, 1)), (date(2027, 3, 8), (0, 1)), (date(2027, 5, 31), (0, 1))):
        fleet = snapshot_take(day)
        assert (len(fleet.demand_events), len(fleet.demand_overrides)) == counts, day
    assert not snapshot_take(date(2027, 6, 1)).demand_overrides
