"""Tables of a capacity plan: the same rows feed the page, the CSV and the report."""

from collections.abc import Mapping, Sequence
from typing import Any

from scenarios.capacity_words import CONSTRAINT_WORDS, RATE_WORDS
from scenarios.tables import Column, Table, band_columns, band_spread

WHOLE_MIX = "whole mix"
"""Name of all tiers together."""


def capacity_tables(result: Mapping[str, Any]) -> list[Table]:
    """Return the tables of a capacity plan, the most asked for first; those that may be empty are left out then."""
    made = [
        _run_outs(result),
        _tiers(result),
        _add(result),
        _missed(result),
        _losses(result),
        _rates(result),
    ]
    return [_months(result), *(table for table in made if table.rows), _sites(result)]


def _months(result: Mapping[str, Any]) -> Table:
    return Table(
        name="capacity",
        caption="Capacity against demand by region and month, output tokens per second in the busiest hour",
        columns=(
            Column("region", "Region"),
            Column("month", "Month"),
            *SERVED_COLUMNS,
            Column("binding", "Binds"),
        ),
        rows=[
            {"region": region["name"], **_served(period), "binding": period["binding"]}
            for region in result["regions"]
            for period in region["periods"]
        ],
    )


SERVED_COLUMNS = (
    *band_columns("available_tok_s", "Available", "tok/s"),
    *band_columns("demanded_tok_s", "Demanded", "tok/s"),
    *band_columns("headroom_ratio", "Headroom", "%"),
    Column("unserved_tok_s", "Unserved", "tok/s"),
)


def _served(period: Mapping[str, Any]) -> dict[str, Any]:
    bands = ("available_tok_s", "demanded_tok_s", "headroom_ratio")
    spread = {key: value for name in bands for key, value in band_spread(name, period[name]).items()}
    return {"month": period["month"], **spread, "unserved_tok_s": period["unserved_tok_s"]}


def _run_outs(result: Mapping[str, Any]) -> Table:
    """Return when the fleet, its regions and their tiers run out; the fleet's is that of its first region."""
    scopes: list[tuple[str, str, Mapping[str, Any], str]] = []
    if len(result["regions"]) > 1:
        fleet = result["fleet"]
        scopes += [("Fleet", WHOLE_MIX, fleet, "")]
        scopes += [("Fleet", one["tier"], one, "") for one in fleet.get("tiers", ())]
    for region in result["regions"]:
        kind = region.get("order_kind", "")
        scopes += [(region["name"], WHOLE_MIX, region, kind)]
        scopes += [(region["name"], one["tier"], one, kind) for one in region.get("tiers", ())]
    quantiles = ("p10", "p50", "p90")
    return Table(
        name="run-out",
        caption="When demand first exceeds capacity, by when to order, and what goes unserved if nothing is done",
        columns=(
            Column("region", "Region"),
            Column("tier", "Tier"),
            *(Column(f"run_out_{q}", f"Runs out, {q.upper()}") for q in quantiles),
            Column("run_out_expected_on", "Expected future"),
            Column("probability_ratio", "Within the months", "%"),
            *(Column(f"order_by_{q}", f"Order by, {q.upper()}") for q in quantiles),
            Column("kind", "Host type to order"),
            *band_columns("unserved_mtok", "Unserved", "Mtok"),
        ),
        rows=[
            {
                "region": name,
                "tier": tier,
                **band_spread("run_out", row["run_out"]),
                "run_out_expected_on": row["run_out_expected_on"],
                "probability_ratio": row["run_out_probability_ratio"],
                **band_spread("order_by", row.get("order_by_on") or dict.fromkeys(quantiles)),
                "kind": kind,
                **band_spread("unserved_mtok", row["unserved_mtok"]),
            }
            for name, tier, row, kind in scopes
            if "run_out_probability_ratio" in row  # results of earlier releases lack it
        ],
    )


def _tiers(result: Mapping[str, Any]) -> Table:
    return Table(
        name="tiers",
        caption="Capacity against demand by region, tier and month; a tier has what those above it leave",
        columns=(Column("region", "Region"), Column("tier", "Tier"), Column("month", "Month"), *SERVED_COLUMNS),
        rows=[
            {"region": region["name"], "tier": tier["tier"], **_served(period)}
            for region in result["regions"]
            for tier in region.get("tiers", ())
            for period in tier["periods"]
        ],
    )


def _add(result: Mapping[str, Any]) -> Table:
    money = result.get("currency", "")
    return Table(
        name="add",
        caption="What to add where, and by when to order it, so that the expected future keeps its headroom",
        columns=(
            Column("month", "Stands from"),
            Column("region", "Region"),
            Column("site", "Site"),
            Column("kind", "Host type"),
            Column("hosts", "Hosts"),
            Column("beyond_hosts", "Of them not offered"),
            Column("cost", "Hosts, energy and upkeep", money),
            Column("order_by_on", "Order by"),
        ),
        rows=_named(result, result.get("add", ())),
    )


def _missed(result: Mapping[str, Any]) -> Table:
    return Table(
        name="missed",
        caption="Months in which no hosts that limits let in reach the headroom asked for",
        columns=(
            Column("month", "Month"),
            Column("region", "Region"),
            Column("headroom_ratio", "Headroom with all that fits", "%"),
        ),
        rows=_named(result, result.get("missed", ())),
    )


def _named(result: Mapping[str, Any], rows: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
    """Return rows with the names of their regions and sites."""
    regions = {region["slug"]: region["name"] for region in result["regions"]}
    sites = {site["slug"]: site["name"] for site in result["sites"]}
    return [
        {**row, "region": regions[row["region"]]} | ({"site": sites[row["site"]]} if "site" in row else {})
        for row in rows
    ]


def _losses(result: Mapping[str, Any]) -> Table:
    return Table(
        name="after-loss",
        caption="What is left after the loss of the hall that hurts a tier most, reserve included, by month",
        columns=(
            Column("region", "Region"),
            Column("tier", "Tier"),
            Column("month", "Month"),
            Column("domain", "Lost"),
            Column("headroom_ratio", "Headroom left", "%"),
            Column("unserved_tok_s", "Unserved", "tok/s"),
        ),
        rows=[
            {**row, "region": region["name"], "tier": row["tier"] or WHOLE_MIX}
            for region in result["regions"]
            for row in region.get("after_loss", ())
        ],
    )


def _rates(result: Mapping[str, Any]) -> Table:
    return Table(
        name="rates-bound",
        caption="What limits the rate of a host that stands in the first month, by region",
        columns=(Column("region", "Region"), Column("binds", "Limited by"), Column("services", "For")),
        rows=[
            {
                "region": region["name"],
                "binds": RATE_WORDS.get(row["binds"], row["binds"]),
                "services": ", ".join(row["services"]),
            }
            for region in result["regions"]
            for row in region.get("rates_bound", ())
        ],
    )


def _sites(result: Mapping[str, Any]) -> Table:
    return Table(
        name="sites",
        caption="Hosts and power by site and month, and what stops the next host",
        columns=(
            Column("site", "Site"),
            Column("month", "Month"),
            Column("hosts", "Hosts in racks"),
            Column("waiting", "Hosts waiting"),
            Column("power_kw", "Power planned", "kW", 1),
            Column("power_limit_kw", "Limit of the racks", "kW", 1),
            Column("binding", "Binds"),
            Column("sentence", "What stops the next host"),
        ),
        rows=[
            {
                "site": site["name"],
                "month": period["month"],
                "hosts": sum(period["hosts"].values()),
                "waiting": sum(period["waiting"].values()),
                "power_kw": period["power_w"] / 1000,
                "power_limit_kw": period["power_limit_w"] / 1000,
                "binding": CONSTRAINT_WORDS.get(period["binding"], period["binding"]),
                "sentence": period["sentence"],
            }
            for site in result["sites"]
            for period in site["periods"]
        ],
    )
