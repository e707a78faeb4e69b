"""Which points to measure: those that tell most about the others, before anything is measured.

An own point moves what belongs to its chip (``ServingCalibration.updated``), so two rows inform each other by what
effects they share and how strongly those move either. With the prior covariance C of the rows and errors of variance
s^2, measuring row i narrows row j by the share C_ij^2 / ((C_jj + s_j^2) (C_ii + s_i^2)); the row with the largest sum
of -log(1 - share) over all rows is taken, C is conditioned on it, and the next is looked for. No value is looked at.
"""

import numpy as np

from accelerator.pooling import Floats
from accelerator.serving_calibration import PointRows, ServingCalibration, effects_covariance


def anchors_pick(calibration: ServingCalibration, rows: PointRows, number: int) -> tuple[list[int], list[float]]:
    """Return the rows to measure, the most telling first, and what each of them leaves of all rows' spread.

    Parameters
    ----------
    rows : PointRows
        What is to be known and can be measured; measured values are not looked at.
    number : int
        Rows wanted; fewer are returned where there are fewer.

    Returns
    -------
    picked : list of int
        Rows.
    left : list of float
        Median over rows of the standard deviation after measuring so many, over that before. [-]
    """
    members, _, variances = calibration.prior(rows)
    _, slopes = rows.tangent(calibration.effects.thetas(calibration.members(calibration.groups(rows))))
    covariance = effects_covariance(slopes, members, variances)
    error = calibration.error_scales(rows) ** 2
    before = np.diag(covariance) + error
    free = np.ones(len(error), dtype=bool)
    picked: list[int] = []
    left: list[float] = []
    for _ in range(min(number, len(error))):
        best = int(np.argmax(np.where(free, _gains(covariance, error), -np.inf)))
        free[best] = False
        column = covariance[:, best]
        covariance = covariance - np.outer(column, column) / (covariance[best, best] + error[best])
        picked.append(best)
        left.append(float(np.median(np.sqrt((np.diag(covariance) + error) / before))))
    return picked, left


def _gains(covariance: Floats, error: Floats) -> Floats:
    """Return what measuring each row tells about all. [log]"""
    total = np.maximum(np.diag(covariance), 0.0) + error
    share = np.minimum(covariance**2 / np.outer(total, total), 1 - 1e-9)
    return -np.log1p(-share).sum(axis=1)
