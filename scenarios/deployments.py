"""Where services run at first: hosts given to services in order of tier, until each has what it needs.

A start for a fleet whose deployments nobody has entered: the demo. Plans decide for themselves.
"""

from collections import defaultdict
from collections.abc import Iterator
from datetime import date

import numpy as np

from accelerator import Rating
from fleet.models import Deployment, Endpoint, Host, HostType, Placement, Service, Site
from fleet.selectors import snapshot_take
from fleet.services import rows_write
from fleet.snapshot import FleetSnapshot, ServiceFact
from scenarios.ratings import RatingTable, engines_in_use, ratings_take, replicas_per_host

TIERS = ("gold", "standard", "batch")
Given = dict[tuple[int, int, int], list[int]]
"""Positions of hosts by (service, site, kind)."""


def deployments_make(day: date) -> None:
    """Write endpoints, deployments and placements that serve each service's busiest hour as far as hosts go."""
    snapshot = snapshot_take(day)
    all_of_them = np.ones(len(snapshot.services), dtype=bool)
    table = ratings_take(snapshot, in_scope=all_of_them, asked=all_of_them, trace_mix=None, in_use=engines_in_use())
    _write(snapshot, table, _hosts_given(snapshot, table, day))


def _hosts_given(snapshot: FleetSnapshot, table: RatingTable, day: date) -> Given:
    """Give hosts to services of their region: GPUs first, the kind that does most for the service first."""
    free = list(np.flatnonzero(snapshot.hosts_serving(day)))
    given: Given = defaultdict(list)
    for s in sorted(range(len(snapshot.services)), key=lambda s: TIERS.index(snapshot.services[s].tier)):
        service = snapshot.services[s]
        missing_tok_s = service.demand_request_s * float(table.output_tok[s])
        kinds = [
            k for k in range(len(snapshot.kinds)) if table.rate_tok_s[s, k] > 0 and _may(snapshot, table, s, k, day)
        ]
        for k in sorted(kinds, key=lambda k: (bool(table.homegrown[k]), -table.rate_tok_s[s, k])):
            for host in [h for h in free if snapshot.host_kind[h] == k]:
                site = int(snapshot.rack_site[snapshot.host_rack[host]])
                if missing_tok_s <= 0:
                    break
                if snapshot.sites[site].region != service.region:
                    continue
                given[s, site, k].append(int(host))
                free.remove(host)
                missing_tok_s -= float(table.rate_tok_s[s, k])
    return given


def _may(snapshot: FleetSnapshot, table: RatingTable, s: int, k: int, day: date) -> bool:
    service: ServiceFact = snapshot.services[s]
    ready_on = service.ready_on.get(snapshot.kinds[k].chip)
    return not table.homegrown[k] or (service.movable and ready_on is not None and ready_on <= day)


def _write(snapshot: FleetSnapshot, table: RatingTable, given: Given) -> None:
    services, sites = Service.objects.in_bulk(field_name="slug"), Site.objects.in_bulk(field_name="slug")
    kinds, hosts = HostType.objects.in_bulk(field_name="slug"), Host.objects.in_bulk(field_name="slug")
    endpoints = {
        (s, site): Endpoint(
            slug=f"{snapshot.services[s].slug}-{snapshot.sites[site].slug}",
            service=services[snapshot.services[s].slug],
            site=sites[snapshot.sites[site].slug],
            share_ratio=share,
        )
        for s, site, share in _shares(table, given)
    }
    rows_write(Endpoint, create=endpoints.values())
    deployments = {}
    for s, site, k in given:
        rating: Rating = table.ratings[s][k]
        deployments[s, site, k] = Deployment(
            slug=f"{endpoints[s, site].slug}-{snapshot.kinds[k].slug}",
            endpoint=endpoints[s, site],
            host_type=kinds[snapshot.kinds[k].slug],
            config=rating.label,
            replica_chips=rating.chips,
            replica_tok_s=rating.tok_s.p50,
        )
    rows_write(Deployment, create=deployments.values())
    rows_write(
        Placement,
        create=[
            Placement(
                deployment=deployments[s, site, k],
                host=hosts[snapshot.host_slugs[host]],
                replicas=replicas_per_host(table.ratings[s][k], snapshot.kinds[k]),
            )
            for (s, site, k), found in given.items()
            for host in found
        ],
    )


def _shares(table: RatingTable, given: Given) -> Iterator[tuple[int, int, float]]:
    """Yield service, site and the share of its traffic: as its hosts there can serve, cut to four digits. [-]"""
    tok_s: dict[tuple[int, int], float] = defaultdict(float)
    total: dict[int, float] = defaultdict(float)
    for (s, site, k), found in given.items():
        tok_s[s, site] += len(found) * float(table.rate_tok_s[s, k])
        total[s] += len(found) * float(table.rate_tok_s[s, k])
    for (s, site), part in tok_s.items():
        yield s, site, int(part / total[s] * 1e4) / 1e4
