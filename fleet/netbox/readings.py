"""One reading of NetBox on its way into tables of ours: what every translation needs."""

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

from django.db import models

from fleet.files.places import CellError, number_of
from fleet.netbox.finding import BadError, Finder, OmitError
from fleet.netbox.kinds import DAYS
from fleet.netbox.options import Options
from fleet.netbox.reports import NetBoxReport
from fleet.netbox.slugs import Wish, slugs_give
from fleet.netbox.sources import Thing, Things

NAME_MOST = 80
STANDS = frozenset({"active", "available", "reserved"})
AHEAD = frozenset({"planned", "staging", "staged"})
GONE = frozenset({"retired", "inventory"})
KG: Mapping[str, float] = {"kg": 1, "g": 1e-3, "lb": 0.45359237, "oz": 0.028349523125}


@dataclass(frozen=True, slots=True)
class Kept:
    """What NetBox does not say: a row that stands keeps its own, a new or empty one takes this."""

    value: Any = None


Table = list[tuple[Thing, dict[str, Any]]]
"""Rows of an entry, each with the thing that it comes from."""


@dataclass
class Reading:
    """Things, what is known beside them, and the tables that they become, by entry."""

    things: Things
    options: Options
    report: NetBoxReport
    on: date

    def __post_init__(self) -> None:
        """Begin with empty tables."""
        self.finder = Finder(self.things)
        self.tables: dict[str, Table] = defaultdict(list)
        self.slugs: dict[Thing, str] = {}
        self.standing: dict[str, frozenset[str]] = {}

    def each(self, kind: str, translate: Callable[[Thing], None]) -> None:
        """Translate the things of a list that are not left out; note those that cannot be."""
        for one in self.things[kind]:
            if one not in self.finder.gone:
                self._tried(one, translate)

    def _tried(self, one: Thing, translate: Callable[[Thing], None]) -> None:
        try:
            translate(one)
        except OmitError as error:
            self.finder.gone.add(one)
            self.report.omission_add(one.kind, one.place, one.name, str(error))
        except BadError as error:
            self.finder.gone.add(one)
            self.report.imported.fault_add(one.place.fault(one.kind, error.column, str(error)))

    # --- names --------------------------------------------------------------------------------------------------------
    def named(
        self,
        kinds: Sequence[str],
        model: type[models.Model],
        paths: Sequence[str],
        placed: Callable[[Thing], tuple[str, Sequence[str]]],
    ) -> None:
        """Give slugs to things that have names only.

        `paths` lead from a row of ours to its site and its place there; `placed` returns the place of a thing, and what
        may stand before its name.
        """
        wishes: dict[Thing, Wish] = {}

        def wish(one: Thing) -> None:
            name, (place, prefixes) = _called(one), placed(one)
            wishes[one] = Wish.of(name, one.kind.removesuffix("s"), self.finder.site_slug(one), place, prefixes)

        for kind in kinds:
            self.each(kind, wish)
        rows = model._default_manager.values_list("slug", *paths)
        standing = {slug: (site, "/".join(part or "" for part in place)) for slug, site, *place in rows}
        self.standing[kinds[0]] = frozenset(standing)
        for one, slug in zip(wishes, slugs_give(wishes.values(), standing), strict=True):
            self.slug_note(one, slug, one.name.lower())

    def slug_note(self, one: Thing, slug: str, plain: str) -> None:
        """Keep the slug of a thing, and tell it where it is not the plain one."""
        self.slugs[one] = slug
        if slug != plain:
            self.report.rename_add(one.kind, one.place, one.name, slug)

    def name_of(self, one: Thing) -> str:
        """Return a name of at most as many characters as ours have."""
        if len(one.name) > NAME_MOST:
            self.assume(f"{one.kind}: names cut to {NAME_MOST} characters")
        return one.name[:NAME_MOST]

    # --- what things say ----------------------------------------------------------------------------------------------
    def text(self, one: Thing, column: str) -> str:
        """Return a text that must be there."""
        if not one.values.get(column):
            raise BadError(column, "empty: a value is needed")
        if isinstance(one.values[column], Mapping):
            raise BadError(column, "a single value is expected")
        return str(one.values[column])

    def number(self, one: Thing, column: str, default: float | None = None) -> float:
        """Return a number, which must be there if there is no default."""
        value = one.values.get(column, default)
        if value is None:
            raise BadError(column, "empty: a number is needed")
        try:
            return float(number_of(str(value).strip()))
        except CellError as error:
            raise BadError(column, str(error)) from error

    def whole(self, one: Thing, column: str, rounded: Callable[[float], int]) -> int:
        """Return a number in whole units; NetBox also knows halves."""
        value = self.number(one, column)
        if value != int(value):
            self.assume(f"{one.kind}.{column} in whole units")
        return rounded(value)

    def truth(self, one: Thing, column: str, *, default: bool) -> bool:
        """Return whether something is so, as the API or a table says it."""
        return str(one.values.get(column, default)).lower() in {"true", "1", "yes"}

    def weight(self, one: Thing, column: str) -> Any:
        """Return a weight, if there is one. [kg]"""
        if one.values.get(column) is None:
            return Kept()
        unit = str(one.values.get("weight_unit") or "kg").lower()
        unit = {"kilograms": "kg", "grams": "g", "pounds": "lb", "ounces": "oz"}.get(unit, unit)
        if unit not in KG:
            raise BadError("weight_unit", f'"{unit}" is none of: {", ".join(KG)}')
        return round(self.number(one, column) * KG[unit], 3)

    def days(self, one: Thing, stands: Callable[[], bool] = lambda: False) -> dict[str, Any]:
        """Return the days of a thing: as custom fields tell, else as far as its status does.

        `stands` tells whether it is in the fleet already: what is retired ends there on the day of the reading.
        """
        days = self.figures(one, DAYS)
        if one.status in AHEAD:
            if days["in_service_on"] == Kept():
                raise OmitError(f"is {one.status}, and no custom field in_service_on says from when on it is there")
        elif one.status in GONE:
            if days["out_of_service_on"] == Kept():
                if not stands():
                    raise OmitError(f"is {one.status}")
                days["out_of_service_on"] = Kept(self.on.isoformat())
        elif one.status not in STANDS:
            self.report.not_carried[f"{one.kind}.status={one.status}"] += 1
        return days

    def figures(self, one: Thing, names: Iterable[str]) -> dict[str, Any]:
        """Return figures as custom fields tell them."""
        return {name: one.custom.get(name, Kept()) for name in names}

    def assume(self, what: str) -> None:
        """Count what NetBox does not say and has been filled in."""
        self.report.assumed[what] += 1


def _called(one: Thing) -> str:
    """Return by what a thing is known: its name, or of a device without one its asset tag or serial number."""
    for name in ("name", "asset_tag", "serial"):
        if one.values.get(name):
            return str(one.values[name])
    raise OmitError("has neither a name nor an asset tag nor a serial number")
