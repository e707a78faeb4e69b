"""What every host kind can do for every service: the rates that planners receive."""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache
from typing import Any

import numpy as np

from accelerator import (
    ChipSpec,
    DataFileError,
    ModelSpec,
    Rating,
    Slo,
    TokenMix,
    chip_get,
    model_get,
    profile_mix,
    rating_best,
)
from accelerator.serving_calibration import CHIP, PAIR, SHEET, ServingCalibration
from fleet.snapshot import FleetSnapshot, FloatArray, KindFact, ServiceFact
from scenarios.calibrations import PUBLISHED, InUse, calibration_in_use
from scenarios.plans import BoolArray

RATES_BASIS = (
    "Rates are modelled: kernel times are fitted to measured kernels, what an engine adds to measured services; the "
    "rate within limits of latency follows from both by a formula and was not measured itself."
)
"""What a reader of any result must know about its rates."""

RATES_BASIS_PLANNED = (
    "Rates are modelled: kernel times are fitted to measured kernels, of the chip itself or of its kin; there is no "
    "calibration of serving, so what an engine adds to them is a stated prior."
)
"""The same where there is no calibration of serving at all."""

BASIS_TEXT = {
    PAIR: "stand on measurements of the chip with the model",
    CHIP: "on those of the chip with other models",
    SHEET: "on those of other chips",
}
"""What rates stand on, by their basis."""


@dataclass(frozen=True, eq=False)
class RatingTable:
    """Ratings of all services [S] on all kinds [K], and the arrays that planners read from them.

    A service that is not asked about has no ratings, and rates of 0. `output_tok` is that of the services' own
    profiles: a recorded mix changes what a token costs, not how many are demanded. `in_use` is the calibration that the
    rates stand on; None: planning values.
    """

    ratings: tuple[tuple[Rating, ...], ...]
    mixes: tuple[TokenMix, ...]
    rate_tok_s: FloatArray
    rate_low_tok_s: FloatArray
    rate_high_tok_s: FloatArray
    output_tok: FloatArray
    homegrown: BoolArray
    in_use: InUse | None = None


@dataclass(frozen=True, slots=True)
class Fitted:
    """A calibration as part of a key: one that is read again, or taken into use again, is the same one."""

    digest: str
    calibration: ServingCalibration = field(compare=False, repr=False)


def engines_in_use() -> InUse | None:
    """Return the calibration that rates stand on now, by one query; None: there is none, planning values stand in."""
    try:
        return calibration_in_use()
    except DataFileError:
        return None


def service_mix(service: ServiceFact, trace_mix: TokenMix | None) -> TokenMix:
    """Return the mix a service is planned with: the recorded one where there is one, else its profile's."""
    return trace_mix or profile_mix(service.profile)


def service_slo(service: ServiceFact) -> Slo:
    """Return the latency promise of a service."""
    return Slo(ttft_s=service.ttft_s, tpot_s=service.tpot_s, percentile=service.percentile)


def rating_take(service: ServiceFact, kind: KindFact, mix: TokenMix, in_use: InUse | None) -> Rating:
    """Return what one replica of a service does on a kind of host, in its best configuration."""
    fitted = Fitted(in_use.digest, in_use.calibration) if in_use else None
    return _rating_best(chip_get(kind.chip), model_get(service.model), mix, service_slo(service), kind.chips, fitted)


@lru_cache(maxsize=4096)
def _rating_best(
    chip: ChipSpec, model: ModelSpec, mix: TokenMix, slo: Slo, host_chips: int, fitted: Fitted | None
) -> Rating:
    """Rate once per process: a rating depends on nothing but its arguments, and a capacity query asks for dozens."""
    calibration = fitted.calibration if fitted else None
    return rating_best(chip, model, mix, slo, host_chips=host_chips, calibration=calibration)


def replicas_per_host(rating: Rating, kind: KindFact) -> int:
    """Return how many replicas one host holds; 0 where the rating is a refusal. [-]"""
    return 0 if rating.refusal or not rating.chips else kind.chips // rating.chips


def ratings_take(
    snapshot: FleetSnapshot, *, in_scope: BoolArray, asked: BoolArray, trace_mix: TokenMix | None, in_use: InUse | None
) -> RatingTable:
    """Rate every service in scope on every kind. Services with the same model, mix and promise share the work.

    Parameters
    ----------
    asked : bool[S]
        Services that are rated although they load nothing: their rates are 0 to planners.
    """
    services, kinds = snapshot.services, snapshot.kinds
    mixes = tuple(service_mix(service, trace_mix) for service in services)
    known: dict[tuple[object, ...], Rating] = {}
    rows = []
    low, rate, high = (np.zeros((len(services), len(kinds))) for _ in range(3))
    for s, (service, mix) in enumerate(zip(services, mixes, strict=True)):
        row = []
        for k, kind in enumerate(kinds if in_scope[s] or asked[s] else ()):
            key = (service.model, mix.name, service_slo(service), kind.chip, kind.chips)
            if key not in known:
                known[key] = rating_take(service, kind, mix, in_use)
            rating = known[key]
            if in_scope[s] and not rating.refusal:
                host = rating.tok_s.scaled(replicas_per_host(rating, kind))
                low[s, k], rate[s, k], high[s, k] = host.p10, host.p50, host.p90
            row.append(rating)
        rows.append(tuple(row))
    return RatingTable(
        ratings=tuple(rows),
        mixes=mixes,
        rate_tok_s=rate,
        rate_low_tok_s=low,
        rate_high_tok_s=high,
        output_tok=np.array([profile_mix(service.profile).output_tok for service in services]),
        homegrown=np.array([chip_get(kind.chip).homegrown for kind in kinds], dtype=bool),
        in_use=in_use,
    )


def rates_basis(table: RatingTable, *, in_scope: BoolArray) -> list[str]:
    """Return what a reader must know about the rates of the services in scope: what they stand on, and how firmly."""
    if table.in_use is None:
        return [RATES_BASIS_PLANNED]
    facts, problem = table.in_use.as_dict(), table.in_use.problem
    which = "the published fit" if facts["version"] == PUBLISHED else f"version {facts['version']}"
    rows = [row for s, row in enumerate(table.ratings) if in_scope[s]]
    counts = Counter(rating.basis for row in rows for rating in row if not rating.refusal)
    stand = ", ".join(f"{counts[basis]} {text} ({basis})" for basis, text in BASIS_TEXT.items())
    return [
        RATES_BASIS,
        f"Engines are those of the serving calibration in use: {which}, fitted on {facts['fitted_on']}, "
        f"{facts['rows']:,} rows, digest {facts['digest'][:12]}. Of {counts.total()} rates of a service on a host type "
        f"{stand}; bands are as wide as that warrants.",
        *([f"{problem[:1].upper()}{problem[1:]}."] if problem else []),
    ]


def allowed_take(snapshot: FleetSnapshot, homegrown: BoolArray, months: tuple[date, ...]) -> BoolArray:
    """Return where each service may run in each month, bool[S, K, T]: GPUs always, homegrown chips once ready."""
    allowed = np.zeros((len(snapshot.services), len(snapshot.kinds), len(months)), dtype=bool)
    for s, service in enumerate(snapshot.services):
        for k, kind in enumerate(snapshot.kinds):
            ready_on = service.ready_on.get(kind.chip)
            for t, month in enumerate(months):
                is_ready = service.movable and ready_on is not None and ready_on <= month
                allowed[s, k, t] = is_ready if homegrown[k] else True
    return allowed


def rating_rows(snapshot: FleetSnapshot, table: RatingTable, *, in_scope: BoolArray) -> list[Mapping[str, Any]]:
    """Return the ratings as rows of a result, rates per host."""
    rows: list[Mapping[str, Any]] = []
    for s, service in enumerate(snapshot.services):
        if not in_scope[s]:
            continue
        for k, kind in enumerate(snapshot.kinds):
            rating, count = table.ratings[s][k], replicas_per_host(table.ratings[s][k], kind)
            config = rating.config
            rows.append(
                {
                    "service": service.slug,
                    "kind": kind.slug,
                    "chip": kind.chip,
                    "model": service.model,
                    "mix": table.mixes[s].name,
                    "tok_s": rating.tok_s.scaled(count).as_dict(),
                    "request_s": rating.request_s.scaled(count).as_dict(),
                    "replicas_per_host": count,
                    "precision": config.weight_precision if config else None,
                    "tp": config.tp if config else None,
                    "batch": rating.batch,
                    "ttft_s": rating.ttft_s,
                    "tpot_s": rating.tpot_s,
                    "binds": rating.binds,
                    "refusal": rating.refusal,
                    "basis": rating.basis,
                    "drivers": [list(driver) for driver in rating.drivers],
                }
            )
    return rows
