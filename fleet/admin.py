"""Administration of the fleet's rows."""

from django.contrib import admin

from fleet.models import Delivery, Hall, Host, HostType, Rack, Readiness, Region, Row, Service, Site


@admin.register(Region, Hall, Row)
class PlaceAdmin(admin.ModelAdmin):
    """Places that hold other places."""

    list_display = ["__str__", "slug"]
    search_fields = ["slug"]


@admin.register(Site)
class SiteAdmin(admin.ModelAdmin):
    """Sites with their region."""

    list_display = ["slug", "name", "region", "pue_ratio", "in_service_on"]
    list_filter = ["region"]
    search_fields = ["slug", "name"]


@admin.register(Rack)
class RackAdmin(admin.ModelAdmin):
    """Racks with what they carry."""

    list_display = ["slug", "row", "height_u", "power_limit_w", "in_service_on"]
    list_filter = ["row__hall__site"]
    list_select_related = ["row__hall__site"]
    search_fields = ["slug"]


@admin.register(HostType)
class HostTypeAdmin(admin.ModelAdmin):
    """Machines as they are bought."""

    list_display = ["slug", "name", "chip", "chips", "height_u", "power_w"]
    search_fields = ["slug", "name"]


@admin.register(Host)
class HostAdmin(admin.ModelAdmin):
    """Machines in their racks."""

    list_display = ["slug", "host_type", "rack", "in_service_on", "out_of_service_on"]
    list_filter = ["host_type", "rack__row__hall__site"]
    list_select_related = ["host_type", "rack"]
    raw_id_fields = ["rack"]
    search_fields = ["slug"]


@admin.register(Service)
class ServiceAdmin(admin.ModelAdmin):
    """Services with their promise and demand."""

    list_display = ["slug", "name", "region", "model", "profile", "tier", "demand_request_s", "growth_ratio", "movable"]
    list_filter = ["region", "tier", "movable"]
    search_fields = ["slug", "name"]


@admin.register(Readiness)
class ReadinessAdmin(admin.ModelAdmin):
    """Sign-off of a service's software on a chip."""

    list_display = ["service", "chip", "ready_on"]
    list_filter = ["chip"]


@admin.register(Delivery)
class DeliveryAdmin(admin.ModelAdmin):
    """Orders on their way."""

    list_display = ["slug", "site", "host_type", "quantity", "expected_on", "slip_p50_days", "slip_p90_days"]
    list_filter = ["site", "host_type"]
    search_fields = ["slug"]
