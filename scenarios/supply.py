"""Racks through the months: what stands, what arrives, what finds no rack. Values in, values out."""

from collections.abc import Sequence
from datetime import date

import numpy as np

from fleet.fits import hosts_fit
from fleet.snapshot import FleetSnapshot, FloatArray, IntArray
from scenarios.futures import Future


class Ground:
    """What is decided already, month by month: the part that every future shares.

    Attributes
    ----------
    hosts, site_hosts : int64[T, R, K], int64[T, sites, K]
        Hosts that stand in each rack, and at each site, in each month. [-]
    free_w, free_u : float64[T, R], int64[T, R]
        Power and height that stay free from the month on, hosts dated later included; 0 in a closed rack. [W], [U]
    rows_of_site : tuple of slice or int64[], length sites
        The racks of each site: a slice where they follow each other, as they do in a snapshot.
    frees : bool[T, sites]
        Whether any rack of a site has more free than in the month before.
    """

    def __init__(self, snapshot: FleetSnapshot, months: Sequence[date]) -> None:
        self.snapshot, self.months = snapshot, tuple(months)
        self.hosts = np.stack([snapshot.rack_hosts(month) for month in months])
        self._open = np.stack([snapshot.rack_open(month) for month in months])
        self.racks_of_site = tuple(np.flatnonzero(snapshot.rack_site == at) for at in range(len(snapshot.sites)))
        self.site_hosts = np.zeros((len(months), len(snapshot.sites), len(snapshot.kinds)), dtype=np.int64)
        for at, racks in enumerate(self.racks_of_site):
            self.site_hosts[:, at] = self.hosts[:, racks].sum(axis=1)
        self.free_w, self.free_u = self.free(np.arange(len(snapshot.rack_slugs)), self.hosts)
        self.rows_of_site = tuple(_rows(racks) for racks in self.racks_of_site)
        self.frees = np.ones((len(months), len(snapshot.sites)), dtype=bool)
        if len(months) > 1:
            grown = (self.free_w[1:] > self.free_w[:-1]) | (self.free_u[1:] > self.free_u[:-1])
            for at, rows in enumerate(self.rows_of_site):
                self.frees[1:, at] = grown[:, rows].any(axis=1)
        site_at = {site.slug: at for at, site in enumerate(snapshot.sites)}
        kind_at = {kind.slug: at for at, kind in enumerate(snapshot.kinds)}
        self.delivery_site = np.array([site_at[d.site] for d in snapshot.deliveries], dtype=np.int64)
        self.delivery_kind = np.array([kind_at[d.kind] for d in snapshot.deliveries], dtype=np.int64)

    def free(self, racks: IntArray, hosts: IntArray) -> tuple[FloatArray, IntArray]:
        """Return what stays free in some racks from each month on, if these hosts [T, racks, K] stand in them."""
        snapshot = self.snapshot
        counts = hosts.astype(np.float64)  # a product of whole numbers and others is slow; heights stay whole in it
        used_u = (counts @ snapshot.kind_height_u.astype(np.float64)).astype(np.int64)
        free_w = (snapshot.rack_power_limit_w[racks] - counts @ snapshot.kind_power_w) * self._open[:, racks]
        free_u = (snapshot.rack_height_u[racks] - used_u) * self._open[:, racks]
        # what a host dated later will need is not free now
        return (
            np.minimum.accumulate(free_w[::-1], axis=0)[::-1],
            np.minimum.accumulate(free_u[::-1], axis=0)[::-1],
        )


def _rows(racks: IntArray) -> slice | IntArray:
    """Return positions as a slice if they follow each other: it is read without a copy."""
    if len(racks) and len(racks) == racks[-1] - racks[0] + 1:
        return slice(int(racks[0]), int(racks[-1]) + 1)
    return racks


class Floor:
    """One future's racks, walked month by month: deliveries go into racks, or wait for power and height.

    Attributes
    ----------
    racked : int64[R, K]
        Delivered hosts that have gone into each rack so far. [-]
    waiting : int64[sites, K]
        Delivered hosts that have found no rack. [-]
    """

    def __init__(self, ground: Ground, future: Future) -> None:
        self._ground, self._future = ground, future
        self._kinds = ground.snapshot.kinds
        self._free_w, self._free_u = ground.free_w, ground.free_u  # never written to
        shape = ground.hosts.shape[1:]
        self.racked = np.zeros(shape, dtype=np.int64)
        self._used_w, self._used_u = np.zeros(shape[0]), np.zeros(shape[0], dtype=np.int64)  # by what has been racked
        self._arrived = np.zeros(len(future.arrival_day), dtype=bool)
        self.waiting = np.zeros((len(ground.snapshot.sites), shape[1]), dtype=np.int64)
        self._site_racked = np.zeros_like(self.waiting)

    def arrive(self, month: int) -> None:
        """Rack what has waited, then what has come by the first day of the month, in order of arrival."""
        ground, future = self._ground, self._future
        self._rack_waiting(month)
        here = (future.arrival_day <= ground.months[month].toordinal()) & ~self._arrived
        self._arrived |= here
        for at in sorted(np.flatnonzero(here), key=lambda at: (future.arrival_day[at], at)):
            site, kind = int(ground.delivery_site[at]), int(ground.delivery_kind[at])
            self.waiting[site, kind] += future.arrival_hosts[at]
            self._rack(month, site, kind)

    def _rack_waiting(self, month: int) -> None:
        """Rack what waits, as far as power and height allow.

        What waits found no room left; as long as no rack of the site gets more free, it finds none again.
        """
        for site, kind in np.argwhere(self.waiting > 0).tolist():
            if self._ground.frees[month, site]:
                self._rack(month, site, kind)

    def _rack(self, month: int, site: int, kind: int) -> None:
        wanted, rows, fact = int(self.waiting[site, kind]), self._ground.rows_of_site[site], self._kinds[kind]
        if wanted <= 0:
            return
        placed = self.room(month, site, kind)
        upto = placed.cumsum()
        count = min(int(upto[-1]), wanted) if len(upto) else 0
        if count == wanted:  # more room than is needed: first racks first
            last = int(upto.searchsorted(wanted))
            placed[last] -= upto[last] - wanted
            placed[last + 1 :] = 0
        self.racked[rows, kind] += placed
        self._used_w[rows] += placed * fact.power_w
        self._used_u[rows] += placed * fact.height_u
        self._site_racked[site, kind] += count
        self.waiting[site, kind] -= count

    def room(self, month: int, site: int, kind: int) -> IntArray:
        """Return how many more hosts of a kind each rack of the site takes, int64[racks of the site]. [-]"""
        free_w, free_u = self.free(month, site)
        fact = self._kinds[kind]
        return hosts_fit(free_w=free_w, free_u=free_u, host_w=fact.power_w, host_u=fact.height_u)

    def free(self, month: int, site: int) -> tuple[FloatArray, IntArray]:
        """Return the power and the height still free in the racks of a site, float64 and int64[]. [W], [U]"""
        rows = self._ground.rows_of_site[site]
        return self._free_w[month, rows] - self._used_w[rows], self._free_u[month, rows] - self._used_u[rows]

    def hosts(self, month: int) -> IntArray:
        """Return the hosts that stand at each site by kind, int64[sites, K]. [-]"""
        total: IntArray = self._ground.site_hosts[month] + self._site_racked
        return total
