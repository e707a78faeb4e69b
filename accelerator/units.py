"""Constants of conversion and the band every uncertain figure is shown with."""

from collections.abc import Mapping
from dataclasses import dataclass
from statistics import NormalDist
from types import MappingProxyType

GIGA = 1e9
TERA = 1e12
GIB = 2**30

MINUTE_S = 60.0

PRECISION_BYTE: Mapping[str, float] = MappingProxyType({
    "bf16": 2.0, "fp8": 1.0, "int8": 1.0, "fp4": 0.5, "int4": 0.5, "int8_wo": 1.0,
})  # fmt: skip
"""Bytes of one element, by precision. FP16 counts as bf16: same size, same peak on every chip we hold.

``int4`` and ``int8_wo`` only shrink weights (the latter also stands for FP8 weights on a chip without FP8 arithmetic).
"""


def quantile_z(quantile: float) -> float:
    """Return the standard normal deviate of a quantile strictly between 0 and 1. [-]"""
    if not 0 < quantile < 1:
        raise ValueError(f"a quantile lies between 0 and 1, not {quantile}")
    return NormalDist().inv_cdf(quantile)


Z90 = 1.2815515655446004
"""Standard normal quantile of 0.9: P90 = median + Z90 sigma."""


@dataclass(frozen=True, slots=True)
class Band:
    """A figure with its tenth, fiftieth and ninetieth percentile, all in the unit of the field that holds it.

    Parameters
    ----------
    p10, p50, p90 : float
        Percentiles, ``p10 <= p50 <= p90``.
    """

    p10: float
    p50: float
    p90: float

    def __post_init__(self) -> None:
        if not self.p10 <= self.p50 <= self.p90:  # also catches NaN
            raise ValueError(f"a band must rise: {self.p10}, {self.p50}, {self.p90}")

    @classmethod
    def exact(cls, value: float) -> "Band":
        """Return the band of a figure without uncertainty."""
        return cls(value, value, value)

    @classmethod
    def from_dict(cls, values: Mapping[str, float]) -> "Band":
        """Return the band written by :meth:`as_dict`."""
        return cls(values["p10"], values["p50"], values["p90"])

    def scaled(self, factor: float) -> "Band":
        """Return the band times a factor >= 0, for instance one replica's rate times a count of replicas."""
        return Band(self.p10 * factor, self.p50 * factor, self.p90 * factor)

    def as_dict(self) -> dict[str, float]:
        """Return ``{"p10", "p50", "p90"}``, as the API shows it."""
        return {"p10": self.p10, "p50": self.p50, "p90": self.p90}
