import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from accelerator import _roofline_py as plain
from accelerator.chips import chip_get
from accelerator.errors import PrecisionError
from accelerator.kernels import kernel_load
from accelerator.roofline import flop_s

ONE = np.ones(1)


@pytest.mark.parametrize(
    ("flop", "moved_byte", "expected_s"),
    [
        pytest.param(1e12, 1e9, 1e-3, id="compute-bound"),
        pytest.param(1e12, 8e9, 2e-3, id="memory-bound"),
        pytest.param(0.0, 0.0, 0.0, id="nothing"),
    ],
)
def test_time_is_the_larger_of_the_two_limits(kernel, flop, moved_byte, expected_s):
    out_s = np.empty(1)
    kernel.op_times_s(flop * ONE, moved_byte * ONE, 1e15 * ONE, 4e12 * ONE, out_s)
    assert_allclose(out_s, expected_s)


def linear(kernel, *, flop=0.0, half=0.0, fixed=0.0, moved=0.0, miss=0.0, most=np.inf, link=0.0, tokens=4):
    out_s = np.empty(tokens + 1)
    columns = (np.array([value], dtype=float) for value in (flop, half, fixed, moved, miss, most, 1.0, 1.0))
    kernel.linear_times_s(*columns, link, out_s)
    return out_s


def test_a_step_without_tokens_takes_nothing(kernel):
    assert linear(kernel, flop=2, half=3, fixed=5)[0] == 0


def test_weights_are_read_once_until_arithmetic_takes_longer(kernel):
    assert_allclose(linear(kernel, flop=2, fixed=5), [0, 5, 5, 6, 8])


def test_a_small_step_wastes_part_of_its_tiles(kernel):
    assert_allclose(linear(kernel, flop=2, half=3), [0, 8, 10, 12, 14])


def test_more_tokens_hit_more_experts(kernel):
    assert_allclose(linear(kernel, fixed=16, miss=0.5), [0, 8, 12, 14, 15])


def test_tokens_beyond_the_most_cost_nothing(kernel):
    assert_allclose(linear(kernel, flop=2, most=2), [0, 2, 4, 4, 4])
    assert_allclose(linear(kernel, flop=2, most=2, miss=0.5, half=4), [0, 6, 10, 11, 11.5])


def test_links_add_to_every_token(kernel):
    assert_allclose(linear(kernel, fixed=5, link=0.5), [0, 5.5, 6, 6.5, 7])


def test_steps_are_read_between_whole_tokens(kernel):
    out_s = np.empty(3)
    columns = (np.array(column, dtype=float) for column in ([0, 1.5, 3], [0, 10, 0], [0, 0, 4]))
    kernel.step_times_s(np.array([0.0, 1, 2, 4]), 0.1, 0.25, 7.0, *columns, out_s)
    assert_allclose(out_s, [7, 7 + 1.5 + 1, 7 + 4 + 1])


def test_buffers_and_rates_are_checked(kernel):
    two, out_s = np.ones(2), np.empty(1)
    with pytest.raises(ValueError, match="one length"):
        kernel.op_times_s(ONE, two, ONE, ONE, out_s)
    with pytest.raises(ValueError, match="positive"):
        kernel.op_times_s(ONE, ONE, 0 * ONE, ONE, out_s)
    with pytest.raises(ValueError, match="one length"):
        kernel.linear_times_s(ONE, two, ONE, ONE, ONE, ONE, ONE, ONE, 0.0, out_s)
    with pytest.raises(ValueError, match="positive"):
        kernel.linear_times_s(ONE, ONE, ONE, ONE, ONE, ONE, ONE, -ONE, 0.0, out_s)
    for bad in (-1.0, 2.5, np.nan):
        with pytest.raises(ValueError, match="a step holds 0 to 2 tokens"):
            kernel.step_times_s(np.zeros(3), 0.0, 0.0, 0.0, bad * ONE, ONE, ONE, out_s)


sizes = st.floats(0, 1e15)
rates = st.floats(1e9, 1e16)
operators = st.lists(
    st.tuples(
        sizes,
        st.floats(0, 1e4),
        sizes,
        sizes,
        st.one_of(st.just(0.0), st.floats(0.5, 0.999)),
        st.one_of(st.just(np.inf), st.floats(0.5, 300)),
        rates,
        rates,
    ),
    min_size=1,
    max_size=6,
)


@given(operators, st.floats(0, 1), st.integers(0, 300))
def test_the_twins_build_the_same_table(rows, link_tok_s, tokens):
    columns = np.ascontiguousarray(np.array(rows).T)
    expected_s, out_s = np.empty(tokens + 1), np.empty(tokens + 1)
    plain.linear_times_s(*columns, link_tok_s, expected_s)
    kernel_load("compiled").linear_times_s(*columns, link_tok_s, out_s)
    assert_allclose(out_s, expected_s, rtol=1e-9)


@given(st.lists(st.tuples(sizes, sizes, rates, rates), min_size=1, max_size=8))
def test_the_twins_agree_on_operators(rows):
    columns = np.ascontiguousarray(np.array(rows).T)
    expected_s, out_s = np.empty(len(rows)), np.empty(len(rows))
    plain.op_times_s(*columns, expected_s)
    kernel_load("compiled").op_times_s(*columns, out_s)
    assert_allclose(out_s, expected_s, rtol=1e-12)


@given(
    st.lists(st.floats(0, 10), min_size=2, max_size=50),
    st.lists(st.tuples(st.floats(0, 1), st.floats(0, 1e6), st.floats(0, 1e9)), min_size=1, max_size=9),
)
def test_the_twins_agree_on_steps(linear_s, rows):
    table = np.array(linear_s)
    share, context, work = np.ascontiguousarray(np.array(rows).T)
    expected_s, out_s = np.empty(len(rows)), np.empty(len(rows))
    arguments = (table, 1e-8, 1e-9, 1e-3, share * (len(table) - 1), context, work)
    plain.step_times_s(*arguments, expected_s)
    kernel_load("compiled").step_times_s(*arguments, out_s)
    assert_allclose(out_s, expected_s, rtol=1e-9, atol=1e-12)


def test_a_precision_the_chip_lacks_is_refused():
    assert flop_s(chip_get("h20-96"), "fp8") == 296e12
    with pytest.raises(PrecisionError, match="thead-ppu-810e does not compute in fp8; it has bf16, int8"):
        flop_s(chip_get("thead-ppu-810e"), "fp8")
