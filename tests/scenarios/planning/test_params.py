"""What a migration takes besides: by file, form and API the same, with the same errors."""

import pytest
from django.core.exceptions import ValidationError
from django.core.management import call_command
from django.core.management.base import CommandError

from dashboard.param_fields import LISTS, param_fields, param_initial, param_name, param_values
from scenarios.checks import check_params
from scenarios.models import Scenario
from scenarios.planning.params import PARAMS, MigrationParams, params_table
from scenarios.planning.plain import plain_of, plain_read
from tests.conftest import ROOT

PAGES = {"capacity": "capacity-plan.md", "migration": "plan.md", "outage": "events.md", "event": "events.md"}


@pytest.mark.parametrize("kind", PARAMS)
def test_the_page_lists_every_parameter_with_its_unit_and_default(kind):
    assert params_table(kind) in (ROOT / "docs" / "models" / PAGES[kind]).read_text()


def test_parameters_at_fault_are_named():
    with pytest.raises(ValidationError) as caught:
        check_params("migration", {"waves_most": -1, "floor": [], "floors": [{"ratio": 2, "month": "2027-01"}]})
    assert caught.value.message_dict["params"] == [
        "params.floor: unknown; there are: " + ", ".join(MigrationParams.__dataclass_fields__),
        "params.waves_most: -1 is below 0",
        "params.floors[0].ratio: 2 is above 1",
    ]


def test_a_capacity_scenario_has_no_waves():
    check_params("capacity", {"target_ratio": 0.1})
    with pytest.raises(ValidationError, match=r"params.waves_most: unknown"):
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
    shown = param_initial("migration", stored)
    typed = {name: str(value).lower() if value is False else value for name, value in shown.items()}
    assert param_values("migration", typed) == stored
    assert param_values("capacity", typed) == {}, "fields of another question are not read"
    assert plain_of(plain_read(MigrationParams, stored, place="params"))["floors"][1]["tier"] == "gold"


def test_empty_fields_stand_for_the_defaults():
    assert param_values("migration", dict.fromkeys(param_fields("migration"), "")) == {}


def test_lists_that_are_no_toml_are_refused_at_their_field():
    lists = param_name("migration", LISTS)
    with pytest.raises(ValidationError) as caught:
        param_values("migration", {lists: "[[floors]\nratio = 1"})
    assert set(caught.value.message_dict) == {lists}


def test_every_parameter_but_the_lists_has_a_field_of_its_own():
    lists = {"floors", "offers", "order", "must_leave", "prices", "tariffs"}
    names = set(MigrationParams.__dataclass_fields__) - lists | {LISTS}
    assert set(param_fields("migration")) == {param_name("migration", name) for name in names}


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
