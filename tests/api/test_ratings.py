import pytest

from scenarios import rating_store
from scenarios.models import RatingBatch, StoredRating
from scenarios.rating_store import rating_get_or_compute
from scenarios.tasks import ratings_execute
from tests.api.conftest import assert_problem, client_of
from tests.factories import fleet_rows
from tests.scenarios.rating_questions import FAST, LIMITS, OTHER, REFUSED, question

QUERY, LIST, EXCHANGE = "/api/v1/ratings/query/", "/api/v1/ratings/", "/api/v1/exchange-ratios/"
ASKED = {"from": "h20-96", "to": ["l4"], "model": "qwen3-0.6b", **LIMITS}


@pytest.fixture
def stored(db):
    return [rating_get_or_compute(question(**values)) for values in (FAST, OTHER, REFUSED)]


# --- the list ---
def test_ratings_are_listed_with_band_latencies_and_what_binds(client, stored):
    page = client.get(LIST).json()
    assert page["count"] == 3
    refused, _, fast = page["results"]
    assert fast["display"] == "qwen3-0.6b on h20-96 for m-small"
    assert fast["rating"]["tok_s"]["p10"] < fast["rating"]["tok_s"]["p50"] < fast["rating"]["tok_s"]["p90"]
    assert fast["rating"]["tok_s_per_chip"] == stored[0].tok_s_per_chip
    assert fast["rating"]["ttft_s"] <= fast["ttft_p95_s"]
    assert fast["binds"]
    assert fast["is_current"] is True
    assert fast["prefill"]["tok_s"]["p50"] > 0
    assert "does not fit" in refused["refusal"]
    assert refused["decode"]["tok_s"] is None
    assert client.get(fast["url"]).json() == fast


def test_ratings_are_filtered_ordered_shaped_and_paged(client, stored):
    def chips(query):
        return [row["chip"] for row in client.get(f"{LIST}?{query}").json()["results"]]

    assert chips("chip=h20-96") == ["h20-96"]
    assert chips("model=qwen3-0.6b&mix=m-small&ordering=-tok_s_per_chip") == ["h20-96", "l4"]
    assert chips("mix=m-large") == []
    assert chips("q=deepseek") == ["a10"]
    assert chips("limit=1&offset=1") == ["l4"]
    brief = client.get(f"{LIST}?brief=1").json()["results"][0]
    assert set(brief) == {"id", "url", "display"}
    assert client.get(f"{LIST}?fields=chip,rating").json()["results"][0].keys() == {"chip", "rating"}


@pytest.mark.parametrize("query", ["chipp=h20-96", "ttft_p95_s=soon", "fields=payload", "ordering=payload"])
def test_an_unknown_or_ill_typed_parameter_is_400(client, stored, query):
    assert_problem(client.get(f"{LIST}?{query}"), 400, "invalid")


def test_ratings_cannot_be_written(client, stored):
    assert_problem(client.post(LIST, FAST), 405)
    path = f"{LIST}{stored[0].pk}/"
    for method in ("patch", "put", "delete"):
        assert_problem(getattr(client, method)(path, {}), 405)


def test_the_cost_of_the_list_does_not_grow_with_its_rows(client, stored, django_assert_max_num_queries):
    client.get(LIST)
    with django_assert_max_num_queries(4):  # who asks, how many, which
        client.get(f"{LIST}?limit=1")
    with django_assert_max_num_queries(4):
        client.get(LIST)


# --- one question ---
def test_a_rating_is_computed_at_once_and_then_looked_up(client, db, monkeypatch):
    first = client.post(QUERY, FAST)
    assert first.status_code == 200, first.content
    assert first.json()["rating"]["tok_s"]["p50"] > 0
    monkeypatch.setattr(rating_store, "goodput_search", None)
    again = client.post(QUERY, FAST)
    assert again.json() == first.json()
    assert client.get(first.json()["url"]).json() == first.json()
    assert StoredRating.objects.count() == 1


def test_a_refusal_is_an_answer(client, db):
    answer = client.post(QUERY, REFUSED)
    assert answer.status_code == 200
    assert "does not fit" in answer.json()["refusal"]
    assert answer.json()["rating"]["tok_s"] == {"p10": 0, "p50": 0, "p90": 0}


def test_a_host_of_other_chips_is_another_question(client, db):
    usual, small = (client.post(QUERY, {**FAST, **more}).json() for more in ({}, {"host_chips": 2}))
    assert (usual["host_chips"], small["host_chips"]) == (8, 2)
    assert usual["digest"] != small["digest"]
    assert client.post(QUERY, {**FAST, "host_chips": None}).json()["id"] == usual["id"]


@pytest.mark.parametrize(
    ("field", "value", "words"),
    [
        ("chip", "h20-9", "did you mean"),
        ("model", "qwen3-0.7b", "qwen3-0.6b"),
        ("mix", "m-smal", "did you mean m-small"),
        ("ttft_p95_s", 0, "greater than or equal to"),
        ("tpot_p95_s", "soon", "number"),
        ("host_chips", 0, "greater than or equal to"),
        ("colour", "red", "Unknown field"),
    ],
)
def test_what_makes_no_sense_is_400_and_nothing_is_stored(client, db, field, value, words):
    body = assert_problem(client.post(QUERY, {**FAST, field: value}), 400, "invalid")
    assert body["errors"][0]["field"] == field
    assert words in body["errors"][0]["message"]
    assert not StoredRating.objects.exists()


# --- exchange ratios ---
def test_exchange_ratios_come_with_bands_hosts_configs_and_what_binds(client, stored):
    answer = client.get(EXCHANGE, {**ASKED, "to": ["l4", "h20-96"]})
    assert answer.status_code == 200, answer.content
    body = answer.json()
    l4, itself = body["rows"]
    for phase in ("prefill", "decode", "service"):
        assert l4[phase]["p10"] < l4[phase]["p50"] < l4[phase]["p90"]
        assert itself[phase]["p50"] == pytest.approx(1)
        assert body["start"][phase]["config"]
    assert (l4["to"]["chip"], l4["to"]["host_chips"], l4["refusal"]) == ("l4", 8, "")
    assert l4["to"]["binds"] == stored[1].binds
    assert (body["start"]["chip"], body["mix"], body["ttft_p95_s"]) == ("h20-96", "m-small", 5.0)


def test_a_chip_that_cannot_serve_has_no_ratio(client, db):
    (row,) = client.get(EXCHANGE, {**ASKED, "model": "deepseek-r1", "to": "a10"}).json()["rows"]
    assert (row["prefill"], row["decode"], row["service"]) == (None, None, None)
    assert "a10: " in row["refusal"]


def test_ratios_of_what_is_stored_are_looked_up(client, stored, monkeypatch):
    monkeypatch.setattr(rating_store, "goodput_search", None)
    assert client.get(EXCHANGE, ASKED).status_code == 200


@pytest.mark.parametrize(
    ("changed", "field"),
    [
        ({"from": None}, "from"),
        ({"to": []}, "to"),
        ({"to": ["l4"] * 13}, "to"),
        ({"to": ["l4", "l5"]}, "to"),
        ({"from": "h21"}, "from"),
        ({"from": ["h20-96", "l4"]}, "from"),
        ({"model": "nothing"}, "model"),
        ({"ttft_p95_s": "nan"}, "ttft_p95_s"),
        ({"tpot_p95_s": "-1"}, "tpot_p95_s"),
        ({"chip": "l4"}, "chip"),
    ],
)
def test_an_exchange_that_makes_no_sense_is_400_and_names_the_parameter(client, db, changed, field):
    values = {name: value for name, value in {**ASKED, **changed}.items() if value is not None}
    body = assert_problem(client.get(EXCHANGE, values), 400, "invalid")
    assert body["errors"][0]["field"].startswith(field)
    assert not StoredRating.objects.exists()


def test_reading_is_enough_for_questions_and_a_token_without_it_gets_403(planner, stored):
    reader, writer = client_of(planner, "read"), client_of(planner, "write")
    assert reader.post(QUERY, FAST).status_code == 200
    assert reader.get(EXCHANGE, ASKED).status_code == 200
    for answer in (writer.post(QUERY, FAST), writer.get(EXCHANGE, ASKED), writer.get(LIST)):
        assert_problem(answer, 403, "scope_missing")


# --- what an answer waits for ---
def test_the_job_behind_a_capacity_answer_is_linked_and_ends_with_every_pair_rated(client, db):
    fleet_rows()
    asked = {"as_of": "2027-01-01", "unit": {"host_type": "h20-8x"}, "service": "chat"}
    before = client.post("/api/v1/capacity/query/", asked).json()
    assert before["ratings"]["simulated"] == 0
    missing = before["ratings"]["steady_state"]
    assert missing > 0
    state = client.get(before["ratings"]["job"]).json()
    assert (state["status"], state["progress_ratio"], state["rated"], state["error"]) == ("queued", 0, 0, "")
    assert before["ratings"]["job"].endswith(f"/rating-catalogs/{state['catalog']}/")
    for batch in RatingBatch.objects.all():
        ratings_execute(batch.pk)
    state = client.get(before["ratings"]["job"]).json()
    assert (state["status"], state["rated"] + state["refused"]) == ("done", missing)
    after = client.post("/api/v1/capacity/query/", asked).json()
    assert after["ratings"] == {"simulated": missing, "steady_state": 0, "job": None}


def test_a_catalog_that_nobody_ordered_is_not_there(client):
    assert_problem(client.get("/api/v1/rating-catalogs/00000000-0000-4000-8000-000000000009/"), 404)
