"""What came out of a simulation: figures with units from the ledger, and how parts of a fleet or of seeds add up."""

import io
import json
import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelerator.errors import ConfigError
from accelerator.ledger import Amount, Count, Fate, Latency, Ledger, Sampled, Time, quantiles_s
from accelerator.simulation import Limits, LoadKind, Plan, Progress

LEVELS = (0.5, 0.9, 0.95, 0.99)
"""Quantiles that are shown."""
LEVEL_NAMES = tuple(f"p{level * 100:g}" for level in LEVELS)

REFUSED = {
    Fate.NO_PROMPT: "no prompt",
    Fate.NO_OUTPUT: "no output asked for",
    Fate.OVER_CONTEXT: "longer than the context",
    Fate.OVER_MEMORY: "longer than the KV memory",
}
"""Why a request was refused on arrival."""

QUEUE_GREW = 1.5
"""An open load is more than is served if the queue grew by this factor while the second half arrived, and then held at
least OVERLOAD_SHARE of all requests, OVERLOAD_LEAST of them."""
OVERLOAD_SHARE, OVERLOAD_LEAST = 0.02, 20

SUMMED = ("fate", "arrived", "good", "client_count", "client_histogram")
"""Arrays of the ledger that add up as they are; histograms do so pool by pool."""


@dataclass(frozen=True)
class PoolFacts:
    """What the outcome has to know of a pool: its name, replicas, KV memory, limits and powers."""

    name: str
    role: str
    replicas: int
    kv_blocks: int
    block_tok: int
    max_seqs: int
    chips: int
    idle_w: float
    tdp_w: float


@dataclass(frozen=True, eq=False)
class Outcome:
    """Figures of one simulation, or of several merged.

    Parameters
    ----------
    pools : tuple of PoolFacts
        In the order of the ledger.
    pool_of : int64[replicas]
        Pool of each replica.
    slos : tuple of Limits
        What goodput was counted for.
    progress : Progress
        DONE, HORIZON (stopped at until_s), UNSTABLE (stopped at waiting_most) or STUCK (requests wait for replicas that
        never come up).
    is_open : bool
        Whether requests came by themselves, so that they can be more than is served.
    parts : int
        How many simulations were added up.
    duration_s : float
        From the first arrival to the last event; of parts side by side from the first to the last of all, of seeds one
        after the other. [s]
    ledger : Ledger
        All counts.
    asked : int
        Requests of the workload, arrived or not; 0 if nobody knows.
    kept : mapping of str to arrays, or None
        Per request arrival_s, first_s, finish_s [s], output_tok asked for, replica, preemptions, fate; in order of
        arrival.
    client_ids : tuple of int
        Ids of the tenants, if they are not counted from 0 on.
    """

    pools: tuple[PoolFacts, ...]
    pool_of: NDArray[np.int64]
    slos: tuple[Limits, ...]
    progress: Progress
    is_open: bool
    parts: int
    duration_s: float
    ledger: Ledger
    asked: int = 0
    kept: Mapping[str, NDArray[Any]] | None = None
    client_ids: tuple[int, ...] = ()

    @classmethod
    def of(cls, plan: Plan, progress: Progress, ledger: Ledger, kept: Mapping[str, NDArray[Any]] | None) -> "Outcome":
        """Return the outcome of one simulation that has ended."""
        return cls(
            pools=tuple(_pool_facts(plan)),
            pool_of=np.repeat(np.arange(len(plan.pools)), [pool.replicas for pool in plan.pools]),
            slos=tuple(plan.slos),
            progress=progress,
            is_open=plan.load.kind == LoadKind.OPEN,
            parts=1,
            duration_s=float(ledger.times[Time.END_S] - ledger.times[Time.BEGIN_S]),
            ledger=ledger,
            asked=plan.requests,
            kept=kept,
        )

    # --- figures ------------------------------------------------------------------------------------------------------
    @property
    def arrived(self) -> int:
        """Requests that arrived."""
        return int(self.ledger.arrived[0])

    @property
    def finished(self) -> int:
        """Requests that got all their tokens, or as many as could ever fit."""
        return int(self.ledger.fate[Fate.FINISHED] + self.ledger.fate[Fate.TRUNCATED])

    @property
    def refused(self) -> dict[str, int]:
        """Refused requests by reason."""
        return {reason: int(self.ledger.fate[fate]) for fate, reason in REFUSED.items() if self.ledger.fate[fate]}

    @cached_property
    def overload(self) -> str:
        """Why this load is more than is served; empty if it is not."""
        at_half, at_last = (self.ledger.times[place] for place in (Time.WAITING_AT_HALF, Time.WAITING_AT_LAST_ARRIVAL))
        several = f" in {self.parts} parts together" if self.parts > 1 else ""
        if self.progress == Progress.STUCK:
            return "requests wait for replicas that never come up"
        if self.progress == Progress.UNSTABLE:
            return f"stopped with {at_last:.0f} requests waiting{several}: more arrive than are served"
        grew = at_last > QUEUE_GREW * at_half and at_last >= max(OVERLOAD_LEAST, OVERLOAD_SHARE * self.arrived)
        if self.is_open and grew and self.ledger.times[Time.LAST_ARRIVAL_S] > self.ledger.times[Time.BEGIN_S]:
            return f"the queue grew from {at_half:.0f} to {at_last:.0f} requests{several} while the second half arrived"
        return ""

    def rate(self, amount: float) -> float:
        """Return an amount per second of simulated time; NaN if no time passed. [1/s]"""
        return amount / self.duration_s if self.duration_s else math.nan

    def latency_s(
        self, kind: Latency, levels: Sequence[float] = LEVELS, pool: int | None = None
    ) -> NDArray[np.float64]:
        """Return quantiles of a latency, of one pool or of all; NaN without samples. [s]"""
        return self._latencies(pool, levels)[0][kind]

    def latencies(self, pool: int | None = None) -> dict[str, dict[str, float | int | None]]:
        """Return mean, quantiles, maximum and samples of each latency, of one pool or of all. [s]"""
        columns = (column.tolist() for column in self._latencies(pool, LEVELS))
        return {
            f"{kind.name.lower()}_s": {
                "samples": samples,
                "mean": _known(mean_s),
                **dict(zip(LEVEL_NAMES, map(_known, quantiles), strict=True)),
                "max": max_s if samples else None,
            }
            for kind, quantiles, samples, mean_s, max_s in zip(Latency, *columns, strict=True)
        }

    def _latencies(self, pool: int | None, levels: Sequence[float]) -> tuple[NDArray[Any], ...]:
        """Return quantiles, samples, means and maxima of all latencies, of one pool or of all."""
        ledger = self.ledger
        one = len(self.pools) == 1
        mine = slice(None) if pool is None or one else self.pool_of == pool
        histogram = ledger.histogram.sum(axis=0) if pool is None and not one else ledger.histogram[pool or 0]
        max_s = ledger.latency_max_s[mine].max(axis=0)
        samples = np.add.reduce(histogram, axis=1)
        with np.errstate(invalid="ignore"):
            mean_s = ledger.latency_sum_s[mine].sum(axis=0) / samples
        quantiles = quantiles_s(histogram, np.asarray(levels), max_s)
        if self.kept is not None and (pool is None or one):
            for kind, values in self.exact.items():
                if len(values):
                    quantiles[kind] = np.quantile(values, levels, method="inverted_cdf")
        return quantiles, samples, mean_s, max_s

    @property
    def exact(self) -> dict[Latency, NDArray[np.float64]]:
        """Latencies, where requests were kept: TTFT of all that got a token, the others of those that ended. [s]"""
        if self.kept is None:
            raise ConfigError("requests were not kept")
        kept = self.kept
        e2e_s, ttft_s = kept["finish_s"] - kept["arrival_s"], kept["first_s"] - kept["arrival_s"]
        exact = {Latency.TTFT: ttft_s[~np.isnan(ttft_s)], Latency.E2E: e2e_s[~np.isnan(e2e_s)]}
        if not np.any(kept["fate"] == Fate.TRUNCATED):  # how many tokens those got is not kept
            several = ~np.isnan(e2e_s) & (kept["output_tok"] > 1)
            tpot_s = (kept["finish_s"] - kept["first_s"])[several] / (kept["output_tok"][several] - 1)
            exact[Latency.TPOT] = tpot_s
        return exact

    def pool_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the figures of each pool."""
        for number, facts in enumerate(self.pools):
            mine = self.pool_of == number
            count = dict(zip(Count, self.ledger.count[mine].T, strict=True))
            total = {what: int(values.sum()) for what, values in count.items()}
            amount = dict(zip(Amount, self.ledger.amount[mine].sum(axis=0).tolist(), strict=True))
            busy_s, on_s = amount[Amount.BUSY_S], amount[Amount.ON_S]
            energy_j = facts.chips * (facts.idle_w * on_s + (facts.tdp_w - facts.idle_w) * amount[Amount.ACTIVE_S])
            kv_tok = float(facts.kv_blocks * facts.block_tok)
            yield {
                "name": facts.name,
                "role": facts.role,
                "replicas": facts.replicas,
                "chips": facts.replicas * facts.chips,
                "routed": total[Count.ROUTED],
                "finished": total[Count.FINISHED],
                "prefill_tok": total[Count.PREFILL_TOK],
                "output_tok": total[Count.OUTPUT_TOK],
                "steps": total[Count.STEPS],
                "on_s": on_s,
                "busy_s": busy_s,
                "lost_s": amount[Amount.LOST_S],
                "busy_ratio": _share(busy_s, on_s),
                "mean_decoding": _share(amount[Amount.DECODE_SEQ_S], busy_s),
                "mean_running": _share(amount[Amount.DECODE_SEQ_S] + amount[Amount.PROMPT_SEQ_S], busy_s),
                "peak_running": int(count[Count.PEAK_RUNNING].max()),
                "peak_waiting": int(count[Count.PEAK_WAITING].max()),
                "kv_mean_ratio": _share(amount[Amount.KV_TOK_S], busy_s * kv_tok),
                "kv_peak_ratio": float(count[Count.PEAK_BLOCKS].max()) / facts.kv_blocks,
                "preemptions": total[Count.PREEMPTIONS],
                "recomputed_tok": total[Count.RECOMPUTED_TOK],
                "prefix_looked_up_tok": total[Count.LOOKED_UP_TOK],
                "prefix_hit_tok": total[Count.HIT_TOK],
                "prefix_hit_ratio": _share(total[Count.HIT_TOK], total[Count.LOOKED_UP_TOK]),
                "failed_over": total[Count.FAILED_OVER],
                "transfers": total[Count.TRANSFERS],
                "transfer_s": amount[Amount.TRANSFER_S],
                "energy_j": _known(energy_j),
                "power_w": _share(energy_j, self.duration_s),
                **self.latencies(number),
            }

    def client_rows(self) -> Iterator[dict[str, Any]]:
        """Yield the figures of each tenant of whom a request finished. Quantiles are within 1/16."""
        levels = np.asarray(LEVELS)
        for client, (finished, input_tok, output_tok, *good) in enumerate(self.ledger.client_count.tolist()):
            if finished:
                yield {
                    "client": self.client_ids[client] if self.client_ids else client,
                    "finished": finished,
                    "input_tok": input_tok,
                    "output_tok": output_tok,
                    "good_of_finished_ratio": [met / finished for met in good],
                    **{
                        name: dict(zip(LEVEL_NAMES, map(_known, values), strict=True))
                        for name, values in zip(
                            ("ttft_s", "tpot_s", "e2e_s"),
                            quantiles_s(self.ledger.client_histogram[client], levels, np.full(3, math.inf)),
                            strict=True,
                        )
                    },
                }

    def timeline_rows(self) -> Iterator[dict[str, Any]]:
        """Yield what was sampled: per moment and pool running, waiting, KV, replicas up, and counts from the start."""
        interval_s = float(self.ledger.times[Time.INTERVAL_S])
        for number, sample in enumerate(self.ledger.timeline[: int(self.ledger.times[Time.SAMPLES])]):
            for facts, values in zip(self.pools, sample, strict=True):
                yield {
                    "at_s": number * interval_s,
                    "pool": facts.name,
                    "running": int(values[Sampled.RUNNING]),
                    "waiting": int(values[Sampled.WAITING]),
                    "kv_ratio": values[Sampled.KV_BLOCKS] / (facts.kv_blocks * facts.replicas),
                    "replicas_up": int(values[Sampled.UP]),
                    "output_tok": int(values[Sampled.OUTPUT_TOK]),
                    "finished": int(values[Sampled.FINISHED]),
                }

    def request_rows(self) -> Iterator[dict[str, Any]]:
        """Yield what became of each request, where requests were kept; None: it did not come to that."""
        if self.kept is None:
            raise ConfigError("requests were not kept")
        names = ("arrival_s", "first_s", "finish_s", "replica", "preemptions", "fate")
        for number, values in enumerate(zip(*(self.kept[name].tolist() for name in names), strict=True)):
            row = dict(zip(names, values, strict=True))
            yield {
                "request": number,
                **{name: _known(row[name]) for name in names[:3]},
                "replica": row["replica"] if row["replica"] >= 0 else None,
                "preemptions": row["preemptions"],
                "fate": "never_sent" if math.isnan(row["arrival_s"]) else Fate(row["fate"]).name.lower(),
            }

    def as_dict(self) -> dict[str, Any]:
        """Return every figure as JSON-ready values; None is unknown or without samples."""
        ledger = self.ledger
        pools = list(self.pool_rows())
        energies = [row["energy_j"] for row in pools]
        energy_j = None if None in energies else sum(energies)
        output_tok = sum(row["output_tok"] for row in pools)
        return {
            "progress": self.progress.name.lower(),
            "overload": self.overload,
            "parts": self.parts,
            "duration_s": self.duration_s,
            "arrived": self.arrived,
            "finished": self.finished,
            "truncated": int(ledger.fate[Fate.TRUNCATED]),
            "refused": self.refused,
            "unfinished": int(ledger.fate[Fate.UNFINISHED]),
            "never_sent": self.asked - self.arrived if self.asked else None,
            "input_tok": int(ledger.arrived[1]),
            "output_tok": output_tok,
            "request_s": _known(self.rate(self.finished)),
            "output_tok_s": _known(self.rate(output_tok)),
            "energy_j": energy_j,
            "energy_j_per_tok": None if energy_j is None else _share(energy_j, output_tok),
            **self.latencies(),
            "goodput": [
                {
                    "limits": {name: _known(value) for name, value in asdict(slo).items()},
                    "good": int(good),
                    "good_ratio": _share(good, self.arrived),
                    "request_s": _known(self.rate(good)),
                }
                for slo, good in zip(self.slos, ledger.good.tolist(), strict=True)
            ],
            "pools": pools,
            "clients": list(self.client_rows()),
        }

    # --- parts --------------------------------------------------------------------------------------------------------
    def to_bytes(self) -> bytes:
        """Return the outcome, without kept requests, as an npz archive (no pickle); equal outcomes give equal bytes."""
        head = {
            "pools": [asdict(facts) for facts in self.pools],
            "slos": [asdict(slo) for slo in self.slos],
            "progress": int(self.progress),
            "is_open": self.is_open,
            "parts": self.parts,
            "duration_s": self.duration_s,
            "asked": self.asked,
            "client_ids": self.client_ids,
        }
        text = np.frombuffer(json.dumps(head, sort_keys=True).encode(), dtype=np.uint8)
        buffer = io.BytesIO()
        columns: dict[str, Any] = {"head": text, "pool_of": self.pool_of, **self.ledger.columns()}
        np.savez_compressed(buffer, **columns)
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes) -> "Outcome":
        """Return the outcome written by :meth:`to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            columns = {name: archive[name] for name in archive.files}
        head = json.loads(columns.pop("head").tobytes())
        return cls(
            pools=tuple(PoolFacts(**facts) for facts in head["pools"]),
            pool_of=columns.pop("pool_of"),
            slos=tuple(Limits(**slo) for slo in head["slos"]),
            progress=Progress(head["progress"]),
            is_open=head["is_open"],
            parts=head["parts"],
            duration_s=head["duration_s"],
            asked=head["asked"],
            client_ids=tuple(head["client_ids"]),
            ledger=Ledger(**columns),
        )


def outcomes_merge(outcomes: Sequence[Outcome], *, side_by_side: bool) -> Outcome:
    """Return several outcomes as one; in a fixed order, so that sums are the same to the last bit wherever they ran.

    Parameters
    ----------
    outcomes : sequence of Outcome
        Parts of one fleet, or the same fleet under several seeds. Pools of one name add up.
    side_by_side : bool
        True for parts of one fleet: they run at the same time, their timelines add up. False for seeds: they run one
        after the other, rates are their mean, and the timeline is that of the first.
    """
    first = outcomes[0]
    if len(outcomes) == 1:
        return first
    for other in outcomes[1:]:
        if other.slos != first.slos or len(other.ledger.client_count) != len(first.ledger.client_count):
            raise ConfigError("outcomes with other SLOs or other tenants do not add up")
    facts = _facts_merge(outcomes, side_by_side=side_by_side)
    place = {name: number for number, name in enumerate(facts)}
    ledger = Ledger.empty(
        replicas=sum(len(part.pool_of) for part in outcomes),
        pools=len(facts),
        slos=len(first.slos),
        clients=len(first.ledger.client_count),
    )
    pool_of = []
    for part in outcomes:
        to = np.array([place[pool.name] for pool in part.pools])
        pool_of.append(to[part.pool_of])
        np.add.at(ledger.histogram, to, part.ledger.histogram)
        for name in SUMMED:
            getattr(ledger, name)[...] += getattr(part.ledger, name)
    for name in ("latency_sum_s", "latency_max_s", "count", "amount"):
        getattr(ledger, name)[...] = np.concatenate([getattr(part.ledger, name) for part in outcomes])
    _timelines_merge(ledger, outcomes if side_by_side else outcomes[:1], place)
    times = np.array([part.ledger.times for part in outcomes])
    for waiting in (Time.WAITING_AT_HALF, Time.WAITING_AT_LAST_ARRIVAL):
        ledger.times[waiting] = times[:, waiting].sum()
    begin_s, end_s, last_s = (
        times[:, Time.BEGIN_S].min(),
        times[:, Time.END_S].max(),
        times[:, Time.LAST_ARRIVAL_S].max(),
    )
    ledger.times[[Time.BEGIN_S, Time.END_S, Time.LAST_ARRIVAL_S]] = begin_s, end_s, last_s
    return Outcome(
        pools=tuple(facts.values()),
        pool_of=np.concatenate(pool_of),
        slos=first.slos,
        progress=max(part.progress for part in outcomes),
        is_open=first.is_open,
        parts=sum(part.parts for part in outcomes),
        duration_s=float(end_s - begin_s) if side_by_side else sum(part.duration_s for part in outcomes),
        ledger=ledger,
        asked=sum(part.asked for part in outcomes) if all(part.asked for part in outcomes) else 0,
        client_ids=first.client_ids,
    )


def _facts_merge(outcomes: Sequence[Outcome], *, side_by_side: bool) -> dict[str, PoolFacts]:
    """Return the pools by name; of one name there are as many replicas as in all parts, or as in one of the seeds."""
    facts: dict[str, PoolFacts] = {}
    for part in outcomes:
        for pool in part.pools:
            known = facts.get(pool.name)
            if known and asdict(known) | {"replicas": 0} != asdict(pool) | {"replicas": 0}:
                raise ConfigError(f"two pools are called {pool.name}")
            replicas = pool.replicas + (known.replicas if known and side_by_side else 0)
            facts[pool.name] = PoolFacts(**{**asdict(pool), "replicas": replicas})
    return facts


def _timelines_merge(ledger: Ledger, outcomes: Sequence[Outcome], place: Mapping[str, int]) -> None:
    """Add timelines up at the longest of their intervals: all are one interval, doubled some times."""
    times = np.array([part.ledger.times for part in outcomes])
    interval_s = times[:, Time.INTERVAL_S].max()
    samples = 0
    for part in outcomes:
        every = round(interval_s / part.ledger.times[Time.INTERVAL_S])
        rows = part.ledger.timeline[: int(part.ledger.times[Time.SAMPLES]) : every]
        samples = max(samples, len(rows))
        to = [place[pool.name] for pool in part.pools]
        ledger.timeline[: len(rows), to] += rows
        for sampled, count in ((Sampled.OUTPUT_TOK, Count.OUTPUT_TOK), (Sampled.FINISHED, Count.FINISHED)):
            in_all = np.zeros(len(to))
            np.add.at(in_all, part.pool_of, part.ledger.count[:, count])
            ledger.timeline[len(rows) :, to, sampled] += in_all  # what was counted by its end stays counted
    ledger.times[[Time.INTERVAL_S, Time.SAMPLES]] = interval_s, samples


def _pool_facts(plan: Plan) -> Iterator[PoolFacts]:
    for pool in plan.pools:
        activity = pool.table.activity
        yield PoolFacts(
            name=pool.name,
            role=pool.role.name.lower(),
            replicas=pool.replicas,
            kv_blocks=pool.kv_blocks,
            block_tok=pool.block_tok,
            max_seqs=pool.max_seqs,
            chips=activity.chips,
            idle_w=activity.idle_w,
            tdp_w=activity.tdp_w,
        )


def _known(value: float) -> float | None:
    return float(value) if math.isfinite(value) else None


def _share(part: float, whole: float) -> float | None:
    return float(part) / float(whole) if whole and math.isfinite(part) else None
