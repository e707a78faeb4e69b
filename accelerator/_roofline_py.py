"""Plain twins of the kernels in _roofline.pyx: the specification, one row at a time, in readable Python.

Each operator family is one formula from a shape and parameters to (time, part computing, part reading), all in seconds;
the parts are what the step would take if nothing else did, so that a reader sees what binds. The families' modules
derive flop and bytes and name the parameters; here stands only arithmetic. Shapes and parameters come in the order of
``Family.shape`` and ``Family.parameters``.
"""

import math
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Parts = tuple[float, float, float]

STREAM, GEMM, ATTENTION_PREFILL, ATTENTION_DECODE, LATENT_PREFILL, LATENT_DECODE, EXPERTS, COLLECTIVES = range(8)

COPIES = 5.0
"""Copies of the weights that kernel benchmarks rotate through: all of them stay in the cache, or none. [-]"""

CHAIN_ROWS = 40.0
"""Rows of a tile at which a step of its inner loop takes twice its latency. [-]"""

EDGE = 4.0
"""Exponent with which collectives blend protocols: an edge, but a smooth one. [-]"""

QUERY_TILE = 128.0
"""Rows of a query tile of latent prefill. [-]"""

WALK_TOK = 4096.0
"""Cached tokens that one core walks through in prefill; a longer prefix is split over cores. [tok]"""

LEAVE_RATIO, LEAVE_BYTE = 0.12, 16384.0
"""Start-up rises by so much once messages outgrow the smallest protocol. [-], [byte]"""

ONE_SHOT_RATIO, ONE_SHOT_BYTE = 0.87, 6e6
"""Share of the ring's rate that a one-shot all-reduce reaches; message near which it outgrows its workspace. [byte]"""


def norm(first: float, second: float, exponent: float) -> float:
    """Return (a^e + b^e)^(1/e) of two numbers >= 0: the larger one for a large e, their sum for e = 1."""
    high, low = max(first, second), min(first, second)
    if low <= 0:
        return high
    return high * (1 + (low / high) ** exponent) ** (1 / exponent)


def cached_s(byte: float, resident: float, cache_byte_s: float, memory_byte_s: float) -> float:
    """Return the time to read bytes of which a share comes from the last-level cache. [s]"""
    return byte * (resident / max(cache_byte_s, memory_byte_s) + (1 - resident) / memory_byte_s)


def stream(s: Sequence[float], p: Sequence[float]) -> Parts:
    """Elementwise work: see ``gemm.stream_shape``."""
    byte, memory_byte_s = s[0], s[1]
    launch_s, memory_ratio = p[0], p[2]
    read_s = byte / (memory_byte_s * memory_ratio)
    return launch_s + read_s, 0.0, read_s


def gemm(s: Sequence[float], p: Sequence[float]) -> Parts:
    """Matrix product: see ``gemm``."""
    m, n, k, weight_byte, activation_byte, quantises, odd, peak_flop_s, memory_byte_s, cores, cache_byte = s[:11]
    (
        launch_s,
        compute_ratio,
        memory_ratio,
        serial_wave,
        epilogue_k,
        quant_byte,
        core_byte_s,
        hide,
        odd_ratio,
        overlap,
    ) = p[:10]
    tile = 16.0 if m <= 64 else 64.0
    padded_m = math.ceil(m / tile) * tile
    wave = 2 * 128 * 128 * cores * serial_wave
    compute_s = (2 * padded_m * n + wave) * (k + epilogue_k) / (peak_flop_s * compute_ratio)
    byte = weight_byte * n * k + activation_byte * m * k + 2 * m * n
    resident = 1 / (1 + (COPIES * byte / cache_byte) ** 4)
    memory_s = cached_s(byte, resident, core_byte_s * cores, memory_byte_s * memory_ratio)
    quantise_s = quantises * quant_byte * m * k / memory_byte_s
    run_s = quantise_s + norm(compute_s, memory_s, overlap)
    return norm(run_s, launch_s * (1 + odd_ratio * odd), 1 + hide), compute_s, memory_s + quantise_s


def attention_prefill(s: Sequence[float], p: Sequence[float]) -> Parts:
    """Causal attention of new tokens over themselves and a cached prefix: see ``attention``."""
    (tok, batch, past_tok, heads, kv_heads, head_dim, window_tok, kv_byte, peak_flop_s, memory_byte_s, cores,
     cache_byte) = s[:12]  # fmt: skip
    (launch_s, compute_ratio, exp_rate, memory_ratio, cache_gain, cache_share, kv_pass, tile_s, tail, tile_rows, pack,
     leak) = p[:12]  # fmt: skip
    rows = tile_rows / (heads / kv_heads) ** min(pack, 1.0) if tok < 2 else tile_rows
    padded = max(tok, rows)
    full = padded * (past_tok + (padded + tile_rows) / 2)
    pairs = full
    if window_tok > 0:
        pairs = min(padded * (window_tok + tile_rows / 2), full)
        pairs += leak * (full - pairs)
    pair_s = 4 * head_dim * cores / (peak_flop_s * compute_ratio) + 1 / exp_rate
    compute_s = batch * heads * (pairs * pair_s + padded / tile_rows * tile_s) / cores
    longest_s = tile_rows * min(2 * pairs / padded, padded + min(past_tok, WALK_TOK)) * pair_s + tile_s
    byte = batch * tok * head_dim * (4 * heads + kv_pass * 2 * kv_heads * (2 + kv_byte))
    byte += batch * min(past_tok, window_tok or past_tok) * head_dim * 2 * kv_heads * kv_byte
    gain = 1 + cache_gain / (1 + (byte / (cache_byte * cache_share)) ** 2)
    memory_s = byte / (memory_byte_s * memory_ratio * gain)
    return launch_s + memory_s + compute_s + tail * longest_s, compute_s, memory_s


def attention_decode(s: Sequence[float], p: Sequence[float]) -> Parts:
    """Attention of one new token per sequence over its cache: see ``attention``."""
    (batch, kv_tok, heads, kv_heads, head_dim, window_tok, kv_byte, plain, peak_flop_s, memory_byte_s, cores,
     cache_byte) = s[:12]  # fmt: skip
    (launch_s, memory_ratio, cache_gain, cache_share, token_s, split_tok, compute_ratio, pad_rows, task_s, head_byte,
     leak) = p[:11]  # fmt: skip
    seen_tok = kv_tok
    if window_tok > 0:
        seen_tok = min(window_tok, kv_tok)
        seen_tok += leak * (kv_tok - seen_tok)
    group = heads / kv_heads
    tasks = batch * (heads if plain > 0 else kv_heads)
    query_rows = 1.0 if plain > 0 else group
    byte = batch * kv_heads * seen_tok * head_dim * 2 * kv_byte + head_byte * batch * heads * head_dim * 2
    gain = 1 + cache_gain / (1 + (byte / (cache_byte * cache_share)) ** 2)
    split = tasks * (1 + seen_tok / split_tok)
    busy_ratio = split / (split + cores)
    memory_s = byte / (memory_byte_s * memory_ratio * gain)
    compute_s = 4 * tasks * (query_rows + pad_rows) * seen_tok * head_dim / (peak_flop_s * compute_ratio * busy_ratio)
    serial_s = token_s * seen_tok / (1 + seen_tok / split_tok) + task_s * (1 + tasks / cores)
    return launch_s + memory_s + compute_s + serial_s, compute_s, memory_s


def latent_prefill(s: Sequence[float], p: Sequence[float]) -> Parts:
    """MLA prefill with expanded keys and values: see ``latent``."""
    (tok, batch, past_tok, heads, qk_width, v_width, quantises, eager, peak_flop_s, memory_byte_s, cores,
     cache_byte) = s[:12]  # fmt: skip
    launch_s, host_s, compute_ratio, memory_ratio, half_tile, tile_tok, cache_share, overlap = p[:8]
    query_tiles = max(1.0, tok / QUERY_TILE)
    tiles = batch * heads * query_tiles
    pairs = tok * (past_tok + (tok + QUERY_TILE) / 2) + tile_tok * query_tiles * QUERY_TILE
    expand_flop = 2 * 512 * 256 * batch * heads
    flop = 2 * (qk_width + v_width) * batch * heads * pairs + eager * tok * expand_flop
    busy_flop = flop * (1 + half_tile * cores / tiles) + past_tok * expand_flop
    compute_s = busy_flop / (peak_flop_s * compute_ratio)
    byte = (
        batch
        * tok
        * (heads * (2 * (qk_width + v_width) * 2 + quantises * (2 * qk_width + v_width) + eager * 448 * 2) + 576 * 2)
    )
    byte += batch * past_tok * (heads * (qk_width + v_width) * 2 + 576 * 2)
    memory_s = byte * (1 - math.exp(-byte / (cache_share * cache_byte))) / (memory_byte_s * memory_ratio)
    time_s = launch_s + norm(compute_s, memory_s, overlap)
    return norm(time_s, eager * host_s, EDGE), compute_s, memory_s


def latent_decode(s: Sequence[float], p: Sequence[float]) -> Parts:
    """MLA decode in the latent space: see ``latent``."""
    (batch, kv_tok, heads, latent_width, value_rank, tile, copies, kv_byte, split, eager, peak_flop_s, memory_byte_s,
     cores, cache_byte) = s[:14]  # fmt: skip
    (launch_s, host_s, compute_ratio, memory_ratio, reread, token_s, pair_wave, chunk_tok, tile_s, tile_heads,
     cache_share, overlap) = p[:12]  # fmt: skip
    tiles = batch * math.ceil(heads / tile)
    walk_tok = 64.0 * math.ceil(kv_tok / 64)
    waves = math.ceil(2 * tiles / cores)
    in_turn = (waves // 2) * pair_wave + waves % 2
    serial_s = token_s * (walk_tok / (1 + walk_tok / chunk_tok) if split > 0 else walk_tok * in_turn)
    compute_s = split * batch * heads * walk_tok * 2 * (latent_width + value_rank) / (peak_flop_s * compute_ratio)
    byte = batch * kv_tok * latent_width * kv_byte * (1 + reread * (copies - 1))
    byte += batch * heads * (latent_width + value_rank) * 2
    memory_s = byte * (1 - math.exp(-byte / (cache_share * cache_byte))) / (memory_byte_s * memory_ratio)
    run_s = norm(max(compute_s, memory_s), serial_s, overlap)
    time_s = launch_s + run_s + (tiles + batch * heads / tile_heads) * tile_s / cores
    return norm(time_s, eager * host_s, EDGE), compute_s, memory_s


def collectives(s: Sequence[float], p: Sequence[float]) -> Parts:
    """Collective: see ``collectives``. The last part is the time on the wire."""
    byte, chips, slices, steps, copy_share, point, link_byte_s, crowd, in_switch, custom, host = s[:11]
    (launch_s, hop_s, link_ratio, fill_s, copy_byte_s, low_latency_ratio, point_byte_s, contention, one_shot_ratio,
     issue_s, switch_ratio) = p[:11]  # fmt: skip
    rate = link_byte_s * link_ratio * crowd**-contention
    ring_byte = slices * byte
    wire_byte = min(ring_byte, switch_ratio * byte) if in_switch > 0 else ring_byte
    start_s = (launch_s + steps * hop_s) * (1 + LEAVE_RATIO * byte / (byte + LEAVE_BYTE))
    simple_s = (math.sqrt(wire_byte / rate + copy_share * byte / copy_byte_s) + math.sqrt(fill_s)) ** 2
    low_latency_s = ring_byte / (rate * low_latency_ratio) + point * ring_byte / point_byte_s
    time_s = start_s + either(simple_s, low_latency_s)
    if custom > 0:
        outgrown = 1 + (byte / ONE_SHOT_BYTE) ** 2
        one_shot_s = (
            one_shot_ratio * (launch_s + 0.5 * hop_s * math.log2(chips))
            + (chips - 1) * byte / (ONE_SHOT_RATIO * rate) * outgrown
        )
        time_s = either(time_s, one_shot_s)
    return norm(time_s, host * issue_s, EDGE), 0.0, wire_byte / rate


def either(first: float, second: float) -> float:
    """Return the smaller of two times, with a smooth edge; 0 if either is. [s]"""
    high, low = max(first, second), min(first, second)
    return low * (1 + (low / high) ** EDGE) ** (-1 / EDGE) if low > 0 else 0.0


def experts(s: Sequence[float], p: Sequence[float]) -> Parts:
    """Routed experts: see ``experts``."""
    (tok, hidden, ffn, topk, experts_total, ep, matrices, skew, weight_byte, activation_byte, peak_flop_s,
     memory_byte_s, weight_byte_s, cores, cache_byte, seen) = s[:16]  # fmt: skip
    (launch_s, compute_ratio, memory_ratio, chain_s, tile_rows, epilogue_s, activation_ratio, ghost, cache_gain,
     overlap) = p[:10]  # fmt: skip
    if tok <= 0:
        return 0.0, 0.0, 0.0
    local = experts_total / ep
    rows, hit = routed(tok, experts_total, topk, ep, skew)
    nominal = 2 ** math.ceil(math.log2(max(seen * tok * topk / local, 8.0)) - 1e-9)
    tile = (nominal**-4 + tile_rows**-4) ** -0.25
    each = rows / hit
    padded = hit * (each + tile / 2 * (1 + math.exp(-2 * each / tile)))
    params = matrices * hidden * ffn
    into = max(matrices - 1, 0.0) * ffn
    compute_s = 2 * padded * params / (peak_flop_s * compute_ratio) + padded * (into + hidden) * epilogue_s / cores
    chain = chain_s * (hidden + ffn) * (1 + tile / CHAIN_ROWS)
    read_byte = weight_byte * hit * params
    resident = math.exp(-((read_byte / cache_byte) ** 2))
    weights_s = read_byte / (weight_byte_s * memory_ratio) * (1 - resident * cache_gain / (1 + cache_gain))
    touched = rows + ghost * max(seen * tok * topk - rows, 0.0)
    moved_byte = 4 * seen * tok * hidden + touched * (
        hidden * (4 + 2 * activation_byte) + ffn * (4 * max(matrices - 1, 0.0) + 2 * activation_byte)
    )
    activations_s = moved_byte / (memory_byte_s * activation_ratio)
    time_s = launch_s + norm(compute_s + chain, weights_s, 1 + overlap) + activations_s
    return time_s, compute_s, weights_s + activations_s


def routed(tok: float, experts_total: float, topk: float, ep: float, skew: float) -> tuple[float, float]:
    """Return rows and distinct experts hit on the busiest rank; ``experts`` derives them.

    ``skew`` < 0: tokens choose independently and evenly; 0: rows are dealt out evenly, as benchmarks do; > 0: loads of
    experts follow a power law x^-skew.
    """
    local, mean_rows, per_expert = experts_total / ep, tok * topk / ep, tok * topk / experts_total
    up = math.ceil(mean_rows - 1e-9)
    if skew == 0:
        rows = float(up) if tok * topk <= experts_total else max(mean_rows, 1.0)
        return rows, min(local, math.ceil(max(mean_rows, 1.0) - 1e-9))
    if skew < 0:
        rows, hit = max(mean_rows, 1.0), local * (1 - (1 - topk / experts_total) ** tok)
        return rows, min(max(hit, 1.0), rows)
    a = max(skew - 1, 1e-3)
    most = max(0.8 * tok, 1.01) if tok * topk > experts_total else 200.0
    first, second, third = ((most ** (j - a) - 1) / (j - a) * a / (1 - most**-a) for j in (1, 2, 3))
    cv2 = max(second / first**2 - 1, 1e-6)
    skewness = (third / first**3 - 3 * second / first**2 + 2) / cv2**1.5
    lost = (min(max(0.5 * first / per_expert, 1.0), most) ** (1 - a) - 1) / (most ** (1 - a) - 1)
    z = max(math.sqrt(2 * math.log(ep)) - 0.57, 0.0)
    z += max(z * z - 1, 0.0) * skewness / 6 / math.sqrt(local)
    busiest = 1 + (1 - lost) * (min(1 + z * math.sqrt(cv2 / local * (1 - 1 / ep)), most / first) - 1)
    rows = min(busiest * (mean_rows + lost * (up - mean_rows)), tok * min(local, topk))
    rows = max(rows, 1.0)
    x = min(max(0.5 * first / per_expert / busiest, 1.0), most)
    some = (x**-a - most**-a) / (1 - most**-a)
    return rows, min(max(local * some + lost * up, 1.0), local, rows)


SIZES, PARAMETERS, MOST_SHAPE = (2, 11, 12, 12, 12, 14, 16, 11), (3, 10, 12, 11, 8, 12, 10, 11), 16
"""Sizes and parameters that each formula reads; most sizes of any."""

FORMULAS = {
    STREAM: stream,
    GEMM: gemm,
    ATTENTION_PREFILL: attention_prefill,
    ATTENTION_DECODE: attention_decode,
    LATENT_PREFILL: latent_prefill,
    LATENT_DECODE: latent_decode,
    EXPERTS: experts,
    COLLECTIVES: collectives,
}


def family_times_s(code: int, shape: Floats, parameters: Floats, out: Floats) -> None:
    """Time of each row by the formula of one family.

    Parameters
    ----------
    code : int
        One of the constants above.
    shape : float64[n, W]
        In the order of the family's shape.
    parameters : float64[n, P]
        In the order of the family's parameters.
    out : float64[n, 3]
        Written in place: time, part computing, part reading (on the wire, of a collective). [s]
    """
    count = _length(shape, parameters, out)
    _check(code, shape, parameters, out)
    formula = FORMULAS[code]
    for i in range(count):
        out[i] = formula(shape[i].tolist(), parameters[i].tolist())


def linear_times_s(
    code: NDArray[np.int32],
    count: Floats,
    tok_ratio: Floats,
    most_tok: Floats,
    shape: Floats,
    parameters: Floats,
    tok: Floats,
    out: Floats,
) -> None:
    """Time of all operators of a step, added up, at several numbers of tokens.

    Parameters
    ----------
    code : int32[ops]
        Family of each operator.
    count, tok_ratio, most_tok : float64[ops]
        Launches (times whatever its time is multiplied by), first size per token, tokens charged for at most.
    shape, parameters : float64[ops, W], float64[ops, P]
        See :func:`family_times_s`; the first size is put in here.
    tok : float64[k]
        Tokens of the step; with none a step takes 0.
    out : float64[k, 3]
        Written in place: time, part computing, part reading. [s]
    """
    ops, nodes = _length(code, count, tok_ratio, most_tok, shape, parameters), _length(tok, out)
    for i in range(ops):
        _check(int(code[i]), shape, parameters, out)
    for j in range(nodes):
        total = [0.0, 0.0, 0.0]
        for i in range(ops if tok[j] > 0 else 0):
            sizes = shape[i].tolist()
            sizes[0] = float(tok_ratio[i]) * min(float(tok[j]), float(most_tok[i]))
            parts = FORMULAS[int(code[i])](sizes, parameters[i].tolist())
            total = [sum_s + float(count[i]) * part_s for sum_s, part_s in zip(total, parts, strict=True)]
        out[j] = total


def step_times_s(  # noqa: PLR0917 -- the kernel takes one buffer per part, in the order of StepTable
    linear_s: Floats,
    decode_s: Floats,
    context_s_per_tok: Floats,
    window_s_per_tok: Floats,
    prefill_s_per_tok2: float,
    window_s_per_tok2: float,
    prefill_s: float,
    fixed_s: float,
    window_tok: float,
    tok: Floats,
    seqs: Floats,
    context_tok: Floats,
    work_tok2: Floats,
    out_s: Floats,
) -> None:
    """Time of each step; ``steps.StepTable`` has the form.

    Parameters
    ----------
    linear_s : float64[most tokens + 1]
    decode_s, context_s_per_tok, window_s_per_tok : float64[most sequences + 1]
    prefill_s_per_tok2, window_s_per_tok2, prefill_s, fixed_s, window_tok : float
        The table's parts; arrays are read between whole numbers by a straight line. [s], [s/tok], [s/tok^2], [tok]
    tok, seqs, context_tok, work_tok2 : float64[n]
        Tokens of each step, sequences among them that decode, KV tokens those see, pairs its prompts multiply.
    out_s : float64[n]
        Written in place. [s]
    """
    _length(decode_s, context_s_per_tok, window_s_per_tok)
    most_tok, most_seqs = len(linear_s) - 1, len(decode_s) - 1
    for i in range(_length(tok, seqs, context_tok, work_tok2, out_s)):
        n_tok, n_seqs, context, work = float(tok[i]), float(seqs[i]), float(context_tok[i]), float(work_tok2[i])
        if not 0 <= n_tok <= most_tok:
            raise ValueError(f"a step holds 0 to {most_tok} tokens, not {n_tok:g}")
        if not 0 <= n_seqs <= min(n_tok, most_seqs):
            raise ValueError(f"of {n_tok:g} tokens, 0 to {min(n_tok, most_seqs):g} can decode, not {n_seqs:g}")
        if not (0 <= context < math.inf and 0 <= work < math.inf):
            raise ValueError(f"context and pairs are finite and not negative: {context:g}, {work:g}")
        time_s = fixed_s + _between(linear_s, n_tok) + _between(decode_s, n_seqs)
        time_s += _between(context_s_per_tok, n_seqs) * context
        time_s += _between(window_s_per_tok, n_seqs) * min(context, n_seqs * window_tok)
        if work > 0:
            in_window = min(work, (n_tok - n_seqs) * window_tok)
            time_s += prefill_s + prefill_s_per_tok2 * work + window_s_per_tok2 * in_window
        out_s[i] = time_s


def _between(values: Floats, at: float) -> float:
    """Return a table's value between two whole numbers."""
    low = int(at)
    value = float(values[low])
    return value + (at - low) * (float(values[low + 1]) - value) if at > low else value


def _check(code: int, shape: Floats, parameters: Floats, out: Floats) -> None:
    if code not in FORMULAS:
        raise ValueError(f"no family has the code {code}")
    if out.shape[1] != 3:
        raise ValueError("buffers must have one length")
    if shape.shape[1] > MOST_SHAPE:
        raise ValueError(f"a shape has at most {MOST_SHAPE} sizes")
    if shape.shape[1] < SIZES[code] or parameters.shape[1] < PARAMETERS[code]:
        raise ValueError(f"family {code} has {SIZES[code]} sizes and {PARAMETERS[code]} parameters")


def _length(*buffers: NDArray[np.generic]) -> int:
    lengths = {len(buffer) for buffer in buffers}
    if len(lengths) > 1:
        raise ValueError("buffers must have one length")
    return lengths.pop()
