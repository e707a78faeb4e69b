"""The fit of engines on points that the model itself gave: what was planted comes out, with doubt elsewhere."""

import copy
import json
from dataclasses import replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from accelerator.errors import DataFileError
from accelerator.groups import LEVELS, MEASURED, groups_of
from accelerator.points import PointError
from accelerator.serving import PARAMETERS
from accelerator.serving_calibration import (
    CHIP,
    CORE,
    METRICS,
    PAIR,
    SHEET,
    STRANGE,
    PointRows,
    calibration_dict,
    calibration_parse,
    metric_class,
)
from tests.accelerator.servings import CHIPS, FITTED_ON, deployments, fitted, grid, measured, point_rows, synthetic

SLOWER = {"a100-80": 1.15, "h200-sxm": 0.9}
UNSEEN = "mi300x"


@pytest.fixture(scope="module")
def rows():
    models = ("llama-3.1-8b", "qwen3-8b")
    some = (
        grid(models=models) + grid(metrics=("ttft_ms",), users=(1, 16)) + grid(scenario="static batch", users=(4, 32))
    )
    return synthetic(point_rows(*some), slower=SLOWER)


@pytest.fixture(scope="module")
def calibration(rows):
    return fitted(rows)


def round_trip(calibration):
    return calibration_parse(json.loads(json.dumps(calibration_dict(calibration))), "by hand")


def asked(*rows):
    """Return rows of which only a prediction is wanted."""
    return point_rows(*(row | {"value": 1} for row in rows))


# --- the fit ----------------------------------------------------------------------------------------------------------
def test_measured_points_are_predicted(rows, calibration):
    error = np.log(calibration.predict(rows).value) - rows.observed
    assert np.median(np.abs(error)) < 0.03
    assert calibration.effects.rows == len(rows.deployments)
    assert calibration.fitted_on == FITTED_ON


def test_points_between_the_measured_ones_are_predicted(calibration):
    between = point_rows(*grid(users=(8, 32)))
    truth = synthetic(between, slower=SLOWER, noise=0.0)
    assert_allclose(calibration.predict(between).value, np.exp(truth.observed), rtol=0.06)


def test_the_same_rows_give_the_same_digest(rows, calibration):
    assert fitted(rows).digest == calibration.digest
    assert fitted(rows.take(np.arange(len(rows.deployments) - 1))).digest != calibration.digest


def test_errors_are_no_part_of_the_digest(calibration):
    assert replace(calibration, errors={"summary": {}}).digest == calibration.digest
    assert replace(calibration, widths={f"{PAIR}|tpot": 2.0}).digest != calibration.digest


def test_parameters_are_named_and_positive(calibration):
    (d,) = deployments({})
    parameters = calibration.parameters(d)
    assert list(parameters) == [parameter.name for parameter in PARAMETERS]
    assert all(value > 0 for value in parameters.values())


# --- bands ------------------------------------------------------------------------------------------------------------
def test_bands_contain_the_prediction(rows, calibration):
    predicted = calibration.predict(rows)
    assert (predicted.p10 < predicted.value).all()
    assert (predicted.value < predicted.p90).all()
    assert_allclose(predicted.value**2, predicted.p10 * predicted.p90)


def test_a_prediction_says_what_it_stands_on(calibration):
    predicted = calibration.predict(asked({}, {"model": "llama-3.1-70b", "chip_count": 4, "tp": 4}, {"chip": UNSEEN}))
    assert predicted.basis == (PAIR, CHIP, SHEET)


@pytest.mark.parametrize("metric", ["output_tok_s", "tpot_ms", "ttft_ms"])
def test_an_unseen_chip_has_a_wider_band_than_a_seen_one(calibration, metric):
    predicted = calibration.predict(asked({"metric": metric}, {"metric": metric, "chip": UNSEEN}))
    seen, unseen = predicted.p90 / predicted.value
    assert np.log(unseen) > 1.04 * np.log(seen)


def test_widths_widen_the_band_of_their_basis_and_class_alone(calibration):
    some = asked({}, {"metric": "tpot_ms"}, {"chip": UNSEEN})
    wide = replace(calibration, widths={f"{PAIR}|throughput": 2.0}).predict(some)
    usual = calibration.predict(some)
    assert_allclose(wide.value, usual.value)
    assert_allclose(np.log(wide.p90 / wide.value) / np.log(usual.p90 / usual.value), [2, 1, 1])


def test_ranges_of_a_data_sheet_widen_the_band(calibration):
    (d,) = deployments({"chip": UNSEEN, "metric": "tpot_ms"})
    figure = d.chip.memory_byte_s
    vague = replace(figure, low=0.5 * figure.value, high=2 * figure.value)
    chip = replace(d.chip, given=dict(d.chip.given) | {"memory_byte_s": vague})
    exact, ranged = (calibration.predict(PointRows.of([replace(d, chip=one)])) for one in (d.chip, chip))
    assert_allclose(ranged.value, exact.value)
    assert ranged.p90[0] / ranged.p10[0] > 1.05 * exact.p90[0] / exact.p10[0]


def test_an_engine_is_described_as_its_prediction_of_tpot(calibration):
    one = asked({"metric": "tpot_ms"})
    wide = replace(calibration, widths={f"{PAIR}|tpot": 1.5})
    theta, deviation, basis = wide.deployment(one)
    assert_allclose(np.log(theta)[:, None], wide.effects.thetas(wide.members(one.groups)))
    assert deviation == pytest.approx(1.5 * calibration.spread(one)[1][0])
    assert basis == PAIR


# --- files ------------------------------------------------------------------------------------------------------------
def test_a_round_trip_gives_the_same_predictions(rows, calibration):
    read = round_trip(replace(calibration, widths={f"{PAIR}|tpot": 1.25}))
    before, after = (one.predict(rows) for one in (calibration, read))
    assert_allclose(after.value, before.value, rtol=1e-3)
    assert after.basis == before.basis
    assert read.fitted_on == calibration.fitted_on
    assert read.effects.rows == calibration.effects.rows
    assert read.widths == {f"{PAIR}|tpot": 1.25}


def test_bands_survive_a_round_trip(rows, calibration):
    before, after = (one.predict(rows) for one in (calibration, round_trip(calibration)))
    assert_allclose(after.p90 / after.value, before.p90 / before.value, rtol=2e-3)


def test_a_digest_outlives_the_first_round_trip(rows, calibration):
    moved = calibration.effects.common + np.linspace(0.0, 0.01, len(PARAMETERS))  # the last digit falls either way
    for one in (calibration, replace(calibration, effects=replace(calibration.effects, common=moved))):
        assert round_trip(one).digest == one.digest


def test_what_was_read_is_written_as_it_was(calibration):
    read = round_trip(calibration)
    assert calibration_dict(round_trip(read)) == calibration_dict(read)
    assert round_trip(read).digest == read.digest


def rename_parameter(values):
    values["parameters"][0]["name"] = "luck"


def leave_parameter_out(values):
    values["parameters"].pop()


def rename_level(values):
    values["levels"][0]["level"] = "weather"


def leave_levels_out(values):
    del values["levels"]


def shorten_deviation(values):
    values["levels"][0]["members"][0]["deviation"].pop()


def write_words(values):
    values["common_covariance"] = "wide"


@pytest.mark.parametrize("spoil", [rename_parameter, leave_parameter_out, rename_level])
def test_a_file_of_another_model_says_fit_again(calibration, spoil):
    values = copy.deepcopy(calibration_dict(calibration))
    spoil(values)
    with pytest.raises(DataFileError, match="by hand was fitted to another model: fit again"):
        calibration_parse(values, "by hand")


def write_infinity(values):
    values["parameters"][0]["log_common"] = float("inf")


def leave_scales_out(values):
    values["scales"] = {}


def write_widths_as_words(values):
    values["widths"] = "wide"


def shorten_tau(values):
    values["levels"][0]["tau"].pop()


@pytest.mark.parametrize(
    "spoil",
    [
        leave_levels_out, shorten_deviation, write_words, write_infinity, leave_scales_out, write_widths_as_words,
        shorten_tau,
    ],
)  # fmt: skip
def test_what_is_no_calibration_is_named(calibration, spoil):
    values = copy.deepcopy(calibration_dict(calibration))
    spoil(values)
    with pytest.raises(DataFileError, match="by hand: not a serving calibration"):
        calibration_parse(values, "by hand")


# --- further points ---------------------------------------------------------------------------------------------------
NEW = {"model": "qwen2.5-7b", "source": "others: by hand", "concurrency": 16}


def planted(calibration, row, factor):
    """Return a point measured at so many times what is predicted."""
    rows = asked(row)
    return measured(rows, np.log(calibration.predict(rows).value * factor))


@pytest.mark.parametrize("factor", [1.6, 1 / 1.6], ids=["faster", "slower"])
def test_one_point_moves_its_pair_at_least_halfway(calibration, factor):
    updated = calibration.updated(planted(calibration, NEW, factor), fitted_on="2026-11-26")
    for users in (16, 32):
        rows = asked(NEW | {"concurrency": users})
        moved = np.log(updated.predict(rows).value / calibration.predict(rows).value)[0]
        assert 0.5 <= moved / np.log(factor) <= 1.1
    assert updated.fitted_on == "2026-11-26"
    assert updated.effects.rows == calibration.effects.rows + 1


def moved_elsewhere(calibration):
    """Return how far one point of one chip, off by a factor of 1.6, moves the measured points of another. [log]"""
    updated = calibration.updated(planted(calibration, NEW, 1.6), fitted_on="")
    others = asked(*grid(chips=("a100-80",), models=("llama-3.1-8b", "qwen3-8b")))
    return np.abs(np.log(updated.predict(others).value / calibration.predict(others).value)).max()


def test_one_point_moves_another_chip_by_less_than_half_of_its_own(calibration):
    assert moved_elsewhere(calibration) < 0.5 * np.log(1.6)


def test_one_point_leaves_another_chip_where_it_was(calibration):
    assert moved_elsewhere(calibration) < 0.05


def test_a_point_as_predicted_moves_nothing_and_narrows_the_band(calibration):
    updated = calibration.updated(planted(calibration, NEW, 1.0), fitted_on="")
    rows = asked(NEW)
    before, after = calibration.predict(rows), updated.predict(rows)
    assert_allclose(after.value, before.value, rtol=1e-3)
    assert after.p90 / after.p10 < before.p90 / before.p10
    assert (before.basis, after.basis) == ((CHIP,), (PAIR,))


def test_an_update_brings_a_chip_that_was_unseen(calibration):
    row = {"chip": UNSEEN, "concurrency": 16}
    updated = calibration.updated(planted(calibration, row, 1 / 1.6), fitted_on="")
    rows = asked(row)
    assert updated.predict(rows).basis == (PAIR,)
    moved = np.log(updated.predict(rows).value / calibration.predict(rows).value)[0]
    assert 0.5 <= moved / np.log(1 / 1.6) <= 1.1
    assert_allclose(round_trip(updated).predict(rows).value, updated.predict(rows).value, rtol=1e-3)


def test_an_update_with_a_point_leaves_the_old_calibration_alone(calibration):
    digest = calibration_dict(calibration)
    calibration.updated(planted(calibration, NEW, 1.6), fitted_on="")
    assert calibration_dict(calibration) == digest


# --- rows and metrics -------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("scenario", "metric", "expected"),
    [
        ("closed-loop concurrency", "tpot_ms", "tpot"),
        ("closed-loop concurrency", "tok_s_per_user", "tpot"),
        ("closed-loop concurrency", "output_tok_s_per_chip", "throughput"),
        ("closed-loop concurrency", "req_s", "throughput"),
        ("closed-loop concurrency", "input_tok_s", "prompts"),
        ("closed-loop concurrency", "ttft_p50_ms", "ttft"),
        ("static batch", "batch_e2e_ms", "batch"),
        ("static batch", "prefill_batch_ms", "batch"),
        ("all requests at once", "total_tok_s", "burst throughput"),
        ("all requests at once", "ttft_ms", "burst ttft"),
        ("all requests at once", "tpot_ms", "tpot"),
    ],
)
def test_a_metric_is_of_a_class(scenario, metric, expected):
    (d,) = deployments({"scenario": scenario, "metric": metric})
    assert metric_class(d) == expected


def test_core_leaves_queueing_out():
    assert {"tpot", "throughput", "batch"} == CORE


def test_every_metric_is_of_a_class():
    for metric in METRICS:
        (d,) = deployments({"metric": metric})
        assert metric_class(d)


def test_metrics_of_one_deployment_agree():
    names = (
        "output_tok_s",
        "output_tok_s_per_chip",
        "total_tok_s",
        "req_s",
        "input_tok_s",
        "tpot_ms",
        "tok_s_per_user",
    )
    rows = synthetic(point_rows(*({"metric": name, "chip_count": 2, "tp": 2} for name in names)), noise=0.0)
    out, per_chip, total, requests, inputs, tpot, user = np.exp(rows.observed)
    assert out == pytest.approx(2 * per_chip)
    assert total == pytest.approx(out + inputs)
    assert requests == pytest.approx(out / 256)
    assert user == pytest.approx(1e3 / tpot)


def test_a_metric_that_is_not_modelled_is_named():
    with pytest.raises(PointError, match='metric "avg_power_frac_tdp" is not modelled'):
        point_rows({"metric": "avg_power_frac_tdp"})


def test_rows_taken_are_the_rows(rows):
    part = rows.take([5, 2])
    assert part.deployments == (rows.deployments[5], rows.deployments[2])
    assert_allclose(part.observed, rows.observed[[5, 2]])
    theta = np.log(np.array([parameter.centre for parameter in PARAMETERS]))[:, None]
    whole = rows.log_values(np.repeat(theta, len(rows.scale), axis=1))
    assert_allclose(part.log_values(np.repeat(theta, 2, axis=1)), whole[[5, 2]], rtol=1e-12)


def test_what_nobody_has_measured_has_no_publisher():
    (d,) = deployments({"notes": "checkpoint made-here"})
    seen, asked_for = groups_of(d), groups_of(d, measured=False)
    assert set(seen) == set(LEVELS)
    assert {level for level in LEVELS if seen[level] != asked_for[level]} == MEASURED
    assert not any(asked_for[level] for level in MEASURED)


def test_every_chip_here_is_measured(calibration):
    (names,) = (
        names for level, names in zip(LEVELS, calibration.effects.members.names, strict=True) if level == "chip"
    )
    assert len(names) == len(CHIPS)


def test_a_band_has_widths_of_its_own_where_the_engine_was_never_measured(calibration):
    widened = replace(calibration, widths={f"{SHEET}|tpot": 1.0, f"{STRANGE}|tpot": 2.0})
    known, unknown = (asked({"chip": UNSEEN, "metric": "tpot_ms", "engine": engine}) for engine in ("vLLM", "SGLang"))
    for rows, expected in ((known, 1.0), (unknown, 2.0)):
        groups = rows.groups[0]
        assert widened.basis(groups) == SHEET
        assert widened.width(groups, SHEET, "tpot") == expected
        assert widened.width(groups, PAIR, "tpot") == 1.0
    assert calibration.width(unknown.groups[0], SHEET, "tpot") == calibration.widths.get(f"{SHEET}|tpot", 1.0)
