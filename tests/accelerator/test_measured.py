"""The roofline beside published measurements: a check of plausibility, not a fit."""

import csv
import math
import statistics

import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.errors import AcceleratorError
from accelerator.steps import DeploymentConfig, step_table_build

PRECISION = {"fp8": "fp8", "bf16": "bf16", "fp16": "bf16", "w8a8": "int8"}


def tpot_ratios(shared_data, chips):
    """Predicted over measured TPOT of closed loops that state chips, lengths, users and precision."""
    with (shared_data / "measured" / "public.csv").open() as file:
        rows = [
            row
            for row in csv.DictReader(file)
            if row["trust"] in "AB" and row["metric"].startswith("tpot") and row["scenario"].startswith("closed-loop")
        ]
    ratios = {}
    for row in rows:
        try:
            chip, model = chip_get(row["chip"]), model_get(row["model"])
            users, i, o, cards = (float(row[c]) for c in ("concurrency", "input_len", "output_len", "chip_count"))
            tp = int(row["tp"] or cards)
            batch = users * tp / cards
            config = DeploymentConfig(PRECISION[row["weight_precision"]], tp=tp)
            table = step_table_build(chip, model, config)
            step_s = table.step_s(batch * (1 + i / o), batch * (i + o / 2), batch * i * i / 2 / o)
        except (AcceleratorError, KeyError, ValueError):
            continue  # a name, precision or layout that is not held, or a length that is not stated
        if chip.slug in chips:
            ratios.setdefault(chip.slug, []).append(step_s * 1e3 / float(row["value"]))
    return ratios


@pytest.mark.shared
def test_token_times_of_h100_h200_and_b200_are_met_on_average(shared_data):
    for chip, ratios in tpot_ratios(shared_data, {"h100-sxm", "h200", "b200"}).items():
        mean = math.exp(statistics.fmean(math.log(ratio) for ratio in ratios))
        within = sum(1 / 1.5 < ratio < 1.5 for ratio in ratios) / len(ratios)
        assert 0.8 < mean < 1.25, chip
        assert within > 0.75, chip


@pytest.mark.shared
def test_published_910b_engines_stay_behind_the_data_sheet(shared_data):
    """The prior is too fast for them by two to three; a rating's P10 lies lower for every homegrown chip for this."""
    (ratios,) = tpot_ratios(shared_data, {"ascend-910b3"}).values()
    assert len(ratios) > 20
    assert 0.25 < statistics.median(ratios) < 0.6
