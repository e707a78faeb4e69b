import math

import numpy as np
import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get, chips_load
from accelerator.efficiency import DEFAULT
from accelerator.errors import MissingFigureError
from accelerator.estimate import step_estimate
from accelerator.operators import DeploymentConfig
from accelerator.power import IDLE_RATIO, Activity, busy_s, chip_powers_w, idle_w
from accelerator.steps import step_table_build


def power_w(chip, batch, context_tok, prefill_tok=0.0, tp=1, precision="bf16"):
    config, model = DeploymentConfig(precision, tp=tp), model_get("llama-3.1-8b")
    return step_estimate(chip_get(chip), model, config, batch, context_tok, prefill_tok=prefill_tok).power_w


# --- idle -------------------------------------------------------------------------------------------------------------
def test_idle_power_is_published_or_a_share_of_tdp():
    assert idle_w(chip_get("h100-sxm")) == chip_get("h100-sxm").idle_w.value
    assert "idle_w" not in chip_get("gaudi3").given
    assert idle_w(chip_get("gaudi3")) == IDLE_RATIO.p50 * 900


def test_the_assumed_idle_share_is_that_of_chips_with_a_published_one():
    known = [chip for chip in chips_load().values() if {"idle_w", "tdp_w"} <= set(chip.given)]
    shares = sorted(chip.idle_w.value / chip.tdp_w.value for chip in known)
    assert len(shares) > 20
    assert IDLE_RATIO.p10 <= np.median(shares) <= IDLE_RATIO.p90


@pytest.mark.parametrize("slug", [slug for slug, chip in chips_load().items() if "tdp_w" in chip.given])
def test_idle_power_never_exceeds_tdp(slug):
    idle, tdp = chip_powers_w(chip_get(slug))
    assert 0 < idle < tdp


def test_a_chip_capped_below_its_idle_power_idles_at_the_cap():
    assert idle_w(chip_get("h100-sxm").varied("tdp_w", 50.0)) == 50


def test_a_chip_without_a_published_tdp_has_no_power():
    chip = chip_get("tpu-v5e")
    assert all(math.isnan(power) for power in chip_powers_w(chip))
    with pytest.raises(MissingFigureError, match="tpu-v5e has no tdp_w: no figure is published"):
        idle_w(chip)


# --- activity ---------------------------------------------------------------------------------------------------------
def test_computing_and_reading_at_once_draw_what_they_add_up_to_and_no_more_than_all():
    """Rows of (time, computing, reading), at 0.95 and 0.65 of full power."""
    parts = np.array([(2.0, 1.0, 0.0), (2.0, 0.0, 1.0), (2.0, 1.0, 1.0), (2.0, 2.0, 2.0)])
    assert busy_s(parts, DEFAULT) == pytest.approx([0.95, 0.65, 1.6, 2.0])


def test_the_energy_of_a_step_by_hand():
    activity = Activity(np.zeros(2), decode_ratio=0.5, prefill_ratio=1.0, chips=4, idle_w=100.0, tdp_w=500.0)
    energy_j = activity.energy_j(step_s=10.0, linear_busy_s=2.0, decode_s=4.0, prefill_s=1.0)
    assert energy_j == 4 * (100 * 10 + 400 * (2 + 2 + 1))
    full_j = activity.energy_j(step_s=10.0, linear_busy_s=20.0, decode_s=4.0, prefill_s=1.0)
    assert full_j == 4 * 500 * 10  # busy for longer than the step is busy all the time


# --- steps ------------------------------------------------------------------------------------------------------------
def test_prefill_runs_near_tdp_and_decode_well_below():
    decode, prefill = power_w("a100-80", 8, 1000), power_w("a100-80", 0, 0, 8000)
    assert 0.8 * 400 < prefill < 400
    assert 55 < decode < 0.75 * 400


def test_a_step_that_only_reads_draws_its_share_above_idle():
    """One sequence on an A100 reads 15.0 GB of weights: at 0.65 of full power, for at least that long."""
    estimate = step_estimate(chip_get("a100-80"), model_get("llama-3.1-8b"), DeploymentConfig("bf16"), 1, 1)
    reading_s = 2 * 7.505e9 / 2.039e12
    assert estimate.power_w > 55 + 345 * 0.65 * reading_s / estimate.time_s
    assert estimate.power_w < 55 + 345 * 0.9


@pytest.mark.parametrize("tp", [1, 4])
@pytest.mark.parametrize("slug", ["a100-80", "h100-sxm", "h20-96", "b200", "mi300x", "ascend-910b3", "thead-ppu-810e"])
def test_power_lies_between_idle_and_tdp_of_all_chips(slug, tp):
    idle, tdp = chip_powers_w(chip_get(slug))
    for step in ((1, 100), (16, 2000, 500), (0, 0, 8000)):
        assert tp * idle < power_w(slug, *step, tp=tp) <= tp * tdp


def test_waiting_draws_less_than_work():
    """Small steps of many chips are launches, links and host: the same model on more chips draws less on each."""
    each = [power_w("h100-sxm", 1, 500, tp=tp) / tp for tp in (1, 2, 4, 8)]
    assert each == sorted(each, reverse=True)


def test_links_draw_nothing_above_idle():
    """Half as many bytes per second over the links make a step longer, and its energy larger by idle power only."""
    chip, model, config = chip_get("h100-sxm"), model_get("llama-3.1-70b"), DeploymentConfig("bf16", tp=8)
    slow = chip.varied("scale_up_byte_s", chip.scale_up_byte_s.value / 2)
    fast_table, slow_table = (step_table_build(spec, model, config) for spec in (chip, slow))
    step = 4096, 0, 0, 4096**2 / 2
    longer_s = slow_table.step_s(*step) - fast_table.step_s(*step)
    assert longer_s > 0.1 * fast_table.step_s(*step)
    assert slow_table.energy_j(*step) - fast_table.energy_j(*step) == pytest.approx(8 * 70 * longer_s)
