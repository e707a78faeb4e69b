"""The fleet as NetBox's bulk import reads it: csv files, device types as YAML; and what of it NetBox cannot hold."""

import math
from collections import Counter, defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import orjson
import yaml
from django.utils.text import slugify

from accelerator import chip_get
from fleet.exchange import Scope, entry_rows
from fleet.exchange.columns import columns_of
from fleet.files import Row, csv_write
from fleet.inventory import INVENTORY
from fleet.models import PowerNode
from fleet.netbox.kinds import HOST_FIGURES, KINDS
from fleet.reading import one_view

HELD: Mapping[str, tuple[str, ...]] = {
    "regions": ("slug", "name"),
    "sites": ("slug", "name", "region"),
    "halls": ("site", "slug", "name"),
    "rows": ("hall", "slug"),
    "racks": ("slug", "row", "height_u", "weight_limit_kg"),
    "host-types": ("slug", "name", "height_u", "full_depth", "weight_kg", "ports"),
    "hosts": ("slug", "host_type", "rack", "position_u", "face"),
    "power-panels": ("slug", "site"),
    "power-feeds": ("slug", "site", "kind", "rack", "voltage_v", "current_a", "phases", "derate_ratio"),
}
"""Columns of ours for which NetBox has a place, by entry, of power nodes by list; others need custom fields."""
LISTS: Mapping[str, str] = {
    "regions": "regions",
    "sites": "sites",
    "halls": "locations",
    "rows": "locations",
    "racks": "racks",
    "host-types": "device-types",
    "hosts": "devices",
}
"""Which list of NetBox holds an entry; power nodes are in two."""
WEIGHT = ("max_weight", "weight_unit")
DEVICE = ("name", "role", "manufacturer", "device_type", "status")
FEED = ("site", "power_panel", "location", "rack", "name", "status", "type", "supply")
RATING = ("phase", "voltage", "amperage", "max_utilization")
ROLE: Row = {"name": "Inference host", "slug": "inference-host", "color": "2196f3", "vm_role": False}
PANEL = PowerNode.Kind.PDU
"""What an import takes a panel for."""
VOLTS, RACK_UNITS = 230, 100
"""Voltage of a feed of which only the rating is known [V], and the highest rack of NetBox [U]."""


@dataclass(slots=True)
class NetBoxExport:
    """What an export has written, by file, and what of the fleet NetBox cannot hold, by entry and column."""

    folder: str
    written: Counter[str] = field(default_factory=Counter)
    not_held: Counter[str] = field(default_factory=Counter)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return {"folder": self.folder, "written": dict(self.written), "not_held": dict(sorted(self.not_held.items()))}


def netbox_export(folder: Path, *, site: str = "", on: date, custom_fields: bool = False) -> NetBoxExport:
    """Write the fleet of a day, or of one site, to a new folder; it is there when all of it is.

    Parameters
    ----------
    on : date
        What is gone by then is left out; what comes later is planned.
    custom_fields : bool
        Also write what NetBox holds only where it has custom fields called so: `cf_power_limit_w`.

    Raises
    ------
    FileExistsError
        The folder is there, and not empty.
    """
    if folder.exists() and any(folder.iterdir()):
        raise FileExistsError(f"{folder} is not empty")
    folder.parent.mkdir(parents=True, exist_ok=True)
    report = NetBoxExport(str(folder))
    with TemporaryDirectory(prefix=f".{folder.name}-", dir=folder.parent) as part, one_view():
        whole = Path(part) / "whole"
        whole.mkdir()
        _Export(report, whole, scope=Scope(site=site), on=on, custom=custom_fields).write()
        whole.replace(folder)
    return report


class _Export:
    """One export on its way."""

    def __init__(self, report: NetBoxExport, folder: Path, *, scope: Scope, on: date, custom: bool) -> None:
        self.report, self.folder, self.scope, self.on, self.custom = report, folder, scope, on, custom
        self.places: dict[str, Row] = {}
        """What racks, devices and feeds say of their place, by our key."""

    def write(self) -> None:
        """Write the files, those first that others refer to."""
        self._regions_and_sites()
        self._locations()
        self._table("racks", ["site", "location", "name", "status", "width", "u_height", *WEIGHT], self._racks())
        self._device_types()
        self._table("devices", [*DEVICE, "site", "location", "rack", "position", "face"], self._devices())
        self._power()
        for name, entry in INVENTORY.items():
            if name not in LISTS and name not in {"power-nodes", "power-links"}:
                self._not_held(name, self.scope.rows(entry).count())

    # --- rows of ours, and files of NetBox ----------------------------------------------------------------------------
    def _rows(self, name: str) -> Iterator[Row]:
        """Yield the rows of an entry that are there or will be; count what of them NetBox does not hold."""
        for row in entry_rows(INVENTORY[name], scope=self.scope):
            if (
                _is_past(row["out_of_service_on"], self.on) and name != "host-types"
            ):  # a type that ends is built no more
                self._not_held(f"{name}: gone by {self.on}")
                continue
            if name in LISTS:
                self._columns_count(name, LISTS[name], row)
            yield row

    def _columns_count(self, name: str, kind: str, row: Row) -> None:
        """Count what a list of NetBox does not hold of a row."""
        held = HELD.get(name) or HELD[kind]
        for one, column in columns_of(INVENTORY[name]).items():
            is_custom = self.custom and one in KINDS[kind].custom
            if one not in held and not is_custom and row[one] not in (None, "", column.field.get_default()):
                self._not_held(f"{name}.{one}")

    def _not_held(self, what: str, count: int = 1) -> None:
        if count:
            self.report.not_held[what] += count

    def _table(self, name: str, columns: Sequence[str], rows: Iterable[Row]) -> None:
        """Write a list of NetBox; `_rows` have their custom fields with them."""
        if self.custom and name in KINDS:
            columns = [*columns, *(f"cf_{one}" for one in KINDS[name].custom)]

        def counted() -> Iterator[Row]:
            for row in rows:
                self.report.written[f"{name}.csv"] += 1
                yield row

        with (self.folder / f"{name}.csv").open("wb") as file:
            file.writelines(csv_write(columns, counted()))

    def _custom(self, name: str, row: Row) -> Row:
        """Return the custom fields of a list that a row of ours fills."""
        return {f"cf_{one}": row[one] for one in KINDS[name].custom if one in row} if self.custom else {}

    def _status(self, row: Row) -> str:
        begins = row["in_service_on"]
        return "active" if begins is None or _is_past(begins, self.on) else "planned"

    # --- places -------------------------------------------------------------------------------------------------------
    def _regions_and_sites(self) -> None:
        regions = _named(list(self._rows("regions")))
        self._table("regions", ["name", "slug"], ({"name": name, "slug": slug} for slug, name in regions.items()))
        self.places |= {f"region {slug}": {"region": name} for slug, name in regions.items()}
        rows = [row for row in self._rows("sites") if self._is_placed("sites", f"region {row['region']}")]
        names = _named(rows)
        self.places |= {slug: {"site": name} for slug, name in names.items()}

        def sites() -> Iterator[Row]:
            for row in rows:
                place = {"name": names[str(row["slug"])], "slug": row["slug"]}
                yield {
                    **place,
                    **self.places[f"region {row['region']}"],
                    "status": self._status(row),
                    **self._custom("sites", row),
                }

        self._table("sites", ["name", "slug", "status", "region"], sites())

    def _locations(self) -> None:
        """Write halls as locations and rows as those within; a row has its hall in its name, which is unique so."""
        halls = [row for row in self._rows("halls") if self._is_placed("halls", row["site"])]
        by_site: dict[str, list[Row]] = defaultdict(list)
        for row in halls:
            by_site[str(row["site"])].append(row)
        names = {f"{site}/{slug}": name for site, rows in by_site.items() for slug, name in _named(rows).items()}

        def locations() -> Iterator[Row]:
            for row in halls:
                key = f"{row['site']}/{row['slug']}"
                self.places[key] = {**self.places[str(row["site"])], "location": names[key]}
                yield {**self._location(row, names[key], ""), **self.places[str(row["site"])]}
            for row in self._rows("rows"):
                if self._is_placed("rows", row["hall"]):
                    hall = self.places[str(row["hall"])]
                    name = f"{str(row['hall']).split('/')[1]}/{row['slug']}"
                    self.places[f"{row['hall']}/{row['slug']}"] = {**hall, "location": name}
                    yield {**self._location(row, name, str(hall["location"])), "site": hall["site"]}

        self._table("locations", ["site", "parent", "name", "slug", "status"], locations())

    def _location(self, row: Row, name: str, parent: str) -> Row:
        found: Row = {"parent": parent, "name": name, "slug": row["slug"], "status": self._status(row)}
        return {**found, **self._custom("locations", row)}

    def _is_placed(self, name: str, place: Any) -> bool:
        """Whether what a row lies in is written; else it goes with it."""
        if str(place) in self.places:
            return True
        self._not_held(f"{name}: in what is gone by {self.on}")
        return False

    def _racks(self) -> Iterator[Row]:
        for row in self._rows("racks"):
            if not self._is_placed("racks", row["row"]):
                continue
            place = self.places[str(row["row"])]
            self.places[f"rack {row['slug']}"] = {**place, "rack": row["slug"]}
            height, weight = int(str(row["height_u"])), row["weight_limit_kg"]
            self._not_held("racks.height_u: above 100", height > RACK_UNITS)
            self._not_held("racks.weight_limit_kg: in whole kilograms", weight is not None and not _is_whole(weight))
            yield {
                **place,
                "name": row["slug"],
                "status": self._status(row),
                "width": 19,
                "u_height": min(height, RACK_UNITS),
                "max_weight": None if weight is None else int(_number(weight)),
                "weight_unit": None if weight is None else "kg",
                **self._custom("racks", row),
            }

    # --- hosts --------------------------------------------------------------------------------------------------------
    def _device_types(self) -> None:
        """Write a YAML document for each host type, their makers, and a map for the way back."""
        rows = list(self._rows("host-types"))
        makers = {str(row["slug"]): chip_get(str(row["chip"])).vendor for row in rows}
        names: dict[str, str] = {}
        for maker in set(makers.values()):
            names |= _named([row for row in rows if makers[str(row["slug"])] == maker])
        figures = {
            str(row["slug"]): {one: row[one] for one in HOST_FIGURES if row[one] not in (None, "")} for row in rows
        }
        for row in rows:
            slug = str(row["slug"])
            self.places[f"type {slug}"] = {"manufacturer": makers[slug], "device_type": names[slug]}
            path = self.folder / "device-types" / slugify(makers[slug]) / f"{slug}.yaml"
            path.parent.mkdir(parents=True, exist_ok=True)
            document = _device_type(row, makers[slug], names[slug], figures[slug])
            document |= {
                name: _plain(value)
                for name, value in self._custom("device-types", row).items()
                if value not in (None, "")
            }
            path.write_text(yaml.safe_dump(document, sort_keys=False, allow_unicode=True), encoding="utf-8")
            self.report.written["device-types"] += 1
        found = {"device_types": {slug: _plains(some) for slug, some in figures.items()}}
        (self.folder / "map.json").write_bytes(orjson.dumps(found, option=orjson.OPT_INDENT_2))
        self._table(
            "manufacturers",
            ["name", "slug"],
            ({"name": one, "slug": slugify(one)} for one in sorted({*makers.values()})),
        )
        self._table("device-roles", list(ROLE), [ROLE])

    def _devices(self) -> Iterator[Row]:
        for row in self._rows("hosts"):
            if self._is_placed("hosts", f"rack {row['rack']}") and self._is_placed("hosts", f"type {row['host_type']}"):
                found = {"name": row["slug"], "role": ROLE["name"], "status": self._status(row)}
                found |= {"position": row["position_u"], "face": row["face"], **self._custom("devices", row)}
                yield {**self.places[f"rack {row['rack']}"], **self.places[f"type {row['host_type']}"], **found}

    # --- power --------------------------------------------------------------------------------------------------------
    def _power(self) -> None:
        """Write each feed with its first primary source as its panel; NetBox has no other nodes, and no other links."""
        panel_of: dict[str, str] = {}
        links = sorted(entry_rows(INVENTORY["power-links"], scope=self.scope), key=lambda row: bool(row["standby"]))
        rows = (row for row in self._rows("power-nodes") if self._is_placed("power-nodes", row["site"]))
        nodes = {str(row["slug"]): row for row in rows}
        for link in links:
            node, source = str(link["node"]), str(link["source"])
            is_feed = node in nodes and source in nodes and nodes[node]["kind"] == "feed"
            if is_feed and node not in panel_of and not link["standby"]:
                panel_of[node] = source
            else:
                self._not_held("power-links")
        panels = {slug: nodes[slug] for slug in sorted({*panel_of.values()})}
        others = (slug for slug, row in nodes.items() if slug not in panels and slug not in panel_of)
        for kind, count in Counter(str(nodes[slug]["kind"]) for slug in others).items():
            self._not_held(f"power-nodes: {kind}", count)
        self._table("power-panels", ["site", "name"], (self._panel(row) for row in panels.values()))
        feeds = (nodes[slug] for slug in nodes if slug in panel_of)
        self._table("power-feeds", [*FEED, *RATING], self._feeds(feeds, panel_of))

    def _panel(self, row: Row) -> Row:
        given = {**row, "rating_va": _rated(row), "voltage_v": None, "current_a": None}
        self._columns_count(
            "power-nodes", "power-panels", {**given, "kind": None if row["kind"] == PANEL else row["kind"]}
        )
        return {**self.places[str(row["site"])], "name": row["slug"], **self._custom("power-panels", given)}

    def _feeds(self, rows: Iterable[Row], panel_of: Mapping[str, str]) -> Iterator[Row]:
        seen: set[Any] = set()
        for row in rows:
            if not self._is_placed("power-nodes", f"rack {row['rack']}"):
                continue
            self._columns_count("power-nodes", "power-feeds", row)
            place = self.places[f"rack {row['rack']}"]
            found = {"name": row["slug"], "power_panel": panel_of[str(row["slug"])], "status": self._status(row)}
            found |= {"type": "redundant" if row["rack"] in seen else "primary", "supply": "ac", **self._rating(row)}
            seen.add(row["rack"])
            yield {**place, **found, **self._custom("power-feeds", row)}

    def _rating(self, row: Row) -> Row:
        """Return what a feed gives in NetBox's whole volts, amperes and percents."""
        phases, share = int(str(row["phases"])), _number(row["derate_ratio"]) * 100
        volts, amperes = (_number(row[one]) if row[one] is not None else 0.0 for one in ("voltage_v", "current_a"))
        if row["rating_va"] is not None:
            volts, amperes = VOLTS, _number(row["rating_va"]) / VOLTS / math.sqrt(phases)
        for name, value in (("voltage_v", volts), ("current_a", amperes), ("derate_ratio", share)):
            self._not_held(f"power-nodes.{name}: in whole units", not _is_whole(value))
        return {
            "phase": "three-phase" if phases == 3 else "single-phase",
            "voltage": round(volts),
            "amperage": max(1, int(amperes)),
            "max_utilization": max(1, int(share + 1e-9)),
        }


def _device_type(row: Row, maker: str, name: str, figures: Mapping[str, Any]) -> dict[str, Any]:
    """Return a host type as the community's library writes one; what it does not know is told in its comments."""
    document: dict[str, Any] = {
        "manufacturer": maker,
        "model": name,
        "slug": row["slug"],
        "u_height": row["height_u"],
        "is_full_depth": row["full_depth"],
    }
    if row["weight_kg"]:
        document |= {"weight": row["weight_kg"], "weight_unit": "kg"}
    document["comments"] = "\n".join(f"{one}: {value}" for one, value in figures.items())
    port: dict[str, Any] = {"name": "PSU"}
    for draw, value in (("maximum_draw", row["nameplate_w"]), ("allocated_draw", row["power_w"])):
        if value is not None:
            port[draw] = math.ceil(_number(value))
    document["power-ports"] = [port]
    if ports := int(str(row["ports"])):
        document["interfaces"] = [{"name": f"port{number}", "type": "other"} for number in range(1, ports + 1)]
    return document


def _named(rows: Sequence[Row]) -> dict[str, str]:
    """Return the names of rows by slug; where several have one, their slugs tell them apart."""
    counts = Counter(row["name"] for row in rows)
    return {
        str(row["slug"]): str(row["name"]) if counts[row["name"]] == 1 else f"{row['name']} ({row['slug']})"
        for row in rows
    }


def _is_past(day: Any, on: date) -> bool:
    return isinstance(day, date) and day <= on


def _number(value: Any) -> float:
    return float(value)


def _is_whole(value: Any) -> bool:
    return math.isclose(float(value), round(float(value)), abs_tol=1e-6)


def _rated(row: Row) -> float:
    """Return the nameplate of a power node. [VA]"""
    if row["rating_va"] is not None:
        return _number(row["rating_va"])
    return math.sqrt(_number(row["phases"])) * _number(row["voltage_v"]) * _number(row["current_a"])


def _plain(value: Any) -> Any:
    return str(value) if isinstance(value, date | Decimal) else value


def _plains(values: Mapping[str, Any]) -> dict[str, Any]:
    return {name: _plain(value) for name, value in values.items()}
