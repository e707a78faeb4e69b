"""Predictions of the published fit beside published cases: what the fitted engines say of services that are known.

A published figure stands here as a fact, with its source; a prediction is asked for in the way an operator would, as a
row of ``python -m accelerator predict``. Tolerances are those that planners accept: 10 % on a pair of chip and model
that was measured, 25 % on one that was not and is said not to be, 5 % on power, none on counts. A case that misses its
tolerance is marked so, with the figure that was predicted: the day it is met, its mark has to go.
"""

import csv
import io
import statistics

import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.points import points_parse
from accelerator.predict_command import predictions_of
from accelerator.serving_calibration import CHIP, PAIR, SHEET, serving_calibration_load

MEASURED, UNMEASURED, POWER = 0.10, 0.25, 0.05
"""Accepted errors. [-]"""

DAY_S = 86_400


def predict(*rows):
    """Return the predicted values of rows, and what each stands on."""
    stream = io.StringIO()
    table = csv.DictWriter(stream, list(dict.fromkeys(("point_id", *(name for row in rows for name in row)))), "")
    table.writeheader()
    table.writerows({"point_id": f"p{number}"} | row for number, row in enumerate(rows))
    answers = predictions_of(points_parse(stream.getvalue(), "published"), serving_calibration_load())
    assert not [reason for *_, reason in answers if reason]
    return [float(value) for value, *_ in answers], {basis for *_, basis, _ in answers}


def missed(figure):
    """Mark a case whose prediction is beyond the tolerance, by what was predicted."""
    return pytest.mark.xfail(strict=True, reason=figure)


# --- DeepSeek-R1 on four chips: rates of a host of eight chips --------------------------------------------------------
# DeepSeek's day: github deepseek-ai/open-infra-index, 202502OpenSourceWeek day 6, 2025-02-27 12:00 to 28 12:00 UTC+8.
# Prefill 73.7 k tok/s a host with cache hits (32 GPUs a unit), decode 14.8 k (144 GPUs a unit), mean context 4,989.
H800 = {
    "chip": "H800-SXM", "chip_count": "8", "nodes": "1", "model": "DeepSeek-V3/R1", "weight_precision": "fp8",
    "engine": "DeepSeek in-house", "source": "deepseek-ai/open-infra-index:202502OpenSourceWeek/day_6",
}  # fmt: skip
H800_PREFILL = {
    **H800, "scenario": "production prefill node, 24 h mean, incl. 56.3% cache hits", "metric": "input_tok_s_per_chip",
}  # fmt: skip
H800_DECODE = {
    **H800, "scenario": "production decode node, 24 h mean", "metric": "output_tok_s_per_chip", "input_len": "4989",
}  # fmt: skip

# Ant's H20: lmsys.org/blog/2025-09-26-sglang-ant-group, prompts of 4,096; prefill TP8, decode EP16.
H20 = {
    "chip": "H20-96G", "chip_count": "8", "nodes": "1", "model": "DeepSeek-R1", "weight_precision": "fp8",
    "kv_precision": "fp8", "engine": "SGLang", "input_len": "4096",
    "source": "LMSYS blog 2025-09-26 (Ant Group, H20-96G)",
}  # fmt: skip
H20_PREFILL = {**H20, "tp": "8", "scenario": "PD-disaggregated prefill", "metric": "input_tok_s_per_chip"}
H20_DECODE = {**H20, "ep": "16", "scenario": "PD-disaggregated decode", "metric": "output_tok_s_per_chip"}

# CloudMatrix384: arXiv 2506.12708 (abstract), INT8, prompts of 4,096, decode EP320; a 910C is a module of two dies.
C910 = {
    "chip": "Ascend-910C", "chip_count": "", "model": "DeepSeek-R1", "weight_precision": "int8",
    "engine": "CloudMatrix-Infer", "input_len": "4096", "source": "arXiv 2506.12708 (Huawei CloudMatrix384), abstract",
}  # fmt: skip
C910_PREFILL = {**C910, "scenario": "PD-disaggregated prefill", "metric": "input_tok_s_per_chip"}
C910_DECODE, C910_DECODE_FAST = (
    {**C910, "ep": "320", "scenario": f"PD-disaggregated decode, TPOT<{ms} ms", "metric": "output_tok_s_per_chip"}
    for ms in (50, 15)
)


def host_tok_s(row):
    """Return the predicted rate of a host of eight chips. [tok/s]"""
    (per_chip,), basis = predict(row)
    assert basis == {PAIR}
    return 8 * per_chip


@pytest.mark.parametrize(
    ("row", "published_tok_s"),
    [
        (H800_PREFILL, 73_700),
        (H800_DECODE, 14_800),
        (H20_PREFILL, 16_500),
        pytest.param(
            H20_DECODE,
            5_700,
            marks=missed("4.5 k predicted: its row states no limit, within 50 ms fit 26 sequences a chip"),
        ),
        (C910_PREFILL, 53_504),
        (C910_DECODE, 15_544),
        pytest.param(
            C910_DECODE_FAST,
            4_304,
            marks=missed("0.54 k predicted: a step of one sequence a chip takes 16.7 ms, the model aims at 12"),
        ),
    ],
    ids=["h800-prefill", "h800-decode", "h20-prefill", "h20-decode", "910c-prefill", "910c-50ms", "910c-15ms"],
)
def test_a_host_serves_deepseek_as_published(row, published_tok_s):
    assert host_tok_s(row) == pytest.approx(published_tok_s, rel=MEASURED)


def test_decoding_users_of_the_h800_get_what_was_published():
    # 20 to 22 tok/s a user, in the mean of the day
    (user_tok_s,), _ = predict({**H800_DECODE, "metric": "tok_s_per_user"})
    assert user_tok_s == pytest.approx(21, rel=MEASURED)


def test_a_decode_unit_of_the_h800_holds_its_users_at_the_published_time_per_token():
    # 1.944 M output tok/s at 21 tok/s a user are 92.6 k users: 88 a decode GPU. 144 GPUs hold 256 experts and 32
    # copies; the model spreads whole experts, over 128.
    row = {**H800, "ep": "144", "scenario": "static batch decode", "concurrency": f"{88 * 128}"}
    (step_ms,), _ = predict({**row, "metric": "decode_step_ms", "input_len": "4889", "output_len": "200"})
    assert step_ms == pytest.approx(1e3 / 21, rel=MEASURED)


# --- DeepSeek's day: hosts and dollars --------------------------------------------------------------------------------
# 608e9 prompt tokens (342e9 of them cached) and 168e9 output tokens in a day; 226.75 hosts in the mean, USD 87,072 at
# USD 2 a GPU and hour.
INPUT_TOK, HIT_TOK, OUTPUT_TOK = 608e9, 342e9, 168e9


def day_hosts(prefill_tok_s, decode_tok_s, input_tok=INPUT_TOK):
    """Return the hosts that a day of DeepSeek's takes at the rates of a host, without headroom."""
    return input_tok / DAY_S / prefill_tok_s + OUTPUT_TOK / DAY_S / decode_tok_s


def day_usd(hosts):
    return hosts * 8 * 24 * 2.0


def test_the_published_rates_give_the_published_hosts_and_dollars():
    hosts = day_hosts(73_700, 14_800)
    assert hosts == pytest.approx(226.75, rel=0.01)
    assert day_usd(hosts) == pytest.approx(87_072, rel=0.01)


def test_the_day_takes_the_published_hosts_and_dollars():
    hosts = day_hosts(host_tok_s(H800_PREFILL), host_tok_s(H800_DECODE))
    assert hosts == pytest.approx(226.75, rel=MEASURED)
    assert day_usd(hosts) == pytest.approx(87_072, rel=MEASURED)


@pytest.mark.parametrize(
    ("prefill", "decode", "published_hosts"),
    [  # the day's computed prompts and answers at the rates that were published for these chips
        pytest.param(H20_PREFILL, H20_DECODE, 527.7, marks=missed("624 hosts predicted: see its decode")),
        (C910_PREFILL, C910_DECODE, 182.6),
    ],
    ids=["h20", "910c"],
)
def test_other_chips_take_as_many_hosts_as_their_published_rates_say(prefill, decode, published_hosts):
    hosts = day_hosts(host_tok_s(prefill), host_tok_s(decode), INPUT_TOK - HIT_TOK)
    assert hosts == pytest.approx(published_hosts, rel=MEASURED)


# --- ratios -----------------------------------------------------------------------------------------------------------
def test_a_host_of_h20_reads_as_much_of_a_910c_as_published():
    assert host_tok_s(C910_PREFILL) / host_tok_s(H20_PREFILL) == pytest.approx(53_504 / 16_500, rel=MEASURED)


@missed("3.56 predicted: the H20's tokens are too few, see its decode")
def test_a_host_of_h20_decodes_as_much_of_a_910c_as_published():
    assert host_tok_s(C910_DECODE) / host_tok_s(H20_DECODE) == pytest.approx(15_544 / 5_700, rel=MEASURED)


@missed("30 predicted: see the host at 15 ms")
def test_a_limit_of_15_ms_costs_what_was_published():
    # 1,943 tok/s a 910C at 50 ms, 538 at 15 ms
    assert host_tok_s(C910_DECODE) / host_tok_s(C910_DECODE_FAST) == pytest.approx(1_943 / 538, rel=MEASURED)


def test_a_ppu_reads_and_decodes_as_much_of_an_h20_as_its_figures_say():
    # by peaks (119 to 123 over 148 TFLOP/s) and bandwidths (2.0 to 2.76 over 4.0 TB/s): 0.81 of the prompts, 0.50 to
    # 0.69 of the tokens of an H20
    row = {"model": "Qwen3-32B", "engine": "vLLM", "weight_precision": "bf16", "chip_count": "4", "tp": "4"}
    reading = {**row, "scenario": "static batch", "metric": "prefill_batch_ms", "input_len": "4096", "concurrency": "4"}
    decoding = {**reading, "metric": "decode_step_ms", "input_len": "1024", "concurrency": "16"}
    values, basis = predict(*({**one, "chip": chip} for one in (reading, decoding) for chip in ("H20-96G", "PPU")))
    assert SHEET in basis
    assert values[0] / values[1] == pytest.approx(0.81, rel=UNMEASURED)
    assert 0.50 / (1 + UNMEASURED) < values[2] / values[3] < 0.69 * (1 + UNMEASURED)


# --- Splitwise: prompt and token times --------------------------------------------------------------------------------
# github Mutinifni/splitwise-sim data/perf_model.csv (MIT), paper arXiv 2311.18677: static batches on 8 GPUs in FP16.
BATCHES = (
    (128, 1), (256, 1), (512, 1), (1024, 1), (2048, 1), (4096, 1), (8192, 1),
    (512, 2), (512, 4), (512, 8), (512, 16), (512, 32), (512, 64),
)  # fmt: skip
"""Tokens of a prompt, and prompts of a batch. [tok], [-]"""

PROMPT_MS = {
    ("llama2-70b", "A100-SXM-80G"): (
        65.1, 67.1, 95.7, 154.6, 274.2, 651.3, 1544.4, 166.7, 292.2, 764.5, 2063.5, 3529.5, 7635.3,
    ),
    ("llama2-70b", "H100-SXM"): (
        55.3, 52.5, 56.7, 78.3, 136.6, 378.6, 848.4, 77.3, 132.6, 377.6, 805.4, 1549.8, 2941.7,
    ),
    ("bloom-176b", "A100-SXM-80G"): (
        77.3, 99.2, 173.9, 289.7, 540.2, 1354.9, 3601.7, 286.5, 528.8, 1321.8, 3554.9, 5772.7, 11278.3,
    ),
    ("bloom-176b", "H100-SXM"): (
        48.4, 51.1, 75.9, 132.8, 258.3, 697.7, 1530.0, 131.2, 242.3, 627.9, 1301.2, 2520.0, 5005.1,
    ),
}  # fmt: skip
"""Time to read a batch, in the order of BATCHES. [ms]"""

TOKEN_MS = {
    ("llama2-70b", "A100-SXM-80G"): (
        43.0, 43.5, 44.9, 44.8, 45.5, 46.5, 46.4, 44.5, 45.8, 46.5, 50.4, 53.2, 71.3,
    ),
    ("llama2-70b", "H100-SXM"): (
        30.0, 28.4, 29.7, 29.8, 31.2, 30.6, 31.4, 30.1, 31.8, 32.4, 34.2, 38.9, 50.0,
    ),
    ("bloom-176b", "A100-SXM-80G"): (
        47.6, 47.8, 48.8, 48.8, 49.3, 50.1, 51.4, 50.1, 51.0, 52.9, 57.3, 65.7, 96.6,
    ),
    ("bloom-176b", "H100-SXM"): (
        35.6, 36.1, 36.0, 35.6, 35.7, 36.9, 37.4, 37.0, 38.0, 38.1, 40.9, 46.0, 64.0,
    ),
}  # fmt: skip
"""Time of a step in which a batch decodes, answers of 128 tokens, in the order of BATCHES. [ms]"""


def splitwise_row(metric, model, chip, prompt_tok, batch, cap=""):
    return {
        "chip": chip, "chip_count": "8", "tp": "8", "model": model, "weight_precision": "fp16",
        "engine": "vLLM (2023, modified)", "scenario": "static batch", "metric": metric,
        "input_len": f"{prompt_tok}", "output_len": "128", "concurrency": f"{batch}", "power_cap_frac": cap,
        "source": "Mutinifni/splitwise-sim:data/perf_model.csv",
    }  # fmt: skip


def splitwise_ms(metric, model, chip, cap="", batches=BATCHES):
    """Return the predicted times of batches. [ms]"""
    values, basis = predict(*(splitwise_row(metric, model, chip, *batch, cap) for batch in batches))
    assert basis == {PAIR}
    return values


@pytest.mark.parametrize(("model", "chip"), TOKEN_MS)
def test_every_token_takes_its_published_time(model, chip):
    assert splitwise_ms("decode_step_ms", model, chip) == pytest.approx(TOKEN_MS[model, chip], rel=MEASURED)


@pytest.mark.parametrize(
    ("model", "chip"),
    [
        pytest.param("llama2-70b", "A100-SXM-80G", marks=missed("off by 12 % in the median, 42 % at most")),
        pytest.param("llama2-70b", "H100-SXM", marks=missed("off by 18 % in the median, 27 % at most")),
        pytest.param("bloom-176b", "A100-SXM-80G", marks=missed("off by 11 % in the median, 27 % at most")),
        pytest.param("bloom-176b", "H100-SXM", marks=missed("off by 11 % in the median, 22 % at most")),
    ],
)
def test_half_of_the_prompts_take_their_published_time(model, chip):
    # the published times per token rise by 19 to 39 % from 2,048 to 4,096 tokens, which no part of a step does
    times = zip(splitwise_ms("prefill_batch_ms", model, chip), PROMPT_MS[model, chip], strict=True)
    assert statistics.median(abs(predicted / published - 1) for predicted, published in times) <= MEASURED


@pytest.mark.parametrize("model", ["llama2-70b", "bloom-176b"])
def test_an_h100_reads_so_much_faster_than_an_a100_and_decodes_a_little_faster(model):
    # the paper: prompts about 1.7 to 2.6 times, tokens about 1.4 times
    reading, decoding = (
        [a100 / h100 for a100, h100 in zip(*(splitwise_ms(metric, model, chip, batches=BATCHES[2:])
                                             for chip in ("A100-SXM-80G", "H100-SXM")), strict=True)]
        for metric in ("prefill_batch_ms", "decode_step_ms")
    )  # fmt: skip
    assert 1.7 / (1 + MEASURED) < min(reading) <= max(reading) < 2.6 * (1 + MEASURED)
    assert statistics.median(decoding) == pytest.approx(1.4, rel=MEASURED)


@pytest.mark.parametrize("model", ["llama2-70b", "bloom-176b"])
def test_a_cap_of_70_percent_slows_prompts_1_30_times_and_tokens_not_at_all(model):
    batches = [(4096, 1), (512, 16), (512, 64)]
    ratio = {
        metric: [
            capped / whole
            for capped, whole in zip(
                *(splitwise_ms(metric, model, "H100-SXM", cap, batches) for cap in ("0.7", "")), strict=True
            )
        ]
        for metric in ("prefill_batch_ms", "decode_step_ms")
    }
    assert ratio["prefill_batch_ms"] == pytest.approx([1.30] * 3, rel=POWER)
    assert ratio["decode_step_ms"] == pytest.approx([1.0] * 3, rel=POWER)


@pytest.mark.parametrize(
    ("metric", "model", "prompt_tok", "published"),
    [
        pytest.param("avg", "llama2-70b", 512, 0.4349, marks=missed("0.653 predicted: power is not fitted")),
        pytest.param("avg", "bloom-176b", 512, 0.6349, marks=missed("0.731 predicted: power is not fitted")),
        ("peak", "llama2-70b", 512, 0.7488),
        ("peak", "bloom-176b", 512, 0.8765),
        pytest.param("peak", "llama2-70b", 2048, 0.9893, marks=missed("0.746 predicted: hardly grows with prompts")),
        pytest.param("peak", "bloom-176b", 2048, 1.0214, marks=missed("0.835 predicted: hardly grows with prompts")),
    ],
)
def test_an_a100_draws_its_published_share_of_the_tdp(metric, model, prompt_tok, published):
    (ratio,), _ = predict(splitwise_row(f"{metric}_power_frac_tdp", model, "A100-SXM-80G", prompt_tok, 1))
    assert ratio == pytest.approx(published, rel=POWER)


# --- Sanjiangyuan: counts ---------------------------------------------------------------------------------------------
# China Unicom's table as shown by CCTV on 2025-09-16: devices, cards and PFLOP/s (16 bit) that were signed. A fourth
# maker, Zhonghao Xinying (128 devices, 1,024 cards), has no chip in the catalog.
SIGNED = (("thead-ppu-810e", 1024, 16_384, 1945), ("metax-c500", 512, 4096, 984), ("biren-br106", 83, 1328, 450))

ROUNDED = 0.002
"""PFLOP/s and peaks are published in whole numbers, of three digits and more. [-]"""


@pytest.mark.parametrize(("chip", "devices", "cards", "pflop_s"), SIGNED)
def test_the_signed_cards_fill_the_signed_devices(chip, devices, cards, pflop_s):
    assert cards / chip_get(chip).host_chips == devices


@pytest.mark.parametrize(("chip", "devices", "cards", "pflop_s"), SIGNED)
def test_the_signed_arithmetic_takes_the_signed_cards(chip, devices, cards, pflop_s):
    peak = chip_get(chip).peak_flop_s["bf16"]
    least, most = (pflop_s * 1e15 / flop_s for flop_s in (peak.high, peak.low))
    assert least * (1 - ROUNDED) <= cards <= most * (1 + ROUNDED)


@pytest.mark.parametrize(("chip", "devices", "cards", "pflop_s"), SIGNED[:2])  # no bandwidth of Biren's is published
def test_a_signed_card_computes_a_plausible_share_of_what_was_signed(chip, devices, cards, pflop_s):
    # prompts of a dense model cost 2 flop for each parameter and token, attention comes on top
    row = {"model": "Qwen3-32B", "engine": "vLLM", "weight_precision": "bf16", "chip_count": "4", "tp": "4"}
    row |= {"chip": chip, "scenario": "static batch", "input_len": "4096", "concurrency": "4"}
    (tok_s,), basis = predict({**row, "metric": "input_tok_s_per_chip"})
    assert basis <= {SHEET, CHIP}
    share = tok_s * 2 * model_get("qwen3-32b").params_active / (pflop_s * 1e15 / cards)
    assert 0.3 < share < 1
