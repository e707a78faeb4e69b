"""The page of accuracy: how far predictions are off, as tables and charts, and the versions of the calibration."""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime
from typing import Any
from urllib.parse import urlencode

from accelerator.accuracy import LEAST_ROWS, SCHEMES
from dashboard.chart_parts import Chart
from dashboard.charts import own_chart, ratio_chart
from scenarios.accuracy import (
    BASIS_WORDS,
    GROUPS,
    SCHEME,
    WORST,
    Accuracy,
    HeldRow,
    accuracy_take,
    held_rows,
    rows_group,
    rows_worst,
    values_of,
)
from scenarios.calibrations import PUBLISHED, OwnRow, calibration_in_use
from scenarios.models import CalibrationChange, CalibrationVersion
from scenarios.tables import Column, Table

OWN_CHARTS = 4
"""Charts of own points at most, one for each metric; the table has them all."""

CHANGES_SHOWN = 10
GROUP_WORDS = {"chip": "chip", "engine": "engine", "model": "model", "class": "class of metrics"}


@dataclass(frozen=True, slots=True)
class AccuracyChoice:
    """What the page shows; all of it is in its address."""

    scheme: str = SCHEME
    chip: str = ""
    engine: str = ""
    model: str = ""
    metric_class: str = ""

    @property
    def query(self) -> str:
        """Return it as the query of an address."""
        return urlencode(self.as_dict())

    def as_dict(self) -> dict[str, str]:
        """Return it by the names of its fields in an address; what is not filtered is left out."""
        values = {"scheme": self.scheme, "chip": self.chip, "engine": self.engine, "model": self.model}
        return {name: value for name, value in {**values, "class": self.metric_class}.items() if value}

    def wanted(self) -> dict[str, list[str]]:
        """Return the filters."""
        return {name: [value] for name, value in self.as_dict().items() if name in GROUPS}

    @property
    def about(self) -> str:
        """Return what was held out, and the filters."""
        filters = [f"{name} {value}" for name, value in self.as_dict().items() if name in GROUPS]
        return ", ".join([f"{SCHEMES[self.scheme]} held out", *filters])


def choices_of() -> dict[str, list[str]]:
    """Return the values that each filter may take: those of the held-out rows."""
    rows = held_rows()
    return {name: values_of(rows, name) for name in GROUPS}


@dataclass(frozen=True, slots=True)
class VersionLine:
    """One version as the page lists it; None as its id: the published fit."""

    name: str
    version: CalibrationVersion | None
    is_active: bool
    used: Sequence[CalibrationChange]
    table: Table | None

    @property
    def cells(self) -> list[list[Any]]:
        """Return its errors for a page."""
        return self.table.cells() if self.table else []


@dataclass(frozen=True, slots=True)
class AccuracyPage:
    """What is known for a choice: tables, charts, versions."""

    choice: AccuracyChoice
    found: Accuracy
    tables: Mapping[str, Table]
    charts: Sequence[Chart]
    problem: str

    @property
    def is_empty(self) -> bool:
        """Whether neither held-out rows nor own points are there at all."""
        return not (self.found.rows or self.found.summary or self.found.own)

    @property
    def tables_all(self) -> list[Table]:
        """Return every table with the twins of the charts, as they are exported."""
        return [*self.tables.values(), *(chart.table for chart in self.charts)]

    def export(self, table: Table) -> dict[str, Any]:
        """Return a table as JSON values, with what it is about."""
        columns = [{"name": c.name, "label": c.label, "unit": c.unit} for c in table.columns]
        rows = [{c.name: row.get(c.name) for c in table.columns} for row in table.rows]
        about = {"calibration": self.found.calibration, "published": self.found.published}
        return {"title": table.caption, "columns": columns, "rows": rows, **self.choice.as_dict(), **about}


def accuracy_page(choice: AccuracyChoice) -> AccuracyPage:
    """Put together what the page shows."""
    found = accuracy_take(choice.scheme, choice.wanted())
    tables = [summary_table(found)] if found.summary else []
    if found.rows:
        tables += [group_table(found, name, choice) for name in GROUPS]
        tables.append(worst_table(found.rows, choice))
    if found.unknown:
        tables.append(unknown_table(found))
    charts = [ratio_chart(_ratio_rows(found.rows), about=choice.about)] if found.rows else []
    if found.own:
        tables.append(own_table("own-points", "Own points against what is predicted now", found.own))
        charts += own_charts(found.own)
    return AccuracyPage(
        choice=choice,
        found=found,
        tables={table.name: table for table in tables},
        charts=tuple(charts),
        problem=calibration_in_use().problem if found.calibration else "",
    )


# --- held-out rows ----------------------------------------------------------------------------------------------------
def summary_table(found: Accuracy) -> Table:
    """Return the figures of all schemes, from easy to hard."""
    return Table(
        name="summary",
        caption="Median errors by what was held out, over rows and over chips (calibrated; unfiltered)",
        columns=(
            Column("held_out", "Held out"),
            Column("rows", "Rows", "rows"),
            Column("core", "Core", "%", 1),
            Column("core_chips", "Core, over chips", "%", 1),
            Column("core_after_anchors", "Core after anchors", "%", 1),
            Column("p90_core", "Core, P90", "%", 1),
            Column("bias_core", "Core, bias", "%", 1),
            Column("ttft", "TTFT", "%", 1),
            Column("burst_throughput", "Burst throughput", "%", 1),
            Column("burst_ttft", "Burst TTFT", "%", 1),
            Column("ordered", "Ordered right", "%", 1),
            Column("coverage", "In P10 to P90", "%", 1),
            Column("p90_over_p50", "P90 over P50", "ratio", 2),
        ),
        rows=list(found.summary),
    )


def group_table(found: Accuracy, name: str, choice: AccuracyChoice) -> Table:
    """Return how far the rows are off by the values of a column."""
    return Table(
        name=f"by-{name}",
        caption=f"Errors by {GROUP_WORDS[name]}: {choice.about} (calibrated)",
        columns=(
            Column("name", GROUP_WORDS[name].capitalize()),
            Column("rows", "Rows", "rows"),
            Column("error_ratio", "Median error", "%", 1),
            Column("error_p90_ratio", "P90 error", "%", 1),
            *(Column(f"ratio_{q}", f"Predicted over measured, {q.upper()}", "ratio", 2) for q in ("p10", "p50", "p90")),
            Column("coverage_ratio", "In P10 to P90", "%", 0),
            Column("note", "Note"),
        ),
        rows=[
            {**asdict(one), "note": f"fewer than {LEAST_ROWS} rows" if one.rows < LEAST_ROWS else None}
            for one in rows_group(found.rows, name)
        ],
    )


def worst_table(rows: Iterable[HeldRow], choice: AccuracyChoice) -> Table:
    """Return the rows that are furthest off, with the reason."""
    return Table(
        name="worst",
        caption=f"The {WORST} rows that are furthest off: {choice.about}",
        columns=(
            Column("point_id", "Point"),
            Column("ratio", "Predicted over measured", "ratio", 2),
            Column("p10_ratio", "Band over prediction, P10", "ratio", 2),
            Column("p90_ratio", "Band over prediction, P90", "ratio", 2),
            Column("chip", "Chip"),
            Column("model", "Model"),
            Column("engine", "Engine"),
            Column("metric", "Metric"),
            Column("load", "Load"),
            Column("basis", "Basis"),
            Column("reason", "Why"),
            Column("source", "Source"),
        ),
        rows=[{**asdict(row), "basis": BASIS_WORDS.get(row.basis, row.basis)} for row in rows_worst(rows)],
    )


def unknown_table(found: Accuracy) -> Table:
    """Return the chips about which little or nothing was measured."""
    return Table(
        name="unknown",
        caption="Chips about which little or nothing was measured",
        columns=(
            Column("chip", "Chip"),
            Column("rows", "Measured rows", "rows"),
            Column("basis", "Predictions are"),
            Column("reason", "Why"),
        ),
        rows=[asdict(one) for one in found.unknown],
    )


def _ratio_rows(rows: Iterable[HeldRow]) -> list[dict[str, Any]]:
    return [asdict(one) for one in rows_group(rows, "chip")]


# --- own points -------------------------------------------------------------------------------------------------------
def own_table(name: str, caption: str, rows: Sequence[OwnRow]) -> Table:
    """Return own points with what is predicted for them."""
    return Table(
        name=name,
        caption=caption,
        columns=(
            Column("point_id", "Point"),
            Column("chip", "Chip"),
            Column("model", "Model"),
            Column("engine", "Engine"),
            Column("metric", "Metric"),
            Column("measured", "Measured", "as the metric", 1),
            *(Column(q, f"Predicted, {q.upper()}", "as the metric", 1) for q in ("p10", "p50", "p90")),
            Column("ratio", "Predicted over measured", "ratio", 2),
            Column("basis", "Prediction is"),
            Column("source", "Source"),
        ),
        rows=[
            {**asdict(row), "ratio": row.p50 / row.measured, "basis": BASIS_WORDS.get(row.basis, row.basis)}
            for row in rows
        ],
    )


def own_charts(rows: Sequence[OwnRow]) -> list[Chart]:
    """Return a chart of own points for each metric, the most frequent first: no two units share an axis."""
    counts = Counter(row.metric for row in rows)
    charts = []
    for metric, _ in sorted(counts.items(), key=lambda item: (-item[1], item[0]))[:OWN_CHARTS]:
        some = [row for row in rows if row.metric == metric]
        unit = next((row.unit for row in some if row.unit), "")
        name = f"own-{metric.replace('_', '-')}"
        charts.append(own_chart(own_table(name, f"Own points of {metric}, measured and predicted", some), metric, unit))
    return charts


# --- versions ---------------------------------------------------------------------------------------------------------
def version_lines() -> tuple[list[VersionLine], list[CalibrationChange]]:
    """Return the versions, the published fit last, and the latest changes of what is in use; three queries."""
    versions = list(CalibrationVersion.objects.defer("payload", "table").select_related("owner"))
    changes = list(CalibrationChange.objects.select_related("owner"))
    used: dict[int | None, list[CalibrationChange]] = {}
    for change in changes:
        used.setdefault(change.version_id, []).append(change)
    lines = [VersionLine(str(one.pk), one, one.is_active, used.get(one.pk, []), errors_table(one)) for one in versions]
    is_published = not any(one.is_active for one in versions)
    return [*lines, VersionLine(PUBLISHED, None, is_published, used.get(None, []), None)], changes[:CHANGES_SHOWN]


def errors_table(version: CalibrationVersion) -> Table:
    """Return the errors of a version on its own points, before and after, by chip."""
    rows = [{"chip": chip, **one} for chip, one in version.errors["chips"].items()]
    return Table(
        name=f"calibration-{version.pk}",
        caption=f"Calibration {version.pk}: median error on own points, by chip",
        columns=(
            Column("chip", "Chip"),
            Column("points", "Own points", "points"),
            Column("points_added", "New", "points"),
            Column("before_error_ratio", "Before", "%", 1),
            Column("after_error_ratio", "After", "%", 1),
            Column("held_out_error_ratio", "Predicted from the others", "%", 1),
        ),
        rows=[*rows, {"chip": "all chips", **version.errors["all"]}],
    )


def change_line(change: CalibrationChange) -> tuple[datetime, str, str]:
    """Return when a calibration was taken into use, which, and by whom."""
    which = f"calibration {change.version_id}" if change.version_id else "the published fit"
    return change.created_at, which, change.owner.get_username() if change.owner else "command line"
