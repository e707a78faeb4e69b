"""The demo's questions: one capacity and one migration scenario, asked once, a weekly report, invented histories."""

from dataclasses import replace
from datetime import date

from django.contrib.auth import get_user_model
from django.db import transaction
from django.utils import timezone

from fleet.audit import author_current, writing_as
from fleet.demo import DEMO_WHY, demo_fleet_load, demo_fleet_remove, demo_is_loaded
from scenarios.demand import month_add, month_first
from scenarios.demo_histories import demo_histories_store
from scenarios.deployments import deployments_make
from scenarios.models import Report, Run, Scenario, Schedule
from scenarios.schedules import schedule_save
from scenarios.services import run_submit, scenario_save

MONTHS = 24


def demo_load(start: date | None = None) -> bool:
    """Write the demo fleet, its scenarios and their first runs, unless they are there; return whether they were not."""
    if demo_is_loaded():
        return False
    first = month_first(start or timezone.localdate())
    with transaction.atomic():
        demo_fleet_load(first)
        with writing_as(replace(author_current(), why=DEMO_WHY)):
            deployments_make(first)
        demo_histories_store(first)
        ends_on = month_add(first, MONTHS - 1)
        for name, kind, note in (
            ("Demo: how long does the fleet last?", Scenario.Kind.CAPACITY, "Every service, as it is growing now."),
            (
                "Demo: leaving the GPUs",
                Scenario.Kind.MIGRATION,
                "The plan that costs least, one month of dual running.",
            ),
        ):
            scenario = scenario_save(
                Scenario(name=name, kind=kind, note=note, starts_on=first, ends_on=ends_on, is_demo=True)
            )
            run_submit(scenario=scenario, owner=None)
        schedule_save(
            Schedule(
                name="Demo: Monday capacity report",
                scenario=Scenario.objects.get(is_demo=True, kind=Scenario.Kind.CAPACITY),
                cron="0 7 * * 1",
                zone="Asia/Shanghai",
                is_demo=True,
            )
        )
    return True


@transaction.atomic
def demo_remove() -> None:
    """Remove the demo: its user, its scenarios with their runs and reports, its fleet. What others made stays."""
    ours = Scenario.objects.filter(is_demo=True)
    Report.objects.filter(run__scenario__in=ours).delete()
    Run.objects.filter(scenario__in=ours).delete()
    Schedule.objects.filter(scenario__in=ours, is_demo=True).delete()
    ours.delete()
    demo_fleet_remove()
    get_user_model().objects.filter(username="demo").delete()
