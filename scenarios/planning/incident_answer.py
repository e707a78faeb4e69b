"""What an incident changes: supply and tokens before and after, exposure, time to recover, and what a new plan does.

docs/models/events.md has every definition. Values in, values out.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np

from scenarios.planning.capacity import run_out_positions
from scenarios.planning.days import position_day
from scenarios.planning.headroom import ALL, SERVED
from scenarios.planning.holding import Held
from scenarios.planning.incident import Incident, incident_check, world_after, world_before
from scenarios.planning.judging import Judged, Scope, judge
from scenarios.planning.migration_program import Facts
from scenarios.planning.plain import given, plain_of, schema_of
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import WHOLE, PlanProblem
from scenarios.planning.program import BoolArray, FloatArray

NOTICED_RATIO = 1e-6  # of demand: more unserved than before by more than this is worse
PLANNED_RATIO = 0.01  # the same between two plans: each is the best within a gap only, and trades tokens within it
NOTICED_MTOK = 1e-6
BEFORE, AFTER = "before", "after"
WITHOUT = "without "
PURCHASES, OPENINGS, DELIVERIES = "purchases", "openings", "deliveries"
ACTIONS = (PURCHASES, OPENINGS, DELIVERIES)
BASE = ("capex", "deliveries", "energy", "upkeep", "porting", "opening", "resale", "remaining")


@dataclass(frozen=True, slots=True)
class ChangeRow:
    """What a region can serve of a tier in a period, before and after. Without a tier: of everything."""

    period: int = given("Position of the period.")
    region: str = given("Region.")
    tier: str = given("Tier; empty: the whole mix.")
    demand_before_tok_s: float = given("Demanded in the peak hour before.", unit="tok/s")
    demand_after_tok_s: float = given("Demanded in the peak hour after.", unit="tok/s")
    supply_before_tok_s: float = given("What can be served in the present mix, before.", unit="tok/s")
    supply_after_tok_s: float = given("The same after, while the incident lasts.", unit="tok/s")
    headroom_before_ratio: float = given("Supply over demand, less one, before.", unit="-")
    headroom_after_ratio: float = given("The same after.", unit="-")
    unserved_before_tok_s: float = given("Goes unserved in the peak hour before, if nothing is done.", unit="tok/s")
    unserved_after_tok_s: float = given("The same after, while the incident lasts.", unit="tok/s")
    unserved_before_mtok: float = given("Output tokens of the period that go unserved before.", unit="Mtok")
    unserved_after_mtok: float = given("The same after: for as much of the period as the incident lasts.", unit="Mtok")


@dataclass(frozen=True, slots=True)
class HitRow:
    """Hosts that an incident takes, or is about, in a place."""

    place: str = given("Place.")
    kind: str = given("Kind.")
    period: int = given("Period with most of them hit.")
    hosts: float = given("That stand there in it.", unit="-")
    hit_hosts: float = given("Of them that cannot serve.", unit="-")


@dataclass(frozen=True, slots=True)
class ExposureRow:
    """Share of the tokens that run on what an incident is about, in its first period."""

    region: str = given("Region; empty: all.")
    tier: str = given("Tier; empty: all.")
    supply_ratio: float | None = given(
        "Of what hosts could make, services weighted by demand; none: nothing.", unit="-"
    )
    placed_ratio: float | None = given("Of the traffic as replicas are placed now; none: nothing is placed.", unit="-")


@dataclass(frozen=True, slots=True)
class RecoveryRow:
    """How long until a tier of a region is served again as well as it would have been."""

    region: str = given("Region.")
    tier: str = given("Tier; empty: the whole mix.")
    nothing_months: float | None = given(
        "If nothing is done; 0: it never is worse; none: not within the horizon.", unit="month"
    )
    replan_months: float | None = given("With the best new plan, against the best plan before.", unit="month")
    is_replanned: bool = given("Whether there is a new plan, and one before it.")
    nothing_mtok: float = given("More output tokens unserved over the horizon if nothing is done.", unit="Mtok")
    replan_mtok: float | None = given("More of them with the best new plan, against the best plan before.", unit="Mtok")
    run_out_before_on: str | None = given("Day on which demand first exceeds supply before; none: not within.")
    run_out_after_on: str | None = given("The same after, if nothing is done.")


@dataclass(frozen=True, slots=True)
class FailoverRow:
    """Whether the protected tier of a region survives the loss of any further domain, in its worst period."""

    region: str = given("Region.")
    is_after: bool = given("After the incident; else before it.")
    period: int = given("Period with least left.")
    domain: str = given("Domain whose loss leaves least.")
    headroom_ratio: float = given("Of what is left, reserve included.", unit="-")
    holds: bool = given("Whether the tier is served in every period.")
    first_missed: int | None = given("First period in which it is not.")


@dataclass(frozen=True, slots=True)
class ActionRow:
    """What a new plan would lose without one kind of action."""

    action: str = given("Purchases, openings, or racking what is delivered.")
    count: float = given("Hosts bought, ways opened, delivered hosts racked.", unit="-")
    recovered_mtok: float | None = given("Output tokens that go unserved without it; none: no plan without it.")
    money: float | None = given("What it costs, tokens unserved not counted; negative: it saves.", unit="money")
    mtok_per_money: float | None = given("Both over each other; none: it costs nothing.", unit="Mtok/money")
    sentence: str = given("In words.", default="")


@dataclass(frozen=True, slots=True)
class ItemRow:
    """One item of the account of a plan."""

    item: str = given("Item, as capex or penalty.")
    more: float = given("More after than before, not discounted.", unit="money")


@dataclass(frozen=True, slots=True)
class PlanCost:
    """What the best plan costs before and after."""

    before: float | None = given("Uses up before, in money of the first period; none: no plan.", unit="money")
    after: float | None = given("Uses up after.", unit="money")
    written_off: float = given("Value of hosts that bring nothing any more.", unit="money")
    more: float | None = given("More after than before, with what is written off.", unit="money")
    more_least: float | None = given("It is no less, by the bounds of both searches.", unit="money")
    more_most: float | None = given("It is no more.", unit="money")
    items: tuple[ItemRow, ...] = given("The same by item.", default=())


@dataclass(frozen=True)
class IncidentAnswer:
    """Before and after."""

    words: str = given("What happens.")
    first: int = given("First period that it touches.")
    until: int | None = given("First period free of it.")
    changes: tuple[ChangeRow, ...] = given("Supply, demand, headroom and unserved.")
    hits: tuple[HitRow, ...] = given("Hosts that cannot serve.")
    exposure: tuple[ExposureRow, ...] = given("Share of tokens on what it is about.")
    recovery: tuple[RecoveryRow, ...] = given("Time to recover.")
    failover: tuple[FailoverRow, ...] = given("N+1.")
    unserved_before_mtok: float = given("Over the horizon, if nothing is done.", unit="Mtok")
    unserved_after_mtok: float = given("Over the horizon, if nothing is done.", unit="Mtok")
    plan_before_mtok: float | None = given("Unserved by the best plan before.", unit="Mtok")
    plan_after_mtok: float | None = given("Unserved by the best plan after.", unit="Mtok")
    cost: PlanCost | None = given("Of the best plans.", default=None)
    actions: tuple[ActionRow, ...] = given(
        "Of the new plan, the one that recovers most for its money first.", default=()
    )

    def as_dict(self) -> dict[str, Any]:
        """Return the answer as JSON values."""
        return dict(plain_of(self))


def incident_schema() -> dict[str, Any]:
    """Return the JSON Schema of an incident."""
    return schema_of(Incident, title="What happens to a fleet")


def incident_answer_schema() -> dict[str, Any]:
    """Return the JSON Schema of an answer."""
    return schema_of(IncidentAnswer, title="What an incident changes")


def incident_answer(
    problem: PlanProblem, incident: Incident, plans: Mapping[str, MigrationAnswer] | None = None, *, since: int = 0
) -> IncidentAnswer:
    """Return what an incident changes.

    Parameters
    ----------
    problem : PlanProblem
        The fleet, with what the incident brings and without what it takes.
    plans : mapping, optional
        Best plans `before` and `after`, and `without` each kind of action, as `plan_worlds` says which.
    since : int
        First period in which the plan after may do other than the one before: its actions are counted from then on.
    """
    incident_check(problem, incident)
    before, after = world_before(problem, incident), world_after(problem, incident)
    found, plans = _Compared(problem, incident, before, after), plans or {}
    changes = tuple(found.changes())
    whole = [row for row in changes if row.tier == ALL]
    known = plans.get(BEFORE), plans.get(AFTER)
    return IncidentAnswer(
        words=incident.words,
        first=incident.first,
        until=incident.until,
        changes=changes,
        hits=tuple(found.hits()),
        exposure=tuple(found.exposure()),
        recovery=tuple(found.recovery(*known)),
        failover=tuple(found.failover()),
        unserved_before_mtok=sum(row.unserved_before_mtok for row in whole),
        unserved_after_mtok=sum(row.unserved_after_mtok for row in whole),
        plan_before_mtok=_total(found.short_mtok(before, known[0])),
        plan_after_mtok=_total(found.after_mtok(known[0], known[1])),
        cost=_cost(found, incident, known[0], known[1]) if known[0] and known[1] else None,
        actions=tuple(_actions(found, after, plans, since)),
    )


def plan_worlds(problem: PlanProblem, incident: Incident, held: Held | None = None) -> dict[str, PlanProblem]:
    """Return the problems whose best plans an answer is made of: before, after, and after without an action each.

    With a plan that is held until a period, actions are those from then on.
    """
    after = world_after(problem, incident)
    worlds = {BEFORE: world_before(problem, incident), AFTER: after}
    less = {action: without(after, action, held) for action in ACTIONS}
    return worlds | {WITHOUT + action: world for action, world in less.items() if world != after}


def without(problem: PlanProblem, action: str, held: Held | None = None) -> PlanProblem:
    """Return a problem in which a plan cannot take a kind of action, but as far as a plan is held."""
    since, opened = (held.until, held.opened) if held else (0, {})
    if action == PURCHASES:
        return replace(problem, offers=tuple(one for one in problem.offers if one.period < since))
    if action == DELIVERIES:
        return replace(problem, deliveries=tuple(one for one in problem.deliveries if one.period < since))
    homegrown = {kind.slug for kind in problem.kinds if kind.homegrown}
    rates = tuple(
        one
        for one in problem.rates
        if one.kind not in homegrown or one.in_use or (one.service, one.kind, one.phase) in opened
    )
    return replace(problem, rates=rates)


class _Compared:
    """Two worlds side by side."""

    def __init__(self, problem: PlanProblem, incident: Incident, before: PlanProblem, after: PlanProblem) -> None:
        self.problem, self.incident, self.worlds = problem, incident, (before, after)
        self.count = len(problem.periods)
        same = before == after
        self.before = judge(before)
        self.after = self.before if same else judge(after)
        lasting = np.array(problem.at(incident.lasting), dtype=np.float64)
        self.held = np.where(self.is_touched(), lasting, 1.0)
        self.mtok: float = 3600 * problem.period_hours / 1e6  # of one token per second through a period

    def _row(self, judged: Judged, name: str, scope: Scope) -> FloatArray:
        if scope not in judged.scopes:
            return np.full(self.count, np.inf) if name == "share" else np.zeros(self.count)
        return np.asarray(getattr(judged, name)[judged.scopes.index(scope)], dtype=np.float64)

    @property
    def scopes(self) -> tuple[Scope, ...]:
        """Regions and tiers of both worlds."""
        return tuple(dict.fromkeys((*self.after.scopes, *self.before.scopes)))

    def lost(self, scope: Scope) -> tuple[FloatArray, FloatArray]:
        """Return the tokens that go unserved before and after, each float64[T]. [Mtok]"""
        before, after = (self._row(one, "lost_tok_s", scope) * self.mtok for one in (self.before, self.after))
        return before, self.mixed(before, after)

    def is_touched(self) -> BoolArray:
        """Return in which periods the incident holds, bool[T]; later ones may be other than before too."""
        until = self.count if self.incident.until is None else self.incident.until
        period = np.arange(self.count)
        return np.asarray((period >= self.incident.first) & (period < until), dtype=bool)

    def mixed(self, before: FloatArray, after: FloatArray) -> FloatArray:
        """Return a figure of periods of which the incident takes a part, and leaves the rest as it was, float64[T]."""
        return np.asarray(self.held * after + (1 - self.held) * before, dtype=np.float64)

    def changes(self) -> Iterator[ChangeRow]:
        for scope in self.scopes:
            lost = self.lost(scope)
            parts = []
            for judged in (self.before, self.after):
                share, demand = self._row(judged, "share", scope), self._row(judged, "demand_tok_s", scope)
                supply = np.where(demand > 0, np.where(np.isfinite(share), share, 0.0) * demand, 0.0)
                headroom = np.where(demand > 0, np.where(np.isfinite(share), share, 1.0) - 1, 0.0)
                parts.append((demand, supply, headroom, self._row(judged, "unserved_tok_s", scope)))
            (demand, supply, headroom, unserved), (demand2, supply2, headroom2, unserved2) = parts
            for t in range(self.count):
                if demand[t] > 0 or demand2[t] > 0:
                    yield ChangeRow(
                        *(t, *scope),
                        *(float(one[t]) for one in (demand, demand2, supply, supply2, headroom, headroom2)),
                        *(float(one[t]) for one in (unserved, unserved2, *lost)),
                    )

    def hits(self) -> Iterator[HitRow]:
        ground, hosts = self.after.ground, self.after.hosts
        lost = hosts * np.maximum(self.before.ground.up - ground.up, 0.0)
        for place, kind in np.argwhere(lost.max(axis=2) > 0).tolist():
            period = int(lost[place, kind].argmax())
            yield HitRow(
                place=self.problem.located[place].slug,
                kind=self.problem.kinds[kind].slug,
                period=period,
                hosts=float(hosts[place, kind, period]),
                hit_hosts=float(lost[place, kind, period]),
            )

    def exposure(self) -> Iterator[ExposureRow]:
        """Yield the exposure of every region and tier, and of all."""
        supply, placed = self._exposed_supply(), {row.service: row for row in self.incident.placed}
        services = {one.slug: one for one in self.worlds[0].services}
        scopes = [("", ALL), *((region, tier) for region, tier in self.before.scopes)]
        for region, tier in scopes:
            ours = [slug for slug, one in services.items() if region in {"", one.region} and tier in {ALL, one.tier}]
            weight = {slug: self.problem.at(services[slug].demand_tok_s)[self.incident.first] for slug in ours}
            known = [slug for slug in ours if supply.get(slug) is not None and weight[slug] > 0]
            total = sum(weight[slug] for slug in known)
            tok_s = sum(placed[slug].tok_s for slug in ours if slug in placed)
            on_it = sum(placed[slug].exposed_tok_s for slug in ours if slug in placed)
            yield ExposureRow(
                region=region,
                tier=tier,
                supply_ratio=sum(weight[slug] * (supply[slug] or 0.0) for slug in known) / total if total else None,
                placed_ratio=on_it / tok_s if tok_s else None,
            )

    def _exposed_supply(self) -> dict[str, float | None]:
        """Return, by service, the share of what its region's hosts could make of it that the incident is about. [-]"""
        ground, first = self.before.ground, self.incident.first
        hosts = (self.before.hosts * ground.up)[:, :, first]
        part = np.zeros(hosts.shape)
        for row in self.incident.exposed:
            part[ground.place_at[row.place], ground.kind_at[row.kind]] = row.ratio
        problem, found = self.worlds[0], {}
        regions = {site.slug: site.region for site in problem.sites}
        homegrown = {kind.slug: kind.homegrown for kind in problem.kinds}
        for service in problem.services:
            inside = [at for place, at in ground.place_at.items() if regions[self._site(place)] == service.region]
            total = on_it = 0.0
            for rate in problem.rates:
                is_ready = not homegrown[rate.kind] or rate.in_use or rate.ready <= first
                if (rate.service, rate.phase) != (service.slug, WHOLE) or not is_ready:
                    continue
                if homegrown[rate.kind] and service.stays:
                    continue
                k = ground.kind_at[rate.kind]
                total += rate.tok_s * float(hosts[inside, k].sum())
                on_it += rate.tok_s * float((hosts[inside, k] * part[inside, k]).sum())
            found[service.slug] = on_it / total if total else None
        return found

    def _site(self, place: str) -> str:
        return next(one.site for one in self.problem.located if one.slug == place)

    def recovery(self, plan: MigrationAnswer | None, replan: MigrationAnswer | None) -> Iterator[RecoveryRow]:
        is_replanned = plan is not None and replan is not None and plan.is_plan and replan.is_plan
        short = [self.short_tok_s(world, one) for world, one in zip(self.worlds, (plan, replan), strict=True)]
        mtok = self.short_mtok(self.worlds[0], plan), self.after_mtok(plan, replan)
        for scope in self.scopes:
            demand = self._row(self.after, "demand_tok_s", scope)
            unserved = [self._row(one, "unserved_tok_s", scope) for one in (self.before, self.after)]
            lost = self.lost(scope)
            planned = [one.get(scope, np.zeros(self.count)) if one is not None else None for one in short]
            done = [one.get(scope, 0.0) if one is not None else None for one in mtok]
            replan_months = replan_mtok = None
            if planned[0] is not None and planned[1] is not None and done[0] is not None and done[1] is not None:
                replan_months = self._months(planned[0], planned[1], demand, PLANNED_RATIO)
                replan_mtok = _noticed(done[1] - done[0])
            yield RecoveryRow(
                *scope,
                nothing_months=self._months(unserved[0], unserved[1], demand),
                replan_months=replan_months,
                is_replanned=is_replanned,
                nothing_mtok=_noticed(float(lost[1].sum() - lost[0].sum())),
                replan_mtok=replan_mtok,
                run_out_before_on=self._run_out_on(self.before, scope),
                run_out_after_on=self._run_out_on(self.after, scope),
            )

    def _run_out_on(self, judged: Judged, scope: Scope) -> str | None:
        """Return the day on which demand first exceeds supply; where the incident brings that, not before its begin."""
        share = self._row(judged, "share", scope)
        position = float(run_out_positions(share))
        first = self.incident.first
        if judged is self.after and math.isfinite(position) and int((share < 1 - SERVED).argmax()) == first:
            own = float(run_out_positions(self._row(self.before, "share", scope)))
            position = max(position, min(own, first + self.incident.begin_ratio))
        return position_day(self.problem, position if math.isfinite(position) else None)

    def _months(
        self, before: FloatArray, after: FloatArray, demand: FloatArray, noticed_ratio: float = NOTICED_RATIO
    ) -> float | None:
        """Return the months from the incident until no period is worse than before; None: not within the horizon."""
        first = self.incident.first
        worse = np.flatnonzero((after - before > noticed_ratio * np.maximum(demand, 1e-9))[first:])
        if not len(worse):
            return 0.0
        last = first + int(worse[-1])
        is_over = self.incident.until is not None and last + 1 == self.incident.until
        if last == self.count - 1 and not is_over:
            return None
        return float(self.held[first : last + 1].sum() * self.problem.rules.period_months)

    def failover(self) -> Iterator[FailoverRow]:
        for is_after, judged in ((False, self.before), (True, self.after)):
            for region, one in judged.failover.items():
                ours = one.share[self.incident.first :]
                worst = self.incident.first + int(ours.argmin())
                missed = np.flatnonzero(ours < 1 - SERVED)
                yield FailoverRow(
                    region=region,
                    is_after=is_after,
                    period=worst,
                    domain=one.domains[worst],
                    headroom_ratio=float(one.share[worst]) - 1,
                    holds=not len(missed),
                    first_missed=self.incident.first + int(missed[0]) if len(missed) else None,
                )

    def short_tok_s(self, world: PlanProblem, answer: MigrationAnswer | None) -> dict[Scope, FloatArray] | None:
        """Return what a plan leaves unserved in the peak hour by region and tier, float64[T] each. [tok/s]"""
        return self._short(world, answer, lambda _service: 1.0)

    def after_mtok(self, plan: MigrationAnswer | None, replan: MigrationAnswer | None) -> dict[Scope, float] | None:
        """Return what the new plan leaves unserved, for as much of each period as the incident lasts. [Mtok]"""
        after = self._short_mtok(self.worlds[1], replan)
        before = self._short_mtok(self.worlds[0], plan)
        if after is None or before is None:  # without a plan before, a period is taken as a whole
            return None if after is None else {scope: float(one.sum()) for scope, one in after.items()}
        none = np.zeros(self.count)
        scopes = {**after, **before}
        return {scope: float(self.mixed(before.get(scope, none), after.get(scope, none)).sum()) for scope in scopes}

    def short_mtok(self, world: PlanProblem, answer: MigrationAnswer | None) -> dict[Scope, float] | None:
        """Return the tokens of the horizon that a plan leaves unserved, by region and tier. [Mtok]"""
        found = self._short_mtok(world, answer)
        return None if found is None else {scope: float(one.sum()) for scope, one in found.items()}

    def _short_mtok(self, world: PlanProblem, answer: MigrationAnswer | None) -> dict[Scope, FloatArray] | None:
        facts, services = Facts.of(world), {one.slug: one for one in world.services}
        return self._short(world, answer, lambda slug: facts.penalty_price(1.0, services[slug]))

    def _short(self, world: PlanProblem, answer: MigrationAnswer | None, each: Any) -> dict[Scope, FloatArray] | None:
        if answer is None or not answer.is_plan:
            return None
        services = {one.slug: one for one in world.services}
        found: dict[Scope, FloatArray] = defaultdict(lambda: np.zeros(self.count))
        for row in answer.short:
            if not row.domain:
                service = services[row.service]
                for tier in (service.tier, ALL):
                    found[service.region, tier][row.period] += row.tok_s * each(row.service)
        return found


def _noticed(mtok: float) -> float:
    return mtok if abs(mtok) > NOTICED_MTOK else 0.0


def _total(mtok: dict[Scope, float] | None) -> float | None:
    return None if mtok is None else sum(value for (_region, tier), value in mtok.items() if tier == ALL)


def _cost(found: _Compared, incident: Incident, plan: MigrationAnswer, replan: MigrationAnswer) -> PlanCost:
    """Return what the incident costs: the best plan after it less the best one before, and what it wrote off.

    A plan knows whole periods: what it pays for tokens unserved in the part of a period that the incident leaves alone
    is taken off again.
    """
    lost = written_off(found.worlds[0], incident)
    if not plan.is_plan or not replan.is_plan:
        return PlanCost(plan.solver.objective, replan.solver.objective, lost, None, None, None)
    first, second = plan.solver, replan.solver
    objectives = first.objective or 0.0, second.objective or 0.0
    bounds = (
        objectives[0] if first.bound is None else first.bound,
        objectives[1] if second.bound is None else second.bound,
    )
    penalty = np.array([after.penalty - before.penalty for before, after in zip(plan.money, replan.money, strict=True)])
    spared = (1 - found.held) * penalty
    items = {
        item: sum(getattr(row, item) for row in replan.money) - sum(getattr(row, item) for row in plan.money)
        for item in BASE
    } | {"penalty": float((penalty - spared).sum())}
    discount = Facts.of(found.worlds[0]).discount[:-1]
    after = objectives[1] - float(discount @ spared)
    bounds = bounds[0], bounds[1] - float(discount @ spared)
    objectives = objectives[0], after
    if found.worlds[0] == found.worlds[1]:
        bounds = objectives  # one question has one best plan, however closely it is known
    return PlanCost(
        before=objectives[0],
        after=objectives[1],
        written_off=lost,
        more=objectives[1] - objectives[0] + lost,
        more_least=bounds[1] - objectives[0] + lost,
        more_most=objectives[1] - bounds[0] + lost,
        items=tuple(ItemRow(item, more) for item, more in items.items()),
    )


def written_off(before: PlanProblem, incident: Incident) -> float:
    """Return what hosts of kinds that bring nothing any more would have brought, in money of the first period.

    Those that stand at first and those that come on their own later, as the account of a plan begins with them.
    """
    facts, total = Facts.of(before), 0.0
    for (place, kind), standing in facts.standing.items():
        if kind in incident.worthless:
            comes = facts.arriving(place, kind)
            comes[0] = standing[0]
            total += float((facts.discount[:-1] * facts.book(kind)[:-1]) @ comes)
    return total


def _actions(
    found: _Compared, after: PlanProblem, plans: Mapping[str, MigrationAnswer], since: int
) -> Iterator[ActionRow]:
    """Yield what the new plan would lose without each kind of action, the best for its money first."""
    best = plans.get(AFTER)
    if best is None or not best.is_plan:
        return
    rows = [
        _action(found, after, (best, plans[WITHOUT + action], plans.get(BEFORE)), action, since)
        for action in ACTIONS
        if WITHOUT + action in plans
    ]
    rows = [row for row in rows if row.count]

    def rank(row: ActionRow) -> tuple[bool, float, float]:
        is_free = row.money is not None and row.money <= 0 and bool(row.recovered_mtok)
        return not is_free, -(row.mtok_per_money or 0.0), -(row.recovered_mtok or 0.0)

    yield from sorted(rows, key=rank)


def _action(
    found: _Compared,
    after: PlanProblem,
    plans: tuple[MigrationAnswer, MigrationAnswer, MigrationAnswer | None],
    action: str,
    since: int,
) -> ActionRow:
    """Return what an action does: of three plans, the best one, the best without it, and the one before.

    Of a period that the incident takes a part of, tokens and energy count for that part, as in `after_mtok`.
    """
    best, other, before = plans
    new = [sum(row.new for row in best.hosts if row.period == at) for at in (len(after.periods) - 1, since - 1)]
    bought = sum(row.hosts for row in best.bought if row.period >= since)
    count = {
        PURCHASES: float(bought),
        OPENINGS: float(sum(row.period >= since for row in best.opened)),
        DELIVERIES: max(0.0, float(new[0] - new[1]) - bought),
    }[action]
    words = {PURCHASES: "Buying hosts", OPENINGS: "Opening chips for services", DELIVERIES: "Racking what is delivered"}
    if not other.is_plan:
        return ActionRow(action, count, None, None, None, f"{words[action]}: there is no plan without it.")
    short = _total(found.after_mtok(before, other)), _total(found.after_mtok(before, best))
    recovered = (short[0] or 0.0) - (short[1] or 0.0)
    money = _running(after, best, found.held) - _running(after, other, found.held)
    per_money = recovered / money if money > 0 and recovered > 0 else None
    says = f"{words[action]} recovers {recovered:,.1f} Mtok"
    says += f" and costs {money:,.0f} {after.currency}." if money > 0 else f" and saves {-money:,.0f} {after.currency}."
    return ActionRow(action, count, recovered, money, per_money, says)


def _running(problem: PlanProblem, answer: MigrationAnswer, held: FloatArray) -> float:
    """Return what a plan uses up without penalties and without what is paid for orders in any case. [money]

    Energy counts for the share of each period that the incident holds, float64[T]. [-]
    """
    discount, total = Facts.of(problem).discount, 0.0
    for row in answer.money:
        spared = row.energy * (1 - float(held[row.period])) if row.period < len(held) else 0.0
        total += row.discounted - float(discount[row.period]) * (row.penalty + row.deliveries + spared)
    return total
