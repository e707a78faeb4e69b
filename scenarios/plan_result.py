"""A migration plan as the result that pages, tables and the API show: what moves when, what it costs, what binds.

Values in, values out. Rows say months and names; nothing is rounded here.
"""

from collections import defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict
from typing import Any

from scenarios.plan_replay import apart_rows
from scenarios.planning.comparisons import ComparedRow, ParetoPoint, compare, homegrown_ratio
from scenarios.planning.measures import Inputs, MeasureRow, measures
from scenarios.planning.plan import INFEASIBLE, LimitRow, MigrationAnswer
from scenarios.planning.problem import PREFILL, PlanProblem, RateValues, ServiceValues
from scenarios.planning.reconciling import reconcile
from scenarios.planning.rounding import Rounded
from scenarios.racking import Racking

BINDS_RATIO = 1 - 1e-6  # of a limit that is taken: it binds
NOTHING_RATIO = 1e-6  # of a service's demand: less is what the solver's tolerance leaves
LEAST_SAID_RATIO = 5e-4  # below this a share of 0.1 % would be said to be none
BEST, GREEDY, NOTHING = "best", "greedy", "nothing"
PLAN_WORDS = {BEST: "this plan", GREEDY: "the greedy plan", NOTHING: "doing nothing"}

Rows = list[dict[str, Any]]


def plan_result(
    problem: PlanProblem,
    *,
    answers: Mapping[str, MigrationAnswer],
    bare: MigrationAnswer | None,
    free: MigrationAnswer | None,
    front: Sequence[ParetoPoint],
    rounded: Rounded | None,
    racking: Racking | None,
    replay: Mapping[str, Any] | None = None,
    promises: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """Return what a result says of a plan and of those beside it.

    Parameters
    ----------
    answers : mapping
        `best` first, then `greedy` and `nothing`.
    bare : MigrationAnswer or None
        The plan without copies and reserve: what safety costs.
    free : MigrationAnswer or None
        The plan without floors, where the front begins; None: no front was asked for.
    replay, promises : mapping or None
        What the simulator and the futures say of it; None: they were not asked, or there is no plan.
    """
    best = answers[BEST]
    compared = compare(problem, answers)
    bare_cost = bare.solver.objective if bare is not None else None
    figures = measures(problem, best, Inputs(bare_cost=bare_cost)) if best.is_plan else ()
    return {
        "status": best.status,
        "sentence": " ".join([_sentence(problem, best, compared, figures), *_sure(replay, promises)]),
        "solver": asdict(best.solver),
        "currency": problem.currency,
        "compared": [{**asdict(row), "name": PLAN_WORDS[row.name], "items": dict(row.items)} for row in compared],
        "front": [*_front_first(problem, free), *(_front_row(point) for point in front)],
        "waves": list(_waves(problem, best)),
        "hosts": list(_hosts(problem, best)),
        "figures": [_figure_row(problem, row) for row in figures],
        "short": list(_short(problem, best)),
        "left": list(_left(problem, best)),
        "replay": replay,
        "promises": promises,
        "money": [{"month": problem.periods[row.period], **asdict(row)} for row in best.money],
        "limits": list(_limits(problem, best)),
        "conflict": [asdict(row) for row in best.conflict],
        "rounding": _rounding(problem, rounded) if rounded else None,
        "racks": [asdict(row) for row in racking.changes] if racking else [],
        "homeless": [asdict(row) for row in racking.homeless] if racking else [],
        "feeds": [asdict(row) for row in racking.feeds] if racking else [],
        "feeds_over": [asdict(row) for row in racking.over] if racking else [],
        "apart": reconcile(problem, best) if best.is_plan else [],
        "problem": problem.as_dict(),
        "answer": best.as_dict(),
    }


def _front_first(problem: PlanProblem, free: MigrationAnswer | None) -> Rows:
    """Return the plan without floors as the first point of the front."""
    if free is None or not free.is_plan:
        return []
    reached = homegrown_ratio(problem, free)
    told: dict[str, Any] = {
        "objective": free.solver.objective,
        "gap_ratio": free.solver.gap_ratio,
        "binds": [],
        "conflict": [],
    }
    return [{"asked_ratio": None, "status": free.status, "reached_ratio": reached, **told}]


def _front_row(point: ParetoPoint) -> dict[str, Any]:
    return {
        "asked_ratio": point.asked_ratio,
        "status": point.status,
        "reached_ratio": point.reached_ratio,
        "objective": point.objective,
        "gap_ratio": point.gap_ratio,
        "binds": list(point.binds),
        "conflict": [row.sentence for row in point.conflict],
    }


def _figure_row(problem: PlanProblem, row: MeasureRow) -> dict[str, Any]:
    month = None if row.period is None else problem.periods[row.period]
    return {"figure": row.name, "month": month, "scope": row.scope} | {
        "value": row.value,
        "unit": row.unit,
        "reason": row.reason,
    }


def _rounding(problem: PlanProblem, rounded: Rounded) -> dict[str, Any]:
    """Return the price of whole replicas: hosts' worth added at most in a month, tokens unserved, money."""
    added: dict[int, float] = defaultdict(float)
    for row in rounded.added:
        added[row.period] += row.hosts
    peak = max(sorted(added), key=lambda period: added[period], default=None)
    return {
        "hosts_added_most": added[peak] if peak is not None else 0.0,
        "month": problem.periods[peak] if peak is not None else None,
        "unserved_mtok": sum(row.mtok for row in rounded.unserved),
        "money": rounded.money,
        "missed": [row.sentence for row in rounded.missed],
        "replicas": [
            {
                "month": problem.periods[row.period],
                **{name: getattr(row, name) for name in ("service", "place", "kind", "phase", "replicas")},
                "hosts": row.serving_hosts + row.shadow_hosts + row.reserve_hosts,
            }
            for row in rounded.answer.loads
        ],
    }


def _waves(problem: PlanProblem, answer: MigrationAnswer) -> Iterator[dict[str, Any]]:
    """Return what opens when, which kinds its traffic leaves, and how much it carries at once and in the end."""
    rates = {(rate.service, rate.kind, rate.phase): rate for rate in problem.rates}
    regions = {service.slug: service.region for service in problem.services}
    loads = _tok_s(problem, answer)
    last = len(problem.periods) - 1
    for row in answer.opened:
        key = (row.service, row.kind, row.phase)
        before, now = (
            {
                kind: loads[period, row.service, kind]
                for kind in {k.slug for k in problem.kinds if not k.homegrown}
                if period >= 0 and loads[period, row.service, kind]
            }
            for period in (row.period - 1, row.period)
        )
        yield {
            "month": problem.periods[row.period],
            "region": regions[row.service],
            "service": row.service,
            "from": sorted(kind for kind, tok_s in before.items() if tok_s > now.get(kind, 0.0)),
            "to": row.kind,
            "phase": row.phase,
            "first_tok_s": _of_way(answer, problem, row.period, key),
            "last_tok_s": _of_way(answer, problem, last, key),
            "gates": rates[key].gates,
            "config": rates[key].config,
        }


def _tok_s(problem: PlanProblem, answer: MigrationAnswer) -> Mapping[tuple[int, str, str], float]:
    """Return output tokens per second by period, service and kind: answers, whoever read their prompts."""
    rates = {(rate.service, rate.kind, rate.phase): rate.tok_s for rate in problem.rates}
    found: dict[tuple[int, str, str], float] = defaultdict(float)
    for row in answer.loads:
        if row.phase != PREFILL:
            found[row.period, row.service, row.kind] += row.serving_hosts * rates[row.service, row.kind, row.phase]
    return found


def _of_way(answer: MigrationAnswer, problem: PlanProblem, period: int, key: tuple[str, str, str]) -> float:
    tok_s = next(rate.tok_s for rate in problem.rates if (rate.service, rate.kind, rate.phase) == key)
    hosts = sum(
        row.serving_hosts for row in answer.loads if row.period == period and (row.service, row.kind, row.phase) == key
    )
    return tok_s * hosts


def _hosts(problem: PlanProblem, answer: MigrationAnswer) -> Iterator[dict[str, Any]]:
    sites = {place.slug: place.site for place in problem.located}
    homegrown = {kind.slug: kind.homegrown for kind in problem.kinds}
    for row in answer.hosts:
        yield {
            "month": problem.periods[row.period],
            "site": sites[row.place],
            "place": row.place,
            "kind": row.kind,
            "homegrown": homegrown[row.kind],
            "kept": row.kept,
            "new": row.new,
        }


def _short(problem: PlanProblem, answer: MigrationAnswer) -> Iterator[dict[str, Any]]:
    services = {service.slug: service for service in problem.services}
    for row in answer.short:
        service = services[row.service]
        yield {
            "month": problem.periods[row.period],
            "region": service.region,
            "tier": service.tier,
            "service": row.service,
            "after_losing": row.domain,
            "tok_s": row.tok_s,
            "share_ratio": row.tok_s / problem.at(service.demand_tok_s)[row.period],
        }


def _left(problem: PlanProblem, answer: MigrationAnswer) -> Iterator[dict[str, Any]]:
    """Return what is still on GPUs in the last month, and why, the most first."""
    if not answer.is_plan:
        return
    last, loads = len(problem.periods) - 1, _tok_s(problem, answer)
    homegrown = {kind.slug for kind in problem.kinds if kind.homegrown}
    found: list[tuple[float, dict[str, Any]]] = []
    for service in problem.services:
        on_gpus_tok_s = sum(
            tok_s
            for (period, slug, kind), tok_s in loads.items()
            if period == last and slug == service.slug and kind not in homegrown
        )
        demand_tok_s = problem.at(service.demand_tok_s)[last]
        if on_gpus_tok_s > NOTHING_RATIO * demand_tok_s:
            ways = [rate for rate in problem.rates if rate.service == service.slug and rate.kind in homegrown]
            row = {
                "service": service.slug,
                "region": service.region,
                "tok_s": on_gpus_tok_s,
                "share_ratio": on_gpus_tok_s / demand_tok_s,
                "reason": _why_left(problem, answer, service, ways),
            }
            found.append((on_gpus_tok_s, row))
    yield from (row for _tok_s, row in sorted(found, key=lambda one: -one[0]))


def _why_left(problem: PlanProblem, answer: MigrationAnswer, service: ServiceValues, ways: Sequence[RateValues]) -> str:
    """Return the first reason that holds: it may not move, no chip can, none is ready, the plan opens none."""
    if service.stays:
        return "may not move"
    if not ways:
        return "no homegrown chip of the fleet can serve it within its limits"
    if all(rate.ready >= len(problem.periods) and not rate.in_use for rate in ways):
        return "software not ready within the horizon"
    is_open = any(rate.in_use for rate in ways) or any(row.service == service.slug for row in answer.opened)
    if is_open:
        return "open: more of it would cost more, or find no host with room"
    return "not opened: it would cost more than it saves, or break a limit"


def _limits(problem: PlanProblem, answer: MigrationAnswer) -> Iterator[dict[str, Any]]:
    """Return each limit once: the month in which it is fullest, in how many it binds, and what one unit more saves."""
    rows: dict[str, list[LimitRow]] = defaultdict(list)
    for row in answer.limits:
        rows[row.slug].append(row)
    objects = {limit.slug: limit.object for limit in problem.limits}
    for slug, of_limit in rows.items():
        fullest = max(of_limit, key=lambda row: row.used / row.limit if row.limit else 0.0)
        yield {
            "limit": slug,
            "constraint": fullest.constraint,
            "object": objects[slug],
            "month": problem.periods[fullest.period],
            "used": fullest.used,
            "most": fullest.limit,
            "slack": fullest.limit - fullest.used,
            "unit": fullest.unit,
            "months_bound": sum(row.used >= row.limit * BINDS_RATIO > 0 for row in of_limit),
            "shadow_price": sum(row.shadow_price for row in of_limit),
        }


def _sure(replay: Mapping[str, Any] | None, promises: Mapping[str, Any] | None) -> Iterator[str]:
    """Return how likely the plan holds, and where the simulator does not agree with it."""
    if promises is not None:
        yield promises["sentence"]
    if replay is not None and (replay["left_out"] or any(apart_rows(replay))):
        yield replay["sentence"]


def plan_overview(names: Mapping[str, str], plan: Mapping[str, Any]) -> dict[str, Any]:
    """Return what overviews show of a plan: its sentence, dates, and homegrown shares of the fleet and by region.

    Parameters
    ----------
    names : mapping of slug to str
        Names of regions.
    plan : mapping
        Of :func:`plan_result`. Without a plan there are no months, and no dates.
    """
    shares: dict[str, list[dict[str, Any]]] = defaultdict(list)
    for row in plan["figures"]:
        if row["figure"] == "homegrown_token_ratio" and row["value"] is not None:
            shares[row["scope"]].append({"month": row["month"], "homegrown_token_ratio": row["value"]})
    dates = {row["date"]: row for row in (plan["promises"] or {}).get("dates", ())}
    free, opened = dates.get("gpu_free", {}), [row["month"] for row in plan["waves"]]
    regions = dict.fromkeys(service["region"] for service in plan["problem"]["services"])
    return {
        "fleet": {
            "sentence": plan["sentence"],
            "first_move_month": min(opened, default=None),
            "last_move_month": max(opened, default=None),
            "gpu_free": {name: free.get(name) for name in ("p10", "p50", "p90")},
            "periods": shares["fleet"],
        },
        "regions": [{"slug": slug, "name": names[slug], "periods": shares[f"region {slug}"]} for slug in regions],
    }


def _percent(ratio: float) -> str:
    """Return a share that is more than none."""
    return f"{ratio:.1%}" if ratio >= LEAST_SAID_RATIO else "less than 0.1%"


def _demand_mtok(problem: PlanProblem) -> float:
    """Return the output tokens demanded over the horizon. [Mtok]"""
    mean_tok_s = sum(service.mean_ratio * sum(problem.at(service.demand_tok_s)) for service in problem.services)
    return mean_tok_s * 3600 * problem.period_hours / 1e6


def _sentence(
    problem: PlanProblem,
    answer: MigrationAnswer,
    compared: Sequence[ComparedRow],
    figures: Sequence[MeasureRow],
) -> str:
    """Return the answer in a few sentences."""
    if not answer.is_plan:
        if answer.conflict:
            return (
                "There is no plan. These cannot all be kept: "
                + "; ".join(row.sentence for row in answer.conflict)
                + "."
            )
        if answer.status == INFEASIBLE:
            return "There is no plan. What cannot all be kept was not found in time."
        return f"No plan was found: {answer.solver.status}."
    first, *others = compared
    share, money, last = first.homegrown_ratio or 0.0, first.objective or 0.0, problem.periods[-1]
    if answer.opened:
        months = sorted(problem.periods[row.period] for row in answer.opened)
        several = f"{len(months)} openings from {months[0]} to {months[-1]} bring"
        text = several if len(months) > 1 else f"One opening in {months[0]} brings"
        text += f" {share:.0%} of the tokens demanded to homegrown chips by {last}."
    else:
        text = f"Nothing moves; {share:.0%} of the tokens demanded run on homegrown chips in {last}."
    text += f" The plan uses up {money / 1e6:,.1f} M {problem.currency} in money of {problem.periods[0]}"
    text += f", at most {answer.solver.gap_ratio or 0.0:.1%} more than the best possible."
    if first.short_mtok:
        lost_ratio = first.short_mtok / _demand_mtok(problem)
        text += (
            f" {first.short_mtok:,.0f} Mtok, {_percent(lost_ratio)} of what is demanded, go unserved in the expected "
            "future."
        )
    for row in others:
        if row.more is not None:
            side = "more" if row.more > 0 else "less"
            text += f" {PLAN_WORDS[row.name].capitalize()} costs {abs(row.more) / 1e6:,.1f} M {side}."
    peak = next((row for row in figures if row.name == "dual_running_peak_hosts" and row.value), None)
    if peak is not None and peak.period is not None:
        text += f" Dual running peaks in {problem.periods[peak.period]} with {peak.value:,.1f} hosts."
    return text
