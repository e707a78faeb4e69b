"""How full places are, as rows and drawings of pages: rows of racks, halls, floor plans. Values in, values out."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from accelerator import chip_get
from dashboard.floorplans import FloorPlan, FloorRack, FloorRow, MetricLink, floorplan_draw
from dashboard.limits import (
    OWN,
    LimitCell,
    Nearest,
    SiteDay,
    fullness,
    limit_cells,
    limit_words,
    nearest_limit,
    of_text,
)
from dashboard.presenters import Meter, percent_text, side_text
from dashboard.selectors import KindCount
from fleet.loads import CABINET, COOLING, COOLING_NODE, FEED, LIMITS, PORTS, UNITS, WEIGHT
from fleet.room import Room
from fleet.snapshot import IntArray

PERCENT_MOST = 999.0  # what a map shows of a load on a limit of nothing
STOP_WORDS = {
    "rack_units": "rack units",
    "rack_power": "power of the cabinet",
    "rack_cooling": "cooling of the rack",
    "cooling_kind": "its cooling, which the racks have not",
    "ports": "network ports",
    "weight": "weight",
    "rack_closed": "no open rack",
    "feed_power": "feed",
    "feed_failover_power": "feed after a failure",
    "power_node": "power above the feeds",
    "power_node_failover": "power above the feeds after a failure",
    "cooling_node": "cooling above the rack",
    "cooling_node_failover": "cooling above the rack after a failure",
}


# --- how many more fit ------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class RoomRow:
    """How many more hosts of a type a site takes, and what stops the next one in most racks: where, and of how many."""

    kind: str
    name: str
    hosts: int
    stop: str
    where: str
    racks: str


def room_of(day: SiteDay) -> list[RoomRow]:
    """Return the room of a site for every host type that stands or is on its way there, else for all."""
    snapshot = day.snapshot
    wanted = {snapshot.kinds[at].slug for at in np.unique(snapshot.host_kind)} | {d.kind for d in snapshot.deliveries}
    room, rows = Room(snapshot, day.day), []
    for kind in snapshot.kinds:
        if wanted and kind.slug not in wanted:
            continue
        fit = room.fit(kind)
        stop = fit.stops[0] if fit.stops else None
        rows.append(
            RoomRow(
                kind=kind.slug,
                name=kind.name,
                hosts=fit.count,
                stop=STOP_WORDS[stop.constraint] if stop else "",
                where=(f"{stop.object} after losing {stop.failure}" if stop.failure else stop.object) if stop else "",
                racks=f"{stop.racks} of {sum(one.racks for one in fit.stops)}" if stop else "",
            )
        )
    return rows


# --- rows and halls of a site -----------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Stretch:
    """Some racks together, a row or a hall: what stands there, how full it is and what limits it.

    `nearest` is over all limits, `own` over those that racks have to themselves.
    """

    key: str
    name: str
    url: str
    racks: int
    hosts: int
    to_come: int
    units: str
    units_share: str
    power: Meter
    power_of: str
    power_share: str
    nearest: Nearest | None
    own: Nearest | None
    hall: str = ""
    hall_url: str = ""

    @property
    def rank(self) -> tuple[float, float, str]:
        """Return the order of fullness: the fullest first, of equally full ones that with the fullest rack."""
        shared = round(self.nearest.ratio, 6) if self.nearest else 0.0
        return -shared, -(self.own.ratio if self.own else 0.0), self.key


def stretch_of(site: SiteDay, racks: IntArray, *, key: str, name: str, url: str) -> Stretch:
    """Return what some racks are together; closed ones do not count."""
    racks = racks[site.is_open[racks]]
    snapshot, loads = site.snapshot, site.loads
    used_w, limit_w = float(loads.rack_w[racks].sum()), float(snapshot.rack_power_limit_w[racks].sum())
    used_u, height_u = int(loads.rack_u[racks].sum()), int(snapshot.rack_height_u[racks].sum())
    ratio = used_w / limit_w if limit_w else 0.0
    return Stretch(
        key=key,
        name=name,
        url=url,
        racks=len(racks),
        hosts=int(loads.rack_hosts[racks].sum()),
        to_come=int(site.to_come[racks].sum()),
        units=of_text(used_u, height_u, "U"),
        units_share=percent_text(used_u / height_u if height_u else 0.0),
        power=fullness(ratio, text=f"{of_text(used_w, limit_w, 'W')}, {percent_text(ratio)}"),
        power_of=of_text(used_w, limit_w, "W"),
        power_share=percent_text(ratio),
        nearest=nearest_limit(site, racks),
        own=nearest_limit(site, racks, OWN),
    )


def rows_of(site: SiteDay, names: Mapping[str, str], *, hall: str = "") -> list[Stretch]:
    """Return the rows of a site, or of one of its halls, the fullest first; `names` of halls by key as `dc01/h1`."""
    order = np.argsort(site.snapshot.rack_row, kind="stable")
    ends = np.searchsorted(site.snapshot.rack_row[order], np.arange(len(site.snapshot.row_keys) + 1))
    found = []
    for at, key in enumerate(site.snapshot.row_keys):
        hall_key, _, row = key.rpartition("/")
        if hall and hall_key != hall:
            continue
        stretch = stretch_of(site, order[ends[at] : ends[at + 1]], key=key, name=f"Row {row}", url=site.links.row(key))
        found.append((hall_key, stretch))
    named = [
        replace(stretch, hall=names.get(key, key), hall_url=site.links.hall(*key.split("/"))) for key, stretch in found
    ]
    return sorted((stretch for stretch in named if stretch.racks), key=lambda stretch: stretch.rank)


def halls_of(site: SiteDay, names: Mapping[str, str]) -> list[Stretch]:
    """Return the halls of a site in the order of `names`, those without racks among them."""
    hall_of_row = [key.rpartition("/")[0] for key in site.snapshot.row_keys]
    of_rack = np.array(hall_of_row, dtype=object)[site.snapshot.rack_row] if hall_of_row else np.zeros(0, dtype=object)
    return [
        stretch_of(site, np.flatnonzero(of_rack == key), key=key, name=name, url=site.links.hall(*key.split("/")))
        for key, name in names.items()
    ]


def every_rack(site: SiteDay) -> IntArray:
    """Return the positions of all racks."""
    return np.arange(len(site.snapshot.rack_slugs))


def racks_of(site: SiteDay, key: str) -> IntArray:
    """Return the positions of the open racks of a row, in floor order."""
    if key not in site.snapshot.row_keys:
        return np.zeros(0, dtype=np.int64)
    racks: IntArray = np.flatnonzero((site.snapshot.rack_row == site.snapshot.row_keys.index(key)) & site.is_open)
    return racks


def hosts_here(site: SiteDay) -> IntArray:
    """Return the positions of the hosts that stand there."""
    hosts: IntArray = np.flatnonzero(site.snapshot.hosts_here(site.day))
    return hosts


def kinds_of(site: SiteDay, hosts: IntArray) -> list[KindCount]:
    """Return how many hosts of each type some hosts are."""
    counts = np.bincount(site.snapshot.host_kind[hosts], minlength=len(site.snapshot.kinds))
    return [
        KindCount(kind.slug, side_text(homegrown=chip_get(kind.chip).homegrown), int(count))
        for kind, count in zip(site.snapshot.kinds, counts, strict=True)
        if count
    ]


@dataclass(frozen=True, slots=True)
class RackLine:
    """A rack of a row: its hosts, every limit, and the one that is nearest."""

    slug: str
    url: str
    hosts: int
    to_come: int
    cells: list[LimitCell]
    nearest: Nearest | None


def rack_rows(site: SiteDay, racks: IntArray) -> list[RackLine]:
    """Return some racks side by side."""
    return [
        RackLine(
            slug=site.snapshot.rack_slugs[rack],
            url=site.links.rack(site.snapshot.rack_slugs[rack]),
            hosts=int(site.loads.rack_hosts[rack]),
            to_come=int(site.to_come[rack]),
            cells=limit_cells(site, rack),
            nearest=nearest_limit(site, np.array([rack])),
        )
        for rack in racks.tolist()
    ]


# --- floor plan of a hall ---------------------------------------------------------------------------------------------
HIGHEST, POWER_NOW, FEED_WORST, HEIGHT, HEAT, PORTS_USED, LOADED, HOSTS, TO_COME = (
    *("highest", "power", "feed", "units", "cooling"),
    *("ports", "weight", "hosts", "planned"),
)
METRICS = {
    HIGHEST: "Highest of all limits",
    POWER_NOW: "Power now of the cabinet's limit",
    FEED_WORST: "Worst feed after one failure",
    HEIGHT: "Rack units",
    HEAT: "Cooling",
    PORTS_USED: "Ports",
    LOADED: "Weight",
    HOSTS: "Hosts",
    TO_COME: "Hosts still to come",
}
METRIC_LIMITS = {
    HIGHEST: LIMITS,
    POWER_NOW: (CABINET,),
    FEED_WORST: (FEED,),
    HEIGHT: (UNITS,),
    HEAT: (COOLING, COOLING_NODE),
    PORTS_USED: (PORTS,),
    LOADED: (WEIGHT,),
}


@dataclass(frozen=True, slots=True)
class Spot:
    """Where a rack stands: its row and the row's place on the floor, its own place in the row."""

    slug: str
    position: int
    row: str
    row_position: int


def floor_draw(
    site: SiteDay, spots: Iterable[Spot], metric: str, *, hall: str, metrics: Sequence[MetricLink]
) -> FloorPlan:
    """Return the heat map of a hall: limits in per cent of 100, hosts as numbers."""
    rows: dict[tuple[int, str], list[FloorRack]] = {}
    for spot in spots:
        at = site.rack_at.get(spot.slug)
        if at is None or not site.is_open[at]:
            continue
        value, note = _metric_value(site, at, metric)
        rack = FloorRack(spot.slug, spot.position, value, site.links.rack(spot.slug), note)
        rows.setdefault((spot.row_position, spot.row), []).append(rack)
    is_count = metric not in METRIC_LIMITS
    return floorplan_draw(
        [FloorRow(f"Row {slug}", position, racks) for (position, slug), racks in rows.items()],
        METRICS[metric],
        "hosts" if is_count else "%",
        limit=None if is_count else 100.0,
        hall=hall,
        metrics=metrics,
    )


def _metric_value(site: SiteDay, rack: int, metric: str) -> tuple[float | None, str]:
    """Return what a map shows of a rack, None where no such limit is known, and which limit it is."""
    if metric == HOSTS:
        return float(site.loads.rack_hosts[rack]), ""
    if metric == TO_COME:
        return float(site.to_come[rack]), ""
    columns = [LIMITS.index(name) for name in METRIC_LIMITS[metric]]
    known = [column for column in columns if np.isfinite(site.limit[rack, column])]
    if not known:
        return None, ""
    column = max(known, key=lambda at: float(site.loads.ratio[rack, at]))
    ratio = float(site.loads.ratio[rack, column])
    note = limit_words(site, rack, LIMITS[column])[0] if len(columns) > 1 or metric == FEED_WORST else ""
    return min(100 * ratio, PERCENT_MOST), note if ratio else ""
