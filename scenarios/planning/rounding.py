"""From divisible loads to whole replicas: what a plan asks of hosts once nothing can be served by half a replica.

A load row gets as many replicas as its serving, shadow and reserve hosts need, rounded up; a replica stands on
1 / `replicas_per_host` hosts. Replicas must fit the hosts that stand, all of them: the load itself keeps to the reserve
of each host, and its last replica may stand on it. Where they do not fit, left-over load of a replica moves elsewhere,
or goes unserved.
"""

import math
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from scenarios.planning.accounts import NOTICED, money_rows
from scenarios.planning.migration_program import MigrationProgram
from scenarios.planning.plan import FEASIBLE, OPTIMAL, LoadRow, MigrationAnswer, ShortRow
from scenarios.planning.problem import DECODE, OUTPUT, PREFILL, WHOLE, FloorValues, PlanProblem
from scenarios.planning.program import FloatArray
from scenarios.planning.reading import RESERVE, SERVING, SHADOW, SIDES, LoadKey, Reading, point_of
from scenarios.planning.reconciling import MissedRow, requirements_missed

ROUNDING = 1e-6  # of a replica: what the solver's tolerance leaves over starts no replica
LEFT = 1e-9  # hosts below this are nothing


@dataclass(frozen=True, slots=True)
class AddedRow:
    """What whole replicas stand on beyond their load, of a kind in a place in a period."""

    period: int
    place: str
    kind: str
    replicas: int
    hosts: float  # replicas' hosts less filled ones [-]


@dataclass(frozen=True, slots=True)
class UnservedRow:
    """Traffic that goes unserved because replicas are whole."""

    period: int
    service: str
    tok_s: float  # in the peak hour [tok/s]
    mtok: float  # output tokens over the period [Mtok]


@dataclass(frozen=True)
class Rounded:
    """A plan in whole replicas, and the price of rounding.

    Attributes
    ----------
    answer : MigrationAnswer
        The plan; its load rows say their replicas.
    added : tuple of AddedRow
        Hosts' worth of replicas added, by period, place and kind.
    unserved : tuple of UnservedRow
        Tokens that go unserved because of it, by period and service.
    missed : tuple of MissedRow
        Requirements that the plan kept and the rounded one does not: what no replica elsewhere could take over.
    money : float
        More than before, discounted; negative where unserved tokens cost less than serving them. [money]
    """

    answer: MigrationAnswer
    added: tuple[AddedRow, ...]
    unserved: tuple[UnservedRow, ...]
    missed: tuple[MissedRow, ...]
    money: float


def replicas_round(
    problem: PlanProblem, answer: MigrationAnswer, *, program: MigrationProgram | None = None
) -> Rounded:
    """Return a plan with whole replicas.

    Hosts, purchases, openings and failover stay; loads move between places of a region where replicas do not fit.

    Parameters
    ----------
    program : MigrationProgram, optional
        Of the problem, if there is one already: it is the account.

    Raises
    ------
    ValueError
        If the answer holds no plan.
    """
    if not answer.is_plan:
        raise ValueError(f"there is no plan to round: {answer.status}")
    reading = Reading(problem, answer)
    rounding = _Rounding(reading)
    for period in range(reading.count):
        rounding.fit(period)
    program = program or MigrationProgram(problem)
    rounded = replace(answer, loads=tuple(rounding.load_rows()), short=tuple(rounding.short_rows()))
    rounded = _account(program, Reading(problem, rounded), rounded)
    before = set(requirements_missed(problem, answer))
    unserved = tuple(rounding.unserved_rows())
    must = {(row.period, row.service) for row in unserved}
    return Rounded(
        answer=rounded,
        added=tuple(rounding.added_rows()),
        unserved=unserved,
        missed=tuple(
            row
            for row in requirements_missed(problem, rounded)
            if row not in before and not (row.requirement == "demand" and (row.period, row.subject) in must)
        ),
        money=sum(row.discounted for row in rounded.money) - sum(row.discounted for row in answer.money),
    )


def replicas_needed(hosts: float, replicas_per_host: float) -> int:
    """Return the whole replicas that so many filled hosts need; of a rate that is not rounded, 0. [-]"""
    return max(0, math.ceil(hosts * replicas_per_host - ROUNDING)) if replicas_per_host > 0 else 0


class _Rounding:
    """The loads of a plan as they move. Replicas follow from loads, so loads are all that changes."""

    def __init__(self, reading: Reading) -> None:
        self.reading = reading
        self.usable = 1 - reading.problem.rules.reserve_ratio
        self.hosts = {pair: reading.up(*pair) for pair in reading.pairs}
        self.loads: dict[LoadKey, FloatArray] = {}
        order = {way: at for at, way in enumerate(reading.ways)}
        places = list(reading.site_of)
        for way in sorted(order, key=lambda way: order[way]):
            region = reading.services[way[0]].region
            for place in places:
                if reading.region_of[place] == region:
                    self.loads[*way, place] = reading.loads.get((*way, place), np.zeros((3, reading.count))).copy()
        self.keys_in: dict[tuple[str, str], list[LoadKey]] = defaultdict(list)
        self.keys_of: dict[tuple[str, str], list[LoadKey]] = defaultdict(list)
        for key in self.loads:
            self.keys_in[key[3], key[1]].append(key)
            self.keys_of[key[0], key[2]].append(key)
        self.unserved: dict[str, FloatArray] = defaultdict(reading.zeros)
        self.moved = {
            (slug, side): reading.tok_s(slug, phases, homegrown=True)
            for slug in reading.services
            for side, phases in SIDES
        }
        self._log: list[tuple[FloatArray, tuple[int, ...], float]] = []
        self._cells: dict[tuple[tuple[str, str], int], tuple[float, float]] = {}

    # --- what replicas stand on ---------------------------------------------------------------------------------------
    def per_host(self, key: LoadKey) -> float:
        return self.reading.rates[key[:3]].replicas_per_host

    def tok_s(self, key: LoadKey) -> float:
        return self.reading.rates[key[:3]].tok_s

    def replicas(self, key: LoadKey, period: int) -> int:
        return replicas_needed(float(self.loads[key][:, period].sum()), self.per_host(key))

    def footprint(self, key: LoadKey, period: int) -> float:
        """Return the hosts that the replicas of a load stand on. [-]"""
        filled = float(self.loads[key][:, period].sum())
        return replicas_needed(filled, self.per_host(key)) / self.per_host(key) if self.per_host(key) else filled

    def excess(self, pair: tuple[str, str], period: int) -> float:
        """Return the hosts by which replicas are too many in a place. [-]"""
        return self._used(pair, period)[1] - float(self.hosts[pair][period])

    def _used(self, pair: tuple[str, str], period: int) -> tuple[float, float]:
        """Return the hosts filled in a place, and those that its replicas stand on. [-]"""
        found = self._cells.get((pair, period))
        if found is None:
            filled = sum(float(self.loads[key][:, period].sum()) for key in self.keys_in[pair])
            stands = sum(self.footprint(key, period) for key in self.keys_in[pair])
            found = self._cells[pair, period] = filled, stands
        return found

    def left_over(self, key: LoadKey, period: int, excess: float) -> float:
        """Return the load of the last replica; of a load that is not rounded, what has to go. [-]"""
        filled = float(self.loads[key][:, period].sum())
        if not self.per_host(key):
            return min(filled, excess)
        return filled - (self.replicas(key, period) - 1) / self.per_host(key) if filled > LEFT else 0.0

    # --- repair -------------------------------------------------------------------------------------------------------
    def fit(self, period: int) -> None:
        """Drop replicas, place by place and kind by kind, until all fit."""
        self._keep_pace(period)
        for pair in self.reading.pairs:
            while (excess := self.excess(pair, period)) > ROUNDING:
                key, hosts = self._choice(pair, period, excess)
                self._cut(key, period, hosts - self._relocate(key, period, hosts))
        for slug in self.reading.services:
            self._refill(slug, period)
        self._keep_pace(period)

    def _choice(self, pair: tuple[str, str], period: int, excess: float) -> tuple[LoadKey, float]:
        """Return the load whose last replica goes: the least left over that finds room elsewhere, else the cheapest."""
        candidates = [(self.left_over(key, period, excess), key) for key in self.keys_in[pair]]
        worst: list[tuple[tuple[bool, bool, float, float], LoadKey, float]] = []
        for hosts, key in sorted((one for one in candidates if one[0] > LEFT), key=lambda one: one[0]):
            before = len(self._log)
            placed = self._relocate(key, period, hosts)
            self._undo(before)
            if placed >= hosts - LEFT:
                return key, hosts
            worst.append((self._regret(key, period, hosts - placed, excess), key, hosts))
        _regret, key, hosts = min(worst, key=lambda one: one[0])
        return key, hosts

    def _regret(self, key: LoadKey, period: int, hosts: float, excess: float) -> tuple[bool, bool, float, float]:
        """Return how bad it is to cut so many hosts: rules broken, traffic that must be served, money, tokens."""
        tok_s = hosts * self.tok_s(key)
        serving = float(self.loads[key][SERVING, period]) * self.tok_s(key)
        homegrown = self.reading.kinds[key[1]].homegrown
        breaks = tok_s > serving + LEFT or (homegrown and tok_s > self._may_move(key, period, up=False))
        service = self.reading.services[key[0]]
        penalty = service.penalty_per_mtok
        freed = min(excess, 1 / self.per_host(key) if self.per_host(key) else excess)
        return breaks, penalty is None, (penalty or 0.0) * service.mean_ratio * tok_s / freed, tok_s / freed

    def _relocate(self, key: LoadKey, period: int, hosts: float) -> float:
        """Move up to so many filled hosts elsewhere: reserve first, then copies, then traffic. Return those moved."""
        placed = 0.0
        for new_replicas in (False, True):  # slack of open replicas; then left-overs merged in a new one where it fits
            for part in (RESERVE, SHADOW, SERVING):
                for target, most_tok_s in self._targets(key, part, period):
                    wanted = min(hosts - placed, float(self.loads[key][part, period]))
                    if wanted <= LEFT:
                        break
                    room = self._room(target, period, new_replicas=new_replicas)
                    tok_s = min(wanted * self.tok_s(key), room * self.tok_s(target), most_tok_s)
                    if tok_s <= LEFT * self.tok_s(key):
                        continue
                    self._shift(key, part, period, -tok_s / self.tok_s(key))
                    self._shift(target, part, period, tok_s / self.tok_s(target))
                    placed += tok_s / self.tok_s(key)
        return placed

    def _targets(self, key: LoadKey, part: int, period: int) -> Iterator[tuple[LoadKey, float]]:
        """Yield where a part of a load may go, and how much at most; what keeps homegrown shares comes first."""
        service, kind, phase, place = key
        kinds, is_home = self.reading.kinds, self.reading.kinds[kind].homegrown
        left = self.reading.services[service].homegrown_from
        others = [one for one in self.keys_of[service, phase] if (one[1], one[3]) != (kind, place)]
        others.sort(key=lambda one: (one[1] != kind, -self._room(one, period, new_replicas=False), one))
        if part == SHADOW:
            yield from ((one, math.inf) for one in others if one[1] == kind)
            return
        if part == RESERVE:
            yield from ((one, math.inf) for one in others if not kinds[one[1]].homegrown)
            return
        site_of = self.reading.site_of
        if phase != WHOLE:
            others = [one for one in others if site_of[one[3]] == site_of[place]]
        may = [one for one in others if self.reading.is_open(one[:3])[period]]
        yield from ((one, math.inf) for one in may if kinds[one[1]].homegrown == is_home)
        for one in may:
            gone = left is not None and period >= left
            if kinds[one[1]].homegrown != is_home and not (is_home and gone):
                yield one, self._may_move(key, period, up=not is_home)

    def _room(self, key: LoadKey, period: int, *, new_replicas: bool) -> float:
        """Return the filled hosts that a load may grow by: within its replicas, or with new ones where they fit. [-]"""
        pair = key[3], key[1]
        room = self.usable * float(self.hosts[pair][period]) - self._used(pair, period)[0]
        if room <= LEFT:
            return 0.0
        free = max(0.0, -self.excess(pair, period))
        if not self.per_host(key):
            return min(room, free)
        here = float(self.loads[key][:, period].sum())
        slack = max(0.0, self.replicas(key, period) / self.per_host(key) - here)
        if new_replicas:
            slack += math.floor(free * self.per_host(key) + ROUNDING) / self.per_host(key)
        return min(room, slack)

    def _cut(self, key: LoadKey, period: int, hosts: float) -> None:
        """Let so many filled hosts go: traffic (to GPUs, or unserved), then copies, then reserve."""
        for part in (SERVING, SHADOW, RESERVE):
            gone = min(hosts, float(self.loads[key][part, period]))
            if gone <= LEFT:
                continue
            hosts -= gone
            if part == SERVING and self.reading.kinds[key[1]].homegrown:  # better on a GPU than nowhere
                gone -= self._return(key, period, gone * self.tok_s(key)) / self.tok_s(key)
            self._shift(key, part, period, -gone)
            if part == SERVING and gone > LEFT:
                self._unserve(key, period, gone * self.tok_s(key))

    def _unserve(self, key: LoadKey, period: int, tok_s: float) -> None:
        """Count traffic as unserved; prompts that nobody reads need no answers, and the other way round."""
        service, kind, phase, place = key
        self.unserved[service][period] += tok_s
        if phase == WHOLE:
            return
        site_of = self.reading.site_of
        partners = [
            one
            for one in self.keys_of[service, DECODE if phase == PREFILL else PREFILL]
            if site_of[one[3]] == site_of[place]
        ]
        is_home = self.reading.kinds[kind].homegrown
        partners.sort(
            key=lambda one: (
                self.excess((one[3], one[1]), period) <= ROUNDING,
                self.reading.kinds[one[1]].homegrown != is_home,
                one,
            )
        )
        for one in partners:
            gone = min(tok_s / self.tok_s(one), float(self.loads[one][SERVING, period]))
            self._shift(one, SERVING, period, -gone)
            tok_s -= gone * self.tok_s(one)

    def _refill(self, slug: str, period: int) -> None:
        """Serve again what had to go, where the room of other replicas that went allows it."""
        for key in self.keys_of[slug, WHOLE]:
            self._grow((key,), period)
        site_of = self.reading.site_of
        for prompts in self.keys_of[slug, PREFILL]:
            for answers in self.keys_of[slug, DECODE]:
                if site_of[prompts[3]] == site_of[answers[3]]:
                    self._grow((prompts, answers), period)

    def _grow(self, keys: tuple[LoadKey, ...], period: int) -> None:
        """Serve unserved traffic on some loads together, each as much as all can take."""
        wanted = float(self.unserved[keys[0][0]][period]) if keys[0][0] in self.unserved else 0.0
        for key in keys:
            service, homegrown = self.reading.services[key[0]], self.reading.kinds[key[1]].homegrown
            gone = service.homegrown_from is not None and period >= service.homegrown_from
            if (
                wanted <= LEFT * self.tok_s(key)
                or (gone and not homegrown)
                or not self.reading.is_open(key[:3])[period]
            ):
                return
            if homegrown:
                wanted = min(wanted, self._may_move(key, period, up=True))
        before, tok_s = len(self._log), wanted
        for key in keys:  # one after the other: they may share hosts
            tok_s = min(tok_s, self._room(key, period, new_replicas=True) * self.tok_s(key))
            self._shift(key, SERVING, period, tok_s / self.tok_s(key))
        self._undo(before)
        if tok_s > LEFT * self.tok_s(keys[0]):
            for key in keys:
                self._shift(key, SERVING, period, tok_s / self.tok_s(key))
            self.unserved[keys[0][0]][period] -= tok_s

    # --- what other periods and floors allow --------------------------------------------------------------------------
    def _may_move(self, key: LoadKey, period: int, *, up: bool) -> float:
        """Return by how much homegrown traffic may grow, or fall, with no other requirement broken. [tok/s]"""
        slug, phase = key[0], key[2]
        return min(
            max(0.0, self._side_up(slug, side, period) if up else self._side_down(slug, side, period))
            for side, phases in SIDES
            if phase in phases
        )

    def _side_up(self, slug: str, side: str, period: int) -> float:
        return min(self._ramp_room(slug, side, period), self._rollback_room(slug, side, period))

    def _side_down(self, slug: str, side: str, period: int) -> float:
        rules, facts, room = self.reading.problem.rules, self.reading.facts, math.inf
        if period + 1 < self.reading.count:
            growth = float(facts.growth(slug, 1)[period])
            room = self._ramp_room(slug, side, period + 1) / growth if growth > 0 else room
        hold = rules.hold_periods
        if hold and period + hold < self.reading.count:
            growth = float(facts.growth(slug, hold)[period])
            room = min(room, self._rollback_room(slug, side, period + hold) / growth) if growth > 0 else room
        for floor in self.reading.problem.floors:
            weight = self._floor_weight(floor, slug, side)
            if weight > 0 and period >= floor.period:
                room = min(room, self._floor_room(floor, period) / weight)
        return room

    def _ramp_room(self, slug: str, side: str, period: int) -> float:
        ratio, demand = self.reading.problem.rules.ramp_ratio, float(self.reading.demand[slug][period])
        if ratio >= 1:
            return math.inf
        return self._moved_before(slug, side, period, 1) + ratio * demand - float(self.moved[slug, side][period])

    def _rollback_room(self, slug: str, side: str, period: int) -> float:
        rules, phases = self.reading.problem.rules, dict(SIDES)[side]
        if not rules.hold_periods or not rules.rollback_ratio:
            return math.inf
        held = sum(
            float(self.loads[key][RESERVE, period]) * self.tok_s(key)
            for phase in phases
            for key in self.keys_of[slug, phase]
        )
        moved = float(self.moved[slug, side][period])
        return held / rules.rollback_ratio - moved + self._moved_before(slug, side, period, rules.hold_periods)

    def _moved_before(self, slug: str, side: str, period: int, back: int) -> float:
        """Return what had moved so many periods before, at the demand of a period. [tok/s]"""
        if period < back:
            return float(self.reading.facts.homegrown_share_before(self.reading.services[slug])[period])
        return float(self.reading.facts.growth(slug, back)[period - back] * self.moved[slug, side][period - back])

    def _floor_weight(self, floor: FloorValues, slug: str, side: str) -> float:
        service = self.reading.services[slug]
        if floor.region not in {"", service.region} or floor.tier not in {"", service.tier}:
            return 0.0
        if side == "answers":
            return 1.0
        return 0.0 if floor.basis == OUTPUT else service.input_ratio

    def _floor_room(self, floor: FloorValues, period: int) -> float:
        room = 0.0
        for slug in self.reading.services:
            for side in ("prompts", "answers"):
                weight = self._floor_weight(floor, slug, side)
                demand = float(self.reading.demand[slug][period])
                room += weight * (float(self.moved[slug, side][period]) - floor.ratio * demand)
        return room

    def _keep_pace(self, period: int) -> None:
        """Return traffic to GPUs that may not have moved: less had moved before, or less is held for its way back."""
        for slug in self.reading.services:
            for side, phases in SIDES:
                over = -self._side_up(slug, side, period)
                if over <= ROUNDING * max(1.0, float(self.reading.demand[slug][period])):
                    continue
                keys = [key for phase in phases for key in self.keys_of[slug, phase]]
                for key in (one for one in keys if self.reading.kinds[one[1]].homegrown):
                    tok_s = min(over, float(self.loads[key][SERVING, period]) * self.tok_s(key))
                    if tok_s > LEFT:
                        over -= tok_s
                        left = tok_s - self._return(key, period, tok_s)
                        self._shift(key, SERVING, period, -left / self.tok_s(key))
                        if left > LEFT:
                            self._unserve(key, period, left)

    def _return(self, key: LoadKey, period: int, tok_s: float) -> float:
        """Move traffic of homegrown hosts to GPUs as far as replicas fit there; return how much. [tok/s]"""
        placed = 0.0
        for target, _most in self._targets(key, SERVING, period):
            if not self.reading.kinds[target[1]].homegrown:
                here = min(tok_s - placed, self._room(target, period, new_replicas=True) * self.tok_s(target))
                self._shift(key, SERVING, period, -here / self.tok_s(key))
                self._shift(target, SERVING, period, here / self.tok_s(target))
                placed += here
        return placed

    # --- changes ------------------------------------------------------------------------------------------------------
    def _shift(self, key: LoadKey, part: int, period: int, hosts: float) -> None:
        """Change a load, and what has moved with it; what was is noted."""
        load = self.loads[key]
        self._set(load, (part, period), max(0.0, float(load[part, period]) + hosts))
        self._cells.pop(((key[3], key[1]), period), None)
        if part == SERVING and self.reading.kinds[key[1]].homegrown:
            for side, phases in SIDES:
                if key[2] in phases:
                    moved = self.moved[key[0], side]
                    self._set(moved, (period,), float(moved[period]) + hosts * self.tok_s(key))

    def _set(self, values: FloatArray, at: tuple[int, ...], value: float) -> None:
        self._log.append((values, at, float(values[at])))
        values[at] = value

    def _undo(self, until: int) -> None:
        """Take back every change but the first so many."""
        while len(self._log) > until:
            values, at, value = self._log.pop()
            values[at] = value
        self._cells.clear()

    # --- what came out ------------------------------------------------------------------------------------------------
    def load_rows(self) -> Iterator[LoadRow]:
        for period in range(self.reading.count):
            for key, load in self.loads.items():
                serving, shadow, reserve = (float(one) if one > NOTICED else 0.0 for one in load[:, period])
                if serving or shadow or reserve:
                    service, kind, phase, place = key
                    yield LoadRow(
                        period=period,
                        service=service,
                        place=place,
                        kind=kind,
                        phase=phase,
                        serving_hosts=serving,
                        shadow_hosts=shadow,
                        reserve_hosts=reserve,
                        replicas=self.replicas(key, period) if self.per_host(key) else None,
                    )

    def short_rows(self) -> Iterator[ShortRow]:
        more = {slug: tok_s.copy() for slug, tok_s in self.unserved.items()}
        for row in self.reading.answer.short:
            if not row.domain and row.service in more:
                more[row.service][row.period] += row.tok_s
            else:
                yield row
        for slug in self.reading.services:
            for period in range(self.reading.count):
                if slug in more and more[slug][period] > NOTICED * self.reading.demand[slug][period]:
                    yield ShortRow(period=period, service=slug, tok_s=float(more[slug][period]))

    def unserved_rows(self) -> Iterator[UnservedRow]:
        for slug, tok_s in sorted(self.unserved.items()):
            mtok = tok_s * self.reading.facts.penalty_price(1.0, self.reading.services[slug])
            for period in np.flatnonzero(tok_s > NOTICED * self.reading.demand[slug]):
                yield UnservedRow(int(period), slug, float(tok_s[period]), float(mtok[period]))

    def added_rows(self) -> Iterator[AddedRow]:
        for period in range(self.reading.count):
            for pair, keys in self.keys_in.items():
                rounded = [key for key in keys if self.per_host(key)]
                replicas = sum(self.replicas(key, period) for key in rounded)
                hosts = sum(self.footprint(key, period) - float(self.loads[key][:, period].sum()) for key in rounded)
                if replicas:
                    yield AddedRow(period, *pair, replicas=replicas, hosts=max(0.0, hosts))


def _account(program: MigrationProgram, reading: Reading, answer: MigrationAnswer) -> MigrationAnswer:
    """Return a plan with its money and its solver's note as its rows make them.

    The bound of the plan in parts bounds the rounded one too, unless traffic goes unserved that had to be served.
    """
    money = money_rows(program, point_of(program, reading))
    objective = sum(row.discounted for row in money)
    note, must = (
        answer.solver,
        any(
            row.service
            for row in answer.short
            if not row.domain and reading.services[row.service].penalty_per_mtok is None
        ),
    )
    bound = None if must or note.bound is None else min(note.bound, objective)
    gap = None if bound is None else (objective - bound) / max(abs(objective), 1e-9)
    is_good = gap is not None and gap <= max(reading.problem.solver.gap_ratio, 1e-9)
    status = OPTIMAL if answer.status == OPTIMAL and is_good else FEASIBLE
    note = replace(note, objective=objective, bound=bound, gap_ratio=gap)
    return replace(answer, status=status, solver=note, money=money)
