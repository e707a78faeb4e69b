"""Frozen values as bytes and back: dataclasses of facts and arrays, such as a snapshot. Equal values give equal bytes.

The types of the fields say how a value is read back, so that a new field is kept without a word here.
"""

import io
import json
import types
import zlib
from collections.abc import Mapping
from dataclasses import fields, is_dataclass
from datetime import date
from functools import lru_cache
from typing import Any, TypeVar, Union, get_args, get_origin, get_type_hints

import numpy as np

TEXT = "text"  # in a pack: everything but the arrays, which are numbered
LEVEL = 1  # of compression: most of a fleet is small whole numbers, which the fastest level shrinks already

Array = np.ndarray[Any, Any]
Value = TypeVar("Value")


def value_pack(value: Any) -> bytes:
    """Return a dataclass of numbers, texts, dates, arrays, tuples, mappings and other such dataclasses as bytes."""
    arrays: list[Array] = []
    text = json.dumps(_plain(value, arrays), separators=(",", ":"))
    return arrays_pack(
        {TEXT: np.frombuffer(text.encode(), dtype=np.uint8), **{str(at): a for at, a in enumerate(arrays)}}
    )


def value_unpack(kind: type[Value], data: bytes) -> Value:
    """Return the dataclass of this kind that was packed."""
    arrays = arrays_unpack(data)
    found: Value = _typed(kind, json.loads(arrays[TEXT].tobytes()), arrays)
    return found


def arrays_pack(arrays: Mapping[str, Array]) -> bytes:
    """Return named arrays as bytes."""
    buffer = io.BytesIO()
    np.savez(buffer, **arrays)  # type: ignore[arg-type]
    return zlib.compress(buffer.getbuffer(), LEVEL)


def arrays_unpack(data: bytes) -> dict[str, Array]:
    """Return the arrays that were packed, by their names."""
    with np.load(io.BytesIO(zlib.decompress(data)), allow_pickle=False) as held:
        return {name: held[name] for name in held.files}


def _plain(value: Any, arrays: list[Array]) -> Any:
    """Return a value as JSON knows it; an array as its number."""
    if isinstance(value, np.ndarray):
        arrays.append(value)
        return len(arrays) - 1
    if isinstance(value, date):
        return value.isoformat()
    if isinstance(value, tuple):  # a hundred thousand names need no look at each
        return value if value and isinstance(value[0], str) else [_plain(one, arrays) for one in value]
    if isinstance(value, Mapping):
        return {name: _plain(one, arrays) for name, one in value.items()}
    return [_plain(getattr(value, one.name), arrays) for one in fields(value)] if is_dataclass(value) else value


def _typed(kind: Any, plain: Any, arrays: Mapping[str, Array]) -> Any:
    """Return what JSON knew as a value of its type."""
    if plain is None or kind is Any:
        return plain
    if kind is date:
        return date.fromisoformat(plain)
    if is_dataclass(kind):
        make: Any = kind
        return make(*(_typed(hint, one, arrays) for hint, one in zip(_hints(make), plain, strict=True)))
    origin, inner = get_origin(kind), get_args(kind)
    if origin in {Union, types.UnionType}:
        return _typed(next(one for one in inner if one is not type(None)), plain, arrays)
    return _contained(origin, inner, plain, arrays) if origin else plain


def _contained(origin: Any, inner: tuple[Any, ...], plain: Any, arrays: Mapping[str, Array]) -> Any:
    if origin is np.ndarray:
        return arrays[str(plain)]
    if origin is tuple:
        return tuple(plain) if inner[0] is str else tuple(_typed(inner[0], one, arrays) for one in plain)
    return {name: _typed(inner[1], one, arrays) for name, one in plain.items()}


@lru_cache(maxsize=64)
def _hints(kind: Any) -> tuple[Any, ...]:
    """Return the types of a dataclass's fields, in their order."""
    hints = get_type_hints(kind)
    return tuple(hints[one.name] for one in fields(kind))
