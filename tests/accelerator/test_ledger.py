import numpy as np
import pytest

from accelerator._des_py import bin_of
from accelerator.ledger import (
    BINS,
    CLIENT_BINS,
    CLIENT_BITS,
    Amount,
    Count,
    Fate,
    Latency,
    Ledger,
    Sampled,
    Time,
    bin_edges_s,
    quantiles_s,
)

SHORTEST_S, LONGEST_S = 2.0**-20, 2.0**20


def histogram(latencies_s, bits=0):
    places = [bin_of(latency_s) >> bits for latency_s in latencies_s]
    return np.bincount(places, minlength=BINS >> bits)[None]


def quantile(latencies_s, level, bits=0):
    return quantiles_s(histogram(latencies_s, bits), np.array([level]), np.array([max(latencies_s)])).item()


# --- bins -------------------------------------------------------------------------------------------------------------
def test_an_octave_has_128_bins_and_16_for_tenants():
    fine_s, coarse_s = bin_edges_s(), bin_edges_s(CLIENT_BITS)
    assert (len(fine_s), len(coarse_s)) == (40 * 128 + 1, 40 * 16 + 1) == (BINS + 1, CLIENT_BINS + 1)
    assert (fine_s[0], fine_s[-1], coarse_s[-1]) == (0, LONGEST_S, LONGEST_S)
    assert fine_s[20 * 128 :][:3].tolist() == [1, 1 + 1 / 128, 1 + 2 / 128]
    assert (fine_s[21 * 128], fine_s[21 * 128 - 1]) == (2, 2 - 1 / 128)
    assert (coarse_s == fine_s[::8]).all()


@pytest.mark.parametrize("exponent", [-19, -3, 0, 7, 19])
def test_a_latency_lies_at_or_above_the_lower_edge_of_its_bin_and_below_the_upper(exponent):
    edges_s = bin_edges_s()
    for part in (0, 1, 64, 127):
        edge_s = 2.0**exponent * (1 + part / 128)
        place = bin_of(edge_s)
        assert edges_s[place] == edge_s
        assert bin_of(np.nextafter(edge_s, 0)) == place - 1
        assert bin_of(np.nextafter(edge_s, np.inf)) == place


def test_bins_are_at_most_a_128th_wide():
    edges_s = bin_edges_s()[1:]
    assert (np.diff(edges_s) <= edges_s[:-1] / 128).all()


def test_what_is_shorter_or_longer_goes_into_the_bins_at_the_ends():
    assert [bin_of(value) for value in (0.0, 1e-300, 1e-9, SHORTEST_S)] == [0, 0, 0, 0]
    assert [bin_of(value) for value in (LONGEST_S, 1e300, np.nextafter(LONGEST_S, 0))] == [BINS - 1] * 3


# --- quantiles --------------------------------------------------------------------------------------------------------
def test_samples_of_a_bin_are_taken_as_evenly_spread():
    """Four samples between 1 and 1 + 1/128: the first quarter is a quarter of the way."""
    latencies_s = [1.0, 1.001, 1.002, 1.003, 2.0]
    assert quantile(latencies_s, 0.2) == 1 + 0.25 / 128
    assert quantile(latencies_s, 0.8) == 1 + 1 / 128
    assert quantile(latencies_s, 1.0) == 2.0


def test_no_quantile_is_beyond_the_largest_sample():
    assert quantile([1.0] * 3, 1.0) == 1.0
    assert quantile([3e6], 0.5) <= LONGEST_S  # the last bin ends there
    assert quantile([0.0, 0.0], 0.99) == 0.0


def test_without_samples_there_are_no_quantiles():
    some = np.concatenate([histogram([1.0]), np.zeros((1, BINS), dtype=np.int64)])
    found = quantiles_s(some, np.array([0.5, 0.9]), np.array([1.0, 0.0]))
    assert np.isnan(found).tolist() == [[False, False], [True, True]]
    assert np.isnan(quantiles_s(some[1:], np.array([0.5, 0.9]), np.zeros(1))).all()


@pytest.mark.parametrize("bits", [0, CLIENT_BITS])
@pytest.mark.parametrize("spread", [0.01, 1.0, 4.0])
def test_quantiles_are_off_by_less_than_the_width_of_a_bin(spread, bits):
    latencies_s = np.random.default_rng(3).lognormal(-1, spread, 5000).clip(SHORTEST_S, LONGEST_S / 2)
    levels = np.linspace(0.001, 1, 200)
    exact_s = np.quantile(latencies_s, levels, method="inverted_cdf")
    found_s = quantiles_s(histogram(latencies_s, bits), levels, np.array([latencies_s.max()]))[0]
    assert (np.abs(found_s - exact_s) <= exact_s * 2.0**bits / 128).all()
    assert (np.diff(found_s) >= 0).all()


def test_histograms_add_up():
    rng = np.random.default_rng(4)
    one, other = rng.exponential(1, 100), rng.exponential(3, 300)
    assert (histogram(one) + histogram(other) == histogram(np.concatenate([one, other]))).all()


# --- the arrays -------------------------------------------------------------------------------------------------------
def test_an_empty_ledger_is_zeros_of_the_shapes_that_it_says():
    ledger = Ledger.empty(replicas=5, pools=2, slos=3, clients=4)
    shapes = {name: values.shape for name, values in ledger.columns().items()}
    assert shapes == {
        "histogram": (2, len(Latency), BINS),
        "latency_sum_s": (5, len(Latency)),
        "latency_max_s": (5, len(Latency)),
        "count": (5, len(Count)),
        "amount": (5, len(Amount)),
        "fate": (len(Fate),),
        "arrived": (3,),
        "good": (3,),
        "client_count": (4, 3 + 3),
        "client_histogram": (4, 3, CLIENT_BINS),
        "timeline": (512, 2, len(Sampled)),
        "times": (len(Time),),
    }
    assert not any(values.any() for values in ledger.columns().values())
