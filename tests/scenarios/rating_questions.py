"""Pairs that are rated in hundredths of a second, for tests of stored ratings."""

from scenarios.rating_store import rating_question

LIMITS = {"mix": "m-small", "ttft_p95_s": 5.0, "tpot_p95_s": 0.1}
FAST = {"chip": "h20-96", "model": "qwen3-0.6b", **LIMITS}
OTHER = {"chip": "l4", "model": "qwen3-0.6b", **LIMITS}
REFUSED = {"chip": "a10", "model": "deepseek-r1", **LIMITS}


def question(**values):
    return rating_question(**{**FAST, **values})
