"""Tables of a result: the same rows feed the page, the CSV and the report. No computing beyond choosing columns."""

from collections.abc import Mapping
from typing import Any

from scenarios.capacity_tables import capacity_tables
from scenarios.event_tables import event_tables
from scenarios.plan_tables import plan_tables
from scenarios.tables import Column, Table, band_columns, band_spread


def tables_of(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a finished run, the most asked for first."""
    if result.get("incident"):
        return [*event_tables(result), _ratings_table(result)]
    plan = plan_tables(result["plan"]) if result.get("plan") else []
    own = capacity_tables(result) if result["kind"] == "capacity" else []
    return [*plan, *own, _ratings_table(result)]


def _ratings_table(result: Mapping[str, Any]) -> Table:
    return Table(
        name="ratings",
        caption="What one host of each kind sustains for each service within its limits (modelled)",
        columns=(
            Column("service", "Service"),
            Column("kind", "Host type"),
            Column("model", "Model"),
            Column("mix", "Mix"),
            *band_columns("tok_s", "Output per host", "tok/s"),
            Column("precision", "Precision"),
            Column("tp", "TP", "chips"),
            Column("replicas_per_host", "Replicas per host"),
            Column("batch", "Batch", "requests"),
            Column("ttft_s", "TTFT", "s", 2),
            Column("tpot_s", "TPOT", "s", 4),
            Column("binds", "Binds"),
            Column("refusal", "Why not"),
        ),
        rows=[{**row, **band_spread("tok_s", row["tok_s"])} for row in result["ratings"]],
    )
