"""Rows of a file against the fleet: what each would make or change, and what speaks against it."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any, Literal

from django.db import models

from fleet.access import region_limit
from fleet.exchange.columns import columns_of
from fleet.exchange.exports import User
from fleet.exchange.lookups import KeysRead, Standing, keys_find, rows_find
from fleet.inventory import BY_KIND, Entry
from fleet.rules import Test, rule_names, rule_test

Mode = Literal["upsert", "create", "update"]
Ids = Mapping[str, Mapping[str, int | None]]

GLOBAL = "your account is limited to regions: it cannot write what lies in none or in all of them"


@dataclass(frozen=True, slots=True)
class Line:
    """A row of a file: what its cells say by column, other rows as their keys.

    Of one with a cell that says nothing (not `sound`) only the key counts: others may refer to it.
    """

    number: int
    key: str
    said: Mapping[str, Any]
    sound: bool = True


@dataclass(frozen=True, slots=True)
class Step:
    """What a line makes of the fleet. `values` are those of a new row, or those that differ from the row that stands.

    `ids` are those of the rows that they refer to, by column; None for one that the file itself will have made.
    """

    line: Line
    standing: Standing | None
    values: Mapping[str, Any]
    ids: Mapping[str, int | None]


@dataclass(frozen=True, slots=True)
class Fault:
    """What speaks against a line, and in which column."""

    line: int
    column: str
    reason: str


@dataclass(frozen=True)
class Judge:
    """Looks at lines of one entry as an account sees the fleet.

    `read` holds the keys that the file has brought so far: to find what comes twice, and rows that are not there yet.
    Without it, all that a line refers to must stand.
    """

    entry: Entry
    mode: Mode
    user: User
    read: KeysRead | None

    def steps(self, lines: Sequence[Line]) -> Iterator[Step | Fault]:
        """Yield, for each sound line, its step or its faults."""
        first = self._first_lines(lines)
        lines = [line for line in lines if line.sound]
        known = self._known(lines)
        found = rows_find(self.entry, (line.key for line in lines), self.user)
        standing = {key: row for key, row in found.items() if row.seen}
        for line in lines:
            faults = list(self._faults(line, known, first, standing.get(line.key)))
            if line.key in found.keys() - standing.keys() and self._tells_taken():
                faults.append(Fault(line.number, self.entry.key[-1], f'"{line.key}" is taken'))
            if not faults:
                step = self._step(line, standing.get(line.key), known)
                faults = list(self._broken(step))
                if not faults:
                    yield step
            yield from faults

    def _known(self, lines: Sequence[Line]) -> Ids:
        """Return the ids of what is referred to, by column and key; what leads nowhere is missing."""
        known: dict[str, dict[str, int | None]] = {}
        for column in columns_of(self.entry).values():
            keys = {key for line in lines if column.target and (key := line.said.get(column.name))}
            if keys and column.target:
                known[column.name] = {**keys_find(column.target, keys, self.user)}
                if self.read and (missing := keys - known[column.name].keys()):
                    target = BY_KIND[str(column.target._meta.model_name)]
                    known[column.name] |= dict.fromkeys(self.read.lines_of(target, missing))
        return known

    def _first_lines(self, lines: Sequence[Line]) -> dict[str, int]:
        """Return the line in which each key comes first, and remember it."""
        if self.read is None:
            return {}
        first = self.read.lines_of(self.entry, [line.key for line in lines])
        fresh: dict[str, int] = {}
        for line in lines:
            if line.key not in first:
                fresh.setdefault(line.key, line.number)
        self.read.add(self.entry, fresh)
        return first | fresh

    def _faults(self, line: Line, known: Ids, first: Mapping[str, int], standing: Standing | None) -> Iterator[Fault]:
        key = self.entry.key[-1]
        if first.get(line.key, line.number) != line.number:
            yield Fault(line.number, key, f'"{line.key}" comes twice: first in line {first[line.key]}')
        if standing and self.mode == "create":
            yield Fault(line.number, key, f'"{line.key}" is there already, and only new rows are wanted')
        elif not standing and self.mode == "update":
            yield Fault(line.number, key, f'there is no "{line.key}", and new rows are not wanted')
        for name, column in columns_of(self.entry).items():
            if name not in line.said:
                if standing is None and column.is_needed:
                    yield Fault(line.number, name, "missing: a new row needs it")
            elif column.target and (text := line.said[name]) is None:
                if not column.field.null and not (standing and name in standing.hidden):
                    yield Fault(line.number, name, "empty: a value is needed")
            elif column.target and text not in known[name]:
                yield Fault(line.number, name, f'there is no {column.target._meta.verbose_name} "{text}"')

    def _tells_taken(self) -> bool:
        """Whether one is told that a row elsewhere has a key: not in an update, nor of a key inside of a row there."""
        columns = columns_of(self.entry)
        return self.mode != "update" and not any(columns[name].target for name in self.entry.key)

    def _step(self, line: Line, standing: Standing | None, known: Ids) -> Step:
        if standing is None:
            values = {**defaults_of(self.entry), **line.said}
        else:
            values = {
                name: value
                for name, value in line.said.items()
                if value != standing.values[name] and not (value is None and name in standing.hidden)
            }
        ids = {name: known[name][values[name]] for name in known if values.get(name) is not None}
        return Step(line, standing, values, ids)

    def _broken(self, step: Step) -> Iterator[Fault]:
        """Yield the rules of one row that it would break; a row that does not change breaks none."""
        if not step.values:
            return
        after = {**step.standing.values, **step.values} if step.standing else step.values
        if region_limit(self.user) is not None and self._is_global(step, after):
            yield Fault(step.line.number, self.entry.key[-1], GLOBAL)
        for rule in rules_of(self.entry):
            if rule.test(after) is False:
                yield Fault(step.line.number, rule.column(step.line.said), rule.message)

    def _is_global(self, step: Step, after: Mapping[str, Any]) -> bool:
        """Whether a row lies in no region or in all, now or then; a region lies in itself, once it is there."""
        if self.entry.regions == ("pk",):
            return step.standing is None
        places = [path.split("__")[0] for path in self.entry.regions]
        before = step.standing.values if step.standing else after
        return any(all(values[name] is None for name in places) for values in (before, after))


@dataclass(frozen=True)
class Rule:
    """A rule of one row: its test, the columns that it reads, those first that its message names, and the message."""

    test: Test
    columns: Sequence[str]
    message: str

    def column(self, said: Mapping[str, Any]) -> str:
        """Return the column that is to blame: the first of those that the file has."""
        return next((name for name in self.columns if name in said), self.columns[0])


@cache
def rules_of(entry: Entry) -> Sequence[Rule]:
    """Return the rules that the database keeps for each row of an entry."""
    rules = []
    for one in entry.model._meta.constraints:
        if isinstance(one, models.CheckConstraint) and isinstance(one.condition, models.Q):
            message = str(one.violation_error_message)
            places = sorted((message.find(name), name) for name in rule_names(one.condition))
            columns = [name for at, name in places if at >= 0] + [name for at, name in places if at < 0]
            rules.append(Rule(rule_test(one.condition), columns, message))
    return rules


@cache
def defaults_of(entry: Entry) -> Mapping[str, Any]:
    """Return what a new row holds in the columns of which nothing is said; without a default, nothing."""
    values = {name: column.field.get_default() for name, column in columns_of(entry).items() if not column.is_needed}
    return {name: getattr(value, "value", value) for name, value in values.items()}  # of a choice its value
