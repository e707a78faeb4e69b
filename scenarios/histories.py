"""The demand of a service as it was measured: request rates in equal windows, and what is known of the requests."""

import hashlib
import io
import math
import zipfile
from dataclasses import dataclass, fields, replace
from datetime import UTC, datetime
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

FloatArray = NDArray[np.float64]

HOUR_S = 3_600
WINDOW_LEAST_S = 60
EPOCH_LEAST_S, EPOCH_MOST_S = 946_684_800, 4_102_444_800  # 2000-01-01, 2100-01-01
WINDOWS_MOST = 300_000
"""Five years and more in windows of ten minutes."""
COLUMNS = ("request_s", "input_tok", "output_tok", "top_client_ratio", "cache_hit_ratio")


class HistoryError(ValueError):
    """Windows that make no history."""


@dataclass(frozen=True, eq=False)
class History:
    """Equal windows one after the other; NaN is what nobody knows.

    Attributes
    ----------
    start_s : int
        Unix time at which the first window begins, a whole number of windows. [s]
    window_s : int
        Length of a window; whole windows make an hour. [s]
    request_s : float64[N]
        Requests per second. [1/s]
    input_tok, output_tok : float64[N] or None
        Mean prompt and answer of the window's requests. [tok]
    top_client_ratio : float64[N] or None
        Share of the biggest client in its requests. [-]
    cache_hit_ratio : float64[N] or None
        Share of prompt tokens found in a prefix cache. [-]
    """

    start_s: int
    window_s: int
    request_s: FloatArray
    input_tok: FloatArray | None = None
    output_tok: FloatArray | None = None
    top_client_ratio: FloatArray | None = None
    cache_hit_ratio: FloatArray | None = None

    def __post_init__(self) -> None:
        check_window(self.window_s)
        if self.start_s % self.window_s:
            raise HistoryError(f"the first window does not begin at a whole number of windows of {self.window_s} s")
        if not EPOCH_LEAST_S <= self.start_s <= EPOCH_MOST_S:
            raise HistoryError("the first window does not begin between 2000 and 2100")
        if not 1 <= len(self.request_s) <= WINDOWS_MOST:
            raise HistoryError(f"{len(self.request_s):,} windows: 1 to {WINDOWS_MOST:,} are kept")
        if not np.nansum(self.request_s) > 0:
            raise HistoryError("no window has a request")

    @property
    def time_s(self) -> FloatArray:
        """Unix time at which each window begins, float64[N]. [s]"""
        return self.start_s + self.window_s * np.arange(len(self.request_s), dtype=np.float64)

    @property
    def end_s(self) -> int:
        """Unix time at which the last window ends. [s]"""
        return self.start_s + self.window_s * len(self.request_s)

    @property
    def known(self) -> int:
        """Windows whose rate is known."""
        return int(np.count_nonzero(~np.isnan(self.request_s)))

    @cached_property
    def log_rate(self) -> FloatArray:
        """Logarithm of the rate; a window without requests counts as half of one. [log 1/s]"""
        return np.log(np.maximum(self.request_s, 0.5 / self.window_s))

    @cached_property
    def digest(self) -> str:
        """SHA-256 over start, window and every array."""
        total = hashlib.sha256(f"{self.start_s} {self.window_s}".encode())
        for name in COLUMNS:
            values = getattr(self, name)
            total.update(name.encode() + (b"" if values is None else np.ascontiguousarray(values).tobytes()))
        return total.hexdigest()

    def mean_of(self, name: str) -> float | None:
        """Return the mean of a column over requests; of cache hits over prompt tokens, where these are known."""
        values = getattr(self, name)
        if values is None:
            return None
        weight = self.request_s * (self.input_tok if name == "cache_hit_ratio" and self.input_tok is not None else 1.0)
        known = ~np.isnan(values) & ~np.isnan(weight) & (weight > 0)
        return float(np.average(values[known], weights=weight[known])) if known.any() else None

    def last(self, span_s: int) -> "History":
        """Return its last windows only."""
        count = max(1, span_s // self.window_s)
        if count >= len(self.request_s):
            return self
        cut: dict[str, Any] = {
            name: None if getattr(self, name) is None else getattr(self, name)[-count:] for name in COLUMNS
        }
        return replace(self, start_s=self.end_s - count * self.window_s, **cut)

    def hourly(self) -> "History":
        """Return the mean rate of whole hours."""
        return self.coarser(HOUR_S)

    def coarser(self, window_s: int) -> "History":
        """Return the mean rate alone in windows that are a multiple; one is known if half of what it is made of is."""
        if self.window_s == window_s:
            return History(self.start_s, window_s, self.request_s)
        count = window_s // self.window_s
        before = self.start_s % window_s // self.window_s
        after = -(before + len(self.request_s)) % count
        padded = np.concatenate([np.full(before, np.nan), self.request_s, np.full(after, np.nan)])
        parts = padded.reshape(-1, count)
        known = (~np.isnan(parts)).sum(axis=1)
        sums = np.nansum(parts, axis=1)
        means = np.where(known >= count / 2, sums / np.maximum(known, 1), np.nan)
        if not np.nansum(means) > 0:
            means = np.where(known > 0, sums / np.maximum(known, 1), np.nan)  # a thin history: better than none
        return History(self.start_s - before * self.window_s, window_s, means)

    def joined(self, later: "History") -> "History":
        """Return this history with the windows of another of the same length, which replace those of the same time."""
        if later.window_s != self.window_s:
            raise HistoryError(f"windows of {later.window_s} s do not go on with windows of {self.window_s} s")
        start_s, end_s = min(self.start_s, later.start_s), max(self.end_s, later.end_s)
        count = (end_s - start_s) // self.window_s
        if count > WINDOWS_MOST:
            raise HistoryError(f"{count:,} windows from the first to the last: at most {WINDOWS_MOST:,} are kept")
        arrays = {}
        for name in COLUMNS:
            parts = [(one, getattr(one, name)) for one in (self, later)]
            if all(values is None for _, values in parts):
                continue
            arrays[name] = np.full(count, np.nan)
            for one, values in parts:
                at = (one.start_s - start_s) // self.window_s
                known = ~np.isnan(one.request_s)
                arrays[name][at : at + len(known)][known] = np.nan if values is None else values[known]
        return History(start_s, self.window_s, **arrays)

    def csv(self) -> str:
        """Return its known windows as a table that `history_read` takes; a value that nobody knows is empty."""
        names = [name for name in COLUMNS if getattr(self, name) is not None]
        lines = [",".join(["window_start", *names])]
        for at in np.flatnonzero(~np.isnan(self.request_s)).tolist():
            start = datetime.fromtimestamp(self.start_s + at * self.window_s, UTC)
            values = [float(getattr(self, name)[at]) for name in names]
            cells = ["" if math.isnan(value) else repr(value) for value in values]
            lines.append(",".join([f"{start:%Y-%m-%dT%H:%M:%SZ}", *cells]))
        return "\r\n".join([*lines, ""])

    def to_bytes(self) -> bytes:
        """Return its arrays in numpy's zip format."""
        stream = io.BytesIO()
        arrays = {name: getattr(self, name) for name in COLUMNS if getattr(self, name) is not None}
        np.savez_compressed(stream, start_s=self.start_s, window_s=self.window_s, **arrays)
        return stream.getvalue()

    @classmethod
    def from_bytes(cls, data: bytes) -> "History":
        """Return what `to_bytes` made."""
        try:
            with np.load(io.BytesIO(data), allow_pickle=False) as kept:
                values: dict[str, Any] = {field.name: kept[field.name] for field in fields(cls) if field.name in kept}
        except (zipfile.BadZipFile, ValueError, OSError) as error:
            raise HistoryError(f"not a stored history: {error}") from error
        return cls(**{**values, "start_s": int(values["start_s"]), "window_s": int(values["window_s"])})


def check_window(window_s: int) -> None:
    """Refuse a window of which an hour is not made."""
    if window_s < WINDOW_LEAST_S or HOUR_S % window_s:
        raise HistoryError(f"windows of {window_s} s: {WINDOW_LEAST_S} to {HOUR_S} s that make a whole hour are read")


def history_of_windows(start_s: "NDArray[np.int64]", columns: dict[str, FloatArray], window_s: int) -> History:
    """Return windows in any order, some missing, as a history; their starts are whole numbers of windows apart. [s]"""
    first = int(start_s.min())
    place = (start_s - first) // window_s
    count = int(place.max()) + 1
    if count > WINDOWS_MOST:
        raise HistoryError(f"{count:,} windows from the first to the last: at most {WINDOWS_MOST:,} are kept")
    arrays = {}
    for name, values in columns.items():
        arrays[name] = np.full(count, np.nan)
        arrays[name][place] = values
    return History(first, window_s, **arrays)


def history_of_arrivals(
    arrival_s: FloatArray, input_tok: FloatArray, output_tok: FloatArray, *, start_s: int, window_s: int
) -> History:
    """Return recorded requests, counted in windows; the last window, which may not be whole, is left out.

    Parameters
    ----------
    arrival_s : float64[R]
        Arrivals after `start_s`. [s]
    input_tok, output_tok : float64[R]
        Lengths of each request. [tok]
    start_s : int
        Unix time of the first window. [s]
    window_s : int
        Length of a window. [s]
    """
    check_window(window_s)
    place = (arrival_s // window_s).astype(np.int64)
    count = int(place[-1]) if len(place) else 0
    if not count:
        raise HistoryError(f"the requests do not fill one window of {window_s} s")
    inside = place < count
    requests = np.bincount(place[inside], minlength=count)
    with np.errstate(invalid="ignore"):
        means = [np.bincount(place[inside], tok[inside], minlength=count) / requests for tok in (input_tok, output_tok)]
    return History(start_s, window_s, requests / window_s, *means)
