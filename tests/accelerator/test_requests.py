import numpy as np
import pytest

from accelerator.errors import AcceleratorError
from accelerator.requests import TokenMix, Workload


def make(**changes):
    columns = {
        "name": "w",
        "arrival_s": np.array([0.0, 1.0, 3.0]),
        "input_tok": np.array([10, 20, 30]),
        "output_tok": np.array([1, 2, 3]),
    }
    return Workload(**columns | changes)


def test_the_mix_is_what_mental_arithmetic_says():
    mix = make().token_mix()
    assert (mix.input_tok, mix.output_tok, mix.requests) == (20, 2, 3)
    # (10) + (20 + 21) + (30 + 31 + 32) tokens of KV seen by 6 output tokens
    assert mix.context_tok == pytest.approx((10 + 41 + 93) / 6)
    assert mix.prefill_work_tok2 == pytest.approx((100 + 400 + 900) / 3 / 2)
    assert mix.rate_request_s == pytest.approx(2 / 3)
    assert mix.iat_cv == pytest.approx(0.5 / 1.5)
    assert mix.peak_to_mean_ratio == 1.0


def test_the_busiest_whole_minute_makes_the_peak():
    arrival_s = np.concatenate([np.linspace(0, 59, 10), np.linspace(60, 119, 30), [125.0]])
    ones = np.ones(len(arrival_s), dtype=np.int64)
    mix = make(arrival_s=arrival_s, input_tok=ones, output_tok=ones).token_mix()
    assert mix.peak_to_mean_ratio == pytest.approx(30 / 20)


def test_one_request_and_no_output_do_not_divide_by_zero():
    mix = make(arrival_s=np.array([0.0]), input_tok=np.array([7]), output_tok=np.array([0])).token_mix()
    assert (mix.rate_request_s, mix.iat_cv, mix.output_tok, mix.context_tok) == (0, 0, 0, 7)


def test_a_mix_survives_its_dict():
    mix = make().token_mix()
    assert TokenMix.from_dict(mix.as_dict()) == mix


@pytest.mark.parametrize(
    "extra",
    [{}, {"client_id": np.array([5, 5, 6])}, {"priority": np.array([0, 1, 0])}, {"prefix_hashes": ((1, 2), (), (3,))}],
    ids=str,
)
def test_a_workload_survives_its_bytes(extra):
    workload = make(**extra)
    content = workload.to_bytes()
    again = Workload.from_bytes(content, name="w")
    assert again.digest == workload.digest
    assert again.prefix_hashes == workload.prefix_hashes
    assert (again.client_id is None) == (workload.client_id is None)
    assert (again.priority is None) == (workload.priority is None)
    assert again.to_bytes() == content


def test_the_digest_follows_the_columns_and_not_the_name():
    assert make(name="other").digest == make().digest
    assert make(input_tok=np.array([10, 20, 31])).digest != make().digest
    assert make(client_id=np.array([0, 0, 0])).digest != make().digest
    assert make(priority=np.array([0, 0, 0])).digest != make(client_id=np.array([0, 0, 0])).digest


def test_the_arrays_cannot_be_written():
    with pytest.raises(ValueError, match="read-only"):
        make().arrival_s[0] = 5


def test_columns_of_unlike_length_and_empty_workloads_are_refused():
    with pytest.raises(AcceleratorError, match="columns of 3 and 2 rows"):
        make(output_tok=np.array([1, 2]))
    empty = np.array([], dtype=np.int64)
    with pytest.raises(AcceleratorError, match="no requests"):
        make(arrival_s=np.array([]), input_tok=empty, output_tok=empty).token_mix()
