import math

import pytest

from accelerator.units import Band


def test_a_band_scales_and_survives_its_dict():
    band = Band(1.0, 2.0, 4.0).scaled(3)
    assert band == Band(3.0, 6.0, 12.0)
    assert Band.from_dict(band.as_dict()) == band


def test_an_exact_band_has_no_spread():
    assert Band.exact(5.0) == Band(5.0, 5.0, 5.0)


@pytest.mark.parametrize("values", [(2, 1, 3), (1, 4, 3), (1, math.nan, 3)])
def test_a_band_that_falls_is_refused(values):
    with pytest.raises(ValueError, match="must rise"):
        Band(*values)
