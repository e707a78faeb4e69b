"""The page of ratings: which pairs are shown, as tables, and the chart of the fastest."""

import shlex
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlencode

from accelerator import chip_get, chips_load, models_load
from dashboard.chart_parts import Chart
from dashboard.charts import ratings_chart
from dashboard.presenters import side_text
from scenarios.calibrations import calibration_current
from scenarios.models import StoredRating
from scenarios.rating_store import (
    MIX,
    PERCENTILE,
    TPOT_P95_S,
    TTFT_P95_S,
    VERSIONS,
    RatingQuestion,
    exchange_rows,
    rating_question,
    ratings_lookup,
)
from scenarios.tables import Column, Table

FIRST_MODEL, FIRST_FROM = "deepseek-r1", "h20-96"
CHART_ROWS = 20
QUANTILES = ("p10", "p50", "p90")
PHASES = ("prefill", "decode", "service")


@dataclass(frozen=True, slots=True)
class RatingChoice:
    """What the page shows: a model on every chip, every model on a chip, or one pair; all of it is in its address.

    `start` is the chip whose hosts are exchanged.
    """

    model: str
    chip: str
    mix: str
    ttft_p95_s: float
    tpot_p95_s: float
    start: str

    @property
    def query(self) -> str:
        """Return it as the query of an address."""
        return urlencode(self.as_dict())

    def as_dict(self) -> dict[str, Any]:
        """Return it by the names of its fields in an address."""
        return {
            "model": self.model,
            "chip": self.chip,
            "mix": self.mix,
            "ttft_p95_s": f"{self.ttft_p95_s:g}",
            "tpot_p95_s": f"{self.tpot_p95_s:g}",
            "from": self.start,
        }

    @property
    def command(self) -> str:
        """Return the command that rates what is shown."""
        limits = ["--ttft-p95-s", f"{self.ttft_p95_s:g}", "--tpot-p95-s", f"{self.tpot_p95_s:g}"]
        only = [word for name in ("model", "chip") if (value := getattr(self, name)) for word in (f"--{name}", value)]
        return shlex.join(["python", "manage.py", "rate_catalog", *only, "--mix", self.mix, *limits, "--wait"])

    def questions(self) -> list[RatingQuestion]:
        """Return the pairs that are shown, each on the chip's usual host."""
        limits: dict[str, Any] = {"mix": self.mix, "ttft_p95_s": self.ttft_p95_s, "tpot_p95_s": self.tpot_p95_s}
        used = calibration_current()
        return [
            rating_question(chip=chip, model=model, calibration=used, **limits)
            for model in ([self.model] if self.model else models_load())
            for chip in ([self.chip] if self.chip else chips_load())
        ]

    def start_question(self) -> RatingQuestion:
        """Return the pair that others are compared with."""
        return rating_question(
            chip=self.start, model=self.model, mix=self.mix, ttft_p95_s=self.ttft_p95_s, tpot_p95_s=self.tpot_p95_s
        )


def choice_defaults() -> dict[str, Any]:
    """Return what is shown where the address says nothing: what was rated last, so that there is something to see.

    Ratings of recorded workloads, or at another percentile, are what planners have ordered: they are not shown here.
    """
    usual = StoredRating.objects.filter(trace_digest="", percentile=PERCENTILE)
    last = usual.defer("payload", "refusal").first()
    if last is None:
        values: dict[str, Any] = {"model": FIRST_MODEL, "mix": MIX, "ttft_p95_s": TTFT_P95_S, "tpot_p95_s": TPOT_P95_S}
    else:
        values = {name: getattr(last, name) for name in ("model", "mix", "ttft_p95_s", "tpot_p95_s")}
    return {**values, "chip": "", "from": FIRST_FROM}


@dataclass(frozen=True, slots=True)
class RatingsPage:
    """What is stored for a choice: tables, the chart, and how many pairs are not rated yet."""

    choice: RatingChoice
    pairs: int
    rated: int
    refused: int
    tables: tuple[Table, ...]
    chart: Chart | None
    start_is_missing: bool

    @property
    def missing(self) -> int:
        """Pairs that are not stored. [-]"""
        return self.pairs - self.rated - self.refused

    @property
    def tables_all(self) -> list[Table]:
        """Return every table with its twin of the chart, as they are exported."""
        return [*self.tables, *([self.chart.table] if self.chart else [])]

    def export(self, table: Table) -> dict[str, Any]:
        """Return a table as JSON values, with what it is about."""
        columns = [{"name": c.name, "label": c.label, "unit": c.unit} for c in table.columns]
        rows = [{c.name: row.get(c.name) for c in table.columns} for row in table.rows]
        return {"title": table.caption, "columns": columns, "rows": rows, **self.choice.as_dict(), **VERSIONS}


def ratings_page(choice: RatingChoice) -> RatingsPage:
    """Look up what is stored for a choice today: nothing is computed, and nothing old is shown."""
    questions = choice.questions()
    start = choice.start_question() if choice.model else None
    found = ratings_lookup([*questions, *([start] if start else [])])
    rows = [row for question in questions if (row := found.get(question.digest))]
    rows.sort(key=lambda row: (-row.tok_s_per_chip, row.chip, row.model))
    one = found.get(start.digest) if start else None
    rated = [row for row in rows if not row.refusal]
    tables = [ratings_table(rows, choice)] if rows else []
    if one is not None and rows:
        tables.append(exchange_table(one, [row for row in rows if row.chip != one.chip]))
    return RatingsPage(
        choice=choice,
        pairs=len(questions),
        rated=len(rated),
        refused=len(rows) - len(rated),
        tables=tuple(tables),
        chart=ratings_chart(_chart_rows(rated, choice), about=about_text(choice)) if rated else None,
        start_is_missing=bool(choice.model) and one is None,
    )


def about_text(choice: RatingChoice) -> str:
    """Return what a table of a choice is about."""
    what = " on ".join(filter(None, (choice.model or "every model", choice.chip)))
    return f"{what}, {choice.mix}, TTFT {choice.ttft_p95_s:g} s and TPOT {choice.tpot_p95_s * 1e3:g} ms at P95"


# --- tables -----------------------------------------------------------------------------------------------------------
def ratings_table(rows: Sequence[StoredRating], choice: RatingChoice) -> Table:
    """Return what each chip does for each model, the most tokens per chip first; refusals come last."""
    names = (Column("chip", "Chip"), Column("side", "Side"), Column("model", "Model"))
    return Table(
        name="ratings",
        caption=f"What a replica sustains: {about_text(choice)} (modelled, best first)",
        columns=(
            *((names[2], names[0], names[1]) if choice.chip and not choice.model else names),
            Column("config", "Config"),
            Column("chips", "Replica", "chips"),
            *_band("tok_s", "Output", "tok/s"),
            *_band("tok_s_per_chip", "Per chip", "tok/s", 1),
            *_band("tok_s_per_kw", "Per kW", "tok/s/kW"),
            *_band("tok_s_per_kusd", "Per kUSD", "tok/s/kUSD", 1),
            Column("ttft_s", "TTFT at P95", "s", 2),
            Column("tpot_s", "TPOT at P95", "s", 4),
            Column("binds", "Binds"),
            Column("basis", "Basis"),
            Column("host_chips", "Host", "chips"),
            Column("refusal", "Why not"),
        ),
        rows=[_rating_row(row) for row in rows],
    )


def _rating_row(row: StoredRating) -> dict[str, Any]:
    rating = row.payload["rating"]
    common = {
        "chip": row.chip,
        "side": _side(row.chip),
        "model": row.model,
        "basis": row.basis,
        "host_chips": row.host_chips,
        "refusal": row.refusal or None,
    }
    if row.refusal:
        return common
    band, counted = rating["tok_s"], rating["counted_chips"]
    per_kw = 1e3 / rating["power_w"] if rating["power_w"] else None
    per_kusd = 1e3 / rating["price_usd"] / counted if rating["price_usd"] else None
    return {
        **common,
        "config": rating["label"],
        "chips": rating["chips"],
        **_spread("tok_s", band, 1.0),
        **_spread("tok_s_per_chip", band, 1 / counted),
        **_spread("tok_s_per_kw", band, per_kw),
        **_spread("tok_s_per_kusd", band, per_kusd),
        "ttft_s": rating["ttft_s"],
        "tpot_s": rating["tpot_s"],
        "binds": row.binds,
    }


def exchange_table(one: StoredRating, others: Sequence[StoredRating]) -> Table:
    """Return how many hosts of each other chip one host equals; few hosts first, those without a ratio last."""
    rows = []
    for found in exchange_rows(one, others):
        other = found["to"]
        row = {"to": other["chip"], "side": _side(other["chip"]), "host_chips": other["host_chips"]}
        for phase in PHASES:
            row |= _spread(phase, found[phase], 1.0) if found[phase] else {}
            row[f"{phase}_config"] = other[phase]["config"]
        rows.append({**row, "binds": other["binds"], "refusal": found["refusal"] or None})
    rows.sort(key=lambda row: (row.get("service_p50", float("inf")), row["to"]))
    return Table(
        name="exchange",
        caption=(
            f"One {one.chip} host of {one.host_chips} chips equals so many hosts: {one.model}, {one.mix}, "
            f"TTFT {one.ttft_p95_s:g} s and TPOT {one.tpot_p95_s * 1e3:g} ms at P95 (modelled)"
        ),
        columns=(
            Column("to", "Chip"),
            Column("side", "Side"),
            Column("host_chips", "Host", "chips"),
            *_band("service", "Service", "hosts", 2),
            *_band("prefill", "Prefill", "hosts", 2),
            *_band("decode", "Decode", "hosts", 2),
            Column("service_config", "Config"),
            Column("prefill_config", "Prefill config"),
            Column("decode_config", "Decode config"),
            Column("binds", "Binds"),
            Column("refusal", "Why not"),
        ),
        rows=rows,
    )


def _chart_rows(rated: Sequence[StoredRating], choice: RatingChoice) -> list[dict[str, Any]]:
    name = "model" if choice.chip and not choice.model else "chip"
    return [
        {
            "name": getattr(row, name),
            "side": _side(row.chip),
            **_spread("tok_s_per_chip", row.payload["rating"]["tok_s"], 1 / row.payload["rating"]["counted_chips"]),
        }
        for row in rated[:CHART_ROWS]
    ]


def _side(chip: str) -> str:
    return side_text(homegrown=chip_get(chip).homegrown)


def _band(name: str, label: str, unit: str, decimals: int = 0) -> tuple[Column, ...]:
    return tuple(Column(f"{name}_{q}", f"{label}, {q.upper()}", unit, decimals) for q in QUANTILES)


def _spread(name: str, band: Mapping[str, float], factor: float | None) -> dict[str, float]:
    """Return a band times a factor, as columns; none where the factor is not known."""
    return {} if factor is None else {f"{name}_{q}": band[q] * factor for q in QUANTILES}
