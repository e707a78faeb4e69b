"""The compiled kernels against their plain twins, and what every formula promises whatever the sizes are."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose

from accelerator import _roofline_py as plain
from accelerator.families import FAMILIES
from accelerator.gemm import GEMM
from accelerator.kernels import kernel_load

BY_CODE = {family.code: family for family in FAMILIES.values()}
CODES = sorted({plain.STREAM, *BY_CODE})
WIDEST = 16  # sizes and parameters of one row where families are mixed


def parts_s(kernel, family, shape, parameters):
    """Return time, part computing and part reading of one row, its sizes and parameters given by name."""
    out = np.empty((1, 3))
    sizes = np.array([[shape[name] for name in family.shape]], dtype=float)
    values = np.array([[parameters[parameter.name] for parameter in family.parameters]], dtype=float)
    kernel.family_times_s(family.code, sizes, values, out)
    return out[0]


# --- random rows --------------------------------------------------------------------------------------------------
flag, tok, ranks = st.sampled_from([0.0, 1.0]), st.floats(0.05, 2e5), st.sampled_from([1, 2, 4, 8, 64])
heads, window_tok = st.sampled_from([1, 2, 8, 40, 128]), st.one_of(st.just(0), st.floats(1, 1e5))
peak_flop_s, memory_byte_s = st.floats(1e13, 1e16), st.floats(1e11, 1e13)
SIZES = {
    "byte": st.floats(1, 1e10),
    "rows": tok,
    "width": st.floats(1, 2e5),
    "depth": st.floats(1, 2e5),
    "weight_byte": st.sampled_from([0.5, 0.5625, 1, 2]),
    "activation_byte": st.sampled_from([0.5625, 1, 1.03, 2]),
    "quantises": flag,
    "odd": flag,
    "peak_flop_s": peak_flop_s,
    "memory_byte_s": memory_byte_s,
    "weight_byte_s": memory_byte_s,
    "cores": st.integers(1, 400),
    "cache_byte": st.floats(1, 1e9),
    "tok": tok,
    "batch": st.floats(0.05, 1000),
    "past_tok": st.one_of(st.just(0), tok),
    "kv_tok": tok,
    "heads": heads,
    "kv_heads": heads,
    "head_dim": st.sampled_from([64, 128, 256]),
    "window_tok": window_tok,
    "kv_byte": st.sampled_from([1, 2]),
    "plain": flag,
    "qk_width": st.just(192),
    "v_width": st.just(128),
    "latent_width": st.just(576),
    "value_rank": st.just(512),
    "tile_heads": st.sampled_from([16, 64]),
    "copies": st.integers(1, 8),
    "split": flag,
    "eager": flag,
    "hidden": st.floats(64, 2e4),
    "ffn": st.floats(16, 2e4),
    "topk": st.integers(1, 8),
    "experts": st.sampled_from([8, 64, 256]),
    "ep": st.sampled_from([1, 2, 8]),
    "matrices": st.sampled_from([1, 2, 3]),
    "seen": st.sampled_from([0.125, 1]),
    "skew": st.one_of(st.just(-1), st.just(0), st.floats(1.01, 1.9)),
    "ranks": ranks,
    "slices": st.floats(0.5, 2),
    "steps": st.floats(1, 16),
    "copy_share": st.sampled_from([0, 0.125, 0.5]),
    "point": flag,
    "link_byte_s": st.floats(1e9, 1e12),
    "crowd": st.sampled_from([1, 2, 4]),
    "in_switch": flag,
    "custom": flag,
    "host_issued": flag,
}


def shape_of(code):
    return ("byte", "memory_byte_s") if code == plain.STREAM else BY_CODE[code].shape


def sizes_of(code):
    return st.tuples(*(SIZES[name] for name in shape_of(code))).map(list)


def parameters_of(code):
    """Parameters from a quarter of what is expected of them to four times as much."""
    centres = [parameter.centre for parameter in BY_CODE.get(code, GEMM).parameters]
    return st.tuples(*(st.floats(0.25, 4).map(lambda factor, centre=centre: centre * factor) for centre in centres))


def rows_of(code):
    return st.tuples(sizes_of(code), parameters_of(code))


def both_s(kernel, code, rows):
    out = np.empty((len(rows), 3))
    shape, parameters = (np.array(column, dtype=float) for column in zip(*rows, strict=True))
    kernel.family_times_s(code, shape, parameters, out)
    return out


# --- the twins are equal ------------------------------------------------------------------------------------------
@pytest.mark.parametrize("code", CODES)
@given(st.data())
def test_the_twins_agree_on_every_family(code, data):
    rows = data.draw(st.lists(rows_of(code), min_size=1, max_size=4))
    expected_s = both_s(plain, code, rows)
    assert np.isfinite(expected_s).all()
    assert_allclose(both_s(kernel_load("compiled"), code, rows), expected_s, rtol=1e-9)


def padded(values):
    return [*values, *[1.0] * (WIDEST - len(values))]


step_rows = st.sampled_from([plain.STREAM, plain.GEMM, plain.EXPERTS, plain.COLLECTIVES]).flatmap(
    lambda code: st.tuples(
        st.just(code),
        st.floats(0, 100),  # launches
        st.floats(0.01, 1e4),  # first size per token
        st.one_of(st.just(np.inf), st.floats(0.5, 1e4)),  # tokens charged for at most
        rows_of(code),
    )
)


@given(
    st.lists(step_rows, min_size=1, max_size=6),
    st.lists(st.one_of(st.just(0.0), st.floats(0.01, 3e4), st.integers(1, 30_000).map(float)), min_size=1, max_size=5),
)
def test_the_twins_add_a_step_up_alike(operators, tok):
    code, count, tok_ratio, most_tok, rows = zip(*operators, strict=True)
    arguments = [
        np.array(code, dtype=np.int32),
        *(np.array(column, dtype=float) for column in (count, tok_ratio, most_tok)),
        np.array([padded(sizes) for sizes, _ in rows]),
        np.array([padded(values) for _, values in rows]),
        np.array(tok),
    ]
    expected_s, out_s = np.empty((len(tok), 3)), np.empty((len(tok), 3))
    plain.linear_times_s(*arguments, expected_s)
    kernel_load("compiled").linear_times_s(*arguments, out_s)
    assert_allclose(out_s, expected_s, rtol=1e-9)


table_s = st.lists(st.floats(0, 10), min_size=9, max_size=9).map(np.array)


@given(
    st.lists(st.floats(0, 10), min_size=2, max_size=40).map(np.array),
    table_s,
    table_s,
    table_s,
    st.tuples(*(st.floats(0, 1e-3) for _ in range(4)), st.floats(1, 1e5)),
    st.lists(
        st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1e6), st.one_of(st.just(0), st.floats(0, 1e9))),
        min_size=1,
        max_size=6,
    ),
)
def test_the_twins_agree_on_steps(linear_s, decode_s, context_s_per_tok, window_s_per_tok, scalars, rows):
    tok_share, seqs_share, context_tok, work_tok2 = (
        np.array(column, dtype=float) for column in zip(*rows, strict=True)
    )
    tok = tok_share * (len(linear_s) - 1)
    seqs = seqs_share * np.minimum(tok, len(decode_s) - 1)
    arguments = (linear_s, decode_s, context_s_per_tok, window_s_per_tok, *scalars, tok, seqs, context_tok, work_tok2)
    expected_s, out_s = np.empty(len(rows)), np.empty(len(rows))
    plain.step_times_s(*arguments, expected_s)
    kernel_load("compiled").step_times_s(*arguments, out_s)
    assert_allclose(out_s, expected_s, rtol=1e-12)


# --- laws of the formulas: all of them on the compiled twin, since they are equal -----------------------------------
LAWS = settings(max_examples=60)


def places(code, *names):
    shape = shape_of(code)
    return [shape.index(name) for name in names if name in shape]


def changed_s(code, row, **factors):
    """Return the time of a row before and after sizes are multiplied."""
    sizes, parameters = row
    after = list(sizes)
    for name, factor in factors.items():
        for place in places(code, name):
            after[place] *= factor
    before_s, after_s = both_s(kernel_load("compiled"), code, [row, (after, parameters)])[:, 0]
    return before_s, after_s


@pytest.mark.parametrize("code", CODES)
@LAWS
@given(st.data())
def test_twice_the_bandwidth_is_never_slower(code, data):
    before_s, after_s = changed_s(
        code, data.draw(rows_of(code)), memory_byte_s=2, weight_byte_s=2, link_byte_s=2
    )  # fmt: skip
    assert after_s <= before_s * (1 + 1e-12)


@pytest.mark.parametrize("code", [code for code in CODES if places(code, "peak_flop_s")])
@LAWS
@given(st.data())
def test_twice_the_peak_is_never_slower(code, data):
    before_s, after_s = changed_s(code, data.draw(rows_of(code)), peak_flop_s=2)
    assert after_s <= before_s * (1 + 1e-12)


@pytest.mark.parametrize("code", [plain.ATTENTION_PREFILL, plain.ATTENTION_DECODE, plain.LATENT_DECODE])
@LAWS
@given(st.data())
def test_a_cache_of_half_the_bytes_is_never_slower(code, data):
    before_s, after_s = changed_s(code, data.draw(rows_of(code)), kv_byte=0.5)
    assert after_s <= before_s * (1 + 1e-12)


GROWING = [
    pytest.param(plain.STREAM, "byte", {}, id="stream"),
    pytest.param(plain.GEMM, "rows", {}, id="gemm"),
    pytest.param(plain.GEMM, "width", {}, id="gemm-width"),
    pytest.param(plain.GEMM, "depth", {}, id="gemm-depth"),
    pytest.param(plain.ATTENTION_PREFILL, "tok", {"window_tok": 0, "kv_heads": 1}, id="prefill"),
    pytest.param(plain.ATTENTION_PREFILL, "past_tok", {"window_tok": 0}, id="prefill-past"),
    pytest.param(plain.ATTENTION_DECODE, "kv_tok", {}, id="decode"),
    pytest.param(plain.ATTENTION_DECODE, "batch", {}, id="decode-batch"),
    pytest.param(plain.LATENT_PREFILL, "past_tok", {}, id="latent-prefill-past"),
    pytest.param(plain.LATENT_DECODE, "kv_tok", {}, id="latent-decode"),
    pytest.param(plain.COLLECTIVES, "byte", {}, id="collectives"),
    pytest.param(plain.EXPERTS, "tok", {"skew": -1}, id="experts-even"),
    pytest.param(plain.EXPERTS, "hidden", {}, id="experts-hidden"),
]


@pytest.mark.parametrize(("code", "size", "fixed"), GROWING)
@LAWS
@given(st.data(), st.floats(1, 10))
def test_more_work_is_never_faster(code, size, fixed, data, factor):
    sizes, parameters = data.draw(rows_of(code))
    for name, value in fixed.items():
        sizes[places(code, name)[0]] = value
    before_s, after_s = changed_s(code, (sizes, parameters), **{size: factor})
    assert after_s >= before_s * (1 - 1e-12)


@LAWS
@given(rows_of(plain.EXPERTS), st.integers(1, 4000), st.integers(1, 4000))
def test_more_whole_tokens_dealt_out_evenly_are_never_faster(row, tok, more):
    sizes, parameters = row
    few, many = ([float(n), *sizes[1:]] for n in (tok, tok + more))
    for made in (few, many):
        made[places(plain.EXPERTS, "skew")[0]] = 0
    few_s, many_s = both_s(kernel_load("compiled"), plain.EXPERTS, [(few, parameters), (many, parameters)])[:, 0]
    assert many_s >= few_s * (1 - 1e-12)


@LAWS
@given(rows_of(plain.LATENT_PREFILL), st.integers(1, 100), st.integers(1, 100))
def test_more_whole_tiles_of_latent_prefill_are_never_faster(row, tiles, more):
    sizes, parameters = row
    few, many = ([128.0 * n, *sizes[1:]] for n in (tiles, tiles + more))
    few_s, many_s = both_s(kernel_load("compiled"), plain.LATENT_PREFILL, [(few, parameters), (many, parameters)])[:, 0]
    assert many_s >= few_s * (1 - 1e-12)


@LAWS
@given(rows_of(plain.LATENT_DECODE), st.integers(1, 500), st.integers(1, 500), st.floats(1, 2))
def test_more_sequences_of_latent_decode_are_never_faster_where_a_pair_of_tiles_gains(row, batch, more, pair_wave):
    sizes, parameters = row
    names = [parameter.name for parameter in BY_CODE[plain.LATENT_DECODE].parameters]
    parameters = [pair_wave if name == "pair_wave" else value for name, value in zip(names, parameters, strict=True)]
    few, many = ([float(n), *sizes[1:]] for n in (batch, batch + more))
    few_s, many_s = both_s(kernel_load("compiled"), plain.LATENT_DECODE, [(few, parameters), (many, parameters)])[:, 0]
    assert many_s >= few_s * (1 - 1e-12)


@pytest.mark.parametrize("code", CODES)
@LAWS
@given(st.data())
def test_a_family_takes_no_less_than_its_larger_part_where_nothing_hides_it(code, data):
    whole_s, compute_s, read_s = both_s(kernel_load("compiled"), code, [data.draw(rows_of(code))])[0]
    assert 0 <= compute_s < np.inf
    assert 0 <= read_s < np.inf
    if code in {plain.STREAM, plain.GEMM, plain.LATENT_PREFILL, plain.LATENT_DECODE}:
        assert whole_s >= max(compute_s, read_s) * (1 - 1e-12)
    if code in {plain.ATTENTION_PREFILL, plain.ATTENTION_DECODE}:
        assert whole_s >= (compute_s + read_s) * (1 - 1e-12)


# --- steps by mental arithmetic -------------------------------------------------------------------------------------
BYTE_S = 1e12
STREAM_SHAPE = padded([0.0, BYTE_S])  # the first size is put in per token
STREAM_PARAMETERS = [1e-6, 1.0, 0.5, *[1.0] * 13]  # launch, unused, half of the bandwidth


def linear(kernel, tok, *, count=1.0, tok_ratio=1e6, most_tok=np.inf, code=plain.STREAM, width=WIDEST, values=WIDEST):
    out = np.empty((len(tok), 3))
    kernel.linear_times_s(
        np.array([code], dtype=np.int32),
        *(np.array([value], dtype=float) for value in (count, tok_ratio, most_tok)),
        np.array([STREAM_SHAPE[:width]]),
        np.array([STREAM_PARAMETERS[:values]]),
        np.array(tok, dtype=float),
        out,
    )
    return out


def test_a_step_without_tokens_takes_nothing(kernel):
    assert linear(kernel, [0, -1]).tolist() == [[0, 0, 0], [0, 0, 0]]


def test_an_operator_grows_with_the_tokens_and_launches_each_time(kernel):
    assert_allclose(linear(kernel, [1, 2, 2.5], count=10)[:, 0], [30e-6, 50e-6, 60e-6])
    assert_allclose(linear(kernel, [2], count=10)[0], [50e-6, 0, 40e-6])


def test_tokens_beyond_the_most_cost_nothing(kernel):
    assert_allclose(linear(kernel, [1, 2, 3, 900], most_tok=2)[:, 0], [3e-6, 5e-6, 5e-6, 5e-6])


def test_operators_of_a_step_add_up(kernel):
    out = np.empty((1, 3))
    kernel.linear_times_s(
        np.zeros(3, dtype=np.int32),
        *(np.array(column, dtype=float) for column in ([1, 2, 4], [1e6, 1e6, 1e6], [np.inf] * 3)),
        np.array([STREAM_SHAPE] * 3),
        np.array([STREAM_PARAMETERS] * 3),
        np.array([1.0]),
        out,
    )
    assert_allclose(out, [[7 * 3e-6, 0, 7 * 2e-6]])


STEP = {
    "linear_s": np.array([0, 1.5, 3, 3, 3]),
    "decode_s": np.array([0, 10, 20.0]),
    "context_s_per_tok": np.array([0, 1, 2.0]),
    "window_s_per_tok": np.array([0, 100, 100.0]),
    "prefill_s_per_tok2": 1000.0,
    "window_s_per_tok2": 10_000.0,
    "prefill_s": 7.0,
    "fixed_s": 0.25,
    "window_tok": 5.0,
}


def step(kernel, tok=0.0, seqs=0.0, context_tok=0.0, work_tok2=0.0, **changed):
    out_s = np.empty(1)
    kernel.step_times_s(
        *(STEP | changed).values(), *(np.array([value], dtype=float) for value in (tok, seqs, context_tok, work_tok2)),
        out_s,
    )  # fmt: skip
    return out_s[0]


@pytest.mark.parametrize(
    ("row", "expected_s"),
    [
        pytest.param({}, 0.25, id="an empty step waits for what is fixed"),
        pytest.param({"tok": 1}, 0.25 + 1.5, id="tokens only"),
        pytest.param({"tok": 1.5}, 0.25 + 2.25, id="between whole tokens"),
        pytest.param({"tok": 4}, 0.25 + 3, id="the most tokens"),
        pytest.param({"tok": 1, "seqs": 1}, 0.25 + 1.5 + 10, id="a sequence without context"),
        pytest.param({"tok": 1, "seqs": 1, "context_tok": 3}, 11.75 + 3 * 1 + 3 * 100, id="a context in the window"),
        pytest.param({"tok": 1, "seqs": 1, "context_tok": 9}, 11.75 + 9 * 1 + 5 * 100, id="a context beyond it"),
        pytest.param(
            {"tok": 2, "seqs": 1.5, "context_tok": 100},
            0.25 + 3 + 15 + 100 * 1.5 + 1.5 * 5 * 100,
            id="between whole sequences",
        ),
        pytest.param({"tok": 2, "work_tok2": 3}, 3.25 + 7 + 3 * 1000 + 3 * 10_000, id="a short prompt"),
        pytest.param({"tok": 2, "work_tok2": 30}, 3.25 + 7 + 30 * 1000 + 2 * 5 * 10_000, id="a prompt beyond it"),
        pytest.param(
            {"tok": 2, "seqs": 1, "work_tok2": 30}, 13.25 + 7 + 30 * 1000 + 5 * 10_000, id="beside a sequence"
        ),
    ],
)
def test_a_step_by_mental_arithmetic(kernel, row, expected_s):
    assert step(kernel, **row) == pytest.approx(expected_s)


# --- what is refused --------------------------------------------------------------------------------------------------
def family_call(kernel, code=1, rows=1, sizes=11, values=10, parameter_rows=1, out_rows=1, out_columns=3):
    kernel.family_times_s(
        code, np.ones((rows, sizes)), np.ones((parameter_rows, values)), np.empty((out_rows, out_columns))
    )


@pytest.mark.parametrize(
    "wrong", [{"rows": 2}, {"parameter_rows": 2}, {"out_rows": 2}, {"out_columns": 2}, {"rows": 0}], ids=str
)
def test_buffers_of_a_family_have_one_length(kernel, wrong):
    with pytest.raises(ValueError, match="buffers must have one length"):
        family_call(kernel, **wrong)


@pytest.mark.parametrize("code", [-1, 8])
def test_a_family_that_does_not_exist_is_refused(kernel, code):
    with pytest.raises(ValueError, match=f"no family has the code {code}"):
        family_call(kernel, code=code)
    with pytest.raises(ValueError, match=f"no family has the code {code}"):
        linear(kernel, [1], code=code)


@pytest.mark.parametrize("code", CODES)
def test_rows_too_narrow_for_their_family_are_refused(kernel, code):
    sizes = 2 if code == plain.STREAM else len(BY_CODE[code].shape)
    values = 3 if code == plain.STREAM else len(BY_CODE[code].parameters)
    family_call(kernel, code=code, sizes=sizes, values=values)
    family_call(kernel, code=code, sizes=WIDEST, values=WIDEST)
    for wrong in ({"sizes": sizes - 1, "values": values}, {"sizes": sizes, "values": values - 1}):
        with pytest.raises(ValueError, match=f"family {code} has {sizes} sizes and {values} parameters"):
            family_call(kernel, code=code, **wrong)


def test_rows_of_a_step_are_neither_too_narrow_nor_too_wide(kernel):
    with pytest.raises(ValueError, match="family 0 has 2 sizes and 3 parameters"):
        linear(kernel, [1], width=1)
    with pytest.raises(ValueError, match="family 0 has 2 sizes and 3 parameters"):
        linear(kernel, [1], values=2)
    with pytest.raises(ValueError, match="a shape has at most 16 sizes"):
        kernel.linear_times_s(
            np.zeros(1, dtype=np.int32), *[np.ones(1)] * 3, np.ones((1, 17)), np.ones((1, 3)), np.ones(1),
            np.empty((1, 3)),
        )  # fmt: skip


@pytest.mark.parametrize("at", range(8))
def test_buffers_of_a_step_have_one_length(kernel, at):
    buffers = [
        np.zeros(1, dtype=np.int32), *[np.ones(1)] * 3, np.ones((1, 16)), np.ones((1, 16)), np.ones(1),
        np.empty((1, 3)),
    ]  # fmt: skip
    buffers[at] = np.concatenate([buffers[at]] * 2)
    with pytest.raises(ValueError, match="buffers must have one length"):
        kernel.linear_times_s(*buffers)


@pytest.mark.parametrize("tok", [-1.0, 4.5, np.nan])
def test_a_step_holds_no_more_tokens_than_its_table(kernel, tok):
    with pytest.raises(ValueError, match="a step holds 0 to 4 tokens"):
        step(kernel, tok=tok)


@pytest.mark.parametrize(("tok", "seqs", "most"), [(1, 1.5, "1"), (4, 2.5, "2"), (4, -1, "2"), (4, np.nan, "2")])
def test_no_more_sequences_decode_than_there_are_tokens_and_places(kernel, tok, seqs, most):
    with pytest.raises(ValueError, match=f"of {tok} tokens, 0 to {most} can decode"):
        step(kernel, tok=tok, seqs=seqs)


@pytest.mark.parametrize("name", ["decode_s", "context_s_per_tok", "window_s_per_tok"])
def test_tables_of_a_step_have_one_length(kernel, name):
    with pytest.raises(ValueError, match="one length"):
        step(kernel, **{name: np.zeros(4)})


def test_columns_of_steps_have_one_length(kernel):
    one, two = np.zeros(1), np.zeros(2)
    for columns in ((two, one, one, one, one), (one, one, one, two, one), (one, one, one, one, two)):
        with pytest.raises(ValueError, match="one length"):
            kernel.step_times_s(*STEP.values(), *columns)
