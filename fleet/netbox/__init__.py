"""NetBox in and out: sites, locations, racks, device types, devices, power panels and feeds."""

from fleet.netbox.client import NetBoxClient, NetBoxError
from fleet.netbox.exports import NetBoxExport, netbox_export
from fleet.netbox.imports import netbox_import
from fleet.netbox.options import Options, options_read
from fleet.netbox.reports import NetBoxReport

__all__ = [
    "NetBoxClient",
    "NetBoxError",
    "NetBoxExport",
    "NetBoxReport",
    "Options",
    "netbox_export",
    "netbox_import",
    "options_read",
]
