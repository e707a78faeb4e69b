"""Tables of a result: the same rows feed the page, the CSV and the report. No computing beyond choosing columns."""

from collections.abc import Mapping
from typing import Any

from scenarios.capacity_tables import capacity_tables
from scenarios.plan_tables import plan_tables
from scenarios.tables import Column, Table, band_columns, band_spread


def tables_of(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a finished run, the most asked for first."""
    plan = plan_tables(result["plan"]) if result.get("plan") else []
    own = capacity_tables(result) if result["kind"] == "capacity" else _migration_tables(result)
    return [*plan, *own, _ratings_table(result)]


def _migration_tables(result: Mapping[str, Any]) -> list[Table]:
    names = {service["slug"]: service["name"] for service in result["services"]}
    regions = {region["slug"]: region["name"] for region in result["regions"]}
    kinds = [kind["slug"] for kind in result["kinds"]]
    months = Table(
        name="migration",
        caption="Hosts by state and share of output tokens on homegrown chips, by month",
        columns=(
            Column("month", "Month"),
            *band_columns("homegrown_token_ratio", "Tokens on homegrown chips", "%", 1),
            *band_columns("gpu_hosts_needed", "GPU hosts needed", "hosts"),
            Column("unserved_tok_s", "Unserved", "tok/s"),
            *(Column(f"hosts_{kind}", f"{kind} racked", "hosts") for kind in kinds),
        ),
        rows=[
            {
                "month": period["month"],
                **band_spread("homegrown_token_ratio", period["homegrown_token_ratio"]),
                **band_spread("gpu_hosts_needed", period["gpu_hosts_needed"]),
                "unserved_tok_s": period["unserved_tok_s"],
                **{f"hosts_{kind}": period["hosts"].get(kind, 0) for kind in kinds},
            }
            for period in result["fleet"]["periods"]
        ],
    )
    states = Table(
        name="states",
        caption="Hosts serving, kept warm behind moved traffic, idle and waiting for a rack, by month and kind",
        columns=(
            Column("month", "Month"),
            Column("kind", "Kind"),
            Column("serving", "Serving", "hosts", 1),
            Column("dual", "Kept warm", "hosts", 1),
            Column("idle", "Idle and reserve", "hosts", 1),
            Column("waiting", "Waiting for a rack", "hosts"),
        ),
        rows=[
            {
                "month": period["month"],
                "kind": kind,
                **{state: period[state].get(kind, 0) for state in ("serving", "dual", "idle", "waiting")},
            }
            for period in result["fleet"]["periods"]
            for kind in kinds
        ],
    )
    moves = Table(
        name="moves",
        caption="Which traffic moves to homegrown hosts in which month",
        columns=(
            Column("month", "Month"),
            Column("region", "Region"),
            Column("service", "Service"),
            Column("from", "From"),
            Column("to", "To"),
            Column("share_ratio", "Share of its traffic", "%"),
            Column("tok_s", "Traffic", "tok/s"),
            Column("gpu_hosts_freed", "GPU hosts freed", "hosts", 1),
            Column("homegrown_hosts_used", "Homegrown hosts used", "hosts", 1),
        ),
        rows=[
            {
                **move,
                "region": regions[move["region"]],
                "service": names[move["service"]],
                "from": ", ".join(sorted(move["from_kinds"])),
                "to": move["to_kind"],
            }
            for move in result["moves"]
        ],
    )
    returns = Table(
        name="returns",
        caption="Traffic that goes back to GPUs because its growth no longer fits the homegrown hosts",
        columns=(
            Column("month", "Month"),
            Column("region", "Region"),
            Column("service", "Service"),
            Column("from", "From"),
            Column("share_ratio", "Share of its traffic", "%", 1),
            Column("tok_s", "Traffic", "tok/s"),
        ),
        rows=[
            {
                "month": move["month"],
                "region": regions[move["region"]],
                "service": names[move["service"]],
                "from": move["to_kind"],
                "share_ratio": move["share_ratio"],
                "tok_s": move["tok_s"],
            }
            for move in result["returns"]
        ],
    )
    left = Table(
        name="left",
        caption="What is still on GPUs in the last month, and why",
        columns=(
            Column("region", "Region"),
            Column("service", "Service"),
            Column("share_ratio", "Share of its traffic", "%"),
            Column("tok_s", "Traffic", "tok/s"),
            Column("reason", "Why"),
        ),
        rows=[
            {**row, "region": region["name"], "service": names[row["service"]]}
            for region in result["regions"]
            for row in region["left"]
        ],
    )
    return [months, moves, left, returns, states]


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
