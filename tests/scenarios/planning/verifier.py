"""Checks a migration plan against its problem, from the rows of the answer alone, in plain loops.

It follows docs/models/plan.md line by line and shares nothing with the planner but the values of problem and answer.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping

from scenarios.planning.plan import FEASIBLE, INFEASIBLE, NO_PLAN, OPTIMAL, LoadRow, MigrationAnswer, SolverNote
from scenarios.planning.problem import DECODE, PREFILL, TOKENS, WHOLE, DomainValues, PlanProblem

PROMPTS, ANSWERS = (WHOLE, PREFILL), (WHOLE, DECODE)
SIDES = (("prompts", PROMPTS), ("answers", ANSWERS))
ITEMS = ("capex", "deliveries", "energy", "upkeep", "porting", "opening", "resale", "penalty", "remaining")
CENT = 0.01
TOLERANCE_RATIO = 1e-6


def verify(problem: PlanProblem, answer: MigrationAnswer, *, whole_replicas: bool = False) -> list[str]:
    """Return a sentence for everything that is wrong with an answer.

    Parameters
    ----------
    whole_replicas : bool
        Whether loads are rounded to whole replicas, and hosts must hold these.
    """
    if answer.status in {INFEASIBLE, NO_PLAN}:
        return list(_no_plan(answer))
    if answer.status not in {OPTIMAL, FEASIBLE}:
        return [f"{answer.status!r} is no status of a plan"]
    names = list(_names(problem, answer))
    if names:
        return names  # what follows looks names up
    plan = Plan(problem, answer)
    found: list[str] = []
    for check in CHECKS:
        found.extend(check(plan))
    if whole_replicas:
        found.extend(_replicas(plan))
    return found


def over(value: float, most: float) -> bool:
    """Return whether a value is above the most that it may be, by more than the tolerance."""
    return value > most + TOLERANCE_RATIO * max(1.0, abs(value), abs(most))


def apart(value: float, other: float) -> bool:
    """Return whether two values differ by more than the tolerance."""
    return over(value, other) or over(other, value)


def cents_apart(value: float, other: float) -> bool:
    """Return whether two amounts of money differ by more than a cent (and a rounding of doubles)."""
    return not abs(value - other) <= CENT + 1e-9 * max(abs(value), abs(other))


class Plan:
    """The rows of an answer by their names; a row that is not there is zero."""

    def __init__(self, problem: PlanProblem, answer: MigrationAnswer) -> None:
        self.problem, self.answer = problem, answer
        self.count = len(problem.periods)
        self.times = range(self.count)
        self.sites = {one.slug: one for one in problem.sites}
        self.kinds = {one.slug: one for one in problem.kinds}
        self.services = {one.slug: one for one in problem.services}
        self.site_of = {one.slug: one.site for one in problem.located}
        self.region_of = {place: self.sites[site].region for place, site in self.site_of.items()}
        self.rates = {(one.service, one.kind, one.phase): one for one in problem.rates}
        self.ways = _ways(problem)
        self.demand = {one.slug: problem.at(one.demand_tok_s) for one in problem.services}
        self.standing = {(one.place, one.kind): problem.at(one.hosts) for one in problem.standing}
        self.pairs = [(place, kind) for place in self.site_of for kind in self.kinds]
        self.kept: dict[tuple[str, str, int], float] = defaultdict(float)
        self.new: dict[tuple[str, str, int], float] = defaultdict(float)
        for row in answer.hosts:
            self.kept[row.place, row.kind, row.period] += row.kept
            self.new[row.place, row.kind, row.period] += row.new
        self.bought: dict[tuple[str, str, int], float] = defaultdict(float)
        for bought in answer.bought:
            self.bought[bought.site, bought.kind, bought.period] += bought.hosts
        self.short: dict[tuple[str, str, int], float] = defaultdict(float)
        for short in answer.short:
            self.short[short.domain, short.service, short.period] += short.tok_s
        self.opened = {(one.service, one.kind, one.phase): one.period for one in answer.opened}
        self.loads_of: dict[tuple[str, int], list[LoadRow]] = defaultdict(list)
        self.loads_at: dict[tuple[str, str, int], list[LoadRow]] = defaultdict(list)
        for load in answer.loads:
            self.loads_of[load.service, load.period].append(load)
            self.loads_at[load.place, load.kind, load.period].append(load)

    def hosts(self, place: str, kind: str, period: int) -> float:
        return self.kept[place, kind, period] + self.new[place, kind, period]

    def up(self, place: str, kind: str, period: int) -> float:
        """Hosts that can serve."""
        rows = [row for row in self.problem.up if (row.place, row.kind) == (place, kind)]
        return self.hosts(place, kind, period) * (self.problem.at(rows[0].ratio)[period] if rows else 1.0)

    def stand(self, place: str, kind: str, period: int) -> float:
        """Hosts that stand if nothing is done."""
        return self.standing[place, kind][period] if (place, kind) in self.standing else 0.0

    def arrivals(self, place: str, kind: str, period: int) -> float:
        """Hosts that are dated to come in a period after the first."""
        return max(0.0, self.stand(place, kind, period) - self.stand(place, kind, period - 1))

    def homegrown(self, way: tuple[str, str, str]) -> bool:
        return self.kinds[way[1]].homegrown

    def is_open(self, way: tuple[str, str, str], period: int) -> int:
        """Whether a homegrown way is open; -1 is the time before the first period."""
        if self.rates[way].in_use:
            return 1
        return int(way in self.opened and self.opened[way] <= period)

    def moved_tok_s(self, service: str, period: int, phases: tuple[str, ...]) -> float:
        """What homegrown hosts do of a service in a period."""
        total = 0.0
        for load in self.loads_of[service, period]:
            way = (load.service, load.kind, load.phase)
            if load.phase in phases and self.homegrown(way):
                total += self.rates[way].tok_s * load.serving_hosts
        return total

    def growth(self, service: str, period: int, back: int) -> float:
        """Demand over that of `back` periods before; 0 where there was none."""
        before = self.demand[service][period - back]
        return self.demand[service][period] / before if before else 0.0

    def discount(self, period: int) -> float:
        rules = self.problem.rules
        return (1 + rules.discount_ratio_year) ** (-period * rules.period_months / 12)

    def book_value(self, kind: str, period: int) -> float:
        one = self.kinds[kind]
        return one.book_value * max(0.0, 1 - period * self.problem.rules.period_months / one.months_left)


def _ways(problem: PlanProblem) -> list[tuple[str, str, str]]:
    """Ways that exist: whole ones alone without split; no homegrown ones of a service that stays."""
    homegrown = {one.slug for one in problem.kinds if one.homegrown}
    stays = {one.slug for one in problem.services if one.stays}
    return [
        (one.service, one.kind, one.phase)
        for one in problem.rates
        if (problem.rules.split or one.phase == WHOLE) and not (one.service in stays and one.kind in homegrown)
    ]


def _no_plan(answer: MigrationAnswer) -> Iterator[str]:
    for name in ("hosts", "bought", "loads", "opened", "failover", "short", "money", "limits"):
        if getattr(answer, name):
            yield f"there is no plan, yet there are rows of {name}"
    if answer.solver.objective is not None:
        yield "there is no plan, yet it has an objective"


def _names(problem: PlanProblem, answer: MigrationAnswer) -> Iterator[str]:
    """Every name is known, every row is there once, every number is finite."""
    known = {
        "place": {one.slug for one in problem.located},
        "site": {one.slug for one in problem.sites},
        "kind": {one.slug for one in problem.kinds},
        "service": {one.slug for one in problem.services},
        "period": set(range(len(problem.periods))),
        "phase": {WHOLE, PREFILL, DECODE},
    }
    keys = {
        "hosts": ("period", "place", "kind"),
        "bought": ("period", "site", "kind"),
        "loads": ("period", "service", "place", "kind", "phase"),
        "failover": ("period", "domain", "service", "kind", "phase"),
        "short": ("period", "service", "domain"),
        "opened": ("service", "kind", "phase"),
        "money": ("period",),
        "limits": ("period", "slug"),
    }
    ways = set(_ways(problem))
    for table, parts in keys.items():
        named = {**known, "domain": {one.slug for one in problem.domains}, "slug": {one.slug for one in problem.limits}}
        if table == "short":
            named["domain"] |= {""}
        rows = getattr(answer, table)
        times_seen = Counter(tuple(getattr(row, part) for part in parts) for row in rows)
        for key, times in times_seen.items():
            if times > 1:
                yield f"{table}: {key} is there {times} times"
        for at, row in enumerate(rows):
            for part in {*parts, "period"}:
                if getattr(row, part) not in named[part]:
                    yield f"{table}[{at}]: {part} {getattr(row, part)!r} is unknown"
            if "phase" in parts and (row.service, row.kind, row.phase) not in ways:
                yield f"{table}[{at}]: there is no way {row.service} {row.kind} {row.phase}"
            for name in row.__dataclass_fields__:
                value = getattr(row, name)
                if isinstance(value, float) and not math.isfinite(value):
                    yield f"{table}[{at}]: {name} is {value}"


def _signs(plan: Plan) -> Iterator[str]:
    """Nothing is negative, hosts are whole, and new ones never fall."""
    parts = {
        "hosts": ("kept", "new"),
        "bought": ("hosts",),
        "loads": ("serving_hosts", "shadow_hosts", "reserve_hosts"),
        "failover": ("hosts",),
        "short": ("tok_s",),
    }
    for table, names in parts.items():
        for at, row in enumerate(getattr(plan.answer, table)):
            for name in names:
                if over(0, getattr(row, name)):
                    yield f"{table}[{at}]: {name} is {getattr(row, name)}, below zero"
    for at, row in enumerate(plan.answer.hosts):
        for name in ("kept", "new"):
            if getattr(row, name) != math.floor(getattr(row, name)):
                yield f"hosts[{at}]: {name} is {getattr(row, name)}, not whole"
    for place, kind in plan.pairs:
        for t in plan.times[1:]:
            if plan.new[place, kind, t] < plan.new[place, kind, t - 1]:
                yield f"monotony: new hosts of {kind} in {place} fall in period {t}"


def _allowed(plan: Plan) -> Iterator[str]:
    """Where and when a way may serve."""
    for at, load in enumerate(plan.answer.loads):
        service, way = plan.services[load.service], (load.service, load.kind, load.phase)
        if plan.region_of[load.place] != service.region:
            yield f"region: loads[{at}]: {load.place} is not in the region of {load.service}"
        if plan.homegrown(way):
            if over(load.reserve_hosts, 0):
                yield f"reserve: loads[{at}]: {load.kind} is no GPU and holds reserve"
            continue
        if over(load.shadow_hosts, 0):
            yield f"shadow: loads[{at}]: {load.kind} is a GPU and has copies"
        if service.homegrown_from is not None and load.period >= service.homegrown_from and over(load.serving_hosts, 0):
            yield f"homegrown_from: loads[{at}]: {load.service} is still on {load.kind} in period {load.period}"


def _demand(plan: Plan) -> Iterator[str]:
    """Constraint 1."""
    for name, service in plan.services.items():
        for t in plan.times:
            demand, unserved = plan.demand[name][t], plan.short["", name, t]
            if service.penalty_per_mtok is None and over(unserved, 0):
                yield f"unserved: {name} in period {t} must be served, {unserved:g} tok/s are not"
            if over(unserved, demand):
                yield f"unserved: {name} in period {t}: {unserved:g} tok/s of {demand:g}"
            for side, phases in SIDES:
                served = sum(
                    plan.rates[load.service, load.kind, load.phase].tok_s * load.serving_hosts
                    for load in plan.loads_of[name, t]
                    if load.phase in phases
                )
                if apart(served + unserved, demand):
                    yield f"demand: {side} of {name} in period {t}: {served + unserved:.9g} tok/s of {demand:.9g}"


def _one_site(plan: Plan) -> Iterator[str]:
    """Of constraint 1: a prompt's cache does not cross sites."""
    for name in plan.services:
        for t in plan.times:
            for site in plan.sites:
                done = {PREFILL: 0.0, DECODE: 0.0, WHOLE: 0.0}
                for load in plan.loads_of[name, t]:
                    if plan.site_of[load.place] == site:
                        rate = plan.rates[load.service, load.kind, load.phase]
                        done[load.phase] += rate.tok_s * load.serving_hosts
                if apart(done[PREFILL], done[DECODE]):
                    yield f"one site: {name} in {site} in period {t}: {done[PREFILL]:.9g} and {done[DECODE]:.9g} tok/s"


def _capacity(plan: Plan) -> Iterator[str]:
    """Constraint 2."""
    usable = 1 - plan.problem.rules.reserve_ratio
    for place, kind in plan.pairs:
        for t in plan.times:
            filled = sum(
                load.serving_hosts + load.shadow_hosts + load.reserve_hosts for load in plan.loads_at[place, kind, t]
            )
            if over(filled, usable * plan.up(place, kind, t)):
                yield (
                    f"capacity: {kind} in {place} in period {t}: {filled:.9g} filled of "
                    f"{usable:g} x {plan.up(place, kind, t):g}"
                )


def _open(plan: Plan) -> Iterator[str]:
    """Constraints 3 and 4."""
    rules = plan.problem.rules
    for way, period in plan.opened.items():
        rate, name = plan.rates[way], " ".join(way)
        if not plan.homegrown(way):
            yield f"opened: {name} is on GPUs, which serve anyway"
        if rate.in_use:
            yield f"opened: {name} was in use already"
        elif period < rate.ready:
            yield f"ready: {name} opens in period {period}, before {rate.ready}"
        if rules.shadow_ratio > 0 and period < rules.shadow_periods and not rate.in_use:
            yield f"shadow: {name} opens in period {period}, before copies could run"
    for way in plan.ways:
        if not plan.homegrown(way):
            continue
        rate, demand = plan.rates[way].tok_s, plan.demand[way[0]]
        for t in plan.times:
            rows = [load for load in plan.loads_of[way[0], t] if (load.kind, load.phase) == way[1:]]
            served = sum(rate * load.serving_hosts for load in rows)
            if over(served, demand[t] * plan.is_open(way, t)):
                yield f"open: {' '.join(way)} serves {served:.9g} tok/s in period {t}"
            ahead = t + rules.shadow_periods
            if ahead < plan.count:
                needed = rules.shadow_ratio * demand[t] * (plan.is_open(way, ahead) - plan.is_open(way, t))
                copied = sum(rate * load.shadow_hosts for load in rows)
                if over(needed, copied):
                    yield f"shadow: {' '.join(way)} copies {copied:.9g} tok/s in period {t} of {needed:.9g}"


def _reserve(plan: Plan) -> Iterator[str]:
    """Constraint 6."""
    rules, hold = plan.problem.rules, plan.problem.rules.hold_periods
    if not hold:
        return
    for name, service in plan.services.items():
        for t in plan.times:
            for side, phases in SIDES:
                if t >= hold:
                    before = plan.growth(name, t, hold) * plan.moved_tok_s(name, t - hold, phases)
                else:
                    before = service.homegrown_ratio * plan.demand[name][t]
                needed = rules.rollback_ratio * (plan.moved_tok_s(name, t, phases) - before)
                held = sum(
                    plan.rates[load.service, load.kind, load.phase].tok_s * load.reserve_hosts
                    for load in plan.loads_of[name, t]
                    if load.phase in phases and not plan.homegrown((load.service, load.kind, load.phase))
                )
                if over(needed, held):
                    yield f"rollback: {side} of {name} in period {t}: {held:.9g} tok/s held of {needed:.9g}"


def _supply(plan: Plan) -> Iterator[str]:
    """Constraint 7."""
    problem = plan.problem
    for kind in plan.kinds:
        for t in plan.times:
            free = sum(one.hosts for one in problem.offers if one.kind == kind and not one.site and one.period <= t)
            used_free = 0.0
            for site in plan.sites:
                own = sum(
                    one.hosts for one in problem.offers if (one.kind, one.site) == (kind, site) and one.period <= t
                )
                bought = sum(plan.bought[site, kind, before] for before in range(t + 1))
                used_free += max(0.0, bought - own)
                if over(bought, own + free):
                    yield f"offers: {bought:g} {kind} bought for {site} by period {t}, {own + free:g} are offered"
                delivered = sum(
                    one.hosts for one in problem.deliveries if (one.kind, one.site) == (kind, site) and one.period <= t
                )
                stand = sum(plan.new[place, kind, t] for place, home in plan.site_of.items() if home == site)
                if over(stand, delivered + bought):
                    yield f"supply: {stand:g} new {kind} stand at {site} in period {t}, {delivered + bought:g} came"
            if over(used_free, free):
                yield f"offers: {used_free:g} {kind} bought of the {free:g} that are free by period {t}"


def _kept(plan: Plan) -> Iterator[str]:
    """Constraint 8."""
    for place, kind in plan.pairs:
        for t in plan.times:
            kept, stand = plan.kept[place, kind, t], plan.stand(place, kind, t)
            if over(kept, stand):
                yield f"kept: {kept:g} {kind} in {place} in period {t}, {stand:g} stand"
            if t and over(kept, plan.kept[place, kind, t - 1] + plan.arrivals(place, kind, t)):
                yield f"kept: {kind} in {place} come back in period {t}"


def _limits(plan: Plan) -> Iterator[str]:
    """Constraint 9, and the rows that tell of it."""
    rows = {(row.slug, row.period): row for row in plan.answer.limits}
    for limit in plan.problem.limits:
        for t in plan.times:
            most = plan.problem.at(limit.limit)[t]
            used = sum(use.amount * plan.hosts(use.place, use.kind, t) for use in limit.uses)
            if over(used, most):
                yield f"limit: {limit.slug} in period {t}: {used:g} of {most:g}"
            row = rows.get((limit.slug, t))
            if row is None:
                if over(used, 0):
                    yield f"limit rows: {limit.slug} in period {t} is missing"
                continue
            if apart(row.used, used) or apart(row.limit, most):
                says, is_so = f"{row.used:g} of {row.limit:g}", f"{used:g} of {most:g}"
                yield f"limit rows: {limit.slug} in period {t} says {says}, not {is_so}"
            if (row.constraint, row.unit) != (limit.constraint, limit.unit):
                yield f"limit rows: {limit.slug} in period {t} is of another constraint or unit"


def _waves(plan: Plan) -> Iterator[str]:
    """Constraint 10."""
    most = plan.problem.rules.waves_most
    for t in plan.times:
        opened = sum(1 for period in plan.opened.values() if period == t)
        if most is not None and opened > most:
            yield f"waves: {opened} ways open in period {t}, {most} may"
        for order in plan.problem.order:
            then = [way for way in plan.ways if way[0] == order.then and plan.homegrown(way)]
            first = [way for way in plan.ways if way[0] == order.first and plan.homegrown(way)]
            waiting = sum(plan.is_open(way, t) for way in then)
            if waiting > len(then) * sum(plan.is_open(way, t) for way in first):
                yield f"order: {order.then} is open in period {t}, {order.first} is not"


def _ramp(plan: Plan) -> Iterator[str]:
    """Constraint 11."""
    ratio = plan.problem.rules.ramp_ratio
    if ratio >= 1:
        return
    for name, service in plan.services.items():
        for t in plan.times:
            demand = plan.demand[name][t]
            for side, phases in SIDES:
                if t:
                    before = plan.growth(name, t, 1) * plan.moved_tok_s(name, t - 1, phases)
                else:
                    before = service.homegrown_ratio * demand
                moved = plan.moved_tok_s(name, t, phases)
                if over(moved, before + ratio * demand):
                    yield f"ramp: {side} of {name} in period {t}: {moved:.9g} tok/s of {before + ratio * demand:.9g}"


def _floors(plan: Plan) -> Iterator[str]:
    """Constraint 12."""
    for at, floor in enumerate(plan.problem.floors):
        for t in range(floor.period, plan.count):
            done = total = 0.0
            for name, service in plan.services.items():
                if floor.region not in {"", service.region} or floor.tier not in {"", service.tier}:
                    continue
                prompts = service.input_ratio if floor.basis == TOKENS else 0.0
                done += prompts * plan.moved_tok_s(name, t, PROMPTS) + plan.moved_tok_s(name, t, ANSWERS)
                total += (1 + prompts) * plan.demand[name][t]
            if over(floor.ratio * total, done):
                yield f"floor: floors[{at}] in period {t}: {done:.9g} homegrown tok/s of {floor.ratio * total:.9g}"


def _failover(plan: Plan) -> Iterator[str]:
    """Constraint 13."""
    losses = [_Loss(plan, domain) for domain in plan.problem.domains]
    by_name = {loss.slug: loss for loss in losses}
    yield from _may_serve_after(plan, by_name)
    yield from _may_be_lost(plan, by_name)
    for loss in losses:
        for region in sorted(loss.regions):
            for t in plan.times:
                yield from _survives(plan, loss, region, t)


class _Loss:
    """A failure domain: what it takes, and which services must survive that."""

    def __init__(self, plan: Plan, domain: DomainValues) -> None:
        self.slug = domain.slug
        self.ratio_of = {lost.place: lost.ratio for lost in domain.lost}
        self.regions = {plan.region_of[place] for place in self.ratio_of}
        tier = plan.problem.rules.failover_tier
        self.protects = sorted(
            name for name, one in plan.services.items() if one.tier == tier and one.region in self.regions
        )


def _may_serve_after(plan: Plan, losses: Mapping[str, _Loss]) -> Iterator[str]:
    for at, row in enumerate(plan.answer.failover):
        service, way = plan.services[row.service], (row.service, row.kind, row.phase)
        if row.service not in losses[row.domain].protects:
            yield f"failover: failover[{at}]: {row.service} needs no protection from {row.domain}"
        if plan.homegrown(way):
            done = plan.rates[way].tok_s * row.hosts
            if over(done, plan.demand[row.service][row.period] * plan.is_open(way, row.period)):
                yield f"failover: failover[{at}]: {' '.join(way)} serves {done:.9g} tok/s and is not so open"
        elif service.homegrown_from is not None and row.period >= service.homegrown_from and over(row.hosts, 0):
            yield f"failover: failover[{at}]: {row.service} has left its GPUs"


def _may_be_lost(plan: Plan, losses: Mapping[str, _Loss]) -> Iterator[str]:
    for row in plan.answer.short:
        if not row.domain or not over(row.tok_s, 0):
            continue
        what = f"{row.tok_s:g} tok/s of {row.service} would not survive {row.domain} in period {row.period}"
        if plan.problem.rules.failover_penalty_per_mtok is None:
            yield f"failover: {what}, and all must"
        if over(row.tok_s, plan.demand[row.service][row.period]):
            yield f"failover: {what}, more than is demanded"
        if row.service not in losses[row.domain].protects:
            yield f"failover: {what}, and need no protection from it"


def _survives(plan: Plan, loss: _Loss, region: str, t: int) -> Iterator[str]:
    after = f"after {loss.slug} in period {t}"
    rows = [
        row
        for row in plan.answer.failover
        if (row.domain, row.period, plan.services[row.service].region) == (loss.slug, t, region)
    ]
    for name in loss.protects:
        if plan.services[name].region != region:
            continue
        demand, short = plan.demand[name][t], plan.short[loss.slug, name, t]
        for side, phases in SIDES:
            done = sum(
                plan.rates[row.service, row.kind, row.phase].tok_s * row.hosts
                for row in rows
                if row.service == name and row.phase in phases
            )
            if apart(done + short, demand):
                yield f"failover: {side} of {name} {after}: {done + short:.9g} tok/s of {demand:.9g}"
    for kind in plan.kinds:
        used = sum(row.hosts for row in rows if row.kind == kind)
        left = sum(
            (1 - loss.ratio_of.get(place, 0.0)) * plan.up(place, kind, t)
            for place, home in plan.region_of.items()
            if home == region
        )
        if over(used, left):
            yield f"failover: {used:.9g} {kind} serve in {region} {after}, {left:.9g} are left"


def money_of(plan: Plan, t: int) -> dict[str, float]:
    """Return what a period costs, item by item, from the other rows of the answer. [money]"""
    cost = dict.fromkeys(ITEMS, 0.0)
    for entries in (_purchases, _hosts_cost, _loads_cost, _opening_cost, _short_cost):
        for item, amount in entries(plan, t):
            cost[item] += amount
    return cost


Entries = Iterator[tuple[str, float]]


def _purchases(plan: Plan, t: int) -> Entries:
    months = plan.problem.rules.period_months
    for (_, name, period), hosts in plan.bought.items():
        kind = plan.kinds[name]
        if period == t:
            yield "capex", kind.price * hosts
        if t == plan.count - 1:
            left = max(0.0, 1 - (plan.count - period) * months / kind.life_months)
            yield "remaining", -kind.price * left * hosts
    for delivery in plan.problem.deliveries:
        if delivery.period == t:
            yield "deliveries", delivery.price * delivery.hosts


def _hosts_cost(plan: Plan, t: int) -> Entries:
    rules, hours = plan.problem.rules, plan.problem.period_hours
    for place, name in plan.pairs:
        kind, hosts, kept = plan.kinds[name], plan.hosts(place, name, t), plan.kept[place, name, t]
        yield "energy", hours * _kwh_price(plan, place, name, t) * kind.idle_w * hosts / 1000
        yield "upkeep", kind.upkeep_per_month * rules.period_months * hosts
        before = plan.kept[place, name, t - 1] if t else 0.0
        come = plan.arrivals(place, name, t) if t else plan.stand(place, name, 0)
        brings = kind.resale_ratio * plan.book_value(name, t)
        yield "opening", brings * come
        yield "resale", -brings * (before + come - kept)
        if t == plan.count - 1:
            yield "remaining", -kind.resale_ratio * plan.book_value(name, plan.count) * kept


def _loads_cost(plan: Plan, t: int) -> Entries:
    hours = plan.problem.period_hours
    for load in plan.answer.loads:
        if load.period == t:
            kind = plan.kinds[load.kind]
            busy_w = kind.power_w if kind.busy_w is None else kind.busy_w
            mean_w = (busy_w - kind.idle_w) * plan.services[load.service].mean_ratio
            filled = load.serving_hosts + load.shadow_hosts
            yield "energy", hours * _kwh_price(plan, load.place, load.kind, t) * mean_w * filled / 1000


def _opening_cost(plan: Plan, t: int) -> Entries:
    for way, period in plan.opened.items():
        if period == t:
            yield "porting", plan.rates[way].port_cost


def _short_cost(plan: Plan, t: int) -> Entries:
    for (domain, name, period), tok_s in plan.short.items():
        if period == t:
            service = plan.services[name]
            per_mtok = plan.problem.rules.failover_penalty_per_mtok if domain else service.penalty_per_mtok
            yield "penalty", (per_mtok or 0.0) * tok_s * service.mean_ratio * 3600 * plan.problem.period_hours / 1e6


def _kwh_price(plan: Plan, place: str, kind: str, t: int) -> float:
    """Of a kilowatt-hour of IT energy, with what the building adds. [money/kWh]"""
    site = plan.sites[plan.site_of[place]]
    tariff = site.tariff_per_kwh
    if plan.kinds[kind].homegrown and site.homegrown_tariff_per_kwh is not None:
        tariff = site.homegrown_tariff_per_kwh
    return site.pue_ratio * plan.problem.at(tariff)[t]


def _money(plan: Plan) -> Iterator[str]:
    rows = {row.period: row for row in plan.answer.money}
    objective = 0.0
    for t in plan.times:
        cost = money_of(plan, t)
        total = sum(cost.values())
        later = cost["remaining"]
        discounted = plan.discount(t) * (total - later) + plan.discount(plan.count) * later
        objective += discounted
        expected = {**cost, "total": total, "discounted": discounted}
        row = rows.get(t)
        for name, value in expected.items():
            stated = getattr(row, name) if row is not None else 0.0
            if cents_apart(stated, value):
                yield f"money: {name} in period {t} is {stated:.4f}, the rows make {value:.4f}"
        if row is not None and cents_apart(sum(getattr(row, name) for name in ITEMS), row.total):
            yield f"money: the items of period {t} do not add up to its total"
    stated = plan.answer.solver.objective
    if stated is None:
        yield "solver: a plan has an objective"
        return
    if cents_apart(objective, stated):
        yield f"solver: the objective is {stated:.4f}, the rows make {objective:.4f}"
    in_rows = sum(row.discounted for row in plan.answer.money)
    if cents_apart(in_rows, stated):
        yield f"solver: the objective is {stated:.4f}, the discounted totals add up to {in_rows:.4f}"


def _solver(plan: Plan) -> Iterator[str]:
    note = plan.answer.solver
    if note.gap_ratio is not None and not note.gap_ratio >= 0:
        yield f"solver: the gap is {note.gap_ratio}"
    if plan.answer.status == OPTIMAL:
        if note.gap_ratio is None or over(note.gap_ratio, plan.problem.solver.gap_ratio):
            yield f"solver: a gap of {note.gap_ratio} is not optimal within {plan.problem.solver.gap_ratio:g}"
        if note.stopped_by_clock:
            yield "solver: the clock stopped it, so it is feasible, not optimal"
    yield from _gap(plan, note)
    if min(note.nodes, note.columns, note.rows, note.integers) < 0:
        yield "solver: a count is below zero"


def _gap(plan: Plan, note: SolverNote) -> Iterator[str]:
    """The gap is (objective - bound) / |objective|. It is compared in money: near 0 a ratio says little."""
    if note.bound is None or note.objective is None or note.gap_ratio is None:
        return
    if cents_apart(note.bound, note.objective) and note.bound > note.objective:
        yield f"solver: the bound {note.bound:.4f} is above the objective {note.objective:.4f}"
    away = max(0.0, note.objective - note.bound)
    stated = note.gap_ratio * abs(note.objective)
    if abs(stated - away) > CENT + TOLERANCE_RATIO * abs(note.objective):
        yield f"solver: a gap of {note.gap_ratio:g} is not that of {note.objective:.4f} over {note.bound:.4f}"


def _replicas(plan: Plan) -> Iterator[str]:
    """Whole replicas carry every load, and the hosts that stand hold them: a last replica may use their reserve."""
    filled: dict[tuple[str, str, int], float] = defaultdict(float)
    for at, load in enumerate(plan.answer.loads):
        rate = plan.rates[load.service, load.kind, load.phase]
        hosts = load.serving_hosts + load.shadow_hosts + load.reserve_hosts
        if rate.replicas_per_host:
            if load.replicas is None:
                yield f"replicas: loads[{at}] is not rounded"
                continue
            if load.replicas != math.floor(load.replicas) or load.replicas < 0:
                yield f"replicas: loads[{at}]: {load.replicas} is no count"
            room = load.replicas / rate.replicas_per_host
            if over(hosts, room):
                yield f"replicas: loads[{at}]: {load.replicas} replicas do not carry {hosts:.9g} hosts of load"
            hosts = room
        elif load.replicas is not None:
            yield f"replicas: loads[{at}] is rounded, and its rate is not"
        filled[load.place, load.kind, load.period] += hosts
    for (place, kind, t), hosts in filled.items():
        if over(hosts, plan.hosts(place, kind, t)):
            yield f"replicas: {kind} in {place} in period {t}: {hosts:.9g} filled of {plan.hosts(place, kind, t):g}"


Check = Callable[[Plan], Iterator[str]]
CHECKS: tuple[Check, ...] = (
    _signs,
    _allowed,
    _demand,
    _one_site,
    _capacity,
    _open,
    _reserve,
    _supply,
    _kept,
    _limits,
    _waves,
    _ramp,
    _floors,
    _failover,
    _money,
    _solver,
)
