"""kill -9 of workers at seeded moments of real runs: every run ends once, with the result of an undisturbed one.

Moments lie in every stage, and between the end of a stage and the opening of the next.
"""

import json
import os
import random
import signal
import time
from collections import Counter

RUNS, HITS_LEAST = 16, 10
DRAWS, SHARDS = 300, 12
PATIENCE_S = 600  # only so that a broken product fails the test instead of hanging it
BETWEEN = "between"
SETUP = """
import sys, django
django.setup()
from datetime import datetime, timedelta, UTC, date
from fleet.demo import demo_fleet_load
from scenarios.models import Run, Scenario, Schedule
from scenarios.schedules import schedule_save
from scenarios.services import run_submit, scenario_save
draws, runs = int(sys.argv[1]), int(sys.argv[2])
if not Scenario.objects.exists():
    demo_fleet_load(date(2027, 1, 1))
    scenario = Scenario(name="kill", kind="capacity", starts_on=date(2027, 1, 1), ends_on=date(2028, 12, 1), seed=3)
    scenario.draws = draws
    scenario_save(scenario)
    schedule_save(Schedule(name="kill", scenario=scenario, cron="0 0 1 1 *", zone="UTC"))
scenario, schedule = Scenario.objects.get(), Schedule.objects.get()
first = Run.objects.count()
for at in range(first, first + runs):
    fire_at = datetime(2020, 1, 1, tzinfo=UTC) + timedelta(days=at)
    run_submit(scenario=scenario, owner=None, schedule=schedule, fire_at=fire_at, recompute=True)
"""


def setup(ground, *, runs):
    ground.call("-c", SETUP, str(DRAWS), str(runs))


def wait_done(rows, count):
    end_s = time.monotonic() + PATIENCE_S
    while rows("SELECT count(*) FROM scenarios_run WHERE status = 'done'")[0][0] < count:
        assert time.monotonic() < end_s, rows("SELECT id, status, opened, steps_done, error FROM scenarios_run")
        time.sleep(0.05)


def moments(seed):
    """When a worker of each run is killed: (stage, which of its steps, further delay [s])."""
    rng = random.Random(seed)
    kills = [("prepare", 0, rng.uniform(0, 0.1)) for _ in range(4)]
    kills += [("draws", rng.randrange(SHARDS), rng.uniform(0, 0.05)) for _ in range(5)]
    kills += [("merge", 0, rng.uniform(0, 0.03)) for _ in range(3)]
    kills += [(BETWEEN, opened, 0.0) for opened in (1, 1, 2, 2)]
    rng.shuffle(kills)
    return kills


def test_every_run_ends_once_with_the_undisturbed_result_whenever_a_worker_is_killed(ground):
    ground.call("manage.py", "migrate", "-v0")
    setup(ground, runs=1)
    ground.worker_start()
    ground.beat_start()
    with ground.rows() as rows:
        wait_done(rows, 1)
        started_s = time.monotonic()
        ground.worker_start()
        setup(ground, runs=RUNS)
        hits = kill_each_once(ground, rows, dict(enumerate(moments(20261123), 2)))
        wait_done(rows, RUNS + 1)
        took_s = time.monotonic() - started_s

        undisturbed, *ended = rows("SELECT id, result FROM scenarios_run ORDER BY id")
        reports = rows("SELECT run_id, count(*) FROM scenarios_report GROUP BY run_id ORDER BY run_id")
        steps = rows("SELECT run_id, stage_name, number, status FROM scenarios_runstep")
        lost = rows("SELECT count(*) FROM scenarios_runstep WHERE attempt > 1")[0][0]
    expected = as_json(undisturbed[1])
    for run_id, result in ended:
        found = as_json(result)
        parts = sorted(key for key in found.keys() | expected.keys() if found.get(key) != expected.get(key))
        assert found == expected, f"the result of run {run_id} differs from the undisturbed one in: {', '.join(parts)}"
    assert reports == [(run_id, 1) for run_id in range(1, RUNS + 2)]
    assert Counter(steps) == Counter((run_id, *step) for run_id in range(1, RUNS + 2) for step in steps_expected())
    assert lost + hits[BETWEEN] >= HITS_LEAST, f"only {lost} steps were lost to {hits.total()} kills"
    assert hits.keys() >= {"prepare", "draws", "merge"}
    print(f"{dict(hits)} kills; {lost} steps were computed again; {took_s:.0f} s in all")  # noqa: T201 -- for -s


def steps_expected():
    counts = {"prepare": 1, "draws": SHARDS, "merge": 1}
    return [(name, number, "done") for name, count in counts.items() for number in range(count)]


def as_json(result):
    return json.loads(result) if isinstance(result, str) else result


def kill_each_once(ground, rows, plan):
    """Kill a worker of every run once, at the run's moment; start another in its place. Return what was hit."""
    hits, end_s = Counter(), time.monotonic() + PATIENCE_S
    while plan and time.monotonic() < end_s:
        for run_id, (stage, which, delay_s) in list(plan.items()):
            if stage == BETWEEN:
                worker, is_late = between(rows, run_id, which)
            else:
                worker, is_late = running(rows, run_id, stage, which)
            if worker:
                time.sleep(delay_s)
                kill(worker)
                if stage != BETWEEN or rows(f"SELECT opened FROM scenarios_run WHERE id = {run_id}")[0][0] == which:
                    hits[stage] += 1
                ground.worker_start()
            if worker or is_late:
                del plan[run_id]
        time.sleep(0.001)
    assert not plan, f"the moments of {sorted(plan)} never came"
    return hits


def running(rows, run_id, stage, which):
    """Return who computes a step for the first time, and whether it is done already."""
    found = rows(
        "SELECT status, attempt, worker FROM scenarios_runstep "
        f"WHERE run_id = {run_id} AND stage_name = '{stage}' AND number = {which}"
    )
    if not found:
        return "", False
    status, attempt, worker = found[0]
    return (worker if status == "running" and attempt == 1 else ""), status == "done"


def between(rows, run_id, opened):
    """Return who has finished the last step of a stage while the next is not open, and whether it is by now."""
    now, left = rows(
        "SELECT opened, (SELECT count(*) FROM scenarios_runstep WHERE run_id = r.id AND status != 'done') "
        f"FROM scenarios_run r WHERE id = {run_id}"
    )[0]
    if now != opened or left:
        return "", now > opened
    last = f"SELECT worker FROM scenarios_runstep WHERE run_id = {run_id} ORDER BY finished_at DESC LIMIT 1"
    return rows(last)[0][0], False


def kill(worker):
    os.killpg(os.getpgid(int(worker.rpartition(":")[2])), signal.SIGKILL)
