"""Files over HTTP: what is wrong with one is told at once or by its import, and nothing is half-written."""

import gzip
import io
import json
import zipfile

import pytest
from django.contrib.auth.models import User
from django.core.files.uploadedfile import SimpleUploadedFile
from django.core.handlers.wsgi import WSGIRequest
from django.test import RequestFactory
from openpyxl import Workbook
from rest_framework.test import APIClient

from api import imports as imports_module
from api.bulk import ROWS_MOST
from fleet.models import ChangeSet, Host, Region, RegionLimit
from scenarios.models import ImportJob, ImportUpload
from scenarios.tasks import import_execute
from tests.api.conftest import assert_problem, client_of, user_make
from tests.factories import fleet_rows

URL = "/api/v1/imports/"
CSV = b"slug,host_type,rack\nnew-1,h20-8x,dc01-a1\nnew-2,h20-8x,dc01-a2\n"
BAD = b"slug,host_type,rack\nnew-1,h20-8x,nowhere\nnew-2,h20-8x,dc01-a2\n"
XLSX = "application/vnd.openxmlformats-officedocument.spreadsheetml.sheet"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def rows(db):
    return fleet_rows(hosts=2)


@pytest.fixture
def boss(rows, roles):
    return client_of(user_make("operator", "operator"))


def form(content=CSV, name="hosts.csv", **values):
    return {"file": SimpleUploadedFile(name, content), "entry": "hosts", **values}


def sent(client, content=CSV, name="hosts.csv", **values):
    return client.post(URL, form(content, name, **values), format="multipart")


def raw(client, content, media="text/csv", query="?entry=hosts", **headers):
    return client.generic("POST", URL + query, content, content_type=media, headers=headers)


def ended(client, answer):
    """Let a worker have the import that was queued, and return what the API says of it then."""
    assert answer.status_code == 202, answer.content
    import_execute(answer.json()["id"])
    return client.get(answer["Location"]).json()


def workbook(rows, sheet="hosts"):
    book = Workbook()
    book.active.title = sheet
    for row in rows:
        book.active.append(row)
    target = io.BytesIO()
    book.save(target)
    return target.getvalue()


# --- to its end -------------------------------------------------------------------------------------------------------
def test_a_file_is_queued_and_written_by_a_worker(boss):
    answer = sent(boss, why="new hall")
    queued = answer.json()
    assert (answer.status_code, answer["Retry-After"], answer["Location"]) == (202, "1", queued["url"])
    assert (queued["status"], queued["size_byte"], queued["file_name"]) == ("queued", len(CSV), "hosts.csv")
    assert Host.objects.count() == 2
    job = ended(boss, answer)
    assert (job["status"], job["written"], job["is_sound"], job["errors_total"]) == ("done", True, True, 0)
    assert job["counts"] == {"hosts": {"created": 2, "updated": 0, "unchanged": 0, "refused": 0}}
    assert [one["key"] for one in job["changes"]] == ["new-1", "new-2"]
    logged = boss.get(job["changes_url"]).json()["results"]
    assert [(one["actor"], one["why"], one["rows"]) for one in logged] == [("operator", "new hall", 2)]
    assert logged[0]["request_id"] == answer["X-Request-Id"]


@pytest.mark.parametrize(
    ("media", "content"),
    [
        ("text/csv", CSV),
        ("text/csv; charset=utf-8", CSV),
        ("application/json", b'[{"slug": "n", "host_type": "h20-8x", "rack": "dc01-a1"}]'),
        ("application/x-ndjson", b'{"slug": "n", "host_type": "h20-8x", "rack": "dc01-a1"}\n'),
        (XLSX, workbook([("slug", "host_type", "rack"), ("n", "h20-8x", "dc01-a1")])),
    ],
)
def test_a_body_may_be_the_file_itself(boss, media, content):
    answer = raw(boss, content, media, "?entry=hosts&mode=create&why=raw")
    job = ended(boss, answer)
    assert (job["status"], job["mode"], job["why"], job["size_byte"]) == ("done", "create", "raw", len(content))
    assert job["counts"]["hosts"]["created"] == Host.objects.count() - 2 > 0


def test_a_whole_fleet_comes_in_one_file(boss):
    content = {"hosts": [{"slug": "n", "host_type": "h20-8x", "rack": "r9"}]}
    content["racks"] = [{"slug": "r9", "row": "dc01/h1/a", "position": 9, "power_limit_w": 9000}]
    job = ended(boss, raw(boss, json.dumps(content), "application/json", "?entry=all&name=fleet.json"))
    assert list(job["counts"]) == ["racks", "hosts"]
    assert (job["status"], job["file_name"], Host.objects.filter(rack__slug="r9").count()) == ("done", "fleet.json", 1)


def test_rows_at_fault_are_told_with_their_place_and_as_csv(boss):
    job = ended(boss, sent(boss, BAD))
    assert (job["status"], job["error"]) == ("failed", "1 error(s); nothing was written")
    fault = {"entry": "hosts", "file": "hosts.csv", "sheet": None, "line": 2, "column": "rack"}
    assert job["errors"] == [{**fault, "reason": 'there is no rack "nowhere"'}]
    table = boss.get(f"{job['url']}errors.csv/").content.decode()
    assert table.splitlines()[1] == 'hosts.csv,,2,rack,"there is no rack ""nowhere""",hosts'
    assert Host.objects.count() == 2


def test_the_csv_of_errors_holds_no_formula(boss):
    job = ended(boss, sent(boss, CSV.replace(b"dc01-a1", b"x"), name="=1+1.csv"))
    table = boss.get(f"{job['url']}errors.csv/").content.decode()
    assert table.splitlines()[1].startswith("'=1+1.csv,")


def test_a_sound_dry_run_is_applied(boss):
    dry = ended(boss, sent(boss, dry_run="true"))
    assert (dry["is_sound"], dry["written"], Host.objects.count()) == (True, False, 2)
    assert dry["changes"][0]["before"] is None
    answer = boss.post(f"{dry['url']}apply/", headers={"X-Change-Reason": "as shown"})
    job = ended(boss, answer)
    assert (job["written"], job["why"], job["sha256"], job["applies"]["id"]) == (
        *(True, "as shown"),
        *(dry["sha256"], dry["id"]),
    )
    assert Host.objects.count() == 4
    assert_problem(boss.post(f"{dry['url']}apply/"), 409, "applied")
    assert_problem(boss.post(f"{job['url']}apply/"), 409, "no_dry_run")


def test_a_dry_run_with_errors_is_not_applied(boss):
    dry = ended(boss, sent(boss, BAD, dry_run="1"))
    assert (dry["status"], dry["is_sound"], dry["errors_total"]) == ("done", False, 1)
    problem = assert_problem(boss.post(f"{dry['url']}apply/"), 409, "not_sound")
    assert problem["detail"] == "The dry run is not sound: 1 error(s)."


def test_an_import_is_cancelled_once(boss):
    url = sent(boss).json()["url"]
    assert boss.post(f"{url}cancel/").json()["status"] == "cancelled"
    assert_problem(boss.post(f"{url}cancel/"), 409, "import_has_ended")


def test_a_repeated_key_starts_one_import_and_another_question_is_refused(boss):
    first = raw(boss, CSV, **{"Idempotency-Key": "k"})
    again = raw(boss, CSV, **{"Idempotency-Key": "k"})
    assert (again["Idempotency-Replayed"], again.json()) == ("true", first.json())
    assert_problem(raw(boss, CSV, query="?entry=hosts&dry_run=1", **{"Idempotency-Key": "k"}), 422)
    assert ImportJob.objects.count() == ImportUpload.objects.count() == 1


def test_the_list_filters_and_leaves_out_what_was_found(boss):
    ended(boss, sent(boss, BAD))
    ended(boss, sent(boss, dry_run="true"))
    found = boss.get(f"{URL}?dry_run=false&ordering=-created_at").json()["results"]
    assert [one["status"] for one in found] == ["failed"]
    assert "errors" not in found[0]


# --- refused at once --------------------------------------------------------------------------------------------------
def bomb():
    """A workbook whose sheet says that it unpacks to a gigabyte."""
    content = io.BytesIO()
    with zipfile.ZipFile(io.BytesIO(workbook([("slug",)]))) as book, zipfile.ZipFile(content, "w", 8) as made:
        for part in book.namelist():
            made.writestr(part, book.read(part) if "sheet1" not in part else b"<a>" + b" " * 2**26)
    return content.getvalue()


@pytest.mark.parametrize(
    ("content", "name", "place", "said"),
    [
        (b"", "hosts.csv", (None, None), "the file is empty"),
        (CSV.decode().encode("utf-16"), "hosts.csv", (None, None), "UTF-16 text by its mark at byte 0"),
        (b"slug,host_type,r\xe4ck\n", "hosts.csv", (1, None), "byte 0xE4 at offset 16 is not UTF-8"),
        (b"slug,host_type,wreck\n", "hosts.csv", (1, "wreck"), 'did you mean "rack"?'),
        (b"host_type,rack\n", "hosts.csv", (1, "slug"), "the column is missing"),
        (b"slug,slug\n", "hosts.csv", (1, None), 'two columns are called "slug"'),
        (CSV, "hosts.xls", (None, None), "a workbook of before 2007 is not read"),
        (CSV, "hosts.json", (None, None), "the content is text that does not begin as JSON"),
        (bomb(), "hosts.xlsx", (None, None), "the part xl/worksheets/sheet1.xml unpacks"),
        (workbook([("slug", "chips")]), "hosts.xlsx", (1, "chips"), "hosts have no such column"),
    ],
    ids=["empty", "utf-16", "latin-1", "column", "no key", "twice", "xls", "no json", "bomb", "sheet"],
)
def test_a_file_that_no_import_could_read_is_refused_with_its_place(boss, content, name, place, said):
    problem = assert_problem(sent(boss, content, name), 400)
    (error,) = problem["errors"]
    assert (error["field"], error.get("line"), error.get("column")) == ("file", *place)
    assert said in error["message"]
    assert not ImportJob.objects.exists()
    assert not ImportUpload.objects.exists()


@pytest.mark.parametrize(
    ("values", "field"),
    [
        ({"entry": "cars"}, "entry"),
        ({"mode": "delete"}, "mode"),
        ({"dry_run": "perhaps"}, "dry_run"),
        ({"why": "x" * 501}, "why"),
        ({"name": "/"}, "name"),
        ({"name": "a\r\nb.csv"}, "name"),
        ({"name": "a\u202evsc.csv"}, "name"),
        ({"wy": "typo"}, "wy"),
        ({"entry": ["hosts", "racks"]}, "entry"),
    ],
)
def test_a_form_that_cannot_be_read_is_told_by_its_field(boss, values, field):
    problem = assert_problem(boss.post(URL, {**form(), **values}, format="multipart"), 400)
    assert [error["field"] for error in problem["errors"]] == [field]


def test_a_file_and_an_entry_are_needed(boss):
    problem = assert_problem(boss.post(URL, {"mode": "create"}, format="multipart"), 400)
    assert {error["field"] for error in problem["errors"]} == {"file", "entry"}
    assert_problem(raw(boss, b""), 400)


def test_a_form_says_nothing_in_the_address_and_a_name_fits_its_body(boss):
    assert_problem(boss.post(f"{URL}?mode=create", form(), format="multipart"), 400)
    assert_problem(raw(boss, CSV, query="?entry=hosts&name=hosts.json"), 400)
    assert_problem(raw(boss, CSV, query="?entry=hosts&colour=red"), 400)


def test_another_media_type_is_415(boss):
    assert_problem(raw(boss, CSV, "application/zip"), 415)


def test_a_body_that_is_packed_is_415(boss):
    problem = assert_problem(raw(boss, gzip.compress(CSV), **{"Content-Encoding": "gzip"}), 415)
    assert problem["detail"] == "A body is taken as it is, without a Content-Encoding."
    assert raw(boss, CSV, **{"Content-Encoding": "identity"}).status_code == 202


def test_more_files_than_are_kept_are_refused(boss, settings):
    settings.IMPORT_KEPT_BYTE = len(CSV) + 1
    assert sent(boss).status_code == 202
    assert_problem(sent(boss), 409, "too_much_kept")


class Unread(io.BytesIO):
    def read(self, *size):
        raise AssertionError("the body is read")


@pytest.mark.parametrize("media", ["text/csv", "multipart/form-data; boundary=x"])
def test_a_body_over_the_limit_is_413_before_it_is_read(boss, settings, media):
    settings.IMPORT_MAX_BYTE = 1000
    environ = {"CONTENT_LENGTH": str(10**12), "CONTENT_TYPE": media, "wsgi.input": Unread()}
    answer = boss.post(f"{URL}?entry=hosts", **environ)
    assert_problem(answer, 413, "too_large")


def test_a_stream_that_goes_on_is_refused_at_the_limit(settings):
    """A server that hands on more than was announced does not fill the disk."""
    settings.IMPORT_MAX_BYTE = 10**6

    class Endless:
        given = 0

        def read(self, size):
            self.given += size
            return b"x" * size

    stream = Endless()
    with pytest.raises(imports_module.TooLargeError):
        imports_module.CsvParser().parse(stream, "text/csv", {})
    assert stream.given < 1.1 * 10**6


@pytest.mark.parametrize("kind", ["raw", "form"])
def test_half_a_file_is_no_file(boss, kind, monkeypatch):
    """The connection breaks in the middle of a row that would read well."""
    cut = CSV.rindex(b"\n", 0, -1) + 1
    content, media = CSV, "text/csv"
    if kind == "form":
        request = RequestFactory().post(URL, form())
        content, media = request.body, request.content_type + "; boundary=BoUnDaRyStRiNg"
        cut = content.index(CSV) + cut
    init = WSGIRequest.__init__

    def cut_off(self, environ):
        environ["wsgi.input"] = io.BytesIO(content[:cut])
        environ["CONTENT_LENGTH"] = str(len(content))
        init(self, environ)

    monkeypatch.setattr(WSGIRequest, "__init__", cut_off)
    query = "?entry=hosts" if kind == "raw" else ""
    problem = assert_problem(boss.generic("POST", URL + query, content, content_type=media), 400)
    assert problem["detail"] == f"The body ends after {cut} of {len(content)} byte."
    assert not ImportJob.objects.exists()


def test_too_many_rows_at_once_are_sent_here(boss):
    body = [{"slug": f"h{at}"} for at in range(ROWS_MOST + 1)]
    assert URL in assert_problem(boss.post("/api/v1/hosts/", body), 413)["detail"]
    answer = boss.post("/api/v1/hosts/", **{"CONTENT_LENGTH": str(2**23), "wsgi.input": Unread()})
    assert URL in assert_problem(answer, 413)["detail"]


# --- who --------------------------------------------------------------------------------------------------------------
def test_a_role_imports_what_it_may_write(rows, roles):
    planner, viewer = client_of(user_make("planner", "planner")), client_of(user_make("viewer", "viewer"))
    assert "fleet.add_host" in assert_problem(sent(planner), 403, "permission_missing")["detail"]
    services = b'{"services": [{"slug": "chat", "name": "Talk"}], "hosts": [{"slug": "host-0"}]}'
    assert_problem(raw(planner, services, "application/json", "?entry=all"), 403, "permission_missing")
    assert_problem(sent(viewer), 403, "permission_missing")
    assert_problem(sent(client_of(User.objects.get(username="planner"), "read")), 403, "scope_missing")
    assert_problem(sent(APIClient()), 401)
    assert not ImportUpload.objects.exists()
    answer = sent(planner, b"slug,name\nchat,Talk\n", "services.csv", entry="services", mode="upsert")
    assert ended(planner, answer)["counts"]["services"]["updated"] == 1


def test_imports_of_others_are_seen_by_an_admin_alone(boss):
    url = sent(boss).json()["url"]
    other, admin = (client_of(user_make(name, name)) for name in ("planner", "admin"))
    for client, status in ((other, 404), (admin, 200)):
        assert client.get(url).status_code == status
        assert client.get(f"{url}errors.csv/").status_code == status
        assert client.get(URL).json()["count"] == (status == 200)
    assert other.post(f"{url}cancel/").status_code == 404
    assert other.post(f"{url}apply/").status_code == 404
    assert ImportJob.objects.get().status == "queued"


def test_an_account_of_one_region_finds_no_rack_of_another(boss):
    RegionLimit.objects.create(user=User.objects.get(username="operator")).regions.add(
        Region.objects.create(slug="south", name="South")
    )
    job = ended(boss, sent(boss))
    assert [one["reason"] for one in job["errors"]] == ['there is no rack "dc01-a1"', 'there is no rack "dc01-a2"']
    assert not ChangeSet.objects.exists()


def test_an_account_of_no_region_sees_what_becomes_of_its_file(boss):
    RegionLimit.objects.create(user=User.objects.get(username="operator"))
    job = ended(boss, sent(boss))
    assert (job["status"], job["errors_total"]) == ("failed", 2)
    assert boss.get(URL).json()["count"] == 1


def test_who_is_limited_since_does_not_see_what_an_earlier_import_tells(boss):
    job = ended(boss, sent(boss))
    RegionLimit.objects.create(user=User.objects.get(username="operator")).regions.add(
        Region.objects.create(slug="south", name="South")
    )
    assert boss.get(job["url"]).status_code == 404
