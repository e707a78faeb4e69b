"""Tables of an outage or an event: the same rows feed the page, the CSV and the report."""

from collections.abc import Mapping
from typing import Any

from scenarios.tables import Column, Table

ALL_TIERS, ALL_REGIONS = "all", "all"
ACTION_WORDS = {
    "purchases": "Buy hosts",
    "openings": "Open chips for services",
    "deliveries": "Rack what is delivered",
}
ITEM_WORDS = {
    "capex": "New hosts",
    "deliveries": "Ordered before",
    "energy": "Energy",
    "upkeep": "Upkeep",
    "porting": "Porting",
    "opening": "Value of hosts at first",
    "resale": "Hosts that went",
    "penalty": "Unserved",
    "remaining": "Value left",
}
WHERE = (Column("region", "Region"), Column("tier", "Tier"))


def event_tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of an incident, the most asked for first; those without rows are left out."""
    incident = result["incident"]
    made = [
        _recovery(incident),
        _conflict(incident),
        _changes(incident),
        _hits(incident),
        _exposure(incident),
        _failover(incident),
        _cost(incident),
        _actions(incident),
        _waves(incident),
        _purchases(incident),
        _kinds(incident),
        _limits(incident),
        _drain(incident),
    ]
    return [table for table in made if table.rows]


def _named(row: Mapping[str, Any]) -> dict[str, Any]:
    """Return a row with words where a region or a tier is all of them."""
    return {**row, "region": row["region"] or ALL_REGIONS, "tier": row.get("tier") or ALL_TIERS}


def _recovery(incident: Mapping[str, Any]) -> Table:
    return Table(
        name="event-recovery",
        caption="Time to recover, and what more goes unserved: if nothing is done, and with the best new plan",
        columns=(
            *WHERE,
            Column("nothing", "Recovers, nothing done"),
            Column("nothing_mtok", "More unserved, nothing done", "Mtok", 1),
            Column("replan", "Recovers, new plan"),
            Column("replan_mtok", "More unserved, new plan", "Mtok", 1),
            Column("run_out_before_on", "Runs out, before"),
            Column("run_out_after_on", "Runs out, after, nothing done"),
        ),
        rows=[
            {
                **_named(row),
                "nothing": _months(row["nothing_months"]),
                "replan": _months(row["replan_months"]) if row["is_replanned"] else "no plan",
            }
            for row in incident["recovery"]
        ],
    )


def _months(months: float | None) -> str:
    if months is None:
        return "not within the horizon"
    return f"{months:.1f} months" if months else "never worse"


def _conflict(incident: Mapping[str, Any]) -> Table:
    return Table(
        name="event-conflict",
        caption="Why there is no new plan: the smallest set of requirements that cannot all be kept",
        columns=(Column("requirement", "Requirement"), Column("subject", "About"), Column("sentence", "In words")),
        rows=incident["conflict"],
    )


def _changes(incident: Mapping[str, Any]) -> Table:
    return Table(
        name="event-changes",
        caption="Before and after by region, tier and month, if nothing is done: busiest hour, while it lasts",
        columns=(
            Column("month", "Month"),
            *WHERE,
            Column("supply_before_tok_s", "Can be served, before", "tok/s"),
            Column("supply_after_tok_s", "Can be served, after", "tok/s"),
            Column("demand_before_tok_s", "Demanded, before", "tok/s"),
            Column("demand_after_tok_s", "Demanded, after", "tok/s"),
            Column("headroom_before_ratio", "Headroom, before", "%", 1),
            Column("headroom_after_ratio", "Headroom, after", "%", 1),
            Column("unserved_before_tok_s", "Unserved, before", "tok/s"),
            Column("unserved_after_tok_s", "Unserved, after", "tok/s"),
            Column("unserved_before_mtok", "Unserved in the month, before", "Mtok", 1),
            Column("unserved_after_mtok", "Unserved in the month, after", "Mtok", 1),
        ),
        rows=[_named(row) for row in incident["changes"]],
    )


def _hits(incident: Mapping[str, Any]) -> Table:
    return Table(
        name="event-hosts",
        caption="Hosts that cannot serve, by place and kind, in the month with most of them",
        columns=(
            Column("site", "Site"),
            Column("place", "Place"),
            Column("kind", "Kind"),
            Column("month", "Month"),
            Column("hit_hosts", "Cannot serve", "hosts", 1),
            Column("hosts", "Stand there", "hosts"),
        ),
        rows=incident["hits"],
    )


def _exposure(incident: Mapping[str, Any]) -> Table:
    return Table(
        name="event-exposure",
        caption="Exposure: share of tokens that run on what it is about, in its first month",
        columns=(
            *WHERE,
            Column("supply_ratio", "Of what hosts can make", "%", 1),
            Column("placed_ratio", "Of traffic as replicas are placed now", "%", 1),
        ),
        rows=[
            _named(row)
            for row in incident["exposure"]
            if row["supply_ratio"] is not None or row["placed_ratio"] is not None
        ],
    )


def _failover(incident: Mapping[str, Any]) -> Table:
    return Table(
        name="event-failover",
        caption="Whether the protected tier survives the loss of one more hall, in the worst month from then on",
        columns=(
            Column("region", "Region"),
            Column("when", "World"),
            Column("verdict", "Survives"),
            Column("missed_month", "First month it does not"),
            Column("month", "Worst month"),
            Column("domain", "After losing"),
            Column("headroom_ratio", "Headroom then", "%", 1),
        ),
        rows=[
            {**row, "when": "after" if row["is_after"] else "before", "verdict": "yes" if row["holds"] else "no"}
            for row in incident["failover"]
        ],
    )


def _cost(incident: Mapping[str, Any]) -> Table:
    cost, money = incident["cost"], incident["currency"]
    rows: list[dict[str, Any]] = []
    if cost is not None and cost["more"] is not None:
        rows = [
            {"what": "Best plan before, in money of the first month", "amount": cost["before"]},
            {"what": "Best plan after, in money of the first month", "amount": cost["after"]},
            {"what": "Value of hosts that bring nothing any more", "amount": cost["written_off"]},
            {"what": "More after than before, with what is written off", "amount": cost["more"]},
            {"what": "It is no less, by the bounds of both searches", "amount": cost["more_least"]},
            {"what": "It is no more, by the bounds of both searches", "amount": cost["more_most"]},
            *(
                {"what": f"{word}, more, not discounted", "amount": cost["items"].get(name, 0.0)}
                for name, word in ITEM_WORDS.items()
            ),
        ]
    return Table(
        name="event-cost",
        caption="What it costs: the best new plan against the best plan before",
        columns=(Column("what", "What"), Column("amount", "Amount", money)),
        rows=rows,
    )


def _actions(incident: Mapping[str, Any]) -> Table:
    money = incident["currency"]
    return Table(
        name="event-actions",
        caption="Actions of the new plan by tokens recovered for money: what a plan without each of them would lose",
        columns=(
            Column("action", "Action"),
            Column("count", "How many", "", 0),
            Column("recovered_mtok", "Recovers", "Mtok", 1),
            Column("money", "Costs", money),
            Column("mtok_per_m", "Recovers for a million", f"Mtok/M {money}", 1),
            Column("sentence", "In words"),
        ),
        rows=[
            {
                **row,
                "action": ACTION_WORDS[row["action"]],
                "mtok_per_m": None if row["mtok_per_money"] is None else row["mtok_per_money"] * 1e6,
            }
            for row in incident["actions"]
        ],
    )


def _waves(incident: Mapping[str, Any]) -> Table:
    return Table(
        name="event-waves",
        caption="Waves: the month in which a chip opens for a service, in the plan before and in the new one",
        columns=(
            Column("region", "Region"),
            Column("service", "Service"),
            Column("kind", "Opens"),
            Column("phase", "For"),
            Column("before_month", "Before"),
            Column("after_month", "After"),
        ),
        rows=incident["waves"],
    )


def _purchases(incident: Mapping[str, Any]) -> Table:
    return Table(
        name="event-purchases",
        caption="Hosts bought, in the plan before and in the new one",
        columns=(
            Column("month", "Month"),
            Column("site", "Site"),
            Column("kind", "Kind"),
            Column("before_hosts", "Before", "hosts"),
            Column("after_hosts", "After", "hosts"),
        ),
        rows=incident["purchases"],
    )


def _kinds(incident: Mapping[str, Any]) -> Table:
    return Table(
        name="event-kinds",
        caption="Hosts that stand, and that traffic fills, where the new plan differs from the one before",
        columns=(
            Column("month", "Month"),
            Column("kind", "Kind"),
            Column("before_hosts", "Stand, before", "hosts"),
            Column("after_hosts", "Stand, after", "hosts"),
            Column("before_serving_hosts", "Filled, before", "hosts", 1),
            Column("after_serving_hosts", "Filled, after", "hosts", 1),
        ),
        rows=incident["kinds"],
    )


def _limits(incident: Mapping[str, Any]) -> Table:
    return Table(
        name="event-limits",
        caption="Limits that hold the new plan back most: what one unit more would save over the horizon",
        columns=(
            Column("limit", "Limit"),
            Column("constraint", "Constraint"),
            Column("object", "Of"),
            Column("unit", "Unit"),
            Column("saves", "One unit more saves", incident["currency"]),
        ),
        rows=incident["limits"],
    )


def _drain(incident: Mapping[str, Any]) -> Table:
    drain = incident["drain"] or {"rows": []}
    return Table(
        name="event-drain",
        caption="Drained ahead of it, as many as leave every tier served and the protected one safe from one failure",
        columns=(
            Column("month", "Month"),
            Column("site", "Site"),
            Column("place", "Place"),
            Column("kind", "Kind"),
            Column("hosts", "Drained", "hosts"),
            Column("left", "Left there", "hosts"),
        ),
        rows=drain["rows"],
    )
