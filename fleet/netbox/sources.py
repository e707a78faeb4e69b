"""Things of NetBox from where they are: its REST API, or a folder of what it has exported."""

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from django.utils.text import slugify

from fleet.files import FileError, RowFault, json_objects, table_open, yaml_documents
from fleet.netbox.client import NetBoxClient, NetBoxError
from fleet.netbox.kinds import ALSO_READ, KINDS, NOTHING, SITED, Kind
from fleet.netbox.reports import NetBoxReport, Place

YAML_SUFFIXES = (".yaml", ".yml")
MAP = "map"
"""What a file is called that is no list, but a map beside them."""
REF_PARTS = ("id", "name", "slug", "model", "display")
PORTS = ("power-ports", "interfaces")
"""The fields that hold lists."""
CHOICES = ("status", "face", "phase", "type", "supply")
_WITH_UNIT = re.compile(r"([\d.,]+)\s*(U|%|[A-Za-z]{1,2})")


@dataclass(frozen=True, slots=True, eq=False)
class Thing:
    """One object of NetBox: what of it is carried or used. Another object is a dict with its id, or a name."""

    kind: str
    place: Place
    values: Mapping[str, Any]
    custom: Mapping[str, Any]

    @property
    def name(self) -> str:
        """Name, as people call it."""
        return str(self.values.get("name") or self.values.get("model") or self.values.get("slug") or "")

    @property
    def status(self) -> str:
        """Status; of a list without one, active."""
        return str(self.values.get("status") or "active")


Things = Mapping[str, list[Thing]]


def things_of_client(client: NetBoxClient, site: str, report: NetBoxReport) -> Things:
    """Read all lists over REST, of one site or of all. Raises NetBoxError."""
    found: dict[str, list[Thing]] = {}
    for kind in KINDS.values():
        filters = {"slug": site} if kind.name == "sites" else {"site": site} if kind.name in SITED else {}
        if kind.name == "devices":
            filters["exclude"] = "config_context"
        objects = client.objects(kind.name, **{name: value for name, value in filters.items() if value})
        found[kind.name] = [
            _thing(kind, Place(str(one.get("url") or f"{client.url}#{kind.name}/{number}"), number=number), one, report)
            for number, one in enumerate(objects, 1)
        ]
        if kind.name == "sites" and site and not found["sites"]:
            raise NetBoxError(client.url, f'there is no site "{site}"')
    return found


def things_of_path(path: Path, report: NetBoxReport) -> Things:
    """Read a folder of exported lists, or device types from one YAML file. Raises FileError."""
    found: dict[str, list[Thing]] = {name: [] for name in KINDS}
    origins: dict[str, list[Path]] = defaultdict(list)
    for file in _files(path):
        name = _kind_name(file)
        if name not in ALSO_READ:
            origins[name].append(file)
    if not origins:
        raise FileError(
            str(path), f"holds no list of NetBox: {', '.join(KINDS)}, as .json, .csv, of device types .yaml"
        )
    for name, files in origins.items():
        if len(files) > 1 and any(file.suffix not in YAML_SUFFIXES for file in files):
            raise FileError(str(files[1]), f"{files[0].name} holds {name} too: which one counts?")
        for file in files:
            found[name] += _file_things(KINDS[name], file, report)
    return found


def _files(path: Path) -> Iterator[Path]:
    if not path.is_dir():
        yield path
        return
    for file in sorted(path.rglob("*")):
        is_list = file.parent == path and file.suffix in {".json", ".csv"}
        if (is_list or file.suffix in YAML_SUFFIXES) and file.stem != MAP:
            yield file


def _kind_name(file: Path) -> str:
    """Return the list that a file holds, by its name: `racks.csv`, or as NetBox calls it, `netbox_power feeds.csv`."""
    if file.suffix in YAML_SUFFIXES:
        return "device-types"
    name = re.sub(r"[ _]+", "-", file.stem.lower().removeprefix("netbox_"))
    if name not in KINDS and name not in ALSO_READ:
        raise FileError(str(file), f"the name tells no list of NetBox; there are: {', '.join(KINDS)}")
    return name


def _file_things(kind: Kind, file: Path, report: NetBoxReport) -> list[Thing]:
    rows: Iterable[tuple[int, Any] | RowFault]
    if file.suffix in YAML_SUFFIXES:
        rows = [(line, value) for line, value in yaml_documents(file) if value is not None]
    elif file.suffix == ".json":
        rows = json_objects(file)
    else:
        rows = _table_rows(kind, file)
    things = []
    for number, row in enumerate(rows, 1):
        line, values = (row.line, None) if isinstance(row, RowFault) else row
        place = Place(str(file), line, number, str(number) if file.suffix == ".json" else None)
        if isinstance(values, dict):
            things.append(_thing(kind, place, values, report))
        else:
            column, reason = (row.column, row.reason) if isinstance(row, RowFault) else (None, "an object is expected")
            report.imported.fault_add(place.fault(kind.name, column, reason))
    return things


def _table_rows(kind: Kind, file: Path) -> Iterator[tuple[int, dict[str, Any]] | RowFault]:
    with table_open(file) as table:
        fields = {heading: kind.column_field(heading) for heading in table.columns}
        for row in table:
            if isinstance(row, RowFault):
                yield row
            else:
                yield row[0], _cells_read({fields[heading]: cell for heading, cell in row[1].items()})


def _cells_read(cells: dict[str, Any]) -> dict[str, Any]:
    """Return the cells of an exported row as the API gives them: no labels of choices, no units behind figures."""
    for name, cell in cells.items():
        text = str(cell or "").strip()
        if name in CHOICES:
            cells[name] = slugify(text)
        elif name in {"u_height", "max_utilization", "weight", "max_weight"} and (unit := _WITH_UNIT.fullmatch(text)):
            cells[name] = unit[1]
            if unit[2] not in {"U", "%"}:
                cells = {**cells, "weight_unit": unit[2]}
    return cells


def _thing(kind: Kind, place: Place, found: Mapping[str, Any], report: NetBoxReport) -> Thing:
    """Return what is carried and used of an object; count what is not carried."""
    report.read[kind.name] += 1
    values: dict[str, Any] = {name: found[name] for name in ("id",) if isinstance(found.get(name), str | int)}
    custom: dict[str, Any] = {}
    extra = found.get("custom_fields") or {}
    flat = {**found, **{f"cf_{name}": value for name, value in extra.items()}} if isinstance(extra, dict) else found
    for name, value in flat.items():
        if name == "custom_fields" or value in NOTHING or (value is False and name not in kind.carried):
            continue
        bare = name.removeprefix("cf_")
        is_kept = bare in kind.custom if bare != name else name in (*kind.carried, *kind.used)
        if is_kept and name not in PORTS and _is_nested(value):
            report.imported.fault_add(place.fault(kind.name, name, "a single value is expected"))
        elif bare != name and bare in kind.custom:
            custom[bare] = _plain(value)
        elif bare != name:
            report.not_carried[f"{kind.name}.custom_fields.{bare}"] += 1
        elif name in kind.carried or name in kind.used:
            values[name] = _plain(value)
            if name in kind.used:
                report.not_carried[f"{kind.name}.{name}"] += 1
        elif not kind.is_quiet(name):
            report.not_carried[f"{kind.name}.{name}"] += 1
    return Thing(kind.name, place, values, custom)


def _is_nested(value: Any) -> bool:
    """Whether something is neither a single value, nor a choice of one, nor another object."""
    return isinstance(value, list) or (isinstance(value, dict) and isinstance(value.get("value"), list | dict))


def _plain(value: Any) -> Any:
    """Return a choice as its value, another object as the parts that tell which one, anything else as it is."""
    if not isinstance(value, dict):
        return value
    if "value" in value:
        return value["value"]
    return {name: value[name] for name in REF_PARTS if isinstance(value.get(name), str | int)}
