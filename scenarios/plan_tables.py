"""Tables of a migration plan: the same rows feed the page, the CSV and the report."""

from collections import defaultdict
from collections.abc import Mapping
from typing import Any

from scenarios.plan_sure_tables import sure_tables
from scenarios.tables import Column, Table

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
STATE_WORDS = {"serving": "Serving", "shadow": "Copies", "reserve": "Reserve for a return", "idle": "Idle or kept free"}
SHARE_WORDS = {
    "homegrown_token_ratio": "Of all tokens",
    "homegrown_output_ratio": "Of output tokens",
    "portable_ratio": "That could be, by software and promise",
}


def plan_tables(plan: Mapping[str, Any]) -> list[Table]:
    """Return the tables of the plan of a result, the most asked for first; those without rows are left out."""
    money = plan["currency"]
    made = [
        _conflict(plan),
        _waves(plan),
        _compared(plan, money),
        *sure_tables(plan),
        _left(plan),
        _states(plan),
        _shares(plan),
        _money(plan, money),
        _front(plan, money),
        _limits(plan, money),
        _feeds(plan),
        _hosts(plan),
        _racks(plan),
        _short(plan),
        _replicas(plan),
        _figures(plan),
    ]
    return [table for table in made if table.rows]


def _conflict(plan: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-conflict",
        caption="Why there is no plan: the smallest set of requirements that cannot all be kept",
        columns=(Column("requirement", "Requirement"), Column("subject", "About"), Column("sentence", "In words")),
        rows=plan["conflict"],
    )


def _waves(plan: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-waves",
        caption="Waves: which service opens which homegrown chip in which month, and for which part",
        columns=(
            Column("month", "Month"),
            Column("region", "Region"),
            Column("service", "Service"),
            Column("from", "Leaves"),
            Column("to", "Opens"),
            Column("phase", "For"),
            Column("first_tok_s", "Carries at first", "tok/s"),
            Column("last_tok_s", "Carries at the end", "tok/s"),
            Column("gates", "Gates open, who may block"),
        ),
        rows=[{**row, "from": ", ".join(row["from"])} for row in plan["waves"]],
    )


def _compared(plan: Mapping[str, Any], money: str) -> Table:
    return Table(
        name="plan-compared",
        caption="What optimising buys: this plan beside the greedy one and doing nothing",
        columns=(
            Column("name", "Plan"),
            Column("objective", "Uses up, in money of the first month", money),
            Column("more", "More than this plan", money),
            Column("homegrown_ratio", "Homegrown, of tokens demanded at the end", "%", 1),
            Column("short_mtok", "Unserved", "Mtok", 1),
            Column("waves", "Openings"),
            *(Column(f"item_{name}", f"{word}, difference", money) for name, word in ITEM_WORDS.items()),
        ),
        rows=[{**row, **{f"item_{name}": row["items"].get(name) for name in ITEM_WORDS}} for row in plan["compared"]],
    )


def _by_month(plan: Mapping[str, Any], names: Mapping[str, str], suffix: str = "") -> list[dict[str, Any]]:
    """Return figures of the fleet by month, summed over what they are said of."""
    found: dict[str, dict[str, Any]] = defaultdict(dict)
    for row in plan["figures"]:
        name = row["figure"].removesuffix(suffix)
        if name in names and row["month"] is not None and row["value"] is not None:
            month = found[row["month"]]
            month[name] = month.get(name, 0.0) + row["value"]
    return [{"month": month, **values} for month, values in sorted(found.items())]


def _states(plan: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-states",
        caption="Hosts by what they do, by month: serving, copies before a wave, reserve for a return, idle",
        columns=(Column("month", "Month"), *(Column(n, word, "hosts", 1) for n, word in STATE_WORDS.items())),
        rows=_by_month(plan, STATE_WORDS, "_hosts"),
    )


def _shares(plan: Mapping[str, Any]) -> Table:
    fleet = {**plan, "figures": [row for row in plan["figures"] if row["scope"] == "fleet"]}
    return Table(
        name="plan-shares",
        caption="Share of the tokens served on homegrown chips, by month",
        columns=(Column("month", "Month"), *(Column(n, word, "%", 1) for n, word in SHARE_WORDS.items())),
        rows=_by_month(fleet, SHARE_WORDS),
    )


def _money(plan: Mapping[str, Any], money: str) -> Table:
    return Table(
        name="plan-money",
        caption="Money by month and item; income and value left are negative",
        columns=(
            Column("month", "Month"),
            *(Column(name, word, money) for name, word in ITEM_WORDS.items()),
            Column("total", "Sum", money),
            Column("discounted", "Sum in money of the first month", money),
        ),
        rows=plan["money"],
    )


def _front(plan: Mapping[str, Any], money: str) -> Table:
    return Table(
        name="plan-front",
        caption="Homegrown share of the last month's tokens against cost; what binds at each point",
        columns=(
            Column("asked_ratio", "Share asked for", "%", 1),
            Column("reached_ratio", "Share reached", "%", 1),
            Column("objective", "Uses up", money),
            Column("gap_ratio", "Gap", "%", 2),
            Column("status", "Status"),
            Column("binds", "Binds, or conflicts"),
        ),
        rows=[{**row, "binds": "; ".join(row["conflict"] or row["binds"])} for row in plan["front"]],
    )


def _limits(plan: Mapping[str, Any], money: str) -> Table:
    return Table(
        name="plan-limits",
        caption="Limits in their fullest month, and what one unit more would save over the horizon",
        columns=(
            Column("limit", "Limit"),
            Column("month", "Month"),
            Column("used", "Taken", plan["limits"][0]["unit"] if plan["limits"] else "", 2),
            Column("most", "Most", "", 2),
            Column("slack", "Slack", "", 2),
            Column("unit", "Unit"),
            Column("months_bound", "Months it binds"),
            Column("shadow_price", "One unit more saves", money),
        ),
        rows=plan["limits"],
    )


def _feeds(plan: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-feeds",
        caption="Nodes of power nearest their limits, by month: now, and after the failure that loads them most",
        columns=(
            Column("month", "Month"),
            Column("site", "Site"),
            Column("node", "Node"),
            Column("now_kva", "Now", "kVA", 1),
            Column("worst_kva", "After the worst failure", "kVA", 1),
            Column("failure", "Which failure"),
            Column("usable_kva", "May be drawn", "kVA", 1),
            Column("full_ratio", "Full", "%", 1),
        ),
        rows=[
            {
                **row,
                **{f"{name}_kva": row[f"{name}_va"] / 1000 for name in ("now", "worst", "usable")},
                "full_ratio": row["worst_va"] / row["usable_va"],
            }
            for row in plan["feeds"]
        ],
    )


def _hosts(plan: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-hosts",
        caption="Hosts by month, place and kind: kept of those that stood, and new",
        columns=(
            Column("month", "Month"),
            Column("place", "Place"),
            Column("kind", "Kind"),
            Column("kept", "Kept", "hosts"),
            Column("new", "New", "hosts"),
        ),
        rows=plan["hosts"],
    )


def _left(plan: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-left",
        caption="What is still on GPUs in the last month, and why",
        columns=(
            Column("service", "Service"),
            Column("region", "Region"),
            Column("share_ratio", "Share of its traffic", "%", 1),
            Column("tok_s", "Traffic", "tok/s"),
            Column("reason", "Why"),
        ),
        rows=plan.get("left", []),
    )


def _racks(plan: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-racks",
        caption="Which racks hosts come into and leave, by month",
        columns=(
            Column("month", "Month"),
            Column("place", "Place"),
            Column("rack", "Rack"),
            Column("kind", "Kind"),
            Column("hosts", "Hosts that come; leave if negative", "hosts"),
        ),
        rows=plan["racks"],
    )


def _short(plan: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-short",
        caption="Traffic that goes unserved in the peak hour, or would after the loss of a hall",
        columns=(
            Column("month", "Month"),
            Column("region", "Region"),
            Column("tier", "Tier"),
            Column("service", "Service"),
            Column("after_losing", "After losing"),
            Column("tok_s", "Unserved", "tok/s"),
            Column("share_ratio", "Share of its traffic", "%", 1),
        ),
        rows=plan["short"],
    )


def _replicas(plan: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-replicas",
        caption="Whole replicas by month, service, place and kind",
        columns=(
            Column("month", "Month"),
            Column("service", "Service"),
            Column("place", "Place"),
            Column("kind", "Kind"),
            Column("phase", "For"),
            Column("replicas", "Replicas"),
            Column("hosts", "Load", "hosts", 2),
        ),
        rows=plan["rounding"]["replicas"] if plan["rounding"] else [],
    )


def _figures(plan: Mapping[str, Any]) -> Table:
    return Table(
        name="plan-figures",
        caption="Figures of the plan: energy, carbon, money for tokens, sovereignty, exposure, stranded value",
        columns=(
            Column("figure", "Figure"),
            Column("scope", "Of"),
            Column("month", "Month"),
            Column("value", "Value", " ", 3),
            Column("unit", "Unit"),
            Column("reason", "Why there is none"),
        ),
        rows=[row for row in plan["figures"] if not row["figure"].endswith(tuple(f"{s}_hosts" for s in STATE_WORDS))],
    )
