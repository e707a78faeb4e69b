"""Chips: what each type can compute, hold, move, draw and cost. A *chip* is a type; one installed piece is a card."""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from types import MappingProxyType

from accelerator.errors import DataFileError, UnknownChipError
from accelerator.facts import Figure, aliases_load, facts_by_item, figure_parse
from accelerator.units import PRECISION_BYTE

__all__ = ["ChipSpec", "Figure", "chip_get", "chips_load"]


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
    peak_flop_s : Mapping of str to Figure
        Dense peak by precision (bf16, fp8, int8, fp4). [flop/s] A precision that is absent cannot be used.
    memory_byte : Figure
        Memory that an engine can use. [byte]
    memory_byte_s : Figure
        Peak memory bandwidth. [byte/s]
    scale_up_byte_s : Figure
        Link bandwidth inside the scale-up domain, per direction. [byte/s]
    scale_up_chips : int
        Chips of one scale-up domain.
    tdp_w, idle_w : Figure
        Thermal design power; power with weights loaded and no work. [W]
    price_usd : Figure or None
        Estimated price of one chip; None if nobody has published one. [USD]
    host_chips : int
        Chips of the usual host.
    """

    slug: str
    vendor: str
    name: str
    homegrown: bool
    peak_flop_s: Mapping[str, Figure]
    memory_byte: Figure
    memory_byte_s: Figure
    scale_up_byte_s: Figure
    scale_up_chips: int
    tdp_w: Figure
    idle_w: Figure
    price_usd: Figure | None
    host_chips: int

    def figures(self) -> dict[str, Figure]:
        """Return every figure by name, ``peak_flop_s[bf16]`` and so on: for tables and digests."""
        named = {f"peak_flop_s[{precision}]": figure for precision, figure in self.peak_flop_s.items()}
        for name in ("memory_byte", "memory_byte_s", "scale_up_byte_s", "tdp_w", "idle_w", "price_usd"):
            figure = getattr(self, name)
            if figure is not None:
                named[name] = figure
        return named


@cache
def chips_load() -> Mapping[str, ChipSpec]:
    """Return every chip of data/chips.csv by slug."""
    return MappingProxyType({slug: _chip_parse(slug, rows) for slug, rows in facts_by_item("chips.csv").items()})


def chip_get(name: str) -> ChipSpec:
    """Return a chip by slug or alias.

    Parameters
    ----------
    name : str
        Slug or alias, in any case: ``h20-96``, ``H20-96G``.

    Raises
    ------
    UnknownChipError
        With the closest names, or the reason why a known chip is not held.
    """
    chips = chips_load()
    if name.lower() in chips:
        return chips[name.lower()]
    slug, note = aliases_load().get(name.lower(), ("", ""))
    if slug in chips:
        return chips[slug]
    raise UnknownChipError(name, chips, reason="" if slug else note)


def _chip_parse(slug: str, rows: Mapping[str, dict[str, str]]) -> ChipSpec:
    def figure(quantity: str) -> Figure:
        if quantity not in rows:
            raise DataFileError(f"accelerator/data/chips.csv: {slug} has no {quantity}")
        return figure_parse(rows[quantity])

    return ChipSpec(
        slug=slug,
        vendor=rows["vendor"]["value"],
        name=rows["name"]["value"],
        homegrown=rows["homegrown"]["value"] == "1",
        peak_flop_s=MappingProxyType({p: figure(f"peak_{p}") for p in PRECISION_BYTE if f"peak_{p}" in rows}),
        memory_byte=figure("memory"),
        memory_byte_s=figure("memory_bandwidth"),
        scale_up_byte_s=figure("scale_up_per_direction"),
        scale_up_chips=int(figure("scale_up_chips").value),
        tdp_w=figure("tdp"),
        idle_w=figure("idle"),
        price_usd=figure("price") if "price" in rows else None,
        host_chips=int(figure("host_chips").value),
    )
