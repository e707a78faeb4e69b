"""A small published fit, and own points, for tests of calibrations: made by hand, all of it invented."""

import json
from dataclasses import replace
from functools import cache
from pathlib import Path

from accelerator.points import deployments_of, points_read
from accelerator.serving_calibration import PointRows, calibration_dict, calibration_fit, calibration_parse
from scenarios import accuracy, calibrations
from scenarios.calibrations import calibration_draft, calibration_keep, table_rows

DATA = Path(__file__).parent / "data"
COLUMNS = (
    "point_id,chip,chip_count,tp,model,weight_precision,engine,scenario,input_len,output_len,concurrency,metric,value"
)


def row(point_id="own-1", chip="h20-96", value="900", metric="output_tok_s", **changed):
    """Return an own point as cells by column; by itself half as fast as the published fit says."""
    cells = dict(
        zip(
            COLUMNS.split(","),
            (point_id, chip, "4", "4", "qwen3-32b", "bf16", "vllm", "closed-loop concurrency", "1024", "256", "64",
             metric, value),
            strict=True,
        )
    )  # fmt: skip
    return {**cells, **changed}


def table(*rows):
    """Return rows as CSV text."""
    columns = list(dict.fromkeys(name for one in rows for name in one))
    return "\n".join([",".join(columns), *(",".join(one.get(name, "") for name in columns) for one in rows)]) + "\n"


def version_make(*rows, owner=None, note=""):
    """Store a version with own points and take it into use."""
    return calibration_keep(calibration_draft(table_rows(table(*rows), "own.csv"), note=note), owner=owner)


@cache
def fit_small():
    rows = PointRows.of(list(deployments_of(points_read(DATA / "serving_points.csv"))))
    fit = calibration_fit(rows, fitted_on="2026-11-25", steps=4)
    summary = json.loads((DATA / "serving_summary.json").read_text())
    return calibration_parse(calibration_dict(replace(fit, errors={"summary": summary})), "small fit")


def fit_publish(monkeypatch):
    """Let the small fit and its held-out errors stand where the published ones do."""
    monkeypatch.setattr(calibrations, "serving_calibration_load", fit_small)
    monkeypatch.setattr(accuracy, "ERRORS_PATH", DATA / "serving_errors.csv")
    return fit_small()
