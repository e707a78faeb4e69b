"""Rates of planners stand on the calibration in use: they move with own points, and come back with it."""

from datetime import date
from statistics import fmean

import numpy as np
import pytest

from accelerator import DataFileError
from accelerator.serving_calibration import PAIR, SHEET
from scenarios import calibrations, queries, ratings
from scenarios.accuracy import held_rows
from scenarios.calibrations import (
    calibration_in_use,
    calibration_rollback,
)
from scenarios.engine import Inputs, problem_build, run_compute
from scenarios.queries import CapacityQuestion, capacity_query
from scenarios.ratings import RATES_BASIS, RATES_BASIS_PLANNED, engines_in_use, rating_take, service_mix
from tests.calibrations import row, version_make
from tests.factories import START, kind_fact, service_fact, snapshot

pytestmark = pytest.mark.django_db

GPU, OWN = "h20-8x", "ppu-16x"
"""Kinds of the fleet below, and of its chips the h20-96 was measured, the thead-ppu-810e was not."""


def slow_points():
    """Return own points of the GPU, in the configuration that it is rated in: half as fast as the fit says, or less."""
    return [
        row(f"own-{users}", concurrency=str(users), value=str(value), weight_precision="fp8")
        for users, value in ((16, 330), (32, 550), (64, 900), (128, 1300))
    ]


def question(kind):
    return CapacityQuestion(as_of=date(2027, 1, 1), kind=kind, service="chat")


def rated(kind):
    return capacity_query(question(kind))["rating"]["tok_s"]


def run(scenario):
    return run_compute(Inputs.of(scenario).as_dict(), on_progress=lambda _ratio, _stage: None)


def spread(band):
    return band["p90"] / band["p10"]


# --- what a calibration moves -----------------------------------------------------------------------------------------
def test_an_own_point_moves_the_rate_of_its_chip_and_no_other_and_going_back_restores_it(published, scenario):
    before = {kind: rated(kind) for kind in (GPU, OWN)}
    version_make(*slow_points())
    after = {kind: rated(kind) for kind in (GPU, OWN)}
    assert after[GPU]["p50"] < 0.8 * before[GPU]["p50"]
    assert after[OWN] == before[OWN]
    calibration_rollback(owner=None)
    assert {kind: rated(kind) for kind in (GPU, OWN)} == before


def test_a_run_stands_on_the_calibration_in_use_and_says_so(published, scenario):
    before = run(scenario)
    version = version_make(*slow_points())
    after = run(scenario)
    calibration_rollback(owner=None)
    assert run(scenario) == before

    def rate(result, kind):
        return next(line["tok_s"]["p50"] for line in result["ratings"] if line["kind"] == kind)

    def available_tok_s(result):
        return result["regions"][0]["periods"][0]["available_tok_s"]["p50"]

    assert rate(after, GPU) < 0.8 * rate(before, GPU)
    assert rate(after, OWN) == rate(before, OWN)
    assert available_tok_s(after) < 0.9 * available_tok_s(before)
    for result, name, digest in ((before, "the published fit", published.digest), (after, "version", version.digest)):
        assert result["serving_calibration"]["digest"] == digest
        assert RATES_BASIS in result["assumptions"]
        (line,) = [line for line in result["assumptions"] if digest[:12] in line]
        assert name in line
        assert (
            f"Of 2 rates of a service on a host type 1 stand on measurements of the chip with the model ({PAIR})"
            in line
        )
    assert {line["kind"]: line["basis"] for line in before["ratings"]} == {GPU: PAIR, OWN: SHEET}


def test_the_band_of_a_chip_that_nobody_measured_is_wider_than_that_of_a_measured_pair(scenario):
    """By the committed fit: a fit to a few made-up rows has learned little of how groups differ."""
    assert spread(rated(OWN)) > 1.3 * spread(rated(GPU))


# --- what is worked out again, and what is not ------------------------------------------------------------------------
def test_a_calibration_is_another_question_and_going_back_to_it_is_answered_from_the_cache(
    published, scenario, monkeypatch
):
    queries.days_forget()
    worked, answer, plan = [], queries.DayAnswers.answer, queries.plan_run_outs
    monkeypatch.setattr(queries.DayAnswers, "answer", lambda *asked: worked.append("answer") or answer(*asked))
    monkeypatch.setattr(
        queries, "plan_run_outs", lambda *asked, **more: worked.append("run-out") or plan(*asked, **more)
    )

    def done():
        worked.clear()
        capacity_query(question(GPU))
        return list(worked)

    assert done() == ["answer", "run-out"]
    assert done() == []
    version_make(row())
    assert done() == ["answer", "run-out"]
    assert done() == []
    calibration_rollback(owner=None)
    assert done() == []


def test_a_process_rates_once_for_a_calibration_however_often_it_is_read(published):
    chat, gpu = service_fact(), kind_fact()

    def misses():
        before = ratings._rating_best.cache_info().misses
        rating_take(chat, gpu, service_mix(chat, None), engines_in_use())
        return ratings._rating_best.cache_info().misses - before

    version_make(row("own-3", value="1234"))
    assert misses() == 1
    calibrations._kept.cache_clear()
    assert misses() == 0
    version_make(row("own-4", value="1234"))
    assert misses() == 1
    calibration_rollback(owner=None)
    assert misses() == 0


def test_services_that_nobody_asks_about_are_not_rated():
    fleet = snapshot(services=(service_fact("chat"), service_fact("code"), service_fact("idle", demand_request_s=0.0)))
    inputs = Inputs(
        kind="capacity", starts_on=START, ends_on=date(2027, 2, 1), trace_digest=None, services=("chat", "idle"),
        reserve_ratio=0.1, growth_override_ratio=None, dual_run_months=1, draws=1, seed=1,
    )  # fmt: skip
    problem, found = problem_build(inputs, fleet, None, calibration_in_use())
    assert [len(line) for line in found.ratings] == [2, 0, 2]
    assert np.flatnonzero(problem.in_scope).tolist() == [0]
    assert (problem.rate_tok_s > 0).any(axis=1).tolist() == [True, False, False]


# --- what an answer says of it ----------------------------------------------------------------------------------------
def test_a_capacity_answer_says_how_far_predictions_of_services_were_off(published, scenario):
    said = capacity_query(question(GPU))["calibration"]
    errors = [one.error_ratio for one in held_rows() if one.scheme == "pairs"]
    classes = {one.metric_class for one in held_rows()}
    assert classes <= {"tpot", "throughput", "batch"}, "the mean below is over all of them"
    assert said == {"basis": "serving", "mape": pytest.approx(100 * fmean(errors)), "n": 32, "as_of": "2026-11-25"}


def test_without_any_calibration_rates_are_at_planning_values_and_say_so(scenario, monkeypatch):
    def missing():
        raise DataFileError("serving.json: no such file")

    monkeypatch.setattr(calibrations, "serving_calibration_load", missing)
    answer = capacity_query(question(GPU))
    assert answer["serving_calibration"] is None
    assert (answer["calibration"]["basis"], answer["calibration"]["mape"]) == ("kernels", None)
    assert RATES_BASIS_PLANNED in answer["assumptions"]
    assert answer["rating"]["basis"] == "pooled"
    result = run(scenario)
    assert result["serving_calibration"] is None
    assert RATES_BASIS_PLANNED in result["assumptions"]


def test_a_version_that_cannot_be_used_is_named_in_what_the_published_fit_answers(published, scenario):
    version = version_make(row())
    calibrations.CalibrationVersion.objects.update(payload=b"\x1f", digest=f"{7:064}")
    result = run(scenario)
    assert result["serving_calibration"]["version"] == "published"
    assert any(line.startswith(f"Calibration {version.pk} cannot be used") for line in result["assumptions"])
