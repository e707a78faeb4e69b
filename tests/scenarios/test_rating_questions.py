"""Planners' rates are stored ratings by simulation where there are any; what is missing is answered and computed."""

from dataclasses import replace
from datetime import date, timedelta

import numpy as np
import pytest
from django.utils import timezone

from accelerator import TokenMix, Workload, workload_generate
from accelerator.rating import Rating
from scenarios import rating_store
from scenarios.calibrations import calibration_in_use
from scenarios.models import RatingBatch, StoredRating, Trace
from scenarios.queries import CapacityQuestion, capacity_query
from scenarios.rating_store import catalog_state, rating_get_or_compute, rating_is_current, ratings_ask
from scenarios.ratings import ratings_take, replicas_per_host
from scenarios.tasks import ratings_execute
from tests.factories import kind_fact, service_fact, snapshot

pytestmark = pytest.mark.django_db

SMALL = {"model": "qwen3-0.6b", "profile": "m-small", "ttft_s": 5.0, "tpot_s": 0.1}
GPU = kind_fact("gpu")


def fleet(*services, kinds=(GPU,)):
    return snapshot(services=services or (service_fact(**SMALL),), kinds=kinds, hosts={})


def table(view, **more):
    everything = np.ones(len(view.services), dtype=bool)
    given = {"trace_mix": None, "in_use": calibration_in_use(), **more}
    return ratings_take(view, in_scope=everything, asked=everything, **given)


def rate_missing(found):
    for question in found.missing().values():
        rating_get_or_compute(question)


# --- which rating is used ---------------------------------------------------------------------------------------------
def test_a_stored_rating_takes_the_place_of_the_formula_and_says_so():
    before = table(fleet())
    assert before.counts() == {"simulated": 0, "steady_state": 1}
    rate_missing(before)
    after = table(fleet())
    (row,) = StoredRating.objects.all()
    assert after.counts() == {"simulated": 1, "steady_state": 0}
    assert after.simulated.tolist() == [[True]]
    assert not after.missing()
    assert after.digest != before.digest
    replica = Rating.from_dict(row.payload["rating"])
    assert after.ratings[0][0] == replica
    assert after.rate_tok_s[0, 0] == pytest.approx(replica.tok_s.p50 * after.replicas_per_host[0, 0])
    assert after.replicas_per_host[0, 0] == replicas_per_host(replica, GPU) >= 1


def test_a_rating_is_read_back_as_it_was_written():
    rate_missing(table(fleet()))
    payload = StoredRating.objects.get().payload["rating"]
    assert Rating.from_dict(payload).as_dict() == payload


@pytest.mark.parametrize(
    "other",
    [{"percentile": 0.99}, {"ttft_s": 4.0}, {"profile": "m-large"}, {"model": "qwen3-1.7b"}],
    ids=["percentile", "limit", "mix", "model"],
)
def test_a_rating_of_another_question_is_not_used(other):
    rate_missing(table(fleet()))
    assert table(fleet(service_fact(**(SMALL | other)))).counts()["simulated"] == 0


def test_hosts_with_more_chips_are_another_question_and_their_batch_keeps_them():
    view = fleet(kinds=(replace(GPU, chips=4),))
    rate_missing(table(fleet()))
    found = table(view)
    assert len(found.missing()) == 1
    ratings_ask(found.missing())
    batch = RatingBatch.objects.get()
    assert batch.pairs == [["h20-96", "qwen3-0.6b", 4]]
    ratings_execute(batch.pk)
    assert table(view).counts() == {"simulated": 1, "steady_state": 0}


def test_limits_at_p99_are_harder_than_at_p95_and_are_rated_at_their_own_percentile():
    loose, strict = service_fact("loose", **SMALL), service_fact("strict", percentile=0.99, **SMALL)
    rate_missing(table(fleet(loose, strict)))
    found = table(fleet(loose, strict))
    assert found.simulated.all()
    assert found.rate_tok_s[1, 0] <= found.rate_tok_s[0, 0]
    assert set(StoredRating.objects.values_list("percentile", flat=True)) == {0.95, 0.99}
    assert all(rating_is_current(row) for row in StoredRating.objects.all())


def test_a_refusal_that_is_stored_is_an_answer_by_simulation():
    view = fleet(service_fact(**(SMALL | {"model": "deepseek-r1"})), kinds=(kind_fact("old", chip="a10"),))
    rate_missing(table(view))
    found = table(view)
    assert found.counts() == {"simulated": 1, "steady_state": 0}
    assert found.ratings[0][0].refusal
    assert (found.rate_tok_s[0, 0], found.replicas_per_host[0, 0]) == (0, 0)


def test_without_a_calibration_the_formula_answers_and_nothing_is_missing():
    rate_missing(table(fleet()))
    found = table(fleet(), in_use=None)
    assert (found.counts(), found.missing()) == ({"simulated": 0, "steady_state": 1}, {})
    assert (found.prefill.rate_tok_s >= found.rate_tok_s).all()
    assert found.prefill.refusals == (("",),)


# --- recorded workloads -----------------------------------------------------------------------------------------------
@pytest.fixture
def trace():
    workload = workload_generate("m-small", requests=2000, seed=3)
    own = Workload("own", workload.arrival_s, workload.input_tok, workload.output_tok)
    return Trace.objects.create(
        digest=own.digest, name="own", requests=len(own), mix=own.token_mix().as_dict(), arrays=own.to_bytes()
    )


def test_a_recorded_mix_is_rated_by_its_own_lengths_and_gone_with_the_trace_says_so(trace):
    mix = TokenMix.from_dict(trace.mix)
    found = table(fleet(), trace_mix=mix, trace_digest=trace.digest)
    ratings_ask(found.missing())
    batch = RatingBatch.objects.get()
    assert (batch.mix, batch.trace_digest) == ("own", trace.digest)
    ratings_execute(batch.pk)
    after = table(fleet(), trace_mix=mix, trace_digest=trace.digest)
    assert after.counts() == {"simulated": 1, "steady_state": 0}
    assert table(fleet()).counts()["simulated"] == 0
    assert rating_is_current(StoredRating.objects.get())
    StoredRating.objects.all().delete()
    trace.delete()
    uid = ratings_ask(found.missing())
    ratings_execute(RatingBatch.objects.latest("pk").pk)
    state = catalog_state(uid)
    assert state.status == "failed"
    assert "is not there any more" in state.error


# --- phases -----------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("is_stored", [False, True])
def test_the_whole_is_no_faster_than_either_phase_alone(is_stored):
    view = fleet(service_fact(**SMALL), service_fact("talk", model="qwen3-32b", profile="azure-conv"))
    if is_stored:
        rate_missing(table(view))
    found = table(view)
    for phase in (found.prefill, found.decode):
        assert (found.rate_low_tok_s <= phase.rate_low_tok_s).all()
        assert (found.rate_tok_s <= phase.rate_tok_s).all()
        assert (found.rate_high_tok_s <= phase.rate_high_tok_s).all()
        assert (phase.rate_low_tok_s <= phase.rate_tok_s).all()
        assert (phase.rate_tok_s <= phase.rate_high_tok_s).all()
        assert (phase.rate_tok_s > 0).all()
        assert not any(any(row) for row in phase.refusals)


def test_prompts_read_are_counted_in_the_answers_that_they_lead_to():
    found = table(fleet())
    rate_missing(found)
    prefill_tok_s = StoredRating.objects.get().payload["prefill"]["tok_s"]["p50"]
    mix = found.mixes[0]
    assert table(fleet()).prefill.rate_tok_s[0, 0] == pytest.approx(prefill_tok_s * mix.output_tok / mix.input_tok)


def test_a_host_that_cannot_has_no_phase_and_the_reason():
    view = fleet(service_fact(**(SMALL | {"model": "deepseek-r1"})), kinds=(kind_fact("old", chip="a10"),))
    for phase in (table(view).prefill, table(view).decode):
        assert (phase.rate_tok_s == 0).all()
        assert phase.refusals[0][0]


# --- what is missing is begun once ------------------------------------------------------------------------------------
def questions():
    return table(fleet(service_fact(**SMALL), service_fact("other", **(SMALL | {"ttft_s": 6.0})))).missing()


def test_the_same_missing_ratings_start_one_catalog_however_often_they_are_asked_for():
    first = ratings_ask(questions())
    batches = list(RatingBatch.objects.values_list("pk", flat=True))
    assert ratings_ask(questions()) == first
    assert list(RatingBatch.objects.values_list("pk", flat=True)) == batches
    assert catalog_state(first).status == "queued"


def test_of_missing_ratings_those_under_way_are_not_begun_again():
    asked = questions()
    one = dict(list(asked.items())[:1])
    first = ratings_ask(one)
    second = ratings_ask(asked)
    assert first != second
    begun = [digest for row in RatingBatch.objects.all() for digest in row.digests]
    assert sorted(begun) == sorted(asked)
    assert ratings_ask(one) == first


def test_two_who_ask_at_once_store_one_batch(monkeypatch):
    monkeypatch.setattr(rating_store, "_under_way", lambda _wanted: {})
    first, second = ratings_ask(questions()), ratings_ask(questions())
    assert first == second
    assert RatingBatch.objects.count() == 2  # two limits, a batch each


def test_what_has_failed_is_left_alone_for_an_hour():
    uid = ratings_ask(questions())
    RatingBatch.objects.update(status="failed", error="broken", finished_at=timezone.now())
    assert ratings_ask(questions()) == uid
    assert RatingBatch.objects.count() == 2
    RatingBatch.objects.update(finished_at=timezone.now() - timedelta(seconds=rating_store.RETRY_S + 1))
    ratings_ask(questions())
    assert RatingBatch.objects.count() == 4


def test_nothing_missing_starts_nothing():
    assert ratings_ask({}) is None
    assert not RatingBatch.objects.exists()


def test_batches_are_small_enough_for_a_worker(monkeypatch):
    monkeypatch.setattr(rating_store, "BATCH_PAIRS", 1)
    kinds = (GPU, kind_fact("light", chip="l4"))
    ratings_ask(table(fleet(kinds=kinds)).missing())
    assert [len(batch.pairs) for batch in RatingBatch.objects.all()] == [1, 1]


# --- the capacity query -----------------------------------------------------------------------------------------------
def test_a_capacity_query_says_where_its_rates_are_from_and_stands_on_the_new_ones_once_they_are_there(scenario):
    question = CapacityQuestion(as_of=date(2027, 1, 1), kind="h20-8x", service="chat")
    before = capacity_query(question)
    assert before["ratings"]["simulated"] == 0
    assert before["rating"]["source"] == "steady_state"
    uid = before["ratings"]["catalog"]
    assert capacity_query(question)["ratings"]["catalog"] == uid
    for batch in RatingBatch.objects.all():
        ratings_execute(batch.pk)
    assert catalog_state(uid).status == "done"
    after = capacity_query(question)
    assert after["ratings"] == {"simulated": before["ratings"]["steady_state"], "steady_state": 0, "catalog": None}
    assert after["rating"]["source"] == "simulated"
    assert after["ratings_digest"] != before["ratings_digest"]
    assert after["fits"] == before["fits"]
    assert after["rating"]["tok_s"] != before["rating"]["tok_s"]


def test_a_query_is_answered_where_the_job_cannot_be_stored(scenario, monkeypatch):
    def broken(_missing):
        raise rating_store.DatabaseError("no row is taken")

    monkeypatch.setattr(rating_store, "_catalog_begin", broken)
    answer = capacity_query(CapacityQuestion(as_of=date(2027, 1, 1), kind="h20-8x"))
    assert answer["ratings"]["steady_state"] > 0
    assert answer["ratings"]["catalog"] is None
