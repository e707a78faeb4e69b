"""The rating of one replica: rate with band, latencies, power, what binds, what drives it, or why there is none.

The formula is in ``steady``, the band in ``sensitivity``. Kernel times are fitted to measured kernels. What an engine
adds to them is that of a calibration of serving (``serving_calibration``) where one is given: then a rating stands on
what it knows of the chip and the model, and the band is as wide as it says. Without one it is a stated prior
(data/efficiency.csv), and a rating stands on measured kernels of the chip (``calibrated``) or of others (``pooled``).
"""

import hashlib
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from accelerator.architectures import ModelSpec
from accelerator.chips import ChipSpec
from accelerator.efficiency import DEFAULT, RANGES, Efficiency
from accelerator.engines import efficiency_fitted, engine_median
from accelerator.errors import AcceleratorError, ConfigError
from accelerator.memory import memory_fit
from accelerator.operators import DeploymentConfig
from accelerator.requests import TokenMix
from accelerator.roofline import basis_of
from accelerator.sensitivity import band_of, drivers_list
from accelerator.serving_calibration import ServingCalibration
from accelerator.steady import OperatingPoint, Slo, steady_state
from accelerator.steps import step_table_build
from accelerator.units import PRECISION_BYTE, Band

RATING_VERSION = "engines-1"
"""Raised whenever the formula or the data behind it changes what a rating says."""

TP_SIZES = (1, 2, 4, 8, 16)

MEMORY_INPUTS = ("memory_use_ratio", "engine_byte", "weight_scale_ratio")
"""Inputs of an efficiency that change what fits, and no step."""


@dataclass(frozen=True)
class Rating:
    """What one replica sustains; refused ratings carry rates of 0 and the reason.

    Parameters
    ----------
    chip, model, mix : str
        Slugs and the name of the mix.
    config : DeploymentConfig or None
        None if no config was found.
    slo : Slo
        The limits kept.
    chips : int
        Chips of one replica.
    request_s, tok_s : Band
        Requests and OUTPUT tokens per second of one replica. [1/s], [tok/s]
    batch, ttft_s, tpot_s : float
        Operating point: decoding sequences; latencies at it. [-], [s], [s]
    power_w : float
        Mean power of the replica's chips at this rate, without host. [W]
    binds : str
        Limit that stops the next sequence: tpot, ttft, memory, max_seqs or max_batched_tok; of a simulation also
        prompts, if they arrive faster than they can be read.
    drivers : tuple of (str, float, float)
        Input, rate at its low over the rate, rate at its high over the rate; largest effect first.
    refusal : str or None
        Why there is no rate.
    basis : str
        With a fitted engine ``calibrated-pair`` if the chip was measured serving this model, ``calibrated-chip`` if
        others, else ``data-sheet``. Without one ``calibrated`` if kernels of the chip were measured, ``pooled`` if only
        those of others. ``data-sheet`` too if the rating is a refusal.
    digest : str
        SHA-256 of every input.
    simulated : bool
        True: the rate, the latencies (at the percentile) and the power are those of a simulation (``goodput``).
        False: those of the closed formula (``steady``).
    replicas : int
        Copies of ``config`` in what is rated; more than one only beside a prefill config.
    prefill_config : DeploymentConfig or None
        If prefill and decode run apart: config of the chips that read prompts; ``config`` is then of those that decode.
    prefill_replicas : int
        Copies of it.
    price_usd : float
        Price of one chip; 0 if none is published. [USD]
    calibration_digest : str
        SHA-256 of the calibration that the engine is from; empty if the engine is a prior.
    idle_chips : float
        Its share of the chips of a host that no replica can use: they are bought all the same. [-]
    """

    chip: str
    model: str
    config: DeploymentConfig | None
    mix: str
    slo: Slo
    chips: int
    request_s: Band
    tok_s: Band
    batch: float
    ttft_s: float
    tpot_s: float
    power_w: float
    binds: str
    drivers: tuple[tuple[str, float, float], ...]
    refusal: str | None
    basis: str
    digest: str
    simulated: bool = False
    replicas: int = 1
    prefill_config: DeploymentConfig | None = None
    prefill_replicas: int = 0
    price_usd: float = 0.0
    calibration_digest: str = ""
    idle_chips: float = 0.0

    @property
    def counted_chips(self) -> float:
        """Chips that the rate is per: its own, and its share of those of a host that stay idle. [-]"""
        return self.chips + self.idle_chips

    @property
    def tok_s_per_chip(self) -> float:
        """Median output rate per chip. [tok/s]"""
        return self.tok_s.p50 / self.counted_chips if self.chips else 0.0

    @property
    def tok_s_per_kw(self) -> float:
        """Median output rate per kilowatt that the chips draw at it; 0 if no power is published. [tok/s/kW]"""
        return self.tok_s.p50 / self.power_w * 1e3 if self.power_w else 0.0

    @property
    def tok_s_per_usd(self) -> float:
        """Median output rate per dollar of what the chips cost; 0 if no price is published. [tok/s/USD]"""
        return self.tok_s_per_chip / self.price_usd if self.price_usd else 0.0

    @property
    def label(self) -> str:
        """Config for tables: ``int8 tp8``, or ``1 x int8 tp2 + 3 x int8 tp2`` if prefill and decode run apart."""
        if self.config is None:
            return ""
        if self.prefill_config is None:
            return self.config.label
        return f"{self.prefill_replicas} x {self.prefill_config.label} + {self.replicas} x {self.config.label}"

    def as_dict(self) -> dict[str, Any]:
        """Return the fields, and rates per chip, kilowatt and dollar, as JSON-ready values."""
        values = asdict(self)
        for name in ("config", "prefill_config"):
            config = getattr(self, name)
            values[name] = None if config is None else {**asdict(config), "label": config.label}
        values |= {name: getattr(self, name) for name in ("label", "tok_s_per_chip", "tok_s_per_kw", "tok_s_per_usd")}
        values["counted_chips"] = self.counted_chips
        values["drivers"] = [{"input": name, "at_low": low, "at_high": high} for name, low, high in self.drivers]
        return values

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "Rating":
        """Return the rating written by :meth:`as_dict`."""
        given = {one.name: values[one.name] for one in fields(cls)}
        for name in ("config", "prefill_config"):
            config = dict(given[name] or {})
            config.pop("label", None)
            given[name] = DeploymentConfig(**config) if config else None
        given |= {name: Band(**given[name]) for name in ("request_s", "tok_s")}
        given["slo"] = Slo(**given["slo"])
        given["drivers"] = tuple((row["input"], row["at_low"], row["at_high"]) for row in given["drivers"])
        return cls(**given)


def replica_rate(
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig,
    mix: TokenMix,
    slo: Slo,
    *,
    efficiency: Efficiency = DEFAULT,
) -> Rating:
    """Return the rating of one replica in one config; ``steady`` has the formula.

    Parameters
    ----------
    chip, model, config
        What runs where.
    mix : TokenMix
        Lengths and burstiness of its requests; at least one output token on average.
    slo : Slo
        Limits.
    efficiency : Efficiency
        Share of the data sheet that is reached. If it has a fitted engine, the band is that of the engine's spread; the
        priors in its place, and the errors of single kernels that it was fitted with, do not count again.

    Raises
    ------
    ConfigError
        If the config is impossible (PrecisionError, ModelDoesNotFitError); limits that cannot be met are a refusal.
    """
    reason = mix_refusal(model, mix)
    if reason:
        return refused(chip, model, config, mix, slo, efficiency, reason)
    point, binds = steady_state(chip, model, config, mix, slo, efficiency)
    if point is None:
        return refused(chip, model, config, mix, slo, efficiency, limits_text(binds, slo))

    def still_holds(other: Efficiency) -> bool:
        """Whether the point stays the answer: nothing but memory has changed, and memory does not bind."""
        alike = replace(other, **{name: getattr(efficiency, name) for name in MEMORY_INPUTS})
        if binds == "memory" or alike != efficiency:
            return False
        room = memory_fit(chip, model, config, efficiency=other)
        return point.batch * room.sequence_byte(point.kv_tok / point.batch) <= room.kv_byte

    def ratio(varied: ChipSpec, other: Efficiency) -> float:
        try:
            if varied is chip and still_holds(other):
                return 1.0
            found, _ = steady_state(varied, model, config, mix, slo, other, near=point.batch, precision=1e-3)
        except ConfigError:
            return 0.0
        return found.request_s / point.request_s if found else 0.0

    drivers = drivers_list(chip, model, config, efficiency, ratio)
    request_s = band_of(point.request_s, drivers)
    return Rating(
        chip=chip.slug,
        model=model.slug,
        config=config,
        mix=mix.name,
        slo=slo,
        chips=config.chips,
        request_s=request_s,
        tok_s=request_s.scaled(mix.output_tok),
        batch=point.batch,
        ttft_s=point.ttft_s,
        tpot_s=point.tpot_s,
        power_w=_power_w(chip, model, config, mix, point, efficiency),
        binds=binds,
        drivers=drivers,
        refusal=None,
        basis=efficiency.engine.basis if efficiency.engine else basis_of(chip, model, config),
        digest=rating_digest(chip, model, config, mix, slo, efficiency),
        price_usd=price_usd(chip),
        calibration_digest=efficiency.engine.digest if efficiency.engine else "",
    )


def price_usd(chip: ChipSpec) -> float:
    """Return the price of a chip; 0 if none is published. [USD]"""
    return chip.given["price_usd"].value if "price_usd" in chip.given else 0.0


def rating_best(
    chip: ChipSpec,
    model: ModelSpec,
    mix: TokenMix,
    slo: Slo,
    *,
    host_chips: int,
    precisions: Sequence[str] | None = None,
    calibration: ServingCalibration | None = None,
) -> Rating:
    """Return the config with the most output tokens per second and chip among those that fit a host.

    A config that still fits when memory turns out at its P10 goes before one that does not.

    Parameters
    ----------
    chip, model, mix, slo
        See :func:`replica_rate`.
    host_chips : int
        Chips of the host: no replica is larger.
    precisions : sequence of str, optional
        Weight precisions allowed; if left out, all that the chip computes in (fp4 only for models published in it).
    calibration : ServingCalibration, optional
        Where the engine of every config is from; planning values if left out.

    Returns
    -------
    Rating
        If every config is refused: rates of 0, and ``refusal`` says why for each precision.
    """
    digest = calibration.digest if calibration else ""

    def none(reason: str) -> Rating:
        return refused(chip, model, None, mix, slo, DEFAULT, reason, calibration_digest=digest)

    reason = mix_refusal(model, mix)
    if reason:
        return none(reason)
    usable, reasons = precisions_usable(chip, model, precisions)
    best: tuple[bool, float, DeploymentConfig] | None = None
    for precision in sorted(usable, key=lambda p: (-chip.peak_flop_s[p].value, PRECISION_BYTE[p])):
        if best and PRECISION_BYTE[precision] >= PRECISION_BYTE[best[2].weight_precision]:
            break  # computes no faster, weighs no less: nothing it could do better
        why = ""
        for config in configs_list(model, precision, host_chips):
            try:
                engine = engine_median(chip, model, config, calibration) if calibration else None
                point, binds = steady_state(
                    chip, model, config, mix, slo, replace(DEFAULT, engine=engine), precision=1e-3
                )
            except ConfigError as error:
                why = str(error)
                continue
            if point is None:
                why = f"{config.label}: {limits_text(binds, slo)}"
                continue
            found = fits_surely(chip, model, config), point.request_s / config.chips, config
            if best is None or found[:2] > best[:2]:
                best = found
        if why:
            reasons.append(f"{precision}: {why}")
    if best is None:
        return none("; ".join(reasons) or f"no config of {model.slug} divides over {host_chips} chips")
    efficiency = efficiency_fitted(chip, model, best[2], calibration) if calibration else DEFAULT
    return replica_rate(chip, model, best[2], mix, slo, efficiency=efficiency)


def fits_surely(chip: ChipSpec, model: ModelSpec, config: DeploymentConfig) -> bool:
    """Return whether the model fits with memory, engine share and scales all at their unfavourable ends."""
    tight = replace(
        DEFAULT, memory_use_ratio=RANGES["memory_use_ratio"][0], weight_scale_ratio=RANGES["weight_scale_ratio"][2]
    )
    small = chip.varied("memory_byte", chip.memory_byte.low)
    try:
        memory_fit(small, model, config, efficiency=tight)
    except ConfigError:
        return False
    return True


def configs_list(model: ModelSpec, precision: str, host_chips: int) -> Iterator[DeploymentConfig]:
    """Yield the configs that are tried: tensor parallel; for MLA also data-parallel attention with whole experts."""
    for size in TP_SIZES:
        if size > host_chips:
            return
        heads_divide = model.heads % size == 0 and (
            model.attention == "mla" or model.kv_heads % size == 0 or size % model.kv_heads == 0
        )
        if heads_divide:
            yield DeploymentConfig(precision, tp=size)
        if size > 1 and model.attention == "mla" and model.experts and model.experts % size == 0:
            yield DeploymentConfig(precision, dp=size, ep=size, max_seqs=256 * size, max_batched_tok=8192)


def _power_w(
    chip: ChipSpec, model: ModelSpec, config: DeploymentConfig, mix: TokenMix, point: OperatingPoint, eff: Efficiency
) -> float:
    """Return the mean power of the replica's chips at its operating point; 0 where no power is published. [W]"""
    table = step_table_build(chip, model, config, efficiency=eff).smoothed()
    work_tok2 = point.batch * mix.prefill_work_tok2 / mix.output_tok
    energy_j = table.energy_j(point.step_tok, point.batch, point.batch * mix.context_tok, work_tok2)
    return 0.0 if math.isnan(energy_j) else energy_j / point.tpot_s


def precisions_usable(
    chip: ChipSpec, model: ModelSpec, precisions: Sequence[str] | None
) -> tuple[tuple[str, ...], list[str]]:
    """Return the weight precisions to try, and why the others of the list are not."""
    if precisions is None:
        special = {"fp4", "int4", "int8_wo"} - {model.native_precision}
        return tuple(p for p in chip.peak_flop_s if p not in special), []
    usable = tuple(p for p in precisions if p in chip.peak_flop_s)
    missing = [p for p in precisions if p not in usable]
    reason = f"{chip.slug} does not compute in {', '.join(missing)}; it has {', '.join(chip.peak_flop_s)}"
    return usable, [reason] if missing else []


def limits_text(binds: str, slo: Slo) -> str:
    """Return why not even one sequence keeps the limits."""
    return {
        "tpot": f"TPOT cannot be kept under {slo.tpot_s * 1e3:g} ms even with one sequence",
        "ttft": f"TTFT cannot be kept under {slo.ttft_s:g} s even with one sequence",
        "memory": "the KV cache has no room for one sequence",
        "max_batched_tok": "one sequence brings more prompt tokens than a step may hold",
    }[binds]


def mix_refusal(model: ModelSpec, mix: TokenMix) -> str:
    """Return why the model cannot serve the mix on any chip, or nothing."""
    if not mix.output_tok > 0:
        raise AcceleratorError(f"mix {mix.name} has no output tokens: a decode rating needs some")
    if mix.input_p95_tok > model.max_context_tok:
        return (
            f"prompts of {mix.name} reach {mix.input_p95_tok:.0f} tokens (P95), "
            f"{model.slug} reads {model.max_context_tok}"
        )
    return ""


def refused(
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig | None,
    mix: TokenMix,
    slo: Slo,
    efficiency: Efficiency,
    refusal: str,
    *,
    calibration_digest: str = "",
) -> Rating:
    """Return the rating that is a refusal.

    Parameters
    ----------
    calibration_digest : str
        Of the calibration whose engines were tried, where no config was found whose efficiency would say it.
    """
    nothing = Band.exact(0.0)
    more = {"calibration": calibration_digest} if calibration_digest else {}
    return Rating(
        chip=chip.slug, model=model.slug, config=config, mix=mix.name, slo=slo, chips=config.chips if config else 0,
        request_s=nothing, tok_s=nothing, batch=0.0, ttft_s=0.0, tpot_s=0.0, power_w=0.0, binds="", drivers=(),
        refusal=refusal, basis="data-sheet", digest=rating_digest(chip, model, config, mix, slo, efficiency, **more),
        calibration_digest=efficiency.engine.digest if efficiency.engine else calibration_digest,
    )  # fmt: skip


def rating_digest(
    chip: ChipSpec,
    model: ModelSpec,
    config: DeploymentConfig | None,
    mix: TokenMix,
    slo: Slo,
    efficiency: Efficiency,
    **more: Any,
) -> str:
    """Return the SHA-256 of everything a rating follows from.

    Parameters
    ----------
    more
        JSON-ready inputs beside these.
    """
    figures: Mapping[str, tuple[float, float, float]] = {
        name: (figure.low, figure.value, figure.high) for name, figure in chip.figures().items()
    }
    inputs = {
        "version": RATING_VERSION,
        "chip": [chip.slug, chip.scale_up_chips, figures],
        "model": asdict(model),
        "config": None if config is None else asdict(config),
        "mix": mix.as_dict(),
        "slo": asdict(slo),
        "efficiency": asdict(efficiency),
        "ranges": dict(RANGES),
        **more,
    }
    return hashlib.sha256(json.dumps(inputs, sort_keys=True).encode()).hexdigest()
