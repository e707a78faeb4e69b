"""Rows of every kind of the fleet, each with parents of its own, and bodies for new ones."""

from datetime import date
from decimal import Decimal

from django.db.models import DateField, DecimalField, ForeignKey

from fleet.inventory import INVENTORY
from fleet.models import (
    CoolingNode,
    Deployment,
    Endpoint,
    FirmwareSet,
    Hall,
    Host,
    HostType,
    Lot,
    NetworkNode,
    Order,
    PowerNode,
    Rack,
    Region,
    Row,
    ScaleUpDomain,
    Service,
    Site,
)

CHIP, OWN = "h20-96", "thead-ppu-810e"
DAY, LATER = date(2027, 1, 1), date(2028, 1, 1)
SERVICE = {
    "model": "qwen3-32b",
    "profile": "azure-conv",
    "ttft_s": 2,
    "tpot_s": 0.05,
    "demand_on": DAY,
    "demand_request_s": 20,
    "growth_low_ratio": 0.02,
    "growth_ratio": 0.05,
    "growth_high_ratio": 0.08,
}
TYPE = {"chip": CHIP, "chips": 8, "height_u": 6, "power_w": 5500, "idle_w": 1500, "source": "test"}


def region_fill(tag, *, count=1):
    """Make a region of a name, with `count` rows of every kind; return them by the name of their entry."""
    region = Region.objects.create(slug=tag, name=tag.capitalize())
    made = {name: [] for name in INVENTORY} | {"regions": [region]}
    for at in range(count):
        for name, row in _rows(f"{tag}-{at}", at, region):
            made[name].append(row)
    return made


def _rows(tag, at, region):
    dated = {"in_service_on": DAY, "out_of_service_on": LATER}
    site = Site.objects.create(slug=f"{tag}-dc", name=f"{tag} campus", region=region, **dated)
    hall = Hall.objects.create(site=site, slug="h1", name="Hall 1")
    row = Row.objects.create(hall=hall, slug="a")
    cooling = [CoolingNode.objects.create(slug=f"{tag}-{kind}", site=site, kind=kind) for kind in ("plant", "cdu")]
    rack = Rack.objects.create(row=row, slug=f"{tag}-r", power_limit_w=40_000, cooling_node=cooling[1])
    power = [
        PowerNode.objects.create(slug=f"{tag}-ups", site=site, kind="ups", rating_va=1e6),
        PowerNode.objects.create(slug=f"{tag}-feed", site=site, kind="feed", rack=rack, voltage_v=400, current_a=63),
    ]
    network = [
        NetworkNode.objects.create(slug=f"{tag}-leaf", site=site, kind="leaf"),
        NetworkNode.objects.create(slug=f"{tag}-tor", site=site, kind="tor", rack=rack),
    ]
    kind = HostType.objects.create(slug=f"{tag}-8x", name=f"{tag} 8x", price=Decimal("1250.50"), **TYPE)
    domain = ScaleUpDomain.objects.create(slug=f"{tag}-d", site=site, chips=64)
    host = Host.objects.create(slug=f"{tag}-h", host_type=kind, rack=rack, scale_up_domain=domain, **dated)
    firmware = FirmwareSet.objects.create(slug=f"{tag}-f", chip=CHIP, rank=FirmwareSet.objects.count())
    lot = Lot.objects.create(slug=f"{tag}-lot", chip=CHIP)
    service = Service.objects.create(slug=f"{tag}-chat", name=f"{tag} chat", region=region, **SERVICE)
    endpoint = Endpoint.objects.create(slug=f"{tag}-e", service=service, site=site, share_ratio=0.2)
    deployment = Deployment.objects.create(
        slug=f"{tag}-p", endpoint=endpoint, host_type=kind, config="tp8", replica_chips=8, replica_tok_s=1000
    )
    order = Order.objects.create(slug=f"{tag}-o", supplier="Maker", host_type=kind, quantity=100, ordered_on=DAY)
    supply = {"site": site, "host_type": kind, "quantity": 4}
    yield from (("sites", site), ("halls", hall), ("rows", row), ("racks", rack), ("host-types", kind))
    yield from (("cooling-nodes", cooling[1]), ("power-nodes", power[1]), ("network-nodes", network[1]))
    yield _made("cooling-links", node=cooling[1], source=cooling[0])
    yield _made("power-links", node=power[1], source=power[0])
    yield _made("network-links", node=network[1], source=network[0])
    yield from (("scale-up-domains", domain), ("hosts", host), ("firmware-sets", firmware), ("lots", lot))
    yield _made("maintenance", slug=f"{tag}-m", host=host, kind="repair", starts_on=DAY, ends_on=LATER)
    yield _made("firmware-baselines", slug=f"{tag}-b", firmware=firmware, region=region, starts_on=DAY)
    yield _made("cards", serial=f"{tag}-c", host=host, slot=1, lot=lot, firmware=firmware)
    yield from (("services", service), ("endpoints", endpoint), ("deployments", deployment), ("orders", order))
    yield _made("readiness", service=service, chip=OWN, ready_on=DAY)
    months = {"first_on": DAY, "last_on": LATER, "author": "Li", "reason": "a contract"}
    band = {"p10_request_s": 18, "p50_request_s": 22, "p90_request_s": 30}
    yield _made("demand-overrides", slug=f"{tag}-k", service=service, **months, **band)
    bounds = {"multiplier_low_ratio": 1.1, "multiplier_ratio": 1.3, "multiplier_high_ratio": 1.8}
    days = {"starts_on": DAY, "ends_on": LATER}
    yield _made("demand-events", slug=f"{tag}-n", service=service, reason="a launch", **days, **bounds)
    yield _made("gates", family=tag, chip=OWN, gate="G1")
    yield _made("placements", deployment=deployment, host=host)
    yield _made("deliveries", slug=f"{tag}-po", order=order, expected_on=DAY, **supply)
    yield _made("retirements", slug=f"{tag}-x", retire_on=LATER, **supply)
    yield _made("policy-events", slug=f"{tag}-v", chip=CHIP, verb="buy", starts_on=DAY, region=region, source="rule")


def _made(name, **values):
    return name, INVENTORY[name].model.objects.create(**values)


def body_new(entry, row, serial=1):
    """Return the body of a new row beside another one: like it, under a key of its own."""
    body = {}
    for field in entry.fields:
        value = getattr(row, field.attname)
        if isinstance(field, DateField) and value:
            value = value.isoformat()
        if isinstance(field, DecimalField) and value is not None:
            value = f"{value:.2f}"
        body[field.name] = value
    return body | key_new(entry, row, serial)


def key_new(entry, row, serial):
    """Return values of the key that no row has yet; of a kind whose key is related rows, new rows of those."""
    last = entry.model._meta.get_field(entry.key[-1])
    if isinstance(last, ForeignKey):
        return _other_key(entry, row, serial)
    if entry.name == "readiness":
        return {"chip": ("ascend-910b", "ascend-910c", "a100-80")[serial - 1]}
    if entry.name == "gates":
        return {"family": f"{row.family}-{serial}"}
    own = {"firmware-sets": {"rank": serial + 1000}, "cards": {"slot": serial + 1}}.get(entry.name, {})
    return {last.name: f"{getattr(row, last.name)}-{serial}", **own}


def _other_key(entry, row, serial):
    if entry.name == "placements":
        host = row.host
        host = Host.objects.create(slug=f"{host.slug}-k{serial}", host_type=host.host_type, rack=host.rack)
        return {"host": host.pk}
    source = row.source
    return {"source": type(source).objects.create(**_node(source, serial)).pk}


def _node(source, serial):
    rating = {"rating_va": 1e6} if isinstance(source, PowerNode) else {}
    return {"slug": f"{source.slug}-k{serial}", "site": source.site, "kind": source.kind, **rating}


def edit_of(entry):
    """Return the edit of a field that every row of a kind takes."""
    names = {field.name for field in entry.fields}
    edits = {
        "planned_on": "2026-12-01",
        "note": "seen",
        "evidence": "none yet",
        "source": "another rule",
        "reason": "another one",
    }
    return next({name: value} for name, value in edits.items() if name in names)
