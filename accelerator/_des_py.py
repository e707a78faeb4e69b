"""The simulator, one step and one token at a time: the specification. _des.pyx leaps, and tests hold the two equal.

**An engine step** of a replica decodes every running sequence by one token (under speculation: by what was accepted)
and fills what is left of its token budget with prompts, in this order:

1. Sequences whose next token needs a KV block take one. While there are not enough, the running request that is last in
   order (priority, then number) is preempted: it gives up all its blocks and waits again, to be recomputed.
2. The one prompt that is partly read goes on.
3. Unless somebody was preempted in this step, waiting requests are admitted in order (priority, then number) while
   budget, sequences and KV blocks last; the first that does not fit stops those behind it. All blocks of a prompt are
   taken at admission. Leading blocks of a prompt that the prefix cache holds are not computed again, except its last
   token.

A prompt whose last token was read emits a token at the end of that step. A request ends with its last token and gives
its blocks back.

**Simultaneous events.** At one instant happen, in this order: steps that end, by replica (in a step: decodes by order,
then prompts in the order of the step); transfers that end, by start; changes of replicas, as listed; arrivals, in order
of the workload or of their issue. Only then do steps start: whatever happens at an instant is seen by the steps that
start at it.

**Routing** counts a request as outstanding on a replica from its arrival there until it ends or is handed over. Ties go
to the replica with the lowest number. If the one chosen can never hold a request, the first that is up and can takes
it; if none can, it is refused.
"""

import heapq
import math
import struct
from bisect import insort
from collections import OrderedDict, deque
from typing import Any

import numpy as np

from accelerator.ledger import (
    BINS,
    BINS_PER_OCTAVE_BITS,
    CLIENT_BITS,
    LEAST_EXPONENT,
    SAMPLES,
    Amount,
    Count,
    Fate,
    Latency,
    Ledger,
    Sampled,
    Time,
)
from accelerator.simulation import ChangeKind, LoadKind, Plan, Pool, Progress, Role, Router

MASK = 2**64 - 1
_SHIFT = 52 - BINS_PER_OCTAVE_BITS
_FIRST_BIN = struct.unpack("<q", struct.pack("<d", 2.0**LEAST_EXPONENT))[0] >> _SHIFT


def mix(x: int) -> int:
    """Return 64 well-mixed bits of a number (the finaliser of SplitMix64)."""
    x = (x + 0x9E3779B97F4A7C15) & MASK
    x = ((x ^ (x >> 30)) * 0xBF58476D1CE4E5B9) & MASK
    x = ((x ^ (x >> 27)) * 0x94D049BB133111EB) & MASK
    return x ^ (x >> 31)


def draw(seed: int, number: int, purpose: int) -> int:
    """Return 64 random bits that depend on seed, request and purpose only, not on the order of draws."""
    return mix(mix(mix(seed) ^ number) ^ purpose)


def uniform(bits: int) -> float:
    """Return a number from 0 up to, not including, 1."""
    return (bits >> 11) * 2.0**-53


def bin_of(latency_s: float) -> int:
    """Return the bin of a latency: its exponent and the first bits of its mantissa."""
    bits = struct.unpack("<q", struct.pack("<d", latency_s))[0]
    return min(max((bits >> _SHIFT) - _FIRST_BIN, 0), BINS - 1)


# What a random draw is for: routing (by role, again after every admission), the second of two, a pause, acceptance.
ROUTE, SECOND, PAUSE, ACCEPT = 1, 2, 3, 4


class Request:
    """One request on its way through the fleet."""

    def __init__(self, number: int, arrival_s: float, row: tuple[Any, ...]) -> None:
        self.number, self.arrival_s = number, arrival_s
        _, self.input_tok, self.output_tok, self.client, self.priority, self.prefix = row
        self.emitted_tok = 0
        self.first_s = self.last_s = self.queued_s = math.nan
        self.truncated = False
        self.preemptions = self.admissions = 0
        self.with_kv = False  # handed over by a replica that read its prompt
        self.prompt_tok = self.read_tok = 0  # tokens to have in the cache before the next one; how many of them it has
        self.steps = self.steps_done = self.to_emit_tok = self.kv_at_join_tok = 0  # of decoding

    def __lt__(self, other: "Request") -> bool:
        return (self.priority, self.number) < (other.priority, other.number)

    def decoded_tok(self, steps: int) -> int:
        """Tokens that the first steps of decoding emit: one each, or evenly spread under speculation."""
        return -(-steps * self.to_emit_tok // self.steps)

    def kv_tok(self, steps: int) -> int:
        """Length of the KV cache after so many steps of decoding."""
        return self.kv_at_join_tok + self.decoded_tok(steps)

    def context_tok(self) -> float:
        """What the next step of decoding looks at; under speculation by its mean growth."""
        return self.kv_at_join_tok + 1 + self.steps_done * (self.to_emit_tok / self.steps)


class Replica:
    """One replica: its queue, its running requests, its KV blocks, its prefix cache, the step it is in."""

    def __init__(self, number: int, pool_number: int, pool: Pool, *, up: bool) -> None:
        self.number, self.pool_number, self.pool = number, pool_number, pool
        self.state = "up" if up else "off"
        self.on_since_s = 0.0
        self.epoch = 0  # raised by every failure
        self.waiting: list[Request] = []
        self.decodes: list[Request] = []
        self.reading: list[Request] = []  # admitted, prompt not read to its end; in order of admission
        self.outstanding = 0
        self.used_blocks = 0
        self.cache: OrderedDict[int, None] = OrderedDict()  # prefix blocks, the longest unused first
        self.step: tuple[float, float, float, list[tuple[Request, int]]] | None = None  # start, end, active, reads
        self.link_free_s = 0.0
        self.passes = 0.0  # of the weighted router

    def blocks(self, request: Request, kv_tok: int) -> int:
        """Blocks of a request with so much KV, with those of its state and of its windows."""
        pool = self.pool
        in_window_tok = min(pool.window_kv_tok, request.input_tok + request.output_tok)
        return _up(kv_tok, pool.block_tok) + math.ceil(pool.state_blocks + pool.window_blocks_per_tok * in_window_tok)

    def blocks_held(self, request: Request) -> int:
        """Blocks of a request that runs here."""
        return self.blocks(request, request.kv_tok(request.steps_done) if request.steps else request.prompt_tok)

    def blocks_due(self) -> int:
        """Blocks that the next step of decoding needs beyond those held."""
        size = self.pool.block_tok
        return sum(_up(r.kv_tok(r.steps_done + 1), size) - _up(r.kv_tok(r.steps_done), size) for r in self.decodes)


class Engine:
    """One simulation. ``feed`` gives it requests, ``run`` goes on until it needs more or is through.

    Parameters
    ----------
    plan : Plan
        What is simulated.
    ledger : Ledger
        Written in place; complete when ``run`` returns DONE, HORIZON or UNSTABLE.
    kept : dict of arrays or None
        Per request arrival_s, first_s, finish_s, replica, preemptions, fate; written in place.
    """

    def __init__(self, plan: Plan, ledger: Ledger, kept: dict[str, Any] | None) -> None:
        self.plan, self.ledger, self.kept = plan, ledger, kept
        self.replicas = [
            Replica(number, pool_number, plan.pools[pool_number], up=up)
            for number, (pool_number, up) in enumerate(plan.replicas())
        ]
        self.groups = {
            Role.BOTH: [r for r in self.replicas if r.pool.role != Role.DECODE],
            Role.DECODE: [r for r in self.replicas if r.pool.role == Role.DECODE],
        }
        self.turns = {Role.BOTH: 0, Role.DECODE: 0}
        self.homeless: dict[Role, list[Request]] = {Role.BOTH: [], Role.DECODE: []}  # no replica is up for them
        self.source: deque[tuple[Any, ...]] = deque()
        self.more = True
        self.now_s = 0.0
        self.arrived = self.in_system = self.waiting = 0
        self.transfers: list[
            tuple[float, int, Request, Replica, int, int]
        ] = []  # end, serial, what, from, epoch, blocks
        self.handed_over = 0
        self.issues = [
            (plan.load.ramp_s * client / plan.load.clients, client)
            for client in range(plan.load.clients if plan.load.kind == LoadKind.CLOSED else 0)
        ]  # closed loop: when the next requests are sent, and the serial of that
        self.issued = len(self.issues)
        self.batch_left = 0
        self.changes = deque(plan.changes)
        self.steps_may_start = False
        self.sampled, self.interval_s = 0, plan.timeline_s

    def feed(
        self, arrival_s: Any, input_tok: Any, output_tok: Any, client: Any, priority: Any, prefix_ids: Any,
        prefix_ends: Any, *, last: bool,
    ) -> None:  # fmt: skip
        """Take more requests; an empty column is one of zeros, prefix_ends says where each one's ids end."""
        begin = 0
        for i in range(len(arrival_s)):
            end = int(prefix_ends[i]) if len(prefix_ends) else 0
            self.source.append((
                float(arrival_s[i]), int(input_tok[i]), int(output_tok[i]),
                int(client[i]) if len(client) else 0, int(priority[i]) if len(priority) else 0,
                tuple(int(block) for block in prefix_ids[begin:end]),
            ))  # fmt: skip
            begin = end
        self.more = not last

    def run(self, most_events: int) -> Progress:
        """Go on and say why it stopped."""
        for _ in range(most_events):
            if not self.source and self.more:
                return Progress.HUNGRY
            at_s, event = self._next()
            if self.steps_may_start and at_s > self.now_s:
                self.steps_may_start = False
                for replica in self.replicas:
                    if replica.step is None:
                        self._step_start(replica)
                continue
            if event is None:
                is_stuck = self.in_system or self.source
                return self._close(Progress.STUCK if is_stuck else Progress.DONE, self.now_s)
            if at_s > self.plan.until_s:
                return self._close(Progress.HORIZON, self.plan.until_s)
            self._samples_take(at_s)
            self.now_s = at_s
            self.steps_may_start = True
            event()
            if event == self._arrive and self.waiting > self.plan.waiting_most and self.plan.load.kind == LoadKind.OPEN:
                return self._close(Progress.UNSTABLE, self.now_s)
        return Progress.PAUSED

    def _next(self) -> tuple[float, Any]:
        """Return when something happens next and what; of simultaneous events the first in order."""
        best: tuple[float, Any] = (math.inf, None)
        for replica in self.replicas:
            if replica.step and replica.step[1] < best[0]:
                best = replica.step[1], lambda replica=replica: self._step_end(replica)
        if self.transfers and self.transfers[0][0] < best[0]:
            best = self.transfers[0][0], self._transfer_end
        if self.changes and (self.in_system or self.source) and self.changes[0].at_s < best[0]:
            best = self.changes[0].at_s, self._change
        arrival_s = self._arrival_s()
        if arrival_s < best[0]:
            best = arrival_s, self._arrive
        return best

    def _arrival_s(self) -> float:
        load = self.plan.load
        if not self.source:
            return math.inf
        if load.kind == LoadKind.OPEN:
            return self.source[0][0]
        if load.kind == LoadKind.CLOSED:
            return self.issues[0][0] if self.issues else math.inf
        return self.now_s if self.batch_left or not self.in_system else math.inf

    # --- requests come and go -----------------------------------------------------------------------------------------
    def _arrive(self) -> None:
        load, times = self.plan.load, self.ledger.times
        request = Request(self.arrived, self.now_s, self.source.popleft())
        if load.kind == LoadKind.CLOSED:
            heapq.heappop(self.issues)
        elif load.kind == LoadKind.STATIC:
            self.batch_left = (self.batch_left or load.clients) - 1
        if not self.arrived:
            self._begin()
        self.arrived += 1
        self.in_system += 1
        self.ledger.arrived += (1, request.input_tok, request.output_tok)
        if self.kept:
            self.kept["arrival_s"][request.number] = self.now_s
        if request.input_tok < 1:
            self._leave(request, Fate.NO_PROMPT)
        elif request.output_tok < 1:
            self._leave(request, Fate.NO_OUTPUT)
        else:
            self._send(request, Role.BOTH)
        if 2 * self.arrived <= self.plan.requests:
            times[Time.WAITING_AT_HALF] = self.waiting
        times[Time.WAITING_AT_LAST_ARRIVAL], times[Time.LAST_ARRIVAL_S] = self.waiting, self.now_s

    def _begin(self) -> None:
        self.ledger.times[Time.BEGIN_S] = self.now_s
        for replica in self.replicas:
            replica.on_since_s = max(replica.on_since_s, self.now_s)

    def _leave(self, request: Request, fate: Fate) -> None:
        """Let a request out of the system."""
        self.in_system -= 1
        self.ledger.fate[fate] += 1
        if self.kept:
            self.kept["fate"][request.number] = fate
            self.kept["preemptions"][request.number] = request.preemptions
        load = self.plan.load
        if load.kind == LoadKind.CLOSED:
            pause_s = load.think_s
            if load.think_random:
                pause_s *= -math.log(1 - uniform(draw(self.plan.seed, request.number, PAUSE)))
            heapq.heappush(self.issues, (self.now_s + pause_s, self.issued))
            self.issued += 1

    def _finish(self, request: Request, replica: Replica) -> None:
        """Let a request out that has all its tokens."""
        ledger, finish_s = self.ledger, self.now_s
        e2e_s, ttft_s = finish_s - request.arrival_s, request.first_s - request.arrival_s
        tpot_s = (finish_s - request.first_s) / (request.output_tok - 1) if request.output_tok > 1 else 0.0
        met = [
            not request.truncated and ttft_s <= slo.ttft_s and tpot_s <= slo.tpot_s and e2e_s <= slo.e2e_s
            for slo in self.plan.slos
        ]
        ledger.good += np.array(met, dtype=np.int64)
        ledger.count[replica.number, Count.FINISHED] += 1
        self._latency(replica, Latency.E2E, e2e_s)
        if request.output_tok > 1:
            self._latency(replica, Latency.TPOT, tpot_s)
        if len(ledger.client_count):
            ledger.client_count[request.client] += (1, request.input_tok, request.output_tok, *met)
            ledger.client_histogram[request.client, 0, bin_of(ttft_s) >> CLIENT_BITS] += 1
            if request.output_tok > 1:
                ledger.client_histogram[request.client, 1, bin_of(tpot_s) >> CLIENT_BITS] += 1
            ledger.client_histogram[request.client, 2, bin_of(e2e_s) >> CLIENT_BITS] += 1
        if self.kept:
            self.kept["finish_s"][request.number] = finish_s
            self.kept["replica"][request.number] = replica.number
        self._leave(request, Fate.TRUNCATED if request.truncated else Fate.FINISHED)

    # --- routing ------------------------------------------------------------------------------------------------------
    def _send(self, request: Request, role: Role) -> None:
        """Route a request; it waits here if no replica of the role is up."""
        up = [r for r in self.groups[role] if r.state == "up"]
        if up:
            replica = self._choose(request, role, up)
            if not self._fits(request, replica):  # another kind of replica may hold what the chosen one cannot
                replica = next((r for r in up if self._fits(request, r)), replica)
            self._place(request, replica)
        else:
            self.waiting += 1
            insort(self.homeless[role], request)

    def _choose(self, request: Request, role: Role, up: list[Replica]) -> Replica:
        group, router = self.groups[role], self.plan.router
        bits = draw(self.plan.seed, request.number, ROUTE + 8 * request.admissions)
        if router == Router.LEAST_OUTSTANDING:
            return min(up, key=lambda r: r.outstanding)
        if router == Router.RANDOM:
            return up[bits % len(up)]
        if router == Router.POWER_OF_TWO and len(up) > 1:
            first = bits % len(up)
            second = draw(self.plan.seed, request.number, SECOND + 8 * request.admissions) % (len(up) - 1)
            second += second >= first
            return min((up[i] for i in sorted((first, second))), key=lambda r: r.outstanding)
        if router == Router.WEIGHTED:
            replica = min(up, key=lambda r: r.passes + 1 / r.pool.weight)
            replica.passes += 1 / replica.pool.weight
            return replica
        if router == Router.PREFIX_AFFINITY and request.prefix:
            start = mix(request.prefix[0] ^ mix(self.plan.seed)) % len(group)
            return next(r for r in group[start:] + group[:start] if r.state == "up")
        start = self.turns[role]
        replica = next(r for r in group[start:] + group[:start] if r.state == "up")
        self.turns[role] = (group.index(replica) + 1) % len(group)
        return replica

    def _fits(self, request: Request, replica: Replica) -> bool:
        """Whether a replica can ever hold what a request needs for its next token."""
        pool = replica.pool
        return request.input_tok + request.emitted_tok + 1 <= min(pool.context_most_tok, pool.kv_most_tok + 1)

    def _place(self, request: Request, replica: Replica) -> None:
        """Put a request into the queue of a replica, cut to what can ever fit there, or refuse it."""
        pool = replica.pool
        most_tok = min(pool.context_most_tok, pool.kv_most_tok + 1)
        least_tok = request.input_tok + request.emitted_tok + 1
        if not self._fits(request, replica) and request.emitted_tok:
            request.output_tok, request.truncated = request.emitted_tok, True
            self._finish(request, replica)
            return
        if not self._fits(request, replica):
            self._leave(request, Fate.OVER_CONTEXT if least_tok > pool.context_most_tok else Fate.OVER_MEMORY)
            return
        if pool.role != Role.PREFILL and request.input_tok + request.output_tok > most_tok:
            request.output_tok, request.truncated = most_tok - request.input_tok, True
        replica.outstanding += 1
        self._count(replica, Count.ROUTED)
        self._queue(request, replica)

    def _queue(self, request: Request, replica: Replica) -> None:
        request.queued_s = self.now_s
        request.steps = request.steps_done = request.read_tok = 0
        request.prompt_tok = request.input_tok + request.emitted_tok - request.with_kv
        insort(replica.waiting, request)
        self.waiting += 1
        self._peak(replica, Count.PEAK_WAITING, len(replica.waiting))

    # --- a step starts ------------------------------------------------------------------------------------------------
    def _step_start(self, replica: Replica) -> None:
        """Start the next step of a replica, if it has work."""
        if replica.state == "draining" and not replica.outstanding and not replica.used_blocks:
            self._switch_off(replica)
        preempted = self._blocks_grow(replica)
        budget_tok = replica.pool.max_batched_tok - len(replica.decodes) * replica.pool.seq_tok
        reads = []
        for request in replica.reading:
            reads.append((request, min(request.prompt_tok - request.read_tok, budget_tok)))
            budget_tok -= reads[-1][1]
        while not preempted and replica.waiting and self._admissible(replica.waiting[0], replica, budget_tok):
            request = replica.waiting.pop(0)
            self._admit(request, replica)
            if request.steps:
                budget_tok -= replica.pool.seq_tok
            else:
                reads.append((request, min(request.prompt_tok - request.read_tok, budget_tok)))
                budget_tok -= reads[-1][1]
        if replica.decodes or reads:
            self._peak(replica, Count.PEAK_BLOCKS, replica.used_blocks)
            self._peak(replica, Count.PEAK_RUNNING, len(replica.decodes) + len(replica.reading))
            step_s, active_s = self._step_times(replica, reads)
            replica.step = self.now_s, self.now_s + step_s, active_s, reads

    def _blocks_grow(self, replica: Replica) -> bool:
        """Give every decoding request the block that its next token needs; True if others were preempted for it."""
        preempted = False
        while (due := replica.blocks_due()) > replica.pool.kv_blocks - replica.used_blocks:
            request = max([*replica.decodes, *replica.reading])
            replica.used_blocks -= replica.blocks_held(request)
            (replica.decodes if request.steps else replica.reading).remove(request)
            request.preemptions += 1
            self._count(replica, Count.PREEMPTIONS)
            self._queue(request, replica)
            preempted = True
        replica.used_blocks += due
        return preempted

    def _admissible(self, request: Request, replica: Replica, budget_tok: int) -> bool:
        pool, running = replica.pool, len(replica.decodes) + len(replica.reading)
        if running >= pool.max_seqs or budget_tok < (pool.seq_tok if request.with_kv else 1):
            return False
        spare_blocks = pool.watermark_blocks if running else 0
        kv_tok = request.prompt_tok
        if request.with_kv:  # it decodes in this very step and may emit all that is drafted
            kv_tok = min(kv_tok + pool.seq_tok, request.input_tok + request.output_tok - 1)
        return replica.used_blocks + replica.blocks(request, kv_tok) <= pool.kv_blocks - spare_blocks

    def _admit(self, request: Request, replica: Replica) -> None:
        self.waiting -= 1
        self._latency(replica, Latency.QUEUE, self.now_s - request.queued_s)
        request.admissions += 1
        if request.with_kv:
            request.with_kv = False
            self._join(request, replica)
            replica.used_blocks += replica.blocks(request, request.kv_tok(1))
            return
        replica.used_blocks += replica.blocks(request, request.prompt_tok)
        replica.reading.append(request)
        request.read_tok = self._prefix_tok(request, replica)
        if request.admissions > 1:
            self._count(replica, Count.RECOMPUTED_TOK, request.prompt_tok - request.read_tok)

    def _prefix_tok(self, request: Request, replica: Replica) -> int:
        """Return how many leading tokens of a prompt the cache holds, and leave all its blocks in it."""
        pool, cache = replica.pool, replica.cache
        if not pool.prefix_blocks:
            return 0
        held = 0
        while held < len(request.prefix) and request.prefix[held] in cache:
            held += 1
        for block in reversed(request.prefix):  # the first one last: no block is of use without those before it
            cache[block] = None
            cache.move_to_end(block)
            if len(cache) > pool.prefix_blocks:
                cache.popitem(last=False)
        hit_tok = min(held * pool.prefix_block_tok, request.prompt_tok - 1)
        self._count(replica, Count.LOOKED_UP_TOK, request.prompt_tok)
        self._count(replica, Count.HIT_TOK, hit_tok)
        return hit_tok

    def _join(self, request: Request, replica: Replica) -> None:
        """Let a request decode from the next step on; how many steps that takes is drawn here."""
        pool = replica.pool
        request.to_emit_tok = request.output_tok - request.emitted_tok
        request.kv_at_join_tok = request.input_tok + request.emitted_tok - 1
        request.steps, request.steps_done, emitted_tok = 0, 0, 0
        bits = draw(self.plan.seed, request.number, ACCEPT + 8 * request.admissions)
        while emitted_tok < request.to_emit_tok:
            accepted, chance = 0, pool.acceptance_ratio
            bits = mix(bits)
            while accepted < pool.draft_tok and uniform(bits) < chance:
                accepted, chance = accepted + 1, chance * pool.acceptance_ratio
            emitted_tok += 1 + accepted
            request.steps += 1
        replica.decodes.append(request)

    def _step_times(self, replica: Replica, reads: list[tuple[Request, int]]) -> tuple[float, float]:
        """Return the time of a step, and the time at full power that draws as much. [s]"""
        pool, table = replica.pool, replica.pool.table
        seqs = len(replica.decodes)
        tok = seqs * pool.seq_tok + sum(n for _, n in reads)
        contexts = [r.context_tok() for r in replica.decodes]
        decode_s = table.decode_s[seqs] + table.context_s_per_tok[seqs] * sum(contexts)
        prefill_s = table.prefill_s if reads else 0.0
        prefill_s += table.prefill_s_per_tok2 * sum(n * r.read_tok + n * n / 2 for r, n in reads)
        if table.window_tok:
            decode_s += table.window_s_per_tok[seqs] * sum(min(c, table.window_tok) for c in contexts)
            prefill_s += table.window_s_per_tok2 * sum(
                _pairs(r.read_tok + n, table.window_tok) - _pairs(r.read_tok, table.window_tok) for r, n in reads
            )
        fixed_s = table.fixed_s + (pool.draft_s if seqs else 0.0)
        activity = table.activity
        active_s = activity.linear_busy_s[tok] + activity.decode_ratio * decode_s + activity.prefill_ratio * prefill_s
        return float(fixed_s + table.linear_s[tok] + decode_s + prefill_s), float(active_s)

    # --- a step ends --------------------------------------------------------------------------------------------------
    def _step_end(self, replica: Replica) -> None:
        start_s, end_s, active_s, reads = replica.step  # type: ignore[misc]
        replica.step = None
        step_s, amount = end_s - start_s, self.ledger.amount[replica.number]
        kv_tok = sum(r.context_tok() for r in replica.decodes) + sum(r.prompt_tok for r in replica.reading)
        amount[Amount.BUSY_S] += step_s
        amount[Amount.ACTIVE_S] += active_s
        amount[Amount.DECODE_SEQ_S] += len(replica.decodes) * step_s
        amount[Amount.PROMPT_SEQ_S] += len(replica.reading) * step_s
        amount[Amount.KV_TOK_S] += kv_tok * step_s
        self._count(replica, Count.STEPS)
        for request in sorted(replica.decodes):
            before_tok = request.decoded_tok(request.steps_done)
            request.steps_done += 1
            self._emit(request, replica, request.decoded_tok(request.steps_done) - before_tok)
            if request.steps_done == request.steps:
                replica.used_blocks -= replica.blocks_held(request)
                replica.decodes.remove(request)
                replica.outstanding -= 1
                self._finish(request, replica)
        for request, tok in reads:
            request.read_tok += tok
            self._count(replica, Count.PREFILL_TOK, tok)
            if request.read_tok == request.prompt_tok:
                replica.reading.remove(request)
                self._prompt_end(request, replica)

    def _prompt_end(self, request: Request, replica: Replica) -> None:
        blocks = replica.blocks_held(request)
        self._emit(request, replica, 1)
        if request.emitted_tok == request.output_tok:
            replica.used_blocks -= blocks
            replica.outstanding -= 1
            self._finish(request, replica)
        elif replica.pool.role == Role.PREFILL:
            replica.outstanding -= 1
            self._hand_over(request, replica, blocks)
        else:
            self._join(request, replica)

    def _emit(self, request: Request, replica: Replica, tok: int) -> None:
        if request.emitted_tok:
            self._latency(replica, Latency.ITL, self.now_s - request.last_s)
        else:
            request.first_s = self.now_s
            if self.kept:
                self.kept["first_s"][request.number] = self.now_s
            self._latency(replica, Latency.TTFT, self.now_s - request.arrival_s)
        request.emitted_tok += tok
        request.last_s = self.now_s
        self._count(replica, Count.OUTPUT_TOK, tok)

    # --- from prompts to decodes --------------------------------------------------------------------------------------
    def _hand_over(self, request: Request, replica: Replica, blocks: int) -> None:
        """Send the KV of a prompt over the link of its replica; blocks are held until it has arrived."""
        pool = replica.pool
        transfer_s = pool.transfer_s + pool.transfer_s_per_tok * request.prompt_tok
        end_s = max(self.now_s, replica.link_free_s) + transfer_s
        replica.link_free_s = end_s
        self._count(replica, Count.TRANSFERS)
        self.ledger.amount[replica.number, Amount.TRANSFER_S] += transfer_s
        heapq.heappush(self.transfers, (end_s, self.handed_over, request, replica, replica.epoch, blocks))
        self.handed_over += 1

    def _transfer_end(self) -> None:
        _, _, request, replica, epoch, blocks = heapq.heappop(self.transfers)
        if epoch == replica.epoch:
            replica.used_blocks -= blocks
            request.with_kv = True
            self._send(request, Role.DECODE)
        else:
            self._count(replica, Count.FAILED_OVER)
            self._send(request, Role.BOTH)

    # --- replicas come and go -----------------------------------------------------------------------------------------
    def _change(self) -> None:
        change = self.changes.popleft()
        replica = self.replicas[change.replica]
        if change.kind == ChangeKind.START and replica.state == "off":
            replica.state, replica.on_since_s = "starting", self.now_s
        elif (change.kind, replica.state) in {(ChangeKind.READY, "starting"), (ChangeKind.START, "draining")}:
            self._come_up(replica)
        elif change.kind == ChangeKind.DRAIN and replica.state == "up":
            replica.state = "draining"
        elif change.kind == ChangeKind.DRAIN and replica.state == "starting":
            self._switch_off(replica)
        elif change.kind == ChangeKind.FAIL and replica.state != "off":
            self._fail(replica)

    def _come_up(self, replica: Replica) -> None:
        role = Role.DECODE if replica.pool.role == Role.DECODE else Role.BOTH
        others = [r.passes for r in self.groups[role] if r.state == "up"]
        replica.passes = max([replica.passes, min(others)]) if others else replica.passes
        replica.state = "up"
        homeless, self.homeless[role] = self.homeless[role], []
        self.waiting -= len(homeless)
        for request in homeless:
            self._send(request, role)

    def _switch_off(self, replica: Replica) -> None:
        replica.state = "off"
        if self.arrived:  # what was on before the first request is not counted
            self.ledger.amount[replica.number, Amount.ON_S] += self.now_s - replica.on_since_s

    def _fail(self, replica: Replica) -> None:
        """Lose a replica with its KV; its requests go elsewhere and are read again, with what they had emitted."""
        self._switch_off(replica)
        if replica.step:
            self.ledger.amount[replica.number, Amount.LOST_S] += self.now_s - replica.step[0]
        lost = sorted([*replica.decodes, *replica.reading, *replica.waiting])
        self.waiting -= len(replica.waiting)
        replica.step = None
        replica.epoch += 1
        replica.outstanding = replica.used_blocks = 0
        replica.link_free_s = 0.0
        for held in (replica.waiting, replica.decodes, replica.reading, replica.cache):
            held.clear()
        for request in lost:
            request.with_kv = False
            self._count(replica, Count.FAILED_OVER)
            self._send(request, Role.BOTH)

    # --- the ledger ---------------------------------------------------------------------------------------------------
    def _latency(self, replica: Replica, kind: Latency, latency_s: float) -> None:
        ledger, number = self.ledger, replica.number
        ledger.histogram[replica.pool_number, kind, bin_of(latency_s)] += 1
        ledger.latency_sum_s[number, kind] += latency_s
        ledger.latency_max_s[number, kind] = max(ledger.latency_max_s[number, kind], latency_s)

    def _count(self, replica: Replica, what: Count, more: int = 1) -> None:
        self.ledger.count[replica.number, what] += more

    def _peak(self, replica: Replica, what: Count, value: int) -> None:
        self.ledger.count[replica.number, what] = max(self.ledger.count[replica.number, what], value)

    def _samples_take(self, before_s: float) -> None:
        """Sample every pool at the whole multiples of the interval that come before a moment."""
        while self.sampled * self.interval_s < before_s:
            if self.sampled == SAMPLES:
                self.ledger.timeline[: SAMPLES // 2] = self.ledger.timeline[::2]
                self.sampled, self.interval_s = SAMPLES // 2, 2 * self.interval_s
                continue
            row = self.ledger.timeline[self.sampled]
            row[:] = 0
            for replica in self.replicas:
                sampled = row[replica.pool_number]
                sampled[Sampled.RUNNING] += len(replica.decodes) + len(replica.reading)
                sampled[Sampled.WAITING] += len(replica.waiting)
                sampled[Sampled.KV_BLOCKS] += replica.used_blocks
                sampled[Sampled.UP] += replica.state == "up"
                sampled[Sampled.OUTPUT_TOK] += self.ledger.count[replica.number, Count.OUTPUT_TOK]
                sampled[Sampled.FINISHED] += self.ledger.count[replica.number, Count.FINISHED]
            self.sampled += 1

    def _close(self, progress: Progress, end_s: float) -> Progress:
        self._samples_take(end_s)
        self.now_s = end_s
        for replica in self.replicas:
            if replica.state != "off":
                self._switch_off(replica)
        times = self.ledger.times
        times[Time.END_S], times[Time.INTERVAL_S], times[Time.SAMPLES] = end_s, self.interval_s, self.sampled
        self.ledger.fate[Fate.UNFINISHED] = self.in_system
        return progress


def _up(tok: int, size: int) -> int:
    return -(-tok // size)


def _pairs(tok: float, window_tok: float) -> float:
    """Pairs of the first tokens of a prompt with those before them, as far as a window reaches. [tok^2]"""
    return tok * tok / 2 if tok <= window_tok else window_tok * tok - window_tok * window_tok / 2
