import pytest
from django.contrib import admin
from django.contrib.auth.models import User
from django.test import RequestFactory

from scenarios.models import (
    CalibrationChange,
    CalibrationVersion,
    ImportJob,
    RatingBatch,
    Report,
    Run,
    Simulation,
    SimulationPart,
    StoredRating,
    Trace,
)

KEPT = [
    *(Run, Report, Trace, Simulation, SimulationPart, StoredRating, RatingBatch),
    *(CalibrationVersion, CalibrationChange, ImportJob),
]


@pytest.mark.django_db
@pytest.mark.parametrize("model", KEPT)
def test_nobody_types_edits_or_deletes_an_answer_in_the_administration(model):
    request = RequestFactory().get("/")
    request.user = User.objects.create_superuser("root", password="a-long-password-1")
    rows = admin.site.get_model_admin(model)
    assert rows.has_view_permission(request)
    assert not rows.has_add_permission(request)
    assert not rows.has_change_permission(request, model())
    assert not rows.has_delete_permission(request, model())
    assert "delete_selected" not in rows.get_actions(request)
