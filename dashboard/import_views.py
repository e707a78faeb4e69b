"""Pages of imports: a file is tried first, what it would do is shown, and a button writes the same bytes."""

from typing import Any, BinaryIO, cast

from django import forms
from django.conf import settings
from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.cache import never_cache
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh

from dashboard.entry_forms import WHY_MOST
from dashboard.views import SignedInRequest, page_asked, require_form
from fleet.access import change_sets_seen
from fleet.files import FileError
from fleet.inventory import INVENTORY
from scenarios.imports import (
    ImportRefusedError,
    faults_csv,
    import_apply,
    import_cancel,
    import_check,
    import_submit,
)
from scenarios.models import ImportJob
from scenarios.seen import seen

FORM_EXTRA_BYTE = 2**16  # boundaries and names around the file
SHOWN_MOST = 100  # rows that change, and errors
SETS_SHOWN = 20


class ImportForm(forms.Form):
    """A file and what it is. The field that is needed comes last: a form that was cut off lacks it."""

    file = forms.FileField(max_length=255, help_text="CSV, XLSX, JSON or JSON lines, as the lists of the fleet go out.")
    entry = forms.ChoiceField(label="What it is", help_text="A whole fleet is a .json file or an .xlsx workbook.")
    why = forms.CharField(required=False, max_length=WHY_MOST, help_text="Kept in the change history beside your name.")
    mode = forms.ChoiceField(label="What it may do", choices=ImportJob.Mode.choices)

    def __init__(self, *args: Any, user: User, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        may = [(entry.name, entry.title) for entry in INVENTORY.values() if user.has_perm(f"fleet.add_{entry.kind}")]
        choices = [("", "choose"), *may, (ImportJob.WHOLE, "a whole fleet: every table in the file")]
        self.fields["entry"].choices = choices  # type: ignore[attr-defined]


@csrf_exempt  # the check reads the whole form: it is made below, once the size is known
@login_required
@require_form
def imports(request: SignedInRequest) -> HttpResponse:
    """Which files were imported, and what would this one do?"""
    if request.method == "POST" and not request.user.has_perm("scenarios.add_importjob"):
        raise PermissionDenied
    if int(request.META.get("CONTENT_LENGTH") or 0) > settings.IMPORT_MAX_BYTE + FORM_EXTRA_BYTE:
        form = ImportForm({}, user=request.user)
        form.add_error("file", f"Larger than {settings.IMPORT_MAX_BYTE / 2**20:,.0f} MiB: it was not read.")
        return _imports_page(request, form, status=413)
    return _imports(request)


@csrf_protect
def _imports(request: SignedInRequest) -> HttpResponse:
    if request.method != "POST":
        return _imports_page(request, ImportForm(initial=request.GET.dict(), user=request.user))
    form = ImportForm(request.POST, request.FILES, user=request.user)
    if form.is_valid():
        values = dict(form.cleaned_data)
        upload = values.pop("file")
        file = cast("BinaryIO", upload.file)
        what = {"name": upload.name, "entry": values["entry"], "mode": values["mode"]}
        try:
            if lacking := import_check(file, **what, user=request.user):
                form.add_error("entry", f"You lack the permission {lacking}.")
            else:
                job = import_submit(file, **what, why=values["why"], dry_run=True, owner=request.user)
                return redirect("dashboard:import_job", pk=job.pk)
        except FileError as error:
            form.add_error("file", str(error))
        except ImportRefusedError as error:
            form.add_error(None, f"{error}.")
    return _imports_page(request, form, status=400)


def _imports_page(request: SignedInRequest, form: ImportForm, *, status: int = 200) -> HttpResponse:
    page = page_asked(request, _jobs(request).defer("report"))
    return render(request, "dashboard/imports.html", {"form": form, "page": page}, status=status)


@login_required
@require_safe
def import_job(request: HttpRequest, pk: int) -> HttpResponse:
    """How far is an import, what does it do, and what is wrong with the file?"""
    job = get_object_or_404(_jobs(request), pk=pk)
    found = job.report or {"changes": [], "errors": []}
    sets = change_sets_seen(request.user).filter(request_id=job.request_id) if job.written else None
    context = {
        "job": job,
        "title": INVENTORY[job.entry].title if job.entry in INVENTORY else "A whole fleet",
        "counts": [(INVENTORY[name].title, counts) for name, counts in job.tables.items()],
        "changes": found["changes"][:SHOWN_MOST],
        "changes_total": sum(counts["created"] + counts["updated"] for counts in job.counts.values()),
        "errors": found["errors"][:SHOWN_MOST],
        "errors_kept": len(found["errors"]),
        "sets": sets.order_by("number")[:SETS_SHOWN] if sets is not None else [],
        "applied_by": job.applied_by.defer("report").first(),
    }
    return render(request, "dashboard/import_job.html", context)


@login_required
@never_cache
@require_safe
def import_progress(request: HttpRequest, pk: int) -> HttpResponse:
    """How far an import is, as a part of its page; when it has ended, the page is loaded anew."""
    job = get_object_or_404(_jobs(request).defer("report"), pk=pk)
    if job.has_ended:
        return HttpResponseClientRefresh()
    return render(request, "dashboard/_progress.html", {"run": job})


@login_required
@permission_required("scenarios.change_importjob", raise_exception=True)
@require_POST
def import_end(request: HttpRequest, pk: int) -> HttpResponse:
    """End an import that nobody wants any more."""
    job = get_object_or_404(_jobs(request), pk=pk)
    if import_cancel(job):
        messages.success(request, f"Import {pk} is cancelled: nothing was written.")
    else:
        messages.info(request, f"Import {pk} had ended already.")
    return redirect("dashboard:import_job", pk=pk)


@login_required
@permission_required("scenarios.add_importjob", raise_exception=True)
@require_POST
def import_write(request: SignedInRequest, pk: int) -> HttpResponse:
    """Write the file that was tried, the same bytes."""
    job = get_object_or_404(_jobs(request), pk=pk)
    try:
        made = import_apply(job, owner=request.user)
    except ImportRefusedError as error:
        messages.error(request, f"Nothing was started: {error}.")
        return redirect("dashboard:import_job", pk=pk)
    return redirect("dashboard:import_job", pk=made.pk)


@login_required
@require_safe
def import_errors(request: HttpRequest, pk: int) -> HttpResponse:
    """The errors that an import has kept, each with its place, as CSV."""
    job = get_object_or_404(_jobs(request), pk=pk)
    answer = HttpResponse(faults_csv(job), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="import-{pk}-errors.csv"'
    return answer


def _jobs(request: HttpRequest) -> QuerySet[ImportJob]:
    return seen(ImportJob.objects.select_related("owner", "applies").defer("applies__report"), request.user)
