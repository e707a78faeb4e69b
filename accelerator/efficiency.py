"""What an engine adds to its kernels and leaves of its chip: stated priors with bands.

Kernels themselves are fitted (``calibration``); the time ratios here only say how far their fit may be off, so that a
band can be made by moving one input at a time.
"""

from collections.abc import Mapping
from dataclasses import dataclass, fields, replace
from types import MappingProxyType

from accelerator.errors import DataFileError
from accelerator.facts import facts_read


@dataclass(frozen=True, slots=True)
class Engine:
    """What a fitted engine makes of the kernels of one deployment; ``serving`` has the meaning of every figure.

    Parameters
    ----------
    memory_ratio, compute_ratio, experts_ratio, collectives_ratio, exchanges_ratio : float
        Time of parts of a step over that of the kernels alone. [-]
    decode_attention_ratio, prefill_attention_ratio : float
        The same of attention. [-]
    issue_s, host_step_s, host_seq_s, host_rank_s : float
        Host time to issue a kernel, beside the chip; of a step; for each sequence; for each further chip. [s]
    decode_ratio, prompt_ratio : float
        Time of steps, and of what prompts add to them, over what their parts say. [-]
    spread : float
        Standard deviation of the logarithm of the time of a step. [log]
    basis : str
        ``calibrated-pair``, ``calibrated-chip`` or ``data-sheet``.
    digest : str
        SHA-256 of the calibration it is from.
    """

    memory_ratio: float
    compute_ratio: float
    experts_ratio: float
    collectives_ratio: float
    exchanges_ratio: float
    decode_attention_ratio: float
    prefill_attention_ratio: float
    issue_s: float
    host_step_s: float
    host_seq_s: float
    host_rank_s: float
    decode_ratio: float
    prompt_ratio: float
    spread: float
    basis: str
    digest: str

    def slower(self, factor: float) -> "Engine":
        """Return an engine whose every step takes so many times as long."""
        return replace(self, decode_ratio=self.decode_ratio * factor, prompt_ratio=self.prompt_ratio * factor)


@dataclass(frozen=True, slots=True)
class Efficiency:
    """One set of efficiencies; meaning, range and source of each are in data/efficiency.csv.

    Parameters
    ----------
    engine_ratio : float
        Speed of the kernels inside the engine over their speed alone: what a young engine leaves of it. [-]
    gemm_time_ratio, attention_time_ratio, experts_time_ratio, collectives_time_ratio : float
        Time of a family over that of its calibration. [-]
    graph_launch_s : float
        Latency of one kernel launch inside a captured graph; a launch measured alone is never shortened below it. [s]
    host_step_s : float
        Host work of one step. [s]
    memory_use_ratio, weight_scale_ratio : float
        Share of memory an engine may fill; size of quantised weights with scales over without. [-]
    engine_byte : float
        Memory per chip that the engine keeps for itself. [byte]
    arrival_scv_max : float
        Cap of the squared coefficient of variation of arrivals. [-]
    activity_compute_ratio, activity_memory_ratio : float
        Share of (TDP - idle) drawn while computing and while only reading memory. [-]
    engine : Engine, optional
        Fitted to measured services; takes the place of ``engine_ratio`` and ``host_step_s``.
    """

    engine_ratio: float
    gemm_time_ratio: float
    attention_time_ratio: float
    experts_time_ratio: float
    collectives_time_ratio: float
    graph_launch_s: float
    host_step_s: float
    memory_use_ratio: float
    engine_byte: float
    weight_scale_ratio: float
    arrival_scv_max: float
    activity_compute_ratio: float
    activity_memory_ratio: float
    engine: Engine | None = None

    def time_ratio(self, family: str) -> float:
        """Return what the times of an operator family are multiplied by; links do not age. [-]"""
        if family == "collectives":
            return self.collectives_time_ratio
        ratios = {"gemm": self.gemm_time_ratio, "stream": self.gemm_time_ratio, "experts": self.experts_time_ratio}
        return ratios.get(family, self.attention_time_ratio) / (1.0 if self.engine else self.engine_ratio)


def _ranges_load() -> Mapping[str, tuple[float, float, float]]:
    ranges = {}
    for line, row in facts_read("efficiency.csv"):
        low, value, high = float(row["low"]), float(row["value"]), float(row["high"])
        if not 0 < low <= value <= high:
            raise DataFileError(f"accelerator/data/efficiency.csv:{line}: {row['name']} lies outside its range")
        ranges[row["name"]] = (low, value, high)
    if set(ranges) != {field.name for field in fields(Efficiency)} - {"engine"}:
        raise DataFileError("accelerator/data/efficiency.csv: its names are not the fields of Efficiency")
    return MappingProxyType(ranges)


RANGES: Mapping[str, tuple[float, float, float]] = _ranges_load()
"""``{name: (low, value, high)}``; low and high are read as P10 and P90."""

DEFAULT = Efficiency(**{name: value for name, (_, value, _) in RANGES.items()}, engine=None)
