"""Host types and hosts out of NetBox's device types and devices."""

import math
from collections import defaultdict
from collections.abc import Mapping, Sequence
from typing import Any

from fleet.files.places import CellError, number_of
from fleet.models import Host
from fleet.netbox.finding import BadError, OmitError
from fleet.netbox.kinds import HOST_FIGURES, NOTHING
from fleet.netbox.readings import Kept, Reading
from fleet.netbox.slugs import slug_of
from fleet.netbox.sources import Thing

SOURCE_MOST = 200
NEEDED = ("chips", "power_w", "idle_w")

Port = Mapping[str, Any]


class Hosts:
    """Translates device types and devices."""

    def __init__(self, reading: Reading) -> None:
        self.reading, self.finder = reading, reading.finder
        self.power_ports = self._by_type("power-port-templates")
        self.interfaces = self._by_type("interface-templates")

    def translate(self) -> None:
        """Translate what has a chip; device types without one are left out with their devices."""
        self.reading.each("device-types", self._host_type)
        self.reading.named(["devices"], Host, ("rack__row__hall__site__slug", "rack__slug"), self._placed)
        self.reading.each("devices", self._host)

    def _by_type(self, kind: str) -> Mapping[Any, Sequence[Port]]:
        """Return the ports of device types by id, as the API lists them."""
        found: dict[Any, list[Port]] = defaultdict(list)
        for one in self.reading.things[kind]:
            said = one.values.get("device_type")
            if isinstance(said, dict):
                found[said.get("id")].append(one.values)
        return found

    def _placed(self, one: Thing) -> tuple[str, Sequence[str]]:
        self.finder.find(one, "device_type", "device-types")  # what is no host needs no name
        rack = self.finder.rack(one)
        return self.reading.slugs[rack], [rack.name]

    def _host_type(self, one: Thing) -> None:
        said = self.reading.text(one, "slug")
        more = self.reading.options.device_types.get(said, {})
        figures = self.reading.figures(one, HOST_FIGURES)
        figures |= {name: value for name, value in more.items() if value not in NOTHING}
        if figures["chip"] == Kept():
            raise OmitError("is no host: neither the custom field chip nor the map names a chip")
        ports = _ports(one, "power-ports", self.power_ports)
        for name, draw in (("power_w", "allocated_draw"), ("nameplate_w", "maximum_draw")):
            if figures[name] == Kept():
                figures[name] = _sum(ports, draw) or Kept()
        if missing := [name for name in NEEDED if figures[name] == Kept()]:
            raise OmitError(f"has a chip, but nothing says its {', '.join(missing)}")
        if figures["ports"] == Kept():
            wired = _ports(one, "interfaces", self.interfaces)
            figures["ports"] = sum(not port.get("mgmt_only") for port in wired) or Kept()
        if figures["source"] == Kept():
            figures["source"] = Kept(f"NetBox, {self.reading.report.imported.file}"[:SOURCE_MOST])
        self.reading.slug_note(one, slug_of(said), said)
        values = {
            "slug": self.reading.slugs[one],
            "name": self.reading.name_of(one),
            "height_u": self.reading.whole(one, "u_height", math.ceil),
            "full_depth": self.reading.truth(one, "is_full_depth", default=True),
            "weight_kg": self.reading.weight(one, "weight"),
        }
        self.reading.tables["host-types"].append((one, {**values, **figures, **self.reading.days(one)}))

    def _host(self, one: Thing) -> None:
        rack, kind = self.finder.rack(one), self.finder.find(one, "device_type", "device-types")
        values = {
            "slug": self.reading.slugs[one],
            "host_type": self.reading.slugs[kind],
            "rack": self.reading.slugs[rack],
            "position_u": self._position(one, rack, kind),
            "face": one.values.get("face") or "front",
        }
        days = self.reading.days(one, lambda: values["slug"] in self.reading.standing["devices"])
        self.reading.tables["hosts"].append((one, {**values, **days}))

    def _position(self, one: Thing, rack: Thing, kind: Thing) -> int | None:
        """Return the lowest unit from the floor: NetBox may begin elsewhere than at 1, or count from the top."""
        if one.values.get("position") is None:
            return None
        first = self.reading.number(rack, "starting_unit", 1)
        unit = self.reading.whole(one, "position", math.floor) - int(first) + 1
        if not self.reading.truth(rack, "desc_units", default=False):
            return unit
        return int(self.reading.number(rack, "u_height")) - unit - math.ceil(self.reading.number(kind, "u_height")) + 2


def _ports(one: Thing, name: str, listed: Mapping[Any, Sequence[Port]]) -> Sequence[Port]:
    """Return the ports of a device type: its own in YAML, those of a list over the API."""
    own = one.values.get(name)
    if own is None:
        return listed.get(one.values.get("id"), ())
    if not isinstance(own, list) or not all(isinstance(port, dict) for port in own):
        raise BadError(name, "a list of ports is expected")
    return own


def _sum(ports: Sequence[Port], draw: str) -> float:
    try:
        return sum(float(number_of(str(port[draw]))) for port in ports if port.get(draw) is not None)
    except CellError as error:
        raise BadError(f"power-ports.{draw}", str(error)) from error
