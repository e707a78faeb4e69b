"""How many more hosts fit into racks, and what stops the next one. Values in, values out."""

from collections.abc import Sequence
from dataclasses import dataclass

import highspy
import numpy as np
from scipy.sparse import coo_array, csr_array, vstack
from scipy.sparse.csgraph import connected_components

from fleet.trees import SLACK, BoolArray, FloatArray, IntArray, RackRooms, SupplyTree, TreeRows, rack_rooms, rows_over

POWER, UNITS = "rack_power", "rack_units"


def hosts_fit(*, free_w: FloatArray, free_u: IntArray, host_w: float, host_u: int) -> IntArray:
    """Return how many more hosts of one kind each rack takes under its power and its height.

    Parameters
    ----------
    free_w : float64[R]
        Power still free in each rack; negative where it is overdrawn. [W]
    free_u : int64[R]
        Rack units still free. [U]
    host_w, host_u : float, int
        Power to plan with and height of one host. [W], [U]

    Returns
    -------
    int64[R]
        Whole hosts, never negative. Exact for hosts of one kind: racks do not share power or height. [-]
    """
    by_power = np.floor(free_w / host_w + 1e-9)
    by_height = free_u // max(host_u, 1)
    return np.maximum(0, np.minimum(by_power, by_height)).astype(np.int64)


def hosts_place(*, wanted: int, room: IntArray) -> IntArray:
    """Return how many of `wanted` hosts go into each rack, first racks first, int64[R]. [-]

    Of a `Fit` it is a placing of fewer: taking hosts away breaks no limit.
    """
    before = np.concatenate(([0], np.cumsum(room)[:-1])) if len(room) else np.zeros(0, dtype=np.int64)
    return np.clip(wanted - before, 0, room).astype(np.int64)


# --- exact, with everything that racks share --------------------------------------------------------------------------
CABINET_COOLING, COOLING_KIND, PORTS, WEIGHT, CLOSED = "rack_cooling", "cooling_kind", "ports", "weight", "rack_closed"
FEED, FEED_FAILOVER = "feed_power", "feed_failover_power"
POWER_NODE, COOLING_NODE, FAILOVER = "power_node", "cooling_node", "_failover"
MANY = 10**9  # hosts: no limit


@dataclass(frozen=True, slots=True)
class HostNeed:
    """What one host takes: height [U], power [W], apparent power [VA] and heat [W] to plan with, ports, weight [kg]."""

    height_u: int
    power_w: float
    apparent_va: float
    heat_w: float
    ports: int = 0
    weight_kg: float = 0.0
    is_liquid: bool = False


@dataclass(frozen=True, eq=False)
class RackRoom:
    """What is free in each rack, before anything that racks share.

    Attributes
    ----------
    slugs : tuple of str
        Names of the R racks.
    is_open : bool[R]
        Whether anything may be put in.
    hosts_by_units, free_u : int64[R]
        Whole hosts that the gaps take: `gaps_fit`; free units in all. [-], [U]
    free_w, free_heat_w, free_kg, free_ports : float64[R]
        Of the cabinet's own limits; inf where nobody knows. [W], [W], [kg], [-]
    is_liquid : bool[R]
        Whether it takes hosts with direct liquid cooling.
    """

    slugs: tuple[str, ...]
    is_open: BoolArray
    hosts_by_units: IntArray
    free_u: IntArray
    free_w: FloatArray
    free_heat_w: FloatArray
    free_kg: FloatArray
    free_ports: FloatArray
    is_liquid: BoolArray


@dataclass(frozen=True, slots=True)
class FitStop:
    """What stops one more host: the constraint, its object, the failure under which it binds, the share of racks. [-]

    `object` is the node that several racks share, or else the rack or feed that comes closest; `failure` is the node
    whose failure it takes, empty where none is needed. `racks` counts.
    """

    constraint: str
    object: str
    failure: str
    share_ratio: float
    racks: int


@dataclass(frozen=True, slots=True)
class Stopped:
    """Racks that the same thing stops, by which answers about racks apart are put together.

    `stop` tells of them; `tree` is the position of the tree that it is about in those asked, power first, -1: it is a
    limit of the racks' own. `node` is the name of the node that is told, empty where only the constraint is. Of the
    racks `rack` lacks least, the first of several, and `lack` is its share of one more host that is missing. [-]
    """

    stop: FitStop
    tree: int
    node: str
    lack: float
    rack: int


@dataclass(frozen=True, eq=False)
class Fit:
    """How many hosts fit, one way to place them, int64[R], and what stops the next, the most frequent first.

    `stopped` are the stops with what is needed to put fits of racks apart together; none where no rack was open.
    """

    count: int
    hosts: IntArray
    stops: tuple[FitStop, ...]
    stopped: tuple[Stopped, ...] = ()


def gaps_fit(
    *,
    rack_height_u: IntArray,
    host_rack: IntArray,
    host_position_u: IntArray,
    host_height_u: IntArray,
    height_u: int,
) -> IntArray:
    """Return how many whole hosts of a height the free gaps of each rack take, int64[R]. [-]

    Parameters
    ----------
    rack_height_u : int64[R]
        Usable height. [U]
    host_rack, host_position_u, host_height_u : int64[H]
        Rack, lowest unit from 1 (0: not known) and height of what stands there. [U]
    height_u : int
        Height of one more host; one of height 0 takes no unit.

    Notes
    -----
    A host whose position nobody knows is put into the lowest gap that takes it, in the order given; one that no gap
    takes is left out.
    """
    racks = len(rack_height_u)
    if height_u <= 0:
        return np.full(racks, MANY, dtype=np.int64)
    low = _lowest_units(rack_height_u, host_rack, host_position_u, host_height_u)
    # one long line on which each rack has its own stretch: the highest end so far is where the next gap begins
    base = np.cumsum(rack_height_u) - rack_height_u
    stands = (low >= 0) & (low < rack_height_u[host_rack]) & (host_height_u > 0)
    rack = host_rack[stands]
    start = np.concatenate([base[rack] + low[stands], base + rack_height_u])  # the top of a rack ends its last gap
    end = np.concatenate(
        [np.minimum(start[: len(rack)] + host_height_u[stands], base[rack] + rack_height_u[rack]), base]
    )
    rack = np.concatenate([rack, np.arange(racks)])
    is_host = np.arange(len(start)) < stands.sum()
    order = np.argsort(start * 2 + is_host, kind="stable")  # the top of a rack comes before the next one's first host
    rack, start, end = rack[order], start[order], end[order]
    taken = np.maximum.accumulate(end) if len(end) else end
    before = np.maximum(np.concatenate([[0], taken[:-1]])[: len(taken)], base[rack])
    return np.bincount(rack, np.maximum(start - before, 0) // height_u, minlength=racks).astype(np.int64)


def _lowest_units(rack_u: IntArray, host_rack: IntArray, position_u: IntArray, height_u: IntArray) -> IntArray:
    """Return the lowest unit of each host, from 0, int64[H]; -1: it is left out, because no gap takes it."""
    low = np.where(position_u > 0, position_u - 1, -1)
    if (low >= 0).all():
        return low
    order = np.argsort(host_rack, kind="stable")
    rack, high = host_rack[order], height_u[order]
    total = np.bincount(rack, high, minlength=len(rack_u))
    some_known = np.bincount(host_rack[low >= 0], minlength=len(rack_u)) > 0
    piled = ~some_known & (total <= rack_u)  # nothing known and all of it fits: one stands on the other
    ends = np.cumsum(high)
    first = np.searchsorted(rack, rack)
    pile = ends - high - (ends - high)[first]
    low[order[piled[rack]]] = pile[piled[rack]]
    for at in np.unique(host_rack[low < 0]):
        hosts = order[np.searchsorted(rack, at) : np.searchsorted(rack, at, side="right")]
        _put_lowest(int(rack_u[at]), hosts, low, height_u)
    return low


def _put_lowest(rack_u: int, hosts: IntArray, low: IntArray, height_u: IntArray) -> None:
    """Put the hosts of one rack that stand nowhere yet into its lowest gaps, in place. Bit n is unit n, from 0."""
    free = (1 << rack_u) - 1
    for host in hosts[low[hosts] >= 0].tolist():
        free &= ~(((1 << int(height_u[host])) - 1) << int(low[host]))
    for host in hosts[low[hosts] < 0].tolist():
        starts, high = free, int(height_u[host])
        for unit in range(1, high):
            starts &= free >> unit
        if starts and high:
            low[host] = (starts & -starts).bit_length() - 1
            free &= ~(((1 << high) - 1) << int(low[host]))


def fits_most(
    *,
    need: HostNeed,
    room: RackRoom,
    power: SupplyTree | None,
    power_load: FloatArray,
    cooling: SupplyTree | None,
    heat_load: FloatArray,
    scope: BoolArray | None = None,
    later_power: Sequence[SupplyTree] = (),
    later_cooling: Sequence[SupplyTree] = (),
    with_stops: bool = True,
) -> Fit:
    """Return the largest number of hosts of one type that fit, and what stops the next one.

    Parameters
    ----------
    need : HostNeed
        One host.
    room : RackRoom
        Free in each rack by its own limits.
    power, cooling : SupplyTree, optional
        What racks share. Every node stays within what may be drawn from it for hours, now and after any single failure.
    power_load, heat_load : float64[R]
        What each rack draws and gives off already. [VA], [W]
    scope : bool[R], optional
        Racks asked about; all by default. The others count with what they draw.
    later_power, later_cooling : sequence of SupplyTree
        The trees as they will be on later days: the same hosts have to fit under each of them.
    with_stops : bool
        Whether to find out what stops the next host; without, the fit names nothing.

    Returns
    -------
    Fit
        The count is exact; of the placings that reach it, one. Racks that load the trees alike are filled in order.

    Notes
    -----
    A node that is over its limit already, now or after some failure, takes no more load in that case; it does not make
    the rest impossible. Limits are kept to a relative 1e-9.

    All racks are filled as far as each could be alone. Where that breaks limits of nodes, the broken rows are written
    down, the racks under them are filled again by an integer program, and so on until no row is broken: rows that are
    never broken are never written, and the last answer is the best one even without them.
    """
    asked = room.is_open & (np.ones(len(room.slugs), dtype=bool) if scope is None else scope)
    limits = _rack_limits(need, room)
    caps = np.where(asked, np.min([limit.hosts for limit in limits], axis=0), 0)
    supplies = [
        _Supply(constraint, tree, load, each)
        for constraint, now, later, load, each in (
            (POWER_NODE, power, later_power, power_load, need.apparent_va),
            (COOLING_NODE, cooling, later_cooling, heat_load, need.heat_w),
        )
        for tree in (now, *later)
        if tree is not None and each > 0
    ]
    for supply in supplies:
        caps = np.minimum(caps, supply.hosts_alone(caps))
    hosts = _most(caps, supplies)
    if not with_stops:
        return Fit(int(hosts.sum()), hosts, ())
    stopped = _stops(room, asked, hosts, limits, supplies)
    stops = tuple(one.stop for one in stopped) or (FitStop(CLOSED, "", "", 1.0, 0),)
    return Fit(int(hosts.sum()), hosts, stops, tuple(stopped))


# --- limits that every rack has to itself -----------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Limit:
    """A limit of each rack: whole hosts that it lets in, int64[R]; what is free, float64[R]; what one host takes."""

    constraint: str
    hosts: IntArray
    free: FloatArray
    each: float

    def lack(self, hosts: IntArray) -> FloatArray:
        """Return which share of one more host is missing beside some, float64[R]; 0 and below: it fits. [-]"""
        if self.each <= 0:
            return np.full(len(hosts), -np.inf)
        missing = 1 - (self.free / self.each - hosts)
        return np.where(self.hosts <= hosts, np.maximum(missing, SLACK), np.minimum(missing, 0.0))


def _rack_limits(need: HostNeed, room: RackRoom) -> list[_Limit]:
    wet = np.where(room.is_liquid | (not need.is_liquid), np.inf, -np.inf)
    rest: list[tuple[str, FloatArray, float]] = [
        (POWER, room.free_w, need.power_w),
        (CABINET_COOLING, room.free_heat_w, need.heat_w),
        (PORTS, room.free_ports, need.ports),
        (WEIGHT, room.free_kg, need.weight_kg),
        (COOLING_KIND, wet, 1.0),
    ]
    units = _Limit(UNITS, room.hosts_by_units, room.free_u.astype(np.float64), float(need.height_u))
    return [units, *(_Limit(name, _whole(free, each), free, each) for name, free, each in rest)]


def _whole(free: FloatArray, each: float) -> IntArray:
    """Return how many whole hosts that take `each` fit into what is free, int64[R]."""
    if each <= 0:
        return np.full(len(free), MANY, dtype=np.int64)
    return np.floor(np.clip(free / each * (1 + SLACK), 0, MANY)).astype(np.int64)


# --- limits that racks share ------------------------------------------------------------------------------------------
@dataclass(frozen=True, eq=False)
class _Supply:
    """A tree, what racks load it with, and what one more host adds."""

    constraint: str
    tree: SupplyTree
    load: FloatArray
    each: float

    def hosts_alone(self, caps: IntArray) -> IntArray:
        """Return how many hosts each rack alone could add, exact up to `caps`, int64[R]."""
        enough = self.each * (float(caps.max(initial=0)) + 1)
        rooms = rack_rooms(self.tree, self.load, enough=enough, asked=caps > 0, keep=True)
        return _floor(rooms.room / self.each)

    def rows_over(self, hosts: IntArray, seen: IntArray) -> TreeRows:
        """Return the rows that some hosts break, where they differ from those seen before."""
        load, seen_load = self.load + hosts * self.each, self.load + seen * self.each
        return rows_over(self.tree, load, self.load, seen_load=seen_load)

    @property
    def names(self) -> tuple[str, str, str, str]:
        """Constraints: of the feeds of a rack without a failure and with one, of other nodes without and with one."""
        return FEED, FEED_FAILOVER, self.constraint, self.constraint + FAILOVER

    def kinds(self, racks: IntArray, rooms: RackRooms) -> IntArray:
        """Return what ends the room of each of some racks, as a position in `names`."""
        leaf_rack, leaf_node = self.tree.leaves
        keys = leaf_rack * len(self.tree.slugs) + leaf_node
        wanted = racks * len(self.tree.slugs) + rooms.node[racks]
        found = np.minimum(np.searchsorted(keys, wanted), len(keys) - 1)
        is_feed = (keys[found] == wanted) & (self.constraint == POWER_NODE)
        return np.where(is_feed, 0, 2) + (rooms.failure[racks] >= 0)


def _floor(hosts: FloatArray) -> IntArray:
    return np.floor(np.clip(hosts, 0, MANY)).astype(np.int64)


def _most(caps: IntArray, supplies: Sequence[_Supply]) -> IntArray:
    """Return how many hosts go into each rack, up to `caps` and within all rows, so that their sum is the largest."""
    hosts, seen = caps, np.zeros_like(caps)
    table, limit = csr_array((0, len(caps))), np.zeros(0)
    unsure = np.zeros(0, dtype=bool)  # rows under which hosts were rounded, and there may be room for more
    written: set[tuple[int, int, int]] = set()
    while True:
        broken = [(supply, supply.rows_over(hosts, seen)) for supply in supplies]
        count = sum(len(rows.node) for _, rows in broken)
        if not count and not unsure.any():
            return hosts
        for at, (supply, rows) in enumerate(broken):
            names = {(at, *key) for key in zip(rows.node.tolist(), rows.failure.tolist(), strict=True)}
            if names & written:  # would go on for ever
                raise ArithmeticError("how many hosts fit was not solved: a row that is known is broken again")
            written |= names
            shape = (len(rows.node), len(caps))
            table = vstack([table, csr_array((rows.share, (rows.row, rows.rack)), shape=shape)], format="csr")
            # half of the slack is for the solver: what it answers holds with the whole of it
            limit = np.concatenate([limit, (rows.limit * (1 + SLACK / 2) - rows.present) / supply.each])
        unsure = np.concatenate([unsure, np.zeros(count, dtype=bool)])
        # while rows are still found, rounding will do; the integer program comes last, and seldom
        again = np.arange(len(limit)) >= len(limit) - count if count else unsure
        seen = hosts
        hosts, unsure = _refilled(hosts, caps, table, limit, again, unsure, is_last=not count)


def _refilled(
    hosts: IntArray,
    caps: IntArray,
    table: csr_array,
    limit: FloatArray,
    again: BoolArray,
    unsure: BoolArray,
    *,
    is_last: bool,
) -> tuple[IntArray, BoolArray]:
    """Return hosts filled again under some rows and all rows that share racks with those, and which are unsure."""
    coo = table.tocoo()
    kept = caps[coo.col] > 0
    row, rack, share = coo.row[kept], coo.col[kept], coo.data[kept]
    graph = coo_array((np.ones(len(row)), (row, len(limit) + rack)), shape=(len(limit) + len(caps),) * 2)
    _, label = connected_components(graph, directed=False)
    order = np.argsort(label[row], kind="stable")
    touched, sorted_label = np.unique(label[: len(limit)][again]), label[row][order]
    hosts, unsure = hosts.copy(), unsure.copy()
    for start, end in zip(
        np.searchsorted(sorted_label, touched), np.searchsorted(sorted_label, touched, side="right"), strict=True
    ):
        here = order[start:end]
        rows, row_at = np.unique(row[here], return_inverse=True)
        racks, rack_at = np.unique(rack[here], return_inverse=True)
        block = np.zeros((len(rows), len(racks)))
        block[row_at, rack_at] = share[here]
        hosts[racks], unsure[rows] = _block_most(block, limit[rows], caps[racks], is_last=is_last)
    return hosts, unsure


def _block_most(block: FloatArray, limit: FloatArray, caps: IntArray, *, is_last: bool) -> tuple[IntArray, bool]:
    """Return hosts of each rack under block x <= limit with the largest sum, and whether it may be larger still.

    Racks with equal columns are one group. The sum is the largest for sure if `is_last`.
    """
    names: dict[bytes, int] = {}
    group = np.array([names.setdefault(column.tobytes(), len(names)) for column in np.ascontiguousarray(block.T)])
    _, first = np.unique(group, return_index=True)
    most = np.bincount(group, caps).astype(np.int64)
    table = block[:, first]
    # in units of its smallest share a row is often whole numbers, and then its limit is one too
    unit = np.where(table > 0, table, np.inf).min(axis=1)
    table, limit = table / unit[:, None], limit / unit
    is_whole = (np.abs(table - np.rint(table)) <= SLACK * table).all(axis=1)
    table[is_whole], limit[is_whole] = np.rint(table[is_whole]), np.floor(limit[is_whole])
    unsure = False
    if len(limit) == 1:
        counts = _cheapest_first(table[0], limit[0], most)
    else:
        counts, unsure = _program_most(table, limit, most, is_last=is_last)
    hosts = np.zeros(len(caps), dtype=np.int64)
    for at, count in enumerate(counts.tolist()):
        inside = np.flatnonzero(group == at)
        hosts[inside] = hosts_place(wanted=count, room=caps[inside])
    return hosts, unsure


def _cheapest_first(share: FloatArray, limit: float, most: IntArray) -> IntArray:
    """Return the counts with the largest sum under one row: those that take least of it go first."""
    counts = np.zeros(len(most), dtype=np.int64)
    for at in np.argsort(share, kind="stable"):
        counts[at] = min(int(most[at]), int(limit / share[at]))
        limit -= counts[at] * share[at]
    return counts


def _program_most(table: FloatArray, limit: FloatArray, most: IntArray, *, is_last: bool) -> tuple[IntArray, bool]:
    """Return the counts from 0 to `most` with the largest sum under table x <= limit, and whether it may be larger.

    The linear program says how many there are at most. Its answer rounded down and filled up reaches that nearly
    always; where it does not, the integer program decides, if `is_last`.
    """
    solver = _solver(table, limit, most)
    answer, bound = _solved(solver)
    counts = _rounded(answer, table, limit, most)
    if counts.sum() >= np.floor(bound + 1e-6):
        return counts, False
    if not is_last:
        return counts, True
    columns = np.arange(len(most), dtype=np.int32)
    solver.changeColsIntegrality(len(most), columns, np.full(len(most), highspy.HighsVarType.kInteger))
    answer, _ = _solved(solver)
    return np.rint(answer).astype(np.int64), False


def _rounded(answer: FloatArray, table: FloatArray, limit: FloatArray, most: IntArray) -> IntArray:
    """Return an answer rounded down, and filled up where most was lost first."""
    counts = np.floor(answer + SLACK).astype(np.int64)
    if (table @ counts > limit).any():
        counts = np.floor(answer).astype(np.int64)
    left = limit - table @ counts
    for at in np.argsort(counts - answer, kind="stable"):
        takes = table[:, at] > 0
        more = min(int(most[at] - counts[at]), int(max(0.0, (left[takes] / table[takes, at]).min())))
        counts[at] += more
        left -= more * table[:, at]
    return counts


def _solver(table: FloatArray, limit: FloatArray, most: IntArray) -> highspy.Highs:
    solver = highspy.Highs()
    for option, value in (
        ("output_flag", False),
        ("threads", 1),
        ("primal_feasibility_tolerance", 1e-10),  # a row may be broken by less than the slack that is kept for it
        ("dual_feasibility_tolerance", 1e-10),
        ("mip_feasibility_tolerance", 1e-10),
        ("mip_rel_gap", 0.0),
        ("mip_abs_gap", 0.99),  # counts are whole: what is less than one from the bound is the best
    ):
        solver.setOptionValue(option, value)
    row, column = np.nonzero(table)
    program = highspy.HighsLp()
    program.num_row_, program.num_col_ = table.shape
    program.sense_ = highspy.ObjSense.kMaximize
    program.col_cost_, program.col_lower_ = np.ones(len(most)), np.zeros(len(most))
    program.col_upper_ = most.astype(np.float64)
    program.row_lower_, program.row_upper_ = np.full(len(limit), -highspy.kHighsInf), limit
    program.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
    program.a_matrix_.start_ = np.concatenate([[0], np.cumsum(np.bincount(row, minlength=len(limit)))])
    program.a_matrix_.index_, program.a_matrix_.value_ = column, table[row, column]
    solver.passModel(program)
    return solver


def _solved(solver: highspy.Highs) -> tuple[FloatArray, float]:
    """Return the solution and its sum."""
    solver.run()
    status = solver.getModelStatus()
    if status != highspy.HighsModelStatus.kOptimal:
        raise ArithmeticError(f"how many hosts fit was not solved: {status}")
    return np.array(solver.getSolution().col_value), float(solver.getInfo().objective_function_value)


# --- what stops the next ----------------------------------------------------------------------------------------------
def _stops(
    room: RackRoom, asked: BoolArray, hosts: IntArray, limits: Sequence[_Limit], supplies: Sequence[_Supply]
) -> list[Stopped]:
    """Return what stops one more host: each rack counts for what it lacks most of, the most frequent first."""
    racks = np.flatnonzero(asked)
    if not len(racks):
        return []
    lack, name = np.full(len(asked), -np.inf), np.zeros(len(asked), dtype=np.int64)
    node, failure, told = (np.full(len(asked), -1, dtype=np.int64) for _ in range(3))
    names: list[str] = []
    for limit in limits:
        missing = limit.lack(hosts)
        higher = missing > lack
        lack[higher], name[higher] = missing[higher], len(names)
        names.append(limit.constraint)
    for supply in supplies:
        rooms = rack_rooms(supply.tree, supply.load + hosts * supply.each, enough=2 * supply.each, asked=asked)
        missing = 1 - rooms.room / supply.each
        nearer = np.flatnonzero(missing > lack)
        lack[nearer], node[nearer], failure[nearer] = missing[nearer], rooms.node[nearer], rooms.failure[nearer]
        name[nearer] = len(names) + supply.kinds(nearer, rooms)
        racks_on = np.bincount(supply.tree.leaves[1], minlength=len(supply.tree.slugs))
        is_own = (name[nearer] < len(names) + 2) & (racks_on[node[nearer]] == 1)
        told[nearer] = np.where(is_own, -1, node[nearer])
        names += supply.names
    # racks that one node stops are told together; limits of a rack's own, its feeds among them, by constraint
    key = name * (int(told.max()) + 2) + told + 1
    order = racks[np.lexsort((racks, lack[racks], key[racks]))]
    _, first, times = np.unique(key[order], return_index=True, return_counts=True)
    found = []
    for rack, count in zip(order[first].tolist(), times.tolist(), strict=True):  # of each key the one that lacks least
        at = int(name[rack] - len(limits)) // 4 if name[rack] >= len(limits) else -1
        tree = supplies[at].tree if at >= 0 else None
        what = tree.slugs[node[rack]] if tree else room.slugs[rack]
        failed = tree.slugs[failure[rack]] if tree and failure[rack] >= 0 else ""
        stop = FitStop(names[name[rack]], what, failed, count / len(racks), count)
        found.append(Stopped(stop, at, what if told[rack] >= 0 else "", float(lack[rack]), rack))
    return sorted(found, key=lambda one: (-one.stop.racks, one.stop.constraint, one.stop.object))
