"""Does a plan keep what its problem asks, and do its figures add up? Answered from the rows of the answer alone.

Numbers of constraints are those of docs/models/plan.md. The planner's program is not asked whether it holds.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np

from scenarios.planning.accounts import money_rows
from scenarios.planning.migration_program import ANSWERS, PROMPTS, MigrationProgram
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import DECODE, OUTPUT, PREFILL, PlanProblem
from scenarios.planning.program import FloatArray
from scenarios.planning.reading import RESERVE, SERVING, SHADOW, SIDES, Reading, point_of

TOLERANCE_RATIO = 1e-6
CENT = 0.01
ITEMS = ("capex", "deliveries", "energy", "upkeep", "porting", "opening", "resale", "penalty", "remaining")


@dataclass(frozen=True, slots=True)
class MissedRow:
    """A requirement that a plan does not keep in a period."""

    period: int
    requirement: str  # as conflicts name them: demand, capacity, floor, failover ...
    subject: str
    missing: float
    unit: str

    @property
    def sentence(self) -> str:
        """In words."""
        return f"{self.requirement}: {self.subject} in period {self.period}: {self.missing:g} {self.unit} off"


Missed = Iterator[MissedRow]


def requirements_missed(problem: PlanProblem, answer: MigrationAnswer) -> tuple[MissedRow, ...]:
    """Return every requirement that a plan does not keep, in the order of the constraints."""
    reading = Reading(problem, answer)
    return tuple(row for check in CHECKS for row in check(reading))


def reconcile(problem: PlanProblem, answer: MigrationAnswer) -> list[str]:
    """Return what does not add up in a plan, as sentences; empty where all does.

    Tokens demanded are tokens placed and tokens short; money adds to the cent, by item and over the horizon, and is
    what the other rows make; limits and all other requirements are kept. An answer without a plan reconciles.
    """
    if not answer.is_plan:
        return []
    reading = Reading(problem, answer)
    found = [row.sentence for check in CHECKS for row in check(reading)]
    return [*found, *_money(reading), *_limit_rows(reading)]


def _over(
    requirement: str, subject: str, value: FloatArray, most: FloatArray | float, unit: str, *, first: int = 0
) -> Missed:
    """Yield the periods in which a value is above the most that it may be."""
    most_each = np.broadcast_to(most, value.shape)
    size = np.maximum(1.0, np.maximum(np.abs(value), np.abs(most_each)))
    for period in np.flatnonzero(value > most_each + TOLERANCE_RATIO * size):
        yield MissedRow(first + int(period), requirement, subject, float(value[period] - most_each[period]), unit)


def _apart(requirement: str, subject: str, value: FloatArray, other: FloatArray, unit: str) -> Missed:
    """Yield the periods in which two values differ."""
    yield from _over(requirement, subject, value, other, unit)
    yield from _over(requirement, subject, other, value, unit)


def _demand(reading: Reading) -> Missed:
    """Prompts and answers, each placed or short; and what may not be short is not (1)."""
    for slug, service in reading.services.items():
        short = reading.short.get(("", slug), reading.zeros())
        for side, phases in SIDES:
            yield from _apart(
                "tokens", f"{side} of {slug}", reading.tok_s(slug, phases) + short, reading.demand[slug], "tok/s"
            )
        most = 0.0 if service.penalty_per_mtok is None else reading.demand[slug]
        yield from _over("demand", slug, short, most, "tok/s")


def _one_site(reading: Reading) -> Missed:
    """A prompt's cache does not cross sites (1)."""
    for slug in reading.services:
        done: dict[tuple[str, str], FloatArray] = {}
        for key, load in reading.loads_of(slug, (PREFILL, DECODE)):
            where = (reading.site_of[key[3]], key[2])
            done[where] = done.get(where, reading.zeros()) + reading.rates[key[:3]].tok_s * load[SERVING]
        for site in sorted({site for site, _phase in done}):
            prompts, answers = (done.get((site, phase), reading.zeros()) for phase in (PREFILL, DECODE))
            yield from _apart("one site", f"{slug} in {site}", prompts, answers, "tok/s")


def _capacity(reading: Reading) -> Missed:
    """Loads keep within the hosts that stand, less the reserve of each (2)."""
    usable = 1 - reading.problem.rules.reserve_ratio
    for place, kind in reading.pairs:
        filled, hosts = reading.filled(place, kind).sum(axis=0), reading.up(place, kind)
        yield from _over("capacity", f"{kind} in {place}", filled, usable * hosts, "hosts")


def _openings(reading: Reading) -> Missed:
    """Ways serve when they are ready and open, and traffic is copied before (3, 4); a GPU is left in time."""
    rules = reading.problem.rules
    for way in reading.ways:
        rate, name, demand = reading.rates[way], " ".join(way), reading.demand[way[0]]
        loads = [load for key, load in reading.loads_of(way[0], (way[2],)) if key[1] == way[1]]
        filled = sum(loads, np.zeros((3, reading.count))) * rate.tok_s
        left = reading.services[way[0]].homegrown_from
        if not reading.kinds[way[1]].homegrown:
            if left is not None:
                yield from _over("left", way[0], filled[SERVING, left:], 0.0, "tok/s", first=left)
            continue
        is_open = reading.is_open(way)
        first = reading.opened_at.get(way)
        earliest = max(rate.ready, rules.shadow_periods if rules.shadow_ratio > 0 else 0)
        if first is not None and not rate.in_use and first < earliest:
            yield MissedRow(first, "ready", name, float(earliest - first), "periods")
        yield from _over("open", name, filled[SERVING], demand * is_open, "tok/s")
        ahead = rules.shadow_periods
        if 0 < ahead < reading.count:
            needed = rules.shadow_ratio * demand[:-ahead] * (is_open[ahead:] & ~is_open[:-ahead])
            yield from _over("shadow", name, needed, filled[SHADOW, :-ahead], "tok/s")


def _rollback(reading: Reading) -> Missed:
    """GPU hosts are held for traffic that has moved lately (6)."""
    rules = reading.problem.rules
    hold = min(rules.hold_periods, reading.count)
    if not hold or not rules.rollback_ratio:
        return
    for slug, service in reading.services.items():
        for side, phases in SIDES:
            moved = reading.tok_s(slug, phases, homegrown=True)
            before = service.homegrown_ratio * reading.demand[slug]
            before[hold:] = reading.facts.growth(slug, hold) * moved[: reading.count - hold]
            held = reading.zeros()
            for key, load in reading.loads_of(slug, phases):
                held += reading.rates[key[:3]].tok_s * load[RESERVE]
            yield from _over("rollback", f"{side} of {slug}", rules.rollback_ratio * (moved - before), held, "tok/s")


def _supply(reading: Reading) -> Missed:
    """New hosts are delivered or bought, bought ones are offered (7); new ones stay, kept ones do not come back (8)."""
    for kind in reading.kinds:
        free_used, free = reading.zeros(), reading.zeros()
        for offer in reading.problem.offers:
            if offer.kind == kind and not offer.site:
                free[offer.period :] += offer.hosts
        for site in reading.sites:
            own = reading.zeros()
            for offer in reading.problem.offers:
                if (offer.site, offer.kind) == (site, kind):
                    own[offer.period :] += offer.hosts
            bought = np.cumsum(reading.bought.get((site, kind), reading.zeros()))
            free_used += np.maximum(bought - own, 0.0)
            stand = sum(
                (reading.new.get((p, kind), reading.zeros()) for p, home in reading.site_of.items() if home == site),
                reading.zeros(),
            )
            comes = reading.facts.delivered.get((site, kind), reading.zeros())
            yield from _over("supply", f"{kind} at {site}", stand, comes + bought, "hosts")
        yield from _over("offers", kind, free_used, free, "hosts")
    for pair in reading.pairs:
        name = f"{pair[1]} in {pair[0]}"
        kept, new = reading.kept.get(pair, reading.zeros()), reading.new.get(pair, reading.zeros())
        stands = reading.facts.standing.get(pair, reading.zeros())
        yield from _over("kept", name, kept, stands, "hosts")
        yield from _over("new", name, -np.diff(new), 0.0, "hosts", first=1)
        if pair in reading.facts.standing:
            comes_back = np.diff(kept) - reading.facts.arriving(*pair)[1:]
            yield from _over("kept", name, comes_back, 0.0, "hosts", first=1)


def _limits(reading: Reading) -> Missed:
    """What hosts share (9)."""
    for limit in reading.problem.limits:
        used = sum((use.amount * reading.hosts(use.place, use.kind) for use in limit.uses), reading.zeros())
        yield from _over("limit", limit.slug, used, np.array(reading.problem.at(limit.limit)), limit.unit)


def _waves(reading: Reading) -> Missed:
    """So many ways open in a period, and some wait for others (10)."""
    opened = np.bincount([row.period for row in reading.answer.opened], minlength=reading.count).astype(float)
    most = reading.problem.rules.waves_most
    if most is not None:
        yield from _over("waves", "fleet", opened, float(most), "ways")
    for order in reading.problem.order:
        first, then = (
            [reading.is_open(way) for way in reading.ways if way[0] == slug and reading.kinds[way[1]].homegrown]
            for slug in (order.first, order.then)
        )
        waiting = sum((one.astype(float) for one in then), reading.zeros())
        allowed = len(then) * sum((one.astype(float) for one in first), reading.zeros())
        yield from _over("order", f"{order.then} after {order.first}", waiting, allowed, "ways")


def _ramp(reading: Reading) -> Missed:
    """So much of a service moves in a period (11)."""
    ratio = reading.problem.rules.ramp_ratio
    if ratio >= 1:
        return
    for slug, service in reading.services.items():
        demand = reading.demand[slug]
        for side, phases in SIDES:
            moved = reading.tok_s(slug, phases, homegrown=True)
            before = service.homegrown_ratio * demand
            before[1:] = reading.facts.growth(slug, 1) * moved[:-1]
            yield from _over("ramp", f"{side} of {slug}", moved, before + ratio * demand, "tok/s")


def _floors(reading: Reading) -> Missed:
    """Shares of homegrown tokens (12)."""
    for at, floor in enumerate(reading.problem.floors):
        done, total = reading.zeros(), reading.zeros()
        for slug, service in reading.services.items():
            if floor.region in {"", service.region} and floor.tier in {"", service.tier}:
                weight = 0.0 if floor.basis == OUTPUT else service.input_ratio
                done += weight * reading.tok_s(slug, PROMPTS, homegrown=True)
                done += reading.tok_s(slug, ANSWERS, homegrown=True)
                total += (1 + weight) * reading.demand[slug]
        first = floor.period
        name = " ".join(part for part in (f"{at}: {floor.ratio:.0%}", floor.region, floor.tier) if part)
        yield from _over("floor", name, floor.ratio * total[first:], done[first:], "tok/s", first=first)


def _failover(reading: Reading) -> Missed:
    """After the loss of any domain what is left serves the protected tier (13)."""
    rules = reading.problem.rules
    rows: dict[tuple[str, str, str, str], FloatArray] = {}
    for row in reading.answer.failover:
        key = (row.domain, row.service, row.kind, row.phase)
        rows.setdefault(key, reading.zeros())[row.period] += row.hosts
    for domain in reading.problem.domains:
        lost = {one.place: one.ratio for one in domain.lost}
        for region in sorted({reading.region_of[place] for place in lost}):
            protected = [
                slug
                for slug, one in reading.services.items()
                if (one.tier, one.region) == (rules.failover_tier, region)
            ]
            for slug in protected:
                yield from _survives(reading, domain.slug, slug, rows)
            for kind in reading.kinds:
                used = sum(
                    (
                        rows.get((domain.slug, *way), reading.zeros())
                        for way in reading.ways
                        if way[1] == kind and way[0] in protected
                    ),
                    reading.zeros(),
                )
                left = sum(
                    ((1 - lost.get(p, 0.0)) * reading.up(p, kind) for p, r in reading.region_of.items() if r == region),
                    reading.zeros(),
                )
                yield from _over("failover", f"{kind} in {region} after {domain.slug}", used, left, "hosts")


def _survives(reading: Reading, domain: str, slug: str, rows: dict[tuple[str, str, str, str], FloatArray]) -> Missed:
    demand, short = reading.demand[slug], reading.short.get((domain, slug), reading.zeros())
    for side, phases in SIDES:
        done = reading.zeros()
        for way in reading.ways:
            row = rows.get((domain, *way))
            if way[0] == slug and row is not None:
                served = reading.rates[way].tok_s * row
                yield from _over(
                    "open", f"{' '.join(way)} after {domain}", served, demand * reading.is_open(way), "tok/s"
                )
                done += served * (way[2] in phases)
        yield from _apart("failover", f"{side} of {slug} after {domain}", done + short, demand, "tok/s")
    most = 0.0 if reading.problem.rules.failover_penalty_per_mtok is None else demand
    yield from _over("failover", f"{slug} after {domain}", short, most, "tok/s")


CHECKS: tuple[Callable[[Reading], Missed], ...] = (
    _demand,
    _one_site,
    _capacity,
    _openings,
    _rollback,
    _supply,
    _limits,
    _waves,
    _ramp,
    _floors,
    _failover,
)


def _money(reading: Reading) -> Iterator[str]:
    """Yield what does not add up in the account: across, down, and against what the other rows of the answer make."""
    program = MigrationProgram(reading.problem)
    made = money_rows(program, point_of(program, reading))
    answer, discount = reading.answer, reading.facts.discount
    if [row.period for row in answer.money] != list(range(reading.count)):
        yield "money: there is not one row for each period"
        return
    for row, expected in zip(answer.money, made, strict=True):
        for item in ITEMS:
            if abs(getattr(row, item) - getattr(expected, item)) > CENT:
                yield (
                    f"money: {item} in period {row.period} is {getattr(row, item):.2f}, "
                    f"the plan makes {getattr(expected, item):.2f}"
                )
        total = sum(getattr(row, item) for item in ITEMS)
        discounted = discount[row.period] * (total - row.remaining) + discount[-1] * row.remaining
        if abs(total - row.total) > CENT or abs(discounted - row.discounted) > CENT:
            yield f"money: the items of period {row.period} do not add up"
    objective = sum(row.discounted for row in answer.money)
    if answer.solver.objective is None or abs(objective - answer.solver.objective) > CENT + 1e-9 * abs(objective):
        yield f"money: the periods add up to {objective:.2f}, the objective is {answer.solver.objective}"


def _limit_rows(reading: Reading) -> Iterator[str]:
    """Yield rows of limits that do not say what the hosts take."""
    rows = {(row.slug, row.period): row for row in reading.answer.limits}
    for limit in reading.problem.limits:
        used = sum((use.amount * reading.hosts(use.place, use.kind) for use in limit.uses), reading.zeros())
        for period in range(reading.count):
            row = rows.get((limit.slug, period))
            if row is None or abs(row.used - used[period]) > TOLERANCE_RATIO * max(1.0, used[period]):
                yield f"limit rows: {limit.slug} in period {period} is not {used[period]:g}"
