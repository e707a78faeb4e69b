import json
import math
import re
from dataclasses import replace

import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.errors import AcceleratorError, ModelDoesNotFitError
from accelerator.operators import DeploymentConfig
from accelerator.profiles import profile_mix
from accelerator.rating import configs_list, rating_best, replica_rate
from accelerator.steady import Slo

SLO = Slo(ttft_s=4.0, tpot_s=0.05)
CONV = profile_mix("azure-conv")


def best(chip, model, mix=CONV, slo=SLO, **options):
    spec = chip_get(chip)
    return rating_best(spec, model_get(model), mix, slo, host_chips=spec.host_chips, **options)


def test_a_planner_repeats_the_rating_with_a_calculator():
    """Qwen3-32B in FP8 on two H20-96, Azure conversations; docs/models/roofline.md has the same lines."""
    i, o, x, w, p95 = 1189, 202.5, 1368, 1.605e6, 4085
    gemm_s = 2 * (32.76e9 - 2 * 0.778e9) / 2 / (0.60 * 296e12)  # s per token and chip
    head_s = 2 * 0.778e9 / 2 / (0.60 * 148e12)
    rest_s = 8 * 2 * 5120 * 64 / (0.75 * 4e12)
    link_s = 2 * 64 * 5120 * 2 / (0.60 * 450e9)
    a = 64 * 2 * 4 * 128 * 2 / (0.75 * 4e12)
    b = 4 * 32 * 128 * 64 / (0.45 * 148e12)
    c = 1.5e-3 + 3e-6 * (7 * 64 + 2) + 1e-6 * 2 * 64 * 2
    padding_s = 16 * (gemm_s + head_s)
    per_sequence_s = (1 + i / o) * (gemm_s + head_s + rest_s + link_s) + a * x + b * w / o
    batch = (0.050 - c - padding_s) / per_sequence_s
    request_s = batch / 0.050 / o

    each_s, around_s = gemm_s + rest_s + link_s, 256 * head_s + padding_s + a * batch * x + c
    service_s = i / (8192 - batch) * (8192 * each_s + around_s) + b * w
    load = request_s * service_s
    k = (1 + (1.08**2 - 1) * request_s / 5.9 + 2 * w / i**2 - 1) / 2
    wait_s = service_s * k / (1 - load) * math.log(load / 0.05)
    ttft_s = 0.050 + wait_s + (batch + p95) * each_s + around_s + b * p95**2 / 2

    rating = replica_rate(
        chip_get("h20-96"), model_get("qwen3-32b"), DeploymentConfig("fp8", tp=2), profile_mix("azure-conv"), SLO
    )
    assert rating.binds == "tpot"
    assert rating.batch == pytest.approx(batch, rel=0.01)
    assert rating.request_s.p50 == pytest.approx(request_s, rel=0.01)
    assert rating.tok_s.p50 == pytest.approx(o * request_s, rel=0.01)
    assert rating.ttft_s == pytest.approx(ttft_s, rel=0.02)
    assert (round(batch, 1), round(o * request_s), round(ttft_s, 1)) == (29.3, 587, 3.5)  # as the page prints them


def test_a_rating_keeps_its_limits_and_lies_in_its_band():
    rating = best("h20-96", "qwen3-32b")
    assert rating.refusal is None
    assert rating.tpot_s <= SLO.tpot_s
    assert rating.ttft_s <= SLO.ttft_s
    assert 0 < rating.tok_s.p10 < rating.tok_s.p50 < rating.tok_s.p90
    assert rating.tok_s.p50 == pytest.approx(rating.request_s.p50 * CONV.output_tok)
    assert rating.basis == "data-sheet"


def test_the_best_config_is_best_per_chip_among_those_tried():
    chip, model = chip_get("h100-sxm"), model_get("qwen3-8b")
    winner = best("h100-sxm", "qwen3-8b")
    for config in configs_list(model, winner.config.weight_precision, chip.host_chips):
        assert replica_rate(chip, model, config, CONV, SLO).tok_s_per_chip <= winner.tok_s_per_chip * 1.001


def test_a_precision_the_chip_lacks_leads_to_another():
    assert best("h20-96", "deepseek-v3").config.weight_precision == "fp8"
    assert best("thead-ppu-810e", "deepseek-v3").config.weight_precision == "int8"


@pytest.mark.parametrize(
    ("chip", "model", "options", "reason"),
    [
        ("thead-ppu-810e", "qwen3-32b", {"precisions": ["fp8"]}, "does not compute in fp8; it has bf16, int8"),
        ("a100-80", "deepseek-v3", {}, "int8: deepseek-v3 in int8 .* does not fit 8 x a100-80: weights"),
        ("h20-96", "llama-3.1-70b", {"slo": Slo(4, 0.002)}, "TPOT cannot be kept under 2 ms even with one sequence"),
        ("h20-96", "llama-3.1-70b", {"slo": Slo(0.02, 1)}, "TTFT cannot be kept under 0.02 s"),
        ("h20-96", "qwen3-32b", {"mix": replace(CONV, input_p95_tok=50_000)}, "reach 50000 tokens .* reads 40960"),
    ],
)
def test_a_refusal_says_why(chip, model, options, reason):
    rating = best(chip, model, **options)
    assert rating.tok_s.p90 == rating.batch == rating.power_w == 0
    assert rating.config is None
    assert re.search(reason, rating.refusal), rating.refusal


def test_a_named_config_that_cannot_hold_the_weights_is_an_error():
    with pytest.raises(ModelDoesNotFitError):
        replica_rate(chip_get("h20-96"), model_get("deepseek-v3"), DeploymentConfig("bf16", tp=8), CONV, SLO)


def test_a_mix_without_outputs_is_an_error():
    with pytest.raises(AcceleratorError, match="no output tokens"):
        best("h20-96", "qwen3-8b", mix=replace(CONV, output_tok=0.0))


def test_a_stricter_limit_never_serves_more():
    rates = [best("ascend-910c", "qwen3-32b", slo=Slo(4, tpot_s)).tok_s_per_chip for tpot_s in (0.015, 0.03, 0.05, 0.1)]
    assert rates == sorted(rates)
    assert rates[-1] > 1.3 * rates[0]


def test_reasoning_and_conversation_give_different_answers():
    """Conversations bring 5.9 prompt tokens per answer token, reasoning less than one: more of a step is answers."""
    conversation, reasoning = (best("h20-96", "qwen3-32b", mix=profile_mix(p)) for p in ("azure-conv", "r1-reasoning"))
    assert reasoning.tok_s_per_chip > 2 * conversation.tok_s_per_chip
    assert reasoning.request_s.p50 / reasoning.chips < conversation.request_s.p50 / conversation.chips


def test_the_exchange_of_h20_for_810e_lies_between_the_data_sheets():
    """0.81 where arithmetic binds, 0.59 at mid bandwidth where memory binds: no mix can leave this range by far."""
    for mix in ("azure-conv", "r1-reasoning"):
        ppu, h20 = (best(chip, "qwen3-32b", mix=profile_mix(mix)).tok_s_per_chip for chip in ("ppu-810e", "h20-96"))
        assert 0.5 < ppu / h20 < 0.85


def test_the_digest_follows_every_input():
    args = chip_get("h20-96"), model_get("qwen3-8b"), DeploymentConfig("fp8"), CONV, SLO
    digest = replica_rate(*args).digest
    assert replica_rate(*args).digest == digest
    others = [
        replica_rate(chip_get("h20-141"), *args[1:]),
        replica_rate(*args[:2], DeploymentConfig("int8"), *args[3:]),
        replica_rate(*args[:3], replace(CONV, iat_cv=1.2), SLO),
        replica_rate(*args[:4], Slo(4, 0.051)),
    ]
    assert len({digest, *(other.digest for other in others)}) == 5


def test_a_rating_is_json_ready():
    values = json.loads(json.dumps(best("h20-96", "qwen3-32b").as_dict()))
    assert values["tok_s"]["p10"] < values["tok_s"]["p50"]
    assert values["config"]["label"] == "fp8 tp2"
    assert set(values["drivers"][0]) == {"input", "at_low", "at_high"}
    assert json.loads(json.dumps(best("a100-80", "kimi-k2").as_dict()))["config"] is None
