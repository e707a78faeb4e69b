"""What a planner may choose about a scenario, each with its meaning, unit and default: forms, files and API read it.

Figures of money that nobody measured are assumptions: they say so, and a tornado shows what they drive.
"""

import json
from dataclasses import dataclass, fields

from scenarios.planning.plain import given, plain_of
from scenarios.planning.problem import NPV, OUTPUT, SHARE_FIRST, TOKENS

CNY_PER_USD = 7.2  # 2026; published figures use 7.1 to 7.3

BAN, SUPPLIER_STOP, FIRMWARE, CLIENT, NEW_MODEL, CAPACITY = (
    "ban",
    "supplier_stop",
    "firmware_baseline",
    "client_doubles",
    "new_model",
    "capacity_factor",
)
EVENTS = (BAN, SUPPLIER_STOP, FIRMWARE, CLIENT, NEW_MODEL, CAPACITY)
PURCHASES, SUPPORT, USE = "purchases", "support", "use"
TREES = ("power", "cooling", "network")
TREE = TREES[0]
PLACES = ("region", "site", "hall", "row", "rack", "host", "scale-up-domain")


@dataclass(frozen=True, slots=True)
class FloorParam:
    """A share of tokens on homegrown chips from a month on."""

    ratio: float = given("Share of the tokens demanded.", unit="-", least=0.0, most=1.0)
    month: str = given("First month, as 2028-01.")
    basis: str = given("Of input and output tokens, or of output tokens.", default=TOKENS, choices=(TOKENS, OUTPUT))
    region: str = given("Region; empty: all.", default="")
    tier: str = given("Tier; empty: all.", default="")


@dataclass(frozen=True, slots=True)
class OfferParam:
    """Hosts that may be bought besides what is ordered."""

    kind: str = given("Host type.")
    hosts: int = given("At most.", unit="-", least=0, most=1_000_000)
    month: str = given("First month in which they may stand: today and the lead time. As 2027-06.")
    site: str = given("Site; empty: any.", default="")


@dataclass(frozen=True, slots=True)
class OrderParam:
    """A service that waits for another."""

    first: str = given("Service that opens a homegrown chip first.")
    then: str = given("Service that waits for it.")


@dataclass(frozen=True, slots=True)
class MustLeaveParam:
    """A service that must have left its GPUs."""

    service: str = given("Service.")
    month: str = given("First month without GPUs, as 2028-01.")


@dataclass(frozen=True, slots=True)
class PriceParam:
    """What a host type costs, where the fleet does not say, or other than it says."""

    kind: str = given("Host type.")
    price: float = given("Of a new host.", unit="money", least=0.0)
    book_value: float | None = given("Of one that stands; none: half its price.", unit="money", default=None, least=0.0)


@dataclass(frozen=True, slots=True)
class TariffParam:
    """Energy of a site, other than the default."""

    site: str = given("Site.")
    tariff_per_kwh: float = given("Price of energy.", unit="money/kWh", least=0.0)
    homegrown_tariff_per_kwh: float | None = given(
        "For homegrown chips while the subsidy lasts; none: by the default share.",
        unit="money/kWh",
        default=None,
        least=0.0,
    )
    kgco2e_per_kwh: float | None = given("Carbon; none: the default.", unit="kgCO2e/kWh", default=None, least=0.0)


@dataclass(frozen=True, slots=True)
class SupplyParams:
    """What every question takes that weighs hosts and money: offers, prices, energy."""

    offers: tuple[OfferParam, ...] = given("Hosts that may be bought besides what is ordered.", default=())
    prices: tuple[PriceParam, ...] = given("Prices of host types.", default=())
    tariffs: tuple[TariffParam, ...] = given("Energy of sites.", default=())
    currency: str = given(
        "Currency of all money; defaults are in yuan and converted.", default="CNY", choices=("CNY", "USD")
    )
    cny_per_usd: float = given("Rate of exchange.", unit="CNY/USD", default=CNY_PER_USD, least=0.1, most=100.0)
    price_unknown: float = given(
        "Of a new host of a type whose price nobody says. An assumption.",
        unit="money",
        default=1_000_000.0,
        least=0.0,
    )
    tariff_per_kwh: float = given("Price of energy.", unit="money/kWh", default=0.8, least=0.0)


@dataclass(frozen=True, slots=True)
class PlanParams(SupplyParams):
    """What every plan takes: a migration, and the best new plan after an outage or an event."""

    objective: str = given(
        "Least cost in money of the first month, or most homegrown tokens first.",
        default=NPV,
        choices=(NPV, SHARE_FIRST),
    )
    waves_most: int | None = given(
        "Openings of a chip for a service in one month at most: what one team can soak.", default=4, least=0, most=1000
    )
    rollback_ratio: float = given(
        "Share of traffic moved lately that must be able to return to GPUs; for the scenario's months of dual running.",
        unit="-",
        default=0.5,
        least=0.0,
        most=1.0,
    )
    shadow_ratio: float = given(
        "Share of a service's traffic copied to a chip before it opens there.",
        unit="-",
        default=0.1,
        least=0.0,
        most=1.0,
    )
    shadow_months: int = given("For so long before.", unit="month", default=1, least=0, most=12)
    ramp_ratio: float = given(
        "Share of a service that may move in one month at most.", unit="-", default=1.0, least=0.01, most=1.0
    )
    split: bool = given(
        "Whether one kind of chip may read prompts and another write answers. Rates of either alone are upper bounds: "
        "they know nothing of the hand-over between the two.",
        default=False,
    )
    failover: bool = given("Whether gold must survive the loss of any one hall.", default=True)
    failover_penalty_per_mtok: float | None = given(
        "For a million gold tokens that would not survive it; none: all must.",
        unit="money/Mtok",
        default=40.0,
        least=0.0,
    )
    unserved_penalty_per_mtok: float | None = given(
        "Lost for a million output tokens not served; none: all must be. The default is some twenty times what they "
        "sell for: a promise is kept unless nothing can keep it.",
        unit="money/Mtok",
        default=400.0,
        least=0.0,
    )
    floors: tuple[FloorParam, ...] = given("Shares of homegrown tokens that must be reached.", default=())
    order: tuple[OrderParam, ...] = given("Services that wait for others.", default=())
    must_leave: tuple[MustLeaveParam, ...] = given("Services that must leave their GPUs.", default=())
    life_months: float = given("Straight-line life of a new host.", unit="month", default=48.0, least=1.0, most=240.0)
    months_left: float = given(
        "Until standing hosts are written off. An assumption where ages are not known.",
        unit="month",
        default=30.0,
        least=1.0,
        most=240.0,
    )
    resale_ratio: float = given(
        "Share of its book value that a GPU host brings when it goes, to training or by sale; homegrown ones bring "
        "nothing. An assumption.",
        unit="-",
        default=0.5,
        least=0.0,
        most=1.0,
    )
    upkeep_ratio_year: float = given(
        "Space and maintenance a year, over the price of a host.", unit="1/year", default=0.04, least=0.0, most=1.0
    )
    homegrown_tariff_ratio: float = given(
        "Price of energy of homegrown chips over the full one, while the subsidy lasts.",
        unit="-",
        default=0.5,
        least=0.0,
        most=1.0,
    )
    subsidy_until: str = given("Last month of the subsidy, as 2027-12; empty: beyond the horizon.", default="")
    kgco2e_per_kwh: float = given("Carbon of energy.", unit="kgCO2e/kWh", default=0.58, least=0.0, most=5.0)
    port_cost: float = given(
        "Of opening a chip for a service: porting, qualification, people.",
        unit="money",
        default=400_000.0,
        least=0.0,
    )
    discount_ratio_year: float = given("Rate at which later money counts less.", unit="1/year", default=0.08, least=0.0)
    gap_ratio: float = given("Between the plan and the best bound.", unit="-", default=0.01, least=0.0, most=0.5)
    time_limit_s: float = given("Of the solver, the last stop.", unit="s", default=600.0, least=1.0, most=86_400.0)


@dataclass(frozen=True, slots=True)
class MigrationParams(PlanParams):
    """What a migration scenario takes beside its months, services, reserve and growth."""

    ready_slip_p50_months: float = given(
        "Median slip of software that is not ready yet, over the futures. An assumption.",
        unit="month",
        default=1.0,
        least=0.0,
        most=60.0,
    )
    ready_slip_p90_months: float = given(
        "Slip of such software that one in ten exceeds. An assumption.",
        unit="month",
        default=4.0,
        least=0.0,
        most=60.0,
    )
    down_ratio: float = given(
        "Share of hosts that is down in a peak hour, over the futures: 6,335 h between failures of a host of eight "
        "GPUs and three days of repair make 1.1 %.",
        unit="-",
        default=0.011,
        least=0.0,
        most=0.9,
    )
    replay: bool = given(
        "Whether the peak hour of each month with a wave is replayed in the simulator, request by request.",
        default=True,
    )
    pareto_points: int = given("Of the front of homegrown share against cost.", default=5, least=0, most=20)


@dataclass(frozen=True, slots=True)
class CapacityParams(SupplyParams):
    """What a capacity scenario takes beside its months, services, reserve and growth; as a migration means them."""

    target_ratio: float = given(
        "Headroom to stay above when hosts are added.", unit="-", default=0.0, least=0.0, most=10.0
    )
    lead_months: float = given(
        "From order to service of a host type that no offer names. An assumption.",
        unit="month",
        default=6.0,
        least=0.0,
        most=60.0,
    )
    failover: bool = given("Whether the loss of each hall is judged.", default=True)


@dataclass(frozen=True, slots=True)
class IncidentParams(PlanParams):
    """What an outage and an event take alike."""

    foreseen: bool = given(
        "Whether the new plan knows of it from the first month on; else it keeps hosts and openings of the plan before "
        "until then.",
        default=False,
    )


@dataclass(frozen=True, slots=True)
class OutageParams(IncidentParams):
    """What an outage scenario takes: which node is lost, from when, for how long; then what its re-plan takes."""

    tree: str = given("Tree that the node is of, or the kind of place.", default=TREE, choices=(*TREES, *PLACES))
    node: str = given("Name of the node: a slug, or a key as dc01/h1. Needed.", default="")
    day: str = given("First day of the outage, as 2027-03-14; empty: the first of the first month.", default="")
    repair_days: int | None = given(
        "Until it is repaired; none: not within the months asked about.", unit="d", default=None, least=1, most=36_500
    )


@dataclass(frozen=True, slots=True)
class EventParams(IncidentParams):
    """What an event scenario takes: what happens to what, from when, for how long; then what its re-plan takes."""

    event: str = given("What happens. Needed.", default="", choices=EVENTS)
    subject: str = given(
        "What it happens to. Of a ban, a baseline and a capacity: a chip, a host type or a vendor; of a stop: a "
        "supplier or a vendor; of a client and a new model: a service. Several with commas. Needed.",
        default="",
    )
    region: str = given("Of a ban or a capacity: region; empty: everywhere.", default="")
    month: str = given("First month of it, as 2027-06; empty: the first one asked about.", default="")
    months: int | None = given("For so long; none: for good.", unit="month", default=None, least=1, most=1200)
    scope: str = given(
        "Of a ban: nothing more is bought; nothing new opens either; or nothing is used.",
        default=USE,
        choices=(PURCHASES, SUPPORT, USE),
    )
    left_ratio: float = given(
        "Share that is left: of the hosts under a ban of use or a capacity, of what a supplier delivers in time.",
        unit="-",
        default=0.0,
        least=0.0,
        most=1.0,
    )
    firmware: str = given("Of a baseline: the least firmware set allowed, by its slug.", default="")
    upgrades_per_month: int = given(
        "Of a baseline: hosts that can be brought up to it in a month.", unit="1/month", default=20, least=1, most=10**6
    )
    client_ratio: float | None = given(
        "Of a client: share of the biggest client in the service's requests; none: what its history says.",
        unit="-",
        default=None,
        least=0.0,
        most=1.0,
    )
    client_demand_ratio: float = given(
        "Of a client: what it asks for over what it asked for.", unit="-", default=2.0, least=0.0, most=100.0
    )
    model: str = given("Of a new model: its slug in the catalog; empty: that of the service it is like.", default="")
    request_s: float | None = given(
        "Of a new model: requests in the busiest hour of its first month; none: as many as the service it is like.",
        unit="1/s",
        default=None,
        least=0.0,
        most=1e9,
    )


PARAMS = {"capacity": CapacityParams, "migration": MigrationParams, "outage": OutageParams, "event": EventParams}
"""What a kind of scenario takes beside the fields that all have."""


def params_table(kind: str) -> str:
    """Return the parameters of a kind of scenario as the table of its page in docs/models.

    Of an outage and an event: what they add to those of every plan.
    """
    shared = {one.name for one in fields(PlanParams)} if kind in {"outage", "event"} else set()
    lines = ["| parameter | unit | default | meaning |", "|---|---|---|---|"]
    for one in fields(PARAMS[kind]):
        if one.name in shared:
            continue
        default = plain_of(one.default)
        shown = "none" if default is None else "empty" if default in ("", []) else json.dumps(default).strip('"')
        lines.append(f"| `{one.name}` | {one.metadata['unit'] or '-'} | {shown} | {one.metadata['help']} |")
    return "\n".join(lines) + "\n"
