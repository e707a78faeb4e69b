from datetime import date

import pytest
from django.core.exceptions import ValidationError
from django.db import IntegrityError, transaction
from django.db.models import ProtectedError

from fleet.models import Delivery, Host, HostType, Rack, Service
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
