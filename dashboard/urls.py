"""Addresses of pages."""

from django.contrib.auth import views as auth_views
from django.urls import path

from dashboard import change_views, entry_views, fleet_views, views

app_name = "dashboard"

urlpatterns = [
    path("login/", views.require_form(auth_views.LoginView.as_view(redirect_authenticated_user=True)), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("", views.overview, name="overview"),
    path("runs/active/", views.runs_active, name="runs_active"),
    path("fleet/", fleet_views.fleet, name="fleet"),
    path("fleet/sites/<slug:slug>/", fleet_views.site, name="site"),
    path("fleet/sites/<slug:slug>/power/", fleet_views.power, name="power"),
    path("fleet/sites/<slug:slug>/halls/<slug:hall_slug>/", fleet_views.hall, name="hall"),
    path("fleet/racks/<slug:slug>/", fleet_views.rack, name="rack"),
    path("fleet/lists/", entry_views.lists, name="lists"),
    path("fleet/lists/<slug:name>.csv", entry_views.entry_csv, name="entry_csv"),
    path("fleet/lists/<slug:name>/", entry_views.entry_list, name="entry_list"),
    path("fleet/lists/<slug:name>/new/", entry_views.entry_edit, name="entry_new"),
    path("fleet/lists/<slug:name>/<int:pk>/", entry_views.entry_row, name="entry_row"),
    path("fleet/lists/<slug:name>/<int:pk>/edit/", entry_views.entry_edit, name="entry_edit"),
    path("fleet/lists/<slug:name>/<int:pk>/delete/", entry_views.entry_delete, name="entry_delete"),
    path("fleet/changes/", change_views.changes, name="changes"),
    path("fleet/changes/<int:number>/", change_views.change_set, name="change_set"),
    path("fleet/changes/<int:number>/undo/", change_views.change_undo, name="change_undo"),
    path("chips/", views.chips, name="chips"),
    path("chips/ratings/", views.ratings, name="ratings"),
    path("chips/ratings/tables/<slug:name>.csv", views.ratings_csv, name="ratings_csv"),
    path("chips/ratings/tables/<slug:name>.json", views.ratings_json, name="ratings_json"),
    path("accuracy/", views.accuracy, name="accuracy"),
    path("accuracy/use/", views.calibration_use, name="calibration_use"),
    path("accuracy/tables/<slug:name>.csv", views.accuracy_csv, name="accuracy_csv"),
    path("accuracy/tables/<slug:name>.json", views.accuracy_json, name="accuracy_json"),
    path("scenarios/", views.scenarios, name="scenarios"),
    path("scenarios/new/", views.scenario_new, name="scenario_new"),
    path("scenarios/<int:pk>/", views.scenario, name="scenario"),
    path("scenarios/<int:pk>/edit/", views.scenario_edit, name="scenario_edit"),
    path("scenarios/<int:pk>/run/", views.scenario_run, name="scenario_run"),
    path("runs/<int:pk>/", views.run, name="run"),
    path("runs/<int:pk>/progress/", views.run_progress, name="run_progress"),
    path("runs/<int:pk>/cancel/", views.run_cancel, name="run_cancel"),
    path("runs/<int:pk>/tables/<slug:name>.csv", views.run_table_csv, name="run_table_csv"),
    path("runs/<int:pk>/charts/<slug:name>.json", views.run_chart_json, name="run_chart_json"),
    path("reports/", views.reports, name="reports"),
    path("reports/<uuid:uid>/", views.report, name="report"),
    path("reports/<uuid:uid>/page/", views.report_html, name="report_html"),
    path("reports/<uuid:uid>/table.csv", views.report_csv, name="report_csv"),
    path("schedules/", views.schedules, name="schedules"),
    path("schedules/new/", views.schedule_new, name="schedule_new"),
    path("schedules/<int:pk>/switch/", views.schedule_switch, name="schedule_switch"),
]
