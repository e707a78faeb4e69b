"""How much of its data sheet a chip delivers: stated priors with bands, not fitted to any measurement yet."""

from collections.abc import Mapping
from dataclasses import dataclass, fields
from types import MappingProxyType

from accelerator.errors import DataFileError
from accelerator.facts import facts_read


@dataclass(frozen=True, slots=True)
class Efficiency:
    """One set of efficiencies; meaning, range and source of each are in data/efficiency.csv.

    Parameters
    ----------
    engine_ratio : float
        Multiplies the shares of compute and of memory bandwidth: what a young engine leaves of them. [-]
    gemm_flop_ratio, attention_flop_ratio : float
        Share of the dense peak reached by matrix products and by prefill attention. [-]
    memory_ratio, link_ratio : float
        Share of memory bandwidth (times engine_ratio) and of scale-up bandwidth reached. [-]
    link_hop_s, operator_s, host_step_s : float
        Latency of one hop of a collective, overhead of one operator, host work of one step. [s]
    gemm_half_tok : float
        Tokens at which a matrix product reaches half of its final rate. [tok]
    memory_use_ratio, weight_scale_ratio : float
        Share of memory an engine may fill; size of quantised weights with scales over without. [-]
    arrival_scv_max : float
        Cap of the squared coefficient of variation of arrivals. [-]
    activity_compute_ratio, activity_memory_ratio : float
        Share of (TDP - idle) drawn while computing and while only reading memory. [-]
    """

    engine_ratio: float
    gemm_flop_ratio: float
    attention_flop_ratio: float
    memory_ratio: float
    link_ratio: float
    link_hop_s: float
    gemm_half_tok: float
    operator_s: float
    host_step_s: float
    memory_use_ratio: float
    weight_scale_ratio: float
    arrival_scv_max: float
    activity_compute_ratio: float
    activity_memory_ratio: float


def _ranges_load() -> Mapping[str, tuple[float, float, float]]:
    ranges = {}
    for line, row in facts_read("efficiency.csv"):
        low, value, high = float(row["low"]), float(row["value"]), float(row["high"])
        if not 0 < low <= value <= high:
            raise DataFileError(f"accelerator/data/efficiency.csv:{line}: {row['name']} lies outside its range")
        ranges[row["name"]] = (low, value, high)
    if set(ranges) != {field.name for field in fields(Efficiency)}:
        raise DataFileError("accelerator/data/efficiency.csv: its names are not the fields of Efficiency")
    return MappingProxyType(ranges)


RANGES: Mapping[str, tuple[float, float, float]] = _ranges_load()
"""``{name: (low, value, high)}``; low and high are read as P10 and P90."""

DEFAULT = Efficiency(**{name: value for name, (_, value, _) in RANGES.items()})


def gemm_ratio(efficiency: Efficiency) -> float:
    """Share of the dense peak that matrix products reach in the engine. [-]"""
    return efficiency.engine_ratio * efficiency.gemm_flop_ratio


def attention_ratio(efficiency: Efficiency) -> float:
    """Share of the BF16 peak that prefill attention reaches in the engine. [-]"""
    return efficiency.engine_ratio * efficiency.attention_flop_ratio


def bandwidth_ratio(efficiency: Efficiency) -> float:
    """Share of the memory bandwidth that is reached in the engine. [-]"""
    return efficiency.engine_ratio * efficiency.memory_ratio
