import numpy as np
import pytest
from numpy.testing import assert_allclose

from accelerator import kernels
from accelerator.architectures import model_get
from accelerator.chips import chip_get, chips_load
from accelerator.efficiency import DEFAULT
from accelerator.errors import ConfigError, PrecisionError
from accelerator.estimate import step_rows
from accelerator.power import Activity, idle_w
from accelerator.roofline import program_make
from accelerator.steps import DeploymentConfig, StepTable, step_table_build

TABLE = StepTable(
    linear_s=np.array([0.0, 1.0, 2.0, 4.0]),
    decode_s=np.array([0.0, 0.1, 0.3]),
    context_s_per_tok=np.array([0.5, 0.5, 0.4]),
    window_s_per_tok=np.array([0.2, 0.2, 0.2]),
    prefill_s_per_tok2=0.25,
    window_s_per_tok2=0.125,
    prefill_s=0.7,
    fixed_s=3.0,
    window_tok=4.0,
    activity=Activity(np.array([0.0, 1.0, 1.0, 2.0]), 0.5, 1.0, chips=2, idle_w=50.0, tdp_w=250.0),
)

CHIPS = {"h100-sxm": "fp8", "b200": "fp8", "ascend-910b3": "int8", "thead-ppu-810e": "int8"}
DENSE, SPARSE = ("llama-3.1-8b", {}), ("qwen3-30b-a3b", {})
LATENT, PICKED = ("deepseek-v3", {"dp": 16, "ep": 16}), ("deepseek-v3.2", {"tp": 8})
WINDOWED, LINEAR = ("gpt-oss-120b", {"tp": 2}), ("qwen3-next-80b-a3b", {"tp": 2})
MODELS = [DENSE, ("qwen3-32b", {"tp": 2}), SPARSE, LATENT, PICKED, WINDOWED, ("mistral-7b", {}), LINEAR]
BATCHES = (1, 2, 5, 16, 50, 128, 200, 256)


def build(chip, model, precision, quantile=0.5, **sizes):
    return step_table_build(chip_get(chip), model_get(model), DeploymentConfig(precision, **sizes), quantile=quantile)


def rows_s(chip, model, precision, sizes, *step, **prompt):
    rows = step_rows(chip_get(chip), model_get(model), DeploymentConfig(precision, **sizes), *step, **prompt)
    return sum(row.time_s for row in rows)


# --- what a table says ------------------------------------------------------------------------------------------------
def test_a_step_is_the_sum_of_its_parts():
    assert TABLE.step_s(0) == 3
    assert TABLE.step_s(2) == 3 + 2
    # two sequences see 20 tokens, of which windows of 4 show 8
    assert TABLE.step_s(2, 2, 20) == pytest.approx(3 + 2 + 0.3 + 0.4 * 20 + 0.2 * 8)
    # a prompt token with 16 pairs, of which its window shows 4
    assert TABLE.step_s(3, 2, 0, 16) == pytest.approx(3 + 4 + 0.3 + 0.7 + 0.25 * 16 + 0.125 * 4)


def test_a_table_is_read_by_straight_lines_between_whole_numbers():
    assert TABLE.step_s(2.5, 1.5, 3) == pytest.approx(3 + 3 + 0.2 + 0.45 * 3 + 0.2 * 3)


def test_attention_over_a_prompt_does_not_depend_on_its_chunks():
    assert TABLE.prompt_s(10, 50) == 0.25 * 50 + 0.125 * 40
    assert TABLE.prompt_s(10, 50) == pytest.approx(2 * TABLE.prompt_s(5, 25))


def test_a_table_knows_its_ends():
    assert (TABLE.max_batched_tok, TABLE.max_seqs) == (3, 2)
    assert TABLE.step_s(3, 2, 1) > 0


@pytest.mark.parametrize(
    ("step", "message"),
    [
        ((3.5,), "a step holds 0 to 3 tokens, not 3.5"),
        ((-1,), "a step holds 0 to 3 tokens"),
        ((float("nan"),), "a step holds 0 to 3 tokens"),
        ((1, 2), "of 1 tokens, 0 to 1 can decode, not 2"),
        ((3, 3), "of 3 tokens, 0 to 2 can decode, not 3"),
        ((3, -1), "0 to 2 can decode, not -1"),
        ((3, float("nan")), "0 to 2 can decode"),
    ],
)
def test_steps_beyond_the_table_are_refused(kernel, monkeypatch, step, message):
    monkeypatch.setattr(kernels, "roofline", kernel)
    with pytest.raises(ConfigError, match=message):
        TABLE.step_s(*step)


def test_many_steps_at_once_are_the_single_steps(kernel, monkeypatch):
    monkeypatch.setattr(kernels, "roofline", kernel)
    tok, seqs = np.array([0, 1.5, 3, 3]), np.array([0, 1.5, 2, 0.5])
    context, work = np.array([0, 7.0, 9, 2]), np.array([0, 0, 5.0, 1])
    assert_allclose(
        TABLE.step_times_s(tok, seqs, context, work),
        [TABLE.step_s(*step) for step in zip(tok, seqs, context, work, strict=True)],
        rtol=1e-15,
    )
    assert_allclose(TABLE.step_times_s(3, 1, context, 2.0), [TABLE.step_s(3, 1, c, 2) for c in context], rtol=1e-15)


def test_energy_is_idle_power_all_the_time_and_the_rest_while_busy():
    """Busy: one second of the linear part and half of the 0.3 + 8 + 1.6 of decode attention."""
    busy_s = 1 + 0.5 * (0.3 + 8 + 1.6)
    assert TABLE.energy_j(2, 2, 20) == pytest.approx(2 * (50 * TABLE.step_s(2, 2, 20) + 200 * busy_s))


# --- the table beside the rows ----------------------------------------------------------------------------------------
def worst(model, sizes, steps):
    """Largest share by which a table is off the rows over chips and steps (batch, context, prompt)."""
    found = 0.0, ()
    for chip, precision in CHIPS.items():
        table = build(chip, model, precision, **sizes)
        for batch, context_tok, prompt_tok in steps:
            exact_s = rows_s(chip, model, precision, sizes, batch, context_tok, prefill_tok=prompt_tok)
            table_s = table.step_s(batch + prompt_tok, batch, batch * context_tok, prompt_tok**2 / 2)
            found = max(found, (abs(table_s / exact_s - 1), (chip, batch, context_tok, prompt_tok)))
    return found


@pytest.mark.parametrize(("model", "sizes"), MODELS)
def test_decode_steps_of_the_table_are_those_of_the_rows(model, sizes):
    """Decode attention flattens as a long context fills the cores; the table draws a straight line through it.

    Latent attention at a batch of a few bends most: short contexts are one walk that hardly depends on their length.
    """
    steps = [(batch, context_tok, 0) for batch in BATCHES for context_tok in (256, 512, 1500, 4096, 8192)]
    share, step = worst(model, sizes, steps)
    assert share < (0.10 if (model, sizes) == LATENT else 0.03), step


@pytest.mark.parametrize(("model", "sizes"), MODELS)
def test_at_twice_the_length_of_its_line_the_table_is_off_by_little_for_full_batches(model, sizes):
    """The line ends at 8192 tokens. Sixteen groups of four sequences of latent attention still walk alone."""
    share, step = worst(model, sizes, [(batch, 16_384, 0) for batch in (64, 128, 256)])
    assert share < (0.20 if (model, sizes) == LATENT else 0.035), step


@pytest.mark.parametrize(("model", "sizes"), MODELS)
def test_steps_with_a_chunk_of_prompt_are_those_of_the_rows(model, sizes):
    steps = [
        (batch, context_tok, prompt_tok)
        for batch, context_tok in ((0, 0), (1, 1024), (64, 2048))
        for prompt_tok in (512, 1000, 2048, 4096)
    ]
    share, step = worst(model, sizes, steps)
    assert share < 0.06, step


@pytest.mark.parametrize("tok", [1, 7, 16, 17, 64, 128, 129, 192, 193, 1024, 1025, 8192])
def test_the_linear_part_is_exact_on_both_sides_of_a_tile(tok):
    chip, model, config = chip_get("h100-sxm"), model_get("qwen3-30b-a3b"), DeploymentConfig("fp8")
    exact_s = program_make(chip, model, config, DEFAULT).times(tok)[:, 0].sum()
    assert step_table_build(chip, model, config).linear_s[tok] == pytest.approx(exact_s, rel=1e-12)


@pytest.mark.parametrize("most_tok", [1, 63, 100, 130, 1000, 2049])
def test_the_most_tokens_of_a_step_may_be_any_number(most_tok):
    """Nothing below the end depends on where a table ends, except within the last tile."""
    short, long = (build("h100-sxm", "llama-3.1-8b", "fp8", max_batched_tok=n) for n in (most_tok, 8192))
    assert len(short.linear_s) == most_tok + 1
    assert_allclose(short.linear_s, long.linear_s[: most_tok + 1], rtol=0.02)
    with pytest.raises(ConfigError, match=f"0 to {most_tok} tokens"):
        short.step_s(most_tok + 1)


def test_both_kernels_build_the_same_table(kernel, monkeypatch):
    monkeypatch.setattr(kernels, "roofline", kernel)
    table = build("h100-sxm", "gpt-oss-120b", "fp8", tp=2, max_batched_tok=150, max_seqs=8)
    monkeypatch.setattr(kernels, "roofline", kernels.kernel_load("python"))
    twin = build("h100-sxm", "gpt-oss-120b", "fp8", tp=2, max_batched_tok=150, max_seqs=8)
    assert_allclose(table.linear_s, twin.linear_s, rtol=1e-12)
    assert_allclose(table.decode_s, twin.decode_s, rtol=1e-9)
    assert_allclose(table.context_s_per_tok, twin.context_s_per_tok, rtol=1e-9)


# --- what tables keep to ----------------------------------------------------------------------------------------------
@pytest.mark.parametrize(("model", "sizes"), MODELS)
def test_steps_only_grow_with_tokens_and_context(model, sizes):
    for chip, precision in CHIPS.items():
        table = build(chip, model, precision, **sizes)
        assert (np.diff(table.linear_s) >= -1e-9 * table.linear_s[1:]).all(), chip
        for part in (table.decode_s, table.context_s_per_tok, table.window_s_per_tok):
            assert part.min() >= 0, chip
        assert min(table.prefill_s_per_tok2, table.window_s_per_tok2, table.prefill_s) >= 0
        assert table.fixed_s > 0


@pytest.mark.parametrize(("model", "sizes"), [DENSE, SPARSE, LATENT, WINDOWED])
def test_tables_rise_with_their_quantile(model, sizes):
    steps = np.array([(1, 1, 500, 0), (64, 64, 64e3, 0), (2048, 0, 0, 2048**2 / 2), (600, 88, 88e3, 512**2 / 2)]).T
    for chip, precision in CHIPS.items():
        times = [
            build(chip, model, precision, quantile, **sizes).step_times_s(*steps)
            for quantile in (0.02, 0.1, 0.3, 0.5, 0.7, 0.9, 0.98)
        ]
        assert (np.diff(times, axis=0) > 0).all(), chip


def test_the_median_table_is_the_one_without_a_quantile():
    plain, median, near = (build("h100-sxm", "qwen3-8b", "fp8", *q) for q in ((), (0.5,), (0.5 + 1e-9,)))
    assert_allclose(plain.linear_s, median.linear_s, rtol=0)
    assert_allclose(plain.linear_s, near.linear_s, rtol=1e-6)


@pytest.mark.parametrize("quantile", [0, 1, -0.1, 1.5, float("nan")])
def test_a_quantile_lies_between_0_and_1(quantile):
    with pytest.raises(ValueError, match="between 0 and 1"):
        build("h100-sxm", "qwen3-8b", "fp8", quantile)


@pytest.mark.parametrize("slug", [slug for slug, chip in chips_load().items() if "tdp_w" in chip.given])
def test_energy_lies_between_idle_power_and_tdp_times_the_time(slug):
    chip = chip_get(slug)
    if not {"memory_byte_s", "scale_up_byte_s"} <= set(chip.given) or "bf16" not in chip.peak_flop_s:
        return  # no step can be timed
    for tp in (1, 4):
        table = build(slug, "llama-3.1-8b", "bf16", tp=tp, max_batched_tok=2048)
        for step in ((1, 1, 500, 0), (64, 64, 64e3, 0), (2048, 0, 0, 2048**2 / 2), (600, 88, 88e3, 512**2 / 2)):
            drawn_w = table.energy_j(*step) / table.step_s(*step)
            assert tp * idle_w(chip) < drawn_w <= tp * chip.tdp_w.value * (1 + 1e-12)


def test_one_sequence_waits_for_the_weights_and_a_long_prompt_for_arithmetic():
    chip, model, config = chip_get("h100-sxm"), model_get("llama-3.1-8b"), DeploymentConfig("bf16")
    decode = {row.operator: row.bound_by for row in step_rows(chip, model, config, 1, 100)}
    prefill = {row.operator: row.bound_by for row in step_rows(chip, model, config, 0, prefill_tok=8000)}
    assert decode["mlp up"] == decode["mlp down"] == "memory"
    assert prefill["mlp up"] == prefill["mlp down"] == "compute"
    # 15.0 GB of weights without the input embedding cannot be read faster than at 3.35 TB/s
    floor_s = 2 * 7.505e9 / 3.35e12
    assert floor_s < build("h100-sxm", "llama-3.1-8b", "bf16").step_s(1, 1, 100) < 1.8 * floor_s


def test_what_the_chip_cannot_do_is_refused():
    with pytest.raises(PrecisionError, match="ascend-910c does not compute in fp8; it has bf16, int8"):
        build("ascend-910c", "deepseek-v3", "fp8", tp=8)
    with pytest.raises(ConfigError, match="28 heads do not divide over tp 8"):
        build("h20-96", "qwen2.5-7b", "fp8", tp=8)
