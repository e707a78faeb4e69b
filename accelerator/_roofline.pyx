# cython: boundscheck=False, wraparound=False, cdivision=True
"""Compiled kernels of the roofline. _roofline_py.py is the specification; tests hold the two equal.

The Python faces check lengths and codes, because the C checks are off. One formula per family, from a row of sizes and a
row of parameters; what does not depend on the tokens of a step is worked out again for every number of them, which the
compiler moves out of the loop where it pays.
"""

from libc.math cimport INFINITY, ceil, exp, floor, log, log2, pow, sqrt

cdef enum:
    STREAM, GEMM, ATTENTION_PREFILL, ATTENTION_DECODE, LATENT_PREFILL, LATENT_DECODE, EXPERTS, COLLECTIVES

cdef enum:
    MOST_SHAPE = 16
    MOST_PARAMETERS = 16

cdef double COPIES = 5.0, CHAIN_ROWS = 40.0, EDGE = 4.0, QUERY_TILE = 128.0, WALK_TOK = 4096.0
cdef double LEAVE_RATIO = 0.12, LEAVE_BYTE = 16384.0, ONE_SHOT_RATIO = 0.87, ONE_SHOT_BYTE = 6e6

cdef Py_ssize_t[8] SIZES = [2, 11, 12, 12, 12, 14, 16, 11]
cdef Py_ssize_t[8] PARAMETERS = [3, 10, 12, 11, 8, 12, 10, 11]


cdef inline double _more(double a, double b) noexcept nogil:
    return a if a > b else b  # one instruction, where fmax is a call: it would have to mind NaN


cdef inline double _less(double a, double b) noexcept nogil:
    return a if a < b else b


cdef inline double _square(double x) noexcept nogil:
    return x * x


cdef inline double _norm(double first, double second, double exponent) noexcept nogil:
    cdef double high = _more(first, second), low = _less(first, second)
    if low <= 0:
        return high
    return high * pow(1 + pow(low / high, exponent), 1 / exponent)


cdef inline double _either(double first, double second) noexcept nogil:
    cdef double high = _more(first, second), low = _less(first, second)
    return low / sqrt(sqrt(1 + _square(_square(low / high)))) if low > 0 else 0.0


cdef inline void _stream(const double* s, const double* p, double* out) noexcept nogil:
    cdef double read_s = s[0] / (s[1] * p[2])
    out[0], out[1], out[2] = p[0] + read_s, 0.0, read_s


cdef inline void _gemm(const double* s, const double* p, double* out) noexcept nogil:
    cdef double m = s[0], n = s[1], k = s[2], memory_byte_s = s[8], cores = s[9]
    cdef double tile = 16.0 if m <= 64 else 64.0
    cdef double padded_m = ceil(m / tile) * tile
    cdef double wave = 2 * 128 * 128 * cores * p[3]
    cdef double compute_s = (2 * padded_m * n + wave) * (k + p[4]) / (s[7] * p[1])
    cdef double byte = s[3] * n * k + s[4] * m * k + 2 * m * n
    cdef double resident = 1 / (1 + _square(_square(COPIES * byte / s[10])))
    cdef double dram_byte_s = memory_byte_s * p[2]
    cdef double memory_s = byte * (resident / _more(p[6] * cores, dram_byte_s) + (1 - resident) / dram_byte_s)
    cdef double quantise_s = s[5] * p[5] * m * k / memory_byte_s
    cdef double run_s = quantise_s + _norm(compute_s, memory_s, p[9])
    out[0] = _norm(run_s, p[0] * (1 + p[8] * s[6]), 1 + p[7])
    out[1], out[2] = compute_s, memory_s + quantise_s


cdef inline void _attention_prefill(const double* s, const double* p, double* out) noexcept nogil:
    cdef double tok = s[0], batch = s[1], past_tok = s[2], heads = s[3], kv_heads = s[4], head_dim = s[5]
    cdef double window_tok = s[6], cores = s[10], tile_rows = p[9]
    cdef double rows = tile_rows / pow(heads / kv_heads, _less(p[10], 1.0)) if tok < 2 else tile_rows
    cdef double padded = _more(tok, rows)
    cdef double full = padded * (past_tok + (padded + tile_rows) / 2)
    cdef double pairs = full
    if window_tok > 0:
        pairs = _less(padded * (window_tok + tile_rows / 2), full)
        pairs += p[11] * (full - pairs)
    cdef double pair_s = 4 * head_dim * cores / (s[8] * p[1]) + 1 / p[2]
    cdef double compute_s = batch * heads * (pairs * pair_s + padded / tile_rows * p[7]) / cores
    cdef double longest_s = tile_rows * _less(2 * pairs / padded, padded + _less(past_tok, WALK_TOK)) * pair_s + p[7]
    cdef double byte = batch * tok * head_dim * (4 * heads + p[6] * 2 * kv_heads * (2 + s[7]))
    byte += batch * (_less(past_tok, window_tok) if window_tok > 0 else past_tok) * head_dim * 2 * kv_heads * s[7]
    cdef double gain = 1 + p[4] / (1 + _square(byte / (s[11] * p[5])))
    cdef double memory_s = byte / (s[9] * p[3] * gain)
    out[0] = p[0] + memory_s + compute_s + p[8] * longest_s
    out[1], out[2] = compute_s, memory_s


cdef inline void _attention_decode(const double* s, const double* p, double* out) noexcept nogil:
    cdef double batch = s[0], kv_tok = s[1], heads = s[2], kv_heads = s[3], head_dim = s[4], window_tok = s[5]
    cdef double plain = s[7], cores = s[10], split_tok = p[5]
    cdef double seen_tok = kv_tok
    if window_tok > 0:
        seen_tok = _less(window_tok, kv_tok)
        seen_tok += p[10] * (kv_tok - seen_tok)
    cdef double tasks = batch * (heads if plain > 0 else kv_heads)
    cdef double query_rows = 1.0 if plain > 0 else heads / kv_heads
    cdef double byte = batch * kv_heads * seen_tok * head_dim * 2 * s[6] + p[9] * batch * heads * head_dim * 2
    cdef double gain = 1 + p[2] / (1 + _square(byte / (s[11] * p[3])))
    cdef double split = tasks * (1 + seen_tok / split_tok)
    cdef double busy_ratio = split / (split + cores)
    cdef double memory_s = byte / (s[9] * p[1] * gain)
    cdef double compute_s = 4 * tasks * (query_rows + p[7]) * seen_tok * head_dim / (s[8] * p[6] * busy_ratio)
    cdef double serial_s = p[4] * seen_tok / (1 + seen_tok / split_tok) + p[8] * (1 + tasks / cores)
    out[0] = p[0] + memory_s + compute_s + serial_s
    out[1], out[2] = compute_s, memory_s


cdef inline void _latent_prefill(const double* s, const double* p, double* out) noexcept nogil:
    cdef double tok = s[0], batch = s[1], heads = s[3], width = s[4] + s[5], eager = s[7]
    cdef double query_tiles = _more(1.0, tok / QUERY_TILE)
    cdef double pairs = tok * (s[2] + (tok + QUERY_TILE) / 2) + p[5] * query_tiles * QUERY_TILE
    cdef double expand_flop = 2.0 * 512 * 256 * batch * heads
    cdef double flop = 2 * width * batch * heads * pairs + eager * tok * expand_flop
    cdef double busy_flop = flop * (1 + p[4] * s[10] / (batch * heads * query_tiles)) + s[2] * expand_flop
    cdef double compute_s = busy_flop / (s[8] * p[2])
    cdef double byte = batch * tok * (
        heads * (2 * width * 2 + s[6] * (2 * s[4] + s[5]) + eager * 448 * 2) + 576 * 2)
    byte += batch * s[2] * (heads * width * 2 + 576 * 2)
    cdef double memory_s = byte * (1 - exp(-byte / (p[6] * s[11]))) / (s[9] * p[3])
    out[0] = _norm(p[0] + _norm(compute_s, memory_s, p[7]), eager * p[1], EDGE)
    out[1], out[2] = compute_s, memory_s


cdef inline void _latent_decode(const double* s, const double* p, double* out) noexcept nogil:
    cdef double batch = s[0], kv_tok = s[1], heads = s[2], width = s[3] + s[4], tile = s[5], split = s[8]
    cdef double cores = s[12]
    cdef double tiles = batch * ceil(heads / tile)
    cdef double walk_tok = 64.0 * ceil(kv_tok / 64)
    cdef double waves = ceil(2 * tiles / cores), pairs = floor(waves / 2)
    cdef double in_turn = pairs * p[6] + (waves - 2 * pairs)
    cdef double serial_s = p[5] * (walk_tok / (1 + walk_tok / p[7]) if split > 0 else walk_tok * in_turn)
    cdef double compute_s = split * batch * heads * walk_tok * 2 * width / (s[10] * p[2])
    cdef double byte = batch * kv_tok * s[3] * s[7] * (1 + p[4] * (s[6] - 1)) + batch * heads * width * 2
    cdef double memory_s = byte * (1 - exp(-byte / (p[10] * s[13]))) / (s[11] * p[3])
    cdef double run_s = _norm(_more(compute_s, memory_s), serial_s, p[11])
    out[0] = _norm(p[0] + run_s + (tiles + batch * heads / p[9]) * p[8] / cores, s[9] * p[1], EDGE)
    out[1], out[2] = compute_s, memory_s


cdef inline void _routed(double tok, double total, double topk, double ep, double skew, double* out) noexcept nogil:
    cdef double local = total / ep, mean_rows = tok * topk / ep, per_expert = tok * topk / total
    cdef double up = ceil(mean_rows - 1e-9)
    cdef double a, most, scale, first, second, third, cv2, skewness, lost, z, busiest, rows, x, some, hit
    if skew == 0:
        out[0] = up if tok * topk <= total else _more(mean_rows, 1.0)
        out[1] = _less(local, ceil(_more(mean_rows, 1.0) - 1e-9))
        return
    if skew < 0:
        hit = local * (1 - pow(1 - topk / total, tok))
        out[0] = _more(mean_rows, 1.0)
        out[1] = _less(_more(hit, 1.0), out[0])
        return
    a = _more(skew - 1, 1e-3)
    most = _more(0.8 * tok, 1.01) if tok * topk > total else 200.0
    scale = a / (1 - pow(most, -a))
    first = (pow(most, 1 - a) - 1) / (1 - a) * scale
    second = (pow(most, 2 - a) - 1) / (2 - a) * scale
    third = (pow(most, 3 - a) - 1) / (3 - a) * scale
    cv2 = _more(second / _square(first) - 1, 1e-6)
    skewness = (third / (first * first * first) - 3 * second / _square(first) + 2) / (cv2 * sqrt(cv2))
    lost = (pow(_less(_more(0.5 * first / per_expert, 1.0), most), 1 - a) - 1) / (pow(most, 1 - a) - 1)
    z = _more(sqrt(2 * log(ep)) - 0.57, 0.0)
    z += _more(z * z - 1, 0.0) * skewness / 6 / sqrt(local)
    busiest = 1 + (1 - lost) * (_less(1 + z * sqrt(cv2 / local * (1 - 1 / ep)), most / first) - 1)
    rows = _more(_less(busiest * (mean_rows + lost * (up - mean_rows)), tok * _less(local, topk)), 1.0)
    x = _less(_more(0.5 * first / per_expert / busiest, 1.0), most)
    some = (pow(x, -a) - pow(most, -a)) / (1 - pow(most, -a))
    out[0] = rows
    out[1] = _less(_more(local * some + lost * up, 1.0), _less(local, rows))


cdef inline void _experts(const double* s, const double* p, double* out) noexcept nogil:
    cdef double tok = s[0], hidden = s[1], ffn = s[2], topk = s[3], matrices = s[6], activation_byte = s[9]
    cdef double local = s[4] / s[5], seen_tok = s[15] * s[0]
    cdef double[2] routed
    if tok <= 0:
        out[0] = out[1] = out[2] = 0.0
        return
    _routed(tok, s[4], topk, s[5], s[7], routed)
    cdef double rows = routed[0], hit = routed[1]
    cdef double nominal = pow(2.0, ceil(log2(_more(seen_tok * topk / local, 8.0)) - 1e-9))
    cdef double tile = 1 / sqrt(sqrt(1 / _square(_square(nominal)) + 1 / _square(_square(p[4]))))
    cdef double padded = hit * (rows / hit + tile / 2 * (1 + exp(-2 * rows / hit / tile)))
    cdef double params = matrices * hidden * ffn, gates = _more(matrices - 1, 0.0)
    cdef double compute_s = 2 * padded * params / (s[10] * p[1]) + padded * (gates * ffn + hidden) * p[5] / s[13]
    cdef double chain = p[3] * (hidden + ffn) * (1 + tile / CHAIN_ROWS)
    cdef double read_byte = s[8] * hit * params
    cdef double resident = exp(-_square(read_byte / s[14]))
    cdef double weights_s = read_byte / (s[12] * p[2]) * (1 - resident * p[8] / (1 + p[8]))
    cdef double touched = rows + p[7] * _more(seen_tok * topk - rows, 0.0)
    cdef double moved_byte = 4 * seen_tok * hidden + touched * (
        hidden * (4 + 2 * activation_byte) + ffn * (4 * gates + 2 * activation_byte))
    cdef double activations_s = moved_byte / (s[11] * p[6])
    out[0] = p[0] + _norm(compute_s + chain, weights_s, 1 + p[9]) + activations_s
    out[1], out[2] = compute_s, weights_s + activations_s


cdef inline void _collectives(const double* s, const double* p, double* out) noexcept nogil:
    cdef double byte = s[0], chips = s[1]
    cdef double rate = s[6] * p[2] * pow(s[7], -p[7])
    cdef double ring_byte = s[2] * byte
    cdef double wire_byte = _less(ring_byte, p[10] * byte) if s[8] > 0 else ring_byte
    cdef double start_s = (p[0] + s[3] * p[1]) * (1 + LEAVE_RATIO * byte / (byte + LEAVE_BYTE))
    cdef double simple_s = _square(sqrt(wire_byte / rate + s[4] * byte / p[4]) + sqrt(p[3]))
    cdef double low_latency_s = ring_byte / (rate * p[5]) + s[5] * ring_byte / p[6]
    cdef double time_s = start_s + _either(simple_s, low_latency_s)
    if s[9] > 0:
        time_s = _either(time_s, p[8] * (p[0] + 0.5 * p[1] * log2(chips))
                         + (chips - 1) * byte / (ONE_SHOT_RATIO * rate) * (1 + _square(byte / ONE_SHOT_BYTE)))
    out[0] = _norm(time_s, s[10] * p[9], EDGE)
    out[1], out[2] = 0.0, wire_byte / rate


cdef inline void _formula(int code, const double* s, const double* p, double* out) noexcept nogil:
    if code == GEMM:
        _gemm(s, p, out)
    elif code == STREAM:
        _stream(s, p, out)
    elif code == EXPERTS:
        _experts(s, p, out)
    elif code == COLLECTIVES:
        _collectives(s, p, out)
    elif code == ATTENTION_DECODE:
        _attention_decode(s, p, out)
    elif code == ATTENTION_PREFILL:
        _attention_prefill(s, p, out)
    elif code == LATENT_DECODE:
        _latent_decode(s, p, out)
    else:
        _latent_prefill(s, p, out)


def family_times_s(int code, const double[:, ::1] shape, const double[:, ::1] parameters,  # IN
                   double[:, ::1] out):                                                     # OUT
    """Time of each row by the formula of one family; see the plain twin."""
    cdef Py_ssize_t i, n = shape.shape[0]
    if not (parameters.shape[0] == out.shape[0] == n and out.shape[1] == 3):
        raise ValueError("buffers must have one length")
    _check(code, shape.shape[1], parameters.shape[1])
    with nogil:
        for i in range(n):
            _formula(code, &shape[i, 0], &parameters[i, 0], &out[i, 0])


def linear_times_s(const int[::1] code, const double[::1] count, const double[::1] tok_ratio,       # IN
                   const double[::1] most_tok, const double[:, ::1] shape,                            # IN
                   const double[:, ::1] parameters, const double[::1] tok,                            # IN
                   double[:, ::1] out):                                                               # OUT
    """Time of all operators of a step at several numbers of tokens; see the plain twin."""
    cdef Py_ssize_t i, j, w, ops = code.shape[0], nodes = tok.shape[0], width = shape.shape[1]
    cdef double[MOST_SHAPE] sizes
    cdef double[3] parts
    if not (count.shape[0] == tok_ratio.shape[0] == most_tok.shape[0] == shape.shape[0] == parameters.shape[0] == ops
            and out.shape[0] == nodes and out.shape[1] == 3):
        raise ValueError("buffers must have one length")
    for i in range(ops):
        _check(code[i], width, parameters.shape[1])
    with nogil:
        for j in range(nodes):
            out[j, 0] = out[j, 1] = out[j, 2] = 0.0
        for i in range(ops):
            for w in range(width):
                sizes[w] = shape[i, w]
            for j in range(nodes):
                if not tok[j] > 0:
                    continue
                sizes[0] = tok_ratio[i] * _less(tok[j], most_tok[i])
                _formula(code[i], sizes, &parameters[i, 0], parts)
                for w in range(3):
                    out[j, w] += count[i] * parts[w]


cdef inline double _between(const double[::1] values, double at) noexcept nogil:
    cdef Py_ssize_t low = <Py_ssize_t>at
    cdef double value = values[low]
    if at > low:
        value += (at - low) * (values[low + 1] - value)
    return value


def step_times_s(const double[::1] linear_s, const double[::1] decode_s,                              # IN
                 const double[::1] context_s_per_tok, const double[::1] window_s_per_tok,              # IN
                 double prefill_s_per_tok2, double window_s_per_tok2, double prefill_s,                # IN
                 double fixed_s, double window_tok,                                                    # IN
                 const double[::1] tok, const double[::1] seqs,                                        # IN
                 const double[::1] context_tok, const double[::1] work_tok2,                           # IN
                 double[::1] out_s):                                                                   # OUT
    """Time of each step; see the plain twin."""
    cdef Py_ssize_t i, n = tok.shape[0], most_tok = linear_s.shape[0] - 1, most_seqs = decode_s.shape[0] - 1
    cdef double time_s
    if not (seqs.shape[0] == context_tok.shape[0] == work_tok2.shape[0] == out_s.shape[0] == n
            and context_s_per_tok.shape[0] == window_s_per_tok.shape[0] == decode_s.shape[0]):
        raise ValueError("buffers must have one length")
    for i in range(n):
        if not 0 <= tok[i] <= most_tok:
            raise ValueError(f"a step holds 0 to {most_tok} tokens, not {tok[i]:g}")
        if not 0 <= seqs[i] <= min(tok[i], most_seqs):
            raise ValueError(f"of {tok[i]:g} tokens, 0 to {min(tok[i], most_seqs):g} can decode, not {seqs[i]:g}")
        if not (0 <= context_tok[i] < INFINITY and 0 <= work_tok2[i] < INFINITY):
            raise ValueError(f"context and pairs are finite and not negative: {context_tok[i]:g}, {work_tok2[i]:g}")
    with nogil:
        for i in range(n):
            time_s = fixed_s + _between(linear_s, tok[i]) + _between(decode_s, seqs[i])
            time_s += _between(context_s_per_tok, seqs[i]) * context_tok[i]
            time_s += _between(window_s_per_tok, seqs[i]) * _less(context_tok[i], seqs[i] * window_tok)
            if work_tok2[i] > 0:
                time_s += prefill_s + prefill_s_per_tok2 * work_tok2[i]
                time_s += window_s_per_tok2 * _less(work_tok2[i], (tok[i] - seqs[i]) * window_tok)
            out_s[i] = time_s


cdef _check(int code, Py_ssize_t sizes, Py_ssize_t parameters):
    if not 0 <= code < 8:
        raise ValueError(f"no family has the code {code}")
    if sizes > MOST_SHAPE:
        raise ValueError(f"a shape has at most {MOST_SHAPE} sizes")
    if sizes < SIZES[code] or parameters < PARAMETERS[code]:
        raise ValueError(f"family {code} has {SIZES[code]} sizes and {PARAMETERS[code]} parameters")
