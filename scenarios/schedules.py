"""Schedules: when the next report is due, and firing each due time once."""

from collections.abc import Iterator
from datetime import datetime
from itertools import islice
from zoneinfo import ZoneInfo

from cronsim import CronSim
from django.db import IntegrityError, transaction
from django.utils import timezone

from fleet.services import row_save
from scenarios.checks import check_schedule
from scenarios.models import Schedule
from scenarios.services import run_submit


def fire_times(cron: str, zone: str, *, after: datetime) -> Iterator[datetime]:
    """Yield the times after a moment at which an expression fires, in its zone; daylight saving is cronsim's care."""
    return CronSim(cron, after.astimezone(ZoneInfo(zone)))


def schedule_next(schedule: Schedule, *, count: int = 5, after: datetime | None = None) -> list[datetime]:
    """Return the next times at which a schedule fires, in its zone."""
    return list(islice(fire_times(schedule.cron, schedule.zone, after=after or timezone.now()), count))


def schedule_save(schedule: Schedule, *, version: int | None = None) -> Schedule:
    """Check and save a schedule, and set the time at which it fires next. With `version`, only if still unedited."""
    check_schedule({"cron": schedule.cron, "zone": schedule.zone})
    schedule.next_fire_at = schedule_next(schedule, count=1)[0] if schedule.enabled else None
    return row_save(schedule, version=version)


def schedules_fire(now: datetime | None = None) -> int:
    """Start a run for every schedule that is due; return how many were started.

    The next time advances in the transaction that inserts the run, under a unique (schedule, fire time): two beats,
    or a clock that steps back, start nothing twice. After an outage a schedule fires once, not for every time missed.
    """
    moment, fired = now or timezone.now(), 0
    due = Schedule.objects.filter(enabled=True, next_fire_at__lte=moment).select_related("scenario", "owner")
    for schedule in due.order_by("next_fire_at", "pk"):
        fired += _fire(schedule, moment)
    return fired


def _fire(schedule: Schedule, moment: datetime) -> bool:
    fire_at, following = schedule.next_fire_at, schedule_next(schedule, count=1, after=moment)[0]
    try:
        with transaction.atomic():
            taken = Schedule.objects.filter(pk=schedule.pk, enabled=True, next_fire_at=fire_at).update(
                next_fire_at=following
            )
            if taken:
                run_submit(scenario=schedule.scenario, owner=schedule.owner, schedule=schedule, fire_at=fire_at)
            return bool(taken)
    except IntegrityError:  # this fire time has its run already: a clock stepped back and the schedule was edited
        Schedule.objects.filter(pk=schedule.pk, next_fire_at=fire_at).update(next_fire_at=following)
        return False
