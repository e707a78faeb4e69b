import math

import pytest

from accelerator.units import HOUR_S, MONTH_S, Band


def test_a_band_scales_and_survives_its_dict():
    band = Band(1.0, 2.0, 4.0).scaled(3)
    assert band == Band(3.0, 6.0, 12.0)
    assert Band.from_dict(band.as_dict()) == band


def test_an_exact_band_has_no_spread():
    assert Band.exact(5.0) == Band(5.0, 5.0, 5.0)
    assert Band.exact(5.0).sigma_log == 0
    assert Band.exact(0.0).sigma_log == 0


def test_the_spread_is_that_of_the_lognormal_with_these_percentiles():
    sigma = 0.3
    band = Band(math.exp(-1.28155 * sigma), 1.0, math.exp(1.28155 * sigma))
    assert band.sigma_log == pytest.approx(sigma, rel=1e-4)
    assert Band(0.0, 1.0, 2.0).sigma_log == math.inf


@pytest.mark.parametrize("values", [(2, 1, 3), (1, 4, 3), (1, math.nan, 3)])
def test_a_band_that_falls_is_refused(values):
    with pytest.raises(ValueError, match="must rise"):
        Band(*values)


def test_a_month_is_a_twelfth_of_a_year():
    assert pytest.approx(365.25 * 24 * HOUR_S) == 12 * MONTH_S
