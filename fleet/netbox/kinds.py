"""The lists of NetBox that are read: which fields the twin carries, and how an exported table calls them."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Any

from django.utils.text import slugify

DAYS = ("planned_on", "in_service_on", "out_of_service_on")
NOTHING: tuple[Any, ...] = (None, "", "—", [], {}, ())
"""What an object or a cell of an exported table says where it says nothing."""

_QUIET = re.compile(r"id|pk|url|display|display_url|created|last_updated|_?depth|_occupied|children|.*_count|actions")


@dataclass(frozen=True)
class Kind:
    """One list of NetBox, called as its address.

    `carried` are the fields that the twin holds, `custom` the custom fields; `used` are those that only help to find
    or name a thing, `quiet` those that repeat what others say. All that are not carried are counted where they say
    something, but for the quiet ones.
    `labels` are headings of an exported table that do not tell their field.
    """

    name: str
    carried: tuple[str, ...]
    custom: tuple[str, ...] = DAYS
    used: tuple[str, ...] = ()
    quiet: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)

    def column_field(self, heading: str) -> str:
        """Return the field of a heading: as the bulk import calls it, or as an exported table shows it."""
        name = slugify(heading).replace("-", "_")
        name = self.labels.get(name, name)
        bare = name.removeprefix("cf_")
        return f"cf_{bare}" if bare in self.custom or bare != name else name

    def is_quiet(self, name: str) -> bool:
        """Whether a field says nothing of its own."""
        return name in self.quiet or _QUIET.fullmatch(name) is not None


HOST_FIGURES = (
    *("chip", "chips", "power_w", "idle_w", "typical_w", "nameplate_w"),
    *("power_factor_ratio", "cooling", "ports", "price", "currency", "source"),
)
RACK_FIGURES = ("power_limit_w", "cooling", "cooling_limit_w", "ports", "position")
PANEL_FIGURES = ("kind", "rating_va", "derate_ratio", "efficiency_ratio", "house_va", "redundancy")
FEED_FIGURES = ("rating_va", "derate_ratio", "efficiency_ratio", "house_va")

RACK = (
    *("name", "status", "site", "location", "group", "u_height", "starting_unit", "desc_units"),
    *("max_weight", "weight_unit"),
)
RACK_QUIET = ("devices", "space", "power", "get_utilization", "get_power_utilization")
DEVICE_TYPE = ("model", "slug", "u_height", "is_full_depth", "weight", "weight_unit", "power-ports", "interfaces")
DEVICE = ("name", "device_type", "status", "site", "location", "rack", "position", "face", "manufacturer")
DEVICE_QUIET = ("device_role", "primary_ip", "ip_address", "config_context", "region", "site_group", "rack_face")
DEVICE_LABELS = {
    "type": "device_type",
    "serial_number": "serial",
    "ipv4_address": "primary_ip4",
    "ipv6_address": "primary_ip6",
}
FEED = (
    *("name", "status", "site", "location", "power_panel", "rack"),
    *("type", "supply", "phase", "voltage", "amperage", "max_utilization"),
)

KINDS: Mapping[str, Kind] = MappingProxyType(
    {
        kind.name: kind
        for kind in (
            # a list comes after those that it refers to
            Kind("regions", ("name", "slug"), quiet=("sites",)),
            Kind("sites", ("name", "slug", "status", "region"), ("pue_ratio", *DAYS), quiet=("racks", "devices")),
            Kind(
                "locations",
                ("name", "slug", "status", "site", "parent"),
                ("cooling", "position", *DAYS),
                quiet=("racks", "devices"),
            ),
            Kind(
                "racks",
                RACK,
                (*RACK_FIGURES, *DAYS),
                quiet=RACK_QUIET,
                labels={"height": "u_height", "type": "rack_type"},
            ),
            Kind(
                "device-types",
                DEVICE_TYPE,
                (*HOST_FIGURES, *DAYS),
                used=("manufacturer",),
                quiet=("instances",),
                labels={"device_type": "model", "height": "u_height", "full_depth": "is_full_depth"},
            ),
            Kind("power-port-templates", ("device_type", "maximum_draw", "allocated_draw"), (), quiet=("name",)),
            Kind("interface-templates", ("device_type", "mgmt_only"), (), quiet=("name", "type")),
            Kind("devices", DEVICE, used=("serial", "asset_tag"), quiet=DEVICE_QUIET, labels=DEVICE_LABELS),
            Kind("power-panels", ("name", "site", "location"), (*PANEL_FIGURES, *DAYS), quiet=("feeds",)),
            Kind("power-feeds", FEED, (*FEED_FIGURES, *DAYS), quiet=("available_power", "available_power_va")),
        )
    }
)
"""By name."""

SITED = ("locations", "racks", "devices", "power-panels", "power-feeds")
"""Lists whose things are at a site."""

ALSO_READ = ("manufacturers", "device-roles")
"""Files that an export may hold beside: what they say is said again where it is used."""
