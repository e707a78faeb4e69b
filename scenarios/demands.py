"""The demand of services: histories as they are stored, forecasts for a snapshot, and the stated coverage."""

import csv
import hashlib
import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from datetime import UTC, date, datetime
from functools import lru_cache
from pathlib import Path

from django.contrib.auth.models import User
from django.db import transaction

from accelerator import Workload, profile_mix
from fleet.models import Service
from fleet.snapshot import FleetSnapshot, ServiceFact
from scenarios.backtests import Score, backtest
from scenarios.forecast import (
    HISTORY_LEAST_S,
    DemandFan,
    Outlook,
    fan_history,
    fan_stated,
    fan_with_events,
    fan_with_overrides,
    outlook_fit,
)
from scenarios.histories import History, history_of_arrivals
from scenarios.models import DemandHistory, Trace

COVERAGE_PATH = Path(__file__).parent / "data" / "demand_coverage.csv"
NAME_MOST = 120
FITS_KEPT = 256


class HistoryChangedError(Exception):
    """Somebody else has written the history meanwhile; nothing was kept."""


# --- forecasts --------------------------------------------------------------------------------------------------------
@dataclass(frozen=True)
class DemandView:
    """The demand of a service with what people know better, as the model alone says it, and its history."""

    fan: DemandFan
    model: DemandFan
    history: DemandHistory | None


def demand_fans(snapshot: FleetSnapshot, months: Sequence[date]) -> tuple[DemandFan, ...]:
    """Return the demand of every service of a snapshot in some months, in their order: one query, and fits are kept."""
    return tuple(view.fan for view in demand_views(snapshot.services, snapshot, months))


def histories_digest(services: Sequence[ServiceFact]) -> str:
    """Return the digest of all stored histories of some services: what beside a snapshot their demand follows from."""
    asked = [service.slug for service in services]
    rows = DemandHistory.objects.filter(service__slug__in=asked).order_by("service__slug")
    return hashlib.sha256(json.dumps(list(rows.values_list("service__slug", "digest"))).encode()).hexdigest()


def demand_views(
    services: Sequence[ServiceFact], snapshot: FleetSnapshot, months: Sequence[date]
) -> tuple[DemandView, ...]:
    """Return the demand of some services of a snapshot with what the model alone says."""
    asked = [service.slug for service in services]
    rows = DemandHistory.objects.filter(service__slug__in=asked).select_related("service", "owner").defer("arrays")
    stored = {row.service.slug: row for row in rows}
    return tuple(_view(service, snapshot, tuple(months), stored.get(service.slug)) for service in services)


def _view(
    service: ServiceFact, snapshot: FleetSnapshot, months: tuple[date, ...], stored: DemandHistory | None
) -> DemandView:
    mix = profile_mix(service.profile)
    lengths = {"input_tok": mix.input_tok, "output_tok": mix.output_tok}
    if stored is None or (stored.ends_at - stored.starts_at).total_seconds() < HISTORY_LEAST_S:
        model = fan_stated(service, months, **lengths)
    else:
        growths = (service.growth_low_ratio, service.growth_ratio, service.growth_high_ratio)
        history, outlook = fitted(stored.digest, growths)
        model = fan_history(outlook, service.slug, months, history=history, **lengths)
    fan = fan_with_events(model, months, snapshot.demand_events)
    return DemandView(fan_with_overrides(fan, months, snapshot.demand_overrides), model, stored)


@lru_cache(maxsize=FITS_KEPT)
def fitted(digest: str, growths: tuple[float, float, float]) -> tuple[History, Outlook]:
    """Return a stored history by its digest, with its fit: equal digests hold equal arrays, so both are kept."""
    arrays = DemandHistory.objects.filter(digest=digest).values_list("arrays", flat=True)[0]
    history = History.from_bytes(bytes(arrays))
    return history, outlook_fit(history, growths)


# --- histories --------------------------------------------------------------------------------------------------------
def history_store(
    service: Service,
    history: History,
    *,
    name: str,
    owner: User | None,
    note: str = "",
    is_new: bool = False,
    is_invented: bool = False,
) -> DemandHistory:
    """Keep a history with its backtest: joined to the one that is there, or instead of it. All of it or nothing.

    The backtest takes seconds and is made before anything is locked: HistoryChangedError if somebody writes meanwhile.
    """
    present = DemandHistory.objects.filter(service=service).first()
    whole = history if present is None or is_new else History.from_bytes(bytes(present.arrays)).joined(history)
    scores = [asdict(score) for score in backtest(whole, service.slug)]
    values = {
        "name": name[:NAME_MOST],
        "digest": whole.digest,
        "starts_at": datetime.fromtimestamp(whole.start_s, UTC),
        "ends_at": datetime.fromtimestamp(whole.end_s, UTC),
        "window_s": whole.window_s,
        "windows": whole.known,
        "arrays": whole.to_bytes(),
        "scores": scores,
        "note": note,
        "is_invented": is_invented,
        "owner": owner,
    }
    with transaction.atomic():
        now = DemandHistory.objects.select_for_update().filter(service=service).first()
        if (now and now.digest) != (present and present.digest):
            raise HistoryChangedError("somebody else has written this history meanwhile")
        return DemandHistory.objects.update_or_create(service=service, defaults=values)[0]


def history_of_trace(trace: Trace, *, starts_at: datetime, window_s: int) -> History:
    """Return the requests of a stored trace, counted in windows from a moment on."""
    workload = Workload.from_bytes(bytes(trace.arrays), trace.name)
    return history_of_arrivals(
        workload.arrival_s,
        workload.input_tok.astype(float),
        workload.output_tok.astype(float),
        start_s=int(starts_at.timestamp()),
        window_s=window_s,
    )


# --- the stated coverage ----------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class Coverage:
    """Scores of published series as they were computed, with the day and the source."""

    computed_on: date
    source: str
    scores: tuple[Score, ...]

    def of_rest(self, what: str) -> float | None:
        """Return the coverage over all windows that no prior was found on, each origin counting once. [-]"""
        return coverage_of([one for one in self.scores if one.what == what])


def coverage_of(scores: Sequence[Score]) -> float | None:
    """Return the coverage over the later part of some scores, each origin counting once; None without any. [-]"""
    rest = [one for one in scores if one.part == "rest"]
    count = sum(one.origins for one in rest)
    return sum(one.coverage_ratio * one.origins for one in rest) / count if count else None


def scores_of(stored: DemandHistory) -> list[Score]:
    """Return the scores of a history's own backtest."""
    return [Score(**score) for score in stored.scores]


@lru_cache(maxsize=1)
def coverage_load() -> Coverage:
    """Return the stated coverage that comes with the product."""
    with COVERAGE_PATH.open(newline="") as file:
        rows = list(csv.DictReader(file))
    return Coverage(
        computed_on=date.fromisoformat(rows[0]["computed_on"]),
        source=rows[0]["source"],
        scores=tuple(_score_read(row) for row in rows),
    )


def coverage_write(path: Path, scores: Sequence[Score], *, computed_on: date, source: str) -> None:
    """Write scores as the file that comes with the product."""
    with path.open("w", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        names = list(asdict(scores[0]))
        writer.writerow([*names, "computed_on", "source"])
        for score in scores:
            values = asdict(score).values()
            cells = ["" if v is None else f"{v:.4f}" if isinstance(v, float) else v for v in values]
            writer.writerow([*cells, computed_on.isoformat(), source])


def _score_read(row: dict[str, str]) -> Score:
    return Score(
        series=row["series"],
        part=row["part"],
        what=row["what"],
        horizon_s=int(row["horizon_s"]),
        origins=int(row["origins"]),
        coverage_ratio=float(row["coverage_ratio"]),
        below_ratio=float(row["below_ratio"]),
        above_ratio=float(row["above_ratio"]),
        loss_ratio=float(row["loss_ratio"]),
        last_loss_ratio=float(row["last_loss_ratio"]) if row["last_loss_ratio"] else None,
        day_before_loss_ratio=float(row["day_before_loss_ratio"]) if row["day_before_loss_ratio"] else None,
    )
