"""How much of every demand a region's hosts can serve, tier by tier: the maximum concurrent flow, asked many times.

docs/models/capacity-plan.md has the mathematics. Services that need the same hosts are one commodity: splitting a
service changes no figure. Where a service may read prompts on one kind and write answers on another it has two rows.
"""

from collections.abc import Sequence
from dataclasses import dataclass, fields

import highspy
import numpy as np

from scenarios.planning.draws import Future
from scenarios.planning.problem import DECODE, GOLD, PREFILL, WHOLE, PlanProblem, RateValues
from scenarios.planning.program import BoolArray, FloatArray, IntArray

ALL = ""  # the tier of everything at once: the whole mix grows together
SERVED = 1e-9  # a share of demand short of 1 by less is all of it
SHARE_MOST = 1e9  # a share beyond this says that next to nothing is demanded
NOTICED_RATIO = 1e-7  # a commodity that loads its hosts by less than this of the hardest one's load is not noticed
PROMPTS, ANSWERS = (WHOLE, PREFILL), (WHOLE, DECODE)
ALIKE_DIGITS = 12  # rates in the same proportions to so many digits are the same need
CLOSE = 1e-9  # of the largest number beside it: below that a host or a price counts as none
TOLERANCE = 1e-9  # of the solver, in hosts and in shares
HELD_BACK_RATIO = 1e-9  # of what a higher tier is given where it is short: the solver's rounding must not refuse it
HELD_BACK_MORE = (1e-8, 1e-6)  # of the largest number, in turn, where that is not enough
RANK = {GOLD: 0, "standard": 1, "batch": 2}


@dataclass(frozen=True, slots=True)
class Commodity:
    """Services of one tier that need the same hosts, in units of the first one's tokens.

    `factor[i]` turns tokens per second of services[i] into such of services[0].
    """

    tier: str
    services: tuple[int, ...]
    factor: tuple[float, ...]
    rates: tuple[int, ...]
    is_split: bool


class Region:
    """A region: its services as commodities, its tiers in the order in which they are served, its programs.

    Parameters
    ----------
    alike : bool
        Whether services that need the same hosts are one commodity; not where each opens its ways for itself.

    Attributes
    ----------
    tiers : tuple of str
        In order; the last is `ALL`, the whole mix.
    """

    def __init__(self, problem: PlanProblem, slug: str, *, alike: bool = True) -> None:
        self.problem, self.slug = problem, slug
        self.services = tuple(at for at, one in enumerate(problem.services) if one.region == slug)
        self.ways = Ways(problem)
        self.commodities = _commodities(problem, self.services, self.ways, alike=alike)
        found = sorted({one.tier for one in self.commodities}, key=lambda tier: (RANK.get(tier, len(RANK)), tier))
        self.tiers = (*found, ALL)
        rank = {tier: at for at, tier in enumerate(found)}
        self._rank = np.array([rank[one.tier] for one in self.commodities], dtype=np.int64)
        self._programs: dict[int, _Concurrent] = {}
        self._turn = np.zeros((len(self.commodities), len(problem.services)))
        for at, one in enumerate(self.commodities):
            self._turn[at, list(one.services)] = one.factor

    def shares(self, future: Future, usable: FloatArray) -> "Shares":
        """Return what can be served of every tier and of the whole mix.

        A tier is judged after those above it have what they demand (or, where they are short, the share that they
        get); the whole mix is judged with equal shares for all. A service that no host may serve makes the share of
        its tier 0, and takes nothing from the tiers below.

        Parameters
        ----------
        usable : float64[K, T]
            Hosts of the region that may be loaded. [-]
        """
        asked = Asked(self, future, usable)
        levels, given = [], np.zeros_like(asked.demand)
        everything = np.arange(len(self.commodities))
        for rank in range(len(self.tiers) - 1):
            members = np.flatnonzero(self._rank == rank)
            share, served = self._level(asked, members, given, rank)
            levels.append(self._judged(future, asked, members, share, served))
            given[members] = asked.demand[members] * np.where(served < 1, served * (1 - HELD_BACK_RATIO), 1.0)
            given[members] *= asked.is_housed[members]
        if len(levels) == 1:
            return _joined([levels[0], levels[0]])
        share, _served = self._level(asked, everything, None, len(self.tiers) - 1)
        tiers = _joined(levels)
        whole = Shares(
            share, *(part.sum(axis=0) for part in (tiers.demand_tok_s, tiers.unserved_tok_s, tiers.lost_tok_s))
        )
        return _joined([*levels, whole])

    def alone(self, future: Future, usable: FloatArray, tier: str) -> "Shares":
        """Return what can be served of one tier, or of the whole mix, if everything else gives way; one row."""
        asked = Asked(self, future, usable)
        at = self.tiers.index(tier)
        members = np.flatnonzero(self._rank == at) if tier != ALL else np.arange(len(self.commodities))
        share, served = self._level(asked, members, None, len(self.tiers) + at)
        return _joined([self._judged(future, asked, members, share, served)])

    def learn(self, future: Future, usable: FloatArray) -> "Shares":
        """Return the shares of one future, from whose first bases every other future then begins.

        Draws are compared to the byte however they are shared out: each must begin from the same bases.
        """
        self._programs = {rank: _Concurrent() for rank in range(len(self.tiers))}
        for program in self._programs.values():
            program.learns = True
        found = self.shares(future, usable)
        for program in self._programs.values():
            program.learns = False
        return found

    def _judged(
        self, future: Future, asked: "Asked", members: IntArray, share: FloatArray, served: FloatArray
    ) -> "Shares":
        """Return the row of a tier: what its services demand, and what of it goes unserved."""
        demand, unserved, lost = np.zeros_like(share), np.zeros_like(share), np.zeros_like(share)
        short = 1 - np.minimum(served, 1.0)
        short[short < NOTICED_RATIO] = 0.0
        for at in members.tolist():
            ours = list(self.commodities[at].services)
            mean = np.array([self.problem.services[service].mean_ratio for service in ours])
            missing = np.where(asked.is_housed[at], short, 1.0)
            tok_s = future.demand_tok_s[ours]
            demand += tok_s.sum(axis=0)
            unserved += missing * tok_s.sum(axis=0)
            lost += missing * (mean @ tok_s)
        return Shares(share, demand, unserved, lost)

    def homeless(self, future: Future, usable: FloatArray) -> BoolArray:
        """Return which services with demand no host of the region may serve, bool[services, T]."""
        asked = Asked(self, future, usable)
        missing = (asked.demand > 0) & ~asked.is_housed
        found = np.zeros((len(self.services), usable.shape[1]), dtype=bool)
        row = {service: at for at, service in enumerate(self.services)}
        for at, one in enumerate(self.commodities):
            for service in one.services:
                found[row[service]] = missing[at] & (future.demand_tok_s[service] > 0)
        return found

    def _level(
        self, asked: "Asked", members: IntArray, given: FloatArray | None, program: int
    ) -> tuple[FloatArray, FloatArray]:
        """Return the share of a tier's demand that can be served, and of those that have hosts at all, float64[T]."""
        above = np.flatnonzero((given > 0).any(axis=1)) if given is not None else np.zeros(0, dtype=np.int64)
        solver = self._programs.setdefault(program, _Concurrent())
        served = solver.shares(asked, members, above, given[above] if given is not None else None)
        is_homeless = ((asked.demand[members] > 0) & ~asked.is_housed[members]).any(axis=0)
        return np.where(is_homeless, 0.0, served), served


@dataclass(frozen=True, eq=False)
class Shares:
    """What can be served, each float64[tiers, T].

    Attributes
    ----------
    share : float64
        Of demand that can be served; above 1 it is headroom. [-]
    demand_tok_s, unserved_tok_s : float64
        Demanded, and unserved if nothing is done, in the peak hour. [tok/s]
    lost_tok_s : float64
        Unserved in the mean over the period. [tok/s]
    """

    share: FloatArray
    demand_tok_s: FloatArray
    unserved_tok_s: FloatArray
    lost_tok_s: FloatArray


def _joined(rows: Sequence[Shares]) -> Shares:
    parts = [[getattr(row, one.name) for row in rows] for one in fields(Shares)]
    return Shares(*(np.stack(part) for part in parts))


class Ways:
    """Which rows of rates a capacity question may use, and from when.

    Attributes
    ----------
    used : tuple of int
        Rows of rates that may ever serve.
    """

    def __init__(self, problem: PlanProblem) -> None:
        self.problem = problem
        kinds = {kind.slug: kind for kind in problem.kinds}
        services = {service.slug: service for service in problem.services}
        self._is_homegrown = np.array([kinds[rate.kind].homegrown for rate in problem.rates], dtype=bool)
        until = [services[rate.service].homegrown_from for rate in problem.rates]
        count = len(problem.periods)
        self._gpu_until = np.array([count if one is None else one for one in until], dtype=np.int64)
        self.used = tuple(
            at
            for at, rate in enumerate(problem.rates)
            if rate.tok_s > 0
            and (rate.phase == WHOLE or problem.rules.split)
            and not (kinds[rate.kind].homegrown and services[rate.service].stays)
        )

    def may(self, ready: IntArray) -> BoolArray:
        """Return which rows of rates may serve in which period, bool[W, T]: homegrown ones once they are ready."""
        period = np.arange(len(self.problem.periods))
        homegrown = period >= ready[:, None]
        return np.where(self._is_homegrown[:, None], homegrown, period < self._gpu_until[:, None])


def _commodities(problem: PlanProblem, services: Sequence[int], ways: Ways, *, alike: bool) -> tuple[Commodity, ...]:
    """Return the services of a region, those that need the same hosts at the same times as one."""
    rows: dict[str, list[int]] = {problem.services[at].slug: [] for at in services}
    kind_at = {kind.slug: at for at, kind in enumerate(problem.kinds)}
    for at in ways.used:
        if problem.rates[at].service in rows:
            rows[problem.rates[at].service].append(at)
    groups: dict[object, list[tuple[int, float, list[int]]]] = {}
    for at in services:
        service = problem.services[at]
        ours = sorted(rows[service.slug], key=lambda row: (kind_at[problem.rates[row].kind], problem.rates[row].phase))
        most = max((problem.rates[row].tok_s for row in ours), default=1.0)
        key = (service.tier, service.homegrown_from, tuple(_need(problem.rates[row], most) for row in ours))
        groups.setdefault(key if ours and alike else at, []).append((at, most, ours))
    found = []
    for group in groups.values():
        first, most, ours = group[0]
        is_split = any(problem.rates[row].phase != WHOLE for row in ours)
        found.append(
            Commodity(
                tier=problem.services[first].tier,
                services=tuple(at for at, _most, _rows in group),
                factor=tuple(most / own for _at, own, _rows in group),
                rates=tuple(ours),
                is_split=is_split,
            )
        )
    return tuple(found)


def _need(rate: RateValues, most: float) -> tuple[object, ...]:
    """Return what two services must have in common, way by way, to need the same hosts in every future."""
    ends = [rate.tok_s if end is None else end for end in (rate.low_tok_s, rate.high_tok_s)]
    bands = (round(end / rate.tok_s, ALIKE_DIGITS) for end in ends)
    return rate.kind, rate.phase, 0 if rate.in_use else rate.ready, round(rate.tok_s / most, ALIKE_DIGITS), *bands


class Asked:
    """One future of one region as numbers: commodities C, their ways, kinds K, periods T.

    Attributes
    ----------
    demand : float64[C, T]
        In hosts of the best kind. [-]
    weight : list of float64[ways of the commodity]
        Rates over that of the best kind. [-]
    may : list of bool[ways of the commodity, T]
        Whether a way may serve, and has hosts.
    is_housed : bool[C, T]
        Whether there is a way for prompts and one for answers.
    load : float64[C, T]
        Demand over what all hosts could serve of it alone, within a factor of two. [-]
    """

    def __init__(self, region: Region, future: Future, usable: FloatArray) -> None:
        problem, commodities = region.problem, region.commodities
        self.commodities, self.usable = commodities, usable
        self.kinds = {kind.slug: at for at, kind in enumerate(problem.kinds)}
        may = region.ways.may(future.ready)
        count = usable.shape[1]
        demand = region._turn @ future.demand_tok_s  # noqa: SLF001 - both are one thing
        self.weight: list[FloatArray] = []
        self.may: list[BoolArray] = []
        self.kind: list[list[int]] = []
        self.phase: list[list[str]] = []
        self.is_housed = np.zeros((len(commodities), count), dtype=bool)
        self.demand, self.load = np.zeros_like(demand), np.zeros_like(demand)
        for at, one in enumerate(commodities):
            rows = list(one.rates)
            kind = [self.kinds[problem.rates[row].kind] for row in rows]
            phase = [problem.rates[row].phase for row in rows]
            rate = future.rate_tok_s[rows]
            best = float(rate.max(initial=0.0)) or 1.0
            here = may[rows] & (usable[kind] > 0) & (rate[:, None] > 0)
            self.weight.append(rate / best)
            self.may.append(here)
            self.kind.append(kind)
            self.phase.append(phase)
            self.demand[at] = demand[at] / best
            served = (rate / best)[:, None] * here * usable[kind]
            reads, writes = (np.array([name in phases for name in phase]) for phases in (PROMPTS, ANSWERS))
            alone = served.sum(axis=0)
            if one.is_split:
                alone = np.minimum(served[reads].sum(axis=0), served[writes].sum(axis=0))
            self.is_housed[at] = alone > 0
            self.load[at] = np.divide(self.demand[at], alone, out=np.zeros(count), where=alone > 0)


class _Concurrent:
    """Maximise theta: members get theta of their demand each, those above what they are given, kinds have their hosts.

    The model is kept from period to period and only its numbers change; every future begins anew, so an answer does
    not depend on what was asked before. A basis found for one period is the answer of every other period in which it
    stays feasible and no way is open that would improve it: those are not solved again.
    """

    def __init__(self) -> None:
        self._solver = highspy.Highs()
        for option, value in (
            ("output_flag", False),
            ("presolve", "off"),
            ("solver", "simplex"),
            ("threads", 1),
            ("primal_feasibility_tolerance", TOLERANCE),
            ("dual_feasibility_tolerance", TOLERANCE),
        ):
            self._solver.setOptionValue(option, value)
        self._begin: dict[tuple[int, ...], highspy.HighsBasis] = {}
        self.learns = False

    def shares(self, asked: Asked, members: IntArray, above: IntArray, given: FloatArray | None) -> FloatArray:
        """Return the largest share of the members' demand that can be served in each period, float64[T]. [-]

        Parameters
        ----------
        members, above : int64
            Commodities that are judged; those that have what they are `given`, float64[above, T], in hosts. [-]
        """
        count = asked.usable.shape[1]
        wanted = (asked.demand[members] > 0) & asked.is_housed[members]
        load = np.where(wanted, asked.load[members], 0.0)
        hardest = load.max(axis=0, initial=0.0)
        share = np.full(count, SHARE_MOST)
        left = np.flatnonzero(wanted.any(axis=0))
        if not len(left):
            return share
        # theta lies between the hardest commodity's own share and what is left of it: measured in it, it is of order 1
        is_noticed = load > NOTICED_RATIO * hardest
        scaled = np.where(is_noticed, asked.demand[members] / np.where(hardest > 0, hardest, 1.0), 0.0)
        commodities = np.concatenate((members, above)).tolist()
        self._write(asked, commodities)
        turn = np.repeat(np.arange(len(self._sizes)), self._sizes)  # the commodity of every row
        mine = turn < len(members)
        theta_column = np.zeros((len(turn), count))
        theta_column[mine] = -scaled[turn[mine]]
        bound = np.zeros((len(turn), count))
        if given is not None:
            bound[~mine] = given[turn[~mine] - len(members)]
        right = np.concatenate((bound, asked.usable))
        column = np.concatenate((theta_column, np.zeros_like(asked.usable)))
        most = np.maximum(1.0, right.max(axis=0))
        is_left = np.asarray(wanted.any(axis=0), dtype=bool)
        for period in left.tolist():
            if not is_left[period]:
                continue
            theta = self._solve(period, column, right)
            share[period] = theta / hardest[period]
            is_left[period] = False
            if self.learns and period == 0:
                self._begin[tuple(commodities)] = self._solver.getBasis()
            if theta > 0 and is_left.any():
                others = self._also(column, right, most, period, is_left)
                if others is not None:
                    is_same = is_left & (others >= 0)
                    share[is_same] = others[is_same] / hardest[is_same]
                    is_left &= others < 0
        return np.minimum(share, SHARE_MOST)

    def _write(self, asked: Asked, commodities: list[int]) -> None:
        """Write the ways of one future; commodities are members first, then those above."""
        self._sizes = [2 if asked.commodities[at].is_split else 1 for at in commodities]
        total, kinds = sum(self._sizes), asked.usable.shape[0]
        start, row = [0], 0
        index: list[int] = []
        value: list[float] = []
        for at, size in zip(commodities, self._sizes, strict=True):
            for way, weight in enumerate(asked.weight[at].tolist()):
                phase = asked.phase[at][way]
                ours = range(row, row + size) if phase == WHOLE else [row + (phase == DECODE)]
                index.extend(ours)
                value.extend([weight] * len(ours))
                index.append(total + asked.kind[at][way])
                value.append(1.0)
                start.append(len(index))
            row += size
        ways = len(start) - 1
        self._theta, self._total = ways, total
        self._may = np.concatenate([asked.may[at] for at in commodities])
        self._dense = np.zeros((total + kinds, ways + 1 + total + kinds))  # ways, theta, slacks
        self._dense[index, np.repeat(np.arange(ways), np.diff(start))] = value
        np.fill_diagonal(self._dense[:, ways + 1 :], 1.0)
        index.extend(range(total))
        value.extend([-1.0] * total)
        start.append(len(index))
        self._column, self._right = [-1.0] * total, [0.0] * (total + kinds)
        self._open = np.ones(ways, dtype=bool)
        model = highspy.HighsLp()
        model.num_col_, model.num_row_ = ways + 1, total + kinds
        model.col_cost_ = np.array([0.0] * ways + [-1.0])
        model.col_lower_, model.col_upper_ = np.zeros(ways + 1), np.full(ways + 1, np.inf)
        model.row_lower_ = np.array([0.0] * total + [-np.inf] * kinds)
        model.row_upper_ = np.array([np.inf] * total + [0.0] * kinds)
        model.a_matrix_.format_ = highspy.MatrixFormat.kColwise
        model.a_matrix_.start_ = np.array(start, dtype=np.int32)
        model.a_matrix_.index_ = np.array(index, dtype=np.int32)
        model.a_matrix_.value_ = np.array(value)
        self._solver.passModel(model)
        if tuple(commodities) in self._begin:
            self._solver.setBasis(self._begin[tuple(commodities)])

    def _solve(self, period: int, column: FloatArray, right: FloatArray) -> float:
        """Write the numbers of a period and solve; return theta."""
        solver, may = self._solver, self._may[:, period]
        for row, number in enumerate(column[: self._total, period].tolist()):
            if self._column[row] != number:
                solver.changeCoeff(row, self._theta, number)
                self._column[row] = number
        for row, number in enumerate(right[:, period].tolist()):
            if self._right[row] != number:
                is_kind = row >= self._total
                solver.changeRowBounds(row, -np.inf if is_kind else number, number if is_kind else np.inf)
                self._right[row] = number
        for way in np.flatnonzero(may != self._open).tolist():
            solver.changeColBounds(way, 0.0, np.inf if may[way] else 0.0)
        self._open = may
        for held in (0.0, 0.0, *HELD_BACK_MORE):
            if held:
                self._hold_back(right[:, period], held)
            solver.run()
            status = solver.getModelStatus()
            if status == highspy.HighsModelStatus.kOptimal:
                return max(0.0, -float(solver.getObjectiveValue()))
            solver.clearSolver()  # a basis kept from another period can lead astray: once more from nothing
        raise ArithmeticError(f"the share of demand that can be served was not found: {status}")

    def _hold_back(self, right: FloatArray, held: float) -> None:
        """Give tiers above a little less, of the largest number: rounding of their shares must not refuse the rest."""
        less = held * max(1.0, float(right.max()))
        for row, number in enumerate(right[: self._total].tolist()):
            if number > 0:
                self._right[row] = max(0.0, number - less)
                self._solver.changeRowBounds(row, self._right[row], np.inf)

    def _also(
        self, column: FloatArray, right: FloatArray, most: FloatArray, period: int, is_left: BoolArray
    ) -> FloatArray | None:
        """Return theta in every period left in which the basis just found is optimal too, elsewhere -1, float64[T].

        Without the column of theta the basis has one row of prices y that is 0 on all its columns; it is the same in
        every period. So theta = y right / y column, and hosts follow. The basis is optimal where no host is negative
        (primal) and no open way nor slack would improve theta (dual): what the simplex method itself stops on.
        """
        theta_at, total = self._theta, self._total
        _status, basic = self._solver.getBasicVariables()  # type: ignore[attr-defined]
        columns = np.where(basic >= 0, basic, theta_at - basic)  # the slack of row r is given as -(r + 1)
        at = int((columns == theta_at).argmax())
        if columns[at] != theta_at:
            return None
        # where a basic way is shut it is not the same program
        is_best = is_left & self._may.take(columns[columns < theta_at], axis=0).all(axis=0)
        if not is_best.any():
            return None
        basis = self._dense.take(columns, axis=1)
        basis[:, at] = column[:, period]
        try:
            inverse = np.linalg.inv(basis)
        except np.linalg.LinAlgError:
            return None
        prices = inverse[at]
        size = CLOSE * max(float(prices.max()), -float(prices.min()))
        reduced = prices @ self._dense
        reduced[columns] = 0.0
        slack = reduced[theta_at + 1 :]
        if slack[:total].max() > size or slack[total:].min() < -size:
            return None
        below = prices @ column
        is_best &= below > 0
        improves = np.flatnonzero(reduced[:theta_at] < -size)
        if len(improves):
            is_best &= ~self._may.take(improves, axis=0).any(axis=0)
        if not is_best.any():
            return None
        theta = (prices @ right) / np.where(below > 0, below, 1.0)
        values = inverse @ (right - theta * column)
        values[at] = theta
        # the slack of a demand row is what is served beyond it, so it enters with -1, that of a kind with +1
        values[(columns > theta_at) & (columns <= theta_at + total)] *= -1.0
        is_best &= values.min(axis=0) >= -CLOSE * most
        return np.where(is_best, theta, -1.0)


def regions_of(problem: PlanProblem) -> tuple[str, ...]:
    """Return the regions that have services, in the order of their first sites; those without a site come last."""
    served = dict.fromkeys(service.region for service in problem.services)
    sited = dict.fromkeys(site.region for site in problem.sites if site.region in served)
    return tuple({**sited, **served})
