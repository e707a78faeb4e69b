from django.contrib.auth.models import Group
from django.core.management import call_command

from api.roles import ROLES, roles_load
from tests.api.conftest import assert_problem, client_of, user_make


def names(group):
    return {f"{p.content_type.app_label}.{p.codename}" for p in Group.objects.get(name=group).permissions.all()}


def test_a_viewer_sees_everything_and_edits_nothing(roles):
    viewer = names("viewer")
    assert {"fleet.view_host", "scenarios.view_run"} <= viewer
    assert all(".view_" in name for name in viewer)


def test_reading_needs_no_role_and_writing_does(roles, scenario):
    client = client_of(user_make("newcomer"))
    path = f"/api/v1/scenarios/{scenario.pk}/"
    assert client.get(path).status_code == 200
    assert_problem(client.delete(path, headers={"If-Match": "*"}), 403, "permission_missing")


def test_a_planner_edits_plans_but_not_the_floor(roles):
    planner = names("planner")
    assert {"scenarios.add_scenario", "scenarios.change_run", "fleet.delete_delivery"} <= planner
    assert not {"fleet.add_rack", "fleet.delete_host", "auth.add_user", "api.add_token"} & planner


def test_an_operator_edits_the_floor_but_no_plan(roles):
    operator = names("operator")
    assert {"fleet.add_rack", "fleet.delete_host", "fleet.change_powernode", "fleet.add_delivery"} <= operator
    assert not {"scenarios.add_scenario", "fleet.change_service", "fleet.add_region", "auth.add_user"} & operator


def test_an_admin_edits_everything(roles):
    admin = names("admin")
    assert admin > names("planner") | names("operator")
    assert {"fleet.add_region", "auth.add_user", "api.delete_token"} <= admin


def test_loading_again_restores_what_was_changed(roles):
    before = names("planner")
    Group.objects.get(name="planner").permissions.clear()
    call_command("roles_load")
    assert names("planner") == before
    roles_load()
    assert Group.objects.count() == len(ROLES)
