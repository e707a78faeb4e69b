"""Samples of a peak hour: what is judged, how samples differ, how few replicas stand for many."""

import math
from dataclasses import replace

import numpy as np
import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.efficiency import DEFAULT
from accelerator.errors import AcceleratorError, ConfigError
from accelerator.operators import DeploymentConfig
from accelerator.profiles import profile_mix, workload_generate
from accelerator.rating import rating_best
from accelerator.samples import (
    DOWN_STEPS,
    REQUESTS_LEAST,
    REQUESTS_MOST,
    Sample,
    Slice,
    configs_open,
    decodes_open,
    hour_of,
    pools_across,
    prompt_factor,
    quantile_least,
    quantiles_weighted,
    replicas_whole,
    slice_best,
)
from accelerator.simulation import Pool, Role
from accelerator.steady import Slo
from accelerator.streams import STREAM_SEED, stream_draw
from accelerator.trials import Layout, Question
from tests.accelerator.simulations import table

SLO = Slo(2.0, 0.05)
CONV = profile_mix("azure-conv")
CONFIG = DeploymentConfig("fp8", tp=2, max_batched_tok=2048, max_seqs=64)


def question(chip="h20-96", model="qwen3-8b", mix=CONV, slo=SLO, **more):
    return Question(chip_get(chip), model_get(model), mix, slo, given=DEFAULT, **more)


def alone(request_s=4.0, config=CONFIG, **more):
    asked = question(**more)
    return Slice(asked.pools(Layout(config)), asked, request_s, "chat")


def sample(ttft_s, tpot_s, *, overload=""):
    ttft_s, tpot_s = (np.array(values, dtype=float) for values in (ttft_s, tpot_s))
    return Sample(np.arange(len(ttft_s)), ttft_s, tpot_s, np.full(len(ttft_s), 5), overload)


# --- what is judged ---------------------------------------------------------------------------------------------------
def test_an_hour_of_a_replica_is_judged_behind_what_fills_it_and_before_what_keeps_it_full():
    hour = hour_of(CONV, 2.0)
    assert hour.judged == 7200
    assert hour.lead == math.ceil(2 * 120)  # two minutes, or half a second per token of the answer
    assert hour.tail == hour.lead // 2
    assert hour.count == hour.lead + hour.judged + hour.tail
    assert (hour.slice.start, hour.slice.stop) == (hour.lead, hour.lead + hour.judged)


def test_long_answers_take_longer_to_fill_a_replica():
    r1 = profile_mix("r1-reasoning")
    assert hour_of(r1, 2.0).lead == math.ceil(2 * r1.output_tok / 2) > hour_of(CONV, 2.0).lead


def test_slow_replicas_are_looked_at_for_longer_and_fast_ones_for_less_than_an_hour():
    assert hour_of(CONV, 0.01).judged == REQUESTS_LEAST
    assert hour_of(CONV, 100.0).judged == REQUESTS_MOST


def test_what_is_refused_or_cut_took_infinitely_long_and_so_did_all_of_its_tokens():
    pool = Pool("p", table(max_batched_tok=8, max_seqs=4, token_s=1e-6), context_most_tok=2000)
    asked = question()
    slice_ = Slice([pool], asked, 4.0, "chat")
    taken = slice_.sample(1, 0)
    drawn = slice_._stream(slice_.hour.count, 1, 0)
    over = (drawn.input_tok + drawn.output_tok)[slice_.hour.slice] > 2000
    assert 0.1 < over.mean() < 0.5
    assert (np.isinf(taken.ttft_s) == over).all()
    assert (np.isinf(taken.tpot_s) == over)[taken.output_tok > 1].all()
    assert taken.strain(SLO) == math.inf


def test_answers_of_one_token_have_no_time_per_later_token():
    taken = alone(mix=profile_mix("azure-code"), request_s=1.0).sample(1, 0)
    assert (np.isnan(taken.tpot_s) == (taken.output_tok <= 1)).all()


def test_strain_is_one_at_the_limits():
    assert sample([2.0] * 100, [0.05] * 100).strain(SLO) == pytest.approx(1)
    assert sample([0.1] * 100, [0.06] * 100).strain(SLO) == pytest.approx(1.2)
    assert sample([16.0] * 100, [0.01] * 100).strain(SLO) == pytest.approx(2)  # by its third root
    assert sample([0.1] * 100, [0.01] * 100, overload="the queue grew").strain(SLO) == math.inf


# --- common random numbers --------------------------------------------------------------------------------------------
def test_a_sample_is_the_same_whenever_it_is_taken_and_others_are_others():
    one, again, other, seeded = (alone().sample(seed, number) for seed, number in ((1, 0), (1, 0), (1, 1), (2, 0)))
    assert (one.ttft_s == again.ttft_s).all()
    assert (one.output_tok != other.output_tok).any()
    assert (one.output_tok != seeded.output_tok).any()


def test_a_share_of_the_rate_has_the_same_requests_further_apart():
    whole, half = alone().sample(1, 0), alone().sample(1, 0, share=0.5)
    assert (whole.output_tok == half.output_tok).all()
    gaps = np.diff(half.arrival_s).mean() / np.diff(whole.arrival_s).mean()
    assert gaps == pytest.approx(2, rel=0.01)
    assert half.strain(SLO) < whole.strain(SLO)


def test_streams_of_another_seed_have_the_same_lengths_in_another_order():
    usual, other = stream_draw("azure-conv", 4096), stream_draw("azure-conv", 4096, 7)
    assert (stream_draw("azure-conv", 4096, STREAM_SEED).input_tok == usual.input_tok).all()
    assert (np.sort(other.input_tok) == np.sort(usual.input_tok)).all()
    assert (other.input_tok != usual.input_tok).any()


def test_recorded_requests_are_drawn_from_the_workload_and_other_mixes_are_refused():
    recorded = workload_generate("azure-conv", requests=3000, seed=3)
    mix = replace(recorded.token_mix(), name="ours")
    lengths = set(zip(recorded.input_tok.tolist(), recorded.output_tok.tolist(), strict=True))
    drawn = alone(mix=mix, workload=recorded).sample(1, 0)
    assert set(drawn.output_tok.tolist()) <= {output for _, output in lengths}
    with pytest.raises(AcceleratorError, match="mix ours is no built-in profile"):
        alone(mix=mix).sample(1, 0)


# --- the rate that holds ----------------------------------------------------------------------------------------------
def test_the_rate_that_holds_does_and_one_step_more_does_not():
    too_fast = alone(request_s=60.0)
    share = too_fast.held_ratio(1, 0)
    assert 0.05 < share < 1
    assert too_fast.sample(1, 0, share=share, stops=True).strain(SLO) <= 1
    assert too_fast.sample(1, 0, share=share * 1.01, stops=True).strain(SLO) > 1


def test_no_rate_above_the_planned_one_is_looked_for_and_none_may_hold():
    assert alone(request_s=0.5).held_ratio(1, 0) == 1.0
    assert alone(slo=Slo(2.0, 1e-4)).held_ratio(1, 0) == 0.0
    assert alone(request_s=0.5).held_step(1, 0) == DOWN_STEPS


def test_of_open_limits_the_ones_that_hold_most_are_taken():
    asked = question("h20-96", "qwen3-32b")
    rating = rating_best(asked.chip, asked.model, CONV, SLO, host_chips=8)
    configs = configs_open(asked, rating.config, 8)
    assert len(configs) > 3
    slices = [Slice(asked.pools(Layout(c)), asked, rating.request_s.p50, "chat") for c in configs]
    best = slice_best(slices, 1)
    assert best.held_ratio(1, 0) == max(one.held_ratio(1, 0) for one in slices)
    assert slice_best(slices[:1], 1) is slices[0]


def test_a_config_that_the_formula_refuses_keeps_its_usual_limits():
    config = DeploymentConfig("bf16", tp=1)
    assert configs_open(question(model="deepseek-r1"), config, 8) == [config]  # does not fit
    assert configs_open(question(slo=Slo(2.0, 1e-4)), config, 8) == [config]


# --- prompts and answers apart ----------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("reading", "writing", "found"),
    [(1, 3, (1, 3)), (2.5, 10, (1, 4)), (6, 4, (3, 2)), (0.3, 0.3, (1, 1)), (1, 46, (1, 46)), (1, 1000, (1, 47))],
)
def test_few_replicas_stand_to_one_another_as_those_of_the_plan(reading, writing, found):
    assert replicas_whole(reading, writing) == found
    assert replicas_whole(writing, reading) == found[::-1]


def test_any_proportion_is_met_to_within_two_per_cent():
    for reading in np.linspace(1, 12, 67):
        reads, writes = replicas_whole(float(reading), 4.0)
        assert reads / writes == pytest.approx(reading / 4, rel=0.0201)


def test_a_phase_without_replicas_is_refused():
    with pytest.raises(ConfigError, match="need replicas"):
        replicas_whole(0.0, 1.0)


def test_a_cache_goes_over_the_network_of_the_slower_side():
    """By hand: 36 layers, keys and values, 8 heads of 128, two bytes; H20 and 810E have 200 and 283 Gbit/s a chip."""
    reading, writing = question("thead-ppu-810e"), question("h20-96")
    pools = pools_across(reading, DeploymentConfig("int8", tp=2), 3, writing, CONFIG, 5)
    assert [(pool.role, pool.replicas) for pool in pools] == [(Role.PREFILL, 3), (Role.DECODE, 5)]
    assert pools[0].transfer_s_per_tok == pytest.approx(36 * 2 * 8 * 128 * 2 / (2 * 200e9 / 8), rel=1e-6)


def test_fewer_replicas_are_loaded_alike():
    asked = question()
    pools = pools_across(asked, CONFIG, 4, asked, CONFIG, 16)
    many = Slice(pools, asked, 100.0, "chat")
    few = many.fewer(12)
    assert [pool.replicas for pool in few.pools] == [1, 4]
    assert few.request_s == pytest.approx(25)
    assert many.fewer(20) is many
    assert alone().fewer(1).request_s == 4.0


def test_decoding_replicas_are_tried_with_the_batch_that_the_limit_allows_and_others():
    configs = decodes_open(question(), CONFIG)
    assert len({config.max_seqs for config in configs}) == len(configs) >= 2


# --- a cache that is lost ---------------------------------------------------------------------------------------------
def test_losing_the_hits_multiplies_prompts_until_the_cache_is_warm():
    """56.25 % of hits lost: 1 / (1 - 0.5625) = 2.29 times the prompts; after one time constant 1.47."""
    factor = prompt_factor(np.array([0.0, 600.0, 1e6]), 0.5625, 600.0)
    assert factor[0] == pytest.approx(2.2857, abs=1e-4)
    assert factor[1] == pytest.approx((1 - 0.5625 * (1 - math.exp(-1))) / 0.4375)
    assert factor[2] == pytest.approx(1)
    assert (prompt_factor(np.array([0.0, 9.0]), 0.0, 600.0) == 1).all()


def test_a_cold_cache_makes_the_first_tokens_late():
    def ttft_s(hit_ratio):
        taken = alone().first_hour(1, 0, hit_ratio=hit_ratio, warm_s=600.0, requests=4000)
        return quantile_least(taken.ttft_s, 0.95)

    assert ttft_s(0.5625) > 1.5 * ttft_s(0.0)


def test_the_first_hour_is_as_long_as_an_hour_or_its_requests():
    assert len(alone(request_s=0.5).first_hour(1, 0, hit_ratio=0.5, warm_s=600.0, requests=9999).ttft_s) == 1800
    assert len(alone(request_s=5.0).first_hour(1, 0, hit_ratio=0.5, warm_s=600.0, requests=999).ttft_s) == 999


# --- quantiles --------------------------------------------------------------------------------------------------------
def test_a_quantile_is_the_least_value_that_a_share_does_not_exceed():
    values = np.array([4.0, 1.0, 3.0, 2.0])
    assert [quantile_least(values, share) for share in (0.0, 0.25, 0.26, 0.95, 1.0)] == [1, 1, 2, 4, 4]
    assert quantile_least(np.zeros(0), 0.5) == 0


def test_with_weights_alike_a_weighted_quantile_is_the_plain_one():
    values = np.random.default_rng(3).exponential(size=1000)
    shares = (0.1, 0.5, 0.95, 0.99, 1.0)
    assert quantiles_weighted(values, np.full(1000, 0.25), shares) == [quantile_least(values, s) for s in shares]


def test_weights_say_how_often_a_value_counts():
    assert quantiles_weighted(np.array([1.0, 2.0, np.inf]), np.array([3.0, 1.0, 1.0]), (0.6, 0.8, 0.9)) == [
        1,
        2,
        math.inf,
    ]
    assert quantiles_weighted(np.zeros(0), np.zeros(0), (0.5,)) == [0]
