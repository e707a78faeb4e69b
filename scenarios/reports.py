"""Reports: a finished run as a page that stands alone and a CSV. Result to table, no computing."""

from dataclasses import dataclass

from django.template.loader import render_to_string
from django.utils import timezone

from scenarios.models import Run
from scenarios.result_tables import tables_of


@dataclass(frozen=True, slots=True)
class BuiltReport:
    """A report before it is stored."""

    title: str
    html: str
    csv: str


def report_build(run: Run) -> BuiltReport:
    """Return the report of a finished run."""
    result = run.result or {}
    tables = tables_of(result)
    when = timezone.now()
    title = f"{run.scenario.name}, {when:%Y-%m-%d}"
    html = render_to_string(
        "reports/report.html",
        {
            "title": title,
            "run": run,
            "result": result,
            "made_at": when,
            "sentence": result["fleet"]["sentence"],
            "regions": result["regions"],
            "tables": [(table, table.cells()) for table in tables],
        },
    )
    return BuiltReport(title=title, html=html, csv=tables[0].csv())
