import threading
import uuid
from datetime import timedelta

import pytest
from django.db import connection
from django.utils import timezone

from api import views
from api.idempotency import keys_purge
from api.models import IdempotencyKey
from api.tasks import purge
from scenarios.models import Run, Scenario
from tests.api.conftest import SCENARIO, TRACE, assert_problem, client_of, upload

KEY = {"Idempotency-Key": "one"}


def test_the_same_key_and_body_get_the_first_answer_again(client):
    first = client.post("/api/v1/scenarios/", SCENARIO, headers=KEY)
    again = client.post("/api/v1/scenarios/", dict(reversed(SCENARIO.items())), headers=KEY)
    assert (again.status_code, again.json()) == (201, first.json())
    assert (again["Location"], again["ETag"]) == (first["Location"], first["ETag"])
    assert again["Idempotency-Replayed"] == "true"
    assert "Idempotency-Replayed" not in first
    assert Scenario.objects.count() == 1


def test_another_body_or_address_under_the_same_key_is_422(client, scenario):
    client.post("/api/v1/scenarios/", SCENARIO, headers=KEY)
    other = {**SCENARIO, "name": "another"}
    assert_problem(client.post("/api/v1/scenarios/", other, headers=KEY), 422, "idempotency_key_reused")
    assert_problem(client.post(f"/api/v1/scenarios/{scenario.pk}/runs/", headers=KEY), 422)


def test_keys_of_two_users_do_not_meet(client, planner, roles):
    from tests.api.conftest import user_make

    other = client_of(user_make("other", "planner"))
    assert client.post("/api/v1/scenarios/", SCENARIO, headers=KEY).status_code == 201
    assert other.post("/api/v1/scenarios/", SCENARIO, headers=KEY).json()["owner"] == "other"


def test_a_refused_request_leaves_its_key_free(client):
    assert_problem(client.post("/api/v1/scenarios/", {**SCENARIO, "draws": 0}, headers=KEY), 400)
    assert client.post("/api/v1/scenarios/", SCENARIO, headers=KEY).status_code == 201


def test_a_run_is_started_once(client, scenario):
    path = f"/api/v1/scenarios/{scenario.pk}/runs/"
    first, again = client.post(path, headers=KEY), client.post(path, headers=KEY)
    assert (first.status_code, again.status_code) == (202, 202)
    assert first.json()["id"] == again.json()["id"]
    assert again["Retry-After"] == "1"
    assert Run.objects.count() == 1


def test_an_upload_is_recognised_whatever_its_boundary(client):
    first = client.post("/api/v1/traces/", upload(TRACE), format="multipart", headers=KEY)
    again = client.post("/api/v1/traces/", upload(TRACE), format="multipart", headers=KEY)
    assert (first.status_code, again.json()) == (201, first.json()), first.content
    other = client.post("/api/v1/traces/", upload(TRACE + b"1.0,5,5\n"), format="multipart", headers=KEY)
    assert_problem(other, 422)


def test_an_upload_that_was_refused_frees_its_key_and_a_known_one_is_replayed_as_known(client):
    broken = client.post("/api/v1/traces/", upload(b"no trace"), format="multipart", headers=KEY)
    assert_problem(broken, 400)
    client.post("/api/v1/traces/", upload(TRACE), format="multipart")
    known, again = (client.post("/api/v1/traces/", upload(TRACE), format="multipart", headers=KEY) for _ in range(2))
    assert [(answer.status_code, answer["Trace-Known"]) for answer in (known, again)] == [(200, "true")] * 2
    assert again["Idempotency-Replayed"] == "true"


def test_a_request_that_is_still_being_answered_is_409(client, planner, monkeypatch):
    answers = []
    made = views.ScenarioView.made_with

    def slow(view):
        answers.append(client.post("/api/v1/scenarios/", SCENARIO, headers=KEY))
        return made(view)

    monkeypatch.setattr(views.ScenarioView, "made_with", slow)
    assert client.post("/api/v1/scenarios/", SCENARIO, headers=KEY).status_code == 201
    assert_problem(answers[0], 409, "idempotency_key_busy")
    assert answers[0]["Retry-After"] == "1"


def lost_key(planner, client, *, age_s):
    """Leave the key of an attempt that crashed some time ago."""
    client.post("/api/v1/scenarios/", SCENARIO, headers=KEY)
    Scenario.objects.all().delete()
    then = timezone.now() - timedelta(seconds=age_s)
    IdempotencyKey.objects.update(status=None, body=None, claim=uuid.uuid4(), claimed_at=then)


def test_after_a_crash_a_later_attempt_takes_over(client, planner):
    lost_key(planner, client, age_s=61)
    assert client.post("/api/v1/scenarios/", SCENARIO, headers=KEY).status_code == 201
    assert client.post("/api/v1/scenarios/", SCENARIO, headers=KEY)["Idempotency-Replayed"] == "true"
    assert Scenario.objects.count() == 1


def test_an_attempt_that_lost_its_key_undoes_its_work(client, monkeypatch):
    made = views.ScenarioView.made_with

    def overtaken(view):
        IdempotencyKey.objects.update(claim=uuid.uuid4())
        return made(view)

    monkeypatch.setattr(views.ScenarioView, "made_with", overtaken)
    assert_problem(client.post("/api/v1/scenarios/", SCENARIO, headers=KEY), 409, "idempotency_key_busy")
    assert Scenario.objects.count() == 0


def test_an_answer_is_forgotten_after_a_day(client):
    client.post("/api/v1/scenarios/", SCENARIO, headers=KEY)
    assert keys_purge() == 0
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    assert client.post("/api/v1/scenarios/", SCENARIO, headers=KEY).status_code == 201
    assert Scenario.objects.count() == 2
    IdempotencyKey.objects.update(created_at=timezone.now() - timedelta(hours=25))
    purge()
    assert not IdempotencyKey.objects.exists()


@pytest.mark.parametrize("key", ["", "x" * 201, "a\tb", "é"])
def test_a_key_that_is_no_plain_text_is_400(client, key):
    assert_problem(client.post("/api/v1/scenarios/", SCENARIO, headers={"Idempotency-Key": key}), 400)


@pytest.mark.django_db(transaction=True)
def test_of_many_at_once_one_makes_the_object(planner):
    clients, answers = [client_of(planner) for _ in range(12)], []
    gate = threading.Barrier(len(clients))

    def send(client):
        gate.wait()
        answers.append(client.post("/api/v1/scenarios/", SCENARIO, headers=KEY))
        connection.close()

    threads = [threading.Thread(target=send, args=(client,)) for client in clients]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Scenario.objects.count() == 1
    assert {answer.status_code for answer in answers} <= {201, 409}
    assert {answer.json()["id"] for answer in answers if answer.status_code == 201} == {Scenario.objects.get().pk}
