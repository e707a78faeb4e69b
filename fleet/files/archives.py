"""Zip archives and their XML parts from outside: what could burst, hide or run is refused before it is unpacked."""

import struct
import zlib
from collections.abc import Callable, Generator
from typing import NoReturn
from xml.parsers import expat  # external entities are never fetched, and a DOCTYPE is refused below
from zipfile import ZIP_DEFLATED, ZIP_STORED, BadZipFile, ZipFile, ZipInfo

from fleet.files.places import Limits
from fleet.files.sources import CHUNK_BYTE, Source

RATIO_JUDGED_BYTE = 2**20
"""Unpacked bytes before the ratio is judged: short parts of equal rows may compress well. [byte]"""
XML_ENCODINGS = ("utf-8", "utf-16", "us-ascii", "ascii", "iso-8859-1")
XML_DEPTH = 64
XML_TAG_BYTE = 2**20
"""Longest tag or comment: the parser must hold it whole, and searches it again with each chunk. [byte]"""

ELEMENT_BYTE = 64
"""What an element costs: it takes as long as so many bytes of text, measured in 2026 at 0.5 us and 8 ns. [byte]"""

_END = struct.Struct("<4s4H2LH")
_LOCAL = struct.Struct("<4s5H3L2H")
_DIRECTORY_ENTRY_BYTE = 512
"""Room in the directory for one entry; those of a workbook take about 70. [byte]"""
_ENCRYPTED = 0x1 | 0x40 | 0x2000
_NESTED = (".zip", ".7z", ".rar", ".gz", ".jar", ".xlsx", ".xlsm", ".xlsb", ".docx", ".pptx")


def archive_open(source: Source, limits: Limits) -> ZipFile:
    """Open a zip archive after its directory has been judged; nothing is unpacked but the first bytes of each part."""
    directory_at = _check_end(source, limits)
    try:
        archive = ZipFile(source.stream)
        parts = archive.infolist()
    except (BadZipFile, NotImplementedError, ValueError, struct.error) as error:
        raise source.error(f"not a sound zip archive: {error}") from error
    if len(parts) > limits.entries:
        raise source.error(f"an archive of {len(parts):,} parts: at most {limits.entries:,} are read")
    for part in parts:
        _check_part(source, part, limits)
    if len({part.filename.lower() for part in parts}) < len(parts):
        raise source.error("an archive with two parts of one name")
    _check_sum(source, parts, limits)
    _check_places(source, parts, directory_at)
    return archive


def _check_end(source: Source, limits: Limits) -> int:
    """Return where the directory begins. ZipFile would believe and hold a directory of any size."""
    end_at = source.size_byte - _END.size
    source.stream.seek(max(0, end_at - 20))
    tail = source.stream.read()
    if end_at < 0 or not tail[-_END.size :].startswith(b"PK\x05\x06") or tail[-2:] != b"\0\0":
        raise source.error("no directory at the end of the archive: it was cut off, or something is appended")
    _, disk, first_disk, here, entries, size_byte, start, _ = _END.unpack(tail[-_END.size :])
    if tail.startswith(b"PK\x06\x07") or entries == 0xFFFF or 0xFFFFFFFF in (size_byte, start):
        raise source.error("a ZIP64 archive: no table needs one")
    if entries > limits.entries or size_byte > limits.entries * _DIRECTORY_ENTRY_BYTE:
        raise source.error(
            f"an archive of {entries:,} parts in {size_byte:,} bytes of directory: at most {limits.entries:,} are read"
        )
    if disk or first_disk or here != entries or start + size_byte != end_at:
        raise source.error("the directory of the archive is not where its end says")
    return int(start)


def _check_part(source: Source, part: ZipInfo, limits: Limits) -> None:
    name = part.filename[:100]
    if part.flag_bits & _ENCRYPTED:
        raise source.error(f"the part {name} is encrypted: save it without a password")
    if part.compress_type not in (ZIP_STORED, ZIP_DEFLATED):
        raise source.error(f"the part {name} is packed by method {part.compress_type}: only deflate is read")
    if part.filename.lower().endswith(_NESTED):
        raise source.error(f"the part {name} is an archive in the archive")
    if part.compress_type == ZIP_STORED and part.compress_size != part.file_size:
        raise source.error(f"the part {name} gives two sizes")
    _check_ratio(source, f"the part {name} unpacks", part.file_size, part.compress_size, limits)


def _check_ratio(source: Source, what: str, unpacked_byte: int, packed_byte: int, limits: Limits) -> None:
    if unpacked_byte > max(RATIO_JUDGED_BYTE, limits.ratio * packed_byte):
        times = unpacked_byte / max(packed_byte, 1)
        raise source.error(f"{what} to {times:,.0f} times its size: at most {limits.ratio:g} times is read")


def _check_sum(source: Source, parts: list[ZipInfo], limits: Limits) -> None:
    unpacked_byte = sum(part.file_size for part in parts)
    if unpacked_byte > limits.unpacked_byte:
        raise source.error(f"unpacks to {unpacked_byte:,} bytes: at most {limits.unpacked_byte:,} are read")
    _check_ratio(source, "the archive unpacks", unpacked_byte, sum(part.compress_size for part in parts), limits)


def _check_places(source: Source, parts: list[ZipInfo], directory_at: int) -> None:
    """Refuse parts that share bytes, as in the bombs of D. Fifield (2019), and parts that are archives themselves."""
    free_at = 0
    for part in sorted(parts, key=lambda part: part.header_offset):
        name = part.filename[:100]
        source.stream.seek(part.header_offset)
        local = source.stream.read(_LOCAL.size)
        if len(local) < _LOCAL.size or not local.startswith(b"PK\x03\x04"):
            raise source.error(f"the part {name} is not where the directory says")
        *_, name_byte, extra_byte = _LOCAL.unpack(local)
        source.stream.seek(name_byte + extra_byte, 1)
        head = source.stream.read(min(64, part.compress_size))
        if part.header_offset < free_at:
            raise source.error(f"the part {name} overlaps the one before")
        free_at = part.header_offset + _LOCAL.size + name_byte + extra_byte + part.compress_size
        if free_at > directory_at:
            raise source.error(f"the part {name} overlaps the directory")
        if part.compress_type == ZIP_DEFLATED:
            try:
                head = zlib.decompressobj(-zlib.MAX_WBITS).decompress(head, 4)
            except zlib.error as error:
                raise source.error(f"the part {name} is damaged: {error}") from error
        if head.startswith(b"PK\x03\x04"):
            raise source.error(f"the part {name} is an archive in the archive")


class XmlHandler:
    """What a part is parsed into. Names come as "namespace name", as expat joins them."""

    def start(self, tag: str, attributes: dict[str, str]) -> None: ...
    def end(self, tag: str) -> None: ...
    def text(self, data: str) -> None: ...


def xml_parse(
    archive: ZipFile, part: str, handler: XmlHandler, refuse: Callable[[str], NoReturn]
) -> Generator[int, None, None]:
    """Parse a part chunk by chunk; yield the effort so far, so that the caller may take what there is, or stop.

    Effort is the bytes parsed, with ELEMENT_BYTE more for each element. `refuse` raises with the place that the caller
    knows. [byte]
    """
    parser = expat.ParserCreate(namespace_separator=" ")
    depth = elements = 0

    def start(tag: str, attributes: dict[str, str]) -> None:
        nonlocal depth, elements
        depth += 1
        elements += 1
        if depth > XML_DEPTH:
            refuse(f"the part {part} nests deeper than {XML_DEPTH}")
        handler.start(tag, attributes)

    def end(tag: str) -> None:
        nonlocal depth
        depth -= 1
        handler.end(tag)

    def doctype(*_: object) -> None:
        refuse(f"the part {part} declares a DOCTYPE or an ENTITY: no workbook needs one")

    def declared(_version: str, encoding: str | None, _standalone: int) -> None:
        if encoding and encoding.lower() not in XML_ENCODINGS:
            refuse(f"the part {part} is encoded as {encoding[:40]}: UTF-8 and UTF-16 are read")

    parser.buffer_text = True
    parser.XmlDeclHandler = declared
    parser.StartElementHandler, parser.EndElementHandler, parser.CharacterDataHandler = start, end, handler.text
    parser.StartDoctypeDeclHandler = parser.EntityDeclHandler = doctype
    parsed_byte = 0
    try:
        with archive.open(part) as stream:
            while chunk := stream.read(CHUNK_BYTE):
                parser.Parse(chunk, False)  # noqa: FBT003 -- expat takes it by place only
                parsed_byte += len(chunk)
                if parsed_byte - max(parser.CurrentByteIndex, 0) > XML_TAG_BYTE:
                    refuse(f"the part {part} has a tag longer than {XML_TAG_BYTE:,} bytes")
                yield parsed_byte + ELEMENT_BYTE * elements
            parser.Parse(b"", True)  # noqa: FBT003
            yield parsed_byte + ELEMENT_BYTE * elements
    except (expat.ExpatError, BadZipFile, zlib.error, EOFError, NotImplementedError, UnicodeDecodeError) as error:
        refuse(f"the part {part} is damaged: {error}")
