"""JSON objects of any shape: an array of them, alone or as the "results" of an object; one after the other."""

import os
from collections.abc import Iterator
from typing import Any, BinaryIO

from fleet.files.json_tables import JsonTable, _Bad, _kind, _Window
from fleet.files.places import LIMITS, CellError, Limits, RowFault, check_text
from fleet.files.sources import Source, source_open


def json_objects(
    source: str | os.PathLike[str] | BinaryIO, *, name: str | None = None, limits: Limits = LIMITS
) -> Iterator[tuple[int, dict[str, Any]] | RowFault]:
    """Yield the line where each object begins and its values, or what is wrong with it, in constant memory.

    Raises FileError where the file cannot be read any further.
    """
    opened = source_open(source, name=name, most_byte=limits.file_byte)
    try:
        for count, row in enumerate(_Objects(opened, limits).objects(), 1):
            if count > limits.rows:
                raise opened.error(f"more than {limits.rows:,} objects")
            yield row
    finally:
        opened.close()


class _Objects(JsonTable):
    """An array of objects whose keys are each one's own."""

    def __init__(self, source: Source, limits: Limits) -> None:  # the keys of the first object say nothing of others
        self.source, self.limits = source, limits
        self.window = _Window(source, limits.row_byte)
        self.wrapped = self._array_begin(self.window)

    def objects(self) -> Iterator[tuple[int, dict[str, Any]] | RowFault]:
        window = self.window
        if window.peek() == "]":
            window.take(window.at + 1)
            return self._array_end(window)
        while True:
            window.peek()
            line = window.line
            try:
                value = self._value(window)
                if not isinstance(value, tuple):
                    raise CellError(f"{_kind(value)} where an object is expected")
                yield line, self._plain(value)
            except CellError as error:
                yield RowFault(line, None, str(error))
            if self._expect(window, ",", "]") == "]":
                return self._array_end(window)

    def _plain(self, value: Any) -> Any:
        """Return a value with objects as dicts."""
        if isinstance(value, tuple):
            found = {key: self._plain(item) for key, item in value}
            if len(found) < len(value):
                raise CellError("a key is given twice")
            return found
        if isinstance(value, list):
            return [self._plain(item) for item in value]
        if isinstance(value, _Bad):
            raise CellError(value.reason)
        if isinstance(value, str):
            check_text(value, self.limits)
        return value
