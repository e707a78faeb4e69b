"""The fitted engine of a deployment that nobody has measured: what a rating or a simulation runs at."""

import hashlib
import json
from dataclasses import replace
from functools import lru_cache

import numpy as np

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, Efficiency, Engine
from accelerator.groups import groups_of
from accelerator.layouts import Layout
from accelerator.operators import DeploymentConfig
from accelerator.points import Deployment, Point
from accelerator.roofline import engine_of_config
from accelerator.serving import INDEX
from accelerator.serving_calibration import PointRows, ServingCalibration, serving_calibration_load
from accelerator.units import PRECISION_BYTE

USERS = 32.0
USED_TOK = 1024.0
"""Users and prompt and answer lengths at which the spread of an engine's steps is taken. [-], [tok]"""

LIKE_SEQS, LIKE_BATCHED_TOK = 1024, 8192
"""Batch limits at which engines are looked up. [-], [tok]"""

ENGINE_FIELDS = (
    "memory_ratio", "compute_ratio", "experts_ratio", "collectives_ratio", "exchanges_ratio", "decode_attention_ratio",
    "prefill_attention_ratio", "issue_s", "host_step_s", "host_seq_s", "host_rank_s", "decode_ratio", "prompt_ratio",
)  # fmt: skip


def deployment_like(chip: ChipSpec, model: ModelSpec, config: DeploymentConfig) -> Deployment:
    """Return a deployment of one replica in a closed loop, as if somebody had measured its TPOT."""
    unknown = float("nan")
    engine = engine_of_config(chip, config)
    point = Point(
        at=0, point_id="", config_id="", chip=chip.slug, model=model.slug, engine=engine, engine_version="",
        scenario="closed-loop concurrency", metric="tpot_ms", unit="ms", trust="", source="", notes="",
        chips=config.chips, nodes=1, tp=config.tp, pp=config.pp, ep=config.ep, dp=config.dp,
        weight_precision=config.weight_precision, kv_precision=config.kv_precision, input_tok=USED_TOK,
        output_tok=USED_TOK, concurrency=USERS, rate_s=unknown, value=1.0, power_cap_ratio=unknown, duplicate=False,
    )  # fmt: skip
    return Deployment(
        point=point, chip=chip, model=model, layout=Layout(config, 1), kind="closed", engine=engine,
        input_tok=USED_TOK, output_tok=USED_TOK, users=USERS, speculative_tok=0, accept_ratio=0.0, padded_seqs=0.0,
        limit_s=unknown,
    )  # fmt: skip


def engine_fitted(
    chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, calibration: ServingCalibration | None = None
) -> Engine:
    """Return the fitted engine of a deployment.

    Parameters
    ----------
    calibration : ServingCalibration, optional
        The published one if left out.

    Raises
    ------
    AcceleratorError
        What kernels of the chip raise where a figure is missing.
    """
    used = calibration or serving_calibration_load()
    # batch limits change no parameter of an engine
    return _engine(chip, model, replace(config, max_seqs=LIKE_SEQS, max_batched_tok=LIKE_BATCHED_TOK), used)


@lru_cache(maxsize=8192)
def _engine(chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, calibration: ServingCalibration) -> Engine:
    rows = PointRows.of([deployment_like(chip, model, config)], measured=False)
    theta, deviation, basis = calibration.deployment(rows)
    values = {name: float(theta[INDEX[name]]) for name in ENGINE_FIELDS}
    return Engine(**values, spread=deviation, basis=basis, digest=calibration.digest)


def engine_median(
    chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, calibration: ServingCalibration | None = None
) -> Engine:
    """Return the fitted engine of a deployment without its spread, which is 0: what a search compares configs by.

    All else is that of :func:`engine_fitted`, in a twentieth of its time: a sum of effects, and no step is taken.
    """
    used = calibration or serving_calibration_load()
    like = deployment_like(chip, model, config)
    values = used.parameters(like, measured=False)
    basis = used.basis(groups_of(like, measured=False), chip)
    return Engine(**{name: values[name] for name in ENGINE_FIELDS}, spread=0.0, basis=basis, digest=used.digest)


def efficiency_fitted(
    chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, calibration: ServingCalibration | None = None
) -> Efficiency:
    """Return the efficiency at which a deployment is rated: planning values with the fitted engine in them."""
    return replace(DEFAULT, engine=engine_fitted(chip, model, config, calibration))


FINGERPRINT_STEP = 0.005
"""Steps in which logarithms of parameters count for a fingerprint: what moves less is not seen. [log]"""


def fitted_fingerprint(chip: ChipSpec, model: ModelSpec, calibration: ServingCalibration | None = None) -> str:
    """Return the SHA-256 of the fitted parameters of a chip and a model, in every weight precision of the chip.

    Points of another chip that leave these parameters where they are (within half a per cent) leave it as it is.
    """
    used = calibration or serving_calibration_load()
    groups = [
        groups_of(deployment_like(chip, model, DeploymentConfig(precision)), measured=False)
        for precision in sorted({*chip.peak_flop_s, "int4", "int8_wo"} & set(PRECISION_BYTE))
    ]
    members = used.members(groups)
    figures = np.concatenate([used.effects.thetas(members), np.sqrt(used.effects.theta_variances(members))])
    steps = np.rint(figures / FINGERPRINT_STEP).astype(int)
    widths = {name: round(value, 2) for name, value in sorted(used.widths.items())}
    return hashlib.sha256(json.dumps([steps.tolist(), widths]).encode()).hexdigest()
