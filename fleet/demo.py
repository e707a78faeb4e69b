"""The demo fleet of data/demo.yaml: two regions, four sites, seven host types, twelve services."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import replace
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import yaml
from django.db import transaction

from fleet.audit import author_current, writing_as
from fleet.inventory import INVENTORY
from fleet.models import (
    Card,
    Change,
    CoolingLink,
    CoolingNode,
    Delivery,
    FirmwareSet,
    Gate,
    Hall,
    Host,
    HostType,
    Lot,
    NetworkLink,
    NetworkNode,
    PolicyEvent,
    PowerLink,
    PowerNode,
    Rack,
    Readiness,
    Region,
    Row,
    Service,
    Site,
)
from fleet.models.versioned import Versioned
from fleet.services import rows_write

DEMO_PATH = Path(__file__).parent / "data" / "demo.yaml"
DELIVERY_DAY = timedelta(days=14)  # orders are due in the middle of their month
RACK_HEIGHT_U = 48
SIDES = ("a", "b")
FEED_V = 415  # three-phase, line to line
UPS_RATIO = 0.96  # given over drawn, double conversion; invented, as the rest
CHILLERS = 3
DEMO_WHY = "the demo fleet"
SHARED: Mapping[type[Versioned], tuple[str, ...]] = {
    FirmwareSet: ("cards", "baselines"),
    Lot: ("cards",),
    HostType: ("hosts", "deliveries", "orders", "retirements", "deployments"),
}
"""Kinds that lie in no region, and what of others may use them."""
TREE_MODELS = ((PowerNode, PowerLink), (CoolingNode, CoolingLink), (NetworkNode, NetworkLink))

Made = TypeVar("Made", bound=Versioned)


@cache
def demo_plan() -> Mapping[str, Any]:
    """Return the demo as it is written down."""
    return yaml.safe_load(DEMO_PATH.read_text())


def _slugs(part: str) -> list[str]:
    return [row["slug"] for row in demo_plan()[part]]


def demo_is_loaded() -> bool:
    """Whether the demo's regions are there."""
    return Region.objects.filter(slug__in=_slugs("regions")).exists()


@transaction.atomic
def demo_fleet_load(start: date) -> None:
    """Write the demo fleet, dated from a month on. All or nothing."""
    plan = demo_plan()
    with writing_as(replace(author_current(), why=DEMO_WHY)):
        regions = _by_slug(_made(Region, [Region(**row) for row in plan["regions"]]))
        known = HostType.objects.in_bulk(_slugs("host_types"), field_name="slug")
        _made(HostType, [HostType(**row) for row in plan["host_types"] if row["slug"] not in known])
        kinds = HostType.objects.in_bulk(_slugs("host_types"), field_name="slug")
        sites = _by_slug(
            _made(
                Site,
                [
                    Site(slug=row["slug"], name=row["name"], region=regions[row["region"]], pue_ratio=row["pue_ratio"])
                    for row in plan["sites"]
                ],
            )
        )
        for row in plan["sites"]:
            _site_build(sites[row["slug"]], row, kinds)
        _cards_build(plan)
        _made(Delivery, [_delivery(row, sites, kinds, start) for row in plan["deliveries"]])
        services = _made(Service, [_service(row, regions[row["region"]], start) for row in plan["services"]])
        _made(
            Readiness,
            [
                Readiness(service=service, chip=chip, ready_on=_later(start, months))
                for service, row in zip(services, plan["services"], strict=True)
                for chip, months in row["ready_month"].items()
            ],
        )
        _made(PolicyEvent, [_policy(row, regions, start) for row in plan["policy_events"]])
        known_gates = set(Gate.objects.values_list("family", "chip"))
        wanted = (row for row in plan["gates"] if (row["family"], row["chip"]) not in known_gates)
        _made(Gate, [gate for row in wanted for gate in _gates(row, start)])


def demo_fleet_remove() -> None:
    """Remove what the log of changes says the load of the demo wrote; of shared kinds what other rows use stays."""
    written = Change.objects.filter(change_set__why=DEMO_WHY, action=Change.Action.CREATE).order_by()
    with transaction.atomic(), writing_as(replace(author_current(), why="the demo fleet is removed")):
        for entry in reversed(list(INVENTORY.values())):
            ours = written.filter(kind=entry.kind).values("object_id")
            unused = {f"{user}__isnull": True for user in SHARED.get(entry.model, ())}
            rows_write(entry.model, delete=list(entry.model._default_manager.filter(pk__in=ours, **unused)))


def _made(model: type[Made], rows: Iterable[Made]) -> list[Made]:
    """Write new rows, and return them with their ids."""
    made = list(rows)
    rows_write(model, create=made)
    return made


def _by_slug(rows: Iterable[Made]) -> dict[str, Made]:
    return {row.slug: row for row in rows}  # type: ignore[attr-defined]


def _later(start: date, months: int) -> date:
    count = start.year * 12 + start.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)


def _delivery(
    row: Mapping[str, Any], sites: Mapping[str, Site], kinds: Mapping[str, HostType], start: date
) -> Delivery:
    values = {key: value for key, value in row.items() if key not in {"site", "host_type", "month"}}
    expected_on = _later(start, row["month"]) + DELIVERY_DAY
    return Delivery(site=sites[row["site"]], host_type=kinds[row["host_type"]], expected_on=expected_on, **values)


def _policy(row: Mapping[str, Any], regions: Mapping[str, Region], start: date) -> PolicyEvent:
    values = {key: value for key, value in row.items() if key not in {"region", "month"}}
    region = regions[row["region"]] if "region" in row else None
    return PolicyEvent(region=region, starts_on=_later(start, row["month"]), **values)


def _gates(row: Mapping[str, Any], start: date) -> Iterator[Gate]:
    """Return the gates of a pair: passed one a month up to the start, then one that is tried, then open ones."""
    for at, number in enumerate(Gate.Number.values):
        ahead = at - row["passed"]  # months
        gate = Gate(family=row["family"], chip=row["chip"], gate=number, owner=f"port of {row['family']}")
        gate.expected_on = _later(start, ahead + 1)
        if ahead <= 0:
            gate.state, gate.decided_on = Gate.State.PARTLY, _later(start, min(ahead, -1))
            gate.evidence = "invented, as the demo is"
        if ahead < 0:
            gate.state, gate.signed_by = Gate.State.PASSED, "demo release board"
        yield gate


def _service(row: Mapping[str, Any], region: Region, start: date) -> Service:
    values = {key: value for key, value in row.items() if key not in {"region", "growth", "ready_month"}}
    low, middle, high = row["growth"]
    growth = {"growth_low_ratio": low, "growth_ratio": middle, "growth_high_ratio": high}
    return Service(region=region, demand_on=start, **growth, **values)


def _site_build(site: Site, plan: Mapping[str, Any], kinds: Mapping[str, HostType]) -> None:
    """Write the halls of a site with their racks and hosts, and the three trees over them."""
    halls = _made(
        Hall,
        [Hall(site=site, slug=hall["slug"], name=hall["name"], cooling=hall["cooling"]) for hall in plan["halls"]],
    )
    power, heat, net = (_Tree(site, *models) for models in TREE_MODELS)
    for side in SIDES:
        power.add(f"util-{side}", kind="utility", rating_va=plan["utility_mva"] * 1e6, derate_ratio=0.9)
        power.add(f"msb-{side}", f"util-{side}", kind="switchboard", rating_va=plan["utility_mva"] * 1e6)
    for number in range(1, CHILLERS + 1):  # one more than needed
        heat.add(f"chiller-{number}", kind="plant", limit_w=plan["utility_mva"] * 1e6 / (CHILLERS - 1))
    for number in (1, 2):
        net.add(f"spine-{number}", kind="spine")
    racks_of = {}
    for hall, row in zip(halls, plan["halls"], strict=True):
        _hall_trees(hall.slug, row, power, heat)
    nodes = heat.write()
    for hall, row in zip(halls, plan["halls"], strict=True):
        racks_of[hall.slug] = _racks(hall, row, nodes)
        for rack in racks_of[hall.slug]:
            _rack_trees(rack, hall.slug, row, power, net)
        _made(Host, _hosts(f"{site.slug}-{hall.slug}", row["hosts"], racks_of[hall.slug], kinds))
    power.write()
    net.write()


class _Tree:
    """One tree of a site in the making: nodes by their name within the site, and what they draw on."""

    def __init__(self, site: Site, node: type[Any], link: type[Any]) -> None:
        self._site, self._node, self._link = site, node, link
        self._rows: dict[str, Any] = {}
        self._sources: list[tuple[str, str, bool]] = []

    def add(self, name: str, *sources: str, standby: tuple[str, ...] = (), **values: Any) -> None:
        """Add a node with its sources, which are there already."""
        self._rows[name] = self._node(site=self._site, slug=f"{self._site.slug}-{name}", **values)
        self._sources += [(name, source, False) for source in sources]
        self._sources += [(name, source, True) for source in standby]

    def write(self) -> dict[str, Any]:
        """Write nodes and links; return the nodes by name."""
        _made(self._node, self._rows.values())
        rows = [
            self._link(node=self._rows[name], source=self._rows[source], standby=standby)
            for name, source, standby in self._sources
        ]
        _made(self._link, rows)
        return self._rows


def _hall_trees(hall: str, plan: Mapping[str, Any], power: _Tree, heat: _Tree) -> None:
    """Add a hall's UPS, PDUs and air handlers or CDUs: an A and a B side, one PDU a row."""
    catcher = f"{hall}-ups-catch"
    if plan.get("standby_ups"):
        power.add(catcher, "msb-a", "msb-b", kind="ups", rating_va=plan["ups_kva"] * 1e3, efficiency_ratio=UPS_RATIO)
    heat.add(f"{hall}-loop", *(f"chiller-{number}" for number in range(1, CHILLERS + 1)), kind="loop")
    for side in SIDES:
        rating_va = plan["ups_kva"] * 1e3
        power.add(
            f"{hall}-ups-{side}",
            f"msb-{side}",
            kind="ups",
            rating_va=rating_va,
            efficiency_ratio=UPS_RATIO,
            redundancy="2N",
        )
        for at in range(plan["rows"]):
            power.add(
                f"{hall}-{_letter(at)}-pdu-{side}",
                f"{hall}-ups-{side}",
                standby=(catcher,) if plan.get("standby_ups") else (),
                kind="pdu",
                rating_va=plan["pdu_kva"] * 1e3,
            )
    for at in range(plan["rows"]):
        limit_w = plan["rack_kw"] * 1e3 * plan["racks_per_row"]
        heat.add(f"{hall}-{_letter(at)}-cool", f"{hall}-loop", kind="cdu", limit_w=limit_w)


def _racks(hall: Hall, plan: Mapping[str, Any], nodes: Mapping[str, CoolingNode]) -> list[Rack]:
    rows = _made(Row, [Row(hall=hall, slug=_letter(at), position=at) for at in range(plan["rows"])])
    return _made(
        Rack,
        [
            Rack(
                row=row,
                slug=f"{hall.site.slug}-{hall.slug}-{row.slug}{number:02d}",
                position=number,
                height_u=RACK_HEIGHT_U,
                power_limit_w=plan["rack_kw"] * 1000,
                cooling_node=nodes[f"{hall.slug}-{row.slug}-cool"],
            )
            for row in rows
            for number in range(1, plan["racks_per_row"] + 1)
        ],
    )


def _rack_trees(rack: Rack, hall: str, plan: Mapping[str, Any], power: _Tree, net: _Tree) -> None:
    """Add a rack's feeds and its switch."""
    name, row = rack.slug.removeprefix(f"{rack.row.hall.site.slug}-"), rack.row.slug
    for side in SIDES:
        power.add(
            f"{name}-feed-{side}",
            f"{hall}-{row}-pdu-{side}",
            kind="feed",
            rack=rack,
            voltage_v=FEED_V,
            current_a=plan["feed_a"],
        )
    net.add(f"{name}-tor", "spine-1", "spine-2", kind="tor", rack=rack)


def _letter(at: int) -> str:
    return chr(ord("a") + at)


def _cards_build(plan: Mapping[str, Any]) -> None:
    """Write where the chips come from, what runs on them, and a card for each."""
    known = Lot.objects.in_bulk(_slugs("lots"), field_name="slug")
    _made(Lot, [Lot(**row) for row in plan["lots"] if row["slug"] not in known])
    ranked = FirmwareSet.objects.in_bulk(_slugs("firmware_sets"), field_name="slug")
    _made(FirmwareSet, [FirmwareSet(**row) for row in plan["firmware_sets"] if row["slug"] not in ranked])
    lots = {lot.chip: lot for lot in Lot.objects.filter(slug__in=_slugs("lots"))}
    sets = {one.chip: one for one in FirmwareSet.objects.filter(slug__in=_slugs("firmware_sets")).order_by("rank")}
    hosts = Host.objects.filter(rack__row__hall__site__slug__in=_slugs("sites")).order_by("slug")
    _made(
        Card,
        [
            Card(
                serial=f"{host.slug}-{slot:02d}",
                host=host,
                slot=slot,
                lot=lots.get(kind.chip),
                firmware=sets.get(kind.chip),
            )
            for host in hosts.select_related("host_type")
            for kind in (host.host_type,)
            for slot in range(1, kind.chips + 1)
        ],
    )


def _hosts(place: str, counts: Mapping[str, int], racks: list[Rack], kinds: Mapping[str, HostType]) -> Iterator[Host]:
    """Fill rack after rack from the bottom, as far as height and power go."""
    at, used_u, used_w = 0, 0, 0.0
    for slug, count in counts.items():
        kind = kinds[slug]
        for number in range(1, count + 1):
            if used_u + kind.height_u > racks[at].height_u or used_w + kind.power_w > racks[at].power_limit_w:
                at, used_u, used_w = at + 1, 0, 0.0
                if at == len(racks):
                    raise ValueError(f"the demo's {place} has no rack left for {slug} {number}")
            yield Host(slug=f"{place}-{slug}-{number:03d}", host_type=kind, rack=racks[at], position_u=used_u + 1)
            used_u, used_w = used_u + kind.height_u, used_w + kind.power_w
