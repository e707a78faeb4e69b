"""How sure a plan is, as steps and as the part of a result that says so: promises in words, bands, dates, a tornado.

Values in, values out. docs/models/capacity-plan.md has what is kept in a future and what is solved anew.
"""

import math
from collections.abc import Mapping, Sequence
from itertools import pairwise
from typing import Any

from scenarios.planning.capacity_answer import PositionBand
from scenarios.planning.plain import plain_of
from scenarios.planning.problem import OUTPUT, PlanProblem
from scenarios.planning.promises import (
    DEMAND,
    EVERYTHING,
    FAILOVER,
    FLOOR,
    PEAK,
    TIER,
    PromiseAnswer,
    PromiseRow,
    SwingRow,
)

STEP_CELLS, DRAWS_MOST = 100_000, 50
"""Periods times rates and failures times draws of one step, about: some two seconds; and draws of one at most."""

BANDS = {
    "homegrown_ratio": ("Homegrown tokens over the horizon, of those demanded", "-"),
    "homegrown_last_ratio": ("Homegrown tokens in the last month, of those demanded", "-"),
    "objective": ("Uses up, in money of the first month", "money"),
    "unserved_mtok": ("Tokens that go unserved over the horizon", "Mtok"),
}
"""Figures over the futures: what they are, and their unit."""

Row = dict[str, Any]


def draws_ranges(problem: PlanProblem, draws: int) -> list[tuple[int, int]]:
    """Return the first draw of each step and the one after its last: even parts that take seconds."""
    cells = len(problem.periods) * max(1, len(problem.rates) + len(problem.domains))
    steps = math.ceil(draws / min(DRAWS_MOST, max(1, STEP_CELLS // cells)))
    return list(pairwise(draws * at // steps for at in range(steps + 1)))


def promises_result(problem: PlanProblem, found: PromiseAnswer, *, has_waves: bool) -> Row:
    """Return what the result says of how sure a plan is; months are those in which a period begins."""
    dates = [("gpu_free", "No traffic is on GPUs from", found.gpu_free)]
    if has_waves:
        dates.append(("last_move", "The last wave opens in", found.last_move))
    rows = [
        {"promise": row.promise, "subject": _subject(problem, row), "region": row.region}
        | {"words": _words(problem, row), "probability_ratio": row.probability_ratio}
        for row in found.promises
    ]
    return {
        "draws": found.draws,
        "seed": found.seed,
        "sentence": _sentence(rows, found.draws),
        "rows": rows,
        "bands": [
            {"figure": name, "words": words, "unit": unit, **plain_of(getattr(found, name))}
            for name, (words, unit) in BANDS.items()
        ],
        "dates": [{"date": name, "words": words, **_months(problem, band)} for name, words, band in dates],
        "tornado": [plain_of(row) for row in found.tornado if _moves(row)],
    }


def promise_weakest(rows: Sequence[Mapping[str, Any]]) -> Mapping[str, Any]:
    """Return the promise that holds least often, the first of them in the order of the plan."""
    return min((row for row in rows if row["promise"] != EVERYTHING), key=lambda row: row["probability_ratio"])


def _sentence(rows: Sequence[Row], draws: int) -> str:
    together, weakest = rows[-1]["probability_ratio"], promise_weakest(rows)
    if together == 1:
        return f"All promises hold in all of {draws:,} futures."
    return (
        f"All promises together hold in {_share_words(together)} of {draws:,} futures; the weakest, that "
        f"{weakest['words']}, in {_share_words(weakest['probability_ratio'])}."
    )


def _share_words(ratio: float) -> str:
    """Return a share of the futures: none and all are said so, and nothing else rounds to them."""
    if ratio in {0, 1}:
        return "all" if ratio else "none"
    return f"{min(max(ratio, 0.01), 0.99):.0%}"


def _subject(problem: PlanProblem, row: PromiseRow) -> str:
    """Return what a promise is about by name: positions of periods and floors become months."""
    if row.promise == PEAK:
        return problem.periods[int(row.subject)]
    if row.promise == FLOOR:
        return problem.periods[problem.floors[int(row.subject)].period]
    return row.subject


def _words(problem: PlanProblem, row: PromiseRow) -> str:
    """Return what is promised, to go on behind `that`."""
    if row.promise == FLOOR:
        floor = problem.floors[int(row.subject)]
        of = "".join(f" of {name} {slug}" for name, slug in (("region", floor.region), ("tier", floor.tier)) if slug)
        what = "output tokens" if floor.basis == OUTPUT else "tokens"
        return f"at least {floor.ratio:.0%} of {what}{of} are homegrown from {problem.periods[floor.period]} on"
    return {
        DEMAND: f"{row.subject} is served all that it demands in every month",
        TIER: f"all services of tier {row.subject} are served all that they demand in every month",
        FAILOVER: f"{problem.rules.failover_tier} is still served after the loss of {row.subject} in every month",
        PEAK: f"nothing goes unserved in the peak hour of {_subject(problem, row)}",
        EVERYTHING: "all of these hold",
    }[row.promise]


def _months(problem: PlanProblem, band: PositionBand) -> Row:
    """Return a band of positions as the periods that begin there; None is not within the horizon."""
    return {name: _period(problem, getattr(band, name)) for name in ("p10", "p50", "p90")}


def _period(problem: PlanProblem, position: float | None) -> str | None:
    return None if position is None else problem.periods[int(position)]


def _moves(row: SwingRow) -> bool:
    """Whether an input moves any figure: failures that the reserve takes do not."""
    values = plain_of(row)
    return any(values[name] != 0 for name in values if name != "input")
