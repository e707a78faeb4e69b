import json
import math
import re
from dataclasses import replace

import numpy as np
import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.efficiency import DEFAULT
from accelerator.engines import efficiency_fitted
from accelerator.errors import AcceleratorError, ModelDoesNotFitError
from accelerator.operators import DeploymentConfig
from accelerator.profiles import profile_mix
from accelerator.rating import configs_list, rating_best, replica_rate
from accelerator.sensitivity import drivers_list
from accelerator.serving_calibration import CHIP, PAIR, SHEET, serving_calibration_load
from accelerator.steady import Slo, steady_state
from accelerator.steps import step_table_build
from accelerator.units import Z90
from tests.accelerator.servings import fitted, grid, point_rows, synthetic

SLO = Slo(ttft_s=4.0, tpot_s=0.05)
CONV = profile_mix("azure-conv")


def best(chip, model, mix=CONV, slo=SLO, **options):
    spec = chip_get(chip)
    return rating_best(spec, model_get(model), mix, slo, host_chips=spec.host_chips, **options)


def test_a_planner_repeats_the_rating_from_the_step_table():
    """Qwen3-32B in FP8 on two H20-96, Azure conversations; docs/models/rating.md has the same lines."""
    chip, model, config = chip_get("h20-96"), model_get("qwen3-32b"), DeploymentConfig("fp8", tp=2)
    rating, table = replica_rate(chip, model, config, CONV, SLO), step_table_build(chip, model, config).smoothed()
    i, o, x, w = CONV.input_tok, CONV.output_tok, CONV.context_tok, CONV.prefill_work_tok2
    batch = rating.batch

    def at(values, where):
        return np.interp(where, np.arange(len(values)), values)

    def around_s(batch):  # what a step costs beside its tokens
        seen_tok = batch * x
        return table.fixed_s + at(table.decode_s, batch) + at(table.context_s_per_tok, batch) * seen_tok

    def tpot_s(batch):
        prompts_s = table.prefill_s + table.prefill_s_per_tok2 * batch * w / o
        return at(table.linear_s, batch * (1 + i / o)) + around_s(batch) + prompts_s

    assert rating.binds == "tpot"
    assert rating.tpot_s == pytest.approx(tpot_s(batch))
    assert rating.tpot_s <= SLO.tpot_s < tpot_s(batch * 1.0005)
    assert rating.request_s.p50 == pytest.approx(batch / tpot_s(batch) / o)
    assert rating.tok_s.p50 == pytest.approx(batch / tpot_s(batch))

    chunk_tok = math.floor(8192 - batch)
    assert CONV.input_p95_tok < chunk_tok  # one chunk
    read_s = at(table.linear_s, batch + CONV.input_p95_tok) + around_s(batch)
    read_s += table.prefill_s_per_tok2 * CONV.input_p95_tok**2 / 2
    service_s = i / chunk_tok * (at(table.linear_s, batch + chunk_tok) + around_s(batch)) + table.prefill_s_per_tok2 * w
    load = rating.request_s.p50 * service_s
    k = (1 + (CONV.iat_cv**2 - 1) * rating.request_s.p50 / CONV.rate_request_s + 2 * w / i**2 - 1) / 2
    wait_s = service_s * k / (1 - load) * math.log(load / 0.05)
    assert rating.ttft_s == pytest.approx(tpot_s(batch) + wait_s + read_s)


def test_no_rating_is_faster_than_its_data_sheet():
    """Each step reads the weights once and multiplies every token with them; neither beats the chip's peak."""
    for slug, precision, tp in (("h20-96", "fp8", 2), ("h200", "bf16", 1), ("thead-ppu-810e", "int8", 2)):
        chip, model = chip_get(slug), model_get("qwen3-32b")
        rating = replica_rate(chip, model, DeploymentConfig(precision, tp=tp), CONV, SLO)
        tok = rating.batch * (1 + CONV.input_tok / CONV.output_tok)
        compute_s = (
            2 * (model.params_active - model.vocab * model.hidden) * tok / tp / chip.peak_flop_s[precision].value
        )
        read_s = (model.weights_byte(precision) - 2 * model.vocab * model.hidden) / tp / chip.memory_byte_s.value
        assert max(compute_s, read_s) < rating.tpot_s, slug


def test_a_rating_keeps_its_limits_and_lies_in_its_band():
    rating = best("h20-96", "qwen3-32b")
    assert rating.refusal is None
    assert rating.tpot_s <= SLO.tpot_s
    assert rating.ttft_s <= SLO.ttft_s
    assert 0 < rating.tok_s.p10 < rating.tok_s.p50 < rating.tok_s.p90
    assert rating.tok_s.p50 == pytest.approx(rating.request_s.p50 * CONV.output_tok)


def test_a_rating_says_whether_kernels_of_its_chip_were_measured():
    assert best("h200", "qwen3-32b").basis == "calibrated"
    assert best("thead-ppu-810e", "qwen3-32b").basis == "pooled"
    assert best("a100-80", "kimi-k2").basis == "data-sheet"  # a refusal


def test_the_power_of_a_rating_lies_between_idle_and_tdp_or_is_none():
    rating = best("h20-96", "qwen3-32b")
    assert rating.chips * 65 < rating.power_w < rating.chips * 400
    assert best("tpu-v6e", "qwen3-8b").power_w == 0  # no published TDP


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


# --- with the engines of a calibration --------------------------------------------------------------------------------
@pytest.fixture(scope="module")
def calibration():
    return fitted(synthetic(point_rows(*grid(models=("llama-3.1-8b", "qwen3-8b")))))


@pytest.fixture(scope="module")
def slow_h100():
    rows = point_rows(*grid(models=("llama-3.1-8b", "qwen3-8b")))
    return fitted(synthetic(rows, slower={"h100-sxm": 1.5}))


@pytest.mark.parametrize(
    ("chip", "model", "basis"),
    [("h100-sxm", "qwen3-8b", PAIR), ("h100-sxm", "qwen2.5-7b", CHIP), ("mi300x", "qwen3-8b", SHEET)],
)
def test_a_calibrated_rating_says_what_it_stands_on_and_on_which_calibration(calibration, chip, model, basis):
    rating = best(chip, model, calibration=calibration)
    assert (rating.basis, rating.calibration_digest) == (basis, calibration.digest)
    assert rating.as_dict()["calibration_digest"] == calibration.digest
    assert best(chip, model).calibration_digest == ""
    assert best(chip, model).digest != rating.digest


def test_a_calibrated_rating_is_that_of_the_fitted_engine_of_its_config(calibration):
    chip, model = chip_get("h100-sxm"), model_get("qwen3-8b")
    winner = best("h100-sxm", "qwen3-8b", calibration=calibration)
    efficiency = efficiency_fitted(chip, model, winner.config, calibration)
    assert winner == replica_rate(chip, model, winner.config, CONV, SLO, efficiency=efficiency)
    for config in configs_list(model, winner.config.weight_precision, chip.host_chips):
        efficiency = efficiency_fitted(chip, model, config, calibration)
        other = replica_rate(chip, model, config, CONV, SLO, efficiency=efficiency)
        assert other.tok_s_per_chip <= winner.tok_s_per_chip * 1.001


def test_a_chip_that_was_measured_slower_is_rated_lower_and_others_nearly_as_before(calibration, slow_h100):
    ratio = {
        chip: best(chip, "qwen3-8b", calibration=slow_h100).tok_s_per_chip
        / best(chip, "qwen3-8b", calibration=calibration).tok_s_per_chip
        for chip in ("h100-sxm", "h200")
    }
    assert ratio["h100-sxm"] < 0.8
    assert ratio["h200"] > ratio["h100-sxm"] + 0.1


def test_the_band_of_a_calibrated_rating_is_the_spread_of_its_engine_and_no_prior_of_one(calibration):
    """Every figure of an H100 is exact: where memory does not bind, nothing but its engine is uncertain."""
    chip, model = chip_get("h100-sxm"), model_get("qwen3-8b")
    rating = best("h100-sxm", "qwen3-8b", calibration=calibration)
    assert [name for name, *_ in rating.drivers] == ["engine"]
    efficiency = efficiency_fitted(chip, model, rating.config, calibration)
    for side, end in ((1, rating.tok_s.p10), (-1, rating.tok_s.p90)):
        engine = efficiency.engine.slower(math.exp(side * Z90 * efficiency.engine.spread))
        alone = replica_rate(chip, model, rating.config, CONV, SLO, efficiency=replace(efficiency, engine=engine))
        assert alone.tok_s.p50 == pytest.approx(end, rel=2e-3)


def test_ranges_of_a_data_sheet_count_beside_the_spread_of_the_engine_squared(calibration):
    rating = best("thead-ppu-810e", "qwen3-8b", calibration=calibration)
    names = [name for name, *_ in rating.drivers]
    assert {"engine", "memory_byte_s"} <= set(names)
    assert not {"engine_ratio", "host_step_s", "graph_launch_s", "gemm_time_ratio"} & set(names)
    losses = [min(low, high, 1.0) for _, low, high in rating.drivers]
    assert rating.tok_s.p10 / rating.tok_s.p50 == pytest.approx(math.exp(-math.hypot(*map(math.log, losses))))


def test_the_band_of_a_chip_that_was_not_measured_is_wider_than_that_of_a_measured_pair():
    """An H20 with 141 GB is the one with 96 GB but for its memory: of the published fit only the latter has rows."""
    pair, sheet = (best(chip, "qwen3-32b", calibration=serving_calibration_load()) for chip in ("h20-96", "h20-141"))
    assert (pair.basis, sheet.basis) == (PAIR, SHEET)
    assert sheet.tok_s.p90 / sheet.tok_s.p10 > 1.5 * pair.tok_s.p90 / pair.tok_s.p10


def test_a_refusal_follows_the_calibration_too(calibration, slow_h100):
    strict = Slo(4, 0.0005)
    fast, slow, planned = (
        best("h100-sxm", "qwen3-8b", slo=strict, calibration=one) for one in (calibration, slow_h100, None)
    )
    assert all(one.refusal for one in (fast, slow, planned))
    assert len({fast.digest, slow.digest, planned.digest}) == 3
    assert (fast.calibration_digest, planned.calibration_digest) == (calibration.digest, "")


@pytest.mark.parametrize(
    ("chip", "memory_ratio", "model", "config", "mix", "binds"),
    [
        ("h20-96", 1.0, "deepseek-r1", DeploymentConfig("fp8", tp=8), "r1-reasoning", "memory"),
        ("h20-96", 1.0, "qwen3-32b", DeploymentConfig("fp8", tp=2), "azure-conv", "tpot"),
        ("h200", 0.99, "qwen2.5-72b", DeploymentConfig("fp8"), "r1-reasoning", "tpot"),  # memory is next
        ("a100-80", 1.0, "llama-3.1-70b", DeploymentConfig("int8"), "azure-code", "tpot"),  # less memory holds nothing
    ],
)
def test_inputs_that_only_change_what_fits_are_drivers_as_if_each_were_worked_out(
    chip, memory_ratio, model, config, mix, binds
):
    spec = chip_get(chip)
    where = spec.varied("memory_byte", memory_ratio * spec.memory_byte.value), model_get(model), config
    rating = replica_rate(*where, profile_mix(mix), SLO)
    assert rating.binds == binds

    def ratio(chip, efficiency):
        try:
            point, _ = steady_state(chip, *where[1:], profile_mix(mix), SLO, efficiency, precision=1e-4)
        except ModelDoesNotFitError:
            return 0.0
        return point.request_s / rating.request_s.p50

    said = {name: sides for name, *sides in rating.drivers}
    worked = {name: sides for name, *sides in drivers_list(*where, DEFAULT, ratio, least=0.0)}
    assert set(said) <= set(worked)
    for name, sides in worked.items():
        assert said.get(name, (1.0, 1.0)) == pytest.approx(sides, abs=3e-3), name
