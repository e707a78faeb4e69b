"""NetBox into the fleet: all of it is read, translated into tables, and imported as any other table is."""

import json
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import date
from decimal import Decimal
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from fleet.exchange import ImportReport, parts_import
from fleet.exchange.bundles import Part
from fleet.exchange.judging import Mode
from fleet.exchange.lookups import rows_find
from fleet.files import FileError
from fleet.inventory import INVENTORY, Entry
from fleet.netbox.client import NetBoxClient
from fleet.netbox.finding import things_at
from fleet.netbox.hosts import Hosts
from fleet.netbox.options import Options
from fleet.netbox.places import Places
from fleet.netbox.power import Power
from fleet.netbox.readings import Kept, Reading, Table
from fleet.netbox.reports import NetBoxReport
from fleet.netbox.sources import things_of_client, things_of_path

STANDING_ROWS = 2_000  # looked up at once
_LINE = re.compile(r"\b[Ll]ine (\d+)\b")
COLUMNS: Mapping[str, str] = {
    "position_u": "position",
    "height_u": "u_height",
    "full_depth": "is_full_depth",
    "host_type": "device_type",
    "voltage_v": "voltage",
    "current_a": "amperage",
    "derate_ratio": "max_utilization",
    "phases": "phase",
    "weight_kg": "weight",
    "weight_limit_kg": "max_weight",
    "source": "power_panel",
    "hall": "location",
}
"""How NetBox calls our columns, where it does not call them the same."""


def netbox_import(
    source: NetBoxClient | Path,
    *,
    site: str = "",
    options: Options | None = None,
    on: date,
    dry_run: bool = False,
    mode: Mode = "upsert",
) -> NetBoxReport:
    """Import a fleet from NetBox's REST API, or from a folder of what it exported; all of it or nothing.

    Parameters
    ----------
    site : str
        Slug of the only site that is wanted; all if empty.
    options : Options, optional
        What NetBox does not know.
    on : date
        Day of the reading: what is retired there, and stands here, is out of service from then on.

    Raises
    ------
    NetBoxError, FileError
        What was asked for is not there, or not NetBox's; nothing was written.
    """
    name = source.url if isinstance(source, NetBoxClient) else str(source)
    report = NetBoxReport(ImportReport(name, dry_run))
    if isinstance(source, NetBoxClient):
        things = things_of_client(source, site, report)
    else:
        things = things_of_path(source, report)
        if site:
            things = things_at(things, site)
            if not things["sites"]:
                raise FileError(name, f'there is no site "{site}"')
    tables = _translated(Reading(things, options or Options(), report, on))
    if report.imported.sound:
        _tables_import(tables, report, mode)
    return report


def _translated(reading: Reading) -> Mapping[str, Table]:
    """Turn things into tables of ours; what is wrong, left out or assumed goes to the report."""
    power = Power(reading)
    Places(reading).translate(power.ratings_read())
    power.translate()
    Hosts(reading).translate()
    return reading.tables


def _tables_import(tables: Mapping[str, Table], report: NetBoxReport, mode: Mode) -> None:
    with TemporaryDirectory(prefix="netbox-") as folder:
        parts = []
        for entry in INVENTORY.values():
            if tables.get(entry.name):
                path = Path(folder) / f"{entry.name}.jsonl"
                _table_write(entry, tables[entry.name], path)
                parts.append(Part(entry, path, path.name))
        parts_import(parts, report.imported, mode=mode)
    _places_tell(tables, report.imported)


def _table_write(entry: Entry, table: Table, path: Path) -> None:
    """Write a table as an import reads it, one row a line."""
    with path.open("w", encoding="utf-8") as file:
        for start in range(0, len(table), STANDING_ROWS):
            for row in _settled(entry, [row for _, row in table[start : start + STANDING_ROWS]]):
                file.write(json.dumps(row, ensure_ascii=False) + "\n")


def _settled(entry: Entry, rows: Sequence[Mapping[str, Any]]) -> Iterable[dict[str, Any]]:
    """Yield rows with what they keep: of those that stand their own values."""
    keys = ["/".join(str(row[name]) for name in entry.key) for row in rows]
    standing = rows_find(entry, keys, None)
    for key, row in zip(keys, rows, strict=True):
        own = standing[key].values if key in standing else {}
        values = {name: _kept(value, own.get(name)) for name, value in row.items()}
        yield {name: str(value) if isinstance(value, date | Decimal) else value for name, value in values.items()}


def _kept(value: Any, own: Any) -> Any:
    """Return what a row says; where NetBox says nothing, its own value, if it has one."""
    if not isinstance(value, Kept):
        return value
    return value.value if own in (None, "") else own


def _places_tell(tables: Mapping[str, Table], report: ImportReport) -> None:
    """Say of each error and change where NetBox has it."""
    for at, fault in enumerate(report.errors):
        if fault.line is not None:
            table = tables[fault.entry]
            thing = table[fault.line - 1][0]
            report.errors[at] = thing.place.fault(
                thing.kind, COLUMNS.get(fault.column or "", fault.column), _elsewhere(table, fault.reason)
            )
    for at, change in enumerate(report.changes):
        place = tables[change.entry][change.line - 1][0].place
        report.changes[at] = replace(change, line=place.line or place.number)


def _elsewhere(table: Table, reason: str) -> str:
    """Return a reason that names the places of other rows, not their lines in our table."""
    return _LINE.sub(lambda found: str(table[int(found[1]) - 1][0].place), reason)
