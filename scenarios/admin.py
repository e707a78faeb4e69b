"""Administration of questions and answers; runs are read only: they are made by submitting, not by typing."""

from typing import Any

from django.contrib import admin
from django.http import HttpRequest

from scenarios.models import (
    CalibrationChange,
    CalibrationVersion,
    DemandHistory,
    ImportJob,
    RatingBatch,
    Report,
    Run,
    RunStep,
    Scenario,
    Schedule,
    Simulation,
    SimulationPart,
    StoredRating,
    Trace,
)


class ReadOnlyAdmin(admin.ModelAdmin):
    """Rows that the product writes itself."""

    def has_add_permission(self, request: HttpRequest) -> bool:
        """Nobody types such a row."""
        return False

    def has_change_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody edits such a row."""
        return False


class KeptAdmin(ReadOnlyAdmin):
    """Answers and what they stand on: a finished result never changes, and never goes away by a click."""

    def has_delete_permission(self, request: HttpRequest, obj: Any = None) -> bool:
        """Nobody deletes such a row."""
        return False


@admin.register(Scenario)
class ScenarioAdmin(ReadOnlyAdmin):
    """Scenarios: edited on their page, where the rules are."""

    list_display = ["id", "name", "kind", "starts_on", "ends_on", "version"]


@admin.register(Schedule)
class ScheduleAdmin(ReadOnlyAdmin):
    """Schedules: edited on their page, where the next fire time is set."""

    list_display = ["name", "scenario", "cron", "zone", "enabled", "next_fire_at"]


@admin.register(Run)
class RunAdmin(KeptAdmin):
    """Runs."""

    list_display = ["id", "scenario", "status", "attempt", "created_at", "finished_at"]
    list_filter = ["status"]
    list_select_related = ["scenario"]


@admin.register(RunStep)
class RunStepAdmin(KeptAdmin):
    """Steps of runs."""

    list_display = ["id", "run", "stage_name", "number", "status", "attempt", "worker", "took_s", "error"]
    list_filter = ["status", "stage_name"]
    list_select_related = ["run"]
    exclude = ["result", "checkpoint"]


@admin.register(Trace)
class TraceAdmin(KeptAdmin):
    """Traces."""

    list_display = ["id", "name", "requests", "created_at"]
    exclude = ["arrays"]


@admin.register(DemandHistory)
class DemandHistoryAdmin(ReadOnlyAdmin):
    """Demand histories: given on their page; they go with their service."""

    list_display = ["id", "service", "name", "windows", "starts_at", "ends_at", "updated_at"]
    list_select_related = ["service"]
    exclude = ["arrays", "scores"]


@admin.register(Report)
class ReportAdmin(KeptAdmin):
    """Reports."""

    list_display = ["id", "title", "created_at"]
    exclude = ["html", "csv"]


@admin.register(Simulation)
class SimulationAdmin(KeptAdmin):
    """Simulations."""

    list_display = ["id", "digest", "created_at"]


@admin.register(SimulationPart)
class SimulationPartAdmin(KeptAdmin):
    """Parts of simulations."""

    list_display = ["id", "simulation", "number", "status", "attempt", "error"]
    list_filter = ["status"]
    list_select_related = ["simulation"]


@admin.register(StoredRating)
class StoredRatingAdmin(KeptAdmin):
    """Stored ratings."""

    list_display = ["id", "chip", "model", "mix", "tok_s_per_chip", "binds", "created_at"]
    list_filter = ["mix", "binds"]
    search_fields = ["chip", "model"]


@admin.register(RatingBatch)
class RatingBatchAdmin(KeptAdmin):
    """Batches of the catalog that workers rate."""

    list_display = ["id", "catalog", "mix", "status", "attempt", "rated", "refused"]
    list_filter = ["status"]


@admin.register(CalibrationVersion)
class CalibrationVersionAdmin(KeptAdmin):
    """Calibrations after own measurements."""

    list_display = ["id", "fitted_on", "points", "points_added", "is_active", "owner", "created_at"]
    list_filter = ["is_active"]
    list_select_related = ["owner"]
    exclude = ["payload"]


@admin.register(CalibrationChange)
class CalibrationChangeAdmin(KeptAdmin):
    """Which calibration was taken into use, by whom and when."""

    list_display = ["id", "version", "owner", "created_at"]
    list_select_related = ["version", "owner"]


@admin.register(ImportJob)
class ImportJobAdmin(KeptAdmin):
    """Imports."""

    list_display = ["id", "file_name", "entry", "owner", "dry_run", "status", "written", "created_at"]
    list_filter = ["status", "dry_run"]
    list_select_related = ["owner"]
    exclude = ["report"]
