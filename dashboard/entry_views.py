"""Pages for every kind of row of the fleet: its list, one row with its history, its form. Built from the inventory."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Any, cast

from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied, ValidationError
from django.db import models
from django.db.models import ProtectedError
from django.http import Http404, HttpRequest, HttpResponse, StreamingHttpResponse
from django.shortcuts import redirect, render
from django.urls import NoReverseMatch, reverse
from django.views.decorators.http import require_safe

from dashboard.entry_forms import WHY_MOST, EntryForm, entry_form
from dashboard.links import row_url
from dashboard.lists import RowList, entry_counts, field_label
from dashboard.selectors import history_of
from dashboard.views import PAGE_ROWS, csv_refused, require_form
from fleet.access import is_shown, key_shown, name_shown, rows_seen
from fleet.audit import author_current, writing_as
from fleet.files import csv_write
from fleet.inventory import BY_KIND, INVENTORY, Entry, key_text
from fleet.services import RowsWriteError, StaleVersionError, row_delete, row_save

PAGES = frozenset({"site", "rack", "host", "card"})  # kinds with a page of their own


@login_required
@require_safe
def lists(request: HttpRequest) -> HttpResponse:
    """What is written down about the fleet, and how much of each?"""
    counts = entry_counts(request.user)
    entries = [(entry, counts[name]) for name, entry in INVENTORY.items()]
    return render(request, "dashboard/lists.html", {"entries": entries})


@login_required
@require_safe
def entry_list(request: HttpRequest, name: str) -> HttpResponse:
    """Which rows of one kind are there?"""
    entry = _entry(name)
    found = RowList(entry, request.GET, request.user)
    page = found.page(PAGE_ROWS)
    columns, cells = found.columns(), found.cells(cast("Any", page.object_list), found.shown)
    context = {
        "entry": entry,
        "list": found,
        "page": page,
        "columns": columns,
        "filters": found.filters(),
        "rows": [(pk, list(zip(columns, texts, strict=True))) for pk, texts in cells],
        "q": request.GET.get("q", ""),
        "day_asked": request.GET.get("day", ""),
        "previous_url": found.url(page=str(page.number - 1)),
        "next_url": found.url(page=str(page.number + 1)),
        "csv_url": reverse("dashboard:entry_csv", args=[name]) + found.url(page=""),
        "may_add": _may(request, entry, "add"),
    }
    return render(request, "dashboard/entry_list.html", context, status=400 if found.errors else 200)


@login_required
@require_safe
def entry_csv(request: HttpRequest, name: str) -> HttpResponse | StreamingHttpResponse:
    """The same rows with all their columns, as a table that can be imported again."""
    entry = _entry(name)
    found = RowList(entry, request.GET, request.user)
    if found.errors:
        return csv_refused(found.errors)
    rows = (dict(zip(found.names, values, strict=True)) for _, values in found.values(found.rows, found.names))
    answer = StreamingHttpResponse(csv_write(found.names, rows), content_type="text/csv; charset=utf-8")
    answer["Content-Disposition"] = f'attachment; filename="{name}.csv"'
    return answer


@dataclass(frozen=True, slots=True)
class Fact:
    """One field of a row: heading, value, unit, what it means, and the page of the row it names."""

    label: str
    text: str
    unit: str
    meaning: str
    url: str


@login_required
@require_safe
def entry_row(request: HttpRequest, name: str, pk: int) -> HttpResponse:
    """What does one row say, what hangs on it, and who changed it?"""
    entry = _entry(name)
    row = _row(request, entry, pk)
    context = {
        "entry": entry,
        "row": row,
        "title": key_shown(row, request.user),
        "facts": list(_facts(entry, row, request.user)),
        "related": list(_related(request, row)),
        "changes": history_of(entry.kind, row.pk, request.user),
        "page_url": page_of(row),
        "may_change": _may(request, entry, "change"),
        "may_delete": _may(request, entry, "delete"),
    }
    return render(request, "dashboard/entry_row.html", context)


@login_required
@require_form
def entry_edit(request: HttpRequest, name: str, pk: int | None = None) -> HttpResponse:
    """Write a row, or edit it under the version that was read."""
    entry = _entry(name)
    if not _may(request, entry, "add" if pk is None else "change"):
        raise PermissionDenied
    row = None if pk is None else _row(request, entry, pk)
    made = entry_form(entry, request.user)
    if request.method != "POST":
        form = made(instance=row, initial={"version_read": row.version if row else None})
        return _form_page(request, entry, row, form)
    form = made(request.POST, instance=row)
    if form.is_valid():
        try:
            with writing_as(replace(author_current(), why=form.cleaned_data["why"])):
                saved = row_save(form.instance, version=form.cleaned_data["version_read"] or 0 if row else None)
        except StaleVersionError:
            messages.error(
                request, "Somebody else has edited it since you opened it; nothing was saved. This is it now."
            )
            return redirect("dashboard:entry_edit", name, pk)
        except (ValidationError, RowsWriteError) as error:
            _errors_add(form, error)
        else:
            messages.success(request, f"{key_shown(saved, request.user)} is saved.")
            return redirect("dashboard:entry_row", name, saved.pk)
    return _form_page(request, entry, row, form, status=400)


@login_required
@require_form
def entry_delete(request: HttpRequest, name: str, pk: int) -> HttpResponse:
    """Delete a row, once somebody has said so twice."""
    entry = _entry(name)
    if not _may(request, entry, "delete"):
        raise PermissionDenied
    row = _row(request, entry, pk)
    if request.method == "POST":
        title = key_shown(row, request.user)
        try:
            with writing_as(replace(author_current(), why=request.POST.get("why", "")[:WHY_MOST])):
                row_delete(row)
        except ProtectedError as error:
            names = ", ".join(sorted({str(one._meta.verbose_name_plural) for one in error.protected_objects}))
            messages.error(request, f"{title} is used by {names}: delete those first. Nothing was deleted.")
            return redirect("dashboard:entry_row", name, pk)
        messages.success(request, f"{title} is deleted; the change history can bring it back.")
        return redirect("dashboard:entry_list", name)
    context = {"entry": entry, "row": row, "title": key_shown(row, request.user)}
    return render(request, "dashboard/entry_delete.html", context)


def page_of(row: models.Model) -> str:
    """Return the address of the page that a kind of row has of its own, or an empty text."""
    kind = str(row._meta.model_name)
    if kind not in PAGES:
        return ""
    try:
        return reverse(f"dashboard:{kind}", args=[key_text(row)])
    except NoReverseMatch:  # a serial that is no part of an address
        return ""


def _entry(name: str) -> Entry:
    entry = INVENTORY.get(name)
    if entry is None:
        raise Http404(f"There is no list {name!r}.")
    return entry


def _row(request: HttpRequest, entry: Entry, pk: int) -> Any:
    rows: models.QuerySet[Any] = rows_seen(entry.model._default_manager.all(), request.user)
    row = rows.filter(pk=pk).select_related(*(f.name for f in entry.fields if f.is_relation)).first()
    if row is None:
        raise Http404(f"There is no {entry.model._meta.verbose_name} {pk}.")
    return row


def _may(request: HttpRequest, entry: Entry, verb: str) -> bool:
    return cast("User", request.user).has_perm(f"fleet.{verb}_{entry.kind}")


def _form_page(request: HttpRequest, entry: Entry, row: Any, form: EntryForm, *, status: int = 200) -> HttpResponse:
    title = key_shown(row, request.user) if row else ""
    context = {"entry": entry, "row": row, "title": title, "form": form}
    return render(request, "dashboard/entry_form.html", context, status=status)


def _errors_add(form: EntryForm, error: ValidationError | RowsWriteError) -> None:
    """Put each error beside its field, or above the form where it is about none."""
    if isinstance(error, RowsWriteError):
        found: Sequence[tuple[str, str]] = [(field, message) for _, field, message in error.errors]
    elif hasattr(error, "error_dict"):
        found = [(field, text) for field, texts in error.message_dict.items() for text in texts]
    else:
        found = [("", text) for text in error.messages]
    for field, message in found:
        form.add_error(field if field in form.fields else None, message)


def _facts(entry: Entry, row: Any, user: Any) -> Iterator[Fact]:
    for field in entry.fields:
        label, unit = field_label(field)
        value = getattr(row, field.name)
        url = ""
        if isinstance(value, models.Model):
            if is_shown(value, user):
                url = row_url(BY_KIND[str(value._meta.model_name)].name, value.pk)
            value = name_shown(value, user)
        elif field.choices:
            value = getattr(row, f"get_{field.name}_display")()
        elif isinstance(value, bool):
            value = "yes" if value else "no"
        elif isinstance(value, float):
            value = f"{value:.10g}"
        yield Fact(label, "–" if value in {None, ""} else str(value), unit, str(field.help_text), url)


def _related(request: HttpRequest, row: Any) -> Iterator[tuple[str, int, str]]:
    """Yield the lists of what refers to a row: title, count, address."""
    for relation in row._meta.related_objects:
        entry = BY_KIND.get(str(relation.related_model._meta.model_name))
        if entry is None or not isinstance(relation.field, models.ForeignKey):
            continue
        rows = rows_seen(entry.model._default_manager.filter(**{relation.field.name: row}), request.user)
        if count := rows.count():
            url = reverse("dashboard:entry_list", args=[entry.name])
            yield entry.title, count, f"{url}?{relation.field.name}={key_text(row)}"
