"""Plain twins of the kernels in _roofline.pyx: the specification, readable, vectorised by numpy, some times slower."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]


def op_times_s(flop: Floats, moved_byte: Floats, flop_s: Floats, byte_s: Floats, out_s: Floats) -> None:
    """Roofline lower bound of the time of each operator [1]_.

    Parameters
    ----------
    flop, moved_byte : float64[n]
        Work [flop] and memory traffic [byte] of each operator.
    flop_s, byte_s : float64[n]
        Rates that each operator reaches, > 0. [flop/s], [byte/s]
    out_s : float64[n]
        Written in place. [s]

    References
    ----------
    .. [1] S. Williams et al., "Roofline," Commun. ACM 52(4), 2009. doi:10.1145/1498765.1498785
    """
    _check(flop, moved_byte, flop_s, byte_s, out_s)
    _check_rates(flop_s, byte_s)
    np.maximum(flop / flop_s, moved_byte / byte_s, out=out_s)


def linear_times_s(  # noqa: PLR0917 -- the kernel takes one buffer per quantity, in the order of the rates below
    flop_tok: Floats,
    half_tok: Floats,
    fixed_byte: Floats,
    tok_byte: Floats,
    miss_ratio: Floats,
    most_tok: Floats,
    flop_s: Floats,
    byte_s: Floats,
    link_tok_s: float,
    out_s: Floats,
) -> None:
    """Time of the token-dependent part of a step for 0, 1, 2 ... tokens.

    For n >= 1 tokens, m = min(n, most_tok) and the share of weights hit h = 1 - miss_ratio^n, an operator takes

    ``max(flop_tok (m + half_tok h) / flop_s, (fixed_byte h + tok_byte m) / byte_s)``

    and the step is the sum over operators plus ``link_tok_s n``. A step without tokens takes 0.

    Parameters
    ----------
    flop_tok, half_tok, fixed_byte, tok_byte, miss_ratio, most_tok, flop_s, byte_s : float64[ops]
        See ``operators.Operator``; rates are those reached. [flop/tok], [tok], [byte], [byte/tok], [-], [tok],
        [flop/s], [byte/s]
    link_tok_s : float
        Time on links per token. [s/tok]
    out_s : float64[tokens + 1]
        Written in place. [s]
    """
    _check(flop_tok, half_tok, fixed_byte, tok_byte, miss_ratio, most_tok, flop_s, byte_s)
    _check_rates(flop_s, byte_s)
    tok = np.arange(len(out_s), dtype=np.float64)
    out_s[:] = link_tok_s * tok
    for i in range(len(flop_tok)):
        hit = 1.0 - miss_ratio[i] ** tok
        within = np.minimum(tok, most_tok[i])
        compute_s = flop_tok[i] * (within + half_tok[i] * hit) / flop_s[i]
        memory_s = (fixed_byte[i] * hit + tok_byte[i] * within) / byte_s[i]
        out_s[1:] += np.maximum(compute_s, memory_s)[1:]


def step_times_s(
    linear_s: Floats,
    context_s_per_tok: float,
    prefill_s_per_tok2: float,
    fixed_s: float,
    tok: Floats,
    context_tok: Floats,
    work_tok2: Floats,
    out_s: Floats,
) -> None:
    """Time of each step: ``linear_s[tok] + a context_tok + b work_tok2 + c``.

    Parameters
    ----------
    linear_s : float64[most + 1]
        From :func:`linear_times_s`; read between two whole numbers of tokens by a straight line. [s]
    context_s_per_tok, prefill_s_per_tok2, fixed_s : float
        a, b and c. [s/tok], [s/tok^2], [s]
    tok, context_tok, work_tok2 : float64[n]
        Tokens of each step (0 to most), KV tokens its decodes see, pairs its prefills multiply. [tok], [tok], [tok^2]
    out_s : float64[n]
        Written in place. [s]
    """
    _check(tok, context_tok, work_tok2, out_s)
    top = len(linear_s) - 1
    for bad in tok[~((tok >= 0) & (tok <= top))][:1]:
        raise ValueError(f"a step holds 0 to {top} tokens, not {bad:g}")
    out_s[:] = np.interp(tok, np.arange(top + 1), linear_s) + fixed_s
    out_s += context_s_per_tok * context_tok + prefill_s_per_tok2 * work_tok2


def _check(*buffers: Floats) -> None:
    if len({len(buffer) for buffer in buffers}) > 1:
        raise ValueError("buffers must have one length")


def _check_rates(*rates: Floats) -> None:
    if not all((rate > 0).all() for rate in rates):
        raise ValueError("rates must be positive")
