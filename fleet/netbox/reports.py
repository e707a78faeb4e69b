"""What an import from NetBox has read, changed, left out, renamed, assumed, and could not carry."""

from collections import Counter
from dataclasses import asdict, dataclass, field
from typing import Any

from fleet.exchange import ImportFault, ImportReport
from fleet.exchange.reports import KEPT_MOST


@dataclass(frozen=True, slots=True)
class Place:
    """Where a thing of NetBox was read: a file with line, of JSON also the number in its array; or its address."""

    file: str
    line: int | None = None
    number: int = 0
    sheet: str | None = None

    def __str__(self) -> str:
        """Return it as errors begin."""
        file = self.file if self.sheet is None else f"{self.file}[{self.sheet}]"
        return file if self.line is None else f"{file}:{self.line}"

    def fault(self, entry: str, column: str | None, reason: str) -> ImportFault:
        """Return an error that lies here."""
        return ImportFault(entry, self.file, self.sheet, self.line, column, reason)


@dataclass(frozen=True, slots=True)
class Omission:
    """A thing that is not imported, and why; that is no error."""

    kind: str
    place: str
    name: str
    reason: str


@dataclass(frozen=True, slots=True)
class Rename:
    """A thing whose slug is not just its name."""

    kind: str
    place: str
    name: str
    slug: str


@dataclass(slots=True)
class NetBoxReport:
    """What an import from NetBox has found.

    `imported` tells what becomes of our own rows. `read`, `omitted_counts` are by list; `not_carried` counts things by
    list and field (`devices.primary_ip4`); `assumed` counts what NetBox does not say. Of omissions and renames the
    first are kept.
    """

    imported: ImportReport
    read: Counter[str] = field(default_factory=Counter)
    not_carried: Counter[str] = field(default_factory=Counter)
    assumed: Counter[str] = field(default_factory=Counter)
    omitted_counts: Counter[str] = field(default_factory=Counter)
    omitted: list[Omission] = field(default_factory=list)
    renames_total: int = 0
    renames: list[Rename] = field(default_factory=list)

    def omission_add(self, kind: str, place: Place, name: str, reason: str) -> None:
        """Count a thing that is left out, and keep it while there is room."""
        self.omitted_counts[kind] += 1
        if len(self.omitted) < KEPT_MOST:
            self.omitted.append(Omission(kind, str(place), name, reason))

    def rename_add(self, kind: str, place: Place, name: str, slug: str) -> None:
        """Count a new name, and keep it while there is room."""
        self.renames_total += 1
        if len(self.renames) < KEPT_MOST:
            self.renames.append(Rename(kind, str(place), name, slug))

    def as_dict(self) -> dict[str, Any]:
        """Return it as JSON holds it: the report of an import, and what NetBox adds."""
        counts = ("read", "not_carried", "assumed", "omitted_counts")
        return self.imported.as_dict() | {
            **{name: dict(sorted(getattr(self, name).items())) for name in counts},
            "omitted": [asdict(one) for one in self.omitted],
            "renames_total": self.renames_total,
            "renames": [asdict(one) for one in self.renames],
        }
