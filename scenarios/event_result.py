"""An outage or an event as the result that pages, tables and the API show. Values in, values out; unrounded."""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from scenarios.event_reading import EventQuestion
from scenarios.planning.days import DAYS_A_MONTH
from scenarios.planning.draining import DrainPlan
from scenarios.planning.headroom import ALL
from scenarios.planning.incident_answer import (
    AFTER,
    BEFORE,
    PLANNED_RATIO,
    ChangeRow,
    IncidentAnswer,
    RecoveryRow,
    incident_answer,
)
from scenarios.planning.plan import MigrationAnswer
from scenarios.planning.problem import PlanProblem

LIMITS_MOST = 12  # rows of limits that are worth something
NOTICED_MTOK, NOTICED_HOSTS = 1e-6, 1e-6
DAYS_BELOW_MONTHS = 0.1  # a shorter time is told in days

Rows = list[dict[str, Any]]


def event_result(question: EventQuestion, plans: Mapping[str, MigrationAnswer], *, since: int) -> dict[str, Any]:
    """Return what a result says of an incident: `fleet` and `regions` in words, `incident` in rows.

    `since` is the first period in which the plan after may do other than the one before.
    """
    problem, incident = question.problem, question.incident
    answer = incident_answer(problem, incident, plans, since=since)
    drain = question.drain()
    months = problem.periods
    said = {
        "words": answer.words,
        "month": months[answer.first],
        "since_month": months[since],
        "free_month": None if answer.until is None or answer.until >= len(months) else months[answer.until],
        "notes": list(question.notes),
        "currency": problem.currency,
        "changes": [{"month": months[row.period], **asdict(row)} for row in answer.changes],
        "hits": [
            {"month": months[row.period], **asdict(row), "site": _site(problem, row.place)} for row in answer.hits
        ],
        "exposure": [asdict(row) for row in answer.exposure],
        "recovery": [asdict(row) for row in answer.recovery],
        "failover": [_failover(problem, asdict(row)) for row in answer.failover],
        "totals": {
            name: getattr(answer, name)
            for name in ("unserved_before_mtok", "unserved_after_mtok", "plan_before_mtok", "plan_after_mtok")
        },
        "cost": None
        if answer.cost is None
        else {**asdict(answer.cost), "items": {row.item: row.more for row in answer.cost.items}},
        "actions": [asdict(row) for row in answer.actions],
        "plans": [_plan(name, plans[name]) for name in (BEFORE, AFTER) if name in plans],
        "waves": list(_waves(problem, plans)),
        "purchases": list(_purchases(problem, plans)),
        "kinds": list(_kinds(problem, plans)),
        "limits": list(_limits(problem, plans.get(AFTER))),
        "conflict": [asdict(row) for row in plans[AFTER].conflict] if AFTER in plans else [],
        "drain": None if drain is None else _drain(problem, drain),
    }
    return {
        "fleet": {"sentence": sentence_of(problem, answer, plans, drain, question)},
        "regions": list(_regions(answer, question.region_names)),
        "incident": said,
    }


def _site(problem: PlanProblem, place: str) -> str:
    return next(one.site for one in problem.located if one.slug == place)


def _failover(problem: PlanProblem, row: dict[str, Any]) -> dict[str, Any]:
    missed = row.pop("first_missed")
    return {
        **row,
        "month": problem.periods[row["period"]],
        "missed_month": None if missed is None else problem.periods[missed],
    }


def _plan(name: str, answer: MigrationAnswer) -> dict[str, Any]:
    return {"name": name, "status": answer.status, "solver": asdict(answer.solver)}


def _waves(problem: PlanProblem, plans: Mapping[str, MigrationAnswer]) -> Iterator[dict[str, Any]]:
    """Yield ways that open in either plan, with the month of each; none: it does not open in that plan."""
    found: dict[tuple[str, str, str], dict[str, str | None]] = defaultdict(lambda: {BEFORE: None, AFTER: None})
    for name in (BEFORE, AFTER):
        for row in plans[name].opened if name in plans else ():
            found[row.service, row.kind, row.phase][name] = problem.periods[row.period]
    regions = {service.slug: service.region for service in problem.services}
    for (service, kind, phase), when in sorted(found.items()):
        yield {
            "service": service,
            "region": regions[service],
            "kind": kind,
            "phase": phase,
            "before_month": when[BEFORE],
            "after_month": when[AFTER],
        }


def _purchases(problem: PlanProblem, plans: Mapping[str, MigrationAnswer]) -> Iterator[dict[str, Any]]:
    """Yield hosts bought in either plan, by month, site and kind."""
    found: dict[tuple[int, str, str], dict[str, float]] = defaultdict(lambda: {BEFORE: 0.0, AFTER: 0.0})
    for name in (BEFORE, AFTER):
        for row in plans[name].bought if name in plans else ():
            found[row.period, row.site, row.kind][name] += row.hosts
    for (period, site, kind), hosts in sorted(found.items()):
        yield {
            "month": problem.periods[period],
            "site": site,
            "kind": kind,
            "before_hosts": hosts[BEFORE],
            "after_hosts": hosts[AFTER],
        }


def _kinds(problem: PlanProblem, plans: Mapping[str, MigrationAnswer]) -> Iterator[dict[str, Any]]:
    """Yield hosts of each kind that stand, and that traffic fills, in both plans, where these differ."""
    found: dict[tuple[int, str], dict[str, float]] = defaultdict(lambda: defaultdict(float))
    for name in (BEFORE, AFTER):
        for row in plans[name].hosts if name in plans else ():
            found[row.period, row.kind][f"{name}_hosts"] += row.kept + row.new
        for load in plans[name].loads if name in plans else ():
            found[load.period, load.kind][f"{name}_serving_hosts"] += load.serving_hosts
    for (period, kind), sums in sorted(found.items()):
        pairs = [(sums[f"{BEFORE}_{what}"], sums[f"{AFTER}_{what}"]) for what in ("hosts", "serving_hosts")]
        if any(abs(before - after) > NOTICED_HOSTS for before, after in pairs):
            (hosts, hosts_after), (serving, serving_after) = pairs
            yield {
                "month": problem.periods[period],
                "kind": kind,
                "before_hosts": hosts,
                "after_hosts": hosts_after,
                "before_serving_hosts": serving,
                "after_serving_hosts": serving_after,
            }


def _limits(problem: PlanProblem, answer: MigrationAnswer | None) -> Iterator[dict[str, Any]]:
    """Yield the limits whose next unit saves most in the plan after, the most first."""
    if answer is None or not answer.is_plan:
        return
    worth: dict[str, float] = defaultdict(float)
    for row in answer.limits:
        worth[row.slug] += row.shadow_price
    known = {limit.slug: limit for limit in problem.limits}
    best = sorted((slug for slug, price in worth.items() if price > 0), key=lambda slug: (-worth[slug], slug))
    for slug in best[:LIMITS_MOST]:
        limit = known[slug]
        yield {
            "limit": slug,
            "constraint": limit.constraint,
            "object": limit.object,
            "unit": limit.unit,
            "saves": worth[slug],
        }


def _drain(problem: PlanProblem, drain: DrainPlan) -> dict[str, Any]:
    return {
        "total": drain.total,
        "left": drain.left,
        "done_month": None if drain.done is None else problem.periods[drain.done],
        "waits": drain.waits,
        "rows": [
            {"month": problem.periods[row.period], **asdict(row), "site": _site(problem, row.place)}
            for row in drain.rows
        ],
    }


# --- in words ---------------------------------------------------------------------------------------------------------
def sentence_of(
    problem: PlanProblem,
    answer: IncidentAnswer,
    plans: Mapping[str, MigrationAnswer],
    drain: DrainPlan | None,
    question: EventQuestion,
) -> str:
    """Return the answer in a few sentences."""
    parts = [f"{answer.words}."]
    hit, hosts = sum(row.hit_hosts for row in answer.hits), sum(row.hosts for row in answer.hits)
    if hit:
        parts.append(f"{hit:,.0f} hosts cannot serve, of {hosts:,.0f} of their kinds in {_count(answer.hits)}.")
    exposed = next(row for row in answer.exposure if not row.region and not row.tier)
    if exposed.placed_ratio:
        parts.append(
            f"{exposed.placed_ratio:.1%} of the traffic stands on what it is about, as replicas are placed now."
        )
    elif exposed.supply_ratio:
        parts.append(f"{exposed.supply_ratio:.1%} of what hosts could make is theirs.")
    more = answer.unserved_after_mtok - answer.unserved_before_mtok
    if more > NOTICED_MTOK:
        parts.append(
            f"If nothing is done, services of a tier cut alike, {more:,.1f} Mtok more go unserved by "
            f"{problem.periods[-1]}; {_recovers(answer)}."
        )
    elif more < -NOTICED_MTOK:
        parts.append(f"{-more:,.1f} Mtok fewer go unserved if nothing is done.")
    else:
        parts.append("Nothing more goes unserved, even if nothing is done.")
    tier = problem.rules.failover_tier
    parts += [*_failover_words(answer, tier, question.region_names), *_replan_words(problem, answer, plans)]
    if drain is not None:
        parts.append(_drain_words(problem, drain, answer))
    return " ".join([*parts, *question.notes])


def _count(rows: Sequence[Any]) -> str:
    places = len({row.place for row in rows})
    return f"{places} hall" + ("s" if places != 1 else "")


def _recovers(answer: IncidentAnswer) -> str:
    months = [row.nothing_months for row in answer.recovery if row.tier == ALL]
    if any(one is None for one in months):
        return "it does not recover within the months asked about"
    return f"it recovers in {_span(max((one for one in months if one is not None), default=0.0))}"


def _span(months: float) -> str:
    """Return a time in words: in days where it is less than a tenth of a month."""
    if 0 < months < DAYS_BELOW_MONTHS:
        days = max(1, round(months * DAYS_A_MONTH))
        return f"{days} day" + ("s" if days != 1 else "")
    return f"{months:,.1f} months"


def _failover_words(answer: IncidentAnswer, tier: str, names: Mapping[str, str]) -> list[str]:
    """Say whether the protected tier survives one more failure; of regions where it was not before, only that."""
    asked = {row.region: row.holds for row in answer.failover if not row.is_after}
    missed = [row.region for row in answer.failover if row.is_after and not row.holds]
    held = [row for row in answer.failover if row.is_after and row.holds]
    lost, never, new = (
        ", ".join(sorted(names.get(region, region) for region in missed if asked.get(region) is held_before))
        for held_before in (True, False, None)
    )
    gold, words = tier.capitalize(), []
    if lost:
        words.append(f"{gold} no longer survives the loss of one more hall in {lost}.")
    if never:
        words.append(f"{gold} does not survive the loss of one hall in {never}, nor did it before.")
    if new:
        words.append(f"{gold} does not survive the loss of one hall in {new}.")
    if held and not missed:
        words.append(f"{gold} survives the loss of one more hall everywhere.")
    return words


def _replan_words(problem: PlanProblem, answer: IncidentAnswer, plans: Mapping[str, MigrationAnswer]) -> list[str]:
    after, cost = plans.get(AFTER), answer.cost
    if after is None:
        return []
    if not after.is_plan:
        why = "; ".join(row.sentence for row in after.conflict) or after.solver.status
        return [f"There is no new plan. These cannot all be kept: {why}"]
    if cost is None or cost.more is None or answer.plan_after_mtok is None or answer.plan_before_mtok is None:
        return ["There is a new plan, but none before it to hold it against."]
    more = answer.plan_after_mtok - answer.plan_before_mtok
    side = "more" if cost.more >= 0 else "less"
    if not cost.more and abs(more) <= NOTICED_MTOK:
        return ["The best plan stays as it is."]
    says = f"The best new plan leaves {answer.plan_after_mtok:,.1f} Mtok unserved"
    says += (
        f", {abs(more):,.1f} Mtok {'more' if more >= 0 else 'fewer'} than the plan before"
        if abs(more) > NOTICED_MTOK
        else ""
    )
    says += f", and costs {abs(cost.more) / 1e6:,.2f} M {problem.currency} {side}"
    says += f" ({cost.written_off / 1e6:,.2f} M of it written off)" if cost.written_off else ""
    if cost.more_least is not None and cost.more_most is not None and cost.more_least < 0 < cost.more_most:
        says += ", less than what both searches leave open"
    return [f"{says}; {_back_words(answer, more)}."]


def _back_words(answer: IncidentAnswer, more_mtok: float) -> str:
    """Say when the new plan serves as well as the one before."""
    months = [row.replan_months for row in answer.recovery if row.tier == ALL]
    if any(one is None for one in months):
        return "it does not recover all within the months asked about"
    worst = max((one for one in months if one is not None), default=0.0)
    if worst:
        return f"it recovers in {_span(worst)}"
    if more_mtok > NOTICED_MTOK:
        return f"in no month by more than {PLANNED_RATIO:.0%} of demand"
    return "nothing is served worse under it"


def _drain_words(problem: PlanProblem, drain: DrainPlan, answer: IncidentAnswer) -> str:
    before = [row.holds for row in answer.failover if not row.is_after]
    kept = f" with {problem.rules.failover_tier} protected" if before and all(before) else ""
    if drain.done is None:
        return (
            f"Drained from {problem.periods[0]} on{kept}, {drain.left} of {drain.total} are not brought up within the "
            "months asked about."
        )
    done, months = drain.done, problem.periods
    if done < answer.first:
        return f"Drained ahead of it, all {drain.total} are brought up by {months[done]}{kept}."
    return (
        f"Drained from {months[0]} on, all {drain.total} are brought up by {months[done]}{kept}, after it has begun in "
        f"{months[answer.first]}."
    )


def _regions(answer: IncidentAnswer, names: Mapping[str, str]) -> Iterator[dict[str, Any]]:
    for slug in dict.fromkeys(row.region for row in answer.changes):
        ours = [row for row in answer.changes if row.region == slug and row.tier == ALL]
        worst = max(ours, key=lambda row: (row.unserved_after_tok_s - row.unserved_before_tok_s, -row.period))
        back = next(row for row in answer.recovery if row.region == slug and row.tier == ALL)
        name = names.get(slug, slug)
        yield {"slug": slug, "name": name, "sentence": _region_sentence(name, worst, back)}


def _region_sentence(name: str, worst: ChangeRow, back: RecoveryRow) -> str:
    more = worst.unserved_after_tok_s - worst.unserved_before_tok_s
    if more <= NOTICED_MTOK:
        return f"{name}: nothing more goes unserved, even if nothing is done."
    share = more / worst.demand_after_tok_s
    return (
        f"{name}: at worst {more:,.0f} tok/s more go unserved in the busiest hour, {share:.1%} of what is demanded; "
        f"{back.nothing_mtok:,.1f} Mtok more over all months, if nothing is done."
    )
