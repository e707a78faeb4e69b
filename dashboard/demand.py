"""The page of demand: what is asked of every service, until when, and how good such forecasts were."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any
from urllib.parse import urlencode

import numpy as np

from dashboard.chart_parts import Chart
from dashboard.demand_charts import QUANTILES, RATE, fan_chart, fan_table, history_chart, shape_chart
from fleet.models import DemandEvent, DemandOverride, Service
from scenarios.backtests import WHAT, Score
from scenarios.demand import month_add, month_first, month_label, months_list
from scenarios.demands import Coverage, DemandView, coverage_load, coverage_of, fitted, scores_of
from scenarios.forecast import DemandFan, Outlook
from scenarios.histories import HOUR_S, History
from scenarios.models import DemandHistory
from scenarios.patterns import DAY_S
from scenarios.seen import DemandSeen
from scenarios.tables import Cell, Column, Table

POINTS_MOST = 400  # of a history chart
STEPS_S = (HOUR_S, 3 * HOUR_S, 6 * HOUR_S, DAY_S, 7 * DAY_S, 28 * DAY_S)
STEP_WORDS = {HOUR_S: "hour", 3 * HOUR_S: "3 hours", 6 * HOUR_S: "6 hours", DAY_S: "day", 7 * DAY_S: "7 days"}
WEEKDAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
BASIS_WORDS = {"history": "history (modelled)", "stated": "stated (assumed)"}
PART_WORDS = {"first": "first six tenths", "rest": "rest"}


@dataclass(frozen=True, slots=True)
class DemandChoice:
    """Which months are shown; all of it is in the page's address."""

    first: date
    count: int

    @property
    def months(self) -> tuple[date, ...]:
        """Return the months."""
        return months_list(month_first(self.first), month_add(self.first, self.count - 1))

    @property
    def query(self) -> str:
        """Return it as the query of an address."""
        return urlencode({"from": month_label(self.first), "months": self.count})


@dataclass(frozen=True, slots=True)
class ServiceLine:
    """One service of the list, with the words that its row shows."""

    service: Service
    cells: Sequence[Cell]


# --- all services -----------------------------------------------------------------------------------------------------
def services_table(services: Sequence[Service], demands: Sequence[DemandView], choice: DemandChoice) -> Table:
    """Return what is asked of each service in the first and the last month."""
    first, last = (month_label(month) for month in (choice.months[0], choice.months[-1]))
    return Table(
        name="services",
        caption=f"Demand of services in the busiest hour, {first} and {last}",
        columns=(
            Column("service", "Service"),
            Column("region", "Region"),
            Column("tier", "Tier"),
            *(Column(f"first_{q}", f"{first}, {q.upper()}", RATE, 1) for q in QUANTILES),
            *(Column(f"last_{q}", f"{last}, {q.upper()}", RATE, 1) for q in QUANTILES),
            Column("growth_ratio", "Growth per month, P50", "%", 1),
            Column("mean_ratio", "Mean over peak", "%"),
            Column("top_client_ratio", "Top client", "%"),
            Column("basis", "Basis"),
            Column("coverage_ratio", "Own backtest in band", "%"),
        ),
        rows=[
            {
                "service": service.slug,
                "region": service.region.name,
                "tier": service.tier,
                **_ends(demand.fan),
                "growth_ratio": growth_of(demand.fan),
                "mean_ratio": demand.fan.mean_ratio,
                "top_client_ratio": demand.fan.top_client_ratio,
                "basis": BASIS_WORDS[demand.fan.basis] + _invented(demand.history),
                "coverage_ratio": coverage_of(scores_of(demand.history)) if demand.history else None,
            }
            for service, demand in zip(services, demands, strict=True)
        ],
    )


def _ends(fan: DemandFan) -> dict[str, float]:
    bands = {q: getattr(fan, f"{q}_request_s") for q in QUANTILES}
    return {f"{name}_{q}": band[at] for name, at in (("first", 0), ("last", -1)) for q, band in bands.items()}


def growth_of(fan: DemandFan) -> float | None:
    """Return the mean growth per month from the first to the last month, at P50; None where nothing is asked."""
    first, last, months = fan.p50_request_s[0], fan.p50_request_s[-1], len(fan.p50_request_s) - 1
    return (last / first) ** (1 / months) - 1 if first > 0 and last > 0 and months else None


def _invented(stored: DemandHistory | None) -> str:
    return ", invented" if stored and stored.is_invented else ""


def coverage_table(scores: Sequence[Score], *, name: str, caption: str) -> Table:
    """Return how forecasts fared by series, horizon and part."""
    return Table(
        name=name,
        caption=caption,
        columns=(
            Column("series", "Series"),
            Column("what", "Forecast of"),
            Column("horizon_h", "Ahead", "h", 1),
            Column("part", "Part of the series"),
            Column("origins", "Forecasts", "-"),
            Column("coverage_ratio", "In P10 to P90", "%"),
            Column("below_ratio", "Below", "%"),
            Column("above_ratio", "Above", "%"),
            Column("loss_ratio", "Pinball loss over mean rate", "%", 1),
            Column("last_loss_ratio", "Last rate's", "%", 1),
            Column("day_before_loss_ratio", "Day before's", "%", 1),
        ),
        rows=[
            {
                **{column: getattr(one, column) for column in ("series", "origins", "coverage_ratio", "below_ratio")},
                **{column: getattr(one, column) for column in ("above_ratio", "loss_ratio", "last_loss_ratio")},
                "day_before_loss_ratio": one.day_before_loss_ratio,
                "what": WHAT[one.what],
                "horizon_h": one.horizon_s / HOUR_S,
                "part": PART_WORDS[one.part],
            }
            for one in scores
        ],
    )


def stated_table(coverage: Coverage) -> Table:
    """Return the stated coverage: of published series, as computed when the model was made."""
    return coverage_table(
        coverage.scores,
        name="coverage",
        caption=f"Backtest on published rate series, {coverage.computed_on}: {coverage.source}",
    )


@dataclass(frozen=True, slots=True)
class DemandPage:
    """The list of services and the stated coverage."""

    choice: DemandChoice
    lines: Sequence[ServiceLine]
    tables: Mapping[str, Table]
    coverage: Coverage


def demand_page(services: DemandSeen, choice: DemandChoice) -> DemandPage:
    """Put together what the list shows."""
    rows = list(services)
    table = services_table(rows, services.demands(rows, choice.months), choice)
    coverage = coverage_load()
    lines = [ServiceLine(*parts) for parts in zip(rows, table.cells(), strict=True)]
    return DemandPage(choice, lines, {"services": table, "coverage": stated_table(coverage)}, coverage)


# --- one service ------------------------------------------------------------------------------------------------------
@dataclass(frozen=True, slots=True)
class ServicePage:
    """What is known of one service's demand: charts, tables, and what people know better."""

    choice: DemandChoice
    service: Service
    demand: DemandView
    charts: Sequence[Chart]
    tables: Mapping[str, Table]
    coverage_ratio: float | None
    stated_ratio: float | None

    @property
    def stored(self) -> DemandHistory | None:
        """The history, if there is one."""
        return self.demand.history

    @property
    def promise(self) -> str:
        """Return its limits in words."""
        service = self.service
        limits = f"TTFT at most {service.ttft_s:g} s, TPOT at most {service.tpot_s:g} s"
        return f"{limits}, each for {service.percentile:.4%}".rstrip("%").rstrip("0").rstrip(".") + " % of requests"

    @property
    def tables_all(self) -> Mapping[str, Table]:
        """Return every table by name, those of charts too."""
        return {**self.tables, **{chart.table.name: chart.table for chart in self.charts}}


def service_page(services: DemandSeen, service: Service, choice: DemandChoice) -> ServicePage:
    """Put together what the page of a service shows."""
    demand = services.demands([service], choice.months)[0]
    charts = [_fan(service, demand, choice)]
    tables = [_mix_table(service, demand.fan)]
    if demand.history is not None:
        growths = (service.growth_low_ratio, service.growth_ratio, service.growth_high_ratio)
        history, outlook = fitted(demand.history.digest, growths)
        invented = demand.history.is_invented
        charts += [_history(service, history, is_invented=invented), *_shapes(service, outlook)]
        caption = f"{service.name}: backtest on its own history"
        scores = scores_of(demand.history)
        if scores:
            tables.append(coverage_table(scores, name="own-coverage", caption=caption))
    tables += [_events_table(service), _overrides_table(service)]
    return ServicePage(
        choice=choice,
        service=service,
        demand=demand,
        charts=charts,
        tables={table.name: table for table in tables},
        coverage_ratio=coverage_of(scores_of(demand.history)) if demand.history else None,
        stated_ratio=coverage_load().of_rest("window"),
    )


def _fan(service: Service, demand: DemandView, choice: DemandChoice) -> Chart:
    rows = [
        {
            "month": month_label(month),
            **{f"request_s_{q}": getattr(demand.fan, f"{q}_request_s")[at] for q in QUANTILES},
            **{f"model_request_s_{q}": getattr(demand.model, f"{q}_request_s")[at] for q in QUANTILES},
        }
        for at, month in enumerate(choice.months)
    ]
    caption = f"{service.name}: requests per second in the busiest hour of each month"
    table = fan_table(rows, name="forecast", caption=caption)
    return fan_chart(table, name=service.name, basis=demand.model.basis)


def _history(service: Service, history: History, *, is_invented: bool) -> Chart:
    span_s = len(history.request_s) * history.window_s
    step_s = next((one for one in STEPS_S if one >= history.window_s and span_s / one <= POINTS_MOST), STEPS_S[-1])
    step = STEP_WORDS.get(step_s, "28 days")
    places = ((history.time_s - history.start_s) // step_s).astype(np.int64)
    known = ~np.isnan(history.request_s)
    rows = []
    for place in np.unique(places[known]).tolist():
        part = history.request_s[known & (places == place)]
        start = datetime.fromtimestamp(history.start_s + place * step_s, UTC)
        rows.append(
            {"at": f"{start:%Y-%m-%d %H:%M}", "request_s": float(part.mean()), "most_request_s": float(part.max())}
        )
    table = Table(
        name="history",
        caption=f"{service.name}: {'invented' if is_invented else 'measured'} requests per second, by {step}",
        columns=(
            Column("at", "From, UTC"),
            Column("request_s", "Mean", RATE, 2),
            Column("most_request_s", "Busiest window", RATE, 2),
        ),
        rows=rows,
    )
    return history_chart(table, name=service.name, step=step, is_invented=is_invented)


def _shapes(service: Service, outlook: Outlook) -> list[Chart]:
    """Return the shapes that the history supports."""
    charts = []
    if outlook.shape.day.any():
        hours = np.arange(24, dtype=np.float64) * HOUR_S + HOUR_S / 2
        flat = np.exp(outlook.shape.at(hours) - outlook.shape.week[3])  # 1970-01-01 was a Thursday
        rows = [{"name": f"{at:02d}", "factor_ratio": float(factor)} for at, factor in enumerate(flat)]
        sentence = (
            f"{service.name}: a usual day goes from {min(flat):.2f} to {max(flat):.2f} times its mean, shrunk as far "
            "as its days differ. Hours in UTC. Calibrated to the history."
        )
        charts.append(shape_chart(_shape_table("day", f"{service.name}: shape of a day, by hour in UTC", rows),
                                  title="Shape of the day", sentence=sentence))  # fmt: skip
    if outlook.shape.week.any():
        factors = np.exp(outlook.shape.week)
        rows = [{"name": name, "factor_ratio": float(one)} for name, one in zip(WEEKDAYS, factors, strict=True)]
        sentence = (
            f"{service.name}: a usual week goes from {min(factors):.2f} to {max(factors):.2f} times its mean. "
            "Days in UTC. Calibrated to the history."
        )
        charts.append(shape_chart(_shape_table("week", f"{service.name}: shape of a week, by day in UTC", rows),
                                  title="Shape of the week", sentence=sentence))  # fmt: skip
    return charts


def _shape_table(name: str, caption: str, rows: Sequence[Mapping[str, Any]]) -> Table:
    return Table(name, caption, (Column("name", "When"), Column("factor_ratio", "Over the mean", "ratio", 2)), rows)


def _mix_table(service: Service, fan: DemandFan) -> Table:
    source = "from its history where that knows them" if fan.basis == "history" else "assumed"
    rows = [
        ("Mean prompt", fan.input_tok, "tok"),
        ("Mean answer", fan.output_tok, "tok"),
        ("Prefix-cache hits, of prompt tokens", fan.cache_hit_ratio, "ratio"),
        ("Biggest client, of requests", fan.top_client_ratio, "ratio"),
        ("Mean over busiest hour", fan.mean_ratio, "ratio"),
    ]
    return Table(
        name="mix",
        caption=f"{service.name}: mix and biggest client ({source})",
        columns=(Column("name", "What"), Column("value", "Value", "as named", 2), Column("unit", "Unit")),
        rows=[{"name": name, "value": value, "unit": unit} for name, value, unit in rows],
    )


def _events_table(service: Service) -> Table:
    return Table(
        name="events",
        caption=f"{service.name}: events that multiply the forecast",
        columns=(
            Column("slug", "Event"),
            Column("starts_on", "First day"),
            Column("ends_on", "First day after"),
            *(Column(f"multiplier_{q}", f"Times, {q.upper()}", "ratio", 2) for q in QUANTILES),
            Column("reason", "Reason"),
        ),
        rows=[
            {
                "slug": row.slug,
                "starts_on": row.starts_on.isoformat(),
                "ends_on": row.ends_on.isoformat(),
                "multiplier_p10": row.multiplier_low_ratio,
                "multiplier_p50": row.multiplier_ratio,
                "multiplier_p90": row.multiplier_high_ratio,
                "reason": row.reason,
            }
            for row in DemandEvent.objects.filter(service=service)
        ],
    )


def _overrides_table(service: Service) -> Table:
    return Table(
        name="overrides",
        caption=f"{service.name}: figures that replace the forecast",
        columns=(
            Column("slug", "Override"),
            Column("first", "From month"),
            Column("last", "To month"),
            *(Column(f"{q}_request_s", q.upper(), RATE, 2) for q in QUANTILES),
            Column("author", "Who knows better"),
            Column("reason", "Reason"),
        ),
        rows=[
            {
                **{name: getattr(row, name) for name in ("slug", "author", "reason")},
                "first": month_label(row.first_on),
                "last": month_label(row.last_on),
                **{f"{q}_request_s": getattr(row, f"{q}_request_s") for q in QUANTILES},
            }
            for row in DemandOverride.objects.filter(service=service)
        ],
    )


def table_export(table: Table, choice: DemandChoice) -> dict[str, Any]:
    """Return a table as JSON values, with the months that it is about."""
    columns = [{"name": c.name, "label": c.label, "unit": c.unit} for c in table.columns]
    rows = [{c.name: row.get(c.name) for c in table.columns} for row in table.rows]
    months = choice.months
    about = {"from": month_label(months[0]), "to": month_label(months[-1])}
    return {"title": table.caption, "columns": columns, "rows": rows, **about}
