"""The migration problem as a mixed-integer program; symbols and numbers of constraints: docs/models/plan.md.

Every block is built over all periods at once.
"""

from collections import defaultdict
from dataclasses import dataclass, field

import numpy as np

from scenarios.planning.problem import (
    DECODE,
    OUTPUT,
    PREFILL,
    WHOLE,
    PlanProblem,
    RateValues,
    ServiceValues,
    SiteValues,
)
from scenarios.planning.program import INFINITE, FloatArray, Frozen, IntArray, Program, Requirement

PROMPTS, ANSWERS = (WHOLE, PREFILL), (WHOLE, DECODE)

Pair = tuple[str, str]


@dataclass(frozen=True, slots=True)
class Way:
    """A row of rates that may be used: a service on a kind of host in a phase."""

    rate: RateValues
    homegrown: bool

    @property
    def key(self) -> tuple[str, str, str]:
        """Service, kind and phase."""
        return self.rate.service, self.rate.kind, self.rate.phase


def _is_closed(rate: RateValues, service: ServiceValues, periods: int) -> bool:
    """Whether a homegrown way never opens within the horizon."""
    return service.stays or (rate.ready >= periods and not rate.in_use)


@dataclass
class Columns:
    """Positions of the columns of every decision, each int64[T]."""

    kept: dict[Pair, IntArray] = field(default_factory=dict)  # place, kind
    new: dict[Pair, IntArray] = field(default_factory=dict)  # place, kind
    bought_own: dict[Pair, IntArray] = field(default_factory=dict)  # site, kind
    bought_free: dict[Pair, IntArray] = field(default_factory=dict)  # site, kind
    opened: dict[int, IntArray] = field(default_factory=dict)  # way
    serving: dict[tuple[int, str], IntArray] = field(default_factory=dict)  # way, place
    shadow: dict[tuple[int, str], IntArray] = field(default_factory=dict)  # way, place
    reserve: dict[tuple[int, str], IntArray] = field(default_factory=dict)  # way, place
    short: dict[str, IntArray] = field(default_factory=dict)  # service
    prompts: dict[str, IntArray] = field(default_factory=dict)  # service
    answers: dict[str, IntArray] = field(default_factory=dict)  # service
    failover: dict[tuple[str, int], IntArray] = field(default_factory=dict)  # domain, way
    failover_short: dict[Pair, IntArray] = field(default_factory=dict)  # domain, service


@dataclass(frozen=True)
class Facts:
    """What the program and the accounts both need of a problem, as arrays over its periods.

    Attributes
    ----------
    discount : float64[T + 1]
        What money of the start of each period, and of the end, counts in the first. [-]
    standing : mapping of (place, kind) to float64[T]
        Hosts that stand if nothing is done. [-]
    delivered : mapping of (site, kind) to float64[T]
        Hosts delivered by each period. [-]
    """

    problem: PlanProblem
    ways: tuple[Way, ...]
    discount: FloatArray
    standing: dict[Pair, FloatArray]
    delivered: dict[Pair, FloatArray]
    demand: dict[str, FloatArray]

    @classmethod
    def of(cls, problem: PlanProblem) -> "Facts":
        """Return the facts of a problem."""
        count = len(problem.periods)
        kinds = {kind.slug: kind for kind in problem.kinds}
        services = {service.slug: service for service in problem.services}
        ways = tuple(
            Way(rate, kinds[rate.kind].homegrown)
            for rate in problem.rates
            if rate.tok_s > 0
            and (rate.phase == WHOLE or problem.rules.split)
            and not (kinds[rate.kind].homegrown and _is_closed(rate, services[rate.service], count))
        )
        years = np.arange(count + 1) * problem.rules.period_months / 12
        delivered: dict[Pair, FloatArray] = defaultdict(lambda: np.zeros(count))
        for row in problem.deliveries:
            delivered[row.site, row.kind][row.period :] += row.hosts
        return cls(
            problem=problem,
            ways=ways,
            discount=(1 + problem.rules.discount_ratio_year) ** -years,
            standing={(row.place, row.kind): np.array(problem.at(row.hosts)) for row in problem.standing},
            delivered=dict(delivered),
            demand={service.slug: np.array(problem.at(service.demand_tok_s)) for service in problem.services},
        )

    def arriving(self, place: str, kind: str) -> FloatArray:
        """Return the hosts dated to come in each period; those of the first stand before it. float64[T]. [-]"""
        standing = self.standing[place, kind]
        return np.maximum(np.diff(standing, prepend=standing[0]), 0.0)

    def up(self, place: str, kind: str) -> FloatArray:
        """Return the share of the hosts that can serve, float64[T]. [-]"""
        return np.array(self.problem.up_ratios.get((place, kind), (1.0,) * len(self.problem.periods)))

    def book(self, kind: str) -> FloatArray:
        """Return what a host of a kind brings at the start of each period, and at the end, float64[T + 1]. [money]"""
        fact = next(one for one in self.problem.kinds if one.slug == kind)
        months = np.arange(len(self.problem.periods) + 1) * self.problem.rules.period_months
        return fact.resale_ratio * fact.book_value * np.maximum(0.0, 1 - months / fact.months_left)

    def remaining_ratio(self, kind: str) -> FloatArray:
        """Return the share of its price that a host bought in each period is worth at the end, float64[T]. [-]"""
        fact = next(one for one in self.problem.kinds if one.slug == kind)
        count = len(self.problem.periods)
        months = (count - np.arange(count)) * self.problem.rules.period_months
        return np.maximum(0.0, 1 - months / fact.life_months)

    def energy_price(self, site: SiteValues, *, homegrown: bool) -> FloatArray:
        """Return what a watt drawn through a period costs, float64[T]. [money/W]"""
        subsidised = site.homegrown_tariff_per_kwh if homegrown else None
        tariff = np.array(self.problem.at(subsidised or site.tariff_per_kwh))
        return self.problem.period_hours * site.pue_ratio * tariff / 1000

    def penalty_price(self, per_mtok: float, service: ServiceValues) -> float:
        """Return what one token per second of the peak hour costs that goes unserved for a period. [money s/tok]"""
        return per_mtok * service.mean_ratio * 3600 * self.problem.period_hours / 1e6

    def homegrown_share_before(self, service: ServiceValues) -> FloatArray:
        """Return the traffic that had moved before the first period, at each period's demand, float64[T]. [tok/s]"""
        return service.homegrown_ratio * self.demand[service.slug]

    def growth(self, service: str, periods: int) -> FloatArray:
        """Return demand over that of so many periods before, 0 where that is 0; from that period on, float64[T - n]."""
        demand = self.demand[service]
        before, now = demand[: len(demand) - periods], demand[periods:]
        return np.divide(now, before, out=np.zeros_like(now), where=before > 0)


class MigrationProgram:
    """The program of a problem, with the positions of its decisions and its costs in money."""

    def __init__(self, problem: PlanProblem) -> None:
        self.facts = Facts.of(problem)
        self.problem, self.ways = problem, self.facts.ways
        self.count = len(problem.periods)
        self.columns = Columns()
        self._program = Program()
        self._sites = {site.slug: site for site in problem.sites}
        self._kinds = {kind.slug: kind for kind in problem.kinds}
        self._site_of = {place.slug: place.site for place in problem.located}
        self._places_of: dict[str, list[str]] = defaultdict(list)  # region
        for place in problem.located:
            self._places_of[self._sites[place.site].region].append(place.slug)
        self._ways_of: dict[str, list[int]] = defaultdict(list)  # service
        for at, way in enumerate(self.ways):
            self._ways_of[way.rate.service].append(at)
        self.limit_rows: dict[str, IntArray] = {}
        self._hosts()
        self._supply()
        self._limits()
        self._openings()
        for service in problem.services:
            self._service(service)
        self._capacity()
        self._failover()
        self._floors()
        self._order()
        self.frozen: Frozen = self._program.done()
        self.money, self.constant = self._money()

    # --- hosts --------------------------------------------------------------------------------------------------------
    def _hosts(self) -> None:
        """Hosts kept (8) and new ones, by place and kind."""
        program, facts, columns = self._program, self.facts, self.columns
        for pair, standing in facts.standing.items():
            if not standing.any():
                continue
            columns.kept[pair] = program.columns(self.count, upper=standing, whole=True)
            arriving = facts.arriving(*pair)
            rows = program.rows(Requirement("kept", " ".join(pair)), self.count - 1, upper=arriving[1:])
            program.put(rows, columns.kept[pair][1:], 1.0)
            program.put(rows, columns.kept[pair][:-1], -1.0)
        offered = {(offer.site, offer.kind) for offer in self.problem.offers if offer.hosts}
        for place, site in self._site_of.items():
            for kind in self._kinds:
                comes = facts.delivered.get((site, kind), np.zeros(self.count))
                buys = {(site, kind), ("", kind)} & offered
                if not comes.any() and not buys:
                    continue
                columns.new[place, kind] = program.columns(self.count, whole=True)
                rows = program.rows(Requirement("new", f"{place} {kind}"), self.count - 1, lower=0.0)
                program.put(rows, columns.new[place, kind][1:], 1.0)
                program.put(rows, columns.new[place, kind][:-1], -1.0)

    def _supply(self) -> None:
        """New hosts come from deliveries and purchases, purchases from offers (7)."""
        program, facts, columns = self._program, self.facts, self.columns
        own: dict[Pair, FloatArray] = defaultdict(lambda: np.zeros(self.count))
        for offer in self.problem.offers:
            own[offer.site, offer.kind][offer.period :] += offer.hosts
        until = np.tril(np.ones((self.count, self.count)))
        row, column = np.nonzero(until)
        free: dict[str, list[IntArray]] = defaultdict(list)
        for site in self._sites:
            for kind in self._kinds:
                places = [p for p, s in self._site_of.items() if s == site and (p, kind) in columns.new]
                if not places:
                    continue
                comes = facts.delivered.get((site, kind), np.zeros(self.count))
                rows = program.rows(Requirement("supply", kind), self.count, upper=comes)
                for place in places:
                    program.put(rows, columns.new[place, kind], 1.0)
                for source, offers in ((site, columns.bought_own), ("", columns.bought_free)):
                    offered = own.get((source, kind))
                    if offered is None or not offered.any():
                        continue
                    offers[site, kind] = program.columns(self.count, upper=np.where(offered > 0, INFINITE, 0.0))
                    program.put(rows[row], offers[site, kind][column], -1.0)
                    if source:
                        most = program.rows(Requirement("offers", kind), self.count, upper=offered)
                        program.put(most[row], offers[site, kind][column], 1.0)
                    else:
                        free[kind].append(offers[site, kind])
        for kind, bought in free.items():
            most = program.rows(Requirement("offers", kind), self.count, upper=own["", kind])
            for columns_of_site in bought:
                program.put(most[row], columns_of_site[column], 1.0)

    def _limits(self) -> None:
        """What hosts share (9)."""
        for limit in self.problem.limits:
            rows = self._program.rows(
                Requirement("limit", limit.slug), self.count, upper=np.array(self.problem.at(limit.limit))
            )
            self.limit_rows[limit.slug] = rows
            for use in limit.uses:
                for hosts in (self.columns.kept, self.columns.new):
                    if (use.place, use.kind) in hosts:
                        self._program.put(rows, hosts[use.place, use.kind], use.amount)

    # --- services -----------------------------------------------------------------------------------------------------
    def _openings(self) -> None:
        """Homegrown ways open once, when they are ready, so many a period (3, 10)."""
        rules, program = self.problem.rules, self._program
        opened: list[tuple[IntArray, float]] = []
        for at, way in enumerate(self.ways):
            if not way.homegrown:
                continue
            first = 0 if way.rate.in_use else way.rate.ready
            if rules.shadow_ratio > 0 and not way.rate.in_use:
                first = max(first, rules.shadow_periods)
            z = program.columns(self.count, lower=1.0 if way.rate.in_use else 0.0, upper=1.0, whole=True)
            self.columns.opened[at] = z
            if first:
                program.put(program.rows(Requirement("ready", " ".join(way.key)), 1, upper=0.0), z[:first], 1.0)
            rows = program.rows(Requirement("opened", " ".join(way.key)), self.count - 1, lower=0.0)
            program.put(rows, z[1:], 1.0)
            program.put(rows, z[:-1], -1.0)
            opened.append((z, float(way.rate.in_use)))
        if rules.waves_most is not None and opened:
            before = np.zeros(self.count)
            before[0] = sum(was for _z, was in opened)
            rows = program.rows(Requirement("waves", "fleet"), self.count, upper=rules.waves_most + before)
            for z, _was in opened:
                program.put(rows, z, 1.0)
                program.put(rows[1:], z[:-1], -1.0)

    def _service(self, service: ServiceValues) -> None:
        """Demand, openness, shadow, what has moved, the way back, and the ramp of one service (1, 3 to 6, 11)."""
        program, columns = self._program, self.columns
        demand = self.facts.demand[service.slug]
        may_be_short = service.penalty_per_mtok is not None
        short = columns.short[service.slug] = program.columns(self.count, upper=demand if may_be_short else 0.0)
        ways = self._ways_of[service.slug]
        places = self._places_of[service.region]
        for at in ways:
            self._way(service, at, places)
        is_split = any(self.ways[at].rate.phase != WHOLE for at in ways)
        for phases in (PROMPTS, ANSWERS) if is_split else (ANSWERS,):
            rows = program.rows(Requirement("demand", service.slug), self.count, lower=demand, upper=demand)
            program.put(rows, short, 1.0)
            for at in ways:
                if self.ways[at].rate.phase in phases:
                    for place in places:
                        program.put(rows, columns.serving[at, place], self.ways[at].rate.tok_s)
        if is_split:
            self._one_site(service, ways, places)
        self._moved(service, ways, places, is_split=is_split)

    def _way(self, service: ServiceValues, at: int, places: list[str]) -> None:
        """Loads of one way in the places of its region; a homegrown one is open, a GPU is left when it must be."""
        program, columns, rules, way = self._program, self.columns, self.problem.rules, self.ways[at]
        demand, tok_s = self.facts.demand[service.slug], way.rate.tok_s
        left = service.homegrown_from
        for place in places:
            columns.serving[at, place] = program.columns(self.count)
            if not way.homegrown and left is not None:
                rows = program.rows(Requirement("left", service.slug), self.count - left, upper=0.0)
                program.put(rows, columns.serving[at, place][left:], 1.0)
            if not way.homegrown and rules.rollback_ratio > 0 and rules.hold_periods > 0:
                columns.reserve[at, place] = program.columns(self.count)
        if not way.homegrown:
            return
        rows = program.rows(Requirement("open", " ".join(way.key)), self.count, upper=0.0)
        program.put(rows, columns.opened[at], -demand)
        for place in places:
            program.put(rows, columns.serving[at, place], tok_s)
        ahead = rules.shadow_periods
        if rules.shadow_ratio > 0 and 0 < ahead < self.count and not way.rate.in_use:
            until = self.count - ahead
            copies = rules.shadow_ratio * demand[:until]
            rows = program.rows(Requirement("shadow", " ".join(way.key)), until, lower=0.0)
            program.put(rows, columns.opened[at][ahead:], -copies)
            program.put(rows, columns.opened[at][:until], copies)
            for place in places:
                v = columns.shadow[at, place] = program.columns(until)
                program.put(rows, v, tok_s)

    def _one_site(self, service: ServiceValues, ways: list[int], places: list[str]) -> None:
        """Prompts that are read apart have their answers written at the same site."""
        program = self._program
        for site in sorted({self._site_of[place] for place in places}):
            rows = program.rows(Requirement("one site", service.slug), self.count, lower=0.0, upper=0.0)
            for at in ways:
                sign = {PREFILL: 1.0, DECODE: -1.0}.get(self.ways[at].rate.phase)
                for place in places:
                    if sign and self._site_of[place] == site:
                        program.put(rows, self.columns.serving[at, place], sign * self.ways[at].rate.tok_s)

    def _moved(self, service: ServiceValues, ways: list[int], places: list[str], *, is_split: bool) -> None:
        program, columns, rules, slug = self._program, self.columns, self.problem.rules, service.slug
        before = self.facts.homegrown_share_before(service)
        for phases, kept in ((ANSWERS, columns.answers), (PROMPTS, columns.prompts)):
            if phases == PROMPTS and not is_split:
                columns.prompts[slug] = columns.answers[slug]
                continue
            moved = kept[slug] = program.columns(self.count)
            rows = program.rows(Requirement("moved", slug), self.count, lower=0.0, upper=0.0)
            program.put(rows, moved, -1.0)
            ours = [at for at in ways if self.ways[at].rate.phase in phases]
            for at in ours:
                if self.ways[at].homegrown:
                    for place in places:
                        program.put(rows, columns.serving[at, place], self.ways[at].rate.tok_s)
            if rules.rollback_ratio > 0 and rules.hold_periods > 0:
                self._reserve(slug, moved, before, [at for at in ours if not self.ways[at].homegrown], places)
            if rules.ramp_ratio < 1:
                demand = self.facts.demand[slug]
                most = rules.ramp_ratio * demand
                most[0] += before[0]
                rows = program.rows(Requirement("ramp", slug), self.count, upper=most)
                program.put(rows, moved, 1.0)
                program.put(rows[1:], moved[:-1], -self.facts.growth(slug, 1))

    def _reserve(self, slug: str, moved: IntArray, before: FloatArray, gpu_ways: list[int], places: list[str]) -> None:
        """GPU hosts held for traffic that has moved lately (6)."""
        program, rules = self._program, self.problem.rules
        hold = min(rules.hold_periods, self.count)
        least = np.zeros(self.count)
        least[:hold] = -rules.rollback_ratio * before[:hold]
        rows = program.rows(Requirement("rollback", slug), self.count, lower=least)
        program.put(rows, moved, -rules.rollback_ratio)
        if hold < self.count:
            program.put(rows[hold:], moved[:-hold], rules.rollback_ratio * self.facts.growth(slug, hold))
        for at in gpu_ways:
            for place in places:
                program.put(rows, self.columns.reserve[at, place], self.ways[at].rate.tok_s)

    def _capacity(self) -> None:
        """Loads keep within the hosts that stand (2)."""
        program, columns = self._program, self.columns
        loads: dict[Pair, list[IntArray]] = defaultdict(list)
        for part in (columns.serving, columns.shadow, columns.reserve):
            for (at, place), load in part.items():
                loads[place, self.ways[at].rate.kind].append(load)
        usable = 1 - self.problem.rules.reserve_ratio
        for (place, kind), parts in loads.items():
            rows = program.rows(Requirement("capacity", f"{kind} in {place}"), self.count, upper=0.0)
            for load in parts:
                program.put(rows[: len(load)], load, 1.0)
            for hosts in (columns.kept, columns.new):
                if (place, kind) in hosts:
                    program.put(rows, hosts[place, kind], -usable * self.facts.up(place, kind))

    def _failover(self) -> None:
        """After the loss of any domain what is left serves the protected tier (13)."""
        rules = self.problem.rules
        protected = [service for service in self.problem.services if service.tier == rules.failover_tier]
        for domain in self.problem.domains:
            lost = {row.place: row.ratio for row in domain.lost}
            for region, places in self._places_of.items():
                services = [service for service in protected if service.region == region]
                if services and not lost.keys().isdisjoint(places):
                    self._failover_region(domain.slug, lost, places, services)

    def _failover_region(
        self, domain: str, lost: dict[str, float], places: list[str], services: list[ServiceValues]
    ) -> None:
        program, columns, penalty = self._program, self.columns, self.problem.rules.failover_penalty_per_mtok
        loads: dict[str, list[IntArray]] = defaultdict(list)
        for service in services:
            demand = self.facts.demand[service.slug]
            short = program.columns(self.count, upper=demand if penalty is not None else 0.0)
            columns.failover_short[domain, service.slug] = short
            ways = self._ways_of[service.slug]
            for at in ways:
                way = self.ways[at]
                serves = columns.failover[domain, at] = program.columns(self.count)
                loads[way.rate.kind].append(serves)
                if way.homegrown:
                    rows = program.rows(Requirement("open", " ".join(way.key)), self.count, upper=0.0)
                    program.put(rows, columns.opened[at], -demand)
                    program.put(rows, serves, way.rate.tok_s)
                elif service.homegrown_from is not None:
                    left = service.homegrown_from
                    rows = program.rows(Requirement("left", service.slug), self.count - left, upper=0.0)
                    program.put(rows, serves[left:], 1.0)
            is_split = any(self.ways[at].rate.phase != WHOLE for at in ways)
            for phases in (PROMPTS, ANSWERS) if is_split else (ANSWERS,):
                rows = program.rows(
                    Requirement("failover", f"{service.slug} after {domain}"), self.count, lower=demand, upper=demand
                )
                program.put(rows, short, 1.0)
                for at in ways:
                    if self.ways[at].rate.phase in phases:
                        program.put(rows, columns.failover[domain, at], self.ways[at].rate.tok_s)
        for kind, parts in loads.items():
            rows = program.rows(Requirement("capacity", f"{kind} after {domain}"), self.count, upper=0.0)
            for load in parts:
                program.put(rows, load, 1.0)
            for place in places:
                for hosts in (columns.kept, columns.new):
                    if (place, kind) in hosts:
                        survives = 1.0 - lost.get(place, 0.0)
                        program.put(rows, hosts[place, kind], -survives * self.facts.up(place, kind))

    # --- what is wanted -----------------------------------------------------------------------------------------------
    def _floors(self) -> None:
        """Shares of homegrown tokens (12)."""
        for at, floor in enumerate(self.problem.floors):
            first = floor.period
            weights = {  # of prompts, beside answers
                service.slug: 0.0 if floor.basis == OUTPUT else service.input_ratio
                for service in self.problem.services
                if floor.region in {"", service.region} and floor.tier in {"", service.tier}
            }
            all_tok_s = sum((1 + weight) * self.facts.demand[slug][first:] for slug, weight in weights.items())
            scope = " ".join(part for part in (floor.region, floor.tier) if part)
            name = f"{at}: {floor.ratio:.0%} from {self.problem.periods[first]} {scope}".strip()
            rows = self._program.rows(Requirement("floor", name), self.count - first, lower=floor.ratio * all_tok_s)
            for slug, weight in weights.items():
                self._program.put(rows, self.columns.answers[slug][first:], 1.0)
                self._program.put(rows, self.columns.prompts[slug][first:], weight)

    def _order(self) -> None:
        """Services that wait for others."""
        program = self._program
        for row in self.problem.order:
            first, then = (
                [self.columns.opened[at] for at in self._ways_of[slug] if at in self.columns.opened]
                for slug in (row.first, row.then)
            )
            if not then:
                continue
            rows = program.rows(Requirement("order", f"{row.then} after {row.first}"), self.count, upper=0.0)
            for z in then:
                program.put(rows, z, 1.0)
            for z in first:
                program.put(rows, z, -float(len(then)))

    def tokens_short(self) -> tuple[FloatArray, FloatArray]:
        """Return what counts tokens that go unserved, and that would after a failure, each float64[C]. [tok]"""
        now, after = np.zeros(self._program.columns_total), np.zeros(self._program.columns_total)
        for service in self.problem.services:
            each = self.facts.penalty_price(1.0, service)
            now[self.columns.short[service.slug]] = each
            for (_domain, slug), short in self.columns.failover_short.items():
                if slug == service.slug:
                    after[short] = each
        return now, after

    def tokens_homegrown(self) -> FloatArray:
        """Return what counts tokens on homegrown hosts, float64[C]. [Mtok]"""
        cost = np.zeros(self._program.columns_total)
        for service in self.problem.services:
            each = self.facts.penalty_price(1.0, service)
            cost[self.columns.answers[service.slug]] += each
            cost[self.columns.prompts[service.slug]] += service.input_ratio * each
        return cost

    def _money(self) -> tuple[FloatArray, float]:
        """Return what each decision costs over the horizon, discounted, float64[C], and what costs in any case."""
        facts, columns, problem = self.facts, self.columns, self.problem
        delta = facts.discount
        now, end = delta[:-1], delta[-1]
        cost, constant = np.zeros(self._program.columns_total), 0.0
        for hosts in (columns.kept, columns.new):
            for (place, kind), at in hosts.items():
                fact = self._kinds[kind]
                price = facts.energy_price(self._sites[self._site_of[place]], homegrown=fact.homegrown)
                cost[at] += now * (price * fact.idle_w + fact.upkeep_per_month * problem.rules.period_months)
        for (_place, kind), at in columns.kept.items():
            brings = delta * facts.book(kind)
            cost[at] += brings[:-1] - brings[1:]  # what it loses while it stays
        for bought in (columns.bought_own, columns.bought_free):
            for (_site, kind), at in bought.items():
                cost[at] += self._kinds[kind].price * (now - end * facts.remaining_ratio(kind))
        for part in (columns.serving, columns.shadow):
            for (way, place), at in part.items():
                cost[at] += now[: len(at)] * self.load_price(way, place)[: len(at)]
        for way, at in columns.opened.items():
            each = now * self.ways[way].rate.port_cost
            cost[at] += each
            cost[at[:-1]] -= each[1:]
            constant -= each[0] * self.ways[way].rate.in_use
        services = {service.slug: service for service in problem.services}
        for slug, at in columns.short.items():
            cost[at] += now * facts.penalty_price(services[slug].penalty_per_mtok or 0.0, services[slug])
        for (_domain, slug), at in columns.failover_short.items():
            cost[at] += now * facts.penalty_price(problem.rules.failover_penalty_per_mtok or 0.0, services[slug])
        for row in problem.deliveries:
            constant += float(now[row.period]) * row.price * row.hosts
        return cost, constant

    def load_price(self, way: int, place: str) -> FloatArray:
        """Return what the energy of a filled host costs above idling, float64[T]. [money]"""
        rate = self.ways[way].rate
        kind = self._kinds[rate.kind]
        mean = next(service.mean_ratio for service in self.problem.services if service.slug == rate.service)
        busy_w = kind.power_w if kind.busy_w is None else kind.busy_w
        price = self.facts.energy_price(self._sites[self._site_of[place]], homegrown=kind.homegrown)
        return price * (busy_w - kind.idle_w) * mean
