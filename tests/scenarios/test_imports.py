"""Imports as jobs: what a worker makes of a file, whatever happens to it meanwhile."""

import io
import json
import time
from contextlib import contextmanager
from datetime import timedelta

import pytest
from django.contrib.auth.models import Group, User
from django.utils import timezone

from api.roles import roles_load
from api.tasks import purge
from fleet.audit import Author, writing_as
from fleet.exchange import import_run
from fleet.inventory import INVENTORY
from fleet.models import ChangeSet, Host, Rack, Region, RegionLimit
from fleet.services import row_save
from scenarios import imports as imports_module
from scenarios import tasks
from scenarios.claims import ATTEMPTS_MAX, ClaimLostError
from scenarios.imports import (
    IMPORTS,
    ImportRefusedError,
    import_apply,
    import_cancel,
    import_check,
    import_compute,
    import_submit,
    upload_keep,
    uploads_purge,
)
from scenarios.models import ImportChunk, ImportJob, ImportUpload
from scenarios.tasks import import_execute, sweep
from tests.factories import fleet_rows

pytestmark = pytest.mark.django_db(transaction=True)  # PostgreSQL renews the lease of a writer from a second connection

HEAD = "slug,host_type,rack"


@pytest.fixture
def fleet(db):
    return fleet_rows(hosts=2)


@pytest.fixture
def operator(fleet):
    roles_load()
    user = User.objects.create_user("operator")
    user.groups.add(Group.objects.get(name="operator"))
    return user


def hosts_file(count, *, rack="dc01-a1", more=()):
    lines = [HEAD, *(f"new-{at:04d},h20-8x,{rack}" for at in range(count)), *more]
    return "\n".join(lines).encode()


def submit(owner, content, *, name="hosts.csv", entry="hosts", mode="upsert", dry_run=False, why=""):
    what = {"name": name, "entry": entry, "mode": mode}
    with writing_as(Author(user_id=owner.pk, name=owner.username, request_id="asked-1")):
        return import_submit(io.BytesIO(content), **what, dry_run=dry_run, why=why, owner=owner)


def done(job):
    import_execute(job.pk)
    job.refresh_from_db()
    return job


# --- what comes of a file ---------------------------------------------------------------------------------------------
def test_a_file_is_written_in_the_name_of_who_asked(operator):
    job = done(submit(operator, hosts_file(5), why="new hall"))
    assert (job.status, job.written, job.errors_total, job.progress_ratio, job.stage) == ("done", True, 0, 1, "")
    assert job.counts == {"hosts": {"created": 5, "updated": 0, "unchanged": 0, "refused": 0}}
    assert job.report["changes"][0]["key"] == "new-0000"
    assert Host.objects.count() == 7
    logged = ChangeSet.objects.get()
    assert (logged.actor, logged.actor_name, logged.why, logged.request_id) == (
        *(operator, "operator"),
        *("new hall", "asked-1"),
    )


def test_the_file_is_kept_in_pieces_that_give_it_back(operator, monkeypatch):
    monkeypatch.setattr(imports_module, "CHUNK_BYTE", 10)
    job = submit(operator, hosts_file(5))
    assert job.upload.chunks.count() == 14 > imports_module.CHUNKS_AT_ONCE
    assert b"".join(bytes(chunk.data) for chunk in job.upload.chunks.all()) == hosts_file(5)
    assert done(job).counts["hosts"]["created"] == 5


def test_a_file_that_is_not_as_it_came_is_not_imported(operator):
    job = submit(operator, hosts_file(3))
    ImportChunk.objects.update(data=hosts_file(3).replace(b"new-0001", b"own-0001"))
    job = done(job)
    assert (job.status, job.error) == ("failed", "its file is not kept as it was uploaded: upload it again")
    assert Host.objects.count() == 2


def test_the_same_file_again_changes_nothing(operator):
    done(submit(operator, hosts_file(5)))
    again = done(submit(operator, hosts_file(5)))
    assert (again.status, again.written, again.counts["hosts"]["unchanged"]) == ("done", False, 5)
    assert ChangeSet.objects.count() == 1


def test_errors_are_those_of_the_command_and_nothing_is_written(operator):
    content = hosts_file(3, more=["bad,h20-8x,nowhere", "worse,,dc01-a1"])
    with_command = import_run(INVENTORY["hosts"], io.BytesIO(content), name="hosts.csv", user=operator)
    job = done(submit(operator, content))
    assert (job.status, job.error) == ("failed", "2 error(s); nothing was written")
    assert job.report["errors"] == with_command.as_dict()["errors"]
    assert [(one["line"], one["column"]) for one in job.report["errors"]] == [(5, "rack"), (6, "host_type")]
    assert Host.objects.count() == 2
    assert not ChangeSet.objects.exists()


def test_a_dry_run_that_finds_errors_is_done_and_not_sound(operator):
    job = done(submit(operator, hosts_file(1, more=["bad,h20-8x,nowhere"]), dry_run=True))
    assert (job.status, job.is_sound, job.errors_total, job.written) == ("done", False, 1, False)


def test_a_whole_fleet_is_one_import(operator):
    racks = [{"slug": "r9", "row": "dc01/h1/a", "position": 9, "power_limit_w": 9000}]
    content = {"racks": racks, "hosts": [{"slug": "h9", "host_type": "h20-8x", "rack": "r9"}]}
    job = done(submit(operator, json.dumps(content).encode(), name="fleet.json", entry="all"))
    assert (job.status, list(job.tables), job.error) == ("done", ["racks", "hosts"], "")
    assert Rack.objects.get(slug="r9").hosts.get().slug == "h9"


# --- apply ------------------------------------------------------------------------------------------------------------
def test_a_sound_dry_run_is_applied_with_the_same_bytes(operator):
    dry = done(submit(operator, hosts_file(4), dry_run=True, why="planned"))
    assert Host.objects.count() == 2
    job = done(import_apply(dry, owner=operator))
    assert (job.sha256, job.upload_id, job.why, job.written) == (dry.sha256, dry.upload_id, "planned", True)
    assert Host.objects.count() == 6
    with pytest.raises(ImportRefusedError, match=f"import {job.pk} writes this file already"):
        import_apply(dry, owner=operator)


def test_what_is_no_sound_dry_run_is_not_applied(operator):
    with pytest.raises(ImportRefusedError, match="it was no dry run"):
        import_apply(done(submit(operator, hosts_file(1))), owner=operator)
    with pytest.raises(ImportRefusedError, match="not sound: queued"):
        import_apply(submit(operator, hosts_file(2), dry_run=True), owner=operator)
    with pytest.raises(ImportRefusedError, match="not sound: 1 error"):
        import_apply(done(submit(operator, hosts_file(1, rack="nowhere"), dry_run=True)), owner=operator)


CHANGED = "the fleet has changed since the dry run: try it again"


def edited(**values):
    """Let somebody else edit the first host."""
    host = Host.objects.get(slug="host-0")
    for name, value in values.items():
        setattr(host, name, value)
    row_save(host)


@contextmanager
def between(attempt):
    """Let somebody else edit a host after an import has read all, and before it writes."""
    edited(position_u=30)
    yield


def host_wish(operator):
    return done(submit(operator, b"slug,position_u\nhost-0,20\n", mode="update", dry_run=True))


def test_what_was_changed_since_the_dry_run_is_not_overwritten(operator):
    dry = host_wish(operator)
    assert dry.is_sound
    edited(position_u=30)
    sets = ChangeSet.objects.count()
    job = done(import_apply(dry, owner=operator))
    assert (job.status, job.error) == ("failed", CHANGED)
    assert Host.objects.get(slug="host-0").position_u == 30
    assert ChangeSet.objects.count() == sets


def test_what_changes_between_the_two_passes_of_an_apply_is_not_overwritten(operator, monkeypatch):
    dry = host_wish(operator)
    monkeypatch.setattr(imports_module._Attempt, "writing", between)
    job = done(import_apply(dry, owner=operator))
    assert (job.status, job.error, Host.objects.get(slug="host-0").position_u) == ("failed", CHANGED, 30)


def test_what_others_have_made_since_the_dry_run_is_told(operator):
    dry = done(submit(operator, hosts_file(2), dry_run=True))
    done(submit(operator, hosts_file(2)))
    job = done(import_apply(dry, owner=operator))
    assert (job.status, job.error, job.written) == ("failed", CHANGED, False)


def test_rows_that_the_file_leaves_as_they_are_may_change(operator):
    dry = done(submit(operator, b"slug,host_type\nhost-0,h20-8x\n", dry_run=True))
    edited(position_u=30)
    assert done(import_apply(dry, owner=operator)).status == "done"


# --- who --------------------------------------------------------------------------------------------------------------
def test_an_account_of_one_region_imports_nothing_into_another(operator, fleet):
    RegionLimit.objects.create(user=operator).regions.add(Region.objects.create(slug="south", name="South"))
    job = done(submit(User.objects.get(pk=operator.pk), hosts_file(2)))
    assert (job.status, job.regions) == ("failed", ["south"])
    assert {one["reason"] for one in job.report["errors"]} == {'there is no rack "dc01-a1"'}
    assert Host.objects.count() == 2


def test_a_limit_that_came_after_the_upload_holds(operator, fleet):
    job = submit(operator, hosts_file(2))
    RegionLimit.objects.create(user=operator).regions.add(Region.objects.create(slug="south", name="South"))
    job = done(job)
    assert (job.status, job.regions, Host.objects.count()) == ("failed", ["south"], 2)


def test_rights_are_asked_again_when_the_file_is_read(operator):
    job = submit(operator, hosts_file(2))
    operator.groups.clear()
    job = done(job)
    assert (job.status, job.error) == ("failed", "operator lacks the permission fleet.add_host by now")


@pytest.mark.parametrize("change", [{"is_active": False}, None], ids=["inactive", "deleted"])
def test_an_account_that_is_gone_writes_nothing(operator, change):
    job = submit(operator, hosts_file(2))
    User.objects.filter(pk=operator.pk).update(**change) if change else operator.delete()
    job = done(job)
    assert (job.status, job.error, Host.objects.count()) == ("failed", "the account that asked is gone", 2)


@pytest.mark.parametrize(("mode", "needed"), [("create", "add"), ("update", "change"), ("upsert", "add")])
def test_a_mode_needs_the_rights_that_it_uses(fleet, mode, needed):
    roles_load()
    user = User.objects.create_user("viewer")
    file = io.BytesIO(hosts_file(1))
    assert import_check(file, name="a.csv", entry="hosts", mode=mode, user=user) == f"fleet.{needed}_host"


def test_only_so_many_imports_of_an_account_wait_at_once(operator, monkeypatch):
    monkeypatch.setattr(imports_module, "OPEN_MOST", 2)
    jobs = [submit(operator, hosts_file(1)) for _ in range(2)]
    with pytest.raises(ImportRefusedError, match="2 imports of yours have not ended yet"):
        submit(operator, hosts_file(1))
    assert ImportUpload.objects.count() == 2
    done(jobs[0])
    submit(operator, hosts_file(1))


# --- once and only once -----------------------------------------------------------------------------------------------
def test_a_job_that_is_delivered_again_does_nothing(operator):
    job = done(submit(operator, hosts_file(3)))
    before = ImportJob.objects.values().get(pk=job.pk)
    import_execute(job.pk)
    assert ImportJob.objects.values().get(pk=job.pk) == before
    assert ChangeSet.objects.count() == 1


def test_of_two_workers_with_one_job_the_slower_writes_nothing(operator, monkeypatch):
    """The first is asleep so long that the second takes over and ends; then the first wakes up at its fence."""
    job = submit(operator, hosts_file(3))
    late = IMPORTS.claim(job.pk)
    ImportJob.objects.filter(pk=job.pk).update(heartbeat_at=timezone.now() - timedelta(hours=1))
    assert done(job).attempt == 2
    with pytest.raises(ClaimLostError):
        import_compute(job.pk, late, on_progress=lambda ratio, stage: None)
    job.refresh_from_db()
    assert (job.status, job.attempt, ChangeSet.objects.count(), Host.objects.count()) == ("done", 2, 1, 5)


def test_a_claim_that_is_lost_while_rows_are_written_takes_the_rows_back(operator, monkeypatch):
    job = submit(operator, hosts_file(3))
    finish = IMPORTS.finish

    def finish_late(row_id, claim, **values):
        assert Host.objects.count() == 5  # they are there, inside of the transaction
        ImportJob.objects.filter(pk=row_id).update(claim="00000000-0000-0000-0000-000000000001")
        finish(row_id, claim, **values)

    monkeypatch.setattr(type(IMPORTS), "finish", lambda self, *args, **values: finish_late(*args, **values))
    import_execute(job.pk)
    assert Host.objects.count() == 2
    assert not ChangeSet.objects.exists()


def test_a_queued_import_is_cancelled_at_once(operator):
    job = submit(operator, hosts_file(3))
    assert import_cancel(job)
    assert done(job).status == "cancelled"
    assert not import_cancel(job)
    assert Host.objects.count() == 2


def test_an_import_that_is_read_notices_that_it_is_cancelled(operator, monkeypatch):
    """At the next look after a chunk of rows, wherever in the file that is."""
    monkeypatch.setattr("fleet.exchange.imports.CHUNK_ROWS", 10)
    job, stages = submit(operator, hosts_file(100)), []

    def told(ratio, stage):
        stages.append(stage)
        if stage == "read hosts, 30 rows":
            import_cancel(job)
        IMPORTS.report(job.pk, claims[0], progress_ratio=ratio, stage=stage)

    claims = []
    claim = IMPORTS.claim
    monkeypatch.setattr(tasks, "_reporter", lambda queue, row_id, claim: told)
    monkeypatch.setattr(type(IMPORTS), "claim", lambda _, pk: claims.append(claim(pk)) or claims[0])
    import_execute(job.pk)
    job.refresh_from_db()
    assert (job.status, stages[-1], Host.objects.count()) == ("cancelled", "read hosts, 30 rows", 2)


def test_a_job_whose_workers_are_lost_again_and_again_fails_with_the_reason(operator):
    job = submit(operator, hosts_file(3))
    ImportJob.objects.filter(pk=job.pk).update(
        status="running", attempt=ATTEMPTS_MAX, heartbeat_at=timezone.now() - timedelta(hours=1)
    )
    sweep()
    job.refresh_from_db()
    assert job.status == "failed"
    assert job.error == f"its worker was lost {ATTEMPTS_MAX} times; the import is given up"


def until_lost(report):
    while True:
        report(0.8, "write hosts")
        time.sleep(0.01)


@pytest.mark.postgres
def test_the_lease_of_a_writer_is_renewed_from_beside_its_transaction(operator, settings):
    settings.RUN_LEASE_S = 0.5
    job = submit(operator, hosts_file(1))
    claim = IMPORTS.claim(job.pk)
    ImportJob.objects.filter(pk=job.pk).update(heartbeat_at=timezone.now() - timedelta(hours=1))
    with IMPORTS.held_writing(job.pk, claim) as report:
        report(0.7, "write hosts")
        while ImportJob.objects.get(pk=job.pk).stage != "write hosts":
            time.sleep(0.01)
        assert timezone.now() - ImportJob.objects.get(pk=job.pk).heartbeat_at < timedelta(minutes=1)
        import_cancel(job)
        with pytest.raises(ClaimLostError):
            until_lost(report)


# --- tidying up -------------------------------------------------------------------------------------------------------
def kept():
    return {*ImportUpload.objects.values_list("pk", flat=True)}


def test_a_file_goes_as_soon_as_no_import_can_need_it_and_what_was_found_stays(operator):
    old = timezone.now() - imports_module.KEPT - timedelta(hours=1)
    waiting, sound = submit(operator, hosts_file(2)), done(submit(operator, hosts_file(3), dry_run=True))
    late, applied = (done(submit(operator, hosts_file(2), dry_run=True)) for _ in range(2))
    ImportJob.objects.filter(pk=late.pk).update(finished_at=old)
    import_cancel(import_apply(sound, owner=operator))
    bad = done(submit(operator, hosts_file(1, rack="nowhere"), dry_run=True))
    failed = done(submit(operator, hosts_file(1, rack="nowhere")))
    import_cancel(cancelled := submit(operator, hosts_file(2)))
    written = done(import_apply(applied, owner=operator))
    storing, lost = (upload_keep(io.BytesIO(b"no import yet")) for _ in range(2))
    ImportUpload.objects.exclude(pk=storing.pk).update(created_at=old)
    assert kept() > {job.upload_id for job in (late, bad, failed, cancelled, written)} | {lost.pk}
    purge()
    assert kept() == {waiting.upload_id, sound.upload_id, storing.pk}
    written.refresh_from_db()
    assert (written.upload, written.counts["hosts"]["created"]) == (None, 2)


def test_a_file_that_is_applied_while_others_are_removed_stays(operator, monkeypatch):
    """Its dry run is too old when the files are listed, and applied before it is its turn."""
    dry = done(submit(operator, hosts_file(2), dry_run=True))
    ImportJob.objects.filter(pk=dry.pk).update(finished_at=timezone.now() - imports_module.KEPT - timedelta(hours=1))
    unneeded = imports_module._uploads_unneeded

    def listed():
        monkeypatch.setattr(imports_module, "_uploads_unneeded", unneeded)
        ids = ImportUpload.objects.filter(pk__in=list(unneeded().values_list("pk", flat=True)))
        assert ids.get().pk == dry.upload_id
        import_apply(dry, owner=operator)
        return ids

    monkeypatch.setattr(imports_module, "_uploads_unneeded", listed)
    assert uploads_purge() == 0
    assert kept() == {dry.upload_id}


def test_the_files_of_an_account_take_no_more_than_so_much(operator, settings):
    settings.IMPORT_KEPT_BYTE = 2 * len(hosts_file(1)) + 10
    submit(operator, hosts_file(1))
    ended = done(submit(operator, hosts_file(1)))
    dry = done(submit(operator, hosts_file(1), dry_run=True))  # what has ended makes room
    assert not ImportUpload.objects.filter(pk=ended.upload_id).exists()
    with pytest.raises(ImportRefusedError, match="no more than 96 are kept: apply the sound dry runs") as caught:
        submit(operator, hosts_file(1))
    assert caught.value.code == "too_much_kept"
    done(import_apply(dry, owner=operator))
    submit(operator, hosts_file(1))
