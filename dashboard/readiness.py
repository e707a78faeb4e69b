"""The grid of readiness: which gates the software of a model family has passed on a chip, and what blocks the rest."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from accelerator import chip_get
from dashboard.links import list_url, row_url
from dashboard.presenters import side_text
from fleet.models import Gate
from scenarios.tables import Column, Table

GATES: Mapping[str, str] = {value: str(label).partition(" ")[2] for value, label in Gate.Number.choices}
STATES: Mapping[str, str] = {value: str(label) for value, label in Gate.State.choices}
MARKS = {Gate.State.PASSED: "ok", Gate.State.PARTLY: "near", Gate.State.FAILED: "over", Gate.State.OPEN: "none"}
COLUMNS = (
    Column("family", "Model family"),
    Column("chip", "Chip"),
    Column("gate", "Gate"),
    Column("about", "What it asks"),
    Column("state", "State"),
    Column("evidence", "Evidence"),
    Column("owner", "Owner"),
    Column("decided_on", "Decided on"),
    Column("signed_by", "Signed by"),
    Column("expected_on", "Expected on"),
)


@dataclass(frozen=True, slots=True)
class GateCell:
    """One gate of a pair: its state in a word, and what stands behind it; without a row nobody has looked."""

    gate: str
    state: str
    mark: str
    said: str = ""
    url: str = ""


@dataclass(frozen=True, slots=True)
class PairRow:
    """A model family on a chip: its gates in order, how many are passed, and the list of them."""

    family: str
    chip: str
    side: str
    cells: list[GateCell]
    passed: int
    url: str

    @property
    def is_ready(self) -> bool:
        """Whether every gate is passed."""
        return self.passed == len(GATES)


@dataclass(frozen=True, slots=True)
class GateTotal:
    """One gate over all pairs: how many stand in each state, those without a row among those not tested."""

    gate: str
    about: str
    counts: list[tuple[str, int]]
    blocked: int
    url: str


@dataclass(frozen=True, slots=True)
class Grid:
    """The pairs, the totals of their gates, and a sentence that says what blocks most."""

    pairs: list[PairRow]
    totals: list[GateTotal]
    sentence: str
    table: Table


def grid_of(gates: Iterable[Gate]) -> Grid:
    """Return the grid of some gates, pairs in the order of family and chip."""
    found: dict[tuple[str, str], dict[str, Gate]] = {}
    for gate in gates:
        found.setdefault((gate.family, gate.chip), {})[gate.gate] = gate
    pairs = [_pair(*pair, rows) for pair, rows in sorted(found.items())]
    totals = [_total(at, name, pairs) for at, name in enumerate(GATES)]
    return Grid(pairs, totals, _sentence(pairs, totals), _table(found))


def _pair(family: str, chip: str, rows: Mapping[str, Gate]) -> PairRow:
    return PairRow(
        family=family,
        chip=chip,
        side=side_text(homegrown=chip_get(chip).homegrown),
        cells=[_cell(name, rows.get(name)) for name in GATES],
        passed=sum(row.state == Gate.State.PASSED for row in rows.values()),
        url=list_url("gates", family=family, chip=chip),
    )


def _cell(name: str, gate: Gate | None) -> GateCell:
    if gate is None:
        return GateCell(name, "not recorded", MARKS[Gate.State.OPEN])
    said = [
        gate.evidence,
        f"decided on {gate.decided_on}" if gate.decided_on else "",
        f"signed by {gate.signed_by}" if gate.signed_by else "",
        f"expected on {gate.expected_on}" if gate.expected_on and gate.state != Gate.State.PASSED else "",
        f"owner {gate.owner}" if gate.owner else "",
    ]
    state = Gate.State(gate.state)
    return GateCell(name, STATES[state], MARKS[state], "; ".join(filter(None, said)), row_url("gates", gate.pk))


def _total(at: int, name: str, pairs: Sequence[PairRow]) -> GateTotal:
    words = [pair.cells[at].state for pair in pairs]
    counts = [(word, words.count(word)) for word in (*STATES.values(), "not recorded")]
    return GateTotal(name, GATES[name], counts, len(pairs) - counts[0][1], list_url("gates", gate=name))


def _sentence(pairs: Sequence[PairRow], totals: Sequence[GateTotal]) -> str:
    ready = sum(pair.is_ready for pair in pairs)
    said = f"{ready} of {len(pairs)} pairs of model family and chip have passed all {len(GATES)} gates"
    worst = max(totals, key=lambda total: total.blocked)
    if not worst.blocked:
        return f"{said}."
    return f"{said}; {worst.gate} ({worst.about}) blocks most: {worst.blocked} have not passed it."


def _table(found: Mapping[tuple[str, str], Mapping[str, Gate]]) -> Table:
    rows = [
        _table_row(family, chip, name, gates.get(name))
        for (family, chip), gates in sorted(found.items())
        for name in GATES
    ]
    return Table("gates", "Gates of model families on chips", COLUMNS, rows)


def _table_row(family: str, chip: str, name: str, gate: Gate | None) -> dict[str, Any]:
    row: dict[str, Any] = {"family": family, "chip": chip, "gate": name, "about": GATES[name], "state": "not recorded"}
    if gate is not None:
        names = ("evidence", "owner", "decided_on", "signed_by", "expected_on")
        row |= {"state": STATES[gate.state], **{one: getattr(gate, one) for one in names}}
    return row
