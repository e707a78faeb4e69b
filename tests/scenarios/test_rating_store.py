import threading
from datetime import timedelta

import pytest
from celery import current_app
from django.db import connection
from django.utils import timezone

from accelerator import MissingFigureError, Slo, UnknownChipError, chip_get, goodput, model_get, profile_mix
from scenarios import rating_store
from scenarios.calibrations import calibration_rollback
from scenarios.models import RatingBatch, StoredRating
from scenarios.rating_store import (
    BATCHES,
    catalog_check,
    catalog_state,
    catalog_submit,
    exchange_query,
    rating_get_or_compute,
    rating_is_current,
    rating_keep,
    rating_lookup,
)
from scenarios.tasks import ratings_execute, sweep
from tests.calibrations import row, version_make
from tests.scenarios.rating_questions import FAST, LIMITS, OTHER, REFUSED, question

QUEUE = "celery"


def queued_ids():
    with current_app.connection_for_write() as broker:
        return broker.default_channel.client.llen(QUEUE)


@pytest.fixture(autouse=True)
def _empty_queue():
    with current_app.connection_for_write() as broker:
        broker.default_channel.client.delete(QUEUE)


@pytest.fixture
def searches(monkeypatch):
    """Pairs that were searched for, in order."""
    found, search = [], rating_store.goodput_search

    def watched(chip, model, *arguments, **more):
        found.append((chip.slug, model.slug))
        return search(chip, model, *arguments, **more)

    monkeypatch.setattr(rating_store, "goodput_search", watched)
    return found


# --- one rating -------------------------------------------------------------------------------------------------------
def test_a_second_call_is_a_lookup(db, searches, django_assert_num_queries):
    assert rating_lookup(question()) is None
    first = rating_get_or_compute(question())
    with django_assert_num_queries(1):  # which calibration is in use
        asked = question()
    with django_assert_num_queries(1):
        again = rating_get_or_compute(asked)
    assert again.pk == first.pk
    assert len(searches) == 1
    assert first.tok_s_per_chip > 0
    assert first.took_s > 0
    assert first.payload["rating"]["simulated"]
    assert (first.chip, first.model, first.mix, first.host_chips) == ("h20-96", "qwen3-0.6b", "m-small", 8)


def test_what_is_stored_is_what_the_search_says(db):
    asked = question()
    rating = goodput.goodput_search(asked.chip, asked.model, asked.mix, asked.slo, host_chips=asked.host_chips)
    stored = rating_get_or_compute(asked)
    stored.refresh_from_db()
    assert stored.payload["rating"]["tok_s"] == rating.as_dict()["tok_s"]
    assert stored.payload["rating"]["digest"] == rating.digest
    assert (stored.binds, stored.basis) == (rating.binds, rating.basis)


def test_a_pair_without_memory_is_a_stored_refusal_with_its_reason(db, searches):
    stored = rating_get_or_compute(question(**REFUSED))
    assert "does not fit" in stored.refusal
    assert stored.tok_s_per_chip == 0
    assert rating_get_or_compute(question(**REFUSED)).pk == stored.pk
    assert len(searches) == 1


def test_a_figure_that_nobody_has_published_is_a_stored_refusal_too(db, monkeypatch):
    def search(chip, *arguments, **more):
        raise MissingFigureError(chip.slug, "memory_byte_s")

    monkeypatch.setattr(rating_store, "goodput_search", search)
    assert "has no memory_byte_s" in rating_get_or_compute(question()).refusal


def test_a_defect_is_not_stored_as_a_refusal(db, monkeypatch):
    def search(*arguments, **more):
        raise RuntimeError("a defect")

    monkeypatch.setattr(rating_store, "goodput_search", search)
    with pytest.raises(RuntimeError):
        rating_get_or_compute(question())
    assert not StoredRating.objects.exists()


@pytest.mark.parametrize(
    "changed",
    [
        {"chip": "h20-141"}, {"model": "qwen3-1.7b"}, {"mix": "m-large"}, {"ttft_p95_s": 5.1}, {"tpot_p95_s": 0.11},
        {"host_chips": 4},
    ],
    ids=str,
)  # fmt: skip
def test_every_input_is_in_the_digest(db, changed):
    assert question(**changed).digest != question().digest


def test_the_digest_follows_from_contents_and_not_from_objects(db):
    asked = question()
    chip = asked.chip
    same = chip.varied("memory_byte", chip.memory_byte.value)
    other = chip.varied("memory_byte", chip.memory_byte.value * 1.01)
    mix, slo = profile_mix("m-small"), Slo(5.0, 0.1)
    digests = [goodput.goodput_digest(one, asked.model, mix, slo, host_chips=8) for one in (chip, same, other)]
    assert digests[0] == digests[1] == asked.digest
    assert digests[2] != digests[0]


def test_calibrating_one_chip_makes_its_own_ratings_old_and_no_others(db, searches, monkeypatch):
    ours, theirs = rating_get_or_compute(question()), rating_get_or_compute(question(**OTHER))
    fingerprint = goodput.engine_fingerprint

    def calibrated(chip, model, calibration):
        return "new" if chip.slug == FAST["chip"] else fingerprint(chip, model, calibration)

    monkeypatch.setattr(goodput, "engine_fingerprint", calibrated)
    assert [rating_is_current(row) for row in (ours, theirs)] == [False, True]
    assert rating_lookup(question()) is None
    assert rating_get_or_compute(question()).pk != ours.pk
    assert rating_get_or_compute(question(**OTHER)).pk == theirs.pk
    assert [chip for chip, _ in searches] == ["h20-96", "l4", "h20-96"]


def test_own_points_make_ratings_of_their_chip_old_and_going_back_makes_them_current(db, published):
    ours, theirs = rating_get_or_compute(question()), rating_get_or_compute(question(**OTHER))
    version = version_make(row("own-1"), row("own-2", concurrency="16", value="300"))
    assert [rating_is_current(one) for one in (ours, theirs)] == [False, True]
    again = rating_get_or_compute(question())
    assert again.tok_s_per_chip < ours.tok_s_per_chip
    stood_on = [one.payload["rating"]["calibration_digest"] for one in (ours, again)]
    assert stood_on == [published.digest, version.digest]
    calibration_rollback(owner=None)
    assert [rating_is_current(one) for one in (ours, theirs, again)] == [True, True, False]
    assert rating_get_or_compute(question()).pk == ours.pk


def test_a_rating_whose_chip_the_catalog_has_lost_is_not_current(db):
    stored = rating_get_or_compute(question())
    stored.chip = "gone"
    assert not rating_is_current(stored)


@pytest.mark.django_db(transaction=True)
def test_of_several_that_rate_at_once_the_first_is_kept():
    gate, kept = threading.Barrier(4), []

    def rate():
        gate.wait()
        kept.append(rating_keep(question()).pk)
        connection.close()

    threads = [threading.Thread(target=rate) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(kept) == 4
    assert set(kept) == {StoredRating.objects.get().pk}


# --- exchange ratios --------------------------------------------------------------------------------------------------
def ratios(from_chip, *to_chips, model="qwen3-0.6b"):
    return exchange_query(from_chip=from_chip, to_chips=to_chips, model=model, **LIMITS)


def test_there_and_back_again_and_a_chip_equals_itself(db, searches):
    there, back = ratios("h20-96", "l4", "h20-96"), ratios("l4", "h20-96")
    to_l4, to_itself = there["rows"]
    for phase in ("prefill", "decode", "service"):
        assert to_l4[phase]["p10"] < to_l4[phase]["p50"] < to_l4[phase]["p90"]
        assert to_l4[phase]["p50"] * back["rows"][0][phase]["p50"] == pytest.approx(1)
        assert to_l4[phase]["p10"] * back["rows"][0][phase]["p90"] == pytest.approx(1)
        assert to_itself[phase]["p50"] == pytest.approx(1)
        ours, theirs = there["start"][phase]["tok_s"]["p50"], to_l4["to"][phase]["tok_s"]["p50"]
        assert to_l4[phase]["p50"] == pytest.approx(ours / theirs)
    assert len(searches) == 2, "what is stored is not searched for again"


def test_stored_ratios_are_those_of_the_accelerator(db):
    found = ratios("h20-96", "l4")["rows"][0]
    alone = goodput_exchange("h20-96", "l4").as_dict()
    for phase in ("prefill", "decode", "service"):
        assert found[phase] == alone[phase]


def goodput_exchange(start, other):
    from accelerator import exchange_ratio

    return exchange_ratio(
        chip_get(start), chip_get(other), model_get("qwen3-0.6b"), profile_mix("m-small"), Slo(5.0, 0.1)
    )


def test_a_side_that_cannot_serve_has_no_ratio_and_says_why(db):
    answer = ratios("h20-96", "a10", model="deepseek-r1")
    (row,) = answer["rows"]
    assert [row[phase] for phase in ("prefill", "decode", "service")] == [None] * 3
    assert "a10: " in row["refusal"]
    assert row["to"]["service"] == {"tok_s": None, "config": "", "refusal": row["to"]["service"]["refusal"]}


def test_an_unknown_chip_is_refused_before_anything_is_rated(db, searches):
    with pytest.raises(UnknownChipError):
        ratios("h20-96", "h2O")
    assert not searches


# --- the catalog in batches -------------------------------------------------------------------------------------------
def questions():
    return [question(), question(**OTHER), question(**REFUSED)]


def submit(asked, size=2):
    return catalog_submit(asked, catalog_check(asked))


@pytest.fixture
def _small(monkeypatch):
    monkeypatch.setattr(rating_store, "BATCH_PAIRS", 2)


def ids(catalog):
    return list(RatingBatch.objects.filter(catalog=catalog.uid).order_by("pk").values_list("pk", flat=True))


@pytest.mark.usefixtures("_small")
@pytest.mark.django_db(transaction=True)
def test_pairs_are_dealt_out_to_batches_and_each_is_sent_once_it_is_certain():
    catalog = submit(questions())
    assert (catalog.pairs, catalog.stored, catalog.batches) == (3, 0, 2)
    assert queued_ids() == 2
    assert list(RatingBatch.objects.order_by("pk").values_list("pairs", "send_count")) == [
        ([["h20-96", "qwen3-0.6b"], ["a10", "deepseek-r1"]], 1), ([["l4", "qwen3-0.6b"]], 1),
    ]  # fmt: skip
    assert catalog_state(catalog.uid).status == "queued"


@pytest.mark.usefixtures("_small")
def test_batches_in_any_order_rate_everything_once_and_a_second_catalog_nothing(db, searches):
    catalog = submit(questions())
    first, second = ids(catalog)
    ratings_execute(second)
    state = catalog_state(catalog.uid)
    assert (state.status, state.progress_ratio, state.counts) == ("running", 0.5, rating_store.Counts(1, 0))
    ratings_execute(first)
    ratings_execute(first)
    state = catalog_state(catalog.uid)
    assert (state.status, state.has_ended, state.counts) == ("done", True, rating_store.Counts(2, 1))
    assert sorted(searches) == [("a10", "deepseek-r1"), ("h20-96", "qwen3-0.6b"), ("l4", "qwen3-0.6b")]
    again = submit(questions())
    assert (again.pairs, again.stored, again.batches) == (3, 3, 0)
    assert catalog_state(again.uid) == rating_store.CatalogState("done", 1.0, rating_store.Counts(0, 0), "")


def test_mixes_and_limits_have_batches_of_their_own(db):
    catalog = submit([question(), question(mix="m-large"), question(ttft_p95_s=9.0)])
    assert set(RatingBatch.objects.filter(catalog=catalog.uid).values_list("mix", "ttft_p95_s")) == {
        ("m-small", 5.0), ("m-large", 5.0), ("m-small", 9.0),
    }  # fmt: skip


def test_a_pair_asked_for_twice_is_rated_once(db):
    assert len(catalog_check([question(), question()])) == 1


def test_who_takes_over_goes_on_where_the_batch_was_left(db, searches, settings):
    (batch_id,) = ids(submit(questions()))
    old = BATCHES.claim(batch_id)
    rating_get_or_compute(question())
    lost_at = timezone.now() - timedelta(seconds=settings.RUN_LEASE_S * 100)
    RatingBatch.objects.filter(pk=batch_id).update(heartbeat_at=lost_at, sent_at=lost_at)
    searches.clear()
    sweep()
    ratings_execute(batch_id)
    assert sorted(searches) == [("a10", "deepseek-r1"), ("l4", "qwen3-0.6b")]
    batch = RatingBatch.objects.get()
    assert (batch.status, batch.attempt, batch.rated, batch.refused, batch.send_count) == ("done", 2, 2, 1, 1)
    with pytest.raises(rating_store_lost()):
        BATCHES.finish(batch_id, old, rated=0, refused=0)


def rating_store_lost():
    from scenarios.claims import ClaimLostError

    return ClaimLostError


def test_a_batch_that_fails_is_named_and_the_others_are_kept(db, monkeypatch):
    monkeypatch.setattr(rating_store, "BATCH_PAIRS", 2)
    catalog = submit(questions())
    first, second = ids(catalog)
    ratings_execute(second)
    RatingBatch.objects.filter(pk=first).update(pairs=[["gone", "qwen3-0.6b"]])
    ratings_execute(first)
    state = catalog_state(catalog.uid)
    assert (state.status, state.has_ended) == ("failed", True)
    assert state.error.startswith(f'batch {first}: unknown chip "gone"')
    assert StoredRating.objects.count() == 1
