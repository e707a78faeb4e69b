"""What NetBox does not know of a fleet, written down in a file: chips and power of device types above all."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from fleet.files import FileError, yaml_read
from fleet.netbox.kinds import HOST_FIGURES, PANEL_FIGURES, RACK_FIGURES

_FIGURES: Mapping[str, tuple[str, ...]] = {"rack": RACK_FIGURES, "power_panel": PANEL_FIGURES}


@dataclass(frozen=True)
class Options:
    """The map of an import.

    `region` is the slug of the region of sites without one. `hall_depth` tells which level of locations is a hall: 1,
    those right below the site. `rack` and `power_panel` hold figures of all of which NetBox says nothing,
    `device_types` those of device types by NetBox's slug.
    """

    region: str = ""
    hall_depth: int = 1
    rack: Mapping[str, Any] = field(default_factory=dict)
    power_panel: Mapping[str, Any] = field(default_factory=dict)
    device_types: Mapping[str, Mapping[str, Any]] = field(default_factory=dict)


def options_read(path: Path) -> Options:
    """Read a map: JSON, or the same as YAML. Raises FileError with what is wrong."""
    found = yaml_read(path)
    if not isinstance(found, dict):
        raise FileError(str(path), "a map is an object")
    _names_check(path, "", found, ("region", "hall_depth", *_FIGURES, "device_types"))
    for name, figures in _FIGURES.items():
        _figures_check(path, name, found.get(name, {}), figures)
    types = found.get("device_types", {})
    if not isinstance(types, dict):
        raise FileError(str(path), "an object is needed", column="device_types")
    for slug, figures in types.items():
        _figures_check(path, f"device_types.{slug}", figures, HOST_FIGURES)
    if not isinstance(found.get("region", ""), str):
        raise FileError(str(path), "the slug of a region is needed", column="region")
    depth = found.get("hall_depth", 1)
    if not isinstance(depth, int) or isinstance(depth, bool) or depth < 1:
        raise FileError(str(path), "a whole number from 1 on is needed", column="hall_depth")
    return Options(**found)


def _figures_check(path: Path, name: str, figures: Any, known: tuple[str, ...]) -> None:
    if not isinstance(figures, dict):
        raise FileError(str(path), "an object is needed", column=name)
    _names_check(path, f"{name}.", figures, known)
    for key, value in figures.items():
        if isinstance(value, (dict, list)):
            raise FileError(str(path), "one value is needed", column=f"{name}.{key}")


def _names_check(path: Path, prefix: str, found: Mapping[str, Any], known: tuple[str, ...]) -> None:
    for name in found:
        if name not in known:
            close = get_close_matches(name, known, n=1, cutoff=0.5)
            hint = f'did you mean "{close[0]}"?' if close else f"there are: {', '.join(known)}"
            raise FileError(str(path), f"there is no such figure; {hint}", column=f"{prefix}{name}")
