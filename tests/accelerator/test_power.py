import pytest

from accelerator.architectures import model_get
from accelerator.chips import chip_get, chips_load
from accelerator.efficiency import DEFAULT
from accelerator.operators import DeploymentConfig, attention_of, operators_list
from accelerator.power import replica_w
from accelerator.steps import step_table_build


def power_w(chip, batch, context_tok, prefill_tok=0.0, tp=1, precision="bf16"):
    config, model, chip = DeploymentConfig(precision, tp=tp), model_get("llama-3.1-8b"), chip_get(chip)
    tok, seen, work = batch + prefill_tok, batch * context_tok, prefill_tok**2 / 2
    return replica_w(
        chip,
        operators_list(model, config),
        attention_of(model, config),
        config,
        DEFAULT,
        step_s=step_table_build(chip, model, config).step_s(tok, seen, work),
        step_tok=tok,
        context_tok=seen,
        work_tok2=work,
    )


def test_prefill_runs_near_tdp_and_decode_well_below():
    decode, prefill = power_w("a100-80", 8, 1000), power_w("a100-80", 0, 0, 8000)
    assert 0.85 * 400 < prefill < 400
    assert 55 < decode < 0.7 * 400


def test_a_step_that_only_reads_draws_its_share_above_idle():
    """One sequence on an A100: reading takes 9.9 of about 13 ms, the rest is host work and launches."""
    reading_s = 2 * 7.505e9 / (0.75 * 2.039e12)
    step_s = reading_s + 1.5e-3 + 3e-6 * (7 * 32 + 2)
    assert power_w("a100-80", 1, 0) == pytest.approx(55 + 345 * 0.55 * reading_s / step_s, rel=0.02)


@pytest.mark.parametrize("slug", chips_load())
def test_power_lies_between_idle_and_tdp_of_all_chips(slug):
    chip = chip_get(slug)
    for tp in (1, 4):
        drawn = power_w(slug, 16, 2000, 500, tp=tp)
        assert tp * chip.idle_w.value < drawn <= tp * chip.tdp_w.value
