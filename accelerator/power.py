"""Power of chips that serve: idle plus activity, capped by TDP."""

from collections.abc import Sequence

from accelerator.chips import ChipSpec
from accelerator.efficiency import Efficiency, bandwidth_ratio
from accelerator.operators import Attention, DeploymentConfig, Operator
from accelerator.roofline import attention_times_s, operator_times_s


def replica_w(
    chip: ChipSpec,
    ops: Sequence[Operator],
    attention: Attention,
    config: DeploymentConfig,
    efficiency: Efficiency,
    *,
    step_s: float,
    step_tok: float,
    context_tok: float,
    work_tok2: float,
) -> float:
    """Return the mean power of a replica's chips while it repeats one step.

    Each operator is busy computing or busy reading for its time. The share of the step spent computing draws
    ``activity_compute_ratio`` of (TDP - idle), the share spent reading ``activity_memory_ratio``; links and host work
    draw nothing above idle. Never more than TDP.

    Parameters
    ----------
    ops, attention
        Work of the step per chip, from ``operators``.
    step_s, step_tok, context_tok, work_tok2 : float
        Time of the step, its tokens, KV tokens its decodes see, pairs its prefills multiply. [s], [tok], [tok], [tok^2]

    Returns
    -------
    float
        Chips only, without host. [W]
    """
    _, moved_byte, time_s = operator_times_s(chip, ops, config, efficiency, step_tok)
    memory_byte_s = chip.memory_byte_s.value * bandwidth_ratio(efficiency)
    reading = moved_byte / memory_byte_s >= time_s
    context_s_per_tok, prefill_s_per_tok2 = attention_times_s(chip, attention, efficiency)
    reading_s = float(time_s[reading].sum())
    computing_s = float(time_s[~reading].sum()) + prefill_s_per_tok2 * work_tok2
    if attention.byte_per_context_tok / memory_byte_s >= context_s_per_tok:
        reading_s += context_s_per_tok * context_tok
    else:
        computing_s += context_s_per_tok * context_tok
    active = efficiency.activity_compute_ratio * computing_s + efficiency.activity_memory_ratio * reading_s
    tdp_w = chip.tdp_w.value
    idle_w = min(chip.idle_w.value, tdp_w)
    return config.chips * min(tdp_w, idle_w + (tdp_w - idle_w) * active / step_s)
