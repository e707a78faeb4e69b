"""The log of every write of the fleet: who, when, why, from what to what; sealed by a chain of hashes.

A change has a hash over its own values, a set one over the set before, its own fields and its changes. Whoever alters,
removes or adds a row in the database breaks the chain; whoever computes the chain anew, or cuts its end and the head
with it, is found by a hash that was noted down elsewhere (`changes_verify(expect=...)`). The account that wrote is
sealed by name: a deleted account leaves its sets as they are.
"""

import hashlib
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cache
from itertools import islice
from typing import Any

import orjson
from django.core.exceptions import ValidationError
from django.db import connection, models, transaction
from django.utils.timezone import now

from fleet.inserts import ids_draw, rows_insert
from fleet.models import Change, ChangeHead, ChangeSet
from fleet.reading import one_view

HASH_FIRST = "0" * 64
KEPT_OUT = ("id", "created_at", "updated_at")
"""Fields that no change shows: the first is its `object_id`, the others its set's `at`."""
LABEL_MOST = 200
SETS_AT_ONCE = 500
COLUMNS = ("change_set_id", "position", "kind", "object_id", "label", "action", "region_pk", "before", "after", "hash")
NAME_MOST, WHY_MOST, REQUEST_MOST = 150, 500, 64

Values = dict[str, Any]


def text_is_sound(text: str) -> bool:
    """Return whether a database and a file can hold a text: no NUL, no half of a surrogate pair."""
    return "\0" not in text and not any("\ud800" <= letter <= "\udfff" for letter in text)


# --- who writes -------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Author:
    """Who writes, why, and in which request. A text that is too long to be kept is refused."""

    user_id: int | None = None
    name: str = "system"
    why: str = ""
    request_id: str = ""

    def __post_init__(self) -> None:
        """Look at the texts, which come from outside."""
        for name, most in (("name", NAME_MOST), ("why", WHY_MOST), ("request_id", REQUEST_MOST)):
            text = getattr(self, name)
            if len(text) > most:
                raise ValidationError({name: f"at most {most} characters are kept, not {len(text)}"})
            if not text_is_sound(text):
                raise ValidationError({name: "a character in it cannot be stored"})


_author: ContextVar[Author] = ContextVar("author", default=Author())  # noqa: B039 -- frozen


@contextmanager
def writing_as(author: Author) -> Iterator[None]:
    """Let every write inside be logged as somebody's."""
    token = _author.set(author)
    try:
        yield
    finally:
        _author.reset(token)


def author_current() -> Author:
    """Return who writes here: the innermost `writing_as`, or the system itself."""
    return _author.get()


# --- rows as JSON -----------------------------------------------------------------------------------------------------
def row_values(row: models.Model) -> Values:
    """Return the values of a row as JSON holds them, by column: foreign keys as ids under `rack_id`.

    What is read back is what was written, on every database: a whole float is an integer (PostgreSQL's jsonb knows
    numbers only), a decimal a text with all its places, a day and a moment in UTC are ISO 8601 texts.
    """
    return {name: as_json(getattr(row, name)) for name, as_json in columns_of(type(row))}


@cache
def columns_of(model: type[models.Model]) -> tuple[tuple[str, Callable[[Any], Any]], ...]:
    """Return the columns that a change shows, each with the function that turns its values into JSON."""
    fields = (field for field in model._meta.concrete_fields if field.attname not in KEPT_OUT)
    return tuple((field.attname, _as_json(field)) for field in fields)


def _as_json(field: "models.Field[Any, Any]") -> Callable[[Any], Any]:
    if isinstance(field, models.DecimalField):
        places = field.decimal_places
        return lambda value: None if value is None else f"{value:.{places}f}"
    if isinstance(field, models.FloatField):
        return lambda value: int(value) if value is not None and float(value).is_integer() else value
    if isinstance(field, models.DateTimeField):
        return lambda value: None if value is None else _moment(value)
    if isinstance(field, models.DateField):
        return lambda value: None if value is None else value.isoformat()
    return lambda value: value


def _moment(at: datetime) -> str:
    return at.astimezone(UTC).isoformat(timespec="microseconds")


# --- appending --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ChangeDraft:
    """One row written, before it has a place in the log. Of an edit, `before` and `after` hold what differs.

    `region_pk` is the region in which the row lies, or lay when it was deleted; None: everywhere.
    """

    kind: str
    object_id: int
    label: str
    action: Change.Action
    region_pk: int | None
    before: Values | None
    after: Values | None


def changes_write(drafts: Sequence[ChangeDraft], *, undo_of: ChangeSet | None = None) -> ChangeSet:
    """Append one set to the log, in the transaction that wrote the rows, as the last thing that it does.

    Whoever appends holds the head of the chain until the transaction ends: all that can be done before is.
    """
    if not connection.in_atomic_block:
        raise transaction.TransactionManagementError("changes are written in the transaction of their rows")
    if not drafts:
        raise ValueError("there is no change to write")
    author = author_current()
    (set_id,) = ids_draw(ChangeSet, 1)  # before the chain is locked; the key of its changes is looked at in the end
    hashes = _changes_insert(set_id, drafts)
    head = _head_lock()
    change_set = ChangeSet(
        id=set_id,
        number=head.number + 1,
        at=now(),
        actor_id=author.user_id,
        actor_name=author.name,
        why=author.why,
        request_id=author.request_id,
        undo_of=undo_of,
        rows=len(drafts),
        previous_hash=head.hash,
    )
    change_set.hash = _set_hash(change_set, undo_of.number if undo_of else None, hashes)
    change_set.save(force_insert=True)
    ChangeHead.objects.filter(pk=head.pk).update(number=change_set.number, hash=change_set.hash)
    return change_set


def _changes_insert(set_id: int, drafts: Sequence[ChangeDraft]) -> list[str]:
    """Insert the changes of a set, and return their hashes."""
    hashes, rows = [], []
    for position, draft in enumerate(drafts):
        label, action = draft.label[:LABEL_MOST], str(draft.action)
        facts = (position, draft.kind, draft.object_id, label, action, draft.region_pk)
        hashes.append(_change_hash([*facts, draft.before, draft.after]))
        rows.append((set_id, *facts, _text(draft.before), _text(draft.after), hashes[-1]))
    rows_insert(Change, COLUMNS, rows)
    return hashes


def _text(values: Values | None) -> str | None:
    return None if values is None else orjson.dumps(values).decode()


def _head_lock() -> ChangeHead:
    """Return the end of the chain, locked; the first who asks makes it."""
    heads = ChangeHead.objects.select_for_update().filter(pk=1)
    head = heads.first()
    if head is None:
        ChangeHead.objects.bulk_create([ChangeHead(pk=1)], ignore_conflicts=True)  # waits for another first one
        head = heads.get()
    return head


# --- hashes -----------------------------------------------------------------------------------------------------------
def _change_hash(facts: Sequence[Any]) -> str:
    """Return the hash of a change from its facts, in the order of `COLUMNS` from `position` to `after`."""
    return hashlib.sha256(orjson.dumps(facts, option=orjson.OPT_SORT_KEYS)).hexdigest()


def _set_hash(change_set: ChangeSet, undo_of: int | None, hashes: Sequence[str]) -> str:
    """Return the hash of a set from the hashes of its changes. `undo_of` is the number of the set that it undoes."""
    facts = [
        change_set.previous_hash,
        change_set.number,
        _moment(change_set.at),
        change_set.actor_name,
        change_set.why,
        change_set.request_id,
        undo_of,
        change_set.rows,
    ]
    return hashlib.sha256(b"\n".join([orjson.dumps(facts), *(one.encode() for one in hashes)])).hexdigest()


# --- verifying --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Verification:
    """What a look at the whole chain has found: its length and end, and the first fault, if there is one.

    `fault` says in a sentence what is wrong with the set `number` (and its change at `position`, if it is one's).
    """

    sets: int
    changes: int
    hash: str
    fault: str = ""
    number: int | None = None
    position: int | None = None

    @property
    def sound(self) -> bool:
        """Whether nothing was found."""
        return not self.fault


class _FaultError(Exception):
    """The first thing that is wrong."""

    def __init__(self, text: str, number: int | None = None, position: int | None = None) -> None:
        super().__init__(text)
        self.text, self.number, self.position = text, number, position


def changes_verify(*, expect: str | None = None) -> Verification:
    """Recompute the whole chain, set by set, in constant memory; `expect` is a hash noted earlier as that of the end.

    The chain may have grown since: the noted hash must be that of one of its sets.
    """
    walk = _Walk(expect)
    try:
        with one_view():
            walk.go()
    except _FaultError as fault:
        return Verification(walk.sets, walk.changes, walk.hash, fault.text, fault.number, fault.position)
    return Verification(walk.sets, walk.changes, walk.hash)


class _Walk:
    """The way along the chain: how far it has been found sound."""

    def __init__(self, expect: str | None) -> None:
        self.sets = self.changes = 0
        self.hash = HASH_FIRST
        self.expected = expect in {None, HASH_FIRST}
        self.expect = expect

    def go(self) -> None:
        """Walk from the first set to the head."""
        while sets := list(_sets_after(self.sets)):
            rows = _changes_of(sets)
            ahead = next(rows, None)
            for change_set in sets:
                hashes: list[str] = []
                while ahead is not None and ahead[0] == change_set.pk:
                    hashes.append(_change_verified(change_set, len(hashes), ahead))
                    ahead = next(rows, None)
                self.step(change_set, hashes)
        head = ChangeHead.objects.first() or ChangeHead()
        if (head.number, head.hash) != (self.sets, self.hash):
            at = min(head.number, self.sets) + 1 if head.number != self.sets else self.sets
            raise _FaultError(
                f"the head names set {head.number} with hash {head.hash}; the last set that is there is {self.sets} "
                f"with hash {self.hash}",
                at,
            )
        if not self.expected:
            raise _FaultError(f"no set has the expected hash {self.expect}: the chain was computed anew, or cut")

    def step(self, change_set: ChangeSet, hashes: list[str]) -> None:
        """Take the next set, if it is sound."""
        number = change_set.number
        if number != self.sets + 1:
            raise _FaultError(f"set {self.sets + 1} is missing: set {number} follows set {self.sets}", self.sets + 1)
        if change_set.previous_hash != self.hash:
            raise _FaultError(f"set {number} does not follow the set before it: {_own(change_set)}", number)
        if change_set.rows != len(hashes):
            text = f"set {number} wrote {change_set.rows} rows, and {len(hashes)} changes are there"
            raise _FaultError(f"{text}: {_own(change_set)}", number, min(change_set.rows, len(hashes)))
        undone: Any = change_set
        if change_set.hash != _set_hash(change_set, undone.undone_number, hashes):
            text = f"set {number} is not as it was sealed: one of its own fields, its hash, or a change with its hash"
            raise _FaultError(f"{text}: {_own(change_set)}", number)
        self.sets, self.changes, self.hash = number, self.changes + len(hashes), change_set.hash
        self.expected = self.expected or change_set.hash == self.expect


def _sets_after(number: int) -> Iterator[ChangeSet]:
    sets = ChangeSet.objects.filter(number__gt=number).annotate(undone_number=models.F("undo_of__number"))
    return islice(sets.order_by("number"), SETS_AT_ONCE)


def _changes_of(sets: Sequence[ChangeSet]) -> Iterator[tuple[Any, ...]]:
    """Stream the changes of some sets, in the order of the sets."""
    place = models.Case(*(models.When(change_set=one.pk, then=at) for at, one in enumerate(sets)))
    changes = Change.objects.filter(change_set__in=sets)
    ids = [one.pk for one in sets]
    order = ["change_set_id"] if ids == sorted(ids) else [place]
    return changes.order_by(*order, "position", "pk").values_list(*COLUMNS).iterator(chunk_size=2000)


def _change_verified(change_set: ChangeSet, position: int, row: tuple[Any, ...]) -> str:
    """Return the hash of a change, if it is the one of its place and as it was sealed."""
    _, found, *facts, sealed = row
    number, label = change_set.number, facts[2]
    if found != position:
        text = f"change {position} of set {number} is missing: {label!r} at {found} comes in its place"
        if found < position:
            text = f"change {found} of set {number} is there twice, the second time as {label!r}"
        raise _FaultError(text, number, min(found, position))
    if _change_hash([found, *facts]) != sealed:
        text = f"change {position} of set {number} is not as it was sealed: {facts[0]} {facts[1]}, {label!r}"
        raise _FaultError(text, number, position)
    return str(sealed)


def _own(change_set: ChangeSet) -> str:
    return f"{change_set.actor_name} at {_moment(change_set.at)}"
