import math

import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.operators import DeploymentConfig
from accelerator.profiles import profile_mix
from accelerator.rating import rating_best, replica_rate
from accelerator.sensitivity import band_of
from accelerator.steady import Slo
from accelerator.units import Band

SLO = Slo(4.0, 0.05)


def rate(chip, config, mix="r1-reasoning"):
    return replica_rate(chip_get(chip), model_get("qwen3-32b"), config, profile_mix(mix), SLO)


def test_effects_add_up_squared_in_the_logarithm():
    band = band_of(10.0, [("x", math.exp(-0.3), math.exp(0.1)), ("y", math.exp(0.2), math.exp(-0.4))])
    assert band.p10 == pytest.approx(10 * math.exp(-0.5))
    assert band.p90 == pytest.approx(10 * math.exp(math.hypot(0.1, 0.2)))
    assert band_of(10.0, []) == Band.exact(10.0)


def test_a_side_that_serves_nothing_leaves_a_finite_band():
    assert band_of(10.0, [("x", 0.0, 1.0)]).p10 == pytest.approx(0.5)


def test_drivers_are_sorted_by_effect_and_move_the_right_way():
    drivers = rate("h20-96", DeploymentConfig("fp8", tp=2)).drivers
    sizes = [max(abs(math.log(low)), abs(math.log(high))) for _, low, high in drivers]
    assert sizes == sorted(sizes, reverse=True)
    by_name = {name: (low, high) for name, low, high in drivers}
    assert by_name["gemm_flop_ratio"][0] < 1 < by_name["gemm_flop_ratio"][1]
    assert by_name["host_step_s"][0] > 1 > by_name["host_step_s"][1]


def test_the_unknown_bandwidth_of_the_810e_drives_its_rating():
    names = [name for name, *_ in rate("thead-ppu-810e", DeploymentConfig("int8", tp=4)).drivers]
    assert "memory_byte_s" in names
    assert "engine_ratio" in names
    exact = [name for name, *_ in rate("h20-96", DeploymentConfig("fp8", tp=4)).drivers]
    assert "memory_byte_s" not in exact  # published, so no range
    assert "engine_ratio" not in exact  # not homegrown


def test_one_chip_has_no_links_to_be_unsure_of():
    drivers = rate("h200", DeploymentConfig("fp8")).drivers
    assert drivers
    assert not any(name.startswith(("link", "scale_up")) for name, *_ in drivers)


def test_a_chip_with_fewer_known_figures_has_the_wider_band():
    model, mix = model_get("qwen3-32b"), profile_mix("azure-conv")
    known, vague = (rating_best(chip_get(c), model, mix, SLO, host_chips=8) for c in ("h200", "mlu590"))
    spread = [math.log(rating.tok_s.p90 / rating.tok_s.p10) for rating in (known, vague)]
    assert spread[1] > 1.2 * spread[0]
