import csv
import gzip
import json

import pytest

from accelerator.architectures import models_load
from accelerator.chips import chip_get, chips_load
from accelerator.errors import DataFileError, UnknownChipError
from accelerator.facts import UNITS, aliases_load, facts_by_item, facts_by_item_of, facts_read, figure_parse, rows_parse

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


@pytest.mark.parametrize(
    ("unit", "value", "base"),
    [("TFLOP/s", 2e12, "flop/s"), ("GiB", 2 * 2**30, "byte"), ("MiB", 2**21, "byte"), ("Gbit/s", 0.25e9, "byte/s")],
)
def test_units_of_files_become_base_units(unit, value, base):
    figure = figure_parse(ROW | {"unit": unit, "low": ""})
    assert (figure.value, figure.unit) == (value, base)
    assert figure.exact


def test_every_unit_leads_to_a_unit_that_is_its_own_base():
    for factor, base in UNITS.values():
        assert factor > 0
        assert base in {"flop/s", "byte/s"} or UNITS[base] == (1.0, base)


def test_a_wrong_cell_names_its_place_and_column():
    with pytest.raises(DataFileError, match=r"some\.csv:7: column high: \"much\" is not a number"):
        figure_parse(ROW | {"high": "much", "place": "some.csv:7"})


def test_a_row_of_a_file_knows_its_place(tmp_path):
    path = tmp_path / "some.csv"
    path.write_text("item,quantity,value,low,high,unit,source,confidence,read_on\n\nx,tdp,5,,,W,a,press,2026-11-23\n")
    assert facts_by_item_of(path)["x"]["tdp"]["place"] == f"{path}:3"
    assert facts_by_item("chips.csv")["a100-40"]["vendor"]["place"] == "accelerator/data/chips.csv:2"


def test_a_cell_too_many_is_refused():
    with pytest.raises(DataFileError, match=r"some\.csv:2: wrong number of cells"):
        list(rows_parse("a,b\n1,2,3\n", "some.csv"))


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
        ("cases/splitwise_perf.csv", ("hardware", "model")),
        ("measured/public.csv", ("chip", "model")),
        ("chips.csv", ("slug", "name")),
        ("models.csv", ("slug", "hf_id")),
    ):
        with (shared_data / path).open() as file:
            names |= {row[column] for row in csv.DictReader(file) for column in columns}
    cases = json.loads((shared_data / "cases/published_cases.json").read_text())
    names |= {*cases["splitwise"]["gpu_tdp_w"], *cases["splitwise"]["server_tdp_w"]}
    names |= {*cases["melange_toy"]["inputs"]["gpu_info"], *cases["melange_published"]["gpus"]}
    names |= {*cases["melange_published"]["models"]}
    names |= {*cases["china_unicom_sanjiangyuan"]["derived"]} - {"thead_tflops_per_card"}
    names |= {row["vendor"] for row in cases["china_unicom_sanjiangyuan"]["signed"]}
    names |= {*cases["deepseek_r1_per_chip_serving"]} - {"unit", "derived_fleet_for_deepseek_day"}
    assert len(names) > 200
    assert not {name for name in names if name.lower() not in aliases_load()}


@pytest.mark.shared
def test_every_chip_that_is_measured_leads_to_a_chip(shared_data):
    names = set()
    for path in (*shared_data.glob("kernels/*.csv*"), shared_data / "measured/public.csv"):
        with gzip.open(path, "rt") if path.suffix == ".gz" else path.open() as file:
            names |= {row["chip"] for row in csv.DictReader(file)}
    assert len(names) > 30
    assert {name: chip_get(name).slug for name in names}


def test_a_server_is_not_a_chip():
    with pytest.raises(UnknownChipError, match="a server of eight h100-sxm, not a chip"):
        chip_get("dgx_h100")
