"""The page of imports: tried first, shown, then written by a button."""

import html
import io

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.test import Client

from fleet.models import ChangeSet, Host
from scenarios.models import ImportJob, ImportUpload
from scenarios.tasks import import_execute
from tests.dashboard.conftest import client_of, user_make

URL = "/fleet/imports/"
CSV = b"slug,host_type,rack\nnew-1,h20-8x,dc01-a1\nhost-0,h20-8x,dc01-a2\n"

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def operator(fleet, roles):
    return user_make("operator", "operator")


@pytest.fixture
def pages(operator):
    return client_of(operator)


def tried(pages, content=CSV, name="hosts.csv", **values):
    form = {"file": SimpleUploadedFile(name, content), "entry": "hosts", "mode": "upsert", **values}
    return pages.post(URL, form)


def text(answer):
    return html.unescape(answer.content.decode())


def test_a_file_is_tried_shown_and_written_with_the_same_bytes(pages, operator):
    answer = tried(pages, why="new hall")
    job = ImportJob.objects.get()
    assert (answer.status_code, answer["Location"]) == (302, f"{URL}{job.pk}/")
    assert job.dry_run
    waiting = text(pages.get(f"{URL}{job.pk}/"))
    assert "Queued: waiting for a worker" in waiting
    assert f'hx-get="{URL}{job.pk}/progress/"' in waiting
    assert "<noscript>" in waiting
    assert "Queued" in text(pages.get(f"{URL}{job.pk}/progress/"))
    import_execute(job.pk)
    assert pages.get(f"{URL}{job.pk}/progress/")["HX-Refresh"] == "true"
    shown = text(pages.get(f"{URL}{job.pk}/"))
    assert "The first 2 of 2 row(s) made or edited" in shown
    assert "<code>rack</code> dc01-a1" in shown
    assert "<code>rack</code> dc01-a2" in shown
    assert Host.objects.count() == 6
    answer = pages.post(f"{URL}{job.pk}/apply/")
    made = ImportJob.objects.first()
    assert (answer["Location"], made.sha256, made.why) == (f"{URL}{made.pk}/", job.sha256, "new hall")
    import_execute(made.pk)
    number = ChangeSet.objects.get().number
    assert f'href="/fleet/changes/{number}/"' in text(pages.get(f"{URL}{made.pk}/"))
    assert Host.objects.count() == 7
    assert "Write these changes" not in text(pages.get(f"{URL}{job.pk}/"))
    assert "writes this file already" in text(pages.post(f"{URL}{job.pk}/apply/", follow=True))
    assert operator.username in text(pages.get(URL))


def test_errors_are_shown_with_their_place_and_as_csv(pages):
    tried(pages, CSV.replace(b"dc01-a1", b"=2+3"))
    job = ImportJob.objects.get()
    import_execute(job.pk)
    shown = text(pages.get(f"{URL}{job.pk}/"))
    assert "1 error(s): nothing was written" in shown
    assert "hosts.csv:2" in shown
    assert 'there is no rack "=2+3"' in shown
    assert "Write these changes" not in shown
    table = pages.get(f"{URL}{job.pk}/errors.csv").content.decode()
    assert table.splitlines()[1].startswith("hosts.csv,,2,rack,")


def test_a_file_that_changes_nothing_says_so(pages):
    tried(pages, b"slug\nhost-0\n")
    job = ImportJob.objects.get()
    import_execute(job.pk)
    shown = text(pages.get(f"{URL}{job.pk}/"))
    assert "Every row is as the file has it already" in shown
    assert "Write these changes" not in shown


def test_an_import_is_cancelled_by_its_button(pages):
    tried(pages)
    job = ImportJob.objects.get()
    assert "is cancelled: nothing was written" in text(pages.post(f"{URL}{job.pk}/cancel/", follow=True))
    assert "had ended already" in text(pages.post(f"{URL}{job.pk}/cancel/", follow=True))


@pytest.mark.parametrize(
    ("content", "name", "values", "said"),
    [
        (
            b"slug,wreck\n",
            "hosts.csv",
            {},
            'hosts.csv:1: column wreck: hosts have no such column; did you mean "rack"?',
        ),
        (CSV, "hosts.xls", {}, "a workbook of before 2007 is not read"),
        (CSV, "services.csv", {"entry": "services"}, "services is not one of the available choices"),
        (b'{"services": [{"slug": "a"}]}', "fleet.json", {"entry": "all"}, "You lack the permission fleet.add_service"),
    ],
)
def test_a_file_that_is_not_taken_says_why(pages, content, name, values, said):
    answer = tried(pages, content, name, **values)
    assert answer.status_code == 400
    assert said in text(answer)
    assert not ImportUpload.objects.exists()


def test_a_form_that_was_cut_off_is_not_taken(pages):
    answer = pages.post(URL, {"file": SimpleUploadedFile("hosts.csv", CSV), "entry": "hosts", "why": ""})
    assert answer.status_code == 400
    assert not ImportUpload.objects.exists()


class Unread(io.BytesIO):
    def read(self, *size):
        raise AssertionError("the body is read")


def test_a_form_over_the_limit_is_413_before_it_is_read(pages, settings):
    settings.IMPORT_MAX_BYTE = 2**20
    answer = pages.post(URL, **{"CONTENT_LENGTH": str(10**12), "wsgi.input": Unread()})
    assert answer.status_code == 413
    assert "Larger than 1 MiB: it was not read" in text(answer)


def test_a_form_needs_its_token(operator):
    client = Client(enforce_csrf_checks=True)
    client.force_login(operator)
    assert tried(client).status_code == 403
    token = text(client.get(URL)).split('csrfmiddlewaretoken" value="')[1].split('"')[0]
    assert tried(client, csrfmiddlewaretoken=token).status_code == 302


def test_who_may_write_nothing_is_not_offered_to(viewer_pages, fleet):
    assert "Try this file" not in text(viewer_pages.get(URL))
    assert tried(viewer_pages).status_code == 403
    assert URL not in text(viewer_pages.get("/fleet/lists/"))


def test_lists_lead_to_the_import_of_their_kind(pages):
    assert f'href="{URL}?entry=hosts"' in text(pages.get("/fleet/lists/hosts/"))
    assert '<option value="hosts" selected>' in text(pages.get(f"{URL}?entry=hosts"))


def test_a_dry_run_whose_file_is_gone_says_so(pages):
    tried(pages)
    job = ImportJob.objects.get()
    import_execute(job.pk)
    ImportUpload.objects.all().delete()
    assert "Write these changes" not in text(pages.get(f"{URL}{job.pk}/"))
    assert "not kept any more" in text(pages.post(f"{URL}{job.pk}/apply/", follow=True))
