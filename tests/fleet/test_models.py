import math
from datetime import date

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, connection, transaction
from django.db.models import FloatField, ProtectedError

from fleet.models import Delivery, Host, HostType, Rack, Readiness, Service, Site
from fleet.services import row_save
from tests.factories import fleet_rows

pytestmark = pytest.mark.django_db


@pytest.fixture
def rows():
    return fleet_rows()


def test_an_unknown_chip_is_refused_and_a_close_name_offered(rows):
    kind = HostType(slug="x", name="x", chip="ascend-910x", chips=8, height_u=4, power_w=1, idle_w=0, source="test")
    with pytest.raises(ValidationError, match="ascend-910") as caught:
        kind.full_clean()
    assert "chip" in caught.value.message_dict


def test_an_unknown_model_or_profile_is_refused(rows):
    service = rows["service"]
    service.model, service.profile = "qwen9-1t", "nobody"
    with pytest.raises(ValidationError) as caught:
        service.full_clean()
    assert set(caught.value.message_dict) == {"model", "profile"}


@pytest.mark.parametrize(
    ("model", "values"),
    [
        pytest.param(Host, {"in_service_on": date(2027, 2, 1), "out_of_service_on": date(2027, 1, 1)}, id="host ends"),
        pytest.param(Rack, {"power_limit_w": 0}, id="rack without power"),
        pytest.param(Service, {"tpot_s": 0}, id="service without limit"),
        pytest.param(Service, {"growth_low_ratio": 0.5}, id="growth band out of order"),
        pytest.param(HostType, {"chips": 0}, id="host without chips"),
    ],
)
def test_the_database_refuses_what_makes_no_sense(rows, model, values):
    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.filter(pk=model.objects.first().pk).update(**values)


DATED = ("planned_on", "in_service_on", "out_of_service_on")
NEVER, LONG_AGO = date(9999, 12, 31), date(1, 1, 1)
INFINITY, NO_NUMBER = float("inf"), float("nan")
OUT_OF_REACH = [
    *((model, field, day) for model in (Site, Rack, Host) for field in DATED for day in (NEVER, LONG_AGO)),
    *((Delivery, field, day) for field in ("expected_on", "received_on") for day in (NEVER, LONG_AGO)),
    *((Service, "demand_on", day) for day in (NEVER, LONG_AGO)),
    *((Readiness, "ready_on", day) for day in (NEVER, LONG_AGO)),
    (Site, "pue_ratio", 10.5),
    (Rack, "height_u", 1001),
    (Rack, "power_limit_w", 1.1e8),
    (HostType, "height_u", 1001),
    (HostType, "chips", 100_001),
    (HostType, "power_w", 1.1e8),
    (HostType, "idle_w", 1.1e8),
    (Host, "position_u", 1001),
    (Service, "demand_request_s", 1e300),
    (Service, "ttft_s", 1e-300),
    (Service, "tpot_s", 1e300),
    (Delivery, "quantity", 10_000_001),
    (Delivery, "slip_p50_days", 1e-300),
    (Delivery, "slip_p90_days", 3651),
]
FLOATS = [
    (model, field.name)
    for model in (Site, Rack, HostType, Service, Delivery)
    for field in model._meta.get_fields()
    if isinstance(field, FloatField)
]


@pytest.fixture
def row_of(rows):
    """A row of each model that can be saved as it is."""
    delivery = {"site": rows["site"], "host_type": rows["kinds"][0], "quantity": 1, "expected_on": date(2027, 2, 1)}
    Delivery.objects.create(slug="po-1", slip_p50_days=1, slip_p90_days=3000, **delivery)

    def find(model):
        row = model.objects.first()
        row.full_clean()
        return row

    return find


@pytest.mark.parametrize(("model", "field", "value"), OUT_OF_REACH)
def test_a_value_that_no_fleet_has_is_refused_by_the_form_that_names_its_field_and_by_the_database(
    row_of, model, field, value
):
    row = row_of(model)
    setattr(row, field, value)
    with pytest.raises(ValidationError) as caught:
        row.full_clean()
    assert set(caught.value.message_dict) == {field}
    with pytest.raises(IntegrityError), transaction.atomic():
        model.objects.filter(pk=row.pk).update(**{field: value})


@pytest.mark.parametrize("value", [INFINITY, -INFINITY, NO_NUMBER])
@pytest.mark.parametrize(("model", "field"), FLOATS)
def test_what_is_no_finite_number_is_refused_by_the_form_and_by_the_database(row_of, model, field, value):
    row = row_of(model)
    setattr(row, field, value)
    with pytest.raises(ValidationError, match="not a number to count with") as caught:
        row.full_clean()
    assert field in caught.value.message_dict
    rows = model.objects.filter(pk=row.pk)
    if math.isnan(value) and model._meta.get_field(field).null and connection.vendor == "sqlite":
        rows.update(**{field: value})  # SQLite keeps no NaN: the value is unknown then, which is what it says
        assert rows.values_list(field, flat=True).get() is None
        return
    with pytest.raises(IntegrityError), transaction.atomic():
        rows.update(**{field: value})


def test_the_ends_of_every_range_are_taken(row_of):
    site, host, delivery = row_of(Site), row_of(Host), row_of(Delivery)
    site.in_service_on, site.pue_ratio, host.out_of_service_on = date(2000, 1, 1), 10, date(2100, 1, 1)
    row_save(site)
    row_save(host)
    delivery.slip_p50_days, delivery.quantity, delivery.expected_on = 0.01, 10_000_000, date(2100, 1, 1)
    row_save(delivery)


def test_a_delivery_cannot_slip_backwards(rows):
    with pytest.raises(IntegrityError), transaction.atomic():
        Delivery.objects.create(
            slug="po-1",
            site=rows["site"],
            host_type=rows["kinds"][0],
            quantity=1,
            expected_on=date(2027, 2, 1),
            slip_p50_days=10,
            slip_p90_days=5,
        )


def test_a_place_that_holds_something_cannot_be_deleted(rows):
    for thing in (rows["region"], rows["site"], rows["racks"][0], rows["kinds"][0]):
        with pytest.raises(ProtectedError):
            thing.delete()
