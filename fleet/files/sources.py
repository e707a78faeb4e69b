"""A file from outside: how large it is and what it is, told before anything of it is parsed."""

import os
import re
import stat
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from fleet.files.places import FileError

CHUNK_BYTE = 2**16
_HEAD_BYTE = 4096

_SUFFIXES = {".csv": "csv", ".xlsx": "xlsx", ".json": "json", ".jsonl": "jsonl", ".ndjson": "jsonl"}
_REFUSED = dict.fromkeys((".gz", ".bz2", ".xz", ".zst", ".7z"), "compressed files are not read: unpack it first")
_REFUSED |= {
    ".zip": "archives are not read: unpack it first",
    ".xlsm": "a workbook with macros is not read: save it as .xlsx",
    ".xltm": "a template with macros is not read: save it as .xlsx",
    ".xlsb": "a binary workbook is not read: save it as .xlsx",
    ".xls": "a workbook of before 2007 is not read: save it as .xlsx",
    ".ods": "an OpenDocument sheet is not read: save it as .xlsx",
    ".tsv": "tab-separated text is not read: save it as .csv with commas",
}
_ENCODINGS = {
    b"\xff\xfe\x00\x00": "UTF-32",
    b"\x00\x00\xfe\xff": "UTF-32",
    b"\xff\xfe": "UTF-16",
    b"\xfe\xff": "UTF-16",
}
_MAGIC = {
    b"PK\x03\x04": "a zip archive, as a workbook is",
    b"PK\x05\x06": "an empty zip archive",
    b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1": "an encrypted workbook or one of before 2007",
    b"\x1f\x8b": "gzip data",
    b"BZh": "bzip2 data",
    b"\xfd7zXZ": "xz data",
    b"\x28\xb5\x2f\xfd": "zstandard data",
    b"%PDF": "a PDF",
    b"PAR1": "a Parquet file",
}
_JSON = re.compile(rb"\s*(?:\[\s*[\[{\]]|\{\s*[\"}])")
_MARKUP = re.compile(rb"\s*<(?:!doctype|html|\?xml)", re.IGNORECASE)
ZIP = _MAGIC[b"PK\x03\x04"]


@dataclass(frozen=True)
class Source:
    """An open binary file with the name that errors call it by."""

    stream: BinaryIO
    name: str
    size_byte: int
    owned: bool
    """Whether we opened it, and so close it."""

    def error(
        self, reason: str, *, sheet: str | None = None, line: int | None = None, column: str | int | None = None
    ) -> FileError:
        return FileError(self.name, reason, sheet=sheet, line=line, column=column)

    def close(self) -> None:
        if self.owned:
            self.stream.close()


def source_open(source: str | os.PathLike[str] | BinaryIO, *, name: str | None, most_byte: int) -> Source:
    """Open a path, or take a seekable binary file as it is; refuse what is empty or too large without reading it."""
    if isinstance(source, (str, os.PathLike)):
        path = Path(source)
        name = name or str(path)
        try:
            mode = path.stat()  # before it is opened: opening a pipe waits for its writer
            if not stat.S_ISREG(mode.st_mode):
                raise FileError(name, "not a regular file")
            _check_size(name, mode.st_size, most_byte)
            return Source(path.open("rb"), name, mode.st_size, owned=True)
        except OSError as error:
            raise FileError(name, error.strerror or "cannot be read") from error
    if not name:
        raise TypeError("a file object needs a name: it tells the format")
    size_byte = source.seek(0, os.SEEK_END)
    _check_size(name, size_byte, most_byte)
    source.seek(0)
    return Source(source, name, size_byte, owned=False)


def _check_size(name: str, size_byte: int, most_byte: int) -> None:
    if not size_byte:
        raise FileError(name, "the file is empty")
    if size_byte > most_byte:
        raise FileError(name, f"{size_byte:,} bytes: at most {most_byte:,} are read")


def format_detect(source: Source) -> str:
    """Return csv, xlsx, json or jsonl if the name and the first bytes agree on it."""
    suffix = Path(source.name).suffix.lower()
    if suffix in _REFUSED:
        raise source.error(_REFUSED[suffix])
    if suffix not in _SUFFIXES:
        raise source.error("the name tells no format: .csv, .xlsx, .json, .jsonl and .ndjson are read")
    table, content = _SUFFIXES[suffix], content_detect(source)
    fits = {
        "xlsx": content == ZIP,
        "csv": content == "text",
        "json": content == "JSON",
        "jsonl": content == "JSON",
    }
    if not fits[table]:
        if content == "text":
            content = "other text" if table == "xlsx" else "text that does not begin as JSON objects do"
        raise source.error(f"the name ends in {suffix}, but the content is {content}")
    return table


def content_detect(source: Source) -> str:
    """Return what the first bytes are, in words; refuse text that is not UTF-8 by its first bytes."""
    source.stream.seek(0)
    head = source.stream.read(_HEAD_BYTE)
    source.stream.seek(0)
    for magic, what in _MAGIC.items():
        if head.startswith(magic):
            return what
    for mark, encoding in _ENCODINGS.items():
        if head.startswith(mark):
            raise source.error(f"{encoding} text by its mark at byte 0: save it as UTF-8")
    text = head.removeprefix(b"\xef\xbb\xbf")
    if (at := head.find(b"\0", 0, 4)) >= 0:
        raise source.error(f"a NUL at byte {at}: UTF-16 or binary data, not UTF-8 text", line=1)
    if _JSON.match(text):
        return "JSON"
    if _MARKUP.match(text):
        return "HTML or XML"
    return "text"


def check_encoding(source: Source, end_byte: int) -> None:
    """Refuse a file whose first bytes, up to the end of its header, are not UTF-8 text."""
    source.stream.seek(0)
    head = source.stream.read(end_byte)
    if (at := head.find(b"\0")) >= 0:
        raise source.error(
            f"a NUL at byte {at}: UTF-16 or binary data, not UTF-8 text", line=1 + head.count(b"\n", 0, at)
        )
    try:
        head.decode()
    except UnicodeDecodeError as error:
        line = 1 + head.count(b"\n", 0, error.start)
        raise source.error(
            f"byte 0x{head[error.start]:02X} at offset {error.start} is not UTF-8: save it as UTF-8", line=line
        ) from error
