"""All operator families, and kernel files read into rows of the family that their columns name."""

import csv
import gzip
import io
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

import numpy as np

from accelerator import kernels
from accelerator.attention import ATTENTION_DECODE, ATTENTION_PREFILL
from accelerator.collectives import COLLECTIVES
from accelerator.errors import AcceleratorError, TraceError
from accelerator.experts import EXPERTS
from accelerator.family import Chips, Family
from accelerator.gemm import GEMM
from accelerator.latent import LATENT_DECODE, LATENT_PREFILL
from accelerator.pooling import Floats, Rows

FAMILIES: Mapping[str, Family] = MappingProxyType({
    family.name: family
    for family in (GEMM, ATTENTION_PREFILL, ATTENTION_DECODE, LATENT_PREFILL, LATENT_DECODE, EXPERTS, COLLECTIVES)
})  # fmt: skip
"""The fitted families by name."""

KERNEL_FILE_MAX_BYTE = 256 * 2**20
"""Largest kernel file read, unpacked. [byte]"""


@dataclass(frozen=True)
class KernelFile:
    """A kernel file, read.

    Parameters
    ----------
    family : Family
        Of the operation that its columns describe.
    count : int
        Rows of the file.
    at : int64[n]
        0-based row of each usable one.
    rows : Rows
        The usable rows; latency NaN where the file has none.
    groups : tuple of str
        Shape group of each usable row.
    reasons : Mapping of int to str
        Why the other rows cannot be used.
    """

    family: Family
    count: int
    at: np.ndarray
    rows: Rows
    groups: tuple[str, ...]
    reasons: Mapping[int, str]


def family_recognise(path: str, columns: Sequence[str]) -> Family:
    """Return the family whose columns a file has; TraceError names what is missing if there is none."""
    for family in FAMILIES.values():
        if family.columns <= set(columns):
            return family
    known = "; ".join(f"{family.name}: {', '.join(sorted(family.columns))}" for family in FAMILIES.values())
    raise TraceError(path, 1, None, f"no operation has the columns {', '.join(columns)} (known are {known})")


def kernel_file_read(path: Path, chips: Chips = None) -> KernelFile:
    """Read a kernel file, plain or gzipped; ``chips`` are those that it may name, the built-in ones if left out.

    Raises
    ------
    TraceError
        If the file cannot be read as a table of a known operation. A single bad row is a reason, not an error.
    """
    name = str(path)
    try:
        packed = path.read_bytes()
        stream = gzip.GzipFile(fileobj=io.BytesIO(packed)) if packed[:2] == b"\x1f\x8b" else io.BytesIO(packed)
        raw = stream.read(KERNEL_FILE_MAX_BYTE + 1)
        if len(raw) > KERNEL_FILE_MAX_BYTE:
            raise TraceError(name, None, None, f"is larger than {KERNEL_FILE_MAX_BYTE / 2**20:.0f} MiB")
        text = raw.decode("utf-8-sig")
    except (OSError, EOFError, UnicodeDecodeError, zlib.error) as error:
        raise TraceError(name, None, None, f"cannot be read: {error}") from error
    reader = csv.DictReader(io.StringIO(text), restval="")
    family = family_recognise(name, reader.fieldnames or ())
    at, parsed, latencies_s, reasons, count = [], [], [], {}, 0
    try:
        for index, row in enumerate(reader):
            count += 1
            try:
                parsed.append(family.row_parse(row, chips))
            except AcceleratorError as error:
                reasons[index] = str(error)
                continue
            at.append(index)
            latencies_s.append(_latency_s(row.get("latency_ms")))
    except csv.Error as error:
        raise TraceError(name, reader.line_num, None, str(error)) from error
    members = np.array([row.members for row in parsed], dtype=object).reshape(len(parsed), len(family.levels))
    return KernelFile(
        family=family,
        count=count,
        at=np.array(at, dtype=np.int64),
        rows=Rows(
            shape=np.array([row.shape for row in parsed], dtype=np.float64).reshape(len(parsed), len(family.shape)),
            members=tuple(members.T),
            latency_s=np.array(latencies_s, dtype=np.float64),
        ),
        groups=tuple(row.group for row in parsed),
        reasons=reasons,
    )


def times_s(family: Family, shape: Floats, parameters: Floats) -> Floats:
    """Return the time of each row by the family's formula.

    Parameters
    ----------
    shape : float64[n, len(family.shape)]
        Shapes.
    parameters : float64[P, n]
        Parameters of each row, in their units.
    """
    out = np.empty((len(shape), 3))
    kernels.roofline.family_times_s(family.code, np.ascontiguousarray(shape), np.ascontiguousarray(parameters.T), out)
    return out[:, 0]


def _latency_s(text: str | None) -> float:
    try:
        value = float(text or "nan") / 1e3
    except ValueError:
        return float("nan")
    return value if value > 0 else float("nan")
