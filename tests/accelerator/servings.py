"""Serving points made by hand: rows of a table as text, read with values that the model itself gives."""

import csv
import io
from dataclasses import replace

import numpy as np

from accelerator.points import deployment_of, points_parse
from accelerator.serving import PARAMETERS
from accelerator.serving_calibration import PointRows, calibration_fit

USUAL = {
    "point_id": "", "config_id": "", "chip": "h100-sxm", "chip_count": 1, "nodes": 1, "model": "llama-3.1-8b",
    "engine": "vLLM", "engine_version": "0.9", "scenario": "closed-loop concurrency", "metric": "output_tok_s",
    "unit": "tok/s", "tp": 1, "ep": "", "dp": "", "weight_precision": "bf16", "input_len": 512, "output_len": 256,
    "concurrency": 8, "request_rate_rps": "", "value": 1, "source": "bench: made by hand", "notes": "",
}  # fmt: skip

CENTRE = np.log([parameter.centre for parameter in PARAMETERS])
CHIPS = ("a100-80", "h100-sxm", "h200-sxm")
USERS = (1, 4, 16, 64)
FITTED_ON = "2026-11-25"


def deployments(*rows):
    """Return the deployments of rows that say how they differ from the usual one."""
    stream = io.StringIO()
    table = csv.DictWriter(stream, fieldnames=list(USUAL))
    table.writeheader()
    for number, row in enumerate(rows):
        table.writerow(USUAL | {"point_id": f"p{number}", "config_id": f"c{number}"} | row)
    return [deployment_of(point) for point in points_parse(stream.getvalue(), "by hand")]


def point_rows(*rows):
    return PointRows.of(deployments(*rows))


def thetas(count, **parameters):
    """Return parameters [P, n] of rows: the usual ones, but for those that are named."""
    values = {parameter.name: parameter.centre for parameter in PARAMETERS} | parameters
    return np.repeat(np.array([values[parameter.name] for parameter in PARAMETERS])[:, None], count, axis=1)


def measured(rows, log_values):
    """Return the rows with values that were measured."""
    return PointRows.of([
        replace(d, point=replace(d.point, value=float(np.exp(value))))
        for d, value in zip(rows.deployments, log_values, strict=True)
    ])  # fmt: skip


def grid(chips=CHIPS, models=("llama-3.1-8b",), users=USERS, metrics=("output_tok_s", "tpot_ms"), **other):
    """Return rows of every chip with every model, so many users and each metric."""
    return [
        {"chip": chip, "model": model, "concurrency": count, "metric": metric, "config_id": f"{chip} {model} {count}"}
        | other
        for chip in chips
        for model in models
        for count in users
        for metric in metrics
    ]


def synthetic(rows, *, slower=None, noise=0.02, seed=1):
    """Return rows as the usual parameters give them, with chips that are so many times slower, and noise."""
    log_values = rows.log_values(np.repeat(CENTRE[:, None], len(rows.scale), axis=1))
    noise_log = noise * np.random.default_rng(seed).standard_normal(len(log_values))
    sign = np.array([-1.0 if name in {"tok_s", "input_tok_s", "user_tok_s"} else 1.0 for name in rows.output])
    factor = np.array([(slower or {}).get(d.chip.slug, 1.0) for d in rows.deployments])
    return measured(rows, log_values + sign * np.log(factor) + noise_log)


def fitted(rows):
    return calibration_fit(rows, fitted_on=FITTED_ON, steps=4)
