import pytest

from accelerator.chips import chip_get, chips_load
from accelerator.errors import UnknownChipError
from accelerator.units import GIB


def test_the_chips_a_first_answer_needs_are_there():
    needed = {"h20-96", "a100-80", "h100-sxm", "ascend-910b3", "ascend-910c", "thead-ppu-810e"}
    assert needed <= set(chips_load())
    assert len(chips_load()) >= 12


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


@pytest.mark.parametrize(
    ("slug", "bf16_flop_s", "memory_byte_s", "tdp_w"),
    [("h20-96", 148e12, 4.0e12, 400), ("h100-sxm", 989e12, 3.35e12, 700), ("a100-80", 312e12, 2.039e12, 400)],
)
def test_published_data_sheets(slug, bf16_flop_s, memory_byte_s, tdp_w):
    chip = chip_get(slug)
    assert chip.peak_flop_s["bf16"].value == bf16_flop_s
    assert chip.memory_byte_s.value == memory_byte_s
    assert chip.tdp_w.value == tdp_w


def test_memory_is_what_an_engine_can_use():
    assert chip_get("ascend-910b3").memory_byte.value == pytest.approx(60.3 * GIB)


def test_every_chip_computes_in_bf16_and_idles_below_its_tdp():
    for chip in chips_load().values():
        assert "bf16" in chip.peak_flop_s
        assert chip.idle_w.high < chip.tdp_w.low
        assert chip.host_chips <= chip.scale_up_chips


@pytest.mark.parametrize("name", ["H20-96G", "h20", "H20-96"])
def test_an_alias_leads_to_the_chip_in_any_case(name):
    assert chip_get(name) is chip_get("h20-96")


def test_an_unknown_chip_names_the_close_ones():
    with pytest.raises(UnknownChipError, match=r'unknown chip "h20-69"; did you mean .*h20-96'):
        chip_get("h20-69")


def test_a_known_chip_that_is_not_held_says_why():
    with pytest.raises(UnknownChipError, match=r'unknown chip "A800-40G" \(40 GB part'):
        chip_get("A800-40G")
