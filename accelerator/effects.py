"""Shrunken deviations for rows that share groups: one row may belong to a chip, an engine, a model and more at once.

Row i has parameters theta [P] whose logarithms add up,

    theta[i] = common + sum over levels l of deviation[l, member of i in l]          deviation ~ N(0, tau[l]^2)

and ``log value[i] = f(i, theta[i]) + e[i]`` with Student-t errors of a scale that rows of one kind share. It is the
model of ``pooling`` with rows instead of cells: there every row of a cell has the same parameters and cells are few;
here nearly every row has a combination of its own, so the algebra is done in rows, not in effects.

Method. Gauss-Newton: f is replaced by its tangent, J = df / dtheta [P, n]. The errors of all rows together then have
the covariance

    K = J' spread^2 J + sum over levels (J' tau[l]^2 J) where both rows have the same member + noise

and every effect follows from one solution of K: deviation[l, m] = tau[l]^2 sum over rows of m of J (K^-1 z). Weights
and scales of the errors and tau are updated between steps (expectation maximisation, with a few pseudo-members that are
as expected). Nothing is random: the same rows give the same effects.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri

from accelerator.pooling import Parameter

Floats = NDArray[np.float64]
Model = Callable[[Floats], Floats]
"""``log_value(theta)``: logarithms of parameters [P, n] -> logarithm of what each row measures [n]."""

STUDENT_DF = 4.0
"""Degrees of freedom of the errors. [-]"""

SCALE_ROWS = 10.0
"""A kind's error scale is shrunk to the pooled one as if that many rows had shown it. [-]"""

SCALE_FLOOR = 0.02
"""No kind of row repeats better than this. [log]"""

PSEUDO_MEMBERS = 3.0
"""Members of a level that are taken to scatter as expected, beside those that were seen. [-]"""

STEP_MOST = 1.0
"""No parameter's logarithm moves further in one step. [log]"""


@dataclass(frozen=True, eq=False)
class Members:
    """Which member of each level a row belongs to: names per level, and per row its index; -1: none.

    Parameters
    ----------
    levels : tuple of str
        Names of the levels.
    names : tuple of tuple of str
        Members of each level.
    index : int64[levels, n]
        Member of each row.
    """

    levels: tuple[str, ...]
    names: tuple[tuple[str, ...], ...]
    index: NDArray[np.int64]

    @classmethod
    def of(cls, rows: Sequence[Mapping[str, str]], levels: Sequence[str]) -> "Members":
        """Return the members of rows given as names by level; an empty name is none."""
        names = tuple(tuple(sorted({row[level] for row in rows} - {""})) for level in levels)
        return cls.within(rows, tuple(levels), names)

    @classmethod
    def within(
        cls, rows: Sequence[Mapping[str, str]], levels: tuple[str, ...], names: tuple[tuple[str, ...], ...]
    ) -> "Members":
        """Return the members of rows among known ones; what is not known is none."""
        at = [{name: i for i, name in enumerate(level)} for level in names]
        index = np.array(
            [[at[i].get(row[level], -1) for row in rows] for i, level in enumerate(levels)], dtype=np.int64
        ).reshape(len(levels), len(rows))
        return cls(levels, names, index)


@dataclass(frozen=True, eq=False)
class Effects:
    """Fitted effects.

    Parameters
    ----------
    common : float64[P]
        Logarithms of the parameters that all rows share.
    deviations, variances : tuple of float64[members, P]
        Of every level: posterior means, and variances.
    tau : float64[levels, P]
        Scatter of the members of each level. [log]
    common_covariance : float64[P, P]
        Of ``common``.
    scales : mapping of str to float
        Error scale of each kind of row. [log]
    rows : int
        Rows fitted.
    """

    members: Members
    common: Floats
    deviations: tuple[Floats, ...]
    variances: tuple[Floats, ...]
    tau: Floats
    common_covariance: Floats
    scales: Mapping[str, float]
    rows: int

    def thetas(self, members: Members) -> Floats:
        """Return the logarithms of the parameters [P, n] of rows; a member that was not seen deviates by nothing."""
        theta = np.repeat(self.common[:, None], members.index.shape[1], axis=1)
        for deviation, at in zip(self.deviations, members.index, strict=True):
            seen = at >= 0
            theta[:, seen] += deviation[at[seen]].T
        return theta

    def theta_variances(self, members: Members) -> Floats:
        """Return variances [P, n] of the logarithms: as fitted, and tau^2 for members that were not seen."""
        variance = np.repeat(np.diag(self.common_covariance)[:, None], members.index.shape[1], axis=1)
        for level, (fitted, at) in enumerate(zip(self.variances, members.index, strict=True)):
            seen = at >= 0
            variance[:, seen] += fitted[at[seen]].T
            variance[:, ~seen] += (self.tau[level] ** 2)[:, None]
        return variance


TANGENT_STEP = 1e-4
"""Step of forward differences. [log]"""


def tangent(model: Model, theta: Floats, step: float = TANGENT_STEP) -> tuple[Floats, Floats]:
    """Return the value [n] and its derivative by each parameter [P, n], by forward differences."""
    value = model(theta)
    slopes = np.empty_like(theta)
    for p in range(len(theta)):
        moved = theta.copy()
        moved[p] += step
        slopes[p] = (model(moved) - value) / step
    return value, slopes


def effects_fit(
    model: Model,
    observed: Floats,
    members: Members,
    kinds: Sequence[str],
    *,
    parameters: Sequence[Parameter],
    tau: Floats,
    scale_start: float = 0.15,
    steps: int = 14,
    learn: bool = True,
    start: Floats | None = None,
) -> Effects:
    """Fit common values and deviations.

    Parameters
    ----------
    model : callable
        See :data:`Model`; of exactly the rows given.
    observed : float64[n]
        Logarithms of what was measured.
    members : Members
        Of every row.
    kinds : sequence of str
        Kind of every row: rows of one kind have errors of one scale.
    parameters : sequence of Parameter
        Medians and spreads of the common values.
    tau : float64[levels, P]
        Expected scatter; 0 where a level does not deviate.
    steps : int
        Gauss-Newton steps.
    learn : bool
        Whether tau is updated from the rows.
    start : float64[P], optional
        Common values to begin with.
    """
    centre = np.log([parameter.centre for parameter in parameters])
    spread = np.array([parameter.spread for parameter in parameters])
    names, kind_of = np.unique(np.asarray(kinds), return_inverse=True)
    scale = np.full(len(names), scale_start)
    common = centre.copy() if start is None else start.copy()
    deviations = tuple(np.zeros((len(level), len(centre))) for level in members.names)
    tau_expected, tau = tau, tau.copy()
    same = [(at[:, None] == at[None, :]) & (at >= 0)[:, None] for at in members.index]
    state = Effects(members, common, deviations, deviations, tau, np.diag(spread**2), {}, len(observed))
    for step in range(steps):
        theta = state.thetas(members)
        value, slopes = tangent(model, theta)
        residual = observed - value
        noise = scale[kind_of] ** 2 / _weights(residual, scale[kind_of])
        goal = residual + np.einsum("pn,pn->n", slopes, theta - centre[:, None])
        factor = _factor(slopes, spread, tau, same, noise)
        solved = slopes * cho_solve(factor, goal, check_finite=False)
        new_common = centre + spread**2 * solved.sum(axis=1)
        new = []
        for level, at in enumerate(members.index):
            total = np.zeros_like(deviations[level])
            np.add.at(total, at[at >= 0], solved[:, at >= 0].T)
            new.append(total * tau[level] ** 2)
        aim = Effects(members, new_common, tuple(new), tuple(new), tau, state.common_covariance, {}, len(observed))
        share = min(1.0, STEP_MOST / max(float(np.abs(aim.thetas(members) - theta).max()), 1e-12))
        state = Effects(
            members,
            state.common + share * (new_common - state.common),
            tuple(old + share * (now - old) for old, now in zip(state.deviations, new, strict=True)),
            state.variances,
            tau,
            state.common_covariance,
            {},
            len(observed),
        )
        if step >= 2:
            residual = observed - model(state.thetas(members))
            scale = _scales(residual, scale, kind_of)
        last = step == steps - 1
        if last or (learn and 3 <= step < steps - 3 and step % 2):
            variances, covariance = _variances(factor, slopes, spread, tau, members, same)
            if last:
                state = Effects(
                    members, state.common, state.deviations, variances, tau, covariance,
                    dict(zip(names.tolist(), scale.tolist(), strict=True)), len(observed),
                )  # fmt: skip
            else:
                tau = _tau_update(state.deviations, variances, members, tau_expected)
    return state


def _factor(
    slopes: Floats, spread: Floats, tau: Floats, same: Sequence[NDArray[np.bool_]], noise: Floats
) -> tuple[Floats, bool]:
    """Return the Cholesky factor of K."""
    covariance = (slopes * spread[:, None] ** 2).T @ slopes
    for level, mask in enumerate(same):
        if tau[level].any():
            covariance += ((slopes * tau[level][:, None] ** 2).T @ slopes) * mask
    covariance[np.diag_indices_from(covariance)] += noise
    factor: tuple[Floats, bool] = cho_factor(covariance, lower=True, overwrite_a=True, check_finite=False)
    return factor


def _variances(
    factor: tuple[Floats, bool],
    slopes: Floats,
    spread: Floats,
    tau: Floats,
    members: Members,
    same: Sequence[NDArray[np.bool_]],
) -> tuple[tuple[Floats, ...], Floats]:
    """Return the posterior variance of every deviation, and the covariance of the common values."""
    inverse = np.tril(dpotri(factor[0], lower=1)[0])
    inverse += np.tril(inverse, -1).T
    told = slopes @ inverse @ slopes.T
    covariance = np.diag(spread**2) - (spread[:, None] ** 2) * told * spread**2
    variances = []
    for level, mask in enumerate(same):
        at = members.index[level]
        by_row = (slopes @ (inverse * mask)) * slopes
        total = np.zeros((len(members.names[level]), len(spread)))
        np.add.at(total, at[at >= 0], by_row[:, at >= 0].T)
        variances.append(np.maximum(tau[level] ** 2 - tau[level] ** 4 * total, 0.0))
    return tuple(variances), covariance


def _tau_update(
    deviations: Sequence[Floats], variances: Sequence[Floats], members: Members, expected: Floats
) -> Floats:
    """Return the scatter of each level: squares and variances of its members, shrunk to the expected scatter."""
    rows = []
    for level, (deviation, variance) in enumerate(zip(deviations, variances, strict=True)):
        squares = (deviation**2 + variance).sum(axis=0) + PSEUDO_MEMBERS * expected[level] ** 2
        rows.append(np.where(expected[level] > 0, np.sqrt(squares / (len(members.names[level]) + PSEUDO_MEMBERS)), 0.0))
    return np.array(rows)


def _scales(residual: Floats, scale: Floats, kind_of: NDArray[np.intp]) -> Floats:
    """Return the error scale of each kind, shrunk to that of all."""
    squares = _weights(residual, scale[kind_of]) * residual**2
    total = np.bincount(kind_of, weights=squares, minlength=len(scale))
    counts = np.bincount(kind_of, minlength=len(scale))
    return np.maximum(np.sqrt((total + SCALE_ROWS * squares.mean()) / (counts + SCALE_ROWS)), SCALE_FLOOR)


def _weights(residual: Floats, scale: Floats) -> Floats:
    """Return what each row counts under a Student-t, relative to a normal."""
    return (STUDENT_DF + 1) / (STUDENT_DF + (residual / scale) ** 2)
