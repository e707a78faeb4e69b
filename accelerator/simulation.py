"""What is simulated: pools of replicas, a router, a load, changes of replicas over time; values, checked here once."""

import math
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from enum import IntEnum

import numpy as np

from accelerator.errors import ConfigError
from accelerator.steps import StepTable

UNLIMITED = 2**40
"""KV blocks of a replica whose memory is no limit."""

CONTEXT_MOST_TOK = 2**31 - 1
"""Longest context that is simulated. [tok]"""

FAILURES_MOST = 10_000_000


class Role(IntEnum):
    """What the replicas of a pool do: prompts and decodes, prompts only, decodes of what others have read."""

    BOTH = 0
    PREFILL = 1
    DECODE = 2


class Router(IntEnum):
    """How a replica is chosen among those that are up.

    ROUND_ROBIN takes the next one; RANDOM any; LEAST_OUTSTANDING the one with the fewest requests not ended;
    POWER_OF_TWO the better one of two drawn; PREFIX_AFFINITY the one that the prompt's first block points to (the next
    one for prompts without); WEIGHTED each as often as its weight says, evenly spread.
    """

    ROUND_ROBIN = 0
    RANDOM = 1
    LEAST_OUTSTANDING = 2
    POWER_OF_TWO = 3
    PREFIX_AFFINITY = 4
    WEIGHTED = 5


class ChangeKind(IntEnum):
    """What happens to a replica: it begins to load, takes requests, takes no more, is lost."""

    START = 0
    READY = 1
    DRAIN = 2
    FAIL = 3


class LoadKind(IntEnum):
    """How requests arrive: by their own times, one per client after its last, a whole batch after the last batch."""

    OPEN = 0
    CLOSED = 1
    STATIC = 2


class Progress(IntEnum):
    """Why a kernel returned."""

    HUNGRY = 0
    PAUSED = 1
    DONE = 2
    HORIZON = 3
    UNSTABLE = 4
    STUCK = 5


COUNTS_FROM_1 = (
    "replicas", "max_batched_tok", "max_seqs", "kv_blocks", "block_tok", "context_most_tok", "prefix_block_tok",
)  # fmt: skip
COUNTS_FROM_0 = ("watermark_blocks", "prefix_blocks", "draft_tok", "window_kv_tok")
AMOUNTS = (
    "state_blocks", "window_blocks_per_tok", "acceptance_ratio", "draft_s", "weight", "transfer_s",
    "transfer_s_per_tok",
)  # fmt: skip


@dataclass(frozen=True, eq=False)
class Pool:
    """Replicas of one kind.

    Parameters
    ----------
    name : str
        For results.
    table : StepTable
        What a step takes.
    replicas : int
        How many there are.
    up : int or None
        How many of them take requests from the start; None for all.
    role : Role
        Prompts and decodes, or one of them.
    max_batched_tok, max_seqs : int
        Most tokens of a step, most running requests; 0 for what the table was made for. [tok], [-]
    kv_blocks, block_tok : int
        Blocks of KV cache of a replica, tokens of one. [-], [tok]
    state_blocks : float
        Blocks that a running request takes whatever its length: state of linear layers. [-]
    window_blocks_per_tok, window_kv_tok : float, int
        Blocks of windowed layers per token, up to so many tokens; taken at admission. [1/tok], [tok]
    watermark_blocks : int
        Blocks that an admission leaves free while others run.
    context_most_tok : int
        Longest prompt and answer together. [tok]
    prefix_blocks, prefix_block_tok : int
        Capacity of the prefix cache, in blocks of the workload's hashes; tokens of such a block. Its memory is its own:
        what it takes of a chip's memory is not in kv_blocks.
    draft_tok, acceptance_ratio, draft_s : int, float, float
        Speculative decoding: tokens drafted per step, chance that a drafted token is accepted if those before it were,
        time to draft. [tok], [-], [s]
    weight : float
        Share of requests for the weighted router.
    transfer_s, transfer_s_per_tok : float
        Handing the KV cache of a prompt over: fixed time, time per token of the prompt; a replica hands over one after
        the other. [s], [s/tok]
    """

    name: str
    table: StepTable
    replicas: int = 1
    up: int | None = None
    role: Role = Role.BOTH
    max_batched_tok: int = 0
    max_seqs: int = 0
    kv_blocks: int = UNLIMITED
    block_tok: int = 16
    state_blocks: float = 0.0
    window_blocks_per_tok: float = 0.0
    window_kv_tok: int = 0
    watermark_blocks: int = 0
    context_most_tok: int = CONTEXT_MOST_TOK
    prefix_blocks: int = 0
    prefix_block_tok: int = 512
    draft_tok: int = 0
    acceptance_ratio: float = 0.0
    draft_s: float = 0.0
    weight: float = 1.0
    transfer_s: float = 0.0
    transfer_s_per_tok: float = 0.0

    def __post_init__(self) -> None:
        for name, value in (("max_batched_tok", self.table.max_batched_tok), ("max_seqs", self.table.max_seqs)):
            if not getattr(self, name):
                object.__setattr__(self, name, value)
        for least, names in ((1, COUNTS_FROM_1), (0, COUNTS_FROM_0)):
            for name in names:
                if not least <= getattr(self, name) <= UNLIMITED:
                    raise ConfigError(f"pool {self.name}: {name} is at least {least}, not {getattr(self, name)}")
        for name in AMOUNTS:
            if not 0 <= getattr(self, name) < math.inf:
                raise ConfigError(f"pool {self.name}: {name} is finite and not negative, not {getattr(self, name)}")
        self._limits_check()

    def _limits_check(self) -> None:
        table = self.table
        if self.max_batched_tok > table.max_batched_tok or self.max_seqs > table.max_seqs:
            raise ConfigError(
                f"pool {self.name}: a step of {self.max_batched_tok} tokens and {self.max_seqs} sequences is "
                f"beyond the {table.max_batched_tok} and {table.max_seqs} of its table"
            )
        if self.max_seqs * self.seq_tok > self.max_batched_tok:
            raise ConfigError(
                f"pool {self.name}: {self.max_seqs} sequences of {self.seq_tok} tokens a step are more than the "
                f"{self.max_batched_tok} tokens of a step"
            )
        if not 0 <= self.up_at_start <= self.replicas:
            raise ConfigError(f"pool {self.name}: {self.up} of {self.replicas} replicas cannot be up")
        if not self.acceptance_ratio < 1:
            raise ConfigError(f"pool {self.name}: acceptance_ratio is below 1, not {self.acceptance_ratio}")
        if not self.weight > 0:
            raise ConfigError(f"pool {self.name}: weight is positive, not {self.weight}")
        if self.context_most_tok > CONTEXT_MOST_TOK:
            raise ConfigError(f"pool {self.name}: contexts are simulated up to {CONTEXT_MOST_TOK} tokens")
        if self.kv_most_tok < 1:
            raise ConfigError(f"pool {self.name}: {self.kv_blocks} KV blocks do not hold one token")
        if any(np.any(part < 0) for part in table_parts(table)) or not table_busy_fits(table):
            raise ConfigError(f"pool {self.name}: no part of a step takes less than no time, or is busy for longer")

    @property
    def up_at_start(self) -> int:
        """Replicas that take requests from the start."""
        return self.replicas if self.up is None else self.up

    @property
    def seq_tok(self) -> int:
        """Tokens of a step per decoding sequence: the next one and those drafted. [tok]"""
        return 1 + self.draft_tok

    @property
    def kv_most_tok(self) -> int:
        """Longest KV cache of one request that has a replica for itself. [tok]"""
        fixed = math.ceil(self.state_blocks + self.window_blocks_per_tok * self.window_kv_tok)
        return int(min((self.kv_blocks - fixed) * self.block_tok, CONTEXT_MOST_TOK))


def table_parts(table: StepTable) -> Iterator[np.ndarray]:
    """Yield every part of a step table; none may be negative."""
    yield from (table.linear_s, table.decode_s, table.context_s_per_tok, table.window_s_per_tok)
    yield np.array([table.prefill_s_per_tok2, table.window_s_per_tok2, table.prefill_s, table.fixed_s])


def table_busy_fits(table: StepTable) -> bool:
    """Return whether no part of a step draws full power for longer than it takes."""
    activity = table.activity
    return bool(
        np.all(activity.linear_busy_s <= table.linear_s * (1 + 1e-9))
        and max(activity.decode_ratio, activity.prefill_ratio) <= 1 + 1e-9
    )


@dataclass(frozen=True)
class Load:
    """How requests arrive.

    Parameters
    ----------
    kind : LoadKind
        OPEN: at their own times. CLOSED: each of `clients` sends its next request `think_s` after its last one ended.
        STATIC: `clients` requests at once, the next ones when all of them have ended.
    clients : int
        Clients, or requests of a batch; 0 with OPEN.
    think_s : float
        Mean pause of a client. [s]
    think_random : bool
        Whether pauses are exponentially distributed; otherwise they are all alike.
    ramp_s : float
        Time over which the clients send their first requests, evenly spread. [s]
    """

    kind: LoadKind = LoadKind.OPEN
    clients: int = 0
    think_s: float = 0.0
    think_random: bool = False
    ramp_s: float = 0.0

    def __post_init__(self) -> None:
        if (self.clients > 0) == (self.kind == LoadKind.OPEN) or self.clients < 0:
            raise ConfigError(f"a load of kind {self.kind.name.lower()} does not have {self.clients} clients")
        if not (0 <= self.think_s < math.inf and 0 <= self.ramp_s < math.inf):
            raise ConfigError(f"pauses are finite and not negative: {self.think_s}, {self.ramp_s}")


@dataclass(frozen=True)
class Change:
    """Something happens to a replica.

    Parameters
    ----------
    at_s : float
        When. [s]
    replica : int
        Number of the replica; they are counted through all pools, in order.
    kind : ChangeKind
        What. START draws idle power from then on; READY takes requests; DRAIN takes no more, ends what it has and
        switches off; FAIL loses everything at once: its requests go to others, which read them again.
    """

    at_s: float
    replica: int
    kind: ChangeKind


@dataclass(frozen=True)
class Limits:
    """Limits of one request: time to first token, mean time per later token, whole time. [s]"""

    ttft_s: float = math.inf
    tpot_s: float = math.inf
    e2e_s: float = math.inf

    def __post_init__(self) -> None:
        if not min(self.ttft_s, self.tpot_s, self.e2e_s) > 0:
            raise ConfigError(f"limits are positive: {self}")


@dataclass(frozen=True, eq=False)
class Plan:
    """One simulation.

    Parameters
    ----------
    pools : sequence of Pool
        All replicas; their numbers run through the pools in order.
    router : Router
        How requests are spread, and how handed-over ones are.
    load : Load
        How they arrive.
    changes : sequence of Change
        In order of time.
    slos : sequence of Limits
        Goodput is counted for each.
    seed : int
        Of all random draws.
    waiting_most : int
        Waiting requests at which the simulation of an open load stops and says unstable.
    until_s : float
        When it stops in any case. [s]
    timeline_s : float
        First interval of the timeline; it doubles whenever 512 samples are full. 0: by the workload's span. [s]
    requests : int
        How many there will be, if that is known: then the queue is looked at when half of them have arrived.
    """

    pools: Sequence[Pool]
    router: Router = Router.ROUND_ROBIN
    load: Load = Load()
    changes: Sequence[Change] = ()
    slos: Sequence[Limits] = ()
    seed: int = 0
    waiting_most: int = 1_000_000
    until_s: float = math.inf
    timeline_s: float = 0.0
    requests: int = 0

    def __post_init__(self) -> None:
        roles = {pool.role for pool in self.pools}
        if not self.pools or not roles - {Role.DECODE}:
            raise ConfigError("a simulation needs a pool that reads prompts")
        if (Role.PREFILL in roles) != (Role.DECODE in roles):
            raise ConfigError("pools for prompts only and pools for decodes only come together")
        names = [pool.name for pool in self.pools]
        if len(set(names)) < len(names):
            raise ConfigError(f"pools have names of their own: {', '.join(names)}")
        if not (0 <= self.timeline_s < math.inf and self.until_s > 0 and self.waiting_most > 0):
            raise ConfigError("until_s and waiting_most are positive, timeline_s is not negative")
        if not 0 <= self.seed < 2**63:
            raise ConfigError(f"a seed is a whole number from 0 to 2^63, not {self.seed}")
        count = sum(pool.replicas for pool in self.pools)
        last_s = 0.0
        for change in self.changes:
            if not (0 <= change.replica < count and last_s <= change.at_s < math.inf):
                raise ConfigError(f"changes come in order of time and name one of {count} replicas: {change}")
            last_s = change.at_s

    def replicas(self) -> Iterator[tuple[int, bool]]:
        """Yield pool number and whether it is up from the start, replica by replica."""
        for number, pool in enumerate(self.pools):
            for place in range(pool.replicas):
                yield number, place < pool.up_at_start


def failures_draw(
    replicas: Sequence[int], *, until_s: float, mtbf_s: float, repair_s: float, load_s: float, seed: int
) -> list[Change]:
    """Return failures and returns of replicas: exponential times between failures, fixed repair and loading times.

    Parameters
    ----------
    replicas : sequence of int
        Numbers of the replicas that may fail.
    until_s, mtbf_s : float
        End of the schedule, mean time from return to failure. [s]
    repair_s, load_s : float
        From failure to start, from start to ready. [s]
    seed : int
        Equal seeds give equal failures.
    """
    if not (mtbf_s > 0 and 0 <= repair_s < math.inf and 0 <= load_s < math.inf and 0 < until_s < math.inf):
        raise ConfigError(f"failures need positive, finite times: {mtbf_s}, {repair_s}, {load_s}, until {until_s}")
    if len(replicas) * until_s / (mtbf_s + repair_s + load_s) > FAILURES_MOST:
        raise ConfigError(f"failures every {mtbf_s + repair_s + load_s:g} s are more than {FAILURES_MOST:,} in all")
    changes = []
    for replica in replicas:
        rng = np.random.default_rng((seed, replica))
        at_s = 0.0
        while (at_s := at_s + float(rng.exponential(mtbf_s))) < until_s:
            changes.append(Change(at_s, replica, ChangeKind.FAIL))
            changes.append(Change(at_s + repair_s, replica, ChangeKind.START))
            at_s += repair_s + load_s
            changes.append(Change(at_s, replica, ChangeKind.READY))
    return changes_sorted(changes, replicas)


def scaling(replicas: Sequence[int], *, up: int, steps: Sequence[tuple[float, int]], load_s: float) -> list[Change]:
    """Return the changes of a schedule that says how many replicas of a pool shall be up.

    Parameters
    ----------
    replicas : sequence of int
        Numbers of the pool's replicas; the first ones are up.
    up : int
        How many of them are up from the start.
    steps : sequence of (float, int)
        From when on, how many shall take requests. [s]
    load_s : float
        How long a new one loads before it does. [s]
    """
    changes, up_at_start = [], up
    for at_s, wanted in sorted(steps):
        if not 0 <= wanted <= len(replicas):
            raise ConfigError(f"{wanted} of {len(replicas)} replicas cannot be up")
        for number in replicas[up:wanted]:
            changes += [Change(at_s, number, ChangeKind.START), Change(at_s + load_s, number, ChangeKind.READY)]
        changes += [Change(at_s, number, ChangeKind.DRAIN) for number in replicas[wanted:up]]
        up = wanted
    return changes_sorted(changes, replicas[:up_at_start])


def changes_sorted(changes: Sequence[Change], up: Iterable[int] = ()) -> list[Change]:
    """Return changes in the order in which they happen; at one instant by replica, START before READY and so on.

    A READY belongs to the START before it: it is left out if the replica was on already, or was drained or lost while
    it loaded.

    Parameters
    ----------
    changes : sequence of Change
        In any order; a replica takes equally long to load each time.
    up : iterable of int
        Replicas that are up from the start.
    """
    states = dict.fromkeys(up, "on")
    loading: dict[int, deque[bool]] = {}  # for every START whose READY is to come: whether it still counts
    kept = []
    for change in sorted(changes, key=lambda change: (change.at_s, change.replica, change.kind)):
        state, starts = states.get(change.replica, "off"), loading.setdefault(change.replica, deque())
        if change.kind == ChangeKind.START:
            starts.append(state == "off")
            states[change.replica] = "loading" if state == "off" else state
        elif change.kind == ChangeKind.READY:
            if starts and not starts.popleft():
                continue
            states[change.replica] = "on"
        else:  # a drained one may be off by the time it is started again
            loading[change.replica] = deque(False for _ in starts)
            states[change.replica] = "off"
        kept.append(change)
    return kept
