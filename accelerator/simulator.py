"""The simulator's face: a plan and a workload in, an outcome out. The kernels are ``_des.pyx`` and its plain twin."""

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import replace
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelerator.errors import ConfigError
from accelerator.kernels import kernel_load
from accelerator.ledger import Ledger
from accelerator.outcome import Outcome
from accelerator.requests import Workload
from accelerator.simulation import LoadKind, Plan, Progress

EVENTS_PER_TURN = 2_000_000
"""Events after which a kernel returns, so that progress is shown and Ctrl-C is heard."""

LONGEST_TOK = 1_000_000_000
"""Longest prompt or answer that a kernel takes; longer ones are refused as over the context anyway. [tok]"""

MOST_PRIORITY = 1 << 20

LATEST_S = 1e9
"""Latest arrival, some thirty years: beyond it a clock of 53 bits no longer tells microseconds apart. [s]"""

LEAST_INTERVAL_S = 2.0**-20

TIMELINE_SAMPLES = 256
"""Samples that a timeline is meant to have when the span of a workload is known."""

NONE = np.zeros(0, dtype=np.int64)

DES = kernel_load(kernel="des")


def simulate(
    plan: Plan,
    workload: Workload | Iterable[Workload],
    *,
    clients: int = 0,
    keep_requests: bool = False,
    on_progress: Callable[[int], None] | None = None,
    kernel: ModuleType | None = None,
) -> Outcome:
    """Simulate a workload and return what came out.

    Parameters
    ----------
    plan : Plan
        Pools, router, load, changes, limits, seed.
    workload : Workload or iterable of Workload
        Requests; an iterable is read piece by piece, and one piece is in memory at a time.
    clients : int
        Tenants are counted apart if there are any: ids from 0 to clients - 1. Taken from a workload that is whole.
    keep_requests : bool
        Keep what became of each request; for a workload that is whole.
    on_progress : callable, optional
        Called with the requests that have arrived so far, every few million events.
    kernel : module, optional
        The plain twin instead of the compiled kernel.

    Raises
    ------
    ConfigError
        If arrivals of an open load fall, or numbers are beyond what a kernel takes.
    """
    if isinstance(workload, Workload):
        plan = _known_beforehand(plan, workload)
        if workload.client_id is not None and not clients:
            clients = int(workload.client_id.max(initial=-1)) + 1
        pieces: Iterator[Workload] = iter((workload,))
    elif keep_requests:
        raise ConfigError("requests are kept of a whole workload only, not of pieces")
    else:
        plan = replace(plan, timeline_s=plan.timeline_s or 1.0)
        pieces = iter(workload)
    kept = _kept_columns(plan.requests) if keep_requests else None
    replicas = sum(pool.replicas for pool in plan.pools)
    ledger = Ledger.empty(replicas=replicas, pools=len(plan.pools), slos=len(plan.slos), clients=clients)
    engine = (kernel or DES).Engine(plan, ledger, kept)
    piece, last_s = next(pieces, None), -math.inf
    while True:
        progress = engine.run(EVENTS_PER_TURN)
        if progress == Progress.HUNGRY:
            following = next(pieces, None)
            if piece is None:
                raise ConfigError("a workload without requests")
            columns = _columns(piece, plan, last_s, clients)
            last_s = float(piece.arrival_s[-1]) if len(piece) else last_s
            engine.feed(*columns, last=following is None)
            piece = following
        elif progress != Progress.PAUSED:
            if kept is not None and isinstance(workload, Workload):
                kept["output_tok"] = workload.output_tok
            return Outcome.of(plan, Progress(progress), ledger, kept)
        if on_progress:
            on_progress(int(ledger.arrived[0]))


def _known_beforehand(plan: Plan, workload: Workload) -> Plan:
    """Return the plan with what the whole workload tells: its length, and an interval for the timeline."""
    if not len(workload):
        raise ConfigError(f"workload {workload.name}: no requests")
    span_s = float(workload.arrival_s[-1]) if plan.load.kind == LoadKind.OPEN else 0.0
    return replace(plan, requests=len(workload), timeline_s=plan.timeline_s or timeline_interval_s(span_s))


def timeline_interval_s(span_s: float) -> float:
    """Return an interval, a power of two, at which a span of arrivals has at most 256 samples; 1 without a span. [s]"""
    if not 0 <= span_s <= LATEST_S:
        raise ConfigError(f"requests arrive within {LATEST_S:g} s, not {span_s:g}")
    return max(2.0 ** math.ceil(math.log2(span_s / TIMELINE_SAMPLES)), LEAST_INTERVAL_S) if span_s > 0 else 1.0


def _columns(piece: Workload, plan: Plan, last_s: float, clients: int) -> tuple[NDArray[Any], ...]:
    """Return the columns of a piece as a kernel takes them, checked."""
    if plan.load.kind == LoadKind.OPEN and len(piece):
        arrival_s = piece.arrival_s
        if not (arrival_s[0] >= max(last_s, 0.0) and arrival_s[-1] <= LATEST_S):
            raise ConfigError(
                f"workload {piece.name}: arrivals lie between {max(last_s, 0.0):g} and {LATEST_S:g} s, not "
                f"{arrival_s[0]:g} to {arrival_s[-1]:g}"
            )
        if np.any(arrival_s[1:] < arrival_s[:-1]) or np.isnan(arrival_s).any():
            raise ConfigError(f"workload {piece.name}: arrivals fall")
    for name, column in (("input_tok", piece.input_tok), ("output_tok", piece.output_tok)):
        if len(piece) and (column.min() < 0 or column.max() > LONGEST_TOK):
            raise ConfigError(f"workload {piece.name}: {name} lies between 0 and {LONGEST_TOK}")
    client, priority = NONE, NONE
    if piece.client_id is not None and clients:
        client = piece.client_id
        if len(client) and not (client.min() >= 0 and client.max() < clients):
            raise ConfigError(f"workload {piece.name}: client_id lies between 0 and {clients - 1}")
    if piece.priority is not None:
        priority = piece.priority
        if len(priority) and (priority.min() < -MOST_PRIORITY or priority.max() > MOST_PRIORITY):
            raise ConfigError(f"workload {piece.name}: priorities lie within {MOST_PRIORITY}")
    ids, ends = NONE, NONE
    if piece.prefix_hashes is not None:
        ends = np.cumsum([len(prefix) for prefix in piece.prefix_hashes], dtype=np.int64)
        ids = np.array([block for prefix in piece.prefix_hashes for block in prefix], dtype=np.int64)
    return piece.arrival_s, piece.input_tok, piece.output_tok, client, priority, ids, ends


def _kept_columns(requests: int) -> dict[str, NDArray[Any]]:
    return {
        **{name: np.full(requests, math.nan) for name in ("arrival_s", "first_s", "finish_s")},
        "replica": np.full(requests, -1, dtype=np.int64),
        "preemptions": np.zeros(requests, dtype=np.int64),
        "fate": np.zeros(requests, dtype=np.int64),
    }
