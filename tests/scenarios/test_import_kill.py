"""kill -9 of workers in the middle of imports: every file is written once, whole, and the log of changes is sound."""

import os
import random
import signal
import time

ROWS, PATIENCE_S = 11_000, 300  # rows of a file: more than one change set of 10,000
SETUP = """
import django
django.setup()
import io, sys
from api.roles import roles_load
from django.contrib.auth.models import User
from scenarios.imports import import_submit
roles_load()
user, _ = User.objects.get_or_create(username="boss", is_superuser=True)
for at in range(int(sys.argv[1])):
    lines = ["slug,chip", *(f"lot-{at}-{row},h20-96" for row in range(int(sys.argv[2])))]
    content = io.BytesIO("\\n".join(lines).encode())
    import_submit(content, name="lots.csv", entry="lots", mode="create", dry_run=False, why=f"file {at}", owner=user)
"""


def moments(seed):
    """When each import's worker is killed: (word that its stage must begin with, share of it, further delay [s])."""
    rng = random.Random(seed)
    writing = [("write", 0.5, delay_s) for delay_s in (0.0, rng.uniform(0.3, 0.6), rng.uniform(0.8, 1.2))]
    return [("read", rng.uniform(0.05, 0.4), 0.0), *writing]


ORDER = ("claimed", "fetch", "read", "write")


def is_reached(kill, stage, progress):
    wanted, share, _ = kill
    now = stage.split(" ")[0]
    return now in ORDER and ORDER.index(now) >= ORDER.index(wanted) and progress >= share


def test_every_file_is_written_once_whenever_its_worker_is_killed(ground):
    kills = moments(20261126)
    ground.call("manage.py", "migrate", "-v0")
    ground.call("-c", SETUP, str(len(kills)), str(ROWS))
    ground.worker_start()
    ground.beat_start()
    with ground.rows() as rows:
        killed = kill_each_once(ground, rows, dict(enumerate(kills, 1)))
        end_s = time.monotonic() + PATIENCE_S
        while rows("SELECT count(*) FROM scenarios_importjob WHERE status IN ('done', 'failed')")[0][0] < len(kills):
            assert time.monotonic() < end_s, rows("SELECT id, status, attempt, stage, error FROM scenarios_importjob")
            time.sleep(0.1)
        ended = rows("SELECT id, status, attempt, error FROM scenarios_importjob ORDER BY id")
        lots = rows("SELECT count(*), count(DISTINCT slug) FROM fleet_lot")
        sets = rows("SELECT why, sum(rows) FROM fleet_changeset GROUP BY why ORDER BY why")
    assert [(status, error) for _, status, _, error in ended] == [("done", "")] * len(kills)
    assert lots == [(ROWS * len(kills), ROWS * len(kills))]
    assert [(why, int(count)) for why, count in sets] == [(f"file {at}", ROWS) for at in range(len(kills))]
    assert len([pk for pk, _, attempt, _ in ended if attempt > 1 and pk in killed]) >= len(kills) - 1
    ground.call("manage.py", "audit_verify")


def kill_each_once(ground, rows, plan):
    """Kill the worker of every import once, at its moment; start another in its place."""
    killed = []
    end_s = time.monotonic() + PATIENCE_S
    while plan and time.monotonic() < end_s:
        for pk, status, attempt, stage, progress, worker in rows(
            "SELECT id, status, attempt, stage, progress_ratio, worker FROM scenarios_importjob "
            "WHERE status IN ('running', 'done')"
        ):
            if pk in plan and status == "done":
                del plan[pk]  # it was faster than its moment: not a hit
            elif pk in plan and attempt == 1 and is_reached(plan[pk], stage, progress):
                time.sleep(plan.pop(pk)[2])
                os.killpg(os.getpgid(int(worker.rpartition(":")[2])), signal.SIGKILL)
                ground.worker_start()
                killed.append(pk)
        time.sleep(0.002)
    assert not plan, f"the moments of {sorted(plan)} never came"
    return killed
