"""The accuracy report: errors of held-out rows by chip, engine, model and metric, in words and as a table."""

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelerator.accuracy import BASIS_OF, SCHEMES, WIDENED, Held, median_error
from accelerator.points import Deployment
from accelerator.pooling import Floats
from accelerator.serving import PARAMETERS
from accelerator.serving_calibration import CORE, PointRows, ServingCalibration, metric_class
from accelerator.units import Z90

ERROR_COLUMNS = (
    "scheme", "point_id", "chip", "model", "engine", "metric", "class", "load", "basis", "ratio", "p10_ratio",
    "p90_ratio", "source", "reason",
)  # fmt: skip
"""Of the table of errors: predicted over measured, and the band over the prediction."""

WORST = 20
LEAST_TABLE_ROWS = 5
"""Groups with fewer rows are left out of the report's tables. """


def errors_table(rows: PointRows, held: Mapping[str, Held], widths: Mapping[str, float]) -> list[Sequence[str]]:
    """Return one line per held-out row and scheme, after a header; measured values themselves are not in it."""
    table: list[Sequence[str]] = [ERROR_COLUMNS]
    for scheme, part in held.items():
        reasons = reasons_of(rows, part)
        for k in np.argsort(part.at, kind="stable"):
            d = rows.deployments[part.at[k]]
            name = metric_class(d)
            basis = BASIS_OF[scheme]
            half = float(np.exp(Z90 * widths.get(f"{WIDENED[scheme]}|{name}", 1.0) * part.deviation[k]))
            table.append((
                scheme, d.point.point_id, d.chip.slug, d.model.slug, d.engine, d.point.metric, name, d.kind, basis,
                f"{np.exp(part.error[k]):.4g}", f"{1 / half:.4g}", f"{half:.4g}", d.point.source.split(" (")[0][:80],
                reasons[k],
            ))  # fmt: skip
    return table


def reasons_of(rows: PointRows, part: Held) -> list[str]:
    """Return why each row may be off: what its neighbours show, else what is special about it."""
    names = np.array([rows.groups[i]["deployment"] for i in part.at])
    reasons = []
    shared = {name: float(np.median(part.error[names == name])) for name in np.unique(names)}
    counts = {name: int((names == name).sum()) for name in np.unique(names)}
    for k, i in enumerate(part.at):
        d, own, error = rows.deployments[i], shared[names[k]], float(part.error[k])
        if abs(error) < np.log(1.25):
            reasons.append("")
        elif counts[names[k]] >= 3 and own * error > 0 and abs(own) > 0.5 * abs(error):
            reasons.append(f"its whole deployment is off by {np.expm1(own):+.0%}: engine or kernels unlike their kin")
        else:
            reasons.append(_special(d))
    return reasons


def _special(d: Deployment) -> str:
    special = (
        (d.speculative_tok > 0, "speculation: how many drafts are accepted depends on the text"),
        (d.kind == "open", "open loop near saturation: queueing decides"),
        (d.kind == "burst", "burst: order of prompts and decodes is the scheduler's"),
        (not d.point.chips or not (d.point.tp or d.point.dp), "layout not stated"),
        (d.users > 256, "more users than the engine runs at once"),
        (d.layout.prefill is not None, "separate prefill and decode: transfer and balance are the deployment's"),
        (d.layout.config.dp > 1, "attention in groups: balance between them is not known"),
    )
    return next((reason for applies, reason in special if applies), "alone among its neighbours")


def report_text(rows: PointRows, held: Mapping[str, Held], fit: ServingCalibration, rejected: Mapping[str, int]) -> str:
    """Return the report in Markdown."""
    return "\n".join(_lines(rows, held, fit, rejected)) + "\n"


def _lines(
    rows: PointRows, held: Mapping[str, Held], fit: ServingCalibration, rejected: Mapping[str, int]
) -> Iterator[str]:
    summary: Mapping[str, Any] = fit.errors["summary"]
    yield "# How wrong is it?"
    yield ""
    yield (
        f"Serving points published by others, fitted on {fit.fitted_on}: {fit.effects.rows} rows. Groups of rows were "
        "held out, predicted and compared; an error is the median of |predicted / measured - 1|, over rows and, after "
        f"the slash, over chips with at least 10 rows. `python -m accelerator fit-serving` writes this page."
    )
    yield ""
    yield (
        "| held out | core | after anchors | P90 core | bias | TTFT | burst throughput | burst TTFT | ordered | "
        "in P10-P90 | P90/P50 |"
    )
    yield "| --- | --- | --- | --- | --- | --- | --- | --- | --- | --- | --- |"
    for scheme, figures in summary.items():
        anchors = _both(figures["core after anchors"]) if "core after anchors" in figures else "-"
        yield (
            f"| {SCHEMES[scheme]} | {_both(figures['core'])} | {anchors} | {figures['p90 core']:.0%} | "
            f"{figures['bias core']:+.1%} | {_both(figures['ttft'])} | {_both(figures['burst throughput'])} | "
            f"{_both(figures['burst ttft'])} | {figures['ordered']:.3f} | {figures['coverage']:.0%} | "
            f"{figures['p90 over p50']:.2f} |"
        )
    yield ""
    yield (
        "*Core* is TPOT, throughput without bursts, and batch time. Anchors are measured points that were given: one "
        "of a pair, three of a chip, those that tell most about the others whatever they measure. *Ordered* is the "
        "share of pairs of rows, of one metric and one (chip, model) pair "
        "and more than 15 % apart, that are predicted in the measured order. Bands were widened on other "
        "folds than those they are counted on; scatters of groups are those of the fit to all rows."
    )
    classes = np.array([metric_class(d) for d in rows.deployments])
    for title, names in (
        ("chip", [groups["chip"] for groups in rows.groups]),
        ("engine", [groups["engine"] for groups in rows.groups]),
        ("model", [groups["model"] for groups in rows.groups]),
    ):
        yield ""
        yield f"## By {title}"
        yield ""
        yield (
            f"| {title} | core: new points | core: whole pairs | core: whole chips | TTFT: new points | "
            "bias: new points |"
        )
        yield "| --- | --- | --- | --- | --- | --- |"
        yield from _table(held, np.array(names), classes)
    yield ""
    yield "## By metric"
    yield ""
    yield "| metric, load | new points | whole pairs | whole chips |"
    yield "| --- | --- | --- | --- |"
    metrics = np.array([f"{d.point.metric}, {d.kind}" for d in rows.deployments])
    for name in sorted(set(metrics)):
        cells = []
        for scheme in ("points", "pairs", "chips"):
            part = held.get(scheme)
            error = part.error[metrics[part.at] == name] if part else np.zeros(0)
            cells.append(_cell(error))
        yield f"| {name} | {' | '.join(cells)} |"
    yield ""
    yield f"## Worst {WORST}: whole pairs held out"
    yield ""
    yield "| point | predicted / measured | chip | model | engine | metric | why |"
    yield "| --- | --- | --- | --- | --- | --- | --- |"
    part = held.get("pairs") or next(iter(held.values()))
    reasons = reasons_of(rows, part)
    for k in np.argsort(-np.abs(part.error), kind="stable")[:WORST]:
        d = rows.deployments[part.at[k]]
        yield (
            f"| {d.point.point_id} | {np.exp(part.error[k]):.2f} | {d.chip.slug} | {d.model.slug} | {d.engine} | "
            f"{d.point.metric}, {d.kind} | {reasons[k]} |"
        )
    yield ""
    yield "## Rows not used"
    yield ""
    for reason, count in sorted(rejected.items(), key=lambda item: (-item[1], item[0])):
        yield f"- {count}: {reason}"
    yield ""
    yield "## Parameters that all deployments share"
    yield ""
    yield "| parameter | median | unit | meaning |"
    yield "| --- | --- | --- | --- |"
    for parameter, value in zip(PARAMETERS, np.exp(fit.effects.common), strict=True):
        yield f"| {parameter.name} | {value:.3g} | {parameter.unit} | {parameter.meaning} |"
    yield ""
    yield UNKNOWN


def _both(figures: Mapping[str, Any]) -> str:
    if not figures["rows"]:
        return "-"
    chips = figures["median of chips"]
    return f"{figures['median']:.1%}" + ("" if math.isnan(chips) else f" / {chips:.1%}")


def _table(held: Mapping[str, Held], names: NDArray[np.str_], classes: NDArray[np.str_]) -> Iterator[str]:
    core = np.isin(classes, list(CORE))
    for name in sorted(set(names)):
        cells = []
        bias = "-"
        for scheme in ("points", "pairs", "chips"):
            part = held.get(scheme)
            if part is None:
                cells.append("-")
                continue
            of = (names[part.at] == name) & core[part.at]
            cells.append(_cell(part.error[of]))
            if scheme == "points" and of.sum() >= LEAST_TABLE_ROWS:
                bias = f"{np.expm1(np.median(part.error[of])):+.1%}"
        part = held.get("points")
        ttft = part.error[(names[part.at] == name) & (classes[part.at] == "ttft")] if part else np.zeros(0)
        if any(cell != "-" for cell in cells):
            yield f"| {name} | {' | '.join(cells)} | {_cell(ttft)} | {bias} |"


def _cell(error: Floats) -> str:
    return f"{median_error(error):.1%} ({len(error)})" if len(error) >= LEAST_TABLE_ROWS else "-"


UNKNOWN = """## What is not known

- Speed of an engine version that nobody has published: versions of one engine are 10 to 12 % apart on the same point.
- How many drafts speculation has accepted on other texts than those measured.
- Queueing of bursts and of loads near saturation beyond its mean: the order in which a scheduler takes prompts.
- Chips with rows of one model or one engine only: what is theirs and what is the model's cannot be told apart.
- Chips without any row are predicted from their data sheet and what all chips have in common; ranges of a data sheet
  widen the band.
- Layouts that a row does not state were filled in by rule; a wrong guess looks like a slow engine."""
