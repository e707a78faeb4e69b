"""The fitted engines: what serving takes beyond kernels, by chip, engine, model and more, with bands.

``data/calibration/serving.json`` holds what ``python -m accelerator fit-serving`` wrote: common values, deviations and
variances (see ``effects``), how far every group of rows was off when it was held out, and what bands are widened by so
that P10 to P90 hold 80 % of such rows.
"""

import hashlib
import json
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cache, cached_property
from importlib import resources
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelerator.chips import ChipSpec, chips_load
from accelerator.effects import TANGENT_STEP, Effects, Members, effects_fit, tangent
from accelerator.errors import AcceleratorError, DataFileError
from accelerator.groups import LEVELS, groups_of, tau_expected
from accelerator.loads import serve
from accelerator.points import Deployment, PointError
from accelerator.pooling import Floats
from accelerator.serving import PARAMETERS, Loads, loads_of, loads_take
from accelerator.units import Z90

PAIR, CHIP, SHEET = "calibrated-pair", "calibrated-chip", "data-sheet"
BASES = (PAIR, CHIP, SHEET)
"""What a prediction stands on: the chip was measured with this model, with others, or not at all."""

STRANGE = "data-sheet, engine unseen"
"""Whose deviations have widths of their own: neither the chip nor its engine was measured anywhere."""

# --- metrics ---------------------------------------------------------------------------------------------------------
Scale = Callable[[Deployment], float]


def _per_chip(d: Deployment) -> float:
    stated = d.point.chips
    return 1.0 / (stated if stated and d.layout.chips <= stated else d.layout.chips)


def _as_it_is(_: Deployment) -> float:
    return 1.0


def _in_ms(_: Deployment) -> float:
    return 1e3


METRICS: Mapping[str, tuple[str, Scale]] = {
    "output_tok_s": ("tok_s", _as_it_is),
    "output_tok_s_per_chip": ("tok_s", _per_chip),
    "total_tok_s": ("tok_s", lambda d: (d.input_tok + d.output_tok) / max(1.0, d.output_tok)),
    "req_s": ("tok_s", lambda d: 1.0 / max(1.0, d.output_tok)),
    "input_tok_s": ("input_tok_s", _as_it_is),
    "input_tok_s_per_chip": ("input_tok_s", _per_chip),
    "tok_s_per_user": ("user_tok_s", _as_it_is),
    **dict.fromkeys(("tpot_ms", "tpot_mean_ms", "tpot_p50_ms", "itl_mean_ms", "decode_step_ms"),
                    ("tpot_s", _in_ms)),
    **dict.fromkeys(("ttft_ms", "ttft_mean_ms", "ttft_p50_ms"), ("ttft_s", _in_ms)),
    "prefill_batch_ms": ("prefill_s", _in_ms),
    "batch_e2e_ms": ("e2e_s", _in_ms),
}  # fmt: skip
"""Metric of a table: output of the serving model, and what that is multiplied by."""

POWER_METRICS = ("avg_power_frac_tdp", "peak_power_frac_tdp")


def metric_class(d: Deployment) -> str:
    """Return the class that errors of a row are counted in: tpot, throughput, batch time, ttft ...; with load."""
    name = METRICS[d.point.metric][0]
    kind = {"tok_s": "throughput", "input_tok_s": "prompts", "tpot_s": "tpot", "user_tok_s": "tpot", "ttft_s": "ttft",
            "prefill_s": "batch", "e2e_s": "batch"}[name]  # fmt: skip
    return f"burst {kind}" if d.kind == "burst" and kind in {"ttft", "throughput"} else kind


CORE = frozenset({"tpot", "throughput", "batch"})
"""Classes without queueing: TPOT, throughput without bursts, batch times."""


TILED_ROWS = 64
"""Rows up to which all derivatives are asked for in one call. [-]"""


@dataclass(frozen=True, eq=False)
class PointRows:
    """Rows ready for the model: deployments, their arrays, which output each row is, and groups.

    Parameters
    ----------
    loads : Loads
        Of all rows.
    output : tuple of str
        Name of the output of each row.
    scale : float64[n]
        From that output to the unit of the row.
    """

    deployments: tuple[Deployment, ...]
    loads: Loads
    output: tuple[str, ...]
    scale: Floats
    groups: tuple[Mapping[str, str], ...]

    @classmethod
    def of(cls, deployments: Sequence[Deployment], *, measured: bool = True) -> "PointRows":
        """Return rows; PointError names a metric that is not modelled."""
        for d in deployments:
            if d.point.metric not in METRICS:
                raise PointError(f'metric "{d.point.metric}" is not modelled')
        return cls(
            deployments=tuple(deployments),
            loads=loads_of(deployments),
            output=tuple(METRICS[d.point.metric][0] for d in deployments),
            scale=np.array([METRICS[d.point.metric][1](d) for d in deployments]),
            groups=tuple(groups_of(d, measured=measured) for d in deployments),
        )

    def take(self, which: Sequence[int] | NDArray[np.intp]) -> "PointRows":
        """Return some of the rows."""
        at = np.asarray(which, dtype=np.intp)
        return PointRows(
            tuple(self.deployments[i] for i in at),
            loads_take(self.loads, at),
            tuple(self.output[i] for i in at),
            self.scale[at],
            tuple(self.groups[i] for i in at),
        )

    def log_values(self, theta: Floats) -> Floats:
        """Return the logarithm of what each row measures, in its unit, for logarithms of parameters [P, n]."""
        outputs = serve(self.loads, np.exp(theta))
        values = np.empty(len(self.scale))
        for name in set(self.output):
            of = np.array([own == name for own in self.output])
            values[of] = 1 / outputs["tpot_s"][of] if name == "user_tok_s" else outputs[name][of]
        return np.log(np.maximum(values * self.scale, 1e-12))

    def tangent(self, theta: Floats) -> tuple[Floats, Floats]:
        """Return the logarithm of each value [n] and its derivative by each parameter [P, n]; few rows all at once."""
        size, count = theta.shape
        if count > TILED_ROWS:
            return tangent(self.log_values, theta)
        moved = np.tile(theta, (1, size + 1))
        for p in range(size):
            moved[p, (p + 1) * count : (p + 2) * count] += TANGENT_STEP
        values = self.take(np.tile(np.arange(count), size + 1)).log_values(moved).reshape(size + 1, count)
        return values[0], (values[1:] - values[0]) / TANGENT_STEP

    @property
    def observed(self) -> Floats:
        """Logarithms of the measured values [n]."""
        return np.log([d.point.value for d in self.deployments])

    @property
    def kinds(self) -> list[str]:
        """Kind of each row, for the scale of its error: class and load."""
        return [f"{metric_class(d)}|{d.kind}" for d in self.deployments]


# --- the fit ---------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class Predictions:
    """Predicted values in the unit of each row [n], with P10 and P90, and what each stands on."""

    value: Floats
    p10: Floats
    p90: Floats
    basis: tuple[str, ...]


@dataclass(frozen=True, eq=False)
class ServingCalibration:
    """A fit of the serving model.

    Parameters
    ----------
    effects : Effects
        Common values and deviations.
    widths : mapping of str to float
        What standard deviations are multiplied by, by basis and class of metric: ``calibrated-chip|ttft``. [-]
    fitted_on : str
        Day of the fit, ISO.
    errors : mapping
        What cross-validation found; see ``accuracy``.
    """

    effects: Effects
    widths: Mapping[str, float]
    fitted_on: str
    errors: Mapping[str, Any]

    @cached_property
    def digest(self) -> str:
        """SHA-256 of what predictions follow from."""
        values = calibration_dict(self)
        values.pop("errors")
        return hashlib.sha256(json.dumps(values, sort_keys=True).encode()).hexdigest()

    def members(self, groups: Sequence[Mapping[str, str]]) -> Members:
        """Return rows of groups as members of this fit's levels."""
        return Members.within(groups, self.effects.members.levels, self.effects.members.names)

    @cached_property
    def known(self) -> Mapping[str, frozenset[str]]:
        """Members of each level that have effects of their own."""
        members = self.effects.members
        return {level: frozenset(names) for level, names in zip(members.levels, members.names, strict=True)}

    def basis(self, groups: Mapping[str, str], chip: ChipSpec | None = None) -> str:
        """Return what a prediction for a deployment stands on; an own chip stands on the chip it is derived from."""
        if groups["pair"] in self.known["pair"]:
            return PAIR
        seen = groups["chip"] in self.known["chip"] or (chip is not None and self._base(chip))
        return CHIP if seen else SHEET

    def groups(self, rows: PointRows) -> tuple[Mapping[str, str], ...]:
        """Return the groups of rows; where an own chip has no effects yet, those of the chip it is derived from."""
        return tuple(self._inherited(d.chip, own) for d, own in zip(rows.deployments, rows.groups, strict=True))

    def _base(self, chip: ChipSpec) -> str:
        """Return the measured chip of the catalog that an own chip is derived from; empty if there is none."""
        held = chips_load()
        if chip.slug in held:
            return ""
        base = held.get(chip.derived_from)
        while base and base.slug not in self.known["chip"]:
            base = held.get(base.derived_from)
        return base.slug if base else ""

    def _inherited(self, chip: ChipSpec, groups: Mapping[str, str]) -> Mapping[str, str]:
        base = self._base(chip)
        if not base:
            return groups
        unseen = [level for level in CHIP_LEVELS if groups[level] not in self.known[level]]
        return {**groups, **{level: base + groups[level].removeprefix(chip.slug) for level in unseen}}

    def parameters(self, deployment: Deployment, *, measured: bool = True) -> Mapping[str, float]:
        """Return the parameters of a deployment by name, in their units."""
        groups = self._inherited(deployment.chip, groups_of(deployment, measured=measured))
        theta = self.effects.thetas(self.members([groups]))[:, 0]
        return dict(zip((p.name for p in PARAMETERS), np.exp(theta).tolist(), strict=True))

    def deployment(self, rows: PointRows) -> tuple[Floats, float, str]:
        """Return parameters [P], widened standard deviation of log TPOT, and basis of one row that states a TPOT."""
        _, deviation = self.spread(rows)
        basis = self.basis(rows.groups[0], rows.deployments[0].chip)
        theta = np.exp(self.effects.thetas(self.members(self.groups(rows)))[:, 0])
        return theta, self.width(rows.groups[0], basis, "tpot") * float(deviation[0]), basis

    def width(self, groups: Mapping[str, str], basis: str, name: str) -> float:
        """Return what the standard deviation of a class of metric is multiplied by. [-]"""
        usual = self.widths.get(f"{basis}|{name}", 1.0)
        strange = basis == SHEET and groups["engine"] not in self.known["engine"]
        return self.widths.get(f"{STRANGE}|{name}", usual) if strange else usual

    def predict(self, rows: PointRows) -> Predictions:
        """Return what each row should measure."""
        log_value, deviation = self.spread(rows)
        basis = tuple(self.basis(groups, d.chip) for groups, d in zip(rows.groups, rows.deployments, strict=True))
        width = np.array([
            self.width(groups, own, metric_class(d))
            for groups, own, d in zip(rows.groups, basis, rows.deployments, strict=True)
        ])  # fmt: skip
        sheet = _sheet_spread(rows, self, log_value)
        spread = np.exp(Z90 * np.hypot(width * deviation, sheet))
        value = np.exp(log_value)
        return Predictions(value, value / spread, value * spread, basis)

    def spread(self, rows: PointRows) -> tuple[Floats, Floats]:
        """Return the logarithm of each value, and its standard deviation before widening."""
        members = self.members(self.groups(rows))
        log_value, slopes = rows.tangent(self.effects.thetas(members))
        by_parameter = (slopes**2 * self.effects.theta_variances(members)).sum(axis=0)
        return log_value, np.sqrt(by_parameter + self.error_scales(rows) ** 2)

    def error_scales(self, rows: PointRows) -> Floats:
        """Return how far each row is off where its parameters are right. [log]"""
        known = self.effects.scales
        usual = float(np.median(list(known.values())))
        return np.array([known.get(kind, usual) for kind in rows.kinds])

    def updated(self, rows: PointRows, *, fitted_on: str) -> "ServingCalibration":
        """Return the calibration after further points: this one is the prior, so one point is enough to help.

        Only what is the points' own moves: deviations of members that nobody has seen, around 0 with the level's
        scatter, and of levels that name the chip, around the fitted value with the fitted variance. Common values and
        what engines and models have in common were found from many rows together; their variances alone do not say
        how firmly, so they stay.
        """
        members, means, variances = self.prior(rows)
        return replace(self, effects=_posterior(rows, members, self.effects, means, variances), fitted_on=fitted_on)

    def prior(self, rows: PointRows) -> tuple[Members, list[Floats], list[Floats]]:
        """Return what further points start from: members with theirs, and per level means and variances of effects."""
        old = self.effects
        names = tuple(
            (*known, *sorted({groups[level] for groups in rows.groups} - set(known) - {""}))
            for level, known in zip(old.members.levels, old.members.names, strict=True)
        )
        members = Members.within(rows.groups, old.members.levels, names)
        size, taken = len(PARAMETERS), self.groups(rows)
        means, variances = [], []
        for level, (deviation, variance) in enumerate(zip(old.deviations, old.variances, strict=True)):
            new = len(names[level]) - len(deviation)
            means.append(np.vstack([deviation, np.zeros((new, size))]))
            at = {name: i for i, name in enumerate(names[level])}
            for own, like in zip(rows.groups, taken, strict=True):  # an own chip begins where its base stands
                own_at, like_at = (at.get(groups[old.members.levels[level]], -1) for groups in (own, like))
                if 0 <= like_at < len(deviation) <= own_at:
                    means[-1][own_at] = deviation[like_at]
            free = float(old.members.levels[level] in CHIP_LEVELS)
            variances.append(np.vstack([variance * free, np.tile(old.tau[level] ** 2, (new, 1))]))
        return members, means, variances


CHIP_LEVELS = frozenset({"chip", "pair", "chip_engine", "chip_format", "deployment"})
"""Levels whose members belong to one chip."""

UPDATE_STEPS = 6
"""Gauss-Newton steps of an update."""


def effects_covariance(slopes: Floats, members: Members, variances: Sequence[Floats]) -> Floats:
    """Return the covariance [n, n] that effects of such variances give rows of slopes [P, n]. [log^2]"""
    covariance = np.zeros((slopes.shape[1], slopes.shape[1]))
    for at, variance in zip(members.index, variances, strict=True):
        seen = at >= 0
        same = (at[:, None] == at[None, :]) & seen[:, None]
        spread = np.zeros(slopes.shape)
        spread[:, seen] = variance[at[seen]].T
        covariance += ((slopes * spread).T @ slopes) * same
    return covariance


def _posterior(
    rows: PointRows, members: Members, old: Effects, means: Sequence[Floats], variances: Sequence[Floats]
) -> Effects:
    """Return effects after rows, from normal priors of every effect: the algebra of ``effects``, prior by prior."""
    observed, kinds = rows.observed, rows.kinds
    usual = float(np.median(list(old.scales.values())))
    scale = np.array([old.scales.get(kind, usual) for kind in kinds])
    prior = replace(old, members=members, deviations=tuple(means))
    base = prior.thetas(members)
    state, at = prior, members.index
    for _ in range(UPDATE_STEPS):
        theta = state.thetas(members)
        value, slopes = rows.tangent(theta)
        residual = observed - value
        weight = 5.0 / (4.0 + (residual / scale) ** 2)
        covariance = effects_covariance(slopes, members, variances)
        covariance[np.diag_indices_from(covariance)] += scale**2 / weight
        goal = residual + np.einsum("pn,pn->n", slopes, theta - base)
        solved = slopes * np.linalg.solve(covariance, goal)
        new = []
        for level, mean in enumerate(means):
            moved = np.zeros_like(mean)
            seen = at[level] >= 0
            np.add.at(moved, at[level][seen], solved[:, seen].T)
            new.append(mean + moved * variances[level])
        aim = replace(state, deviations=tuple(new))
        share = min(1.0, 1.0 / max(float(np.abs(aim.thetas(members) - theta).max()), 1e-12))
        state = replace(
            state,
            deviations=tuple(a + share * (b - a) for a, b in zip(state.deviations, new, strict=True)),
        )
    inverse = np.linalg.inv(covariance)
    left = []
    for level, variance in enumerate(variances):
        seen = at[level] >= 0
        same = (at[level][:, None] == at[level][None, :]) & seen[:, None]
        by_row = (slopes @ (inverse * same)) * slopes
        total = np.zeros_like(variance)
        np.add.at(total, at[level][seen], by_row[:, seen].T)
        after = np.maximum(variance - variance**2 * total, 0.0)
        kept = len(old.variances[level])
        after[:kept] = np.where(variance[:kept] > 0, after[:kept], old.variances[level])
        left.append(after)
    return replace(state, variances=tuple(left), rows=old.rows + len(observed))


def calibration_fit(
    rows: PointRows, *, fitted_on: str, like: ServingCalibration | None = None, steps: int = 14
) -> ServingCalibration:
    """Fit rows together; widths and errors come from ``accuracy``.

    Parameters
    ----------
    like : ServingCalibration, optional
        Fit whose scatters are used, and whose common values are begun with; both are found if left out.
    """
    effects = effects_fit(
        rows.log_values, rows.observed, Members.of(rows.groups, tuple(LEVELS)), rows.kinds, parameters=PARAMETERS,
        tau=tau_expected() if like is None else like.effects.tau, steps=steps, learn=like is None,
        start=None if like is None else like.effects.common,
    )  # fmt: skip
    return ServingCalibration(effects, {}, fitted_on, {})


def _sheet_spread(rows: PointRows, calibration: ServingCalibration, log_value: Floats) -> Floats:
    """Return the standard deviation that ranges of the chips' data sheets add to each row. [log]"""
    spread = np.zeros(len(log_value))
    groups = calibration.groups(rows)
    vague: dict[ChipSpec, list[int]] = {}
    for i, d in enumerate(rows.deployments):
        if any(not figure.exact for figure in d.chip.figures().values()):
            vague.setdefault(d.chip, []).append(i)
    for chip, which in vague.items():
        some = [rows.deployments[i] for i in which]
        theta = calibration.effects.thetas(calibration.members([groups[i] for i in which]))
        for low, high in _varied(chip):
            ends = []
            for other in (low, high):
                try:
                    moved = PointRows.of([replace(d, chip=other) for d in some])
                except AcceleratorError:
                    break
                ends.append(moved.log_values(theta))
            if len(ends) == 2:
                spread[which] += ((ends[1] - ends[0]) / (2 * Z90)) ** 2
    return np.sqrt(spread)


@cache
def _varied(chip: ChipSpec) -> tuple[tuple[ChipSpec, ChipSpec], ...]:
    """Return the chip with each vague figure at its low and at its high; peaks of one chip are wrong together."""
    pairs = []
    if not all(figure.exact for figure in chip.peak_flop_s.values()):
        ends = [chip, chip]
        for precision, figure in chip.peak_flop_s.items():
            ends = [
                end.varied(f"peak_flop_s[{precision}]", value)
                for end, value in zip(ends, (figure.low, figure.high), strict=True)
            ]
        pairs.append((ends[0], ends[1]))
    for name in ("memory_byte_s", "memory_byte", "scale_up_byte_s"):
        known = chip.given.get(name)
        if known is not None and not known.exact:
            pairs.append((chip.varied(name, known.low), chip.varied(name, known.high)))
    return tuple(pairs)


# --- files -----------------------------------------------------------------------------------------------------------
@cache
def serving_calibration_load() -> ServingCalibration:
    """Return the committed fit; DataFileError if it does not match the model's parameters."""
    path = resources.files("accelerator").joinpath("data", "calibration", "serving.json")
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise DataFileError(
            f"accelerator/data/calibration/serving.json: {error}; `python -m accelerator fit-serving` makes it"
        ) from error
    return calibration_parse(values, "accelerator/data/calibration/serving.json")


def calibration_parse(values: Mapping[str, Any], name: str) -> ServingCalibration:
    """Return a calibration from what :func:`calibration_dict` wrote; DataFileError names the file."""
    try:
        return _parse(values, name)
    except DataFileError:
        raise
    except (AttributeError, KeyError, TypeError, ValueError) as error:
        raise DataFileError(f"{name}: not a serving calibration: {error!r}") from error


def _parse(values: Mapping[str, Any], name: str) -> ServingCalibration:
    own = [row["name"] for row in values["parameters"]]
    if own != [parameter.name for parameter in PARAMETERS] or [row["level"] for row in values["levels"]] != list(
        LEVELS
    ):
        raise DataFileError(f"{name} was fitted to another model: fit again")
    size = len(own)
    levels = values["levels"]
    names = tuple(tuple(str(row["member"]) for row in level["members"]) for level in levels)
    deviations, variances = (
        tuple(np.array([row[part] for row in level["members"]], dtype=float).reshape(-1, size) for level in levels)
        for part in ("deviation", "sd")
    )
    effects = Effects(
        members=Members(tuple(LEVELS), names, np.zeros((len(LEVELS), 0), dtype=np.int64)),
        common=np.array([row["log_common"] for row in values["parameters"]], dtype=float),
        deviations=deviations,
        variances=tuple(sd**2 for sd in variances),
        tau=np.array([level["tau"] for level in levels], dtype=float),
        common_covariance=np.array(values["common_covariance"], dtype=float),
        scales={str(kind): float(scale) for kind, scale in values["scales"].items()},
        rows=int(values["rows"]),
    )
    widths = {str(kind): float(width) for kind, width in values["widths"].items()}
    shapes = effects.common.shape, effects.tau.shape, effects.common_covariance.shape
    numbers = [effects.common, effects.tau, effects.common_covariance, *deviations, *variances]
    numbers += [np.array([*widths.values(), *effects.scales.values()])]
    if shapes != ((size,), (len(LEVELS), size), (size, size)) or not effects.scales:
        raise ValueError("numbers are missing, or too many")
    if not all(np.isfinite(part).all() for part in numbers):
        raise ValueError("a number is not finite")
    return ServingCalibration(effects, widths, str(values["fitted_on"]), values.get("errors", {}))


def calibration_dict(calibration: ServingCalibration) -> dict[str, Any]:
    """Return a calibration as JSON-ready values, four digits each."""
    effects = calibration.effects
    return {
        "fitted_on": calibration.fitted_on,
        "rows": effects.rows,
        "source": SOURCE,
        "errors": calibration.errors,
        "widths": {name: _short(value) for name, value in sorted(calibration.widths.items())},
        "scales": {name: _short(value) for name, value in sorted(effects.scales.items())},
        "parameters": [
            {
                "name": parameter.name,
                "unit": parameter.unit,
                "meaning": parameter.meaning,
                "common": _short(math.exp(_short(value))),  # of what is read again: a digest outlives a round trip
                "log_common": _short(value),
            }
            for parameter, value in zip(PARAMETERS, effects.common.tolist(), strict=True)
        ],
        "common_covariance": _listed(effects.common_covariance),
        "levels": [
            {
                "level": level,
                "tau": _listed(tau),
                "members": [
                    {"member": member, "deviation": _listed(deviation), "sd": _listed(np.sqrt(variance))}
                    for member, deviation, variance in zip(names, deviations, variances, strict=True)
                ],
            }
            for level, tau, names, deviations, variances in zip(
                effects.members.levels, effects.tau, effects.members.names, effects.deviations, effects.variances,
                strict=True,
            )
        ],
    }  # fmt: skip


SOURCE = "serving points published by their vendors, engines and benchmarks, collected until 2026-11 (docs/accuracy.md)"


def _short(value: float) -> float:
    return float(f"{value:.4g}")


def _listed(values: Floats) -> list[Any]:
    return [_listed(row) if np.ndim(row) else _short(float(row)) for row in values]
