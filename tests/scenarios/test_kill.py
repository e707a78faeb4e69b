"""kill -9 of workers at seeded moments of real runs: every run ends once, with the result of an undisturbed one."""

import json
import os
import random
import signal
import time

from django.conf import settings

RUNS, HITS_LEAST, WORK_S = 20, 15, 3.0
PATIENCE_S = 600  # only so that a broken product fails the test instead of hanging it
SETUP = """
import sys, django
django.setup()
from datetime import datetime, timedelta, UTC, date
from fleet.demo import demo_fleet_load
from scenarios.models import Run, Scenario, Schedule
from scenarios.schedules import schedule_save
from scenarios.services import run_submit, scenario_save
step, draws, runs = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
if step == "fleet":
    demo_fleet_load(date(2027, 1, 1))
    scenario = Scenario(name="kill", kind="capacity", starts_on=date(2027, 1, 1), ends_on=date(2028, 12, 1), seed=3)
    scenario.draws = draws
    scenario_save(scenario)
    schedule_save(Schedule(name="kill", scenario=scenario, cron="0 0 1 1 *", zone="UTC"))
scenario, schedule = Scenario.objects.get(), Schedule.objects.get()
scenario.draws = draws
scenario_save(scenario)
first = Run.objects.count()
for at in range(first, first + runs):
    fire_at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=at)
    run_submit(scenario=scenario, owner=None, schedule=schedule, fire_at=fire_at)
"""


def setup(ground, step, *, draws, runs):
    ground.call("-c", SETUP, step, str(draws), str(runs))


def wait_done(rows, count):
    end_s = time.monotonic() + PATIENCE_S
    while rows("SELECT count(*) FROM scenarios_run WHERE status = 'done'")[0][0] < count:
        assert time.monotonic() < end_s, rows("SELECT id, status, attempt, stage, error FROM scenarios_run")
        time.sleep(0.05)


def moments(seed):
    """When each run's worker is killed: (stage that must be reached, share of the work done, further delay [s])."""
    rng = random.Random(seed)
    kills = [("claimed", 0.0, rng.uniform(0, 0.05)) for _ in range(3)]
    kills += [("draw", rng.uniform(0.02, 0.95), 0.0) for _ in range(11)]
    kills += [("store", 1.0, 0.0) for _ in range(3)]
    kills += [("store", 1.0, rng.uniform(0, 0.03)) for _ in range(3)]
    rng.shuffle(kills)
    return kills


ORDER = ("claimed", "snapshot", "ratings", "expected", "draw", "bands", "store")


def is_reached(kill, stage, progress):
    wanted, share, _ = kill
    now = stage.split(" ")[0]
    return now in ORDER and ORDER.index(now) >= ORDER.index(wanted) and progress >= share


def test_every_run_ends_once_with_the_undisturbed_result_whenever_its_worker_is_killed(ground):
    ground.call("manage.py", "migrate", "-v0")
    setup(ground, "fleet", draws=60, runs=1)
    ground.worker_start()
    ground.beat_start()
    with ground.rows() as rows:
        wait_done(rows, 1)
        draws, calm = 60, 1
        while run_seconds(rows, calm) < WORK_S:  # until it is enough real work for this machine
            draws, calm = int(draws * 1.08 * max(1.0, WORK_S / run_seconds(rows, calm))), calm + 1
            setup(ground, "more", draws=draws, runs=1)
            wait_done(rows, calm)
        started_s = time.monotonic()
        ground.worker_start()
        setup(ground, "more", draws=draws, runs=RUNS)
        killed = kill_each_once(ground, rows, first=calm + 1)
        wait_done(rows, RUNS + calm)
        took_s = time.monotonic() - started_s

        undisturbed = rows(f"SELECT result FROM scenarios_run WHERE id = {calm}")[0][0]
        ended = rows(f"SELECT id, attempt, result FROM scenarios_run WHERE id > {calm} ORDER BY id")
        reports = rows("SELECT run_id, count(*) FROM scenarios_report GROUP BY run_id ORDER BY run_id")
    hits = [run_id for run_id, attempt, _ in ended if attempt > 1]
    assert set(hits) <= set(killed)
    assert len(hits) >= HITS_LEAST, f"only {len(hits)} of {len(killed)} kills hit a running attempt"
    expected = as_json(undisturbed)
    for run_id, _, result in ended:
        found = as_json(result)
        parts = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
        assert found == expected, f"the result of run {run_id} differs from the undisturbed one in: {', '.join(parts)}"
    assert reports == [(run_id, 1) for run_id in range(1, RUNS + calm + 1)]
    print(f"{len(hits)} of {len(killed)} kills hit a running attempt; {took_s:.0f} s in all")  # noqa: T201 -- for -s


def run_seconds(rows, run_id):
    if settings.DATABASES["default"]["ENGINE"].endswith("postgresql"):
        sql = f"SELECT EXTRACT(EPOCH FROM finished_at - started_at)::float FROM scenarios_run WHERE id = {run_id}"
    else:
        sql = f"SELECT (julianday(finished_at) - julianday(started_at)) * 86400 FROM scenarios_run WHERE id = {run_id}"
    return rows(sql)[0][0]


def as_json(result):
    return json.loads(result) if isinstance(result, str) else result


def kill_each_once(ground, rows, *, first):
    """Kill the worker of every run once, at the run's moment; start another in its place."""
    plan = dict(zip(range(first, first + RUNS), moments(20261123), strict=True))
    killed = []
    end_s = time.monotonic() + PATIENCE_S
    while plan and time.monotonic() < end_s:
        for run_id, status, attempt, stage, progress, worker in rows(
            "SELECT id, status, attempt, stage, progress_ratio, worker FROM scenarios_run "
            f"WHERE id >= {first} AND status IN ('running', 'done')"
        ):
            if run_id not in plan:
                continue
            if status == "done":
                del plan[run_id]  # it was faster than its moment: not a hit
            elif attempt == 1 and is_reached(plan[run_id], stage, progress):
                time.sleep(plan[run_id][2])
                os.killpg(os.getpgid(int(worker.rpartition(":")[2])), signal.SIGKILL)
                ground.worker_start()
                killed.append(run_id)
                del plan[run_id]
        time.sleep(0.002)
    assert not plan, f"the moments of {sorted(plan)} never came"
    return killed
