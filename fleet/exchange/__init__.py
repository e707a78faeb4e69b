"""The fleet as files: every kind of row out and in again, checked, all of it or nothing, errors with their place."""

from fleet.exchange.exports import FORMATS, Scope, csv_export, entry_rows, entry_write, fleet_write, json_export
from fleet.exchange.imports import (
    FleetChangedError,
    Observer,
    fleet_import,
    import_entries,
    import_read,
    import_run,
    parts_import,
)
from fleet.exchange.reports import Counts, ImportChange, ImportFault, ImportReport
from fleet.exchange.wipes import fleet_wipe

__all__ = [
    "FORMATS",
    "Counts",
    "FleetChangedError",
    "ImportChange",
    "ImportFault",
    "ImportReport",
    "Observer",
    "Scope",
    "csv_export",
    "entry_rows",
    "entry_write",
    "fleet_import",
    "fleet_wipe",
    "fleet_write",
    "import_entries",
    "import_read",
    "import_run",
    "json_export",
    "parts_import",
]
