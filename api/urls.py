"""Addresses under /api/."""

from collections.abc import Mapping

from django.urls import include, path, re_path
from rest_framework.routers import Route, SimpleRouter

from api import calibrations, catalog, demand, imports, places, views
from api.changes import ChangeSetView
from api.fleet import VIEWS
from api.resources import ReadResource
from api.schema import SchemaView

app_name = "api"


class RowsRouter(SimpleRouter):
    """Edits and deletes many rows at the address of their list, where the view can."""

    routes = [
        route._replace(mapping={**route.mapping, "patch": "edit_rows", "delete": "delete_rows"})
        if isinstance(route, Route) and route.name == "{basename}-list"
        else route
        for route in SimpleRouter.routes
    ]


ROWS: Mapping[str, type[ReadResource]] = {
    **VIEWS,
    "changes": ChangeSetView,
    "imports": imports.ImportView,
    "demand-histories": demand.DemandHistoryView,
    "traces": views.TraceView,
    "scenarios": views.ScenarioView,
    "schedules": views.ScheduleView,
    "runs": views.RunView,
    "reports": views.ReportView,
    "ratings": views.RatingView,
    "calibrations": calibrations.CalibrationView,
    "tokens": views.TokenView,
}
router = RowsRouter()
for prefix, view in ROWS.items():
    router.register(prefix, view, basename=str(view().rows_model._meta.model_name))
router.register("chips", catalog.ChipView, basename="chip")
router.register("models", catalog.LlmModelView, basename="llm-model")

PLACES: Mapping[str, type[places.PlaceView]] = {
    "fits": places.FitsView,
    "power-loads": places.PowerLoadsView,
    "cooling-loads": places.CoolingLoadsView,
    "blast-radius": places.BlastRadiusView,
    "rack-loads": places.RackLoadsView,
    "timeline": places.TimelineView,
}
ROOT = {prefix: f"{basename}-list" for prefix, _, basename in router.registry}
ROOT |= {"capacity/query": "capacity-query", "exchange-ratios": "exchange-ratios", "accuracy": "accuracy"}
ROOT |= {"demand": "demand-list", **{name: name for name in PLACES}}
ROOT |= {"schema": "schema"}

v1 = [
    path("", views.RootView.as_view(names=ROOT), name="root"),
    path("capacity/query/", views.CapacityQueryView.as_view(), name="capacity-query"),
    path("accuracy/", calibrations.AccuracyView.as_view(), name="accuracy"),
    path("rating-catalogs/<uuid:uid>/", views.RatingCatalogView.as_view(), name="rating-catalog"),
    path("exchange-ratios/", views.ExchangeView.as_view(), name="exchange-ratios"),
    *(path(f"{name}/", view.as_view(), name=name) for name, view in PLACES.items()),
    path("demand/", demand.DemandListView.as_view(), name="demand-list"),
    path("demand/<slug:slug>/", demand.DemandDetailView.as_view(), name="demand-detail"),
    path("schema/", SchemaView.as_view(), name="schema"),
    *router.urls,
]

urlpatterns = [
    path("v1/", include(v1)),
    re_path(r"", views.UnknownView.as_view(), name="unknown"),
]
