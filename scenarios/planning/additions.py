"""Which hosts to add where and when, so that the whole mix keeps the headroom asked for. Values in, values out.

Period by period, region by region: the cheapest whole hosts that limits let in, offers first. What is added stays.
"""

from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import highspy
import numpy as np

from scenarios.planning.arrivals import Ground, Walked
from scenarios.planning.capacity_answer import AddRow, ClosedValues, MissedRow
from scenarios.planning.days import months_before, position_day
from scenarios.planning.draws import Future
from scenarios.planning.headroom import ALL, SERVED, Asked, Region
from scenarios.planning.migration_program import Facts
from scenarios.planning.problem import DECODE, WHOLE, PlanProblem
from scenarios.planning.program import FloatArray, IntArray, Program, Requirement

BEYOND_COST = 10.0  # a host beyond all offers counts as so many of the dearest
GAP_RATIO = 1e-3  # between the hosts chosen and the cheapest
SHORT_GAP_RATIO = 1e-6  # between what is left unserved and the least
NODES_MOST = 500
TOLERANCE = 1e-9  # of the solver, in hosts
NOTICED = 1e-6  # hosts; what is left unserved is held down to so much of the least


@dataclass(frozen=True, eq=False)
class Added:
    """What to add, by the region of every row, and where that is not enough."""

    rows: tuple[tuple[str, AddRow], ...]
    missed: tuple[MissedRow, ...]


class Additions:
    """Hosts to add in the expected future.

    Parameters
    ----------
    usable : mapping of region to float64[K, T]
        Hosts that may be loaded if nothing is added. [-]
    """

    def __init__(
        self,
        problem: PlanProblem,
        ground: Ground,
        walked: Walked,
        future: Future,
        usable: dict[str, FloatArray],
        *,
        target_ratio: float,
        lead_months: float | None = None,
        closed: Sequence[ClosedValues] = (),
    ) -> None:
        self.problem, self._ground, self._walked, self._future = problem, ground, walked, future
        self._lead_months, self._closed = lead_months, closed
        self._target, self._usable = 1.0 + target_ratio, usable
        self._facts = Facts.of(problem)
        self._taken = np.zeros(len(problem.limits))
        self._added = np.zeros(ground.standing.shape[:2], dtype=np.int64)
        self._used_own: dict[tuple[int, int], float] = defaultdict(float)
        self._used_free: dict[int, float] = defaultdict(float)

    def find(self, regions: tuple[Region, ...], shares: dict[str, FloatArray], show: Callable[[float], None]) -> Added:
        """Return what to add; `shares` is what can be served of the whole mix if nothing is, float64[T].

        `show` is told the share done [0, 1] before every period.
        """
        rows: list[tuple[str, AddRow]] = []
        missed: list[MissedRow] = []
        asked = {
            region.slug: Asked(region, self._future, np.maximum(self._usable[region.slug], 1e-9)) for region in regions
        }
        for period in range(len(self.problem.periods)):
            show(period / len(self.problem.periods))
            for region in regions:
                if shares[region.slug][period] >= self._target * (1 - SERVED):
                    continue
                added, is_short = self._region(region, asked[region.slug], period)
                rows.extend((region.slug, row) for row in added)
                if is_short:
                    share = region.alone(self._future, self._with_added(region), ALL).share[0, period]
                    missed.append(
                        MissedRow(period=period, region=region.slug, headroom_ratio=float(min(share, self._target)) - 1)
                    )
        return Added(tuple(rows), tuple(missed))

    def pairs(self, region: Region, period: int) -> list[tuple[int, int]]:
        """Return the places and kinds of which hosts may be added in a region and a period.

        Kinds are those offered to the region, or, if none is, all that serve it and may be bought; places those that
        take one when empty.
        """
        problem, places = self.problem, self._places(region)
        sites = {site.slug for site in problem.sites if site.region == region.slug}
        offered = {offer.kind for offer in problem.offers if offer.hosts and offer.site in {"", *sites}}
        serving = {problem.rates[row].kind for one in region.commodities for row in one.rates}
        kinds = sorted(self._ground.kind_at[kind] for kind in (offered & serving or serving))
        pairs = [(place, kind) for place in places for kind in kinds if self._is_ever_room(place, kind)]
        return pairs if offered & serving else [pair for pair in pairs if not self._is_closed(*pair, period)]

    def _is_ever_room(self, place: int, kind: int) -> bool:
        limits = self.problem.limits
        return all(amount <= max(limits[at].limit) for at, amount in self._ground.uses.get((place, kind), ()))

    def _is_closed(self, place: int, kind: int, period: int) -> bool:
        slug, site = self.problem.kinds[kind].slug, self.problem.sites[self._ground.site_of[place]].slug
        return any(
            (row.kind, row.site) == (slug, site) and row.first <= period and (row.last is None or period < row.last)
            for row in self._closed
        )

    def cheapest(self, region: Region) -> str:
        """Return the kind that gives a token of the region for the least money in the first period; empty: none."""
        best: dict[int, float] = {}
        pairs = self.pairs(region, 0)
        for kind in sorted({kind for _place, kind in pairs}):
            slug = self.problem.kinds[kind].slug
            rates = [
                self._future.rate_tok_s[row]
                for one in region.commodities
                for row in one.rates
                if self.problem.rates[row].kind == slug
            ]
            cost = min(self._cost(region, place, kind, 0) for place, one in pairs if one == kind)
            best[kind] = cost / max(float(np.mean(rates)), 1e-9)
        return self.problem.kinds[min(best, key=lambda kind: (best[kind], kind))].slug if best else ""

    def lead_periods(self, kind: str, sites: set[str]) -> int | None:
        """Return after how many periods from now the first offer of a kind may stand at some sites; none: no offer."""
        found = [o.period for o in self.problem.offers if o.kind == kind and o.hosts and o.site in {"", *sites}]
        return min(found, default=None)

    def order_by(self, position: float | None, kind: str, sites: set[str]) -> str | None:
        """Return the day by which hosts of a kind have to be ordered to stand at a position in periods; None: no day.

        It is earlier by the periods of the first offer, or else by the months asked for, in calendar months.
        """
        lead = self.lead_periods(kind, sites)
        if position is not None and lead is not None:
            return position_day(self.problem, position - lead)
        day = position_day(self.problem, position)
        return None if day is None or self._lead_months is None else months_before(day, self._lead_months)

    def _places(self, region: Region) -> list[int]:
        sites = self.problem.sites
        return [at for at, site in enumerate(self._ground.site_of.tolist()) if sites[site].region == region.slug]

    def _with_added(self, region: Region) -> FloatArray:
        places = self._places(region)
        added = (self._added[places, :, None] * self._ground.up[places]).sum(axis=0)
        return self._usable[region.slug] + (1 - self.problem.rules.reserve_ratio) * added

    def _cost(self, region: Region, place: int, kind: int, period: int) -> float:
        """Return the price of a host, and its energy and upkeep from a period on, discounted. [money]

        It is taken to be full in the peak hour, and loaded by the mean of the region's demand otherwise.
        """
        problem, facts = self.problem, self._facts
        fact, site = problem.kinds[kind], problem.sites[self._ground.site_of[place]]
        demand = self._future.demand_tok_s[list(region.services)].sum(axis=1)
        mean = np.array([problem.services[at].mean_ratio for at in region.services])
        load = float(mean @ demand / demand.sum()) if demand.sum() > 0 else 1.0
        busy_w = fact.power_w if fact.busy_w is None else fact.busy_w
        watt = fact.idle_w + max(busy_w - fact.idle_w, 0.0) * load
        running = facts.energy_price(site, homegrown=fact.homegrown) * watt
        running = running + fact.upkeep_per_month * problem.rules.period_months
        now = facts.discount[:-1]
        return float(fact.price * now[period] + now[period:] @ running[period:])

    def _region(self, region: Region, asked: Asked, period: int) -> tuple[list[AddRow], bool]:
        """Return the hosts to add in a region and a period, and whether they are not enough."""
        ground, pairs = self._ground, self.pairs(region, period)
        if not pairs:
            return [], True
        kinds = sorted({kind for _place, kind in pairs})
        cost = np.array([self._cost(region, place, kind, period) for place, kind in pairs])
        cost = np.maximum(cost, 1e-6 * max(float(cost.max()), 1.0))
        unit = float(cost.max())
        program = Program()
        hosts = program.columns(len(pairs), whole=True)
        short = self._loads(program, region, asked, period, dict(zip(pairs, hosts.tolist(), strict=True)))
        slack = self._walked.free[:, period] - self._taken
        uses: dict[int, list[tuple[int, float]]] = defaultdict(list)
        for at, pair in enumerate(pairs):
            for limit, amount in ground.uses.get(pair, ()):
                uses[limit].append((int(hosts[at]), amount))
        for limit, of_limit in sorted(uses.items()):
            row = program.rows(Requirement("limit", ""), 1, upper=max(0.0, float(slack[limit])))
            program.put(row[0], [at for at, _amount in of_limit], [amount for _at, amount in of_limit])
        groups = sorted({(int(ground.site_of[place]), kind) for place, kind in pairs})
        own, free, beyond = (program.columns(len(groups), upper=most) for most in self._offered(groups, period))
        for at, (site, kind) in enumerate(groups):
            row = program.rows(Requirement("supply", ""), 1, upper=0.0)
            ours = [hosts[i] for i, (place, k) in enumerate(pairs) if k == kind and ground.site_of[place] == site]
            program.put(row[0], ours, 1.0)
            program.put(row[0], [own[at], free[at], beyond[at]], -1.0)
        for kind in kinds:
            most = self._open("", kind, period) - self._used_free[kind]
            row = program.rows(Requirement("offers", ""), 1, upper=max(0.0, most))
            program.put(row[0], [free[at] for at, (_site, k) in enumerate(groups) if k == kind], 1.0)
        price = np.zeros(program.columns_total)
        price[hosts], price[beyond] = cost / unit, BEYOND_COST
        values, is_short = _solve(program, price, short)
        return self._taken_up(region, pairs, cost, values, (own, free, groups), period), is_short

    def _loads(
        self, program: Program, region: Region, asked: Asked, period: int, hosts: dict[tuple[int, int], int]
    ) -> dict[int, float]:
        """Serve the demand asked for on hosts there are and hosts to add.

        Return the columns of the shares left unserved, with what all of each takes. [hosts of its best kind]
        """
        short: dict[int, float] = {}
        usable = self._with_added(region)[:, period]
        rows = program.rows(Requirement("capacity", ""), len(usable), upper=usable)
        for (place, kind), column in hosts.items():
            up = float(self._ground.up[place, kind, period])
            program.put(rows[kind], column, -(1 - self.problem.rules.reserve_ratio) * up)
        for at, one in enumerate(region.commodities):
            wanted = float(asked.demand[at, period]) * self._target * (1 - SERVED)
            if wanted <= 0:
                continue
            left = int(program.columns(1, upper=1.0)[0])
            short[left] = wanted
            ways = program.columns(len(one.rates), upper=np.where(asked.may[at][:, period], np.inf, 0.0))
            program.put(rows[np.array(asked.kind[at], dtype=np.int64)], ways, 1.0)
            needs = program.rows(Requirement("demand", ""), 2 if one.is_split else 1, lower=wanted)
            program.put(needs, left, wanted)
            for way, phase in enumerate(asked.phase[at]):
                ours = needs if phase == WHOLE else needs[[int(phase == DECODE)]]
                program.put(ours, ways[way], asked.weight[at][way])
        return short

    def _open(self, site: str, kind: int, period: int) -> float:
        slug = self.problem.kinds[kind].slug
        return float(
            sum(o.hosts for o in self.problem.offers if (o.site, o.kind) == (site, slug) and o.period <= period)
        )

    def _offered(
        self, groups: list[tuple[int, int]], period: int
    ) -> tuple[FloatArray | float, FloatArray | float, FloatArray | float]:
        own = [
            max(0.0, self._open(self.problem.sites[site].slug, kind, period) - self._used_own[site, kind])
            for site, kind in groups
        ]
        return np.array(own), np.inf, np.inf

    def _taken_up(
        self,
        region: Region,
        pairs: list[tuple[int, int]],
        cost: FloatArray,
        values: FloatArray,
        sources: tuple[IntArray, IntArray, list[tuple[int, int]]],
        period: int,
    ) -> list[AddRow]:
        """Note what was chosen as standing and as bought; return it as rows, by site and kind."""
        problem, ground = self.problem, self._ground
        own, free, groups = sources
        counts = np.rint(values[: len(pairs)]).astype(np.int64)
        rows = []
        for at, (site, kind) in enumerate(groups):
            ours = [i for i, (place, k) in enumerate(pairs) if k == kind and ground.site_of[place] == site]
            hosts = int(counts[ours].sum())
            if not hosts:
                continue
            for i in ours:
                self._added[pairs[i]] += counts[i]
                for limit, amount in ground.uses.get(pairs[i], ()):
                    self._taken[limit] += amount * int(counts[i])
            from_own = min(float(hosts), float(values[own[at]]))
            from_free = min(hosts - from_own, float(values[free[at]]))
            self._used_own[site, kind] += from_own
            self._used_free[kind] += from_free
            slug, name = problem.kinds[kind].slug, problem.sites[site].slug
            rows.append(
                AddRow(
                    period=period,
                    site=name,
                    kind=slug,
                    hosts=hosts,
                    beyond_hosts=max(0, round(hosts - from_own - from_free)),
                    cost=float(cost[ours] @ counts[ours]),
                    order_by_on=self.order_by(period, slug, {name}),
                )
            )
        return rows


def _solve(program: Program, price: FloatArray, short: dict[int, float]) -> tuple[FloatArray, bool]:
    """Return the cheapest hosts that leave the least unserved, and whether they leave any.

    First all has to be served. Only where that cannot be is the least shortage looked for, and then the cheapest hosts
    that leave no more: no price is ever weighed against demand.
    """
    highs = _model(program, price)
    columns, hosts = np.array(list(short), dtype=np.int32), np.array(list(short.values()))
    nothing, all_of_it = np.zeros(len(columns)), np.ones(len(columns))
    highs.changeColsBounds(len(columns), columns, nothing, nothing)
    values = _values(highs, GAP_RATIO)
    if values is not None:
        return values, False
    highs.changeColsBounds(len(columns), columns, nothing, all_of_it)
    everything = np.arange(len(price), dtype=np.int32)
    highs.changeColsCost(len(price), everything, np.zeros(len(price)))
    highs.changeColsCost(len(columns), columns, hosts)
    values = _values(highs, SHORT_GAP_RATIO)
    if values is None:
        raise ArithmeticError(f"no hosts to add were found: {highs.modelStatusToString(highs.getModelStatus())}")
    least = float(hosts @ values[columns])
    highs.addRow(-np.inf, least + NOTICED, len(columns), columns, hosts)
    highs.changeColsCost(len(price), everything, price)
    highs.setSolution(len(price), everything, values)  # one answer is known: the cheapest is looked for from there
    cheapest = _values(highs, GAP_RATIO)
    return values if cheapest is None else cheapest, least > NOTICED


def _model(program: Program, price: FloatArray) -> highspy.Highs:
    frozen = program.done()
    highs = highspy.Highs()
    for name, value in (
        ("output_flag", False),
        ("threads", 1),
        ("random_seed", 1),
        ("mip_max_nodes", NODES_MOST),
        ("mip_feasibility_tolerance", TOLERANCE),
        ("primal_feasibility_tolerance", TOLERANCE),
    ):
        highs.setOptionValue(name, value)
    model = highspy.HighsLp()
    model.num_col_, model.num_row_ = frozen.matrix.shape[1], frozen.matrix.shape[0]
    model.col_cost_, model.col_lower_, model.col_upper_ = price, frozen.lower, frozen.upper
    model.row_lower_, model.row_upper_ = frozen.row_lower, frozen.row_upper
    model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
    model.a_matrix_.start_, model.a_matrix_.index_ = frozen.matrix.indptr, frozen.matrix.indices
    model.a_matrix_.value_ = frozen.matrix.data
    kinds = (highspy.HighsVarType.kContinuous, highspy.HighsVarType.kInteger)
    model.integrality_ = [kinds[int(whole)] for whole in frozen.whole]
    highs.passModel(model)
    return highs


def _values(highs: highspy.Highs, gap_ratio: float) -> FloatArray | None:
    """Return the best values found; None if there are none."""
    highs.setOptionValue("mip_rel_gap", gap_ratio)
    highs.run()
    if highs.getInfo().primal_solution_status != highspy.SolutionStatus.kSolutionStatusFeasible:
        return None
    return np.array(highs.getSolution().col_value)
