"""The demo fleet of data/demo.yaml: two regions, four sites, seven host types, twelve services."""

from collections.abc import Iterator, Mapping
from datetime import date, timedelta
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from django.db import transaction

from fleet.models import Delivery, Hall, Host, HostType, Rack, Readiness, Region, Row, Service, Site

DEMO_PATH = Path(__file__).parent / "data" / "demo.yaml"
DELIVERY_DAY = timedelta(days=14)  # orders are due in the middle of their month
RACK_HEIGHT_U = 48


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
    regions = {row["slug"]: Region.objects.create(**row) for row in plan["regions"]}
    kinds = {
        row["slug"]: HostType.objects.get_or_create(slug=row["slug"], defaults=row)[0] for row in plan["host_types"]
    }
    sites = {}
    for row in plan["sites"]:
        halls = row["halls"]
        values = {"name": row["name"], "region": regions[row["region"]], "pue_ratio": row["pue_ratio"]}
        sites[row["slug"]] = Site.objects.create(slug=row["slug"], **values)
        for hall in halls:
            _hall_build(sites[row["slug"]], hall, kinds)
    for row in plan["deliveries"]:
        values = {key: value for key, value in row.items() if key not in {"site", "host_type", "month"}}
        expected_on = _later(start, row["month"]) + DELIVERY_DAY
        Delivery.objects.create(
            site=sites[row["site"]], host_type=kinds[row["host_type"]], expected_on=expected_on, **values
        )
    for row in plan["services"]:
        _service_build(row, regions[row["region"]], start)


def demo_fleet_remove() -> None:
    """Remove the demo fleet; host types that other hosts use stay."""
    regions = _slugs("regions")
    Service.objects.filter(region__slug__in=regions).delete()
    Delivery.objects.filter(site__region__slug__in=regions).delete()
    Host.objects.filter(rack__row__hall__site__region__slug__in=regions).delete()
    Rack.objects.filter(row__hall__site__region__slug__in=regions).delete()
    Row.objects.filter(hall__site__region__slug__in=regions).delete()
    Hall.objects.filter(site__region__slug__in=regions).delete()
    Site.objects.filter(region__slug__in=regions).delete()
    Region.objects.filter(slug__in=regions).delete()
    HostType.objects.filter(slug__in=_slugs("host_types"), hosts__isnull=True, deliveries__isnull=True).delete()


def _later(start: date, months: int) -> date:
    count = start.year * 12 + start.month - 1 + months
    return date(count // 12, count % 12 + 1, 1)


def _service_build(row: Mapping[str, Any], region: Region, start: date) -> None:
    values = {key: value for key, value in row.items() if key not in {"region", "growth", "ready_month"}}
    low, middle, high = row["growth"]
    service = Service(
        region=region,
        demand_on=start,
        growth_low_ratio=low,
        growth_ratio=middle,
        growth_high_ratio=high,
        **values,
    )
    service.full_clean()
    service.save()
    for chip, months in row["ready_month"].items():
        Readiness.objects.create(service=service, chip=chip, ready_on=_later(start, months))


def _hall_build(site: Site, plan: Mapping[str, Any], kinds: Mapping[str, HostType]) -> None:
    hall = Hall.objects.create(site=site, slug=plan["slug"], name=plan["name"], cooling=plan["cooling"])
    racks: list[Rack] = []
    for at in range(plan["rows"]):
        row = Row.objects.create(hall=hall, slug=chr(ord("a") + at), position=at)
        racks += Rack.objects.bulk_create(
            Rack(
                row=row,
                slug=f"{site.slug}-{hall.slug}-{row.slug}{number:02d}",
                position=number,
                height_u=RACK_HEIGHT_U,
                power_limit_w=plan["rack_kw"] * 1000,
            )
            for number in range(1, plan["racks_per_row"] + 1)
        )
    Host.objects.bulk_create(_hosts(f"{site.slug}-{hall.slug}", plan["hosts"], racks, kinds))


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
