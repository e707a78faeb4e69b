import math
from dataclasses import replace

import numpy as np
import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.efficiency import DEFAULT
from accelerator.errors import AcceleratorError
from accelerator.memory import memory_fit
from accelerator.operators import DeploymentConfig
from accelerator.power import Activity
from accelerator.profiles import profile_mix
from accelerator.requests import TokenMix
from accelerator.steady import Slo, operating_point, steady_state
from accelerator.steps import StepTable, step_table_build

# 1 ms per token, 0.1 ms per sequence, 1 us per token of context, 1 ns per pair, 2 ms for prompts, 5 ms fixed; at most
# 200 tokens and 200 sequences in a step
TABLE = StepTable(
    linear_s=np.arange(201) * 1e-3,
    decode_s=np.arange(201) * 1e-4,
    context_s_per_tok=np.full(201, 1e-6),
    window_s_per_tok=np.zeros(201),
    prefill_s_per_tok2=1e-9,
    window_s_per_tok2=0.0,
    prefill_s=2e-3,
    fixed_s=5e-3,
    window_tok=0.0,
    activity=Activity(np.zeros(201), 0.65, 0.95, chips=1, idle_w=50.0, tdp_w=500.0),
)
MIX = TokenMix("m", 100.0, 50.0, 125.0, 300.0, 10_000.0, 10, 20.0, 2.0, 1.0)
LOOSE = Slo(ttft_s=100.0, tpot_s=1.0, percentile=0.95)


def test_an_operating_point_by_hand():
    """Ten sequences: 20 prompt tokens and 10 * 10000 / 50 pairs come with every step of 30 tokens."""
    point = operating_point(TABLE, MIX, LOOSE, 10)
    around_s = 10 * 1e-4 + 10 * 125e-6 + 0.005
    tpot_s = 0.030 + around_s + 2000e-9 + 0.002
    assert point.tpot_s == pytest.approx(tpot_s)
    assert point.request_s == pytest.approx(10 / tpot_s / 50)
    assert (point.kv_tok, point.step_tok) == (1250 + 20, 30)
    # chunks of 190: the prompt of 300 takes one of 190 and one of 110, each beside the ten decodes
    read_s = (0.200 + around_s) + (0.120 + around_s) + 1e-9 * 300**2 / 2
    service_s = 100 / 190 * (0.200 + around_s) + 1e-9 * 10_000
    load = point.request_s * service_s
    ca2 = 1 + (4 - 1) * point.request_s / 20
    cs2 = 2 * 10_000 / 100**2 - 1
    wait_s = service_s * (ca2 + cs2) / 2 / (1 - load) * max(0.0, math.log(load / 0.05))
    assert point.ttft_s == pytest.approx(tpot_s + wait_s + read_s)


def test_a_point_beyond_the_step_has_no_latency():
    assert operating_point(TABLE, MIX, LOOSE, 70).tpot_s == math.inf  # 210 tokens
    no_overhead = replace(TABLE, decode_s=np.zeros(201), prefill_s=0.0)
    assert operating_point(no_overhead, MIX, LOOSE, 66.6).ttft_s == math.inf  # prompts fill every step


def test_bursts_wait_longer_and_are_capped():
    calm, bursty, wild = (operating_point(TABLE, replace(MIX, iat_cv=cv), LOOSE, 30).ttft_s for cv in (1, 3, 30))
    assert calm < bursty < wild
    capped = operating_point(TABLE, replace(MIX, iat_cv=math.sqrt(10)), LOOSE, 30).ttft_s
    assert wild == pytest.approx(capped)


def test_a_small_share_of_a_bursty_stream_is_smooth():
    near_poisson = operating_point(TABLE, replace(MIX, iat_cv=3, rate_request_s=1e6), LOOSE, 30).ttft_s
    poisson = operating_point(TABLE, replace(MIX, iat_cv=1), LOOSE, 30).ttft_s
    assert near_poisson == pytest.approx(poisson, rel=1e-4)


def test_a_stricter_percentile_waits_longer():
    waits = [operating_point(TABLE, MIX, replace(LOOSE, percentile=p), 30).ttft_s for p in (0.5, 0.9, 0.95, 0.99)]
    assert waits == sorted(waits)
    assert waits[-1] > waits[1]


@pytest.mark.parametrize("model", ["qwen3-32b", "qwen3-30b-a3b", "gpt-oss-120b"])
def test_token_time_and_memory_only_grow_with_the_batch(model):
    """What makes bisection right: what these limits look at rises together."""
    table = step_table_build(chip_get("h20-96"), model_get(model), DeploymentConfig("fp8", tp=4))
    points = [operating_point(table, profile_mix("azure-conv"), LOOSE, b) for b in np.geomspace(0.05, 200, 40)]
    for name in ("tpot_s", "kv_tok", "step_tok"):
        values = np.array([getattr(point, name) for point in points])
        values = values[np.isfinite(values)]
        assert (np.diff(values) >= -1e-9 * values[1:]).all(), name


@pytest.mark.parametrize("model", ["qwen3-32b", "qwen3-30b-a3b", "gpt-oss-120b"])
def test_rate_and_first_token_grow_with_the_batch(model):
    """What makes bisection right: tokens of a mean batch scatter, so a tile's edge costs a few per cent at most."""
    table = step_table_build(chip_get("h20-96"), model_get(model), DeploymentConfig("fp8", tp=4)).smoothed()
    batches = np.geomspace(0.05, 200, 400)
    points = [operating_point(table, profile_mix("azure-conv"), LOOSE, batch) for batch in batches]
    rates = np.array([point.request_s for point in points])
    assert (rates >= 0.95 * np.maximum.accumulate(rates)).all()
    assert rates[-1] > 50 * rates[0]
    first_s = np.array([point.ttft_s for point in points if math.isfinite(point.ttft_s)])
    assert (first_s >= 0.95 * np.maximum.accumulate(first_s)).all()


@pytest.mark.parametrize(
    ("slo", "config", "binds"),
    [
        (Slo(4, 0.05), DeploymentConfig("fp8", tp=2), "tpot"),
        (Slo(1, 0.5), DeploymentConfig("fp8", tp=2), "ttft"),
        (Slo(60, 5), DeploymentConfig("fp8", tp=2, max_seqs=16), "max_seqs"),
        (Slo(60, 5), DeploymentConfig("bf16"), "memory"),
        (Slo(1e4, 5), DeploymentConfig("fp8", tp=2, max_batched_tok=64), "max_batched_tok"),
    ],
)
def test_the_limit_that_binds_is_named_and_all_limits_hold(slo, config, binds):
    chip, model, mix = chip_get("h20-96"), model_get("qwen3-32b"), profile_mix("azure-conv")
    point, found = steady_state(chip, model, config, mix, slo, DEFAULT)
    assert found == binds
    assert point.tpot_s <= slo.tpot_s
    assert point.ttft_s <= slo.ttft_s
    fit = memory_fit(chip, model, config)
    in_use_tok = mix.context_tok + mix.input_tok / mix.output_tok
    assert point.batch * fit.sequence_byte(in_use_tok) <= fit.kv_byte
    assert point.step_tok <= config.max_batched_tok


def test_the_search_ends_close_to_the_limit_wherever_it_starts():
    args = chip_get("h20-96"), model_get("qwen3-32b"), DeploymentConfig("fp8", tp=2), profile_mix("azure-conv")
    found = [steady_state(*args, Slo(4, 0.05), DEFAULT, near=near)[0].batch for near in (None, 0.1, 20, 28, 30, 250)]
    assert max(found) / min(found) < 1.0003


def test_limits_that_cannot_be_kept_say_which():
    args = chip_get("h20-96"), model_get("qwen3-32b"), DeploymentConfig("fp8", tp=2), profile_mix("azure-conv")
    assert steady_state(*args, Slo(4, 0.001), DEFAULT) == (None, "tpot")
    assert steady_state(*args, Slo(0.01, 1), DEFAULT) == (None, "ttft")


@pytest.mark.parametrize("limits", [(0, 1, 0.9), (1, -1, 0.9), (1, 1, 1.0), (math.nan, 1, 0.9)])
def test_limits_that_make_no_sense_are_refused(limits):
    with pytest.raises(AcceleratorError, match="limits are positive"):
        Slo(*limits)
