"""Rules of one row, evaluated in Python: what a CHECK of the database would say, without asking it.

Django asks the database once per row and rule; a bulk write of ten thousand hosts would ask thirty thousand times.
"""

import operator
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from django.db.models import F, Q

Values = Mapping[str, Any]
Test = Callable[[Values], bool | None]
Read = Callable[[Values], Any]

COMPARISONS: Mapping[str, Callable[[Any, Any], bool]] = {
    "exact": operator.eq,
    "gt": operator.gt,
    "gte": operator.ge,
    "lt": operator.lt,
    "lte": operator.le,
}
LOOKUPS = (*COMPARISONS, "in", "range", "isnull")


def rule_test(condition: Q) -> Test:
    """Return a rule as a function of a row's values: whether it is kept, or None.

    None is an empty value that leaves it open, with which a CHECK is content. Values come by the names of fields (or of
    their columns: `rack_id`), as models hold them; a name that is missing is a KeyError.
    """
    tests = [rule_test(child) if isinstance(child, Q) else _lookup(child) for child in condition.children]
    test = _joined(condition.connector, tests)
    return _negated(test) if condition.negated else test


def rule_names(condition: Q) -> frozenset[str]:
    """Return the names of the fields that a rule reads."""
    names: set[str] = set()
    for child in condition.children:
        if isinstance(child, Q):
            names |= rule_names(child)
        else:
            key, right = child  # type: ignore[misc]
            parts = right if isinstance(right, list | tuple) else (right,)
            names |= {key.partition("__")[0], *(_name(part) for part in parts if isinstance(part, F))}
    return frozenset(names)


def _joined(connector: str, tests: list[Test]) -> Test:
    """Join as SQL does: one false makes AND false and one true OR true, whatever the empty ones would say."""
    if len(tests) == 1:
        return tests[0]
    if connector not in {Q.AND, Q.OR}:
        raise NotImplementedError(f"a rule joined by {connector}")
    decisive = connector == Q.OR

    def test(values: Values) -> bool | None:
        found: bool | None = not decisive
        for one in tests:
            holds = one(values)
            if holds is decisive:
                return decisive
            if holds is None:
                found = None
        return found

    return test


def _negated(test: Test) -> Test:
    def negated(values: Values) -> bool | None:
        holds = test(values)
        return None if holds is None else not holds

    return negated


def _lookup(child: Any) -> Test:
    """Return the test of one lookup: `chips__gt=0`."""
    if not isinstance(child, tuple):
        raise NotImplementedError(f"a rule with {child!r}")
    key, right = child
    name, _, lookup = key.partition("__")
    lookup = lookup or "exact"
    if lookup not in LOOKUPS:
        raise NotImplementedError(f"a rule with {key}")
    left = _read(name)
    if lookup == "isnull" or right is None:
        wanted = right is None or bool(right)
        return lambda values: (left(values) is None) is wanted
    if lookup == "in":
        return _among(left, [_operand(part) for part in right])
    if lookup == "range":
        low, high = right
        return _joined(Q.AND, [_compared(left, "gte", _operand(low)), _compared(left, "lte", _operand(high))])
    return _compared(left, lookup, _operand(right))


def _read(name: str) -> Read:
    def read(values: Values) -> Any:
        return values[name] if name in values else values[f"{name}_id"]

    return read


def _name(field: F) -> str:
    return str(field.name)  # type: ignore[attr-defined]


def _operand(right: Any) -> Read:
    if isinstance(right, F):
        return _read(_name(right))
    if hasattr(right, "resolve_expression"):
        raise NotImplementedError(f"a rule with {right!r}")
    return lambda _: right


def _compared(left: Read, lookup: str, right: Read) -> Test:
    compare = COMPARISONS[lookup]

    def test(values: Values) -> bool | None:
        one, other = left(values), right(values)
        return None if one is None or other is None else compare(one, other)

    return test


def _among(left: Read, operands: Iterable[Read]) -> Test:
    return _joined(Q.OR, [_compared(left, "exact", operand) for operand in operands])
