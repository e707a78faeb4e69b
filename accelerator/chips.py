"""Chips: what each type can compute, hold, move, draw and cost. A *chip* is a type; one installed piece is a card.

A figure that nobody has published is absent, never guessed: asking for it raises an error that names it. A chip that
is another in a new form (capped, in a rack-scale system, with other memory) is a few rows of data with a
``derived_from``; a user's own chips come from a file of the same form.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cache
from pathlib import Path
from types import MappingProxyType

from accelerator.errors import DataFileError, MissingFigureError, UnknownChipError
from accelerator.facts import (
    Figure,
    Row,
    aliases_load,
    facts_by_item,
    facts_by_item_of,
    figure_parse,
    row_error,
)
from accelerator.units import PRECISION_BYTE

__all__ = ["ChipSpec", "Figure", "chip_get", "chips_load", "chips_read"]

_FIGURES: Mapping[str, tuple[str, str]] = MappingProxyType({
    "memory": ("memory_byte", "byte"),
    "memory_bandwidth": ("memory_byte_s", "byte/s"),
    "scale_up_per_direction": ("scale_up_byte_s", "byte/s"),
    "scale_out_per_direction": ("scale_out_byte_s", "byte/s"),
    "pcie_per_direction": ("pcie_byte_s", "byte/s"),
    "tdp": ("tdp_w", "W"),
    "idle": ("idle_w", "W"),
    "system_power": ("system_w", "W"),
    "price": ("price_usd", "USD"),
    "cores": ("cores", "count"),
    "cache": ("cache_byte", "byte"),
})  # fmt: skip
"""Quantity in a file: name of the figure, and its base unit."""

_QUANTITIES = {name: quantity for quantity, (name, _) in _FIGURES.items()}
_PEAKS: Mapping[str, str] = MappingProxyType({f"peak_{precision}": precision for precision in PRECISION_BYTE})
_COUNTS = ("scale_up_chips", "host_chips")
_TEXTS = ("vendor", "name", "homegrown", "architecture", "link_kind", "derived_from")

UNKNOWN = "unknown"
"""As a value: nobody has said, and a derived chip does not take it from its base."""


@dataclass(frozen=True, eq=False)
class ChipSpec:
    """One type of accelerator, in base units.

    Two specs are equal only if they are the same object: the loaded ones are cached, and a varied copy is another chip.

    Parameters
    ----------
    slug, vendor, name : str
        Our name, the maker, and the maker's name.
    homegrown : bool
        True if it counts as homegrown for an operator in China.
    architecture : str
        Group whose kernels behave alike, so that measurements of one chip say something about another.
    link_kind : str
        What carries the scale-up domain: nvswitch, nvlink-pair, pcie, hccs, infinity-fabric ...; none, or unknown.
    derived_from : str
        Slug of the chip whose figures it takes where it states none; empty for a chip of its own.
    scale_up_chips : int
        Chips of one scale-up domain, at least 1; the chips of a host if nobody has said.
    host_chips : int
        Chips of the usual host; 1 if nobody has said.
    peak_flop_s : Mapping of str to Figure
        Dense peak by precision (bf16, fp8, int8, fp4). [flop/s] A precision that is absent cannot be used, or its rate
        is unknown.
    given : Mapping of str to Figure
        Every other figure that is known, by the name of its property.
    """

    slug: str
    vendor: str
    name: str
    homegrown: bool
    architecture: str
    link_kind: str
    derived_from: str
    scale_up_chips: int
    host_chips: int
    peak_flop_s: Mapping[str, Figure]
    given: Mapping[str, Figure]

    @property
    def memory_byte(self) -> Figure:
        """Memory that an engine can use. [byte]"""
        return self._needed("memory_byte")

    @property
    def memory_byte_s(self) -> Figure:
        """Peak memory bandwidth. [byte/s]"""
        return self._needed("memory_byte_s")

    @property
    def scale_up_byte_s(self) -> Figure:
        """Link bandwidth inside the scale-up domain, per direction. [byte/s]"""
        return self._needed("scale_up_byte_s")

    @property
    def scale_out_byte_s(self) -> Figure:
        """Share of the host's network cards, per chip and direction. [byte/s]"""
        return self._needed("scale_out_byte_s")

    @property
    def tdp_w(self) -> Figure:
        """Thermal design power. [W]"""
        return self._needed("tdp_w")

    @property
    def idle_w(self) -> Figure:
        """Power with weights loaded and no work. [W]"""
        return self._needed("idle_w")

    @property
    def pcie_byte_s(self) -> Figure | None:
        """Bandwidth to the host, per direction; between chips of a host where no link joins them. [byte/s]"""
        return self.given.get("pcie_byte_s")

    @property
    def system_w(self) -> Figure | None:
        """Share of one chip in the power of its rack-scale system: hosts and switches in it, no facility. [W]"""
        return self.given.get("system_w")

    @property
    def price_usd(self) -> Figure | None:
        """Estimated price of one chip; None if nobody has published one. [USD]"""
        return self.given.get("price_usd")

    @property
    def cores(self) -> Figure | None:
        """Units that a kernel is spread over: SMs, compute units, Xe cores, AI cores, tensor cores. [-]"""
        return self.given.get("cores")

    @property
    def cache_byte(self) -> Figure | None:
        """Last-level cache or scratchpad on the chip. [byte]"""
        return self.given.get("cache_byte")

    def _needed(self, name: str) -> Figure:
        try:
            return self.given[name]
        except KeyError:
            raise MissingFigureError(self.slug, name, _QUANTITIES.get(name, name)) from None

    def figures(self) -> dict[str, Figure]:
        """Return every figure by name, ``peak_flop_s[bf16]`` and so on: for tables and digests."""
        return {f"peak_flop_s[{precision}]": figure for precision, figure in self.peak_flop_s.items()} | dict(
            self.given
        )

    def varied(self, name: str, value: float) -> "ChipSpec":
        """Return a copy with one figure at another central value.

        Inside its range the figure keeps the range; outside of it the figure is exact, since the range was of
        another value.

        Parameters
        ----------
        name : str
            As in :meth:`figures`: ``memory_byte_s``, ``peak_flop_s[bf16]``.
        value : float
            In the unit of the figure.

        Raises
        ------
        MissingFigureError
            If the chip has no such figure.
        """
        figures = self.figures()
        if name not in figures:
            raise MissingFigureError(self.slug, name, _QUANTITIES.get(name, name))
        old = figures[name]
        low, high = (old.low, old.high) if old.low <= value <= old.high else (value, value)
        figure = replace(old, value=value, low=low, high=high)
        if name in self.given:
            return replace(self, given=MappingProxyType({**self.given, name: figure}))
        precision = name.removeprefix("peak_flop_s[").removesuffix("]")
        return replace(self, peak_flop_s=MappingProxyType({**self.peak_flop_s, precision: figure}))


@cache
def chips_load() -> Mapping[str, ChipSpec]:
    """Return every chip of data/chips.csv by slug."""
    return _chips_parse(facts_by_item("chips.csv"))


def chips_read(path: str | Path) -> Mapping[str, ChipSpec]:
    """Return every chip of data/chips.csv and of a user's file, by slug.

    Parameters
    ----------
    path : str or pathlib.Path
        CSV with the columns of data/chips.csv, at most 1 MB. A row for a chip that we hold replaces or adds that
        figure; another chip states its own, or takes those of the chip that its ``derived_from`` names.

    Raises
    ------
    DataFileError
        With file, line, column and reason.
    """
    items = facts_by_item("chips.csv")
    for slug, rows in facts_by_item_of(path).items():
        if not re.fullmatch(r"[a-z0-9][a-z0-9._-]*", slug):  # a name is looked up in lower case
            raise row_error(next(iter(rows.values())), "item", f'"{slug}": lower-case letters, digits, dots and dashes')
        items[slug] = items.get(slug, {}) | rows
    return _chips_parse(items)


def chip_get(name: str, chips: Mapping[str, ChipSpec] | None = None) -> ChipSpec:
    """Return a chip by slug or alias.

    Parameters
    ----------
    name : str
        Slug or alias, in any case: ``h20-96``, ``H20-96G``.
    chips : Mapping of str to ChipSpec, optional
        Where to look, from :func:`chips_read`; if left out, the chips of data/chips.csv.

    Raises
    ------
    UnknownChipError
        With the closest names, or the reason why a known chip is not held.
    """
    chips = chips_load() if chips is None else chips
    if name.lower() in chips:
        return chips[name.lower()]
    slug, note = aliases_load().get(name.lower(), ("", ""))
    if slug in chips:
        return chips[slug]
    raise UnknownChipError(name, chips, reason="" if slug else note)


Rows = Mapping[str, Row]


def _chips_parse(items: Mapping[str, Rows]) -> Mapping[str, ChipSpec]:
    return MappingProxyType({slug: _chip_parse(slug, _inherited(slug, items), rows) for slug, rows in items.items()})


def _inherited(slug: str, items: Mapping[str, Rows], below: tuple[str, ...] = ()) -> dict[str, Row]:
    """Return the rows of a chip over those of the chip it is derived from."""
    rows = items[slug]
    if "derived_from" not in rows:
        return dict(rows)
    row = rows["derived_from"]
    base = row["value"]
    if base not in items:
        raise row_error(row, "value", f'{slug} is derived from "{base}", which is no chip here')
    if base in (*below, slug):
        raise row_error(row, "value", f"{slug} is derived from itself")
    return {**_inherited(base, items, (*below, slug)), **rows}


def _chip_parse(slug: str, rows: Rows, own: Rows) -> ChipSpec:
    peaks: dict[str, Figure] = {}
    given: dict[str, Figure] = {}
    for quantity, row in rows.items():
        if quantity in _PEAKS:
            name, unit = _PEAKS[quantity], "flop/s"
        elif quantity in _FIGURES:
            name, unit = _FIGURES[quantity]
        elif quantity in (*_COUNTS, *_TEXTS):
            continue
        else:
            known = ", ".join((*_PEAKS, *_FIGURES, *_COUNTS, *_TEXTS))
            raise row_error(row, "quantity", f'unknown quantity "{quantity}"; known are {known}')
        if row["value"] == UNKNOWN:
            continue
        figure = figure_parse(row)
        if figure.unit != unit:
            raise row_error(row, "unit", f"{quantity} is in {unit}, not in {row['unit']}")
        (peaks if unit == "flop/s" else given)[name] = figure
    host_chips = _count(rows, "host_chips", 1)
    return ChipSpec(
        slug=slug,
        vendor=_text(rows, "vendor", ""),
        name=_text(rows, "name", slug),
        homegrown=_homegrown(slug, rows),
        architecture=_text(rows, "architecture", slug),
        link_kind=_text(rows, "link_kind", UNKNOWN),
        derived_from=_text(own, "derived_from", ""),
        scale_up_chips=_count(rows, "scale_up_chips", host_chips),
        host_chips=host_chips,
        peak_flop_s=MappingProxyType({p: peaks[p] for p in PRECISION_BYTE if p in peaks}),
        given=MappingProxyType({name: given[name] for name, _ in _FIGURES.values() if name in given}),
    )


def _text(rows: Rows, quantity: str, default: str) -> str:
    return rows[quantity]["value"] if quantity in rows else default


def _homegrown(slug: str, rows: Rows) -> bool:
    if "homegrown" not in rows:  # the one thing without which a plan cannot tell the two sides apart
        place = next(iter(rows.values()))["place"]
        raise DataFileError(f"{place}: {slug} has no row homegrown (1 or 0) and no derived_from")
    row = rows["homegrown"]
    if row["value"] not in ("0", "1"):
        raise row_error(row, "value", f'homegrown is 1 or 0, not "{row["value"]}"')
    return row["value"] == "1"


def _count(rows: Rows, quantity: str, default: int) -> int:
    if quantity not in rows or rows[quantity]["value"] == UNKNOWN:
        return default
    row = rows[quantity]
    figure = figure_parse(row)
    if figure.unit != "count":
        raise row_error(row, "unit", f"{quantity} is a count")
    if figure.value < 1 or figure.value % 1:
        raise row_error(row, "value", f"{quantity} is a whole number from 1 up")
    return int(figure.value)
