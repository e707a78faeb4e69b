"""Excel workbooks (ECMA-376), read as a stream: the parts that a table needs, and of these only what a cell is.

openpyxl would read every part of a stranger's file into trees, and keep all its texts and an element of each row; here
memory holds a row, a chunk of XML, and eight bytes per different text.
"""

import posixpath
from collections.abc import Generator, Iterator
from contextlib import closing
from typing import NoReturn

from openpyxl.utils import get_column_letter

from fleet.files.archives import XmlHandler, archive_open, xml_parse
from fleet.files.places import CellError, FileError, Limits, RowFault, Value, check_columns
from fleet.files.sheets import TAGS, DateStyles, SharedTexts, SheetRow, SheetRows, escapes_read
from fleet.files.sources import Source

PARTS_BYTE = 24 * 2**20
"""Effort for all parts that are read before the sheet: 0.2 s; 60,000 cell styles take 16 MiB. [byte]"""
HEADER_BYTE = 2**23
"""Effort after which the header of a sheet is not looked for any further. [byte]"""
_NO_WORKBOOK = "a zip archive, but no Excel workbook"


class Workbook:
    """A workbook with one sheet whose header is sound."""

    def __init__(self, source: Source, limits: Limits, sheet: str | None) -> None:
        self.source, self.limits = source, limits
        self.sheet: str | None = None
        self.effort_byte = 0
        self.archive = archive_open(source, limits)
        self.parts = {part.filename: part for part in self.archive.infolist()}
        self._check_macros()
        book = self._related("", "officeDocument").get("officeDocument")
        if not book:
            self.refuse(_NO_WORKBOOK)
        path = book[0][1]
        related = self._related(path, "worksheet", "sharedStrings", "styles")
        sheets = _Book(dict(related.get("worksheet", [])))
        self._small(path, sheets)
        self.sheets = tuple(name for name, _, _ in sheets.found)
        self.sheet, self.part = self._sheet_find(sheets, sheet)
        self.dates = DateStyles(is_1904=sheets.is_1904)
        for _, part in related.get("styles", []):
            self._small(part, self.dates)
        self.texts = SharedTexts(limits, self.refuse)
        self.columns: tuple[str, ...] = ()
        try:
            for _, part in related.get("sharedStrings", []):
                self.texts.chunks = self._xml(part, self.texts)
            self.columns, self.header_line = self._header()
        except FileError:
            self.close()
            raise
        self.texts.most_byte = None

    def rows(self) -> Iterator[tuple[int, list[Value]] | RowFault]:
        """Yield the row's number and its cells, or what is wrong with it; rows without a value are passed over."""
        for row in self._sheet_rows():
            if row.line > self.header_line and (row.cells or row.fault):
                yield row.fault or (row.line, [row.cells.get(at) for at in range(len(self.columns))])

    def close(self) -> None:
        self.texts.close()
        self.archive.close()

    def refuse(self, reason: str, line: int | None = None, column: str | None = None) -> NoReturn:
        raise self.source.error(reason, sheet=self.sheet, line=line, column=column)

    def _header(self) -> tuple[tuple[str, ...], int]:
        with closing(self._sheet_rows(most_byte=HEADER_BYTE)) as rows:
            row = next((row for row in rows if row.cells or row.fault), None)
        if row is None:
            self.refuse("no header: the sheet is empty")
        if row.fault:
            self.refuse(f"in the header: {row.fault.reason}", row.line, row.fault.column)
        letters = [get_column_letter(at + 1) for at in range(max(row.cells) + 1)]
        names = []
        for at, letter in enumerate(letters):
            cell = row.cells.get(at, "")
            if not isinstance(cell, str):
                self.refuse("in the header: not a text", row.line, letter)
            names.append(cell.strip())
        try:
            check_columns(names, self.limits, letters)
        except CellError as error:
            self.refuse(str(error), row.line)
        return tuple(names), row.line

    def _sheet_rows(self, most_byte: int | None = None) -> Generator[SheetRow, None, None]:
        """Yield every row that the sheet has, blank ones too."""
        sheet = SheetRows(self.columns, self.limits, texts=self.texts, dates=self.dates, refuse=self.refuse)
        try:
            with closing(self._xml(self.part, sheet)) as chunks:
                for effort_byte in chunks:
                    yield from sheet.done
                    sheet.done.clear()
                    if most_byte and effort_byte > most_byte:
                        self.refuse("no header at the beginning of the sheet")
        except FileError as error:
            if error.line is None and sheet.line:
                self.refuse(error.reason, sheet.line)
            raise

    def _xml(self, part: str, handler: XmlHandler) -> Generator[int, None, None]:
        if part not in self.parts:
            self.refuse(f"the part {part[:100]} is missing")
        return xml_parse(self.archive, part, handler, self.refuse)

    def _small(self, part: str, handler: XmlHandler) -> None:
        """Parse a part that is read whole before the sheet."""
        effort_byte = 0
        for effort_byte in self._xml(part, handler):
            if self.effort_byte + effort_byte > PARTS_BYTE:
                self.refuse(f"the part {part} is too large: copy the cells into a new workbook")
        self.effort_byte += effort_byte

    def _check_macros(self) -> None:
        for name in self.parts:
            if name.lower().endswith("vbaproject.bin") or "/macrosheets/" in name.lower():
                self.refuse(f"a workbook with macros ({name[:100]}): save it as .xlsx without them")
        if "[Content_Types].xml" not in self.parts or "_rels/.rels" not in self.parts:
            self.refuse(_NO_WORKBOOK)
        types = _ContentTypes()
        self._small("[Content_Types].xml", types)
        if types.macros:
            self.refuse("a workbook with macros by its content types: save it as .xlsx without them")

    def _related(self, part: str, *kinds: str) -> dict[str, list[tuple[str, str]]]:
        """Return, per kind, the ids and paths of the parts that a part refers to."""
        folder, base = posixpath.split(part)
        relations = _Relations(folder, kinds)
        self._small(posixpath.join(folder, "_rels", f"{base}.rels"), relations)
        return relations.found

    def _sheet_find(self, book: "_Book", wanted: str | None) -> tuple[str, str]:
        """Return name and part of the sheet that is wanted, or of the first that is shown."""
        if not book.found:
            self.refuse("a workbook without a sheet of cells")
        if wanted is None:
            name, part, _ = next((sheet for sheet in book.found if sheet[2]), book.found[0])
            return name, part
        parts = {name: part for name, part, _ in book.found}
        if wanted not in parts:
            self.refuse(f'no sheet "{wanted[:100]}": there are {", ".join(parts)[:500]}')
        return wanted, parts[wanted]


class _ContentTypes(XmlHandler):
    macros = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        kind = attributes.get("ContentType", "").lower()
        self.macros |= "macroenabled" in kind or "vbaproject" in kind or "macrosheet" in kind


class _Relations(XmlHandler):
    def __init__(self, folder: str, kinds: tuple[str, ...]) -> None:
        self.folder, self.kinds = folder, kinds
        self.found: dict[str, list[tuple[str, str]]] = {}

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        kind = attributes.get("Type", "").rpartition("/")[2]
        if kind in self.kinds and attributes.get("TargetMode") != "External":
            path = posixpath.normpath(posixpath.join("/", self.folder, attributes.get("Target", ""))).lstrip("/")
            self.found.setdefault(kind, []).append((attributes.get("Id", ""), path))


class _Book(XmlHandler):
    """The sheets of cells: name, part, and whether it is shown."""

    def __init__(self, paths: dict[str, str]) -> None:
        self.paths = paths
        self.is_1904 = False
        self.found: list[tuple[str, str, bool]] = []

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = TAGS.get(tag, "")
        if tag == "workbookPr":
            self.is_1904 = attributes.get("date1904") in ("1", "true")
        elif tag == "sheet":
            key = next((value for name, value in attributes.items() if name.endswith("/relationships id")), "")
            if key in self.paths:
                shown = attributes.get("state", "visible") == "visible"
                self.found.append((escapes_read(attributes.get("name", "")), self.paths[key], shown))
