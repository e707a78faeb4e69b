"""A simulation as a file says it: pools, load, workload, changes, seeds, cells; and how its parts are run and merged.

An experiment is plain values (TOML, JSON), so that any part of it can be handed to another process as they are. Its
parts are its seeds times its cells: cells are independent parts of a fleet, each with its own router, every n-th
replica of every pool and its share of the requests. Parts do not know of each other, so they run on threads, processes
or machines in any order; they are merged in theirs, and the result is the same to the last bit.
"""

import math
import os
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np

from accelerator.architectures import ModelSpec, model_get
from accelerator.chips import ChipSpec, chip_get, chips_load
from accelerator.errors import ConfigError
from accelerator.operators import DeploymentConfig
from accelerator.outcome import Outcome, outcomes_merge
from accelerator.pools import LOAD_BYTE_S, cold_start_s, pool_build
from accelerator.profiles import profile_get, workload_generate, workload_pieces
from accelerator.requests import Workload
from accelerator.simulation import (
    UNLIMITED,
    Change,
    ChangeKind,
    Limits,
    Load,
    LoadKind,
    Plan,
    Pool,
    Role,
    Router,
    changes_sorted,
    failures_draw,
    scaling,
)
from accelerator.simulator import simulate, timeline_interval_s
from accelerator.tables import Table
from accelerator.traces import workload_read

LOADS = ("open", "closed", "static", "at-once", "offline")
"""``at-once``: all requests at time 0. ``offline``: every queue always holds at least a full batch."""

PIECE = 2**18
"""Generated workloads beyond this many requests are made and read piece by piece."""

SEEDS_MOST, REPLICAS_MOST, CLIENTS_MOST = 10_000, 1_000_000, 2**16
STEP_MOST = 2**20
"""Most tokens, and most sequences, of a step: a step table has a row for each."""

_TOP = {"workload", "load", "pool", "slo", "change", "scale", "failures", "router", "seed", "seeds", "cells",
        "waiting_most", "until_s", "timeline_s"}  # fmt: skip
_CONFIG = ("precision", "kv_precision", "tp", "pp", "ep", "dp", "engine", "expert_skew", "max_batched_tok", "max_seqs")
_POOL_NUMBERS = ("block_tok", "kv_blocks", "context_most_tok", "prefix_blocks", "prefix_block_tok", "draft_tok", "up")
_POOL_AMOUNTS = (
    "watermark_ratio",
    "prefix_ratio",
    "link_byte_s",
    "weight",
    "acceptance_ratio",
    "draft_s",
    "transfer_s",
)
_POOL = {"name", "chip", "model", "replicas", "role", "load_byte_s", *_CONFIG, *_POOL_NUMBERS, *_POOL_AMOUNTS}


@dataclass(frozen=True)
class Part:
    """One part of an experiment: which seed, which cell."""

    seed: int
    cell: int


@dataclass(frozen=True, eq=False)
class PoolRequest:
    """A pool as asked for: what runs where, and the fields that are passed on."""

    name: str
    chip: ChipSpec
    model: ModelSpec
    config: DeploymentConfig
    replicas: int
    up: int
    load_byte_s: float
    fields: Mapping[str, Any]

    @property
    def cold_start_s(self) -> float:
        """Time to load the weights. [s]"""
        return cold_start_s(self.chip, self.model, self.config, load_byte_s=self.load_byte_s)


class Experiment:
    """An experiment, checked.

    Parameters
    ----------
    values : mapping
        As read from TOML or JSON; docs/models/simulator.md lists all keys.
    folder : Path
        Where the paths in it start.
    chips, models : mapping, optional
        More chips and models than the built-in ones.
    trace_read : callable, optional
        How the trace that is named is read; as a file in the folder if left out.

    Raises
    ------
    ConfigError
        With the place: ``pool[1].role: "both" or ...``.
    """

    def __init__(
        self,
        values: Mapping[str, Any],
        folder: Path = Path(),
        *,
        chips: Mapping[str, ChipSpec] | None = None,
        models: Mapping[str, ModelSpec] | None = None,
        trace_read: Callable[[str], Workload] | None = None,
    ) -> None:
        self.values = values
        self.folder = folder
        self._trace_read = trace_read or (lambda name: workload_read(folder / name))
        top = Table(values, "", _TOP)
        self.seed, self.seeds = top.count("seed", 0, least=0), top.count("seeds", 1, most=SEEDS_MOST)
        self.cells = top.count("cells", 1)
        self.waiting_most = top.count("waiting_most", 1_000_000)
        self.until_s = top.amount("until_s", math.inf, positive=True)
        self.timeline_s = top.amount("timeline_s", 0.0)
        known = chips or chips_load()
        self.pools = [
            _pool_request(Table(pool, f"pool[{at}]", _POOL), at, known, models or {})
            for at, pool in enumerate(top.tables("pool"))
        ]
        if not self.pools:
            raise ConfigError("pool: at least one is needed")
        split = {(p.model.slug, p.config.kv_precision) for p in self.pools if p.fields["role"] != Role.BOTH}
        if len(split) > 1:
            raise ConfigError(
                "pool: those that hand KV over and those that take it have one model and one kv_precision"
            )
        for pool in self.pools:
            if pool.replicas < self.cells:
                raise ConfigError(f"cells: {self.cells} are more than the {pool.replicas} replicas of {pool.name}")
        self.slos = [
            Limits(**{name: slo.amount(name, math.inf, positive=True) for name in ("ttft_s", "tpot_s", "e2e_s")})
            for slo in (Table(v, f"slo[{at}]", {"ttft_s", "tpot_s", "e2e_s"}) for at, v in enumerate(top.tables("slo")))
        ]
        load = Table(top.table("load"), "load", {"kind", "clients", "think_s", "think_random", "ramp_s"})
        self.client_ids: tuple[int, ...] = ()
        self._pools_built: dict[tuple[int, float], Pool] = {}
        self.load_kind = load.choice("kind", LOADS, "open")
        self.load = _load(load, self.load_kind)
        usual = "least-outstanding" if self.load_kind == "offline" else "round-robin"  # a slow pool must not hold all
        self.router = Router[_enum(top.choice("router", _names(Router), usual))]
        self._source(Table(top.table("workload"), "workload", {"trace", "profile", "requests", "rate_request_s"}))
        self.changes = self._changes(top)

    @property
    def parts(self) -> list[Part]:
        """All parts, in the order in which they are merged."""
        return [Part(seed, cell) for seed in range(self.seeds) for cell in range(self.cells)]

    def plan(self, part: Part, quantile: float = 0.5) -> Plan:
        """Return the plan of a part.

        Parameters
        ----------
        part : Part
            Which one.
        quantile : float
            Of every step table. [-]
        """
        pools = [self._pool(number, part.cell, quantile) for number in range(len(self.pools))]
        return Plan(
            pools,
            router=self.router,
            load=self._load_of(part, pools),
            changes=self._changes_of(part),
            slos=self.slos,
            seed=self._seed(part),
            waiting_most=max(self.waiting_most, self.requests_of(part)) if self.is_burst else self.waiting_most,
            until_s=self.until_s,
            timeline_s=self.timeline_s or self._interval_s(),
            requests=self.requests_of(part),
        )

    def workload(self, part: Part) -> Workload | Iterator[Workload]:
        """Return the requests of a part: of a trace every n-th, of a profile its own draw at its share of the rate."""
        if self.is_trace:
            return _every(self.trace, part.cell, self.cells)
        requests, seed = self.requests_of(part), self._seed(part)
        rate_request_s = self.rate_request_s / self.cells
        if requests > PIECE or requests < 2:
            pieces = workload_pieces(
                self.profile, requests=requests, seed=seed, rate_request_s=rate_request_s, piece=PIECE
            )
            if requests == 1:
                return _at_once(next(pieces))
            return (_at_once(piece) for piece in pieces) if self.is_burst else pieces
        workload = workload_generate(self.profile, requests=requests, seed=seed, rate_request_s=rate_request_s)
        return _at_once(workload) if self.is_burst else workload

    def prepare(self) -> None:
        """Read the trace and build the step tables, so that what is timed afterwards is the simulation.

        Whatever can be refused is refused here: the last cell has the smallest share of everything.
        """
        self.plan(Part(0, self.cells - 1))

    @property
    def is_burst(self) -> bool:
        """Whether all requests arrive at time 0."""
        return self.load_kind == "at-once"

    @cached_property
    def trace(self) -> Workload:
        """The trace, its first requests if fewer are asked for, at the rate asked for; time 0 is the first request."""
        workload = self._trace_read(self.trace_name)
        if self.asked:
            workload = _every(workload, 0, 1, most=self.asked)
        arrival_s = workload.arrival_s - workload.arrival_s[0]
        if self.rate_request_s and arrival_s[-1] > 0:
            arrival_s *= (len(workload) - 1) / (arrival_s[-1] * self.rate_request_s)
        client_id = workload.client_id
        if client_id is not None:  # tenants are counted from 0 on inside
            ids, client_id = np.unique(client_id, return_inverse=True)
            if len(ids) > CLIENTS_MOST:
                raise ConfigError(f"the trace has {len(ids):,} tenants; {CLIENTS_MOST:,} can be counted apart")
            self.client_ids = tuple(ids.tolist())
        workload = replace(workload, arrival_s=arrival_s, client_id=client_id)
        return _at_once(workload) if self.is_burst else workload

    @property
    def trace_path(self) -> Path | None:
        """File of the trace, if the requests come from one."""
        return self.folder / self.trace_name if self.is_trace else None

    @property
    def requests(self) -> int:
        """Requests of all parts together."""
        return (len(self.trace) if self.is_trace else self.asked) * self.seeds

    def requests_of(self, part: Part) -> int:
        """Return how many requests a part has."""
        requests = len(range(part.cell, len(self.trace) if self.is_trace else self.asked, self.cells))
        if requests < 1:
            raise ConfigError(f"workload.requests: {self.requests // self.seeds} are too few for {self.cells} cells")
        return requests

    @property
    def clients(self) -> int:
        """Tenants that are counted apart, the same in all parts so that they add up."""
        return len(self.client_ids) if self.is_trace and self.trace.client_id is not None else 0

    def _source(self, table: Table) -> None:
        """Take where the requests come from; a rate of 0 is that of the trace."""
        self.trace_name, self.profile = table.text("trace", ""), table.text("profile", "")
        self.asked = table.count("requests", 0, least=0)
        self.is_trace = bool(self.trace_name)
        if self.is_trace and self.profile:
            raise ConfigError("workload: a trace or a profile, not both")
        if not (self.is_trace or self.profile):
            raise ConfigError("workload: a trace or a profile is needed")
        usual_request_s = 0.0 if self.is_trace else profile_get(self.profile).rate_request_s
        if not (self.is_trace or self.asked):
            raise ConfigError("workload.requests: how many are to be generated?")
        asks_rate = table.has("rate_request_s")
        self.rate_request_s = table.amount("rate_request_s", positive=True) if asks_rate else usual_request_s

    # --- parts of the plan --------------------------------------------------------------------------------------------
    def _seed(self, part: Part) -> int:
        return int(
            np.random.SeedSequence((self.seed, part.seed, part.cell)).generate_state(1, np.uint64)[0] >> np.uint64(1)
        )

    def _numbers(self, pool: int, cell: int) -> list[int]:
        """Numbers, in a cell, of the pool's replicas there."""
        counts = [len(range(cell, request.replicas, self.cells)) for request in self.pools]
        return list(range(sum(counts[:pool]), sum(counts[: pool + 1])))

    def _pool(self, number: int, cell: int, quantile: float) -> Pool:
        request = self.pools[number]
        return replace(
            self._built(number, quantile),
            replicas=len(range(cell, request.replicas, self.cells)),
            up=self._up(request, cell),
        )

    def _built(self, number: int, quantile: float) -> Pool:
        key = (number, quantile)
        if key not in self._pools_built:
            r = self.pools[number]
            self._pools_built[key] = pool_build(r.name, r.chip, r.model, r.config, quantile=quantile, **r.fields)
        return self._pools_built[key]

    @property
    def _span_s(self) -> float:
        """Time of the last arrival of an open load. [s]"""
        return float(self.trace.arrival_s[-1]) if self.is_trace else self.asked / self.rate_request_s

    def _interval_s(self) -> float:
        """Interval of the timeline, the same in all parts so that they add up. [s]"""
        return timeline_interval_s(0.0 if self.load.kind != LoadKind.OPEN or self.is_burst else self._span_s)

    def _load_of(self, part: Part, pools: Sequence[Pool]) -> Load:
        if self.load_kind in {"open", "at-once"}:
            return self.load
        clients = len(range(part.cell, self.load.clients, self.cells))
        if self.load_kind == "offline":  # on every replica a full batch runs and another one waits
            readers = [pool for pool in pools if pool.role != Role.DECODE]
            most = max((pool.max_seqs for pool in readers), default=1)
            clients = 2 * most * sum(pool.replicas for pool in readers)
        if clients < 1:
            raise ConfigError(f"load.clients: {self.load.clients} are too few for {self.cells} cells")
        return replace(self.load, clients=clients)

    def _changes(self, top: Table) -> list[tuple[float, int, int, ChangeKind]]:
        """Return what happens as (time, pool, replica of the pool, kind), without what is drawn."""
        names = [pool.name for pool in self.pools]
        changes = []
        for at, values in enumerate(top.tables("change")):
            table = Table(values, f"change[{at}]", {"at_s", "pool", "replica", "kind"})
            pool = names.index(table.choice("pool", names, names[0]))
            number = table.count("replica", 0, least=0)
            if number >= self.pools[pool].replicas:
                raise ConfigError(f"change[{at}].replica: {names[pool]} has {self.pools[pool].replicas} of them")
            at_s, kind = table.amount("at_s"), table.choice("kind", ("start", "drain", "fail"))
            changes.append((at_s, pool, number, ChangeKind[_enum(kind)]))
            if kind == "start":
                changes.append((at_s + self.pools[pool].cold_start_s, pool, number, ChangeKind.READY))
        self.scales: dict[int, list[tuple[float, int]]] = {}
        for at, values in enumerate(top.tables("scale")):
            table = Table(values, f"scale[{at}]", {"at_s", "pool", "replicas"})
            pool = names.index(table.choice("pool", names, names[0]))
            wanted = table.count("replicas", least=0)
            if wanted > self.pools[pool].replicas:
                raise ConfigError(f"scale[{at}].replicas: {names[pool]} has {self.pools[pool].replicas} in all")
            self.scales.setdefault(pool, []).append((table.amount("at_s"), wanted))
        failures = Table(top.table("failures"), "failures", {"mtbf_s", "repair_s"})
        self.mtbf_s, self.repair_s = failures.amount("mtbf_s", 0.0), failures.amount("repair_s", 0.0)
        if self.mtbf_s and (self.scales or changes or any(pool.up < pool.replicas for pool in self.pools)):
            raise ConfigError("failures: drawn for replicas that are all up from the start, without change and scale")
        return changes

    def _changes_of(self, part: Part) -> list[Change]:
        changes = [
            Change(at_s, self._numbers(pool, part.cell)[number // self.cells], kind)
            for at_s, pool, number, kind in self.changes
            if number % self.cells == part.cell
        ]
        for pool, request in enumerate(self.pools):
            numbers = self._numbers(pool, part.cell)
            if pool in self.scales:
                steps = [(at_s, len(range(part.cell, wanted, self.cells))) for at_s, wanted in self.scales[pool]]
                up_at_start = self._up(request, part.cell)
                changes += scaling(numbers, up=up_at_start, steps=steps, load_s=request.cold_start_s)
            if self.mtbf_s:
                changes += failures_draw(
                    numbers,
                    until_s=self._failures_until_s(),
                    mtbf_s=self.mtbf_s,
                    repair_s=self.repair_s,
                    load_s=request.cold_start_s,
                    seed=self._seed(part),
                )
        up = [n for pool, r in enumerate(self.pools) for n in self._numbers(pool, part.cell)[: self._up(r, part.cell)]]
        return changes_sorted(changes, up)

    def _up(self, request: PoolRequest, cell: int) -> int:
        """How many replicas of a pool are up from the start in a cell."""
        return len(range(cell, request.up, self.cells))

    def _failures_until_s(self) -> float:
        if self.until_s < math.inf:
            return self.until_s
        if self.load.kind != LoadKind.OPEN or self.is_burst:
            raise ConfigError("failures: until_s says how long they are drawn for this load")
        return self._span_s


def part_run(
    experiment: Experiment,
    part: Part,
    *,
    quantile: float = 0.5,
    keep_requests: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Return the outcome of one part; ``on_progress`` gets the requests that have arrived in it so far."""
    outcome = simulate(
        experiment.plan(part, quantile),
        experiment.workload(part),
        clients=experiment.clients,
        keep_requests=keep_requests,
        on_progress=on_progress,
    )
    return replace(outcome, client_ids=experiment.client_ids)


def parts_merge(experiment: Experiment, outcomes: Sequence[Outcome]) -> Outcome:
    """Return the outcomes of all parts as one: cells side by side, then seeds."""
    cells = experiment.cells
    seeds = [
        outcomes_merge(outcomes[first : first + cells], side_by_side=True) for first in range(0, len(outcomes), cells)
    ]
    return outcomes_merge(seeds, side_by_side=False)


def experiment_run(
    experiment: Experiment,
    *,
    quantile: float = 0.5,
    threads: int = 0,
    keep_requests: bool = False,
    on_progress: Callable[[int], None] | None = None,
) -> Outcome:
    """Return the outcome of an experiment, its parts run on threads; how many changes nothing but the time.

    Parameters
    ----------
    quantile : float
        Of every step table. [-]
    threads : int
        0: as many as there are cores.
    keep_requests : bool
        Keep what became of each request; for an experiment of one part.
    on_progress : callable, optional
        Called with the requests that have arrived in all parts so far.
    """
    parts = experiment.parts
    arrived = [0] * len(parts)
    stopped = threading.Event()
    if keep_requests and len(parts) > 1:
        raise ConfigError("requests are kept of one part only: no cells, no seeds")

    def run(number: int) -> Outcome:
        def report(count: int) -> None:
            if stopped.is_set():
                raise InterruptedError
            arrived[number] = count
            if on_progress:
                on_progress(sum(arrived))

        return part_run(experiment, parts[number], quantile=quantile, keep_requests=keep_requests, on_progress=report)

    experiment.prepare()  # once, before threads ask for it
    if len(parts) == 1:
        return run(0)
    with ThreadPoolExecutor(threads or os.cpu_count() or 1) as pool:
        try:
            return parts_merge(experiment, list(pool.map(run, range(len(parts)))))
        except BaseException:  # Ctrl-C, above all: let the other threads end at their next report
            stopped.set()
            pool.shutdown(cancel_futures=True)
            raise


# --- from tables to values -------------------------------------------------------------------------------------------
def _names(kind: Any) -> list[str]:
    return [member.name.lower().replace("_", "-") for member in kind]


def _enum(name: str) -> str:
    return name.upper().replace("-", "_")


def _load(table: Table, kind: str) -> Load:
    """Return the load with the clients of all cells together."""
    clients = table.count("clients") if kind in {"closed", "static"} else table.count("clients", 0, least=0)
    if clients and kind not in {"closed", "static"}:
        raise ConfigError(f"load.clients: a load of kind {kind} has none")
    think_random = table.truth("think_random")
    think_s, ramp_s = table.amount("think_s", 0.0), table.amount("ramp_s", 0.0)
    for name, value in (("think_s", think_s), ("think_random", think_random), ("ramp_s", ramp_s)):
        if value and kind not in {"closed", "offline"}:
            raise ConfigError(f"load.{name}: a load of kind {kind} has none")
    if kind in {"open", "at-once"}:
        return Load()
    return Load(
        LoadKind.STATIC if kind == "static" else LoadKind.CLOSED,
        clients=max(clients, 1),
        think_s=think_s,
        think_random=think_random,
        ramp_s=ramp_s,
    )


def _pool_request(table: Table, at: int, chips: Mapping[str, ChipSpec], models: Mapping[str, ModelSpec]) -> PoolRequest:
    chip, model = chip_get(table.text("chip"), chips), model_get(table.text("model"), models)
    config = {
        "precision": precision_usual(chip, model), "kv_precision": "bf16", "engine": "",
    }  # fmt: skip
    texts = {name: table.text(name, default) for name, default in config.items()}
    counts = {name: table.count(name, 1) for name in ("tp", "pp", "ep", "dp")}
    replicas = table.count("replicas", 1, most=REPLICAS_MOST)
    fields: dict[str, Any] = {"role": Role[_enum(table.choice("role", _names(Role), "both"))]}
    for name in _POOL_NUMBERS[:-1]:
        if name == "prefix_blocks" and table.values.get(name) == "unlimited":
            fields[name] = UNLIMITED
        elif table.values.get(name) is not None:
            fields[name] = table.count(name, least=0 if name in {"prefix_blocks", "draft_tok"} else 1)
    for name in _POOL_AMOUNTS:
        if table.values.get(name) is not None:
            fields[name] = table.amount(name, positive=name in {"link_byte_s", "weight"})
    draft = 1 + fields.get("draft_tok", 0)
    batched_tok = table.count("max_batched_tok", 8192, most=STEP_MOST)
    max_seqs = table.count("max_seqs", min(256, max(1, batched_tok // draft)), most=STEP_MOST)
    return PoolRequest(
        name=table.text("name", f"pool{at + 1}"),
        chip=chip,
        model=model,
        config=DeploymentConfig(
            weight_precision=texts["precision"],
            kv_precision=texts["kv_precision"],
            engine=texts["engine"],
            expert_skew=table.amount("expert_skew", 0.0),
            max_batched_tok=batched_tok,
            max_seqs=max_seqs,
            **counts,
        ),
        replicas=replicas,
        up=table.count("up", replicas, least=0, most=replicas),
        load_byte_s=table.amount("load_byte_s", LOAD_BYTE_S, positive=True),
        fields=fields,
    )


def precision_usual(chip: ChipSpec, model: ModelSpec) -> str:
    """Return the precision a model is published in, or what comes closest on a chip that does not compute in it."""
    closest = {"fp4": ("fp4", "fp8", "int8", "bf16"), "fp8": ("fp8", "int8", "bf16")}
    wanted = closest.get(model.native_precision, ("bf16",))
    return next((precision for precision in wanted if precision in chip.peak_flop_s), "bf16")


def _at_once(workload: Workload) -> Workload:
    return replace(workload, arrival_s=np.zeros(len(workload)))


def _every(workload: Workload, first: int, step: int, most: int | None = None) -> Workload:
    """Return every n-th request of a workload, from one on."""
    if first == 0 and step == 1 and (most is None or most >= len(workload)):
        return workload
    taken = slice(first, most, step)
    return replace(
        workload,
        arrival_s=workload.arrival_s[taken],
        input_tok=workload.input_tok[taken],
        output_tok=workload.output_tok[taken],
        prefix_hashes=None if workload.prefix_hashes is None else workload.prefix_hashes[taken],
        client_id=None if workload.client_id is None else workload.client_id[taken],
        priority=None if workload.priority is None else workload.priority[taken],
    )
