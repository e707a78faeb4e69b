"""Requests: when they arrive and how long they are, as arrays, and the few moments a rating needs of them."""

import hashlib
import io
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from functools import cached_property
from typing import Any

import numpy as np
from numpy.typing import NDArray

from accelerator.errors import AcceleratorError
from accelerator.units import MINUTE_S


@dataclass(frozen=True)
class TokenMix:
    """The statistics of a workload that a steady-state rating uses.

    Parameters
    ----------
    name : str
        Name of the workload.
    input_tok, output_tok : float
        Mean prompt and answer of a request. [tok]
    context_tok : float
        Mean KV length that an output token sees: sum over requests and their outputs of (input + tokens before it),
        divided by all output tokens. [tok]
    input_p95_tok : float
        95th percentile of the prompt. [tok]
    prefill_work_tok2 : float
        Mean of input^2 / 2: pairs of tokens that causal prefill attention multiplies. [tok^2]
    requests : int
        Requests the statistics were taken over.
    rate_request_s : float
        Mean arrival rate. [1/s]
    iat_cv : float
        Coefficient of variation of inter-arrival times. [-]
    peak_to_mean_ratio : float
        Rate of the busiest minute over the mean rate; 1 if the workload is shorter than two minutes. [-]
    """

    name: str
    input_tok: float
    output_tok: float
    context_tok: float
    input_p95_tok: float
    prefill_work_tok2: float
    requests: int
    rate_request_s: float
    iat_cv: float
    peak_to_mean_ratio: float

    def as_dict(self) -> dict[str, Any]:
        """Return the fields as JSON-ready values."""
        return asdict(self)

    @classmethod
    def from_dict(cls, values: Mapping[str, Any]) -> "TokenMix":
        """Return the mix written by :meth:`as_dict`."""
        return cls(**values)


@dataclass(frozen=True, eq=False)
class Workload:
    """Requests in order of arrival. The arrays are read-only.

    Parameters
    ----------
    name : str
        For messages and tables; not part of the digest.
    arrival_s : float64[n]
        Not falling, >= 0. [s]
    input_tok, output_tok : int64[n]
        >= 0. [tok]
    prefix_hashes : tuple of tuple of int, or None
        Ids of the 512-token prefix blocks of each request, in order.
    client_id : int64[n] or None
        Tenant of each request.
    priority : int64[n] or None
        Requests with a smaller number go first.
    ignored_columns : tuple of str
        Columns of its file that are not read; not part of the digest.
    """

    name: str
    arrival_s: NDArray[np.float64]
    input_tok: NDArray[np.int64]
    output_tok: NDArray[np.int64]
    prefix_hashes: tuple[tuple[int, ...], ...] | None = None
    client_id: NDArray[np.int64] | None = None
    priority: NDArray[np.int64] | None = None
    ignored_columns: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        for array in (self.arrival_s, self.input_tok, self.output_tok, self.client_id, self.priority):
            if array is not None:
                array.flags.writeable = False
        for part in (self.input_tok, self.output_tok, self.prefix_hashes, self.client_id, self.priority):
            if part is not None and len(part) != len(self.arrival_s):
                raise AcceleratorError(f"workload {self.name}: columns of {len(self.arrival_s)} and {len(part)} rows")

    def __len__(self) -> int:
        return len(self.arrival_s)

    @cached_property
    def digest(self) -> str:
        """SHA-256 over the columns, whatever the name and the file they came in."""
        sha = hashlib.sha256(f"workload:{len(self)}".encode())
        for label, array in self._columns().items():
            sha.update(label.encode())
            sha.update(np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<")).tobytes())
        return sha.hexdigest()

    def token_mix(self) -> TokenMix:
        """Return the statistics a rating needs."""
        if not len(self):
            raise AcceleratorError(f"workload {self.name}: no requests")
        tok_in, tok_out = self.input_tok.astype(float), self.output_tok.astype(float)
        # The j-th output token (j from 0) sees the prompt and the j tokens before it.
        seen_tok = float(np.sum(tok_out * tok_in + tok_out * (tok_out - 1) / 2))
        outputs = float(tok_out.sum())
        gaps_s = np.diff(self.arrival_s)
        span_s = float(self.arrival_s[-1] - self.arrival_s[0])
        mean_gap_s = span_s / len(gaps_s) if len(gaps_s) else 0.0
        return TokenMix(
            name=self.name,
            input_tok=float(tok_in.mean()),
            output_tok=outputs / len(self),
            context_tok=seen_tok / outputs if outputs else float(tok_in.mean()),
            input_p95_tok=float(np.quantile(tok_in, 0.95)),
            prefill_work_tok2=float(np.mean(tok_in**2) / 2),
            requests=len(self),
            rate_request_s=1 / mean_gap_s if mean_gap_s else 0.0,
            iat_cv=float(gaps_s.std() / mean_gap_s) if mean_gap_s else 0.0,
            peak_to_mean_ratio=self._peak_to_mean_ratio(),
        )

    def _peak_to_mean_ratio(self) -> float:
        minutes = ((self.arrival_s - self.arrival_s[0]) // MINUTE_S).astype(np.int64)
        whole = int(minutes[-1])  # the last minute is cut short by the end of the workload
        if whole < 2:
            return 1.0
        counts = np.bincount(minutes[minutes < whole], minlength=whole)
        return float(counts.max() / counts.mean())

    def to_bytes(self) -> bytes:
        """Return the workload as an npz archive (no pickle); equal workloads give equal bytes."""
        buffer = io.BytesIO()
        np.savez_compressed(buffer, **self._columns())  # type: ignore[arg-type]
        return buffer.getvalue()

    @classmethod
    def from_bytes(cls, content: bytes, name: str) -> "Workload":
        """Return the workload written by :meth:`to_bytes`."""
        with np.load(io.BytesIO(content), allow_pickle=False) as archive:
            columns = {label: archive[label] for label in archive.files}
        prefixes = None
        if "prefix_ids" in columns:
            ends = columns["prefix_ends"].tolist()
            ids = columns["prefix_ids"].tolist()
            prefixes = tuple(tuple(ids[a:b]) for a, b in zip([0, *ends[:-1]], ends, strict=True))
        return cls(
            name=name,
            arrival_s=columns["arrival_s"],
            input_tok=columns["input_tok"],
            output_tok=columns["output_tok"],
            prefix_hashes=prefixes,
            client_id=columns.get("client_id"),
            priority=columns.get("priority"),
        )

    def _columns(self) -> dict[str, NDArray[Any]]:
        columns: dict[str, NDArray[Any]] = {
            "arrival_s": self.arrival_s,
            "input_tok": self.input_tok,
            "output_tok": self.output_tok,
        }
        if self.client_id is not None:
            columns["client_id"] = self.client_id
        if self.priority is not None:
            columns["priority"] = self.priority
        if self.prefix_hashes is not None:
            columns["prefix_ids"] = np.array([i for ids in self.prefix_hashes for i in ids], dtype=np.int64)
            columns["prefix_ends"] = np.cumsum([len(ids) for ids in self.prefix_hashes], dtype=np.int64)
        return columns
