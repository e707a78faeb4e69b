"""Tables of how sure a plan is: its promises over the futures, a tornado, and its peak hours in the simulator."""

from collections.abc import Mapping
from typing import Any

from scenarios.planning.promises import DEMAND, EVERYTHING, FAILOVER, FLOOR, PEAK, TIER
from scenarios.tables import Column, Table

PROMISE_WORDS = {
    FLOOR: "floor",
    DEMAND: "service",
    TIER: "tier",
    FAILOVER: "loss of a hall",
    PEAK: "peak hour",
    EVERYTHING: "all together",
}


def sure_tables(plan: Mapping[str, Any]) -> list[Table]:
    """Return the tables of promises and replay that a plan has; earlier releases said neither."""
    promises, replay, found = plan.get("promises"), plan.get("replay"), list[Table]()
    if promises:
        made = (_promises(promises), _dates(promises), _bands(promises, plan["currency"]))
        found += [*made, tornado_table(promises, plan["currency"])]
    if replay:
        found += [tiers_table(replay), _services(replay), _flips(replay), _left_out(replay)]
    return found


def _promises(promises: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-promises",
        caption=f"How likely each promise holds over the whole horizon: share of {promises['draws']:,} futures",
        columns=(
            Column("kind", "Promise"),
            Column("probability_ratio", "Holds in", "%", 1),
            Column("words", "That is, that"),
        ),
        rows=[{**row, "kind": PROMISE_WORDS[row["promise"]]} for row in promises["rows"]],
    )


def _dates(promises: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-dates",
        caption=f"Dates over {promises['draws']:,} futures; none: not within the horizon",
        columns=(
            Column("words", "Date"),
            *(Column(f"{q}", f"{q.upper()}{note}") for q, note in (("p10", ", early"), ("p50", ""), ("p90", ", late"))),
        ),
        rows=[{**row, **{q: row[q] or "none" for q in ("p10", "p50", "p90")}} for row in promises["dates"]],
    )


def _bands(promises: Mapping[str, Any], money: str) -> Table:
    scaled = {"-": (100.0, "%"), "money": (1e-6, f"M {money}"), "Mtok": (1.0, "Mtok")}
    quantiles = ("p10", "p50", "p90")
    return Table(
        name="plan-bands",
        caption=f"Figures of the plan over {promises['draws']:,} futures, its decisions kept",
        columns=(
            Column("words", "Figure"),
            *(Column(quantile, quantile.upper(), " ", 1) for quantile in quantiles),
            Column("unit", "Unit"),
        ),
        rows=[
            {"words": row["words"], "unit": unit, **{quantile: row[quantile] * factor for quantile in quantiles}}
            for row in promises["bands"]
            for factor, unit in (scaled[row["unit"]],)
        ],
    )


def tornado_table(promises: Mapping[str, Any], money: str) -> Table:
    """Return what every input does alone, the one that moves the cost most first."""
    ends = (("p10", "input at its P10"), ("p90", "input at its P90"))
    return Table(
        name="plan-tornado",
        caption="What one input alone changes, all others in the middle, the one that moves the cost most first",
        columns=(
            Column("input", "Input"),
            *(Column(f"objective_{q}", f"Cost, {end}", money) for q, end in ends),
            *(Column(f"homegrown_{q}_ratio", f"Homegrown share over the horizon, {end}", "%", 1) for q, end in ends),
            *(Column(f"unserved_{q}_mtok", f"Unserved, {end}", "Mtok") for q, end in ends),
        ),
        rows=promises["tornado"],
    )


def tiers_table(replay: Mapping[str, Any]) -> Table:
    """Return what each tier gets in the replayed peak hours."""
    return Table(
        name="plan-replay-tiers",
        caption="Peak hours in the simulator, by tier: months in which something opens, on the planned replicas",
        columns=(
            Column("month", "Month"),
            Column("tier", "Tier"),
            Column("services", "Services"),
            Column("share_ratio", "Requests within both limits", "%", 2),
            Column("planned_tok_s", "Planned", "tok/s"),
            Column("served_tok_s", "Kept by the simulator", "tok/s"),
            Column("disagreement_ratio", "Less than planned", "%", 1),
            Column("missed", "Missed by"),
        ),
        rows=[{**row, "missed": ", ".join(row["missed"])} for row in replay["tiers"]],
    )


def _services(replay: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-replay",
        caption="Peak hours in the simulator, by month and service; the plan's whole replicas, without the reserve",
        columns=(
            Column("month", "Month"),
            Column("service", "Service"),
            Column("tier", "Tier"),
            Column("verdict", "The promise is"),
            Column("planned_tok_s", "Planned", "tok/s"),
            Column("served_tok_s", "Kept by the simulator", "tok/s"),
            Column("disagreement_ratio", "Less than planned", "%", 1),
            Column("disagreement_error_ratio", "Sampling error of that", "%", 1),
            Column("share_ratio", "Requests within both limits", "%", 2),
            Column("share_error_ratio", "Sampling error of that", "%", 2),
            Column("percentile", "Promised of each limit", "%"),
            Column("ttft_s", "TTFT at that share", "s", 2),
            Column("ttft_limit_s", "Its limit", "s", 2),
            Column("tpot_s", "TPOT at that share", "s", 4),
            Column("tpot_limit_s", "Its limit", "s", 4),
            Column("samples", "Samples"),
        ),
        rows=replay["services"],
    )


def _flips(replay: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-replay-flips",
        caption="The first hour of a wave with a cold prefix cache, all of its traffic at once",
        columns=(
            Column("month", "Month"),
            Column("service", "Service"),
            Column("kind", "Opens"),
            Column("cache_hit_ratio", "Hits of a warm cache", "%"),
            Column("ttft_s", "TTFT at the promised share, cold", "s", 2),
            Column("usual_ttft_s", "The same, warm", "s", 2),
            Column("recovery_s", "Over its limit until", "s"),
            Column("flip_ratio", "Could come at once", "%"),
            Column("sentence", "In words"),
        ),
        rows=[
            {"month": row["month"], "service": row["service"], **storm}
            for row in replay["services"]
            for storm in row["storms"]
        ],
    )


def _left_out(replay: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-replay-left-out",
        caption="What could not be replayed, and why",
        columns=(Column("month", "Month"), Column("service", "Service"), Column("reason", "Why")),
        rows=replay["left_out"],
    )
