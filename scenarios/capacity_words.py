"""What a capacity plan says in words: what binds, tokens, and what it takes for granted. Here figures are rounded."""

from scenarios.grounds import NO_RACK, ROOM
from scenarios.planning.capacity import CHIPS
from scenarios.planning.capacity_answer import BindRow
from scenarios.planning.params import CapacityParams

CONSTRAINT_WORDS = {
    "rack_power": "rack power",
    "rack_cooling": "cooling of racks",
    "rack_units": "rack height",
    "rack_weight": "weight that racks bear",
    "rack_ports": "network ports",
    "feed_failover_power": "power with one feed lost",
    "cooling": "cooling",
    "liquid_cooling": "liquid cooling",
    "no_rack": "racks",
}
"""What stops the next host, in words."""

RATE_WORDS = {
    "memory": "memory of the chips (HBM)",
    "tpot": "time per output token",
    "ttft": "time to first token",
    "prompts": "reading prompts",
    "max_seqs": "sequences of the engine",
    "max_batched_tok": "tokens of a step",
}
"""What limits the rate of a host, in words."""


TOKENS = ((1e9, "Ptok"), (1e6, "Ttok"), (1e3, "Gtok"))
"""Units of tokens, by the least millions of them that are told so. [Mtok]"""


def capacity_assumptions(params: CapacityParams, *, draws: int, seed: int) -> list[str]:
    """Return what a capacity plan takes for granted, one sentence each."""
    return [
        f"Bands are P10, P50 and P90 over {draws} futures (demand, chip speed, delivery slip and fill), seed {seed}; "
        "hosts, sites, what binds, what to add and what a failure leaves are those of the expected future, in which "
        "every input takes its middle. It can lie well beside the P50: it is one world, the P50 is half of them.",
        "Demand is that of the forecast: measured histories where there are some, else the stated demand and growth, "
        "with the events and overrides that people have entered.",
        "Gold is served before standard, standard before batch; the whole mix is judged with one share for all.",
        "The hosts of a hall are spread evenly over its racks; feeds, panels and cooling keep their limits after any "
        "single failure.",
        f"Without an offer a host stands {params.lead_months:g} months after its order: an assumption. An order day "
        "before the first month says that it is too late.",
        f"Hosts whose price nobody says cost {params.price_unknown:,.0f} {params.currency}, energy "
        f"{params.tariff_per_kwh:g} {params.currency}/kWh unless the scenario says otherwise: assumptions.",
    ]


def bind_sentence(site: str, bind: BindRow, *, waiting: int) -> str:
    """Return what stops the next host at a site, with its object and numbers."""
    who = f"{waiting:,} delivered {bind.kind} wait" if waiting else f"no more {bind.kind} fit"
    if bind.constraint == CHIPS:
        return f"{site}: limits leave room for more {bind.kind}; all that has come stands."
    what = CONSTRAINT_WORDS.get(bind.constraint, bind.constraint.replace("_", " "))
    if bind.constraint == NO_RACK:
        return f"{site}: {who}; {bind.object} has no rack for them."
    if bind.limit == f"{ROOM} {bind.object}":
        most, free = round(1 / bind.needed + 1e-9), max(bind.free, 0.0) / bind.needed
        left = f"{most:,} of them when empty and has room for {free:,.1f} more" if bind.needed <= 1 else "none of them"
        return f"{site}: {who} for want of {what}; {bind.object} takes {left}."
    after = f" after the loss of {bind.failure}" if bind.failure else ""
    kilo = {"W": "kW", "VA": "kVA"}.get(bind.unit)
    free, needed = (value / 1000 if kilo else value for value in (max(bind.free, 0.0), bind.needed))
    unit = kilo or bind.unit
    left = f"{bind.object}{after} has {free:,.1f} {unit} free, {needed:,.1f} {unit} needed"
    return f"{site}: {who} for want of {what}; {left}."


def tokens_text(mtok: float) -> str:
    """Return millions of tokens as text in the unit that people read."""
    size, unit = next((row for row in TOKENS if mtok >= row[0]), (1.0, "Mtok"))
    amount = mtok / size
    return f"{f'{amount:,.0f}' if amount >= 100 else f'{amount:.3g}'} {unit}"


def count_text(count: int, word: str) -> str:
    """Return a count with its word."""
    return f"{count:,} {word}{'' if count == 1 else 's'}"
