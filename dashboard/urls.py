"""Addresses of pages."""

from django.contrib.auth import views as auth_views
from django.urls import path

from dashboard import views

app_name = "dashboard"

urlpatterns = [
    path("login/", views.require_form(auth_views.LoginView.as_view(redirect_authenticated_user=True)), name="login"),
    path("logout/", auth_views.LogoutView.as_view(), name="logout"),
    path("", views.overview, name="overview"),
    path("runs/active/", views.runs_active, name="runs_active"),
    path("fleet/", views.fleet, name="fleet"),
    path("fleet/sites/<slug:slug>/", views.site, name="site"),
    path("fleet/racks/<slug:slug>/", views.rack, name="rack"),
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
