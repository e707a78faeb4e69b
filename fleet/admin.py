"""Administration of the fleet's rows. An edit raises the version, as one through any other door does."""

from typing import Any

from django import forms
from django.contrib import admin, messages
from django.http import HttpRequest, HttpResponse
from django.shortcuts import redirect

from fleet.models import Delivery, Hall, Host, HostType, Rack, Readiness, Region, Row, Service, Site
from fleet.models.versioned import Versioned
from fleet.services import StaleVersionError, row_save


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

    def changeform_view(self, request: HttpRequest, *args: Any, **kwargs: Any) -> HttpResponse:
        """Show the row as it is now to somebody who came too late."""
        try:
            return super().changeform_view(request, *args, **kwargs)
        except StaleVersionError:
            text = "Somebody else has edited this row since you opened it; nothing was saved. Here is what it says now."
            self.message_user(request, text, messages.ERROR)
            return redirect(request.path)


@admin.register(Region, Hall, Row)
class PlaceAdmin(VersionedAdmin):
    """Places that hold other places."""

    list_display = ["__str__", "slug"]
    search_fields = ["slug"]


@admin.register(Site)
class SiteAdmin(VersionedAdmin):
    """Sites with their region."""

    list_display = ["slug", "name", "region", "pue_ratio", "in_service_on"]
    list_filter = ["region"]
    search_fields = ["slug", "name"]


@admin.register(Rack)
class RackAdmin(VersionedAdmin):
    """Racks with what they carry."""

    list_display = ["slug", "row", "height_u", "power_limit_w", "in_service_on"]
    list_filter = ["row__hall__site"]
    list_select_related = ["row__hall__site"]
    search_fields = ["slug"]


@admin.register(HostType)
class HostTypeAdmin(VersionedAdmin):
    """Machines as they are bought."""

    list_display = ["slug", "name", "chip", "chips", "height_u", "power_w"]
    search_fields = ["slug", "name"]


@admin.register(Host)
class HostAdmin(VersionedAdmin):
    """Machines in their racks."""

    list_display = ["slug", "host_type", "rack", "in_service_on", "out_of_service_on"]
    list_filter = ["host_type", "rack__row__hall__site"]
    list_select_related = ["host_type", "rack"]
    raw_id_fields = ["rack"]
    search_fields = ["slug"]


@admin.register(Service)
class ServiceAdmin(VersionedAdmin):
    """Services with their promise and demand."""

    list_display = ["slug", "name", "region", "model", "profile", "tier", "demand_request_s", "growth_ratio", "movable"]
    list_filter = ["region", "tier", "movable"]
    search_fields = ["slug", "name"]


@admin.register(Readiness)
class ReadinessAdmin(VersionedAdmin):
    """Sign-off of a service's software on a chip."""

    list_display = ["service", "chip", "ready_on"]
    list_filter = ["chip"]


@admin.register(Delivery)
class DeliveryAdmin(VersionedAdmin):
    """Orders on their way."""

    list_display = ["slug", "site", "host_type", "quantity", "expected_on", "slip_p50_days", "slip_p90_days"]
    list_filter = ["site", "host_type"]
    search_fields = ["slug"]
