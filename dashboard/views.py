"""Pages: one question each. Views read, hand to a presenter and render; writes go through the services."""

import base64
import hashlib
import re
from collections.abc import Mapping
from typing import Any
from uuid import UUID

from django.contrib import messages
from django.contrib.auth.decorators import login_required, permission_required
from django.contrib.auth.models import User
from django.core.exceptions import BadRequest, ValidationError
from django.core.paginator import InvalidPage, Page, Paginator
from django.db import transaction
from django.db.models import QuerySet
from django.http import Http404, HttpRequest, HttpResponse, JsonResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils import timezone
from django.views.decorators.cache import never_cache
from django.views.decorators.http import require_http_methods, require_POST, require_safe
from django_htmx.http import HttpResponseClientRefresh

from accelerator import TraceError, chips_load
from accelerator.calibration import calibration_load
from accelerator.families import FAMILIES
from dashboard import presenters, selectors
from dashboard.accuracy import AccuracyPage, accuracy_page, change_line, version_lines
from dashboard.charts import charts_of, charts_overview
from dashboard.forms import AccuracyForm, RatingsForm, ScenarioForm, ScheduleForm, zone_names
from dashboard.ratings import RatingsPage, ratings_page
from fleet.access import rows_seen
from fleet.models import Service, Site
from fleet.services import StaleVersionError
from scenarios.calibrations import calibration_use as calibration_take
from scenarios.calibrations import version_named
from scenarios.demand import month_add
from scenarios.engine import Inputs
from scenarios.models import Report, Run, Scenario, Schedule
from scenarios.result_tables import tables_of
from scenarios.schedules import schedule_next, schedule_save
from scenarios.seen import report_seen, result_seen, seen
from scenarios.services import run_cancel as run_end
from scenarios.services import run_submit, scenario_save, trace_keep, trace_read
from scenarios.tables import Table

PAGE_ROWS = 50
NEW_MONTHS = 24  # horizon that a new scenario is offered
ACTIVE = (Run.Status.QUEUED, Run.Status.RUNNING)
REPORT_POLICY = ("base-uri 'none'", "form-action 'none'", "frame-ancestors 'none'", "sandbox")
STYLE = re.compile(r"<style>(.*?)</style>", re.DOTALL)
require_form = require_http_methods(["GET", "HEAD", "POST"])  # a page with a form that comes back to it


def page_asked(request: HttpRequest, rows: QuerySet[Any]) -> Page[Any]:
    """Return the page of some rows that an address asks for, the first without one."""
    try:
        return Paginator(rows, PAGE_ROWS).page(request.GET.get("page") or 1)
    except InvalidPage as error:
        raise Http404(str(error)) from error


class SignedInRequest(HttpRequest):
    """A request behind login_required."""

    user: User


# --- overview ---------------------------------------------------------------------------------------------------------
@login_required
@require_safe
def overview(request: HttpRequest) -> HttpResponse:
    """Are we fine, and until when?"""
    today, changed_at = timezone.now().date(), selectors.fleet_changed_at()
    capacity, migration = (selectors.run_latest(kind, request.user) for kind in ("capacity", "migration"))
    answers = [run.result if run else None for run in (capacity, migration)]
    context = {
        "capacity": capacity,
        "migration": migration,
        "stale": [run for run in (capacity, migration) if run and _is_stale(run, changed_at)],
        "changed_at": changed_at,
        "tiles": presenters.overview_tiles(answers[0], answers[1], today),
        "regions": presenters.overview_regions(answers[0], answers[1], today),
        "sites": presenters.overview_sites(answers[0], today),
        "charts": [chart for result in answers if result for chart in charts_overview(result)],
        "active": selectors.runs_listed(request.user).filter(status__in=ACTIVE)[:10],
        "services": rows_seen(Service.objects.all(), request.user).count(),
        "site_count": rows_seen(Site.objects.filter(selectors.in_service(today)), request.user).count(),
        "schedules": seen(Schedule.objects.filter(enabled=True), request.user)
        .select_related("scenario")
        .order_by("next_fire_at")[:5],
        "reports": seen(Report.objects.defer("html", "csv"), request.user)[:5],
    }
    return render(request, "dashboard/overview.html", context)


@login_required
@never_cache
@require_safe
def runs_active(request: HttpRequest) -> HttpResponse:
    """The runs in the making; when one has ended, the page that asks is loaded anew."""
    active = list(selectors.runs_listed(request.user).filter(status__in=ACTIVE)[:10])
    shown = {int(pk) for pk in request.GET.get("shown", "").split(",") if pk.isdecimal()}
    if not active or shown - {run.pk for run in active}:
        return HttpResponseClientRefresh()
    return render(request, "dashboard/_active.html", {"active": active})


def _is_stale(run: Run, changed_at: Any) -> bool:
    return bool(changed_at and run.started_at and run.started_at < changed_at)


# --- chips and models -------------------------------------------------------------------------------------------------
@login_required
@require_safe
def chips(request: HttpRequest) -> HttpResponse:
    """What can every chip of the catalog do, and who says so?"""
    rows = [presenters.chip_row(chip) for chip in chips_load().values()]
    errors = [presenters.kernel_error_row(calibration_load(name)) for name in FAMILIES]
    context = {"chips": rows, "columns": presenters.CHIP_COLUMNS, "kernel_errors": errors}
    return render(request, "dashboard/chips.html", context)


@login_required
@require_safe
def ratings(request: HttpRequest) -> HttpResponse:
    """What does each chip do for each model, and how many hosts of one equal a host of another?"""
    form = RatingsForm(request.GET.dict())
    if not form.is_valid():
        return render(request, "dashboard/ratings.html", {"form": form}, status=400)
    shown = ratings_page(form.choice)
    context = {"form": form, "shown": shown, "tables": [(table, table.cells()) for table in shown.tables]}
    return render(request, "dashboard/ratings.html", context)


@login_required
@require_safe
def ratings_csv(request: HttpRequest, name: str) -> HttpResponse:
    """A table of ratings as CSV, of exactly what the page with the same query shows."""
    _, table = _ratings_table(request, name)
    return csv_answer(table.csv(), f"{table.name}.csv")


@login_required
@require_safe
def ratings_json(request: HttpRequest, name: str) -> HttpResponse:
    """The same as JSON, with what it is about."""
    shown, table = _ratings_table(request, name)
    return JsonResponse(shown.export(table))


def _ratings_table(request: HttpRequest, name: str) -> tuple[RatingsPage, Table]:
    form = RatingsForm(request.GET.dict())
    if not form.is_valid():
        raise BadRequest("; ".join(f"{field}: {' '.join(map(str, texts))}" for field, texts in form.errors.items()))
    shown = ratings_page(form.choice)
    table = next((table for table in shown.tables_all if table.name == name), None)
    if table is None:
        raise Http404(f"there is no table {name} of these ratings")
    return shown, table


# --- accuracy ---------------------------------------------------------------------------------------------------------
@login_required
@require_safe
def accuracy(request: HttpRequest) -> HttpResponse:
    """How wrong are predictions, where, why, and what is not known?"""
    form = AccuracyForm(request.GET.dict())
    if not form.is_valid():
        return render(request, "dashboard/accuracy.html", {"form": form}, status=400)
    shown = accuracy_page(form.choice)
    lines, changes = version_lines()
    context = {
        "form": form,
        "shown": shown,
        "tables": {name.replace("-", "_"): (table, table.cells()) for name, table in shown.tables.items()},
        "lines": lines,
        "changes": [change_line(change) for change in changes],
    }
    return render(request, "dashboard/accuracy.html", context)


@login_required
@require_safe
def accuracy_csv(request: HttpRequest, name: str) -> HttpResponse:
    """A table of accuracy as CSV, of exactly what the page with the same query shows."""
    _, table = _accuracy_table(request, name)
    return csv_answer(table.csv(), f"accuracy-{table.name}.csv")


@login_required
@require_safe
def accuracy_json(request: HttpRequest, name: str) -> HttpResponse:
    """The same as JSON, with what it is about."""
    shown, table = _accuracy_table(request, name)
    return JsonResponse(shown.export(table))


@login_required
@permission_required("scenarios.change_calibrationversion", raise_exception=True)
@require_POST
def calibration_use(request: SignedInRequest) -> HttpResponse:
    """Take a version of the calibration, or the published fit, into use."""
    try:
        version = version_named(request.POST.get("version", ""))
    except ValueError as error:
        raise BadRequest(str(error)) from error
    which = f"Calibration {version.pk}" if version else "The published fit"
    if calibration_take(version, owner=request.user):
        messages.success(request, f"{which} is in use.")
    else:
        messages.info(request, f"{which} was in use already.")
    return redirect("dashboard:accuracy")


def _accuracy_table(request: HttpRequest, name: str) -> tuple[AccuracyPage, Table]:
    form = AccuracyForm(request.GET.dict())
    if not form.is_valid():
        raise BadRequest("; ".join(f"{field}: {' '.join(map(str, texts))}" for field, texts in form.errors.items()))
    shown = accuracy_page(form.choice)
    table = next((table for table in shown.tables_all if table.name == name), None)
    if table is None:
        raise Http404(f"there is no table {name} of this accuracy")
    return shown, table


# --- scenarios --------------------------------------------------------------------------------------------------------
@login_required
@require_safe
def scenarios(request: HttpRequest) -> HttpResponse:
    """Which questions have been asked?"""
    page = page_asked(request, selectors.scenarios_listed(request.user))
    return render(request, "dashboard/scenarios.html", {"page": page})


@login_required
@require_safe
def scenario(request: HttpRequest, pk: int) -> HttpResponse:
    """What does a scenario ask, and what has it answered?"""
    found = get_object_or_404(selectors.scenarios_listed(request.user), pk=pk)
    names = dict(rows_seen(Service.objects.filter(slug__in=found.services), request.user).values_list("slug", "name"))
    context = {
        "scenario": found,
        "services": [names.get(slug, slug) for slug in found.services],
        "page": page_asked(request, selectors.runs_listed(request.user).filter(scenario=found)),
        "schedules": found.schedules.all(),
    }
    return render(request, "dashboard/scenario.html", context)


@login_required
@permission_required("scenarios.add_scenario", raise_exception=True)
@require_form
def scenario_new(request: SignedInRequest) -> HttpResponse:
    """Ask a new question."""
    first = timezone.now().date().replace(day=1)
    kind = request.GET.get("kind", Scenario.Kind.CAPACITY)
    initial = {"starts_on": first, "ends_on": month_add(first, NEW_MONTHS - 1), "kind": kind}
    form = ScenarioForm(
        request.POST or None,
        request.FILES or None,
        initial=initial,
        instance=Scenario(owner=request.user),
        user=request.user,
    )
    return _scenario_form(request, form, None)


@login_required
@permission_required("scenarios.change_scenario", raise_exception=True)
@require_form
def scenario_edit(request: SignedInRequest, pk: int) -> HttpResponse:
    """Change a question; runs keep the inputs they were started with."""
    found = get_object_or_404(seen(Scenario.objects.all(), request.user), pk=pk)
    form = ScenarioForm(request.POST or None, request.FILES or None, instance=found, user=request.user)
    return _scenario_form(request, form, found)


def _scenario_form(request: SignedInRequest, form: ScenarioForm, found: Scenario | None) -> HttpResponse:
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            try:
                saved = _scenario_store(request, form, found)
            except TraceError as error:
                form.add_error("trace_file", str(error))
            except ValidationError as error:
                form.add_error(None, error)
            except StaleVersionError:
                status = 409
                form.add_error(
                    None,
                    "Somebody else has edited this scenario since you opened it; nothing was saved. "
                    "Open it again to see the present values, then enter yours.",
                )
            else:
                messages.success(request, f"Saved {saved.name}.")
                return redirect("dashboard:scenario", pk=saved.pk)
    name = Scenario.objects.values_list("name", flat=True).get(pk=found.pk) if found else ""
    return render(request, "dashboard/scenario_form.html", {"form": form, "found": found, "name": name}, status=status)


def _scenario_store(request: SignedInRequest, form: ScenarioForm, found: Scenario | None) -> Scenario:
    """Keep trace and scenario together, or neither."""
    edited, upload = form.instance, form.cleaned_data["trace_file"]
    trace = trace_read(upload, name=upload.name, owner=request.user) if upload is not None else None
    with transaction.atomic():  # not before the upload is read: other writers would wait for it
        if trace is not None:
            edited.trace, _ = trace_keep(trace)
        # a form without a version is no form of ours: version 0 matches no row
        version = form.cleaned_data["version"] or 0 if found else None
        return scenario_save(edited, version=version, account=request.user)


@login_required
@permission_required("scenarios.add_run", raise_exception=True)
@require_POST
def scenario_run(request: SignedInRequest, pk: int) -> HttpResponse:
    """Start a run and go to its page."""
    started = run_submit(
        scenario=get_object_or_404(seen(Scenario.objects.select_related("trace"), request.user), pk=pk),
        owner=request.user,
        recompute=request.POST.get("recompute") == "1",
    )
    return redirect("dashboard:run", pk=started.pk)


# --- runs -------------------------------------------------------------------------------------------------------------
@login_required
@require_safe
def run(request: HttpRequest, pk: int) -> HttpResponse:
    """How far is a run, and what is its answer?"""
    runs = Run.objects.select_related("scenario__trace", "owner", "schedule").defer(
        "scenario__trace__arrays", "scenario__trace__mix"
    )
    found = get_object_or_404(seen(runs, request.user), pk=pk)
    if found.result is not None:
        found.result = _result_or_404(found, request)
    context: dict[str, Any] = {
        "run": found,
        "scenario": found.scenario,
        "steps": selectors.steps_listed(found),
        "reused_from": seen(Run.objects.filter(reused_by=found), request.user).only("pk").first(),
    }
    if found.result is not None:
        charts = charts_of(found.result)
        context |= {
            "result": found.result,
            "charts": charts,
            "tables": [(table, table.cells()) for table in tables_of(found.result)],
            "facts": presenters.provenance_of(found.result),
            "is_stale": _is_stale(found, selectors.fleet_changed_at()),
            "is_edited": Inputs.of(found.scenario).digest != found.inputs_digest,
        }
    return render(request, "dashboard/run.html", context)


@login_required
@never_cache
@require_safe
def run_progress(request: HttpRequest, pk: int) -> HttpResponse:
    """How far a run is, as a part of its page; when it has ended, the page is loaded anew."""
    found = get_object_or_404(selectors.runs_listed(request.user), pk=pk)
    if found.has_ended:
        return HttpResponseClientRefresh()
    return render(request, "dashboard/_progress.html", {"run": found, "steps": selectors.steps_listed(found)})


@login_required
@permission_required("scenarios.change_run", raise_exception=True)
@require_POST
def run_cancel(request: HttpRequest, pk: int) -> HttpResponse:
    """End a run that nobody wants any more."""
    found = get_object_or_404(selectors.runs_listed(request.user), pk=pk)
    if run_end(found):
        messages.success(request, f"Run {found.pk} is cancelled.")
    else:
        messages.info(request, f"Run {found.pk} had ended already.")
    return redirect("dashboard:run", pk=found.pk)


@login_required
@require_safe
def run_table_csv(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """A table of a run, or the one a chart is drawn from, as CSV."""
    found = _finished_or_404(request, pk)
    for table in _tables_all(_result_or_404(found, request)):
        if table.name == name:
            return csv_answer(table.csv(), f"run-{found.pk}-{table.name}.csv")
    raise Http404(f"run {pk} has no table {name}")


@login_required
@require_safe
def run_chart_json(request: HttpRequest, pk: int, name: str) -> HttpResponse:
    """The rows that a chart is drawn from, with where they came from."""
    found = _finished_or_404(request, pk)
    result = _result_or_404(found, request)
    for chart in charts_of(result):
        if chart.name == name:
            columns = [{"name": c.name, "label": c.label, "unit": c.unit} for c in chart.table.columns]
            return JsonResponse(
                {
                    "title": chart.title,
                    "sentence": chart.sentence,
                    "columns": columns,
                    "rows": list(chart.table.rows),
                    "run": found.pk,
                    **{key: result[key] for key in ("seed", "inputs_digest", "snapshot_digest", "engine_version")},
                }
            )
    raise Http404(f"run {pk} has no chart {name}")


def _finished_or_404(request: HttpRequest, pk: int) -> Run:
    return get_object_or_404(seen(Run.objects.filter(status=Run.Status.DONE), request.user), pk=pk)


def _result_or_404(found: Run, request: HttpRequest) -> dict[str, Any]:
    """Return what an account sees of a result; one that cannot be cut to its regions is not there."""
    result = result_seen(found.result or {}, request.user)
    if result is None:
        raise Http404(f"there is no run {found.pk}")
    return result


def _tables_all(result: dict[str, Any]) -> list[Table]:
    return [*(chart.table for chart in charts_of(result)), *tables_of(result)]


def csv_answer(text: str, name: str) -> HttpResponse:
    """Return a table as a file to keep."""
    return HttpResponse(
        text, content_type="text/csv; charset=utf-8", headers={"Content-Disposition": f'attachment; filename="{name}"'}
    )


def csv_refused(errors: Mapping[str, str]) -> HttpResponse:
    """Return what is wrong with the address of a table, by parameter."""
    text = "\n".join(f"{name}: {reason}" for name, reason in errors.items())
    return HttpResponse(text, status=400, content_type="text/plain; charset=utf-8")


# --- reports and schedules --------------------------------------------------------------------------------------------
def _report_or_404(request: HttpRequest, uid: UUID) -> Report:
    """Return a report; to an account that does not see all of its result it is not there."""
    found = get_object_or_404(seen(Report.objects.select_related("run__scenario", "schedule"), request.user), uid=uid)
    if not report_seen(found, request.user):
        raise Http404(f"there is no report {uid}")
    return found


@login_required
@require_safe
def reports(request: HttpRequest) -> HttpResponse:
    """What has been reported, and when?"""
    listed = Report.objects.select_related("run__scenario", "schedule").defer(
        "html", "csv", "run__result", "run__inputs"
    )
    page = page_asked(request, seen(listed, request.user))
    return render(request, "dashboard/reports.html", {"page": page})


@login_required
@require_safe
def report(request: HttpRequest, uid: UUID) -> HttpResponse:
    """What did a report say?"""
    found = _report_or_404(request, uid)
    result = found.run.result or {}
    context = {"report": found, "result": result, "facts": presenters.provenance_of(result)}
    return render(request, "dashboard/report.html", context)


@login_required
@require_safe
def report_html(request: HttpRequest, uid: UUID) -> HttpResponse:
    """A report as it was stored: it may use its one style sheet and nothing else, not even our origin."""
    html = _report_or_404(request, uid).html
    styles = [base64.b64encode(hashlib.sha256(css.encode()).digest()).decode() for css in STYLE.findall(html)[:1]]
    style_src = " ".join(f"'sha256-{digest}'" for digest in styles) or "'none'"
    policy = ["default-src 'none'", f"style-src {style_src}", *REPORT_POLICY]
    return HttpResponse(html, headers={"Content-Security-Policy": "; ".join(policy)})


@login_required
@require_safe
def report_csv(request: HttpRequest, uid: UUID) -> HttpResponse:
    """The first table of a report as it was stored."""
    found = _report_or_404(request, uid)
    return csv_answer(found.csv, f"report-{found.created_at:%Y-%m-%d}-{found.pk}.csv")


@login_required
@require_safe
def schedules(request: HttpRequest) -> HttpResponse:
    """Which reports are due next?"""
    page = page_asked(request, seen(Schedule.objects.select_related("scenario"), request.user))
    rows = [(schedule, schedule_next(schedule) if schedule.enabled else []) for schedule in page]
    return render(request, "dashboard/schedules.html", {"page": page, "rows": rows})


@login_required
@permission_required("scenarios.add_schedule", raise_exception=True)
@require_form
def schedule_new(request: SignedInRequest) -> HttpResponse:
    """Ask a scenario again at regular times."""
    form = ScheduleForm(
        request.POST or None,
        initial={"cron": "0 7 * * 1", "scenario": request.GET.get("scenario")},
        instance=Schedule(owner=request.user),
        user=request.user,
    )
    status = 200
    if request.method == "POST":
        status = 400
        if form.is_valid():
            saved = schedule_save(form.instance)
            messages.success(request, f"Saved {saved.name}.")
            return redirect("dashboard:schedules")
    return render(request, "dashboard/schedule_form.html", {"form": form, "zones": zone_names()}, status=status)


@login_required
@permission_required("scenarios.change_schedule", raise_exception=True)
@require_POST
def schedule_switch(request: HttpRequest, pk: int) -> HttpResponse:
    """Enable or disable a schedule, as the button said that was pressed."""
    found = get_object_or_404(seen(Schedule.objects.all(), request.user), pk=pk)
    found.enabled = request.POST.get("enabled") == "1"
    schedule_save(found)
    messages.success(request, f"{found.name} is {'enabled' if found.enabled else 'disabled'}.")
    return redirect("dashboard:schedules")
