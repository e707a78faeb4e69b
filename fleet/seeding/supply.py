"""What comes and goes: retirements, orders with their deliveries, and what policy forbids."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from fleet.models import Delivery, Order, PolicyEvent, Retirement
from fleet.seeding.world import Kind, SitePlace, World


def retirements_make(world: World, site: SitePlace) -> None:
    """Write the waves whose hosts are named, and one for later whose are not."""
    for (slug, day), quantity in site.leaving.items():
        world.rows.add(
            Retirement,
            slug=f"{site.slug}-leave-{slug}-{day:%y%m}",
            site_id=site.id,
            host_type_id=world.kinds[slug].id,
            quantity=quantity,
            retire_on=day,
            done_on=world.start - timedelta(days=world.between(5, 60)),
            note="hosts are named",
        )
    for slug, hosts in site.standing.items():
        staying = sum(1 for host in hosts if host.last is None)
        if not world.kinds[slug].chip.homegrown and staying >= 20:
            world.rows.add(
                Retirement,
                slug=f"{site.slug}-later-{slug}",
                site_id=site.id,
                host_type_id=world.kinds[slug].id,
                quantity=staying // 10,
                retire_on=world.day(world.between(14, 23)),
            )


@dataclass(frozen=True, slots=True)
class Coming:
    """Hosts of a kind that are to come to a site in some month from the start."""

    month: int
    site: SitePlace
    quantity: int


def orders_make(world: World) -> None:
    """Write orders by half-years with their deliveries, over two years, to sites that have such hosts."""
    orders: dict[tuple[str, int], list[Coming]] = defaultdict(list)
    for site in world.sites:
        for slug, hosts in site.standing.items():
            kind = world.kinds[slug]
            if "slip" in world.plan["chips"][kind.chip.slug]:
                for _ in range(world.between(1, 4)):
                    month = world.between(-4, 23 if kind.until is None else kind.until - 2)
                    quantity = max(1, round(len(hosts) * (0.01 + 0.03 * world.rng.random())))
                    orders[slug, month // 6].append(Coming(month, site, quantity))
    for number, (slug, half) in enumerate(sorted(orders), 1):
        coming = sorted(orders[slug, half], key=lambda one: (one.month, one.site.number))
        order_make(world, f"{world.prefix}po-{number:03d}", world.kinds[slug], half, coming)


def order_make(world: World, slug: str, kind: Kind, half: int, coming: Sequence[Coming]) -> None:
    """Write an order and its deliveries."""
    world.rows.region_pk = None
    order = world.rows.add(
        Order,
        slug=slug,
        supplier=kind.chip.vendor,
        host_type_id=kind.id,
        quantity=sum(one.quantity for one in coming) + world.between(0, 5),
        ordered_on=world.day(half * 6 - world.between(6, 9)) if half < 1 else world.day(-world.between(0, 4)),
        unit_price=kind.price,
        currency=kind.currency,
    )
    facts = world.plan["chips"][kind.chip.slug]
    for number, one in enumerate(coming, 1):
        expected_on = world.day(one.month) + timedelta(days=world.between(0, 20))
        p50, p90 = facts["slip"]
        fill, fill_p10 = facts["fill"]
        received_on = min(expected_on + timedelta(days=p50), world.start) if one.month < -1 else None
        world.rows.region_pk = one.site.region
        world.rows.add(
            Delivery,
            slug=f"{slug}-{number}",
            order_id=order,
            site_id=one.site.id,
            host_type_id=kind.id,
            quantity=one.quantity,
            expected_on=expected_on,
            slip_p50_days=float(p50),
            slip_p90_days=float(p90),
            received_on=received_on,
            fill_ratio=fill,
            fill_p10_ratio=fill_p10,
            correlation_group=facts["group"],
        )


def policy_make(world: World) -> None:
    """Write what policy forbids, by a date or by months from the start."""
    for row in world.plan["policy"]:
        region = world.regions.get(row["region"]) if "region" in row else None
        if "region" in row and region is None:
            continue  # a small fleet has fewer regions
        until_month = row.get("until_month")
        world.rows.region_pk = region
        world.rows.add(
            PolicyEvent,
            slug=f"{world.prefix}{row['slug']}",
            chip=row["chip"],
            verb=row["verb"],
            starts_on=row.get("starts_on") or world.day(row["month"]),
            ends_on=row.get("ends_on") or (None if until_month is None else world.day(until_month)),
            region_id=region,
            source=row["source"],
        )
    world.rows.region_pk = None
