"""Stored ratings: each is computed once, by whoever asks first, and then looked up by the digest of its inputs.

The whole catalog is rated in batches that workers share. What a batch has stored stays, so a batch that is taken over
goes on where it was left, and a catalog that is asked for again costs look-ups.
"""

import math
import time
import uuid
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

from django.db import transaction

from accelerator import (
    GOODPUT_VERSION,
    RATING_VERSION,
    AcceleratorError,
    Band,
    ChipSpec,
    ConfigError,
    ModelSpec,
    Slo,
    TokenMix,
    chip_get,
    goodput_digest,
    goodput_search,
    model_get,
    profile_mix,
)
from accelerator.efficiency import DEFAULT
from accelerator.exchange import HostRate, HostRates, exchange_of, host_phases, host_service
from accelerator.goodput import question_of
from accelerator.rating import Rating, refused
from accelerator.serving_calibration import ServingCalibration
from accelerator.trials import Question
from scenarios.calibrations import calibration_current
from scenarios.claims import Queue
from scenarios.engine import Progress
from scenarios.models import RatingBatch, StoredRating

BATCHES = Queue(RatingBatch, task="scenarios.tasks.ratings_execute")

BATCH_PAIRS = 64
"""Pairs of a batch: a worker needs some five seconds for them, and half a minute if each takes its longest."""

LOOKUP_ROWS = 500
"""Digests of one look-up: data bases limit the parameters of a query."""

MIX, TTFT_P95_S, TPOT_P95_S = "azure-conv", 2.0, 0.05
"""What is rated where nobody says otherwise: conversations, and limits that a chat keeps."""

EXCHANGE_MOST = 12
"""Other chips of one request for exchange ratios: each may have to be rated first, in a fraction of a second."""

VERSIONS = {"rating_version": RATING_VERSION, "goodput_version": GOODPUT_VERSION}

Status = RatingBatch.Status


@dataclass(frozen=True, slots=True)
class RatingQuestion:
    """What is rated: a chip for a model, a mix and limits at P95, on hosts of so many chips, by which calibration."""

    chip: ChipSpec
    model: ModelSpec
    mix: TokenMix
    slo: Slo
    host_chips: int
    calibration: ServingCalibration = field(repr=False)

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the rating follows from."""
        return goodput_digest(
            self.chip, self.model, self.mix, self.slo, host_chips=self.host_chips, calibration=self.calibration
        )


def rating_question(
    *,
    chip: str,
    model: str,
    mix: str,
    ttft_p95_s: float,
    tpot_p95_s: float,
    host_chips: int | None = None,
    calibration: ServingCalibration | None = None,
) -> RatingQuestion:
    """Return a question by names of the catalog; without `host_chips` the chip's usual host is meant.

    Without a calibration the one in use is read: who asks much reads it once.

    Raises UnknownNameError, or AcceleratorError for limits that are none.
    """
    spec = chip_get(chip)
    if not (math.isfinite(ttft_p95_s) and math.isfinite(tpot_p95_s)):
        raise AcceleratorError(f"limits are finite: {ttft_p95_s} and {tpot_p95_s}")
    slo = Slo(ttft_p95_s, tpot_p95_s)
    used = calibration or calibration_current()
    return RatingQuestion(spec, model_get(model), profile_mix(mix), slo, host_chips or spec.host_chips, used)


# --- one rating -------------------------------------------------------------------------------------------------------
def rating_lookup(question: RatingQuestion) -> StoredRating | None:
    """Return the rating that is stored for exactly these inputs, if there is one."""
    return StoredRating.objects.filter(digest=question.digest).first()


def ratings_lookup(questions: Iterable[RatingQuestion]) -> dict[str, StoredRating]:
    """Return what is stored for questions, by digest; what is not stored is left out."""
    digests = [question.digest for question in questions]
    found: dict[str, StoredRating] = {}
    for at in range(0, len(digests), LOOKUP_ROWS):
        rows = StoredRating.objects.filter(digest__in=digests[at : at + LOOKUP_ROWS])
        found |= {row.digest: row for row in rows}
    return found


def rating_get_or_compute(question: RatingQuestion) -> StoredRating:
    """Return the stored rating, or compute and store it. Of several that compute it at once the first is kept."""
    return rating_lookup(question) or rating_keep(question)


def rating_keep(question: RatingQuestion) -> StoredRating:
    """Compute a rating and store it, or return the one that another stored meanwhile."""
    start_s = time.perf_counter()
    asked = question_of(question.chip, question.model, question.mix, question.slo, calibration=question.calibration)
    rating = rating_compute(question, asked)
    phases = host_phases(asked, host_chips=question.host_chips)  # without a rating too: one phase may work alone
    payload = {"rating": rating.as_dict(), **dict(zip(("prefill", "decode"), map(asdict, phases), strict=True))}
    payload["service"] = asdict(host_service(rating, question.host_chips))
    kept, _ = StoredRating.objects.get_or_create(
        digest=question.digest,
        defaults={
            "chip": question.chip.slug,
            "model": question.model.slug,
            "mix": question.mix.name,
            "ttft_p95_s": question.slo.ttft_s,
            "tpot_p95_s": question.slo.tpot_s,
            "host_chips": question.host_chips,
            "tok_s_per_chip": rating.tok_s_per_chip,
            "binds": rating.binds,
            "basis": rating.basis,
            "refusal": rating.refusal or "",
            "payload": payload,
            "took_s": time.perf_counter() - start_s,
        },
    )
    return kept


def rating_compute(question: RatingQuestion, asked: Question) -> Rating:
    """Search for the best layout; a figure that nobody has published is a refusal like any other.

    Parameters
    ----------
    asked : Question
        The same, for the search: what is worked out for it is kept there.
    """
    chip, model, mix, slo = question.chip, question.model, question.mix, question.slo
    try:
        return goodput_search(chip, model, mix, slo, host_chips=question.host_chips, question=asked)
    except ConfigError as error:
        return refused(chip, model, None, mix, slo, DEFAULT, str(error))


def rating_is_current(row: StoredRating, calibration: ServingCalibration | None = None) -> bool:
    """Return whether the catalog and a calibration, that in use if left out, would give a stored rating again."""
    try:
        question = rating_question(
            chip=row.chip,
            model=row.model,
            mix=row.mix,
            ttft_p95_s=row.ttft_p95_s,
            tpot_p95_s=row.tpot_p95_s,
            host_chips=row.host_chips,
            calibration=calibration,
        )
    except ValueError:  # the catalog has lost a name
        return False
    return question.digest == row.digest


# --- exchange ratios --------------------------------------------------------------------------------------------------
def exchange_query(
    *, from_chip: str, to_chips: Sequence[str], model: str, mix: str, ttft_p95_s: float, tpot_p95_s: float
) -> dict[str, Any]:
    """Return what one host of a chip equals in hosts of others, from stored ratings; what is missing is rated now.

    Raises UnknownNameError, before anything is rated.
    """
    limits = {"model": model, "mix": mix, "ttft_p95_s": ttft_p95_s, "tpot_p95_s": tpot_p95_s}
    used = calibration_current()
    questions = [
        rating_question(chip=chip, calibration=used, **limits)  # type: ignore[arg-type]
        for chip in (from_chip, *to_chips)
    ]
    known = ratings_lookup(questions)
    one, *others = (known.get(question.digest) or rating_get_or_compute(question) for question in questions)
    return {
        **limits,
        "model": one.model,
        "mix": one.mix,
        "start": side_dict(one),
        "rows": exchange_rows(one, others),
        **VERSIONS,
    }


def exchange_rows(one: StoredRating, others: Sequence[StoredRating]) -> list[dict[str, Any]]:
    """Return what one host of a rated chip equals in hosts of others for the same model, mix and limits."""
    rows = []
    for other in others:
        ours, theirs = host_rates(one), host_rates(other)
        slo = Slo(one.ttft_p95_s, one.tpot_p95_s)
        found = exchange_of(ours, theirs, model=one.model, mix=one.mix, slo=slo)
        rows.append(
            {
                "to": side_dict(other),
                **{
                    name: None if band is None else asdict(band)
                    for name, band in (
                        ("prefill", found.prefill), ("decode", found.decode), ("service", found.service)
                    )
                },
                "refusal": found.refusal,
            }
        )  # fmt: skip
    return rows


def side_dict(row: StoredRating) -> dict[str, Any]:
    """Return one side of an exchange: the host, what it does in each phase in which config, and what binds."""
    return {
        "chip": row.chip,
        "host_chips": row.host_chips,
        "binds": row.binds,
        "basis": row.basis,
        **{name: phase_shown(row.payload[name]) for name in ("prefill", "decode", "service")},
        "digest": row.digest,
    }


def phase_shown(values: dict[str, Any]) -> dict[str, Any]:
    """Return a stored phase of a host as it is shown; a refusal has no rate."""
    is_refused = bool(values["refusal"])
    return {"tok_s": None if is_refused else values["tok_s"], "config": values["label"], "refusal": values["refusal"]}


def host_rates(row: StoredRating) -> HostRates:
    """Return what one host does, as it is stored."""
    prefill, decode, service = (
        HostRate(Band(**values["tok_s"]), values["label"], values["refusal"])
        for values in (row.payload[name] for name in ("prefill", "decode", "service"))
    )
    return HostRates(row.chip, row.host_chips, prefill, decode, service)


# --- the catalog ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Counts:
    """Pairs with a rate and pairs without one. [-]"""

    rated: int
    refused: int


@dataclass(frozen=True, slots=True)
class Catalog:
    """A request to rate pairs: its batches are those that carry its uid; what was stored already is in none."""

    uid: uuid.UUID
    pairs: int
    stored: int
    batches: int


@dataclass(frozen=True, slots=True)
class CatalogState:
    """How far a catalog is: failed if a batch is and all have ended, done when all are."""

    status: str
    progress_ratio: float
    counts: Counts
    error: str

    @property
    def has_ended(self) -> bool:
        """Whether it is known what came of it."""
        return self.status in RatingBatch.ENDED


def catalog_check(questions: Sequence[RatingQuestion]) -> list[RatingQuestion]:
    """Return those of some questions that are not stored yet."""
    by_digest = {question.digest: question for question in questions}
    digests, known = list(by_digest), set()
    for at in range(0, len(digests), LOOKUP_ROWS):
        rows = StoredRating.objects.filter(digest__in=digests[at : at + LOOKUP_ROWS])
        known |= set(rows.values_list("digest", flat=True))
    return [question for digest, question in by_digest.items() if digest not in known]


def catalog_submit(questions: Sequence[RatingQuestion], missing: Sequence[RatingQuestion]) -> Catalog:
    """Have what is not stored yet rated in batches, and send their ids once they are certain.

    A batch has one mix and one set of limits. Slow pairs are spread over batches: they are dealt out like cards.
    """
    uid, made = uuid.uuid4(), []
    alike: dict[tuple[str, Slo], list[list[str]]] = {}
    for question in missing:
        alike.setdefault((question.mix.name, question.slo), []).append([question.chip.slug, question.model.slug])
    for (mix, slo), pairs in alike.items():
        count = -(-len(pairs) // BATCH_PAIRS)
        made += [
            RatingBatch(catalog=uid, pairs=pairs[at::count], mix=mix, ttft_p95_s=slo.ttft_s, tpot_p95_s=slo.tpot_s)
            for at in range(count)
        ]
    with transaction.atomic():
        kept = RatingBatch.objects.bulk_create(made)
        transaction.on_commit(lambda: BATCHES.send_all(batch.pk for batch in kept))
    return Catalog(uid, pairs=len(questions), stored=len(questions) - len(missing), batches=len(kept))


def catalog_state(uid: uuid.UUID) -> CatalogState:
    """Return how far the batches of a catalog are."""
    columns = ("status", "progress_ratio", "rated", "refused", "error", "pk")
    rows = list(RatingBatch.objects.filter(catalog=uid).order_by("pk").values_list(*columns))
    statuses = Counter(status for status, *_ in rows)
    counts = Counts(sum(row[2] or 0 for row in rows), sum(row[3] or 0 for row in rows))
    progress_ratio = sum(row[1] for row in rows) / len(rows) if rows else 1.0
    error = next((f"batch {row[5]}: {row[4]}" for row in rows if row[0] == Status.FAILED), "")
    if sum(statuses[status] for status in RatingBatch.ENDED) == len(rows):
        return CatalogState(Status.FAILED if error else Status.DONE, progress_ratio, counts, error)
    status = Status.QUEUED if statuses[Status.QUEUED] == len(rows) else Status.RUNNING
    return CatalogState(status, progress_ratio, counts, error)


def batch_compute(batch_id: int, *, on_progress: Progress) -> Counts:
    """Rate the pairs of a batch that are not stored yet, and count them all: the same however often it is begun."""
    batch = RatingBatch.objects.get(pk=batch_id)
    limits: dict[str, Any] = {"mix": batch.mix, "ttft_p95_s": batch.ttft_p95_s, "tpot_p95_s": batch.tpot_p95_s}
    used = calibration_current()
    questions = [rating_question(chip=chip, model=model, calibration=used, **limits) for chip, model in batch.pairs]
    refusals = {digest: bool(row.refusal) for digest, row in ratings_lookup(questions).items()}
    for at, question in enumerate(questions):
        on_progress(at / len(questions), "rate")
        if question.digest not in refusals:
            refusals[question.digest] = bool(rating_get_or_compute(question).refusal)
    on_progress(1.0, "store")
    refused_pairs = sum(refusals[question.digest] for question in questions)
    return Counts(rated=len(questions) - refused_pairs, refused=refused_pairs)
