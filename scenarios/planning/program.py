"""A linear program in the making: columns, rows and numbers by blocks; a row knows the requirement it stands for."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.sparse import coo_array, csc_array

IntArray = NDArray[np.int64]
FloatArray = NDArray[np.float64]
BoolArray = NDArray[np.bool_]

INFINITE = float("inf")


@dataclass(frozen=True, slots=True)
class Requirement:
    """What a row stands for: a kind of requirement and what it is about. A planner can be told to drop it."""

    kind: str
    subject: str


class Program:
    """Columns and rows. `whole` columns take whole numbers; a row keeps lower <= row x <= upper."""

    def __init__(self) -> None:
        self._lower: list[FloatArray] = []
        self._upper: list[FloatArray] = []
        self._cost: list[FloatArray] = []
        self._whole: list[BoolArray] = []
        self._row_lower: list[FloatArray] = []
        self._row_upper: list[FloatArray] = []
        self._row_of: list[IntArray] = []
        self._triples: list[tuple[IntArray, IntArray, FloatArray]] = []
        self.requirements: list[Requirement] = []
        self._known: dict[Requirement, int] = {}
        self.columns_total = self.rows_total = 0
        self.constant = 0.0

    def columns(
        self, count: int, *, lower: ArrayLike = 0.0, upper: ArrayLike = INFINITE, whole: bool = False
    ) -> IntArray:
        """Add columns; return their positions, int64[count]."""
        at = np.arange(self.columns_total, self.columns_total + count)
        self.columns_total += count
        self._lower.append(_spread(lower, count))
        self._upper.append(_spread(upper, count))
        self._whole.append(np.full(count, whole))
        return at

    def rows(
        self, requirement: Requirement, count: int, *, lower: ArrayLike = -INFINITE, upper: ArrayLike = INFINITE
    ) -> IntArray:
        """Add rows that stand for one requirement; return their positions, int64[count]."""
        at = np.arange(self.rows_total, self.rows_total + count)
        self.rows_total += count
        number = self._known.setdefault(requirement, len(self.requirements))
        if number == len(self.requirements):
            self.requirements.append(requirement)
        self._row_lower.append(_spread(lower, count))
        self._row_upper.append(_spread(upper, count))
        self._row_of.append(np.full(count, number))
        return at

    def put(self, rows: ArrayLike, columns: ArrayLike, values: ArrayLike) -> None:
        """Add numbers at rows and columns; numbers put at the same place add up."""
        row, column, value = np.broadcast_arrays(
            np.asarray(rows, dtype=np.int64),
            np.asarray(columns, dtype=np.int64),
            np.asarray(values, dtype=np.float64),
        )
        self._triples.append((row.ravel(), column.ravel(), value.ravel()))

    def done(self) -> "Frozen":
        """Return the program as arrays."""
        rows, columns, values = (
            np.concatenate([triple[part] for triple in self._triples] or [np.zeros(0)]) for part in range(3)
        )
        matrix = coo_array(
            (values, (rows.astype(np.int64), columns.astype(np.int64))), shape=(self.rows_total, self.columns_total)
        ).tocsc()
        matrix.sum_duplicates()
        matrix.eliminate_zeros()
        return Frozen(
            matrix=matrix,
            lower=np.concatenate([np.zeros(0), *self._lower]),
            upper=np.concatenate([np.zeros(0), *self._upper]),
            whole=np.concatenate([np.zeros(0, dtype=bool), *self._whole]),
            row_lower=np.concatenate([np.zeros(0), *self._row_lower]),
            row_upper=np.concatenate([np.zeros(0), *self._row_upper]),
            row_requirement=np.concatenate([np.zeros(0, dtype=np.int64), *self._row_of]),
            requirements=tuple(self.requirements),
        )


@dataclass(frozen=True, eq=False)
class Frozen:
    """A program as arrays: C columns, R rows. Costs are given to the solver apart: one program has several."""

    matrix: csc_array
    lower: FloatArray
    upper: FloatArray
    whole: BoolArray
    row_lower: FloatArray
    row_upper: FloatArray
    row_requirement: IntArray
    requirements: tuple[Requirement, ...]


def _spread(value: ArrayLike, count: int) -> FloatArray:
    return np.broadcast_to(np.asarray(value, dtype=np.float64), (count,))
