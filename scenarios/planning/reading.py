"""A problem and its answer side by side, as arrays over the periods: what every reader of a plan looks up."""

from collections import defaultdict
from collections.abc import Iterator

import numpy as np

from scenarios.planning.migration_program import ANSWERS, PROMPTS, Facts, MigrationProgram
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import PlanProblem, RateValues
from scenarios.planning.program import BoolArray, FloatArray

SIDES = (("prompts", PROMPTS), ("answers", ANSWERS))

WayKey = tuple[str, str, str]  # service, kind, phase
LoadKey = tuple[str, str, str, str]  # service, kind, phase, place
SERVING, SHADOW, RESERVE = 0, 1, 2  # rows of a load


class Reading:
    """Look-ups in a plan; a row that is not in the answer is zero.

    Attributes
    ----------
    kept, new : mapping of (place, kind) to float64[T]
        Hosts. [-]
    loads : mapping of (service, kind, phase, place) to float64[3, T]
        Hosts that serve, that are filled by copies, that are held in reserve. [-]
    short : mapping of (domain, service) to float64[T]
        Traffic that goes unserved; domain empty: with nothing lost. [tok/s]
    """

    def __init__(self, problem: PlanProblem, answer: MigrationAnswer) -> None:
        self.problem, self.answer = problem, answer
        self.facts = Facts.of(problem)
        self.count = len(problem.periods)
        self.demand = self.facts.demand
        self.sites = {site.slug: site for site in problem.sites}
        self.kinds = {kind.slug: kind for kind in problem.kinds}
        self.services = {service.slug: service for service in problem.services}
        self.rates: dict[WayKey, RateValues] = {(one.service, one.kind, one.phase): one for one in problem.rates}
        self.ways: list[WayKey] = [way.key for way in self.facts.ways]
        self.site_of = {place.slug: place.site for place in problem.located}
        self.region_of = {place: self.sites[site].region for place, site in self.site_of.items()}
        self.pairs = [(place, kind) for place in self.site_of for kind in self.kinds]
        self.kept: dict[tuple[str, str], FloatArray] = defaultdict(self.zeros)
        self.new: dict[tuple[str, str], FloatArray] = defaultdict(self.zeros)
        for row in answer.hosts:
            self.kept[row.place, row.kind][row.period] += row.kept
            self.new[row.place, row.kind][row.period] += row.new
        self.bought: dict[tuple[str, str], FloatArray] = defaultdict(self.zeros)
        for bought in answer.bought:
            self.bought[bought.site, bought.kind][bought.period] += bought.hosts
        self.loads: dict[LoadKey, FloatArray] = defaultdict(lambda: np.zeros((3, self.count)))
        for load in answer.loads:
            self.loads[load.service, load.kind, load.phase, load.place][:, load.period] += (
                load.serving_hosts,
                load.shadow_hosts,
                load.reserve_hosts,
            )
        self._of_service: dict[str, list[LoadKey]] = defaultdict(list)
        self._of_pair: dict[tuple[str, str], list[LoadKey]] = defaultdict(list)
        for key in self.loads:
            self._of_service[key[0]].append(key)
            self._of_pair[key[3], key[1]].append(key)
        self.short: dict[tuple[str, str], FloatArray] = defaultdict(self.zeros)
        for short in answer.short:
            self.short[short.domain, short.service][short.period] += short.tok_s
        self.opened_at: dict[WayKey, int] = {way: 0 for way in self.ways if self.rates[way].in_use}
        self.opened_at |= {(one.service, one.kind, one.phase): one.period for one in answer.opened}

    def zeros(self) -> FloatArray:
        """Return a zero for each period."""
        return np.zeros(self.count)

    def hosts(self, place: str, kind: str) -> FloatArray:
        """Return the hosts that stand, float64[T]. [-]"""
        return self.kept.get((place, kind), self.zeros()) + self.new.get((place, kind), self.zeros())

    def up(self, place: str, kind: str) -> FloatArray:
        """Return the hosts that stand and can serve, float64[T]. [-]"""
        return self.hosts(place, kind) * self.facts.up(place, kind)

    def filled(self, place: str, kind: str) -> FloatArray:
        """Return the hosts filled by traffic, by copies and by reserve, float64[3, T]. [-]"""
        return sum((self.loads[key] for key in self._of_pair.get((place, kind), ())), np.zeros((3, self.count)))

    def is_open(self, way: WayKey) -> BoolArray:
        """Return whether a way serves, bool[T]; GPU ways always do."""
        if not self.kinds[way[1]].homegrown:
            return np.ones(self.count, dtype=bool)
        return np.arange(self.count) >= self.opened_at.get(way, self.count)

    def loads_of(self, service: str, phases: tuple[str, ...]) -> Iterator[tuple[LoadKey, FloatArray]]:
        """Yield the loads of a service in some phases."""
        for key in self._of_service.get(service, ()):
            if key[2] in phases:
                yield key, self.loads[key]

    def tok_s(self, service: str, phases: tuple[str, ...], *, homegrown: bool | None = None) -> FloatArray:
        """Return the traffic served in some phases, on homegrown hosts, on GPUs or on both, float64[T]. [tok/s]"""
        total = self.zeros()
        for key, load in self.loads_of(service, phases):
            if homegrown is None or self.kinds[key[1]].homegrown == homegrown:
                total += self.rates[key[:3]].tok_s * load[SERVING]
        return total

    def busy_w(self, kind: str) -> float:
        """Return the power of a host that is fully loaded. [W]"""
        fact = self.kinds[kind]
        return fact.power_w if fact.busy_w is None else fact.busy_w


def point_of(program: MigrationProgram, reading: Reading) -> FloatArray:
    """Return the point of the program that a plan says, float64[C]."""
    columns, point = program.columns, np.zeros(len(program.frozen.lower))
    for part, hosts in ((columns.kept, reading.kept), (columns.new, reading.new)):
        for pair, at in part.items():
            point[at] = hosts.get(pair, 0.0)
    for pair in reading.bought:
        _purchases_put(program, reading, pair, point)
    for way, at in columns.opened.items():
        point[at] = reading.is_open(program.ways[way].key)
    for row, loads in enumerate((columns.serving, columns.shadow, columns.reserve)):
        for (way, place), at in loads.items():
            load = reading.loads.get((*program.ways[way].key, place))
            if load is not None:
                point[at] = load[row, : len(at)]
    for slug, at in columns.short.items():
        point[at] = reading.short.get(("", slug), 0.0)
    for pair, at in columns.failover_short.items():
        point[at] = reading.short.get(pair, 0.0)
    for phases, moved in ((ANSWERS, columns.answers), (PROMPTS, columns.prompts)):
        for slug, at in moved.items():
            point[at] = reading.tok_s(slug, phases, homegrown=True)
    after = {(domain, program.ways[way].key): at for (domain, way), at in columns.failover.items()}
    for failover in reading.answer.failover:
        key = failover.domain, (failover.service, failover.kind, failover.phase)
        point[after[key][failover.period]] += failover.hosts
    return point


def _purchases_put(program: MigrationProgram, reading: Reading, pair: tuple[str, str], point: FloatArray) -> None:
    """Put what a site buys of a kind: its own offers first, then free ones. Money does not tell them apart."""
    bought = reading.bought[pair]
    own_at, free_at = program.columns.bought_own.get(pair), program.columns.bought_free.get(pair)
    if own_at is None or free_at is None:
        only = own_at if own_at is not None else free_at
        if only is not None:
            point[only] = bought
        return
    offered, own = reading.zeros(), reading.zeros()
    for offer in reading.problem.offers:
        if (offer.site, offer.kind) == pair:
            offered[offer.period :] += offer.hosts
    for period in range(program.count):
        own[period] = max(0.0, min(bought[period], offered[period] - own[:period].sum()))
    point[own_at], point[free_at] = own, bought - own
