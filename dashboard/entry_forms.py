"""Forms for every kind of row of the fleet, made from the inventory. The rules are those of model and services."""

from typing import Any

from django import forms
from django.core.exceptions import ValidationError
from django.db import models
from django.forms.models import modelform_factory

from dashboard.forms import DateInput
from dashboard.lists import field_label
from fleet.access import ELSEWHERE, is_shown, name_shown, rows_seen
from fleet.inventory import Entry, key_find

WHY_MOST = 500


class KeyField(forms.CharField):
    """Another row of the fleet, written as its key: among a hundred thousand hosts no list of choices helps.

    One elsewhere, that the account does not see, is written as that word and is kept if the word is left alone.
    """

    elsewhere: models.Model | None = None

    def __init__(self, model: type[models.Model], user: Any, **options: Any) -> None:
        super().__init__(max_length=200, **options)
        self.model, self.user = model, user

    def clean(self, value: Any) -> Any:
        """Find the row among those that the account sees."""
        text = super().clean(value)
        if not text:
            return None
        if text == ELSEWHERE and self.elsewhere:
            return self.elsewhere
        row = key_find(rows_seen(self.model._default_manager.all(), self.user), text)
        if row is None:
            raise ValidationError(f"There is no {self.model._meta.verbose_name} {text!r}.")
        return row

    def prepare_value(self, value: Any) -> Any:
        """Show the key of a row that is given by its id."""
        if isinstance(value, int):
            row = self.model._default_manager.filter(pk=value).first()
            return name_shown(row, self.user) if row else ""
        return value


class EntryForm(forms.ModelForm):
    """One row, the version that its editor has read, and why it is written."""

    version_read = forms.IntegerField(required=False, widget=forms.HiddenInput)
    why = forms.CharField(
        required=False, max_length=WHY_MOST, label="Why", help_text="Kept in the change history beside your name."
    )

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        for name, field in self.fields.items():
            if isinstance(field, KeyField) and self.instance.pk:
                row = getattr(self.instance, name)
                field.elsewhere = row if row and not is_shown(row, field.user) else None


def entry_form(entry: Entry, user: Any) -> type[EntryForm]:
    """Return the form of one kind of row for an account."""

    def field_of(field: "models.Field[Any, Any]", **options: Any) -> forms.Field | None:
        text, unit = field_label(field)
        options = {"label": f"{text} [{unit}]" if unit else text, "help_text": field.help_text, **options}
        if isinstance(field, models.ForeignKey):
            return KeyField(field.related_model, user, required=not field.blank, label=text, help_text=_key_hint(field))
        if isinstance(field, models.DateField):
            options["widget"] = DateInput()
        found: forms.Field | None = field.formfield(**options)
        return found

    names = [field.name for field in entry.fields]
    made: Any = modelform_factory(entry.model, form=EntryForm, fields=names, formfield_callback=field_of)
    return made


def _key_hint(field: "models.ForeignKey[Any, Any]") -> str:
    example = {"row": "dc01/h1/a", "hall": "dc01/h1"}.get(str(field.related_model._meta.model_name), "its slug")
    return f"{field.help_text} Its key, as {example}.".strip()
