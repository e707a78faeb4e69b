"""Administration of the fleet's rows. An edit raises the version, as one through any other door does."""

from itertools import islice
from typing import Any

from django import forms
from django.contrib import admin, messages
from django.db import transaction
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from fleet.inventory import BY_KIND, INVENTORY, key_paths
from fleet.models import RegionLimit
from fleet.models.versioned import Versioned
from fleet.services import StaleVersionError, row_delete, row_save


class VersionedForm(forms.ModelForm):
    """A row with the version that its editor has read."""

    version_read = forms.IntegerField(required=False, widget=forms.HiddenInput)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self.initial.setdefault("version_read", self.instance.version if self.instance.pk else None)


class VersionedAdmin(admin.ModelAdmin):
    """Rows that two people may have open at once: the later one is told, and overwrites nothing."""

    form = VersionedForm

    def save_model(self, request: HttpRequest, obj: Versioned, form: Any, change: bool) -> None:  # noqa: FBT001 -- Django's
        """Save as every other door does; a form without a version is no form of ours, and 0 matches no row."""
        row_save(obj, version=form.cleaned_data["version_read"] or 0 if change else None)

    def delete_model(self, request: HttpRequest, obj: Versioned) -> None:
        """Delete as every other door does."""
        row_delete(obj)

    def delete_queryset(self, request: HttpRequest, queryset: Any) -> None:
        """Delete some as every other door does, all or none."""
        with transaction.atomic():
            for row in queryset:
                row_delete(row)

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the row as it is now to somebody who came too late."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except StaleVersionError:
            text = "Somebody else has edited this row since you opened it; nothing was saved. Here is what it says now."
            self.message_user(request, text, messages.ERROR)
            return redirect(request.path)


class EntryAdmin(VersionedAdmin):
    """Rows of one kind, as the inventory describes it."""

    list_per_page = 50
    show_full_result_count = False

    def get_search_fields(self, request: HttpRequest) -> tuple[str, ...]:
        """Search what people call a row by."""
        return key_paths(self.model)

    def get_list_display(self, request: HttpRequest) -> tuple[str, ...]:
        """Show the first plain columns."""
        plain = (field.name for field in BY_KIND[str(self.model._meta.model_name)].fields if not field.is_relation)
        return ("__str__", *islice(plain, 6))

    def get_list_select_related(self, request: HttpRequest) -> tuple[str, ...]:
        """Read with a row what its name shows."""
        return tuple(field.name for field in self.model._meta.concrete_fields if field.is_relation)


for entry in INVENTORY.values():
    admin.site.register(
        entry.model,
        type(
            f"{entry.model.__name__}Admin",
            (EntryAdmin,),
            {"raw_id_fields": [f.name for f in entry.model._meta.concrete_fields if f.is_relation]},
        ),
    )


@admin.register(RegionLimit)
class RegionLimitAdmin(admin.ModelAdmin):
    """Which accounts see some regions only."""

    list_display = ["user"]
    filter_horizontal = ["regions"]
