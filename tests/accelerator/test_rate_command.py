import json
import re
import subprocess
import sys
import time

import pytest

from accelerator.__main__ import main

LIMITS = ["--ttft-p95-s", "2", "--tpot-p95-s", "0.05"]
RATE = ["rate", "--chip", "h20-96", "--model", "qwen3-32b", "--mix", "azure-conv", *LIMITS]
EXCHANGE = ["exchange", "--from", "h20-96", "--to", "ppu-810e", "--to", "a100-40", "--model", "deepseek-r1",
            "--mix", "r1-reasoning", *LIMITS]  # fmt: skip


def run(capsys, *arguments):
    assert main(list(arguments)) == 0, capsys.readouterr().err
    captured = capsys.readouterr()
    assert not captured.err
    return captured.out.splitlines()


def run_json(capsys, *arguments):
    (line,) = run(capsys, *arguments, "--json")
    return json.loads(line, parse_constant=pytest.fail)  # NaN and Infinity are no JSON


def test_a_rating_as_text(capsys):
    lines = run(capsys, *RATE)
    assert lines[0] == "qwen3-32b on h20-96 for azure-conv, TTFT 2 s and TPOT 50 ms at P95"
    text = "\n".join(lines)
    assert re.search(r"^config +.*fp8 tp\d.*: \d of the 8 chips of a host$", text, re.MULTILINE)
    for title in ("requests/s", "tok/s", "... per chip", "... per kW", "... per kUSD"):
        p10, p50, p90 = map(
            float, re.search(rf"^{re.escape(title)} +(\S+) +(\S+) +(\S+)$", text, re.MULTILINE).groups()
        )
        assert 0 < p10 < p50 < p90, title
    assert re.search(r"^bound by +(ttft|tpot); calibrated-pair$", text, re.MULTILINE)
    assert re.search(r"^uncertain by +\w+ \([+-]\d+% to [+-]\d+%\)", text, re.MULTILINE)


def test_a_rating_as_json_holds_every_figure_and_the_front(capsys):
    values = run_json(capsys, *RATE)
    assert values["simulated"] is True
    assert values["host_chips"] == 8
    assert values["tok_s"]["p10"] < values["tok_s"]["p50"] < values["tok_s"]["p90"]
    assert values["tok_s_per_chip"] == pytest.approx(values["tok_s"]["p50"] / values["chips"])
    assert values["slo"] == {"ttft_s": 2.0, "tpot_s": 0.05, "percentile": 0.95}
    users = [point["user_tok_s"] for point in values["pareto"]]
    assert users == sorted(users, reverse=True)


def test_the_front_as_text(capsys):
    lines = run(capsys, *RATE, "--pareto")
    at = next(number for number, line in enumerate(lines) if "nobody waiting" in line)
    assert 5 < len(lines) - at - 1 <= 12
    assert all(re.match(r" +[\d.]+ +[\d.]+ +[\d.]+  \w+ ", line) for line in lines[at + 1 :])


def test_options_reach_the_search(capsys):
    usual = run_json(capsys, *RATE)
    small = run_json(capsys, *RATE, "--host-chips", "2", "--precision", "bf16", "--percentile", "0.9")
    assert small["config"]["weight_precision"] == "bf16"
    assert small["chips"] <= 2
    assert small["slo"]["percentile"] == 0.9
    assert small["tok_s_per_chip"] < usual["tok_s_per_chip"]


def test_what_nobody_published_is_said_to_be_unknown(capsys):
    lines = run(capsys, "rate", "--chip", "tpu-v6e", "--model", "qwen3-8b", "--mix", "m-large", *LIMITS)
    assert "... per kW     unknown: tpu-v6e has no published TDP" in lines
    assert "... per kUSD   unknown: tpu-v6e has no published price" in lines


def test_a_refusal_is_an_answer(capsys):
    arguments = ["rate", "--chip", "a100-40", "--model", "deepseek-r1", "--mix", "azure-conv", *LIMITS]
    lines = run(capsys, *arguments, "--pareto")
    assert re.search(r"^refused +int8: deepseek-r1 in int8 .* does not fit 8 x a100-40", lines[1])
    values = run_json(capsys, *arguments)
    assert "does not fit" in values["refusal"]
    assert values["pareto"] == []


def test_a_chip_of_a_file(capsys, tmp_path):
    path = tmp_path / "chips.csv"
    path.write_text(
        "item,quantity,value,low,high,unit,source,confidence,read_on\n"
        "my-chip,derived_from,h20-96,,,text,a test,estimate,2026-01-01\n"
        "my-chip,memory_bandwidth,6000,,,GB/s,a test,estimate,2026-01-01\n"
        "slow-chip,derived_from,h20-96,,,text,a test,estimate,2026-01-01\n"
    )
    rates = []
    for chip in ("my-chip", "slow-chip"):
        arguments = [name if name != "h20-96" else chip for name in RATE]
        rates.append(run_json(capsys, *arguments, "--chips", str(path))["tok_s"]["p50"])
    assert rates[0] > rates[1]


def test_exchange_ratios_as_a_table(capsys):
    header, titles, ppu, a100, why = run(capsys, *EXCHANGE)
    assert header.startswith("one h20-96 host of 8 chips equals so many hosts, for deepseek-r1, r1-reasoning")
    assert titles.split() == ["of", "chips", "prefill", "decode", "service"]
    assert len(re.findall(r"\d\.\d\d \(\d+\.\d\d to \d+\.\d\d\)", ppu)) == 3
    assert ppu.split()[:2] == ["thead-ppu-810e", "16"]
    assert a100.split() == ["a100-40", "8", "-", "-", "-"]
    assert "does not fit" in why


def test_exchange_ratios_as_json(capsys):
    ppu, a100 = run_json(capsys, *EXCHANGE)
    assert ppu["prefill"]["p10"] < ppu["prefill"]["p50"] < ppu["prefill"]["p90"]
    assert a100["service"] is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("h20-96", "h20-9"), 'unknown chip "h20-9"; did you mean'),
        (("qwen3-32b", "qwen3-33b"), 'unknown model "qwen3-33b"; did you mean'),
        (("azure-conv", "azure"), 'unknown workload profile "azure"; did you mean'),
        (("2", "0"), "limits are positive"),
        (("2", "inf"), "limits are finite"),
        (("0.05", "nan"), "limits are positive"),
    ],
)
def test_what_does_not_exist_is_one_sentence(capsys, change, message):
    arguments = [change[1] if argument == change[0] else argument for argument in RATE]
    assert main(arguments) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert message in captured.err
    assert captured.err.count("\n") == 1


def test_a_host_has_chips(capsys):
    assert main([*RATE, "--host-chips", "0"]) == 2
    assert capsys.readouterr().err == "a host has at least one chip, not 0\n"


def test_a_rating_takes_seconds_from_the_start_of_the_process():
    start_s = time.perf_counter()
    arguments = ["rate", "--chip", "thead-ppu-810e", "--model", "qwen3-235b-a22b", "--mix", "azure-conv", *LIMITS]
    subprocess.run([sys.executable, "-m", "accelerator", *arguments, "--json"], capture_output=True, check=True)
    assert time.perf_counter() - start_s < 10  # 1.2 s when nothing else runs
