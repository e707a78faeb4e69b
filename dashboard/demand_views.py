"""Pages of demand: every service at a glance, one with all that is known, and the upload of a history."""

from collections.abc import Mapping
from datetime import date
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.core.exceptions import BadRequest, PermissionDenied
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import redirect, render
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt, csrf_protect
from django.views.decorators.http import require_POST, require_safe

from dashboard.demand import DemandChoice, ServicePage, demand_page, service_page, table_export
from dashboard.links import list_url
from dashboard.views import SignedInRequest, csv_answer
from fleet.access import rows_writable
from fleet.files import FileError
from fleet.models import Service
from fleet.models.versioned import DAY_FIRST, DAY_LAST
from scenarios.demand import month_first
from scenarios.demands import HistoryChangedError, history_store
from scenarios.histories import HistoryError
from scenarios.history_files import FILE_MOST_BYTE, HistoryFaultsError, history_read, moment_of
from scenarios.seen import DemandSeen, demand_seen
from scenarios.tables import Table

MONTHS, MONTHS_MOST = 24, 60
FORM_EXTRA_BYTE = 2**16  # boundaries and names around the file


class MonthsForm(forms.Form):
    """Which months are shown."""

    months = forms.IntegerField(min_value=1, max_value=MONTHS_MOST, label="Months")

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__({"from": f"{timezone.now().date():%Y-%m}", "months": MONTHS, **data})
        self.fields["from"] = forms.RegexField(r"^\d{4}-\d{2}\Z", label="From month", help_text="YYYY-MM.")
        self.order_fields(["from", "months"])

    def clean(self) -> dict[str, Any]:
        """The first month is one to count with."""
        values = self.cleaned_data
        try:
            first = date.fromisoformat(f"{values['from']}-01")
        except (KeyError, ValueError):
            first = None
        if "from" in values and (first is None or not month_first(DAY_FIRST) <= first <= DAY_LAST):
            self.add_error("from", f"A month from {DAY_FIRST:%Y-%m} to {DAY_LAST:%Y-%m} is needed.")
        return {**values, "first": first}

    @property
    def choice(self) -> DemandChoice:
        """Return what a valid form asks for."""
        return DemandChoice(self.cleaned_data["first"], self.cleaned_data["months"])


class HistoryForm(forms.Form):
    """A file of windows. The field that is needed comes last: a form that was cut off lacks it."""

    file = forms.FileField(
        max_length=255,
        help_text="CSV or csv.gz, a row for each window: window_start (a moment with its zone) or window_start_s, "
        "request_s or rate_rps; if known input_tok, output_tok, top_client_ratio, cache_hit_ratio.",
    )
    starts_at = forms.CharField(
        required=False,
        max_length=40,
        label="Start",
        help_text="Of window_start_s, such as 2027-01-31T00:00:00Z.",
    )
    instead = forms.ChoiceField(
        label="What is there already",
        choices=[("0", "stays; the new windows are joined to it"), ("1", "goes; the new windows come instead")],
    )

    def clean_starts_at(self) -> Any:
        """It is a moment with its zone, or nothing."""
        text = self.cleaned_data["starts_at"]
        try:
            return moment_of(text) if text else None
        except ValueError as error:
            raise forms.ValidationError(str(error)) from error


def _asked(request: HttpRequest) -> tuple[MonthsForm, DemandSeen]:
    form = MonthsForm(request.GET.dict())
    return form, demand_seen(request.user, timezone.now().date())


def _choice(form: MonthsForm) -> DemandChoice:
    if not form.is_valid():
        raise BadRequest("; ".join(f"{field}: {' '.join(map(str, texts))}" for field, texts in form.errors.items()))
    return form.choice


def _named(tables: Mapping[str, Table], name: str) -> Table:
    if name not in tables:
        raise Http404(f"there is no table {name}; there are: {', '.join(tables)}")
    return tables[name]


# --- all services -----------------------------------------------------------------------------------------------------
@login_required
@require_safe
def demand(request: HttpRequest) -> HttpResponse:
    """How much is asked of every service, until when, and how good are such forecasts?"""
    form, services = _asked(request)
    if not form.is_valid():
        return render(request, "dashboard/demand.html", {"form": form}, status=400)
    shown = demand_page(services, form.choice)
    tables = {name: (table, table.cells()) for name, table in shown.tables.items()}
    return render(request, "dashboard/demand.html", {"form": form, "shown": shown, "tables": tables})


@login_required
@require_safe
def demand_csv(request: HttpRequest, name: str) -> HttpResponse:
    """A table of the list as CSV, of exactly what the page with the same query shows."""
    form, services = _asked(request)
    table = _named(demand_page(services, _choice(form)).tables, name)
    return csv_answer(table.csv(), f"demand-{table.name}.csv")


@login_required
@require_safe
def demand_json(request: HttpRequest, name: str) -> HttpResponse:
    """The same as JSON."""
    form, services = _asked(request)
    choice = _choice(form)
    return JsonResponse(table_export(_named(demand_page(services, choice).tables, name), choice))


# --- one service ------------------------------------------------------------------------------------------------------
def _service(services: DemandSeen, slug: str) -> Service:
    found = services.named(slug)
    if found is None:
        raise Http404(f"there is no service {slug}")
    return found


@login_required
@require_safe
def demand_service(request: HttpRequest, slug: str) -> HttpResponse:
    """What was asked of a service, what will be, and who knows better?"""
    return _service_page(request, slug, HistoryForm())


def _service_page(
    request: HttpRequest, slug: str, upload: HistoryForm, *, status: int = 200, **more: Any
) -> HttpResponse:
    form, services = _asked(request)
    found = _service(services, slug)
    context = {"form": form, "upload": upload, "service": found, **more}
    if not form.is_valid():
        return render(request, "dashboard/demand_service.html", context, status=400)
    shown = service_page(services, found, form.choice)
    tables = {name.replace("-", "_"): (table, table.cells()) for name, table in shown.tables.items()}
    lists = {name: f"{list_url(name)}?service={slug}" for name in ("demand-events", "demand-overrides")}
    links = {"events_list": lists["demand-events"], "overrides_list": lists["demand-overrides"]}
    return render(
        request, "dashboard/demand_service.html", {**context, "shown": shown, "tables": tables, **links}, status=status
    )


def _table(request: HttpRequest, slug: str, name: str) -> tuple[ServicePage, Table]:
    form, services = _asked(request)
    found = _service(services, slug)
    shown = service_page(services, found, _choice(form))
    return shown, _named(shown.tables_all, name)


@login_required
@require_safe
def demand_service_csv(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """A table of a service as CSV, of exactly what the page with the same query shows."""
    _, table = _table(request, slug, name)
    return csv_answer(table.csv(), f"demand-{slug}-{table.name}.csv")


@login_required
@require_safe
def demand_service_json(request: HttpRequest, slug: str, name: str) -> HttpResponse:
    """The same as JSON."""
    shown, table = _table(request, slug, name)
    return JsonResponse({"service": slug, **table_export(table, shown.choice)})


@csrf_exempt  # the check reads the whole form: it is made below, once the size is known
@login_required
@permission_required("scenarios.add_demandhistory", raise_exception=True)
@require_POST
def demand_upload(request: SignedInRequest, slug: str) -> HttpResponse:
    """Keep the history of a service out of a file, all of it or nothing."""
    _service(demand_seen(request.user, timezone.now().date()), slug)
    if int(request.META.get("CONTENT_LENGTH") or 0) > FILE_MOST_BYTE + FORM_EXTRA_BYTE:
        form = HistoryForm({})
        form.add_error("file", f"Larger than {FILE_MOST_BYTE / 2**20:,.0f} MiB: it was not read.")
        return _service_page(request, slug, form, status=413)
    return _upload(request, slug)


@csrf_protect
def _upload(request: SignedInRequest, slug: str) -> HttpResponse:
    service = rows_writable(Service.objects.all(), request.user).filter(slug=slug).first()
    if service is None:
        raise PermissionDenied
    form, faults = HistoryForm(request.POST, request.FILES), []
    if form.is_valid():
        values = form.cleaned_data
        file = values["file"]
        try:
            read = history_read(cast("Any", file.file), file.name, starts_at=values["starts_at"])
            kept = {"name": file.name, "note": read.note, "is_new": values["instead"] == "1"}
            stored = history_store(service, read.history, owner=request.user, **kept)
        except HistoryFaultsError as error:
            faults = error.faults
            form.add_error("file", f"{error.total:,} row(s) are wrong; nothing was kept.")
        except FileError as error:
            form.add_error("file", str(error))
        except (HistoryError, HistoryChangedError) as error:
            form.add_error(None, f"{error}.")
        else:
            messages.success(request, f"Kept {stored.windows:,} windows until {stored.ends_at:%Y-%m-%d %H:%M} UTC.")
            return redirect("dashboard:demand_service", slug=slug)
    return _service_page(request, slug, form, status=400, faults=faults)
