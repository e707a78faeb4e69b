from datetime import date, timedelta
from types import SimpleNamespace

import pytest
from django.apps import apps
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.db.models import ProtectedError
from django.test.utils import CaptureQueriesContext

from fleet.audit import Author, changes_verify, row_values, writing_as
from fleet.batches import Batch, _update
from fleet.inventory import BY_KIND, INVENTORY
from fleet.models import (
    Card,
    Change,
    ChangeSet,
    Delivery,
    FirmwareSet,
    Gate,
    Hall,
    Host,
    HostType,
    Lot,
    Maintenance,
    Order,
    PowerLink,
    PowerNode,
    Rack,
    Readiness,
    Region,
    RegionLimit,
    Row,
    Service,
    Site,
)
from fleet.models.versioned import Versioned
from fleet.services import (
    RowsWriteError,
    StaleVersionError,
    UndoConflictError,
    change_set_undo,
    change_undo,
    row_delete,
    row_save,
    rows_write,
)
from tests.fleet.kinds import CHIP, DAY, every_kind, host_type_row, place_rows

pytestmark = pytest.mark.django_db


@pytest.fixture
def place(db):
    rows = place_rows()
    return SimpleNamespace(**rows, kind=host_type_row())


def hosts_new(place, count, **values):
    facts = {"rack": place.rack, "host_type": place.kind, **values}
    return [Host(slug=f"h-{at}", position_u=1 + 6 * at, **facts) for at in range(count)]


def last_changes():
    return list(ChangeSet.objects.latest("number").changes.order_by("position"))


def refused(model, **rows):
    with pytest.raises(RowsWriteError) as caught:
        rows_write(model, **rows)
    return caught.value


# --- one row ----------------------------------------------------------------------------------------------------------
def test_a_new_row_is_logged_with_all_its_values(place):
    with writing_as(Author(None, "ann", "a new one", "req-1")):
        row = row_save(Host(slug="h-1", rack=place.rack, host_type=place.kind))
    (change,) = last_changes()
    assert (change.kind, change.object_id, change.label, change.action) == ("host", row.pk, "h-1", "create")
    assert (change.before, change.after) == (None, row_values(Host.objects.get()))
    assert change.region_pk == place.region.pk
    assert (change.change_set.actor_name, change.change_set.why) == ("ann", "a new one")
    assert row.version == 1
    assert not row._state.adding


def test_an_edit_is_logged_with_what_differs_and_takes_the_next_version(place):
    place.rack.height_u = 42
    row_save(place.rack, version=1)
    (change,) = last_changes()
    assert (change.before, change.after) == ({"height_u": 48, "version": 1}, {"height_u": 42, "version": 2})
    stored = Rack.objects.get()
    assert (stored.version, stored.height_u, stored.updated_at) == (2, 42, place.rack.updated_at)
    assert place.rack.version == 2


def test_an_edit_without_a_version_takes_the_next_one_too(place):
    Rack.objects.update(version=7)
    place.rack.height_u = 42
    assert row_save(place.rack).version == 8


def test_an_edit_that_changes_nothing_is_not_logged_and_raises_no_version(place):
    row_save(place.rack, version=1)
    assert not ChangeSet.objects.exists()
    assert Rack.objects.get().version == 1
    with pytest.raises(StaleVersionError):
        row_save(place.rack, version=2)


def test_a_stale_edit_is_refused_and_leaves_nothing(place):
    Rack.objects.update(version=2)
    place.rack.height_u = 42
    with pytest.raises(StaleVersionError):
        row_save(place.rack, version=1)
    assert Rack.objects.get().height_u == 48
    assert not ChangeSet.objects.exists()
    with pytest.raises(StaleVersionError):
        row_save(Rack(pk=99, row=place.row, slug="x", power_limit_w=1), version=1)


BAD_ROWS = [
    (Host, {"slug": "not a slug"}),
    (Host, {"position_u": 0}),
    (Host, {"face": "top"}),
    (Host, {"in_service_on": date(2027, 2, 1), "out_of_service_on": date(2027, 1, 1)}),
    (Host, {"in_service_on": date(1999, 1, 1)}),
    (Host, {"in_service_on": "soon"}),
    (Host, {"rack_id": None}),
    (Host, {"host_type_id": 99}),
    (Rack, {"power_limit_w": float("nan")}),
    (Rack, {"height_u": "many"}),
    (Rack, {"slug": ""}),
    (HostType, {"chip": "ascend-910x", "idle_w": 9000}),
    (HostType, {"price": "1.234"}),
    (Service, {"model": "qwen9-1t", "profile": "nobody"}),
    (Service, {"growth_low_ratio": 0.5}),
    (PowerNode, {"kind": "ups"}),
    (PowerNode, {"rating_va": None, "voltage_v": 400}),
    (PowerNode, {"phases": 2}),
    (Delivery, {"slip_p50_days": 0.001}),
    (Gate, {"state": "passed"}),
]


@pytest.mark.parametrize(("model", "values"), BAD_ROWS)
def test_a_row_is_refused_for_what_django_would_refuse_it_for(model, values):
    row = every_kind()[model._meta.model_name]
    for name, value in values.items():
        setattr(row, name, value)
    with pytest.raises(ValidationError) as django:
        row.full_clean()
    for name, value in values.items():
        setattr(row, name, value)
    with pytest.raises(ValidationError) as ours:
        row_save(row)
    assert ours.value.message_dict == django.value.message_dict


def test_every_kind_is_saved_as_it_is():
    for kind, row in every_kind().items():
        row_save(type(row).objects.get(pk=row.pk), version=1)
        assert not ChangeSet.objects.exists(), kind


def test_a_row_that_is_there_twice_is_refused_as_django_says_it(place):
    for row in (Rack(slug=place.rack.slug, row=place.row, power_limit_w=1), Hall(slug="h1", site=place.site, name="x")):
        with pytest.raises(ValidationError) as django:
            row.full_clean()
        with pytest.raises(ValidationError) as ours:
            row_save(row)
        assert ours.value.message_dict == django.value.message_dict
        assert row.pk is None


def test_rows_beside_the_fleet_are_saved_as_before_and_not_logged():
    from scenarios.models import Scenario

    assert not isinstance(Scenario, tuple(entry.model for entry in INVENTORY.values()))
    assert issubclass(Scenario, Versioned)
    assert "scenario" not in BY_KIND
    with pytest.raises(ValueError, match="no kind of row of the fleet"):
        rows_write(Scenario)


# --- deletions --------------------------------------------------------------------------------------------------------
def test_a_deletion_is_logged_with_all_values_and_what_goes_with_it_first():
    rows = every_kind()
    for name in ("placement", "card"):
        row_delete(rows[name])
    host, maintenance = rows["host"], rows["maintenance"]
    row_delete(host, version=1)
    first, second = last_changes()
    assert (first.kind, first.object_id, first.action) == ("maintenance", maintenance.pk, "delete")
    assert (second.kind, second.object_id, second.label) == ("host", host.pk, "host-1")
    assert second.before == row_values(host)
    assert (second.after, second.region_pk) == (None, rows["region"].pk)
    assert not Host.objects.exists()
    assert not Maintenance.objects.exists()


def test_what_is_used_stays_and_the_users_are_named():
    rows = every_kind()
    with pytest.raises(ProtectedError, match=r"1 card \(c-1\)") as caught:
        row_delete(rows["host"])
    assert caught.value.protected_objects == {rows["card"], rows["placement"]}
    assert Host.objects.exists()
    error = refused(Rack, delete=[rows["rack"]])
    assert {e.message.partition(":")[0] for e in error.errors} == {
        "it is used by 1 host (host-1)",
        "it is used by 1 power node (feed-a)",
        "it is used by 1 network node (tor-1)",
    }


def test_a_link_goes_with_its_node_and_keeps_its_source():
    rows = every_kind()
    feed, ups = rows["powernode"], PowerNode.objects.get(slug="ups-1")
    assert "it is used by 1 power link" in str(refused(PowerNode, delete=[ups]))
    report = rows_write(PowerNode, delete=[ups, feed])  # the link goes with the feed, so nothing holds the source
    assert (report.deleted, report.cascaded) == (2, 1)
    assert [change.kind for change in report.changes] == ["powerlink", "powernode", "powernode"]
    assert not PowerLink.objects.exists()


def test_rows_that_only_note_another_one_go_without_a_word(place):
    limit = RegionLimit.objects.create(user=User.objects.create_user("ann"))
    region = Region.objects.create(slug="south", name="South")
    limit.regions.set([region, place.region])
    assert rows_write(Region, delete=[region]).cascaded == 0
    assert list(limit.regions.all()) == [place.region]


def test_a_stale_deletion_is_refused(place):
    host = row_save(*hosts_new(place, 1))
    Host.objects.update(version=2)
    with pytest.raises(StaleVersionError):
        row_delete(host, version=1)
    assert refused(Host, delete=[host]).stale
    row_delete(host)
    assert not Host.objects.exists()
    row_delete(host)
    with pytest.raises(StaleVersionError):
        row_delete(host, version=2)


def test_every_reference_to_the_fleet_holds_or_goes_with_what_it_refers_to():
    """Deletions know these two; a reference that is emptied instead would be an edit that nobody logs."""
    for model in apps.get_models():
        for field in model._meta.concrete_fields:
            if isinstance(field, models.ForeignKey) and field.related_model in {e.model for e in INVENTORY.values()}:
                assert field.remote_field.on_delete in {models.CASCADE, models.PROTECT}, field


# --- many rows --------------------------------------------------------------------------------------------------------
def test_many_rows_are_one_set(place):
    new = hosts_new(place, 3)
    report = rows_write(Host, create=new, why="an import")
    assert (report.created, report.updated, report.deleted, report.change_set.why) == (3, 0, 0, "an import")
    assert [change.object_id for change in last_changes()] == [host.pk for host in new]
    assert sorted(Host.objects.values_list("pk", "slug")) == sorted((host.pk, host.slug) for host in new)
    for host in new[:2]:
        host.planned_on = DAY
    new[2].refresh_from_db()
    report = rows_write(
        Host, create=[Host(slug="x", rack=place.rack, host_type=place.kind)], update=new[:2], delete=new[2:]
    )
    assert (report.created, report.updated, report.deleted) == (1, 2, 1)
    assert [change.action for change in last_changes()] == ["delete", "update", "update", "create"]
    assert [host.version for host in new[:2]] == [2, 2]
    assert changes_verify().sound


def test_rows_may_have_the_names_of_those_that_are_deleted_with_them(place):
    old = row_save(*hosts_new(place, 1))
    report = rows_write(Host, create=hosts_new(place, 1), delete=[old])
    assert (report.created, report.deleted) == (1, 1)
    assert Host.objects.get().pk != old.pk


def test_ids_of_rows_that_are_gone_are_not_given_again(place):
    first = row_save(*hosts_new(place, 1))
    pk = first.pk
    row_delete(first)
    assert row_save(*hosts_new(place, 1)).pk > pk


def test_edits_of_different_fields_are_written_and_logged_each_with_its_own(place):
    one, other, same = new = hosts_new(place, 3)
    rows_write(Host, create=new)
    one.position_u, other.planned_on = None, DAY
    report = rows_write(Host, update=[one, other, same])
    assert (report.updated, report.unchanged) == (2, 1)
    assert [sorted(change.after) for change in last_changes()] == [["position_u", "version"], ["planned_on", "version"]]
    assert list(Host.objects.order_by("pk").values_list("position_u", "planned_on", "version")) == [
        (None, None, 2),
        (7, DAY, 2),
        (13, None, 1),
    ]


def test_what_is_wrong_with_every_row_is_told_by_index(place):
    rows_write(Host, create=hosts_new(place, 2))
    stale, gone, fine = (
        Host.objects.get(slug="h-0"),
        Host(pk=999, slug="g", rack=place.rack),
        Host.objects.get(slug="h-1"),
    )
    gone.host_type = place.kind
    Host.objects.filter(slug="h-0").update(version=5)
    create = [
        Host(slug="ok", rack=place.rack, host_type=place.kind),
        Host(slug="h-0", rack=place.rack, host_type=place.kind),
        Host(slug="twice", rack_id=999, host_type=place.kind, position_u=0),
        Host(slug="twice", rack=place.rack, host_type=place.kind),
        Host(slug="a\0b", rack=place.rack, host_type=place.kind, face="top"),
    ]
    error = refused(Host, create=create, update=[stale, gone, fine], delete=[fine])
    assert [(at, field) for at, field, _ in error.errors] == [
        *[(1, "slug"), (2, "position_u"), (2, "rack"), (3, "slug"), (4, "face"), (4, "slug")],
        *[(5, "version"), (6, "version"), (8, "")],
    ]
    texts = {(at, field): message for at, field, message in error.errors}
    assert texts[1, "slug"] == "Host with this Slug already exists."
    assert texts[3, "slug"] == "Host with this Slug already exists. Row 2 of this batch is one."
    assert texts[5, "version"] == "somebody else has edited it since: it has version 5, not 1"
    assert texts[8, ""] == "this row is named twice"
    assert not error.stale
    assert not Host.objects.filter(slug="ok").exists()
    assert [row.pk for row in create] == [None] * 5


def test_a_thousand_errors_are_listed_and_all_are_counted(place):
    error = refused(Host, create=[Host(slug="x x", rack=place.rack, host_type=place.kind) for _ in range(1500)])
    assert len(error.errors) == 1000
    assert error.count == 1500
    assert "1500 errors" in str(error)


def test_what_a_check_over_rows_refuses_is_told_by_index_and_leaves_nothing(place):
    new = hosts_new(place, 3)
    new[2].position_u = 3
    error = refused(Host, create=new)
    assert [(at, field) for at, field, _ in error.errors] == [(at, "position_u") for at in (0, 1, 2, 2)]
    assert "hosts h-0 and h-2 both fill units 3 to 6" in error.errors[0].message
    assert not Host.objects.exists()
    assert not ChangeSet.objects.exists()
    assert [host.pk for host in new] == [None, None, None]
    new[2].position_u = 13
    assert rows_write(Host, create=new).created == 3, "the rows themselves are as they were"


def test_an_edit_that_is_refused_leaves_the_version_of_the_row(place):
    one, other = new = hosts_new(place, 2)
    rows_write(Host, create=new)
    other.position_u = 1
    refused(Host, update=[one, other])
    assert other.version == 1
    other.position_u = 20
    assert rows_write(Host, update=[other]).updated == 1


def test_a_dry_run_says_what_would_be_and_leaves_nothing(place):
    old = row_save(*hosts_new(place, 1))
    old.planned_on = DAY
    new = Host(slug="x", rack=place.rack, host_type=place.kind)
    report = rows_write(Host, create=[new], update=[old], dry_run=True)
    assert (report.created, report.updated, report.change_set) == (1, 1, None)
    assert [(change.action, change.label) for change in report.changes] == [("update", "h-0"), ("create", "x")]
    assert report.changes[0].after == {"planned_on": DAY.isoformat(), "version": 2}
    assert (Host.objects.count(), ChangeSet.objects.count()) == (1, 1)
    assert (new.pk, old.version) == (None, 1)
    assert rows_write(Host, create=[new], update=[old]).updated == 1
    with pytest.raises(RowsWriteError):
        rows_write(Host, create=[Host(slug="x", rack=place.rack, host_type=place.kind)], dry_run=True)


def test_a_key_of_several_fields_is_looked_at_as_one(place):
    rows_write(FirmwareSet, create=[FirmwareSet(slug=f"a{at}", chip=CHIP, rank=at) for at in range(3)])
    create = [FirmwareSet(slug="b1", chip=CHIP, rank=9), FirmwareSet(slug="b2", chip=CHIP, rank=2)]
    error = refused(FirmwareSet, create=[*create, FirmwareSet(slug="b3", chip="h20-96", rank=2)])
    assert [(at, field) for at, field, _ in error.errors] == [(1, "")]
    assert error.errors[0].message == "Firmware set with this Chip and Rank already exists."


def test_a_row_that_was_read_in_part_is_not_written(place):
    row = Rack.objects.only("slug").get()
    with pytest.raises(ValueError, match="read in part"):
        rows_write(Rack, update=[row])


def test_nothing_to_write_is_no_set(place):
    assert rows_write(Host).change_set is None
    assert rows_write(Host, update=[]).changes == ()
    assert not ChangeSet.objects.exists()


def test_the_row_count_decides_even_if_a_lock_did_not_hold(place):
    one, other = new = hosts_new(place, 2)
    rows_write(Host, create=new)
    batch = Batch(Host, update=[one, other], start=3)
    batch.present = {host.pk: Host.objects.get(pk=host.pk) for host in new}
    Host.objects.filter(pk=other.pk).update(version=9)
    with pytest.raises(StaleVersionError) as caught, transaction.atomic():
        _update(batch, new, ["planned_on"])
    assert caught.value.args == (4,), "the index of the row that somebody else has written"


def queries_of(write):
    with CaptureQueriesContext(
        connection,
    ) as queries:
        write()
    return len(queries)


COPIES = {
    "hall": lambda at, rows: Hall(site=rows["site"], slug=f"n{at}", name="x"),
    "row": lambda at, rows: Row(hall_id=rows["hall"].pk, slug=f"n{at}"),
    "delivery": lambda at, rows: Delivery(
        slug=f"n{at}", site_id=rows["site"].pk, host_type_id=rows["hosttype"].pk, quantity=1, expected_on=DAY
    ),
    "host": lambda at, rows: Host(slug=f"n{at}", rack_id=rows["rack"].pk, host_type_id=rows["hosttype"].pk),
    "card": lambda at, rows: Card(serial=f"n{at}", host_id=rows["host"].pk, slot=at + 1),
    "lot": lambda at, rows: Lot(slug=f"n{at}", chip=CHIP),
    "order": lambda at, rows: Order(
        slug=f"n{at}", supplier="x", host_type_id=rows["hosttype"].pk, quantity=1, ordered_on=DAY
    ),
}


@pytest.mark.parametrize("kind", COPIES)
def test_queries_do_not_grow_with_the_rows(kind):
    """The set-based reads see every kind; SQLite counts a bulk insert as one, too."""
    rows, model = every_kind(), BY_KIND[kind].model
    row_save(Region(slug="first", name="First"))  # makes the head of the log
    counts = []
    for batch in (range(1), range(1, 5)):
        new = [COPIES[kind](at, rows) for at in batch]
        made = queries_of(lambda new=new: rows_write(model, create=new))
        read = list(model.objects.filter(pk__in=[row.pk for row in new]))
        for row in read:
            setattr(row, *(("planned_on", DAY) if hasattr(row, "planned_on") else ("note", "x")))
        edited = queries_of(lambda read=read: rows_write(model, update=read))
        fresh = list(model.objects.filter(pk__in=[row.pk for row in new]))
        gone = queries_of(lambda fresh=fresh: rows_write(model, delete=fresh))
        counts.append((made, edited, gone))
    assert counts[0] == counts[1]


# --- undo -------------------------------------------------------------------------------------------------------------
def state():
    """Every row of the fleet but its version and times."""
    return {
        (kind, row.pk): {name: value for name, value in row_values(row).items() if name != "version"}
        for kind, entry in BY_KIND.items()
        for row in entry.model.objects.all()
    }


def test_a_creation_an_edit_and_a_deletion_are_undone(place):
    before = state()
    host = row_save(*hosts_new(place, 1))
    created = state()
    host.position_u = 9
    row_save(host)
    edited = state()
    row_delete(host)
    last, middle, first = ChangeSet.objects.all()
    undone = change_set_undo(last, why="no")
    assert (undone.undo_of, undone.why) == (last, "no")
    assert state() == edited
    assert Host.objects.get().version == 3, "one more than it had when it was deleted"
    change_set_undo(middle, why="no")
    assert state() == created
    change_set_undo(first, why="no")
    assert state() == before
    assert changes_verify().sound


def test_a_bulk_write_of_all_three_is_undone_and_the_undo_too(place):
    rows_write(Host, create=hosts_new(place, 4))
    hosts = list(Host.objects.order_by("pk"))
    hosts[0].position_u, hosts[1].out_of_service_on = 40, DAY
    before = state()
    new = [Host(slug="n", rack=place.rack, host_type=place.kind)]
    written = rows_write(Host, create=new, update=hosts[:2], delete=hosts[2:]).change_set
    after = state()
    assert after != before
    undone = change_set_undo(written, why="no")
    assert state() == before
    change_set_undo(undone, why="yes")
    assert state() == after


def test_a_deletion_with_all_that_went_with_it_is_undone():
    rows = every_kind()
    before = state()
    written = rows_write(PowerNode, delete=[rows["powernode"]]).change_set
    assert written.rows == 2
    change_set_undo(written, why="no")
    assert state() == before


@pytest.mark.parametrize("kind", BY_KIND)
def test_rows_of_every_kind_come_back_as_they_were(kind):
    """Whatever refers to the row is deleted before it, and comes back after it."""
    every_kind()
    before, sets = state(), []

    def remove(row):
        for relation in row._meta.related_objects:
            for user in relation.related_model.objects.filter(**{relation.field.name: row}):
                if isinstance(user, Versioned):
                    remove(user)
        if type(row).objects.filter(pk=row.pk).exists():
            sets.append(rows_write(type(row), delete=[type(row).objects.get(pk=row.pk)]).change_set)

    remove(BY_KIND[kind].model.objects.first())
    assert state() != before
    for change_set in reversed(sets):
        change_set_undo(change_set, why="no")
    assert state() == before
    assert changes_verify().sound


def test_what_was_edited_since_is_named_and_nothing_is_undone(place):
    new = hosts_new(place, 2)
    created = rows_write(Host, create=new).change_set
    for host in new:
        host.planned_on = DAY
    edited = rows_write(Host, update=new).change_set
    new[1].planned_on = DAY + timedelta(days=1)
    row_save(new[1])
    with pytest.raises(UndoConflictError) as caught:
        change_set_undo(edited, why="no")
    assert [(one.label, one.field) for one in caught.value.conflicts] == [("h-1", "planned_on")]
    assert "'2027-03-02' now, and was left as '2027-03-01'" in str(caught.value)
    with pytest.raises(UndoConflictError) as caught:
        change_set_undo(created, why="no")
    assert [(one.label, one.field) for one in caught.value.conflicts] == [("h-1", "planned_on"), ("h-0", "planned_on")]
    assert Host.objects.get(slug="h-0").planned_on == DAY


def test_an_edit_of_another_field_is_no_conflict(place):
    place.rack.height_u = 42
    row_save(place.rack)
    edited = ChangeSet.objects.get()
    place.rack.position = 9
    row_save(place.rack)
    change_set_undo(edited, why="no")
    rack = Rack.objects.get()
    assert (rack.height_u, rack.position, rack.version) == (48, 9, 4)


def test_a_row_that_is_gone_or_back_is_a_conflict(place):
    host = row_save(*hosts_new(place, 1))
    row_delete(host)
    deleted, created = ChangeSet.objects.all()
    with pytest.raises(UndoConflictError, match="h-0: it is not there any more"):
        change_set_undo(created, why="no")
    change_set_undo(deleted, why="no")
    with pytest.raises(UndoConflictError, match="h-0: it is there again"):
        change_set_undo(deleted, why="no")


def test_a_name_that_was_taken_since_is_a_conflict(place):
    row_delete(row_save(*hosts_new(place, 1)))
    deleted = ChangeSet.objects.latest("number")
    row_save(Host(slug="h-0", rack=place.rack, host_type=place.kind))
    with pytest.raises(UndoConflictError, match="h-0: slug: Host with this Slug already exists"):
        change_set_undo(deleted, why="no")


def test_what_was_refused_then_is_refused_when_it_comes_back(place):
    row_delete(row_save(*hosts_new(place, 1)))
    deleted = ChangeSet.objects.latest("number")
    row_save(Host(slug="n", rack=place.rack, host_type=place.kind, position_u=2))
    with pytest.raises(UndoConflictError, match="h-0: position_u: hosts h-0 and n both fill units"):
        change_set_undo(deleted, why="no")


def test_what_is_used_by_now_is_not_unmade(place):
    host = row_save(*hosts_new(place, 1))
    created = ChangeSet.objects.get()
    row_save(Card(serial="c-1", host=host, slot=1))
    with pytest.raises(UndoConflictError, match=r"h-0: it is used by 1 card \(c-1\)"):
        change_set_undo(created, why="no")


def test_a_row_does_not_come_back_to_a_place_that_is_gone(place):
    row_delete(row_save(*hosts_new(place, 1)))
    deleted = ChangeSet.objects.latest("number")
    rack = Rack.objects.get()
    row_delete(rack)
    with pytest.raises(UndoConflictError, match="h-0: rack: rack instance with id"):
        change_set_undo(deleted, why="no")


def test_a_field_that_is_no_more_is_a_conflict(place):
    place.rack.height_u = 42
    row_save(place.rack)
    Change.objects.update(before={"height_mm": 1, "version": 1})
    with pytest.raises(UndoConflictError, match="height_mm: there is no such field any more"):
        change_set_undo(ChangeSet.objects.get(), why="no")


def test_one_change_of_a_set_is_undone_by_itself(place):
    new = hosts_new(place, 3)
    created = rows_write(Host, create=new).change_set
    undone = change_undo(created.changes.get(position=1), why="one too many")
    assert (undone.undo_of, undone.rows) == (created, 1)
    assert sorted(Host.objects.values_list("slug", flat=True)) == ["h-0", "h-2"]


def test_an_undo_is_its_author_s(place):
    row_save(*hosts_new(place, 1))
    with writing_as(Author(None, "bob", "before", "req-9")):
        undone = change_set_undo(ChangeSet.objects.get(), why="a mistake")
    assert (undone.actor_name, undone.why, undone.request_id) == ("bob", "a mistake", "req-9")


# --- values -----------------------------------------------------------------------------------------------------------
def test_values_are_stored_as_what_they_mean(place):
    report = rows_write(
        Order,
        create=[
            Order(slug="o", supplier="s", host_type=place.kind, quantity="3", ordered_on="2027-01-01", unit_price="1.5")
        ],
    )
    order = Order.objects.get()
    assert (order.quantity, order.ordered_on) == (3, date(2027, 1, 1))
    assert report.changes[0].after == row_values(order)
    node = PowerNode(slug="n", site=place.site, kind="ups", rating_va="1e5", voltage_v="", current_a="")
    rows_write(PowerNode, create=[node])
    assert (node.rating_va, node.voltage_v) == (1e5, None)


def test_a_catalog_is_not_parsed_for_each_row(monkeypatch):
    calls = []
    monkeypatch.setattr("fleet.models.hosts.chip_get", calls.append)
    rows_write(Lot, create=[Lot(slug=f"l{at}", chip=CHIP) for at in range(100)])
    assert calls == [CHIP]


def test_readiness_that_refers_to_an_id_that_no_database_has_is_refused(place):
    error = refused(Readiness, create=[Readiness(service_id=2**70, chip=CHIP, ready_on=DAY)])
    assert [(at, field) for at, field, _ in error.errors] == [(0, "service")]


def test_a_region_moves_the_changes_of_its_rows_and_a_policy_lies_where_it_says(place):
    rows = {
        change.kind: change
        for change in rows_write(Site, create=[Site(slug="s", name="s", region=place.region)]).changes
    }
    assert rows["site"].region_pk == place.region.pk
    report = rows_write(Region, create=[Region(slug="south", name="South")])
    assert report.changes[0].region_pk == report.changes[0].object_id
    assert rows_write(Lot, create=[Lot(slug="l", chip=CHIP)]).changes[0].region_pk is None
