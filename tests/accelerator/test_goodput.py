import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from accelerator.architectures import model_get
from accelerator.candidates import BOUND_SLACK, candidates_list, configs_within
from accelerator.chips import chip_get
from accelerator.efficiency import DEFAULT
from accelerator.errors import AcceleratorError
from accelerator.goodput import goodput_search, question_of
from accelerator.grid import STEP_RATIO, STEPS, grid_request_s, grid_step, highest_step
from accelerator.operators import DeploymentConfig
from accelerator.profiles import PROFILES, profile_mix, workload_generate
from accelerator.rating import rating_best
from accelerator.simulation import Plan
from accelerator.simulator import simulate
from accelerator.steady import Slo
from accelerator.steps import step_table_build
from accelerator.streams import stream_draw
from accelerator.trials import CONFIRM_REQUESTS, Layout, trial_of

CONV = profile_mix("azure-conv")
SLO = Slo(2.0, 0.05)


def found(chip="h20-96", model="qwen3-8b", mix=CONV, slo=SLO, **options):
    spec = chip_get(chip) if isinstance(chip, str) else chip
    return goodput_search(spec, model_get(model), mix, slo, **{"host_chips": spec.host_chips, **options})


def trial_at(rating, factor, *, mix=CONV, slo=SLO):
    question = question_of(chip_get(rating.chip), model_get(rating.model), mix, slo)
    layout = Layout(rating.config, rating.replicas, rating.prefill_config, rating.prefill_replicas)
    return question.trial(question.pools(layout), rating.request_s.p50 * factor, requests=question.confirm_requests)


# --- the rate ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("chip", "model", "mix"),
    [
        ("h20-96", "qwen3-32b", "azure-conv"),
        ("thead-ppu-810e", "qwen3-235b-a22b", "azure-conv"),
        ("h200", "qwen3-8b", "r1-reasoning"),
        ("h200", "deepseek-r1", "m-large"),
        ("h200", "qwen3-8b", "azure-code"),
    ],
)
def test_limits_hold_at_the_rate_and_not_three_per_cent_above_it(chip, model, mix):
    mix = profile_mix(mix)
    rating = found(chip, model, mix)
    assert rating.simulated
    held = trial_at(rating, 1.0, mix=mix)
    assert (held.ttft_s, held.tpot_s) == (rating.ttft_s, rating.tpot_s)
    assert held.ttft_s <= SLO.ttft_s
    assert held.tpot_s <= SLO.tpot_s
    assert trial_at(rating, 1.03, mix=mix).over(SLO) > 1
    assert rating.tok_s.p50 == pytest.approx(rating.request_s.p50 * mix.output_tok, rel=0.005)  # the longest are cut


def test_other_requests_of_the_mix_agree_within_a_tenth():
    """The rating is of one draw of the mix; a workload drawn by another seed, with Gamma gaps, says the same."""
    rating = found("h20-96", "qwen3-32b", apart=False)
    question = question_of(chip_get("h20-96"), model_get("qwen3-32b"), CONV, SLO)
    pools = question.pools(Layout(rating.config))

    def over(factor):
        workload = workload_generate(
            "azure-conv", requests=30_000, seed=5, rate_request_s=factor * rating.request_s.p50
        )
        return trial_of(simulate(Plan(pools), workload, keep_requests=True), 0.95).over(SLO)

    assert over(0.9) < 1 < over(1.1)


def test_a_second_search_gives_the_same_rating():
    assert found().as_dict() == found().as_dict()


def test_the_best_config_is_that_of_brute_force():
    """Every config of a small set is rated alone; the search over the set finds the best of them, and its rate."""
    configs = [
        DeploymentConfig("fp8", tp=tp, max_batched_tok=tok, max_seqs=seqs)
        for tp in (1, 2, 4)
        for tok, seqs in ((512, 64), (2048, 128), (8192, 256))
    ]
    alone = {config: found("h20-96", "qwen3-32b", configs=[config]) for config in configs}
    together = found("h20-96", "qwen3-32b", configs=configs)
    best = max(alone.values(), key=lambda rating: rating.tok_s_per_chip)
    assert together.config in {c for c, r in alone.items() if r.tok_s_per_chip > 0.98 * best.tok_s_per_chip}  # ties
    assert together.request_s.p50 == pytest.approx(best.request_s.p50, rel=STEP_RATIO - 1 + 1e-9)


def test_prefill_and_decode_apart_win_where_prompts_disturb_decodes():
    rating, mixed = found("h20-96", "qwen3-32b"), found("h20-96", "qwen3-32b", apart=False)
    assert rating.prefill_config is not None
    assert mixed.prefill_config is None
    assert rating.tok_s_per_chip > 1.1 * mixed.tok_s_per_chip
    assert rating.chips == (
        rating.replicas * rating.config.chips + rating.prefill_replicas * rating.prefill_config.chips
    )
    assert re.fullmatch(r"\d x fp8 tp\d \+ \d x fp8 tp\d", rating.label)


def test_a_simulated_rating_is_not_far_from_the_formula():
    """Percentiles are stricter than means, disaggregation and tuned limits make up for some of it."""
    for chip, model in (("h200", "qwen3-8b"), ("a100-80", "llama-3.1-8b"), ("ascend-910b4", "qwen3-8b")):
        spec = chip_get(chip)
        formula = rating_best(spec, model_get(model), CONV, SLO, host_chips=spec.host_chips)
        assert 0.5 < found(chip, model).tok_s_per_chip / formula.tok_s_per_chip < 1.5, chip


# --- what grows -------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("chip", ["h20-96", "ascend-910b4"])
def test_looser_limits_never_serve_less(chip):
    for slos in (
        [Slo(ttft_s, 0.05) for ttft_s in (0.5, 1, 2, 4)],
        [Slo(2, tpot_s) for tpot_s in (0.02, 0.03, 0.05, 0.1)],
        [Slo(2, 0.05, share) for share in (0.99, 0.95, 0.9)],
    ):
        rates = [
            found(chip, slo=slo, apart=False).request_s.p50 / found(chip, slo=slo, apart=False).chips for slo in slos
        ]
        assert rates == sorted(rates)
        assert rates[-1] > rates[0]


@pytest.mark.parametrize("name", ["memory_byte_s", "memory_byte"])
def test_more_bandwidth_and_more_memory_never_serve_less(name):
    chip = chip_get("a100-40")
    rates = []
    for factor in (0.7, 1.0, 1.4):
        varied = chip.varied(name, getattr(chip, name).value * factor)
        rating = found(varied, "qwen3-32b")
        rates.append(rating.tok_s_per_chip)
    assert rates[0] <= rates[1] * STEP_RATIO
    assert rates[1] <= rates[2] * STEP_RATIO
    assert rates[0] < rates[2]


def test_a_slower_engine_serves_less():
    slow = replace(DEFAULT, engine_ratio=0.7)
    assert found(efficiency=slow).tok_s.p50 < found().tok_s.p50


# --- band, bind, figures ----------------------------------------------------------------------------------------------
def test_the_band_holds_the_rate_and_its_drivers_are_named():
    rating = found("thead-ppu-810e", "qwen3-32b")
    assert 0 < rating.tok_s.p10 < rating.tok_s.p50 < rating.tok_s.p90
    assert "engine" in [name for name, _, _ in rating.drivers]


def test_rates_per_chip_kilowatt_and_dollar():
    rating = found("h20-96", "qwen3-32b")
    assert rating.tok_s_per_chip == pytest.approx(rating.tok_s.p50 / rating.chips)
    assert rating.tok_s_per_kw == pytest.approx(rating.tok_s.p50 / (rating.power_w / 1000))
    assert rating.tok_s_per_usd == pytest.approx(rating.tok_s.p50 / (rating.chips * 13_500))
    assert rating.chips * 65 < rating.power_w < rating.chips * 500
    unknown = found("tpu-v6e", "qwen3-8b")
    assert unknown.tok_s_per_kw == unknown.tok_s_per_usd == 0
    values = json.loads(json.dumps(rating.as_dict(), allow_nan=False))
    assert values["prefill_config"]["label"] == "fp8 tp2"
    assert values["tok_s_per_kw"] == rating.tok_s_per_kw


@pytest.mark.parametrize(
    ("config", "slo", "binds"),
    [
        (DeploymentConfig("fp8", tp=4, max_batched_tok=512, max_seqs=256), Slo(10, 0.03), "tpot"),
        (DeploymentConfig("fp8", tp=4, max_batched_tok=512, max_seqs=4), Slo(2, 0.3), "max_seqs"),
        (DeploymentConfig("fp8", tp=4, max_batched_tok=2048, max_seqs=1024), Slo(1, 1), "ttft"),
    ],
)
def test_what_binds_is_named(config, slo, binds):
    assert found("h20-96", "qwen3-32b", slo=slo, configs=[config]).binds == binds


def test_memory_binds_where_answers_are_long():
    config = DeploymentConfig("fp8", tp=2, max_batched_tok=2048, max_seqs=1024)
    assert found("h20-96", "qwen3-32b", profile_mix("r1-reasoning"), Slo(10, 0.3), configs=[config]).binds == "memory"


# --- refusals ---------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("chip", "model", "options", "reason"),
    [
        ("a100-80", "deepseek-v3", {}, "int8: deepseek-v3 in int8 .* does not fit 8 x a100-80: weights"),
        ("thead-ppu-810e", "qwen3-32b", {"precisions": ["fp8"]}, "does not compute in fp8; it has bf16, int8"),
        ("rtx-pro-6000d", "qwen3-8b", {"precisions": ["bf16"]}, "rtx-pro-6000d does not compute in bf16"),
        ("h20-96", "qwen3-32b", {"slo": Slo(4, 0.002)}, "TPOT cannot be kept under 2 ms even with one sequence"),
        ("h20-96", "qwen3-32b", {"slo": Slo(0.02, 1)}, "TTFT cannot be kept under 0.02 s"),
        ("h20-96", "qwen3-32b", {"mix": replace(CONV, input_p95_tok=50_000)}, "reach 50000 tokens .* reads 40960"),
    ],
)
def test_a_refusal_says_why(chip, model, options, reason):
    rating = found(chip, model, **options)
    assert rating.tok_s.p90 == rating.batch == rating.power_w == rating.tok_s_per_chip == 0
    assert rating.config is None
    assert re.search(reason, rating.refusal), rating.refusal
    assert json.dumps(rating.as_dict(), allow_nan=False)


def test_chips_of_a_host_that_a_layout_cannot_use_count_as_its_own():
    r1 = profile_mix("r1-reasoning")
    strict, loose = (found("inferentia2", "qwen2-57b-a14b", mix=r1, slo=Slo(ttft_s, 0.05)) for ttft_s in (2, 3))
    assert (chip_get("inferentia2").host_chips, strict.chips) == (12, 8)
    for rating in (strict, loose):
        assert rating.counted_chips == 12
        assert rating.tok_s_per_chip == pytest.approx(rating.tok_s.p50 / 12)
        assert rating.as_dict()["counted_chips"] == 12
    assert loose.tok_s_per_chip >= strict.tok_s_per_chip


def test_a_missing_figure_is_named():
    rating = found("hygon-bw1000", "olmo-2-32b")
    assert re.search("hygon-bw1000 has no .*: no figure is published", rating.refusal), rating.refusal


def test_a_mix_of_ones_own_needs_its_workload():
    workload = workload_generate("m-small", requests=2000, seed=1)
    mix = replace(workload.token_mix(), name="ours")
    with pytest.raises(AcceleratorError, match="ours is no built-in profile: its workload is needed"):
        found(mix=mix)
    rating = found(mix=mix, workload=workload)
    assert rating.refusal is None
    assert rating.tok_s.p50 / found(mix=profile_mix("m-small")).tok_s.p50 == pytest.approx(1, abs=0.1)


# --- its parts --------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("above", [-1, 0, 37, 500])
@pytest.mark.parametrize("limit", [-1, 0, 38, 39, 500, 511, 512, 1200, STEPS - 1])
@pytest.mark.parametrize("power", [0.3, 1.0, 5.0])
def test_the_highest_step_is_found_wherever_the_search_starts(above, limit, power):
    for near in (None, 0, 700, STEPS - 1) if above < 0 else (None,):
        tried = []

        def strain(step, tried=tried):
            tried.append(step)
            return STEP_RATIO ** (power * (step - limit - 0.5))

        assert highest_step(strain, above=above, most=STEPS - 1, near=near) == max(above, limit)
        assert len(tried) == len(set(tried)) <= 23


def test_a_wall_is_found_too():
    """Where a step holds easily and the next one not at all, a straight line says little."""
    tried = []
    step = highest_step(
        lambda step: tried.append(step) or (0.4 if step <= 333 else math.inf), above=-1, most=STEPS - 1, near=900
    )
    assert step == 333
    assert len(tried) < 20


def test_no_step_above_the_bound_is_tried():
    tried = []
    assert highest_step(lambda step: tried.append(step) or 0.1, above=3, most=100) == 100
    assert max(tried) <= 100


def test_nothing_is_looked_for_below_what_is_known():
    tried = []
    assert highest_step(lambda step: tried.append(step) or 1.01, above=70, most=100) == 70
    assert tried == [71]


def test_a_rough_search_ends_close_to_the_limit():
    for limit in range(650, 750):
        step = highest_step(
            lambda step, limit=limit: STEP_RATIO ** (step - limit - 0.5), above=-1, most=STEPS, near=700, width=4
        )
        assert limit - 3 <= step <= limit


def test_the_grid_reads_back():
    for step in (0, 1, 700, STEPS - 1):
        assert grid_step(grid_request_s(step) * 1.0001) == step
    assert grid_step(1e-9) == -1


@pytest.mark.parametrize("profile", PROFILES)
def test_a_stream_has_the_means_of_its_mix(profile):
    stream, mix = stream_draw(profile, CONFIRM_REQUESTS), profile_mix(profile)
    drawn = stream.at(10.0, 1.0).token_mix()
    assert drawn.input_tok == pytest.approx(mix.input_tok, rel=0.01)
    assert drawn.output_tok == pytest.approx(mix.output_tok, rel=0.015)
    assert drawn.context_tok == pytest.approx(mix.context_tok, rel=0.06)


@pytest.mark.parametrize("scv", [0.5, 1.0, 3.0, 10.0])
def test_gaps_have_their_variability_and_scale_with_the_rate(scv):
    slow, fast = (stream_draw("azure-conv", 16_384).at(rate, scv).arrival_s for rate in (1.0, 8.0))
    np.testing.assert_allclose(slow, 8 * fast)
    gaps = np.diff(slow)
    assert gaps.mean() == pytest.approx(1)
    assert gaps.var() == pytest.approx(scv, rel=0.15)


def test_a_stream_is_cut_to_the_context_of_the_model():
    stream = stream_draw("r1-reasoning", 8192).cut(4096)
    assert (stream.input_tok + stream.output_tok).max() == 4096
    assert stream.output_tok.min() >= 1
    same = stream_draw("azure-conv", 8192)
    assert same.cut(10**6) is same


def test_bounds_are_bounds():
    """No config serves more than it would if nobody waited, but for what means and tiles leave open."""
    for chip, model in (("h20-96", "qwen3-32b"), ("h200", "qwen3-30b-a3b")):
        question = question_of(chip_get(chip), model_get(model), CONV, SLO)
        candidates, _ = candidates_list(question, None, 8)
        assert [c.request_s for c in candidates] == sorted((c.request_s for c in candidates), reverse=True)
        best = found(chip, model, apart=False)
        assert best.request_s.p50 / best.chips <= candidates[0].request_s
        assert BOUND_SLACK < 1.2


@pytest.mark.parametrize(("tok", "seqs"), [(256, 16), (512, 512), (2048, 128), (4000, 64), (8192, 1024)])
def test_the_beginning_of_a_wider_table_is_a_configs_own(tok, seqs):
    for model, sizes in (("qwen3-32b", {"tp": 2}), ("qwen3-30b-a3b", {"dp": 4, "ep": 4}), ("qwen3-32b", {"pp": 2})):
        question = question_of(chip_get("h20-96"), model_get(model), CONV, SLO)
        config = DeploymentConfig("fp8", max_batched_tok=tok, max_seqs=seqs, **sizes)
        built = step_table_build(question.chip, question.model, config, efficiency=question.efficiency_of(config))
        for part in ("linear_s", "decode_s", "context_s_per_tok", "window_s_per_tok"):
            np.testing.assert_array_equal(getattr(question.table(config), part), getattr(built, part))


def test_an_engine_that_is_faster_than_its_kernels_is_tried_too():
    """Its parts would be busy for longer than they take; they are busy all the time."""
    chip, model = chip_get("ascend-910b1"), model_get("codellama-34b")
    question = question_of(chip, model, CONV, SLO)
    table = question.table(DeploymentConfig("int8", max_batched_tok=2048, max_seqs=64))
    assert (table.activity.linear_busy_s <= table.linear_s).all()
    assert found("ascend-910b1", "codellama-34b").refusal is None


def test_what_varies_without_a_step_leaves_the_table_alone():
    question = question_of(chip_get("h20-96"), model_get("qwen3-32b"), CONV, SLO)
    config = DeploymentConfig("fp8", tp=2)
    whole = question.efficiency_whole(config)
    assert question.table_varied(question.chip, config, replace(whole, memory_use_ratio=0.8)) is question.table(config)
    slow = replace(whole, engine=whole.engine.slower(1.5))
    built = step_table_build(question.chip, question.model, config, efficiency=slow)
    np.testing.assert_allclose(question.table_varied(question.chip, config, slow).linear_s, built.linear_s)


def test_pipeline_stages_are_tried_only_where_nothing_else_fits():
    assert found("l20", "qwen1.5-32b", apart=False).config.pp == 1
    small = chip_get("l20").varied("memory_byte", 14e9)
    rating = found(small, "llama-3.1-70b", mix=profile_mix("m-small"), slo=Slo(20, 1), precisions=["fp8"], apart=False)
    assert rating.refusal is None or "does not fit" in rating.refusal


def test_configs_divide_the_model():
    labels = {config.label for config in configs_within(model_get("qwen3-235b-a22b"), "int8", 16)}
    assert {"int8 tp1", "int8 tp16", "int8 dp8 ep8"} <= labels
    assert all(config.chips <= 8 for config in configs_within(model_get("qwen3-235b-a22b"), "int8", 8))
    with_stages = list(configs_within(model_get("qwen3-32b"), "fp8", 8, stages=2))
    assert {config.chips for config in with_stages} == {2, 4, 8}


def test_a_trial_without_any_service_is_beyond_every_limit():
    rating = found()
    trial = trial_at(rating, 40)
    assert trial.ttft_s == trial.tpot_s == math.inf
    assert step_table_build(chip_get("h20-96"), model_get("qwen3-8b"), rating.config).max_seqs == rating.config.max_seqs
