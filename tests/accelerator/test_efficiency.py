from dataclasses import asdict

from accelerator.efficiency import DEFAULT, RANGES
from accelerator.facts import facts_read


def test_every_efficiency_lies_in_its_stated_range():
    for name, value in asdict(DEFAULT).items():
        low, central, high = RANGES[name]
        assert low <= value == central <= high


def test_every_efficiency_has_a_unit_a_meaning_and_a_source():
    rows = [row for _, row in facts_read("efficiency.csv")]
    assert {row["name"] for row in rows} == set(asdict(DEFAULT))
    assert all(row["unit"] and row["meaning"] and row["source"] for row in rows)


def test_the_shares_of_compute_and_memory_keep_to_the_planning_ranges():
    assert 0.4 <= RANGES["gemm_flop_ratio"][0] < RANGES["gemm_flop_ratio"][2] <= 0.7
    assert RANGES["memory_ratio"] == (0.60, 0.75, 0.85)
