"""How far an answer moves when one uncertain input moves: the drivers, and the band they add up to.

Each input goes to its P10 and to its P90 while the others stay; effects are taken as independent and lognormal, so
their squares add up in the logarithm. Inputs are the chip's figures that are only known as a range, the fit of each
part of a step, and what an engine adds.
"""

import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import fields, replace

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, RANGES, Efficiency
from accelerator.operators import DeploymentConfig
from accelerator.roofline import spreads
from accelerator.units import Z90, Band

Vary = Callable[[int, Efficiency], tuple[ChipSpec, Efficiency]]
Driver = tuple[str, float, float]

PARTS = ("gemm", "attention", "experts", "collectives")
FIGURES = ("memory_byte", "memory_byte_s", "scale_up_byte_s", "scale_out_byte_s")


def drivers_list(
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig,
    efficiency: Efficiency,
    ratio: Callable[[ChipSpec, Efficiency], float],
    *,
    least: float = 2e-3,
) -> tuple[Driver, ...]:
    """Return (input, ratio at its low, ratio at its high), largest effect first.

    Parameters
    ----------
    ratio : callable
        Answer with a varied chip and efficiency over the answer as it stands. [-]
    least : float
        Effects below this are left out: beyond the precision of what computes the answer. [-]
    """
    rows = []
    for name, vary in uncertain_inputs(chip, model, config, efficiency):
        low, high = (ratio(*vary(side, efficiency)) for side in (0, 1))
        if abs(low - 1) > least or abs(high - 1) > least:
            rows.append((name, low, high))
    return tuple(sorted(rows, key=lambda row: -max(_log_size(row[1]), _log_size(row[2]))))


def uncertain_inputs(
    chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, efficiency: Efficiency = DEFAULT
) -> Iterator[tuple[str, Vary]]:
    """Yield each uncertain input with a function that puts it at its low (0) or its high (1)."""
    if not all(figure.exact for figure in chip.peak_flop_s.values()):  # the peaks of one chip are wrong together

        def vary_peak(side: int, efficiency: Efficiency) -> tuple[ChipSpec, Efficiency]:
            other = chip
            for precision, figure in chip.peak_flop_s.items():
                other = other.varied(f"peak_flop_s[{precision}]", (figure.low, figure.high)[side])
            return other, efficiency

        yield "peak_flop_s", vary_peak
    for name in FIGURES:
        figure = chip.given.get(name)
        linked = config.chips > 1 if name == "scale_up_byte_s" else config.chips > chip.scale_up_chips
        if figure is None or figure.exact or (name.startswith("scale") and not linked):
            continue

        def vary_figure(side: int, efficiency: Efficiency, name: str = name) -> tuple[ChipSpec, Efficiency]:
            figure = chip.given[name]
            return chip.varied(name, (figure.low, figure.high)[side]), efficiency

        yield name, vary_figure
    if efficiency.engine:

        def vary_engine(side: int, efficiency: Efficiency) -> tuple[ChipSpec, Efficiency]:
            engine = efficiency.engine
            if engine is None:
                return chip, efficiency
            return chip, replace(efficiency, engine=engine.slower(math.exp((2 * side - 1) * Z90 * engine.spread)))

        yield "engine", vary_engine
    for part, spread in () if efficiency.engine else spreads(chip, model, config).items():

        def vary_part(
            side: int, efficiency: Efficiency, part: str = part, spread: float = spread
        ) -> tuple[ChipSpec, Efficiency]:
            name = f"{part}_time_ratio"
            ratio = getattr(efficiency, name) * math.exp((2 * side - 1) * Z90 * spread)
            return chip, replace(efficiency, **{name: ratio})

        yield f"{part}_time_ratio", vary_part
    for name in _VARIED:
        if efficiency.engine and name in _FITTED:
            continue

        def vary_ratio(side: int, efficiency: Efficiency, name: str = name) -> tuple[ChipSpec, Efficiency]:
            return chip, replace(efficiency, **{name: RANGES[name][2 * side]})  # type: ignore[arg-type]

        if chip.homegrown or name != "engine_ratio":
            yield name, vary_ratio


_FITTED = frozenset({"engine_ratio", "host_step_s", "graph_launch_s"})
"""Inputs that a fitted engine knows."""

_VARIED = tuple(
    field.name
    for field in fields(Efficiency)
    if field.name in RANGES and RANGES[field.name][0] < RANGES[field.name][2] and not field.name.startswith("activity")
)


def _log_size(ratio: float) -> float:
    """Size of an effect; a side that serves nothing counts as a twentieth, so that P10 stays above zero. [-]"""
    return abs(math.log(max(ratio, 0.05)))


def band_of(value: float, drivers: Sequence[Driver]) -> Band:
    """Return the band of independent lognormal effects: squares of the logarithms of losses, and of gains, add up."""
    down = math.sqrt(sum(_log_size(min(low, high, 1.0)) ** 2 for _, low, high in drivers))
    up = math.sqrt(sum(_log_size(max(low, high, 1.0)) ** 2 for _, low, high in drivers))
    return Band(value * math.exp(-down), value, value * math.exp(up))
