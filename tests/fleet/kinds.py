"""One row of every kind of the fleet, none against any rule: for tests that go through all kinds."""

from datetime import date
from decimal import Decimal

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

CHIP, DAY = "thead-ppu-810e", date(2027, 3, 1)


def place_rows(tag=""):
    """A region with a site, a hall, a row and a rack; `tag` begins their names."""
    region = Region.objects.create(slug=f"{tag}north", name="North")
    site = Site.objects.create(slug=f"{tag}dc01", name="Zhangbei", region=region)
    hall = Hall.objects.create(site=site, slug="h1", name="Hall 1")
    row = Row.objects.create(hall=hall, slug="a")
    rack = Rack.objects.create(row=row, slug=f"{tag}dc01-a1", power_limit_w=40_000, height_u=48)
    return {"region": region, "site": site, "hall": hall, "row": row, "rack": rack}


def host_type_row(slug="ppu-16x", **values):
    values = {"chip": CHIP, "chips": 16, "height_u": 6, "power_w": 8600, "idle_w": 1500, "source": "test", **values}
    return HostType.objects.create(slug=slug, name=slug, **values)


def every_kind():
    """One saved row of every kind, by kind."""
    rows = place_rows()
    site, rack = rows["site"], rows["rack"]
    rows["coolingnode"] = CoolingNode.objects.create(slug="cdu-1", site=site, kind="cdu")
    plant = CoolingNode.objects.create(slug="plant-1", site=site, kind="plant")
    rows["coolinglink"] = CoolingLink.objects.create(node=rows["coolingnode"], source=plant)
    rows["powernode"] = PowerNode.objects.create(slug="feed-a", site=site, kind="feed", rack=rack, rating_va=30_000)
    ups = PowerNode.objects.create(slug="ups-1", site=site, kind="ups", rating_va=1e6)
    rows["powerlink"] = PowerLink.objects.create(node=rows["powernode"], source=ups)
    rows["networknode"] = NetworkNode.objects.create(slug="tor-1", site=site, kind="tor", rack=rack)
    leaf = NetworkNode.objects.create(slug="leaf-1", site=site, kind="leaf")
    rows["networklink"] = NetworkLink.objects.create(node=rows["networknode"], source=leaf)
    rows["hosttype"] = host_type_row()
    rows["scaleupdomain"] = ScaleUpDomain.objects.create(slug="fabric-1", site=site, chips=64)
    rows["host"] = Host.objects.create(
        slug="host-1", host_type=rows["hosttype"], rack=rack, position_u=1, scale_up_domain=rows["scaleupdomain"]
    )
    rows["maintenance"] = Maintenance.objects.create(slug="m-1", host=rows["host"], kind="drain", starts_on=DAY)
    rows["firmwareset"] = FirmwareSet.objects.create(slug="fw-1", chip=CHIP, rank=1)
    rows["firmwarebaseline"] = FirmwareBaseline.objects.create(slug="fb-1", firmware=rows["firmwareset"], starts_on=DAY)
    rows["lot"] = Lot.objects.create(slug="lot-1", chip=CHIP)
    rows["card"] = Card.objects.create(serial="c-1", host=rows["host"], slot=0, lot=rows["lot"])
    rows["service"] = Service.objects.create(
        slug="chat",
        name="Chat",
        region=rows["region"],
        model="qwen3-32b",
        profile="azure-conv",
        ttft_s=2,
        tpot_s=0.05,
        demand_on=DAY,
        demand_request_s=20,
        growth_low_ratio=0.02,
        growth_ratio=0.05,
        growth_high_ratio=0.08,
    )
    rows["readiness"] = Readiness.objects.create(service=rows["service"], chip=CHIP, ready_on=DAY)
    rows["demandevent"] = DemandEvent.objects.create(
        slug="de-1",
        service=rows["service"],
        starts_on=DAY,
        ends_on=date(2027, 3, 8),
        multiplier_low_ratio=1.1,
        multiplier_ratio=1.3,
        multiplier_high_ratio=1.8,
        reason="a launch, says the product team",
    )
    rows["demandoverride"] = DemandOverride.objects.create(
        slug="do-1",
        service=rows["service"],
        first_on=DAY,
        last_on=date(2027, 5, 1),
        p10_request_s=18,
        p50_request_s=22,
        p90_request_s=30,
        author="Li",
        reason="a contract",
    )
    rows["gate"] = Gate.objects.create(family="qwen3", chip=CHIP, gate="G1")
    rows["endpoint"] = Endpoint.objects.create(slug="chat-dc01", service=rows["service"], site=site, share_ratio=0.5)
    rows["deployment"] = Deployment.objects.create(
        slug="chat-tp4",
        endpoint=rows["endpoint"],
        host_type=rows["hosttype"],
        config="bf16 tp4",
        replica_chips=4,
        replica_tok_s=1500,
    )
    rows["placement"] = Placement.objects.create(deployment=rows["deployment"], host=rows["host"], replicas=3)
    rows["order"] = Order.objects.create(
        slug="po-1",
        supplier="T",
        host_type=rows["hosttype"],
        quantity=9,
        ordered_on=DAY,
        unit_price=Decimal("123456.5"),
    )
    rows["delivery"] = Delivery.objects.create(
        slug="d-1", order=rows["order"], site=site, host_type=rows["hosttype"], quantity=4, expected_on=DAY
    )
    rows["retirement"] = Retirement.objects.create(
        slug="r-1", site=site, host_type=rows["hosttype"], quantity=1, retire_on=DAY
    )
    rows["policyevent"] = PolicyEvent.objects.create(
        slug="p-1", chip="h20-96", verb="buy", starts_on=DAY, region=rows["region"], source="a rule"
    )
    return rows
