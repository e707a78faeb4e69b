"""``predict``, ``calibrate`` and ``fit-serving``: what serving points should measure, and fits to what they did."""

import argparse
import csv
import io
import json
from collections.abc import Iterator, Mapping
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from accelerator.accuracy import cross_validate, summary_of, widths_of
from accelerator.accuracy_report import errors_table, report_text
from accelerator.anchors import anchors_pick
from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.errors import AcceleratorError, TraceError
from accelerator.points import Deployment, Point, deployments_of, points_read
from accelerator.serving import PARAMETERS
from accelerator.serving_calibration import (
    METRICS,
    POWER_METRICS,
    PointRows,
    ServingCalibration,
    calibration_dict,
    calibration_fit,
    calibration_parse,
    serving_calibration_load,
)
from accelerator.serving_power import power_ratio
from accelerator.units import GIB

MEASURED_FILE = Path("../shared/data/measured/public.csv")
COLUMNS = ("point_id", "predicted", "p10", "p90", "basis", "reason")

POWER_SPREAD = 1.15
"""P90 over P50 of a predicted mean power: the range of the activity shares (data/efficiency.csv). [-]"""

MISFIT_RATIO = 1.1
"""Weights and one sequence over memory from which a row is refused: below, a rounded size may explain it. [-]"""

REASON_CHARS = 300
"""Longest reason of a row. [characters]"""

SAYS_NOTHING = float(np.log(1e-11))
"""Logarithm of a value below which a load says nothing of a metric."""

BETWEEN_TOKENS = ("tpot_s", "user_tok_s")
"""Outputs that need a second token."""

CALIBRATION_FOLDER = Path(__file__).parent / "data" / "calibration"


def predict_options_add(command: argparse.ArgumentParser) -> None:
    """Add the options of ``predict``."""
    command.add_argument("points", type=Path, help="csv with the columns of published serving points, values or not")
    command.add_argument("--calibration", type=Path, metavar="FILE", help="of calibrate; default: the published one")


def calibrate_options_add(command: argparse.ArgumentParser) -> None:
    """Add the options of ``calibrate``."""
    command.add_argument("--points", type=Path, required=True, help="csv like that of predict, with values")
    command.add_argument("--out", type=Path, required=True, help="calibration written, for predict --calibration")
    command.add_argument("--calibration", type=Path, metavar="FILE", help="to start from; default: the published one")


def fit_options_add(command: argparse.ArgumentParser) -> None:
    """Add the options of ``fit-serving``."""
    command.add_argument(
        "--points", type=Path, default=MEASURED_FILE, help=f"csv with values; default: {MEASURED_FILE}"
    )
    command.add_argument("--out", type=Path, default=CALIBRATION_FOLDER, help="folder written")
    command.add_argument("--report", type=Path, help="Markdown written, such as docs/accuracy.md")
    command.add_argument("--date", default=datetime.now(UTC).date().isoformat(), help="day written beside it")
    command.add_argument("--workers", type=int, default=2, help="processes; changes only the time")


def calibration_read(path: Path | None) -> ServingCalibration:
    """Return the calibration of a file; the committed one if none is named."""
    if path is None:
        return serving_calibration_load()
    try:
        values = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError, RecursionError) as error:
        raise TraceError(str(path), None, None, f"cannot be read: {error}") from error
    return calibration_parse(values, str(path))


# --- predict ---------------------------------------------------------------------------------------------------------
def predict_lines(
    path: Path,
    calibration: ServingCalibration,
    *,
    chips: Mapping[str, ChipSpec] | None = None,
    models: Mapping[str, ModelSpec] | None = None,
) -> Iterator[str]:
    """Yield the lines of a table of predictions, one for each row of a table of points, in its order."""
    points = points_read(path)
    answers = predictions_of(points, calibration, chips=chips, models=models)
    yield ",".join(COLUMNS)
    for point, answer in zip(points, answers, strict=True):
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow([point.point_id, *answer])
        yield line.getvalue()


Answer = tuple[str, str, str, str, str]


def predictions_of(
    points: list[Point],
    calibration: ServingCalibration,
    *,
    chips: Mapping[str, ChipSpec] | None = None,
    models: Mapping[str, ModelSpec] | None = None,
) -> list[Answer]:
    """Return predicted, P10, P90, basis and reason of every point; predicted is empty where there is a reason."""
    answers: list[Answer] = [("", "", "", "", "")] * len(points)
    usable: list[tuple[int, Deployment]] = []
    for i, (point, found) in enumerate(zip(points, deployments_of(points, chips=chips, models=models), strict=True)):
        if isinstance(found, AcceleratorError):
            answers[i] = _refused(str(found))
        elif point.metric in POWER_METRICS:
            answers[i] = _power(found)
        elif point.metric not in METRICS:
            answers[i] = _refused(f'metric "{point.metric}" is not modelled; modelled are {", ".join(METRICS)}')
        else:
            usable.append((i, found))
    if not usable:
        return answers
    rows, kept = _rows_of(usable, answers)
    predicted = calibration.predict(rows)
    for at, i in enumerate(kept):
        value, low, high = predicted.value[at], predicted.p10[at], predicted.p90[at]
        if np.isfinite(value) and value > 0:
            answers[i] = (f"{value:.6g}", f"{low:.6g}", f"{high:.6g}", predicted.basis[at], "")
        else:
            d = rows.deployments[at]
            answers[i] = _refused(f'metric "{d.point.metric}" says nothing under the load "{d.point.scenario}"')
    return answers


def _refused(reason: str) -> Answer:
    return "", "", "", "", reason if len(reason) <= REASON_CHARS else f"{reason[: REASON_CHARS - 3]}..."


def unpredictable(deployment: Deployment) -> str:
    """Return why a row that can be modelled has no answer that means anything; empty if it has one."""
    metric = deployment.point.metric
    if METRICS[metric][0] in BETWEEN_TOKENS and deployment.output_tok <= 1 and deployment.kind != "static":
        return f'metric "{metric}" says nothing of answers of one token'
    return misfit(deployment)


def misfit(deployment: Deployment) -> str:
    """Return why weights and one sequence cannot lie in the memory of the chips that a row states, or nothing."""
    d, config = deployment, deployment.layout.config
    memory = d.chip.given.get("memory_byte")
    if memory is None or not (d.point.chips or d.point.tp):
        return ""
    chips = max(d.point.chips, d.layout.chips)  # a share of a wider deployment holds a share of its weights
    weights_byte, memory_byte = d.model.weights_byte(config.weight_precision), chips * memory.high
    cache_byte = d.model.kv_byte(d.input_tok + d.output_tok / 2, config.kv_precision)
    if weights_byte + cache_byte <= MISFIT_RATIO * memory_byte:
        return ""
    return (
        f"{d.model.slug} in {config.weight_precision} does not fit: {weights_byte / GIB:.3g} GiB of weights and "
        f"{cache_byte / GIB:.3g} GiB for one sequence, {memory_byte / GIB:.3g} GiB in {chips} x {d.chip.slug}"
    )


def _power(deployment: Deployment) -> Answer:
    if reason := misfit(deployment):
        return _refused(reason)
    try:
        ratio, basis = power_ratio(deployment)
    except AcceleratorError as error:
        return _refused(str(error))
    return f"{ratio:.6g}", f"{ratio / POWER_SPREAD:.6g}", f"{ratio * POWER_SPREAD:.6g}", basis, ""


def _rows_of(usable: list[tuple[int, Deployment]], answers: list[Answer]) -> tuple[PointRows, list[int]]:
    """Return the rows of what can be modelled; where a chip lacks a figure or memory, the reason is the answer."""
    kept: list[int] = []
    deployments: list[Deployment] = []
    known: dict[object, str] = {}
    for i, deployment in usable:
        key = (deployment.chip, deployment.model, deployment.layout)
        if key not in known:
            try:
                PointRows.of([deployment])
                known[key] = ""
            except AcceleratorError as error:
                known[key] = str(error)
        if reason := known[key] or unpredictable(deployment):
            answers[i] = _refused(reason)
        else:
            kept.append(i)
            deployments.append(deployment)
    return PointRows.of(deployments), kept


# --- calibrate -------------------------------------------------------------------------------------------------------
def _unfit(deployment: Deployment) -> str:
    """Return why a row cannot be fitted although it can be read; empty if it can."""
    try:
        row = PointRows.of([deployment])
    except AcceleratorError as error:
        return str(error)
    if reason := unpredictable(deployment):
        return reason
    (value,) = row.log_values(np.log([[parameter.centre] for parameter in PARAMETERS]))
    if np.isfinite(value) and value > SAYS_NOTHING:
        return ""
    point = deployment.point
    return f'metric "{point.metric}" says nothing under the load "{point.scenario}"'


def rows_read(
    path: Path,
    *,
    chips: Mapping[str, ChipSpec] | None = None,
    models: Mapping[str, ModelSpec] | None = None,
    trusts: frozenset[str] = frozenset({"", "A", "B"}),
) -> tuple[PointRows, list[tuple[Point, str]]]:
    """Return the rows of a table that can be fitted, and the others with their reasons."""
    points = points_read(path)
    kept: list[Deployment] = []
    rejected: list[tuple[Point, str]] = []
    for point, found in zip(points, deployments_of(points, chips=chips, models=models), strict=True):
        reason = ""
        if isinstance(found, AcceleratorError):
            reason = str(found)
        elif point.metric not in METRICS:
            reason = f'metric "{point.metric}" is not modelled'
        elif not point.value > 0:
            reason = "no measured value"
        elif point.duplicate:
            reason = "the same fact as another row of its configuration"
        elif point.trust not in trusts:
            reason = f"trust {point.trust}: {point.notes.partition('trust C: ')[2] or 'not to be fitted'}"
        else:
            reason = _unfit(found)
        if reason or isinstance(found, AcceleratorError):
            rejected.append((point, reason))
        else:
            kept.append(found)
    if not kept:
        raise TraceError(str(path), None, None, f"no row can be used; the first: {rejected[0][1] if rejected else '-'}")
    return PointRows.of(kept), rejected


def calibrate_lines(path: Path, out: Path, calibration: ServingCalibration, **known: object) -> Iterator[str]:
    """Update a calibration with own points, write it, and yield what changed."""
    rows, rejected = rows_read(path, **known)  # type: ignore[arg-type]
    after = calibration.updated(rows, fitted_on=datetime.now(UTC).date().isoformat())
    before_error, after_error = (np.log(c.predict(rows).value) - rows.observed for c in (calibration, after))
    try:
        out.write_text(json.dumps(calibration_dict(after), indent=1) + "\n", encoding="utf-8")
    except OSError as error:
        raise TraceError(str(out), None, None, f"cannot be written: {error}") from error
    for point, reason in rejected:
        yield f"line {point.at}: {point.point_id}: not used: {reason}"
    chips = np.array([groups["chip"] for groups in rows.groups])
    yield f"{'chip':16} {'rows':>5} {'error before':>13} {'after':>7}"
    for chip in np.unique(chips):
        of = chips == chip
        errors = [float(np.median(np.abs(np.expm1(error[of])))) for error in (before_error, after_error)]
        yield f"{chip:16} {of.sum():5d} {errors[0]:13.1%} {errors[1]:7.1%}"
    yield f"{len(rows.deployments)} rows used, {len(rejected)} not; written to {out}"


# --- anchors ---------------------------------------------------------------------------------------------------------
def anchors_options_add(command: argparse.ArgumentParser) -> None:
    """Add the options of ``anchors``."""
    command.add_argument("--points", type=Path, required=True, help="csv like that of predict: what could be measured")
    command.add_argument("--number", type=int, default=3, help="points wanted")
    command.add_argument("--calibration", type=Path, metavar="FILE", help="of calibrate; default: the published one")


def anchors_lines(
    path: Path,
    number: int,
    calibration: ServingCalibration,
    *,
    chips: Mapping[str, ChipSpec] | None = None,
    models: Mapping[str, ModelSpec] | None = None,
) -> Iterator[str]:
    """Yield the points of a table that tell most about the others, the most telling first."""
    if number < 1:
        raise TraceError(str(path), None, None, f"--number is at least 1, not {number}")
    points = points_read(path)
    found = list(enumerate(deployments_of(points, chips=chips, models=models)))
    usable = [(i, d) for i, d in found if not isinstance(d, AcceleratorError) and d.point.metric in METRICS]
    if not usable:
        raise TraceError(str(path), None, None, "no row can be modelled; predict says why")
    rows, _ = _rows_of(usable, [("", "", "", "", "")] * len(points))
    picked, left = anchors_pick(calibration, rows, number)
    yield "rank,point_id,chip,model,engine,metric,left_ratio"
    for rank, (at, ratio) in enumerate(zip(picked, left, strict=True), start=1):
        d = rows.deployments[at]
        line = io.StringIO()
        csv.writer(line, lineterminator="").writerow(
            [rank, d.point.point_id, d.chip.slug, d.model.slug, d.engine, d.point.metric, f"{ratio:.3f}"]
        )
        yield line.getvalue()


# --- fit -------------------------------------------------------------------------------------------------------------
def fit_lines(
    options: argparse.Namespace,
    *,
    chips: Mapping[str, ChipSpec] | None = None,
    models: Mapping[str, ModelSpec] | None = None,
) -> Iterator[str]:
    """Fit the published points, hold groups of them out, and write calibration, errors and report."""
    out, report, date = options.out, options.report, options.date
    rows, rejected = rows_read(options.points, chips=chips, models=models)
    yield f"{len(rows.deployments)} rows fitted, {len(rejected)} not"
    fit = calibration_fit(rows, fitted_on=date)
    held = cross_validate(rows, fit, workers=options.workers)
    widths, summary = widths_of(rows, held), summary_of(rows, held)
    reasons: dict[str, int] = {}
    for _, reason in rejected:
        kind = "trust C" if reason.startswith("trust C") else reason
        reasons[kind] = reasons.get(kind, 0) + 1
    errors = {"summary": summary, "rejected": reasons}
    fit = ServingCalibration(fit.effects, widths, date, errors)
    out.mkdir(parents=True, exist_ok=True)
    text = json.dumps(calibration_dict(fit), separators=(",", ":"))
    (out / "serving.json").write_text(text.replace('{"member"', '\n{"member"') + "\n", encoding="utf-8")
    table = errors_table(rows, held, widths)
    with (out / "serving_errors.csv").open("w", encoding="utf-8", newline="") as stream:
        csv.writer(stream, lineterminator="\n").writerows(table)
    text = report_text(rows, held, fit, reasons)
    if report:
        report.write_text(text, encoding="utf-8")
    yield from text.splitlines()[:40]
