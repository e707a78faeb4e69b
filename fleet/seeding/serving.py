"""Services of a region, where they run, and on which chips their software is ready."""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from functools import cache
from itertools import pairwise
from typing import Any

from accelerator import PROFILES, ChipSpec, model_get
from fleet.models import Deployment, Endpoint, Placement, Readiness, Service
from fleet.seeding.world import Kind, SitePlace, Standing, World

PLACED_RATIO = 0.95  # of the hosts of a kind at a site; the rest are spare
BUSY_RATIO = 0.55  # demand of the busiest hour over what is placed
PARTS = 64  # of a service's traffic, shared out over endpoints: exact in binary
SITES_MOST = 4  # of a service
READY_RATIO = 0.85  # of the chips of a region, those on which a service is ready one day
WEIGHTS_RATIO = 0.75  # of the memory that weights may fill
LARGE_PARAMS, WIDE_PARAMS, WIDE_HOSTS = 1e11, 5e11, 4
PEAK_RATIO = 0.12  # of the peak that serving reaches; an H20 host then gives 2/3 of what is published for DeepSeek R1


@dataclass(frozen=True, slots=True)
class Replica:
    """One replica of a model on hosts of a kind: its config, chips, whole hosts that it spans or 0, output."""

    config: str
    chips: int
    hosts: int
    tok_s: float


@cache
def replica_of(model: str, chip: ChipSpec, host_chips: int) -> Replica:
    """Return the smallest replica of a model that leaves a quarter of the memory to the KV cache. Its rate is rough."""
    spec, precision = model_get(model), precision_of(model, chip)
    need_chips = spec.weights_byte(precision) / (WEIGHTS_RATIO * chip.memory_byte.value)
    chips = 2 ** max(0, math.ceil(math.log2(need_chips)))
    hosts = chips // host_chips if chips > host_chips else 0
    if spec.experts and spec.params_total > WIDE_PARAMS and chip.scale_up_chips > host_chips:
        hosts = max(WIDE_HOSTS, hosts)  # experts are spread over the scale-up domain
    chips = hosts * host_chips or chips
    tok_s = PEAK_RATIO * chip.peak_flop_s[precision].value * chips / (2 * spec.params_active)
    if hosts and spec.experts:
        sizes = f"dp{chips} ep{chips}"
    else:
        sizes = f"tp{min(chips, host_chips)}" + (f" pp{hosts}" if hosts > 1 else "")
    return Replica(f"{precision} {sizes}", chips, hosts, three_digits(tok_s))


def precision_of(model: str, chip: ChipSpec) -> str:
    """Return in which precision a model runs on a chip: as it was published, or in INT8 where it is large."""
    spec = model_get(model)
    if spec.native_precision == "fp8" and "fp8" in chip.peak_flop_s:
        return "fp8"
    large = spec.native_precision == "fp8" or spec.params_total > LARGE_PARAMS
    return "int8" if large and "int8" in chip.peak_flop_s else "bf16"


def three_digits(value: float) -> float:
    """Return a value to three digits: no rough figure has more."""
    return float(f"{value:.3g}")


@dataclass
class Share:
    """A service's hosts of one kind at one site."""

    plan: Mapping[str, Any]
    site: SitePlace
    kind: Kind
    hosts: list[Standing]

    @property
    def replica(self) -> Replica:
        """How the service runs there."""
        return replica_of(self.plan["model"], self.kind.chip, self.kind.chips)

    @property
    def tok_s(self) -> float:
        """Output of all its hosts. [tok/s]"""
        replica = self.replica
        return replica.tok_s * len(self.hosts) * self.kind.chips / replica.chips


def services_make(world: World, region: int, region_slug: str, sites: Sequence[SitePlace]) -> None:
    """Write the services of a region, where they run, and on which chips their software is ready."""
    plans = world.plan["services"]
    at = world.between(0, len(plans) - 1)
    picked = [plans[(at + more) % len(plans)] for more in range(world.plan["services_per_region"])]
    where = {
        plan["slug"]: world.rng.sample(list(sites), min(len(sites), world.between(1, SITES_MOST))) for plan in picked
    }
    where[picked[0]["slug"]] = list(sites)
    kinds = [world.kinds[slug] for site in sites for slug in site.standing]
    chips = {kind.chip.slug for kind in kinds if kind.chip.homegrown}
    ready = {plan["slug"]: ready_draw(world, plan, chips) for plan in picked}
    shares = [
        share
        for site in sites
        for share in shares_of(world, site, [p for p in picked if site in where[p["slug"]]], ready)
    ]
    for plan in picked:
        own = [share for share in shares if share.plan is plan]
        mean_tok = PROFILES[plan["profile"]].output.mean_tok
        demand = max(0.1, BUSY_RATIO * sum(share.tok_s for share in own) / mean_tok)
        low, middle, high = plan["growth"]
        values = {name: plan[name] for name in ("name", "model", "profile", "tier", "ttft_s", "tpot_s")}
        slug = f"{world.prefix}{region_slug}-{plan['slug']}"
        service = world.rows.add(
            Service,
            slug=slug,
            region_id=region,
            demand_on=world.start.replace(day=1),
            demand_request_s=three_digits(demand),
            growth_low_ratio=low,
            growth_ratio=middle,
            growth_high_ratio=high,
            movable=plan.get("movable", True),
            note=plan.get("note", ""),
            **values,
        )
        for chip, day in ready[plan["slug"]].items():
            world.rows.add(Readiness, service_id=service, chip=chip, ready_on=day)
        endpoints_make(world, service, slug, own)


def ready_draw(world: World, plan: Mapping[str, Any], chips: set[str]) -> dict[str, date]:
    """Draw when a service's software is ready on the homegrown chips of its region; on some it never is."""
    if not plan.get("movable", True):
        return {}
    return {
        chip: world.day(world.between(*world.plan["ready"][chip]))
        for chip in sorted(chips)
        if world.rng.random() < READY_RATIO
    }


def shares_of(
    world: World, site: SitePlace, plans: Sequence[Mapping[str, Any]], ready: Mapping[str, Mapping[str, date]]
) -> Iterator[Share]:
    """Yield who serves what at a site: of each kind the hosts by the services' weights, and some for nobody."""
    for slug, hosts in site.standing.items():
        kind = world.kinds[slug]
        chip = kind.chip.slug
        able = [
            plan for plan in plans if not kind.chip.homegrown or ready[plan["slug"]].get(chip, date.max) <= world.start
        ]
        placed = [host for host in hosts if host.whole]
        placed = placed[: math.floor(len(placed) * PLACED_RATIO)]
        total = sum(plan["weight"] for plan in able)
        cuts = [0]
        for plan in able:
            cuts.append(cuts[-1] + plan["weight"])
        for plan, (low, high) in zip(able, pairwise(cuts), strict=True):
            own = placed[len(placed) * low // total : len(placed) * high // total]
            hosts_needed = replica_of(plan["model"], kind.chip, kind.chips).hosts
            if hosts_needed:
                own = own[: len(own) // hosts_needed * hosts_needed]
            if own:
                yield Share(plan, site, kind, own)


def endpoints_make(world: World, service: int, slug: str, shares: Sequence[Share]) -> None:
    """Write a service's endpoints with shares of traffic that add up to all of it, their deployments and placements."""
    at_site: dict[int, list[Share]] = defaultdict(list)
    for share in shares:
        at_site[share.site.number].append(share)
    total = sum(share.tok_s for share in shares)
    parts = {number: int(PARTS * sum(share.tok_s for share in own) / total) for number, own in at_site.items()}
    for number, own in at_site.items():
        largest = max(parts, key=lambda number: parts[number])
        part = parts[number] + (PARTS - sum(parts.values()) if number == largest else 0)
        name = f"{slug}-{number:02d}"
        endpoint = world.rows.add(
            Endpoint, slug=name, service_id=service, site_id=own[0].site.id, share_ratio=part / PARTS
        )
        for share in own:
            replica = share.replica
            deployment = world.rows.add(
                Deployment,
                slug=f"{name}-{share.kind.slug}",
                endpoint_id=endpoint,
                host_type_id=share.kind.id,
                config=replica.config,
                replica_chips=replica.chips,
                replica_tok_s=replica.tok_s,
            )
            for at, host in enumerate(share.hosts):
                world.rows.add(
                    Placement,
                    deployment_id=deployment,
                    host_id=host.id,
                    replicas=1 if replica.hosts else share.kind.chips // replica.chips,
                    unit=at // replica.hosts + 1 if replica.hosts else None,
                    in_service_on=host.first,
                    out_of_service_on=host.last,
                )
