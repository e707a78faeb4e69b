"""Power nodes and what draws on what, out of NetBox's power panels and feeds."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

from fleet.files.places import CellError, number_of
from fleet.models import PowerNode
from fleet.netbox.finding import BadError, OmitError
from fleet.netbox.kinds import PANEL_FIGURES
from fleet.netbox.readings import AHEAD, Kept, Reading
from fleet.netbox.sources import Thing

PHASES: Mapping[str, int] = {"single-phase": 1, "three-phase": 3}
UTILIZATION_PCT = 80
"""Share of a feed that NetBox lets be drawn where a table does not say it. [%]"""


@dataclass(frozen=True, slots=True)
class Rating:
    """What a feed gives: written down, or by voltage, current and phases as NetBox has it."""

    rating_va: float | None
    voltage_v: float
    current_a: float
    phases: int
    derate_ratio: float

    @property
    def full(self) -> float:
        """Nameplate. [VA]"""
        return self.rating_va or math.sqrt(self.phases) * self.voltage_v * self.current_a

    def as_values(self) -> dict[str, Any]:
        """Return it as columns of a power node."""
        values = asdict(self)
        return values | {"voltage_v": None, "current_a": None} if self.rating_va else values


class Power:
    """Translates panels and feeds. Racks ask before what their feeds give."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.finder = reading, reading.finder
        self.ratings: dict[Thing, Rating] = {}
        self.days: dict[Thing, Mapping[str, Any]] = {}

    def ratings_read(self) -> Mapping[Thing, list[float]]:
        """Return what may be drawn from the feeds of each rack, with its place. [VA]"""
        by_rack: dict[Thing, list[float]] = defaultdict(list)

        def read(one: Thing) -> None:
            rating = self.ratings[one] = self._rating(one)
            self.days[one] = self.reading.days(one)
            if one.status not in AHEAD:
                by_rack[self.finder.rack(one)].append(rating.full * rating.derate_ratio)

        self.reading.each("power-feeds", read)
        return by_rack

    def translate(self) -> None:
        """Translate panels, feeds and links."""
        self.reading.named(["power-panels", "power-feeds"], PowerNode, ("site__slug", "rack__slug"), self._placed)
        self.reading.each("power-feeds", self._feed_check)
        panels: dict[Thing, float] = defaultdict(float)
        for one in self.reading.things["power-feeds"]:
            if one not in self.finder.gone:
                panels[self.finder.panel(one)] += self.ratings[one].full
        self.reading.each("power-panels", lambda one: self._panel(one, panels.get(one, 0.0)))
        self.reading.each("power-feeds", self._feed)

    def _placed(self, one: Thing) -> tuple[str, Sequence[str]]:
        if one.kind == "power-panels":
            return "", ["-".join(self.reading.text(place, "slug") for place in self.finder.location(one))]
        rack = self.finder.rack(one)
        return self.reading.slugs[rack], [rack.name, self.finder.panel(one).name]

    def _rating(self, one: Thing) -> Rating:
        phase = str(one.values.get("phase") or "single-phase")
        if phase not in PHASES:
            raise BadError("phase", f'"{phase}" is none of: {", ".join(PHASES)}')
        written, share = one.custom.get("rating_va"), one.custom.get("derate_ratio")
        for column in ("voltage", "amperage"):
            if not self.reading.number(one, column):
                raise BadError(column, "0: a feed gives something")
        return Rating(
            rating_va=None if written is None else _figure("rating_va", written),
            voltage_v=abs(self.reading.number(one, "voltage")),  # of direct current it may be negative
            current_a=self.reading.number(one, "amperage"),
            phases=PHASES[phase],
            derate_ratio=self.reading.number(one, "max_utilization", UTILIZATION_PCT) / 100
            if share is None
            else _figure("derate_ratio", share),
        )

    def _name(self, one: Thing) -> str:
        """Return the name of a node; empty where its slug says the same."""
        return "" if one.name == self.reading.slugs[one] else self.reading.name_of(one)

    def _feed_check(self, one: Thing) -> None:
        """Find out whether a feed is left out, before its panel counts it."""
        self.finder.rack(one)
        self.finder.panel(one)

    def _feed(self, one: Thing) -> None:
        rack, panel = self.finder.rack(one), self.finder.panel(one)
        values: dict[str, Any] = {"slug": self.reading.slugs[one], "name": self._name(one), "kind": "feed"}
        values |= {"site": self.finder.site_slug(rack), "rack": self.reading.slugs[rack], "redundancy": Kept()}
        values |= self.ratings[one].as_values()
        values |= self.reading.figures(one, ["efficiency_ratio", "house_va"])
        for name, plain in (("type", "primary"), ("supply", "ac")):
            if (said := one.values.get(name, plain)) != plain:
                self.reading.report.not_carried[f"power-feeds.{name}={said}"] += 1
        link = {"node": self.reading.slugs[one], "source": self.reading.slugs[panel], "standby": Kept()}
        self.reading.tables["power-nodes"].append((one, {**values, **self.days[one]}))
        self.reading.tables["power-links"].append((one, link))

    def _panel(self, one: Thing, full: float) -> None:
        figures = self.reading.figures(one, PANEL_FIGURES)
        more = self.reading.options.power_panel
        figures |= {name: Kept(said) for name, said in more.items() if figures[name] == Kept()}
        slug = self.reading.slugs[one]
        if figures["kind"] == Kept():
            figures["kind"] = Kept("pdu")
        if figures["rating_va"] == Kept() and full:
            self.reading.assume("power-panels.rating_va: what its feeds give together")
            figures["rating_va"] = Kept(round(full, 1))
        if figures["rating_va"] == Kept() and slug not in self.reading.standing["power-panels"]:
            raise OmitError("no feed, no custom field rating_va and no map says what it gives")
        other = Kept() if isinstance(figures["rating_va"], Kept) else None
        values: dict[str, Any] = {
            "slug": slug,
            "name": self._name(one),
            "site": self.finder.site_slug(one),
            "rack": None,
        }
        values |= {**figures, "voltage_v": other, "current_a": other, "phases": Kept(3), **self.reading.days(one)}
        self.reading.tables["power-nodes"].append((one, values))


def _figure(name: str, said: Any) -> float:
    try:
        return float(number_of(str(said)))
    except CellError as error:
        raise BadError(f"custom_fields.{name}", str(error)) from error
