"""The page of readiness: the gates of model families on chips."""

from collections.abc import Mapping
from typing import Any

from django import forms
from django.contrib.auth.decorators import login_required
from django.db.models import QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import render
from django.views.decorators.http import require_safe

from dashboard.links import list_url
from dashboard.readiness import GATES, STATES, grid_of
from dashboard.views import csv_answer, csv_refused
from fleet.models import Gate


class GridForm(forms.Form):
    """Which pairs are shown: those of a family, of a chip, or with a gate in a state."""

    family = forms.ChoiceField(required=False, label="Model family")
    chip = forms.ChoiceField(required=False)
    gate = forms.ChoiceField(
        required=False, choices=[("", "any"), *((name, f"{name} {GATES[name]}") for name in GATES)]
    )
    state = forms.ChoiceField(
        required=False,
        label="In the state",
        choices=[("", "any"), *STATES.items()],
        help_text="Pairs with such a gate.",
    )

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__(data)
        for name in ("family", "chip"):
            known = Gate.objects.order_by(name).values_list(name, flat=True).distinct()
            self.fields[name].choices = [("", "any"), *((one, one) for one in known)]  # type: ignore[attr-defined]

    def gates(self) -> QuerySet[Gate]:
        """Return the gates of the pairs asked for."""
        asked = {name: value for name, value in self.cleaned_data.items() if value}
        rows = Gate.objects.filter(**{name: asked[name] for name in ("family", "chip") if name in asked})
        inner = {name: asked[name] for name in ("gate", "state") if name in asked}
        if inner:
            pairs = set(rows.filter(**inner).values_list("family", "chip"))
            pks = [pk for pk, *pair in rows.values_list("pk", "family", "chip") if tuple(pair) in pairs]
            rows = rows.filter(pk__in=pks)
        return rows


@login_required
@require_safe
def readiness(request: HttpRequest) -> HttpResponse:
    """Which model family is ready on which chip, and what blocks most?"""
    form = GridForm(request.GET.dict())
    context = {"form": form, "gates": GATES, "list_page": list_url("gates"), "query": request.GET.urlencode()}
    if not form.is_valid():
        return render(request, "dashboard/readiness.html", context, status=400)
    context |= {"grid": grid_of(form.gates()), "is_narrowed": any(form.cleaned_data.values())}
    return render(request, "dashboard/readiness.html", context)


@login_required
@require_safe
def readiness_csv(request: HttpRequest) -> HttpResponse:
    """The same gates as a table."""
    form = GridForm(request.GET.dict())
    if not form.is_valid():
        return csv_refused({field: " ".join(map(str, texts)) for field, texts in form.errors.items()})
    return csv_answer(grid_of(form.gates()).table.csv(), "gates.csv")
