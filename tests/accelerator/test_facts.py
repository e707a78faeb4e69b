import csv
import gzip

import pytest

from accelerator.architectures import models_load
from accelerator.chips import chips_load
from accelerator.errors import DataFileError
from accelerator.facts import aliases_load, facts_by_item, facts_read, figure_parse

ROW = {
    "value": "2",
    "low": "1.5",
    "high": "",
    "unit": "GB/s",
    "source": "a page",
    "confidence": "press",
    "read_on": "2026-11-23",
}


def test_a_figure_is_converted_to_base_units_at_the_door():
    figure = figure_parse(ROW)
    assert (figure.low, figure.value, figure.high, figure.unit) == (1.5e9, 2e9, 2e9, "byte/s")
    assert figure.read_on.isoformat() == "2026-11-23"
    assert not figure.exact


def test_a_value_outside_its_range_is_refused():
    with pytest.raises(DataFileError, match="must lie in its range"):
        figure_parse(ROW | {"low": "3"})


@pytest.mark.parametrize("file_name", ["chips.csv", "models.csv", "profiles.csv"])
def test_every_figure_has_a_unit_a_source_and_a_date(file_name):
    rows = [row for quantities in facts_by_item(file_name).values() for row in quantities.values()]
    assert len(rows) > 50
    assert all(row["unit"] and row["source"] and row["read_on"] for row in rows)


def test_every_alias_leads_to_a_chip_or_a_model_or_says_why_not():
    held = {*chips_load(), *models_load()}
    for line, row in facts_read("aliases.csv"):
        assert row["slug"] in held or (not row["slug"] and row["note"]), f"line {line}: {row}"


@pytest.mark.shared
def test_every_chip_and_model_name_of_the_published_data_is_known(shared_data):
    names = set()
    for path in shared_data.glob("kernels/*.csv*"):
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            names |= {row["chip"] for row in csv.DictReader(file)}
    for path, columns in (
        ("measured/public.csv", ("chip", "model")),
        ("chips.csv", ("slug",)),
        ("models.csv", ("slug", "hf_id")),
    ):
        with (shared_data / path).open() as file:
            names |= {row[column] for row in csv.DictReader(file) for column in columns}
    assert len(names) > 200
    assert not {name for name in names if name.lower() not in aliases_load()}
