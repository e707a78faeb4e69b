"""Forms of the fleet's pages: what an address may ask for."""

from collections.abc import Mapping
from datetime import date
from typing import Any

from django import forms

from dashboard.places import HIGHEST, METRICS
from fleet.models.versioned import DAY_FIRST, DAY_LAST, check_day
from scenarios.demand import month_add

MONTHS_BEFORE, MONTHS_AFTER, MONTHS_MOST = 6, 24, 120
TREES = {
    "power": "power node",
    "cooling": "cooling node",
    "network": "switch",
    "region": "region",
    "site": "site",
    "hall": "hall",
    "row": "row of racks",
    "rack": "rack",
    "host": "host",
    "scale-up-domain": "scale-up domain",
}


class MonthInput(forms.DateInput):
    """The browser's own month field; where it has none, a text as YYYY-MM."""

    input_type = "month"

    def __init__(self) -> None:
        super().__init__(attrs={"placeholder": "YYYY-MM"}, format="%Y-%m")


class MetricForm(forms.Form):
    """What a floor plan shows."""

    metric = forms.ChoiceField(required=False, choices=list(METRICS.items()))

    def clean_metric(self) -> str:
        """Without one, the highest of all limits is shown."""
        return self.cleaned_data["metric"] or HIGHEST


class FailureForm(forms.Form):
    """What is lost: a node of a tree or a place, by what it is called."""

    tree = forms.ChoiceField(choices=list(TREES.items()), label="What fails")
    node = forms.CharField(
        max_length=200,
        label="Its name",
        widget=forms.TextInput(attrs={"placeholder": "slug; a row as dc01/h1/a", "autocomplete": "off"}),
    )


class WindowForm(forms.Form):
    """Which months of the timeline are shown, and at which site."""

    site = forms.ChoiceField(required=False)

    def __init__(self, data: Mapping[str, Any], *, day: date, sites: list[tuple[str, str]]) -> None:
        month = day.replace(day=1)
        months = {
            "from": max(month_add(month, -MONTHS_BEFORE), DAY_FIRST),
            "to": min(month_add(month, MONTHS_AFTER), DAY_LAST),
        }
        given = {name: value for name, value in data.items() if value}
        super().__init__({**{name: f"{value:%Y-%m}" for name, value in months.items()}, **given})
        for name, label in (("from", "From month"), ("to", "To month")):
            self.fields[name] = forms.DateField(
                input_formats=["%Y-%m"],
                widget=MonthInput(),
                label=label,
                validators=[check_day],
                error_messages={"invalid": "Enter a month as YYYY-MM."},
            )
        self.fields["site"].choices = [("", "every site"), *sites]  # type: ignore[attr-defined]
        self.order_fields(["from", "to", "site"])

    def clean(self) -> dict[str, Any]:
        """The window has an order and an end."""
        values: dict[str, Any] = self.cleaned_data
        first, last = values.get("from"), values.get("to")
        if first and last:
            if last < first:
                self.add_error("to", "The last month comes before the first.")
            elif month_add(first, MONTHS_MOST) <= last:
                self.add_error("to", f"At most {MONTHS_MOST} months are shown at once.")
        return values
