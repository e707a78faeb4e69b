"""The band of a simulated rating: futures with another engine, in which the layout is chosen again."""

import math

import pytest

from accelerator.architectures import model_get
from accelerator.band import RateRatio
from accelerator.candidates import apart_candidates, candidates_list
from accelerator.chips import chip_get
from accelerator.goodput import goodput_search, question_of
from accelerator.grid import grid_step
from accelerator.profiles import profile_mix
from accelerator.steady import Slo
from accelerator.trials import Layout
from accelerator.units import Z90

CONV = profile_mix("azure-conv")


def rated(chip, model, slo):
    """A rating, its ratio with the choice that it had, and its ratio without any other."""
    spec = chip_get(chip)
    question = question_of(spec, model_get(model), CONV, slo)
    rating = goodput_search(spec, model_get(model), CONV, slo, host_chips=spec.host_chips, question=question)
    layout = Layout(rating.config, rating.replicas, rating.prefill_config, rating.prefill_replicas)
    found, _ = candidates_list(question, None, spec.host_chips)
    found += apart_candidates(question, [one.layout.config for one in found], spec.host_chips)
    step = grid_step(rating.request_s.p50 / layout.host_share_chips(spec.host_chips) * 1.001)
    free, bound = (
        RateRatio(question, layout, candidates, step=step, host_chips=spec.host_chips, binds=rating.binds)
        for candidates in (found, [])
    )
    spread = question.efficiency_whole(rating.config).engine.spread
    return rating, free, bound, math.exp(Z90 * spread)


@pytest.mark.parametrize(
    ("chip", "model"), [("h20-96", "qwen3-32b"), ("thead-ppu-810e", "qwen3-8b"), ("a100-80", "llama-3.1-8b")]
)
def test_a_future_is_what_a_whole_search_finds_in_it(chip, model):
    """Steps that are all slower by a factor are limits that are all shorter by it."""
    slo = Slo(2.0, 0.1)
    rating, ratio, _, factor = rated(chip, model, slo)
    for times in (factor, 1 / factor):
        hurried = Slo(slo.ttft_s / times, slo.tpot_s / times)
        spec = chip_get(chip)
        whole = goodput_search(spec, model_get(model), CONV, hurried, host_chips=spec.host_chips)
        expected = whole.tok_s_per_chip / times / rating.tok_s_per_chip
        assert ratio.engine_ratio(times) == pytest.approx(expected, rel=0.2), times


def test_who_knows_the_engine_chooses_better():
    """Where the engine is slow, more chips a replica keep a TPOT that the usual choice hardly keeps."""
    gains = []
    for tpot_s in (0.07, 0.1):
        _, free, bound, factor = rated("thead-ppu-810e", "qwen3-235b-a22b", Slo(2.0, tpot_s))
        for times in (factor, 1.3, 1 / 1.3, 1 / factor):
            one, other = (ratio.engine_ratio(times) for ratio in (free, bound))
            assert one >= other
            gains.append(one / other if other else 1.0)
    assert max(gains) > 1.05


@pytest.mark.parametrize("tpot_s", [0.03, 0.05, 0.1])
@pytest.mark.parametrize("chip", ["thead-ppu-810e", "h200", "a100-80"])
def test_a_band_holds_its_rate(chip, tpot_s):
    spec = chip_get(chip)
    for model in ("qwen3-8b", "qwen3-30b-a3b"):
        rating = goodput_search(spec, model_get(model), CONV, Slo(2.0, tpot_s), host_chips=spec.host_chips)
        assert rating.tok_s.p10 <= rating.tok_s.p50 <= rating.tok_s.p90


def test_slower_engines_never_serve_more():
    _, ratio, _, _ = rated("h20-96", "qwen3-32b", Slo(2.0, 0.05))
    ratios = [ratio.engine_ratio(factor) for factor in (0.6, 0.8, 1.25, 1.6, 40.0)]
    assert ratios == sorted(ratios, reverse=True)
    assert ratios[1] >= 1 >= ratios[2]
    assert ratios[-1] == 0
