"""Every kind of row of the fleet in one table: its name, what identifies a row, where it lies, who may edit it.

Lists, pages, imports, exports, access and the change log all read this table; a model that is missing from it fails a
test.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from types import MappingProxyType
from typing import Any

from django.db import models

from fleet.models import (
    Card,
    CoolingLink,
    CoolingNode,
    Delivery,
    DemandEvent,
    DemandOverride,
    Deployment,
    Endpoint,
    FirmwareBaseline,
    FirmwareSet,
    Gate,
    Hall,
    Host,
    HostType,
    Lot,
    Maintenance,
    NetworkLink,
    NetworkNode,
    Order,
    Placement,
    PolicyEvent,
    PowerLink,
    PowerNode,
    Rack,
    Readiness,
    Region,
    Retirement,
    Row,
    ScaleUpDomain,
    Service,
    Site,
)
from fleet.models.versioned import Versioned

KEPT = ("id", "version", "created_at", "updated_at")
"""Fields that the product writes, not its users."""


@dataclass(frozen=True)
class Entry:
    """One kind of row.

    `name` is its plural as addresses and files write it. `key` names the fields that identify a row; a key is written
    as their texts with a slash between, and a field of the key that is another row by that row's key. `regions` are
    the paths to the region in which a row lies; without a path, or where all of them are empty, it lies everywhere.
    `editors` are the roles that may write it; the role admin may write everything.
    """

    name: str
    model: type[Versioned]
    key: tuple[str, ...]
    regions: tuple[str, ...]
    editors: tuple[str, ...]

    @property
    def kind(self) -> str:
        """Name of one row in the change log and in permissions: the model's, in small letters."""
        return str(self.model._meta.model_name)

    @property
    def title(self) -> str:
        """Plural as a page writes it."""
        text = str(self.model._meta.verbose_name_plural)
        return text[:1].upper() + text[1:]

    @cached_property
    def fields(self) -> tuple["models.Field[Any, Any]", ...]:
        """What a user may write, the key first."""
        found = {field.name: field for field in self.model._meta.concrete_fields if field.name not in KEPT}
        return tuple(found[name] for name in (*self.key, *(name for name in found if name not in self.key)))


HOST_REGION = "rack__row__hall__site__region"

INVENTORY: Mapping[str, Entry] = MappingProxyType({
    entry.name: entry
    for entry in (
        # an entry comes after those that it refers to: imports and exports go down, deletions go up
        Entry("regions", Region, ("slug",), ("pk",), ()),
        Entry("sites", Site, ("slug",), ("region",), ("operator",)),
        Entry("halls", Hall, ("site", "slug"), ("site__region",), ("operator",)),
        Entry("rows", Row, ("hall", "slug"), ("hall__site__region",), ("operator",)),
        Entry("cooling-nodes", CoolingNode, ("slug",), ("site__region",), ("operator",)),
        Entry("cooling-links", CoolingLink, ("node", "source"), ("node__site__region",), ("operator",)),
        Entry("racks", Rack, ("slug",), ("row__hall__site__region",), ("operator",)),
        Entry("power-nodes", PowerNode, ("slug",), ("site__region",), ("operator",)),
        Entry("power-links", PowerLink, ("node", "source"), ("node__site__region",), ("operator",)),
        Entry("network-nodes", NetworkNode, ("slug",), ("site__region",), ("operator",)),
        Entry("network-links", NetworkLink, ("node", "source"), ("node__site__region",), ("operator",)),
        Entry("host-types", HostType, ("slug",), (), ("planner",)),
        Entry("scale-up-domains", ScaleUpDomain, ("slug",), ("site__region",), ("operator",)),
        Entry("hosts", Host, ("slug",), (HOST_REGION,), ("operator",)),
        Entry("maintenance", Maintenance, ("slug",), (f"host__{HOST_REGION}",), ("operator",)),
        Entry("firmware-sets", FirmwareSet, ("slug",), (), ("operator",)),
        Entry("firmware-baselines", FirmwareBaseline, ("slug",), ("region",), ("planner",)),
        Entry("lots", Lot, ("slug",), (), ("operator",)),
        Entry("cards", Card, ("serial",), (f"host__{HOST_REGION}",), ("operator",)),
        Entry("services", Service, ("slug",), ("region",), ("planner",)),
        Entry("readiness", Readiness, ("service", "chip"), ("service__region",), ("planner",)),
        Entry("demand-events", DemandEvent, ("slug",), ("service__region",), ("planner",)),
        Entry("demand-overrides", DemandOverride, ("slug",), ("service__region",), ("planner",)),
        Entry("gates", Gate, ("family", "chip", "gate"), (), ("planner",)),
        Entry("endpoints", Endpoint, ("slug",), ("site__region",), ("planner",)),
        Entry("deployments", Deployment, ("slug",), ("endpoint__site__region",), ("planner",)),
        Entry("placements", Placement, ("deployment", "host"), (f"host__{HOST_REGION}",), ("operator",)),
        Entry("orders", Order, ("slug",), (), ("planner",)),
        Entry("deliveries", Delivery, ("slug",), ("site__region",), ("planner", "operator")),
        Entry("retirements", Retirement, ("slug",), ("site__region",), ("planner", "operator")),
        Entry("policy-events", PolicyEvent, ("slug",), ("region", "site__region"), ("planner",)),
    )
})  # fmt: skip
"""Entries by name."""

BY_KIND: Mapping[str, Entry] = MappingProxyType({entry.kind: entry for entry in INVENTORY.values()})
"""Entries by the name of one row."""


def key_text(row: models.Model) -> str:
    """Return the key of a row as it is written: `dc01/h1/a` for a row of racks. Reads what is not loaded."""
    entry = BY_KIND[str(row._meta.model_name)]
    parts = (getattr(row, name) for name in entry.key)
    return "/".join(key_text(part) if isinstance(part, models.Model) else str(part) for part in parts)


def key_paths(model: type[models.Model], prefix: str = "") -> tuple[str, ...]:
    """Return the paths of the texts that make up a key, as `site__slug`, `slug` for a hall."""
    paths: list[str] = []
    for name in BY_KIND[str(model._meta.model_name)].key:
        field = model._meta.get_field(name)
        if isinstance(field, models.ForeignKey):
            paths += key_paths(field.related_model, f"{prefix}{name}__")
        else:
            paths.append(prefix + name)
    return tuple(paths)


def key_condition(model: type[models.Model], text: str) -> models.Q | None:
    """Return the filter of the row with a key; None where the text is no key of that kind."""
    paths = key_paths(model)
    parts = text.split("/") if len(paths) > 1 else [text]
    if len(parts) != len(paths) or "\x00" in text:
        return None
    return models.Q(**dict(zip(paths, parts, strict=True)))


def key_find(rows: "models.QuerySet[Any]", text: str) -> Any:
    """Return the row with a key, or None."""
    condition = key_condition(rows.model, text)
    return None if condition is None else rows.filter(condition).first()
