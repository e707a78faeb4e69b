"""How fast ratings by simulation are, and predictions: the bars of one rating, of the catalog, of a table of points."""

import random
import time
from itertools import product

from measure import figure_print, machine_print

from accelerator import Slo, chip_get, chips_load, model_get, models_load, profile_mix
from accelerator.errors import ConfigError
from accelerator.exchange import host_phases
from accelerator.goodput import goodput_search, question_of
from accelerator.points import points_parse
from accelerator.predict_command import predictions_of
from accelerator.serving_calibration import serving_calibration_load

SLO = Slo(2.0, 0.05)
MIX = "azure-conv"
ASKED = ("thead-ppu-810e", "qwen3-235b-a22b")
"""The pair of the README."""

SAMPLE, SEED = 120, 20251126
"""Random pairs of the catalog that stand for all of it. [-]"""

ROWS = 4000
"""Rows of a table of points. [-]"""

CORES = 2


def pair_cpu_s(chip: str, model: str) -> tuple[float, bool]:
    """Return the CPU time of all that is stored of a pair [s], and whether it is rated."""
    spec, made, start_s = chip_get(chip), model_get(model), time.process_time()
    question = question_of(spec, made, profile_mix(MIX), SLO)
    try:
        rated = goodput_search(spec, made, question.mix, SLO, host_chips=spec.host_chips, question=question)
        is_rated = rated.refusal is None
    except ConfigError:
        is_rated = False
    host_phases(question, host_chips=spec.host_chips)
    return time.process_time() - start_s, is_rated


def predict_cpu_s() -> float:
    """Return the CPU time of a table of points of several chips, models and loads. [s]"""
    names = product(
        ("H100-SXM", "H200-SXM", "A100-SXM-80G", "H20-96G", "PPU"), ("Llama-3.1-8B", "Qwen3-32B", "Qwen3-30B-A3B"),
        ("closed-loop concurrency", "static batch", "all requests at once"), ("tpot_ms", "ttft_ms", "output_tok_s"),
    )  # fmt: skip
    rows = [",".join(("p", "8", chip, model, "vLLM", load, metric)) for chip, model, load, metric in names]
    lines = [f"{rows[at % len(rows)]},{2 ** (at // len(rows) % 8)},1000,200" for at in range(ROWS)]
    header = "point_id,chip_count,chip,model,engine,scenario,metric,concurrency,input_len,output_len"
    start_s = time.process_time()
    predictions_of(points_parse("\n".join([header, *lines]), "bench"), serving_calibration_load())
    return time.process_time() - start_s


def main() -> None:
    """Print what one pair, the whole catalog and a table of points take."""
    machine_print()
    pair_cpu_s("h20-96", "qwen3-8b")  # loads what is loaded once a process
    figure_print(f"rating and phases of {ASKED[1]} on {ASKED[0]}", pair_cpu_s(*ASKED)[0], "CPU-s")
    pairs = [(chip, model) for chip in chips_load() for model in models_load()]
    taken = [pair_cpu_s(*pair) for pair in random.Random(SEED).sample(pairs, SAMPLE)]
    mean_s = sum(spent_s for spent_s, _ in taken) / SAMPLE
    figure_print(f"mean of {SAMPLE} random pairs, refusals included", mean_s * 1e3, "CPU-ms")
    figure_print("slowest of them", max(spent_s for spent_s, _ in taken), "CPU-s")
    figure_print("share of them that is rated", 100 * sum(is_rated for _, is_rated in taken) / SAMPLE, "%")
    figure_print(f"all {len(pairs):,} pairs on {CORES} free cores, by that mean", len(pairs) * mean_s / CORES, "s")
    figure_print(f"predict, {ROWS:,} rows", predict_cpu_s(), "CPU-s")


if __name__ == "__main__":
    main()
