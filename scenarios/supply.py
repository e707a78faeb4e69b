"""Racks through the months: what stands, what arrives, what finds no rack, what makes room. Values in, values out."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import date

import numpy as np

from fleet.fits import hosts_fit, hosts_place, stops
from fleet.snapshot import FleetSnapshot, FloatArray, IntArray
from scenarios.futures import Future
from scenarios.plans import CHIPS


@dataclass(frozen=True, slots=True)
class Bind:
    """What stops the next host at a site: the constraint, the object, and a sentence for the reader."""

    constraint: str
    rack: str
    sentence: str


class Ground:
    """What is decided already, month by month: the part that every future shares.

    Attributes
    ----------
    hosts : tuple of int64[R, K], one a month
        Hosts that stand in each rack. [-]
    free_w, free_u : float64[T, R], int64[T, R]
        Power and height that stay free from the month on, hosts dated later included; 0 in a closed rack. [W], [U]
    """

    def __init__(self, snapshot: FleetSnapshot, months: Sequence[date]) -> None:
        self.snapshot, self.months = snapshot, tuple(months)
        self.hosts = tuple(snapshot.rack_hosts(month) for month in months)
        shape = (len(self.months), len(snapshot.rack_slugs))
        self.free_w, self.free_u = np.zeros(shape), np.zeros(shape, dtype=np.int64)
        for at, month in enumerate(self.months):
            is_open = snapshot.rack_open(month)
            self.free_w[at] = (snapshot.rack_power_limit_w - self.hosts[at] @ snapshot.kind_power_w) * is_open
            self.free_u[at] = (snapshot.rack_height_u - self.hosts[at] @ snapshot.kind_height_u) * is_open
        # what a host dated later will need is not free now
        self.free_w = np.minimum.accumulate(self.free_w[::-1], axis=0)[::-1]
        self.free_u = np.minimum.accumulate(self.free_u[::-1], axis=0)[::-1]
        self.racks_of_site = tuple(np.flatnonzero(snapshot.rack_site == at) for at in range(len(snapshot.sites)))
        site_at = {site.slug: at for at, site in enumerate(snapshot.sites)}
        kind_at = {kind.slug: at for at, kind in enumerate(snapshot.kinds)}
        self.delivery_site = np.array([site_at[d.site] for d in snapshot.deliveries], dtype=np.int64)
        self.delivery_kind = np.array([kind_at[d.kind] for d in snapshot.deliveries], dtype=np.int64)


class Floor:
    """One future's racks, walked month by month: deliveries go into racks, or wait for power and height."""

    def __init__(self, ground: Ground, future: Future) -> None:
        self._ground, self._future = ground, future
        shape = ground.hosts[0].shape
        self._added = np.zeros(shape, dtype=np.int64)
        self._removed = np.zeros(shape, dtype=np.int64)
        self._arrived = np.zeros(len(future.arrival_day), dtype=bool)
        self.waiting = np.zeros((len(ground.snapshot.sites), shape[1]), dtype=np.int64)

    def arrive(self, month: int) -> None:
        """Take in what has come by the first day of the month and rack all that fits, oldest first."""
        ground, future = self._ground, self._future
        here = (future.arrival_day <= ground.months[month].toordinal()) & ~self._arrived
        self._arrived |= here
        for at in sorted(np.flatnonzero(here), key=lambda at: (future.arrival_day[at], at)):
            self.waiting[ground.delivery_site[at], ground.delivery_kind[at]] += future.arrival_hosts[at]
        self.rack_waiting(month)

    def rack_waiting(self, month: int) -> None:
        """Rack what waits, as far as power and height allow."""
        for site, kind in np.argwhere(self.waiting > 0):
            racks = self._ground.racks_of_site[site]
            room = self.room(month, int(site), int(kind))
            placed = hosts_place(wanted=int(self.waiting[site, kind]), room=room)
            self._added[racks, kind] += placed
            self.waiting[site, kind] -= placed.sum()

    def room(self, month: int, site: int, kind: int) -> IntArray:
        """Return how many more hosts of a kind each rack of the site takes, int64[racks of the site]. [-]"""
        free_w, free_u = self.free(month, self._ground.racks_of_site[site])
        fact = self._ground.snapshot.kinds[kind]
        return hosts_fit(free_w=free_w, free_u=free_u, host_w=fact.power_w, host_u=fact.height_u)

    def free(self, month: int, racks: IntArray) -> tuple[FloatArray, IntArray]:
        """Return the power and the height that are still free in some racks. [W], [U]"""
        snapshot = self._ground.snapshot
        change = self._added[racks] - self._removed[racks]
        return (
            self._ground.free_w[month][racks] - change @ snapshot.kind_power_w,
            self._ground.free_u[month][racks] - change @ snapshot.kind_height_u,
        )

    def remove(self, month: int, site: int, kind: int, wanted: int) -> int:
        """Take out up to `wanted` hosts of a kind that stood there from the start; return how many were."""
        racks = self._ground.racks_of_site[site]
        standing = self._standing(month)[racks, kind]
        taken = hosts_place(wanted=wanted, room=standing)
        self._removed[racks, kind] += taken
        return int(taken.sum())

    def _standing(self, month: int) -> IntArray:
        # a removed host may also be dated to leave later: it leaves once
        return np.maximum(self._ground.hosts[month] - self._removed, 0) + self._added

    def hosts(self, month: int) -> IntArray:
        """Return the hosts that stand at each site by kind, int64[sites, K]. [-]"""
        standing = self._standing(month)
        total = np.zeros((len(self._ground.snapshot.sites), standing.shape[1]), dtype=np.int64)
        np.add.at(total, self._ground.snapshot.rack_site, standing)
        return total

    def power_w(self, month: int) -> FloatArray:
        """Return the power to plan with at each site, float64[sites]. [W]"""
        return self.hosts(month) @ self._ground.snapshot.kind_power_w

    def binding(self, month: int, site: int) -> Bind:
        """Return what stops the next host: racks where hosts wait or would not fit, else the chips themselves."""
        snapshot = self._ground.snapshot
        name = snapshot.sites[site].name
        waits = np.flatnonzero(self.waiting[site])
        if not len(waits):
            return Bind(CHIPS, "", f"{name}: racks have room; no more hosts have been delivered")
        kind = snapshot.kinds[int(waits[np.argmax(self.waiting[site][waits])])]
        racks = self._ground.racks_of_site[site]
        free_w, free_u = self.free(month, racks)
        first = stops(free_w=free_w, free_u=free_u, host_w=kind.power_w, host_u=kind.height_u)
        count = int(self.waiting[site].sum())
        if not first:
            return Bind("rack_units", "", f"{name}: {count} delivered hosts wait; the site has no racks")
        rack = snapshot.rack_slugs[int(racks[first[0].rack])]
        what = "power" if first[0].constraint == "rack_power" else "height"
        short = (
            f"{max(free_w[first[0].rack], 0) / 1000:.1f} kW free, {kind.power_w / 1000:.1f} kW needed"
            if what == "power"
            else f"{max(int(free_u[first[0].rack]), 0)} U free, {kind.height_u} U needed"
        )
        return Bind(
            first[0].constraint,
            rack,
            f"{name}: {count} delivered hosts wait for rack {what}; "
            f"the nearest rack {rack} has {short} for {kind.slug}",
        )
