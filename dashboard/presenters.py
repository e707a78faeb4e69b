"""Results into rows and sentences for pages: the only place that rounds."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date, timedelta
from typing import Any

from accelerator import ChipSpec, Figure
from accelerator.calibration import Calibration
from fleet.models import Delivery
from scenarios.capacity_words import CONSTRAINT_WORDS

UNKNOWN = "–"
NO_DEMAND_RATIO = 1e4  # a headroom beyond this says that nothing is demanded
NEAR_RATIO = 0.9
OVER_RATIO = 1 + 1e-9  # by so much a sum of floats may be off

BINDING_WORDS = {
    **CONSTRAINT_WORDS,
    "chips": "chips: there is room for more",
    "no_host": "a service without a host",
}
CONFIDENCE_WORDS = {
    "official": "data sheet",
    "press": "press",
    "measured": "measured",
    "derived": "derived",
    "estimate": "estimated",
    "assumed": "assumed",
}

# unit of a value -> the steps in which it is shown: (from this size on, divisor, text after the number)
_SCALES: dict[str, tuple[tuple[float, float, str], ...]] = {
    "tok/s": ((1e9, 1e9, "G tok/s"), (1e6, 1e6, "M tok/s"), (1e3, 1e3, "k tok/s"), (0, 1, "tok/s")),
    "W": ((1e6, 1e6, "MW"), (1e3, 1e3, "kW"), (0, 1, "W")),
    "ratio": ((0, 0.01, "%"),),
    "flop/s": ((0, 1e12, "TFLOP/s"),),
    "byte": ((0, 2**30, "GiB"),),
    "byte/s": ((0, 1e9, "GB/s"),),
    "hosts": ((0, 1, "hosts"),),
}


def decimals_of(size: float) -> int:
    """Return the decimals that give a number of this size three significant digits."""
    return 0 if size >= 99.95 or size == 0 else 1 if size >= 9.995 else 2


def number_text(value: float) -> str:
    """Return a number with three significant digits, no exponent and no idle zeros."""
    text = f"{value:,.{decimals_of(abs(value))}f}"
    return text.rstrip("0").rstrip(".") if "." in text else text


def _scale(size: float, unit: str) -> tuple[float, str]:
    for least, divisor, text in _SCALES.get(unit, ((0, 1, unit),)):
        if size >= least:
            return divisor, text
    return 1, unit


def quantity_text(value: float | None, unit: str) -> str:
    """Return a value in base units as text in the unit that people read."""
    if value is None:
        return UNKNOWN
    divisor, text = _scale(abs(value), unit)
    return f"{number_text(value / divisor)} {text}".strip()


def band_text(band: Mapping[str, float] | None, unit: str) -> str:
    """Return a band as its middle and its ends, in one unit, such as ``12.3 (10.1 to 14.0) k tok/s``."""
    if not band:
        return UNKNOWN
    if unit == "ratio" and band["p50"] > NO_DEMAND_RATIO:
        return "nothing is demanded"
    if band["p10"] == band["p50"] == band["p90"]:
        return quantity_text(band["p50"], unit)
    size = max(abs(band[name]) for name in ("p50", "p90"))
    divisor, text = _scale(size, unit)
    decimals = decimals_of(abs(band["p50"]) / divisor) if band["p50"] else decimals_of(size / divisor)
    low, middle, high = (f"{band[name] / divisor:,.{decimals}f}" for name in ("p10", "p50", "p90"))
    return f"{middle} ({low} to {high}) {text}".replace("-0 ", "0 ")


def homegrown_text(period: Mapping[str, Any]) -> str:
    """Return the homegrown share of a month; earlier releases gave it as a band."""
    share = period["homegrown_token_ratio"]
    return band_text(share, "ratio") if isinstance(share, Mapping) else quantity_text(share, "ratio")


def month_text(month: str | None, last: str) -> str:
    """Return a month, or that it lies beyond the last one asked about."""
    return month or f"after {last}"


def end_band_text(band: Mapping[str, str | None], last: str) -> str:
    """Return a band of days or months: the middle, then the early and the late end."""
    early, middle, late = (month_text(band[name], last) for name in ("p10", "p50", "p90"))
    return middle if early == late == middle else f"{middle} ({early} to {late})"


def binding_text(binding: str) -> str:
    """Return what binds, in words."""
    return BINDING_WORDS.get(binding, binding.replace("_", " "))


def period_at(periods: Sequence[Mapping[str, Any]], today: date) -> Mapping[str, Any]:
    """Return the period of today's month, or the nearest one that was asked about."""
    now = f"{today:%Y-%m}"
    past = [period for period in periods if period["month"] <= now]
    return past[-1] if past else periods[0]


def percent_text(ratio: float) -> str:
    """Return a share in whole per cent, or as exactly as it takes to tell it from 90 or 100; on a limit of 0, none."""
    if not math.isfinite(ratio):
        return "limit 0"
    passed = max((100 * mark for mark in (NEAR_RATIO, 1.0) if ratio > mark * OVER_RATIO), default=-1.0)
    decimals = next((count for count in (0, 1) if round(100 * ratio, count) > passed), 2)
    return f"{100 * ratio:,.{decimals}f} %"


def state_of(ratio: float) -> tuple[str, str]:
    """Return the state of a load over its limit, and the word that says it."""
    if ratio > OVER_RATIO:
        return "over", "over the limit"
    return ("near", "near the limit") if ratio > NEAR_RATIO * OVER_RATIO else ("ok", "")


@dataclass(frozen=True, slots=True)
class Meter:
    """A quantity against its limit: text for everybody, a bar for the eye, a word where it matters."""

    text: str
    percent: float
    word: str
    state: str


def meter_of(used: float, limit: float, unit: str) -> Meter:
    """Return the meter of a used quantity; the bar ends at its limit, the text does not."""
    divisor, text = _scale(max(abs(used), abs(limit)), unit)
    share = used / limit if limit else (1.0 if used else 0.0)
    decimals = 0 if unit == "U" else decimals_of(max(abs(used), abs(limit)) / divisor)
    state, word = state_of(share)
    return Meter(
        text=f"{used / divisor:,.{decimals}f} of {limit / divisor:,.{decimals}f} {text}, {percent_text(share)}",
        percent=round(100 * min(share, 1.0), 1),
        word=word,
        state=state,
    )


@dataclass(frozen=True, slots=True)
class RegionRow:
    """One region of the overview."""

    name: str
    month: str
    run_out: str
    order_by: str
    headroom: str
    short: bool
    available: str
    demanded: str
    unserved: str
    binding: str
    homegrown: str


def overview_regions(
    capacity: Mapping[str, Any] | None, migration: Mapping[str, Any] | None, today: date
) -> list[RegionRow]:
    """Return the regions of the latest capacity result, with the homegrown share of the latest migration."""
    if capacity is None:
        return []
    shares = {
        region["slug"]: homegrown_text(period_at(region["periods"], today))
        for region in (migration or {}).get("regions", [])
        if region["periods"]
    }
    last, rows = capacity["months"][-1], []
    for region in capacity["regions"]:
        now = period_at(region["periods"], today)
        rows.append(
            RegionRow(
                name=region["name"],
                month=now["month"],
                run_out=end_band_text(region["run_out"], last),
                order_by=order_text(region),
                headroom=band_text(now["headroom_ratio"], "ratio"),
                short=now["headroom_ratio"]["p50"] < 0,
                available=band_text(now["available_tok_s"], "tok/s"),
                demanded=band_text(now["demanded_tok_s"], "tok/s"),
                unserved=quantity_text(now["unserved_tok_s"], "tok/s"),
                binding=binding_text(now["binding"]),
                homegrown=shares.get(region["slug"], UNKNOWN),
            )
        )
    return rows


def order_text(region: Mapping[str, Any]) -> str:
    """Return the day by which to order so that half of the futures last, with what; a dash where nothing runs out."""
    day = (region.get("order_by_on") or {}).get("p50")  # results of earlier releases lack it
    if not day:
        return UNKNOWN
    return f"{day}, {region['order_kind']}{'' if day[:7] >= region['periods'][0]['month'] else ' (has passed)'}"


@dataclass(frozen=True, slots=True)
class SiteRow:
    """One site of the overview: what stops its next host."""

    slug: str
    name: str
    hosts: int
    waiting: int
    power: Meter
    binding: str
    sentence: str


def overview_sites(capacity: Mapping[str, Any] | None, today: date) -> list[SiteRow]:
    """Return the sites of the latest capacity result as they are planned for this month."""
    if capacity is None:
        return []
    rows = []
    for site in capacity["sites"]:
        now = period_at(site["periods"], today)
        rows.append(
            SiteRow(
                slug=site["slug"],
                name=site["name"],
                hosts=sum(now["hosts"].values()),
                waiting=sum(now["waiting"].values()),
                power=meter_of(now["power_w"], now["power_limit_w"], "W"),
                binding=binding_text(now["binding"]),
                sentence=now["sentence"],
            )
        )
    return rows


@dataclass(frozen=True, slots=True)
class Tile:
    """One figure of the overview: label, value, and what it means or where it came from."""

    label: str
    value: str
    note: str
    state: str = ""


def overview_tiles(capacity: Mapping[str, Any] | None, migration: Mapping[str, Any] | None, today: date) -> list[Tile]:
    """Return the figures that say whether all is fine, and until when."""
    tiles = []
    if capacity is not None:
        last, run_out = capacity["months"][-1], capacity["fleet"]["run_out"]
        periods = [period_at(region["periods"], today) for region in capacity["regions"]]
        worst = min(periods, key=lambda period: period["headroom_ratio"]["p50"], default=None)
        tiles.append(
            Tile(
                "The fleet lasts until",
                month_text(run_out["p50"], last),
                f"P10 {month_text(run_out['p10'], last)}, P90 {month_text(run_out['p90'], last)}; modelled",
                "near" if run_out["p50"] else "ok",
            )
        )
        if capacity.get("add") is not None:  # results of earlier releases lack it
            tiles.append(_add_tile(capacity))
        if worst is not None:
            region = capacity["regions"][periods.index(worst)]["name"]
            short = worst["headroom_ratio"]["p50"] < 0
            tiles.append(
                Tile(
                    f"Least headroom, {worst['month']}",
                    band_text(worst["headroom_ratio"], "ratio"),
                    f"in {region}, busiest hour; modelled",
                    "over" if short else "ok",
                )
            )
            unserved = sum(period["unserved_tok_s"] for period in periods)
            tiles.append(
                Tile(
                    f"Unserved, {worst['month']}",
                    quantity_text(unserved, "tok/s"),
                    "output tokens in the busiest hour, expected future",
                    "over" if unserved > 0 else "ok",
                )
            )
    return [*tiles, *(_migration_tiles(migration, today) if migration is not None else ())]


def _migration_tiles(migration: Mapping[str, Any], today: date) -> list[Tile]:
    fleet = migration["fleet"]
    if not fleet["periods"]:
        return [Tile("Homegrown share", UNKNOWN, "there is no plan; its run says why", "over")]
    period, end = period_at(fleet["periods"], today), fleet["periods"][-1]
    note = f"of tokens served; {homegrown_text(end)} in {end['month']}, as planned"
    if promises := (migration.get("plan") or {}).get("promises"):  # results of earlier releases lack it
        together = promises["rows"][-1]["probability_ratio"]
        note += f", which holds in {percent_text(together)} of {promises['draws']:,} futures"
    return [
        Tile(f"Homegrown share, {period['month']}", homegrown_text(period), note),
        Tile(
            "No GPU needed from",
            end_band_text(fleet["gpu_free"], migration["months"][-1]),
            f"first wave {fleet['first_move_month'] or 'none'}; P50 (P10 to P90) of the futures",
        ),
    ]


def _add_tile(capacity: Mapping[str, Any]) -> Tile:
    """Return how many hosts have to be added, and the first day by which to order."""
    rows, last = capacity["add"], capacity["months"][-1]
    if not rows:
        return Tile("Hosts to add", "none" if not capacity["missed"] else "none fit", f"to {last}, expected future")
    days = [row["order_by_on"] for row in rows if row["order_by_on"]]
    order = f"the first ordered by {min(days)}; " if days else ""
    hosts = sum(row["hosts"] for row in rows)
    return Tile("Hosts to add", f"{hosts:,}", f"{order}to {last}, expected future", "near")


@dataclass(frozen=True, slots=True)
class Fact:
    """One line of where a result came from."""

    label: str
    value: str
    is_code: bool = False


def provenance_of(result: Mapping[str, Any]) -> list[Fact]:
    """Return everything that a result came from: equal lines mean an equal answer."""
    trace = result.get("trace")
    facts = [
        Fact("Fleet as of", result["as_of"]),
        Fact("Months asked about", f"{result['months'][0]} to {result['months'][-1]}"),
        Fact("Workload", f"trace {trace['name']}, measured" if trace else "built-in profiles of the services, assumed"),
        Fact("Seed", str(result["seed"])),
        Fact("Futures drawn", str(result["draws"])),
        Fact("Engine version", result["engine_version"]),
        Fact("Rating version", str(result["rating_version"])),
        Fact("Digest of the inputs", result["inputs_digest"], is_code=True),
        Fact("Digest of the fleet", result["snapshot_digest"], is_code=True),
    ]
    if calibration := result.get("serving_calibration"):  # results of earlier releases lack it
        facts.append(Fact("Serving calibration", calibration_text(calibration)))
        facts.append(Fact("Digest of the serving calibration", calibration["digest"], is_code=True))
    if trace:
        facts.append(Fact("Digest of the trace", trace["digest"], is_code=True))
    return facts


def calibration_text(facts: Mapping[str, Any]) -> str:
    """Return which serving calibration was in use: its version, day and rows."""
    name = facts["version"]
    which = name if name == "published" else f"version {name}"
    return f"{which}, fitted on {facts['fitted_on']}, {facts['rows']:,} rows"


@dataclass(frozen=True, slots=True)
class FigureRow:
    """One figure of a chip with its range, and where it was read."""

    name: str
    value: str
    band: str
    basis: str
    source: str
    read_on: date


@dataclass(frozen=True, slots=True)
class ChipRow:
    """One chip of the catalog: the figures that are compared, and all of them with their sources."""

    slug: str
    name: str
    vendor: str
    side: str
    cells: list[str]
    figures: list[FigureRow]


FIGURE_NAMES = {
    "memory_byte": "Memory usable",
    "memory_byte_s": "Memory bandwidth",
    "scale_up_byte_s": "Scale-up link, per direction",
    "scale_out_byte_s": "Network, per direction",
    "pcie_byte_s": "Host link (PCIe), per direction",
    "cores": "Cores",
    "cache_byte": "Last-level cache",
    "system_w": "Share of rack-scale power",
    "tdp_w": "Thermal design power",
    "idle_w": "Idle power",
    "price_usd": "Price",
}
CHIP_COLUMNS = (
    *((name, "TFLOP/s") for name in ("BF16", "FP8", "INT8", "FP4")),
    ("Memory", "GiB"),
    ("Bandwidth", "GB/s"),
    ("TDP", "W"),
)


def figure_text(figure: Figure | None) -> str:
    """Return a figure with its range where it has one, without its unit: the heading names it."""
    if figure is None:
        return UNKNOWN
    divisor, _ = _scale(abs(figure.value), figure.unit)
    low, middle, high = (number_text(value / divisor) for value in (figure.low, figure.value, figure.high))
    return middle if figure.exact else f"{middle} ({low} to {high})"


def chip_row(chip: ChipSpec) -> ChipRow:
    """Return a chip for the catalog."""
    compared = [*(chip.peak_flop_s.get(p) for p in ("bf16", "fp8", "int8", "fp4"))]
    compared += [chip.given.get(name) for name in ("memory_byte", "memory_byte_s", "tdp_w")]
    return ChipRow(
        slug=chip.slug,
        name=chip.name,
        vendor=chip.vendor,
        side=side_text(homegrown=chip.homegrown),
        cells=[figure_text(figure) for figure in compared],
        figures=[
            FigureRow(
                name=FIGURE_NAMES.get(name) or f"Dense peak, {name.removeprefix('peak_flop_s[')[:-1].upper()}",
                value=quantity_text(figure.value, figure.unit),
                band="exact" if figure.exact else band_range_text(figure),
                basis=CONFIDENCE_WORDS.get(figure.confidence, figure.confidence),
                source=figure.source,
                read_on=figure.read_on,
            )
            for name, figure in chip.figures().items()
        ],
    )


@dataclass(frozen=True, slots=True)
class KernelErrorRow:
    """How far one family of kernels was off on rows that its fit had not seen."""

    family: str
    rows: str
    fitted_on: str
    shapes: str
    chips: str
    covered: str
    measured: str


def kernel_error_row(calibration: Calibration) -> KernelErrorRow:
    """Return the errors of a family for the catalog; medians over chips."""
    shapes, chips = calibration.errors["shapes_held_out"], calibration.errors["chips_held_out"]
    return KernelErrorRow(
        family=calibration.family.name.replace("_", " "),
        rows=f"{calibration.fit.rows:,}",
        fitted_on=calibration.fitted_on,
        shapes=f"{shapes['median_over_chips']:.1%}",
        chips=f"{chips['median_over_chips']:.1%}",
        covered=f"{shapes['coverage']:.0%} and {chips['coverage']:.0%}",
        measured=", ".join(sorted(calibration.chips)),
    )


def band_range_text(figure: Figure) -> str:
    """Return the range of a figure in the unit in which its value is shown."""
    divisor, text = _scale(abs(figure.value), figure.unit)
    return f"{number_text(figure.low / divisor)} to {number_text(figure.high / divisor)} {text}"


def side_text(*, homegrown: bool) -> str:
    """Return which side of the migration a chip is on, as a word."""
    return "homegrown" if homegrown else "GPU"


@dataclass(frozen=True, slots=True)
class DeliveryRow:
    """A delivery with the days by which it comes in half of all cases, and in nine of ten."""

    slug: str
    site: str
    kind: str
    hosts: int
    named_for: date
    half_by: date
    most_by: date
    usable: str
    note: str


def delivery_row(delivery: Delivery) -> DeliveryRow:
    """Return a delivery for a page."""
    return DeliveryRow(
        slug=delivery.slug,
        site=delivery.site.name,
        kind=delivery.host_type.slug,
        hosts=delivery.quantity,
        named_for=delivery.expected_on,
        half_by=delivery.expected_on + timedelta(days=round(delivery.slip_p50_days)),
        most_by=delivery.expected_on + timedelta(days=round(delivery.slip_p90_days)),
        usable=quantity_text(delivery.fill_ratio, "ratio"),
        note=delivery.note,
    )
