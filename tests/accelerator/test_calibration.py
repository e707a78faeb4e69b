"""The committed fits: whole, plausible, and as good on rows held out as is asked of them."""

import json
from dataclasses import replace
from datetime import date

import numpy as np
import pytest
from numpy.testing import assert_allclose

from accelerator.calibration import calibration_dict, calibration_load, calibration_parse, cell_take
from accelerator.errors import DataFileError
from accelerator.families import FAMILIES, kernel_file_read
from accelerator.fitting import family_fit
from accelerator.gemm import GEMM
from accelerator.pooling import Rows

MOST_ERROR_RATIO = {  # median over chips, on shapes held out
    "gemm": 0.08,
    "attention_prefill": 0.12,
    "attention_decode": 0.12,
    "latent_prefill": 0.12,
    "latent_decode": 0.12,
    "experts": 0.15,
    "collectives": 0.15,
}
FILES = {
    "gemm": "gemm.csv.gz",
    "attention_prefill": "attention_prefill.csv.gz",
    "attention_decode": "attention_decode.csv.gz",
    "latent_prefill": "mla_prefill.csv.gz",
    "latent_decode": "mla_decode.csv.gz",
    "experts": "moe.csv.gz",
    "collectives": "collectives.csv.gz",
}


@pytest.fixture(params=FAMILIES)
def calibration(request):
    return calibration_load(request.param)


def cells_of(calibration):
    fit = calibration.fit
    return [[fit.members[level][at] for level, at in enumerate(cell)] for cell in fit.cells]


# --- what is committed ------------------------------------------------------------------------------------------------
def test_a_fit_stands_on_many_rows_of_a_stated_day_and_source(calibration):
    assert calibration.fit.rows > 1000
    assert date(2026, 1, 1) <= date.fromisoformat(calibration.fitted_on)
    assert "@" in calibration.family.source  # a repository and its commit
    assert 0.3 < calibration.band_seen < 3
    assert 0.3 < calibration.band_unseen < 3


def test_a_fit_has_an_effect_for_everything_it_names(calibration):
    fit, size = calibration.fit, len(calibration.family.parameters)
    assert fit.common.shape == (size,)
    assert len(fit.members) == len(fit.deviations) == len(calibration.family.levels)
    assert fit.tau.shape == (len(calibration.family.levels), size)
    for names, deviations in zip(fit.members, fit.deviations, strict=True):
        assert deviations.shape == (len(names), size)
        assert list(names) == sorted(set(names))
    assert fit.information.shape == (len(fit.cells), size, size)
    assert (fit.tau > 0).all()
    assert (fit.sigma > 0).all()
    assert 0 < fit.sigma_common < 0.5


def test_every_parameter_of_every_cell_is_a_positive_number_with_a_unit_and_a_meaning(calibration):
    for cell in cells_of(calibration):
        theta, covariance, sigma = calibration.fit.cell(cell)
        assert np.isfinite(np.exp(theta)).all()
        assert (np.exp(theta) > 0).all()
        assert sigma > 0
        assert_allclose(covariance, covariance.T, atol=1e-9)
        assert np.linalg.eigvalsh(covariance).min() > -1e-9
        assert (np.diag(covariance) > 0).all()
    for parameter in calibration.family.parameters:
        assert parameter.unit
        assert parameter.meaning


def test_no_chip_reaches_more_than_a_little_over_its_data_sheet_in_common(calibration):
    for parameter, value in zip(calibration.family.parameters, np.exp(calibration.fit.common), strict=True):
        if parameter.name in {"compute_ratio", "memory_ratio", "link_ratio"}:
            assert 0.2 < value < 1.1, parameter.name


def test_errors_are_recorded_for_every_chip(calibration):
    for held_out in ("shapes_held_out", "chips_held_out"):
        by_chip = calibration.errors[held_out]["by_chip"]
        assert set(by_chip) <= calibration.chips
        assert calibration.errors[held_out]["median_over_chips"] == pytest.approx(
            np.median(list(by_chip.values())), abs=1e-4
        )
        assert all(0 < error < 1 for error in by_chip.values())


@pytest.mark.parametrize(("name", "most"), MOST_ERROR_RATIO.items())
def test_shapes_held_out_are_predicted_as_well_as_is_asked(name, most):
    errors = calibration_load(name).errors["shapes_held_out"]
    assert errors["median_over_chips"] <= most
    assert 0.75 <= errors["coverage"] <= 0.85


@pytest.mark.parametrize("name", FAMILIES)
def test_chips_left_out_are_predicted_within_a_quarter(name):
    errors = calibration_load(name).errors["chips_held_out"]
    assert errors["median_over_chips"] <= 0.25
    assert 0.7 <= errors["coverage"] <= 0.9  # chips count the same in the factor, rows count the same here


# --- cells ------------------------------------------------------------------------------------------------------------
def test_a_cell_is_calibrated_if_its_chip_was_measured_and_pooled_otherwise(calibration):
    members = tuple(cells_of(calibration)[0])
    assert cell_take(calibration.family.name, members).basis == "calibrated"
    elsewhere = (*members[:-1], "nothing|" + members[-1].partition("|")[2])
    pooled = cell_take(calibration.family.name, elsewhere)
    assert pooled.basis == "pooled"
    assert pooled.band_factor == calibration.band_unseen
    assert (np.diag(pooled.covariance) > 0).all()
    assert min(calibration.fit.sigma) < pooled.sigma < 2 * max(calibration.fit.sigma)  # errors as those of its kin


# --- the file ---------------------------------------------------------------------------------------------------------
def test_a_fit_survives_its_file(calibration):
    values = json.loads(json.dumps(calibration_dict(calibration)))
    again = calibration_parse(calibration.family, values)
    assert calibration_dict(again) == values
    for name in ("members", "cells", "rows", "sigma_common"):
        assert getattr(again.fit, name) == getattr(calibration.fit, name)
    for name in ("common", "tau", "information", "sigma"):
        assert_allclose(getattr(again.fit, name), getattr(calibration.fit, name), rtol=1e-5)
    assert (again.fitted_on, again.errors) == (calibration.fitted_on, calibration.errors)
    assert (again.band_seen, again.band_unseen) == (calibration.band_seen, calibration.band_unseen)


def test_the_file_says_what_each_number_is(calibration):
    values = calibration_dict(calibration)
    for row, parameter in zip(values["parameters"], calibration.family.parameters, strict=True):
        assert (row["name"], row["unit"], row["meaning"]) == (parameter.name, parameter.unit, parameter.meaning)
        assert row["common"] == pytest.approx(np.exp(row["log_common"]), rel=1e-4)


def test_a_file_of_another_model_is_refused():
    values = calibration_dict(calibration_load("gemm"))
    renamed = values | {"parameters": [values["parameters"][0] | {"name": "latency_s"}, *values["parameters"][1:]]}
    for other in (renamed, values | {"levels": values["levels"][:-1]}, calibration_dict(calibration_load("experts"))):
        with pytest.raises(DataFileError, match=r"gemm.json was fitted to another model: fit again"):
            calibration_parse(GEMM, other)


def test_a_family_that_was_not_fitted_names_the_command():
    with pytest.raises(DataFileError, match=r"calibration/nothing.json: .*`python -m accelerator fit` makes it"):
        calibration_load("nothing")


def test_bands_are_wider_by_their_factor():
    calibration = calibration_load("latent_prefill")
    row = FAMILIES["latent_prefill"].row_parse({
        "chip": "h100-sxm", "engine": "trtllm", "kv_cache_dtype": "bf16", "num_heads": "16", "batch_size": "2",
        "new_tokens": "500", "past_tokens": "0",
    })  # fmt: skip
    rows = Rows(
        np.array([row.shape]), tuple(np.array([[name] for name in row.members], dtype=object)), np.full(1, np.nan)
    )
    median_s, low_s, high_s = calibration.predict(rows)
    wide = replace(calibration, band_seen=2 * calibration.band_seen).predict(rows)
    assert_allclose(wide[0], median_s)
    assert_allclose(np.log(wide[2] / median_s), 2 * np.log(high_s / median_s))
    assert_allclose(median_s / low_s, high_s / median_s)


# --- with the published rows ------------------------------------------------------------------------------------------
@pytest.mark.shared
@pytest.mark.parametrize(("name", "file"), FILES.items())
def test_the_published_rows_are_predicted(shared_data, name, file):
    read = kernel_file_read(shared_data / "kernels" / file)
    assert read.family.name == name
    assert len(read.at) + len(read.reasons) == read.count > 1000
    assert len(read.at) > 0.99 * read.count
    median_s, low_s, high_s = calibration_load(name).predict(read.rows)
    assert (low_s <= median_s).all()
    assert (median_s <= high_s).all()
    error = np.abs(median_s / read.rows.latency_s - 1)
    chips = np.array([member.split("|")[0] for member in read.rows.members[-1]])
    by_chip = [np.median(error[chips == chip]) for chip in sorted(set(chips))]
    assert np.median(by_chip) <= MOST_ERROR_RATIO[name]
    assert 0.7 < np.mean((low_s <= read.rows.latency_s) & (read.rows.latency_s <= high_s)) < 0.97


@pytest.mark.shared
def test_fitting_again_gives_the_committed_parameters(shared_data):
    read = kernel_file_read(shared_data / "kernels" / FILES["latent_prefill"])
    calibration = calibration_load("latent_prefill")
    fit = family_fit(calibration.family, read.rows)
    assert_allclose(np.exp(fit.common), np.exp(calibration.fit.common), rtol=1e-3)
    for cell in cells_of(calibration):
        assert_allclose(np.exp(fit.cell(cell)[0]), np.exp(calibration.fit.cell(cell)[0]), rtol=1e-3)
