"""JSON tables: an array of objects, an object with such an array as "results", or one object per line.

The columns are the keys of the first object. A later one may leave a key out, which is None, but not bring a new one.
"""

import codecs
import json
import re
from collections.abc import Iterator
from typing import Any

from fleet.files.places import CellError, Limits, RowFault, Value, check_columns, number_of
from fleet.files.sources import CHUNK_BYTE, Source, check_encoding

DEPTH = 20
PREAMBLE_BYTE = 2**18
"""How far into an object its "results" may begin. [byte]"""
_BLANK = re.compile(r"[ \t\n\r]*")
_BRACKET = re.compile(r'"(?:[^"\\]++|\\.)*+"|["\[\]{}]', re.DOTALL)
_KINDS = {str: "text", int: "a number", float: "a number", bool: "a truth value", type(None): "null", list: "an array"}


class _Bad:
    """A value that JSON allows to write and nobody can use."""

    def __init__(self, reason: str) -> None:
        self.reason = reason


def _number(text: str) -> "int | float | _Bad":
    try:
        return number_of(text)
    except CellError as error:
        return _Bad(str(error))


_decode = json.JSONDecoder(
    object_pairs_hook=tuple,  # an object is a tuple of pairs, so that a key given twice is seen
    parse_int=_number,
    parse_float=_number,
    parse_constant=lambda name: _Bad(f"{name} is not a number"),
).raw_decode


class _Window:
    """The part of a long text that is held, and the place in it."""

    def __init__(self, source: Source, row_byte: int) -> None:
        self.source, self.stream, self.row_byte = source, source.stream, row_byte
        self.text, self.at, self.line, self.passed_byte = "", 0, 1, 0
        self.ended = False
        self._decoder = codecs.getincrementaldecoder("utf-8")("surrogateescape")
        self.stream.seek(0)
        if self.stream.read(3) == codecs.BOM_UTF8:
            self.passed_byte = 3
        self.stream.seek(self.passed_byte)

    def more(self) -> bool:
        """Hold twice as much, so that a long value is not searched again and again. False at the end of the file."""
        held = len(self.text) - self.at
        if self.ended:
            return False
        if held > self.row_byte:
            raise self.source.error(f"a value longer than {self.row_byte:,} bytes", line=self.line)
        raw = self.stream.read(max(CHUNK_BYTE, min(held, self.row_byte - held)))
        self.ended = not raw
        self.text = self.text[self.at :] + self._decoder.decode(raw, final=self.ended)
        self.at = 0
        return not self.ended

    def peek(self) -> str:
        """Pass over white space and return the character behind it; "" at the end of the file."""
        start_byte, line = self.passed_byte, self.line
        while True:
            self.take(_BLANK.match(self.text, self.at).end())  # type: ignore[union-attr]
            if self.at < len(self.text):
                return self.text[self.at]
            if self.passed_byte - start_byte > self.row_byte:
                raise self.source.error(f"more than {self.row_byte:,} bytes of white space", line=line)
            if not self.more():
                return ""

    def take(self, end: int) -> None:
        self.line += self.text.count("\n", self.at, end)
        self.passed_byte += len(self.text[self.at : end].encode("utf-8", "surrogateescape"))
        self.at = end

    def value(self) -> Any:
        """Take the value that begins here.

        Raises CellError if it is malformed but its brackets tell where it ends, and JSONDecodeError if nothing does.
        """
        while True:
            try:
                value, end = _decode(self.text, self.at)
            except (json.JSONDecodeError, RecursionError) as error:
                if self.text[self.at : self.at + 1] in ("[", "{"):
                    return self._bracketed()
                if not self.more():
                    raise error
            else:
                if end < len(self.text) or not self.more():  # a number could go on behind what is held
                    self.take(end)
                    return value

    def _bracketed(self) -> Any:
        end, depth = self._end()
        try:
            if depth > DEPTH:
                raise CellError(f"nested deeper than {DEPTH}")
            return _decode(self.text, self.at)[0]
        except json.JSONDecodeError as error:
            line = self.line + self.text.count("\n", self.at, error.pos)
            raise CellError(f"not valid JSON: {error.msg}" + (f" (line {line})" if line > self.line else "")) from error
        finally:
            self.take(end)

    def _end(self) -> tuple[int, int]:
        """Return where the object or array that begins here ends, by its brackets alone, and how deep they nest."""
        depth, deepest, start = 0, 0, self.at
        while True:
            for found in _BRACKET.finditer(self.text, start):
                start = found.end()
                if found[0] == '"':  # a string that does not end in what is held
                    start = found.start()
                    break
                if found[0] in "[{":
                    depth += 1
                    deepest = max(deepest, depth)
                elif found[0] in "]}":
                    depth -= 1
                    if not depth:
                        return found.end(), deepest
            start -= self.at
            if not self.more():
                raise json.JSONDecodeError("the file ends before this is closed", self.text, 0)


class _Objects:
    """What arrays and lines of objects share: the columns, and cells of an object."""

    sheets: tuple[str, ...] = ()
    sheet = None

    def __init__(self, source: Source, limits: Limits) -> None:
        self.source, self.limits = source, limits
        self.columns: tuple[str, ...] = ()
        self.place: dict[str, int] = {}

    def _header(self, line: int, value: Any, end_byte: int) -> None:
        check_encoding(self.source, end_byte)
        if not isinstance(value, tuple):
            raise self.source.error(f"{_kind(value)} where an object is expected", line=line)
        names = [key for key, _ in value]
        try:
            if not names:
                raise CellError("an empty object: its keys would be the columns")
            check_columns(names, self.limits)
        except CellError as error:
            raise self.source.error(str(error), line=line) from error
        self.columns = tuple(names)
        self.place = {name: number for number, name in enumerate(names)}

    def _row(self, line: int, value: Any) -> tuple[int, list[Value]] | RowFault:
        if not isinstance(value, tuple):
            return RowFault(line, None, f"{_kind(value)} where an object is expected")
        cells: list[Value] = [None] * len(self.columns)
        given: set[str] = set()
        for key, cell in value:
            reason = ""
            if key not in self.place:
                reason = "the first object has no such key"
            elif key in given:
                reason = "given twice"
            elif isinstance(cell, _Bad):
                reason = cell.reason
            elif isinstance(cell, (list, tuple)):
                reason = f"{_kind(cell)} where one value is expected"
            if reason:
                return RowFault(line, key[:100], reason)
            given.add(key)
            cells[self.place[key]] = None if cell == "" else cell
        return line, cells


def _kind(value: Any) -> str:
    return "an object" if isinstance(value, tuple) else _KINDS.get(type(value), "a number")


class JsonTable(_Objects):
    """An array of objects, alone or as the "results" of an object."""

    def __init__(self, source: Source, limits: Limits) -> None:
        super().__init__(source, limits)
        window = _Window(source, limits.row_byte)
        self.wrapped = self._array_begin(window)
        if window.peek() == "]":
            raise source.error("an empty array: the keys of its first object would be the columns", line=window.line)
        line = window.line
        try:
            value = self._value(window)
        except CellError as error:
            check_encoding(source, window.passed_byte)
            raise source.error(str(error), line=line) from error
        self._header(line, value, window.passed_byte)

    def rows(self) -> Iterator[tuple[int, list[Value]] | RowFault]:
        """Yield the line where an object begins and its cells, or what is wrong with it."""
        window = _Window(self.source, self.limits.row_byte)
        self._array_begin(window)
        while True:
            window.peek()
            line = window.line
            try:
                yield self._row(line, self._value(window))
            except CellError as error:
                yield RowFault(line, None, str(error))
            if self._expect(window, ",", "]") == "]":
                return self._array_end(window)

    def _array_begin(self, window: _Window) -> bool:
        """Go behind the bracket where the rows begin; return whether they are the "results" of an object."""
        if self._expect(window, "[", "{") == "[":
            return False
        while True:
            key = self._key(window)
            if window.passed_byte > PREAMBLE_BYTE:
                raise self.source.error(f'no "results" within the first {PREAMBLE_BYTE:,} bytes', line=window.line)
            if key == "results":
                self._expect(window, "[")
                return True
            self._skipped(window)
            if self._expect(window, ",", "}") == "}":
                hint = (
                    "an object per line belongs in a .jsonl file" if window.peek() == "{" else "nothing tells the rows"
                )
                raise self.source.error(f'an object without "results": {hint}', line=window.line)

    def _array_end(self, window: _Window) -> None:
        """Read what follows the rows: a file that was cut off must not pass for a short one."""
        while self.wrapped and self._expect(window, ",", "}") == ",":
            if self._key(window) == "results":
                raise self.source.error('"results" given twice', line=window.line)
            self._skipped(window)
        if window.peek():
            raise self.source.error("text behind the end of the JSON value", line=window.line)

    def _key(self, window: _Window) -> str:
        if window.peek() != '"':
            raise self.source.error("a key in quotes is missing", line=window.line)
        key = self._value(window)
        self._expect(window, ":")
        return str(key)

    def _skipped(self, window: _Window) -> None:
        window.peek()
        line = window.line
        try:
            self._value(window)
        except CellError as error:
            raise self.source.error(str(error), line=line) from error

    def _value(self, window: _Window) -> Any:
        line = window.line
        try:
            return window.value()
        except json.JSONDecodeError as error:
            raise self.source.error(f"not valid JSON: {error.msg}", line=line) from error

    def _expect(self, window: _Window, *marks: str) -> str:
        mark = window.peek()
        if mark not in marks:
            found = f'"{mark}"' if mark else "the end of the file"
            raise self.source.error(f"{found} where {' or '.join(marks)} is expected", line=window.line)
        window.take(window.at + 1)
        return mark


class JsonLines(_Objects):
    """One object per line."""

    def __init__(self, source: Source, limits: Limits) -> None:
        super().__init__(source, limits)
        line, read_byte, value = next(self._values())
        if isinstance(value, CellError):
            check_encoding(source, min(read_byte, limits.row_byte))
            raise source.error(str(value), line=line)
        self._header(line, value, read_byte)

    def rows(self) -> Iterator[tuple[int, list[Value]] | RowFault]:
        """Yield the line and its cells, or what is wrong with it."""
        for line, _, value in self._values():
            yield RowFault(line, None, str(value)) if isinstance(value, CellError) else self._row(line, value)

    def _values(self) -> Iterator[tuple[int, int, Any]]:
        """Yield line, bytes read so far, and the value on the line or the error that it is none."""
        stream, row_byte = self.source.stream, self.limits.row_byte
        line = read_byte = 0
        stream.seek(0)
        while raw := stream.readline(row_byte + 1):
            line += 1
            read_byte += len(raw)
            if len(raw) > row_byte:
                while raw and not raw.endswith(b"\n"):
                    raw = stream.readline(CHUNK_BYTE)
                    read_byte += len(raw)
                yield line, read_byte, CellError(f"a line longer than {row_byte:,} bytes")
            elif raw.strip():
                yield line, read_byte, _line_value(raw.removeprefix(codecs.BOM_UTF8) if line == 1 else raw)


def _line_value(raw: bytes) -> Any:
    text = raw.decode("utf-8", "surrogateescape").strip(" \t\r\n")
    try:
        value, end = _decode(text)
        return value if end == len(text) else CellError("text behind the end of the JSON value")
    except RecursionError:
        return CellError(f"nested deeper than {DEPTH}")
    except json.JSONDecodeError as error:
        return CellError(f"not valid JSON: {error.msg} at character {error.pos + 1}")
