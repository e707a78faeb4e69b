from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

import pytest
from django.core.exceptions import ValidationError

from scenarios.models import Report, Run, Schedule
from scenarios.schedules import fire_times, schedule_next, schedule_save, schedules_fire
from tests.runs import run_work

MONDAY = datetime(2027, 1, 4, 6, 59, tzinfo=UTC)


@pytest.fixture
def schedule(scenario, time_machine):
    time_machine.move_to(MONDAY, tick=False)
    return schedule_save(Schedule(name="Mondays", scenario=scenario, cron="0 7 * * 1", zone="UTC"))


def test_it_fires_when_it_is_due_and_not_before(schedule):
    assert schedule.next_fire_at == MONDAY + timedelta(minutes=1)
    assert schedules_fire(MONDAY) == 0
    assert schedules_fire(MONDAY + timedelta(minutes=1)) == 1
    schedule.refresh_from_db()
    assert schedule.next_fire_at == MONDAY + timedelta(days=7, minutes=1)


def test_firing_is_no_edit_and_leaves_the_version(schedule):
    assert schedules_fire(MONDAY + timedelta(minutes=1)) == 1
    schedule.refresh_from_db()
    assert schedule.version == 1
    schedule.name = "Renamed while it fired"
    assert schedule_save(schedule, version=1).version == 2


def test_two_beats_fire_once(schedule):
    moment = MONDAY + timedelta(minutes=2)
    stale = Schedule.objects.get(pk=schedule.pk)
    assert schedules_fire(moment) == 1
    from scenarios.schedules import _fire

    assert _fire(stale, moment) is False  # the second beat had read the schedule before the first one fired it
    assert Run.objects.filter(schedule=schedule).count() == 1


def test_a_clock_that_steps_back_and_forth_fires_each_time_once(schedule):
    for minutes in (1, 121, -119, 1, 2, 121):
        schedules_fire(MONDAY + timedelta(minutes=minutes))
    assert Run.objects.filter(schedule=schedule).count() == 1


def test_a_time_that_has_its_run_is_not_fired_again_when_the_schedule_is_put_back(schedule):
    moment = MONDAY + timedelta(minutes=1)
    schedules_fire(moment)
    Schedule.objects.filter(pk=schedule.pk).update(next_fire_at=moment)
    assert schedules_fire(moment) == 0
    schedule.refresh_from_db()
    assert schedule.next_fire_at > moment
    assert Run.objects.filter(schedule=schedule).count() == 1


def test_after_an_outage_it_fires_once_not_for_every_time_missed(schedule):
    assert schedules_fire(MONDAY + timedelta(days=30)) == 1
    schedule.refresh_from_db()
    assert schedule.next_fire_at > MONDAY + timedelta(days=30)


def test_a_disabled_schedule_never_fires(schedule):
    schedule.enabled = False
    schedule_save(schedule)
    assert schedule.next_fire_at is None
    assert schedules_fire(MONDAY + timedelta(days=30)) == 0


@pytest.mark.parametrize(
    ("start", "expected"),
    [
        pytest.param(datetime(2027, 3, 27, 12, tzinfo=UTC), [(28, 1), (29, 0), (30, 0)], id="into summer time"),
        pytest.param(datetime(2027, 10, 30, 12, tzinfo=UTC), [(31, 0), (1, 1), (2, 1)], id="out of summer time"),
    ],
)
def test_both_changes_of_the_clock_fire_each_day_once(start, expected):
    # 02:30 does not exist on the last Sunday of March in Berlin and exists twice on the last of October
    times = fire_times("30 2 * * *", "Europe/Berlin", after=start)
    got = [next(times).astimezone(UTC) for _ in range(3)]
    assert [(moment.day, moment.hour) for moment in got] == expected


def test_the_next_five_times_are_what_happens(schedule, time_machine):
    shown = schedule_next(schedule)
    for moment in shown:
        time_machine.move_to(moment, tick=False)
        schedules_fire()
    fired = [
        moment.astimezone(ZoneInfo("UTC"))
        for moment in Run.objects.filter(schedule=schedule).order_by("fire_at").values_list("fire_at", flat=True)
    ]
    assert fired == [moment.astimezone(ZoneInfo("UTC")) for moment in shown]


def test_a_scheduled_run_leaves_one_report_and_another_run_none(schedule, scenario):
    from scenarios.services import run_submit

    schedules_fire(MONDAY + timedelta(minutes=1))
    scheduled = Run.objects.get(schedule=schedule)
    other = run_submit(scenario=scenario, owner=None)
    for run in (scheduled, scheduled, other):
        run_work(run.pk)
    report = Report.objects.get()
    assert report.run_id == scheduled.pk
    assert scenario.name in report.title
    assert report.csv.startswith("region,month,available_tok_s_p10 [tok/s]")
    assert "<script" not in report.html
    assert Run.objects.get(pk=scheduled.pk).result["fleet"]["sentence"] in report.html


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"cron": "0 7 * *"}, "cron"),
        ({"cron": "0 25 * * *"}, "cron"),
        ({"cron": "0 0 31 2 *"}, "cron"),
        ({"zone": "Mars/Olympus"}, "zone"),
        ({"zone": "../etc/passwd"}, "zone"),
    ],
)
def test_a_schedule_that_never_fires_is_refused(scenario, values, field):
    schedule = Schedule(**{"name": "x", "scenario": scenario, "cron": "0 7 * * 1", "zone": "UTC", **values})
    with pytest.raises(ValidationError) as caught:
        schedule_save(schedule)
    assert field in caught.value.message_dict
    assert not Schedule.objects.exists()
