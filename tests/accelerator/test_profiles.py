from dataclasses import replace

import numpy as np
import pytest

from accelerator.errors import AcceleratorError, DataFileError, UnknownProfileError
from accelerator.profiles import PROFILES, profile_mix, workload_generate, workload_pieces

REQUESTS = 40_000


def test_the_six_profiles_are_there():
    assert set(PROFILES) == {"azure-conv", "azure-code", "kimi-long", "m-large", "m-small", "r1-reasoning"}


@pytest.mark.parametrize("name", PROFILES)
def test_generated_lengths_have_the_published_statistics(name):
    workload = workload_generate(name, requests=REQUESTS, seed=7)
    for lengths, drawn in ((PROFILES[name].input, workload.input_tok), (PROFILES[name].output, workload.output_tok)):
        assert drawn.mean() == pytest.approx(lengths.mean_tok, rel=0.04)
        assert np.median(drawn) == pytest.approx(lengths.p50_tok, rel=0.04, abs=0.5)
        assert np.quantile(drawn, 0.95) == pytest.approx(lengths.p95_tok, rel=0.06, abs=1)
        assert np.quantile(drawn, 0.99) == pytest.approx(lengths.p99_tok, rel=0.10)
        assert lengths.least_tok <= drawn.min()
        assert drawn.max() <= lengths.most_tok


@pytest.mark.parametrize("name", PROFILES)
def test_generated_arrivals_have_the_published_rate_and_burstiness(name):
    profile = PROFILES[name]
    mix = workload_generate(name, requests=REQUESTS, seed=7).token_mix()
    assert mix.rate_request_s == pytest.approx(profile.rate_request_s, rel=1e-9)
    # very bursty gaps need more draws than we make: their sampled CV scatters by some percent
    assert mix.iat_cv == pytest.approx(profile.iat_cv, rel=0.15 if profile.iat_cv > 5 else 0.03)


def test_the_same_seed_gives_the_same_workload_and_another_seed_another():
    first, second, third = (workload_generate("azure-conv", requests=100, seed=seed) for seed in (1, 1, 2))
    assert first.digest == second.digest != third.digest


def test_the_rate_can_be_chosen():
    workload = workload_generate("m-small", requests=500, seed=1, rate_request_s=2.0)
    assert workload.token_mix().rate_request_s == pytest.approx(2.0)


def test_profile_mixes_carry_the_published_arrival_statistics():
    mix = profile_mix("m-large")
    assert (mix.rate_request_s, mix.iat_cv, mix.peak_to_mean_ratio) == (127.7, 1.11, 1.09)
    assert mix.input_tok == pytest.approx(868, rel=0.02)
    assert profile_mix("m-large") is mix


def test_reasoning_decodes_more_than_it_reads_and_code_the_reverse():
    assert profile_mix("r1-reasoning").input_tok / profile_mix("r1-reasoning").output_tok < 1
    assert profile_mix("azure-code").input_tok / profile_mix("azure-code").output_tok > 60


def test_pieces_follow_one_another_and_are_the_same_however_often_they_are_drawn():
    pieces = list(workload_pieces("azure-conv", requests=25_000, seed=3, rate_request_s=50.0, piece=10_000))
    assert [len(piece) for piece in pieces] == [10_000, 10_000, 5_000]
    arrival_s = np.concatenate([piece.arrival_s for piece in pieces])
    assert (np.diff(arrival_s) >= 0).all()
    assert 25_000 / arrival_s[-1] == pytest.approx(50.0, rel=0.05)
    assert np.concatenate([piece.input_tok for piece in pieces]).mean() == pytest.approx(1189, rel=0.03)
    again = workload_pieces("azure-conv", requests=25_000, seed=3, rate_request_s=50.0, piece=10_000)
    assert [piece.digest for piece in again] == [piece.digest for piece in pieces]
    with pytest.raises(AcceleratorError, match="a request and a positive rate"):
        next(workload_pieces("azure-conv", requests=0, seed=1))


def test_unknown_profiles_and_empty_workloads_are_refused():
    with pytest.raises(UnknownProfileError, match='unknown workload profile "azure"; did you mean azure-'):
        workload_generate("azure", requests=10, seed=1)
    with pytest.raises(AcceleratorError, match="two requests"):
        workload_generate("m-small", requests=1, seed=1)


def test_a_mean_that_no_distribution_has_is_a_data_error():
    with pytest.raises(DataFileError, match="no length distribution"):
        _ = replace(PROFILES["azure-conv"].input, mean_tok=9000.0).bend
