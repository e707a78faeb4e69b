"""Which features of a problem bind or are used in a plan: so that random problems are known to test something."""

from collections.abc import Iterator

from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import DECODE, PREFILL, SHARE_FIRST, TOKENS, WHOLE, PlanProblem
from tests.scenarios.planning.verifier import SIDES, Plan

CLOSE = 1e-6

ALL = frozenset(
    {
        "two regions", "places", "kinds of GPU", "kinds of our own", "several services", "split", "no split",
        "one site", "ready", "never ready", "in use", "porting", "waves", "order", "order waits", "shadow",
        "shadow comes first", "rollback", "rollback from before", "reserve for bursts", "ramp", "ramp from before",
        "arrives", "retires", "leaves early", "resale", "opening", "delivered", "delivery paid", "delivery left",
        "remaining value", "bought from the site's offer", "bought from a free offer", "bought later",
        "offers exhausted", "limit binds", "two limits bind", "floor binds", "floor of tokens", "floor of output",
        "floor of a region", "floor of a tier", "unserved", "survives", "survives on our own", "would not survive",
        "loss binds", "stays", "leaves its GPUs", "subsidy", "subsidy ends", "no traffic", "growth", "discounted",
        "several months", "share first",
    }
)  # fmt: skip


def features(problem: PlanProblem, answer: MigrationAnswer) -> set[str]:
    """Return the features of a problem that bind or are used in a plan for it."""
    plan = Plan(problem, answer)
    found: set[str] = set()
    for some in (
        _shape, _services, _tariffs, _phases, _ways, _safety, _order, _standing, _items, _supply, _offers, _bursts,
        _limits, _floors, _ramp, _short, _losses,
    ):  # fmt: skip
        found.update(some(plan))
    return found


def _close(value: float, other: float) -> bool:
    return abs(value - other) <= CLOSE * max(1.0, abs(value), abs(other))


def _shape(plan: Plan) -> Iterator[str]:
    problem, rules = plan.problem, plan.problem.rules
    serving = {plan.kinds[load.kind] for load in plan.answer.loads}
    facts = {
        "two regions": len({service.region for service in problem.services}) > 1,
        "places": bool(problem.places) and len(problem.places) > len(problem.sites),
        "kinds of GPU": sum(not kind.homegrown for kind in serving) > 1,
        "kinds of our own": sum(kind.homegrown for kind in serving) > 1,
        "several services": len(problem.services) > 1,
        "share first": rules.objective == SHARE_FIRST,
        "discounted": bool(rules.discount_ratio_year) and plan.count > 1,
        "several months": rules.period_months > 1,
        "no split": not rules.split and any(rate.phase != WHOLE for rate in problem.rates),
    }
    yield from (name for name, holds in facts.items() if holds)


def _services(plan: Plan) -> Iterator[str]:
    for name, demand in plan.demand.items():
        if 0 in demand and any(demand):
            yield "no traffic"
        if len(set(demand)) > 1:
            yield "growth"
        loads = [load for load in plan.answer.loads if load.service == name]
        if plan.services[name].stays and loads:
            yield "stays"
        left = plan.services[name].homegrown_from
        if left is not None and any(load.period >= left for load in loads):
            yield "leaves its GPUs"


def _tariffs(plan: Plan) -> Iterator[str]:
    for load in plan.answer.loads:
        tariff = plan.sites[plan.site_of[load.place]].homegrown_tariff_per_kwh
        if plan.kinds[load.kind].homegrown and tariff is not None:
            yield "subsidy"
            if len(set(tariff[: load.period + 1])) > 1:
                yield "subsidy ends"


def _phases(plan: Plan) -> Iterator[str]:
    serving = [load for load in plan.answer.loads if load.serving_hosts > CLOSE]
    for name in plan.services:
        if {PREFILL, DECODE} <= {load.phase for load in serving if load.service == name}:
            yield "split"
        prompts = [load for load in serving if (load.service, load.phase) == (name, PREFILL)]
        if len({plan.site_of[load.place] for load in prompts}) > 1:
            yield "one site"


def _ways(plan: Plan) -> Iterator[str]:
    for way, period in plan.opened.items():
        if plan.rates[way].port_cost:
            yield "porting"
        if period and period == plan.rates[way].ready:
            yield "ready"
    served = {(load.service, load.kind, load.phase) for load in plan.answer.loads if load.serving_hosts > CLOSE}
    for way, rate in plan.rates.items():
        if plan.homegrown(way) and rate.ready >= plan.count and not rate.in_use:
            yield "never ready"
        if plan.homegrown(way) and rate.in_use and way in served:
            yield "in use"
    for t in plan.times:
        opened = sum(1 for period in plan.opened.values() if period == t)
        if plan.problem.rules.waves_most and opened == plan.problem.rules.waves_most:
            yield "waves"


def _safety(plan: Plan) -> Iterator[str]:
    rules = plan.problem.rules
    if any(load.shadow_hosts > CLOSE for load in plan.answer.loads):
        yield "shadow"
    first = rules.shadow_periods if rules.shadow_ratio else 0
    if first and first in plan.opened.values():
        yield "shadow comes first"
    for load in plan.answer.loads:
        if load.reserve_hosts > CLOSE:
            yield "rollback"
            if load.period < rules.hold_periods and plan.services[load.service].homegrown_ratio:
                yield "rollback from before"


def _order(plan: Plan) -> Iterator[str]:
    for order in plan.problem.order:
        first = [period for way, period in plan.opened.items() if way[0] == order.first]
        then = [period for way, period in plan.opened.items() if way[0] == order.then]
        if first and then:
            yield "order"
            if min(first) == min(then):
                yield "order waits"


def _standing(plan: Plan) -> Iterator[str]:
    for place, kind in plan.pairs:
        for t in plan.times:
            stand, kept = plan.stand(place, kind, t), plan.kept[place, kind, t]
            if t and stand > plan.stand(place, kind, t - 1) and kept > plan.kept[place, kind, t - 1]:
                yield "arrives"
            if t and stand < plan.stand(place, kind, t - 1):
                yield "retires"
            if kept < stand:
                yield "leaves early"


def _items(plan: Plan) -> Iterator[str]:
    for row in plan.answer.money:
        for name, feature in (("resale", "resale"), ("remaining", "remaining value"), ("opening", "opening")):
            if abs(getattr(row, name)) > 0.01:
                yield feature


def _supply(plan: Plan) -> Iterator[str]:
    for site in plan.sites:
        for kind in plan.kinds:
            places = [place for place, home in plan.site_of.items() if home == site]
            new = sum(plan.new[place, kind, plan.count - 1] for place in places)
            bought = sum(plan.bought[site, kind, t] for t in plan.times)
            rows = [one for one in plan.problem.deliveries if (one.site, one.kind) == (site, kind)]
            if new > bought + CLOSE:
                yield "delivered"
                if any(one.price for one in rows):
                    yield "delivery paid"
            if new < sum(one.hosts for one in rows):
                yield "delivery left"


def _offers(plan: Plan) -> Iterator[str]:
    offers = plan.problem.offers
    for kind in plan.kinds:
        total = 0.0
        for site in plan.sites:
            bought = sum(plan.bought[site, kind, t] for t in plan.times)
            own = sum(one.hosts for one in offers if (one.site, one.kind) == (site, kind))
            total += bought
            if bought > CLOSE and own:
                yield "bought from the site's offer"
            if bought > own + CLOSE:
                yield "bought from a free offer"
            if bought > plan.bought[site, kind, 0] + CLOSE:
                yield "bought later"
        if total and _close(total, sum(one.hosts for one in offers if one.kind == kind)):
            yield "offers exhausted"


def _bursts(plan: Plan) -> Iterator[str]:
    usable = 1 - plan.problem.rules.reserve_ratio
    for place, kind in plan.pairs:
        for t in plan.times:
            filled = sum(
                load.serving_hosts + load.shadow_hosts + load.reserve_hosts
                for load in plan.answer.loads
                if (load.place, load.kind, load.period) == (place, kind, t)
            )
            if usable < 1 and filled and _close(filled, usable * plan.hosts(place, kind, t)):
                yield "reserve for bursts"


def _limits(plan: Plan) -> Iterator[str]:
    """A limit binds where not one more host would fit."""
    least = {limit.slug: min(use.amount for use in limit.uses) for limit in plan.problem.limits}
    bound = {row.slug for row in plan.answer.limits if row.used and row.used + least[row.slug] > row.limit}
    if bound:
        yield "limit binds"
    if len(bound) > 1:
        yield "two limits bind"


def _floors(plan: Plan) -> Iterator[str]:
    for floor in plan.problem.floors:
        scoped = [
            (name, service.input_ratio if floor.basis == TOKENS else 0.0)
            for name, service in plan.services.items()
            if floor.region in {"", service.region} and floor.tier in {"", service.tier}
        ]
        for t in range(floor.period, plan.count):
            total = sum((1 + prompts) * plan.demand[name][t] for name, prompts in scoped)
            done = sum(
                prompts * plan.moved_tok_s(name, t, SIDES[0][1]) + plan.moved_tok_s(name, t, SIDES[1][1])
                for name, prompts in scoped
            )
            if done and _close(done, floor.ratio * total):
                yield from ("floor binds", f"floor of {floor.basis}")
                yield from ["floor of a region"] * bool(floor.region) + ["floor of a tier"] * bool(floor.tier)


def _ramp(plan: Plan) -> Iterator[str]:
    ratio = plan.problem.rules.ramp_ratio
    for name, service in plan.services.items():
        for t in plan.times if ratio < 1 else ():
            before = service.homegrown_ratio * plan.demand[name][t]
            if t:
                before = plan.growth(name, t, 1) * plan.moved_tok_s(name, t - 1, SIDES[0][1])
            moved = plan.moved_tok_s(name, t, SIDES[0][1])
            if moved and _close(moved, before + ratio * plan.demand[name][t]):
                yield "ramp"
                if not t and service.homegrown_ratio:
                    yield "ramp from before"


def _short(plan: Plan) -> Iterator[str]:
    for row in plan.answer.short:
        if row.tok_s > CLOSE:
            yield "would not survive" if row.domain else "unserved"


def _losses(plan: Plan) -> Iterator[str]:
    used: dict[tuple[str, str, str, int], float] = {}
    for row in plan.answer.failover:
        if row.hosts > CLOSE:
            yield "survives on our own" if plan.kinds[row.kind].homegrown else "survives"
            key = (row.domain, plan.services[row.service].region, row.kind, row.period)
            used[key] = used.get(key, 0.0) + row.hosts
    lost = {domain.slug: {one.place: one.ratio for one in domain.lost} for domain in plan.problem.domains}
    for (domain, region, kind, t), hosts in used.items():
        left = sum(
            (1 - lost[domain].get(place, 0.0)) * plan.hosts(place, kind, t)
            for place, home in plan.region_of.items()
            if home == region
        )
        if _close(hosts, left):
            yield "loss binds"
