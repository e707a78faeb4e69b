"""The regions that a question is about: those with a site and with a service in scope. Values in, values out."""

from dataclasses import dataclass

import numpy as np

from fleet.snapshot import IntArray
from scenarios.plans import Problem


@dataclass(frozen=True, eq=False)
class RegionScope:
    """One region: its position, and the positions of its sites and of its services in scope."""

    region: int
    sites: IntArray
    services: IntArray


def scopes_of(problem: Problem) -> list[RegionScope]:
    """Return the regions asked about, in the order of the snapshot."""
    snapshot, found = problem.snapshot, []
    for at, region in enumerate(snapshot.regions):
        sites = [i for i, site in enumerate(snapshot.sites) if site.region == region.slug]
        services = [i for i, s in enumerate(snapshot.services) if s.region == region.slug and problem.in_scope[i]]
        if sites and services:
            found.append(RegionScope(at, np.array(sites, dtype=np.int64), np.array(services, dtype=np.int64)))
    return found


def check_problem(problem: Problem) -> None:
    """Raise ValueError, with the reason, if there is nothing to plan for."""
    if not problem.months:
        raise ValueError("nothing to plan: the scenario has no month")
    if not problem.snapshot.sites:
        raise ValueError("nothing to plan: the fleet has no site")
    if not problem.in_scope.any():
        raise ValueError("nothing to plan: no service in scope demands anything")
    homes = {site.region for site in problem.snapshot.sites}
    if not any(
        s.region in homes for s, is_asked in zip(problem.snapshot.services, problem.in_scope, strict=True) if is_asked
    ):
        raise ValueError("nothing to plan: no region of the services in scope has a site")
    for service, is_asked in zip(problem.snapshot.services, problem.in_scope, strict=True):
        if is_asked and not service.demand_request_s > 0:
            raise ValueError(f"service {service.slug} is asked about, but demands nothing")
