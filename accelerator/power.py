"""Power of chips that serve: idle plus activity, capped by TDP.

While a chip computes it draws ``activity_compute_ratio`` of (TDP - idle) above idle, while it reads memory
``activity_memory_ratio``, both at once what they add up to, at most TDP. Links and host work draw nothing above idle.
"""

from dataclasses import dataclass

import numpy as np

from accelerator.chips import ChipSpec
from accelerator.efficiency import Efficiency
from accelerator.pooling import Floats
from accelerator.units import Band

IDLE_RATIO = Band(0.10, 0.17, 0.25)
"""Idle power over TDP of a chip whose idle power is not published: the range of those that are. [-]"""


def idle_w(chip: ChipSpec) -> float:
    """Return the idle power of a chip, or the assumed share of its TDP; never above TDP. [W]"""
    known = chip.given.get("idle_w")
    tdp_w = chip.tdp_w.value
    return min(known.value if known else IDLE_RATIO.p50 * tdp_w, tdp_w)


def busy_s(parts: Floats, efficiency: Efficiency) -> Floats:
    """Return the time at full power above idle that draws as much as the parts do.

    Parameters
    ----------
    parts : float64[n, 3]
        Time, part computing, part reading. [s]

    Returns
    -------
    float64[n]
        [s]
    """
    active = efficiency.activity_compute_ratio * parts[:, 1] + efficiency.activity_memory_ratio * parts[:, 2]
    return np.minimum(parts[:, 0], active)


@dataclass(frozen=True, eq=False)
class Activity:
    """How much of full power the parts of a step table draw above idle.

    Parameters
    ----------
    linear_busy_s : float64[max_batched_tok + 1]
        Busy time of the token-dependent part. [s]
    decode_ratio, prefill_ratio : float
        Busy share of decode and of prefill attention. [-]
    chips : int
        Chips of the replica.
    idle_w, tdp_w : float
        Of one chip; NaN if its TDP is not published. [W]
    """

    linear_busy_s: Floats
    decode_ratio: float
    prefill_ratio: float
    chips: int
    idle_w: float
    tdp_w: float

    def energy_j(self, *, step_s: float, linear_busy_s: float, decode_s: float, prefill_s: float) -> float:
        """Return the energy of all chips for one step, given its time and its parts. [J]"""
        busy = linear_busy_s + self.decode_ratio * decode_s + self.prefill_ratio * prefill_s
        return self.chips * (self.idle_w * step_s + (self.tdp_w - self.idle_w) * min(step_s, busy))


def chip_powers_w(chip: ChipSpec) -> tuple[float, float]:
    """Return idle power and TDP of a chip; NaN both if its TDP is not published. [W]"""
    if "tdp_w" not in chip.given:
        return float("nan"), float("nan")
    return idle_w(chip), chip.tdp_w.value
