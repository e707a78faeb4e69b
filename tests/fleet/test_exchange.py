"""Tables from outside: what is wrong is said with its place, and nothing is half-written."""

import io
import json
import tracemalloc
from datetime import date
from decimal import Decimal

import pytest
from django.core.management import CommandError, call_command
from openpyxl import Workbook

from fleet.audit import Author, writing_as
from fleet.exchange import ImportFault, csv_export, entry_rows, fleet_import, import_read, import_run
from fleet.exchange import imports as imports_module
from fleet.exchange.columns import UNSAID, columns_of
from fleet.files import Limits
from fleet.files.places import CellError
from fleet.inventory import INVENTORY
from fleet.models import (
    Card,
    Change,
    ChangeSet,
    CoolingLink,
    Endpoint,
    FirmwareSet,
    Host,
    HostType,
    PolicyEvent,
    PowerLink,
    PowerNode,
    Rack,
    Region,
    RegionLimit,
    Service,
    Site,
)
from tests.factories import fleet_rows
from tests.fleet.kinds import CHIP, every_kind, place_rows

pytestmark = pytest.mark.django_db

HOSTS = INVENTORY["hosts"]


def file(text, name="hosts.csv"):
    return {"source": io.BytesIO(text if isinstance(text, bytes) else text.encode()), "name": name}


def hosts_import(*lines, header="slug,host_type,rack,position_u", **options):
    return import_run(HOSTS, **file("\n".join((header, *lines))), **options)


def told(report):
    return [str(fault) for fault in report.errors]


# --- cells ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize(
    ("entry", "name", "cell", "value"),
    [
        ("hosts", "slug", "a-1", "a-1"),
        ("hosts", "slug", 12, "12"),
        ("hosts", "rack", "dc01-a1", "dc01-a1"),
        ("racks", "row", "dc01/h1/a", "dc01/h1/a"),
        ("hosts", "position_u", "7", 7),
        ("hosts", "position_u", " 7 ", 7),
        ("hosts", "position_u", 7.0, 7),
        ("hosts", "position_u", None, None),
        ("hosts", "face", None, UNSAID),
        ("racks", "cooling", None, ""),
        ("racks", "power_limit_w", "1e4", 10_000.0),
        ("racks", "power_limit_w", 10_000, 10_000.0),
        ("power-nodes", "phases", "3", 3),
        ("host-types", "full_depth", "FALSE", False),
        ("host-types", "full_depth", "yes", True),
        ("host-types", "full_depth", 0, False),
        ("host-types", "price", "12.50", Decimal("12.5")),
        ("host-types", "price", 0.1, Decimal("0.1")),
        ("hosts", "planned_on", "2027-01-31", date(2027, 1, 31)),
        ("hosts", "planned_on", date(2027, 1, 31), date(2027, 1, 31)),
    ],
)
def test_a_cell_is_read_as_its_field(entry, name, cell, value):
    read = columns_of(INVENTORY[entry])[name].read(cell)
    assert (read, type(read)) == (value, type(value))


@pytest.mark.parametrize(
    ("entry", "name", "cell", "reason"),
    [
        ("hosts", "slug", None, "empty: a value is needed"),
        ("hosts", "slug", "a b", "slug"),
        ("hosts", "slug", True, "where text is expected"),
        ("hosts", "slug", "x" * 51, "at most 50 characters"),
        ("hosts", "position_u", "seven", '"seven" is not a whole number'),
        ("hosts", "position_u", "7.5", '"7.5" is not a whole number'),
        ("hosts", "position_u", 7.5, '"7.5" is not a whole number'),
        ("hosts", "position_u", "0", "greater than or equal to 1"),
        ("hosts", "position_u", True, "is not a whole number"),
        ("hosts", "position_u", 1e300, "less than or equal to"),
        ("hosts", "face", "side", '"side" is none of: front, rear'),
        ("power-nodes", "phases", "2", '"2" is none of: 1, 3'),
        ("racks", "power_limit_w", "lots", '"lots" is not a number'),
        ("racks", "power_limit_w", "nan", "is not a number"),
        ("racks", "power_limit_w", "1e400", "too large"),
        ("racks", "power_limit_w", "1e12", "less than or equal to"),
        ("racks", "row", "dc01/h1", '"dc01/h1" is no key of rows: written as dc01/h1/a'),
        ("host-types", "full_depth", "perhaps", '"perhaps" is neither true nor false'),
        ("host-types", "price", "12.505", "2 decimal places"),
        ("host-types", "price", "inf", "is not a number"),
        ("host-types", "chip", "thead-ppu-810", "thead-ppu-810e"),
        ("hosts", "planned_on", "31.01.2027", '"31.01.2027" is no day: written as 2027-01-31'),
        ("hosts", "planned_on", "2027-02-30", "is no day"),
        ("hosts", "planned_on", "20270131", "is no day"),
        ("hosts", "planned_on", 46_000, "is no day"),
        ("hosts", "planned_on", "1999-12-31", "out of reach"),
    ],
)
def test_a_cell_that_says_nothing_is_refused_with_the_reason(entry, name, cell, reason):
    for _ in range(2):  # remembered or not
        with pytest.raises(CellError) as caught:
            columns_of(INVENTORY[entry])[name].read(cell)
        assert reason in str(caught.value)


# --- rows -------------------------------------------------------------------------------------------------------------
def test_columns_come_in_any_order_and_those_left_out_keep_what_is_there():
    fleet_rows(hosts=2)
    Host.objects.filter(slug="host-0").update(position_u=30)
    lines = ("dc01-a2,host-0,h20-8x", "dc01-a2,new,h20-8x")
    report = hosts_import(*lines, header="rack,slug,host_type")
    assert report.errors == []
    rows = list(Host.objects.order_by("slug").values_list("slug", "rack__slug", "position_u", "face", "version"))
    assert rows == [
        ("host-0", "dc01-a2", 30, "front", 2),
        ("host-1", "dc01-a2", None, "front", 1),
        ("new", "dc01-a2", None, "front", 1),
    ]


def test_an_empty_cell_empties_what_can_be_empty_and_else_keeps_it_or_takes_the_default():
    fleet_rows(hosts=1)
    Host.objects.update(position_u=30, face="rear")
    report = hosts_import("host-0,,", "host-9,dc01-a1,h20-8x", header="slug,position_u,face")
    assert told(report)[0].startswith("hosts.csv:3:position_u: ")
    report = hosts_import("host-0,,,h20-8x,dc01-a1", "n,,,h20-8x,dc01-a1", header="slug,position_u,face,host_type,rack")
    assert report.errors == []
    assert list(Host.objects.order_by("slug").values_list("position_u", "face")) == [(None, "rear"), (None, "front")]


def test_a_report_shows_what_changes_with_before_and_after():
    fleet_rows(hosts=2)
    lines = ("host-0,h20-8x,dc01-a1,7", "host-1,h20-8x,dc01-a2,", "new,ppu-16x,dc01-a2,20")
    report = hosts_import(*lines)
    counts = report.counts["hosts"]
    assert (counts.created, counts.updated, counts.unchanged, counts.refused) == (1, 1, 1, 0)
    first, second = report.changes
    assert (first.key, first.line, first.before, first.after) == ("host-0", 2, {"position_u": None}, {"position_u": 7})
    assert (second.key, second.before) == ("new", None)
    assert second.after == {"slug": "new", "host_type": "ppu-16x", "rack": "dc01-a2", "position_u": 20}
    assert json.loads(json.dumps(report.as_dict()))["changes"][0]["after"] == {"position_u": 7}


def test_one_import_is_one_change_set_with_its_author_and_reason(django_user_model):
    user = django_user_model.objects.create_user("li")
    fleet_rows(hosts=1)
    with writing_as(Author(user_id=user.pk, name="li", request_id="r-1")):
        report = hosts_import("host-0,h20-8x,dc01-a1,7", "new,ppu-16x,dc01-a2,20")
    only = ChangeSet.objects.get()
    assert (only.actor, only.why, only.request_id, only.rows) == (user, "import of hosts.csv", "r-1", 2)
    assert (report.request_id, report.written) == ("r-1", True)


def test_a_long_import_is_several_change_sets_of_one_request(monkeypatch):
    monkeypatch.setattr(imports_module, "CHUNK_ROWS", 3)
    monkeypatch.setattr(imports_module, "WRITE_ROWS", 5)
    fleet_rows(hosts=0)
    report = hosts_import(*(f"n-{at},h20-8x,dc01-a{1 + at % 2}," for at in range(14)))
    assert report.errors == []
    assert [one.rows for one in ChangeSet.objects.order_by("number")] == [6, 6, 2]
    assert set(ChangeSet.objects.values_list("request_id", flat=True)) == {report.request_id}


def test_an_import_can_be_told_only_to_make_or_only_to_edit():
    fleet_rows(hosts=1)
    lines = ("host-0,h20-8x,dc01-a2,", "new,h20-8x,dc01-a2,")
    assert told(hosts_import(*lines, mode="create")) == [
        'hosts.csv:2:slug: "host-0" is there already, and only new rows are wanted'
    ]
    assert told(hosts_import(*lines, mode="update")) == [
        'hosts.csv:3:slug: there is no "new", and new rows are not wanted'
    ]


def test_keys_of_several_parts_find_their_rows():
    fleet_rows()
    text = "hall,slug,position\ndc01/h1,a,4\ndc01/h1,b,5\n"
    report = import_run(INVENTORY["rows"], **file(text, "rows.csv"))
    assert [(one.key, one.before) for one in report.changes] == [("dc01/h1/a", {"position": 0}), ("dc01/h1/b", None)]


# --- every error has a place and a reason -----------------------------------------------------------------------------
def test_every_kind_of_fault_of_a_row_is_told_with_file_line_column_and_reason():
    fleet_rows(hosts=1)
    header = "slug,host_type,rack,position_u,face,in_service_on,out_of_service_on"
    lines = {
        "a-1,h20-8x,dc01-a9,1,front,,": ('rack: there is no rack "dc01-a9"',),
        "a-2,h20-8x,dc01-a1,1,front,2027-13-01,": ('in_service_on: "2027-13-01" is no day',),
        "a-3,h20-8x,dc01-a1,1,front,2027-02-01,2027-01-01": ("out_of_service_on: out_of_service_on comes before",),
        "a-4,h20-8x,dc01-a1,1,top,,": ('face: "top" is none of: front, rear',),
        "a-5,h20-8x,dc01-a1,5000,front,,": ("position_u: Ensure this value is less than or equal to 1000",),
        "a-6,h20-8x,dc01-a1,1,front,,": (),
        "a-6,h20-8x,dc01-a2,1,front,,": ('slug: "a-6" comes twice: first in line 7',),
        "a-7,h20-8x,dc01-a1": ("position_u: 3 cells where the header has 7",),
        "a-8,none,none,x,front,,": ('position_u: "x" is not a whole number',),
        "a-9,none,none,9,front,,": ('host_type: there is no host type "none"', 'rack: there is no rack "none"'),
        ",h20-8x,dc01-a1,,front,,": ("slug: empty: a value is needed",),
        "a-10,h20-8x,,,front,,": ("rack: empty: a value is needed",),
    }
    report = hosts_import(*lines, header=header)
    wanted = [(line, start) for line, starts in enumerate(lines.values(), 2) for start in starts]
    assert [fault.line for fault in report.errors] == [line for line, _ in wanted]
    for fault, (line, start) in zip(report.errors, wanted, strict=True):
        assert str(fault).startswith(f"hosts.csv:{line}:{start}")
        assert (fault.entry, fault.sheet) == ("hosts", None)
        assert fault.column
        assert fault.reason
    assert report.counts["hosts"].refused == 11
    assert not report.written
    assert list(Host.objects.values_list("slug", flat=True)) == ["host-0"]
    assert not ChangeSet.objects.exists()


def test_an_unknown_chip_is_told_with_those_close_to_it():
    text = f"slug,chip,rank\nfw-1,{CHIP}x,1\n"
    (line,) = told(import_run(INVENTORY["firmware-sets"], **file(text, "sets.csv")))
    assert line.startswith("sets.csv:2:chip: ")
    assert CHIP in line.removeprefix(f"sets.csv:2:chip: unknown chip '{CHIP}x'")


def test_wrong_bytes_in_a_row_are_told_where_they_are():
    rows = place_rows()
    text = b"slug,name,region\n" + b"s-1,One,north\n" * 1 + b"s-2,\xc4\xe3,north\n" + b"s-3,Three,north\n"
    report = import_run(INVENTORY["sites"], **file(text, "sites.csv"))
    assert told(report) == ["sites.csv:3:name: not UTF-8 text (byte 0xC4)"]
    assert list(Site.objects.all()) == [rows["site"]]


def test_hosts_that_overlap_are_told_by_line_those_in_the_file_and_those_that_stand():
    fleet_rows(hosts=1)
    Host.objects.update(position_u=1)
    lines = ("ok,h20-8x,dc01-a1,7", "on-it,h20-8x,dc01-a1,6", "b-1,h20-8x,dc01-a2,1", "b-2,h20-8x,dc01-a2,4")
    report = hosts_import(*lines)
    assert {(fault.line, fault.column) for fault in report.errors} == {(2, "position_u"), (3, "position_u")} | {
        (line, "position_u") for line in (4, 5)
    }
    assert any("host-0 and on-it both fill units 6 to 6" in fault.reason for fault in report.errors)
    assert Host.objects.count() == 1
    assert not Change.objects.exists()
    assert report.counts["hosts"].created == 0


def test_what_overlaps_across_chunks_is_found_too(monkeypatch):
    monkeypatch.setattr(imports_module, "CHUNK_ROWS", 2)
    monkeypatch.setattr(imports_module, "WRITE_ROWS", 2)
    fleet_rows(hosts=0)
    report = hosts_import(*(f"n-{at},h20-8x,dc01-a1,{1 + 6 * at}" for at in range(5)), "late,h20-8x,dc01-a1,2")
    assert {(fault.line, fault.column) for fault in report.errors} == {(7, "position_u")}
    assert not Host.objects.exists()


def test_hosts_may_change_places_in_one_file():
    fleet_rows(hosts=0)
    assert hosts_import("a,h20-8x,dc01-a1,1", "b,h20-8x,dc01-a1,7").sound
    report = hosts_import("a,h20-8x,dc01-a1,7", "b,h20-8x,dc01-a1,1")
    assert report.errors == []
    assert list(Host.objects.order_by("slug").values_list("position_u", flat=True)) == [7, 1]


def test_a_card_that_comes_twice_and_one_in_a_taken_slot_are_told():
    every_kind()
    text = "serial,host,slot\nc-2,host-1,1\nc-3,host-1,2\nc-2,host-1,3\n"
    report = import_run(INVENTORY["cards"], **file(text, "cards.csv"))
    assert told(report) == ['cards.csv:4:serial: "c-2" comes twice: first in line 2']
    report = import_run(INVENTORY["cards"], **file("serial,host,slot\nc-2,host-1,0\n", "cards.csv"))
    assert [(fault.line, fault.column) for fault in report.errors] == [(2, "slot")]
    assert Card.objects.count() == 1


def test_a_circle_of_supply_is_told_by_the_lines_that_close_it():
    rows = every_kind()
    for slug in ("a", "b"):
        PowerNode.objects.create(slug=slug, site=rows["site"], kind="ups", rating_va=1e6)
    report = import_run(INVENTORY["power-links"], **file("node,source\na,b\nb,a\n", "links.csv"))
    assert {(fault.line, fault.column) for fault in report.errors} == {(2, "source"), (3, "source")}
    report = import_run(INVENTORY["power-links"], **file("node,source\na,a\n", "links.csv"))
    assert told(report) == ["links.csv:2:node: a node cannot be its own source"]
    assert PowerLink.objects.count() == 1


def test_what_is_there_once_beside_the_key_is_told_by_line():
    every_kind()
    text = f"slug,chip,rank\nf-2,{CHIP},7\nf-3,{CHIP},7\nf-4,{CHIP},1\n"
    report = import_run(INVENTORY["firmware-sets"], **file(text, "sets.csv"))
    assert [fault.line for fault in report.errors] == [3, 4]
    assert "Line 2 of this" not in told(report)[0]
    assert "Line 2 is one" in told(report)[0]
    assert {fault.column for fault in report.errors} == {"chip"}
    assert FirmwareSet.objects.count() == 1


def test_a_new_row_needs_its_columns_and_one_that_stands_does_not():
    fleet_rows(hosts=1)
    report = hosts_import("host-0,rear", "new,rear", header="slug,face")
    assert told(report) == [
        "hosts.csv:3:host_type: missing: a new row needs it",
        "hosts.csv:3:rack: missing: a new row needs it",
    ]
    assert hosts_import("host-0,rear", header="slug,face").written


@pytest.mark.parametrize(
    ("header", "column", "reason"),
    [
        ("slug,host_type,rakc", "rakc", 'hosts have no such column; did you mean "rack"?'),
        ("slug,Host type,rack", "Host type", 'did you mean "host_type"?'),
        ("slug,qqq", "qqq", "there are: slug, "),
        ("host_type,rack", "slug", "the column is missing; a row of hosts is known by it"),
        ("slug,version", "version", "hosts have no such column"),
    ],
)
def test_a_header_that_does_not_fit_is_told_at_once(header, column, reason):
    report = import_run(HOSTS, **file(f"{header}\n" + "a,b,c\n" * 3))
    (fault,) = report.errors
    assert (fault.file, fault.line, fault.column) == ("hosts.csv", 1, column)
    assert reason in fault.reason


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("hosts.csv", b"", "the file is empty"),
        ("hosts.txt", b"slug\na\n", "the name tells no format"),
        ("hosts.xlsx", b"slug\na\n", "the content is other text"),
        ("hosts.csv", b"slug,slug\n", 'two columns are called "slug"'),
        ("hosts.json", b'[{"slug": "a"}', "the end of the file"),
    ],
)
def test_a_file_that_is_no_table_is_told_as_any_other_error(name, content, reason):
    report = import_run(HOSTS, io.BytesIO(content), name=name)
    assert {fault.file for fault in report.errors} == {name}
    assert any(reason in fault.reason for fault in report.errors)


def test_only_the_first_thousand_errors_are_kept_and_all_are_counted():
    fleet_rows(hosts=0)
    report = hosts_import(*(f"n-{at},h20-8x,none," for at in range(2500)))
    assert (len(report.errors), report.errors_total, report.counts["hosts"].refused) == (1000, 2500, 2500)
    assert report.errors[-1].line == 1001


def test_a_workbook_names_its_sheet():
    fleet_rows(hosts=0)
    book, content = Workbook(), io.BytesIO()
    book.active.title = "Hosts"
    for row in (["slug", "host_type", "rack", "in_service_on"], ["n", "h20-8x", "dc01-a9", date(2027, 1, 1)]):
        book.active.append(row)
    book.save(content)
    assert told(import_run(HOSTS, content, name="h.xlsx")) == ['h.xlsx[Hosts]:2:rack: there is no rack "dc01-a9"']


# --- all or nothing ---------------------------------------------------------------------------------------------------
def test_one_error_in_the_last_row_and_nothing_is_written():
    fleet_rows(hosts=1)
    report = hosts_import(*(f"n-{at},h20-8x,dc01-a1," for at in range(3)), "host-0,h20-8x,nowhere,3")
    assert report.counts["hosts"].created == 3
    assert not report.written
    assert (Host.objects.count(), ChangeSet.objects.count()) == (1, 0)


def test_what_the_second_pass_refuses_takes_back_what_it_has_written(monkeypatch):
    monkeypatch.setattr(imports_module, "CHUNK_ROWS", 2)
    monkeypatch.setattr(imports_module, "WRITE_ROWS", 2)
    fleet_rows(hosts=1)
    lines = [f"n-{at},h20-8x,dc01-a2,{1 + 6 * at}" for at in range(4)]
    report = hosts_import("host-0,ppu-16x,dc01-a1,", *lines, "over,h20-8x,dc01-a2,45")
    assert report.errors_total > 0
    assert {fault.line for fault in report.errors} == {7}
    assert list(Host.objects.values_list("slug", "host_type__slug", "version")) == [("host-0", "h20-8x", 1)]
    assert not ChangeSet.objects.exists()


def test_a_dry_run_says_what_the_run_then_does_and_writes_nothing():
    fleet_rows(hosts=2)
    lines = ("host-0,h20-8x,dc01-a1,7", "host-1,h20-8x,dc01-a2,", "new,ppu-16x,dc01-a2,20")
    dry = hosts_import(*lines, dry_run=True)
    assert not Host.objects.filter(position_u__isnull=False).exists()
    assert not ChangeSet.objects.exists()
    run = hosts_import(*lines)
    assert (dry.counts, dry.changes, dry.errors) == (run.counts, run.changes, run.errors)
    assert (dry.written, run.written) == (False, True)


def test_a_dry_run_finds_what_the_run_would_refuse():
    fleet_rows(hosts=0)
    lines = ("b-1,h20-8x,dc01-a2,1", "b-2,h20-8x,dc01-a2,4")
    dry, run = hosts_import(*lines, dry_run=True), hosts_import(*lines)
    assert dry.errors == run.errors != []


def test_reading_alone_asks_nothing_of_the_log_and_finds_faults_of_rows():
    fleet_rows(hosts=0)
    report = import_read(HOSTS, **file("slug,host_type,rack\nn,h20-8x,none\nm,h20-8x,dc01-a1\n"))
    assert told(report) == ['hosts.csv:2:rack: there is no rack "none"']
    assert report.counts["hosts"].created == 1
    assert not Host.objects.exists()


def test_a_row_that_somebody_edits_between_the_passes_is_seen_as_it_is_then(monkeypatch):
    fleet_rows(hosts=1)
    run = imports_module._Import._write

    def edited(self, parts):
        Host.objects.update(position_u=20, version=5)
        run(self, parts)

    monkeypatch.setattr(imports_module._Import, "_write", edited)
    assert hosts_import("host-0,h20-8x,dc01-a2,7").written
    assert list(Host.objects.values_list("position_u", "version")) == [(7, 6)]


# --- who sees only some regions ---------------------------------------------------------------------------------------
@pytest.fixture
def limited(django_user_model):
    north, south = place_rows(), place_rows("s-")
    HostType.objects.create(
        slug="t", name="T", chip=CHIP, chips=16, height_u=6, power_w=8600, idle_w=1500, source="test"
    )
    Host.objects.create(slug="far", host_type_id=HostType.objects.get().pk, rack=south["rack"])
    user = django_user_model.objects.create_user("li")
    RegionLimit.objects.create(user=user).regions.add(north["region"])
    return user


def test_racks_of_other_regions_are_to_a_limited_account_as_missing(limited):
    report = hosts_import("n-1,t,dc01-a1,1", "n-2,t,s-dc01-a1,1", user=limited)
    assert told(report) == ['hosts.csv:3:rack: there is no rack "s-dc01-a1"']
    assert hosts_import("n-1,t,dc01-a1,1", user=limited).written


def test_a_limited_account_neither_edits_nor_takes_what_lies_elsewhere(limited):
    report = hosts_import("far,t,dc01-a1,1", user=limited)
    assert told(report) == ['hosts.csv:2:slug: "far" is taken']
    assert Host.objects.get().rack.slug == "s-dc01-a1"
    report = hosts_import("far,t,dc01-a1,1", user=limited, mode="update")
    assert told(report) == ['hosts.csv:2:slug: there is no "far", and new rows are not wanted']


def test_a_limited_account_does_not_learn_of_keys_inside_of_places_elsewhere(limited):
    halls = INVENTORY["halls"]
    known = Site.objects.get(slug="s-dc01").halls.get().slug
    for slug in (known, "nowhere"):
        report = import_run(halls, **file(f"site,slug,name\ns-dc01,{slug},N\n", "h.csv"), user=limited)
        assert told(report) == ['h.csv:2:site: there is no site "s-dc01"']


def test_a_limited_account_edits_its_region_and_makes_none(limited):
    report = import_run(INVENTORY["regions"], **file("slug,name\nnorth,N\nwest,West\n", "r.csv"), user=limited)
    assert [(fault.line, fault.column) for fault in report.errors] == [(3, "slug")]
    assert "limited to regions" in report.errors[0].reason
    assert import_run(INVENTORY["regions"], **file("slug,name\nnorth,N\n", "r.csv"), user=limited).written


def test_a_limited_account_writes_nothing_that_lies_everywhere(limited):
    header = "slug,chip,verb,starts_on,source,region"
    text = f"{header}\np-1,{CHIP},buy,2027-01-01,a rule,\np-2,{CHIP},buy,2027-01-01,a rule,north\n"
    report = import_run(INVENTORY["policy-events"], **file(text, "p.csv"), user=limited)
    assert [(fault.line, fault.column) for fault in report.errors] == [(2, "slug")]
    assert import_run(INVENTORY["policy-events"], **file(text, "p.csv")).written
    moved = text.replace("rule,\n", "rule,north\n")  # what lay everywhere stays out of reach
    report = import_run(INVENTORY["policy-events"], **file(moved, "p.csv"), user=limited)
    assert [(fault.line, fault.column) for fault in report.errors] == [(2, "slug")]
    report = import_run(INVENTORY["host-types"], **file("slug,weight_kg\nt,9\n", "t.csv"), user=limited)
    assert [(fault.line, fault.column) for fault in report.errors] == [(2, "slug")]
    assert import_run(INVENTORY["host-types"], **file("slug,name\nt,T\n", "t.csv"), user=limited).sound
    assert PolicyEvent.objects.filter(region=None).count() == 1


def test_a_limited_account_takes_out_what_it_sees_and_no_name_of_what_it_does_not(limited):
    assert [row["slug"] for row in entry_rows(INVENTORY["sites"], user=limited)] == ["dc01"]
    assert list(entry_rows(HOSTS, user=limited)) == []
    service = {"slug": "chat", "name": "Chat", "model": "qwen3-32b", "profile": "azure-conv", "ttft_s": 2}
    growth = {"growth_low_ratio": 0, "growth_ratio": 0, "growth_high_ratio": 0, "demand_request_s": 1}
    region, site = Region.objects.get(slug="s-north"), Site.objects.get(slug="dc01")
    far = Service.objects.create(**service, **growth, tpot_s=0.05, demand_on=date(2027, 1, 1), region=region)
    Endpoint.objects.create(slug="e", service=far, site=site, share_ratio=0.5)
    assert [row["service"] for row in entry_rows(INVENTORY["endpoints"], user=limited)] == [None]
    assert [row["service"] for row in entry_rows(INVENTORY["endpoints"])] == ["chat"]
    own = b"".join(csv_export(INVENTORY["endpoints"], user=limited)).decode()
    report = import_run(INVENTORY["endpoints"], **file(own, "e.csv"), user=limited)
    assert (told(report), report.counts["endpoints"].unchanged) == ([], 1)
    assert told(import_run(INVENTORY["endpoints"], **file("slug,service\nf,\n", "e.csv"), user=limited))[0] == (
        "e.csv:2:service: empty: a value is needed"
    )
    near = Service.objects.create(
        **{**service, "slug": "near"}, **growth, tpot_s=0.05, demand_on=date(2027, 1, 1), region=site.region
    )
    text = file(f"slug,service\ne,{near.slug}\n", "e.csv")
    (change,) = import_run(INVENTORY["endpoints"], **text, user=limited, dry_run=True).changes
    assert (change.before, change.after) == ({"service": None}, {"service": "near"})


# --- whole fleets -----------------------------------------------------------------------------------------------------
PLACES = {
    "regions": [{"slug": "north", "name": "North"}],
    "sites": [{"slug": "dc01", "name": "One", "region": "north"}],
    "halls": [{"slug": "h1", "name": "H", "site": "dc01"}],
    "rows": [{"slug": "a", "hall": "dc01/h1"}],
    "racks": [{"slug": "a1", "row": "dc01/h1/a", "power_limit_w": 40_000}],
}


def fleet_file(tables, indent=1):
    return file(json.dumps(tables, indent=indent), "fleet.json")


def test_a_whole_fleet_comes_in_one_file():
    report = fleet_import(**fleet_file(PLACES))
    assert report.errors == []
    assert {name: one.created for name, one in report.counts.items()} == dict.fromkeys(PLACES, 1)
    assert Rack.objects.get().row.hall.site.region.slug == "north"


def test_errors_in_a_whole_fleet_have_the_line_of_the_file():
    tables = {**PLACES, "racks": [*PLACES["racks"], {"slug": "a2", "row": "dc01/h1/z", "power_limit_w": 1}]}
    text = json.dumps(tables, indent=1)
    report = fleet_import(**fleet_file(tables))
    line = text[: text.index('"a2"')].count("\n")  # the brace before it
    assert told(report) == [f'fleet.json:{line}:row: there is no row "dc01/h1/z"']
    assert report.errors[0].entry == "racks"
    assert not Region.objects.exists()


def test_what_hangs_on_a_refused_row_is_not_refused_for_it():
    tables = {**PLACES, "sites": [{"slug": "dc01", "name": "One", "region": "north", "pue_ratio": 0.5}]}
    report = fleet_import(**fleet_file(tables))
    assert [(fault.entry, fault.column) for fault in report.errors] == [("sites", "pue_ratio")]


def test_checks_over_rows_of_a_whole_fleet_have_their_lines_too():
    tables = {
        **PLACES,
        "cooling-nodes": [{"slug": slug, "site": "dc01", "kind": "loop"} for slug in ("x", "y")],
        "cooling-links": [{"node": "x", "source": "y"}, {"node": "y", "source": "x"}],
    }
    text = json.dumps(tables, indent=1)
    report = fleet_import(**fleet_file(tables))
    first = text[: text.index('"node": "x"')].count("\n")
    assert {(fault.line, fault.column) for fault in report.errors} == {(first, "source"), (first + 4, "source")}
    assert not Region.objects.exists()
    assert not CoolingLink.objects.exists()


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("[]", "[ where { is expected"),
        ("{}", "holds no table of the fleet"),
        ('{"regions": 5}', "5 where [ is expected"),
        ('{"regions": [],}', "a comma before the closing brace"),
        ('{"regions": [] "sites": []}', "where a comma or } is expected"),
        ('{"regions": [{"slug": "a"}]', "the end of the file where a comma or } is expected"),
        ('{"regions": [{"slug": "a"}', "the file ends before its"),
        ('{"regions": [{"slug": "a}', "the file ends before its"),
        ('{"regions": []} x', "text behind the end"),
        ('{"region": [{}]}', '"region" is no table of the fleet; did you mean "regions"?'),
        ('{"regions": [{"slug": "a"}], "regions": [{"slug": "b"}]}', '"regions" is given twice'),
        ("{regions: []}", "r where the name of a table is expected"),
    ],
)
def test_a_file_that_is_no_fleet_is_refused_with_the_reason(text, reason):
    report = fleet_import(**file(text, "fleet.json"))
    assert len(report.errors) == 1
    assert reason in report.errors[0].reason
    assert report.errors[0].file == "fleet.json"


def test_a_table_of_something_else_than_rows_is_refused():
    (line,) = told(fleet_import(**file('{"regions": [1, 2]}', "fleet.json")))
    assert "the content is text that does not begin as JSON objects do" in line
    (line,) = told(fleet_import(**file('{"regions":\n[{"slug": "a", "name": "A"},\n2]}', "fleet.json")))
    assert line == "fleet.json:3: a number where an object is expected"


def test_texts_with_brackets_and_quotes_do_not_end_a_table():
    names = ['a "[{', "]}\\", "\\\\", "北京\n", "\u00e9" * 40_000]
    tables = {"regions": [{"slug": f"r{at}", "name": name[:70]} for at, name in enumerate(names)]}
    assert fleet_import(**fleet_file(tables, indent=None)).errors == []
    assert sorted(Region.objects.values_list("name", flat=True)) == sorted(name[:70] for name in names)


def test_a_folder_of_csv_files_names_the_file_of_an_error(tmp_path):
    (tmp_path / "regions.csv").write_text("slug,name\nnorth,North\n")
    (tmp_path / "sites.csv").write_text("slug,name,region\ndc01,One,south\n")
    (tmp_path / "notes.txt").write_text("not a table")
    report = fleet_import(tmp_path)
    assert told(report) == [f'{tmp_path}/sites.csv:2:region: there is no region "south"']
    (tmp_path / "site.csv").write_text("slug\n")
    assert 'did you mean "sites"?' in told(fleet_import(tmp_path))[0]


def test_a_value_too_long_for_a_row_is_refused_before_it_fills_the_memory():
    text = '{"regions": [{"slug": "' + "a" * 2**21 + '"}]}'
    report = fleet_import(**file(text, "fleet.json"), limits=Limits(row_byte=2**16))
    assert "a value longer than 65,536 bytes" in report.errors[0].reason


# --- memory -----------------------------------------------------------------------------------------------------------
def hosts_file(path, rows):
    with path.open("w") as text:
        text.write("slug,host_type,rack,in_service_on\n")
        for at in range(rows):
            text.write(f"host-{at:07d},h20-8x,dc01-a1,2027-01-{1 + at % 28:02d}\n")
    return path


def test_the_first_pass_takes_no_more_memory_for_five_times_the_rows(tmp_path):
    fleet_rows(hosts=0)
    import_read(HOSTS, hosts_file(tmp_path / "warm.csv", 4_000))
    peaks = []
    for rows in (4_000, 20_000):
        path = hosts_file(tmp_path / f"{rows}.csv", rows)
        tracemalloc.start()
        report = import_read(HOSTS, path)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
        assert report.counts["hosts"].created == rows
    assert peaks[1] < 1.1 * peaks[0] + 2**18, peaks


# --- the command ------------------------------------------------------------------------------------------------------
def test_the_command_lists_errors_as_an_editor_reads_them(tmp_path, capsys):
    fleet_rows(hosts=0)
    path = tmp_path / "hosts.csv"
    path.write_text("slug,host_type,rack\nn,h20-8x,none\n")
    with pytest.raises(CommandError, match=r"1 error\(s\); nothing was written") as caught:
        call_command("fleet_import", "hosts", str(path))
    assert caught.value.returncode == 1
    assert f'{path}:2:rack: there is no rack "none"\n' in capsys.readouterr().out


def test_the_command_prints_json_and_does_nothing_in_a_dry_run(tmp_path, capsys):
    fleet_rows(hosts=0)
    path = tmp_path / "hosts.csv"
    path.write_text("slug,host_type,rack\nn,h20-8x,dc01-a1\n")
    call_command("fleet_import", "hosts", str(path), dry_run=True, json=True)
    answer = json.loads(capsys.readouterr().out)
    assert (answer["counts"]["hosts"]["created"], answer["written"], answer["dry_run"]) == (1, False, True)
    assert not Host.objects.exists()


@pytest.mark.parametrize(
    ("arguments", "reason"),
    [
        (("fleet_import", "missing.csv"), "name one table, or --all"),
        (("fleet_import", "hosts", "missing.csv"), "there is no such file"),
        (("fleet_import", "host", "missing.csv"), "invalid choice"),
        (("fleet_export", "--out", "x.csv"), "name one table, or --all"),
        (("fleet_export", "hosts", "--out", "x.csv", "--site", "nowhere"), "there is no site 'nowhere'"),
        (("fleet_export", "hosts", "--out", "/nowhere/x.csv"), "No such file or directory"),
    ],
)
def test_a_command_that_cannot_be_done_says_why(arguments, reason):
    with pytest.raises(CommandError, match=reason):
        call_command(*arguments)


def test_a_fault_without_a_place_is_told_by_its_file():
    assert str(ImportFault("hosts", "h.csv", None, None, None, "empty")) == "h.csv: empty"
