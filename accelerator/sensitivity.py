"""How far a rating moves when one uncertain input moves: the drivers, and the band they add up to.

Each input goes to its P10 and to its P90 while the others stay; effects are taken as independent and lognormal, so
their squares add up in the logarithm.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import RANGES, Efficiency
from accelerator.errors import ConfigError
from accelerator.operators import DeploymentConfig
from accelerator.requests import TokenMix
from accelerator.steady import OperatingPoint, Slo, steady_state
from accelerator.units import Band


def drivers_list(
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig,
    mix: TokenMix,
    slo: Slo,
    efficiency: Efficiency,
    point: OperatingPoint,
) -> tuple[tuple[str, float, float], ...]:
    """Return (input, rate at its low / rate, rate at its high / rate), largest effect first."""

    def ratio(chip: ChipSpec, efficiency: Efficiency) -> float:
        try:
            other, _ = steady_state(chip, model, config, mix, slo, efficiency, near=point.batch, precision=1e-3)
        except ConfigError:
            return 0.0
        return other.request_s / point.request_s if other else 0.0

    rows = []
    for name, vary in _uncertain_inputs(chip, config):
        low, high = (ratio(*vary(side, efficiency)) for side in (0, 1))
        if abs(low - 1) > 2e-3 or abs(high - 1) > 2e-3:  # beyond the precision of the search
            rows.append((name, low, high))
    return tuple(sorted(rows, key=lambda row: -max(_log_size(row[1]), _log_size(row[2]))))


Vary = Callable[[int, Efficiency], tuple[ChipSpec, Efficiency]]


def _uncertain_inputs(chip: ChipSpec, config: DeploymentConfig) -> Iterator[tuple[str, Vary]]:
    """Yield each uncertain input with a function that puts it at its low (0) or its high (1)."""
    peaks = [p for p in dict.fromkeys((config.weight_precision, "bf16")) if not chip.peak_flop_s[p].exact]
    if peaks:  # the peaks of one chip are wrong together

        def vary_peak(side: int, efficiency: Efficiency) -> tuple[ChipSpec, Efficiency]:
            at = {p: replace(f, value=(f.low, f.high)[side]) for p, f in chip.peak_flop_s.items()}
            return replace(chip, peak_flop_s=at), efficiency

        yield "peak_flop_s", vary_peak
    for name in ("memory_byte", "memory_byte_s", "scale_up_byte_s"):
        figure = getattr(chip, name)
        if not figure.exact and (name != "scale_up_byte_s" or config.chips > 1):

            def vary_figure(side: int, efficiency: Efficiency, name: str = name) -> tuple[ChipSpec, Efficiency]:
                figure = getattr(chip, name)
                return replace(chip, **{name: replace(figure, value=(figure.low, figure.high)[side])}), efficiency

            yield name, vary_figure
    for name in _VARIED:

        def vary_ratio(side: int, efficiency: Efficiency, name: str = name) -> tuple[ChipSpec, Efficiency]:
            return chip, replace(efficiency, **{name: RANGES[name][2 * side]})

        if (config.chips > 1 or not name.startswith("link")) and (chip.homegrown or name != "engine_ratio"):
            yield name, vary_ratio


_VARIED = tuple(
    field.name
    for field in fields(Efficiency)
    if RANGES[field.name][0] < RANGES[field.name][2] and not field.name.startswith("activity")
)


def _log_size(ratio: float) -> float:
    """Size of an effect; a side that serves nothing counts as a twentieth, so that P10 stays above zero. [-]"""
    return abs(math.log(max(ratio, 0.05)))


def band_of(value: float, drivers: Sequence[tuple[str, float, float]]) -> Band:
    """Return the band of independent lognormal effects: squares of the logarithms of losses, and of gains, add up."""
    down = math.sqrt(sum(_log_size(min(low, high, 1.0)) ** 2 for _, low, high in drivers))
    up = math.sqrt(sum(_log_size(max(low, high, 1.0)) ** 2 for _, low, high in drivers))
    return Band(value * math.exp(-down), value, value * math.exp(up))
