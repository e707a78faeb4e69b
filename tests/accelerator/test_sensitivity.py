import math

import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.efficiency import DEFAULT
from accelerator.estimate import step_estimate
from accelerator.operators import DeploymentConfig
from accelerator.profiles import profile_mix
from accelerator.rating import rating_best, replica_rate
from accelerator.roofline import spreads
from accelerator.sensitivity import band_of, drivers_list, uncertain_inputs
from accelerator.steady import Slo
from accelerator.units import Z90, Band

SLO = Slo(4.0, 0.05)
FP8, INT8 = DeploymentConfig("fp8", tp=2), DeploymentConfig("int8", tp=4)


def rate(chip, config, mix="r1-reasoning"):
    return replica_rate(chip_get(chip), model_get("qwen3-32b"), config, profile_mix(mix), SLO)


def step(chip, config, model="qwen3-32b", batch=32, **prompt):
    return step_estimate(chip_get(chip) if isinstance(chip, str) else chip, model_get(model), config, batch, 2000,
                         **prompt)  # fmt: skip


# --- the band ---------------------------------------------------------------------------------------------------------
def test_effects_add_up_squared_in_the_logarithm():
    band = band_of(10.0, [("x", math.exp(-0.3), math.exp(0.1)), ("y", math.exp(0.2), math.exp(-0.4))])
    assert band.p10 == pytest.approx(10 * math.exp(-0.5))
    assert band.p90 == pytest.approx(10 * math.exp(math.hypot(0.1, 0.2)))
    assert band_of(10.0, []) == Band.exact(10.0)


def test_a_side_that_serves_nothing_leaves_a_finite_band():
    assert band_of(10.0, [("x", 0.0, 1.0)]).p10 == pytest.approx(0.5)


# --- one input at a time ----------------------------------------------------------------------------------------------
def test_an_input_moves_alone_and_to_its_tenth_and_ninetieth_percentile():
    chip, model = chip_get("thead-ppu-810e"), model_get("qwen3-32b")
    spread = spreads(chip, model, INT8)
    for name, vary in uncertain_inputs(chip, model, INT8):
        (low_chip, low), (high_chip, high) = (vary(side, DEFAULT) for side in (0, 1))
        changed = {
            field
            for field in DEFAULT.__slots__
            if getattr(low, field) != getattr(DEFAULT, field) or getattr(high, field) != getattr(DEFAULT, field)
        }
        if name.endswith("_time_ratio"):
            assert changed == {name}
            part = name.removesuffix("_time_ratio")
            assert getattr(high, name) == pytest.approx(math.exp(Z90 * spread[part]))
            assert getattr(low, name) * getattr(high, name) == pytest.approx(1)
        elif changed:
            assert changed == {name}
        else:
            figures = [spec.figures() for spec in (low_chip, high_chip)]
            assert figures[0] != figures[1]
            assert low == high == DEFAULT


def test_effects_below_the_precision_of_the_answer_are_left_out():
    chip, model = chip_get("h200"), model_get("qwen3-32b")
    assert drivers_list(chip, model, FP8, DEFAULT, lambda chip, efficiency: 1.0005) == ()
    rows = drivers_list(chip, model, FP8, DEFAULT, lambda chip, eff: eff.host_step_s / DEFAULT.host_step_s)
    assert [name for name, *_ in rows] == ["host_step_s"]


def test_drivers_are_sorted_by_effect_and_move_the_right_way():
    drivers = step("h20-96", FP8).drivers
    sizes = [max(abs(math.log(low)), abs(math.log(high))) for _, low, high in drivers]
    assert sizes == sorted(sizes, reverse=True)
    by_name = {name: (low, high) for name, low, high in drivers}
    for name in ("gemm_time_ratio", "attention_time_ratio", "host_step_s", "collectives_time_ratio"):
        assert by_name[name][0] < 1 < by_name[name][1], name


def test_a_rating_moves_against_the_time_of_its_parts():
    by_name = {name: (low, high) for name, low, high in rate("h200", FP8).drivers}
    for name in ("gemm_time_ratio", "attention_time_ratio", "host_step_s"):
        low, high = by_name[name]
        assert low > 1 > high, name


# --- which inputs are uncertain ---------------------------------------------------------------------------------------
def test_the_unknown_bandwidth_of_the_810e_drives_its_steps():
    names = [name for name, *_ in step("thead-ppu-810e", INT8, batch=1).drivers]
    assert {"memory_byte_s", "engine_ratio"} < set(names)
    exact = [name for name, *_ in step("h20-96", FP8, batch=1).drivers]
    assert "memory_byte_s" not in exact  # published, so no range
    assert "engine_ratio" not in exact  # not homegrown


def test_one_chip_has_no_links_to_be_unsure_of():
    names = [name for name, *_ in step("h200", DeploymentConfig("fp8")).drivers]
    assert names
    assert not any(name.startswith(("collectives", "scale_up")) for name in names)
    assert "collectives_time_ratio" in [name for name, *_ in step("h200", FP8).drivers]


def test_only_models_with_experts_depend_on_the_fit_of_experts():
    assert "experts" not in spreads(chip_get("h200"), model_get("qwen3-32b"), FP8)
    assert "experts" in spreads(chip_get("h200"), model_get("qwen3-30b-a3b"), FP8)


def test_parts_of_a_chip_that_was_measured_are_known_better():
    model, config = model_get("qwen3-32b"), DeploymentConfig("bf16", tp=2)
    measured, pooled = (spreads(chip_get(chip), model, config) for chip in ("h100-sxm", "thead-ppu-810e"))
    assert all(0 < value < 1 for value in (*measured.values(), *pooled.values()))
    for part in ("gemm", "attention"):
        assert measured[part] < pooled[part], part


def test_a_range_widens_the_band_of_a_chip_that_is_else_the_same():
    """The figures of one chip at one central value, once as ranges and once exact."""
    vague = chip_get("thead-ppu-810e")
    value = vague.memory_byte_s.value
    exact = vague.varied("memory_byte_s", 2 * value).varied("memory_byte_s", value)
    assert exact.memory_byte_s.exact
    bands = [step(chip, DeploymentConfig("bf16"), batch=1).band_s for chip in (exact, vague)]
    assert bands[0].p50 == bands[1].p50
    assert bands[1].p10 < bands[0].p10
    assert bands[1].p90 > bands[0].p90


def test_a_chip_with_fewer_known_figures_has_the_wider_band():
    model, mix = model_get("qwen3-32b"), profile_mix("azure-conv")
    known, vague = (rating_best(chip_get(c), model, mix, SLO, host_chips=8) for c in ("h200", "mlu590"))
    spread = [math.log(rating.tok_s.p90 / rating.tok_s.p10) for rating in (known, vague)]
    assert spread[1] > 1.2 * spread[0]
