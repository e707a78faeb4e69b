"""Power of a serving point as a share of TDP: prompts draw what arithmetic draws, decodes what reading does."""

from accelerator.points import Deployment
from accelerator.serving_calibration import POWER_METRICS, SHEET
from accelerator.steps import step_table_build


def power_ratio(deployment: Deployment) -> tuple[float, str]:
    """Return mean or peak power over TDP of a static batch, and what it stands on. [-]

    The peak is that of the prompt, the mean weighs prompt and decodes by their times.

    Raises
    ------
    AcceleratorError
        If the chip's figures do not say (MissingFigureError).
    """
    d = deployment
    table = step_table_build(d.chip, d.model, d.layout.config)
    tdp_w = d.chip.tdp_w.value
    users = max(1.0, d.users)
    tok = min(users * d.input_tok, float(table.max_batched_tok))
    context_tok = users * (d.input_tok + d.output_tok / 2)
    seqs = min(users, float(table.max_seqs))
    prompt_s, step_s = table.step_s(tok, 0.0, 0.0, users * d.input_tok**2 / 2), table.step_s(seqs, seqs, context_tok)
    prompt_j = table.energy_j(tok, 0.0, 0.0, users * d.input_tok**2 / 2)
    step_j = table.energy_j(seqs, seqs, context_tok)
    rounds = max(1.0, d.output_tok - 1)
    prompts = users * d.input_tok / tok
    mean_w = (prompts * prompt_j + rounds * step_j) / (prompts * prompt_s + rounds * step_s) / d.layout.config.chips
    peak_w = max(prompt_j / prompt_s, step_j / step_s) / d.layout.config.chips
    watts = peak_w if d.point.metric == POWER_METRICS[1] else mean_w
    capped = d.point.power_cap_ratio if 0 < d.point.power_cap_ratio < 1 else 1.0
    return min(watts / tdp_w, capped), SHEET
