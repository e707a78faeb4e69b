"""What a world can serve in its expected future, if nothing is done: the capacity planner's own figures.

Values in, values out.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import numpy as np

from scenarios.planning.arrivals import Ground
from scenarios.planning.draws import Future, Futures, FutureValues
from scenarios.planning.headroom import Region, Shares, regions_of
from scenarios.planning.problem import PlanProblem
from scenarios.planning.program import FloatArray
from scenarios.planning.survivors import least, regions_places, survivors

Scope = tuple[str, str]  # region, tier


@dataclass(frozen=True, eq=False)
class Judged:
    """What is served of every tier of every region; the tier of the whole mix is empty.

    Attributes
    ----------
    scopes : tuple of (region, tier)
        Rows of the arrays.
    share, demand_tok_s, unserved_tok_s, lost_tok_s : float64[scopes, T]
        As `headroom.Shares` has them. [-], [tok/s]
    hosts : float64[P, K, T]
        Hosts that stand, deliveries among them as limits let them in. [-]
    ground : Ground
        Positions of places, kinds and sites.
    failover : mapping of region to Survival
        Of regions with a failure domain and services of the protected tier.
    """

    scopes: tuple[Scope, ...]
    share: FloatArray
    demand_tok_s: FloatArray
    unserved_tok_s: FloatArray
    lost_tok_s: FloatArray
    hosts: FloatArray
    ground: Ground
    failover: dict[str, "Survival"]


@dataclass(frozen=True, eq=False)
class Survival:
    """The protected tier after the loss of the domain that hurts most, by period: its share, and which domain."""

    share: FloatArray
    domains: tuple[str, ...]


class World:
    """A problem in its expected future."""

    def __init__(self, problem: PlanProblem) -> None:
        self.problem, self.ground = problem, Ground(problem)
        self.future: Future = Futures(problem, FutureValues()).expected()
        self.regions = tuple(Region(problem, slug) for slug in regions_of(problem))
        self.places = regions_places(self.ground, [one.slug for one in self.regions])
        walked = self.ground.walk(self.future)
        self.hosts: FloatArray = (self.ground.standing + walked.new).astype(np.float64)
        self.up: FloatArray = self.ground.up * self.hosts

    def usable(self, region: str, out: FloatArray | None = None) -> FloatArray:
        """Return the hosts of a region that may be loaded, `out` [P, K, T] taken off, float64[K, T]. [-]"""
        up = self.up if out is None else np.maximum(self.up - out, 0.0)
        return np.asarray(up[self.places[region]].sum(axis=0) * (1 - self.problem.rules.reserve_ratio))

    def survival(self, region: Region, out: FloatArray | None = None) -> Survival | None:
        """Return how the protected tier fares after each loss; None without a domain or a service of that tier."""
        tier = self.problem.rules.failover_tier
        up = self.up if out is None else np.maximum(self.up - out, 0.0)
        left = survivors(self.ground, up, self.places[region.slug])
        if not left or tier not in region.tiers:
            return None
        kept = least(left)
        found = np.stack([region.alone(self.future, hosts, tier).share[0] for hosts in kept.values()])
        worst = found.argmin(axis=0)
        names = list(kept)
        return Survival(share=found.min(axis=0), domains=tuple(names[at] for at in worst.tolist()))


def judge(problem: PlanProblem) -> Judged:
    """Return what the expected future of a problem can serve if nothing is decided."""
    world = World(problem)
    found = [one.learn(world.future, world.usable(one.slug)) for one in world.regions]
    joined = _joined(found)
    failover = {one.slug: world.survival(one) for one in world.regions}
    return Judged(
        scopes=tuple((one.slug, tier) for one in world.regions for tier in one.tiers),
        share=joined.share,
        demand_tok_s=joined.demand_tok_s,
        unserved_tok_s=joined.unserved_tok_s,
        lost_tok_s=joined.lost_tok_s,
        hosts=world.hosts,
        ground=world.ground,
        failover={slug: one for slug, one in failover.items() if one is not None},
    )


def _joined(found: Sequence[Shares]) -> Shares:
    return Shares(*(np.concatenate([getattr(one, part.name) for one in found]) for part in fields(Shares)))
