"""Pages of the change history: what was written, by whom and why, and its undo."""

from dataclasses import replace
from typing import Any, cast

from django import forms
from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.contrib.auth.models import User
from django.core.exceptions import PermissionDenied
from django.db.models import Exists, OuterRef
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.utils.http import urlencode
from django.views.decorators.http import require_POST, require_safe

from dashboard.entry_forms import WHY_MOST
from dashboard.forms import DateInput
from dashboard.views import page_asked
from fleet.access import change_sets_seen, changes_seen, region_limit
from fleet.audit import author_current, writing_as
from fleet.inventory import BY_KIND
from fleet.services import RowsWriteError, UndoConflictError, UndoPlaceError, change_set_undo


class ChangesForm(forms.Form):
    """Which change sets are shown."""

    q = forms.CharField(required=False, max_length=200, label="Row", help_text="Its name, or a part of it.")
    kind = forms.ChoiceField(required=False, choices=[("", "any"), *((kind, kind) for kind in BY_KIND)])
    who = forms.CharField(required=False, max_length=150, label="Who")
    since = forms.DateField(required=False, widget=DateInput(), label="From day")
    until = forms.DateField(required=False, widget=DateInput(), label="To day")


@login_required
@require_safe
def changes(request: HttpRequest) -> HttpResponse:
    """Who changed the fleet, when and why?"""
    form = ChangesForm(request.GET)
    asked = form.cleaned_data if form.is_valid() else {}
    sets = change_sets_seen(request.user).select_related("undo_of")
    rows = {path: asked[name] for name, path in (("q", "label__icontains"), ("kind", "kind")) if asked.get(name)}
    if rows:
        sets = sets.filter(Exists(changes_seen(request.user).filter(**rows, change_set=OuterRef("pk"))))
    for name, path in (("who", "actor_name__icontains"), ("since", "at__date__gte"), ("until", "at__date__lte")):
        if asked.get(name):
            sets = sets.filter(**{path: asked[name]})
    page = page_asked(request, sets if form.is_valid() else sets.none())
    kept: dict[str, Any] = {name: request.GET[name] for name in form.fields if request.GET.get(name)}
    context = {
        "form": form,
        "page": page,
        "previous_url": f"?{urlencode({**kept, 'page': page.number - 1})}",
        "next_url": f"?{urlencode({**kept, 'page': page.number + 1})}",
    }
    return render(request, "dashboard/changes.html", context, status=200 if form.is_valid() else 400)


@login_required
@require_safe
def change_set(request: HttpRequest, number: int) -> HttpResponse:
    """What did one write change?"""
    found = _set(request, number)
    rows = changes_seen(request.user).filter(change_set=found).select_related("change_set").order_by("position")
    context = {
        "set": found,
        "page": page_asked(request, rows),
        "undone_by": change_sets_seen(request.user).filter(undo_of=found).order_by("number"),
        "may_undo": _may_undo(request, found),
    }
    return render(request, "dashboard/change_set.html", context)


@login_required
@require_POST
def change_undo(request: HttpRequest, number: int) -> HttpResponse:
    """Write the opposite of a set, as a set of its own."""
    found = _set(request, number)
    if not _may_undo(request, found):
        raise PermissionDenied
    why = request.POST.get("why", "")[:WHY_MOST]
    try:
        with writing_as(replace(author_current(), why=why)):
            made = change_set_undo(found, why=why, user=cast("User", request.user))
    except UndoPlaceError as error:
        raise PermissionDenied from error
    except (UndoConflictError, RowsWriteError) as error:
        messages.error(request, f"Nothing was undone: {error}")
        return redirect("dashboard:change_set", number)
    messages.success(request, f"Set {number} is undone by set {made.number}.")
    return redirect("dashboard:change_set", made.number)


def _set(request: HttpRequest, number: int) -> Any:
    return get_object_or_404(change_sets_seen(request.user).select_related("undo_of"), number=number)


def _may_undo(request: HttpRequest, found: Any) -> bool:
    """Whether an account may edit rows of all kinds of a set, and each lay where it sees and writes rows."""
    user = cast("User", request.user)
    kinds: list[Any] = list(found.changes.order_by().values_list("kind", flat=True).distinct())
    if not all(user.has_perm(f"fleet.{verb}_{kind}") for kind in kinds for verb in ("add", "change", "delete")):
        return False
    seen = changes_seen(user).filter(change_set=found)
    if region_limit(user) is not None:
        seen = seen.filter(region_pk__isnull=False)
    return seen.count() == found.rows
