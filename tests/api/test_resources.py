import threading

import pytest
from django.db import connection

from fleet.models import Delivery, Service
from scenarios.models import Scenario
from tests.api.conftest import SCENARIO, assert_problem, client_of, user_make

SERVICE = {
    "slug": "new-chat",
    "name": "New chat",
    "region": "north",
    "model": "qwen3-32b",
    "profile": "azure-conv",
    "ttft_s": 2.0,
    "tpot_s": 0.05,
    "demand_on": "2027-01-01",
    "demand_request_s": 10,
    "growth_ratio": 0.05,
    "growth_low_ratio": 0.02,
    "growth_high_ratio": 0.08,
}


def test_a_scenario_is_made_read_edited_and_deleted(client):
    made = client.post("/api/v1/scenarios/", SCENARIO)
    assert made.status_code == 201, made.content
    assert made["ETag"] == '"1"'
    url = made["Location"]
    shown = client.get(url)
    assert shown.json() == made.json()
    assert shown.json()["owner"] == "planner"
    edited = client.patch(url, {"draws": 13}, headers={"If-Match": shown["ETag"]})
    assert (edited.status_code, edited["ETag"], edited.json()["draws"]) == (200, '"2"', 13)
    assert client.delete(url, headers={"If-Match": '"2"'}).status_code == 204
    assert_problem(client.get(url), 404)


@pytest.mark.parametrize("field", ["id", "url", "display", "owner", "is_demo", "version", "created_at", "updated_at"])
def test_a_field_that_cannot_be_written_is_400_even_with_its_present_value(client, field):
    made = client.post("/api/v1/scenarios/", SCENARIO).json()
    edited = client.patch(made["url"], {"name": "x", field: made[field]}, headers={"If-Match": '"1"'})
    added = client.post("/api/v1/scenarios/", {**SCENARIO, field: made[field]})
    for response in (edited, added):
        (place,) = assert_problem(response, 400, "invalid")["errors"]
        assert (place["field"], place["message"]) == (field, "Cannot be written.")
    assert Scenario.objects.get().name == SCENARIO["name"]


def test_an_edit_of_a_scenario_or_schedule_needs_if_match(client, schedule):
    for prefix, pk in (("schedules", schedule.pk), ("scenarios", schedule.scenario_id)):
        path = f"/api/v1/{prefix}/{pk}/"
        assert_problem(client.patch(path, {"name": "x"}), 428, "if_match_required")
        assert_problem(client.delete(path), 428, "if_match_required")
        assert_problem(client.patch(path, {"name": "x"}, headers={"If-Match": '"9"'}), 412, "stale_version")
        assert client.patch(path, {"name": "x"}, headers={"If-Match": "*"}).status_code == 200


def test_an_unchanged_row_is_304(client, scenario):
    path = f"/api/v1/scenarios/{scenario.pk}/"
    etag = client.get(path)["ETag"]
    again = client.get(path, headers={"If-None-Match": f'"7", {etag}'})
    assert (again.status_code, again.content, again["ETag"]) == (304, b"", etag)
    client.patch(path, {"draws": 13}, headers={"If-Match": etag})
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 200


def test_a_part_of_a_row_has_an_etag_of_its_own_that_still_names_the_version(client, scenario):
    path = f"/api/v1/scenarios/{scenario.pk}/"
    queries = ("", "?brief=1", "?fields=name", "?fields=name,draws")
    etags = [client.get(f"{path}{query}")["ETag"] for query in queries]
    assert len(set(etags)) == len(queries)
    for query, own in zip(queries, etags, strict=True):
        for etag in etags:
            answer = client.get(f"{path}{query}", headers={"If-None-Match": etag})
            assert answer.status_code == (304 if etag == own else 200)
    assert_problem(client.get(f"{path}?fields=nmae", headers={"If-None-Match": "*"}), 400)
    assert client.patch(path, {"draws": 13}, headers={"If-Match": etags[1]}).status_code == 200
    assert_problem(client.patch(path, {"draws": 14}, headers={"If-Match": etags[1]}), 412)


def test_a_version_that_only_begins_alike_is_stale(client, scenario):
    path = f"/api/v1/scenarios/{scenario.pk}/"
    Scenario.objects.update(version=1)
    for tag in ('"12"', '"1', "1", '"12-1"'):
        assert_problem(client.patch(path, {"draws": 13}, headers={"If-Match": tag}), 412)


def test_a_schedule_is_never_304_for_its_next_times_go_on(client, schedule):
    path = f"/api/v1/schedules/{schedule.pk}/"
    etag = client.get(path)["ETag"]
    assert client.get(path, headers={"If-None-Match": etag}).status_code == 200
    assert client.patch(path, {"name": "x"}, headers={"If-Match": etag}).status_code == 200


def test_a_scenario_with_runs_cannot_be_deleted(client, run):
    path = f"/api/v1/scenarios/{run.scenario_id}/"
    body = assert_problem(client.delete(path, headers={"If-Match": "*"}), 409, "protected")
    assert "runs" in body["detail"]
    assert client.get(path)["ETag"] == '"1"', "a refused delete leaves the version alone"


@pytest.mark.django_db(transaction=True)
def test_of_many_editors_at_once_one_wins(planner, scenario):
    path, answers, clients = f"/api/v1/scenarios/{scenario.pk}/", [], [client_of(planner) for _ in range(12)]
    gate = threading.Barrier(len(clients))

    def edit(client, number):
        gate.wait()
        answers.append(client.patch(path, {"draws": number + 13}, headers={"If-Match": '"1"'}).status_code)
        connection.close()

    threads = [threading.Thread(target=edit, args=(client, at)) for at, client in enumerate(clients)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [200] + [412] * 11
    assert Scenario.objects.get().version == 2


def test_a_service_is_made_with_its_region_by_slug_or_id(client, fleet):
    made = client.post("/api/v1/services/", SERVICE)
    assert made.status_code == 201, made.content
    region = made.json()["region"]
    assert region["slug"] == "north"
    edited = client.patch(made["Location"], {"region": region["id"], "note": "by id"})
    assert (edited.status_code, edited["ETag"]) == (200, '"2"')
    assert_problem(client.patch(made["Location"], {"note": "x"}, headers={"If-Match": '"1"'}), 412)
    assert client.delete(made["Location"]).status_code == 204


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("model", "qwen3-32", "did you mean"),
        ("profile", "azure", "azure-conv"),
        ("region", "atlantis", "atlantis"),
        ("region", True, "slug or the id"),
        ("ttft_s", "soon", "number"),
        ("ttft_s", -1, ""),
        ("growth_low_ratio", 0.9, ""),
        ("slug", "chat", "already exists"),
        ("slug", "not a slug", "slug"),
    ],
)
def test_a_service_with_a_fault_is_400_and_nothing_is_stored(client, fleet, field, value, words):
    before = Service.objects.count()
    body = assert_problem(client.post("/api/v1/services/", {**SERVICE, field: value}), 400)
    assert words in body["detail"]
    assert Service.objects.count() == before


@pytest.mark.parametrize(
    ("prefix", "body"),
    [
        (
            "host-types",
            {"slug": "x-8x", "name": "X", "chips": 8, "height_u": 6, "power_w": 1, "idle_w": 0, "source": "s"},
        ),
        ("readiness", {"service": "chat", "ready_on": "2027-01-01"}),
    ],
)
def test_an_unknown_chip_is_400_with_the_closest_names(client, fleet, prefix, body):
    found = assert_problem(client.post(f"/api/v1/{prefix}/", {**body, "chip": "h20-9"}), 400)
    assert found["errors"][0]["field"] == "chip"
    assert "h20-96" in found["detail"]
    assert client.post(f"/api/v1/{prefix}/", {**body, "chip": "h20-96"}).status_code == 201


def test_a_delivery_is_made_for_a_site(client, fleet):
    body = {"slug": "po-99", "site": "dc01", "host_type": "ppu-16x", "quantity": 4, "expected_on": "2027-05-01"}
    made = client.post("/api/v1/deliveries/", body)
    assert made.status_code == 201, made.content
    assert made.json()["display"] == "4 x ppu-16x for dc01 on 2027-05-01"
    assert_problem(client.post("/api/v1/deliveries/", {**body, "slug": "po-98", "quantity": 0}), 400)
    assert_problem(client.post("/api/v1/deliveries/", {**body, "slug": "po-97", "fill_ratio": 1.5}), 400)
    assert not Delivery.objects.filter(slug__in=["po-98", "po-97"]).exists()


def test_a_host_type_in_use_cannot_be_deleted(client, fleet):
    row = client.get("/api/v1/host-types/?slug=ppu-16x").json()["results"][0]
    assert_problem(client.delete(row["url"]), 409, "protected")


def test_the_floor_is_edited_by_operators_and_not_by_planners(client, fleet):
    row = client.get("/api/v1/racks/?limit=1").json()["results"][0]
    assert_problem(client.patch(row["url"], {"height_u": 60}), 403, "permission_missing")
    operator = client_of(user_make("operator", "operator"))
    assert operator.patch(row["url"], {"height_u": 60}).json()["height_u"] == 60
    assert_problem(operator.patch("/api/v1/racks/", [{"id": row["id"], "height_u": 0}]), 400)


def test_times_are_utc_and_answers_are_private(client, scenario):
    response = client.get(f"/api/v1/scenarios/{scenario.pk}/")
    assert response.json()["created_at"].endswith("Z")
    assert response["Cache-Control"] == "private, no-cache"
    assert response.json()["url"].startswith("http://testserver/api/v1/scenarios/")
