"""Partial pooling: physical parameters of one operator family, fitted over chips, engines and precisions at once.

Model. Row i was measured in cell c(i): one chip, engine and precision. A cell's parameters are positive, so their
logarithms add up,

    theta[c] = common + sum over levels l of deviation[l, member of c in l]          deviation ~ N(0, tau[l]^2)

and ``log latency[i] = log time_s(shape[i], exp theta[c(i)]) + e[i]`` with Student-t errors (outliers count little) of
scale sigma[c]. A level is, for instance, the architecture, the chip, the engine or their combination; tau says how far
its members scatter and is estimated from them, so a chip with three rows stays near its kin and a chip with none is its
kin, with a band that is wider by tau.

Method. Gauss-Newton on the posterior; the Jacobian is taken once per parameter over all rows, since a row depends on
its own cell only, and normal equations are summed by cell. Weights, scales and taus are updated between steps
(expectation maximisation). Nothing is random: the same rows give the same bytes.

What is kept is small: the effects, tau, and per cell its information matrix, from which the covariance of everything is
assembled again when it is needed.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray
from scipy.linalg import cho_factor, cho_solve
from scipy.linalg.lapack import dpotri
from scipy.special import stdtrit

from accelerator.units import Z90

Floats = NDArray[np.float64]
TimeFunction = Callable[[Floats, Floats], Floats]
"""``time_s(shape, parameters)``: shapes [n, W], parameters [P, n] -> time [n]. [s]"""

STUDENT_DF = 3.0
"""Degrees of freedom of the errors: outliers of a factor of two are rare but real in published timings. [-]"""

T_OVER_NORMAL = float(stdtrit(STUDENT_DF, 0.9)) / Z90
"""P90 of the errors over that of a normal distribution of the same scale: what makes a band of a scale. [-]"""

SIGMA_FLOOR = 0.01
"""No cell repeats better than this, whatever its few rows say. [log]"""

SIGMA_ROWS = 10.0
"""A cell's scale is shrunk to the pooled one as if that many rows had shown it. [-]"""

STILL = 0.02
"""A fit ends when no effect and no logarithm of a scatter moved by more than this in a round. [log]"""

TAU_FLOOR = 0.02
"""Smallest scatter of a level; keeps the normal equations regular. [log]"""


@dataclass(frozen=True, slots=True)
class Parameter:
    """One physical parameter of a family.

    Parameters
    ----------
    name, unit, meaning : str
        The name ends in its unit where it has one.
    centre : float
        Prior median of the common value, in its unit; > 0.
    spread : float
        Prior standard deviation of its logarithm. [log]
    tau : float
        Expected scatter of a level's members around it; what tau is shrunk to. [log]
    levels : tuple of int, optional
        Levels at which it deviates (positions); None: at all of them.
    """

    name: str
    unit: str
    meaning: str
    centre: float
    spread: float = 1.0
    tau: float = 0.2
    levels: tuple[int, ...] | None = None


@dataclass(frozen=True)
class Rows:
    """Measured rows of one family, in base units.

    Parameters
    ----------
    shape : float64[n, W]
        What the time function needs: sizes and the chip's data-sheet figures.
    members : tuple of (object[n])
        For each level, the name of each row's member.
    latency_s : float64[n]
        Measured time; NaN where there is none. [s]
    """

    shape: Floats
    members: tuple[NDArray[np.object_], ...]
    latency_s: Floats

    def __len__(self) -> int:
        return len(self.latency_s)

    def take(self, which: NDArray[np.bool_] | NDArray[np.intp]) -> "Rows":
        """Return some of the rows."""
        return Rows(self.shape[which], tuple(level[which] for level in self.members), self.latency_s[which])


@dataclass(frozen=True)
class PooledFit:
    """The fitted family.

    Parameters
    ----------
    parameters : tuple of Parameter
        [P]
    members : tuple of tuple of str
        Members of each level that were seen.
    common : float64[P]
        Logarithms of the common values.
    deviations : tuple of float64[members, P]
        One per level.
    tau : float64[levels, P]
        Scatter of each level. [log]
    cells : tuple of tuple of int
        Members, by position, of each cell seen.
    information : float64[cells, P, P]
        Of each cell about its theta, robust weights included.
    sigma : float64[cells]
        Scale of a cell's errors. [log]
    sigma_common : float
        Scale of the errors of a cell not seen. [log]
    rows : int
        Rows it was fitted to.
    """

    parameters: tuple[Parameter, ...]
    members: tuple[tuple[str, ...], ...]
    common: Floats
    deviations: tuple[Floats, ...]
    tau: Floats
    cells: tuple[tuple[int, ...], ...]
    information: Floats
    sigma: Floats
    sigma_common: float
    rows: int

    @cached_property
    def _factor(self) -> tuple[Floats, bool]:
        """Cholesky factor of the posterior precision of all effects: common, then level by level, member by member."""
        layout = _Layout(self.members, len(self.parameters), self.cells)
        precision = layout.assemble(self.information)
        precision[np.diag_indices_from(precision)] += layout.prior_precision(self.parameters, self.tau)
        return cho_factor(precision, lower=True, overwrite_a=True, check_finite=False)

    def cell(self, names: Sequence[str]) -> tuple[Floats, Floats, float]:
        """Return theta, its covariance and the error scale of one cell, seen or not.

        Parameters
        ----------
        names : sequence of str
            Member of each level. One that was not seen deviates by nothing, give or take its level's tau.

        Returns
        -------
        theta : float64[P]
            Logarithms of the parameters.
        covariance : float64[P, P]
            [log^2]
        sigma : float
            Of a normal distribution with the errors' P10 and P90. [log]
        """
        return self.theta(names), self.covariance(names), self.error_scale(names)

    def theta(self, names: Sequence[str]) -> Floats:
        """Return the logarithms of a cell's parameters; see :meth:`cell`."""
        theta = self.common.copy()
        for deviations, position in zip(self.deviations, self._positions(names), strict=True):
            if position >= 0:
                theta += deviations[position]
        return theta

    def covariance(self, names: Sequence[str]) -> Floats:
        """Return the covariance of a cell's theta; see :meth:`cell`. The first one takes long: it solves for all."""
        size = len(self.parameters)
        starts, extra, offset = [0], np.zeros(size), size
        for level, position in enumerate(self._positions(names)):
            if position >= 0:
                starts.append(offset + position * size)
            else:
                extra += self.tau[level] ** 2
            offset += len(self.members[level]) * size
        picked = np.zeros((len(self._factor[0]), size))
        for a in starts:
            picked[a : a + size] += np.eye(size)
        block: Floats = picked.T @ cho_solve(self._factor, picked, check_finite=False)
        return block + np.diag(extra)

    def error_scale(self, names: Sequence[str]) -> float:
        """Return the error scale of a cell; see :meth:`cell`."""
        return T_OVER_NORMAL * self._sigma_of(self._positions(names))

    def _positions(self, names: Sequence[str]) -> tuple[int, ...]:
        """Return where a cell's members stand among those of their levels; -1 for one not seen."""
        return tuple(
            members.index(name) if name in members else -1 for members, name in zip(self.members, names, strict=True)
        )

    def _sigma_of(self, cell: tuple[int, ...]) -> float:
        """Return the error scale of a cell; of one not seen, the mean of those that share the most members with it."""
        if cell in self.cells:
            return float(self.sigma[self.cells.index(cell)])
        shared = [sum(a == b for a, b in zip(cell, other, strict=True)) for other in self.cells]
        if not max(shared):
            return self.sigma_common
        kin = [sigma for sigma, count in zip(self.sigma, shared, strict=True) if count == max(shared)]
        return float(np.sqrt(np.mean(np.square(kin))))

    def predict(self, time_s: TimeFunction, rows: Rows) -> tuple[Floats, Floats]:
        """Return the median of each row's time and the standard deviation of its logarithm. [s], [log]"""
        theta = np.empty((len(self.parameters), len(rows)))
        variance = np.empty(len(rows))
        cells: dict[tuple[str, ...], list[int]] = {}
        for i, key in enumerate(zip(*rows.members, strict=True)):
            cells.setdefault(key, []).append(i)
        covariances = {}
        for key, which in cells.items():
            mean, covariances[key], sigma = self.cell(key)
            theta[:, which] = mean[:, None]
            variance[which] = sigma**2
        median_s, jacobian = _jacobian(time_s, rows.shape, theta)
        for key, which in cells.items():
            variance[which] += np.einsum("pi,pq,qi->i", jacobian[:, which], covariances[key], jacobian[:, which])
        return median_s, np.sqrt(variance)


class _Layout:
    """Where effects stand in one long vector: common [P], then every level's members, P values each."""

    def __init__(self, members: Sequence[Sequence[str]], size: int, cells: Sequence[Sequence[int]]) -> None:
        self.members, self.size = members, size
        starts = size + size * np.concatenate([[0], np.cumsum([len(names) for names in members])]).astype(int)
        self.length = int(starts[-1])
        self.cell_starts = [
            [0, *(int(starts[level]) + position * size for level, position in enumerate(cell) if position >= 0)]
            for cell in cells
        ]

    def assemble(self, information: Floats) -> Floats:
        """Return the information about all effects from that about each cell."""
        whole, size = np.zeros((self.length, self.length)), self.size
        for block, starts in zip(information, self.cell_starts, strict=True):
            for a in starts:
                for b in starts:
                    whole[a : a + size, b : b + size] += block
        return whole

    def gradient(self, by_cell: Floats) -> Floats:
        """Return the gradient by all effects from that by each cell's theta."""
        whole = np.zeros(self.length)
        for part, starts in zip(by_cell, self.cell_starts, strict=True):
            for a in starts:
                whole[a : a + self.size] += part
        return whole

    def thetas(self, effects: Floats) -> Floats:
        """Return theta [cells, P] of every cell."""
        return np.array([sum(effects[a : a + self.size] for a in starts) for starts in self.cell_starts])

    def prior_precision(self, parameters: Sequence[Parameter], tau: Floats) -> Floats:
        """Return 1 / prior variance of every effect."""
        parts = [np.array([parameter.spread for parameter in parameters]) ** -2.0]
        for level, names in enumerate(self.members):
            parts.append(np.tile(tau[level] ** -2.0, len(names)))
        return np.concatenate(parts)

    def deviations(self, effects: Floats) -> tuple[Floats, ...]:
        """Return the deviations, one array [members, P] per level."""
        parts, offset = [], self.size
        for names in self.members:
            end = offset + len(names) * self.size
            parts.append(effects[offset:end].reshape(len(names), self.size))
            offset = end
        return tuple(parts)


def pooled_fit(
    time_s: TimeFunction, parameters: Sequence[Parameter], rows: Rows, *, sweeps: int = 25, steps: int = 2
) -> PooledFit:
    """Fit a family.

    Parameters
    ----------
    time_s : callable
        See :data:`TimeFunction`.
    parameters : sequence of Parameter
        [P], in the order of the rows of the time function's second argument.
    rows : Rows
        All measured.
    sweeps, steps : int
        Most rounds of expectation maximisation, and Gauss-Newton steps in each. It ends when nothing moves any more.
    """
    size = len(parameters)
    members = tuple(tuple(sorted(set(level))) for level in rows.members)
    positions = [{name: i for i, name in enumerate(names)} for names in members]
    keys = [tuple(positions[level][name] for level, name in enumerate(key)) for key in zip(*rows.members, strict=True)]
    cells = tuple(sorted(set(keys)))
    cell_of = np.array([cells.index(key) for key in keys])
    layout = _Layout(members, size, cells)

    tau_prior = np.array([
        [p.tau if p.levels is None or level in p.levels else TAU_FLOOR / 20 for p in parameters]
        for level in range(len(members))
    ])  # fmt: skip
    tau = tau_prior.copy()
    centre = np.zeros(layout.length)
    centre[:size] = np.log([parameter.centre for parameter in parameters])
    effects = centre.copy()
    observed = np.log(rows.latency_s)
    sigma, sigma_common = np.full(len(cells), 0.2), 0.2

    def residuals_at(effects: Floats) -> Floats:
        theta = layout.thetas(effects)[cell_of].T
        return observed - np.log(time_s(rows.shape, np.exp(theta)))

    def objective(effects: Floats, prior: Floats) -> float:
        scaled = residuals_at(effects) / sigma[cell_of]
        misfit = (STUDENT_DF + 1) / 2 * np.log1p(scaled**2 / STUDENT_DF).sum()
        return float(misfit + 0.5 * (prior * (effects - centre) ** 2).sum())

    damping = 1e-2
    for _ in range(sweeps):
        before, tau_before = effects, tau
        prior = layout.prior_precision(parameters, tau)
        for _ in range(steps):
            theta = layout.thetas(effects)[cell_of].T
            modelled_s, jacobian = _jacobian(time_s, rows.shape, theta)
            information, slope = _by_cell(jacobian, observed - np.log(modelled_s), sigma, cell_of)
            gradient = layout.gradient(slope) - prior * (effects - centre)
            precision = layout.assemble(information)
            precision[np.diag_indices_from(precision)] += prior
            now = objective(effects, prior)
            for _ in range(8):
                move = _damped_move(precision, gradient, damping)
                if objective(effects + move, prior) <= now:
                    effects = effects + move
                    damping = max(damping / 5, 1e-9)
                    break
                damping *= 10
        sigma, sigma_common = _sigma_update(residuals_at(effects), sigma, cell_of)
        tau = _tau_update(layout, effects, precision, tau_prior)
        if np.abs(effects - before).max() < STILL and np.abs(np.log(tau / tau_before)).max() < STILL:
            break
    return PooledFit(
        parameters=tuple(parameters),
        members=members,
        common=effects[:size].copy(),
        deviations=layout.deviations(effects),
        tau=tau,
        cells=cells,
        information=information,
        sigma=sigma,
        sigma_common=sigma_common,
        rows=len(rows),
    )


def _by_cell(jacobian: Floats, residual: Floats, sigma: Floats, cell_of: NDArray[np.intp]) -> tuple[Floats, Floats]:
    """Return information [cells, P, P] about each cell's theta, and the slope [cells, P] of the fit by it."""
    weighted = jacobian * _weights(residual, sigma[cell_of])
    size, cells = len(jacobian), len(sigma)
    information, slope = np.zeros((cells, size, size)), np.zeros((cells, size))
    for c in range(cells):
        which = cell_of == c
        information[c] = weighted[:, which] @ jacobian[:, which].T
        slope[c] = weighted[:, which] @ residual[which]
    return information, slope


def _damped_move(precision: Floats, gradient: Floats, damping: float) -> Floats:
    """Return a Levenberg-Marquardt step, cut so that no effect moves by more than 1."""
    damped = precision.copy()
    damped[np.diag_indices_from(damped)] *= 1 + damping
    move = cho_solve(cho_factor(damped, lower=True, overwrite_a=True, check_finite=False), gradient)
    return move * min(1.0, 1.0 / max(np.abs(move).max(), 1e-12))


def _sigma_update(residual: Floats, sigma: Floats, cell_of: NDArray[np.intp]) -> tuple[Floats, float]:
    """Return the error scale of each cell, shrunk to the pooled one, and the pooled one."""
    counts = np.bincount(cell_of, minlength=len(sigma)).astype(float)
    weight = _weights(residual, sigma[cell_of]) * sigma[cell_of] ** 2
    squares = np.bincount(cell_of, weights=weight * residual**2, minlength=len(sigma))
    common = float(np.sqrt(squares.sum() / len(residual)))
    shrunk = np.sqrt((squares + SIGMA_ROWS * common**2) / (counts + SIGMA_ROWS))
    return np.maximum(shrunk, SIGMA_FLOOR), common


def _weights(residual: Floats, sigma: Floats) -> Floats:
    """Return what each row counts: (df + 1) / (df + z^2) of a Student-t, over sigma^2."""
    return (STUDENT_DF + 1) / (STUDENT_DF + (residual / sigma) ** 2) / sigma**2


def _tau_update(layout: _Layout, effects: Floats, precision: Floats, tau_prior: Floats) -> Floats:
    """Return the scatter of each level: its members' squares and their variances, shrunk to the expected one."""
    factor, _ = cho_factor(precision, lower=True, check_finite=False)
    variance = layout.deviations(np.diag(dpotri(factor, lower=1, overwrite_c=1)[0]))
    rows = []
    for level, (deviations, variances) in enumerate(zip(layout.deviations(effects), variance, strict=True)):
        squares = (deviations**2 + variances).sum(axis=0) + 2 * tau_prior[level] ** 2
        tau = np.sqrt(squares / (len(deviations) + 2))
        rows.append(np.where(tau_prior[level] < TAU_FLOOR, tau_prior[level], np.maximum(tau, TAU_FLOOR)))
    return np.array(rows)


def _jacobian(time_s: TimeFunction, shape: Floats, theta: Floats) -> tuple[Floats, Floats]:
    """Return the time [n] and d log time / d theta [P, n], by forward differences."""
    step = 1e-5
    base_s = time_s(shape, np.exp(theta))
    jacobian = np.empty_like(theta)
    for p in range(len(theta)):
        moved = theta.copy()
        moved[p] += step
        jacobian[p] = (np.log(time_s(shape, np.exp(moved))) - np.log(base_s)) / step
    return base_s, jacobian
