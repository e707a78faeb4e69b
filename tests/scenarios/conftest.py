from datetime import date

import pytest

from scenarios.models import Scenario
from scenarios.services import scenario_save
from tests.calibrations import fit_publish
from tests.factories import START, fleet_rows
from tests.processes import Ground


@pytest.fixture
def scenario(db):
    fleet_rows()
    return scenario_save(
        Scenario(name="How long?", kind="capacity", starts_on=START, ends_on=date(2027, 6, 1), draws=10, seed=5)
    )


@pytest.fixture
def ground(tmp_path_factory):
    built = Ground(tmp_path_factory.mktemp("ground"))
    try:
        yield built
    finally:
        built.close()


@pytest.fixture
def published(monkeypatch):
    """A small published fit."""
    return fit_publish(monkeypatch)
