"""What is left after the loss of a failure domain. Values in, values out."""

from collections.abc import Sequence

import numpy as np

from scenarios.planning.arrivals import Ground
from scenarios.planning.program import BoolArray, FloatArray


def survivors(ground: Ground, hosts: FloatArray, places: BoolArray) -> dict[str, FloatArray]:
    """Return the hosts of some places that are left after the loss of each domain that touches them, float64[K, T]."""
    left = {}
    for domain in ground.problem.domains:
        keeps = places.astype(float)
        for row in domain.lost:
            keeps[ground.place_at[row.place]] *= 1 - row.ratio
        if (keeps < places).any():
            left[domain.slug] = np.einsum("p,pkt->kt", keeps, hosts)
    return left


def least(left: dict[str, FloatArray]) -> dict[str, FloatArray]:
    """Return the domains after whose loss no other leaves fewer hosts of every kind in every period."""
    kept: dict[str, FloatArray] = {}
    for slug, hosts in left.items():
        if any((other <= hosts).all() for other in kept.values()):
            continue
        kept = {one: other for one, other in kept.items() if not (hosts <= other).all()}
        kept[slug] = hosts
    return kept


def regions_places(ground: Ground, regions: Sequence[str]) -> dict[str, BoolArray]:
    """Return which places every region has, bool[P]."""
    of = np.array([ground.problem.sites[site].region for site in ground.site_of.tolist()], dtype=object)
    return {slug: np.asarray(of == slug, dtype=bool) for slug in regions}
