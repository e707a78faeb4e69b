from dataclasses import asdict, replace

import pytest

from accelerator.efficiency import DEFAULT, RANGES
from accelerator.facts import facts_read


def test_every_efficiency_lies_in_its_stated_range():
    for name, (low, central, high) in RANGES.items():
        assert low <= getattr(DEFAULT, name) == central <= high
    assert DEFAULT.engine is None


def test_every_efficiency_has_a_unit_a_meaning_and_a_source():
    rows = [row for _, row in facts_read("efficiency.csv")]
    assert {row["name"] for row in rows} == set(asdict(DEFAULT)) - {"engine"}
    assert all(row["unit"] and row["meaning"] and row["source"] for row in rows)


def test_kernels_are_taken_as_fitted_and_their_spread_comes_from_the_fit():
    for family in ("gemm", "stream", "experts", "attention", "collectives"):
        assert DEFAULT.time_ratio(family) == 1
    for part in ("gemm", "attention", "experts", "collectives"):
        assert RANGES[f"{part}_time_ratio"] == (1, 1, 1)


@pytest.mark.parametrize(
    ("family", "ratio"), [("gemm", 3.0), ("stream", 3.0), ("experts", 1.0), ("attention", 1.0), ("collectives", 1.0)]
)
def test_a_slower_family_slows_its_own_operators_only(family, ratio):
    assert replace(DEFAULT, gemm_time_ratio=3.0).time_ratio(family) == ratio


def test_a_young_engine_slows_kernels_and_not_links():
    young = replace(DEFAULT, engine_ratio=0.5)
    assert young.time_ratio("gemm") == young.time_ratio("attention") == young.time_ratio("experts") == 2
    assert young.time_ratio("collectives") == 1


def test_engines_fill_as_much_memory_as_their_settings_allow():
    assert 0.85 <= RANGES["memory_use_ratio"][0] < RANGES["memory_use_ratio"][2] <= 0.92
