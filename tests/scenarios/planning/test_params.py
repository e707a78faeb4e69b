"""What a migration takes besides: by file, form and API the same, with the same errors."""

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import CommandError

from dashboard.param_fields import LISTS, PREFIX, param_fields, param_initial, param_values
from scenarios.checks import check_params
from scenarios.models import Scenario
from scenarios.planning.params import MigrationParams, params_table
from scenarios.planning.plain import plain_of, plain_read
from tests.conftest import ROOT


def test_the_page_lists_every_parameter_with_its_unit_and_default():
    assert params_table() in (ROOT / "docs" / "models" / "plan.md").read_text()


def test_parameters_at_fault_are_named():
    with pytest.raises(ValidationError) as caught:
        check_params("migration", {"waves_most": -1, "floor": [], "floors": [{"ratio": 2, "month": "2027-01"}]})
    assert caught.value.message_dict["params"] == [
        "params.floor: unknown; there are: " + ", ".join(MigrationParams.__dataclass_fields__),
        "params.waves_most: -1 is below 0",
        "params.floors[0].ratio: 2 is above 1",
    ]


def test_a_capacity_scenario_takes_none():
    check_params("capacity", {})
    with pytest.raises(ValidationError, match="a capacity scenario takes none"):
        check_params("capacity", {"waves_most": 3})


def test_a_form_shows_what_is_stored_and_stores_what_it_shows():
    stored = {
        "waves_most": 2,
        "unserved_penalty_per_mtok": None,
        "split": False,
        "objective": "share_first",
        "floors": [{"ratio": 0.5, "month": "2027-06"}, {"ratio": 0.8, "month": "2028-01", "tier": "gold"}],
        "prices": [{"kind": 'a "quoted" one', "price": 1e6}],
    }
    shown = param_initial(stored)
    assert (
        param_values({name: str(value).lower() if value is False else value for name, value in shown.items()}) == stored
    )
    assert plain_of(plain_read(MigrationParams, stored, place="params"))["floors"][1]["tier"] == "gold"


def test_empty_fields_stand_for_the_defaults():
    assert param_values(dict.fromkeys(param_fields(), "")) == {}


def test_lists_that_are_no_toml_are_refused_at_their_field():
    with pytest.raises(ValidationError) as caught:
        param_values({LISTS: "[[floors]\nratio = 1"})
    assert set(caught.value.message_dict) == {LISTS}


def test_every_parameter_but_the_lists_has_a_field_of_its_own():
    lists = {"floors", "offers", "order", "must_leave", "prices", "tariffs"}
    names = {name.removeprefix(PREFIX) for name in param_fields()} - {LISTS.removeprefix(PREFIX)}
    assert names == set(MigrationParams.__dataclass_fields__) - lists


@pytest.mark.django_db
def test_the_command_refuses_a_file_with_a_parameter_at_fault(tmp_path):
    path = tmp_path / "params.toml"
    path.write_text("[[floors]]\nratio = 3.0\nmonth = '2027-01'\n")
    with pytest.raises(CommandError, match=r"params.floors\[0\].ratio: 3 is above 1"):
        call_command("run_scenario", "migration", params=path)
    assert not Scenario.objects.exists()


@pytest.mark.django_db
@pytest.mark.parametrize("text", ["{", "[1]"])
def test_the_command_refuses_a_file_that_is_no_object(tmp_path, text):
    path = tmp_path / "params.json"
    path.write_text(text)
    with pytest.raises(CommandError, match=r"params.json"):
        call_command("run_scenario", "migration", params=path)
