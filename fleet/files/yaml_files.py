"""YAML from outside: plain values only, nothing that repeats, refers or constructs.

Scalars mean what they mean in YAML 1.2 and JSON: `no`, `010`, `12:30` and `2027-01-01` are text, as they look.
"""

import os
import re
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, BinaryIO

import yaml

from fleet.files.places import LIMITS, NUMBER_DIGITS, CellError, Limits, number_of
from fleet.files.sources import Source, check_encoding, content_detect, source_open


def yaml_read(source: str | os.PathLike[str] | BinaryIO, *, name: str | None = None, limits: Limits = LIMITS) -> Any:
    """Return the one document of a YAML file as dicts, lists, text, numbers, truth values and None.

    Raises
    ------
    FileError
        ``fleet.yaml:12: column 3: the key "slug" is given twice``.
    """
    with _loading(source, name, limits) as loader:
        return loader.get_single_data()


def yaml_documents(
    source: str | os.PathLike[str] | BinaryIO, *, name: str | None = None, limits: Limits = LIMITS
) -> list[tuple[int, Any]]:
    """Return all documents of a YAML file as `yaml_read` does one, each with the line where it begins."""
    documents = []
    with _loading(source, name, limits) as loader:
        while loader.check_data():
            documents.append((loader.peek_event().start_mark.line + 1, loader.get_data()))
    return documents


@contextmanager
def _loading(source: str | os.PathLike[str] | BinaryIO, name: str | None, limits: Limits) -> Iterator["_PlainLoader"]:
    """Open a YAML file for reading values."""
    opened = source_open(source, name=name, most_byte=limits.yaml_byte)
    try:
        if (content := content_detect(opened)) not in ("text", "JSON"):
            raise opened.error(f"not YAML, but {content}")
        check_encoding(opened, opened.size_byte)
        opened.stream.seek(0)
        text = opened.stream.read().decode("utf-8-sig")
        with _placed(opened, text):
            yield _PlainLoader(text, limits.yaml_depth)
    finally:
        opened.close()


@contextmanager
def _placed(source: Source, text: str) -> Iterator[None]:
    """Tell every refusal with its line and column."""
    try:
        yield
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark or yaml.Mark(source.name, 0, 0, 0, None, 0)
        reason = ", ".join(part for part in (error.context, error.problem) if part)
        raise source.error(reason, line=mark.line + 1, column=mark.column + 1) from error
    except yaml.reader.ReaderError as error:
        before = text[: error.position]
        line, column = before.count("\n") + 1, len(before) - before.rfind("\n")
        raise source.error(f"the character U+{error.character:04X} is not allowed", line=line, column=column) from error


class _PlainLoader(yaml.SafeLoader):
    """A SafeLoader without aliases, tags, merges, duplicate keys, and names that become dates or truth values."""

    yaml_implicit_resolvers: dict[str, Any] = {}

    def __init__(self, text: str, depth: int) -> None:
        super().__init__(text)
        self.depth, self.most_depth = 0, depth

    def compose_node(self, parent: yaml.Node | None, index: Any) -> yaml.Node | None:
        event = self.peek_event()
        if isinstance(event, yaml.AliasEvent):
            raise _error(event.start_mark, f"the alias *{str(event.anchor)[:40]}: write out what it stands for")
        if event.tag is not None:
            raise _error(event.start_mark, f"the tag {event.tag[:60]}: plain values only")
        if self.depth >= self.most_depth:
            raise _error(event.start_mark, f"nested deeper than {self.most_depth}")
        self.depth += 1
        node = super().compose_node(parent, index)
        self.depth -= 1
        return node

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002
        seen: set[str] = set()
        for key, _ in node.value:
            if key.tag != "tag:yaml.org,2002:str":
                raise _error(key.start_mark, "a key that is no text: put it in quotes")
            if key.value in seen:
                raise _error(key.start_mark, f'the key "{key.value[:60]}" is given twice')
            seen.add(key.value)
        return super().construct_mapping(node, deep=deep)


def _error(mark: Any, reason: str) -> yaml.MarkedYAMLError:
    return yaml.MarkedYAMLError(problem=reason, problem_mark=mark)


def _float(_loader: _PlainLoader, node: yaml.ScalarNode) -> float:
    try:
        return float(number_of(node.value.removeprefix("+")))
    except CellError as error:
        raise _error(node.start_mark, str(error)) from error


_PlainLoader.add_constructor("tag:yaml.org,2002:float", _float)

_NUMBER = rf"[-+]?(?:0|[1-9][0-9]{{0,{NUMBER_DIGITS - 1}}})"
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:null", re.compile(r"(?:~|null|Null|NULL|)\Z"), ["~", "n", "N", ""]
)
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:bool", re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z"), list("tTfF")
)
_PlainLoader.add_implicit_resolver("tag:yaml.org,2002:int", re.compile(rf"{_NUMBER}\Z"), list("-+0123456789"))
_PlainLoader.add_implicit_resolver(
    "tag:yaml.org,2002:float",
    re.compile(rf"{_NUMBER}(?:\.[0-9]+(?:[eE][-+]?[0-9]+)?|[eE][-+]?[0-9]+)\Z"),
    list("-+0123456789"),
)
