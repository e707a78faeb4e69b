import json
import math

import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get
from accelerator.exchange import HostRate, exchange_ratio, ratio_of
from accelerator.profiles import profile_mix
from accelerator.steady import Slo
from accelerator.units import Band

R1 = profile_mix("r1-reasoning")
SLO = Slo(5.0, 0.1)
PHASES = ("prefill", "decode", "service")


def exchange(start="h20-96", other="thead-ppu-810e", model="qwen3-32b", mix=R1, slo=SLO, **options):
    return exchange_ratio(chip_get(start), chip_get(other), model_get(model), mix, slo, **options)


def test_widths_add_up_squared_in_the_logarithm():
    one, other = HostRate(Band(5.0, 10.0, 20.0), "a"), HostRate(Band(2.5, 5.0, 10.0), "b")
    ratio = ratio_of(one, other)
    width = math.exp(math.hypot(math.log(2), math.log(2)))
    assert (ratio.p10, ratio.p50, ratio.p90) == pytest.approx((2 / width, 2, 2 * width))
    assert ratio_of(one, HostRate(Band.exact(0.0), "", "no")) is None


def test_a_chip_equals_itself():
    same = exchange("h200", "h200")
    for phase in PHASES:
        assert getattr(same, phase).p50 == pytest.approx(1)


def test_there_and_back_again():
    there, back = exchange(), exchange("thead-ppu-810e", "h20-96")
    for phase in PHASES:
        one, other = getattr(there, phase), getattr(back, phase)
        assert one.p50 == pytest.approx(1 / other.p50)
        assert one.p10 == pytest.approx(1 / other.p90)


def test_hosts_of_twice_the_chips_are_worth_twice():
    """A model on one chip: what a host does is what its chips do; apart layouts need not scale exactly."""
    eight, sixteen = (exchange(model="qwen3-8b", to_host_chips=count) for count in (8, 16))
    assert eight.decode.p50 == pytest.approx(2 * sixteen.decode.p50)
    assert eight.to_host_chips == 8


def test_h20_for_810e_per_chip_is_near_the_data_sheets():
    """0.81 where arithmetic binds and 0.50 to 0.69 where bandwidth does, by data sheets; engines differ."""
    found = exchange()
    for phase, low, high in (("prefill", 0.45, 1.1), ("decode", 0.35, 0.95)):
        per_chip = 1 / getattr(found, phase).p50 * found.from_host_chips / found.to_host_chips
        assert low < per_chip < high, phase
        band = getattr(found, phase)
        assert band.p10 < band.p50 < band.p90


def test_h20_for_910c_is_within_a_factor_of_the_published_ratios():
    """Published, DeepSeek-R1: a 910C host does 3.24 and 2.73 times what an H20 host does, on engines of their own."""
    found = exchange("h20-141", "ascend-910c", "deepseek-r1")
    assert 3.24 / 2.5 < 1 / found.prefill.p50 < 3.24 * 2.5
    assert found.decode.p10 < 1 / 2.73 * 2
    assert 2.73 / 4 < 1 / found.decode.p50 < 2.73 * 4


def test_a_chip_that_cannot_serve_has_no_ratio_and_says_why():
    found = exchange("h20-96", "a100-40", "deepseek-r1")
    assert [getattr(found, phase) for phase in PHASES] == [None, None, None]
    assert "a100-40: " in found.refusal
    assert "does not fit" in found.refusal
    assert json.loads(json.dumps(found.as_dict()))["prefill"] is None
