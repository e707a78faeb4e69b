"""The fitted families: parameters of every operator family by chip, engine and precision, with their uncertainty.

``data/calibration/<family>.json`` holds what ``python -m accelerator fit`` wrote: effects, scatters and information
matrices (see ``pooling``), the day of the fit, how many rows it stands on and how far it was off on rows held out.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property
from importlib import resources
from typing import Any

import numpy as np

from accelerator.errors import DataFileError
from accelerator.families import FAMILIES, times_s
from accelerator.family import Family, chip_of
from accelerator.pooling import Floats, PooledFit, Rows
from accelerator.units import Z90

CALIBRATED, POOLED = "calibrated", "pooled"


@dataclass(frozen=True, eq=False)
class Calibration:
    """One fitted family.

    Parameters
    ----------
    family : Family
        Whose parameters they are.
    fit : PooledFit
        Effects and their uncertainty.
    band_seen, band_unseen : float
        What the standard deviations of log time are multiplied by so that P10 to P90 hold 80 % of held-out rows: of
        shapes not seen on chips that were, and of chips left out. [-]
    fitted_on : str
        Day of the fit, ISO.
    errors : Mapping
        Median absolute errors on held-out rows, as ``fitting`` found them.
    """

    family: Family
    fit: PooledFit
    band_seen: float
    band_unseen: float
    fitted_on: str
    errors: Mapping[str, Any]

    def basis(self, members: Sequence[str]) -> str:
        """Return ``calibrated`` if this very cell (chip, engine, format) was measured, else ``pooled``."""
        return CALIBRATED if members[-1] in self.fit.members[-1] else POOLED

    @cached_property
    def chips(self) -> frozenset[str]:
        """Chips that were measured in this family."""
        return frozenset(chip_of((name,)) for name in self.fit.members[-1])

    def band_factor(self, members: Sequence[str]) -> float:
        """Return what a standard deviation is multiplied by for this cell. [-]"""
        return self.band_seen if self.basis(members) == CALIBRATED else self.band_unseen

    def predict(self, rows: Rows) -> tuple[Floats, Floats, Floats]:
        """Return P50, P10 and P90 of each row's time. [s]"""
        median_s, deviation = self.fit.predict(self.times_s, rows)
        factor = np.array([self.band_factor(key) for key in zip(*rows.members, strict=True)])
        spread = np.exp(Z90 * factor * deviation)
        return median_s, median_s / spread, median_s * spread

    def times_s(self, shape: Floats, parameters: Floats) -> Floats:
        """Return the family's time of each row; see ``pooling.TimeFunction``. [s]"""
        return times_s(self.family, shape, parameters)


@dataclass(frozen=True, eq=False)
class CellParameters:
    """Parameters of one cell in their units [P], covariance of their logarithms [P, P], error scale [log], basis."""

    fit: PooledFit
    members: tuple[str, ...]
    values: Floats
    sigma: float
    band_factor: float
    basis: str

    @cached_property
    def covariance(self) -> Floats:
        """Covariance of the logarithms; worked out when a band is asked for, not for a median."""
        return self.fit.covariance(self.members)


@cache
def calibration_load(name: str) -> Calibration:
    """Return the committed fit of a family; DataFileError if it does not match the family's parameters."""
    path = resources.files("accelerator").joinpath("data", "calibration", f"{name}.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataFileError(
            f"accelerator/data/calibration/{name}.json: {error}; `python -m accelerator fit` makes it"
        ) from error
    return calibration_parse(FAMILIES[name], values)


def calibration_summary() -> dict[str, Any]:
    """Return what ratings stand on: kernels, how many measured rows, the day of the latest fit.

    The mean error of a rating (``mape``) is None: it takes measured services to know it.
    """
    fits = [calibration_load(name) for name in FAMILIES]
    rows, latest = sum(fit.fit.rows for fit in fits), max(fit.fitted_on for fit in fits)
    return {"basis": "kernels", "mape": None, "n": rows, "as_of": latest}


@cache
def cell_take(name: str, members: tuple[str, ...]) -> CellParameters:
    """Return the parameters of one cell of a family, measured or not."""
    calibration = calibration_load(name)
    return CellParameters(
        fit=calibration.fit,
        members=members,
        values=np.exp(calibration.fit.theta(members)),
        sigma=calibration.fit.error_scale(members),
        band_factor=calibration.band_factor(members),
        basis=calibration.basis(members),
    )


def calibration_parse(family: Family, values: Mapping[str, Any]) -> Calibration:
    """Return a calibration from what :func:`calibration_dict` wrote."""
    names = [row["name"] for row in values["parameters"]]
    if names != [parameter.name for parameter in family.parameters] or tuple(values["levels"]) != family.levels:
        raise DataFileError(f"accelerator/data/calibration/{family.name}.json was fitted to another model: fit again")
    size = len(names)
    upper = np.triu_indices(size)
    information = np.zeros((len(values["cells"]), size, size))
    for block, row in zip(information, values["cells"], strict=True):
        block[upper] = row["information"]
        block.T[upper] = row["information"]
    fit = PooledFit(
        parameters=family.parameters,
        members=tuple(tuple(level) for level in values["members"]),
        common=np.array([row["log_common"] for row in values["parameters"]]),
        deviations=tuple(np.array(level).reshape(-1, size) for level in values["deviations"]),
        tau=np.array(values["tau"]),
        cells=tuple(tuple(row["members"]) for row in values["cells"]),
        information=information,
        sigma=np.array([row["sigma"] for row in values["cells"]]),
        sigma_common=values["sigma_common"],
        rows=values["rows"],
    )
    return Calibration(
        family, fit, values["band_seen"], values["band_unseen"], values["fitted_on"], values.get("errors", {})
    )


def calibration_dict(calibration: Calibration) -> dict[str, Any]:
    """Return a calibration as JSON-ready values, six digits each."""
    fit, family = calibration.fit, calibration.family
    upper = np.triu_indices(len(family.parameters))
    return {
        "family": family.name,
        "fitted_on": calibration.fitted_on,
        "rows": fit.rows,
        "source": family.source,
        "errors": calibration.errors,
        "band_seen": _short(calibration.band_seen),
        "band_unseen": _short(calibration.band_unseen),
        "parameters": [
            {
                "name": parameter.name,
                "unit": parameter.unit,
                "meaning": parameter.meaning,
                "common": _short(float(np.exp(value))),
                "log_common": _short(float(value)),
            }
            for parameter, value in zip(family.parameters, fit.common, strict=True)
        ],
        "levels": list(family.levels),
        "tau": _listed(fit.tau),
        "members": [list(level) for level in fit.members],
        "deviations": [_listed(level) for level in fit.deviations],
        "sigma_common": _short(fit.sigma_common),
        "cells": [
            {"members": list(cell), "sigma": _short(float(sigma)), "information": _listed(block[upper])}
            for cell, sigma, block in zip(fit.cells, fit.sigma, fit.information, strict=True)
        ],
    }


def _short(value: float) -> float:
    return float(f"{value:.6g}")


def _listed(values: Floats) -> list[Any]:
    return [_listed(row) if row.ndim else _short(float(row)) for row in values]
