import io
import json
import os
import struct
import subprocess
import sys
import tempfile
import tracemalloc
import zipfile
from collections import Counter
from contextlib import suppress
from datetime import UTC, date, datetime
from enum import Enum, IntEnum
from pathlib import Path

import numpy as np
import openpyxl
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

import fleet.files
from fleet.files import (
    FileError,
    Limits,
    RowFault,
    csv_write,
    json_write,
    table_open,
    xlsx_write,
    yaml_read,
)

ROOT = Path(__file__).parents[2]
MOMENT = datetime.fromisoformat("2027-01-02T03:04:05")


def read(content, name="fleet.csv", **options):
    """Return the rows and faults of a table given as bytes or text."""
    with table_open(
        io.BytesIO(content.encode() if isinstance(content, str) else content), name=name, **options
    ) as table:
        return list(table)


def refused(content, name="fleet.csv", **options):
    """Return the error that a table ends with."""
    with pytest.raises(FileError) as caught:
        read(content, name, **options)
    assert caught.value.file == name
    assert str(caught.value).startswith(name)
    return caught.value


def test_the_face_is_sorted_and_knows_no_framework():
    assert fleet.files.__all__ == sorted(
        fleet.files.__all__, key=lambda name: (not name.isupper(), name.islower(), name)
    )
    code = "import sys, fleet.files; assert 'django' not in sys.modules"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_an_error_names_its_place():
    error = FileError("fleet.xlsx", "empty", sheet="Racks", line=17, column="slug")
    assert str(error) == "fleet.xlsx[Racks]:17: column slug: empty"
    assert (error.file, error.sheet, error.line, error.column, error.reason) == (
        "fleet.xlsx",
        "Racks",
        17,
        "slug",
        "empty",
    )
    assert str(FileError("fleet.csv", "too large")) == "fleet.csv: too large"


# --- size and type ---


@pytest.mark.parametrize("suffix", ["csv", "xlsx", "json", "jsonl"])
def test_ten_gigabytes_are_refused_by_their_size(tmp_path, suffix):
    path = tmp_path / f"fleet.{suffix}"
    with path.open("wb") as stream:
        stream.truncate(10 * 2**30)
    for source, name in ((path, None), (path.open("rb"), str(path))):
        with pytest.raises(FileError, match=r"10,737,418,240 bytes: at most 268,435,456 are read"):
            table_open(source, name=name)
    source.close()


def test_what_is_no_file_is_refused_before_it_is_opened(tmp_path):
    os.mkfifo(tmp_path / "pipe.csv")  # to open it would wait for ever
    with pytest.raises(FileError, match="not a regular file"):
        table_open(tmp_path / "pipe.csv")
    with pytest.raises(FileError, match="not a regular file"):
        table_open(tmp_path)
    with pytest.raises(FileError, match=r"gone\.csv: No such file"):
        table_open(tmp_path / "gone.csv")
    with pytest.raises(TypeError, match="needs a name"):
        table_open(io.BytesIO(b"a"))


def test_a_file_object_stays_open_and_a_path_is_closed(tmp_path):
    stream = io.BytesIO(b"a\n1\n")
    with table_open(stream, name="a.csv") as table:
        assert list(table) == list(table) == [(2, {"a": "1"})]
    assert not stream.closed
    (tmp_path / "a.csv").write_bytes(b"a\n1\n")
    with table_open(tmp_path / "a.csv") as table:
        assert (table.format, table.columns, table.sheet, table.sheets) == ("csv", ("a",), None, ())


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("fleet.csv.gz", "compressed files are not read"),
        ("fleet.zip", "archives are not read"),
        ("fleet.xlsm", "a workbook with macros is not read"),
        ("fleet.xls", "before 2007"),
        ("fleet.tsv", "commas"),
        ("fleet", "tells no format"),
        ("fleet.pdf", "tells no format"),
    ],
)
def test_a_name_that_tells_no_table_is_refused(name, reason):
    assert reason in refused("a\n1\n", name).reason


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.csv", b"PK\x03\x04....", "the name ends in .csv, but the content is a zip archive"),
        ("a.csv", b"\x1f\x8b....", "gzip data"),
        ("a.csv", b"%PDF-1.7", "a PDF"),
        ("a.csv", b'[{"a": 1}]', "JSON"),
        ("a.csv", b'\xef\xbb\xbf {"a": 1}', "JSON"),
        ("a.csv", b"<!DOCTYPE html>", "HTML or XML"),
        ("a.xlsx", b"a\n1\n", "other text"),
        ("a.xlsx", b"\xd0\xcf\x11\xe0\xa1\xb1\x1a\xe1", "an encrypted workbook or one of before 2007"),
        ("a.xlsx", b"PK\x05\x06" + bytes(18), "an empty zip archive"),
        ("a.json", b"a\n1\n", "text that does not begin as JSON objects do"),
        ("a.jsonl", b"a\n1\n", "text that does not begin as JSON objects do"),
        ("a.csv", b"", "the file is empty"),
        ("a.csv", b"\xff\xfea\0", "UTF-16 text by its mark at byte 0"),
        ("a.csv", b"\xfe\xff\0a", "UTF-16 text by its mark at byte 0"),
        ("a.json", b"\xff\xfe\0\0[\0\0\0", "UTF-32 text by its mark at byte 0"),
        ("a.json", '[{"a":1}]'.encode("utf-16-le"), "a NUL at byte 1"),
    ],
)
def test_content_that_is_not_what_the_name_says_is_refused(name, content, reason):
    assert reason in refused(content, name).reason


# --- csv ---


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        (b"\n\r\n,,\n", 1, "no header: every line is blank"),
        (b"a,b,a\n", 1, 'two columns are called "a"'),
        (b"\na,,b\n", 2, "column 2 has no name"),
        (b"a,b,\n", 1, "column 3 has no name"),
        (b",".join(b"c%d" % n for n in range(201)), 1, "201 columns: at most 200 are read"),
        (b"a;b;c\n1;2;3\n", 1, "the header is separated by semicolons: use commas"),
        (b"a\tb\n1\t2\n", 1, "the header is separated by tabs: use commas"),
        (b"slug,gr\xf6\xdfe\n", 1, "byte 0xF6 at offset 7 is not UTF-8"),
        (b"slug,na\0me\n", 1, "a NUL at byte 7"),
        (b'\nslug,"name\n1,2\n', 2, "in the header: a quote is not closed before the end of the file"),
        (b"a,b\r1,2\r", 1, "a carriage return outside of quotes"),
        (b"x" * 20_000, 1, "longer than 10,000 characters"),
        (b"x" * (2**20 + 1), 1, "no header within 1,048,576 bytes"),
        (b'a,"' + b"x\n" * 100_000, 1, "a quote is not closed, or a cell is too long"),
        (b"\n" * 1_000_000 + b"a,b\n", 1001, "no header within the first 1,000 lines"),
    ],
)
def test_a_csv_header_that_is_not_sound_is_refused(content, line, reason):
    error = refused(content)
    assert reason in error.reason
    assert error.line == line


def test_csv_is_read_with_the_line_where_each_row_begins():
    content = '\ufeffslug, name \r\n\r\na,"x ""y"",\nz"\r\n,\r\nb,\r\n'
    assert read(content) == [(3, {"slug": "a", "name": 'x "y",\nz'}), (6, {"slug": "b", "name": None})]


def test_rows_behind_a_fault_are_read():
    content = (
        b"slug,name\n"
        b"a,1\n"
        b"b\n"  # 3
        b"c,1,2\n"  # 4
        b"d,gr\xf6n\n"  # 5
        b'e,"x"y\n'  # 6
        b"f," + b"x" * 10_001 + b"\n"  # 7
        b"g,\0\n"  # 8
        b"h,x\ry\n"  # 9
        b'i,"open\n'  # 10
        b"j,2\n"  # 11
        b"k,3"
    )
    assert read(content) == [
        (2, {"slug": "a", "name": "1"}),
        RowFault(3, "name", "1 cells where the header has 2"),
        RowFault(4, None, "3 cells where the header has 2"),
        RowFault(5, "name", "not UTF-8 text (byte 0xF6)"),
        RowFault(6, None, "unbalanced quotes: ',' expected after '\"'"),
        RowFault(7, "name", "longer than 10,000 characters"),
        RowFault(8, "name", "a NUL character: not text"),
        RowFault(9, None, "a carriage return outside of quotes: end lines by a line feed"),
        RowFault(10, None, "a quote is not closed before the end of the file"),
        (11, {"slug": "j", "name": "2"}),
        (12, {"slug": "k", "name": "3"}),
    ]


def test_a_line_or_an_open_quote_of_any_length_is_one_fault():
    limits = Limits(row_byte=1000)
    assert read(b"a,b\n" + b"x" * 5000 + b"\n1,2\n", limits=limits) == [
        RowFault(2, None, "a line longer than 1,000 bytes"),
        (3, {"a": "1", "b": "2"}),
    ]
    rows = read(b'a,b\n1,"2\n' + b"3,4\n" * 1000, limits=limits)
    assert rows[0] == RowFault(2, None, "a quote is not closed within 1,000 bytes")
    assert rows[1:] == [(line, {"a": "3", "b": "4"}) for line in range(3, 1003)]


def test_quotes_that_never_close_end_the_reading_instead_of_reading_again_and_again(monkeypatch):
    monkeypatch.setattr("fleet.files.csv_tables.REREAD_BYTE", 5000)
    error = refused(b"a,b\n" + b'x","y\n' * 5000, limits=Limits(row_byte=1000))
    assert "too many such rows to go on" in error.reason
    assert error.line == 7


def test_a_row_of_the_wrong_width_over_several_lines_says_so():
    assert read('a,b\n1,"2\n3",4\n5,6\n') == [
        RowFault(2, None, "3 cells where the header has 2, in lines 2 to 3"),
        (4, {"a": "5", "b": "6"}),
    ]


def test_more_rows_than_allowed_end_the_reading():
    for name, content in (("a.csv", "a\n1\n2\n3\n"), ("a.jsonl", '{"a":1}\n' * 3), ("a.xlsx", sheet("12345"))):
        error = refused(content, name, limits=Limits(rows=2))
        assert error.reason == "more than 2 rows"
        assert error.line == (3 if name == "a.jsonl" else 4)


# --- json ---


@pytest.mark.parametrize("spaces", [0, 70_000])
def test_json_is_an_array_or_the_results_of_a_page(spaces):
    rows = '[\n{"a": 1, "b": "x"},\n\n{"b": "", "a": -2.5e3}, {"a": true}]'.replace(",", "," + " " * spaces)
    expected = [(2, {"a": 1, "b": "x"}), (4, {"a": -2500.0, "b": None}), (4, {"a": True, "b": None})]
    assert read(rows, "a.json") == expected
    assert read(f'{{"count": 3, "more": {{"x": [1]}}, "results": {rows}, "next": null}}', "a.json") == expected
    assert read('\ufeff[{"a": 12345678}]\n', "a.json") == [(1, {"a": 12345678})]


def test_json_lines_are_one_object_each():
    content = b'\xef\xbb\xbf{"a": 1, "b": "x"}\n\n{"b": "\xff"}\n{"a": 1} {}\nnull\n{"a": \n{"a": "\\u00e9"}'
    assert read(content, "a.ndjson") == [
        (1, {"a": 1, "b": "x"}),
        RowFault(3, "b", "not UTF-8 text (byte 0xFF)"),
        RowFault(4, None, "text behind the end of the JSON value"),
        RowFault(5, None, "null where an object is expected"),
        RowFault(6, None, "not valid JSON: Expecting value at character 6"),
        (7, {"a": "é", "b": None}),
    ]
    long = b'{"a": 1}\n{"a": "' + b"x" * 3000 + b'"}\n{"a": 2}\n'
    assert read(long, "a.jsonl", limits=Limits(row_byte=1000)) == [
        (1, {"a": 1}),
        RowFault(2, None, "a line longer than 1,000 bytes"),
        (3, {"a": 2}),
    ]
    assert read('{"a": 1}\n' + "[" * 100_000, "a.jsonl")[1] == RowFault(2, None, "nested deeper than 20")


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        ('{"b": 1}', "b", "the first object has no such key"),
        ('{"a": 1, "a": 2}', "a", "given twice"),
        ('{"a": [1]}', "a", "an array where one value is expected"),
        ('{"a": {"b": 1}}', "a", "an object where one value is expected"),
        ('{"a": NaN}', "a", "NaN is not a number"),
        ('{"a": -Infinity}', "a", "-Infinity is not a number"),
        ('{"a": 1e999}', "a", "1e999 is too large a number"),
        ('{"a": ' + "1" * 5000 + "}", "a", "1" * 40 + " is too large a number"),
        ('{"a": "\\ud800"}', "a", "half a surrogate pair"),
        ('{"a": "\\u0000"}', "a", "a NUL character: not text"),
        ('{"a": "' + "x" * 10_001 + '"}', "a", "longer than 10,000 characters"),
        ('{"a": "x}', None, None),
        ('{"a": 1,}', None, "not valid JSON: Expecting property name enclosed in double quotes"),
        ('{"a": "]}" x}', None, "not valid JSON: Expecting ',' delimiter"),
        ('{"a":\n\nx}', None, "not valid JSON: Expecting value (line 5)"),
        ("17", None, "a number where an object is expected"),
        ('"x"', None, "text where an object is expected"),
        ('["x"]', None, "an array where an object is expected"),
        ("[" * 30 + "]" * 30, None, "an array where an object is expected"),
        ("[" * 100_000 + "]" * 100_000, None, "nested deeper than 20"),
    ],
)
def test_a_json_object_that_cannot_be_used_is_a_fault_in_its_place(row, column, reason):
    content = f'[{{"a": 1}},\n\n{row},\n{{"a": 2}}]'
    if reason is None:  # nothing tells where it ends
        assert refused(content, "a.json").line == 3
        return
    first, fault, last = read(content, "a.json")
    assert fault == RowFault(3, column, reason)
    assert (first[1], last[1]) == ({"a": 1}, {"a": 2})


@pytest.mark.parametrize(
    ("content", "line", "reason"),
    [
        ("[]", 1, "an empty array"),
        ("[{}]", 1, "an empty object"),
        ("[[1]]", 1, "an array where an object is expected"),
        ('[{"a": 1, "a": 2}]', 1, 'two columns are called "a"'),
        ('[\n{"a": 1, "": 2}]', 2, "column 2 has no name"),
        (json.dumps([dict.fromkeys(map(str, range(201)))]), 1, "201 columns: at most 200 are read"),
        ('[{"a": 1,}]', 1, "not valid JSON"),
        ('[{"a": 1}', 1, "the end of the file where , or ] is expected"),
        ('[{"a": 1},\n', 2, "not valid JSON: Expecting value"),
        ('[{"a": 1} {"a": 2}]', 1, '"{" where , or ] is expected'),
        ('[{"a": 1}]\n[]', 2, "text behind the end of the JSON value"),
        ('[{"a": 1}, oops]', 1, "not valid JSON: Expecting value"),
        ('{"a": 1}', 1, 'an object without "results": nothing tells the rows'),
        ('{"a": 1}\n{"a": 2}\n', 2, "an object per line belongs in a .jsonl file"),
        ('{"results": {}}', 1, '"{" where [ is expected'),
        ('{"results": [{"a": 1}], "results": []}', 1, '"results" given twice'),
        ('{"results": [{"a": 1}]', 1, "the end of the file where , or } is expected"),
        ('{"count" 1}', 1, '"1" where : is expected'),
        ('{"count": 1, x: 2}', 1, "a key in quotes is missing"),
        ('{"x": "' + "y" * 5_000_000, 1, "a value longer than 1,048,576 bytes"),
        ('{"x": {"y": 1,}, "results": []}', 1, "not valid JSON"),
        ("{" + '"x": 1, ' * 40_000, 1, 'no "results" within the first 262,144 bytes'),
        ('[{"a": 1}\n,' + " " * 2_000_000, 2, "more than 1,048,576 bytes of white space"),
    ],
)
def test_json_that_is_no_table_is_refused(content, line, reason):
    error = refused(content, "a.json")
    assert reason in error.reason
    assert error.line == line


def test_the_encoding_of_the_first_json_object_is_told_by_its_byte():
    assert refused(b'[\n{"gr\xf6\xdfe": 1}]', "a.json").reason.startswith("byte 0xF6 at offset 6 is not UTF-8")
    assert read(b'[{"a": 1},\n{"a": "\xf6"}]', "a.json")[1] == RowFault(2, "a", "not UTF-8 text (byte 0xF6)")


# --- xlsx ---

MAIN = "http://schemas.openxmlformats.org/spreadsheetml/2006/main"
OFFICE = "http://schemas.openxmlformats.org/officeDocument/2006/relationships"


def parts(rows="", *, texts="", formats="", styles="", sheets=("Racks",), properties=""):
    """Return the parts of a workbook whose first sheet has these rows, as XML."""
    found = {
        "[Content_Types].xml": "<Types/>",
        "_rels/.rels": f'<R><Relationship Id="w" Type="{OFFICE}/officeDocument" Target="/xl/workbook.xml"/></R>',
        "xl/workbook.xml": f'<workbook xmlns="{MAIN}" xmlns:r="{OFFICE}"><workbookPr {properties}/><sheets>'
        + "".join(f'<sheet name="{name}" r:id="s{at}"/>' for at, name in enumerate(sheets))
        + "</sheets></workbook>",
        "xl/_rels/workbook.xml.rels": "<R>"
        + "".join(
            f'<Relationship Id="s{at}" Type="{OFFICE}/worksheet" Target="worksheets/sheet{at}.xml"/>'
            for at in range(len(sheets))
        )
        + f'<Relationship Id="t" Type="{OFFICE}/sharedStrings" Target="sharedStrings.xml"/>'
        + f'<Relationship Id="f" Type="{OFFICE}/styles" Target="styles.xml"/></R>',
        "xl/styles.xml": f'<styles xmlns="{MAIN}"><numFmts>{formats}</numFmts><cellXfs>{styles}</cellXfs></styles>',
        "xl/sharedStrings.xml": f'<sst xmlns="{MAIN}">{texts}</sst>',
    }
    for at in range(len(sheets)):
        body = rows if at == 0 else row(1, text("A1", f"column {at}"))
        found[f"xl/worksheets/sheet{at}.xml"] = f'<worksheet xmlns="{MAIN}"><sheetData>{body}</sheetData></worksheet>'
    return found


def pack(files, method=zipfile.ZIP_DEFLATED):
    """Return a zip archive of parts, by name."""
    out = io.BytesIO()
    with zipfile.ZipFile(out, "w", method) as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return out.getvalue()


def row(number, *cells):
    return f'<row r="{number}">{"".join(cells)}</row>'


def text(reference, value):
    return f'<c r="{reference}" t="inlineStr"><is><t>{value}</t></is></c>'


def cell(reference, value, kind="n", style=0):
    return f'<c r="{reference}" t="{kind}" s="{style}"><v>{value}</v></c>'


def sheet(values, **options):
    """Return a workbook of one column, "a", with these numbers."""
    rows = "".join(row(at, cell(f"A{at}", value)) for at, value in enumerate(values, 2))
    return pack(parts(row(1, text("A1", "a")) + rows, **options))


def one(cells, **options):
    """Return what is read of a row with columns a and b in row 3, as a dict, or its fault."""
    content = pack(parts(row(1, text("A1", "a"), text("B1", "b")) + row(3, cells), **options))
    (found,) = read(content, "a.xlsx")
    return found if isinstance(found, RowFault) else found[1]


def test_a_workbook_of_openpyxl_is_read_with_its_types(tmp_path):
    book = openpyxl.Workbook()
    book.active.title = "Racks"
    book.active.append(["slug", "kw", "on", "at", "ok", "note"])
    book.active.append(["a", 12.5, date(2027, 1, 2), MOMENT, True, "x\ny"])
    book.active.append([])
    book.active.append(["b", 7, None, None, False, "'=kept"])
    book.create_sheet("Hosts").append(["host"])
    book.save(tmp_path / "a.xlsx")
    with table_open(tmp_path / "a.xlsx") as table:
        assert (table.sheet, table.sheets, table.format) == ("Racks", ("Racks", "Hosts"), "xlsx")
        assert list(table) == [
            (
                2,
                {
                    "slug": "a",
                    "kw": 12.5,
                    "on": date(2027, 1, 2),
                    "at": MOMENT,
                    "ok": True,
                    "note": "x\ny",
                },
            ),
            (4, {"slug": "b", "kw": 7, "on": None, "at": None, "ok": False, "note": "=kept"}),
        ]
    with table_open(tmp_path / "a.xlsx", sheet="Hosts") as table:
        assert (table.columns, list(table)) == (("host",), [])
    with pytest.raises(FileError, match='no sheet "Rows": there are Racks, Hosts'):
        table_open(tmp_path / "a.xlsx", sheet="Rows")


def test_a_sheet_that_is_hidden_is_read_only_by_its_name():
    files = parts(row(1, text("A1", "a")), sheets=("Lists", "Racks"))
    files["xl/workbook.xml"] = files["xl/workbook.xml"].replace('name="Lists"', 'name="Lists" state="hidden"')
    with table_open(io.BytesIO(pack(files)), name="a.xlsx") as table:
        assert (table.sheet, table.columns) == ("Racks", ("column 1",))
    with table_open(io.BytesIO(pack(files)), name="a.xlsx", sheet="Lists") as table:
        assert table.columns == ("a",)
    assert "only a workbook has sheets" in refused("a\n1\n", sheet="Racks").reason


@pytest.mark.parametrize(
    ("cells", "column", "reason"),
    [
        ('<c r="A3"><f>1+1</f><v>2</v></c>', "a", "a formula: enter its value instead"),
        ('<c r="B3" t="str"><f t="shared" si="0"/></c>', "b", "a formula: enter its value instead"),
        (cell("B3", "#DIV/0!", "e"), "b", "the error #DIV/0!"),
        (cell("A3", "x"), "a", '"x" is not a number'),
        (cell("A3", "1E999"), "a", "1E999 is too large a number"),
        (cell("A3", "7", "s"), "a", "refers to text 7, which the workbook does not have"),
        (cell("A3", "x", "s"), "a", 'refers to the text "x", which is no number'),
        (cell("A3", "x", "q"), "a", 'a cell of the unknown type "q"'),
        (cell("A3", "2027-13-01", "d"), "a", '"2027-13-01" is no date'),
        (text("A3", "x" * 10_001), "a", "longer than 10,000 characters"),
        (text("A3", "x" * 999_999), "a", "longer than 10,000 characters"),
        (text("A3", "_x0000_"), "a", "a NUL character: not text"),
        (text("A3", "_xD800_"), "a", "half a surrogate pair"),
        (text("C3", "x"), "C", "a cell where the header has 2 columns"),
        (text("ZZ3", "x"), "ZZ", "a cell where the header has 2 columns"),
    ],
)
def test_a_cell_that_cannot_be_used_is_a_fault_in_its_place(cells, column, reason):
    assert one(cells) == RowFault(3, column, reason)


def test_texts_shared_inline_rich_and_escaped_are_read():
    shared = "<si><t>plain</t></si><si><r><t>ri</t></r><r><t>ch</t></r><rPh><t>no</t></rPh></si>"
    shared += "<si><t>_x005F_x0041_</t></si>"
    assert one(cell("A3", 1, "s") + cell("B3", 0, "s"), texts=shared) == {"a": "rich", "b": "plain"}
    assert one(cell("A3", 2, "s") + text("B3", "x_x000D_y"), texts=shared) == {"a": "_x0041_", "b": "x\ry"}
    assert one('<c t="str"><v>x</v></c><c t="b"><v>1</v></c>') == {"a": "x", "b": True}


@pytest.mark.parametrize(
    ("number", "style", "value"),
    [
        ("46388", 14, date(2027, 1, 1)),
        ("46388.5", 22, datetime.fromisoformat("2027-01-01T12:00")),
        ("46388", 31, date(2027, 1, 1)),  # a date of Chinese Excel that no style sheet spells out
        ("46388", 0, 46388),
        ("1", 14, date(1900, 1, 1)),
        ("61", 14, date(1900, 3, 1)),
        ("2958465", 14, date(9999, 12, 31)),
        ("2958466", 14, RowFault(3, "a", "2.95847e+06 is no date")),
        ("1E15", 14, RowFault(3, "a", "1e+15 is no date")),
        ("-5", 14, RowFault(3, "a", "-5 is no date")),
        ("0.5", 20, RowFault(3, "a", "a time of day or a duration: give a date, or hours as a number")),
        ("1.5", 46, RowFault(3, "a", "a time of day or a duration: give a date, or hours as a number")),
    ],
)
def test_numbers_are_dates_by_their_style(number, style, value):
    found = one(cell("A3", number, style=1), styles=f'<xf/><xf numFmtId="{style}"/>')
    assert (found if isinstance(found, RowFault) else found["a"]) == value


def test_dates_follow_own_formats_the_year_of_the_workbook_and_iso():
    own = {"formats": '<numFmt numFmtId="170" formatCode="dd.mm.yyyy;@"/>', "styles": '<xf/><xf numFmtId="170"/>'}
    assert one(cell("A3", "46388", style=1), **own)["a"] == date(2027, 1, 1)
    assert one(cell("A3", "44926", style=1), properties='date1904="1"', **own)["a"] == date(2027, 1, 1)
    assert one(cell("A3", "2027-01-01", "d"))["a"] == date(2027, 1, 1)


@pytest.mark.parametrize(
    ("rows", "line", "column", "reason"),
    [
        ("", None, None, "no header: the sheet is empty"),
        (row(2, text("A2", "a"), text("C2", "c")), 2, None, "column B has no name"),
        (row(1, text("A1", "a"), text("B1", " a ")), 1, None, 'two columns are called "a"'),
        (row(1, text("A1", "a"), cell("B1", 7)), 1, "B", "in the header: not a text"),
        (row(1, "<c><f>A2</f></c>"), 1, "A", "in the header: a formula"),
        (row(1, *['<c t="str"><v>x</v></c>'] * 201), 1, "GS", "in the header: too many columns"),
        (row(1, text("A1", "a")) + row(1, text("A1", "a")), 1, None, "row 1 behind row 1"),
        (row(1, text("A1", "a")) + row(9_999_999), 1, None, "row 9999999 behind row 1"),
        (
            row(1, text("A1", "a")) + row(2, text("A2", "a"), text("A2", "b")),
            2,
            None,
            "the cell A2 is out of its place",
        ),
        (row(1, text("A1", "a")) + row(2, text("A7", "a")), 2, None, "the cell A7 is out of its place"),
        (row(1, text("A1", "a")) + row(2, text("ZZZ2", "a")), 2, None, "the cell ZZZ2 is out of its place"),
        (row(1, text("A1", "a")) + row(2) + "<row r='3'><c>", 2, None, "is damaged: mismatched tag"),
    ],
)
def test_a_sheet_that_is_not_sound_is_refused(rows, line, column, reason):
    error = refused(pack(parts(rows)), "a.xlsx")
    assert reason in error.reason
    assert error.sheet == "Racks"
    assert error.column == column
    assert error.line in (line, 3 if "damaged" in reason else line)


@pytest.mark.parametrize("declared", ['<!DOCTYPE x [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]>', "<!DOCTYPE x>"])
@pytest.mark.parametrize("name", list(parts()))
@pytest.mark.parametrize("encoding", ["utf-8", "utf-16"])
def test_no_part_may_declare_a_doctype(name, declared, encoding):
    files = parts(row(1, cell("A1", 0, "s")), texts="<si><t>a</t></si>")
    files[name] = f'<?xml version="1.0" encoding="{encoding}"?>{declared}{files[name]}'.encode(encoding)
    error = refused(pack(files), "a.xlsx")
    assert f"the part {name} declares a DOCTYPE or an ENTITY" in error.reason


@pytest.mark.parametrize("encoding", ["gbk", "utf-7", "nonsense", "idna", "hex", "cp037"])
def test_a_part_in_another_encoding_is_refused(encoding):
    files = parts(row(1, text("A1", "a")))
    files["xl/workbook.xml"] = f'<?xml version="1.0" encoding="{encoding}"?>{files["xl/workbook.xml"]}'
    assert f"the part xl/workbook.xml is encoded as {encoding}" in refused(pack(files), "a.xlsx").reason


def test_a_part_whose_own_name_is_not_text_is_refused():
    content = pack(parts()).replace(b"xl/workbook.xml", b"xl/work\xf6ook.xml", 1)  # in front of the part itself
    at = content.index(b"xl/work\xf6") - 24
    content = content[:at] + bytes([content[at], content[at + 1] | 8]) + content[at + 2 :]  # "my name is UTF-8"
    assert "xl/workbook.xml is damaged" in refused(content, "a.xlsx").reason


def test_macros_are_refused_wherever_they_show():
    kind = "application/vnd.ms-excel.sheet.macroEnabled.main+xml"
    for change in (
        {"xl/vbaProject.bin": b"x"},
        {"xl/macrosheets/sheet1.xml": "<x/>"},
        {"[Content_Types].xml": f'<Types><Override PartName="/xl/workbook.xml" ContentType="{kind}"/></Types>'},
    ):
        assert "a workbook with macros" in refused(pack(parts() | change), "a.xlsx").reason


@pytest.mark.parametrize(
    ("missing", "reason"),
    [
        ("[Content_Types].xml", "a zip archive, but no Excel workbook"),
        ("_rels/.rels", "a zip archive, but no Excel workbook"),
        ("xl/workbook.xml", "the part xl/workbook.xml is missing"),
        ("xl/worksheets/sheet0.xml", "the part xl/worksheets/sheet0.xml is missing"),
        ("xl/sharedStrings.xml", "the part xl/sharedStrings.xml is missing"),
    ],
)
def test_a_part_that_is_missing_is_named(missing, reason):
    files = parts(row(1, text("A1", "a")))
    del files[missing]
    assert refused(pack(files), "a.xlsx").reason == reason


def test_a_workbook_cannot_make_its_reader_search_for_long():
    late = parts(f'<x y="{"z" * 500_000}"/>' * 20 + row(1, text("A1", "a")))
    generous = {"limits": Limits(ratio=1e6)}
    assert "no header at the beginning of the sheet" in refused(pack(late), "a.xlsx", **generous).reason
    texts = "<si><t>x</t></si>" * 1_000_000
    late = parts(row(1, cell("A1", 999_999, "s")), texts=texts)
    assert "its text is too far down among the texts" in refused(pack(late), "a.xlsx", **generous).reason
    long = parts(f'<x y="{"z" * 2_000_000}"/>')
    assert "has a tag longer than 1,048,576 bytes" in refused(pack(long), "a.xlsx", **generous).reason
    assert "nests deeper than 64" in refused(pack(parts("<x>" * 100)), "a.xlsx").reason
    large = parts(styles="<xf/>" * 4_000_000)
    assert "styles.xml is too large" in refused(pack(large), "a.xlsx", **generous).reason


# --- archives ---


def test_archives_that_burst_are_refused_by_what_they_declare():
    zeros = bytes(2 * 2**20)
    assert "the part bomb unpacks to 1,0" in refused(pack({"bomb": zeros}), "a.xlsx").reason
    many = pack({f"p{at}": os.urandom(2000) + bytes(900_000) for at in range(3)})
    assert "the archive unpacks to" in refused(many, "a.xlsx").reason
    assert "unpacks to 2,097,152 bytes: at most 1,000,000" in (
        refused(pack({"a": zeros}), "a.xlsx", limits=Limits(ratio=1e6, unpacked_byte=10**6)).reason
    )
    crowd = pack({f"p{at}": b"" for at in range(10_001)}, zipfile.ZIP_STORED)
    assert "an archive of 10,001 parts" in refused(crowd, "a.xlsx").reason


def test_a_directory_that_lies_about_its_parts_is_refused():
    content = bytearray(pack({f"p{at}": b"" for at in range(50)}))
    struct.pack_into("<2H", content, len(content) - 14, 3, 3)
    assert "an archive of 50 parts: at most 10" in refused(bytes(content), "a.xlsx", limits=Limits(entries=10)).reason
    content = bytearray(pack(parts(row(1, text("A1", "a")))))
    struct.pack_into("<L", content, content.rindex(b"PK\x01\x02") + 24, 100)  # the sheet has more bytes than that
    assert "sheet0.xml is damaged" in refused(bytes(content), "a.xlsx").reason


def test_parts_that_share_bytes_are_refused():
    content = bytearray(pack({"aa": b"x" * 50, "ab": b"x" * 50}))
    second = content.rindex(b"PK\x01\x02")
    struct.pack_into("<L", content, second + 42, 0)  # the second is where the first is
    assert "the part ab overlaps the one before" in refused(bytes(content), "a.xlsx").reason
    content = bytearray(pack({"aa": b"x" * 50}, zipfile.ZIP_STORED))
    struct.pack_into("<2L", content, content.index(b"PK\x01\x02") + 20, 999, 999)
    assert "the part aa overlaps the directory" in refused(bytes(content), "a.xlsx").reason
    struct.pack_into("<L", content, content.index(b"PK\x01\x02") + 42, 7)
    assert "the part aa is not where the directory says" in refused(bytes(content), "a.xlsx").reason


def test_archives_in_archives_are_refused_by_name_and_by_content():
    inner = pack({"x": b"y"})
    for method in (zipfile.ZIP_STORED, zipfile.ZIP_DEFLATED):
        assert (
            "the part data.bin is an archive in the archive"
            in refused(pack({"data.bin": inner}, method), "a.xlsx").reason
        )
    assert "the part x.zip is an archive in the archive" in refused(pack({"x.zip": b""}), "a.xlsx").reason


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (pack(parts())[:-1], "no directory at the end of the archive"),
        (pack(parts()) + b"x" * 30, "no directory at the end of the archive"),
        (b"PK\x03\x04", "no directory at the end of the archive"),
        (pack({"a": b"x"}, zipfile.ZIP_BZIP2), "is packed by method 12: only deflate is read"),
        (pack({"a": b"x", "A": b"y"}), "an archive with two parts of one name"),
        (b"PK\x03\x04" + pack({"a": b"x"}), "the directory of the archive is not where its end says"),
        (b"PK\x03\x04" + b"PK\x06\x07" + bytes(16) + b"PK\x05\x06" + bytes(18), "a ZIP64 archive"),
        (
            b"PK\x03\x04" + b"PK\x05\x06" + bytes(8) + struct.pack("<2LH", 0, 4, 0),
            "a zip archive, but no Excel workbook",
        ),
    ],
)
def test_an_archive_that_is_not_sound_is_refused(content, reason):
    assert reason in refused(content, "a.xlsx").reason


def test_an_encrypted_part_is_refused():
    content = bytearray(pack(parts()))
    content[content.index(b"PK\x01\x02") + 8] |= 1
    assert "the part [Content_Types].xml is encrypted" in refused(bytes(content), "a.xlsx").reason


def test_a_part_that_is_damaged_ends_the_reading_with_its_line():
    rows = "".join(row(at, cell(f"A{at}", os.urandom(20).hex(), "str")) for at in range(2, 5000))
    content = bytearray(pack(parts(row(1, text("A1", "a")) + rows), zipfile.ZIP_STORED))
    content[content.index(b'<row r="4000"') + 50] ^= 1  # one bit of a text: only the checksum tells
    error = refused(bytes(content), "a.xlsx")
    assert "sheet0.xml is damaged: Bad CRC-32" in error.reason
    assert error.line > 4000


# --- memory ---


def growth_byte(work):
    tracemalloc.start()
    try:
        return work(), tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()


def count(path):
    with table_open(path) as table:
        return sum(not isinstance(found, RowFault) for found in table)


@pytest.mark.parametrize(
    ("suffix", "head", "line", "tail", "rows"),
    [
        ("csv", "a,b\n", '{n},"name, {n}"\n', "", 200_000),
        ("json", "[", '{{"a": {n}, "b": "name"}},\n', '{"a": 1}]', 60_000),
        ("jsonl", "", '{{"a": {n}, "b": "name"}}\n', '{"a": 1}', 60_000),
    ],
)
def test_a_long_text_is_read_in_constant_memory(tmp_path, suffix, head, line, tail, rows):
    path = tmp_path / f"a.{suffix}"
    with path.open("w") as stream:
        stream.write(head)
        stream.writelines(line.format(n=at) for at in range(rows))
        stream.write(tail)
    found, grown_byte = growth_byte(lambda: count(path))
    assert found == rows + bool(tail)
    assert grown_byte < 5e6


def test_a_long_sheet_is_read_in_constant_memory(tmp_path):
    rows = 50_000
    with zipfile.ZipFile(tmp_path / "a.xlsx", "w", zipfile.ZIP_DEFLATED) as archive:
        files = parts(row(1, cell("A1", 0, "s"), text("B1", "b")))
        files["xl/sharedStrings.xml"] = files["xl/sharedStrings.xml"].replace(
            "</sst>", "".join(f"<si><t>text {at}</t></si>" for at in range(rows)) + "</sst>"
        )
        files["xl/worksheets/sheet0.xml"] = files["xl/worksheets/sheet0.xml"].replace(
            "</sheetData>",
            "".join(row(at + 1, cell(f"A{at + 1}", at, "s"), cell(f"B{at + 1}", at)) for at in range(1, rows))
            + "</sheetData>",
        )
        for name, content in files.items():
            archive.writestr(name, content)
    found, grown_byte = growth_byte(lambda: count(tmp_path / "a.xlsx"))
    assert found == rows - 1
    assert grown_byte < 10e6


def test_tables_are_written_in_constant_memory(tmp_path):
    def rows(number):
        return ({"a": at, "b": f"name {at}"} for at in range(number))

    for write in (csv_write, json_write):
        chunks, grown_byte = growth_byte(lambda write=write: sum(1 for _ in write(["a", "b"], rows(50_000))))
        assert chunks > 10
        assert grown_byte < 3e6
    _, grown_byte = growth_byte(lambda: xlsx_write(["a", "b"], rows(5_000), tmp_path / "a.xlsx"))
    assert grown_byte < 3e6


# --- writers ---

FORMULAS = ["=1+1", "+1", "-1", "@SUM(A1)", "\t=1", "\r=1", "'=1", "''=1", "'", "'x", "=", "-"]


def test_text_that_a_spreadsheet_would_run_is_guarded_and_numbers_are_not():
    written = b"".join(csv_write(["=a"], [{"=a": value} for value in [*FORMULAS, -5, -0.5]])).decode()
    assert written == (
        "'=a\r\n'=1+1\r\n'+1\r\n'-1\r\n'@SUM(A1)\r\n'\t=1\r\n\"'\r=1\"\r\n''=1\r\n'''=1\r\n'\r\n'x\r\n'=\r\n'-\r\n-5\r\n-0.5\r\n"
    )
    assert [found["=a"] for _, found in read(written)] == [*FORMULAS, "-5", "-0.5"]


def test_no_cell_of_a_written_sheet_is_a_formula_or_an_error(tmp_path):
    texts = [*FORMULAS, "#N/A", "#DIV/0!", "_x0041_"]
    xlsx_write(["=a"], [{"=a": value} for value in texts], tmp_path / "a.xlsx", sheet="Racks")
    page = openpyxl.load_workbook(tmp_path / "a.xlsx")["Racks"]
    assert Counter(found.data_type for (found,) in page.iter_rows()) == {"s": len(texts) + 1}
    with table_open(tmp_path / "a.xlsx") as table:
        assert (table.columns, [found["=a"] for _, found in table]) == (("=a",), texts)


def test_enumerations_and_numbers_of_numpy_are_written_as_what_they_are(tmp_path):
    row = {"a": IntEnum("Tier", "GOLD").GOLD, "b": np.float64(0.5), "c": Enum("Kind", {"CARD": "card"}, type=str).CARD}
    expected = {"a": 1, "b": 0.5, "c": "card"}
    xlsx_write(["a", "b", "c"], [row], tmp_path / "a.xlsx")
    with table_open(tmp_path / "a.xlsx") as table:
        assert list(table) == list(table) == [(2, expected)]
    assert b"".join(csv_write(["a", "b", "c"], [row])) == b"a,b,c\r\n1,0.5,card\r\n"
    assert json.loads(b"".join(json_write(["a", "b", "c"], [row]))) == [expected]


def test_json_is_not_guarded():
    assert json.loads(b"".join(json_write(["a"], [{"a": "=1"}, {}]))) == [{"a": "=1"}, {"a": None}]
    assert json.loads(b"".join(json_write(["a"], []))) == []


@pytest.mark.parametrize(
    ("columns", "row", "error", "reason"),
    [
        (["a"], {"a": float("nan")}, ValueError, "line 2: column a: nan is not a finite number"),
        (["a"], {"a": "\0"}, ValueError, "line 2: column a: a NUL character"),
        (["a"], {"b": 1}, ValueError, "line 2: no column b"),
        (["a"], {"a": [1]}, TypeError, "line 2: column a: a list is no cell"),
        ([], {}, ValueError, "0 columns"),
        (["a", "a"], {}, ValueError, 'two columns are called "a"'),
        (["a "], {}, ValueError, "begins or ends with a blank"),
    ],
)
def test_what_could_not_be_read_back_is_not_written(tmp_path, columns, row, error, reason):
    for write in (csv_write, json_write, lambda columns, rows: [xlsx_write(columns, rows, tmp_path / "a.xlsx")]):
        with pytest.raises(error, match=reason):
            list(write(columns, [row]))
    assert not (tmp_path / "a.xlsx").exists()


def test_a_sheet_that_fails_half_way_leaves_no_file_behind(tmp_path, monkeypatch):
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    for row, sheet_name in (({"a": object()}, "Racks"), ({"a": "x" * 40_000}, "Racks"), ({"a": 1}, "R" * 32)):
        with pytest.raises((ValueError, TypeError)):
            xlsx_write(["a"], [{"a": 1}, row], tmp_path / "a.xlsx", sheet=sheet_name)
    assert list(tmp_path.iterdir()) == []


def test_moments_with_a_zone_and_days_that_excel_miscounts_are_text_in_a_sheet():
    values = [datetime(2027, 1, 2, 3, tzinfo=UTC), date(1899, 1, 1), MOMENT, date(1900, 3, 1)]
    out = io.BytesIO()
    xlsx_write(["a"], [{"a": value} for value in values], out)
    assert [found["a"] for _, found in read(out.getvalue(), "a.xlsx")] == [
        "2027-01-02T03:00:00+00:00",
        "1899-01-01",
        *values[2:],
    ]


TEXT = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="\0"), max_size=12) | st.builds(
    str.__add__,
    st.sampled_from([*FORMULAS, '"', '""', ",", "\n", "\r\n", "\r", "_x000D_", " ", "é€😀"]),
    st.text("=+-@'\"\n\r\t,x "),
)
NUMBER = st.integers(-(10**39), 10**39) | st.floats(allow_nan=False, allow_infinity=False)
VALUE = st.none() | TEXT | NUMBER | st.booleans() | st.dates(min_value=date(1900, 3, 1))
ROWS = st.lists(st.fixed_dictionaries({"slug": TEXT, "=b": VALUE, "c": VALUE}), min_size=1, max_size=8)


def plain(value):
    """Return what a cell is when only text can be told."""
    if value is None or value == "":
        return None
    if isinstance(value, bool):
        return str(value).lower()
    return value.isoformat() if isinstance(value, date) else value if isinstance(value, str) else repr(value)


def typed(row):
    """Return a row that does not take 1, 1.0 and True for the same."""
    return {name: (type(value), value) for name, value in row.items()}


@settings(deadline=None)
@given(ROWS)
def test_csv_gives_back_what_was_written(rows):
    found = read(b"".join(csv_write(["slug", "=b", "c"], rows)))
    expected = [{name: plain(value) for name, value in row.items()} for row in rows]
    assert [row for _, row in found] == [row for row in expected if any(row.values())]


@settings(deadline=None)
@given(ROWS)
def test_json_gives_back_what_was_written(rows):
    expected = [
        {
            name: value.isoformat() if isinstance(value, date) else None if value == "" else value
            for name, value in row.items()
        }
        for row in rows
    ]
    content = b"".join(json_write(["slug", "=b", "c"], rows))
    assert [typed(row) for _, row in read(content, "a.json")] == [typed(row) for row in expected]
    lines = "".join(json.dumps(row) + "\n" for row in expected)
    assert [row for _, row in read(lines, "a.jsonl")] == expected


@settings(suppress_health_check=[HealthCheck.too_slow], deadline=None)
@given(ROWS)
def test_xlsx_gives_back_what_was_written_with_its_types(rows):
    out = io.BytesIO()
    xlsx_write(["slug", "=b", "c"], rows, out)
    expected = [{name: None if value == "" else value for name, value in row.items()} for row in rows]
    assert [typed(row) for _, row in read(out.getvalue(), "a.xlsx")] == [
        typed(row) for row in expected if any(value is not None for value in row.values())
    ]


@settings(deadline=None)
@given(
    st.binary(max_size=300),
    st.sampled_from(["csv", "json", "jsonl", "xlsx"]),
    st.sampled_from([b"", b"a,b\n", b'[{"a":1},', b'{"a":1}\n']),
)
def test_bytes_of_any_kind_end_in_rows_faults_or_one_error(content, suffix, head):
    with suppress(FileError):
        read(head + content, f"a.{suffix}")


@settings(deadline=None)
@given(st.data())
def test_a_workbook_with_bytes_changed_ends_in_rows_faults_or_one_error(data):
    content = bytearray(
        pack(parts(row(1, cell("A1", 0, "s")) + row(2, cell("A2", 5)), texts="<si><t>a</t></si>"), zipfile.ZIP_STORED)
    )
    for _ in range(data.draw(st.integers(1, 4))):
        content[data.draw(st.integers(4, len(content) - 1))] = data.draw(st.integers(0, 255))
    with suppress(FileError):
        read(bytes(content), "a.xlsx")


# --- yaml ---


def yaml_of(content, **options):
    return yaml_read(io.BytesIO(content.encode() if isinstance(content, str) else content), name="a.yaml", **options)


def test_yaml_scalars_mean_what_they_look_like():
    content = "on: 2027-01-01\ncountry: no\nfloor: 010\nat: 12:30\nkw: 1.5\nbig: 1e3\nn: -3\n"
    content += "empty:\nnone: ~\nok: true\nlist: [a, {b: 0x1F}]\n"
    assert yaml_of(content) == {
        "on": "2027-01-01",
        "country": "no",
        "floor": "010",
        "at": "12:30",
        "kw": 1.5,
        "big": 1000.0,
        "n": -3,
        "empty": None,
        "none": None,
        "ok": True,
        "list": ["a", {"b": "0x1F"}],
    }


@pytest.mark.parametrize(
    ("content", "line", "column", "reason"),
    [
        ("a: &x [1]\nb: *x\n", 2, 4, "the alias *x: write out what it stands for"),
        ("a: &a [*a]\n", 1, 8, "the alias *a"),
        ("a: 1\nb: 2\na: 3\n", 3, 1, 'the key "a" is given twice'),
        ("a: {b: 1, 'b': 2}\n", 1, 11, 'the key "b" is given twice'),
        ("1: a\n", 1, 1, "a key that is no text"),
        ("a:\n  ? [b]\n  : c\n", 2, 5, "a key that is no text"),
        ("a: !!python/object/apply:os.system [x]\n", 1, 4, "the tag tag:yaml.org,2002:python/object/apply:os.system"),
        ("a: !!str 5\n", 1, 4, "the tag tag:yaml.org,2002:str"),
        ("[" * 30 + "]" * 30, 1, 21, "nested deeper than 20"),
        ("[" * 1_000_000, 1, 21, "nested deeper than 20"),
        ("a: [1\n", 2, 1, "while parsing a flow sequence, expected ',' or ']'"),
        ("a: 1\n---\nb: 2\n", 2, 1, "expected a single document"),
        ("a: 1\nb: x\x07\n", 2, 5, "the character U+0007 is not allowed"),
        ("a: 1e999\n", 1, 4, "1e999 is too large a number"),
        (b"a: 1\nb: \xf6\n", 2, None, "byte 0xF6 at offset 8 is not UTF-8"),
        (b"\xff\xfea\0", None, None, "UTF-16 text by its mark at byte 0"),
        (b"a: \0", 1, None, "a NUL at byte 3"),
        (b"PK\x03\x04", None, None, "not YAML, but a zip archive"),
        (b"", None, None, "the file is empty"),
        (b"#" * (2**20 + 1), None, None, "1,048,577 bytes: at most 1,048,576 are read"),
    ],
)
def test_yaml_that_repeats_refers_or_constructs_is_refused(content, line, column, reason):
    with pytest.raises(FileError) as caught:
        yaml_of(content)
    assert reason in caught.value.reason
    assert (caught.value.file, caught.value.line, caught.value.column) == ("a.yaml", line, column)


def test_yaml_is_read_from_a_path(tmp_path):
    (tmp_path / "a.yaml").write_text("a: 1\n")
    assert yaml_read(tmp_path / "a.yaml") == {"a": 1}
    with pytest.raises(FileError, match=r"gone\.yaml: No such file"):
        yaml_read(tmp_path / "gone.yaml")
