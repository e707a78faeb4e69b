"""The sheet of a workbook as a stream of rows: cells, the dates among its numbers, and its shared texts."""

import re
import tempfile
from array import array
from collections.abc import Callable, Generator
from datetime import date, datetime, timedelta
from typing import NoReturn

from openpyxl.styles.numbers import BUILTIN_FORMATS, is_date_format, is_timedelta_format
from openpyxl.utils import get_column_letter

from fleet.files.archives import XmlHandler
from fleet.files.places import CellError, Limits, RowFault, Value, formula_unguard, number_of

MAX_LINE, MAX_COLUMN = 2**20, 2**14
MAX_TEXTS = 4_000_000
TEXTS_BYTE = 2**25
"""Effort after which the texts of a header are not looked for any further: 0.3 s, or 200,000 short texts. [byte]"""

_NAMESPACES = (
    "http://schemas.openxmlformats.org/spreadsheetml/2006/main",
    "http://purl.oclc.org/ooxml/spreadsheetml/main",  # "strict" files
)
_NAMES = "row c v f t rPh si workbookPr sheet numFmt cellXfs xf"
TAGS = {f"{space} {tag}": tag for space in _NAMESPACES for tag in _NAMES.split()}
"""What expat calls the elements that matter, and what we call them."""

_REFERENCE = re.compile(r"([A-Z]{1,3})([1-9][0-9]{0,6})")
_ESCAPE = re.compile(r"_x([0-9A-Fa-f]{4})_")
_FORMAT_DATES = (27, 28, 29, 30, 31, 36, 50, 51, 52, 53, 54, 57, 58)  # ECMA-376 18.8.30: built in for zh, ja, ko
_FORMAT_TIMES = (32, 33, 34, 35, 55, 56)


def escapes_read(text: str) -> str:
    """Return text with its _xHHHH_ replaced by the characters that XML could not hold (ECMA-376 22.9.2.19)."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), text) if "_x" in text else text


class DateStyles(XmlHandler):
    """Which styles make a date of a number."""

    def __init__(self, *, is_1904: bool) -> None:
        self.epoch = datetime(1904, 1, 1) if is_1904 else datetime(1899, 12, 30)  # noqa: DTZ001 -- Excel has no zones
        self.codes = (
            BUILTIN_FORMATS | dict.fromkeys(_FORMAT_DATES, "yyyy-mm-dd") | dict.fromkeys(_FORMAT_TIMES, "[h]:mm")
        )
        self.styles: list[int] = []
        self.kinds: dict[int, str] = {}
        """Of the styles that cells have asked for: a workbook may have many more."""
        self.inside = False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = TAGS.get(tag, "")
        if tag == "numFmt":
            self.codes[_whole(attributes.get("numFmtId"))] = attributes.get("formatCode", "")[:255]
        elif tag == "cellXfs":
            self.inside = True
        elif tag == "xf" and self.inside:
            self.styles.append(_whole(attributes.get("numFmtId")))

    def end(self, tag: str) -> None:
        if TAGS.get(tag) == "cellXfs":
            self.inside = False

    def value(self, number: int | float, style: str) -> Value:
        """Return the date of a number whose style is a date's, and any other number as it is."""
        at = _whole(style)
        kind = self.kinds.get(at)
        if kind is None:
            code = self.codes.get(self.styles[at]) if at < len(self.styles) else None
            kind = self.kinds[at] = _format_kind(code or "")
        if not kind:
            return number
        if kind != "date" or 0 <= number < 1:
            raise CellError("a time of day or a duration: give a date, or hours as a number")
        missed = 1 if number < 60 and self.epoch.year < 1904 else 0  # Excel counts a 29 February 1900
        try:
            if number < 0:
                raise OverflowError
            moment = self.epoch + timedelta(days=number // 1 + missed, milliseconds=round(number % 1 * 86_400_000))
        except OverflowError as error:
            raise CellError(f"{number:g} is no date") from error
        return _date_or_moment(moment)


def _date_or_moment(moment: datetime) -> date:
    return moment if moment.time() != datetime.min.time() else moment.date()


def _format_kind(code: str) -> str:
    if is_timedelta_format(code):
        return "time"
    return "date" if is_date_format(code) else ""


def _whole(text: str | None) -> int:
    return int(text) if text and len(text) < 10 and text.isascii() and text.isdigit() else 0


class _TextHandler(XmlHandler):
    """Gathers the text of <t> and <v>, but for phonetic hints, up to more than a cell may have."""

    def __init__(self, limits: Limits) -> None:
        self.longest = 7 * limits.cell_chars + 7  # a character may be written by seven
        self.pieces: list[str] = []
        self.held, self.taking, self.phonetic = 0, False, False

    def start(self, tag: str, attributes: dict[str, str]) -> None:
        tag = TAGS.get(tag, "")
        if tag in ("v", "t"):
            self.taking = not self.phonetic
        elif tag == "rPh":
            self.phonetic = True
        elif tag:
            self.opened(tag, attributes)

    def end(self, tag: str) -> None:
        tag = TAGS.get(tag, "")
        if tag in ("v", "t"):
            self.taking = False
        elif tag == "rPh":
            self.phonetic = False
        elif tag:
            self.closed(tag)

    def text(self, data: str) -> None:
        if self.taking and self.held < self.longest:
            self.pieces.append(data)
            self.held += len(data)

    def drain(self) -> str:
        text = "".join(self.pieces)
        self.pieces.clear()
        self.held = 0
        return text

    def opened(self, tag: str, attributes: dict[str, str]) -> None: ...
    def closed(self, tag: str) -> None: ...


class SharedTexts(_TextHandler):
    """The texts that cells refer to by number, laid down on disk in their order, as far as they were asked for."""

    def __init__(self, limits: Limits, refuse: Callable[[str], NoReturn]) -> None:
        super().__init__(limits)
        self.refuse = refuse
        self.most_byte: int | None = TEXTS_BYTE
        """How far to look; set while the header is read."""
        self.chunks: Generator[int, None, None] = (0 for _ in ())
        self.spool = tempfile.SpooledTemporaryFile(max_size=2**20)  # noqa: SIM115 -- closed with the workbook
        self.ends = array("Q", [0])
        self.fresh: list[str] = []

    def close(self) -> None:
        self.chunks.close()
        self.spool.close()

    def get(self, reference: str) -> str:
        number = _whole(reference)
        if str(number) != reference:
            raise CellError(f'refers to the text "{reference[:20]}", which is no number')
        while number >= len(self.ends) - 1:
            effort_byte = next(self.chunks, None)
            if effort_byte is None:
                raise CellError(f"refers to text {number}, which the workbook does not have")
            self._lay_down()
            if self.most_byte and effort_byte > self.most_byte:
                raise CellError("its text is too far down among the texts: copy the cells into a new workbook")
        self.spool.seek(self.ends[number])
        return self.spool.read(self.ends[number + 1] - self.ends[number]).decode("utf-8", "surrogatepass")

    def _lay_down(self) -> None:
        if len(self.ends) + len(self.fresh) > MAX_TEXTS:
            self.refuse(f"more than {MAX_TEXTS:,} different texts")
        self.spool.seek(self.ends[-1])
        for text in self.fresh:
            self.ends.append(self.ends[-1] + self.spool.write(text.encode("utf-8", "surrogatepass")))
        self.fresh.clear()

    def closed(self, tag: str) -> None:
        if tag == "si":
            self.fresh.append(escapes_read(self.drain()))


class SheetRow:
    """One row of a sheet: values by column, and the first fault."""

    def __init__(self, line: int) -> None:
        self.line = line
        self.cells: dict[int, Value] = {}
        self.fault: RowFault | None = None


class SheetRows(_TextHandler):
    """The rows of a sheet as they are closed; whoever parses takes them from `done`."""

    def __init__(
        self,
        columns: tuple[str, ...],
        limits: Limits,
        *,
        texts: SharedTexts,
        dates: DateStyles,
        refuse: Callable[[str, int], NoReturn],
    ) -> None:
        super().__init__(limits)
        self.columns, self.texts, self.dates, self.refuse = columns, texts, dates, refuse
        self.width = len(columns) or limits.columns
        self.done: list[SheetRow] = []
        self.row: SheetRow | None = None
        self.line, self.column = 0, -1
        self.cell: dict[str, str] = {}
        self.formula = False

    def opened(self, tag: str, attributes: dict[str, str]) -> None:
        if tag == "c":
            self.cell, self.formula = attributes, False
            self.drain()
            self._place(attributes.get("r"))
        elif tag == "f":
            self.formula = True
        elif tag == "row":
            number = attributes.get("r")
            line = _whole(number) if number else self.line + 1
            if not self.line < line <= MAX_LINE:
                self.refuse(f"row {(number or str(line))[:20]} behind row {self.line}", self.line)
            self.row, self.line, self.column = SheetRow(line), line, -1

    def closed(self, tag: str) -> None:
        if self.row is None:
            return
        if tag == "c":
            self._cell_close(self.row)
        elif tag == "row":
            self.done.append(self.row)
            self.row = None

    def _place(self, reference: str | None) -> None:
        if reference is None:
            self.column += 1
            return
        found = _REFERENCE.fullmatch(reference)
        column = -1
        for letter in found[1] if found else "":
            column = (column + 1) * 26 + ord(letter) - 65
        if not found or int(found[2]) != self.line or not self.column < column < MAX_COLUMN:
            self.refuse(f"the cell {reference[:20]} is out of its place", self.line)
        self.column = column

    def _cell_close(self, row: SheetRow) -> None:
        try:
            value = self._value()
            if value is None:
                return
            if self.column >= self.width:
                raise CellError(
                    f"a cell where the header has {len(self.columns)} columns" if self.columns else "too many columns"
                )
            row.cells[self.column] = value
        except CellError as error:
            known = self.column < len(self.columns)
            name = self.columns[self.column] if known else get_column_letter(self.column + 1)
            row.fault = row.fault or RowFault(row.line, name, str(error))

    def _value(self) -> Value:
        kind, text = self.cell.get("t", "n"), self.drain()
        if self.formula:
            raise CellError("a formula: enter its value instead")
        if not text:
            return None
        match kind:
            case "n":
                return self.dates.value(number_of(text), self.cell.get("s", "0"))
            case "s":
                return formula_unguard(self.texts.get(text)) or None
            case "inlineStr" | "str":
                return formula_unguard(escapes_read(text)) or None
            case "b":
                return text.strip() in ("1", "true")
            case "d":
                return _iso_date(text)
            case "e":
                raise CellError(f"the error {text[:20]}")
        raise CellError(f'a cell of the unknown type "{kind[:20]}"')


def _iso_date(text: str) -> date:
    try:
        return _date_or_moment(datetime.fromisoformat(text))
    except ValueError as error:
        raise CellError(f'"{text[:40]}" is no date') from error
