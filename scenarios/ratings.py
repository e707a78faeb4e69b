"""What every host kind can do for every service: the rates that planners receive.

A rate is the stored rating by simulation where there is one for just this chip, model, mix, limits, host and
calibration. Where there is none the closed formula answers at once, and the table says what is missing, so that it can
be computed behind (`rating_store.ratings_ask`).
"""

import hashlib
import threading
from collections import Counter, OrderedDict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date
from functools import cached_property, lru_cache
from typing import Any

import numpy as np

from accelerator import (
    Band,
    ChipSpec,
    ConfigError,
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
from accelerator.efficiency import DEFAULT
from accelerator.exchange import HostRate, host_phases
from accelerator.goodput import question_of
from accelerator.serving_calibration import CHIP, PAIR, SHEET, ServingCalibration
from fleet.snapshot import FleetSnapshot, FloatArray, IntArray, KindFact, ServiceFact
from scenarios.calibrations import PUBLISHED, InUse, calibration_in_use
from scenarios.models import StoredRating
from scenarios.plans import BoolArray
from scenarios.rating_store import LOOKUP_ROWS, RatingQuestion

RATES_BASIS = (
    "Rates are modelled: kernel times are fitted to measured kernels, what an engine adds to measured services; the "
    "rate within limits of latency follows from both, by simulation or by a formula, and was not measured itself."
)
"""What a reader of any result must know about its rates."""

SIMULATED, STEADY_STATE = "simulated", "steady_state"
"""Where a rate is from: a stored rating by simulation; the closed formula, until there is one."""

PREFILL, DECODE = "prefill", "decode"
"""The phases of a request, where hosts of one kind read prompts and hosts of another make answers."""

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


@dataclass(frozen=True, slots=True)
class PairRate:
    """What is known of a service on a kind: the rating of a replica, and the phases of a host where they are stored.

    `question` is what a simulation would be asked; None: there is no calibration of serving to simulate with.
    """

    rating: Rating
    host_chips: int
    question: RatingQuestion | None
    phases: tuple[HostRate, HostRate] | None = None

    @property
    def is_simulated(self) -> bool:
        """Whether the rating is a stored one, which comes with the phases."""
        return self.phases is not None


@dataclass(frozen=True, eq=False)
class PhaseRates:
    """What one host does for a service while it does one phase alone, float64[S, K].

    In output tokens per second of the service that it supports: 0 where it cannot, and `refusals` says why. [tok/s]
    """

    rate_low_tok_s: FloatArray
    rate_tok_s: FloatArray
    rate_high_tok_s: FloatArray
    refusals: tuple[tuple[str, ...], ...]


@dataclass(frozen=True, eq=False)
class RatingTable:
    """Ratings of all services [S] on all kinds [K], and the arrays that planners read from them.

    A service that is not asked about has no ratings, and rates of 0. `output_tok` is that of the services' own
    profiles: a recorded mix changes what a token costs, not how many are demanded. `in_use` is the calibration that the
    rates stand on; None: planning values. A rate is what a whole number of replicas on a host sustains; no replica is
    larger than a host, so a model that does not fit into one is a refusal there.

    Attributes
    ----------
    replicas_per_host : int64[S, K]
        Whole replicas that one host holds; 0 where there is no rate. [-]
    simulated : bool[S, K]
        Whether the rating is by simulation, that is stored; otherwise by the closed formula.
    digest : str
        SHA-256 over the digests of the stored ratings among them: other ratings, another digest.
    """

    ratings: tuple[tuple[Rating, ...], ...]
    mixes: tuple[TokenMix, ...]
    rate_tok_s: FloatArray
    rate_low_tok_s: FloatArray
    rate_high_tok_s: FloatArray
    output_tok: FloatArray
    homegrown: BoolArray
    in_scope: BoolArray
    replicas_per_host: IntArray
    simulated: BoolArray
    digest: str
    pairs: tuple[tuple[PairRate, ...], ...] = field(repr=False)
    in_use: InUse | None = None

    def missing(self, in_scope: BoolArray | None = None) -> dict[str, RatingQuestion]:
        """Return what a simulation has still to be asked, by digest; of some services, bool[S], or all."""
        rows = (row for s, row in enumerate(self.pairs) if in_scope is None or in_scope[s])
        asked = (pair.question for row in rows for pair in row if not pair.is_simulated)
        return {question_digest(question): question for question in asked if question is not None}

    def counts(self, in_scope: BoolArray | None = None) -> dict[str, int]:
        """Return how many pairs of a service and a kind are rated in which way; of some services, bool[S], or all."""
        rows = [row for s, row in enumerate(self.pairs) if in_scope is None or in_scope[s]]
        simulated = sum(pair.is_simulated for row in rows for pair in row)
        return {SIMULATED: simulated, STEADY_STATE: sum(map(len, rows)) - simulated}

    @property
    def prefill(self) -> PhaseRates:
        """What hosts do that only read prompts, for split serving."""
        return self._phases[0]

    @property
    def decode(self) -> PhaseRates:
        """What hosts do that only make answers, for split serving."""
        return self._phases[1]

    @cached_property
    def _phases(self) -> tuple[PhaseRates, PhaseRates]:
        """Work the phases out when they are first asked for: where none is stored it takes some 20 ms a pair."""
        shape = self.rate_tok_s.shape
        found = []
        for at, name in enumerate((PREFILL, DECODE)):
            bands, refusals = np.zeros((3, *shape)), []
            for s, row in enumerate(self.pairs):
                mix, why = self.mixes[s], []
                for k, pair in enumerate(row):
                    phase = phases_of(pair, mix)[at]
                    # who serves requests whole can do either phase, whatever the formula says of it
                    why.append("" if self.rate_tok_s[s, k] > 0 else phase.refusal)
                    if phase.refusal or not self.in_scope[s]:
                        continue
                    share = mix.output_tok / mix.input_tok if name == PREFILL else 1.0
                    band = phase.tok_s.scaled(share)
                    bands[:, s, k] = band.p10, band.p50, band.p90
                refusals.append(tuple(why))
            # who reads prompts and does nothing else reads no fewer than who also answers: the formula may say less
            bands = np.maximum(bands, (self.rate_low_tok_s, self.rate_tok_s, self.rate_high_tok_s))
            found.append(PhaseRates(bands[0], bands[1], bands[2], tuple(refusals)))
        return found[0], found[1]


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
    snapshot: FleetSnapshot,
    *,
    in_scope: BoolArray,
    asked: BoolArray,
    trace_mix: TokenMix | None,
    in_use: InUse | None,
    trace_digest: str = "",
) -> RatingTable:
    """Rate every service in scope on every kind. Services with the same model, mix and promise share the work.

    Parameters
    ----------
    asked : bool[S]
        Services that are rated although they load nothing: their rates are 0 to planners.
    trace_mix, trace_digest
        Mix of a recorded workload that replaces those of the services, and its digest.
    """
    services, kinds = snapshot.services, snapshot.kinds
    mixes = tuple(service_mix(service, trace_mix) for service in services)
    rated = [s for s in range(len(services)) if in_scope[s] or asked[s]]
    calibration = in_use.calibration if in_use else None
    questions = _questions(snapshot, rated, mixes, calibration, trace_digest if trace_mix else "")
    stored = stored_rates(map(question_digest, questions.values()))
    known: dict[tuple[object, ...], PairRate] = {}
    rows: list[tuple[PairRate, ...]] = [()] * len(services)
    low, rate, high = (np.zeros((len(services), len(kinds))) for _ in range(3))
    replicas = np.zeros((len(services), len(kinds)), dtype=np.int64)
    for s in rated:
        row = []
        for k, kind in enumerate(kinds):
            key = _pair_key(services[s], kind, mixes[s])
            if key not in known:
                known[key] = _pair_rate(services[s], kind, mixes[s], in_use, questions.get(key), stored)
            rating = known[key].rating
            replicas[s, k] = replicas_per_host(rating, kind)
            if in_scope[s] and not rating.refusal:
                host = rating.tok_s.scaled(int(replicas[s, k]))
                low[s, k], rate[s, k], high[s, k] = host.p10, host.p50, host.p90
            row.append(known[key])
        rows[s] = tuple(row)
    simulated = np.zeros((len(services), len(kinds)), dtype=bool)
    for s in rated:
        simulated[s] = [pair.is_simulated for pair in rows[s]]
    return RatingTable(
        ratings=tuple(tuple(pair.rating for pair in row) for row in rows),
        mixes=mixes,
        rate_tok_s=rate,
        rate_low_tok_s=low,
        rate_high_tok_s=high,
        output_tok=np.array([profile_mix(service.profile).output_tok for service in services]),
        homegrown=np.array([chip_get(kind.chip).homegrown for kind in kinds], dtype=bool),
        in_scope=in_scope,
        replicas_per_host=replicas,
        simulated=simulated,
        digest=_digest_of(stored),
        pairs=tuple(rows),
        in_use=in_use,
    )


def ratings_found(snapshot: FleetSnapshot, in_use: InUse | None) -> str:
    """Return the `digest` of the ratings of all services of a fleet on all its kinds, by one query and no rating."""
    if in_use is None:
        return _digest_of(())
    return _digest_of(stored_names(_digests_asked(snapshot, Fitted(in_use.digest, in_use.calibration))))


@lru_cache(maxsize=8)
def _digests_asked(snapshot: FleetSnapshot, fitted: Fitted) -> tuple[str, ...]:
    """Return the digests of what a simulation would be asked about a fleet; a snapshot is itself alone."""
    mixes = tuple(service_mix(service, None) for service in snapshot.services)
    rated = range(len(snapshot.services))
    return tuple(map(question_digest, _questions(snapshot, rated, mixes, fitted.calibration, "").values()))


def _digest_of(names: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(names)).encode()).hexdigest()


def _pair_key(service: ServiceFact, kind: KindFact, mix: TokenMix) -> tuple[object, ...]:
    return service.model, mix.name, service_slo(service), kind.chip, kind.chips


def _questions(
    snapshot: FleetSnapshot,
    rated: Sequence[int],
    mixes: Sequence[TokenMix],
    calibration: ServingCalibration | None,
    trace_digest: str,
) -> dict[tuple[object, ...], RatingQuestion]:
    """Return what a simulation would be asked about each pair, services at their own percentile."""
    found: dict[tuple[object, ...], RatingQuestion] = {}
    if calibration is None:
        return found
    for s in rated:
        service, mix = snapshot.services[s], mixes[s]
        for kind in snapshot.kinds:
            key = _pair_key(service, kind, mix)
            if key not in found:
                chip, model, slo = chip_get(kind.chip), model_get(service.model), service_slo(service)
                found[key] = RatingQuestion(chip, model, mix, slo, kind.chips, calibration, trace_digest)
    return found


def _pair_rate(
    service: ServiceFact,
    kind: KindFact,
    mix: TokenMix,
    in_use: InUse | None,
    question: RatingQuestion | None,
    stored: Mapping[str, "Stored"],
) -> PairRate:
    found = stored.get(question_digest(question)) if question else None
    if found is not None:
        return PairRate(found.rating, kind.chips, question, (found.prefill, found.decode))
    return PairRate(rating_take(service, kind, mix, in_use), kind.chips, question)


@lru_cache(maxsize=16_384)
def question_digest(question: RatingQuestion) -> str:
    """Return the digest of a question, worked out once per process: a capacity query asks for hundreds."""
    return question.digest


def phases_of(pair: PairRate, mix: TokenMix) -> tuple[HostRate, HostRate]:
    """Return what a host does in prefill and in decode alone.

    What is not stored is worked out by the engines of the rating, planning values without a calibration.
    """
    if pair.phases:
        return pair.phases
    chip, model, slo = chip_get(pair.rating.chip), model_get(pair.rating.model), pair.rating.slo
    calibration = pair.question.calibration if pair.question else None
    return _phases_by_formula(chip, model, mix, slo, pair.host_chips, calibration)


@lru_cache(maxsize=4096)
def _phases_by_formula(
    chip: ChipSpec, model: ModelSpec, mix: TokenMix, slo: Slo, host_chips: int, calibration: ServingCalibration | None
) -> tuple[HostRate, HostRate]:
    """Return what a host does in prefill and decode alone, which is a formula; once per process."""
    planned = None if calibration else DEFAULT
    asked = question_of(chip, model, mix, slo, efficiency=planned, calibration=calibration)
    try:
        return host_phases(asked, host_chips=host_chips)
    except ConfigError as error:
        none = HostRate(Band.exact(0.0), "", str(error))
        return none, none


# --- stored ratings in the memory of a process ------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Stored:
    """A stored rating as planners read it; it never changes under its digest."""

    rating: Rating
    prefill: HostRate
    decode: HostRate


STORED_KEPT = 8192
_stored: OrderedDict[str, Stored] = OrderedDict()
_stored_lock = threading.Lock()


def stored_rates(digests: Iterable[str]) -> dict[str, Stored]:
    """Return what is stored under digests. Whether a row is there is asked each time, what it says once per process."""
    names = stored_names(digests)
    with _stored_lock:
        found = {name: _stored[name] for name in names if name in _stored}
    new = [name for name in names if name not in found]
    for at in range(0, len(new), LOOKUP_ROWS):
        rows = StoredRating.objects.filter(digest__in=new[at : at + LOOKUP_ROWS])
        found |= {row.digest: _stored_of(row) for row in rows}
    with _stored_lock:
        for digest, rate in found.items():
            _stored[digest] = rate
            _stored.move_to_end(digest)
        while len(_stored) > STORED_KEPT:
            _stored.popitem(last=False)
    return found


def stored_names(digests: Iterable[str]) -> list[str]:
    """Return those of some digests under which a rating is stored."""
    wanted, found = list(dict.fromkeys(digests)), list[str]()
    for at in range(0, len(wanted), LOOKUP_ROWS):
        there = StoredRating.objects.filter(digest__in=wanted[at : at + LOOKUP_ROWS])
        found += there.values_list("digest", flat=True)
    return found


def _stored_of(row: StoredRating) -> Stored:
    prefill, decode = (
        HostRate(Band(**values["tok_s"]), values["label"], values["refusal"])
        for values in (row.payload[PREFILL], row.payload[DECODE])
    )
    return Stored(Rating.from_dict(row.payload["rating"]), prefill, decode)


def rates_basis(table: RatingTable, *, in_scope: BoolArray) -> list[str]:
    """Return what a reader must know about the rates of the services in scope: what they stand on, and how firmly."""
    if table.in_use is None:
        return [RATES_BASIS_PLANNED]
    facts, problem = table.in_use.as_dict(), table.in_use.problem
    which = "the published fit" if facts["version"] == PUBLISHED else f"version {facts['version']}"
    rows = [row for s, row in enumerate(table.ratings) if in_scope[s]]
    counts = Counter(rating.basis for row in rows for rating in row if not rating.refusal)
    sources = table.counts(in_scope)
    stand = ", ".join(f"{counts[basis]} {text} ({basis})" for basis, text in BASIS_TEXT.items())
    return [
        RATES_BASIS,
        f"Engines are those of the serving calibration in use: {which}, fitted on {facts['fitted_on']}, "
        f"{facts['rows']:,} rows, digest {facts['digest'][:12]}. Of {counts.total()} rates of a service on a host type "
        f"{stand}; bands are as wide as that warrants.",
        f"Of {sum(sources.values())} ratings, refusals among them, {sources[SIMULATED]} are by simulation and "
        f"{sources[STEADY_STATE]} by the closed formula, each at the percentile of its service.",
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
                    "source": SIMULATED if table.simulated[s, k] else STEADY_STATE,
                    "basis": rating.basis,
                    "drivers": [list(driver) for driver in rating.drivers],
                }
            )
    return rows
