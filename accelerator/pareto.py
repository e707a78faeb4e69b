"""The front of interactivity against throughput: how fast one user is served, and how much a chip makes.

Points are steady states (``steady.sweep``) of every config that fits a host, at rising batches: fast answers to few, or
slower ones to many. No queue is in them, so they are what a service is torn between, not a promise.
"""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np

from accelerator.architectures import ModelSpec
from accelerator.candidates import configs_that_fit
from accelerator.chips import ChipSpec
from accelerator.efficiency import Efficiency
from accelerator.errors import ConfigError
from accelerator.goodput import question_of
from accelerator.pooling import Floats
from accelerator.rating import mix_refusal, precisions_usable
from accelerator.requests import TokenMix, Workload
from accelerator.steady import Slo, prompts_request_s, sweep
from accelerator.trials import limits_widest


@dataclass(frozen=True)
class FrontPoint:
    """One point of the front.

    Parameters
    ----------
    user_tok_s : float
        Interactivity: output tokens per second of one user. [tok/s]
    chip_tok_s : float
        Throughput: output tokens per second and chip. [tok/s]
    batch : float
        Sequences that decode. [-]
    label : str
        Config.
    """

    user_tok_s: float
    chip_tok_s: float
    batch: float
    label: str

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)


def pareto_front(
    chip: ChipSpec,
    model: ModelSpec,
    mix: TokenMix,
    *,
    host_chips: int,
    slo: Slo | None = None,
    efficiency: Efficiency | None = None,
    precisions: Sequence[str] | None = None,
    workload: Workload | None = None,
) -> tuple[FrontPoint, ...]:
    """Return the points that no other beats in both, the fastest for one user first; none if nothing fits.

    Parameters
    ----------
    chip, model, mix, host_chips, efficiency, precisions, workload
        See :func:`accelerator.goodput.goodput_search`.
    slo : Slo, optional
        Configs that cannot read a long prompt within its TTFT, even alone, are left out; its TPOT is not looked at.
    """
    if mix_refusal(model, mix):
        return ()
    question = question_of(
        chip, model, mix, slo or Slo(float("inf"), float("inf")), efficiency=efficiency, workload=workload
    )
    labels: list[str] = []
    rows: list[list[float]] = []
    for precision in precisions_usable(chip, model, precisions)[0]:
        for config in configs_that_fit(question, precision, host_chips)[0]:
            try:
                wide = limits_widest(config)
                table = question.table(wide)
                swept = sweep(table, question.fit(config), question.drawn_mix, least=1.0)
            except ConfigError:
                continue
            if not len(swept.batch) or not prompts_request_s(table, question.drawn_mix, question.slo, waits=False):
                continue
            tok_s = swept.request_s * mix.output_tok / config.chips
            rows += np.column_stack([1 / swept.tpot_s, tok_s, swept.batch]).tolist()
            labels += [config.label] * len(swept.batch)
    points = np.array(rows).reshape(-1, 3)
    return tuple(
        FrontPoint(user_tok_s=float(points[at, 0]), chip_tok_s=float(points[at, 1]), batch=float(points[at, 2]),
                   label=labels[at])
        for at in front(points[:, 0], points[:, 1])
    )  # fmt: skip


def front(across: Floats, along: Floats) -> list[int]:
    """Return the numbers of the points that no other beats in both coordinates, largest first coordinate first.

    Parameters
    ----------
    across, along : float64[n]
        Both better when larger.

    Examples
    --------
    >>> front(np.array([1.0, 3.0, 2.0, 2.0]), np.array([9.0, 1.0, 5.0, 4.0]))
    [1, 2, 0]
    """
    found, best = [], -np.inf
    for at in np.lexsort((-along, -across)):
        if along[at] > best:
            found.append(int(at))
            best = along[at]
    return found
