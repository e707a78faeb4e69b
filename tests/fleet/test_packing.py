from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from datetime import date

import numpy as np
import pytest

from fleet.demo import demo_fleet_load
from fleet.packing import arrays_pack, arrays_unpack, value_pack, value_unpack
from fleet.selectors import snapshot_take
from fleet.snapshot import FleetSnapshot, FloatArray, TreeFacts
from tests.factories import START, delivery_fact, service_fact, snapshot


@dataclass(frozen=True)
class Inner:
    """One of several."""

    name: str
    on: date | None
    shares: FloatArray


@dataclass(frozen=True, eq=False)
class Outer:
    """Everything that may be kept."""

    inners: tuple[Inner, ...]
    one: Inner
    days: Mapping[str, date]
    names: tuple[str, ...]
    ratio: float
    none: int | None
    pairs: tuple[float, ...]
    is_so: bool


OUTER = Outer(
    inners=(Inner("a", None, np.array([0.1, np.inf])), Inner("b", START, np.zeros((0, 3)))),
    one=Inner("ä", START, np.array(-0.0)),
    days={"b": START, "a": date(1, 1, 1)},
    names=("x", "y"),
    ratio=0.1 + 0.2,
    none=None,
    pairs=(1e-300, 1e300),
    is_so=True,
)


def same(one, other):
    """Whether two values have equal types and content, arrays to the last bit."""
    if isinstance(one, np.ndarray):
        return (one.dtype, one.shape, one.tobytes()) == (other.dtype, other.shape, other.tobytes())
    if isinstance(one, tuple):
        return len(one) == len(other) and all(map(same, one, other))
    if hasattr(one, "__dataclass_fields__"):
        return type(one) is type(other) and all(
            same(getattr(one, part.name), getattr(other, part.name)) for part in fields(one)
        )
    return type(one) is type(other) and one == other


def test_a_value_comes_back_as_it_was():
    found = value_unpack(Outer, value_pack(OUTER))
    assert same(found, OUTER)
    assert list(found.days) == ["b", "a"]
    assert not same(replace(found, ratio=0.3), OUTER)


def test_equal_values_give_equal_bytes_and_others_do_not():
    assert value_pack(OUTER) == value_pack(replace(OUTER))
    assert value_pack(replace(OUTER, ratio=0.3)) != value_pack(OUTER)


def test_arrays_come_back_by_their_names():
    arrays = {"theta": np.arange(6.0).reshape(2, 3), "none": np.zeros((0, 2), dtype=np.int64)}
    found = arrays_unpack(arrays_pack(arrays))
    assert found.keys() == arrays.keys()
    assert all(same(found[name], arrays[name]) for name in arrays)


def test_a_small_fleet_comes_back_with_its_digest():
    fleet = snapshot(services=(service_fact(ready_on={"ppu": START}),), deliveries=(delivery_fact(),))
    found = value_unpack(FleetSnapshot, value_pack(fleet))
    assert same(found, fleet)
    assert found.digest == fleet.digest


@pytest.mark.django_db
def test_the_demo_comes_back_whole_trees_and_all():
    demo_fleet_load(START)
    fleet = snapshot_take(START)
    found = value_unpack(FleetSnapshot, value_pack(fleet))
    assert same(found, fleet)
    assert found.digest == fleet.digest
    assert isinstance(found.power, TreeFacts)
    assert len(found.power.slugs) > 0
