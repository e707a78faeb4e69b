"""From positions in periods to days, where the names of the periods are months or days."""

import re
from datetime import date, timedelta
from itertools import pairwise

from scenarios.planning.problem import PlanProblem

DAYS_A_MONTH = 30.4375
LAST_MONTH = date(date.max.year, 12, 1)


def period_starts(problem: PlanProblem) -> tuple[date, ...] | None:
    """Return the first day of every period and the day after the last; None where a name is no month and no day."""
    starts = [_day(name) for name in problem.periods]
    known = [day for day in starts if day is not None]
    if len(known) < len(starts) or any(one >= other for one, other in pairwise(known)):
        return None
    months = problem.rules.period_months
    last = known[-1]
    if months == int(months) and last.day == 1:
        count = last.year * 12 + last.month - 1 + int(months)
        return (*known, date(count // 12, count % 12 + 1, 1)) if count // 12 <= date.max.year else None
    return (*known, last + timedelta(days=round(months * DAYS_A_MONTH)))


def position_day(problem: PlanProblem, position: float | None) -> str | None:
    """Return the day of a position in periods, as 2027-03-14: within a period by the share of it that has passed.

    Positions before the first period count back in months of equal length.
    """
    starts = period_starts(problem)
    if position is None or starts is None:
        return None
    if position < 0:
        days = round(position * problem.rules.period_months * DAYS_A_MONTH)
        return str(starts[0] + timedelta(days=days)) if starts[0].toordinal() + days > 0 else None
    at = min(int(position), len(problem.periods) - 1)
    length = (starts[at + 1] - starts[at]).days
    return str(starts[at] + timedelta(days=int((position - at) * length + 1e-9)))


def months_before(day: str, months: float) -> str | None:
    """Return the day so many calendar months before another, the last of its month at the latest; None before year 1.

    What is left of a month counts as its share of a mean month.
    """
    end, whole = date.fromisoformat(day), int(months)
    count = end.year * 12 + end.month - 1 - whole
    if count < 12:
        return None
    first = date(count // 12, count % 12 + 1, 1)
    last = (first + timedelta(days=31)).replace(day=1) - timedelta(days=1) if first < LAST_MONTH else date.max
    start = first.replace(day=min(end.day, last.day)).toordinal() - round((months - whole) * DAYS_A_MONTH)
    return str(date.fromordinal(start)) if start > 0 else None


def _day(name: str) -> date | None:
    found = re.fullmatch(r"(\d{4})-(\d{2})(?:-(\d{2}))?", name)
    if not found:
        return None
    try:
        return date(int(found[1]), int(found[2]), int(found[3] or 1))
    except ValueError:
        return None
