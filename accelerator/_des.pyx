# cython: boundscheck=False, wraparound=False, cdivision=True, initializedcheck=False
"""The compiled simulator. _des_py.py is the specification and says what happens in which order; tests hold them equal.

It leaps: while the running batch of a replica does not change, its steps take t, t + d, t + 2 d, ... seconds, because
every sequence adds one token to its context. Such a run of k steps is one event. A run ends with the first sequence
that ends, the chunk that ends a prompt, the step for which KV blocks do not suffice or a context that leaves a window;
a request that arrives within it and can be admitted cuts it to the step in progress. docs/models/simulator.md draws it.

Where nothing but an arrival or a change looks at a replica, each goes on alone: it takes one run after the other up to
the next of these, and with a router that does not compare replicas only those of the replica that a request is sent to.
"""

cdef extern from *:
    bint unlikely(bint) noexcept nogil

from libc.math cimport INFINITY, NAN, ceil, floor, log, sqrt
from libc.stdint cimport int32_t, int64_t, uint8_t, uint32_t, uint64_t
from libc.stdlib cimport calloc, free, malloc, realloc
from libc.string cimport memcpy, memmove, memset

import numpy as np

cimport numpy as cnp

from accelerator import ledger as _ledger
from accelerator.simulation import Progress

cnp.import_array()

cdef enum:
    TTFT, TPOT, ITL, E2E, QUEUE, LATENCIES

cdef enum:
    ROUTED, FINISHED, PREFILL_TOK, OUTPUT_TOK, STEPS, PREEMPTIONS, RECOMPUTED_TOK, LOOKED_UP_TOK, HIT_TOK, FAILED_OVER
    TRANSFERS, PEAK_BLOCKS, PEAK_RUNNING, PEAK_WAITING, COUNTS

cdef enum:
    BUSY_S, DECODE_SEQ_S, PROMPT_SEQ_S, KV_TOK_S, ACTIVE_S, ON_S, LOST_S, TRANSFER_S, AMOUNTS

cdef enum:
    F_UNFINISHED, F_FINISHED, F_TRUNCATED, F_NO_PROMPT, F_NO_OUTPUT, F_OVER_CONTEXT, F_OVER_MEMORY, FATES

cdef enum:
    S_RUNNING, S_WAITING, S_KV_BLOCKS, S_UP, S_OUTPUT_TOK, S_FINISHED, SAMPLED

cdef enum:
    T_BEGIN, T_END, T_INTERVAL, T_SAMPLES, T_WAITING_AT_LAST, T_WAITING_AT_HALF, T_LAST_ARRIVAL, TIMES

cdef enum:
    BOTH, PREFILL, DECODE

cdef enum:
    ROUND_ROBIN, RANDOM, LEAST_OUTSTANDING, POWER_OF_TWO, PREFIX_AFFINITY, WEIGHTED

cdef enum:
    C_START, C_READY, C_DRAIN, C_FAIL

cdef enum:
    OPEN, CLOSED, STATIC

cdef enum:
    HUNGRY, PAUSED, DONE, HORIZON, UNSTABLE, STUCK

cdef enum:
    OFF, STARTING, UP, DRAINING

cdef enum:
    P_ROUTE = 1, P_SECOND = 2, P_PAUSE = 3, P_ACCEPT = 4

cdef enum:
    SHIFT = 45, FIRST_BIN = (1023 - 20) << 7, BINS = 5120, CLIENT_SHIFT = 3, CLIENT_BINS = 640
    SAMPLES = 512, NUMBER_BITS = 40, SLOTS = 256

cdef int64_t ENDLESS = <int64_t>1 << 62



# --- values -----------------------------------------------------------------------------------------------------------
cdef struct Request:
    double arrival_s
    double first_s
    double last_s
    double queued_s
    int64_t order              # priority, then number: the smaller goes first
    int64_t join_step          # steps of the replica before its first step of decoding
    int64_t* prefix
    Request* next              # of those not in use
    int32_t prefixes
    int32_t input_tok
    int32_t output_tok
    int32_t emitted_tok        # when it was queued or joined, not in between
    int32_t prompt_tok
    int32_t read_tok
    int32_t chunk_tok          # that each step of the run reads
    int32_t to_emit_tok
    int32_t steps              # of decoding, 0 if it does not decode
    int32_t kv_at_join_tok
    int32_t fixed_blocks
    int32_t client
    int32_t preemptions
    int32_t admissions
    int32_t due_at             # the remainder of the step numbers at which it needs a block
    uint8_t truncated
    uint8_t with_kv


cdef struct Ending:            # of a decoding request: after which step of its replica
    int64_t step
    Request* request


cdef struct End:               # of a run
    double at_s
    int64_t replica


cdef struct Moment:            # in a heap between replicas
    double at_s
    int64_t serial
    Request* request
    int64_t replica
    int64_t epoch
    int64_t blocks


cdef struct Moments:
    Moment* at
    int64_t count
    int64_t room


cdef struct Queue:
    Request** ring             # in order of arrival
    int64_t head
    int64_t count
    int64_t room               # a power of two
    Request** heap             # those that came out of order
    int64_t heaped
    int64_t heap_room
    int64_t last_order


cdef struct Block:             # of a prefix cache
    int64_t key
    int64_t older
    int64_t newer


cdef struct Cache:
    Block* block
    int64_t* table             # places in block, -1 for none
    int64_t room               # of the table, a power of two
    int64_t count
    int64_t block_room
    int64_t oldest
    int64_t newest


cdef struct Pool:
    const double* linear_s
    const double* decode_s
    const double* context_s_per_tok
    const double* window_s_per_tok
    const double* linear_busy_s
    double prefill_s_per_tok2, window_s_per_tok2, prefill_s, fixed_s, window_tok, decode_ratio, prefill_ratio
    double draft_s, acceptance_ratio, pass_size, transfer_s, transfer_s_per_tok, state_blocks, window_blocks_per_tok
    int64_t kv_blocks, most_tok, context_most_tok, prefix_blocks, prefix_block_tok, watermark_blocks
    int64_t max_batched_tok, max_seqs, seq_tok, draft_tok, window_kv_tok
    int64_t block_tok, block_shift  # shift is -1 unless block_tok is a power of two
    int role
    bint spread                # speculation: sequences grow by different amounts
    int64_t* histogram


cdef struct Replica:
    Pool* pool
    double start_s, step_s, more_s, end_s, active_s, more_active_s  # the run: step i takes step_s + i more_s
    double contexts, growth    # sum of what its first step looks at, what that grows by per step
    int64_t steps              # of the run; 0 without one, which ends never: end_s is infinite
    int64_t budget_tok         # what each of its steps leaves of the token budget
    int64_t done               # steps done so far
    int64_t phase              # remainder of the number of the next step, by block_tok
    int64_t contexts_tok       # sum over decoding requests of what the next step looks at
    int64_t prompts_tok        # sum over requests that are being read
    int64_t pairs2             # twice the pairs of tokens that a step reads with those before them
    int64_t used_blocks
    int32_t decodes, readings, joins, outstanding, number, pool_number, state
    bint dirty
    int32_t* due               # decoding requests by due_at: block_tok counts, twice, to be read from any phase on
    Ending* ending             # of the decoding requests, the next one last
    Request** reading          # in order of admission; those before the last one end with this step
    Request** joined           # decoding requests whose next token does not follow a step before
    double amount[AMOUNTS]     # of the ledger, as the next three: written there whenever the kernel returns
    int64_t count[COUNTS]
    double latency_sum_s[LATENCIES]
    double latency_max_s[LATENCIES]
    Queue queue
    Cache cache
    double on_since_s, link_free_s, passes
    int64_t epoch


cdef struct World:
    Pool* pool
    Replica* replica
    End* end                   # of the run of each replica, and which ends first: see _end_set
    Request* unused            # the first of a list
    Request** block            # memory of requests, SLOTS to a block
    int32_t* group             # entry replicas, then decode replicas
    int32_t* up                # scratch: those that are up
    int32_t* dirty
    Queue homeless[2]          # requests for which no replica is up: with prompts to read, with their KV
    int64_t group_count[2]
    int64_t turn[2]
    int64_t pools, replicas, leaves, blocks, dirties
    Moments transfers, issues
    double now_s, until_s, interval_s, sample_s, think_s, last_arrival_s
    int64_t sampled, waiting, waiting_at_half, waiting_at_last, waiting_most, in_system, arrived, requests
    int64_t handed_over, issued, clients, batch_left
    int load, router
    bint think_random, more, failed
    bint behind                # replicas may be behind now_s: each catches up when a request is sent to it
    uint64_t seed
    # the workload's chunk
    const double* arrival_s
    const int64_t* input_tok
    const int64_t* output_tok
    const int64_t* client
    const int64_t* priority
    const int64_t* prefix_ids
    const int64_t* prefix_ends
    int64_t chunk, at
    bint prefixes_kept
    # changes
    const double* change_s
    const int64_t* change_replica
    const int64_t* change_kind
    int64_t changes, changed
    # the ledger
    double* slo
    int64_t slos, tenants
    int64_t* histogram
    int64_t* ledger_count
    double* ledger_amount
    double* ledger_sum_s
    double* ledger_max_s
    int64_t* fate
    int64_t arrivals[3]
    int64_t* ledger_arrivals
    int64_t* good
    int64_t* client_count
    int64_t* client_histogram
    double* timeline
    double* times
    # what is kept of each request
    bint kept
    int64_t kept_count
    double* kept_arrival_s
    double* kept_first_s
    double* kept_finish_s
    int64_t* kept_replica
    int64_t* kept_preemptions
    int64_t* kept_fate


cdef inline int64_t _less(int64_t a, int64_t b) noexcept nogil:
    return a if a < b else b


cdef inline int64_t _number(const Request* q) noexcept nogil:
    return q.order & ((<int64_t>1 << NUMBER_BITS) - 1)


cdef inline int64_t _up(int64_t tok, const Pool* pool) noexcept nogil:
    if pool.block_shift >= 0:
        return (tok + pool.block_tok - 1) >> pool.block_shift
    return (tok + pool.block_tok - 1) / pool.block_tok


cdef inline int64_t _rest(int64_t tok, const Pool* pool) noexcept nogil:
    return tok & (pool.block_tok - 1) if pool.block_shift >= 0 else tok % pool.block_tok


cdef inline uint64_t _mix(uint64_t x) noexcept nogil:
    x += <uint64_t>0x9E3779B97F4A7C15
    x = (x ^ (x >> 30)) * <uint64_t>0xBF58476D1CE4E5B9
    x = (x ^ (x >> 27)) * <uint64_t>0x94D049BB133111EB
    return x ^ (x >> 31)


cdef inline uint64_t _draw(uint64_t seed, int64_t number, int64_t purpose) noexcept nogil:
    return _mix(_mix(_mix(seed) ^ <uint64_t>number) ^ <uint64_t>purpose)


cdef inline double _uniform(uint64_t bits) noexcept nogil:
    return <double>(bits >> 11) * (1.0 / 9007199254740992.0)


cdef inline int64_t _bin(double latency_s) noexcept nogil:
    cdef int64_t bits
    memcpy(&bits, &latency_s, 8)
    bits = (bits >> SHIFT) - FIRST_BIN
    if bits < 0:
        return 0
    return bits if bits < BINS else BINS - 1


cdef inline double _edge_s(int64_t at) noexcept nogil:
    cdef int64_t bits = (at + FIRST_BIN) << SHIFT
    cdef double edge_s
    memcpy(&edge_s, &bits, 8)
    return edge_s


cdef inline void _latency(Replica* r, int kind, double latency_s) noexcept nogil:
    r.pool.histogram[kind * BINS + _bin(latency_s)] += 1
    r.latency_sum_s[kind] += latency_s
    if latency_s > r.latency_max_s[kind]:
        r.latency_max_s[kind] = latency_s


cdef inline void _peak(Replica* r, int what, int64_t value) noexcept nogil:
    r.count[what] = value if value > r.count[what] else r.count[what]


cdef void _latencies(int64_t* histogram, double first_s, double more_s, int64_t steps, int64_t weight) noexcept nogil:
    """Count latencies first, first + more, ... into their bins, each `weight` times."""
    cdef int64_t i = 0, n, at, last = _bin(first_s + more_s * <double>(steps - 1))
    cdef double edge_s
    at = _bin(first_s)
    while at < last:
        edge_s = _edge_s(at + 1)
        n = <int64_t>((edge_s - first_s) / more_s) + 1
        while n > i and first_s + more_s * <double>(n - 1) >= edge_s:
            n -= 1
        while n < steps and first_s + more_s * <double>n < edge_s:
            n += 1
        histogram[at] += (n - i) * weight
        i = n
        if i >= steps:
            return
        at = _bin(first_s + more_s * <double>i)
    histogram[at] += (steps - i) * weight


cdef inline double _span_s(double step_s, double more_s, int64_t steps) noexcept nogil:
    cdef double n = <double>steps
    return n * step_s + more_s * (n * (n - 1.0) * 0.5)


cdef inline int64_t _steps_by(const Replica* r, double at_s) noexcept nogil:
    """Return how many steps of the run have ended at a moment within it."""
    cdef double x = at_s - r.start_s, half = 0.5 * r.more_s, b = r.step_s - half
    cdef int64_t n
    if r.steps == 1:
        return 1 if at_s >= r.end_s else 0
    n = <int64_t>(2.0 * x / (b + sqrt(b * b + 4.0 * half * x))) if b > 0 else 0
    if n > r.steps:
        n = r.steps
    while n > 0 and r.start_s + _span_s(r.step_s, r.more_s, n) > at_s:
        n -= 1
    while n < r.steps and r.start_s + _span_s(r.step_s, r.more_s, n + 1) <= at_s:
        n += 1
    return n


# --- what comes first -------------------------------------------------------------------------------------------------
cdef inline void _end_set(World* w, const Replica* r) noexcept nogil:
    """Note when the run of a replica ends.

    The ends are the leaves of a binary tree, each place above holds the earlier one of the two below, the left one at a
    tie: place 1 holds the first of all. There is no branch to guess on the way up.
    """
    cdef int64_t at = w.leaves + r.number, replica = r.number
    cdef double at_s = r.end_s, other_s
    cdef bint first
    w.end[at].at_s = at_s
    while at > 1:
        other_s = w.end[at ^ 1].at_s
        first = (other_s < at_s) | ((other_s == at_s) & <bint>(at & 1))
        replica = w.end[at ^ first].replica
        at_s = other_s if other_s < at_s else at_s
        at >>= 1
        w.end[at].at_s, w.end[at].replica = at_s, replica


cdef inline void _run_none(World* w, Replica* r) noexcept nogil:
    r.steps, r.end_s = 0, INFINITY
    _end_set(w, r)


cdef inline bint _earlier(const Moment* a, const Moment* b) noexcept nogil:
    return a.at_s < b.at_s or (a.at_s == b.at_s and a.serial < b.serial)


cdef void* _larger(World* w, void* old, int64_t byte) noexcept nogil:
    """Return more memory, or the old memory and a note that there is none."""
    cdef void* new = realloc(old, byte)
    if new == NULL:
        w.failed = True
        return old
    return new


cdef void _moments_push(World* w, Moments* heap, Moment which) noexcept nogil:
    cdef int64_t at = heap.count, parent
    if heap.count == heap.room:
        heap.at = <Moment*>_larger(w, heap.at, (2 * heap.room + 64) * sizeof(Moment))
        if w.failed:
            return
        heap.room = 2 * heap.room + 64
    heap.count += 1
    while at > 0:
        parent = (at - 1) >> 1
        if not _earlier(&which, &heap.at[parent]):
            break
        heap.at[at] = heap.at[parent]
        at = parent
    heap.at[at] = which


cdef Moment _moments_pop(Moments* heap) noexcept nogil:
    cdef Moment first = heap.at[0], which
    cdef int64_t at = 0, child
    heap.count -= 1
    which = heap.at[heap.count]
    while True:
        child = 2 * at + 1
        if child >= heap.count:
            break
        if child + 1 < heap.count and _earlier(&heap.at[child + 1], &heap.at[child]):
            child += 1
        if not _earlier(&heap.at[child], &which):
            break
        heap.at[at] = heap.at[child]
        at = child
    heap.at[at] = which
    return first


# --- the queue of a replica -------------------------------------------------------------------------------------------
cdef inline int64_t _queued(const Queue* q) noexcept nogil:
    return q.count + q.heaped


cdef inline Request* _queue_first(const Queue* q) noexcept nogil:
    """Return the waiting request that goes first; there is one."""
    if q.heaped and (q.count == 0 or q.heap[0].order < q.ring[q.head].order):
        return q.heap[0]
    return q.ring[q.head]


cdef void _queue_push(World* w, Queue* q, Request* request) noexcept nogil:
    cdef int64_t order = request.order, at, parent, i
    cdef Request** larger
    if q.count == 0 or order > q.last_order:
        if q.count == q.room:
            larger = <Request**>malloc(2 * q.room * sizeof(Request*))
            if larger == NULL:
                w.failed = True
                return
            for i in range(q.count):
                larger[i] = q.ring[(q.head + i) & (q.room - 1)]
            free(q.ring)
            q.ring, q.head, q.room = larger, 0, 2 * q.room
        q.ring[(q.head + q.count) & (q.room - 1)] = request
        q.count += 1
        q.last_order = order
        return
    if q.heaped == q.heap_room:
        q.heap = <Request**>_larger(w, q.heap, (2 * q.heap_room + 16) * sizeof(Request*))
        if w.failed:
            return
        q.heap_room = 2 * q.heap_room + 16
    at = q.heaped
    q.heaped += 1
    while at > 0:
        parent = (at - 1) >> 1
        if order >= q.heap[parent].order:
            break
        q.heap[at] = q.heap[parent]
        at = parent
    q.heap[at] = request


cdef void _queue_heap_pop(Queue* q) noexcept nogil:
    cdef Request* which
    cdef int64_t at = 0, child
    q.heaped -= 1
    which = q.heap[q.heaped]
    while True:
        child = 2 * at + 1
        if child >= q.heaped:
            break
        if child + 1 < q.heaped and q.heap[child + 1].order < q.heap[child].order:
            child += 1
        if q.heap[child].order >= which.order:
            break
        q.heap[at] = q.heap[child]
        at = child
    q.heap[at] = which


cdef inline Request* _queue_pop(Queue* q) noexcept nogil:
    cdef Request* first = _queue_first(q)
    if q.heaped and first == q.heap[0]:
        _queue_heap_pop(q)
    else:
        q.head = (q.head + 1) & (q.room - 1)
        q.count -= 1
    return first


# --- the prefix cache: a hash table over a list by last use -----------------------------------------------------------
cdef inline int64_t _cache_spot(const Cache* c, int64_t key) noexcept nogil:
    """Return the place in the table that holds a key, or the empty one where it belongs."""
    cdef int64_t at = <int64_t>(_mix(<uint64_t>key) & <uint64_t>(c.room - 1))
    while c.table[at] >= 0 and c.block[c.table[at]].key != key:
        at = (at + 1) & (c.room - 1)
    return at


cdef inline bint _cache_holds(const Cache* c, int64_t key) noexcept nogil:
    return c.room > 0 and c.table[_cache_spot(c, key)] >= 0


cdef inline void _cache_unlink(Cache* c, int64_t at) noexcept nogil:
    cdef int64_t older = c.block[at].older, newer = c.block[at].newer
    if older >= 0:
        c.block[older].newer = newer
    else:
        c.oldest = newer
    if newer >= 0:
        c.block[newer].older = older
    else:
        c.newest = older


cdef inline void _cache_link(Cache* c, int64_t at) noexcept nogil:
    c.block[at].older, c.block[at].newer = c.newest, -1
    if c.newest >= 0:
        c.block[c.newest].newer = at
    else:
        c.oldest = at
    c.newest = at


cdef void _cache_table_remove(Cache* c, int64_t key) noexcept nogil:
    cdef int64_t gap = _cache_spot(c, key), at = gap, home
    c.table[gap] = -1
    while True:
        at = (at + 1) & (c.room - 1)
        if c.table[at] < 0:
            return
        home = <int64_t>(_mix(<uint64_t>c.block[c.table[at]].key) & <uint64_t>(c.room - 1))
        if ((at - home) & (c.room - 1)) >= ((at - gap) & (c.room - 1)):
            c.table[gap] = c.table[at]
            c.table[at] = -1
            gap = at


cdef void _cache_grow(World* w, Cache* c) noexcept nogil:
    cdef int64_t room = 2 * c.room if c.room else 64, i
    cdef int64_t* table = <int64_t*>malloc(room * sizeof(int64_t))
    if table == NULL:
        w.failed = True
        return
    c.block = <Block*>_larger(w, c.block, (room // 2 + 1) * sizeof(Block))
    if w.failed:
        free(table)
        return
    free(c.table)
    c.table, c.room, c.block_room = table, room, room // 2 + 1
    memset(table, 255, room * sizeof(int64_t))
    for i in range(c.count):
        table[_cache_spot(c, c.block[i].key)] = i


cdef void _cache_use(World* w, Cache* c, int64_t key, int64_t most) noexcept nogil:
    """Put a block into the cache, or make it the last used; drop the longest unused beyond the capacity."""
    cdef int64_t spot, at
    if c.count + 1 >= c.room // 2:
        _cache_grow(w, c)
        if w.failed:
            return
    spot = _cache_spot(c, key)
    at = c.table[spot]
    if at >= 0:
        _cache_unlink(c, at)
        _cache_link(c, at)
        return
    if c.count >= most:
        at = c.oldest
        _cache_unlink(c, at)
        _cache_table_remove(c, c.block[at].key)
        spot = _cache_spot(c, key)
    else:
        at = c.count
        c.count += 1
    c.block[at].key = key
    c.table[spot] = at
    _cache_link(c, at)


cdef void _cache_clear(Cache* c) noexcept nogil:
    if c.room:
        memset(c.table, 255, c.room * sizeof(int64_t))
    c.count, c.oldest, c.newest = 0, -1, -1


# --- requests come and go ---------------------------------------------------------------------------------------------
cdef void _requests_make(World* w) noexcept nogil:
    """Make more requests to use; they stay where they are."""
    cdef int64_t i
    cdef Request* block = <Request*>malloc(SLOTS * sizeof(Request))
    w.block = <Request**>_larger(w, w.block, (w.blocks + 1) * sizeof(Request*))
    if block == NULL or w.failed:
        free(block)
        w.failed = True
        return
    w.block[w.blocks] = block
    w.blocks += 1
    for i in range(SLOTS - 1, -1, -1):
        block[i].prefix, block[i].next = NULL, w.unused
        w.unused = &block[i]


cdef void _leave(World* w, Request* q, int fate) noexcept nogil:
    cdef Moment issue
    w.in_system -= 1
    w.fate[fate] += 1
    if w.kept and _number(q) < w.kept_count:
        w.kept_fate[_number(q)] = fate
        w.kept_preemptions[_number(q)] = q.preemptions
    if q.prefix != NULL:
        free(q.prefix)
        q.prefix = NULL
    if w.load == CLOSED:
        issue.at_s = w.think_s
        if w.think_random:
            issue.at_s = w.think_s * -log(1 - _uniform(_draw(w.seed, _number(q), P_PAUSE)))
        issue.at_s += w.now_s
        issue.serial = w.issued
        w.issued += 1
        _moments_push(w, &w.issues, issue)
    q.next = w.unused
    w.unused = q


cdef void _finish(World* w, Replica* r, Request* q) noexcept nogil:
    cdef double e2e_s = w.now_s - q.arrival_s, ttft_s = q.first_s - q.arrival_s, tpot_s = 0.0
    cdef int64_t i, met
    cdef int64_t* counts = NULL
    cdef int64_t* bins
    cdef bint several = q.output_tok > 1
    r.count[FINISHED] += 1
    _latency(r, E2E, e2e_s)
    if several:
        tpot_s = (w.now_s - q.first_s) / <double>(q.output_tok - 1)
        _latency(r, TPOT, tpot_s)
    if w.tenants:
        counts = &w.client_count[q.client * (3 + w.slos)]
        counts[0] += 1
        counts[1] += q.input_tok
        counts[2] += q.output_tok
        bins = &w.client_histogram[q.client * 3 * CLIENT_BINS]
        bins[_bin(ttft_s) >> CLIENT_SHIFT] += 1
        if several:
            bins[CLIENT_BINS + (_bin(tpot_s) >> CLIENT_SHIFT)] += 1
        bins[2 * CLIENT_BINS + (_bin(e2e_s) >> CLIENT_SHIFT)] += 1
    for i in range(w.slos):
        met = (ttft_s <= w.slo[3 * i]) & (tpot_s <= w.slo[3 * i + 1]) & (e2e_s <= w.slo[3 * i + 2]) & (not q.truncated)
        w.good[i] += met
        if counts != NULL:
            counts[3 + i] += met
    if w.kept and _number(q) < w.kept_count:
        w.kept_finish_s[_number(q)] = w.now_s
        w.kept_replica[_number(q)] = r.number
    _leave(w, q, F_TRUNCATED if q.truncated else F_FINISHED)


cdef void _touch(World* w, Replica* r) noexcept nogil:
    """Let a replica without a run start one, once everything of this instant has happened."""
    if not r.dirty:
        r.dirty = True
        w.dirty[w.dirties] = r.number
        w.dirties += 1


cdef int32_t _fixed_blocks(const Pool* pool, const Request* q) noexcept nogil:
    """Return the blocks of a request for its state and its windows."""
    cdef int64_t in_window_tok = _less(pool.window_kv_tok, <int64_t>q.input_tok + q.output_tok)
    return <int32_t>ceil(pool.state_blocks + pool.window_blocks_per_tok * <double>in_window_tok)


cdef inline void _enqueue(World* w, Replica* r, Request* q) noexcept nogil:
    q.queued_s = w.now_s
    q.steps = q.read_tok = 0
    q.prompt_tok = q.input_tok + q.emitted_tok - q.with_kv
    q.fixed_blocks = _fixed_blocks(r.pool, q) if unlikely(r.pool.state_blocks + r.pool.window_blocks_per_tok > 0) else 0
    _queue_push(w, &r.queue, q)
    w.waiting += 1
    _peak(r, PEAK_WAITING, _queued(&r.queue))


cdef inline bint _may_admit(const Replica* r) noexcept nogil:
    return r.budget_tok > 0 and r.decodes + r.readings < r.pool.max_seqs


cdef inline bint _fits(const Replica* r, const Request* q) noexcept nogil:
    """Return whether a replica can ever hold what a request needs for its next token."""
    return <int64_t>q.input_tok + q.emitted_tok + 1 <= r.pool.most_tok


cdef void _place(World* w, Replica* r, Request* q) noexcept nogil:
    """Put a request into the queue of a replica, cut to what can ever fit there, or refuse it."""
    cdef int64_t least_tok = <int64_t>q.input_tok + q.emitted_tok + 1, done
    if least_tok > r.pool.most_tok:
        if q.emitted_tok:
            q.output_tok = q.emitted_tok
            q.truncated = True
            _finish(w, r, q)
        else:
            _leave(w, q, F_OVER_CONTEXT if least_tok > r.pool.context_most_tok else F_OVER_MEMORY)
        return
    if r.pool.role != PREFILL and <int64_t>q.input_tok + q.output_tok > r.pool.most_tok:
        q.output_tok = <int32_t>(r.pool.most_tok - q.input_tok)
        q.truncated = True
    r.outstanding += 1
    r.count[ROUTED] += 1
    _enqueue(w, r, q)
    if r.steps == 0:
        _touch(w, r)
    elif _may_admit(r) and r.steps > 1 and _queue_first(&r.queue) == q:
        done = _steps_by(r, w.now_s)
        if r.start_s + _span_s(r.step_s, r.more_s, done) < w.now_s or done == 0:
            done += 1  # the step in progress goes on to its end
        if done < r.steps:
            r.steps = done
            r.end_s = r.start_s + _span_s(r.step_s, r.more_s, done)
            _end_set(w, r)


cdef inline Replica* _choose(World* w, const Request* q, int side) noexcept nogil:
    """Return a replica that is up, or NULL."""
    cdef int32_t* group = w.group if side == 0 else w.group + w.group_count[0]
    cdef int64_t count = w.group_count[side], ups = 0, i, at, second, best = -1
    cdef Replica* r
    cdef double score, least = INFINITY
    cdef int64_t fewest = ENDLESS
    if w.router == ROUND_ROBIN or w.router == PREFIX_AFFINITY:
        at = w.turn[side]
        if w.router == PREFIX_AFFINITY and q.prefixes:
            at = <int64_t>(_mix(<uint64_t>q.prefix[0] ^ _mix(w.seed)) % <uint64_t>count) if count else 0
        for i in range(count):
            if w.replica[group[at]].state == UP:
                if not (w.router == PREFIX_AFFINITY and q.prefixes):
                    w.turn[side] = at + 1 if at + 1 < count else 0
                return &w.replica[group[at]]
            at = at + 1 if at + 1 < count else 0
        return NULL
    if w.router == LEAST_OUTSTANDING:
        for i in range(count):  # the least of numbers made of both: no branch to guess
            r = &w.replica[group[i]]
            fewest = _less(fewest, (<int64_t>r.outstanding << 32 | group[i]) if r.state == UP else ENDLESS)
        return &w.replica[fewest & 0x7fffffff] if fewest < ENDLESS else NULL
    if w.router == WEIGHTED:
        for i in range(count):
            r = &w.replica[group[i]]
            if r.state == UP and r.passes + r.pool.pass_size < least:
                least, best = r.passes + r.pool.pass_size, group[i]
        if best < 0:
            return NULL
        w.replica[best].passes += w.replica[best].pool.pass_size
        return &w.replica[best]
    for i in range(count):
        w.up[ups] = group[i]
        ups += w.replica[group[i]].state == UP
    if ups == 0:
        return NULL
    at = <int64_t>(_draw(w.seed, _number(q), P_ROUTE + 8 * q.admissions) % <uint64_t>ups)
    if w.router == RANDOM or ups == 1:
        return &w.replica[w.up[at]]
    second = <int64_t>(_draw(w.seed, _number(q), P_SECOND + 8 * q.admissions) % <uint64_t>(ups - 1))
    second += second >= at
    if second < at:
        at, second = second, at
    r = &w.replica[w.up[at]]
    return &w.replica[w.up[second]] if w.replica[w.up[second]].outstanding < r.outstanding else r


cdef Replica* _able(World* w, const Request* q, int side, Replica* chosen) noexcept nogil:
    """Return the first replica that is up and can hold a request; the chosen one if none can."""
    cdef int32_t* group = w.group if side == 0 else w.group + w.group_count[0]
    cdef int64_t i
    for i in range(w.group_count[side]):
        if w.replica[group[i]].state == UP and _fits(&w.replica[group[i]], q):
            return &w.replica[group[i]]
    return chosen


cdef void _send(World* w, Request* q, int side) noexcept nogil:
    """Route a request; it waits here, in order, if no replica is up for it."""
    cdef Replica* r = _choose(w, q, side)
    cdef double now_s = w.now_s
    if r == NULL:
        w.waiting += 1
        _queue_push(w, &w.homeless[side], q)
        return
    if unlikely(not _fits(r, q)):
        r = _able(w, q, side, r)
    if w.behind and r.end_s <= now_s:
        _catch_up(w, r, now_s, ENDLESS)
        w.now_s = now_s
        if r.end_s == now_s:
            _run_end(w, r)
            _end_set(w, r)
            _touch(w, r)
    _place(w, r, q)


# --- decoding ---------------------------------------------------------------------------------------------------------
cdef inline int64_t _kv_tok(const Replica* r, const Request* q, int64_t steps) noexcept nogil:
    """Return the KV of a decoding request after so many of its steps."""
    if r.pool.spread:
        return q.kv_at_join_tok + (steps * q.to_emit_tok + q.steps - 1) / q.steps
    return q.kv_at_join_tok + steps


cdef inline int64_t _blocks(const Replica* r, const Request* q, int64_t kv_tok) noexcept nogil:
    return _up(kv_tok, r.pool) + q.fixed_blocks


cdef int64_t _grown_unevenly(const Replica* r, int64_t steps) noexcept nogil:
    """Return the KV blocks that so many steps of speculative decoding take."""
    cdef int64_t blocks = 0, i, at
    cdef const Request* q
    for i in range(r.decodes):
        q = r.ending[i].request
        at = r.done - q.join_step
        blocks += _up(_kv_tok(r, q, at + steps), r.pool) - _up(_kv_tok(r, q, at), r.pool)
    return blocks


cdef inline int64_t _grown(const Replica* r, int64_t steps) noexcept nogil:
    """Return the KV blocks that so many steps of decoding take."""
    cdef int32_t begin, place, rest, some = 0
    cdef const int32_t* due = &r.due[r.phase]
    if unlikely(r.pool.spread):
        return _grown_unevenly(r, steps)
    rest = <int32_t>_rest(steps, r.pool)
    for begin in range(0, rest, 16):  # 16 at once, some for nothing: no branch to guess
        for place in range(16):
            some += due[place] & -<int32_t>(place < rest - begin)
        due += 16
    return _up(steps - rest, r.pool) * r.decodes + some


cdef inline int64_t _due(const Replica* r) noexcept nogil:
    """Return the KV blocks that the next step takes."""
    return _grown_unevenly(r, 1) if unlikely(r.pool.spread) else r.due[r.phase]


cdef int64_t _steps_held(const Replica* r, int64_t most, int64_t free_blocks) noexcept nogil:
    """Return for how many steps, at most `most`, the free blocks suffice; at least one is known to do."""
    cdef int64_t size = r.pool.block_tok, cycles, steps, at, low, high
    if r.pool.spread:
        if _grown(r, most) <= free_blocks:
            return most
        low, high = 1, most
        while high - low > 1:
            steps = (low + high) / 2
            if _grown(r, steps) <= free_blocks:
                low = steps
            else:
                high = steps
        return low
    cycles = free_blocks / r.decodes
    free_blocks -= cycles * r.decodes
    steps, at = cycles * size, r.phase
    while steps < most and r.due[at] <= free_blocks:
        free_blocks -= r.due[at]
        steps += 1
        at += 1
    return _less(steps, most)


cdef inline void _ending_add(Replica* r, Request* q) noexcept nogil:
    """Put a decoding request among the endings: by step, then by order."""
    cdef int64_t at = r.decodes, step = r.done + q.steps
    while at and r.ending[at - 1].step <= step:
        if r.ending[at - 1].step == step and r.ending[at - 1].request.order > q.order:
            break
        r.ending[at] = r.ending[at - 1]
        at -= 1
    r.ending[at].step, r.ending[at].request = step, q
    r.decodes += 1


cdef void _join(World* w, Replica* r, Request* q) noexcept nogil:
    """Let a request decode from the next step on; how many steps that takes is drawn here."""
    cdef int64_t emitted_tok = 0, accepted, due_at
    cdef uint64_t bits
    cdef double chance
    q.to_emit_tok = q.output_tok - q.emitted_tok
    q.kv_at_join_tok = q.input_tok + q.emitted_tok - 1
    q.steps = q.to_emit_tok
    q.join_step = r.done
    if r.pool.spread:
        q.steps = 0
        bits = _draw(w.seed, _number(q), P_ACCEPT + 8 * q.admissions)
        while emitted_tok < q.to_emit_tok:
            accepted, chance = 0, r.pool.acceptance_ratio
            bits = _mix(bits)
            while accepted < r.pool.draft_tok and _uniform(bits) < chance:
                accepted += 1
                chance *= r.pool.acceptance_ratio
            emitted_tok += 1 + accepted
            q.steps += 1
    else:
        due_at = r.phase - _rest(q.kv_at_join_tok, r.pool)
        q.due_at = <int32_t>(due_at if due_at >= 0 else due_at + r.pool.block_tok)
        r.due[q.due_at] += 1
        r.due[q.due_at + r.pool.block_tok] += 1
    r.contexts_tok += q.kv_at_join_tok + 1
    _ending_add(r, q)


cdef inline Request* _part(Replica* r, int64_t at) noexcept nogil:
    """Take a request out of the decoding ones, at a place among the endings, with its blocks."""
    cdef Request* q = r.ending[at].request
    cdef int64_t steps = r.done - q.join_step, kv_tok = _kv_tok(r, q, steps)
    r.used_blocks -= _blocks(r, q, kv_tok)
    r.contexts_tok -= q.kv_at_join_tok + 1 + steps
    q.emitted_tok += <int32_t>(kv_tok - q.kv_at_join_tok)
    if steps:
        q.last_s = r.start_s  # the end of the last step
    if not r.pool.spread:
        r.due[q.due_at] -= 1
        r.due[q.due_at + r.pool.block_tok] -= 1
    q.steps = 0
    r.decodes -= 1
    for at in range(at, r.decodes):
        r.ending[at] = r.ending[at + 1]
    return q


cdef void _preempt(World* w, Replica* r) noexcept nogil:
    """Send the running request that is last in order back to the queue."""
    cdef int64_t i, at = -1, order = -ENDLESS
    cdef bint reading = False
    cdef Request* q
    for i in range(r.decodes):
        if r.ending[i].request.order > order:
            order, at = r.ending[i].request.order, i
    for i in range(r.readings):
        if r.reading[i].order > order:
            order, at, reading = r.reading[i].order, i, True
    if reading:
        q = r.reading[at]
        r.used_blocks -= _blocks(r, q, q.prompt_tok)
        r.prompts_tok -= q.prompt_tok
        r.readings -= 1
        memmove(&r.reading[at], &r.reading[at + 1], (r.readings - at) * sizeof(Request*))
    else:
        q = _part(r, at)
    q.preemptions += 1
    r.count[PREEMPTIONS] += 1
    _enqueue(w, r, q)


# --- a run starts -----------------------------------------------------------------------------------------------------
cdef int64_t _prefix_tok(World* w, Replica* r, Request* q) noexcept nogil:
    """Return how many leading tokens of a prompt the cache holds, and leave all its blocks in it."""
    cdef int64_t held = 0, i, hit_tok
    while held < q.prefixes and _cache_holds(&r.cache, q.prefix[held]):
        held += 1
    for i in range(q.prefixes - 1, -1, -1):
        _cache_use(w, &r.cache, q.prefix[i], r.pool.prefix_blocks)
    hit_tok = _less(held * r.pool.prefix_block_tok, q.prompt_tok - 1)
    r.count[LOOKED_UP_TOK] += q.prompt_tok
    r.count[HIT_TOK] += hit_tok
    return hit_tok


cdef void _switch_off(World* w, Replica* r) noexcept nogil:
    r.state = OFF
    if w.arrived:  # what was on before the first request is not counted
        r.amount[ON_S] += w.now_s - r.on_since_s


cdef inline int64_t _chunk_set(Replica* r, Request* q, int64_t budget_tok) noexcept nogil:
    """Set and return how much of a prompt a step reads."""
    q.chunk_tok = <int32_t>_less(q.prompt_tok - q.read_tok, budget_tok)
    r.pairs2 += <int64_t>q.chunk_tok * (2 * <int64_t>q.read_tok + q.chunk_tok)
    return q.chunk_tok


cdef int64_t _admit(World* w, Replica* r, int64_t budget_tok) noexcept nogil:
    """Admit waiting requests to the next step while they fit; return what they leave of its token budget."""
    cdef const Pool* pool = r.pool
    cdef Request* q
    cdef int64_t running = r.decodes + r.readings, due_blocks = _due(r), blocks, kv_tok, spare
    while budget_tok > 0 and running < pool.max_seqs and _queued(&r.queue):
        q = _queue_first(&r.queue)
        kv_tok = q.prompt_tok
        if q.with_kv:
            if budget_tok < pool.seq_tok:
                break
            kv_tok = _less(q.prompt_tok + pool.seq_tok, <int64_t>q.input_tok + q.output_tok - 1)
        blocks = _blocks(r, q, kv_tok)
        spare = pool.watermark_blocks if running else 0
        if r.used_blocks + due_blocks + blocks > pool.kv_blocks - spare:
            break
        _queue_pop(&r.queue)
        w.waiting -= 1
        running += 1
        _latency(r, QUEUE, w.now_s - q.queued_s)
        q.admissions += 1
        if q.with_kv:
            q.with_kv = False
            _join(w, r, q)
            r.joined[r.joins] = q
            r.joins += 1
            r.used_blocks += _blocks(r, q, q.kv_at_join_tok)
            due_blocks = _due(r)
            budget_tok -= pool.seq_tok
            continue
        r.used_blocks += blocks
        r.prompts_tok += q.prompt_tok
        q.read_tok = <int32_t>_prefix_tok(w, r, q) if pool.prefix_blocks else 0
        if q.admissions > 1:
            r.count[RECOMPUTED_TOK] += q.prompt_tok - q.read_tok
        budget_tok -= _chunk_set(r, q, budget_tok)
        r.reading[r.readings] = q
        r.readings += 1
    _peak(r, PEAK_RUNNING, running)
    return budget_tok


cdef void _start(World* w, Replica* r) noexcept nogil:
    """Start the next run of a replica, if it has work."""
    cdef const Pool* pool = r.pool
    cdef Request* q
    cdef int64_t budget_tok, steps = ENDLESS, rest_tok
    cdef bint preempted = False
    if r.state == DRAINING and r.outstanding == 0 and r.used_blocks == 0:
        _switch_off(w, r)
    while _due(r) > pool.kv_blocks - r.used_blocks:
        _preempt(w, r)
        preempted = True
    budget_tok = pool.max_batched_tok - r.decodes * pool.seq_tok
    r.pairs2 = 0
    if r.readings:
        budget_tok -= _chunk_set(r, r.reading[0], budget_tok)
    if _queued(&r.queue) and not preempted:
        budget_tok = _admit(w, r, budget_tok)
    if r.decodes:
        steps = r.ending[r.decodes - 1].step - r.done
    elif r.readings == 0:
        return
    if r.readings:
        q = r.reading[0]
        rest_tok = q.prompt_tok - q.read_tok
        if r.readings > 1 or budget_tok > 0 or rest_tok <= q.chunk_tok:
            steps = 1
        else:
            steps = _less(steps, <uint32_t>(rest_tok - 1) / <uint32_t>q.chunk_tok)  # 32 bits divide faster
    if preempted or r.joins:
        steps = 1
    if steps > 1 and r.decodes * _up(steps * pool.seq_tok, pool) > pool.kv_blocks - r.used_blocks:
        steps = _steps_held(r, steps, pool.kv_blocks - r.used_blocks)
    r.budget_tok = budget_tok
    _run_set(w, r, steps, pool.max_batched_tok - budget_tok)


cdef inline double _pairs(double tok, double window_tok) noexcept nogil:
    """Return the pairs of the first tokens of a prompt with those before them, as far as a window reaches."""
    return tok * tok / 2 if tok <= window_tok else window_tok * tok - window_tok * window_tok / 2


cdef inline void _run_set(World* w, Replica* r, int64_t steps, int64_t tok) noexcept nogil:
    """Set what the steps of a run take; a window that is crossed makes it shorter."""
    cdef const Pool* pool = r.pool
    cdef Request* q
    cdef int64_t i, seqs = r.decodes
    cdef double decode_s, prefill_s = 0.0, more_decode_s, more_prefill_s = 0.0, fixed_s = pool.fixed_s
    cdef double context, growth, inside = 0.0, inside_growth = 0.0, pairs = 0.0, n, past = 0.0
    cdef double window = pool.window_tok
    if pool.spread or window > 0:
        r.contexts = r.growth = 0.0
        for i in range(seqs):
            q = r.ending[i].request
            growth = <double>q.to_emit_tok / <double>q.steps
            context = <double>(q.kv_at_join_tok + 1) + <double>(r.done - q.join_step) * growth
            r.contexts += context
            r.growth += growth
            if context < window:
                inside += context
                inside_growth += growth
                steps = _less(steps, <int64_t>floor((window - context) / growth) + 1)
            else:
                inside += window
    else:
        r.contexts, r.growth = <double>r.contexts_tok, <double>seqs
    decode_s = pool.decode_s[seqs] + pool.context_s_per_tok[seqs] * r.contexts
    more_decode_s = pool.context_s_per_tok[seqs] * r.growth
    if window > 0:
        decode_s += pool.window_s_per_tok[seqs] * inside
        more_decode_s += pool.window_s_per_tok[seqs] * inside_growth
    if seqs:
        fixed_s += pool.draft_s
    if r.readings:
        prefill_s = pool.prefill_s + pool.prefill_s_per_tok2 * (0.5 * <double>r.pairs2)
        n = <double>r.reading[0].chunk_tok
        if steps > 1:  # chunks of one prompt, all of n tokens
            more_prefill_s = pool.prefill_s_per_tok2 * n * n
        if window > 0:
            for i in range(r.readings):
                past = <double>r.reading[i].read_tok
                pairs += _pairs(past + <double>r.reading[i].chunk_tok, window) - _pairs(past, window)
            prefill_s += pool.window_s_per_tok2 * pairs
            if steps > 1 and past < window:
                steps = _less(steps, <int64_t>floor((window - past) / n))
                if steps < 1:
                    steps = 1
                more_prefill_s += pool.window_s_per_tok2 * n * n
    r.step_s = fixed_s + pool.linear_s[tok] + decode_s + prefill_s
    r.more_s = more_decode_s + more_prefill_s
    r.active_s = pool.linear_busy_s[tok] + pool.decode_ratio * decode_s + pool.prefill_ratio * prefill_s
    r.more_active_s = pool.decode_ratio * more_decode_s + pool.prefill_ratio * more_prefill_s
    r.steps = steps
    r.start_s = w.now_s
    r.end_s = w.now_s + _span_s(r.step_s, r.more_s, steps)


# --- a run ends -------------------------------------------------------------------------------------------------------
cdef inline void _advance(World* w, Replica* r, int64_t steps) noexcept nogil:
    """Count the first steps of a run as done."""
    cdef double n = <double>steps, pairs = n * (n - 1.0) * 0.5, last_s = r.step_s + r.more_s * (n - 1.0)
    cdef double span_s = n * r.step_s + r.more_s * pairs, seq_s = <double>r.decodes * span_s
    cdef double end_s = r.end_s if steps == r.steps else r.start_s + span_s
    cdef int64_t i, at, last, weight = r.decodes - r.joins
    cdef int64_t* histogram = &r.pool.histogram[ITL * BINS]
    cdef Request* q
    r.amount[BUSY_S] += span_s
    r.amount[ACTIVE_S] += n * r.active_s + r.more_active_s * pairs
    r.amount[DECODE_SEQ_S] += seq_s
    r.amount[KV_TOK_S] += (
        (r.contexts + <double>r.prompts_tok) * span_s
        + r.growth * pairs * (r.step_s + r.more_s * (2.0 * n - 1.0) * (1.0 / 3.0))
    )
    if weight:
        at, last = _bin(r.step_s), _bin(last_s)
        if at == last:
            histogram[at] += weight * steps
        else:
            _latencies(histogram, r.step_s, r.more_s, steps, weight)
        r.latency_sum_s[ITL] += seq_s
        if last_s > r.latency_max_s[ITL]:
            r.latency_max_s[ITL] = last_s
    if r.joins:
        if weight:
            r.latency_sum_s[ITL] -= <double>r.joins * span_s
        for i in range(r.joins):
            _latency(r, ITL, end_s - r.joined[i].last_s)
        r.joins = 0
    if r.readings:
        r.amount[PROMPT_SEQ_S] += <double>r.readings * span_s
        r.count[PREFILL_TOK] += steps * (r.pool.max_batched_tok - r.budget_tok - r.decodes * r.pool.seq_tok)
        q = r.reading[r.readings - 1]
        q.read_tok += <int32_t>steps * q.chunk_tok
    if r.decodes:
        r.count[OUTPUT_TOK] += _emitted(r, steps)
        r.used_blocks += _grown(r, steps) if steps > 1 else _due(r)
        r.contexts_tok += steps * r.decodes
    _peak(r, PEAK_BLOCKS, r.used_blocks)
    r.done += steps
    r.phase = _rest(r.phase + steps, r.pool)
    r.start_s = end_s


cdef int64_t _emitted_unevenly(const Replica* r, int64_t steps) noexcept nogil:
    """Return the tokens that so many steps of speculative decoding emit."""
    cdef int64_t tok = 0, i, at
    cdef const Request* q
    for i in range(r.decodes):
        q = r.ending[i].request
        at = r.done - q.join_step
        tok += _kv_tok(r, q, at + steps) - _kv_tok(r, q, at)
    return tok


cdef inline int64_t _emitted(const Replica* r, int64_t steps) noexcept nogil:
    """Return the tokens that so many steps of decoding emit."""
    return _emitted_unevenly(r, steps) if unlikely(r.pool.spread) else steps * r.decodes


cdef inline void _prompt_end(World* w, Replica* r, Request* q) noexcept nogil:
    cdef Moment moment
    cdef double transfer_s
    if q.emitted_tok:
        _latency(r, ITL, w.now_s - q.last_s)
    else:
        q.first_s = w.now_s
        if w.kept and _number(q) < w.kept_count:
            w.kept_first_s[_number(q)] = w.now_s
        _latency(r, TTFT, w.now_s - q.arrival_s)
    q.emitted_tok += 1
    q.last_s = w.now_s
    r.count[OUTPUT_TOK] += 1
    r.prompts_tok -= q.prompt_tok
    if q.emitted_tok == q.output_tok:
        r.used_blocks -= _blocks(r, q, q.prompt_tok)
        r.outstanding -= 1
        _finish(w, r, q)
    elif r.pool.role == PREFILL:
        r.outstanding -= 1
        transfer_s = r.pool.transfer_s + r.pool.transfer_s_per_tok * <double>q.prompt_tok
        moment.at_s = (w.now_s if w.now_s > r.link_free_s else r.link_free_s) + transfer_s
        r.link_free_s = moment.at_s
        moment.serial, moment.request, moment.replica, moment.epoch = w.handed_over, q, r.number, r.epoch
        moment.blocks = _blocks(r, q, q.prompt_tok)
        w.handed_over += 1
        r.count[TRANSFERS] += 1
        r.amount[TRANSFER_S] += transfer_s
        _moments_push(w, &w.transfers, moment)
    else:
        _join(w, r, q)


cdef void _run_end(World* w, Replica* r) noexcept nogil:
    """Count a run that ends now, with the requests that end in its last step."""
    cdef Request* q
    cdef int64_t i, left
    _advance(w, r, r.steps)
    while r.decodes and r.ending[r.decodes - 1].step == r.done:
        q = _part(r, r.decodes - 1)
        r.outstanding -= 1
        _finish(w, r, q)
    if r.readings:
        q = r.reading[r.readings - 1]
        left = q.read_tok < q.prompt_tok
        for i in range(r.readings - left):
            _prompt_end(w, r, r.reading[i])
        r.reading[0], r.readings = q, <int32_t>left
    r.steps, r.end_s = 0, INFINITY


cdef void _settle(World* w, Replica* r, bint starts_too) noexcept nogil:
    """Count the steps of a run that have ended by now; the step in progress is lost.

    A step that would start at this very instant has taken its blocks only if steps do start at it (`starts_too`).
    """
    cdef int64_t done = _steps_by(r, w.now_s), steps = r.steps
    if done:
        _advance(w, r, done)
    if done < steps and (starts_too or r.start_s < w.now_s):
        _peak(r, PEAK_BLOCKS, r.used_blocks + _due(r))
    _run_none(w, r)


# --- replicas come and go ---------------------------------------------------------------------------------------------
cdef void _transfer_end(World* w) noexcept nogil:
    cdef Moment moment = _moments_pop(&w.transfers)
    cdef Replica* r = &w.replica[moment.replica]
    if moment.epoch == r.epoch:
        if r.steps:
            _peak(r, PEAK_BLOCKS, r.used_blocks)
        r.used_blocks -= moment.blocks
        moment.request.with_kv = True
        if r.steps == 0:
            _touch(w, r)
        _send(w, moment.request, 1)
    else:
        r.count[FAILED_OVER] += 1
        _send(w, moment.request, 0)


cdef void _come_up(World* w, Replica* r) noexcept nogil:
    cdef int side = 1 if r.pool.role == DECODE else 0
    cdef int32_t* group = w.group if side == 0 else w.group + w.group_count[0]
    cdef double least = INFINITY
    cdef int64_t i
    for i in range(w.group_count[side]):
        if w.replica[group[i]].state == UP and w.replica[group[i]].passes < least:
            least = w.replica[group[i]].passes
    if least < INFINITY and least > r.passes:
        r.passes = least
    r.state = UP
    while _queued(&w.homeless[side]):
        w.waiting -= 1
        _send(w, _queue_pop(&w.homeless[side]), side)


cdef void _fail(World* w, Replica* r) noexcept nogil:
    """Lose a replica with its KV; its requests go elsewhere and are read again, with what they had emitted."""
    cdef Queue lost
    cdef Request* q
    cdef int64_t i
    if r.steps:
        _settle(w, r, False)
        r.amount[LOST_S] += w.now_s - r.start_s
    _switch_off(w, r)
    memset(&lost, 0, sizeof(Queue))
    lost.room = 16
    lost.ring = <Request**>malloc(16 * sizeof(Request*))
    if lost.ring == NULL:
        w.failed = True
        return
    while r.decodes:
        _queue_push(w, &lost, _part(r, r.decodes - 1))
    for i in range(r.readings):
        _queue_push(w, &lost, r.reading[i])
    w.waiting -= _queued(&r.queue)
    while _queued(&r.queue):
        _queue_push(w, &lost, _queue_pop(&r.queue))
    r.epoch += 1
    r.outstanding = r.readings = r.joins = 0
    r.used_blocks = r.prompts_tok = r.contexts_tok = 0
    r.link_free_s = 0.0
    _cache_clear(&r.cache)
    while _queued(&lost) and not w.failed:
        q = _queue_pop(&lost)
        q.with_kv = False
        r.count[FAILED_OVER] += 1
        _send(w, q, 0)
    free(lost.ring)
    free(lost.heap)


cdef void _change(World* w) noexcept nogil:
    cdef Replica* r = &w.replica[w.change_replica[w.changed]]
    cdef int64_t kind = w.change_kind[w.changed]
    w.changed += 1
    if kind == C_START and r.state == OFF:
        r.state = STARTING
        r.on_since_s = w.now_s
    elif (kind == C_READY and r.state == STARTING) or (kind == C_START and r.state == DRAINING):
        _come_up(w, r)
    elif kind == C_DRAIN and r.state == UP:
        r.state = DRAINING
        if r.steps == 0:
            _touch(w, r)
    elif kind == C_DRAIN and r.state == STARTING:
        _switch_off(w, r)
    elif kind == C_FAIL and r.state != OFF:
        _fail(w, r)


# --- the loop ---------------------------------------------------------------------------------------------------------
cdef void _arrive(World* w) noexcept nogil:
    cdef Request* q
    cdef int64_t at = w.at, priority = 0, begin, i
    if w.unused == NULL:
        _requests_make(w)
        if w.failed:
            return
    q = w.unused
    w.unused = q.next
    w.at += 1
    if w.load == CLOSED:
        _moments_pop(&w.issues)
    elif w.load == STATIC:
        w.batch_left = (w.batch_left if w.batch_left else w.clients) - 1
    if w.arrived == 0:
        w.times[T_BEGIN] = w.now_s
        for i in range(w.replicas):
            if w.replica[i].on_since_s < w.now_s:
                w.replica[i].on_since_s = w.now_s
    if w.priority != NULL:
        priority = w.priority[at]
    q.order = (priority << NUMBER_BITS) + w.arrived
    q.arrival_s = w.now_s
    q.first_s = q.last_s = NAN
    q.input_tok, q.output_tok = <int32_t>w.input_tok[at], <int32_t>w.output_tok[at]
    q.client = <int32_t>w.client[at] if w.client != NULL else 0
    q.emitted_tok = q.preemptions = q.admissions = q.steps = 0
    q.truncated = q.with_kv = False
    q.prefixes = 0
    if w.prefixes_kept and w.prefix_ends != NULL:
        begin = w.prefix_ends[at - 1] if at else 0
        q.prefixes = <int32_t>(w.prefix_ends[at] - begin)
        if q.prefixes:
            q.prefix = <int64_t*>malloc(q.prefixes * sizeof(int64_t))
            if q.prefix == NULL:
                w.failed = True
                return
            memcpy(q.prefix, &w.prefix_ids[begin], q.prefixes * sizeof(int64_t))
    w.arrived += 1
    w.in_system += 1
    w.arrivals[0] += 1
    w.arrivals[1] += q.input_tok
    w.arrivals[2] += q.output_tok
    if w.kept and _number(q) < w.kept_count:
        w.kept_arrival_s[_number(q)] = w.now_s
    if q.input_tok < 1:
        _leave(w, q, F_NO_PROMPT)
    elif q.output_tok < 1:
        _leave(w, q, F_NO_OUTPUT)
    else:
        _send(w, q, 0)
    if 2 * w.arrived <= w.requests:
        w.waiting_at_half = w.waiting
    w.waiting_at_last, w.last_arrival_s = w.waiting, w.now_s


cdef void _samples_take(World* w, double before_s) noexcept nogil:
    """Sample every pool at the whole multiples of the interval that come before a moment."""
    cdef int64_t i, done, half = SAMPLES // 2, size = w.pools * SAMPLED
    cdef double at_s
    cdef double* row
    cdef Replica* r
    while w.sample_s < before_s:
        at_s = w.sample_s
        if w.sampled == SAMPLES:
            for i in range(half):
                memmove(&w.timeline[i * size], &w.timeline[2 * i * size], size * sizeof(double))
            w.sampled = half
            w.interval_s *= 2
            w.sample_s = <double>half * w.interval_s
            continue
        memset(&w.timeline[w.sampled * size], 0, size * sizeof(double))
        for i in range(w.replicas):
            r = &w.replica[i]
            row = &w.timeline[w.sampled * size + r.pool_number * SAMPLED]
            row[S_RUNNING] += r.decodes + r.readings
            row[S_WAITING] += <double>_queued(&r.queue)
            row[S_KV_BLOCKS] += <double>r.used_blocks
            row[S_UP] += r.state == UP
            row[S_OUTPUT_TOK] += <double>r.count[OUTPUT_TOK]
            row[S_FINISHED] += <double>r.count[FINISHED]
            if r.steps:
                done = _steps_by(r, at_s)
                row[S_KV_BLOCKS] += <double>_grown(r, _less(done + 1, r.steps))
                if r.decodes:
                    row[S_OUTPUT_TOK] += <double>_emitted(r, done)
        w.sampled += 1
        w.sample_s = <double>w.sampled * w.interval_s


cdef int _close(World* w, int progress, double end_s) noexcept nogil:
    cdef int64_t i
    cdef Replica* r
    _samples_take(w, end_s)
    w.now_s = end_s
    for i in range(w.replicas):
        r = &w.replica[i]
        if r.steps:
            _settle(w, r, progress == HORIZON)
        if r.state != OFF:
            _switch_off(w, r)
    w.times[T_END], w.times[T_INTERVAL], w.times[T_SAMPLES] = end_s, w.interval_s, <double>w.sampled
    w.fate[F_UNFINISHED] = w.in_system
    return progress


cdef void _ledger_write(World* w) noexcept nogil:
    """Write what is counted outside the ledger into it."""
    cdef int64_t i
    cdef Replica* r
    for i in range(w.replicas):
        r = &w.replica[i]
        r.count[STEPS] = r.done
        memcpy(w.ledger_amount + i * AMOUNTS, r.amount, sizeof(r.amount))
        memcpy(w.ledger_count + i * COUNTS, r.count, sizeof(r.count))
        memcpy(w.ledger_sum_s + i * LATENCIES, r.latency_sum_s, sizeof(r.latency_sum_s))
        memcpy(w.ledger_max_s + i * LATENCIES, r.latency_max_s, sizeof(r.latency_max_s))
    memcpy(w.ledger_arrivals, w.arrivals, sizeof(w.arrivals))
    w.times[T_WAITING_AT_HALF], w.times[T_WAITING_AT_LAST] = <double>w.waiting_at_half, <double>w.waiting_at_last
    w.times[T_LAST_ARRIVAL] = w.last_arrival_s


cdef inline double _arrival_s(const World* w) noexcept nogil:
    """Return when the next request arrives."""
    if w.at >= w.chunk:
        return INFINITY
    if w.load == OPEN:
        return w.arrival_s[w.at]
    if w.load == CLOSED:
        return w.issues.at[0].at_s if w.issues.count else INFINITY
    return w.now_s if w.batch_left or w.in_system == 0 else INFINITY


cdef int64_t _catch_up(World* w, Replica* r, double before_s, int64_t most) noexcept nogil:
    """End and start the runs of a replica, at most so many, up to a moment; return how many ended before it."""
    cdef int64_t ended = 0
    while r.end_s < before_s and ended < most:
        w.now_s = r.end_s
        _run_end(w, r)
        _start(w, r)
        ended += 1
    _end_set(w, r)
    return ended


cdef inline bint _may_lag(const World* w, double at_s) noexcept nogil:
    """Return whether a request can arrive without a look at any replica but the one that it is sent to."""
    return (
        (w.router == ROUND_ROBIN or w.router >= PREFIX_AFFINITY or w.router == RANDOM)
        and w.dirties == 0 and w.changed == w.changes and at_s <= w.sample_s and w.until_s == INFINITY
        and w.in_system < w.waiting_most  # so it is stable, however many of them wait
        and w.arrived + 1 != w.requests // 2  # the number of those that wait is noted then, as at the last arrival
        and w.at + 1 < w.chunk and w.arrival_s[w.at + 1] > at_s
    )


cdef int _run(World* w, int64_t most_events) noexcept nogil:
    cdef int64_t left = most_events, i
    cdef double at_s, other_s, arrival_s, quiet_s, now_s
    cdef int what, other
    cdef bint alone = w.load == OPEN and w.group_count[1] == 0  # only arrivals and changes look at what a replica does
    cdef Replica* r
    while left > 0:
        if w.failed:
            return -1
        if w.at >= w.chunk and w.more:
            return HUNGRY
        other_s, other = INFINITY, 0
        if w.transfers.count:
            other_s, other = w.transfers.at[0].at_s, 2
        if w.changed < w.changes and (w.in_system or w.at < w.chunk) and w.change_s[w.changed] < other_s:
            other_s, other = w.change_s[w.changed], 3
        arrival_s = _arrival_s(w)
        if arrival_s < other_s:
            other_s, other = arrival_s, 4
        if w.dirties and other_s > w.now_s and (alone or w.end[1].at_s > w.now_s):
            for i in range(w.dirties):
                r = &w.replica[w.dirty[i]]
                r.dirty = False
                if r.steps == 0:
                    _start(w, r)
                    _end_set(w, r)
            w.dirties = 0
        if alone and w.dirties == 0:
            if other == 4 and _may_lag(w, arrival_s):
                w.now_s, w.behind = arrival_s, True
                _arrive(w)
                w.behind = False
                left -= 1
                continue
            quiet_s, now_s = min(other_s, w.sample_s, w.until_s), w.now_s
            if w.end[1].at_s < quiet_s:  # until then one replica after the other can go on alone
                while w.end[1].at_s < quiet_s and left > 0:
                    left -= _catch_up(w, &w.replica[w.end[1].replica], quiet_s, left)
                    now_s = w.now_s if w.now_s > now_s else now_s
                w.now_s = now_s
                continue
        left -= 1
        at_s, what = other_s, other
        if w.end[1].at_s <= at_s and w.end[1].at_s < INFINITY:
            at_s, what = w.end[1].at_s, 1
        if what == 0:
            return _close(w, STUCK if w.in_system or w.at < w.chunk else DONE, w.now_s)
        if at_s > w.until_s:
            return _close(w, HORIZON, w.until_s)
        if w.sample_s < at_s:
            _samples_take(w, at_s)
        w.now_s = at_s
        if what == 1:
            r = &w.replica[w.end[1].replica]
            _run_end(w, r)
            _end_set(w, r)
            _touch(w, r)
        elif what == 4:
            _arrive(w)
            if w.waiting > w.waiting_most and w.load == OPEN:
                return _close(w, UNSTABLE, w.now_s)
        elif what == 2:
            _transfer_end(w)
        else:
            _change(w)
    return -1 if w.failed else PAUSED


# --- the face ---------------------------------------------------------------------------------------------------------
cdef void* _room(int64_t count, int64_t byte) except NULL:
    cdef void* memory = calloc(count if count > 0 else 1, byte)
    if memory == NULL:
        raise MemoryError("no memory for the simulation")
    return memory


cdef void _queue_free(Queue* q) noexcept:
    free(q.ring)
    free(q.heap)


cdef int _queue_make(Queue* q) except -1:
    q.ring = <Request**>_room(16, sizeof(Request*))
    q.room = 16
    return 0


cdef void* _data(values, int kind, int64_t least, list kept, bint out) except? NULL:
    """Return the data of an array of one kind that has so many items or more, and keep it alive."""
    cdef cnp.ndarray array
    if not (isinstance(values, np.ndarray) and cnp.PyArray_TYPE(values) == kind and cnp.PyArray_ISCARRAY(values)):
        if out:
            raise ValueError("results are written into contiguous arrays of their kind only")
        values = np.array(values, dtype=np.float64 if kind == cnp.NPY_FLOAT64 else np.int64, order="C")
    array = values
    if cnp.PyArray_SIZE(array) < least:
        raise ValueError(f"an array of {cnp.PyArray_SIZE(array)} items has to have {least}")
    kept.append(array)
    return cnp.PyArray_DATA(array) if cnp.PyArray_SIZE(array) else NULL


cdef inline double* _floats(values, int64_t least, list kept, bint out=False) except? NULL:
    return <double*>_data(values, cnp.NPY_FLOAT64, least, kept, out)


cdef inline int64_t* _ints(values, int64_t least, list kept, bint out=False) except? NULL:
    return <int64_t*>_data(values, cnp.NPY_INT64, least, kept, out)


cdef bint _chunk_holds(const World* w, int64_t count, int64_t ids) noexcept nogil:
    """Return whether what comes with requests lies within its bounds."""
    cdef int64_t i, end = 0, bits = 0, least = -2147483648
    for i in range(count):
        bits |= (w.input_tok[i] - least) | (w.output_tok[i] - least)
    if bits >> 32:
        return False
    if w.client != NULL and w.tenants:
        for i in range(count):
            if not 0 <= w.client[i] < w.tenants:
                return False
    if w.prefix_ends != NULL:
        for i in range(count):
            if not end <= w.prefix_ends[i] <= ids:
                return False
            end = w.prefix_ends[i]
    return True


cdef class Engine:
    """One simulation; see the plain twin."""

    cdef World world
    cdef list alive
    cdef list chunk
    cdef bint ready

    def __init__(self, plan, ledger, kept):
        cdef World* w = &self.world
        cdef int64_t at, number, pool_number
        self.alive, self.chunk = [], []
        if (BINS, CLIENT_BINS, SAMPLES) != (_ledger.BINS, _ledger.CLIENT_BINS, _ledger.SAMPLES):
            raise ValueError("the kernel was compiled for other bins")
        w.pools = len(plan.pools)
        w.replicas = sum(pool.replicas for pool in plan.pools)
        w.pool = <Pool*>_room(w.pools, sizeof(Pool))
        w.replica = <Replica*>_room(w.replicas, sizeof(Replica))
        w.leaves = 1
        while w.leaves < w.replicas:
            w.leaves *= 2
        w.end = <End*>_room(2 * w.leaves, sizeof(End))
        for at in range(2 * w.leaves):
            w.end[at].at_s, w.end[at].replica = INFINITY, at - w.leaves
        w.group = <int32_t*>_room(w.replicas, sizeof(int32_t))
        w.up = <int32_t*>_room(w.replicas + 1, sizeof(int32_t))
        w.dirty = <int32_t*>_room(w.replicas, sizeof(int32_t))
        _queue_make(&w.homeless[0])
        _queue_make(&w.homeless[1])
        self._ledger_set(plan, ledger, kept)
        for number, pool in enumerate(plan.pools):
            self._pool_set(&w.pool[number], pool)
            w.pool[number].histogram = w.histogram + number * LATENCIES * BINS
        for number, (pool_number, up) in enumerate(plan.replicas()):
            self._replica_set(number, pool_number, up)
        for side in range(2):
            for number in range(w.replicas):
                if (w.replica[number].pool.role == DECODE) == side:
                    w.group[w.group_count[0] * side + w.group_count[side]] = number
                    w.group_count[side] += 1
        self._load_set(plan)
        self.ready = True

    cdef _ledger_set(self, plan, ledger, kept):
        cdef World* w = &self.world
        cdef list alive = self.alive
        w.slos, w.tenants = len(plan.slos), len(ledger.client_count)
        w.histogram = _ints(ledger.histogram, w.pools * LATENCIES * BINS, alive, True)
        w.ledger_count = _ints(ledger.count, w.replicas * COUNTS, alive, True)
        w.ledger_amount = _floats(ledger.amount, w.replicas * AMOUNTS, alive, True)
        w.ledger_sum_s = _floats(ledger.latency_sum_s, w.replicas * LATENCIES, alive, True)
        w.ledger_max_s = _floats(ledger.latency_max_s, w.replicas * LATENCIES, alive, True)
        w.fate, w.ledger_arrivals = _ints(ledger.fate, FATES, alive, True), _ints(ledger.arrived, 3, alive, True)
        w.good = _ints(ledger.good, w.slos, alive, True)
        w.client_count = _ints(ledger.client_count, w.tenants * (3 + w.slos), alive, True)
        w.client_histogram = _ints(ledger.client_histogram, w.tenants * 3 * CLIENT_BINS, alive, True)
        w.timeline = _floats(ledger.timeline, SAMPLES * w.pools * SAMPLED, alive, True)
        w.times = _floats(ledger.times, TIMES, alive, True)
        w.slo = _floats([x for slo in plan.slos for x in (slo.ttft_s, slo.tpot_s, slo.e2e_s)], 3 * w.slos, alive)
        w.kept = kept is not None
        if w.kept:
            w.kept_count = len(kept["fate"])
            w.kept_arrival_s = _floats(kept["arrival_s"], w.kept_count, alive, True)
            w.kept_first_s = _floats(kept["first_s"], w.kept_count, alive, True)
            w.kept_finish_s = _floats(kept["finish_s"], w.kept_count, alive, True)
            w.kept_replica = _ints(kept["replica"], w.kept_count, alive, True)
            w.kept_preemptions = _ints(kept["preemptions"], w.kept_count, alive, True)
            w.kept_fate = _ints(kept["fate"], w.kept_count, alive, True)

    cdef _pool_set(self, Pool* p, pool):
        table = pool.table
        p.max_batched_tok, p.max_seqs = pool.max_batched_tok, pool.max_seqs
        p.linear_s = _floats(table.linear_s, p.max_batched_tok + 1, self.alive)
        p.decode_s = _floats(table.decode_s, p.max_seqs + 1, self.alive)
        p.context_s_per_tok = _floats(table.context_s_per_tok, p.max_seqs + 1, self.alive)
        p.window_s_per_tok = _floats(table.window_s_per_tok, p.max_seqs + 1, self.alive)
        p.linear_busy_s = _floats(table.activity.linear_busy_s, p.max_batched_tok + 1, self.alive)
        p.decode_ratio, p.prefill_ratio = table.activity.decode_ratio, table.activity.prefill_ratio
        p.prefill_s_per_tok2, p.window_s_per_tok2 = table.prefill_s_per_tok2, table.window_s_per_tok2
        p.prefill_s, p.fixed_s, p.window_tok = table.prefill_s, table.fixed_s, table.window_tok
        p.draft_s, p.acceptance_ratio, p.draft_tok = pool.draft_s, pool.acceptance_ratio, pool.draft_tok
        p.pass_size = 1 / pool.weight
        p.transfer_s, p.transfer_s_per_tok = pool.transfer_s, pool.transfer_s_per_tok
        p.state_blocks, p.window_blocks_per_tok = pool.state_blocks, pool.window_blocks_per_tok
        p.kv_blocks, p.context_most_tok, p.window_kv_tok = pool.kv_blocks, pool.context_most_tok, pool.window_kv_tok
        p.most_tok = min(pool.context_most_tok, pool.kv_most_tok + 1)
        p.prefix_blocks, p.prefix_block_tok = pool.prefix_blocks, pool.prefix_block_tok
        p.watermark_blocks, p.role = pool.watermark_blocks, pool.role
        p.seq_tok, p.block_tok = pool.seq_tok, pool.block_tok
        p.block_shift = pool.block_tok.bit_length() - 1 if pool.block_tok & (pool.block_tok - 1) == 0 else -1
        p.spread = pool.draft_tok > 0

    cdef _replica_set(self, int64_t number, int64_t pool_number, bint up):
        cdef Replica* r = &self.world.replica[number]
        r.pool, r.number, r.pool_number = &self.world.pool[pool_number], <int32_t>number, <int32_t>pool_number
        r.state = UP if up else OFF
        r.end_s = INFINITY
        r.due = <int32_t*>_room(2 * r.pool.block_tok + 16, sizeof(int32_t))
        r.ending = <Ending*>_room(r.pool.max_seqs + 1, sizeof(Ending))
        r.reading = <Request**>_room(r.pool.max_seqs + 1, sizeof(Request*))
        r.joined = <Request**>_room(r.pool.max_seqs + 1, sizeof(Request*))
        r.phase = 1 % r.pool.block_tok
        r.cache.oldest = r.cache.newest = -1
        _queue_make(&r.queue)

    cdef _load_set(self, plan):
        cdef World* w = &self.world
        cdef Moment issue
        load = plan.load
        w.router, w.load, w.seed = plan.router, load.kind, plan.seed
        w.until_s, w.interval_s, w.waiting_most = plan.until_s, plan.timeline_s, plan.waiting_most
        w.requests, w.think_s, w.think_random, w.clients = plan.requests, load.think_s, load.think_random, load.clients
        w.more = True
        w.prefixes_kept = w.router == PREFIX_AFFINITY or any(pool.prefix_blocks for pool in plan.pools)
        if w.load == CLOSED:
            for client in range(load.clients):
                issue.at_s, issue.serial = load.ramp_s * client / load.clients, client
                _moments_push(w, &w.issues, issue)
            w.issued = load.clients
        w.changes = len(plan.changes)
        w.change_s = _floats([change.at_s for change in plan.changes], w.changes, self.alive)
        w.change_replica = _ints([change.replica for change in plan.changes], w.changes, self.alive)
        w.change_kind = _ints([change.kind for change in plan.changes], w.changes, self.alive)

    def feed(self, arrival_s, input_tok, output_tok, client, priority, prefix_ids, prefix_ends, *, last):
        """Take more requests; an empty column is one of zeros."""
        cdef World* w = &self.world
        if w.at < w.chunk:
            raise ValueError("the requests before these are not used up")
        count, ids = len(arrival_s), len(prefix_ids)
        if len(input_tok) != count or len(output_tok) != count:
            raise ValueError("every request has a time, a prompt and an output")
        if any(len(column) not in (0, count) for column in (client, priority, prefix_ends)):
            raise ValueError("a column has a value for every request, or none")
        self.chunk, w.chunk, w.at, w.more = [], 0, 0, not last  # no requests unless all of them are in order
        w.arrival_s = _floats(arrival_s, count, self.chunk)
        w.input_tok, w.output_tok = _ints(input_tok, count, self.chunk), _ints(output_tok, count, self.chunk)
        w.client, w.priority = _ints(client, 0, self.chunk), _ints(priority, 0, self.chunk)
        w.prefix_ids, w.prefix_ends = _ints(prefix_ids, ids, self.chunk), _ints(prefix_ends, 0, self.chunk)
        if not _chunk_holds(w, count, ids):
            raise ValueError("tokens have 32 bits, clients are in the ledger, ends of prefixes rise to their number")
        w.chunk = count

    def run(self, int64_t most_events):
        """Go on and say why it stopped."""
        cdef int progress
        if not self.ready:
            raise ValueError("the simulation was not set up")
        with nogil:
            progress = _run(&self.world, most_events)
            _ledger_write(&self.world)
        if progress < 0:
            raise MemoryError("no memory for more requests")
        return Progress(progress)

    def __dealloc__(self):
        cdef World* w = &self.world
        cdef int64_t i
        if w.replica != NULL:
            for i in range(w.replicas):
                free(w.replica[i].due)
                free(w.replica[i].ending)
                free(w.replica[i].reading)
                free(w.replica[i].joined)
                free(w.replica[i].cache.block)
                free(w.replica[i].cache.table)
                _queue_free(&w.replica[i].queue)
        for i in range(w.blocks * SLOTS):
            free(w.block[i // SLOTS][i % SLOTS].prefix)
        for i in range(w.blocks):
            free(w.block[i])
        _queue_free(&w.homeless[0])
        _queue_free(&w.homeless[1])
        for memory in (<size_t>w.pool, <size_t>w.replica, <size_t>w.end, <size_t>w.group, <size_t>w.up,
                       <size_t>w.dirty, <size_t>w.block, <size_t>w.transfers.at, <size_t>w.issues.at):
            free(<void*><size_t>memory)
