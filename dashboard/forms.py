"""Forms of pages: parse and validate. The rules themselves are those of the scenarios room."""

import zoneinfo
from collections.abc import Mapping
from datetime import date
from typing import Any

from django import forms
from django.conf import settings
from django.core.exceptions import ValidationError
from django.core.files.uploadedfile import UploadedFile
from django.utils import timezone

from accelerator import PROFILES, chips_load, models_load
from accelerator.accuracy import SCHEMES
from dashboard.accuracy import AccuracyChoice, choices_of
from dashboard.param_fields import LISTS, PREFIX, param_fields, param_initial, param_name, param_values
from dashboard.ratings import RatingChoice, choice_defaults
from fleet.access import region_limit, rows_seen
from fleet.models import Service
from fleet.models.versioned import DAY_FIRST, DAY_LAST, check_day
from scenarios.accuracy import SCHEME
from scenarios.checks import check_scenario, check_schedule
from scenarios.models import Scenario, Schedule, Trace
from scenarios.planning.params import PARAMS
from scenarios.seen import seen


class DateInput(forms.DateInput):
    """The browser's own date field; its value is always YYYY-MM-DD."""

    input_type = "date"

    def __init__(self, **attrs: str) -> None:
        super().__init__(attrs=attrs, format="%Y-%m-%d")


class DayForm(forms.Form):
    """The day on which the fleet is shown; empty is today."""

    day = forms.DateField(
        required=False,
        widget=DateInput(min=DAY_FIRST.isoformat(), max=DAY_LAST.isoformat()),
        label="Fleet on",
        validators=[check_day],
    )

    def clean_day(self) -> date:
        """An empty day is today, in UTC."""
        return self.cleaned_data["day"] or timezone.now().date()


class RatingsForm(forms.Form):
    """Which ratings are shown: a model on every chip, every model on a chip, or one pair."""

    model = forms.ChoiceField(required=False)
    chip = forms.ChoiceField(required=False)
    mix = forms.ChoiceField(label="Token mix")
    ttft_p95_s = forms.FloatField(min_value=0.001, max_value=3600, label="TTFT at most [s]", help_text="At P95.")
    tpot_p95_s = forms.FloatField(min_value=0.0001, max_value=60, label="TPOT at most [s]", help_text="At P95.")

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__({**choice_defaults(), **data})
        chips, models = ([(slug, slug) for slug in load()] for load in (chips_load, models_load))
        self.fields["model"].choices = [("", "every model"), *models]  # type: ignore[attr-defined]
        self.fields["chip"].choices = [("", "every chip"), *chips]  # type: ignore[attr-defined]
        self.fields["mix"].choices = [(name, name) for name in PROFILES]  # type: ignore[attr-defined]
        self.fields["from"] = forms.ChoiceField(choices=chips, label="Exchange one host of")

    def clean(self) -> dict[str, Any]:
        """Every model on every chip would be too much to read."""
        values = self.cleaned_data
        if not self.errors and not values["model"] and not values["chip"]:
            self.add_error("model", "Choose a model, a chip, or both: every model on every chip is too much to read.")
        return values

    @property
    def choice(self) -> RatingChoice:
        """Return what a valid form asks for."""
        values = dict(self.cleaned_data)
        return RatingChoice(start=values.pop("from"), **values)


class AccuracyForm(forms.Form):
    """Which held-out rows are shown: one way of holding out, filtered by what was measured."""

    scheme = forms.ChoiceField(choices=list(SCHEMES.items()), label="Held out")
    chip = forms.ChoiceField(required=False)
    engine = forms.ChoiceField(required=False)
    model = forms.ChoiceField(required=False)

    def __init__(self, data: Mapping[str, Any]) -> None:
        super().__init__({"scheme": SCHEME, **data})
        self.fields["class"] = forms.ChoiceField(required=False, label="Class of metrics")
        for name, values in choices_of().items():
            choices = [("", f"every {'class' if name == 'class' else name}"), *((value, value) for value in values)]
            self.fields[name].choices = choices  # type: ignore[attr-defined]

    @property
    def choice(self) -> AccuracyChoice:
        """Return what a valid form asks for."""
        values = dict(self.cleaned_data)
        return AccuracyChoice(metric_class=values.pop("class"), **values)


class ScenarioForm(forms.ModelForm):
    """A scenario with the version that its editor has read."""

    services = forms.MultipleChoiceField(
        required=False,
        widget=forms.CheckboxSelectMultiple,
        label="Services asked about",
        help_text="None ticked: all of them.",
    )
    trace_file = forms.FileField(
        required=False,
        label="Upload a trace",
        help_text="CSV or gzip with arrival_s, input_tokens, output_tokens; it replaces the one chosen beside.",
    )
    version = forms.IntegerField(required=False, widget=forms.HiddenInput)

    class Meta:
        model = Scenario
        fields = [
            *(
                "name",
                "kind",
                "starts_on",
                "ends_on",
                "note",
                "services",
                "trace",
                "trace_file",
                "growth_override_ratio",
            ),
            *("reserve_ratio", "dual_run_months", "draws", "seed"),
        ]
        widgets = {
            "starts_on": DateInput(),
            "ends_on": DateInput(),
            "note": forms.Textarea(attrs={"rows": 3}),
        }
        labels = {
            "kind": "Question",
            "starts_on": "First month",
            "ends_on": "Last month",
            "trace": "Recorded workload",
            "growth_override_ratio": "Growth for all services [1/month]",
            "reserve_ratio": "Reserve [share of every host]",
            "dual_run_months": "Dual run [months]",
            "draws": "Futures drawn",
            "seed": "Seed of the draws",
        }
        help_texts = {
            "starts_on": "Judged as it stands on its first day.",
            "ends_on": "",
            "dual_run_months": "GPU hosts stay warm for so long behind traffic that has moved.",
            "draws": "More futures make steadier bands and longer runs.",
            "seed": "The same seed gives the same answer.",
            "trace": "Its token mix replaces the services' own; empty keeps their built-in profiles.",
            "growth_override_ratio": "0.03 is 3 % a month. Empty: every service grows by its own figure.",
            "reserve_ratio": "0.1 keeps 10 % of every host free for failures and bursts.",
        }

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.user = user
        services = self.fields["services"]
        trace = self.fields["trace"]
        assert isinstance(services, forms.MultipleChoiceField)  # noqa: S101 -- tells the type checker
        assert isinstance(trace, forms.ModelChoiceField)  # noqa: S101 -- tells the type checker
        services.choices = list(rows_seen(Service.objects.all(), user).values_list("slug", "name"))
        trace.queryset = seen(Trace.objects.defer("arrays", "mix"), user)
        trace.empty_label = "none: the services' built-in profiles"
        self.initial.setdefault("version", self.instance.version if self.instance.pk else None)
        for kind in PARAMS:
            self.fields.update(param_fields(kind))
        if self.instance.kind in PARAMS:
            self.initial.update(param_initial(self.instance.kind, self.instance.params))

    @property
    def fields_general(self) -> list[forms.BoundField]:
        """What every scenario takes."""
        return [field for field in self if not field.name.startswith(PREFIX)]

    @property
    def fields_of_kinds(self) -> list[tuple[str, str, list[forms.BoundField]]]:
        """What each kind of question takes besides: the kind, its label, its fields."""
        labels = dict(Scenario.Kind.choices)
        return [
            (kind, labels[kind], [field for field in self if field.name.startswith(param_name(kind, ""))])
            for kind in PARAMS
        ]

    def clean_trace_file(self) -> UploadedFile | None:
        """Refuse what is too large before anything reads it."""
        upload: UploadedFile | None = self.cleaned_data["trace_file"]
        if upload is not None and (upload.size or 0) > settings.TRACE_MAX_BYTE:
            limit_mib = settings.TRACE_MAX_BYTE / 2**20
            raise ValidationError(f"{upload.name} is larger than the limit of {limit_mib:.0f} MiB")
        return upload

    def clean(self) -> dict[str, Any]:
        """Apply the rules of scenarios; their messages name the field."""
        values = self.cleaned_data
        if not values.get("services") and "services" not in self.errors and region_limit(self.user) is not None:
            self.add_error("services", "Name them: your account sees some regions only, and no question about all.")
        params = param_values(values["kind"], values) if values.get("kind") in PARAMS else {}
        self.instance.params = params
        if values.get("kind") and values.get("starts_on") and values.get("ends_on"):
            try:
                check_scenario({**values, "params": params})
            except ValidationError as error:
                self._say(error, values["kind"])
        return values

    def _say(self, error: ValidationError, kind: str) -> None:
        """Show each message at its field; of the parameters at the one that it names."""
        for name, texts in error.message_dict.items():
            for text in texts:
                place, lists = (param_name(kind, one) for one in (text.removeprefix("params.").split(":")[0], LISTS))
                shown = name if name != "params" else place if place in self.fields else lists
                self.add_error(shown if shown in self.fields else None, text)


class ScheduleForm(forms.ModelForm):
    """A schedule."""

    class Meta:
        model = Schedule
        fields = ["name", "scenario", "cron", "zone", "enabled"]
        labels = {"cron": "Cron expression", "zone": "Time zone", "enabled": "Enabled"}
        widgets = {
            "zone": forms.TextInput(attrs={"list": "zones", "autocomplete": "off"}),
            "cron": forms.TextInput(attrs={"autocomplete": "off", "spellcheck": "false"}),
        }

    def __init__(self, *args: Any, user: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        scenario = self.fields["scenario"]
        assert isinstance(scenario, forms.ModelChoiceField)  # noqa: S101 -- tells the type checker
        scenario.queryset = seen(Scenario.objects.all(), user)

    def clean(self) -> dict[str, Any]:
        """Apply the rules of schedules; their messages name the field."""
        values = self.cleaned_data
        if values.get("cron") and values.get("zone"):
            check_schedule(values)
        return values


def zone_names() -> list[str]:
    """Return the time zones that a schedule may name, regions before abbreviations."""
    places = (name for name in zoneinfo.available_timezones() if "/" in name and not name.startswith("Etc/"))
    return [*sorted(places), "UTC"]
