"""The question that planners answer, as plain values: periods, places, kinds, services, rates, supply, limits, rules.

It is built from a fleet (`scenarios.grounds`) or read from a small JSON (:func:`problem_read`); its JSON Schema is
docs/schemas/problem.json. Planners look nothing else up.
"""

import math
from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from typing import Any

from scenarios.planning.plain import ProblemError, given, plain_of, plain_read, schema_of

WHOLE, PREFILL, DECODE = "whole", "prefill", "decode"
PHASES = (WHOLE, PREFILL, DECODE)
NPV, SHARE_FIRST = "npv", "share_first"
TOKENS, OUTPUT = "tokens", "output"
HOURS_A_MONTH = 730.5
PERIODS_MOST = 1200
HOSTS_MOST = 10_000_000
GOLD = "gold"

Series = tuple[float, ...]
"""One number for each period; a single one stands for all."""


@dataclass(frozen=True, slots=True)
class SiteValues:
    """A site: hosts of its places share a region, a tariff and the supply that is sent there."""

    slug: str = given("Name.")
    region: str = given("Region whose services it may serve.")
    pue_ratio: float = given("Facility power over IT power.", unit="-", default=1.0, least=1.0, most=10.0)
    tariff_per_kwh: Series = given("Price of energy.", unit="money/kWh", default=(0.0,), least=0.0)
    homegrown_tariff_per_kwh: Series | None = given(
        "Price of energy of homegrown chips, where it is subsidised; none: the same.",
        unit="money/kWh",
        default=None,
        least=0.0,
    )
    kgco2e_per_kwh: Series = given("Carbon of energy.", unit="kgCO2e/kWh", default=(0.0,), least=0.0)


@dataclass(frozen=True, slots=True)
class PlaceValues:
    """A part of a site under one power domain, as a hall: hosts are planned by place."""

    slug: str = given("Name.")
    site: str = given("Site that it is a part of.")


@dataclass(frozen=True, slots=True)
class KindValues:
    """A kind of host."""

    slug: str = given("Name.")
    homegrown: bool = given("Whether its chip is homegrown; else it is a GPU.")
    power_w: float = given("Power to plan with.", unit="W", default=0.0, least=0.0)
    idle_w: float = given("Power while it serves nothing.", unit="W", default=0.0, least=0.0)
    busy_w: float | None = given(
        "Mean power while it is fully loaded; none: the power to plan with.", unit="W", default=None, least=0.0
    )
    price: float = given("Of a new host.", unit="money", default=0.0, least=0.0)
    life_months: float = given("Straight-line life of a new host.", unit="month", default=48.0, least=1.0)
    book_value: float = given("Of a host that stands in the first period.", unit="money", default=0.0, least=0.0)
    months_left: float = given("Until that book value is written off.", unit="month", default=48.0, least=1.0)
    resale_ratio: float = given(
        "Share of the book value that a host brings when it goes: sold, or to training.",
        unit="-",
        default=0.0,
        least=0.0,
        most=1.0,
    )
    upkeep_per_month: float = given("Space and maintenance of a host.", unit="money/month", default=0.0, least=0.0)
    chip: str = given("Chip; kinds with the same one share its fate in every future; empty: its own.", default="")
    vendor: str = given("Who sells the chip.", default="")
    foundry: str = given("Who makes the silicon.", default="")
    hbm_maker: str = given("Who makes the memory.", default="")


@dataclass(frozen=True, slots=True)
class ServiceValues:
    """A service: demand of its peak hour by period, and what holds for its traffic."""

    slug: str = given("Name.")
    region: str = given("Region that serves it.")
    demand_tok_s: Series = given("Output tokens demanded in the peak hour.", unit="tok/s", least=0.0)
    tier: str = given("Service level, as gold, standard or batch.", default="standard")
    mean_ratio: float = given("Mean demand over that of the peak hour.", unit="-", default=1.0, least=0.0, most=1.0)
    input_ratio: float = given("Input tokens for one output token.", unit="-", default=0.0, least=0.0)
    homegrown_ratio: float = given(
        "Share of its traffic on homegrown chips before the first period.", unit="-", default=0.0, least=0.0, most=1.0
    )
    stays: bool = given("Whether it may never leave its GPUs.", default=False)
    homegrown_from: int | None = given(
        "First period in which it must have left its GPUs.", unit="period", default=None, least=0, most=PERIODS_MOST
    )
    penalty_per_mtok: float | None = given(
        "Lost for a million output tokens that are not served; none: all of them must be.",
        unit="money/Mtok",
        default=None,
        least=0.0,
    )


@dataclass(frozen=True, slots=True)
class RateValues:
    """What one host of a kind does for a service: for the whole of it, or for its prompts or its answers alone."""

    service: str = given("Service.")
    kind: str = given("Kind of host.")
    tok_s: float = given("Output tokens that one host makes, or whose prompts it reads.", unit="tok/s", least=0.0)
    phase: str = given("Part of the service that it does.", default=WHOLE, choices=PHASES)
    replicas_per_host: float = given(
        "Replicas that a host holds; 0.5: a replica fills two hosts; 0: not rounded.", unit="-", default=0.0, least=0.0
    )
    ready: int = given("First period in which it may serve so.", unit="period", default=0, least=0, most=PERIODS_MOST)
    in_use: bool = given("Whether it serves so already; else opening it is a wave.", default=False)
    port_cost: float = given("Of opening it: porting and qualification.", unit="money", default=0.0, least=0.0)
    low_tok_s: float | None = given("P10 of the rate.", unit="tok/s", default=None, least=0.0)
    high_tok_s: float | None = given("P90 of the rate.", unit="tok/s", default=None, least=0.0)
    config: str = given("Deployment config that does so.", default="")
    gates: str = given("Gates of readiness that are open, and who may block.", default="")


@dataclass(frozen=True, slots=True)
class StandingValues:
    """Hosts of a kind that stand in a place by period, if nothing is done: arrivals and retirements already named."""

    place: str = given("Place.")
    kind: str = given("Kind of host.")
    hosts: Series = given("Hosts.", unit="-", least=0.0, most=HOSTS_MOST)


@dataclass(frozen=True, slots=True)
class UpValues:
    """Which part of the hosts of a kind in a place can serve: after an outage, under a ban, below a firmware baseline.

    The others stay in their racks, with all that they take of limits and cost.
    """

    place: str = given("Place.")
    kind: str = given("Kind of host.")
    ratio: Series = given("Share of its hosts there, new ones too, that can serve.", unit="-", least=0.0, most=1.0)


@dataclass(frozen=True, slots=True)
class DeliveryValues:
    """Hosts that a site gets for certain orders; where and when they go into racks is the plan's."""

    site: str = given("Site.")
    kind: str = given("Kind of host.")
    period: int = given("First period in which they may stand.", unit="period", least=0, most=PERIODS_MOST)
    hosts: int = given("Usable hosts that come.", unit="-", least=0, most=HOSTS_MOST)
    price: float = given("Still to be paid for each; the same in every plan.", unit="money", default=0.0, least=0.0)
    slug: str = given("Name.", default="")
    slip_p50_months: float = given("Median slip.", unit="month", default=0.0, least=0.0)
    slip_p90_months: float = given("Slip that one in ten exceeds.", unit="month", default=0.0, least=0.0)
    fill_ratio: float = given(
        "Expected share of the order that is usable; `hosts` counts it.", unit="-", default=1.0, least=0.0, most=1.0
    )
    ordered: int = given("Hosts ordered; 0: as many as come.", unit="-", default=0, least=0, most=HOSTS_MOST)
    group: str = given("Deliveries of a group slip together.", default="")


@dataclass(frozen=True, slots=True)
class OfferValues:
    """Hosts that may be bought besides: so many more from a period on, counted over the fleet or one site."""

    kind: str = given("Kind of host.")
    period: int = given(
        "First period in which they may stand: today and the lead time.", unit="period", least=0, most=PERIODS_MOST
    )
    hosts: int = given("At most.", unit="-", least=0, most=HOSTS_MOST)
    site: str = given("Site; empty: any.", default="")


@dataclass(frozen=True, slots=True)
class UseValues:
    """What one host of a kind in a place takes of a limit."""

    place: str = given("Place.")
    kind: str = given("Kind of host.")
    amount: float = given("Taken by one host, in the limit's unit.", least=0.0)
    constraint: str = given("What makes it so much, where that is not the limit's own; empty: it is.", default="")


@dataclass(frozen=True, slots=True)
class LimitValues:
    """A limit that hosts share: a breaker after failover, cooling, rack units, ports."""

    slug: str = given("Name, unique.")
    limit: Series = given("Most that hosts may take together.", least=0.0)
    uses: tuple[UseValues, ...] = given("What hosts take of it.")
    constraint: str = given("Kind of limit, as feed_failover_power.", default="power")
    object: str = given("What has the limit, as a PDU.", default="")
    unit: str = given("Unit.", default="W")
    failure: str = given("What is lost where it is a limit after a failure; empty: nothing.", default="")


@dataclass(frozen=True, slots=True)
class FloorValues:
    """A share of the tokens that must be served on homegrown chips from a period on."""

    ratio: float = given("Share of what is demanded.", unit="-", least=0.0, most=1.0)
    period: int = given("First period.", unit="period", default=0, least=0, most=PERIODS_MOST)
    basis: str = given("Of input and output tokens, or of output tokens.", default=TOKENS, choices=(TOKENS, OUTPUT))
    region: str = given("Region; empty: all.", default="")
    tier: str = given("Tier; empty: all.", default="")


@dataclass(frozen=True, slots=True)
class LostValues:
    """Share of a place that a failure takes."""

    place: str = given("Place.")
    ratio: float = given("Share of its hosts that go down.", unit="-", default=1.0, least=0.0, most=1.0)


@dataclass(frozen=True, slots=True)
class DomainValues:
    """A failure domain: after losing it, what is left must serve the gold tier."""

    slug: str = given("Name.")
    lost: tuple[LostValues, ...] = given("What goes down.")


@dataclass(frozen=True, slots=True)
class OrderValues:
    """A service that may not open a homegrown kind before another has opened one."""

    first: str = given("Service that goes first.")
    then: str = given("Service that waits for it.")


@dataclass(frozen=True, slots=True)
class RuleValues:
    """What holds for every plan."""

    reserve_ratio: float = given(
        "Share of every host kept free for failures and bursts.", unit="-", default=0.1, least=0.0, most=0.95
    )
    waves_most: int | None = given("Kinds opened for services in one period at most.", unit="-", default=None, least=0)
    rollback_ratio: float = given(
        "Share of moved traffic that must be able to return to GPUs.", unit="-", default=0.0, least=0.0, most=1.0
    )
    hold_periods: int = given("For so long after it has moved.", unit="period", default=0, least=0, most=120)
    shadow_ratio: float = given(
        "Share of a service's traffic that is copied to a kind before it opens there.",
        unit="-",
        default=0.0,
        least=0.0,
        most=1.0,
    )
    shadow_periods: int = given("For so long before.", unit="period", default=0, least=0, most=24)
    ramp_ratio: float = given(
        "Share of a service that may move in one period at most.", unit="-", default=1.0, least=0.0, most=1.0
    )
    split: bool = given("Whether one kind may read prompts and another write answers.", default=True)
    failover_tier: str = given("Tier that must survive the loss of any failure domain.", default=GOLD)
    failover_penalty_per_mtok: float | None = given(
        "For a million tokens of that tier that would not survive; none: all must.",
        unit="money/Mtok",
        default=None,
        least=0.0,
    )
    discount_ratio_year: float = given("Rate at which later money counts less.", unit="1/year", default=0.0, least=0.0)
    period_months: float = given("Length of a period.", unit="month", default=1.0, least=0.01)
    objective: str = given("What is best.", default=NPV, choices=(NPV, SHARE_FIRST))


@dataclass(frozen=True, slots=True)
class SolverValues:
    """When the solver stops: on its gap or its nodes, always alike; the clock is the last stop."""

    gap_ratio: float = given("Between the plan and the best bound.", unit="-", default=0.01, least=0.0, most=1.0)
    nodes_most: int | None = given("Nodes of the search.", unit="-", default=2_000, least=0)
    time_limit_s: float = given("The last stop; what it ends says so.", unit="s", default=600.0, least=0.1)
    seed: int = given("Of the solver's choices.", default=1, least=0)
    threads: int = given("Of the solver.", default=1, least=1, most=64)


@dataclass(frozen=True)
class PlanProblem:
    """One question about capacity or migration, complete."""

    periods: tuple[str, ...] = given("Names of the periods, as 2027-01.")
    sites: tuple[SiteValues, ...] = given("Sites.")
    kinds: tuple[KindValues, ...] = given("Kinds of hosts.")
    services: tuple[ServiceValues, ...] = given("Services.")
    rates: tuple[RateValues, ...] = given("What hosts do for services.")
    places: tuple[PlaceValues, ...] = given("Parts of sites; none: each site is one place of its name.", default=())
    standing: tuple[StandingValues, ...] = given("Hosts that stand.", default=())
    up: tuple[UpValues, ...] = given("Where not all hosts can serve.", default=())
    deliveries: tuple[DeliveryValues, ...] = given("Hosts that come.", default=())
    offers: tuple[OfferValues, ...] = given("Hosts that may be bought.", default=())
    limits: tuple[LimitValues, ...] = given("Limits that hosts share.", default=())
    floors: tuple[FloorValues, ...] = given("Shares of homegrown tokens.", default=())
    domains: tuple[DomainValues, ...] = given("Failure domains.", default=())
    order: tuple[OrderValues, ...] = given("Who goes first.", default=())
    rules: RuleValues = given("Rules.", default=RuleValues())
    solver: SolverValues = given("Solver.", default=SolverValues())
    currency: str = given("What money is.", default="CNY")

    @cached_property
    def located(self) -> tuple[PlaceValues, ...]:
        """The places; without any, each site is one."""
        return self.places or tuple(PlaceValues(site.slug, site.slug) for site in self.sites)

    @cached_property
    def up_ratios(self) -> dict[tuple[str, str], Series]:
        """The share of the hosts that can serve, by place and kind, one number for each period; the rest: all. [-]"""
        return {(row.place, row.kind): self.at(row.ratio) for row in self.up}

    def at(self, series: Series) -> Series:
        """Return a series with one number for each period."""
        return series * len(self.periods) if len(series) == 1 else series

    @property
    def period_hours(self) -> float:
        """Length of a period. [h]"""
        return self.rules.period_months * HOURS_A_MONTH

    def as_dict(self) -> dict[str, Any]:
        """Return the problem as JSON values."""
        return dict(plain_of(self))


def problem_read(data: Any) -> PlanProblem:
    """Return a problem read from JSON values and checked.

    Raises
    ------
    ProblemError
        With every place at fault.
    """
    problem = plain_read(PlanProblem, data, place="problem")
    problem_check(problem)
    return problem


def problem_schema() -> dict[str, Any]:
    """Return the JSON Schema of a problem."""
    return schema_of(PlanProblem, title="A question about capacity or migration")


def problem_check(problem: PlanProblem) -> None:
    """Raise ProblemError, naming every place at fault, if a problem contradicts itself."""
    errors: list[tuple[str, str]] = []
    for check in (_check_names, _check_references, _check_series, _check_periods, _check_rates):
        errors.extend(check(problem))
    if errors:
        raise ProblemError(errors)


Found = Iterable[tuple[str, str]]


def _check_names(problem: PlanProblem) -> Found:
    for name in ("periods", "sites", "kinds", "services"):
        if not getattr(problem, name):
            yield f"problem.{name}", "at least one is needed"
    for name in ("periods", "sites", "kinds", "services", "located", "limits", "domains"):
        seen: set[str] = set()
        for at, one in enumerate(getattr(problem, name)):
            slug = one if isinstance(one, str) else one.slug
            if not slug:
                yield f"problem.{'places' if name == 'located' else name}[{at}]", "a name is needed"
            if slug in seen:
                yield f"problem.{'places' if name == 'located' else name}[{at}]", f"{slug!r} is there twice"
            seen.add(slug)


def _check_references(problem: PlanProblem) -> Found:
    known = {
        "site": {one.slug for one in problem.sites},
        "place": {one.slug for one in problem.located},
        "kind": {one.slug for one in problem.kinds},
        "service": {one.slug for one in problem.services},
    }
    known["first"] = known["then"] = known["service"]
    groups = ("places", "rates", "standing", "up", "deliveries", "offers", "order")
    rows = [(f"problem.{name}[{at}]", one) for name in groups for at, one in enumerate(getattr(problem, name))]
    for name, part in (("limits", "uses"), ("domains", "lost")):
        for at, whole in enumerate(getattr(problem, name)):
            rows += [(f"problem.{name}[{at}].{part}[{i}]", one) for i, one in enumerate(getattr(whole, part))]
    for place, one in rows:
        for name, slugs in known.items():
            value = getattr(one, name, None)
            if value is not None and value not in slugs and not (value == "" and place.startswith("problem.offers")):
                yield f"{place}.{name}", f"unknown {name} {value!r}"
    for at, floor in enumerate(problem.floors):
        if floor.region and floor.region not in {service.region for service in problem.services}:
            yield f"problem.floors[{at}].region", f"no service is served in {floor.region!r}"
        if floor.tier and floor.tier not in {service.tier for service in problem.services}:
            yield f"problem.floors[{at}].tier", f"no service is of tier {floor.tier!r}"


def _check_series(problem: PlanProblem) -> Found:
    count = len(problem.periods)
    for group, names in (
        ("sites", ("tariff_per_kwh", "homegrown_tariff_per_kwh", "kgco2e_per_kwh")),
        ("services", ("demand_tok_s",)),
        ("standing", ("hosts",)),
        ("up", ("ratio",)),
        ("limits", ("limit",)),
    ):
        for at, one in enumerate(getattr(problem, group)):
            for name in names:
                values = getattr(one, name)
                if values is not None and len(values) not in {1, count}:
                    yield f"problem.{group}[{at}].{name}", f"{len(values)} numbers for {count} periods"
    pairs: set[tuple[str, str]] = set()
    for at, row in enumerate(problem.standing):
        if any(value != math.floor(value) for value in row.hosts):
            yield f"problem.standing[{at}].hosts", "hosts are whole"
        if (row.place, row.kind) in pairs:
            yield f"problem.standing[{at}]", f"{row.kind} in {row.place} is there twice"
        pairs.add((row.place, row.kind))
    known: set[tuple[str, str]] = set()
    for at, part in enumerate(problem.up):
        if (part.place, part.kind) in known:
            yield f"problem.up[{at}]", f"{part.kind} in {part.place} is there twice"
        known.add((part.place, part.kind))


def _check_periods(problem: PlanProblem) -> Found:
    count = len(problem.periods)
    for name in ("deliveries", "offers", "floors"):
        for at, one in enumerate(getattr(problem, name)):
            if one.period >= count:
                yield f"problem.{name}[{at}].period", f"period {one.period} is after the horizon of {count}"
    for at, service in enumerate(problem.services):
        if service.homegrown_from is not None and service.stays:
            yield f"problem.services[{at}].homegrown_from", "it may never leave its GPUs"


def _check_rates(problem: PlanProblem) -> Found:
    seen: set[tuple[str, str, str]] = set()
    homegrown = {kind.slug: kind.homegrown for kind in problem.kinds}
    for at, rate in enumerate(problem.rates):
        key = (rate.service, rate.kind, rate.phase)
        if key in seen:
            yield f"problem.rates[{at}]", f"{' '.join(key)} is there twice"
        seen.add(key)
        band = (rate.low_tok_s, rate.high_tok_s)
        if None not in band and not band[0] <= rate.tok_s <= band[1]:  # type: ignore[operator]
            yield f"problem.rates[{at}].tok_s", "lies outside its band"
        for name in ("ready", "in_use", "port_cost"):
            if getattr(rate, name) and homegrown.get(rate.kind) is False:
                yield f"problem.rates[{at}].{name}", "a GPU serves from the first period, and costs nothing to open"
    for at, domain in enumerate(problem.domains):
        places = [row.place for row in domain.lost]
        if len(set(places)) < len(places):
            yield f"problem.domains[{at}].lost", "a place is there twice"
    for at, kind in enumerate(problem.kinds):
        if kind.idle_w > kind.power_w:
            yield f"problem.kinds[{at}].idle_w", "is above the power to plan with"
