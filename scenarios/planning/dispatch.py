"""A plan's decisions in another future: hosts that really stand, ways that are really open, loads solved anew.

Kept are hosts sent away and bought, waves, and the share of every service that has moved. Loads are solved by region
and period: first what goes unserved, gold before standard before the rest; then the share that the plan has moved; then
energy.
"""

from dataclasses import dataclass

import highspy
import numpy as np

from scenarios.planning.arrivals import Ground
from scenarios.planning.draws import NEVER, Future
from scenarios.planning.headroom import ANSWERS, PROMPTS, RANK, Ways
from scenarios.planning.migration_program import Facts
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import WHOLE, PlanProblem
from scenarios.planning.program import BoolArray, FloatArray, IntArray

SHORT_COST = (1e4, 1e2, 1.0)  # of a host's worth of traffic unserved: gold, standard, all others
SHARE_COST = 1e-2  # of a host's worth below the share that the plan has moved
EXCESS_COST = 1e-3  # and above it
ENERGY_COST = 1e-4  # of the energy of a full host of the hungriest kind
NOTICED = 1e-6  # of demand: what the solver's rounding leaves over


@dataclass(frozen=True, eq=False)
class Loads:
    """What a future makes of a plan.

    Attributes
    ----------
    hosts : float64[P, K, T]
        Hosts that really stand, by place and kind. [-]
    open_from : int64[W]
        Period in which every row of rates really opens; NEVER: not at all.
    unserved_tok_s, prompts_tok_s, answers_tok_s, gpu_tok_s : float64[M, T]
        Unserved; whose prompts, whose answers are on homegrown hosts; that are in part on GPUs. [tok/s]
    money : float64[T]
        Deliveries, energy, upkeep and penalty: what differs from future to future. [money]
    """

    hosts: FloatArray
    open_from: IntArray
    unserved_tok_s: FloatArray
    prompts_tok_s: FloatArray
    answers_tok_s: FloatArray
    gpu_tok_s: FloatArray
    money: FloatArray


class Dispatch:
    """A plan that can be put into one future after the other.

    Parameters
    ----------
    problem, answer
        The question, and a plan for it.
    """

    def __init__(self, problem: PlanProblem, answer: MigrationAnswer) -> None:
        self.problem, self.ground, self.facts = problem, Ground(problem), Facts.of(problem)
        self._ways = Ways(problem)
        self._used = np.zeros(len(problem.rates), dtype=bool)
        self._used[list(self._ways.used)] = True
        ground, count = self.ground, len(problem.periods)
        shape = ground.standing.shape
        self._kept, self._new = np.zeros(shape), np.zeros(shape)
        for row in answer.hosts:
            where = ground.place_at[row.place], ground.kind_at[row.kind], row.period
            self._kept[where], self._new[where] = row.kept, row.new
        self._bought = np.zeros((len(problem.sites), len(problem.kinds), count))
        for purchase in answer.bought:
            self._bought[ground.site_at[purchase.site], ground.kind_at[purchase.kind], purchase.period :] += (
                purchase.hosts
            )
        rate_at = {(rate.service, rate.kind, rate.phase): at for at, rate in enumerate(problem.rates)}
        homegrown = np.array([kind.homegrown for kind in problem.kinds])
        self._rate_kind = np.array([ground.kind_at[rate.kind] for rate in problem.rates], dtype=np.int64)
        self.is_homegrown: BoolArray = homegrown[self._rate_kind]
        self._opens = np.where(self.is_homegrown, NEVER, 0)
        for at, rate in enumerate(problem.rates):
            if rate.in_use:
                self._opens[at] = 0
        for opened in answer.opened:
            self._opens[rate_at[opened.service, opened.kind, opened.phase]] = opened.period
        self.opened = tuple(rate_at[row.service, row.kind, row.phase] for row in answer.opened)
        self._moved = self._shares_moved(answer, rate_at)
        self._regions = tuple(
            _Region(self, slug) for slug in dict.fromkeys(service.region for service in problem.services)
        )

    def _shares_moved(self, answer: MigrationAnswer, rate_at: dict[tuple[str, str, str], int]) -> FloatArray:
        """Return the share of every service's prompts and answers on homegrown hosts in the plan, float64[2, M, T]."""
        service_at = {service.slug: at for at, service in enumerate(self.problem.services)}
        moved = np.zeros((2, len(service_at), len(self.problem.periods)))
        for load in answer.loads:
            row = rate_at[load.service, load.kind, load.phase]
            if self.is_homegrown[row]:
                for part, phases in enumerate((PROMPTS, ANSWERS)):
                    if load.phase in phases:
                        tok_s = self.problem.rates[row].tok_s * load.serving_hosts
                        moved[part, service_at[load.service], load.period] += tok_s
        demand = np.array([self.facts.demand[service.slug] for service in self.problem.services])
        return np.minimum(np.divide(moved, demand, out=np.zeros_like(moved), where=demand > 0), 1.0)

    def loads(self, future: Future) -> Loads:
        """Return what a future makes of the plan."""
        problem = self.problem
        hosts = self._kept + self._arrived(future)
        open_from = np.maximum(self._opens, np.where(self.is_homegrown, future.ready, 0))
        # a GPU's traffic ends where the service must have left it; a homegrown way begins when it opens
        may = self._ways.may(open_from) & self._used[:, None]
        shape = (len(problem.services), len(problem.periods))
        unserved, prompts, answers, gpu = (np.zeros(shape) for _ in range(4))
        busy = np.zeros(len(problem.periods))
        for region in self._regions:
            busy += region.solve(future, hosts, may, self._moved, (unserved, prompts, answers, gpu))
        money = busy + self._money(future, hosts, unserved)
        return Loads(hosts, open_from, unserved, prompts, answers, gpu, money)

    def _arrived(self, future: Future) -> FloatArray:
        """Return the new hosts that really stand: the plan's, as far as they have come, in its first places first."""
        ground = self.ground
        come = self._bought.copy()
        for at, row in enumerate(self.problem.deliveries):
            come[ground.site_at[row.site], ground.kind_at[row.kind], int(future.arrival[at]) :] += future.arrival_hosts[
                at
            ]
        found = np.zeros_like(self._new)
        for site, places in enumerate(ground.places_of):
            for place in places.tolist():
                found[place] = np.minimum(self._new[place], np.maximum(come[site], 0.0))
                come[site] -= found[place]
        return found

    def _money(self, future: Future, hosts: FloatArray, unserved_tok_s: FloatArray) -> FloatArray:
        """Return deliveries, energy of idling, upkeep and penalty, float64[T]. [money]"""
        problem, facts = self.problem, self.facts
        total = np.zeros(len(problem.periods))
        for at, row in enumerate(problem.deliveries):
            if future.arrival[at] < len(total):
                total[future.arrival[at]] += row.price * future.arrival_hosts[at]
        for k, kind in enumerate(problem.kinds):
            for site, places in enumerate(self.ground.places_of):
                standing = hosts[places, k].sum(axis=0)
                price = facts.energy_price(problem.sites[site], homegrown=kind.homegrown)
                total += standing * (price * kind.idle_w + kind.upkeep_per_month * problem.rules.period_months)
        for at, service in enumerate(problem.services):
            total += facts.penalty_price(service.penalty_per_mtok or 0.0, service) * unserved_tok_s[at]
        return total


class _Region:
    """The loads of one region: a linear program that is kept through the periods of a future."""

    def __init__(self, plan: Dispatch, slug: str) -> None:
        self._plan, problem = plan, plan.problem
        self.services = [at for at, one in enumerate(problem.services) if one.region == slug]
        service_at = {problem.services[at].slug: i for i, at in enumerate(self.services)}
        self.rates = [
            at
            for at, rate in enumerate(problem.rates)
            if rate.service in service_at and plan._used[at]  # noqa: SLF001
        ]
        self._of = np.array([service_at[problem.rates[at].service] for at in self.rates], dtype=np.int64)
        self._kind = plan._rate_kind[self.rates]  # noqa: SLF001 - both are one thing
        phases = [problem.rates[at].phase for at in self.rates]
        self._parts = [np.array([phase in one for phase in phases], dtype=bool) for one in (PROMPTS, ANSWERS)]
        self._is_split = np.zeros(len(self.services), dtype=bool)
        for i, phase in zip(self._of.tolist(), phases, strict=True):
            self._is_split[i] |= phase != WHOLE
        self._homegrown = plan.is_homegrown[self.rates]
        sites = problem.sites
        self._sites = [at for at, site in enumerate(sites) if site.region == slug]
        self._places = [places for at in self._sites for places in [plan.ground.places_of[at]]]
        self._highs = highspy.Highs()
        for option, value in (("output_flag", False), ("presolve", "off"), ("solver", "simplex"), ("threads", 1)):
            self._highs.setOptionValue(option, value)
        self._highs.setOptionValue("dual_feasibility_tolerance", 1e-9)

    def _energy(self, hosts: FloatArray) -> FloatArray:
        """Return what a full host of every kind costs above idling, at the mean tariff of where they stand, [K, T]."""
        plan, problem = self._plan, self._plan.problem
        found = np.zeros(hosts.shape[1:])
        for k, kind in enumerate(problem.kinds):
            busy_w = kind.power_w if kind.busy_w is None else kind.busy_w
            prices = np.array(
                [plan.facts.energy_price(problem.sites[site], homegrown=kind.homegrown) for site in self._sites]
            )
            standing = np.array([hosts[places, k].sum(axis=0) for places in self._places])
            total = standing.sum(axis=0)
            weight = np.divide(standing, total, out=np.full_like(standing, 1 / len(standing)), where=total > 0)
            found[k] = (busy_w - kind.idle_w) * (weight * prices).sum(axis=0)
        return found

    def solve(
        self,
        future: Future,
        hosts: FloatArray,
        may: BoolArray,
        moved: FloatArray,
        out: tuple[FloatArray, FloatArray, FloatArray, FloatArray],
    ) -> FloatArray:
        """Write unserved, prompts, answers and GPU tokens of the region's services; return the energy of loads, [T]."""
        problem, services = self._plan.problem, self.services
        count = len(problem.periods)
        inside = np.concatenate(self._places)
        standing = (self._plan.ground.up[inside] * hosts[inside]).sum(axis=0)  # [K, T]
        usable = standing * (1 - np.maximum(problem.rules.reserve_ratio, 1 - future.up_ratio))
        energy, demand = self._energy(hosts), future.demand_tok_s[services]
        mean = np.array([problem.services[at].mean_ratio for at in services])
        rate = future.rate_tok_s[self.rates]
        best = np.ones(len(services))
        np.maximum.at(best, self._of, rate)
        self._write(rate / best[self._of], energy, mean, len(usable))
        spent = np.zeros(count)
        unserved, prompts, answers, gpu = out
        for period in range(count):
            wanted = demand[:, period] / best
            values = self._period(wanted, moved[:, services, period], usable[:, period], may[self.rates, period])
            load = values[: len(self.rates)]
            short = values[len(self.rates) : len(self.rates) + len(services)] * best
            short[short < NOTICED * demand[:, period]] = 0.0
            tok_s = load * rate
            unserved[services, period] = short
            for part, into in zip(self._parts, (prompts, answers), strict=True):
                into[services, period] = _summed(tok_s, self._of, part & self._homegrown, len(services))
            gpu[services, period] = np.maximum(
                *(_summed(tok_s, self._of, part & ~self._homegrown, len(services)) for part in self._parts)
            )
            spent[period] = float(load @ (energy[self._kind, period] * mean[self._of]))
        return spent

    def _write(self, weight: FloatArray, energy: FloatArray, mean: FloatArray, kinds: int) -> None:
        """Write the program of a future: loads, unserved, below and above the share moved, by service."""
        ways, services = len(self.rates), len(self.services)
        rows: list[int] = []
        columns: list[int] = []
        numbers: list[float] = []

        def put(row: int, column: int, number: float) -> None:
            rows.append(row)
            columns.append(column)
            numbers.append(number)

        # rows: prompts, answers, homegrown prompts, homegrown answers of every service; then kinds
        for part, ours in enumerate(self._parts):
            for way in np.flatnonzero(ours).tolist():
                put(part * services + int(self._of[way]), way, float(weight[way]))
                if self._homegrown[way]:
                    put((2 + part) * services + int(self._of[way]), way, float(weight[way]))
            for i in range(services):
                put(part * services + i, ways + i, 1.0)
                below = ways + services * (1 + 2 * part) + i
                put((2 + part) * services + i, below, 1.0)
                put((2 + part) * services + i, below + services, -1.0)
        for way, kind in enumerate(self._kind.tolist()):
            put(4 * services + kind, way, 1.0)
        total_columns, total_rows = ways + 5 * services, 4 * services + kinds
        tiers = [self._plan.problem.services[at].tier for at in self.services]
        short = [SHORT_COST[min(RANK.get(tier, len(RANK)), len(SHORT_COST) - 1)] for tier in tiers]
        hungriest = max(float((energy.max(axis=1, initial=0.0)).max(initial=0.0)), 1e-300)
        per_host = ENERGY_COST * energy.mean(axis=1)[self._kind] * mean[self._of] / hungriest
        order = np.lexsort((rows, columns))
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = total_columns, total_rows
        both = [SHARE_COST] * services + [EXCESS_COST] * services
        model.col_cost_ = np.concatenate((per_host, short, both, both))
        model.col_lower_, model.col_upper_ = np.zeros(total_columns), np.full(total_columns, np.inf)
        model.row_lower_ = np.where(np.arange(total_rows) < 4 * services, 0.0, -np.inf)
        model.row_upper_ = np.zeros(total_rows)
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = np.searchsorted(np.array(columns)[order], np.arange(total_columns + 1)).astype(
            np.int32
        )
        model.a_matrix_.index_ = np.array(rows, dtype=np.int32)[order]
        model.a_matrix_.value_ = np.array(numbers)[order]
        self._highs.passModel(model)
        self._open = np.ones(ways, dtype=bool)
        self._right: list[tuple[float, float]] = [(np.nan, np.nan)] * total_rows

    def _period(self, wanted: FloatArray, moved: FloatArray, usable: FloatArray, may: BoolArray) -> FloatArray:
        """Return the values of the columns for one period."""
        highs, services = self._highs, len(self.services)
        right: list[tuple[float, float]] = []
        for amount in (wanted, wanted, wanted * moved[0], wanted * moved[1]):
            right += [(number, number) for number in amount.tolist()]
        # a service with whole ways alone has its answers twice: once would do, twice does no harm
        right += [(-np.inf, number) for number in usable.tolist()]
        for row, ends in enumerate(right):
            if ends != self._right[row]:
                highs.changeRowBounds(row, *ends)
        self._right = right
        for way in np.flatnonzero(may != self._open).tolist():
            highs.changeColBounds(way, 0.0, np.inf if may[way] else 0.0)
        self._open = may
        for _ in range(2):
            highs.run()
            status = highs.getModelStatus()
            if status == highspy.HighsModelStatus.kOptimal:
                return np.maximum(np.array(highs.getSolution().col_value), 0.0)
            highs.clearSolver()  # a basis kept from another period can lead astray: once more from nothing
        raise ArithmeticError(f"the loads of {services} services were not solved: {status}")


def _summed(values: FloatArray, groups: IntArray, chosen: BoolArray, count: int) -> FloatArray:
    return np.bincount(groups[chosen], weights=values[chosen], minlength=count).astype(np.float64)
