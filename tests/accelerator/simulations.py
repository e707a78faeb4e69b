"""Random simulations over all features of the simulator, what a kernel makes of them, and small ones by hand.

All times are multiples of a power of two, so that what happens at the same instant does so in both twins to the last
bit. Half of the cases are coarse: their steps and arrivals lie on one grid of 1/1024 s and meet all the time. Under
speculation a context grows by a fraction, so there its slopes are zero.
"""

import math
from itertools import pairwise

import numpy as np

from accelerator.ledger import Ledger
from accelerator.power import Activity
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
    Progress,
    Role,
    Router,
)
from accelerator.steps import StepTable

GRID_S = 2.0**-10
TENANTS = 3


def random_case(seed):
    """Return a plan and the columns of a workload as a kernel takes them."""
    rng = np.random.default_rng(seed)
    coarse = rng.random() < 0.5
    pools = [_pool(rng, f"pool {number}", role, coarse) for number, role in enumerate(_roles(rng))]
    columns = _columns(rng)
    plan = Plan(
        pools,
        router=Router(_any(rng, list(Router))),
        load=_load(rng),
        changes=_changes(rng, sum(pool.replicas for pool in pools)),
        slos=[Limits(), Limits(0.25, 0.03125, 1.0)][: _any(rng, [0, 1, 2])],
        seed=int(rng.integers(0, 2**62)),
        waiting_most=_any(rng, [10**6, 10**6, 10**6, 10]),
        until_s=_any(rng, [math.inf, math.inf, math.inf, 1.0]),
        timeline_s=_any(rng, [1.0, 2.0**-7, 2.0**-12]),
        requests=len(columns[0]),
    )
    return plan, columns


def _any(rng, choices):
    return choices[rng.integers(len(choices))]


def _roles(rng):
    if rng.random() < 0.7:
        return [Role.BOTH] * _any(rng, [1, 2])
    return [Role.PREFILL, Role.DECODE, *([Role.BOTH] if rng.random() < 0.3 else [])]


def _table(rng, tok, seqs, window_tok, *, coarse, sloped):
    unit_s, most = (GRID_S, 5) if coarse else (2.0**-20, 4000)
    slope_s, most_slope = (GRID_S, 2) if coarse else (2.0**-26, 64)
    linear_s = np.concatenate([[0.0], np.sort(rng.integers(1, 4 * most, tok)) * unit_s])
    slopes = rng.integers(0, most_slope, (2, seqs + 1)) * (slope_s if sloped else 0.0)
    return StepTable(
        linear_s=linear_s,
        decode_s=np.concatenate([[0.0], rng.integers(0, most, seqs) * unit_s / 4]),
        context_s_per_tok=slopes[0],
        window_s_per_tok=slopes[1] * (window_tok > 0),
        prefill_s_per_tok2=0.0 if coarse else rng.integers(0, 16) * slope_s,
        window_s_per_tok2=0.0 if coarse else rng.integers(0, 16) * slope_s * (window_tok > 0),
        prefill_s=rng.integers(0, 100) * unit_s / 32,
        fixed_s=rng.integers(0, most) * unit_s,
        window_tok=float(window_tok),
        activity=Activity(linear_s * 0.5, decode_ratio=0.25, prefill_ratio=0.5, chips=1, idle_w=100.0, tdp_w=400.0),
    )


def _pool(rng, name, role, coarse):
    draft_tok = _any(rng, [0, 0, 0, 1, 2, 3])
    max_seqs = int(rng.integers(1, 12))
    max_batched_tok = int(max(max_seqs * (1 + draft_tok), rng.integers(4, 100)))
    block_tok = _any(rng, [1, 2, 4, 16, 64, 3, 7, 40])
    state_blocks, per_tok, window_kv_tok = _any(rng, [(0.0, 0.0, 0), (0.0, 0.0, 5), (0.5, 0.25, 20), (1.0, 0.0, 0)])
    fewest_blocks = 1 + math.ceil(state_blocks + per_tok * window_kv_tok)
    tight = fewest_blocks + int(rng.integers(8, 300)) // block_tok
    replicas = int(rng.integers(1, 4))
    window_tok = _any(rng, [0, 0, 0, int(rng.integers(1, 60))])
    rows = max_batched_tok + int(rng.integers(0, 5))
    return Pool(
        name,
        _table(rng, rows, max_seqs, window_tok, coarse=coarse, sloped=not draft_tok),
        replicas=replicas,
        up=_any(rng, [None, None, None, None, None, None, 0, 1]),
        role=role,
        max_batched_tok=max_batched_tok,
        max_seqs=max_seqs,
        kv_blocks=_any(rng, [UNLIMITED, tight, tight]),
        block_tok=block_tok,
        state_blocks=state_blocks,
        window_blocks_per_tok=per_tok,
        window_kv_tok=window_kv_tok,
        watermark_blocks=_any(rng, [0, 0, 1, 3]),
        context_most_tok=_any(rng, [2**31 - 1, 50, 200]),
        prefix_blocks=_any(rng, [0, 0, 2, 10, UNLIMITED]),
        prefix_block_tok=_any(rng, [1, 4, 8]),
        draft_tok=draft_tok,
        acceptance_ratio=_any(rng, [0.0, 0.5, 0.75]) if draft_tok else 0.0,
        draft_s=_any(rng, [0.0, GRID_S]),
        weight=_any(rng, [1.0, 2.0, 4.0, 0.5]),
        transfer_s=int(rng.integers(0, 5)) * GRID_S,
        transfer_s_per_tok=int(rng.integers(0, 5)) * (GRID_S if coarse else GRID_S / 16),
    )


def _load(rng):
    kind = _any(rng, [LoadKind.OPEN, LoadKind.OPEN, LoadKind.OPEN, LoadKind.CLOSED, LoadKind.STATIC])
    clients = int(rng.integers(1, 12))
    if kind == LoadKind.OPEN:
        return Load()
    if kind == LoadKind.STATIC:
        return Load(kind, clients)
    think_s, ramp_s = _any(rng, [0.0, 2.0**-6, 0.25]), _any(rng, [0.0, clients * 2.0**-4])
    return Load(kind, clients, think_s, ramp_s=ramp_s)


def _changes(rng, replicas):
    if rng.random() < 0.6:
        return ()
    times_s = np.sort(rng.integers(0, 4000, rng.integers(1, 12))) * GRID_S
    return [Change(float(at_s), int(rng.integers(replicas)), ChangeKind(int(rng.integers(4)))) for at_s in times_s]


def _columns(rng):
    n = int(rng.integers(1, 80))
    gap_s = _any(rng, [0.0, 2.0**-8, 2.0**-5, 2.0**-2])
    arrival_s = np.cumsum(np.round(rng.exponential(gap_s, n) / GRID_S)) * GRID_S
    input_tok = np.where(rng.random(n) < 0.03, 0, rng.integers(1, 60, n)) * _any(rng, [1, 1, 1, 1, 6])
    output_tok = np.where(rng.random(n) < 0.1, rng.integers(0, 2, n), rng.integers(1, 50, n))
    client_id = rng.integers(0, TENANTS, n if rng.random() < 0.4 else 0)
    priority = rng.integers(-1, 2, n if rng.random() < 0.4 else 0)
    prefixes = [
        [rng.integers(1000, 1010) if rng.random() < 0.2 else 100 * rng.integers(3) + place for place in range(blocks)]
        for blocks in rng.integers(0, 5, n if rng.random() < 0.5 else 0)
    ]
    ids = np.array([block for prefix in prefixes for block in prefix], dtype=np.int64)
    ends = np.cumsum([len(prefix) for prefix in prefixes], dtype=np.int64)
    return arrival_s, input_tok, output_tok, client_id, priority, ids, ends


def run(kernel, plan, columns, pieces=1, most_events=1_000_000):
    """Return progress, ledger and kept requests of a kernel that is fed in so many pieces."""
    n, replicas = len(columns[0]), sum(pool.replicas for pool in plan.pools)
    clients = TENANTS if len(columns[3]) else 0
    ledger = Ledger.empty(replicas=replicas, pools=len(plan.pools), slos=len(plan.slos), clients=clients)
    kept = {name: np.full(n, np.nan) for name in ("arrival_s", "first_s", "finish_s")}
    kept |= {name: np.full(n, -1, dtype=np.int64) for name in ("replica", "preemptions", "fate")}
    engine = kernel.Engine(plan, ledger, kept)
    cuts = [n * piece // pieces for piece in range(pieces + 1)]
    bounds = list(pairwise(cuts))
    while (progress := engine.run(most_events)) in (Progress.HUNGRY, Progress.PAUSED):
        if progress == Progress.HUNGRY:
            engine.feed(*_piece(columns, *bounds.pop(0)), last=not bounds)
    return progress, ledger, kept


def _piece(columns, begin, end):
    *plain, ids, ends = columns
    if len(ends):
        low, high = (ends[place - 1] if place else 0 for place in (begin, end))
        ids, ends = ids[low:high], ends[begin:end] - low
    return *(column[begin:end] for column in plain), ids, ends


def differences(one, other):
    """Return the names of what is not equal: whole numbers exactly, floats to 1e-9."""
    found = [] if one[0] == other[0] else [f"progress: {one[0].name}, {other[0].name}"]
    for part, others in ((one[1].columns(), other[1].columns()), (one[2], other[2])):
        for name, values in part.items():
            if values.dtype.kind == "i":
                same = np.array_equal(values, others[name])
            else:
                same = np.allclose(values, others[name], rtol=1e-9, atol=1e-13, equal_nan=True)
            if not same:
                found.append(name)
    return found


# --- simulations for mental arithmetic --------------------------------------------------------------------------------
def table(
    max_batched_tok=64, max_seqs=16, *, token_s=0.0, context_s=0.0, pair_s=0.0, fixed_s=0.0, active_ratio=0.0, **parts
):
    """Return a table whose steps take so long per token, per token of context and per pair of a prompt. [s]"""
    linear_s, ones = np.arange(max_batched_tok + 1) * token_s, np.ones(max_seqs + 1)
    values = {
        "linear_s": linear_s,
        "decode_s": 0.0 * ones,
        "context_s_per_tok": context_s * ones,
        "window_s_per_tok": 0.0 * ones,
        "prefill_s_per_tok2": pair_s,
        "window_s_per_tok2": 0.0,
        "prefill_s": 0.0,
        "fixed_s": fixed_s,
        "window_tok": 0.0,
        "activity": Activity(active_ratio * linear_s, active_ratio, active_ratio, chips=2, idle_w=100.0, tdp_w=500.0),
    }
    return StepTable(**values | parts)


def requests(*rows, **columns):
    """Return the workload of rows (arrival, prompt, answer)."""
    arrival_s, input_tok, output_tok = zip(*rows, strict=True)
    return Workload(
        "requests", np.array(arrival_s, dtype=np.float64), np.array(input_tok, dtype=np.int64),
        np.array(output_tok, dtype=np.int64), **columns,
    )  # fmt: skip
