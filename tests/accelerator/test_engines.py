"""Fitted engines at work: what a rating runs at, slower where the fit says so, and nothing new where there is none."""

import math
from dataclasses import fields, replace

import numpy as np
import pytest
from numpy.testing import assert_allclose

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.efficiency import DEFAULT, RANGES
from accelerator.engines import ENGINE_FIELDS, deployment_like, efficiency_fitted, engine_fitted, engine_median
from accelerator.operators import DeploymentConfig
from accelerator.sensitivity import drivers_list, uncertain_inputs
from accelerator.serving import INDEX
from accelerator.serving_calibration import BASES, CHIP, PAIR, SHEET
from accelerator.steps import step_table_build
from accelerator.units import Z90
from tests.accelerator.servings import fitted, grid, point_rows, synthetic

CONFIG = DeploymentConfig("bf16")
NEVER_FITTED = ("engine_ratio", "host_step_s", "graph_launch_s")
STEPS = {
    "decode": (16, 16, 16 * 1000.0, 0.0),
    "prompt": (1024, 0, 0.0, 1024**2 / 2),
    "mixed": (1040, 16, 16 * 1000.0, 1024**2 / 2),
}


@pytest.fixture(scope="module")
def calibration():
    return fitted(synthetic(point_rows(*grid(models=("llama-3.1-8b", "qwen3-8b")))))


@pytest.fixture(scope="module")
def efficiency(calibration):
    return efficiency_fitted(*where(), calibration)


def where(chip="h100-sxm", model="llama-3.1-8b", config=CONFIG):
    return chip_get(chip), model_get(model), config


def table(efficiency, at=None, **how):
    return step_table_build(*(at or where()), efficiency=efficiency, **how)


def steps_s(efficiency, **how):
    return np.array([table(efficiency, **how).step_s(*step) for step in STEPS.values()])


def changed(efficiency, **figures):
    return replace(efficiency, engine=replace(efficiency.engine, **figures))


# --- what is fitted ---------------------------------------------------------------------------------------------------
def test_an_engine_takes_its_figures_from_the_calibration(calibration, efficiency):
    engine = efficiency.engine
    named = calibration.parameters(deployment_like(*where()), measured=False)
    assert set(ENGINE_FIELDS) <= set(INDEX)
    for name in ENGINE_FIELDS:
        assert getattr(engine, name) == pytest.approx(named[name])
    assert {field.name for field in fields(engine)} - set(ENGINE_FIELDS) == {"spread", "basis", "digest"}
    assert engine.digest == calibration.digest
    assert engine.spread > 0


@pytest.mark.parametrize(
    ("chip", "model", "basis"),
    [("h100-sxm", "qwen3-8b", PAIR), ("h100-sxm", "qwen2.5-7b", CHIP), ("mi300x", "qwen3-8b", SHEET)],
)
def test_an_engine_says_what_it_stands_on(calibration, chip, model, basis):
    assert engine_fitted(*where(chip, model), calibration).basis == basis
    assert basis in BASES


@pytest.mark.parametrize("chip", ["h100-sxm", "a100-80", "mi300x"])
def test_the_median_engine_is_the_fitted_one_without_its_spread(calibration, chip):
    whole, median = (make(*where(chip), calibration) for make in (engine_fitted, engine_median))
    assert median == replace(whole, spread=0.0)


def test_the_same_deployment_has_the_same_engine(calibration, efficiency):
    assert efficiency_fitted(*where(), calibration) == efficiency


def test_everything_beside_the_engine_is_the_planning_value(efficiency):
    assert replace(efficiency, engine=None) == DEFAULT


def test_a_chip_that_was_measured_slower_has_a_slower_engine():
    rows = point_rows(*grid(models=("llama-3.1-8b",)))
    usual, slow = (
        efficiency_fitted(*where("a100-80"), fitted(synthetic(rows, slower=slower, noise=0.0)))
        for slower in ({}, {"a100-80": 1.3})
    )
    assert table(slow, where("a100-80")).step_s(*STEPS["decode"]) > 1.15 * table(usual, where("a100-80")).step_s(
        *STEPS["decode"]
    )


# --- step tables ------------------------------------------------------------------------------------------------------
def test_a_table_of_an_engine_is_finite_and_grows(efficiency):
    one = table(efficiency)
    for values in (one.linear_s, one.decode_s):
        assert np.isfinite(values).all()
        assert (values >= 0).all()
        assert values[-1] > values[1]
    decoding = [one.step_s(n, n, 1000.0 * n, 0.0) for n in (1, 16, 64, 256)]
    assert (np.diff(decoding) > 0).all()


def test_a_larger_decode_ratio_slows_decodes_in_proportion(efficiency):
    usual, slow = efficiency, changed(efficiency, decode_ratio=2 * efficiency.engine.decode_ratio)
    ratio = dict(zip(STEPS, steps_s(slow) / steps_s(usual), strict=True))
    assert ratio["decode"] == pytest.approx(2)
    assert 1 < ratio["prompt"] < 2
    assert 1 < ratio["mixed"] < 2


def test_a_larger_prompt_ratio_leaves_decodes_alone(efficiency):
    slow = changed(efficiency, prompt_ratio=2 * efficiency.engine.prompt_ratio)
    ratio = dict(zip(STEPS, steps_s(slow) / steps_s(efficiency), strict=True))
    assert ratio["decode"] == pytest.approx(1)
    assert 1.3 < ratio["prompt"] < 2


@pytest.mark.parametrize(
    "name",
    ["memory_ratio", "compute_ratio", "decode_attention_ratio", "prefill_attention_ratio", "issue_s", "host_step_s",
     "host_seq_s"],
)  # fmt: skip
def test_no_part_of_an_engine_that_takes_longer_makes_a_step_shorter(efficiency, name):
    slow = changed(efficiency, **{name: 3 * getattr(efficiency.engine, name)})
    ratio = steps_s(slow) / steps_s(efficiency)
    assert (ratio >= 1 - 1e-12).all()
    assert ratio.max() > 1.001


def test_ranks_of_a_group_cost_the_host(efficiency):
    at = where(config=DeploymentConfig("bf16", tp=4))
    usual, slow = (table(changed(efficiency, host_rank_s=rank_s), at).fixed_s for rank_s in (0.0, 1e-4))
    assert slow - usual == pytest.approx(3e-4 * efficiency.engine.decode_ratio)


def test_an_engine_everywhere_slower_slows_every_step_by_the_factor(efficiency):
    slow = replace(efficiency, engine=efficiency.engine.slower(1.3))
    assert_allclose(steps_s(slow), 1.3 * steps_s(efficiency))


def test_the_ninetieth_percentile_is_slower_by_the_spread(efficiency):
    median, late, early = (steps_s(efficiency, quantile=q) for q in (0.5, 0.9, 0.1))
    assert (late > median).all()
    assert (median > early).all()
    assert_allclose(late / median, math.exp(Z90 * efficiency.engine.spread), rtol=1e-6)
    assert_allclose(late * early, median**2, rtol=1e-6)


def test_planning_values_of_engine_and_host_do_not_touch_a_fitted_table(efficiency):
    other = replace(efficiency, engine_ratio=0.5 * DEFAULT.engine_ratio, host_step_s=10 * DEFAULT.host_step_s)
    assert_allclose(steps_s(other), steps_s(efficiency))


# --- drivers ----------------------------------------------------------------------------------------------------------
def test_the_engine_is_a_driver_and_what_it_knows_is_none(efficiency):
    names = [name for name, _ in uncertain_inputs(*where(), efficiency)]
    assert "engine" in names
    assert not set(NEVER_FITTED) & set(names)
    assert not any(name.endswith("_time_ratio") for name in names)


def test_without_an_engine_the_planning_values_are_the_drivers():
    names = [name for name, _ in uncertain_inputs(*where(), DEFAULT)]
    assert "engine" not in names
    assert {"host_step_s", "graph_launch_s", "gemm_time_ratio"} <= set(names)


def test_the_driver_goes_to_the_tenth_and_ninetieth_percentile(efficiency):
    usual = table(efficiency).step_s(*STEPS["decode"])

    def ratio(chip, other):
        return step_table_build(chip, *where()[1:], efficiency=other).step_s(*STEPS["decode"]) / usual

    ((low, high),) = ((low, high) for name, low, high in drivers_list(*where(), efficiency, ratio) if name == "engine")
    assert high == pytest.approx(math.exp(Z90 * efficiency.engine.spread))
    assert low == pytest.approx(1 / high)


# --- without ----------------------------------------------------------------------------------------------------------
def test_the_planning_values_have_no_engine():
    assert DEFAULT.engine is None
    assert all(getattr(DEFAULT, name) == value for name, (_, value, _) in RANGES.items())


def test_without_an_engine_a_step_pays_the_planning_values_of_the_host():
    assert table(DEFAULT).fixed_s == DEFAULT.host_step_s
    assert table(DEFAULT).decode_s[0] == 0
    late = replace(DEFAULT, host_step_s=DEFAULT.host_step_s + 1e-3)
    assert_allclose(steps_s(late) - steps_s(DEFAULT), 1e-3)
    assert_allclose(steps_s(DEFAULT), [step_table_build(*where()).step_s(*step) for step in STEPS.values()])


def test_an_old_engine_ratio_slows_kernels_only_where_no_engine_is_fitted(efficiency):
    young = replace(DEFAULT, engine_ratio=0.5)
    assert young.time_ratio("gemm") == 2 * DEFAULT.engine_ratio * DEFAULT.time_ratio("gemm")
    fitted_engine = replace(young, engine=efficiency.engine)
    assert fitted_engine.time_ratio("gemm") == DEFAULT.gemm_time_ratio
    assert fitted_engine.time_ratio("collectives") == DEFAULT.collectives_time_ratio
