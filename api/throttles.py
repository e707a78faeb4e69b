"""How often one may ask: fixed windows per user and bucket, counted in the cache. Without a cache all may pass."""

import logging
import time
from dataclasses import dataclass
from typing import Any

import redis
from django.core.cache import cache
from rest_framework import exceptions
from rest_framework.request import Request
from rest_framework.settings import api_settings
from rest_framework.throttling import BaseThrottle

logger = logging.getLogger(__name__)

WINDOW_S = {"s": 1, "m": 60, "h": 3600, "d": 86_400}


@dataclass(frozen=True, slots=True)
class Allowance:
    """What is left of a bucket: the limit of a window, what remains of it, and when it is full again [s]."""

    limit: int
    remaining: int
    reset_s: int
    refused: bool

    def headers(self) -> dict[str, str]:
        """Return it as RateLimit headers."""
        values = {"Limit": self.limit, "Remaining": self.remaining, "Reset": self.reset_s}
        return {f"RateLimit-{name}": str(value) for name, value in values.items()}


def allowance_take(bucket: str, who: str, *, cost: int = 1) -> Allowance | None:
    """Count a request and return what is left; None if nothing counts: no rate is set, or the cache is down."""
    rate = api_settings.DEFAULT_THROTTLE_RATES.get(bucket)
    if not rate:
        return None
    count, _, period = str(rate).partition("/")
    limit, window_s = int(count), WINDOW_S[period[0]]
    now_s = time.time()
    window = int(now_s // window_s)
    key = f"rate:{bucket}:{who}:{window}"
    try:
        cache.add(key, 0, timeout=window_s + 1)
        used = cache.incr(key, cost)
    except (redis.RedisError, OSError, ValueError) as error:  # ValueError: it expired between add and incr
        logger.warning("requests are not counted, the cache does not answer: %s", error)
        return None
    reset_s = int((window + 1) * window_s - now_s) + 1
    return Allowance(limit, max(0, limit - used), reset_s, used > limit)


class BucketThrottle(BaseThrottle):
    """Counts a request in the bucket that its view names; the view shows the allowance in its headers."""

    def __init__(self) -> None:
        self._allowance: Allowance | None = None

    def allow_request(self, request: Request, view: Any) -> bool:
        """Say whether the request is within the rate."""
        who = f"user-{request.user.pk}" if request.user.is_authenticated else self.get_ident(request)
        self._allowance = view.allowance = allowance_take(view.bucket(), who)
        return self._allowance is None or not self._allowance.refused

    def wait(self) -> float | None:
        """Return the seconds until the next window."""
        return float(self._allowance.reset_s) if self._allowance else None


def attempt_refuse(request: Request, *, failed: bool = False) -> None:
    """Count a failed sign-in of an address, and refuse with 429 once there were too many."""
    left = allowance_take("login", BaseThrottle().get_ident(request) or "unknown", cost=1 if failed else 0)
    if left is not None and (left.refused or (not failed and left.remaining == 0)):
        raise exceptions.Throttled(wait=left.reset_s)
