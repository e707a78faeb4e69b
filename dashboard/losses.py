"""What is lost with a node or a place, as rows of a page: racks, hosts, replicas, output. Values in, values out."""

from collections.abc import Container, Sequence
from dataclasses import dataclass

import numpy as np

from dashboard.limits import SiteDay, amount_text
from dashboard.links import list_url
from dashboard.places import kinds_of
from dashboard.presenters import UNKNOWN, quantity_text
from dashboard.selectors import KindCount
from fleet.access import ELSEWHERE
from fleet.domains import BlastRadius


@dataclass(frozen=True, slots=True)
class LostRack:
    """A rack that goes: where it stands, what is in it."""

    name: str
    url: str
    row: str
    row_url: str
    hosts: int
    power: str


@dataclass(frozen=True, slots=True)
class LostOutput:
    """What a tier or a service gives before, and what of it goes."""

    name: str
    tier: str
    url: str
    replicas: int
    lost_replicas: int
    before: str
    lost: str
    share: str
    state: str


@dataclass(frozen=True, slots=True)
class Loss:
    """Everything that goes with one node."""

    racks: list[LostRack]
    hosts: int
    kinds: list[KindCount]
    power: str
    replicas: int
    lost_replicas: int
    tiers: list[LostOutput]
    services: list[LostOutput]
    sentence: str


def loss_of(found: Sequence[tuple[SiteDay, BlastRadius]], services_seen: Container[str]) -> Loss:
    """Return what is lost over some sites: that of one node lies in one, a region has several.

    Services that are not seen are one row, without a name.
    """
    racks = [_rack(site, rack) for site, lost in found for rack in lost.racks.tolist()]
    hosts = sum(len(lost.hosts) for _, lost in found)
    power_w = sum(float(site.snapshot.kind_power_w[site.snapshot.host_kind[lost.hosts]].sum()) for site, lost in found)
    tiers, services = _outputs(found, services_seen)
    lost_tok_s = sum(tier.lost_tok_s for _, lost in found for tier in lost.tiers)
    before_tok_s = sum(tier.before_tok_s for _, lost in found for tier in lost.tiers)
    replicas = int(sum(lost.replicas_lost.sum() for _, lost in found))
    return Loss(
        racks=racks,
        hosts=hosts,
        kinds=_kinds(found),
        power=amount_text(power_w, "W"),
        replicas=int(sum(lost.replicas_before.sum() for _, lost in found)),
        lost_replicas=replicas,
        tiers=tiers,
        services=services,
        sentence=_sentence(len(racks), hosts, replicas, lost_tok_s, before_tok_s),
    )


def _sentence(racks: int, hosts: int, replicas: int, lost_tok_s: float, before_tok_s: float) -> str:
    if not racks and not hosts:
        return "Nothing goes dark: no rack and no host is lost."
    said = [_count(racks, "rack"), _count(hosts, "host"), _count(replicas, "replica")]
    lost = f"{quantity_text(lost_tok_s, 'tok/s')} of {quantity_text(before_tok_s, 'tok/s')} served here"
    share = f" ({quantity_text(lost_tok_s / before_tok_s, 'ratio')})" if before_tok_s else ""
    return f"{', '.join(said[:-1])} and {said[-1]} are lost: {lost}{share}."


def _count(number: int, word: str) -> str:
    return f"{number:,} {word}{'' if number == 1 else 's'}"


def _rack(site: SiteDay, rack: int) -> LostRack:
    slug, key = site.snapshot.rack_slugs[rack], site.snapshot.row_keys[site.snapshot.rack_row[rack]]
    return LostRack(
        name=slug,
        url=site.links.rack(slug),
        row=key,
        row_url=site.links.row(key),
        hosts=int(site.loads.rack_hosts[rack]),
        power=amount_text(float(site.loads.rack_w[rack]), "W"),
    )


def _kinds(found: Sequence[tuple[SiteDay, BlastRadius]]) -> list[KindCount]:
    counts: dict[tuple[str, str], int] = {}
    for site, lost in found:
        for kind in kinds_of(site, lost.hosts):
            counts[kind.kind, kind.side] = counts.get((kind.kind, kind.side), 0) + kind.hosts
    return [KindCount(kind, side, hosts) for (kind, side), hosts in sorted(counts.items())]


def _outputs(
    found: Sequence[tuple[SiteDay, BlastRadius]], services_seen: Container[str]
) -> tuple[list[LostOutput], list[LostOutput]]:
    """Return output before and lost by tier and by service."""
    tiers: dict[tuple[str, str], np.ndarray] = {}
    services: dict[tuple[str, str], np.ndarray] = {}
    for site, lost in found:
        tier_of = {service.slug: service.tier for service in site.snapshot.services}
        for at, deployment in enumerate(site.snapshot.deployments):
            before, gone = int(lost.replicas_before[at]), int(lost.replicas_lost[at])
            row = np.array([before, gone, before * deployment.replica_tok_s, gone * deployment.replica_tok_s], float)
            tier = tier_of.get(deployment.service, "")
            service = (deployment.service, tier) if deployment.service in services_seen else (ELSEWHERE, UNKNOWN)
            for table, key in ((tiers, (tier, tier)), (services, service)):
                table[key] = table.get(key, np.zeros(4)) + row
    return [_output(*key, row) for key, row in sorted(tiers.items())], _lost_first(services)


def _lost_first(services: dict[tuple[str, str], np.ndarray]) -> list[LostOutput]:
    ranked = sorted(services.items(), key=lambda item: (-item[1][3], item[0]))
    return [_output(*key, row) for key, row in ranked if row[0]]


def _services_url(name: str, tier: str) -> str:
    if (name, tier) == (ELSEWHERE, UNKNOWN):
        return ""
    return list_url("services", tier=tier) if name == tier else list_url("services", slug=name)


def _output(name: str, tier: str, row: np.ndarray) -> LostOutput:
    replicas, lost_replicas, before_tok_s, lost_tok_s = row.tolist()
    share = lost_tok_s / before_tok_s if before_tok_s else 0.0
    return LostOutput(
        name=name,
        tier=tier,
        url=_services_url(name, tier),
        replicas=int(replicas),
        lost_replicas=int(lost_replicas),
        before=quantity_text(before_tok_s, "tok/s"),
        lost=quantity_text(lost_tok_s, "tok/s"),
        share=quantity_text(share, "ratio"),
        state="over" if share > 0.5 else "near" if share > 0 else "",
    )
