import csv

import pytest

from accelerator.chips import _FIGURES, MissingFigureError, chip_get, chips_load, chips_read
from accelerator.errors import AcceleratorError, DataFileError, UnknownChipError
from accelerator.facts import CONFIDENCES, facts_by_item
from accelerator.units import GIB

HEADER = "item,quantity,value,low,high,unit,source,confidence,read_on"
MEASURED_ELSEWHERE = {
    "a40", "a100-pcie-80", "a800-40", "h100-nvl", "gh200", "rtx-pro-6000", "gb10", "arc-pro-b60", "ascend-310p",
    "hygon-dcu-64g",
}  # fmt: skip


@pytest.fixture
def file_of(tmp_path):
    """Write rows, without source, confidence and date, as a user's file of chips."""

    def write(*rows):
        path = tmp_path / "mine.csv"
        path.write_text("\n".join([HEADER, *(f"{row},a page,press,2026-11-23" for row in rows)]) + "\n")
        return path

    return write


def test_the_chips_a_first_answer_needs_are_there():
    needed = {"h20-96", "a100-80", "h100-sxm", "ascend-910b3", "ascend-910c", "thead-ppu-810e"}
    assert needed | MEASURED_ELSEWHERE <= set(chips_load())


def test_every_chip_loads_with_what_it_is():
    assert len(chips_load()) >= 61 + len(MEASURED_ELSEWHERE)
    for slug, chip in chips_load().items():
        assert chip.slug == slug == slug.lower()
        assert all((chip.vendor, chip.name, chip.architecture, chip.link_kind))
        assert min(chip.scale_up_chips, chip.host_chips) >= 1


def test_every_figure_has_a_unit_a_source_a_confidence_and_a_date():
    for chip in chips_load().values():
        for name, figure in chip.figures().items():
            assert all((figure.unit, figure.source, figure.read_on)), (chip.slug, name)
            assert figure.confidence in CONFIDENCES
            assert figure.low > 0, f"{chip.slug} {name}: what is unknown is absent, not zero"


def test_every_text_has_a_known_confidence():
    for rows in facts_by_item("chips.csv").values():
        assert all(row["confidence"] in CONFIDENCES for row in rows.values())


@pytest.mark.shared
def test_the_catalog_is_held_whole_and_in_its_ranges(shared_data):
    columns = {
        "bf16_tflops": ("peak_flop_s[bf16]", 1e12),
        "fp8_tflops": ("peak_flop_s[fp8]", 1e12),
        "int8_tops": ("peak_flop_s[int8]", 1e12),
        "fp4_tflops": ("peak_flop_s[fp4]", 1e12),
        "usable_GiB": ("memory_byte", GIB),
        "memory_bandwidth_GBps": ("memory_byte_s", 1e9),
        "scale_up_GBps_per_direction": ("scale_up_byte_s", 1e9),
        "scale_out_Gbps_per_chip": ("scale_out_byte_s", 1e9 / 8),
        "tdp_w": ("tdp_w", 1),
        "idle_w": ("idle_w", 1),
    }
    outside = set()
    with (shared_data / "chips.csv").open() as file:
        for row in csv.DictReader(file):
            chip = chip_get(row["slug"])
            assert (chip.vendor, chip.homegrown) == (row["vendor"], row["homegrown"] == "1")
            for column, (name, factor) in columns.items():
                figure = chip.figures().get(name)
                if row[column]:
                    value = float(row[column]) * factor
                    if not figure.low * 0.9999 <= value <= figure.high * 1.0001:
                        outside.add((chip.slug, name))
                elif figure is not None:
                    assert figure.confidence != "official" or column == "usable_GiB", (chip.slug, name)
            if row["memory_GiB"]:
                assert chip.memory_byte.value <= float(row["memory_GiB"]) * GIB
    assert outside == {("iluvatar-bi150", "peak_flop_s[bf16]")}  # 192 by source, but 196.8 were measured


@pytest.mark.shared
def test_what_the_catalog_does_not_know_stays_unknown(shared_data):
    ranges = {"tdp_w": "tdp_w", "idle_w": "idle_w", "memory_bandwidth_GBps": "memory_byte_s"}
    with (shared_data / "chips.csv").open() as file:
        for row in csv.DictReader(file):
            for column, name in ranges.items():
                figure = chip_get(row["slug"]).given.get(name)
                if not row[column] and column not in row["planning_range"] and figure is not None:
                    assert (figure.confidence, figure.exact) == ("assumed", False), (row["slug"], name)


def test_the_810e_has_no_fp8_and_an_unknown_bandwidth():
    chip = chip_get("thead-ppu-810e")
    assert set(chip.peak_flop_s) == {"bf16", "int8"}
    assert (chip.memory_byte_s.low, chip.memory_byte_s.high) == (2.0e12, 2.76e12)
    assert chip.memory_byte_s.confidence == "assumed"
    assert chip.idle_w.low < chip.idle_w.high
    assert chip.host_chips == 16


def test_the_910c_is_a_module_of_two_dies():
    assert chip_get("ascend-910c").peak_flop_s["bf16"].value == pytest.approx(2 * 376e12)
    assert "fp8" not in chip_get("ascend-910c").peak_flop_s


def test_int8_is_not_fp8_on_a_b300():
    peaks = chip_get("b300").peak_flop_s
    assert peaks["int8"].value < peaks["fp8"].value / 20


@pytest.mark.parametrize(
    ("slug", "bf16_flop_s", "memory_byte_s", "tdp_w"),
    [
        ("h20-96", 148e12, 4.0e12, 400),
        ("h100-sxm", 989e12, 3.35e12, 700),
        ("a100-80", 312e12, 2.039e12, 400),
        ("a40", 149.7e12, 0.696e12, 300),
    ],
)
def test_published_data_sheets(slug, bf16_flop_s, memory_byte_s, tdp_w):
    chip = chip_get(slug)
    assert chip.peak_flop_s["bf16"].value == bf16_flop_s
    assert chip.memory_byte_s.value == memory_byte_s
    assert chip.tdp_w.value == tdp_w


@pytest.mark.parametrize(
    ("slug", "cores", "cache_mib"),
    [("a100-80", 108, 40), ("h100-sxm", 132, 50), ("l40s", 142, 96), ("b200", 148, 126), ("arc-pro-b60", 20, 18)],
)
def test_cores_and_cache_of_the_chips_whose_kernels_are_published(slug, cores, cache_mib):
    chip = chip_get(slug)
    assert (chip.cores.value, chip.cache_byte.value) == (cores, cache_mib * 2**20)


def test_memory_is_what_an_engine_can_use():
    assert chip_get("ascend-910b3").memory_byte.value == pytest.approx(60.3 * GIB)


def test_a_chip_idles_below_its_tdp():
    for chip in chips_load().values():
        if {"idle_w", "tdp_w"} <= set(chip.given):
            assert chip.idle_w.high < chip.tdp_w.low


def test_a_network_card_is_per_chip_and_direction():
    assert chip_get("h100-sxm").scale_out_byte_s.value == 50e9


def test_cards_joined_in_pairs_have_a_domain_of_two():
    pairs = [chip for chip in chips_load().values() if chip.link_kind == "nvlink-pair"]
    assert {chip.scale_up_chips for chip in pairs} == {2}
    assert all(chip.pcie_byte_s.value < chip.scale_up_byte_s.value for chip in pairs)


def test_rack_scale_systems_are_data():
    assert chip_get("gb200").scale_up_chips == chip_get("gb300").scale_up_chips == 72
    rack = chip_get("cloudmatrix384")
    assert rack.scale_up_chips == 384
    assert rack.system_w.value == 1456 > chip_get("ascend-910c").tdp_w.high


@pytest.mark.parametrize("quantity", ["memory_byte", "memory_byte_s", "scale_up_byte_s", "tdp_w", "idle_w"])
def test_a_figure_that_nobody_has_published_is_named_when_it_is_needed(quantity):
    with pytest.raises(MissingFigureError, match=rf"mlu690 has no {quantity}: .*--chips FILE") as caught:
        getattr(chip_get("mlu690"), quantity)
    assert isinstance(caught.value, AcceleratorError)
    assert (caught.value.chip, caught.value.quantity) == ("mlu690", quantity)


def test_a_chip_without_bf16_loads():
    assert set(chip_get("hanguang-800").peak_flop_s) == {"int8"}
    assert chip_get("hanguang-800").price_usd is None


# --- derived forms ----------------------------------------------------------------------------------------------------
def test_a_capped_chip_computes_slower_and_reads_as_fast():
    capped, chip = chip_get("h100-sxm-cap70"), chip_get("h100-sxm")
    assert capped.derived_from == chip.slug
    assert capped.tdp_w.value == pytest.approx(0.7 * chip.tdp_w.value)
    assert chip.peak_flop_s["bf16"].value / capped.peak_flop_s["bf16"].value == pytest.approx(1.30, rel=1e-3)
    assert capped.memory_byte_s == chip.memory_byte_s
    assert (capped.vendor, capped.architecture) == (chip.vendor, chip.architecture)


def test_every_derived_chip_takes_what_it_does_not_state():
    items = facts_by_item("chips.csv")
    derived = [chip for chip in chips_load().values() if chip.derived_from]
    assert len(derived) >= 7
    for chip in derived:
        base, own = chip_get(chip.derived_from), items[chip.slug]
        assert chip.homegrown == base.homegrown
        for quantity, (name, _) in _FIGURES.items():
            if quantity not in own:
                assert chip.given.get(name) == base.given.get(name), (chip.slug, name)


def test_what_is_unknown_of_a_derived_chip_is_not_taken_from_its_base():
    assert chip_get("hygon-k100-ai").tdp_w.value == 350
    with pytest.raises(MissingFigureError, match="hygon-dcu-64g has no tdp_w"):
        _ = chip_get("hygon-dcu-64g").tdp_w


# --- one figure at another value --------------------------------------------------------------------------------------
def test_a_varied_chip_has_one_figure_at_another_value():
    chip = chip_get("thead-ppu-810e")
    slow = chip.varied("memory_byte_s", chip.memory_byte_s.low)
    assert (slow.memory_byte_s.value, slow.memory_byte_s.high) == (2.0e12, 2.76e12)
    assert slow != chip
    assert chip.memory_byte_s.value == 2.35e12
    assert slow.tdp_w is chip.tdp_w


def test_a_figure_varied_beyond_its_range_is_exact():
    capped = chip_get("h100-sxm").varied("tdp_w", 490)
    assert (capped.tdp_w.low, capped.tdp_w.value, capped.tdp_w.high) == (490, 490, 490)


def test_a_peak_is_varied_by_precision():
    chip = chip_get("h100-sxm")
    varied = chip.varied("peak_flop_s[fp8]", 1e15)
    assert varied.peak_flop_s["fp8"].value == 1e15
    assert varied.peak_flop_s["bf16"] is chip.peak_flop_s["bf16"]


def test_what_is_missing_cannot_be_varied():
    with pytest.raises(MissingFigureError, match=r"a100-80 has no peak_flop_s\[fp8\]"):
        chip_get("a100-80").varied("peak_flop_s[fp8]", 1e15)


# --- names ------------------------------------------------------------------------------------------------------------
@pytest.mark.parametrize("name", ["H20-96G", "h20", "H20-96", "H20 SXM 96GB"])
def test_an_alias_leads_to_the_chip_in_any_case(name):
    assert chip_get(name) is chip_get("h20-96")


@pytest.mark.parametrize(("name", "link"), [("A100 (pairwise NVLink)", "nvlink-pair"), ("A100-SXM-80G", "nvswitch")])
def test_a_topology_leads_to_a_chip_with_that_link(name, link):
    assert chip_get(name).link_kind == link


def test_an_unknown_chip_names_the_close_ones():
    with pytest.raises(UnknownChipError, match=r'unknown chip "h20-69"; did you mean .*h20-96'):
        chip_get("h20-69")


def test_a_known_name_that_is_no_chip_says_why():
    with pytest.raises(UnknownChipError, match=r'unknown chip "Zhonghao" \(a maker, not a chip'):
        chip_get("Zhonghao")


# --- a user's own chips -----------------------------------------------------------------------------------------------
def test_a_user_adds_a_chip(file_of):
    chips = chips_read(file_of("mine,homegrown,1,,,text", "mine,peak_bf16,500,400,600,TFLOP/s", "mine,memory,96,,,GiB"))
    chip = chip_get("Mine", chips)
    assert (chip.peak_flop_s["bf16"].low, chip.memory_byte.value) == (4e14, 96 * GIB)
    assert (chip.name, chip.architecture, chip.host_chips, chip.scale_up_chips) == ("mine", "mine", 1, 1)
    assert chip_get("H20-96G", chips).tdp_w == chip_get("h20-96").tdp_w
    with pytest.raises(MissingFigureError, match=r'mine has no memory_byte_s.*"mine,memory_bandwidth,'):
        _ = chip.memory_byte_s
    with pytest.raises(UnknownChipError):
        chip_get("mine")


def test_a_user_derives_a_chip_from_one_that_is_held(file_of):
    chips = chips_read(file_of("h20-400g,derived_from,h20-96,,,text", "h20-400g,scale_up_per_direction,200,,,GB/s"))
    chip = chips["h20-400g"]
    assert (chip.scale_up_byte_s.value, chip.memory_byte_s) == (200e9, chip_get("h20-96").memory_byte_s)


def test_a_user_gives_the_figure_that_is_missing_and_the_catalog_keeps_its_own(file_of):
    chips = chips_read(file_of("thead-ppu-810e,memory_bandwidth,2500,,,GB/s", "gb10,idle,30,,,W"))
    assert chips["thead-ppu-810e"].memory_byte_s.value == 2.5e12
    assert chips["gb10"].idle_w.value == 30
    assert chip_get("thead-ppu-810e").memory_byte_s.value == 2.35e12


@pytest.mark.parametrize(
    ("row", "column", "reason"),
    [
        ("x,peak_bf16,fast,,,TFLOP/s", "value", '"fast" is not a number'),
        ("x,peak_bf16,-1,,,TFLOP/s", "value", "not a number from 0 up"),
        ("x,peak_bf16,nan,,,TFLOP/s", "value", "not a number from 0 up"),
        ("x,peak_bf16,inf,,,TFLOP/s", "value", "not a number from 0 up"),
        ("x,peak_bf16,5,6,,TFLOP/s", "low", "must lie in its range"),
        ("x,peak_bf16,5,,4,TFLOP/s", "high", "must lie in its range"),
        ("x,peak_bf16,5,,,GFLOP/s", "unit", 'unknown unit "GFLOP/s"'),
        ("x,memory,5,,,W", "unit", "memory is in byte, not in W"),
        ("x,memory,5,,,", "unit", "without unit or source"),
        ("x,memroy,5,,,GiB", "quantity", 'unknown quantity "memroy"'),
        ("x,host_chips,1.5,,,count", "value", "whole number from 1 up"),
        ("x,scale_up_chips,0,,,count", "value", "whole number from 1 up"),
        ("x,scale_up_chips,8,,,W", "unit", "is a count"),
        ("x,derived_from,h99,,,text", "value", 'x is derived from "h99", which is no chip here'),
        ("x,derived_from,x,,,text", "value", "x is derived from itself"),
        ("X 1,memory,5,,,GiB", "item", "lower-case letters"),
        ("x,homegrown,1,,,text", "quantity", "x homegrown is given twice"),
    ],
)
def test_a_wrong_row_names_file_line_and_column(file_of, row, column, reason):
    path = file_of("x,homegrown,0,,,text", row)
    with pytest.raises(DataFileError, match=rf"mine\.csv:3: column {column}: ") as caught:
        chips_read(path)
    assert reason in str(caught.value)


def test_a_wrong_word_for_homegrown_or_confidence_or_date_is_refused(tmp_path):
    path = tmp_path / "mine.csv"
    for row, column in (
        ("x,homegrown,yes,,,text,a page,press,2026-11-23", "value"),
        ("x,tdp,5,,,W,a page,hearsay,2026-11-23", "confidence"),
        ("x,tdp,5,,,W,a page,press,last week", "read_on"),
        ("x,tdp,5,,,W,,press,2026-11-23", "source"),
    ):
        path.write_text(f"{HEADER}\n{row}\n")
        with pytest.raises(DataFileError, match=rf"mine\.csv:2: column {column}: "):
            chips_read(path)


def test_chips_derived_from_each_other_are_refused(file_of):
    with pytest.raises(DataFileError, match="is derived from itself"):
        chips_read(file_of("x,derived_from,y,,,text", "y,derived_from,x,,,text"))


def test_a_chip_must_say_which_side_it_is_on(file_of):
    with pytest.raises(DataFileError, match=r"mine\.csv:2: x has no row homegrown"):
        chips_read(file_of("x,tdp,5,,,W"))


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b"a" * 1_000_001, "larger than 1 MB"),
        (b"\x1f\x8b\x08\x00\xff\xfe", "not text in UTF-8"),
        (b"chip,value\nx,1\n", ":1: the columns must be item,quantity"),
        (b"", ":1: the columns must be item,quantity"),
        (HEADER.encode() + b"\nx,tdp,5\n", ":2: wrong number of cells"),
        (HEADER.encode() + b'\nx,tdp,"5\n', ":2: "),
        (HEADER.encode() + b"\nx,tdp," + b"5" * 200_000 + b",,,W,a,press,2026-11-23\n", ":2: field larger"),
    ],
    ids=["large", "packed", "columns", "empty", "cells", "quote", "field"],
)
def test_a_file_that_is_no_table_of_chips_is_refused(tmp_path, content, reason):
    path = tmp_path / "mine.csv"
    path.write_bytes(content)
    with pytest.raises(DataFileError, match=r"mine\.csv") as caught:
        chips_read(path)
    assert reason in str(caught.value)


def test_a_file_that_is_not_there_is_refused(tmp_path):
    with pytest.raises(DataFileError, match=r"none\.csv: No such file"):
        chips_read(tmp_path / "none.csv")


def test_a_spreadsheet_s_mark_and_line_ends_are_read(tmp_path):
    path = tmp_path / "mine.csv"
    path.write_bytes(b"\xef\xbb\xbf" + f"{HEADER}\r\nx,homegrown,1,,,text,a page,press,2026-11-23\r\n".encode())
    assert chips_read(str(path))["x"].homegrown
