"""Which points to measure: the most telling first, whatever they would measure."""

from dataclasses import replace

import numpy as np
import pytest

from accelerator.anchors import anchors_pick
from tests.accelerator.servings import fitted, grid, point_rows, synthetic

UNSEEN = "mi300x"


@pytest.fixture(scope="module")
def calibration():
    return fitted(synthetic(point_rows(*grid(models=("llama-3.1-8b", "qwen3-8b")))))


def candidates():
    """Return rows of a chip that nobody measured: many of one model, one of another."""
    many = grid(chips=(UNSEEN,), models=("llama-3.1-8b",), users=(1, 4, 16, 64))
    return point_rows(*many, *grid(chips=(UNSEEN,), models=("qwen3-8b",), users=(16,)))


def test_what_most_rows_share_is_measured_first_and_then_the_other(calibration):
    rows = candidates()
    picked, left = anchors_pick(calibration, rows, 2)
    assert [rows.deployments[at].model.slug for at in picked] == ["llama-3.1-8b", "qwen3-8b"]
    assert 0 < left[1] <= left[0] < 1


def test_measured_values_are_not_looked_at(calibration):
    rows = candidates()
    other = replace(
        rows,
        deployments=tuple(replace(d, point=replace(d.point, value=float("nan"))) for d in rows.deployments),
    )
    assert anchors_pick(calibration, rows, 3) == anchors_pick(calibration, other, 3)


def test_as_many_as_there_are_and_none_twice(calibration):
    rows = candidates()
    picked, left = anchors_pick(calibration, rows, 100)
    assert sorted(picked) == list(range(len(rows.deployments)))
    assert len(left) == len(picked)
    assert np.all(np.diff(left) <= 1e-12)


def test_measuring_what_is_picked_brings_the_others_nearer(calibration):
    rows = candidates()
    truth = synthetic(rows, slower={UNSEEN: 1.4}, noise=0.0)
    (at,), _ = anchors_pick(calibration, rows, 1)
    rest = truth.take([i for i in range(len(rows.deployments)) if i != at])

    def error(used) -> float:
        return float(np.abs(np.log(used.predict(rest).value) - rest.observed).mean())

    assert error(calibration.updated(truth.take([at]), fitted_on="")) < 0.7 * error(calibration)
