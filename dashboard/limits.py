"""What limits racks, and how near each limit is: the words, figures and links that pages of the fleet share.

A load is the one to plan with; a feed, and whatever is above it, counts with its load after the worst single failure.
Values in, values out.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from dashboard.links import Links
from dashboard.presenters import UNKNOWN, Meter, decimals_of, number_text, percent_text, state_of
from fleet.days import LIMIT_UNITS, FleetDay
from fleet.loads import CABINET, COOLING, COOLING_NODE, FEED, LIMITS, NODE, PORTS, UNITS, WEIGHT
from fleet.snapshot import IntArray
from fleet.trees import SupplyTree, TreeLoads

LIMIT_WORDS = {
    UNITS: "rack units",
    CABINET: "power of the cabinet",
    FEED: "feed",
    NODE: "power above the feeds",
    COOLING: "cooling of the rack",
    COOLING_NODE: "cooling above the rack",
    PORTS: "network ports",
    WEIGHT: "weight",
}
OWN = (UNITS, CABINET, FEED, COOLING, PORTS, WEIGHT)
"""Limits that a rack has to itself."""

KIND_WORDS = {
    "utility": "utility",
    "generator": "generator",
    "switchboard": "switchboard",
    "ups": "UPS",
    "pdu": "PDU",
    "feed": "feed",
    "plant": "plant",
    "loop": "loop",
    "cdu": "cooling unit",
    "core": "core switch",
    "spine": "spine switch",
    "leaf": "leaf switch",
    "tor": "rack switch",
}
SCALES = {"W": (1e3, "kW"), "VA": (1e3, "kVA")}  # per unit: what it is divided by on a page, and its name there


@dataclass(frozen=True, eq=False)
class SiteDay(FleetDay):
    """A site on a day, and the addresses of pages on that day."""

    links: Links


# --- figures in words -------------------------------------------------------------------------------------------------
def amount_text(value: float, unit: str) -> str:
    """Return a value in base units as a page shows it: power in kW, apparent power in kVA, the rest as it is."""
    divisor, name = SCALES.get(unit, (1.0, unit))
    scaled = value / divisor
    is_small = unit not in SCALES or abs(scaled) < 9.995
    number = number_text(scaled) if is_small else f"{scaled:,.{decimals_of(abs(scaled))}f}"
    return f"{number} {name}".replace("-", "−")


def of_text(load: float, limit: float, unit: str) -> str:
    """Return a load and its limit with the same decimals, such as `30.0 of 36.2 kVA`."""
    divisor, name = SCALES.get(unit, (1.0, unit))
    if not np.isfinite(limit):
        return f"{amount_text(load, unit)}, no limit known"
    decimals = decimals_of(max(load, limit) / divisor) if unit in SCALES else 0
    return f"{load / divisor:,.{decimals}f} of {limit / divisor:,.{decimals}f} {name}"


def fullness(ratio: float, *, text: str = "") -> Meter:
    """Return the meter of a load over its limit."""
    state, word = state_of(ratio)
    return Meter(text or percent_text(ratio), round(100 * min(ratio, 1.0), 1), word, state)


def node_text(kind: str, slug: str) -> str:
    """Return a node of a tree as people call it: `PDU dc01-pdu-a3`."""
    return f"{KIND_WORDS.get(kind, kind)} {slug}"


@dataclass(frozen=True, slots=True)
class Nearest:
    """The limit that is nearest: how near, what it is of, and where that figure comes from."""

    ratio: float
    meter: Meter
    words: str
    url: str


def nearest_limit(site: SiteDay, racks: IntArray, limits: Sequence[str] = LIMITS) -> Nearest | None:
    """Return the nearest of some limits over some racks, or None where nothing is loaded."""
    columns = [LIMITS.index(name) for name in limits]
    ratio = site.loads.ratio[racks][:, columns]
    if not ratio.size or not ratio.max() > 0:
        return None
    rack, column = divmod(int(np.argmax(ratio)), len(columns))
    return _nearest(site, int(racks[rack]), columns[column])


def _nearest(site: SiteDay, rack: int, column: int) -> Nearest:
    ratio = float(site.loads.ratio[rack, column])
    words, url = limit_words(site, rack, LIMITS[column])
    return Nearest(ratio, fullness(ratio), words, url)


def limit_words(site: SiteDay, rack: int, limit: str) -> tuple[str, str]:
    """Return what a limit of a rack is of, with the failure under which it binds, and where its figure comes from.

    That is the page of the failure; without one the node in its tree, or a feed, which no tree shows, at its rack.
    """
    node = int(site.loads.node[rack, LIMITS.index(limit)])
    slug = site.snapshot.rack_slugs[rack]
    if node < 0:
        return f"{LIMIT_WORDS[limit]} of {slug}", f"{site.links.rack(slug)}#limits"
    name = "cooling" if limit == COOLING_NODE else "power"
    facts, failure = site.facts(name), failure_of(site, node, is_power=name == "power")
    if failure:
        url = site.links.failure(name, failure)
    elif facts.kinds[node] == "feed":
        url = f"{site.links.rack(slug)}#feeds"
    else:
        url = site.links.tree(name, site.snapshot.sites[0].slug, node=facts.slugs[node])
    return f"{node_text(facts.kinds[node], facts.slugs[node])}{after_words(site, node, is_power=name == 'power')}", url


def failure_of(site: SiteDay, node: int, *, is_power: bool) -> str:
    """Return the node under whose failure another one bears most; empty where none adds to it."""
    loads, tree = of_tree(site, is_power=is_power)
    failure = int(loads.worst_failure[node])
    return tree.slugs[failure] if failure >= 0 else ""


def after_words(site: SiteDay, node: int, *, is_power: bool) -> str:
    """Return under which failure a node bears most, such as ` after losing pdu-b`; empty where none adds to it."""
    failure = failure_of(site, node, is_power=is_power)
    return f" after losing {failure}" if failure else ""


def of_tree(site: SiteDay, *, is_power: bool) -> tuple[TreeLoads, SupplyTree]:
    """Return loads and tree of power, or of cooling."""
    loads = site.loads
    return (loads.power, loads.power_tree) if is_power else (loads.cooling, loads.cooling_tree)


# --- every limit of a rack --------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class LimitCell:
    """One limit of a rack: its load and what is left, and what it is of. An empty state: no such limit is known."""

    name: str
    text: str
    percent: str
    headroom: str
    state: str
    word: str
    words: str
    url: str
    is_own: bool


def limit_cells(site: SiteDay, rack: int) -> list[LimitCell]:
    """Return the limits of a rack in the order of `LIMITS`."""
    return [_limit_cell(site, rack, column, name) for column, name in enumerate(LIMITS)]


def _limit_cell(site: SiteDay, rack: int, column: int, name: str) -> LimitCell:
    load, limit = float(site.load[rack, column]), float(site.limit[rack, column])
    ratio, unit = float(site.loads.ratio[rack, column]), LIMIT_UNITS[name]
    words, url = limit_words(site, rack, name)
    title, is_own = LIMIT_WORDS[name].capitalize(), bool(site.loads.node[rack, column] < 0)
    if not np.isfinite(limit):
        text = "none recorded" if name in {FEED, NODE, COOLING_NODE} else f"{amount_text(load, unit)}, no limit known"
        return LimitCell(title, text, UNKNOWN, UNKNOWN, "", "", words, url, is_own)
    state, word = state_of(ratio)
    text, percent, left = of_text(load, limit, unit), percent_text(ratio), amount_text(limit - load, unit)
    return LimitCell(title, text, percent, left, state, word, words, url, is_own)
