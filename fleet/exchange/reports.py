"""What an import has found and done: counts, the first changes with their values before and after, and every error."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

KEPT_MOST = 1_000
"""Errors and changes that a report holds; all of them are counted."""


@dataclass(frozen=True, slots=True)
class ImportFault:
    """Something in a file that cannot be used: where, and why. None where a place does not apply."""

    entry: str
    file: str
    sheet: str | None
    line: int | None
    column: str | None
    reason: str

    def __str__(self) -> str:
        """Return it as a line for people and editors: `hosts.csv:7:rack: there is no rack "dc01-a9"`."""
        file = self.file if self.sheet is None else f"{self.file}[{self.sheet}]"
        place = ":".join([file, *(str(part) for part in (self.line, self.column) if part is not None)])
        return f"{place}: {self.reason}"


@dataclass(frozen=True, slots=True)
class ImportChange:
    """One row that the import makes or edits; of an edit, only the values that differ."""

    entry: str
    line: int
    key: str
    before: Mapping[str, Any] | None
    after: Mapping[str, Any]


@dataclass(slots=True)
class Counts:
    """Rows of one table: those to be made, to be edited, that are already so, and that cannot be used."""

    created: int = 0
    updated: int = 0
    unchanged: int = 0
    refused: int = 0


@dataclass(slots=True)
class ImportReport:
    """What an import has found, and whether it has written it.

    `counts` are by entry. `errors` are the first of `errors_total`, `changes` the first of all rows made or edited.
    Every change set that it has written carries `request_id`. `steps_sha256` is a digest over all rows to be made or
    edited, as they stand and as they will be.
    """

    file: str
    dry_run: bool
    counts: dict[str, Counts] = field(default_factory=dict)
    changes: list[ImportChange] = field(default_factory=list)
    errors: list[ImportFault] = field(default_factory=list)
    errors_total: int = 0
    written: bool = False
    request_id: str = ""
    steps_sha256: str = ""

    @property
    def sound(self) -> bool:
        """Whether there was no error."""
        return not self.errors_total

    def fault_add(self, fault: ImportFault) -> None:
        """Count an error, and keep it while there is room."""
        self.errors_total += 1
        if len(self.errors) < KEPT_MOST:
            self.errors.append(fault)

    def faults_sort(self) -> None:
        """Put the errors in the order of the file: cells are looked at before rows, and rows before all of them."""
        order = {name: at for at, name in enumerate(self.counts)}
        self.errors.sort(key=lambda fault: (order.get(fault.entry, -1), fault.line or 0))

    def change_add(self, change: ImportChange) -> None:
        """Keep a change while there is room."""
        if len(self.changes) < KEPT_MOST:
            self.changes.append(change)

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it."""
        return asdict(self)
