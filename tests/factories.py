"""Small fleets and questions made by hand, for planners (values) and for the database (rows)."""

from datetime import date

import numpy as np

from fleet.models import Hall, Host, HostType, Rack, Readiness, Region, Row, Service, Site
from fleet.snapshot import (
    DAY_MAX,
    DAY_MIN,
    DeliveryFact,
    FleetSnapshot,
    KindFact,
    RegionFact,
    ServiceFact,
    SiteFact,
    TreeFacts,
)
from scenarios.demand import months_list
from scenarios.plans import Problem

START = date(2027, 1, 1)


def kind_fact(slug="gpu", *, chip="h20-96", power_w=5000.0, height_u=6):
    return KindFact(slug=slug, name=slug.upper(), chip=chip, chips=8, height_u=height_u, power_w=power_w, idle_w=1000.0)


def service_fact(slug="chat", *, region="north", demand_request_s=10.0, growth=(0.05, 0.05, 0.05), **values):
    defaults = {
        "name": slug.capitalize(),
        "model": "qwen3-32b",
        "profile": "azure-conv",
        "tier": "gold",
        "ttft_s": 2.0,
        "tpot_s": 0.05,
        "percentile": 0.95,
        "demand_on": START,
        "movable": True,
        "note": "",
        "ready_on": {},
    }
    return ServiceFact(
        slug=slug,
        region=region,
        demand_request_s=demand_request_s,
        growth_low_ratio=growth[0],
        growth_ratio=growth[1],
        growth_high_ratio=growth[2],
        **{**defaults, **values},
    )


def delivery_fact(slug="po-1", *, site="dc01", kind="own", quantity=10, expected_on=START, slip=(0.0, 0.0), fill=1.0):
    return DeliveryFact(
        slug=slug,
        site=site,
        kind=kind,
        quantity=quantity,
        expected_on=expected_on,
        slip_p50_days=slip[0],
        slip_p90_days=slip[1],
        fill_ratio=fill,
    )


def snapshot(
    *,
    kinds=None,
    services=None,
    deliveries=(),
    sites=("dc01",),
    regions=("north",),
    site_regions=None,
    racks_per_site=10,
    rack_w=40_000.0,
    rack_u=48,
    hosts=None,
):
    """A fleet: `hosts` maps (site, kind) to a count, filled rack after rack under height and power."""
    kinds = kinds or (kind_fact("gpu"), kind_fact("own", chip="thead-ppu-810e"))
    services = services or (service_fact(),)
    site_regions = site_regions or dict.fromkeys(sites, regions[0])
    rack_site = np.repeat(np.arange(len(sites)), racks_per_site)
    host_rack, host_kind = [], []
    free_w, free_u = np.full(len(rack_site), rack_w), np.full(len(rack_site), rack_u)
    for (site, kind), count in (hosts if hosts is not None else {("dc01", "gpu"): 10}).items():
        k = [fact.slug for fact in kinds].index(kind)
        for _ in range(count):
            fits = (rack_site == sites.index(site)) & (free_w >= kinds[k].power_w) & (free_u >= kinds[k].height_u)
            rack = int(np.flatnonzero(fits)[0])
            free_w[rack] -= kinds[k].power_w
            free_u[rack] -= kinds[k].height_u
            host_rack.append(rack)
            host_kind.append(k)
    racks, count = len(rack_site), len(host_rack)
    none = np.zeros(0, dtype=np.int64)
    return FleetSnapshot(
        as_of=START,
        regions=tuple(RegionFact(slug, slug.capitalize()) for slug in regions),
        sites=tuple(SiteFact(slug, slug.upper(), site_regions[slug], 1.3) for slug in sites),
        kinds=tuple(kinds),
        services=tuple(services),
        deliveries=tuple(deliveries),
        retirements=(),
        policies=(),
        deployments=(),
        cards=(),
        row_keys=tuple(f"{slug}/h1/a" for slug in sites),
        rack_slugs=tuple(f"r{at:03d}" for at in range(racks)),
        rack_site=rack_site.astype(np.int64),
        rack_row=rack_site.astype(np.int64),
        rack_height_u=np.full(racks, rack_u, dtype=np.int64),
        rack_power_limit_w=np.full(racks, rack_w),
        rack_cooling_limit_w=np.full(racks, np.inf),
        rack_weight_limit_kg=np.full(racks, np.inf),
        rack_ports=np.full(racks, np.inf),
        rack_is_liquid=np.zeros(racks, dtype=bool),
        rack_first_day=np.full(racks, DAY_MIN, dtype=np.int64),
        rack_last_day=np.full(racks, DAY_MAX, dtype=np.int64),
        host_slugs=tuple(f"host-{at:04d}" for at in range(count)),
        host_rack=np.array(host_rack, dtype=np.int64),
        host_kind=np.array(host_kind, dtype=np.int64),
        host_position_u=np.zeros(count, dtype=np.int64),
        host_domain=np.full(count, -1, dtype=np.int64),
        host_first_day=np.full(count, DAY_MIN, dtype=np.int64),
        host_last_day=np.full(count, DAY_MAX, dtype=np.int64),
        domain_slugs=(),
        away_host=none,
        away_first_day=none,
        away_last_day=none,
        placement_host=none,
        placement_deployment=none,
        placement_replicas=none,
        placement_unit=none,
        placement_first_day=none,
        placement_last_day=none,
        power=TreeFacts.none(),
        cooling=TreeFacts.none(),
        network=TreeFacts.none(),
    )


def feeds(usable, racks, *, first_day=DAY_MIN, last_day=DAY_MAX):
    """Return a power tree of feeds alone: what each bears, and the rack that it feeds."""
    count = len(usable)
    days = np.broadcast_to(first_day, count), np.broadcast_to(last_day, count)
    none = np.zeros(0, dtype=np.int64)
    names = tuple(f"feed-{at}" for at in range(count))
    real = np.array(usable, dtype=np.float64), np.ones(count), np.zeros(count)
    links = none, none, np.zeros(0, dtype=bool), none, none
    return TreeFacts(
        names, ("feed",) * count, np.zeros(count, np.int64), *real, *days, *links, np.array(racks), np.arange(count)
    )


def problem(fleet=None, *, rate=None, spread=1.0, months=12, ready=None, homegrown=None, **values):
    """A question about a fleet. `rate[s][k]` in tok/s per host; `ready[s][k]` the first month allowed, None never."""
    fleet = fleet or snapshot()
    shape = (len(fleet.services), len(fleet.kinds))
    rate = np.full(shape, 1000.0) if rate is None else np.array(rate, dtype=np.float64)
    homegrown = np.array([kind.slug.startswith("own") for kind in fleet.kinds]) if homegrown is None else homegrown
    allowed = np.zeros((*shape, months), dtype=bool)
    for s in range(shape[0]):
        for k in range(shape[1]):
            first = 0 if ready is None else ready[s][k]
            if first is not None:
                allowed[s, k, first:] = True
    last = months_list(START, date(START.year + (months - 1) // 12, (months - 1) % 12 + 1, 1))
    defaults = {"reserve_ratio": 0.0, "draws": 0, "in_scope": np.ones(shape[0], dtype=bool)}
    return Problem(
        snapshot=fleet,
        months=last,
        rate_tok_s=rate,
        rate_low_tok_s=rate / spread,
        rate_high_tok_s=rate * spread,
        output_tok=np.full(shape[0], 100.0),
        allowed=allowed,
        homegrown=homegrown,
        **{**defaults, **values},
    )


def fleet_rows(*, hosts=4):
    """A small fleet in the database: one site with one row of two racks, GPU hosts, one service ready on one chip."""
    region = Region.objects.create(slug="north", name="North")
    site = Site.objects.create(slug="dc01", name="Zhangbei 1", region=region)
    row = Row.objects.create(hall=Hall.objects.create(site=site, slug="h1", name="Hall 1"), slug="a")
    racks = [Rack.objects.create(row=row, slug=f"dc01-a{at}", position=at, power_limit_w=40_000) for at in (1, 2)]
    kinds = [
        HostType.objects.create(
            slug=slug, name=slug, chip=chip, chips=chips, height_u=6, power_w=power_w, idle_w=1500, source="test"
        )
        for slug, chip, chips, power_w in (("h20-8x", "h20-96", 8, 5500), ("ppu-16x", "thead-ppu-810e", 16, 8600))
    ]
    for at in range(hosts):
        Host.objects.create(slug=f"host-{at}", host_type=kinds[0], rack=racks[at % 2])
    service = Service.objects.create(
        slug="chat",
        name="Chat",
        region=region,
        model="qwen3-32b",
        profile="azure-conv",
        ttft_s=2,
        tpot_s=0.05,
        demand_on=START,
        demand_request_s=20,
        growth_low_ratio=0.02,
        growth_ratio=0.05,
        growth_high_ratio=0.08,
    )
    Readiness.objects.create(service=service, chip="thead-ppu-810e", ready_on=date(2027, 4, 1))
    return {"region": region, "site": site, "racks": racks, "kinds": kinds, "service": service}
