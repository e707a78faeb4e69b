"""The best plan of a small problem, by search over the whole decisions: hosts kept, hosts new, ways open.

The program is written down here a second time, from docs/models/plan.md alone. The search narrows one whole decision
after another and asks a linear program (HiGHS, simplex, no integers) for the rest. It leaves a branch out only where
that linear program, with every open decision free between its ends, has no solution, or none that is better than the
best plan found. :func:`best_by_listing` leaves out nothing; tests compare the two.
"""

import itertools
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace

import highspy
import numpy as np

from scenarios.planning.plan import (
    INFEASIBLE,
    OPTIMAL,
    BoughtRow,
    FailoverRow,
    HostsRow,
    LimitRow,
    LoadRow,
    MigrationAnswer,
    MoneyRow,
    OpenRow,
    ShortRow,
    SolverNote,
)
from scenarios.planning.problem import DECODE, PREFILL, SHARE_FIRST, TOKENS, WHOLE, PlanProblem, RateValues

Key = tuple[object, ...]
"""Name of a decision, as ("kept", place, kind, period)."""

SIDES = ((WHOLE, PREFILL), (WHOLE, DECODE))
SLACK_RATIO = 1e-6  # of one aim within the next, as the document says
NEAR = 1e-6  # a whole number
ITEMS = ("capex", "deliveries", "energy", "upkeep", "porting", "opening", "resale", "penalty", "remaining")


class Sum:
    """A constant and coefficients of decisions."""

    def __init__(self, constant: float = 0.0) -> None:
        self.constant = constant
        self.of: dict[Key, float] = {}

    def add(self, key: Key, times: float = 1.0) -> "Sum":
        self.of[key] = self.of.get(key, 0.0) + times
        return self

    def plus(self, other: "Sum", times: float = 1.0) -> "Sum":
        self.constant += times * other.constant
        for key, value in other.of.items():
            self.add(key, times * value)
        return self

    def at(self, values: Mapping[Key, float]) -> float:
        return self.constant + sum(times * values[key] for key, times in self.of.items())


@dataclass(frozen=True)
class Column:
    low: float
    high: float
    whole: bool = False


class Program:
    """Columns, rows and money of a problem."""

    def __init__(self, problem: PlanProblem) -> None:
        self.problem = problem
        self.times = range(len(problem.periods))
        self.sites = {one.slug: one for one in problem.sites}
        self.kinds = {one.slug: one for one in problem.kinds}
        self.services = {one.slug: one for one in problem.services}
        self.demand = {one.slug: problem.at(one.demand_tok_s) for one in problem.services}
        self.places_of = {slug: [one.slug for one in problem.located if one.site == slug] for slug in self.sites}
        self.home = {one.slug: one.site for one in problem.located}
        self.ways: dict[tuple[str, str, str], RateValues] = {}
        for rate in problem.rates:
            if rate.phase != WHOLE and not problem.rules.split:
                continue
            if self.services[rate.service].stays and self.kinds[rate.kind].homegrown:
                continue
            self.ways[rate.service, rate.kind, rate.phase] = rate
        self.columns: dict[Key, Column] = {}
        self.rows: list[tuple[Sum, float, float]] = []
        self._make_columns()
        for make in (
            self._make_demand,
            self._make_capacity,
            self._make_open,
            self._make_reserve,
            self._make_supply,
            self._make_kept,
            self._make_limits,
            self._make_waves,
            self._make_ramp,
            self._make_floors,
            self._make_failover,
        ):
            make()
        self.money = {t: self._make_money(t) for t in self.times}

    # --- what decisions there are ------------------------------------------------------------------------------

    def _make_columns(self) -> None:
        problem = self.problem
        standing = {(one.place, one.kind): problem.at(one.hosts) for one in problem.standing}
        self.standing = {
            (place, kind): standing.get((place, kind), (0.0,) * len(problem.periods))
            for place in self.home
            for kind in self.kinds
        }
        for (place, kind), hosts in self.standing.items():
            for t in self.times:
                self.columns["kept", place, kind, t] = Column(0, hosts[t], whole=True)
                come = self.delivered(self.home[place], kind, t) + self.offered(self.home[place], kind, t)
                self.columns["new", place, kind, t] = Column(0, come + self.offered("", kind, t), whole=True)
        for site, kind, t in itertools.product(self.sites, self.kinds, self.times):
            self.columns["bought", site, kind, t] = Column(0, math.inf)
            self.columns["free", site, kind, t] = Column(0, self.offered("", kind, t))  # of free offers, by then
        for way, rate in self.ways.items():
            homegrown = self.kinds[way[1]].homegrown
            for t in self.times:
                if homegrown:
                    shadow_first = problem.rules.shadow_ratio > 0 and t < problem.rules.shadow_periods
                    may = rate.in_use or (t >= rate.ready and not shadow_first)
                    self.columns["open", *way, t] = Column(int(rate.in_use), int(may), whole=True)
                left = self.has_left_gpus(way, t)
                for place in self.places_in(self.services[way[0]].region):
                    self.columns["serve", *way, place, t] = Column(0, 0 if left else math.inf)
                    self.columns["shadow" if homegrown else "reserve", *way, place, t] = Column(0, math.inf)
                for domain in self.domains_of(way[0]):
                    self.columns["survive", domain, *way, t] = Column(0, 0 if left else math.inf)
        for name, service in self.services.items():
            for t in self.times:
                most = 0 if service.penalty_per_mtok is None else self.demand[name][t]
                self.columns["short", name, t] = Column(0, most)
                for domain in self.domains_of(name):
                    most = 0 if problem.rules.failover_penalty_per_mtok is None else self.demand[name][t]
                    self.columns["lost", domain, name, t] = Column(0, most)

    def places_in(self, region: str) -> list[str]:
        return [place for place, site in self.home.items() if self.sites[site].region == region]

    def has_left_gpus(self, way: tuple[str, str, str], t: int) -> bool:
        start = self.services[way[0]].homegrown_from
        return start is not None and t >= start and not self.kinds[way[1]].homegrown

    def domains_of(self, service: str) -> list[str]:
        """Domains whose loss a service must survive."""
        one = self.services[service]
        if one.tier != self.problem.rules.failover_tier:
            return []
        near = set(self.places_in(one.region))
        return [domain.slug for domain in self.problem.domains if near & {lost.place for lost in domain.lost}]

    def delivered(self, site: str, kind: str, t: int) -> int:
        return sum(
            one.hosts for one in self.problem.deliveries if (one.site, one.kind) == (site, kind) and one.period <= t
        )

    def offered(self, site: str, kind: str, t: int) -> int:
        return sum(one.hosts for one in self.problem.offers if (one.site, one.kind) == (site, kind) and one.period <= t)

    def is_homegrown(self, way: tuple[str, str, str]) -> bool:
        return self.kinds[way[1]].homegrown

    # --- rows --------------------------------------------------------------------------------------------------

    def at_most(self, left: Sum, most: float = 0.0) -> None:
        self.rows.append((left, -math.inf, most))

    def at_least(self, left: Sum, least: float = 0.0) -> None:
        self.rows.append((left, least, math.inf))

    def equal(self, left: Sum, value: float = 0.0) -> None:
        self.rows.append((left, value, value))

    def tokens(self, what: str, service: str, t: int, phases: tuple[str, ...], homegrown: bool | None = None) -> Sum:
        """Sum of r x (or r v, r q) over ways of a service and its places. [tok/s]"""
        total = Sum()
        for way, rate in self.ways.items():
            if way[0] == service and way[2] in phases and homegrown in {None, self.is_homegrown(way)}:
                for place in self.places_in(self.services[service].region):
                    total.add((what, *way, place, t), rate.tok_s)
        return total

    def moved(self, service: str, t: int, phases: tuple[str, ...]) -> Sum:
        return self.tokens("serve", service, t, phases, homegrown=True)

    def moved_before(self, service: str, t: int, back: int, phases: tuple[str, ...]) -> Sum:
        """What was on homegrown hosts `back` periods ago, grown with demand. [tok/s]"""
        now = self.demand[service][t]
        if t < back:
            return Sum(self.services[service].homegrown_ratio * now)
        before = self.demand[service][t - back]
        return Sum().plus(self.moved(service, t - back, phases), now / before) if before else Sum()

    def up(self, place: str, kind: str, t: int) -> float:
        """Share of the hosts that can serve."""
        ratios = [self.problem.at(row.ratio)[t] for row in self.problem.up if (row.place, row.kind) == (place, kind)]
        return ratios[0] if ratios else 1.0

    def stand(self, place: str, kind: str, t: int, times: float = 1.0) -> Sum:
        return Sum().add(("kept", place, kind, t), times).add(("new", place, kind, t), times)

    def _make_demand(self) -> None:
        for name, t in itertools.product(self.services, self.times):
            for phases in SIDES:
                self.equal(self.tokens("serve", name, t, phases).add(("short", name, t)), self.demand[name][t])
            for site, places in self.places_of.items():
                if self.sites[site].region != self.services[name].region:
                    continue
                balance = Sum()
                for way, rate in self.ways.items():
                    for place in places:
                        if way[0] == name and way[2] != WHOLE:
                            sign = 1 if way[2] == PREFILL else -1
                            balance.add(("serve", *way, place, t), sign * rate.tok_s)
                if balance.of:
                    self.equal(balance)

    def _make_capacity(self) -> None:
        usable = 1 - self.problem.rules.reserve_ratio
        for place, kind, t in itertools.product(self.home, self.kinds, self.times):
            filled = Sum()
            for way in self.ways:
                if way[1] == kind and place in self.places_in(self.services[way[0]].region):
                    filled.add(("serve", *way, place, t))
                    filled.add(("shadow" if self.is_homegrown(way) else "reserve", *way, place, t))
            if filled.of:
                self.at_most(filled.plus(self.stand(place, kind, t), -usable * self.up(place, kind, t)))

    def _make_open(self) -> None:
        rules = self.problem.rules
        for way, rate in self.ways.items():
            if not self.is_homegrown(way):
                continue
            places = self.places_in(self.services[way[0]].region)
            for t in self.times:
                demand = self.demand[way[0]][t]
                served = Sum().add(("open", *way, t), -demand)
                for place in places:
                    served.add(("serve", *way, place, t), rate.tok_s)
                self.at_most(served)
                if t:
                    self.at_least(Sum().add(("open", *way, t)).add(("open", *way, t - 1), -1))
                ahead = t + rules.shadow_periods
                if ahead < len(self.times) and rules.shadow_ratio and rules.shadow_periods:
                    copied = Sum()
                    for place in places:
                        copied.add(("shadow", *way, place, t), rate.tok_s)
                    needed = rules.shadow_ratio * demand
                    self.at_least(copied.add(("open", *way, ahead), -needed).add(("open", *way, t), needed))

    def _make_reserve(self) -> None:
        rules = self.problem.rules
        if not rules.hold_periods:
            return
        for name, t in itertools.product(self.services, self.times):
            for phases in SIDES:
                held = self.tokens("reserve", name, t, phases, homegrown=False)
                held.plus(self.moved(name, t, phases), -rules.rollback_ratio)
                held.plus(self.moved_before(name, t, rules.hold_periods, phases), rules.rollback_ratio)
                self.at_least(held)

    def _make_supply(self) -> None:
        for kind, t in itertools.product(self.kinds, self.times):
            free = Sum()
            for site, places in self.places_of.items():
                bought = Sum()
                for before in range(t + 1):
                    bought.add(("bought", site, kind, before))
                stand = Sum()
                for place in places:
                    stand.add(("new", place, kind, t))
                self.at_most(stand.plus(bought, -1), self.delivered(site, kind, t))
                self.at_most(bought.add(("free", site, kind, t), -1), self.offered(site, kind, t))
                free.add(("free", site, kind, t))
            self.at_most(free, self.offered("", kind, t))

    def _make_kept(self) -> None:
        for (place, kind), hosts in self.standing.items():
            for t in self.times[1:]:
                fall = Sum().add(("kept", place, kind, t)).add(("kept", place, kind, t - 1), -1)
                self.at_most(fall, max(0.0, hosts[t] - hosts[t - 1]))
                self.at_least(Sum().add(("new", place, kind, t)).add(("new", place, kind, t - 1), -1))

    def _make_limits(self) -> None:
        for limit in self.problem.limits:
            for t in self.times:
                self.at_most(self.used(limit.uses, t), self.problem.at(limit.limit)[t])

    def used(self, uses: Sequence[object], t: int) -> Sum:
        total = Sum()
        for use in uses:
            total.plus(self.stand(use.place, use.kind, t, use.amount))
        return total

    def _make_waves(self) -> None:
        rules = self.problem.rules
        homegrown = [way for way in self.ways if self.is_homegrown(way)]
        for t in self.times:
            opened = Sum()
            for way in homegrown:
                opened.plus(self.opens(way, t))
            if rules.waves_most is not None:
                self.at_most(opened, rules.waves_most)
            for order in self.problem.order:
                then = [way for way in homegrown if way[0] == order.then]
                waits = Sum()
                for way in then:
                    waits.add(("open", *way, t))
                for way in homegrown:
                    if way[0] == order.first:
                        waits.add(("open", *way, t), -len(then))
                self.at_most(waits)

    def opens(self, way: tuple[str, str, str], t: int) -> Sum:
        """1 in the period in which a way opens."""
        now = Sum().add(("open", *way, t))
        return now.add(("open", *way, t - 1), -1) if t else now.plus(Sum(-int(self.ways[way].in_use)))

    def _make_ramp(self) -> None:
        ratio = self.problem.rules.ramp_ratio
        if ratio >= 1:
            return
        for name, t in itertools.product(self.services, self.times):
            for phases in SIDES:
                step = self.moved(name, t, phases).plus(self.moved_before(name, t, 1, phases), -1)
                self.at_most(step, ratio * self.demand[name][t])

    def _make_floors(self) -> None:
        for floor in self.problem.floors:
            for t in self.times[floor.period :]:
                left, needed = Sum(), 0.0
                for name, service in self.services.items():
                    if floor.region in {"", service.region} and floor.tier in {"", service.tier}:
                        prompts = service.input_ratio if floor.basis == TOKENS else 0.0
                        left.plus(self.homegrown_tokens(name, t, prompts))
                        needed += floor.ratio * (1 + prompts) * self.demand[name][t]
                self.at_least(left, needed)

    def homegrown_tokens(self, name: str, t: int, input_ratio: float) -> Sum:
        return self.moved(name, t, SIDES[1]).plus(self.moved(name, t, SIDES[0]), input_ratio)

    def _make_failover(self) -> None:
        for domain in self.problem.domains:
            lost = {one.place: one.ratio for one in domain.lost}
            used: dict[tuple[str, str, int], Sum] = {}
            for name, t in itertools.product(self.services, self.times):
                if domain.slug not in self.domains_of(name):
                    continue
                for phases in SIDES:
                    served = Sum().add(("lost", domain.slug, name, t))
                    for way, rate in self.ways.items():
                        if way[0] == name and way[2] in phases:
                            served.add(("survive", domain.slug, *way, t), rate.tok_s)
                    self.equal(served, self.demand[name][t])
                for way, rate in self.ways.items():
                    if way[0] != name:
                        continue
                    used.setdefault((self.services[name].region, way[1], t), Sum()).add(
                        ("survive", domain.slug, *way, t)
                    )
                    if self.is_homegrown(way):
                        done = Sum().add(("survive", domain.slug, *way, t), rate.tok_s)
                        self.at_most(done.add(("open", *way, t), -self.demand[name][t]))
            for (region, kind, t), hosts in used.items():
                for place in self.places_in(region):
                    hosts.plus(self.stand(place, kind, t, (lost.get(place, 0.0) - 1) * self.up(place, kind, t)))
                self.at_most(hosts)

    # --- money -------------------------------------------------------------------------------------------------

    def _make_money(self, t: int) -> dict[str, Sum]:
        """Return what a period costs, undiscounted, item by item. [money]"""
        problem, rules, count = self.problem, self.problem.rules, len(self.times)
        hours = problem.period_hours
        cost = {name: Sum() for name in ITEMS}
        for site, kind in itertools.product(self.sites, self.kinds):
            one = self.kinds[kind]
            cost["capex"].add(("bought", site, kind, t), one.price)
            if t == count - 1:
                for since in self.times:
                    worth = max(0.0, 1 - (count - since) * rules.period_months / one.life_months)
                    cost["remaining"].add(("bought", site, kind, since), -one.price * worth)
        cost["deliveries"].constant = sum(one.price * one.hosts for one in problem.deliveries if one.period == t)
        for (place, kind), hosts in self.standing.items():
            one = self.kinds[kind]
            cost["energy"].plus(self.stand(place, kind, t, self.kwh_price(place, kind, t) * hours * one.idle_w / 1000))
            cost["upkeep"].plus(self.stand(place, kind, t, one.upkeep_per_month * rules.period_months))
            book = [one.book_value * max(0.0, 1 - n * rules.period_months / one.months_left) for n in range(count + 1)]
            gone = Sum().add(("kept", place, kind, t), -1)
            if t:
                gone.add(("kept", place, kind, t - 1)).constant = max(0.0, hosts[t] - hosts[t - 1])
            else:
                gone.constant = hosts[0]
            cost["opening"].constant += one.resale_ratio * book[t] * gone.constant  # of all that come on their own
            cost["resale"].plus(gone, -one.resale_ratio * book[t])
            if t == count - 1:
                cost["remaining"].add(("kept", place, kind, t), -one.resale_ratio * book[count])
        self._add_loads(cost, t)
        for name, service in self.services.items():
            mtok = service.mean_ratio * 3600 * hours / 1e6
            cost["penalty"].add(("short", name, t), (service.penalty_per_mtok or 0.0) * mtok)
            for domain in self.domains_of(name):
                cost["penalty"].add(("lost", domain, name, t), (rules.failover_penalty_per_mtok or 0.0) * mtok)
        return cost

    def _add_loads(self, cost: dict[str, Sum], t: int) -> None:
        hours = self.problem.period_hours
        for way, rate in self.ways.items():
            one, service = self.kinds[way[1]], self.services[way[0]]
            busy_w = one.power_w if one.busy_w is None else one.busy_w
            for place in self.places_in(service.region):
                price = hours * self.kwh_price(place, way[1], t) / 1000
                above_idle = price * (busy_w - one.idle_w) * service.mean_ratio
                cost["energy"].add(("serve", *way, place, t), above_idle)
                if one.homegrown:
                    cost["energy"].add(("shadow", *way, place, t), above_idle)
            if one.homegrown:
                cost["porting"].plus(self.opens(way, t), rate.port_cost)

    def kwh_price(self, place: str, kind: str, t: int) -> float:
        site = self.sites[self.home[place]]
        subsidised = self.kinds[kind].homegrown and site.homegrown_tariff_per_kwh is not None
        return self.problem.at(site.homegrown_tariff_per_kwh if subsidised else site.tariff_per_kwh)[t] * site.pue_ratio

    def discount(self, t: int) -> float:
        rules = self.problem.rules
        return (1 + rules.discount_ratio_year) ** (-t * rules.period_months / 12)

    def discounted(self, t: int) -> Sum:
        """Cost of a period in money of the first. [money]"""
        total = Sum()
        for name, item in self.money[t].items():
            total.plus(item, self.discount(len(self.times) if name == "remaining" else t))
        return total

    def aims(self) -> list[Sum]:
        """What is to be least, one after the other."""
        cost = Sum()
        for t in self.times:
            cost.plus(self.discounted(t))
        if self.problem.rules.objective != SHARE_FIRST:
            return [cost]
        short, lost, share = Sum(), Sum(), Sum()  # tokens of the mean hour
        for name, t in itertools.product(self.services, self.times):
            mean_ratio = self.services[name].mean_ratio
            short.add(("short", name, t), mean_ratio)
            for domain in self.domains_of(name):
                lost.add(("lost", domain, name, t), mean_ratio)
            share.plus(self.homegrown_tokens(name, t, self.services[name].input_ratio), -mean_ratio)
        return [aim for aim in (short, lost, share) if any(self.columns[key].high for key in aim.of)] + [cost]


class Relaxed:
    """A linear program whose columns' ends move while the search goes on."""

    def __init__(self, program: Program, rows: Sequence[tuple[Sum, float, float]], aim: Sum) -> None:
        self.keys = list(program.columns)
        place = {key: at for at, key in enumerate(self.keys)}
        self.aim = aim
        self.low = np.array([column.low for column in program.columns.values()], dtype=float)
        self.high = np.array([column.high for column in program.columns.values()], dtype=float)
        self.whole = [at for at, column in enumerate(program.columns.values()) if column.whole]
        lp = highspy.HighsLp()
        lp.num_col_, lp.num_row_ = len(self.keys), len(rows)
        lp.col_lower_, lp.col_upper_ = self.low, self.high
        cost = np.zeros(len(self.keys))
        for key, times in aim.of.items():
            cost[place[key]] = times
        lp.col_cost_ = cost
        lp.row_lower_ = np.array([least - left.constant for left, least, _ in rows])
        lp.row_upper_ = np.array([most - left.constant for left, _, most in rows])
        starts, index, values = [0], [], []
        for left, _, _ in rows:
            index += [place[key] for key in left.of]
            values += list(left.of.values())
            starts.append(len(index))
        lp.a_matrix_.format_ = highspy.MatrixFormat.kRowwise
        lp.a_matrix_.start_, lp.a_matrix_.index_ = np.array(starts), np.array(index, dtype=np.int32)
        lp.a_matrix_.value_ = np.array(values, dtype=float)
        self.solver = highspy.Highs()
        for name, value in (
            ("output_flag", False),
            ("threads", 1),
            ("presolve", "off"),
            ("primal_feasibility_tolerance", 1e-9),
            ("dual_feasibility_tolerance", 1e-9),
        ):
            self.solver.setOptionValue(name, value)
        self.solver.passModel(lp)

    def solve(self, low: np.ndarray, high: np.ndarray) -> tuple[float, np.ndarray] | None:
        """Return the least value of the aim and where it is, or nothing if there is no solution."""
        self.solver.changeColsBounds(
            len(self.whole), np.array(self.whole, dtype=np.int32), low[self.whole], high[self.whole]
        )
        for _ in range(2):
            self.solver.run()
            status = self.solver.getModelStatus()
            if status == highspy.HighsModelStatus.kOptimal:
                value = self.solver.getInfo().objective_function_value + self.aim.constant
                return value, np.array(self.solver.getSolution().col_value)
            if status == highspy.HighsModelStatus.kInfeasible:
                return None
            self.solver.clearSolver()  # once more, from nothing
        raise ArithmeticError(f"the linear program ended as {status}")


Decisions = dict[Key, float]


def best_by_enumeration(problem: PlanProblem) -> tuple[float | None, Decisions]:
    """Return the discounted cost of the best plan and its decisions; None and nothing if there is no plan. [money]"""
    return _best(Program(problem), _search)


def best_by_listing(problem: PlanProblem) -> tuple[float | None, Decisions]:
    """The same, with one linear program for every combination of whole decisions."""
    return _best(Program(problem), _list)


def cost_with_openings(problem: PlanProblem, opened: Sequence[OpenRow]) -> float | None:
    """Return the cost of the best plan whose ways open so. [money]"""
    program = Program(problem)
    period_of = {(row.service, row.kind, row.phase): row.period for row in opened}
    for key, column in program.columns.items():
        if key[0] == "open":
            is_open = max(column.low, float(period_of.get(key[1:-1], math.inf) <= key[-1]))
            program.columns[key] = Column(is_open, is_open, whole=True)
    return _best(program, _search)[0]


def cost_with_parts_of_hosts(problem: PlanProblem) -> float | None:
    """Return the cost of the best plan if hosts could be kept and bought in parts. [money]"""
    program = Program(problem)
    for key, column in program.columns.items():
        if key[0] in {"kept", "new"}:
            program.columns[key] = replace(column, whole=False)
    return _best(program, _search)[0]


def _best(
    program: Program, search: Callable[[Relaxed], tuple[float, np.ndarray] | None]
) -> tuple[float | None, Decisions]:
    rows = list(program.rows)
    for aim in program.aims():
        relaxed = Relaxed(program, rows, aim)
        found = search(relaxed)
        if found is None:
            return None, {}
        value, at = found
        rows.append((aim, -math.inf, value + SLACK_RATIO * abs(value)))
    decisions = dict(zip(relaxed.keys, at.tolist(), strict=True))
    return value, {key: round(one) if program.columns[key].whole else max(0.0, one) for key, one in decisions.items()}


def _search(relaxed: Relaxed) -> tuple[float, np.ndarray] | None:
    """Depth first. A branch without a better plan is left; one whose decisions come out whole is done."""
    best: tuple[float, np.ndarray] | None = None
    branches = [(relaxed.low, relaxed.high)]
    while branches:
        low, high = branches.pop()
        found = relaxed.solve(low, high)
        if found is None or (best is not None and found[0] >= best[0] - 1e-9 * max(1.0, abs(best[0]))):
            continue
        at = found[1]
        off = [abs(at[column] - round(at[column])) for column in relaxed.whole]
        worst = max(range(len(off)), key=off.__getitem__, default=None)
        if worst is None or off[worst] <= NEAR:
            fixed_low, fixed_high = low.copy(), high.copy()
            fixed_low[relaxed.whole] = fixed_high[relaxed.whole] = np.round(at[relaxed.whole])
            exact = relaxed.solve(fixed_low, fixed_high)
            if exact is not None:
                best = exact if best is None or exact[0] < best[0] else best
                continue
            if worst is None or off[worst] == 0:
                raise ArithmeticError("whole decisions that the linear program itself gave are infeasible")
        column = relaxed.whole[worst]
        below, above = (low, high.copy()), (low.copy(), high)
        below[1][column], above[0][column] = math.floor(at[column]), math.ceil(at[column])
        nearer_up = at[column] - math.floor(at[column]) > 0.5
        branches += [below, above] if nearer_up else [above, below]
    return best


def _list(relaxed: Relaxed) -> tuple[float, np.ndarray] | None:
    """Every combination of whole decisions, each with its own linear program."""
    best: tuple[float, np.ndarray] | None = None
    for values in itertools.product(*_paths(relaxed)):
        low, high = relaxed.low.copy(), relaxed.high.copy()
        columns = [column for path in values for column in path]
        low[[at for at, _ in columns]] = high[[at for at, _ in columns]] = [value for _, value in columns]
        found = relaxed.solve(low, high)
        if found is not None and (best is None or found[0] < best[0]):
            best = found
    return best


def _paths(relaxed: Relaxed) -> list[list[list[tuple[int, int]]]]:
    """Of every whole decision: its courses over the periods, as (column, value).

    New hosts and open ways never fall; hosts that were kept rise by no more than come on their own.
    """
    groups: dict[Key, list[int]] = {}
    for column in relaxed.whole:
        groups.setdefault(relaxed.keys[column][:-1], []).append(column)
    made = []
    for key, columns in groups.items():
        ranges = [range(round(relaxed.low[column]), round(relaxed.high[column]) + 1) for column in columns]
        stand = [relaxed.high[column] for column in columns]
        rises = [math.inf] * len(stand) if key[0] != "kept" else [max(0, b - a) for a, b in itertools.pairwise(stand)]
        least = 0 if key[0] != "kept" else -math.inf
        courses = [
            course
            for course in itertools.product(*ranges)
            if all(least <= b - a <= rise for (a, b), rise in zip(itertools.pairwise(course), rises, strict=False))
        ]
        made.append([list(zip(columns, course, strict=True)) for course in courses])
    return made


def combinations(problem: PlanProblem) -> int:
    """Return how many combinations of whole decisions there are."""
    program = Program(problem)
    return math.prod(len(courses) for courses in _paths(Relaxed(program, [], Sum())))


def oracle_answer(problem: PlanProblem) -> MigrationAnswer:
    """Return the best plan as an answer."""
    program = Program(problem)
    objective, values = _best(program, _search)
    if objective is None:
        note = SolverNote("oracle", "infeasible", None, None, None, problem.rules.objective)
        return MigrationAnswer(status=INFEASIBLE, solver=note)
    return MigrationAnswer(
        status=OPTIMAL,
        solver=SolverNote("oracle", "optimal", objective, objective, 0.0, problem.rules.objective),
        hosts=tuple(_hosts_rows(program, values)),
        bought=tuple(
            BoughtRow(key[3], key[1], key[2], value)
            for key, value in values.items()
            if key[0] == "bought" and value > 0
        ),
        loads=tuple(_load_rows(program, values)),
        opened=tuple(
            OpenRow(t, *way)
            for way in program.ways
            if program.is_homegrown(way)
            for t in program.times
            if program.opens(way, t).at(values) > 0.5
        ),
        failover=tuple(
            FailoverRow(key[5], key[1], key[2], key[3], key[4], value)
            for key, value in values.items()
            if key[0] == "survive" and value > 0
        ),
        short=tuple(_short_rows(values)),
        money=tuple(_money_rows(program, values)),
        limits=tuple(
            LimitRow(
                t, one.slug, one.constraint, program.used(one.uses, t).at(values), problem.at(one.limit)[t], one.unit
            )
            for one in problem.limits
            for t in program.times
        ),
    )


def _hosts_rows(program: Program, values: Decisions) -> Iterator[HostsRow]:
    for place, kind, t in itertools.product(program.home, program.kinds, program.times):
        kept, new = values["kept", place, kind, t], values["new", place, kind, t]
        if kept or new:
            yield HostsRow(t, place, kind, int(kept), int(new))


def _load_rows(program: Program, values: Decisions) -> Iterator[LoadRow]:
    for way in program.ways:
        for place, t in itertools.product(program.places_in(program.services[way[0]].region), program.times):
            parts = [values.get((name, *way, place, t), 0.0) for name in ("serve", "shadow", "reserve")]
            if any(parts):
                yield LoadRow(t, way[0], place, way[1], way[2], *parts)


def _short_rows(values: Decisions) -> Iterator[ShortRow]:
    for key, value in values.items():
        if key[0] == "short" and value > 0:
            yield ShortRow(key[2], key[1], value)
        if key[0] == "lost" and value > 0:
            yield ShortRow(key[3], key[2], value, key[1])


def _money_rows(program: Program, values: Decisions) -> Iterator[MoneyRow]:
    for t in program.times:
        items = {name: item.at(values) for name, item in program.money[t].items()}
        yield MoneyRow(t, **items, total=sum(items.values()), discounted=program.discounted(t).at(values))
