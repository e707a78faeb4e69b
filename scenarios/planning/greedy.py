"""The rule that people use for a migration, as a plan: what optimising is held against.

Period by period, with no look at later ones beyond what is dated: hosts go into racks as soon as they come; of the ways
that are ready those open first that free most GPU hosts per homegrown host, as many as waves, copies and hosts allow;
hosts are bought only where traffic would go unserved; GPUs go only where a limit needs their room and nothing needs
them. Traffic moves as soon as it may.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from scenarios.planning.comparisons import loads_best, plan_of, rows_dropped, short_allowed
from scenarios.planning.migration_program import ANSWERS, PROMPTS, MigrationProgram
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import (
    NPV,
    LimitValues,
    OfferValues,
    PlanProblem,
    ServiceValues,
    SiteValues,
    SolverValues,
    StandingValues,
    problem_check,
)
from scenarios.planning.program import FloatArray, Frozen
from scenarios.planning.solver import Solved, Stop, never, solve

NOTHING = 1e-6  # hosts, or a share of demand, below this are nothing
KEPT_RATIO = 1e-6  # of what an earlier aim came to: later aims may give up no more
BLOCKING = 1e3  # a GPU host in the way of one that waits is given up before so many others
BUYING_GAP = 0.01  # of a purchase
BUYING_NODES = 500

Pair = tuple[str, str]  # place or site, kind


def plan_greedy(problem: PlanProblem, *, should_stop: Stop = never) -> MigrationAnswer:
    """Return the plan that the rule gives.

    Loads are those that leave the fewest tokens short, then move the most, then cost the least. Demand that does not
    fit is short even where it must be served. Floors do not steer it, and what stands when it begins may break a limit
    or an order: `reconciling.requirements_missed` says what it misses.

    Raises
    ------
    ArithmeticError
        If the decisions that the rule takes break a requirement that no unserved traffic can mend.
    """
    problem_check(problem)
    program = MigrationProgram(problem)
    rule = _Rule(program, should_stop)
    for period in range(program.count):
        rule.step(period)
    now, after = program.tokens_short()
    frozen = rows_dropped(program.frozen, {"floor", "limit", "order"})
    aims = (now, after, -program.tokens_homegrown())
    solved = loads_best(program, frozen, rule.point(), aims=aims, should_stop=should_stop)
    return plan_of(program, solved, sense="a rule: tokens unserved, then homegrown tokens, then money")


@dataclass
class _Month:
    """What one period's loads come to: tokens short, traffic moved by service and side, hosts filled and needed."""

    short_tok_s: float
    moved: dict[tuple[str, int], float]  # service, side: share of demand [-]
    filled: dict[Pair, float]  # place, kind; homegrown only
    needed: dict[Pair, float]  # place, kind; GPUs only


class _Rule:
    """The state of a fleet as the rule goes through the periods."""

    def __init__(self, program: MigrationProgram, should_stop: Stop) -> None:
        self.program, self.problem, self.should_stop = program, program.problem, should_stop
        self.facts, self.ways, self.count = program.facts, program.ways, program.count
        problem = self.problem
        self.homegrown = {kind.slug: kind.homegrown for kind in problem.kinds}
        self.site_of = {place.slug: place.site for place in problem.located}
        region = {site.slug: site.region for site in problem.sites}
        self.region_of = {place: region[site] for place, site in self.site_of.items()}
        self.services = {service.slug: service for service in problem.services}
        zeros = np.zeros(self.count)
        self.sent: dict[Pair, FloatArray] = {pair: zeros.copy() for pair in program.columns.kept}
        self.kept: dict[Pair, FloatArray] = {pair: self.facts.standing[pair].copy() for pair in program.columns.kept}
        self.new: dict[Pair, FloatArray] = {pair: zeros.copy() for pair in program.columns.new}
        self.copies: dict[Pair, FloatArray] = defaultdict(lambda: np.zeros(self.count))
        self.waiting: dict[Pair, int] = {}  # site, kind: in the order in which they came
        self.used_offers: dict[Pair, int] = defaultdict(int)  # site or "", kind
        self.open_from = {at: 0 for at, way in enumerate(self.ways) if way.homegrown and way.rate.in_use}
        self.pledged: list[tuple[int, int, float]] = []  # opens in, way, traffic [tok/s]
        self.month = _Month(0.0, {}, {}, {})
        self.history: list[_Month] = []
        rules = problem.rules
        self.ahead = rules.shadow_periods if rules.shadow_ratio > 0 else 0

    def step(self, period: int) -> None:
        """Decide one period."""
        for row in self.problem.deliveries:
            if row.period == period and row.hosts:
                self.waiting[row.site, row.kind] = self.waiting.get((row.site, row.kind), 0) + row.hosts
        self._keep_limits(period)
        self._rack(period)
        if not self.ahead:
            self._open(period, period)
        self.month = self._loads(period)
        if self.waiting and self._make_room(period):
            self.month = self._loads(period)
        demand_tok_s = sum(float(demand[period]) for demand in self.facts.demand.values())
        if self.month.short_tok_s > NOTHING * demand_tok_s and self._buy(period):
            self.month = self._loads(period)
        if self.ahead and period + self.ahead < self.count:
            self._open(period, period + self.ahead)
        self.history.append(self.month)

    def point(self) -> FloatArray:
        """Return the whole decisions as a point of the program, float64[C]."""
        point = np.zeros(len(self.program.frozen.lower))
        for pair, at in self.program.columns.kept.items():
            point[at] = self.kept[pair]
        for pair, at in self.program.columns.new.items():
            point[at] = self.new[pair]
        for way, at in self.program.columns.opened.items():
            point[at] = np.arange(self.count) >= self.open_from.get(way, self.count)
        return point

    # --- hosts --------------------------------------------------------------------------------------------------------
    def hosts(self, pair: Pair) -> FloatArray:
        zeros = np.zeros(self.count)
        return self.kept.get(pair, zeros) + self.new.get(pair, zeros)

    def used(self, limit: LimitValues) -> FloatArray:
        return sum((use.amount * self.hosts((use.place, use.kind)) for use in limit.uses), np.zeros(self.count))

    def _send(self, pair: Pair, period: int, hosts: float) -> None:
        """Send hosts away for good; those dated to come later still do."""
        self.sent[pair][period] += hosts
        standing, comes = self.facts.standing[pair], self.facts.arriving(*pair)
        before = float(standing[0])
        for t in range(self.count):
            before = max(0.0, float(min(standing[t], before + comes[t]) - self.sent[pair][t]))
            self.kept[pair][t] = before

    def _keep_limits(self, period: int) -> None:
        """Send hosts away where those that stand are too many: GPUs that were not needed, other GPUs, then the rest."""
        for limit in self.problem.limits:
            uses = [one for one in limit.uses if one.amount > 0 and (one.place, one.kind) in self.kept]
            uses.sort(
                key=lambda one: (self.homegrown[one.kind], -self._spare((one.place, one.kind), period), one.place)
            )
            for use in uses:
                over = float(self.used(limit)[period]) - self.problem.at(limit.limit)[period]
                hosts = min(math.ceil(over / use.amount - NOTHING), self.kept[use.place, use.kind][period])
                if hosts > 0:
                    self._send((use.place, use.kind), period, hosts)

    def _spare(self, pair: Pair, period: int) -> float:
        """Return the GPU hosts that nothing needs. [-]"""
        kept = float(self.kept[pair][period]) if pair in self.kept else 0.0
        return max(0.0, math.floor(kept - self.month.needed.get(pair, 0.0) + NOTHING))

    def _fits(self, pair: Pair, period: int) -> int:
        """Return how many more hosts fit, now and with all that is dated to come. [-]"""
        most = math.inf
        for limit in self.problem.limits:
            for use in limit.uses:
                if (use.place, use.kind) == pair and use.amount > 0:
                    room = (np.array(self.problem.at(limit.limit)) - self.used(limit))[period:].min()
                    most = min(most, math.floor(room / use.amount + NOTHING))
        return max(0, int(min(most, 1e9)))

    def _rack(self, period: int) -> bool:
        """Put hosts that wait into racks, place by place; return whether any went."""
        racked = False
        for (site, kind), waiting in list(self.waiting.items()):
            left = waiting
            for place, home in self.site_of.items():
                hosts = min(left, self._fits((place, kind), period)) if home == site else 0
                if hosts:
                    self.new[place, kind][period:] += hosts
                    left -= hosts
                    racked = True
            if left:
                self.waiting[site, kind] = left
            else:
                del self.waiting[site, kind]
        return racked

    def _make_room(self, period: int) -> bool:
        """Send GPUs away that nothing needs, one after the other, while a host that waits gets their room."""
        changed = False
        for site, kind in list(self.waiting):
            places = [place for place, home in self.site_of.items() if home == site]
            while (site, kind) in self.waiting and any(self._clear((place, kind), period) for place in places):
                changed = self._rack(period) or changed
        return changed

    def _clear(self, pair: Pair, period: int) -> bool:
        """Send away what one more host in a place needs, if enough is spare; else change nothing."""
        sent, kept = (
            {one: values.copy() for one, values in self.sent.items()},
            {one: values.copy() for one, values in self.kept.items()},
        )
        for limit in self.problem.limits:
            wants = next((use.amount for use in limit.uses if (use.place, use.kind) == pair), 0.0)
            for use in limit.uses:
                short = wants - (np.array(self.problem.at(limit.limit)) - self.used(limit))[period:].min()
                if wants <= 0 or short <= NOTHING or use.amount <= 0 or self.homegrown[use.kind]:
                    continue
                one = (use.place, use.kind)
                hosts = min(self._spare(one, period), math.ceil(short / use.amount - NOTHING))
                if hosts > 0:
                    self._send(one, period, hosts)
        if self._fits(pair, period) > 0:
            return True
        self.sent, self.kept = sent, kept
        return False

    # --- openings -----------------------------------------------------------------------------------------------------
    def _open(self, period: int, opens_in: int) -> None:
        """Open ways in a period, most GPU hosts freed per homegrown host first, while there is room for them."""
        rules = self.problem.rules
        most = math.inf if rules.waves_most is None else rules.waves_most
        left = {
            (slug, side): float(demand[opens_in]) * (1 - self.month.moved.get((slug, side), self._share_before(slug)))
            for slug, demand in self.facts.demand.items()
            for side in range(2)
        }
        for opens, pledged, tok_s in self.pledged:
            if opens > period:
                self._take(pledged, tok_s, left)
        opened = 0
        for at in self._candidates(opens_in):
            way, slug = self.ways[at], self.ways[at].rate.service
            if opened >= most:
                break
            if not self._may_open(slug, opens_in):
                continue
            wanted = min(left[slug, side] for side in self._sides(at)) / way.rate.tok_s
            room = self._room(at, period, opens_in)
            copies = (
                rules.shadow_ratio * float(self.facts.demand[slug][period:opens_in].max(initial=0.0)) / way.rate.tok_s
            )
            if wanted <= NOTHING or room < min(1.0, wanted) - NOTHING or room < copies - NOTHING:
                continue
            if not self._copy(at, period, opens_in):
                continue
            self.open_from[at] = opens_in
            tok_s = min(wanted, room) * way.rate.tok_s
            self.pledged.append((opens_in, at, tok_s))
            self._take(at, tok_s, left)
            opened += 1

    def _candidates(self, opens_in: int) -> list[int]:
        """Return ways that are ready and closed, best first."""
        ready = [
            at
            for at, way in enumerate(self.ways)
            if way.homegrown and at not in self.open_from and way.rate.ready <= opens_in
        ]
        return sorted(ready, key=lambda at: (-self._freed(at), self.ways[at].key))

    def _freed(self, at: int) -> float:
        """Return the GPU hosts that one homegrown host of a way frees; endless where no GPU does its work. [-]"""
        rate = self.ways[at].rate
        gpu_tok_s = [
            way.rate.tok_s
            for way in self.ways
            if not way.homegrown and (way.rate.service, way.rate.phase) == (rate.service, rate.phase)
        ]
        return rate.tok_s / max(gpu_tok_s) if gpu_tok_s else math.inf

    def _may_open(self, slug: str, opens_in: int) -> bool:
        """Return whether everybody that goes first has opened a way."""
        return all(
            any(self.ways[at].rate.service == row.first and opens <= opens_in for at, opens in self.open_from.items())
            for row in self.problem.order
            if row.then == slug
        )

    def _room(self, at: int, period: int, opens_in: int) -> float:
        """Return the hosts of a way's kind in its region that carry nothing yet, from now until it opens. [-]"""
        return sum(self._room_in(place, at, period, opens_in) for place in self._places(at)) - sum(
            tok_s / self.ways[way].rate.tok_s
            for opens, way, tok_s in self.pledged
            if opens > period
            and self.ways[way].rate.kind == self.ways[at].rate.kind
            and self._region(way) == self._region(at)
        )

    def _room_in(self, place: str, at: int, period: int, opens_in: int) -> float:
        pair = place, self.ways[at].rate.kind
        usable = 1 - self.problem.rules.reserve_ratio
        until = max(opens_in, period + 1)
        hosts = usable * (self.hosts(pair) * self.facts.up(*pair))[period:until].min()
        return max(0.0, float(hosts - self.copies[pair][period:until].max()) - self.month.filled.get(pair, 0.0))

    def _copy(self, at: int, period: int, opens_in: int) -> bool:
        """Set hosts aside for copies until a way opens; return whether there are enough."""
        rate, rules = self.ways[at].rate, self.problem.rules
        set_aside: dict[Pair, FloatArray] = defaultdict(lambda: np.zeros(self.count))
        for t in range(period, opens_in):
            wanted = rules.shadow_ratio * float(self.facts.demand[rate.service][t]) / rate.tok_s
            for place in self._places(at):
                aside = min(wanted, self._room_in(place, at, period, opens_in))
                set_aside[place, rate.kind][t] = aside
                wanted -= aside
            if wanted > NOTHING:
                return False
        for pair, hosts in set_aside.items():
            self.copies[pair] = self.copies[pair] + hosts
        return True

    def _take(self, at: int, tok_s: float, left: dict[tuple[str, int], float]) -> None:
        for side in self._sides(at):
            left[self.ways[at].rate.service, side] -= tok_s

    def _sides(self, at: int) -> Iterator[int]:
        """Yield 0 where a way writes answers, 1 where it reads prompts."""
        yield from (side for side, phases in enumerate((ANSWERS, PROMPTS)) if self.ways[at].rate.phase in phases)

    def _region(self, at: int) -> str:
        return self.services[self.ways[at].rate.service].region

    def _places(self, at: int) -> list[str]:
        return [place for place, region in self.region_of.items() if region == self._region(at)]

    def _share_before(self, slug: str) -> float:
        return self.services[slug].homegrown_ratio

    # --- one period's loads -------------------------------------------------------------------------------------------
    def _problem(self, period: int) -> PlanProblem:
        """Return the question of one period: the hosts that stand, the ways that are open."""
        open_now = {self.ways[at].key for at, opens in self.open_from.items() if opens <= period}
        rates = tuple(
            replace(way.rate, ready=0, in_use=way.homegrown)
            for way in self.ways
            if not way.homegrown or way.key in open_now
        )
        pairs = sorted({*self.kept, *self.new})
        return replace(
            self.problem,
            periods=(self.problem.periods[period],),
            sites=tuple(self._site(one, period) for one in self.problem.sites),
            services=tuple(self._service(one, period) for one in self.problem.services),
            rates=rates,
            standing=tuple(
                StandingValues(*pair, hosts=(float(self.hosts(pair)[period]),))
                for pair in pairs
                if self.hosts(pair)[period] > 0
            ),
            up=tuple(replace(row, ratio=(self.problem.at(row.ratio)[period],)) for row in self.problem.up),
            deliveries=(),
            offers=(),
            limits=(),
            floors=(),
            order=(),
            rules=replace(self.problem.rules, waves_most=None, shadow_ratio=0.0, objective=NPV),
        )

    def _site(self, site: SiteValues, period: int) -> SiteValues:
        own = site.homegrown_tariff_per_kwh
        return replace(
            site,
            tariff_per_kwh=(self.problem.at(site.tariff_per_kwh)[period],),
            homegrown_tariff_per_kwh=None if own is None else (self.problem.at(own)[period],),
            kgco2e_per_kwh=(0.0,),
        )

    def _service(self, service: ServiceValues, period: int) -> ServiceValues:
        left = service.homegrown_from
        return replace(
            service,
            demand_tok_s=(float(self.facts.demand[service.slug][period]),),
            homegrown_from=0 if left is not None and period >= left else None,
        )

    def _bounded(self, program: MigrationProgram, period: int) -> Frozen:
        """Return one period's program with what earlier periods leave it: ramp, way back, copies."""
        frozen, rules = program.frozen, self.problem.rules
        row_lower, row_upper = frozen.row_lower.copy(), frozen.row_upper.copy()
        copies = {f"{kind} in {place}": float(hosts[period]) for (place, kind), hosts in self.copies.items()}
        for number, one in enumerate(frozen.requirements):
            rows = np.flatnonzero(frozen.row_requirement == number)
            if one.kind in {"ramp", "rollback"}:
                demand = float(self.facts.demand[one.subject][period])
                for side, row in enumerate(rows):
                    if one.kind == "ramp":
                        row_upper[row] = (self._moved(one.subject, side, period, 1) + rules.ramp_ratio) * demand
                    else:
                        before = self._moved(one.subject, side, period, rules.hold_periods)
                        row_lower[row] = -rules.rollback_ratio * before * demand
            elif one.kind == "capacity" and one.subject in copies:
                row_upper[rows] = -copies[one.subject]
        return short_allowed(program, replace(frozen, row_lower=row_lower, row_upper=row_upper))

    def _moved(self, slug: str, side: int, period: int, back: int) -> float:
        """Return the share of a service that had moved so many periods before. [-]"""
        if period < back:
            return self._share_before(slug)
        return self.history[period - back].moved.get((slug, side), 0.0)

    def _loads(self, period: int) -> _Month:
        """Return a period's loads: the fewest tokens short, then the most moved, then the fewest GPU hosts."""
        program = MigrationProgram(self._problem(period))
        frozen = self._bounded(program, period)
        frozen = replace(frozen, whole=np.zeros_like(frozen.whole))
        lower = frozen.lower.copy()
        now, after = program.tokens_short()
        for (_place, kind), at in program.columns.kept.items():
            if self.homegrown[kind]:
                lower[at] = frozen.upper[at]
        for at in program.columns.opened.values():
            lower[at] = 1.0
        solved = self._aims(
            replace(frozen, lower=lower),
            (now + after, -program.tokens_homegrown(), self._hosts_cost(program)),
        )
        point = solved.point
        filled: dict[Pair, float] = defaultdict(float)
        for (way, place), at in program.columns.serving.items():
            if program.ways[way].homegrown:
                filled[place, program.ways[way].rate.kind] += float(point[at[0]])
        columns, demand = program.columns, program.facts.demand
        return _Month(
            short_tok_s=sum(float(point[at[0]]) for at in (*columns.short.values(), *columns.failover_short.values())),
            moved={
                (slug, side): float(point[at[0]]) / float(demand[slug][0]) if demand[slug][0] else 0.0
                for side, moved in enumerate((columns.answers, columns.prompts))
                for slug, at in moved.items()
            },
            filled=dict(filled),
            needed={pair: float(point[at[0]]) for pair, at in columns.kept.items() if not self.homegrown[pair[1]]},
        )

    def _hosts_cost(self, program: MigrationProgram) -> FloatArray:
        """Return what counts GPU hosts; those in the way of hosts that wait count more. float64[C]"""
        cost = np.zeros(len(program.frozen.lower))
        waits = {(place, kind) for site, kind in self.waiting for place, home in self.site_of.items() if home == site}
        blocking = {
            (use.place, use.kind)
            for limit in self.problem.limits
            if any((use.place, use.kind) in waits for use in limit.uses)
            for use in limit.uses
        }
        for pair, at in program.columns.kept.items():
            if not self.homegrown[pair[1]]:
                cost[at] = BLOCKING if pair in blocking else 1.0
        return cost

    def _aims(self, frozen: Frozen, aims: tuple[FloatArray, ...]) -> Solved:
        """Return the best point for one aim after the other, each within what the ones before it allow."""
        extra: tuple[tuple[FloatArray, float], ...] = ()
        for aim in aims:
            if extra and not aim.any():
                continue
            solved = solve(frozen, aim, self._options(), extra=extra, should_stop=self.should_stop)
            reached = float(aim @ solved.point)
            extra += ((aim, reached + KEPT_RATIO * max(1.0, abs(reached))),)
        return solved

    def _options(self) -> SolverValues:
        return replace(self.problem.solver, gap_ratio=BUYING_GAP, nodes_most=BUYING_NODES)

    def _buy(self, period: int) -> bool:
        """Buy what serves the tokens that are short now, at the least price; return whether anything was bought."""
        offers = self._offers_left(period)
        if not offers:
            return False
        month = self._problem(period)
        program = MigrationProgram(replace(month, offers=offers, limits=tuple(self._limits_left(month, period))))
        frozen = self._bounded(program, period)
        lower = frozen.lower.copy()
        for at in program.columns.kept.values():
            lower[at] = frozen.upper[at]
        price = np.zeros(len(lower))
        now, after = program.tokens_short()
        prices = {kind.slug: kind.price for kind in self.problem.kinds}
        for part in (program.columns.bought_own, program.columns.bought_free):
            for (_site, kind), at in part.items():
                price[at] = prices[kind] + 1.0
        solved = self._aims(replace(frozen, lower=lower), (now + after, price))
        bought = False
        for pair, at in program.columns.new.items():
            hosts = round(float(solved.point[at[0]]))
            if hosts:
                self.new[pair][period:] += hosts
                self._offers_use(self.site_of[pair[0]], pair[1], hosts, period)
                bought = True
        return bought

    def _offered(self, site: str, kind: str, period: int) -> int:
        """Return the hosts offered by a period, for a site or, without one, for all, that are not bought yet. [-]"""
        total = sum(
            one.hosts for one in self.problem.offers if (one.site, one.kind) == (site, kind) and one.period <= period
        )
        return total - self.used_offers[site, kind]

    def _offers_left(self, period: int) -> tuple[OfferValues, ...]:
        known = sorted({(one.site, one.kind) for one in self.problem.offers})
        left = ((site, kind, self._offered(site, kind, period)) for site, kind in known)
        return tuple(OfferValues(kind, 0, hosts, site) for site, kind, hosts in left if hosts > 0)

    def _offers_use(self, site: str, kind: str, hosts: int, period: int) -> None:
        own = min(hosts, max(0, self._offered(site, kind, period)))
        self.used_offers[site, kind] += own
        self.used_offers["", kind] += hosts - own

    def _limits_left(self, month: PlanProblem, period: int) -> Iterator[LimitValues]:
        """Yield limits of one period that leave what hosts dated to come will need."""
        stands = {(row.place, row.kind): row.hosts[0] for row in month.standing}
        for limit in self.problem.limits:
            room = float((np.array(self.problem.at(limit.limit)) - self.used(limit))[period:].min())
            used = sum(use.amount * stands.get((use.place, use.kind), 0.0) for use in limit.uses)
            yield replace(limit, limit=(max(0.0, used + max(0.0, room)),))
