import hashlib
import math
from dataclasses import replace
from datetime import UTC, date, datetime
from decimal import Decimal
from io import StringIO

import orjson
import pytest
from django.contrib.auth.models import User
from django.core.exceptions import ValidationError
from django.core.management import CommandError, call_command
from django.db import connection, models, transaction

from fleet.audit import (
    HASH_FIRST,
    Author,
    ChangeDraft,
    author_current,
    changes_verify,
    changes_write,
    columns_of,
    row_values,
    writing_as,
)
from fleet.inventory import BY_KIND, INVENTORY
from fleet.models import Change, ChangeHead, ChangeSet, HostType, Region, Site
from fleet.services import row_save
from tests.fleet.kinds import every_kind

pytestmark = pytest.mark.django_db


def draft(number=1, **values):
    facts = {"kind": "region", "object_id": number, "label": f"r-{number}", "action": Change.Action.CREATE}
    return ChangeDraft(**{**facts, "region_pk": None, "before": None, "after": {"slug": f"r-{number}"}, **values})


def sets_write(*counts):
    with transaction.atomic():
        return [changes_write([draft(at) for at in range(count)]) for count in counts]


# --- who writes -------------------------------------------------------------------------------------------------------
def test_the_innermost_author_writes_and_the_system_otherwise():
    assert author_current() == Author(None, "system")
    with writing_as(Author(None, "outer")):
        with writing_as(Author(None, "inner")):
            assert author_current().name == "inner"
        assert author_current().name == "outer"
    assert author_current().name == "system"


@pytest.mark.parametrize("text", ["x" * 501, "a\0b", "a\ud800b"])
def test_an_author_whose_reason_cannot_be_kept_is_refused_by_name(text):
    with pytest.raises(ValidationError) as caught:
        Author(None, "ann", why=text)
    assert set(caught.value.message_dict) == {"why"}


def test_a_set_says_who_when_why_and_in_which_request():
    ann = User.objects.create_user("ann")
    with writing_as(Author(ann.pk, "ann", "moved", "req-1")), transaction.atomic():
        changes_write([draft()])
    written = ChangeSet.objects.get()
    assert (written.actor, written.actor_name, written.why, written.request_id) == (ann, "ann", "moved", "req-1")
    assert (written.number, written.rows, written.previous_hash) == (1, 1, HASH_FIRST)
    ann.delete()
    assert changes_verify().sound, "an account that is gone leaves its sets as they were"


# --- rows as JSON -----------------------------------------------------------------------------------------------------
def test_values_of_every_kind_are_json_and_the_same_when_read_back():
    for kind, row in every_kind().items():
        values = row_values(row)
        assert set(values) == {f.attname for f in type(row)._meta.concrete_fields} - {"id", "created_at", "updated_at"}
        assert orjson.loads(orjson.dumps(values)) == values, kind
        assert row_values(type(row).objects.get(pk=row.pk)) == values, kind


@pytest.mark.parametrize(
    ("field", "value", "shown"),
    [
        pytest.param(models.FloatField(), 5500.0, 5500, id="a whole float is an integer"),
        pytest.param(models.FloatField(), -0.0, 0, id="no negative zero"),
        pytest.param(models.FloatField(), 1e15, 10**15, id="large"),
        pytest.param(models.FloatField(), 1e-300, 1e-300, id="small"),
        pytest.param(models.DecimalField(decimal_places=2, max_digits=9), Decimal(5), "5.00", id="all places"),
        pytest.param(models.DateField(), date(2027, 1, 2), "2027-01-02", id="day"),
        pytest.param(
            models.DateTimeField(), datetime(2027, 1, 2, tzinfo=UTC), "2027-01-02T00:00:00.000000+00:00", id="moment"
        ),
        pytest.param(models.FloatField(null=True), None, None, id="nothing"),
    ],
)
def test_a_value_has_one_way_to_be_written(field, value, shown):
    from fleet.audit import _as_json

    found = _as_json(field)(value)
    assert found == shown
    assert type(found) is type(shown)


def test_numbers_come_back_from_the_database_as_they_were_hashed():
    numbers = [
        0.1,
        1 / 3,
        1e-300,
        1.7976931348623157e15 + 0.25,
        -2.5e-7,
        math.pi,
        10**15,
        2**53 + 1,
        True,
        None,
        "5.00",
    ]
    with transaction.atomic():
        changes_write([draft(after={"values": numbers, "text": '机房 é " \\ \n'})])
    assert Change.objects.get().after["values"] == numbers
    assert changes_verify().sound


# --- appending --------------------------------------------------------------------------------------------------------
def test_sets_follow_one_another_without_gaps():
    first, second = sets_write(1, 3)
    assert (first.number, second.number) == (1, 2)
    assert second.previous_hash == first.hash
    assert (ChangeHead.objects.get().number, ChangeHead.objects.get().hash) == (2, second.hash)
    assert list(second.changes.values_list("position", flat=True)) == [0, 1, 2]


def test_what_is_rolled_back_leaves_no_gap():
    sets_write(1)
    with transaction.atomic():
        changes_write([draft()])
        transaction.set_rollback(True)
    (second,) = sets_write(1)
    assert second.number == 2
    assert changes_verify().sound


def test_a_set_without_changes_is_none():
    with pytest.raises(ValueError, match="no change"), transaction.atomic():
        changes_write([])


@pytest.mark.django_db(transaction=True)
def test_changes_are_written_in_the_transaction_of_their_rows():
    with pytest.raises(transaction.TransactionManagementError):
        changes_write([draft()])


def test_the_hashes_are_those_of_these_bytes():
    """Written out by hand: whoever changes how hashes are made breaks every chain that exists."""
    with writing_as(Author(None, "ann", "moved", "req-1")), transaction.atomic():
        made = changes_write([draft(5, region_pk=7, after={"b": 1.5, "a": None})])
    change_hash = hashlib.sha256(b'[0,"region",5,"r-5","create",7,null,{"a":null,"b":1.5}]').hexdigest()
    assert Change.objects.get().hash == change_hash
    at = made.at.astimezone(UTC).isoformat(timespec="microseconds")
    facts = f'["{HASH_FIRST}",1,"{at}","ann","moved","req-1",null,1]'
    assert made.hash == hashlib.sha256(f"{facts}\n{change_hash}".encode()).hexdigest()


# --- verifying --------------------------------------------------------------------------------------------------------
def update(model, condition, **values):
    """Write past every service, as somebody with a database shell."""
    assert model.objects.filter(**condition).update(**values)


def test_an_empty_log_is_sound():
    found = changes_verify()
    assert (found.sound, found.sets, found.changes, found.hash) == (True, 0, 0, HASH_FIRST)


def test_a_sound_log_is_counted_and_its_end_named():
    sets = sets_write(1, 2, 3)
    found = changes_verify()
    assert (found.sound, found.sets, found.changes, found.hash) == (True, 3, 6, sets[-1].hash)


@pytest.mark.parametrize(
    ("tamper", "number", "position", "told"),
    [
        pytest.param(
            lambda: update(Change, {"change_set__number": 2, "position": 1}, after={"slug": "x"}),
            *(2, 1, "not as it was sealed: region 1, 'r-1'"),
            id="after",
        ),
        pytest.param(
            lambda: update(Change, {"change_set__number": 2, "position": 0}, before={"slug": "x"}),
            *(2, 0, "change 0 of set 2"),
            id="before",
        ),
        pytest.param(
            lambda: update(Change, {"change_set__number": 2, "position": 0}, region_pk=7), 2, 0, "sealed", id="region"
        ),
        pytest.param(
            lambda: update(Change, {"change_set__number": 2, "position": 0}, hash="0" * 64), 2, 0, "sealed", id="hash"
        ),
        pytest.param(
            lambda: Change.objects.filter(change_set__number=2, position=1).delete(),
            *(2, 1, "change 1 of set 2 is missing: 'r-2' at 2 comes in its place"),
            id="a change is gone",
        ),
        pytest.param(
            lambda: Change.objects.filter(change_set__number=2, position=2).delete(),
            *(2, 2, "set 2 wrote 3 rows, and 2 changes are there"),
            id="the last change of a set is gone",
        ),
        pytest.param(
            lambda: Change.objects.create(
                change_set=ChangeSet.objects.get(number=2), position=1, kind="region", object_id=9, hash="1" * 64
            ),
            *(2, 1, "is there twice"),
            id="a change is added",
        ),
        pytest.param(lambda: update(ChangeSet, {"number": 2}, why="for fun"), 2, None, "set 2 is not as", id="why"),
        pytest.param(lambda: update(ChangeSet, {"number": 2}, actor_name="eve"), 2, None, "set 2 is not as", id="who"),
        pytest.param(
            lambda: update(ChangeSet, {"number": 2}, at=datetime(2020, 1, 1, tzinfo=UTC)), 2, None, "set 2", id="when"
        ),
        pytest.param(
            lambda: update(ChangeSet, {"number": 2}, hash="0" * 64), 2, None, "not as it was", id="hash of a set"
        ),
        pytest.param(
            lambda: update(ChangeSet, {"number": 2}, previous_hash="1" * 64), 2, None, "does not follow", id="link"
        ),
        pytest.param(
            lambda: (
                Change.objects.filter(change_set__number=2).delete(),
                ChangeSet.objects.filter(number=2).delete(),
            ),
            *(2, None, "set 2 is missing: set 3 follows set 1"),
            id="a set is gone",
        ),
        pytest.param(
            lambda: (
                Change.objects.filter(change_set__number=3).delete(),
                ChangeSet.objects.filter(number=3).delete(),
            ),
            *(3, None, "the head names set 3"),
            id="the last set is gone",
        ),
        pytest.param(
            lambda: (
                update(ChangeSet, {"number": 2}, number=99),
                update(ChangeSet, {"number": 3}, number=2),
                update(ChangeSet, {"number": 99}, number=3),
            ),
            *(2, None, "set 2 does not follow the set before it"),
            id="sets change places",
        ),
        pytest.param(
            lambda: (
                update(Change, {"change_set__number": 2, "position": 0}, position=99),
                update(Change, {"change_set__number": 2, "position": 1}, position=0),
                update(Change, {"change_set__number": 2, "position": 99}, position=1),
            ),
            *(2, 0, "change 0 of set 2 is not as it was sealed"),
            id="changes change places",
        ),
        pytest.param(lambda: update(ChangeHead, {}, hash="0" * 64), 3, None, "the head names", id="head"),
        pytest.param(lambda: ChangeHead.objects.all().delete(), 1, None, "the head names set 0", id="no head"),
    ],
)
def test_what_was_tampered_with_is_found_and_named(tamper, number, position, told):
    sets_write(1, 3, 1)
    assert changes_verify().sound
    tamper()
    found = changes_verify()
    assert not found.sound
    assert (found.number, found.position) == (number, position)
    assert told in found.fault
    assert found.sets in {number - 1, 3}


def forge():
    """Compute the chain anew after an edit, as somebody who has read the code would."""
    from fleet import audit

    update(Change, {"change_set__number": 1}, after={"slug": "forged"})
    previous = HASH_FIRST
    for change_set in ChangeSet.objects.order_by("number"):
        hashes = []
        for change in change_set.changes.order_by("position"):
            change.hash = audit._change_hash([getattr(change, name) for name in audit.COLUMNS[1:-1]])
            change.save()
            hashes.append(change.hash)
        change_set.previous_hash = previous
        change_set.hash = previous = audit._set_hash(change_set, None, hashes)
        change_set.save()
    ChangeHead.objects.update(hash=previous)


def test_only_a_hash_noted_elsewhere_finds_a_chain_computed_anew():
    noted = sets_write(1, 2)[-1].hash
    forge()
    assert changes_verify().sound
    found = changes_verify(expect=noted)
    assert not found.sound
    assert noted in found.fault


def test_only_a_hash_noted_elsewhere_finds_an_end_that_was_cut_with_the_head():
    sets = sets_write(1, 2)
    Change.objects.filter(change_set=sets[1]).delete()
    ChangeSet.objects.filter(pk=sets[1].pk).delete()
    ChangeHead.objects.update(number=1, hash=sets[0].hash)
    assert changes_verify().sound
    assert not changes_verify(expect=sets[1].hash).sound


def test_a_chain_that_has_grown_holds_the_hash_that_was_noted():
    noted = sets_write(1)[0].hash
    sets_write(1)
    assert changes_verify(expect=noted).sound
    assert changes_verify(expect=HASH_FIRST).sound


def test_sets_whose_ids_are_out_of_order_are_read_by_number():
    """PostgreSQL hands out ids before the chain is locked: a slow writer's are smaller than their neighbours'."""
    sets = sets_write(1, 1)
    free = 10_000
    for one in sets:
        free -= 1
        with connection.cursor() as cursor:
            cursor.execute("UPDATE fleet_changeset SET id = %s WHERE id = %s", [free, one.pk])
            cursor.execute("UPDATE fleet_change SET change_set_id = %s WHERE change_set_id = %s", [free, one.pk])
    assert changes_verify().sound


def test_the_chain_is_read_in_steps_whatever_its_length(monkeypatch, django_assert_num_queries):
    monkeypatch.setattr("fleet.audit.SETS_AT_ONCE", 2)
    sets_write(1, 2, 3, 1, 1)
    assert changes_verify() == replace(changes_verify(), sets=5, changes=8)


# --- the command ------------------------------------------------------------------------------------------------------
def verify_command(*args):
    out = StringIO()
    call_command("audit_verify", *args, stdout=out)
    return out.getvalue()


def test_the_command_prints_what_to_note_down():
    head = sets_write(1, 2)[-1].hash
    assert verify_command() == f"2 sets with 3 changes are sound, up to {head}\n"
    assert orjson.loads(verify_command("--json")) == {
        "sound": True,
        "sets": 2,
        "changes": 3,
        "hash": head,
        "fault": "",
        "number": None,
        "position": None,
    }
    assert verify_command("--expect", head)


def test_the_command_fails_on_a_fault():
    sets_write(1)
    update(ChangeSet, {}, why="for fun")
    with pytest.raises(CommandError, match="set 1 is not as it was sealed") as caught:
        verify_command()
    assert caught.value.returncode == 1


# --- every kind -------------------------------------------------------------------------------------------------------
def test_every_kind_has_a_name_that_the_log_can_hold():
    for entry in INVENTORY.values():
        assert len(entry.kind) <= Change._meta.get_field("kind").max_length
        assert BY_KIND[entry.kind].model is entry.model
        assert columns_of(entry.model)


def test_a_decimal_that_was_given_as_a_whole_number_is_logged_as_it_is_stored():
    kind = HostType(slug="x", name="x", chip="h20-96", chips=8, height_u=4, power_w=5000, idle_w=1, source="t", price=5)
    row_save(kind)
    change = Change.objects.get()
    assert change.after["price"] == "5.00"
    assert change.after == row_values(HostType.objects.get())


def test_a_number_that_was_given_as_text_is_logged_as_it_is_stored():
    region = Region.objects.create(slug="north", name="North")
    row_save(Site(slug="dc01", name="x", region_id=str(region.pk), pue_ratio="1.25"))
    change = Change.objects.get()
    assert (change.after["region_id"], change.after["pue_ratio"]) == (region.pk, 1.25)
    assert change.region_pk == region.pk
