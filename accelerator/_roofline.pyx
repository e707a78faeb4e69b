# cython: boundscheck=False, wraparound=False, cdivision=True
"""Compiled kernels of the roofline. _roofline_py.py is the specification; tests hold the two equal.

The Python faces check lengths and signs, because the C checks are off.
"""


cdef inline double _longer_s(double compute_s, double memory_s) noexcept nogil:
    return compute_s if compute_s > memory_s else memory_s


def op_times_s(const double[::1] flop, const double[::1] moved_byte,  # IN
               const double[::1] flop_s, const double[::1] byte_s,    # IN
               double[::1] out_s):                                    # OUT
    """Roofline lower bound of the time of each operator; see the plain twin."""
    cdef Py_ssize_t i, n = flop.shape[0]
    if not (moved_byte.shape[0] == flop_s.shape[0] == byte_s.shape[0] == out_s.shape[0] == n):
        raise ValueError("buffers must have one length")
    for i in range(n):
        if not (flop_s[i] > 0 and byte_s[i] > 0):
            raise ValueError("rates must be positive")
    with nogil:
        for i in range(n):
            out_s[i] = _longer_s(flop[i] / flop_s[i], moved_byte[i] / byte_s[i])


def linear_times_s(const double[::1] flop_tok, const double[::1] half_tok,      # IN
                   const double[::1] fixed_byte, const double[::1] tok_byte,    # IN
                   const double[::1] miss_ratio, const double[::1] most_tok,    # IN
                   const double[::1] flop_s, const double[::1] byte_s,          # IN
                   double link_tok_s,                                           # IN
                   double[::1] out_s):                                          # OUT
    """Time of the token-dependent part of a step for 0, 1, 2 ... tokens; see the plain twin."""
    cdef Py_ssize_t i, ops = flop_tok.shape[0]
    cdef int n, split, end = <int>out_s.shape[0]  # int: only that converts to double in vector registers
    cdef double tok, hit, untouched, flop, half, fixed, moved, per_flop_s, per_byte_s, last_s
    if not (half_tok.shape[0] == fixed_byte.shape[0] == tok_byte.shape[0] == miss_ratio.shape[0]
            == most_tok.shape[0] == flop_s.shape[0] == byte_s.shape[0] == ops):
        raise ValueError("buffers must have one length")
    for i in range(ops):
        if not (flop_s[i] > 0 and byte_s[i] > 0):
            raise ValueError("rates must be positive")
    with nogil:
        for n in range(end):
            out_s[n] = link_tok_s * n
        for i in range(ops):
            per_flop_s, per_byte_s = 1.0 / flop_s[i], 1.0 / byte_s[i]  # a division per token would double the time
            flop, half, fixed, moved = flop_tok[i], half_tok[i], fixed_byte[i], tok_byte[i]
            if miss_ratio[i] > 0:
                untouched = 1.0
                for n in range(1, end):
                    untouched *= miss_ratio[i]
                    hit = 1.0 - untouched
                    tok = n if n < most_tok[i] else most_tok[i]
                    out_s[n] += _longer_s(flop * (tok + half * hit) * per_flop_s, (fixed * hit + moved * tok) * per_byte_s)
                continue
            split = end if most_tok[i] >= end - 1 else <int>most_tok[i] + 1  # up to here a token still costs
            for n in range(1, split):
                out_s[n] += _longer_s(flop * (n + half) * per_flop_s, (fixed + moved * n) * per_byte_s)
            last_s = _longer_s(flop * (most_tok[i] + half) * per_flop_s, (fixed + moved * most_tok[i]) * per_byte_s)
            for n in range(split, end):
                out_s[n] += last_s


def step_times_s(const double[::1] linear_s, double context_s_per_tok, double prefill_s_per_tok2, double fixed_s,  # IN
                 const double[::1] tok, const double[::1] context_tok, const double[::1] work_tok2,                # IN
                 double[::1] out_s):                                                                               # OUT
    """Time of each step; see the plain twin."""
    cdef Py_ssize_t i, j, n = tok.shape[0], top = linear_s.shape[0] - 1
    cdef double share
    if not (context_tok.shape[0] == work_tok2.shape[0] == out_s.shape[0] == n):
        raise ValueError("buffers must have one length")
    for i in range(n):
        if not 0 <= tok[i] <= top:
            raise ValueError(f"a step holds 0 to {top} tokens, not {tok[i]:g}")
    with nogil:
        for i in range(n):
            j = <Py_ssize_t>tok[i]
            share = tok[i] - j
            out_s[i] = linear_s[j] + fixed_s + context_s_per_tok * context_tok[i] + prefill_s_per_tok2 * work_tok2[i]
            if share > 0:
                out_s[i] += share * (linear_s[j + 1] - linear_s[j])
