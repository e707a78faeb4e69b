"""Stored ratings: each is computed once, by whoever asks first, and then looked up by the digest of its inputs.

Many are rated in batches that workers share: the whole catalog on command, or what planners miss when they ask
(`ratings_ask`). What a batch has stored stays, so a batch that is taken over goes on where it was left, and a catalog
that is asked for again costs look-ups.
"""

import hashlib
import logging
import math
import time
import uuid
from collections import Counter
from collections.abc import Container, Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from datetime import timedelta
from typing import Any

from django.db import DatabaseError, transaction
from django.db.models import Q
from django.utils import timezone

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
    Workload,
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
from scenarios.models import RatingBatch, StoredRating, Trace
from scenarios.pipelines import Progress

logger = logging.getLogger(__name__)

BATCHES = Queue(RatingBatch, task="scenarios.tasks.ratings_execute")

BATCH_PAIRS = 64
"""Pairs of a batch: a worker needs some five seconds for them, and half a minute if each takes its longest."""

LOOKUP_ROWS = 500
"""Digests of one look-up: data bases limit the parameters of a query."""

MIX, TTFT_P95_S, TPOT_P95_S, PERCENTILE = "azure-conv", 2.0, 0.05, 0.95
"""What is rated where nobody says otherwise: conversations, and limits that a chat keeps, at the usual percentile."""

EXCHANGE_MOST = 12
"""Other chips of one request for exchange ratios: each may have to be rated first, in a fraction of a second."""

RETRY_S = 3600.0
"""A batch that failed is not begun again for so long, however often its ratings are missed. [s]"""

CATALOGS = uuid.UUID("6f1c8a52-94c0-4c0e-9f2e-6c1d5a7be0d3")
"""Name space of catalogs that answers wait for: the same missing ratings are the same catalog."""

VERSIONS = {"rating_version": RATING_VERSION, "goodput_version": GOODPUT_VERSION}

Status = RatingBatch.Status


@dataclass(frozen=True, slots=True)
class RatingQuestion:
    """What is rated: a chip for a model, a mix and limits, on hosts of so many chips, by which calibration.

    `trace_digest` is that of the recorded workload which the mix is of; empty: the mix is a built-in profile.
    """

    chip: ChipSpec
    model: ModelSpec
    mix: TokenMix
    slo: Slo
    host_chips: int
    calibration: ServingCalibration = field(repr=False)
    trace_digest: str = ""

    @property
    def digest(self) -> str:
        """SHA-256 of everything that the rating follows from."""
        return goodput_digest(
            self.chip,
            self.model,
            self.mix,
            self.slo,
            host_chips=self.host_chips,
            calibration=self.calibration,
            workload_digest=self.trace_digest,
        )


def rating_question(
    *,
    chip: str,
    model: str,
    mix: str,
    ttft_p95_s: float,
    tpot_p95_s: float,
    host_chips: int | None = None,
    percentile: float = PERCENTILE,
    calibration: ServingCalibration | None = None,
) -> RatingQuestion:
    """Return a question by names of the catalog; without `host_chips` the chip's usual host is meant.

    Limits hold at `percentile`; their names are of the usual one.

    Without a calibration the one in use is read: who asks much reads it once.

    Raises UnknownNameError, or AcceleratorError for limits that are none.
    """
    spec = chip_get(chip)
    if not (math.isfinite(ttft_p95_s) and math.isfinite(tpot_p95_s)):
        raise AcceleratorError(f"limits are finite: {ttft_p95_s} and {tpot_p95_s}")
    slo = Slo(ttft_p95_s, tpot_p95_s, percentile)
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


def rating_keep(question: RatingQuestion, workload: Workload | None = None) -> StoredRating:
    """Compute a rating and store it, or return the one that another stored meanwhile.

    `workload` holds the lengths of a mix that is recorded; it is read if it is left out.
    """
    start_s = time.perf_counter()
    if question.trace_digest and workload is None:
        workload, _ = trace_read(question.trace_digest)
    rating, payload = rating_work(question, workload)
    kept, _ = StoredRating.objects.get_or_create(
        digest=question.digest,
        defaults={
            "chip": question.chip.slug,
            "model": question.model.slug,
            "mix": question.mix.name,
            "trace_digest": question.trace_digest,
            "ttft_p95_s": question.slo.ttft_s,
            "tpot_p95_s": question.slo.tpot_s,
            "percentile": question.slo.percentile,
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


def rating_work(question: RatingQuestion, workload: Workload | None) -> tuple[Rating, dict[str, Any]]:
    """Return a rating, and all that is stored of it; it follows from the question alone."""
    asked = question_of(
        question.chip,
        question.model,
        question.mix,
        question.slo,
        workload=workload if question.trace_digest else None,
        calibration=question.calibration,
    )
    rating = rating_compute(question, asked)
    phases = host_phases(asked, host_chips=question.host_chips)  # without a rating too: one phase may work alone
    payload = {"rating": rating.as_dict(), **dict(zip(("prefill", "decode"), map(asdict, phases), strict=True))}
    payload["service"] = asdict(host_service(rating, question.host_chips))
    payload["mix"] = question.mix.as_dict()
    return rating, payload


def trace_read(digest: str) -> tuple[Workload, TokenMix]:
    """Return a recorded workload and its mix; ValueError if it has been deleted."""
    trace = Trace.objects.filter(digest=digest).first()
    if trace is None:
        raise ValueError(f"the trace {digest[:12]} is not there any more: its requests cannot be rated")
    return Workload.from_bytes(bytes(trace.arrays), trace.name), TokenMix.from_dict(trace.mix)


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
        mix = TokenMix.from_dict(row.payload["mix"]) if row.trace_digest else profile_mix(row.mix)
        question = RatingQuestion(
            chip_get(row.chip),
            model_get(row.model),
            mix,
            Slo(row.ttft_p95_s, row.tpot_p95_s, row.percentile),
            row.host_chips,
            calibration or calibration_current(),
            row.trace_digest,
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
    uid = uuid.uuid4()
    with transaction.atomic():
        kept = RatingBatch.objects.bulk_create(_batches(uid, missing))
        transaction.on_commit(lambda: BATCHES.send_all(batch.pk for batch in kept))
    return Catalog(uid, pairs=len(questions), stored=len(questions) - len(missing), batches=len(kept))


def _batches(uid: uuid.UUID, missing: Sequence[RatingQuestion]) -> list[RatingBatch]:
    """Return the batches of some questions, not stored yet."""
    alike: dict[tuple[str, str, Slo], list[RatingQuestion]] = {}
    for question in missing:
        alike.setdefault((question.mix.name, question.trace_digest, question.slo), []).append(question)
    made = []
    for those in alike.values():
        count = -(-len(those) // BATCH_PAIRS)
        made += [_batch(uid, those[at::count]) for at in range(count)]
    return made


def _batch(uid: uuid.UUID, alike: Sequence[RatingQuestion]) -> RatingBatch:
    """Return one batch of questions with the same mix and limits."""
    first = alike[0]
    return RatingBatch(
        catalog=uid,
        pairs=[_pair(question) for question in alike],
        digests=[question.digest for question in alike],
        mix=first.mix.name,
        trace_digest=first.trace_digest,
        ttft_p95_s=first.slo.ttft_s,
        tpot_p95_s=first.slo.tpot_s,
        percentile=first.slo.percentile,
    )


def _pair(question: RatingQuestion) -> list[str | int]:
    pair: list[str | int] = [question.chip.slug, question.model.slug]
    return pair if question.host_chips == question.chip.host_chips else [*pair, question.host_chips]


def ratings_ask(missing: Mapping[str, RatingQuestion]) -> uuid.UUID | None:
    """Have ratings that an answer missed, by digest, computed behind it; return the catalog to look at, if any.

    What is under way already, or has just failed, is not begun again: the same question asked twice, by however many at
    once, starts one catalog. An answer does not fail for want of this: where the database takes no row, None is
    returned too, and who asks next starts the catalog.
    """
    if not missing:
        return None
    known = _under_way(missing)  # nothing is written where all is under way: who asks does not wait for a writer
    left = [question for digest, question in missing.items() if digest not in known]
    if not left:
        return max(known.values())[1]
    try:
        with transaction.atomic():
            return _catalog_begin(left)
    except DatabaseError as error:
        logger.warning("%d ratings are not begun: %s", len(missing), error)
        return None


def _under_way(wanted: Container[str]) -> dict[str, tuple[int, uuid.UUID]]:
    """Return the batch and the catalog of questions that are in one which has not ended, or has just failed."""
    late = timezone.now() - timedelta(seconds=RETRY_S)
    is_open = Q(status__in=(Status.QUEUED, Status.RUNNING)) | Q(status=Status.FAILED, finished_at__gte=late)
    rows = RatingBatch.objects.filter(is_open).order_by("pk").values_list("pk", "catalog", "digests")
    return {digest: (pk, uid) for pk, uid, digests in rows for digest in digests if digest in wanted}


def _catalog_begin(missing: Sequence[RatingQuestion]) -> uuid.UUID:
    """Store the batches of what is missing, once whoever else does so too, and send them once they are certain."""
    uid = uuid.uuid5(CATALOGS, _digest_of(question.digest for question in missing))
    made = _batches(uid, missing)
    for batch in made:
        batch.digest = _digest_of(batch.digests)
    RatingBatch.objects.bulk_create(made, ignore_conflicts=True)
    waiting = RatingBatch.objects.filter(catalog=uid, status=Status.QUEUED, sent_at=None)
    ids = list(waiting.order_by("pk").values_list("pk", flat=True))
    transaction.on_commit(lambda: BATCHES.send_all(ids))
    return uid


def _digest_of(digests: Iterable[str]) -> str:
    return hashlib.sha256("\n".join(sorted(digests)).encode()).hexdigest()


def catalog_is_known(uid: uuid.UUID) -> bool:
    """Return whether a catalog has any batch."""
    return RatingBatch.objects.filter(catalog=uid).exists()


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
    used, slo = calibration_current(), Slo(batch.ttft_p95_s, batch.tpot_p95_s, batch.percentile)
    workload, mix = trace_read(batch.trace_digest) if batch.trace_digest else (None, profile_mix(batch.mix))
    questions = []
    for chip, model, *host_chips in batch.pairs:
        spec = chip_get(chip)
        usual = host_chips[0] if host_chips else spec.host_chips
        questions.append(RatingQuestion(spec, model_get(model), mix, slo, usual, used, batch.trace_digest))
    refusals = {digest: bool(row.refusal) for digest, row in ratings_lookup(questions).items()}
    for at, question in enumerate(questions):
        on_progress(at / len(questions), "rate")
        if question.digest not in refusals:
            refusals[question.digest] = bool((rating_lookup(question) or rating_keep(question, workload)).refusal)
    on_progress(1.0, "store")
    refused_pairs = sum(refusals[question.digest] for question in questions)
    return Counts(rated=len(questions) - refused_pairs, refused=refused_pairs)
