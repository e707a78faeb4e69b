"""How many more hosts of a type a fleet takes from a day on, for good. Values in, values out."""

from datetime import date

import numpy as np

from fleet.fits import Fit, HostNeed, RackRoom, fits_most, gaps_fit
from fleet.snapshot import DAY_MAX, FleetSnapshot, KindFact, TreeFacts
from fleet.trees import BoolArray, FloatArray, IntArray


class Room:
    """What is free in a fleet from a day on, asked for one host type after the other.

    Hosts that are asked about come on the day and stay: units in which any host stands then or later are taken, and of
    power, heat, weight and ports a rack counts with the most that it carries on any later day. They fit under the trees
    of the day, and of every later day on which a node or a link goes. That racks reach their highest loads on one day
    makes the answers safe ones.

    `more`, int64[R, K], are hosts of each kind that are put into each rack first, wherever its units are free. [-]
    """

    def __init__(self, snapshot: FleetSnapshot, day: date, more: IntArray | None = None) -> None:
        racks = len(snapshot.rack_slugs)
        if more is None:
            more = np.zeros((racks, len(snapshot.kinds)), dtype=np.int64)
        self._snapshot = snapshot
        self._is_open = snapshot.rack_open(day)
        self._power, *self._later_power = (
            snapshot.power.on(at, racks) for at in (day, *leaving_days(snapshot.power, day))
        )
        self._cooling, *self._later_cooling = (
            snapshot.cooling.on(at, racks) for at in (day, *leaving_days(snapshot.cooling, day))
        )
        weights_kg = np.array([kind.weight_kg for kind in snapshot.kinds], dtype=np.float64)
        ports = np.array([kind.ports for kind in snapshot.kinds], dtype=np.float64)

        def most(per_kind: FloatArray) -> FloatArray:
            return rack_most(snapshot, day, per_kind) + more @ per_kind

        self._most_w, self._most_va = most(snapshot.kind_power_w), most(snapshot.kind_apparent_va)
        self._most_u = most(snapshot.kind_height_u.astype(np.float64))
        self._free_kg, self._free_ports = (
            snapshot.rack_weight_limit_kg - most(weights_kg),
            snapshot.rack_ports - most(ports),
        )
        stays = snapshot.host_last_day > day.toordinal()
        rack, kind = np.nonzero(more)
        counts = more[rack, kind]
        self._rack = np.concatenate((snapshot.host_rack[stays], np.repeat(rack, counts)))
        self._kind = np.concatenate((snapshot.host_kind[stays], np.repeat(kind, counts)))
        unknown = np.zeros(counts.sum(), dtype=np.int64)
        self._position_u = np.concatenate((snapshot.host_position_u[stays], unknown))

    def fit(self, kind: KindFact, racks: BoolArray | None = None) -> Fit:
        """Return how many more hosts of a kind fit into some racks, bool[R], or all, and what stops the next one."""
        snapshot = self._snapshot
        room = RackRoom(
            slugs=snapshot.rack_slugs,
            is_open=self._is_open,
            hosts_by_units=gaps_fit(
                rack_height_u=snapshot.rack_height_u,
                host_rack=self._rack,
                host_position_u=self._position_u,
                host_height_u=snapshot.kind_height_u[self._kind],
                height_u=kind.height_u,
            ),
            free_u=snapshot.rack_height_u - self._most_u.astype(np.int64),
            free_w=snapshot.rack_power_limit_w - self._most_w,
            free_heat_w=snapshot.rack_cooling_limit_w - self._most_w,
            free_kg=self._free_kg,
            free_ports=self._free_ports,
            is_liquid=snapshot.rack_is_liquid,
        )
        return fits_most(
            need=HostNeed(
                height_u=kind.height_u,
                power_w=kind.power_w,
                apparent_va=kind.apparent_va,
                heat_w=kind.power_w,
                ports=kind.ports,
                weight_kg=kind.weight_kg,
                is_liquid=kind.cooling == "liquid",
            ),
            room=room,
            power=self._power,
            power_load=self._most_va,
            cooling=self._cooling,
            heat_load=self._most_w,
            scope=racks,
            later_power=self._later_power,
            later_cooling=self._later_cooling,
        )


def leaving_days(tree: TreeFacts, day: date) -> list[date]:
    """Return the days after one on which a node or a link of a tree goes."""
    last = np.concatenate((tree.last_day, tree.link_last_day))
    return [date.fromordinal(at) for at in np.unique(last[(last > day.toordinal()) & (last < DAY_MAX)]).tolist()]


def rack_most(snapshot: FleetSnapshot, day: date, per_kind: FloatArray) -> FloatArray:
    """Return the highest sum of a figure of kinds over the hosts in each rack, on any day from then on, float64[R].

    Every host that comes or goes is an event; a host that goes on the day on which another comes goes first.
    """
    first = np.maximum(snapshot.host_first_day, day.toordinal())
    counts = snapshot.host_last_day > first
    rack, each = snapshot.host_rack[counts], per_kind[snapshot.host_kind[counts]]
    days = np.concatenate((first[counts], snapshot.host_last_day[counts]))
    racks, change = np.concatenate((rack, rack)), np.concatenate((each, -each))
    order = np.lexsort((change, days, racks))
    racks, total = racks[order], np.cumsum(change[order])
    most = np.zeros(len(snapshot.rack_slugs))
    if len(racks):
        starts = np.flatnonzero(np.r_[True, racks[1:] != racks[:-1]])
        before = np.r_[0.0, total[starts[1:] - 1]]  # of every rack all that comes also goes: it is nearly zero
        most[racks[starts]] = np.maximum.reduceat(total, starts) - before
    return np.maximum(most, 0.0)
